"""Making a space: the original is exported, compared, given canaries, and kept with its card."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from featstore.layout import Layout
from featstore.models import export, joining, kept, parity, session, space
from featstore.models.original import Original
from featstore.records import Artefact, ModelCard, Parity, WeightsInfo

__all__ = ["Draft", "draft", "keep", "publish", "sketch"]

_NO_ARTEFACT = Artefact(file="", sha256="", bytes=0)


@dataclass(frozen=True)
class Draft:
    """A model that is whole and not yet kept: proven equal to its original, with canaries.

    Attributes:
        card: Its card.
        files: Its files by name.
        backbone: Its graph, opened on the CPU.
    """

    card: ModelCard
    files: dict[str, bytes]
    backbone: session.Backbone


def keep(layout: Layout, original: Original, progress: Callable[[str], None]) -> ModelCard:
    """Exports an original, proves the graph equal to it and writes the model's folder, the card last.

    A space of equal digest that the store has already is taken as it is, once the original gives its vectors.

    Raises:
        UsageError: torch cannot export the network.
        GateError: The graph does not compute what the original does.
        IntegrityError: The store has another model under the same id or digest.
    """
    sketched = sketch(original)
    existing = kept.equal_space(layout, sketched.digest)
    if existing is not None:
        progress(f"comparing {original.model} with {existing.space_id}, which the store has")
        joining.check_original(layout, existing, original, threads=_threads())
        return existing
    return publish(layout, draft(original, progress, sketched=sketched))


def draft(original: Original, progress: Callable[[str], None], *, sketched: ModelCard | None = None) -> Draft:
    """Exports an original and proves the graph equal to it; nothing is written.

    Args:
        original: The network.
        progress: Told what is going on.
        sketched: What ``sketch`` gave for it, where that is known.

    Raises:
        UsageError: torch cannot export the network.
        GateError: The graph does not compute what the original does.
    """
    sketched = sketched or sketch(original)
    progress(f"exporting {original.model} to ONNX (once)")
    content = export.to_onnx(original)
    backbone = session.open_bytes(sketched, content, name="the exported graph", device="cpu", threads=_threads())
    progress(f"comparing the exported {original.model} with the original")
    measured = parity.gate(original, backbone)
    files = {"model.onnx": content, "canaries.safetensors": parity.canaries(original, backbone)}
    if original.tokenizer is not None:
        files["tokenizer.json"] = original.tokenizer.encode("utf-8")
    card = replace(
        sketched,
        onnx=kept.artefact("model.onnx", content),
        canaries=kept.artefact("canaries.safetensors", files["canaries.safetensors"]),
        tokenizer=kept.artefact("tokenizer.json", files["tokenizer.json"]) if original.tokenizer is not None else None,
        parity=measured,
    )
    return Draft(card, files, backbone)


def publish(layout: Layout, made: Draft) -> ModelCard:
    """Writes a model's folder, the card last; of two that make the same model at once, the second takes the first's.

    Raises:
        IntegrityError: The store has another model under the same id.
    """
    card = kept.publish(layout, made.card, made.files)
    if card.onnx.sha256 == made.card.onnx.sha256:
        parity.remember(layout, card, made.backbone)
    else:
        joining.check_graph(layout, card, made.backbone, name=made.card.model)
    return card


def sketch(original: Original) -> ModelCard:
    """The card without its files: what the digest needs, and so the space's id."""
    import torch

    with torch.inference_mode():
        if original.image is not None:
            dim = original.graph(torch.zeros(1, *original.image.crop, 3, dtype=torch.uint8)).shape[1]
        else:
            dim = original.graph(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)).shape[1]
    tensors = space.tensors_digest(original.state)
    digest = space.definition(
        architecture=original.architecture,
        layer=original.layer,
        pooling=original.pooling,
        normalize=original.normalize,
        dim=int(dim),
        tensors_sha256=tensors,
        image=original.image,
        text=original.text,
        tokenizer=original.tokenizer,
        config=original.config,
    )
    wanted = {
        *original.libraries,
        "python",
        "featstore",
        "numpy",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "onnxruntime-gpu",
    }
    return ModelCard(
        space_id=space.space_id(original.slug, digest),
        digest=digest,
        model=original.model,
        family=original.family,
        architecture=original.architecture,
        modality=original.modality,
        layer=original.layer,
        pooling=original.pooling,
        normalize=original.normalize,
        precision="fp32",
        dim=int(dim),
        weights=WeightsInfo(
            source=original.source,
            sha256=original.weights_sha256,
            tensors_sha256=tensors,
            parameters=original.parameters,
            licence=original.licence,
            training_data=original.training_data,
            url=original.url,
        ),
        onnx=_NO_ARTEFACT,
        canaries=_NO_ARTEFACT,
        parity=Parity(items=0, min_cosine=0.0, mean_cosine=0.0, batch_min_cosine=0.0, reference=""),
        versions={k: v for k, v in kept.versions().items() if k in wanted},
        created_ts=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        image=original.image,
        text=original.text,
        joint_id=original.joint_id,
    )


def _threads() -> int:
    return max(1, min(8, (os.cpu_count() or 2)))
