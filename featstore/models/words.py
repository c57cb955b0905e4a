"""Text backbones: a transformers encoder or decoder from a local folder, pooled as its folder says."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.models import folder as folders
from featstore.models import quiet, space, text_choices, weights
from featstore.models.catalog import ModelRequest, Target
from featstore.models.folder import Dense, FolderSpec
from featstore.models.hf_config import function_config
from featstore.models.hf_network import network_of
from featstore.models.original import Original
from featstore.models.text_graph import text_graph
from featstore.records import TextPreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["load"]

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
)


def load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """Loads a text model from its package or folder.

    Args:
        target: The model.
        request: ``--weights`` (a state dict for the folder's architecture instead of its own weights) and
            what is changed of the model.
        progress: Told what is going on.

    Raises:
        NotFoundError: The package, or a file of the folder, is missing.
        UsageError: The folder has a part that featstore does not support, or the weights do not fit.
        IntegrityError: A file is damaged or holds NaN.
    """
    package, file = target.package, request.weights
    place = target.folder or (package.locate() if package else Path())
    spec = text_choices.changed(folders.read(place), request.options)
    progress(f"loading {target.name}")
    importlib.import_module("transformers.utils.logging")  # so that ``quiet`` can switch off its progress bars
    with quiet.libraries():
        network: Any = network_of(spec.transformer, file, text=True)
        tokenizer, encode, pad, limit = _tokenizer(spec)
    how = TextPreprocessing(
        max_length=min(spec.longest, limit),
        pad_token_id=pad,
        inputs=("input_ids", "attention_mask"),
        prompt_document=spec.prompt_document,
        prompt_query=spec.prompt_query,
    )
    special = len(encode([""], _NO_LIMIT)[0])
    if how.max_length <= special:
        raise UsageError(f"{target.name} takes {how.max_length} tokens, and its tokenizer adds {special} to each text.")
    text_choices.check_prompts(target.name, how, lambda prompt: len(encode([prompt], _NO_LIMIT)[0]))
    tail = [_layer(step) for step in spec.tail]
    state = dict(network.state_dict())
    graph = text_graph(network, spec, tail)
    for i, layer in enumerate(tail):
        if layer is not None:
            state |= {f"tail.{i}.{name}": t for name, t in layer.state_dict().items()}
    weights.check_finite(state, file.name if file else place.name)
    official = file is None
    name = package.name if package else target.name.removeprefix("hf:")
    return Original(
        graph=graph,
        state=state,
        model=target.name,
        slug=name if official else f"{name}-custom",
        family="transformers",
        architecture=type(network).__name__,
        modality="text",
        layer=" > ".join([spec.layer or "last hidden state", *(_described(step) for step in spec.tail)]),
        pooling="+".join(spec.pooling),
        normalize=bool(spec.tail) and spec.tail[-1] == "normalize",
        source=f"file {file.name}"
        if file
        else f"package {package.distribution} {package.version()}"
        if package
        else f"folder {place.resolve().name}",
        weights_sha256=hashing.of_file(file) if file else folders.digest(place),
        libraries=("torch", "transformers", "tokenizers"),
        licence=(package.licence if package else spec.licence) if official else "unknown",
        training_data=package.training_data if package and official else "unknown",
        url=package.url if package and official else None,
        config=function_config(network.config),
        text=how,
        tokenizer=tokenizer,
        encode=lambda texts: encode([how.prompt_document + text for text in texts], how.max_length),
    )


def _tokenizer(spec: FolderSpec) -> tuple[str, Callable[[list[str], int], list[list[int]]], int, int]:
    """The tokenizer's JSON, its encoder, the padding id and the most tokens that it allows."""
    if not any((spec.transformer / name).is_file() for name in _TOKENIZER_FILES):
        raise NotFoundError(
            f"{spec.transformer} has no tokenizer (tokenizer.json, vocab.txt, vocab.json, …).",
            hint="Save it into the same folder: tokenizer.save_pretrained(FOLDER)",
        )
    from transformers import AutoTokenizer

    try:
        found: Any = AutoTokenizer.from_pretrained(
            str(spec.transformer), local_files_only=True, use_fast=True, trust_remote_code=False
        )
        engine = type(found.backend_tokenizer)
        text = found.backend_tokenizer.to_str()
        own = spec.transformer / "tokenizer.json"
        if own.is_file():
            # The file itself, as long as it says the same: its bytes do not depend on a library's version.
            stored = space.neutral_tokenizer(own.read_text("utf-8"))
            probe = engine.from_str(stored)
            reference = engine.from_str(space.neutral_tokenizer(text))
            if all(probe.encode(s).ids == reference.encode(s).ids for s in _PROBES):
                text = stored
        # It is a huge number where nobody set it.
        limit = int(found.model_max_length) if 0 < int(found.model_max_length) < 10**9 else 10**9
    except IntegrityError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"transformers cannot load the tokenizer of {spec.transformer}: {first[:300]}") from error
    text = space.neutral_tokenizer(text)
    if spec.lower_case:
        text = _lower_cased(text)
    pads = (found.pad_token_id, spec.config.get("pad_token_id"), found.eos_token_id, spec.config.get("eos_token_id"), 0)
    pad = next(int(value) for value in pads if isinstance(value, int) and value >= 0)
    final = engine.from_str(text)

    def encode(texts: list[str], max_length: int) -> list[list[int]]:
        final.enable_truncation(max_length)
        return [list(e.ids) for e in final.encode_batch(texts)]

    return text, encode, pad, limit


_NO_LIMIT = 1 << 20

_PROBES = (
    "The quick brown fox — don't panic!",
    "Größe, ÉLAN, façade; 东京 北京, русский текст, हिन्दी",
    "  two  spaces\n\tand lines 12,345.67 🙂 C++ e-mail@example.org",
)


def _lower_cased(text: str) -> str:
    body = json.loads(text)
    lower = {"type": "Lowercase"}
    own = body.get("normalizer")
    body["normalizer"] = {"type": "Sequence", "normalizers": [lower, own]} if own else lower
    return json.dumps(body, ensure_ascii=False, indent=1)


def _layer(step: Dense | str) -> torch.nn.Module | None:
    if not isinstance(step, Dense):
        return None
    from torch import nn

    names = ("model.safetensors", "pytorch_model.bin")
    path = next((step.folder / name for name in names if (step.folder / name).is_file()), step.folder / names[0])
    if not path.is_file():
        raise NotFoundError(
            f"the model folder is incomplete: {step.folder} has no weights ({' or '.join(names)}).",
            hint="Save or download the whole folder again.",
        )
    layer = nn.Sequential()
    layer.add_module("linear", nn.Linear(step.inputs, step.outputs, bias=step.bias))
    weights.fill(layer, weights.read(path), source=str(path))
    kinds: dict[str, type[nn.Module]] = {
        "identity": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid,
    }  # fmt: skip
    layer.add_module("activation", kinds[step.activation]())
    return layer


def _described(step: Dense | str) -> str:
    return f"dense {step.inputs}x{step.outputs} {step.activation}" if isinstance(step, Dense) else step
