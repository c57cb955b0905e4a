"""``featstore search``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import re
import stat
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from cli_world import COMMAND, environment, inside, run, schema, world
from PIL import Image
from stores import copied_store, fresh, write_texts
from tables_kit import raw_rows

import featstore
from featstore.tables import FeatureTable

EVIL = '<script>alert(1)</script>\x1b[31m & "quotes"\nsecond line'


@pytest.fixture(scope="module")
def notes(model_store, tmp_path_factory):
    """A folder with a store of texts, one of which means harm."""
    folder = tmp_path_factory.mktemp("notes")
    store = fresh(model_store, folder)
    store.path.rename(folder / "featstore-data")
    rows = {"cat": "The cat sat on the mat.", "bank": "The bank raised its rates.", "evil<b>": EVIL}
    source = write_texts(
        folder / "notes.jsonl", rows, topic={"cat": "pets", "bank": "money"}, when=dict.fromkeys(rows, "2026-05-04")
    )
    done = inside("extract", source, "--model", "minilm", "--id-column", "id", "--time-column", "when", cwd=folder)
    assert done.code == 0, done.err
    return folder


def test_a_picture_finds_itself_and_stdout_is_the_table_alone() -> None:
    done = run("search", "photos", "--image", "photos/0003.jpg", "-k", "3", cwd=world())
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["rank", "score", "item_id"]
    assert lines[1].split() == ["1", "1.0000", "0003.jpg"]
    assert len(lines) == 4
    assert re.fullmatch(r"photos@efficientnet_lite0\S*:0, 12 items: searched exactly in [\d.]+ s", done.err.strip())
    quiet = run("search", "photos", "--image", "photos/0003.jpg", "-q", cwd=world())
    assert (quiet.code, quiet.err) == (0, "")


def test_json_is_a_list_of_hits() -> None:
    done = inside("search", "photos", "--id", "0003.jpg", "--id", "0004.jpg", "-k", "2", "--json", cwd=world())
    jsonschema.Draft202012Validator(schema("outputs/search.json")).validate(done.json)
    assert [(hit["query"], hit["rank"]) for hit in done.json] == [
        ("0003.jpg", 1), ("0003.jpg", 2), ("0004.jpg", 1), ("0004.jpg", 2)
    ]  # fmt: skip
    assert list(done.json[0]) == ["query", "rank", "item_id", "score", "content_sha256", "event_ts"]
    assert inside("search", "photos", "--id", "0003.jpg", "--min-score", "1", "--json", cwd=world()).json == []


def test_texts_show_their_beginnings_and_columns(notes) -> None:
    done = inside("search", "notes", "--text", "a kitten", "-k", "3", cwd=notes)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["rank", "score", "item_id", "topic", "text"]
    assert lines[1].split()[2:] == ["cat", "pets", "The", "cat", "sat", "on", "the", "mat."]
    assert "\x1b" not in done.out
    assert "&" in done.out
    found = inside("search", "notes", "--text", "a kitten", "-k", "1", "--json", cwd=notes).json
    assert found[0]["event_ts"] == "2026-05-04T00:00:00Z"


def test_many_queries_each_have_a_table(notes) -> None:
    program = [*COMMAND, "search", "notes", "--queries", "-", "-k", "1", "--min-score", "0.2"]
    done = subprocess.run(
        program, cwd=notes, env=environment(), input="a kitten\nthe moon is made of cheese\ninterest rates\n",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    blocks = [block.splitlines() for block in done.stdout.rstrip().split("\n\n")]
    assert [block[0] for block in blocks] == ["a kitten", "the moon is made of cheese", "interest rates"]
    assert blocks[0][2].split()[2] == "cat"
    assert blocks[1][1:] == ["no hits"]
    assert blocks[2][2].split()[2] == "bank"


def test_hits_as_files(notes, tmp_path) -> None:
    asked = ["search", "notes", "--text", "a kitten", "--text", "rates", "-k", "3"]
    printed = inside(*asked, "--json", cwd=notes).json
    for name in ("hits.parquet", "hits.csv", "hits.json"):
        done = inside(*asked, "-o", tmp_path / name, cwd=notes)
        assert (done.code, done.out) == (0, ""), done.err
        assert f"wrote {tmp_path / name}" in done.err
    assert json.loads((tmp_path / "hits.json").read_text("utf-8")) == printed
    frame = pl.read_parquet(tmp_path / "hits.parquet")
    assert frame["item_id"].to_list() == [hit["item_id"] for hit in printed]
    assert frame.schema["event_ts"] == pl.Datetime("us", "UTC")
    origin = json.loads(pq.read_schema(tmp_path / "hits.parquet").metadata[b"featstore"])
    assert (origin["table"], origin["version"], origin["search"]) == ("notes", 0, "exact")
    with (tmp_path / "hits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["item_id"] for row in rows] == [hit["item_id"] for hit in printed]
    assert {row["event_ts"] for row in rows} == {"2026-05-04T00:00:00.000000Z"}
    both = inside(*asked, "-o", tmp_path / "again.json", "--json", cwd=notes)
    assert both.json == printed


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def _page(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf-8"))
    return page


def test_a_page_holds_thumbnails_and_nothing_from_outside(tmp_path) -> None:
    done = inside(
        "search", "photos", "--image", "photos/0003.jpg", "--id", "0004.jpg", "-k", "3", "--html",
        tmp_path / "hits.html", "--png", tmp_path / "hits.png", cwd=world(),
    )  # fmt: skip
    assert done.code == 0, done.err
    page = _page(tmp_path / "hits.html")
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 8, "two queries and three hits of each"
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not {"script", "link", "iframe", "form"} & {tag for tag, _ in page.tags}
    assert "default-src 'none'" in (tmp_path / "hits.html").read_text("utf-8")
    assert "1.0000" in page.words
    with Image.open(tmp_path / "hits.png") as picture:
        assert picture.size[0] > 4 * 96
        assert picture.size[1] > 2 * 96


def test_a_page_of_texts_is_safe(notes, tmp_path) -> None:
    done = inside("search", "notes", "--text", EVIL, "-k", "3", "--html", tmp_path / "hits.html", cwd=notes)
    assert done.code == 0, done.err
    page = _page(tmp_path / "hits.html")
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count("<script>alert(1)</script>") >= 2, "the query and the hit, as text"
    assert "evil<b>" in page.words
    assert "\x1b" not in page.words


def test_open_shows_the_page(notes, tmp_path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "shown"}\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    done = run(
        "search", "notes", "--text", "a kitten", "--open", cwd=notes, BROWSER=f"{browser} %s", TMPDIR=str(tmp_path)
    )
    assert done.code == 0, done.err
    assert "The cat sat" in done.out
    shown = (tmp_path / "shown").read_text().strip()
    assert shown.startswith(f"file://{tmp_path}/featstore-search-")
    assert "The cat sat" in Path(shown.removeprefix("file://")).read_text("utf-8")


def test_a_broken_picture_among_many_is_named_and_the_others_go_on() -> None:
    done = inside("search", "photos", "--queries", "photos", "-k", "1", "--json", cwd=world())
    assert done.code == 0
    assert len(done.json) == 12
    assert all(hit["query"] == hit["item_id"] for hit in done.json)
    assert done.err.splitlines()[0].startswith("refused: broken.jpg: ")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["search", "photos"], "nothing was asked", "--image, --text, --id, --vectors or --queries"),
        (["search", "nothing", "--id", "x"], "there is no table 'nothing'", "extract"),
        (["search", "photos", "--id", "3.jpg"], "'3.jpg' is not in photos", "item_id"),
        (["search", "photos", "--id", "0003.jpg", "--where", "run = 'x'"], "no column 'run'", "Columns: item_id"),
        (["search", "photos", "--id", "0003.jpg", "--group-by", "runid"], "Did you mean 'run_id'?", "Columns"),
        (["search", "photos", "--id", "0003.jpg", "-k", "0"], "k is 0", ""),
        (["search", "photos", "--text", "x"], "nothing leads from a text", "featstore bridge"),
        (["search", "photos", "--image", "photos/broken.jpg"], "photos/broken.jpg: the picture", ""),
        (["search", "photos", "--id", "0003.jpg", "-o", "hits.xls"], "ends in .parquet or .csv or .json", ""),
        (["search", "photos", "--id", "0003.jpg", "--html", "hits.png"], "ends in .html or .htm", ""),
        (["search", "photos", "--id", "0003.jpg", "-o", "featstore-data/a.json"], "lies within the store", ""),
        (["search", "photos", "--image", "photos/0003.jpg", "--device", "gpu"], "device: ", "--help"),
    ],
)
def test_what_cannot_be_searched_is_said(arguments: list[str], message: str, hint: str) -> None:
    done = inside(*arguments, cwd=world())
    assert (done.code, done.out) == (2, "")
    first, *rest = done.err.splitlines()
    assert message in first
    assert hint in " ".join(rest)
    assert "Traceback" not in done.err


def test_a_png_of_texts_is_refused(notes) -> None:
    done = inside("search", "notes", "--text", "x", "--png", "x.png", cwd=notes)
    assert done.code == 2
    assert "'notes' holds texts" in done.err
    assert not (notes / "x.png").exists()


def test_vectors_of_another_space_are_refused_by_name(notes, tmp_path) -> None:
    copied_store(world() / "featstore-data", tmp_path / "featstore-data")
    assert inside("export", "notes", "-o", tmp_path / "notes.parquet", cwd=notes).code == 0
    done = inside("search", "photos", "--vectors", "notes.parquet", cwd=tmp_path)
    assert done.code == 2
    assert "minilm-" in done.err
    assert "efficientnet_lite0-" in done.err
    np.save(tmp_path / "short.npy", np.ones((1, 7), np.float32))
    done = inside("search", "photos", "--vectors", "short.npy", cwd=tmp_path)
    assert done.code == 2
    assert "7 values" in done.err
    assert "1280" in done.err


def test_a_search_loads_no_more_than_it_needs(notes) -> None:
    # The first load of a table counts its ids, with polars, and is remembered.
    assert inside("search", "notes", "--text", "a kitten", cwd=notes).code == 0
    program = (
        "import sys\nfrom featstore.cli import main\n"
        "try: main(['search', 'notes', '--text', 'a kitten', '-q'])\n"
        "finally: print([m for m in ('torch', 'transformers', 'pandas', 'polars', 'sklearn', 'PIL', 'numpy.ma', "
        "'pyarrow.compute') if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([*COMMAND[:1], "-c", program], cwd=notes, env=environment(), capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert "The cat sat" in done.stdout


def test_a_closed_pipe_is_no_error(notes) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "search", "notes", "--text", "x"],
        cwd=notes,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr


@pytest.mark.heavy
def test_a_cold_question_to_a_million_texts_costs_as_one_to_a_thousand(model_store, tmp_path) -> None:
    """One process from its start to the printed hits, the model's load included; benchmarks/ has the seconds.

    What a question costs must not grow with the table: reading the large one's 1.5 GB alone would take longer than
    the difference that is allowed here, on a slow machine all the more.
    """
    store = fresh(model_store, tmp_path)
    store.path.rename(tmp_path / "featstore-data")
    store = featstore.open(tmp_path / "featstore-data")
    card = next(card for card in store.models() if card.modality == "text")
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((4000, card.dim), np.float32)
    for name, parts, size in (("small", 1, 1000), ("big", 20, 50_000)):
        table = FeatureTable.staging(store.layout, name, card.space_id, card.dim)
        written = []
        for part in range(parts):
            x = centres[generator.integers(0, 4000, size)]
            x += 0.8 * generator.standard_normal(x.shape, np.float32)
            rows = raw_rows(size, start=size * part, text=[f"This is the text of number {n}." for n in range(size)])
            written.append(table.write_part("run1", part, table.align(rows), x))
        table.commit(run_id="run1", add=written)
    store.index("small")
    store.index("big", factory="IVF1024,SQ8", recall=0.9)
    spent: dict[str, list[float]] = {"small": [], "big": []}
    for _ in range(5):
        for name, seconds in spent.items():  # by turns: what else the machine does falls on both
            process = subprocess.Popen(
                [*COMMAND, "search", name, "--text", "a kitten on a mat", "--json"],
                cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            hits = json.loads(process.stdout.read())
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            assert len(hits) == 10
            seconds.append(usage.ru_utime + usage.ru_stime)
    print({name: [round(value, 2) for value in sorted(seconds)] for name, seconds in spent.items()})
    assert min(spent["big"]) <= 1.4 * min(spent["small"]), spent
