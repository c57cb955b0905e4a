"""``models bench``: ways of running a model side by side, and the choice that is kept for a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_world import inside, schema
from jsonschema import validate
from stores import copy_models

import featstore
from featstore.encode import tuning
from featstore.encode.opening import open_encoder
from featstore.errors import FeatstoreError, InterruptedRunError, NotFoundError, SettingsError, UsageError
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.models import load_card
from featstore.records import Manifest, ModelCard, TunedChoice
from featstore.settings import ExtractSettings
from featstore.storage import Storage, documents


@pytest.fixture
def layout(model_store: Path, tmp_path: Path) -> Layout:
    return Layout(Storage.at(copy_models(model_store, tmp_path / "store")))


def _card(layout: Layout, model: str) -> ModelCard:
    (space_id,) = (name for name in layout.storage.folders("models") if name.startswith(model))
    return load_card(layout, space_id)


def _choice(**changed: object) -> TunedChoice:
    cpu, cores, versions = tuning.hardware()
    plain = TunedChoice(
        cpu=cpu, cores=cores, versions=versions, backend="openvino", workers=1, batch_size=None, token_budget=96,
        items_per_s=1.0, source="built-in samples", measured_ts="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return replace(plain, **changed)  # type: ignore[arg-type]


def _settings(**given: object) -> ExtractSettings:
    return ExtractSettings(source="", model="minilm", **given)  # type: ignore[arg-type]


def test_every_way_is_timed_in_every_round_and_one_is_the_best(layout: Layout) -> None:
    store = featstore.open(layout.storage.root)
    found = store.bench_model("efficientnet_lite0", batch=(2, 4), threads=(1,), seconds=0.2)
    assert [(line.backend, line.batch) for line in found.lines] == [
        ("onnxruntime", 2), ("onnxruntime", 4), ("openvino", 2), ("openvino", 4),
    ]  # fmt: skip
    for line in found.lines:
        assert len(line.rounds) == 5
        assert 0 < line.low <= line.items_per_s <= line.high
        assert line.items_per_s == pytest.approx(np.median(line.rounds))
    assert sum(line.best for line in found.lines) == 1
    assert (found.source, found.kept) == (None, ())
    assert tuning.kept(layout, _card(layout, "efficientnet")) is None


@pytest.mark.heavy
def test_what_is_kept_is_used_where_nothing_is_said(layout: Layout, texts_csv: Path) -> None:
    card = _card(layout, "minilm")
    store = featstore.open(layout.storage.root)
    found = store.bench_model(
        "minilm",
        texts_csv,
        text_column="text",
        backend=("openvino",),
        threads=(1,),
        batch=(96,),
        seconds=0.2,
        keep=True,
    )
    assert found.items == 12
    assert found.kept == (card.space_id,)
    opened = open_encoder(layout, card, _settings())
    assert opened.backbone.runtime.startswith("openvino ")
    assert (opened.threads, opened.batch) == (1, 96)
    # Flags win, each for itself.
    said = open_encoder(layout, card, _settings(backend="onnxruntime", token_budget=64))
    assert said.backbone.runtime.startswith("onnxruntime ")
    assert (said.threads, said.batch) == (1, 64)
    run = store.extract(texts_csv, model="minilm", text_column="text", workers=2).last_run
    assert run is not None
    assert run.run_id is not None
    manifest = documents.read(layout.storage, layout.manifest(run.run_id), Manifest)
    origins = {name: (manifest.settings[name].value, manifest.settings[name].origin) for name in tuning.CHOSEN}
    assert origins == {
        "backend": ("openvino", "models bench"),
        "workers": (2, "flag"),
        "batch_size": (None, "default"),
        "token_budget": (96, "models bench"),
    }
    assert run.backend is not None
    assert run.backend.startswith("openvino ")


def test_a_choice_is_for_one_kind_of_machine(layout: Layout) -> None:
    card = _card(layout, "minilm")
    for other in ({"cpu": "another"}, {"cores": 4096}, {"versions": {"openvino": "1.0"}}):
        tuning.keep(layout, card, _choice(**other))
        assert tuning.kept(layout, card) is None
    assert tuning.applied(layout, card, _settings()) == _settings()
    tuning.keep(layout, card, _choice())
    tuning.keep(layout, card, _choice(token_budget=128))  # in the place of the one before
    kept = tuning.kept(layout, card)
    assert kept is not None
    assert kept.token_budget == 128
    assert tuning.applied(layout, card, _settings(device="cuda")) == _settings(device="cuda")
    path = layout.storage.local(layout.tuning(card.space_id))
    validate(documents.to_json(kept), schema("documents/tuning.json")["$defs"]["TunedChoice"])
    path.chmod(0o644)
    path.write_text("{}")
    assert tuning.kept(layout, card) is None  # a damaged note is no reason not to work


class _Stop(Reporter):
    """Ends a run after its first shard."""

    def __init__(self) -> None:
        self.shards = 0

    def between(self) -> None:
        self.shards += 1
        if self.shards == 2:
            raise InterruptedRunError("stopped here", signum=15)


@pytest.mark.parametrize("first", [None, 64])
@pytest.mark.heavy
def test_an_unfinished_run_goes_on_as_it_began(layout: Layout, texts_csv: Path, first: int | None) -> None:
    """Texts' vectors depend on their batches: a choice kept in between changes the next run, not this one."""
    card = _card(layout, "minilm")
    store = featstore.open(layout.storage.root)
    given = {"model": "minilm", "text_column": "text", "shard_items": 4}
    if first is not None:
        tuning.keep(layout, card, _choice(token_budget=first))
    whole = store.extract(texts_csv, name="whole", **given).last_run  # type: ignore[arg-type]
    with pytest.raises(InterruptedRunError):
        store.extract(texts_csv, name="texts", reporter=_Stop(), **given)  # type: ignore[arg-type]
    tuning.keep(layout, card, _choice(backend="onnxruntime", token_budget=32))
    run = store.extract(texts_csv, name="texts", **given).last_run  # type: ignore[arg-type]
    assert whole is not None
    assert run is not None
    assert (run.shards, run.resumed_shards) == (3, 1)
    assert run.backend == whole.backend
    (ids, vectors), (whole_ids, whole_vectors) = store.table("texts").matrix(), store.table("whole").matrix()
    assert list(ids) == list(whole_ids)
    assert np.array_equal(vectors, whole_vectors)
    # The next one is made as was chosen since.
    after = store.extract(texts_csv, name="after", **given).last_run  # type: ignore[arg-type]
    assert after is not None
    assert after.run_id is not None
    manifest = documents.read(layout.storage, layout.manifest(after.run_id), Manifest)
    assert manifest.settings["token_budget"].value == 32


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"precision": ("fp8",)}, UsageError, "no precision 'fp8'"),
        ({"precision": ("int8",)}, UsageError, "no int8 version"),
        ({"backend": ("tensorrt",)}, UsageError, "no backend 'tensorrt'"),
        ({"threads": (0,)}, UsageError, "at least 1"),
        ({"batch": (4,)}, UsageError, "at least 16 tokens"),
        ({"seconds": 0.0}, SettingsError, "more than 0"),
        ({"table": "none"}, NotFoundError, "no table 'none'"),
        ({"source": "somewhere", "table": "none"}, SettingsError, "both named"),
        ({"source": "nowhere"}, FeatstoreError, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    layout: Layout, wrong: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        featstore.open(layout.storage.root).bench_model("minilm", **wrong)  # type: ignore[arg-type]


@pytest.mark.heavy
def test_the_command_prints_a_table_or_json(layout: Layout, photos: Path, tmp_path: Path) -> None:
    store = featstore.open(layout.storage.root)
    store.extract(photos, model="efficientnet_lite0", name="pictures")
    asked = ("models", "bench", "efficientnet_lite0", "--store", "store", "--table", "pictures", "--threads", "1")
    done = inside(*asked, "--batch", "2", "--seconds", "0.2", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    validate(done.json, schema("outputs/models-bench.json"))
    assert done.json["items"] == 12
    shown = inside(*asked, "--batch", "2", "--seconds", "0.2", "--keep", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "best" in shown.out
    assert "kept for efficientnet_lite0" in shown.out
    refused = inside("models", "bench", "minilm", "--store", "store", "--batch", "many", cwd=tmp_path)
    assert refused.code == 2
    assert "whole numbers" in refused.err
