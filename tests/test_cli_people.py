"""What people read: summaries, progress, and nothing that should stay private or could harm a terminal."""

from __future__ import annotations

import io
import re
import sys
import threading
from pathlib import Path

import pytest
from cli_world import MODEL, inside, photos, run, stocked, world

from featstore.cli import console, progress


def test_the_summary_adds_up_and_ends_with_the_line_to_paste(tmp_path: Path) -> None:
    import polars as pl

    stocked(tmp_path)
    folder = photos(tmp_path / 'my "best" photos', 5)
    (folder / "twin.jpg").write_bytes((folder / "0000.jpg").read_bytes())
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "readme.txt").write_text("x")
    done = inside("extract", folder, "--model", MODEL, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "7 seen = 5 stored + 1 reused + 1 rejected; 0 removed" in done.out
    assert "1 twins" in done.out
    assert "bottleneck: " in done.out
    assert "items/s" in done.out
    assert "rejected: 1 × " in done.out
    command = next(line for line in done.out.splitlines() if "--rejects" in line).split("featstore ")[1]
    assert "bad.jpg" in inside(*command.split(), cwd=tmp_path).out
    last = done.out.strip().splitlines()[-1]
    assert last.startswith('pl.scan_delta("')
    assert eval(last, {"pl": pl}).collect().height == 6
    assert "embedding" in done.err


def test_quiet_is_quiet_and_a_second_run_says_nothing_new() -> None:
    done = inside("extract", "photos", "--model", MODEL, "-q", cwd=world())
    assert done.code == 0
    assert done.err == ""
    assert "nothing new; version 0 stays" in done.out


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    stocked(tmp_path)
    folder = photos(tmp_path / "photos", 12)
    unknown = inside("extract", "photos", "--model", MODEL, "--dry-run", cwd=tmp_path)
    assert unknown.code == 0, unknown.err
    assert "unknown: no run of this model measured yet" in unknown.out
    assert not (tmp_path / "featstore-data" / "features").exists()
    assert inside("extract", "photos", "--model", MODEL, cwd=tmp_path).code == 0
    (folder / "0000.jpg").rename(folder / "renamed.jpg")
    (folder / "0001.jpg").write_bytes((folder / "0002.jpg").read_bytes())
    (folder / "0003.jpg").unlink()
    photos(tmp_path / "more", 2, seed=1)
    (tmp_path / "more" / "0000.jpg").rename(folder / "new.jpg")
    (tmp_path / "more" / "0001.jpg").rename(folder / "0004.jpg")
    (folder / "x.json").write_text("{}")
    before = sorted(p for p in (tmp_path / "featstore-data").rglob("*"))
    done = inside("extract", "photos", "--model", MODEL, "--dry-run", cwd=tmp_path)
    assert done.code == 0, done.err
    counts = {line.split()[0]: line.split()[1] for line in done.out.splitlines()[1:9]}
    assert counts == {
        "new": "1", "changed": "1", "renamed": "1", "twin": "1", "updated": "0", "missing": "1", "rejected": "0",
        "ignored": "1",
    }  # fmt: skip
    assert "2 items to embed" in done.out
    assert "bytes " in done.out
    assert sorted(p for p in (tmp_path / "featstore-data").rglob("*")) == before


def test_look_shows_tables_runs_and_settings() -> None:
    listed = inside("ls", cwd=world()).out
    assert "photos" in listed
    assert "efficientnet_lite0-" in listed
    run_id = inside("ls", "runs", "--json", cwd=world()).json[0]["run_id"]
    shown = inside("show", run_id, cwd=world()).out
    assert "max_reject_share" in shown
    assert "default" in shown
    table = inside("show", "photos@efficientnet_lite0:0", cwd=world()).out
    assert "1280 values" in table
    assert "Apache-2.0" in table


def test_an_empty_folder_has_no_store_and_a_hint(tmp_path: Path) -> None:
    done = inside("ls", cwd=tmp_path)
    assert done.code == 2
    assert "featstore extract" in done.err
    assert list(tmp_path.iterdir()) == []


def test_secrets_of_the_environment_are_neither_shown_nor_kept(tmp_path: Path) -> None:
    stocked(tmp_path)
    photos(tmp_path / "photos", 2)
    secret = "hf_Zq8vN3xTq0-not-to-be-seen"
    env = {"HF_TOKEN": secret, "AWS_SECRET_ACCESS_KEY": secret}
    said = []
    for arguments in (
        ["extract", "photos", "--model", MODEL, "-v"],
        ["extract", "nowhere", "--model", MODEL, "-v"],
        ["doctor", "--json"],
        ["ls", "runs", "--json"],
    ):
        done = run(*arguments, cwd=tmp_path, **env)
        said.append(done.out + done.err)
    assert secret not in "".join(said)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    stocked(tmp_path)
    folder = photos(tmp_path / "photos", 1)
    (folder / "\x1b[31mred\nline.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    done = inside("extract", "photos", "--model", MODEL, cwd=tmp_path)
    shown = inside("show", "photos", "--rejects", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "\x1b" not in shown.out + done.out + done.err
    assert "\\x1b[31mred\\nline.jpg" in shown.out


def test_cells_are_not_cut_when_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.grid(("a", "b"), [("x" * 300, 1), ("[bold]y[/]", 2)], right=("b",))
    shown = capsys.readouterr().out
    assert "x" * 300 in shown
    assert "[bold]y[/]" in shown


def test_lines_tell_the_rate_of_this_run_not_of_what_was_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.LineReporter()
    reporter.stage("embedding", 1000)
    reporter.advance(500, 5)  # taken from an interrupted run
    for _ in range(10):
        now[0] += 1
        reporter.advance(10, 1)
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3  # the beginning, and one line every five seconds
    assert shown[-1] == "embedding: 600 of 1,000, 15 rejected, 10.0 items/s, 40 s left"


@pytest.mark.parametrize("kind", [progress.LineReporter, progress.BarReporter])
def test_reporters_count_from_many_threads(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = kind()
    reporter.stage("embedding", 4000)
    reporter.message("a [bold]message[/]")
    threads = [threading.Thread(target=lambda: [reporter.advance(1, 1) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reporter._counts() == "4,000 of 4,000, 4,000 rejected"
    if kind is progress.BarReporter:
        reporter.close()
    assert "a [bold]message[/]" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_the_same_on_a_terminal_and_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    headings, rows = ["rank", "名前", "text"], [(1, "猫の写真 é", "a b"), (20, "x\x1b[0m\n", "ü" * 40), (300, "", None)]
    shown = []
    for out in (_Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("COLUMNS", "200")
        console.grid(headings, rows, right=["rank"])
        shown.append([re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in out.getvalue().splitlines()])
    assert shown[0] == shown[1]
    assert shown[1][1] == "   1  猫の写真 é  a b"
    assert "x\\x1b[0m\\n" in shown[1][2]


def test_a_terminal_folds_and_a_pipe_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = []
    for out in (_Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", out)
        console.grid(["a", "b"], [("x" * 100, "y" * 100)])
        lines.append(out.getvalue().splitlines())
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines[0]) <= 40
    assert [line.split() for line in lines[1]] == [["a", "b"], ["x" * 100, "y" * 100]]
