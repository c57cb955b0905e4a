"""The examples for schedulers in ``jobs/``: each is run, or held against its scheduler's own check."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from job_world import noted, write_notes

import featstore

JOBS = Path(__file__).parent.parent / "jobs"
COMMAND = Path(sys.executable).with_name("featstore")

AIRFLOW = "apache-airflow==3.3.*"


def test_each_example_says_how_it_was_checked() -> None:
    files = [path for kind in ("cron", "systemd", "airflow", "kubernetes") for path in (JOBS / kind).iterdir()]
    files = [path for path in files if path.is_file()]
    assert len(files) == 5
    for path in (*files, JOBS / "Dockerfile"):
        assert "Checked: " in path.read_text("utf-8"), path


# ── cron ────────────────────────────────────────────────────────────────────────────────────────

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def crontab() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The variables of the crontab, and its schedules with their commands."""
    variables, lines = {}, []
    for line in (JOBS / "cron" / "featstore.crontab").read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if (found := re.fullmatch(r"([A-Z]+)=(.*)", line)) is not None:
            variables[found[1]] = found[2]
        else:
            *times, command = line.split(maxsplit=5)
            lines.append((" ".join(times), command))
    return variables, lines


def test_the_crontab_is_one() -> None:
    variables, lines = crontab()
    assert variables["SHELL"] == "/bin/sh"
    assert len(lines) == 2
    for times, command in lines:
        for field, (low, high) in zip(times.split(), _RANGES, strict=True):
            assert field == "*" or low <= int(field) <= high
        assert not re.search(r"(?<!\\)%", command), "cron makes a line break of it"


@pytest.mark.heavy
def test_the_commands_of_the_crontab_run(model_store: Path, tmp_path: Path) -> None:
    world = noted(model_store, tmp_path / "srv")
    (world / "photos.toml").write_text((world / "notes.toml").read_text())
    variables, lines = crontab()
    environment = {"PATH": f"{COMMAND.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def sh(command: str) -> subprocess.CompletedProcess[str]:
        here = command.replace("/srv/featstore", shlex.quote(str(world)))
        return subprocess.run([variables["SHELL"], "-c", here], env=environment, capture_output=True, text=True)

    refresh, look = (command for _, command in lines)
    for _ in range(2):
        done = sh(refresh)
        assert done.returncode == 0, (world / "photos.log").read_text()
        assert done.stdout + done.stderr == "", "cron mails what is printed"
    results = [json.loads(line) for line in (world / "photos.jsonl").read_text().splitlines()]
    assert [result["status"] for result in results] == ["published", "nothing new"]
    assert all(json.loads(line)["job"] == "notes" for line in (world / "photos.log").read_text().splitlines())
    assert sh(look).stdout == ""
    state = world / "featstore-data" / "jobs" / "notes.json"
    _rewind(state)
    assert "notes" in sh(look).stdout


def _rewind(state: Path) -> None:
    """Lets a job's last success be long ago."""
    from dataclasses import replace

    from featstore.records import JobState
    from featstore.storage import Storage, documents

    storage = Storage.at(state.parent)
    found = documents.read(storage, state.name, JobState)
    documents.write(storage, state.name, replace(found, last_success_ts="2020-01-01T00:00:00.000+00:00"))


# ── systemd ─────────────────────────────────────────────────────────────────────────────────────


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze") is not None, "systemd-analyze is not here (Debian: apt-get install systemd)"
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.heavy
@on_linux
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for kind in ("service", "timer"):
        text = (JOBS / "systemd" / f"featstore-refresh@.{kind}").read_text("utf-8")
        text = text.replace("/srv/featstore/venv/bin/featstore", str(COMMAND))
        (tmp_path / f"featstore-refresh@photos.{kind}").write_text(text)
    done = analyze("verify", "--man=no", *sorted(tmp_path.iterdir()))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    broken = tmp_path / "featstore-refresh@photos.service"
    broken.write_text(broken.read_text().replace("Restart=on-failure", "Restart=always"))
    assert analyze("verify", "--man=no", broken).returncode != 0, "the check can fail"


@pytest.mark.heavy
@on_linux
def test_systemd_understands_the_timer() -> None:
    timer = (JOBS / "systemd" / "featstore-refresh@.timer").read_text("utf-8")
    (when,) = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    done = analyze("calendar", when)
    assert done.returncode == 0, done.stderr
    assert "03:17:00" in done.stdout


# ── Kubernetes and the image ────────────────────────────────────────────────────────────────────


def resources() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((JOBS / "kubernetes" / "refresh.yaml").read_text("utf-8"))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    found = resources()
    assert list(found) == [
        "PersistentVolumeClaim/featstore-store",
        "PersistentVolumeClaim/featstore-cache",
        "ConfigMap/featstore-jobs",
        "CronJob/featstore-photos",
    ]
    for resource in found.values():
        kubernetes_validate.validate(resource, version, strict=True)
    found["CronJob/featstore-photos"]["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found["CronJob/featstore-photos"], version, strict=True)


def test_the_cron_job_is_as_careful_as_it_says() -> None:
    found = resources()
    spec = found["CronJob/featstore-photos"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] > 5
    assert pod["hostname"], "locks are taken over on their own host only"
    (container,) = pod["containers"]
    safe = container["securityContext"]
    assert safe["readOnlyRootFilesystem"] is True
    assert safe["allowPrivilegeEscalation"] is False
    assert safe["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    for variable in container["env"]:  # whatever is written lies on a volume
        assert any(variable["value"].startswith(path) for path in mounted.values()), variable
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert {key.partition("/")[2] for key in found if key.startswith("Persistent")} <= claims
    codes = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert codes["containerName"] == container["name"]
    assert 7 not in codes["values"], "worth another try"


def test_the_job_of_the_cron_job_is_one(tmp_path: Path) -> None:
    from featstore.jobs.loading import load

    (file, text), *others = resources()["ConfigMap/featstore-jobs"]["data"].items()
    assert not others
    (tmp_path / file).write_text(text)
    assert load(tmp_path / file).name == "photos"
    (container,) = resources()["CronJob/featstore-photos"]["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    help_ = subprocess.run([COMMAND, "refresh", "--help"], capture_output=True, text=True, check=True).stdout
    for flag in (word for word in container["args"] if word.startswith("--")):
        assert flag in help_


def test_the_image_runs_without_rights_and_copies_what_is_there() -> None:
    text = re.sub(r"\\\n", " ", (JOBS / "Dockerfile").read_text("utf-8"))
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {step[0] for step in steps} <= known
    last = {step[0]: step[1] for step in steps}
    assert int(last["USER"].partition(":")[0]) > 0
    assert json.loads(last["ENTRYPOINT"]) == ["featstore"], "as a list: a shell would keep SIGTERM to itself"
    for step, rest in steps:
        if step == "COPY":
            *sources, _ = rest.split()
            assert all((JOBS.parent / source).exists() for source in sources), rest
    pod = resources()["CronJob/featstore-photos"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert last["USER"].partition(":")[0] == str(pod["securityContext"]["runAsUser"])
    assert last["VOLUME"] == "/cache"


# ── Airflow ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow in an environment of its own; a test that cannot install it fails."""
    folder = tmp_path_factory.mktemp("airflow")
    uv = Path(sys.executable).with_name("uv")
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, folder / "venv"],
        [uv, "pip", "install", "-q", "--python", folder / "venv" / "bin" / "python", AIRFLOW],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"Airflow could not be installed:\n{done.stderr}"
    return folder


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_airflow_runs_the_dag(airflow: Path, model_store: Path, tmp_path: Path) -> None:
    world = noted(model_store, tmp_path / "world", 40)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PATH": f"{airflow / 'venv' / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(JOBS / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
        "REFRESH_COMMAND": str(COMMAND),
        "REFRESH_JOB": str(world / "notes.toml"),
    }

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [str(airflow / "venv" / "bin" / "airflow"), *arguments],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.stdout + done.stderr

    def states(day: str) -> dict[str, str]:
        said = call("dags", "test", "featstore_refresh", day)
        with sqlite3.connect(home / "airflow.db") as base:
            rows = base.execute(
                "select i.task_id, i.state from task_instance i join dag_run r using (dag_id, run_id) "
                "where r.logical_date like ?",
                (f"{day}%",),
            ).fetchall()
        assert len(rows) == 2, said
        return dict(rows)

    call("db", "migrate")
    store = featstore.open(world / "featstore-data")
    assert states("2026-01-20") == {"refresh": "success", "told": "success"}
    table = store.table("notes")
    assert (table.version, len(table)) == (0, 20), "the run's day is what it takes for now"
    assert store.published("notes").state.as_of == "2026-01-20T00:00:00Z"
    assert states("2026-01-07") == {"refresh": "skipped", "told": "skipped"}
    write_notes(world, 40, start=20)
    assert states("2026-03-01")["refresh"] == "failed", "a refused gate"
    assert store.table("notes").version == 0
