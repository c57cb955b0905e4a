"""The baseline for texts: which words occur, without any network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.records import HeadTask

__all__ = ["of_words"]

_MOST_WORDS = 50_000
_PENALTY = 10.0


def of_words(
    task: HeadTask,
    texts: Sequence[str],
    truth: NDArray[Any],
    classes: int,
    others: Sequence[str],
    *,
    weights: str | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Fits a linear model to TF-IDF weights of words and pairs of words, and predicts other texts.

    Source: Wang and Manning, Baselines and bigrams (2012): bigrams help linear models of words throughout.

    Args:
        task: What is predicted.
        texts: n texts to learn from.
        truth: (n,) class numbers, (n, c) bool or (n,) values.
        classes: c.
        others: m texts.
        weights: Class weights.
        seed: Of the solver.

    Returns:
        (m, c) probabilities, a class that no text is of getting 0; (m,) values for regression.

    Raises:
        UsageError: The texts hold no word.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    weigh = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=_MOST_WORDS, dtype=np.float64)
    try:
        known = weigh.fit_transform(texts)
    except ValueError as error:  # nothing but stop words, or no words at all
        raise UsageError("the texts hold no word.") from error
    asked = weigh.transform(others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task == "regression":
            return np.asarray(Ridge(alpha=1.0, random_state=seed).fit(known, truth).predict(asked), np.float64)
        logistic = LogisticRegression(C=_PENALTY, max_iter=200, random_state=seed, class_weight=weights)
        found = np.zeros((len(others), classes))
        if task == "classification":
            model = logistic.fit(known, truth)
            found[:, model.classes_] = model.predict_proba(asked)
            return found
        for label in range(classes):
            column = truth[:, label]
            if column.min() == column.max():
                found[:, label] = float(column[0])
                continue
            model = logistic.fit(known, column)
            found[:, label] = model.predict_proba(asked)[:, 1]
    return found
