"""Text models changed by the user: pooling, layer, prompts, held against the libraries that made the folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_fixtures import (
    SENTENCES,
    bert_folder,
    cosines,
    gpt2_folder,
    layout_at,
    roberta_folder,
    sentence_folder,
    tokens,
)

from featstore.errors import UsageError
from featstore.layout import Layout
from featstore.models import Backbone, ModelOptions, ModelRequest, ensure, folder, open_backbone, space, words
from featstore.models.catalog import resolve
from featstore.models.original import Original
from featstore.records import ModelCard


def keep(layout: Layout, path: Path, **options: object) -> tuple[ModelCard, Backbone]:
    card = ensure(layout, ModelRequest(model=str(path), options=ModelOptions(**options)))  # type: ignore[arg-type]
    return card, open_backbone(layout, card, device="cpu")


def loaded(path: Path, **options: object) -> Original:
    """The model before its export, which the parity gate holds to it: enough to look at what options do."""
    request = ModelRequest(model=str(path), options=ModelOptions(**options))  # type: ignore[arg-type]
    return words.load(resolve(str(path)), request, lambda _: None)


def vectors(original: Original) -> np.ndarray:
    """What the model gives for the sentences, each alone, tokenised by the kept tokenizer with the kept prompt."""
    assert original.encode is not None
    with torch.inference_mode():
        rows = [torch.tensor([ids]) for ids in original.encode(SENTENCES)]
        return np.concatenate([original.graph(ids, torch.ones_like(ids)).numpy() for ids in rows])


def states(path: Path, text: str, layer: int = -1) -> np.ndarray:
    """The hidden states of one text alone through transformers, (tokens, values)."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    network = AutoModel.from_pretrained(str(path)).eval()
    given = tokenizer([text], return_tensors="pt", truncation=True, max_length=48)
    with torch.inference_mode():
        return network(**given, output_hidden_states=True).hidden_states[layer][0].numpy()


POOLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda hidden: hidden.mean(0),
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
    "max": lambda hidden: hidden.max(0),
}


@pytest.mark.parametrize(
    ("make", "pooling"),
    [
        (bert_folder, "cls"),
        (bert_folder, "max"),
        (bert_folder, "last"),
        (roberta_folder, "cls"),
        (gpt2_folder, "mean"),
        (gpt2_folder, "max"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.removesuffix("_folder"),
)
def test_a_folder_is_pooled_as_the_user_says(make: Callable[[Path], Path], pooling: str, tmp_path: Path) -> None:
    path = make(tmp_path / "network")
    original = loaded(path, pooling=pooling)
    assert original.pooling == ("lasttoken" if pooling == "last" else pooling)
    found = vectors(original)
    expected = np.stack([POOLED[pooling](states(path, text)) for text in SENTENCES])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert cosines(found, expected).min() >= 0.9999


def test_what_the_folder_says_already_is_no_other_space(tmp_path: Path) -> None:
    path = bert_folder(tmp_path / "network")

    def digest(**options: object) -> str:
        original = loaded(path, **options)
        return space.definition(
            architecture=original.architecture, layer=original.layer, pooling=original.pooling,
            normalize=original.normalize, dim=32, tensors_sha256=space.tensors_digest(original.state),
            image=None, text=original.text, tokenizer=original.tokenizer, config=original.config,
        )  # fmt: skip

    plain = digest()
    assert digest(pooling="mean", prompt_document="", prompt_query="") == plain
    changes = ({"pooling": "cls"}, {"layer": "encoder.layer.0"}, {"prompt_document": "a: "}, {"prompt_query": "a: "})
    assert len({plain, *(digest(**change) for change in changes)}) == 5


CHANGES = {
    "pooling": "max", "layer": "encoder.layer.0", "prompt_document": "a dog: ", "prompt_query": "a cat: ", "dim": 8
}  # fmt: skip


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Layout, ModelCard, Backbone]:
    """A folder, and what it became with all of the changes at once."""
    place = tmp_path_factory.mktemp("changed")
    path, layout = bert_folder(place / "network"), layout_at(place / "store")
    return path, layout, *keep(layout, path, **CHANGES)


def _expected(path: Path, prompt: str) -> np.ndarray:
    found = np.stack([states(path, prompt + text, layer=1).max(0)[:8] for text in SENTENCES])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_pooling_layer_prompt_and_dim_reach_the_exported_graph(
    changed: tuple[Path, Layout, ModelCard, Backbone],
) -> None:
    path, layout, card, backbone = changed
    assert (card.pooling, card.dim, card.normalize) == ("max", 8, True)
    found = backbone.texts(*tokens(layout, card, SENTENCES))
    np.testing.assert_allclose(found, _expected(path, "a dog: "), atol=1e-5)
    assert keep(layout, path, **CHANGES)[0] == card


@pytest.mark.parametrize("make", [bert_folder, gpt2_folder], ids=["bert", "gpt2"])
def test_a_named_layer_is_pooled_instead_of_the_last(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "network")
    name = "encoder.layer.0" if make is bert_folder else "h.0"
    original = loaded(path, layer=name, pooling="mean")
    assert original.layer == name
    expected = np.stack([states(path, text, layer=1).mean(0) for text in SENTENCES])
    np.testing.assert_allclose(vectors(original), expected, atol=1e-4)


def test_a_layer_within_a_sentence_model_leaves_its_dense_layer_out(tmp_path: Path) -> None:
    path = sentence_folder(tmp_path / "folder", "mean")
    assert loaded(path).layer.endswith("> dense 32x24 tanh > normalize")
    original = loaded(path, layer="encoder.layer.1")
    assert (original.layer, original.normalize) == ("encoder.layer.1 > normalize", True)
    found = vectors(original)
    assert found.shape[1] == 32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "last", "max"])
def test_pooling_of_a_sentence_model_is_changed_and_all_else_stays(pooling: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    path = sentence_folder(tmp_path / "folder", "mean", prompts={"query": "the cat: ", "document": "a dog: "})
    found = vectors(loaded(path, pooling=pooling))
    file = path / "1_Pooling" / "config.json"
    mode = {"last": "lasttoken"}.get(pooling, pooling)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pooling_mode": mode}))
    expected = SentenceTransformer(str(path), device="cpu").encode_document(list(SENTENCES))
    assert expected.shape[1] == 24
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("own", [None, {"query": "a dog: ", "document": "the mat: "}], ids=["none", "other"])
def test_prompts_of_the_user_go_before_the_models_own(own: dict[str, str] | None, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    path = sentence_folder(tmp_path / "folder", "mean", prompts=own)
    reference = SentenceTransformer(str(path), device="cpu")
    for document, query in (("the cat: ", "a cat: "), ("", "")):
        original = loaded(path, prompt_document=document, prompt_query=query)
        assert original.text is not None
        assert (original.text.prompt_document, original.text.prompt_query) == (document, query)
        expected = reference.encode(list(SENTENCES), prompt=document)
        np.testing.assert_allclose(vectors(original), expected, atol=1e-5)


def test_queries_and_documents_get_their_own_prompt(changed: tuple[Path, Layout, ModelCard, Backbone]) -> None:
    from featstore.encode import Encoder
    from featstore.inputs.texts import Tokenizer

    class Nobody:
        def decoded(self, row: int, content: object) -> None: ...

        def done(self, count: int, rejected: int) -> None: ...

    path, layout, card, backbone = changed
    assert card.text is not None
    tokenizer = Tokenizer(layout.storage.local(layout.model(card.space_id, "tokenizer.json")), card.text)
    encoder = Encoder(backbone, tokenizer)
    for query, prompt in ((False, "a dog: "), (True, "a cat: ")):
        found = encoder.encode(lambda row: SENTENCES[row], len(SENTENCES), Nobody(), query=query).vectors
        np.testing.assert_allclose(found, _expected(path, prompt), atol=1e-4)


def test_pooling_without_the_prompts_tokens_is_refused_unless_there_is_no_prompt(tmp_path: Path) -> None:
    path = sentence_folder(tmp_path / "folder", "mean", prompts={"query": "the cat: "})
    file = path / "1_Pooling" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"include_prompt": False}))
    with pytest.raises(UsageError, match="include_prompt false") as caught:
        loaded(path)
    assert "--prompt-query ''" in str(caught.value.hint)
    with pytest.raises(UsageError, match="include_prompt false"):
        loaded(path, prompt_document="a dog: ", prompt_query="")
    original = loaded(path, prompt_query="")
    assert original.text is not None
    assert original.text.prompt_query == ""


def test_options_that_do_not_fit_say_why(tmp_path: Path) -> None:
    bert, gpt2 = bert_folder(tmp_path / "bert"), gpt2_folder(tmp_path / "gpt2")
    with pytest.raises(UsageError, match="first token of a decoder"):
        loaded(gpt2, pooling="cls")
    with pytest.raises(UsageError, match=r"encoder\.layer\.1"):
        loaded(bert, layer="encoder.layers.1")
    with pytest.raises(UsageError, match="not a vector for each"):
        loaded(bert, layer="embeddings.position_embeddings")
    with pytest.raises(UsageError, match="takes 48: nothing of a text would be left"):
        loaded(bert, prompt_document="the cat " * 30)
    with pytest.raises(UsageError, match="surrogate"):
        loaded(bert, prompt_query="half \ud83d")
    with pytest.raises(UsageError, match="gives 32 values"):
        keep(layout_at(tmp_path / "store"), bert, dim=33)
    both = sentence_folder(tmp_path / "both", ["cls", "mean"], dense=False)  # type: ignore[arg-type]
    modules = json.loads((both / "modules.json").read_text())
    dense = sentence_folder(tmp_path / "dense", "mean")
    (dense / "2_Dense").rename(both / "2_Dense")
    config = json.loads((both / "2_Dense" / "config.json").read_text())
    (both / "2_Dense" / "config.json").write_text(json.dumps(config | {"in_features": 64}))
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "x.Dense"})
    (both / "modules.json").write_text(json.dumps(modules))
    assert len(folder.read(both).tail) == 2
    from safetensors.torch import load_file, save_file

    state = load_file(both / "2_Dense" / "model.safetensors")
    save_file(
        {n: torch.cat([t, t], 1) if t.ndim == 2 else t for n, t in state.items()},
        both / "2_Dense" / "model.safetensors",
    )
    with pytest.raises(UsageError, match="gives 32 values, and its dense layer takes 64"):
        loaded(both, pooling="mean")
    assert vectors(loaded(both)).shape[1] == 24


def test_options_beside_the_id_of_a_space_are_refused(changed: tuple[Path, Layout, ModelCard, Backbone]) -> None:
    _, layout, card, _ = changed
    assert ensure(layout, ModelRequest(model=card.space_id)).space_id == card.space_id
    with pytest.raises(UsageError, match=rf"{card.space_id} is one space"):
        ensure(layout, ModelRequest(model=card.space_id, options=ModelOptions(dim=8)))
