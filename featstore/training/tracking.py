"""A head's settings, figures and files in MLflow, for teams that keep all their experiments there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from featstore.errors import StorageError, UsageError
from featstore.records import HeadCard

__all__ = ["Run", "check", "log", "write"]

_FILES = ("card.json", "head.safetensors")

# What MLflow takes in one call, and the longest text of a parameter.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _LONGEST = 1_000, 100, 6_000


@dataclass(frozen=True)
class Run:
    """What one run in MLflow holds.

    Attributes:
        experiment: The experiment that it belongs to.
        name: Its own.
        tags: Tags.
        params: Parameters, shown by ``str``.
        metrics: Name, value and step of each figure.
        files: Artifacts.
        kept: A sentence on what is there all the same where MLflow fails.
    """

    experiment: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, object]
    metrics: Iterable[tuple[str, float, int]]
    files: Sequence[Path]
    kept: str


def check(uri: str) -> None:
    """Sees whether MLflow is there and knows the address, before anything is trained; it is not asked anything yet.

    Raises:
        UsageError: It is not installed, or the address is none of its own.
    """
    _client(uri)


def log(
    card: HeadCard, folder: Path, uri: str, *, experiment: str | None = None, report: Path | None = None
) -> str:  # fmt: skip
    """Writes one run: settings as parameters, figures as metrics, card and weights as artifacts.

    Figures on the test items have their own name (``accuracy``), with the ends of their interval beside them
    (``accuracy_low``, ``accuracy_high``); the others stand under ``training/``, ``validation/``, ``baselines/NAME/``
    and ``learning_curve`` (a series over the number of items). The predictions are not sent: they hold the items' ids.

    Args:
        card: Of the head.
        folder: The head's, with its ``card.json`` and ``head.safetensors``.
        uri: Where MLflow keeps its runs: a server's URL, ``sqlite:///FILE`` or a folder.
        experiment: Its name; ``featstore/HEAD`` by default.
        report: The head's page, if it was made.

    Returns:
        The run's id.

    Raises:
        UsageError: MLflow is not installed, or the address is none of its own.
        StorageError: It cannot be reached, or refuses.
    """
    files = [folder / file for file in _FILES] + ([report] if report else [])
    run = Run(
        experiment=experiment or f"featstore/{card.head}",
        name=f"{card.head}:{card.version}",
        tags=_tags(card),
        params=_params(card),
        metrics=_metrics(card),
        files=files,
        kept="The head itself is kept in the store.",
    )
    return write(run, uri)


def write(run: Run, uri: str) -> str:
    """Writes one run.

    Args:
        run: What it holds.
        uri: Where MLflow keeps its runs: a server's URL, ``sqlite:///FILE`` or a folder.

    Returns:
        The run's id.

    Raises:
        UsageError: MLflow is not installed, or the address is none of its own.
        StorageError: It cannot be reached, or refuses.
    """
    mlflow, failures = _library()
    client = _client(uri)
    try:
        known = client.get_experiment_by_name(run.experiment)
        number = known.experiment_id if known is not None else client.create_experiment(run.experiment)
        made = client.create_run(number, run_name=run.name, tags=dict(run.tags)).info.run_id
    except failures as error:
        raise _wrapped(error, uri, run.kept) from error
    ended = "FAILED"
    try:
        _fill(mlflow, client, made, run)
        for path in run.files:
            client.log_artifact(made, str(path))
        ended = "FINISHED"
    except failures as error:
        raise _wrapped(error, uri, run.kept) from error
    finally:
        _end(client, made, ended, failures)
    return str(made)


def _client(uri: str) -> Any:
    mlflow, failures = _library()
    if urlsplit(uri).scheme in ("", "file"):  # MLflow advises against folders; who names one wants it nonetheless
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        return mlflow.MlflowClient(tracking_uri=uri)
    except failures as error:
        raise _wrapped(error, uri) from error


def _library() -> tuple[Any, tuple[type[Exception], ...]]:
    # It would report its use to its makers, and knock for minutes at a server that is not there; who wants that says
    # so beforehand.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        import mlflow
    except ImportError as error:
        raise UsageError(
            f"MLflow cannot be imported ({error}).", hint="Install it with: pip install 'featstore[mlflow]'"
        ) from error
    return mlflow, (mlflow.exceptions.MlflowException, OSError, ValueError)


def _wrapped(error: Exception, uri: str, kept: str | None = None) -> UsageError | StorageError:
    said = str(error).replace(uri, _shown(uri)).strip().partition("\n")[0][:300] or type(error).__name__
    if "scheme" in said or "registered" in said or isinstance(error, ValueError):
        return UsageError(
            f"MLflow cannot keep runs at {_shown(uri)}: {said}",
            hint="Give a server's URL or a folder; sqlite:///FILE.db needs more of MLflow: pip install mlflow.",
        )
    return StorageError(f"MLflow at {_shown(uri)}: {said}", hint=kept)


def _shown(uri: str) -> str:
    """The address without a name and password, which may stand in front of the host."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _end(client: Any, run: str, ended: str, failures: tuple[type[Exception], ...]) -> None:
    try:
        client.set_terminated(run, ended)
    except failures:
        if ended == "FINISHED":
            raise


def _tags(card: HeadCard) -> dict[str, str]:
    return {
        "featstore.version": card.featstore,
        "featstore.space_id": card.space_id,
        "featstore.split_id": card.split_id,
        "featstore.head_sha256": card.head_file.sha256,
        "mlflow.note.content": " ".join((card.fit, *card.advice)),
    }


def _fill(mlflow: Any, client: Any, made: str, run: Run) -> None:
    now = round(time.time() * 1_000)
    metrics = [mlflow.entities.Metric(name, value, now, step) for name, value, step in run.metrics]
    params = [mlflow.entities.Param(name, str(value)[:_LONGEST]) for name, value in run.params.items()]
    for at in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(made, metrics=metrics[at : at + _METRICS_AT_ONCE])
    for at in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(made, params=params[at : at + _PARAMS_AT_ONCE])


def _params(card: HeadCard) -> dict[str, object]:
    plain = ("head", "version", "table", "table_version", "model", "space_id", "dim", "label", "labels_from", "task")
    rest = ("kind", "input", "class_weights", "folds", "seed", "split_id", "split_origin", "n_train", "n_test")
    found: dict[str, object] = {name: getattr(card, name) for name in (*plain, *rest)}
    found["n_groups"], found["n_classes"] = card.n_groups, len(card.classes)
    return found | {f"setting.{name}": value for name, value in card.settings.items()}


def _metrics(card: HeadCard) -> Iterator[tuple[str, float, int]]:
    """Name, value and step."""
    for name, figure in card.metrics.items():
        yield name, figure.value, 0
        yield f"{name}_low", figure.low, 0
        yield f"{name}_high", figure.high, 0
    sides = {"training": card.training, "validation": card.validation}
    sides |= {f"baselines/{baseline.name}": baseline.metrics for baseline in card.baselines.values()}
    for side, figures in sides.items():
        for name, figure in figures.items():
            yield f"{side}/{name}", figure.value, 0
    for point in card.learning_curve:
        yield "learning_curve", point.score, point.items
    yield "test_scored", float(card.test_scored), 0
    yield "leakage", float(card.leakage), 0
