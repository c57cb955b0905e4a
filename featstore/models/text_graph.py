"""From token ids to one vector: a transformers network, its pooling, and what its folder puts behind."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.errors import UsageError
from featstore.models import layers, text_choices
from featstore.models.folder import FolderSpec

if TYPE_CHECKING:
    import torch

__all__ = ["text_graph"]


def text_graph(network: torch.nn.Module, spec: FolderSpec, tail: Sequence[torch.nn.Module | None]) -> torch.nn.Module:
    """Wraps a network so that ids and mask give one vector per text; evaluation mode.

    Args:
        network: A transformers model that returns ``last_hidden_state``.
        spec: The layer, the pooling and what follows it.
        tail: For each step of ``spec.tail`` its layer, or None for the normalisation.

    Raises:
        UsageError: There is no such layer, it does not give a vector for each token, or what follows does not
            take what the pooling gives.
    """
    import torch

    parameters = inspect.signature(network.forward).parameters
    segments = "token_type_ids" in parameters and int(spec.config.get("type_vocab_size") or 0) > 0
    options = {"use_cache": False} if "use_cache" in parameters else {}

    body = network if spec.layer is None else layers.capture(network, spec.layer)

    def states(body: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        extra = {"token_type_ids": torch.zeros_like(input_ids)} if segments else {}
        found = body(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **extra, **options)
        hidden: torch.Tensor = found.last_hidden_state if spec.layer is None else found
        return hidden

    with torch.inference_mode():
        shape = tuple(states(body, torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)).shape)
    if len(shape) != 3 or shape[:2] != (2, 3):
        raise UsageError(
            f"--layer {spec.layer}: its output is of shape {shape} for 2 texts of 3 tokens, not a vector for each.",
            hint="Name a layer that gives (texts, tokens, values), such as a whole block.",
        )
    text_choices.check_widths(spec, shape[2])

    class TextGraph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            self.tail = torch.nn.ModuleList([torch.nn.Identity() if layer is None else layer for layer in tail])

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = states(self.body, input_ids, attention_mask)
            vector = torch.cat([_pool(hidden, attention_mask, mode) for mode in spec.pooling], dim=-1)
            for step, layer in zip(spec.tail, self.tail, strict=True):
                vector = torch.nn.functional.normalize(vector, p=2.0, dim=1) if step == "normalize" else layer(vector)
            return vector

    return TextGraph().eval()


def _pool(hidden: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """(b, t, d) hidden states and (b, t) mask → (b, d); right for padding on either side."""
    import torch

    if mode in ("cls", "lasttoken"):
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device).unsqueeze(0)
        if mode == "lasttoken":
            chosen = (places * mask).argmax(dim=1)
        else:
            chosen = ((mask.shape[1] + 1 - places) * mask).argmax(dim=1)
        return torch.gather(hidden, 1, chosen.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])).squeeze(1)
    wide = mask.unsqueeze(-1).to(hidden.dtype)
    if mode == "max":
        return hidden.masked_fill(wide == 0, float("-inf")).max(dim=1).values
    return (hidden * wide).sum(dim=1) / wide.sum(dim=1).clamp(min=1e-9)
