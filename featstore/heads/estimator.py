"""``HeadClassifier``: the heads of ``train-head`` as a scikit-learn classifier."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from featstore.errors import SettingsError, UsageError
from featstore.heads.fitting import fit
from featstore.heads.folds import bind, fold
from featstore.heads.head import Head
from featstore.heads.kinds import kinds_of

__all__ = ["HeadClassifier"]


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A light classifier on vectors: kind, input and penalty chosen out of fold, probabilities calibrated.

    Vectors with equal values, and those of one group, are always in one fold.

    Args:
        kind: ``auto`` tries all that suit the number of items; else ``logistic``, ``knn``, ``prototypes``, ``ridge``,
            ``torch-linear`` or ``torch-mlp``.
        folds: At most so many; fewer where a class has fewer groups.
        weights: ``balanced`` makes every class count as much as any other.
        seed: Of everything drawn.

    Attributes:
        classes_: The labels, sorted.
        head_: The head, as plain arrays.
        candidates_: What was tried, with its out-of-fold log-loss.
        n_features_in_: Values of a vector.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> from featstore import HeadClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> HeadClassifier(kind="ridge").fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.85
        True
    """

    def __init__(self, kind: str = "auto", *, folds: int = 5, weights: str | None = None, seed: int = 0) -> None:
        self.kind = kind
        self.folds = folds
        self.weights = weights
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> HeadClassifier:  # noqa: N803
        """Chooses, fits and calibrates a head.

        Args:
            X: (n, d) vectors.
            y: n labels of any sortable kind.
            groups: n values: equal ones belong together.

        Raises:
            SettingsError: A parameter is out of range.
            UsageError: All items belong together, or the kind does not fit them.
            ValueError: ``X`` and ``y`` are not what scikit-learn expects of a classifier's.
        """
        if self.kind != "auto" and self.kind not in kinds_of("classification"):
            raise SettingsError(
                f"kind is {self.kind!r}; it is 'auto' or one of {', '.join(kinds_of('classification'))}."
            )
        if self.folds < 2:
            raise SettingsError(f"folds is {self.folds}; it must be at least 2.")
        vectors, labels = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(labels)
        self.classes_, truth = np.unique(labels, return_inverse=True)
        names = tuple(map(str, self.classes_.tolist()))
        self.candidates_: tuple[Any, ...] = ()
        if len(names) == 1:
            self.head_ = _constant(names, vectors.shape[1])
            return self
        together = bind([row.tobytes().hex() for row in vectors], _keys(groups, len(vectors)))
        found = fit(
            vectors,
            truth.astype(np.int64),
            names,
            _folds(truth.astype(np.int64), together, self.folds, self.seed),
            kind=self.kind,  # type: ignore[arg-type]
            weights=self.weights,
            groups=together,
            seed=self.seed,
        )
        self.head_, self.candidates_ = found.head, found.candidates
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The likeliest label of each vector: (n,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.head_.predict(self._vectors(X))])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities: (n, c), in the order of ``classes_``."""
        check_is_fitted(self)
        return self.head_.probabilities(self._vectors(X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """The logits: (n, c), or for two classes (n,) the second's less the first's."""
        check_is_fitted(self)
        logits = self.head_.logits(self._vectors(X))
        return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits, np.float64)

    def _vectors(self, X: ArrayLike) -> NDArray[np.floating]:  # noqa: N803
        return np.asarray(validate_data(self, X, dtype=[np.float32, np.float64], reset=False))


def _keys(groups: ArrayLike | None, items: int) -> list[str | None]:
    if groups is None:
        return [None] * items
    found = [None if value is None else str(value) for value in np.asarray(groups).tolist()]
    if len(found) != items:
        raise UsageError(f"there are {len(found):,} groups for {items:,} items.")
    return found


def _folds(truth: NDArray[np.int64], groups: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """As many folds as the rarest class has groups, but two at least."""
    pairs = np.unique(np.column_stack([truth, groups]), axis=0)
    rarest = int(np.bincount(pairs[:, 0]).min())
    count = min(max(2, min(most, rarest)), len(np.unique(groups)))
    if count < 2:
        raise UsageError(
            f"all {len(truth):,} items belong to one group, so none can be predicted by a head that has not seen it.",
            hint="Give items of another group.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with a single group, which is fitted all the same
        return fold(truth, groups, count, seed=seed)


def _constant(names: tuple[str, ...], dim: int) -> Head:
    """What there is to say where all items are of one class."""
    arrays = {"weights": np.zeros((1, dim)), "bias": np.zeros(1)}
    return Head("classification", "majority", names, dim, "raw", arrays, {"temperature": 1.0})
