"""What goes to stdout and stderr: JSON for machines, tables for people, errors for both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from featstore.storage import documents

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["complain", "count", "emit", "emit_line", "facts", "grid", "line", "plain", "size"]


def emit_line(result: DataclassInstance) -> None:
    """Prints one record as JSON on one line of stdout, for a scheduler that takes the last line."""
    print(json.dumps(documents.to_json(result), allow_nan=False), flush=True)


def emit(result: DataclassInstance | Sequence[DataclassInstance]) -> None:
    """Prints one record, or a list of them, as JSON on stdout."""
    body: Any = [documents.to_json(r) for r in result] if isinstance(result, Sequence) else documents.to_json(result)
    print(json.dumps(body, indent=2, allow_nan=False))


def line(text: str = "") -> None:
    """Prints one line on stdout as it is."""
    print(text)


def complain(text: str) -> None:
    """Prints on stderr; a closed stderr is no reason to fail."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Makes what came from outside harmless for a terminal: control characters become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def grid(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Prints a table: on a terminal folded to its width, elsewhere a row a line.

    Args:
        headings: Of the columns.
        rows: Their cells, shown by ``str`` and never cut.
        right: The headings of the columns that are numbers.
    """
    (_folded if sys.stdout.isatty() else _rows)(headings, rows, right)


def _folded(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def _rows(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str]) -> None:
    """What is no terminal has no width, and no colours: nothing is folded, and what draws them is not loaded."""
    from rich.cells import cell_len

    lines = [list(headings), *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        blanks = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
        padded = (
            blank + cell if heading in right else cell + blank
            for heading, cell, blank in zip(headings, cells, blanks, strict=True)
        )
        line("  ".join(padded).rstrip())


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Prints names and values, one pair a line, the values aligned."""
    shown = [(name, plain(str(value))) for name, value in pairs if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line(f"{name:<{width}}  {value}")


def size(number: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int, noun: str) -> str:
    """``1 item``, ``2,000 items``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
