"""Arrow tables kept as small Parquet files of our own: plans, scan caches, previews."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.errors import IntegrityError
from featstore.storage.tree import Storage

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Groups", "digests", "read", "spare_pandas", "strings", "write", "write_groups"]


def write(storage: Storage, path: str, table: pa.Table) -> int:
    """Writes a table durably, with page checksums; returns the file's bytes.

    Raises:
        StorageError: The disk refused.
    """
    import pyarrow.parquet as pq

    with storage.writer(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        return file.tell()


def read(storage: Storage, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a table back, every page checked.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It was changed or cut short.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    storage.stat(path)
    try:
        # Not pq.read_table: its dataset reader leaves work to Arrow's threads, which may abort the process when
        # the interpreter ends before they do.
        with pq.ParquetFile(storage.local(path), page_checksum_verification=True) as file:
            return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{storage.local(path)} is damaged: {error}.") from error


def digests(storage: Storage, path: str, column: str) -> NDArray[np.bytes_]:
    """Reads a column of hexadecimal SHA-256s, without making a string of each.

    Returns:
        (n,) of 64 bytes.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It was changed or cut short, or a value is no SHA-256.
    """
    import numpy as np

    parts = [np.zeros(0, "S64")]
    for chunk in read(storage, path, [column])[column].chunks:
        if not len(chunk):
            continue
        _, offsets, content = chunk.buffers()
        assert offsets is not None
        assert content is not None
        ends = np.frombuffer(memoryview(offsets), np.int32, len(chunk) + 1, 4 * chunk.offset)
        if (np.diff(ends) != 64).any():
            raise IntegrityError(f"{storage.local(path)} is damaged: '{column}' holds other values than SHA-256s.")
        parts.append(np.frombuffer(memoryview(content), "S64", len(chunk), int(ends[0])))
    return np.concatenate(parts)


def write_groups(storage: Storage, path: str, table: pa.Table, starts: Sequence[int]) -> None:
    """Writes a table durably whose row groups begin at some rows, so that ``Groups`` can read them one by one.

    Args:
        storage: Where.
        path: The file.
        table: Its rows.
        starts: The first row of each group, rising from 0, and the number of rows last.

    Raises:
        StorageError: The disk refused.
    """
    import pyarrow.parquet as pq

    with (
        storage.writer(path) as file,
        pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for start, stop in itertools.pairwise(starts):
            writer.write_table(table.slice(start, stop - start), row_group_size=max(1, stop - start))


class Groups:
    """A file of row groups, each read when it is asked for, every page checked.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It was changed or cut short.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        storage.stat(path)
        self._storage, self._path = storage, path
        try:
            with pq.ParquetFile(storage.local(path)) as file:
                self.rows, self.groups = file.metadata.num_rows, file.metadata.num_row_groups
                self.schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def read(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group, from 0 on.

        Raises:
            IntegrityError: The file was changed or cut short.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._storage.local(self._path), page_checksum_verification=True) as file:
                return file.read_row_group(group, columns=None if columns is None else list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def all(self) -> pa.Table:
        """All rows.

        Raises:
            IntegrityError: The file was changed or cut short.
        """
        return read(self._storage, self._path)

    def _damaged(self, error: Exception) -> IntegrityError:
        return IntegrityError(f"{self._storage.local(self._path)} is damaged: {error}.")


def strings(table: pa.Table, column: str) -> list[str]:
    """A column of texts that are never null, as a list."""
    return [str(value) for value in table[column].to_pylist()]


def spare_pandas() -> None:
    """Keeps pyarrow from importing the whole of pandas, where that is installed, at its first conversion.

    A command that answers one question would spend a fifth of its time on it. pyarrow asks once; whoever really has
    to do with frames of pandas afterwards is not hindered.
    """
    import sys

    import pyarrow as pa

    class _Absent:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError("pandas is not needed here", name=name)

    if "pandas" not in sys.modules:
        absent = _Absent()
        sys.meta_path.insert(0, absent)
        try:
            pa.array([0])
        finally:
            sys.meta_path.remove(absent)
