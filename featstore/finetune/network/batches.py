"""Batches in a repeatable order, made by threads ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.examples import Examples
from featstore.finetune.network.augmentation import augmented, draws
from featstore.inputs import images, texts
from featstore.machine import available_cpus
from featstore.models.original import Original
from featstore.records import TextPreprocessing
from featstore.settings import FinetuneSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Inputs", "cut", "inputs", "order"]

_AHEAD = 2  # batches that are made while the network works on one
_TOKENISED = 1_000  # texts at once

Made = NDArray[np.uint8] | NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples, ready for the network.

    Attributes:
        rows: (b,) int64, which examples.
        made: Each one's pixels, uint8 (h, w, 3), or token ids, int32 (t,).
        truth: (b,) int64 class numbers.
        text: How token ids are padded; None for pictures.
    """

    rows: NDArray[np.int64]
    made: Sequence[Made]
    truth: NDArray[np.int64]
    text: TextPreprocessing | None

    def __len__(self) -> int:
        return len(self.truth)

    def pieces(self, size: int) -> Iterator[tuple[NDArray[np.int64], tuple[torch.Tensor, ...]]]:
        """So many examples at a time: their places in the batch, and the graph's inputs; like lengths together."""
        import torch

        places = np.arange(len(self))
        if self.text is not None:
            places = np.argsort([len(ids) for ids in self.made], kind="stable")
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            if self.text is None:
                given: tuple[NDArray[np.generic], ...] = (np.stack([self.made[i] for i in chosen]),)
            else:
                given = texts.pad([self.made[i].astype(np.int32, copy=False) for i in chosen], self.text)
            yield chosen, tuple(torch.from_numpy(array) for array in given)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Examples that can be asked for by batches.

    Attributes:
        examples: Their contents and classes.
        make: (example, epoch) → pixels or token ids; called from several threads.
        text: How token ids are padded; None for pictures.
        workers: How many threads.
        lengths: (n,) int64 tokens of each text; zeros for pictures.
    """

    examples: Examples
    make: Callable[[int, int], Made]
    text: TextPreprocessing | None
    workers: int
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.examples)

    def batches(self, rows: Sequence[NDArray[np.int64]], epoch: int = 0) -> Generator[Batch, None, None]:
        """One batch for each array of example numbers, in that order; the next ones are made meanwhile.

        Raises:
            ItemError: An example cannot be read or decoded.
        """
        waiting: deque[tuple[NDArray[np.int64], list[Future[Made]]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="finetune")
        try:
            for chosen in rows:
                waiting.append((chosen, [pool.submit(self.make, int(row), epoch) for row in chosen]))
                if len(waiting) > _AHEAD:
                    yield self._done(*waiting.popleft())
            while waiting:
                yield self._done(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _done(self, rows: NDArray[np.int64], futures: list[Future[Made]]) -> Batch:
        return Batch(rows, [future.result() for future in futures], self.examples.truth[rows], self.text)


def inputs(original: Original, examples: Examples, settings: FinetuneSettings, *, augment: bool) -> Inputs:
    """Examples as the network takes them: as extraction would give them, or augmented where they are pictures.

    Texts are tokenised here, once.

    Args:
        original: The loaded network.
        examples: Labelled contents.
        settings: Augmentation, seed and workers.
        augment: Whether they are trained on.

    Raises:
        ItemError: A text cannot be read.
    """
    workers = settings.workers or available_cpus()
    how = original.image
    if how is None:
        ids = _tokens(original, examples)
        lengths = np.array([len(found) for found in ids], np.int64)
        return Inputs(examples, lambda row, _: ids[row], original.text, workers, lengths)

    def picture(row: int, epoch: int) -> Made:
        content = examples.read(row)
        assert isinstance(content, bytes)
        rgb = images.decode(content, how)
        return augmented(rgb, how, settings, draws(settings.seed, epoch, row)) if augment else images.fit(rgb, how)

    return Inputs(examples, picture, None, workers, np.zeros(len(examples), np.int64))


def order(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which so many examples are gone through in an epoch: the same for the same seed."""
    generator = np.random.Generator(np.random.PCG64([seed, 1, epoch]))
    return np.asarray(generator.permutation(count), np.int64)


def cut(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cuts an order into batches; the last one may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _tokens(original: Original, examples: Examples) -> list[NDArray[np.int32]]:
    assert original.encode is not None
    assert original.text is not None
    found: list[NDArray[np.int32]] = []
    for start in range(0, len(examples), _TOKENISED):
        rows = range(start, min(start + _TOKENISED, len(examples)))
        strings = [texts.decode(examples.read(row))[: texts.TEXT_LIMIT] for row in rows]
        # A tokenizer without special tokens may know none of a script's characters.
        encoded = (ids or [original.text.pad_token_id] for ids in original.encode(strings))
        found += [np.array(ids, np.int32) for ids in encoded]
    return found
