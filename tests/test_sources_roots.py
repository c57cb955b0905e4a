"""Where the pictures of a table lie, and tables of several pictures a product."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_world import run
from stores import fresh, vectors, write_texts

from featstore.errors import ItemError, NotFoundError, SettingsError, UsageError
from featstore.sources import Scan, Source, SourceOptions, open_source


def table(path: Path, modality: Any = "image", **options: Any) -> Source:
    return open_source(str(path), modality=modality, options=SourceOptions(**options))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            cells = ({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
            writer.writerows(cells)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def ids(scan: Scan) -> list[str]:
    return [str(item) for item in scan.items["item_id"].to_pylist()]


def codes(scan: Scan) -> list[tuple[str, str]]:
    return [(reject.item_id, reject.code) for reject in scan.rejects]


def contents(source: Source, scan: Scan) -> list[bytes | str]:
    reader = source.reader(scan.items)
    return [reader.read(row) for row in range(scan.items.num_rows)]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "same.jpg", "same-again.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"same" if "same" in name else name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "up").symlink_to("..")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "tables").mkdir()
    return root


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_relative_paths_begin_in_the_source_root(tmp_path: Path, pictures: Path, name: str) -> None:
    good = ["a/1.jpg", "./a//2.jpg", "a/../b/1.jpg", str(pictures / "same.jpg")]
    bad = ["../secret.jpg", "up/secret.jpg", "out.jpg", str(tmp_path / "secret.jpg"), "/etc/passwd"]
    rows = [{"id": f"i{n}", "image": path} for n, path in enumerate([*good, *bad, "gone.jpg"])]
    path = written(tmp_path / "tables" / name, rows)
    source = table(path, id_column="id", source_root=str(pictures))
    scan = source.scan()
    assert ids(scan) == ["i0", "i1", "i2", "i3"]
    assert contents(source, scan) == [b"a/1.jpg", b"a/2.jpg", b"b/1.jpg", b"same"]
    assert codes(scan) == [(f"i{n}", "outside_root") for n in range(4, 9)] + [("i9", "unreadable")]
    assert "--source-root" in scan.rejects[0].message
    # without it they begin beside the table
    assert {code for _, code in codes(table(path, id_column="id").scan())} == {"outside_root", "unreadable"}


def test_a_root_that_does_not_fit_is_refused(tmp_path: Path, pictures: Path, texts_csv: Path) -> None:
    path = written(tmp_path / "t.csv", [{"id": "1", "image": "a/1.jpg"}])
    with pytest.raises(NotFoundError, match="--source-root"):
        table(path, source_root=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="--source-root"):
        table(texts_csv, "text", source_root=str(pictures))
    with pytest.raises(UsageError, match="--source-root"):
        table(pictures, source_root=str(tmp_path))


# ── several pictures a product ──


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_list_of_paths_becomes_an_item_each(tmp_path: Path, pictures: Path, name: str) -> None:
    rows = [
        {"sku": "A", "image": ["a/1.jpg", "a/2.jpg"], "price": 1},
        {"sku": "B", "image": ["b/1.jpg"], "price": 2},
        {"sku": "C", "image": [], "price": 3},
        {"sku": "D", "image": ["same.jpg", None, "gone.jpg", "../secret.jpg"], "price": 4},
    ]
    path = written(tmp_path / "tables" / name, rows)
    source = table(path, id_column="sku", source_root=str(pictures))
    scan = source.scan()
    assert ids(scan) == ["A#0", "A#1", "B#0", "D#0"]
    assert scan.items["group"].to_pylist() == ["A", "A", "B", "D"]
    assert scan.items["price"].to_pylist() == [1, 1, 2, 4]
    assert contents(source, scan) == [b"a/1.jpg", b"a/2.jpg", b"b/1.jpg", b"same"]
    wanted = [("C#0", "null_image"), ("D#1", "null_image"), ("D#2", "unreadable"), ("D#3", "outside_root")]
    assert sorted(codes(scan)) == wanted
    assert "image" not in scan.items.column_names
    with pytest.raises(SettingsError, match="--id-column"):
        table(path, source_root=str(pictures)).scan()
    named = table(path, id_column="sku", group_column="price", source_root=str(pictures)).scan()
    assert named.items["group"].to_pylist() == [1, 1, 2, 4]
    paths = table(path, group_column="sku", source_root=str(pictures)).scan()
    assert ids(paths) == ["a/1.jpg", "a/2.jpg", "b/1.jpg", "same.jpg"]
    assert paths.items["group"].to_pylist() == ["A", "A", "B", "D"]


def test_a_list_of_bytes_is_found_again(tmp_path: Path) -> None:
    struct = [{"bytes": b"x0", "path": None}, {"bytes": b"x1", "path": None}]
    rows = [{"id": n, "image": [b"%d-%d" % (n, k) for k in range(n)], "other": [b"kept out"]} for n in range(1, 5)]
    path = written(tmp_path / "t.parquet", rows)
    source = table(path, id_column="id")
    scan = source.scan()
    assert ids(scan) == [f"{n}#{k}" for n in range(1, 5) for k in range(n)]
    assert contents(source, scan) == [b"%d-%d" % (n, k) for n in range(1, 5) for k in range(n)]
    assert scan.warnings == ("the column 'other' holds bytes and is not kept as metadata",)
    calls: list[object] = []
    again = table(path, id_column="id").scan(previous=scan.items, progress=lambda *now: calls.append(now))
    assert again.items.equals(scan.items)
    assert again.warnings == scan.warnings
    assert not calls
    reader = source.reader(scan.items)
    written(path, [{"id": n, "image": [b"other"], "other": [b"x"]} for n in range(1, 5)])
    for row in (0, 5):
        with pytest.raises(ItemError) as caught:
            table(path, id_column="id").reader(scan.items).read(row)
        assert caught.value.code == "changed_during_run"
    del reader
    nested = table(written(tmp_path / "s.parquet", [{"id": "h", "image": struct}]), id_column="id")
    assert contents(nested, nested.scan()) == [b"x0", b"x1"]


def test_a_file_may_be_called_like_a_list(tmp_path: Path) -> None:
    for name in ("[1].jpg", "[2]"):
        (tmp_path / name).write_bytes(name.encode())
    path = written(tmp_path / "t.csv", [{"id": "a", "image": "[1].jpg"}, {"id": "b", "image": "[2]"}])
    assert ids(table(path, id_column="id").scan()) == ["a", "b"]


def test_pictures_of_groups_without_ids_are_called_by_their_paths(tmp_path: Path, pictures: Path) -> None:
    rows = [
        {"product": "P1", "image": "a/1.jpg"},
        {"product": "P1", "image": "same.jpg"},
        {"product": "P2", "image": "same-again.jpg"},
        {"product": "P2", "image": "./a/1.jpg"},
        {"product": "P1", "image": "same.jpg"},
        {"product": None, "image": "b/1.jpg"},
    ]
    path = written(tmp_path / "t.jsonl", rows)
    source = table(path, group_column="product", source_root=str(pictures))
    scan = source.scan()
    assert ids(scan) == ["a/1.jpg#P1", "same.jpg", "same-again.jpg", "a/1.jpg#P2", "b/1.jpg"]
    assert scan.items["group"].to_pylist() == ["P1", "P1", "P2", "P2", None]
    assert "1 rows repeat the picture and group" in scan.warnings[0]
    assert contents(source, scan)[3] == b"a/1.jpg"
    plain = table(path, source_root=str(pictures)).scan()
    assert len(ids(plain)) == 3, "without a group the content is the id"


# ── what a row weighs ──


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_rows_size_is_its_contents(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, [{"id": str(n), "text": "ä" * n} for n in range(1, 100)])
    scan = table(path, "text", id_column="id").scan()
    assert scan.items["size"].to_pylist() == [2 * n for n in range(1, 100)]


def test_rows_of_a_large_table_share_their_shards(model_store: Path, tmp_path: Path) -> None:
    store = fresh(model_store, tmp_path)
    filler = {f"t{n}": "x" * (1 << 20) for n in range(40)}
    texts = {f"t{n}": f"short text {n}" for n in range(40)}
    path = write_texts(tmp_path / "notes.jsonl", texts, filler=filler)
    assert path.stat().st_size > 40 << 20
    table = store.extract(path, model="minilm", id_column="id", text_column="text")
    assert store.run(table.last_run.run_id).shards == 1


# ── from end to end ──


def test_extract_with_a_root_remembers_it_whatever_the_working_folder(
    model_store: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fresh(model_store, tmp_path)
    root = tmp_path / "shop"
    shutil.copytree(photos, root)
    files = sorted(os.path.relpath(path, root) for path in root.rglob("*.*"))
    rows = [{"sku": f"p{n}", "files": files[3 * n : 3 * n + 3]} for n in range(4)]
    (tmp_path / "tables").mkdir()
    path = written(tmp_path / "tables/products.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    how = {"id_column": "sku", "image_column": "files"}
    made = store.extract("tables/products.jsonl", model="efficientnet_lite0", source_root="shop", **how)
    assert (made.last_run.stored, made.last_run.rejected) == (12, 0)
    assert made.to_polars().sort("item_id")["group"].to_list() == [f"p{n // 3}" for n in range(12)]
    monkeypatch.chdir("/")
    again = store.extract(path, model="efficientnet_lite0")
    assert again.last_run.status == "nothing new"
    assert store.verify(["products"], sample=3).sampled == 3
    rows[0]["files"].reverse()
    written(path, rows)
    moved = store.extract(path, model="efficientnet_lite0")
    assert (moved.last_run.stored, moved.last_run.reused) == (0, 12)
    old, new = vectors(store.table("products:0")), vectors(moved)
    assert old["p0#0"] == new["p0#2"]
    shutil.rmtree(root)
    done = run("extract", path, "--model", "efficientnet_lite0", "--store", store.path, "--json", cwd=tmp_path)
    assert done.code == 5, "a root that is gone takes nothing away"
    assert len(store.table("products")) == 12
