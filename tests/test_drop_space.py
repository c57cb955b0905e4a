"""``gc --drop-space``: a table goes in one space for good."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from purge_world import copied, world
from stores import vectors
from test_purge import StoppedError, stop_at

import featstore
from featstore import migrations, published
from featstore.errors import GateError, LockedError, NotFoundError, UsageError
from featstore.records import Migration
from featstore.storage import locks

CHILD = Path(__file__).with_name("purge_world.py")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A used store of two spaces; to be copied."""
    return world(tmp_path_factory.mktemp("drop"))


def spaces(w):
    """The published space, and the other one."""
    return w.store.layout.storage.folders("features/texts")


def left(w, space):
    """The files that name a space in their path, but for models and locks."""
    paths = w.store.layout.storage.files()
    return [p for p in paths if f"/{space}" in p and not p.startswith(("models/", "locks/"))]


def test_a_space_goes_with_all_that_was_made_of_it_but_heads(first, tmp_path):
    w = copied(first, tmp_path)
    here, there = spaces(w)
    before = vectors(w.store.table("texts"))
    size = sum(w.store.layout.storage.stat(path).size for path in left(w, there))
    said = w.store.drop_space(f"texts@{there}", dry_run=True)
    assert left(w, there)
    done = w.store.drop_space(f"texts@{there}")
    assert replace(done, dry_run=True, seconds=0.0) == replace(said, seconds=0.0)
    assert done.bytes >= size
    assert done.rows == 29
    assert done.reject_rows == 1
    assert left(w, there) == []
    assert spaces(w) == [here]
    assert vectors(w.store.table("texts")) == before
    assert w.store.layout.storage.exists(w.store.layout.model_card(there))
    assert [one for one in w.store.verify(sample=0).findings if one.severity == "error"] == []
    with pytest.raises(NotFoundError):
        w.store.drop_space(f"texts@{there}")
    assert len(w.extract(1)) >= 29  # the space can be made again


def test_what_is_published_and_what_moves_is_refused(first, tmp_path):
    w = copied(first, tmp_path)
    here, there = spaces(w)
    with pytest.raises(GateError, match="is published"):
        w.store.drop_space(f"texts@{here}")
    with pytest.raises(UsageError, match="with all its versions"):
        w.store.drop_space("texts")
    with pytest.raises(UsageError):
        w.store.drop_space(f"texts@{there}:0")
    move = Migration(
        name="texts",
        from_space=here,
        to_space=there,
        model={},
        before={},
        status="open",
        opened_ts="2026-01-01T00:00:00+00:00",
        changed_ts="",
    )
    move = migrations.note(w.store.layout, move)
    with pytest.raises(GateError, match="is open") as caught:
        w.store.drop_space(f"texts@{there}")
    assert "--abandon" in str(caught.value.hint)
    migrations.note(w.store.layout, move, status="abandoned")
    with (
        locks.hold(w.store.layout.storage, w.store.layout.lock("texts"), purpose="a test"),
        pytest.raises(LockedError),
    ):
        w.store.drop_space(f"texts@{there}")
    assert left(w, there)
    w.store.drop_space(f"texts@{there}")


def swapped(w):
    """The second space published, the first one gone back to on request."""
    here, there = spaces(w)
    current = published.find(w.store.layout, "texts")
    state = replace(current.state, space_id=there, table_version=0, index_version=0, heads={})
    published.swap(w.store.layout, "texts", state, expected=current)
    return here, there


def test_states_of_the_space_can_no_longer_be_gone_back_to(first, tmp_path):
    w = copied(first, tmp_path)
    here, _ = swapped(w)
    report = w.store.drop_space(f"texts@{here}")
    assert set(report.lost_states) == {0, 1}
    assert set(report.heads) == {"texts-topic:1", "texts-topic:2"}
    assert any("cannot go back" in said for said in report.breaks)
    assert w.store.published("texts").previous == ()
    assert len(report.runs) == 3
    assert left(w, here) == []
    with pytest.raises(NotFoundError):
        w.store.rollback("texts")
    assert w.store.head("texts-topic").card.space_id == here
    assert len(w.store.table("texts")) == 29
    assert w.store.table("texts").search(id="item-005", k=3)["item_id"].len() == 3


def test_gc_keeps_what_an_open_move_needs(first, tmp_path):
    w = copied(first, tmp_path)
    here, there = spaces(w)
    layout = w.store.layout
    layout.storage.write(layout.crossing(there, here, "map-1.safetensors"), b"weights")
    migrations.note(
        layout,
        Migration(
            name="texts",
            from_space=here,
            to_space=there,
            model={},
            before={},
            status="open",
            opened_ts="2026-01-01T00:00:00+00:00",
            changed_ts="",
        ),
    )
    w.extract(1)
    before = vectors(w.store.table(f"texts@{there}"))
    w.store.gc(keep_versions=1, grace_hours=0)
    assert vectors(w.store.table(f"texts@{there}")) == before
    assert layout.storage.exists(layout.crossing(there, here, "map-1.safetensors"))
    assert migrations.opened(layout, "texts") is not None


def interrupt(first, folder, monkeypatch, at):
    w = copied(first, folder)
    here, _ = swapped(w)
    faulty, done = stop_at(monkeypatch, at), False
    try:
        w.store.drop_space(f"texts@{here}")
        done = True
    except StoppedError:
        pass
    monkeypatch.undo()
    store = featstore.open(w.store.path)
    assert len(store.table("texts")) == 29
    if here in store.layout.storage.folders("features/texts") and store.layout.storage.exists(
        f"features/texts/{here}/_delta_log"
    ):
        assert len(store.table(f"texts@{here}").matrix()[0]) == 29, "whole, as long as it is there"
    try:
        store.drop_space(f"texts@{here}")
    except NotFoundError:
        assert done or not left(w, here)
    assert left(w, here) == []
    assert [one for one in store.verify(sample=0).findings if one.severity == "error"] == []
    return not done and len(faulty.calls) >= at


@pytest.mark.parametrize("at", [1, 12, 30])
def test_stopped_and_run_again(first, tmp_path, monkeypatch, at):
    interrupt(first, tmp_path, monkeypatch, at)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_stopped_anywhere_and_run_again(first, tmp_path, monkeypatch):
    at = 1
    while interrupt(first, tmp_path / str(at), monkeypatch, at):
        at += 1
    assert at > 20, "there is much to remove"


@pytest.mark.heavy
@pytest.mark.parametrize("at", [3, 9])
def test_killed_and_run_again(first, tmp_path, at):
    w = copied(first, tmp_path)
    here, _ = swapped(w)
    command = [sys.executable, str(CHILD), str(w.store.path), f"texts@{here}", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == -9, done.stderr
    w.store.drop_space(f"texts@{here}")
    assert left(w, here) == []
