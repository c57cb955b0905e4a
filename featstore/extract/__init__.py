"""One run of extract: plan, shards, one commit."""

from featstore.extract.run import extract

__all__ = ["extract"]
