"""What differs between two tables, or two versions of one.

``matching`` finds what came, went and changed, ``moves`` how far vectors of one space have moved, ``agreement`` how
far two spaces agree on neighbours; ``run`` decides which of them to ask.
"""

from featstore.diff.run import diff

__all__ = ["diff"]
