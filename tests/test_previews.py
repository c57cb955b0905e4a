"""Previews are found by content hash in whatever pack they lie, and a damaged pack is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

import featstore
from featstore.errors import IntegrityError, StorageError
from featstore.extract import previews
from featstore.layout import Layout
from featstore.storage import frames
from featstore.upkeep.purge import files


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
    assert previews.among(layout, "table", [*wanted, digest("300"), "", "ä"]) == set(wanted)
    assert previews.among(layout, "other", wanted) == set()


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


@pytest.fixture
def many(tmp_path: Path) -> Layout:
    """Thirty packs of forty, whose hashes lie anywhere."""
    layout = featstore.open(tmp_path / "store").layout
    for pack in range(30):
        texts = {digest(f"{pack}/{at}"): f"text {pack}/{at}".encode() for at in range(40)}
        previews.keep(layout, "table", f"run-{pack:05d}", texts)
    return layout


def wanted(*names: str) -> dict[str, bytes]:
    return {digest(name): f"text {name}".encode() for name in names}


def test_of_many_packs_those_alone_are_read_that_may_hold_it(many: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    some = wanted("3/7", "3/8", "29/39", "0/0")
    assert previews.find(many, "table", some) == some
    assert previews.among(many, "table", [*some, digest("none")]) == set(some)
    read: list[str] = []
    real = frames.digests
    monkeypatch.setattr(frames, "digests", lambda s, path, c: read.append(path) or real(s, path, c))
    assert previews.find(many, "table", [*some, digest("none")]) == some
    assert [path[-13:] for path in read] == ["00000.parquet", "00003.parquet", "00029.parquet"]


def test_packs_that_come_change_or_go_are_seen(many: Layout) -> None:
    assert previews.find(many, "table", wanted("3/7")) == wanted("3/7")
    previews.keep(many, "table", "run-00030", wanted("new"))
    assert previews.find(many, "table", wanted("new", "3/7")) == wanted("new", "3/7")
    previews.keep(many, "table", "run-00003", wanted("changed", "3/8"))
    assert previews.find(many, "table", wanted("changed", "3/7", "3/8")) == wanted("changed", "3/8")
    many.storage.delete(many.previews("table", "run-00029.parquet"))
    assert previews.find(many, "table", wanted("29/1", "28/1")) == wanted("28/1")
    for pack in range(40, 60):
        previews.keep(many, "table", f"run-{pack:05d}", wanted(f"late {pack}"))
    late = wanted("late 41", "late 59", "changed", "0/1")
    assert previews.find(many, "table", {**late, **wanted("29/1")}) == late
    assert previews.find(many, "table", late) == late


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b'{"count": 0, "crc32": 0, "packs": [1]}\n', b"\0" * 5000])
def test_a_note_that_is_lost_or_damaged_costs_a_look_and_nothing_else(many: Layout, content: bytes) -> None:
    assert previews.find(many, "table", wanted("7/7")) == wanted("7/7")
    many.storage.write(many.preview_places("table"), content)
    assert previews.find(many, "table", wanted("7/7", "8/8")) == wanted("7/7", "8/8")
    many.storage.delete(many.preview_places("table"))
    assert previews.find(many, "table", wanted("7/7")) == wanted("7/7")
    whole = bytearray(many.storage.read(many.preview_places("table")))
    for at in (5, len(whole) // 2, len(whole) - 1):
        whole[at] ^= 0x40
        many.storage.write(many.preview_places("table"), bytes(whole))
        assert previews.find(many, "table", wanted("7/7")) == wanted("7/7")
        whole[at] ^= 0x40
    many.storage.write(many.preview_places("table"), bytes(whole[:-1]))
    assert previews.find(many, "table", wanted("7/7")) == wanted("7/7")


def test_hashes_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    layout = featstore.open(tmp_path / "store").layout
    alike = {f"{'a' * 16}{at:048x}": str(at).encode() for at in range(20)}
    for at, (content, preview) in enumerate(alike.items()):
        previews.keep(layout, "table", f"p{at}", {content: preview})
    assert previews.find(layout, "table", alike) == alike
    one = f"{'a' * 16}{7:048x}"
    assert previews.find(layout, "table", [one, "a" * 64]) == {one: b"7"}


def test_a_store_that_cannot_be_written_to_answers(many: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(type(many.storage), "write", refuse)
    assert previews.find(many, "table", wanted("3/7")) == wanted("3/7")
    assert not many.storage.exists(many.preview_places("table"))


def test_no_trace_of_a_purged_content_is_left_in_the_note(many: Layout) -> None:
    gone = wanted("3/7")
    assert previews.find(many, "table", gone) == gone
    for dry_run in (True, False):
        assert many.storage.exists(many.preview_places("table"))
        assert files.previews(many, "table", list(gone), dry_run=dry_run) == 1
    assert not many.storage.exists(many.preview_places("table"))
    assert previews.find(many, "table", {**gone, **wanted("3/8")}) == wanted("3/8")
