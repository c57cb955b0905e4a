"""Dedup: exact and near groups against all pairs, the threshold from the data, representatives, files and sheets."""

from __future__ import annotations

import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from cli_world import inside
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from stores import damage, fresh, write_texts
from tables_kit import NOW

from featstore.dedup import duplicates, groups_of
from featstore.errors import IntegrityError, SettingsError, UsageError
from featstore.heads import bind, fold
from featstore.layout import Layout
from featstore.neighbours.duplicates import groups
from featstore.storage import Storage
from featstore.tables import FeatureTable


def commit(folder: Path, vectors: NDArray[np.float32], contents: list[str], ids: list[str] | None = None) -> Layout:
    layout = Layout(Storage.at(folder / "store"))
    table = FeatureTable.staging(layout, "t", "tiny-00000001", vectors.shape[1])
    count = len(contents)
    rows = pa.table(
        {
            "item_id": [f"i{at:05d}" for at in range(count)] if ids is None else ids,
            "content_sha256": contents,
            "created_ts": pa.array([NOW] * count, pa.timestamp("us", "UTC")),
            "run_id": ["r"] * count,
        }
    )
    aligned = table.align(rows)
    half = count // 2
    parts = [
        table.write_part("r", at, aligned.slice(a, b - a), vectors[a:b])
        for at, (a, b) in enumerate(((0, half), (half, count)))
        if b > a
    ]
    table.commit(run_id="r", add=parts)
    return layout


def opened(layout: Layout) -> FeatureTable:
    return FeatureTable.open(layout, "t", "tiny-00000001")


def of_all_pairs(vectors: NDArray[np.float32], threshold: float) -> list[int]:
    """The groups by comparing every pair in float64 and walking from each item."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    unit = exact / np.where(lengths > 0, lengths, 1)
    near = unit @ unit.T >= threshold - 1e-6
    found = [-1] * len(vectors)
    for start in range(len(vectors)):
        if found[start] < 0:
            number, waiting = max(found) + 1, [start]
            while waiting:
                at = waiting.pop()
                if found[at] < 0:
                    found[at] = number
                    waiting += np.flatnonzero(near[at]).tolist()
    return found


def numbered(values: NDArray[np.int64]) -> list[int]:
    first: dict[int, int] = {}
    return [first.setdefault(value, len(first)) for value in values.tolist()]


# ── groups of vectors ────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 90),
    dim=st.sampled_from([1, 3, 40, 126, 127, 300]),
    centre=st.sampled_from([0.0, 1.0]),
    threshold=st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.99, 0.999999, 1.0]),
)
def test_groups_are_those_of_all_pairs(seed: int, count: int, dim: int, centre: float, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, dim), np.float32) + np.float32(centre)
    for at in range(1, count, 2):  # copies, nearer and farther, and some that are the same to the bit
        x[at] = x[at - 1] + generator.choice([0, 1e-4, 0.05, 0.3]) * generator.standard_normal(dim)
    x *= generator.uniform(0.1, 10, (count, 1)).astype(np.float32)
    x[generator.random(count) < 0.05] = 0
    assert groups(x, threshold).tolist() == of_all_pairs(x, threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.98])
def test_groups_that_span_tiles(threshold: float) -> None:
    """Thousands of vectors, so that pairs lie in different tiles, few or most of them near."""
    generator = np.random.default_rng(5)
    x = generator.standard_normal((2600, 200), np.float32) * np.arange(1, 201, dtype=np.float32) ** -0.5 + 0.2
    x[:600] = x[-600:] + 0.15 * generator.random((600, 1), np.float32) * generator.standard_normal(
        (600, 200), np.float32
    )
    assert groups(x, threshold).tolist() == of_all_pairs(x, threshold)


def test_a_vector_without_length_is_near_none_and_some_rows_can_be_passed_over() -> None:
    x = np.array([[0, 0], [0, 0], [1, 0], [2, 0], [0, 1]], np.float32)
    assert groups(x, 1.0).tolist() == [0, 1, 2, 2, 3]
    assert groups(x, 1.0, rows=np.array([3, 4, 2])).tolist() == [0, 1, 0]
    assert groups(x[:0], 0.5).tolist() == []


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold: float, tmp_path: Path) -> None:
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(UsageError, match="threshold"):
        groups(x, threshold)
    with pytest.raises(SettingsError, match="threshold"):
        groups_of(opened(commit(tmp_path, x, ["a", "b", "c"])), threshold)


def test_a_vector_with_nan_is_refused() -> None:
    x = np.ones((4, 200), np.float32)
    x[2, 7] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        groups(x, 0.9)


def test_memory_is_bounded_even_where_all_are_near() -> None:
    """9,000 vectors make 81 million pairs, all near; as a matrix they would take 324 MB."""
    x = np.random.default_rng(0).standard_normal((9000, 150), np.float32) + 2
    tracemalloc.start()
    try:
        found = groups(x, 0.3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.any()
    assert peak < 90e6


@pytest.mark.heavy
def test_fifty_thousand_are_grouped_in_seconds() -> None:
    generator = np.random.default_rng(0)
    shape = np.arange(1, 385, dtype=np.float32) ** -0.5
    x = generator.standard_normal((50_000, 384), np.float32) * shape
    x[:2000] = x[-2000:] * (1 + 0.01 * generator.standard_normal((2000, 384), np.float32))
    began = time.process_time()
    found = groups(x, 0.97)
    assert time.process_time() - began < 60
    assert len(np.unique(found)) == 48_000
    assert (found[:2000] == found[-2000:]).all()


# ── groups of a table ────────────────────────────────────────────────────────────────────────────


def test_items_of_equal_content_belong_together_whatever_their_vectors(tmp_path: Path) -> None:
    x = np.array([[1, 0, 0], [0, 1, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    table = opened(commit(tmp_path, x, ["a", "b", "c", "b", "e"]))
    assert groups_of(table, 0.99).tolist() == [0, 1, 0, 1, 2]
    assert groups_of(table, 1.0).tolist() == [0, 1, 2, 1, 3]


def test_the_threshold_is_a_tenth_of_the_median_distance_to_the_tenth_neighbour(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((400, 24), np.float32) + 0.5
    copies = x[:40] + 0.02 * np.random.default_rng(2).standard_normal((40, 24), np.float32)
    both = np.concatenate([x, copies])
    layout = commit(tmp_path, both, [f"{at:03d}" for at in range(440)])
    unit = both.astype(np.float64) / np.linalg.norm(both.astype(np.float64), axis=1, keepdims=True)
    distances = np.sort(1 - unit @ unit.T, axis=1)[:, 10]
    threshold = 1 - 0.1 * float(np.median(distances))
    found = groups_of(opened(layout))
    assert found.tolist() == of_all_pairs(both, threshold)
    assert (found[:40] == found[400:]).all()
    assert len(np.unique(found)) == 400


@pytest.mark.parametrize("contents", [[], ["a"], ["a", "a", "a"], ["a", "b"]])
def test_tables_too_small_for_neighbours(contents: list[str], tmp_path: Path) -> None:
    x = np.eye(4, dtype=np.float32)[: len(contents)]
    if not contents:
        layout = Layout(Storage.at(tmp_path / "store"))
        assert groups_of(FeatureTable.staging(layout, "t", "tiny-00000001", 4)).tolist() == []
        return
    layout = commit(tmp_path, x, contents)
    assert groups_of(opened(layout)).tolist() == numbered(np.array([contents.index(c) for c in contents]))
    frame = duplicates(layout, opened(layout))
    assert len(frame) == (3 if len(contents) == 3 else 0)


def test_the_most_central_item_stands_for_its_group(tmp_path: Path) -> None:
    def at(degrees: float) -> list[float]:
        return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0]

    # A chain 10° apart: the middle is nearest to all. Then two of equal content and one near them; one alone.
    x = np.array([at(0), at(10), at(20), [0, 0, 1], [0, 0, 1], [0, 0.05, 1], at(90)], np.float32)
    layout = commit(tmp_path, x, ["a", "b", "c", "d", "d", "e", "f"], ids=["z", "y", "x", "n", "m", "l", "k"])
    frame = duplicates(layout, opened(layout), threshold=float(np.cos(np.radians(11))))
    assert frame["group"].to_list() == [0, 0, 0, 1, 1, 1]
    assert frame["item_id"].to_list() == ["m", "n", "l", "y", "x", "z"]
    assert frame["representative"].to_list() == ["m"] * 3 + ["y"] * 3
    assert frame["exact"].to_list() == [True, True, False, True, False, False]
    assert frame["items"].to_list() == [3] * 6
    assert frame["content_sha256"].to_list() == ["d", "d", "e", "b", "c", "a"]
    np.testing.assert_allclose(frame["score"], [1, 1, 0.99875, 1, 0.98481, 0.98481], atol=1e-5)


def test_equal_representatives_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((60, 8), np.float32)
    x[30:] = x[:30] + 0.01
    order = np.random.default_rng(4).permutation(60)
    ids, contents = [f"i{at}" for at in range(60)], [f"c{at}" for at in range(60)]
    one = commit(tmp_path / "one", x, contents, ids)
    other = commit(tmp_path / "other", x[order], [contents[i] for i in order], [ids[i] for i in order])
    found = [duplicates(layout, opened(layout), threshold=0.999) for layout in (one, other)]
    assert len(found[0]) >= 50
    assert found[0].drop("score").equals(found[1].drop("score"))


def test_copies_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    x = np.random.default_rng(6).standard_normal((120, 16), np.float32)
    x[60:] = x[:60] + 0.005
    layout = commit(tmp_path, x, [f"c{at}" for at in range(120)])
    found = groups_of(opened(layout), 0.99)
    bound = bind([str(group) for group in found.tolist()])
    folds = fold(np.tile([0, 1], 60).astype(np.int64), bound, 4)
    assert (folds[:60] == folds[60:]).all()


def test_a_damaged_file_is_met(tmp_path: Path) -> None:
    layout = commit(tmp_path, np.eye(8, dtype=np.float32), list("abcdefgh"))
    table = opened(layout)
    damage(table.path / table.files[0], "half")
    with pytest.raises(IntegrityError):
        duplicates(layout, opened(layout))


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def shop(model_store: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with photographs, some of them once more: copied, saved anew and made smaller."""
    root = tmp_path_factory.mktemp("shop")
    folder = root / "pictures"
    folder.mkdir()
    for at, file in enumerate(sorted(photos.rglob("*.*"))):
        (folder / file.name).write_bytes(file.read_bytes())
        if at % 4 == 0:
            (folder / f"copy-of-{file.name}").write_bytes(file.read_bytes())
        if at % 4 == 1:
            Image.open(file).convert("RGB").save(folder / f"again-{file.stem}.jpg", quality=90)
    store = fresh(model_store, root)
    store.extract(folder, model="efficientnet_lite0", name="pictures")
    return root


def test_copies_of_photographs_are_found_and_drawn(shop: Path) -> None:
    done = inside(
        "dedup", "pictures", "--store", "store", "--threshold", "0.95", "--json", "-o", "twins.parquet",
        "--png", "twins.png", cwd=shop,
    )  # fmt: skip
    assert done.code == 0, done.err
    report = done.json
    assert report["exact_surplus"] == 3
    assert report["contents"] == 15
    frame = pl.read_parquet(shop / "twins.parquet")
    for name in ("building0.jpg", "building4.jpg", "flower2.png"):
        group = frame.filter(pl.col("item_id") == name)["group"][0]
        twin = frame.filter(pl.col("item_id") == f"copy-of-{name}")
        assert twin["group"].to_list() == [group]
    for name in ("building1.jpg", "building5.png", "flower3.jpg"):
        again = f"again-{name.partition('.')[0]}.jpg"
        assert frame.filter(pl.col("item_id").is_in([name, again]))["group"].n_unique() == 1
    assert report["items"] == len(frame)
    assert report["groups"] == frame["group"].n_unique() == len(report["largest"])
    assert report["surplus"] == report["items"] - report["groups"]
    sheet = Image.open(io.BytesIO((shop / "twins.png").read_bytes()))
    assert sheet.height > 100 * report["groups"]
    first = report["largest"][0]
    assert first["first"][0]["item_id"] == frame["representative"][0]
    assert first["lowest"] == pytest.approx(frame.filter(pl.col("group") == 0)["score"].min())


def test_the_report_says_how_the_threshold_was_found_and_csv_is_written(shop: Path) -> None:
    done = inside("dedup", "pictures", "--store", "store", "-o", "twins.csv", "--examples", "1", cwd=shop)
    assert done.code == 0, done.err
    assert "18 items of 15 different contents" in done.out
    assert "the median distance to the 2nd nearest item (15 of 15 asked)" in done.out
    assert "3 of equal content" in done.out
    assert pl.read_csv(shop / "twins.csv").columns == [
        "group", "items", "item_id", "content_sha256", "representative", "score", "exact",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "twins.txt"), "must end in .parquet or .csv"),
        (("--png", "twins.jpg"), "must end in .png"),
        (("-o", "store/twins.csv"), "lies within the store"),
        (("--threshold", "0"), "threshold is 0"),
        (("--threshold", "2"), "threshold is 2"),
        (("--examples", "-1"), "examples is -1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(shop: Path, arguments: tuple[str, ...], message: str) -> None:
    done = inside("dedup", "pictures", "--store", "store", *arguments, cwd=shop)
    assert done.code == 2
    assert message in done.err
    assert "comparing" not in done.err


def test_texts_show_their_beginnings_and_are_not_drawn(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    texts = {
        "a": "The cat sat on the mat and watched the birds.",
        "b": "The cat sat on the mat and watched the birds!",
        "c": "Inflation fell for the third month in a row.",
        "d": "The cat sat on the mat and watched the birds.",
    }
    table = store.extract(
        write_texts(tmp_path / "t.jsonl", texts), model="minilm", text_column="text", id_column="id", name="t"
    )
    report = table.dedup(threshold=0.95)
    (group,) = report.largest
    assert {item.item_id for item in group.first} == {"a", "b", "d"}
    assert group.contents == 2
    assert all(item.text and item.text.startswith("The cat") for item in group.first)
    assert table.duplicates(threshold=0.95)["item_id"].to_list() == [item.item_id for item in group.first]
    with pytest.raises(UsageError, match="texts"):
        table.dedup(png=tmp_path / "x.png")
    shown = inside("dedup", "t", "--threshold", "0.95", "--store", "store", cwd=tmp_path)
    assert "1 group of 3 items; 2 beside one of each: 1 of equal content, 1 nearly equal" in shown.out
