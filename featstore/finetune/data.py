"""The labelled items of a table, the side that each is on, and their contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore import dedup
from featstore.errors import UsageError
from featstore.finetune import contents
from featstore.finetune.examples import Examples
from featstore.settings import HeadSettings
from featstore.storage import hashing
from featstore.training.dataset import Dataset, gather
from featstore.training.dividing import divide

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.finetune.contents import Read
    from featstore.layout import Layout
    from featstore.records import ModelCard, SplitRecord
    from featstore.settings import ExtractSettings, FinetuneSettings
    from featstore.tables import FeatureTable

__all__ = ["Labelled", "labelled"]

# The fold of the training side that training is validated by.
_VALIDATION = 0


@dataclass(frozen=True, eq=False)
class Labelled:
    """n labelled items that can be read, in the order of their ids.

    Attributes:
        data: What is known of them.
        groups: (n,) int64, what belongs together.
        fold: (n,) int64, the fold of an item to learn from; -1 for others.
        test: (n,) bool, the items to test on.
        vectors: (n, d) float32, the table's own.
        record: How the split came about.
        read: Gives an item's content.
        digest: Of all labelled items that can be read, on whatever side: their ids, contents and classes.
        warnings: What a person should know.
    """

    data: Dataset
    groups: NDArray[np.int64]
    fold: NDArray[np.int64]
    test: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    record: SplitRecord
    read: Read
    digest: str
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def truth(self) -> NDArray[np.int64]:
        """(n,) class numbers."""
        return np.asarray(self.data.truth, np.int64)

    @property
    def learned(self) -> NDArray[np.bool_]:
        """(n,) bool, the training side: what is trained on and what validates."""
        return np.asarray(self.fold >= 0, np.bool_)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(n,) bool, the items that the network is trained on."""
        return np.asarray(self.learned & (self.fold != _VALIDATION), np.bool_)

    @property
    def validated(self) -> NDArray[np.bool_]:
        """(n,) bool, the items that say when training is to stop, and which epoch was the best."""
        return np.asarray(self.fold == _VALIDATION, np.bool_)

    def examples(self, which: NDArray[np.bool_]) -> Examples:
        """Some of the items for the network."""
        items = np.flatnonzero(which)
        return Examples(read=lambda at: self.read(int(items[at])), truth=self.truth[items])


def labelled(
    layout: Layout,
    table: FeatureTable,
    card: ModelCard,
    extract: ExtractSettings,
    settings: FinetuneSettings,
    reporter: Reporter,
    *,
    keep: bool,
) -> Labelled:
    """Joins labels to items, gives each the side that ``train-head`` gives it, and finds its content.

    Args:
        layout: The store.
        table: The table.
        card: Of its model.
        extract: How the table is extracted.
        settings: What was asked.
        reporter: Told of progress.
        keep: Write the split down.

    Raises:
        NotFoundError: The label's column or file, or the table's source, is not there.
        UsageError: The labels are none of a classification, or too few to learn from and to test on.
        GateError: A given split leaks.
        IntegrityError: The table or the kept split is damaged.
    """
    asked = _asked(settings)
    reporter.stage("reading labels")
    data = gather(layout, [table], asked)
    if data.task != "classification":
        raise UsageError(
            f"the labels '{settings.label}' make a {data.task}; a backbone is fine-tuned on one class an item.",
            hint=f"Train a head for them instead: featstore train-head {table.name} --label {settings.label}",
        )
    reporter.stage("reading vectors", len(data))
    vectors = table.vectors_at(data.rows[0])
    reporter.stage("looking for near-duplicates", len(data))
    hashes = table.rows_at(data.rows[0], ["content_sha256"])["content_sha256"]
    _, near, threshold = dedup.near(hashes, vectors, settings.near_threshold, done=reporter.advance)
    cosine = None if threshold is None else threshold.cosine
    division = divide(layout, table.name, data, [near], asked, threshold=cosine, keep=keep)
    mine, split = division.data, division.split
    there = contents.find(layout, table.name, card, extract, mine.ids, mine.contents, reporter)
    warnings = [*data.warnings, *division.warnings]
    gone = int((~there.there).sum())
    if gone:
        warnings.append(f"{gone:,} of {len(mine):,} labelled items changed or are gone since, and are left out")
    left = there.there & ~split.excluded
    items = np.flatnonzero(left)
    at = {item: row for row, item in enumerate(data.ids)}
    found = Labelled(
        data=mine.of(left),
        groups=division.groups[left],
        fold=split.fold[left],
        test=split.test[left],
        vectors=vectors[[at[mine.ids[item]] for item in items.tolist()]],
        record=division.record,
        read=there.held(items) if card.modality == "text" else there.of(items),
        digest=_digest(mine.of(there.there)),
        warnings=tuple(warnings),
    )
    _check(found, table.name)
    return found


def _digest(data: Dataset) -> str:
    """What is on no side counts too: another model finds other items near, and would make it another fine-tuning."""
    return hashing.of_json([data.ids, data.contents, [data.classes[at] for at in data.truth.tolist()]])


def _asked(settings: FinetuneSettings) -> HeadSettings:
    """The settings by which ``train-head`` would deal the same items to the same sides."""
    return HeadSettings(
        label=settings.label,
        labels=settings.labels,
        where=settings.where,
        drop_rare=settings.drop_rare,
        class_weights=settings.class_weights,
        seed=settings.seed,
        group=settings.group,
        split=settings.split,
        near_threshold=settings.near_threshold,
        test_share=settings.test_share,
        folds=settings.folds,
    )


def _check(found: Labelled, table: str) -> None:
    """Refuses sides that have nothing to learn, to validate or to test."""
    classes = found.data.classes
    for side, name in ((found.trained, "train on"), (found.validated, "validate by"), (found.test, "test on")):
        if not side.any():
            raise UsageError(
                f"of {len(found):,} labelled items of '{table}' that can be read there is none to {name}.",
                hint="Label more items, or extract the table again from where its items are.",
            )
    missing = np.flatnonzero(np.bincount(found.truth[found.trained], minlength=len(classes)) == 0)
    if len(missing):
        named = ", ".join(repr(classes[at])[:40] for at in missing[:5].tolist())
        raise UsageError(
            f"{len(missing):,} of {len(classes):,} classes have no item to train on: {named}.",
            hint="Label more items of them, or leave them out with --drop-rare or --where.",
        )
