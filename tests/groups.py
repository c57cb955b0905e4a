"""Which tests go to one worker: those of a group, as their modules or what they share of a fixture says.

pytest-xdist 3.8 writes a test's group behind its id, and pytest 9.2 takes an id no more from where it writes; so every
worker made everything. Here workers leave the groups in a file of the run, and whoever hands out the tests reads it.
"""

from __future__ import annotations

import functools
import json
import os

import once
import pytest
from xdist.scheduler import LoadGroupScheduling

__all__ = ["Grouped", "tell"]

_FILE = "groups.json"


class Grouped(LoadGroupScheduling):
    """``--dist loadgroup``, by what the workers told."""

    def _split_scope(self, nodeid: str) -> str:
        return self._told.get(nodeid) or str(super()._split_scope(nodeid))

    @functools.cached_property
    def _told(self) -> dict[str, str]:
        """Read once: tests are handed out when all workers have found theirs."""
        found: dict[str, str] = json.loads((once.folder() / _FILE).read_text("utf-8"))
        return found


def tell(items: list[pytest.Item]) -> None:
    """Leaves the groups of these tests for the process that hands them out; every worker says the same."""
    marks = ((item.nodeid, item.get_closest_marker("xdist_group")) for item in items)
    own = once.folder() / f"{_FILE}.{os.getpid()}"
    own.write_text(json.dumps({nodeid: mark.args[0] for nodeid, mark in marks if mark is not None}), "utf-8")
    own.replace(once.folder() / _FILE)
