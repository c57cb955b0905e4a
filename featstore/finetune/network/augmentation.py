"""What pictures go through while a network is trained; evaluation never sees any of it.

Every draw comes from a generator that is the example's and the epoch's own, so neither threads nor an interruption
change a pixel. torchvision's transforms draw from one generator of the whole process, so only their functions are used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.finetune.network import randaugment
from featstore.inputs import images
from featstore.records import ImagePreprocessing
from featstore.settings import FinetuneSettings

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["augmented", "draws"]

_ASPECT = (3 / 4, 4 / 3)  # of a crop's width to its height
_TRIES = 10


def draws(seed: int, epoch: int, example: int) -> np.random.Generator:
    """The chance of one example in one epoch."""
    return np.random.Generator(np.random.PCG64([seed, 2, epoch, example]))


def augmented(
    rgb: NDArray[np.uint8], how: ImagePreprocessing, settings: FinetuneSettings, chance: np.random.Generator
) -> NDArray[np.uint8]:
    """Crops a picture at random in place of the evaluation's resize and crop, then flips, turns and recolours it.

    Source: the references of torchvision: RandomResizedCrop, flip, then the rest; Cubuk et al., RandAugment (2020).

    Args:
        rgb: A decoded picture, uint8 (height, width, 3).
        how: The network's input size and interpolation.
        settings: ``crop_scale``, ``flip``, ``rotation``, ``color`` and ``randaugment``.
        chance: Of this picture, as ``draws`` gives it.

    Returns:
        uint8 (crop height, crop width, 3), contiguous.
    """
    import torch
    from torchvision.transforms.v2 import functional as of

    if settings.crop_scale < 1:
        top, left, rows, columns = _box(rgb.shape[0], rgb.shape[1], settings.crop_scale, chance)
        whole = torch.from_numpy(np.array(rgb[top : top + rows, left : left + columns]))
        picture = of.resize(
            whole.permute(2, 0, 1), list(how.crop), interpolation=_interpolation(how.interpolation), antialias=True
        )
    else:
        picture = torch.from_numpy(np.array(images.fit(rgb, how))).permute(2, 0, 1)
    if settings.flip and chance.random() < 0.5:
        picture = of.horizontal_flip(picture)
    # What comes in at the corners is the colour that the network takes for nothing.
    ground = [round(255 * mean) for mean in how.mean]
    if settings.rotation:
        picture = _turned(picture, chance.uniform(-settings.rotation, settings.rotation), ground)
    if settings.color:
        picture = _recoloured(picture, settings.color, chance)
    if settings.randaugment:
        picture = randaugment.randaugment(picture, settings.randaugment, chance, ground)
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def _box(height: int, width: int, least: float, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of a random crop, as torchvision's RandomResizedCrop draws it."""
    for _ in range(_TRIES):
        area = height * width * chance.uniform(least, 1.0)
        aspect = math.exp(chance.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            return int(chance.integers(height - rows + 1)), int(chance.integers(width - columns + 1)), rows, columns
    # A very long picture: its centre, as near to the allowed shapes as it can be.
    columns = min(width, round(height * min(max(width / height, _ASPECT[0]), _ASPECT[1])))
    rows = min(height, round(width / min(max(width / height, _ASPECT[0]), _ASPECT[1])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _turned(picture: torch.Tensor, degrees: float, ground: list[int]) -> torch.Tensor:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as of

    turned: torch.Tensor = of.rotate(picture, degrees, interpolation=InterpolationMode.BILINEAR, fill=ground)
    return turned


def _recoloured(picture: torch.Tensor, most: float, chance: np.random.Generator) -> torch.Tensor:
    from torchvision.transforms.v2 import functional as of

    changes = (of.adjust_brightness, of.adjust_contrast, of.adjust_saturation)
    for i in chance.permutation(len(changes)):
        picture = changes[i](picture, chance.uniform(1 - most, 1 + most))
    return picture


def _interpolation(name: str) -> Any:
    from torchvision.transforms.v2 import InterpolationMode

    # Lanczos is Pillow's alone; bicubic is the nearest that tensors have.
    return InterpolationMode.BILINEAR if name == "bilinear" else InterpolationMode.BICUBIC
