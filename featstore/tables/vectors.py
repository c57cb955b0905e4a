"""Reads the vectors of data files straight into one matrix, page by page, checksums verified.

Each page's values are read into their place in the matrix, so the file is copied once. Files that
another engine has rewritten (compressed, with a dictionary) are read through pyarrow: slower, the same result.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from featstore.errors import IntegrityError, StorageError
from featstore.tables.columns import VECTOR
from featstore.tables.footer import DataFile, VectorChunk, damaged, pread
from featstore.tables.pages import Levels, PageHeader, UnreadableError, parse_header

__all__ = ["THREADS", "fill", "gather"]

THREADS = 2
_FIRST_LOOK = 40 * 1024

# Pages that one call reads; far below what the system takes (IOV_MAX, 1,024), with what lies between them.
_PAGES_AT_ONCE = 64

# What is to be checked is checked while the processor's cache still holds it, yet not page by page: threads
# that meet between short calls wait for each other.
_PAGES_CHECKED_AT_ONCE = 4

_levels = Levels()


def fill(out: NDArray[np.float32], files: Sequence[tuple[DataFile, int, bool]], pool: Executor | None = None) -> None:
    """Reads vectors into a matrix.

    Args:
        out: (n, dim) float32, C-contiguous; overwritten.
        files: For each file: the open file, the row of ``out`` where it begins, and whether to verify
            checksums and that all values are finite.
        pool: Where each row group is one task; by default one of two threads.

    Raises:
        IntegrityError: A file is damaged, or holds a null, a vector of another length, NaN or infinity.
        StorageError: A file cannot be read.
    """
    if pool is None:
        with ThreadPoolExecutor(THREADS) as own:
            return fill(out, files, own)
    jobs = []
    for file, start, verify in files:
        if file.ours:
            jobs += [
                pool.submit(_read_chunk, file, chunk, out[start + chunk.first_row :][: chunk.rows], verify)
                for chunk in file.chunks
            ]
        else:
            jobs.append(pool.submit(_read_foreign, file, out[start:], verify))
    with ExitStack() as stack:
        # The files may be closed as soon as this returns, with whatever error: nothing may be left running then.
        stack.callback(wait, jobs)
        for job in jobs:
            stack.callback(job.cancel)
        for job in jobs:
            job.result()


def gather(file: DataFile, rows: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """Reads some vectors of a file that has passed its checksums before.

    Args:
        file: An open file that ``fill`` has verified, unchanged since.
        rows: Their places in the file.
        dim: The length of each vector.

    Returns:
        (len(rows), dim) float32.

    Raises:
        IntegrityError: The file is damaged.
    """
    first, offset = [], []
    for chunk in file.chunks:
        done = chunk.first_row * dim
        for page in _walk(file, chunk, dim):
            first.append(done)
            offset.append(page.offset)
            done += page.header.values
    first.append(file.rows * dim)
    out = np.empty((len(rows), dim), np.float32)
    for target, row in zip(out, rows.tolist(), strict=True):
        at, end = row * dim, (row + 1) * dim
        while at < end:  # another writer's pages may end inside a row
            held = bisect_right(first, at) - 1
            stop = min(end, first[held + 1])
            _read_into(file, [(offset[held] + 4 * (at - first[held]), target[at - row * dim : stop - row * dim])])
            at = stop
    return out


@dataclass(frozen=True, slots=True)
class _Found:
    header: PageHeader
    levels: bytes
    offset: int
    """The byte where the values begin."""


def _walk(file: DataFile, chunk: VectorChunk, dim: int) -> list[_Found]:
    where, descriptor = file.where, file.descriptor
    if chunk.values != chunk.rows * dim:
        raise damaged(where, f"it holds {chunk.values:,} values in {chunk.rows:,} vectors that should have {dim} each")
    found = []
    at, end, done, look = chunk.offset, chunk.offset + chunk.bytes, 0, _FIRST_LOOK
    try:
        while at < end:
            data = pread(where, descriptor, min(look, end - at), at)
            header = parse_header(data)
            start = header.length
            if at + start + header.body > end:
                raise UnreadableError("a page goes beyond its column")
            for _ in range(2):  # repetition levels, then definition levels
                data = _more(file, data, at, start + 4, end)
                start += 4 + int.from_bytes(data[start : start + 4], "little")
            if start - header.length + 4 * header.values != header.body:
                raise UnreadableError("a page's levels and values do not fill it")
            data = _more(file, data, at, start, end)
            levels = data[header.length : start]
            _levels.check(levels, values=header.values, phase=done % dim, dim=dim, max_definition=chunk.max_definition)
            found.append(_Found(header, levels, at + start))
            at += header.length + header.body
            done += header.values
            look = start + 64
    except UnreadableError as error:
        raise damaged(where, f"{error} (near byte {at:,})") from error
    if at != end or done != chunk.values:
        raise damaged(where, f"its pages hold {done:,} values, {chunk.values:,} were written")
    return found


def _more(file: DataFile, data: bytes, at: int, needed: int, end: int) -> bytes:
    if needed <= len(data):
        return data
    if at + needed > end:
        raise UnreadableError("a page goes beyond its column")
    return data + pread(file.where, file.descriptor, needed - len(data), at + len(data))


def _read_chunk(file: DataFile, chunk: VectorChunk, out: NDArray[np.float32], verify: bool) -> None:
    pages = _walk(file, chunk, out.shape[1])
    flat = out.reshape(-1)
    starts = list(accumulate((page.header.values for page in pages), initial=0))
    parts = [flat[start:stop] for start, stop in pairwise(starts)]
    for group in _grouped(len(pages), _PAGES_CHECKED_AT_ONCE if verify else _PAGES_AT_ONCE):
        _read_into(file, [(pages[at].offset, parts[at]) for at in group])
        if not verify:
            continue
        for at in group:
            page, values = pages[at], parts[at]
            if page.header.crc is None:
                if file.ours:
                    raise damaged(file.where, f"the page before byte {page.offset:,} has no checksum")
            elif zlib_ng.crc32(values.data, zlib_ng.crc32(page.levels)) != page.header.crc:
                raise damaged(file.where, f"the page before byte {page.offset:,} does not match its checksum")
        _check_finite(file, flat[starts[group.start] : starts[group.stop]])


def _grouped(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(count, start + size))


def _read_into(file: DataFile, parts: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
    """Reads stretches of a file, ascending and apart, to their places; what lies between is read and dropped."""
    views: list[memoryview] = []
    offset = end = parts[0][0]
    for start, values in parts:
        if start > end:
            views.append(memoryview(bytearray(start - end)))
        views.append(values.data.cast("B"))
        end = start + values.nbytes
    try:
        while views:
            got = os.preadv(file.descriptor, views, offset)
            if not got:
                raise damaged(file.where, f"it ends at byte {offset:,}")
            offset += got
            while views and got >= len(views[0]):
                got -= len(views.pop(0))
            if views:
                views[0] = views[0][got:]
    except OSError as error:
        raise StorageError(f"cannot read {file.where}: {error.strerror or error}.") from error


def _check_finite(file: DataFile, values: NDArray[np.float32]) -> None:
    # No array of booleans to make; NaN is the least and the greatest of whatever it stands among.
    if len(values) and not (values.min() > -np.inf and values.max() < np.inf):
        raise damaged(file.where, "it holds a vector with NaN or infinity")


def _read_foreign(file: DataFile, out: NDArray[np.float32], verify: bool) -> None:
    for chunk in file.chunks:
        rows = out[chunk.first_row :][: chunk.rows]
        if chunk.direct:
            try:
                _read_chunk(file, chunk, rows, verify)
                continue
            except IntegrityError:
                pass  # pages of another version; if it is damage, pyarrow meets it as well
        _read_decoded(file, chunk, rows)


def _read_decoded(file: DataFile, chunk: VectorChunk, out: NDArray[np.float32]) -> None:
    done = 0
    try:
        with pq.ParquetFile(file.where, metadata=file.metadata, page_checksum_verification=True) as parquet:
            for column in parquet.read_row_group(chunk.group, columns=[VECTOR])[VECTOR].chunks:
                out[done : done + len(column)] = _matrix(file, column, out.shape[1])
                done += len(column)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(file.where, f"its vectors cannot be read ({error})") from error
    if done != len(out):
        raise damaged(file.where, f"it holds {done:,} vectors, {len(out):,} were written")
    _check_finite(file, out.reshape(-1))


def _matrix(file: DataFile, column: Any, dim: int) -> NDArray[np.float32]:
    values = column.flatten()
    if column.null_count or values.null_count:
        raise damaged(file.where, "it holds a null vector")
    if len(values) != len(column) * dim or (len(column) and not (column.value_lengths().to_numpy() == dim).all()):
        raise damaged(file.where, f"it holds a vector whose length is not {dim}")
    matrix: NDArray[np.float32] = values.to_numpy().reshape(len(column), dim)
    return matrix
