"""One network's way down its loss, and when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import UsageError
from featstore.heads.kinds import Progress
from featstore.heads.minibatches import shuffled
from featstore.heads.torch_job import Job, Network

__all__ = ["Training"]

# SGD's (Nesterov's), and the longest a step's gradient may be.
_MOMENTUM, _LONGEST = 0.9, 5.0

# What a loss has to fall by to count as better, as a share of it. After so many epochs in which it does not, the step
# size falls to this share of itself.
_GAIN, _PLATEAU, _FALL = 1e-3, 2, 0.3

# Seconds between two words on how it goes.
_SILENCE = 5.0

# Rows judged at once.
_JUDGED = 4_096


@dataclass(frozen=True, eq=False)
class Training:
    """The training of one network, by epochs, until it gets no better on rows it does not learn from.

    Attributes:
        torch: The library; it is imported in ``torch_heads`` alone.
        device: Such as ``cpu``.
        job: What to train.
        number: The network's, from 0.
        told: Told what each epoch reached.
        stop: Once it is set, ``InterruptedError`` is raised.
    """

    torch: Any
    device: str
    job: Job
    number: int
    told: Progress
    stop: threading.Event | None

    @property
    def seed(self) -> tuple[int, int]:
        return (self.job.seed, self.number)

    def run(self, fitted_on: NDArray[np.int64], judged: NDArray[np.int64]) -> Network:
        """Trains on some rows and goes back to the epoch that was best on others.

        Raises:
            UsageError: Not even the first epoch came to a finite loss.
        """
        torch, job = self.torch, self.job
        order = np.random.Generator(np.random.PCG64([*self.seed, 1]))
        weights = self._drawn()
        optimizer = self._optimizer(weights)
        loss = self._loss(weights)
        best, mark, kept, worse, said = np.inf, np.inf, [], 0, time.monotonic()
        for epoch in range(job.epochs):
            for batch in shuffled(job.vectors, fitted_on, job.batch, order):
                if self.stop is not None and self.stop.is_set():
                    raise InterruptedError(f"{job.kind}: stopped with the others")
                optimizer.zero_grad(set_to_none=True)
                loss(batch, True).backward()
                torch.nn.utils.clip_grad_norm_(weights, _LONGEST)
                optimizer.step()
            with torch.no_grad():
                blocks = [judged[at : at + _JUDGED] for at in range(0, len(judged), _JUDGED)]
                sums = [float(loss(block, False)) * len(block) for block in blocks]
            # Where there is nothing to judge by, every epoch counts as better.
            reached = sum(sums) / len(judged) if blocks else -float(epoch)
            if time.monotonic() - said >= _SILENCE:
                said = time.monotonic()
                self.told(f"{job.kind}: epoch {epoch + 1}, held-out loss {reached:.4f}")
            if reached < best:
                best, kept = reached, [weight.detach().clone() for weight in weights]
            if reached < mark - _GAIN * min(abs(mark), 1.0):
                mark, worse = reached, 0
                continue
            worse += 1
            if worse >= job.settings.patience or not np.isfinite(reached):
                break
            if worse % _PLATEAU == 0:
                for group in optimizer.param_groups:
                    group["lr"] *= _FALL
        if not kept:
            raise UsageError(
                f"{job.kind}: the training diverged at a learning rate of {job.rate:g}.",
                hint="Give a smaller --learning-rate.",
            )
        return Network(*(weight.cpu().numpy().astype(np.float64) for weight in kept))

    def _drawn(self) -> list[Any]:
        """Where the training starts: zero for what is convex, He's draw for a hidden layer."""
        job, generator = self.job, np.random.Generator(np.random.PCG64([*self.seed, 2]))
        dim = job.vectors.shape[1]
        if job.kind == "torch-mlp":
            hidden = job.settings.hidden
            found = [
                generator.normal(0.0, (1 / hidden) ** 0.5, (job.outputs, hidden)),
                np.zeros(job.outputs),
                generator.normal(0.0, (2 / dim) ** 0.5, (hidden, dim)),
                np.zeros(hidden),
            ]
        else:
            found = [np.zeros((job.outputs, dim)), np.zeros(job.outputs)]
        tensors = [self.torch.from_numpy(values.astype(np.float32)).to(self.device) for values in found]
        return [tensor.requires_grad_() for tensor in tensors]

    def _optimizer(self, weights: list[Any]) -> Any:
        job = self.job
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": job.settings.weight_decay},
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        if job.settings.optimizer == "adamw":
            return self.torch.optim.AdamW(groups, lr=job.rate, fused=True)
        return self.torch.optim.SGD(groups, lr=job.rate, momentum=_MOMENTUM, nesterov=True)

    def _loss(self, weights: list[Any]) -> Callable[[NDArray[np.int64], bool], Any]:
        """The mean loss of some rows; dropout only while learning."""
        torch, job, device = self.torch, self.job, self.device
        chance = torch.Generator(device=device).manual_seed(self.seed[0] * 1_000_003 + self.seed[1])
        mean, factor = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (job.mean, job.factor))
        of = torch.nn.functional

        def loss(rows: NDArray[np.int64], learning: bool) -> Any:
            values = torch.from_numpy(np.array(job.vectors[rows], np.float32)).to(device)
            target = torch.from_numpy(job.target[rows]).to(device)
            values = (values - mean) * factor
            if len(weights) > 2:
                values = torch.relu(values @ weights[2].T + weights[3])
                if learning and job.settings.dropout:
                    kept = torch.rand(values.shape, generator=chance, device=device) >= job.settings.dropout
                    values = values * kept / (1 - job.settings.dropout)
            found = values @ weights[0].T + weights[1]
            if job.task == "regression":
                each = of.mse_loss(found, target, reduction="none")
            elif job.task == "multilabel":
                each = of.binary_cross_entropy_with_logits(found, target, reduction="none")
            else:
                each = of.cross_entropy(found, target, reduction="none")
            if job.importance is not None:
                each = each * torch.from_numpy(job.importance[rows]).to(device)
            return each.mean()

        return loss
