"""While the model works, what is still to do lies on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import damage, fresh, write_texts
from tables_kit import layout_at

from featstore.errors import IntegrityError
from featstore.extract.planned import Planned
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.storage import frames

RUN = "20260101T000000-abcdef"
SHARDS = [0] * 5 + [1] * 3 + [2] * 4


def rows() -> pa.Table:
    ids = [f"{at:02d}" for at in range(len(SHARDS))]
    return pa.table({"item_id": ids, "content_sha256": [i * 32 for i in ids], "shard": pa.array(SHARDS, pa.int64())})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return layout_at(tmp_path)


def test_each_shard_is_read_alone(layout: Layout) -> None:
    planned = Planned.write(layout, RUN, rows())
    assert planned.rows == len(SHARDS)
    assert frames.Groups(layout.storage, layout.plan(RUN)).groups == 3
    for number in range(3):
        wanted = rows().filter(np.array(SHARDS) == number).drop_columns(["shard"])
        assert planned.shard(number).equals(wanted)
        assert planned.shard(number, ["item_id"]).equals(wanted.select(["item_id"]))


def test_a_plan_without_groups_says_the_same(layout: Layout) -> None:
    Planned.write(layout, RUN, rows())
    shards = [Planned(layout, RUN).shard(number) for number in range(3)]
    frames.write(layout.storage, layout.plan(RUN), rows())
    planned = Planned(layout, RUN)
    assert planned.rows == len(SHARDS)
    assert all(planned.shard(number).equals(shards[number]) for number in (2, 0, 1))
    assert planned.shard(1, ["item_id"]).equals(shards[1].select(["item_id"]))


def test_nothing_to_embed_is_a_plan_too(layout: Layout) -> None:
    assert Planned.write(layout, RUN, rows().slice(0, 0)).rows == 0


@pytest.mark.parametrize("change", ["flip", "short", "half", "empty"])
def test_a_damaged_plan_is_not_followed(layout: Layout, change: str) -> None:
    planned = Planned.write(layout, RUN, rows())
    damage(layout.storage.local(layout.plan(RUN)), change, bit=8 * 30)
    with pytest.raises(IntegrityError, match=r"plan\.parquet is damaged"):
        [Planned(layout, RUN), planned.shard(0)]


class StoppingLater(Reporter):
    """Stops a run when some shards are done."""

    calls = 0

    def advance(self, done: int, rejected: int = 0) -> None:
        self.calls += 1
        if self.calls > 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("change", ["half", "gone", "ungrouped"])
def test_a_run_goes_on_whatever_became_of_its_plan(model_store: Path, tmp_path: Path, change: str, grown: bool) -> None:
    store = fresh(model_store, tmp_path)
    rows = {str(at): f"text number {at} and {at * 7}" for at in range(60)}
    texts = write_texts(tmp_path / "t.jsonl", rows)
    cut = {"model": "minilm", "name": "t", "shard_items": 10}
    with pytest.raises(KeyboardInterrupt):
        store.extract(texts, reporter=StoppingLater(), **cut)
    (plan,) = (store.path / "runs").glob("*/plan.parquet")
    assert list((store.path / "runs").glob("*/shards/*.json"))
    if change == "gone":
        plan.unlink()
    elif change == "half":
        damage(plan, change)
    else:  # as a version before wrote it
        frames.write(store.layout.storage, str(plan.relative_to(store.path)), pq.read_table(plan))
    if grown:
        write_texts(texts, {**rows, "more": "one more text"})
    table = store.extract(texts, **cut)
    assert len(table) == 60 + grown
    assert table.last_run.resumed_shards > 0 or grown
    said = " ".join(table.last_run.warnings)
    assert ("is not used" in said) == (grown and change != "ungrouped")


class Stopping(Reporter):
    """Stops a run when the model is about to work."""

    def stage(self, name: str, total: int | None = None) -> None:
        if name == "embedding":
            raise KeyboardInterrupt


def test_the_scan_of_a_run_cut_short_is_not_taken_for_the_last(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    texts = write_texts(tmp_path / "t.jsonl", {str(at): f"text number {at}" for at in range(40)})
    with pytest.raises(KeyboardInterrupt):
        store.extract(texts, model="minilm", name="t", reporter=Stopping())
    cache = store.path / "cache" / "t"
    assert [path.name.partition("-")[0] for path in cache.glob("*.parquet")] == ["next"]
    assert len(store.extract(texts, model="minilm", name="t")) == 40
    assert [path.name.partition("-")[0] for path in cache.glob("*.parquet")] == ["scan"]
    assert store.extract(texts, model="minilm", name="t").version == 0
