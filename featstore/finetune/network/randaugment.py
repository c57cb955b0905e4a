"""RandAugment: two random changes of one strength.

Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space (2020); the changes
and their strengths are those of torchvision's class of that name, with 31 steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["CHANGES", "changed", "randaugment"]

_HOW_MANY = 2
_STEPS = 30.0

CHANGES = (
    "identity",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_SIGNED = frozenset(CHANGES[1:10])


def randaugment(picture: torch.Tensor, magnitude: int, chance: np.random.Generator, ground: list[int]) -> torch.Tensor:
    """Applies two changes, drawn evenly, each at the same strength and with a random sign where it has one.

    Args:
        picture: uint8 (3, h, w).
        magnitude: 0 to 30.
        chance: What is drawn from.
        ground: The colour of what comes in from outside, 3 values.
    """
    for _ in range(_HOW_MANY):
        name = CHANGES[int(chance.integers(len(CHANGES)))]
        strength = magnitude / _STEPS
        if name in _SIGNED and chance.random() < 0.5:
            strength = -strength
        picture = changed(picture, name, strength, ground)
    return picture


def changed(picture: torch.Tensor, name: str, strength: float, ground: list[int]) -> torch.Tensor:
    """One change, its strength from -1 to 1 of the most that torchvision allows."""
    import math

    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as of

    height, width = picture.shape[-2:]

    def moved(x: int = 0, y: int = 0, shear: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
        # Shears turn about the top left corner, as the reference implementation's do.
        centre = [0, 0] if any(shear) else None
        found: torch.Tensor = of.affine(
            picture, angle=0.0, translate=[x, y], scale=1.0, shear=list(shear), center=centre,
            interpolation=InterpolationMode.BILINEAR, fill=ground,
        )  # fmt: skip
        return found

    slope = math.degrees(math.atan(0.3 * strength))
    found: torch.Tensor
    match name:
        case "shear-x":
            found = moved(shear=(slope, 0.0))
        case "shear-y":
            found = moved(shear=(0.0, slope))
        case "translate-x":
            found = moved(x=int(150.0 / 331.0 * width * strength))
        case "translate-y":
            found = moved(y=int(150.0 / 331.0 * height * strength))
        case "rotate":
            found = of.rotate(picture, 30.0 * strength, interpolation=InterpolationMode.BILINEAR, fill=ground)
        case "brightness":
            found = of.adjust_brightness(picture, 1.0 + 0.9 * strength)
        case "color":
            found = of.adjust_saturation(picture, 1.0 + 0.9 * strength)
        case "contrast":
            found = of.adjust_contrast(picture, 1.0 + 0.9 * strength)
        case "sharpness":
            found = of.adjust_sharpness(picture, 1.0 + 0.9 * strength)
        case "posterize":
            found = of.posterize(picture, 8 - round(4 * strength))
        case "solarize":
            found = of.solarize(picture, 255.0 * (1 - strength))
        case "autocontrast":
            found = of.autocontrast(picture)
        case "equalize":
            found = of.equalize(picture)
        case _:
            found = picture
    return found
