"""Texts to tokens: what is refused, what is cut, and how batches are made."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import IntegrityError, ItemError, NotFoundError, SettingsError
from featstore.inputs import previews, texts
from featstore.records import TextPreprocessing


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word-piece tokenizer with special tokens, and with padding and truncation that must be overruled."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "query", ":", "word", "##s", "é", "x"]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_padding(length=50)
    made.enable_truncation(3)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def how(max_length: int = 16, **more: object) -> TextPreprocessing:
    return TextPreprocessing(max_length=max_length, pad_token_id=0, inputs=("input_ids",), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xfeh\0i\0", "not_utf8"),
        (b"caf\xe9", "not_utf8"),
        (b"\xed\xa0\x80", "not_utf8"),
        ("half \ud83d", "lone_surrogate"),
        (b"", "empty_text"),
        (" \n\t\u3000", "empty_text"),
        (b"\xef\xbb\xbf", "empty_text"),
    ],
)
def test_unusable_texts_are_refused_by_name(content: bytes | str, code: str) -> None:
    with pytest.raises(ItemError) as caught:
        texts.decode(content)
    assert (caught.value.stage, caught.value.code) == ("decode", code)


def test_every_other_text_comes_out_as_it_stands() -> None:
    assert texts.decode(b"\xef\xbb\xbfhi") == "hi"
    for text in ("👩‍👩‍👧 emoji", "مرحبا", "nul \0 inside", " padded ", "a\r\nb"):
        assert texts.decode(text.encode()) == text
        assert texts.decode(text) == text


def test_ids_have_special_tokens_prompt_and_their_own_length(tokenizer_file: Path) -> None:
    tokenizer = texts.Tokenizer(tokenizer_file, how(prompt_query="query: "))
    ids, cut = tokenizer.encode(["hello world", "words", "\0"])
    assert [row.tolist() for row in ids] == [[2, 4, 5, 3], [2, 8, 9, 3], [2, 3]]
    assert all(row.dtype == np.int32 for row in ids)
    assert cut == 0
    assert tokenizer.encode(["hello"], query=True)[0][0].tolist() == [2, 6, 7, 4, 3]


def test_cut_texts_keep_special_tokens_and_are_counted(tokenizer_file: Path) -> None:
    tokenizer = texts.Tokenizer(tokenizer_file, how(5))
    ids, cut = tokenizer.encode(["hello hello hello", "hello hello hello world", "hello"])
    assert [row.tolist() for row in ids] == [[2, 4, 4, 4, 3], [2, 4, 4, 4, 3], [2, 4, 3]]
    assert cut == 1


@pytest.mark.parametrize("text", ["hello " * 1_700_000, "a" * 10_000_000, " " * 10_000_000 + "x", "中" * 3_400_000])
def test_a_text_of_ten_megabytes_does_not_stall(tokenizer_file: Path, text: str) -> None:
    tokenizer = texts.Tokenizer(tokenizer_file, how(256))
    start = time.perf_counter()
    ids, cut = tokenizer.encode([text])
    assert time.perf_counter() - start < 3
    assert 2 <= len(ids[0]) <= 256
    assert cut == 1


def test_a_long_text_has_the_tokens_of_the_whole(tokenizer_file: Path) -> None:
    tokenizer = texts.Tokenizer(tokenizer_file, how(64))
    for text in ("hello" + " " * 50_000 + "world", "words hello " * 20_000, " " * 19_998 + "hello world"):
        whole = [{"hello": [4], "world": [5], "words": [8, 9]}[word] for word in text.split()[:70]]
        wanted = [2, *[token for word in whole for token in word][:62], 3]
        assert tokenizer.encode([text])[0][0].tolist() == wanted


def test_a_tokenizer_that_cannot_work_is_an_error(tokenizer_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(IntegrityError):
        texts.Tokenizer(tmp_path / "tokenizer.json", how())
    with pytest.raises(NotFoundError):
        texts.Tokenizer(tmp_path / "none.json", how())
    with pytest.raises(SettingsError, match="2 special tokens"):
        texts.Tokenizer(tokenizer_file, how(2))


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = np.random.default_rng(3).integers(1, 257, 500)
    found = texts.batches(lengths, 512)
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    assert all(lengths[batch].max() * len(batch) <= 512 for batch in found)
    order = np.concatenate(found)
    assert (order == np.argsort(lengths, kind="stable")).all()
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in found)
    assert padded < 1.15 * lengths.sum()
    assert [batch.tolist() for batch in texts.batches(np.array([900, 3]), 512)] == [[1], [0]]
    assert texts.batches(np.array([], np.int64), 512) == []


def test_padding_goes_to_the_models_side() -> None:
    ids = [np.array([5, 6], np.int32), np.array([7], np.int32)]
    right, mask = texts.pad(ids, how())
    assert right.tolist() == [[5, 6], [7, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    left, mask = texts.pad(ids, how(padding_side="left"))
    assert left.tolist() == [[5, 6], [0, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    assert right.dtype == mask.dtype == np.int64


def test_previews_are_short() -> None:
    assert previews.of_text("é" * 600) == "é" * 500
    assert previews.of_image(np.zeros((300, 200, 3), np.uint8))[:2] == b"\xff\xd8"
