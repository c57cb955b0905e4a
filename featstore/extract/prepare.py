"""What a run looks at before it does anything: the source as it is, the table as it is, what differs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featstore.errors import FeatstoreError
from featstore.extract import chunk_rows, chunks, members, opening, sampling
from featstore.extract.plan import SCAN_COLUMNS, Plan, Staged, make
from featstore.extract.portion import Portion
from featstore.extract.progress import Reporter
from featstore.layout import Layout
from featstore.records import ModelCard, SourceRecord
from featstore.settings import ExtractSettings
from featstore.sources import Scan, Source
from featstore.sources.table import touched
from featstore.storage import documents, frames
from featstore.tables import FeatureTable, RejectsTable

__all__ = ["Preparation", "implausible", "new_run_id"]

# A shard is what a killed run loses at most; each costs one file and one receipt.
_SHARD_ITEMS = {"image": 4096, "text": 16_384}
_SHARD_BYTES = 1 << 30

# Too large a share of the table leaves only when asked to; but so few items may be any share.
_REMOVAL_ITEMS = 10


@dataclass
class Preparation:
    """The parts of one run, and its reading of source and table.

    Attributes:
        until: Items of a later time are left alone; None takes all.
        portion: Which of what could be embedded is.
        later: Their ids, from ``scan`` on.
        warnings: Gathered on the way, for the result.
        previous: The items of the last scan, from ``scan`` to ``put_away``; None where they are not known.
        whole: All items of this scan, from ``scan`` to ``put_away``, also where a sample is taken of them.
        seen: What the next ``scan`` gives, where the source has been looked at already.
    """

    layout: Layout
    settings: ExtractSettings
    reporter: Reporter
    name: str
    source: Source
    record: SourceRecord
    card: ModelCard | None
    until: datetime | None = None
    portion: Portion = field(default_factory=Portion)
    later: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    previous: pa.Table | None = None
    whole: pa.Table | None = None
    seen: Scan | None = None
    _new: bool = False

    @property
    def _caches(self) -> tuple[str, str]:
        """Where the last scan of this source is kept, and this one while the run goes on."""
        key = opening.source_key(self.source, self.settings, chunks.cutting(self.card, self.settings))
        return self.layout.scan_cache(self.name, key), self.layout.next_scan_cache(self.name, key)

    @property
    def first_beside(self) -> bool:
        """Whether the table had one source until now, and this run puts another one beside it."""
        before = documents.find(self.layout.storage, self.layout.source(self.name), SourceRecord)
        return bool(self.record.added) and before is not None and not before.added

    def members(self, uri: str | None = None) -> list[str] | None:
        """The ids that a source, by default this one, has put into a table of several; None where that is not known."""
        if self.card is None or not self.record.added:
            return None
        return members.known(self.layout, self.name, self.card.space_id, uri or self.source.uri)

    def warn(self, text: str) -> None:
        """Tells whoever is watching, and the result."""
        self.warnings = (*self.warnings, text)
        self.reporter.warning(text)

    def table(self) -> FeatureTable:
        """The table at its newest version; it may not exist yet."""
        assert self.card is not None
        return FeatureTable.staging(self.layout, self.name, self.card.space_id, self.card.dim)

    def retyped(self, scan: Scan, table: FeatureTable) -> FeatureTable:
        """The table, rewritten if a column of the source has another type than it had."""
        if table.version is not None and table.retype(_rows(scan), run_id=f"{new_run_id()}-retype") is not None:
            return self.table()
        return table

    def touched(self) -> bool:
        """Whether a look tells that the source has something new: there is no table, or its file was written anew.

        False wherever only a scan can tell.
        """
        storage, cache = self.layout.storage, self._caches[0]
        if self.card is not None and not storage.exists(self.layout.table(self.name, self.card.space_id)):
            return True
        if self.settings.rehash or not storage.exists(cache):
            return False
        try:
            return touched(self.source.uri, frames.read(storage, cache, ["size"]))
        except FeatstoreError:
            return False

    def scan(self) -> Scan:
        """Lists the source, with what the last scan found as a help."""
        if self.seen is not None:
            scan, self.seen = self.seen, None
            return scan
        previous, cache = None, self._caches[0]
        if self.layout.storage.exists(cache):
            try:
                previous = frames.read(self.layout.storage, cache)
            except FeatstoreError as error:
                self.warn(f"the cache of the last scan is not used: {error.message}")
        self.reporter.stage("scanning")
        scan = self.source.scan(
            previous=previous, rehash=self.settings.rehash, limit=self.settings.limit, progress=self.reporter.at
        )
        self.previous, self.whole = previous, scan.items
        if self.settings.sample is not None:
            scan = sampling.sample(scan, self.settings.sample)
        if self.until is not None:
            scan = self._not_after(scan, self.until)
        for warning in scan.warnings:
            self.warn(warning)
        return scan

    def _not_after(self, scan: Scan, until: datetime) -> Scan:
        """The scan without what is later than it is to look."""
        items = scan.items
        if "event_ts" not in items.column_names or (items.num_rows and items["event_ts"].null_count == items.num_rows):
            self.warn("no item has a time (is a time column named?): all are taken, whatever time is taken for now")
            return scan
        after: Any = pc.greater(items["event_ts"], pa.scalar(until, pa.timestamp("us", tz="UTC")))
        mask: Any = pc.fill_null(after, False)
        self.later = frames.strings(items.filter(mask), "item_id")
        if self.later:
            self.reporter.message(f"left for later runs: {len(self.later):,} of a time after {until.isoformat()}")
        return replace(scan, items=items.filter(pc.invert(mask)))

    def put_away(self, scan: Scan) -> Scan:
        """Leaves the items of a scan on disk, so that memory is free of them while the model works.

        Returns:
            The scan without them, but for the ids where a table of several sources is to note them.
        """
        whole, previous = self.whole, self.previous
        self._new = (
            self.settings.limit is None and whole is not None and (previous is None or not previous.equals(whole))
        )
        if self._new and whole is not None:
            frames.write(self.layout.storage, self._caches[1], whole)
        self.previous = self.whole = None
        if not self.record.added:
            return replace(scan, items=scan.items.schema.empty_table())
        later = pa.table({"item_id": pa.array(self.later, pa.string())})  # may be in the table all the same
        return replace(scan, items=pa.concat_tables([scan.items.select(["item_id"]), later]))

    def remember(self) -> None:
        """Makes the scan that was put away the last one, which the next run starts from."""
        if self._new:
            waiting, cache = self._caches[1], self._caches[0]
            self.layout.storage.move(waiting, cache)
            self._new = False

    def plan(self, scan: Scan, table: FeatureTable | None, staged: Sequence[Staged]) -> Plan:
        """Compares the scan with the table; without one (a rehearsal of a new model) with nothing."""
        stored = None
        if table is None:
            metadata = scan.items.drop_columns(list(SCAN_COLUMNS))
        else:
            own = ["item_id", "content_sha256", "created_ts", "run_id"]
            metadata = table.align(_rows(scan), retype=self.settings.retype).drop_columns(own)
            if table.version is not None:
                stored = table.rows()
        if stored is not None:
            self._check_owners(scan, stored)
        held = [*(reject.item_id for reject in scan.rejects), *self.later]
        if scan.unreachable and stored is not None:
            held += [i for i in frames.strings(stored, "item_id") if i.startswith(scan.unreachable)]
        refused = _nothing_refused()
        if self.card is not None and not self.settings.retry_rejects:
            refused = _lasting(RejectsTable.read(self.layout, self.name, self.card.space_id))
        modality = self.record.modality
        return make(
            scan.items,
            stored,
            metadata=metadata,
            rejected=refused,
            staged=staged,
            removable=self._removable(),
            held=held,
            portion=self.portion,
            settings=self.settings,
            shard_items=self.settings.shard_items or _SHARD_ITEMS[modality],
            shard_bytes=_SHARD_BYTES,
            binding={
                "space": self.card.space_id if self.card else "",
                "version": table.version if table else None,
                "source": self.source.uri,
                "batch_size": self.settings.batch_size,
                "token_budget": self.settings.token_budget,
                "keep_text": self.settings.keep_text,
            },
        )

    def _check_owners(self, scan: Scan, stored: pa.Table) -> None:
        """Refuses ids that another source of the table uses."""
        others = []
        for uri in sorted({self.record.uri, *self.record.added} - {self.source.uri}):
            theirs = self.members(uri)
            if theirs is None and self.first_beside:
                theirs = frames.strings(stored, "item_id")
            others.append((uri, None if theirs is None else pa.array(theirs, pa.string())))
        members.check(self.name, self.source.uri, scan.items["item_id"], others)

    def _removable(self) -> list[str] | None:
        """Which ids may leave: none of a limited or sampled run; in a table of several sources, only this one's."""
        if self.settings.limit is not None or self.settings.sample is not None:
            return []
        if not self.record.added:
            return None
        if self.first_beside:
            return []
        if (known := self.members()) is not None:
            return known
        if self.previous is None:
            self.warn("the table has several sources and this one's last scan is not known: nothing is removed")
            return []
        return frames.strings(self.previous, "item_id")


def implausible(preparation: Preparation, scan: Scan, plan: Plan, table: FeatureTable | None) -> str | None:
    """Why so many items cannot really have gone; None where the run may go on.

    A source that has shrunk a lot is more likely unmounted, half synchronised or wrong than meant. Chunks
    count as the texts that they are of: a text that was shortened, or is cut in another way, has not gone.
    """
    removed = plan.counts.removed
    if not removed or preparation.settings.allow_removals or table is None:
        return None
    there = preparation.members()  # of several sources, each is held to what is its own
    stored, missing, what = len(table if there is None else there), plan.removed, "items"
    if preparation.settings.chunk_tokens is not None:
        missing, what = chunk_rows.gone(plan.removed, scan.items), "texts"
        removed = len(missing)
        there = frames.strings(table.rows(["item_id"]), "item_id") if there is None else there
        stored = len({chunk_rows.parent_of(item) for item in there})
    allowed = preparation.settings.max_removed_share
    there_is_some = bool(scan.items.num_rows or preparation.later)
    if there_is_some and (removed <= _REMOVAL_ITEMS or removed <= allowed * stored):
        return None
    why = "its source is empty" if not there_is_some else f"more than {allowed:.0%}"
    named = ", ".join(missing[:3]) + (", …" if removed > 3 else "")
    return f"{removed:,} of {stored:,} {what} would leave '{preparation.name}': {why}. Missing now: {named}"


def new_run_id() -> str:
    """A run's name: the time, so that names sort, and a few random digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _rows(scan: Scan) -> pa.Table:
    """The scan as rows for a table to align; the run's own columns are filled in later."""
    rows = scan.items.drop_columns([c for c in SCAN_COLUMNS if c not in ("item_id", "content_sha256")])
    now = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    rows = rows.append_column("created_ts", pa.repeat(now, rows.num_rows))
    return rows.append_column("run_id", pa.repeat("", rows.num_rows))


def _lasting(rejects: pa.Table) -> pa.Table:
    """Refusals that say something of the content; one that says how it was read that day is tried again."""
    passing: Any = pc.or_(
        pc.equal(rejects["stage"], pa.scalar("read")), pc.equal(rejects["code"], pa.scalar("out_of_memory"))
    )
    return rejects.filter(pc.invert(passing))


def _nothing_refused() -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in ("item_id", "content_sha256", "code")})
