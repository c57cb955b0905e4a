"""Fine-tuning from labels to a model of the store: what is kept, what is refused, what a stopped run goes on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from finetune_world import FAST, digits, pictures, pretrained, table_of, tree
from model_fixtures import bert_folder

import featstore
from featstore import models
from featstore.errors import (
    GateError,
    IntegrityError,
    InterruptedRunError,
    LockedError,
    NotFoundError,
    SettingsError,
    StorageError,
    UsageError,
)
from featstore.extract.progress import Reporter
from featstore.finetune import probe
from featstore.models import ModelRequest
from featstore.records import FinetuneReport, FinetuneResult, FinetuneState
from featstore.splits import read
from featstore.storage import documents, locks
from featstore.store import Store

# One worker makes the world and what is kept in it, for all of these.
pytestmark = pytest.mark.xdist_group("finetune")

UNTOUCHED = ("models", "features", "heads", "published", "indexes")


class Told(Reporter):
    """Remembers what it was told; raises where it is asked to."""

    def __init__(self, *, stop_at: str | None = None, after: int = 0) -> None:
        self.stages: list[str] = []
        self.said: list[str] = []
        self.warned: list[str] = []
        self._stop_at, self._left = stop_at, after

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)
        if name == self._stop_at:
            raise InterruptedRunError("stopped by a signal.", signum=15)

    def between(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                raise InterruptedRunError("stopped by a signal.", signum=15)

    def message(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.warned.append(text)


class World(NamedTuple):
    """A store with a table and two heads, its pictures, and the network's folder."""

    store: Path
    images: Path
    model: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("finetune")
    model, images = pretrained(root / "vit-tiny"), pictures(root / "images")
    store, _ = table_of(root / "store", model, images)
    store.train_head("digits", label="half", kind="logistic", seed=9, curve=False, baselines=False)
    return World(root / "store", images, model)


@pytest.fixture
def store(world: World, tmp_path: Path) -> Store:
    shutil.copytree(world.store, tmp_path / "store")
    return featstore.open(tmp_path / "store")


class Kept(NamedTuple):
    """A fine-tuning that was kept, and how the store was before it."""

    store: Store
    result: FinetuneResult
    before: dict[str, bytes]
    told: Told


@pytest.fixture(scope="module")
def kept(world: World, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("kept") / "store"
    shutil.copytree(world.store, root)
    store, told = featstore.open(root), Told()
    before = tree(store, *UNTOUCHED)
    return Kept(store, store.finetune("digits", label="digit", reporter=told, **FAST), before, told)


@pytest.fixture
def after(kept: Kept, tmp_path: Path) -> Store:
    """A copy of the store with the kept model, to be changed."""
    shutil.copytree(kept.store.path, tmp_path / "after")
    return featstore.open(tmp_path / "after")


def _scored(store: Store, label: str) -> list[str]:
    found = read(store.layout, "digits", label)
    return [] if found is None else [one.head for one in found.record.scored]


def _gates(report: FinetuneReport | None) -> dict[str, str]:
    assert report is not None
    return {gate.gate: gate.status for gate in report.gates}


def _state(store: Store, result: FinetuneResult) -> FinetuneState:
    assert result.key is not None
    path = store.layout.finetune("digits", result.key, "state.json")
    return documents.read(store.layout.storage, path, FinetuneState)


def _refused(store: Store, **settings: Any) -> FinetuneResult:
    """Runs into a gate; nothing of the store may have changed."""
    before = tree(store, *UNTOUCHED)
    with pytest.raises(GateError) as caught:
        store.finetune("digits", **{**FAST, **settings})
    assert caught.value.exit_code == 5
    assert tree(store, *UNTOUCHED) == before
    found = caught.value.context["result"]
    assert isinstance(found, FinetuneResult)
    assert (found.status, found.space_id) == ("refused", None)
    return found


# ── a real gain ───────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_real_gain_becomes_a_model_and_touches_nothing_else(kept: Kept) -> None:
    store, result, report = kept.store, kept.result, kept.result.report
    assert report is not None
    assert result.status == "kept"
    assert result.next == (f"featstore migrate digits --to {result.space_id}",)
    assert set(_gates(report).values()) == {"passed"}
    assert set(_gates(report)) == {
        "geometry.finite", "geometry.dead", "geometry.rank", "gain", "forgetting.digits-half", "forgetting.probe",
        "parity.cosine", "parity.top1", "latency",
    }  # fmt: skip
    assert report.gain.low > 0
    assert report.tuned["accuracy"].value - report.frozen["accuracy"].value == pytest.approx(report.gain.value)
    assert report.own["accuracy"].value > 0.7
    assert report.n_train + report.n_validation + report.n_test == sum(report.classes.values()) == 896
    assert {one.name: one.kind for one in report.forgetting} == {"digits-half": "head", "digits": "probe"}
    assert any(
        "head 'digits-half'" in note and "were trained on under the label 'digit'" in note for note in report.notes
    )
    now = tree(store, *UNTOUCHED)
    assert {path: content for path, content in now.items() if path in kept.before} == kept.before
    assert {path.split("/")[1] for path in set(now) - set(kept.before)} == {result.space_id}


@pytest.mark.heavy
def test_the_model_says_where_it_comes_from(kept: Kept, world: World) -> None:
    store, result = kept.store, kept.result
    assert result.space_id is not None
    card = store.model(result.space_id)
    assert card is not None
    tuned = card.finetuning
    assert tuned is not None
    table = store.table("digits")
    assert (tuned.base, tuned.base_model, tuned.table) == (table.space_id, str(world.model), "digits")
    assert (tuned.label, tuned.key, tuned.n_train) == ("digit", result.key, result.report and result.report.n_train)
    origin = table.card
    assert card.weights.tensors_sha256 != origin.weights.tensors_sha256
    assert (card.architecture, card.dim, card.image) == (origin.architecture, origin.dim, origin.image)
    assert card.parity.min_cosine >= 0.9999


@pytest.mark.heavy
def test_it_says_first_what_it_will_train_and_what_it_has_to_beat(kept: Kept) -> None:
    frozen, training = (next(one for one in kept.told.said if one.startswith(word)) for word in ("frozen", "training"))
    assert "of the training side that it has not seen" in frozen
    assert "layers.2, layers.1, layers.0" in training
    assert "up to 6 epochs" in training
    assert any("stay with frozen features" in one for one in kept.told.warned)
    assert any("stay with frozen features" in one for one in kept.result.warnings)


@pytest.mark.heavy
def test_the_test_side_is_looked_at_once_and_written_down(kept: Kept) -> None:
    look = f"finetune-{kept.result.key}"
    assert _scored(kept.store, "digit") == [look]
    assert _scored(kept.store, "half") == ["digits-half", look]


@pytest.mark.heavy
def test_nothing_is_left_of_the_training_but_state_and_report(kept: Kept) -> None:
    store, result = kept.store, kept.result
    assert result.key is not None
    folder = store.layout.finetune("digits", result.key)
    files = {path.removeprefix(f"{folder}/") for path in store.layout.storage.files(folder)}
    assert files == {"state.json", "report.json", "report.html"}
    state = _state(store, result)
    assert (state.status, state.space_id, state.label, state.base) == (
        "kept", result.space_id, "digit", store.table("digits").space_id,
    )  # fmt: skip
    assert result.html is not None
    assert Path(result.html).read_text().startswith("<!doctype html>")
    stored = documents.read(store.layout.storage, f"{folder}/report.json", FinetuneReport)
    assert stored == result.report


@pytest.mark.heavy
def test_the_same_again_is_nothing_new(after: Store, kept: Kept, tmp_path: Path) -> None:
    before, told = tree(after, "models", "finetunes", "splits"), Told()
    again = after.finetune("digits", label="digit", reporter=told, **{**FAST, "workers": 1, "name": "other"})
    assert (again.status, again.space_id, again.key) == ("nothing new", kept.result.space_id, kept.result.key)
    assert again.report == kept.result.report
    assert "training" not in told.stages
    assert tree(after, "models", "finetunes", "splits") == before
    page = tmp_path / "page.html"
    after.finetune("digits", label="digit", **{**FAST, "report": str(page)})
    assert kept.result.html is not None
    assert page.read_bytes() == Path(kept.result.html).read_bytes()


@pytest.mark.heavy
def test_what_changes_the_result_makes_another_run(after: Store, kept: Kept) -> None:
    plans = [after.plan_finetune("digits", label="digit", **{**FAST, **said}) for said in ({}, {"seed": 3})]
    assert [plan.resumes for plan in plans] == [None, None]
    with pytest.raises(InterruptedRunError) as caught:
        after.finetune("digits", label="digit", reporter=Told(stop_at="training"), **{**FAST, "seed": 3})
    found = caught.value.context["result"]
    assert isinstance(found, FinetuneResult)
    assert (found.status, found.error) == ("interrupted", caught.value.message)
    assert found.key not in (None, kept.result.key)
    assert _state(after, found).status == "open"


@pytest.mark.heavy
def test_its_network_can_be_loaded_again(kept: Kept) -> None:
    assert kept.result.space_id is not None
    layout, request = kept.store.layout, ModelRequest(model=kept.result.space_id)
    original = models.original(layout, request)
    card = models.load_card(layout, kept.result.space_id)
    pixels = digits((5,))[0][:8]
    with torch.inference_mode():
        mine = original.graph(torch.from_numpy(pixels)).numpy()
    assert np.allclose(mine, models.open_backbone(layout, card, device="cpu").images(pixels), atol=1e-4)
    with pytest.raises(UsageError, match="not its weights"):
        models.original(layout, ModelRequest(model=kept.store.table("digits").space_id))


# ── the new model at work ─────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_table_moves_to_it_and_the_next_run_finds_nothing_new(after: Store, kept: Kept) -> None:
    space = kept.result.space_id
    assert space is not None
    moved = after.migrate("digits", to=space, device="cpu")
    assert (moved.status, moved.to_space, moved.embedded) == ("published", space, 896)
    assert after.table("digits").space_id == space
    assert after.verify().ok
    head = after.train_head("digits", label="digit", kind="ridge", curve=False, baselines=False)
    assert any("was fine-tuned on 'digit' of this table" in text for text in head.card.warnings)
    # What is near what has changed with the space, and with it who is left out; the items have not.
    again = after.finetune("digits", label="digit", **FAST)
    assert (again.status, again.space_id, again.next) == ("nothing new", space, ())
    plan = after.plan_finetune("digits", label="half", **FAST)
    assert (plan.model, plan.space_id) == ("hf:vit-tiny", space)
    further = after.plan_finetune("digits", label="half", **{**FAST, "model": space})
    assert further.model == "hf:vit-tiny fine-tuned on digits: digit"


@pytest.mark.heavy
def test_it_embeds_other_items(after: Store, kept: Kept, world: World, tmp_path: Path) -> None:
    space = kept.result.space_id
    assert space is not None
    few = pictures(tmp_path / "few", most=12)
    table = after.extract(few, model=space, name="few", device="cpu")
    assert (table.space_id, len(table)) == (space, 12)
    job = after.new_job("few", output=tmp_path / "few.toml")
    assert job.space_id == space
    assert f'"{space}"' in (tmp_path / "few.toml").read_text()
    assert after.refresh(tmp_path / "few.toml").status in ("published", "nothing new")


@pytest.mark.heavy
def test_a_bundle_takes_the_weights_along(kept: Kept, world: World, tmp_path: Path) -> None:
    assert kept.result.space_id is not None
    kept.store.export_model(kept.result.space_id, bundle=tmp_path / "tuned.featstore")
    other = featstore.open(tmp_path / "other")
    table = other.extract(
        pictures(tmp_path / "few", most=12), model=str(tmp_path / "tuned.featstore"), name="few", device="cpu"
    )
    assert table.space_id == kept.result.space_id
    assert other.verify().ok
    original = models.original(other.layout, ModelRequest(model=table.space_id))
    assert original.model == "hf:vit-tiny fine-tuned on digits: digit"


@pytest.mark.heavy
def test_damaged_weights_are_found(after: Store, kept: Kept) -> None:
    space = kept.result.space_id
    assert space is not None
    path = after.layout.storage.local(after.layout.model(space, "weights.safetensors"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="is damaged"):
        models.original(after.layout, ModelRequest(model=space))


@pytest.mark.heavy
def test_texts_go_the_same_way(tmp_path: Path) -> None:
    docstrings = probe.neutral("text")
    rows = [
        {"id": str(at), "text": docstrings.read(at), "part": f"part{part}"}
        for at, part in enumerate(docstrings.truth.tolist())
        if part < 4
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    store = featstore.open(tmp_path / "store")
    model = bert_folder(tmp_path / "bert-tiny")
    store.extract(tmp_path / "texts.jsonl", model=str(model), name="texts", text_column="text", id_column="id")
    lenient = {"min_gain": -1.0, "max_forgetting": 1.0, "max_rank_loss": 1.0, "max_slower": 100.0}
    said: dict[str, Any] = {"epochs": 2, "start": "random", "learning_rate": 3e-3, "device": "cpu", **lenient}
    result = store.finetune("texts", label="part", **said)
    assert result.status == "kept"
    assert result.report is not None
    assert [one.name for one in result.report.forgetting] == ["docstrings"]
    assert set(_gates(result.report).values()) == {"passed"}
    assert result.space_id is not None
    assert store.migrate("texts", to=result.space_id, device="cpu").status == "published"
    assert store.verify().ok


# ── what is refused ───────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_poisoned_rate_is_refused_before_the_test_side_is_looked_at(store: Store) -> None:
    found = _refused(store, label="digit", learning_rate=50.0, epochs=2, clip=0.0)
    assert found.report is not None
    assert found.report.best_epoch == -1
    assert _gates(found.report) == {"gain": "refused"}
    assert _scored(store, "digit") == []
    assert _state(store, found).status == "refused"
    settings = {**FAST, "learning_rate": 50.0, "epochs": 2, "clip": 0.0}
    again = store.finetune("digits", label="digit", **settings)
    assert (again.status, again.space_id) == ("nothing new", None)
    # A refusal rests on the heads too: with another version of one the gates are asked again, about what was trained.
    store.train_head("digits", label="half", kind="ridge", seed=9, curve=False, baselines=False)
    told = Told()
    with pytest.raises(GateError):
        store.finetune("digits", label="digit", reporter=told, **settings)
    assert "training" not in told.stages
    assert store.finetune("digits", label="digit", **settings).status == "nothing new"


@pytest.mark.heavy
def test_an_mlflow_that_fails_changes_nothing_of_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.finetune import tracking

    def fails(*_: object, **__: object) -> str:
        raise StorageError("the server is gone.")

    monkeypatch.setattr(tracking, "check", lambda uri: None)
    monkeypatch.setattr(tracking, "log", fails)
    address = "https://someone:secret@example.org"
    found = _refused(store, label="digit", learning_rate=50.0, epochs=1, clip=0.0, mlflow=address)
    assert any("MLflow was not told: the server is gone." in text for text in found.warnings)
    everything = tree(store, "finetunes")
    assert everything
    assert not [path for path, content in everything.items() if b"secret" in content]


@pytest.mark.heavy
def test_a_refusal_by_time_alone_is_not_for_good(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.finetune.gates import latency

    settings = {**FAST, "label": "half", "start": "random", "epochs": 2, "learning_rate": 3e-3, "head_rate": 3e-3}
    settings |= {"min_gain": -1.0, "max_forgetting": 1.0, "max_rank_loss": 1.0, "max_slower": 1.5}
    with monkeypatch.context() as busy:
        busy.setattr(latency, "_ratio", lambda *_: (2.0, 1.0))
        found = _refused(store, **settings)
    assert [name for name, status in _gates(found.report).items() if status == "refused"] == ["latency"]
    told = Told()
    assert store.finetune("digits", reporter=told, **settings).status == "kept"
    assert "training" not in told.stages


@pytest.mark.heavy
def test_shuffled_labels_are_refused(store: Store) -> None:
    found = _refused(store, label="shuffled", epochs=3)
    assert _gates(found.report)["gain"] == "refused"


@pytest.mark.heavy
def test_a_network_that_unlearns_what_the_other_heads_need_is_refused(store: Store) -> None:
    """Noise is learned by heart, and what a head needs is lost over it: the gain is not asked for here."""
    rough = {"label": "shuffled", "start": "random", "learning_rate": 5e-3, "head_rate": 5e-3, "epochs": 6}
    rest = {"min_gain": -1.0, "max_rank_loss": 1.0, "max_slower": 100.0}
    found = _refused(store, **{**rough, **rest})
    refused = {name for name, status in _gates(found.report).items() if status == "refused"}
    assert "forgetting.digits-half" in refused
    assert refused <= {"forgetting.digits-half", "forgetting.probe"}
    assert "forgetting.digits-half is" in str(found.error)


@pytest.mark.heavy
def test_a_search_ends_in_the_best_of_its_trials(store: Store) -> None:
    settings = {**FAST, "label": "half", "start": "random", "epochs": 2, "trials": 3}
    rest = {"min_gain": -1.0, "max_forgetting": 1.0, "max_rank_loss": 1.0, "max_slower": 100.0}
    told = Told(stop_at="searching")
    with pytest.raises(InterruptedRunError):
        store.finetune("digits", reporter=told, **{**settings, **rest})
    result = store.finetune("digits", **{**settings, **rest})
    assert result.status == "kept"
    assert result.report is not None
    trials = result.report.trials
    assert [one.number for one in trials] == [0, 1, 2]
    best = max((one for one in trials if one.status == "complete"), key=lambda one: (one.accuracy or 0, -one.number))
    assert result.report.settings["learning_rate"] == pytest.approx(best.settings["learning_rate"])
    assert max(one.validation_accuracy for one in result.report.epochs) == pytest.approx(best.accuracy)
    assert result.key is not None
    folder = store.layout.finetune("digits", result.key)
    assert not [path for path in store.layout.storage.files(folder) if "trials" in path or "journal" in path]


@pytest.mark.heavy
def test_a_refused_one_is_judged_again_by_other_limits_and_not_trained(store: Store) -> None:
    # From a head that knows nothing any first epoch is better than the start: what comes of it goes to the gates.
    rough = {"label": "half", "start": "random", "learning_rate": 3e-3, "head_rate": 3e-3, "epochs": 2}
    found = _refused(store, **rough, min_gain=0.9, max_rank_loss=0.0)
    gates = _gates(found.report)
    assert gates["gain"] == gates["geometry.rank"] == "refused"
    assert "gain is" in str(found.error)
    assert "geometry.rank is" in str(found.error)
    looked = _scored(store, "half")
    told = Told()
    lenient = {"min_gain": -1.0, "max_forgetting": 1.0, "max_rank_loss": 1.0, "max_slower": 100.0}
    result = store.finetune("digits", reporter=told, **{**FAST, **rough, **lenient})
    assert result.status == "kept"
    assert result.key == found.key
    assert "training" not in told.stages
    assert _scored(store, "half") == looked  # the same model on the same items: one look


# ── stopped and taken up again ────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_stopped_training_goes_on_to_the_same_weights(store: Store, kept: Kept) -> None:
    settings = {**FAST, "label": "digit", "checkpoint_every": 3}
    before = tree(store, *UNTOUCHED)
    for after in (2, 9):
        with pytest.raises(InterruptedRunError) as caught:
            store.finetune("digits", reporter=Told(after=after), **settings)
        assert tree(store, *UNTOUCHED) == before
    found = caught.value.context["result"]
    assert isinstance(found, FinetuneResult)
    assert _state(store, found).status == "open"
    resumes = store.plan_finetune("digits", **settings).resumes
    assert resumes is not None
    assert resumes.startswith("epoch ")
    result = store.finetune("digits", **settings)
    assert (result.status, result.space_id, result.key) == ("kept", kept.result.space_id, kept.result.key)


@pytest.mark.heavy
def test_stopped_among_the_gates_it_does_not_train_again(store: Store, kept: Kept) -> None:
    settings = {**FAST, "label": "digit"}
    with pytest.raises(InterruptedRunError):
        store.finetune("digits", reporter=Told(stop_at="timing both models"), **settings)
    assert store.plan_finetune("digits", **settings).resumes == "training is done; the gates come next"
    told = Told()
    result = store.finetune("digits", reporter=told, **settings)
    assert (result.status, result.space_id) == ("kept", kept.result.space_id)
    assert "training" not in told.stages
    assert _scored(store, "digit") == [f"finetune-{result.key}"]


@pytest.mark.heavy
def test_a_head_that_cannot_be_read_now_switches_no_gate_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither kept without the gate nor refused for good: once the head can be read, the gates are gone through."""
    settings = {**FAST, "label": "digit"}
    with pytest.raises(InterruptedRunError):
        store.finetune("digits", reporter=Told(stop_at="timing both models"), **settings)
    split = store.path / store.layout.split("digits", "half", "parquet")
    whole = split.read_bytes()
    split.write_bytes(whole[:-9])
    with pytest.raises(IntegrityError):
        store.finetune("digits", **settings)
    split.write_bytes(whole)
    monkeypatch.setattr("featstore.splits.keeping._LOCK_SECONDS", 0.5)
    lock = f"locks/{store.layout.split('digits', 'half', 'lock')}"
    with locks.hold(store.layout.storage, lock, purpose="testing"), pytest.raises(LockedError):
        store.finetune("digits", **settings)
    result = store.finetune("digits", **settings)
    assert result.status == "kept"
    assert _gates(result.report)["forgetting.digits-half"] == "passed"


def test_two_at_once_are_one_too_many(store: Store) -> None:
    lock = store.layout.finetune_lock("digits")
    with locks.hold(store.layout.storage, lock, purpose="testing"), pytest.raises(LockedError):
        store.finetune("digits", label="digit", **FAST)


# ── what it is asked ──────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_plan_reads_only(store: Store) -> None:
    kept = (*UNTOUCHED, "splits", "finetunes", "runs", "sources")
    before = tree(store, *kept)
    plan = store.plan_finetune("digits", label="digit", **FAST)
    assert tree(store, *kept) == before
    assert (plan.table, plan.label, plan.method) == ("digits", "digit", "LP-FT")
    assert [block.name for block in plan.blocks if block.epoch is not None] == ["layers.2", "layers.1", "layers.0"]
    assert plan.trained_parameters < plan.parameters
    assert plan.steps == 6 * -(-plan.n_train // 16)
    assert 0 < plan.seconds_low < plan.seconds_high
    assert plan.frozen.low < plan.frozen.value < plan.frozen.high
    assert plan.advice is not None
    assert "stay with frozen features" in plan.advice
    assert {group.name for group in plan.groups} >= {"head", "layers.2", "layers.2 (no decay)"}


@pytest.mark.heavy
def test_a_network_of_another_width_has_a_head_of_its_own(store: Store, tmp_path: Path) -> None:
    other = pretrained(tmp_path / "wide", steps=0, width=64)
    plan = store.plan_finetune("digits", label="digit", model=str(other), **{**FAST, "start": "random"})
    assert next(group for group in plan.groups if group.name == "head").parameters == 5 * 64
    settings = {**FAST, "start": "random", "epochs": 1, "checkpoint_every": 1}
    with pytest.raises(InterruptedRunError):
        store.finetune("digits", label="digit", model=str(other), reporter=Told(after=3), **settings)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"label": "nothing"}, UsageError, "nothing"),
        ({"label": "digit", "model": "minilm"}, UsageError, "holds images"),
        ({"label": "digit", "model": "no-such-model"}, NotFoundError, "no-such-model"),
        ({"label": "digit", "model": "gone.onnx"}, NotFoundError, "gone.onnx"),
        ({"label": "digit", "blocks": ("layers.9",)}, UsageError, "layers.9"),
        ({"label": "digit", "where": "digit = 'd5'"}, UsageError, "two classes"),
        ({"label": "locator"}, UsageError, "no column"),
        ({"label": "digit", "epochs": 0}, SettingsError, "epochs"),
        ({"label": "digit", "epocs": 1}, SettingsError, "epochs"),
    ],
    ids=["label", "kind", "model", "graph", "blocks", "one-class", "column", "range", "spelling"],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    store: Store, settings: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        store.plan_finetune("digits", **{**FAST, **settings})


def test_numbers_and_several_labels_are_refused(store: Store, tmp_path: Path) -> None:
    rows = [{"item_id": f"{at:04d}.png", "number": at / 7, "several": ["a", "b"][: 1 + at % 2]} for at in range(60)]
    (tmp_path / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    for label, task in (("number", "regression"), ("several", "multilabel")):
        with pytest.raises(UsageError, match=f"make a {task}"):
            store.finetune("digits", label=label, labels=str(tmp_path / "labels.jsonl"), **FAST)


def test_items_that_changed_are_left_out_and_a_source_that_is_gone_is_refused(
    store: Store, world: World, tmp_path: Path
) -> None:
    images = pictures(tmp_path / "images", most=120)
    table_of(store.path, world.model, images, "few")
    shutil.copy(images / "0001.png", images / "0000.png")
    (images / "0002.png").unlink()
    plan = store.plan_finetune("few", label="digit", **FAST)
    assert any(text.startswith("2 of 120 labelled items changed or are gone since") for text in plan.warnings)
    assert plan.n_train + plan.n_validation + plan.n_test == 118
    shutil.rmtree(images)
    with pytest.raises(NotFoundError):
        store.finetune("few", label="digit", **FAST)
