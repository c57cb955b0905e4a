"""What a job says, as one digest: two jobs of the same digest publish the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError
from featstore.storage import hashing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from featstore.jobs.job import Job

__all__ = ["digest"]

# How a run goes about it, not what comes of it.
_HOW = frozenset(
    ("device", "workers", "limit", "batch_size", "token_budget", "shard_items", "rehash", "retry_rejects", "memory")
)


_HOW_TUNED = frozenset(("device", "workers", "checkpoint_every", "report", "mlflow"))


def digest(job: Job) -> str:
    """SHA-256 over what a job brings in, makes of it and asks of it.

    Left out is how: devices, threads, how the work is cut, where the job's file, its store and its metrics lie, how
    many earlier states it keeps, and where each setting came from. A setting at its default counts as not said, so
    that a new one changes no digest. A file of labels or of judgements counts by its content: the table does not tell
    that it changed.
    """
    extract = None if job.extract is None else _what(job.extract)
    heads = [
        {
            "name": head.name,
            "refit": head.refit,
            "settings": _what(head.settings, but=("report", "mlflow")),
            "torch": _what(head.torch),
            **_contents(labels=head.settings.labels),
        }
        for head in job.heads
    ]
    moves: dict[str, object] = {}
    if job.migrate is not None:
        asked = _contents(queries=job.migrate.queries, qrels=job.migrate.qrels)
        moves = {"migrate": {**_what(job.migrate, how=frozenset()), **asked}}
    if job.finetune is not None:
        tuned = _contents(labels=job.finetune.labels, weights=job.finetune.weights)
        moves["finetune"] = {**_what(job.finetune, how=_HOW_TUNED), **tuned}
    gates = asdict(job.gates)
    for name in ("min_ndcg", "max_drop"):  # younger than the digests of jobs that ran
        if gates[name] is None:
            del gates[name]
    return hashing.of_json(
        {
            "name": job.name,
            "table": job.table,
            "space": job.space,
            "extract": extract,
            "index": None if job.index is None else _what(job.index, how=frozenset()),
            "heads": heads,
            "gates": gates,
            **moves,
        }
    )


def _contents(**files: str | None) -> dict[str, str]:
    found = {}
    for name, file in files.items():
        if file is None or not Path(file).is_file():
            continue
        with suppress(FeatstoreError):  # which is said where the file is read
            found[f"{name}_sha256"] = hashing.of_file(Path(file))
    return found


def _what(said: DataclassInstance, *, how: frozenset[str] = _HOW, but: tuple[str, ...] = ()) -> dict[str, object]:
    return {
        item.name: getattr(said, item.name)
        for item in fields(said)
        if item.name not in how and item.name not in but and getattr(said, item.name) != item.default
    }
