"""One training: labels, split, the best head, its figures, its place in the store; for several tables side by side."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore import dedup
from featstore.errors import FeatstoreError, UsageError
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import HeadCard, HeadComparison, HeadPlan
from featstore.settings import HeadSettings, TorchSettings
from featstore.training import beyond, keeping, tracking
from featstore.training.comparing import difference
from featstore.training.dataset import Dataset, gather
from featstore.training.dividing import Division, divide
from featstore.training.making import Training
from featstore.training.naming import Tables, names, page_at

__all__ = ["plan", "train_head"]


def train_head(
    layout: Layout,
    tables: Tables,
    settings: HeadSettings,
    reporter: Reporter | None = None,
    *,
    torch: TorchSettings | None = None,
    folder: str | None = None,
) -> HeadCard | HeadComparison:
    """Trains a head on a table's vectors; on several tables one each, with the same items on the same sides.

    Args:
        layout: The store.
        tables: The tables with their models' cards.
        settings: What was asked.
        reporter: Told of progress.
        torch: What the torch kinds are told.
        folder: A run's folder for the head, which then is none of its name's versions until it is adopted.

    Returns:
        The head's card; for several tables all of them, each compared with the first.

    Raises:
        NotFoundError: A column or file is not there, or a table is empty.
        UsageError: The labels, classes or groups do not make something that can be learned and tested.
        GateError: The given split leaks.
        LockedError: Another process is training the same head.
        IntegrityError: A table, or the kept split, is damaged.
    """
    reporter = reporter or Reporter()
    started = time.monotonic()
    named = names(tables, settings)
    report = _report(layout, settings, tables)
    if settings.mlflow is not None:
        tracking.check(settings.mlflow)
    data, vectors, division = _prepared(layout, tables, settings, reporter, keep=True)
    cards = []
    if beyond.NOTE in data.warnings:
        settings = replace(settings, baselines=False, curve=False, shots=())
    for (table, model), sides, name in zip(tables, vectors, named, strict=True):
        one = Training(
            layout=layout,
            table=table,
            model=model,
            name=name,
            given=data,
            division=division,
            settings=settings,
            torch=torch,
            reporter=reporter,
            folder=folder,
        )
        cards.append(one.run(sides, started))
        started = time.monotonic()
    if report is not None:
        from featstore import reports

        try:
            reports.write(layout, cards[0], report)
        except FeatstoreError as error:
            error.hint = (
                f"The head is kept. Write its page elsewhere: featstore show {cards[0].head} --report FILE.html"
            )
            raise
    if settings.mlflow is not None:
        reporter.stage("logging to MLflow")
        for card in cards:
            where = folder or layout.head(card.head, card.version)
            tracking.log(card, layout.storage.local(where), settings.mlflow, report=report)
    if len(cards) == 1:
        return cards[0]
    return HeadComparison(
        heads=tuple(cards),
        split_id=cards[0].split_id,
        differences=tuple(difference(layout, cards[0], card) for card in cards[1:]),
    )


def plan(layout: Layout, tables: Tables, settings: HeadSettings, reporter: Reporter | None = None) -> HeadPlan:
    """What ``train_head`` would do, by reading only.

    Raises:
        FeatstoreError: What ``train_head`` would refuse.
    """
    name = names(tables, settings)[0]
    _report(layout, settings, tables)
    data, _, division = _prepared(layout, tables, settings, reporter or Reporter(), keep=False)
    split, record, found = division.split, division.record, division.data
    counts = {}
    if found.task != "regression":
        often = (
            np.bincount(found.truth, minlength=len(found.classes))
            if found.task == "classification"
            else found.truth.sum(axis=0)
        )
        counts = dict(zip(found.classes, often.tolist(), strict=True))
    return HeadPlan(
        head=name,
        version=keeping.next_version(layout, name),
        tables=tuple(f"{table.name}@{table.space_id}:{table.version}" for table, _ in tables),
        label=settings.label,
        labels_from=data.labels.source,
        task=found.task,
        classes=counts,
        n_train=int(split.train.sum()),
        n_test=int(split.test.sum()),
        n_unlabelled=data.unlabelled,
        n_excluded=int(split.excluded.sum()),
        n_groups=len(np.unique(division.groups)),
        conflicts=data.labels.conflicts,
        leakage=split.leakage,
        split_id=None if split.added == len(split.test) and not record.scored else record.split_id,
        split_origin=record.origin,
        test_scored=len(record.scored),
        warnings=(*data.warnings, *division.warnings),
    )


Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]


def _prepared(
    layout: Layout, tables: Tables, settings: HeadSettings, reporter: Reporter, *, keep: bool
) -> tuple[Dataset, list[Vectors], Division]:
    """The labelled items, which side each is on, and each table's vectors of the two sides."""
    reporter.stage("reading labels")
    data = gather(layout, [table for table, _ in tables], settings)
    data = replace(data, warnings=(*data.warnings, *_seen_before(tables, settings.label)))
    if beyond.needed([table for table, _ in tables], len(data), settings):
        data = replace(data, warnings=(*data.warnings, beyond.NOTE))
        equal = np.unique(data.contents, return_inverse=True)[1].astype(np.int64)
        division = divide(layout, tables[0][0].name, data, [equal], settings, threshold=None, keep=keep)
        split, rows = division.split, division.data.rows[0]
        sides = [rows[split.train], rows[split.test]] if keep else []
        found = beyond.laid_out(layout, tables[0][0], sides, reporter) if keep else []
        return data, [(found[0], found[1])] if found else [], division
    vectors, near, chosen = [], [], None
    for (table, _), rows in zip(tables, data.rows, strict=True):
        reporter.stage("reading vectors", len(rows))
        matrix = table.vectors_at(rows)
        reporter.stage("looking for near-duplicates", len(rows))
        hashes = _hashes(data)
        _, groups, threshold = dedup.near(hashes, matrix, settings.near_threshold, done=reporter.advance)
        vectors.append(matrix)
        near.append(groups)
        chosen = chosen or threshold
    division = divide(
        layout,
        tables[0][0].name,
        data,
        near,
        settings,
        threshold=None if chosen is None else chosen.cosine,
        keep=keep,
    )
    if len(division.data) < len(data):
        kept = set(division.data.ids)
        mask = np.array([item in kept for item in data.ids], np.bool_)
        vectors = [matrix[mask] for matrix in vectors]
    split = division.split
    return data, [(matrix[split.train], matrix[split.test]) for matrix in vectors], division


def _seen_before(tables: Tables, label: str) -> list[str]:
    """What a model that was fine-tuned on the very table knows of the items already."""
    found = []
    for table, model in tables:
        origin = model.finetuning
        if origin is None or origin.table != table.name:
            continue
        if origin.label == label:
            told = "figures of the training side look better than new items will, those of the test items stand"
        else:
            told = "it has seen some of the test items, though not this label, so figures may be too good"
        found.append(f"{model.space_id} was fine-tuned on '{origin.label}' of this table: {told}")
    return found


def _hashes(data: Dataset) -> Any:
    import pyarrow as pa

    return pa.chunked_array([pa.array(data.contents, pa.string())])


def _report(layout: Layout, settings: HeadSettings, tables: Tables) -> Path | None:
    if settings.report is None:
        return None
    if len(tables) > 1:
        raise UsageError("--report is for one head.", hint="Afterwards: featstore show HEAD --report FILE")
    return page_at(layout, settings.report)
