"""FAISS, imported when it is first needed and set up: its threads, its way of comparing, its errors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featstore.errors import UsageError
from featstore.machine import available_cpus

__all__ = ["FAISS_ERRORS", "library", "using_threads"]

# What FAISS raises: its C++ exceptions, and what its Python layer asserts about arguments.
FAISS_ERRORS: tuple[type[Exception], ...] = (RuntimeError, AssertionError, TypeError, ValueError)


@functools.cache
def library() -> Any:
    """The faiss module.

    From one query on its exact search multiplies matrices. The build that is shipped would only do so from 128,000
    queries on, and until then compare vector by vector, which is about twenty times slower.
    """
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss


_cores = functools.cache(available_cpus)  # it reads files, which takes as long as a search of a small index


@contextmanager
def using_threads(threads: int | None) -> Iterator[Any]:
    """FAISS with a number of threads within the block, for the calling thread alone.

    Args:
        threads: How many; None for as many as the process may use cores.

    Yields:
        The faiss module.

    Raises:
        UsageError: Fewer than one.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}.")
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads or _cores())
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)
