"""Search beside numpy, FAISS as installed, hnswlib, usearch, LanceDB and autofaiss, at equal recall and threads.

    make bench-search                                       # 25 minutes, writes benchmarks/results/search.md
    python benchmarks/bench_search.py --peers PYTHON --quick   # a look: few vectors, two rounds, prints only

The vectors have the shape of real embeddings (search_data.py): 200,000 × 384 and 50,000 × 2,048. Every index is built
once and its search tuned to recall@10 ≥ 0.95 on 500 queries, less what chance could have given (1.64 standard errors);
recall and speed are of 1,000 others. Rounds are paired: each measures every way once, all queries at once and 300 one
at a time, after a pause in which the threads of the last one go to sleep. Every index has a process of its own, ours as
well; the first of featstore is the first that ``neighbours.recipes`` names. Its exact search is in one process with
numpy's, a matrix product and a partition. ``search_peers.py`` says how each is built; PYTHON is that of an
environment with search-peers.txt in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import Row, machine, median, paired, ratio, ratios, rounds_of, write
from numpy.typing import NDArray
from search_data import image_like, text_like

from featstore.machine import available_cpus
from featstore.neighbours import VectorIndex, exact, truth_of

K, RECALL = 10, 0.95
TUNING, ASKED, SINGLE, SOME = 500, 1000, 300, 100
PAUSE = 0.2
SHARES = (1.0, 0.01, 0.0001)
HERE = Path(__file__).parent
FLAT = "faiss, exact"


@dataclass
class Way:
    """One way to search: what it is, how it was made, and its two searches, each of which gives labels."""

    what: str
    build: float
    setting: str
    recall: float
    batch: Callable[[], object]
    single: Callable[[], object]
    some: Callable[[], object] | None = None


class Worker:
    """An index in a process of its own, where nothing but its searches runs."""

    def __init__(self, python: str, name: str, folder: Path, threads: int) -> None:
        self.out = folder / f"{name}.npy"
        self.process = subprocess.Popen(
            [python, str(HERE / "search_peers.py"), name, str(folder / "x.npy"), str(folder / "q.npy"), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "LANCE_CPU_THREADS": str(threads)},
        )

    def call(self, **what: object) -> dict[str, Any]:
        """One call and its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(what), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a peer ended with exit code {self.process.wait()}; see above")
        return dict(json.loads(line))

    def search(self, setting: int, first: int, last: int, *, one: bool = False, keep: bool = False) -> float:
        """Seconds of a search of some of the queries; ``keep`` leaves the labels in ``out``."""
        out = str(self.out) if keep else None
        return float(self.call(do="search", setting=setting, first=first, last=last, one=one, out=out)["seconds"])

    def end(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def timed(work: Callable[[], object]) -> float:
    """Its seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def shares(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of the true ones that each query has found."""
    return (labels[:, :, None] == truth[:, None, :]).any(axis=2).sum(axis=1) / truth.shape[1]


def hits(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The mean share of the true ones that were found."""
    return float(shares(labels, truth).mean())


def numpy_exact(x: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.int64]:
    """Exact search as one writes it in numpy, 250 queries at once."""
    found = []
    for start in range(0, len(q), 250):
        scores = q[start : start + 250] @ x.T
        near = np.argpartition(scores, scores.shape[1] - K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, near, 1), axis=1)
        found.append(np.take_along_axis(near, order, 1))
    return np.concatenate(found)


def one_by_one(search: Callable[[NDArray[np.float32]], object], q: NDArray[np.float32]) -> Callable[[], object]:
    """The same search, one query at a time."""
    return lambda: [search(q[at : at + 1]) for at in range(len(q))]


def ours(worker: Worker, truth: NDArray[np.int64], path: Path) -> tuple[Way, dict[str, int]]:
    """An index of featstore, which it tunes itself and leaves in a file; and the settings of its search."""
    built = worker.call(do="build")
    np.save(path.with_suffix(".truth.npy"), truth[:TUNING])
    tuned = worker.call(do="tune", path=str(path), truth=str(path.with_suffix(".truth.npy")), recall=RECALL)
    chosen = {str(name): int(value) for name, value in tuned["chosen"].items()}
    setting = ", ".join(f"{name} {value}" for name, value in chosen.items())
    return searched(worker, built, 0, setting, truth), chosen


def peer(worker: Worker, truth: NDArray[np.int64]) -> Way:
    """A peer, built and tuned by the rule that featstore has."""
    built = worker.call(do="build")
    for setting in built["ladder"]:
        worker.search(setting, 0, TUNING, keep=True)
        found = shares(np.load(worker.out), truth[:TUNING])
        if found.mean() - 1.64 * found.std() / len(found) ** 0.5 >= RECALL:
            break
    return searched(worker, built, setting, str(setting), truth)


def searched(worker: Worker, built: dict[str, Any], setting: int, said: str, truth: NDArray[np.int64]) -> Way:
    """What a process has built, searched with one setting: its recall, and its searches."""
    last = TUNING + ASKED
    worker.search(setting, TUNING, last, keep=True)
    return Way(
        built["what"],
        built["seconds"],
        said,
        hits(np.load(worker.out), truth[TUNING:]),
        lambda: worker.search(setting, TUNING, last),
        lambda: worker.search(setting, TUNING, TUNING + SINGLE, one=True),
        lambda: worker.search(setting, TUNING, TUNING + SOME),
    )


def seconds_of(way: Callable[[], object]) -> Callable[[], float]:
    """A way's seconds: a peer's own, which leave out the talk with its process, or the clock's.

    After a pause, in which the threads of whatever came before go to sleep: numpy's turn on the spot for a while.
    """

    def run() -> float:
        time.sleep(PAUSE)
        start = time.perf_counter()
        found = way()
        return found if isinstance(found, float) else time.perf_counter() - start

    return run


def compared(
    title: str, x: NDArray[np.float32], q: NDArray[np.float32], python: str | None, rounds: int, *, quick: bool
) -> tuple[list[str], list[Row]]:
    """One data set: every way, filters, and additions; and what the table of all benchmarks takes from it."""
    print(f"{title}: exact neighbours", file=sys.stderr)
    truth = truth_of(q, x, K)
    rest = q[TUNING:]
    ways: dict[str, Way] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", x)
        np.save(folder / "q.npy", q)
        lengths = np.linalg.norm(x, axis=1).astype(np.float64)

        def flat(asked: NDArray[np.float32]) -> NDArray[np.int64]:
            return exact(asked, x, K, lengths=lengths)[0]

        def plain(asked: NDArray[np.float32]) -> NDArray[np.int64]:
            return numpy_exact(x, asked)

        ways["numpy, exact"] = Way(
            "", 0, "", 1.0, lambda: plain(rest), one_by_one(plain, rest[:SINGLE]), lambda: plain(rest[:SOME])
        )
        ways["featstore, exact"] = Way(
            "",
            0,
            "",
            hits(flat(rest), truth[TUNING:]),
            lambda: flat(rest),
            one_by_one(flat, rest[:SINGLE]),
            lambda: flat(rest[:SOME]),
        )
        # So few vectors as a look takes would be searched exactly.
        own = Worker(sys.executable, "featstore, hnsw" if quick else "featstore", folder, available_cpus())
        ways["featstore, index"], search = ours(own, truth, folder / "index.faiss")
        index = VectorIndex.read(folder / "index.faiss")
        workers = [own, Worker(sys.executable, "featstore, ivf", folder, available_cpus())]
        ways["featstore, ivf"], _ = ours(workers[1], truth, folder / "ivf.faiss")
        for other in (FLAT, "hnswlib", "usearch", "lancedb", "autofaiss") if python else ():
            print(f"{title}: {other}", file=sys.stderr)
            workers.append(Worker(python or "", other, folder, available_cpus()))
            ways[other] = peer(workers[-1], truth)
        batch = paired({way: seconds_of(one.batch) for way, one in ways.items()}, rounds)
        single = paired({way: seconds_of(one.single) for way, one in ways.items()}, min(rounds, 7))
        exactly = [way for way in ("numpy, exact", "featstore, exact", FLAT) if way in ways]
        some = paired({way: seconds_of(ways[way].some or ways[way].batch) for way in exactly}, rounds)
        for worker in workers:
            worker.end()
        lines = [
            f"## {title}",
            "",
            "| way | index | search | recall@10 | build s | queries/s, batch | × numpy | one at a time | × numpy |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        base = "numpy, exact"
        for way, one in ways.items():
            lines.append(
                f"| {way} | {one.what} | {one.setting} | {one.recall:.3f} | {one.build:.1f} "
                f"| {ASKED / median(batch[way]):,.0f} | {ratio(batch[base], batch[way])} "
                f"| {SINGLE / median(single[way]):,.0f} | {ratio(single[base], single[way])} |"
            )
        lines += ["", f"| exact, {SOME} queries at once | queries/s | × numpy |", "|---|---:|---:|"]
        lines += [f"| {way} | {SOME / median(some[way]):,.0f} | {ratio(some[base], some[way])} |" for way in exactly]
        flatly, others = "featstore, exact", [way for way in ways if not way.startswith(("featstore", "numpy"))]
        rows = [
            Row(
                work=f"exact search, {count:,} queries at once, {title}",
                beside=beside,
                figures=ratios(times[other], times[flatly]),
                asked=asked,
                fidelity=f"recall@10 {ways[flatly].recall:.3f}",
            )
            for other, beside, times, count, asked in (
                (base, "numpy", batch, ASKED, 2.0),
                (FLAT, "FAISS as it is installed", batch, ASKED, None),
                (FLAT, "FAISS as it is installed", some, SOME, 10.0),
            )
            if other in ways
        ]
        rows += [
            Row(
                work=f"search through an index, {ASKED:,} queries at once, {title}",
                beside=f"{other}, recall@10 {ways[other].recall:.3f}",
                figures=ratios(batch[other], batch["featstore, index"]),
                fidelity=f"recall@10 {ways['featstore, index'].recall:.3f}",
            )
            for other in others
            if other != FLAT
        ]
        kept = [
            *lines,
            "",
            *filtered(x, rest, index, search, rounds),
            "",
            *appended(x, index, ways["featstore, index"].build, folder, rounds),
            "",
        ]
        return kept, rows


def filtered(
    x: NDArray[np.float32], q: NDArray[np.float32], index: VectorIndex, search: dict[str, int], rounds: int
) -> list[str]:
    """The index where only some vectors may be found, beside numpy over the same."""
    lines = [
        "| may be found | recall@10 | index, queries/s | × numpy | one at a time | × numpy |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    order = np.random.default_rng(2).permutation(len(x))
    for share in SHARES:
        allowed = np.zeros(len(x), np.bool_)
        allowed[order[: max(K, round(share * len(x)))]] = True
        truth = exact(q, x, K, allowed=allowed)[0]

        def by_index(asked: NDArray[np.float32], allowed: NDArray[np.bool_] = allowed) -> NDArray[np.int64]:
            return index.search(asked, K, allowed=allowed, search=search)[0]

        def by_numpy(asked: NDArray[np.float32], allowed: NDArray[np.bool_] = allowed) -> NDArray[np.int64]:
            return np.flatnonzero(allowed)[numpy_exact(x if allowed.all() else x[allowed], asked)]

        times = {}
        for asked, count in ((q, len(q)), (q[:SINGLE], 1)):
            both = {"numpy": by_numpy, "index": by_index}
            work = {
                key: (lambda way=way, asked=asked: way(asked)) if count > 1 else one_by_one(way, asked)
                for key, way in both.items()
            }
            times[count > 1] = paired({key: seconds_of(one) for key, one in work.items()}, min(rounds, 7))
        many, few = times[True], times[False]
        lines.append(
            f"| {share:.2%} | {hits(by_index(q), truth):.3f} | {len(q) / median(many['index']):,.0f} "
            f"| {ratio(many['numpy'], many['index'])} | {SINGLE / median(few['index']):,.0f} "
            f"| {ratio(few['numpy'], few['index'])} |"
        )
    return lines


def appended(x: NDArray[np.float32], index: VectorIndex, build: float, folder: Path, rounds: int) -> list[str]:
    """1 % more vectors in the file, against making the file anew: reading and durable writing on both sides."""
    path, more = folder / "index.faiss", x[: max(1, len(x) // 100)]

    def append() -> None:
        held = VectorIndex.read(path)
        held.add(more)
        held.write(folder / "more.faiss")

    whole = build + timed(lambda: index.write(path))
    times = [timed(append) for _ in range(min(rounds, 7))]
    return [f"1 % appended: {median(times):.2f} s, {median(times) / whole:.1%} of a rebuild ({whole:.1f} s)."]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", help="the python of an environment with search-peers.txt installed; without, no peers"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the vectors, two rounds, nothing is written"
    )
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 for figures to be quoted")
    parser.add_argument("--data", type=Path, default=Path(".bench/data"), help="where the real vectors are kept")
    options = parser.parse_args()
    rounds = rounds_of(options.quick, options.rounds)
    part = 20 if options.quick else 1
    lines = ["# Search", "", machine("faiss-cpu", "numpy"), ""]
    lines += [f"{available_cpus()} threads; {rounds} paired rounds; recall@10 ≥ {RECALL} asked for.", ""]
    rows: list[Row] = []
    sets = (("texts", text_like, 200_000), ("photographs", image_like, 50_000))
    for title, make, n in sets:
        x, q = make(options.data, n // part, TUNING + ASKED)
        found = compared(f"{len(x):,} × {x.shape[1]:,}, {title}", x, q, options.peers, rounds, quick=options.quick)
        lines, rows = lines + found[0], rows + found[1]
        del x
    if options.peers:
        listed = (HERE / "search-peers.txt").read_text().splitlines()
        lines += ["Peers: " + ", ".join(line for line in listed if line and not line.startswith("#")) + "."]
    write("search", lines, keep=bool(options.peers) and not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
