"""Items that a table holds more than once: of equal content, or of vectors that are nearly equal.

``grouping`` says which items belong together and chooses the threshold, ``members`` names each group's
representative, ``sheets`` draws them and ``run`` puts it all together.
"""

from featstore.dedup.grouping import Threshold, groups_of, near
from featstore.dedup.run import dedup, duplicates

__all__ = ["Threshold", "dedup", "duplicates", "groups_of", "near"]
