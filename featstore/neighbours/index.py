"""One FAISS index of vectors at unit length: made, kept in a file, added to, searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.neighbours import files, knobs, searching
from featstore.neighbours.library import FAISS_ERRORS, using_threads
from featstore.neighbours.recipes import Recipe
from featstore.neighbours.vectors import unit, unit_queries

__all__ = ["VectorIndex"]

# Vectors added at once: what is copied beside the index, and how often progress is told.
_ROWS = 16_384
# Vectors that centroids and codes are learnt from, for each centroid. Source: FAISS asks for 39 to 256.
_SAMPLE = 64
_SAMPLE_LEAST = 65_536


class VectorIndex:
    """An index; ``build`` or ``read`` one. A label is the place of a vector in the order of addition.

    Searching from several threads at once is safe; adding needs the index for itself.
    """

    def __init__(self, index: Any, *, path: Path | None = None, mapped: bool = False) -> None:
        self._index = index
        self._path = path
        self._mapped = mapped
        self._dim = int(index.d)
        # What the last plain search was asked with: making it anew for each takes as long as a tenth of a search.
        self._asked: tuple[int, dict[str, int], Any] | None = None

    @classmethod
    def build(
        cls,
        vectors: NDArray[Any],
        recipe: Recipe,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> VectorIndex:
        """An index of some vectors, in memory.

        Args:
            vectors: (n, d), any real type and length; a memory map is read block by block.
            recipe: How it is made.
            threads: None for as many as the process may use cores.
            progress: Called with the vectors added so far and n.

        Raises:
            UsageError: FAISS cannot make it of these vectors, or one holds a value that is not finite.
        """
        index = knobs.made(recipe.factory, vectors.shape[1])
        knobs.prepare(index)
        made = cls(index)
        if not index.is_trained:
            with using_threads(threads):
                try:
                    index.train(_sample(vectors, knobs.lists(index)))
                except FAISS_ERRORS as error:
                    raise UsageError(
                        f"'{recipe.factory}' cannot be made of {len(vectors):,} vectors: {knobs.reason(error)}.",
                        hint="It needs at least as many vectors as lists and codes; kind flat does with any number.",
                    ) from error
        made._add(vectors, threads, progress)
        return made

    @classmethod
    def read(cls, path: Path | str, *, mapped: bool = True) -> VectorIndex:
        """An index from a file; any file that plain FAISS wrote for the inner product.

        Args:
            path: The file.
            mapped: Leave it on disk: what a search does not touch is never read.

        Raises:
            NotFoundError: There is no such file.
            IntegrityError: It is damaged, or no index for cosines.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"there is no index file {path}.")
        return cls(files.read(path, mapped=mapped), path=path, mapped=mapped)

    def write(self, path: Path | str) -> None:
        """Writes a file that plain FAISS reads; an older one stays whole until the new one is.

        Raises:
            StorageError: The disk refused.
        """
        files.write(self._index, Path(path))

    @property
    def dim(self) -> int:
        """Values of each vector."""
        return self._dim

    @property
    def count(self) -> int:
        """Vectors."""
        return int(self._index.ntotal)

    @property
    def bytes_per_vector(self) -> float:
        """Bytes of the file for each vector; 0 of an empty index."""
        if not self.count:
            return 0.0
        size = self._path.stat().st_size if self._path is not None and self._mapped else files.size(self._index)
        return size / self.count

    @property
    def settings(self) -> tuple[str, ...]:
        """What can be set for a search: ``efSearch``, ``nprobe``, ``rerank``."""
        return (*knobs.settable(self._index), *(() if self.holds_vectors else ("rerank",)))

    @property
    def holds_vectors(self) -> bool:
        """Whether it compares by the vectors themselves, so that its scores are cosines and nothing is re-ranked.

        A graph may keep them to 16 bits, of which 11 are significant: its scores are within 2⁻¹¹ of the cosines then.
        """
        return knobs.holds_vectors(self._index)

    @property
    def limits(self) -> dict[str, int]:
        """The highest that a setting can usefully be."""
        return {name: knobs.lists(self._index) if name == "nprobe" else self.count for name in self.settings}

    def add(
        self,
        vectors: NDArray[Any],
        *,
        more: int = 0,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Adds vectors; their labels go on where the last ones ended. A mapped index is read into memory first.

        Args:
            vectors: (m, d), any real type and length.
            more: How many will be added after these: memory for them is taken when a mapped index is read.
            threads: None for as many as the process may use cores.
            progress: Called with the vectors added so far and m.

        Raises:
            UsageError: Another dimension, or a value that is not finite; nothing was added.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise UsageError(f"vectors of {vectors.shape[-1]} values cannot join an index of {self.dim}.")
        if self._mapped and self._path is not None:  # FAISS ends the process when a mapped index is changed
            before = self.count
            self._index, self._mapped = files.read(self._path, mapped=False, room=len(vectors) + more), False
            if self.count != before:
                raise IntegrityError(f"{self._path} changed while it was open.", hint="Open it again.")
        self._add(vectors, threads, progress)

    def _add(self, vectors: NDArray[Any], threads: int | None, progress: Callable[[int, int], None] | None) -> None:
        with using_threads(threads):
            for start in range(0, len(vectors), _ROWS):
                some = unit(vectors[start : start + _ROWS], first=start)
                try:
                    self._index.add(some)
                except FAISS_ERRORS as error:
                    raise UsageError(f"FAISS cannot add vectors to this index: {knobs.reason(error)}.") from error
                if progress is not None:
                    progress(start + len(some), len(vectors))

    def search(
        self,
        queries: NDArray[Any],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        search: dict[str, int] | None = None,
        threads: int | None = None,
        vectors_at: Callable[[NDArray[np.int64]], NDArray[Any]] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k most similar labels for each query, as far as the index finds them, best first.

        A filter never leaves fewer than there are: where few vectors pass they are all compared, and else the search
        widens until it has found k.

        Args:
            queries: (q, d), any real type and length.
            k: How many.
            allowed: (count,) which labels may be found; None for all.
            search: Settings; what is missing is as FAISS has it.
            threads: None for as many as the process may use cores.
            vectors_at: Gives the vectors (m, d) of some labels (m,), in rising order without repetition. With it,
                ``rerank`` candidates for each wanted hit are compared by their own vectors, and the scores are
                exact cosines, equal ones in the order of labels.

        Returns:
            Labels (q, k) int64, -1 where there are fewer, and cosines (q, k) float32, -inf there.

        Raises:
            UsageError: k below 1, another dimension, a value that is not finite, or a query of zeros.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1.")
        asked = unit_queries(queries, self.dim)
        if allowed is not None and allowed.shape != (self.count,):
            raise UsageError(f"the filter has {len(allowed):,} entries for {self.count:,} vectors.")
        if allowed is None and vectors_at is None:
            found = self._plainly(asked, k, search or {}, threads)
            if found is not None:
                return found
        chosen = {name: value for name, value in (search or {}).items() if value > 0}
        with using_threads(threads):
            return searching.search(self._index, asked, k, allowed, chosen, vectors_at)

    def _plainly(
        self, asked: NDArray[np.float32], k: int, search: dict[str, int], threads: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """A search as most are, with no step beside FAISS's own; None where that finds fewer than k."""
        last = self._asked
        if last is None or last[0] != k or last[1] != search:
            chosen = {name: value for name, value in search.items() if value > 0}
            last = self._asked = k, dict(search), searching.directly(self._index, k, chosen)
        if last[2] is None:
            return None
        with using_threads(threads):
            scores, labels = self._index.search(asked, k, params=last[2])
        return (labels, scores) if labels.size and np.minimum.reduce(labels, axis=None) >= 0 else None


def _sample(vectors: NDArray[Any], lists: int) -> NDArray[np.float32]:
    wanted = max(_SAMPLE_LEAST, _SAMPLE * lists)
    if len(vectors) <= wanted:
        return unit(np.asarray(vectors))
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), wanted, replace=False))
    return unit(np.asarray(vectors[rows]))
