"""Resizing and cropping against torchvision's reference transforms."""

from __future__ import annotations

import threading
from typing import Literal

import numpy as np
import pytest

from featstore.inputs import images
from featstore.records import ImagePreprocessing

Interpolation = Literal["bilinear", "bicubic", "lanczos"]


def how(
    resize: tuple[int, int] = (256, 256),
    crop: tuple[int, int] = (224, 224),
    interpolation: Interpolation = "bilinear",
    mode: Literal["shortest", "exact"] = "shortest",
) -> ImagePreprocessing:
    return ImagePreprocessing(
        resize=resize, resize_mode=mode, interpolation=interpolation, crop=crop, mean=(0, 0, 0), std=(1, 1, 1)
    )


def picture(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(height * 7 + width)
    coarse = random.integers(0, 256, (max(1, height // 6), max(1, width // 6), 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((7, 7, 1), np.uint8))[:height, :width])


def reference(rgb: np.ndarray, wanted: ImagePreprocessing) -> np.ndarray:
    torch = pytest.importorskip("torch")
    from torchvision.transforms import InterpolationMode, v2

    if wanted.interpolation == "lanczos":
        from PIL import Image
        from torchvision.transforms.v2 import functional

        # torchvision resizes by this filter through Pillow only, which takes tall pictures' columns
        # first; on tensors every filter takes the rows first, and so does ours.
        height, width = rgb.shape[:2]
        scale = wanted.resize[0] / min(height, width)
        size = (int(width * scale), int(height * scale))
        rows_first = Image.fromarray(rgb).resize((size[0], height), Image.Resampling.LANCZOS)
        resized = rows_first.resize(size, Image.Resampling.LANCZOS)
        return np.asarray(functional.center_crop(resized, list(wanted.crop)))
    steps = v2.Compose(
        [
            v2.Resize(
                wanted.resize[0] if wanted.resize_mode == "shortest" else list(wanted.resize),
                interpolation=InterpolationMode(wanted.interpolation),
                antialias=True,
            ),
            v2.CenterCrop(list(wanted.crop)),
        ]
    )
    tensor = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    return steps(tensor).numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(375, 500), (500, 375), (224, 224), (256, 300), (100, 80), (901, 333), (40, 1000)])
def test_the_pixels_are_torchvisions(size: tuple[int, int], interpolation: Interpolation) -> None:
    rgb, wanted = picture(*size), how(interpolation=interpolation)
    found = images.fit(rgb, wanted)
    difference = np.abs(found.astype(int) - reference(rgb, wanted))
    assert found.shape == (224, 224, 3)
    assert found.flags.c_contiguous
    assert difference.mean() < 0.02
    assert difference.max() <= 3


@pytest.mark.parametrize("crop", [(64, 64), (63, 65), (80, 60), (64, 90)])
@pytest.mark.parametrize("resize", [64, 65, 71])
def test_offsets_and_padding_round_as_torchvision_does(resize: int, crop: tuple[int, int]) -> None:
    for size in ((77, 131), (131, 77), (64, 65), (65, 64)):
        rgb, wanted = picture(*size), how((resize, resize), crop)
        difference = np.abs(images.fit(rgb, wanted).astype(int) - reference(rgb, wanted))
        assert difference.mean() < 0.05, size
        assert difference.max() <= 2, size


def test_an_exact_size_ignores_the_aspect() -> None:
    rgb, wanted = picture(90, 200), how((224, 200), (224, 200), "bicubic", "exact")
    assert np.abs(images.fit(rgb, wanted).astype(int) - reference(rgb, wanted)).mean() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 3)])
def test_extreme_shapes_have_a_fixed_result(size: tuple[int, int]) -> None:
    rgb = np.full((*size, 3), 77, np.uint8)
    assert (images.fit(rgb, how(interpolation="bicubic")) == 77).all()


def test_the_result_does_not_depend_on_threads_or_on_what_came_before() -> None:
    pictures = [picture(200 + 13 * n, 300 - 7 * n) for n in range(12)]
    alone = [images.fit(rgb, how()) for rgb in pictures]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(5):
            wrong.extend(n for n, rgb in enumerate(pictures) if not np.array_equal(images.fit(rgb, how()), alone[n]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
