"""Help: fast, complete, and each example in it works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from bridge_world import captioned
from cli_world import COMMAND, MODEL, copied, environment, inside, photos, run, stocked, world
from head_world import headed
from job_world import refreshed
from train_world import labelled

from featstore.settings import ExtractSettings

HELPS = [
    "", "extract", "ls", "show", "verify", "gc", "doctor", "models", "models list", "models show", "models export",
    "models compare", "models bench", "export", "diff", "dedup", "eval", "search", "bridge",
    "index", "train-head", "predict", "jobs", "jobs new", "jobs check", "refresh", "publish", "rollback",
]  # fmt: skip


def _help(command: str) -> str:
    done = inside(*command.split(), "--help", cwd=Path.cwd())
    assert done.code == 0, done.err
    return done.out


def test_help_takes_less_than_three_tenths_of_a_second_of_cpu() -> None:
    """On a machine that needs longer for the library of the command line alone: in proportion to that."""
    took: list[float] = []
    library: list[float] = []
    # The best of ten, by turns: what shares the cores only adds.
    while len(took) < 10 and min(took, default=1.0) >= max(0.3, 2.5 * min(library, default=0.0)):
        library.append(_cpu_seconds(sys.executable, "-c", "import typer, typer.main, rich.console, rich.table"))
        took.append(_cpu_seconds(*COMMAND, "--help"))
    assert min(took) < max(0.3, 2.5 * min(library)), (took, library)


def _cpu_seconds(*command: str) -> float:
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ("pyarrow", "polars", "pydantic", "numpy", "onnxruntime", "deltalake", "torch")),
        (["extract", "--help"], ("pyarrow", "polars", "numpy", "onnxruntime", "deltalake", "torch")),
        (["models", "list"], ("torch", "pyarrow")),
        (["ls"], ("torch", "onnxruntime", "transformers", "pandas", "polars")),
        (["show", "photos"], ("torch", "onnxruntime", "transformers", "pandas", "polars")),
        (["show", "photos", "--rejects"], ("torch", "onnxruntime", "transformers")),
        (["extract", "photos", "--model", MODEL], ("torch", "transformers", "onnxruntime", "pandas")),
        (["verify", "--sample", "1"], ("torch", "transformers", "pandas")),
    ],
)
def test_a_command_imports_no_more_than_it_needs(arguments: list[str], absent: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom featstore.cli import main\n"
        f"try: main({arguments!r})\n"
        f"finally: print([m for m in {absent!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=world(), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_extracting_with_an_exported_model_imports_no_torch(tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 2)
    program = (
        "import sys\nfrom featstore.cli import main\n"
        f"try: main(['extract', 'photos', '--model', {MODEL!r}])\n"
        "finally: print('onnxruntime' in sys.modules, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "True False"


def test_every_setting_has_a_flag_of_its_name() -> None:
    shown = _help("extract")
    for field in fields(ExtractSettings):
        if field.name != "source":
            assert re.search(rf"--{field.name.replace('_', '-')}\b", shown), field.name
    assert "--no-previews" in shown


def test_the_commands_stand_in_their_panels() -> None:
    shown = _help("")
    order = [
        "Make",
        "extract",
        "index",
        "train-head",
        "predict",
        "export",
        "Keep fresh",
        "refresh",
        "publish",
        "rollback",
        "Change the model",
        "finetune",
        "migrate",
        "bridge",
        "Look",
        "ls",
        "show",
        "diff",
        "eval",
        "dedup",
        "Look after",
        "verify",
        "gc",
        "doctor",
        "Groups",
        "models",
        "jobs",
    ]
    at = [re.search(rf"[─│] {word} ", shown[:]) for word in order]
    assert all(at)
    assert [m.start() for m in at if m] == sorted(m.start() for m in at if m)


_HEAVY = ("bridge", "finetune", "models bench")


@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=pytest.mark.heavy) if name in _HEAVY else name for name in (*HELPS, "finetune")],
)
def test_each_help_begins_with_an_example_that_works(
    command: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    body = _help(command).split("Usage:", 1)[1].splitlines()[1:]
    first = next(line.strip() for line in body if line.strip())
    assert first.startswith("$ featstore "), first
    arguments = shlex.split(first)[2:]
    if command:
        assert " ".join(arguments).startswith(command)
    where = world()
    # Examples that write into a table; one of them names a model whose weights would be downloaded.
    if arguments[0] == "extract" or arguments[:2] in (["models", "compare"], ["models", "bench"]):
        where = stocked(tmp_path)
        photos(where / "photos", 2)
    if arguments[0] == "index":
        where = copied(tmp_path)
    if arguments[0] == "train-head":
        where = labelled(tmp_path)
    if arguments[0] == "jobs":
        where = copied(tmp_path)
        if arguments[1] == "check":
            inside("jobs", "new", "photos", cwd=where)
    if arguments[0] in ("refresh", "publish", "rollback"):
        where = refreshed(tmp_path, {"refresh": 0, "publish": 1, "rollback": 2}[arguments[0]])
    if arguments[0] == "predict":
        where = headed(copied(tmp_path))
    if arguments[0] == "finetune":
        from finetune_cli_world import tunable  # which imports torch

        where = tunable(tmp_path)
    if arguments[0] == "bridge":
        where = captioned(request.getfixturevalue("model_store"), tmp_path)
    arguments = [
        str(tmp_path / word) if word in ("lite0", "photos.parquet") else word.removesuffix(",resnet18")
        for word in arguments
    ]
    done = inside(*arguments, cwd=where)
    assert done.code == 0, done.err
    assert done.out.strip()


def test_no_command_prints_the_help_and_the_version_is_known(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.code == 2
    assert "Usage:" in done.out + done.err
    assert run("--version", cwd=tmp_path).out.startswith("featstore 0.")
