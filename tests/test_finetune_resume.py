"""Fine-tuning that is ended anywhere goes on to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import Faulty
from network_world import Watcher, copied, fitted, pictured, pictures, sentences, trained, written

from featstore.errors import InterruptedRunError, StorageError
from featstore.finetune.examples import Examples
from featstore.finetune.network import Trained
from featstore.models.original import Original
from featstore.storage import durable

# Judged by what is learned from, later epochs are better ones, so that it is their weights that are compared.
LEARNED = JUDGED = pictures(20)
FOLDER = Path("finetunes/t/k")

KINDS: dict[str, dict[str, Any]] = {
    # Everything that draws, remembers or begins later.
    "adamw": {
        "name": "test_vit", "optimizer": "adamw", "learning_rate": 1e-3, "dropout": 0.2, "halving": True, "color": 0.3,
        "blocks": ("blocks.5", "blocks.4:1", "blocks.3:2"), "schedule": "cosine", "warmup": 0.2, "epochs": 3,
    },
    "sgd": {
        "name": "test_resnet", "optimizer": "sgd", "learning_rate": 1e-2, "batch_norm": "train", "depth": 2,
        "micro_batch": 4, "epochs": 3, "randaugment": 9,
    },
    "lora": {"name": "test_vit", "lora": 2, "learning_rate": 1e-2, "depth": 2, "dropout": 0.1, "epochs": 3},
}  # fmt: skip
STEPS = 9  # three epochs of 20 examples by 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _run(folder: Path, kind: str, **more: Any) -> tuple[Trained, Original]:
    given = {"batch": 8, "patience": 9, "checkpoint_every": 2, "start": "random", **KINDS[kind], **more}
    original = pictured(given.pop("name"))
    return trained(original, folder, LEARNED, JUDGED, **given), original


def _same(a: tuple[Trained, Original], b: tuple[Trained, Original]) -> None:
    """Weights and head to the bit, and the same history but for the seconds."""
    assert a[0].best_epoch == b[0].best_epoch
    assert a[1].state.keys() == b[1].state.keys()
    for name, tensor in a[1].state.items():
        assert torch.equal(tensor, b[1].state[name]), name
    np.testing.assert_array_equal(a[0].head.weight, b[0].head.weight)
    np.testing.assert_array_equal(a[0].head.bias, b[0].head.bias)
    histories = [[replace(record, seconds=0.0) for record in found.epochs] for found, _ in (a, b)]
    assert histories[0] == histories[1]


def _moved(found: tuple[Trained, Original], kind: str) -> bool:
    before = copied(pictured(KINDS[kind]["name"]))
    return any(not torch.equal(tensor, before[name]) for name, tensor in found[1].state.items())


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.heavy
def test_an_interrupt_at_any_step_resumes_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = _run(tmp_path / "whole", kind)
    assert len(whole[0].epochs) == 4
    assert whole[0].best_epoch > 0
    assert _moved(whole, kind)
    for step in (1, 3, 4, 8, STEPS):
        error = InterruptedRunError("stopped", signum=signal.SIGTERM)
        with pytest.raises(InterruptedRunError):
            _run(tmp_path / str(step), kind, reporter=Watcher(step, error))
        watcher = Watcher()
        _same(_run(tmp_path / str(step), kind, reporter=watcher), whole)
        assert watcher.steps == STEPS


@pytest.mark.parametrize(("kind", "goes_on"), [("adamw", True), ("sgd", False)])
def test_smaller_pieces_go_on_where_no_statistics_follow_them(tmp_path: Path, kind: str, goes_on: bool) -> None:
    """Memory may be what ended it: who asks for less of it does not lose what was trained."""
    with pytest.raises(InterruptedRunError):
        _run(tmp_path, kind, reporter=Watcher(5, InterruptedRunError("stopped", signum=signal.SIGTERM)))
    watcher = Watcher()
    found, _ = _run(tmp_path, kind, reporter=watcher, micro_batch=2)
    assert found.micro_batch == 2
    assert len(found.epochs) == 4
    first = [said for said in watcher.messages if said.startswith("epoch 1 of 3")]
    begun = [said for said in watcher.warnings if "training begins again" in said]
    assert (first, begun) == ([], []) if goes_on else (len(first), len(begun)) == (1, 1)


def test_a_training_that_is_stopped_again_and_again_comes_to_the_same_end(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", "adamw")
    for _ in range(20):
        try:
            # Three further steps each time: with a checkpoint every two, one at least is kept.
            done = json.loads((tmp_path / "s" / FOLDER / "checkpoint.json").read_text())["progress"]
            at = done["epoch"] * 3 + done["step"] + 3
        except FileNotFoundError:
            at = 3
        try:
            found = _run(tmp_path / "s", "adamw", reporter=Watcher(at, KeyboardInterrupt()))
            break
        except KeyboardInterrupt:
            continue
    else:
        raise AssertionError("it never ended")
    _same(found, whole)


def test_texts_resume_to_the_same_bits(tmp_path: Path) -> None:
    given: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 2, "micro_batch": 3, "checkpoint_every": 1, "depth": 2}
    given["start"] = "random"
    examples = (sentences(20), sentences(20))
    originals = [written(tmp_path / "bert") for _ in range(3)]
    whole = trained(originals[0], tmp_path / "a", *examples, **given)
    with pytest.raises(KeyboardInterrupt):
        trained(originals[1], tmp_path / "b", *examples, reporter=Watcher(4, KeyboardInterrupt()), **given)
    again = trained(originals[2], tmp_path / "b", *examples, **given)
    _same((again, originals[2]), (whole, originals[0]))


def test_an_interrupt_while_a_batch_is_computed_does_no_harm(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", "sgd")
    given = {"batch": 8, "patience": 9, "checkpoint_every": 2, "start": "random", **KINDS["sgd"]}
    original = pictured(given.pop("name"))
    passes = [0]

    def look(_: object, __: object, ___: object) -> None:
        passes[0] += torch.is_grad_enabled()
        if passes[0] == 9:
            raise InterruptedRunError("stopped", signum=signal.SIGINT)

    original.graph.get_submodule("network.layer4").register_forward_hook(look)
    with pytest.raises(InterruptedRunError):
        trained(original, tmp_path / "s", LEARNED, JUDGED, **given)
    _same(_run(tmp_path / "s", "sgd"), whole)


@pytest.mark.heavy
def test_whatever_write_fails_the_training_goes_on_from_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _run(tmp_path / "whole", "sgd", epochs=1)
    count = Faulty(0)
    monkeypatch.setattr(durable, "os", count)
    _run(tmp_path / "counted", "sgd", epochs=1)
    writes = len(count.calls)
    assert writes > 20
    for at in range(1, writes + 1, 7):
        monkeypatch.setattr(durable, "os", Faulty(at))
        with pytest.raises(StorageError):
            _run(tmp_path / str(at), "sgd", epochs=1)
        monkeypatch.setattr(durable, "os", Faulty(0))
        _same(_run(tmp_path / str(at), "sgd", epochs=1), whole)
        left = sorted(path.name for path in (tmp_path / str(at) / FOLDER).iterdir())
        assert len(left) == 2, left
        assert left[0].startswith("best-")
        assert left[1] == "checkpoint.json"


@pytest.mark.parametrize("what", ["checkpoint.json", "checkpoint-*", "best-*"])
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path, what: str) -> None:
    whole = _run(tmp_path / "whole", "sgd")
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "s", "sgd", reporter=Watcher(5, KeyboardInterrupt()))
    [file] = (tmp_path / "s" / FOLDER).glob(what)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    watcher = Watcher()
    _same(_run(tmp_path / "s", "sgd", reporter=watcher), whole)
    assert any("damaged" in warning for warning in watcher.warnings)


def test_a_finished_training_is_taken_as_it_is(tmp_path: Path) -> None:
    whole = _run(tmp_path / "s", "lora")
    files = sorted(path.name for path in (tmp_path / "s" / FOLDER).iterdir())
    assert len(files) == 2
    reads: list[int] = []

    def read(row: int) -> bytes:
        reads.append(row)
        content = LEARNED.read(row)
        assert isinstance(content, bytes)
        return content

    original = pictured("test_vit")
    given = {k: v for k, v in KINDS["lora"].items() if k != "name"}
    head = fitted(original, LEARNED)
    again = trained(
        original,
        tmp_path / "s",
        Examples(read=read, truth=LEARNED.truth),
        JUDGED,
        head=head,
        start="random",
        batch=8,
        patience=9,
        **given,
    )
    _same((again, original), whole)
    assert not reads
    assert sorted(path.name for path in (tmp_path / "s" / FOLDER).iterdir()) == files


def test_other_settings_do_not_go_on_from_a_checkpoint_of_these(tmp_path: Path) -> None:
    _run(tmp_path / "s", "sgd")
    watcher = Watcher()
    changed = _run(tmp_path / "s", "sgd", learning_rate=2e-2, reporter=watcher)
    assert watcher.steps == STEPS
    _same(_run(tmp_path / "new", "sgd", learning_rate=2e-2), changed)


def test_how_often_it_is_saved_changes_nothing_and_is_told(tmp_path: Path) -> None:
    rare, often = Watcher(), Watcher()
    a = _run(tmp_path / "a", "adamw", checkpoint_every=None, reporter=rare)
    b = _run(tmp_path / "b", "adamw", checkpoint_every=1, reporter=often)
    _same(a, b)
    assert rare.durable == 1 + 3
    assert often.durable == 1 + 3 + 3 * 2
    assert len(often.messages) == 3


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_finetune_resume as tests
from network_world import Watcher

class Killer(Watcher):
    def advance(self, done, rejected=0):
        self.steps += done
        if self.steps >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

tests._run(Path(sys.argv[1]), "adamw", reporter=Killer())
"""


@pytest.mark.heavy
@pytest.mark.parametrize("step", [3, 7])
def test_a_killed_process_is_gone_on_from_by_another(tmp_path: Path, step: int) -> None:
    whole = _run(tmp_path / "whole", "adamw")
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "s"), str(step)]
    ended = subprocess.run(command, cwd=Path(__file__).parent, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    _same(_run(tmp_path / "s", "adamw"), whole)
