"""A fine-tuning in MLflow: its settings, its figures epoch by epoch, what the gates found, its report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from featstore.records import FinetuneReport
from featstore.training import tracking
from featstore.training.tracking import check

__all__ = ["check", "log"]

_FILES = ("report.json",)


def log(
    found: FinetuneReport, folder: Path, uri: str, *, experiment: str | None = None, report: Path | None = None
) -> str:  # fmt: skip
    """Writes one run, whatever the gates said: settings as parameters, figures as metrics, the report as an artifact.

    Figures of the fine-tuned vectors on the test items have their own name (``accuracy``), with the ends of their
    interval beside them (``accuracy_low``, ``accuracy_high``); those of the frozen ones stand under ``frozen/``, of the
    network's own head under ``own/``, of the epochs under ``training/`` and ``validation/`` as series, the largest and
    the least rate of each under ``rate/``, of the search under ``trials/``, of the gates under ``gates/``.

    Args:
        found: How it went.
        folder: The run's, with its ``report.json``.
        uri: Where MLflow keeps its runs: a server's URL, ``sqlite:///FILE`` or a folder.
        experiment: Its name; ``featstore/TABLE-LABEL`` by default.
        report: The page, if it was made.

    Returns:
        The run's id.

    Raises:
        UsageError: MLflow is not installed, or the address is none of its own.
        StorageError: It cannot be reached, or refuses.
    """
    files = [folder / file for file in _FILES] + ([report] if report else [])
    run = tracking.Run(
        experiment=experiment or f"featstore/{found.table}-{found.label}",
        name=found.space_id,
        tags=_tags(found),
        params=_params(found),
        metrics=_finite(found),
        files=files,
        kept="The report itself is kept in the store.",
    )
    return tracking.write(run, uri)


def _tags(found: FinetuneReport) -> dict[str, str]:
    refused = [gate.gate for gate in found.gates if gate.status == "refused"]
    return {
        "featstore.base": found.base,
        "featstore.space_id": found.space_id,
        "featstore.split_id": found.split_id,
        "featstore.status": "refused" if refused else "kept",
        "featstore.refused": ", ".join(refused),
        "mlflow.note.content": " ".join((found.method, *found.notes)),
    }


def _params(found: FinetuneReport) -> dict[str, object]:
    plain = ("table", "version", "label", "base", "model", "space_id", "method", "split_id")
    rest = ("n_train", "n_validation", "n_test", "best_epoch", "stopped_early", "micro_batch")
    kinds = ("frozen_kind", "tuned_kind")
    params: dict[str, object] = {name: getattr(found, name) for name in (*plain, *rest, *kinds)}
    params["n_classes"] = len(found.classes)
    params["blocks"] = ", ".join(block.name for block in found.blocks if block.epoch is not None)
    return params | {f"setting.{name}": value for name, value in found.settings.items()}


def _finite(found: FinetuneReport) -> Iterator[tuple[str, float, int]]:
    """A server may refuse what is no number, and with it the rest."""
    yield from (one for one in _metrics(found) if math.isfinite(one[1]))


def _metrics(found: FinetuneReport) -> Iterator[tuple[str, float, int]]:
    """Name, value and step; an epoch's step is its number, that before the first is left out of the series."""
    for name, figure in found.tuned.items():
        yield name, figure.value, 0
        yield f"{name}_low", figure.low, 0
        yield f"{name}_high", figure.high, 0
    for side, figures in (("frozen", found.frozen), ("own", found.own)):
        yield from ((f"{side}/{name}", figure.value, 0) for name, figure in figures.items())
    yield from (("gain", found.gain.value, 0), ("gain_low", found.gain.low, 0), ("gain_high", found.gain.high, 0))
    for one in found.epochs:
        if one.epoch < 0:
            continue
        for name, value in (
            ("training/loss", one.train_loss),
            ("training/accuracy", one.train_accuracy),
            ("validation/loss", one.validation_loss),
            ("validation/accuracy", one.validation_accuracy),
            ("rate/largest", max((group.rate for group in one.groups), default=None)),
            ("rate/least", min((group.rate for group in one.groups), default=None)),
            ("seconds", one.seconds),
        ):
            if value is not None:
                yield name, value, one.epoch
    for other in found.forgetting:
        yield f"forgetting/{_safe(other.name)}", other.difference.value, 0
    for gate in found.gates:
        if gate.value is not None:
            yield f"gates/{_safe(gate.gate)}", gate.value, 0
    for trial in found.trials:
        if trial.accuracy is not None:
            yield "trials/accuracy", trial.accuracy, trial.number
    yield from (("cosine", found.cosine, 0), ("overlap", found.overlap, 0), ("total_seconds", found.seconds, 0))


def _safe(name: str) -> str:
    """A head's name as a metric's: MLflow takes letters, digits and a few marks."""
    return "".join(mark if mark.isalnum() or mark in "_-. " else "_" for mark in name)
