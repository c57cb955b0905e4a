"""Where items come from: a folder of files, or the rows of a table.

A source lists its items with their content hashes (``scan``) and hands out contents (``reader``).
It never decodes a picture or a text, and never knows what is stored already.
"""

from featstore.sources.items import Progress, Reader, Scan, Source, SourceOptions
from featstore.sources.opening import open_source

__all__ = ["Progress", "Reader", "Scan", "Source", "SourceOptions", "open_source"]
