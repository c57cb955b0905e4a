"""Where items come from: a folder or list of files, the rows of a table, or tars.

A source lists its items with their content hashes (``scan``) and hands out contents (``reader``).
It never decodes a picture or a text, and never knows what is stored already.
"""

from featstore.sources.items import Progress, Reader, Scan, Source, SourceOptions
from featstore.sources.listed import LIST_PREFIX
from featstore.sources.opening import open_source, source_uri

__all__ = ["LIST_PREFIX", "Progress", "Reader", "Scan", "Source", "SourceOptions", "open_source", "source_uri"]
