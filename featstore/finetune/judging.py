"""A trained network before the gates: exported, embedded, measured beside the vectors as they are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import GateError, UsageError
from featstore.finetune import contents, embedding, frozen, network, outcome, probe, tasks
from featstore.finetune.base import full_precision
from featstore.finetune.examples import Start
from featstore.finetune.gates import forgetting, gain, geometry, latency, parity
from featstore.finetune.looking import look
from featstore.finetune.report import Nearest, nearest
from featstore.heads import figures, probabilities
from featstore.records import Estimate, FinetuneForgetting, FinetuneReport, GateOutcome

if TYPE_CHECKING:
    from featstore.encode import Encoder
    from featstore.finetune.embedding import Embedded
    from featstore.finetune.frozen import Scored
    from featstore.finetune.outcome import Outcome
    from featstore.finetune.prepared import Prepared
    from featstore.heads import Head
    from featstore.models.making import Draft
    from featstore.models.original import Original

__all__ = ["Judged", "Judging", "sketch"]

# Test items that go through the network once more, to be compared with the graph.
_COMPARED = 2_000


@dataclass(frozen=True, eq=False)
class Judged:
    """What the gates found.

    Attributes:
        report: All of it.
        draft: The model, exported and proven; None where it never came so far.
        nearest: What became of neighbourhoods; None where there are no new vectors.
    """

    report: FinetuneReport
    draft: Draft | None
    nearest: Nearest | None


@dataclass(eq=False, kw_only=True)
class Judging:
    """One judging.

    Attributes:
        given: What the fine-tuning began with.
        result: How training ended.
        original: The network with its trained weights.
        head: Its own head.
        started: When the run began, for its seconds.
    """

    given: Prepared
    result: Outcome
    original: Original
    head: Start
    started: float
    gates: list[GateOutcome] = field(default_factory=list)
    losses: list[FinetuneForgetting] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    draft: Draft | None = None
    new: Embedded | None = None
    tuned: Scored | None = None
    difference: Estimate | None = None

    def judge(self) -> Judged:
        """Asks the gates, the cheapest first; all are asked unless there is nothing left to ask about.

        Raises:
            InterruptedRunError: A signal stopped it; run it again to go on.
        """
        if self._exported() and self._embedded():
            self._gained()
            self._forgotten()
            self._equal()
            self._fast()
        return Judged(self._report(), self.draft, self._nearest)

    # ── the steps ───────────────────────────────────────────────────────────────────────────

    def _exported(self) -> bool:
        from featstore.models import making

        try:
            self.draft = making.draft(self.original, self.given.reporter.message)
        except GateError as error:
            least = error.context.get("min_cosine")
            self.gates.append(parity.unequal(float(least) if isinstance(least, float) else 0.0, error.message))
            return False
        return True

    def _embedded(self) -> bool:
        mine = self.given.labelled
        self.new = found = embedding.embed(
            self._after, mine.read, len(mine), "embedding with the new model", self.given.reporter
        )
        self.gates.append(geometry.sound(found.refused, len(mine), found.why))
        if found.refused:
            return False
        self.gates.append(geometry.dead(mine.vectors, found.vectors, same=self._same_values))
        most = self.given.settings.max_rank_loss
        self.gates.append(geometry.rank(mine.vectors[mine.test], found.vectors[mine.test], most))
        return True

    def _gained(self) -> None:
        given, mine, vectors = self.given, self.given.labelled, self._vectors
        side, test = mine.learned, mine.test
        self.tuned = tuned = frozen.renewed(
            vectors[side],
            mine.truth[side],
            mine.data.classes,
            mine.fold[side],
            mine.groups[side],
            mine.validated[side],
            weights=given.settings.class_weights,
            seed=given.settings.seed,
            progress=given.reporter.stage,
        )
        before = given.frozen
        look(given.layout, mine.record, given.key, self._space)
        self.difference = found = gain.gained(
            mine.truth[test],
            (before.head, mine.vectors[test]),
            (tuned.head, vectors[test]),
            mine.groups[test],
            seed=given.settings.seed,
        )
        self.gates.append(gain.gain(found, given.settings.min_gain, items=int(test.sum())))

    def _forgotten(self) -> None:
        given, most = self.given, self.given.settings.max_forgetting
        found, failed = tasks.registered(given.layout, given.table, given.heads, given.reporter)
        known = {item: at for at, item in enumerate(given.labelled.data.ids)}
        for one in found:
            try:
                task, vectors = self._task(one, known)
                look(given.layout, one.record, given.key, self._space)
                loss = forgetting.head(task.task, task.vectors, vectors, given.reporter.stage)
            except UsageError as error:  # such as a task of which too few items can be read
                failed[one.task.name] = error.message
                continue
            self.losses.append(loss)
            self.gates.append(forgetting.judged(loss, most))
            self._note_seen(task)
        self.gates += [forgetting.unknown(name, most, why) for name, why in failed.items()]
        neutral = probe.neutral(given.card.modality)
        said = [
            probe.right(
                embedding.embed(
                    encoder, neutral.read, len(neutral.truth), f"embedding {neutral.name}", given.reporter
                ).vectors,
                neutral.truth,
            )
            for encoder in (self._before, self._after)
        ]
        loss = forgetting.probe(neutral.name, said[0], said[1], seed=given.settings.seed)
        self.losses.append(loss)
        self.gates.append(forgetting.judged(loss, most))

    def _note_seen(self, task: tasks.Registered) -> None:
        """Splits are made a label at a time: what one head is tested on, training may have met under another label."""
        mine = self.given.labelled
        trained = {mine.data.contents[at] for at in np.flatnonzero(mine.learned).tolist()}
        tested = [task.contents[at] for at in np.flatnonzero(task.task.fold < 0).tolist()]
        seen = sum(content in trained for content in tested)
        if seen:
            self.notes.append(
                f"head '{task.task.name}': {seen:,} of its {len(tested):,} test items were trained on under the label "
                f"'{self.given.settings.label}', so what it loses on new items may be more"
            )

    def _equal(self) -> None:
        mine = self.given.labelled
        test = np.flatnonzero(mine.test)[:_COMPARED]
        which = np.zeros(len(mine), np.bool_)
        which[test] = True
        self.given.reporter.stage("comparing the graph with the network", len(test))
        torch = network.vectors(self.original, mine.examples(which))
        self.gates.append(parity.cosine(torch, self._vectors[test]))
        self.gates.append(parity.agreement(self.head, torch, self._vectors[test]))

    def _fast(self) -> None:
        mine = self.given.labelled
        self.given.reporter.stage("timing both models")
        most = self.given.settings.max_slower
        self.gates.append(latency.latency(self._before, self._after, mine.read, len(mine), most))

    # ── what they share ─────────────────────────────────────────────────────────────────────

    @property
    def _vectors(self) -> NDArray[np.float32]:
        assert self.new is not None
        return self.new.vectors

    @property
    def _space(self) -> str:
        assert self.draft is not None
        return self.draft.card.space_id

    @property
    def _same_values(self) -> bool:
        """Whether the vectors before come from what training began with, or from the same origin."""
        card = full_precision(self.given.layout, self.given.card)
        tuned_from = None if card.finetuning is None else card.finetuning.base
        return self.given.origin.space_id in (card.space_id, tuned_from)

    def _cosine(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
        """The mean between an item's two vectors; 0 for those of another model, which have other values."""
        if not self._same_values:
            return 0.0
        a, b = before.astype(np.float64), after.astype(np.float64)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return float(np.mean((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)))

    @cached_property
    def _before(self) -> Encoder:
        """The table's model; of a quantised one the model itself, which is what was trained."""
        card = full_precision(self.given.layout, self.given.card)
        return embedding.of_store(self.given.layout, card, self.given.settings)

    @cached_property
    def _after(self) -> Encoder:
        assert self.draft is not None
        return embedding.of_draft(self.draft, self.given.settings)

    def _task(self, one: tasks.Registered, known: dict[str, int]) -> tuple[tasks.Registered, NDArray[np.float32]]:
        """A head's items that can still be read, with their new vectors; those that are there are not made again."""
        given = self.given
        other = np.array([item not in known for item in one.ids], np.bool_)
        vectors = np.zeros((len(one.ids), self._vectors.shape[1]), np.float32)
        vectors[~other] = self._vectors[[known[item] for item in one.ids if item in known]]
        there = ~other
        if other.any():
            rest = one.of(other)
            found = contents.find(
                given.layout, given.table.name, given.card, given.extract, rest.ids, rest.contents, given.reporter
            )
            left = np.flatnonzero(found.there)
            read = found.held(left) if given.card.modality == "text" else found.of(left)
            made = embedding.embed(
                self._after, read, len(left), f"embedding the items of head '{one.task.name}'", given.reporter
            )
            at = np.flatnonzero(other)[left]
            vectors[at], there[at] = made.vectors, True
            gone = len(one.ids) - int(there.sum())
            if gone:
                self.notes.append(f"{gone:,} items of head '{one.task.name}' changed or are gone, and are left out")
        return one.of(there), vectors[there]

    @cached_property
    def _nearest(self) -> Nearest | None:
        mine = self.given.labelled
        if self.new is None or self.new.refused:
            return None
        return nearest(mine.data.ids, mine.vectors, self.new.vectors, seed=self.given.settings.seed)

    def _figures(self, head: Head, vectors: NDArray[np.float32]) -> dict[str, Estimate]:
        return self._of_test(head.probabilities(vectors[self.given.labelled.test]))

    def _of_test(self, said: NDArray[np.float64]) -> dict[str, Estimate]:
        mine = self.given.labelled
        test = mine.test
        return figures("classification", mine.truth[test], said, mine.groups[test], seed=self.given.settings.seed)

    def _report(self) -> FinetuneReport:
        given, mine = self.given, self.given.labelled
        found = sketch(given, self.result, self.started)
        changed: dict[str, object] = {}
        if self.tuned is not None and self.difference is not None:
            own = probabilities("classification", parity.logits(self.head, self._vectors[mine.test]), 1.0)
            changed = {
                "frozen": self._figures(given.frozen.head, mine.vectors),
                "tuned": self._figures(self.tuned.head, self._vectors),
                "tuned_kind": self.tuned.head.kind,
                "own": self._of_test(own),
                "gain": self.difference,
            }
        if self._nearest is not None:
            changed |= {"overlap": self._nearest.overlap, "cosine": self._cosine(mine.vectors, self._vectors)}
        return replace(
            found,
            space_id=found.space_id if self.draft is None else self.draft.card.space_id,
            forgetting=tuple(self.losses),
            gates=tuple(self.gates),
            notes=(*found.notes, *self.notes),
            **changed,  # type: ignore[arg-type]
        )


def sketch(given: Prepared, result: Outcome, started: float) -> FinetuneReport:
    """The report of a training before any gate was asked: nothing was gained."""
    mine, table = given.labelled, given.table
    counts = np.bincount(mine.truth, minlength=len(mine.data.classes)).tolist()
    base = given.origin.space_id
    model = given.origin.model
    notes = [*given.warnings]
    if given.settings.class_weights is not None:
        notes.append("epochs and heads are chosen with every class counting alike; the gain counts every item alike")
    if base != table.space_id:
        notes.append(f"training began with {base}; it is compared with the table's vectors of {table.space_id}")
    return FinetuneReport(
        table=table.name,
        version=table.version or 0,
        label=given.settings.label,
        base=base,
        model=model,
        space_id=base,
        method=result.method,
        settings=result.settings,
        classes=dict(zip(mine.data.classes, counts, strict=True)),
        n_train=int(mine.trained.sum()),
        n_validation=int(mine.validated.sum()),
        n_test=int(mine.test.sum()),
        split_id=mine.record.split_id,
        blocks=result.blocks,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        stopped_early=result.stopped_early,
        micro_batch=result.micro_batch,
        trials=result.trials,
        frozen={},
        frozen_kind=given.frozen.head.kind,
        tuned={},
        tuned_kind="",
        own={},
        gain=Estimate(value=0.0, low=0.0, high=0.0),
        forgetting=(),
        cosine=1.0,
        overlap=1.0,
        gates=(),
        html=given.layout.finetune(table.name, given.key, outcome.PAGE),
        created_ts=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
        notes=tuple(notes),
    )
