"""Tables of many texts with vectors that were not computed one by one: what they are does not matter to the cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import featstore
from featstore import models
from featstore.extract import previews
from featstore.inputs.previews import of_text
from featstore.models import ModelRequest
from featstore.sources import SourceOptions, open_source
from featstore.tables import FeatureTable

__all__ = ["SHARD", "fill"]

SHARD = 16_384

Vectors = Callable[[int, int], NDArray[np.float32]]
"""From the first row and how many to vectors at unit length."""


ROWS = SourceOptions(id_column="id", text_columns=("text",), label_column="label")


def fill(
    store: featstore.Store, name: str, source: Path, vectors: Vectors, options: SourceOptions = ROWS
) -> FeatureTable:
    """A table of all items of a source under MiniLM, written by the functions that an extract uses.

    Args:
        store: Where to.
        name: The table's name.
        source: A file with the columns ``id``, ``text`` and ``label``, or with other options whatever they say.
        vectors: What stands for their embeddings.
        options: How the source is read.
    """
    card = models.ensure(store.layout, ModelRequest(model="minilm"))
    opened = open_source(str(source), modality="text", options=options)
    items = opened.scan().items
    reader, contents = opened.reader(items), items["content_sha256"]
    table = FeatureTable.staging(store.layout, name, card.space_id, card.dim)
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    rows = items.select([name for name in items.column_names if name in ("item_id", "content_sha256", "label")])
    rows = rows.append_column("created_ts", pa.repeat(now, rows.num_rows))
    rows = table.align(rows.append_column("run_id", pa.repeat("begin", rows.num_rows)))
    parts = []
    for number, start in enumerate(range(0, rows.num_rows, SHARD)):
        count = min(SHARD, rows.num_rows - start)
        parts.append(table.write_part("begin", number, rows.slice(start, count), vectors(start, count)))
        texts = (str(reader.read(row)) for row in range(start, start + count))
        shas = contents[start : start + count].to_pylist()
        small = {sha: of_text(text).encode() for sha, text in zip(shas, texts, strict=True)}
        previews.keep(store.layout, name, f"begin-{number:05d}", small)
    table.commit(run_id="begin", add=parts)
    return FeatureTable.open(store.layout, name, card.space_id)
