"""WebDataset tars as sources: what becomes an item, what is refused, and that nothing is ever unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cli_world import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import fresh, vectors

from featstore.errors import FeatstoreError, GateError, ItemError, NotFoundError, SettingsError, UsageError
from featstore.sources import Scan, Source, SourceOptions, open_source
from featstore.sources.archive import Headers

PICTURE = b"\xff\xd8 a picture"


def source(path: Path | str, *, text: bool = False, **options: Any) -> Source:
    return open_source(str(path), modality="text" if text else "image", options=SourceOptions(**options))


def member(name: str, content: bytes = PICTURE, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(path: Path, count: int, *, start: int = 0, **more: Any) -> Path:
    """A tar of pictures with a caption, a number and a class each."""
    found = []
    for n in range(start, start + count):
        found.append(member(f"{n:04d}.jpg", b"picture %d" % n))
        found.append(member(f"{n:04d}.json", json.dumps({"caption": f"number {n}", "n": n, **more}).encode()))
        found.append(member(f"{n:04d}.cls", b"%d" % (n % 3)))
    return tar(path, *found)


def ids(scan: Scan) -> list[str]:
    return [str(item) for item in scan.items["item_id"].to_pylist()]


def codes(scan: Scan) -> dict[str, str]:
    return {reject.item_id: reject.code for reject in scan.rejects}


def contents(found: Source, scan: Scan) -> list[bytes | str]:
    reader = found.reader(scan.items)
    return [reader.read(row) for row in range(scan.items.num_rows)]


# ── samples ──


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_one_key_are_one_sample(tmp_path: Path, form: int) -> None:
    long = "folder/" + "x" * 90 + "/" + "y" * 60
    path = tar(
        tmp_path / "train-000.tar",
        member("./a/1.jpg", b"one"),
        member("./a/1.json", b'{"caption": "first", "size": 3, "tags": ["x"]}'),
        member("./a/1.cls", b"7\n"),
        member("./a/2.PNG", b"two"),
        member(f"{long}.webp", b"long"),
        member("empty.jpg", b""),
        form=form,
    )
    found = source(path)
    scan = found.scan()
    assert found.kind == "tar"
    assert ids(scan) == ["train-000/a/1", "train-000/a/2", f"train-000/{long}", "train-000/empty"]
    assert contents(found, scan) == [b"one", b"two", b"long", b""]
    assert scan.items["content_sha256"][0].as_py() == hashlib.sha256(b"one").hexdigest()
    assert scan.items["key"].to_pylist() == ["a/1", "a/2", long, "empty"]
    assert scan.items["label"].to_pylist() == [7, None, None, None]
    assert scan.items["caption"].to_pylist() == ["first", None, None, None]
    assert scan.items["tags"].to_pylist() == ['["x"]', None, None, None]
    assert scan.items["size_"].to_pylist() == [3, None, None, None]
    assert scan.items["size"].to_pylist() == [3, 3, 4, 0]
    assert "'size' in .json members is kept as 'size_'" in scan.warnings[0]
    assert not scan.rejects


def test_texts_in_tars(tmp_path: Path) -> None:
    path = tar(tmp_path / "t.tar", member("1.txt", "grün".encode()), member("1.jpg"), member("2.txt", b"two"))
    found = source(path, text=True)
    scan = found.scan()
    assert ids(scan) == ["t/1", "t/2"]
    assert contents(found, scan) == ["grün".encode(), b"two"]
    assert scan.ignored == {".jpg": 1}


def test_several_pictures_of_a_sample_are_items_of_one_group(tmp_path: Path) -> None:
    one = tar(tmp_path / "s/0.tar", member("a.jpg", b"a"), member("a.side.png", b"b"), member("a.json", b'{"n": 1}'))
    tar(tmp_path / "s/1.tar", member("a.jpg", b"c"))
    scan = source(tmp_path / "s").scan()
    assert ids(scan) == ["0/a.jpg", "0/a.side.png", "1/a"]
    assert scan.items["group"].to_pylist() == ["0/a", "0/a", "1/a"]
    assert scan.items["key"].to_pylist() == ["a", "a", "a"]
    assert scan.items["n"].to_pylist() == [1, 1, None]
    assert "group" not in source(tmp_path / "s/1.tar").scan().items.column_names
    assert source(one, group_column="n").scan().items["group"].to_pylist() == [1, 1]


def test_values_of_json_members_can_be_label_group_split_and_time(tmp_path: Path) -> None:
    rows = [{"kind": "cat", "shop": 1, "part": "train", "when": "2024-01-02", "label": "own"}, {"when": "soon"}]
    found = [(member(f"{n}.jpg"), member(f"{n}.json", json.dumps(r).encode())) for n, r in enumerate(rows)]
    path = tar(tmp_path / "a.tar", *(m for pair in found for m in pair))
    named = {"label_column": "kind", "group_column": "shop", "split_column": "part", "time_column": "when"}
    scan = source(path, **named).scan()
    (row,) = scan.items.select(["label", "group", "split", "label_"]).to_pylist()
    assert row == {"label": "cat", "group": 1, "split": "train", "label_": "own"}
    assert scan.items["event_ts"][0].as_py().isoformat() == "2024-01-02T00:00:00+00:00"
    assert "when" not in scan.items.column_names
    assert codes(scan) == {"a/1": "bad_time"}
    with pytest.raises(SettingsError, match="kimd") as caught:
        source(path, label_column="kimd").scan()
    assert "Did you mean 'kind'" in str(caught.value)
    with pytest.raises(UsageError, match="--id-column"):
        source(path, id_column="kind")
    folders = tar(tmp_path / "f.tar", member("cat/1.jpg"), member("2.jpg"), member("2.cls", b"x"))
    labelled = source(folders, label_from="folder").scan()
    assert labelled.items["label"].to_pylist() == ["cat", None]
    assert labelled.items["cls"].to_pylist() == [None, "x"]


# ── which tars ──


def test_a_folder_of_tars_and_a_range_of_them(tmp_path: Path) -> None:
    for n in range(12):
        samples(tmp_path / f"shards/name-{n:03d}.tar", 2, start=2 * n)
    (tmp_path / "shards/README").write_text("about")
    (tmp_path / "shards/sizes.json").write_text("{}")
    whole = source(tmp_path / "shards")
    scan = whole.scan()
    assert whole.uri == str(tmp_path / "shards")
    assert scan.items.num_rows == 24
    assert scan.ignored == {"(none)": 1, ".json": 1}
    assert scan.items["label"].to_pylist() == [n % 3 for n in range(24)]
    part = source(tmp_path / "shards/name-{000..009}.tar")
    assert ids(part.scan()) == ids(scan)[:20]
    assert part.uri == str(tmp_path / "shards/name-{000..009}.tar")
    assert source(tmp_path / "shards/name-{000..009}.tar").reader(part.scan().items).read(3) == b"picture 3"
    assert ids(source(tmp_path / "shards/name-011.tar").scan()) == ["name-011/0022", "name-011/0023"]
    with pytest.raises(NotFoundError, match=r"3 of the 15 tars .* are missing: .*name-012\.tar"):
        source(tmp_path / "shards/name-{000..014}.tar")
    with pytest.raises(UsageError, match="backwards"):
        source(tmp_path / "shards/name-{009..000}.tar")
    with pytest.raises(UsageError, match="at most 100,000"):
        source(tmp_path / "shards/name-{000..999999}.tar")
    with pytest.raises(NotFoundError, match="no range of tars"):
        source(tmp_path / "shards/name-{a,b}.tar")
    with pytest.raises(UsageError, match=r"does not end in \.tar"):
        source(tmp_path / "shards/name-{000..009}.jpg")


def test_tars_beside_pictures_are_ignored_aloud(tmp_path: Path) -> None:
    samples(tmp_path / "backup.tar", 2)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.jpg").write_bytes(b"a")
    found = source(tmp_path)
    assert found.kind == "folder"
    scan = found.scan()
    assert ids(scan) == ["deep/a.jpg"]
    assert "1 tars are ignored" in scan.warnings[0]


def test_compressed_tars_are_refused_and_never_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    for name in ("a.tar.gz", "b.tgz", "c.tar"):
        (tmp_path / name).write_bytes(bomb)
        with pytest.raises(UsageError, match=r"compressed \(gzip\)") as caught:
            source(tmp_path / name)
        assert "gunzip" in str(caught.value)
    folder = tmp_path / "shards"
    samples(folder / "0.tar", 1)
    (folder / "1.tar.gz").write_bytes(bomb)
    with pytest.raises(UsageError, match="compressed"):
        source(folder)


# ── what a second scan reads ──


def _reads(found: Source, previous: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[Scan, list[str]]:
    opened: list[str] = []
    real = os.open

    def spy(path: Any, *more: Any, **fields: Any) -> int:
        if os.fsencode(path).endswith(b".tar"):
            opened.append(os.path.basename(os.fsdecode(path)))
        return real(path, *more, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", spy)
        return found.scan(previous=previous, **how), sorted(opened)


def test_unchanged_tars_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(4):
        samples(tmp_path / f"{n}.tar", 3, start=3 * n)
    bad = (member("b.jpg"), member("../out.jpg"), member("b.pkl", b"x"), member("b.jpg"))
    tar(tmp_path / "4.tar", *bad)
    first = source(tmp_path).scan()
    again, opened = _reads(source(tmp_path), first.items, monkeypatch)
    assert not opened
    assert again.items.equals(first.items, check_metadata=True)
    assert again.rejects == first.rejects
    assert len(again.rejects) == 2
    assert again.ignored == first.ignored == {".pkl": 1}
    samples(tmp_path / "1.tar", 4, start=100)
    (tmp_path / "2.tar").unlink()
    changed, opened = _reads(source(tmp_path), again.items, monkeypatch)
    assert opened == ["1.tar"]
    assert changed.items.equals(source(tmp_path).scan().items)
    _, opened = _reads(source(tmp_path), changed.items, monkeypatch, rehash=True)
    assert opened == ["0.tar", "1.tar", "3.tar", "4.tar"]
    lost, opened = _reads(source(tmp_path), changed.items.replace_schema_metadata(None), monkeypatch)
    assert len(opened) == 4
    assert lost.items.equals(changed.items)
    limited = source(tmp_path).scan(previous=changed.items, limit=5)
    assert ids(limited) == ids(changed)[:5]


@pytest.mark.parametrize(
    "more",
    [
        {"n": "text now"},
        {"extra": 1.5},
        {"size": 1},
        {"caption": None},
        {"CAPTION": "x"},
        {"group": "g"},
        {"n": 1.5},
    ],
)
def test_a_scan_of_changed_tars_equals_a_scan_of_all(tmp_path: Path, more: dict[str, Any]) -> None:
    for n in range(3):
        samples(tmp_path / f"{n}.tar", 3, start=3 * n)
    first = source(tmp_path).scan()
    samples(tmp_path / "1.tar", 3, start=3, **more)
    second = source(tmp_path).scan(previous=first.items)
    assert second.items.equals(source(tmp_path).scan().items)
    tar(tmp_path / "2.tar", member("x.jpg"), member("x.1.jpg"), member("x.cls", b"word"))
    third = source(tmp_path).scan(previous=second.items)
    assert third.items.equals(source(tmp_path).scan().items)
    samples(tmp_path / "1.tar", 3, start=3)
    tar(tmp_path / "2.tar")
    fourth = source(tmp_path).scan(previous=third.items)
    assert fourth.items.equals(source(tmp_path).scan().items)


def test_limit_takes_the_first_of_the_order(tmp_path: Path) -> None:
    for n in range(3):
        samples(tmp_path / f"{n}.tar", 3, start=3 * n)
    scan = source(tmp_path).scan(limit=4)
    assert ids(scan) == ["0/0000", "0/0001", "0/0002", "1/0003"]
    assert all(scan.items["content_sha256"].to_pylist())


# ── abuse ──


def test_names_and_kinds_that_could_do_harm_are_refused(tmp_path: Path) -> None:
    kinds = {"sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE, "null": tarfile.CHRTYPE}
    before = sorted(tmp_path.rglob("*"))
    path = tar(
        tmp_path / "in" / "a.tar",
        member("../../out.jpg"),
        member("/etc/out.jpg"),
        member("deep/../x.jpg"),
        *(member(f"{name}.jpg", b"", type=kind, linkname="/etc/passwd") for name, kind in kinds.items()),
        member("deep", b"", type=tarfile.DIRTYPE),
        member("inner.tar", b"x" * 1000),
        member("model.pkl", b"cposix\nsystem\n(S'touch pwned'\ntR."),
        member("array.pyd"),
        member(".hidden.jpg"),
        member("noname"),
        member("good.jpg", b"good"),
    )
    found = source(path)
    scan = found.scan()
    assert ids(scan) == ["a/good"]
    assert contents(found, scan) == [b"good"]
    refused = codes(scan)
    assert [refused[f"a/{name}"] for name in ("../../out.jpg", "/etc/out.jpg", "deep/../x.jpg")] == ["unsafe_name"] * 3
    assert {refused[f"a/{name}.jpg"] for name in kinds} == {"not_a_file"}
    assert scan.ignored == {".tar": 1, ".pkl": 1, ".pyd": 1, "(hidden)": 1, "(none)": 1}
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [tmp_path / "in", path]


def test_duplicates_keep_the_first(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "s/a.tar",
        member("1.jpg", b"first"),
        member("1.json", b'{"n": 1}'),
        member("2.jpg", b"two"),
        member("1.jpg", b"second"),
        member("1.json", b'{"n": 2}'),
        member("b/c.jpg", b"three"),
    )
    scan = source(path).scan()
    assert ids(scan) == ["a/1", "a/2", "a/b/c"]
    assert scan.items["n"].to_pylist() == [1, None, None]
    assert codes(scan) == {"a/1.jpg": "duplicate_member", "a/1.json": "duplicate_member"}
    tar(tmp_path / "s/a/b.tar", member("c.jpg", b"four"))
    both = source(tmp_path / "s")
    scan = both.scan()
    assert ids(scan) == ["a/1", "a/2", "a/b/c"]
    assert codes(scan)["a/b/c"] == "duplicate_id"
    assert source(tmp_path / "s").scan(previous=scan.items).rejects == scan.rejects


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[1]", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff", "bad_json"),
        (b'{"a": "\\ud83d"}', "bad_json"),
        (b'{"a":' * 100_000, "bad_json"),
        (json.dumps({f"k{n}": n for n in range(201)}).encode(), "bad_json"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "too_large"),
    ],
)
def test_metadata_that_cannot_be_read_refuses_its_sample_alone(tmp_path: Path, content: bytes, code: str) -> None:
    path = tar(tmp_path / "a.tar", member("1.jpg"), member("1.json", content), member("2.jpg"))
    scan = source(path).scan()
    assert ids(scan) == ["a/2"]
    assert codes(scan) == {"a/1": code}


def test_names_that_are_not_utf8_or_odd_are_found_again(tmp_path: Path) -> None:
    names = ["caf\udce9/1.jpg", "new\nline.jpg", "-dash.jpg", "co:lon:1:2.jpg", "ä.jpg"]
    tar(tmp_path / "s:1.tar", *(member(name, name.encode("utf-8", "surrogateescape")) for name in names))
    found = source(tmp_path / "s:1.tar")
    scan = found.scan()
    assert contents(found, scan) == [name.encode("utf-8", "surrogateescape") for name in names]
    assert ids(scan)[0] == "./s:1/caf\\xe9/1"
    assert len(set(ids(scan))) == len(names)


def test_a_tar_cut_short_gives_what_is_whole_and_takes_nothing_away(tmp_path: Path) -> None:
    whole = samples(tmp_path / "s/a.tar", 5)
    samples(tmp_path / "s/b.tar", 2)
    content = whole.read_bytes()
    with tarfile.open(whole) as archive:
        third = archive.getmember("0003.json").offset_data
    whole.write_bytes(content[: third + 3])
    scan = source(tmp_path / "s").scan()
    assert ids(scan) == ["a/0000", "a/0001", "a/0002", "b/0000", "b/0001"]
    assert codes(scan) == {"a.tar": "truncated_tar", "a/0003": "incomplete_sample"}
    assert any("a/stored-before".startswith(begin) for begin in scan.unreachable)
    assert "0003.json" in scan.rejects[0].message
    # at the end of a member nothing shows but the missing mark
    whole.write_bytes(content[: content.rstrip(b"\0").rfind(b"1") // 512 * 512 + 512])
    scan = source(tmp_path / "s").scan()
    assert ids(scan)[:5] == [f"a/{n:04d}" for n in range(5)]
    assert scan.warnings == ("a.tar has no end-of-archive mark; it may have been cut short",)
    assert "a/" in scan.unreachable
    # damage in the middle
    middle = bytearray(content)
    middle[6 * 512 + 10] ^= 1
    whole.write_bytes(middle)
    assert codes(source(tmp_path / "s").scan())["a.tar"] == "bad_tar"
    for broken in (b"", b"no tar at all" * 100, content[:100]):
        whole.write_bytes(broken)
        assert ids(source(tmp_path / "s").scan()) == ["b/0000", "b/0001"]
        with pytest.raises(UsageError, match="cannot be read as a tar"):
            source(whole).scan()


def test_tars_put_behind_one_another_are_read_to_the_end(tmp_path: Path) -> None:
    one, two = samples(tmp_path / "1.tar", 2), samples(tmp_path / "2.tar", 2, start=5)
    both = tmp_path / "both.tar"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    found = source(both)
    scan = found.scan()
    assert scan.items["key"].to_pylist() == ["0000", "0001", "0005", "0006"]
    assert contents(found, scan)[3] == b"picture 6"
    both.write_bytes(one.read_bytes() + b"junk" * 200)
    assert "bytes behind its end" in source(both).scan().warnings[0]


def test_members_that_changed_since_are_not_returned(tmp_path: Path) -> None:
    path = samples(tmp_path / "a.tar", 3)
    scan = source(path).scan()
    samples(path, 3, start=7)
    reader = source(path).reader(scan.items)
    for expected in ("changed_during_run", "vanished", "not_a_file"):
        if expected == "vanished":
            path.unlink()
        elif expected == "not_a_file":
            os.mkfifo(path)
        with pytest.raises(ItemError) as caught:
            reader.read(1)
        assert (caught.value.stage, caught.value.code) == ("read", expected)


def test_an_extended_header_is_not_read_at_any_length(tmp_path: Path) -> None:
    info, _ = member("a.jpg")
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = b"x"
    header[124:136] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(1 << 33)
    with pytest.raises(UsageError, match=r"an extended header of 4,294,967,296 bytes"):
        source(path).scan()


def test_extended_headers_are_not_gathered_without_end(tmp_path: Path) -> None:
    """Each is small enough; together they would fill the memory before the first member is met."""
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        for number in range(4):
            record = b" k%d=" % number + b"x" * 400_000 + b"\n"
            body = b"%d" % (len(record) + 6) + record
            info = tarfile.TarInfo("h")
            info.type, info.size = b"x", len(body)
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + body + b"\0" * (-len(body) % 512))
        file.write(tarfile.TarInfo("a.jpg").tobuf() + b"\0" * 1024)
    with pytest.raises(UsageError, match="before one member"):
        source(path).scan()


def _whole_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in (member("é" * 80 + ".jpg"), member("b.json", b"{}"), member("b.jpg", b"x" * 700)):
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


WHOLE = _whole_tar()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6),
    end=st.integers(0, len(WHOLE)),
)
def test_damaged_tars_end_in_a_named_error_or_whole_members(
    tmp_path: Path, changes: list[tuple[int, int]], end: int
) -> None:
    content = bytearray(WHOLE)
    for at, value in changes:
        content[at] = value
    path = tmp_path / "a.tar"
    path.write_bytes(content[:end])
    try:
        scan = source(path).scan()
    except FeatstoreError:
        return
    sizes = scan.items["size"].to_pylist()
    assert [len(c) for c in contents(source(path), scan)] == sizes


def test_headers_agree_with_the_standard_library(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        names = [f"{'d' * n}/{'n' * n}.jpg" for n in (1, 40, 60, 90)]
        tar(path, *(member(name, b"x" * (513 * n)) for n, name in enumerate(names)), form=form)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            mine = [(m.name.decode(), m.offset, m.size) for m in Headers(descriptor, path.stat().st_size)]
        finally:
            os.close(descriptor)
        with tarfile.open(path) as archive:
            assert mine == [(m.name, m.offset_data, m.size) for m in archive]


# ── from end to end ──


def test_extract_from_tars_follows_them(model_store: Path, photos: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    pictures = sorted(photos.rglob("*.*"))
    halves = (pictures[:6], pictures[6:])

    def pack(n: int, files: list[Path], **more: str) -> None:
        found = []
        for file in files:
            found.append(member(file.name, file.read_bytes()))
            found.append(member(f"{file.stem}.json", json.dumps({"from": file.parent.name, **more}).encode()))
        tar(tmp_path / f"shop/part-{n:02d}.tar", *found)

    for n, files in enumerate(halves):
        pack(n, files)
    table = store.extract(tmp_path / "shop/part-{00..01}.tar", model="efficientnet_lite0", label_column="from")
    assert table.name == "part"
    assert (table.last_run.stored, table.last_run.rejected) == (12, 0)
    folder = store.extract(photos, model="efficientnet_lite0", name="plain")
    assert sorted(vectors(table).values()) == sorted(vectors(folder).values())
    assert set(table.to_polars()["label"]) == {"building", "flower"}
    again = store.extract(tmp_path / "shop/part-{00..01}.tar", model="efficientnet_lite0")
    assert again.last_run.status == "nothing new"
    pack(1, halves[1], note="new")
    now = store.extract(tmp_path / "shop/part-{00..01}.tar", model="efficientnet_lite0").last_run
    assert (now.stored, now.updated, now.reused) == (0, 6, 12)
    pack(1, halves[1][:3])
    now = store.extract(tmp_path / "shop/part-{00..01}.tar", model="efficientnet_lite0").last_run
    assert (now.seen, now.stored, now.removed) == (9, 0, 3)
    assert store.verify(["part"], sample=4).ok
    (tmp_path / "shop/part-01.tar").unlink()
    with pytest.raises(GateError, match="missing"):
        store.extract(tmp_path / "shop/part-{00..01}.tar", model="efficientnet_lite0")
    assert len(store.table("part")) == 9


def test_another_process_takes_shards_of_a_run_over_tars(model_store: Path, photos: Path, tmp_path: Path) -> None:
    from featstore.extract.shard import open_run, run_shard

    store = fresh(model_store, tmp_path)
    files = sorted(photos.rglob("*.*"))
    tar(tmp_path / "shop.tar", *(member(file.name, file.read_bytes()) for file in files))
    table = store.extract(tmp_path / "shop.tar", model="efficientnet_lite0", shard_items=5)
    receipts = [run_shard(open_run(store.layout, table.last_run.run_id), shard) for shard in range(3)]
    assert [r.rows for r in receipts] == [5, 5, 2]
    assert not any(r.rejects for r in receipts)


def test_the_command_line_takes_tars(model_store: Path, photos: Path, tmp_path: Path) -> None:
    fresh(model_store, tmp_path)
    files = sorted(photos.rglob("*.*"))[:3]
    tar(tmp_path / "shards/0.tar", *(member(file.name, file.read_bytes()) for file in files))
    done = run("extract", "shards", "--model", "efficientnet_lite0", "--store", "store", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "3 seen = 3 stored" in done.out
    (tmp_path / "shards/1.tar.gz").write_bytes(gzip.compress(b"x"))
    done = run("extract", "shards", "--model", "efficientnet_lite0", "--store", "store", cwd=tmp_path)
    assert done.code == 2
    assert "gunzip 1.tar.gz" in done.err
