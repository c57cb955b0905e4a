"""Backbones: found by name, exported once to ONNX, proven equal to the original, run without torch.

``catalog`` knows the names, ``vision`` and ``words`` load the originals, ``export`` turns one into a
graph, ``space`` says which vectors are comparable, ``parity`` proves it, ``making`` puts the model
into the store, ``tuned`` one that was fine-tuned, ``kept`` gets it out, ``session`` runs it and ``ensure``
leads from a name to a card.
"""

from typing import TYPE_CHECKING, Any

from featstore.models.asking import requested
from featstore.models.bundle import write_out
from featstore.models.catalog import CatalogEntry, ModelOptions, ModelRequest, catalog, check_options, entry
from featstore.models.ensure import ensure, find, modality_of, original, plain
from featstore.models.kept import export_model, load_card, open_backbone, versions
from featstore.models.parity import check_canaries
from featstore.models.session import BACKENDS, Backbone, Device, check_backend, cuda_works, devices

if TYPE_CHECKING:
    from featstore.models.about import describe

__all__ = [
    "BACKENDS",
    "Backbone",
    "CatalogEntry",
    "Device",
    "ModelOptions",
    "ModelRequest",
    "catalog",
    "check_backend",
    "check_canaries",
    "check_options",
    "cuda_works",
    "describe",
    "devices",
    "ensure",
    "entry",
    "export_model",
    "find",
    "load_card",
    "modality_of",
    "open_backbone",
    "original",
    "plain",
    "requested",
    "versions",
    "write_out",
]


def __getattr__(name: str) -> Any:
    if name == "describe":  # reads what is not in the store yet, for which a search need not wait
        from featstore.models.about import describe

        return describe
    raise AttributeError(f"module 'featstore.models' has no attribute '{name}'")
