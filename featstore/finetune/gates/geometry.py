"""Do the vectors still fill their space? Fine-tuning can collapse them to little more than their classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.gates.outcome import Gate
from featstore.records import GateOutcome

__all__ = ["dead", "effective_rank", "rank", "sound"]

# A value whose spread is below this share of the median one's says nothing; above the other it said something.
_DEAD, _ALIVE = 1e-6, 1e-3


def effective_rank(vectors: NDArray[np.float32]) -> float:
    """In how many directions vectors really vary: the exponential of the entropy of the singular values' shares.

    Source: Roy and Vetterli, The effective rank: a measure of effective dimensionality (EUSIPCO 2007); Garrido et al.,
    RankMe (ICML 2023), for vectors of networks.

    Args:
        vectors: (n, d), all finite.

    Returns:
        From 1 to min(n, d); 0 where all vectors are zero.
    """
    values = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    total = float(values.sum())
    if total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def sound(refused: int, items: int, why: str | None = None) -> GateOutcome:
    """Refuses where any item has no vector: not finite, or of zeros.

    Args:
        refused: How many have none.
        items: Of how many.
        why: What is said of the first.
    """
    note = f"{refused:,} of {items:,} items have no vector" + (f": {why}" if why else "")
    return Gate("geometry.finite", 0.0, "at most").judged(float(refused), note)


def dead(before: NDArray[np.float32], after: NDArray[np.float32], *, same: bool) -> GateOutcome:
    """Refuses where a value of the vector has stopped varying that varied before.

    Args:
        before: (n, d) the items' vectors as they were.
        after: (n, e) as they are now.
        same: Training began with the model of the vectors before, or with that one's origin. Another model has other
            values; there it is the number of those that stand still that may not grow.
    """
    was, now = _spread(before), _spread(after)
    if same:
        count = int(((now < _DEAD) & (was >= _ALIVE)).sum())
    else:
        count = max(0, int((now < _DEAD).sum()) - int((was < _DEAD).sum()))
    return Gate("geometry.dead", 0.0, "at most").judged(float(count), f"of {len(now):,} values have stopped varying")


def rank(before: NDArray[np.float32], after: NDArray[np.float32], most_loss: float) -> GateOutcome:
    """Refuses where the effective rank has fallen below a share of what it was.

    Args:
        before: (n, d) the test items' vectors as they were.
        after: (n, e) as they are now.
        most_loss: The share that may go.
    """
    was, now = effective_rank(before), effective_rank(after)
    loss = 1 - now / was if was > 0 else 0.0
    return Gate("geometry.rank", most_loss, "at most").judged(
        loss, f"the effective rank went from {was:.1f} to {now:.1f}"
    )


def _spread(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(d,) how far each value varies, against the median value's."""
    spread = vectors.astype(np.float64).std(axis=0)
    usual = float(np.median(spread)) or float(spread.max(initial=0.0)) or 1.0
    return np.asarray(spread / usual, np.float64)
