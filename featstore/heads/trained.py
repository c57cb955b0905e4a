"""A kept head in Python: a scikit-learn estimator that is fitted already, with the card that says what it is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.folds import fold
from featstore.heads.head import Head
from featstore.records import HeadCard

__all__ = ["TrainedHead"]


class TrainedHead:
    """A head with scikit-learn's manners: ``predict``, ``predict_proba``, ``decision_function``, ``score``, ``fit``.

    It holds arrays and a card, nothing that runs; a pipeline or a cross-validation takes it like any classifier or
    regressor. ``fit`` fits a head of the same kind anew, to other vectors, and leaves the store alone.

    Attributes:
        card: What the head is and what it reached; of the head that was kept, also after ``fit``.
        head: The arrays and the forward pass.
    """

    def __init__(self, card: HeadCard, head: Head) -> None:
        self.card = card
        self.head = head

    def __repr__(self) -> str:
        card = self.card
        return f"TrainedHead({card.head}:{card.version}, {card.kind}, {card.task}, space {card.space_id})"

    @property
    def classes_(self) -> NDArray[np.object_]:
        """The classes in order; empty for regression."""
        return np.array(self.head.classes, object)

    @property
    def n_features_in_(self) -> int:
        """The values of a vector."""
        return self.head.dim

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803 – scikit-learn's name
        """What each vector is.

        Args:
            X: (n, dim) vectors of the head's space.

        Returns:
            (n,) labels; for several labels (n, c) bool in the order of ``classes_``; for regression (n,) float64.

        Raises:
            UsageError: The vectors have another dimension, or are not finite.
        """
        found = self.head.predict(_vectors(X))
        return self.classes_[found] if self.head.task == "classification" else found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities (n, c), in the order of ``classes_``.

        Raises:
            UsageError: As ``predict``; or the head predicts numbers.
        """
        return self.head.probabilities(_vectors(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The logits: (n, c), or (n,) for two classes, above 0 for the second."""
        found = self.head.logits(_vectors(X))
        two = self.head.task == "classification" and len(self.head.classes) == 2
        return found[:, 1] - found[:, 0] if two else found

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """The accuracy; for several labels the share of items with all of them right; for regression R²."""
        said = self.predict(X)
        truth = np.asarray(y)
        if self.head.task == "regression":
            spread = float(np.square(truth - truth.mean()).sum())
            return 1.0 - float(np.square(truth - said).sum()) / spread if spread else 0.0
        if self.head.task == "classification":
            truth = truth.astype(str)
        right = said == truth if said.ndim == 1 else (said == truth).all(axis=1)
        return float(np.mean(right))

    def fit(self, X: Any, y: Any, groups: Any = None) -> TrainedHead:  # noqa: N803
        """Fits a head of the same kind to other vectors of any space.

        Args:
            X: (n, d) vectors.
            y: (n,) labels or values, or (n, c) bool in the order of ``classes_``.
            groups: (n,) what belongs together; by default every item for itself.

        Raises:
            UsageError: The arrays do not belong together, or cannot be learned from.
        """
        from featstore.heads.fitting import fit

        vectors, truth = _vectors(X), np.asarray(y)
        together = np.unique(np.arange(len(truth)) if groups is None else np.asarray(groups), return_inverse=True)[1]
        classes, strata = self.head.classes, np.zeros(len(truth), np.int64)
        if self.head.task == "classification":
            found, truth = np.unique(truth.astype(str), return_inverse=True)
            classes, strata = tuple(found.tolist()), truth
        folds = min(self.card.folds, len(np.unique(together)))
        dealt = fold(strata, together, folds, seed=self.card.seed) if folds > 1 else np.zeros(len(truth), np.int64)
        self.head = fit(
            vectors,
            truth,
            classes,
            dealt,
            task=self.head.task,
            kind=self.card.kind if self.card.kind != "majority" else "auto",
            weights=self.card.class_weights,
            groups=together,
            seed=self.card.seed,
        ).head
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What a copy is made of."""
        return {"card": self.card, "head": self.head}

    def set_params(self, **params: Any) -> TrainedHead:
        """Replaces the card or the head."""
        for name, value in params.items():
            if name not in ("card", "head"):
                raise UsageError(f"a trained head has no parameter '{name}'.", hint="It has card and head.")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        regressor = self.head.task == "regression"
        return Tags(
            estimator_type="regressor" if regressor else "classifier",
            target_tags=TargetTags(required=True, multi_output=self.head.task == "multilabel"),
            classifier_tags=None if regressor else ClassifierTags(multi_label=self.head.task == "multilabel"),
            regressor_tags=RegressorTags() if regressor else None,
            input_tags=InputTags(),
        )


def _vectors(given: Any) -> NDArray[np.float32]:
    try:
        return np.ascontiguousarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the vectors are no array of numbers: {error}.") from error
