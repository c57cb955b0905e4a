"""Indexes: what is chosen and measured, how they follow their table, and what damage does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_world import World, clustered, items, right
from numpy.typing import NDArray
from stores import damage
from tables_kit import NAME, SPACE

from featstore import index, neighbours
from featstore.errors import GateError, IntegrityError, LockedError, NotFoundError, SpaceMismatchError, UsageError
from featstore.extract.progress import Reporter
from featstore.index import deciding, files, questions, table_index
from featstore.records import IndexCard
from featstore.settings import IndexSettings, resolve
from featstore.storage import documents, locks
from featstore.tables import FeatureTable
from featstore.upkeep.gc import gc
from featstore.upkeep.verify import verify

KINDS = ("flat", "hnsw", "ivf", "ivf-sq8", "ivf-pq")
N, DIM = 1500, 32


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, DIM)
    made.commit(items(clustered(N, DIM)))
    return made


def build(world: World, *, queries: NDArray[np.float32] | None = None, **settings: object) -> IndexCard:
    resolved = resolve(IndexSettings, settings, environ={})[0]
    return index.build(world.layout, world.features, resolved, queries=queries)


def opened(world: World) -> index.TableIndex:
    found = index.open_index(world.layout, world.features)
    assert found is not None
    return found


def path(world: World, file: str, version: int = 0) -> Path:
    return world.layout.storage.local(world.layout.index(NAME, SPACE, version, file))


# ── what is made ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_finds_what_its_card_says(world: World, kind: str) -> None:
    card = build(world, kind=kind, recall=0.9)
    assert (card.action, card.kind, card.items, card.version) == ("built", kind, N, 0)
    assert card.measured is not None
    assert card.measured.recall >= 0.9
    queries = clustered(400, DIM, seed=3)
    found = right(world.features, opened(world), queries)
    assert found >= card.measured.recall - 0.04


def test_auto_is_flat_for_a_small_table_and_says_what_it_did(world: World) -> None:
    card = build(world)
    assert (card.kind, card.measured.recall if card.measured else None) == ("flat", 1.0)
    assert build(world).action == "unchanged"
    assert build(world, rebuild=True).action == "rebuilt"


def test_those_that_are_asked_for_are_not_in_the_index_meanwhile(world: World) -> None:
    tuning, reporting, held = questions.held_out(world.features)
    assert len(tuning) == len(reporting) == N // 20
    assert not set(tuning) & set(reporting)
    assert set(held) == {*tuning, *reporting}
    assert all(
        np.array_equal(a, b) for a, b in zip((tuning, reporting, held), questions.held_out(world.features), strict=True)
    )


def test_twins_of_what_is_asked_for_are_held_out_with_it(tmp_path: Path) -> None:
    world = World(tmp_path, DIM)
    vectors = np.repeat(clustered(200, DIM), 3, axis=0)
    world.commit({f"i{at:04d}": (f"{at // 3:064d}", vector) for at, vector in enumerate(vectors)})
    tuning, reporting, held = questions.held_out(world.features)
    contents = np.array(world.features.rows(["content_sha256"])["content_sha256"].to_pylist())
    asked = contents[[*tuning, *reporting]]
    assert len(set(asked)) == len(asked)
    assert set(held) == set(np.flatnonzero(np.isin(contents, asked)))
    card = build(world, kind="hnsw")
    assert card.items == 600
    assert right(world.features, opened(world), clustered(50, DIM, seed=4)) > 0.9


def test_a_factory_of_ones_own_and_what_faiss_does_not_know(world: World) -> None:
    assert build(world, factory="IVF8,Flat", recall=0.9).kind == "custom"
    assert right(world.features, opened(world), clustered(50, DIM, seed=4)) > 0.85
    with pytest.raises(UsageError, match="Nonsense"):
        build(world, factory="Nonsense9")
    with pytest.raises(UsageError):
        build(world, factory="IVF8,Flat", kind="hnsw")


def test_what_finds_too_little_is_refused_with_the_best_that_was_reached(world: World) -> None:
    before = build(world)
    with pytest.raises(GateError, match="the best is PQ2x4") as refused:
        build(world, factory="PQ2x4", recall=1.0)
    assert 0 < refused.value.context["best_recall"] < 1
    assert refused.value.exit_code == 5
    assert build(world).index == before.index


def test_auto_ends_at_flat_where_nothing_else_finds_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = neighbours.Recipe("custom", "PQ2x4", {"rerank": 1})
    monkeypatch.setattr(neighbours, "recipes", lambda *a, **k: [poor, neighbours.Recipe("flat", "Flat")])
    card = build(world, recall=1.0)
    assert (card.kind, card.measured.recall if card.measured else None) == ("flat", 1.0)


def test_memory_is_kept_to(world: World) -> None:
    card = build(world, memory="80kB", recall=0.5)
    assert card.kind in ("ivf-sq8", "ivf-pq")
    assert card.bytes_per_vector * card.items < 1.5 * 80_000
    with pytest.raises(UsageError, match="1,000 bytes"):
        build(world, memory=1000)


def test_given_queries_are_what_is_measured_and_half_of_them_tune(world: World) -> None:
    asked = clustered(300, DIM, seed=9) + 2
    card = build(world, kind="hnsw", queries=asked)
    assert card.measured is not None
    assert (card.measured.source, card.measured.queries, card.measured.tuned_on) == ("given", 150, 150)
    with pytest.raises(UsageError, match="shape"):
        build(world, queries=asked[:, :5])


def test_the_file_opens_in_plain_faiss_and_the_ids_stand_beside_it(world: World) -> None:
    import faiss

    build(world, kind="hnsw")
    ids = pq.read_table(path(world, "ids.parquet"))
    assert ids.column_names == ["item_id", "content_sha256", "row"]
    vector = world.items["i000777"][1]
    plain = faiss.read_index(str(path(world, "index.faiss")))
    _, labels = plain.search((vector / np.linalg.norm(vector))[None], 1)
    assert ids["item_id"][int(labels[0, 0])].as_py() == "i000777"


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_items_are_no_special_case(tmp_path: Path, count: int) -> None:
    world = World(tmp_path, DIM)
    world.commit(items(clustered(count, DIM)))
    card = build(world)
    assert (card.measured is None) == (count < 4)
    assert (card.note is not None) == (card.measured is None)
    assert right(world.features, opened(world), clustered(5, DIM, seed=1)) == 1.0


def test_an_empty_table_is_named(world: World) -> None:
    world.commit({}, drop=list(world.items))
    with pytest.raises(UsageError, match="no items"):
        build(world)
    assert index.open_index(world.layout, world.features) is None


# ── what is asked ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_is_gives_minus_one_for_the_rest(world: World, kind: str) -> None:
    build(world, kind=kind, recall=0.5)
    rows, scores = opened(world).search(clustered(2, DIM, seed=2), N + 7)
    assert rows.shape == (2, N + 7)
    assert (rows[:, N:] == -1).all()
    assert np.isneginf(scores[:, N:]).all()
    assert (np.sort(rows[:, :N], axis=1) == np.arange(N)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [0, 100])
def test_a_filter_is_kept_to_at_any_share(world: World, kind: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    build(world, kind=kind, recall=0.9)
    found, queries = opened(world), clustered(20, DIM, seed=2)
    monkeypatch.setattr(table_index, "_FEW", few)  # so few are compared by the table's vectors, the others in the index
    for share in (1.0, 0.5, 0.05, 0.01, 0.001, 0.0):
        allowed = np.zeros(N, np.bool_)
        allowed[np.random.default_rng(1).choice(N, round(share * N), replace=False)] = True
        assert right(world.features, found, queries, allowed=allowed) > (0.8 if share * N > few else 0.999), share


@pytest.mark.parametrize(
    ("queries", "k", "said"),
    [
        (np.full((1, DIM), np.nan, np.float32), 5, "finite"),
        (np.full((1, DIM), np.inf, np.float32), 5, "finite"),
        (np.zeros((1, DIM), np.float32), 5, "zeros"),
        (np.ones((1, DIM + 1), np.float32), 5, "values"),
        (np.ones(DIM, np.float32), 5, "shape"),
        (np.ones((1, DIM), np.float32), 0, "k is 0"),
    ],
)
def test_what_cannot_be_asked_is_named(world: World, queries: NDArray[np.float32], k: int, said: str) -> None:
    build(world, kind="hnsw")
    with pytest.raises(UsageError, match=said):
        opened(world).search(queries, k)


def test_a_filter_of_another_length_is_refused(world: World) -> None:
    build(world)
    with pytest.raises(UsageError, match="allowed"):
        opened(world).search(np.ones((1, DIM), np.float32), 3, allowed=np.ones(5, np.bool_))


# ── how it follows its table ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_moved_is_answered_for_as_it_is(world: World, kind: str) -> None:
    build(world, kind=kind, recall=0.9)
    new = items(clustered(40, DIM, seed=5), start=N)
    changed = {f"i{at:06d}": (f"{at:064x}", vector) for at, vector in enumerate(clustered(30, DIM, seed=6), 100)}
    world.commit(new | changed, drop=[f"i{at:06d}" for at in range(50)])
    found = opened(world)
    assert (found.added, found.removed) == (70, 80)
    assert found.note is not None
    assert "featstore index" in found.note
    assert right(world.features, found, clustered(100, DIM, seed=2)) > 0.85
    for item in ("i000110", f"i{N + 3:06d}"):  # a changed and a new one are found at their new places
        rows, scores = found.search(world.items[item][1][None], 1)
        assert world.features.rows(["item_id"])["item_id"][int(rows[0, 0])].as_py() == item
        assert scores[0, 0] > 0.99999


def test_a_little_movement_is_not_worth_a_note(world: World) -> None:
    build(world)
    world.commit(items(clustered(20, DIM, seed=5), start=N))
    assert (opened(world).added, opened(world).note) == (20, None)


@pytest.mark.parametrize("kind", KINDS)
def test_indexing_again_adds_what_is_new_and_says_so(world: World, kind: str) -> None:
    first = build(world, kind=kind, recall=0.9)
    world.commit(items(clustered(60, DIM, seed=5), start=N))
    card = build(world)
    assert (card.action, card.added, card.removed, card.kind) == ("updated", 60, 0, kind)
    assert (card.tombstones, card.items, card.built_items) == (0, N + 60, N)
    assert card.request == first.request
    found = opened(world)
    assert (found.added, found.removed) == (0, 0)
    assert right(world.features, found, clustered(100, DIM, seed=2)) > 0.85


def test_what_has_left_becomes_a_tombstone_until_there_are_too_many(world: World) -> None:
    build(world, kind="hnsw")
    world.commit({}, drop=[f"i{at:06d}" for at in range(100)])
    card = build(world)
    assert (card.action, card.tombstones, card.items) == ("updated", 100, N - 100)
    ids = pq.read_table(path(world, "ids.parquet", 1))
    assert ids.num_rows == N
    assert ids["item_id"].null_count == ids["row"].null_count == 100
    assert right(world.features, opened(world), clustered(50, DIM, seed=2)) > 0.9
    world.commit({}, drop=[f"i{at:06d}" for at in range(100, 400)])
    card = build(world)
    assert (card.action, card.tombstones) == ("rebuilt", 0)
    assert "have left" in card.reason
    assert pq.read_table(path(world, "ids.parquet", 2)).num_rows == N - 400


def test_a_flat_index_drops_what_has_left(world: World) -> None:
    build(world)
    world.commit({}, drop=["i000001"])
    card = build(world)
    assert (card.action, card.tombstones) == ("rebuilt", 0)
    assert "dropped" in card.reason


def test_ids_stay_with_their_items_through_updates(world: World) -> None:
    build(world, kind="hnsw")
    before = pq.read_table(path(world, "ids.parquet"))["item_id"].to_pylist()
    world.commit(items(clustered(30, DIM, seed=5), start=N), drop=["i000003"])
    build(world)
    after = pq.read_table(path(world, "ids.parquet", 1))["item_id"].to_pylist()
    assert [b for b in before if b != "i000003"] == [a for a in after[:N] if a is not None]
    assert sorted(after[N:]) == [f"i{at:06d}" for at in range(N, N + 30)]


def test_recall_that_has_fallen_is_a_reason_to_build_anew(tmp_path: Path) -> None:
    world = World(tmp_path, DIM)
    near = clustered(600, DIM, clusters=1)
    world.commit(items(near))
    build(world, factory="PCA2,Flat", recall=0.01)
    far = clustered(300, DIM, seed=8, clusters=20)
    world.commit(items(far, start=1000))
    card = index.build(world.layout, world.features, IndexSettings(recall=0.9, kind="hnsw"))
    assert (card.action, card.kind) == ("rebuilt", "hnsw")
    build(world, factory="IVF40,Flat", recall=0.95, rebuild=True)
    world.commit(items(clustered(100, DIM, seed=9), start=2000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "K", 10)
        answers = iter([0.5, 0.6, 0.97])
        real = neighbours.measure

        def measured(*a: object, **k: object) -> neighbours.Measured:
            found = real(*a, **k)  # type: ignore[arg-type]
            return neighbours.Measured(next(answers), 0, 1, found.queries_per_s_single, found.queries_per_s_batch)

        patch.setattr(neighbours, "measure", measured)
        card = build(world)
    assert card.action == "rebuilt"
    assert "0.600" in card.reason
    assert card.measured is not None
    assert card.measured.recall == 0.97


def test_other_versions_of_the_same_items_carry_the_file_over(world: World) -> None:
    build(world, kind="hnsw")
    world.commit(items(clustered(5, DIM, seed=5), start=N))
    build(world)
    world.runs += 1
    world.features.compact("run00099")
    found = opened(world)
    assert (found.added, found.removed, found.card.version) == (0, 0, 1)
    card = build(world)
    assert (card.action, card.version) == ("carried", 2)
    assert path(world, "index.faiss", 1).samefile(path(world, "index.faiss", 2))
    assert right(world.features, opened(world), clustered(50, DIM, seed=2)) > 0.9


def test_an_earlier_version_is_answered_for_by_a_later_index(world: World) -> None:
    world.commit(items(clustered(50, DIM, seed=5), start=N), drop=["i000004"])
    build(world, kind="hnsw")
    then = world.at(0)
    found = index.open_index(world.layout, then)
    assert found is not None
    assert (found.added, found.removed) == (1, 50)
    assert right(then, found, clustered(50, DIM, seed=2)) > 0.9


def test_what_was_asked_for_stays_until_something_else_is(world: World) -> None:
    assert build(world, kind="ivf", recall=0.9).kind == "ivf"
    assert build(world).action == "unchanged"
    assert (build(world, kind="hnsw").action, build(world).action) == ("rebuilt", "unchanged")
    assert build(world, rebuild=True).kind == "flat"


def test_a_plan_changes_nothing(world: World) -> None:
    plan = index.plan(world.layout, world.features, IndexSettings(kind="hnsw"))
    assert (plan.action, plan.kinds, plan.added) == ("built", ("HNSW16_SQfp16",), N)
    assert not path(world, "").exists()


# ── damage, races, upkeep ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", [files.INDEX, files.IDS, files.CARD])
@pytest.mark.parametrize("how", ["flip", "short", "half", "empty"])
def test_damage_is_found_named_and_mended(world: World, file: str, how: str) -> None:
    build(world, kind="hnsw")
    damage(path(world, file), how, bit=8 * 700)
    with pytest.raises(IntegrityError, match=file.replace(".", r"\.")):
        index.open_index(world.layout, world.features)
    report = verify(world.layout, [world.features], sample=0)
    assert [(f.code, f.severity) for f in report.findings if "index" in f.code] == [("damaged_index", "error")]
    said: list[str] = []

    class Listener(Reporter):
        def warning(self, text: str) -> None:
            said.append(text)

    card = index.build(world.layout, world.features, IndexSettings(), reporter=Listener())
    assert (card.action, card.reason) == ("built", "the index there was is damaged")
    assert len(said) == 1
    assert right(world.features, opened(world), clustered(50, DIM, seed=2)) == 1.0


def test_every_flipped_bit_of_a_faiss_header_is_found(world: World) -> None:
    build(world, kind="ivf")
    whole = path(world, files.INDEX).read_bytes()
    for bit in range(0, 8 * 64, 5):
        damage(path(world, files.INDEX), "flip", bit=bit)
        with pytest.raises(IntegrityError, match="damaged"):
            index.open_index(world.layout, world.features)
        path(world, files.INDEX).write_bytes(whole)


def test_a_missing_file_is_damage_and_a_missing_card_is_no_index(world: World) -> None:
    build(world)
    path(world, files.IDS).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        index.open_index(world.layout, world.features)
    path(world, files.CARD).unlink()
    assert index.open_index(world.layout, world.features) is None


def test_ids_that_name_a_row_twice_are_damage(world: World) -> None:
    from dataclasses import replace

    build(world, kind="hnsw")
    card = files.find_card(world.layout, NAME, SPACE, 0)
    assert card is not None
    rows = files.read_ids(world.layout, card, [])[1].copy()
    rows[3] = rows[4]
    ids = world.features.rows(["item_id", "content_sha256"]).drop_columns(["_file", "_row"])
    files.write(world.layout, replace(card, ordered=False), path(world, files.INDEX), ids, rows)
    with pytest.raises(IntegrityError, match="every row"):
        index.open_index(world.layout, world.features)


def test_an_index_of_another_space_is_refused_and_both_are_named(world: World) -> None:
    from dataclasses import replace

    card = build(world)
    other = replace(card, space_id="other-11111111")
    documents.write(world.layout.storage, world.layout.index(NAME, SPACE, 0, files.CARD), other)
    with pytest.raises(SpaceMismatchError, match=r"other-11111111.*tiny-0a1b2c3d"):
        index.open_index(world.layout, world.features)


def test_a_passed_file_is_not_hashed_again_until_it_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build(world)
    hashed: list[Path] = []
    real = files.hashing.of_file
    monkeypatch.setattr(files.hashing, "of_file", lambda where: hashed.append(where) or real(where))
    opened(world)
    assert hashed == []
    path(world, files.INDEX).touch()
    opened(world)
    assert [where.name for where in hashed] == [files.INDEX]


def test_a_crash_between_the_files_leaves_no_index_or_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(world)
    steps = ("durable.move", "documents.write", "frames.write", "hashing.of_file")
    for step in steps:
        room, name = step.split(".")
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(getattr(files, room), name, fail)
            with pytest.raises(KeyboardInterrupt):
                build(world, rebuild=True)
        found = index.open_index(world.layout, world.features)
        assert found is None or right(world.features, found, clustered(20, DIM, seed=2)) == 1.0
    assert build(world, rebuild=True).action in ("built", "rebuilt")
    assert sorted(p.name for p in path(world, "").iterdir()) == [files.CARD, files.IDS, files.INDEX]


def test_a_reader_goes_on_while_another_index_takes_the_place(world: World) -> None:
    build(world, kind="hnsw")
    reader, queries = opened(world), clustered(50, DIM, seed=2)
    features = world.features
    before = reader.search(queries, 5)
    world.commit(items(clustered(50, DIM, seed=5), start=N), drop=[f"i{at:06d}" for at in range(200)])
    build(world, rebuild=True)
    gc(world.layout, [world.features], dry_run=False, keep_versions=9, grace_hours=0.0)
    assert not path(world, files.INDEX).exists()
    after = reader.search(queries, 5)
    assert (before[0] == after[0]).all()
    assert right(features, reader, queries) > 0.9


def test_an_index_that_is_swapped_while_it_is_opened_is_opened_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featstore.index import opening

    build(world, kind="hnsw")
    real, swapped = opening.align, []

    def swap(*a: object) -> object:
        if not swapped:
            swapped.append(True)
            build(world, kind="ivf", recall=0.5)
        return real(*a)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "align", swap)
    found = opened(world)
    assert found.card.kind == "ivf"


def test_gc_removes_superseded_indexes_and_keeps_the_versions_of_the_newest(world: World) -> None:
    build(world)
    path(world, "old.tmp").write_bytes(b"left by a kill")
    for at in range(3):
        world.commit(items(clustered(5, DIM, seed=at), start=N + 10 * at))
    build(world)
    world.commit(items(clustered(5, DIM, seed=9), start=N + 90))
    world.commit(items(clustered(5, DIM, seed=9), start=N + 190))
    dry = gc(world.layout, [world.features], dry_run=True, keep_versions=1, grace_hours=0.0)
    assert path(world, files.INDEX).exists()
    young = gc(world.layout, [world.features], dry_run=True, keep_versions=1, grace_hours=1.0)
    assert young.removed_files == 0
    done = gc(world.layout, [world.features], dry_run=False, keep_versions=1, grace_hours=0.0)
    assert dry.removed_files >= 4
    assert not path(world, "").exists()
    assert path(world, files.INDEX, 3).exists()
    assert 3 in done.kept_versions[f"{NAME}@{SPACE}"]
    assert len(world.at(3).matrix()[0]) == N + 15
    assert (opened(world).added, opened(world).removed) == (10, 0)


def test_two_at_once_are_one_too_many(world: World) -> None:
    with (
        locks.hold(world.layout.storage, world.layout.index_lock(NAME, SPACE), purpose="another"),
        pytest.raises(LockedError),
    ):
        build(world)


def test_what_gc_has_removed_cannot_be_indexed(world: World) -> None:
    world.commit({}, drop=["i000001"])
    gc(world.layout, [world.features], dry_run=False, keep_versions=1, grace_hours=0.0)
    with pytest.raises(NotFoundError, match="no longer kept"):
        index.build(world.layout, FeatureTable.open(world.layout, NAME, SPACE, 0), IndexSettings())


def test_opening_and_searching_imports_no_model_library_and_no_table_library_without_need(world: World) -> None:
    build(world, kind="hnsw")
    program = (
        "import sys, numpy as np\n"
        "from featstore.layout import Layout\nfrom featstore.storage import Storage\n"
        "from featstore.tables import FeatureTable\nfrom featstore import index\n"
        f"layout = Layout(Storage.at({str(world.layout.storage.root)!r}))\n"
        f"found = index.open_index(layout, FeatureTable.open(layout, {NAME!r}, {SPACE!r}))\n"
        f"found.search(np.ones((1, {DIM}), np.float32), 5)\n"
        "print([m for m in ('torch', 'onnxruntime', 'polars', 'sklearn', 'transformers') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "size"), [("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 kb", 1500), ("12", 12), (7, 7)]
)
def test_sizes_are_read_as_people_write_them(given: object, size: int) -> None:
    assert resolve(IndexSettings, {"memory": given}, environ={})[0].memory == size


def test_a_variable_of_another_command_is_no_error() -> None:
    assert resolve(IndexSettings, {}, environ={"FEATSTORE_DEVICE": "cpu", "FEATSTORE_RECALL": "0.9"})[0].recall == 0.9


def test_the_decision_is_the_least_that_is_enough() -> None:
    assert deciding.wanted(IndexSettings(), None).recall == 0.95
    assert json.dumps(documents.to_json(deciding.wanted(IndexSettings(memory="1kB"), None)))  # type: ignore[arg-type]
