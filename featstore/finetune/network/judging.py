"""What a network reaches, computed as the exported model will: in full precision, in evaluation mode."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.finetune.examples import Examples
from featstore.finetune.network.batches import Inputs, cut, inputs
from featstore.models.original import Original
from featstore.settings import FinetuneSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Judged", "judged", "vectors"]

_AT_ONCE = 32


@dataclass(frozen=True)
class Judged:
    """Mean cross-entropy and the share of right answers, each example counting as much as its class does."""

    loss: float
    accuracy: float


def judged(
    graph: torch.nn.Module, head: torch.nn.Module, given: Inputs, weights: torch.Tensor, *, device: str, size: int
) -> Judged:
    """Measures a network and its head on all examples, so many at a time.

    Args:
        graph: In evaluation mode afterwards, as before or not.
        head: (b, d) → (b, c).
        given: The examples, not augmented.
        weights: (c,) float32 on the device, how much an example of each class counts.
        device: Where all of them are.
        size: Examples at a time.
    """
    import torch

    graph.eval()
    head.eval()
    loss, right, counted = 0.0, 0.0, 0.0
    with torch.no_grad(), closing(_passed(graph, given, device, size)) as passed:
        for rows, found in passed:
            logits = head(found)
            answer = torch.from_numpy(given.examples.truth[rows]).to(device)
            loss += float(torch.nn.functional.cross_entropy(logits, answer, weight=weights, reduction="sum"))
            right += float(weights[answer[logits.argmax(dim=1) == answer]].sum())
            counted += float(weights[answer].sum())
    return Judged(loss / counted, right / counted)


def vectors(original: Original, examples: Examples) -> NDArray[np.float32]:
    """The vectors of examples through the network itself, on the processor.

    Returns:
        (n, d) float32, in the examples' order.

    Raises:
        ItemError: An example cannot be read or decoded.
    """
    import torch

    original.graph.eval()
    given = inputs(original, examples, FinetuneSettings(), augment=False)
    pieces = []
    with torch.no_grad(), closing(_passed(original.graph, given, "cpu", _AT_ONCE)) as passed:
        pieces = [(rows, found.numpy()) for rows, found in passed]
    result = np.empty((len(given), pieces[0][1].shape[1]), np.float32)
    for rows, found in pieces:
        result[rows] = found
    return result


def _passed(
    graph: torch.nn.Module, given: Inputs, device: str, size: int
) -> Generator[tuple[NDArray[np.int64], torch.Tensor], None, None]:
    """Example numbers and their vectors, texts of like length together."""
    rows = np.argsort(given.lengths, kind="stable")
    with closing(given.batches(cut(rows, size))) as batches:
        for batch in batches:
            for places, arrays in batch.pieces(size):
                yield batch.rows[places], graph(*(array.to(device) for array in arrays))
