"""Gates: what must hold before a job publishes, what is said where it does not, and what is behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import fresh, write_texts
from train_world import OTHER, add_table, blobs, store_at

from featstore.errors import GateError
from featstore.jobs import Gates, HeadJob, Job
from featstore.records import GateOutcome, IndexCard, IndexRecall, RefreshResult
from featstore.refresh.gates import judge, told
from featstore.settings import ExtractSettings, HeadSettings, IndexSettings, TorchSettings, resolve
from featstore.store import Store

DIM = 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_at(tmp_path)


def drift_job(**gates: Any) -> Job:
    return Job(name="photos", table="photos", gates=Gates(**gates), digest="one")


def text_job(source: Path, *, index: bool = False, **gates: Any) -> Job:
    given = {"source": str(source), "model": "minilm", "id_column": "id", "text_column": "text"}
    extract, found = resolve(ExtractSettings, given)
    return Job(
        name="texts", table="texts", extract=extract, index=IndexSettings() if index else None, gates=Gates(**gates),
        digest="one", origins=found.origins,
    )  # fmt: skip


def gate_of(result: RefreshResult, name: str) -> GateOutcome:
    return next(gate for gate in result.gates if gate.gate == name)


def refused(store: Store, job: Job) -> tuple[RefreshResult, GateError]:
    with pytest.raises(GateError) as caught:
        store.refresh(job)
    result = caught.value.context["result"]
    assert isinstance(result, RefreshResult)
    assert result.status == "refused"
    return result, caught.value


def texts(numbers: range) -> dict[str, str]:
    return {f"t{at:03d}": f"text number {at} of a few" for at in numbers}


def test_refused_items_are_named_with_their_reason(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    rows = texts(range(30))
    source = write_texts(tmp_path / "texts.jsonl", rows)
    assert gate_of(store.refresh(text_job(source)), "max_reject_share").status == "passed"
    more = texts(range(33))
    write_texts(source, {**more, **{f"empty{at:02d}": "" for at in range(11)}})
    result, error = refused(store, text_job(source))
    gate = gate_of(result, "max_reject_share")
    assert gate.value == pytest.approx(11 / 44)
    assert (gate.limit, gate.relation) == (0.01, "at most")
    assert len(gate.items) == 10
    assert all(item.item_id.startswith("empty") and "empty" in item.about for item in gate.items)
    assert "max_reject_share is 0.25, at most 0.01 is allowed (11 of 44 items)." in error.message
    assert error.exit_code == 5
    assert store.table("texts").version == 0
    # Ten are an accident, and the gate is the job's.
    write_texts(source, {**more, **{f"empty{at:02d}": "" for at in range(10)}})
    assert store.refresh(text_job(source)).status == "published"


def test_a_source_that_is_half_gone_is_a_gate_with_its_items(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "texts.jsonl", texts(range(40)))
    store.refresh(text_job(source))
    write_texts(source, texts(range(20)))
    result, error = refused(store, text_job(source))
    gate = gate_of(result, "max_removed_share")
    assert (gate.status, gate.value, gate.limit) == ("refused", 0.5, 0.2)
    assert len(gate.items) == 10
    assert {item.item_id for item in gate.items} <= set(texts(range(20, 40)))
    assert error.hint is not None
    assert "gates.max_removed_share" in error.hint
    assert len(store.table("texts")) == 40
    allowed = store.refresh(text_job(source, max_removed_share=0.6))
    assert gate_of(allowed, "max_removed_share").status == "passed"
    assert len(store.table("texts")) == 20


def test_what_is_removed_is_held_against_what_is_published(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "texts.jsonl", texts(range(45)))
    first = store.refresh(text_job(source))
    assert gate_of(first, "max_removed_share").note == "nothing was there before"
    # Each extract removes few; together they are a third of what people see.
    for left in (36, 29):
        write_texts(source, texts(range(left)))
        store.extract(source, name="texts", model="minilm", id_column="id", text_column="text")
    result, _ = refused(store, text_job(source))
    gate = gate_of(result, "max_removed_share")
    assert gate.value == pytest.approx(16 / 45)
    assert gate.note == "16 of 45 contents"
    # What is only renamed is still there.
    write_texts(source, {f"again-{name}": text for name, text in texts(range(45)).items()})
    assert gate_of(store.refresh(text_job(source)), "max_removed_share").value == 0


def test_recall_is_the_measured_one(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "texts.jsonl", texts(range(12)))
    job = text_job(source, index=True, min_recall=0.95)
    made = store.refresh(job)
    assert isinstance(made.index, IndexCard)
    table = store.table("texts").features
    found = IndexRecall(
        k=10, recall=0.9, low=0.88, high=0.92, queries=500, tuned_on=500, source="items", version=0,
        queries_per_s_single=1.0, queries_per_s_batch=1.0,
    )  # fmt: skip

    def judged(card: IndexCard | None) -> GateOutcome:
        outcomes = judge(
            store.layout,
            job,
            before=None,
            table=None,
            candidate=table,
            extracted=None,
            index=card,
            heads=(),
            drift=None,
        )
        (outcome,) = outcomes
        return outcome

    assert judged(replace(made.index, measured=None)).status == "not judged"
    assert judged(None).status == "not judged"
    assert judged(replace(made.index, measured=replace(found, recall=0.95))).status == "passed"
    low = judged(replace(made.index, measured=found))
    assert (low.status, low.value) == ("refused", 0.9)
    assert told([low]) == ("min_recall is 0.9, at least 0.95 is needed (of the 10 nearest, 0.880–0.920, 500 queries).")


def add(store: Store, n: int, run: str, *, seed: int, shift: float = 0.0, space: str | None = None) -> None:
    x, y = blobs(n, 3, DIM, seed=seed)
    x[:, 0] += np.float32(shift)
    place = {} if space is None else {"space": space}
    add_table(store, x, ids=[f"{run}-{at:04d}" for at in range(n)], run=run, label=y, **place)


def test_drift_is_judged_where_there_is_enough_to_judge_by(store: Store) -> None:
    job = drift_job(max_drift_auc=0.7)
    add(store, 400, "a", seed=1)
    assert gate_of(store.refresh(job), "max_drift_auc").note == "nothing was published before"
    add(store, 150, "b", seed=2, shift=20)
    few = gate_of(store.refresh(job), "max_drift_auc")
    assert few.status == "not judged"
    assert few.note is not None
    assert "too few to say: 400 before, 150 after" in few.note
    add(store, 300, "c", seed=3)
    same = gate_of(store.refresh(job), "max_drift_auc")
    assert same.status == "passed"
    add(store, 300, "d", seed=4, shift=20)
    result, error = refused(store, job)
    gate = gate_of(result, "max_drift_auc")
    assert gate.value is not None
    assert gate.value > 0.7
    assert len(gate.items) == 10
    assert all(item.item_id.startswith("d-") for item in gate.items)
    assert result.drift is not None
    assert result.drift.drifted
    assert "at most 0.7 is allowed" in error.message
    assert result.published_version == 2
    # The same data, and a job that lets it pass.
    assert store.refresh(replace(drift_job(max_drift_auc=1.0), digest="two")).status == "published"


def test_drift_between_spaces_is_not_judged(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(drift_job())
    add(store, 300, "b", seed=2, space=OTHER)
    moved = store.refresh(replace(drift_job(max_drift_auc=0.6), space=OTHER, digest="two"))
    gate = gate_of(moved, "max_drift_auc")
    assert (gate.status, gate.note) == ("not judged", "what is published is of the space tiny-0a1b2c3d")


def test_a_published_head_sees_labels_shift(store: Store) -> None:
    head = HeadJob(
        name="kinds",
        settings=HeadSettings(kind="logistic", curve=False, baselines=False),
        torch=TorchSettings(),
        refit="never",
    )
    job = replace(drift_job(max_drift_auc=1.0), heads=(head,))
    add(store, 600, "a", seed=1)
    store.refresh(job)
    x, y = blobs(1200, 3, DIM, seed=2)
    often = [at for at, label in enumerate(y) if label == "class0" or at % 2]
    add_table(store, x[often], ids=[f"b-{at}" for at in often], run="b", label=[y[at] for at in often])
    result = store.refresh(job)
    assert result.drift is not None
    measure = next(found for found in result.drift.measures if found.name == "classes")
    assert measure.head == "kinds"
    assert measure.adjusted <= 0.05
    # A third of the items were of this class, now it is a half.
    assert measure.effect == pytest.approx(1 / 6, abs=0.05)
    seen = store.diff("photos:0", "photos:1").drift
    assert seen is not None
    assert [found.head for found in seen.measures if found.name == "classes"] == ["kinds"]


def test_a_gate_for_a_head_that_the_job_lacks_refuses(store: Store) -> None:
    add(store, 100, "a", seed=1)
    result, error = refused(store, drift_job(min_accuracy={"kinds": 0.5}))
    assert gate_of(result, "min_accuracy.kinds").status == "refused"
    assert "min_accuracy.kinds: the job has no head 'kinds'." in error.message
