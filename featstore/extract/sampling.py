"""A fixed sample of a source: the items whose contents have the smallest hashes.

Hashes are as good as random numbers, but belong to the items: the sample is the same in every run, for
every model and on every machine, a smaller one is part of a larger one, and an item that is added or
goes changes the sample by one item at most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featstore.sources import Scan

__all__ = ["sample", "smallest"]


def sample(scan: Scan, size: int) -> Scan:
    """A scan of the sample alone.

    What could not be read has no hash and so is in no sample; a warning counts it instead of the rejects.

    Args:
        scan: All of a source.
        size: How many items to keep; all of them where there are fewer.
    """
    warnings = scan.warnings
    if scan.rejects:
        unread = f"{len(scan.rejects):,} items" if len(scan.rejects) > 1 else "1 item"
        warnings = (*warnings, f"{unread} of the source could not be read and cannot be part of the sample")
    return replace(scan, items=smallest(scan.items, size), rejects=(), warnings=warnings)


def smallest(items: pa.Table, size: int) -> pa.Table:
    """The ``size`` rows with the smallest ``content_sha256`` (then ``item_id``), in the order they stand in."""
    if items.num_rows <= size:
        return items
    order = pc.sort_indices(items, sort_keys=[("content_sha256", "ascending"), ("item_id", "ascending")])
    return items.take(pa.array(np.sort(order.to_numpy()[:size])))
