"""Is the exported graph the network that was trained? By vectors, and by what its own head says of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.examples import Start
from featstore.finetune.gates.outcome import Gate
from featstore.models.parity import LEAST_COSINE
from featstore.records import GateOutcome

__all__ = ["AGREEMENT", "agreement", "cosine", "logits", "unequal"]

AGREEMENT = 0.999
"""The share of test items of which the network's own head says the same, in torch and in the runtime."""


def logits(head: Start, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a linear head says of vectors: (n, c)."""
    exact = vectors.astype(np.float64)
    if head.unit:
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        exact = exact / np.where(lengths > 0, lengths, 1)
    return np.asarray(exact @ head.weight.astype(np.float64).T + head.bias, np.float64)


def unequal(least: float, note: str) -> GateOutcome:
    """The outcome where the graph could not even be made equal on samples: the cosine that was found there."""
    return Gate("parity.cosine", LEAST_COSINE, "at least").said("refused", least, note)


def cosine(torch: NDArray[np.float32], graph: NDArray[np.float32]) -> GateOutcome:
    """Refuses where a test item's vector differs.

    Args:
        torch: (n, d) from the network.
        graph: (n, d) from the exported graph.
    """
    a, b = torch.astype(np.float64), graph.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    least = float(np.min((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)))
    return Gate("parity.cosine", LEAST_COSINE, "at least").judged(least, f"the least of {len(a):,} test items")


def agreement(head: Start, torch: NDArray[np.float32], graph: NDArray[np.float32]) -> GateOutcome:
    """Refuses where the own head says another class of the graph's vectors than of the network's."""
    same = logits(head, torch).argmax(axis=1) == logits(head, graph).argmax(axis=1)
    note = f"of {len(same):,} test items have the same class from the network's own head"
    return Gate("parity.top1", AGREEMENT, "at least").judged(float(same.mean()), note)
