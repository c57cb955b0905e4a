"""Weights files: opened without ever running code in them, checked, and put into a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["check_finite", "densenet_names", "fill", "in_order", "read"]

_SHOWN = 5


def read(path: Path) -> dict[str, torch.Tensor]:
    """Reads a state dict from a safetensors file or a ``.pth`` (tensors only, never code).

    A dict under the only key ``state_dict`` or ``model`` is unwrapped; a common prefix ``module.`` is
    taken off.

    Raises:
        NotFoundError: There is no such file.
        IntegrityError: It is damaged, holds more than tensors, or holds NaN or infinity.
    """
    import torch

    if not path.is_file():
        raise NotFoundError(f"--weights {path}: there is no such file.")
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    metadata = getattr(state, "_metadata", None)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    wrong = [f"{k} ({type(v).__name__})" for k, v in state.items() if not isinstance(v, torch.Tensor)]
    if not state or wrong:
        raise IntegrityError(
            f"{path} is no state dict of tensors: {', '.join(wrong[:_SHOWN]) or 'it is empty'}.",
            hint="Save the weights with torch.save(model.state_dict(), FILE) or safetensors.torch.save_file.",
        )
    if metadata is not None and not hasattr(state, "_metadata"):
        state = _with_metadata(state, metadata)
    return state


def check_finite(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuses weights with NaN or infinity in them.

    Raises:
        IntegrityError: Naming the first tensors.
    """
    import torch

    wrong = [name for name, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if wrong:
        raise IntegrityError(
            f"the weights from {source} hold NaN or infinity in {len(wrong)} tensor(s): {', '.join(wrong[:_SHOWN])}.",
            hint="Such a network has no meaningful vectors; get the file again or train it anew.",
        )


def fill(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str, removed: tuple[str, ...] = ()
) -> None:
    """Puts a state dict into a network; every tensor must be there and fit.

    Args:
        network: The network, its head already taken off.
        state: Tensors by name; other floating types are converted to the network's.
        source: How to call the weights in a message.
        removed: Prefixes of layers that the network no longer has; theirs may be there or not.

    Raises:
        UsageError: Names or shapes differ; the first offending tensors are listed.
        IntegrityError: A tensor that is used holds NaN or infinity.
    """
    used = {k: v for k, v in state.items() if not k.startswith(removed)} if removed else dict(state)
    metadata = getattr(state, "_metadata", None)
    if metadata is None:  # MNASNet refuses a state dict that does not say its version
        metadata = {"": {"version": getattr(network, "_version", 1)}}
    try:
        result = network.load_state_dict(_with_metadata(used, metadata), strict=False)
    except (RuntimeError, ValueError) as error:
        raise _mismatch(source, [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]) from error
    problems = [f"missing {name}" for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    problems += [f"unknown {name}" for name in result.unexpected_keys if not name.endswith("num_batches_tracked")]
    if problems:
        raise _mismatch(source, problems)
    check_finite(network.state_dict(), source)


def densenet_names(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Names as they are now: the official DenseNet files write ``norm.1`` where the network says ``norm1``."""
    old = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")
    return {(m[1] + m[2] if (m := old.match(name)) else name): tensor for name, tensor in state.items()}


def in_order(network: torch.nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> dict[str, torch.Tensor]:
    """Renames tensors that list the same parameters in the same order under other names.

    Raises:
        UsageError: A shape differs.
    """
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = [(k, v) for k, v in state.items() if not k.endswith("num_batches_tracked")]
    pairs = list(zip(wanted.items(), given, strict=False))
    wrong = [f"{g} {tuple(t.shape)} for {n} {tuple(w.shape)}" for (n, w), (g, t) in pairs if w.shape != t.shape]
    if wrong or len(given) < len(wanted):
        raise _mismatch(source, wrong or [f"{len(given)} tensors, {len(wanted)} are needed"])
    return {name: tensor for (name, _), (_, tensor) in pairs}


def _mismatch(source: str, problems: list[str]) -> UsageError:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return UsageError(
        f"the weights from {source} do not fit the model: {'; '.join(problems[:_SHOWN])}{more}.",
        hint="Give the --model whose architecture these weights were trained for.",
        context={"problems": problems},
    )


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = _guarded(path, (SafetensorError,), lambda: load_file(path))
    return found


def _pickled(path: Path) -> dict[str, torch.Tensor]:
    import torch

    found = _guarded(path, (), lambda: torch.load(path, map_location="cpu", weights_only=True))
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict):
        raise IntegrityError(f"{path} holds a {type(found).__name__}, not a state dict of tensors.")
    return found


def _guarded(path: Path, kinds: tuple[type[Exception], ...], load: Callable[[], Any]) -> Any:
    """Both loaders raise whatever their parsers meet, so every exception of theirs is wrapped."""
    try:
        return load()
    except FeatstoreError:
        raise
    except kinds as error:
        raise IntegrityError(f"{path} is damaged: {_first_line(error)}.") from error
    except MemoryError:
        raise
    except Exception as error:
        raise IntegrityError(
            f"{path} cannot be read as weights: {_first_line(error)}.",
            hint="featstore opens safetensors and .pth files of plain tensors (torch.save(model.state_dict(), FILE)).",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _with_metadata(state: Mapping[str, torch.Tensor], metadata: object) -> dict[str, torch.Tensor]:
    from collections import OrderedDict

    copy: OrderedDict[str, torch.Tensor] = OrderedDict(state)
    copy._metadata = metadata  # type: ignore[attr-defined]
    return copy
