"""What two versions, models or items have in common: differences, comparisons, duplicates."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.records.drift import DriftReport
from featstore.records.store import Modality
from featstore.records.tables import TableVersion

__all__ = [
    "ComparedModel",
    "Comparison",
    "Difference",
    "DuplicateGroup",
    "DuplicateItem",
    "DuplicateReport",
    "ItemCosine",
    "NeighbourOverlap",
    "QueryOverlap",
    "VectorChanges",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCosine:
    """How far one item's vector has moved; ``content_changed`` says whether the item itself did."""

    item_id: str
    cosine: float
    content_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorChanges:
    """The items of two versions whose vectors differ in any bit.

    ``same_content`` are those whose content did not change. ``cosines`` are quantiles over all of them, by
    ``0``, ``0.01``, ``0.05``, ``0.25``, ``0.5``, ``0.75``, ``0.95`` and ``1``; ``worst`` has the lowest.
    """

    changed: int
    same_content: int
    cosines: dict[str, float]
    worst: tuple[ItemCosine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOverlap:
    """One query: the share of neighbours that both spaces agree on, those only in ``a`` and those only in ``b``."""

    item_id: str
    overlap: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourOverlap:
    """How far two spaces agree on each item's ``k`` nearest, by exact cosine among the ``items`` that both hold.

    ``mean`` is over ``queries`` of them; ``low`` and ``high`` are its 95 % interval, equal to it where all were
    asked. ``expected`` is what vectors without meaning would reach.
    """

    k: int
    items: int
    queries: int
    mean: float
    low: float
    high: float
    expected: float
    quantiles: dict[str, float]
    changed_most: tuple[QueryOverlap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What ``diff`` found between two tables, ``a`` and ``b``.

    Items are matched by ``item_id``. ``added`` are in ``b`` only, ``removed`` in ``a`` only; ``renamed`` are those
    among the added whose content one of the removed had; ``changed`` have another content, ``updated`` other
    metadata. Each list of ids has the first few. ``vectors`` is for two versions of one space, ``neighbours`` for
    two spaces; ``drift`` holds the contents that only ``b`` has against those of ``a``, in one space; ``note`` says
    what could not be compared.
    """

    a: TableVersion
    b: TableVersion
    common: int
    added: int
    removed: int
    renamed: int
    changed: int
    updated: int
    added_ids: tuple[str, ...]
    removed_ids: tuple[str, ...]
    changed_ids: tuple[str, ...]
    updated_columns: dict[str, int]
    vectors: VectorChanges | None
    neighbours: NeighbourOverlap | None
    drift: DriftReport | None
    note: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One model of ``models compare``.

    ``accuracy`` and ``balanced_accuracy`` are shares of held-out items, None without labels. ``difference`` is
    its accuracy minus that of the best model, with the 95 % interval ``[difference_low, difference_high]``; all
    three are None for the best itself. ``items_per_s`` was timed here on the same items for every model;
    ``whole_seconds`` and ``whole_bytes`` are estimates for all of the source from it and from ``dim``.
    """

    model: str
    space_id: str
    accuracy: float | None
    balanced_accuracy: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    items_per_s: float
    device: str
    whole_seconds: float
    whole_bytes: int
    dim: int
    parameters: int
    model_bytes: int
    licence: str
    training_data: str
    stored: int
    reused: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What ``models compare`` found, models in the order they were named.

    ``source_items`` are all of the source, ``sampled`` those that every model was to embed, ``compared`` those that
    all of them have. ``labelled`` of these went into the probe, in ``folds`` folds (0: there was none);
    ``majority`` is the share of the most frequent class and ``rare`` counts the items of classes too small to be
    judged. ``overlap`` is the mean share of common nearest neighbours (``neighbours`` of each item) of two spaces,
    ``chance`` that of two which have nothing to do with each other; both are left out where all are neighbours.
    """

    table: str
    source: str
    modality: Modality
    source_items: int
    sampled: int
    compared: int
    labelled: int
    classes: int
    folds: int
    majority: float | None
    rare: dict[str, int]
    best: str | None
    models: tuple[ComparedModel, ...]
    neighbours: int
    overlap: dict[str, dict[str, float]]
    chance: float | None = None
    queries: tuple[str, ...]
    files: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateItem:
    """One item of a group of duplicates.

    ``score`` is its cosine to the group's representative, ``exact`` whether its content is the representative's;
    ``text`` is the beginning of a text, where one was kept.
    """

    item_id: str
    score: float
    exact: bool
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """A group of ``items`` with ``contents`` different contents; ``first`` has some of them, the representative first.

    ``lowest`` is the least cosine of any of them to the representative.
    """

    items: int
    contents: int
    lowest: float
    first: tuple[DuplicateItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateReport:
    """What ``dedup`` found: ``groups`` that hold ``items`` of the table, ``surplus`` of them beside one of each group.

    Items of equal content belong together, and those whose cosine is at least ``threshold``, directly or through
    others; ``rule`` says where the threshold comes from (both None where there is nothing to compare).
    ``contents`` counts the table's different contents, ``exact_surplus`` the items beside one of each. ``chained``
    groups hold an item that is near the representative only through others. ``largest`` names the first groups;
    ``path`` and ``png`` are the files that were written.
    """

    table: TableVersion
    threshold: float | None
    rule: str | None
    contents: int
    groups: int
    items: int
    surplus: int
    exact_surplus: int
    chained: int
    largest: tuple[DuplicateGroup, ...]
    path: str | None
    png: str | None
    seconds: float
