"""Is what is published, or kept to be published, still whole? And which version of a table is which?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featstore import published
from featstore.errors import FeatstoreError, NotFoundError
from featstore.extract import late
from featstore.heads import opening
from featstore.index import files as indexes
from featstore.records import Finding, Manifest, Published, StagedCommit
from featstore.storage import documents, hashing
from featstore.tables import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from featstore.layout import Layout
    from featstore.records import CommitInfo, PublishedState
    from featstore.tables.parts import Problem

__all__ = ["history", "problems", "states", "verify"]

_SUFFIX = ".json"


def verify(layout: Layout) -> list[Finding]:
    """Opens everything that each table's published state names, and what refused runs have kept."""
    findings = []
    for path in (path for path in layout.storage.files("published") if path.endswith(_SUFFIX)):
        try:
            found = documents.read(layout.storage, path, Published)
        except FeatstoreError as error:
            findings.append(Finding(severity="error", code="damaged_document", path=path, message=error.message))
            continue
        if layout.published(found.name) != path:
            message = f"it is what is published of '{found.name}'"
            findings.append(Finding(severity="error", code="misplaced_document", path=path, message=message))
            continue
        findings += _state(layout, path, found.name, found.state, "error", "")
        for state in found.previous:
            findings += _state(layout, path, found.name, state, "warning", "; it cannot be gone back to")
    return [*findings, *_kept(layout)]


def states(layout: Layout, name: str) -> tuple[PublishedState, ...]:
    """What is published of a table and what can be gone back to; nothing where that cannot be read."""
    try:
        found = published.find(layout, name)
    except FeatstoreError:
        return ()
    return () if found is None else (found.state, *found.previous)


def history(layout: Layout, table: FeatureTable) -> list[CommitInfo]:
    """A table's versions, the newest first, each with what became of it: published, previous or taken back."""
    commits = table.history()
    found = published.find(layout, table.name)
    if found is None:
        return commits
    here = [state for state in (found.state, *found.previous) if state.space_id == table.space_id]
    back = {state.table_version for state in here}
    now = found.state.table_version if found.state.space_id == table.space_id else None

    def became(commit: CommitInfo) -> Literal["published", "previous", "taken back"] | None:
        if commit.version == now:
            return "published"
        if commit.version in back:
            return "previous"
        return "taken back" if commit.run_id in found.rolled_back else None

    return [replace(commit, published=became(commit)) for commit in commits]


def problems(layout: Layout, table: FeatureTable) -> list[Problem]:
    """What is wrong with a version, and with the rows of another that is the newest or is published."""
    found = list(table.verify())
    here = [state for state in states(layout, table.name) if state.space_id == table.space_id]
    newest = FeatureTable.open(layout, table.name, table.space_id).version or 0
    wanted = {newest, *(state.table_version for state in here)}
    if table.version not in wanted:
        return found  # an earlier version, named by somebody who wants to know of just that one
    looked = set(table.files)
    for version in sorted(wanted - {table.version}, reverse=True):
        try:
            other = FeatureTable.open(layout, table.name, table.space_id, version)
        except NotFoundError:
            continue  # said of what is published
        found += other.verify(but=looked)
        looked |= set(other.files)
    return list(dict.fromkeys(found))


def _state(
    layout: Layout, path: str, name: str, state: PublishedState, severity: Literal["error", "warning"], but: str
) -> Iterator[Finding]:
    def said(code: str, message: str) -> Finding:
        return Finding(severity=severity, code=code, path=path, message=message + but)

    version = (
        f"version {state.table_version} of '{name}' in the space {state.space_id}, published {state.published_ts},"
    )
    table = None
    try:
        table = FeatureTable.open(layout, name, state.space_id, state.table_version)
        missing = [file for file in table.files if not (table.path / file).exists()]
        if missing:
            yield said("published_version_missing", f"{version} lacks {len(missing)} of its files: {missing[0]}")
    except FeatstoreError as error:
        yield said("published_version_missing", f"{version} cannot be opened: {error.message}")
    for head, number in state.heads.items():
        try:
            card = opening.find_card(layout, f"{head}:{number}")
        except FeatstoreError as error:
            yield said("published_head_missing", f"{version} goes with head {head}:{number}: {error.message}")
            continue
        if card.space_id != state.space_id:
            yield said("published_head_space", f"{version} goes with head {head}:{number} of {card.space_id}")
    if state.index_version is not None:
        yield from _index(layout, path, name, state, table, said)


def _index(
    layout: Layout,
    path: str,
    name: str,
    state: PublishedState,
    table: FeatureTable | None,
    said: Callable[[str, str], Finding],
) -> Iterator[Finding]:
    assert state.index_version is not None
    try:
        card = indexes.find_card(layout, name, state.space_id, state.index_version)
    except FeatstoreError:
        return  # said where indexes are looked at
    again = f"make it again: featstore index {name}"
    if card is None:
        yield said(
            "published_index_missing", f"the index of version {state.index_version} of '{name}' is gone; {again}"
        )
    elif table is not None and state.index_version == state.table_version and card.files != table.file_rows:
        # Search fits it to the version it is asked for: right, but slower to open.
        message = f"the index of version {state.index_version} of '{name}' was made from other files; {again}"
        yield Finding(severity="warning", code="published_index_differs", path=path, message=message)


def _kept(layout: Layout) -> Iterator[Finding]:
    """Whether what refused runs would commit is still what they have written."""
    for path in (path for path in layout.storage.files("runs") if path.endswith("/commit.json")):
        run_id = path.split("/")[1]
        try:
            staged = late.find(layout, run_id)
            manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        except FeatstoreError:
            continue  # said where documents are looked at
        if staged is None or manifest is None or manifest.status != "refused":
            continue
        broken = _broken(layout, staged)
        if broken is not None:
            message = f"run {run_id}, which a gate refused, can no longer be published: {broken}"
            yield Finding(severity="warning", code="damaged_candidate", path=path, message=message)


def _broken(layout: Layout, staged: StagedCommit) -> str | None:
    for file in staged.add:
        where = layout.storage.local(f"{layout.table(staged.name, staged.space_id)}/{file.path}")
        try:
            if hashing.of_file(where) != file.sha256:
                return f"{file.path} is not what it has written"
        except FeatstoreError as error:
            return error.message
    return None
