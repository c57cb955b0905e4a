"""Models in fewer bits: kept as spaces of their own beside the one they were made from, and found again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from featstore.errors import GateError, UsageError
from featstore.layout import Layout
from featstore.models import fingerprint, graphs, kept, parity, session, space, verified
from featstore.records import Artefact, ModelCard, Quantisation, Reference
from featstore.storage import documents, hashing

if TYPE_CHECKING:
    pass

__all__ = ["draft", "find", "keep", "refer", "spaces"]


def draft(base: ModelCard, precision: str, content: bytes) -> ModelCard:
    """The card of a quantised graph, without its files: its space is made of what the graph computes.

    Args:
        base: The card of the model that it was made from.
        precision: ``int8``.
        content: The ONNX file.
    """
    model = graphs.parse(content, name=f"the {precision} graph of {base.model}")
    inputs = ("image",) if base.text is None else base.text.inputs
    computed = fingerprint.of_graph(
        model, inputs={name: name for name in inputs}, output="vector", name=f"the {precision} graph of {base.model}"
    )
    digest = hashing.of_json({"definition": 3, "base": base.digest, "precision": precision, "graph": computed})
    slug = base.space_id.removesuffix(f"-{base.digest[:8]}")
    nothing = Artefact(file="", sha256="", bytes=0)
    return replace(
        base,
        space_id=space.space_id(f"{slug}-{precision}", digest),
        digest=digest,
        precision=precision,
        onnx=nothing,
        canaries=nothing,
        finetuning=None,  # its weights are the base's
        versions=kept.versions(),
        created_ts=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def keep(layout: Layout, base: ModelCard, card: ModelCard, content: bytes, note: Quantisation) -> ModelCard:
    """Writes a quantised model into the store, with canaries of its own on the inputs of its base's.

    Args:
        layout: The store.
        base: The card of the model that it was made from.
        card: What ``draft`` gave.
        content: The ONNX file.
        note: How it came about.

    Raises:
        GateError: A batch of one gives other vectors than a batch of many.
        IntegrityError: A file of the base is damaged.
    """
    existing = kept.equal_space(layout, card.digest)
    if existing is not None:
        return existing
    backbone = session.open_bytes(card, content, name=f"the {card.precision} graph", device="cpu")
    canaries, measured = parity.canaries_again(layout, base, backbone)
    if measured.batch_min_cosine < parity.LEAST_COSINE:
        raise GateError(
            f"{card.model} in {card.precision} gives other vectors in batches than alone: least cosine "
            f"{measured.batch_min_cosine:.6f}, {parity.LEAST_COSINE} is needed.",
            hint="Nothing was kept. Use --precision fp32.",
        )
    files = {"model.onnx": content, "canaries.safetensors": canaries}
    if base.tokenizer is not None:
        path = layout.model(base.space_id, base.tokenizer.file)
        files["tokenizer.json"] = verified.read(layout.storage, path, base.tokenizer)
    final = replace(
        card,
        onnx=kept.artefact("model.onnx", content),
        canaries=kept.artefact("canaries.safetensors", canaries),
        tokenizer=None if base.tokenizer is None else kept.artefact("tokenizer.json", files["tokenizer.json"]),
        parity=measured,
        quantisation=note,
    )
    final = kept.publish(layout, final, files)
    parity.remember(layout, final, backbone)
    return final


def refer(layout: Layout, base: ModelCard, card: ModelCard, table: str) -> None:
    """Notes that a table uses this version of its model, whose gate has passed on the table's items."""
    key = _key(base, card.precision, table)
    documents.write(layout.storage, layout.reference(key), Reference(key=key, model=base.model, space_id=card.space_id))


def find(layout: Layout, base: ModelCard, precision: str, table: str | None) -> ModelCard | None:
    """The version of a model that a table uses, or without a table the only one that there is.

    Raises:
        UsageError: No table is named, and there are several.
    """
    if table is not None:
        found = documents.find(layout.storage, layout.reference(_key(base, precision, table)), Reference)
        if found is None or not layout.storage.exists(layout.model_card(found.space_id)):
            return None
        return kept.load_card(layout, found.space_id)
    cards = spaces(layout, base, precision)
    if len(cards) > 1:
        raise UsageError(
            f"there are {len(cards)} versions of {base.model} in {precision}, made for different tables.",
            hint=f"Name one: {', '.join(card.space_id for card in cards)}",
        )
    return cards[0] if cards else None


def spaces(layout: Layout, base: ModelCard, precision: str) -> list[ModelCard]:
    """All versions of a model in a precision that the store has, by the names of their spaces."""
    slug = base.space_id.removesuffix(f"-{base.digest[:8]}")
    found = []
    for name in sorted(layout.storage.folders("models")):
        if name.startswith(f"{space.slug(f'{slug}-{precision}')}-") and layout.storage.exists(layout.model_card(name)):
            card = kept.load_card(layout, name)
            if card.quantisation is not None and card.quantisation.base == base.space_id:
                found.append(card)
    return found


def _key(base: ModelCard, precision: str, table: str) -> str:
    return f"{base.space_id}-{precision}-{hashing.of_text(table)[:16]}"
