"""Pixels to a network's input size, as torchvision's reference transforms do it, and previews.

Source: torchvision.transforms.v2.functional ``resize`` (antialias) and ``center_crop``; with
``resize_mode="shortest"`` the longer side is cut to an integer, not rounded.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.records import ImagePreprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THUMBNAIL", "fit", "reduction", "thumbnail"]

THUMBNAIL = 128
"""Longest side of a preview, in pixels."""

_QUALITY = 80

# How much larger than what the resize aims at a picture that the decoder has reduced must still be. At 1 the
# first percentile of the cosine with exact decoding suffers; at 2, six megapixels are reduced by half only, not to a
# quarter, and the decoder has more to do.
_LEFT = 1.5
_FILTERS = {"bilinear": ("bilinear", 1), "bicubic": ("catmull_rom", 2), "lanczos": ("lanczos3", 3)}  # name, radius
_thread = threading.local()  # a resizer keeps scratch memory: one for each thread


def fit(rgb: NDArray[np.uint8], how: ImagePreprocessing) -> NDArray[np.uint8]:
    """Resizes a picture and takes its centre; a picture smaller than the crop is padded with black.

    Only the part that the crop keeps is computed, to the same pixels.

    Args:
        rgb: Pixels, shape (height, width, 3).
        how: Size, filter and crop.

    Returns:
        Pixels, shape (crop height, crop width, 3), contiguous.
    """
    height, width = _resized(rgb.shape[0], rgb.shape[1], how)
    crop_height, crop_width = how.crop
    down = how.crop_offset == "down"
    top, rows, above = _centre(height, crop_height, down=down)
    left, columns, before = _centre(width, crop_width, down=down)
    kept = _resize(rgb, (height, width), (top, left, rows, columns), how.interpolation)
    if (rows, columns) == (crop_height, crop_width):
        return kept
    padded = np.zeros((crop_height, crop_width, 3), np.uint8)
    padded[above : above + rows, before : before + columns] = kept
    return padded


def reduction(height: int, width: int, how: ImagePreprocessing) -> int:
    """By what a decoder that can reduce may divide a picture's sides before ``fit``: 1, 2, 4 or 8.

    Each side keeps at least 1.5 times the length that it is resized to; 1 where the card wants exact decoding.

    Args:
        height: The picture's, in pixels, upright.
        width: Likewise.
        how: The card's preprocessing.
    """
    if how.decode != "fast":
        return 1
    rows, columns = _resized(height, width, how)
    room = min(height / rows, width / columns) / _LEFT
    return next((step for step in (8, 4, 2) if step <= room), 1)


def thumbnail(rgb: NDArray[np.uint8]) -> bytes:
    """A JPEG of at most 128 pixels a side, without any metadata.

    Args:
        rgb: Pixels, shape (height, width, 3).
    """
    import simplejpeg

    step = max(1, max(rgb.shape[:2]) // (4 * THUMBNAIL))  # nobody sees the pixels left out at a quarter of the size
    rgb = rgb[::step, ::step]
    height, width = rgb.shape[:2]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = rgb if size == (height, width) else _resize(rgb, size, (0, 0, *size), "bilinear")
    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=_QUALITY, colorsubsampling="420")
    return data


def _resized(height: int, width: int, how: ImagePreprocessing) -> tuple[int, int]:
    if how.resize_mode == "exact":
        return how.resize
    shortest = how.resize[0]
    if height <= width:
        return shortest, int(shortest * width / height)
    return int(shortest * height / width), shortest


def _centre(length: int, crop: int, *, down: bool) -> tuple[int, int, int]:
    """Offset and length of what a centre crop keeps, and how much padding goes before it."""
    if length >= crop:
        return (length - crop) // 2 if down else round((length - crop) / 2.0), crop, 0
    return 0, length, (crop - length) // 2


def _resize(
    rgb: NDArray[np.uint8], size: tuple[int, int], part: tuple[int, int, int, int], interpolation: str
) -> NDArray[np.uint8]:
    """Computes ``part`` (top, left, height, width) of the picture resized to ``size`` (height, width).

    Rows first, then columns, rounded to bytes in between, as Pillow and torchvision do it: the
    other order costs ten times the distance to them (mean cosine of the vectors 0.99988).
    """
    top, left, rows, columns = part
    if rgb.shape[:2] == size:
        return np.ascontiguousarray(rgb[top : top + rows, left : left + columns])
    name, radius = _FILTERS[interpolation]
    first_row, row_count, y, high = _reach(top, rows, rgb.shape[0] / size[0], rgb.shape[0], radius)
    first_column, column_count, x, wide = _reach(left, columns, rgb.shape[1] / size[1], rgb.shape[1], radius)
    needed = rgb[first_row : first_row + row_count, first_column : first_column + column_count]
    source = _image(column_count, row_count, needed.tobytes())
    narrow = _convolve(source, (columns, row_count), (x, 0.0, wide, float(row_count)), name)
    small = _convolve(narrow, (columns, rows), (0.0, y, float(columns), high), name)
    return np.frombuffer(small.get_buffer(), np.uint8).reshape(rows, columns, 3)


def _reach(start: int, length: int, scale: float, full: int, radius: int) -> tuple[int, int, float, float]:
    """Which source pixels a stretch of the result depends on.

    Returns:
        The first pixel, how many there are, and where among them the stretch begins and how long it is.
    """
    begin = start * scale
    extent = min(length * scale, full - begin)
    margin = radius * max(scale, 1.0) + 2
    first = max(0, int(begin - margin))
    count = min(full, int(begin + extent + margin) + 1) - first
    begin -= first
    return first, count, begin, min(extent, count - begin)


def _convolve(source: Any, size: tuple[int, int], box: tuple[float, float, float, float], name: str) -> Any:
    import cykooz_resizer as cykooz

    if not hasattr(_thread, "resizer"):
        _thread.resizer = cykooz.Resizer()
    target = _image(*size)
    how = cykooz.ResizeAlg.convolution(cykooz.FilterType[name])
    _thread.resizer.resize(source, target, cykooz.ResizeOptions(how, crop_box=cykooz.CropBox(*box)))
    return target


def _image(width: int, height: int, pixels: bytes | None = None) -> Any:
    import cykooz_resizer as cykooz

    return cykooz.ImageData(width, height, cykooz.PixelType.U8x3, pixels)
