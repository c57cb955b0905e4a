"""A portion of the items: only some, so many at most, the best first; what is left comes later and nothing is lost."""

from __future__ import annotations

import json

import pytest
from stores import fresh, vectors, write_texts

from featstore.errors import InterruptedRunError, SettingsError, UsageError
from featstore.extract import extract
from featstore.extract.progress import Reporter
from featstore.records import ExtractResult
from featstore.settings import ExtractSettings, resolve
from featstore.store import Store

TEXTS = {f"t{i}": f"a story about {what}" for i, what in enumerate(["cats", "dogs", "rain", "bread", "trains", "tea"])}
ASKED = {"t0": 1.0, "t1": 7.0, "t2": None, "t3": 9.0, "t4": 7.0, "t5": 3.0}


@pytest.fixture
def store(model_store, tmp_path):
    return fresh(model_store, tmp_path)


@pytest.fixture
def source(tmp_path):
    return write_texts(tmp_path / "notes.jsonl", TEXTS, asked=ASKED)


def run(store: Store, source, *, reporter: Reporter | None = None, shard: int = 2, dry=False, **more) -> ExtractResult:
    part = {key: more.pop(key) for key in ("only", "order", "most") if key in more}
    given = {"source": str(source), "model": "minilm", "id_column": "id", "shard_items": shard, **more}
    settings, origins = resolve(ExtractSettings, given)
    return extract(store.layout, settings, origins.origins, reporter=reporter, dry_run=dry, **part)


def there(store: Store) -> list[str]:
    return sorted(vectors(store.table("notes")))


def summed(result: ExtractResult) -> bool:
    return result.seen == result.stored + result.reused + result.rejected + result.left


def planned(store: Store, result: ExtractResult) -> list[list[str]]:
    """The ids of each shard of a run's plan."""
    from featstore.extract.planned import Planned

    plan = Planned(store.layout, str(result.run_id))
    return [plan.shard(number)["item_id"].to_pylist() for number in range(result.shards)]


class Stops(Reporter):
    """Ends a run after so many shards."""

    def __init__(self, after: int) -> None:
        self.left = after

    def between(self) -> None:
        if not self.left:
            raise InterruptedRunError("stopped by the test", signum=15)
        self.left -= 1


def test_at_most_so_many_and_the_rest_later(store, source):
    first = run(store, source, most=2)
    assert (first.stored, first.left, first.seen, first.rejected) == (2, 4, 6, 0)
    assert there(store) == ["t0", "t1"]
    second = run(store, source, most=3)
    assert (second.stored, second.reused, second.left) == (3, 2, 1)
    assert summed(first)
    assert summed(second)
    nothing = run(store, source, most=0)
    assert (nothing.status, nothing.left) == ("nothing new", 1)
    assert run(store, source).left == 0
    assert there(store) == sorted(TEXTS)


def test_the_highest_come_first_and_those_without_a_value_last(store, source):
    done = run(store, source, order="asked")
    assert planned(store, done) == [["t1", "t3"], ["t4", "t5"], ["t0", "t2"]]
    assert there(store) == sorted(TEXTS)


def test_the_highest_are_taken_where_only_some_may_be(store, source):
    assert run(store, source, order="asked", most=2).stored == 2
    assert there(store) == ["t1", "t3"], "of two equal ones the source's first"
    run(store, source, order="asked", most=2)
    assert there(store) == ["t1", "t3", "t4", "t5"]


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["b", "a", None, "z", "", "c"], "t3"),
        ([float("nan"), 1.5, -2.0, 0.0, None, 1.0], "t1"),
        ([2, 9, 4, None, 11, 10], "t4"),
        ([False, False, True, False, None, False], "t2"),
    ],
)
def test_any_column_orders(store, tmp_path, values, first):
    source = write_texts(tmp_path / "notes.jsonl", TEXTS, asked=dict(zip(TEXTS, values, strict=True)))
    run(store, source, order="asked", most=1)
    assert there(store) == [first]


def test_a_time_column_orders_by_its_own_name_or_the_tables(store, tmp_path):
    when = {item: f"2026-01-0{9 - at}T00:00:00Z" for at, item in enumerate(TEXTS)} | {"t4": "2026-02-01T00:00:00Z"}
    source = write_texts(tmp_path / "notes.jsonl", TEXTS, when=when)
    run(store, source, time_column="when", order="when", most=1)
    assert there(store) == ["t4"]
    run(store, source, time_column="when", order="event_ts", most=1)
    assert there(store) == ["t0", "t4"]


def test_a_column_that_is_not_there_is_named_with_the_nearest(store, source):
    with pytest.raises(SettingsError, match=r"'aske'.*did you mean 'asked'") as caught:
        run(store, source, order="aske")
    assert caught.value.hint == "Their columns: asked."
    assert run(store, source).stored == 6


def test_a_column_without_any_value_leaves_the_sources_order(store, tmp_path):
    source = write_texts(tmp_path / "notes.jsonl", TEXTS, asked=dict.fromkeys(TEXTS))
    run(store, source, order="asked", most=2)
    assert there(store) == ["t0", "t1"]


def test_fewer_than_none_is_refused(store, source):
    with pytest.raises(UsageError, match="at most -1"):
        run(store, source, most=-1)


def test_only_some_ids_are_embedded(store, source):
    done = run(store, source, only={"t4", "t1", "elsewhere"})
    assert (done.stored, done.left) == (2, 4)
    assert there(store) == ["t1", "t4"]
    none = run(store, source, only=())
    assert (none.status, none.left, none.reused) == ("nothing new", 4, 2)


def test_what_changed_or_has_gone_is_brought_in_step_whatever_the_portion(store, tmp_path):
    source = write_texts(tmp_path / "notes.jsonl", TEXTS)
    run(store, source, only={"t0", "t1", "t2"})
    before = vectors(store.table("notes"))
    changed = {**TEXTS, "t1": "another story", "new": "a new one"}
    del changed["t2"]
    write_texts(source, changed)
    done = run(store, source, only=(), most=0)
    assert (done.changed, done.removed, done.left, done.new) == (1, 1, 4, 0)
    after = vectors(store.table("notes"))
    assert sorted(after) == ["t0", "t1"]
    assert after["t0"] == before["t0"]
    assert after["t1"] != before["t1"]


def test_renames_and_stored_twins_are_carried_and_twins_of_what_is_left_are_left(store, tmp_path):
    source = write_texts(tmp_path / "notes.jsonl", {"a": "one", "b": "two"})
    run(store, source)
    write_texts(source, {"z": "one", "b": "two", "twin": "two", "x": "three", "y": "three"})
    done = run(store, source, only=())
    assert (done.renamed, done.twins, done.stored, done.left) == (1, 1, 0, 2)
    assert there(store) == ["b", "twin", "z"]
    late = run(store, source, only={"y"})
    assert (late.stored, late.twins, late.left) == (1, 1, 0), "the second of two twins was asked for, the first is free"
    assert there(store) == ["b", "twin", "x", "y", "z"]


def test_the_content_of_a_changed_item_is_embedded_even_where_a_new_twin_comes_first(store, tmp_path):
    source = write_texts(tmp_path / "notes.jsonl", {"b": "two"})
    run(store, source)
    write_texts(source, {"a": "three", "b": "three", "c": "four"})
    done = run(store, source, most=0)
    assert (done.stored, done.left) == (1, 1)
    assert there(store) == ["a", "b"]


def test_twins_come_as_early_as_the_first_of_them(store, tmp_path):
    texts = {"low": "the same", "other": "another", "high": "the same"}
    source = write_texts(tmp_path / "notes.jsonl", texts, asked={"low": 1, "other": 5, "high": 9})
    run(store, source, order="asked", most=1)
    assert there(store) == ["high", "low"]


def test_a_dry_run_counts_the_portion(store, source):
    planned = run(store, source, most=2, dry=True)
    assert (planned.stored, planned.left, planned.seen) == (2, 4, 6)
    with pytest.raises(SettingsError, match="no such column"):
        run(store, source, order="missing", dry=True)


def test_a_stopped_run_goes_on_with_its_own_plan_and_ends_like_an_unbroken_one(store, source, model_store, tmp_path):
    part = {"order": "asked", "most": 5, "shard": 2}
    with pytest.raises(InterruptedRunError):
        run(store, source, reporter=Stops(1), **part)
    went_on = run(store, source, **part)
    assert (went_on.resumed_shards, went_on.stored, went_on.left) == (1, 5, 1)
    other = fresh(model_store, tmp_path / "other")
    unbroken = run(other, source, **part)
    assert unbroken.resumed_shards == 0
    assert vectors(other.table("notes")) == vectors(store.table("notes"))
    assert planned(other, unbroken) == planned(store, went_on)


def test_a_stopped_run_gives_what_it_made_to_one_of_another_portion(store, source):
    with pytest.raises(InterruptedRunError):
        run(store, source, reporter=Stops(2), order="asked")
    done = run(store, source, only={"t2"})
    assert (done.stored, done.twins, done.left, done.resumed_shards) == (1, 4, 1, 0)
    assert there(store) == ["t1", "t2", "t3", "t4", "t5"], "of t1, t3, t4 and t5 the vectors were there"


def test_what_is_left_is_no_share_of_what_was_refused(store, tmp_path):
    texts = {f"t{i:02d}": "" if i < 11 else f"text {i}" for i in range(40)}
    source = write_texts(tmp_path / "notes.jsonl", texts)
    from featstore.errors import TooManyRejectsError

    with pytest.raises(TooManyRejectsError, match=r"11 of 22 items were rejected \(50"):
        run(store, source, only={f"t{i:02d}" for i in range(22)}, shard=64, max_reject_share=0.3)


def test_the_chunks_of_a_text_count_as_the_text(store, tmp_path):
    words = [" ".join(f"word{at} number {what}" for at in range(12)) for what in ("one", "two", "three")]
    source = write_texts(tmp_path / "notes.jsonl", dict(zip("abc", words, strict=True)))
    done = run(store, source, only={"b#0"}, chunk_tokens=16, shard=64)
    assert {item.partition("#")[0] for item in there(store)} == {"b"}
    assert done.stored > 1
    assert done.left > 1


def test_a_portion_of_another_source_beside(store, tmp_path):
    first = write_texts(tmp_path / "notes.jsonl", {"a": "one"})
    run(store, first)
    second = write_texts(tmp_path / "more.jsonl", {"b": "two", "c": "three"})
    assert run(store, second, name="notes", add=True, most=1).left == 1
    assert there(store) == ["a", "b"]
    write_texts(second, {"c": "three"})
    done = run(store, second, name="notes")
    assert (done.removed, done.stored) == (1, 1)
    assert there(store) == ["a", "c"]


def test_the_result_says_what_is_left(store, source, capsys):
    from featstore.cli import report

    report.extraction(run(store, source, most=1))
    assert "6 seen = 1 stored + 0 reused + 0 rejected + 5 left to later runs; 0 removed" in capsys.readouterr().out
    report.rehearsal(run(store, source, most=1, dry=True))
    assert "left              4" in capsys.readouterr().out


def test_json_has_what_is_left(store, source):
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(run(store, source, most=1))))["left"] == 5
