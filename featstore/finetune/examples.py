"""What is learned from: labelled contents that can be read again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Examples", "Start"]


@dataclass(frozen=True, eq=False)
class Examples:
    """n labelled contents.

    Attributes:
        read: Gives an example's content, files' bytes or a text; called many times, from several threads.
        truth: (n,) int64 class numbers.
    """

    read: Callable[[int], bytes | str]
    truth: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, eq=False)
class Start:
    """The linear head that training begins with: logits are ``v @ weight.T + bias``, of ``v / |v|`` with ``unit``.

    Attributes:
        weight: (c, d) float32.
        bias: (c,) float32.
        unit: Whether vectors are brought to length 1 first.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    unit: bool = False
