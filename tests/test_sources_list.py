"""A list of files on standard input: what is on it, and nothing that it leads out to."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_world import COMMAND, Outcome, environment
from stores import fresh, vectors

from featstore.errors import GateError, NotFoundError, SettingsError, UsageError
from featstore.sources import Scan, Source, SourceOptions, open_source


class _Input:
    """What stands for standard input."""

    def __init__(self, content: bytes, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(content)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts lines on standard input."""

    def put(*paths: str | bytes | Path, between: bytes = b"\n", terminal: bool = False) -> None:
        content = b"".join(os.fsencode(path) + between for path in paths)
        monkeypatch.setattr(sys, "stdin", _Input(content, terminal))

    return put


def listed(root: Path | None = None, *, text: bool = False, uri: str = "-", label: bool = False) -> Source:
    options = SourceOptions(source_root=str(root) if root else None, label_from="folder" if label else None)
    return open_source(uri, modality="text" if text else "image", options=options)


def ids(scan: Scan) -> list[str]:
    return [str(item) for item in scan.items["item_id"].to_pylist()]


def codes(scan: Scan) -> dict[str, str]:
    return {reject.item_id: reject.code for reject in scan.rejects}


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_ids_are_paths_relative_to_the_root_in_the_lists_order(tmp_path: Path, pipe: Any) -> None:
    write(tmp_path / "d", "b.jpg", "a/1.jpg", "a/2.weird", "-dash.jpg", "ä b.png")
    pipe("b.jpg", "./a//1.jpg", tmp_path / "d/a/2.weird", "a/../-dash.jpg", "", "ä b.png", "b.jpg")
    found = listed(tmp_path / "d", label=True)
    scan = found.scan()
    assert ids(scan) == ["b.jpg", "a/1.jpg", "a/2.weird", "-dash.jpg", "ä b.png"]
    assert scan.items["label"].to_pylist() == [None, "a", "a", None, None]
    assert scan.warnings == ("1 lines of the list repeat an earlier one",)
    assert found.kind == "list"
    assert found.uri == f"list:{tmp_path / 'd'}"
    reader = listed(uri=found.uri).reader(scan.items)
    assert [reader.read(row) for row in range(5)] == [name.encode() for name in ids(scan)]


def test_lists_of_find_print0_of_windows_and_with_odd_names(tmp_path: Path, pipe: Any) -> None:
    write(tmp_path, "new\nline.jpg", "b.jpg", "end\r")
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:
        file.write(b"x")
    pipe("new\nline.jpg", "b.jpg", b"caf\xe9.jpg", between=b"\0")
    scan = listed(tmp_path).scan()
    assert ids(scan) == ["new\nline.jpg", "b.jpg", "./caf\\xe9.jpg"]
    assert listed(tmp_path).reader(scan.items).read(2) == b"x"
    pipe("\ufeffb.jpg\r", "b.jpg\r", "\r")
    assert ids(listed(tmp_path).scan()) == ["b.jpg"]
    pipe("end\r", "b.jpg")
    assert ids(listed(tmp_path).scan()) == ["end\r", "b.jpg"]


def test_nothing_outside_of_the_root_is_read(tmp_path: Path, pipe: Any) -> None:
    root = write(tmp_path / "root", "in.jpg", "deep/x.jpg")
    write(tmp_path, "secret.jpg", "root-twin/x.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "up").symlink_to("..")
    (root / "alias.jpg").symlink_to("deep/x.jpg")
    os.mkfifo(root / "pipe.jpg")
    bad = ["../secret.jpg", "out.jpg", "up/secret.jpg", str(tmp_path / "root-twin/x.jpg"), "/etc/passwd", ".."]
    pipe("in.jpg", "alias.jpg", *bad, "gone.jpg", "deep", "pipe.jpg")
    scan = listed(root).scan()
    assert ids(scan) == ["in.jpg", "alias.jpg"]
    wanted = dict.fromkeys(bad, "outside_root")
    assert codes(scan) == {**wanted, "gone.jpg": "not_found", "deep": "not_a_file", "pipe.jpg": "not_a_file"}


def test_a_root_behind_a_link_takes_both_spellings(tmp_path: Path, pipe: Any) -> None:
    real = write(tmp_path / "real", "a.jpg", "b.jpg")
    (tmp_path / "link").symlink_to("real")
    pipe(real / "a.jpg", tmp_path / "link/b.jpg")
    assert ids(listed(tmp_path / "link").scan()) == ["a.jpg", "b.jpg"]


def test_a_list_of_another_place_names_the_root_it_needs(
    tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data", "a/1.jpg", "b/2.jpg")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pipe(tmp_path / "data/a/1.jpg", tmp_path / "data/b/2.jpg")
    with pytest.raises(UsageError) as caught:
        listed().scan()
    assert str(caught.value).endswith(f"--source-root {tmp_path / 'data'}")
    with pytest.raises(NotFoundError, match="no such folder"):
        listed(tmp_path / "nothing")
    with pytest.raises(UsageError, match="--id-column"):
        open_source("-", modality="image", options=SourceOptions(id_column="x"))


def test_without_a_list_there_is_a_named_error(tmp_path: Path, pipe: Any) -> None:
    pipe(terminal=True)
    with pytest.raises(UsageError, match="no list on standard input"):
        listed(tmp_path).scan()
    with pytest.raises(NotFoundError, match="was not kept"):
        listed(uri=f"list:{tmp_path}").scan()
    pipe()
    assert listed(tmp_path).scan().items.num_rows == 0


def test_unchanged_files_are_not_read_again(tmp_path: Path, pipe: Any) -> None:
    write(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    pipe("a.jpg", "b.jpg")
    first = listed(tmp_path).scan()
    steps: list[tuple[str, int, int | None]] = []
    pipe("c.jpg", "b.jpg", "a.jpg")
    again = listed(tmp_path).scan(previous=first.items, progress=lambda *now: steps.append(now))
    assert ids(again) == ["c.jpg", "b.jpg", "a.jpg"]
    assert steps[-1] == ("hash", 1, 1)
    opened = listed(uri=f"list:{tmp_path}").scan(previous=again.items, rehash=True)
    assert opened.items.equals(again.items)


# ── from end to end ──


def test_a_run_over_a_list_follows_the_next_list(model_store: Path, tmp_path: Path, pipe: Any) -> None:
    store = fresh(model_store, tmp_path)
    names = [f"{n:02d}.txt" for n in range(30)]
    root = write(tmp_path / "notes", *names)
    with pytest.raises(SettingsError, match="no name"):
        store.extract("-", model="minilm")
    pipe(*(root / name for name in names))
    table = store.extract("-", model="minilm", name="notes", source_root=root, keep_text=True)
    assert table.last_run.stored == 30
    assert sorted(vectors(table)) == names
    pipe(*names[:28], *names[28:])
    again = store.extract("-", model="minilm", name="notes")
    assert again.last_run.status == "nothing new", "the root and --keep-text are remembered"
    (root / "new.txt").write_text("a new one")
    pipe(*names[:26], "new.txt")
    planned = store.plan("-", model="minilm", name="notes")
    assert (planned.new, planned.removed) == (1, 4)
    pipe(*names[:26], "new.txt")
    now = store.extract("-", model="minilm", name="notes").last_run
    assert (now.stored, now.reused, now.removed) == (1, 26, 4)
    pipe(*names[:10])
    with pytest.raises(GateError, match="17 of 27"):
        store.extract("-", model="minilm", name="notes")
    pipe()
    with pytest.raises(GateError, match="empty"):
        store.extract("-", model="minilm", name="notes")
    (root / "00.txt").unlink()
    pipe(*names[:26], "new.txt")
    kept = store.extract("-", model="minilm", name="notes").last_run
    assert (kept.removed, kept.rejected) == (0, 1), "a listed file that is missing has not been taken off the list"
    pipe("x", terminal=True)
    report = store.verify(["notes"], sample=4)
    assert report.ok
    assert report.sampled == 4
    other = write(tmp_path / "other", "a.txt")
    pipe("a.txt")
    with pytest.raises(UsageError, match="--add"):
        store.extract("-", model="minilm", name="notes", source_root=other)
    shutil.rmtree(root)
    pipe(*names[:26])
    with pytest.raises(GateError, match="is gone"):
        store.extract("-", model="minilm", name="notes")


def test_another_process_takes_shards_of_a_run_over_a_list(
    model_store: Path, photos: Path, tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fresh(model_store, tmp_path)
    monkeypatch.chdir(photos)
    pipe(*(path.relative_to(photos) for path in sorted(photos.rglob("*.*"))))
    table = store.extract("-", model="efficientnet_lite0", name="some", label_from="folder", shard_items=5)
    assert table.last_run.stored == 12
    program = (
        "import sys, featstore\n"
        "from featstore.extract.shard import open_run, run_shard\n"
        "store = featstore.open(sys.argv[1])\n"
        "receipts = [run_shard(open_run(store.layout, sys.argv[2]), shard) for shard in range(3)]\n"
        "print([(r.rows, len(r.rejects)) for r in receipts])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.path), table.last_run.run_id],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[(5, 0), (5, 0), (2, 0)]", done.stderr


@pytest.mark.heavy
def test_the_command_line_reads_a_list(model_store: Path, photos: Path, tmp_path: Path) -> None:
    fresh(model_store, tmp_path)

    def extract(content: bytes, *more: str) -> Outcome:
        done = subprocess.run(
            [*COMMAND, "extract", "-", "--model", "efficientnet_lite0", "--store", "store", *more],
            cwd=tmp_path,
            env=environment(),
            input=content,
            capture_output=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    paths = b"\0".join(os.fsencode(path) for path in sorted(photos.rglob("*.jpg")))
    nameless = extract(paths)
    assert nameless.code == 2
    assert "--name" in nameless.err
    wrong = extract(paths, "--name", "p")
    assert wrong.code == 2
    assert f"--source-root {photos}" in wrong.err
    done = extract(paths, "--name", "p", "--source-root", str(photos))
    assert done.code == 0, done.err
    assert "8 seen = 8 stored" in done.out


def test_paths_that_begin_in_the_working_folder_and_not_in_the_root_are_explained(tmp_path, pipe, monkeypatch):
    write(tmp_path, "photos/a.jpg", "photos/b.jpg")
    monkeypatch.chdir(tmp_path)
    pipe("photos/a.jpg", "photos/b.jpg")
    with pytest.raises(UsageError, match="begin in the working folder"):
        listed(tmp_path / "photos").scan()
    pipe("photos/a.jpg", "photos/b.jpg")
    assert ids(listed().scan()) == ["photos/a.jpg", "photos/b.jpg"]
    pipe("gone.jpg")  # a file that is nowhere is a reject as ever
    assert codes(listed(tmp_path / "photos").scan()) == {"gone.jpg": "not_found"}
