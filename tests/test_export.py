"""Export: what is written reads back as what was stored, says where it comes from, and is whole or not there."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_world import inside
from numpy.typing import NDArray
from safetensors import safe_open
from stores import damage, fresh

import featstore
from featstore.errors import IntegrityError, NotFoundError, StorageError, UsageError
from featstore.store import Store, Table
from featstore.tables import FeatureTable

DIM = 384  # minilm's
FIRST = dt.datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=dt.UTC)
FORMATS = ("parquet", "csv", "npz", "safetensors")


def _write(
    store: Store, rows: int, *, start: int = 0, run: str = "run1", parts: int = 3, created: dt.datetime = FIRST,
    name: str = "things", **columns: object,
) -> tuple[Table, NDArray[np.float32]]:  # fmt: skip
    """Commits rows with made-up vectors to a table in minilm's space."""
    space = next(card.space_id for card in store.models() if card.modality == "text")
    x = np.random.default_rng(start).standard_normal((rows, DIM), np.float32)
    table = FeatureTable.staging(store.layout, name, space, DIM)
    aligned = table.align(
        pa.table(
            {
                "item_id": [f"ordner/ö {i:05d}" for i in range(start, start + rows)],
                "content_sha256": [f"{i:064x}" for i in range(start, start + rows)],
                **columns,
                "created_ts": pa.array([created] * rows, pa.timestamp("us", "UTC")),
                "run_id": [run] * rows,
            }
        )
    )
    cuts = np.linspace(0, rows, parts + 1).astype(int)
    files = [
        table.write_part(run, part, aligned.slice(a, b - a), x[a:b])
        for part, (a, b) in enumerate(itertools.pairwise(cuts))
    ]
    table.commit(run_id=run, add=files)
    return store.table(name), x


def _rich(store: Store, rows: int = 60) -> tuple[Table, NDArray[np.float32]]:
    """A table with every kind of column, nulls in most."""
    return _write(
        store,
        rows,
        label=[None if i % 5 == 4 else ("cat", 'd"og,\n', "", "=1+1")[i % 4] for i in range(rows)],
        price=[None if i % 7 == 3 else i for i in range(rows)],
        weight=[None if i % 6 == 1 else i / 8 for i in range(rows)],
        good=[None if i % 9 == 2 else bool(i % 2) for i in range(rows)],
        raw=[None if i % 8 == 5 else bytes([i, 0]) for i in range(rows)],
        day=[None if i % 3 == 2 else dt.date(2026, 1, 1) + dt.timedelta(i) for i in range(rows)],
        exact=[decimal.Decimal(i) / 4 for i in range(rows)],
        event_ts=pa.array(
            [None if i % 4 == 3 else FIRST - dt.timedelta(hours=i) for i in range(rows)], pa.timestamp("us", "UTC")
        ),
    )  # fmt: skip


@pytest.fixture
def store(model_store: Path, tmp_path: Path) -> Store:
    return fresh(model_store, tmp_path)


def _read(file: Path, form: str) -> tuple[list[str], NDArray[np.float32]]:
    """Ids and vectors, by the reader that people use for the format."""
    if form == "parquet":
        table = pq.read_table(file)
        return table["item_id"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)
    if form == "csv":
        frame = pd.read_csv(file, dtype={f"embedding_{i}": "float32" for i in range(DIM)})
        return frame["item_id"].tolist(), frame[[f"embedding_{i}" for i in range(DIM)]].to_numpy()
    if form == "npz":
        with np.load(file) as arrays:
            return arrays["item_id"].tolist(), arrays["embedding"]
    with safe_open(file, "numpy") as tensors:
        data, ends = tensors.get_tensor("item_id").tobytes(), tensors.get_tensor("item_id.offsets").tolist()
        return [data[a:b].decode() for a, b in itertools.pairwise(ends)], tensors.get_tensor("embedding")


def _origin(file: Path, form: str) -> dict[str, object]:
    if form == "parquet":
        return json.loads((pq.read_schema(file).metadata or {})[b"featstore"])
    if form == "csv":
        return json.loads(file.with_name(f"{file.name}.json").read_text("utf-8"))
    if form == "npz":
        with np.load(file) as arrays:
            return json.loads(str(arrays["featstore"]))
    with safe_open(file, "numpy") as tensors:
        return json.loads(tensors.metadata()["featstore"])


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_reads_back_bit_for_bit(store: Store, tmp_path: Path, form: str) -> None:
    table, x = _rich(store)
    done = table.export(tmp_path / f"out.{form}")
    ids, vectors = _read(tmp_path / f"out.{form}", form)
    assert (done.rows, done.items, done.format, done.missing) == (60, 60, form, 0)
    assert ids == [f"ordner/ö {i:05d}" for i in range(60)]
    assert vectors.dtype == np.float32
    assert vectors.tobytes() == x.tobytes()
    origin = _origin(tmp_path / f"out.{form}", form)
    assert (origin["space_id"], origin["version"]) == (table.space_id, 0)
    assert (origin["digest"], origin["rows"]) == (table.card.digest, 60)
    again = table.export(tmp_path / f"again.{form}")
    assert again.sha256 == done.sha256


def test_parquet_keeps_every_column_for_every_reader(store: Store, tmp_path: Path) -> None:
    table, _ = _rich(store)
    table.export(tmp_path / "out.parquet")
    whole = table.to_polars()
    read = pl.read_parquet(tmp_path / "out.parquet")
    assert read.columns == ["item_id", *(c for c in whole.columns if c not in ("item_id", "embedding")), "embedding"]
    assert read.select(whole.columns).equals(whole)
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["price"].isna().sum() == whole["price"].null_count()
    assert np.stack(frame["embedding"]).shape == (60, DIM)


def test_csv_keeps_nulls_texts_and_times_apart(store: Store, tmp_path: Path) -> None:
    table, _ = _rich(store)
    table.export(tmp_path / "out.csv", columns=["label", "price", "raw", "day", "event_ts", "exact", "good"])
    whole = table.to_polars()
    read = pl.read_csv(tmp_path / "out.csv", try_parse_dates=True)
    assert read.columns[:3] == ["item_id", "label", "price"]
    assert read["price"].equals(whole["price"])
    assert read["event_ts"].cast(pl.Datetime("us", "UTC")).equals(whole["event_ts"])
    assert read["day"].equals(whole["day"])
    text = pa.csv.read_csv(
        tmp_path / "out.csv",
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False, column_types={"raw": pa.string()}
        ),
    )
    assert text["label"].to_pylist() == whole["label"].to_list()
    assert text["raw"].to_pylist() == [None if v is None else v.hex() for v in whole["raw"]]
    side = json.loads((tmp_path / "out.csv.json").read_text())
    from featstore.storage import hashing

    assert side["sha256"] == hashing.of_file(tmp_path / "out.csv")


def test_arrays_carry_named_columns_and_where_they_are_null(store: Store, tmp_path: Path) -> None:
    table, _ = _rich(store)
    whole = table.to_polars()
    names = ["label", "price", "weight", "good", "raw", "day", "event_ts", "exact"]
    table.export(tmp_path / "out.npz", columns=names)
    with np.load(tmp_path / "out.npz") as arrays:
        assert "exact.null" not in arrays
        for name in names:
            null = arrays[f"{name}.null"] if f"{name}.null" in arrays else np.zeros(60, bool)
            assert null.tolist() == whole[name].is_null().to_list(), name
            for row in np.flatnonzero(~null):
                stored, read = whole[name][int(row)], arrays[name][row]
                expected = {
                    "raw": lambda v: v.hex(),
                    "exact": str,
                    "event_ts": lambda v: np.datetime64(v.replace(tzinfo=None)),
                }
                assert read == expected.get(name, lambda v: v)(stored), name
    table.export(tmp_path / "out.safetensors", columns=names)
    with safe_open(tmp_path / "out.safetensors", "numpy") as tensors:
        null = tensors.get_tensor("price.null")
        assert tensors.get_tensor("price")[~null].tolist() == whole["price"].drop_nulls().to_list()
        data, ends = tensors.get_tensor("raw").tobytes(), tensors.get_tensor("raw.offsets").tolist()
        texts = [data[a:b] for a, b in itertools.pairwise(ends)]
        assert texts == [v or b"" for v in whole["raw"]]
        first = whole["event_ts"][0]
        assert dt.datetime.fromtimestamp(tensors.get_tensor("event_ts")[0] / 1e6, dt.UTC) == first


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows_make_a_file_without_rows(store: Store, tmp_path: Path, form: str) -> None:
    table, _ = _rich(store)
    assert table.export(tmp_path / f"out.{form}", where="price < 0", columns=["label", "price"]).rows == 0
    ids, vectors = _read(tmp_path / f"out.{form}", form)
    assert ids == []
    assert vectors.size == 0
    assert _origin(tmp_path / f"out.{form}", form)["where"] == "price < 0"


@pytest.mark.parametrize(
    "where",
    [
        "label = 'cat'",
        "price > 30 AND good",
        "price > avg(price)",
        "event_ts < DATE '2026-05-03'",
        "event_ts < '2026-05-03 00:00:00+00:00'::timestamptz",
        "label IS NULL OR price IN (1, 2, 3)",
        "1 = 1",
        "item_id LIKE '%0005_'",
    ],
)
def test_where_takes_the_rows_that_polars_takes(store: Store, tmp_path: Path, where: str) -> None:
    table, x = _rich(store)
    done = table.export(tmp_path / "out.parquet", where=where)
    frame = table.to_polars().with_row_index().filter(pl.sql_expr(where).fill_null(False))
    assert done.rows == frame.height > 0
    ids, vectors = _read(tmp_path / "out.parquet", "parquet")
    assert ids == frame["item_id"].to_list()
    assert vectors.tobytes() == x[frame["index"].to_numpy()].tobytes()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lable = 'cat'", "Did you mean 'label'?"),
        ('label = "cat"', "no column 'cat'"),
        ("label =", "no SQL expression"),
        ("", "no SQL expression"),
        ("price + 1", "not true or false"),
        ("label > 3", "does not fit"),
        ("nothing(price)", "no SQL expression"),
        ("embedding IS NULL", "reads the vectors"),
        ("item_id IN (SELECT * FROM read_csv('/etc/passwd'))", "SELECT"),
        ("price > 1; DROP TABLE x", "no SQL expression"),
        ("regexp_like(label, '[')", "does not fit"),
        ("_row > 1", "no column '_row'"),
        ("event_ts < '2026-05-03'", "does not fit"),
    ],
)
def test_a_wrong_where_is_explained_and_nothing_is_written(
    store: Store, tmp_path: Path, where: str, message: str
) -> None:
    table, _ = _rich(store)
    with pytest.raises(UsageError) as caught:
        table.export(tmp_path / "out.parquet", where=where)
    assert message in caught.value.message
    assert not (tmp_path / "out.parquet").exists()


def test_ids_pick_rows_and_missing_ones_are_an_error(store: Store, tmp_path: Path) -> None:
    table, x = _rich(store)
    wanted = ["ordner/ö 00041", "ordner/ö 00003", "ordner/ö 00003"]
    assert table.export(tmp_path / "out.npz", ids=wanted).rows == 2
    ids, vectors = _read(tmp_path / "out.npz", "npz")
    assert ids == sorted(set(wanted))
    assert vectors.tobytes() == x[[3, 41]].tobytes()
    with pytest.raises(NotFoundError, match="2 of 3 ids") as caught:
        table.export(tmp_path / "none.npz", ids=[*wanted[:1], "nix", "nada"])
    assert "'nada', 'nix'" in caught.value.message
    assert "--allow-missing" in (caught.value.hint or "")
    assert not (tmp_path / "none.npz").exists()
    done = table.export(tmp_path / "some.npz", ids=[*wanted[:1], "nix"], allow_missing=True)
    assert (done.rows, done.missing, done.missing_ids) == (1, 1, ("nix",))
    with pytest.raises(UsageError, match="texts"):
        table.export(tmp_path / "none.npz", ids=[3])  # type: ignore[list-item]


def test_as_of_takes_the_version_of_that_time_and_no_later_rows(store: Store, tmp_path: Path) -> None:
    far = FIRST + dt.timedelta(days=36500)
    _write(store, 10, parts=1, event_ts=pa.array([None] * 9 + [far], pa.timestamp("us", "UTC")))
    between = dt.datetime.fromisoformat(store.table("things").history()[0].timestamp) + dt.timedelta(milliseconds=2)
    while dt.datetime.now(dt.UTC) < between + dt.timedelta(milliseconds=5):
        pass
    _write(store, 5, start=10, run="run2", parts=1)
    done = store.export("things", tmp_path / "then.npz", as_of=between.isoformat())
    assert (done.version, done.rows, done.items) == (0, 9, 10)  # without the one of the future
    assert store.export("things", tmp_path / "now.npz", as_of=dt.datetime.now(dt.UTC)).rows == 14
    assert store.export("things", tmp_path / "all.npz").rows == 15
    assert store.export("things:0", tmp_path / "old.npz").rows == 10
    assert _origin(tmp_path / "then.npz", "npz")["as_of"] == between.isoformat().replace("+00:00", "Z")
    with pytest.raises(NotFoundError, match="no version yet"):
        store.export("things", tmp_path / "x.npz", as_of="2020-01-01")
    with pytest.raises(UsageError, match="names a version"):
        store.export("things:0", tmp_path / "x.npz", as_of="2030-01-01")
    with pytest.raises(UsageError, match="is no time"):
        store.export("things", tmp_path / "x.npz", as_of="yesterday")
    # created_ts counts as well: a clock that ran ahead does not let rows in
    _write(store, 1, start=20, run="run3", parts=1, created=far)
    assert store.export("things", tmp_path / "now.npz", as_of=dt.datetime.now(dt.UTC)).rows == 14


def test_a_version_that_gc_has_removed_is_said_to_be_gone(store: Store, tmp_path: Path) -> None:
    for run in range(4):
        _write(store, 4, start=4 * run, run=f"run{run}", parts=1)
    store.table("things").features.compact("c1")
    store.table("things").features.vacuum([], 0.0)
    with pytest.raises(NotFoundError, match="no longer kept"):
        store.export("things:2", tmp_path / "x.npz")
    assert store.export("things", tmp_path / "x.npz").rows == 16


def test_columns_are_chosen_and_unknown_ones_named(store: Store, tmp_path: Path) -> None:
    table, _ = _rich(store)
    table.export(tmp_path / "out.parquet", columns=["price", "item_id", "label", "price"])
    assert pq.read_schema(tmp_path / "out.parquet").names == ["item_id", "price", "label", "embedding"]
    with pytest.raises(NotFoundError, match="Did you mean 'label'"):
        table.export(tmp_path / "out.parquet", columns=["lable"])


def test_columns_that_a_format_cannot_hold_are_refused(store: Store, tmp_path: Path) -> None:
    table, _ = _write(store, 3, parts=1, long=["a" * 1001, "b", "c"], nul=["a\0", "b", "c"], embedding_7=[1, 2, 3])
    for name, message in (("long", "1,001 characters"), ("nul", "NUL")):
        with pytest.raises(UsageError, match=message):
            table.export(tmp_path / "out.npz", columns=[name])
    with pytest.raises(UsageError, match="embedding_7"):
        table.export(tmp_path / "out.csv")
    assert list(tmp_path.glob("*out*")) == []
    table.export(tmp_path / "out.safetensors", columns=["long", "nul"])
    other, _ = _write(store, 2, parts=1, name="others", price=[None, 1], **{"price.null": [True, True]})
    for form in ("npz", "safetensors"):
        with pytest.raises(UsageError, match=r"price\.null"):
            other.export(tmp_path / f"out2.{form}", columns=["price", "price.null"])


def test_places_and_formats_that_cannot_be(store: Store, tmp_path: Path) -> None:
    table, _ = _rich(store)
    for output, form, message in (
        ("out.xlsx", None, "which format"),
        ("out", None, "which format"),
        ("out.csv", "xlsx", "no format 'xlsx'"),
        (".", "csv", "is a folder"),
        (store.path / "out.csv", None, "within the store"),
    ):
        with pytest.raises(UsageError, match=message):
            table.export(tmp_path / output, format=form)
    table.export(tmp_path / "deep" / "er" / "out.bin", format="npz")
    assert _read(tmp_path / "deep" / "er" / "out.bin", "npz")[0]


@pytest.mark.parametrize("form", FORMATS)
def test_damage_leaves_the_file_that_was_there(store: Store, tmp_path: Path, form: str) -> None:
    table, _ = _rich(store)
    target = tmp_path / f"out.{form}"
    target.write_text("before")
    damage(table.path / table.features.files[-1], "flip", bit=8 * 3000)
    with pytest.raises(IntegrityError):
        store.table("things").export(target)
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if p.name != "store"] == [target.name]


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_the_file_that_was_there(store: Store, tmp_path: Path, form: str) -> None:
    _rich(store)
    target = tmp_path / f"out.{form}"
    target.write_text("before")
    # a real limit of the file size, in a process of its own
    program = (
        "import resource, signal, sys, featstore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "table = featstore.open(sys.argv[1]).table('things')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: table.export(sys.argv[2])\n"
        "except featstore.FeatstoreError as error: print(type(error).__name__, error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.path), str(target)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == f"{StorageError.__name__} 7", done.stderr
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if p.name != "store"] == [target.name]


def test_another_engines_file_is_written_out_all_the_same(store: Store, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    table, x = _rich(store)
    DeltaTable(table.path).optimize.compact()
    done = store.table("things").export(tmp_path / "out.npz", where="price >= 0")
    ids, vectors = _read(tmp_path / "out.npz", "npz")
    rows = [int(name[-5:]) for name in ids]
    assert done.rows == len(rows) == 51
    assert vectors.tobytes() == x[rows].tobytes()


def test_blocks_bound_the_memory(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from featstore.export import selection
    from featstore.tables import writer

    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 40_000)
    table, x = _write(store, 400, parts=2)
    monkeypatch.setattr(selection, "_BLOCK_BYTES", 100_000)
    found = selection.select(store.layout, table.features, selection.Selection())
    sizes = [vectors.nbytes for _, vectors in found.blocks()]
    assert len(sizes) >= 4
    assert max(sizes) < 150_000
    for form in FORMATS:
        table.export(tmp_path / f"out.{form}")
        assert _read(tmp_path / f"out.{form}", form)[1].tobytes() == x.tobytes()


def test_the_command_says_what_it_wrote(store: Store, tmp_path: Path) -> None:
    _rich(store)
    (tmp_path / "ids.txt").write_bytes("\ufeffordner/ö 00001\r\n\r\nordner/ö 00002\nnix\n".encode())
    done = inside("export", "things", "-o", "o.parquet", "--ids", "ids.txt", "--store", "store", cwd=tmp_path)
    assert done.code == 2
    assert "1 of 3 ids" in done.err
    arguments = ["export", "things", "-o", "o.parquet", "--ids", "ids.txt", "--allow-missing", "--store", "store"]
    done = inside(*arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "2 of 60 items" in done.out
    assert "nix" in done.out
    done = inside(*arguments, "--columns", "label, price", "--where", "price = 1", "--json", cwd=tmp_path)
    assert done.json["rows"] == 1
    assert done.json["columns"] == ["item_id", "label", "price", "embedding"]
    assert Path(done.json["path"]) == tmp_path / "o.parquet"
    for arguments, message in (
        (["--ids", "absent.txt"], "no such file"),
        (["--where", "x = 1"], "no column 'x'"),
        (["--as-of", "2001-01-01"], "no version yet"),
    ):
        done = inside("export", "things", "-o", "o.csv", "--store", "store", *arguments, cwd=tmp_path)
        assert done.code == 2
        assert message in done.err
    (tmp_path / "ids.txt").write_bytes(b"\xff\n")
    done = inside("export", "things", "-o", "o.csv", "--store", "store", "--ids", "ids.txt", cwd=tmp_path)
    assert (done.code, "not UTF-8" in done.err) == (2, True)
    assert inside("export", "nothing", "-o", "o.csv", "--store", "store", cwd=tmp_path).code == 2


def test_a_real_table_keeps_its_vectors(store: Store, texts_csv: Path, tmp_path: Path) -> None:
    table = store.extract(texts_csv, model="minilm", text_column="text", id_column="id", device="cpu")
    store.export("sentences", tmp_path / "out.npz", columns=["topic"])
    ids, matrix = table.matrix()
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["item_id"].tolist() == ids.tolist()
        assert arrays["embedding"].tobytes() == matrix.tobytes()
        assert set(arrays["topic"].tolist()) == {"cats", "money", "food", "code"}
    assert (
        featstore.open(store.path).table("sentences").card.space_id == _origin(tmp_path / "out.npz", "npz")["space_id"]
    )
