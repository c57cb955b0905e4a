"""Figures in words: what a metric is called, whether more of it is better, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featstore.records import Estimate, HeadTask

__all__ = ["Metric", "between", "count", "day", "metric", "primary", "signed", "simple", "written"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: As it is shown.
        meaning: In a few words.
        share: Whether it lies between 0 and 1 and is written as a percentage.
        more_is_better: Else less is.
    """

    name: str
    meaning: str
    share: bool = True
    more_is_better: bool = True


_METRICS = {
    "accuracy": Metric("Accuracy", "share of items predicted right"),
    "balanced_accuracy": Metric("Balanced accuracy", "mean over the classes of the share found"),
    "macro_f1": Metric("Macro F1", "mean over the classes of precision with recall"),
    "micro_f1": Metric("Micro F1", "precision with recall over all labels at once"),
    "log_loss": Metric("Log loss", "how surprised the probabilities were; less is better", False, False),
    "ece": Metric("Calibration error", "how far probabilities are from what comes true; less is better", True, False),
    "mAP": Metric("Mean average precision", "how well each label's items are ranked first"),
    "mae": Metric("Mean absolute error", "how far off on average; less is better", False, False),
    "rmse": Metric("Root mean square error", "how far off, large misses counting more; less is better", False, False),
    "r2": Metric("R²", "share of the variance explained", False),
    "spearman": Metric("Spearman", "how well the order is kept: 1 is the same, 0 is none", False),
}
_BASELINES = {
    "majority": "most frequent class",
    "prototypes": "nearest class mean",
    "knn": "nearest neighbours",
    "ridge": "ridge regression",
    "text": "words alone",
    "colour": "colours alone",
}
_PRIMARY: dict[HeadTask, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced_accuracy"),
    "multilabel": ("mAP", "macro_f1"),
    "regression": ("r2", "mae"),
}


def metric(key: str) -> Metric:
    """A metric by its key; one that is not known is shown by its key, as a number."""
    return _METRICS.get(key) or Metric(key.replace("_", " "), "", False)


def primary(task: HeadTask, metrics: Mapping[str, Estimate]) -> str | None:
    """The metric that heads of a task are compared by; None where there are no metrics."""
    return next((key for key in (*_PRIMARY[task], *metrics) if key in metrics), None)


def simple(name: str, task: HeadTask) -> str:
    """A baseline in words."""
    if name == "majority" and task != "classification":
        return "the mean of all" if task == "regression" else "how often labels occur"
    return _BASELINES.get(name, name)


def day(timestamp: str) -> str:
    """A record's time, to the minute."""
    return f"{timestamp[:16].replace('T', ' ')} UTC"


def written(value: float, *, share: bool) -> str:
    """A figure: a share as a percentage, anything else with three or four digits that count."""
    if value != value:
        return "–"
    if share:
        return signed(f"{value:.1%}")
    return signed(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}")


def signed(number: str) -> str:
    """A written number with a true minus, and none before a zero."""
    return number.lstrip("-") if not number.strip("-0.%") else number.replace("-", "−")


def between(estimate: Estimate, *, share: bool) -> str:
    """The ends of an estimate's interval."""
    if share:
        return f"{100 * estimate.low:.1f}–{estimate.high:.1%}"
    low, high = (written(end, share=False) for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def count(number: int, thing: str) -> str:
    """A number of things, in the plural where there is not one."""
    many = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else many}"
