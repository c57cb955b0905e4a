"""What is said of items: labels from a table's column or a file beside it, and which task they make.

``given`` holds them row by row, ``column`` and ``files`` read them, ``truth`` turns them into numbers.
"""

from featstore.labels.column import from_table
from featstore.labels.files import from_file
from featstore.labels.given import Labels
from featstore.labels.truth import Truth, truth_of

__all__ = ["Labels", "Truth", "from_file", "from_table", "truth_of"]
