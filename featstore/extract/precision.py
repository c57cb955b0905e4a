"""A table of a model in fewer bits: the model is made of the items that the table's first run is about to embed."""

from __future__ import annotations

from featstore.extract.prepare import Preparation
from featstore.records import ModelCard

__all__ = ["fewer_bits"]


def fewer_bits(found: Preparation, base: ModelCard, precision: str) -> None:
    """Lets a run use the version of a model that passes the gate on its items; made now if there is none yet.

    Args:
        found: The run's parts, which are given the version's card; its scan is the one that the run goes on with.
        base: The model in full precision.
        precision: ``int8``.

    Raises:
        UsageError: There are too few items, or nothing in the model can be quantised.
        GateError: No way of quantising is near enough to the model itself.
    """
    from featstore.quantise import make  # with all that judges: only the first run of such a table needs it

    found.seen = scan = found.scan()
    found.card = make(
        found.layout,
        base,
        precision,
        table=found.name,
        source=found.source,
        items=scan.items,
        settings=found.settings,
        progress=found.reporter.message,
    )
