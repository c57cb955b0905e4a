"""Tiny networks and model folders for the tests of ``featstore.models``: made here, from seeds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featstore.layout import Layout
from featstore.models import Backbone, ModelOptions, ModelRequest, ensure, making, open_backbone
from featstore.models.catalog import resolve
from featstore.models.original import Original
from featstore.models.vision import image_graph, penultimate
from featstore.records import ImagePreprocessing, ModelCard
from featstore.storage import Storage

SIDE = 64
PIXELS = ImagePreprocessing(
    resize=(72, 72),
    resize_mode="shortest",
    interpolation="bilinear",
    crop=(SIDE, SIDE),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

SENTENCES = (
    "the cat sat on the mat",
    "Ein Hund läuft durch den Wald, schnell!",
    "猫坐在垫子上。",
    "a",
    "кот сидит на коврике",
    "the quick brown fox jumps over the lazy dog while the dog dreams of quick brown foxes that jump over it",
    "naïve café",
    "unknownword 🙂 the cat",
)


def layout_at(path: Path) -> Layout:
    return Layout(Storage.at(path))


def keep(layout: Layout, model: str | Path, weights: Path | None = None) -> tuple[ModelCard, Backbone]:
    card = ensure(layout, ModelRequest(model=str(model), weights=weights))
    return card, open_backbone(layout, card, device="cpu")


def original(model: str | Path, weights: Path | None = None, **options: object) -> Original:
    """A model before its export, which the parity gate holds to it: enough to look at what it is and computes."""
    request = ModelRequest(model=str(model), weights=weights, options=ModelOptions(**options))  # type: ignore[arg-type]
    ensuring = importlib.import_module("featstore.models.ensure")  # the package has a function of that name
    found = ensuring._load(resolve(str(model)), request, lambda _: None)
    assert isinstance(found, Original)
    return found


def sketched(model: str | Path, weights: Path | None = None, **options: object) -> ModelCard:
    """The card that it would be kept with, but for its files: its space, which the export does not change."""
    return making.sketch(original(model, weights, **options))


def images_of(found: Original, batch: np.ndarray) -> np.ndarray:
    """What a model before its export gives for pictures."""
    with torch.inference_mode():
        return np.asarray(found.graph(torch.from_numpy(batch)).numpy())


def texts_of(found: Original, texts: Sequence[str]) -> np.ndarray:
    """What a model before its export gives for texts in one batch, the shorter ones filled up."""
    assert found.encode is not None
    assert found.text is not None
    rows = found.encode(texts)
    shape = (len(rows), max(len(row) for row in rows))
    ids, mask = np.full(shape, found.text.pad_token_id, np.int64), np.zeros(shape, np.int64)
    for at, own in enumerate(rows):
        ids[at, : len(own)], mask[at, : len(own)] = own, 1
    with torch.inference_mode():
        return np.asarray(found.graph(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())


# ── images ────────────────────────────────────────────────────────────────────────────────────


def _tiny_resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7)


def _tiny_vgg() -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    network = VGG(make_layers([8, "M", 16, "M", 512, "M"], batch_norm=True), num_classes=7, init_weights=True)
    head = [nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 24), nn.ReLU(True), nn.Dropout()]
    network.classifier = nn.Sequential(*head, nn.Linear(24, 7))
    return network


def _tiny_efficientnet() -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    stages = [MBConvConfig(1, 3, 1, 16, 16, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 16, 24, 2, 1.0, 1.0)]
    return EfficientNet(stages, dropout=0.5, stochastic_depth_prob=0.5, num_classes=7)


def _tiny_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], stochastic_depth_prob=0.5, num_classes=7)


def _tiny_vit() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        image_size=SIDE, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, dropout=0.3, num_classes=7
    )
    nn.init.normal_(network.heads.head.weight)
    return network


TINY_VISION: dict[str, Callable[[], nn.Module]] = {
    "resnet": _tiny_resnet,
    "vgg": _tiny_vgg,
    "efficientnet": _tiny_efficientnet,
    "convnext": _tiny_convnext,
    "vit": _tiny_vit,
}


def tiny_vision(family: str, seed: int = 0) -> nn.Module:
    """A network with its head, in evaluation mode, its batch norms not at their start."""
    torch.manual_seed(seed)
    network = TINY_VISION[family]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return network.eval()


def vision_original(network: nn.Module, family: str, how: ImagePreprocessing = PIXELS) -> Original:
    """The network as the loaders hand it over; its head is taken off in place."""
    body = penultimate(network, family)
    return Original(
        graph=image_graph(body, how),
        state=dict(body.state_dict()),
        model=f"tiny-{family}",
        slug=f"tiny-{family}",
        family=family,
        architecture=f"tiny-{family}",
        modality="image",
        layer="penultimate",
        pooling="mean",
        normalize=False,
        source="test",
        weights_sha256="0" * 64,
        libraries=("torch", "torchvision"),
        image=how,
    )


# ── texts ─────────────────────────────────────────────────────────────────────────────────────

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _words() -> list[str]:
    text = " ".join(SENTENCES).lower()
    return sorted({w.strip(".,!。") for w in text.split()} | set(text.replace(" ", "")))


def bert_folder(path: Path, *, seed: int = 0, **options: Any) -> Path:
    """BERT with a multilingual WordPiece vocabulary; only ``vocab.txt``, no ``tokenizer.json``."""
    from transformers import BertConfig, BertModel

    pieces = [*_SPECIAL, *_words(), *("##" + w for w in _words())]
    path.mkdir(parents=True, exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 48}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, **options,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(path)
    return path


def _bpe(path: Path, *, roberta: bool) -> int:
    from tokenizers import ByteLevelBPETokenizer

    engine = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["<|endoftext|>"]
    engine.train_from_iterator(SENTENCES * 3, vocab_size=400, special_tokens=special, show_progress=False)
    path.mkdir(parents=True, exist_ok=True)
    engine.save_model(str(path))
    return int(engine.get_vocab_size())


def roberta_folder(path: Path) -> Path:
    from transformers import RobertaConfig, RobertaModel

    size = _bpe(path, roberta=True)
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    RobertaModel(config).eval().save_pretrained(path)
    return path


def gpt2_folder(path: Path) -> Path:
    """GPT-2: a decoder without a padding token."""
    from transformers import GPT2Config, GPT2Model

    size = _bpe(path, roberta=False)
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
    GPT2Model(config).eval().save_pretrained(path)
    return path


def sentence_folder(path: Path, pooling: str, *, dense: bool = True, prompts: dict[str, str] | None = None) -> Path:
    """A sentence-transformers folder, written by that library: BERT, pooling, dense layer, normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
    from transformers import AutoTokenizer

    inner = bert_folder(path.with_name(path.name + "-bert"))
    AutoTokenizer.from_pretrained(str(inner)).save_pretrained(str(inner))
    word = Transformer(str(inner), max_seq_length=20)
    parts: list[nn.Module] = [word, Pooling(32, pooling_mode=pooling)]
    if dense:
        torch.manual_seed(3)
        parts.append(Dense(32, 24, activation_function=nn.Tanh()))
    parts.append(Normalize())
    SentenceTransformer(modules=parts, prompts=prompts, device="cpu").save(str(path))
    return path


def tokens(layout: Layout, card: ModelCard, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask as the card and the kept ``tokenizer.json`` say, by the tokenizers library alone."""
    from tokenizers import Tokenizer

    assert card.text is not None
    assert card.tokenizer is not None
    engine = Tokenizer.from_file(str(layout.storage.local(layout.model(card.space_id, card.tokenizer.file))))
    assert engine.truncation is None
    assert engine.padding is None
    engine.enable_truncation(card.text.max_length)
    found = [engine.encode(card.text.prompt_document + text).ids for text in texts]
    longest = max(len(ids) for ids in found)
    ids = np.full((len(found), longest), card.text.pad_token_id, np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(found):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return ids, mask


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
