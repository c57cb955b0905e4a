"""What a transformers folder holds, read from its ``config.json``: texts, images or both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from featstore.errors import NotFoundError, UsageError

__all__ = ["TWO_TOWERS", "Kind", "of_folder"]

Kind = Literal["text", "image", "towers"]

TWO_TOWERS = ("clip", "siglip")
"""The ``model_type`` of models with an image and a text tower into one space."""


def of_folder(folder: Path) -> Kind:
    """Whether a folder's model takes texts, images, or has a tower for each.

    Raises:
        NotFoundError: It is no model's folder.
        UsageError: Its configuration cannot be read, or the model is of a kind that featstore does not support.
    """
    path = folder / "config.json"
    if (folder / "modules.json").is_file():
        return "text"
    if not path.is_file():
        raise NotFoundError(
            f"{folder} is no model folder: it has neither config.json nor modules.json.",
            hint="Give the folder that save_pretrained() or SentenceTransformer.save() wrote.",
        )
    try:
        config: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} holds no JSON object.")
    if config.get("model_type") in TWO_TOWERS:
        return "towers"
    if "vision_config" in config and "text_config" in config:
        raise UsageError(
            f"{folder}: models of type {config.get('model_type')} with an image and a text part are not supported.",
            hint=f"Supported are {' and '.join(name.upper() for name in TWO_TOWERS)}.",
        )
    # BEiT and SigLIP's image tower have a vocab_size as well.
    if {"image_size", "num_channels", "patch_size"} & config.keys():
        return "image"
    if "vocab_size" in config:
        return "text"
    if (folder / "preprocessor_config.json").is_file():
        return "image"
    raise UsageError(
        f"{folder} holds neither a text nor an image model: its config.json has no vocab_size and no image_size.",
        hint="Supported are transformers encoders and decoders of texts, image encoders, CLIP and SigLIP.",
    )
