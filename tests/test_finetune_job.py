"""Jobs with a section [finetune]: what they say, every error in them, how they are written, checked, run and listed."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from cli_world import inside, schema
from finetune_cli_world import tunable

import featstore
from featstore.errors import DeadlineError, GateError, SettingsError, UsageError
from featstore.finetune.asking import asked
from featstore.jobs import TUNED, Job
from featstore.jobs.loading import load, parse
from featstore.jobs.meaning import digest
from featstore.jobs.schema import schema as job_schema
from featstore.jobs.writing import written
from featstore.settings import FinetuneSettings, MigrateSettings
from featstore.store import Store

EXAMPLE = Path(__file__).parent.parent / "jobs" / "finetune.toml"

BARE = '[job]\nname = "tune"\ntable = "photos"\n[finetune]\n'
MOVES = BARE + "[migrate]\n"
WHOLE = """
[job]
name = "tune"
[source]
uri = "photos/"
[model]
name = "resnet18"
[index]
recall = 0.9
[finetune]
label = "kind"
labels = "said/labels.csv"
weights = "models/own.pth"
model = "models/vit"
blocks = ["layer4", "layer3:2"]
epochs = 12
learning_rate = 1e-4
optimizer = "sgd"
halving = true
flip = false
lora = 8
report = "pages/tune.html"
min_gain = 0.01
[migrate]
priority = "views"
publish = false
[gates]
max_drop = 0.1
"""


def read(text: str, **environ: str) -> Job:
    return parse(text, Path("/somewhere/tune.toml"), environ=environ)


def problems(text: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    return {one.path: one.text for one in caught.value.context["problems"]}


# ── what it says ────────────────────────────────────────────────────────────────────────────────


def test_it_needs_only_its_table() -> None:
    job = read(BARE)
    assert (job.table, job.extract, job.migrate) == ("photos", None, None)
    assert job.finetune == FinetuneSettings()
    assert job.command == "finetune"
    moves = read(MOVES)
    assert moves.migrate == MigrateSettings(to=TUNED)
    assert moves.command == "finetune"


def test_all_that_can_be_said_and_its_paths_begin_in_the_files_folder() -> None:
    job = read(WHOLE)
    assert job.finetune == FinetuneSettings(
        label="kind", labels="/somewhere/said/labels.csv", weights="/somewhere/models/own.pth",
        model="/somewhere/models/vit", blocks=("layer4", "layer3:2"), epochs=12, learning_rate=1e-4, optimizer="sgd",
        halving=True, flip=False, lora=8, report="/somewhere/pages/tune.html", min_gain=0.01,
    )  # fmt: skip
    assert job.migrate == MigrateSettings(to=TUNED, priority="views", publish=False)
    assert job.origins["finetune.label"].origin == "job tune.toml"
    assert read(BARE + 'model = "timm:vit_small"\n').finetune == FinetuneSettings(model="timm:vit_small")


def test_the_environment_changes_the_device_and_nothing_that_is_learned() -> None:
    job = read(
        BARE, FEATSTORE_DEVICE="cuda", FEATSTORE_WORKERS="3", FEATSTORE_LABEL="other", FEATSTORE_MODEL="resnet50",
        FEATSTORE_EPOCHS="99",
    )  # fmt: skip
    assert job.finetune == FinetuneSettings(device="cuda", workers=3)


def test_the_digest_is_of_what_is_learned(tmp_path: Path) -> None:
    first = digest(read(BARE))
    assert digest(read(BARE + "epochs = 3\n")) != first
    assert digest(read(MOVES)) != first
    assert digest(replace(read(BARE), finetune=None)) != first
    same = 'label = "label"\nflip = true\nworkers = 2\ndevice = "cpu"\nreport = "x.html"\ncheckpoint_every = 5\n'
    assert digest(read(BARE + same)) == first, "a default said is a default, and how is not what"
    text, file = BARE + 'labels = "labels.csv"\n', tmp_path / "t.toml"
    (tmp_path / "labels.csv").write_text("item_id,label\na,b\n")
    before = parse(text, file, environ={}).digest
    (tmp_path / "labels.csv").write_text("item_id,label\na,c\n")
    assert parse(text, file, environ={}).digest != before


# ── every error ─────────────────────────────────────────────────────────────────────────────────


def test_every_error_is_named_with_its_key_and_the_nearest_one() -> None:
    found = problems(BARE + 'lable = "kind"\nepochs = 0\noptimizer = "adam"\nhalving = "yes"\nlearning_rate = "1e-4"\n')
    assert found["finetune.lable"] == "unknown key; did you mean 'label'?"
    assert "greater than or equal to 1" in found["finetune.epochs"]
    assert "'adamw' or 'sgd'" in found["finetune.optimizer"]
    assert "boolean" in found["finetune.halving"]
    assert "number" in found["finetune.learning_rate"]


def test_the_model_of_the_move_is_what_comes_of_it() -> None:
    found = problems(MOVES + 'to = "resnet50"\nweights = "x.pth"\npooling = "cls"\nprecision = "int8"\n')
    assert found["migrate.to"] == "is what [finetune] makes; leave it out"
    for key in ("weights", "pooling", "precision"):
        assert found[f"migrate.{key}"] == "is that of what [finetune] makes; leave it out"
    assert problems('[job]\nname = "m"\ntable = "t"\n[migrate]\n') == {"migrate.to": "is missing"}


def test_what_is_of_the_move_needs_one() -> None:
    about = "is of the move to the new model; add the section [migrate]"
    text = BARE + "[index]\nrecall = 0.9\n[[head]]\nlabel = 'kind'\n[publish]\nkeep = 3\n"
    assert problems(text) == {"index": about, "head[0]": about, "publish": about}
    assert read(text.replace("[index]", "[migrate]\n[index]")).command == "finetune"
    assert "needs the table" in problems('[job]\nname = "m"\n[finetune]\n')["job.table"]
    assert "section" in problems(BARE.replace("[finetune]", "[[finetune]]"))["finetune"]


# ── its schema, the example, and how it is written ──────────────────────────────────────────────


def test_the_schema_knows_the_section() -> None:
    check = jsonschema.Draft202012Validator(job_schema())
    for text in (BARE, MOVES, WHOLE, EXAMPLE.read_text("utf-8")):
        assert not list(check.iter_errors(tomllib.loads(text)))
    for wrong in (BARE + "epochs = 0\n", MOVES + 'to = "resnet50"\n', BARE.replace("[finetune]", "[migrate]")):
        assert list(check.iter_errors(tomllib.loads(wrong)))


def test_the_example_is_read_with_its_remarks_taken_as_they_stand() -> None:
    job = load(EXAMPLE, environ={})
    assert job.finetune is not None
    assert (job.table, job.finetune.label, job.finetune.depth) == ("photos", "label", 2)
    assert job.migrate is not None
    commented = EXAMPLE.read_text("utf-8")
    for key in ("labels", "blocks", "epochs", "learning_rate", "lora", "trials", "mlflow", "max_drop"):
        assert f"# {key} = " in commented, key
        commented = commented.replace(f"# {key} = ", f"{key} = ")
    whole = parse(commented, EXAMPLE, environ={})
    assert whole.finetune is not None
    assert (whole.finetune.blocks, whole.finetune.trials, whole.gates.max_drop) == (("layer4", "layer3:2"), 20, 0.02)
    assert "--deadline" in commented


@pytest.mark.parametrize("text", [BARE, MOVES, WHOLE])
def test_what_is_written_is_read_as_the_same(text: str) -> None:
    job = read(text)
    shown = written(job, Path("/somewhere"))
    assert "featstore finetune FILE --dry-run" in shown
    again = read(shown)
    assert (again.finetune, again.migrate, again.gates, again.digest) == (
        job.finetune,
        job.migrate,
        job.gates,
        job.digest,
    )


# ── asking ──────────────────────────────────────────────────────────────────────────────────────


def test_a_flag_is_over_the_job_and_the_environment_over_neither() -> None:
    job = read(BARE + "epochs = 7\n")
    found = asked(job, {"epochs": 2, "label": None}, {"FEATSTORE_EPOCHS": "9", "FEATSTORE_LORA": "4"})
    assert (found.address, found.settings.epochs, found.settings.lora) == ("photos", 2, None)
    plain = asked("photos@resnet18", {"label": "kind"}, {"FEATSTORE_EPOCHS": "9"})
    assert (plain.address, plain.settings.epochs, plain.settings.label, plain.job) == (
        "photos@resnet18",
        9,
        "kind",
        None,
    )


def test_each_job_is_sent_to_the_command_that_runs_it(tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    tunes, moves = tmp_path / "tune.toml", tmp_path / "move.toml"
    tunes.write_text(MOVES)
    moves.write_text('[job]\nname = "m"\ntable = "t"\n[migrate]\nto = "resnet18"\n')
    for run in (store.refresh, store.plan_refresh, store.migrate, store.plan_migration):
        with pytest.raises(UsageError) as caught:
            run(tunes)
        assert caught.value.hint == f"Run it with: featstore finetune {tunes}"
    for tune in (store.finetune, store.plan_finetune):
        with pytest.raises(UsageError) as caught:
            tune(moves)
        assert caught.value.hint == f"Run it with: featstore migrate {moves}"
    with pytest.raises(SettingsError, match="no length of time"):
        store.finetune(tunes, deadline="soon")


# ── run for real ────────────────────────────────────────────────────────────────────────────────

JOB = """
[job]
name = "tune"
table = "photos"
[finetune]
label = "label"
epochs = 3
learning_rate = 1e-4
head_rate = 0.01
start = "random"
depth = 1
batch = 8
crop_scale = 1.0
flip = false
test_share = 0.4
device = "cpu"
min_gain = -0.99
max_forgetting = 1.0
max_rank_loss = 1.0
max_slower = 99.0
"""
MOVE = "[migrate]\nbridge = false\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tunable(tmp_path)


def opened(place: Path) -> Store:
    return featstore.open(place / "featstore-data")


@pytest.mark.heavy
def test_check_says_what_it_will_stumble_over(place: Path) -> None:
    (place / "tune.toml").write_text(JOB.replace('"label"', '"age"') + 'weights = "none.pth"\n' + MOVE)
    (place / "file.toml").write_text(JOB.replace('"tune"', '"other"') + 'labels = "none.csv"\n')
    first, second = opened(place).check_jobs([place / "tune.toml", place / "file.toml"])
    assert first.problems == second.problems == ()
    assert "finetune.label: table 'photos' has no column 'age' yet" in first.warnings
    assert any(text.startswith("finetune.weights: ") for text in first.warnings)
    assert any(text.startswith("finetune.labels: ") for text in second.warnings)


@pytest.mark.heavy
def test_a_job_tunes_moves_publishes_and_then_finds_nothing_new(place: Path) -> None:
    store, file = opened(place), place / "tune.toml"
    file.write_text(JOB + MOVE)
    old = store.table("photos").space_id
    store.train_head("photos", label="half", kind="ridge", curve=False, baselines=False)
    (never,) = store.jobs([file])
    assert never.status == "never run"
    assert str(never.next).startswith("featstore finetune ")
    plan = store.plan_finetune(file)
    assert plan.then is not None
    assert "publishes it" in plan.then
    done = inside("finetune", "tune.toml", cwd=place)
    assert done.code == 0, done.err
    jsonschema.validate(done.json, schema("outputs/finetune.json"))
    assert done.json["status"] == "published"
    moved = done.json["migration"]
    assert (moved["status"], moved["from_space"], moved["items"]) == ("published", old, 200)
    assert done.json["next"] == ["featstore rollback photos"]
    current = store.published("photos")
    assert current is not None
    assert current.state.space_id == done.json["space_id"] != old
    assert "photos-half" in current.state.heads
    (stood,) = store.jobs()
    assert (stood.status, stood.published_version) == ("published", current.state.table_version)
    again = store.finetune(file)
    assert (again.status, again.space_id, again.migration) == ("nothing new", done.json["space_id"], None)
    assert store.rollback("photos").now.space_id == old
    # What was taken back stays so: the job does not publish it again by itself.
    assert store.finetune(file).status == "nothing new"
    now = store.published("photos")
    assert now is not None
    assert now.state.space_id == old


@pytest.mark.heavy
def test_a_job_that_is_refused_leaves_everything_as_it_was(place: Path) -> None:
    store, file = opened(place), place / "tune.toml"
    file.write_text(JOB.replace("min_gain = -0.99", "min_gain = 0.9") + MOVE)
    old = store.table("photos").space_id
    with pytest.raises(GateError) as caught:
        store.finetune(file)
    found = caught.value.context["result"]
    assert (found.status, found.migration, found.space_id) == ("refused", None, None)  # type: ignore[attr-defined]
    assert store.published("photos") is None
    assert store.table("photos").space_id == old
    (stood,) = store.jobs()
    assert (stood.status, stood.failures) == ("refused", 1)
    assert str(stood.next).startswith("featstore finetune ")


@pytest.mark.heavy
def test_a_move_that_is_refused_keeps_the_model_and_can_be_published(place: Path) -> None:
    store, file = opened(place), place / "tune.toml"
    file.write_text(JOB + MOVE + "[gates]\nmin_accuracy = { photos-half = 1.0 }\n")
    store.train_head("photos", label="half", kind="ridge", curve=False, baselines=False)
    done = inside("finetune", "tune.toml", cwd=place)
    assert done.code == 5
    assert done.json["status"] == "refused"
    assert done.json["migration"]["status"] == "refused"
    assert done.json["space_id"], "the model is there: it is the move that a gate refused"
    assert done.json["next"][0].startswith("featstore publish ")
    (stood,) = store.jobs()
    assert (stood.status, stood.failures) == ("refused", 1)


@pytest.mark.heavy
def test_a_deadline_is_kept_and_it_goes_on(place: Path) -> None:
    store, file = opened(place), place / "tune.toml"
    file.write_text(JOB + MOVE)
    with pytest.raises(DeadlineError):
        store.finetune(file, deadline=0.01)
    (stood,) = store.jobs()
    assert stood.status == "interrupted"
    assert store.published("photos") is None
    assert store.finetune(file).status == "published"
