"""How training went: what it reached on what it learned from beside what it only looked at, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator

from featstore.records import FinetuneEpoch, FinetuneReport
from featstore.reports.figures import count, written
from featstore.reports.lines import Line, legend, lines
from featstore.reports.markup import Markup, element, plain
from featstore.reports.pieces import Column, figure, section, table

__all__ = ["begun", "training"]

# A table of more rows would be the whole page.
_ROWS = 60


def training(found: FinetuneReport) -> Markup:
    """The section; empty where no epoch came to its end."""
    if not any(one.epoch >= 0 for one in found.epochs):
        return Markup()
    intro = (
        f"Learned from {count(found.n_train, 'item')}; the best epoch is the one that was best on "
        f"{count(found.n_validation, 'validation item')}, which a little flatters it: the test items decide. Training "
        "figures are as they went, while the weights changed and of pictures as they were augmented, so they may lie "
        "on either side. Epoch −1 is before the first step."
    )
    charts = (
        ("accuracy", "Accuracy", "accuracy", True, "train_accuracy", "validation_accuracy"),
        ("loss", "Loss", "cross-entropy", False, "train_loss", "validation_loss"),
    )
    return section(
        "training",
        "Training",
        intro,
        element("div.pair", None, *(_chart(found, *one) for one in charts)),
        _epochs(found),
    )


def begun(found: FinetuneReport, epoch: int) -> tuple[str, ...]:
    """The blocks that began to be trained with an epoch, the top one first."""
    return tuple(block.name for block in found.blocks if block.epoch == epoch)


def _chart(found: FinetuneReport, name: str, title: str, up: str, share: bool, trained: str, looked: str) -> Markup:
    drawn = [
        Line("validation items", list(_points(found.epochs, looked)), own=True),
        Line("training items", list(_points(found.epochs, trained))),
    ]
    best = (float(found.best_epoch), "best")
    picture = lines(f"curve-{name}", f"{title} by epoch", drawn, across="epoch", up=up, share=share, at=best)
    return figure(title, legend(drawn), picture) if picture else Markup()


def _points(epochs: tuple[FinetuneEpoch, ...], field: str) -> Iterator[tuple[float, float]]:
    for one in epochs:
        value = getattr(one, field)
        if value is not None:
            yield float(one.epoch), float(value)


def _epochs(found: FinetuneReport) -> Markup:
    def shown(value: float | None, *, share: bool) -> str:
        return "–" if value is None else written(value, share=share)

    rows = []
    for one in found.epochs[:_ROWS]:
        name = f"{one.epoch}".replace("-", "−")
        new = begun(found, one.epoch)
        rows.append(
            [
                element("b", None, f"{name} ✓") if one.epoch == found.best_epoch else name,
                shown(one.train_loss, share=False),
                shown(one.validation_loss, share=False),
                shown(one.train_accuracy, share=True),
                shown(one.validation_accuracy, share=True),
                f"{one.seconds:,.1f} s",
                plain(", ".join(new), 120) if new else "",
            ]
        )
    left = len(found.epochs) - len(rows)
    note = "✓ is the one whose weights were kept." + (f" {count(left, 'epoch')} more are not listed." if left else "")
    columns = [
        Column("epoch"),
        Column("loss, training", True),
        Column("validation", True),
        Column("accuracy, training", True),
        Column("validation", True),
        Column("time", True),
        Column("begins to be trained"),
    ]
    return table("Epochs", note, columns, rows)
