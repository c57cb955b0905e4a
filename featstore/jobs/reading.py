"""What a job's file says, section by section: each setting by the way that all settings go, all problems noted."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from featstore.errors import SettingsError
from featstore.jobs.job import TUNED, Gates, HeadJob, Job
from featstore.jobs.lines import nearest
from featstore.jobs.meaning import digest
from featstore.jobs.places import placed
from featstore.jobs.problems import Problem, refused
from featstore.jobs.sections import (
    ELSEWHERE,
    SECTIONS,
    HeadKeys,
    JobKeys,
    MetricsKeys,
    PublishKeys,
    known,
)
from featstore.records import SettingValue
from featstore.settings import (
    ENVIRONMENT_PREFIX,
    MODEL_OPTIONS,
    ExtractSettings,
    FinetuneSettings,
    HeadSettings,
    IndexSettings,
    MigrateSettings,
    TorchSettings,
    resolve,
)

__all__ = ["GIVEN", "Reading"]

GIVEN = ("limit", "device", "workers")
"""What may be said of one run over what its job says."""

# A table, a job and a head are called what the file says, and vectors are of the model that it says: a variable that
# was set for something else must not move a published table into another space.
_FILE_ALONE = {f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in ("name", "model", "weights", *MODEL_OPTIONS)}

_ADDRESS = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,99})(@(?P<space>[^@:]+))?")

_Kind = TypeVar("_Kind")


@dataclass
class Reading:
    """A file being read; ``job`` is what comes of it.

    Attributes:
        file: Where it lies; paths begin in its folder.
        lines: On which line each key stands.
        given: What is said of this run.
        environ: The environment.
        problems: What is wrong, as far as it is known.
        origins: Where each setting came from.
    """

    file: Path
    lines: dict[str, int]
    given: Mapping[str, object]
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    origins: dict[str, SettingValue] = field(default_factory=dict)

    def job(self, body: dict[str, Any]) -> Job:
        """The job.

        Args:
            body: The file, as TOML reads it.

        Raises:
            SettingsError: Something in it is not as it must be; all problems are named.
        """
        said = self._sections(body)
        own, extract, index = said.get("job", {}), self._extract(said), None
        named = self._resolved(JobKeys, own, "job") if "job" in said else None
        if "index" in said:
            index = self._resolved(IndexSettings, said["index"], "index", "index.", environ=True)
        table, space = self._table(named, extracts="source" in said, text=own.get("table"))
        heads = self._heads(said.get("head", []), table)
        finetune, migrate = None, None
        if "finetune" in said:
            finetune = self._resolved(
                FinetuneSettings, said["finetune"], "finetune", "finetune.", environ=True, given=("device", "workers")
            )
        if "migrate" in said:  # a variable cannot tell this model from the one that is left
            to = {"to": TUNED} if "finetune" in said else {}
            migrate = self._resolved(MigrateSettings, {**said["migrate"], **to}, "migrate", "migrate.")
        gates = self._resolved(Gates, said.get("gates", {}), "gates", environ=True)
        publish = self._resolved(PublishKeys, said.get("publish", {}), "publish", "publish.")
        metrics = self._resolved(MetricsKeys, said.get("metrics", {}), "metrics", "metrics.")
        self._agree(said, table)
        if not {"source", "head", "index", "migrate", "finetune"} & body.keys():
            self._problem("", "the job does nothing: it has neither [source] nor [index] nor [[head]]")
        if self.problems or named is None or gates is None or publish is None or metrics is None:
            raise refused(str(self.file), self.problems)
        if extract is not None:
            extract = replace(
                extract,
                name=table,
                max_removed_share=gates.max_removed_share,
                max_reject_share=gates.max_reject_share,
            )
            self.origins["name"] = SettingValue(value=table, origin=self._origin)
        job = Job(
            name=named.name,
            table=table,
            space=space,
            extract=extract,
            index=index,
            heads=tuple(heads),
            migrate=migrate,
            finetune=finetune,
            gates=gates,
            keep=publish.keep,
            textfile=metrics.textfile,
            store=named.store,
            file=os.path.abspath(self.file),
            origins=self.origins,
        )
        return replace(job, digest=digest(job))

    @property
    def _origin(self) -> str:
        return f"job {self.file.name}"

    # ── the sections ────────────────────────────────────────────────────────────────────────

    def _sections(self, body: dict[str, Any]) -> dict[str, Any]:
        """What each section says, by its keys, those that are not known left out."""
        said: dict[str, Any] = {}
        for name, value in body.items():
            section = SECTIONS.get(name)
            if section is None:
                self._unknown(name, "section" if isinstance(value, dict | list) else "key", tuple(SECTIONS))
                continue
            parts = value if section.several else [value]
            if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
                wanted = f"[[{name}]]" if section.several else f"[{name}]"
                self._problem(name, f"must be a section, begun by {wanted}")
                continue
            where = [f"{name}[{at}]" if section.several else name for at in range(len(parts))]
            found = [self._keys(name, part, path, body) for part, path in zip(parts, where, strict=True)]
            said[name] = found if section.several else found[0]
        for name in ("job", "model") if "source" in said else ("job",):
            if name not in body:
                self._problem("", f"the section [{name}] is missing")
        if "source" not in body:
            for name in ("model", "extract"):
                if name in said:
                    self._problem(name, "there is no [source]: without one nothing is extracted")
        return said

    def _keys(self, name: str, said: dict[str, Any], path: str, body: dict[str, Any]) -> dict[str, Any]:
        section, found = SECTIONS[name], {}
        for key, value in said.items():
            if key in section.keys:
                found[key] = placed(name, key, value, self.file.parent)
            elif key in ELSEWHERE:
                self._problem(f"{path}.{key}", f"no job has this: it is {ELSEWHERE[key]}")
            else:
                self._unknown(f"{path}.{key}", "key", tuple(section.keys))
        for key in section.required:
            if section.unless in body:
                if found.pop(key, None) is not None:
                    self._problem(f"{path}.{key}", f"is what [{section.unless}] makes; leave it out")
            elif key not in said:
                self._problem(f"{path}.{key}", "is missing")
        if (name, found.get("uri")) == ("source", "-"):
            self._problem("source.uri", "a job has no standard input to read a list from")
        return found

    def _unknown(self, path: str, what: str, keys: tuple[str, ...]) -> None:
        """Names the nearest key of the same section, else the section that has a key of this name."""
        key = path.rpartition(".")[2]
        near = difflib.get_close_matches(key, keys, n=1)
        other = [one for one in known() if one.partition(".")[2] == key]
        spelt = difflib.get_close_matches(key, [one.partition(".")[2] for one in known()], n=1)
        other = other or [one for one in known() if spelt and one.partition(".")[2] == spelt[0]]
        meant = near or other[:1]
        self._problem(path, f"unknown {what}" + (f"; did you mean '{meant[0]}'?" if meant else ""))

    # ── what they mean ──────────────────────────────────────────────────────────────────────

    def _extract(self, said: dict[str, Any]) -> ExtractSettings | None:
        if "source" not in said:
            return None
        source, model = dict(said["source"]), dict(said.get("model", {}))
        values = {SECTIONS["source"].keys[key].field: value for key, value in source.items()}
        values |= {SECTIONS["model"].keys[key].field: value for key, value in model.items()}
        values |= said.get("extract", {})
        return self._resolved(ExtractSettings, values, "extract", environ=True, given=GIVEN)

    def _heads(self, said: list[dict[str, Any]], table: str) -> list[HeadJob]:
        found: list[HeadJob] = []
        for at, keys in enumerate(said):
            path = f"head[{at}]"
            parts = [
                {key: value for key, value in keys.items() if SECTIONS["head"].keys[key].kind is kind}
                for kind in (HeadKeys, HeadSettings, TorchSettings)
            ]
            own = self._resolved(HeadKeys, parts[0], path, f"{path}.")
            settings = self._resolved(HeadSettings, parts[1], path, f"{path}.")
            torch = self._resolved(TorchSettings, parts[2], path, f"{path}.", environ=True, given=("device",))
            if own is None or settings is None or torch is None:
                continue
            name = own.name or f"{table}-{settings.label}"
            found.append(HeadJob(name=name, settings=replace(settings, name=name), torch=torch, refit=own.refit))
        return found

    def _table(self, named: JobKeys | None, *, extracts: bool, text: object) -> tuple[str, str | None]:
        name = "" if named is None else named.table or named.name
        if not extracts and named is not None and text is None:
            self._problem("job.table", "is missing: without [source], a job needs the table that it works on")
        where = _ADDRESS.fullmatch(name)
        if where is None or (extracts and where["space"]):
            if named is not None:
                wanted = "a table's name" if extracts else "a table's address, NAME or NAME@MODEL"
                self._problem("job.table", f"must be {wanted} (got {name!r})")
            return name, None
        return where["name"], where["space"]

    def _agree(self, said: dict[str, Any], table: str) -> None:
        """What no section can know of itself."""
        names = [str(keys.get("name", f"{table}-{keys.get('label', 'label')}")) for keys in said.get("head", [])]
        for at, name in enumerate(names):
            if name in names[:at]:
                self._problem(f"head[{at}].name", f"there are two heads '{name}'")
        gates = said.get("gates", {})
        moves = said.get("migrate")
        asked = gates.get("min_accuracy")
        if moves is not None and "head" not in said:
            asked = None  # the heads are those of the table
        for name in asked if isinstance(asked, dict) else ():
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                there = f"did you mean '{near[0]}'?" if near else f"its heads: {', '.join(names) or 'none'}"
                self._problem(f"gates.min_accuracy.{name}", f"the job has no such head; {there}")
        if "min_recall" in gates and "index" not in said and moves is None:
            self._problem("gates.min_recall", "the job keeps no index; add the section [index]")
        for gate in ("min_ndcg", "max_drop"):
            if gate in gates and moves is None:
                self._problem(f"gates.{gate}", "is for a job that moves to another model; add the section [migrate]")
        if "finetune" in said:
            self._tuned(said)
        if moves is None:
            return
        if "min_ndcg" in gates and "qrels" not in moves:
            self._problem("gates.min_ndcg", "needs judgements; add migrate.queries and migrate.qrels")
        if "qrels" in moves and "queries" not in moves:
            self._problem("migrate.qrels", "judges queries, and there are none; add migrate.queries")

    def _tuned(self, said: dict[str, Any]) -> None:
        """What goes with a fine-tuning: all but the training itself is of the move to what comes of it."""
        moves = said.get("migrate")
        for name in ("source", "index", "head", "gates", "publish"):
            if name in said and moves is None:
                where = f"{name}[0]" if SECTIONS[name].several else name
                self._problem(where, "is of the move to the new model; add the section [migrate]")
        for key in ("weights", *MODEL_OPTIONS):
            if key in (moves or {}):
                self._problem(f"migrate.{key}", "is that of what [finetune] makes; leave it out")

    # ── each by the way that all settings go ────────────────────────────────────────────────

    def _resolved(
        self,
        kind: type[_Kind],
        lower: Mapping[str, object],
        path: str,
        prefix: str = "",
        *,
        environ: bool = False,
        given: tuple[str, ...] = (),
    ) -> _Kind | None:
        """A class's settings, or None where something is wrong with them, which is noted."""
        own = {item.name for item in fields(kind)}  # type: ignore[arg-type]
        around = {}
        if environ:
            around = {key: value for key, value in self.environ.items() if key not in _FILE_ALONE}
        if kind in (TorchSettings, FinetuneSettings):  # a variable cannot tell one label or model from another
            how = {f"{ENVIRONMENT_PREFIX}{key}" for key in ("DEVICE", "WORKERS")}
            around = {key: value for key, value in around.items() if key in how}
        flags = {key: self.given.get(key) for key in given if key in own}
        try:
            settings, resolved = resolve(kind, flags, around, lower=lower, lower_origin=self._origin)
        except SettingsError as error:
            self._wrong(error, path, flags, around)
            return None
        if kind is ExtractSettings:
            self.origins |= resolved.origins
        elif prefix:  # a run's manifest need not repeat the defaults of every head
            said = {key: value for key, value in resolved.origins.items() if value.origin != "default"}
            self.origins |= {f"{prefix}{key}": value for key, value in said.items()}
        if isinstance(settings, Gates):
            self._gates(settings, resolved.origins)
        return settings

    def _gates(self, gates: Gates, origins: dict[str, SettingValue]) -> None:
        accuracy = origins.pop("min_accuracy")
        for key, found in origins.items():
            self.origins[key if key.startswith("max_re") else f"gates.{key}"] = found
        for head, least in gates.min_accuracy.items():
            self.origins[f"gates.min_accuracy.{head}"] = replace(accuracy, value=least)

    def _wrong(self, error: SettingsError, path: str, flags: Mapping[str, object], around: Mapping[str, str]) -> None:
        problems = error.context.get("problems")
        if not isinstance(problems, tuple):
            self._problem("", error.message.rstrip("."))
            return
        for key, text in problems:
            variable = f"{ENVIRONMENT_PREFIX}{key.upper()}"
            if flags.get(key) is not None or variable in around:
                self.problems.append(Problem(f"--{key}" if flags.get(key) is not None else variable, text))
            else:
                self._problem(_written(key) if path == "extract" else f"{path}.{key}", text)

    def _problem(self, path: str, text: str) -> None:
        found = Problem(path, text, nearest(self.lines, path))
        if not any((one.path, one.text) == (path, text) for one in self.problems):
            self.problems.append(found)


def _written(field_: str) -> str:
    """Where a field of extract stands in the file."""
    first, dot, rest = field_.partition(".")
    for name in ("source", "model", "extract"):
        for key, meant in SECTIONS[name].keys.items():
            if (meant.kind, meant.field) == (ExtractSettings, first):
                return f"{name}.{key}{dot}{rest}"
    return field_
