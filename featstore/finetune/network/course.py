"""A training epoch by epoch: its steps, its judgement, its checkpoints, and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from featstore.extract.progress import Reporter
from featstore.finetune.network import batches
from featstore.finetune.network.checkpoints import Checkpoints, Progress
from featstore.finetune.network.judging import judged
from featstore.finetune.network.learner import Learner
from featstore.finetune.network.schedule import factor
from featstore.records import FinetuneEpoch, ParameterGroup
from featstore.settings import FinetuneSettings

__all__ = ["Course", "best_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Course:
    """One training under way.

    Attributes:
        learner: What takes the steps.
        given: What is learned from.
        shown: What epochs are judged by.
        settings: With every default filled in.
        kept: Where its checkpoints are.
        reporter: Told of steps and epochs.
        last_begin: The epoch in which the last block begins; patience counts from there.
    """

    learner: Learner
    given: batches.Inputs
    shown: batches.Inputs
    settings: FinetuneSettings
    kept: Checkpoints
    reporter: Reporter
    last_begin: int

    @property
    def epochs(self) -> int:
        """At most so many."""
        assert self.settings.epochs is not None
        return self.settings.epochs

    @property
    def steps_each(self) -> int:
        """The steps of an epoch; the last one may have fewer examples."""
        return math.ceil(len(self.given) / self.settings.batch)

    @property
    def steps(self) -> int:
        """The steps of all epochs, along which the rates are bent."""
        return self.epochs * self.steps_each

    def begun(self) -> Progress:
        """Goes to the last checkpoint, or judges the start and makes the first one."""
        found = self.kept.find(self.reporter.warning)
        if found is not None:
            progress, tensors = found
            self.learner.load(tensors, epoch=min(progress.epoch, self.epochs - 1))
            # The smaller of what was enough then and what is asked for now: memory may be what ended the run.
            self.learner.micro_batch = min(progress.micro_batch, self.learner.micro_batch)
            self.learner.scale = progress.scale
            return progress
        begun = time.monotonic()
        record = self._record(-1, None, None, begun, best=True)
        progress = self._progress(epoch=0, history=(record,))
        self.kept.save(progress, self.learner.tensors(), best=self.learner.weights())
        self.reporter.between()
        return progress

    def epoch(
        self, progress: Progress, stop: Callable[[int, float], bool] | None
    ) -> tuple[Progress, FinetuneEpoch | None]:
        """Goes through the rest of an epoch and judges it; where the loss runs away, the training ends without it."""
        epoch, earlier, begun = progress.epoch, progress.seconds, time.monotonic()
        self.learner.begin(epoch)
        groups = self.learner.groups
        order = batches.order(len(self.given), seed=self.settings.seed, epoch=epoch)
        rows = batches.cut(order, self.settings.batch)[progress.step :]
        with closing(self.given.batches(rows, epoch)) as made:
            for batch in made:
                step = epoch * self.steps_each + progress.step
                bent = factor(step, self.steps, warmup=self.settings.warmup, kind=self.settings.schedule)
                learnt = self.learner.step(batch, factor=bent, seed=_chance(self.settings.seed, step))
                if not math.isfinite(learnt.loss):
                    return self._ran_away(progress), None
                progress = self._progress(
                    epoch=epoch,
                    step=progress.step + 1,
                    losses=progress.losses + learnt.loss * len(batch),
                    right=progress.right + learnt.right,
                    seen=progress.seen + len(batch),
                    seconds=earlier + time.monotonic() - begun,
                    history=progress.history,
                )
                self.reporter.advance(1)
                if progress.step < self.steps_each and self.kept.due(progress.step):
                    self.kept.save(progress, self.learner.tensors())
                    self.reporter.between()
        loss, accuracy = progress.losses / progress.seen, progress.right / progress.seen
        record = self._record(epoch, loss, accuracy, begun - earlier, groups=groups)
        if not math.isfinite(record.validation_loss):
            return self._ran_away(progress), None
        before = best_of(progress.history)
        record = replace(record, best=_merit(record) > _merit(before))
        waited = epoch - max(record.epoch if record.best else before.epoch, self.last_begin)
        enough = waited >= self.settings.patience
        asked = stop is not None and stop(epoch, record.validation_accuracy)
        early = (enough or asked) and epoch + 1 < self.epochs
        progress = self._progress(
            epoch=epoch + 1,
            history=(*progress.history, record),
            stopped_early=early,
            finished=early or epoch + 1 == self.epochs,
        )
        self.kept.save(progress, self.learner.tensors(), best=self.learner.weights() if record.best else None)
        self._say(record)
        self.reporter.between()
        return progress, record

    def _record(
        self,
        epoch: int,
        loss: float | None,
        accuracy: float | None,
        begun: float,
        *,
        groups: tuple[ParameterGroup, ...] = (),
        best: bool = False,
    ) -> FinetuneEpoch:
        learner = self.learner
        found = judged(
            learner.graph,
            learner.head,
            self.shown,
            learner.class_weights,
            device=learner.device,
            size=learner.micro_batch,
        )
        return FinetuneEpoch(
            epoch=epoch,
            train_loss=loss,
            train_accuracy=accuracy,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            groups=groups,
            seconds=time.monotonic() - begun,
            best=best,
        )

    def _progress(
        self,
        *,
        epoch: int,
        history: tuple[FinetuneEpoch, ...],
        step: int = 0,
        losses: float = 0.0,
        right: int = 0,
        seen: int = 0,
        seconds: float = 0.0,
        stopped_early: bool = False,
        finished: bool = False,
    ) -> Progress:
        return Progress(
            epoch=epoch,
            step=step,
            losses=losses,
            right=right,
            seen=seen,
            seconds=seconds,
            micro_batch=self.learner.micro_batch,
            scale=self.learner.scale,
            history=history,
            stopped_early=stopped_early,
            finished=finished,
        )

    def _ran_away(self, progress: Progress) -> Progress:
        """A loss that is not finite comes back from nowhere: what was best until then is what there is."""
        self.reporter.warning(
            f"the training diverged in epoch {progress.epoch + 1}; the best weights before it are taken. "
            "A smaller learning rate may help."
        )
        ended = replace(progress, stopped_early=True, finished=True)
        self.kept.save(ended, {})
        return ended

    def _say(self, record: FinetuneEpoch) -> None:
        self.reporter.message(
            f"epoch {record.epoch + 1} of {self.epochs}: loss {record.train_loss:.4f}, accuracy "
            f"{record.train_accuracy:.4f}; validation {record.validation_loss:.4f}, {record.validation_accuracy:.4f}"
            + (" (best so far)" if record.best else "")
        )


def best_of(history: Sequence[FinetuneEpoch]) -> FinetuneEpoch:
    """The last epoch that was the best until then."""
    return next(record for record in reversed(history) if record.best)


def _merit(record: FinetuneEpoch) -> tuple[float, float]:
    return record.validation_accuracy, -record.validation_loss


def _chance(seed: int, step: int) -> int:
    """A seed of one step's own."""
    return int(np.random.SeedSequence([seed, 3, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
