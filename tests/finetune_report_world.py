"""What the tests of a fine-tuning's face share: a report with something in every field, and what is near its items."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from featstore.finetune.report import Neighbours
from featstore.records import (
    Estimate,
    FinetuneEpoch,
    FinetuneForgetting,
    FinetuneReport,
    FinetuneTrial,
    GateItem,
    GateOutcome,
    ParameterGroup,
    TunedBlock,
)

__all__ = ["BLOCKS", "around", "beside", "epochs", "gate", "groups", "made", "refused"]

BLOCKS = ("layer4", "layer3", "layer2", "layer1", "stem")


def around(value: float, by: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - by, high=value + by)


def groups(epoch: int) -> tuple[ParameterGroup, ...]:
    """The head, and one block more each epoch; rates as ``layer_decay`` gives them, halved each time."""
    found = [ParameterGroup(name="head", parameters=5130, rate=1e-3 / 2**epoch, decay=0.01)]
    for at in range(min(epoch, 2) + 1):
        rate = 1e-4 * 0.75**at / 2**epoch
        found.append(ParameterGroup(name=BLOCKS[at], parameters=8_000_000 >> at, rate=rate, decay=0.01))
        found.append(ParameterGroup(name=f"{BLOCKS[at]} (no decay)", parameters=9_000 >> at, rate=rate, decay=0.0))
    return tuple(found)


def epochs(number: int = 6, best: int = 4) -> tuple[FinetuneEpoch, ...]:
    """Training goes on getting better, validation does not."""
    found = [
        FinetuneEpoch(
            epoch=-1, train_loss=None, train_accuracy=None, validation_loss=0.9, validation_accuracy=0.71, groups=(),
            seconds=0.0,
        )
    ]  # fmt: skip
    found += [
        FinetuneEpoch(
            epoch=at, train_loss=0.8 * 0.7**at, train_accuracy=1 - 0.4 * 0.7**at,
            validation_loss=0.62 + 0.03 * (at - best) ** 2, validation_accuracy=0.83 - 0.008 * (at - best) ** 2,
            groups=groups(at), seconds=31.5, best=at == best,
        )
        for at in range(number)
    ]  # fmt: skip
    return tuple(found)


def gate(
    name: str, status: Any = "passed", value: float | None = 0.01, limit: float = 0.01, **more: Any
) -> GateOutcome:
    return GateOutcome(gate=name, status=status, value=value, limit=limit, **{"relation": "at most", **more})


def made(**changes: Any) -> FinetuneReport:
    """A report of a good end."""
    values: dict[str, Any] = {
        "table": "fruit",
        "version": 3,
        "label": "kind",
        "base": "resnet18-imagenet1k_v1-3f9a2c1b",
        "model": "resnet18",
        "space_id": "fruit-kind-77aa66bb",
        "method": "LP-FT",
        "settings": {
            "learning_rate": 1e-4, "layer_decay": 0.75, "halving": True, "blocks": (), "lora": None, "batch": 32,
            "schedule": "cosine", "min_gain": 0.0, "max_forgetting": 0.01, "flip": True, "optimizer": "sgd",
        },
        "classes": {"apple": 700, "banana": 540, "cherry": 410},
        "n_train": 1056,
        "n_validation": 264,
        "n_test": 330,
        "split_id": "5c1d0a9be2f34477",
        "blocks": tuple(
            TunedBlock(name=name, parameters=8_009_000 >> at, epoch=at if at < 3 else None)
            for at, name in enumerate(BLOCKS)
        ),
        "epochs": epochs(),
        "best_epoch": 4,
        "stopped_early": True,
        "micro_batch": 16,
        "trials": (
            FinetuneTrial(number=0, settings={"learning_rate": 1e-4, "depth": 3}, accuracy=0.81, status="complete"),
            FinetuneTrial(number=1, settings={"learning_rate": 9e-4, "depth": 1}, accuracy=0.62, status="pruned"),
            FinetuneTrial(number=2, settings={"learning_rate": 2.5e-4, "depth": 3}, accuracy=0.83, status="complete"),
            FinetuneTrial(number=3, settings={"learning_rate": 9e-3, "depth": 5}, accuracy=None, status="failed"),
        ),
        "frozen": {"accuracy": around(0.742), "balanced_accuracy": around(0.731), "macro_f1": around(0.729)},
        "frozen_kind": "logistic",
        "tuned": {"accuracy": around(0.821), "balanced_accuracy": around(0.818), "macro_f1": around(0.815)},
        "tuned_kind": "logistic",
        "own": {"accuracy": around(0.815)},
        "gain": around(0.079, 0.03),
        "forgetting": (
            FinetuneForgetting(name="ripe", kind="head", items=320, before=0.9, after=0.905, difference=around(0.005)),
            FinetuneForgetting(
                name="probe", kind="probe", items=1797, before=0.93, after=0.925, difference=around(-0.005, 0.004)
            ),
        ),
        "cosine": 0.874,
        "overlap": 0.61,
        "gates": (
            gate("gain", value=0.049, limit=0.0, relation="at least", note="0.742 → 0.821 on 330 test items"),
            gate("forgetting.ripe", value=-0.005),
            gate("forgetting.probe", value=0.005),
            gate("parity", value=0.99999, limit=0.9999, relation="at least"),
            gate("geometry", value=0.93, limit=0.8, relation="at least"),
            gate("latency", value=1.01, limit=1.25),
        ),
        "html": "finetunes/fruit/0123456789abcdef/report.html",
        "created_ts": "2026-01-02T03:04:05+00:00",
        "seconds": 412.7,
        "notes": ("12 items changed since version 3 and were left out",),
    }  # fmt: skip
    return FinetuneReport(**(values | changes))


def refused(**changes: Any) -> FinetuneReport:
    """A report of fine-tuning that hurt."""
    lost = GateItem(item_id="a/1.jpg", about="was right")
    values: dict[str, Any] = {
        "gain": around(-0.06, 0.03),
        "tuned": {"accuracy": around(0.682)},
        "best_epoch": -1,
        "gates": (
            gate("gain", "refused", -0.09, 0.0, relation="at least", items=(lost,)),
            gate("geometry", "not judged", None, 0.8, relation="at least", note="too few test items"),
            gate("latency", value=1.01, limit=1.25),
        ),
    }  # fmt: skip
    return made(**(values | changes))


def beside(modality: str = "image") -> dict[str, Any]:
    """What ``render`` shows beside the figures: neighbours, their labels, and something to look at."""
    names = [f"{kind}/{at:02d}.jpg" for kind in ("apple", "banana", "cherry") for at in range(6)]
    lines = [
        Neighbours(names[0], (*names[6:9], *names[1:4]), tuple(names[1:6] + names[12:13])),
        Neighbours(names[7], tuple(names[0:6]), (*names[8:12], *names[6:7], "unknown.jpg")),
    ]
    contents = {name: f"{at:064x}" for at, name in enumerate(names)}
    previews = {}
    for at, (name, content) in enumerate(contents.items()):
        if modality == "text":
            previews[content] = f"the beginning of the text about {name}, which goes on for a while".encode()
        elif at % 5:
            buffer = io.BytesIO()
            colour = np.random.default_rng(at).integers(0, 255, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(colour).resize((96, 72)).save(buffer, "JPEG")
            previews[content] = buffer.getvalue()
    labels = {name: name.partition("/")[0] for name in names}
    return {"neighbours": lines, "labels": labels, "contents": contents, "previews": previews, "modality": modality}
