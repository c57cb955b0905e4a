"""A refresh while its table is on its way to another model, or has come there: both tables in step, no way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from faults import Faulty
from spaces import letters, sayings, table_of
from stores import vectors

import featstore
from featstore import migrations, models, published
from featstore.errors import DeadlineError, GateError, InterruptedRunError, UsageError
from featstore.extract import extract
from featstore.extract.progress import Reporter
from featstore.jobs import Gates, Job
from featstore.models import ModelRequest
from featstore.records import JobState, Migration
from featstore.refresh.deadline import Until
from featstore.settings import ExtractSettings, IndexSettings, MigrateSettings, resolve
from featstore.storage import documents, durable, hashing
from featstore.store import Store

MODEL = ("model", "weights", "pooling", "layer", "dim", "prompt_document", "prompt_query")


class World:
    """A table of texts, published in an old space, and a new model that it may move to."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.layout = store, store.layout
        self.file = folder / "texts.csv"
        self.texts = sayings(24)
        self.models = {
            name: str(letters(folder / name, name, table_of(dim, seed=seed)))
            for name, dim, seed in (("old", 24, 1), ("new", 16, 2), ("third", 8, 3))
        }
        self.write()
        self.refresh()

    def write(self, **changes: str | None) -> None:
        """Changes, adds or (None) takes out items of the source."""
        self.texts = {item: text for item, text in {**self.texts, **changes}.items() if text is not None}
        lines = ["id,text,asked", *(f"{item},{text},{at}" for at, (item, text) in enumerate(self.texts.items(), 1))]
        self.file.write_text("\n".join(lines) + "\n", "utf-8")

    def job(self, model: str = "old", **more: object) -> Job:
        given = {"source": str(self.file), "model": self.models[model], "id_column": "id", "text_column": "text"}
        settings, origins = resolve(ExtractSettings, {**given, "shard_items": 8, "max_reject_share": 1.0, **more})
        index, _ = resolve(IndexSettings, {})
        return Job(
            name="nightly",
            table="texts",
            extract=settings,
            index=index,
            gates=Gates(max_reject_share=1.0),
            origins=origins.origins,
            digest=model,
        )

    def refresh(self, model: str = "old", **more: object):
        reporter = more.pop("reporter", None)
        deadline = more.pop("deadline", None)
        return self.store.refresh(self.job(model, **more), reporter=reporter, deadline=deadline)

    def space(self, model: str) -> str:
        return models.ensure(self.layout, ModelRequest(model=self.models[model])).space_id

    def opened(self, **more: object) -> Migration:
        """Writes down that the table is on its way."""
        said = {name: dict.fromkeys(MODEL) | {"model": self.models[name]} for name in ("old", "new")}
        made = Migration(
            name="texts",
            from_space=self.space("old"),
            to_space=self.space("new"),
            model=said["new"],
            before=said["old"],
            status="open",
            opened_ts=self.later(),
            changed_ts="",
        )
        return migrations.note(self.layout, made, **more)

    def later(self) -> str:
        """A time after all that was done."""
        last = self.store.table(f"texts@{self.space('old')}").history()[0].timestamp
        from datetime import datetime, timedelta

        return (datetime.fromisoformat(last) + timedelta(milliseconds=1)).isoformat()

    def backfill(self, **more: object):
        """What the move does itself."""
        job = self.job("new")
        return extract(self.layout, replace(job.extract, name="texts"), job.origins, **more)

    def arrived(self) -> None:
        """The move ends: what is published is of the new space."""
        found = migrations.find(self.layout, "texts")
        self.backfill()
        table = self.store.table(f"texts@{found.to_space}")
        self.store.publish(f"texts@{found.to_space}:{table.version}", reason="moved")
        migrations.note(self.layout, found, status="published")

    def ids(self, model: str) -> set[str]:
        space = self.space(model)
        if not self.layout.storage.exists(f"{self.layout.table('texts', space)}/_delta_log"):
            return set()
        return set(vectors(self.store.table(f"texts@{space}")))

    def in_step(self) -> bool:
        """Whether both tables hold the source's items, each with the content that it has now."""
        now = {item: hashing.of_text(text) for item, text in self.texts.items()}
        for model in ("old", "new"):
            rows = self.store.table(f"texts@{self.space(model)}").to_polars()
            if dict(zip(rows["item_id"].to_list(), rows["content_sha256"].to_list(), strict=True)) != now:
                return False
        return True


@pytest.fixture
def w(tmp_path) -> World:
    return World(featstore.open(tmp_path / "store"), tmp_path)


class Stops(Reporter):
    """Ends a run when a stage begins, or after its first shard."""

    def __init__(self, stage: str, *, shard: bool = False) -> None:
        self.at_stage, self.shard, self.there = stage, shard, False
        self.begun = 0
        self.warned: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        if name == self.at_stage:
            self.there = True
            if not self.shard:
                raise InterruptedRunError("stopped by the test", signum=15)

    def between(self) -> None:
        self.begun += self.there
        if self.shard and self.begun == 2:
            raise InterruptedRunError("stopped by the test", signum=15)

    def warning(self, text: str) -> None:
        self.warned.append(text)


# ── while it is open ────────────────────────────────────────────────────────────────────────────


def test_what_is_new_comes_into_both_and_the_rest_is_left_to_the_move(w):
    w.opened()
    w.backfill(most=5)
    w.write(n1="a new saying", s0013="another text now")
    result = w.refresh()
    assert (result.status, result.beside_error) == ("published", None)
    assert (result.beside.stored, result.beside.left) == (2, 18)
    assert result.beside.space_id == w.space("new")
    there = w.ids("new")
    assert {"n1", "s0013"} <= there
    assert len(there) == 5 + 2
    assert published.find(w.layout, "texts").state.space_id == w.space("old")
    assert "beside" in result.stage_seconds


def test_before_the_move_has_embedded_anything_only_what_is_new_is(w):
    w.opened()
    w.write(n1="a new saying")
    assert w.refresh().beside.stored == 1
    assert w.ids("new") == {"n1"}


def test_after_the_whole_is_there_both_stay_in_step(w):
    w.opened()
    w.backfill()
    w.write(n1="a new saying", n2="one more", s0003="another text now", s0007=None, s0008=None)
    w.write(**{"s0009": None, "renamed": w.texts["s0009"]})
    result = w.refresh()
    assert (result.beside.new, result.beside.changed, result.beside.removed) == (2, 1, 2)
    assert (result.beside.renamed, result.beside.left) == (1, 0)
    assert w.in_step()
    # The same vectors as from nothing.
    again = extract(w.layout, replace(w.job("new").extract, name="anew"), w.job("new").origins)
    assert again.stored == len(w.texts)
    anew, beside = vectors(w.store.table("anew")), vectors(w.store.table(f"texts@{w.space('new')}"))
    assert anew == beside


def test_a_quiet_night_brings_nothing(w):
    w.opened()
    w.backfill(most=5)
    result = w.refresh()
    assert result.status == "nothing new"
    assert (result.beside.status, result.beside.stored, result.beside.left) == ("nothing new", 0, 19)


def test_a_change_of_metadata_alone_does_not_begin_the_backfill(w):
    w.opened()
    w.backfill(most=5)
    lines = w.file.read_text("utf-8").splitlines()
    w.file.write_text("\n".join([lines[0], *(f"{line}9" for line in lines[1:])]) + "\n", "utf-8")
    result = w.refresh()
    assert (result.extract.updated, result.beside.stored, result.beside.updated) == (24, 0, 5)
    assert len(w.ids("new")) == 5


def test_more_than_a_fifth_may_go_from_a_table_that_is_not_full_yet(w):
    w.opened()
    w.backfill(most=13)
    w.write(**dict.fromkeys(sorted(w.texts)[:4]))
    w.write(**{f"n{at}": f"new saying number {at}" for at in range(30)})
    w.refresh()
    assert w.in_step() is False
    gone = [item for item in sorted(w.texts) if item.startswith("s")][:11]
    w.write(**dict.fromkeys(gone))
    result = w.store.refresh(replace(w.job(), gates=Gates(max_removed_share=0.9)))
    # The gate of the job is what counts, as for the old table.
    assert result.beside_error is None
    assert not w.ids("new") & set(gone)


def test_what_another_job_or_a_refused_run_left_is_not_brought(w):
    w.opened()
    w.write(n1="a new saying")
    with pytest.raises(GateError) as caught:
        w.store.refresh(replace(w.job(), gates=Gates(min_recall=1.1)))
    assert caught.value.context["result"].beside is None
    assert w.ids("new") == set()


def test_a_table_in_no_move_and_an_abandoned_one_are_refreshed_alone(w):
    w.opened(status="abandoned")
    w.write(n1="a new saying")
    result = w.refresh()
    assert (result.beside, result.beside_error) == (None, None)
    assert w.ids("new") == set()


def test_a_failure_beside_is_a_warning_and_the_next_run_makes_up_for_it(w, tmp_path):
    w.opened()
    w.backfill()
    w.write(n1="a new saying", s0001=None)
    real = durable.os
    textfile = tmp_path / "job.prom"
    job = replace(w.job(), textfile=str(textfile))

    class Full(Reporter):
        def stage(self, name: str, total: int | None = None) -> None:
            if name == "beside":
                durable.os = Faulty(3)

    try:
        result = w.store.refresh(job, reporter=Full())
    finally:
        durable.os = real
    assert result.status == "published"
    assert result.beside is None
    assert "No space" in result.beside_error or "disk" in result.beside_error
    assert any("is not in" in text for text in result.warnings)
    assert "n1" in w.ids("old")
    assert "n1" not in w.ids("new")
    state = documents.read(w.layout.storage, w.layout.job("nightly"), JobState)
    assert (state.last_status, state.failures) == ("published", 0)
    made_up = w.store.refresh(job)  # nothing is new in the old table
    assert made_up.status == "nothing new"
    assert (made_up.beside.stored, made_up.beside.removed) == (1, 1)
    assert w.in_step()
    assert "featstore_job_beside_failed" in textfile.read_text("utf-8")


def test_a_model_that_is_broken_leaves_what_is_published(w):
    w.opened()
    w.backfill()
    model = w.layout.storage.local(w.layout.model(w.space("new"), "model.onnx"))
    model.write_bytes(b"nothing that a runtime could load")
    w.write(n1="a new saying")
    result = w.refresh()
    assert result.status == "published"
    assert result.beside_error is not None
    assert published.find(w.layout, "texts").state.table_version == result.version
    assert "n1" in w.ids("old")


@pytest.mark.parametrize("shard", [False, True])
def test_an_interrupt_goes_through_and_the_next_run_goes_on(w, shard):
    w.opened()
    w.backfill(most=3)
    w.write(**{f"n{at}": f"new saying number {at}" for at in range(20)})
    with pytest.raises(InterruptedRunError) as caught:
        w.refresh(reporter=Stops("beside", shard=shard))
    found = caught.value.context["result"]
    assert found.status == "published"
    assert w.store.refreshed(found.run_id).status == "published"
    state = documents.read(w.layout.storage, w.layout.job("nightly"), JobState)
    assert state.last_status == "interrupted"
    assert state.last_published_ts is not None
    done = w.refresh()
    assert done.status == "nothing new"
    assert done.beside.resumed_shards == (1 if shard else 0)
    assert {f"n{at}" for at in range(20)} <= w.ids("new")
    assert len(w.ids("new")) == 23


def test_a_deadline_ends_what_is_beside_and_not_what_is_published(w):
    w.opened()
    w.write(n1="a new saying")
    clock = [0.0]

    class Late(Reporter):
        def stage(self, name: str, total: int | None = None) -> None:
            clock[0] += 100.0 if name == "publishing" else 0.0

    until = Until(Late(), 50.0, clock=lambda: clock[0])
    with pytest.raises(DeadlineError, match="what was published stays"):
        w.refresh(reporter=until)
    assert "n1" in w.ids("old")
    assert w.refresh(deadline=600.0).beside.stored == 1


def test_a_source_that_loses_items_between_the_two_looks_takes_nothing_out(w):
    w.opened()
    w.backfill()
    w.write(n1="a new saying")

    class Loses(Reporter):
        def stage(self, name: str, total: int | None = None) -> None:
            if name == "beside":
                whole = dict(w.texts)
                w.write(**dict.fromkeys(sorted(whole)[:20]))
                w.texts = whole

    result = w.refresh(reporter=Loses())
    assert result.status == "published"
    assert "were there a moment ago" in result.beside_error
    w.write()
    assert w.refresh().beside_error is None
    assert w.in_step()


def test_a_run_of_the_move_that_was_cut_short_loses_nothing_to_a_refresh(w):
    w.opened()

    class Once(Reporter):
        def between(self) -> None:
            self.shards = getattr(self, "shards", 0) + 1
            if self.shards == 2:
                raise InterruptedRunError("stopped by the test", signum=15)

    with pytest.raises(InterruptedRunError):
        w.backfill(reporter=Once())
    w.write(n1="a new saying")
    result = w.refresh()
    assert (result.beside.stored, result.beside.twins) == (1, 8), "the finished shard's vectors are taken over"
    assert w.backfill().stored == 16
    assert w.in_step()


# ── after it, and back ──────────────────────────────────────────────────────────────────────────


def test_a_job_that_names_the_model_before_follows_the_move(w):
    w.opened()
    w.arrived()
    w.write(n1="a new saying")
    result = w.refresh("old")
    assert (result.status, result.space_id) == ("published", w.space("new"))
    assert published.find(w.layout, "texts").state.space_id == w.space("new")
    (warning,) = [text for text in result.warnings if "followed" in text]
    assert f'Write under [model]: name = "{w.models["new"]}"' in warning
    assert result.beside is None
    assert "n1" not in w.ids("old")
    assert w.refresh("old").status == "nothing new"


def test_a_job_that_names_the_model_that_was_rolled_back_follows_that(w):
    w.opened()
    w.arrived()
    w.write(n1="a new saying")
    w.refresh("new")
    for _ in range(2):  # the night's version, then the move itself
        w.store.rollback("texts", reason="worse")
    assert published.find(w.layout, "texts").state.space_id == w.space("old")
    w.write(n2="one more")
    result = w.refresh("new")
    assert (result.status, result.space_id) == ("published", w.space("old"))
    assert any("is back in the space" in text for text in result.warnings)


def test_a_job_that_names_the_model_to_come_waits_for_the_move(w):
    w.opened()
    w.write(n1="a new saying")
    result = w.refresh("new")
    assert result.space_id == w.space("old")
    assert any("is still in the space" in text for text in result.warnings)
    assert w.ids("new") == {"n1"}, "and it is brought into both all the same"


def test_a_model_that_is_neither_is_a_decision(w):
    w.opened()
    w.arrived()
    result = w.refresh("third")
    assert result.space_id == w.space("third")
    assert not any("followed" in text for text in result.warnings)


def test_a_job_whose_model_is_that_of_what_is_published_is_as_it_was(w):
    w.opened()
    assert not any("followed" in text for text in w.refresh("old").warnings)
    w.arrived()
    assert not any("followed" in text for text in w.refresh("new").warnings)


def test_what_led_there_may_be_gone(w):
    w.opened()
    new, old = w.space("new"), w.space("old")
    w.arrived()
    for name in ("old", "new"):
        for file in Path(w.models[name]).parent.iterdir():
            file.unlink()
    w.write(n1="a new saying")
    result = w.refresh("old")
    assert (result.status, result.space_id) == ("published", new)
    assert any(f'name = "{new}"' in text and old in text for text in result.warnings)


def test_a_dry_run_says_the_same(w):
    w.opened()
    w.write(n1="a new saying")
    planned = w.store.plan_refresh(w.job("old"))
    assert any(f"is brought into {w.space('new')} as well" in text for text in planned.warnings)
    w.arrived()
    planned = w.store.plan_refresh(w.job("old"))
    assert planned.extract.space_id == w.space("new")
    assert any("is followed" in text for text in planned.warnings)
    assert not any("as well" in text for text in planned.warnings)


# ── what is said ────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_moves_a_table_is_not_for_refresh(w):
    job = replace(w.job(), migrate=MigrateSettings(to=w.models["new"]), file="/jobs/move.toml")
    for run in (w.store.refresh, w.store.plan_refresh):
        with pytest.raises(UsageError, match="moves 'texts' to another model") as caught:
            run(job)
        assert caught.value.hint == "Run it with: featstore migrate /jobs/move.toml"


def test_people_and_machines_are_told(w, capsys):
    from dataclasses import asdict

    from featstore.cli import refreshed

    w.opened()
    w.backfill(most=5)
    w.write(n1="a new saying", s0013="another text now")
    result = w.refresh()
    refreshed.outcome(result)
    said = " ".join(capsys.readouterr().out.split())
    assert f"beside {w.space('new')}: 2 embedded, 0 removed; 18 are left to featstore migrate" in said
    assert json.loads(json.dumps(asdict(result)))["beside"]["left"] == 18
    assert w.store.refreshed(result.run_id).beside.left == 18
