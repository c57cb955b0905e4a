"""Tables as sources: which column is what, what is refused, and that contents are found again."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from featstore.errors import ItemError, NotFoundError, SettingsError, UsageError
from featstore.records import Modality
from featstore.sources import Scan, Source, SourceOptions, open_source

ROWS = [
    {"id": "007", "title": "Seven", "text": "the seventh", "cls": "odd", "n": 7},
    {"id": "010", "title": "Ten", "text": "the tenth, “quoted”\nline", "cls": "even", "n": 10},
    {"id": "x", "title": "=1+1", "text": "=HYPERLINK(A1)", "cls": None, "n": 3},
]


def table(path: Path, modality: Modality = "text", **options: Any) -> Source:
    return open_source(str(path), modality=modality, options=SourceOptions(**options))


def contents(source: Source, scan: Scan) -> list[bytes | str]:
    reader = source.reader(scan.items)
    return [reader.read(row) for row in range(scan.items.num_rows)]


def codes(scan: Scan) -> list[tuple[str, str]]:
    return [(reject.item_id, reject.code) for reject in scan.rejects]


def written(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Writes rows in the format of the path's suffix."""
    whole = pa.Table.from_pylist(rows)
    match path.suffix:
        case ".csv" | ".tsv":
            import csv

            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
                writer.writeheader()
                writer.writerows(rows)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pq.write_table(whole, path, row_group_size=2)
        case ".feather":
            pyarrow.feather.write_feather(whole, str(path), chunksize=2)
        case _:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, whole.schema) as writer:
                writer.write_table(whole, max_chunksize=2)
    return path


FORMATS = ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.feather", "t.arrow"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_items(tmp_path: Path, name: str) -> None:
    source = table(written(tmp_path / name), id_column="id", label_column="cls")
    scan = source.scan()
    assert scan.items["item_id"].to_pylist() == ["007", "010", "x"]
    assert scan.items["label"].to_pylist() == ["odd", "even", None]
    assert scan.items["n"].type == pa.int64()
    assert scan.items["n"].to_pylist() == [7, 10, 3]
    assert set(scan.items.column_names[6:]) == {"title", "label", "n"}
    assert contents(source, scan) == [row["text"] for row in ROWS]
    assert scan.items["content_sha256"][0].as_py() == hashlib.sha256(b"the seventh").hexdigest()
    assert not scan.rejects
    assert not scan.warnings
    reader = source.reader(scan.items.take([2, 0]))
    assert [reader.read(1), reader.read(0)] == ["the seventh", "=HYPERLINK(A1)"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_unchanged_table_is_not_read_again(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    first = table(path, id_column="id").scan()
    calls: list[object] = []
    again = table(path, id_column="id").scan(previous=first.items, progress=lambda *now: calls.append(now))
    assert again.items.equals(first.items)
    assert not calls
    table(path, id_column="id").scan(previous=first.items, rehash=True, progress=lambda *now: calls.append(now))
    assert calls
    written(path, [*ROWS, {**ROWS[0], "id": "new"}])
    assert table(path, id_column="id").scan(previous=first.items).items.num_rows == 4


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_refused_row_is_refused_again(tmp_path: Path, name: str, bad: int) -> None:
    rows = [{**row, "text": None if number == bad else row["text"]} for number, row in enumerate(ROWS)]
    path = written(tmp_path / name, rows)
    first = table(path, id_column="id", text_columns=("text",)).scan()
    assert codes(first) == [(ROWS[bad]["id"], "null_text")]
    again = table(path, id_column="id", text_columns=("text",)).scan(previous=first.items)
    assert again.rejects == first.rejects
    assert again.items.equals(first.items)


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_that_changes_during_the_run_gives_nothing_wrong(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    source = table(path, id_column="id")
    scan = source.scan()
    written(path, [{**row, "text": f"other {row['id']}"} for row in ROWS])
    for now in (source, table(path, id_column="id")):
        with pytest.raises(ItemError) as caught:
            now.reader(scan.items).read(1)
        assert (caught.value.stage, caught.value.code) == ("read", "changed_during_run")
    path.unlink()
    with pytest.raises(ItemError):
        source.reader(scan.items).read(0)


def test_texts_are_joined_or_put_together_by_a_template(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv")
    source = table(path, id_column="id", text_columns=("title", "text"))
    assert contents(source, source.scan())[0] == "Seven\nthe seventh"
    source = table(path, id_column="id", text_template="{{{title}}} ({n}): {text}")
    scan = source.scan()
    assert contents(source, scan)[0] == "{Seven} (7): the seventh"
    assert scan.items.column_names[6:] == ["cls"]
    source = table(written(tmp_path / "t.parquet"), text_template="{title}/{cls}")
    assert contents(source, source.scan())[2] == "=1+1/"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_template": "{titel}"}, "Did you mean 'title'"),
        ({"text_template": "{title!r}"}, "no format or conversion"),
        ({"text_template": "{title"}, "--text-template"),
        ({"text_template": "constant"}, "names no column"),
        ({"text_template": "{title}", "text_columns": ("text",)}, "exclude each other"),
        ({"text_columns": ("txt",)}, "Did you mean 'text'"),
        ({"id_column": "ID"}, "Did you mean 'id'"),
        ({"label_column": "cls", "group_column": "cls"}, "is the label already"),
    ],
)
def test_a_wrong_column_is_named_with_its_nearest(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        table(written(tmp_path / "t.csv"), **options)
    assert message in str(caught.value)


def test_the_text_column_is_guessed_only_when_there_is_one(tmp_path: Path) -> None:
    only = [{"id": 1, "words": "only text"}, {"id": 2, "words": "another"}]
    for name in FORMATS:
        source = table(written(tmp_path / name, only), id_column="id")
        assert contents(source, source.scan()) == ["only text", "another"]
    with pytest.raises(SettingsError, match="2 columns of strings") as caught:
        table(written(tmp_path / "u.csv", [{"a": "x", "b": "y"}]))
    assert "Its columns are: a, b." in str(caught.value)


def test_without_an_id_column_the_content_is_the_id(tmp_path: Path) -> None:
    rows = [{"text": "same", "n": 1}, {"text": "other", "n": 2}, {"text": "same", "n": 3}]
    path = written(tmp_path / "t.jsonl", rows)
    scan = table(path).scan()
    assert scan.items["item_id"].to_pylist() == scan.items["content_sha256"].to_pylist()
    assert scan.items["n"].to_pylist() == [1, 2]
    assert "1 rows repeat" in scan.warnings[0]
    assert table(path).scan(previous=scan.items).warnings == scan.warnings


def test_ids_stay_strings_and_may_not_repeat(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,text\n001,a\n1,b\n001,c\n,d\n1e5,e\n")
    scan = table(path, id_column="id").scan()
    assert scan.items["item_id"].to_pylist() == ["001", "1", "1e5"]
    assert codes(scan) == [("001", "duplicate_id"), ("row 4", "null_id")]
    assert "row 3" in scan.rejects[0].message
    numbers = table(written(tmp_path / "t.parquet", [{"id": 5, "text": "a"}, {"id": 5, "text": "b"}]), id_column="id")
    assert numbers.scan().items["item_id"].to_pylist() == ["5"]


def test_times_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    values = ["2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.5+02:00", None, "yesterday", "1704164645"]
    rows = [{"id": str(n), "text": f"t{n}", "when": value} for n, value in enumerate(values)]
    wanted = [
        datetime(2024, 1, 2, tzinfo=UTC),
        datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2024, 1, 2, 1, 4, 5, 500_000, tzinfo=UTC),
        None,
    ]
    for name in FORMATS:
        scan = table(written(tmp_path / name, rows), id_column="id", time_column="when", text_columns=("text",)).scan()
        assert scan.items.schema.field("event_ts").type == pa.timestamp("us", "UTC")
        assert scan.items["event_ts"].to_pylist() == wanted
        assert codes(scan) == [("4", "bad_time"), ("5", "bad_time")]
    typed = [{"text": "a", "when": datetime(2024, 1, 2, 3)}]
    scan = table(written(tmp_path / "t.parquet", typed), time_column="when").scan()
    assert scan.items["event_ts"].to_pylist() == [datetime(2024, 1, 2, 3, tzinfo=UTC)]
    scan = table(written(tmp_path / "t.parquet", [{"text": "a", "when": date(2024, 1, 2)}]), time_column="when").scan()
    assert scan.items["event_ts"].to_pylist() == [datetime(2024, 1, 2, tzinfo=UTC)]


def test_columns_with_featstores_names_are_renamed_aloud(tmp_path: Path) -> None:
    row = {"text": "a", "size": 3, "size_": 4, "run_id": "r", "label": "own", "kind": "k"}
    scan = table(written(tmp_path / "t.jsonl", [row]), label_column="kind", text_columns=("text",)).scan()
    (found,) = scan.items.select(["label", "label_", "size__", "size_", "run_id_"]).to_pylist()
    assert found == {"label": "k", "label_": "own", "size__": 3, "size_": 4, "run_id_": "r"}
    assert len(scan.warnings) == 3


# ── CSV ──


def test_csv_keeps_cells_as_they_are_whatever_the_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfid,text\r\n1,"a ""b""\r\nc"\n2,@SUM(1)\r3, sp \r\n\r\n4,"x,y"')
    source = table(path, id_column="id")
    scan = source.scan()
    assert scan.items["item_id"].to_pylist() == ["1", "2", "3", "4"]
    assert contents(source, scan) == ['a "b"\r\nc', "@SUM(1)", " sp ", "x,y"]
    assert table(path, id_column="id").scan(previous=scan.items).items.equals(scan.items)


def test_a_huge_field_and_many_rows_cross_the_blocks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    texts = ["x" * 1_000_000, *(f'row {n} é\r\n"{"y" * (n % 97)}' for n in range(30_000)), "z" * 2_000_000]
    lines = ['"' + text.replace('"', '""') + '"' for text in texts]
    path.write_bytes("\r\n".join(["text,n", *(f"{line},{n}" for n, line in enumerate(lines))]).encode())
    source = table(path)
    scan = source.scan()
    assert scan.items["n"].to_pylist() == list(range(len(texts)))
    reader = source.reader(scan.items)
    for row in (0, 1, 4095, 4096, 15_000, len(texts) - 1):
        assert reader.read(row) == texts[row]


def test_ragged_and_misquoted_rows_are_refused_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,a\n2\n3,b,c\n4,"d"e\n5,f\n')
    source = table(path, id_column="id")
    scan = source.scan()
    assert contents(source, scan) == ["a", "f"]
    assert codes(scan) == [("row 2", "ragged_row"), ("row 3", "ragged_row"), ("row 4", "bad_row")]
    assert "row 2: it has 1 fields; the header has 2" in scan.rejects[0].message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,text\n1,caf\xe9\n", "byte 0xe9 at offset 13"),
        ("id,text\n1,a\n".encode("utf-16"), "UTF-16"),
        (b"", "is empty"),
        (b"a,a\n1,2\n", "two columns called 'a'"),
        (b'id,text\n1,a\n2,"never closed\n3,b\n', "a quote opened in row 2"),
    ],
)
def test_a_csv_file_that_cannot_be_read_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        table(path, text_columns=("text",)).scan()


def test_types_of_csv_columns_come_from_all_their_cells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,i,f,b,zip,s,none\na,1,1.5,true,00123,1,\nb,-20,2,False,99999,x,\nc,,1e3,,1,,\n")
    items = table(path, text_columns=("text",)).scan().items
    types = {name: str(items.schema.field(name).type) for name in ("i", "f", "b", "zip", "s")}
    assert types == {"i": "int64", "f": "double", "b": "bool", "zip": "string", "s": "string"}
    assert items["i"].to_pylist() == [1, -20, None]
    assert items["b"].to_pylist() == [True, False, None]
    assert items["none"].null_count == 3


def test_a_semicolon_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;text\n1;a, b\n")
    source = table(path, id_column="id")
    assert contents(source, source.scan()) == ["a, b"]


# ── JSON lines ──


def test_json_lines_are_refused_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [
        '{"id": 1, "text": "good", "tags": ["a", 1], "x": 1}',
        "{not json}",
        "",
        "[1, 2]",
        '{"id": 2, "text": "half \\ud83d"}',
        '{"id": 3, "text": "whole \\ud83d\\ude00", "x": 2.5, "late": true}',
        '{"id": 4}',
    ]
    path.write_text("\r\n".join(lines))
    source = table(path, id_column="id", text_columns=("text",))
    scan = source.scan()
    assert contents(source, scan) == ["good", "whole 😀"]
    assert [code for _, code in codes(scan)] == ["bad_json", "bad_json", "lone_surrogate", "null_text"]
    assert scan.items["tags"].to_pylist() == ['["a", 1]', None]
    assert scan.items["x"].to_pylist() == [1.0, 2.5]
    assert scan.items["late"].to_pylist() == [None, True]


def test_values_of_different_types_meet_as_text(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "v": n if n < 5000 else "many", "w": 1 if n < 5000 else 0.5} for n in range(6000)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = table(path, text_columns=("text",)).scan().items
    assert items["v"][0].as_py() == "0"
    assert items["v"][5999].as_py() == "many"
    assert items["w"].type == pa.float64()


# ── pictures in tables ──


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_paths_are_relative_to_the_table_and_never_leave_its_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    (root / "img").mkdir(parents=True)
    (root / "img/a.jpg").write_bytes(b"A")
    (root / "b.jpg").write_bytes(b"B")
    (tmp_path / "secret.jpg").write_bytes(b"S")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(root / "pipe.jpg")
    paths = [
        "img/a.jpg",
        "./b.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "link.jpg",
        "pipe.jpg",
        "no.jpg",
        None,
    ]
    rows = [{"id": f"i{n}", "path": path} for n, path in enumerate(paths)]
    path = written(root / name, rows)
    source = table(path, "image", id_column="id")
    scan = source.scan()
    assert scan.items["item_id"].to_pylist() == ["i0", "i1"]
    assert contents(source, scan) == [b"A", b"B"]
    wanted = ["outside_root"] * 3 + ["not_a_file", "unreadable", "null_image"]
    assert codes(scan) == [(f"i{n}", code) for n, code in enumerate(wanted, 2)]
    (root / "b.jpg").write_bytes(b"changed")
    with pytest.raises(ItemError, match="changed"):
        source.reader(scan.items).read(1)
    again = source.scan(previous=scan.items)
    assert again.items["content_sha256"][0] == scan.items["content_sha256"][0]
    assert contents(source, again) == [b"A", b"changed"]


def test_an_unchanged_picture_keeps_its_hash_unread(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"old")
    path = written(tmp_path / "t.csv", [{"path": "a.jpg"}])
    first = table(path, "image").scan()
    marks = picture.stat()
    picture.write_bytes(b"new")
    os.utime(picture, ns=(marks.st_atime_ns, marks.st_mtime_ns))
    assert table(path, "image").scan(previous=first.items).items.equals(first.items)
    assert not table(path, "image").scan(previous=first.items, rehash=True).items.equals(first.items)


def test_bytes_and_hugging_face_structs_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.jpg").write_bytes(b"C")
    rows = [
        {"image": {"bytes": b"A", "path": "ignored.jpg"}, "label": 0, "raw": b"1"},
        {"image": {"bytes": None, "path": "c.jpg"}, "label": 1, "raw": b"2"},
        {"image": None, "label": 2, "raw": None},
    ]
    source = table(written(tmp_path / "t.parquet", rows), "image")
    scan = source.scan()
    assert contents(source, scan) == [b"A", b"C"]
    assert scan.items.column_names[6:] == ["label"]
    assert codes(scan) == [("row 3", "null_image")]
    assert "'raw' holds bytes" in scan.warnings[0]
    source = table(written(tmp_path / "t.arrow", [{"image": b"A"}, {"image": b"B"}]), "image")
    assert contents(source, source.scan()) == [b"A", b"B"]


def test_options_of_the_other_modality_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="for text models"):
        table(path, "image", text_columns=("text",))
    with pytest.raises(UsageError, match="for image models"):
        table(path, image_column="text")
    with pytest.raises(UsageError, match="needs a folder"):
        table(path, label_from="folder")
    with pytest.raises(SettingsError, match="--image-column"):
        table(path, "image")
    with pytest.raises(SettingsError, match="holds bytes, not text"):
        table(written(tmp_path / "t.parquet", [{"text": b"x"}]))


# ── files ──


def test_columnar_tables_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    written(tmp_path / "t.parquet").rename(tmp_path / "data.bin")
    assert table(tmp_path / "data.bin").kind == "parquet"
    written(tmp_path / "t.feather").rename(tmp_path / "data")
    assert table(tmp_path / "data").kind == "arrow"
    (tmp_path / "data.xlsx").write_bytes(b"PK\3\4")
    with pytest.raises(UsageError, match="not a table featstore reads"):
        table(tmp_path / "data.xlsx")
    with pytest.raises(NotFoundError):
        table(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_damaged_columnar_table_is_a_clear_error(tmp_path: Path, name: str, keep: float) -> None:
    path = written(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else len(content) * keep)])
    with pytest.raises(UsageError) as caught:
        table(path).scan()
    assert name in str(caught.value)


def test_an_empty_table_has_no_items(tmp_path: Path) -> None:
    empty = pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("text,n\n")
    for name in ("t.parquet", "t.csv"):
        scan = table(tmp_path / name).scan()
        assert scan.items.num_rows == 0
        assert "item_id" in scan.items.column_names


def test_dictionaries_and_views_are_read(tmp_path: Path) -> None:
    whole = pa.table(
        {
            "text": pa.array(["a", "b", "a"]).dictionary_encode(),
            "id": pa.array([1, 2, 3]),
            "k": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    pq.write_table(whole, tmp_path / "t.parquet")
    source = table(tmp_path / "t.parquet", id_column="id", text_columns=("text",))
    scan = source.scan()
    assert contents(source, scan) == ["a", "b", "a"]
    assert scan.items["k"].type == pa.string()


@pytest.mark.parametrize("name", FORMATS)
def test_limit_stops_early(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    full = table(path, id_column="id").scan()
    part = table(path, id_column="id").scan(limit=2)
    assert part.items["item_id"].to_pylist() == ["007", "010"]
    assert table(path, id_column="id").scan(previous=full.items, limit=2).items.num_rows == 2
    assert table(path, id_column="id").scan(previous=part.items).items.num_rows == 3
