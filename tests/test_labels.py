"""Labels: from columns and files, joined, counted, turned into a task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from train_world import add_table, blobs, store_at

from featstore.errors import NotFoundError, UsageError
from featstore.labels import from_file, from_table, truth_of
from featstore.tables import FeatureTable


def _table(folder: Path, n: int = 6, **columns: object) -> FeatureTable:
    return add_table(store_at(folder), blobs(n)[0], **columns)


def test_a_column_gives_one_label_a_row_and_white_space_none(tmp_path: Path) -> None:
    table = _table(tmp_path, label=["a", "b", None, "  ", "", "a"])
    labels = from_table(table, "label")
    assert labels.values == ["a", "b", None, None, None, "a"]
    assert labels.labelled == 3
    assert labels.source == "label"


def test_nan_is_no_label_and_infinity_is_refused(tmp_path: Path) -> None:
    table = _table(tmp_path, price=[1.5, float("nan"), 2.5, 3.0, float("inf"), 4.0])
    values = from_table(table, "price").values
    assert values[1] is None
    with pytest.raises(UsageError, match="1 labels are infinite"):
        truth_of(values)


def test_numbers_that_no_head_could_compute_with_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the largest label is -2e\+300; heads take numbers up to 1e\+30"):
        truth_of([1.5, -2e300, 3.0])


def test_labels_that_all_items_have_teach_nothing() -> None:
    with pytest.raises(UsageError, match=r"all 3 items have the same labels \('a', 'b'\)"):
        truth_of(["a|b", "b|a", "a|b"], task="multilabel")


def test_nan_beside_texts_in_json_lines_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"id": "item00000", "label": NaN}\n{"id": "item00001", "label": "a"}\n')
    assert from_file(tmp_path / "labels.jsonl", _table(tmp_path)).values[:2] == [None, "a"]


def test_a_missing_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="label") as caught:
        from_table(_table(tmp_path, label=["a"] * 6), "lable")
    assert "Did you mean 'label'" in caught.value.message
    with pytest.raises(UsageError, match="tells items apart"):
        from_table(_table(tmp_path / "other", label=["a"] * 6), "item_id")


def test_a_csv_with_all_that_csv_has(tmp_path: Path) -> None:
    """A BOM, mixed line ends, formulas, a million characters in one cell, ids that are not there."""
    table = _table(tmp_path)
    long = "x" * 1_000_000
    file = tmp_path / "labels.csv"
    file.write_bytes(
        b"\xef\xbb\xbfitem_id,note,label\r\n"
        b'item00000,"=cmd|\' /C calc\'!A0","=SUM(A1:A9)"\n'
        b'item00001,"two\nlines",@b\r\n' + f"item00002,{long},-c\n".encode() + b"item00003,,\n"
        b"nobody,,x\rsomebody,,x\n"
    )
    labels = from_file(file, table)
    assert labels.values == ["=SUM(A1:A9)", "@b", "-c", None, None, None]
    assert (labels.unknown, labels.unknown_ids) == (2, ("nobody", "somebody"))
    assert "2 ids in labels.csv are not in the table: 'nobody', 'somebody'" in labels.warnings()


def test_only_the_first_five_unknown_ids_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("id,label\n" + "".join(f"no{at},x\n" for at in range(9)) + "item00000,a\n")
    labels = from_file(file, _table(tmp_path))
    assert labels.unknown == 9
    assert labels.unknown_ids == tuple(f"no{at}" for at in range(5))
    assert labels.warnings()[0].endswith("'no4', …")


def test_conflicting_labels_are_counted_and_left_out_and_repeated_ones_are_not(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("item_id,label\nitem00000,a\nitem00000,b\nitem00001,a\nitem00001,a\nitem00002,\nitem00002,c\n")
    labels = from_file(file, _table(tmp_path))
    assert labels.values == [None, "a", "c", None, None, None]
    assert (labels.conflicts, labels.conflicting, labels.repeated) == (1, ("item00000",), 1)


def test_items_are_found_by_path(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    ids = ["cats/a.jpg", "cats/b.jpg", "dogs/c.jpg"]
    table = add_table(store_at(tmp_path), blobs(3)[0], ids=ids)
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\n{pictures}/cats/a.jpg,x\npictures/cats/b.jpg,y\n./dogs/c.jpg,z\n")
    assert from_file(file, table, root=str(pictures)).values == ["x", "y", "z"]


def test_chunks_are_labelled_by_their_text(tmp_path: Path) -> None:
    ids = ["t1#0", "t1#1", "t2#0", "t3#0"]
    table = add_table(store_at(tmp_path), blobs(4)[0], ids=ids, parent=["t1", "t1", "t2", "t3"])
    file = tmp_path / "labels.jsonl"
    file.write_text('{"id": "t1", "label": "x"}\n{"id": "t2#0", "label": "y"}\n')
    assert from_file(file, table).values == ["x", "x", "y", None]


def test_numbers_in_a_csv_are_numbers_and_codes_are_text(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("item_id,label,zip,price\nitem00000,1,01234,1.5\nitem00001,,90210,2\nitem00002,3,00001,2.5\n")
    table = _table(tmp_path)
    assert from_file(file, table).values[:3] == [1, None, 3]
    assert from_file(file, table, "zip").values[:3] == ["01234", "90210", "00001"]
    assert from_file(file, table, "price").values[:3] == [1.5, 2.0, 2.5]


def test_parquet_and_json_lines_with_lists(tmp_path: Path) -> None:
    table = _table(tmp_path)
    ids, lists = ["item00000", "item00001"], [["b", "a"], []]
    pq.write_table(pa.table({"item_id": ids, "label": lists}), tmp_path / "labels.parquet")
    (tmp_path / "labels.jsonl").write_text(
        "".join(json.dumps({"item_id": i, "label": v}) + "\n" for i, v in zip(ids, lists, strict=True))
    )
    for name in ("labels.parquet", "labels.jsonl"):
        truth = truth_of(from_file(tmp_path / name, table).values)
        assert (truth.task, truth.classes) == ("multilabel", ("a", "b")), name
        assert truth.values.tolist() == [[True, True], [False, False]], name


def test_white_space_in_a_csv_is_no_label_and_nan_none_among_numbers(tmp_path: Path) -> None:
    table = _table(tmp_path)
    file = tmp_path / "labels.csv"
    file.write_text("item_id,label,price,word\nitem00000,a,1.5,nan\nitem00001,  ,NaN,b\nitem00002,b,2.5,c\n")
    assert from_file(file, table).values[:3] == ["a", None, "b"]
    assert from_file(file, table, "price").values[:3] == [1.5, None, 2.5]
    assert from_file(file, table, "word").values[:3] == ["nan", "b", "c"]
    with pytest.raises(UsageError, match="'nan' is no number"):
        truth_of(["1.5", "nan", "2"], task="regression")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label\na\n", "no column names the items"),
        ("item_id,other\nitem00000,a\n", "there is no column 'label'"),
        ("item_id,label\nnobody,a\n", "none of its 1 ids is in the table"),
        ("item_id,label\nitem00000,a,b\n", "row 1: it has 3 fields"),
        ('item_id,label\nitem00000,"a\n', "never closed"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        from_file(tmp_path / "labels.csv", _table(tmp_path))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    table = _table(tmp_path)
    with pytest.raises(NotFoundError, match="no such file"):
        from_file(tmp_path / "none.csv", table)
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    with pytest.raises(UsageError, match="no kind of table"):
        from_file(tmp_path / "labels.xlsx", table)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        from_file(tmp_path / "labels.parquet", table)
    (tmp_path / "labels.csv").write_bytes(b"item_id,label\nitem00000,\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        from_file(tmp_path / "labels.csv", table)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", None, "b"], "classification", ("a", "b")),
        ([True, False, True], "classification", ("false", "true")),
        ([3, 1, 1, None], "classification", ("1", "3")),
        ([1.0, float(2), 1.0], "classification", ("1", "2")),
        ([1.5, 2.0, 3.0], "regression", ()),
        (list(range(100)), "regression", ()),
        ([at % 100 for at in range(1000)], "classification", tuple(sorted(map(str, range(100))))),
        ([at % 100 for at in range(999)], "regression", ()),
        (['["x"]', '["y", "x"]'], "multilabel", ("x", "y")),
        (['["x"]', "plain"], "classification", ('["x"]', "plain")),
    ],
)
def test_the_task_follows_from_the_labels(values: list[object], task: str, classes: tuple[str, ...]) -> None:
    truth = truth_of(values)
    assert (truth.task, truth.classes) == (task, classes)
    assert truth.labelled.tolist() == [value is not None for value in values]
    assert len(truth.values) == truth.labelled.sum()


def test_a_task_that_is_asked_for(tmp_path: Path) -> None:
    assert truth_of([1.5, 2.5, 1.5], task="classification").classes == ("1.5", "2.5")
    several = truth_of(["a|b", "b", "c|a "], task="multilabel")
    assert several.classes == ("a", "b", "c")
    assert several.values.tolist() == [[True, True, False], [False, True, False], [True, False, True]]
    assert truth_of(["a;b,c"], task="multilabel").classes == ("a", "b,c")
    assert truth_of(["a;b,c"], task="multilabel", separator=",").classes == ("a;b", "c")
    assert truth_of([1, 2, 3], task="regression").values.dtype == np.float64
    with pytest.raises(UsageError, match="'many' is no number"):
        truth_of([1, "many"], task="regression")
    with pytest.raises(UsageError, match="nothing to learn"):
        truth_of([2.5, 2.5])
    with pytest.raises(UsageError, match="none of 2 items"):
        truth_of([None, None])


def test_classes_that_a_person_would_read_as_one_are_told() -> None:
    assert truth_of(["Cat", "cat ", "dog"]).notes == ("classes that differ only in case or blanks: 'Cat' and 'cat '",)
