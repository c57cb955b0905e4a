"""Which column of a table is what: content, id, label, group, split, time, or plain metadata."""

from __future__ import annotations

import difflib
import string
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from featstore.errors import SettingsError, UsageError
from featstore.records import Modality
from featstore.sources.items import RESERVED, SourceOptions

__all__ = ["Columns", "assign", "check", "metadata_names"]

_IMAGE_NAMES = ("image", "path", "file", "filename", "image_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The part each named column plays.

    Attributes:
        content: Columns that the text or picture is made of.
        template: What a text is put together from, as (literal, column or None) pairs; None: joined by line breaks.
        id: Column of ``item_id``; None: the content's hash.
        time: Column of ``event_ts``.
        renamed: Source column → ``label``, ``group`` or ``split``.
    """

    content: tuple[str, ...]
    template: tuple[tuple[str, str | None], ...] | None = None
    id: str | None = None
    time: str | None = None
    renamed: dict[str, str]

    @property
    def alone(self) -> bool:
        """Whether a text is the value of one column as it stands."""
        return self.template is None and len(self.content) == 1

    def compose(self, values: Sequence[object]) -> str | None:
        """Puts a text together from the content columns' values; None where all of them are null."""
        if self.alone:
            return None if values[0] is None else str(values[0])
        if all(value is None for value in values):
            return None
        if self.template is None:
            return "\n".join(str(value) for value in values if value is not None)
        found = dict(zip(self.content, values, strict=True))
        return "".join(
            literal + ("" if name is None or found[name] is None else str(found[name]))
            for literal, name in self.template
        )


def assign(
    names: Sequence[str], strings: Collection[str], modality: Modality, options: SourceOptions, where: str
) -> Columns:
    """Gives each column its part.

    Args:
        names: The table's columns.
        strings: Those that hold strings.
        modality: What the items are.
        options: What the user named.
        where: The table's name, for messages.

    Raises:
        SettingsError: A named column is not there, or none was named and none can be guessed.
        UsageError: An option does not fit the modality or a table.
    """
    if options.label_from is not None:
        raise UsageError(
            f"--label-from {options.label_from} needs a folder; {where} is a table.",
            hint="Name its column of labels with --label-column.",
        )
    named = [("--id-column", options.id_column), ("--label-column", options.label_column)]
    named += [("--group-column", options.group_column), ("--split-column", options.split_column)]
    for flag, name in [*named, ("--time-column", options.time_column)]:
        if name is not None:
            check(flag, name, names, where)
    renamed: dict[str, str] = {}
    for target, (flag, name) in zip(("label", "group", "split"), named[1:], strict=True):
        if name is None:
            continue
        if name in renamed:
            raise SettingsError(f"{flag} {name}: the column is the {renamed[name]} already.")
        renamed[name] = target
    taken = {options.id_column, options.time_column, *renamed}
    template = None
    if modality == "image":
        if options.text_columns or options.text_template:
            raise UsageError("the model takes images; --text-column and --text-template are for text models.")
        content: tuple[str, ...] = (_image_column(names, options.image_column, where),)
    else:
        if options.image_column or options.source_root:
            raise UsageError("the model takes texts; --image-column and --source-root are for image models.")
        if options.text_template is not None:
            template = _parse(options, names, where)
            content = tuple(dict.fromkeys(name for _, name in template if name is not None))
        else:
            for name in options.text_columns:
                check("--text-column", name, names, where)
            content = options.text_columns or (_text_column(names, [s for s in strings if s not in taken], where),)
    return Columns(content=content, template=template, id=options.id_column, time=options.time_column, renamed=renamed)


def metadata_names(names: Iterable[str], columns: Columns) -> tuple[dict[str, str], list[str]]:
    """What each kept column is called in ``Scan.items``, and a warning for each that lost its name."""
    used = {*columns.content, columns.id, columns.time} - set(columns.renamed)
    kept = [name for name in names if name not in used]
    found = {name: columns.renamed[name] for name in kept if name in columns.renamed}
    taken = {*RESERVED, *found.values()}
    taken |= {name for name in kept if name not in found and name not in taken}
    warnings = []
    for name in kept:
        if name in found:
            continue
        target = name
        if name in RESERVED or name in columns.renamed.values():
            while target in taken:
                target += "_"
            taken.add(target)
            warnings.append(f"the column '{name}' is kept as '{target}', since featstore has a column of that name")
        found[name] = target
    return {name: found[name] for name in kept}, warnings


def check(flag: str, name: str, names: Sequence[str], where: str) -> None:
    """Checks that a column is there.

    Raises:
        SettingsError: It is not; the nearest is named.
    """
    if name not in names:
        folded = {known.lower(): known for known in names}
        near = [folded[found] for found in difflib.get_close_matches(name.lower(), folded, n=1)]
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise SettingsError(f"{flag} {name}: {where} has no such column.", hint=f"{hint}{_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"Its columns are: {', '.join(names[:30])}{more}."


def _image_column(names: Sequence[str], named: str | None, where: str) -> str:
    if named is not None:
        check("--image-column", named, names, where)
        return named
    for name in _IMAGE_NAMES:
        if name in names:
            return name
    raise SettingsError(
        f"{where} has no column called {', '.join(_IMAGE_NAMES[:-1])} or {_IMAGE_NAMES[-1]}.",
        hint=f"Name the one that holds the pictures or their paths with --image-column. {_listed(names)}",
    )


def _text_column(names: Sequence[str], strings: Sequence[str], where: str) -> str:
    if "text" in names:
        return "text"
    if len(strings) == 1:
        return strings[0]
    raise SettingsError(
        f"{where} has no column called text and {len(strings) or 'no'} columns of strings.",
        hint=f"Name the ones that hold the text with --text-column. {_listed(names)}",
    )


def _parse(options: SourceOptions, names: Sequence[str], where: str) -> tuple[tuple[str, str | None], ...]:
    template = options.text_template or ""
    if options.text_columns:
        raise SettingsError("--text-column and --text-template exclude each other.")
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SettingsError(f"--text-template {template!r}: {error}.", hint="Write {{ for a brace.") from error
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if spec or conversion:
            raise SettingsError(f"--text-template {template!r}: '{{{name}}}' takes no format or conversion.")
        check("--text-template", name, names, where)
    if not any(name for _, name, _, _ in parts):
        raise SettingsError(f"--text-template {template!r} names no column.", hint=_listed(names))
    return tuple((literal, name) for literal, name, _, _ in parts)
