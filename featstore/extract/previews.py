"""Small pictures and text beginnings, kept by content hash, so that looking needs no source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from featstore.storage import frames

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["among", "find", "keep", "known"]


def keep(layout: Layout, name: str, pack: str, previews: dict[str, bytes]) -> None:
    """Writes the previews of one shard as one file; nothing is written for none.

    Args:
        layout: The store.
        name: The table's name; previews are shared by all its spaces.
        pack: The file's stem, unique to the shard.
        previews: JPEG or UTF-8 bytes by content hash.
    """
    import pyarrow as pa

    if previews:
        order = sorted(previews)
        table = pa.table({"content_sha256": order, "preview": pa.array([previews[k] for k in order], pa.binary())})
        frames.write(layout.storage, layout.previews(name, f"{pack}.parquet"), table)


def known(layout: Layout, name: str) -> set[str]:
    """Content hashes that have a preview."""
    found: set[str] = set()
    for path in _packs(layout, name):
        found.update(frames.strings(frames.read(layout.storage, path, ["content_sha256"]), "content_sha256"))
    return found


def among(layout: Layout, name: str, contents: Iterable[str]) -> set[str]:
    """Those of some content hashes that have a preview."""
    return {content for _, held, _ in _places(layout, name, contents) for content in held}


def find(layout: Layout, name: str, contents: Iterable[str]) -> dict[str, bytes]:
    """The previews of some contents; those without one are absent."""
    found: dict[str, bytes] = {}
    for path, held, places in _places(layout, name, contents):
        kept = frames.read(layout.storage, path, ["preview"])["preview"]
        previews = ((content, kept[place].as_py()) for content, place in zip(held, places, strict=True))
        found.update((content, preview) for content, preview in previews if preview is not None)
    return found


def _places(layout: Layout, name: str, contents: Iterable[str]) -> Iterator[tuple[str, list[str], list[int]]]:
    """The packs that hold some of the contents, which ones, and their rows there."""
    import numpy as np

    from featstore.extract import preview_places

    wanted = np.array(sorted({content.encode() for content in contents}), "S64")
    for path in preview_places.likely(layout, name, _packs(layout, name), wanted) if len(wanted) else ():
        # The hashes alone are a hundredth of a pack; they are in order.
        there = frames.digests(layout.storage, path, "content_sha256")
        places = np.searchsorted(there, wanted)
        hits = np.flatnonzero(np.append(there, b"")[places] == wanted)
        if len(hits):
            yield path, [wanted[hit].decode() for hit in hits], places[hits].tolist()


def _packs(layout: Layout, name: str) -> list[str]:
    return [path for path in layout.storage.files(layout.previews(name)) if path.endswith(".parquet")]
