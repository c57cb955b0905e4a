"""Eval: the figures of trec_eval, its intervals, judgements in every form, one table, two, and an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import pytrec_eval
from cli_world import inside
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import fresh, write_texts

from featstore.errors import NotFoundError, SettingsError, UsageError
from featstore.evaluate.intervals import scores
from featstore.evaluate.judgements import read
from featstore.evaluate.metrics import names, rate
from featstore.store import Store

# ── metrics ──────────────────────────────────────────────────────────────────────────────────────


def by_trec_eval(
    rankings: dict[str, list[str]], judged: dict[str, dict[str, int]], k: int
) -> dict[str, dict[str, float]]:
    """What trec_eval says; scores fall with the rank, so that it keeps our order of equal ones."""
    measures = {"ndcg_cut.10", f"recall.10,{k}"}
    run = {q: {item: -float(at) for at, item in enumerate(found)} for q, found in rankings.items()}
    whole = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    # It cuts no reciprocal rank: the ranking is cut for it.
    first = {q: dict(list(items.items())[:10]) for q, items in run.items()}
    ranks = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(first)
    return {
        q: {
            "ndcg@10": found["ndcg_cut_10"],
            "mrr@10": ranks[q]["recip_rank"],
            **{f"recall@{cut}": found[f"recall_{cut}"] for cut in (10, k)},
        }
        for q, found in whole.items()
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.sampled_from([10, 12, 50, 100]))
def test_each_figure_is_that_of_trec_eval(seed: int, k: int) -> None:
    """Graded and negative judgements, judged items that no search finds, rankings shorter than the cut."""
    generator = np.random.default_rng(seed)
    items = [f"d{at}" for at in range(160)]
    rankings: dict[str, list[str]] = {}
    judged: dict[str, dict[str, int]] = {}
    for number in range(4):
        some = generator.permutation(130)[: generator.integers(1, k + 1)]
        rankings[f"q{number}"] = [items[at] for at in some]
        picked = generator.permutation(160)[: generator.integers(1, 60)]
        grades = generator.integers(-1, 4, len(picked))
        grades[0] = max(1, grades[0])
        judged[f"q{number}"] = {items[at]: int(grade) for at, grade in zip(picked, grades, strict=True)}
    found = rate(list(rankings.values()), list(judged.values()), k)
    wanted = by_trec_eval(rankings, judged, k)
    for row, query in zip(found, rankings, strict=True):
        for name, value in zip(names(k), row, strict=True):
            assert value == pytest.approx(wanted[query][name], abs=1e-9), name


def test_a_perfect_and_a_hopeless_ranking() -> None:
    judged = {"a": 2, "b": 1, "c": 0}
    perfect, hopeless, nothing = rate([["a", "b", "x"], ["c", "x", "y"], []], [judged] * 3, 100)
    assert perfect.tolist() == [1, 1, 1, 1]
    assert hopeless.tolist() == nothing.tolist() == [0, 0, 0, 0]
    assert names(10) == ("ndcg@10", "mrr@10", "recall@10")


# ── intervals ────────────────────────────────────────────────────────────────────────────────────


def test_an_interval_is_as_wide_as_the_normal_one_and_pairs_make_it_narrower() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0.5, 0.2, 400)
    a, b = hard + generator.normal(0, 0.02, 400), hard + 0.01 + generator.normal(0, 0.02, 400)
    one, other, paired = scores(np.stack([a, b, b - a], axis=1))
    assert one.mean == pytest.approx(a.mean())
    assert one.high - one.low == pytest.approx(2 * 1.96 * a.std(ddof=1) / 20, rel=0.1)
    assert one.low < other.mean < one.high
    assert 0 < paired.low < paired.mean < paired.high
    assert scores(np.stack([a, b, b - a], axis=1)) == [one, other, paired]


def test_one_query_and_equal_queries_have_no_width() -> None:
    for values in (np.array([[0.3]]), np.full((7, 1), 0.1)):
        (found,) = scores(values)
        assert (found.low, found.high) == pytest.approx((found.mean, found.mean))
        assert found.low <= found.mean <= found.high


# ── judgements ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\n",
        "q1\td1\t2\nq1\td 2\t0",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\n\r\nq1\td 2\t0.0\r\n",
        "q1\t0\td1\t2\nq1\tQ0\td 2\t0\n",
        "q1\td1\t2\nq1\td1\t2\nq1\td 2\t0\n",
    ],
)
def test_judgements_in_every_form(text: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_bytes(text.encode())
    assert read(tmp_path / "qrels") == {"q1": {"d1": 2, "d 2": 0}}


def test_judgements_parted_by_blanks(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("1 0 d1 1\n1  0  d2 -1\n 2 0 d1 3\n")
    assert read(tmp_path / "qrels") == {"1": {"d1": 1, "d2": -1}, "2": {"d1": 3}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no judgement"),
        (b"query-id\tcorpus-id\tscore\n", "no judgement"),
        (b"q1\td1\n", "line 1: 2 fields"),
        (b"q1\td1\t1\nq1\td2\thigh\n", "line 2: the relevance is 'high'"),
        (b"q1\td1\t1\nq1\td2\t0.5\n", "line 2: the relevance is '0.5'"),
        (b"q1\td1\tnan\n", "no judgement"),
        (b"q1\td1\t1\nq1\td1\t0\n", "line 2: 'd1' is of relevance 0 to the query 'q1', and of 1"),
        (b"q1\td1\t1\nq1\t\xff\t1\n", "not UTF-8: byte 11"),
    ],
)
def test_what_is_no_judgement_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "qrels")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────

ANIMALS = ("cat", "dog", "horse", "bird", "fish", "snake")
PLACES = ("in the garden", "on the roof", "by the river", "in the kitchen", "under the bridge")
DOCUMENTS = {f"{a} {p}": f"A {a} is sleeping {p} this morning." for a in ANIMALS for p in PLACES}


@pytest.fixture(scope="module")
def library(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ``docs``, ``vague`` (the same ids, poorer texts), queries and judgements; not to be changed."""
    root = tmp_path_factory.mktemp("library")
    store = fresh(model_store, root)
    texts = {**DOCUMENTS, "twin": DOCUMENTS["cat on the roof"]}
    poorer = {item: text.replace("cat", "pet").replace("dog", "pet")[:30] for item, text in texts.items()}
    for name, found in (("docs", texts), ("vague", poorer)):
        source = write_texts(root / f"{name}.jsonl", found)
        store.extract(source, model="minilm", text_column="text", id_column="id", name=name)
    queries, judged = [], []
    for animal in ANIMALS:
        for at, place in enumerate(PLACES[:3]):
            query = f"{animal}{at}"
            queries.append({"_id": query, "text": f"Where is the {animal}? {place}"})
            judged += [(query, f"{animal} {p}", 2 if p == place else 1) for p in PLACES]
    judged += [("cat1", "twin", 2), ("cat0", "an unknown document", 1), ("dog0", "cat on the roof", 0)]
    judged += [("unasked", "cat on the roof", 1), ("fruitless", "cat on the roof", 0)]
    queries += [{"_id": "unjudged", "text": "Is there any cake?"}, {"_id": "fruitless", "text": "And tea?"}]
    (root / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (root / "queries.tsv").write_text("".join(f"{query['_id']}\t{query['text']}\n" for query in queries))
    (root / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{r}\n" for q, d, r in judged))
    return root


def judgements_of(root: Path) -> dict[str, dict[str, int]]:
    return read(root / "qrels.tsv")


def test_a_table_is_rated_as_trec_eval_rates_its_search(library: Path) -> None:
    store = Store(library / "store")
    found = store.eval("docs", library / "queries.jsonl", library / "qrels.tsv", k=20)
    judged = judgements_of(library)
    asked = [json.loads(line) for line in (library / "queries.jsonl").read_text().splitlines()]
    asked = [query for query in asked if max(judged.get(query["_id"], {"": 0}).values()) > 0]
    hits = store.table("docs").search(text=[query["text"] for query in asked], k=20, exact=True)
    rankings = {
        query["_id"]: hits.filter(pl.col("query") == query["text"]).sort("rank")["item_id"].to_list() for query in asked
    }
    wanted = by_trec_eval(rankings, {q: judged[q] for q in rankings}, 20)
    assert found.a.metrics.keys() == {"exact"}
    for name in names(20):
        assert found.a.metrics["exact"][name].mean == pytest.approx(np.mean([v[name] for v in wanted.values()]))
    assert 0 < found.a.metrics["exact"]["ndcg@10"].low < 1
    assert (found.queries, found.unjudged, found.without_text) == (18, 2, 1)
    assert found.a.judged_absent == 1
    assert found.judgements == sum(len(judged[query["_id"]]) for query in asked)
    assert (found.b, found.difference, found.worst, found.overlap) == (None, {}, (), None)


def test_two_tables_are_compared_query_by_query(library: Path, tmp_path: Path) -> None:
    done = inside(
        "eval", "docs", "vague", "--store", library / "store", "--queries", library / "queries.tsv", "--qrels",
        library / "qrels.tsv", "-o", tmp_path / "each.parquet", "--json", cwd=library,
    )  # fmt: skip
    assert done.code == 0, done.err
    found: Any = done.json
    each = pl.read_parquet(tmp_path / "each.parquet")
    assert len(each) == 2 * 18
    values = {
        side: each.filter(pl.col("table").str.starts_with(f"{name}@")).sort("query")
        for side, name in (("a", "docs"), ("b", "vague"))
    }
    for name in names(100):
        a, b = (values[side][name].to_numpy() for side in "ab")
        assert found["difference"][name]["mean"] == pytest.approx((b - a).mean())
        assert found["a"]["metrics"]["exact"][name]["mean"] == pytest.approx(a.mean())
    changes = (values["b"]["ndcg@10"] - values["a"]["ndcg@10"]).to_list()
    lost = sorted(change for change in changes if change < 0)[:20]
    assert lost, "the poorer texts should be worse somewhere"
    assert [one["difference"] for one in found["worst"]] == pytest.approx(lost)
    first = found["worst"][0]
    assert first["difference"] == pytest.approx(first["b"] - first["a"])
    assert first["text"].startswith("Where is the")
    assert len(first["first_a"]) == len(first["first_b"]) == 3
    assert 0 < found["overlap"]["share"]["mean"] < 1
    back = Store(library / "store").eval(["vague", "docs"], library / "queries.tsv", library / "qrels.tsv")
    assert back.difference["ndcg@10"].mean == pytest.approx(-found["difference"]["ndcg@10"]["mean"])


@pytest.mark.heavy
def test_without_judgements_two_tables_show_what_they_share(library: Path) -> None:
    store = Store(library / "store")
    found = store.eval(["docs", "vague"], library / "queries.jsonl", examples=5)
    assert found.queries == 20
    assert found.overlap is not None
    shares, changed = [], {}
    queries = [json.loads(line) for line in (library / "queries.jsonl").read_text().splitlines()]
    texts = [query["text"] for query in queries]
    hits = [store.table(name).search(text=texts, exact=True) for name in ("docs", "vague")]
    for query in queries:
        one, two = (set(side.filter(pl.col("query") == query["text"])["item_id"]) for side in hits)
        shares.append(len(one & two) / 10)
        changed[query["_id"]] = (one - two, two - one)
    assert found.overlap.share.mean == pytest.approx(np.mean(shares))
    assert len(found.overlap.changed_most) == 5
    for one_change, share in zip(found.overlap.changed_most, sorted(shares), strict=False):
        assert one_change.overlap == pytest.approx(share)
        assert (set(one_change.only_a), set(one_change.only_b)) == changed[one_change.query]
    assert found.a.metrics == {}
    done = inside(
        "eval", "docs", "vague", "--store", "store", "--queries", "queries.jsonl", "--examples", "2", cwd=library
    )
    assert "of the first 10 hits a and b share" in done.out
    assert done.out.count("Where is the") + done.out.count("Is there any") + done.out.count("And tea?") == 2


def test_the_index_is_rated_beside_exact_search(model_store: Path, library: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    generator = np.random.default_rng(0)
    words = [word for text in DOCUMENTS.values() for word in text.rstrip(".").split()]
    noise = {f"n{at}": " ".join(generator.choice(words, 7)) for at in range(170)}
    source = write_texts(tmp_path / "docs.jsonl", DOCUMENTS | noise)
    store.extract(source, model="minilm", text_column="text", id_column="id", name="docs")
    before = store.eval("docs", library / "queries.jsonl", library / "qrels.tsv")
    assert before.a.metrics.keys() == {"exact"}
    store.index("docs", kind="flat")
    found = store.eval("docs", library / "queries.jsonl", library / "qrels.tsv")
    assert found.a.metrics["index"] == found.a.metrics["exact"] == before.a.metrics["exact"]
    assert all(score.mean == 0 for score in found.a.index_difference.values())
    assert found.overlap is not None
    assert (found.overlap.between, found.overlap.share.mean) == ("exact and index", 1)
    alone = store.eval("docs", library / "queries.jsonl")
    assert alone.overlap == found.overlap or alone.overlap is not None
    shown = inside(
        "eval", "docs", "--store", tmp_path / "store", "--queries", "queries.jsonl", "--qrels", "qrels.tsv", cwd=library
    )
    assert "index - exact" in shown.out


def test_chunks_are_rated_as_the_texts_they_are_of(library: Path, tmp_path: Path, model_store: Path) -> None:
    store = fresh(model_store, tmp_path)
    texts = {a: " ".join(DOCUMENTS[f"{a} {p}"] for p in PLACES) for a in ANIMALS}
    store.extract(
        write_texts(tmp_path / "long.jsonl", texts), model="minilm", text_column="text", id_column="id", name="long",
        chunk_tokens=12,
    )  # fmt: skip
    assert len(store.table("long")) > 2 * len(texts)
    queries = tmp_path / "q.jsonl"
    queries.write_text("".join(json.dumps({"_id": a, "text": f"Where is the {a}?"}) + "\n" for a in ANIMALS))
    (tmp_path / "qrels").write_text("".join(f"{a} 0 {a} 1\n" for a in ANIMALS))
    found = store.eval("long", queries, tmp_path / "qrels")
    assert found.a.judged_absent == 0
    assert found.a.metrics["exact"]["mrr@10"].mean > 0.9
    (tmp_path / "chunks").write_text("".join(f"{a} 0 {a}#0 1\n" for a in ANIMALS))
    assert store.eval("long", queries, tmp_path / "chunks").a.judged_absent == len(ANIMALS)
    assert store.eval("long", queries, tmp_path / "chunks", group_by="item_id").a.judged_absent == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"_id": "q", "text": "  "}\n', "the query 'q' cannot be used"),
        ('{"_id": "q", "text": "a"}\n{"_id": "q", "text": "b"}\n', "'q' stands there 2 times"),
        ('{"_id": "other", "text": "a"}\n', "none of the 1 queries"),
        ("", "no query"),
        ('{"_id": "q"}\n', "line 1"),
    ],
)
def test_queries_that_cannot_be_asked(content: str, message: str, library: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(content)
    (tmp_path / "qrels").write_text("q 0 twin 1\n")
    with pytest.raises(UsageError, match=message):
        Store(library / "store").eval("docs", tmp_path / "q.jsonl", tmp_path / "qrels")


@pytest.mark.parametrize(("line", "message"), [("q1 no tab\n", "line 1"), ("q1\t\n", "line 1"), ("\n", "no query")])
def test_lines_of_ids_and_texts(line: str, message: str, library: Path, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text(line)
    with pytest.raises(UsageError, match=message):
        Store(library / "store").eval("docs", tmp_path / "q.tsv", library / "qrels.tsv")


def test_what_cannot_be_is_refused(library: Path, tmp_path: Path) -> None:
    store, queries, qrels = Store(library / "store"), library / "queries.jsonl", library / "qrels.tsv"
    with pytest.raises(UsageError, match="nothing to compare"):
        store.eval("docs", queries)
    with pytest.raises(UsageError, match="3 tables"):
        store.eval(["docs", "vague", "docs"], queries, qrels)
    with pytest.raises(SettingsError, match="k is 9"):
        store.eval("docs", queries, qrels, k=9)
    with pytest.raises(NotFoundError, match="column 'colour'"):
        store.eval("docs", queries, qrels, group_by="colour")
    with pytest.raises(UsageError, match="without --qrels"):
        store.eval(["docs", "vague"], queries, output=tmp_path / "x.csv")
    with pytest.raises(UsageError, match=r"\.parquet or \.csv"):
        store.eval("docs", queries, qrels, output=tmp_path / "x.txt")
    done = inside("eval", "docs", "docs", "docs", "--queries", queries, "--store", library / "store", cwd=tmp_path)
    assert done.code == 2
