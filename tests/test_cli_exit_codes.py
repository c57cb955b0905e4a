"""Each way a command can end: its exit code, what stands on which stream, what is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from cli_world import COMMAND, MODEL, Outcome, environment, inside, photos, run, schema, stocked, world


def _refused(done: Outcome, code: int) -> None:
    """One to three lines on stderr, nothing on stdout."""
    assert done.code == code, done.err
    assert done.out == ""
    lines = done.err.strip().splitlines()
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["extract", "photos", "--modle", "x"], "--model"),
        (["extract", "photos"], "--model"),
        (["extract"], "SOURCE"),
        (["extrakt"], "extract"),
        (["extract", "photos", "--model", "efficientnet_lite1"], "efficientnet_lite0"),
        (["extract", "nowhere", "--model", MODEL], "nowhere"),
        (["extract", "photos", "--model", MODEL, "--limit", "0"], "limit"),
        (["extract", "photos", "--model", MODEL, "--limit", "many"], "limit"),
        (["extract", "photos", "--model", MODEL, "--max-reject-share", "nan"], "--max-reject-share"),
        (["extract", "photos", "--model", MODEL, "--max-reject-share", "1.5"], "--max-reject-share"),
        (["extract", "photos", "--model", MODEL, "--label-from", "name"], "--label-from"),
        (
            ["extract", "photos", "--model", MODEL, "--device", "gpu"],
            "--device: auto, cpu, cuda or cuda:N was expected (got 'gpu')",
        ),
        (["extract", "photos", "--model", MODEL, "--name", "../x"], "../x"),
        (["show", "fotos"], "there is no table, head or run 'fotos'"),
        (["show", "20260101"], "there is no table, head or run '20260101'"),
        (["show", "photos:99"], "has no version 99; it has 0."),
        (["publish", "nothere"], "there is no table 'nothere'"),
        (["show", "photos@resnet50"], "resnet50"),
        (["show", "a:b:c"], "a:b:c"),
        (["show", "20200101T000000-abcdef"], "20200101T000000-abcdef"),
        (["show", "photos", "--history", "--paths"], "--history"),
        (["ls", "indexes"], "indexes"),
        (["ls", "--store", "nowhere"], "nowhere"),
        (["models", "show", "resnet51"], "resnet50"),
        (["models", "export", "minilm"], "--output"),
    ],
)
def test_usage_ends_with_2_and_names_what_is_wrong(arguments: list[str], said: str) -> None:
    done = inside(*arguments, "-q", "--json", cwd=world())
    _refused(done, 2)
    assert said in done.err


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_ends_with_2(device: str, tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 1)
    done = inside("extract", "photos", "--model", MODEL, "--device", device, "-q", cwd=tmp_path)
    _refused(done, 2)
    assert device in done.err


def test_an_unknown_variable_is_named_with_the_nearest_setting() -> None:
    done = run("extract", "photos", "--model", MODEL, cwd=world(), FEATSTORE_MAX_REJECTS_SHARE="0.5")
    _refused(done, 2)
    assert "environment variable FEATSTORE_MAX_REJECTS_SHARE is unknown; did you mean FEATSTORE_MAX_REJECT_SHARE?" in (
        done.err
    )


@pytest.mark.parametrize(
    ("command", "variable", "meant"),
    [(("ls",), "FEATSTORE_STOER", "FEATSTORE_STORE"),
     (("gc", "--dry-run"), "FEATSTORE_TOKENBUDGET", "FEATSTORE_TOKEN_BUDGET"),
     (("models", "list"), "FEATSTORE_MIN_RECAL", "FEATSTORE_MIN_RECALL")],
)  # fmt: skip
def test_no_command_passes_over_an_unknown_variable(command, variable, meant, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(variable, "x")
    done = inside(*command, cwd=tmp_path)
    _refused(done, 2)
    assert f"environment variable {variable} is unknown; did you mean {meant}?" in done.err
    assert inside(*command, "--help", cwd=tmp_path).code == 0


def test_a_variable_of_another_command_stops_none(monkeypatch, tmp_path) -> None:
    for variable in ("FEATSTORE_MIN_RECALL", "FEATSTORE_LEARNING_RATE"):
        monkeypatch.setenv(variable, "0.5")
    photos(tmp_path / "photos", 2)
    done = inside("extract", "photos", "--model", MODEL, "--dry-run", "-q", cwd=stocked(tmp_path))
    assert done.code == 0, done.err


def test_a_wrong_value_of_a_variable_is_named_by_the_variable(monkeypatch) -> None:
    monkeypatch.setenv("FEATSTORE_TOKEN_BUDGET", "many")
    done = inside("extract", "photos", "--model", MODEL, cwd=world())
    _refused(done, 2)
    assert "FEATSTORE_TOKEN_BUDGET: " in done.err


def test_variables_of_other_commands_are_in_nobodys_way(monkeypatch) -> None:
    for name, value in {
        "RECALL": "0.9",
        "TRIALS": "3",
        "MAX_DROP": "0.01",
        "STORE": str(world() / "featstore-data"),
        # Of Services in the same namespace of a cluster.
        "PORT": "tcp://10.0.0.11:80",
        "PORT_80_TCP_ADDR": "10.0.0.11",
        "REFRESH_SERVICE_HOST": "10.0.0.12",
        "REFRESH_SERVICE_PORT_HTTP": "80",
    }.items():
        monkeypatch.setenv(f"FEATSTORE_{name}", value)
    assert inside("ls", cwd=world()).code == 0


def test_the_environment_sets_what_no_flag_does() -> None:
    done = run("extract", "photos", "--dry-run", "--json", cwd=world(), FEATSTORE_MODEL=MODEL, FEATSTORE_LIMIT="3")
    assert done.code == 0, done.err
    assert done.json["seen"] <= 4


def test_a_bug_ends_with_1_in_two_lines_and_v_shows_where() -> None:
    program = (
        "import featstore.store as s\n"
        "def broken(self, **_): raise ZeroDivisionError('by zero')\n"
        "s.Store.tables = broken\n"
        "from featstore.cli import main\n"
        "main({arguments})\n"
    )
    shown = {}
    for arguments in (["ls"], ["ls", "-v"], ["-v", "ls"]):
        text = program.format(arguments=arguments)
        shown[tuple(arguments)] = subprocess.run(
            [sys.executable, "-c", text], cwd=world(), env=environment(), capture_output=True, text=True, timeout=60
        )
    short = shown["ls",]
    assert short.returncode == 1
    assert "ZeroDivisionError: by zero" in short.stderr
    assert "bug" in short.stderr
    assert len(short.stderr.strip().splitlines()) == 2
    for arguments in (("ls", "-v"), ("-v", "ls")):
        assert "Traceback" in shown[arguments].stderr
        assert shown[arguments].returncode == 1


def test_too_many_rejects_end_with_3_after_storing_the_good_ones(tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 6)
    for at in range(11):
        (tmp_path / "photos" / f"bad{at}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes([at]) * 40)
    done = run("extract", "photos", "--model", MODEL, "--json", cwd=tmp_path)
    assert done.code == 3, done.err
    result = done.json
    jsonschema.validate(result, schema("outputs/extract.json"))
    assert (result["seen"], result["stored"], result["rejected"]) == (17, 6, 11)
    assert result["version"] == 0
    assert "11 of 17 items were rejected" in done.err
    rejects = inside("show", "photos", "--rejects", "--json", cwd=tmp_path).json
    assert len(rejects) == 11
    people = inside("extract", "photos", "--model", MODEL, "--retry-rejects", "-q", cwd=tmp_path)
    assert people.code == 3
    assert "17 seen = 0 stored + 6 reused + 11 rejected" in people.out
    assert inside("extract", "photos", "--model", MODEL, "--max-reject-share", "1", cwd=tmp_path).code == 0


def test_damage_ends_verify_with_4_after_printing_it(tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 3)
    assert inside("extract", "photos", "--model", MODEL, cwd=tmp_path).code == 0
    assert inside("verify", "--sample", "0", cwd=tmp_path).code == 0
    (file,) = (tmp_path / "featstore-data" / "features").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    done = run("verify", "--sample", "0", "--json", cwd=tmp_path)
    assert done.code == 4, done.err
    jsonschema.validate(done.json, schema("outputs/verify.json"))
    assert not done.json["ok"]
    assert any(file.name in finding["path"] for finding in done.json["findings"])
    people = inside("verify", "photos", "--sample", "0", cwd=tmp_path)
    assert people.code == 4
    assert file.name in people.out
    assert "error: " in people.err


def test_an_implausible_removal_ends_with_5_and_changes_nothing(tmp_path: Path) -> None:
    stocked(tmp_path)
    folder = photos(tmp_path / "photos", 24)
    assert inside("extract", "photos", "--model", MODEL, cwd=tmp_path).code == 0
    for at in range(12):
        (folder / f"{at:04d}.jpg").unlink()
    done = run("extract", "photos", "--model", MODEL, "--json", cwd=tmp_path)
    assert done.code == 5, done.err
    jsonschema.validate(done.json, schema("outputs/extract.json"))
    assert (done.json["removed"], done.json["version"]) == (12, 0)
    assert "--allow-removals" in done.err
    assert len(inside("show", "photos", "--history", "--json", cwd=tmp_path).json) == 1
    allowed = inside("extract", "photos", "--model", MODEL, "--allow-removals", "--json", cwd=tmp_path)
    assert allowed.code == 0
    assert allowed.json["removed"] == 12


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_extract_soon_and_the_next_one_goes_on(tmp_path: Path, signum: int, code: int) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 160)
    arguments = ["extract", "photos", "--model", MODEL, "--shard-items", "8", "--workers", "1", "--json"]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "featstore-data").glob("runs/*/shards/*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signum)
    sent = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert time.monotonic() - sent < 5
    result = json.loads(out)
    jsonschema.validate(result, schema("outputs/extract.json"))
    assert result["status"] == "interrupted"
    assert result["version"] is None
    assert "run the same command again" in err
    again = run(*arguments, cwd=tmp_path)
    assert again.code == 0, again.err
    assert again.json["resumed_shards"] >= 1
    assert again.json["stored"] == 160


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_that_a_library_swallows_ends_the_process_all_the_same(signals: int) -> None:
    program = (
        "import time\nfrom featstore.cli import signals\nsignals.install()\n"
        "def swallow():\n    while True:\n        try:\n            print('ready', flush=True); time.sleep(0.05)\n"
        "        except BaseException: pass\n"
        "while True:\n    try: swallow()\n    except BaseException: pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    sent = time.monotonic()
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert time.monotonic() - sent < (5 if signals == 1 else 2)
    assert "Traceback" not in err


def test_a_signal_while_a_thread_is_being_started_is_raised_once_it_runs() -> None:
    program = """
import os, signal, threading, time
from featstore.cli import signals
from featstore.errors import InterruptedRunError
signals.install()
name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
begin = getattr(threading, name)
def interrupted(*arguments, **more):
    begun = begin(*arguments, **more)
    os.kill(os.getpid(), signal.SIGTERM)
    return begun
setattr(threading, name, interrupted)
ran = threading.Event()
try:
    threading.Thread(target=ran.set).start()
    setattr(threading, name, begin)
    print("started", flush=True)
    time.sleep(3)
except InterruptedRunError as error:
    print(ran.wait(3), error.exit_code, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["started", "True 143"], "")


def test_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [*COMMAND, "models", "list"],
        cwd=world(),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert err == ""


def test_where_nothing_could_be_stored_the_rejects_are_shown_all_the_same(tmp_path: Path) -> None:
    stocked(tmp_path)
    (tmp_path / "photos").mkdir()
    for at in range(12):
        (tmp_path / "photos" / f"bad{at}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes([at]) * 40)
    done = inside("extract", "photos", "--model", MODEL, "-q", cwd=tmp_path)
    assert done.code == 3
    told = [line.partition("featstore ")[2] for line in (done.out + done.err).splitlines() if "--rejects" in line]
    commands = [text.partition(". ")[0].split() for text in told]
    assert len(commands) == 2
    for command in (*commands, ["show", "photos", "--rejects"], ["show", "photos@efficientnet_lite0", "--rejects"]):
        shown = inside(*command, "--json", cwd=tmp_path)
        assert shown.code == 0, shown.err
        assert len(shown.json) == 12
    for command in (["show", "photos"], ["show", "photos@resnet", "--rejects"], ["show", "fotos", "--rejects"]):
        assert inside(*command, cwd=tmp_path).code == 2


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_first_run_of_an_empty_source_ends_with_5_and_makes_nothing(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.json").write_text("{}")
    (tmp_path / "empty.csv").write_text("id,text\n")
    given = ["empty", "--model", MODEL] if source == "folder" else ["empty.csv", "--model", "minilm"]
    done = inside("extract", *given, cwd=tmp_path)
    _refused(done, 5)
    assert "the table 'empty' was not made" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "empty.csv"}
    stocked(tmp_path)
    assert inside("extract", *given, "--dry-run", cwd=tmp_path).code == 5
    assert inside("extract", "empty", "--model", MODEL, cwd=tmp_path).code == 5
    assert inside("ls", "--json", cwd=tmp_path).json == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "nowhere", "--model", MODEL],
        ["extract", "photos", "--model", "resnet51"],
        ["extract", "photos", "--model", MODEL, "--pooling", "last"],
        ["models", "export", "resnet51", "-o", "out"],
        ["models", "compare", "nowhere", "--models", MODEL],
        ["models", "compare", "photos", "--models", f"{MODEL},resnet51"],
    ],
)
def test_a_mistyped_name_leaves_no_store_behind(arguments: list[str], tmp_path: Path) -> None:
    photos(tmp_path / "photos", 1)
    _refused(inside(*arguments, "-q", cwd=tmp_path), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("empty", ["", " ", "hf:", "timm:", "hf: ", ":text", "hf::image"])
def test_an_empty_name_means_nothing_and_not_the_working_folder(empty: str, tmp_path: Path) -> None:
    photos(tmp_path, 1)
    for arguments in (
        ["extract", "0000.jpg", "--model", empty],
        ["models", "show", empty],
        ["models", "export", empty, "-o", "out"],
        *([["extract", empty, "--model", MODEL]] if not empty.strip() else []),
    ):
        done = inside(*arguments, "-q", cwd=tmp_path)
        assert done.code == 2, (arguments, done.err)
        assert "names no model" in done.err or "no source was named" in done.err, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["0000.jpg"]


def test_one_broken_table_hides_no_other(tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 2)
    for name in ("a", "b", "c"):
        assert inside("extract", "photos", "--model", MODEL, "--name", name, "-q", cwd=tmp_path).code == 0
    (log,) = (tmp_path / "featstore-data" / "features" / "b").rglob("*0.json")
    log.chmod(0o644)
    log.write_text("{")
    people = inside("ls", cwd=tmp_path)
    assert people.code == 4
    assert [line.split()[0] for line in people.out.splitlines()[1:]] == ["a", "c"]
    lines = people.err.strip().splitlines()
    assert "features/b/" in lines[0]
    assert lines[-2] == "error: 1 table cannot be read."
    machine = inside("ls", "--json", cwd=tmp_path)
    assert (machine.code, [table["table"] for table in machine.json]) == (4, ["a", "c"])


def test_a_file_in_the_place_of_a_folder_is_told_before_any_work(tmp_path: Path) -> None:
    photos(tmp_path / "photos", 2)
    (tmp_path / "out").write_text("mine")
    (tmp_path / "net.featstore").mkdir()
    for arguments in (
        ["models", "compare", "photos", "--models", MODEL, "-o", "out"],
        ["models", "export", MODEL, "-o", "out"],
        ["models", "export", MODEL, "--bundle", "net.featstore"],
    ):
        done = inside(*arguments, "-q", cwd=tmp_path)
        _refused(done, 2)
    assert (tmp_path / "out").read_text() == "mine"
    assert not (tmp_path / "featstore-data").exists()
