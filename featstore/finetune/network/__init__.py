"""The part that knows torch: blocks and their rates, augmentation, the training loop, checkpoints, adapters.

torch is imported by the functions here when they are called, not with this package.
"""

from __future__ import annotations

from featstore.finetune.network.blocks import tuned_blocks
from featstore.finetune.network.choices import defaults, method
from featstore.finetune.network.devices import free
from featstore.finetune.network.judging import vectors
from featstore.finetune.network.measuring import rate
from featstore.finetune.network.rates import groups
from featstore.finetune.network.trained import Trained
from featstore.finetune.network.training import train

__all__ = ["Trained", "defaults", "free", "groups", "method", "rate", "train", "tuned_blocks", "vectors"]
