"""``refresh``, ``publish`` and ``rollback`` as a scheduler sees them: one line, an exit code, a log, a lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest
from cli_world import COMMAND, Outcome, environment, inside, run, schema
from job_world import TEXT_JOB, noted, write_notes
from prometheus_client.parser import text_string_to_metric_families

import featstore
from featstore.errors import DeadlineError, SettingsError
from featstore.extract.progress import Reporter
from featstore.refresh.deadline import Until, seconds_of


@pytest.fixture
def world(model_store: Path, tmp_path: Path) -> Path:
    return noted(model_store, tmp_path / "world")


def last_line(done: Outcome) -> dict:
    """The one line on stdout, checked against its schema."""
    (line,) = done.out.splitlines()
    result = json.loads(line)
    jsonschema.validate(result, schema("outputs/refresh.json"))
    return result


def metrics(world: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """The text file by name of metric, then by the values of its labels but for job and table."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families((world / "notes.prom").read_text("utf-8")):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert (sample.labels.pop("job"), sample.labels.pop("table")) == ("notes", "notes")
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


# ── stdout, stderr, exit codes ──────────────────────────────────────────────────────────────────


def test_a_refresh_prints_one_line_and_a_second_one_has_nothing_to_do(world: Path) -> None:
    done = inside("refresh", "notes.toml", cwd=world)
    assert done.code == 0, done.err
    first = last_line(done)
    assert (first["status"], first["version"], first["published_version"]) == ("published", 0, 0)
    assert first["extract"]["stored"] == 12
    assert "embedding" in done.err
    again = inside("refresh", "notes.toml", "--json", "-q", cwd=world)
    assert again.code == 0
    assert again.err == ""
    assert last_line(again)["status"] == "nothing new"
    skipped = inside("refresh", "notes.toml", "--noop-exit-code", "99", cwd=world)
    assert skipped.code == 99
    assert last_line(skipped)["status"] == "nothing new"


def test_flags_win_over_the_job(world: Path) -> None:
    done = inside("refresh", "notes.toml", "--limit", "5", cwd=world)
    assert last_line(done)["extract"]["seen"] == 5
    assert inside("refresh", "notes.toml", "--device", "tpu", cwd=world).code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["refresh", "none.toml"], "none.toml"),
        (["refresh", "notes.toml", "--deadline", "soon"], "soon"),
        (["refresh", "notes.toml", "--deadline", "0s"], "0s"),
        (["refresh", "notes.toml", "--as-of", "yesterday"], "yesterday"),
        (["refresh", "notes.toml", "--noop-exit-code", "300"], "300"),
        (["refresh", "notes.toml", "--log-format", "xml"], "xml"),
        (["refresh", "notes.toml", "--limit", "0"], "limit"),
        (["publish", "notes"], "notes"),
        (["publish", "20200101T000000-abcdef"], "20200101T000000-abcdef"),
        (["rollback", "nothing"], "nothing"),
    ],
)
def test_usage_ends_with_2_and_prints_nothing_on_stdout(world: Path, arguments: list[str], said: str) -> None:
    done = inside(*arguments, cwd=world)
    assert done.code == 2, done.err
    assert done.out == ""
    assert said in done.err


def test_a_terminal_gets_words(world: Path) -> None:
    command = " ".join([*COMMAND, "refresh", "notes.toml", "-q"])
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], cwd=world, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "job 'notes': published version 0 of 'notes'" in done.stdout
    assert "max_reject_share" in done.stdout
    assert "format_version" not in done.stdout


def test_a_refused_gate_says_what_is_behind_it_and_how_to_go_on(world: Path) -> None:
    write_notes(world, 60)
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    before = published(world)
    write_notes(world, 30)
    done = inside("refresh", "notes.toml", "-q", cwd=world)
    assert done.code == 5, done.err
    result = last_line(done)
    assert result["status"] == "refused"
    assert published(world) == before
    gate = next(g for g in result["gates"] if g["status"] == "refused")
    assert (gate["gate"], gate["limit"]) == ("max_removed_share", 0.2)
    assert gate["value"] == pytest.approx(0.5)
    assert len(gate["items"]) == 10
    assert f"gate max_removed_share: {gate['value']:.4g}, at most 0.2 is allowed" in done.err
    assert gate["items"][0]["item_id"] in done.err
    assert "nothing was" in done.err.lower()
    assert metrics(world)["featstore_job_gate_passed"]["max_removed_share",] == 0


def test_publish_and_rollback_move_all_and_say_so(world: Path) -> None:
    for number in (12, 16):
        write_notes(world, number)
        assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    back = inside("rollback", "notes", "--reason", "wrong day", "--json", cwd=world)
    assert back.code == 0, back.err
    jsonschema.validate(back.json, schema("outputs/rollback.json"))
    assert back.json["now"]["table_version"] == 0
    assert last_line(inside("refresh", "notes.toml", "-q", cwd=world))["status"] == "nothing new"
    words = inside("publish", "notes:1", "--reason", "looked at it", cwd=world)
    assert words.code == 0, words.err
    assert "'notes' now means version 1" in words.out
    assert "looked at it" in words.out
    assert "featstore rollback notes" in words.out
    held = inside("rollback", "notes", "--hold", cwd=world)
    assert "featstore publish" in held.out
    write_notes(world, 18)
    assert last_line(inside("refresh", "notes.toml", "-q", cwd=world))["status"] == "held"
    assert metrics(world)["featstore_publishing_held"][()] == 1


# ── the log ─────────────────────────────────────────────────────────────────────────────────────


def log(done: Outcome) -> list[dict]:
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert lines
    for line in lines:
        assert line["ts"].endswith("+00:00")
        assert line["level"] in ("info", "warning", "error")
        assert line["message"]
    return lines


def test_every_line_of_the_log_is_json(world: Path) -> None:
    """In a process of its own, so that what libraries print is there too."""
    done = run("refresh", "notes.toml", "--log-format", "json", cwd=world, PYTHONWARNINGS="always")
    assert done.code == 0, done.err
    lines = log(done)
    embedding = next(line for line in lines if line.get("stage") == "embedding")
    assert (embedding["job"], embedding["done"], embedding["total"]) == ("notes", 0, 12)
    assert (lines[-1]["status"], lines[-1]["run"]) == ("published", last_line(done)["run_id"])


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--deadline", "never"]])
def test_an_error_of_usage_is_json_as_well(world: Path, arguments: list[str]) -> None:
    done = inside("refresh", "notes.toml", *arguments, "--log-format=json", cwd=world)
    assert done.code == 2
    (line,) = log(done)
    assert (line["level"], line["code"]) == ("error", 2)
    assert line["hint"]


def test_a_refusal_and_a_bug_are_json(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_notes(world, 60)
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    write_notes(world, 30)
    line = log(inside("refresh", "notes.toml", "--log-format", "json", cwd=world))[-1]
    assert (line["level"], line["error"], line["code"]) == ("error", "GateError", 5)
    assert line["gates"][0]["gate"] == "max_removed_share"
    assert line["hint"]

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(featstore.Store, "refresh", broken)
    line = log(inside("refresh", "notes.toml", "--log-format", "json", "-v", cwd=world))[-1]
    assert (line["error"], line["code"]) == ("ZeroDivisionError", 1)
    assert "Traceback" in line["traceback"]
    plain = inside("refresh", "notes.toml", cwd=world)
    assert plain.err.startswith("error: ZeroDivisionError"), "the next command's log is text again"


# ── the time ────────────────────────────────────────────────────────────────────────────────────


def published(world: Path) -> tuple[int, list[str]]:
    table = featstore.open(world / "featstore-data").table("notes")
    return table.version, sorted(table.to_polars()["item_id"])


def ids(*numbers: int) -> list[str]:
    return [f"n{at:03d}" for at in numbers]


def test_as_of_leaves_later_items_alone(world: Path) -> None:
    done = inside("refresh", "notes.toml", "--as-of", "2026-01-05", cwd=world)
    assert done.code == 0, done.err
    result = last_line(done)
    assert result["as_of"] == "2026-01-05T00:00:00Z"
    assert result["extract"]["seen"] == 5
    assert "7 of a time after" in done.err
    assert published(world)[1] == ids(0, 1, 2, 3, 4)
    later = last_line(inside("refresh", "notes.toml", "--as-of", "2026-01-08", "-q", cwd=world))
    assert (later["extract"]["stored"], later["extract"]["reused"]) == (3, 5)
    early = inside("refresh", "notes.toml", "--as-of", "2026-01-06", "--noop-exit-code", "9", cwd=world)
    assert early.code == 9
    assert "2026-01-08T00:00:00Z" in early.err
    assert last_line(early)["version"] == 1
    assert published(world) == (1, ids(*range(8)))


def test_as_of_neither_removes_nor_changes_what_is_later(world: Path) -> None:
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    before = {r["item_id"]: r for r in featstore.open(world / "featstore-data").table("notes").to_polars().to_dicts()}
    rows = (world / "notes.csv").read_text().splitlines()
    del rows[3]  # n002 has gone; n009, of a later time, says something else
    rows[9] = rows[9].replace("money", "gold").replace("Note", "Notice")
    (world / "notes.csv").write_text("\n".join(rows) + "\n")
    done = inside("refresh", "notes.toml", "--as-of", "2026-01-06T12:00:00+00:00", "-q", cwd=world)
    result = last_line(done)
    assert (result["extract"]["removed"], result["extract"]["stored"]) == (1, 0)
    after = {r["item_id"]: r for r in featstore.open(world / "featstore-data").table("notes").to_polars().to_dicts()}
    assert sorted(after) == sorted(set(before) - {"n002"})
    assert after["n009"] == before["n009"]
    whole = last_line(inside("refresh", "notes.toml", "-q", cwd=world))
    assert whole["extract"]["changed"] == 1


def test_as_of_without_times_takes_all_and_says_so(world: Path) -> None:
    (world / "notes.toml").write_text(TEXT_JOB.replace('time_column = "when"\n', ""))
    done = inside("refresh", "notes.toml", "--as-of", "2026-01-05", cwd=world)
    result = last_line(done)
    assert result["extract"]["seen"] == 12
    assert any("time" in warning for warning in result["warnings"])


def test_as_of_before_anything_makes_no_table(world: Path) -> None:
    done = inside("refresh", "notes.toml", "--as-of", "2025-01-01", "-q", cwd=world)
    assert done.code == 5
    assert "later than" in done.err
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200), ("7.5", 7.5)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "h", "2 weeks", "nan", "inf", "1h -5m", 0, float("nan")])
def test_what_is_no_length_of_time_is_refused(text: str | float) -> None:
    with pytest.raises(SettingsError, match="no length of time") as caught:
        seconds_of(text)
    assert caught.value.hint == "Write it as 90s, 45m, 2h, 1h30m or 3d."


class _Ticking(Reporter):
    """A clock that moves on with each shard; also the reporter, which notes what was begun."""

    def __init__(self, at: float) -> None:
        self.now, self.at_end, self.begun = 0.0, at, list[str]()

    def clock(self) -> float:
        return self.now

    def stage(self, name: str, total: int | None = None) -> None:
        self.begun.append(name)
        if name == self.at_end:
            self.now = 100.0

    def between(self) -> None:
        self.begun.append("shard")
        if isinstance(self.at_end, int) and self.begun.count("shard") == self.at_end:
            self.now = 100.0


@pytest.mark.parametrize(
    ("at", "shards"), [(1, 1), (2, 2), ("embedding", 0), ("committing", 3), ("reading vectors", 3)]
)
def test_past_the_deadline_nothing_is_begun_and_what_is_done_is_kept(
    world: Path, at: int | str, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "notes.toml").write_text(TEXT_JOB + "[index]\nrecall = 0.9\n")
    store = featstore.open(world / "featstore-data")
    from featstore.jobs.loading import load

    ticking = _Ticking(at)
    monkeypatch.setattr(
        "featstore.refresh.run.Until", lambda reporter, seconds: Until(reporter, seconds, clock=ticking.clock)
    )
    with pytest.raises(DeadlineError, match="deadline of 50 s") as caught:
        store.refresh(load(world / "notes.toml"), deadline=50, reporter=ticking)
    result = caught.value.context["result"]
    assert result.status == "interrupted"
    assert store.published("notes") is None
    assert store.tables() == []
    assert len(list((world / "featstore-data").glob("runs/*/shards/*.json"))) == shards
    done = inside("refresh", "notes.toml", "--deadline", "1h", cwd=world)
    assert done.code == 0, done.err
    assert last_line(done)["extract"]["resumed_shards"] == shards
    assert published(world) == (0, ids(*range(12)))
    assert not [f for f in store.verify(sample=0).findings if f.severity == "error"]


def test_what_was_decided_on_is_published_however_late_it_is(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featstore.jobs.loading import load

    ticking = _Ticking("publishing")
    monkeypatch.setattr(
        "featstore.refresh.run.Until", lambda reporter, seconds: Until(reporter, seconds, clock=ticking.clock)
    )
    store = featstore.open(world / "featstore-data")
    assert store.refresh(load(world / "notes.toml"), deadline=50, reporter=ticking).status == "published"


def test_the_command_ends_with_7_at_its_deadline(world: Path) -> None:
    done = inside("refresh", "notes.toml", "--deadline", "0.001s", cwd=world)
    assert done.code == 7
    assert last_line(done)["status"] == "interrupted"
    assert "run the same command again" in done.err


# ── signals and locks ───────────────────────────────────────────────────────────────────────────


@contextmanager
def begun(world: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A refresh that goes on meanwhile; ended, however the test does."""
    with subprocess.Popen(
        [*COMMAND, "refresh", "notes.toml", *more],
        cwd=world,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], word: str) -> str:
    """Reads the log up to a line that holds a word."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if word in line:
            return read
    raise AssertionError(f"'{word}' never came:\n{read}")


HEAD = """\
[[head]]
name = "topic"
label = "label"
refit = "always"
"""

STAGES = [
    ("embedding", signal.SIGTERM, 143),
    pytest.param("embedding", signal.SIGINT, 130, marks=pytest.mark.heavy),
    pytest.param("learning curve", signal.SIGTERM, 143, marks=pytest.mark.heavy),
    pytest.param("reading vectors", signal.SIGTERM, 143, marks=pytest.mark.heavy),
]


@pytest.mark.parametrize(("stage", "signum", "code"), STAGES)
@pytest.mark.heavy
def test_a_signal_ends_each_stage_soon_and_the_next_run_goes_on(
    world: Path, stage: str, signum: int, code: int
) -> None:
    (world / "notes.toml").write_text(
        TEXT_JOB + "[index]\nrecall = 0.9\n" + (HEAD if stage == "learning curve" else "")
    )
    number = 40 if stage == "embedding" else 80
    write_notes(world, number, words="word " * (150 if stage == "embedding" else 1))
    with begun(world, "--log-format", "json") as process:
        err = wait_for(process, stage)
        if stage == "embedding":
            while not list((world / "featstore-data").glob("runs/*/shards/*.json")):
                assert process.poll() is None
                time.sleep(0.01)
        process.send_signal(signum)
        sent = time.monotonic()
        out, rest = process.communicate(timeout=30)
        took = time.monotonic() - sent
    assert took < 5
    assert process.returncode == code, err + rest
    last = json.loads(rest.splitlines()[-1])
    assert (last["level"], last["code"]) == ("error", code)
    assert "go on from there" in last["hint"]
    assert "Traceback" not in err + rest
    if out:  # unless it was within native code for longer than it may
        assert last_line(Outcome(code, out, ""))["status"] == "interrupted"
    store = featstore.open(world / "featstore-data")
    assert store.published("notes") is None
    again = inside("refresh", "notes.toml", cwd=world)
    assert again.code == 0, again.err
    result = last_line(again)
    assert result["extract"]["resumed_shards"] >= 1
    assert result["extract"]["stored"] == number
    assert published(world)[0] == 0


@pytest.mark.heavy
def test_of_two_at_once_the_second_ends_with_6(world: Path) -> None:
    write_notes(world, 40, words="word " * 150)
    with begun(world) as first:
        read = wait_for(first, "embedding")
        second = run("refresh", "notes.toml", "--log-format", "json", cwd=world)
        out, rest = first.communicate(timeout=60)
    assert second.code == 6, second.err
    assert second.out == ""
    assert f"process {first.pid}" in log(second)[-1]["message"]
    assert first.returncode == 0, read + rest
    assert last_line(Outcome(0, out, ""))["status"] == "published"


def test_the_lock_of_a_dead_process_is_taken_over_and_one_of_another_host_is_not(world: Path) -> None:
    lock = world / "featstore-data" / "locks" / "jobs" / "notes.lock"
    lock.parent.mkdir(parents=True)
    holder = {"host": socket.gethostname(), "pid": 2**22 + 1, "purpose": "job 'notes'", "since": "2026-01-01T00:00:00Z"}
    lock.write_text(json.dumps(holder))
    done = inside("refresh", "notes.toml", "--log-format", "json", cwd=world)
    assert done.code == 0, done.err
    warning = next(line for line in log(done) if line["level"] == "warning")
    assert "took over the lock" in warning["message"]
    lock.write_text(json.dumps(holder | {"host": "elsewhere"}))
    refused = inside("refresh", "notes.toml", cwd=world)
    assert refused.code == 6
    assert refused.out == ""
    assert "another host" in refused.err
    assert json.loads(lock.read_text())["host"] == "elsewhere"


# ── Prometheus ──────────────────────────────────────────────────────────────────────────────────


def test_the_text_file_is_what_prometheus_reads(world: Path) -> None:
    (world / "notes.toml").write_text(TEXT_JOB + "[index]\nrecall = 0.9\n")
    write_notes(world, 40)
    old = os.umask(0o077)
    try:
        assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    finally:
        os.umask(old)
    assert (world / "notes.prom").stat().st_mode & 0o777 == 0o644, "the exporter runs as another user"
    assert [p.name for p in world.iterdir() if ".tmp" in p.name] == []
    found = metrics(world)
    assert found["featstore_job_status"]["published",] == 1
    assert sum(found["featstore_job_status"].values()) == 1
    assert found["featstore_job_rows"][()] == 40
    assert found["featstore_job_items_embedded"][()] == 40
    assert found["featstore_job_items_rejected"][()] == 0
    assert found["featstore_job_index_recall"]["10",] == 1
    assert found["featstore_job_stage_duration_seconds"]["extract",] > 0
    assert found["featstore_published_version"][()] == 0
    assert abs(found["featstore_job_last_success_timestamp_seconds"][()] - time.time()) < 60
    assert found["featstore_published_data_timestamp_seconds"][()] == 1770854400  # 2026-02-12, the newest note


def test_a_failure_keeps_the_last_success_and_a_quiet_day_keeps_the_figures(world: Path) -> None:
    (world / "notes.toml").write_text(TEXT_JOB + "[index]\nrecall = 0.9\n")
    write_notes(world, 40)
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    good = metrics(world)
    notes = world / "notes.csv"
    notes.rename(world / "away.csv")
    assert inside("refresh", "notes.toml", "-q", cwd=world).code in (2, 5)
    failed = metrics(world)
    success = "featstore_job_last_success_timestamp_seconds"
    assert failed[success] == good[success]
    assert failed["featstore_job_last_run_timestamp_seconds"][()] > good["featstore_job_last_run_timestamp_seconds"][()]
    assert failed["featstore_job_failures"][()] == 1
    assert failed["featstore_job_status"]["published",] == 0
    (world / "away.csv").rename(notes)
    assert inside("refresh", "notes.toml", "-q", cwd=world).code == 0
    quiet = metrics(world)
    assert quiet["featstore_job_status"]["nothing new",] == 1
    assert quiet[success][()] > good[success][()]
    assert quiet["featstore_job_failures"][()] == 0
    assert quiet["featstore_job_index_recall"] == good["featstore_job_index_recall"]
    assert quiet["featstore_job_items_embedded"][()] == 0


def test_a_text_file_that_cannot_be_written_fails_no_run(world: Path) -> None:
    (world / "notes.prom").mkdir()
    done = inside("refresh", "notes.toml", cwd=world)
    assert done.code == 0, done.err
    assert "warning: the metrics could not be written" in done.err
    assert last_line(done)["status"] == "published"


def test_labels_are_escaped() -> None:
    from featstore.refresh.metrics import _Families

    found = _Families({"job": 'a "b" \\ c\nd'})
    found.add("x", "About.", 1.5, head="{}=,")
    found.add("x", "About.", float("nan"), head="left out")
    (family,) = text_string_to_metric_families(found.text())
    (sample,) = family.samples
    assert sample.labels == {"job": 'a "b" \\ c\nd', "head": "{}=,"}
    assert sample.value == 1.5
