"""L-BFGS for smooth convex functions, from a point near the minimum and in coordinates that suit it.

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 3.1 and 7.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["minimise"]

_Vector = NDArray[np.float64]

_MEMORY = 12
_ENOUGH = 1e-4
_HALVINGS = 25

# Losses below count as this where it is asked how small a gain still matters.
_SMALL = 1e-3


def minimise(
    function: Callable[[_Vector], tuple[float, _Vector]], start: _Vector, *, gain: float, steps: int
) -> _Vector:
    """The point where a function is least, or near enough.

    scikit-learn's and SciPy's L-BFGS begin with a step of length 1 whatever the scale; this one trusts that in the
    given coordinates the function bends about as much as ½‖x‖² does, so that a warm start costs few evaluations.

    Args:
        function: From (m,) to the value and the gradient (m,).
        start: (m,) where to begin.
        gain: Ends when the next step promises less than this share of the value.
        steps: Ends after so many.

    Returns:
        (m,) float64.
    """
    point = start
    value, slope = function(point)
    past: deque[tuple[_Vector, _Vector, float]] = deque(maxlen=_MEMORY)
    for _ in range(steps):
        direction = -_scaled(slope, past)
        along = float(slope @ direction)
        if along >= 0:  # rounding: the memory no longer fits
            past.clear()
            direction, along = -slope, -float(slope @ slope)
        if -along <= 2 * gain * max(abs(value), _SMALL):
            break
        length = 1.0
        for _ in range(_HALVINGS):
            moved = point + length * direction
            value_there, slope_there = function(moved)
            rise = value_there - value
            if rise <= _ENOUGH * length * along:
                break
            # the lowest point of the parabola through what is known, within reason
            best = -along * length / (2 * (rise / length - along)) if np.isfinite(rise) else 0.0
            length *= min(max(best / length, 0.1), 0.5)
        else:
            break
        change, turned = moved - point, slope_there - slope
        bend = float(change @ turned)
        if bend > 1e-12 * float(change @ change):
            past.append((change, turned, 1 / bend))
        point, value, slope = moved, value_there, slope_there
    return point


def _scaled(slope: _Vector, past: deque[tuple[_Vector, _Vector, float]]) -> _Vector:
    """The slope times the inverse of the curvature, as the last steps showed it."""
    found = slope.copy()
    shares = []
    for change, turned, inverse in reversed(past):
        share = inverse * float(change @ found)
        found -= share * turned
        shares.append(share)
    if past:
        _, turned, inverse = past[-1]
        found /= inverse * float(turned @ turned)
    for (change, turned, inverse), share in zip(past, reversed(shares), strict=True):
        found += (share - inverse * float(turned @ found)) * change
    return found
