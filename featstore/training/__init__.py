"""Training heads: labels joined, a split without leakage, the best kind found, measured once, kept.

``dataset`` joins labels to tables, ``learnable`` refuses what cannot be learned, ``dividing`` gives every item its
side, ``making`` fits one head; ``measuring``, ``baselines``, ``curve``, ``shots`` and ``advice`` say what it is worth,
``keeping`` writes it down, ``comparing`` sets two side by side and ``run`` puts it all together.
"""

from featstore.training.comparing import compare
from featstore.training.naming import page_at
from featstore.training.run import plan, train_head

__all__ = ["compare", "page_at", "plan", "train_head"]
