"""The JSON Schemas of what featstore writes and prints: ``python -m featstore.cli.schemas schemas/``.

``documents/`` are the files of a store, ``outputs/`` what ``--json`` prints, ``arrow/`` the columns of the
tables. All are made from the records, so that code and schema cannot drift apart.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from featstore import records
from featstore.cli import outputs
from featstore.jobs.schema import schema as job_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DECLARED", "DOCUMENTS", "OUTPUTS", "generate", "main"]

DOCUMENTS: dict[str, Any] = {
    "store": records.StoreRecord,
    "card": records.ModelCard,
    "tuning": records.Tuning,
    "reference": records.Reference,
    "source": records.SourceRecord,
    "receipt": records.ShardReceipt,
    "open-run": records.OpenRun,
    "manifest": records.Manifest,
    "bundle": records.Bundle,
    "export-origin": records.ExportOrigin,
    "index": records.IndexCard,
    "bridge": records.BridgeCard,
    "head": records.HeadCard,
    "split": records.SplitRecord,
    "published": records.Published,
    "staged-commit": records.StagedCommit,
    "refresh": records.RefreshResult,
    "job-state": records.JobState,
    "history": records.HistoryRecord,
    "migration": records.Migration,
    "migration-report": records.MigrationReport,
    "space-bridge": records.SpaceBridgeCard,
    "finetune": records.FinetuneState,
    "finetune-report": records.FinetuneReport,
}
"""The documents of a store. Each file also holds ``document_sha256``, the digest of all else in it."""

DECLARED: dict[str, Any] = {
    "own-card": records.OwnCard,
}
"""Documents that people write; they hold no digest."""

OUTPUTS: dict[str, Any] = {
    "extract": records.ExtractResult,
    "ls": list[records.TableSummary],
    "ls-runs": list[records.Manifest],
    "show": records.TableSummary,
    "show-run": records.Manifest,
    "show-history": list[records.CommitInfo],
    "show-rejects": list[outputs.RejectLine],
    "show-paths": outputs.TablePaths,
    "ls-heads": list[records.HeadCard],
    "show-head": records.HeadCard,
    "train-head": records.HeadCard,
    "train-head-compare": records.HeadComparison,
    "train-head-plan": records.HeadPlan,
    "diff-heads": records.HeadDifference,
    "index": records.IndexCard,
    "index-plan": records.IndexPlan,
    "predict": records.HeadPrediction,
    "refresh": records.RefreshResult,
    "refresh-plan": records.RefreshPlan,
    "finetune": records.FinetuneResult,
    "finetune-plan": records.FinetunePlan,
    "migrate": records.MigrationResult,
    "migrate-plan": records.MigrationPlan,
    "ls-jobs": list[records.JobStanding],
    "jobs-new": records.JobDraft,
    "jobs-check": list[records.JobCheck],
    "publish": records.PublishResult,
    "rollback": records.PublishResult,
    "export": records.ExportResult,
    "export-head": records.HeadExport,
    "export-features": records.FeatureExport,
    "bridge": records.BridgeResult,
    "bridge-onto": records.SpaceBridgeResult,
    "diff": records.Difference,
    "dedup": records.DuplicateReport,
    "eval": records.Evaluation,
    "verify": records.VerifyReport,
    "gc": records.GcReport,
    "gc-purge": records.PurgeReport,
    "gc-drop-space": records.DropReport,
    "doctor": records.DoctorReport,
    "search": list[outputs.SearchHit],
    "models-list": list[outputs.ModelLine],
    "models-show": outputs.ModelDetails,
    "models-export": records.ModelExport,
    "models-compare": records.Comparison,
    "models-bench": records.ModelBench,
}
"""What each command prints with ``--json``."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Whole(GenerateJsonSchema):
    """Demands every field: what is printed leaves none out, while a document of an older version may."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return True


def generate() -> dict[str, str]:
    """All schemas, by their path below ``schemas/``; the same text every time."""
    found: dict[str, dict[str, Any]] = {}
    for name, kind in DOCUMENTS.items():
        schema = TypeAdapter(kind).json_schema()
        schema["properties"]["document_sha256"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        schema["required"] = [*schema.get("required", []), "document_sha256"]
        found[f"documents/{name}.json"] = {"$schema": _DIALECT, **schema}
    for name, kind in DECLARED.items():
        found[f"documents/{name}.json"] = {"$schema": _DIALECT, **TypeAdapter(kind).json_schema()}
    found["documents/job.json"] = {"$schema": _DIALECT, **job_schema()}
    for name, kind in OUTPUTS.items():
        schema = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_Whole)
        found[f"outputs/{name}.json"] = {"$schema": _DIALECT, **schema}
    for name, columns in _arrow().items():
        found[f"arrow/{name}.json"] = columns
    return {path: json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n" for path, body in found.items()}


def main(folder: Path) -> None:
    """Writes all schemas into a folder, and removes those that are no more."""
    wanted = generate()
    for path in folder.glob("*/*.json"):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def _arrow() -> dict[str, dict[str, Any]]:
    import pyarrow as pa

    from featstore.layout import Layout
    from featstore.storage import Storage
    from featstore.tables import RejectsTable
    from featstore.tables.columns import FIXED, full_schema

    with tempfile.TemporaryDirectory() as nothing:
        rejects = RejectsTable.read(Layout(Storage.at(nothing)), "none", "none").schema
    return {
        "features": _columns(
            full_schema(pa.schema(FIXED)),
            "A feature table. The source's metadata columns stand after embedding: int64, double, string, bool, "
            "binary, date32, decimals and timestamps in microseconds UTC; anything else as JSON text.",
        ),
        "rejects": _columns(rejects, "What was refused and why, one row for each refusal."),
    }


def _columns(schema: pa.Schema, description: str) -> dict[str, Any]:
    return {"description": description, "columns": [{"name": f.name, "type": str(f.type)} for f in schema]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
