"""Texts: bytes to a string, strings to token ids, ids to padded batches.

A text is used as it stands: nothing is stripped, lower-cased or normalised before the model's own
tokenizer. NUL and other control characters are left to it as well. Refused are bytes that are not
UTF-8, strings with a lone surrogate (half a character, which no UTF-8 file can hold), and texts
without anything but white space.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import IntegrityError, ItemError, NotFoundError, SettingsError
from featstore.records import TextPreprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["TEXT_LIMIT", "Tokenizer", "batches", "beginning", "decode", "pad"]

TEXT_LIMIT = 1_000_000
"""Characters of a text that reach a tokenizer; a longer text is cut there and counts as truncated."""

_FIRST_PIECE = 20_000  # characters of a long text that are tokenised at first


def decode(content: bytes | str) -> str:
    """Gives the text of a file's or cell's content; a UTF-8 byte order mark is taken off.

    Raises:
        ItemError: stage ``decode``; code ``not_utf8``, ``lone_surrogate`` or ``empty_text``.
    """
    if isinstance(content, bytes):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ItemError(
                "decode", "not_utf8", f"byte 0x{content[error.start]:02x} at offset {error.start} is not UTF-8."
            ) from error
    else:
        text = content.removeprefix("\ufeff")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ItemError(
                "decode", "lone_surrogate", f"character {error.start} is half of a surrogate pair."
            ) from error
    if not text or text.isspace():
        raise ItemError("decode", "empty_text", "the text is empty or blank.")
    return text


class Tokenizer:
    """A model's tokenizer, with padding and truncation as the model's card says; safe in threads.

    Args:
        path: ``tokenizer.json``.
        how: Prompts, maximum length and padding.

    Raises:
        NotFoundError: The file is missing.
        IntegrityError: It is no tokenizer.
        SettingsError: ``max_length`` leaves no room beside the special tokens.
    """

    def __init__(self, path: Path, how: TextPreprocessing) -> None:
        # Callers bring their own threads; the library's pool would fight them and warn after a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        if not path.is_file():
            raise NotFoundError(f"the tokenizer {path} does not exist.")
        try:
            self._rust: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise IntegrityError(f"{path} is not a tokenizer file: {error}.") from error
        special = self._rust.num_special_tokens_to_add(False)
        if how.max_length <= special:
            raise SettingsError(
                f"max_length is {how.max_length}, but the tokenizer adds {special} special tokens to every text.",
                hint=f"Use at least {special + 1}.",
            )
        self._rust.no_padding()
        self._rust.enable_truncation(how.max_length)
        self._how = how
        self._special = int(special)
        self._path = path
        self._lock = threading.Lock()
        self._uncut: Any = None

    def encode(self, texts: Sequence[str], *, query: bool = False) -> tuple[list[NDArray[np.int32]], int]:
        """Turns texts into token ids, prompt and special tokens included, at most ``max_length`` each.

        Args:
            texts: Strings, as ``decode`` gives them.
            query: Put the query's prompt in front instead of the document's.

        Returns:
            The ids of each text, and how many texts were cut.

        Raises:
            ItemError: stage ``tokenise``; the library failed on a text.
        """
        prompt = self._how.prompt_query if query else self._how.prompt_document
        whole = [prompt + text for text in texts]
        pieces = [beginning(text, _FIRST_PIECE) for text in whole]
        ids: list[NDArray[np.int32]] = []
        cut = 0
        for text, piece, found in zip(whole, pieces, self._encode(pieces), strict=True):
            asked = _FIRST_PIECE
            while len(piece) < len(text) and asked < TEXT_LIMIT and not _settled(found):
                asked = min(4 * asked, TEXT_LIMIT)
                piece = beginning(text, asked)
                found = self._encode([piece])[0]
            ids.append(np.array(found.ids, dtype=np.int32))
            cut += len(piece) < len(text) or len(found.overflowing) > 0
        return ids, cut

    @property
    def special(self) -> int:
        """How many special tokens are added to every text."""
        return self._special

    def length(self, text: str) -> int:
        """How many tokens a text has in all: prompt and special tokens included, nothing cut.

        Raises:
            ItemError: stage ``tokenise``; the library failed on the text.
        """
        return len(self._whole(self._how.prompt_document + text, special=True).ids)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text lies in it: first character and the one after the last.

        Prompt and special tokens are left out, nothing is cut. A character of several tokens has each
        of them at its place.

        Raises:
            ItemError: stage ``tokenise``; the library failed on the text.
        """
        return [(start, end) for start, end in self._whole(text, special=False).offsets if end > start]

    def _whole(self, text: str, *, special: bool) -> Any:
        """Encodes without truncation, by a second engine: that state belongs to the engine, not to the call."""
        import tokenizers

        with self._lock:
            if self._uncut is None:
                self._uncut = tokenizers.Tokenizer.from_file(str(self._path))
                self._uncut.no_padding()
                self._uncut.no_truncation()
        try:
            return self._uncut.encode(text, add_special_tokens=special)
        except Exception as error:  # the library raises bare Exception
            raise _failed(error) from error

    def _encode(self, texts: list[str]) -> list[Any]:
        try:
            found: list[Any] = self._rust.encode_batch_fast(texts)
        except Exception as error:  # the library raises bare Exception
            raise _failed(error) from error
        return found


def batches(lengths: NDArray[np.int64], token_budget: int) -> list[NDArray[np.int64]]:
    """Groups texts of like length, so that little of a batch is padding.

    Args:
        lengths: Tokens of each text.
        token_budget: Texts × longest of a batch at most; a single longer text is a batch of its own.

    Returns:
        Indices into ``lengths``, batch by batch; by length, equal ones in their given order.
    """
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    found = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted: the next text would be the batch's longest.
        if end == len(order) or (end + 1 - start) * int(lengths[order[end]]) > token_budget:
            found.append(order[start:end])
            start = end
    return found


def pad(ids: Sequence[NDArray[np.int32]], how: TextPreprocessing) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Brings token ids to one length.

    Returns:
        ``input_ids`` and ``attention_mask``, each of shape (texts, longest).
    """
    longest = max((len(row) for row in ids), default=0)
    padded = np.full((len(ids), longest), how.pad_token_id, np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for row, found in enumerate(ids):
        where = slice(longest - len(found), None) if how.padding_side == "left" else slice(0, len(found))
        padded[row, where] = found
        mask[row, where] = 1
    return padded, mask


def beginning(text: str, length: int) -> str:
    """The first ``length`` characters or so, ending before white space where there is any."""
    if length >= len(text):
        return text
    piece = text[:length]
    end = max(piece.rfind(blank) for blank in " \n\t")
    return piece[:end] if end > length // 2 else piece


def _failed(error: Exception) -> ItemError:
    return ItemError("tokenise", "tokenizer_failed", f"the tokenizer failed: {str(error)[:200]}.")


def _settled(found: Any) -> bool:
    """Whether the kept tokens no longer depend on what follows: two more lengths of them came before the cut.

    Tokens depend on their word and its neighbours only, so a cut that far behind cannot reach them.
    """
    return len(found.overflowing) >= 2
