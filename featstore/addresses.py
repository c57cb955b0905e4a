"""The address grammar: ``NAME[@MODEL][:VERSION]``, the same wherever a table is named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import NotFoundError, UsageError
from featstore.layout import Layout

if TYPE_CHECKING:
    from featstore.records import Published

__all__ = ["Address", "meant", "parse", "resolve", "standing"]

_ADDRESS = re.compile(r"(?P<name>[^@:]+)(@(?P<model>[^:]+))?(:(?P<version>\d+))?")


@dataclass(frozen=True, slots=True)
class Address:
    """A table as the user named it; ``model`` is any beginning of a ``space_id``."""

    name: str
    model: str | None = None
    version: int | None = None


def parse(text: str) -> Address:
    """Takes an address apart.

    Raises:
        UsageError: It is not of the form ``NAME[@MODEL][:VERSION]``.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is not a table's address.", hint="Write NAME, NAME@MODEL or NAME@MODEL:VERSION.")
    version = match["version"]
    return Address(match["name"], match["model"], int(version) if version else None)


def resolve(layout: Layout, address: Address) -> tuple[str, str]:
    """Finds the one table that an address means; where no model is named, the published one.

    Returns:
        The table's name and ``space_id``.

    Raises:
        NotFoundError: There is no such table, or none in such a space.
        UsageError: Several spaces fit.
    """
    names = layout.storage.folders("features")
    if address.name not in names and address.name in layout.storage.folders(layout.heads()):
        raise NotFoundError(
            f"there is no table '{address.name}'; that is a head.",
            hint=f"Its table: featstore show {address.name}",
        )
    if address.name not in names:
        known = ", ".join(names) if names else "none yet"
        raise NotFoundError(
            f"there is no table '{address.name}' in {layout.storage.root} (tables: {known}).",
            hint="Make one with: featstore extract SOURCE --model MODEL",
        )
    spaces = layout.storage.folders(f"features/{address.name}")
    wanted = address.model
    current = _published(layout, address.name) if wanted is None else None
    if current is not None and current.state.space_id in spaces:
        return address.name, current.state.space_id
    fitting = [s for s in spaces if wanted is None or s == wanted or s.startswith((f"{wanted}-", f"{wanted}."))]
    if not fitting and wanted is not None:
        fitting = [s for s in spaces if s.startswith(wanted.lower().replace(":", "-").replace("_", "-"))] or [
            s for s in spaces if s.startswith(wanted)
        ]
    if not fitting:
        raise NotFoundError(f"table '{address.name}' has no vectors of '{wanted}'; it has: {', '.join(spaces)}.")
    if len(fitting) > 1:
        raise UsageError(
            f"'{address.name}' is embedded by several models: {', '.join(fitting)}.",
            hint=f"Say which: {address.name}@{fitting[0]}",
        )
    return address.name, fitting[0]


def meant(layout: Layout, address: Address, space_id: str) -> int | None:
    """The version that an address means in a space; None for the newest.

    Without a version it is the published one, where something of that space is published.
    """
    if address.version is not None:
        return address.version
    current = _published(layout, address.name)
    return current.state.table_version if current is not None and current.state.space_id == space_id else None


def standing(layout: Layout, name: str, space_id: str, version: int | None) -> str | None:
    """What a table's bare name means, in words, where it is not this version; None where it is."""
    current = _published(layout, name)
    if (
        version is None
        or current is None
        or (current.state.space_id, current.state.table_version) == (space_id, version)
    ):
        return None
    state = current.state
    there = f"version {state.table_version}" + ("" if state.space_id == space_id else f" in the space {state.space_id}")
    return (
        f"'{name}' still means {there}, which is published; to publish version {version}: "
        f"featstore publish {name}@{space_id}:{version} --reason TEXT"
    )


def _published(layout: Layout, name: str) -> Published | None:
    # The records take longer to import than a help takes to print, and the façade imports this module.
    from featstore import published

    return published.find(layout, name)
