"""All measures of two samples, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featstore.drift.classes import classes
from featstore.drift.classifier import classifier
from featstore.drift.kernel import discrepancy
from featstore.drift.novelty import novelty
from featstore.drift.shape import centroid, norm
from featstore.drift.sides import Null, Sides
from featstore.records import DriftMeasure, DriftReport, ShiftedItem

__all__ = ["HEADS", "LEAST", "MOST", "compare", "too_few"]

LEAST = 200
"""Items a side that are needed: with fewer, only very large shifts could be told from chance."""

MOST = 2000
"""Items a side that are compared; more would say the same with more digits."""

HEADS = 10
"""Heads that are asked at most: each makes the others' p larger."""

# The lowest p of 499 permutations is 0.002: five measures and ten heads together can still say 0.03.
_DRAWS = 499
_LEVEL = 0.05

_Name = Literal["classifier", "mmd", "centroid", "norm", "novelty", "classes"]
_ABOUT: dict[_Name, str] = {
    "classifier": "how well the samples are told apart: 0.5 not at all, 1 always",
    "mmd": "distance of the distributions (MMD²)",
    "centroid": "distance of the means, in spreads of the items",
    "norm": "difference of the mean lengths, in standard deviations",
    "novelty": "surplus of items far from all before",
    "classes": "share of the predictions of {head} that moved to other classes",
}


def compare(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    *,
    after_ids: Sequence[str] = (),
    said: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] | None = None,
    sizes: tuple[int, int] | None = None,
    examples: int = 10,
    seed: int = 0,
) -> DriftReport:
    """Compares two samples of vectors of one space.

    Items must be independent: give each content once. With no difference, the report says ``drifted`` in at most
    5 % of cases, however many measures are taken (Holm's correction).

    Args:
        before: (n, d) float32, what was there.
        after: (m, d) float32, what came.
        after_ids: m names, for ``shifted``; none: no items are named.
        said: By name (n, c) and (m, c), what a head that has not seen these items says of them; the first ten.
        sizes: Of what the samples were drawn from, for the report.
        examples: How many of the most shifted items are named.
        seed: Of samples and permutations.
    """
    if min(len(before), len(after)) < LEAST:
        return too_few(*(sizes or (len(before), len(after))))
    chosen = [_some(len(sample), seed + side) for side, sample in enumerate((before, after))]
    samples = [before[chosen[0]], after[chosen[1]]]
    vectors = np.concatenate(samples).astype(np.float32, copy=False)
    sides = Sides.of(len(samples[0]), len(samples[1]), _DRAWS, seed)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)

    # What a measure is tested by and, where that is something else, what its size is shown by.
    found: list[tuple[_Name, Null, Null | None, str | None]] = []
    area, scores = classifier(unit, sides, seed)
    found.append(("classifier", area, None, None))
    found.append(("mmd", discrepancy(unit, sides), None, None))
    found.append(("centroid", centroid(unit, sides), None, None))
    longer = norm(vectors, sides)
    if longer is not None:
        found.append(("norm", longer, None, None))
    found.append(("novelty", novelty(unit[: len(samples[0])], unit[len(samples[0]) :], _DRAWS, seed), None, None))
    heads = dict(list((said or {}).items())[:HEADS])
    for head, (left, right) in heads.items():
        weighted, share = classes(np.concatenate([left[chosen[0]], right[chosen[1]]]), sides)
        found.append(("classes", weighted, share, head))
    adjusted = _holm([null.p for _, null, _, _ in found])
    late = scores[len(samples[0]) :]
    most = np.argsort(-late, kind="stable")[: examples if after_ids else 0]
    return DriftReport(
        before=sizes[0] if sizes else len(before),
        after=sizes[1] if sizes else len(after),
        sampled=MOST,
        enough=True,
        drifted=min(adjusted) <= _LEVEL,
        level=_LEVEL,
        measures=tuple(
            DriftMeasure(
                name=name,
                effect=(share or null).effect,
                expected=(share or null).expected,
                p=null.p,
                adjusted=together,
                about=_ABOUT[name].format(head=f"head '{head}'"),
                head=head,
            )
            for (name, null, share, head), together in zip(found, adjusted, strict=True)
        ),
        shifted=tuple(
            ShiftedItem(item_id=str(after_ids[int(chosen[1][at])]), score=float(late[at])) for at in most.tolist()
        ),
        note="all vectors are of one length: lengths say nothing" if longer is None else None,
    )


def too_few(before: int, after: int) -> DriftReport:
    """What is said of so few items that nothing can be."""
    return DriftReport(
        before=before,
        after=after,
        sampled=MOST,
        enough=False,
        drifted=None,
        level=_LEVEL,
        measures=(),
        shifted=(),
        note=f"too few to say: {before:,} before, {after:,} after; it takes {LEAST} on each side",
    )


def _some(size: int, seed: int) -> NDArray[np.int64]:
    if size <= MOST:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, MOST, replace=False))


def _holm(chances: Sequence[float]) -> list[float]:
    """Chances taken together, so that any of them is small by chance no more often than one would be.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    adjusted, highest = [0.0] * len(chances), 0.0
    for rank, at in enumerate(sorted(range(len(chances)), key=lambda at: chances[at])):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[at]))
        adjusted[at] = highest
    return adjusted
