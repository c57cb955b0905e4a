"""Maps and tokens of an image network pooled to one vector each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["pooled"]


def pooled(
    body: torch.nn.Module,
    wanted: str | None,
    *,
    shape: tuple[int, ...],
    side: tuple[int, int],
    prefix: int,
    own: str,
    what: str,
) -> tuple[torch.nn.Module, str]:
    """Wraps a network whose output is a map, tokens or already a vector.

    Maps (4-D, the channels first or last) are pooled over their places, tokens (3-D) over the patches:
    the class token and registers in front count only for ``cls``, which is the first of them.

    Args:
        body: float32 (b, 3, h, w) → (b, c, y, x), (b, y, x, c), (b, t, d) or (b, d).
        wanted: ``--pooling``, or None.
        shape: What the body gives for one image.
        side: The input's height and width.
        prefix: How many special tokens the network puts in front of the patches.
        own: What tokens are pooled with when nothing is asked for.
        what: How to call the output in messages.

    Returns:
        The module that gives (b, d), and how it pools: ``mean``, ``max``, ``cls`` or ``none``.

    Raises:
        UsageError: The output cannot be pooled so.
    """
    if len(shape) == 2 and wanted is None:
        return body, "none"
    if len(shape) == 3:
        # Before the class token is put in front, the patches fill the grid by themselves.
        special = prefix if _is_grid(shape[1] - prefix, side) or not _is_grid(shape[1], side) else 0
        mode = wanted or (own if own == "mean" or (own == "cls" and special) else "mean")
        if mode in ("mean", "max") or (mode == "cls" and special):
            return _over_tokens(body, mode, special), mode
        raise UsageError(f"--pooling {mode}: {what} has no class token.", hint="Use --pooling mean or max.")
    places = _places(shape, side)
    if places is not None and wanted in (None, "mean", "max"):
        mode = wanted or "mean"
        return _over_places(body, mode, places), mode
    sizes = "x".join(str(size) for size in shape[1:])
    if wanted is not None and (len(shape) == 2 or places is not None):
        kind = "one vector" if len(shape) == 2 else f"a map of {sizes}"
        raise UsageError(
            f"--pooling {wanted} does not fit: {what} gives {kind}.",
            hint="Leave --pooling out." if len(shape) == 2 else "A map is pooled with --pooling mean or max.",
        )
    raise UsageError(
        f"{what} gives {sizes} for each image, which is neither a map nor tokens nor a vector.",
        hint="Name another --layer, such as a whole block.",
    )


def _is_grid(tokens: int, side: tuple[int, int]) -> bool:
    """Whether tokens fill rows and columns that relate as the input's height and width do."""
    rows = (r for r in range(1, tokens + 1) if tokens % r == 0)
    return any(r * side[1] == (tokens // r) * side[0] for r in rows)


def _places(shape: tuple[int, ...], side: tuple[int, int]) -> tuple[int, int] | None:
    """The two axes of a map that are places: those whose sizes relate as the input's do.

    Where channels first and channels last both fit, it is channels first, as PyTorch has it.
    """
    if len(shape) != 4:
        return None
    for axes in ((2, 3), (1, 2)):
        height, width = (shape[axis] for axis in axes)
        if height * side[1] == width * side[0] and height <= side[0]:
            return axes
    return None


def _over_tokens(body: torch.nn.Module, mode: str, special: int) -> torch.nn.Module:
    import torch

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            tokens: torch.Tensor = self.body(pixels)
            if mode == "cls":
                return tokens[:, 0]
            patches = tokens[:, special:]
            return patches.mean(dim=1) if mode == "mean" else patches.amax(dim=1)

    return Tokens().eval()


def _over_places(body: torch.nn.Module, mode: str, places: tuple[int, int]) -> torch.nn.Module:
    import torch

    class Places(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.body(pixels)
            return found.mean(dim=places) if mode == "mean" else found.amax(dim=places)

    return Places().eval()
