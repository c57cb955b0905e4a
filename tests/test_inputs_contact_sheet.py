"""The contact sheet: every picture at its place, nothing else needed to draw it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from featstore.errors import ItemError
from featstore.inputs.contact_sheet import contact_sheet
from featstore.inputs.images import thumbnail

COLOURS = ((200, 0, 0), (0, 160, 0), (0, 0, 220), (120, 120, 0))


def preview(colour: tuple[int, int, int], height: int = 90, width: int = 120) -> bytes:
    return thumbnail(np.full((height, width, 3), colour, np.uint8))


def drawn(rows: list[list[tuple[bytes, str]]], side: int = 96) -> np.ndarray:
    sheet = Image.open(io.BytesIO(contact_sheet(rows, side=side)))
    assert sheet.format == "PNG"
    return np.asarray(sheet.convert("RGB"), np.int16)


def where(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Row and column of a colour's middle, and how many pixels have it."""
    rows, columns = np.nonzero((abs(sheet - np.array(colour)) < 12).all(axis=2))
    return int(rows.mean()), int(columns.mean()), len(rows)


def test_pictures_stand_in_rows_and_columns():
    first, second, third, fourth = (preview(colour) for colour in COLOURS)
    sheet = drawn([[(first, "query"), (second, "0.9\ncat")], [(third, "query"), (fourth, "0.8\ndog")]])
    places = [where(sheet, colour) for colour in COLOURS]
    assert all(6000 < pixels < 96 * 96 for _, _, pixels in places), "a side of 96, in the picture's own shape"
    (y1, x1, _), (y2, x2, _), (y3, x3, _), (y4, x4, _) = places
    assert abs(y1 - y2) <= 1
    assert abs(y3 - y4) <= 1
    assert abs(x1 - x3) <= 1
    assert abs(x2 - x4) <= 1
    assert y3 - y1 > 96
    assert x2 - x1 > 96


def test_a_caption_is_drawn_and_a_long_one_stays_in_its_column():
    bare = drawn([[(preview(COLOURS[0]), " "), (preview(COLOURS[1]), "")]])
    short = drawn([[(preview(COLOURS[0]), "one"), (preview(COLOURS[1]), "")]])
    long = drawn([[(preview(COLOURS[0]), "w" * 500), (preview(COLOURS[1]), "")]])
    assert bare.shape == short.shape == long.shape
    assert (bare != short).any()
    changed = np.nonzero((bare != long).any(axis=(0, 2)))[0]
    assert changed.max() < where(bare, COLOURS[1])[1] - 48


def test_a_missing_preview_leaves_a_gray_field():
    sheet = drawn([[(b"", "gone"), (preview(COLOURS[2]), "here")]])
    assert where(sheet, (235, 235, 235))[2] > 90 * 90


def test_tall_pictures_and_empty_sheets():
    assert drawn([[(preview(COLOURS[0], 500, 3), "tall")]]).shape[0] > 96
    assert drawn([]).size > 0
    assert drawn([[]]).size > 0


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(ItemError):
        contact_sheet([[(b"no picture", "")]])
