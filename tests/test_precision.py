"""A model in 8 bits: made of a table's own items, let through by a gate on others of them, a space of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_world import run
from spaces import letters, sayings, table_of
from stores import copy_models, write_texts

import featstore
from featstore.errors import GateError, NotFoundError, UsageError
from featstore.models import ModelOptions, ModelRequest, find, load_card
from featstore.quantise import Least, failures
from featstore.quantise.gate import Judge
from featstore.records import Fidelity, QuantisationProof
from featstore.settings import ExtractSettings
from featstore.sources import SourceOptions, open_source
from featstore.storage import documents

COUNT = 300


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> tuple[Path, featstore.Table]:
    """A world with a table of 300 texts in 8 bits."""
    world = tmp_path_factory.mktemp("told")
    copy_models(model_store, world / "featstore-data")
    write_texts(world / "notes.jsonl", sayings(COUNT))
    store = featstore.open(world / "featstore-data")
    return world, store.extract(world / "notes.jsonl", id_column="id", model="minilm", precision="int8")


def test_a_table_in_8_bits_is_a_space_of_its_own_that_passed_the_gate(told: tuple[Path, featstore.Table]) -> None:
    world, table = told
    store = featstore.open(world / "featstore-data")
    card = load_card(store.layout, table.space_id)
    base = find(store.layout, ModelRequest(model="minilm"))
    assert base is not None
    assert (card.precision, card.dim, base.precision) == ("int8", base.dim, "fp32")
    assert card.space_id != base.space_id
    assert card.space_id.startswith(base.space_id.rpartition("-")[0] + "-int8-")
    assert card.onnx.bytes < 0.7 * base.onnx.bytes  # the embedding table is left as it is
    made = card.quantisation
    assert made is not None
    assert (made.base, made.table) == (base.space_id, "notes")
    assert made.calibrated + made.steps[-1].fidelity.items == COUNT
    assert [bool(step.failed) for step in made.steps] == [True] * (len(made.steps) - 1) + [False]

    plain = store.extract(world / "notes.jsonl", id_column="id", model="minilm", name="plain")
    ids, vectors = plain.matrix()
    quantised = dict(zip(*table.matrix(), strict=True))
    cosines = [float(vector @ quantised[item]) for item, vector in zip(ids, vectors, strict=True)]
    assert 0.98 < np.mean(cosines) < 0.99999
    assert plain.space_id == base.space_id


def test_the_second_run_makes_nothing_anew_and_needs_no_calibration(
    told: tuple[Path, featstore.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, table = told
    monkeypatch.setattr("featstore.models.quantising.Quantiser", None)
    again = featstore.open(world / "featstore-data").extract(world / "notes.jsonl", model="minilm", precision="int8")
    assert again.space_id == table.space_id
    assert again.last_run is not None
    assert again.last_run.status == "nothing new"


def test_another_table_takes_the_version_that_is_there_if_it_passes_on_its_own_items(
    told: tuple[Path, featstore.Table],
) -> None:
    world, table = told
    write_texts(world / "others.jsonl", sayings(COUNT, seed=9))
    store = featstore.open(world / "featstore-data")
    other = store.extract(world / "others.jsonl", model="minilm", precision="int8")
    assert other.space_id == table.space_id
    path = store.layout.quantisation_proof(table.space_id, "others")
    proof = documents.read(store.layout.storage, path, QuantisationProof)
    assert not failures(proof.fidelity)
    assert proof.fidelity.items >= 200


def test_an_item_finds_itself_by_a_query_in_8_bits(told: tuple[Path, featstore.Table]) -> None:
    _, table = told
    text = sayings(COUNT)["s0007"]
    found = table.search(text=text, k=1)
    assert found["item_id"][0] == "s0007"
    assert found["score"][0] > 0.9999


def test_too_few_items_and_models_without_weights_to_round_are_refused(tmp_path: Path, model_store: Path) -> None:
    copy_models(model_store, tmp_path / "store")
    store = featstore.open(tmp_path / "store")
    write_texts(tmp_path / "few.jsonl", sayings(40))
    with pytest.raises(UsageError, match="at least 250 of different content, and 'few' has 40"):
        store.extract(tmp_path / "few.jsonl", model="minilm", precision="int8")
    write_texts(tmp_path / "many.jsonl", sayings(COUNT))
    with pytest.raises(UsageError, match="quanti"):
        store.extract(tmp_path / "many.jsonl", model=str(letters(tmp_path, "alphabet", table_of())), precision="int8")
    assert store.tables() == []
    with pytest.raises(NotFoundError):
        store.table("many")


@pytest.mark.heavy
def test_what_misses_the_gate_is_not_kept(tmp_path: Path, model_store: Path) -> None:
    from featstore.quantise import make

    copy_models(model_store, tmp_path / "store")
    layout = featstore.open(tmp_path / "store").layout
    source = open_source(
        str(write_texts(tmp_path / "notes.jsonl", sayings(COUNT))), modality="text", options=SourceOptions()
    )
    base = find(layout, ModelRequest(model="minilm"))
    assert base is not None
    settings = ExtractSettings(source="notes", model="minilm")
    before = sorted(layout.storage.folders("models"))
    said: list[str] = []
    with pytest.raises(GateError, match="too far from the model itself on the items of 'notes'") as caught:
        make(
            layout, base, "int8", table="notes", source=source, items=source.scan().items, settings=settings,
            least=Least(p1_cosine=0.999999), progress=said.append,
        )  # fmt: skip
    assert caught.value.exit_code == 5
    steps = caught.value.context["steps"]
    assert len(steps) >= 2
    assert all("first percentile" in step.failed[0] for step in steps)
    assert len([line for line in said if "refused" in line]) == len(steps)
    assert sorted(layout.storage.folders("models")) == before
    assert find(layout, ModelRequest(model="minilm", options=ModelOptions(precision="int8"), table="notes")) is None


def test_the_command_line_says_what_was_tried(told: tuple[Path, featstore.Table]) -> None:
    world, table = told
    shown = run("models", "show", "minilm", "--precision", "int8", cwd=world)
    assert shown.code == 0, shown.err
    assert table.space_id in shown.out
    assert "passed" in shown.out
    document = json.loads(run("models", "show", "minilm", "--precision", "int8", "--json", cwd=world).out)
    assert document["card"]["quantisation"]["table"] == "notes"
    unknown = run("models", "export", "resnet18", "-o", "out", "--precision", "int8", cwd=world)
    assert unknown.code == 2
    assert "--precision int8" in unknown.err


def test_a_job_keeps_a_table_in_8_bits(told: tuple[Path, featstore.Table]) -> None:
    world, table = told
    (world / "notes.toml").write_text(
        '[job]\nname = "notes"\n[source]\nuri = "notes.jsonl"\nid_column = "id"\n'
        '[model]\nname = "minilm"\nprecision = "int8"\n'
    )
    checked = run("jobs", "check", "notes.toml", cwd=world)
    assert checked.code == 0, checked.out + checked.err
    done = run("refresh", "notes.toml", cwd=world)
    assert done.code == 0, done.err
    state = featstore.open(world / "featstore-data").published("notes")
    assert state is not None
    assert state.state.space_id == table.space_id


# ── the gate ────────────────────────────────────────────────────────────────────────────────────


def sides(noise: float, count: int = 1_000, dim: int = 32) -> tuple[Judge, np.ndarray]:
    """A judge of vectors of five classes, and the same vectors with noise."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 5, count)
    before = random.standard_normal((5, dim))[classes] + random.standard_normal((count, dim))
    after = before + noise * random.standard_normal((count, dim))
    labels: list[str | None] = [f"c{number}" for number in classes]
    judge = Judge(before.astype(np.float32), labels, [f"{at:064x}" for at in range(count)], [None] * count)
    return judge, after.astype(np.float32)


@pytest.mark.heavy
def test_a_table_moves_to_8_bits_that_nobody_has_made_before(tmp_path: Path, model_store: Path) -> None:
    copy_models(model_store, tmp_path / "featstore-data")
    write_texts(tmp_path / "notes.jsonl", sayings(COUNT))
    store = featstore.open(tmp_path / "featstore-data")
    before = store.extract(tmp_path / "notes.jsonl", id_column="id", model="minilm")
    moved = store.migrate("notes", to="minilm", precision="int8", bridge=False)
    assert moved.status == "published"
    now = store.table("notes")
    assert now.space_id != before.space_id
    made = load_card(store.layout, now.space_id).quantisation
    assert made is not None
    assert (made.base, made.table) == (before.space_id, "notes")
    assert len(now) == COUNT


def test_the_gate_lets_a_breath_of_noise_pass_and_no_more() -> None:
    judge, near = sides(0.01)
    found = judge.judge(near)
    assert failures(found) == ()
    assert found.labelled == 1_000
    assert found.accuracy_low is not None
    assert found.accuracy_low <= 0 <= (found.accuracy_high or 0)
    _, far = sides(0.3)
    missed = failures(judge.judge(far))
    assert any("first percentile" in text for text in missed)
    assert any("nearest neighbours" in text for text in missed)


def test_a_probe_that_loses_more_than_a_point_is_refused_though_the_cosines_are_high() -> None:
    judge, vectors = sides(0.0)
    # The class is told by a part of the vector that is small beside the rest.
    before = np.concatenate([np.full((1_000, 1), 60.0), vectors], axis=1).astype(np.float32)
    after = np.concatenate([np.full((1_000, 1), 60.0), vectors * 0 + vectors[::-1] * 0.2], axis=1).astype(np.float32)
    found = Judge(before, judge.labels, judge.contents, judge.groups).judge(after)
    assert found.p1_cosine > 0.98
    assert any("accuracy" in text for text in failures(found))


def test_with_few_labels_the_difference_itself_is_held_to_the_point() -> None:
    found = Fidelity(
        items=300, mean_cosine=1, p1_cosine=1, overlap=1, labelled=300,
        accuracy=0.80, accuracy_before=0.805, accuracy_low=-0.03, accuracy_high=0.02,
    )  # fmt: skip
    assert failures(found) == ()
    assert failures(Fidelity(**{**{n: getattr(found, n) for n in found.__slots__}, "labelled": 1_000}))
