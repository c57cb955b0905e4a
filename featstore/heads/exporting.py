"""A head taken elsewhere: as ONNX, and only if it says there what it says here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore import models
from featstore.errors import FeatstoreError, GateError, NotFoundError, UsageError
from featstore.heads import graph
from featstore.heads.opening import open_head
from featstore.models import verified
from featstore.models.parity import canary_batches, canary_vectors
from featstore.models.session import open_graph
from featstore.records import HeadCard, HeadExport, ModelCard
from featstore.storage import documents, durable, hashing
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from featstore.heads.head import Head
    from featstore.layout import Layout

__all__ = ["export_head"]

_MOST_DIFFERENCE = 1e-4
_LEAST_AGREEMENT = 0.999
_ITEMS = 2048
_ROWS = 256
# Two classes whose probabilities differ by no more than float32 can tell are equal first ones.
_TIE = 1e-6


def export_head(
    layout: Layout, address: str, output: str | os.PathLike[str], *, format: str | None = None, fused: bool = False
) -> HeadExport:
    """Writes a head as one ONNX file, once its graph has been compared with the head itself.

    Compared are probabilities on up to 2,048 vectors of the head's table and on the canaries of its model; of a fused
    graph also those of the canaries' pixels or token ids, with what backbone and head give one after the other. Where
    float32 does not come close enough, the head is computed in float64.

    Args:
        layout: The store.
        address: ``HEAD[:VERSION]``.
        output: The file; replaced if it is there.
        format: ``onnx``, or nothing where the file's name ends so.
        fused: One graph from pixels or token ids on, not from vectors.

    Raises:
        NotFoundError: There is no such head, or for ``fused`` its model is gone, or there is nothing to compare with.
        UsageError: The format or the place cannot be used, or the graph is too large for a file.
        GateError: The graph does not say what the head does; nothing is written.
        IntegrityError: The head, its model or its table is damaged.
    """
    target = Path(os.path.abspath(os.path.expanduser(output)))
    _check_place(target, layout, format)
    card, head = open_head(layout, address)
    model = _model(layout, card)
    if fused and model is None:
        raise NotFoundError(
            f"the head '{card.head}:{card.version}' takes vectors of {card.space_id}, whose model is not in the store.",
            hint="Leave out --fused for the head alone.",
        )
    content, compared = _made(layout, card, head, model if fused else None, _vectors(layout, card, model))
    with durable.replacing(target) as file:
        file.write(content)
    inputs, outputs = graph.described(content)
    return HeadExport(
        head=card.head,
        version=card.version,
        format="onnx",
        fused=fused,
        path=str(target),
        bytes=len(content),
        sha256=hashing.of_bytes(content),
        inputs=inputs,
        outputs=outputs,
        compared=compared.items,
        difference=compared.difference,
        agreement=compared.agreement,
    )


@dataclass(frozen=True)
class _Compared:
    """The largest difference of a probability (of a value: in standard deviations), and how many agree."""

    items: int
    difference: float
    agreement: float

    @property
    def close(self) -> bool:
        return self.difference <= _MOST_DIFFERENCE and self.agreement >= _LEAST_AGREEMENT


def _made(
    layout: Layout, card: HeadCard, head: Head, model: ModelCard | None, vectors: NDArray[np.float32]
) -> tuple[bytes, _Compared]:
    """The graph, in float32 if that is close enough, else in float64."""
    notes = _notes(card, model)
    for double in (False, True):
        content = graph.finished(graph.alone(head, double=double), notes)
        found = _compare(head, content, ((vectors[at : at + _ROWS], {"vector": vectors[at : at + _ROWS]})
                                         for at in range(0, len(vectors), _ROWS)))  # fmt: skip
        if found.close and model is not None:
            path = layout.model(model.space_id, model.onnx.file)
            name = str(layout.storage.local(path))
            backbone = verified.read(layout.storage, path, model.onnx)
            content = graph.finished(graph.behind(backbone, head, name=name, double=double), notes)
            whole = _compare(head, content, _canaries(layout, model))
            found = _Compared(
                found.items + whole.items,
                max(found.difference, whole.difference),
                (found.agreement * found.items + whole.agreement * whole.items) / (found.items + whole.items),
            )
        if found.close:
            return content, found
    raise GateError(
        f"the graph of '{card.head}:{card.version}' does not say what the head does: on {found.items:,} items "
        f"probabilities differ by up to {found.difference:.2g} ({_MOST_DIFFERENCE:g} is allowed) and "
        f"{found.agreement:.2%} have the same first class ({_LEAST_AGREEMENT:.1%} is needed).",
        hint="Nothing was written. A knn head whose items stand there several times may do this; try another --kind.",
        context={"difference": found.difference, "agreement": found.agreement},
    )


def _compare(
    head: Head, content: bytes, pairs: Iterator[tuple[NDArray[np.float32], dict[str, NDArray[Any]]]]
) -> _Compared:
    """Puts what the head says of vectors beside what the graph says of what they come from."""
    opened = open_graph(content, name="the head's graph")
    expected, found = [], []
    for vectors, inputs in pairs:
        given = opened.run(inputs)
        found.append(given["value"][:, None] if head.task == "regression" else given["probabilities"])
        expected.append(head.logits(vectors) if head.task == "regression" else head.probabilities(vectors))
    there, here = np.concatenate(found).astype(np.float64), np.concatenate(expected)
    if there.shape != here.shape or not np.isfinite(there).all():
        return _Compared(len(here), float("inf"), 0.0)
    apart = np.abs(there - here)
    if head.task == "regression":
        apart /= max(float(here.std()), 1e-12)
    if head.task == "classification":
        likeliest = np.take_along_axis(here, there.argmax(axis=1)[:, None], 1)[:, 0]
        agree = likeliest >= here.max(axis=1) - _TIE
    else:
        agree = (apart <= _MOST_DIFFERENCE).all(axis=1)
    return _Compared(len(here), float(apart.max(initial=0.0)), float(agree.mean()))


def _canaries(layout: Layout, model: ModelCard) -> Iterator[tuple[NDArray[np.float32], dict[str, NDArray[Any]]]]:
    """Inputs of a model, and the vectors that it makes of them."""
    backbone = models.open_backbone(layout, model, device="cpu")
    for arrays in canary_batches(layout, model):
        if model.text is None:
            yield backbone.images(arrays[0]), {"image": arrays[0]}
        else:
            given = dict(zip(("input_ids", "attention_mask"), arrays, strict=True))
            yield backbone.texts(*arrays), {name: given[name] for name in model.text.inputs}


def _vectors(layout: Layout, card: HeadCard, model: ModelCard | None) -> NDArray[np.float32]:
    """Real vectors of the head's space: of its own table, evenly, and the model's canaries."""
    found = [] if model is None else [canary_vectors(layout, model)]
    try:
        table = FeatureTable.open(layout, card.table, card.space_id, card.table_version)
        rows = np.unique(np.linspace(0, len(table) - 1, min(_ITEMS, len(table))).astype(np.int64))
        found.append(table.vectors_at(rows))
    except FeatstoreError:  # gone or damaged; the canaries are enough
        if not found:
            raise
    vectors = np.concatenate(found)
    if not len(vectors):
        raise NotFoundError(f"there are no vectors of {card.space_id} to compare the graph on.")
    return vectors


def _model(layout: Layout, card: HeadCard) -> ModelCard | None:
    try:
        return models.load_card(layout, card.space_id)
    except NotFoundError:
        return None


def _notes(card: HeadCard, model: ModelCard | None) -> dict[str, str]:
    """What the file says of itself; ``classes`` are the names behind the numbers, in their order."""
    about: dict[str, object] = {
        "head": card.head,
        "version": card.version,
        "task": card.task,
        "kind": card.kind,
        "label": card.label,
        "space_id": card.space_id,
        "space_digest": card.space_digest,
        "model": card.model,
        "sha256": card.head_file.sha256,
    }
    if model is not None:
        how = model.image or model.text
        assert how is not None
        about |= {"licence": model.weights.licence, "preprocessing": documents.to_json(how)}
    notes = {"featstore": json.dumps(about, ensure_ascii=False, sort_keys=True)}
    return notes | ({"classes": json.dumps(card.classes, ensure_ascii=False)} if card.classes else {})


def _check_place(target: Path, layout: Layout, format: str | None) -> None:
    if format not in (None, "onnx"):
        raise UsageError(f"a head cannot be written as {format}.", hint="Heads are written as onnx.")
    if format is None and target.suffix.lower() != ".onnx":
        raise UsageError(f"'{target.name}' does not say which format to write.", hint="Name the file .onnx.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file.")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(layout.storage.root)):
        raise UsageError(f"{target} lies within the store; write the file somewhere else.")
