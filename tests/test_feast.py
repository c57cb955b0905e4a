"""The Feast example: Feast itself, in an environment of its own, reads what featstore wrote and says the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from history_kit import NAME, World, at

from featstore.features import get_features

EXAMPLE = Path(__file__).parent.parent / "jobs" / "feast"
PACKAGES = ("feast[duckdb,delta]==0.67.*", "duckdb==1.5.5", "duckdb-extension-delta==1.5.5", "duckdb-extensions")


def _run(*command: str | Path, cwd: Path, **environment: str) -> None:
    # No network is needed to read; HOME is where DuckDB puts its reader of Delta tables.
    given = {**os.environ, **environment}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=given, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_feast_reads_the_vectors_of_the_time(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    world.sync({"a": (1, None), "b": (2, None), "c": (3, None)}, 10)
    world.sync({"a": (4, None), "c": (3, None)}, 20)
    world.sync({"a": (5, None), "b": (6, None), "c": (3, None)}, 30)
    world.sync({"a": (5, None), "b": (7, None)}, 40)
    moments = [at(s) for s in (5, 10, 15, 20, 25, 30, 35, 40, 45)]
    rows = pl.DataFrame([{"item_id": i, "event_timestamp": t} for i in ("a", "b", "c", "nobody") for t in moments])
    rows.write_parquet(tmp_path / "rows.parquet")
    ours = get_features(world.layout, rows, [NAME], timestamp_column="event_timestamp")

    home = tmp_path / "home"
    home.mkdir()
    python = tmp_path / "venv" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    _run(uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    _run(uv, "pip", "install", "-q", "--python", python, *PACKAGES, cwd=tmp_path)
    _run(python, "-c", "import duckdb_extensions as e; e.import_extension('delta')", cwd=tmp_path, HOME=str(home))
    repository = shutil.copytree(EXAMPLE, tmp_path / "repository")
    told = {"HOME": str(home), "FEAST_TABLE": str(world.table().path), "FEAST_USAGE": "False"}
    _run(python.with_name("feast"), "apply", cwd=repository, **told)
    _run(python, "read.py", tmp_path / "rows.parquet", tmp_path / "joined.parquet", cwd=repository, **told)

    theirs = pl.read_parquet(tmp_path / "joined.parquet").with_columns(
        pl.col("event_timestamp").dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    )
    both = ours.join(theirs, on=["item_id", "event_timestamp"], how="left", maintain_order="left", validate="1:1")
    assert both.height == rows.height == theirs.height
    for item, moment, wanted, _, got in both.iter_rows():
        assert (wanted is None) == (got is None), (item, moment)
        assert wanted is None or np.array_equal(np.array(got, np.float32), np.array(wanted, np.float32)), (item, moment)
