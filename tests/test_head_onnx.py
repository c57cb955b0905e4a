"""Heads as ONNX: every kind alone, fused to a backbone of pictures and of texts, refused where it differs."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import head_world
import numpy as np
import onnx
import onnxruntime
import pytest
import tables_kit
from cli_world import inside
from numpy.typing import NDArray
from stores import damage, fresh

import featstore
from featstore import founding
from featstore.errors import GateError, IntegrityError, NotFoundError, UsageError
from featstore.heads import graph
from featstore.heads.exporting import export_head
from featstore.heads.head import Head
from featstore.inputs.texts import Tokenizer, pad
from featstore.layout import Layout
from featstore.models import open_backbone
from featstore.models.session import open_graph
from featstore.store import Store

DIM = 16
CLASSES = ("bird", "cat", 'Öl, "x"\n')


def knn(task: str, classes: tuple[str, ...], *, m: int = 300, k: int = 20, seed: int = 0) -> Head:
    generator = np.random.default_rng(seed)
    known = generator.standard_normal((m, DIM)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    if task == "classification":
        target = np.eye(len(classes), dtype=np.float32)[generator.integers(0, len(classes), m)]
    elif task == "multilabel":
        target = (generator.random((m, len(classes))) < 0.3).astype(np.float32)
    else:
        target = generator.standard_normal((m, 1)).astype(np.float32)
    settings = {"k": float(k), "tau": 0.07} | ({} if task == "regression" else {"temperature": 0.8})
    return Head(task, "knn", classes, DIM, "unit", {"known": known, "known_target": target}, settings)  # type: ignore[arg-type]


HEADS = {
    **{f"linear {way}": head_world.linear("classification", CLASSES, DIM, input=way)
       for way in ("raw", "unit", "standard", "centred")},
    "linear multilabel": head_world.linear("multilabel", CLASSES, DIM),
    "linear regression": head_world.linear("regression", (), DIM),
    "two classes": head_world.linear("classification", ("no", "yes"), DIM),
    "mlp": head_world.mlp("classification", CLASSES, DIM),
    "mlp multilabel": head_world.mlp("multilabel", CLASSES, DIM),
    "mlp regression": head_world.mlp("regression", (), DIM),
    "knn": knn("classification", CLASSES),
    "knn multilabel": knn("multilabel", CLASSES),
    "knn regression": knn("regression", ()),
    "knn of few": knn("classification", CLASSES, m=5),
}  # fmt: skip


def run(content: bytes, inputs: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def tiny(folder: Path, head: Head, **fields: object) -> Layout:
    layout, features, _ = tables_kit.filled(folder, rows=500, dim=head.dim)
    founding.found(layout)
    head_world.keep(layout, head, space_id=features.space_id, **fields)
    return layout


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_every_kind_of_head_says_the_same_as_a_graph(name: str, double: bool) -> None:
    head = HEADS[name]
    vectors = 3 * tables_kit.vectors(400, DIM)
    if head.kind != "knn":  # for which all items are equally near to nothing
        vectors[7] = 0
    content = graph.finished(graph.alone(head, double=double), {})
    found = run(content, {"vector": vectors})
    if head.task == "regression":
        np.testing.assert_allclose(found["value"], head.predict(vectors), atol=1e-5)
        return
    np.testing.assert_allclose(found["probabilities"], head.probabilities(vectors), atol=1e-6 if double else 1e-5)
    assert found["probabilities"].dtype == np.float32
    if head.task == "multilabel":
        assert (found["labels"] == head.predict(vectors)).mean() > 0.999
    else:
        assert (found["label"] == head.predict(vectors)).mean() > 0.995
        assert found["label"].dtype == np.int64


def test_a_graph_takes_any_number_of_vectors_and_the_same_row_gives_the_same() -> None:
    content = graph.finished(graph.alone(HEADS["linear standard"]), {})
    vectors = tables_kit.vectors(64, DIM)
    whole = run(content, {"vector": vectors})["probabilities"]
    alone = np.concatenate([run(content, {"vector": vectors[at : at + 1]})["probabilities"] for at in range(8)])
    np.testing.assert_allclose(whole[:8], alone, atol=1e-6)


def test_a_backbone_may_call_its_values_as_a_head_does() -> None:
    from onnx import TensorProto, helper

    head = head_world.linear("classification", ("a", "b"), 4)
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "vector")]
    steps = ("input", "probabilities", "label", "vector")
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(steps)]
    inner = helper.make_graph(nodes, "backbone", sides[:1], sides[1:])
    backbone = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = graph.finished(graph.behind(backbone.SerializeToString(), head, name="backbone"), {})
    vectors = np.abs(tables_kit.vectors(3, 4))
    said = open_graph(content, name="whole").run({"input": vectors})["probabilities"]
    assert np.allclose(said, head.probabilities(vectors), atol=1e-5)


def test_a_kept_file_names_its_classes_and_its_origin_and_is_the_same_twice(tmp_path: Path) -> None:
    layout = tiny(tmp_path, HEADS["mlp"])
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    done = export_head(layout, "kinds", first)
    export_head(layout, "kinds:1", second)
    assert first.read_bytes() == second.read_bytes()
    assert (done.compared, done.agreement) == (500, 1.0)
    assert done.difference <= 1e-5
    assert done.inputs == {"vector": "float32 (batch, 16)"}
    assert done.outputs == {"probabilities": "float32 (batch, 3)", "label": "int64 (batch)"}
    assert done.bytes == first.stat().st_size
    notes = {prop.key: prop.value for prop in onnx.load(first).metadata_props}
    assert tuple(json.loads(notes["classes"])) == CLASSES
    about = json.loads(notes["featstore"])
    assert (about["head"], about["version"], about["space_id"]) == ("kinds", 1, tables_kit.SPACE)
    assert {opset.domain for opset in onnx.load(first).opset_import} == {""}


def test_where_float32_is_not_enough_the_head_is_computed_in_float64(tmp_path: Path) -> None:
    """Weights that cancel: the values are far from zero, and what tells classes apart is small beside them."""
    head = head_world.linear("classification", CLASSES, DIM, input="raw")
    weights = head.arrays["weights"] * 1e4
    weights -= weights.mean(axis=1, keepdims=True)
    head = dataclasses.replace(
        head, arrays={"weights": weights, "bias": head.arrays["bias"]}, settings={"temperature": 300.0}
    )
    vectors = (1e3 + tables_kit.vectors(500, DIM)).astype(np.float32)
    single = run(graph.finished(graph.alone(head), {}), {"vector": vectors})["probabilities"]
    assert np.abs(single - head.probabilities(vectors)).max() > 1e-4
    layout = tables_kit.layout_at(tmp_path)
    from featstore.tables import FeatureTable

    table = FeatureTable.staging(layout, "photos", tables_kit.SPACE, DIM)
    part = table.write_part("run1", 0, table.align(tables_kit.raw_rows(500)), vectors)
    table.commit(run_id="run1", add=[part])
    founding.found(layout)
    head_world.keep(layout, head, space_id=tables_kit.SPACE)
    done = export_head(layout, "kinds", tmp_path / "head.onnx")
    assert done.difference < 1e-4
    assert "Cast" in {node.op_type for node in onnx.load(tmp_path / "head.onnx").graph.node}
    found = run((tmp_path / "head.onnx").read_bytes(), {"vector": vectors})["probabilities"]
    np.testing.assert_allclose(found, head.probabilities(vectors), atol=1e-4)


def test_a_graph_that_says_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = tiny(tmp_path, HEADS["linear raw"])
    file = tmp_path / "head.onnx"
    file.write_bytes(b"the old one")
    right = graph.alone

    def wrong(head: Head, *, double: bool = False) -> onnx.ModelProto:
        changed = {**head.arrays, "bias": head.arrays["bias"] + [0.01, 0, 0]}
        return right(dataclasses.replace(head, arrays=changed), double=double)

    monkeypatch.setattr(graph, "alone", wrong)
    with pytest.raises(GateError, match="probabilities differ by up to"):
        export_head(layout, "kinds", file)
    assert file.read_bytes() == b"the old one"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    layout = tiny(tmp_path, HEADS["linear raw"])
    for output, format, message in (
        (tmp_path / "head.txt", None, "which format"),
        (tmp_path / "head", "pickle", "cannot be written as pickle"),
        (tmp_path, "onnx", "is a folder"),
        (layout.storage.local("head.onnx"), None, "within the store"),
    ):
        with pytest.raises(UsageError, match=message):
            export_head(layout, "kinds", output, format=format)
    with pytest.raises(NotFoundError, match="whose model is not in the store"):
        export_head(layout, "kinds", tmp_path / "head.onnx", fused=True)
    with pytest.raises(NotFoundError, match="no version 7; it has 1"):
        export_head(layout, "kinds:7", tmp_path / "head.onnx")


# ── fused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def world(model_store: Path, photos: Path, texts_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Photographs and sentences with a head of each; not to be changed."""
    store = fresh(model_store, tmp_path_factory.mktemp("fused"))
    pictures = store.extract(photos, model="efficientnet_lite0", label_from="folder", name="photos")
    notes = store.extract(texts_csv, model="minilm", text_column=("text",), id_column="id", label_column="topic")
    for table, head in ((pictures, "flowers"), (notes, "topics")):
        labels = [str(label) for label in table.features.rows(["label"])["label"].to_pylist()]
        head_world.train(store.layout, table.features, labels, name=head)
    return store


@pytest.mark.heavy
def test_from_pixels_to_probabilities_in_one_file(world: Store, tmp_path: Path) -> None:
    file = tmp_path / "flowers.onnx"
    done = world.export_head("flowers", file, fused=True)
    assert done.compared == 12 + 64 + 64
    assert (done.difference <= 1e-5, done.agreement) == (True, 1.0)
    assert list(done.inputs) == ["image"]
    card = world.table("photos").card
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 256, (3, *card.image.crop, 3), dtype=np.uint8)  # type: ignore[union-attr]
    found = run(file.read_bytes(), {"image": batch})
    from featstore.heads.opening import open_head

    _, head = open_head(world.layout, "flowers")
    expected = head.probabilities(open_backbone(world.layout, card, device="cpu").images(batch))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    about = json.loads({p.key: p.value for p in onnx.load(file).metadata_props}["featstore"])
    assert about["preprocessing"]["crop"] == list(card.image.crop)  # type: ignore[union-attr]
    assert about["licence"] == card.weights.licence


@pytest.mark.heavy
def test_from_token_ids_to_probabilities_in_one_file(world: Store, tmp_path: Path) -> None:
    file = tmp_path / "topics.onnx"
    done = world.export_head("topics", file, fused=True)
    assert (done.difference <= 1e-5, done.agreement) == (True, 1.0)
    card = world.table("sentences").card
    assert card.text is not None
    tokenizer = Tokenizer(world.layout.storage.local(world.layout.model(card.space_id, "tokenizer.json")), card.text)
    ids, mask = pad(tokenizer.encode(["A kitten sleeps.", "Interest rates rose again this month."])[0], card.text)
    given = {"input_ids": ids, "attention_mask": mask}
    found = run(file.read_bytes(), {name: given[name] for name in card.text.inputs})
    classes = json.loads({p.key: p.value for p in onnx.load(file).metadata_props}["classes"])
    assert [classes[at] for at in found["label"]] == ["cats", "money"]


def test_a_damaged_model_or_head_is_told_before_anything_is_written(
    world: Store, model_store: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(world.path, tmp_path / "copy")
    store = featstore.open(tmp_path / "copy")
    space = world.table("photos").space_id
    damage(store.layout.storage.local(store.layout.model(space, "model.onnx")), "flip", bit=12345)
    with pytest.raises(IntegrityError, match=r"model\.onnx is damaged"):
        store.export_head("flowers", tmp_path / "x.onnx", fused=True)
    damage(store.layout.storage.local(store.layout.head("flowers", 1, "head.safetensors")), "flip", bit=999)
    with pytest.raises(IntegrityError, match=r"head\.safetensors is damaged"):
        store.export_head("flowers", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_the_command_writes_a_head_where_a_head_is_named(world: Store, tmp_path: Path) -> None:
    at = ("--store", str(world.path))
    done = inside("export", "flowers", "-o", "flowers.onnx", *at, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "vector float32 (batch, 1280) → probabilities float32 (batch, 2), label int64 (batch)" in done.out
    assert "compared on 76 items" in done.out
    done = inside("export", "flowers:1", "-o", "flowers", "--format", "onnx", "--json", *at, cwd=tmp_path)
    assert (done.json["head"], done.json["fused"], done.json["agreement"]) == ("flowers", False, 1.0)
    assert inside("export", "flowers", "-o", "flowers.csv", *at, cwd=tmp_path).code == 2
    refused = inside("export", "flowers", "-o", "f.onnx", "--where", "label = 'x'", *at, cwd=tmp_path)
    assert refused.code == 2
    assert "--where is for tables" in refused.err
    assert inside("export", "photos", "-o", "photos.onnx", *at, cwd=tmp_path).code == 2
