"""featstore: embeddings of images and texts, kept as features.

>>> import featstore
>>> store = featstore.open("my-store")                              # doctest: +SKIP
>>> table = store.extract("images/", model="efficientnet_lite0")    # doctest: +SKIP
>>> ids, X = table.matrix()                                         # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError

if TYPE_CHECKING:
    from featstore.encoder import FeatstoreEncoder
    from featstore.heads.estimator import HeadClassifier
    from featstore.store import Store, open
    from featstore.table import Table

__version__ = "0.1.0"

__all__ = ["FeatstoreEncoder", "FeatstoreError", "HeadClassifier", "Store", "Table", "__version__", "open"]


# scikit-learn takes a second to import, and a help text should not even wait for the store.
_HOMES = {
    "FeatstoreEncoder": "featstore.encoder",
    "HeadClassifier": "featstore.heads.estimator",
    "Store": "featstore.store",
    "Table": "featstore.table",
    "open": "featstore.store",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
