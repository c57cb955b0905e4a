"""The command line of a fine-tuning: its flags, what it prints, its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import pytest
from cli_world import COMMAND, environment, inside, run, schema
from finetune_cli_world import ANY, SMALL, tunable
from finetune_report_world import around, groups, made, refused

from featstore.cli import finetuned
from featstore.records import FinetunePlan, FinetuneResult
from featstore.settings import FinetuneSettings


def result(**more: object) -> FinetuneResult:
    found = FinetuneResult(
        table="fruit", label="kind", status="kept", space_id="fruit-kind-77aa66bb", key="0123456789abcdef",
        report=made(), html="/store/finetunes/fruit/0123456789abcdef/report.html",
        next=("featstore migrate fruit --to fruit-kind-77aa66bb",), seconds=412.7,
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


def planned(**more: object) -> FinetunePlan:
    found = FinetunePlan(
        table="fruit", version=3, space_id="resnet18-3f9a2c1b", model="resnet18", label="kind",
        classes={f"c{at:02d}": 90 - at for at in range(20)}, n_train=640, n_validation=160, n_test=200, method="LP-FT",
        blocks=made().blocks, groups=groups(0), trained_parameters=5_500_000, parameters=11_000_000, epochs=8,
        steps=160, seconds_low=1800.0, seconds_high=9000.0, frozen=around(0.74), frozen_kind="logistic",
        advice="with 800 labels stay with frozen features", resumes="epoch 2, step 41", warnings=("a class is rare",),
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


# ── what it is told ─────────────────────────────────────────────────────────────────────────────


def test_every_setting_has_a_flag_of_its_name(tmp_path: Path) -> None:
    shown = inside("finetune", "--help", cwd=tmp_path).out
    for field in fields(FinetuneSettings):
        assert re.search(rf"--{field.name.replace('_', '-')}\b", shown), field.name
    assert "--no-flip" in shown
    assert "Exit codes:" in shown
    for code in ("0 there is a new model", "5 a gate refused", "7 the deadline", "130 or 143 stopped"):
        assert code in " ".join(shown.split())
    for panel in ("What is learned", "What is trained", "How it is trained", "What must hold before it is a model"):
        assert panel in shown


def test_help_and_a_wrong_word_import_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom featstore.cli import main\n"
        "try: main(['finetune', 'photos', '--help'])\n"
        "finally: print([m for m in ('torch', 'numpy', 'pyarrow', 'optuna', 'sklearn') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "nothing"),
        (["photos", "--log-format", "xml"], "--log-format is 'text' or 'json', not 'xml'"),
        (["photos", "--epochs", "0"], "epochs: "),
        (["photos", "--optimizer", "adam"], "'adamw' or 'sgd'"),
        (["photos", "--deadline", "soon"], "'soon' is no length of time"),
        (["gone.toml"], "gone.toml"),
    ],
)
def test_what_is_wrong_is_a_usage_error(arguments: list[str], said: str, tmp_path: Path) -> None:
    import featstore
    from featstore import founding

    founding.found(featstore.open(tmp_path / "featstore-data").layout)
    done = inside("finetune", *arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert said in done.err
    assert done.out == ""


# ── what it prints ──────────────────────────────────────────────────────────────────────────────


def test_a_plan_says_what_for_how_long_and_what_it_has_to_beat(capsys: pytest.CaptureFixture[str]) -> None:
    finetuned.rehearsal(planned())
    shown = capsys.readouterr().out
    assert "fine-tuning of resnet18 on 'fruit' by 'kind'; nothing was changed" in shown
    for line in (
        "640 to learn from, 160 to stop by, 200 to test on",
        "5,500,000 of 11,000,000 numbers (50%)",
        "160 in 8 epochs at most",
        "30 min to 2.5 h",
        "0.740 [0.720, 0.760], the best frozen head (logistic), on items it has not seen",
        "goes on  epoch 2, step 41",
        "20: c00 90, c01 89",
        "and 8 more",
        "advice: with 800 labels stay with frozen features",
        "warning: a class is rare",
    ):
        assert line in shown, shown
    assert re.search(r"head +epoch 0 +0.001", shown)
    assert re.search(r"layer4 +8,009,000 +epoch 0 +0.0001", shown)
    assert re.search(r"layer1 +[\d,]+ +never", shown)
    assert "then" not in shown
    finetuned.rehearsal(planned(then="publishes it", resumes=None))
    assert "then     publishes it" in capsys.readouterr().out


def test_an_end_says_figures_epochs_gates_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    finetuned.outcome(result(warnings=("an item was left out",)), Path("/store"))
    shown = capsys.readouterr().out
    assert "fine-tuning on 'fruit' by 'kind': fruit-kind-77aa66bb is a model now; 'fruit' is as it was" in shown
    assert re.search(r"frozen, logistic +0.742 \[0.722, 0.762\]", shown)
    assert re.search(r"fine-tuned, logistic +0.821", shown)
    assert "gain: +0.079 [+0.049, +0.109], paired by item" in shown
    assert re.search(r"before +0.900 +0.710", shown)
    assert re.search(r"4 +0.192 +0.620 +0.904 +0.830 +31.5 +best", shown)
    assert re.search(r"layer3 +[\d,]+ +epoch 1", shown)
    assert re.search(r"neutral items +1,797 +0.930 +0.925 +-0.005", shown)
    assert re.search(r"latency +passed +1.01 +at most 1.25", shown)
    assert "search: 4 trials, 2 to their end, 1 given up early" in shown
    assert "note: 12 items changed" in shown
    assert "warning: an item was left out" in shown
    assert shown.rstrip().endswith("next: featstore migrate fruit --to fruit-kind-77aa66bb")


@pytest.mark.parametrize(
    ("status", "space", "said"),
    [
        ("published", "x-1", "'fruit' now means its vectors by x-1"),
        ("refused", None, "a gate refused; everything is as it was"),
        ("nothing new", "x-1", "nothing is new: the same labels and settings have made x-1"),
        ("nothing new", None, "nothing is new: the same labels and settings were refused"),
        ("interrupted", None, "stopped before its end; run it again to go on"),
        ("failed", None, "failed; everything is as it was"),
    ],
)
def test_each_end_has_its_sentence(status: str, space: str | None, said: str) -> None:
    assert finetuned.summary(result(status=status, space_id=space)).endswith(said)


def test_a_refusal_names_the_items_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    finetuned.outcome(
        result(status="refused", space_id=None, report=refused(), next=(), error="gain is -0.09, at least 0 is needed"),
        Path("/store"),
    )
    shown = capsys.readouterr().out
    assert re.search(r"gain +refused +-0.09 +at least 0", shown)
    assert "behind gain:\n  a/1.jpg: was right" in shown
    assert "gain is -0.09, at least 0 is needed" in shown
    assert "next:" not in shown


def test_nothing_of_a_stranger_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x1b]0;x\x07"
    finetuned.outcome(result(report=made(notes=(evil,), method=evil), table=evil, warnings=(evil,)), Path("/store"))
    finetuned.rehearsal(planned(classes={evil: 3}, advice=evil, then=evil))
    assert "\x1b[2J" not in capsys.readouterr().out


# ── run for real ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tunable(tmp_path)


@pytest.mark.heavy
def test_from_a_plan_to_a_model_and_nothing_new(place: Path) -> None:
    plan = inside("finetune", "photos", *SMALL, "--dry-run", "--json", cwd=place)
    assert plan.code == 0, plan.err
    jsonschema.validate(plan.json, schema("outputs/finetune-plan.json"))
    assert [block["epoch"] for block in plan.json["blocks"]].count(0) == 1
    assert not (place / "featstore-data" / "finetunes").exists(), "a plan writes nothing"
    done = inside("finetune", "photos", *SMALL, *ANY, "--report", "page.html", cwd=place)
    assert done.code == 0, done.err
    jsonschema.validate(done.json, schema("outputs/finetune.json"))
    assert len(done.out.splitlines()) == 1, "one line for a scheduler"
    assert "frozen: the best head" in done.err
    assert done.json["status"] == "kept"
    space = done.json["space_id"]
    assert done.json["next"] == [f"featstore migrate photos --to {space}"]
    assert (place / "page.html").read_text() == Path(done.json["html"]).read_text()
    for kind in ("finetune", "finetune-report"):
        name = {"finetune": "state.json", "finetune-report": "report.json"}[kind]
        document = json.loads(Path(done.json["html"]).with_name(name).read_text())
        jsonschema.validate(document, schema(f"documents/{kind}.json"))
    models = inside("models", "list", "--json", cwd=place).json
    assert space in json.dumps(models)
    again = inside("finetune", "photos", *SMALL, *ANY, cwd=place)
    assert (again.code, again.json["status"], again.json["space_id"]) == (0, "nothing new", space)


@pytest.mark.heavy
def test_a_refusal_ends_with_5_and_is_not_repeated(place: Path) -> None:
    strict = ["--min-gain", "0.9"]
    before = sorted(path for path in (place / "featstore-data" / "models").rglob("*"))
    done = inside("finetune", "photos", *SMALL, *strict, cwd=place)
    assert done.code == 5
    jsonschema.validate(done.json, schema("outputs/finetune.json"))
    assert (done.json["status"], done.json["space_id"]) == ("refused", None)
    assert "gain" in done.err
    assert "report.html" in done.err
    assert sorted(path for path in (place / "featstore-data" / "models").rglob("*")) == before
    again = inside("finetune", "photos", *SMALL, *strict, cwd=place)
    assert (again.code, again.json["status"]) == (0, "nothing new")
    lenient = inside("finetune", "photos", *SMALL, *ANY, cwd=place)
    assert (lenient.code, lenient.json["status"]) == (0, "kept"), "judged again, by other limits"


@pytest.mark.heavy
def test_a_signal_ends_it_with_143_and_it_goes_on(place: Path) -> None:
    many = [*SMALL, *ANY, "--checkpoint-every", "1"]
    with subprocess.Popen(
        [*COMMAND, "finetune", "photos", *many], cwd=place, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        folder = place / "featstore-data" / "finetunes"
        until = time.monotonic() + 170
        while time.monotonic() < until and not list(folder.rglob("checkpoint.json")):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "What was trained is kept: run the same command again to go on from there." in err
    assert json.loads(out)["status"] == "interrupted"
    plan = inside("finetune", "photos", *many, "--dry-run", cwd=place)
    assert plan.json["resumes"].startswith("epoch"), plan.out
    done = run("finetune", "photos", *many, "--log-format", "json", cwd=place)
    assert done.code == 0, done.err
    assert json.loads(done.out)["status"] == "kept"
    assert all(json.loads(line) for line in done.err.splitlines())
