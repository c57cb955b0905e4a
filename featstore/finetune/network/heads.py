"""The linear layer over the vectors that is trained with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featstore.finetune.examples import Start

if TYPE_CHECKING:
    import torch

__all__ = ["current", "head_of", "random_head"]


def head_of(start: Start, *, dropout: float) -> torch.nn.Module:
    """A module (b, d) → (b, c) with the given weights, ``weight`` and ``bias``; dropout only in training mode."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(np.array(start.weight, np.float32)))
            self.bias = torch.nn.Parameter(torch.from_numpy(np.array(start.bias, np.float32)))
            self.dropout = torch.nn.Dropout(dropout)

        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            if start.unit:
                vectors = torch.nn.functional.normalize(vectors, p=2.0, dim=1)
            return torch.nn.functional.linear(self.dropout(vectors), self.weight, self.bias)

    return Head()


def random_head(start: Start, *, seed: int) -> Start:
    """A head of the same shape that knows nothing: weights even within ± 1/√d, no bias."""
    classes, dim = start.weight.shape
    generator = np.random.Generator(np.random.PCG64([seed, 4]))
    weight = generator.uniform(-(dim**-0.5), dim**-0.5, (classes, dim)).astype(np.float32)
    return Start(weight=weight, bias=np.zeros(classes, np.float32), unit=start.unit)


def current(head: torch.nn.Module, *, unit: bool) -> Start:
    """The head as arrays."""
    weight, bias = (head.get_parameter(name).detach().cpu().numpy().copy() for name in ("weight", "bias"))
    return Start(weight=weight, bias=bias, unit=unit)
