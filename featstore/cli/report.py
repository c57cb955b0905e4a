"""The result of an extract in words."""

from __future__ import annotations

import json

from featstore.cli.console import count, line, plain, size
from featstore.records import ExtractResult

__all__ = ["extraction", "rehearsal"]

_SLOWEST = {
    "read": "reading the source",
    "decode": "decoding images or splitting texts into tokens",
    "infer": "computing the vectors",
    "write": "writing the table",
}


def extraction(result: ExtractResult) -> None:
    """Prints what an extract did; ends with the line that opens the table."""
    name = plain(f"{result.table}@{result.space_id}")
    line(f"{name}: {_ended(result)}")
    line(
        f"{result.seen:,} seen = {result.stored:,} stored + {result.reused:,} reused + {result.rejected:,} rejected"
        f"{f' + {result.left:,} left to later runs' if result.left else ''}; "
        f"{result.removed:,} removed, {count(result.ignored, 'file')} ignored"
    )
    details = {
        "new": result.new,
        "changed": result.changed,
        "renamed": result.renamed,
        "twins": result.twins,
        "with other metadata": result.updated,
    }
    if any(details.values()):
        line("among them: " + ", ".join(f"{number:,} {what}" for what, number in details.items() if number))
    device = f" on {plain(result.device)}" if result.device else ""
    line(f"{result.seconds:,.1f} s, {result.items_per_s:,.1f} items/s{device}, {size(result.bytes_written)} written")
    if result.resumed_shards:
        line(f"{count(result.resumed_shards, 'shard')} taken from a run that was cut short")
    if result.rates:
        rates = ", ".join(f"{stage} {rate:,.0f}" for stage, rate in result.rates.items())
        line(f"items/s that each stage alone would reach: {rates}")
    if result.bottleneck:
        line(f"bottleneck: {_SLOWEST.get(result.bottleneck, result.bottleneck)} ({result.bottleneck})")
    if result.tokens:
        embedded = max(1, result.stored)
        line(
            f"{result.tokens:,} tokens; {result.truncated / embedded:.1%} of the texts were longer than the model takes"
        )
    for code, number in sorted(result.reject_codes.items(), key=lambda pair: -pair[1]):
        line(f"rejected: {number:,} × {plain(code)}")
    if result.rejected:
        line(f"look at them: featstore show {name} --rejects")
    for warning in result.warnings:
        line(f"warning: {plain(warning)}")
    if result.version is not None:
        line(_opening(result))


def rehearsal(result: ExtractResult) -> None:
    """Prints what an extract would do."""
    line(f"{plain(result.table)}: {count(result.seen, 'item')} in the source; nothing was changed")
    for what, number in (
        ("new", result.new),
        ("changed", result.changed),
        ("renamed", result.renamed),
        ("twin", result.twins),
        ("updated", result.updated),
        ("missing", result.removed),
        ("rejected", result.rejected),
        *((("left", result.left),) if result.left else ()),
        ("ignored", result.ignored),
    ):
        line(f"{what:<9}{number:>10,}")
    measured = result.items_per_s > 0 or not result.stored
    line(
        f"time     {result.seconds:,.0f} s for {count(result.stored, 'item')} to embed"
        if measured
        else "time     unknown: no run of this model measured yet"
    )
    line(
        f"bytes    {size(result.bytes_written)}"
        if result.dim
        else "bytes    unknown: this model is not in the store yet"
    )
    for warning in result.warnings:
        line(f"warning: {plain(warning)}")


def _ended(result: ExtractResult) -> str:
    if result.status == "committed":
        return f"version {result.version} is committed"
    at = "it has no version yet" if result.version is None else f"version {result.version} stays"
    return f"{result.status}; {at}"


def _opening(result: ExtractResult) -> str:
    """The line of Python that opens the table.

    Polars (2.1) looks for ``%20`` where a path has a blank, so such a table is opened through featstore.
    """
    if any(mark in result.path for mark in " %#?"):
        store = result.path.removesuffix(f"/features/{result.table}/{result.space_id}")
        address = f"{result.table}@{result.space_id}"
        quoted = [json.dumps(text, ensure_ascii=False) for text in (store, address)]
        return f"featstore.open({quoted[0]}).table({quoted[1]}).to_polars()"
    return f"pl.scan_delta({json.dumps(result.path, ensure_ascii=False)})"
