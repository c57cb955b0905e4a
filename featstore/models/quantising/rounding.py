"""Rounding weights so that what they compute changes least on calibration items, instead of each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.models.quantising.layers import Layer, Wiring
from featstore.models.quantising.qdq import LARGEST
from featstore.models.quantising.ranges import Observer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Moments", "fitted", "groups", "moments"]

_PLACES = 32  # of a picture's map: neighbours say nearly the same
_DAMPING = 0.01
_BLOCK = 128
_VALUES = 1 << 26  # of the second moments held at once: 512 MB


@dataclass(frozen=True, slots=True)
class Moments:
    """What a layer's weights are multiplied by, on average.

    Attributes:
        mean: float64 (groups, k), in the order of the weights.
        second: float64 (groups, k, k), the mean of the products of each two.
    """

    mean: NDArray[np.float64]
    second: NDArray[np.float64]


def groups(layers: Sequence[Layer], wiring: Wiring) -> Iterator[list[Layer]]:
    """Cuts the layers into portions whose moments fit into memory together."""
    portion: list[Layer] = []
    used = 0
    for layer in layers:
        count, width = _shape(layer, wiring)
        if portion and used + count * width * width > _VALUES:
            yield portion
            portion, used = [], 0
        portion.append(layer)
        used += count * width * width
    if portion:
        yield portion


def moments(observer: Observer, layers: Sequence[Layer], wiring: Wiring) -> dict[str, Moments]:
    """The moments of what each layer reads, by the layer's name."""
    shapes = {layer.name: _shape(layer, wiring) for layer in layers}
    mean = {name: np.zeros((count, width)) for name, (count, width) in shapes.items()}
    second = {name: np.zeros((count, width, width)) for name, (count, width) in shapes.items()}
    rows = dict.fromkeys(shapes, 0)
    for tensors in observer:
        for layer in layers:
            columns = _columns(tensors[layer.input], layer, wiring)
            mean[layer.name] += columns.sum(axis=1, dtype=np.float64)
            second[layer.name] += columns.transpose(0, 2, 1) @ columns
            rows[layer.name] += columns.shape[1]
    return {name: Moments(mean[name] / rows[name], second[name] / rows[name]) for name in shapes}


def fitted(
    values: NDArray[np.float32], axis: int, scale: NDArray[np.float32], seen: Moments, *, correct: bool
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Rounds a layer's weights one input at a time, each one's error made up for by those still to come.

    Source: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers", ICLR 2023; the shift of the mean that is left goes into the bias as in M. Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.

    Args:
        values: The weights.
        axis: Their axis of output channels.
        scale: float32 (outputs,).
        seen: What they are multiplied by.
        correct: The layer has a bias, which will take the shift of the mean.

    Returns:
        int8 weights in the given shape, and float64 (outputs,): what to add to the bias.
    """
    flat = np.moveaxis(values, axis, 0)
    outputs = flat.shape[0]
    count, width = seen.mean.shape
    wanted = flat.reshape(count, outputs // count, width).astype(np.float64)
    steps = scale.astype(np.float64).reshape(count, outputs // count, 1)
    second = seen.second
    if correct:
        second = second - seen.mean[:, :, None] * seen.mean[:, None, :]
    whole = _rounded(wanted, steps, second)
    shift = np.einsum("gok,gk->go", wanted - whole * steps, seen.mean).reshape(-1)
    shaped = np.moveaxis(whole.reshape(flat.shape), 0, axis).astype(np.int8)
    return shaped, shift if correct else np.zeros_like(shift)


def _rounded(
    wanted: NDArray[np.float64], steps: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(groups, outputs, k) weights in whole steps."""
    width = wanted.shape[2]
    diagonal = np.einsum("gkk->gk", second)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    sorted_ = np.take_along_axis(np.take_along_axis(second, order[:, :, None], 1), order[:, None, :], 2)
    damping = _DAMPING * diagonal.mean(axis=1) + 1e-12
    factor = np.linalg.cholesky(np.linalg.inv(sorted_ + damping[:, None, None] * np.eye(width))).transpose(0, 2, 1)
    left = np.take_along_axis(wanted / steps, order[:, None, :], 2)
    whole = np.empty_like(left)
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = np.empty((*left.shape[:2], end - start))
        for at in range(start, end):
            whole[:, :, at] = np.clip(np.rint(left[:, :, at]), -LARGEST, LARGEST)
            error = (left[:, :, at] - whole[:, :, at]) / factor[:, at, at, None]
            left[:, :, at:end] -= error[:, :, None] * factor[:, None, at, at:end]
            errors[:, :, at - start] = error
        left[:, :, end:] -= errors @ factor[:, start:end, end:]
    placed = np.empty_like(whole)
    np.put_along_axis(placed, np.broadcast_to(order[:, None, :], whole.shape), whole, 2)
    return placed


def _shape(layer: Layer, wiring: Wiring) -> tuple[int, int]:
    """A layer's number of groups, and how many inputs each of its outputs reads."""
    dims = list(wiring.initializers[layer.weight].dims)
    return layer.groups, int(np.prod(dims) // dims[layer.axis])


def _columns(given: NDArray[Any], layer: Layer, wiring: Wiring) -> NDArray[np.float32]:
    """What the weights meet: float32 (groups, places, k)."""
    if layer.kind == "matmul":
        return given.reshape(1, -1, given.shape[-1])
    kernel = tuple(wiring.initializers[layer.weight].dims[2:])
    axes = tuple(range(2, given.ndim))
    half = len(kernel)
    around = [(0, 0), (0, 0), *((layer.pads[i], layer.pads[i + half]) for i in range(half))]
    padded = np.pad(given, around)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, layer.dilations, strict=True))
    windows: NDArray[Any] = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps: list[Any] = [slice(None, None, s) for s in (1, 1, *layer.strides, *layer.dilations)]
    windows = windows[tuple(steps)]
    batch, channels = given.shape[:2]
    places = windows.shape[2 : 2 + half]
    picked = np.unravel_index(np.unique(np.linspace(0, np.prod(places) - 1, _PLACES).astype(np.int64)), places)
    everything: list[Any] = [slice(None), slice(None), *picked]
    chosen = windows[tuple(everything)]  # (b, c, places, *kernel)
    chosen = chosen.reshape(batch, layer.groups, channels // layer.groups, -1, *kernel)
    moved = np.moveaxis(chosen, (1, 0, 3), (0, 1, 2))
    return np.ascontiguousarray(moved).reshape(layer.groups, batch * chosen.shape[3], -1)
