"""What a fine-tuning would train, for how long, and what the frozen head reaches, by reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featstore.errors import IntegrityError
from featstore.extract.progress import Reporter
from featstore.finetune import keeping, outcome
from featstore.finetune.network.checkpoints import DOCUMENT, Checkpoint
from featstore.finetune.prepared import prepare
from featstore.finetune.training import undertaking
from featstore.records import FinetunePlan
from featstore.storage import documents

if TYPE_CHECKING:
    from featstore.finetune.prepared import Prepared
    from featstore.layout import Layout
    from featstore.settings import FinetuneSettings

__all__ = ["plan"]


def plan(layout: Layout, address: str, settings: FinetuneSettings, *, reporter: Reporter | None = None) -> FinetunePlan:
    """What ``finetune`` would do; the test side is not looked at, and nothing is written.

    The network is loaded, and a few steps of it are timed.

    Args:
        layout: The store.
        address: The table: ``NAME[@MODEL][:VERSION]``.
        settings: What was asked.
        reporter: Told of progress.

    Raises:
        FeatstoreError: What ``finetune`` would raise before it begins.
    """
    given = prepare(layout, address, settings, reporter or Reporter(), keep=False)
    mine, planned, score = given.labelled, undertaking(given), given.frozen
    counts = np.bincount(mine.truth, minlength=len(mine.data.classes)).tolist()
    return FinetunePlan(
        table=given.table.name,
        version=given.table.version or 0,
        space_id=given.table.space_id,
        model=given.original.model,
        label=settings.label,
        classes=dict(zip(mine.data.classes, counts, strict=True)),
        n_train=int(mine.trained.sum()),
        n_validation=int(mine.validated.sum()),
        n_test=int(mine.test.sum()),
        method=planned.method,
        blocks=planned.blocks,
        groups=planned.groups,
        trained_parameters=planned.trained,
        parameters=given.original.parameters,
        epochs=planned.settings.epochs or 0,
        steps=planned.steps,
        seconds_low=planned.seconds[0],
        seconds_high=planned.seconds[1],
        frozen=score.unseen["accuracy"],
        frozen_kind=score.head.kind,
        advice=given.advice,
        resumes=_resumes(given),
        warnings=given.warnings,
    )


def _resumes(given: Prepared) -> str | None:
    """What an unfinished run of the same would go on from."""
    state = keeping.find_state(given)
    if state is None or state.status != "open":
        return None
    if outcome.find(given.layout, given.table.name, given.key) is not None:
        return "training is done; the gates come next"
    path = given.layout.finetune(given.table.name, given.key, DOCUMENT)
    try:
        found = documents.find(given.layout.storage, path, Checkpoint)
    except IntegrityError:  # then training begins anew
        found = None
    return None if found is None else f"epoch {found.progress.epoch}, step {found.progress.step}"
