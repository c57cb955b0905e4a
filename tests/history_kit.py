"""What the tests of history share: a table that is brought in step with one snapshot after another, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featstore.layout import Layout
from featstore.storage import Storage
from featstore.tables import FeatureTable, companion

NAME, SPACE, DIM = "things", "tiny-0a1b2c3d", 4
START = datetime(2026, 1, 1, tzinfo=UTC)

# Each item's content and event, in seconds after START; None has no event.
Snapshot = Mapping[str, tuple[int, int | None]]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def vector(content: int) -> NDArray[np.float32]:
    return np.array([content, content + 0.5, -content, 1], np.float32)


@dataclass
class World:
    """A table, and every snapshot that was ever committed to it with its time."""

    folder: Path
    name: str = NAME
    space: str = SPACE
    history_from: int = 0
    runs: list[tuple[float, Snapshot]] = field(default_factory=list)
    tried: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(Storage.at(self.folder))

    def table(self) -> FeatureTable:
        return FeatureTable.open(self.layout, self.name, self.space)

    def sync(self, snapshot: Snapshot, seconds: float, *, crash: bool = False, **metadata: object) -> None:
        """One run: what is new or changed comes, what is gone goes; with ``crash`` all but the last commit is done."""
        self.tried += 1
        layout, run = self.layout, f"run{self.tried:03d}"
        table = FeatureTable.staging(layout, self.name, self.space, DIM)
        before = self.runs[-1][1] if self.runs else {}
        coming = [item for item, state in snapshot.items() if before.get(item) != state]
        leaving = [item for item in before if item in coming or item not in snapshot]
        if not coming and not leaving:
            return
        keeps = len(self.runs) >= self.history_from
        if keeps:
            companion.begin(layout, table, since=at(seconds))
        parts = []
        if coming:
            rows = pa.table(
                {
                    "item_id": coming,
                    "content_sha256": [f"{snapshot[item][0]:064x}" for item in coming],
                    "score": pa.array([snapshot[item][0] for item in coming], pa.int64()),
                    **{name: [value] * len(coming) for name, value in metadata.items()},
                    "event_ts": pa.array(
                        [None if (e := snapshot[item][1]) is None else at(e) for item in coming],
                        pa.timestamp("us", "UTC"),
                    ),
                    "created_ts": pa.array([at(seconds)] * len(coming), pa.timestamp("us", "UTC")),
                    "run_id": [run] * len(coming),
                }
            )
            vectors = np.stack([vector(snapshot[item][0]) for item in coming])
            parts.append(table.write_part(run, 0, table.align(rows), vectors))
        drop: dict[str, list[int]] = {}
        if leaving:
            there = table.rows(["item_id"])
            for row in there.to_pylist():
                if row["item_id"] in leaving:
                    drop.setdefault(row["_file"], []).append(row["_row"])
        for number, (file, gone) in enumerate(drop.items(), 1):
            part = table.rewrite_part(run, number, file, np.array(gone, np.int64))
            parts += [] if part is None else [part]
        if keeps and drop:
            candidate = table.with_staged(parts, list(drop))
            companion.keep(layout, table, candidate, run_id=run, started_ts=at(seconds).isoformat(), remove=list(drop))
        if crash:
            return
        table.commit(run_id=run, add=parts, remove=list(drop))
        self.runs.append((seconds, dict(snapshot)))

    def truth(self, item: str, seconds: float) -> int | None:
        """The content that counted at a time, told from the snapshots alone."""
        known: list[tuple[int, float]] = []
        before: Snapshot = {}
        for created, snapshot in self.runs:
            if created <= seconds:
                if item not in snapshot:
                    known.clear()
                elif before.get(item) != snapshot[item]:
                    content, event = snapshot[item]
                    known.append((content, created if event is None else max(event, created)))
            before = snapshot
        counting = [content for content, valid in known if valid <= seconds]
        return counting[-1] if counting else None
