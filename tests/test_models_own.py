"""Own ONNX files: what the graph says counts, nothing of it is believed, and it computes what it did."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_world import inside, photos, schema
from model_fixtures import layout_at
from onnx import TensorProto, helper, numpy_helper
from own_models import DIM, SIDE, TOKENS, image_card, image_model, save, text_card, text_model, tokenizer

import featstore
from featstore import founding
from featstore.errors import FeatstoreError, GateError, IntegrityError, NotFoundError, UsageError
from featstore.models import (
    Backbone,
    ModelOptions,
    ModelRequest,
    check_canaries,
    describe,
    ensure,
    find,
    fingerprint,
    modality_of,
    open_backbone,
    samples,
)
from featstore.records import ModelCard


def _kept(store: Path, path: Path, **options: Any) -> tuple[ModelCard, Backbone]:
    layout = layout_at(store)
    card = ensure(layout, ModelRequest(model=str(path), options=ModelOptions(**options)))
    backbone = open_backbone(layout, card, device="cpu")
    check_canaries(layout, card, backbone)
    return card, backbone


def _run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """The file as it lies there, by the runtime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def _normalised(pictures: np.ndarray) -> np.ndarray:
    how = image_card()["image"]
    return ((pictures.astype(np.float32) / 255 - np.float32(how["mean"])) / np.float32(how["std"])).astype(np.float32)


PICTURES = samples.pictures(5, SIDE, SIDE, seed=9)


# ── images ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["uint8 NHWC", "float NCHW", "float NHWC"])
@pytest.mark.parametrize("opset", [13, 18, 22])
def test_an_image_graph_gives_the_vectors_that_it_gave(layout: str, opset: int, tmp_path: Path) -> None:
    path = save(tmp_path, image_model(layout, opset=opset), image_card(layout))
    card, backbone = _kept(tmp_path / "store", path)
    ready = {"uint8 NHWC": PICTURES, "float NHWC": _normalised(PICTURES)}
    given = ready.get(layout, _normalised(PICTURES).transpose(0, 3, 1, 2))
    assert np.allclose(backbone.images(PICTURES), _run(path, pixels=given), atol=1e-5)
    assert card.image is not None
    assert (card.image.resize, card.image.crop, card.dim, card.modality) == ((36, 36), (SIDE, SIDE), DIM, "image")
    assert (card.model, card.weights.licence, card.weights.parameters >= 704) == ("net.onnx", "MIT", True)
    assert card.parity.min_cosine > 0.9999
    assert card.parity.batch_min_cosine > 0.9999
    assert "without optimisation" in card.parity.reference


def test_the_three_input_layouts_of_one_network_agree(tmp_path: Path) -> None:
    found = []
    for layout in ("uint8 NHWC", "float NCHW", "float NHWC"):
        path = save(tmp_path / layout[:7], image_model(layout), image_card(layout), name=layout.split()[1])
        found.append(_kept(tmp_path / "store", path))
    for _, backbone in found[1:]:
        assert np.allclose(backbone.images(PICTURES), found[0][1].images(PICTURES), atol=1e-5)
    assert len({card.space_id for card, _ in found}) == 3  # said in three ways: three spaces, never mixed up


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", np.mean), ("max", np.max), ("cls", None)])
@pytest.mark.parametrize("opset", [13, 18])
def test_patch_tokens_are_pooled_as_the_card_says(
    pooling: str, reduce: Callable[..., np.ndarray] | None, opset: int, tmp_path: Path
) -> None:
    path = save(tmp_path, image_model(shape="tokens", opset=opset), image_card(pooling=pooling))
    card, backbone = _kept(tmp_path / "store", path)
    tokens = _run(path, pixels=_normalised(PICTURES).transpose(0, 3, 1, 2))
    wanted = tokens[:, 0] if reduce is None else reduce(tokens, axis=1)
    assert np.allclose(backbone.images(PICTURES), wanted, atol=1e-5)
    assert (card.dim, card.pooling) == (8, pooling)
    other = {"mean": "max", "max": "cls", "cls": "mean"}[pooling]
    changed, _ = _kept(tmp_path / "store", path, pooling=other)  # --pooling wins over the card, in another space
    assert changed.pooling == other
    assert changed.space_id != card.space_id


def test_dim_keeps_the_first_values_at_length_one(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card())
    whole_card, whole = _kept(tmp_path / "store", path)
    card, cut = _kept(tmp_path / "store", path, dim=5)
    wanted = whole.images(PICTURES)[:, :5]
    assert np.allclose(cut.images(PICTURES), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert (card.dim, card.normalize, whole_card.normalize) == (5, True, False)
    assert card.space_id != whole_card.space_id
    with pytest.raises(UsageError, match=f"gives {DIM} values"):
        _kept(tmp_path / "store", path, dim=DIM + 1)


def test_a_claim_to_be_normalised_is_checked(tmp_path: Path) -> None:
    card, _ = _kept(tmp_path / "store", save(tmp_path, image_model(normalize=True), image_card(normalize=True)))
    assert card.normalize
    with pytest.raises(GateError, match="not of length 1"):
        _kept(tmp_path / "other", save(tmp_path, image_model(), image_card(normalize=True)))
    assert not layout_at(tmp_path / "other").storage.folders("models")


# ── texts ─────────────────────────────────────────────────────────────────────────────────────

IDS = np.array([[5, 9, 2, 7], [3, 8, 0, 0], [4, 0, 0, 0]], np.int64)
MASK = (IDS > 0).astype(np.int64)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
@pytest.mark.parametrize("opset", [13, 18])
def test_text_tokens_are_pooled_without_the_padding(pooling: str, opset: int, tmp_path: Path) -> None:
    path = save(tmp_path, text_model(opset=opset), text_card(pooling=pooling))
    card, backbone = _kept(tmp_path / "store", path)
    tokens = _run(path, input_ids=IDS, attention_mask=MASK)
    rows = [
        {"mean": own.mean(0), "cls": own[0], "last": own[-1], "max": own.max(0)}[pooling]
        for own in (row[: int(mask.sum())] for row, mask in zip(tokens, MASK, strict=True))
    ]
    assert np.allclose(backbone.texts(IDS, MASK), np.stack(rows), atol=1e-5)
    assert card.text is not None
    assert (card.text.max_length, card.text.inputs) == (24, ("input_ids", "attention_mask"))


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_inputs_of_other_names_and_types_are_understood(kind: int, tmp_path: Path) -> None:
    names = ("words", "there", "part")
    path = save(
        tmp_path,
        text_model("vectors", names=names, kind=kind),
        text_card(
            pooling="none",
            text={"inputs": {"input_ids": "words", "attention_mask": "there", "token_type_ids": "part"}},
        ),
    )
    _, backbone = _kept(tmp_path / "store", path)
    number = np.int32 if kind == TensorProto.INT32 else np.int64
    given = {"words": IDS, "there": MASK, "part": np.zeros_like(IDS)}
    wanted = _run(path, **{name: value.astype(number) for name, value in given.items()})
    assert np.allclose(backbone.texts(IDS, MASK), wanted, atol=1e-5)
    (path.parent / "net.card.json").write_text(json.dumps(text_card()))
    with pytest.raises(UsageError, match=r"words: int\d\d \(\?, \?\).*featstore gives input_ids"):
        _kept(tmp_path / "other", path)


def test_prompts_are_the_cards_unless_they_are_changed(tmp_path: Path) -> None:
    prompts = {"prompt_document": "passage: ", "prompt_query": "query: "}
    path = save(tmp_path, text_model(), text_card(text=prompts))
    card, _ = _kept(tmp_path / "store", path)
    changed, _ = _kept(tmp_path / "store", path, prompt_document="")
    for found, document in ((card, "passage: "), (changed, "")):
        assert found.text is not None
        assert (found.text.prompt_document, found.text.prompt_query) == (document, "query: ")
    assert card.space_id != changed.space_id
    image = save(tmp_path / "image", image_model(), image_card())
    with pytest.raises(UsageError, match="takes images"):
        _kept(tmp_path / "store", image, prompt_query="q")


def test_texts_and_photos_go_all_the_way_and_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    image = save(tmp_path / "image", image_model(), image_card())
    folder = photos(tmp_path / "photos", 4)
    table = store.extract(folder, model=str(image))
    assert (len(table), table.dim) == (4, DIM)
    again = store.extract(folder, model=str(image))
    assert again.last_run is not None
    assert (again.last_run.reused, again.last_run.stored) == (4, 0)
    words = save(tmp_path / "words", text_model(), text_card())
    (tmp_path / "texts.csv").write_text("id,text\na,a cat sat\nb,the dog ran far away\n")
    texts = store.extract(tmp_path / "texts.csv", model=str(words), text_column="text", id_column="id")
    ids, matrix = texts.matrix()
    table_of = numpy_helper.to_array(text_model().graph.initializer[0])
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 .,'-éüа东"
    row = table_of[[letters.index(c) + 2 for c in "a cat sat"]].mean(0) * 2
    assert np.allclose(matrix[list(ids).index("a")], row, atol=1e-5)


# ── spaces ────────────────────────────────────────────────────────────────────────────────────


def _other_words(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, written in another way."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    weights = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    for weight in weights:  # typed fields instead of raw bytes, other names
        array = numpy_helper.to_array(weight)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        new = helper.make_tensor(f"w.{weight.name}", kind, array.shape, array.ravel().tolist())
        new.doc_string = "trained on a Tuesday"
        model.graph.initializer.append(new)
    names = {weight.name: f"w.{weight.name}" for weight in weights}
    for node in model.graph.node:
        node.name, node.doc_string = f"node of {node.op_type}", "/home/somebody/train.py"
        node.input[:] = [names.get(name, name) for name in node.input]
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "somebody"
    model.producer_name, model.graph.name, model.doc_string = "by hand", "another", "long story"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def test_a_space_is_the_function_and_not_the_file(tmp_path: Path) -> None:
    first = save(tmp_path / "one", image_model(), image_card())
    second = save(tmp_path / "two", _other_words(image_model()), image_card(training_data="pictures", layer="pool"))
    assert first.read_bytes() != second.read_bytes()
    cards = [_kept(tmp_path / store, path)[0] for store, path in (("a", first), ("b", second))]
    assert cards[0].space_id == cards[1].space_id
    assert cards[0].digest == cards[1].digest
    assert ensure(layout_at(tmp_path / "a"), ModelRequest(model=str(second))) == cards[0]  # joins, is not made again
    stored = layout_at(tmp_path / "b")
    content = stored.storage.read(stored.model(cards[1].space_id, "model.onnx"))
    for told in (b"somebody", b"Tuesday", b"long story"):
        assert told not in content


def _changed(what: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    model, card = image_model(), image_card()
    if what == "weight":
        array = numpy_helper.to_array(model.graph.initializer[0]).copy()
        array[0, 0, 0, 0] += 1e-6
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, model.graph.initializer[0].name))
    elif what == "attribute":
        model = image_model()
        next(a for n in model.graph.node if n.op_type == "Conv" for a in n.attribute).ints[:] = [3, 3]
    elif what == "operator":
        next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Sigmoid"
    elif what == "operator set":
        model = image_model(opset=19)
    elif what == "mean":
        card = image_card(image={"mean": [0.5, 0.5, 0.5]})
    elif what == "resize":
        card = image_card(image={"resize": 40})
    elif what == "interpolation":
        card = image_card(image={"interpolation": "bicubic"})
    return model, card


def test_whatever_changes_the_vectors_makes_another_space(tmp_path: Path) -> None:
    digests = {}
    for what in ("", "weight", "attribute", "operator", "operator set", "mean", "resize", "interpolation"):
        path = save(tmp_path / (what or "plain"), *_changed(what))
        digests[what] = _kept(tmp_path / "store", path)[0].digest
    assert len(set(digests.values())) == len(digests)


def test_the_order_of_what_goes_in_matters_and_that_of_nodes_does_not(tmp_path: Path) -> None:
    def graph(first: list[str], swap: bool) -> onnx.ModelProto:
        left = helper.make_node("Relu", ["raw"], ["left"])
        right = helper.make_node("Sigmoid", ["raw"], ["right"])
        model = image_model()
        model.graph.node[-1].output[0] = "raw"
        model.graph.node.extend([right, left] if swap else [left, right])
        model.graph.node.append(helper.make_node("Sub", first, ["features"]))
        return model

    paths = {
        "plain": save(tmp_path / "1", graph(["left", "right"], False), image_card()),
        "nodes": save(tmp_path / "2", graph(["left", "right"], True), image_card()),
        "operands": save(tmp_path / "3", graph(["right", "left"], False), image_card()),
    }
    digests = {name: _kept(tmp_path / name, path)[0].digest for name, path in paths.items()}
    assert digests["plain"] == digests["nodes"] != digests["operands"]


def test_inner_graphs_and_functions_are_part_of_the_space_and_run(tmp_path: Path) -> None:
    def graph(factor: float, function: bool) -> onnx.ModelProto:
        model = image_model()
        model.graph.node[-1].output[0] = "raw"
        model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        value = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", DIM])
        if function:
            body = [helper.make_node("Mul", ["x", "y"], ["z"])]
            own = helper.make_function("mine", "Scale", ["x", "y"], ["z"], body, [helper.make_opsetid("", 18)])
            model.functions.append(own)
            model.opset_import.append(helper.make_opsetid("mine", 1))
            model.graph.node.append(helper.make_node("Scale", ["raw", "factor"], ["features"], domain="mine"))
            return model
        # "factor", an initializer outside, is used inside
        yes = helper.make_graph([helper.make_node("Mul", ["raw", "factor"], ["out"])], "yes", [], [value])
        no = helper.make_graph([helper.make_node("Neg", ["raw"], ["out"])], "no", [], [value])
        model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "condition"))
        model.graph.node.append(helper.make_node("If", ["condition"], ["features"], then_branch=yes, else_branch=no))
        return model

    plain = _kept(tmp_path / "plain", save(tmp_path / "p", image_model(), image_card()))[1].images(PICTURES)
    digests = set()
    for function in (False, True):
        for factor in (2.0, 3.0):
            folder = tmp_path / f"{function}{factor}"
            card, backbone = _kept(folder / "store", save(folder, graph(factor, function), image_card()))
            assert np.allclose(backbone.images(PICTURES), factor * plain, rtol=1e-5)
            digests.add(card.digest)
    assert len(digests) == 4


def test_a_new_card_or_tokenizer_is_noticed_and_an_unchanged_one_found(tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "store")
    path = save(tmp_path, text_model(), text_card())
    request = ModelRequest(model=str(path))
    assert find(layout, request) is None
    card = ensure(layout, request)
    assert find(layout, request) == card
    os.rename(path, tmp_path / "moved.onnx")
    os.rename(tmp_path / "net.card.json", tmp_path / "moved.json")
    moved = ensure(layout, ModelRequest(model=str(tmp_path / "moved.onnx")))
    assert moved.space_id == card.space_id  # the first name stays
    body = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    body["model"]["vocab"]["[UNK]"], body["model"]["vocab"]["a"] = body["model"]["vocab"]["a"], 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(body), "utf-8")
    assert find(layout, ModelRequest(model=str(tmp_path / "moved.onnx"))) is None
    assert ensure(layout, ModelRequest(model=str(tmp_path / "moved.onnx"))).digest != card.digest


# ── hostile and wrong files ───────────────────────────────────────────────────────────────────


def _external(location: str, name: str = "dense") -> TensorProto:
    tensor = numpy_helper.from_array(np.ones((8, DIM), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def _replace(model: onnx.ModelProto, tensor: TensorProto) -> onnx.ModelProto:
    kept = [t for t in model.graph.initializer if t.name != tensor.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, tensor])
    return model


def _outside(case: str, folder: Path) -> onnx.ModelProto:
    """A graph with a tensor in another file; the file is there, so that a reader would succeed."""
    weights = np.ones((8, DIM), np.float32).tobytes()
    secret = folder.parent / "secret.bin"
    secret.write_bytes(weights)
    places = {"parent": "../secret.bin", "absolute": str(secret), "missing": "nothing.bin", "beside": "weights.bin"}
    (folder / "weights.bin").write_bytes(weights)
    if case == "symlink":
        (folder / "link.bin").symlink_to(secret)
    if case == "hardlink":
        os.link(secret, folder / "link.bin")
    outer = _external(places.get(case, "link.bin" if case in ("symlink", "hardlink") else "../secret.bin"))
    model = image_model()
    if case in (*places, "symlink", "hardlink"):
        return _replace(model, outer)
    inner = helper.make_node("Constant", [], ["c"], value=_external("../secret.bin", "c"))
    value = helper.make_tensor_value_info("c", TensorProto.FLOAT, [8, DIM])
    if case == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(outer)
    elif case == "subgraph":
        deep = helper.make_graph([inner], "deep", [], [value])
        node = helper.make_node("If", ["t"], ["c"], then_branch=deep, else_branch=deep)
        middle = helper.make_graph([node], "middle", [], [value])
        model.graph.node.append(helper.make_node("If", ["t"], ["d"], then_branch=middle, else_branch=middle))
    elif case == "function":
        model.functions.append(helper.make_function("m", "f", [], ["c"], [inner], [helper.make_opsetid("", 18)]))
    elif case == "training":
        model.training_info.add().algorithm.node.append(inner)
    elif case == "disguised":  # the location alone, without the flag
        outer.data_location = TensorProto.DEFAULT
        outer.raw_data = weights
        _replace(model, outer)
    return model


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("a session was made"))


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    "case",
    [
        "parent", "absolute", "missing", "beside", "symlink", "hardlink", "sparse", "subgraph", "function", "training",
        "disguised",
    ],
)  # fmt: skip
def test_a_graph_that_reaches_for_another_file_is_refused_before_a_session_exists(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save(folder, _outside(case, folder), image_card())
    for use in (lambda r: ensure(layout_at(tmp_path / "store"), r), describe):
        with pytest.raises(IntegrityError, match=r"net\.onnx keeps the tensor '\w+' in another file") as caught:
            use(ModelRequest(model=str(path)))
        assert "external_data=False" in str(caught.value)
    (folder / "net.card.json").unlink()  # the template is not made of such a graph either
    with pytest.raises(IntegrityError, match="another file"):
        modality_of(ModelRequest(model=str(path)))
    assert not layout_at(tmp_path / "store").storage.folders("models")


def _wrong(case: str) -> tuple[onnx.ModelProto | bytes, dict[str, Any], str, type[FeatstoreError]]:
    model, card = image_model(), image_card()
    if case == "custom operator":
        model.graph.node[-1].domain = "evil.ops"
        return model, card, "evil.ops::MatMul", IntegrityError
    if case == "runtime's own operator":
        model.graph.node[-1].domain = "com.microsoft"
        return model, card, "com.microsoft::MatMul", IntegrityError
    if case == "redefined operator":
        body = [helper.make_node("Neg", ["a"], ["c"])]
        model.functions.append(helper.make_function("", "Relu", ["a"], ["c"], body, [helper.make_opsetid("", 18)]))
        return model, card, "redefines ONNX's own operator Relu", IntegrityError
    if case == "function without end":
        body = [helper.make_node("F", ["a"], ["c"], domain="m")]
        model.functions.append(helper.make_function("m", "F", ["a"], ["c"], body, [helper.make_opsetid("", 18)]))
        model.opset_import.append(helper.make_opsetid("m", 1))
        model.graph.node[-1].output[0] = "raw"
        model.graph.node.append(helper.make_node("F", ["raw"], ["features"], domain="m"))
        return model, card, "deep in each other", IntegrityError
    if case == "value from nowhere":
        model.graph.node[-1].input[0] = "nowhere"
        return model, card, "'nowhere', which nothing made", IntegrityError
    if case == "tensor too short":
        model.graph.initializer[0].raw_data = b"1234"
        return model, card, "tensor 'kernel' cannot be read", IntegrityError
    if case == "0 bytes":
        return b"", card, "no ONNX model", IntegrityError
    if case == "noise":
        return bytes(range(256)) * 9, card, "no ONNX model", IntegrityError
    if case == "half":
        whole = model.SerializeToString()
        return whole[: len(whole) // 2], card, "no ONNX model", IntegrityError
    if case == "fixed batch":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        return model, card, "fixed batch of 1", UsageError
    if case == "old operator set":
        return image_model(opset=11), card, "operator set 11", UsageError
    if case == "other dim":
        return model, image_card(dim=13), "gives 12 values; its card says 13", UsageError
    if case == "other crop":
        return model, image_card(image={"crop": [40, 40]}), "card says crop 40 x 40", UsageError
    if case == "any size":
        return image_model(side="s"), card, '"crop": ', UsageError
    if case == "no mean":
        return model, image_card("uint8 NHWC"), "must say mean and std", UsageError
    if case == "mean twice":
        return image_model("uint8 NHWC"), card, "must not say mean and std", UsageError
    if case == "tokens without pooling":
        return image_model(shape="tokens"), card, "must say pooling mean, cls or max", UsageError
    if case == "two outputs":
        model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["b", 8, 1, 1]))
        return model, card, r"2 outputs: features: float \(\?, 12\); pooled: float \(\?, 8, 1, 1\)", UsageError
    if case == "output of another name":
        return model, image_card(output="vector"), "no output 'vector': features", UsageError
    if case == "map":
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("active", TensorProto.FLOAT, ["b", 8, 7, 7]))
        return model, card, r"featstore takes float \(batch, values\)", UsageError
    if case == "doubles":
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        return model, card, r"pixels: double .* featstore gives uint8", UsageError
    if case == "texts":
        return text_model(), image_card(pooling="mean"), "has 2 inputs, an image model one", UsageError
    raise AssertionError(case)


WRONG = (
    "custom operator", "runtime's own operator", "redefined operator", "function without end", "value from nowhere",
    "tensor too short", "0 bytes", "noise", "half", "fixed batch", "old operator set", "other dim", "other crop",
    "any size", "no mean", "mean twice", "tokens without pooling", "two outputs", "output of another name", "map",
    "doubles", "texts",
)  # fmt: skip


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("case", WRONG)
def test_a_graph_that_does_not_fit_is_refused_before_a_session_exists(case: str, tmp_path: Path) -> None:
    model, card, message, kind = _wrong(case)
    path = save(tmp_path, image_model(), card)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(kind, match=message) as caught:
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))
    assert caught.value.exit_code == (4 if kind is IntegrityError else 2)
    assert not layout_at(tmp_path / "store").storage.folders("models")


def _unsound(case: str) -> tuple[onnx.ModelProto, dict[str, Any], str]:
    model, card = image_model(), image_card()
    if case == "mixes its batch":
        model.graph.node[-1].output[0] = "raw"
        model.graph.initializer.append(numpy_helper.from_array(np.int64([0]), "first"))
        model.graph.node.append(helper.make_node("ReduceMean", ["raw", "first"], ["all"], keepdims=1))
        model.graph.node.append(helper.make_node("Add", ["raw", "all"], ["features"]))
        return model, card, "between batches"
    if case == "draws lots":
        model.graph.node[-1].output[0] = "raw"
        model.graph.node.append(helper.make_node("RandomNormalLike", ["raw"], ["noise"]))
        model.graph.node.append(helper.make_node("Add", ["raw", "noise"], ["features"]))
        return model, card, "other vectors"
    if case == "gives NaN":
        array = numpy_helper.to_array(model.graph.initializer[1]).copy()
        array[0] = np.nan
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "bias"))
        return model, card, "other vectors"
    if case == "says always the same":
        _replace(model, numpy_helper.from_array(np.zeros((8, 3, 5, 5), np.float32), "kernel"))
        return model, card, "same vector for 16"
    if case == "does not know its own words":
        model = text_model()
        _replace(model, numpy_helper.from_array(np.ones((3, DIM), np.float32), "table"))
        return model, text_card(), "fails on real inputs"
    if case == "forgets its mask":
        model = text_model("vectors")
        model.graph.node[-2].input[1] = "whole"
        model.graph.initializer.append(numpy_helper.from_array(np.float32([[[1.0]]]), "whole"))
        return model, text_card(), "other vectors"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "mixes its batch", "draws lots", "gives NaN", "says always the same", "does not know its own words",
        "forgets its mask",
    ],
)  # fmt: skip
def test_a_graph_whose_vectors_cannot_be_trusted_is_refused_by_the_gate(case: str, tmp_path: Path) -> None:
    model, card, message = _unsound(case)
    path = save(tmp_path, model, card)
    with pytest.raises(GateError, match=message):
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))
    assert not layout_at(tmp_path / "store").storage.folders("models")


# ── cards ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "model",
    [image_model(), image_model("uint8 NHWC"), text_model(), text_model(names=("words", "there"))],
    ids=["float", "uint8", "texts", "other names"],
)
def test_without_a_card_the_error_holds_one_that_works(model: onnx.ModelProto, tmp_path: Path) -> None:
    import jsonschema

    path = save(tmp_path, model, None)
    tokenizer(tmp_path)
    done = inside("models", "show", str(path), cwd=tmp_path)
    assert done.code == 2
    found = re.search(r"\{.*\}", done.err)
    assert found is not None
    jsonschema.Draft202012Validator(schema("documents/own-card.json")).validate(json.loads(found[0]))
    (tmp_path / "net.json").write_text(found[0])
    card, _ = _kept(tmp_path / "store", path)
    assert card.weights.licence == "unknown"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "'licence'"),
        ({"moddality": "image"}, "unknown key 'moddality'; did you mean 'modality'?"),
        ({"image": {"resize": 36, "interpolaton": "bicubic"}}, "did you mean 'interpolation'?"),
        ({"image": {"resize": 36, "std": [0, 1, 1]}}, "'image.std' is greater than 0"),
        ({"image": {"resize": [36, 40]}}, "'resize_mode' is 'exact'"),
        ({"image": {"resize": 0}}, "from 1 to 8192"),
        ({"image": {"resize": 36, "mean": [1, float("nan"), 0], "std": [1, 1, 1]}}, "finite"),
        ({"image": None}, "has the part 'image'"),
        ({"modality": "text"}, "has the part 'text'"),
        ({"pooling": "sum"}, "'pooling'"),
        ({"name": "../x"}, "which is no name"),
        ({"format_version": 99}, "Upgrade featstore"),
    ],
)  # fmt: skip
def test_a_wrong_card_is_explained(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card() | change)
    with pytest.raises(FeatstoreError) as caught:
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))
    assert message in str(caught.value)
    assert "net.card.json" in str(caught.value)


def test_a_card_that_is_no_json_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, text_model(), text_card())
    (tmp_path / "net.card.json").write_text("{modality: text}")
    with pytest.raises(UsageError, match=r"net\.card\.json is not JSON"):
        modality_of(ModelRequest(model=str(path)))
    outside = tmp_path.parent / f"{tmp_path.name}.json"
    outside.write_bytes((tmp_path / "tokenizer.json").read_bytes())
    (tmp_path / "link.json").symlink_to(outside)
    for place, kind in ((f"../{outside.name}", UsageError), (str(outside), UsageError), ("link.json", UsageError),
                        ("none.json", NotFoundError)):  # fmt: skip
        save(tmp_path, text_model(), text_card(text={"tokenizer": place}))
        with pytest.raises(kind, match="names"):
            ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))
    for missing in ("nothing.onnx", "nothing.featstore"):
        with pytest.raises(NotFoundError, match="there is no such file"):
            modality_of(ModelRequest(model=str(tmp_path / missing)))


def test_weights_and_layers_do_not_fit_an_own_file(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card())
    layout = layout_at(tmp_path / "store")
    with pytest.raises(UsageError, match="holds its weights already"):
        ensure(layout, ModelRequest(model=str(path), weights=path))
    with pytest.raises(UsageError, match="outputs, not layers"):
        _kept(tmp_path / "store", path, layer="conv1")
    with pytest.raises(UsageError, match="one vector for each item already"):
        _kept(tmp_path / "store", path, pooling="mean")


def test_what_a_card_says_is_shown_before_and_after(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card(name="my net", url="https://example.org/net", layer="pool5"))
    entry = describe(ModelRequest(model=str(path)))
    assert entry is not None
    assert (entry.name, entry.dim, entry.input_side, entry.licence, entry.origin) == (
        "my net.onnx", DIM, SIDE, "MIT", "file",
    )  # fmt: skip
    before = inside("models", "show", str(path), cwd=tmp_path)
    assert before.code == 0, before.err
    assert re.search(rf"parameters +{entry.parameters}\n", before.out)
    founding.found(layout_at(tmp_path / "featstore-data"))
    card, _ = _kept(tmp_path / "featstore-data", path)
    assert card.space_id == f"my-net-{card.digest[:8]}"
    assert entry.parameters == card.weights.parameters == 8 * 75 + 8 + 8 * DIM
    after = inside("models", "show", str(path), "--json", cwd=tmp_path)
    assert after.json["card"]["space_id"] == card.space_id
    assert (after.json["card"]["layer"], after.json["card"]["weights"]["url"]) == ("pool5", "https://example.org/net")
    listed = inside("models", "list", "my", "onnx", "mit", "--json", cwd=tmp_path)
    assert [line["name"] for line in listed.json] == ["my net.onnx"]
    assert str(tmp_path) not in json.dumps(after.json["card"])


def test_the_card_of_a_kept_model_keeps_its_digest_when_only_words_change(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card(pooling="mean", layer="a", url="https://a.example"))
    first, _ = _kept(tmp_path / "one", path)
    save(tmp_path, image_model(), image_card(licence="unknown", pooling="max", layer="b"))
    second, _ = _kept(tmp_path / "two", path)
    assert second.digest == first.digest
    assert dataclasses.replace(second, weights=first.weights) != first


def _mean_of_channels(nodes: list[Any], weights: dict[str, np.ndarray], **more: Any) -> onnx.ModelProto:
    """The channels' means, ``p``, and what ``nodes`` make of them."""
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["b", 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", 3])
    weights = {"axes": np.int64([2, 3]), **weights}
    initializer = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    first = helper.make_node("ReduceMean", ["pixels", "axes"], ["p"], keepdims=0)
    graph = helper.make_graph([first, *nodes], "own", [given], [output], initializer)
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid("my", 1)] if more else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **more)


def _hiding(factor: float) -> onnx.ModelProto:
    """An inner graph with an initializer of the same name as one outside."""
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, ["b", 3])
    hiding = numpy_helper.from_array(np.float32([1, factor, -factor]), "c")
    yes = helper.make_graph([helper.make_node("Mul", ["p", "c"], ["t"])], "yes", [], [value], [hiding])
    no = helper.make_graph([helper.make_node("Neg", ["p"], ["t"])], "no", [], [value])
    nodes = [
        helper.make_node("If", ["condition"], ["z"], then_branch=yes, else_branch=no),
        helper.make_node("Mul", ["z", "c"], ["features"]),
    ]
    return _mean_of_channels(nodes, {"condition": np.bool_(True), "c": np.float32([1, 1, 1])})


def _overloaded(used: str) -> onnx.ModelProto:
    functions = []
    for overload, factors in (("one", [1, 2, 3]), ("two", [1, -2, 5])):
        held = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32(factors)))
        body = [held, helper.make_node("Mul", ["a", "k"], ["o"])]
        functions.append(helper.make_function("my", "F", ["a"], ["o"], body, [helper.make_opsetid("", 18)]))
        functions[-1].overload = overload
    node = helper.make_node("F", ["p"], ["features"], domain="my")
    node.overload = used
    return _mean_of_channels([node], {}, functions=functions)


@pytest.mark.parametrize(
    ("make", "variants"), [(_hiding, (1.0, 7.0)), (_overloaded, ("one", "two"))], ids=["hidden", "overloaded"]
)
def test_values_and_functions_of_one_name_are_told_apart(
    make: Callable[[Any], onnx.ModelProto], variants: tuple[Any, Any], tmp_path: Path
) -> None:
    digests, vectors = set(), []
    for variant in variants:
        path = save(tmp_path / str(variant), make(variant), image_card())
        card, backbone = _kept(tmp_path / "store", path)
        digests.add(card.digest)
        vectors.append(backbone.images(PICTURES))
        np.testing.assert_allclose(
            vectors[-1], _run(path, pixels=_normalised(PICTURES).transpose(0, 3, 1, 2)), rtol=1e-4
        )
    assert len(digests) == 2
    assert not np.allclose(*vectors)


def test_a_graph_joins_a_space_only_where_it_gives_its_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_at(tmp_path / "store")
    first = ensure(layout, ModelRequest(model=str(save(tmp_path / "one", image_model(), image_card()))))
    other = save(tmp_path / "two", image_model(seed=1), image_card())
    monkeypatch.setattr(fingerprint, "of_graph", lambda *_, **__: first.weights.tensors_sha256)
    with pytest.raises(IntegrityError, match=rf"net\.onnx and the store's {first.space_id} say .* other vectors"):
        ensure(layout, ModelRequest(model=str(other)))
    assert find(layout, ModelRequest(model=str(other))) is None


def test_a_suffix_in_capitals_is_a_suffix(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card())
    os.rename(path, tmp_path / "NET.ONNX")
    os.rename(tmp_path / "net.card.json", tmp_path / "NET.card.json")
    store = featstore.open(tmp_path / "store")
    store.export_model(str(tmp_path / "NET.ONNX"), bundle=tmp_path / "net.featstore")
    os.rename(tmp_path / "net.featstore", tmp_path / "NET.FEATSTORE")
    for name in ("NET.ONNX", "NET.FEATSTORE"):
        entry = describe(ModelRequest(model=str(tmp_path / name)))
        assert entry is not None
        assert entry.dim == DIM
        assert ensure(layout_at(tmp_path / name[:5]), ModelRequest(model=str(tmp_path / name))).dim == DIM


def test_prompts_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, text_model(), text_card())
    for option in ("prompt_query", "prompt_document"):
        options = ModelOptions(**{option: "x" * TOKENS})  # a token a letter
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} has {TOKENS} tokens"):
            ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path), options=options))
