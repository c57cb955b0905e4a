"""Refresh, publish and rollback: what is published, what is kept, and what nobody sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from refresh_world import World, bytes_of, copied, job_of, seen, world, write
from spaces import letters, table_of
from stores import vectors

import featstore
from featstore.errors import (
    ConflictError,
    GateError,
    IntegrityError,
    LockedError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from featstore.jobs import Gates
from featstore.records import Published
from featstore.storage import documents, locks

NO_REMOVALS = {"gates": Gates(max_removed_share=0.0)}
TOO_GOOD = {"gates": Gates(min_recall=1.1)}


@pytest.fixture(scope="module")
def first(model_store, tmp_path_factory):
    """A world whose job has published version 0, with an index and a head; to be copied."""
    made = world(model_store, tmp_path_factory.mktemp("refresh"))
    assert made.refresh(head=True).status == "published"
    return made


@pytest.fixture
def w(first, tmp_path):
    return copied(first, tmp_path)


def refused(w: World, **more: object) -> str:
    """Runs the job with a gate that refuses; the run's id."""
    with pytest.raises(GateError) as caught:
        w.refresh(**{**TOO_GOOD, **more})
    return caught.value.context["result"].run_id


def test_the_first_run_publishes_and_the_next_finds_nothing_new(w):
    state = w.store.published("texts").state
    assert (state.table_version, state.index_version, state.heads) == (0, 0, {"texts-topic": 1})
    before = bytes_of(w.store, "features", "published", "heads", "indexes")
    again = w.refresh(head=True)
    assert (again.status, again.published_version) == ("nothing new", 0)
    assert bytes_of(w.store, "features", "published", "heads", "indexes") == before


def test_new_items_move_table_index_and_head_together(w):
    w.add("one more kitten")
    result = w.refresh(head=True)
    assert (result.status, result.version, result.published_version) == ("published", 1, 1)
    found = seen(w.store)
    assert (found.version, found.index, len(found.items)) == (1, 1, 25)
    assert found.heads == {"texts-topic": w.store.head("texts-topic").card.version}
    assert w.store.published("texts").previous[0].table_version == 0
    assert [c.published for c in w.store.table("texts").history()] == ["published", "previous"]


def test_a_refused_refresh_changes_no_byte_that_a_reader_sees(w):
    w.add("one more kitten")
    before = seen(w.store)
    folders = ["published", "heads"]
    log = f"features/texts/{w.store.table('texts').space_id}/_delta_log"
    kept = bytes_of(w.store, *folders, log)
    run = refused(w, head=True)
    assert bytes_of(w.store, *folders, log) == kept
    assert seen(w.store) == before
    shown = w.store.refreshed(run)
    assert shown.status == "refused"
    assert any(gate.status == "refused" for gate in shown.gates)
    assert f"featstore publish {run} --reason TEXT" in shown.next
    assert w.store.run(run).status == "refused"


def test_a_source_of_which_much_cannot_be_read_is_no_quiet_day(w):
    w.source.write_text(w.source.read_text() + "".join(f"e{at},,cats\n" for at in range(12)))
    before = seen(w.store)
    for _ in range(2):
        with pytest.raises(GateError, match="max_reject_share") as caught:
            w.refresh()
        result = caught.value.context["result"]
        assert (result.status, result.gates[0].status) == ("refused", "refused")
        assert len(result.gates[0].items) == 10
        assert result.next == ("featstore show texts --rejects",)
        assert seen(w.store) == before


def test_the_same_candidate_is_judged_again_without_embedding_again(w):
    w.add("one more kitten")
    run = refused(w)
    assert refused(w) == run
    result = w.refresh()
    assert (result.run_id, result.status, result.version) == (run, "published", 1)
    assert result.extract.resumed_shards == 1
    assert w.store.run(run).error is None, "what a gate had said of it does not stand any more"


def test_other_inputs_take_over_what_a_refused_run_embedded(w):
    w.add("one more kitten")
    old = refused(w)
    w.add("and another one")
    result = w.refresh()
    assert (result.status, result.version) == ("published", 1)
    assert result.run_id != old
    assert result.extract.stored == 1, "the other one was carried over"
    assert w.store.run(old).status == "superseded"
    with pytest.raises(ConflictError, match="version 0"):
        w.store.publish(old, reason="late")
    w.store.gc(grace_hours=0)
    with pytest.raises(ConflictError, match="superseded"):
        w.store.publish(old, reason="later still")


def test_a_refused_run_can_be_published_with_a_reason(w):
    w.add("one more kitten")
    run = refused(w, head=True)
    with pytest.raises(UsageError, match="refused"):
        w.store.publish(run)
    result = w.store.publish(run, reason="looked at it")
    assert (result.now.table_version, result.now.reason, result.now.run_id) == (1, "looked at it", run)
    assert result.now.heads == {"texts-topic": 2}
    assert seen(w.store).version == 1
    assert w.refresh(head=True).status == "nothing new", "a gate is not asked again about what was published by hand"
    assert w.store.refreshed(run).status == "published"
    job = documents.read(w.store.layout.storage, w.store.layout.job("texts"), featstore.records.JobState)
    assert job.failures == 0
    again = w.store.publish(run, reason="twice")
    assert again.now.heads == {"texts-topic": 2}, "its head is not adopted a second time"
    assert len(w.store.published("texts").previous) == 1, "what does not move is no step to go back over"


def test_a_run_that_is_not_there_or_made_nothing(w, tmp_path, model_store):
    with pytest.raises(NotFoundError, match="no run"):
        w.store.publish("20260504T030201-0a1b2c")
    with pytest.raises(UsageError, match="names no version"):
        w.store.publish("texts")
    with pytest.raises(NotFoundError, match="no table 'nothere'"):
        w.store.publish("nothere")
    with pytest.raises(NotFoundError, match="no table 'texts-topic'; that is a head"):
        w.store.publish("texts-topic:1")
    other = world(model_store, tmp_path / "other")
    run = w.store.runs()[0].run_id
    with pytest.raises(NotFoundError, match="no run") as caught:
        other.store.publish(run, reason="of another store")
    assert caught.value.exit_code == 2


def test_rollback_moves_everything_back_and_is_not_undone_by_the_job(w):
    before = seen(w.store)
    w.add("one more kitten")
    w.refresh(head=True)
    result = w.store.rollback("texts", reason="bad kitten")
    assert (result.now.table_version, result.before.table_version) == (0, 1)
    assert seen(w.store) == before
    assert [c.published for c in w.store.table("texts").history()] == ["taken back", "published"]
    with pytest.raises(NotFoundError, match="before version 0"):
        w.store.rollback("texts")
    assert w.refresh(head=True).status == "nothing new"
    assert seen(w.store) == before
    w.add("better inputs")
    again = w.refresh(head=True)
    assert (again.status, again.version) == ("published", 2)
    assert len(seen(w.store).items) == 26
    brought = w.store.publish(result.next[0].split()[2], reason="it was good after all")
    assert brought.now.table_version == 1
    assert w.refresh(head=True).status == "nothing new", "an older version that was chosen stays"


def test_two_rollbacks_go_back_two_steps(w):
    for text in ("one", "two"):
        w.add(f"kitten {text}")
        w.refresh()
    assert w.store.rollback("texts").now.table_version == 1
    assert w.store.rollback("texts").now.table_version == 0
    assert w.refresh().status == "nothing new"
    assert len(w.store.published("texts").rolled_back) == 2


def test_a_hold_lasts_until_something_is_published_by_hand(w):
    w.add("one more kitten")
    w.refresh()
    w.store.rollback("texts", hold=True)
    w.add("and one more")
    result = w.refresh()
    assert (result.status, w.store.table("texts").version) == ("held", 0)
    assert w.refresh().run_id == result.run_id, "the candidate waits"
    done = w.store.publish(result.run_id)
    assert (done.held, done.now.table_version) == (False, 2)
    w.add("and a third")
    assert w.refresh().status == "published"


def test_publishing_what_is_published_lifts_a_hold_and_nothing_else(w):
    w.add("one more kitten")
    w.refresh(head=True)
    w.store.rollback("texts", hold=True)
    there = w.store.published("texts")
    w.store.publish("texts:0", reason="go on")
    now = w.store.published("texts")
    assert (now.held, now.previous, now.state.heads) == (False, there.previous, there.state.heads)


def test_an_older_version_brings_back_the_heads_it_was_published_with(w):
    w.add("one more kitten")
    w.refresh(head=True)
    assert w.store.published("texts").state.heads == {"texts-topic": 2}
    assert w.store.publish("texts:0", reason="older").now.heads == {"texts-topic": 1}
    assert w.refresh(head=True).status == "nothing new"
    w.store.publish("texts:1", reason="and back")
    assert w.refresh(head=True).status == "nothing new" or w.store.table("texts").version == 1


def test_a_job_that_was_edited_is_judged_and_published_again(w):
    result = w.refresh(head=True, digest="2")
    assert (result.status, result.version) == ("published", 0)
    state = w.store.published("texts").state
    assert (state.job_digest, state.heads) == ("2", {"texts-topic": 1})
    with pytest.raises(GateError):
        w.refresh(head=True, digest="3", **TOO_GOOD)
    assert w.store.published("texts").state == state


def test_a_plain_extract_commits_and_publishes_nothing(w):
    w.add("one more kitten")
    table = w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
    assert (table.version, w.store.table("texts").version) == (1, 0)
    assert "still means version 0" in table.last_run.warnings[-1]
    assert [t.version for t in w.store.tables()] == [0]
    summary = w.store.table("texts").summary()
    assert (summary.version, summary.published, summary.newest, summary.items) == (0, 0, 1, 24)
    result = w.refresh(head=True)
    assert (result.status, result.version) == ("published", 1), "what was committed by hand is judged by the job"


def test_a_head_trained_by_hand_is_not_what_its_name_means(w):
    said = []

    class Told(featstore.extract.progress.Reporter):
        def warning(self, text: str) -> None:
            said.append(text)

    trained = w.store.train_head("texts", name="texts-topic", kind="ridge", curve=False, reporter=Told())
    assert (trained.card.version, w.store.head("texts-topic").card.version) == (2, 1)
    assert any("still means version 1" in text for text in said)


def test_another_writer_makes_it_a_conflict_and_the_next_run_is_fine(w, monkeypatch):
    from featstore.tables import FeatureTable

    real = FeatureTable.commit

    def overtaken(self, **kwargs):
        monkeypatch.undo()
        other = FeatureTable.open(w.store.layout, "texts", self.space_id)
        rows = other.to_arrow().slice(0, 1).drop_columns(["embedding"])
        rows = rows.set_column(0, "item_id", [["from another writer"]])
        part = other.write_part("other-run", 0, other.align(rows), other.matrix()[1][:1].copy())
        other.commit(run_id="other-run", add=[part], remove=[], details={})
        return real(self, **kwargs)

    before = w.store.published("texts")
    w.add("one more kitten")
    monkeypatch.setattr(FeatureTable, "commit", overtaken)
    with pytest.raises(ConflictError) as caught:
        w.refresh()
    assert caught.value.exit_code == 6
    assert w.store.published("texts") == before
    result = w.refresh()
    assert (result.status, result.extract.stored, len(w.store.table("texts"))) == ("published", 0, 25)


def test_two_at_once(w):
    layout = w.store.layout
    with locks.hold(layout.storage, layout.job_lock("texts"), purpose="job 'texts'"), pytest.raises(LockedError):
        w.refresh()
    with locks.hold(layout.storage, layout.lock("texts"), purpose="job 'texts'"):
        for call in (lambda: w.store.rollback("texts"), lambda: w.store.publish("texts:0"), w.refresh):
            with pytest.raises(LockedError) as caught:
                call()
            assert caught.value.exit_code == 6


def test_a_source_that_is_gone_or_halved_leaves_everything(w):
    before = seen(w.store)
    write(w.source, 24, without=13)
    with pytest.raises(GateError) as caught:
        w.refresh()
    assert (caught.value.exit_code, seen(w.store)) == (5, before)
    w.source.unlink()
    try:
        with pytest.raises(GateError) as caught:
            w.refresh()
        assert caught.value.exit_code == 5
    finally:
        write(w.source, 24)
    assert seen(w.store) == before
    assert w.refresh(head=True).status == "nothing new"


def test_a_model_that_changed_under_the_job(w):
    w.add("one more kitten")
    before = vectors(w.store.table("texts"))
    onnx = w.store.path / "models" / w.store.table("texts").space_id / "model.onnx"
    whole = onnx.read_bytes()
    onnx.unlink()  # a link: the others' stays
    onnx.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(IntegrityError) as caught:
        w.refresh()
    assert caught.value.exit_code == 4
    assert vectors(w.store.table("texts")) == before


def test_a_clock_that_was_set_back_is_no_reason_to_do_anything(w, monkeypatch):
    from featstore.refresh import moving, run

    for module in (run, moving):
        name = "_now" if module is run else "now"
        monkeypatch.setattr(module, name, lambda: "1999-01-01T00:00:00.000+00:00")
    assert w.refresh(head=True).status == "nothing new"
    w.add("one more kitten")
    assert w.refresh(head=True).status == "published"
    assert seen(w.store).version == 1
    assert w.store.rollback("texts").now.table_version == 0


def test_the_published_space_wins_and_a_change_of_model_can_be_taken_back(model_store, tmp_path):
    """Two spaces of one text model: whole vectors, and their first 8 values."""
    w = world(model_store, tmp_path)
    model = str(letters(tmp_path / "models", "letters", table_of(24)))
    w.refresh(model=model)
    long = w.store.table("texts")
    short = w.store.extract(w.source, model=model, id_column="id", text_column="text", label_column="label", dim=8)
    assert short.space_id != long.space_id
    assert w.store.table("texts").space_id == long.space_id
    assert w.store.table("texts:0").space_id == long.space_id
    assert w.store.table(short.space_id.join(("texts@", ""))).dim == 8
    assert w.refresh(model=model, dim=8).status == "published"
    assert (w.store.table("texts").dim, len(w.store.table(f"texts@{long.space_id}"))) == (8, 24)
    assert w.store.rollback("texts").now.space_id == long.space_id
    assert w.store.table("texts").dim == 24
    assert w.refresh(model=model, dim=8).status == "nothing new"
    assert {t.space_id for t in w.store.tables()} == {long.space_id, short.space_id}


def test_a_head_of_another_space_is_never_published_with_a_table(w):
    layout = w.store.layout
    there = w.store.published("texts")
    layout.storage.delete(layout.head("texts-topic", 1, "card.json"))
    with pytest.raises(NotFoundError, match="texts-topic"):
        w.store.publish("texts:0", reason="without its head")
    assert w.store.published("texts") == there
    assert SpaceMismatchError.exit_code in (2, 4)


def test_a_store_without_published_is_as_before(w):
    for path in w.store.layout.storage.files("published"):
        w.store.layout.storage.delete(path)
    w.add("one more kitten")
    w.store.extract(w.source, model="minilm", id_column="id", text_column="text", label_column="label")
    assert (w.store.table("texts").version, w.store.published("texts")) == (1, None)
    assert [c.published for c in w.store.table("texts").history()] == [None, None]
    with pytest.raises(NotFoundError):
        w.store.rollback("texts")
    first = w.store.publish("texts:0", reason="the first")
    assert (first.before, w.store.table("texts").version) == (None, 0)


def test_a_document_of_a_future_featstore_asks_for_an_upgrade(w):
    layout = w.store.layout
    found = documents.read(layout.storage, layout.published("texts"), Published)
    documents.write(layout.storage, layout.published("texts"), replace(found, format_version=99))
    for call in (lambda: w.store.table("texts"), lambda: w.store.rollback("texts"), w.store.gc, w.refresh):
        with pytest.raises(IntegrityError) as caught:
            call()
        assert "pip install --upgrade featstore" in (caught.value.hint or "")
    codes = [one.code for one in w.store.verify(sample=0).findings]
    assert "damaged_document" in codes


def test_a_job_that_only_trains(w):
    job = job_of(w.source, name="texts", head=True, index=False)
    trained = replace(job, name="only-heads", extract=None, digest="heads only")
    result = w.store.refresh(trained)
    assert (result.status, result.extract) == ("published", None)
    assert w.store.refresh(trained).status == "nothing new"
