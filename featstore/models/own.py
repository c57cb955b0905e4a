"""A backbone from an ``.onnx`` file of the user's own: scanned, wrapped, proven on this runtime and kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import FeatstoreError, GateError, UsageError
from featstore.layout import Layout
from featstore.models import (
    decoding,
    fingerprint,
    graphs,
    interface,
    joining,
    kept,
    own_card,
    parity,
    session,
    sound,
    space,
    text_choices,
    wrapping,
)
from featstore.models.catalog import ModelRequest, check_options
from featstore.records import ImagePreprocessing, ModelCard, OwnCard, Parity, TextPreprocessing, WeightsInfo
from featstore.storage import hashing

if TYPE_CHECKING:
    import onnx

    from featstore.models.wrapping import Wrapping

__all__ = ["describe", "keep"]

_INTEGER = frozenset(("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv"))


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What the parity gate asks for."""

    model: str
    image: ImagePreprocessing | None
    text: TextPreprocessing | None
    encode: Callable[[Sequence[str]], list[list[int]]] | None


def keep(layout: Layout, path: Path, request: ModelRequest, progress: Callable[[str], None]) -> ModelCard:
    """Takes an ONNX file with its card into the store.

    The file is looked through before any runtime opens it. What is kept is one of ours: it takes uint8 pictures or
    int64 token ids and gives ``vector``. Its space is made of what the graph computes, not of the file's bytes.

    Args:
        layout: The store.
        path: The file; its card stands beside it.
        request: What is changed of the model; ``--weights`` does not fit.
        progress: Told what is going on.

    Raises:
        NotFoundError: The file or its tokenizer is missing.
        UsageError: There is no card, or card, options and graph do not fit together.
        IntegrityError: The graph is damaged, needs another file, has operators that are not ONNX's own, or gives
            other vectors than a space of equal digest.
        GateError: The runtime gives other vectors with its optimisations, or in batches, or not finite ones.
    """
    name = path.name
    card = own_card.read(path)
    words = own_card.tokenizer(path, card)
    raw = own_card.graph_bytes(path)
    model, how = _opened(raw, card, request, name)
    subject = _subject(card, how, request, words, name)
    draft = _draft(model, how, card, request, subject, words, path, raw)
    existing = kept.equal_space(layout, draft.digest)
    content = graphs.clean(wrapping.wrap(model, how), name=name)
    if existing is not None:
        backbone = session.open_bytes(draft, content, name=name, device="cpu", threads=_threads())
        joining.check_graph(layout, existing, backbone, name=name)
        return existing
    progress(f"checking {draft.model} on this runtime")
    try:
        backbone = session.open_bytes(draft, content, name=name, device="cpu", threads=_threads())
        plain = session.open_bytes(draft, content, name=name, device="cpu", threads=_threads(), optimise=False)
        measured = parity.gate_runtime(subject, backbone, plain)
        canaries = parity.canaries(subject, backbone)
    except FeatstoreError as error:
        if type(error) is not FeatstoreError:
            raise
        raise GateError(f"{name} fails on real inputs: {error.message}", hint=_NOTHING) from error
    if card.normalize and not parity.of_length_one(canaries):
        raise GateError(f"{name} gives vectors that are not of length 1; its card says normalize.", hint=_NOTHING)
    files = {"model.onnx": content, "canaries.safetensors": canaries}
    if words is not None:
        files["tokenizer.json"] = words.encode("utf-8")
    final = replace(
        draft,
        onnx=kept.artefact("model.onnx", content),
        canaries=kept.artefact("canaries.safetensors", canaries),
        tokenizer=kept.artefact("tokenizer.json", files["tokenizer.json"]) if words is not None else None,
        parity=measured,
    )
    final = kept.publish(layout, final, files)
    if final.onnx == kept.artefact("model.onnx", content):
        parity.remember(layout, final, backbone)
    else:
        joining.check_graph(layout, final, backbone, name=name)
    return final


_NOTHING = "Nothing was kept."


def describe(path: Path, request: ModelRequest) -> tuple[OwnCard, int, int, int]:
    """What a file and its card say, without opening a runtime: the card, dim, input side and parameters.

    Raises:
        Error: As ``keep`` does, the gate excepted.
    """
    card = own_card.read(path)
    model, how = _opened(own_card.graph_bytes(path), card, request, path.name)
    return card, how.dim, how.size[0] if card.text is None else card.text.max_length, _parameters(model)


def _opened(raw: bytes, card: OwnCard, request: ModelRequest, name: str) -> tuple[onnx.ModelProto, Wrapping]:
    if request.weights is not None:
        raise UsageError(f"--weights: {name} holds its weights already.")
    model = graphs.parse(raw, name=name)
    return model, interface.understand(model, card, request.options, name=name)


def _subject(card: OwnCard, how: Wrapping, request: ModelRequest, words: str | None, name: str) -> _Subject:
    options, label = request.options, name
    if card.image is not None:
        if options.prompt_document is not None or options.prompt_query is not None:
            raise UsageError(f"--prompt-document and --prompt-query are for texts; {name} takes images.")
        resize = card.image.resize
        pixels = ImagePreprocessing(
            resize=(resize, resize) if isinstance(resize, int) else resize,
            resize_mode=card.image.resize_mode,
            interpolation=card.image.interpolation,
            crop=how.size,
            mean=how.mean or (0.0, 0.0, 0.0),
            std=how.std or (1.0, 1.0, 1.0),
            decode=options.decode or "exact",
        )
        return _Subject(model=label, image=pixels, text=None, encode=None)
    check_options(card.modality, label, options)
    assert card.text is not None
    assert words is not None
    masked = "attention_mask" in how.inputs or how.shape == "tokens"
    document, query = options.prompt_document, options.prompt_query
    text = TextPreprocessing(
        max_length=card.text.max_length,
        pad_token_id=card.text.pad_token_id,
        inputs=("input_ids", "attention_mask") if masked else ("input_ids",),
        prompt_document=card.text.prompt_document if document is None else document,
        prompt_query=card.text.prompt_query if query is None else query,
    )
    engine = _tokenizer(words, text, name)
    text_choices.check_prompts(name, text, lambda prompt: len(engine.encode(prompt).ids))
    engine.enable_truncation(text.max_length)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [list(e.ids) for e in engine.encode_batch([text.prompt_document + t for t in texts])]

    return _Subject(model=label, image=None, text=text, encode=encode)


def _tokenizer(words: str, text: TextPreprocessing, name: str) -> Any:
    engine: Any = sound.tokenizer_of(words, name)
    special = engine.num_special_tokens_to_add(False)
    if text.max_length <= special:
        raise UsageError(f"the card of {name} says max_length {text.max_length}; its tokenizer adds {special} tokens.")
    return engine


def _draft(
    model: onnx.ModelProto,
    how: Wrapping,
    card: OwnCard,
    request: ModelRequest,
    subject: _Subject,
    words: str | None,
    path: Path,
    raw: bytes,
) -> ModelCard:
    """The card without its files. What only describes the graph is no part of the digest: the graph is."""
    roles = {name: role for role, name in how.inputs.items()}
    computed = fingerprint.of_graph(model, inputs=roles, output=how.output, name=path.name)
    pooled, cut = how.shape == "tokens", how.cut
    digest = space.definition(
        architecture="onnx graph",
        layer="",
        pooling=how.pooling if pooled else "",
        normalize=cut,
        dim=how.dim,
        tensors_sha256=computed,
        image=subject.image,
        text=subject.text,
        tokenizer=words,
        config={"input": how.layout or "token ids"},
    )
    steps = [card.layer or f"output {how.output}", *([f"first {how.dim} values", "normalize"] if cut else [])]
    wanted = {"featstore", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "python", "tokenizers"}
    name = own_card.name_of(path, card)
    return ModelCard(
        space_id=space.space_id(decoding.marked(name.removesuffix(".onnx"), request.options), digest),
        digest=digest,
        model=name,
        family="onnx",
        architecture="onnx graph",
        modality=card.modality,
        layer=" > ".join(steps),
        pooling=how.pooling,
        normalize=card.normalize or cut,
        precision=_precision(model),
        dim=how.dim,
        weights=WeightsInfo(
            source=f"file {path.name}",
            sha256=hashing.of_bytes(raw),
            tensors_sha256=computed,
            parameters=_parameters(model),
            licence=card.licence,
            training_data=card.training_data,
            url=card.url,
        ),
        onnx=kept.artefact("", b""),
        canaries=kept.artefact("", b""),
        parity=Parity(items=0, min_cosine=0.0, mean_cosine=0.0, batch_min_cosine=0.0, reference=""),
        versions={k: v for k, v in kept.versions().items() if k in wanted},
        created_ts=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        image=subject.image,
        text=subject.text,
    )


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type in _INTEGER for graph in graphs.parts(model) for node in graph.node):
        return "int8"
    half = (10, 16)  # TensorProto.FLOAT16 and BFLOAT16
    return "fp16" if any(t.data_type in half for t in model.graph.initializer) else "fp32"


def _parameters(model: onnx.ModelProto) -> int:
    """How many numbers the graph's weights have; those of a single value are no weights."""
    import math

    sizes = [math.prod(t.dims) for t in model.graph.initializer]
    sizes += [math.prod(a.t.dims) for n in model.graph.node if n.op_type == "Constant" for a in n.attribute]
    return sum(size for size in sizes if size > 1)


def _threads() -> int:
    return max(1, min(8, (os.cpu_count() or 2)))
