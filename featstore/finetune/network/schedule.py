"""How the rates bend over the steps of a training.

Source: Loshchilov and Hutter, SGDR (2017), one half of a cosine without restarts, after a linear warm-up.
"""

from __future__ import annotations

import math

__all__ = ["factor"]


def factor(step: int, steps: int, *, warmup: float, kind: str) -> float:
    """What the rates are multiplied by in a step.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: The share of them in which it rises to 1, in equal parts.
        kind: ``cosine``: from then on it falls to nearly 0 in the last step; ``constant``: it stays.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if kind == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
