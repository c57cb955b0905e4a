"""featstore: embeddings of images and texts, kept as features.

>>> import featstore
>>> store = featstore.open("my-store")                              # doctest: +SKIP
>>> table = store.extract("images/", model="efficientnet_lite0")    # doctest: +SKIP
>>> ids, X = table.matrix()                                         # doctest: +SKIP
"""

from featstore.errors import FeatstoreError
from featstore.store import Store, Table, open

__version__ = "0.1.0"

__all__ = ["FeatstoreError", "Store", "Table", "__version__", "open"]
