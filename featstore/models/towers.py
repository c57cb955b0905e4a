"""CLIP and SigLIP: an image and a text tower into one space, each a model of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import IntegrityError, UsageError
from featstore.models import folder as folders
from featstore.models import hf_images, hf_vision, quiet, space, text_choices, words
from featstore.models.catalog import ModelOptions, ModelRequest, Target
from featstore.models.choosing import choose
from featstore.models.folder import FolderSpec
from featstore.models.hf_config import function_config
from featstore.models.hf_network import network_of
from featstore.models.original import Original
from featstore.models.vision import image_graph
from featstore.records import Modality, TextPreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["check_options", "load"]

_NO_LIMIT = 1 << 20
_OUTSIDE = ("logit_scale", "logit_bias")  # of the training's loss, in no vector
_PROJECTIONS = {"image": "visual_projection", "text": "text_projection"}
_TOWERS = {"image": "vision_model", "text": "text_model"}
_SETTINGS = {"image": "vision_config", "text": "text_config"}
# Source: string.punctuation, which transformers' SiglipTokenizer removes.
_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"


def load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """Loads one tower of a two-tower model: its projection, of length 1.

    Both towers' cards have the same ``joint_id``, a digest over the tensors and settings of both.

    Args:
        target: The model, with its folder and which tower.
        request: ``--weights`` (a state dict of both towers instead of the folder's own) and what is
            changed of the model; ``--layer`` is for the image tower, and leaves the joint space.
        progress: Told what is going on.

    Raises:
        NotFoundError: A file of the folder is missing.
        UsageError: The preprocessing, the tokenizer or what is changed of the model is not supported.
        IntegrityError: A file is damaged or holds NaN.
    """
    tower = target.tower or "image"
    options = request.options
    place, file = target.folder or Path(), request.weights
    check_options(target.name, tower, options)
    spec = folders.read(place)
    progress(f"loading {target.name}")
    network: Any = network_of(place, file)
    state = {n: t for n, t in network.state_dict().items() if n not in _OUTSIDE and not n.endswith("position_ids")}
    official = file is None
    name = target.name.removeprefix("hf:").removesuffix(f":{tower}") + ("" if official else "-custom")
    own = (f"{_TOWERS[tower]}.", f"{_PROJECTIONS[tower]}.")
    settings = spec.config.get(_SETTINGS[tower]) or {}
    joint = hashing.of_json([space.tensors_digest(state), function_config(network.config)])
    body = _body(network, tower)
    draft = Original(
        graph=body,
        state={n: t for n, t in state.items() if n.startswith(own)},
        model=target.name,
        slug=f"{name}-{tower}",
        family="transformers",
        architecture=f"{type(network).__name__} {tower}",
        modality=tower,
        layer=_PROJECTIONS[tower] if hasattr(network, _PROJECTIONS[tower]) else "pooler",
        pooling="pooler",
        normalize=True,
        source=f"folder {place.resolve().name}" if file is None else f"file {file.name}",
        weights_sha256=folders.digest(place) if file is None else hashing.of_file(file),
        libraries=("torch", "transformers") + (("tokenizers",) if tower == "text" else ()),
        licence=spec.licence if official else "unknown",
        config=function_config(network.config)[_SETTINGS[tower]],
        joint_id=f"{network.config.model_type}-{joint[:16]}",
    )
    if tower == "text":
        return _text(draft, body, replace(spec, config=settings), network, request)
    how = hf_images.preprocessing(place)
    special = hf_vision.special_tokens(network.get_submodule(_TOWERS[tower]))
    vector = choose(body, how, request, layer=draft.layer, own="pooler", features=None, prefix=special)
    inside = options.layer is not None
    return replace(
        draft,
        graph=image_graph(vector.body, how),
        layer=vector.layer,
        pooling=vector.pooling,
        normalize=not inside,
        joint_id=None if inside else draft.joint_id,
        slug=draft.slug + vector.suffix,
        image=how,
    )


def check_options(model: str, tower: Modality, options: ModelOptions) -> None:
    """Refuses pooling and layers that a tower cannot have.

    Raises:
        UsageError: It is the text tower, or ``--pooling`` stands without ``--layer``.
    """
    if tower == "text" and (options.pooling or options.layer):
        raise UsageError(
            f"{model}: the vector of a text tower is its projection; --pooling and --layer do not fit.",
            hint="Leave them out.",
        )
    if options.pooling and not options.layer:
        raise UsageError(
            f"--pooling {options.pooling}: the vector of {model} is its projection.",
            hint="Leave --pooling out, or name the layer to pool with --layer.",
        )


def _text(
    draft: Original, body: torch.nn.Module, spec: FolderSpec, network: torch.nn.Module, request: ModelRequest
) -> Original:
    import torch

    tokenizer, encode, pad, limit = _tokenizer(spec)
    longest = min(int(spec.config.get("max_position_embeddings") or limit), limit)
    # SigLIP was trained on texts filled up to its full length, and sees the filling.
    full = "siglip" in str(getattr(network.config, "model_type", ""))

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            ids = torch.where(attention_mask == 1, input_ids, pad if full else 0)
            if full:
                places = torch.arange(longest, device=ids.device)
                taken = ids.index_select(1, places.clamp(max=ids.shape[1] - 1))
                ids = torch.where(places < ids.shape[1], taken, pad)
            found: torch.Tensor = self.body(ids)
            return found

    options = request.options
    how = TextPreprocessing(
        max_length=longest,
        pad_token_id=pad,
        inputs=("input_ids", "attention_mask"),
        prompt_document=options.prompt_document or "",
        prompt_query=options.prompt_query or "",
    )
    text_choices.check_prompts(draft.model, how, lambda prompt: len(encode([prompt], _NO_LIMIT)[0]))
    return replace(
        draft,
        graph=TextTower().eval(),
        text=how,
        tokenizer=tokenizer,
        encode=lambda texts: encode([how.prompt_document + text for text in texts], how.max_length),
    )


def _body(network: torch.nn.Module, tower: str) -> torch.nn.Module:
    """One tower with its projection, under the names that they have in the whole model."""
    import torch

    inner, projection = network.get_submodule(_TOWERS[tower]), getattr(network, _PROJECTIONS[tower], None)

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(_TOWERS[tower], inner)
            if projection is not None:
                self.add_module(_PROJECTIONS[tower], projection)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            # Unnamed: what a tower embeds is its first argument, by whatever name.
            vector: torch.Tensor = inner(given, return_dict=True).pooler_output
            if projection is not None:
                vector = projection(vector)
            return torch.nn.functional.normalize(vector, p=2.0, dim=1)

    return Tower().eval()


def _tokenizer(spec: FolderSpec) -> tuple[str, Callable[[list[str], int], list[list[int]]], int, int]:
    settings = spec.transformer / "tokenizer_config.json"
    try:
        declared: Any = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{settings} cannot be read as JSON: {error}.") from error
    if not isinstance(declared, dict):
        raise IntegrityError(f"{settings} is damaged: a JSON object was expected.")
    if declared.get("tokenizer_class") != "SiglipTokenizer":
        with quiet.libraries():
            return words._tokenizer(spec)
    return _sentence_pieces(spec, declared)


def _sentence_pieces(
    spec: FolderSpec, declared: dict[str, Any]
) -> tuple[str, Callable[[list[str], int], list[list[int]]], int, int]:
    """SigLIP's tokenizer from ``tokenizer.json``; transformers' own class reads only ``spiece.model``.

    That class lower-cases, removes punctuation and joins white space before it cuts; the same is put in
    front of whatever the file does itself.
    """
    with quiet.libraries():
        from transformers import PreTrainedTokenizerFast

    path = spec.transformer / "tokenizer.json"
    if not path.is_file():
        raise UsageError(
            f"{spec.folder}: SigLIP's tokenizer is there only as spiece.model, which featstore does not read.",
            hint="Add the tokenizer.json of the same model.",
        )
    body = json.loads(space.neutral_tokenizer(path.read_bytes().decode("utf-8", "replace")))
    steps: list[dict[str, Any]] = [{"type": "Lowercase"}] if declared.get("do_lower_case", True) else []
    steps += [
        {"type": "Replace", "pattern": {"Regex": _PUNCTUATION}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    own = body.get("normalizer")
    body["normalizer"] = {"type": "Sequence", "normalizers": [*steps, *([own] if own else [])]}
    text = json.dumps(body, ensure_ascii=False, indent=1)
    try:
        found: Any = PreTrainedTokenizerFast(tokenizer_file=str(path))  # type: ignore[no-untyped-call]
        engine = type(found.backend_tokenizer).from_str(text)
    except Exception as error:  # the tokenizers library raises plain Exception
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} cannot be read as a tokenizer: {first[:300]}") from error
    pad = engine.token_to_id(str(declared.get("pad_token") or "</s>"))
    limit = declared.get("model_max_length") or 64
    if not isinstance(limit, int | float) or limit < 1:
        raise IntegrityError(f"{spec.transformer / 'tokenizer_config.json'} is damaged: model_max_length {limit!r}.")

    def encode(texts: list[str], max_length: int) -> list[list[int]]:
        engine.enable_truncation(max_length)
        return [list(e.ids) for e in engine.encode_batch(texts)]

    return text, encode, int(pad if pad is not None else spec.config.get("pad_token_id") or 0), int(min(limit, 10**9))
