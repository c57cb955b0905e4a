"""What the tests of the command line share: real subprocesses over one small store of real vectors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import once
from PIL import Image
from stores import copied_store, copy_models, exported_models

from featstore.cli import main

COMMAND = [sys.executable, "-m", "featstore.cli"]
MODEL = "efficientnet_lite0"
SCHEMAS = Path(__file__).parent.parent / "schemas"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FEATSTORE_")}
    return {**kept, "COLUMNS": "100", **more}


def run(*arguments: str | Path, cwd: Path, **env: str) -> Outcome:
    """One command as a user runs it."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=120
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def inside(*arguments: str | Path, cwd: Path) -> Outcome:
    """The same within this process: quicker, where neither signals nor imports matter."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*map(str, arguments)])
        except SystemExit as exit_:
            code = exit_.code
    assert isinstance(code, int)
    return Outcome(code, out.getvalue(), err.getvalue())


def photos(folder: Path, number: int, *, seed: int = 0) -> Path:
    """Writes JPEG files that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for at in range(number):
        coarse = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 48)).save(folder / f"{at:04d}.jpg")
    return folder


def world() -> Path:
    """A folder with ``photos`` and a store that holds them; read it, never write into it."""
    return once.once("cli-world", _made)


def _made(root: Path) -> None:
    copy_models(exported_models(), root / "featstore-data", MODEL)
    photos(root / "photos", 12)
    (root / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    (root / "photos" / "notes.json").write_text("{}")
    done = run("extract", "photos", "--model", MODEL, "--json", cwd=root)
    assert done.code == 0, done.err
    (root / "first.json").write_text(done.out)
    asked = [{"_id": f"q{at}", "image": f"photos/{at:04d}.jpg"} for at in range(4)]
    (root / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in asked))
    (root / "qrels.tsv").write_text("".join(f"q{at}\t{at:04d}.jpg\t1\n" for at in range(4)))


def stocked(folder: Path) -> Path:
    """Makes a store in ``folder`` that has the model already, and no table."""
    (folder / "featstore-data").mkdir(parents=True)
    copy_models(world() / "featstore-data", folder / "featstore-data")
    return folder


def copied(folder: Path) -> Path:
    """A copy of the world to write into."""
    return copied_store(world(), folder / "world")


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text("utf-8"))
