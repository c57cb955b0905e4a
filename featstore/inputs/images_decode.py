"""Bytes of a picture to 8-bit RGB, by fixed rules and within limits set before anything is decoded.

==============================  ===============================================================
what the file holds             what becomes of it
==============================  ===============================================================
RGB, gray, palette              as it stands; gray is repeated in three channels
1-bit                           black and white
alpha or a transparent colour   composed over white
16 bits a channel               scaled to 8 bits (the upper byte), never clipped
CMYK, YCCK                      Pillow's conversion, without a colour profile
several frames or pages         the first one
EXIF orientation                applied
32-bit integers, floats         refused: their range is not known
==============================  ===============================================================

A file is taken for what its first bytes say, whatever its name. Colour profiles are ignored, as the
backbones' own training pipelines did. Where a card asks for fast decoding, libjpeg-turbo gives a large JPEG
at a half, a quarter or an eighth of its size, out of its cosine coefficients; all else stays as it is.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import ItemError
from featstore.inputs.images_fit import reduction

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageFile

    from featstore.records import ImagePreprocessing

__all__ = ["FORMATS", "PIXEL_LIMIT", "decode"]

PIXEL_LIMIT = 128_000_000
"""Pixels of one picture: the largest common photographs (108 megapixels, phones) pass, and one
picture never takes more than about 1 GB while it is decoded."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""The only decoders that untrusted bytes reach; by itself Pillow would hand EPS to Ghostscript."""

_ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)  # orientations that swap height and width
_BITS_PER_SAMPLE = 258


def decode(
    content: bytes, how: ImagePreprocessing | None = None, *, pixel_limit: int = PIXEL_LIMIT
) -> NDArray[np.uint8]:
    """Decodes a picture, completely unless a card lets it be reduced.

    Args:
        content: The file's bytes.
        how: What the pixels are for; with its ``decode="fast"`` a JPEG that is much larger comes reduced.
        pixel_limit: Width × height at most, checked against the header before decoding.

    Returns:
        RGB pixels, shape (height, width, 3), contiguous.

    Raises:
        ItemError: stage ``decode``; code ``empty_file``, ``unsupported_format``, ``too_many_pixels``,
            ``truncated_image``, ``broken_image``, ``float_image``, ``unsupported_depth`` or ``out_of_memory``.
    """
    if not content:
        raise ItemError("decode", "empty_file", "the file is empty.")
    _silence_pillow()
    try:
        picture = _open(content, pixel_limit)
        _check_size(*picture.size, pixel_limit)
        pixels = _jpeg(content, picture, how) if picture.format in ("JPEG", "MPO") else None
        if pixels is None:
            picture.load()
            pixels = np.asarray(_to_rgb(picture))
        return np.ascontiguousarray(_upright(pixels, _orientation(picture)))
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError("decode", "out_of_memory", "there was not enough memory to decode the picture.") from error
    except Exception as error:  # Pillow's plugins raise whatever their parsing ran into
        raise _broken(error) from error


def _open(content: bytes, pixel_limit: int) -> ImageFile.ImageFile:
    """Opens by content. Not ``Image.open``: its own limit cannot be set without changing it for the whole process."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if content.startswith(b"RIFF"):
        _check_size(*_webp_size(content), pixel_limit)  # Pillow makes the canvas on opening
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        accepted = accept(content[:16]) if accept else True
        if accepted and not isinstance(accepted, str):
            return factory(io.BytesIO(content), "")
    raise ItemError(
        "decode", "unsupported_format", f"it begins with {content[:8]!r}, which is none of {', '.join(FORMATS)}."
    )


def _check_size(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise ItemError(
            "decode", "too_many_pixels", f"the picture has {width} × {height} pixels; at most {limit:,} are decoded."
        )


def _webp_size(content: bytes) -> tuple[int, int]:
    """Canvas size from a WebP header; (0, 0) where there is none. Source: RFC 9649, sections 2.5-2.7."""
    kind, body = content[12:16], content[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _jpeg(content: bytes, picture: Image.Image, how: ImagePreprocessing | None) -> NDArray[np.uint8] | None:
    """Decodes with libjpeg-turbo alone: the same pixels as Pillow, faster. None: Pillow must judge.

    Pillow is then told of a reduction, so that it reduces as far.
    """
    import simplejpeg

    width, height = picture.size
    step = 1
    if how is not None and how.decode == "fast":
        step = reduction(*((width, height) if _orientation(picture) in _LYING else (height, width)), how)
    shape = -(-height // step), -(-width // step)
    if picture.mode in ("RGB", "L"):
        try:
            least = {} if step == 1 else {"min_height": shape[0], "min_width": shape[1], "min_factor": step}
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", **least)
        except ValueError as error:
            if "premature end" in str(error).lower():
                # Pillow fills up with gray what is missing before an early end marker.
                raise ItemError("decode", "truncated_image", f"the picture is incomplete: {error}.") from error
        else:
            if pixels.shape[:2] == shape:
                return pixels
    if step > 1:
        picture.draft(picture.mode, (width // step, height // step))
    return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image

    mode = picture.mode
    if mode == "F":
        raise ItemError("decode", "float_image", "the pixels are floating-point numbers, whose range is not known.")
    if mode.startswith("I;16"):
        wide = np.asarray(picture)
        return Image.fromarray((wide >> (_bits(picture) - 8)).astype(np.uint8)).convert("RGB")
    if mode == "I":
        raise ItemError("decode", "unsupported_depth", "the pixels are 32-bit integers, whose range is not known.")
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture if mode == "RGB" else picture.convert("RGB")


def _bits(picture: Image.Image) -> int:
    """Significant bits of a picture that Pillow holds in 16 (a TIFF may have 12)."""
    tags = getattr(picture, "tag_v2", None)
    found = tags.get(_BITS_PER_SAMPLE, (16,)) if tags is not None else (16,)
    return int(found[0]) if found and 8 < int(found[0]) <= 16 else 16


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block does not spoil the picture
        return 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes the camera's rotation. Source: EXIF 2.3, tag 274."""
    if orientation in _LYING:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _broken(error: Exception) -> ItemError:
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ in ("DecompressionBombError", "DecompressionBombWarning"):  # a frame larger than its header
        return ItemError("decode", "too_many_pixels", f"the picture is too large: {text[:200]}")
    truncated = isinstance(error, EOFError) or any(
        sign in text.lower() for sign in ("truncated", "unexpected end", "premature end", "not enough image data")
    )
    if truncated:
        return ItemError("decode", "truncated_image", f"the picture is incomplete: {text[:200]}.")
    return ItemError("decode", "broken_image", f"the picture cannot be decoded: {text[:200]}.")


def _silence_pillow() -> None:
    """Pillow warns of odd metadata in words that name no file; what matters of it is an ``ItemError`` here.

    ``warnings.catch_warnings`` is not safe in threads, so the filter is set once and stays.
    """
    if not any(
        found[0] == "ignore" and getattr(found[3], "pattern", None) == _PILLOW for found in warnings.filters[:8]
    ):
        warnings.filterwarnings("ignore", module=_PILLOW)


_PILLOW = r"PIL\."
