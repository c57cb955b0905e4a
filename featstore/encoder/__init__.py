"""Vectors inside scikit-learn: a transformer from images or texts to a matrix.

``transformer`` is the estimator, ``contents`` what stands in an ``X``, ``supply`` where the vectors come from.
"""

from featstore.encoder.transformer import FeatstoreEncoder

__all__ = ["FeatstoreEncoder"]
