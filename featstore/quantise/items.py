"""The items that a model is quantised on: some to calibrate it, others to judge it, no content in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.storage import frames

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Items", "choose"]

CALIBRATED = 256
JUDGED = 1_000
_FEWEST = 200


@dataclass(frozen=True)
class Items:
    """Rows of a scan: those to calibrate on, and those to judge on with what is known of them."""

    calibration: pa.Table
    evaluation: pa.Table
    labels: list[str | None]
    groups: list[str | None]
    contents: list[str]


def choose(scan: pa.Table, *, name: str, precision: str) -> Items:
    """Takes distinct contents in the order of their hashes, which is as good as a random one and always the same.

    Args:
        scan: The rows of a source's scan.
        name: The table's name, for messages.
        precision: For messages.

    Raises:
        UsageError: There are too few.
    """
    hashes = frames.strings(scan, "content_sha256")
    first = {content: at for at, content in reversed(list(enumerate(hashes)))}
    order = [first[content] for content in sorted(first)]
    judged = min(JUDGED, max(_FEWEST, len(order) * 4 // 5))
    calibrated = min(CALIBRATED, len(order) - judged)
    if calibrated < _FEWEST // 4:
        raise UsageError(
            f"{precision} is calibrated and proven on the source's own items: at least {_FEWEST * 5 // 4} of different "
            f"content, and '{name}' has {len(order):,}.",
            hint="Use --precision fp32.",
        )
    # The judges come first: their hashes are the smallest, so that a source that grows keeps nearly all of them.
    evaluation = scan.take(order[:judged])
    return Items(
        calibration=scan.take(order[judged : judged + calibrated]),
        evaluation=evaluation,
        labels=_texts(evaluation, "label"),
        groups=_texts(evaluation, "group"),
        contents=[hashes[at] for at in order[:judged]],
    )


def _texts(rows: pa.Table, column: str) -> list[str | None]:
    if column not in rows.column_names:
        return [None] * rows.num_rows
    return [None if value is None else str(value) for value in rows[column].to_pylist()]
