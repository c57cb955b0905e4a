"""FAISS index files, read in place or into memory, and written so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featstore.errors import IntegrityError
from featstore.neighbours.library import library
from featstore.storage import durable

__all__ = ["read", "size", "write"]

_PIECE = 1 << 20


def read(path: Path, *, mapped: bool) -> Any:
    """A FAISS index from a file.

    Raises:
        IntegrityError: It is damaged, or compares by something else than the inner product.
    """
    faiss = library()
    try:
        # The newer way to map reads every kind of index in place, the older one only inverted lists.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (RuntimeError, MemoryError, OSError) as error:
        raise IntegrityError(
            f"{path} is damaged: FAISS cannot read it.", hint="Build the index again: featstore index NAME"
        ) from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise IntegrityError(f"{path} is an index for another measure than cosine.")
    return index


def write(index: Any, path: Path) -> None:
    """Writes an index in FAISS's own format.

    Raises:
        StorageError: The disk refused.
    """
    faiss = library()
    with durable.replacing(path) as file:
        failed = list[OSError]()

        def piece(data: bytes) -> None:
            try:
                if not failed:
                    file.write(data)
            except OSError as error:  # no exception may pass through FAISS
                failed.append(error)

        faiss.write_index(index, faiss.PyCallbackIOWriter(piece, _PIECE))
        if failed:
            raise failed[0]


def size(index: Any) -> int:
    """How many bytes its file has."""
    faiss = library()
    sizes = list[int]()
    faiss.write_index(index, faiss.PyCallbackIOWriter(lambda data: sizes.append(len(data)), _PIECE))
    return sum(sizes)
