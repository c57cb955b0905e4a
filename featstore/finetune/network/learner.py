"""A network, its head and its optimizer: one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import FeatstoreError
from featstore.finetune.examples import Start
from featstore.finetune.network.batches import Batch
from featstore.finetune.network.blocks import TrainedPart
from featstore.finetune.network.heads import head_of
from featstore.finetune.network.memory import exhausted
from featstore.finetune.network.modes import awake, statistics
from featstore.finetune.network.precision import precision
from featstore.finetune.network.rates import allotted
from featstore.models.original import Original
from featstore.records import ParameterGroup
from featstore.settings import FinetuneSettings

if TYPE_CHECKING:
    import torch

__all__ = ["Learner", "Learnt"]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a step found: the mean loss of its examples, and how many of them were right."""

    loss: float
    right: int


class Learner:
    """Takes steps down the loss; whatever it needs to go on elsewhere is in ``tensors``.

    Args:
        original: The network, on its device.
        start: The head to begin with.
        trained: The parts that are trained, from the top.
        adapters: The tensors of adapters by name, where they are trained instead of the parts' own.
        settings: With every default filled in.
        weights: (c,) float32, how much an example of each class counts.
        device: Where the network is.
        warn: Told when memory runs out.
    """

    def __init__(
        self,
        original: Original,
        start: Start,
        trained: Sequence[TrainedPart],
        adapters: Mapping[str, torch.nn.Parameter] | None,
        settings: FinetuneSettings,
        weights: NDArray[np.float32],
        device: str,
        warn: Callable[[str], None],
    ) -> None:
        import torch

        assert settings.micro_batch is not None
        self.graph = original.graph
        self.head = head_of(start, dropout=settings.dropout).to(device)
        self.device = device
        self.micro_batch = settings.micro_batch
        self._settings = settings
        self._trained = trained
        self._warn = warn
        self.class_weights = torch.from_numpy(weights).to(device)
        self._precision = precision(settings.mixed_precision, device)
        own = {name: p for block in trained for name, p in block.part.parameters.items()}
        self._learnt: dict[str, torch.nn.Parameter] = {
            **{f"head.{name}": p for name, p in self.head.named_parameters()},
            **(adapters if adapters is not None else own),
        }
        follows = settings.batch_norm == "train"
        self._statistics = statistics([block.part for block in trained]) if follows else {}
        kind: Any = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.SGD
        extra = {} if settings.optimizer == "adamw" else {"momentum": settings.momentum}
        self._optimizer = kind([{"params": [], "lr": 0.0, "name": ""}], lr=0.0, **extra)
        self._optimizer.param_groups.clear()

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The optimizer's own groups as they stand, without the schedule."""
        return tuple(
            ParameterGroup(
                name=group["name"],
                parameters=sum(p.numel() for p in group["params"]),
                rate=group["rate"],
                decay=group["weight_decay"],
            )
            for group in self._optimizer.param_groups
        )

    def begin(self, epoch: int) -> None:
        """Wakes what is trained in an epoch and gives every group its rate; ``judged`` puts it to sleep again."""
        shape = tuple(self._learnt["head.weight"].shape)
        wanted = allotted(self._trained, (shape[0], shape[1]), self._settings, epoch)
        known = {group["name"]: group for group in self._optimizer.param_groups}
        for allotment in wanted:
            if allotment.group.name not in known:
                params = [self._learnt[name] for name in allotment.names]
                self._optimizer.add_param_group({"params": params, "name": allotment.group.name, "rate": 0.0})
        known = {group["name"]: group for group in self._optimizer.param_groups}
        self._optimizer.param_groups[:] = [known[allotment.group.name] for allotment in wanted]
        for allotment in wanted:
            group = known[allotment.group.name]
            group["rate"], group["weight_decay"] = allotment.group.rate, allotment.group.decay
        begun = [block.part for block in self._trained if block.epoch <= epoch]
        awake(
            self.graph,
            begun,
            [p for group in self._optimizer.param_groups for p in group["params"]],
            batch_norm=self._settings.batch_norm == "train",
            dropout=self._settings.dropout,
        )
        self.head.train()

    def step(self, batch: Batch, *, factor: float, seed: int) -> Learnt:
        """One step of the optimizer on a batch, computed in as many pieces as memory asks for.

        Args:
            batch: The examples.
            factor: What the schedule bends the rates by.
            seed: Of this step's dropout.

        Raises:
            FeatstoreError: Memory runs out with a single example too.
        """
        import torch

        found = self.gradients(batch, seed=seed)
        scaler = self._precision.scaler
        scaler.unscale_(self._optimizer)
        if self._settings.clip:
            learning = [p for group in self._optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(learning, self._settings.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        scaler.step(self._optimizer)
        scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def gradients(self, batch: Batch, *, seed: int) -> Learnt:
        """Leaves the gradient of a batch's mean loss in the parameters; the same however it is cut into pieces.

        Where memory runs out, half as many examples are computed at once from then on, and the batch is begun again.

        Raises:
            FeatstoreError: Memory runs out with a single example too.
        """
        while True:
            before = {name: buffer.clone() for name, buffer in self._statistics.items()}
            size = min(self.micro_batch, len(batch))
            try:
                return self._gradients(batch, seed)
            except (RuntimeError, MemoryError) as error:
                if not exhausted(error):
                    raise
                if size == 1:
                    raise FeatstoreError(
                        "memory ran out with one example at a time.",
                        hint="Set checkpointing, train fewer blocks (depth), use lora, or take a smaller model.",
                    ) from error
            # Only here, after the error and what its traceback held are gone, is there anything to free.
            self._free(before)
            self.micro_batch = size // 2
            self._warn(f"memory ran out; from here on {self.micro_batch} examples are computed at once")

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, BatchNorm's statistics and the optimizer's state, by name."""
        found = self.weights()
        for name, p in self._learnt.items():
            for key, value in self._optimizer.state.get(p, {}).items():
                if value is not None:
                    found[f"optimizer/{key}/{name}"] = value
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """What a later pass needs: what was learned, and BatchNorm's statistics."""
        return {
            **{f"weight/{name}": p.detach() for name, p in self._learnt.items()},
            **{f"statistic/{name}": buffer for name, buffer in self._statistics.items()},
        }

    def load(self, tensors: Mapping[str, torch.Tensor], *, epoch: int) -> None:
        """Goes back to what ``tensors`` or ``weights`` gave, in an epoch whose groups are made first."""
        import torch

        self.begin(epoch)
        with torch.no_grad():
            for name, p in self._learnt.items():
                p.copy_(tensors[f"weight/{name}"])
            for name, buffer in self._statistics.items():
                buffer.copy_(tensors[f"statistic/{name}"])
        for known, value in tensors.items():
            kind, _, rest = known.partition("/")
            if kind == "optimizer":
                key, _, name = rest.partition("/")
                # AdamW keeps its count of steps on the processor.
                self._optimizer.state[self._learnt[name]][key] = value if key == "step" else value.to(self.device)

    @property
    def scale(self) -> tuple[float, int] | None:
        """How far float16's losses are scaled, and for how many steps; None in other precisions."""
        state = self._precision.scaler.state_dict()
        return (float(state["scale"]), int(state["_growth_tracker"])) if state else None

    @scale.setter
    def scale(self, found: tuple[float, int] | None) -> None:
        if found is not None:
            state = self._precision.scaler.state_dict()
            self._precision.scaler.load_state_dict(state | {"scale": found[0], "_growth_tracker": found[1]})

    def _gradients(self, batch: Batch, seed: int) -> Learnt:
        import torch

        truth = torch.from_numpy(batch.truth).to(self.device)
        counted = self.class_weights[truth].sum()
        loss, right = 0.0, 0
        devices = [torch.device(self.device)] if self.device != "cpu" else []
        with torch.random.fork_rng(devices=devices, enabled=self._settings.dropout > 0):
            if self._settings.dropout > 0:
                torch.manual_seed(seed)
            for places, arrays in batch.pieces(self.micro_batch):
                answer = truth[torch.from_numpy(places).to(self.device)]
                with self._precision.computing():
                    found = self.graph(*(array.to(self.device) for array in arrays))
                logits = self.head(found.float())
                piece = torch.nn.functional.cross_entropy(logits, answer, weight=self.class_weights, reduction="sum")
                piece = piece / counted
                self._precision.scaler.scale(piece).backward()
                loss += float(piece.detach())
                right += int((logits.argmax(dim=1) == answer).sum())
        return Learnt(loss, right)

    def _free(self, statistics_before: Mapping[str, torch.Tensor]) -> None:
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        for name, buffer in self._statistics.items():
            buffer.copy_(statistics_before[name])
        if self.device != "cpu":
            torch.cuda.empty_cache()
