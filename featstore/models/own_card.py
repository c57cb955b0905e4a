"""The card beside an own ONNX file: found, read, checked; and a template of it where there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import NotFoundError, StorageError, UsageError
from featstore.models import graphs, interface, space
from featstore.records import OwnCard
from featstore.storage import documents, hashing

if TYPE_CHECKING:
    import onnx

__all__ = ["digest", "find", "graph_bytes", "name_of", "read", "template", "tokenizer"]

_LARGEST_CARD = 1 << 20
_LARGEST_TOKENIZER = 256 << 20


def find(path: Path) -> Path:
    """Where the card of an ONNX file is: ``NAME.card.json`` or ``NAME.json`` beside it.

    Raises:
        NotFoundError: There is no such ONNX file.
        UsageError: It has no card; the hint is a template made for its inputs and outputs.
        IntegrityError: It has no card and is no ONNX file that featstore would open either.
    """
    if not path.is_file():
        raise NotFoundError(f"model '{path}': there is no such file.")
    places = [path.with_name(f"{path.stem}.card.json"), path.with_suffix(".json")]
    for place in places:
        if place.is_file():
            return place
    model = graphs.parse(graph_bytes(path), name=path.name)
    raise UsageError(
        f"{path} has no card beside it: neither {places[0].name} nor {places[1].name}.",
        hint=f"Put this into {places[0].name}, with what is right for your model: {template(model)}",
    )


def read(path: Path) -> OwnCard:
    """Reads and checks the card of an ONNX file.

    Raises:
        NotFoundError: There is no such ONNX file.
        UsageError: It has no card, or the card is wrong; all that is wrong is listed.
        IntegrityError: The card is of a newer featstore.
    """
    place = find(path)
    card = documents.declared(_content(place, _LARGEST_CARD), OwnCard, where=str(place))
    problems = _problems(card)
    if problems:
        raise UsageError(f"{place}: {'; '.join(problems)}.", context={"problems": problems})
    return card


def name_of(path: Path, card: OwnCard) -> str:
    """What the model is called: the card's name, else the file's."""
    return f"{card.name or path.stem}.onnx"


def digest(path: Path) -> str:
    """SHA-256 over all that can change the model: the file, its card, its tokenizer.

    Raises:
        NotFoundError: A file is missing.
        UsageError: There is no card, or it is wrong.
    """
    card = read(path)
    words = tokenizer(path, card)
    own = None if words is None else hashing.of_text(words)
    return hashing.of_json([hashing.of_given(path), documents.to_json(card), own])


def graph_bytes(path: Path) -> bytes:
    """The bytes of an ONNX file.

    Raises:
        UsageError: They are more than a single ONNX file can be.
        StorageError: It cannot be read.
    """
    return _content(path, graphs.LARGEST)


def tokenizer(path: Path, card: OwnCard) -> str | None:
    """The text of a text model's tokenizer, without truncation and padding; None for images.

    Raises:
        NotFoundError: There is no such file.
        UsageError: The card names one outside its folder.
        IntegrityError: It is no tokenizer.
    """
    if card.text is None:
        return None
    folder = path.parent.resolve()
    place = folder / card.text.tokenizer
    if not place.resolve().is_relative_to(folder) or place.is_symlink():
        raise UsageError(f"the card of {path} names a tokenizer outside its folder: {card.text.tokenizer}.")
    if not place.is_file():
        raise NotFoundError(
            f"the card of {path} names the tokenizer {card.text.tokenizer}, which is not in its folder.",
            hint="Save it there: tokenizer.save_pretrained(FOLDER) writes a tokenizer.json.",
        )
    content = _content(place, _LARGEST_TOKENIZER).decode("utf-8", "replace")
    return space.neutral_tokenizer(content)


def template(model: onnx.ModelProto) -> str:
    """A whole card for a graph, as JSON on one line; what the graph does not say is an example.

    Args:
        model: The graph, as ``graphs.parse`` let it through.
    """
    inputs, outputs = interface.inputs_of(model), interface.outputs_of(model)
    output = next((v for v in outputs if len(v.sizes) in (2, 3)), outputs[0] if outputs else None)
    is_image = any(len(value.sizes) == 4 for value in inputs)
    body: dict[str, Any] = {"modality": "image" if is_image else "text", "licence": "unknown"}
    if output is not None:
        body |= {"output": output.name, "pooling": "none" if len(output.sizes) == 2 else "mean"}
        if output.sizes and output.sizes[-1] is None:
            body["dim"] = 512
    body["normalize"] = False
    if is_image:
        given = next(value for value in inputs if len(value.sizes) == 4)
        sizes = given.sizes[2:] if given.sizes[1] == 3 else given.sizes[1:3]
        crop = [size or 224 for size in sizes]
        body["image"] = {"resize": round(min(crop) * 256 / 224), "crop": crop, "interpolation": "bilinear"}
        if given.kind != 2:
            body["image"] |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    else:
        body["text"] = {"tokenizer": "tokenizer.json", "max_length": 256, "pad_token_id": 0}
        roles = ("input_ids", "attention_mask", "token_type_ids")
        if any(value.name not in roles for value in inputs):
            body["text"]["inputs"] = {role: value.name for role, value in zip(roles, inputs, strict=False)}
    return json.dumps(body, ensure_ascii=False)


def _problems(card: OwnCard) -> list[str]:
    found = []
    if (card.image is None) == (card.text is None) or getattr(card, card.modality) is None:
        found.append(f"a card of {card.modality}s has the part '{card.modality}' and not the other")
    if card.name is not None and (not card.name.strip() or "/" in card.name or "\\" in card.name):
        found.append(f"'name' is {card.name!r}, which is no name")
    if card.dim is not None and card.dim < 1:
        found.append(f"'dim' is {card.dim}")
    image, text = card.image, card.text
    if image is not None:
        resize = (image.resize, image.resize) if isinstance(image.resize, int) else image.resize
        if min(*resize, *(image.crop or resize)) < 1 or max(*resize, *(image.crop or resize)) > 8192:
            found.append("'image.resize' and 'image.crop' are from 1 to 8192 pixels")
        if resize[0] != resize[1] and image.resize_mode == "shortest":
            found.append("'image.resize' is one number unless 'resize_mode' is 'exact'")
        if not all(math.isfinite(value) for value in (*(image.mean or ()), *(image.std or ()))):
            found.append("'image.mean' and 'image.std' are finite numbers")
        if min(image.std or (1.0,)) <= 0:
            found.append("'image.std' is greater than 0")
    if text is not None:
        if not 1 <= text.max_length <= 1 << 20:
            found.append(f"'text.max_length' is {text.max_length}")
        if text.pad_token_id < 0:
            found.append(f"'text.pad_token_id' is {text.pad_token_id}")
    return found


def _content(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}.") from error
    if len(content) > most:
        raise UsageError(f"{path} is larger than {most:,} bytes, the most that featstore reads of such a file.")
    return content
