"""What becomes of each head of a job: kept and measured again, or fitted anew beside it.

A head that is there is measured on the candidate's test items, by the kept split. It is fitted anew where that is
``due``; it then replaces the other unless it is significantly worse on the same test items. Where its predictions are
too many to be kept, the two figures are compared as if they were of different items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featstore import training
from featstore.errors import GateError, UsageError
from featstore.heads.opening import find_card, newest_card, versions
from featstore.records import Estimate, GateItem, HeadCard, HeadOutcome
from featstore.refresh.due import below, due
from featstore.training.comparing import said_of
from featstore.training.measuring import PRIMARY
from featstore.training.mistakes import wrong_of
from featstore.training.rescoring import Rescored, against, rescore

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.jobs import HeadJob, Job
    from featstore.layout import Layout
    from featstore.records import DriftReport, ModelCard, Published
    from featstore.settings import HeadSettings
    from featstore.tables import FeatureTable
    from featstore.training.comparing import Said

__all__ = ["settle"]

# What is wrong with the data of one head, and says nothing of the store or of the other heads.
_ITS_OWN = (UsageError, GateError)


def settle(
    layout: Layout,
    job: Job,
    *,
    run_id: str,
    candidate: FeatureTable,
    model: ModelCard,
    before: Published | None,
    drift: DriftReport | None,
    reporter: Reporter,
) -> tuple[HeadOutcome, ...]:
    """Measures the job's heads on the candidate, and fits anew those that are due.

    A head that can be neither measured nor fitted is said to have ``failed``; the others go on.

    Args:
        layout: The store.
        job: What heads it keeps.
        run_id: The run, in whose folder new heads lie until they are adopted.
        candidate: The table as it would be.
        model: Of the candidate's space.
        before: What is published.
        drift: Whether the data moved.
        reporter: Told of progress.

    Raises:
        IntegrityError: A head, the table or a split is damaged.
        LockedError: Another process is training one of the heads.
        StorageError: The disk refused.
    """
    published = {} if before is None else before.state.heads
    return tuple(
        _Head(
            layout,
            head,
            layout.staged_head(run_id, head.name),
            candidate,
            model,
            published.get(head.name),
            drift,
            reporter,
        ).settled()
        for head in job.heads
    )


@dataclass(frozen=True)
class _Head:
    layout: Layout
    job: HeadJob
    folder: str
    candidate: FeatureTable
    model: ModelCard
    published: int | None
    drift: DriftReport | None
    reporter: Reporter

    @property
    def settings(self) -> HeadSettings:
        """What it is trained with: under the job's name, on the split that is kept, without a page beside it."""
        return replace(self.job.settings, name=self.job.name, new_split=False, report=None)

    def settled(self) -> HeadOutcome:
        self.layout.storage.delete_folder(self.folder)  # what a run that was killed has left
        try:
            card = self._current()
            if card is None:
                return self._first()
            if (why := self._another(card)) is not None:
                return self._anew(card, why)
        except _ITS_OWN as error:
            return self._outcome("failed", error.message, None, {})
        try:
            found = rescore(self.layout, self.candidate, f"{card.head}:{card.version}", self.settings, self.reporter)
        except _ITS_OWN as error:
            return self._unmeasured(card, error)
        why = due(self.job.refit, found, self.drift)
        if why is None:
            return self._outcome("kept", self._reason(found), card.version, found.figures, wrong=found.wrong)
        return self._refitted(found, why)

    # ── what there is ───────────────────────────────────────────────────────────────────────

    def _current(self) -> HeadCard | None:
        """The published version, else the newest that was trained by hand."""
        if self.published is not None:
            return find_card(self.layout, f"{self.job.name}:{self.published}")
        card = newest_card(self.layout, self.job.name)
        if card is not None and card.table != self.candidate.name:
            raise UsageError(
                f"the head '{card.head}' belongs to the table '{card.table}', not to '{self.candidate.name}'.",
            )
        return card

    def _another(self, card: HeadCard) -> str | None:
        """Why a head cannot go on with the candidate, whatever it is worth."""
        mine, settings = f"head {card.head}:{card.version}", self.settings
        if card.space_id != self.candidate.space_id:
            return f"{mine} is of the space {card.space_id}, the table of {self.candidate.space_id}"
        if card.label != settings.label:
            return f"{mine} was trained for '{card.label}', the job says '{settings.label}'"
        if settings.task is not None and settings.task != card.task:
            return f"{mine} is a {card.task}, the job says {settings.task}"
        return None

    def _reason(self, found: Rescored) -> str:
        said = f"measured on {found.items:,} test items; to learn from: {found.changes}"
        moved = self.drift is not None and self.drift.drifted
        if self.job.refit == "on-drift" and moved and not found.changes:
            said += "; the data moved, but nothing that came has a label to learn from"
        return said

    # ── what is made ────────────────────────────────────────────────────────────────────────

    def _first(self) -> HeadOutcome:
        card = self._trained(self.settings)
        return self._made("trained", "there was none", card, said_of(self.layout, card, self.folder), {})

    def _anew(self, card: HeadCard, why: str) -> HeadOutcome:
        """A head that cannot go on is replaced, however good its successor is."""
        if self.job.refit == "never":
            return self._outcome("failed", f"{why}; refit is 'never'", card.version, {})
        made = self._trained(self.settings)
        return self._made("refitted", why, made, said_of(self.layout, made, self.folder), {})

    def _unmeasured(self, card: HeadCard, error: UsageError | GateError) -> HeadOutcome:
        """A head that cannot be measured is fitted anew if that can be done, for the same task."""
        why = f"head {card.head}:{card.version} cannot be measured: {error.message}"
        if self.job.refit == "never":
            return self._outcome("failed", why, card.version, {})
        try:
            made = self._trained(replace(self.settings, task=card.task))
        except _ITS_OWN as second:
            more = "" if second.message == error.message else f" Nor can it be fitted anew: {second.message}"
            return self._outcome("failed", why + more, card.version, {})
        return self._made("refitted", why, made, said_of(self.layout, made, self.folder), {})

    def _refitted(self, found: Rescored, why: str) -> HeadOutcome:
        before = found.card
        try:
            made = self._trained(replace(self.settings, task=before.task))
        except _ITS_OWN as error:
            reason = f"{why}, but it cannot be fitted anew: {error.message}"
            return self._outcome("refit dropped", reason, before.version, found.figures, wrong=found.wrong)
        apart, said = against(self.layout, self.candidate, f"{before.head}:{before.version}", made, self.folder)
        main = PRIMARY[made.task]
        if main in apart and apart[main].high < 0:
            self.layout.storage.delete_folder(self.folder)
            reason = f"{why}, but fitted anew it has {-apart[main].value:.3f} less {main} on the same test items"
            return self._outcome("refit dropped", reason, before.version, found.figures, apart, found.wrong)
        then, now = found.figures.get(main), made.metrics.get(main)
        if said is None and then is not None and now is not None and below(now, then):
            self.layout.storage.delete_folder(self.folder)
            reason = f"{why}, but fitted anew its {main} is {now.value:.3f}, and was {then.value:.3f}"
            return self._outcome("refit dropped", reason, before.version, found.figures, {}, found.wrong)
        return self._made("refitted", why, made, said, apart)

    def _trained(self, settings: HeadSettings) -> HeadCard:
        tables = [(self.candidate, self.model)]
        card = training.train_head(
            self.layout, tables, settings, self.reporter, torch=self.job.torch, folder=self.folder
        )
        assert isinstance(card, HeadCard)
        return card

    def _made(
        self, action: str, why: str, card: HeadCard, said: Said | None, apart: dict[str, Estimate]
    ) -> HeadOutcome:
        wrong: tuple[GateItem, ...] = ()
        if said is not None:
            ids = [item for item, _ in said.keys]
            wrong = wrong_of(card.task, ids, said.truth, said.values, card.classes)
        same = self._twin(card)
        if same is not None:
            self.layout.storage.delete_folder(self.folder)
            return self._outcome(action, why, same, card.metrics, apart, wrong)
        return self._outcome(action, why, card.version, card.metrics, apart, wrong, folder=self.folder)

    def _twin(self, card: HeadCard) -> int | None:
        """A version that is this very head: a run that was killed has kept it already."""
        for version in versions(self.layout, card.head):
            other = find_card(self.layout, f"{card.head}:{version}")
            if (other.head_file.sha256, other.table_version, other.classes) == (
                card.head_file.sha256,
                card.table_version,
                card.classes,
            ):
                return version
        return None

    def _outcome(
        self,
        action: str,
        reason: str,
        version: int | None,
        figures: dict[str, Estimate],
        difference: dict[str, Estimate] | None = None,
        wrong: tuple[GateItem, ...] = (),
        *,
        folder: str | None = None,
    ) -> HeadOutcome:
        return HeadOutcome(
            head=self.job.name,
            action=action,  # type: ignore[arg-type]
            reason=reason,
            version=version,
            before=self.published,
            folder=folder,
            figures=figures,
            difference=difference or {},
            wrong=wrong,
        )
