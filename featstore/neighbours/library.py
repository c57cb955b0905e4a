"""FAISS, imported when it is first needed and set up: its threads, its way of comparing, its errors."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from featstore.errors import UsageError
from featstore.machine import available_cpus

__all__ = ["FAISS_ERRORS", "library", "using_threads"]

# What FAISS raises: its C++ exceptions, and what its Python layer asserts about arguments.
FAISS_ERRORS: tuple[type[Exception], ...] = (RuntimeError, AssertionError, TypeError, ValueError)


@functools.cache
def library() -> Any:
    """The faiss module.

    From one query on its exact search multiplies matrices. As it is shipped it would only do so from 128,000 values of
    queries on, 334 queries of 384, and until then compare vector by vector: measured, a hundred take six times as long.
    """
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


_cores = functools.cache(available_cpus)  # it reads files, which takes as long as a search of a small index


class _Threads:
    """What ``using_threads`` gives; no generator, since entering one takes a tenth of a short search."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> Any:
        faiss = library()
        self._before = faiss.omp_get_max_threads()
        if self._before != self._threads:
            faiss.omp_set_num_threads(self._threads)
        return faiss

    def __exit__(self, *_: object) -> None:
        if self._before != self._threads:
            library().omp_set_num_threads(self._before)


def using_threads(threads: int | None) -> AbstractContextManager[Any]:
    """FAISS with a number of threads within the block, for the calling thread alone.

    Args:
        threads: How many; None for as many as the process may use cores.

    Returns:
        What the block is entered with; it gives the faiss module.

    Raises:
        UsageError: Fewer than one.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}.")
    return _Threads(threads or _cores())
