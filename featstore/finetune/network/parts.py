"""A network as a stack of parts, from the vector down to the input: what is unfrozen one after the other."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.models.original import Original

if TYPE_CHECKING:
    import torch

__all__ = ["Part", "named", "network_of", "parts"]

# Lists of plain layers are opened where there are fewer parts than this.
_ENOUGH = 3

# One list of blocks is opened where it holds such a share of all of them; the four stages of a ResNet stay as they are.
_DOMINANT = 0.9
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of the network.

    Attributes:
        name: Its first module's, as the network lists it.
        modules: What it is made of, by name.
        parameters: Those of its parameters that reach the vector, by name.
    """

    name: str
    modules: dict[str, torch.nn.Module]
    parameters: dict[str, torch.nn.Parameter]

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.parameters.values())

    @property
    def embeds(self) -> bool:
        """Whether it holds a table of tokens or positions."""
        from torch import nn

        return any(isinstance(m, nn.Embedding) for module in self.modules.values() for m in module.modules())


def parts(original: Original) -> tuple[Part, ...]:
    """Cuts a network into its stages or blocks, the one nearest to the vector first.

    The network's own lists of modules are opened until there are several parts side by side. What has only biases
    and scales (a norm) belongs to the part before it; loose parameters (class token, positions) belong to the lowest
    part. What takes no part in the vector is left out.
    """
    reached = _reached(original)
    known = {name: p for name, p in _parameters(original).items() if id(p) in reached}
    network = network_of(original)
    bundles: list[Part] = []
    loose: dict[str, torch.nn.Parameter] = {}
    for name, module in [*_opened(network), *_tail(original)]:
        own = _below(known, name)
        if module is None:
            loose |= own
        elif own and bundles and all(p.ndim <= 1 for p in own.values()):
            before = bundles[-1]
            bundles[-1] = Part(before.name, before.modules | {name: module}, before.parameters | own)
        elif own:
            bundles.append(Part(name, {name: module}, own))
    if bundles and loose:
        lowest = bundles[0]
        bundles[0] = Part(lowest.name, lowest.modules, loose | lowest.parameters)
    return tuple(reversed(bundles))


def named(original: Original, stack: Sequence[Part], name: str) -> Part:
    """The part, or any other module, of a name.

    Raises:
        UsageError: There is no such module, or nothing of it reaches the vector; the nearest names are given.
    """
    for part in stack:
        if part.name == name:
            return part
    reached = {known: p for part in stack for known, p in part.parameters.items()}
    inside = dict(_modules(original))
    own = _below(reached, name)
    if name in inside and own:
        return Part(name, {name: inside[name]}, own)
    if name in inside:
        raise UsageError(
            f"block '{name}' of {original.model} has no parameters that its vector depends on.",
            hint=f"The blocks of this network, from the top: {_listed(stack)}.",
        )
    # Names that differ in a number are alike, so those of the parts come first.
    near = difflib.get_close_matches(name, [part.name for part in stack], n=_SHOWN, cutoff=0.5)
    near = near or difflib.get_close_matches(name, list(inside), n=_SHOWN, cutoff=0.5)
    raise UsageError(
        f"{original.model} has no block '{name}'" + (f"; nearest: {', '.join(near)}." if near else "."),
        hint=f"The blocks of this network, from the top: {_listed(stack)}.",
    )


def network_of(original: Original) -> torch.nn.Module:
    """The network inside an original's wrappers, by whose own names its state is listed."""
    for module in original.graph.modules():
        names = module.state_dict().keys()
        if names and all(name in original.state for name in names):
            return module
    raise UsageError(f"{original.model}: its tensors have other names than its network.")


def _opened(network: torch.nn.Module) -> list[tuple[str, torch.nn.Module | None]]:
    """The parts in the network's own order; loose parameters have no module."""
    entries = _children(network, "")
    while True:
        composite = [(name, module) for name, module in entries if module is not None and _composite(module)]
        stacks = [entry for entry in composite if _is_stack(entry[1]) or _holds_stack(entry[1])]
        if not stacks and len(composite) < _ENOUGH:
            stacks = [entry for entry in composite if _is_list(entry[1])]  # of plain layers, as in VGG
            stacks = [max(stacks, key=lambda entry: _size(entry[1]))] if stacks else []
        total = sum(_size(module) for _, module in stacks)
        chosen = [(name, module) for name, module in stacks if _size(module) >= _DOMINANT * total]
        if not chosen:
            return entries  # nothing to open, or stages side by side
        name, module = chosen[0]
        inner = _children(module, f"{name}.")
        place = [known for known, _ in entries].index(name)
        entries[place : place + 1] = inner
        if _is_stack(module) and sum(_composite(m) for _, m in inner if m is not None) > 1:
            return entries


def _children(module: torch.nn.Module, prefix: str) -> list[tuple[str, torch.nn.Module | None]]:
    loose: list[tuple[str, torch.nn.Module | None]] = [
        (prefix + name, None) for name, _ in module.named_parameters(recurse=False)
    ]
    return loose + [(prefix + name, child) for name, child in module.named_children() if _size(child)]


def _composite(module: torch.nn.Module) -> bool:
    """Whether it is made of layers, more than a norm among them."""
    return any(_size(child) for child in module.children()) and any(p.ndim > 1 for p in module.parameters())


def _is_stack(module: torch.nn.Module) -> bool:
    """Whether it is a list of blocks."""
    return _is_list(module) and any(_composite(child) for child in module.children())


def _holds_stack(module: torch.nn.Module) -> bool:
    """Whether most of it is one list of blocks."""
    stacks = [_size(child) for child in module.children() if _is_stack(child)]
    return not _is_list(module) and bool(stacks) and 2 * max(stacks) >= _size(module)


def _is_list(module: torch.nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def _size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _tail(original: Original) -> Iterator[tuple[str, torch.nn.Module]]:
    """The dense layers that a text folder puts behind the pooling, by the names that the state has for them."""
    from torch import nn

    for module in original.graph.modules():
        tail = getattr(module, "tail", None)
        if isinstance(tail, nn.ModuleList):
            yield from ((f"tail.{i}", layer) for i, layer in enumerate(tail) if _size(layer))


def _modules(original: Original) -> Iterator[tuple[str, torch.nn.Module]]:
    network = network_of(original)
    yield from ((name, module) for name, module in network.named_modules() if name)
    for place, layer in _tail(original):
        yield from ((f"{place}.{name}".rstrip("."), module) for name, module in layer.named_modules())


def _parameters(original: Original) -> dict[str, torch.nn.Parameter]:
    network = network_of(original)
    found = dict(network.named_parameters())
    for place, layer in _tail(original):
        found |= {f"{place}.{name}": p for name, p in layer.named_parameters()}
    return found


def _below(parameters: dict[str, torch.nn.Parameter], name: str) -> dict[str, torch.nn.Parameter]:
    return {known: p for known, p in parameters.items() if known == name or known.startswith(f"{name}.")}


def _reached(original: Original) -> set[int]:
    """The ids of the parameters that the vector depends on: a chosen layer leaves those above it without effect."""
    import torch

    every = list(original.graph.parameters())
    asked = [p.requires_grad for p in every]
    try:
        for p in every:
            p.requires_grad_(True)
        with torch.enable_grad():
            if original.image is not None:
                vector = original.graph(torch.zeros(1, *original.image.crop, 3, dtype=torch.uint8))
            else:
                ids = torch.zeros(1, 2, dtype=torch.int64)
                vector = original.graph(ids, torch.ones_like(ids))
            gradients = torch.autograd.grad(vector.sum(), every, allow_unused=True)
    finally:
        for p, before in zip(every, asked, strict=True):
            p.requires_grad_(before)
    return {id(p) for p, gradient in zip(every, gradients, strict=True) if gradient is not None}


def _listed(stack: Sequence[Part]) -> str:
    names = [part.name for part in stack]
    return ", ".join(names) if len(names) <= 16 else f"{', '.join(names[:12])}, … {names[-1]}"
