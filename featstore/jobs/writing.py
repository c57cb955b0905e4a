"""A job written out as a commented TOML file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.jobs.job import TUNED
from featstore.jobs.places import MODELS, PATHS
from featstore.jobs.sections import SECTIONS
from featstore.settings import (
    ExtractSettings,
    FinetuneSettings,
    HeadSettings,
    IndexSettings,
    MigrateSettings,
    TorchSettings,
)

if TYPE_CHECKING:
    from featstore.jobs.job import Job

__all__ = ["written"]

_ABOUT = {
    "job": "Every key but job.name may be left out where its default suits. Paths begin in this file's folder.",
    "source": "What the table is kept in step with, and how it is read: the flags of featstore extract.",
    "model": "The backbone. pooling, layer, dim and the prompts make another space.",
    "extract": "How the work is done: batch_size, token_budget, shard_items, workers, previews, keep_text, history.",
    "index": "The search index that is kept. Without this section there is none.",
    "head": "A light model that is measured again at every run: the flags of featstore train-head.",
    "finetune": "How the table's backbone is trained further: the flags of featstore finetune.",
    "migrate": "The model that the table moves to: the flags of featstore migrate.",
    "gates": "What must hold before anything is published; else the run ends with 5 and all stays as it was.",
    "publish": "How many earlier states stay to go back to: featstore rollback.",
    "metrics": "Figures for Prometheus, for the textfile collector of its node exporter.",
}


def written(job: Job, folder: Path, *, notes: Sequence[str] = (), about: Mapping[str, str] | None = None) -> str:
    """The text of a file that loads as this job.

    Args:
        job: The job; what is at its default is left out.
        folder: Where the file will lie; paths below it are written relative to it.
        notes: What whoever reads the file should know first.
        about: A remark to a key, such as where a gate's value comes from, by ``section.key``.

    Raises:
        UsageError: A path or text is not Unicode, which TOML must be.
    """
    text = "\n".join(_lines(job, folder, notes, about or {})) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            "a path or a text of this table is not Unicode, and no TOML file can hold it.",
            hint="Rename the source, then extract it once under its new name.",
        ) from error
    return text


def _lines(job: Job, folder: Path, notes: Sequence[str], about: Mapping[str, str]) -> Iterator[str]:
    first = f"# The job '{job.name}'. Check it: featstore jobs check FILE"
    yield f"{first}   Try it: featstore {job.command} FILE --dry-run"
    for note in notes:
        yield "# Note: " + "".join(c if c.isprintable() else " " for c in note)
    table = None if job.table == job.name and job.extract is not None else job.table
    address = table if job.space is None else f"{job.table}@{job.space}"
    yield from _section("job", {"name": job.name, "table": address, "store": job.store}, folder, about)
    if job.extract is not None:
        for name in ("source", "model", "extract"):
            said = {key: getattr(job.extract, meant.field) for key, meant in SECTIONS[name].keys.items()
                    if meant.kind is ExtractSettings and _differs(job.extract, meant.field)}  # fmt: skip
            if name != "extract" or said:
                yield from _section(name, said, folder, about)
    if job.index is not None:
        yield from _section("index", _said(job.index, IndexSettings), folder, about)
    for head in job.heads:
        said = {"name": head.name, "label": head.settings.label, "refit": head.refit}
        said |= {key: value for key, value in _said(head.settings, HeadSettings).items() if key != "name"}
        said |= _said(head.torch, TorchSettings)
        yield from _section("head", said, folder, about)
    if job.finetune is not None:
        yield from _section("finetune", _said(job.finetune, FinetuneSettings), folder, about)
    if job.migrate is not None:
        said = _said(job.migrate, MigrateSettings)
        yield from _section("migrate", {k: v for k, v in said.items() if (k, v) != ("to", TUNED)}, folder, about)
    if job.finetune is not None and job.migrate is None:  # all else is of a move
        return
    gates = {
        "max_reject_share": job.gates.max_reject_share if job.extract is not None else None,
        "max_removed_share": job.gates.max_removed_share if job.extract is not None else None,
        "min_recall": job.gates.min_recall,
        "max_drift_auc": job.gates.max_drift_auc,
        "min_accuracy": job.gates.min_accuracy or None,
        "min_ndcg": job.gates.min_ndcg,
        "max_drop": job.gates.max_drop,
    }
    yield from _section("gates", gates, folder, about)
    yield from _section("publish", {"keep": job.keep}, folder, about)
    if job.textfile is not None:
        yield from _section("metrics", {"textfile": job.textfile}, folder, about)
    else:
        yield from ("", f"# {_ABOUT['metrics']}", "# [metrics]", '# textfile = "featstore.prom"')


def _section(name: str, said: Mapping[str, Any], folder: Path, about: Mapping[str, str]) -> Iterator[str]:
    yield ""
    yield f"# {_ABOUT[name]}"
    yield f"[[{name}]]" if SECTIONS[name].several else f"[{name}]"
    for key, value in said.items():
        if value is None:
            continue
        if (name, key) in PATHS:
            value = _relative(value, folder, named=(name, key) in MODELS)
        remark = about.get(f"{name}.{key}")
        yield f"{key} = {_toml(value)}" + (f"  # {remark}" if remark else "")


def _said(settings: Any, kind: type) -> dict[str, Any]:
    return {item.name: getattr(settings, item.name) for item in fields(kind) if _differs(settings, item.name)}


def _differs(settings: Any, name: str) -> bool:
    """Whether a setting is another than its default; one without a default always is."""
    item: Field[Any] = next(item for item in fields(settings) if item.name == name)
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    return default is MISSING or getattr(settings, name) != default


def _relative(value: str, folder: Path, *, named: bool) -> str:
    """A path from the file's folder, where it lies below; one that a name or ``~`` could be taken for begins ``./``."""
    if not os.path.isabs(value):
        return value
    found = os.path.relpath(value, folder)
    if found == ".." or found.startswith("../"):
        return value
    return f"./{found}" if named or found.startswith("~") or found == "-" else found


def _toml(value: object) -> str:
    """A value as TOML writes it: its texts are JSON's, but for the one control character that JSON leaves as it is."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
