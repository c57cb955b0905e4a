"""A torch network becomes one ONNX file."""

from __future__ import annotations

from typing import Any

from featstore.errors import UsageError
from featstore.models import graphs, quiet
from featstore.models.original import Original

__all__ = ["OUTPUT", "to_onnx"]

OUTPUT = "vector"
"""The output's name; ``embedding`` would clash with a node of BERT, GPT-2 and CLIP."""


def to_onnx(original: Original) -> bytes:
    """Exports a network with a dynamic batch (and length, for texts) to one file's bytes.

    Raises:
        UsageError: torch cannot export the network.
        IntegrityError: What it exported is no valid graph.
    """
    import torch

    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    names: list[str]
    shapes: tuple[Any, ...]
    if original.image is not None:
        generator = torch.Generator().manual_seed(0)
        example: tuple[torch.Tensor, ...] = (
            torch.randint(0, 256, (2, *original.image.crop, 3), dtype=torch.uint8, generator=generator),
        )
        names, shapes = ["image"], ({0: batch},)
    else:
        assert original.text is not None
        length = torch.export.Dim("length", min=1, max=original.text.max_length)
        ids = torch.arange(2 * 7, dtype=torch.int64).view(2, 7) % int(original.config.get("vocab_size", 14))
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        example = (ids, mask)
        names, shapes = list(original.text.inputs), ({0: batch, 1: length}, {0: batch, 1: length})
    try:
        with torch.no_grad(), quiet.libraries():
            program = torch.onnx.export(
                original.graph.eval(),
                example,
                dynamo=True,
                external_data=False,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None
            return graphs.clean(program.model_proto)
    except (torch.onnx.errors.OnnxExporterError, torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"torch cannot export {original.model} to ONNX: {first[:300]}") from error
