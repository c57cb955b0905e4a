"""Heads trained by gradient descent, in torch: a linear layer, or one hidden layer before it.

What comes out is a plain head of arrays, so nothing but this room ever needs torch.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.folds import judges
from featstore.heads.head import Head
from featstore.heads.kinds import LeftOut, Problem, Tried
from featstore.heads.torch_job import MANY, Job
from featstore.heads.torch_training import Training
from featstore.machine import available_cpus
from featstore.records import HeadKind
from featstore.settings import TorchSettings

__all__ = ["linear", "mlp", "train"]

# Rows predicted at once.
_PREDICTED = 2_048

_Side = tuple[NDArray[np.int64], NDArray[np.int64]]


def linear(problem: Problem) -> Tried | LeftOut:
    """Softmax, sigmoid or least squares over the vectors; for tables beyond memory."""
    return _tried(problem, "torch-linear")


def mlp(problem: Problem) -> Tried | LeftOut:
    """The same after one hidden layer with ReLU and dropout."""
    return _tried(problem, "torch-mlp")


def train(problem: Problem, kind: HeadKind, rows: NDArray[np.int64], *, stop: threading.Event | None = None) -> Head:
    """Trains a head on some rows; on the processor the same arguments give the same bytes.

    Each value of the vectors is brought to mean 0 and spread 1. One network is trained for each of the settings'
    ``seeds``, on the rows outside one fold; it stops when its loss on that fold falls no more, and goes back to its
    best epoch. The head is the mean of the networks' outputs: for a hidden layer that is one network with all their
    hidden values side by side.

    Source: Prechelt, Early stopping – but when? (1998); Hansen and Salamon, Neural network ensembles (1990).

    Args:
        problem: What to learn; its vectors are read by rows only, so they may lie on a disk.
        kind: ``torch-linear`` or ``torch-mlp``.
        rows: (m,) int64: what to train on.
        stop: Once it is set, ``InterruptedError`` is raised.

    Raises:
        UsageError: The training diverged, or torch or the device is not there.
    """
    rows = np.sort(rows)
    job = Job.of(problem, kind, rows)
    torch, device = _library(job.settings.device)
    networks = []
    with _one_thread(torch):
        for number in range(job.networks):
            judged = _held(problem.folds[rows], rows, (job.seed, number))
            fitted_on = np.setdiff1d(rows, judged, assume_unique=True)
            networks.append(Training(torch, device, job, number, problem.progress, stop).run(fitted_on, judged))
    return job.head(networks)


def _tried(problem: Problem, kind: HeadKind) -> Tried | LeftOut:
    if importlib.util.find_spec("torch") is None:
        return LeftOut("torch is not installed")
    number = judges(problem.folds)[0]
    sides = sorted(problem.sides(), key=lambda side: bool(problem.folds[side[1][0]] != number))
    first = sides[:1] if problem.items >= MANY else sides
    problem.progress(f"{kind}: {len(first)} of {len(sides)} folds")
    known = np.empty((problem.items, problem.outputs))
    settings = _out_of_fold(problem, kind, first, known)

    def complete() -> NDArray[np.floating]:
        problem.progress(f"{kind}: the other folds")
        _out_of_fold(problem, kind, sides[len(first) :], known)
        return known

    partly = len(first) < len(sides)
    return Tried(
        input="standard",
        settings=settings,
        out_of_fold=known[first[0][1]] if partly else known,
        refit=lambda: train(problem, kind, np.arange(problem.items)),
        rows=first[0][1] if partly else None,
        complete=complete if partly else None,
    )


def _out_of_fold(problem: Problem, kind: HeadKind, sides: list[_Side], into: NDArray[np.float64]) -> dict[str, float]:
    """Trains on each side and predicts the other, as many at a time as there are cores; the settings trained with."""
    torch, device = _library((problem.torch or TorchSettings()).device)
    stop = threading.Event()

    def one(side: _Side) -> dict[str, float]:
        rest, held = side
        head = train(problem, kind, rest, stop=stop)
        for start in range(0, len(held), _PREDICTED):
            part = held[start : start + _PREDICTED]
            into[part] = head.logits(problem.vectors[part])
        return head.settings

    at_once = min(len(sides), available_cpus()) if device == "cpu" else 1
    with _one_thread(torch), ThreadPoolExecutor(at_once, thread_name_prefix="torch") as pool:
        try:
            futures = [pool.submit(one, side) for side in sides]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:  # Ctrl-C too: the pool waits for what is running
            stop.set()
    failed = [future.exception() for future in futures if future.exception() is not None]
    for error in sorted(failed, key=lambda error: isinstance(error, InterruptedError)):
        assert error is not None
        raise error
    return futures[0].result()


def _library(device: str) -> tuple[Any, str]:
    try:
        import torch
    except ImportError as error:
        raise UsageError("torch is not installed.", hint="pip install torch, or choose another --kind.") from error
    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "auto":
        return torch, "cuda" if count else "cpu"
    if device != "cpu" and int(device.partition(":")[2] or 0) >= count:
        raise UsageError(f"torch finds no device '{device}'; there are {count}.", hint="Use --device cpu or auto.")
    return torch, device


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Steps are so small that threads would wait for each other; and the bits depend on no number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _held(folds: NDArray[np.int64], rows: NDArray[np.int64], seed: tuple[int, int]) -> NDArray[np.int64]:
    """The rows that a network is stopped by: one of the folds, or a fifth where there is only one."""
    present = np.unique(folds)
    if len(present) > 1:
        return np.asarray(rows[folds == present[seed[1] % len(present)]], np.int64)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(rows)[: len(rows) // 5])
