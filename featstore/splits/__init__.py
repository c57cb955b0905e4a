"""Which items a head is tested on: made once, kept in the store, shared by every model and version of a table.

``words`` reads a split that came with the data, ``dealing`` makes one by hashing, ``sides`` finds every item's side,
``assigning`` checks that nothing straddles, and ``keeping`` writes all of it down.
"""

from featstore.splits.assigning import Split, assign
from featstore.splits.keeping import Kept, locked, read, score, write
from featstore.splits.sides import Items
from featstore.splits.words import sides_of

__all__ = ["Items", "Kept", "Split", "assign", "locked", "read", "score", "sides_of", "write"]
