"""Whether a model's card can be what it says: for cards that come from elsewhere, before anything is made of them."""

from __future__ import annotations

import math
from typing import Any

from featstore.errors import IntegrityError
from featstore.records import ModelCard

__all__ = ["problems", "tokenizer_of"]

_LARGEST_SIDE = 8192
_MOST_TOKENS = 1 << 20
_INPUTS = (("input_ids",), ("input_ids", "attention_mask"))


def problems(card: ModelCard, tokenizer: bytes | None) -> list[str]:
    """What contradicts itself in a card, or cannot be run; empty where nothing does.

    Args:
        card: The card.
        tokenizer: The content of its ``tokenizer.json``, if it has one.
    """
    takes = {"image": card.image, "text": card.text}
    found = [f"{card.dim} values"] if card.dim < 1 else []
    if card.modality not in takes or [kind for kind, how in takes.items() if how is not None] != [card.modality]:
        found.append(f"a model of {card.modality}s that prepares something else")
    if (card.text is None) != (card.tokenizer is None):
        found.append("a tokenizer for images" if card.text is None else "texts without a tokenizer")
    if card.image is not None:
        image = card.image
        if not all(1 <= side <= _LARGEST_SIDE for side in (*image.resize, *image.crop)):
            found.append(f"pictures of {image.resize[0]} x {image.resize[1]}, cut to {image.crop[0]} x {image.crop[1]}")
        if not all(math.isfinite(v) for v in (*image.mean, *image.std)) or min(image.std) <= 0:
            found.append(f"mean {image.mean} and std {image.std}")
    if card.text is not None:
        text = card.text
        if text.inputs not in _INPUTS or text.pad_token_id < 0 or not 1 <= text.max_length <= _MOST_TOKENS:
            found.append(
                f"texts of {text.max_length} tokens as {', '.join(text.inputs)}, padded by {text.pad_token_id}"
            )
        elif tokenizer is not None:
            found += _of_tokenizer(tokenizer, text.max_length)
    return found


def tokenizer_of(text: str, name: str) -> Any:
    """Reads a ``tokenizer.json`` with the tokenizers library.

    Raises:
        IntegrityError: It is none.
    """
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise IntegrityError(f"the tokenizer of {name} cannot be read: {str(error)[:300]}.") from error


def _of_tokenizer(content: bytes, max_length: int) -> list[str]:
    try:
        special = int(tokenizer_of(content.decode("utf-8", "replace"), "it").num_special_tokens_to_add(False))
    except IntegrityError as error:
        return [f"a tokenizer that cannot be read ({error.__cause__})"]
    return [f"{max_length} tokens, of which the tokenizer takes {special}"] if max_length <= special else []
