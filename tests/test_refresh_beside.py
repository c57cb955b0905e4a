"""What stands beside a refresh: another job of the table, a later refused run, another source, a stopped run."""

from __future__ import annotations

import errno

import pytest
from faults import Faulty
from refresh_world import World, copied, job_of, seen, world, write

from featstore.errors import GateError, IntegrityError, InterruptedRunError, StorageError
from featstore.extract import members
from featstore.extract.progress import Reporter
from featstore.jobs import Gates, HeadJob, Job
from featstore.records import PublishedState
from featstore.settings import HeadSettings, TorchSettings, resolve
from featstore.storage import durable

TOO_GOOD = Gates(min_recall=1.1)


@pytest.fixture(scope="module")
def first(model_store, tmp_path_factory):
    made = world(model_store, tmp_path_factory.mktemp("beside"))
    assert made.refresh(head=True).status == "published"
    return made


@pytest.fixture
def w(first, tmp_path):
    return copied(first, tmp_path)


def trains(*heads: str) -> Job:
    """A job of its own that keeps heads on the table, and has neither a source nor an index."""
    settings, _ = resolve(HeadSettings, {"kind": "ridge", "label": "label", "curve": False, "baselines": False})
    torch, _ = resolve(TorchSettings, {})
    return Job(
        name="trains",
        table="texts",
        extract=None,
        index=None,
        heads=tuple(HeadJob(name=head, settings=settings, torch=torch, refit="never") for head in heads),
        gates=Gates(),
        digest="trains " + " ".join(heads),
    )


def state(w: World) -> PublishedState:
    found = w.store.published("texts")
    assert found is not None
    return found.state


def refused(w: World) -> str:
    with pytest.raises(GateError) as caught:
        w.refresh(gates=TOO_GOOD, index=True)
    return str(caught.value.context["result"].run_id)


@pytest.mark.heavy
def test_two_jobs_of_a_table_leave_each_other_alone(w):
    assert w.store.refresh(trains("other")).status == "published"
    assert (state(w).heads, state(w).index_version) == ({"texts-topic": 1, "other": 1}, 0)
    for _ in range(2):
        assert w.refresh(head=True).status == "nothing new"
        assert w.store.refresh(trains("other")).status == "nothing new"
    assert len(w.store.published("texts").previous) == 1
    w.add("one more kitten")
    assert w.refresh(head=True).status == "published"
    assert state(w).heads == {"texts-topic": 2, "other": 1}
    assert w.store.refresh(trains("other")).status == "published", "measured again on what came"
    assert (state(w).table_version, state(w).heads) == (1, {"texts-topic": 2, "other": 1})
    assert w.refresh(head=True).status == "nothing new"
    seen(w.store)


def test_a_head_that_a_job_no_longer_keeps_is_no_longer_published(w):
    assert w.store.refresh(trains("one", "two")).status == "published"
    assert w.store.refresh(trains("two")).status == "published"
    assert set(state(w).heads) == {"texts-topic", "two"}


def test_a_refused_run_that_is_published_by_hand_leaves_the_heads_of_other_jobs(w):
    assert w.store.refresh(trains("other")).status == "published"
    w.add("one more kitten")
    with pytest.raises(GateError) as caught:
        w.refresh(head=True, gates=TOO_GOOD)
    w.store.publish(caught.value.context["result"].run_id, reason="looked at it")
    assert (state(w).table_version, state(w).heads) == (1, {"texts-topic": 2, "other": 1})


def test_publishing_an_earlier_refused_run_loses_nothing_of_a_later_one(w):
    w.add("one more kitten")
    earlier = refused(w)
    w.add("and another tomcat")
    refused(w)
    w.store.publish(earlier, reason="looked at it")
    last = w.refresh()
    assert (last.status, last.extract.stored, last.extract.shards) == ("published", 0, 0), "nothing is embedded again"


def test_publishing_an_old_run_again_forgets_no_item_of_its_source(w, tmp_path):
    other = write(tmp_path / "more.csv", 10, start=100)
    more = World(w.store, other)
    reading = {"model": "minilm", "id_column": "id", "text_column": "text", "label_column": "label"}
    w.store.extract(str(other), name="texts", add=True, **reading)
    more.add("one zebra", "z1")
    with pytest.raises(GateError) as caught:
        more.refresh(gates=TOO_GOOD, add=True)
    run = caught.value.context["result"].run_id
    w.store.publish(run, reason="looked at it")
    before = other.read_text("utf-8")
    more.add("two zebras", "z2")
    assert more.refresh(add=True).status == "published"
    w.store.rollback("texts")
    w.store.publish(run, reason="this one")
    layout = w.store.layout
    assert "z2" in (members.known(layout, "texts", state(w).space_id, str(other)) or [])
    other.write_text(before, "utf-8")
    assert more.refresh(add=True).extract.removed == 1
    assert "z2" not in seen(w.store).items


class Stopped(Reporter):
    """Stops a run after its first shard."""

    finished = -1

    def between(self) -> None:
        self.finished += 1
        if self.finished == 1:
            raise InterruptedRunError("stopped by SIGTERM.", signum=15)


def test_a_run_that_is_stopped_is_named_as_the_one_that_goes_on(w):
    for at in range(40):
        w.add(f"kitten number {at}", f"k{at:02d}")
    with pytest.raises(InterruptedRunError) as caught:
        w.store.refresh(job_of(w.source, head=True), reporter=Stopped())
    result = caught.value.context["result"]
    assert (result.status, result.extract.stored) == ("interrupted", 16)
    assert w.store.run(result.run_id).status == "interrupted"
    again = w.refresh(head=True)
    assert (again.run_id, again.extract.resumed_shards, again.status) == (result.run_id, 1, "published")


def test_a_run_that_was_stopped_and_extracted_by_hand_is_published_with_the_heads_there_are(w):
    for at in range(20):
        w.add(f"kitten number {at}", f"k{at:02d}")
    with pytest.raises(InterruptedRunError) as caught:
        w.store.refresh(job_of(w.source, head=True), reporter=Stopped())
    run = caught.value.context["result"].run_id
    reading = {"model": "minilm", "id_column": "id", "text_column": "text", "label_column": "label"}
    w.store.extract(str(w.source), name="texts", shard_items=16, **reading)
    assert w.store.run(run).status == "committed", "it went on with the run"
    w.store.publish(run)
    assert (state(w).table_version, state(w).heads) == (1, {"texts-topic": 1})


def test_a_disk_that_refuses_a_folder_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "os", Faulty(1, code=errno.EROFS))
    with pytest.raises(StorageError, match="Read-only file system"):
        durable.make_folder(tmp_path / "heads")


def test_what_was_done_is_told_also_where_it_cannot_be_written_down(w):
    w.store.layout.storage.write(w.store.layout.job("texts"), b"{broken")
    w.add("one more kitten")
    with pytest.raises(IntegrityError) as caught:
        w.refresh(head=True)
    assert caught.value.context["result"].status == "published"
    assert state(w).table_version == 1


def test_the_index_of_a_refused_run_answers_nobody(w):
    assert w.store.gc(grace_hours=0).compacted_files, "what is published has a number without an index of its own now"
    w.add("one more kitten")
    refused(w)
    table = w.store.table("texts")
    assert len(table.search(id="t003", k=3)) == 3  # an index that does not fit warns, which is an error here
    assert w.store.layout.storage.exists(w.store.layout.index("texts", table.space_id, 2))
    assert table.summary().index.version == 0
