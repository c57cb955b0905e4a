"""Long texts as several items: a source around a source.

Text ``ID`` becomes the items ``ID#0``, ``ID#1``, …, each a stretch of it with the hash of its own content;
their column ``parent`` is ``ID`` and the other columns are the text's. Whoever asks for the items of the
source gets chunks; plan, shards and tables know nothing of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from featstore.encode import workers
from featstore.errors import ItemError, SettingsError
from featstore.extract import chunk_rows
from featstore.extract.chunk_rows import Span
from featstore.inputs import texts
from featstore.inputs.cutting import cut
from featstore.inputs.texts import Tokenizer
from featstore.layout import Layout
from featstore.machine import available_cpus
from featstore.records import Modality, ModelCard, Reject
from featstore.settings import ExtractSettings
from featstore.sources import Progress, Reader, Scan, Source
from featstore.storage import frames, hashing

__all__ = ["check", "cutting", "wrap"]

_LEAST = 8  # tokens of a chunk, as in ExtractSettings
_PIECE = 32  # texts that a thread takes at once
_KEPT_TEXTS, _KEPT_CHARACTERS = 64, 1 << 25  # whole texts that a reader holds on to


def check(settings: ExtractSettings, modality: Modality) -> None:
    """Refuses settings that cannot be met, before a model is opened.

    Raises:
        SettingsError: The model takes images, or the overlap is not less than the chunk.
    """
    tokens, overlap = settings.chunk_tokens, settings.chunk_overlap
    if tokens is None and overlap is None:
        return
    if modality != "text":
        raise SettingsError(f"--chunk-tokens is for texts; the model '{settings.model}' takes images.")
    if tokens is None:
        raise SettingsError("--chunk-overlap needs --chunk-tokens.", hint="Add --chunk-tokens N.")
    if overlap is not None and overlap >= tokens:
        raise SettingsError(
            f"--chunk-overlap {overlap} is not less than --chunk-tokens {tokens}.",
            hint=f"A tenth to a quarter of the chunk is usual, here {max(1, tokens // 8)}.",
        )


def wrap(source: Source, layout: Layout, card: ModelCard, settings: ExtractSettings) -> Source:
    """The source with its texts cut into chunks, or as it is where no chunks are asked for.

    Args:
        source: A source of texts.
        layout: The store, which has the model's tokenizer.
        card: The model.
        settings: ``chunk_tokens`` and ``chunk_overlap``.

    Raises:
        SettingsError: A chunk would have more tokens than the model takes.
    """
    most = settings.chunk_tokens
    if most is None or card.text is None:
        return source
    tokenizer = Tokenizer(layout.storage.local(layout.model(card.space_id, "tokenizer.json")), card.text)
    added = tokenizer.length("")
    if added + most > card.text.max_length:
        prompt = f" and {added - tokenizer.special} those of the prompt" if card.text.prompt_document else ""
        room = card.text.max_length - added
        raise SettingsError(
            f"--chunk-tokens {most} does not fit: {card.model} takes {card.text.max_length} tokens, of which "
            f"{tokenizer.special} are special{prompt}.",
            hint=f"Use at most {room}." if room >= _LEAST else "Use a model that takes longer texts.",
        )
    return _Chunked(source, tokenizer, most, settings.chunk_overlap or 0, settings.workers or available_cpus())


def cutting(card: ModelCard | None, settings: ExtractSettings) -> str | None:
    """Names what chunks depend on beside the settings: tokenizer and prompt; None where no chunks are made."""
    if settings.chunk_tokens is None or card is None or card.text is None or card.tokenizer is None:
        return None
    return hashing.of_json([card.tokenizer.sha256, card.text.prompt_document])


@dataclass(frozen=True)
class _Chunked:
    """A source whose items are chunks of another's.

    What cannot be read or decoded is refused as a whole text. The chunks of a text that cannot be read
    today stay in the table; those of one that is no text any more leave it.
    """

    source: Source
    tokenizer: Tokenizer
    most: int
    overlap: int
    threads: int

    @property
    def uri(self) -> str:
        return self.source.uri

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def modality(self) -> Modality:
        return self.source.modality

    def scan(
        self,
        *,
        previous: pa.Table | None = None,
        rehash: bool = False,
        limit: int | None = None,
        progress: Progress = lambda _stage, _done, _total: None,
    ) -> Scan:
        """Lists the texts and cuts those that are new or changed; ``limit`` counts texts."""
        before = None if previous is None else chunk_rows.parents(previous)
        found = self.source.scan(previous=before, rehash=rehash, limit=limit, progress=progress)
        known = {} if previous is None or rehash else chunk_rows.known(previous)
        spans, errors = self._cut(found.items, known, progress)
        unread = [reject.item_id for reject in found.rejects]
        ids, hashes = frames.strings(found.items, "item_id"), frames.strings(found.items, "content_sha256")
        refused = []
        for row, error in sorted(errors.items()):
            refused.append(
                Reject(
                    item_id=ids[row],
                    content_sha256=hashes[row],
                    stage=error.stage,
                    code=error.code,
                    message=error.message,
                )
            )
            if error.stage == "read":
                unread.append(ids[row])
        return replace(
            found,
            items=chunk_rows.chunks(found.items, spans),
            rejects=(*found.rejects, *refused),
            warnings=(*found.warnings, *_renamed(found.items)),
            unreachable=(*found.unreachable, *(f"{item}#" for item in unread)),
        )

    def reader(self, items: pa.Table) -> Reader:
        """Opens the texts of some chunks."""
        return _ChunkReader(self.source, items)

    def _cut(
        self, items: pa.Table, known: dict[str, list[Span]], progress: Progress
    ) -> tuple[list[Sequence[Span]], dict[int, ItemError]]:
        """The chunks of each text; texts of equal content are read once."""
        hashes = frames.strings(items, "content_sha256")
        first: dict[str, int] = {}
        for row, sha in enumerate(hashes):
            if sha not in known:
                first.setdefault(sha, row)
        new = list(first.values())
        reader = self.source.reader(items.take(pa.array(new, pa.int64())))
        made: dict[str, list[Span]] = {}
        failed: dict[str, ItemError] = {}

        def work(piece: int, _: workers.Clock) -> None:
            for at in range(piece * _PIECE, min(len(new), (piece + 1) * _PIECE)):
                sha = hashes[new[at]]
                try:
                    made[sha] = self._spans(texts.decode(reader.read(at)))
                except ItemError as error:
                    failed[sha] = error
            progress("chunk", len(made) + len(failed), len(new))

        if new:
            workers.run(-(-len(new) // _PIECE), work, threads=self.threads)
        spans: list[Sequence[Span]] = [known.get(sha) or made.get(sha, []) for sha in hashes]
        return spans, {row: failed[sha] for row, sha in enumerate(hashes) if sha in failed}

    def _spans(self, text: str) -> list[Span]:
        found = []
        for first, after in cut(text, self.tokenizer, most=self.most, overlap=self.overlap):
            content = text[first:after].encode()
            found.append(Span(first, after, hashing.of_bytes(content), len(content)))
        return found


def _renamed(items: pa.Table) -> list[str]:
    if chunk_rows.PARENT not in items.column_names:
        return []
    return [f"the column '{chunk_rows.PARENT}' is kept as '{chunk_rows.PARENT}_': that name is the chunks' own"]


class _ChunkReader:
    """Reads chunks out of their texts; holds on to the texts that it read last."""

    def __init__(self, source: Source, items: pa.Table) -> None:
        located = [chunk_rows.located(locator) for locator in frames.strings(items, "locator")]
        names = [chunk_rows.parent_of(item) for item in frames.strings(items, "item_id")]
        first: dict[str, int] = {}
        for row, name in enumerate(names):
            first.setdefault(name, row)
        place = {name: at for at, name in enumerate(first)}
        self._at = [place[name] for name in names]
        self._spans = [(found.first, found.after) for found in located]
        self._hashes = frames.strings(items, "content_sha256")
        self._inner = source.reader(chunk_rows.texts(items, list(first.values())))
        self._texts: OrderedDict[int, str] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, row: int) -> str:
        """Content of the row-th chunk."""
        first, after = self._spans[row]
        chunk = self._whole(self._at[row])[first:after]
        if hashing.of_text(chunk) != self._hashes[row]:
            raise ItemError("read", "changed_during_run", "the text's content changed after it was listed.")
        return chunk

    def _whole(self, at: int) -> str:
        with self._lock:
            if at in self._texts:
                self._texts.move_to_end(at)
                return self._texts[at]
        text = texts.decode(self._inner.read(at))
        with self._lock:
            self._texts[at] = text
            while len(self._texts) > 1 and (
                len(self._texts) > _KEPT_TEXTS or sum(map(len, self._texts.values())) > _KEPT_CHARACTERS
            ):
                self._texts.popitem(last=False)
        return text
