"""The main job on real data, ``make demo``: two tables of photographs and texts, neighbours, and a head.

Photographs: all 2,624 of the elpv-dataset package, solar cells under electroluminescence, each labelled
with how sure experts were that it is defective. Texts: the descriptions of the Python packages installed
beside featstore. Everything comes from installed packages; nothing is downloaded here.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import featstore
from featstore.inputs.contact_sheet import contact_sheet
from featstore.neighbours import nearest

ATTRIBUTION = (
    "Photographs: elpv-dataset (Buerhop-Lutz et al. 2018, Deitsch et al. 2019 and 2021), CC BY-NC-SA 4.0,\n"
    "https://creativecommons.org/licenses/by-nc-sa/4.0/ - not for commercial use; shrunk and arranged here."
)
# The dataset's four levels of defect probability, in words.
LEVELS = {"0.0": "sound", "0.3333333333333333": "rather sound"}
LEVELS |= {"0.6666666666666666": "rather defective", "1.0": "defective"}
NEIGHBOURS = 10
# Cracks, a dark patch, and the first defective and the first sound polycrystalline cell.
QUERIES = ("images/cell0010.png", "images/cell0005.png", "images/cell0068.png", "images/cell0061.png")
PACKAGES = ("scikit-learn", "pytest", "transformers")


def main() -> None:
    """Runs the whole demo below one folder."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("demo-output"), help="where everything goes")
    options.add_argument("--photos", type=int, default=None, help="only so many photographs")
    given = options.parse_args()
    began = time.monotonic()
    folder: Path = given.output
    print("Nothing is downloaded: models and data lie in the installed packages")
    print("  elpv-dataset 91 MB (CC BY-NC-SA 4.0), efficientnet-lite0 17 MB and MiniLM 83 MB (Apache-2.0).")
    print(f"{folder}/ will hold a copy of the photographs (90 MB) and the store (about 130 MB).\n")

    cells = lay_out_cells(folder / "cells", given.photos)
    packages = write_packages(folder / "packages.jsonl")
    store = folder / "store"
    opened = featstore.open(store)
    before = [run.run_id for run in opened.runs()]
    extract(cells, "efficientnet_lite0", store, "--image-column=path", "--id-column=path", "--label-column=defect")
    extract(packages, "minilm", store, "--text-column=text", "--id-column=name")
    nothing_new = before == [run.run_id for run in opened.runs()]
    show_cells(opened.table("cells"), folder / "contact-sheet.png")
    if given.photos is None:  # fewer may lack whole classes
        train(opened, folder / "cells.html")
    show_packages(opened.table("packages"))
    print(f"\nDone in {time.monotonic() - began:.0f} s.")
    if nothing_new:
        print("Nothing was new: both tables are as they were, and no model was loaded.")
    print_next(store)


def lay_out_cells(folder: Path, limit: int | None) -> Path:
    """Copies the photographs beside a CSV file with their labels, as a user would have them."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = [line.split() for line in (data / "labels.csv").read_text("utf-8").splitlines()][:limit]
    for path, _, _ in rows:
        if not (folder / path).exists():
            shutil.copyfile(data / path, folder / path)
    table = folder / "cells.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "defect", "wafer"))
        writer.writerows((path, LEVELS[defect], wafer) for path, defect, wafer in rows)
    return table


def write_packages(file: Path) -> Path:
    """Writes one line of JSON for each installed Python package that describes itself."""
    found = {}
    for package in importlib.metadata.distributions():
        about = package.metadata
        summary, description = about["Summary"], about.get_payload() or about["Description"]
        text = "\n".join(part for part in (summary, description) if isinstance(part, str) and part.strip())
        if text:
            found[about["Name"]] = {"name": about["Name"], "summary": summary or "", "text": text}
    file.write_text("".join(json.dumps(found[name]) + "\n" for name in sorted(found)), "utf-8")
    return file


def extract(source: Path, model: str, store: Path, *flags: str) -> None:
    """Runs ``featstore extract`` as a user would."""
    command_line("extract", str(source), "--model", model, *flags, "--store", str(store))


def train(store: featstore.Store, report: Path) -> None:
    """Trains a classifier on the cells whose label is sure, or shows the one that an earlier demo left."""
    if store.heads():
        command_line("show", "cells-label", "--report", str(report), "--store", str(store.path))
        return
    sure = "label IN ('sound', 'defective')"
    command_line("train-head", "cells", "--where", sure, "--report", str(report), "--store", str(store.path))


def command_line(*command: str) -> None:
    """Runs the command line as a user would, and ends with it if it fails."""
    shown = " ".join(f'"{part}"' if " " in part else part for part in command)
    print(f"$ featstore {shown}", flush=True)
    done = subprocess.run([sys.executable, "-m", "featstore.cli", *command])
    if done.returncode:
        sys.exit(done.returncode)
    print()


def show_cells(table: featstore.Table, sheet: Path) -> None:
    """Prints the table, draws each query with its neighbours, and counts how often their labels agree."""
    frame = table.to_polars()
    print(table)
    print(frame.select("item_id", "label", "wafer", "embedding").head(3))
    ids = set(frame["item_id"])
    rows, contents, captions = [], dict(zip(frame["item_id"], frame["content_sha256"], strict=True)), {}
    for item, label, wafer in frame.select("item_id", "label", "wafer").iter_rows():
        captions[item] = f"{label}\n{wafer}crystalline"
    for query in (query for query in QUERIES if query in ids):
        print(f"\nCells like {query} ({captions[query].replace(chr(10), ', ')}):")
        row = [(query, f"{Path(query).stem}\n{captions[query]}")]
        for found in table.neighbours(query, NEIGHBOURS).iter_rows(named=True):
            row.append((found["item_id"], f"{found['score']:.3f}\n{captions[found['item_id']]}"))
            print(f"  {found['score']:.3f}  {found['item_id']}  {found['label']}, {found['wafer']}crystalline")
        rows.append(row)
    previews = table.previews([contents[item] for row in rows for item, _ in row])
    sheet.write_bytes(
        contact_sheet([[(previews.get(contents[item], b""), caption) for item, caption in row] for row in rows])
    )
    print(f"\nContact sheet of these: {sheet}")
    print(ATTRIBUTION)
    agreement(table)


def agreement(table: featstore.Table) -> None:
    """How often the nearest neighbours of all cells share their label: a number beside the few that are shown."""
    ids, vectors = table.matrix()
    frame = table.to_polars().select("item_id", "label", "wafer")
    rows, _ = nearest(vectors, vectors, NEIGHBOURS + 1)
    labels = {key: (label, wafer) for key, label, wafer in frame.iter_rows()}
    for what, at, value in (("defective", 0, "defective"), ("monocrystalline", 1, "mono")):
        has = np.array([labels[item][at] == value for item in ids])
        near = np.array([has[row[row != own][:NEIGHBOURS]].mean() for own, row in enumerate(rows)])
        print(
            f"Of the {NEIGHBOURS} nearest cells of a {what} one, {near[has].mean():.0%} are {what} too; "
            f"of all cells {has.mean():.0%} are."
        )


def show_packages(table: featstore.Table) -> None:
    """Prints for some packages the nearest others by their descriptions."""
    print(f"\n{table}")
    ids = set(table.to_polars()["item_id"])
    for package in (name for name in PACKAGES if name in ids):
        print(f"\nPackages like {package}:")
        for found in table.neighbours(package, 5).iter_rows(named=True):
            print(f"  {found['score']:.3f}  {found['item_id']:<24} {found['summary'][:70]}")


def print_next(store: Path) -> None:
    """Says what to try now."""
    print("Try now, after: source .venv/bin/activate")
    print(f"  featstore ls --store {store}")
    print(f"  featstore show cells --history --store {store}")
    print(f'  featstore search packages --text "draw charts" --store {store}')
    print(f"  featstore predict cells-label {store.parent}/cells/images --store {store}")
    print(f"  open {store.parent}/cells.html in a browser: what the head of the cells can do, and where it errs")
    job = store.parent / "nightly.toml"
    print(f"  featstore jobs new cells -o {job} --store {store}")
    print(f"  featstore refresh {job} --store {store}    what a scheduler would run every night")
    print(f"  featstore verify --store {store}")
    print("  featstore extract YOUR_PHOTOS/ --model efficientnet_lite0")
    print("  make demo    once more: without a network, and nothing is new")


if __name__ == "__main__":
    main()
