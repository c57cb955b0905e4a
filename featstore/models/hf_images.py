"""How a transformers folder wants its images prepared: its ``preprocessor_config.json`` in featstore's words."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

from featstore.errors import NotFoundError, UsageError
from featstore.models import quiet
from featstore.records import ImagePreprocessing

__all__ = ["preprocessing"]

_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Source: PIL.Image.Resampling, whose numbers ``preprocessor_config.json`` holds."""

_KNOWN = frozenset(
    (
        *("Beit", "Bit", "CLIP", "ConvNext", "DeiT", "DINOv3ViT", "DPT", "Flava", "MobileNetV1", "MobileNetV2"),
        *("Pvt", "Segformer", "Siglip", "ViT"),
    )
)
"""The processors whose pictures were compared with ours; others have rules of their own behind the same settings."""

_SQUASHED_FROM = 384
"""Source: transformers' ConvNextImageProcessor: from this side on pictures are squashed, below they are cropped."""


def preprocessing(folder: Path) -> ImagePreprocessing:
    """Reads a folder's image processor, defaults of its class included.

    Raises:
        NotFoundError: The folder has none.
        UsageError: It does something that featstore has no words for; what, is named.
    """
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise NotFoundError(
            f"{folder} has no preprocessor_config.json, which says how the network's images were prepared.",
            hint="Save it into the same folder: AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER)",
        )
    importlib.import_module("transformers.utils.logging")  # so that ``quiet`` can switch off its messages
    with quiet.libraries():
        from transformers import AutoImageProcessor

        try:
            found: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises whatever its parsers meet
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"transformers cannot read the image processor of {folder}: {first[:300]}") from error
    return _understood(found, folder)


def _understood(found: Any, folder: Path) -> ImagePreprocessing:
    kind = type(found).__name__
    if re.sub(r"ImageProcessor(Fast|Pil)?$", "", kind) not in _KNOWN:
        raise UsageError(
            f"{folder}: its images are prepared by {kind}, which featstore does not know.",
            hint="Known are those of " + ", ".join(sorted(_KNOWN)) + ". Or write the network as an .onnx file with "
            "a card that says how its images are prepared.",
        )
    strange = [
        *(["sizes that depend on the picture"] if getattr(found, "keep_aspect_ratio", False) else []),
        *([f"sides rounded to multiples of {multiple}"] if (multiple := _rounding(found)) > 1 else []),
        *(["no resizing"] if not getattr(found, "do_resize", True) else []),
        *(["padding"] if getattr(found, "do_pad", False) else []),
        *(["an offset after rescaling"] if getattr(found, "rescale_offset", False) else []),
        *(["channels in the order BGR"] if getattr(found, "do_flip_channel_order", False) else []),
    ]
    scale = float(getattr(found, "rescale_factor", 1 / 255)) if getattr(found, "do_rescale", True) else 1.0
    if not math.isclose(scale, 1 / 255, rel_tol=1e-4):
        strange.append(f"pixels times {scale:g} instead of 1/255")
    # PIL's numbers, also where the library wraps them in an enumeration of torchvision's names.
    resample = getattr(found, "resample", 2)
    name = str(getattr(resample, "value", resample))
    filter_ = _FILTERS.get(int(name)) if name.isdigit() else name if name in _FILTERS.values() else None
    if filter_ is None:
        strange.append(f"resampling {resample}")
    size = {k: v for k, v in dict(getattr(found, "size", None) or {}).items() if v is not None}
    resize, mode, crop = _sizes(found, size)
    if not resize:
        strange.append(f"size {size}")
    if strange:
        raise UsageError(
            f"{folder}: its images are prepared in a way that featstore does not support: {', '.join(strange)}.",
            hint="Supported: resize by the shorter side or to an exact size, centre crop, 1/255, mean and std.",
        )
    normalised = getattr(found, "do_normalize", True)
    mean = [float(v) for v in found.image_mean] if normalised else [0.0, 0.0, 0.0]
    std = [float(v) for v in found.image_std] if normalised else [1.0, 1.0, 1.0]
    return ImagePreprocessing(
        resize=resize,
        resize_mode=mode,  # type: ignore[arg-type]
        interpolation=filter_,  # type: ignore[arg-type]
        crop=crop,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        crop_offset="down",
    )


def _rounding(found: Any) -> int:
    """What DPT rounds the sides to; 1 where they are multiples of it already."""
    multiple = int(getattr(found, "ensure_multiple_of", None) or 1)
    sides = [v for v in dict(getattr(found, "size", None) or {}).values() if v is not None]
    return multiple if any(int(side) % multiple for side in sides) else 1


def _sizes(found: Any, size: dict[str, int]) -> tuple[Any, str, Any]:
    """The resize, its mode and the crop; an empty resize where the sizes are of another kind."""
    crop = {k: v for k, v in dict(getattr(found, "crop_size", None) or {}).items() if v is not None}
    cropped = bool(getattr(found, "do_center_crop", False)) and crop.keys() >= {"height", "width"}
    if size.keys() >= {"height", "width"}:
        exact = (int(size["height"]), int(size["width"]))
        return exact, "exact", (int(crop["height"]), int(crop["width"])) if cropped else exact
    shortest = size.get("shortest_edge")
    if shortest is None or "longest_edge" in size:
        return (), "", ()
    side = int(shortest)
    share = getattr(found, "crop_pct", None)
    if share is not None and not cropped:
        if side >= _SQUASHED_FROM:
            return (side, side), "exact", (side, side)
        return (int(side / share), int(side / share)), "shortest", (side, side)
    if not cropped:
        return (), "", ()
    return (side, side), "shortest", (int(crop["height"]), int(crop["width"]))
