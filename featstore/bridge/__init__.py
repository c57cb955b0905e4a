"""From an image space into a text space: a linear map learned from pictures with captions.

``pairs`` brings pictures and captions together, ``grouping`` keeps those that are nearly the same on one side of every
split, ``maps`` fits, ``held_out`` chooses and measures, ``kept`` writes and opens; ``run`` does one after the other.
"""

from featstore.bridge.kept import Bridge, bridges, open_bridge, verify
from featstore.bridge.run import make

__all__ = ["Bridge", "bridges", "make", "open_bridge", "verify"]
