"""What a scan tells the next one besides its items: kept in the schema of the items' table.

It travels with the items into the cache of the last scan and comes back as ``previous``. Where it
was lost on the way (the items were filtered or rebuilt), the source is simply read again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["recall", "remember"]

_KEY = b"featstore.scan"


def remember(items: pa.Table, notes: dict[str, Any]) -> pa.Table:
    """The items with notes (JSON) for the next scan."""
    text = json.dumps({**notes, "rows": items.num_rows}, ensure_ascii=True)
    return items.replace_schema_metadata({_KEY: text.encode()})


def recall(previous: pa.Table | None) -> dict[str, Any] | None:
    """The notes of the last scan; None where there are none, or its items are no longer as they were."""
    if previous is None:
        return None
    try:
        notes = json.loads((previous.schema.metadata or {})[_KEY])
    except (KeyError, ValueError):
        return None
    return notes if isinstance(notes, dict) and notes.get("rows") == previous.num_rows else None
