"""How a job went, for Prometheus: a text file that its node exporter picks up.

Source: the text-based exposition format, https://prometheus.io/docs/instrumenting/exposition_formats/, and the node
exporter's textfile collector. Times are Unix seconds, so that an age is ``time() - metric``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import pyarrow.compute as pc

from featstore import published
from featstore.errors import FeatstoreError
from featstore.records import JobState, RefreshResult
from featstore.storage import documents, durable
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.jobs import Job
    from featstore.layout import Layout

__all__ = ["text", "write"]


def write(layout: Layout, job: Job, result: RefreshResult, *, warn: Callable[[str], None] = lambda _: None) -> None:
    """Writes the job's text file, where it has one: atomically, and readable by everybody.

    Args:
        layout: The store.
        job: The job; how its runs went is written down already.
        result: Of its last run.
        warn: Told when the file cannot be written, which is no reason for the run to fail.
    """
    if job.textfile is None:
        return
    try:
        body = text(layout, job, result)
        # The collector reads *.prom only, and so never the temporary file.
        with durable.replacing(Path(job.textfile)) as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(body.encode())
    except (FeatstoreError, OSError) as error:
        message = error.message if isinstance(error, FeatstoreError) else str(error)
        warn(f"the metrics could not be written to {job.textfile}: {message}")


def text(layout: Layout, job: Job, result: RefreshResult) -> str:
    """The file's content.

    Raises:
        IntegrityError: A document of the job or of the published state is damaged.
    """
    found = _Families({"job": job.name, "table": job.table})
    found.add("job_duration_seconds", "How long the last run took.", result.seconds)
    for stage, seconds in result.stage_seconds.items():
        found.add("job_stage_duration_seconds", "How long a stage of the last run took.", seconds, stage=stage)
    for status in get_args(get_type_hints(RefreshResult)["status"]):
        found.add("job_status", "1 for how the last run ended.", float(status == result.status), status=status)
    _state(found, documents.find(layout.storage, layout.job(job.name), JobState))
    _extract(found, result)
    _beside(found, result)
    _judged(found, _last_judged(layout, job, result))
    _published(found, layout, job)
    return found.text()


def _state(found: _Families, state: JobState | None) -> None:
    """When it last ran and succeeded; what a run that failed leaves as it was."""
    if state is None:
        return
    found.add("job_last_run_timestamp_seconds", "When the last run ended.", _seconds(state.last_finished_ts))
    about = "When a run last published all or found nothing new."
    found.add("job_last_success_timestamp_seconds", about, _seconds(state.last_success_ts))
    found.add("job_last_published_timestamp_seconds", "When a run last published.", _seconds(state.last_published_ts))
    found.add("job_failures", "Runs in a row, up to the last, that were no success.", state.failures)


def _extract(found: _Families, result: RefreshResult) -> None:
    extract = result.extract
    if extract is None:
        return
    found.add("job_rows", "Items that the table has, or would have.", extract.stored + extract.reused)
    found.add("job_items_embedded", "Items that were embedded.", extract.stored)
    found.add("job_items_reused", "Items whose vector was there.", extract.reused)
    found.add("job_items_rejected", "Items that were refused.", extract.rejected)
    found.add("job_items_removed", "Items that left the table.", extract.removed)
    found.add("job_items_per_second", "How fast items were embedded.", extract.items_per_s if extract.stored else None)


def _beside(found: _Families, result: RefreshResult) -> None:
    """The table of the model that this one is on its way to, where there is such a one."""
    if result.beside is None and result.beside_error is None:
        return
    about = "1 where the table of the model to come could not be kept in step."
    found.add("job_beside_failed", about, float(result.beside_error is not None))
    if result.beside is not None:
        about = "Items that were embedded for the model to come."
        found.add("job_beside_items_embedded", about, result.beside.stored)
        found.add("job_beside_items_left", "Items that the move is yet to embed.", result.beside.left)


def _last_judged(layout: Layout, job: Job, result: RefreshResult) -> RefreshResult:
    """The run itself; where it found nothing to judge, the one that made what is published."""
    if result.gates and result.status != "nothing new":  # there, only the gate on rejects was asked
        return result
    current = published.find(layout, job.table)
    run_id = None if current is None else current.state.run_id
    made = None if run_id is None else documents.find(layout.storage, layout.refresh(run_id), RefreshResult)
    return made if made is not None and made.job == job.name else result


def _judged(found: _Families, judged: RefreshResult) -> None:
    """Gates and figures, so that a quiet day does not make them vanish."""
    for gate in judged.gates:
        if gate.status != "not judged":
            found.add(
                "job_gate_passed", "1 where a gate let the run pass.", float(gate.status == "passed"), gate=gate.gate
            )
    if judged.index is not None and judged.index.measured is not None:
        measured = judged.index.measured
        found.add(
            "job_index_recall", "Share of the true nearest that the index finds.", measured.recall, k=str(measured.k)
        )
    if judged.drift is not None and judged.drift.drifted is not None:
        found.add("job_drifted", "1 where what came is not of the kind that was there.", float(judged.drift.drifted))
        for measure in judged.drift.measures:
            about = "How far what came is from what was there; the classifier's is an area under the curve."
            found.add("job_drift", about, measure.effect, measure=measure.name)
    for head in judged.heads:
        for figure, estimate in head.figures.items():
            about = "A head's figure on the test items, when it was last measured."
            found.add("job_head_figure", about, estimate.value, head=head.head, figure=figure)


def _published(found: _Families, layout: Layout, job: Job) -> None:
    """What is published now, whatever the run did."""
    current = published.find(layout, job.table)
    if current is None:
        return
    state = current.state
    found.add("published_version", "The table version that is published.", state.table_version)
    found.add("published_timestamp_seconds", "When it was published.", _seconds(state.published_ts))
    found.add("publishing_held", "1 while nothing is published but on request.", float(current.held))
    about = "The newest time of a published item; where items have none, when they were published."
    newest = _newest(layout, job.table, state.space_id, state.table_version)
    found.add("published_data_timestamp_seconds", about, _seconds(state.published_ts) if newest is None else newest)


def _newest(layout: Layout, name: str, space_id: str, version: int) -> float | None:
    try:
        times = FeatureTable.open(layout, name, space_id, version).rows(["event_ts"])["event_ts"]
        newest = pc.max(times).as_py()
    except FeatstoreError:
        return None
    return newest.timestamp() if isinstance(newest, datetime) else None


def _seconds(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()


@dataclass
class _Families:
    """Metrics by name, each with its help once, its samples together: as the format wants it."""

    labels: dict[str, str]
    _helps: dict[str, str] = field(default_factory=dict)
    _samples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, about: str, value: float | None, **labels: str) -> None:
        if value is None or not math.isfinite(value):
            return
        named = ",".join(f'{key}="{_escaped(label)}"' for key, label in (self.labels | labels).items())
        self._helps[name] = about
        self._samples.setdefault(name, []).append(f"featstore_{name}{{{named}}} {value!r}\n")

    def text(self) -> str:
        return "".join(
            f"# HELP featstore_{name} {about}\n# TYPE featstore_{name} gauge\n{''.join(self._samples[name])}"
            for name, about in self._helps.items()
        )


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
