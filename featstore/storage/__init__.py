"""Every byte that featstore reads or writes for itself goes through this package.

``Storage`` is a tree of files under one root, ``documents`` reads and writes checked JSON records,
``locks`` keeps two runs apart, ``hashing`` names contents.
"""

from featstore.storage.tree import Stat, Storage, shown

__all__ = ["Stat", "Storage", "shown"]
