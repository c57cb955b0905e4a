"""A fine-tuning in MLflow: what arrives there, run for real in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_report_world import around, made, refused

from featstore.errors import UsageError
from featstore.finetune import tracking
from featstore.finetune.tracking import _metrics
from featstore.records import FinetuneForgetting

ROOT = Path(__file__).parent.parent


def test_without_mlflow_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="MLflow cannot be imported") as caught:
        tracking.check("mlruns")
    assert caught.value.hint == "Install it with: pip install 'featstore[mlflow]'"


def test_a_heads_name_becomes_one_that_mlflow_takes() -> None:
    found = made(
        forgetting=(
            FinetuneForgetting(name="a/b:ü", kind="head", items=9, before=0.5, after=0.5, difference=around(0.0)),
        )
    )
    names = [name for name, _, _ in _metrics(found)]
    assert "forgetting/a_b_ü" in names


@pytest.fixture(scope="module")
def with_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs code in a process that has MLflow: it drags so much that the tests' environment goes without it."""
    folder = tmp_path_factory.mktemp("mlflow")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), "--constraint", str(ROOT / "constraints.txt"), "mlflow-skinny"]
    subprocess.run(command, check=True, timeout=280)

    def run(code: str, *arguments: object) -> Any:
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
import finetune_report_world as world
from featstore.finetune import tracking

folder, uri = Path(sys.argv[1]), sys.argv[2]
(folder / "report.json").write_text("{}")
(folder / "report.html").write_text("<p>report")
tracking.check(uri)
runs = []
for found in (world.made(), world.refused(own={"accuracy": world.around(float("nan"))})):
    runs.append(tracking.log(found, folder, uri, report=folder / "report.html"))

import mlflow
client = mlflow.MlflowClient(tracking_uri=uri)
told = []
for one in runs:
    run = client.get_run(one)
    told.append({
        "experiment": client.get_experiment(run.info.experiment_id).name, "name": run.info.run_name,
        "status": run.info.status, "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags,
        "files": sorted(entry.path for entry in client.list_artifacts(one)),
        "curve": [(m.step, m.value) for m in client.get_metric_history(one, "validation/accuracy")],
        "rates": [(m.step, m.value) for m in client.get_metric_history(one, "rate/largest")],
    })
print(json.dumps(told))
"""


@pytest.mark.heavy
def test_settings_curves_gates_and_the_report_arrive(with_mlflow: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    kept, bad = with_mlflow(_LOG, tmp_path / "run", tmp_path / "mlruns")
    assert (kept["experiment"], kept["name"], kept["status"]) == (
        "featstore/fruit-kind",
        "fruit-kind-77aa66bb",
        "FINISHED",
    )
    assert kept["files"] == ["report.html", "report.json"]
    assert kept["params"]["setting.learning_rate"] == "0.0001"
    assert kept["params"]["method"] == "LP-FT"
    assert kept["params"]["blocks"] == "layer4, layer3, layer2"
    metrics = kept["metrics"]
    assert (metrics["accuracy_low"], metrics["accuracy"]) == (pytest.approx(0.801), 0.821)
    assert (metrics["frozen/accuracy"], metrics["own/accuracy"]) == (0.742, 0.815)
    assert metrics["gates/latency"] == 1.01
    assert metrics["forgetting/ripe"] == 0.005
    assert metrics["gain"] == 0.079
    found = made()
    assert kept["curve"] == [[one.epoch, one.validation_accuracy] for one in found.epochs if one.epoch >= 0]
    assert kept["rates"] == [[at, pytest.approx(1e-3 / 2**at)] for at in range(6)]
    assert kept["tags"]["featstore.status"] == "kept"
    assert bad["tags"]["featstore.status"] == "refused"
    assert bad["tags"]["featstore.refused"] == "gain"
    assert "own/accuracy" not in bad["metrics"], "what is no number is not sent"
    assert bad["metrics"]["gain"] == refused().gain.value
