"""How well a table answers queries: against judgements, against another table, through its index.

``judgements`` and ``questions`` read the files, ``rankings`` asks a table, ``metrics`` rates one ranking,
``intervals`` says how sure a mean is, ``agreement`` compares rankings where nothing is judged; ``run`` does all of it.
"""

from featstore.evaluate.run import evaluate

__all__ = ["evaluate"]
