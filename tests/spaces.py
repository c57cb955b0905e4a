"""Second spaces for tests, cheap and without torch: models of letters made by hand, MiniLM with a matrix behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from own_models import TOKENS, save, text_card
from stores import copy_models, write_texts

import featstore

__all__ = ["PIECES", "embedded", "letters", "minilm_then", "rotation", "sayings", "table_of"]

PIECES = 64
"""Rows of a table for ``letters``: the pieces of ``own_models.tokenizer``."""

_WHO = [
    "kitten",
    "bank",
    "sailor",
    "violin",
    "farmer",
    "rocket",
    "teacher",
    "glacier",
    "baker",
    "owl",
    "judge",
    "zebra",
]
_DOES = ["follows", "quotes", "paints", "hears", "forgets", "buys", "maps", "thanks", "drops", "judges", "wakes"]
_WHAT = ["ball", "old coins", "the moon", "six jars", "her boat", "no music", "wet maps", "ice", "bread", "quiz night"]


def sayings(count: int, *, seed: int = 0) -> dict[str, str]:
    """Different short texts by id, at most 1,210."""
    every = [f"{a} {b} {c}" for a in _WHO for b in _DOES for c in _WHAT]
    order = np.random.default_rng(seed).permutation(len(every))[:count]
    return {f"s{at:04d}": every[number] for at, number in enumerate(order.tolist())}


def table_of(dim: int = 24, *, seed: int = 0) -> NDArray[np.float32]:
    """(64, dim) float32: a vector for each letter."""
    return np.random.default_rng(seed).standard_normal((PIECES, dim)).astype(np.float32)


def rotation(dim: int, *, seed: int = 1) -> NDArray[np.float32]:
    """(dim, dim) float32, orthogonal."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0].astype(np.float32)


def letters(folder: Path, name: str, table: NDArray[np.float32], *, max_length: int = TOKENS, **text: str) -> Path:
    """A text model whose vector is the mean of its letters' vectors, as ``NAME.onnx`` with card and tokenizer.

    A table times a matrix gives the vectors times that matrix; another table another space of the same texts. It is
    brought into a store in well under a second.

    Args:
        folder: Where; a file's ``str`` is what ``model=`` takes.
        name: The space will be called after it.
        table: (64, dim) float32.
        max_length: How many letters are read.
        **text: ``prompt_query`` or ``prompt_document``.
    """
    weights = {"table": np.asarray(table, np.float32), "one": np.int64([-1])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("Unsqueeze", ["attention_mask", "one"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["found", "share"], ["features"]),
    ]
    inputs = [
        helper.make_tensor_value_info(at, TensorProto.INT64, ["b", "t"]) for at in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "t", table.shape[1]])
    stored = [numpy_helper.from_array(np.asarray(array), key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, "letters", inputs, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return save(folder, model, text_card(name=name, text={"max_length": max_length, **text}), name)


def minilm_then(model_store: Path, folder: Path, name: str, matrix: NDArray[np.float32], **text: str) -> Path:
    """MiniLM, its vectors times (384, dim): a real model of another space, 90 MB and some seconds.

    With a rotation every cosine is MiniLM's; with noise beside it, or a narrow matrix, it is a worse model; a matrix
    with NaN is refused by the store.

    Args:
        model_store: The fixture.
        folder: Where; a file's ``str`` is what ``model=`` takes.
        name: The space will be called after it.
        matrix: (384, dim) float32.
        **text: ``prompt_query`` or ``prompt_document``.
    """
    (home,) = (model_store / "models").glob("minilm-*")
    card = json.loads((home / "card.json").read_text("utf-8"))
    model = onnx.load(home / "model.onnx")
    (output,) = model.graph.output
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(matrix, np.float32), "then"))
    model.graph.node.append(helper.make_node("MatMul", [output.name, "then"], ["turned"]))
    output.CopyFrom(helper.make_tensor_value_info("turned", TensorProto.FLOAT, ["batch", matrix.shape[1]]))
    wanted = {"max_length": card["text"]["max_length"], "pad_token_id": card["text"]["pad_token_id"], **text}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_bytes((home / "tokenizer.json").read_bytes())
    own = {"modality": "text", "licence": "Apache-2.0", "name": name, "pooling": "mean", "text": wanted}
    (folder / f"{name}.card.json").write_text(json.dumps(own), "utf-8")
    return path


def embedded(model_store: Path, folder: Path, count: int = 300, **tables: NDArray[np.float32]) -> Path:
    """A folder whose store ``featstore-data`` has the table ``sayings`` by several models of letters.

    Args:
        model_store: The fixture.
        folder: Where; the models are in ``models``, the texts in ``sayings.jsonl``.
        count: How many texts.
        **tables: For each model, by its name, the letters' vectors; by default ``old``, and ``new``, which is ``old``
            turned: every cosine is the same.
    """
    first = table_of()
    store = featstore.open(copy_models(model_store, folder / "featstore-data"))
    source = write_texts(folder / "sayings.jsonl", sayings(count))
    for name, table in (tables or {"old": first, "new": first @ rotation(first.shape[1])}).items():
        store.extract(source, model=str(letters(folder / "models", name, table)), name="sayings", id_column="id")
    return folder
