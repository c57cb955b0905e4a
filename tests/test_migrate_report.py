"""The report of a move to another model: its figures against ones made by hand, its gates, and its page."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
from cli_world import schema
from own_models import image_card, image_model, save, text_card, text_model
from PIL import Image
from stores import copied_store, fresh

import featstore
from featstore import published
from featstore.cli import migrated
from featstore.errors import GateError, SettingsError, SpaceMismatchError
from featstore.evaluate.questions import read as read_queries
from featstore.jobs import Gates, Job
from featstore.migrate.report import carried, report
from featstore.migrate.report.forest import Row, forest
from featstore.migrate.report.gates import judge
from featstore.migrate.report.heads import Moved
from featstore.models import load_card
from featstore.records import (
    Estimate,
    GateOutcome,
    HeadMove,
    MigrationPlan,
    MigrationReport,
    MigrationResult,
    ScoreMap,
    ScoreQuantile,
    SettingValue,
)
from featstore.refresh import drafting
from featstore.refresh.run import Built, Within, refresh
from featstore.search.encoding import QueryEncoder
from featstore.storage import documents
from featstore.store import Store
from featstore.tables import FeatureTable

pytestmark = pytest.mark.xdist_group("migrate-report")

NASTY = '<script>alert("x")</script>&\u202e'
_ANIMALS = "cat dog horse sheep wolf lion tiger otter badger hedgehog kitten puppy"
_MONEY = "bank loan share bond profit debt tax price market broker dollar stock"
_KITCHEN = "soup bread butter onion pepper flour oven recipe cheese garlic honey salt"
_PLAIN = "the a of in with some very this morning again today quiet large story about before"
_TOPICS = {"animals": _ANIMALS, "money": _MONEY, "kitchen": _KITCHEN}
_WORDS = {topic: words.split() for topic, words in _TOPICS.items()}


def job_of(store: Store, model: str | None = None, **more: Any) -> Job:
    """The job that keeps the table as it is, or with another model."""
    job = drafting.draft(store.layout, "docs", "docs")[0]
    assert job.extract is not None
    extract = replace(job.extract, model=model or job.extract.model, max_reject_share=1.0)
    said = {field.name: getattr(extract, field.name) for field in fields(extract)}
    origins = {
        name: SettingValue(value=list(value) if isinstance(value, tuple) else value, origin="job")
        for name, value in said.items()
    }
    return replace(job, extract=extract, gates=Gates(max_reject_share=1.0), origins=origins, **more)


def rows(number: int, seed: int = 0) -> dict[str, dict[str, object]]:
    """Texts of a topic, its words among plain ones; with a label, a number and several labels."""
    generator = np.random.default_rng(seed)
    made: dict[str, dict[str, object]] = {}
    for at in range(number):
        topic = list(_WORDS)[at % 3]
        own = generator.choice(_WORDS[topic], int(generator.integers(2, 5)), replace=False).tolist()
        words = [*own, *generator.choice(_PLAIN.split(), 8).tolist()]
        generator.shuffle(words)
        made[f"t{at:03d}"] = {
            "text": f"{' '.join(words)} {at}",
            "topic": topic if generator.random() > 0.1 else list(_WORDS)[(at + 1) % 3],
            "number": float(len(own)) + (at % 3),
            "tags": "|".join(sorted({topic, "many" if len(own) > 2 else "few"})),
        }
    return made


def write(path: Path, items: dict[str, dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps({"id": key, **row}) + "\n" for key, row in items.items()), "utf-8")
    return path


@dataclass
class World:
    """A store with a published table of texts, its heads, and a second, much weaker model."""

    store: Store
    source: Path
    other: Path

    def built(self, also: Callable[[Built], tuple[GateOutcome, ...]], model: str | None = None) -> None:
        """Builds everything with the other model; nothing is published."""
        job = job_of(self.store, model or str(self.other), digest="new")
        stop = GateOutcome(gate="stop", status="refused", value=None, limit=0, relation="at most", note="it is a test")
        with pytest.raises(GateError, match="it is a test"):
            refresh(self.store.layout, job, within=Within(also=lambda built: (*also(built), stop)))

    def before(self) -> tuple[FeatureTable, dict[str, int]]:
        state = published.find(self.store.layout, "docs")
        assert state is not None
        return FeatureTable.open(
            self.store.layout, "docs", state.state.space_id, state.state.table_version
        ), state.state.heads

    def report(self, **more: Any) -> tuple[MigrationReport, Built]:
        """The report on the other model."""
        found: list[tuple[MigrationReport, Built]] = []
        table, heads = self.before()

        def also(built: Built) -> tuple[GateOutcome, ...]:
            given = {"name": "docs", "before": table, "before_heads": heads, "gates": Gates(), **more}
            made = report(self.store.layout, built=built, **given)
            found.append((made, built))
            return made.gates

        self.built(also)
        return found[0]


def made(model_store: Path, folder: Path, items: dict[str, dict[str, object]], *, heads: bool = True) -> World:
    folder.mkdir(parents=True, exist_ok=True)
    store = fresh(model_store, folder)
    source = write(folder / "docs.jsonl", items)
    other = save(folder / "own", text_model(), text_card(), "letters")
    store.extract(source, model="minilm", id_column="id", text_column="text", name="docs")
    if heads:
        plain: dict[str, Any] = {"kind": "ridge", "curve": False, "baselines": False}
        store.train_head("docs", label="topic", name="topic", **plain)
        store.train_head("docs", label="number", name="number", task="regression", **plain)
        store.train_head("docs", label="tags", name="tags", task="multilabel", separator="|", **plain)
    refresh(store.layout, job_of(store))
    return World(store, source, other)


@pytest.fixture(scope="module", autouse=True)
def _hasty() -> Iterator[None]:
    """Models are timed for a moment: these tests are not about how fast they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featstore.encode.rate._SECONDS", 0.1)
        yield


@pytest.fixture(scope="module")
def first(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return made(model_store, tmp_path_factory.mktemp("report"), rows(120))


@pytest.fixture(scope="module")
def headless(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same without heads, which take most of the time."""
    return made(model_store, tmp_path_factory.mktemp("headless"), rows(120), heads=False)


def copy_of(world: World, folder: Path) -> World:
    return World(featstore.open(copied_store(world.store.path, folder / "store")), world.source, world.other)


@pytest.fixture
def world(first: World, tmp_path: Path) -> World:
    return copy_of(first, tmp_path)


@pytest.fixture
def bare(headless: World, tmp_path: Path) -> World:
    return copy_of(headless, tmp_path)


@pytest.fixture(scope="module")
def plain(first: World) -> tuple[MigrationReport, Built]:
    """The report on the same items in both spaces, without judgements."""
    return first.report()


def predictions(world: World, path: str) -> pl.DataFrame:
    return pl.read_parquet(world.store.path / path / "predictions.parquet")


def both_tested(world: World, built: Built, head: str, version: int) -> pl.DataFrame:
    """What both heads said of the test items that neither has learned from, from their own files."""
    outcome = next(one for one in built.heads if one.head == head)
    assert outcome.folder is not None
    old, new = predictions(world, f"heads/{head}/{version}"), predictions(world, outcome.folder)
    learned = set(old.filter(pl.col("side") == "train")["content_sha256"])
    learned |= set(new.filter(pl.col("side") == "train")["content_sha256"])
    both = old.filter(pl.col("side") == "test").join(
        new.filter(pl.col("side") == "test"), on=["item_id", "content_sha256"], suffix="_new"
    )
    return both.filter(~pl.col("content_sha256").is_in(learned))


# ── the figures ──────────────────────────────────────────────────────────────────────────────────


def test_heads_are_compared_on_the_same_test_items(first: World, plain: tuple[MigrationReport, Built]) -> None:
    found, built = plain
    _, versions = first.before()
    moves = {move.head: move for move in found.heads}
    assert set(moves) == {"number", "tags", "topic"}
    topic = moves["topic"]
    items = both_tested(first, built, "topic", versions["topic"])
    assert topic.items == len(items) > 10
    truth = items["truth_new"].to_list()
    classes = sorted(set(first.store.head("topic").card.classes))
    right = [
        np.array([classes[int(np.argmax(p))] == label for p, label in zip(items[column].to_list(), truth, strict=True)])
        for column in ("probabilities", "probabilities_new")
    ]
    assert topic.main == "accuracy"
    assert topic.figures_before["accuracy"].value == pytest.approx(right[0].mean())
    assert topic.figures_after["accuracy"].value == pytest.approx(right[1].mean())
    apart = topic.difference["accuracy"]
    assert apart.value == pytest.approx(right[1].mean() - right[0].mean())
    assert apart.low <= apart.value <= apart.high
    assert right[0].mean() > right[1].mean(), "letters alone say less of a topic than a language model"
    # The interval against a paired bootstrap of our own.
    generator = np.random.default_rng(5)
    gaps = right[1].astype(float) - right[0]
    draws = gaps[generator.integers(0, len(gaps), (4000, len(gaps)))].mean(axis=1)
    assert (apart.low, apart.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.05)


def test_numbers_and_several_labels_are_compared_too(first: World, plain: tuple[MigrationReport, Built]) -> None:
    from sklearn.metrics import average_precision_score, r2_score

    found, built = plain
    _, versions = first.before()
    moves = {move.head: move for move in found.heads}
    items = both_tested(first, built, "number", versions["number"])
    truth = items["truth_new"].to_numpy()
    scores = [r2_score(truth, items[column].to_numpy()) for column in ("predicted", "predicted_new")]
    assert moves["number"].difference["r2"].value == pytest.approx(scores[1] - scores[0], abs=1e-6)
    items = both_tested(first, built, "tags", versions["tags"])
    classes = first.store.head("tags").card.classes
    real = np.array([[name in labels for name in classes] for labels in items["truth_new"].to_list()])
    means = []
    for column in ("probabilities", "probabilities_new"):
        said = np.array(items[column].to_list())
        each = [average_precision_score(real[:, at], said[:, at]) for at in range(len(classes)) if real[:, at].any()]
        means.append(np.mean(each))
    assert moves["tags"].main == "mAP"
    assert moves["tags"].difference["mAP"].value == pytest.approx(means[1] - means[0], abs=1e-6)


def unit(table: FeatureTable) -> tuple[list[str], np.ndarray]:
    ids, vectors = table.matrix()
    order = np.argsort(ids.astype(str), kind="stable")
    exact = vectors[order].astype(np.float64)
    return [str(ids[at]) for at in order], exact / np.linalg.norm(exact, axis=1, keepdims=True)


def test_overlap_and_score_quantiles_are_those_of_brute_force(
    first: World, plain: tuple[MigrationReport, Built]
) -> None:
    found, built = plain
    assert found.overlap is not None
    assert found.scores is not None
    near, scores = [], []
    for table in (first.before()[0], built.candidate):
        ids, vectors = unit(table)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -np.inf)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :10]
        near.append([{ids[at] for at in row} for row in order.tolist()])
        scores.append(np.take_along_axis(cosines, order, axis=1))
    shares = np.array([len(a & b) / 10 for a, b in zip(*near, strict=True)])
    assert (found.overlap.items, found.overlap.queries, found.overlap.k) == (120, 120, 10)
    assert found.overlap.mean == pytest.approx(shares.mean(), abs=0.005)  # equal scores may change places
    assert found.overlap.changed_most[0].overlap == pytest.approx(shares.min(), abs=0.11)
    for kind, column in (("best", 0), ("tenth", 9)):
        for one in getattr(found.scores, kind):
            assert one.before == pytest.approx(np.quantile(scores[0][:, column], one.share), abs=2e-6)
            assert one.after == pytest.approx(np.quantile(scores[1][:, column], one.share), abs=2e-6)
    assert [one.share for one in found.scores.best] == [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    # Of 120 items there are 7,140 pairs, of which 5,000 are drawn.
    assert found.scores.pairs == 5_000
    upper = np.triu_indices(120, 1)
    for side, name in ((0, "before"), (1, "after")):
        _, vectors = unit((first.before()[0], built.candidate)[side])
        whole = (vectors @ vectors.T)[upper]
        middle = next(one for one in found.scores.random if one.share == 0.5)
        assert getattr(middle, name) == pytest.approx(np.median(whole), abs=0.02)


def test_a_threshold_lets_through_as_much_as_before(first: World, plain: tuple[MigrationReport, Built]) -> None:
    found, built = plain
    assert found.scores is not None
    best = []
    for table in (first.before()[0], built.candidate):
        _, vectors = unit(table)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -np.inf)
        best.append(cosines.max(axis=1))
    for share in (0.1, 0.3, 0.5, 0.8):
        old = float(np.quantile(best[0], 1 - share))
        new = carried(found.scores, old)
        assert (best[1] >= new).mean() == pytest.approx(share, abs=0.05)
    steps = [carried(found.scores, float(t)) for t in np.linspace(-1, 1, 101)]
    assert steps == sorted(steps)
    assert (carried(found.scores, 1.0), carried(found.scores, -1.0)) == (1.0, -1.0)


def test_a_threshold_at_equal_scores_keeps_all_of_them() -> None:
    def quantiles(*pairs: tuple[float, float]) -> tuple[ScoreQuantile, ...]:
        return tuple(ScoreQuantile(share=at / 10, before=a, after=b) for at, (a, b) in enumerate(pairs))

    scores = ScoreMap(queries=9, pairs=9, best=quantiles((0.5, 0.7), (0.9, 0.8), (0.9, 0.95)), tenth=(), random=())
    assert carried(scores, 0.9) == 0.8
    assert carried(scores, 0.7) == pytest.approx(0.75)
    for wrong in (1.5, math.nan):
        with pytest.raises(SettingsError, match="cosine"):
            carried(scores, wrong)
    with pytest.raises(SettingsError, match="too few"):
        carried(scores, 0.5, of="tenth")
    with pytest.raises(SettingsError, match="allowed are"):
        carried(scores, 0.5, of="worst")  # type: ignore[arg-type]


def test_what_each_side_costs(first: World, plain: tuple[MigrationReport, Built]) -> None:
    found, built = plain
    old, new = found.costs
    assert (old.dim, new.dim) == (384, 12)
    assert old.items_per_s is not None
    assert new.items_per_s is not None
    assert new.items_per_s > old.items_per_s > 0
    for cost, table in ((old, first.before()[0]), (new, built.candidate)):
        assert cost.vector_bytes == sum((table.path / file).stat().st_size for file in table.files)
        assert cost.model_bytes == (first.store.path / "models" / cost.space_id / "model.onnx").stat().st_size
        assert cost.index_bytes is None


def test_a_source_that_is_gone_is_said_and_no_reason_to_stop(bare: World) -> None:
    table, heads = bare.before()

    def also(built: Built) -> tuple[GateOutcome, ...]:
        away = bare.source.with_suffix(".away")
        bare.source.rename(away)
        try:
            found = report(bare.store.layout, name="docs", before=table, before_heads=heads, built=built, gates=Gates())
        finally:
            away.rename(bare.source)
        assert [cost.items_per_s for cost in found.costs] == [None, None]
        assert any("not timed" in note for note in found.notes)
        return ()

    bare.built(also)


# ── retrieval ────────────────────────────────────────────────────────────────────────────────────


def judged(folder: Path) -> tuple[Path, Path]:
    """Three queries; relevant is what has their topic."""
    words = {"q1": "animals", "q2": "money", "q3": "kitchen"}
    queries, qrels = folder / "queries.jsonl", folder / "qrels.tsv"
    queries.write_text(
        "".join(json.dumps({"_id": q, "text": " ".join(_WORDS[t][:4])}) + "\n" for q, t in words.items()), "utf-8"
    )
    lines = ["query-id\tcorpus-id\tscore"]
    lines += [f"{q}\t{item}\t1" for q, t in words.items() for item, row in rows(120).items() if row["topic"] == t]
    qrels.write_text("\n".join(lines) + "\n", "utf-8")
    return queries, qrels


def test_retrieval_is_that_of_a_hand_made_ranking(bare: World, tmp_path: Path) -> None:
    queries, qrels = judged(tmp_path)
    found, built = bare.report(queries=queries, qrels=qrels, gates=Gates(min_ndcg=0.5, max_drop=0.01))
    assert found.evaluation is not None
    assert found.evaluation.b is not None
    relevant = {
        line.split("\t")[0]: {other.split("\t")[1] for other in qrels.read_text().splitlines() if other[:2] == line[:2]}
        for line in qrels.read_text().splitlines()[1:]
    }
    layout, means = bare.store.layout, []
    for table in (bare.before()[0], built.candidate):
        ids, vectors = unit(table)
        asked = read_queries(queries, "text")
        encoded, errors = QueryEncoder(layout, None).encode(load_card(layout, table.space_id), asked)
        assert not errors
        figures = []
        for query, vector in zip(asked, encoded, strict=True):
            order = np.argsort(-(vectors @ vector.astype(np.float64)), kind="stable")[:10]
            gains = [1 / math.log2(at + 2) for at in range(10)]
            got = sum(gain for gain, at in zip(gains, order, strict=True) if ids[at] in relevant[query.name])
            figures.append(got / sum(gains[: len(relevant[query.name])]))
        means.append(np.mean(figures))
    assert found.evaluation.a.metrics["exact"]["ndcg@10"].mean == pytest.approx(means[0], abs=1e-6)
    assert found.evaluation.b.metrics["exact"]["ndcg@10"].mean == pytest.approx(means[1], abs=1e-6)
    gates = {gate.gate: gate for gate in found.gates}
    assert gates["min_ndcg"].value == pytest.approx(means[1])
    assert gates["min_ndcg"].status == ("passed" if means[1] >= 0.5 else "refused")
    assert gates["max_drop.ndcg@10"].value == pytest.approx(means[0] - means[1])
    assert gates["max_drop.ndcg@10"].status == "refused"
    assert {one.item_id for one in gates["max_drop.ndcg@10"].items} <= {"q1", "q2", "q3"}
    assert "Queries that lost most" in page(bare)


def test_without_judgements_retrieval_is_not_judged(bare: World, tmp_path: Path) -> None:
    queries, _ = judged(tmp_path)
    found, _ = bare.report(queries=queries, gates=Gates(min_ndcg=0.5))
    gate = next(gate for gate in found.gates if gate.gate == "min_ndcg")
    assert (gate.status, gate.value, gate.note) == ("not judged", None, "there are no judgements")
    assert any("without judgements" in note for note in found.notes)


def test_judgements_that_cannot_be_used_refuse(bare: World, tmp_path: Path) -> None:
    queries, _ = judged(tmp_path)
    found, _ = bare.report(queries=queries, qrels=tmp_path / "gone.tsv", gates=Gates(min_ndcg=0.5))
    assert found.evaluation is None
    refused = [gate for gate in found.gates if gate.status == "refused"]
    assert {"min_ndcg", "max_drop.ndcg@10"} <= {gate.gate for gate in refused}
    assert any("gone.tsv" in note for note in found.notes)


# ── gates ────────────────────────────────────────────────────────────────────────────────────────


def test_gates_name_what_a_worse_model_gets_wrong(plain: tuple[MigrationReport, Built]) -> None:
    found, _ = plain
    gate = next(gate for gate in found.gates if gate.gate == "max_drop.topic")
    topic = next(move for move in found.heads if move.head == "topic")
    assert gate.status == ("refused" if topic.difference["accuracy"].high < 0 else "passed")
    assert gate.status == "refused"
    assert gate.value == pytest.approx(-topic.difference["accuracy"].high)
    assert 0 < len(gate.items) <= 10
    assert all(
        re.fullmatch(r"is '\w+', was predicted '\w+' \(0\.\d\d\), now '\w+' \(0\.\d\d\)", i.about) for i in gate.items
    )


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high)


def moved(apart: Estimate, *, old: float = 0.9, status: Any = "compared", note: str | None = None) -> Moved:
    figures = {"accuracy": estimate(old, 0, 1)}, {"accuracy": estimate(old + apart.value, 0, 1)}
    move = HeadMove(
        head="h", task="classification", label="label", before=1, version=None, main="accuracy", items=50,
        figures_before=figures[0], figures_after=figures[1], difference={"accuracy": apart}, note=note,
    )  # fmt: skip
    return Moved(move, status)


@pytest.mark.parametrize(
    ("apart", "most", "status", "value"),
    [
        (estimate(-0.03, -0.05, -0.01), None, "refused", 0.01),
        (estimate(-0.03, -0.07, 0.01), None, "passed", -0.01),
        (estimate(0.02, 0.01, 0.03), None, "passed", -0.03),
        (estimate(0.0, 0.0, 0.0), None, "passed", 0.0),
        (estimate(-0.03, -0.05, -0.01), 0.03, "passed", 0.03),
        (estimate(-0.03, -0.07, 0.01), 0.02, "refused", 0.03),
        (estimate(0.9 - 1.2, -0.4, -0.2), 0.3, "passed", 0.3),  # a rounding is no drop
        (estimate(0.0, -0.1, 0.1), 0.0, "passed", 0.0),
        (estimate(math.nan, math.nan, math.nan), 0.5, "refused", None),
        (estimate(math.nan, math.nan, math.nan), None, "refused", None),
    ],
)
def test_a_drop_is_judged_by_its_limit_or_by_its_interval(
    apart: Estimate, most: float | None, status: str, value: float | None
) -> None:
    (gate,) = [one for one in judge(Gates(max_drop=most), [moved(apart)], None) if one.gate == "max_drop.h"]
    assert (gate.status, gate.value) == (status, value if value is None else pytest.approx(value))
    assert (gate.limit, gate.relation) == (most or 0.0, "at most")


def test_what_cannot_be_compared_refuses_or_is_not_judged() -> None:
    apart = estimate(0, 0, 0)
    for status, wanted in (("impossible", "refused"), ("untold", "not judged")):
        (gate,) = judge(Gates(), [moved(apart, status=status, note="why")], None)
        assert (gate.status, gate.value, gate.note) == (wanted, None, "why")
    assert judge(Gates(), [], None) == ()


# ── what differs ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_tables_whose_items_differ_are_compared_on_what_both_hold(world: World, tmp_path: Path) -> None:
    """Some items have left, some came, and some have another content, before the new space was made."""
    items = rows(120)
    kept = {key: row for at, (key, row) in enumerate(items.items()) if at % 10}
    for key in list(kept)[::9]:
        kept[key] = {**kept[key], "text": f"{kept[key]['text']} rewritten"}
    kept |= {f"n{at:03d}": row for at, row in enumerate(rows(12, seed=9).values())}
    original = world.source.read_text("utf-8")
    try:
        write(world.source, kept)
        found, built = world.report()
    finally:
        world.source.write_text(original, "utf-8")
    table, versions = world.before()
    old = {(str(i), c) for i, c in zip(table.rows(["item_id"])["item_id"].to_pylist(), contents(table), strict=True)}
    new = set(zip(built.candidate.rows(["item_id"])["item_id"].to_pylist(), contents(built.candidate), strict=True))
    assert found.overlap is not None
    assert found.overlap.items == len(old & new) < 108
    assert any(f"{len(old & new):,} items" in note for note in found.notes)
    topic = next(move for move in found.heads if move.head == "topic")
    items_both = both_tested(world, built, "topic", versions["topic"])
    assert topic.items == len(items_both.filter(pl.struct("item_id", "content_sha256").map_elements(
        lambda row: (row["item_id"], row["content_sha256"]) in old & new, return_dtype=pl.Boolean
    )))  # fmt: skip
    assert topic.note is not None
    assert "left out" in topic.note


def contents(table: FeatureTable) -> list[str]:
    return [str(one) for one in table.rows(["content_sha256"])["content_sha256"].to_pylist()]


@pytest.mark.heavy
def test_heads_that_do_not_come_along(world: World) -> None:
    """One is of another task now, one cannot be trained, one the job does not keep."""
    table, heads = world.before()
    job = job_of(world.store, str(world.other), digest="new")
    changed = []
    for head in job.heads:
        if head.name == "topic":
            changed.append(replace(head, settings=replace(head.settings, label="nowhere")))
        elif head.name == "number":
            changed.append(replace(head, settings=replace(head.settings, task="classification", drop_rare=True)))
    job = replace(job, heads=tuple(changed))
    found: list[MigrationReport] = []

    def also(built: Built) -> tuple[GateOutcome, ...]:
        found.append(
            report(world.store.layout, name="docs", before=table, before_heads=heads, built=built, gates=Gates())
        )
        return found[0].gates

    with pytest.raises(GateError):
        refresh(world.store.layout, job, within=Within(also=also))
    moves = {move.head: move for move in found[0].heads}
    gates = {gate.gate.partition(".")[2]: gate.status for gate in found[0].gates}
    assert "could not be trained" in (moves["topic"].note or "")
    assert "regression and would be a classification" in (moves["number"].note or "")
    assert "does not keep it" in (moves["tags"].note or "")
    assert gates == {"topic": "refused", "number": "refused", "tags": "not judged"}
    assert all(move.items == 0 and not move.difference for move in found[0].heads)


def test_one_space_is_no_move(first: World, plain: tuple[MigrationReport, Built]) -> None:
    table, _ = first.before()
    same = replace(plain[1], candidate=table)
    with pytest.raises(SpaceMismatchError, match="both tables"):
        report(first.store.layout, name="docs", before=table, before_heads={}, built=same, gates=Gates())


@pytest.mark.parametrize("number", [1, 2, 5])
def test_tables_of_very_few_items_and_no_heads(model_store: Path, tmp_path: Path, number: int) -> None:
    world = made(model_store, tmp_path, rows(number), heads=False)
    found, _ = world.report(gates=Gates(max_drop=0.1))
    assert found.heads == ()
    if number == 1:
        assert found.overlap is None
        assert found.scores is None
        assert any("fewer than two items" in note for note in found.notes)
    else:
        assert found.overlap is not None
        assert found.scores is not None
        assert found.scores.pairs == number * (number - 1) // 2
        assert found.scores.tenth == ()
    assert "no head is published" in " ".join(found.notes)
    assert all(gate.status == "not judged" for gate in found.gates)
    assert "Nothing judges the new model" in page(world)


# ── the page and the document ────────────────────────────────────────────────────────────────────


def page(world: World) -> str:
    return (world.store.path / "migrations/docs/report.html").read_text("utf-8")


@pytest.mark.heavy
def test_the_document_reads_back_and_fits_its_schema(world: World) -> None:
    found, _ = world.report()
    layout = world.store.layout
    assert documents.read(layout.storage, layout.migration_report("docs", "report.json"), MigrationReport) == found
    body = json.loads((world.store.path / "migrations/docs/report.json").read_text("utf-8"))
    jsonschema.validate(body, schema("documents/migration-report.json"))
    assert found.html == "migrations/docs/report.html"
    text = page(world)
    for name in ("verdict", "heads", "neighbours", "scores", "costs"):
        assert f'<section id="{name}"' in text
    assert 'id="retrieval"' not in text
    assert "old better" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text), "nothing is fetched from anywhere"
    assert "<script" not in text
    assert "script-src 'none'" in html.unescape(text)
    first = rows(120)[found.overlap.changed_most[0].item_id]["text"]  # type: ignore[union-attr]
    assert html.escape(str(first)) in text, "the query is shown by the beginning of its text"


@pytest.mark.heavy
def test_what_strangers_wrote_is_text_on_the_page(model_store: Path, tmp_path: Path) -> None:
    items = rows(24)
    strange = {f"{NASTY}{key}": {**row, "text": f"{NASTY} {row['text']}"} for key, row in items.items()}
    world = made(model_store, tmp_path, strange, heads=False)
    queries = tmp_path / "queries.jsonl"
    queries.write_text(json.dumps({"_id": NASTY, "text": NASTY}) + "\n", "utf-8")
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text(f"query-id\tcorpus-id\tscore\n{NASTY}\t{next(iter(strange))}\t1\n", "utf-8")
    world.report(queries=queries, qrels=qrels)
    text = page(world)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;alert" in text


def test_a_forest_leaves_out_what_is_no_number_and_marks_what_is_worse() -> None:
    bad = Row("bad", estimate(math.nan, 0, 0))
    assert forest("f", "t", [bad]) == ""
    drawn = forest(
        "f", "t", [bad, Row("<b>worse</b>", estimate(-0.2, -0.3, -0.1)), Row("same", estimate(0, -0.1, 0.1))]
    )
    assert drawn.count("<circle") == 2
    assert 'class="worse"' in drawn
    assert 'class="dot2"' in drawn
    assert "<b>" not in drawn


def test_the_terminal_shows_the_result_and_the_plan(
    plain: tuple[MigrationReport, Built], capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = plain
    result = MigrationResult(
        name="docs", status="refused", from_space=found.before.space_id, to_space=found.after.space_id, version=0,
        items=120, embedded=120, stored=120, seconds=2.5, stage_seconds={"extract": 1.5, "report": 1.0}, run_id="r1",
        report=found, gates=found.gates, error="max_drop.topic is 0.2", next=("featstore show r1",),
        warnings=("w\x1b",),
    )  # fmt: skip
    migrated.outcome(result, Path("/somewhere/store"))
    said = capsys.readouterr().out
    for word in ("a gate refused", "topic", "accuracy", "max_drop.topic", "neighbours", "next: featstore show r1"):
        assert word in said
    assert "/somewhere/store/migrations/docs/report.html" in said.replace("\n", "")
    assert "\x1b" not in said
    plan = MigrationPlan(
        name="docs", from_space="a-1", to_space=None, model="letters", items=120, there=20, to_embed=100,
        seconds_low=1.0, seconds_high=7300.0, bytes=10_000, index_bytes=0, disk_free=10**9, index="none",
        heads={"topic": "fitted anew"}, gates=("max_drop at most 0.01",), warnings=("short of disk",),
    )  # fmt: skip
    migrated.rehearsal(plan)
    said = capsys.readouterr().out
    for word in ("nothing was changed", "100", "2.0 h", "head topic", "max_drop", "warning: short of disk"):
        assert word in said


# ── images, indexes, many classes ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def pictures(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A published table of pictures with an index and a head, and a cheap network of random weights."""
    from sklearn.datasets import load_sample_image

    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for label, name in (("building", "china.jpg"), ("flower", "flower.jpg")):
        (folder / "photos" / label).mkdir(parents=True)
        whole = Image.fromarray(load_sample_image(name))
        for at in range(24):
            left, top = int(generator.integers(0, 500)), int(generator.integers(0, 300))
            whole.crop((left, top, left + 130, top + 120)).save(folder / "photos" / label / f"{label}{at:02d}.jpg")
    store = fresh(model_store, folder)
    other = save(folder / "own", image_model(), image_card(), "colours")
    store.extract(folder / "photos", model="efficientnet_lite0", label_from="folder", name="docs")
    store.train_head("docs", name="scene", kind="ridge", curve=False, baselines=False)
    store.index("docs")
    refresh(store.layout, job_of(store))
    return World(store, folder / "photos", other)


def test_pictures_are_shown_as_they_are_kept(pictures: World) -> None:
    found, built = pictures.report()
    text = page(pictures)
    assert text.count('<img src="data:image/jpeg;base64,') > 20
    assert "scene" in text
    assert all(cost.items_per_s for cost in found.costs)
    assert built.index is not None
    for cost, version in ((found.costs[0], 0), (found.costs[1], built.index.version)):
        folder = pictures.store.path / f"indexes/docs/{cost.space_id}/{version}"
        assert cost.index_bytes == sum((folder / file).stat().st_size for file in ("index.faiss", "ids.parquet"))
    assert len(text) < 1_000_000


@pytest.mark.heavy
def test_probabilities_that_are_not_kept_are_made_again(pictures: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = pictures.report()
    monkeypatch.setattr("featstore.training.keeping._MOST", 0)
    again, built = pictures.report()
    frame = predictions(pictures, str(built.heads[0].folder))
    assert frame["probabilities"].null_count() == len(frame)
    assert again.heads[0].items == kept.heads[0].items > 0
    assert again.heads[0].difference == kept.heads[0].difference


@pytest.mark.heavy
def test_more_probabilities_than_there_is_room_for_are_of_some_items(
    pictures: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = pictures.report()
    monkeypatch.setattr("featstore.training.side_by_side._VALUES", 8)
    monkeypatch.setattr("featstore.training.side_by_side._LEAST", 1)
    some, built = pictures.report()
    tested = predictions(pictures, str(built.heads[0].folder)).filter(pl.col("side") == "test")
    assert (whole.heads[0].items, some.heads[0].items) == (len(tested), 4)
    assert f"4 of {len(tested)} test items" in (some.heads[0].note or "")


def test_a_new_head_that_is_damaged_refuses(pictures: World) -> None:
    table, heads = pictures.before()
    found: list[MigrationReport] = []

    def also(built: Built) -> tuple[GateOutcome, ...]:
        (outcome,) = built.heads
        folder = pictures.store.path / str(outcome.folder)
        card = json.loads((folder / "card.json").read_text("utf-8"))
        (folder / card["head_file"]["file"]).write_bytes(b"not what the card says")
        found.append(
            report(pictures.store.layout, name="docs", before=table, before_heads=heads, built=built, gates=Gates())
        )
        return found[0].gates

    pictures.built(also)
    (gate,) = [one for one in found[0].gates if one.gate == "max_drop.scene"]
    assert (gate.status, gate.value) == ("refused", None)
    assert "cannot be opened" in (gate.note or "")
