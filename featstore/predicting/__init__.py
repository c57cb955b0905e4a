"""Heads applied: to a table's vectors, or to new items that go through the model first.

``tables`` and ``items`` hand over vectors block by block, ``stored`` those that the store has already, ``columns``
makes predictions of them, ``files`` writes them out, ``run`` puts them together.
"""

from featstore.predicting.run import Predictions, predict

__all__ = ["Predictions", "predict"]
