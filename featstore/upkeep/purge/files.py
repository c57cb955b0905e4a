"""Taking items out of the smaller files: scans, memberships, splits, documents, previews, and what runs have left."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featstore.records import Manifest, OpenRun
from featstore.storage import documents, frames
from featstore.upkeep import leftovers
from featstore.upkeep.purge import texts
from featstore.upkeep.purge.scan import Found, own_rows

if TYPE_CHECKING:
    from featstore.layout import Layout
    from featstore.upkeep.purge.ids import Wanted

__all__ = ["document", "end_run", "log", "own_contents", "previews", "rows", "without", "without_page"]


def without(wanted: Wanted, table: pa.Table) -> pa.Table:
    """Rows without those of the ids; what else names one, such as a group called like an item, becomes null."""
    own, words = own_rows(wanted, table), wanted.column_words()
    kept = table.filter(pa.array(~own))
    for at, name in enumerate(kept.column_names):
        if name != "item_id" and pa.types.is_string(kept[name].type):
            named = pc.is_in(kept[name], value_set=words)
            if pc.any(named).as_py():
                gone = pa.scalar(None, pa.string())
                kept = kept.set_column(at, kept.schema.field(name), pc.if_else(named, gone, kept[name]))
    return kept.replace_schema_metadata(table.schema.metadata)


def rows(layout: Layout, wanted: Wanted, path: str) -> None:
    """Writes a file of rows again without the ids."""
    frames.write(layout.storage, path, without(wanted, frames.read(layout.storage, path)))


def document(layout: Layout, wanted: Wanted, found: Found) -> None:
    """Writes a document again without the ids, signed anew."""
    body: dict[str, Any] = json.loads(layout.storage.read(found.file.path).decode("utf-8", "surrogatepass"))
    made = texts.without(wanted, body, found.words)
    page = made.get("html")
    if isinstance(page, str):  # it shows the items that are left out here
        layout.storage.delete(page)
        made["html"] = None
    layout.storage.write(found.file.path, documents.sign(made))


def without_page(layout: Layout, path: str) -> None:
    """Lets a report no longer name its page, signed anew."""
    body: dict[str, Any] = json.loads(layout.storage.read(path).decode("utf-8", "surrogatepass"))
    if isinstance(body.get("html"), str):
        layout.storage.write(path, documents.sign({**body, "html": None}))


def log(layout: Layout, wanted: Wanted, found: Found) -> None:
    """Takes what another engine has noted of the ids out of a Delta log: the least and largest values of columns.

    A checkpoint only sums the commits up, which all stay: it goes.
    """
    path = found.file.path
    if not path.endswith(".json"):
        layout.storage.delete(f"{path.rpartition('/')[0]}/_last_checkpoint")
        layout.storage.delete(path)
        return
    lines = []
    for line in layout.storage.read(path).decode().splitlines():
        action = json.loads(line)
        added = action.get("add")
        if isinstance(added, dict) and added.get("stats"):
            count = json.loads(added["stats"]).get("numRecords")
            if texts.found(wanted, added["stats"], found.words, "stats"):
                added["stats"] = json.dumps({"numRecords": count})
        elif not {"metaData", "protocol"} & set(action) and texts.found(wanted, action, found.words):
            action = texts.without(wanted, action, found.words)
        lines.append(json.dumps(action, separators=(",", ":"), ensure_ascii=False))
    layout.storage.write(path, "\n".join(lines).encode())


def own_contents(
    layout: Layout, wanted: Wanted, contents: dict[str, set[str]], data: Iterable[tuple[str, str]]
) -> dict[str, set[str]]:
    """By table, the contents that no other item has.

    Args:
        layout: The store.
        wanted: The ids.
        contents: By table, the contents that the ids have.
        data: The tables' data files, each behind its table's name.
    """
    own = {name: set(hashes) for name, hashes in contents.items()}
    for name, path in data:
        if not own.get(name):
            continue
        groups = frames.Groups(layout.storage, path)
        columns = [column for column in ("item_id", "parent", "content_sha256") if column in groups.schema.names]
        for group in range(groups.groups):
            table = groups.read(group, columns)
            others = table.filter(pa.array(~own_rows(wanted, table)))
            shared = pc.is_in(others["content_sha256"], value_set=pa.array(sorted(own[name]), pa.string()))
            own[name] -= set(others["content_sha256"].filter(shared).to_pylist())
    return {name: hashes for name, hashes in own.items() if hashes}


def previews(layout: Layout, name: str, contents: Collection[str], *, dry_run: bool) -> int:
    """Removes the previews of some contents.

    Returns:
        How many there were.
    """
    gone = pa.array(sorted(contents), pa.string())
    count = 0
    for path in layout.storage.files(layout.previews(name)):
        if not path.endswith(".parquet"):
            continue
        named = pc.is_in(frames.read(layout.storage, path, ["content_sha256"])["content_sha256"], value_set=gone)
        here = int(np.asarray(named).sum())
        count += here
        if not here or dry_run:
            continue
        layout.storage.delete(layout.preview_places(name))
        kept = frames.read(layout.storage, path).filter(pc.invert(named))
        if kept.num_rows:
            frames.write(layout.storage, path, kept)
        else:
            layout.storage.delete(path)
    return count


def end_run(layout: Layout, run_id: str) -> None:
    """Removes all that a run would go on from; how it went stays on record."""
    manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
    if manifest is not None:
        note = layout.open_run(manifest.name, manifest.space_id)
        opened = documents.find(layout.storage, note, OpenRun)
        if opened is not None and opened.run_id == run_id:
            layout.storage.delete(note)
        if manifest.status in ("running", "failed", "interrupted", "refused"):
            documents.write(layout.storage, layout.manifest(run_id), replace(manifest, status="superseded"))
        layout.storage.delete(layout.commit(run_id))  # first: without it nobody publishes the run
    record = (layout.manifest(run_id), layout.refresh(run_id))
    leftovers.remove(layout, [path for path in layout.storage.files(f"runs/{run_id}") if path not in record])
