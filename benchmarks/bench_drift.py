"""How often drift is seen where there is some, and where there is none.

    python benchmarks/bench_drift.py          # minutes, writes benchmarks/results/drift.md
    python benchmarks/bench_drift.py --quick  # a look: few tries, and nothing is written

Texts are the messages of this system's gettext catalogs (``/usr/share/locale/LANGUAGE/LC_MESSAGES``: coreutils, git,
GnuPG, PostgreSQL, systemd …), in English and as their translators have put them, through MiniLM (384 values); their
category is the program. Pictures are the solar cells of the elpv-dataset package (2,624 photographs, CC BY-NC-SA 4.0)
through EfficientNet-lite0 (1,280 values, of which 128 by a fixed random projection: a try takes 0.5 s then). Each try
draws anew: up to 1,000 items that were there, on which a head is fitted (programs, or kinds of cell), and up to 1,000
that came; where nothing moves, 500 of each, since the level must hold whatever their number.
"""

from __future__ import annotations

import argparse
import gettext
import hashlib
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import machine, write
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import featstore
from featstore import drift
from featstore.heads import fit, probabilities
from featstore.records import DriftReport
from featstore.store import Store

CATALOGS = Path("/usr/share/locale")
PROGRAMS = ("bash", "coreutils", "git", "gnupg2", "gtk20-properties", "mit-krb5", "systemd", "wget")
NEW = "git"
N, WIDTH = 1_000, 128

Draw = Callable[[np.random.Generator], tuple[NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True)
class Items:
    """Vectors and what each is of; ``kind`` is what is shifted, such as the language."""

    vectors: NDArray[np.float32]
    label: NDArray[np.int64]
    kind: NDArray[np.str_]


def messages(language: str, most: int) -> list[tuple[str, str, str]]:
    """Program, message and its translation; at least 25 letters, no two alike."""
    found: dict[str, tuple[str, str, str]] = {}
    for program in PROGRAMS:
        path = CATALOGS / language / "LC_MESSAGES" / f"{program}.mo"
        if not path.is_file():
            continue
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        pairs = [(k, v) for k, v in catalog.items() if isinstance(k, str) and len(k) >= 25 and k != v]
        for english, other in sorted(pairs)[:: max(1, len(pairs) // most)][:most]:
            found.setdefault(english, (program, english, other))
    return list(found.values())


def texts(store: Store, scratch: Path, languages: tuple[str, ...], most: int) -> Items:
    """English messages, and translations of a quarter of them."""
    rows: list[tuple[str, str, str]] = []
    for language in languages:
        for program, english, other in messages(language, most):
            rows += [(program, english, "en")] if language == languages[0] else []
            rows += [(program, other, language)] if int(hashlib.sha256(other.encode()).hexdigest(), 16) % 4 == 0 else []
    frame = {"id": [f"m{at:05d}" for at in range(len(rows))], "text": [text for _, text, _ in rows]}
    import polars as pl

    path = scratch / "texts.parquet"
    pl.DataFrame(frame).write_parquet(path)
    table = store.extract(path, name="texts", model="minilm", id_column="id", text_column="text")
    ids, vectors = table.matrix()
    at = [int(str(item)[1:]) for item in ids]
    numbers = {name: number for number, name in enumerate(PROGRAMS)}
    return Items(
        np.ascontiguousarray(vectors),
        np.array([numbers[rows[row][0]] for row in at]),
        np.array([rows[row][2] for row in at]),
    )


def pictures(store: Store, scratch: Path, most: int) -> Items:
    """Solar cells, a third of them blurred by 2 of their 300 pixels."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None, "elpv-dataset is not installed: pip install 'featstore[demo]'"
    folder = Path(str(spec.submodule_search_locations and spec.submodule_search_locations[0])) / "data"
    lines = [line.split() for line in (folder / "labels.csv").read_text().splitlines()]
    lines = [lines[at] for at in np.random.default_rng(0).permutation(len(lines))[:most].tolist()]
    for kind in ("plain", "blurred"):
        (scratch / kind).mkdir()
    for at, (file, _, _) in enumerate(lines):
        # None is there twice: of three pictures one is blurred.
        with Image.open(folder / file) as image:
            if at % 3:
                image.save(scratch / "plain" / Path(file).name)
            else:
                image.filter(ImageFilter.GaussianBlur(2)).save(scratch / "blurred" / Path(file).name)
    parts = [
        store.extract(scratch / kind, name=kind, model="efficientnet_lite0").matrix() for kind in ("plain", "blurred")
    ]
    cells = {Path(file).name: ("mono", "poly").index(sort) for file, _, sort in lines}
    project = np.random.default_rng(0).standard_normal((parts[0][1].shape[1], WIDTH)).astype(np.float32)
    return Items(
        np.concatenate([vectors @ project for _, vectors in parts]),
        np.array([cells[Path(str(item)).name] for ids, _ in parts for item in ids]),
        np.repeat(["plain", "blurred"], [len(ids) for ids, _ in parts]),
    )


def report(items: Items, before: NDArray[np.int64], after: NDArray[np.int64], head: str, seed: int) -> DriftReport:
    """What is said of a draw, with a head fitted on what was there."""
    here, label = np.unique(items.label[before], return_inverse=True)
    if len(here) < 2:
        return drift.compare(items.vectors[before], items.vectors[after], seed=seed)
    names = tuple(map(str, here))
    folds = np.random.default_rng(seed).permutation(len(before)) % 5
    known = fit(items.vectors[before], label, names, folds, task="classification", kind=head)  # type: ignore[arg-type]
    unseen = probabilities("classification", known.out_of_fold, known.head.settings.get("temperature", 1.0))
    said = {"head": (unseen, known.head.probabilities(items.vectors[after]))}
    return drift.compare(items.vectors[before], items.vectors[after], said=said, seed=seed)


def row(what: str, items: Items, draw: Draw, *, tries: int, head: str) -> str:
    """One line: how often drift was said, and by which measures alone."""
    alarms, each, area, sizes = 0, Counter[str](), [], (0, 0)
    for seed in range(tries):
        before, after = draw(np.random.default_rng(seed))
        sizes = (len(before), len(after))
        found = report(items, before, after, head, seed)
        alarms += bool(found.drifted)
        each.update(measure.name for measure in found.measures if measure.p <= 0.05)
        area.append(found.measures[0].effect)
        print(f"  {what}: {seed + 1}/{tries}, {alarms} drifted", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    names = ("classifier", "mmd", "centroid", "norm", "novelty", "classes")
    alone = " | ".join(f"{each[name] / tries:.2f}" if name in each else "–" for name in names)
    return (
        f"| {what} | {head} | {sizes[0]:,} / {sizes[1]:,} | {tries} | **{alarms / tries:.3f}** | "
        f"{np.median(area):.2f} | {alone} |"
    )


def some(chance: np.random.Generator, pool: NDArray[np.bool_] | NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of a pool, or all there are."""
    rows = np.flatnonzero(pool) if pool.dtype == np.bool_ else pool
    return chance.permutation(rows)[:count].astype(np.int64)


def halves(pool: NDArray[np.bool_]) -> Draw:
    """Two samples of one pool."""

    def draw(chance: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = some(chance, pool, N)
        return rows[: N // 2], rows[N // 2 :]

    return draw


def mixed(pool: NDArray[np.bool_], new: NDArray[np.bool_], share: float) -> Draw:
    """A sample of a pool; and another of which a share is of what is new."""

    def draw(chance: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rest, fresh = some(chance, pool, 2 * N), some(chance, new, round(share * N))
        cut = min(N, len(rest) - round(len(fresh) * (1 - share) / share))
        return rest[:cut], np.concatenate([rest[cut : cut + N - len(fresh)], fresh])

    return draw


def weighted(items: Items, pool: NDArray[np.bool_], often: int) -> Draw:
    """A sample of a pool; and another with twice as many of one class."""

    def draw(chance: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = some(chance, pool, int(pool.sum()))
        before, rest = rows[:N], rows[N:]
        mine = items.label[rest] == often
        share = 2 * float((items.label[pool] == often).mean())
        count = min(N, int(mine.sum() / share))
        more = round(share * count)
        return before, np.concatenate([rest[mine][:more], rest[~mine][: count - more]])

    return draw


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few tries, and nothing is written")
    quick = parser.parse_args().quick
    if not (CATALOGS / "de").is_dir():
        print("nothing measured: there are no gettext catalogs in /usr/share/locale")
        return 0
    splits, tries = (5, 2) if quick else (200, 20)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        words = texts(store, scratch, ("de", "es"), 350)
        cells = pictures(store, scratch, 2_624)
    english, plain = words.kind == "en", cells.kind == "plain"
    new = words.label == PROGRAMS.index(NEW)
    poly, mono = plain & (cells.label == 1), plain & (cells.label == 0)
    german, spanish = (words.kind == language for language in ("de", "es"))
    lines = [row("texts: nothing moved", words, halves(english), tries=splits // 5, head="ridge")]
    lines += [
        row(f"{what}: nothing moved", items, halves(pool), tries=splits, head="prototypes")
        for what, items, pool in (("texts", words, english), ("pictures", cells, plain))
    ]
    shifts: tuple[tuple[str, Items, Draw], ...] = (
        ("texts: 20 % from a new program", words, mixed(english & ~new, english & new, 0.2)),
        ("texts: twice as many of one program", words, weighted(words, english, PROGRAMS.index("coreutils"))),
        ("texts: 20 % in German", words, mixed(english, german, 0.2)),
        ("texts: 20 % in Spanish", words, mixed(english, spanish, 0.2)),
        ("pictures: 20 % of a new kind", cells, mixed(poly, mono, 0.2)),
        ("pictures: 20 % blurred", cells, mixed(plain, ~plain, 0.2)),
        ("pictures: all blurred", cells, mixed(plain, ~plain, 1.0)),
    )
    lines += [row(*shift, tries=tries, head="prototypes") for shift in shifts]
    programs = Counter(PROGRAMS[label] for label in words.label[english].tolist())
    write(
        "drift",
        [
            "# Drift: alarms where nothing moved, and where something did",
            "",
            f"`python benchmarks/bench_drift.py` · {int(english.sum()):,} English messages ("
            + ", ".join(f"{name} {count}" for name, count in programs.most_common())
            + f") with German and Spanish translations, {int(plain.sum()):,} solar cells.",
            "",
            machine("featstore", "onnxruntime-gpu", "numpy", "scikit-learn"),
            "",
            "`drifted` is the share of the tries in which the report says so (p taken together by Holm ≤ 0.05); the "
            "last six columns are the shares in which a measure alone has p ≤ 0.05, – for never. Where nothing moved, "
            "0.05 is what is allowed.",
            "",
            "| what came | head | before / new | tries | drifted | AUC, median | classifier | mmd | centroid | norm "
            "| novelty | classes |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *lines,
        ],
        keep=not quick,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
