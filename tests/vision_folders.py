"""Tiny image models of transformers, one folder each, and the two towers of CLIP and SigLIP: made here, from seeds."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model_fixtures import SENTENCES

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
PATCHES = {**SIZES, "image_size": 64, "patch_size": 16}
EXACT = {"height": 64, "width": 64}


def _vit() -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    return ViTForImageClassification(ViTConfig(**PATCHES)), ViTImageProcessor(size=EXACT)


def _dinov2() -> tuple[Any, Any]:
    """Positions for 70 pixels, pictures of 56: they are interpolated inside the graph."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=70, patch_size=14)
    return Dinov2Model(config), BitImageProcessor(
        size={"shortest_edge": 72}, crop_size={"height": 56, "width": 56}, resample=3
    )


def _registers() -> tuple[Any, Any]:
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14, num_register_tokens=3
    )
    return Dinov2WithRegistersModel(config), BitImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=3
    )


def _convnext() -> tuple[Any, Any]:
    from transformers import ConvNextConfig, ConvNextImageProcessor, ConvNextModel

    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    return ConvNextModel(config), ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)


def _swin() -> tuple[Any, Any]:
    from transformers import SwinConfig, SwinModel, ViTImageProcessor

    config = SwinConfig(image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    return SwinModel(config), ViTImageProcessor(size=EXACT)


def _siglip_image() -> tuple[Any, Any]:
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    return SiglipVisionModel(SiglipVisionConfig(**PATCHES)), SiglipImageProcessor(size=EXACT)


VISION: dict[str, Callable[[], tuple[Any, Any]]] = {
    "vit": _vit,
    "dinov2": _dinov2,
    "registers": _registers,
    "convnext": _convnext,
    "swin": _swin,
    "siglip_image": _siglip_image,
}


def _save(path: Path, network: Any, processor: Any) -> Path:
    with contextlib.redirect_stderr(io.StringIO()):
        network.eval().save_pretrained(path)
        processor.save_pretrained(path)
    return path


def vision_folder(path: Path, kind: str) -> Path:
    torch.manual_seed(0)
    return _save(path, *VISION[kind]())


def _tokenizer(path: Path, special: tuple[str, ...], template: str, **settings: Any) -> tuple[int, dict[str, int]]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    engine = Tokenizer(models.BPE(unk_token=special[0]))
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.train_from_iterator(
        SENTENCES * 3, trainers.BpeTrainer(vocab_size=300, special_tokens=list(special), show_progress=False)
    )
    ids = {piece: int(engine.token_to_id(piece)) for piece in special}
    engine.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(ids.items()))
    path.mkdir(parents=True, exist_ok=True)
    engine.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(engine.get_vocab_size()), ids


def clip_folder(path: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    size, ids = _tokenizer(
        path, ("<unk>", "<bos>", "<eos>"), "<bos> $A <eos>", tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=24, pad_token="<eos>", eos_token="<eos>",
    )  # fmt: skip
    text = {**SIZES, "vocab_size": size, "max_position_embeddings": 24, "bos_token_id": ids["<bos>"]}
    text |= {"eos_token_id": ids["<eos>"], "pad_token_id": ids["<eos>"]}
    torch.manual_seed(1)
    network = CLIPModel(CLIPConfig(text_config=text, vision_config=PATCHES, projection_dim=24))
    return _save(path, network, CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=EXACT))


def siglip_folder(path: Path) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    size, ids = _tokenizer(
        path, ("<unk>", "</s>"), "$A </s>", tokenizer_class="SiglipTokenizer", model_max_length=16, pad_token="</s>"
    )
    text = {**SIZES, "vocab_size": size, "max_position_embeddings": 16, "projection_size": 32}
    text["pad_token_id"] = ids["</s>"]
    torch.manual_seed(2)
    network = SiglipModel(SiglipConfig(text_config=text, vision_config=PATCHES))
    return _save(path, network, SiglipImageProcessor(size=EXACT))
