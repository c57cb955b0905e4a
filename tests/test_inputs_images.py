"""Decoding pictures: what each kind becomes, and what is refused before it can do harm."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featstore.errors import ItemError
from featstore.inputs import images


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    """A smooth picture with a different colour in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y * 255 // height, x * 255 // width, (y + x) * 255 // (height + width)], axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def code_of(content: bytes) -> str:
    with pytest.raises(ItemError) as caught:
        images.decode(content)
    assert caught.value.stage == "decode"
    return caught.value.code


def as_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}])
@pytest.mark.parametrize("size", [(90, 120), (1, 1), (7, 13), (17, 33)])
def test_a_jpeg_decodes_to_the_pixels_pillow_gives(options: dict[str, Any], size: tuple[int, int]) -> None:
    content = saved(Image.fromarray(picture(*size)), "JPEG", **options)
    assert np.array_equal(images.decode(content), as_pillow(content))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_allowed_format_is_read_by_content(kind: str) -> None:
    content = saved(Image.fromarray(picture()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = images.decode(content)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, as_pillow(content))


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_refused(kind: str, fraction: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    assert code_of(content[: int(len(content) * fraction)]) in {"truncated_image", "broken_image"}


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.95])
def test_a_truncated_jpeg_is_named_so_even_when_an_end_marker_hides_it(fraction: float) -> None:
    content = saved(Image.fromarray(picture(300, 400)), "JPEG", quality=90)
    cut = content[: int(len(content) * fraction)]
    assert code_of(cut) == "truncated_image"
    assert code_of(cut + b"\xff\xd9") == "truncated_image"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"just a text", "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unsupported_format"),
        (b"8BPS\0\1" + b"\0" * 60, "unsupported_format"),
        (b"%PDF-1.7\n", "unsupported_format"),
        (b"SIMPLE  =                    T", "unsupported_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n", "broken_image"),
        (b"\xff\xd8\xff", "broken_image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "broken_image"),
    ],
)
def test_what_is_no_picture_is_refused_without_another_decoder(content: bytes, code: str) -> None:
    found = code_of(content)
    assert found == code or (code == "broken_image" and found == "truncated_image")


def gif_header(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0xF0, 0, 0)
        + b"\0" * 6
        + b",\0\0\0\0"
        + struct.pack("<HHBB", width, height, 0, 2)
        + b"\0;"
    )


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, height), (279, 4)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + b"\0" * 100


def webp_header(width: int, height: int) -> bytes:
    body = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body


@pytest.mark.parametrize(
    "content",
    [
        png_header(50_000, 50_000),
        png_header(12_000, 12_000, zlib.compress(b"\0" * (36_001 * 200), 9)),
        gif_header(60_000, 60_000),
        tiff_header(60_000, 60_000),
        webp_header(16_000, 16_000),
    ],
    ids=["png-2500MP", "png-144MP", "gif", "tiff", "webp"],
)
def test_a_decompression_bomb_is_refused_by_its_header(content: bytes) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    assert code_of(content) == "too_many_pixels"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 1
    assert peak < 20_000_000


def test_the_limit_is_the_callers_and_inclusive() -> None:
    content = saved(Image.fromarray(picture(10, 20)), "PNG")
    assert images.decode(content, pixel_limit=200).shape == (10, 20, 3)
    with pytest.raises(ItemError, match="20 × 10 pixels; at most 199"):
        images.decode(content, pixel_limit=199)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientations_show_one_picture(kind: str) -> None:
    upright = Image.fromarray(picture())
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # tag → the Image.Transpose that the camera did
    wanted = picture().astype(int)
    for orientation in range(1, 9):
        turned = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        pixels = images.decode(saved(turned, kind, exif=exif, **options))
        assert pixels.shape == wanted.shape, orientation
        assert np.abs(pixels - wanted).mean() < 2, orientation


def test_a_damaged_exif_block_does_not_spoil_the_picture() -> None:
    content = saved(Image.fromarray(picture()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert images.decode(content).shape == (90, 120, 3)


def test_alpha_is_composed_over_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0], pixels[:2, :, 3], pixels[2, :, 3] = 200, 0, 255
    pixels[3, :, 3] = 128
    decoded = images.decode(saved(Image.fromarray(pixels), "PNG"))
    assert (decoded[:2] == 255).all()
    assert (decoded[2] == (200, 0, 0)).all()
    assert np.abs(decoded[3].astype(int) - (227, 127, 127)).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P", "PA", "RGB", "L"])
def test_every_kind_of_transparency_ends_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    image.paste((10, 10, 10, 0), (0, 0, 8, 4))
    if mode == "LA":
        content = saved(image.convert("LA"), "PNG")
    elif mode in ("P", "PA"):
        content = saved(image, "GIF")
    else:
        opaque = Image.new(mode, (8, 8))
        opaque.paste(10 if mode == "L" else (10, 10, 10), (0, 0, 8, 4))
        content = saved(opaque, "PNG", transparency=10 if mode == "L" else (10, 10, 10))
    decoded = images.decode(content)
    assert (decoded[:4] == 255).all()
    assert (decoded[4:] == 0).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    wide = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    decoded = images.decode(saved(Image.fromarray(wide), kind))
    assert decoded[0, 0].tolist() == [0, 0, 0]
    assert decoded[0, -1].tolist() == [255, 255, 255]
    assert abs(float(decoded.mean()) - 127.5) < 1


def test_one_bit_gray_and_cmyk_become_rgb() -> None:
    bits = Image.fromarray(picture()).convert("1")
    assert set(np.unique(images.decode(saved(bits, "PNG")))) == {0, 255}
    gray = images.decode(saved(Image.fromarray(picture()).convert("L"), "JPEG"))
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (gray[..., 1] == gray[..., 2]).all()
    cmyk = images.decode(saved(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk - picture().astype(int)).mean() < 3


@pytest.mark.parametrize(("mode", "code"), [("F", "float_image"), ("I", "unsupported_depth")])
def test_numbers_of_unknown_range_are_refused(mode: str, code: str) -> None:
    assert code_of(saved(Image.new(mode, (5, 5)), "TIFF")) == code


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(kind: str) -> None:
    first, second = Image.new("RGB", (6, 6), (250, 0, 0)), Image.new("RGB", (6, 6), (0, 250, 0))
    decoded = images.decode(saved(first, kind, save_all=True, append_images=[second]))
    assert np.abs(decoded.astype(int) - (250, 0, 0)).max() < 6


def test_bytes_at_random_are_refused_with_a_name() -> None:
    random = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        content = saved(Image.fromarray(picture(40, 40)), kind)
        for _ in range(60):
            broken = bytearray(content)
            for place in random.integers(0, len(broken), 6):
                broken[place] = random.integers(0, 256)
            with contextlib.suppress(ItemError):  # any other exception fails the test
                assert images.decode(bytes(broken), pixel_limit=4_000_000).shape[2] == 3


def test_a_thumbnail_is_small_and_carries_nothing_else() -> None:
    for height, width in ((1200, 900), (50, 40), (1, 10_000), (1, 1)):
        data = images.thumbnail(picture(height, width))
        opened = Image.open(io.BytesIO(data))
        assert opened.format == "JPEG"
        assert max(opened.size) <= 128
        assert not opened.getexif()
        assert opened.size[0] >= 1
    small = np.asarray(Image.open(io.BytesIO(images.thumbnail(picture(1200, 900)))), int)
    assert np.abs(small - picture(*small.shape[:2])).mean() < 8
