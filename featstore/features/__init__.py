"""Features read by id and time: several tables and spaces side by side, never a vector from after a row's time.

``asking`` is the grammar of a feature, ``frames`` takes ids and times out of a table of any library and puts columns
beside them, ``reading`` finds the rows that counted, ``writing`` does the same into a file.
"""

from featstore.features.reading import get_features
from featstore.features.writing import export

__all__ = ["export", "get_features"]
