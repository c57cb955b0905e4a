"""Items go for good: found everywhere, taken out place by place, and proved to be gone.

The order makes a run that was cut short repeatable: what follows from an item (previews, what runs kept, predictions)
goes before the rows that tell of it, and of a table the new version is there before the old files go.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.heads import opening
from featstore.records import JobState, Manifest, ModelCard, PurgedTable, PurgeReport, PurgeScan, SourceRecord
from featstore.storage import documents, locks
from featstore.tables import RejectsTable
from featstore.tables.log import DeltaLog
from featstore.upkeep import leftovers
from featstore.upkeep.purge import files, heads, tables, vocabulary
from featstore.upkeep.purge.ids import Wanted
from featstore.upkeep.purge.places import File
from featstore.upkeep.purge.places import of as place_of
from featstore.upkeep.purge.scan import Survey, cut_from, own_rows, survey

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["held", "purge"]

# Files whose rows are simply left out.
_ROWS = ("scan", "membership", "split")

_DOCUMENTS = (
    *("source", "published state", "migration", "migration report", "fine-tuning", "history record", "head"),
    *(
        "split record",
        "open run",
        "run record",
        "job",
        "model reference",
        "map between models",
        "bridge",
        "checked files",
    ),
)

_SHOWN = 10


def purge(layout: Layout, ids: Collection[str], *, names: Sequence[str] | None, dry_run: bool) -> PurgeReport:
    """Removes items for good from everything that a store holds, and proves it by reading all of it.

    Args:
        layout: The store.
        ids: The items.
        names: Only from the tables of these names and what belongs to them; from everything by default.
        dry_run: Only find them, and say what would go and break.

    Raises:
        UsageError: There are no ids.
        NotFoundError: There is no table of a name.
        LockedError: A run is going on; nothing was changed.
        IntegrityError: A file is damaged, or still holds an id at the end: the message names it.
        StorageError: The disk refused; run it again, and it goes on.
    """
    started = time.monotonic()
    if not ids or not all(ids):
        raise UsageError("there are no ids to remove, or one of them is empty.", hint="One item_id a line.")
    known = _names(layout)
    for name in names or ():
        if name not in known:
            raise NotFoundError(f"there is no table '{name}' (tables: {', '.join(known) or 'none yet'}).")
    with held(layout, known if names is None else names, f"purge of {len(ids):,} items"):
        keep = _within(layout, names)
        asked = _wanted(layout, ids)
        cut = cut_from(layout, asked, keep)
        wanted = _wanted(layout, {*ids, *cut})
        before = survey(layout, wanted, keep)
        work = _Work(layout, wanted, before, keep, dry_run)
        done = work.tables()
        after = None
        if not dry_run:
            after = survey(layout, wanted, keep).record()
            if after.hits:
                raise _left(after)
    breaks = work.breaks(done)
    unknown = sorted(item for item in ids if item not in before.seen and not any(c.startswith(f"{item}#") for c in cut))
    return PurgeReport(
        dry_run=dry_run,
        items=len(ids),
        found=len(ids) - len(unknown),
        unknown=tuple(unknown[:_SHOWN]),
        chunks=len(cut),
        tables=tuple(done),
        heads=tuple(work.learned),
        runs=tuple(sorted(work.runs)),
        previews=work.previews,
        before=before.record(),
        after=after,
        breaks=tuple(breaks),
        next=tuple(work.next(done)),
        remaining=tuple(heads.remaining(layout, work.learned)),
        warnings=tuple(work.warnings),
        seconds=round(time.monotonic() - started, 3),
    )


@contextmanager
def held(layout: Layout, names: Sequence[str], purpose: str) -> Iterator[None]:
    """Holds every lock under which anybody writes to some tables, or to what belongs to them.

    Raises:
        LockedError: Somebody does.
    """
    with ExitStack() as stack:

        def hold(path: str) -> None:
            stack.enter_context(locks.hold(layout.storage, path, purpose=purpose))

        for path in layout.storage.files(layout.job()):
            if path.endswith(".json"):
                state = documents.read(layout.storage, path, JobState)
                if state.table in names:
                    hold(layout.job_lock(state.job))
        for name in sorted(names):
            hold(layout.lock(name))
            for space_id in layout.storage.folders(f"features/{name}"):
                hold(layout.index_lock(name, space_id))
        for head in layout.storage.folders(layout.heads()):
            hold(layout.head_lock(head))
        yield


class _Work:
    """The places of a store, one after the other."""

    def __init__(
        self, layout: Layout, wanted: Wanted, before: Survey, keep: Callable[[File], bool], dry_run: bool
    ) -> None:
        self.layout, self.wanted, self.before, self.keep, self.dry_run = layout, wanted, before, keep, dry_run
        self.stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-purge-{secrets.token_hex(3)}"
        self.warnings: list[str] = []
        self.previews = 0
        self.runs: set[str] = set()
        self._broken: list[str] = []
        predictions = [found.file.path for found in before.of("head predictions")]
        self.learned = heads.learned(layout, wanted, predictions)
        self._sources()

    def tables(self) -> list[PurgedTable]:
        """Takes the items out of everything; the tables come last."""
        self._previews()
        self._runs()
        self._pages()
        self._small()
        for name in {found.file.name for found in self.before.of("rejects")}:
            self._rejects(name)
        owners = {
            (found.file.name, found.file.space_id) for found in self.before.of("table", "history", "index") if found
        }
        # Also those that an earlier attempt has left half done.
        folders = (file for file in map(place_of, self.layout.storage.files("features")) if file is not None)
        there = {(file.name, file.space_id) for file in folders if file.space_id and self.keep(file)}
        done = [self._table(*owner) for owner in sorted(owners | {o for o in there if self._unfinished(*o)})]
        if not self.dry_run:
            for found in self.before.of("table log", "history log", "rejects log"):
                if self.layout.storage.exists(found.file.path):
                    files.log(self.layout, self.wanted, found)
        return done

    def breaks(self, done: Sequence[PurgedTable]) -> list[str]:
        """What no longer works afterwards, in sentences."""
        said = []
        for table in done:
            where = f"{table.name}@{table.space_id}"
            if table.unreadable:
                said.append(f"{where}: versions {_several(table.unreadable)} cannot be read any more")
            if table.indexes:
                said.append(
                    f"{where}: the indexes of versions {_several(table.indexes)} held the items and go; search "
                    "compares with every vector until one is made again"
                )
        return [*said, *self._broken]

    def next(self, done: Sequence[PurgedTable]) -> list[str]:
        """The commands that one would go on with."""
        indexes = [f"featstore index {table.name}@{table.space_id}" for table in done if table.indexes]
        newest: dict[str, int] = {}
        for head in self.learned:
            newest[head.head] = max(newest.get(head.head, 0), head.version)
        return [*indexes, *(head.again for head in self.learned if head.version == newest[head.head])]

    def _previews(self) -> None:
        data = [
            (file.name, file.path)
            for file in map(place_of, self.layout.storage.files())
            if file is not None
            and file.place.kind in ("table", "history")
            and self.before.contents.get(file.name)
            and self.keep(file)
        ]
        own = files.own_contents(self.layout, self.wanted, self.before.contents, data)
        for name, contents in sorted(own.items()):
            self.previews += files.previews(self.layout, name, contents, dry_run=self.dry_run)

    def _runs(self) -> None:
        self.runs = {found.file.name for found in self.before.of("run")}
        for found in self.before.of("table"):
            match = found.file.path.split("/_runs/")
            if len(match) == 2 and not self._committed(found.file, match[1].split("/")[0]):
                self.runs.add(match[1].split("/")[0])
        for run_id in sorted(self.runs):
            if self.layout.storage.exists(self.layout.commit(run_id)):
                self._broken.append(f"run {run_id}, which was kept to be published, cannot be published any more")
            if not self.dry_run:
                files.end_run(self.layout, run_id)
                self._staged(run_id)

    def _staged(self, run_id: str) -> None:
        """Removes what a run has embedded, where it was never committed."""
        manifest = documents.find(self.layout.storage, self.layout.manifest(run_id), Manifest)
        if manifest is None:
            return
        log = DeltaLog(self.layout.storage, self.layout.table(manifest.name, manifest.space_id))
        if log.committed(run_id) is None:
            folder = self.layout.run_files(manifest.name, manifest.space_id, run_id)
            self.layout.storage.delete_folder(folder)

    def _pages(self) -> None:
        """Removes pages that may show the items: a picture stands there under an id that is short, or cut short."""
        storage = self.layout.storage
        for name in sorted({found.file.name for found in self.before.of("table", "history")}):
            folders = (self.layout.migration_report(name, "").rstrip("/"), self.layout.finetunes(name))
            there = [path for folder in folders for path in storage.files(folder)]
            for path in (path for path in there if path.endswith(".html")):
                self._broken.append(f"{path} shows items of '{name}' and goes; what it says in figures stays")
                if not self.dry_run:
                    beside = path.rpartition("/")[0]
                    for record in (one for one in there if one.startswith(f"{beside}/") and one.endswith(".json")):
                        files.without_page(self.layout, record)
                    storage.delete(path)

    def _small(self) -> None:
        if self.dry_run:
            return
        storage = self.layout.storage
        for found in self.before.of("unfinished write", "page"):
            storage.delete(found.file.path)
        for found in self.before.of(*_ROWS):
            files.rows(self.layout, self.wanted, found.file.path)
        heads.clean(self.layout, self.wanted, {found.file.path for found in self.before.of("head predictions")})
        for found in self.before.of(*_DOCUMENTS):
            if storage.exists(found.file.path):
                files.document(self.layout, self.wanted, found)

    def _rejects(self, name: str) -> None:
        def change(rows: pa.Table) -> pa.Table:
            kept = rows.filter(pa.array(~own_rows(self.wanted, rows)))
            said = kept["message"].to_pylist()
            among = self.wanted.candidates("\n".join(text or "" for text in said).encode())
            plain = [text and self.wanted.without(text, among) for text in said]
            if plain == said:
                return kept
            at = kept.schema.get_field_index("message")
            return kept.set_column(at, kept.schema.field(at), pa.array(plain, pa.string()))

        folder = self.layout.rejects(name)
        spoilt = [
            found.file.path.removeprefix(f"{folder}/") for found in self.before.of("rejects") if found.file.name == name
        ]
        RejectsTable.rewrite(self.layout, name, change, run_id=self.stamp, spoilt=spoilt, dry_run=self.dry_run)

    def _table(self, name: str, space_id: str) -> PurgedTable:
        layout, dry_run = self.layout, self.dry_run
        dirty, kept = self._dirty("table", name, space_id), self._dirty("history", name, space_id)
        history = tables.commit_history(layout, name, space_id, self.wanted, kept, run_id=self.stamp, dry_run=dry_run)
        if not dry_run:
            tables.forget(layout, layout.history(name, space_id), kept)
        log = DeltaLog(layout.storage, layout.table(name, space_id))
        indexes = sorted(
            {
                int(found.file.version)
                for found in self.before.of("index")
                if (found.file.name, found.file.space_id) == (name, space_id) and found.file.version.isdigit()
            }
        )
        rows, version, unreadable = 0, None, []
        if log.exists():
            rows, version = tables.commit(
                layout, name, space_id, self.wanted, dirty, run_id=self.stamp, dry_run=dry_run
            )
            unreadable = tables.Past(log).holding(dirty)
            lost, unread = tables.carry(layout, name, space_id, dirty, indexes, dry_run=dry_run)
            for state in lost:
                self._broken.append(
                    f"'{name}' cannot go back to version {state.table_version}, published {state.published_ts}"
                )
            for card in unread:
                self._broken.append(
                    f"head {card.head}:{card.version} was trained on version {card.table_version} of '{name}', which "
                    "cannot be read any more; it predicts as before"
                )
        for number in indexes:
            if not dry_run:
                folder = layout.index(name, space_id, number)
                layout.storage.delete(f"{folder}/card.json")  # without it the index is not there
                layout.storage.delete_folder(folder)
        if not dry_run:
            tables.forget(layout, layout.table(name, space_id), dirty)
        return PurgedTable(
            name=name,
            space_id=space_id,
            rows=rows,
            history_rows=history,
            version=version,
            published_version=_published(layout, name, space_id),
            unreadable=tuple(unreadable),
            indexes=tuple(indexes),
        )

    def _dirty(self, kind: str, name: str, space_id: str) -> set[str]:
        layout = self.layout
        folder = layout.table(name, space_id) if kind == "table" else layout.history(name, space_id)
        paths = (found.file.path for found in self.before.of(kind))
        return {path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/")}

    def _unfinished(self, name: str, space_id: str) -> bool:
        """Whether an earlier attempt has not brought a table back to its newest rows yet, or its names up to them."""
        log = DeltaLog(self.layout.storage, self.layout.table(name, space_id))
        if not log.exists():
            return False
        past = tables.Past(log)
        wanted = [
            card.table_version
            for card in opening.cards(self.layout, all_versions=True, broken=lambda _: None)
            if (card.table, card.space_id) == (name, space_id)
        ]
        serving = _published(self.layout, name, space_id)
        wanted += [] if serving is None else [serving]
        return past.pending is not None or any(past.after(version) != version for version in wanted)

    def _committed(self, file: File, run_id: str) -> bool:
        return DeltaLog(self.layout.storage, self.layout.table(file.name, file.space_id)).committed(run_id) is not None

    def _sources(self) -> None:
        held: dict[str, int] = {}
        for found in self.before.of("scan"):
            held[found.file.name] = max(held.get(found.file.name, 0), found.hits)
        for name, count in sorted(held.items()):
            self.warnings.append(
                f"the last scan of the source of '{name}' has {count:,} of the items: remove them there first, or the "
                "next extract brings them back"
            )
        self.warnings += [
            f"column {column}: {count:,} rows of other items name a removed one; the source says so, not featstore"
            for column, count in sorted(self.before.mentions.items())
        ]
        self.warnings += [
            f"{path} has the words of an id: they came with the model, which is left as it is"
            for path in self.before.models
        ]
        self.warnings += [
            f"{space_id} was fine-tuned on items of '{name}', perhaps removed ones too: its weights stay as they "
            "are; fine-tune again and move the tables to be rid of it"
            for space_id, name in self._taught()
        ]
        for path in self.before.strange:
            self.warnings.append(f"{path} is not of featstore; it was searched all the same")

    def _taught(self) -> list[tuple[str, str]]:
        """The models that were fine-tuned on tables that the items were found in, and those tables."""
        names = {found.file.name for found in self.before.of("table", "history", "split")}
        paths = [path for path in self.layout.storage.files("models") if path.endswith("/card.json")]
        cards = [documents.read(self.layout.storage, path, ModelCard) for path in paths]
        origins = [(card.space_id, card.finetuning.table) for card in cards if card.finetuning is not None]
        return [(space_id, name) for space_id, name in origins if name in names]


def _wanted(layout: Layout, ids: Collection[str]) -> Wanted:
    """The ids, told from the words that the store uses itself."""
    roots = []
    for path in layout.storage.files("sources"):
        record = documents.read(layout.storage, path, SourceRecord)
        roots += [record.uri, *record.added]
    return Wanted.of(ids, vocabulary=vocabulary.of_store(layout), roots=roots)


def _names(layout: Layout) -> list[str]:
    folders = (
        "features",
        "history",
        "rejects",
        "indexes",
        "previews",
        "cache",
        "members",
        "splits",
        "migrations",
        "finetunes",
    )
    return sorted({name for folder in folders for name in layout.storage.folders(folder)})


def _within(layout: Layout, names: Sequence[str] | None) -> Callable[[File], bool]:
    """Which files belong to some tables."""
    if names is None:
        return lambda file: file.place.kind != "lock"
    mine = set(names)
    runs = {run for owner, ids in leftovers.by_table(layout).items() if owner and owner[0] in mine for run in ids}
    made = {card.head for card in opening.cards(layout, all_versions=True, broken=lambda _: None) if card.table in mine}
    jobs = set()
    for path in layout.storage.files(layout.job()):
        if path.endswith(".json") and documents.read(layout.storage, path, JobState).table in mine:
            jobs.add(path.rpartition("/")[2].removesuffix(".json"))
    shelves = {"run": runs, "run record": runs, "head": made, "head predictions": made, "weights of a head": made}
    shelves["job"] = jobs
    return lambda file: file.name in shelves.get(file.place.kind, mine)


def _published(layout: Layout, name: str, space_id: str) -> int | None:
    from featstore import published

    found = published.find(layout, name)
    return found.state.table_version if found is not None and found.state.space_id == space_id else None


def _several(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _left(after: PurgeScan) -> IntegrityError:
    named = ", ".join(after.files_found[:5])
    return IntegrityError(
        f"{after.hits:,} files still hold ids that were to be removed: {named}.",
        hint="Look at what they are: a file that featstore did not write is for you to remove. Then run it again.",
        context={"files": list(after.files_found)},
    )
