"""featstore: embeddings of images and texts, kept as features.

>>> import featstore
>>> store = featstore.open("my-store")                              # doctest: +SKIP
>>> table = store.extract("images/", model="efficientnet_lite0")    # doctest: +SKIP
>>> ids, X = table.matrix()                                         # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError
from featstore.store import Store, Table, open

if TYPE_CHECKING:
    from featstore.encoder import FeatstoreEncoder
    from featstore.heads.estimator import HeadClassifier

__version__ = "0.1.0"

__all__ = ["FeatstoreEncoder", "FeatstoreError", "HeadClassifier", "Store", "Table", "__version__", "open"]


def __getattr__(name: str) -> object:
    # scikit-learn takes a second to import; only those who use its classes wait for it
    if name == "FeatstoreEncoder":
        from featstore.encoder import FeatstoreEncoder

        return FeatstoreEncoder
    if name == "HeadClassifier":
        from featstore.heads.estimator import HeadClassifier

        return HeadClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
