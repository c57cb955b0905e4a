"""Text to pictures through a bridge, on real pictures with captions.

    python benchmarks/bench_bridge.py                    # minutes, writes benchmarks/results/bridge.md
    python benchmarks/bench_bridge.py --package FILE.deb # with a package that is here already
    python benchmarks/bench_bridge.py --quick            # a look: 200 pictures, and nothing is written

The pictures are the stamps of Tux Paint (Debian package tuxpaint-stamps-default, 161 MB, GPL-2 and others): photographs
and drawings of animals, food, plants, vehicles and more, each with a sentence. Letters and symbols are left out. The
package is fetched by ``apt-get download`` into a temporary folder and nothing of it is kept; without apt-get nothing is
measured.

Two measurements that share no code beyond the map. The first is the command's own: nested, on pairs held out by groups
(``featstore/bridge/held_out.py``). The second asks the finished thing as a user does: a bridge is learned from four
fifths of the pictures, and ``Table.search(text=…)`` looks for the others by their captions among the others.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from measure import machine, write

import featstore
from featstore.records import BridgeCard

PACKAGE = "tuxpaint-stamps-default"
LEFT_OUT = "symbols"
QUESTIONS = (
    "a bird that lives near the sea",
    "something sweet to eat",
    "an old train",
    "a yellow flower",
    "a vehicle for emergencies",
    "a musical instrument",
)


def fetched(scratch: Path, package: Path | None) -> Path | None:
    """The folder of stamps, or None where there is no way to get it."""
    if shutil.which("dpkg-deb") is None or (package is None and shutil.which("apt-get") is None):
        return None
    if package is None:
        print(f"  downloading {PACKAGE}, 161 MB", file=sys.stderr)
        done = subprocess.run(["apt-get", "download", PACKAGE], cwd=scratch, capture_output=True, text=True)
        found = sorted(scratch.glob("*.deb"))
        if done.returncode or not found:
            print(done.stderr, file=sys.stderr)
            return None
        package = found[0]
    subprocess.run(["dpkg-deb", "-x", str(package), str(scratch / "package")], check=True)
    return next((scratch / "package").rglob("stamps"))


def captions(stamps: Path, most: int | None) -> list[tuple[str, str]]:
    """Each picture's path in the folder and the first line of the text beside it, which is English."""
    found = []
    for picture in sorted(stamps.rglob("*.png")):
        text = picture.with_suffix(".txt")
        name = picture.relative_to(stamps).as_posix()
        if text.is_file() and not name.startswith(f"{LEFT_OUT}/"):
            found.append((name, text.read_text("utf-8", "replace").split("\n", 1)[0].strip()))
    return sorted(found, key=lambda pair: _digest(pair[0]))[:most]


def asked(table: featstore.Table, learned: dict[str, str], others: dict[str, str]) -> list[str]:
    """Recall by plain searches; captions that two of the others share, or one that was learned from, are not asked."""
    wordings = [caption.casefold() for caption in others.values()]
    once = {
        name: caption
        for name, caption in others.items()
        if wordings.count(caption.casefold()) == 1
        and caption.casefold() not in {known.casefold() for known in learned.values()}
    }
    hits = table.search(text=list(once.values()), k=10, where="part = 'held out'")
    name_of = {caption: name for name, caption in once.items()}
    right = {
        (row["query"], row["rank"]) for row in hits.iter_rows(named=True) if row["item_id"] == name_of[row["query"]]
    }
    first = sum(rank == 1 for _, rank in right) / len(once)
    ten = len({query for query, _ in right}) / len(once)
    by_chance = (1 / len(others), 10 / len(others))
    return [
        f"{len(once)} captions asked by `Table.search(text=…)` among the {len(others)} pictures that the bridge was "
        f"not learned from: recall@1 {first:.3f} (chance {by_chance[0]:.3f}), recall@10 {ten:.3f} "
        f"(chance {by_chance[1]:.3f}).",
    ]


def figures(card: BridgeCard) -> list[str]:
    """The command's own figures as a table."""
    lines = ["| direction | recall | 95 % interval | by chance |", "|---|---|---|---|"]
    for direction, found in (("text to image", card.text_to_image), ("image to text", card.image_to_text)):
        lines += [
            f"| {direction}, recall@{at.k} | {at.value:.3f} | {at.low:.3f}–{at.high:.3f} | {at.chance:.3f} |"
            for at in found
        ]
    return lines


def examples(table: featstore.Table) -> list[str]:
    """Questions in other words than the captions', and the first three of the pictures not learned from."""
    hits = table.search(text=list(QUESTIONS), k=3, where="part = 'held out'")
    lines = ["| asked | the first three, by their captions (cosine) |", "|---|---|"]
    for question in QUESTIONS:
        best = hits.filter(hits["query"] == question).select("caption", "score").iter_rows()
        found = [f"{caption} ({score:.2f})" for caption, score in best]
        lines.append(f"| {question} | {' · '.join(found)} |")
    return lines


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few pictures, and nothing is written")
    parser.add_argument("--package", type=Path, metavar="FILE.deb", help="the package, downloaded before")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # that a bridge is used is known here
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        stamps = fetched(scratch, options.package and options.package.resolve())
        if stamps is None:
            print(f"nothing measured: {PACKAGE} is not to be had here (apt-get download, dpkg-deb)")
            return 0
        pairs = captions(stamps, 200 if options.quick else None)
        part = {item: "held out" if int(_digest(item), 16) % 5 == 0 else "learned" for item, _ in pairs}
        _table(scratch / "stamps.csv", ("file", "caption", "part"), [(*pair, part[pair[0]]) for pair in pairs])
        store = featstore.open(scratch / "store")
        table = store.extract(
            scratch / "stamps.csv",
            model="efficientnet_lite0",
            image_column="file",
            id_column="file",
            source_root=str(stamps),
        )
        whole = store.bridge("stamps", to="minilm", pairs="caption")
        learned = {item: caption for item, caption in pairs if part[item] == "learned"}
        others = {item: caption for item, caption in pairs if part[item] != "learned"}
        _table(scratch / "learned.csv", ("item_id", "caption"), list(learned.items()))
        store.bridge("stamps", to="minilm", pairs=scratch / "learned.csv")
        again = asked(table, learned, others)
        shown = examples(table)
    card = whole.card
    lines = [
        "# Text to pictures through a bridge",
        "",
        f"`python benchmarks/bench_bridge.py` · {len(pairs)} pictures of {PACKAGE} with captions, EfficientNet-lite0 "
        f"({card.image_dim} values) to all-MiniLM-L6-v2 ({card.text_dim} values).",
        "",
        machine("featstore", "onnxruntime-gpu", "numpy"),
        "",
        "## `featstore bridge stamps --to minilm --pairs caption`",
        "",
        f"{card.pairs} pairs in {card.groups} groups whose pictures and captions are not nearly the same; "
        f"{card.method}, penalty or dimensions {card.strength:g}; {card.queries} held-out pairs, each searched for "
        f"among {card.gallery:.0f}.",
        "",
        *figures(card),
        "",
        "## The same by searching",
        "",
        *again,
        "",
        *shown,
    ]
    write("bridge", lines, keep=not options.quick)
    return 0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _table(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    raise SystemExit(main())
