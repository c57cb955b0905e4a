"""Folders as sources: what is listed, refused and passed over, and what a second scan reads."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from featstore.errors import ItemError, NotFoundError, StorageError, UsageError
from featstore.sources import Scan, Source, SourceOptions, open_source


def source(root: Path, *, text: bool = False, label: bool = False) -> Source:
    options = SourceOptions(label_from="folder" if label else None)
    return open_source(str(root), modality="text" if text else "image", options=options)


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ids(scan: Scan) -> list[str]:
    return [str(item) for item in scan.items["item_id"].to_pylist()]


def codes(scan: Scan) -> dict[str, str]:
    return {reject.item_id: reject.code for reject in scan.rejects}


def test_items_are_sorted_by_the_bytes_of_their_paths_and_hashed(tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.PNG", "a.jpg", "a/b/c.JPeG", "ä.webp", "-dash.gif", "new\nline.bmp", "Z.tiff", "q.jfif"]
    for name in names:
        put(tmp_path / name, name.encode())
    scan = source(tmp_path).scan()
    assert ids(scan) == sorted(names, key=str.encode)
    assert scan.items["content_sha256"].to_pylist() == [hashlib.sha256(n.encode()).hexdigest() for n in ids(scan)]
    assert scan.items.schema.types[:6] == [pa.string()] * 3 + [pa.int64()] * 3
    assert not scan.rejects
    reader = source(tmp_path).reader(scan.items)
    assert [reader.read(row) for row in range(len(names))] == [name.encode() for name in ids(scan)]


def test_labels_are_the_parents_names(tmp_path: Path) -> None:
    for name in ("root.jpg", "cat/1.jpg", "animals/dog/2.jpg"):
        put(tmp_path / name)
    scan = source(tmp_path, label=True).scan()
    assert dict(zip(ids(scan), scan.items["label"].to_pylist(), strict=True)) == {
        "root.jpg": None,
        "cat/1.jpg": "cat",
        "animals/dog/2.jpg": "dog",
    }


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    for name in ("a.jpg", ".DS_Store", "._a.jpg", ".git/x.jpg", "m.json", "n.JSON", "README", "t.txt"):
        put(tmp_path / name)
    scan = source(tmp_path).scan()
    assert ids(scan) == ["a.jpg"]
    assert scan.ignored == {"(hidden)": 3, ".json": 2, "(none)": 1, ".txt": 1}
    texts = source(tmp_path, text=True).scan()
    assert ids(texts) == ["t.txt"]
    assert texts.ignored[".jpg"] == 1


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        put(tmp_path / f"{n:02}.jpg", b"%d" % n)
    first = source(tmp_path).scan()
    put(tmp_path / "05.jpg", b"changed")
    put(tmp_path / "new.jpg", b"new")
    (tmp_path / "07.jpg").rename(tmp_path / "77.jpg")
    (tmp_path / "00.jpg").unlink()
    hashed: list[tuple[str, int, int | None]] = []
    second = source(tmp_path).scan(previous=first.items, progress=lambda *now: hashed.append(now))
    assert hashed[-1] == ("hash", 3, 3)
    assert second.items.equals(source(tmp_path).scan().items)
    third = source(tmp_path).scan(previous=second.items, progress=lambda *now: hashed.append(now))
    assert hashed[-1][0] == "list"
    assert third.items.equals(second.items)


def test_rehash_finds_a_change_that_left_no_mark(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", b"old")
    first = source(tmp_path).scan()
    marks = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(marks.st_atime_ns, marks.st_mtime_ns))
    assert source(tmp_path).scan(previous=first.items).items.equals(first.items)
    again = source(tmp_path).scan(previous=first.items, rehash=True)
    assert again.items["content_sha256"][0].as_py() == hashlib.sha256(b"new").hexdigest()


def test_limit_takes_the_first_of_the_order(tmp_path: Path) -> None:
    for n in range(9):
        put(tmp_path / f"{n}.jpg", b"%d" % n)
    assert ids(source(tmp_path).scan(limit=3)) == ["0.jpg", "1.jpg", "2.jpg"]


def test_links_never_lead_out_of_the_root_or_round_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "root"
    secret = put(tmp_path / "secret.jpg", b"secret")
    put(tmp_path / "root-twin/x.jpg")
    inside = put(root / "deep/inside.jpg", b"inside")
    (root / "good.jpg").symlink_to(inside)
    (root / "out.jpg").symlink_to(secret)
    (root / "sibling.jpg").symlink_to(tmp_path / "root-twin/x.jpg")
    (root / "relative.jpg").symlink_to("../secret.jpg")
    (root / "chain.jpg").symlink_to("out.jpg")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "loop").symlink_to(root)
    (root / "deep/up").symlink_to("..")
    (root / "other").symlink_to(tmp_path)
    (root / "note.json").symlink_to(secret)
    scan = source(root).scan()
    assert ids(scan) == ["deep/inside.jpg", "good.jpg"]
    assert len(set(scan.items["content_sha256"].to_pylist())) == 1
    assert codes(scan) == {
        **dict.fromkeys(["out.jpg", "sibling.jpg", "relative.jpg", "chain.jpg"], "outside_root"),
        **dict.fromkeys(["broken.jpg", "self.jpg"], "broken_symlink"),
        **dict.fromkeys(["loop", "deep/up", "other"], "symlink_to_folder"),
    }
    assert scan.ignored == {".json": 1}


def test_a_root_behind_a_link_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "real/a.jpg")
    (tmp_path / "real/b.jpg").symlink_to("a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert ids(source(tmp_path / "link").scan()) == ["a.jpg", "b.jpg"]


@pytest.mark.timeout(10)
def test_pipes_and_sockets_are_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path is short
        listening.bind("socket.png")
        os.chdir(here)
        put(tmp_path / "a.jpg")
        os.symlink("pipe.jpg", tmp_path / "link.jpg")
        scan = source(tmp_path).scan()
    assert ids(scan) == ["a.jpg"]
    assert codes(scan) == dict.fromkeys(["pipe.jpg", "socket.png", "link.jpg"], "not_a_file")
    assert scan.ignored == {".json": 1}


@pytest.mark.timeout(10)
def test_a_file_that_turned_into_a_pipe_does_not_block_the_reader(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg")
    items = source(tmp_path).scan().items
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ItemError) as caught:
        source(tmp_path).reader(items).read(0)
    assert caught.value.code == "not_a_file"


def test_names_that_are_not_utf8_get_stable_ids_of_their_own(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    raw = [
        b"\xff.jpg",
        b"\\xff.jpg",
        b"a\\\xff.jpg",
        b"a\\\\\xff.jpg",
        b"d\xe9/x.jpg",
        "é/ü.jpg".encode(),
        b"\xed\xa0\x80.jpg",
    ]
    for name in raw:
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        try:
            Path(os.fsdecode(os.path.join(root, name))).write_bytes(name)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    scan = source(tmp_path, label=True).scan()
    found = ids(scan)
    assert len(set(found)) == len(raw)
    assert {r"./\xff.jpg", r"\xff.jpg", r"./a\\\xff.jpg", r"./a\\\\\xff.jpg", r"./d\xe9/x.jpg", "é/ü.jpg"} <= set(found)
    reader = source(tmp_path).reader(scan.items)
    assert {reader.read(row) for row in range(len(raw))} == set(raw)
    assert source(tmp_path, label=True).scan(previous=scan.items).items.equals(scan.items)


def test_long_names_and_deep_folders_are_listed(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 200] * 5)
    put(deep / ("n" * 240 + ".jpg"))
    (item,) = ids(source(tmp_path).scan())
    assert len(item) > 1200


def test_names_that_differ_only_in_composition_are_reported(tmp_path: Path) -> None:
    put(tmp_path / "caf\u00e9.jpg", b"1")
    put(tmp_path / "cafe\u0301.jpg", b"2")
    scan = source(tmp_path).scan()
    if len(scan.items) < 2:
        pytest.skip("this file system composes names itself")
    assert len(scan.warnings) == 1
    assert "NFC/NFD" in scan.warnings[0]


def test_a_missing_or_empty_root(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        source(tmp_path / "none")
    gone = source(tmp_path)
    scan = gone.scan()
    assert scan.items.num_rows == 0
    assert scan.items.column_names[:2] == ["item_id", "content_sha256"]
    tmp_path.rmdir()
    with pytest.raises(NotFoundError):
        gone.scan()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders_and_files_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "closed/b.jpg")
    put(tmp_path / "c.jpg").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        scan = source(tmp_path).scan()
        assert ids(scan) == ["a.jpg"]
        assert codes(scan) == {"closed": "unreadable_folder", "c.jpg": "unreadable"}
        assert "closed/" in scan.unreachable
        with pytest.raises(StorageError):
            source(tmp_path / "closed").scan()
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_an_unlistable_folder_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "closed/b.jpg")
    real = os.scandir

    def failing(path: bytes) -> object:
        if path.endswith(b"closed/"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    scan = source(tmp_path).scan()
    assert ids(scan) == ["a.jpg"]
    assert codes(scan) == {"closed": "unreadable_folder"}
    assert scan.unreachable == ("./closed/", "closed/")
    monkeypatch.setattr(os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(StorageError, match="Permission denied"):
        source(tmp_path).scan()


def test_a_file_that_changes_or_goes_during_the_run_is_not_returned(tmp_path: Path) -> None:
    for name in ("same", "touched", "changed", "gone"):
        put(tmp_path / f"{name}.jpg", name.encode())
    items = source(tmp_path).scan().items
    reader = source(tmp_path).reader(items)
    rows = {str(name): row for row, name in enumerate(items["item_id"].to_pylist())}
    os.utime(tmp_path / "touched.jpg", ns=(1, 1))
    (tmp_path / "changed.jpg").write_bytes(b"CHANGED")
    (tmp_path / "gone.jpg").unlink()
    assert reader.read(rows["same.jpg"]) == b"same"
    assert reader.read(rows["touched.jpg"]) == b"touched"
    for name, code in (("changed", "changed_during_run"), ("gone", "vanished")):
        with pytest.raises(ItemError) as caught:
            reader.read(rows[f"{name}.jpg"])
        assert (caught.value.stage, caught.value.code) == ("read", code)


def test_readers_are_safe_in_threads(tmp_path: Path) -> None:
    for n in range(50):
        put(tmp_path / f"{n:02}.jpg", b"%d" % n * 1000)
    reader = source(tmp_path).reader(source(tmp_path).scan().items)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(n for n in range(50) if reader.read(n) != b"%d" % n * 1000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_options_of_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--text-column"):
        open_source(str(tmp_path), modality="text", options=SourceOptions(text_columns=("a",)))
    with pytest.raises(UsageError, match="not supported yet"):
        open_source("s3://bucket/images", modality="image", options=SourceOptions())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a folder nor a regular file"):
        source(tmp_path / "pipe")


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    put(tmp_path / "a b/x.jpg")
    found = open_source((tmp_path / "a b").as_uri(), modality="image", options=SourceOptions())
    assert found.uri == str(tmp_path / "a b")
    assert ids(found.scan()) == ["x.jpg"]


def test_a_second_scan_of_many_files_is_quick(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for n in range(300):
            (tmp_path / str(folder) / f"{n}.jpg").touch()
    first = source(tmp_path).scan()
    start = time.process_time()
    assert source(tmp_path).scan(previous=first.items).items.equals(first.items)
    assert time.process_time() - start < 0.5
