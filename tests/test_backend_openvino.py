"""``--backend openvino``: the same vectors by another runtime, under the same canaries."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import copy_models, damage

import featstore
from featstore import models
from featstore.errors import IntegrityError, RetryableError, UsageError
from featstore.layout import Layout
from featstore.models import check_canaries, load_card, openvino_session
from featstore.models.parity import canary_batches, canary_vectors
from featstore.records import Manifest, ModelCard
from featstore.settings import ExtractSettings
from featstore.storage import Storage, documents
from featstore.upkeep.doctor import doctor

MODELS = ("efficientnet_lite0", "minilm")


@pytest.fixture
def layout(model_store: Path, tmp_path: Path) -> Layout:
    return Layout(Storage.at(copy_models(model_store, tmp_path / "store")))


def _card(layout: Layout, model: str) -> ModelCard:
    (space_id,) = (name for name in layout.storage.folders("models") if name.startswith(model))
    return load_card(layout, space_id)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.heavy
def test_fp32_stays_fp32_and_the_canaries_agree(layout: Layout, model: str) -> None:
    card = _card(layout, model)
    backbone = models.open_backbone(layout, card, backend="openvino", callers=2)
    assert (backbone.device, backbone.runtime) == ("cpu", openvino_session.runtime())
    check_canaries(layout, card, backbone)
    made = [(backbone.images if card.image else backbone.texts)(*batch) for batch in canary_batches(layout, card)]
    kept = canary_vectors(layout, card)
    if card.image is not None:  # the batches of images are in the vectors' order
        wanted, found = kept.astype(np.float64), np.concatenate(made).astype(np.float64)
        cosines = (wanted * found).sum(1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(found, axis=1)
        assert cosines.min() > 0.999999  # bfloat16 leaves about 0.9999
    other = models.open_backbone(layout, card, backend="openvino", callers=1)
    for batch, vectors in zip(canary_batches(layout, card), made, strict=True):
        again = (other.images if card.image else other.texts)(*batch)
        assert np.array_equal(again, vectors)  # whatever the number of streams


@pytest.mark.heavy
def test_the_note_of_checked_combinations_names_the_backend(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    card = _card(layout, "minilm")
    ours = models.open_backbone(layout, card)
    check_canaries(layout, card, ours)
    other = models.open_backbone(layout, card, backend="openvino")
    check_canaries(layout, card, other)
    note = layout.storage.read(layout.model(card.space_id, "checked.json")).decode()
    assert ours.runtime in note
    assert other.runtime in note
    # One that computes something else does not get in.
    monkeypatch.setattr(openvino_session, "runtime", lambda: "openvino 0.0")
    wrong = models.open_backbone(layout, card, backend="openvino")
    compute = wrong._compute
    wrong._compute = lambda inputs: compute(inputs)[:, ::-1].copy()
    with pytest.raises(IntegrityError, match=r"with openvino 0\.0 than when its space was made"):
        check_canaries(layout, card, wrong)


@pytest.mark.heavy
def test_several_threads_get_their_own_vectors(layout: Layout) -> None:
    card = _card(layout, "minilm")
    backbone = models.open_backbone(layout, card, backend="openvino", callers=4)
    batches = list(canary_batches(layout, card))
    alone = [backbone.texts(*batch) for batch in batches]
    wrong: list[int] = []

    def call(start: int) -> None:
        for at in range(start, start + len(batches)):
            number = at % len(batches)
            if not np.array_equal(backbone.texts(*batches[number]), alone[number]):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(at * 3,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_shapes_outputs_and_memory_are_looked_at_as_with_the_default(layout: Layout) -> None:
    card = _card(layout, "efficientnet_lite0")
    assert card.image is not None
    backbone = models.open_backbone(layout, card, backend="openvino")
    with pytest.raises(UsageError, match="takes uint8"):
        backbone.images(np.zeros((1, 8, 8, 3), np.uint8))
    assert backbone.images(np.zeros((0, *card.image.crop, 3), np.uint8)).shape == (0, card.dim)
    batch = np.zeros((1, *card.image.crop, 3), np.uint8)

    def fails(_: object) -> np.ndarray:
        raise RuntimeError("Exception from src/inference: std::bad_alloc")

    compute, backbone._compute = backbone._compute, fails
    with pytest.raises(RetryableError, match="out of memory on cpu with 1 items"):
        backbone.images(batch)
    backbone._compute = lambda inputs: compute(inputs)[:, :7]
    with pytest.raises(IntegrityError, match="gave float32"):
        backbone.images(batch)


def test_a_graph_that_reaches_out_or_is_none_is_refused_before_it_is_opened(layout: Layout) -> None:
    card = _card(layout, "efficientnet_lite0")
    path = layout.storage.local(layout.model(card.space_id, "model.onnx"))
    damage(path, "short")
    with pytest.raises(IntegrityError, match="is damaged"):
        models.open_backbone(layout, card, backend="openvino")
    with pytest.raises(IntegrityError, match="no ONNX model"):
        models.session.open_bytes(card, b"nothing", name="model.onnx", device="cpu", backend="openvino")
    with pytest.raises(IntegrityError, match="OpenVINO cannot open it"):
        openvino_session.compile_graph(b"nothing", name="it", output="vector", threads=1, callers=1)


def test_without_the_package_it_says_how_to_get_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    card = _card(layout, "minilm")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "openvino" else real(n, *a))
    with pytest.raises(UsageError, match="needs the package openvino") as error:
        models.open_backbone(layout, card, backend="openvino")
    assert "pip install 'featstore[openvino]'" in str(error.value.hint)


def test_it_runs_on_the_cpu_only(layout: Layout, texts_csv: Path) -> None:
    card = _card(layout, "minilm")
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match="runs on the CPU only"):
            models.open_backbone(layout, card, backend="openvino", device=device)
    assert models.open_backbone(layout, card, backend="openvino", device="auto").device == "cpu"
    with pytest.raises(UsageError, match="there is no backend 'tensorrt'"):
        models.open_backbone(layout, card, backend="tensorrt")
    store = featstore.open(layout.storage.root)
    with pytest.raises(UsageError, match="runs on the CPU only"):  # before the source is scanned
        store.extract(texts_csv, model="minilm", text_column="text", backend="openvino", device="cuda")


def test_an_extract_says_what_it_ran_on_and_gives_the_same_vectors(layout: Layout, photos: Path) -> None:
    store = featstore.open(layout.storage.root)
    done = store.extract(photos, model="efficientnet_lite0", backend="openvino").last_run
    assert done is not None
    assert (done.device, done.backend) == ("cpu", openvino_session.runtime())
    assert done.run_id is not None
    manifest = documents.read(layout.storage, layout.manifest(done.run_id), Manifest)
    assert (manifest.settings["backend"].value, manifest.settings["backend"].origin) == ("openvino", "flag")
    assert manifest.versions["openvino"] in openvino_session.runtime()
    plain = store.extract(photos, model="efficientnet_lite0", name="plain").last_run
    assert plain is not None
    assert plain.backend is not None
    assert plain.backend.startswith("onnxruntime ")
    one, other = store.table(done.table).matrix()[1], store.table("plain").matrix()[1]
    assert np.abs(one - other).max() < 1e-3
    again = store.extract(photos, model="efficientnet_lite0", name="again", backend="openvino", workers=1).last_run
    assert again is not None
    assert again.stored == done.stored
    assert np.array_equal(store.table("again").matrix()[1], one)  # whatever the number of threads


def test_nothing_is_reported_and_nothing_written_beside_the_store(layout: Layout, tmp_path: Path) -> None:
    """Its converter would send an event at every import, and note so in the home folder."""
    card = _card(layout, "minilm")
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import no_sockets; no_sockets.shut()\n"
        "from featstore import models\nfrom featstore.layout import Layout\nfrom featstore.storage import Storage\n"
        f"layout = Layout(Storage.at({str(layout.storage.root)!r}))\n"
        f"card = models.load_card(layout, {card.space_id!r})\n"
        "models.check_canaries(layout, card, models.open_backbone(layout, card, backend='openvino', callers=2))\n"
        "print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules, 'torch' in sys.modules)\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=home, env={**env, "HOME": str(home)},
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False", "False"]
    assert [path.name for path in home.iterdir()] == []


def test_doctor_runs_it(layout: Layout) -> None:
    found = {check.name: check for check in doctor(layout).checks}
    assert found["openvino"].value in openvino_session.runtime()
    assert found["backend openvino"].status == "ok"
    assert "one item in" in found["backend openvino"].value


def test_a_setting_chooses_it(layout: Layout) -> None:
    from featstore.encode.opening import open_encoder

    card = _card(layout, "minilm")
    settings = ExtractSettings(source="", model=card.space_id)
    assert open_encoder(layout, card, settings).backbone.runtime.startswith("onnxruntime ")
    chosen = open_encoder(layout, card, replace(settings, backend="openvino", workers=1))
    assert chosen.backbone.runtime == openvino_session.runtime()
