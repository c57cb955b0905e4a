"""What is known of a model before a store has it: read from names, cards and headers, without a network or torch."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from featstore.errors import FeatstoreError, StorageError
from featstore.models import bundle, folder, matryoshka, own, text_choices, towers
from featstore.models.catalog import CatalogEntry, ModelRequest, Target, check_options, entry, resolve

__all__ = ["describe"]

_LARGEST_HEADER = 1 << 27
_HEADS = ("pooler.", "lm_head.", "cls.", "classifier.", "score.", "qa_outputs.")
_TOWERS = {"image": ("vision_model.", "visual_projection."), "text": ("text_model.", "text_projection.")}


def describe(request: ModelRequest) -> CatalogEntry | None:
    """Licence, parameters, dim and input size of a model; None for one on a hub that nobody has asked yet.

    A ``timm:`` name imports torch; nothing else does. ``dim`` is 0 where only loading the model would tell.

    Args:
        request: The model, and what is changed of it, which shows in ``dim``.

    Raises:
        NotFoundError: There is no such model, folder or file.
        UsageError: It is none that featstore supports, or an option does not fit it.
        IntegrityError: A file of it is damaged.
    """
    found, options = _known(request), request.options
    if found is None:
        return None
    check_options(found.modality, request.model, options)
    if options.layer is not None or (found.modality == "image" and options.pooling is not None):
        return replace(found, dim=options.dim or 0)  # how wide a layer is, or what a network pools, only it can tell
    if found.dim:
        matryoshka.check(request.model, found.dim, options.dim)
    return replace(found, dim=options.dim or found.dim)


def _known(request: ModelRequest) -> CatalogEntry | None:
    known = entry(request.model)
    if known is not None:
        if known.origin != "timm":
            resolve(request.model)  # a tag that does not exist is an error here as well
        return known
    target = resolve(request.model)
    if target.file is not None:
        return _file(target, target.file, request)
    return None if target.folder is None else _folder(target, target.folder, request)


def _file(target: Target, path: Path, request: ModelRequest) -> CatalogEntry:
    if path.suffix.lower() == bundle.SUFFIX:
        bundle.check_request(request)
        card = bundle.peek(path)
        side = card.text.max_length if card.text else card.image.crop[0] if card.image else 0
        return CatalogEntry(
            name=card.model, family=card.family, modality=card.modality, dim=card.dim, input_side=side, weights=(),
            origin="file", licence=card.weights.licence, parameters=card.weights.parameters,
        )  # fmt: skip
    own_card, dim, side, parameters = own.describe(path, request)
    return CatalogEntry(
        name=target.name, family="onnx", modality=own_card.modality, dim=dim, input_side=side, weights=(),
        origin="file", licence=own_card.licence, parameters=parameters,
    )  # fmt: skip


def _folder(target: Target, place: Path, request: ModelRequest) -> CatalogEntry:
    assert target.modality is not None
    if target.tower is not None:
        towers.check_options(target.name, target.tower, request.options)
    dim, side, weights, licence = 0, 0, place, folder.licence(place)
    heads, only = _HEADS, _TOWERS[target.tower] if target.tower else ()
    if target.modality == "text" and target.tower is None:
        spec = text_choices.changed(folder.read(place), request.options)
        dense = [step.outputs for step in spec.tail if not isinstance(step, str)]
        width = _whole(spec.config.get("hidden_size") or spec.config.get("n_embd"))
        dim = dense[-1] if dense else width * len(spec.pooling)
        side, weights, licence = spec.longest, spec.transformer, spec.licence
    else:
        config = _json(place / "config.json")
        inner = config.get("vision_config" if target.modality == "image" else "text_config") if target.tower else config
        inner = inner if isinstance(inner, dict) else {}
        dim = _whole(config.get("projection_dim") if target.tower else inner.get("hidden_size"))
        side = _whole(inner.get("image_size" if target.modality == "image" else "max_position_embeddings"))
    return CatalogEntry(
        name=target.name, family="transformers", modality=target.modality, dim=dim, input_side=side, weights=(),
        origin="folder", licence=licence, parameters=_parameters(weights, heads, only),
    )  # fmt: skip


def _parameters(place: Path, heads: tuple[str, ...], only: tuple[str, ...]) -> int | None:
    """Counted from the headers of the safetensors files; None where there are none."""
    total = 0
    for path in sorted(place.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            if name != "__metadata__" and not name.startswith(heads) and (not only or name.startswith(only)):
                total += math.prod(tensor.get("shape", ())) if tensor.get("dtype") not in ("I64", "I32") else 0
    return total or None


def _header(path: Path) -> dict[str, Any]:
    """Source: safetensors' format: eight bytes of length, little-endian, then JSON."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= _LARGEST_HEADER else {}
    except ValueError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    sound = isinstance(found, dict) and all(isinstance(value, dict) for value in found.values())
    return found if sound else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FeatstoreError(f"{path} cannot be read: {error}.") from error
    return found if isinstance(found, dict) else {}


def _whole(value: object) -> int:
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) else 0
