"""Heads in MLflow: what arrives there, and what is said where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featstore.errors import UsageError
from featstore.training import tracking

ROOT = Path(__file__).parent.parent


def test_without_mlflow_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it fails then
    with pytest.raises(UsageError, match="MLflow cannot be imported") as caught:
        tracking.check("mlruns")
    assert "pip install 'featstore[mlflow]'" in caught.value.hint


@pytest.fixture(scope="module")
def with_mlflow(tmp_path_factory):
    """Runs code in a process that has MLflow: it drags so much that the tests' environment goes without it."""
    folder = tmp_path_factory.mktemp("mlflow")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), "--constraint", str(ROOT / "constraints.txt"), "mlflow-skinny"]
    subprocess.run(command, check=True, timeout=280)

    def run(code: str, *arguments: object) -> dict:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(folder)])}
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


_LOG = """
import json, sys
from pathlib import Path
import head_world
import featstore
from featstore.records import BaselineFigures, CurvePoint, Estimate
from featstore.training import tracking

store, uri, page = featstore.open(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
page.write_text("<p>report")
figure = {"accuracy": Estimate(value=0.9, low=0.85, high=0.94)}
head = head_world.linear("classification", ("a", "b"), 4)
runs = []
for version in (1, 2):
    card = head_world.keep(
        store.layout, head, version=version, metrics=figure, training=figure, validation=figure, fit="It fits.",
        baselines={"majority": BaselineFigures(name="majority", metrics=figure)}, test_scored=version,
        learning_curve=tuple(
            CurvePoint(items=items, score=score, low=score - 0.1, high=score + 0.1)
            for items, score in ((10, 0.5), (20, 0.7))
        ),
    )
    folder = store.layout.storage.local(store.layout.head("kinds", version))
    tracking.check(uri)
    runs.append(tracking.log(card, folder, uri, report=page))

import mlflow
client = mlflow.MlflowClient(tracking_uri=uri)
run = client.get_run(runs[1])
assert client.get_experiment_by_name("featstore/kinds").experiment_id == run.info.experiment_id
def files(path=""):
    for entry in client.list_artifacts(runs[1], path):
        yield from files(entry.path) if entry.is_dir else [entry.path]
print(json.dumps({
    "name": run.info.run_name, "status": run.info.status, "params": run.data.params, "metrics": run.data.metrics,
    "tags": run.data.tags, "files": sorted(files()), "runs": len(client.search_runs([run.info.experiment_id])),
    "curve": [(m.step, m.value) for m in client.get_metric_history(runs[1], "learning_curve")],
    "card": json.loads(Path(client.download_artifacts(runs[1], "card.json", sys.argv[4])).read_text())["version"],
}))
"""


@pytest.mark.heavy
def test_settings_figures_and_files_arrive(with_mlflow, tmp_path):
    (tmp_path / "down").mkdir()
    arguments = [tmp_path / name for name in ("store", "mlruns", "page.html", "down")]
    found = with_mlflow(_LOG, *arguments)
    assert (found["name"], found["status"], found["runs"], found["card"]) == ("kinds:2", "FINISHED", 2, 2)
    assert found["files"] == ["card.json", "head.safetensors", "page.html"]
    assert found["params"]["kind"] == "logistic"
    assert found["params"]["setting.temperature"] == "1.3"
    metrics = found["metrics"]
    assert (metrics["accuracy_low"], metrics["accuracy"], metrics["accuracy_high"]) == (0.85, 0.9, 0.94)
    assert metrics["baselines/majority/accuracy"] == metrics["validation/accuracy"] == 0.9
    assert metrics["test_scored"] == 2
    assert found["curve"] == [[10, 0.5], [20, 0.7]]
    assert found["tags"]["featstore.space_id"] == "tiny-0a1b2c3d"


_REFUSED = """
import json, sys, time
from pathlib import Path
import head_world
from featstore.errors import FeatstoreError
from featstore.training import tracking

card = head_world.card_of(head_world.linear("classification", ("a", "b"), 4))
started, found = time.monotonic(), {}
for uri in ("bogus://there", "http://name:secret@127.0.0.1:9", sys.argv[1]):
    try:
        tracking.log(card, Path(sys.argv[2]), uri)
    except FeatstoreError as error:
        found[uri] = [type(error).__name__, str(error)]
print(json.dumps({"found": list(found.values()), "seconds": time.monotonic() - started}))
"""


@pytest.mark.heavy
def test_what_does_not_work_is_said_without_passwords(with_mlflow, tmp_path):
    (tmp_path / "file").write_text("no folder")
    found = with_mlflow(_REFUSED, tmp_path / "file", tmp_path / "nothing")
    scheme, server, file = found["found"]
    assert scheme[0] == "UsageError", scheme
    assert server[0] == "StorageError", server
    assert "127.0.0.1:9" in server[1]
    assert "secret" not in server[1]
    assert file[0] in ("UsageError", "StorageError")
    assert found["seconds"] < 60
