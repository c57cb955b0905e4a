"""Text backbones: encoders, decoders and sentence-transformers folders against their own libraries."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_fixtures import (
    SENTENCES,
    bert_folder,
    cosines,
    gpt2_folder,
    keep,
    layout_at,
    original,
    roberta_folder,
    sentence_folder,
    sketched,
    texts_of,
    tokens,
)
from stores import copy_models

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.layout import Layout
from featstore.models import Backbone, ModelRequest, ensure, folder, modality_of, words
from featstore.models.catalog import PACKAGES
from featstore.models.hf_config import function_config
from featstore.models.samples import canary_texts
from featstore.records import ModelCard


def _reference(path: Path, text: str, *, last: bool) -> np.ndarray:
    """One text alone through transformers, without any padding: mean or last of the hidden states."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    network = AutoModel.from_pretrained(str(path)).eval()
    given = tokenizer([text], return_tensors="pt", truncation=True, max_length=48)
    with torch.inference_mode():
        hidden = network(**given).last_hidden_state[0]
    return (hidden[-1] if last else hidden.mean(0)).numpy()


@pytest.mark.parametrize(
    ("make", "last"),
    [(bert_folder, False), (roberta_folder, False), (gpt2_folder, True)],
    ids=["bert", "roberta", "gpt2"],
)
def test_a_plain_folder_is_pooled_as_its_kind_is(make: Callable[[Path], Path], last: bool, tmp_path: Path) -> None:
    path = make(tmp_path / "network")
    found = original(path)
    assert found.pooling == ("lasttoken" if last else "mean")
    assert found.slug == "network"
    together = texts_of(found, SENTENCES)
    np.testing.assert_allclose(together, np.concatenate([texts_of(found, [s]) for s in SENTENCES]), atol=1e-5)
    expected = np.stack([_reference(path, s, last=last) for s in SENTENCES])
    np.testing.assert_allclose(together, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "last"),
    [
        pytest.param(bert_folder, False, id="bert"),
        pytest.param(roberta_folder, False, id="roberta", marks=pytest.mark.heavy),
        pytest.param(gpt2_folder, True, id="gpt2", marks=pytest.mark.heavy),
    ],
)
def test_an_exported_folder_is_pooled_as_its_kind_is(make: Callable[[Path], Path], last: bool, tmp_path: Path) -> None:
    path = make(tmp_path / "network")
    layout = layout_at(tmp_path / "store")
    card, backbone = keep(layout, path)
    assert card.text is not None
    assert card.pooling == ("lasttoken" if last else "mean")
    assert card.space_id.startswith("network-")
    together = backbone.texts(*tokens(layout, card, SENTENCES))
    alone = np.concatenate([backbone.texts(*tokens(layout, card, [s])) for s in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    expected = np.stack([_reference(path, s, last=last) for s in SENTENCES])
    assert cosines(together, expected).min() >= 0.9999
    np.testing.assert_allclose(together, expected, atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken"])
def test_a_sentence_transformers_folder_does_what_its_modules_say(pooling: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    path = sentence_folder(tmp_path / "folder", pooling, dense=pooling == "max")
    found = original(f"hf:{path}")
    assert (found.pooling, found.normalize) == (pooling, True)
    expected = SentenceTransformer(str(path), device="cpu").encode_document(list(SENTENCES))
    np.testing.assert_allclose(texts_of(found, SENTENCES), expected, atol=1e-5)


_HEAVY = ("cls", "max", "lasttoken")


@pytest.mark.parametrize("pooling", ["mean", *(pytest.param(pooling, marks=pytest.mark.heavy) for pooling in _HEAVY)])
def test_an_exported_sentence_transformers_folder_does_what_its_modules_say(pooling: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "the cat: ", "document": "a dog: "} if pooling == "mean" else None
    path = sentence_folder(tmp_path / "folder", pooling, dense=pooling in ("mean", "max"), prompts=prompts)
    layout = layout_at(tmp_path / "store")
    card, backbone = keep(layout, f"hf:{path}")
    assert card.normalize
    assert card.text is not None
    assert card.text.max_length == 20
    assert (card.text.prompt_query, card.text.prompt_document) == (("the cat: ", "a dog: ") if prompts else ("", ""))
    expected = SentenceTransformer(str(path), device="cpu").encode_document(list(SENTENCES))
    found = backbone.texts(*tokens(layout, card, SENTENCES))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def minilm(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, ModelCard, Backbone]:
    layout = layout_at(copy_models(model_store, tmp_path_factory.mktemp("minilm"), "minilm"))
    return layout, *keep(layout, "minilm")


@pytest.mark.heavy
def test_minilm_equals_sentence_transformers(minilm: tuple[Layout, ModelCard, Backbone]) -> None:
    from sentence_transformers import SentenceTransformer

    layout, card, backbone = minilm
    assert card.text is not None
    assert (card.dim, card.text.max_length, card.normalize, card.weights.licence) == (384, 256, True, "Apache-2.0")
    texts = canary_texts(32)  # lengths from 3 tokens to beyond the limit
    expected = SentenceTransformer(str(PACKAGES["minilm"].locate()), device="cpu").encode(texts)
    ids, mask = tokens(layout, card, texts)
    assert mask.sum(1).max() == 256
    assert mask.sum(1).min() == 3
    assert cosines(backbone.texts(ids, mask), expected).min() > 0.9999
    for row in (0, 2, 10):
        alone = backbone.texts(ids[row : row + 1, : mask[row].sum()], mask[row : row + 1, : mask[row].sum()])
        np.testing.assert_allclose(alone[0], expected[row], atol=1e-5)


def test_minilm_knows_what_is_alike(minilm: tuple[Layout, ModelCard, Backbone]) -> None:
    layout, card, backbone = minilm
    texts = ["A man is playing a guitar.", "Someone plays the guitar.", "The stock market fell sharply."]
    vectors = backbone.texts(*tokens(layout, card, texts))
    assert vectors[0] @ vectors[1] > 0.8
    assert abs(vectors[0] @ vectors[2]) < 0.15


@pytest.mark.heavy
def test_a_folder_is_one_space_wherever_it_lies_and_whatever_its_file_format(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = bert_folder(tmp_path / "a" / "tiny")
    layout = layout_at(tmp_path / "store")
    card, _ = keep(layout, path)
    moved = tmp_path / "b" / "other-name"
    shutil.copytree(path, moved)
    (moved / "model.safetensors").unlink()
    torch.save(load_file(path / "model.safetensors"), moved / "pytorch_model.bin")
    assert ensure(layout, ModelRequest(model=str(moved))).space_id == card.space_id
    # the same weights as --weights over the folder's architecture
    same = ensure(layout, ModelRequest(model=str(path), weights=moved / "pytorch_model.bin"))
    assert same.space_id == card.space_id
    for change in ({"seed": 1}, {"hidden_act": "relu"}):
        other = bert_folder(tmp_path / "c" / next(iter(change)), **change)
        assert sketched(other).digest != card.digest


def test_prompts_length_and_pooling_are_part_of_the_space(tmp_path: Path) -> None:
    from featstore.models import making, space, words
    from featstore.models.catalog import resolve

    path = sentence_folder(tmp_path / "folder", "mean", dense=False)

    def digest() -> str:
        original = words.load(resolve(str(path)), ModelRequest(model=str(path)), lambda _: None)
        assert making  # the same road as ensure, without the export
        return space.definition(
            architecture=original.architecture, layer=original.layer, pooling=original.pooling,
            normalize=original.normalize, dim=32, tensors_sha256=space.tensors_digest(original.state),
            image=None, text=original.text, tokenizer=original.tokenizer, config=original.config,
        )  # fmt: skip

    found = {digest()}

    def change(file: str, **values: Any) -> None:
        body = json.loads((path / file).read_text()) if (path / file).exists() else {}
        (path / file).write_text(json.dumps(body | values))
        found.add(digest())

    change("config_sentence_transformers.json", prompts={"document": "passage: "})
    change("sentence_bert_config.json", max_seq_length=16)
    change("1_Pooling/config.json", pooling_mode="cls")
    change("config.json", layer_norm_eps=1e-6)
    assert len(found) == 5
    change("config.json", transformers_version="9.9", _name_or_path="/somewhere/else")
    assert len(found) == 5


@pytest.mark.heavy
def test_a_tokenizers_own_truncation_and_padding_do_not_count(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = bert_folder(tmp_path / "plain")
    AutoTokenizer.from_pretrained(str(path)).save_pretrained(str(path))
    first = sketched(path)
    file = path / "tokenizer.json"
    body = json.loads(file.read_text("utf-8"))
    body["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    body["padding"] = {
        "strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    file.write_text(json.dumps(body), "utf-8")
    layout = layout_at(tmp_path / "store")
    card, _ = keep(layout, path)
    assert card.digest == first.digest
    _, mask = tokens(layout, card, SENTENCES)
    assert mask[:, 0].all()
    assert mask.sum(1).max() > 8


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model folder"):
        modality_of(ModelRequest(model=str(tmp_path)))
    with pytest.raises(NotFoundError, match="--model hf:sentence-transformers/all-MiniLM-L6-v2"):
        modality_of(ModelRequest(model="sentence-transformers/all-MiniLM-L6-v2"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    with pytest.raises(UsageError, match="neither a text nor an image model"):
        modality_of(ModelRequest(model=str(tmp_path)))

    path = bert_folder(tmp_path / "bert")
    assert modality_of(ModelRequest(model=str(path))) == "text"
    (path / "vocab.txt").unlink()
    with pytest.raises(NotFoundError, match="no tokenizer"):
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))

    (path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": "x.Transformer"}]))
    with pytest.raises(UsageError, match="no Pooling"):
        folder.read(path)
    (path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "../elsewhere", "type": "x.Transformer"}]))
    with pytest.raises(UsageError, match="out of its folder"):
        folder.read(path)
    (path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": "x.WordWeights"}]))
    with pytest.raises(UsageError, match="WordWeights"):
        folder.read(path)
    (path / "modules.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged"):
        folder.read(path)


def test_a_folder_whose_weights_are_incomplete_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = bert_folder(tmp_path / "bert")
    state = load_file(path / "model.safetensors")
    gone = next(name for name in state if "layer.1.attention" in name)
    del state[gone]
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="do not fit the model: missing"):
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))


def test_code_of_a_tokenizers_own_is_neither_run_nor_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gpt2_folder(tmp_path / "network")
    settings = {"tokenizer_class": "MyTok", "auto_map": {"AutoTokenizer": ["my_tok.MyTok", "my_tok.MyTok"]}}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))  # without a tokenizer of its own
    ran = tmp_path / "ran"
    (path / "my_tok.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast\n"
        "class MyTok(PreTrainedTokenizerFast): pass\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked") or "y")
    with contextlib.suppress(UsageError):
        words._tokenizer(folder.read(path))
    assert not ran.exists()


@pytest.mark.heavy
def test_a_folder_that_is_saved_anew_stays_the_same_space(tmp_path: Path) -> None:
    """Releases of transformers differ in which of a configuration's usual values they write down."""
    from transformers import AutoModel

    path = bert_folder(tmp_path / "tiny")
    layout = layout_at(tmp_path / "store")
    card, _ = keep(layout, path)
    config = json.loads((path / "config.json").read_text())
    shutil.copytree(path, tmp_path / "saved" / "tiny")
    AutoModel.from_pretrained(path).save_pretrained(tmp_path / "saved" / "tiny")
    usual = ("add_cross_attention", "is_decoder", "tie_word_embeddings", "hidden_act", "layer_norm_eps")
    for name, body in (
        ("few", {k: v for k, v in config.items() if k not in usual}),
        ("dropouts", config | {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0}),
        ("training", config | {"initializer_range": 0.1, "bos_token_id": 3, "classifier_dropout": 0.5}),
    ):
        shutil.copytree(path, tmp_path / name / "tiny")
        (tmp_path / name / "tiny" / "config.json").write_text(json.dumps(body))
    assert ensure(layout, ModelRequest(model=str(tmp_path / "saved" / "tiny"))) == card
    for name in ("few", "dropouts", "training"):
        assert sketched(tmp_path / name / "tiny").space_id == card.space_id, name
    (path / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert sketched(path).space_id != card.space_id


def test_a_packaged_model_and_its_copy_are_one_function(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    place = PACKAGES["minilm"].locate()
    AutoModel.from_pretrained(str(place)).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() != (place / "config.json").read_text()
    own, copied = (function_config(AutoConfig.from_pretrained(str(p))) for p in (place, tmp_path))
    assert own == copied
    assert own["num_hidden_layers"] == 6


def _sentence(path: Path, **files: object) -> None:
    modules = [
        {"idx": 0, "path": "", "type": "x.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "x.Pooling"},
    ]
    body: dict[str, object] = {"modules.json": modules, "1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}
    for name, content in (body | files).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))


_DENSE = [
    {"idx": 0, "path": "", "type": "x.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "x.Pooling"},
    {"idx": 2, "path": "2_Dense", "type": "x.Dense"},
]
DAMAGED: dict[str, tuple[dict[str, object], type[Exception], str]] = {
    "idx": ({"modules.json": [{"idx": "a", "path": "", "type": "x.Transformer"}]}, IntegrityError, "number 'a'"),
    "path": ({"modules.json": [{"idx": 0, "path": None, "type": "x.Transformer"}]}, IntegrityError, "path None"),
    "text length": ({"sentence_bert_config.json": {"max_seq_length": "many"}}, IntegrityError, "'many'"),
    "negative length": ({"sentence_bert_config.json": {"max_seq_length": -1}}, IntegrityError, "-1"),
    "no room": ({"sentence_bert_config.json": {"max_seq_length": 2}}, UsageError, "its tokenizer adds 2"),
    "prompts": ({"config_sentence_transformers.json": {"prompts": ["a"]}}, IntegrityError, "prompts"),
    "pooling": ({"1_Pooling/config.json": {"pooling_mode": 5}}, IntegrityError, "damaged"),
    "architectures": ({"config.json": {"model_type": "bert", "vocab_size": 9, "architectures": 3}}, IntegrityError,
                      "damaged"),
    "positions": ({"config.json": {"model_type": "bert", "max_position_embeddings": "x"}}, IntegrityError, "damaged"),
    "dense": ({"modules.json": _DENSE, "2_Dense/config.json": {"out_features": 4}}, IntegrityError, "in_features"),
    "dense weights": ({"modules.json": _DENSE, "2_Dense/config.json": {"in_features": 32, "out_features": 4}},
                      NotFoundError, "2_Dense has no weights"),
    "tokenizer": ({"tokenizer.json": {"added_tokens": [], "model": {"type": "Foo"}}}, UsageError, "tokenizer of"),
    "limit": ({"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": "x"}}, UsageError,
              "tokenizer of"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.mark.parametrize("case", list(DAMAGED))
def test_a_damaged_folder_is_an_error_and_no_traceback(case: str, bert: Path, tmp_path: Path) -> None:
    files, kind, message = DAMAGED[case]
    path = tmp_path / "tiny"
    shutil.copytree(bert, path)
    _sentence(path, **files)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path)))
    assert "--weights" not in str(caught.value)


@pytest.mark.heavy
def test_no_more_tokens_are_taken_than_there_are_positions_for(bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny"
    shutil.copytree(bert, path)
    _sentence(path, **{"sentence_bert_config.json": {"max_seq_length": 4096}})
    settings = json.loads((path / "tokenizer_config.json").read_text()) | {"model_max_length": 10**30}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    card, backbone = keep(layout_at(tmp_path / "store"), path)
    assert card.text is not None
    assert card.text.max_length == 64
    ids = np.full((1, 64), 5)
    assert np.isfinite(backbone.texts(ids, np.ones_like(ids))).all()
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    assert folder.read(path).longest == 24


def test_a_tower_that_is_not_there_is_left_out_of_the_advice(bert: Path) -> None:
    with pytest.raises(UsageError, match="has no towers") as caught:
        modality_of(ModelRequest(model=f"{bert}:text"))
    assert caught.value.hint == "Leave :text out."
