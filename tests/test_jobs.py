"""Jobs as TOML files: read, checked, made from a table, planned, listed; and the examples run."""

from __future__ import annotations

import itertools
import json
import shutil
import string
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cli_world import SCHEMAS, Outcome, inside, schema
from hypothesis import given, settings
from hypothesis import strategies as st
from own_models import image_card, image_model, save
from PIL import Image
from stores import fresh

import featstore
from featstore.errors import FeatstoreError, NotFoundError, SettingsError, UsageError
from featstore.jobs import Gates, HeadJob, Job
from featstore.jobs.loading import load, parse
from featstore.jobs.problems import Problem
from featstore.jobs.schema import schema as job_schema
from featstore.jobs.sections import SECTIONS
from featstore.jobs.writing import written
from featstore.records import JobState, RefreshPlan
from featstore.refresh.standing import standings
from featstore.settings import ExtractSettings, FinetuneSettings, HeadSettings, IndexSettings, TorchSettings
from featstore.storage import documents
from featstore.store import Store

EXAMPLES = sorted((Path(__file__).parent.parent / "jobs").glob("*.toml"))

WHOLE = """
[job]
name = "photos"
[source]
uri = "images/"
label_from = "folder"
[model]
name = "resnet50"
device = "auto"
precision = "fp32"
[index]
recall = 0.95
memory = "2GB"
[[head]]
name = "category"
label = "label"
refit = "on-drift"            # never | always | on-drift
[gates]
max_reject_share = 0.01
max_removed_share = 0.2
min_recall = 0.95
max_drift_auc = 0.8
min_accuracy = { category = 0.85 }
[publish]
keep = 5
[metrics]
textfile = "featstore.prom"
"""

CHECK = jsonschema.Draft202012Validator(job_schema())


def written_to(folder: Path, text: str, name: str = "photos.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def read(text: str, **more: Any) -> Job:
    return parse(text, Path("/somewhere/photos.toml"), environ=more.pop("environ", {}), **more)


def problems(text: str, **more: Any) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        read(text, **more)
    found = caught.value.context["problems"]
    assert isinstance(found, tuple)
    return list(found)


def edited(before: str, after: str) -> str:
    assert WHOLE.count(before) == 1
    return WHOLE.replace(before, after)


# ── what a file says ────────────────────────────────────────────────────────────────────────────


def test_a_whole_job(tmp_path: Path) -> None:
    file = written_to(tmp_path / "jobs", WHOLE)
    job = load(file, environ={})
    assert job == replace(
        Job(
            name="photos",
            table="photos",
            extract=ExtractSettings(
                source=str(tmp_path / "jobs" / "images"),
                model="resnet50",
                name="photos",
                label_from="folder",
                precision="fp32",
            ),
            index=IndexSettings(recall=0.95, memory=2_000_000_000),
            heads=(HeadJob(name="category", settings=HeadSettings(name="category"), torch=TorchSettings()),),
            gates=Gates(min_recall=0.95, max_drift_auc=0.8, min_accuracy={"category": 0.85}),
            textfile=str(tmp_path / "jobs" / "featstore.prom"),
            file=str(file),
        ),
        digest=job.digest,
        origins=job.origins,
    )


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = written_to(
        tmp_path, edited('"fp32"', '"fp32"\n[extract]\nworkers = 7\nbatch_size = 4').replace('"auto"', '"cuda:1"')
    )
    environ = {"FEATSTORE_WORKERS": "3", "FEATSTORE_DEVICE": "cuda", "FEATSTORE_STORE": "x", "FEATSTORE_MEMORY": "1GB"}
    job = load(file, {"device": "cpu", "limit": None}, environ)
    assert job.extract is not None
    assert job.index is not None
    assert (job.extract.device, job.extract.workers, job.extract.batch_size) == ("cpu", 3, 4)
    assert job.index.memory == 1_000_000_000
    # A variable cannot tell heads apart; but where it computes is not what it is.
    assert (job.heads[0].settings.memory, job.heads[0].torch.device) == (None, "cpu")
    origin = {key: job.origins[key].origin for key in ("device", "workers", "batch_size", "layer", "index.memory")}
    assert origin == {
        "device": "flag",
        "workers": "environment FEATSTORE_WORKERS",
        "batch_size": "job photos.toml",
        "layer": "default",
        "index.memory": "environment FEATSTORE_MEMORY",
    }
    assert {key.name for key in ExtractSettings.__dataclass_fields__.values()} <= job.origins.keys()


def test_what_things_are_called_comes_from_the_file_alone() -> None:
    job = read(WHOLE, environ={"FEATSTORE_NAME": "other", "FEATSTORE_LABEL": "other"})
    assert (job.table, job.extract and job.extract.name, job.heads[0].name) == ("photos", "photos", "category")
    assert job.heads[0].settings.label == "label"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MODEL", "minilm"), ("WEIGHTS", "other.pth"), ("POOLING", "max"), ("LAYER", "blocks.4"), ("DIM", "7"),
     ("PROMPT_DOCUMENT", "passage: "), ("PROMPT_QUERY", "query: "), ("DECODE", "fast"), ("PRECISION", "int8")],
)  # fmt: skip
def test_which_model_it_is_comes_from_the_file_alone(variable: str, value: str) -> None:
    plain, job = read(WHOLE), read(WHOLE, environ={f"FEATSTORE_{variable}": value})
    assert (job.extract, job.digest) == (plain.extract, plain.digest)


def test_paths_begin_in_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
[job]
name = "x"
store = "../store"
[source]
uri = "data/tars-{000..009}.tar"
source_root = "data"
[model]
name = "./own.onnx"
weights = "w.safetensors"
[[head]]
labels = "labels.csv"
"""
    file = written_to(tmp_path / "jobs", text)
    monkeypatch.chdir("/")
    job = load(file, environ={})
    assert job.extract is not None
    here = tmp_path / "jobs"
    assert job.store == str(tmp_path / "store")
    assert job.extract.source == str(here / "data/tars-{000..009}.tar")
    assert (job.extract.source_root, job.extract.weights) == (str(here / "data"), str(here / "w.safetensors"))
    assert (job.extract.model, job.heads[0].settings.labels) == (str(here / "own.onnx"), str(here / "labels.csv"))


@pytest.mark.parametrize("model", ["resnet50", "hf:a/b", "timm:vit.x", "resnet50:IMAGENET1K_V2"])
def test_a_models_name_is_no_path(model: str) -> None:
    job = read(edited('"resnet50"', f'"{model}"'))
    assert job.extract is not None
    assert job.extract.model == model


def test_urls_and_absolute_paths_stay() -> None:
    for uri in ("/data/x", "s3://bucket/x"):
        job = read(edited('"images/"', f'"{uri}"'))
        assert job.extract is not None
        assert job.extract.source == uri


def test_a_job_may_only_train() -> None:
    job = read('[job]\nname = "a"\ntable = "photos@resnet50"\n[[head]]\nlabel = "kind"\n')
    assert (job.table, job.space, job.extract) == ("photos", "resnet50", None)
    assert job.heads[0].name == job.heads[0].settings.name == "photos-kind"


# ── its digest ──────────────────────────────────────────────────────────────────────────────────


def test_a_digest_is_of_what_is_said_and_not_of_how() -> None:
    same = read(WHOLE).digest
    assert len(same) == 64
    assert read("# a remark\n" + WHOLE.replace(" = ", "=")).digest == same
    assert read(WHOLE, given={"device": "cpu", "workers": 3, "limit": 10}).digest == same
    assert read(edited("[index]", "[extract]\nbatch_size = 4\nrehash = true\n[index]")).digest == same
    assert read(edited("keep = 5", "keep = 9")).digest == same
    assert read(edited("max_removed_share = 0.2\n", "")).digest == same  # the default, said or not


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"images/"', '"pictures/"'),
        ('label_from = "folder"\n', ""),
        ("recall = 0.95\nmemory", "recall = 0.9\nmemory"),
        ('"on-drift"', '"always"'),
        ("min_recall = 0.95", "min_recall = 0.9"),
        ("category = 0.85", "category = 0.8"),
        ('"resnet50"', '"resnet18"'),
        ('label = "label"', 'label = "label"\nseed = 3'),
    ],
)
def test_another_meaning_has_another_digest(before: str, after: str) -> None:
    assert read(edited(before, after)).digest != read(WHOLE).digest


def test_a_file_of_labels_counts_by_what_it_holds(tmp_path: Path) -> None:
    job = written_to(tmp_path, '[job]\nname = "topics"\ntable = "t"\n[[head]]\nlabels = "labels.csv"\n')
    missing = load(job).digest
    (tmp_path / "labels.csv").write_text("item_id,label\na,cat\n", "utf-8")
    first = load(job).digest
    assert load(job).digest == first != missing
    (tmp_path / "labels.csv").write_text("item_id,label\na,cat\nb,dog\n", "utf-8")
    assert load(job).digest != first


# ── what is wrong with it ───────────────────────────────────────────────────────────────────────

BAD = {
    "nonsense = 3": ("nonsense", "unknown key"),
    '[job]\nname = "pho tos"': ("job.name", "only letters"),
    '[source]\nurl = "x"': ("source.url", "did you mean 'uri'"),
    '[source]\nbatch_size = 3\nuri = "x"': ("source.batch_size", "did you mean 'extract.batch_size'"),
    '[source]\nuri = "-"': ("source.uri", "standard input"),
    '[source]\nuri = 3': ("source.uri", "valid string"),
    "[source]\nlimit = 3": ("source.limit", "no job has this"),
    "[extract]\nallow_removals = true": ("extract.allow_removals", "no job has this"),
    '[model]\nname = "r"\ndevice = "gpu"': ("model.device", "gpu"),
    '[model]\nname = "r"\nprecision = "fp16"': ("model.precision", "Input should be 'fp32' or 'int8'"),
    '[model]\nname = "r"\nprecision = 16': ("model.precision", "Input should be 'fp32' or 'int8'"),
    '[extract]\nbatch_size = "8"': ("extract.batch_size", "valid integer"),
    "[extract]\nbatch_size = true": ("extract.batch_size", "valid integer"),
    "[extract]\nbatch_size = 8.5": ("extract.batch_size", "valid integer"),
    "[extract]\nworkers = -1": ("extract.workers", "greater than or equal to 1"),
    "[extract]\nworkers = 1979-05-27": ("extract.workers", "valid integer"),
    '[extract]\npreviews = "yes"': ("extract.previews", "valid boolean"),
    "[index]\nrecall = nan": ("index.recall", "NaN"),
    "[index]\nrecall = 1.5": ("index.recall", "less than or equal to 1"),
    '[index]\nmemory = "2XB"': ("index.memory", "a size is"),
    '[index]\nkind = "tree"': ("index.kind", "'flat'"),
    "[index]\nrebuild = true": ("index.rebuild", "no job has this"),
    '[[head]]\nrefit = "sometimes"': ("head[0].refit", "'never', 'always' or 'on-drift'"),
    '[[head]]\nlabl = "x"': ("head[0].labl", "did you mean 'label'"),
    "[[head]]\nnew_split = true": ("head[0].new_split", "no job has this"),
    '[[head]]\nname = "a"\n[[head]]\nname = "a"': ("head[1].name", "two heads 'a'"),
    '[[head]]\nlabel = "a"\n[[head]]\nname = "photos-a"': ("head[1].name", "two heads 'photos-a'"),
    '[head]\nname = "a"': ("head", "begun by [[head]]"),
    '[[gates]]\nmin_recall = 0.5': ("gates", "begun by [gates]"),
    "[gates]\nmax_reject_share = -0.1": ("gates.max_reject_share", "greater than or equal to 0"),
    "[gates]\nmax_drift_auc = inf": ("gates.max_drift_auc", "finite"),
    "[gates]\nmax_drift_auc = 0.3": ("gates.max_drift_auc", "0.5"),
    "[gates]\nmin_recall = 0.9": ("gates.min_recall", "keeps no index"),
    "[gates]\nmin_accuracy = { b = 0.9 }": ("gates.min_accuracy.b", "no such head"),
    "[gates]\nmin_accuracy = 0.9": ("gates.min_accuracy", "object"),
    '[gates]\nmin_accuracy = { b = "x" }': ("gates.min_accuracy.b", "valid number"),
    "[publish]\nkeep = 0": ("publish.keep", "greater than or equal to 1"),
    '[metric]\ntextfile = "x"': ("metric", "did you mean 'metrics'"),
    '[metrics]\ntextfile = ""': ("metrics.textfile", "at least 1 character"),
}  # fmt: skip


def _with(text: str) -> str:
    """A job that is right but for one section."""
    parts = {"job": '[job]\nname = "photos"\n', "source": '[source]\nuri = "x"\n', "model": '[model]\nname = "r"\n'}
    first = text.split("]")[0].strip("[")
    parts.pop(first, None)
    return (
        (text + "\n" if not text.startswith("[") else "") + "".join(parts.values()) + (text if text[0] == "[" else "")
    )


@pytest.mark.parametrize(("text", "said"), BAD.items())
def test_what_is_wrong_is_named_with_its_key_and_line(text: str, said: tuple[str, str]) -> None:
    whole = _with(text)
    found = problems(whole)
    path, words = said
    mine = [problem for problem in found if problem.path == path and words in problem.text]
    assert len(mine) == 1, found
    key = path.rpartition(".")[2].split("[")[0]
    assert mine[0].line is not None
    assert key in whole.splitlines()[mine[0].line - 1] or path.startswith("head[1]") or "{" in text


@pytest.mark.parametrize("text", BAD)
def test_the_schema_refuses_it_too_where_it_can(text: str) -> None:
    try:
        body = tomllib.loads(_with(text))
    except tomllib.TOMLDecodeError:
        return
    beyond = (
        'uri = "-"',
        '"2XB"',
        "nan",
        '[[head]]\nname = "a"',
        'label = "a"',
        "min_recall = 0.9",
        "{ b = 0.9 }",
        "1979",
    )
    if not any(part in text for part in beyond):
        assert list(CHECK.iter_errors(body)), text


def test_all_errors_are_named_at_once() -> None:
    text = "\n".join(
        (
            '[job]\nname = "photos"',
            '[source]\nurl = "x"',
            '[model]\nname = "r"\ndevice = "gpu"',
            "[extract]\nworkers = 0\nbatch_size = 0",
            '[[head]]\nrefit = "x"',
            '[[head]]\nseed = -1\nseeds = "y"',
            "[gates]\nmax_reject_share = 7",
        )
    )
    found = problems(text)
    assert [problem.path for problem in sorted(found, key=lambda one: (one.line or 0, one.path))] == [
        "source.uri", "source.url", "model.device", "extract.workers", "extract.batch_size", "head[0].refit",
        "head[1].name", "head[1].seed", "head[1].seeds", "gates.max_reject_share",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ('[job]\nname = "x"\nname = "y"\n', "a key is there twice", 3),
        ('[job]\nname = "x"\n[job]\n', "a section is there twice", 3),
        ('[job]\nname = "x\n', "cannot be read as TOML", 2),
        ("[job\n", "cannot be read as TOML", 1),
        ("x = " + "[" * 5000, "nested too deeply", None),
    ],
)
def test_what_is_no_toml(text: str, said: str, line: int | None) -> None:
    (found,) = problems(text)
    assert said in found.text
    assert found.line == line


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no job"):
        load(tmp_path / "none.toml")
    with pytest.raises(NotFoundError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'[job]\nname = "\xe9"\n')
    with pytest.raises(SettingsError, match="line 2: it is not UTF-8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load(tmp_path / "large.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "[job] is missing"),
        ('[job]\nname = "x"\n', "does nothing"),
        ('[job]\nname = "x"\n[[head]]\n', "job.table: is missing"),
        ('[job]\nname = "x"\n[source]\nuri = "y"\n', "[model] is missing"),
        ('[job]\nname = "x"\ntable = "y"\n[model]\nname = "z"\n[[head]]\n', "there is no [source]"),
        ('[job]\nname = "x"\ntable = "y@z"\n[source]\nuri = "a"\n[model]\nname = "b"\n', "must be a table's name"),
        ('[job]\nname = "x"\ntable = "y:3"\n[[head]]\n', "must be a table's address"),
    ],
)
def test_what_is_missing(text: str, said: str) -> None:
    assert any(said in str(problem) for problem in problems(text))


def test_a_wrong_variable_or_flag_is_named_as_such() -> None:
    (found,) = problems(WHOLE, environ={"FEATSTORE_WORKERS": "many"})
    assert found.path == "FEATSTORE_WORKERS"
    (found,) = problems(WHOLE, given={"workers": 0})
    assert found.path == "--workers"
    (found,) = problems(WHOLE, environ={"FEATSTORE_WORKRES": "3"})
    assert "did you mean FEATSTORE_WORKERS?" in found.text
    with pytest.raises(SettingsError, match="batch_size"):
        read(WHOLE, given={"batch_size": 3})


def test_no_secret_is_repeated() -> None:
    secret = "hunter2-of-mine"
    text = f"""
password = "{secret}"
[job]
name = "photos"
store = 3
[source]
uri = ["https://me:{secret}@host/x"]
token = "{secret}"
[model]
name = "r"
[[head]]
mlflow = ["https://me:{secret}@host"]
"""
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value.context)
    assert "source.uri" in caught.value.message
    with pytest.raises(SettingsError) as caught:
        read(f'[job]\nname = "x"\n[source]\nuri = "https://me:{secret}@host" "\n')
    assert secret not in str(caught.value)


_SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(string.printable, max_size=12),
    st.lists(st.one_of(st.integers(), st.text("ab", max_size=3)), max_size=3),
    st.dictionaries(st.text("ab", min_size=1, max_size=2), st.integers(), max_size=2),
)  # fmt: skip
_KEYS = sorted({key for section in SECTIONS.values() for key in section.keys} | {"nonsense"})


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*SECTIONS, "other"]),
        st.dictionaries(st.sampled_from(_KEYS), _SCALARS, max_size=4) | _SCALARS,
        max_size=5,
    )
)
def test_whatever_a_file_holds_is_a_job_or_refused_with_reasons(body: dict[str, Any]) -> None:
    from featstore.jobs.writing import _toml

    lines = [f"{name} = {_said(value, _toml)}" for name, value in body.items() if not isinstance(value, dict)]
    for name, value in body.items():
        if isinstance(value, dict):
            lines.append(f"[[{name}]]" if name == "head" else f"[{name}]")
            lines += [f"{key} = {_said(one, _toml)}" for key, one in value.items()]
    text = "\n".join(lines)
    tomllib.loads(text)
    try:
        read(text)
    except SettingsError as error:
        found = error.context["problems"]
        assert isinstance(found, tuple)
        assert found
        assert all(problem.text for problem in found)


def _said(value: Any, toml: Any) -> str:
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    return str(toml(value))


# ── the schema ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_schema_takes_the_examples(file: Path) -> None:
    CHECK.check_schema(job_schema())
    assert not list(CHECK.iter_errors(tomllib.loads(file.read_text("utf-8"))))
    load(file, environ={})


def test_the_schema_is_kept_and_has_every_key() -> None:
    kept = json.loads((SCHEMAS / "documents" / "job.json").read_text("utf-8"))
    assert kept == {"$schema": "https://json-schema.org/draft/2020-12/schema", **job_schema()}
    for name, section in SECTIONS.items():
        assert set(kept["$defs"][name.capitalize()]["properties"]) == set(section.keys)


def test_every_setting_has_its_place_or_a_reason() -> None:
    """A new setting of a command is a job's too, or it is said why it is not."""
    from featstore.jobs.sections import ELSEWHERE

    there = {(key.kind, key.field) for section in SECTIONS.values() for key in section.keys.values()}
    for kind in (ExtractSettings, IndexSettings, HeadSettings, TorchSettings, FinetuneSettings):
        for name in kind.__dataclass_fields__:
            gates = name in Gates.__dataclass_fields__
            assert (kind, name) in there or name in ELSEWHERE or gates or name == "name", name


# ── written out ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [WHOLE, *(file.read_text("utf-8") for file in EXAMPLES)])
def test_a_job_that_is_written_out_reads_back_the_same(text: str) -> None:
    job = read(text)
    again = read(written(job, Path("/somewhere"), notes=["a \x00 note\nof lines"], about={"head.refit": "why"}))
    assert replace(again, origins={}) == replace(job, origins={})
    assert again.digest == job.digest


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_text_survives_being_written(template: str, column: str) -> None:
    base = read(WHOLE)
    assert base.extract is not None
    job = replace(base, extract=replace(base.extract, text_template=template, text_column=(column, "b")))
    try:
        text = written(job, Path("/somewhere"))
    except UsageError:
        assert any(0xD800 <= ord(c) < 0xE000 for c in template)
        return
    again = read(text).extract
    assert again is not None
    assert (again.text_template, again.text_column) == (template, (column, "b"))


# ── the examples, run ───────────────────────────────────────────────────────────────────────────


def paint(folder: Path, numbers: range) -> None:
    """Pictures of two kinds that any backbone tells apart."""
    for kind, colour in (("brick", (200, 60, 40)), ("grass", (40, 170, 60))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for at in numbers:
            noise = np.random.default_rng(at).integers(-40, 40, (24, 32, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 48)).save(folder / kind / f"{at:03d}.png")


@pytest.fixture
def place(model_store: Path, tmp_path: Path, texts_csv: Path) -> Path:
    """The examples beside what they name, and a store with the models."""
    for file in EXAMPLES:
        shutil.copy(file, tmp_path)
    paint(tmp_path / "photos", range(16))
    shutil.copy(texts_csv, tmp_path / "sentences.csv")
    fresh(model_store, tmp_path).path.rename(tmp_path / "featstore-data")
    return tmp_path


def opened(place: Path) -> Store:
    return featstore.open(place / "featstore-data")


@pytest.mark.heavy
def test_the_examples_run(place: Path) -> None:
    store = opened(place)
    assert [file.stem for file in EXAMPLES] == [
        "extract-images", "extract-texts", "finetune", "migrate", "refresh", "train-head",
    ]  # fmt: skip
    for name, table, rows in (("extract-images", "images", 32), ("extract-texts", "sentences", 12)):
        result = store.refresh(place / f"{name}.toml")
        assert (result.status, result.table, len(store.table(table))) == ("published", table, rows)
    result = store.refresh(place / "train-head.toml")
    assert (result.status, [head.action for head in result.heads]) == ("published", ["trained"])
    assert result.index is not None
    state = store.published("images")
    assert state is not None
    assert (state.state.heads, state.state.job) == ({"kind": 1}, "images-kind")


def test_the_whole_example_runs(place: Path) -> None:
    result = opened(place).refresh(place / "refresh.toml")
    assert (result.status, result.table, [head.action for head in result.heads]) == ("published", "photos", ["trained"])
    assert {gate.gate for gate in result.gates} >= {"max_reject_share", "max_removed_share", "min_recall"}
    assert (place / "featstore.prom").is_file()


@pytest.mark.heavy
def test_a_plan_tells_what_a_refresh_will_do(place: Path) -> None:
    store, file = opened(place), place / "refresh.toml"
    file.write_text(file.read_text("utf-8").replace("curve = false", 'kind = "ridge"\ncurve = false'), "utf-8")
    files = sorted(path for path in place.rglob("*") if path.is_file())
    planned = store.plan_refresh(file)
    assert sorted(path for path in place.rglob("*") if path.is_file()) == files  # nothing was written
    assert planned.extract is not None
    assert (planned.extract.new, planned.extract.reused, planned.shards) == (32, 0, 1)
    assert (planned.seconds_low, planned.seconds_high) == (None, None)  # nothing was ever measured
    assert "would be built" in planned.index
    assert planned.heads == {"kind": "would be trained: there is none"}
    assert len(planned.gates) == 5
    done = store.refresh(file)
    assert done.status == "published", done.error
    assert done.extract is not None
    assert planned.bytes == pytest.approx(done.extract.bytes_written, rel=0.5)

    again = store.plan_refresh(file)
    assert again.extract is not None
    assert (again.extract.new, again.extract.removed, again.extract.reused, again.shards) == (0, 0, 32, 0)
    assert (again.index, again.heads) == ("stays as it is", {"kind": "version 1 stays"})
    assert "nothing is new" in again.warnings
    assert again.published_version == 0

    paint(place / "photos", range(16, 18))
    (place / "photos" / "brick" / "000.png").unlink()
    more = store.plan_refresh(file)
    assert more.extract is not None
    assert (more.extract.new, more.extract.removed, more.extract.reused, more.shards) == (4, 1, 31, 1)
    assert more.seconds_low is not None
    assert more.seconds_high is not None
    assert 0 < more.seconds_low < more.seconds_high < 600
    assert "4 come, 1 leave" in more.index or "would be" in more.index
    assert "measured again" in more.heads["kind"]
    result = store.refresh(file)
    assert (result.status, result.extract and result.extract.new) == ("published", 4)


def test_a_plan_of_a_job_whose_source_is_gone_says_so(place: Path) -> None:
    store = opened(place)
    store.refresh(place / "extract-texts.toml")
    (place / "sentences.csv").unlink()
    with pytest.raises(FeatstoreError) as caught:
        store.plan_refresh(place / "extract-texts.toml")
    assert caught.value.exit_code == 5


def test_a_plan_where_the_table_was_changed_by_hand(place: Path) -> None:
    """A version that an extract made, which no job has judged yet, is the next candidate."""
    store, file = opened(place), place / "extract-texts.toml"
    store.refresh(file)
    with (place / "sentences.csv").open("a", encoding="utf-8") as stream:
        stream.write("s99,cats,One more cat.\n")
    job = load(file)
    assert job.extract is not None
    store.extract(job.extract.source, model="minilm", name="sentences")
    planned = store.plan_refresh(file)
    assert planned.extract is not None
    assert (planned.extract.stored, planned.shards, planned.published_version) == (0, 0, 0)
    assert "nothing is new" not in planned.warnings
    edited_file = file.read_text("utf-8").replace("[extract]", "[gates]\nmax_removed_share = 0.5\n[extract]")
    file.write_text(edited_file, "utf-8")
    assert "nothing is new" not in store.plan_refresh(file).warnings


# ── jobs new ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_job_made_from_a_table_keeps_it_as_it_is(place: Path) -> None:
    store = opened(place)
    store.extract(place / "photos", model="efficientnet_lite0", name="pics", label_from="folder", workers=2)
    store.index("pics", recall=0.9)
    head = store.train_head("pics", label="label", name="kind", kind="ridge", curve=False)
    made = store.new_job("nightly", table="pics", output=place / "nightly.toml")
    assert (made.job, made.table, made.heads) == ("nightly", "pics", ("kind",))
    job = load(place / "nightly.toml", environ={})
    assert job.extract is not None
    assert (job.name, job.table, job.store) == ("nightly", "pics", str(store.path))
    assert (job.extract.source, job.extract.label_from, job.extract.workers) == (str(place / "photos"), "folder", 2)
    assert job.extract.model == "efficientnet_lite0"
    assert job.index is not None
    assert job.index.recall == 0.9
    (kept,) = job.heads
    assert (kept.settings.label, kept.settings.kind, kept.settings.task) == ("label", "ridge", "classification")
    low = head.card.metrics["accuracy"].low
    assert low - 0.01 < job.gates.min_accuracy["kind"] <= low
    text = (place / "nightly.toml").read_text("utf-8")
    assert 'uri = "photos"' in text  # relative: it lies below
    assert text.count("#") > 8

    planned = store.plan_refresh(place / "nightly.toml")
    assert planned.extract is not None
    assert (planned.extract.new, planned.extract.removed, planned.extract.updated) == (0, 0, 0)
    result = store.refresh(place / "nightly.toml")
    assert (result.status, result.version) == ("published", 0)
    assert [head.action for head in result.heads] == ["kept"]

    before = (place / "nightly.toml").read_bytes()
    with pytest.raises(UsageError, match="there already"):
        store.new_job("nightly", table="pics", output=place / "nightly.toml")
    assert (place / "nightly.toml").read_bytes() == before
    with pytest.raises(UsageError, match="name of a job's file"):
        store.new_job("nightly", table="pics", output=place / "nightly.yaml")
    with pytest.raises(NotFoundError, match="no table 'nightly'"):
        store.new_job("nightly", output=place / "b.toml")
    of_its_address = store.new_job("pics@efficientnet_lite0", output=place / "c.toml")
    assert (of_its_address.job, of_its_address.table) == ("pics", "pics")
    with pytest.raises(SettingsError, match="only letters"):
        store.new_job("night ly", table="pics", output=place / "b.toml")
    assert not (place / "b.toml").exists()


def test_a_job_made_from_a_table_without_index_and_heads(place: Path) -> None:
    store = opened(place)
    columns = {"id_column": "id", "text_column": "text", "label_column": "topic"}
    store.extract(place / "sentences.csv", model="minilm", chunk_tokens=16, keep_text=True, **columns)
    made = store.new_job("sentences", output=place / "deeper" / "made.toml")
    assert any("no index" in note for note in made.notes)
    job = load(place / "deeper" / "made.toml", environ={})
    assert job.extract is not None
    assert (job.index, job.heads) == (None, ())
    assert (job.extract.text_column, job.extract.id_column) == (("text",), "id")
    assert (job.extract.chunk_tokens, job.extract.keep_text) == (16, True)
    assert job.extract.source == str(place / "sentences.csv")
    planned = store.plan_refresh(place / "deeper" / "made.toml")
    assert planned.extract is not None
    assert (planned.extract.new, planned.extract.removed) == (0, 0)


# ── jobs check ──────────────────────────────────────────────────────────────────────────────────


def test_a_job_made_from_a_table_finds_its_model_wherever_its_file_lies(
    model_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "own", image_model(), image_card())
    paint(tmp_path / "images" / "cat", range(4))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = fresh(model_store, tmp_path)
    made = store.extract("images", model="own/net.onnx", name="images", max_reject_share=0.5)
    store.new_job("images", output="elsewhere/images.toml")
    job = load(tmp_path / "elsewhere" / "images.toml", environ={})
    assert job.extract is not None
    assert job.extract.model == str(tmp_path / "own" / "net.onnx")
    assert job.gates.max_reject_share == 0.5
    assert store.check_jobs(["elsewhere/images.toml"])[0].warnings == ()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = store.new_job("images", output="again.toml")
    assert "named by its space" in " ".join(found.notes)
    again = load(tmp_path / "elsewhere" / "again.toml", environ={})
    assert again.extract is not None
    assert again.extract.model == made.space_id
    assert store.check_jobs(["again.toml"])[0].warnings == ()


def test_check_names_errors_and_warns(place: Path) -> None:
    (place / "broken.toml").write_text("[job]\nnam = 3\n", "utf-8")
    done = inside("jobs", "check", *(file.name for file in EXAMPLES), "broken.toml", cwd=place)
    assert done.code == 2
    assert "broken.toml:2: error: job.nam: unknown key; did you mean 'name'?" in done.out
    assert "train-head.toml: warning: there is no table 'images'" in done.out
    assert "1 of 7 files" in done.err
    fine = inside("jobs", "check", "extract-images.toml", "--json", cwd=place)
    assert fine.code == 0
    (found,) = fine.json
    jsonschema.validate(fine.json, schema("outputs/jobs-check.json"))
    assert (found["job"], found["problems"], found["warnings"]) == ("images", [], [])


def test_check_sees_what_a_job_would_stumble_over(place: Path) -> None:
    opened(place).refresh(place / "extract-images.toml")
    shutil.copytree(place / "photos", place / "others")
    text = (place / "extract-images.toml").read_text("utf-8")
    text = text.replace('"photos/"', '"others/"').replace("[gates]", '[[head]]\nlabel = "age"\n[gates]')
    (place / "moved.toml").write_text(text, "utf-8")
    (place / "gone.toml").write_text(
        text.replace('"others/"', '"none/"').replace('"images"', '"gone"').replace("efficientnet_lite0", "resnet18"),
        "utf-8",
    )
    (place / "twin.toml").write_text(text, "utf-8")
    moved, gone, twin = opened(place).check_jobs([place / "moved.toml", place / "gone.toml", place / "twin.toml"])
    assert any("kept in step with" in warning for warning in moved.warnings)
    assert any("no column 'age'" in warning for warning in moved.warnings)
    assert any("is not there" in warning for warning in gone.warnings)
    assert any("not in the store" in warning for warning in gone.warnings)
    assert not moved.problems
    assert [problem.path for problem in twin.problems] == ["job.name"]


@pytest.mark.parametrize(
    "uri", ["https://bob:SECRET@example.org/pics?token=SECRET", "s3://KEY:SECRET@bucket/pics", "s3://K:SE?SECRET@b/p"]
)
def test_a_source_that_cannot_be_read_is_said_without_its_secrets(place: Path, uri: str) -> None:
    text = f'[job]\nname = "p"\n[source]\nuri = "{uri}"\n[model]\nname = "efficientnet_lite0"\n'
    job = written_to(place, text, "p.toml")
    (checked,) = opened(place).check_jobs([job])
    assert "cannot be read" in " ".join(checked.warnings)
    with pytest.raises(UsageError) as caught:
        opened(place).refresh(job)
    kept = [file.read_text("utf-8") for file in (place / "featstore-data" / "jobs").glob("*.json")]
    for said in (*checked.warnings, caught.value.message, str(caught.value.context), *kept):
        assert "SECRET" not in said


def test_check_needs_no_store(tmp_path: Path) -> None:
    file = written_to(tmp_path, WHOLE)
    (found,) = featstore.open(tmp_path / "none").check_jobs([file])
    assert (found.job, found.problems) == ("photos", ())
    assert found.warnings == (f"source.uri: {tmp_path / 'images'} is not there",)
    assert not (tmp_path / "none").exists()


# ── ls jobs ─────────────────────────────────────────────────────────────────────────────────────


def note(store: Store, name: str, hours: float | None, *, status: str = "published", **more: Any) -> None:
    """How a job's last run went, so many hours before NOON."""
    at = None if hours is None else (NOON - timedelta(hours=hours)).isoformat(timespec="milliseconds")
    made = JobState(
        job=name,
        file=more.get("file"),
        table=name,
        digest=more.get("digest", "0"),
        last_run_id="20260101T000000-abcdef",
        last_status=status,
        last_started_ts=NOON.isoformat(),
        last_finished_ts=NOON.isoformat(),
        last_success_ts=at,
        last_published_ts=at,
        failures=more.get("failures", 0),
        next=more.get("next"),
    )
    documents.write(store.layout.storage, store.layout.job(name), made)


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_ages_are_of_the_last_success(tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    note(store, "young", 2)
    note(store, "old", 30, status="refused", failures=3, next="featstore show RUN")
    note(store, "never", None, status="failed", failures=1, file=str(tmp_path / "n.toml"))
    note(store, "tomorrow", -5)  # the clock was moved back
    found = {one.job: one for one in standings(store.layout, older_than=26 * 3600, now=NOON)}
    assert {name: one.stale for name, one in found.items()} == {
        "young": False, "old": True, "never": True, "tomorrow": False,
    }  # fmt: skip
    assert found["young"].age_seconds == 7200
    assert found["tomorrow"].age_seconds == 0
    assert (found["old"].failures, found["old"].next) == (3, "featstore show RUN")
    assert (found["never"].age_seconds, found["never"].next) == (None, f"featstore refresh {tmp_path / 'n.toml'}")
    assert all(one.stale is None for one in standings(store.layout, now=NOON))


def test_ls_jobs(place: Path) -> None:
    def ls(*arguments: str) -> Outcome:
        return inside("ls", "jobs", *arguments, cwd=place)

    empty = ls("--json")
    assert (empty.code, empty.json) == (0, [])
    listed = ls(".", "--json")
    jsonschema.validate(listed.json, schema("outputs/ls-jobs.json"))
    assert [(one["job"], one["status"]) for one in listed.json] == [
        ("images", "never run"), ("images-kind", "never run"), ("photos", "never run"),
        ("photos-finetune", "never run"), ("sentences", "never run"), ("sentences-to-prompts", "never run"),
    ]  # fmt: skip
    assert listed.json[0]["next"] == "featstore refresh extract-images.toml"
    opened(place).refresh(place / "extract-texts.toml")
    (ran,) = ls("--json").json
    assert (ran["job"], ran["status"], ran["published_version"], ran["failures"]) == ("sentences", "published", 0, 0)
    assert ran["next"] is None
    assert ls("--stale", "26h").code == 0
    stale = ls(".", "--stale", "26h")
    assert stale.code == 1
    assert "stale: images, it never succeeded" in stale.err
    assert "stale: sentences," not in stale.err
    assert ls("extract-texts.toml", "--stale", "1d").code == 0

    (place / "sentences.csv").unlink()
    with pytest.raises(FeatstoreError):
        opened(place).refresh(place / "extract-texts.toml")
    (failed,) = ls("extract-texts.toml", "--json").json
    assert (failed["status"], failed["failures"]) == ("refused", 1)
    assert failed["last_success_ts"] == ran["last_success_ts"]
    assert failed["next"] is not None
    with (place / "extract-texts.toml").open("a") as stream:
        stream.write("[publish]\nkeep = 2\n[gates]\nmax_removed_share = 0.9\n")
    assert "something else" in ls("extract-texts.toml").out

    (place / "broken.toml").write_text("[job]\n", "utf-8")
    broken = ls(".")
    assert broken.code == 2
    assert "images" in broken.out
    assert ls(".", "--stale", "26h").code == 1
    assert ls("broken.toml", "--json").json[0]["status"] == "unreadable"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "jobs", "--stale", "soon"], "soon"),
        (["ls", "jobs", "none.toml"], "none.toml"),
        (["ls", "jobs", "photos"], "photos"),
        (["ls", "--stale", "3h"], "--stale"),
        (["ls", "runs", "refresh.toml"], "files"),
        (["jobs", "check", "none.toml"], "none.toml"),
        (["jobs", "new", "photos"], "no table 'photos'"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], said: str, place: Path) -> None:
    done = inside(*arguments, cwd=place)
    assert done.code == 2
    assert said in done.err


def test_a_jobs_own_store_is_looked_into(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = (place / "extract-texts.toml").read_text("utf-8")
    text = text.replace("[source]", 'store = "featstore-data"\n[source]')
    (place / "extract-texts.toml").write_text(text, "utf-8")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = inside("refresh", str(place / "extract-texts.toml"), cwd=elsewhere)
    assert done.code == 0, done.err
    listed = inside("ls", "jobs", str(place / "extract-texts.toml"), "--json", cwd=elsewhere)
    assert [one["status"] for one in listed.json] == ["published"]
    assert not (elsewhere / "featstore-data").exists()


# ── jobs new and --dry-run as commands ──────────────────────────────────────────────────────────


def test_the_commands(place: Path) -> None:
    opened(place).extract(place / "photos", model="efficientnet_lite0", label_from="folder")
    made = inside("jobs", "new", "photos", "--json", cwd=place)
    assert made.code == 0, made.err
    jsonschema.validate(made.json, schema("outputs/jobs-new.json"))
    assert inside("jobs", "check", "photos.toml", cwd=place).code == 0
    again = inside("jobs", "new", "photos", cwd=place)
    assert (again.code, "there already" in again.err) == (2, True)
    shown = inside("jobs", "new", "photos", "-o", "other.toml", cwd=place)
    assert shown.out.splitlines()[0] == "other.toml"
    planned = inside("refresh", "photos.toml", "--dry-run", "--json", cwd=place)
    assert planned.code == 0, planned.err
    jsonschema.validate(planned.json, schema("outputs/refresh-plan.json"))
    assert set(planned.json) == set(RefreshPlan.__dataclass_fields__)


def test_the_names_of_the_sections_are_the_flags() -> None:
    """What a job calls a setting is what its flag is called."""
    different = {("source", "uri"): "source", ("model", "name"): "model"}
    for name, section in SECTIONS.items():
        for key, meant in section.keys.items():
            assert meant.field == different.get((name, key), key)
    assert not {a for a, b in itertools.combinations(SECTIONS, 2) if a == b}
