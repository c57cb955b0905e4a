"""Image backbones of transformers from a local folder: ViT, DINOv2, ConvNeXt and what else AutoModel loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import folder as folders
from featstore.models import hf_images, pooling
from featstore.models.catalog import ModelRequest, Target
from featstore.models.choosing import choose
from featstore.models.hf_config import function_config
from featstore.models.hf_network import network_of
from featstore.models.original import Original
from featstore.models.vision import image_graph
from featstore.records import ImagePreprocessing
from featstore.storage import hashing

if TYPE_CHECKING:
    import torch

__all__ = ["load", "special_tokens"]

_RANDOM = ("vit_mae",)


def load(target: Target, request: ModelRequest, progress: Callable[[str], None]) -> Original:
    """Loads an image encoder.

    Its vector is the class token after the final norm where the model has one, else what its own pooler
    gives (SigLIP's attention, ConvNeXt's normalised mean), else the mean over the last tokens or map. The
    tanh pooler of ViT is left out: most weights files do not hold it.

    Args:
        target: The model, with its folder.
        request: ``--weights`` (a state dict for the folder's architecture instead of its own weights) and
            what is changed of the model.
        progress: Told what is going on.

    Raises:
        NotFoundError: A file of the folder is missing.
        UsageError: The architecture, its preprocessing or what is changed of the model is not supported.
        IntegrityError: A file is damaged or holds NaN.
    """
    place, file = target.folder or Path(), request.weights
    spec = folders.read(place)
    if spec.config.get("model_type") in _RANDOM:
        raise UsageError(
            f"{place}: {spec.config['model_type']} hides parts of every image at random: it has no one vector of it.",
            hint="Save its encoder as a ViT: ViTModel.from_pretrained(FOLDER).save_pretrained(OTHER)",
        )
    progress(f"loading {target.name}")
    how = hf_images.preprocessing(place)
    network: Any = network_of(place, file)
    special = special_tokens(network)
    own, body = _own(network, how, special, target.name)
    vector = choose(
        body,
        how,
        request,
        layer="pooler" if own == "pooler" else "last hidden state",
        own=own,
        features=("last hidden state", _field(network, "last_hidden_state")),
        prefix=special,
        inside=network,
    )
    official = file is None
    name = target.name.removeprefix("hf:")
    return Original(
        graph=image_graph(vector.body, how),
        state=dict(network.state_dict()),
        model=target.name,
        slug=(name if official else f"{name}-custom") + vector.suffix,
        family="transformers",
        architecture=type(network).__name__,
        modality="image",
        layer=vector.layer,
        pooling=vector.pooling,
        normalize=False,
        source=f"folder {place.resolve().name}" if file is None else f"file {file.name}",
        weights_sha256=folders.digest(place) if file is None else hashing.of_file(file),
        libraries=("torch", "transformers"),
        licence=spec.licence if official else "unknown",
        config=function_config(network.config),
        image=how,
    )


def special_tokens(network: torch.nn.Module) -> int:
    """How many tokens a network puts before the patches: class, distillation and registers."""
    names = {name.rpartition(".")[2]: p for name, p in network.named_parameters()}
    if not {"cls_token", "class_embedding"} & names.keys():
        return 0
    registers = names.get("register_tokens")
    return 1 + ("distillation_token" in names) + (0 if registers is None else int(registers.shape[-2]))


def _own(network: torch.nn.Module, how: ImagePreprocessing, special: int, model: str) -> tuple[str, torch.nn.Module]:
    """How a network pools by itself, and the module that does it."""
    import torch

    try:
        with torch.inference_mode():
            found: Any = network(pixel_values=torch.zeros(1, 3, *how.crop), return_dict=True)
            last, own = found.last_hidden_state, found.get("pooler_output")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        size = "x".join(str(side) for side in how.crop)
        raise UsageError(
            f"{model} does not turn an image of {size} pixels into a vector: {first}",
            hint="The sizes in preprocessor_config.json and config.json must fit.",
        ) from error
    is_class = special > 0 and (own is None or torch.equal(own, last[:, 0]))
    if own is not None and not is_class:
        return "pooler", _field(network, "pooler_output")
    tokens = _field(network, "last_hidden_state")
    body, mode = pooling.pooled(
        tokens,
        None,
        shape=tuple(last.shape),
        side=how.crop,
        prefix=special,
        own="cls" if special else "mean",
        what=model,
    )
    return mode, body


def _field(network: torch.nn.Module, name: str) -> torch.nn.Module:
    import torch

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network(pixel_values=pixels, return_dict=True)[name]
            return found

    return Field().eval()
