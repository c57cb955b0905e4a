"""``--dim N``: the first values of a vector, brought to length 1 again, inside the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.models.original import Original

if TYPE_CHECKING:
    import torch

__all__ = ["check", "cut"]


def check(model: str, dim: int, wanted: int | None) -> None:
    """Refuses ``--dim`` above what a model gives.

    Raises:
        UsageError: ``wanted`` is larger than ``dim``.
    """
    if wanted is not None and wanted > dim:
        raise UsageError(
            f"--dim {wanted}: {model} gives {dim} values; a vector can only be cut to fewer.",
            hint=f"Give 1 to {dim}. Cutting serves models trained for it (Matryoshka).",
        )


def cut(original: Original, wanted: int | None) -> Original:
    """Cuts a model's vectors to their first values and brings them to length 1.

    Source: Kusupati et al., Matryoshka Representation Learning (2022): the first m values, normalised,
    are themselves a representation of models trained for it.

    Args:
        original: The loaded model.
        wanted: How many values to keep; None changes nothing.

    Raises:
        UsageError: The model gives fewer.
    """
    import torch

    if wanted is None:
        return original
    inner = original.graph
    with torch.inference_mode():
        dim = int(inner(*_example(original)).shape[1])
    check(original.model, dim, wanted)
    if wanted == dim and original.normalize:
        return original

    def shortened(vector: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vector[:, :wanted], p=2.0, dim=1)

    class CutImage(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return shortened(self.inner(image))

    class CutText(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return shortened(self.inner(input_ids, attention_mask))

    return replace(
        original,
        graph=(CutText() if original.text is not None else CutImage()).eval(),
        layer=f"{original.layer} > first {wanted} > normalize",
        normalize=True,
        slug=f"{original.slug}-{wanted}d",
        joint_id=None if original.joint_id is None else f"{original.joint_id}-{wanted}d",
    )


def _example(original: Original) -> tuple[torch.Tensor, ...]:
    import torch

    if original.image is not None:
        return (torch.zeros(1, *original.image.crop, 3, dtype=torch.uint8),)
    return torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)
