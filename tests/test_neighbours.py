"""Neighbours: exact search, indexes beside it, filters, files, faults, and what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.neighbours import (
    KINDS,
    Recipe,
    VectorIndex,
    bytes_per_vector,
    cosines,
    exact,
    measure,
    nearest,
    recipes,
    truth_of,
    tune,
)
from featstore.neighbours.vectors import unit_queries

N, D, K = 6000, 32, 10
# Every kind of index, and what those who know FAISS may ask for; the last one takes no filter of FAISS's.
FACTORIES = ("PCA16,IVF32,SQ8", "IVF32,PQ16x4fs,RFlat", "IVF64_HNSW16,Flat", "SQ8", "HNSW32", "HNSW16_SQ8", "PQ16x4")


def clustered(n: int, d: int = D, seed: int = 0) -> NDArray[np.float32]:
    """Vectors in clusters, of lengths between 1 and 5."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((60, d))
    x = centres[chance.integers(0, 60, n)] + 0.6 * chance.standard_normal((n, d))
    return (x * chance.uniform(1, 5, (n, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return clustered(N)


@pytest.fixture(scope="module")
def asked() -> NDArray[np.float32]:
    return clustered(200, seed=1)


def recipe_of(kind: str) -> Recipe:
    return recipes(N, D, kind=kind)[0] if kind in KINDS else recipes(N, D, factory=kind)[0]


@pytest.fixture(scope="module")
def indexes(x: NDArray[np.float32]) -> dict[str, VectorIndex]:
    return {kind: VectorIndex.build(x, recipe_of(kind), threads=1) for kind in (*KINDS, *FACTORIES)}


def reference(
    queries: NDArray[Any], vectors: NDArray[Any], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Exact search as one would write it down: every cosine in float64, sorted."""
    q, v = queries.astype(np.float64), vectors.astype(np.float64)
    lengths = np.linalg.norm(v, axis=1)
    scores = (q @ v.T) / np.linalg.norm(q, axis=1)[:, None] / np.where(lengths > 0, lengths, 1)
    scores = np.round(scores, 9)  # equal vectors differ in the last digit of a matrix product
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, rows, 1)
    rows = np.where(np.isinf(found), -1, rows)
    short = k - rows.shape[1]
    if short > 0:
        rows = np.pad(rows, ((0, 0), (0, short)), constant_values=-1)
        found = np.pad(found, ((0, 0), (0, short)), constant_values=-np.inf)
    return rows, found.astype(np.float32)


# --- exact search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [1, 15, 16, 100])
@pytest.mark.parametrize("share", [None, 1.0, 0.3, 0.01, 0.0002])
def test_exact_search_is_exact(x, asked, queries, share):
    allowed = None
    if share is not None:
        allowed = np.zeros(N, np.bool_)
        allowed[np.random.default_rng(2).permutation(N)[: max(1, round(share * N))]] = True
    rows, scores = exact(asked[:queries], x, K, allowed=allowed, threads=1)
    want_rows, want_scores = reference(asked[:queries], x, K, allowed)
    np.testing.assert_array_equal(rows, want_rows)
    np.testing.assert_allclose(scores, want_scores, atol=2e-7)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 80),
    d=st.integers(1, 6),
    q=st.sampled_from([1, 3, 20]),
    k=st.integers(1, 90),
    kinds=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_equal_vectors_come_in_row_order(n, d, q, k, kinds, seed):
    chance = np.random.default_rng(seed)
    few = chance.integers(-3, 4, (kinds, d)).astype(np.float32)  # zeros among them
    vectors = few[chance.integers(0, kinds, n)]
    queries = chance.standard_normal((q, d)).astype(np.float32)
    rows, scores = exact(queries, vectors, k, threads=1)
    want = reference(queries, vectors, k)
    np.testing.assert_allclose(scores, want[1], atol=3e-7)
    for at in range(q):
        found = rows[at][rows[at] >= 0]
        assert len(set(found.tolist())) == len(found) == min(n, k)
        for one in set(scores[at].tolist()):
            tied = found[scores[at][: len(found)] == one]
            assert (np.diff(tied) > 0).all(), "equal scores in row order"


def test_a_thousand_equal_vectors_at_the_edge_are_found_in_row_order(x, asked):
    twins = np.concatenate([x[:500], np.repeat(asked[:1], 1000, axis=0), x[500:]])
    for queries in (asked[:1], np.repeat(asked[:1], 20, axis=0)):
        rows, scores = exact(queries, twins, 30, threads=1)
        assert (rows == np.arange(500, 530)).all()
        assert (scores == scores[0, 0]).all()


@pytest.mark.parametrize("queries", [2, 20])
def test_what_lies_in_several_blocks_is_found(queries):
    # Blocks hold eight million values: two of them here, with equal vectors in each.
    x, asked = clustered(9000, 1000), clustered(queries, 1000, seed=5)
    twins = np.arange(0, 9000, 1000)
    x[twins] = asked[0]
    scaled = x * np.float32(0.5)
    for allowed in (None, np.arange(9000) % 2 == 0):
        want = reference(asked, x, 25, allowed)
        for vectors in (x, scaled):
            rows, scores = exact(asked, vectors, 25, allowed=allowed, threads=1)
            np.testing.assert_array_equal(rows, want[0])
            np.testing.assert_allclose(scores, want[1], atol=2e-7)
        assert rows[0, :9].tolist() == twins.tolist()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("queries", [2, 30])
def test_any_real_type_is_taken(x, asked, kind, queries):
    some, few = (10 * x[:500]).astype(kind), (10 * asked[:queries]).astype(kind)
    rows, scores = exact(few, some, 5, threads=1)
    want = reference(few, some, 5)
    np.testing.assert_allclose(scores, want[1], atol=3e-7)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


def test_very_long_and_very_short_vectors_have_a_direction(x, asked):
    scaled = x[:400] * np.float32(1e-25)
    scaled[::2] = x[:400:2] * np.float32(1e25)
    np.testing.assert_array_equal(exact(asked, scaled, 5, threads=1)[0], reference(asked, scaled, 5)[0])


def test_lengths_that_are_given_change_nothing(x, asked):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for queries in (asked[:3], asked):
        plain = exact(queries, unit, K, threads=1)
        given_lengths = exact(queries, unit, K, lengths=np.ones(N), threads=1)
        np.testing.assert_array_equal(plain[0], given_lengths[0])


def test_a_memory_map_is_searched_in_place(tmp_path, x, asked):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(exact(asked, mapped, K, threads=1)[0], exact(asked, x, K, threads=1)[0])


def test_the_older_exact_search_agrees(x, asked):
    rows, scores = nearest(asked, x, K)
    np.testing.assert_array_equal(rows, exact(asked, x, K, threads=1)[0])
    np.testing.assert_allclose(scores, exact(asked, x, K, threads=1)[1], atol=1e-6)


# --- indexes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, *FACTORIES])
def test_a_tuned_index_finds_what_it_should(x, asked, indexes, kind):
    index, recipe = indexes[kind], recipe_of(kind)
    truth = truth_of(asked, x, K)
    found, reached = tune(index, recipe, x, asked[:100], truth[:100], k=K, recall=0.9, threads=1)
    assert reached >= 0.9, (found, reached)
    got = measure(index, found, asked[100:], truth[100:], k=K, vectors=x, threads=1)
    assert got.low <= got.recall <= got.high
    assert got.recall >= 0.85
    assert got.queries_per_s_single > 0 < got.queries_per_s_batch
    labels, scores = index.search(asked, K, search=found, vectors_at=lambda labels: x[labels], threads=1)
    unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, cosines(unit, x, labels), atol=2e-7)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", [*KINDS, *FACTORIES])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 1 / N])
def test_a_filter_leaves_out_what_it_should_and_nothing_else(x, asked, indexes, kind, share):
    index = indexes[kind]
    allowed = np.zeros(N, np.bool_)
    allowed[np.random.default_rng(3).permutation(N)[: round(share * N)]] = True
    knobs = {name: min(64, index.limits[name]) for name in index.settings} | (
        {"rerank": 16} if "rerank" in index.settings else {}
    )
    labels, scores = index.search(
        asked, K, allowed=allowed, search=knobs, vectors_at=lambda labels: x[labels], threads=1
    )
    due = min(K, int(allowed.sum()))
    assert allowed[labels[labels >= 0]].all()
    assert ((labels >= 0).sum(axis=1) == due).all(), "never fewer than there are"
    assert (scores[labels < 0] == -np.inf).all()
    want = exact(asked, x, K, allowed=allowed, threads=1)[1][:, due - 1]
    hits = (scores[:, :due] >= want[:, None] - 1e-6).mean()
    assert hits >= 0.9, f"{kind} finds {hits:.3f} where {share:.2%} pass"


def test_scores_are_the_same_to_the_bit_whatever_found_them(x, asked, indexes):
    rows, scores = exact(asked, x, K, threads=1)
    truth = {(at, row): score for at in range(200) for row, score in zip(rows[at], scores[at], strict=True)}
    for index in indexes.values():
        found = index.search(asked, K, vectors_at=lambda labels: x[labels], search={"rerank": 8}, threads=1)
        both = [(at, row) for at in range(200) for row in found[0][at] if (at, row) in truth]
        assert len(both) > 200
        mine = {(at, row): score for at in range(200) for row, score in zip(found[0][at], found[1][at], strict=True)}
        assert all(mine[pair] == truth[pair] for pair in both)


@pytest.mark.parametrize("kind", [*KINDS, "PQ16x4"])
def test_a_filter_that_nothing_passes_finds_nothing(asked, indexes, kind):
    labels, scores = indexes[kind].search(asked, K, allowed=np.zeros(N, np.bool_), threads=1)
    assert (labels == -1).all()
    assert (scores == -np.inf).all()


def test_filters_are_right_at_the_last_label(x, indexes):
    # A bitmap whose length is no multiple of eight.
    for kind in KINDS:
        index = VectorIndex.build(x[:4001], recipe_of("hnsw" if kind == "flat" else kind), threads=1)
        allowed = np.zeros(4001, np.bool_)
        allowed[-1] = True
        assert index.search(x[:2], 3, allowed=allowed, threads=1)[0].tolist() == [[4000, -1, -1]] * 2


def test_lists_that_hold_too_little_are_not_the_end(x):
    index = VectorIndex.build(x[:400], Recipe("custom", "IVF100,Flat"), threads=1)
    labels, _ = index.search(x[:50], 60, search={"nprobe": 1}, threads=1)
    assert (labels >= 0).all()


@pytest.mark.parametrize("kind", [*KINDS, *FACTORIES])
def test_what_one_search_was_asked_with_is_not_what_the_next_is(x, asked, kind):
    index = VectorIndex.build(x, recipe_of(kind), threads=1)
    ways = [(K, {"nprobe": 1, "efSearch": 8}), (K, {"nprobe": 16, "efSearch": 256}), (3, {}), (60, {"nprobe": 1})]
    alone = [
        index_of.search(asked, k, search=search, threads=1)
        for k, search in ways
        for index_of in [VectorIndex(index._index)]  # one that has been asked nothing yet
    ]
    for order in (range(4), (3, 1, 0, 2), (2, 2, 1, 1)):
        for at in order:
            k, search = ways[at]
            labels, scores = index.search(asked, k, search=dict(search), threads=1)
            assert (labels == alone[at][0]).all()
            assert (scores == alone[at][1]).all()


def test_scores_of_vectors_kept_to_16_bits_are_as_near_as_said(x, asked, indexes):
    assert indexes["hnsw"].holds_vectors
    assert not indexes["HNSW16_SQ8"].holds_vectors
    labels, scores = indexes["hnsw"].search(asked, K, search={"efSearch": 64}, threads=1)
    off = np.abs(scores - cosines(unit_queries(asked, D), x, labels))
    assert 0 < off.max() < 2**-11
    labels, scores = indexes["hnsw"].search(asked, K, search={"efSearch": 64}, threads=1, vectors_at=lambda at: x[at])
    assert (scores == cosines(unit_queries(asked, D), x, labels)).all()


def test_settings_are_taken_as_they_are_when_asked(x, asked):
    index = VectorIndex.build(x, recipe_of("hnsw"), threads=1)
    search = {"efSearch": 512}
    wide = index.search(asked, K, search=search, threads=1)[0]
    search["efSearch"] = 10  # the same object with another value is another setting
    narrow = index.search(asked, K, search=search, threads=1)[0]
    assert (narrow == VectorIndex(index._index).search(asked, K, search={"efSearch": 10}, threads=1)[0]).all()
    assert (wide != narrow).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_query_is_made_what_it_is_among_many(asked, dtype):
    some = asked.astype(dtype)
    many = unit_queries(some, D)
    assert all((unit_queries(some[at : at + 1], D) == many[at]).all() for at in range(len(some)))
    assert unit_queries(some[:1], D).dtype == np.float32


def test_a_graph_gives_more_than_its_list_is_long(x, indexes):
    labels, _ = indexes["hnsw"].search(x[:5], 200, search={"efSearch": 16}, threads=1)
    assert (labels >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_are_is_trimmed(x, kind):
    index = VectorIndex.build(x[:700], recipe_of("flat") if kind == "ivf-pq" else Recipe(kind, "IVF8,SQ8"), threads=1)
    labels, _ = index.search(x[:3], 900, threads=1)
    assert (np.sort(labels[:, :700], axis=1) == np.arange(700)).all()
    assert (labels[:, 700:] == -1).all()


@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_an_empty_index_finds_nothing_and_can_be_filled(x, factory):
    index = VectorIndex.build(x[:0], Recipe("custom", factory), threads=1)
    assert (index.count, index.bytes_per_vector) == (0, 0.0)
    assert (index.search(x[:3], K, threads=1)[0] == -1).all()
    assert (exact(x[:3], x[:0], K)[0] == -1).all()
    index.add(x[:50], threads=1)
    assert index.search(x[:3], 1, threads=1)[0].ravel().tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_added_vectors_are_found_under_the_labels_that_follow(tmp_path, x, kind):
    index = VectorIndex.build(x[:5000], recipe_of(kind), threads=1)
    index.write(tmp_path / "i.faiss")
    for one in (index, VectorIndex.read(tmp_path / "i.faiss"), VectorIndex.read(tmp_path / "i.faiss", mapped=False)):
        seen: list[tuple[int, int]] = []
        one.add(x[5000:], threads=1, progress=lambda done, of, seen=seen: seen.append((done, of)))
        assert one.count == N
        assert seen[-1] == (N - 5000, N - 5000)
        labels, scores = one.search(
            x[5000:5100], 1, search={"nprobe": 8, "efSearch": 64, "rerank": 16}, vectors_at=lambda at: x[at], threads=1
        )
        assert (labels.ravel() == np.arange(5000, 5100)).mean() >= 0.98
        assert scores.max() <= 1
    assert VectorIndex.read(tmp_path / "i.faiss").count == 5000, "the file is as it was"


@pytest.mark.parametrize("kind", [*KINDS, *FACTORIES])
def test_a_mapped_index_grows_as_one_in_memory_does(tmp_path, x, kind):
    recipe = recipe_of(kind) if kind in KINDS else Recipe("custom", kind)
    VectorIndex.build(x[:5000], recipe, threads=1).write(tmp_path / "i.faiss")
    index, again = (VectorIndex.read(tmp_path / "i.faiss", mapped=mapped) for mapped in (False, True))
    # Also with more than was announced, and after nothing at all.
    for start, end, more in ((5000, 5000, 30), (5000, 5010, 20), (5010, 5030, 0), (5030, N, 0)):
        for one in (index, again):
            one.add(x[start:end], more=more, threads=1)
    index.write(tmp_path / "a.faiss")
    again.write(tmp_path / "b.faiss")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, *FACTORIES])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_answers_as_the_index_did(tmp_path, x, asked, indexes, kind, mapped):
    index = indexes[kind]
    index.write(tmp_path / "i.faiss")
    again = VectorIndex.read(tmp_path / "i.faiss", mapped=mapped)
    assert (again.dim, again.count, again.settings) == (D, N, index.settings)
    assert again.bytes_per_vector == (tmp_path / "i.faiss").stat().st_size / N
    assert again.bytes_per_vector == pytest.approx(index.bytes_per_vector)
    allowed = np.arange(N) % 3 == 0
    for mask in (None, allowed):
        a, b = (one.search(asked, K, allowed=mask, threads=1) for one in (index, again))
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_plain_faiss_reads_the_file(tmp_path, x, indexes):
    import faiss

    indexes["hnsw"].write(tmp_path / "i.faiss")
    plain = faiss.read_index(str(tmp_path / "i.faiss"))
    assert plain.ntotal == N
    assert plain.search(x[:1] / np.linalg.norm(x[:1]), 1)[1].tolist() == [[0]]


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_foreign_file_is_named(tmp_path, indexes, kind, mapped):
    path = tmp_path / "i.faiss"
    indexes[kind].write(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:3], whole[: len(whole) // 2], whole[:-9], b"no index" * 100):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="damaged"):
            VectorIndex.read(path, mapped=mapped)
    with pytest.raises(NotFoundError, match=r"none\.faiss"):
        VectorIndex.read(tmp_path / "none.faiss")


def test_an_index_for_another_measure_is_refused(tmp_path):
    import faiss

    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "l2.faiss"))
    with pytest.raises(IntegrityError, match="another measure"):
        VectorIndex.read(tmp_path / "l2.faiss")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapped_index_stays_on_disk(tmp_path, kind):
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident memory by kind is only told by Linux")

    def own() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon"))

    index = VectorIndex.build(
        clustered(20_000, 128), Recipe("custom", "HNSW8_SQfp16" if kind == "hnsw" else "Flat"), threads=1
    )
    index.write(tmp_path / "i.faiss")
    before = own()
    again = VectorIndex.read(tmp_path / "i.faiss")
    assert again.count == 20_000
    assert own() - before < 2_000, "kilobytes of its 10 MB"


# --- faults -----------------------------------------------------------------------------------------------------------


def test_queries_that_cannot_be_compared_are_named(x, indexes):
    bad = x[:3].copy()
    bad[1, 4] = np.nan
    endless = x[:3].copy()
    endless[2, 0] = np.inf
    zero = x[:3].copy()
    zero[1] = 0
    for search in (lambda q: exact(q, x, K, threads=1), lambda q: indexes["hnsw"].search(q, K, threads=1)):
        for queries, message in (
            (bad, "query 1 .*not finite"),
            (endless, "query 2 .*not finite"),
            (zero, "query 1 is all zeros"),
            (x[:3, :5], "3×5.*32 values"),
            (x[0], "32.*32 values"),
        ):
            with pytest.raises(UsageError, match=message):
                search(queries)
        assert search(x[:0])[0].shape == (0, K)


def test_numbers_out_of_range_are_named(x, indexes):
    with pytest.raises(UsageError, match="k is 0"):
        exact(x[:1], x, 0)
    with pytest.raises(UsageError, match="k is -1"):
        indexes["ivf"].search(x[:1], -1)
    with pytest.raises(UsageError, match="5 entries for 6,000"):
        indexes["ivf"].search(x[:1], 1, allowed=np.ones(5, np.bool_))
    with pytest.raises(UsageError, match="5 entries for 6,000"):
        exact(x[:1], x, 1, allowed=np.ones(5, np.bool_))
    with pytest.raises(UsageError, match="threads"):
        indexes["ivf"].search(x[:1], 1, threads=0)


def test_vectors_that_cannot_be_kept_are_named(x):
    bad = x.copy()
    bad[4321, 4] = np.nan
    with pytest.raises(UsageError, match="row 4321"):
        VectorIndex.build(bad, recipe_of("flat"), threads=1)
    with pytest.raises(UsageError, match="row 4321"):
        exact(x[:2], bad, K, threads=1)
    index = VectorIndex.build(x[:100], recipe_of("flat"), threads=1)
    with pytest.raises(UsageError, match="5 values cannot join an index of 32"):
        index.add(x[:, :5])
    with pytest.raises(UsageError, match="cannot be made of 100 vectors"):
        VectorIndex.build(x[:100], Recipe("custom", "IVF1024,Flat"), threads=1)
    with pytest.raises(UsageError, match="NSG"):
        VectorIndex.build(x[:300], Recipe("custom", "NSG16"), threads=1).add(x[:2], threads=1)


def test_a_zero_vector_is_like_nothing(x):
    some = x[:50].copy()
    some[7] = 0
    rows, scores = exact(x[:1], some, 50, threads=1)
    assert scores[0][rows[0] == 7] == 0


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_small_tables_are_searched_exactly_and_large_ones_fall_back_to_it():
    assert [one.kind for one in recipes(5000, 384)] == ["flat"]
    assert [one.kind for one in recipes(0, 384)] == ["flat"]
    kinds = [one.kind for one in recipes(500_000, 384)]
    assert kinds[0] == "hnsw"
    assert kinds[-1] == "flat"


@pytest.mark.parametrize(("n", "d"), [(1000, 384), (200_000, 384), (50_000, 2048)])
def test_memory_keeps_to_what_fits(n, d):
    flat = 4 * n * d
    for memory in (2 * flat, flat, flat // 2, flat // 5):
        found = recipes(n, d, memory=memory)
        assert found
        assert all(bytes_per_vector(one, d) * n <= memory for one in found)
    with pytest.raises(UsageError, match=r"the smallest, \S+, takes"):
        recipes(n, d, memory=1000)
    with pytest.raises(UsageError, match="flat"):
        recipes(n, d, kind="flat", memory=flat - 1)


@pytest.mark.parametrize("d", [1, 3, 17, 97, 384, 385, 1280, 2048])
def test_every_kind_can_be_made_for_every_dimension(d):
    for kind in KINDS:
        assert recipes(100_000, d, kind=kind)[0].kind == kind
        factory = recipes(100_000, d, kind=kind)[0].factory
        assert recipes(100_000, d, factory=factory)[0].kind == "custom"


def test_the_size_of_a_vector_is_known_beforehand(indexes):
    for kind in KINDS:
        assert indexes[kind].bytes_per_vector == pytest.approx(bytes_per_vector(recipe_of(kind), D), rel=0.25), kind


def test_recipes_that_cannot_be_are_named():
    for factory in ("nonsense", "IVF100,PQ7", "IVF-5,Flat", "IVF99999999999,Flat", "", "LSH"):
        with pytest.raises(UsageError, match="FAISS cannot make"):
            recipes(1000, 32, factory=factory)
    for factory in ("IVF0,Flat", "HNSW0", "HNSW1,SQ8", "IVF16_HNSW0,Flat"):
        with pytest.raises(UsageError, match="at least 2"):
            recipes(1000, 32, factory=factory)
    with pytest.raises(UsageError, match="ids of its own"):
        recipes(1000, 32, factory="IDMap,Flat")
    with pytest.raises(UsageError, match="no kind 'tree'"):
        recipes(1000, 32, kind="tree")
    with pytest.raises(UsageError, match="both"):
        recipes(1000, 32, kind="hnsw", factory="Flat")


# --- measuring --------------------------------------------------------------------------------------------------------


def test_the_own_row_and_its_twins_do_not_count(x):
    vectors = np.concatenate([x, x[:300]])  # the first 300 have a twin each
    groups = np.concatenate([np.arange(N), np.arange(300)])
    own = np.arange(200)
    truth = truth_of(vectors[:200], vectors, K, own=own, groups=groups)
    assert (groups[truth] != own[:, None]).all()
    without = exact(vectors[:200], vectors, K + 2)[0]
    assert all(set(row) <= set(full) for row, full in zip(truth.tolist(), without.tolist(), strict=True))
    index = VectorIndex.build(vectors, recipe_of("flat"), threads=1)
    got = measure(index, {}, vectors[:200], truth, k=K, vectors=vectors, own=own, groups=groups, threads=1)
    assert got.recall == 1
    # An index that finds the query itself and nothing else that is right has found nothing.
    wrong = VectorIndex.build(np.concatenate([vectors[:200], -vectors[200:]]), recipe_of("flat"), threads=1)
    assert (
        measure(wrong, {}, vectors[:200], truth, k=K, vectors=vectors, own=own, groups=groups, threads=1).recall < 0.3
    )


def test_of_equal_vectors_any_is_right(x, asked):
    vectors = np.repeat(x[:600], 4, axis=0)
    truth = truth_of(asked, vectors, K)
    other = truth ^ 1  # the twin beside it
    backwards = VectorIndex.build(vectors[np.arange(len(vectors)) ^ 1], recipe_of("flat"), threads=1)
    assert measure(backwards, {}, asked, other, k=K, vectors=vectors, threads=1).recall == 1


def test_tuning_says_the_best_it_reached_where_nothing_is_enough(x, asked):
    index = VectorIndex.build(x, Recipe("custom", "PQ1x4"), threads=1)
    truth = truth_of(asked, x, K)
    found, reached = tune(index, recipes(N, D, factory="PQ1x4")[0], x, asked, truth, k=K, recall=0.9999, threads=1)
    assert 0 < reached < 0.9999
    assert found["rerank"] == 64


def test_fewer_true_ones_than_k_are_enough(x):
    few = x[:6]
    truth = truth_of(few, few, K)
    assert (truth[:, 6:] == -1).all()
    index = VectorIndex.build(few, recipe_of("flat"), threads=1)
    assert measure(index, {}, few, truth, k=K, vectors=few, threads=1).recall == 1
    assert measure(index, {}, few, truth, k=K, threads=1).recall == 1


@pytest.mark.parametrize("factory", ["IVF4,Flat", "IVF4,SQ8", "IVF4,PQ16x4fs", "PQ8"])
def test_nothing_is_printed_about_few_vectors(factory, capfd):
    x = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    assert VectorIndex.build(x, Recipe("custom", factory, {}), threads=1).count == 300
    assert capfd.readouterr() == ("", "")


def test_a_graph_finds_all_there_are_even_where_no_link_leads():
    """Twins may link to twins alone, so that no walk from elsewhere comes to them."""
    for seed in range(60):
        random = np.random.default_rng(seed)
        n = int(random.integers(20, 200))
        x = random.standard_normal((n, 8)).astype(np.float32)
        x[random.integers(0, n, n // 2)] = x[0]
        factory = "HNSW16_SQfp16" if seed % 2 else "HNSW32"
        index = VectorIndex.build(x, Recipe("hnsw", factory, {"efSearch": 16}), threads=1)
        asked = random.standard_normal((4, 8)).astype(np.float32)
        for k, allowed in ((n, None), (5, np.arange(n) == n - 1), (7, random.random(n) < 0.3)):
            labels, scores = index.search(asked, k, allowed=allowed, search={"efSearch": 16})
            there = min(k, n if allowed is None else int(allowed.sum()))
            assert ((labels >= 0).sum(axis=1) == there).all(), seed
            assert np.isneginf(scores[labels < 0]).all()
