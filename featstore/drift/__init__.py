"""Whether items that came are of the kind that was there: tests that hold their level, and effects beside them.

Two samples of vectors are compared in several ways, each of which gives an effect and its distribution under
permutations of which item is of which sample. That makes each test exact, whatever the vectors are like, as long as
items are independent: every content counts once. ``classifier`` tries to tell the samples apart, ``kernel`` compares
the whole distributions, ``shape`` their middles and lengths, ``novelty`` looks for items unlike all before, ``classes``
at what a head says of them; ``run`` puts them together.
"""

from featstore.drift.run import HEADS, LEAST, MOST, compare, too_few

__all__ = ["HEADS", "LEAST", "MOST", "compare", "too_few"]
