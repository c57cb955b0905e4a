"""Deletion for good: items from all that a store holds, or a table in one space; proved by reading all of it."""

from featstore.upkeep.purge.listing import listed
from featstore.upkeep.purge.run import purge
from featstore.upkeep.purge.spaces import drop_space

__all__ = ["drop_space", "listed", "purge"]
