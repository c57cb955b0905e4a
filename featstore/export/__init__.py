"""Tables written out for other programs: Parquet, CSV, npz, safetensors, each with its origin inside.

``selection`` says which rows and columns, ``parquet``, ``delimited``, ``arrays`` and ``tensors`` write one format
each, ``run`` puts them together.
"""

from featstore.export.formats import Format, format_of
from featstore.export.run import export
from featstore.export.selection import Selection

__all__ = ["Format", "Selection", "export", "format_of"]
