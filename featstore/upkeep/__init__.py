"""Looking after a store: summaries, verification, garbage collection, deletion for good, a check of the machine."""

from featstore.upkeep.doctor import doctor
from featstore.upkeep.gc import gc
from featstore.upkeep.publications import history
from featstore.upkeep.purge import drop_space, purge
from featstore.upkeep.summary import summarise
from featstore.upkeep.verify import verify

__all__ = ["doctor", "drop_space", "gc", "history", "purge", "summarise", "verify"]
