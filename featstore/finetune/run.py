"""One fine-tuning: trained, judged, and then a model or everything as it was."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featstore import addresses, founding
from featstore.errors import DeadlineError, GateError, InterruptedRunError, StatedError, StorageError, UsageError
from featstore.extract.progress import Reporter
from featstore.finetune import keeping, outcome
from featstore.finetune.gates import gain, latency
from featstore.finetune.gates.outcome import told
from featstore.finetune.judging import Judged, Judging, sketch
from featstore.finetune.key import limits
from featstore.finetune.prepared import Prepared, prepare
from featstore.finetune.training import Undertaking, train, undertaking
from featstore.models import kept, session
from featstore.records import FinetuneReport, FinetuneResult, FinetuneState
from featstore.storage import locks
from featstore.training.naming import page_at

if TYPE_CHECKING:
    from featstore.finetune.outcome import Outcome
    from featstore.layout import Layout
    from featstore.settings import FinetuneSettings

__all__ = ["finetune"]


def finetune(
    layout: Layout, address: str, settings: FinetuneSettings, *, reporter: Reporter | None = None
) -> FinetuneResult:
    """Fine-tunes a table's backbone on its labels; what passes all gates becomes a model of the store.

    Nothing else of the store is touched: the table, what is published and the heads stay as they are, and so do the
    models where a gate refuses. Run again after a crash or a signal it goes on from where it was; run again with the
    same labels, backbone and settings it does nothing. A refused one is judged again, without training, where the
    gates' limits are others.

    Args:
        layout: The store.
        address: The table: ``NAME[@MODEL][:VERSION]``.
        settings: What was asked.
        reporter: Told of progress.

    Raises:
        NotFoundError: There is no such table, label, model or source.
        UsageError: The labels, the source or the model do not make something that can be fine-tuned.
        GateError: A gate refused, and everything is as it was. ``context["result"]`` is the result.
        LockedError: Another process is fine-tuning on the same table.
        InterruptedRunError: A signal stopped it; run it again to go on.
        IntegrityError: Something that the store holds is damaged.
    """
    return _Run(layout, address, settings, reporter or Reporter()).go()


@dataclass
class _Run:
    layout: Layout
    address: str
    settings: FinetuneSettings
    reporter: Reporter
    started: float = field(default_factory=time.monotonic)
    given: Prepared | None = None
    state: FinetuneState | None = None
    warnings: tuple[str, ...] = ()

    def go(self) -> FinetuneResult:
        """Fine-tunes while nobody else does on the same table; what ends it early carries the result."""
        page = self._asked()
        name, _ = addresses.resolve(self.layout, addresses.parse(self.address))
        lock, purpose = self.layout.finetune_lock(name), f"fine-tuning on '{name}'"
        with locks.hold(self.layout.storage, lock, purpose=purpose, warn=self.reporter.warning):
            try:
                return self._go(page)
            except StatedError as error:
                if "result" not in error.context and self.given is not None:
                    stopped = isinstance(error, InterruptedRunError | DeadlineError)
                    error.context["result"] = self._result(
                        "interrupted" if stopped else "failed", None, error=error.message
                    )
                raise

    def _asked(self) -> Path | None:
        """Refuses what could not be done in the end; gives the place of the page, where one is asked for."""
        session.check_device(self.settings.device)  # torch trains, and ONNX Runtime embeds what the gates look at
        if self.settings.mlflow is not None:
            from featstore.finetune import tracking

            tracking.check(self.settings.mlflow)
        if self.settings.trials is not None:
            from featstore.finetune import searching

            searching.check()
        return None if self.settings.report is None else page_at(self.layout, self.settings.report)

    def _go(self, page: Path | None) -> FinetuneResult:
        layout = self.layout
        self.given = given = prepare(layout, self.address, self.settings, self.reporter, keep=True)
        for text in given.warnings:
            self._warn(text)
        self.state, report = keeping.find_state(given), keeping.find_report(given)
        if self._ended(report):
            if self.state is not None and self.state.status == "kept":
                outcome.forget(layout, given.table.name, given.key)  # killed right after the model was kept
            keeping.copy_page(given, page)
            return self._result("nothing new", report)
        founding.found(layout)
        self.state = keeping.note(given, self.state, "open")
        result = outcome.find(layout, given.table.name, given.key)
        if result is None:
            planned = undertaking(given)
            self._announce(planned)
            result = train(given, planned)
        judged, weights = self._judged(replace(result, settings={**result.settings, **limits(self.settings)}))
        keeping.write_report(given, judged, page)
        return self._concluded(judged, weights, page)

    def _ended(self, report: FinetuneReport | None) -> bool:
        """Whether the same came to its end before, and would come to the same again."""
        before = self.state
        assert self.given is not None
        if before is None or before.status == "open":
            return False
        if before.status == "kept":
            return before.space_id is not None and kept.has(self.layout, before.space_id)
        if report is None or before.judged_by != self.given.judged_by:
            return False
        # Two models are timed beside whatever else the machine does.
        return any(gate.status == "refused" and gate.gate != latency.NAME for gate in report.gates)

    def _announce(self, planned: Undertaking) -> None:
        """Says what will be trained, for how long, and what it has to beat."""
        assert self.given is not None
        given, mine = self.given, self.given.labelled
        if given.advice is not None:
            self._warn(given.advice)
        frozen = given.frozen.unseen["accuracy"]
        self.reporter.message(
            f"frozen: the best head on the vectors as they are ({given.frozen.head.kind}) is right about "
            f"{frozen.value:.1%} ({frozen.low:.1%} to {frozen.high:.1%}) of {given.frozen.items:,} items of the "
            "training side that it has not seen"
        )
        names = ", ".join(block.name for block in planned.blocks if block.epoch is not None)
        low, high = planned.seconds
        self.reporter.message(
            f"training ({planned.method}): {planned.trained:,} of {given.original.parameters:,} parameters in {names}, "
            f"on {int(mine.trained.sum()):,} items, for up to {planned.settings.epochs} epochs, in {_span(low, high)}"
        )

    def _judged(self, result: Outcome) -> tuple[Judged, bytes | None]:
        """Asks the gates; where no epoch was better than the start, there is nothing to ask them about."""
        from featstore.models import tuned

        assert self.given is not None
        given, table = self.given, self.given.table.name
        if result.weights is None:
            report = replace(sketch(given, result, self.started), gates=(gain.nothing(self.settings.min_gain),))
            return Judged(report, None, None), None
        weights = outcome.weights(self.layout, table, given.key, result)
        head = outcome.head(self.layout, table, given.key, result)
        tuned.fill(given.original, weights, "what training ended with")
        label = self.settings.label
        name = self.settings.name or f"{given.original.slug}-{label}"
        original = tuned.named(given.original, name=name, table=table, label=label, weights=weights)
        judging = Judging(given=given, result=result, original=original, head=head, started=self.started)
        return judging.judge(), weights

    def _concluded(self, judged: Judged, weights: bytes | None, page: Path | None) -> FinetuneResult:
        """Keeps the model or refuses it; its report is there already."""
        assert self.given is not None
        given, report = self.given, judged.report
        refused = " ".join(told(gate) for gate in report.gates if gate.status == "refused")
        if not refused and judged.draft is not None and weights is not None:
            card = keeping.keep_model(given, judged.draft, weights)
            self.state = keeping.note(given, self.state, "kept", space_id=card.space_id)
            outcome.forget(self.layout, given.table.name, given.key)
            self._track(report, page)
            return self._result("kept", report)
        self.state = keeping.note(given, self.state, "refused", refused=refused, judged_by=given.judged_by)
        self._track(report, page)
        found = self._result("refused", report, error=refused)
        raise GateError(
            f"the fine-tuned {report.model} does not become a model. {refused}",
            hint=f"Everything is as it was. Look: {found.html}",
            context={"result": found},
        )

    def _track(self, report: FinetuneReport, page: Path | None) -> None:
        """Tells MLflow; that it cannot be told changes nothing about how the fine-tuning ended."""
        if self.settings.mlflow is None or self.given is None:
            return
        from featstore.finetune import tracking

        self.reporter.stage("logging to MLflow")
        folder = self.layout.storage.local(self.layout.finetune(report.table, self.given.key))
        try:
            tracking.log(report, folder, self.settings.mlflow, report=page or folder / outcome.PAGE)
        except (StorageError, UsageError) as error:
            self._warn(f"MLflow was not told: {error.message}")

    def _warn(self, text: str) -> None:
        self.warnings = (*self.warnings, text)
        self.reporter.warning(text)

    def _result(
        self,
        status: Literal["kept", "refused", "nothing new", "interrupted", "failed"],
        report: FinetuneReport | None,
        *,
        error: str | None = None,
    ) -> FinetuneResult:
        assert self.given is not None
        table, state = self.given.table.name, self.state
        space = None if state is None or state.status != "kept" else state.space_id
        there = space is not None and space != self.given.table.space_id
        return FinetuneResult(
            table=table,
            label=self.settings.label,
            status=status,
            space_id=space,
            key=self.given.key,
            report=report,
            html=None if report is None or report.html is None else str(self.layout.storage.local(report.html)),
            next=(f"featstore migrate {table} --to {space}",) if there else (),
            seconds=round(time.monotonic() - self.started, 3),
            error=error,
            warnings=self.warnings,
        )


def _span(low: float, high: float) -> str:
    """Two times in seconds, in words."""
    if high < 90:
        return f"about {max(1, round(low))} to {max(2, round(high))} s"
    if high < 5_400:
        return f"about {max(1, round(low / 60))} to {max(2, round(high / 60))} min"
    return f"about {max(1, round(low / 3_600))} to {max(2, round(high / 3_600))} h"
