"""From a model's fp32 graph and calibration batches to int8 graphs, the fastest recipe first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import graphs
from featstore.models.quantising import pixels, qdq, rounding, sensitivity, smooth
from featstore.models.quantising.layers import Wiring, find
from featstore.models.quantising.ranges import Observer, Range, spans
from featstore.records import ModelCard

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["Attempt", "Quantiser"]

_PORTIONS = (0.04, 0.08, 0.15, 0.25, 0.4, 0.6)
"""How many of the layers stay in fp32, step by step."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A quantised graph and how it was made.

    Attributes:
        recipe: What was done, shown to people.
        content: A single-file ONNX graph with the inputs and the output of the fp32 one.
    """

    recipe: str
    content: bytes


class Quantiser:
    """Makes int8 graphs of a model, one measured step after the other.

    Args:
        card: Describes the fp32 graph.
        content: The fp32 ``model.onnx``.
        batches: Calibration inputs by name: ``image`` uint8 (b, h, w, 3), or ``input_ids`` and
            ``attention_mask``, int64 (b, t).
        threads: CPU threads to calibrate with.
        progress: Told about slow steps.

    Raises:
        UsageError: Nothing in the graph can be quantised.
    """

    def __init__(
        self,
        card: ModelCard,
        content: bytes,
        batches: Sequence[dict[str, NDArray[Any]]],
        *,
        threads: int = 1,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._card = card
        self._batches = batches
        self._threads = threads
        self._progress = progress
        self._model = graphs.parse(content, name=card.space_id)
        for at, node in enumerate(self._model.graph.node):
            node.name = node.name or f"{node.op_type}_{at}"
        pixels.read_bytes(self._model)
        self._layers = find(self._model.graph, Wiring(self._model.graph))
        if not self._layers:
            raise UsageError(
                f"{card.space_id} has nothing to quantise: no convolution and no product with fixed weights.",
                hint="Use --precision fp32.",
            )

    def attempts(self) -> Iterator[Attempt]:
        """The recipes, fastest first; nothing of a later one is computed before it is asked for.

        All in int8 with the ranges that were seen; for a transformer the same after SmoothQuant; then with
        weights rounded to fit the calibration items, which costs no speed; then with more and more layers
        left in fp32, those first that do the most harm.

        Raises:
            FeatstoreError: The graph cannot be run on the calibration items.
        """
        model, layers = self._model, self._layers
        self._progress("calibrating: ranges")
        ranges = self._spans(model)
        recipe = "qdq per channel, reduced range, min-max"
        yield self._attempt(recipe, qdq.quantised(model, layers, ranges))
        readers = smooth.smoothable(layers)
        if readers:
            self._progress("calibrating: SmoothQuant")
            seen = smooth.peaks(self._observer(model, list(readers)), list(readers))
            model = smooth.smoothed(model, readers, seen)
            ranges = self._spans(model)
            recipe += ", SmoothQuant"
            yield self._attempt(recipe, qdq.quantised(model, layers, ranges))
        self._progress("calibrating: fitting the weights' rounding")
        whole = self._fitted(model)
        recipe += ", fitted rounding"
        yield self._attempt(recipe, qdq.quantised(model, layers, ranges, whole))
        self._progress("calibrating: measuring each layer's harm")
        harms = sensitivity.harm(model, layers, ranges, whole, self._batches, threads=self._threads)
        worst = sorted(layers, key=lambda layer: -harms[layer.name])
        for count in dict.fromkeys(max(1, round(len(worst) * share)) for share in _PORTIONS):
            left = {layer.name for layer in worst[:count]}
            kept = [layer for layer in layers if layer.name not in left]
            if kept:
                content = qdq.quantised(model, kept, ranges, whole)
                yield self._attempt(f"{recipe}, {count} of {len(worst)} layers in fp32", content)

    def _attempt(self, recipe: str, model: onnx.ModelProto) -> Attempt:
        return Attempt(recipe, graphs.clean(model, name="the quantised graph"))

    def _spans(self, model: onnx.ModelProto) -> dict[str, Range]:
        names = qdq.observed(self._layers)
        return spans(self._observer(model, names), names)

    def _fitted(self, model: onnx.ModelProto) -> qdq.Whole:
        """Every layer's weights in whole numbers, rounded to fit what the layer reads."""
        found = {}
        wiring = Wiring(model.graph)
        for portion in rounding.groups(self._layers, wiring):
            seen = rounding.moments(self._observer(model, [layer.input for layer in portion]), portion, wiring)
            for layer in portion:
                values = wiring.array(layer.weight)
                scale = qdq.scales(values, layer.axis)
                correct = layer.kind == "conv"
                rounded, shift = rounding.fitted(values, layer.axis, scale, seen[layer.name], correct=correct)
                found[layer.name] = (rounded, scale, shift)
        return found

    def _observer(self, model: onnx.ModelProto, names: Sequence[str]) -> Observer:
        return Observer(_exposing(model, names), self._batches, self._threads)


def _exposing(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A graph that returns tensors from within it too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    returned = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in dict.fromkeys(names)
        if name not in returned
    )
    content: bytes = copy.SerializeToString()
    return content
