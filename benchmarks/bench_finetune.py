"""Fine-tuning: what a few labels and many give beside a frozen head, and whether the gates tell a gain from none.

    make bench-finetune                             # about an hour, writes benchmarks/results/finetune.md
    python benchmarks/bench_finetune.py --quick     # a look: one seed of each, prints only

Texts are the first sentences of the docstrings of eight installed libraries, the same ones everywhere since their
versions are pinned; the label is what is documented: a class, a function, a method or a property. That shows in how a
sentence is put more than in what it is about, which is what MiniLM was made to tell. It is what is trained.

Labels: so many of each class are drawn, 1, 4, 16 or all. The frozen head is the nearest class mean with one label, else
featstore's logistic head; LP-FT and LoRA begin with it, "full" trains all blocks below a head that begins at random.
All are measured on the same test items by the network's own head, so the difference is that of the vectors and the head
together. With so few labels none is left to validate by: where there are not all of them, training takes a
fixed number of epochs. Forgetting is the accuracy of a linear probe on neutral texts, docstrings of the standard
library, before and after. Intervals are Student's over the seeds, 95 %.

Gates: ``store.finetune`` as it stands, each seed on other items. A run counts as published where all of the gates let
it through; what they are told is their default. Labels are shuffled among the items, and a rate is poisoned.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib.util
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import machine, write
from numpy.typing import NDArray
from scipy import stats

import featstore
from featstore import models
from featstore.errors import GateError
from featstore.extract.progress import Reporter
from featstore.finetune import network, probe
from featstore.finetune.examples import Examples, Start
from featstore.heads import fit, fold
from featstore.models import ModelRequest
from featstore.models.original import Original
from featstore.records import FinetuneReport, FinetuneResult
from featstore.settings import FinetuneSettings
from featstore.store import Store

CLASSES = ("class", "function", "method", "property")
LIBRARIES = ("networkx", "pandas", "scipy", "sklearn", "sqlalchemy", "sympy", "torch", "transformers")
SHORTEST, LONGEST = 20, 100
EACH = 200
FEW_OF = 2_600  # the few-label part draws from so many of them
TABLE = "docstrings"

SHOTS: tuple[int | None, ...] = (1, 4, 16, None)
FEW_SEEDS, ALL_SEEDS = 5, 3
FEW_EPOCHS, ALL_EPOCHS = 10, 3
TEST, VALIDATED, NEUTRAL = 600, 400, 250
RATE = 1e-4
LORA_RATE = 1e-3
METHODS: dict[str, dict[str, object]] = {
    "full": {"start": "random", "unfreeze_every": 0, "depth": 6, "learning_rate": RATE, "head_rate": 1e-3},
    "LP-FT": {"unfreeze_every": 0, "depth": 3, "learning_rate": RATE},
    "LoRA": {"lora": 8, "unfreeze_every": 0, "depth": 6, "learning_rate": LORA_RATE},
}

# What the gates are tried on. Many of the items test: a gain of a few points is not to be missed by chance.
SEEDS = 10
JUDGED, FEWER = 2_000, 600
HOW = {"unfreeze_every": 0, "depth": 3, "epochs": 3, "learning_rate": RATE, "test_share": 0.4}
POISON = 1.0
REAL, SHUFFLED, POISONED = "a real gain", "shuffled labels", "a poisoned rate"


@dataclass(frozen=True)
class Texts:
    """n sentences, and the number of the library that each is from."""

    text: list[str]
    truth: NDArray[np.int64]


def docstrings() -> Texts:
    """So many sentences of each kind from each library, where it has them, shuffled; none is there twice."""
    found: dict[str, int] = {}
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        assert spec is not None, f"{library} is not installed: pip install 'featstore[dev]'"
        assert spec.origin is not None
        root = Path(spec.origin).parent
        files = sorted(file for file in root.rglob("*.py") if "test" not in file.relative_to(root).as_posix())
        random.Random(0).shuffle(files)
        taken: Counter[int] = Counter()
        for kind, text in (one for file in files for one in documented(ast.parse(file.read_bytes()))):
            if taken[kind] < EACH and SHORTEST <= len(text) <= LONGEST and text not in found:
                found[text] = kind
                taken[kind] += 1
                if len(taken) == len(CLASSES) and set(taken.values()) == {EACH}:
                    break
    texts = sorted(found)
    random.Random(0).shuffle(texts)
    return Texts(texts, np.array([found[text] for text in texts], np.int64))


def documented(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What a module documents: the kind, and the first sentence."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield _kind(node, tree), " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
        yield from documented(node)


def _kind(node: ast.FunctionDef | ast.ClassDef, within: ast.AST) -> int:
    if isinstance(node, ast.ClassDef):
        return CLASSES.index("class")
    if not isinstance(within, ast.ClassDef):
        return CLASSES.index("function")
    properties = any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)
    return CLASSES.index("property" if properties else "method")


def load(store: Store) -> Original:
    """MiniLM as its authors made it."""
    return models.original(store.layout, ModelRequest(model="minilm"))


def frozen(vectors: NDArray[np.float32], truth: NDArray[np.int64], seed: int) -> Start:
    """The best linear head of the few labels: the class means' with one of each, else the logistic one."""
    if len(truth) == len(CLASSES):
        # The nearer mean wins; ten times its cosine is sure enough to begin with, and not too sure to be moved.
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        order = np.argsort(truth)
        return Start(weight=10 * unit[order], bias=np.zeros(len(CLASSES), np.float32), unit=True)
    folds = fold(truth, np.arange(len(truth)), min(5, len(truth) // len(CLASSES)), seed=seed)
    head = fit(vectors, truth, CLASSES, folds, kind="logistic", seed=seed).head
    heat = head.settings.get("temperature", 1.0)
    weight, bias = head.arrays["weights"] / heat, head.arrays["bias"] / heat
    return Start(weight=weight.astype(np.float32), bias=bias.astype(np.float32), unit=head.input == "unit")


def right(head: Start, vectors: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The accuracy of a linear head."""
    if head.unit:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(((vectors @ head.weight.T + head.bias).argmax(axis=1) == truth).mean())


@dataclass(frozen=True)
class Bench:
    """What the few-label part needs again and again: the texts, a test side, neutral texts, the vectors of all."""

    store: Store
    texts: Texts
    vectors: NDArray[np.float32]
    neutral: Examples
    before: float

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        """Some of the texts."""
        return Examples(read=lambda at: self.texts.text[int(rows[at])], truth=self.texts.truth[rows])

    def probed(self, original: Original) -> float:
        """The accuracy of a probe of the neutral texts."""
        return probed(original, self.neutral)

    def tried(self, shots: int | None, seed: int) -> dict[str, tuple[float, float, float]]:
        """Method → accuracy, the probe's change, seconds; all on the same draw."""
        truth = self.texts.truth
        order = np.random.default_rng(seed).permutation(len(truth))
        test, rest = order[:TEST], order[TEST:]
        if shots is None:
            validated, trained = rest[:VALIDATED], rest[VALIDATED:]
        else:
            trained = np.concatenate([rest[truth[rest] == c][:shots] for c in range(len(CLASSES))])
            validated = trained
        began = time.perf_counter()
        start = frozen(self.vectors[trained], truth[trained], seed)
        found = {"frozen head": (right(start, self.vectors[test], truth[test]), 0.0, time.perf_counter() - began)}
        for name, how in METHODS.items():
            began = time.perf_counter()
            original = load(self.store)
            epochs = ALL_EPOCHS if shots is None else FEW_EPOCHS
            settings = network.defaults(
                FinetuneSettings(seed=seed, epochs=epochs, patience=epochs, **how),  # type: ignore[arg-type]
                original,
                n_train=len(trained),
            )
            blocks = network.tuned_blocks(original, settings, n_train=len(trained))
            done = network.train(
                original,
                start,  # of which "full" takes the shape alone
                self.examples(trained),
                self.examples(validated),
                settings,
                blocks=blocks,
                layout=self.store.layout,
                folder=f"finetunes/bench/{name}-{shots}-{seed}",
                reporter=Reporter(),
            )
            seconds = time.perf_counter() - began
            asked = self.examples(test)
            accuracy = right(done.head, network.vectors(done.original, asked), asked.truth)
            found[name] = (accuracy, self.probed(done.original) - self.before, seconds)
            print(f"  {shots or 'all'} labels a class, seed {seed}, {name}: {found[name]}", file=sys.stderr, flush=True)
        return found


def probed(original: Original, neutral: Examples) -> float:
    """How many of the neutral texts a probe gets right that has not seen them."""
    return float(probe.right(network.vectors(original, neutral), neutral.truth).mean())


def few_labels(store: Store, texts: Texts, quick: bool) -> list[str]:
    """The table of labels and methods."""
    whole = probe.neutral("text")
    rows = np.random.default_rng(0).permutation(len(whole.truth))[:NEUTRAL]
    classes = Counter(whole.truth[rows].tolist())
    rows = np.array([row for row in rows if classes[int(whole.truth[row])] >= 5])
    truth = np.unique(whole.truth[rows], return_inverse=True)[1]
    neutral = Examples(read=lambda at: whole.read(int(rows[at])), truth=truth)
    original = load(store)
    everything = Examples(read=texts.text.__getitem__, truth=texts.truth)
    bench = Bench(store, texts, network.vectors(original, everything), neutral, probed(original, neutral))
    lines = [
        "## A few labels and many",
        "",
        f"{len(texts.text):,} sentences, {TEST} of them to test on. A probe gets {bench.before:.3f} of {len(rows)} "
        "neutral texts right before; the table says by how many points that changes.",
        "",
        "| labels a class | seeds | way | accuracy | − frozen, points | neutral probe, points | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for shots in SHOTS:
        seeds = 1 if quick else ALL_SEEDS if shots is None else FEW_SEEDS
        found = [bench.tried(shots, seed) for seed in range(seeds)]
        shown = "all" if shots is None else str(shots)
        for way in found[0]:
            accuracy, change, seconds = np.array([one[way] for one in found]).T
            base = np.array([one["frozen head"][0] for one in found])
            beside = "–" if way == "frozen head" else interval(100 * (accuracy - base))
            lost = "–" if way == "frozen head" else interval(100 * change)
            cells = (shown, seeds, way, f"{accuracy.mean():.3f}", beside, lost, f"{seconds.mean():.1f}")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def interval(values: NDArray[np.float64]) -> str:
    """A mean with Student's 95 % interval."""
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:+.1f} [{mean - half:+.1f} to {mean + half:+.1f}]"


def judged(store: Store, scratch: Path, texts: Texts, seed: int, how: str) -> FinetuneResult:
    """One run of ``store.finetune``, to whatever end it comes."""
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(texts.text))[: JUDGED if how == REAL else FEWER]
    truth = texts.truth[drawn]
    if how == SHUFFLED:
        truth = generator.permutation(truth)
    label = f"{how.split()[1]}-{seed}"
    file = scratch / f"{label}.csv"
    with file.open("w", newline="", encoding="utf-8") as written:
        rows = csv.writer(written)
        rows.writerow(("item_id", label))
        rows.writerows(
            (f"{at:05d}", CLASSES[number]) for at, number in zip(drawn.tolist(), truth.tolist(), strict=True)
        )
    settings = HOW | ({"learning_rate": POISON} if how == POISONED else {})
    try:
        return store.finetune(TABLE, label=label, labels=file, seed=seed, name=label, **settings)
    except GateError as error:
        found = error.context["result"]
        assert isinstance(found, FinetuneResult)
        return found


def honesty(store: Store, scratch: Path, texts: Texts, quick: bool) -> list[str]:
    """The table of what the gates let through, and that of each run that was to be let through."""
    seeds = range(1 if quick else SEEDS)
    lines = [
        "## Do the gates tell a gain from none?",
        "",
        f"{JUDGED:,} labels a run for {REAL}, {FEWER:,} for the others, drawn anew with each seed, "
        f"{HOW['test_share']:.0%} of them to test on; the gates as they are by default. The poisoned rate is "
        f"{POISON:g}, where {RATE:g} is used otherwise.",
        "",
        "| what | runs | kept | refused, by which gates | gain on the test items, points | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    each = [
        "| seed | frozen | fine-tuned | gain, points | neutral probe, points | gates |",
        "|---|---|---|---|---|---|",
    ]
    for how in (REAL, SHUFFLED, POISONED):
        gates: Counter[str] = Counter()
        gains, seconds, kept = [], [], 0
        for seed in seeds:
            found = judged(store, scratch, texts, seed, how)
            report = found.report
            assert report is not None
            refused = [gate.gate for gate in report.gates if gate.status == "refused"]
            gates.update(refused)
            kept += found.status == "kept"
            seconds.append(found.seconds)
            said = ", ".join(refused) or "all passed"
            print(f"  {how}, seed {seed}: {found.status}, {said}, {found.seconds:.0f} s", file=sys.stderr, flush=True)
            if not report.tuned:
                continue
            gains.append(100 * report.gain.value)
            if how == REAL:
                each.append(_row(seed, report, said))
        why = ", ".join(f"{name} {times}" for name, times in gates.most_common())
        refusals = f"{len(seeds) - kept} ({why})" if gates else str(len(seeds) - kept)
        gained = interval(np.array(gains)) if gains else "none measured: no epoch was better than the start"
        lines.append(f"| {how} | {len(seeds)} | {kept} | {refusals} | {gained} | {np.mean(seconds):.0f} |")
    return [*lines, "", f"Each run of {REAL}:", "", *each, ""]


def _row(seed: int, report: FinetuneReport, said: str) -> str:
    probes = [one.difference for one in report.forgetting if one.kind == "probe"]
    cells = (
        str(seed),
        f"{report.frozen['accuracy'].value:.3f}",
        f"{report.tuned['accuracy'].value:.3f}",
        f"{100 * report.gain.value:+.1f} [{100 * report.gain.low:+.1f} to {100 * report.gain.high:+.1f}]",
        ", ".join(f"{100 * probe.value:+.1f}" for probe in probes) or "–",
        said,
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed of each, prints only")
    options = parser.parse_args()
    torch.set_num_threads(2)
    began = time.perf_counter()
    lines = [
        "# Fine-tuning a backbone",
        "",
        "`python benchmarks/bench_finetune.py` · first sentences of the docstrings of "
        f"{', '.join(LIBRARIES)}: is it {', '.join(CLASSES[:-1])} or {CLASSES[-1]}? · all-MiniLM-L6-v2",
        "",
        machine("featstore", "torch", "transformers", "peft", "onnxruntime-gpu"),
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        texts = docstrings()
        source = scratch / f"{TABLE}.jsonl"
        source.write_text(
            "".join(json.dumps({"id": f"{at:05d}", "text": text}) + "\n" for at, text in enumerate(texts.text))
        )
        store.extract(source, model="minilm", name=TABLE, id_column="id", text_column="text")
        lines += honesty(store, scratch, texts, options.quick)
        some = Texts(texts.text[:FEW_OF], texts.truth[:FEW_OF])
        lines += few_labels(store, some, options.quick)
    lines.append(f"All of it in {(time.perf_counter() - began) / 60:.0f} minutes.")
    write("finetune", lines, keep=not options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
