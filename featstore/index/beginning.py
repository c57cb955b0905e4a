"""What ``featstore index`` starts from: a table that can be indexed, and perhaps an index of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError, SpaceMismatchError, UsageError
from featstore.index import files, opening
from featstore.index.freshness import Alignment, align
from featstore.tables import past

if TYPE_CHECKING:
    from featstore.extract.progress import Reporter
    from featstore.layout import Layout
    from featstore.records import IndexCard
    from featstore.tables import FeatureTable

__all__ = ["Before", "check", "find_before"]


@dataclass(frozen=True)
class Before:
    """What there is: the newest index that can be used, or why there is none."""

    card: IndexCard | None
    alignment: Alignment | None
    why: str


def check(layout: Layout, features: FeatureTable, queries: NDArray[np.float32] | None) -> None:
    """Refuses what no index can be made of.

    Raises:
        UsageError: The table is empty, or the queries are no vectors of its length.
        NotFoundError: ``gc`` has removed files of the version.
    """
    if not len(features):
        raise UsageError(
            f"table '{features.name}' has no items to index.",
            hint="Put some in: featstore extract SOURCE --model MODEL",
        )
    past.check_kept(layout, features)
    if queries is not None and (
        queries.ndim != 2 or queries.shape[1] != features.dim or not np.isfinite(queries).all()
    ):
        raise UsageError(
            f"the queries have the shape {queries.shape}; finite vectors of {features.dim} values are needed.",
            hint="Encode them with the model of the table's space.",
        )


def find_before(layout: Layout, features: FeatureTable, reporter: Reporter) -> Before:
    """The index to start from; what is damaged is as good as not there, and said."""
    try:
        card = opening.newest_card(layout, features)
        if card is None:
            return Before(None, None, "there was no index")
        files.check(layout, card)
        return Before(card, align(layout, card, features), "")
    except (IntegrityError, NotFoundError, SpaceMismatchError) as error:
        reporter.warning(f"{error.message} It is made anew.")
        return Before(None, None, "the index there was is damaged")
