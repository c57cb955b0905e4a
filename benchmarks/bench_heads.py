"""Heads: how long all candidates take, and how good they are beside a pipeline tuned by hand in scikit-learn.

    make bench-heads                                # about 10 minutes, writes benchmarks/results/heads.md
    python benchmarks/bench_heads.py --quick        # a look: two seeds, fewer items, prints only

Time: all candidates of ``auto`` on 50,000 vectors of 384 values and 10 classes, in a process of its own, for the peak
of its memory. The vectors are drawn: classes that overlap, a spectrum that falls, length 1.

Quality: real data, ten random splits each. By hand is what one writes with scikit-learn: raw, Normalizer or
StandardScaler before LogisticRegression, the input and C by GridSearchCV's accuracy on the same folds of the same
training items, over the same twelve C and then the same four around the best. The difference is paired by seed; its
interval is Student's. ECE and coverage are of the test items, which take part in nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import machine, write
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import featstore
from featstore.heads import calibrate, ece, fit, fold, probabilities, sets
from featstore.heads.logistic import COARSE, FINE

ITEMS, VALUES, CLASSES = 50_000, 384, 10
SEEDS = 10
FOLDS = 5
DATA = Path(__file__).parent.parent / ".bench" / "data"

Sample = tuple[NDArray[np.float32], NDArray[np.int64], int]


def drawn(items: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of length 1 in classes that overlap: a linear head gets about nine of ten right."""
    generator = np.random.default_rng(0)
    spectrum = np.sqrt(np.exp(-np.arange(VALUES) / 60) + 0.02)
    means = 0.45 * generator.standard_normal((CLASSES, VALUES)) * spectrum / np.sqrt(VALUES / 40)
    truth = generator.integers(0, CLASSES, items)
    vectors = (means[truth] + generator.standard_normal((items, VALUES)) * spectrum).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, truth


def scale(items: int) -> dict[str, object]:
    """Fits all candidates; run in a process of its own."""
    vectors, truth = drawn(items)
    folds = np.random.default_rng(1).integers(0, FOLDS, items)
    names = tuple("0123456789")
    fit(vectors[:500], truth[:500], names, folds[:500], kind="ridge")  # libraries are loaded before the clock starts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = fit(vectors, truth, names, folds, progress=lambda step: print(f"  {step}", file=sys.stderr, flush=True))
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "before": before / 1024,
        "peak": peak / 1024,
        "kind": found.head.kind,
        "candidates": [[c.kind, c.input, c.score, c.error, c.seconds, c.left_out] for c in found.candidates],
    }


def digits() -> Sample:
    """1,797 digits of 8 × 8 pixels; half to train on."""
    vectors, truth = load_digits(return_X_y=True)
    return vectors.astype(np.float32), truth.astype(np.int64), len(truth) // 2


def cells(column: str) -> Sample:
    """The elpv-dataset through EfficientNet-lite0: mono- or polycrystalline, or defective or not where that is sure."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None, "elpv-dataset is not installed: pip install 'featstore[demo]'"
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    rows = [line.split() for line in (data / "labels.csv").read_text("utf-8").splitlines()]
    kept = DATA / "cells.npy"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(data / "images", Path(name) / "images")
            store = featstore.open(Path(name) / "store")
            ids, vectors = store.extract(Path(name) / "images", model="efficientnet_lite0", name="cells").matrix()
            place = {str(item): at for at, item in enumerate(ids)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, vectors[[place[Path(path).name] for path, _, _ in rows]])
    vectors = np.load(kept)
    if column == "type":
        return vectors, np.array([kind == "poly" for _, _, kind in rows]).astype(np.int64), 600
    sure = np.array([float(chance) in (0.0, 1.0) for _, chance, _ in rows])
    truth = np.array([float(chance) > 0.5 for _, chance, _ in rows]).astype(np.int64)
    return vectors[sure], truth[sure], 600


def by_hand(vectors: NDArray[np.float32], truth: NDArray[np.int64], folds: NDArray[np.int64]) -> GridSearchCV:
    """A pipeline over the same inputs and penalties, by the accuracy on the same folds."""
    pairs = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in np.unique(folds)]
    model = Pipeline([("input", "passthrough"), ("head", LogisticRegression(max_iter=300, tol=1e-4))])
    exact = vectors.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at the weakest penalties 300 steps are not enough, as one finds by hand
        inputs = ["passthrough", Normalizer(), StandardScaler()]
        first = GridSearchCV(model, {"input": inputs, "head__C": COARSE}, cv=pairs, n_jobs=-1).fit(exact, truth)
        best = first.best_params_
        around = {"input": [best["input"]], "head__C": [best["head__C"] * factor for factor in (1.0, *FINE)]}
        return GridSearchCV(model, around, cv=pairs, n_jobs=-1).fit(exact, truth)


def trial(sample: Sample, seed: int) -> dict[str, float]:
    """One random split: both ways, on the same items."""
    vectors, truth, size = sample
    rows, test = train_test_split(np.arange(len(truth)), train_size=size, stratify=truth, random_state=seed)
    folds = fold(truth[rows], np.arange(len(rows)), FOLDS, seed=seed)
    names = tuple(map(str, np.unique(truth)))
    found: dict[str, float] = {"test": len(test)}
    began = time.monotonic()
    theirs = by_hand(vectors[rows], truth[rows], folds)
    found["hand"] = float((theirs.predict(vectors[test].astype(np.float64)) == truth[test]).mean())
    found["hand seconds"] = time.monotonic() - began
    for kind in ("logistic", "auto"):
        began = time.monotonic()
        ours = fit(vectors[rows], truth[rows], names, folds, kind=kind, seed=seed)  # type: ignore[arg-type]
        found[f"{kind} seconds"] = time.monotonic() - began
        chances = ours.head.probabilities(vectors[test])
        plain = probabilities("classification", ours.head.logits(vectors[test]), 1.0)
        honest = probabilities("classification", ours.out_of_fold, ours.head.settings["temperature"])
        members = sets(chances, calibrate(honest, truth[rows], np.arange(len(rows))), 0.9)
        found[kind] = float((chances.argmax(axis=1) == truth[test]).mean())
        found[f"{kind} before"] = ece(truth[test], plain)
        found[f"{kind} after"] = ece(truth[test], chances)
        found[f"{kind} coverage"] = float(members[np.arange(len(test)), truth[test]].mean())
        found[f"{kind} size"] = float(members.sum(axis=1).mean())
    return found


def interval(values: NDArray[np.float64]) -> str:
    """A mean with Student's 95 % interval, in points."""
    mean, error = 100 * values.mean(), 100 * values.std(ddof=1) / np.sqrt(len(values))
    half = stats.t.ppf(0.975, len(values) - 1) * error
    return f"{mean:+.2f} [{mean - half:+.2f} to {mean + half:+.2f}]"


def quality(name: str, make: Callable[[], Sample], seeds: int) -> list[str]:
    """The rows of a data set."""
    sample = make()
    trials = []
    for seed in range(seeds):
        trials.append(trial(sample, seed))
        print(
            f"  {name} {seed + 1}/{seeds}", {k: round(v, 4) for k, v in trials[-1].items()}, file=sys.stderr, flush=True
        )
    of = {key: np.array([each[key] for each in trials]) for key in trials[0]}
    return [_row(name, kind, of) for kind in ("logistic", "auto")]


def _row(name: str, kind: str, of: dict[str, NDArray[np.float64]]) -> str:
    covered = of[f"{kind} coverage"]
    cells = (
        name,
        kind,
        f"{int(of['test'][0]):,}",
        f"{of['hand'].mean():.4f}",
        f"{of[kind].mean():.4f}",
        interval(of[kind] - of["hand"]),
        f"{of[f'{kind} before'].mean():.4f} → {of[f'{kind} after'].mean():.4f}",
        f"{covered.mean():.3f} [{covered.min():.3f}–{covered.max():.3f}]",
        f"{of[f'{kind} size'].mean():.2f}",
        f"{of['hand seconds'].mean():.1f} → {of[f'{kind} seconds'].mean():.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measures and reports."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="two seeds and 10,000 items, prints only")
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--scale", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.scale:
        print(json.dumps(scale(given.scale)))
        return
    items = 10_000 if given.quick else ITEMS
    done = subprocess.run(
        [sys.executable, __file__, "--scale", str(items)], stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout)
    lines = [
        "# Heads",
        "",
        machine("featstore", "scikit-learn", "numpy", "torch"),
        "",
        f"## All candidates on {items:,} × {VALUES}, {CLASSES} classes",
        "",
        f"{found['seconds']:.1f} s; memory {found['before']:,.0f} MB before (the vectors are "
        f"{items * VALUES * 4 / 1e6:,.0f} MB), {found['peak']:,.0f} MB at most. Taken: {found['kind']}.",
        "",
        "| kind | input | log-loss out of fold | seconds |",
        "|---|---|---|---|",
    ]
    for kind, name, score, error, seconds, left_out in found["candidates"]:
        told = left_out or f"{score:.4f} ± {error:.4f}"
        lines.append(f"| {kind} | {name} | {told} | {seconds:.1f} |")
    lines += [
        "",
        f"## Beside a pipeline tuned by hand, {2 if given.quick else given.seeds} random splits each",
        "",
        "Accuracy on the test items; the difference in points with its 95 % interval over the splits; ECE before → "
        "after the temperature; the share of test items whose set at 0.9 holds the true class, mean [least–most], and "
        "the mean size of the sets; seconds by hand → ours.",
        "",
        "| data | kind | test items | by hand | ours | ours − by hand | ECE | coverage | set size | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    sets_of = {
        "digits": digits,
        "cells: mono or poly": lambda: cells("type"),
        "cells: defective": lambda: cells("defect"),
    }
    for name, make in sets_of.items():
        lines += quality(name, make, 2 if given.quick else given.seeds)
    write("heads", lines, keep=not given.quick)


if __name__ == "__main__":
    main()
