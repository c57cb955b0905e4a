"""One head: fitted, measured, compared with what is simple and what was before, and kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from featstore.extract import previews
from featstore.extract.progress import Reporter
from featstore.heads.fitting import Fitted, fit
from featstore.heads.opening import newest_card, standing
from featstore.layout import Layout
from featstore.records import Artefact, BaselineFigures, CurvePoint, HeadCard, ModelCard, SplitScoring
from featstore.settings import HeadSettings, TorchSettings
from featstore.splits import score
from featstore.tables import FeatureTable
from featstore.training import keeping
from featstore.training.advice import advise
from featstore.training.baselines import baselines
from featstore.training.comparing import Said, previous
from featstore.training.curve import learning_curve
from featstore.training.dataset import Dataset
from featstore.training.dividing import Division
from featstore.training.measuring import Measured, Side, class_figures, measure
from featstore.training.shots import few_shots

__all__ = ["Training"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one head is trained from.

    Attributes:
        layout: The store.
        table: The table.
        model: Its model.
        name: Of the head.
        given: The items that were labelled.
        division: Those that take part, and their sides.
        settings: What was asked.
        torch: What the torch kinds are told.
        reporter: Told of progress.
        folder: A run's folder to keep it in, unpublished; by default it becomes the head's next version.
    """

    layout: Layout
    table: FeatureTable
    model: ModelCard
    name: str
    given: Dataset
    division: Division
    settings: HeadSettings
    torch: TorchSettings | None
    reporter: Reporter
    folder: str | None = None

    def run(self, vectors: tuple[NDArray[np.float32], NDArray[np.float32]], started: float) -> HeadCard:
        """Trains and keeps the head.

        Args:
            vectors: (n, d) of the training and of the test items, each in their order.
            started: When the training began, for its seconds.

        Returns:
            Its card.
        """
        settings, division = self.settings, self.division
        data, split = division.data, division.split
        train, test = (
            Side(matrix, data.truth[side], division.groups[side])
            for matrix, side in zip(vectors, (split.train, split.test), strict=True)
        )
        folds = split.fold[split.train]
        with keeping.place(self.layout, self.name, self.folder) as where:
            before = newest_card(self.layout, self.name)
            fitted = fit(
                train.vectors,
                train.truth,
                data.classes,
                folds,
                task=data.task,
                kind=settings.kind,
                weights=settings.class_weights,
                groups=train.groups,
                seed=settings.seed,
                torch=self.torch,
                progress=self._say,
            )
            scored = self._score(where.version)
            self._say("measuring")
            measured = measure(fitted, train, test, seed=settings.seed)
            card = self._card(where, fitted, measured, train, test, folds, scored)
            said = Said(
                [(data.ids[row], data.contents[row]) for row in np.flatnonzero(split.test).tolist()],
                keeping.named(data.task, data.classes, test.truth).to_pylist(),
                measured.tested.astype(np.float32).astype(np.float64),  # as those of the version before are kept
                test.groups,
            )
            card = replace(
                card,
                previous=previous(self.layout, before, card, said),
                seconds=round(time.monotonic() - started, 3),
            )
            keeping.write_card(where, card)
        still = standing(self.layout, card.head, card.version) if self.folder is None else None
        if still is not None:
            self.reporter.warning(still)
        return card

    def _card(
        self,
        where: keeping.Place,
        fitted: Fitted,
        measured: Measured,
        train: Side,
        test: Side,
        folds: NDArray[np.int64],
        scored: int,
    ) -> HeadCard:
        settings, division, head = self.settings, self.division, fitted.head
        data, split, record = division.data, division.split, division.record
        simple, notes = self._baselines(fitted, train, test, folds)
        curve = self._curve(fitted, measured, train, folds)
        shots = few_shots(train, test, len(data.classes), settings.shots, seed=settings.seed)
        artefact, lacking = self._predictions(where, fitted, measured)
        versions = keeping.versions_of()
        return HeadCard(
            head=self.name,
            version=where.version,
            table=self.table.name,
            space_id=self.table.space_id,
            space_digest=self.model.digest,
            table_version=self.table.version or 0,
            dim=self.table.dim,
            model=self.model.model,
            label=settings.label,
            labels_from=self.given.labels.source,
            task=data.task,
            kind=head.kind,
            classes=data.classes,
            input=head.input,
            settings=dict(head.settings),
            class_weights=settings.class_weights,
            n_train=len(train.truth),
            n_test=len(test.truth),
            n_unlabelled=self.given.unlabelled,
            n_excluded=int(split.excluded.sum()),
            n_groups=len(np.unique(division.groups[split.train | split.test])),
            folds=len(np.unique(folds)),
            conflicts=self.given.labels.conflicts,
            leakage=split.leakage,
            split_id=record.split_id,
            split_origin=record.origin,
            test_scored=scored,
            seed=settings.seed,
            metrics=measured.metrics,
            validation=measured.validation,
            training=measured.training,
            fit=measured.fit,
            baselines=simple,
            candidates=fitted.candidates,
            classes_figures=class_figures(head, train.truth, test.truth, measured.tested),
            conformal=measured.conformal,
            learning_curve=curve,
            advice=advise(
                data.task, len(train.truth), len(test.truth), curve, measured.metrics, measured.training, simple
            ),
            shots=shots,
            previous=None,
            head_file=keeping.write_head(where, head),
            predictions=artefact,
            versions=versions,
            featstore=versions.pop("featstore", "unknown"),
            created_ts=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=0.0,
            warnings=(*self.given.warnings, *division.warnings, *notes, *lacking),
            where=settings.where,
            drop_rare=settings.drop_rare,
            separator=settings.separator,
        )

    def _baselines(
        self, fitted: Fitted, train: Side, test: Side, folds: NDArray[np.int64]
    ) -> tuple[dict[str, BaselineFigures], list[str]]:
        if not self.settings.baselines:
            return {}, []
        data, split = self.division.data, self.division.split
        sides = [[data.contents[row] for row in np.flatnonzero(s).tolist()] for s in (split.train, split.test)]
        kept = previews.find(self.layout, self.table.name, {*sides[0], *sides[1]})
        return baselines(
            fitted,
            train,
            test,
            folds,
            previews=(kept, sides[0], sides[1]),
            modality=self.model.modality,
            weights=self.settings.class_weights,
            seed=self.settings.seed,
            progress=self._say,
        )

    def _curve(
        self, fitted: Fitted, measured: Measured, train: Side, folds: NDArray[np.int64]
    ) -> tuple[CurvePoint, ...]:
        if not self.settings.curve:
            return ()
        data, split = self.division.data, self.division.split
        keys = [data.contents[row] for row in np.flatnonzero(split.train).tolist()]
        return learning_curve(
            fitted.head,
            train,
            folds,
            keys,
            measured.unseen,
            weights=self.settings.class_weights,
            torch=self.torch,
            seed=self.settings.seed,
            progress=self._say,
        )

    def _predictions(self, where: keeping.Place, fitted: Fitted, measured: Measured) -> tuple[Artefact, list[str]]:
        data, split = self.division.data, self.division.split
        train = split.train
        guesses = np.empty(data.truth.shape, data.truth.dtype)
        for side, said in ((train, measured.unseen), (split.test, measured.tested)):
            if data.task == "classification":
                guesses[side] = said.argmax(axis=1)
            elif data.task == "multilabel":
                guesses[side] = said >= fitted.head.arrays.get("thresholds", 0.5)
            else:
                guesses[side] = said
        return keeping.predictions(where, self.division, data.classes, measured, guesses[train | split.test])

    def _score(self, version: int) -> int:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        scoring = SplitScoring(head=self.name, version=version, space_id=self.table.space_id, ts=now)
        return score(self.layout, self.division.record, scoring)

    def _say(self, text: str) -> None:
        self.reporter.stage(text)
