"""``HeadClassifier``: scikit-learn's conventions kept, groups in one fold, the head that ``train-head`` would fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from featstore import HeadClassifier
from featstore.errors import SettingsError, UsageError


@parametrize_with_checks([HeadClassifier(kind="logistic"), HeadClassifier(kind="ridge")])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = load_digits(return_X_y=True)
    return vectors[:600].astype(np.float32), labels[:600]


def test_labels_come_back_as_they_were_given(digits: Any) -> None:
    vectors, numbers = digits
    labels = np.array(["null", "eins", "zwei", "drei"])[numbers % 4]
    model = HeadClassifier(kind="ridge").fit(vectors, labels)
    assert model.classes_.tolist() == ["drei", "eins", "null", "zwei"]
    assert set(model.predict(vectors)) <= set(labels)
    chances = model.predict_proba(vectors)
    assert np.allclose(chances.sum(axis=1), 1)
    assert (model.classes_[chances.argmax(axis=1)] == model.predict(vectors)).all()
    assert model.head_.classes == ("drei", "eins", "null", "zwei")


def test_it_works_in_pipelines_searches_and_after_pickling(digits: Any) -> None:
    vectors, labels = digits
    pipeline = make_pipeline(StandardScaler(), HeadClassifier(kind="prototypes"))
    assert cross_val_score(pipeline, vectors, labels, cv=3).mean() > 0.8
    search = GridSearchCV(HeadClassifier(), {"kind": ["prototypes", "ridge"]}, cv=3).fit(vectors, labels)
    assert search.best_params_ == {"kind": "ridge"}
    again = pickle.loads(pickle.dumps(search.best_estimator_))  # noqa: S301
    assert again.predict_proba(vectors).tobytes() == search.predict_proba(vectors).tobytes()
    assert clone(again).get_params() == again.get_params()


def test_copies_and_groups_share_a_fold(digits: Any) -> None:
    """Labels are noise; only a head that saw an item's own copy can predict it, and none is to have seen one."""
    generator = np.random.default_rng(0)
    single = generator.standard_normal((150, 20)).astype(np.float32)
    noise = generator.integers(0, 2, 150)
    vectors, labels = np.repeat(single, 4, axis=0), np.repeat(noise, 4)
    honest = HeadClassifier(kind="knn").fit(vectors, labels).candidates_[0].score
    assert honest > 0.66  # of a fair coin it is log 2 = 0.69
    shifted = vectors + 1e-3 * generator.standard_normal(vectors.shape).astype(np.float32)
    assert HeadClassifier(kind="knn").fit(shifted, labels).candidates_[0].score < 0.2
    grouped = HeadClassifier(kind="knn").fit(shifted, labels, groups=np.repeat(np.arange(150), 4))
    assert grouped.candidates_[0].score > 0.66


def test_one_class_is_what_it_says(digits: Any) -> None:
    vectors, _ = digits
    model = HeadClassifier().fit(vectors, ["only"] * len(vectors))
    assert model.predict(vectors[:2]).tolist() == ["only", "only"]
    assert model.predict_proba(vectors[:2]).tolist() == [[1.0], [1.0]]


def test_what_cannot_be_fitted_is_said(digits: Any) -> None:
    vectors, labels = digits
    with pytest.raises(SettingsError, match="kind is 'magic'; it is 'auto' or one of prototypes"):
        HeadClassifier(kind="magic").fit(vectors, labels)
    with pytest.raises(SettingsError, match="folds is 1"):
        HeadClassifier(folds=1).fit(vectors, labels)
    with pytest.raises(UsageError, match="all 600 items belong to one group"):
        HeadClassifier(kind="ridge").fit(vectors, labels, groups=["same"] * 600)
    with pytest.raises(UsageError, match="2 groups for 600 items"):
        HeadClassifier(kind="ridge").fit(vectors, labels, groups=["a", "b"])
    with pytest.raises(UsageError, match="class weights are 'heavy'"):
        HeadClassifier(kind="ridge", weights="heavy").fit(vectors, labels)


def test_a_class_of_one_item_is_fitted_all_the_same(digits: Any) -> None:
    vectors, labels = digits
    rare = np.where(np.arange(600) == 17, 99, labels)
    model = HeadClassifier(kind="logistic").fit(vectors, rare)
    assert 99 in model.classes_
    assert model.score(vectors, rare) > 0.95
