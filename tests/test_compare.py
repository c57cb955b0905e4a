"""Several models on one sample of a source: judged on the same folds, timed on the same items."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cli_world import inside, schema
from own_models import image_card, image_model, save
from PIL import Image
from stores import copy_models, fresh, write_texts

import featstore
from featstore import heads, models
from featstore.errors import NotFoundError, SettingsError, UsageError
from featstore.heads import probe
from featstore.models import ModelRequest

# What is learned for all of these tests is learned once, by one worker.
pytestmark = pytest.mark.xdist_group("compare")

GOOD = "efficientnet_lite0"


@pytest.fixture(scope="module")
def world(model_store, tmp_path_factory):
    """A store with two image models, one of them random; its path and the random one's space."""
    folder = tmp_path_factory.mktemp("compare")
    store = featstore.open(copy_models(model_store, folder / "models", GOOD))
    network = save(folder, image_model(), image_card())
    return store.path, models.ensure(store.layout, ModelRequest(model=str(network))).space_id


@pytest.fixture
def store(world, tmp_path):
    return featstore.open(copy_models(world[0], tmp_path / "store"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty photographs of each of two scenes, from different places of them."""
    from sklearn.datasets import load_sample_image

    folder = tmp_path_factory.mktemp("pictures") / "scenes"
    generator = np.random.default_rng(0)
    for label, name in (("building", "china.jpg"), ("flower", "flower.jpg")):
        (folder / label).mkdir(parents=True)
        whole = Image.fromarray(load_sample_image(name))
        for at in range(40):
            left, top = int(generator.integers(0, 500)), int(generator.integers(0, 300))
            whole.crop((left, top, left + 130, top + 120)).save(folder / label / f"{label}{at:02d}.jpg")
    return folder


# ── the whole ─────────────────────────────────────────────────────────────────────────────────


def test_models_are_judged_on_labels_and_the_vectors_stay(store, world, pictures, tmp_path):
    random = world[1]
    found = store.compare(pictures, [GOOD, random], label_from="folder", sample=60, output=tmp_path / "sheets")
    assert (found.source_items, found.sampled, found.compared, found.labelled) == (80, 60, 60, 60)
    assert (found.classes, found.folds, found.table) == (2, 5, "scenes")
    good, other = found.models
    assert (good.model, other.space_id) == (GOOD, random)
    assert good.accuracy > 0.9
    assert good.accuracy >= other.accuracy
    assert found.best == good.space_id
    assert good.difference is None
    assert other.difference == pytest.approx(other.accuracy - good.accuracy, abs=1e-5)
    assert other.difference_low <= other.difference <= other.difference_high
    assert 0.4 < found.majority < 0.7
    for model in found.models:
        assert (model.stored, model.reused, model.rejected) == (60, 0, 0)
        assert model.items_per_s > 0
        assert model.whole_seconds == pytest.approx(80 / model.items_per_s, rel=0.05, abs=0.1)
        table = store.table(f"scenes@{model.space_id}")
        assert len(table) == 60
        assert table.dim == model.dim
    assert (good.licence, other.licence) == ("Apache-2.0", "MIT")
    assert good.parameters > 500_000
    assert good.model_bytes > 1_000_000
    assert 0 < other.parameters < other.model_bytes < 10_000

    # The same five queries for both, as pictures.
    assert len(found.queries) == 5
    assert len(found.files) == 2
    for file in found.files:
        with Image.open(file) as sheet:
            assert sheet.format == "PNG"
            assert sheet.height > 5 * 96
    assert Path(found.files[0]).read_bytes() != Path(found.files[1]).read_bytes()

    # A later extract, and a later comparison, reuse what is there.
    whole = store.extract(pictures, model=GOOD)
    assert (whole.last_run.stored, whole.last_run.reused) == (20, 60)
    again = store.compare(pictures, [GOOD, random], sample=60)
    assert [(m.stored, m.reused) for m in again.models] == [(0, 60), (0, 60)]
    assert [m.accuracy for m in again.models] == [m.accuracy for m in found.models], "labels are remembered"
    assert again.queries == found.queries
    assert all(m.items_per_s > 0 for m in again.models), "timed although the vectors were there"
    assert len(store.table(f"scenes@{good.space_id}")) == 80


def test_without_labels_neighbourhoods_are_compared(store, world, photos, tmp_path):
    random = world[1]
    found = store.compare(photos, [GOOD, random])
    assert (found.folds, found.labelled, found.best, found.majority) == (0, 0, None, None)
    assert all(model.accuracy is None and model.difference is None for model in found.models)
    assert found.neighbours == 10
    spaces = [model.space_id for model in found.models]
    assert found.overlap[spaces[0]][spaces[0]] == 1
    # Of 12 items an item has 11 others: two models share at least 9 of the 10 nearest.
    assert 0.9 <= found.overlap[spaces[0]][spaces[1]] < 1
    assert found.overlap[spaces[0]][spaces[1]] == found.overlap[spaces[1]][spaces[0]]
    assert found.files == ()


def test_texts_get_their_neighbours_in_writing(model_store, texts_csv, tmp_path):
    store = fresh(model_store, tmp_path)
    found = store.compare(
        texts_csv, ["minilm"], text_column="text", id_column="id", label_column="topic", output=tmp_path / "out"
    )
    assert any("fewer than 5 groups" in warning for warning in found.warnings), "3 sentences a topic cannot be judged"
    assert found.rare == {"cats": 3, "code": 3, "food": 3, "money": 3}
    assert (found.modality, found.folds) == ("text", 0)
    (file,) = found.files
    written = Path(file).read_text("utf-8")
    assert written.count(" query ") == 5
    assert "The cat sat on the mat" in written
    assert "[cats]" in written


@pytest.mark.heavy
def test_groups_are_kept_together_and_odd_rows_are_left_out(model_store, tmp_path):
    """Labels that only name the group are learnt by heart, and no probe that keeps groups whole finds any."""
    store = fresh(model_store, tmp_path)
    generator = np.random.default_rng(0)
    words = ["river", "stone", "table", "cloud", "engine", "paper", "garden", "window", "letter", "music"]
    texts, groups, labels = {}, {}, {}
    for group in range(20):
        subject = " ".join(generator.choice(words, 4))
        for part in range(4):
            item = f"g{group:02d}-{part}"
            texts[item], groups[item] = f"{subject}, part {part} of it", f"g{group}"
            labels[item] = "ab"[int(generator.integers(2))] if part == 0 else labels[f"g{group:02d}-0"]
    texts["unlabelled"], labels["lonely"], texts["lonely"] = "nothing is known", "c", "the only one of its class"
    source = write_texts(tmp_path / "notes.jsonl", texts, product=groups, label=labels)
    how = {"text_column": "text", "id_column": "id", "label_column": "label"}
    free = store.compare(source, ["minilm"], name="free", **how)
    bound = store.compare(source, ["minilm"], name="bound", group_column="product", **how)
    assert free.labelled == bound.labelled == 80
    assert free.rare == {"c": 1}
    assert free.models[0].accuracy > 0.85
    assert bound.models[0].accuracy < 0.75


@pytest.mark.heavy
def test_items_that_a_model_refuses_are_left_out_and_told(store, world, pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "scenes")
    for at in range(20):
        (folder / "flower" / f"broken{at}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture %d" % at)
    found = store.compare(folder, [GOOD], label_from="folder")
    assert (found.sampled, found.compared, found.labelled) == (100, 80, 80)
    assert found.models[0].rejected == 20
    assert any("lack a vector" in warning for warning in found.warnings)
    assert any("were rejected" in warning for warning in found.warnings), "too many rejects end no comparison"


# ── what is refused ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("models", "settings", "error", "message"),
    [
        ([GOOD, "minilm"], {}, UsageError, "images and of texts cannot be compared: efficientnet_lite0 for images"),
        ([GOOD, "efficientnet_lite9"], {}, NotFoundError, "efficientnet_lite9"),
        ([], {}, SettingsError, "no models"),
        ([GOOD, ""], {}, SettingsError, "no models"),
        ([GOOD, GOOD], {}, SettingsError, "named twice"),
        ([GOOD], {"dim": 64}, SettingsError, "--dim belongs to one model"),
        ([GOOD], {"weights": "w.pth"}, SettingsError, "--weights belongs to one model"),
        ([GOOD], {"limit": 5}, SettingsError, "--limit has no place"),
        ([GOOD], {"sample": 0}, SettingsError, "sample"),
        ([GOOD], {"labels_from": "folder"}, SettingsError, "did you mean 'label_from'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    model_store, photos, tmp_path, models, settings, error, message
):
    store = fresh(model_store, tmp_path)
    with pytest.raises(error, match=message):
        store.compare(photos, models, **settings)
    assert store.tables() == []


def test_chunked_texts_are_not_compared(model_store, texts_csv, tmp_path):
    store = fresh(model_store, tmp_path)
    with pytest.raises(SettingsError, match="each model's own tokens"):
        store.compare(texts_csv, ["minilm"], text_column="text", chunk_tokens=16)


def test_a_list_on_stdin_is_not_compared(model_store, tmp_path):
    with pytest.raises(UsageError, match="only once"):
        fresh(model_store, tmp_path).compare("-", [GOOD], name="list")


def test_one_model_by_two_names_is_compared_once(model_store, photos, tmp_path):
    store = fresh(model_store, tmp_path)
    space_id = next(card.space_id for card in store.models() if card.modality == "image")
    found = store.compare(photos, [GOOD, space_id])
    assert [model.model for model in found.models] == [GOOD]
    assert any("compared once" in warning for warning in found.warnings)


# ── the command ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_the_command_prints_a_table_or_json(store, world, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "scenes")
    arguments = ["models", "compare", "scenes", "--models", f"{GOOD},{world[1]}", "--label-from", "folder"]
    arguments += ["--store", str(store.path), "--sample", "40", "-q"]
    done = inside(*arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "scenes: 40 of 80 image items compared"
    assert "5 folds" in lines[1]
    assert lines[2].split()[:3] == ["backbone", "accuracy", "balanced"]
    assert sum(" best " in line for line in lines) == 1
    assert any("nearest are the same" in line for line in lines)
    as_json = inside(*arguments, "--json", cwd=tmp_path)
    jsonschema.validate(as_json.json, schema("outputs/models-compare.json"))
    assert [m["reused"] for m in as_json.json["models"]] == [40, 40]
    assert json.dumps(as_json.json)
    mixed = inside("models", "compare", "scenes", "--models", f"{GOOD},minilm", "--store", store.path, cwd=tmp_path)
    assert mixed.code == 2
    assert "cannot be compared" in mixed.err


# ── the parts, where the truth is known ───────────────────────────────────────────────────────


def cloud(classes: int, each: int, *, apart: float, seed: int = 0, dim: int = 16):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, dim)) * apart
    labels = np.repeat(np.arange(classes), each)
    return (centres[labels] + generator.normal(size=(len(labels), dim))).astype(np.float32), labels


def test_a_probe_finds_what_is_there_and_nothing_else():
    vectors, labels = cloud(3, 60, apart=3)
    folds = heads.fold(labels, np.arange(180), 5)
    assert (heads.predict_out_of_fold(vectors, labels, folds) == labels).mean() > 0.95
    shuffled = np.random.default_rng(1).permutation(labels)
    folds = heads.fold(shuffled, np.arange(180), 5)
    by_chance = (heads.predict_out_of_fold(vectors, shuffled, folds) == shuffled).mean()
    assert 0.2 < by_chance < 0.47, "labels without meaning are guessed, not learnt by heart"


@pytest.mark.parametrize("change", ["scaled", "one large value", "far away", "dead values", "tiny"])
def test_a_probe_does_not_depend_on_the_scale_of_the_vectors(change):
    vectors, labels = cloud(3, 60, apart=1.5)
    if change == "scaled":
        vectors = vectors * 1e4
    elif change == "one large value":
        vectors[:, 0] = np.random.default_rng(2).normal(size=180) * 1000
    elif change == "far away":
        vectors = vectors + 100
    elif change == "dead values":
        vectors[:, :2] = 7
    else:
        vectors = vectors * 1e-6
    folds = heads.fold(labels, np.arange(180), 5)
    assert (heads.predict_out_of_fold(vectors, labels, folds) == labels).mean() > 0.9


def test_folds_keep_groups_whole_and_classes_even():
    generator = np.random.default_rng(0)
    groups = heads.bind([f"g{g}" for g in generator.integers(0, 60, 300)])
    labels = generator.integers(0, 3, 300)
    folds = heads.fold(labels, groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    for label in range(3):
        shares = np.bincount(folds[labels == label], minlength=5) / (labels == label).sum()
        assert shares.min() > 0.1
    assert (heads.fold(labels, groups, 5) == folds).all()


def test_groups_are_bound_through_others():
    #         0     1     2     3    4
    groups = ["a", "a", None, "b", None]
    twins = ["x", "y", "y", "z", "w"]
    assert heads.bind(groups, twins).tolist() == [0, 0, 0, 1, 2]
    assert heads.bind([None, None]).tolist() == [0, 1]
    assert heads.rare(["p", "p", "q", "q"], np.array([0, 0, 1, 2]), 2) == {"p": 2}


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Pairs with a known mean difference: 95 % intervals must hold it in about 95 of 100 tries."""
    generator = np.random.default_rng(0)
    covered = 0
    for attempt in range(200):
        differences = generator.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.75, 0.15])
        _, low, high = heads.paired_interval(differences, np.arange(300), draws=500, seed=attempt)
        covered += low <= 0.05 <= high
    assert 180 <= covered <= 199


def test_the_interval_knows_that_items_of_a_group_are_no_news():
    generator = np.random.default_rng(0)
    one = generator.choice([-1.0, 0.0, 1.0], 100, p=[0.2, 0.5, 0.3])
    _, low, high = heads.paired_interval(one, np.arange(100))
    _, low_many, high_many = heads.paired_interval(np.repeat(one, 9), np.repeat(np.arange(100), 9))
    assert (high_many - low_many) == pytest.approx(high - low, rel=0.05)
    assert heads.paired_interval(np.zeros(10), np.arange(10)) == (0, 0, 0)


def test_balanced_accuracy_counts_classes_alike():
    labels, predicted = np.array([0] * 8 + [1] * 2), np.zeros(10, int)
    assert heads.balanced_accuracy(labels, predicted) == 0.5


def test_overlap_is_what_a_slow_count_gives():
    from featstore.compare.agreement import farthest, overlap

    generator = np.random.default_rng(0)
    spaces = {
        "a": generator.normal(size=(40, 8)).astype(np.float32),
        "b": generator.normal(size=(40, 5)).astype(np.float32),
    }
    spaces["c"] = spaces["a"] @ np.linalg.qr(generator.normal(size=(8, 8)))[0].astype(np.float32)

    def neighbours(vectors, item):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        order = np.argsort(-(unit @ unit[item]))
        return set(order[order != item][:10].tolist())

    found = overlap(spaces, np.arange(40), 10)
    expected = np.mean([len(neighbours(spaces["a"], i) & neighbours(spaces["b"], i)) / 10 for i in range(40)])
    assert found["a"]["b"] == pytest.approx(expected, abs=1e-6)
    assert found["a"]["c"] == 1, "a rotation changes no neighbour"
    corners = np.concatenate([np.tile(row, (5, 1)) for row in np.eye(4)]).astype(np.float32)
    corners += generator.normal(size=corners.shape).astype(np.float32) * 0.01
    assert sorted(at // 5 for at in farthest({"a": corners}, 4).tolist()) == [0, 1, 2, 3]


def test_agreement_is_told_beside_chance_and_not_where_all_are_neighbours(store, world, photos, tmp_path):
    few = store.compare(photos, [GOOD, world[1]], sample=5, name="few")
    assert (few.neighbours, few.overlap, few.chance) == (4, {}, None)
    arguments = ["models", "compare", str(photos), "--models", f"{GOOD},{world[1]}", "--store", str(store.path), "-q"]
    told = inside(*arguments, "--name", "all", cwd=tmp_path)
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert any("of the 10 nearest are the same" in line for line in lines)
    assert "90.9% would be by chance" in lines  # 10 of 11 others
    assert "nearest are the same" not in inside(*arguments, "--name", "few", "--sample", "5", cwd=tmp_path).out


def test_a_weak_penalty_is_fitted_to_its_end():
    """Classes that differ in directions of little spread: only a fit that goes on finds them."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 800)
    centres = generator.normal(size=(5, 48)) * 0.4
    vectors = centres[labels] + generator.normal(size=(800, 48)) * np.linspace(3, 0.02, 48)
    scale = probe._unit(vectors[:600].astype(np.float32))
    known, others = (scale(part.astype(np.float32)) for part in (vectors[:600], vectors[600:]))
    exact = LogisticRegression(C=1000, max_iter=10_000, tol=1e-8).fit(known, labels[:600]).predict(others)
    assert (probe._fit(known, labels[:600], 1000.0)(others) == exact).mean() > 0.98
