"""Linear maps between spaces: from pictures to texts, and from one model to another.

From an image space into a text space, learned from pictures with captions: ``pairs`` brings pictures and captions
together, ``held_out`` measures, ``kept`` writes and opens; ``run`` does one after the other. From one model's space
into another's of the same modality, learned from items that both have embedded: ``spaces_items``, ``spaces_held_out``,
``spaces_kept`` and ``spaces`` do the same. Both stand on ``grouping``, which keeps what is nearly the same on one side
of every split, ``maps``, which fits, ``nested``, which chooses, and ``weights``, which are the file.
"""

from featstore.bridge import kept, spaces_kept
from featstore.bridge.kept import Bridge, bridges, open_bridge
from featstore.bridge.run import make
from featstore.bridge.spaces import learn_spaces, make_spaces
from featstore.bridge.spaces_kept import SpaceBridge, open_space_bridge, publish_spaces, space_bridges
from featstore.layout import Layout
from featstore.records import Finding

__all__ = [
    "Bridge",
    "SpaceBridge",
    "bridges",
    "learn_spaces",
    "make",
    "make_spaces",
    "open_bridge",
    "open_space_bridge",
    "publish_spaces",
    "space_bridges",
    "verify",
]


def verify(layout: Layout, space_id: str) -> list[Finding]:
    """Opens every bridge that leads from an image space to texts, or into a space from another model's."""
    return [*kept.verify(layout, space_id), *spaces_kept.verify(layout, space_id)]
