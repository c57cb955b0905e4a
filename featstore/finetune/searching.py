"""A search for better settings: trials are judged by validation accuracy alone, and given up where they lie behind.

The journal in the run's folder holds every trial and each epoch that it reported. So a search that was stopped goes on
where it was, within a trial too, and ends as one that was never stopped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.errors import FeatstoreError, GateError, IntegrityError, RetryableError, UsageError
from featstore.extract.progress import Reporter
from featstore.finetune.space import Space, space_of
from featstore.records import FinetuneTrial, Modality, TunedBlock
from featstore.settings import FinetuneSettings

__all__ = ["Attempt", "best", "check"]

Stop = Callable[[int, float], bool]
Attempt = Callable[[FinetuneSettings, Stop], float]
"""Trains with settings, asking after each epoch whether to stop; gives the best validation accuracy."""

_NAME = "finetune"
# Trials that run to their end before any is given up, and epochs that each may have before it is.
_WHOLE, _EPOCHS = 3, 2
# Trials that are drawn by chance before the estimator has something to go by.
_DRAWN = 5


def check() -> None:
    """Sees whether Optuna is there, before anything is trained.

    Raises:
        UsageError: It is not installed.
    """
    _library()


def best(
    settings: FinetuneSettings,
    attempt: Attempt,
    *,
    modality: Modality,
    journal: Path,
    reporter: Reporter,
    blocks: Sequence[TunedBlock] = (),
) -> tuple[FinetuneSettings, tuple[FinetuneTrial, ...]]:
    """Tries ``settings.trials`` settings and gives the best.

    The first trial is of the settings as they are. What the others try is drawn by the tree-structured Parzen
    estimator, from a seed and the trials before alone. A trial is given up after an epoch in which its best accuracy so
    far is below the median of what the trials before it had at that epoch.

    Args:
        settings: Where to begin, defaults filled in.
        attempt: Trains; a ``FeatstoreError`` of it is a trial that failed, unless running it again may help.
        modality: Of the items: pictures can be augmented.
        journal: A file of this search alone; the caller holds the lock of the run.
        reporter: Told of progress.
        blocks: The network's, with what the settings make of them; without them the depth stays as it is.

    Returns:
        The settings of the first of the best complete trials, and all trials by number. A trial's accuracy is its best;
        a pruned one's is the last that it reached.

    Raises:
        UsageError: Optuna is not installed.
        FeatstoreError: Every trial failed: the error of the last one.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011); the median stopping rule of Golovin et
    al., Google Vizier (2017).
    """
    optuna = _library()
    space = space_of(settings, modality, blocks)
    wanted = settings.trials or 1
    failed: FeatstoreError | None = None
    with _quiet(optuna):
        study = _opened(optuna, journal)
        search = _Search(optuna, study, settings, space)
        reporter.stage("searching", wanted)
        reporter.advance(len(search.ended))
        while len(search.ended) < wanted:
            reporter.between()
            trial = search.begin()
            number = len(search.ended)
            tried = search.tried(trial)
            shown = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
            reporter.message(f"trial {number} of {wanted}: {shown or 'as it is'}")
            try:
                accuracy = attempt(tried, _Watch(trial))
            except (RetryableError, IntegrityError, GateError):
                raise  # it says nothing of the settings, and the trial goes on when it is run again
            except FeatstoreError as error:
                failed = error
                reporter.warning(f"trial {number} failed: {error.message}")
                accuracy = math.nan
            search.end(trial, accuracy)
            reporter.stage("searching", wanted)
            reporter.advance(len(search.ended))
        trials = search.trials()
    complete = [one for one in trials if one.status == "complete" and one.accuracy is not None]
    if not complete:
        raise failed or FeatstoreError(
            f"none of {len(trials)} trials came to an end with a figure.",
            hint="Give a smaller --learning-rate, and run it again without --trials.",
        )
    first = max(complete, key=lambda one: (one.accuracy or 0.0, -one.number))
    reporter.message(f"trial {first.number} was the best: validation accuracy {first.accuracy:.3f}")
    return space.applied(settings, first.settings), trials


@dataclass
class _Search:
    """The study, and what it means to us: an interrupted trial is taken up again, none is counted twice."""

    optuna: Any
    study: Any
    settings: FinetuneSettings
    space: Space

    @property
    def ended(self) -> list[Any]:
        return [one for one in self.study.get_trials(deepcopy=False) if one.state.is_finished()]

    def begin(self) -> Any:
        """The trial that was interrupted, or the next one."""
        number = len(self.ended)
        # A sampler of its own for each: what it draws then follows from the seed and the trials before, not from
        # whether they ran in this process.
        self.study.sampler = self.optuna.samplers.TPESampler(seed=self.settings.seed + number, n_startup_trials=_DRAWN)
        open_ = [one for one in self.study.get_trials(deepcopy=False) if not one.state.is_finished()]
        running = [one for one in open_ if one.state == self.optuna.trial.TrialState.RUNNING]
        if running:
            return self.optuna.trial.Trial(self.study, running[0]._trial_id)
        if not number and not open_:
            self.study.enqueue_trial(self.space.start)
        return self.study.ask()

    def tried(self, trial: Any) -> FinetuneSettings:
        """What the trial trains with; all of it is in the journal before it begins."""
        return self.space.applied(self.settings, {one.name: one.drawn(trial) for one in self.space.fields})

    def end(self, trial: Any, accuracy: float) -> None:
        state = self.optuna.trial.TrialState
        if not math.isfinite(accuracy):
            self.study.tell(trial, state=state.FAIL)
        elif trial.user_attrs.get("stopped"):
            self.study.tell(trial, state=state.PRUNED)
        else:
            self.study.tell(trial, accuracy)

    def trials(self) -> tuple[FinetuneTrial, ...]:
        state = self.optuna.trial.TrialState
        words = {state.COMPLETE: "complete", state.PRUNED: "pruned", state.FAIL: "failed"}
        return tuple(
            FinetuneTrial(
                number=number,
                settings={one.name: found.params[one.name] for one in self.space.fields if one.name in found.params},
                accuracy=found.value,
                status=words[found.state],  # type: ignore[arg-type]
            )
            for number, found in enumerate(self.ended)
        )


@dataclass
class _Watch:
    """Notes each epoch, and says whether the trial lies behind."""

    trial: Any

    def __call__(self, epoch: int, accuracy: float) -> bool:
        if epoch < 0 or not math.isfinite(accuracy):
            return False
        if epoch not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(accuracy, step=epoch)
        if not self.trial.should_prune():
            return False
        self.trial.set_user_attr("stopped", True)
        return True


def _opened(optuna: Any, journal: Path) -> Any:
    """The study of a journal, which a process may have been killed over."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    journal.parent.mkdir(parents=True, exist_ok=True)
    if journal.exists():
        _mend(journal)
    lock = JournalFileOpenLock(str(journal))
    # Nobody else may be here: the run has a lock of its own. A lock file is then one that a killed process left.
    Path(f"{journal}.lock").unlink(missing_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
        study_name=_NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_WHOLE, n_warmup_steps=_EPOCHS - 1),
    )


def _mend(journal: Path) -> None:
    """Cuts off a last line that was not written to its end; what follows would stand on it."""
    with journal.open("rb+") as stream:
        whole = stream.read()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            stream.truncate(end)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """It would write to stderr what the reporter says."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _library() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"--trials needs Optuna, which cannot be imported ({error}).",
            hint="Install it with: pip install 'featstore[finetune]'",
        ) from error
    return optuna


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
