"""A given file's digest is remembered, and never for another content."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from featstore.errors import NotFoundError
from featstore.storage import hashing


def settled(path: Path) -> None:
    """Waits until the file was written long enough ago to be remembered."""
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.05)


def test_a_given_file_is_read_once_and_again_when_it_was_written_to(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * 1000)
    settled(path)
    first = hashing.of_given(path)
    assert first == hashing.of_file(path)
    read = path.stat().st_atime_ns
    hits = hashing._of_unwritten.cache_info().hits
    assert hashing.of_given(path) == first
    assert hashing._of_unwritten.cache_info().hits == hits + 1
    assert path.stat().st_atime_ns == read

    before = path.stat()
    path.write_bytes(b"b" * 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps its times has them
    for wait in (False, True):
        if wait:
            settled(path)
        assert hashing.of_given(path) == hashing.of_file(path) != first


def test_what_was_just_written_is_read_every_time(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    for content in (b"a", b"b", b"c") * 20:
        path.write_bytes(content)
        assert hashing.of_given(path) == hashing.of_bytes(content)


def test_a_file_that_is_not_there_is_no_riddle(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"weights\.bin does not exist"):
        hashing.of_given(tmp_path / "weights.bin")
