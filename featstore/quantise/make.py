"""From a model and a source's items to a quantised model that has passed the gate, or to why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.encode import Encoder
from featstore.encode.opening import open_encoder
from featstore.errors import GateError
from featstore.layout import Layout
from featstore.models import Backbone, quantised, quantising, session, verified
from featstore.quantise.gate import LEAST, Judge, Least, failures
from featstore.quantise.items import Items, choose
from featstore.records import Fidelity, ModelCard, Quantisation, QuantisationProof, QuantisationStep
from featstore.storage import documents

if TYPE_CHECKING:
    import pyarrow as pa

    from featstore.settings import ExtractSettings
    from featstore.sources import Source

__all__ = ["make"]

# A step whose cosines are hopeless on so many items is not judged on all of them.
_LOOKED = 256
_HOPELESS = 0.02


def make(
    layout: Layout,
    base: ModelCard,
    precision: str,
    *,
    table: str,
    source: Source,
    items: pa.Table,
    settings: ExtractSettings,
    least: Least = LEAST,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelCard:
    """The version of a model in fewer bits that a table uses, made at its first use.

    Another table's version of the same model is taken where it passes the gate on this table's items too. Otherwise
    one is calibrated on some of them, step by step towards more fidelity, until the gate passes on others of them.

    Args:
        layout: The store.
        base: The model in full precision.
        precision: ``int8``.
        table: The table's name.
        source: Where its items are.
        items: Rows of the source's scan.
        settings: Threads.
        least: The gate.
        progress: Told of each step.

    Returns:
        The card of the version, which ``models.find`` gives from now on for this table.

    Raises:
        UsageError: There are too few items, or nothing in the model can be quantised.
        GateError: No step passes; its ``context["steps"]`` says how far each came.
    """
    chosen = choose(items, name=table, precision=precision)
    trial = _Trial(layout, base, precision, table, source, chosen, settings, least, progress)
    card = trial.another_tables() or trial.made()
    quantised.refer(layout, base, card, table)
    return card


@dataclass
class _Trial:
    layout: Layout
    base: ModelCard
    precision: str
    table: str
    source: Source
    items: Items
    settings: ExtractSettings
    least: Least
    progress: Callable[[str], None]
    steps: list[QuantisationStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Every vector is a CPU's: the same on all machines, and what the store's canaries are compared with.
        self.encoder = open_encoder(self.layout, self.base, replace(self.settings, device="cpu"))
        self.good, before, self.rate = self._embed(self.encoder, self.items.evaluation)
        self.judge = Judge(
            before,
            [self.items.labels[at] for at in self.good],
            [self.items.contents[at] for at in self.good],
            [self.items.groups[at] for at in self.good],
        )

    def another_tables(self) -> ModelCard | None:
        """A version that was made for another table and passes here."""
        for card in quantised.spaces(self.layout, self.base, self.precision):
            encoder = open_encoder(self.layout, card, replace(self.settings, device="cpu"))
            found, _ = self._judged(encoder)
            if failures(found, self.least):
                continue
            proof = QuantisationProof(space_id=card.space_id, table=self.table, fidelity=found)
            documents.write(self.layout.storage, self.layout.quantisation_proof(card.space_id, self.table), proof)
            self.progress(f"{card.space_id}, made for another table, passes here: {_said(found)}")
            return card
        return None

    def made(self) -> ModelCard:
        """A version calibrated here."""
        path = self.layout.model(self.base.space_id, self.base.onnx.file)
        content = verified.read(self.layout.storage, path, self.base.onnx)
        batches = self._calibration()
        calibrated = self.items.calibration.num_rows
        self.progress(
            f"quantising {self.base.model} to {self.precision}: {calibrated:,} items to calibrate, "
            f"{len(self.good):,} others to judge"
        )
        threads = self.encoder.threads
        quantiser = quantising.Quantiser(self.base, content, batches, threads=threads, progress=self.progress)
        for attempt in quantiser.attempts():
            card = quantised.draft(self.base, self.precision, attempt.content)
            backbone = session.open_bytes(card, attempt.content, name=attempt.recipe, device="cpu")
            found, rate = self._judged(replace(self.encoder, backbone=backbone))
            missed = failures(found, self.least, looked=found.items < len(self.good))
            self.steps.append(
                QuantisationStep(
                    recipe=attempt.recipe,
                    fidelity=found,
                    failed=missed,
                    items_per_s=round(rate, 3),
                    bytes=len(attempt.content),
                )
            )
            verdict = f"refused: {'; '.join(missed)}" if missed else "passes"
            self.progress(f"{attempt.recipe}: {_said(found)}, {rate / self.rate:.1f} × the speed of fp32: {verdict}")
            if not missed:
                note = Quantisation(
                    base=self.base.space_id,
                    table=self.table,
                    calibrated=calibrated,
                    base_items_per_s=round(self.rate, 3),
                    steps=tuple(self.steps),
                )
                return quantised.keep(self.layout, self.base, card, attempt.content, note)
        raise self._refused()

    def _judged(self, encoder: Encoder) -> tuple[Fidelity, float]:
        """How near an encoder's vectors are, and how fast they came; all items only where the first give hope."""
        if len(self.good) > _LOOKED:
            good, after, rate = self._embed(encoder, self._rows(self.good[:_LOOKED]))
            if len(good) == _LOOKED:
                looked = self.judge.look(after)
                if looked.p1_cosine < self.least.p1_cosine - _HOPELESS:
                    return looked, rate
        good, after, rate = self._embed(encoder, self._rows(self.good))
        if len(good) < len(self.good):  # vectors of zeros or not finite, where there were sound ones
            lost = np.zeros((len(self.good), self.base.dim), np.float32)
            lost[good] = after
            after = lost
        return self.judge.judge(after), rate

    def _rows(self, places: Sequence[int]) -> pa.Table:
        return self.items.evaluation.take(list(places))

    def _embed(self, encoder: Encoder, rows: pa.Table) -> tuple[list[int], NDArray[np.float32], float]:
        """Which of some rows could be embedded, their vectors, and items a second."""
        started = time.perf_counter()
        found = encoder.encode(self.source.reader(rows).read, rows.num_rows, _Nobody())
        seconds = max(time.perf_counter() - started, 1e-9)
        good = [row for row in range(rows.num_rows) if row not in found.errors]
        return good, found.vectors[good], len(good) / seconds

    def _calibration(self) -> list[dict[str, NDArray[Any]]]:
        """What the graph is given for the items to calibrate on, batch by batch."""
        recorder = _Recorder(self.encoder.backbone)
        rows = self.items.calibration
        replace(self.encoder, backbone=recorder, threads=1).encode(
            self.source.reader(rows).read, rows.num_rows, _Nobody()
        )
        return recorder.batches

    def _refused(self) -> GateError:
        best = max(self.steps, key=lambda step: (step.fidelity.p1_cosine, step.fidelity.overlap), default=None)
        said = "" if best is None else f" The nearest, {best.recipe}: {'; '.join(best.failed)}."
        return GateError(
            f"{self.base.model} in {self.precision} is too far from the model itself on the items of '{self.table}' "
            f"({len(self.steps)} ways were tried); nothing was kept.{said}",
            hint="Use --precision fp32, or a model that bears it better: see featstore models compare.",
            context={"steps": tuple(self.steps)},
        )


class _Recorder(Backbone):
    """A backbone that keeps what it is given."""

    def __init__(self, of: Backbone) -> None:
        self.card, self.device = of.card, of.device
        self._of = of
        self.batches: list[dict[str, NDArray[Any]]] = []

    def images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        filled = batch[batch.any(axis=(1, 2, 3))]  # a last batch is filled up with black
        if len(filled):
            self.batches.append({"image": filled.copy()})
        return self._of.images(batch)

    def texts(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self.card.text is not None
        given = {"input_ids": ids, "attention_mask": mask}
        self.batches.append({name: given[name].copy() for name in self.card.text.inputs})
        return self._of.texts(ids, mask)


class _Nobody:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        pass

    def done(self, count: int, rejected: int) -> None:
        pass


def _said(found: Fidelity) -> str:
    parts = [f"cosine {found.mean_cosine:.4f} (first percentile {found.p1_cosine:.4f})"]
    if found.overlap:
        parts.append(f"{found.overlap:.3f} of neighbours stay")
    if found.accuracy is not None and found.accuracy_before is not None:
        parts.append(f"probe {found.accuracy_before:.3f} → {found.accuracy:.3f}")
    return ", ".join(parts)
