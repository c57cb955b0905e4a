"""``FeatstoreEncoder``: scikit-learn's conventions kept, stored vectors reused, no vector of another space."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import SENTENCES
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks
from stores import copy_models, fresh

import featstore
from featstore import FeatstoreEncoder
from featstore.encode import Encoder
from featstore.encoder import supply
from featstore.errors import NotFoundError, SettingsError, SpaceMismatchError, UsageError
from featstore.store import Store

TEXTS = [text for _, text in SENTENCES]
TOPICS = [topic for topic, _ in SENTENCES]


@pytest.fixture
def store(model_store: Path, tmp_path: Path) -> Store:
    return fresh(model_store, tmp_path)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    supply._memories.clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the pipeline's encoder was given."""
    calls: list[int] = []
    encode = Encoder.encode

    def counting(self: Encoder, read: Any, count: int, observer: Any, **more: Any) -> Any:
        calls.append(count)
        return encode(self, read, count, observer, **more)

    monkeypatch.setattr(Encoder, "encode", counting)
    return calls


def _texts(store: Store, **more: Any) -> FeatstoreEncoder:
    return FeatstoreEncoder("minilm", store=store.path, device="cpu", **more)


def _images(store: Store, **more: Any) -> FeatstoreEncoder:
    return FeatstoreEncoder("efficientnet_lite0", store=store.path, device="cpu", **more)


def test_the_vectors_are_those_of_extract(store: Store, texts_csv: Path, photos: Path) -> None:
    alone = _texts(store).fit_transform(TEXTS)
    assert (alone.dtype, alone.shape) == (np.float32, (12, 384))
    table = store.extract(texts_csv, model="minilm", text_column="text", id_column="id", device="cpu")
    ids, matrix = table.matrix()
    assert np.allclose(alone, matrix[np.argsort(ids)], atol=1e-5)
    paths = sorted(photos.rglob("*.*"))
    pictures = _images(store).fit_transform([str(path) for path in paths])
    ids, matrix = store.extract(photos, model="efficientnet_lite0", device="cpu").matrix()
    assert [photos / str(i) for i in ids[np.argsort(ids)]] == paths
    assert pictures.tobytes() == matrix[np.argsort(ids)].tobytes()


def test_stored_vectors_are_reused_and_the_others_computed_once(
    store: Store, texts_csv: Path, counted: list[int]
) -> None:
    table = store.extract(texts_csv, model="minilm", text_column="text", id_column="id", device="cpu")
    ids, matrix = table.matrix()
    counted.clear()
    encoder = _texts(store).fit(TEXTS)
    assert encoder.transform(TEXTS).tobytes() == matrix[np.argsort(ids)].tobytes()
    assert counted == []
    got = encoder.transform([TEXTS[3], "new", "newer", "new", TEXTS[0]])
    assert counted == [2]
    assert got[1].tobytes() == got[3].tobytes()
    assert got[0].tobytes() == matrix[np.argsort(ids)][3].tobytes()
    clone(encoder).fit(TEXTS).transform(["newer", TEXTS[1]])
    assert counted == [2]
    _texts(store, memory_mb=0).fit([]).transform(["newest"])
    _texts(store, memory_mb=0).fit([]).transform(["newest"])
    assert counted == [2, 1, 1]


def test_an_image_stored_under_another_name_is_reused(store: Store, photos: Path, counted: list[int]) -> None:
    store.extract(photos, model="efficientnet_lite0", device="cpu")
    counted.clear()
    file = photos / "flower" / "flower1.jpg"
    encoder = _images(store).fit([])
    assert np.array_equal(*encoder.transform([file, file.read_bytes()]))
    assert counted == []


def test_what_was_stored_in_another_space_is_not_used(store: Store, counted: list[int]) -> None:
    encoder = _texts(store).fit(TEXTS)
    encoder.transform(TEXTS[:2])
    assert counted == [2]
    other = next(card for card in store.models() if card.modality == "image")
    encoder.space_id_ = other.space_id
    with pytest.raises(UsageError, match="12 of 12 items"):  # texts are taken for paths
        encoder.transform(TEXTS)


@pytest.mark.parametrize(
    "make",
    [
        list, tuple, np.array, pd.Series, lambda t: pd.DataFrame({"text": t}), pl.Series,
        lambda t: pl.DataFrame({"text": t}), lambda t: np.array(t)[:, None], lambda t: np.array(t, object),
        lambda t: pl.DataFrame({"text": t}).to_arrow(), lambda t: [s.encode() for s in t], lambda t: [[s] for s in t],
        lambda t: pd.Series(t, dtype="string"),
    ],
)  # fmt: skip
def test_every_usual_container_of_texts_is_taken(store: Store, make: Any) -> None:
    encoder = _texts(store).fit(TEXTS[:3])
    assert encoder.transform(make(TEXTS[:3])).tobytes() == encoder.transform(TEXTS[:3]).tobytes()


def test_paths_bytes_and_pixels_of_one_picture_give_one_vector(store: Store, photos: Path, tmp_path: Path) -> None:
    file = photos / "building" / "building2.png"
    picture = Image.open(file)
    pixels = np.asarray(picture)
    found = _images(store).fit_transform([file, str(file), file.read_bytes(), pixels])
    assert (found == found[0]).all()
    batch = np.stack([pixels[:200, :200], pixels[50:250, :200]])
    assert _images(store).fit_transform(batch).shape == (2, 1280)
    grey, clear = np.asarray(picture.convert("L")), np.asarray(picture.convert("RGBA"))
    picture.convert("L").save(tmp_path / "grey.png")
    found = _images(store).fit_transform([grey, tmp_path / "grey.png", clear, pixels])
    assert (found[0] == found[1]).all()
    assert (found[2] == found[3]).all()
    (tmp_path / "text.txt").write_text(TEXTS[0])
    texts = _texts(store).fit_transform([tmp_path / "text.txt", TEXTS[0]])
    assert (texts[0] == texts[1]).all()


def test_bad_items_raise_or_become_nan(store: Store, photos: Path, tmp_path: Path) -> None:
    good = photos / "flower" / "flower0.jpg"
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:400])
    os.mkfifo(tmp_path / "pipe.jpg")
    items: list[Any] = [good, tmp_path / "broken.jpg", tmp_path / "absent.jpg", b"", tmp_path / "pipe.jpg"]
    with pytest.raises(UsageError, match=r"4 of 5 items.*X\[1\].*broken") as caught:
        _images(store).fit_transform(items)
    assert caught.value.context["rows"] == [1, 2, 3, 4]
    with pytest.raises(UsageError, match="no such file"):
        _images(store).fit_transform(items[2:3])
    with pytest.warns(UserWarning, match="4 of 5 items"):
        found = _images(store, errors="nan").fit_transform(items)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, True, True]
    with pytest.warns(UserWarning, match="1 of 2"):
        found = _texts(store, errors="nan").fit_transform(["  ", "a"])
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("one.jpg", "one item"),
        ([1, 2], "is a int"),
        ([None], "NoneType"),
        (np.zeros((2, 4)), "float64"),
        (5, "is a int"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "2 columns"),
        ([np.zeros((4, 4, 2), np.uint8)], r"\(4, 4, 2\)"),
        ([np.zeros((4, 4, 3), np.float32)], "float32"),
    ],
)
def test_what_is_no_list_of_images_is_refused(store: Store, items: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _images(store).fit([]).transform(items)


def test_wrong_parameters_are_refused_at_fit(store: Store) -> None:
    with pytest.raises(UsageError, match="no model was named"):
        FeatstoreEncoder(store=store.path).fit(TEXTS)
    with pytest.raises(NotFoundError):
        FeatstoreEncoder("resnet51", store=store.path).fit(TEXTS)
    for wrong in ({"errors": "ignore"}, {"device": "tpu"}, {"workers": 0}, {"dim": 0}):
        with pytest.raises(SettingsError):
            _texts(store).set_params(**wrong).fit(TEXTS)
    with pytest.raises(NotFittedError):
        _texts(store).transform(TEXTS)


def test_it_works_in_a_pipeline_and_a_grid_search(store: Store, counted: list[int]) -> None:
    pipe = Pipeline([("vectors", _texts(store)), ("classify", LogisticRegression())])
    search = GridSearchCV(pipe, {"classify__C": [0.1, 10.0], "vectors__query": [False, True]}, cv=3)
    search.fit(TEXTS, TOPICS)
    assert search.best_score_ > 0.5
    assert set(search.predict(TEXTS)) == set(TOPICS)
    assert sum(counted) == 24  # each text once for each kind of prompt, whatever the folds


def test_it_classifies_photographs(store: Store, photos: Path) -> None:
    paths = sorted(map(str, photos.rglob("*.*")))
    labels = [Path(path).parent.name for path in paths]
    scores = cross_val_score(make_pipeline(_images(store), LogisticRegression(max_iter=500)), paths, labels, cv=3)
    assert scores.mean() > 0.9


def test_it_takes_a_column_of_a_frame_and_names_its_own(store: Store) -> None:
    frame = pd.DataFrame({"text": TEXTS, "length": [len(t) for t in TEXTS]}, index=range(100, 112))
    columns = ColumnTransformer([("t", _texts(store), "text"), ("l", "passthrough", ["length"])])
    assert columns.fit_transform(frame).shape == (12, 385)
    assert columns.get_feature_names_out()[[0, -1]].tolist() == ["t__featstoreencoder0", "l__length"]
    encoder = _texts(store).set_output(transform="pandas").fit(frame["text"])
    found = encoder.transform(frame["text"])
    assert found.columns.tolist() == encoder.get_feature_names_out().tolist()
    assert found.index.tolist() == list(range(100, 112))
    assert (found.dtypes == "float32").all()
    assert encoder.transform(TEXTS[:2]).shape == (2, 384)
    assert _texts(store).set_output(transform="polars").fit_transform(TEXTS[:2]).width == 384


def test_clones_and_parameters_keep_to_the_conventions(store: Store) -> None:
    encoder = _texts(store, dim=7, prompt_query="q: ")
    copied = clone(encoder)
    assert copied.get_params() == encoder.get_params()
    assert not hasattr(copied, "space_id_")
    assert encoder.set_params(dim=None, prompt_query=None).dim is None
    assert "FeatstoreEncoder(" in repr(encoder)
    assert encoder.fit(TEXTS) is encoder


@pytest.mark.heavy
def test_a_pickled_encoder_holds_no_model_and_works_in_another_process(store: Store, tmp_path: Path) -> None:
    encoder = _texts(store).fit(TEXTS)
    expected = encoder.transform(TEXTS)
    data = pickle.dumps(encoder)
    assert len(data) < 2000
    (tmp_path / "encoder.pickle").write_bytes(data)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    program = (
        "import pickle, sys, numpy as np\n"
        "encoder = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "found = encoder.transform(open(sys.argv[2]).read().split('\\n'))\n"
        "np.save(sys.argv[3], found); print('torch' in sys.modules)\n"
    )
    arguments = [str(tmp_path / name) for name in ("encoder.pickle", "texts.txt", "found.npy")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr
    assert np.load(tmp_path / "found.npy").tobytes() == expected.tobytes()


def test_a_name_that_leads_elsewhere_now_is_refused(store: Store, model_store: Path, tmp_path: Path) -> None:
    encoder = _texts(store).fit(TEXTS)
    encoder.space_id_ = "minilm-of-another-day-00000000"
    with pytest.raises(SpaceMismatchError, match="another-day"):
        encoder.transform(TEXTS)
    elsewhere = _texts(store).fit(TEXTS)
    elsewhere.store = copy_models(model_store, tmp_path / "second")
    assert elsewhere.transform(TEXTS[:1]).shape == (1, 384)


def test_the_query_prompt_keeps_stored_documents_out(store: Store, texts_csv: Path, counted: list[int]) -> None:
    """Minilm has one prompt for both, so a card with two is made here."""
    from dataclasses import replace

    from featstore.encoder.contents import gather
    from featstore.settings import ExtractSettings

    table = store.extract(texts_csv, model="minilm", text_column="text", id_column="id", device="cpu")
    counted.clear()
    card = table.card
    assert card.text is not None
    prompted = replace(card, digest="another", text=replace(card.text, prompt_query="query: "))
    settings = ExtractSettings(source="", model="minilm", device="cpu")
    contents = gather(TEXTS[:2], "text")
    supply.supply(store.layout, prompted, contents, settings, query=False, memory=0)
    assert counted == []
    found = supply.supply(store.layout, prompted, contents, settings, query=True, memory=0)
    assert (found.stored, found.embedded, counted) == (0, 2, [2])


def test_memory_forgets_the_oldest_first(store: Store, counted: list[int]) -> None:
    encoder = _texts(store, memory_mb=1).fit([])
    many = [f"number {i}" for i in range(700)]  # 1536 bytes each; 682 make a megabyte
    encoder.transform(many)
    encoder.transform(many[-600:])
    assert counted == [700]
    encoder.transform(many[:10])
    assert counted == [700, 10]


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_scikit_learns_own_checks_find_nothing(store: Store, check: str) -> None:
    """Those that need no ``X``: the others give numbers, which are neither images nor texts."""
    getattr(estimator_checks, check)("FeatstoreEncoder", _texts(store))


def test_transforming_changes_nothing_in_the_encoder_or_the_items(store: Store) -> None:
    encoder = _texts(store).fit(TEXTS)
    before, items = dict(vars(encoder)), list(TEXTS)
    encoder.transform(items)
    assert vars(encoder) == before
    assert items == TEXTS


def test_the_package_offers_it_without_importing_scikit_learn() -> None:
    loaded = "print('sklearn' in sys.modules)"
    code = f"import sys, featstore; {loaded}; featstore.FeatstoreEncoder; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False\nTrue"
    with pytest.raises(AttributeError):
        _ = featstore.nothing


@pytest.mark.parametrize("item", ["a\0b.png", "\ud800.png"])
def test_what_cannot_be_a_path_is_named(item, model_store, tmp_path):
    encoder = FeatstoreEncoder(model="efficientnet_lite0", store=fresh(model_store, tmp_path).path)
    with pytest.raises(UsageError, match=r"X\[0\] is no path"):
        encoder.fit_transform([item])


def test_a_path_as_an_array_of_no_dimension_is_a_path(model_store, tmp_path):
    encoder = FeatstoreEncoder(model="efficientnet_lite0", store=fresh(model_store, tmp_path).path)
    picture = tmp_path / "one.png"
    Image.new("RGB", (40, 30), (9, 99, 199)).save(picture)
    assert encoder.fit_transform([np.array(str(picture))]).shape == (1, 1280)
