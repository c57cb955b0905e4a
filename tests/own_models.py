"""Own ONNX files for tests, made of numpy weights by hand: quick, and nothing of torch in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DIM", "SIDE", "TOKENS", "image_card", "image_model", "save", "text_card", "text_model", "tokenizer"]

SIDE, DIM, TOKENS = 32, 12, 24

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "kernel": random.normal(size=(8, 3, 5, 5)).astype(np.float32) / 5,
        "bias": random.normal(size=8).astype(np.float32),
        "dense": random.normal(size=(8, DIM)).astype(np.float32),
    }


def image_model(
    layout: str = "float NCHW",
    *,
    shape: str = "vectors",
    seed: int = 0,
    opset: int = 18,
    normalize: bool = False,
    side: int | str = SIDE,
) -> onnx.ModelProto:
    """Convolution, ReLU, mean, matrix: (b, 12). With ``shape="tokens"`` before the mean: (b, 49, 8)."""  # fmt: skip
    weights = _weights(seed)
    nodes, value = [], "pixels"
    kind, sizes = TensorProto.FLOAT, ["b", 3, side, side]
    if layout == "uint8 NHWC":
        kind, sizes = TensorProto.UINT8, ["b", side, side, 3]
        weights |= {"mean": np.float32(_MEAN).reshape(1, 3, 1, 1), "std": np.float32(_STD).reshape(1, 3, 1, 1)}
        weights["full"] = np.float32(255)
        nodes += [
            helper.make_node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["float", "full"], ["share"]),
            helper.make_node("Sub", ["share", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["ready"]),
        ]
        value = "ready"
    elif layout == "float NHWC":
        sizes = ["b", side, side, 3]
        nodes.append(helper.make_node("Transpose", ["pixels"], ["ready"], perm=[0, 3, 1, 2]))
        value = "ready"
    nodes += [
        helper.make_node("Conv", [value, "kernel", "bias"], ["map"], strides=[4, 4]),
        helper.make_node("Relu", ["map"], ["active"]),
    ]
    if shape == "tokens":
        weights["flat"] = np.int64([0, 8, -1])
        nodes += [
            helper.make_node("Reshape", ["active", "flat"], ["rows"]),
            helper.make_node("Transpose", ["rows"], ["features"], perm=[0, 2, 1]),
        ]
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "t", 8])
    else:
        nodes += [
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "dense"], ["raw" if normalize else "features"]),
        ]
        if normalize:
            nodes.append(helper.make_node("LpNormalization", ["raw"], ["features"], axis=1, p=2))
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", DIM])
    return _model(nodes, [helper.make_tensor_value_info("pixels", kind, sizes)], [output], weights, opset)


def text_model(
    shape: str = "tokens",
    *,
    names: Sequence[str] = ("input_ids", "attention_mask"),
    kind: int = TensorProto.INT64,
    opset: int = 18,
    seed: int = 0,
) -> onnx.ModelProto:
    """An embedding table, (b, t, 12); with ``shape="vectors"`` the sum over the mask, (b, 12)."""  # fmt: skip
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {"table": random.normal(size=(64, DIM)).astype(np.float32)}
    nodes = [helper.make_node("Gather", ["table", names[0]], ["found"])]
    last = "found"
    if len(names) > 2:
        weights["segments"] = random.normal(size=(2, DIM)).astype(np.float32)
        nodes += [
            helper.make_node("Gather", ["segments", names[2]], ["segment"]),
            helper.make_node("Add", ["found", "segment"], ["both"]),
        ]
        last = "both"
    if shape == "tokens":
        # The mask must be used, or the graph would not have it as an input.
        weights["one"] = np.int64([-1])
        nodes += [
            helper.make_node("Unsqueeze", [names[1], "one"], ["wide"]),
            helper.make_node("Cast", ["wide"], ["share"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["share", "share"], ["twice"]),
            helper.make_node("Mul", [last, "twice"], ["features"]),
        ]
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "t", DIM])
    else:
        weights |= {"one": np.int64([-1]), "axis": np.int64([1])}
        nodes += [
            helper.make_node("Unsqueeze", [names[1], "one"], ["wide"]),
            helper.make_node("Cast", ["wide"], ["share"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [last, "share"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis"], ["features"], keepdims=0),
        ]
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", DIM])
    inputs = [helper.make_tensor_value_info(name, kind, ["b", "t"]) for name in names]
    return _model(nodes, inputs, [output], weights, opset)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any, opset: int) -> onnx.ModelProto:
    initializer = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "own", inputs, outputs, initializer)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def image_card(layout: str = "float NCHW", **more: Any) -> dict[str, Any]:
    """A card for ``image_model``; ``image`` in ``more`` is merged."""
    image: dict[str, Any] = {"resize": 36, **more.pop("image", {})}
    if layout != "uint8 NHWC":
        image = {"mean": _MEAN, "std": _STD, **image}
    return {"modality": "image", "licence": "MIT", "image": image, **more}


def text_card(**more: Any) -> dict[str, Any]:
    """A card for ``text_model``; ``text`` in ``more`` is merged."""
    text = {"max_length": TOKENS, "pad_token_id": 0, **more.pop("text", {})}
    return {"modality": "text", "licence": "Apache-2.0", "pooling": "mean", "text": text, **more}


def tokenizer(folder: Path) -> Path:
    """A ``tokenizer.json`` of 64 pieces: letters and punctuation, anything else unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz0123456789 .,'-éüа东"
    pieces = {"[PAD]": 0, "[UNK]": 1, **{c: at + 2 for at, c in enumerate(letters)}}
    engine = Tokenizer(models.WordLevel(pieces, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    path = folder / "tokenizer.json"
    engine.save(str(path))
    return path


def save(folder: Path, model: onnx.ModelProto, card: dict[str, Any] | None, name: str = "net") -> Path:
    """Writes ``NAME.onnx`` and, where one is given, ``NAME.card.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    if card is not None:
        (folder / f"{name}.card.json").write_text(json.dumps(card), "utf-8")
    if card is not None and card.get("text"):
        tokenizer(folder)
    return path
