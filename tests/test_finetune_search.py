"""The search: what it tries, what it gives up, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featstore.errors import DeadlineError, FeatstoreError, StorageError, UsageError
from featstore.extract.progress import Reporter
from featstore.finetune import searching
from featstore.finetune.space import space_of
from featstore.records import FinetuneTrial, TunedBlock
from featstore.settings import FinetuneSettings

EPOCHS = 6
BLOCKS = tuple(TunedBlock(name=f"layer{4 - at}", parameters=10, epoch=at if at < 2 else None) for at in range(4))

Stop = Callable[[int, float], bool]


def settings(**more: Any) -> FinetuneSettings:
    return FinetuneSettings(**{"learning_rate": 1e-5, "optimizer": "adamw", "trials": 8, **more})


def quality(given: FinetuneSettings) -> float:
    """Best at a rate of 1e-4 and a depth of three: a search has something to find."""
    import math

    assert given.learning_rate is not None
    return 0.9 - 0.15 * abs(math.log10(given.learning_rate / 1e-4)) - 0.05 * abs((given.depth or 3) - 3)


class Trainer:
    """Trains in no time: its accuracy comes nearer to what the settings are worth, epoch by epoch."""

    def __init__(self, at: Callable[[int, int], None] | None = None) -> None:
        self.seen: list[FinetuneSettings] = []
        self.ran: list[int] = []
        self._at = at

    def __call__(self, given: FinetuneSettings, stop: Stop) -> float:
        self.seen.append(given)
        self.ran.append(0)
        best = 0.0
        for epoch in range(EPOCHS):
            if self._at is not None:
                self._at(len(self.seen) - 1, epoch)
            best = quality(given) * (1 - 0.5 ** (epoch + 1))
            self.ran[-1] += 1
            if stop(epoch, best):
                break
        return best


def search(
    folder: Path, attempt: searching.Attempt, reporter: Reporter | None = None, **more: Any
) -> tuple[FinetuneSettings, tuple[FinetuneTrial, ...]]:
    return searching.best(
        settings(**more), attempt, modality="image", journal=folder / "trials.journal", blocks=BLOCKS,
        reporter=reporter or Reporter(),
    )  # fmt: skip


def test_it_finds_better_settings_than_it_began_with(tmp_path: Path) -> None:
    trainer = Trainer()
    best, trials = search(tmp_path, trainer, trials=20)
    assert len(trials) == len(trainer.seen) == 20
    assert trials[0].settings["learning_rate"] == 1e-5
    assert trainer.seen[0] == dataclasses.replace(settings(trials=20), depth=2), "first as it is"
    assert quality(best) > quality(trainer.seen[0]) + 0.05
    complete = [one for one in trials if one.status == "complete"]
    chosen = max(complete, key=lambda one: one.accuracy or 0)
    assert (best.learning_rate, best.depth) == (chosen.settings["learning_rate"], chosen.settings["depth"])


def test_what_lies_behind_is_given_up_early(tmp_path: Path) -> None:
    trainer = Trainer()
    _, trials = search(tmp_path, trainer, trials=12)
    pruned = [at for at, one in enumerate(trials) if one.status == "pruned"]
    assert pruned
    assert all(trials[at].status == "complete" for at in range(3)), "there is nothing to hold the first ones against"
    assert all(2 <= trainer.ran[at] < EPOCHS for at in pruned)
    assert all(ran == EPOCHS for at, ran in enumerate(trainer.ran) if at not in pruned)
    for at in pruned:  # the last that it reached
        assert trials[at].accuracy == pytest.approx(quality(trainer.seen[at]) * (1 - 0.5 ** trainer.ran[at]))


@pytest.mark.parametrize(("trial", "epoch"), [(0, 0), (0, 3), (2, 1), (5, 0), (7, 5)])
def test_stopped_anywhere_it_ends_as_if_it_never_was(tmp_path: Path, trial: int, epoch: int) -> None:
    class StoppedError(BaseException):
        pass

    def stop(at: int, on: int) -> None:
        if (at, on) == (trial, epoch):
            raise StoppedError

    whole = search(tmp_path / "whole", Trainer())
    with pytest.raises(StoppedError):
        search(tmp_path / "cut", Trainer(stop))
    again = Trainer()
    assert search(tmp_path / "cut", again) == whole
    assert len(again.seen) == 8 - trial, "what had ended is not tried again"
    assert again.seen[0].learning_rate == whole[1][trial].settings["learning_rate"]
    last = Trainer()
    assert search(tmp_path / "cut", last) == whole
    assert last.seen == [], "it is at its end"


_PROGRAM = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_finetune_search as world
world.search(Path(sys.argv[1]), world.Trainer(lambda trial, epoch: time.sleep(0.02) or print(trial, flush=True)))
"""


@pytest.mark.heavy
def test_killed_it_goes_on(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", Trainer())
    for after in (1, 3, 6):
        command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "killed"), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for lines, line in enumerate(process.stdout, 1):
                if int(line) >= 1 and lines >= after:
                    break
            time.sleep(0.01 * after)
            os.kill(process.pid, signal.SIGKILL)
    assert search(tmp_path / "killed", Trainer()) == whole


def test_a_line_that_was_not_written_to_its_end_and_a_lock_of_a_dead_process_are_passed_over(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", Trainer())
    search(tmp_path / "torn", Trainer(), trials=4)
    journal = tmp_path / "torn" / "trials.journal"
    with journal.open("ab") as stream:
        stream.write(b'{"op_code": 4, "worker')
    Path(f"{journal}.lock").write_text("")
    began = time.monotonic()
    assert search(tmp_path / "torn", Trainer()) == whole
    assert time.monotonic() - began < 10, "no lock was waited for"


def test_a_trial_that_fails_is_one_of_them(tmp_path: Path) -> None:
    def breaks(trial: int, epoch: int) -> None:
        if trial == 0:
            raise FeatstoreError("the loss is no number any more")

    warnings: list[str] = []

    class Told(Reporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    best, trials = search(tmp_path, Trainer(breaks), Told(), trials=4)
    assert [one.status for one in trials].count("failed") == 1
    assert (trials[0].status, trials[0].accuracy) == ("failed", None)
    assert warnings == ["trial 0 failed: the loss is no number any more"]
    assert best.learning_rate != 1e-5


def test_where_all_fail_their_error_is_the_searches(tmp_path: Path) -> None:
    def always(given: FinetuneSettings, stop: Stop) -> float:
        raise UsageError("there is no such block")

    with pytest.raises(UsageError, match="no such block"):
        search(tmp_path, always, trials=2)
    with pytest.raises(FeatstoreError, match="none of 2 trials"):
        search(tmp_path / "nan", lambda given, stop: float("nan"), trials=2)


@pytest.mark.parametrize("error", [StorageError("the disk is full"), DeadlineError("the time is up")])
def test_what_says_nothing_of_the_settings_ends_it_and_it_goes_on(tmp_path: Path, error: FeatstoreError) -> None:
    def at(trial: int, epoch: int) -> None:
        if (trial, epoch) == (2, 1):
            raise error

    with pytest.raises(type(error)):
        search(tmp_path, Trainer(at))
    assert search(tmp_path, Trainer()) == search(tmp_path / "whole", Trainer())


def test_what_is_searched_follows_from_the_items_and_the_method() -> None:
    def names(modality: Any, **more: Any) -> set[str]:
        return {one.name for one in space_of(settings(**more), modality, BLOCKS).fields}

    always = {"learning_rate", "layer_decay", "weight_decay", "depth"}
    assert names("text") == always
    assert names("image") == always | {"crop_scale", "color"}
    assert names("text", weight_decay=0.0, blocks=("layer4",), lora=8) == {"learning_rate", "layer_decay", "lora"}
    assert "crop_scale" not in names("image", crop_scale=1.0)


def test_adapters_keep_their_scale() -> None:
    given = settings(lora=8, lora_alpha=16.0)
    made = space_of(given, "text").applied(given, {"lora": 32})
    assert (made.lora, made.lora_alpha) == (32, 64.0)


def test_without_optuna_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="cannot be imported") as caught:
        searching.check()
    assert caught.value.hint == "Install it with: pip install 'featstore[finetune]'"
