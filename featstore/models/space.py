"""What makes two vectors comparable: the digest of a function's definition, and the id made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError
from featstore.records import ImagePreprocessing, TextPreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["definition", "neutral_tokenizer", "slug", "space_id", "tensors_digest"]


def tensors_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the tensors that compute the vector: dtype, shape and content of each, in the network's order.

    Neither their names nor the file format matter: libraries rename tensors from version to version, and the
    vectors stay comparable. The order does: two layers that change places are another function. Counters of
    training steps and lists of positions do not count.

    Args:
        state: A network's ``state_dict()``, whose order is that in which its parts were made, not a file's.
    """
    import torch

    rows = []
    for name in state:
        if name.endswith(("num_batches_tracked", "position_ids")):
            continue
        tensor = state[name].detach().cpu().contiguous()
        content = bytes(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else b""
        rows.append([str(tensor.dtype).removeprefix("torch."), list(tensor.shape), hashing.of_bytes(content)])
    return hashing.of_json(rows)


def definition(
    *,
    architecture: str,
    layer: str,
    pooling: str,
    normalize: bool,
    dim: int,
    tensors_sha256: str,
    image: ImagePreprocessing | None,
    text: TextPreprocessing | None,
    tokenizer: str | None,
    config: Mapping[str, Any],
    precision: str = "fp32",
) -> str:
    """SHA-256 of everything that defines the function; no library's version, file or path is in it."""
    pictures = None if image is None else asdict(image)
    if pictures is not None and pictures["decode"] == "exact":
        del pictures["decode"]  # there was nothing else when the first spaces were made
    words: dict[str, Any] | None = None
    if text is not None:
        # Right or left padding and the names of the graph's inputs change the artefact, not the function.
        words = {k: v for k, v in asdict(text).items() if k not in ("inputs", "padding_side")}
    return hashing.of_json(
        {
            "definition": 3,
            "architecture": architecture,
            "config": dict(config),
            "layer": layer,
            "pooling": pooling,
            "normalize": normalize,
            "precision": precision,
            "dim": dim,
            "tensors": tensors_sha256,
            "image": pictures,
            "text": words,
            "tokenizer": None if tokenizer is None else _tokenizer_digest(tokenizer),
        }
    )


def slug(text: str) -> str:
    """A name fit for a folder: lower-case letters, digits, ``_``, ``.`` and ``-``, at most 64."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-._")
    return plain[:64].rstrip("-._") or "model"


def space_id(name: str, digest: str) -> str:
    """The slug followed by the first eight digits of the digest."""
    return f"{slug(name)}-{digest[:8]}"


@lru_cache(maxsize=2)  # a run asks several times for its model's
def neutral_tokenizer(text: str) -> str:
    """A ``tokenizer.json`` without the truncation and padding stored in it.

    They are a state somebody left behind (all-MiniLM's says 128 tokens, its authors 256); the card's
    maximum length is what counts.

    Raises:
        IntegrityError: It is not a tokenizer's JSON.
    """
    try:
        body = json.loads(text)
    except ValueError as error:
        raise IntegrityError(f"tokenizer.json is damaged: it is not JSON ({error}).") from error
    if not isinstance(body, dict) or "model" not in body:
        raise IntegrityError("tokenizer.json is damaged: it has no part 'model'.")
    body["truncation"] = None
    body["padding"] = None
    return json.dumps(body, ensure_ascii=False, indent=1)


def _tokenizer_digest(text: str) -> str:
    body = json.loads(text)
    model = body["model"]
    merges = model.get("merges") if isinstance(model, dict) else None
    if merges:
        # Older files write a merge as one string, newer ones as a pair.
        model["merges"] = [m.split(" ") if isinstance(m, str) else m for m in merges]
    return hashing.of_json(body)
