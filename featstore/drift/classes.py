"""What a head says of the samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featstore.drift.sides import Null, Sides

__all__ = ["classes"]


def classes(probabilities: NDArray[np.floating], sides: Sides) -> tuple[Null, Null]:
    """How far the mean predicted shares of the classes are apart.

    The test weighs each class by how much its probability varies, so that a rare one that grows is not lost beside
    common ones.

    Source: Lipton et al., Detecting and Correcting for Label Shift with Black Box Predictors (2018).

    Args:
        probabilities: (n, c), in the order of ``sides``; of a head that was not fitted on these items.
        sides: Of the samples.

    Returns:
        The weighted distance, for its p; and half the summed differences of the shares, in [0, 1], for its size.
    """
    exact = np.asarray(probabilities, np.float64)
    shifts = (exact - exact.mean(axis=0)).T @ sides.contrast.astype(np.float64)
    weighted = np.square(shifts) / np.maximum(exact.var(axis=0), 1e-6)[:, None]
    return sides.null(weighted.sum(axis=0)), sides.null(np.abs(shifts).sum(axis=0) / 2)
