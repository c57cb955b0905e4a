"""Heads within a refresh: trained, kept and measured again, fitted anew where that is due, never for the worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_world import OTHER, add_table, blobs, content, store_at

from featstore.errors import GateError
from featstore.heads.opening import versions
from featstore.jobs import Gates, HeadJob, Job
from featstore.records import GateOutcome, HeadOutcome, RefreshResult
from featstore.settings import HeadSettings, TorchSettings
from featstore.splits import read
from featstore.store import Store
from featstore.training import keeping

NAME, CLASSES, DIM = "kinds", 3, 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_at(tmp_path)


def job_of(refit: Any = "on-drift", *, gates: Gates | None = None, name: str = NAME, **settings: Any) -> Job:
    """A job that trains one head on ``photos``, and extracts nothing."""
    given = {"kind": "prototypes", "curve": False, "baselines": False, **settings}
    head = HeadJob(name=name, settings=HeadSettings(**given), torch=TorchSettings(), refit=refit)
    return Job(name="photos", table="photos", heads=(head,), gates=gates or Gates(), digest="one")


def add(
    store: Store, n: int, run: str, *, seed: int, wrong: float = 0.0, space: str | None = None, **more: Any
) -> None:
    """Adds items; a share of them has another label than its vector says."""
    x, y = blobs(n, CLASSES, DIM, seed=seed)
    cut = round(wrong * n)
    y[:cut] = [f"class{(int(label[-1]) + 1) % CLASSES}" for label in y[:cut]]
    ids = [f"{run}-{at:04d}" for at in range(n)]
    columns = {"label": y, **more}
    place = {} if space is None else {"space": space}
    add_table(store, x, ids=ids, run=run, **place, **columns)


def the(result: RefreshResult) -> HeadOutcome:
    (found,) = result.heads
    return found


def refused(store: Store, job: Job) -> tuple[RefreshResult, list[GateOutcome], GateError]:
    with pytest.raises(GateError) as caught:
        store.refresh(job)
    result = caught.value.context["result"]
    assert isinstance(result, RefreshResult)
    return result, [gate for gate in result.gates if gate.status == "refused"], caught.value


# ── the main line ─────────────────────────────────────────────────────────────────────────


def test_a_head_that_is_not_there_is_trained_and_published_with_the_table(store: Store) -> None:
    add(store, 300, "a", seed=1)
    made = the(store.refresh(job_of()))
    assert (made.action, made.version, made.before, made.folder) == ("trained", 1, None, None)
    assert made.figures["accuracy"].value > 0.9
    published = store.published("photos")
    assert published is not None
    assert published.state.heads == {NAME: 1}
    assert store.refresh(job_of()).status == "nothing new"


def test_a_few_new_items_measure_the_head_again_and_keep_it(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(job_of())
    looks = read(store.layout, "photos", "label")
    add(store, 30, "b", seed=2)
    result = store.refresh(job_of())
    kept = the(result)
    assert (kept.action, kept.version, kept.before) == ("kept", 1, 1)
    assert versions(store.layout, NAME) == [1]
    assert result.published_version == 1
    after = read(store.layout, "photos", "label")
    assert looks is not None
    assert after is not None
    assert len(after.record.scored) == len(looks.record.scored) + 1
    # The new items have their sides now, and the figures are of old and new test items.
    new = [row for row in after.rows.to_pylist() if row["item_id"].startswith("b-")]
    assert len(new) == 30
    assert 0 < sum(row["test"] for row in new) < 30
    test = sum(row["test"] and not row["excluded"] for row in after.rows.to_pylist())
    assert f"measured on {test} test items" in kept.reason


def test_what_is_measured_again_is_what_a_training_measured(store: Store) -> None:
    add(store, 300, "a", seed=1)
    card = store.train_head("photos", name=NAME, kind="prototypes", curve=False, baselines=False).card
    again = the(store.refresh(job_of()))
    assert (again.action, again.version, again.before) == ("kept", 1, None)
    assert again.figures["accuracy"] == card.metrics["accuracy"]
    assert again.figures["log_loss"].value == pytest.approx(card.metrics["log_loss"].value, rel=1e-6)


def test_many_new_items_are_learned_from(store: Store) -> None:
    add(store, 200, "a", seed=1)
    store.refresh(job_of())
    add(store, 100, "b", seed=2)
    made = the(store.refresh(job_of()))
    assert (made.action, made.version, made.before) == ("refitted", 2, 1)
    assert "more than 20%" in made.reason
    assert set(made.difference) >= {"accuracy"}
    assert store.head(NAME).card.version == 2


def test_always_means_whenever_the_items_are_others(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(job_of("always"))
    add(store, 10, "b", seed=2)
    assert the(store.refresh(job_of("always"))).action == "refitted"
    # Nothing to learn from is new, but the job is: its head stays.
    again = the(store.refresh(replace(job_of("always"), digest="two")))
    assert (again.action, again.version) == ("kept", 2)


def test_never_means_never(store: Store) -> None:
    add(store, 200, "a", seed=1)
    store.refresh(job_of("never"))
    add(store, 200, "b", seed=2)
    assert the(store.refresh(job_of("never"))).action == "kept"


def test_a_head_that_fell_is_fitted_anew(store: Store) -> None:
    add(store, 400, "a", seed=1)
    store.refresh(job_of())
    # Fewer than a fifth more to learn from, nearly all of them labelled in another way.
    x, y = blobs(60, CLASSES, DIM, seed=3)
    ids = [f"b-{at:04d}" for at in range(60)]
    add_table(store, x, ids=ids, run="b", label=[f"class{(int(label[-1]) + 1) % CLASSES}" for label in y])
    made = the(store.refresh(job_of()))
    assert made.action in ("refitted", "refit dropped")
    assert "accuracy fell to" in made.reason


def test_a_label_that_it_does_not_know_is_learned(store: Store) -> None:
    add(store, 400, "a", seed=1)
    store.refresh(job_of())
    chance = np.random.default_rng(5)
    x = (2 * chance.standard_normal(DIM) + chance.standard_normal((20, DIM))).astype(np.float32)
    add_table(store, x, ids=[f"b{at}" for at in range(20)], run="b", label=["new"] * 20)
    made = the(store.refresh(job_of()))
    assert made.action == "refitted"
    assert "'new' (20)" in made.reason
    assert "new" in store.head(NAME).card.classes


def test_items_that_were_labelled_since_count_as_new(store: Store) -> None:
    x, y = blobs(400, CLASSES, DIM, seed=1)
    ids = [f"i{at:04d}" for at in range(400)]
    add_table(store, x, ids=ids, label=[label if at < 200 else None for at, label in enumerate(y)])
    store.refresh(job_of())
    assert store.head(NAME).card.n_train < 200
    table = store.table("photos").features
    staged = type(table).staging(store.layout, "photos", table.space_id, DIM)
    rows = table.rows().drop_columns(["_file", "_row"])
    at = rows.column_names.index("label")
    labels = dict(zip(ids, y, strict=True))
    rows = rows.set_column(at, "label", [[labels[item] for item in rows["item_id"].to_pylist()]])
    part = staged.write_part("b", 0, staged.align(rows), table.matrix()[1])
    staged.commit(run_id="b", add=[part], remove=list(staged.files))
    made = the(store.refresh(job_of()))
    assert made.action == "refitted"
    assert store.head(NAME).card.n_train > 300


# ── never for the worse ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kept", [True, False], ids=["paired", "too many to be kept"])
def test_a_refit_that_is_significantly_worse_is_dropped(
    store: Store, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(keeping, "_MOST", 10)
    add(store, 400, "a", seed=1)
    store.refresh(job_of("always"))
    # What comes to learn from is wrong; what is tested stays as it was: groups put all of it on one side.
    sides = {row["item_id"]: row for row in read(store.layout, "photos", "label").rows.to_pylist()}  # type: ignore[union-attr]
    train = [item for item, row in sides.items() if not row["test"]]
    table = store.table("photos").features
    at = {str(item): row for row, item in enumerate(table.matrix()[0])}
    vectors = table.matrix()[1]
    near = np.stack([vectors[at[item]] for item in train]) + np.float32(1e-4)
    labels = dict(
        zip(table.rows(["item_id"])["item_id"].to_pylist(), table.rows(["label"])["label"].to_pylist(), strict=True)
    )
    poisoned = [f"class{(int(labels[item][-1]) + 1) % CLASSES}" for item in train]
    for copy in range(3):
        ids = [f"p{copy}-{item}" for item in train]
        add_table(store, near + np.float32(copy * 1e-5), ids=ids, run=f"p{copy}", label=poisoned)
    made = the(store.refresh(job_of("always")))
    assert (made.action, made.version) == ("refit dropped", 1)
    if kept:
        assert "less accuracy on the same test items" in made.reason
        assert made.difference["accuracy"].high < 0
    else:
        assert "fitted anew its accuracy is" in made.reason
    assert versions(store.layout, NAME) == [1]
    published = store.published("photos")
    assert published is not None
    assert published.state.heads == {NAME: 1}


def test_a_refit_that_cannot_be_made_keeps_the_head_and_says_so(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(job_of("always"))
    add_table(store, np.ones((1, DIM), np.float32), ids=["odd"], run="b", label=["typo"])
    x, y = blobs(20, CLASSES, DIM, seed=4)
    add_table(store, x, ids=[f"c{at}" for at in range(20)], run="c", label=y)
    made = the(store.refresh(job_of("always")))
    assert (made.action, made.version) == ("refit dropped", 1)
    assert "'typo'" in made.reason
    assert made.figures


# ── what cannot go on ─────────────────────────────────────────────────────────────────────


def test_a_head_of_another_space_is_fitted_anew_or_refused(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(job_of("never"))
    add(store, 300, "a2", seed=1, space=OTHER)
    moved = replace(job_of("never"), space=OTHER, digest="two")
    result, gates, error = refused(store, moved)
    assert result.heads[0].action == "failed"
    assert [gate.gate for gate in gates] == [f"head.{NAME}"]
    assert f"head {NAME}:1 is of the space tiny-0a1b2c3d, the table of {OTHER}" in error.message
    assert store.table("photos").space_id == "tiny-0a1b2c3d"
    made = the(store.refresh(replace(job_of("on-drift"), space=OTHER, digest="three")))
    assert (made.action, made.version) == ("refitted", 2)
    assert store.table("photos").space_id == OTHER
    assert store.head(NAME).card.space_id == OTHER


def test_a_label_column_that_is_gone_hides_nothing_else(store: Store) -> None:
    x, y = blobs(300, CLASSES, DIM, seed=1)
    add_table(store, x, label=y, other=y)
    job = job_of("on-drift")
    both = replace(job, heads=(*job.heads, replace(job.heads[0], name="second", settings=HeadSettings(label="gone"))))
    result, gates, error = refused(store, both)
    assert [(head.head, head.action) for head in result.heads] == [(NAME, "trained"), ("second", "failed")]
    assert [gate.gate for gate in gates] == ["head.second"]
    assert "'gone'" in error.message
    assert store.published("photos") is None
    assert versions(store.layout, NAME) == []


def test_one_class_left_is_said(store: Store) -> None:
    x, _ = blobs(60, CLASSES, DIM, seed=1)
    add_table(store, x, label=["same"] * 60)
    _, gates, error = refused(store, job_of())
    assert [gate.gate for gate in gates] == [f"head.{NAME}"]
    assert "two classes at least" in error.message


def test_a_head_of_another_table_is_left_alone(store: Store) -> None:
    add(store, 200, "a", seed=1)
    x, y = blobs(200, CLASSES, DIM, seed=2)
    add_table(store, x, name="paintings", label=y)
    store.train_head("paintings", name=NAME, kind="prototypes", curve=False, baselines=False)
    _, _, error = refused(store, job_of())
    assert f"the head '{NAME}' belongs to the table 'paintings', not to 'photos'" in error.message


def test_a_head_for_another_label_is_fitted_anew(store: Store) -> None:
    x, y = blobs(200, CLASSES, DIM, seed=1)
    add_table(store, x, label=y, second=[("a", "b")[label == "class1"] for label in y])
    store.refresh(job_of())
    made = the(store.refresh(replace(job_of(label="second"), digest="two")))
    assert made.action == "refitted"
    assert "was trained for 'label', the job says 'second'" in made.reason


# ── gates on heads ────────────────────────────────────────────────────────────────────────


def test_min_accuracy_names_the_items_behind_it_and_publishes_nothing(store: Store) -> None:
    add(store, 300, "a", seed=1)
    job = job_of("never", gates=Gates(min_accuracy={NAME: 0.9}))
    first = store.refresh(job)
    assert [(gate.gate, gate.status) for gate in first.gates] == [(f"min_accuracy.{NAME}", "passed")]
    add(store, 300, "b", seed=2, wrong=0.5)
    result, (gate,), error = refused(store, job)
    assert gate.gate == f"min_accuracy.{NAME}"
    assert gate.value is not None
    assert gate.value < 0.9
    assert len(gate.items) == 10
    # The surest mistakes are those whose labels are wrong: the first half of what came.
    assert {item.item_id for item in gate.items} <= {f"b-{at:04d}" for at in range(150)}
    assert "predicted 'class" in gate.items[0].about
    assert "at least 0.9 is needed" in error.message
    assert result.published_version == 0
    published = store.published("photos")
    assert published is not None
    assert published.state.table_version == 0


def test_numbers_and_several_labels(store: Store) -> None:
    x, y = blobs(400, CLASSES, DIM, seed=1)
    number = (x @ np.arange(DIM, dtype=np.float32) / 10).tolist()
    several = [label if at % 3 else f"{label}|odd" for at, label in enumerate(y)]
    add_table(store, x[:300], ids=[f"i{at}" for at in range(300)], number=number[:300], several=several[:300])
    heads = tuple(
        HeadJob(
            name=label,
            settings=HeadSettings(label=label, task=task, kind="ridge", curve=False, baselines=False),  # type: ignore[arg-type]
            torch=TorchSettings(),
        )
        for label, task in (("number", "regression"), ("several", "multilabel"))
    )
    gates = Gates(min_accuracy={"number": 0.99, "several": 0.5})
    job = Job(name="photos", table="photos", heads=heads, gates=gates, digest="one")
    store.refresh(job)
    add_table(
        store,
        x[300:310],
        ids=[f"i{at}" for at in range(300, 310)],
        run="b",
        number=number[300:310],
        several=several[300:310],
    )
    number_head, several_head = store.refresh(job).heads
    assert (number_head.action, several_head.action) == ("kept", "kept")
    assert number_head.figures["r2"].value > 0.99
    assert 0.5 < several_head.figures["mAP"].value <= 1
    add_table(
        store, x[310:], ids=[f"i{at}" for at in range(310, 400)], run="c",
        number=[-value for value in number[310:]], several=several[310:],
    )  # fmt: skip
    never = replace(job, heads=tuple(replace(head, refit="never") for head in heads))
    result, (gate,), _ = refused(store, never)
    assert gate.gate == "min_accuracy.number"
    assert gate.items[0].about.startswith("is ")
    assert next(head for head in result.heads if head.head == "several").wrong


def test_a_head_that_a_killed_run_has_kept_already_is_taken(store: Store) -> None:
    add(store, 200, "a", seed=1)
    store.refresh(job_of())
    add(store, 100, "b", seed=2)
    # The same training by hand leaves what a run leaves that was killed between adopting and publishing.
    store.train_head("photos:1", name=NAME, kind="prototypes", curve=False, baselines=False)
    made = the(store.refresh(job_of()))
    assert (made.action, made.version) == ("refitted", 2)
    assert versions(store.layout, NAME) == [2, 1]


def test_contents_that_were_learned_from_are_no_test(store: Store) -> None:
    add(store, 300, "a", seed=1)
    store.refresh(job_of("never"))
    # A copy of a training item goes to its side, under whatever name.
    kept = read(store.layout, "photos", "label")
    assert kept is not None
    train = [row["item_id"] for row in kept.rows.to_pylist() if not row["test"]][:40]
    x, y = blobs(300, CLASSES, DIM, seed=1)
    at = [int(item[-4:]) for item in train]
    add_table(
        store, x[at], ids=[f"copy-{item}" for item in train], contents=[content(item) for item in train], run="b",
        label=[y[row] for row in at],
    )  # fmt: skip
    store.refresh(job_of("never"))
    kept = read(store.layout, "photos", "label")
    assert kept is not None
    assert not any(row["test"] for row in kept.rows.to_pylist() if row["item_id"].startswith("copy-"))
