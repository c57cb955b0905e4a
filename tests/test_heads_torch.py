"""Heads trained in torch: they learn, stop in time, come out as plain arrays, and twice the same."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import numpy as np
import pytest

from featstore.errors import UsageError
from featstore.heads import torch_heads, torch_training
from featstore.heads.fitting import fit
from featstore.heads.kinds import Problem
from featstore.heads.torch_heads import train
from featstore.heads.torch_job import MANY, Job, Network
from featstore.settings import TorchSettings

CLASSES = ("a", "b", "c")
KINDS = ("torch-linear", "torch-mlp")
QUICK = TorchSettings(epochs=40, seeds=1, hidden=32, learning_rate=0.02, device="cpu")


def _blobs(n=360, dim=8, seed=0, spread=1.0):
    """Three clouds, far from zero and of very different scales: (vectors, class numbers, folds)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, n)
    centres = np.random.default_rng(99).normal(size=(3, dim)) * 2
    vectors = (centres[truth] + generator.normal(size=(n, dim)) * spread) * np.logspace(-2, 2, dim) + 50
    return vectors.astype(np.float32), truth, np.arange(n) % 4


def _problem(settings=QUICK, **changes):
    vectors, truth, folds = _blobs()
    asked = {"task": "classification", "vectors": vectors, "truth": truth, "classes": CLASSES, "folds": folds}
    asked |= {"groups": np.arange(len(truth)), "torch": settings}
    return Problem(**(asked | changes))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_learnt(kind, optimizer):
    vectors, truth, folds = _blobs()
    settings = TorchSettings(optimizer=optimizer, epochs=40, seeds=1, hidden=32, learning_rate=0.02, device="cpu")
    found = fit(vectors, truth, CLASSES, folds, kind=kind, torch=settings)
    others, their_truth, _ = _blobs(seed=1)
    assert (found.head.predict(others) == their_truth).mean() > 0.95
    assert (found.out_of_fold.argmax(axis=1) == truth).mean() > 0.95
    assert np.allclose(found.head.probabilities(others).sum(axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_learnt(kind):
    vectors, truth, folds = _blobs()
    labels = np.column_stack([truth == 0, truth != 1, np.zeros(len(truth), bool)])
    head = fit(vectors, labels, CLASSES, folds, task="multilabel", kind=kind, torch=QUICK).head
    assert (head.predict(vectors) == labels).mean() > 0.95
    assert not head.predict(vectors)[:, 2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_learnt_in_their_own_unit(kind):
    vectors, _, folds = _blobs()
    truth = 1e6 + 1e3 * ((vectors - 50) / np.logspace(-2, 2, 8)).sum(axis=1).astype(np.float64)
    found = fit(vectors, truth, (), folds, task="regression", kind=kind, torch=QUICK)
    error = np.square(found.out_of_fold[:, 0] - truth).sum() / np.square(truth - truth.mean()).sum()
    assert error < 0.1


def test_a_hidden_layer_learns_what_no_line_can():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(600, 4)).astype(np.float32)
    truth = (vectors[:, 0] * vectors[:, 1] > 0).astype(np.int64)
    folds = np.arange(600) % 3
    settings = TorchSettings(epochs=80, seeds=1, hidden=64, device="cpu")
    right = {
        kind: (fit(vectors, truth, ("no", "yes"), folds, kind=kind, torch=settings).head.predict(vectors) == truth)
        for kind in KINDS
    }
    assert right["torch-linear"].mean() < 0.65
    assert right["torch-mlp"].mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_twice_whatever_else_torch_was_told(kind):
    import torch

    rows = np.arange(360)
    settings = TorchSettings(epochs=5, seeds=2, hidden=32, device="cpu")
    first = train(_problem(settings), kind, rows)
    before = torch.get_num_threads()
    torch.manual_seed(12345)
    torch.set_num_threads(2)
    try:
        second = train(_problem(settings), kind, rows[::-1].copy())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name
    other = train(_problem(settings, seed=1), kind, rows)
    assert other.arrays["weights"].tobytes() != first.arrays["weights"].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_back_to_the_best_epoch(kind, monkeypatch):
    """The head's own loss on the fold that stopped it is the lowest that any epoch had: dropout is off in it."""
    monkeypatch.setattr(torch_training, "_SILENCE", 0.0)  # so that every epoch is told
    vectors, truth, folds = _blobs(spread=4.0)  # hard enough to be learnt by heart
    told: list[str] = []
    settings = TorchSettings(epochs=200, seeds=1, hidden=128, learning_rate=0.01, dropout=0.5, device="cpu")
    problem = _problem(settings, vectors=vectors, truth=truth, folds=folds, progress=told.append)
    head = train(problem, kind, np.arange(len(truth)))
    losses = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in told]
    held = folds == 0
    logits = head.logits(vectors[held])
    own = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(held.sum()), truth[held]])
    assert own == pytest.approx(min(losses), abs=2e-4)
    assert losses.index(min(losses)) < len(losses) - 1 < 199


def _single(generator, *shape):
    return generator.normal(size=shape).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_several_networks_are_one_head_of_their_mean(kind):
    generator = np.random.default_rng(0)
    problem = _problem(TorchSettings(seeds=3, hidden=5))
    job = Job.of(problem, kind, np.arange(360))
    hidden = (lambda: (_single(generator, 5, 8), _single(generator, 5))) if kind == "torch-mlp" else tuple
    wide = 5 if kind == "torch-mlp" else 8
    networks = [
        Network(generator.normal(size=(3, wide)), generator.normal(size=3), *hidden()) for _ in range(job.networks)
    ]
    together = job.head(networks).logits(problem.vectors)
    each = [job.head([network]).logits(problem.vectors) for network in networks]
    assert np.allclose(together, np.mean(each, axis=0), rtol=0, atol=1e-9)


def test_balanced_weights_find_the_rare_class():
    generator = np.random.default_rng(0)
    truth = (generator.random(800) < 0.05).astype(np.int64)
    vectors = (generator.normal(size=(800, 4)) + truth[:, None]).astype(np.float32)
    folds = np.arange(800) % 3
    recall = {
        weights: fit(
            vectors, truth, ("often", "rare"), folds, kind="torch-linear", weights=weights, torch=QUICK
        ).head.predict(vectors)[truth == 1].mean()
        for weights in (None, "balanced")
    }  # fmt: skip
    assert recall["balanced"] > recall[None] + 0.2


def test_a_map_of_a_file_is_learnt_from_like_an_array(tmp_path):
    vectors, truth, folds = _blobs(n=2_000)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    head = fit(mapped, truth, CLASSES, folds, kind="torch-mlp", torch=QUICK).head
    assert (head.predict(mapped) == truth).mean() > 0.95


def test_of_many_items_one_fold_is_chosen_by_and_all_are_predicted():
    vectors, truth, folds = _blobs(n=MANY)
    settings = TorchSettings(epochs=2, device="cpu")
    tried = torch_heads.linear(_problem(settings, vectors=vectors, truth=truth, folds=folds, groups=np.arange(MANY)))
    assert (folds[tried.rows] == 0).all()
    assert len(tried.out_of_fold) == len(tried.rows) == (folds == 0).sum()
    found = fit(vectors, truth, CLASSES, folds, kind="torch-linear", torch=settings)
    right = found.out_of_fold.argmax(axis=1) == truth
    assert all(right[folds == fold].mean() > 0.8 for fold in range(4))
    assert found.head.settings["networks"] == 1


_BEYOND_MEMORY = """
import resource, sys
import numpy as np
import torch
from featstore.heads.kinds import Problem
from featstore.heads.torch_heads import linear
from featstore.settings import TorchSettings

vectors = np.load(sys.argv[1], mmap_mode="r")
n = len(vectors)
def problem(rows):
    truth = np.arange(rows) % 3
    return Problem(
        task="classification", vectors=vectors[:rows], truth=truth, classes=("a", "b", "c"), folds=np.arange(rows) % 2,
        groups=np.arange(rows), torch=TorchSettings(epochs=1, seeds=1, batch=512, device="cpu"),
    )
linear(problem(3_000))  # what torch takes for itself is taken now
used = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData")][0]
limit = used + vectors.nbytes // 3
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(vectors)
    sys.exit("the limit does not hold")
except MemoryError:
    pass
found = linear(problem(n))
found.complete()
print((found.out_of_fold.argmax(axis=1) == found.rows % 3).mean())
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_table_larger_than_memory_is_streamed(tmp_path):
    """With a third of the vectors' size to spare: what is read is read in batches."""
    path, n, dim = tmp_path / "vectors.npy", 150_000, 512
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim))
    generator = np.random.default_rng(0)
    for start in range(0, n, 10_000):
        mapped[start : start + 10_000] = generator.normal(size=(10_000, dim))
        mapped[start : start + 10_000, 0] += 3 * (np.arange(start, start + 10_000) % 3)
    mapped.flush()
    del mapped
    done = subprocess.run([sys.executable, "-c", _BEYOND_MEMORY, path], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.6  # a third by chance; one epoch learns that much


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_said(value):
    vectors, truth, folds = _blobs()[:3]
    vectors = vectors.copy()
    vectors[7, 3] = value
    with pytest.raises(UsageError, match="not finite"):
        fit(vectors, truth, ("a", "b", "c"), folds, kind="torch-linear", torch=QUICK)


def test_a_step_too_long_is_said():
    with pytest.raises(UsageError, match="diverged at a learning rate of 1e\\+30"):
        train(_problem(TorchSettings(learning_rate=1e30, seeds=1, device="cpu")), "torch-mlp", np.arange(360))


def test_a_device_that_is_not_there_is_said():
    with pytest.raises(UsageError, match="no device 'cuda:99'"):
        train(_problem(TorchSettings(device="cuda:99")), "torch-linear", np.arange(360))


def test_ctrl_c_ends_all_folds_at_once(monkeypatch):
    monkeypatch.setattr(torch_training, "_SILENCE", 0.0)
    told = []

    def interrupt(message):
        told.append(message)
        if len(told) == 5:
            raise KeyboardInterrupt

    vectors, truth, folds = _blobs(n=3_000, spread=6.0)
    settings = TorchSettings(epochs=100_000, patience=100_000, seeds=1, hidden=32, device="cpu")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit(vectors, truth, CLASSES, folds, kind="torch-mlp", torch=settings, progress=interrupt)
    assert time.monotonic() - started < 20


def test_without_torch_it_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails then
    vectors, truth, folds = _blobs()
    with pytest.raises(UsageError, match="torch is not installed"):
        fit(vectors, truth, CLASSES, folds, kind="torch-linear")


def test_the_head_runs_without_torch():
    code = (
        "import sys, numpy as np; from featstore.heads.head import Head; "
        "a = {'mean': np.zeros(2), 'factor': np.ones(2), 'hidden_weights': np.ones((3, 2)), 'hidden_bias': np.zeros(3),"
        " 'weights': np.ones((2, 3)), 'bias': np.zeros(2)}; "
        "h = Head('classification', 'torch-mlp', ('a', 'b'), 2, 'standard', a, {}); "
        "print(h.logits(np.ones((1, 2))).tolist(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[6.0, 6.0]] False"
