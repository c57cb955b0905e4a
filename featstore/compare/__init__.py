"""Several models on one sample of a source: what they are worth there, and what they cost here."""

from featstore.compare.run import compare

__all__ = ["compare"]
