"""Values of a table's columns: written-out types, moments in time, and pieces of different types joined."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from featstore.errors import ItemError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["from_json", "joined", "moment", "plain", "typed"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def typed(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Gives a column of strings the type that all its values have: bool, int64, float64, or string as it is.

    Numbers with a leading zero or plus sign stay text: they are codes, not quantities.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type) or column.null_count == len(column):
        return column
    for pattern, kind in (
        (r"^(true|false|True|False|TRUE|FALSE)$", pa.bool_()),
        (r"^-?(0|[1-9][0-9]{0,17})$", pa.int64()),
        (r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][-+]?[0-9]+)?$", pa.float64()),
    ):
        if pc.all(pc.match_substring_regex(column, pattern)).as_py():
            lowered: Any = pc.utf8_lower(column) if kind == pa.bool_() else column
            found = lowered.cast(kind)
            if kind == pa.float64() and not pc.all(pc.is_finite(found)).as_py():
                return column  # 1e400 and 2e400 are codes, and not one infinity
            return found  # type: ignore[no-any-return]
    return column


def from_json(values: list[Any]) -> pa.Array[Any]:
    """A column of decoded JSON values: nested ones as JSON text, all as text where their types differ."""
    import pyarrow as pa

    plain = [json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value for value in values]
    try:
        found: pa.Array[Any] = pa.array(plain)
        return found
    except (pa.ArrowException, OverflowError):
        # NaN beside texts is a gap and not the word.
        texts = (None if v != v else v if v is None or isinstance(v, str) else json.dumps(v) for v in plain)
        return pa.array(list(texts), pa.string())


def moment(value: object, name: str) -> datetime | ItemError | None:
    """A moment in UTC; without an offset it is taken as UTC."""
    if value is None:
        return None
    if isinstance(value, str) and _DATE.match(value.strip()):
        try:
            found = datetime.fromisoformat(value.strip())
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    return ItemError(
        "scan", "bad_time", f"{value!r:.100} in '{name}' is no ISO 8601 date or time (2026-01-31T12:00:00Z)."
    )


def plain(column: pa.Array[Any]) -> pa.Array[Any]:
    """Takes the encoding off: dictionaries and string views become what they stand for."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def joined(pieces: list[pa.Array[Any]]) -> pa.ChunkedArray[Any]:
    """One column of one type: int64 and float64 meet as float64, anything else as text."""
    import pyarrow as pa

    types = {piece.type for piece in pieces if not pa.types.is_null(piece.type)}
    kind: pa.DataType = pa.float64() if types == {pa.int64(), pa.float64()} else pa.string()
    if len(types) < 2:
        kind = types.pop() if types else pa.null()
    whole: pa.ChunkedArray[Any] = pa.chunked_array([_cast(piece, kind) for piece in pieces], kind)  # type: ignore[call-overload]
    return whole


def _cast(piece: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    import pyarrow as pa

    if piece.type == kind:
        return piece
    if pa.types.is_null(piece.type):
        return pa.array([None] * len(piece), kind)
    if pa.types.is_string(kind):
        values = piece.to_pylist()
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values], kind)
    return piece.cast(kind, safe=False)
