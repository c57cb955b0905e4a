"""What the networks of one trained head share: the prepared target, the input's scale, how big a step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.heads.head import Arrays, Head
from featstore.heads.kinds import Problem
from featstore.heads.minibatches import moments
from featstore.records import HeadKind, HeadTask
from featstore.settings import TorchSettings

__all__ = ["MANY", "Job", "Network"]

# The step size where none is given, for a batch of 256; it goes with the root of the batch.
_RATES = {
    ("torch-linear", "adamw"): 1e-2,
    ("torch-linear", "sgd"): 0.03,
    ("torch-mlp", "adamw"): 2e-3,
    ("torch-mlp", "sgd"): 0.05,
}

# Where nothing else is said: rows to go through, and the fewest and most epochs for it.
_SEEN = 300_000

# Rows a step, below so many rows in all; and from there on.
_BATCHES, _LARGEST = ((4_000, 128), (10_000, 256), (40_000, 512)), 1024

MANY = 10_000
"""From so many items on: one network instead of three, and one fold to choose by."""


@dataclass(frozen=True, eq=False)
class Network:
    """The weights of one trained network, float64: (c, h or d), (c,), and those before ReLU, (h, d) and (h,)."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    hidden_weights: NDArray[np.float64] | None = None
    hidden_bias: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One head to train.

    Attributes:
        kind: ``torch-linear`` or ``torch-mlp``.
        vectors: (n, d) rows.
        target: Class numbers (n,) int64, (n, c) float32 of 0 and 1, or (n, 1) float32 of mean 0 and spread 1.
        importance: How much each item counts, float32: (n,), or (n, c) for labels; None where all count the same.
        mean: (d,) float64 of the rows trained on.
        factor: (d,) float64 that brings their spread to 1.
        centre: What a predicted number is moved by, once it is
        spread: stretched by this.
        task: What is predicted.
        classes: The classes in order.
        settings: How to train.
        seed: Of the first network.
        batch: Rows a step.
        epochs: At most so many times through the rows.
        rate: The step size.
        networks: How many.
    """

    kind: HeadKind
    vectors: NDArray[np.floating]
    target: NDArray[Any]
    importance: NDArray[np.float32] | None
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]
    centre: float
    spread: float
    task: HeadTask
    classes: tuple[str, ...]
    settings: TorchSettings
    seed: int
    batch: int
    epochs: int
    rate: float
    networks: int

    @classmethod
    def of(cls, problem: Problem, kind: HeadKind, rows: NDArray[np.int64]) -> Job:
        """Prepares the training on some rows, in rising order; what is measured here is measured on them only."""
        settings = problem.torch or TorchSettings()
        mean, factor = moments(problem.vectors, rows)
        centre, spread, target = 0.0, 1.0, problem.truth
        if problem.task == "regression":
            centre, spread = float(target[rows].mean()), float(target[rows].std()) or 1.0
            target = ((target - centre) / spread).astype(np.float32)[:, None]
        elif problem.task == "multilabel":
            target = target.astype(np.float32)
        importance = None
        if problem.balanced and problem.task != "regression":
            importance = np.zeros(target.shape, np.float32)
            importance[rows] = problem.weights(rows)
        batch = settings.batch or next((size for most, size in _BATCHES if len(rows) < most), _LARGEST)
        return cls(
            kind=kind,
            vectors=problem.vectors,
            target=target,
            importance=importance,
            mean=mean,
            factor=factor,
            centre=centre,
            spread=spread,
            task=problem.task,
            classes=problem.classes,
            settings=settings,
            seed=problem.seed,
            batch=batch,
            epochs=settings.epochs or max(30, min(300, _SEEN // len(rows))),
            rate=settings.learning_rate or _RATES[kind, settings.optimizer] * (batch / 256) ** 0.5,
            networks=settings.seeds or (3 if problem.items < MANY else 1),
        )

    @property
    def outputs(self) -> int:
        return len(self.classes) or 1

    def head(self, networks: list[Network]) -> Head:
        """The mean of the networks' outputs, as one head."""
        arrays: Arrays = {"mean": self.mean, "factor": self.factor}
        settings = {"learning_rate": self.rate, "weight_decay": self.settings.weight_decay, "batch": float(self.batch)}
        settings["networks"] = float(len(networks))
        if self.kind == "torch-mlp":
            # They come from float32 and are kept as that: the same numbers, half the file.
            hidden = [(n.hidden_weights, n.hidden_bias) for n in networks]
            arrays["hidden_weights"] = np.concatenate([w for w, _ in hidden if w is not None]).astype(np.float32)
            arrays["hidden_bias"] = np.concatenate([b for _, b in hidden if b is not None]).astype(np.float32)
            arrays["weights"] = np.concatenate([n.weights for n in networks], axis=1) / len(networks) * self.spread
            settings |= {"hidden": float(self.settings.hidden), "dropout": self.settings.dropout}
        else:
            arrays["weights"] = np.mean([n.weights for n in networks], axis=0) * self.spread
        arrays["bias"] = np.mean([n.bias for n in networks], axis=0) * self.spread + self.centre
        return Head(
            task=self.task,
            kind=self.kind,
            classes=self.classes,
            dim=len(self.mean),
            input="standard",
            arrays=arrays,
            settings=settings,
        )
