"""Which of an image network's values the vector is: its own, or what ``--layer`` and ``--pooling`` ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import FeatstoreError, UsageError
from featstore.models import layers, matryoshka, pooling
from featstore.models.catalog import ModelRequest
from featstore.records import ImagePreprocessing

if TYPE_CHECKING:
    import torch

__all__ = ["Chosen", "choose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The network whose output is the vector, and how card and slug call it.

    ``body`` maps float32 (b, 3, h, w) to (b, dim), or to (b, dim, 1, 1).
    """

    body: torch.nn.Module
    layer: str
    pooling: str
    suffix: str = ""


def choose(
    network: torch.nn.Module,
    how: ImagePreprocessing,
    request: ModelRequest,
    *,
    layer: str,
    own: str,
    features: str | tuple[str, torch.nn.Module] | None,
    prefix: int = 0,
    inside: torch.nn.Module | None = None,
) -> Chosen:
    """Wraps a network so that it gives what was asked for.

    Its weights need not be loaded yet: a request that does not fit is refused before anything is downloaded.

    Args:
        network: float32 (b, 3, h, w) → the network's own vector.
        how: The input's size.
        request: What is changed of the model.
        layer: What the network's own vector is.
        own: How the network pools by itself; asking for just that changes nothing.
        features: What ``--pooling`` alone pools: a layer's name, or a module that gives a map or tokens and
            what to call it.
        prefix: How many special tokens stand before the patches.
        inside: Where ``--layer`` looks for its name; None is the network itself.

    Raises:
        UsageError: There is no such layer, it cannot be pooled so, ``--dim`` is too large, or the network
            does not take images of this size.
    """
    options = request.options
    if options.layer is None and options.pooling in (None, own):
        found = Chosen(body=network, layer=layer, pooling=own)
    elif options.layer is None and features is None:
        raise UsageError(
            f"--pooling {options.pooling}: {request.model} has neither a last map nor tokens.",
            hint="Name what to pool with --layer.",
        )
    else:
        if options.layer is None and isinstance(features, tuple):
            name, body = features
        else:
            name = options.layer or str(features)
            body = layers.capture(network if inside is None else inside, name)
        what = f"layer '{name}' of {request.model}"
        given = _shape(body, how, request.model)
        body, mode = pooling.pooled(
            body, options.pooling, shape=given, side=how.crop, prefix=prefix, own=own, what=what
        )
        suffix = "".join(f"-{part}" for part in (options.layer, mode) if part not in (None, "none"))
        found = Chosen(body=body, layer=name, pooling=mode, suffix=suffix)
    dim = _shape(found.body, how, request.model)[1]
    matryoshka.check(request.model, dim, options.dim)
    return found


def _shape(body: torch.nn.Module, how: ImagePreprocessing, model: str) -> tuple[int, ...]:
    import torch

    try:
        with torch.inference_mode():
            return tuple(body.eval()(torch.zeros(1, 3, *how.crop)).shape)
    except FeatstoreError:
        raise
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        size = "x".join(str(side) for side in how.crop)
        raise UsageError(f"{model} does not turn an image of {size} pixels into a vector: {first}") from error
