"""What is worth saying of a table in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore import index, published
from featstore.models import load_card
from featstore.records import SourceRecord, TableSummary
from featstore.storage import documents
from featstore.tables import RejectsTable

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["summarise"]


def summarise(layout: Layout, table: FeatureTable) -> TableSummary:
    """Gathers a table's figures; reads the log and two JSON files, no vector.

    Raises:
        IntegrityError: The table, its model's card or its source's record is damaged.
    """
    card = load_card(layout, table.space_id)
    source = documents.find(layout.storage, layout.source(table.name), SourceRecord)
    assert table.version is not None
    history = table.history()
    there = published.find(layout, table.name)
    here = there is not None and there.state.space_id == table.space_id
    return TableSummary(
        table=table.name,
        space_id=table.space_id,
        version=table.version,
        items=len(table),
        dim=table.dim,
        bytes=table.bytes,
        modality=card.modality,
        model=card.model,
        source=source.uri if source else "unknown",
        rejects=RejectsTable.read(layout, table.name, table.space_id).num_rows,
        updated_ts=next((commit.timestamp for commit in history if commit.version <= table.version), ""),
        columns=tuple(table.column_names),
        path=str(table.path),
        index=index.summary(layout, table.name, table.space_id, serving=table.version),
        newest=max(commit.version for commit in history),
        published=there.state.table_version if there is not None and here else None,
        held=there is not None and there.held,
    )
