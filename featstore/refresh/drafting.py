"""A job made of what a store has: a table's source and model, its index, its heads, and what they reach."""

from __future__ import annotations

import math
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore import addresses, models, published
from featstore.errors import ConflictError, FeatstoreError, IntegrityError, UsageError
from featstore.heads.opening import cards, find_card
from featstore.index import files
from featstore.jobs import Gates, HeadJob, Job
from featstore.jobs.loading import load, parse
from featstore.jobs.writing import written
from featstore.models import kept, load_card
from featstore.models.catalog import resolve as resolved
from featstore.records import HeadCard, JobDraft, Manifest, SourceRecord, SplitRecord
from featstore.settings import MODEL_OPTIONS, ExtractSettings, HeadSettings, IndexSettings, TorchSettings, resolve
from featstore.sources import LIST_PREFIX
from featstore.storage import documents, durable
from featstore.training.measuring import PRIMARY

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["draft", "from_here", "write"]

# What a run was told that says something of the table or the work, and not of that one run.
_LASTING = (
    "model", "weights", *MODEL_OPTIONS, "device", "backend", "previews",
    "batch_size", "token_budget", "shard_items", "workers", "max_reject_share",
)  # fmt: skip

_DRIFT_AUC = 0.8


def write(
    layout: Layout, name: str, *, address: str | None = None, output: str | os.PathLike[str] | None = None
) -> JobDraft:
    """Writes a commented job that keeps a table as it is now.

    Args:
        layout: The store.
        name: What the job shall be called; or the address of a table, whose name the job then has.
        address: The table; by default the one of the job's name.
        output: The file, by default ``NAME.toml`` in the working folder. What is there is never replaced.

    Raises:
        NotFoundError: There is no such table.
        UsageError: The file is there, does not end in ``.toml``, or the table's source is none that a job can read.
        SettingsError: The name cannot be a job's.
        StorageError: The disk refused.
    """
    if address is None and ("@" in name or ":" in name):
        name, address = addresses.parse(name).name, name
    file = Path(f"{name}.toml" if output is None else output)
    if file.suffix != ".toml":
        raise UsageError(f"{file}: the name of a job's file ends in .toml.")
    if os.path.lexists(file):
        raise UsageError(f"{file} is there already; it was not touched.", hint="Name another with -o FILE.toml.")
    job, notes, about = draft(layout, name, address or name)
    folder = Path(os.path.abspath(file)).parent
    text = written(job, folder, notes=notes, about=about)
    parse(text, file, environ={})
    try:
        with durable.replacing(file, create=True) as stream:
            stream.write(text.encode("utf-8"))
    except ConflictError as error:
        raise UsageError(f"{file} is there already; it was not touched.") from error
    made = load(file, environ={})
    space_id = addresses.resolve(layout, addresses.parse(address or name))[1]
    return JobDraft(
        job=made.name,
        file=str(file),
        table=made.table,
        space_id=space_id,
        heads=tuple(head.name for head in made.heads),
        notes=tuple(notes),
    )


def draft(layout: Layout, name: str, address: str, *, lists: bool = False) -> tuple[Job, list[str], dict[str, str]]:
    """The job, what one should know of it, and a remark to some of its keys.

    Args:
        layout: The store.
        name: Of the job.
        address: Of the table.
        lists: Whether a table that was made of lists of files is read again from the files that it knows.

    Raises:
        NotFoundError: There is no such table.
        UsageError: Its source is none that a job can read.
    """
    table, space_id = addresses.resolve(layout, addresses.parse(address))
    notes: list[str] = []
    about: dict[str, str] = {"head.refit": "never | always | on-drift"}
    extract = _extract(layout, table, space_id, notes, lists=lists)
    index, recall = _index(layout, table, space_id)
    if index is None:
        notes.append("the table has no index, and the job keeps none; add the section [index] for one")
    heads, accuracy = _heads(layout, table, space_id, notes)
    if recall is not None:
        about["gates.min_recall"] = "the lower end of what was measured"
    if accuracy:
        about["gates.min_accuracy"] = "the lower ends of the heads' intervals"
    about["gates.max_drift_auc"] = "0.5 is no drift; judged from 200 new contents on"
    if extract is None and index is None and not heads:
        raise UsageError(
            f"there is nothing that a job could do for table '{table}': {'; '.join(notes)}.",
            hint="Train a head or make an index first, or write the job by hand.",
        )
    gates = Gates(min_recall=recall, max_drift_auc=_DRIFT_AUC, min_accuracy=accuracy)
    if extract is not None and extract.max_reject_share != gates.max_reject_share:
        gates = replace(gates, max_reject_share=extract.max_reject_share)
        about["gates.max_reject_share"] = "as the last run was told"
    job = Job(
        name=name,
        table=table,
        space=space_id if extract is None else None,
        extract=extract,
        index=index,
        heads=tuple(heads),
        gates=gates,
        store=str(layout.storage.root),
    )
    return job, notes, about


def _extract(layout: Layout, table: str, space_id: str, notes: list[str], *, lists: bool) -> ExtractSettings | None:
    record = documents.find(layout.storage, layout.source(table), SourceRecord)
    if record is None or (record.uri.startswith(LIST_PREFIX) and not lists):
        why = "the store does not know where its items came from" if record is None else "it is made of lists of files"
        notes.append(f"the job extracts nothing: {why}")
        return None
    if not lists:  # a job has one source
        notes += [
            f"items of {uri} are in the table too; they need a job of their own, with add = true"
            for uri in record.added
        ]
    said = _last_run(layout, table, space_id, record.uri)
    known = {item.name for item in fields(ExtractSettings)}
    values: dict[str, Any] = {key: value for key, value in said.items() if key in _LASTING}
    values |= {key: value for key, value in record.options.items() if key in known and value not in (None, [])}
    values |= {"source": record.uri, "name": table}
    values.setdefault("model", load_card(layout, space_id).model)
    return _modelled(layout, space_id, resolve(ExtractSettings, values, {})[0], notes)


def _modelled(layout: Layout, space_id: str, settings: ExtractSettings, notes: list[str]) -> ExtractSettings:
    """The settings with a model that leads to the table's space wherever the job's file lies."""
    try:
        found = replace(settings, model=from_here(layout, settings.model))
        if settings.weights is not None:
            found = replace(found, weights=os.path.abspath(os.path.expanduser(settings.weights)))
        card = models.find(layout, models.requested(found))
    except FeatstoreError:
        card = None
    if card is not None and card.space_id == space_id:
        return found
    weights = "" if settings.weights is None else f" with the weights {settings.weights}"
    notes.append(
        f"the model is named by its space: '{settings.model}'{weights} does not lead to it from this folder, or from "
        "this store"
    )
    plain: dict[str, Any] = dict.fromkeys(("weights", *MODEL_OPTIONS))
    return replace(settings, model=space_id, **plain)


def from_here(layout: Layout, model: str) -> str:
    """A model's name; one that is a file or a folder with its whole path, since a job's paths begin elsewhere."""
    if kept.has(layout, model):
        return model
    target = resolved(model)
    if target.file is None and target.folder is None:
        return model
    plain = model.removeprefix("hf:")
    return model.removesuffix(plain) + os.path.abspath(os.path.expanduser(plain))


def _last_run(layout: Layout, table: str, space_id: str, uri: str) -> dict[str, Any]:
    """What the newest run of a table from a source was told, its defaults left out."""
    for run_id in sorted((run for run in layout.storage.folders("runs") if run != "open"), reverse=True):
        try:
            manifest = documents.find(layout.storage, layout.manifest(run_id), Manifest)
        except IntegrityError:
            continue
        if manifest is not None and (manifest.name, manifest.space_id, manifest.source) == (table, space_id, uri):
            return {key: one.value for key, one in manifest.settings.items() if one.origin != "default"}
    return {}


def _index(layout: Layout, table: str, space_id: str) -> tuple[IndexSettings | None, float | None]:
    """What the newest index was asked to be, and the least recall that it may be said to have."""
    for version in files.versions(layout, table, space_id):
        card = files.find_card(layout, table, space_id, version)
        if card is None:
            continue
        asked = card.request
        settings = IndexSettings(recall=asked.recall, kind=asked.kind, factory=asked.factory, memory=asked.memory)  # type: ignore[arg-type]
        if card.measured is None:
            return settings, None
        return settings, min(asked.recall, _floor(card.measured.low))
    return None, None


def _heads(layout: Layout, table: str, space_id: str, notes: list[str]) -> tuple[list[HeadJob], dict[str, float]]:
    """The heads of a table, the published version of each or its newest, and the least that each reaches."""
    current = published.find(layout, table)
    versions = {} if current is None else current.state.heads
    found, least = [], {}
    for newest in cards(layout, broken=lambda error: notes.append(f"a head was left out: {error.message}")):
        card = find_card(layout, f"{newest.head}:{versions[newest.head]}") if newest.head in versions else newest
        if (card.table, card.space_id) != (table, space_id):
            continue
        if card.labels_from != card.label:
            notes.append(
                f"head '{card.head}' was left out: its labels came from the file {card.labels_from}; add a [[head]] "
                "with its path as labels"
            )
            continue
        found.append(HeadJob(name=card.head, settings=_settings(layout, card), torch=TorchSettings()))
        main = card.metrics.get(PRIMARY[card.task])
        if main is not None and math.isfinite(main.low):
            least[card.head] = _floor(main.low)
    return found, least


def _settings(layout: Layout, card: HeadCard) -> HeadSettings:
    tried = {candidate.kind for candidate in card.candidates if candidate.left_out is None}
    settings = HeadSettings(name=card.head, label=card.label, task=card.task, seed=card.seed)
    settings = replace(settings, where=card.where, drop_rare=card.drop_rare, separator=card.separator)
    if card.class_weights == "balanced":
        settings = replace(settings, class_weights="balanced")
    if len(tried) == 1 and card.kind in tried and card.kind != "majority":
        settings = replace(settings, kind=card.kind)  # one kind alone was asked for
    split = documents.find(layout.storage, layout.split(card.table, card.label), SplitRecord)
    if split is not None and split.group_column not in (None, "group"):
        settings = replace(settings, group=split.group_column)
    if split is not None and split.origin not in ("made", "split"):
        settings = replace(settings, split=split.origin)
    return settings


def _floor(value: float) -> float:
    """Rounded down to two places."""
    return math.floor(value * 100) / 100
