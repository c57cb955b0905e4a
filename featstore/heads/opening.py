"""The heads that a store has: listed, found by ``HEAD[:VERSION]``, and opened for the space they were trained in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from featstore import published
from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, SpaceMismatchError, UsageError
from featstore.heads import keeping
from featstore.heads.head import Head
from featstore.models import load_card
from featstore.records import HeadCard
from featstore.storage import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.layout import Layout

__all__ = ["CARD", "PREDICTIONS", "cards", "find_card", "has_head", "newest_card", "open_head", "standing", "versions"]

CARD = "card.json"
PREDICTIONS = "predictions.parquet"

_ADDRESS = re.compile(r"(?P<name>[^@:/]+)(:(?P<version>\d{1,9}))?")


def open_head(layout: Layout, address: str) -> tuple[HeadCard, Head]:
    """Opens a head by its address; without a version the published one, else the newest.

    Args:
        layout: The store.
        address: ``HEAD[:VERSION]``.

    Raises:
        UsageError: It is no such address.
        NotFoundError: There is no such head or version.
        SpaceMismatchError: The store's model of that space is another than the one it was trained with.
        IntegrityError: The card or the file is damaged.
    """
    card = find_card(layout, address)
    path = layout.head(card.head, card.version, card.head_file.file)
    return card, keeping.read(layout.storage, path, card.head_file, card)


def find_card(layout: Layout, address: str) -> HeadCard:
    """The card of a head by its address; without a version the published one, else the newest.

    Raises:
        UsageError: It is no address of the form ``HEAD[:VERSION]``.
        NotFoundError: There is no such head or version.
        SpaceMismatchError: The store's model of that space is another than the one it was trained with.
        IntegrityError: The card is damaged.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"'{address}' is not a head's address.", hint="Write HEAD or HEAD:VERSION.")
    name, there = match["name"], versions(layout, match["name"])
    if not there and name in layout.storage.folders("features"):
        raise NotFoundError(
            f"there is no head '{name}'; that is a table.",
            hint=f"Train a head on it: featstore train-head {name} --label COLUMN   See: featstore ls heads",
        )
    if not there:
        known = ", ".join(_names(layout)) or "none yet"
        raise NotFoundError(
            f"there is no head '{name}' in {layout.storage.root} (heads: {known}).",
            hint="Train one with: featstore train-head TABLE --label COLUMN",
        )
    version = int(match["version"]) if match["version"] else published.head_version(layout, name) or there[0]
    if version not in there:
        raise NotFoundError(
            f"head '{name}' has no version {version}; it has {', '.join(map(str, sorted(there)))}.",
            hint="featstore ls heads",
        )
    return _card(layout, name, version)


def standing(layout: Layout, name: str, version: int) -> str | None:
    """What a head's bare name means, in words, where it is not this version; None where it is."""
    for one in published.every(layout):
        there = one.state.heads.get(name)
        if there is not None and there != version:
            return f"'{name}' still means version {there}, which is published with '{one.name}'; name {name}:{version}"
    return None


def newest_card(layout: Layout, name: str) -> HeadCard | None:
    """The card of a head's newest version; None where there is no such head.

    Raises:
        SpaceMismatchError: The store's model of that space is another than the one it was trained with.
        IntegrityError: The card is damaged.
    """
    there = versions(layout, name)
    return _card(layout, name, there[0]) if there else None


def has_head(layout: Layout, address: str) -> bool:
    """Whether an address names a head that the store has, at any version."""
    match = _ADDRESS.fullmatch(address)
    return match is not None and bool(versions(layout, match["name"]))


def cards(
    layout: Layout, *, all_versions: bool = False, broken: Callable[[FeatstoreError], None] | None = None
) -> list[HeadCard]:
    """The cards of the newest version of every head, by name; or of every version, the newest first.

    Args:
        layout: The store.
        all_versions: Of every version.
        broken: Told of each that cannot be read, which then hides no other.

    Raises:
        SpaceMismatchError: The store's model of a space is another than the one a head was trained with.
        IntegrityError: A card is damaged.
    """
    found = ((name, versions(layout, name)) for name in _names(layout))
    cards = []
    for name, version in ((name, v) for name, there in found for v in (there if all_versions else there[:1])):
        try:
            cards.append(_card(layout, name, version))
        except (IntegrityError, SpaceMismatchError) as error:
            if broken is None:
                raise
            broken(error)
    return cards


def versions(layout: Layout, name: str) -> list[int]:
    """The versions of a head that are whole, the newest first; one without its card is being made, or never was."""
    if name not in layout.storage.folders(layout.heads()):
        return []
    numbers = [int(folder) for folder in layout.storage.folders(layout.heads(name)) if folder.isdecimal()]
    return sorted((v for v in numbers if layout.storage.exists(layout.head(name, v, CARD))), reverse=True)


def _names(layout: Layout) -> list[str]:
    return [name for name in layout.storage.folders(layout.heads()) if versions(layout, name)]


def _card(layout: Layout, name: str, version: int) -> HeadCard:
    """A card, bound to the folder it lies in and to the model that the store has of its space."""
    path = layout.head(name, version, CARD)
    card = documents.read(layout.storage, path, HeadCard)
    where = layout.storage.local(path)
    if (card.head, card.version) != (name, version):
        raise IntegrityError(f"{where} is the card of {card.head}:{card.version}, not of {name}:{version}.")
    for artefact in (card.head_file, card.predictions):
        if artefact.file != artefact.file.rpartition("/")[2] or artefact.file in ("", ".", ".."):
            raise IntegrityError(f"{where} names a file outside its folder: '{artefact.file}'.")
    if layout.storage.exists(layout.model_card(card.space_id)):
        model = load_card(layout, card.space_id)
        if model.digest != card.space_digest:
            raise SpaceMismatchError(
                f"{where} was trained on another {card.space_id} (digest {card.space_digest[:16]}…) than the model in "
                f"this store ({model.digest[:16]}…).",
                hint="Train it anew: featstore train-head TABLE --label COLUMN",
            )
    return card
