"""Panel Look after: ``verify``, ``gc`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featstore.cli import console, forgood
from featstore.cli.options import LOOK_AFTER, DryRun, Json, Quiet, StorePath, Verbose
from featstore.cli.stores import existing
from featstore.errors import GateError, IntegrityError, UsageError

__all__ = ["register"]

_FOR_GOOD = "For good"


def register(app: typer.Typer) -> None:
    """Adds the panel's commands."""
    app.command(rich_help_panel=LOOK_AFTER, short_help="Check that everything is still what was written.")(verify)
    app.command(rich_help_panel=LOOK_AFTER, short_help="Merge small files, remove what no kept version needs.")(gc)
    app.command(rich_help_panel=LOOK_AFTER, short_help="Check this machine: versions, devices, caches.")(doctor)


def verify(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="Which tables; all by default.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Items of each table to embed again; 0 for none.")] = 16,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore verify photos --sample 4

    Hashes every file again and embeds a sample again.

    Names what is damaged, missing or stray; exits with 4 if anything is wrong.
    """
    report = existing(store).verify(addresses or (), sample=sample)
    if json:
        console.emit(report)
    else:
        for finding in report.findings:
            console.line(console.plain(f"{finding.severity}: {finding.path}: {finding.message} ({finding.code})"))
        console.line(
            f"{console.count(report.tables, 'table')}, {console.count(report.models, 'model')}, "
            f"{console.count(report.files, 'data file')} ({console.size(report.bytes)}), "
            f"{console.count(report.rows, 'row')}; {report.seconds:,.1f} s"
        )
        if report.sampled:
            items = console.count(report.sampled, "item")
            console.line(f"{items} embedded again: cosine {report.min_cosine} or more with what is stored")
        if report.ok:
            console.line("nothing is damaged" + ("; see the warnings" if report.findings else ""))
    if not report.ok:
        errors = sum(finding.severity == "error" for finding in report.findings)
        raise IntegrityError(f"verify found {console.count(errors, 'error')}.")


def gc(
    keep: Annotated[int, typer.Option(min=1, help="Newest versions of each table and head that stay.")] = 2,
    grace_hours: Annotated[float, typer.Option(min=0, help="Leave files alone that are younger.")] = 24.0,
    drop_space: Annotated[
        str | None,
        typer.Option(metavar="NAME@MODEL", help="Remove this table in this space for good.", rich_help_panel=_FOR_GOOD),
    ] = None,
    purge_ids: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Remove these items for good, from everything; one item_id a line, or a table with that column.",
            rich_help_panel=_FOR_GOOD,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --purge-ids: only from this table.", rich_help_panel=_FOR_GOOD),
    ] = None,
    store: StorePath = None,
    dry_run: DryRun = False,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore gc --dry-run

    Merges small files and removes what no kept version needs.

    --purge-ids removes items from every version, index, head report and thumbnail,
    and proves it by a scan of every file; it exits with 5 where a head's weights
    are still the vector of one. Remove them from the source first:
    no list of them is kept, and the next extract takes in what the source has.
    """
    if drop_space is not None and purge_ids is not None:
        raise UsageError("--drop-space and --purge-ids are two commands.", hint="Run one after the other.")
    if table and purge_ids is None:
        raise UsageError("--table goes with --purge-ids.")
    if drop_space is not None:
        dropped = existing(store).drop_space(drop_space, dry_run=dry_run)
        console.emit(dropped) if json else forgood.dropped(dropped)
        return
    if purge_ids is not None:
        purged = existing(store).purge(purge_ids, tables=table or None, dry_run=dry_run)
        console.emit(purged) if json else forgood.purged(purged)
        if purged.remaining and not dry_run:
            raise GateError(
                f"vectors of removed items are still in the weights of {console.count(len(purged.remaining), 'head')}.",
                hint="; ".join(purged.remaining),
            )
        return
    report = existing(store).gc(dry_run=dry_run, keep_versions=keep, grace_hours=grace_hours)
    if json:
        console.emit(report)
        return
    files, size = console.count(report.removed_files, "file"), console.size(report.removed_bytes)
    if dry_run:
        console.line(f"would remove {files} ({size}); nothing was changed")
    else:
        console.line(f"removed {files} ({size}); merged {report.compacted_files:,} into {report.written_files:,}")
    for address, versions in report.kept_versions.items():
        console.line(console.plain(f"{address}: versions {', '.join(map(str, versions))} stay readable"))
    for head, versions in report.kept_heads.items():
        console.line(console.plain(f"head {head}: versions {', '.join(map(str, versions))} stay"))


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also try to reach the model hub, over the network.")] = False,
    store: StorePath = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """$ featstore doctor

    Checks what an extract depends on and runs a model on each device.

    Exits with 5 if something does not work.
    """
    import featstore
    from featstore.upkeep.doctor import doctor as examine

    report = examine(featstore.open(store).layout, network=hub)
    if json:
        console.emit(report)
    else:
        console.grid(
            ("check", "status", "found", "what to do"),
            ((c.name, c.status, c.value, c.hint or "") for c in report.checks),
        )
    if not report.ok:
        bad = ", ".join(check.name for check in report.checks if check.status == "error")
        raise GateError(f"not in order: {bad}.")
