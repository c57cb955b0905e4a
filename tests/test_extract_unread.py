"""What cannot be read today is tried again tomorrow, and what is stored of it stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_world import photos as pictures
from stores import fresh, vectors

from featstore.errors import RetryableError, TooManyRejectsError
from featstore.extract import run as extract_run


def table_of(path: Path, rows: dict[str, str]) -> Path:
    path.write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in rows.items()))
    return path


def during(monkeypatch: pytest.MonkeyPatch, name: str, happen) -> None:
    """Lets something happen to the source once, between the plan and the work."""
    real, done = getattr(extract_run, name), []

    def hooked(*arguments, **options):
        if not done:
            done.append(True)
            happen()
        return real(*arguments, **options)

    monkeypatch.setattr(extract_run, name, hooked)


def test_a_table_rewritten_under_the_run_loses_nothing(model_store, tmp_path, monkeypatch):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "t.csv"
    store.extract(table_of(path, {f"r{i}": f"hello {i}" for i in range(30)}), model="minilm", id_column="id")
    before = vectors(store.table("t"))
    later = {f"r{i}": f"once more {i}" for i in range(30)}
    table_of(path, later)
    during(monkeypatch, "open_run", lambda: table_of(path, {"n1": "new", "n2": "newer", **later}))
    with pytest.raises(TooManyRejectsError, match="30 of 30 items were rejected"):
        store.extract(path, model="minilm")
    assert vectors(store.table("t")) == before, "the old vectors stay while the new content cannot be read"
    again = store.extract(path, model="minilm").last_run
    assert (again.stored, again.rejected) == (32, 0)


def test_a_refusal_of_content_is_judged_the_same_in_every_run(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = pictures(tmp_path / "p", 4)
    for i in range(12):
        (source / f"bad{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([i]) * 40)
    for _ in range(3):
        with pytest.raises(TooManyRejectsError, match="12 of 16 items"):
            store.extract(source, model="efficientnet_lite0", name="p")


def test_a_file_that_was_away_is_tried_again(model_store, tmp_path, monkeypatch):
    store = fresh(model_store, tmp_path)
    source = pictures(tmp_path / "p", 3)
    one = min(source.rglob("*.jpg"))
    (source / "twin.jpg").write_bytes(one.read_bytes())
    during(monkeypatch, "open_run", lambda: one.rename(tmp_path / "away.jpg"))
    first = store.extract(source, model="efficientnet_lite0", name="p").last_run
    assert first.rejected == 2
    (tmp_path / "away.jpg").rename(one)
    assert store.extract(source, model="efficientnet_lite0", name="p").last_run.rejected == 0
    assert len(store.table("p")) == 4


def test_a_row_whose_picture_is_away_keeps_its_vector(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = pictures(tmp_path / "p", 4)
    names = sorted(file.relative_to(tmp_path).as_posix() for file in source.rglob("*.jpg"))
    table = tmp_path / "t.csv"
    table.write_text("file,label\n" + "".join(f"{name},x\n" for name in names))
    store.extract(table, model="efficientnet_lite0", name="t")
    (tmp_path / names[1]).rename(tmp_path / "away.jpg")
    run = store.extract(table, model="efficientnet_lite0", name="t").last_run
    assert (run.rejected, run.removed, len(store.table("t"))) == (1, 0, 4)


def test_a_carried_text_that_cannot_be_read_again_says_so(model_store, tmp_path, monkeypatch):
    store = fresh(model_store, tmp_path)
    for name, text in {"1": "same words", "2": "same words", "3": "other words"}.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{name}.txt").write_text(text)
    during(monkeypatch, "open_run", (tmp_path / "a" / "2.txt").unlink)
    with pytest.raises(RetryableError, match=r"the text of '2\.txt' could not be read again"):
        store.extract(tmp_path / "a", model="minilm", keep_text=True)
    assert store.extract(tmp_path / "a", model="minilm", keep_text=True).last_run.status == "committed"


def test_texts_can_be_kept_later(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = table_of(tmp_path / "t.csv", {"a": "one", "b": "two"})
    store.extract(path, model="minilm", id_column="id")
    run = store.extract(path, model="minilm", keep_text=True).last_run
    assert (run.stored, run.reused) == (0, 2)
    assert sorted(store.table("t").to_polars()["text"]) == ["one", "two"]
    assert store.extract(path, model="minilm", keep_text=True).last_run.status == "nothing new"


def test_a_parquet_file_without_its_column_is_a_reject_an_item(model_store, tmp_path, monkeypatch):
    import polars as pl

    store = fresh(model_store, tmp_path)
    path = tmp_path / "t.parquet"
    pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"]}).write_parquet(path)

    def replace() -> None:
        pl.DataFrame({"id": ["a", "b"], "words": ["one", "two"]}).write_parquet(path)
        os.utime(path, (1, 1))

    during(monkeypatch, "run_shard", replace)
    run = store.extract(path, model="minilm", id_column="id", text_column=["text"], max_reject_share=1.0).last_run
    assert run.reject_codes == {"changed_during_run": 2}


def test_large_codes_are_no_numbers(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    (tmp_path / "t.csv").write_text("id,text,g\na,one,1e400\nb,two,2e400\n")
    table = store.extract(tmp_path / "t.csv", model="minilm", id_column="id", text_column=["text"], group_column="g")
    assert sorted(table.to_polars()["group"]) == ["1e400", "2e400"]


def test_the_id_of_a_shared_picture_does_not_depend_on_the_order_of_rows(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = pictures(tmp_path / "p", 3)
    one, two, three = sorted(file.relative_to(tmp_path).as_posix() for file in source.rglob("*.jpg"))
    (tmp_path / f"{one}#g2").write_bytes((tmp_path / three).read_bytes())
    rows = [(one, "g1"), (two, "g1"), (one, "g2"), (f"{one}#g2", "g3")]
    found = []
    for number, given in enumerate((rows, rows[::-1])):
        path = tmp_path / f"t{number}.csv"
        path.write_text("file,product\n" + "".join(f"{file},{group}\n" for file, group in given))
        table = store.extract(
            path, model="efficientnet_lite0", image_column="file", group_column="product", name=f"t{number}"
        )
        found.append(dict(table.to_polars().select("item_id", "group").iter_rows()))
    assert found[0] == found[1] == {f"{one}#g1": "g1", two: "g1", f"{one}#g2": "g2", f"{one}#g2#g3": "g3"}


def test_a_sample_whose_json_breaks_keeps_its_pictures(model_store, tmp_path):
    import io
    import tarfile

    store = fresh(model_store, tmp_path)
    source = pictures(tmp_path / "p", 3)
    files = sorted(source.rglob("*.jpg"))
    tar = tmp_path / "a.tar"

    def build(note: bytes) -> None:
        with tarfile.open(tar, "w") as archive:
            for name, data in (
                ("s.front.jpg", files[0].read_bytes()),
                ("s.back.jpg", files[1].read_bytes()),
                ("s.json", note),
                ("u.jpg", files[2].read_bytes()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    build(json.dumps({"price": 3}).encode())
    store.extract(tar, model="efficientnet_lite0", name="t")
    build(b"{broken")
    run = store.extract(tar, model="efficientnet_lite0", name="t").last_run
    assert (run.removed, run.rejected, len(store.table("t"))) == (0, 2, 3)
