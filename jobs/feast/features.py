"""What Feast is told of a table with history: two Delta tables, the current rows and those that have left.

Both are read as featstore wrote them; nothing is copied. FEAST_TABLE is the table's folder in the store
(``featstore show NAME --paths`` prints it as features), such as featstore-data/features/photos/resnet50-…
"""

from __future__ import annotations

import os
from pathlib import Path

from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Array, Float32, String, UnixTimestamp
from feast.value_type import ValueType

TABLE = Path(os.environ["FEAST_TABLE"]).resolve()
HISTORY = TABLE.parents[2] / "history" / TABLE.parent.name / TABLE.name

item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)

# created_ts is when the run began that made the row; every row has one, event_ts is there only with --time-column.
current = FeatureView(
    name="current",
    entities=[item],
    schema=[Field(name="embedding", dtype=Array(Float32)), Field(name="content_sha256", dtype=String)],
    source=FileSource(path=str(TABLE), file_format=DeltaFormat(), timestamp_field="created_ts"),
)

left = FeatureView(
    name="left",
    entities=[item],
    schema=[
        Field(name="embedding", dtype=Array(Float32)),
        Field(name="content_sha256", dtype=String),
        Field(name="superseded_ts", dtype=UnixTimestamp),
        Field(name="superseded_as", dtype=String),
    ],
    source=FileSource(path=str(HISTORY), file_format=DeltaFormat(), timestamp_field="created_ts"),
)
