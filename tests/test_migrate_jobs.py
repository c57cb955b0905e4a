"""Jobs with a section [migrate]: what they say, every error in them, how they are written, checked and listed."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from spaces import letters, sayings, table_of
from stores import fresh

import featstore
from featstore import migrations, models
from featstore.errors import SettingsError, UsageError
from featstore.jobs import Job
from featstore.jobs.loading import load, parse
from featstore.jobs.meaning import digest
from featstore.jobs.schema import schema
from featstore.jobs.writing import written
from featstore.models import ModelRequest
from featstore.records import JobState, Migration
from featstore.refresh import state
from featstore.refresh.standing import standings
from featstore.settings import MigrateSettings
from featstore.storage import documents
from featstore.store import Store

EXAMPLE = Path(__file__).parent.parent / "jobs" / "migrate.toml"

BARE = '[job]\nname = "move"\ntable = "texts"\n[migrate]\nto = "minilm"\n'
WHOLE = """
[job]
name = "move"
[source]
uri = "texts.csv"
[model]
name = "minilm"
[index]
recall = 0.9
[migrate]
to = "models/own.onnx"
weights = "models/own.safetensors"
pooling = "cls"
dim = 64
priority = "views"
queries = "asked/queries.jsonl"
qrels = "asked/qrels.tsv"
bridge = false
publish = false
[gates]
min_ndcg = 0.5
max_drop = 0.1
min_recall = 0.8
"""


def read(text: str) -> Job:
    return parse(text, Path("/somewhere/move.toml"), environ={})


def problems(text: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return {one.path: one.text for one in caught.value.context["problems"]}


# ── what it says ────────────────────────────────────────────────────────────────────────────────


def test_a_move_needs_only_its_table_and_its_model():
    job = read(BARE)
    assert (job.table, job.extract, job.index, job.heads) == ("texts", None, None, ())
    assert job.migrate == MigrateSettings(to="minilm")
    assert job.migrate.bridge
    assert job.migrate.publish


def test_all_that_can_be_said_and_its_paths_begin_in_the_files_folder():
    job = read(WHOLE)
    assert job.migrate == MigrateSettings(
        to="/somewhere/models/own.onnx",
        weights="/somewhere/models/own.safetensors",
        pooling="cls",
        dim=64,
        priority="views",
        queries="/somewhere/asked/queries.jsonl",
        qrels="/somewhere/asked/qrels.tsv",
        bridge=False,
        publish=False,
    )
    assert job.extract.model == "minilm"
    assert (job.gates.min_ndcg, job.gates.max_drop) == (0.5, 0.1)
    assert job.origins["migrate.to"].origin == "job move.toml"


@pytest.mark.parametrize("name", ["minilm", "hf:sentence-transformers/all-MiniLM-L6-v2", "timm:vit_small"])
def test_a_models_name_is_no_path(name):
    assert read(BARE.replace("minilm", name)).migrate.to == name


def test_no_variable_changes_the_model_that_is_moved_to():
    job = parse(BARE, Path("/somewhere/move.toml"), environ={"FEATSTORE_DIM": "7", "FEATSTORE_TO": "other"})
    assert (job.migrate.to, job.migrate.dim) == ("minilm", None)


def test_gates_of_the_tables_own_index_and_heads_may_be_asked_of_a_bare_move():
    job = read(BARE + "[gates]\nmin_recall = 0.9\nmin_accuracy = { topic = 0.8 }\n")
    assert (job.gates.min_recall, job.gates.min_accuracy) == (0.9, {"topic": 0.8})


def test_the_digest_is_of_what_it_moves_to_and_of_the_judgements(tmp_path):
    first = digest(read(BARE))
    assert digest(read(BARE + 'pooling = "cls"\n')) != first
    assert digest(replace(read(BARE), migrate=None)) != first
    assert digest(read(BARE + "bridge = true\n")) == first, "a default said is a default"
    (tmp_path / "queries.tsv").write_text("q\ttext\n")
    (tmp_path / "qrels.tsv").write_text("q 0 a 1\n")
    text = BARE + 'queries = "queries.tsv"\nqrels = "qrels.tsv"\n'
    before = parse(text, tmp_path / "m.toml", environ={}).digest
    (tmp_path / "qrels.tsv").write_text("q 0 b 1\n")
    assert parse(text, tmp_path / "m.toml", environ={}).digest != before


def test_the_digest_of_a_job_that_moves_nothing_is_what_it_was():
    text = '[job]\nname = "j"\n[source]\nuri = "/data/t.csv"\n[model]\nname = "minilm"\n[index]\nrecall = 0.95\n'
    assert parse(text, Path("/jobs/j.toml"), environ={}).digest == (
        "0c7e43498ac3419c21872cf9e857a014f1d88d01c2fff6616c9556f404455e79"
    )


# ── every error ─────────────────────────────────────────────────────────────────────────────────


def test_every_error_is_named_with_its_key_and_the_nearest_one():
    text = BARE + 'prioritty = "views"\nbridge = "yes"\ndim = 0\npooling = "middle"\nqrels = "q.tsv"\n'
    found = problems(text)
    assert found["migrate.prioritty"] == "unknown key; did you mean 'priority'?"
    assert "boolean" in found["migrate.bridge"]
    assert "greater than or equal to 1" in found["migrate.dim"]
    assert "'mean', 'cls', 'last' or 'max'" in found["migrate.pooling"]
    assert found["migrate.qrels"] == "judges queries, and there are none; add migrate.queries"


def test_what_is_missing_is_named():
    assert problems('[job]\nname = "m"\ntable = "t"\n[migrate]\n') == {"migrate.to": "is missing"}
    assert "needs the table" in problems('[job]\nname = "m"\n[migrate]\nto = "minilm"\n')["job.table"]
    assert "did you mean 'migrate'?" in problems('[job]\nname = "m"\ntable = "t"\n[migrat]\nto = "x"\n')["migrat"]
    assert "section" in problems(BARE.replace("[migrate]", "[[migrate]]"))["migrate"]


def test_gates_of_a_move_need_one_and_judgements():
    text = '[job]\nname = "j"\n[source]\nuri = "t.csv"\n[model]\nname = "minilm"\n[gates]\nmin_ndcg = 0.5\n'
    text += "max_drop = 0.1\n"
    about = "is for a job that moves to another model; add the section [migrate]"
    assert problems(text) == {"gates.min_ndcg": about, "gates.max_drop": about}
    assert problems(BARE + "[gates]\nmin_ndcg = 0.5\n") == {
        "gates.min_ndcg": "needs judgements; add migrate.queries and migrate.qrels"
    }


# ── its schema, the example, and how it is written ──────────────────────────────────────────────


def test_the_schema_knows_the_section():
    check = jsonschema.Draft202012Validator(schema())
    for text in (BARE, WHOLE, EXAMPLE.read_text("utf-8")):
        assert not list(check.iter_errors(tomllib.loads(text)))
    assert list(check.iter_errors(tomllib.loads(BARE + "dim = 0\n")))
    assert list(check.iter_errors(tomllib.loads(BARE.replace('to = "minilm"', ""))))


def test_the_example_is_read_with_its_remarks_taken_as_they_stand():
    job = load(EXAMPLE, environ={})
    assert (job.table, job.migrate.to, job.migrate.prompt_query) == ("sentences", "minilm", "query: ")
    commented = EXAMPLE.read_text("utf-8")
    for key in ("priority", "queries", "qrels", "min_ndcg"):
        commented = commented.replace(f"# {key} = ", f"{key} = ")
    whole = parse(commented, EXAMPLE, environ={})
    assert (whole.migrate.priority, whole.gates.min_ndcg) == ("views", 0.6)
    assert "--deadline" in commented


def test_what_is_written_is_read_as_the_same():
    job = read(WHOLE)
    text = written(job, Path("/somewhere"))
    assert "featstore migrate FILE --dry-run" in text
    again = read(text)
    assert (again.migrate, again.gates, again.digest) == (job.migrate, job.gates, job.digest)


# ── with a store ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A table 'texts' of one model of letters, and another model beside."""
    made = featstore.open(tmp_path / "store")
    lines = ["id,text,views", *(f"{item},{text},1" for item, text in sayings(20).items())]
    (tmp_path / "texts.csv").write_text("\n".join(lines) + "\n", "utf-8")
    letters(tmp_path / "old", "old", table_of(24, seed=1))
    letters(tmp_path / "new", "new", table_of(16, seed=2))
    made.extract(tmp_path / "texts.csv", model=str(tmp_path / "old" / "old.onnx"), id_column="id", text_column="text")
    return made


def bring(store: Store) -> None:
    """Brings the other model into the store."""
    models.ensure(store.layout, ModelRequest(model=str(store.path.parent / "new" / "new.onnx")))


def job_file(store: Store, text: str) -> Path:
    file = store.path.parent / "move.toml"
    file.write_text(text, "utf-8")
    return file


def test_check_warns_of_what_is_not_there(store):
    text = '[job]\nname = "move"\ntable = "texts"\n[migrate]\nto = "new/new.onnx"\npriority = "vews"\n'
    (found,) = store.check_jobs([job_file(store, text + 'queries = "q.tsv"\nqrels = "j.tsv"\n')])
    assert found.problems == ()
    said = " ".join(found.warnings)
    for about in ("migrate.queries", "migrate.qrels", "migrate.to: ", "no column 'vews' yet"):
        assert about in said
    bring(store)
    (fine,) = store.check_jobs([job_file(store, text.replace("vews", "views"))])
    assert fine.warnings == ()


def test_check_warns_of_a_table_that_is_on_another_way(store):
    said = dict.fromkeys(("model", "weights", "pooling", "layer", "dim", "prompt_document", "prompt_query"))
    bring(store)
    move = Migration(
        name="texts",
        from_space="old-1",
        to_space="other-2",
        model=said,
        before=said,
        status="open",
        opened_ts="2026-01-01T00:00:00+00:00",
        changed_ts="",
    )
    migrations.note(store.layout, move)
    text = '[job]\nname = "move"\ntable = "texts@old"\n[migrate]\nto = "new/new.onnx"\n'
    (found,) = store.check_jobs([job_file(store, text)])
    assert "is on its way to other-2" in " ".join(found.warnings)


def test_refresh_sends_it_to_migrate(store):
    file = job_file(store, '[job]\nname = "move"\ntable = "texts"\n[migrate]\nto = "new/new.onnx"\n')
    for run in (store.refresh, store.plan_refresh):
        with pytest.raises(UsageError) as caught:
            run(file)
        assert f"featstore migrate {file}" in caught.value.hint


def test_it_is_listed_like_the_others(store):
    file = job_file(store, '[job]\nname = "move"\ntable = "texts"\n[migrate]\nto = "new/new.onnx"\n')
    (never,) = standings(store.layout, [file])
    assert never.status == "never run"
    assert never.next.startswith("featstore migrate ")
    job = load(file, environ={})
    run = {"run_id": "20260101T000000-abcdef", "started_ts": "2026-01-01T00:00:00+00:00"}
    finished = "2026-01-01T01:00:00+00:00"
    state.note(store.layout, job, **run, status="interrupted", finished_ts=finished, following=None)
    (stopped,) = standings(store.layout)
    assert (stopped.status, stopped.failures) == ("interrupted", 1)
    assert stopped.next.startswith("featstore migrate ")
    made = state.note(store.layout, job, **run, status="ready", finished_ts=finished, following="featstore publish X")
    assert (made.command, made.failures, made.last_success_ts) == ("migrate", 0, finished)
    assert made.last_published_ts is None
    (ready,) = store.jobs()
    assert (ready.status, ready.next) == ("ready", "featstore publish X")


def test_the_state_of_a_job_from_before_is_read(store):
    job = load(job_file(store, BARE), environ={})
    when = "2026-01-01T00:00:00+00:00"
    made = state.note(store.layout, job, run_id="r", status="failed", started_ts=when, finished_ts=when, following=None)
    path = store.layout.storage.local(store.layout.job("move"))
    found = json.loads(path.read_text("utf-8"))
    assert found.pop("command") == "migrate"
    path.write_bytes(documents.sign(found))
    assert documents.read(store.layout.storage, store.layout.job("move"), JobState) == replace(made, command="refresh")


@pytest.mark.heavy
def test_the_example_runs(model_store, tmp_path, texts_csv):
    for file in (EXAMPLE, EXAMPLE.with_name("extract-texts.toml")):
        shutil.copy(file, tmp_path)
    shutil.copy(texts_csv, tmp_path / "sentences.csv")
    store = fresh(model_store, tmp_path)
    store.refresh(tmp_path / "extract-texts.toml")
    before = store.published("sentences").state.space_id
    result = store.migrate(tmp_path / "migrate.toml")
    assert (result.status, result.from_space, result.items) == ("published", before, 12)
    assert store.published("sentences").state.space_id == result.to_space != before
    assert {one.job: one.status for one in store.jobs()}["sentences-to-prompts"] == "published"
    # The refresh that still names the model before follows.
    (tmp_path / "sentences.csv").write_text((tmp_path / "sentences.csv").read_text("utf-8") + "new,a new one,pets\n")
    followed = store.refresh(tmp_path / "extract-texts.toml")
    assert (followed.status, followed.space_id) == ("published", result.to_space)
    assert any('prompt_document = "passage: "' in text for text in followed.warnings)
