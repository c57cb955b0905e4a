"""Previews are found by content hash in whatever pack they lie, and a damaged pack is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

import featstore
from featstore.errors import IntegrityError
from featstore.extract import previews
from featstore.layout import Layout
from featstore.storage import frames


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = featstore.open(tmp_path / "store").layout
    for pack, names in {"a": range(40), "b": range(40, 41), "c": range(41, 300)}.items():
        previews.keep(layout, "table", pack, {digest(str(name)): f"text {name}".encode() for name in names})
    previews.keep(layout, "table", "empty", {})
    return layout


def test_each_content_has_its_own(layout: Layout) -> None:
    wanted = {digest(str(name)): f"text {name}".encode() for name in (299, 0, 40, 41, 39, 41)}
    assert previews.find(layout, "table", wanted) == wanted
    every = {digest(str(name)): f"text {name}".encode() for name in range(300)}
    assert previews.find(layout, "table", every) == every
    assert previews.known(layout, "table") == set(every)


def test_what_has_none_is_absent(layout: Layout) -> None:
    low, high = "0" * 64, "f" * 64
    assert previews.find(layout, "table", [low, high, digest("300"), "", "ä", digest("7")]) == {digest("7"): b"text 7"}
    assert previews.find(layout, "table", []) == {}
    assert previews.find(layout, "other", [digest("7")]) == {}


def test_a_pack_with_other_values_is_damaged(layout: Layout) -> None:
    rows = pa.table({"content_sha256": ["0" * 63], "preview": pa.array([b"x"], pa.binary())})
    frames.write(layout.storage, layout.previews("table", "d.parquet"), rows)
    with pytest.raises(IntegrityError, match=r"d\.parquet is damaged"):
        previews.find(layout, "table", [digest("7")])
