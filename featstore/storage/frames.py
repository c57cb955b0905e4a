"""Arrow tables kept as small Parquet files of our own: plans, scan caches, previews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.errors import IntegrityError
from featstore.storage.tree import Storage

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read", "spare_pandas", "strings", "write"]


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
