"""One table of what all the benchmarks measured last, from benchmarks/results/*.json.

    make bench                    # measures, then prints and writes benchmarks/results/speed.md
    python benchmarks/table.py    # the table alone

Each row was measured by the script whose name it has, all of its ways in one process or one session, in paired rounds.
What is compared in a row ran on one machine; the machine of each report stands above the table.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from measure import RESULTS, Row, median, write


def processor_of(file: Path) -> str:
    """What a report says that it was measured on, such as ``AMD EPYC (VNNI), 2 cores``."""
    found = re.search(r"^(.+ cores) · Python ", file.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{file.name} does not say what it was measured on")
    return found.group(1)


def line_of(row: Row, script: str) -> str:
    """One row of the table."""
    middle, digits = median(row.figures), 2 if median(row.figures) < 100 else 0
    times = row.unit == "×"
    shown = f"{middle:,.{digits}f}{'×' if times else ' ' + row.unit}"
    if len(row.figures) > 1:
        shown += f" [{min(row.figures):,.{digits}f}–{max(row.figures):,.{digits}f}]"
    asked = "–"
    if row.asked is not None:
        met = middle >= row.asked if times else middle <= row.asked
        asked = f"{'≥' if times else '≤'} {row.asked:g}{'×' if times else ' ' + row.unit}{'' if met else ' **missed**'}"
    beside = row.beside + (f" (weak: {row.weak})" if row.weak else "")
    bound = "–" if row.bound is None else f"{row.bound:.0%}"
    return f"| {row.work} | {beside or '–'} | {shown} | {asked} | {bound} | {row.fidelity or '–'} | {script} |"


def main() -> int:
    """Prints the table and writes it."""
    lines = [
        "# Speed: everything that was measured",
        "",
        "`make bench` · medians [min–max] of paired rounds · × is how many times as fast as what stands beside it, on "
        "the same files in the same run · *bound* is the share of what bare decoding and inference allow on these "
        "cores, measured apart in the same run.",
        "",
    ]
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        print("Nothing has been measured yet: make bench", file=sys.stderr)
        return 1
    on = {file.stem: processor_of(file.with_suffix(".md")) for file in files}
    lines += [
        f"- {processor}: {', '.join(name for name, each in on.items() if each == processor)}"
        for processor in sorted(set(on.values()))
    ]
    lines += [
        "",
        "| work | beside | ratio or figure | asked | bound | fidelity | measured by |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in files:
        lines += [line_of(Row(**row), f"[{file.stem}]({file.stem}.md)") for row in json.loads(file.read_text())]
    write("speed", lines, keep=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
