"""Rows of small pictures with captions, drawn into one PNG: what a person needs to judge neighbours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.inputs import images

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = ["contact_sheet"]

_MARGIN = 12
_GAP = 6
_LINE = 13
_FONT_SIZE = 11
_BACKGROUND = (255, 255, 255)
_EMPTY = (235, 235, 235)
_INK = (30, 30, 30)
_FRAME = (200, 60, 20)


def contact_sheet(rows: Sequence[Sequence[tuple[bytes, str]]], *, side: int = 96) -> bytes:
    """Draws rows of pictures; the first of each row is framed and stands apart, as the query.

    Args:
        rows: For each row its cells: a picture's bytes, such as a preview (empty: a gray field), and a
            caption of one or more lines, which is cut where it is wider than the picture.
        side: The longest side of a drawn picture, in pixels.

    Returns:
        A PNG; one with as many rows and columns of cells as were given.

    Raises:
        ItemError: A picture cannot be decoded.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_FONT_SIZE)
    lines = max((len(caption.splitlines()) for row in rows for _, caption in row), default=1)
    columns = max((len(row) for row in rows), default=0)
    step_x, step_y = side + _GAP, side + _LINE * lines + 2 * _GAP
    width = 2 * _MARGIN + columns * step_x + (2 * _GAP if columns > 1 else -_GAP)
    sheet = Image.new("RGB", (max(width, 1), 2 * _MARGIN + max(1, len(rows)) * step_y - _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        for column, (content, caption) in enumerate(row):
            left = _MARGIN + column * step_x + (3 * _GAP if column else 0)
            top = _MARGIN + number * step_y
            small = _picture(content, side)
            x, y = left + (side - small.width) // 2, top + (side - small.height) // 2
            sheet.paste(small, (x, y))
            if column == 0:
                draw.rectangle((x - 3, y - 3, x + small.width + 2, y + small.height + 2), outline=_FRAME, width=2)
            for at, text in enumerate(caption.splitlines()):
                draw.text((left, top + side + _GAP + at * _LINE), _cut(text, side, font), fill=_INK, font=font)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _picture(content: bytes, side: int) -> Image.Image:
    from PIL import Image

    if not content:
        return Image.new("RGB", (side, side), _EMPTY)
    picture = Image.fromarray(images.decode(content))
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _cut(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
