"""The report of a fine-tuning, one HTML page: what came of it, how it went, at which rates, and what the gates found.

``verdict`` says what came of it, ``training`` and ``rates`` how it went, ``compared`` what it is worth and what it
cost other tasks, ``sheet`` shows neighbours before and after, ``setup`` what it was told; ``page`` puts it together.
"""

from featstore.finetune.report.nearest import Nearest, Neighbours, nearest
from featstore.finetune.report.page import render

__all__ = ["Nearest", "Neighbours", "nearest", "render"]
