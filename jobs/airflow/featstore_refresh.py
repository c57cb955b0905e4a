"""A refresh every night, by Airflow 3.

Checked: executed in the tests by ``airflow dags test`` (Airflow 3.3), once with something new and once without.
Install: put this file into the DAGs folder and set the variables below. featstore lives in an environment of its own;
this file needs nothing of it but the command.

``REFRESH_COMMAND``  the command, such as ``/srv/featstore/venv/bin/featstore``
``REFRESH_JOB``      the job, such as ``/srv/featstore/photos.toml``; it runs in the job's folder

The result is the last line of stdout and goes to XCom. Nothing new is a skipped task, a refused gate a failed one
that is not tried again. What is taken for now is the end of the run's interval, so that a run of the past sees no
later items.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

NOTHING_NEW = 99
AGAIN = (6, 7)
"""Another run was at work, or a disk or a hub failed, or the deadline has passed."""


@dag(
    schedule="17 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["featstore"],
    doc_md=__doc__,
)
def featstore_refresh() -> None:
    """Refreshes a table with its index and heads, and publishes it if its gates agree."""

    @task(retries=3, retry_delay=timedelta(minutes=10))
    def refresh(data_interval_end: datetime | None = None) -> dict[str, Any]:
        job = Path(os.environ["REFRESH_JOB"]).resolve()
        command = [os.environ.get("REFRESH_COMMAND", "featstore"), "refresh", str(job)]
        command += ["--noop-exit-code", str(NOTHING_NEW), "--deadline", "5h", "--log-format", "json", "--json"]
        if data_interval_end is not None:
            command += ["--as-of", data_interval_end.isoformat()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=job.parent) as process:
            try:
                out, _ = process.communicate()
            except BaseException:
                process.terminate()  # it ends within 5 seconds, and the next run goes on from there
                raise
        result = json.loads(out.splitlines()[-1]) if out.strip() else {}
        said = f"exit code {process.returncode}: {result.get('error') or result.get('status')}"
        if process.returncode == NOTHING_NEW:
            raise AirflowSkipException("nothing new")
        if process.returncode in AGAIN:
            raise AirflowException(said)
        if process.returncode:
            raise AirflowFailException(f"{said}; next: {'  or  '.join(result.get('next', []))}")
        return {key: result[key] for key in ("job", "run_id", "status", "table", "published_version", "seconds")}

    @task
    def told(result: dict[str, Any]) -> None:
        print(f"published: version {result['published_version']} of {result['table']}")

    told(refresh())


featstore_refresh()
