"""Graphs in int8: made from a model's fp32 graph and calibration items, nearer to it step by step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import SENTENCES
from onnx import numpy_helper

import featstore
from featstore import models
from featstore.errors import UsageError
from featstore.inputs import texts
from featstore.models import samples, session
from featstore.models.quantising import Attempt, Quantiser, pixels
from featstore.records import ModelCard

Inputs = dict[str, np.ndarray]


def the_model(store: Path, name: str) -> tuple[ModelCard, bytes]:
    card = models.ensure(featstore.open(store).layout, models.ModelRequest(model=name))
    return card, (store / "models" / card.space_id / card.onnx.file).read_bytes()


def some_pictures(number: int, seed: int) -> list[Inputs]:
    found = samples.pictures(number, 224, 224, seed)
    return [{"image": found[at : at + 8]} for at in range(0, number, 8)]


def some_texts(store: Path, card: ModelCard, wanted: list[str], size: int = 8) -> list[Inputs]:
    tokenizer = texts.Tokenizer(store / "models" / card.space_id / "tokenizer.json", card.text)
    ids, _ = tokenizer.encode(wanted)
    padded = (texts.pad(ids[at : at + size], card.text) for at in range(0, len(ids), size))
    return [{"input_ids": tokens, "attention_mask": mask} for tokens, mask in padded]


def vectors(card: ModelCard, content: bytes, batches: list[Inputs]) -> np.ndarray:
    backbone = session.open_bytes(card, content, name="the graph", device="cpu")
    if card.image is not None:
        rows = [backbone.images(batch["image"]) for batch in batches]
    else:
        rows = [backbone.texts(batch["input_ids"], batch["attention_mask"]) for batch in batches]
    found = np.concatenate(rows).astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", one, other)


def first(steps: Iterator[Attempt], number: int) -> list[Attempt]:
    return list(itertools.islice(steps, number))


def whole_weights(content: bytes) -> int:
    """How many weights of a graph are kept in int8."""
    tensors = onnx.load_model_from_string(content).graph.initializer
    return sum(numpy_helper.to_array(t).size for t in tensors if t.data_type == onnx.TensorProto.INT8 and t.dims)


@pytest.fixture(scope="module")
def lite0(model_store):
    return the_model(model_store, "efficientnet_lite0")


@pytest.fixture(scope="module")
def minilm(model_store):
    return the_model(model_store, "minilm")


@pytest.fixture(scope="module")
def plain(lite0):
    card, content = lite0
    return next(Quantiser(card, content, some_pictures(16, 1)).attempts())


def test_the_first_step_of_a_cnn_is_a_whole_graph_in_int8(lite0, plain):
    card, content = lite0
    assert plain.recipe == "qdq per channel, reduced range, min-max"
    assert len(plain.content) < 0.3 * len(content)
    assert whole_weights(plain.content) > 0.95 * len(content) / 4
    onnx.checker.check_model(onnx.load_model_from_string(plain.content), full_check=True)
    before, after = (vectors(card, graph, some_pictures(8, 2)) for graph in (content, plain.content))
    assert 0.9 < cosines(before, after).mean() < 0.9999  # near, and not the fp32 graph


def test_no_processor_saturates(lite0, plain):
    """Without VNNI two products of uint8 and int8 are added in 16 bits: fused and as ONNX defines it must agree."""
    card, _ = lite0
    tensors = onnx.load_model_from_string(plain.content).graph.initializer
    whole = [numpy_helper.to_array(t) for t in tensors if t.name.endswith("_weight_q")]
    assert max(np.abs(values.astype(int)).max() for values in whole) * 2 * 255 < 2**15
    batches = some_pictures(8, 4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    defined = onnxruntime.InferenceSession(plain.content, options, providers=["CPUExecutionProvider"])
    rows = np.concatenate([defined.run(None, batch)[0] for batch in batches]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert cosines(rows, vectors(card, plain.content, batches)).min() > 0.998


def test_a_picture_does_not_depend_on_its_batch(lite0, plain):
    card, _ = lite0
    batch = some_pictures(8, 3)
    alone = [{"image": batch[0]["image"][at : at + 1]} for at in range(8)]
    together, apart = (vectors(card, plain.content, batches) for batches in (batch, alone))
    np.testing.assert_array_equal(together, apart)


def test_the_same_items_make_the_same_bytes_however_they_are_batched(lite0, plain):
    card, content = lite0
    pictures = np.concatenate([batch["image"] for batch in some_pictures(16, 1)])
    again = next(Quantiser(card, content, [{"image": pictures[:5]}, {"image": pictures[5:]}]).attempts())
    assert again == plain
    turned = next(Quantiser(card, content, [{"image": pictures[::-1]}]).attempts())
    assert turned == plain


def test_pixels_go_into_the_first_layer_unrounded(lite0):
    card, content = lite0
    model = onnx.load_model_from_string(content)
    for at, node in enumerate(model.graph.node):
        node.name = node.name or f"n{at}"
    assert pixels.read_bytes(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.index("DequantizeLinear") < kinds.index("Conv")
    assert "Cast" not in kinds[: kinds.index("Conv")]
    batch = some_pictures(4, 4)
    before, after = (vectors(card, graph, batch) for graph in (content, model.SerializeToString()))
    assert cosines(before, after).min() > 0.9999


@pytest.mark.heavy
def test_the_first_steps_of_a_transformer(model_store, minilm):
    card, content = minilm
    calibration = some_texts(model_store, card, [text for _, text in SENTENCES])
    plain, smooth = first(Quantiser(card, content, calibration).attempts(), 2)
    assert smooth.recipe.endswith("SmoothQuant")
    unseen = some_texts(model_store, card, samples.canary_texts(24))
    before = vectors(card, content, unseen)
    for attempt in (plain, smooth):
        assert cosines(before, vectors(card, attempt.content, unseen)).mean() > 0.9
        kinds = [node.op_type for node in onnx.load_model_from_string(attempt.content).graph.node]
        assert kinds.count("QuantizeLinear") == 24  # what is read by Q, K and V is rounded once
    alone = some_texts(model_store, card, samples.canary_texts(24), size=1)
    apart = vectors(card, smooth.content, alone)
    assert cosines(vectors(card, smooth.content, unseen), apart).min() > 0.9999


def test_padding_does_not_widen_a_range(model_store, minilm):
    card, content = minilm
    sentences = [text for _, text in SENTENCES]
    together, apart = (
        next(Quantiser(card, content, some_texts(model_store, card, sentences, size)).attempts()) for size in (12, 1)
    )
    assert together == apart


def test_a_graph_without_fixed_products_is_refused(lite0):
    card, _ = lite0
    node = onnx.helper.make_node("Identity", ["image"], ["vector"])
    given, found = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["b", 4]) for n in ("image", "vector")
    )
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [given], [found]))
    with pytest.raises(UsageError, match="nothing to quantise") as refused:
        Quantiser(card, model.SerializeToString(), [])
    assert refused.value.hint


@pytest.mark.heavy
def test_fidelity_grows_along_the_steps(lite0):
    card, content = lite0
    unseen = some_pictures(24, 6)
    before = vectors(card, content, unseen)
    steps = list(Quantiser(card, content, some_pictures(48, 5), threads=2).attempts())
    far = [1 - cosines(before, vectors(card, step.content, unseen)).mean() for step in steps]
    assert [step.recipe for step in steps][1].endswith("fitted rounding")
    assert "layers in fp32" in steps[-1].recipe
    assert far[1] < 0.6 * far[0]
    assert far[-1] < 0.5 * far[1]
    assert sizes(steps) == sorted(sizes(steps))


def sizes(steps: list[Attempt]) -> list[int]:
    """Of the graphs, whole kilobytes: more layers in fp32 make a larger file."""
    return [len(step.content) // 10_000 for step in steps]
