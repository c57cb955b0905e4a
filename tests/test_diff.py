"""Diff: what came, went and changed between two versions, and how far two spaces agree on neighbours."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cli_world import inside
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import fresh, write_texts
from tables_kit import NOW

from featstore import founding
from featstore.diff import diff
from featstore.errors import IntegrityError, NotFoundError, SettingsError
from featstore.layout import Layout
from featstore.neighbours import nearest, nearest_others
from featstore.records import Difference
from featstore.storage import Storage
from featstore.tables import FeatureTable

DIM = 12


class Made:
    """A store of made-up tables."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(Storage.at(folder / "store"))

    def commit(
        self, items: dict[str, Any], *, run: str, space: str = "tiny-00000001", name: str = "t", remove: bool = False,
        parts: int = 1, **columns: object,
    ) -> FeatureTable:  # fmt: skip
        """Commits ``{id: vector}``; the content is the vector's first value unless ``{id: (content, vector)}``."""
        pairs = [v if isinstance(v, tuple) else (str(v[0]), v) for v in items.values()]
        x = np.array([vector for _, vector in pairs], np.float32)
        table = FeatureTable.staging(self.layout, name, space, x.shape[1])
        rows = pa.table(
            {
                "item_id": list(items),
                "content_sha256": [content for content, _ in pairs],
                **columns,
                "created_ts": pa.array([NOW] * len(items), pa.timestamp("us", "UTC")),
                "run_id": [run] * len(items),
            }
        )
        aligned = table.align(rows)
        cuts = np.linspace(0, len(items), parts + 1).astype(int)
        files = [
            table.write_part(run, at, aligned.slice(a, b - a), x[a:b])
            for at, (a, b) in enumerate(itertools.pairwise(cuts))
        ]
        table.commit(run_id=run, add=files, remove=list(table.files) if remove else [])
        return FeatureTable.open(self.layout, name, space)

    def diff(self, a: FeatureTable, b: FeatureTable, **more: int) -> Difference:
        return diff(self.layout, a, b, **more)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def _x(rows: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dim), np.float32)


def test_two_versions_name_what_came_went_changed_and_moved(made: Made) -> None:
    x = _x(8)
    ids = [f"i{at}" for at in range(8)]
    first = {i: (f"c{at}", x[at]) for at, i in enumerate(ids)}
    a = made.commit(first, run="r1", label=["cat"] * 8)
    second = dict(first)
    del second["i0"], second["i7"]
    second["new"] = ("c9", x[0])
    second["i7 renamed"] = ("c7", x[7])
    second["i1"] = ("other", -x[1])
    second["i2"] = ("c2", x[2] * np.float32(2))
    b = made.commit(second, run="r2", remove=True, label=["cat"] * 3 + ["dog", None] + ["cat"] * 3)
    found = made.diff(a, b)
    assert (found.common, found.added, found.removed, found.renamed, found.changed) == (6, 2, 2, 1, 1)
    assert (found.added_ids, found.removed_ids, found.changed_ids) == (("i7 renamed", "new"), ("i0", "i7"), ("i1",))
    assert (found.updated, found.updated_columns) == (2, {"label": 2})
    assert found.vectors is not None
    assert (found.vectors.changed, found.vectors.same_content) == (2, 1)
    assert [(w.item_id, round(w.cosine, 6), w.content_changed) for w in found.vectors.worst] == [
        ("i1", -1.0, True),
        ("i2", 1.0, False),
    ]
    assert found.vectors.cosines["0"] == pytest.approx(-1)
    assert found.neighbours is None
    back = made.diff(b, a)
    assert (back.added_ids, back.removed_ids) == (found.removed_ids, found.added_ids)


def test_rows_that_both_versions_share_are_not_read(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    x = _x(20)
    a = made.commit({f"i{at}": x[at] for at in range(20)}, run="r1", parts=4)
    b = made.commit({"j": x[0]}, run="r2")
    monkeypatch.setattr(FeatureTable, "vectors", lambda *_: pytest.fail("vectors were read"))
    found = made.diff(a, b)
    assert (found.common, found.added) == (20, 1)
    assert found.vectors is not None
    assert (found.vectors.changed, found.vectors.worst, found.vectors.cosines) == (0, (), {})


def test_blocks_do_not_change_the_answer(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.diff import moves

    x, noise = _x(200), _x(200, seed=1)
    y = np.where(np.arange(200)[:, None] % 3 == 0, x + noise, x).astype(np.float32)
    a = made.commit({f"i{at:03d}": ("same", x[at]) for at in range(200)}, run="r1", parts=3)
    shuffled = np.random.default_rng(5).permutation(200)
    b = made.commit({f"i{at:03d}": ("same", y[at]) for at in shuffled}, run="r2", name="u", parts=5)
    whole = made.diff(a, b, examples=200)
    monkeypatch.setattr(moves, "_ROWS", 7)
    assert made.diff(a, b, examples=200).vectors == whole.vectors
    assert whole.vectors is not None
    expected = {
        f"i{at:03d}": float(np.dot(x[at], y[at]) / np.linalg.norm(x[at]) / np.linalg.norm(y[at]))
        for at in range(0, 200, 3)
    }
    assert {w.item_id: pytest.approx(w.cosine, abs=1e-6) for w in whole.vectors.worst} == expected
    assert [w.cosine for w in whole.vectors.worst] == sorted(w.cosine for w in whole.vectors.worst)
    assert whole.vectors.cosines["0.5"] == pytest.approx(np.median(list(expected.values())), abs=1e-6)


def _overlap(x: NDArray[np.float32], y: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """The slow and obvious way."""

    def near(v: NDArray[np.float32]) -> list[set[int]]:
        unit = v / np.linalg.norm(v, axis=1, keepdims=True)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -2)
        return [set(np.argsort(-row, kind="stable")[:k].tolist()) for row in scores]

    return np.array([len(a & b) / k for a, b in zip(near(x), near(y), strict=True)])


def test_two_spaces_are_compared_by_neighbours(made: Made) -> None:
    x = _x(120, dim=6)
    y = np.concatenate([x + 0.3 * _x(120, 1, 6), _x(120, 2, 3)], axis=1)
    order = np.random.default_rng(3).permutation(120)
    a = made.commit({f"i{at:03d}": (f"c{at}", x[at]) for at in range(120)}, run="r1", parts=2)
    extra = {"only b": ("e", y[0]), "i005": ("changed", y[5])}
    b = made.commit(
        {**{f"i{at:03d}": (f"c{at}", y[at]) for at in order if at != 5}, **extra},
        run="r2",
        space="other-00000002",
        parts=3,
    )
    found = made.diff(a, b, k=4, queries=0, examples=119)
    assert found.vectors is None
    assert (found.common, found.changed, found.added) == (120, 1, 1)
    assert "119 items with the same content" in (found.note or "")
    kept = [at for at in range(120) if at != 5]
    expected = _overlap(x[kept], y[kept], 4)
    near = found.neighbours
    assert near is not None
    assert (near.k, near.items, near.queries) == (4, 119, 119)
    assert near.mean == near.low == near.high == pytest.approx(expected.mean())
    assert near.expected == pytest.approx(4 / 118)
    assert {q.item_id: q.overlap for q in near.changed_most} == {
        f"i{at:03d}": pytest.approx(o) for at, o in zip(kept, expected, strict=True)
    }
    assert all(len(q.only_a) == len(q.only_b) == round(4 * (1 - q.overlap)) for q in near.changed_most)
    worst = [q.overlap for q in near.changed_most]
    assert worst == sorted(worst)
    sampled = made.diff(a, b, k=4, queries=40).neighbours
    again = made.diff(a, b, k=4, queries=40).neighbours
    assert sampled == again
    assert sampled is not None
    assert sampled.queries == 40
    assert sampled.low < sampled.mean < sampled.high
    assert sampled.low <= near.mean <= sampled.high
    same = made.diff(
        a, made.commit({f"i{at:03d}": (f"c{at}", x[at] * 3) for at in range(120)}, run="r3", space="third-00000003")
    )
    assert same.neighbours is not None
    assert same.neighbours.mean == 1.0


def test_tables_with_little_in_common_say_so(made: Made) -> None:
    x = _x(4)
    a = made.commit({"a": x[0], "b": x[1]}, run="r1")
    b = made.commit({"c": x[2]}, run="r2", name="u")
    c = made.commit({"a": x[3], "z": x[1]}, run="r3", space="other-00000002")
    assert made.diff(a, b).note == "no item_id is in both"
    found = made.diff(a, c)
    assert found.neighbours is None
    assert "fewer than two" in (found.note or "")
    few = made.diff(a, made.commit({"a": ("c", x[2]), "b": (str(x[1][0]), x[3])}, run="r4", space="fourth-00000004"))
    assert few.neighbours is None
    two = made.diff(
        made.commit({"a": ("1", x[0]), "b": ("2", x[1])}, run="r5", name="v"),
        made.commit({"a": ("1", x[2]), "b": ("2", x[3])}, run="r6", name="v", space="other-00000002"),
    )
    assert two.neighbours is not None
    assert (two.neighbours.k, two.neighbours.mean) == (1, 1.0)
    for wrong in ({"k": 0}, {"queries": -1}, {"examples": -1}):
        with pytest.raises(SettingsError):
            made.diff(a, b, **wrong)


def test_columns_of_another_type_or_absent_are_compared_by_what_they_say(made: Made) -> None:
    x = _x(3)
    items = {"a": x[0], "b": x[1], "c": x[2]}
    a = made.commit(items, run="r1", year=[1, 2, 3], gone=["x", None, None])
    b = made.commit(items, run="r2", name="u", year=["1", "2", "4"], more=[None, None, True])
    found = made.diff(a, b)
    assert found.updated_columns == {"year": 1, "gone": 1, "more": 1}
    assert found.updated == 2
    assert found.vectors is not None
    assert found.vectors.changed == 0


def test_a_value_that_is_no_number_equals_itself(made: Made) -> None:
    x = _x(3)
    items = {"a": x[0], "b": x[1], "c": x[2]}
    a = made.commit(items, run="r1", v=[float("nan"), 1.0, None])
    b = made.commit(items, run="r2", name="u", v=[float("nan"), 1.0, None])
    assert made.diff(a, b).updated == 0


def test_a_damaged_or_removed_version_is_not_compared(made: Made) -> None:
    x = _x(6)
    old = made.commit({"a": x[0], "b": x[1]}, run="r1")
    new = made.commit({"a": x[2], "b": x[1]}, run="r2", remove=True)
    (old.path / old.files[0]).unlink()
    with pytest.raises(NotFoundError, match="no longer kept"):
        made.diff(old, new)
    (new.path / new.files[0]).unlink()
    with pytest.raises(IntegrityError):
        made.diff(new, new)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 12), st.integers(1, 700), st.integers(0, 99))
def test_the_nearest_are_those_of_a_full_stable_sort(rows: int, k: int, block: int, seed: int) -> None:
    """Few different values: many equal scores, so that the order among them is tried too."""
    x = np.random.default_rng(seed).integers(-2, 3, (rows, 3)).astype(np.float32)
    queries = x[:5]
    lengths = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9).astype(np.float32)
    unit = x / lengths
    got, scores = nearest(queries, x, k, block=block)
    exact = unit[:5] @ unit.T
    assert (np.diff(scores, axis=1) <= 0).all()
    for row, (found, score) in enumerate(zip(got, scores, strict=True)):
        assert np.allclose(score, np.sort(exact[row])[::-1][: len(found)], atol=1e-6)
        ties = [(-float(s), int(at)) for s, at in zip(score, found, strict=True)]
        assert ties == sorted(ties)


def test_no_item_is_its_own_neighbour_even_among_twins() -> None:
    x = np.ones((30, 4), np.float32)
    rows, scores = nearest_others(x, np.arange(30), 5)
    assert rows.shape == (30, 5)
    assert not (rows == np.arange(30)[:, None]).any()
    assert np.allclose(scores, 1)
    assert nearest_others(x[:1], np.array([0]), 5)[0].shape == (1, 0)


def test_real_versions_on_the_command_line(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    texts = {f"s{at}": f"The house at number {at} has {at} windows and a door." for at in range(12)}
    file = write_texts(tmp_path / "s.jsonl", texts)
    more: dict[str, Any] = {"model": "minilm", "text_column": "text", "id_column": "id", "device": "cpu"}
    store.extract(file, **more)
    texts["s3"] = "Something else altogether."
    del texts["s5"]
    texts["s99"] = "A newcomer."
    write_texts(file, texts)
    store.extract(file, **more)
    done = inside("diff", "s:0", "s", "--store", "store", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "11 in both, 1 added, 1 removed, 1 changed" in done.out
    assert "moved most" in done.out
    found = inside("diff", "s:0", "s:1", "--examples", "1", "--store", "store", "--json", cwd=tmp_path).json
    assert (found["added_ids"], found["removed_ids"], found["changed_ids"]) == (["s99"], ["s5"], ["s3"])
    assert found["vectors"]["changed"] == 1
    assert found["vectors"]["worst"][0]["item_id"] == "s3"
    assert found["vectors"]["worst"][0]["cosine"] < 0.9
    assert inside("diff", "s", "nothing", "--store", "store", cwd=tmp_path).code == 2
    assert inside("diff", "s", "s:9", "--store", "store", cwd=tmp_path).code == 2
    assert inside("diff", "s", "s", "--k", "0", "--store", "store", cwd=tmp_path).code == 2


def test_two_models_on_the_command_line(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    made = Made(tmp_path)
    x, y = _x(40), _x(40, seed=9, dim=5)
    made.commit({f"i{at}": (f"c{at}", x[at]) for at in range(40)}, run="r1")
    made.commit({f"i{at}": (f"c{at}", y[at]) for at in range(40)}, run="r2", space="other-00000002")
    done = inside("diff", "t@tiny", "t@other", "--queries", "20", "--store", "store", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "asked for 20 of 40 items" in done.out
    assert "changed most" in done.out
    assert inside("diff", "t", "t@other", "--store", "store", cwd=tmp_path).code == 2  # which t?
    assert store.diff("t@tiny", "t@other").neighbours is not None


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_what_came_is_held_against_what_was_there(made: Made, shift: float) -> None:
    chance = np.random.default_rng(3)
    old = {f"{at:04d}": row for at, row in enumerate(chance.standard_normal((400, DIM)))}
    new = {f"n{at:04d}": row for at, row in enumerate(chance.standard_normal((250, DIM)) + shift)}
    copies = {f"c{at:04d}": old[f"{at:04d}"] for at in range(300)}  # contents that were there are not what came
    a = made.commit(old, run="one")
    b = made.commit(new | copies, run="two")
    found = made.diff(a, b).drift
    assert found is not None
    assert (found.before, found.after, found.drifted) == (400, 250, shift > 0)
    assert all(item.item_id.startswith("n") for item in found.shifted)
    back = made.diff(b, a).drift
    assert back is not None
    assert (back.after, back.enough, back.drifted) == (0, False, None)


def test_drift_is_printed(made: Made, tmp_path: Path) -> None:
    chance = np.random.default_rng(4)
    made.commit({f"{at:04d}": row for at, row in enumerate(chance.standard_normal((300, DIM)))}, run="one")
    made.commit({f"n{at:04d}": row for at, row in enumerate(chance.standard_normal((250, DIM)) + 1)}, run="two")
    founding.found(made.layout)
    done = inside("diff", "t:0", "t", "--store", "store", cwd=tmp_path)
    assert done.code == 0
    assert "drift: what came is not of the kind that was there (p 0.0" in " ".join(done.out.split())
    assert "most shifted: n" in done.out
    assert "drift" not in inside("diff", "t:0", "t:0", "--store", "store", cwd=tmp_path).out
