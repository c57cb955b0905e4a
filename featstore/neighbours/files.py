"""FAISS index files, read in place or into memory, and written so that a crash leaves the old one or the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featstore.errors import IntegrityError
from featstore.neighbours.knobs import holds_vectors
from featstore.neighbours.library import library
from featstore.storage import durable

__all__ = ["read", "size", "write"]

_PIECE = 1 << 20
# So much is handed to the disk at once while the rest is still being written; measured, a third less in all.
_STRETCH = 16 << 20


def read(path: Path, *, mapped: bool, room: int = 0) -> Any:
    """A FAISS index from a file.

    Args:
        path: The file.
        mapped: Leave it on disk; it cannot be added to then.
        room: How many vectors will be added to one in memory; theirs is taken at once.

    Raises:
        IntegrityError: It is damaged, or compares by something else than the inner product.
    """
    faiss = library()
    try:
        # The newer way to map reads every kind of index in place, the older one only inverted lists.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped or room else 0)
        if room and not mapped:
            index = _with_room(index, room) or faiss.read_index(str(path))
    except (RuntimeError, MemoryError, OSError) as error:
        raise IntegrityError(
            f"{path} is damaged: FAISS cannot read it.", hint="Build the index again: featstore index NAME"
        ) from error
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise IntegrityError(f"{path} is an index for another measure than cosine.")
    return index


def _with_room(mapped: Any, room: int) -> Any | None:
    """A copy in memory of a mapped graph over vectors, which can grow without another; None for other kinds.

    FAISS fills its array when it reads, and for the first vector that is added takes another one and copies all of it
    there, which takes longer than a small addition itself.
    """
    faiss = library()
    if type(mapped) is faiss.IndexHNSWFlat:
        copy = faiss.IndexHNSWFlat(mapped.d, mapped.hnsw.nb_neighbors(1), mapped.metric_type)
    elif type(mapped) is faiss.IndexHNSWSQ and holds_vectors(mapped):
        half = faiss.ScalarQuantizer.QT_fp16
        copy = faiss.IndexHNSWSQ(mapped.d, half, mapped.hnsw.nb_neighbors(1), mapped.metric_type)
    else:
        return None
    source = faiss.downcast_index(mapped.storage)
    copy.hnsw = mapped.hnsw
    links = faiss.Int32Vector()
    faiss.copy_array_to_vector(faiss.vector_to_array(mapped.hnsw.neighbors), links)
    copy.hnsw.neighbors = faiss.MaybeOwnedVectorInt32(links)  # the mapped ones cannot grow
    codes = faiss.downcast_index(copy.storage).codes
    size = source.codes.size()
    codes.resize(size + room * source.code_size)
    if size:
        faiss.memcpy(codes.data(), source.codes.data(), size)
    codes.resize(size)  # keeps the room
    copy.storage.ntotal = copy.ntotal = mapped.ntotal
    return copy


def write(index: Any, path: Path) -> None:
    """Writes an index in FAISS's own format.

    Raises:
        StorageError: The disk refused.
    """
    faiss = library()
    with durable.replacing(path) as file:
        failed = list[OSError]()
        begun = 0

        def piece(data: bytes) -> None:
            nonlocal begun
            try:
                if not failed:
                    file.write(data)
                    if file.tell() - begun >= _STRETCH:
                        durable.begin(file, begun, file.tell() - begun)
                        begun = file.tell()
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
