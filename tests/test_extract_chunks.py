"""Long texts as several items: cutting, following the source, resuming, looking for neighbours."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import fresh, vectors, write_texts
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers

from featstore.errors import GateError, SettingsError
from featstore.extract.chunks import wrap
from featstore.extract.shard import open_run, run_shard
from featstore.inputs import texts
from featstore.inputs.cutting import cut
from featstore.models import load_card
from featstore.records import TextPreprocessing
from featstore.settings import ExtractSettings
from featstore.sources import open_source

TOPICS = ("cats", "ships", "rain", "tax")
LONG = {
    f"t{at}": " ".join(f"Sentence {number} of text {at} speaks about {topic}." for number in range(12))
    for at, topic in enumerate(TOPICS)
} | {"short": "only a few words"}


def extract(store, source, **settings):
    return store.extract(source, model="minilm", **{"id_column": "id", "chunk_tokens": 40, **settings})


def chunks_of(table, item):
    frame = table.to_polars()
    rows = frame.filter(frame["parent"] == item).sort("item_id").to_dicts()
    return sorted(rows, key=lambda row: int(row["item_id"].rpartition("#")[2]))


# ── cutting ─────────────────────────────────────────────────────────────────────────────────────


def _byte_level(path: Path) -> Path:
    engine = ByteLevelBPETokenizer()
    engine.train_from_iterator([*LONG.values(), "Größe 🙂 東京 "], vocab_size=400, show_progress=False)
    engine.save(str(path))
    return path


def _unigram(path: Path) -> Path:
    engine = Tokenizer(models.Unigram())
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    engine.train_from_iterator([*LONG.values(), "Größe 🙂 東京 "], trainer)
    engine.save(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizer_files(model_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    word_piece = next((model_store / "models").glob("minilm-*/tokenizer.json"))
    return [word_piece, _byte_level(folder / "bpe.json"), _unigram(folder / "unigram.json")]


@pytest.mark.parametrize("kind", range(3), ids=["wordpiece", "byte-level", "unigram"])
@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_chunks_cover_every_text_and_none_is_too_long(tokenizer_files, kind: int, prompt: str):
    how = TextPreprocessing(max_length=512, pad_token_id=0, inputs=("ids",), prompt_document=prompt)
    tokenizer = texts.Tokenizer(tokenizer_files[kind], how)
    draw = random.Random(kind)
    words = [
        *(
            "the",
            "cat",
            "Größe",
            "🙂👩‍👩‍👧",
            "東京は日本の首都",
            " ",
            "\n\n",
            "\t",
            "a" * 50,
            "don't",
            ",",
            "\0",
            "مرحبا",
            "é",
        ),
    ]
    for _ in range(25):
        count = draw.choice([1, 5, 50, 400, 3000])
        text = "x" + "".join(draw.choice(words) + draw.choice([" ", " ", "   ", ""]) for _ in range(count))
        most = draw.choice([8, 16, 100])
        overlap = draw.choice([0, 1, most // 2, most - 1])
        spans = cut(text, tokenizer, most=most, overlap=overlap)
        covered = np.zeros(len(text), bool)
        for first, after in spans:
            assert text[first:after].strip() == text[first:after] != ""
            assert tokenizer.length(text[first:after]) <= most + tokenizer.length("")
            covered[first:after] = True
        assert all(covered[at] or mark.isspace() for at, mark in enumerate(text))
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(spans))


def test_chunks_end_at_white_space_and_share_what_was_asked(tokenizer_files):
    how = TextPreprocessing(max_length=512, pad_token_id=0, inputs=("ids",))
    tokenizer = texts.Tokenizer(tokenizer_files[0], how)
    text = " ".join(f"word{at} unbelievable" for at in range(200))
    spans = cut(text, tokenizer, most=50, overlap=0)
    assert len(spans) > 10
    assert all(text[after].isspace() for _, after in spans[:-1])
    assert [a[1] + 1 for a in spans[:-1]] == [b[0] for b in spans[1:]]
    assert min(tokenizer.length(text[a:b]) for a, b in spans[:-1]) >= 2 + 50 * 3 // 4
    shared = cut(text, tokenizer, most=50, overlap=12)
    for (_, after), (first, _) in itertools.pairwise(shared):
        assert text[first - 1].isspace()
        assert 6 <= tokenizer.length(text[first:after]) - 2 <= 12


@pytest.mark.parametrize("text", ["a" * 2_000_000, " " * 5_000_000 + "x", "中" * 100_000, "\0" * 1_000_000 + "x"])
def test_texts_without_words_are_cut_too(tokenizer_files, text: str):
    how = TextPreprocessing(max_length=256, pad_token_id=0, inputs=("ids",))
    tokenizer = texts.Tokenizer(tokenizer_files[0], how)
    spans = cut(text, tokenizer, most=200, overlap=20)
    assert spans[0][0] == len(text) - len(text.lstrip())
    assert spans[-1][1] == len(text)
    assert all(after - first <= 400_000 for first, after in spans)
    assert all(b[0] <= a[1] for a, b in itertools.pairwise(spans))


# ── as items ────────────────────────────────────────────────────────────────────────────────────


def test_a_text_becomes_several_items_with_its_columns(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    source = write_texts(tmp_path / "notes.jsonl", LONG, topic=dict(zip(LONG, (*TOPICS, "none"), strict=True)))
    table = extract(store, source, keep_text=True, chunk_overlap=8, limit=None)
    run = table.last_run
    rows = chunks_of(table, "t0")
    assert [row["item_id"] for row in rows] == [f"t0#{at}" for at in range(len(rows))]
    assert len(rows) > 2
    assert {row["topic"] for row in rows} == {"cats"}
    assert [row["item_id"] for row in chunks_of(table, "short")] == ["short#0"]
    assert run.seen == run.stored == len(table)
    assert run.truncated == 0
    for row in rows:
        assert row["text"] in LONG["t0"]
        assert row["content_sha256"] == texts_hash(row["text"])
    assert rows[0]["text"].split()[-1] in rows[1]["text"].split()[:8], "neighbours share words"
    assert set(" ".join(row["text"] for row in rows).split()) == set(LONG["t0"].split())
    shown = table.previews([rows[0]["content_sha256"]])
    assert next(iter(shown.values())).decode().startswith("Sentence 0 of text 0")
    # what a chunk's vector is: that of its text alone
    alone = write_texts(tmp_path / "alone.jsonl", {row["item_id"]: row["text"] for row in rows})
    whole = store.extract(alone, model="minilm", id_column="id")
    for item, vector in vectors(whole).items():
        cosine = np.dot(np.frombuffer(vector, np.float32), np.frombuffer(vectors(table)[item], np.float32))
        assert cosine > 0.99999
    assert store.verify(["notes"]).ok


def texts_hash(text: str) -> str:
    from featstore.storage import hashing

    return hashing.of_text(text)


def test_a_table_follows_its_texts(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    before = extract(store, write_texts(path, LONG))
    assert store.extract(path, model="minilm").last_run.status == "nothing new", "the way of cutting is remembered"
    now = dict(LONG)
    now["t0"] += " And a last one is added."  # only its last chunk is new
    now["moved"] = now.pop("t1")
    now["twin"] = now["t2"]
    now["t3"] = " ".join(now["t3"].split()[:20])  # all but its first chunk goes
    after = store.extract(write_texts(path, now), model="minilm")
    run = after.last_run
    old, new = vectors(before), vectors(after)
    assert set(after.to_polars()["parent"]) == {"t0", "moved", "t2", "twin", "t3", "short"}
    assert run.stored == 2, "the last chunk of t0 and the shortened chunk of t3"
    assert run.renamed == len(chunks_of(before, "t1"))
    assert run.twins == len(chunks_of(before, "t2"))
    assert new["t0#0"] == old["t0#0"]
    assert new["moved#1"] == old["t1#1"]
    assert new["twin#2"] == old["t2#2"]
    assert "t3#2" in old
    assert "t3#2" not in new


def test_unchanged_texts_are_not_read_again(model_store, tmp_path, monkeypatch):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in LONG.items():
        (folder / f"{name}.txt").write_text(text)
    extract(store, folder, id_column=None)
    read: list[str] = []
    whole = texts.decode

    def decode(content):
        read.append(whole(content))
        return whole(content)

    monkeypatch.setattr(texts, "decode", decode)
    (folder / "t1.txt").write_text(LONG["t1"] + " More.")
    again = store.extract(folder, model="minilm")
    assert again.last_run.stored == 1
    assert read
    assert all("More." in text for text in read), "the changed text and its new chunk, nothing else"
    read.clear()
    assert store.extract(folder, model="minilm").last_run.status == "nothing new"
    assert read == []
    assert store.extract(folder, model="minilm", rehash=True).last_run.status == "nothing new"
    assert len(read) == len(LONG)


@pytest.mark.heavy
def test_another_size_replaces_the_chunks_and_is_no_loss(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = write_texts(tmp_path / "notes.jsonl", {f"n{at}": text for at, text in enumerate(LONG.values())} | LONG)
    whole = store.extract(path, model="minilm", id_column="id")
    assert len(whole) == 10
    fine = store.extract(path, model="minilm", chunk_tokens=16)
    assert set(fine.to_polars()["parent"]) == set(whole.to_polars()["item_id"])
    coarse = store.extract(path, model="minilm", chunk_tokens=100)
    assert len(coarse) < len(fine) / 2, "far more than a fifth of the chunks have gone, and no text"
    write_texts(tmp_path / "notes.jsonl", {"short": LONG["short"]})
    assert store.plan(path, model="minilm", allow_removals=True).removed == len(coarse) - 1
    # eleven texts are needed before the share counts
    many = {f"m{at}": f"{text} {at}" for at, text in enumerate([*LONG.values()] * 5)}
    other = write_texts(tmp_path / "many.jsonl", many)
    extract(store, other)
    write_texts(other, dict(list(many.items())[:5]))
    with pytest.raises(GateError, match="20 of 25 texts would leave"):
        store.extract(other, model="minilm")
    write_texts(other, dict(list(many.items())[:21]))
    assert store.extract(other, model="minilm").last_run.removed > 4


def test_what_is_no_text_is_refused_whole(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    folder = tmp_path / "notes"
    folder.mkdir()
    for name, text in LONG.items():
        (folder / f"{name}.txt").write_text(text)
    (folder / "blank.txt").write_text(" \n ")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    table = extract(store, folder, id_column=None)
    assert table.last_run.reject_codes == {"empty_text": 1, "not_utf8": 1}
    rejects = table.rejects()
    assert sorted(rejects["item_id"]) == ["blank.txt", "latin.txt"]
    assert set(rejects["stage"]) == {"decode"}
    # a text that is none any more leaves; one that cannot be read today stays
    (folder / "t0.txt").write_text(" ")
    (folder / "t1.txt").unlink()
    (folder / "t1.txt").symlink_to(folder / "nowhere")
    after = store.extract(folder, model="minilm")
    parents = set(after.to_polars()["parent"])
    assert "t0.txt" not in parents
    assert "t1.txt" in parents
    assert after.last_run.reject_codes["empty_text"] == 2
    assert table.rejects().height >= 3


def test_a_limit_counts_texts_and_a_dry_run_says_what_comes(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = write_texts(tmp_path / "notes.jsonl", LONG)
    planned = store.plan(path, model="minilm", id_column="id", chunk_tokens=40, limit=2)
    table = extract(store, path, limit=2)
    assert set(table.to_polars()["parent"]) == {"t0", "t1"}
    assert planned.stored == len(table) > 4
    whole = extract(store, path)
    assert set(whole.to_polars()["parent"]) == set(LONG)
    assert whole.last_run.reused == len(table)


def test_a_dry_run_without_the_model_counts_texts_and_says_so(tmp_path):
    import featstore

    path = write_texts(tmp_path / "notes.jsonl", LONG)
    planned = featstore.open(tmp_path / "store").plan(path, model="minilm", id_column="id", chunk_tokens=40)
    assert planned.stored == len(LONG)
    assert "whole texts are counted" in planned.warnings[0]


_OTHER = """
import sys
import featstore
from featstore.extract.shard import open_run, run_shard
context = open_run(featstore.open(sys.argv[1]).layout, sys.argv[2])
print(run_shard(context, 1).sha256)
"""


@pytest.mark.heavy
def test_another_process_takes_a_shard_and_a_killed_run_resumes(model_store, tmp_path, monkeypatch):
    reference = fresh(model_store, tmp_path / "a")
    store = fresh(model_store, tmp_path / "b")
    path = write_texts(tmp_path / "notes.jsonl", LONG)
    settings = {"shard_items": 4, "chunk_overlap": 5, "keep_text": True}
    wanted = extract(reference, path, **settings)
    calls = []

    def dying(context, shard):
        if shard == 1:
            raise KeyboardInterrupt
        calls.append(shard)
        return run_shard(context, shard)

    monkeypatch.setattr("featstore.extract.run.run_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        extract(store, path, **settings)
    run_id = store.runs()[0].run_id
    done = subprocess.run(
        [sys.executable, "-c", _OTHER, str(store.path), run_id], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.undo()
    assert run_shard(open_run(store.layout, run_id), 1).sha256 == done.stdout.strip()
    resumed = extract(store, path, **settings)
    assert resumed.last_run.run_id == run_id
    assert resumed.last_run.resumed_shards == 2
    assert vectors(resumed) == vectors(wanted)
    columns = ["item_id", "content_sha256", "parent", "text"]
    assert resumed.to_polars().select(columns).equals(wanted.to_polars().select(columns))


def test_a_column_of_the_same_name_steps_aside(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    columns = {"parent": dict.fromkeys(LONG, "p"), "parent_": dict.fromkeys(LONG, "q")}
    path = write_texts(tmp_path / "notes.jsonl", LONG, **columns)
    table = extract(store, path)
    frame = table.to_polars()
    assert (set(frame["parent_"]), set(frame["parent__"])) == ({"p"}, {"q"})
    assert any("'parent' is kept as 'parent_'" in warning for warning in table.last_run.warnings)
    assert extract(store, path).last_run.status == "nothing new"


def test_two_models_do_not_share_what_a_tokenizer_found(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = write_texts(tmp_path / "notes.jsonl", LONG)
    settings = ExtractSettings(source=str(path), model="minilm", id_column="id", chunk_tokens=40)
    card = store.models()[[c.model for c in store.models()].index("minilm")]
    assert card.text is not None
    prompted = replace(card, text=replace(card.text, prompt_document="a passage of some length: "))
    from featstore.extract import chunks
    from featstore.extract.shard import source_options

    assert chunks.cutting(card, settings) != chunks.cutting(prompted, settings)
    source = open_source(str(path), modality="text", options=source_options(settings))
    whole = wrap(source, store.layout, card, settings).scan().items
    again = wrap(source, store.layout, prompted, replace(settings, chunk_tokens=200)).scan().items
    assert whole.num_rows > again.num_rows == len(LONG)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


def test_settings_that_cannot_be_met(model_store, tmp_path, photos):
    store = fresh(model_store, tmp_path)
    path = write_texts(tmp_path / "notes.jsonl", LONG)
    with pytest.raises(SettingsError, match="minilm takes 256 tokens, of which 2 are special") as caught:
        extract(store, path, chunk_tokens=255)
    assert "at most 254" in str(caught.value.hint)
    assert extract(store, path, chunk_tokens=254, name="most").last_run.truncated == 0
    with pytest.raises(SettingsError, match="--chunk-overlap 40 is not less than --chunk-tokens 40"):
        extract(store, path, chunk_overlap=40)
    with pytest.raises(SettingsError, match="needs --chunk-tokens"):
        extract(store, path, chunk_tokens=None, chunk_overlap=4)
    with pytest.raises(SettingsError, match="is for texts"):
        store.extract(photos, model="efficientnet_lite0", chunk_tokens=40)
    card = load_card(store.layout, next(c.space_id for c in store.models() if c.model == "minilm"))
    assert card.text is not None
    prompted = replace(card, text=replace(card.text, prompt_document="passage: "))
    settings = ExtractSettings(source=str(path), model="minilm", chunk_tokens=254)
    with pytest.raises(SettingsError, match=r"2 are special and \d those of the prompt"):
        wrap(open_source(str(path), modality="text"), store.layout, prompted, settings)


# ── truncation ──────────────────────────────────────────────────────────────────────────────────


def test_cut_texts_are_warned_of_above_one_percent(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = tmp_path / "notes.jsonl"
    long = "a word " * 300
    rows = {f"r{at:03d}": f"row {at}" for at in range(100)} | {"long": long}
    run = store.extract(write_texts(path, rows), model="minilm", id_column="id").last_run
    assert run.truncated == 1
    assert not run.warnings, "1 of 101 is below 1 %"
    run = store.extract(write_texts(path, rows | {"more": long + "!"}), model="minilm", id_column="id").last_run
    assert run.truncated == 1
    assert any("--chunk-tokens" in warning and "100.0%" in warning for warning in run.warnings)
    manifest = store.runs()[0]
    assert manifest.result is not None
    assert manifest.result.warnings == run.warnings


# ── neighbours ──────────────────────────────────────────────────────────────────────────────────


def test_neighbours_of_a_chunk_are_the_best_of_each_other_text(model_store, tmp_path):
    store = fresh(model_store, tmp_path)
    path = write_texts(tmp_path / "notes.jsonl", LONG, group=dict(zip(LONG, "aabbc", strict=True)))
    table = extract(store, path, group_column="group")
    found = table.neighbours("t0#1", k=10)
    assert found["parent"].to_list() == list(dict.fromkeys(found["parent"]))
    assert set(found["parent"]) == {"t1", "t2", "t3", "short"}
    every = table.neighbours("t0#1", k=len(table), group_by="item_id")
    assert every.height == len(table) - 1
    assert every["item_id"][0].startswith("t0#")
    best = {p: max(r["score"] for r in every.to_dicts() if r["parent"] == p) for p in found["parent"]}
    assert dict(zip(found["parent"], found["score"], strict=True)) == pytest.approx(best, abs=1e-6)
    assert found["score"].to_list() == sorted(found["score"], reverse=True)
    grouped = table.neighbours("t0#1", k=10, group_by="group")
    assert set(grouped["group"]) == {"b", "c"}
    assert grouped.height == 2
    assert table.neighbours("t0#1", k=1).height == 1


def test_neighbours_without_chunks_are_as_they_were(model_store, tmp_path):
    from featstore.errors import NotFoundError

    store = fresh(model_store, tmp_path)
    groups = {"t0": "a", "t1": "a", "t2": None, "t3": None, "short": "b"}
    path = write_texts(tmp_path / "notes.jsonl", LONG, parent=dict.fromkeys(LONG, "one"), group=groups)
    table = store.extract(path, model="minilm", id_column="id")
    assert table.neighbours("t0", k=10).height == 4, "a source's own column of that name groups nothing"
    assert set(table.neighbours("t0", group_by="group")["item_id"]) == {"t2", "t3", "short"}
    assert set(table.neighbours("t2", group_by="group")["item_id"]) >= {"t3", "short"}
    assert table.neighbours("t2", group_by="group").height == 3
    with pytest.raises(NotFoundError, match="no column 'grop'") as caught:
        table.neighbours("t0", group_by="grop")
    assert "'group'" in str(caught.value)


def test_the_command_line_cuts(model_store, tmp_path):
    from cli_world import inside

    store = fresh(model_store, tmp_path)
    write_texts(tmp_path / "notes.jsonl", LONG)
    flags = ["--model", "minilm", "--id-column", "id", "--store", str(store.path)]
    done = inside(
        *("extract", "notes.jsonl", *flags, "--chunk-tokens", "40", "--chunk-overlap", "8", "--json"), cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert done.json["seen"] == len(store.table("notes")) > len(LONG)
    wrong = inside("extract", "notes.jsonl", *flags, "--chunk-tokens", "40", "--chunk-overlap", "50", cwd=tmp_path)
    assert wrong.code == 2
    assert "--chunk-overlap" in wrong.err
    record = json.loads((store.path / "sources" / "notes.json").read_text())
    assert "40" in json.dumps(record)
