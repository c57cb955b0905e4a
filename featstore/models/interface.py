"""What an own graph takes and gives, read from the graph and its card together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import matryoshka
from featstore.models.catalog import ModelOptions
from featstore.models.wrapping import LEAST_OPSET, Layout, Shape, Wrapping
from featstore.records import OwnCard

if TYPE_CHECKING:
    import onnx

__all__ = ["Value", "inputs_of", "outputs_of", "understand"]

_ROLES = ("input_ids", "attention_mask", "token_type_ids")
_FLOAT, _UINT8, _INT32, _INT64 = 1, 2, 6, 7  # onnx.TensorProto's numbers


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output: its name, element type and sizes, None where a size is open."""

    name: str
    kind: int
    sizes: tuple[int | None, ...]

    def __str__(self) -> str:
        names = {1: "float", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "double"}
        sizes = ", ".join("?" if size is None else str(size) for size in self.sizes)
        return f"{self.name}: {names.get(self.kind, f'type {self.kind}')} ({sizes})"


def inputs_of(model: onnx.ModelProto) -> list[Value]:
    """What must be given to a graph; old files list their weights among the inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_value(value) for value in model.graph.input if value.name not in weights]


def outputs_of(model: onnx.ModelProto) -> list[Value]:
    """What a graph gives; shapes that the file leaves out are inferred where that is possible."""
    found = [_value(value) for value in model.graph.output]
    if all(v.sizes and v.sizes[-1] is not None for v in found):
        return found
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, ValueError):  # a card may still say the size
        return found
    return [_value(value) for value in model.graph.output]


def understand(model: onnx.ModelProto, card: OwnCard, options: ModelOptions, *, name: str) -> Wrapping:
    """How a graph becomes one of ours.

    Args:
        model: The graph, as ``graphs.parse`` let it through.
        card: What the person who wrote it says.
        options: What the user changes.
        name: How to call the file in messages.

    Raises:
        UsageError: Graph, card and options do not fit together, or the graph is not one that featstore can run.
    """
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < LEAST_OPSET:
        raise UsageError(
            f"{name} is written in operator set {opset}; featstore takes {LEAST_OPSET} and newer.",
            hint="Export it anew: torch.onnx.export(…, opset_version=18)",
        )
    if options.layer is not None:
        raise UsageError(f"--layer: {name} has outputs, not layers; name one of them in its card as 'output'.")
    inputs, output = inputs_of(model), _output(model, card, name)
    shape: Shape = "vectors" if len(output.sizes) == 2 else "tokens"
    values = output.sizes[-1] or card.dim
    if values is None:
        raise UsageError(f"{name} does not say how many values {output} has; say it in its card as 'dim'.")
    if card.dim not in (None, values):
        raise UsageError(f"{name} gives {values} values; its card says {card.dim}.")
    matryoshka.check(name, values, options.dim)
    dim = options.dim or values
    cut = options.dim is not None and not (dim == values and card.normalize)
    pooling = _pooling(card, options, shape, output, name)
    if card.modality == "image":
        image = _image(inputs, card, name)
        return Wrapping(output=output.name, shape=shape, pooling=pooling, values=values, dim=dim, cut=cut, **image)
    roles = _roles(inputs, card, name)
    return Wrapping(inputs=roles, output=output.name, shape=shape, pooling=pooling, values=values, dim=dim, cut=cut)


def _image(inputs: list[Value], card: OwnCard, name: str) -> dict[str, Any]:
    """What a wrapping says of images."""
    assert card.image is not None
    image = card.image
    if len(inputs) != 1:
        raise UsageError(f"{name} has {len(inputs)} inputs, an image model one: {_listed(inputs)}.")
    (given,) = inputs
    layout: Layout | None = None
    if len(given.sizes) == 4:
        if given.kind == _UINT8 and given.sizes[3] == 3:
            layout = "uint8 NHWC"
        elif given.kind == _FLOAT and given.sizes[1] == 3:
            layout = "float NCHW"
        elif given.kind == _FLOAT and given.sizes[3] == 3:
            layout = "float NHWC"
    if layout is None:
        raise UsageError(
            f"{name} takes {given}; featstore gives uint8 (batch, height, width, 3), "
            "float (batch, 3, height, width) or float (batch, height, width, 3)."
        )
    _open_batch(given, name)
    stated = given.sizes[2:] if layout == "float NCHW" else given.sizes[1:3]
    height, width = image.crop or stated
    if height is None or width is None:
        raise UsageError(f'{name} takes pictures of any size; say one in its card: "crop": [height, width].')
    if any(size not in (None, wanted) for size, wanted in zip(stated, (height, width), strict=True)):
        raise UsageError(f"{name} takes {given}; its card says crop {height} x {width}.")
    if layout == "uint8 NHWC" and (image.mean is not None or image.std is not None):
        raise UsageError(f"{name} takes uint8 and normalises by itself; its card must not say mean and std.")
    if layout != "uint8 NHWC" and (image.mean is None or image.std is None):
        raise UsageError(
            f"{name} takes {given}; its card must say mean and std, on the 0–1 scale.",
            hint='A network that takes plain 0–1 values has "mean": [0, 0, 0], "std": [1, 1, 1].',
        )
    size = (height, width)
    return {"inputs": {"image": given.name}, "layout": layout, "size": size, "mean": image.mean, "std": image.std}


def _roles(inputs: list[Value], card: OwnCard, name: str) -> dict[str, str]:
    assert card.text is not None
    named = {card.text.inputs.get(role, role): role for role in _ROLES}  # type: ignore[call-overload]
    found = {named[value.name]: value.name for value in inputs if value.name in named}
    wrong = [value for value in inputs if value.name not in named]
    if wrong or "input_ids" not in found:
        raise UsageError(
            f"{name} takes {_listed(inputs)}; featstore gives input_ids, attention_mask and token_type_ids.",
            hint='Say in its card which is which: "inputs": {"input_ids": "NAME", "attention_mask": "NAME"}',
        )
    for value in inputs:
        if value.kind not in (_INT32, _INT64) or len(value.sizes) != 2:
            raise UsageError(f"{name} takes {value}; featstore gives int64 or int32 (batch, length).")
        _open_batch(value, name)
        if value.sizes[1] is not None:
            raise UsageError(
                f"{name} takes texts of exactly {value.sizes[1]} tokens.", hint="Export it with a dynamic length."
            )
    return found


def _output(model: onnx.ModelProto, card: OwnCard, name: str) -> Value:
    found = outputs_of(model)
    chosen = [value for value in found if card.output in (None, value.name)]
    if len(chosen) != 1:
        what = f"no output '{card.output}'" if card.output else f"{len(found)} outputs"
        raise UsageError(f"{name} has {what}: {_listed(found)}.", hint="Name one in its card as 'output'.")
    if chosen[0].kind != _FLOAT or len(chosen[0].sizes) not in (2, 3):
        raise UsageError(
            f"{name} gives {chosen[0]}; featstore takes float (batch, values) or float (batch, tokens, values)."
        )
    _open_batch(chosen[0], name)
    return chosen[0]


def _pooling(card: OwnCard, options: ModelOptions, shape: Shape, output: Value, name: str) -> str:
    if shape == "vectors":
        if options.pooling is not None:
            raise UsageError(f"--pooling: {name} gives one vector for each item already: {output}.")
        return card.pooling
    pooling = options.pooling or card.pooling
    if pooling == "none" or (pooling == "last" and card.modality == "image"):
        able = "mean, cls or max" if card.modality == "image" else "mean, cls, last or max"
        raise UsageError(f"{name} gives {output}, a vector for each token; its card must say pooling {able}.")
    return pooling


def _open_batch(value: Value, name: str) -> None:
    if value.sizes[0] is not None:
        raise UsageError(
            f"{name} has a fixed batch of {value.sizes[0]}: {value}.",
            hint="Export it with a dynamic batch: torch.onnx.export(…, dynamic_shapes=…)",
        )


def _value(value: Any) -> Value:
    tensor = value.type.tensor_type
    sizes = tuple(int(d.dim_value) if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Value(value.name, int(tensor.elem_type), sizes)


def _listed(values: list[Value]) -> str:
    return "; ".join(str(value) for value in values) or "nothing"
