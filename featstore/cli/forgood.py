"""What ``gc --purge-ids`` and ``gc --drop-space`` say to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.cli import console

if TYPE_CHECKING:
    from featstore.records import DropReport, PurgeReport, PurgeScan

__all__ = ["dropped", "purged"]


def purged(report: PurgeReport) -> None:
    """Where items were found, what went, what breaks, and the proof."""
    would = "would remove" if report.dry_run else "removed"
    cut = f" and {console.count(report.chunks, 'chunk')} of them" if report.chunks else ""
    console.line(f"{would} {report.found:,} of {console.count(report.items, 'item')}{cut}")
    if report.unknown:
        console.line(console.plain(f"nowhere in the store: {', '.join(report.unknown)}"))
    for kind, count in report.before.found.items():
        console.line(f"  {kind}: found in {console.count(count, 'file')}")
    if report.previews:
        console.line(f"  {console.count(report.previews, 'preview')} of contents that no other item has")
    for table in report.tables:
        history = f", {table.history_rows:,} of its history" if table.history_rows else ""
        now = "" if report.dry_run or table.version is None else f"; version {table.version} is the newest now"
        meant = table.published_version
        shown = "" if report.dry_run or meant is None else f", version {meant} is published"
        console.line(
            console.plain(f"{table.name}@{table.space_id}: {console.count(table.rows, 'row')}{history}{now}{shown}")
        )
    for head in report.heads:
        console.line(
            console.plain(
                f"head {head.head}:{head.version} has learned from {console.count(head.rows, 'item')} of them; its "
                f"figures and weights stay{_without(head.vectors, report.dry_run)}; to train it again: {head.again}"
            )
        )
    for said in (*report.breaks, *(f"warning: {warning}" for warning in report.warnings)):
        console.line(console.plain(said))
    if report.after is None:
        console.line(f"{_looked(report.before)}; nothing was changed")
    else:
        console.line(f"proof: {_looked(report.after)}; none holds any of the ids any more")
    for said in report.remaining:
        console.line(console.plain(f"still there: {said}"))
    for command in report.next:
        console.line(console.plain(f"next: {command}"))


def _without(vectors: int, dry_run: bool) -> str:
    would = "would go" if dry_run else "went"
    return f", but for {console.count(vectors, 'vector')} of theirs, which {would}" if vectors else ""


def dropped(report: DropReport) -> None:
    """What went, and what breaks."""
    would = "would remove" if report.dry_run else "removed"
    console.line(
        console.plain(
            f"{would} {report.name}@{report.space_id}: {console.count(report.rows, 'row')}, "
            f"{console.count(report.versions, 'version')}, {console.count(report.files, 'file')} "
            f"({console.size(report.bytes)})"
        )
    )
    for kind, count in report.removed.items():
        console.line(f"  {kind}: {console.count(count, 'file')}")
    if report.reject_rows:
        console.line(f"  rejects: {console.count(report.reject_rows, 'row')}")
    for said in report.breaks:
        console.line(console.plain(said))
    if report.dry_run:
        console.line("nothing was changed")


def _looked(scan: PurgeScan) -> str:
    return f"{console.count(scan.files, 'file')} ({console.size(scan.bytes)}) read"
