"""Proof that an exported graph computes what the original does, and that it still does later on.

The parity gate compares with torch once, at the export. The canaries, inputs kept with their vectors,
are computed again when the artefact, the runtime or the device has changed since the last check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featstore.errors import FeatstoreError, GateError, IntegrityError, RetryableError
from featstore.layout import Layout
from featstore.models import samples, session, verified
from featstore.records import FORMAT_VERSION, ImagePreprocessing, ModelCard, Parity, TextPreprocessing
from featstore.storage import documents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.models.original import Original

__all__ = [
    "LEAST_COSINE",
    "Checked",
    "Subject",
    "canaries",
    "canaries_again",
    "canary_batches",
    "canary_vectors",
    "check_canaries",
    "compare_canaries",
    "gate",
    "gate_runtime",
    "of_length_one",
    "remember",
]

LEAST_COSINE = 0.9999
_ITEMS = 16
_CANARIES = 64
_CANARY_SIDE = 96
_BATCH = 8
_TOKENS = 1024
_NOTE = "checked.json"
_REMEMBERED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """``models/SPACE_ID/checked.json``: under what the canaries last agreed."""

    format_version: int = FORMAT_VERSION
    checked: tuple[str, ...]


class Subject(Protocol):
    """What is compared: its name and how its inputs are made, as an ``Original`` has them."""

    @property
    def model(self) -> str: ...
    @property
    def image(self) -> ImagePreprocessing | None: ...
    @property
    def text(self) -> TextPreprocessing | None: ...
    @property
    def encode(self) -> Callable[[Sequence[str]], list[list[int]]] | None: ...


def gate(original: Original, backbone: session.Backbone) -> Parity:
    """Compares the graph with torch on sixteen real inputs, and batches of one with a batch of all.

    Raises:
        GateError: A cosine is below 0.9999, or a vector is not finite.
    """
    import torch

    if original.image is not None:
        batch = samples.pictures(_ITEMS, *original.image.crop)
        with torch.inference_mode():
            reference = np.concatenate(
                [original.graph(torch.from_numpy(batch[i : i + _BATCH])).numpy() for i in range(0, _ITEMS, _BATCH)]
            )
        together = np.concatenate([backbone.images(batch[i : i + _BATCH]) for i in range(0, _ITEMS, _BATCH)])
        alone = np.concatenate([backbone.images(batch[i : i + 1]) for i in range(_ITEMS)])
    else:
        assert original.text is not None
        tokens = _tokens(original)[:_ITEMS]
        ids, mask = _padded(tokens, original.text.pad_token_id)
        with torch.inference_mode():
            reference = original.graph(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        together = backbone.texts(ids, mask)
        alone = np.concatenate([backbone.texts(*_padded([t], original.text.pad_token_id)) for t in tokens])
    parity = _measured(reference, together, alone, f"torch {torch.__version__.partition('+')[0]}")
    if not _close(parity):
        raise GateError(
            f"the exported {original.model} differs from the original: least cosine {parity.min_cosine:.6f} against "
            f"torch, {parity.batch_min_cosine:.6f} between batches of 1 and {_ITEMS}; {LEAST_COSINE} is needed.",
            hint="Nothing was kept. Weights that were never trained or have overflowing values can cause this.",
            context={"min_cosine": parity.min_cosine, "batch_min_cosine": parity.batch_min_cosine},
        )
    return parity


def gate_runtime(subject: Subject, backbone: session.Backbone, plain: session.Backbone) -> Parity:
    """Compares a graph that has no original with itself: as the runtime rewrites it and as it is written.

    Args:
        subject: What sixteen real inputs are made for.
        backbone: The graph with the runtime's optimisations.
        plain: The same without.

    Raises:
        GateError: A cosine, also that of batches of one with a batch of all, is below 0.9999; a vector is not
            finite; or all inputs give the same vector.
    """
    if subject.image is not None:
        batch = samples.pictures(_ITEMS, *subject.image.crop)
        reference, together = plain.images(batch), backbone.images(batch)
        alone = np.concatenate([backbone.images(batch[i : i + 1]) for i in range(_ITEMS)])
    else:
        assert subject.text is not None
        tokens = _tokens(subject)[:_ITEMS]
        ids, mask = _padded(tokens, subject.text.pad_token_id)
        reference, together = plain.texts(ids, mask), backbone.texts(ids, mask)
        alone = np.concatenate([backbone.texts(*_padded([t], subject.text.pad_token_id)) for t in tokens])
    parity = _measured(reference, together, alone, f"{backbone.runtime} without optimisation")
    found = {"min_cosine": parity.min_cosine, "batch_min_cosine": parity.batch_min_cosine}
    if not _close(parity):
        raise GateError(
            f"{subject.model} gives other vectors under the runtime's optimisations or in batches: least cosine "
            f"{parity.min_cosine:.6f} with the graph as written, {parity.batch_min_cosine:.6f} between batches of 1 "
            f"and {_ITEMS}; {LEAST_COSINE} is needed.",
            hint="Nothing was kept. A network left in training mode, a mask that is not used, or values that "
            "overflow can cause this.",
            context=found,
        )
    if bool((together == together[0]).all()):
        raise GateError(
            f"{subject.model} gives the same vector for {_ITEMS} different inputs.",
            hint="Nothing was kept. Name the right output in its card.",
            context=found,
        )
    return parity


def of_length_one(content: bytes) -> bool:
    """Whether the vectors among canaries are of length 1, within 1 in 1,000."""
    from safetensors.numpy import load

    lengths = np.linalg.norm(load(content)["vectors"].astype(np.float64), axis=1)
    return bool((np.abs(lengths - 1.0) < 1e-3).all())


def canaries(original: Subject, backbone: session.Backbone) -> bytes:
    """Makes the canaries: 64 inputs and the vectors that the artefact gives for them, as safetensors.

    Images are kept as 96-pixel pictures and enlarged in whole numbers to the network's input; texts as
    token ids, so that checking them needs no tokenizer.
    """
    from safetensors.numpy import save

    if original.image is not None:
        content: dict[str, NDArray[Any]] = {"pictures": samples.pictures(_CANARIES, _CANARY_SIDE, _CANARY_SIDE, seed=1)}
    else:
        assert original.text is not None
        ids, mask = _padded(_tokens(original), original.text.pad_token_id)
        content = {"ids": ids.astype(np.int32), "mask": mask.astype(np.uint8)}
    content["vectors"] = _embed(content, backbone)
    return save(content)


def canaries_again(layout: Layout, base: ModelCard, backbone: session.Backbone) -> tuple[bytes, Parity]:
    """The canaries of a model made from another one: that one's inputs, with the vectors that this one gives.

    Args:
        layout: The store.
        base: The card of the other model.
        backbone: The new one.

    Returns:
        The file, and how the vectors stand to the base's and to those of single items.

    Raises:
        IntegrityError: The base's canaries are missing or damaged.
    """
    from safetensors.numpy import save

    content = dict(_kept(layout, base))
    before, content["vectors"] = np.asarray(content["vectors"], np.float32), _embed(content, backbone)
    alone = np.empty_like(content["vectors"])
    for rows, arrays in _batches(content, backbone.card):
        for at, row in enumerate(rows):
            one = tuple(array[at : at + 1] for array in arrays)
            alone[row] = (backbone.images(*one) if backbone.card.image is not None else backbone.texts(*one))[0]
    measured = replace(_measured(before, content["vectors"], alone, base.space_id), items=len(alone))
    return save(content), measured


def check_canaries(layout: Layout, card: ModelCard, backbone: session.Backbone) -> None:
    """Embeds the canaries again where artefact, runtime or device are new, and compares.

    A success is remembered beside the model; the same combination is not checked twice.

    Raises:
        IntegrityError: A cosine is below 0.9999: this device or runtime would fill the space with
            vectors that do not belong there; or the canaries are damaged.
    """
    if _now(card, backbone) in _before(layout, card):
        return
    raw = verified.read(layout.storage, layout.model(card.space_id, card.canaries.file), card.canaries)
    compare_canaries(card, raw, backbone)
    remember(layout, card, backbone)


def compare_canaries(card: ModelCard, raw: bytes, backbone: session.Backbone) -> None:
    """Embeds canaries and compares the vectors with those kept.

    Args:
        card: The model's card.
        raw: The canaries, as ``canaries`` made them.
        backbone: The opened model.

    Raises:
        IntegrityError: A cosine is below 0.9999, or the canaries cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = load(raw)
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"the canaries of {card.space_id} cannot be read: {error}.") from error
    if not _sound(content, backbone.card):
        raise IntegrityError(f"the canaries of {card.space_id} are not inputs and vectors as its card describes them.")
    try:
        found = _embed(content, backbone)
    except (IntegrityError, RetryableError):
        raise
    except FeatstoreError as error:  # such as ids that the graph has no row for
        raise IntegrityError(f"the canaries of {card.space_id} cannot be embedded: {error.message}") from error
    cosines = _cosines(content["vectors"], found)
    if not cosines.min() >= LEAST_COSINE:
        raise IntegrityError(
            f"{card.space_id} gives other vectors on {backbone.device} with {backbone.runtime} than when its space "
            f"was made: least cosine {cosines.min():.6f} over {len(cosines)} canaries, {LEAST_COSINE} is needed.",
            hint="Use another --device or --backend, or the ONNX Runtime named in the model's card.",
        )


def canary_batches(layout: Layout, card: ModelCard) -> Iterator[tuple[NDArray[Any], ...]]:
    """The canaries of a model as it takes them: pictures uint8 (b, h, w, 3), or ids and mask int64 (b, t).

    Raises:
        IntegrityError: They are missing or damaged.
    """
    return (arrays for _, arrays in _batches(_kept(layout, card), card))


def canary_vectors(layout: Layout, card: ModelCard) -> NDArray[np.float32]:
    """The vectors (n, dim) that a model gave for its canaries when its space was made.

    Raises:
        IntegrityError: They are missing or damaged.
    """
    return np.asarray(_kept(layout, card)["vectors"], np.float32)


def _kept(layout: Layout, card: ModelCard) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = verified.read(layout.storage, layout.model(card.space_id, card.canaries.file), card.canaries)
    try:
        content: dict[str, NDArray[Any]] = load(raw)
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"the canaries of {card.space_id} cannot be read: {error}.") from error
    if not _sound(content, card):
        raise IntegrityError(f"the canaries of {card.space_id} are not inputs and vectors as its card describes them.")
    return content


def _sound(content: dict[str, NDArray[Any]], card: ModelCard) -> bool:
    """Whether there are canaries, each with a vector, of the types and shapes that ``canaries`` gives them."""
    vectors = content.get("vectors")
    if vectors is None or vectors.ndim != 2 or len(vectors) == 0 or vectors.dtype.kind != "f":
        return False
    if card.image is not None:
        pictures = content.get("pictures")
        if pictures is None or pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            return False
        return len(pictures) == len(vectors) and min(pictures.shape) > 0
    ids, mask = content.get("ids"), content.get("mask")
    if ids is None or mask is None or ids.ndim != 2 or ids.shape != mask.shape or len(ids) != len(vectors):
        return False
    whole = ids.dtype.kind in "iu" and mask.dtype.kind in "iu"
    return whole and ids.shape[1] > 0 and bool((mask <= 1).all()) and bool((mask.sum(axis=1) > 0).all())


def remember(layout: Layout, card: ModelCard, backbone: session.Backbone) -> None:
    """Notes that the canaries agree under this artefact, runtime and device."""
    checked = (*_before(layout, card), _now(card, backbone))[-_REMEMBERED:]
    documents.write(layout.storage, layout.model(card.space_id, _NOTE), Checked(checked=checked))


def _now(card: ModelCard, backbone: session.Backbone) -> str:
    return f"{backbone.runtime} · {backbone.device} · {card.onnx.sha256[:16]} · {card.canaries.sha256[:16]}"


def _before(layout: Layout, card: ModelCard) -> tuple[str, ...]:
    try:
        found = documents.find(layout.storage, layout.model(card.space_id, _NOTE), Checked)
    except IntegrityError:  # only a note of past checks: checking again mends it
        return ()
    return found.checked if found is not None else ()


def _embed(content: dict[str, NDArray[Any]], backbone: session.Backbone) -> NDArray[np.float32]:
    count = len(content["ids" if backbone.card.image is None else "pictures"])
    found = np.empty((count, backbone.card.dim), np.float32)
    for rows, arrays in _batches(content, backbone.card):
        found[rows] = backbone.images(*arrays) if backbone.card.image is not None else backbone.texts(*arrays)
    return found


def _batches(
    content: dict[str, NDArray[Any]], card: ModelCard
) -> Iterator[tuple[NDArray[np.int64], tuple[NDArray[Any], ...]]]:
    """The rows of each batch, and its inputs."""
    if card.image is not None:
        height, width = card.image.crop
        pictures = content["pictures"]
        for i in range(0, len(pictures), _BATCH):
            chosen = np.arange(i, min(i + _BATCH, len(pictures)))
            yield chosen, (np.stack([samples.enlarge(pictures[at], height, width) for at in chosen]),)
        return
    ids, mask = content["ids"].astype(np.int64), content["mask"].astype(np.int64)
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):  # short ones together, so that little is padding
        stop = start + 1
        while stop < len(order) and lengths[order[stop]] * (stop + 1 - start) <= _TOKENS:
            stop += 1
        chosen, longest = order[start:stop], int(lengths[order[stop - 1]])
        yield chosen, (ids[chosen, :longest], mask[chosen, :longest])
        start = stop


def _measured(
    reference: NDArray[np.float32], together: NDArray[np.float32], alone: NDArray[np.float32], name: str
) -> Parity:
    against_reference, against_alone = _cosines(reference, together), _cosines(together, alone)
    return Parity(
        items=_ITEMS,
        min_cosine=float(against_reference.min()),
        mean_cosine=float(against_reference.mean()),
        batch_min_cosine=float(against_alone.min()),
        reference=name,
    )


def _close(parity: Parity) -> bool:
    return parity.min_cosine >= LEAST_COSINE and parity.batch_min_cosine >= LEAST_COSINE


def _tokens(original: Subject) -> list[list[int]]:
    assert original.encode is not None
    assert original.text is not None
    found = original.encode(samples.canary_texts(_CANARIES))
    # A tokenizer without special tokens may know none of a script's characters.
    return [tokens or [original.text.pad_token_id] for tokens in found]


def _padded(tokens: list[list[int]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = max(len(t) for t in tokens)
    ids = np.full((len(tokens), longest), pad, np.int64)
    mask = np.zeros_like(ids)
    for i, t in enumerate(tokens):
        ids[i, : len(t)] = t
        mask[i, : len(t)] = 1
    return ids, mask


def _cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, in float64; −1 where a row is not finite or one of the two is zero."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    if a.shape != b.shape:
        return np.full(1, -1.0)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = (a * b).sum(axis=1) / lengths
    return np.where(np.isfinite(cosines), cosines, -1.0)
