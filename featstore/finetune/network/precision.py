"""Half precision while training; what is measured and kept is always computed in full.

Source: Micikevicius et al., Mixed Precision Training (2018), for the scaling of float16's losses.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from featstore.errors import UsageError

__all__ = ["Precision", "precision"]


@dataclass(frozen=True, eq=False)
class Precision:
    """How a device computes the network while it is trained.

    Attributes:
        device: Such as ``cpu``.
        kind: ``fp32``, ``bf16`` or ``fp16``.
        scaler: Of the losses, so that small gradients do not vanish in float16; it does nothing for the others.
    """

    device: str
    kind: str
    scaler: Any

    def computing(self) -> AbstractContextManager[Any]:
        """For the network's pass; the head and the loss are computed in float32 outside of it."""
        import torch

        dtype = torch.float16 if self.kind == "fp16" else torch.bfloat16
        return torch.autocast(self.device.partition(":")[0], dtype=dtype, enabled=self.kind != "fp32")


def precision(wanted: str, device: str) -> Precision:
    """The precision asked for; ``auto`` is bfloat16 on a GPU that has it, and float32 elsewhere.

    Raises:
        UsageError: float16 on a processor, which would be slower and less exact.
    """
    import torch

    cuda = device.startswith("cuda")
    if wanted == "fp16" and not cuda:
        raise UsageError("mixed_precision fp16 needs a GPU.", hint="Use bf16, or off.")
    if wanted == "auto":
        wanted = "bf16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    kind = "fp32" if wanted == "off" else wanted
    return Precision(device, kind, torch.amp.GradScaler(device.partition(":")[0], enabled=kind == "fp16"))
