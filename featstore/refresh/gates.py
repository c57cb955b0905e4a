"""What must hold before anything is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from featstore.errors import GateError
from featstore.records import ExtractResult, GateItem, GateOutcome
from featstore.tables import FeatureTable, RejectsTable
from featstore.training.measuring import PRIMARY

if TYPE_CHECKING:
    from featstore.jobs import Job
    from featstore.layout import Layout
    from featstore.records import DriftReport, HeadOutcome, IndexCard, Published

__all__ = ["advice", "judge", "raised", "rejected", "told"]

# Fewer refused or removed items than this are an accident, whatever share they are: as in an extract.
_FEW = 10
_NAMED = 10

_Relation = Literal["at most", "at least"]


def judge(
    layout: Layout,
    job: Job,
    *,
    before: Published | None,
    table: FeatureTable | None,
    candidate: FeatureTable,
    extracted: ExtractResult | None,
    index: IndexCard | None,
    heads: Sequence[HeadOutcome],
    drift: DriftReport | None,
) -> tuple[GateOutcome, ...]:
    """Judges a candidate by each gate of its job.

    Args:
        layout: The store.
        job: With its gates.
        before: What is published; a candidate is held against it.
        table: The table as it is, which is what stands for it where nothing was published.
        candidate: The table as it would be.
        extracted: What the extract did; None where the job has none.
        index: The candidate's index; None where the job keeps none.
        heads: What became of each head.
        drift: Whether the data moved; None where nothing compares.

    Raises:
        IntegrityError: A table is damaged.
    """
    gates = job.gates
    found = []
    if extracted is not None:
        found.append(_rejected(layout, gates.max_reject_share, extracted))
        found.append(_removed(layout, gates.max_removed_share, before, table, candidate))
    if gates.min_recall is not None:
        found.append(_recall(gates.min_recall, index))
    if gates.max_drift_auc is not None:
        found.append(_drift(gates.max_drift_auc, before, candidate, drift))
    found += [_failed(head) for head in heads if head.action == "failed"]
    by_name = {head.head: head for head in heads}
    found += [_accurate(name, least, by_name.get(name)) for name, least in gates.min_accuracy.items()]
    return tuple(found)


def rejected(layout: Layout, job: Job, extracted: ExtractResult) -> GateOutcome:
    """The gate of refused items alone, for a run that brought nothing else."""
    return _rejected(layout, job.gates.max_reject_share, extracted)


def told(refused: Sequence[GateOutcome]) -> str:
    """The gates that refused, in one sentence each."""
    return " ".join(_sentence(one) for one in refused)


def raised(error: GateError, job: Job) -> GateOutcome | None:
    """What a step refused before the gates were asked, as the outcome of the job's gate; None where it has none."""
    context = error.context
    missing, stored, removed = context.get("missing"), context.get("stored"), context.get("removed")
    if isinstance(missing, tuple) and isinstance(stored, int) and isinstance(removed, int):
        items = tuple(GateItem(item_id=str(item), about="is missing now") for item in missing[:_NAMED])
        share = removed / max(1, stored)
        gate = _Gate("max_removed_share", job.gates.max_removed_share, "at most")
        return gate.said("refused", share, f"{removed:,} of {stored:,} would leave", items)
    best, asked = context.get("best_recall"), context.get("recall")
    if isinstance(best, float) and isinstance(asked, float):
        least = asked if job.gates.min_recall is None else job.gates.min_recall
        return _Gate("min_recall", least, "at least").said("refused", best, "the best index that may be tried")
    return None


def advice(refused: GateOutcome, job: Job) -> str:
    """What to do where a step refused, so that there is no candidate to publish."""
    if refused.gate == "max_removed_share":
        uri = "the source" if job.extract is None else job.extract.source
        return f"If {uri} is really complete, let the job's gates.max_removed_share be higher for one run."
    return "Leave out the job's index.kind and index.factory, allow more index.memory, or ask for a lower index.recall."


@dataclass(frozen=True)
class _Gate:
    name: str
    limit: float
    relation: _Relation

    def judged(self, value: float, note: str | None = None, items: Sequence[GateItem] = ()) -> GateOutcome:
        """By the value alone."""
        good = value <= self.limit if self.relation == "at most" else value >= self.limit
        return self.said("passed" if good else "refused", value, note, items)

    def said(
        self,
        status: Literal["passed", "refused", "not judged"],
        value: float | None,
        note: str | None = None,
        items: Sequence[GateItem] = (),
    ) -> GateOutcome:
        return GateOutcome(
            gate=self.name,
            status=status,
            value=value,
            limit=self.limit,
            relation=self.relation,
            note=note,
            items=tuple(items),
        )


def _rejected(layout: Layout, most: float, extracted: ExtractResult) -> GateOutcome:
    gate = _Gate("max_reject_share", most, "at most")
    tried = extracted.seen - extracted.left
    if not tried:
        return gate.said("not judged", None, "no item was seen")
    note = f"{extracted.rejected:,} of {tried:,} items"
    items = _refused_items(layout, extracted) if extracted.rejected else ()
    share = extracted.rejected / tried
    if extracted.rejected <= _FEW:
        return gate.said("passed", share, note, items)
    return gate.judged(share, note, items)


def _refused_items(layout: Layout, extracted: ExtractResult) -> tuple[GateItem, ...]:
    """Those of this run first, then the newest of those before."""
    rows = pl.from_arrow(RejectsTable.read(layout, extracted.table, extracted.space_id))
    assert isinstance(rows, pl.DataFrame)
    mine = rows.with_row_index("at").sort([pl.col("run_id") == (extracted.run_id or ""), "at"], descending=[True, True])
    return tuple(
        GateItem(item_id=row["item_id"], about=f"{row['code']}: {row['message']}")
        for row in mine.unique("item_id", keep="first", maintain_order=True).head(_NAMED).iter_rows(named=True)
    )


def _removed(
    layout: Layout, most: float, before: Published | None, table: FeatureTable | None, candidate: FeatureTable
) -> GateOutcome:
    """By contents: what was renamed is still there. Another space's table has the same contents."""
    gate = _Gate("max_removed_share", most, "at most")
    there = table
    if before is not None:
        state = before.state
        if table is None or (table.space_id, table.version) != (state.space_id, state.table_version):
            there = FeatureTable.open(layout, candidate.name, state.space_id, state.table_version)
    if there is None or there.version is None or not len(there):
        return gate.said("not judged", None, "nothing was there before")
    if there.space_id == candidate.space_id and there.files == candidate.files:
        return gate.said("passed", 0.0, f"0 of {len(there):,} contents")
    was, now = (_contents(one) for one in (there, candidate))
    gone = was.join(now, on="content_sha256", how="anti", maintain_order="left")
    count, total = gone["content_sha256"].n_unique(), was["content_sha256"].n_unique()
    items = [GateItem(item_id=item, about="is not there any more") for item in gone["item_id"].head(_NAMED).to_list()]
    note = f"{count:,} of {total:,} contents"
    if count <= _FEW:
        return gate.said("passed", count / total, note, items)
    return gate.judged(count / total, note, items)


def _contents(table: FeatureTable) -> pl.DataFrame:
    frame = pl.from_arrow(table.rows(["item_id", "content_sha256"]).select(["item_id", "content_sha256"]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _recall(least: float, index: IndexCard | None) -> GateOutcome:
    gate = _Gate("min_recall", least, "at least")
    if index is None:
        return gate.said("not judged", None, "the job keeps no index")
    if index.measured is None:
        return gate.said("not judged", None, index.note or "there are too few items to ask")
    found = index.measured
    note = f"of the {found.k} nearest, {found.low:.3f}–{found.high:.3f}, {found.queries:,} queries"
    return gate.judged(found.recall, note)


def _drift(most: float, before: Published | None, candidate: FeatureTable, drift: DriftReport | None) -> GateOutcome:
    gate = _Gate("max_drift_auc", most, "at most")
    if drift is None:
        if before is None:
            return gate.said("not judged", None, "nothing was published before")
        return gate.said("not judged", None, f"what is published is of the space {before.state.space_id}")
    if not drift.enough:
        return gate.said("not judged", None, drift.note)
    found = next(measure for measure in drift.measures if measure.name == "classifier")
    note = f"p {found.p:.3f}, {drift.before:,} contents before and {drift.after:,} new"
    items = [GateItem(item_id=item.item_id, about=f"shifted by {item.score:.2f}") for item in drift.shifted[:_NAMED]]
    return gate.judged(found.effect, note, items)


def _failed(head: HeadOutcome) -> GateOutcome:
    return _Gate(f"head.{head.head}", 0.0, "at most").said("refused", None, head.reason)


def _accurate(name: str, least: float, head: HeadOutcome | None) -> GateOutcome:
    gate = _Gate(f"min_accuracy.{name}", least, "at least")
    if head is None:
        return gate.said("refused", None, f"the job has no head '{name}'")
    main = next((figure for figure in PRIMARY.values() if figure in head.figures), None)
    if main is None:
        return gate.said("refused", None, "the head could not be measured")
    found = head.figures[main]
    return gate.judged(found.value, f"{main} {found.low:.3f}–{found.high:.3f} ({head.action})", head.wrong)


def _sentence(one: GateOutcome) -> str:
    if one.value is None:
        return f"{one.gate}: {(one.note or 'could not be judged').rstrip('.')}."
    verb = "allowed" if one.relation == "at most" else "needed"
    note = f" ({one.note})" if one.note else ""
    return f"{one.gate} is {one.value:.4g}, {one.relation} {one.limit:.4g} is {verb}{note}."
