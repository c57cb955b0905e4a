"""What a fine-tuning leaves behind: its state, its report as a document and as a page, and the model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featstore.errors import StorageError
from featstore.extract import previews
from featstore.finetune import outcome
from featstore.finetune.report import render
from featstore.records import Artefact, FinetuneReport, FinetuneState, Finetuning
from featstore.storage import documents, durable

if TYPE_CHECKING:
    from featstore.finetune.judging import Judged
    from featstore.finetune.prepared import Prepared
    from featstore.models.making import Draft
    from featstore.records import ModelCard

__all__ = ["copy_page", "find_report", "find_state", "keep_model", "note", "write_report"]


def find_state(given: Prepared) -> FinetuneState | None:
    """How a fine-tuning stands; None where it never began.

    Raises:
        IntegrityError: The document is damaged.
    """
    return documents.find(given.layout.storage, _path(given, outcome.STATE), FinetuneState)


def find_report(given: Prepared) -> FinetuneReport | None:
    """What its gates found last; None where they were never asked.

    Raises:
        IntegrityError: The document is damaged.
    """
    return documents.find(given.layout.storage, _path(given, outcome.REPORT), FinetuneReport)


def note(
    given: Prepared,
    before: FinetuneState | None,
    status: Literal["open", "kept", "refused"],
    *,
    space_id: str | None = None,
    refused: str | None = None,
    judged_by: str | None = None,
) -> FinetuneState:
    """Writes down how it stands now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    state = FinetuneState(
        key=given.key,
        table=given.table.name,
        version=given.table.version or 0,
        label=given.settings.label,
        base=given.origin.space_id,
        status=status,
        space_id=space_id,
        started_ts=now if before is None else before.started_ts,
        changed_ts=now,
        refused=refused,
        judged_by=judged_by,
    )
    documents.write(given.layout.storage, _path(given, outcome.STATE), state)
    return state


def write_report(given: Prepared, found: Judged, page: Path | None) -> None:
    """Writes the report as a document and as a page, and the page once more where that was asked for.

    Raises:
        StorageError: The disk refused.
    """
    data, layout = given.labelled.data, given.layout
    neighbours = () if found.nearest is None else found.nearest.changed
    named = {item for one in neighbours for item in one.named}
    contents = {item: digest for item, digest in zip(data.ids, data.contents, strict=True) if item in named}
    labels = {
        item: data.classes[number]
        for item, number in zip(data.ids, given.labelled.truth.tolist(), strict=True)
        if item in named
    }
    html = render(
        found.report,
        neighbours=neighbours,
        labels=labels,
        contents=contents,
        previews=previews.find(layout, given.table.name, contents.values()),
        modality=given.card.modality,
    ).encode("utf-8")
    layout.storage.write(_path(given, outcome.PAGE), html)
    documents.write(layout.storage, _path(given, outcome.REPORT), found.report)
    copy_page(given, page)


def copy_page(given: Prepared, page: Path | None) -> None:
    """Writes the report's page where it was asked for too, if it was and there is one.

    Raises:
        StorageError: The disk refused.
    """
    layout, kept = given.layout, _path(given, outcome.PAGE)
    if page is None or not layout.storage.exists(kept):
        return
    try:
        with durable.replacing(page) as file:
            file.write(layout.storage.read(kept))
    except StorageError as error:
        error.hint = f"The report is kept: {layout.storage.local(_path(given, outcome.PAGE))}"
        raise


def keep_model(given: Prepared, made: Draft, weights: bytes) -> ModelCard:
    """Takes a fine-tuned network that has passed all gates into the store as a model.

    Raises:
        IntegrityError: The store has another model under the same id.
    """
    from featstore.models import tuned

    model, file, options = tuned.said(given.base.request)
    finetuning = Finetuning(
        base=given.origin.space_id,
        base_model=model,
        base_weights=file,
        options=options,
        table=given.table.name,
        version=given.table.version or 0,
        label=given.settings.label,
        key=given.key,
        n_train=int(given.labelled.trained.sum()),
        weights=Artefact(file="", sha256="", bytes=0),
    )
    return tuned.keep(given.layout, made, finetuning, weights)


def _path(given: Prepared, file: str) -> str:
    return given.layout.finetune(given.table.name, given.key, file)
