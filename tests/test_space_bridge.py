"""Bridges from model to model: exact where one is the other turned, honest where nothing is common; search."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bridge_world import add_table, card_of
from cli_world import environment, inside, schema
from faults import Faulty
from jsonschema import validate
from numpy.typing import NDArray
from spaces import embedded, letters, minilm_then, rotation, sayings, table_of
from stores import copy_models, damage, write_texts
from threadpoolctl import threadpool_limits

import featstore
from featstore.bridge import learn_spaces, open_space_bridge, publish_spaces, space_bridges
from featstore.bridge.maps import Map, unit
from featstore.bridge.spaces_held_out import learn
from featstore.bridge.spaces_items import shared
from featstore.bridge.weights import artefact
from featstore.errors import (
    FeatstoreError,
    GateError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
    StorageError,
    UsageError,
)
from featstore.records import SpaceBridgeCard
from featstore.storage import documents, durable
from featstore.store import Store

pytestmark = pytest.mark.xdist_group("space_bridge")

# Another order of the letters' values than "old" has, and more of them: a model of its own.
OTHER = table_of(32, seed=5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The matrices are small: on busy cores the threads of a product would mostly wait for each other."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="module")
def made(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``sayings`` by old, new (old turned) and other, and a bridge from new to old; not to be changed."""
    old = table_of()
    folder = tmp_path_factory.mktemp("spaces")
    embedded(model_store, folder, old=old, new=old @ rotation(24), other=OTHER)
    featstore.open(folder / "featstore-data").bridge_spaces("sayings@new", "sayings@old")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Store:
    """A copy that a test may change."""
    shutil.copytree(made / "featstore-data", tmp_path / "featstore-data")
    return featstore.open(tmp_path / "featstore-data")


def _space(store: Store, model: str) -> str:
    return store.table(f"sayings@{model}").space_id


def _bridge_files(store: Store, pattern: str) -> list[Path]:
    return sorted((store.path / "crossings").glob(f"*/*/{pattern}"))


# ── what is learned ───────────────────────────────────────────────────────────────────────────


def test_a_rotation_is_found_exactly(store: Store) -> None:
    (card,) = store.space_bridges()
    assert (card.from_space, card.to_space) == (_space(store, "new"), _space(store, "old"))
    assert (card.table, card.from_version, card.to_version) == ("sayings", 0, 0)
    assert (card.from_dim, card.to_dim, card.items) == (24, 24, 300)
    assert card.groups == card.queries <= card.items
    for figures in (card.itself, card.neighbours, card.reembedded, card.old):
        assert [(figure.k, figure.value, figure.low, figure.high) for figure in figures] == [
            (1, 1, 1, 1),
            (10, 1, 1, 1),
        ]
    bridge = open_space_bridge(store.layout, card.from_space, card.to_space)
    assert bridge is not None
    ids, new = store.table("sayings@new").matrix()
    at = {item: row for row, item in enumerate(ids)}
    others, old = store.table("sayings@old").matrix()
    found = bridge.project(new[[at[item] for item in others]])
    np.testing.assert_allclose(found, unit(old), atol=1e-3)
    assert found.dtype == np.float32
    assert open_space_bridge(store.layout, card.to_space, card.from_space) is None
    with pytest.raises(SpaceMismatchError, match=rf"24 values, those of {card.from_space}"):
        bridge.project(new[:, :7])


def test_another_model_is_met_in_part_and_the_figures_say_so(store: Store) -> None:
    card = store.bridge_spaces("sayings@other", "sayings@old").card
    assert (card.from_dim, card.to_dim) == (32, 24)
    for figures in (card.itself, card.neighbours, card.reembedded, card.old):
        for figure in figures:
            assert figure.chance < figure.low <= figure.value <= figure.high <= 1
    assert card.itself[0].chance == pytest.approx(1 / card.gallery, rel=0.1)
    assert card.reembedded[1].chance == pytest.approx(10 / (card.gallery - 1), rel=0.1)
    assert card.itself[1].value > 0.9 > card.reembedded[1].value


def test_the_figures_are_those_of_new_items_in_a_search(store: Store, made: Path) -> None:
    """What the card says, done by hand with texts that the bridge was not learned from, through the public search."""
    card = store.bridge_spaces("sayings@other", "sayings@old").card
    fresh = write_texts(store.path.parent / "fresh.jsonl", dict(list(sayings(600).items())[300:]))
    tables = {
        name: store.extract(fresh, model=str(made / "models" / f"{name}.onnx"), name="fresh", id_column="id")
        for name in ("old", "other")
    }
    chance = np.random.default_rng(0)
    ids = sorted(str(item) for item in tables["old"].matrix()[0])
    shares = []
    for _ in range(6):
        some = [str(item) for item in chance.permutation(ids)[: round(card.gallery)]]
        where = f"item_id IN ({', '.join(repr(item) for item in some)})"
        texts = [sayings(600)[item] for item in some]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mapped = tables["old"].search(text=texts, model="other", k=11, where=where)
            truth = tables["other"].search(text=texts, k=11, where=where)
        for item, text in zip(some, texts, strict=True):
            wanted, got = (
                [one for one in found.filter(found["query"] == text)["item_id"] if one != item][:10]
                for found in (truth, mapped)
            )
            shares.append(len({*wanted} & {*got}) / 10)
    assert np.mean(shares) == pytest.approx(card.reembedded[1].value, abs=0.06)


def test_the_intervals_hold_what_they_are_about() -> None:
    """Of maps between worlds made by chance, the truth is measured on many new items in galleries of the same size."""
    inside_, count = 0, 20
    for seed in range(count):
        chance = np.random.default_rng(seed)
        turn = chance.standard_normal((10, 8))

        def draw(n: int, turn: NDArray[np.float64] = turn, chance: np.random.Generator = chance) -> list[np.ndarray]:
            x = chance.standard_normal((n, 10)).astype(np.float32)
            return [unit(x), unit((x @ turn + 2 * chance.standard_normal((n, 8))).astype(np.float32))]

        found = learn(*draw(250), np.arange(250))
        assert found.gallery == 50
        x, y = draw(5000)
        scores = np.einsum("gij,gkj->gik", found.map.apply(x).reshape(100, 50, 8), y.reshape(100, 50, 8))
        ranks = (scores >= np.einsum("gii->gi", scores)[:, :, None]).sum(axis=2) - 1
        inside_ += found.itself[1].low <= (ranks < 10).mean() <= found.itself[1].high
    assert inside_ >= 0.75 * count


def test_the_same_items_give_the_same_bytes_and_a_second_bridge_takes_the_place(store: Store) -> None:
    before = {path.name: path.read_bytes() for path in _bridge_files(store, "*")}
    (first,) = store.space_bridges()
    again = store.bridge_spaces("sayings@new", "sayings@old")
    assert again.kept
    assert dataclasses.replace(again.card, created_ts=first.created_ts) == first
    assert {path.name for path in _bridge_files(store, "*")} == before.keys()
    dry = store.bridge_spaces("sayings@other", "sayings@old", dry_run=True)
    assert not dry.kept
    assert not Path(dry.path).exists()
    assert len(store.space_bridges()) == 1


@pytest.mark.heavy
def test_a_real_model_that_is_another_turned(model_store: Path, tmp_path: Path) -> None:
    store = featstore.open(copy_models(model_store, tmp_path / "store"))
    source = write_texts(tmp_path / "sayings.jsonl", sayings(120))
    spun = minilm_then(model_store, tmp_path / "models", "spun", rotation(384))
    for model in (str(spun), "minilm"):
        store.extract(source, model=model, name="sayings", id_column="id")
    card = store.bridge_spaces("sayings@spun", "sayings@minilm").card
    assert card.itself[0].value == 1
    assert card.reembedded[1].value > 0.97


# ── honest figures ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["unrelated", "mixed up", "all alike"])
def test_where_nothing_is_in_common_chance_is_what_is_reported(how: str) -> None:
    chance = np.random.default_rng(0)
    x, y = (unit(chance.standard_normal((400, dim)).astype(np.float32)) for dim in (40, 24))
    if how == "mixed up":
        y = unit(x[chance.permutation(400)] @ chance.standard_normal((40, 24)).astype(np.float32))
    if how == "all alike":
        x = np.full_like(x, x[0])
    found = learn(x, y, np.arange(400))
    for figures in (found.itself, found.reembedded, found.neighbours) if how != "all alike" else (found.itself,):
        for figure in figures:
            assert figure.low <= figure.chance <= figure.high or figure.value < figure.chance


def test_a_map_that_says_nothing_is_refused_and_the_old_bridge_stays(store: Store) -> None:
    before = store.space_bridges()
    chance = np.random.default_rng(1)
    for model in ("new", "old"):
        vectors = chance.standard_normal((200, 24)).astype(np.float32)
        add_table(store, "noise", vectors, model=_space(store, model))
    with pytest.raises(GateError, match=r"nothing leads from new-\w+ to old-\w+.*recall@1 .*chance") as refused:
        store.bridge_spaces("noise@new", "noise@old")
    assert refused.value.exit_code == 5
    assert store.space_bridges() == before


def test_twins_stay_on_one_side(store: Store) -> None:
    """Every item is there four times, nearly: were its twins learned from, unrelated vectors would seem joined."""
    chance = np.random.default_rng(2)
    for model in ("new", "old"):
        once = np.tile(chance.standard_normal((60, 24)), (4, 1))
        add_table(store, "twins", (once + 1e-3 * chance.standard_normal(once.shape)).astype(np.float32),
                  model=_space(store, model))  # fmt: skip
    x, y = (store.table(f"twins@{model}").matrix()[1] for model in ("new", "old"))
    blind = learn(unit(x), unit(y), np.arange(240))
    assert blind.itself[1].low > blind.itself[1].chance  # what a split that knows nothing of twins would report
    with pytest.raises(GateError, match="60 held-out items"):
        store.bridge_spaces("twins@new", "twins@old")


# ── which items ───────────────────────────────────────────────────────────────────────────────


def test_items_are_joined_by_content_drawn_by_hash_and_zeros_left_out(store: Store) -> None:
    chance = np.random.default_rng(3)
    for model, rows in (("new", 90), ("old", 70)):
        vectors = chance.standard_normal((rows, 24)).astype(np.float32)
        vectors[:, 0] = np.arange(rows)
        vectors[5] = 0
        add_table(store, "part", vectors, model=_space(store, model))
    new, old = (store.table(f"part@{model}").features for model in ("new", "old"))
    both = shared(new, old)
    assert (both.there, both.x.shape, both.y.shape) == (70, (69, 24), (69, 24))
    rows = [row for row in range(70) if row != 5]
    np.testing.assert_allclose(both.x, unit(new.matrix()[1][rows]), atol=1e-6)
    np.testing.assert_allclose(both.y, unit(old.matrix()[1][rows]), atol=1e-6)
    few = shared(new, old, most=20)
    assert (few.there, len(few.x)) == (70, 19)


def test_what_no_bridge_can_be_made_of_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="without a bridge"):
        store.bridge_spaces("sayings@old", "sayings@old")
    with pytest.raises(NotFoundError, match="no vectors of 'never'"):
        store.bridge_spaces("sayings@never", "sayings@old")
    picture = card_of(store, "efficientnet_lite0")
    add_table(store, "sayings", np.eye(60, picture.dim, dtype=np.float32), model=picture.space_id)
    with pytest.raises(UsageError, match=r"takes images and old-\w+ takes texts") as refused:
        store.bridge_spaces("sayings@efficientnet_lite0", "sayings@old")
    assert "--pairs" in str(refused.value)
    for name, rows in (("one", 1), ("few", 49)):
        for model in ("new", "old"):
            vectors = np.random.default_rng(4).standard_normal((rows, 24)).astype(np.float32)
            add_table(store, name, vectors, model=_space(store, model))
        with pytest.raises(UsageError, match=rf"{rows} items of {name} .* at least 50 are needed"):
            store.bridge_spaces(f"{name}@new", f"{name}@old")
    with pytest.raises(UsageError, match="tables of two sources"):
        store.bridge_spaces("one@new", "few@old")
    zeros = np.zeros((60, 24), np.float32)
    for model in ("new", "old"):
        add_table(store, "zeros", zeros, model=_space(store, model))
    with pytest.raises(UsageError, match="0 items of zeros"):
        store.bridge_spaces("zeros@new", "zeros@old")


# ── damage, strangers ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", ["flip", "short", "half", "empty"])
@pytest.mark.parametrize("which", ["card.json", "*.safetensors"])
def test_a_damaged_bridge_gives_no_vector_and_is_found(which: str, change: str, store: Store) -> None:
    (file,) = _bridge_files(store, which)
    damage(file, change, bit=4000)
    with pytest.raises(IntegrityError, match=file.name):
        open_space_bridge(store.layout, _space(store, "new"), _space(store, "old"))
    with pytest.raises(IntegrityError):
        store.table("sayings@old").search(text="an owl", model="new")
    (finding,) = [one for one in store.verify(["sayings@old"], sample=0).findings if one.code == "damaged_bridge"]
    assert (finding.severity, finding.path.split("/")[0]) == ("error", "crossings")
    assert file.name in finding.message
    assert store.table("sayings@old").search(text="an owl", k=1).height == 1  # without the bridge all goes on


def test_a_bridge_without_its_weights_is_damaged(store: Store) -> None:
    (file,) = _bridge_files(store, "*.safetensors")
    file.unlink()
    with pytest.raises(IntegrityError, match=rf"{file.name} is missing"):
        open_space_bridge(store.layout, _space(store, "new"), _space(store, "old"))


def test_a_bridge_of_other_spaces_is_refused_and_both_are_named(store: Store) -> None:
    new, old, other = (_space(store, model) for model in ("new", "old", "other"))
    shutil.copytree(store.path / "crossings" / new / old, store.path / "crossings" / other / old)
    with pytest.raises(SpaceMismatchError, match=rf"leads from {new} to {old}, not from {other} to {old}"):
        store.table("sayings@old").search(text="an owl", model="other")
    with pytest.raises(SpaceMismatchError):
        space_bridges(store.layout)
    assert [card.from_space for card in space_bridges(store.layout, from_space=new)] == [new]


def test_a_model_replaced_under_its_name_leaves_no_bridge(store: Store) -> None:
    new, old = _space(store, "new"), _space(store, "old")
    (card,) = store.space_bridges()
    for field in ("from_digest", "to_digest"):
        strange = dataclasses.replace(card, **{field: "0" * 64})
        documents.write(store.layout.storage, store.layout.crossing(new, old, "card.json"), strange)
        with pytest.raises(SpaceMismatchError, match=r"\(digest 0000") as refused:
            open_space_bridge(store.layout, new, old)
        assert new in str(refused.value)
        assert old in str(refused.value)
        assert f"featstore bridge sayings@{new} --onto sayings@{old}" in str(refused.value)


def test_a_disk_that_fails_leaves_the_old_bridge_or_the_new_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = _space(store, "new"), _space(store, "old")
    first = open_space_bridge(store.layout, new, old)
    assert first is not None
    tables = [store.table(f"sayings@{model}").features for model in ("new", "old")]
    other = learn_spaces(store.layout, *tables)
    moved = Map(other.map.x_mean, other.map.matrix, other.map.y_mean + 1)
    from featstore.bridge.spaces_kept import SpaceBridge, encode

    other = SpaceBridge(dataclasses.replace(other.card, weights=artefact(encode(moved), "bridge")), moved)
    for at in range(1, 100):
        monkeypatch.setattr(durable, "os", Faulty(at))
        try:
            publish_spaces(store.layout, other)
        except StorageError:
            opened = open_space_bridge(store.layout, new, old)
            assert opened is not None
            assert opened.card in (first.card, other.card)
        else:
            break
        finally:
            monkeypatch.undo()
    assert at > 5
    assert store.space_bridges() == [other.card]
    assert {path.name for path in _bridge_files(store, "*")} == {"card.json", other.card.weights.file}


# ── search with another model ─────────────────────────────────────────────────────────────────


def test_queries_of_the_new_model_search_the_old_table_through_its_index(store: Store) -> None:
    store.index("sayings@old", kind="hnsw", recall=0.5)
    old, new = store.table("sayings@old"), store.table("sayings@new")
    text = sayings(600)["s0500"]
    with pytest.warns(UserWarning, match=r"through the bridge to old-\w+: .* 1\.00 \[1\.00–1\.00\] .* by chance"):
        found = old.search(text=text, model="new")
    assert found["item_id"].to_list() == new.search(text=text)["item_id"].to_list()
    searcher = old.searcher(model="new")
    assert searcher.asking.space_id == new.space_id
    assert searcher.answer(searcher.gather(text=text)).how == "hnsw"
    assert old.searcher().asking.space_id == old.space_id
    exact = old.search(text=text, model="new", exact=True)
    assert found["score"].to_list() == pytest.approx(exact["score"].to_list(), abs=1e-5)


def test_the_tables_own_model_changes_nothing(store: Store) -> None:
    old = store.table("sayings@old")
    plain = old.search(text="an owl", k=5)
    for name in ("old", old.space_id, "old-"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert old.search(text="an owl", k=5, model=name).equals(plain)
    item = plain["item_id"][0]
    assert old.search(id=item, k=3, model="old").equals(old.search(id=item, k=3))


def test_the_new_models_prompt_for_queries_is_used(store: Store, made: Path, tmp_path: Path) -> None:
    model = letters(tmp_path / "models", "asker", table_of() @ rotation(24), prompt_query="zzz ")
    store.extract(made / "sayings.jsonl", model=str(model), name="sayings", id_column="id")
    store.bridge_spaces("sayings@asker", "sayings@old")
    old = store.table("sayings@old")
    with pytest.warns(UserWarning, match="through the bridge"):
        asked = old.search(text="an owl", model="asker", k=5)
    prompted = old.search(text="zzz an owl", k=5)
    assert asked["item_id"].to_list() == prompted["item_id"].to_list()
    assert asked["score"].to_list() == pytest.approx(prompted["score"].to_list(), abs=1e-3)


def test_without_a_bridge_both_spaces_and_the_command_are_named(store: Store) -> None:
    old, other = _space(store, "old"), _space(store, "other")
    with pytest.raises(SpaceMismatchError) as refused:
        store.table("sayings@old").search(text="an owl", model="other")
    for part in (old, other, f"featstore bridge sayings@{other} --onto sayings@{old}"):
        assert part in str(refused.value)
    with pytest.raises(SpaceMismatchError, match=r"no bridge leads from the one to the other"):
        store.table("sayings@new").search(text="an owl", model="old")  # a bridge leads one way only
    with pytest.raises(SpaceMismatchError, match="only the two towers"):
        store.table("sayings@old").searcher(model="efficientnet_lite0")


def test_what_the_other_model_is_not_for_is_refused(store: Store) -> None:
    old = store.table("sayings@old")
    with pytest.raises(UsageError, match="is an item of the table") as refused:
        old.search(id="s0001", model="new")
    assert f"sayings@{_space(store, 'new')}" in str(refused.value)
    with pytest.raises(UsageError, match="takes texts, and an image was asked"):
        old.search(image=b"\xff\xd8", model="new")
    with pytest.raises(NotFoundError, match=r"the store has no model 'nobody'; it has: .*old-"):
        old.search(text="an owl", model="nobody")
    with pytest.raises(UsageError, match="'' names no model"):
        old.search(text="an owl", model="")
    shutil.copytree(store.path / "models" / old.space_id, store.path / "models" / "old-again")
    with pytest.raises(UsageError, match="several models of the store begin with 'old'"):
        old.search(text="an owl", model="old")


def test_vectors_are_those_of_the_model_that_is_named(store: Store, tmp_path: Path) -> None:
    card = store.bridge_spaces("sayings@other", "sayings@old").card
    old, other = store.table("sayings@old"), store.table("sayings@other")
    bridge = open_space_bridge(store.layout, card.from_space, card.to_space)
    assert bridge is not None
    vectors = other.matrix()[1][:3]
    by_hand = old.search(vectors=bridge.project(vectors), k=4)
    with pytest.warns(UserWarning, match="through the bridge"):
        assert old.search(vectors=vectors, k=4, model="other").equals(by_hand)
    with pytest.raises(SpaceMismatchError, match=rf"24 values; those of {card.from_space} have 32"):
        old.search(vectors=old.matrix()[1][0], model="other")
    with pytest.raises(SpaceMismatchError, match=rf"32 values; those of {card.to_space} have 24"):
        old.search(vectors=vectors)
    files = {name: tmp_path / f"{name}.parquet" for name in ("old", "other")}
    for name, file in files.items():
        store.table(f"sayings@{name}").export(file)
    whole = old.search(vectors=files["other"], k=1, model="other")
    assert whole.height == 300
    assert (whole["query"] == whole["item_id"]).mean() > 0.5
    with pytest.raises(SpaceMismatchError, match=rf"vectors of {card.from_space}.*{card.to_space}") as refused:
        old.search(vectors=files["other"])
    assert "--model" in str(refused.value)
    with pytest.raises(SpaceMismatchError, match=rf"vectors of {card.to_space}; .* asked with {card.from_space}"):
        old.search(vectors=files["old"], model="other")


# ── the commands ──────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_the_figures_beside_chance(made: Path) -> None:
    done = inside("bridge", "sayings@other", "--onto", "sayings@old", "--dry-run", cwd=made)
    assert done.code == 0, done.err
    for part in ("what the new model finds, recall@10", "the item itself, recall@1", "by chance", "nothing was kept"):
        assert part in done.out
    as_json = inside("bridge", "sayings@other", "--onto", "sayings@old", "--dry-run", "--json", cwd=made)
    validate(as_json.json, schema("outputs/bridge-onto.json"))
    assert as_json.json["card"]["items"] == 300
    assert not as_json.json["kept"]


def test_the_card_keeps_to_its_schema(store: Store) -> None:
    (file,) = _bridge_files(store, "card.json")
    validate(json.loads(file.read_text("utf-8")), schema("documents/space-bridge.json"))
    path = file.relative_to(store.path).as_posix()
    assert documents.read(store.layout.storage, path, SpaceBridgeCard) == store.space_bridges()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bridge", "sayings@new"], 2, "where should the bridge lead?"),
        (["bridge", "sayings@new", "--to", "minilm"], 2, "--pairs is missing"),
        (["bridge", "sayings@new", "--pairs", "text"], 2, "--to is missing"),
        (["bridge", "sayings@new", "--onto", "sayings@old", "--to", "minilm"], 2, "--onto joins two tables"),
        (["bridge", "sayings@new", "--onto", "sayings@new"], 2, "without a bridge"),
        (["search", "sayings@old", "--text", "owl", "--model", "other"], 2, "no bridge leads"),
        (["search", "sayings@old", "--text", "owl", "--model", "nobody"], 2, "has no model 'nobody'"),
    ],
)
def test_the_commands_fail_with_the_errors_code(arguments: list[str], code: int, message: str, made: Path) -> None:
    done = inside(*arguments, cwd=made)
    assert (done.code, done.out) == (code, ""), done.err
    assert message in " ".join(done.err.split())


def test_search_says_through_which_bridge_it_went_and_imports_no_torch(made: Path) -> None:
    program = (
        "import sys\nfrom featstore.cli import main\n"
        "try: main(['search', 'sayings@old', '--text', 'an owl', '--model', 'new', '--json'])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=made, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert "note: queries of new-" in done.stderr
    validate(json.loads(done.stdout), schema("outputs/search.json"))


def test_every_error_of_a_bridge_is_featstores(store: Store) -> None:
    for address in ("nothing@new", "sayings@new:7", "sayings@@"):
        with pytest.raises(FeatstoreError):
            store.bridge_spaces(address, "sayings@old")
