"""What featstore writes down: one frozen dataclass for each kind of JSON document and message.

Documents carry a ``format_version``; ``schemas/`` holds the JSON Schema generated from each.
Times are ISO 8601 in UTC, digests are lower-case hexadecimal SHA-256, sizes are bytes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featstore.records.bridges import BridgeCard, BridgeResult, RecallAt
    from featstore.records.checks import Check, DoctorReport, Finding, GcReport, VerifyReport
    from featstore.records.differences import (
        ComparedModel,
        Comparison,
        Difference,
        DuplicateGroup,
        DuplicateItem,
        DuplicateReport,
        ItemCosine,
        NeighbourOverlap,
        QueryOverlap,
        VectorChanges,
    )
    from featstore.records.drift import DriftMeasure, DriftReport, ShiftedItem
    from featstore.records.evaluations import (
        EvaluatedTable,
        Evaluation,
        QueryChange,
        QueryDifference,
        RankingOverlap,
        Score,
    )
    from featstore.records.exports import ExportOrigin, ExportResult
    from featstore.records.features import FeatureExport, FeatureOrigin, HistoryRecord
    from featstore.records.finetunes import (
        FinetuneEpoch,
        FinetuneForgetting,
        FinetunePlan,
        FinetuneReport,
        FinetuneResult,
        FinetuneState,
        FinetuneTrial,
        ParameterGroup,
        TunedBlock,
    )
    from featstore.records.heads import (
        BaselineFigures,
        CandidateFigures,
        ClassFigures,
        Conformal,
        CurvePoint,
        Estimate,
        HeadCard,
        HeadComparison,
        HeadDifference,
        HeadExport,
        HeadKind,
        HeadPlan,
        HeadPrediction,
        HeadTask,
        PreviousHead,
        ShotFigures,
        SplitRecord,
        SplitScoring,
    )
    from featstore.records.indexes import IndexCard, IndexPlan, IndexRecall, IndexRequest, IndexSummary
    from featstore.records.migrations import (
        HeadMove,
        Migration,
        MigrationPlan,
        MigrationReport,
        MigrationResult,
        ScoreMap,
        ScoreQuantile,
        SpaceBridgeCard,
        SpaceBridgeResult,
        SpaceCost,
    )
    from featstore.records.models import (
        Bundle,
        Fidelity,
        Finetuning,
        ImagePreprocessing,
        ModelCard,
        ModelExport,
        OwnCard,
        OwnImage,
        OwnText,
        Parity,
        Quantisation,
        QuantisationProof,
        QuantisationStep,
        TextPreprocessing,
        WeightsInfo,
    )
    from featstore.records.publications import Published, PublishedState, PublishResult
    from featstore.records.refresh import (
        GateItem,
        GateOutcome,
        HeadOutcome,
        JobCheck,
        JobDraft,
        JobProblem,
        JobStanding,
        JobState,
        RefreshPlan,
        RefreshResult,
        StagedCommit,
        StagedFile,
    )
    from featstore.records.runs import (
        CommitInfo,
        ExtractResult,
        Manifest,
        OpenRun,
        Reading,
        Reject,
        ShardReceipt,
        SourceRecord,
        StageSeconds,
    )
    from featstore.records.store import FORMAT_VERSION, Artefact, Modality, Reference, SettingValue, StoreRecord
    from featstore.records.tables import TableSummary, TableVersion
    from featstore.records.tuning import BenchLine, ModelBench, TunedChoice, Tuning
    from featstore.records.upkeep import DropReport, PurgedHead, PurgedTable, PurgeReport, PurgeScan

__all__ = [
    "FORMAT_VERSION",
    "Artefact",
    "BaselineFigures",
    "BenchLine",
    "BridgeCard",
    "BridgeResult",
    "Bundle",
    "CandidateFigures",
    "Check",
    "ClassFigures",
    "CommitInfo",
    "ComparedModel",
    "Comparison",
    "Conformal",
    "CurvePoint",
    "Difference",
    "DoctorReport",
    "DriftMeasure",
    "DriftReport",
    "DropReport",
    "DuplicateGroup",
    "DuplicateItem",
    "DuplicateReport",
    "Estimate",
    "EvaluatedTable",
    "Evaluation",
    "ExportOrigin",
    "ExportResult",
    "ExtractResult",
    "FeatureExport",
    "FeatureOrigin",
    "Fidelity",
    "Finding",
    "FinetuneEpoch",
    "FinetuneForgetting",
    "FinetunePlan",
    "FinetuneReport",
    "FinetuneResult",
    "FinetuneState",
    "FinetuneTrial",
    "Finetuning",
    "GateItem",
    "GateOutcome",
    "GcReport",
    "HeadCard",
    "HeadComparison",
    "HeadDifference",
    "HeadExport",
    "HeadKind",
    "HeadMove",
    "HeadOutcome",
    "HeadPlan",
    "HeadPrediction",
    "HeadTask",
    "HistoryRecord",
    "ImagePreprocessing",
    "IndexCard",
    "IndexPlan",
    "IndexRecall",
    "IndexRequest",
    "IndexSummary",
    "ItemCosine",
    "JobCheck",
    "JobDraft",
    "JobProblem",
    "JobStanding",
    "JobState",
    "Manifest",
    "Migration",
    "MigrationPlan",
    "MigrationReport",
    "MigrationResult",
    "Modality",
    "ModelBench",
    "ModelCard",
    "ModelExport",
    "NeighbourOverlap",
    "OpenRun",
    "OwnCard",
    "OwnImage",
    "OwnText",
    "ParameterGroup",
    "Parity",
    "PreviousHead",
    "PublishResult",
    "Published",
    "PublishedState",
    "PurgeReport",
    "PurgeScan",
    "PurgedHead",
    "PurgedTable",
    "Quantisation",
    "QuantisationProof",
    "QuantisationStep",
    "QueryChange",
    "QueryDifference",
    "QueryOverlap",
    "RankingOverlap",
    "Reading",
    "RecallAt",
    "Reference",
    "RefreshPlan",
    "RefreshResult",
    "Reject",
    "Score",
    "ScoreMap",
    "ScoreQuantile",
    "SettingValue",
    "ShardReceipt",
    "ShiftedItem",
    "ShotFigures",
    "SourceRecord",
    "SpaceBridgeCard",
    "SpaceBridgeResult",
    "SpaceCost",
    "SplitRecord",
    "SplitScoring",
    "StageSeconds",
    "StagedCommit",
    "StagedFile",
    "StoreRecord",
    "TableSummary",
    "TableVersion",
    "TextPreprocessing",
    "TunedBlock",
    "TunedChoice",
    "Tuning",
    "VectorChanges",
    "VerifyReport",
    "WeightsInfo",
]

_HOMES = {
    "bridges": "BridgeCard BridgeResult RecallAt",
    "checks": "Check DoctorReport Finding GcReport VerifyReport",
    "differences": "ComparedModel Comparison Difference DuplicateGroup DuplicateItem DuplicateReport ItemCosine "
    "NeighbourOverlap QueryOverlap VectorChanges",
    "drift": "DriftMeasure DriftReport ShiftedItem",
    "evaluations": "EvaluatedTable Evaluation QueryChange QueryDifference RankingOverlap Score",
    "exports": "ExportOrigin ExportResult",
    "features": "FeatureExport FeatureOrigin HistoryRecord",
    "finetunes": "FinetuneEpoch FinetuneForgetting FinetunePlan FinetuneReport FinetuneResult FinetuneState "
    "FinetuneTrial ParameterGroup TunedBlock",
    "heads": "BaselineFigures CandidateFigures ClassFigures Conformal CurvePoint Estimate HeadCard HeadComparison "
    "HeadDifference HeadExport HeadKind HeadPlan HeadPrediction HeadTask PreviousHead ShotFigures "
    "SplitRecord SplitScoring",
    "indexes": "IndexCard IndexPlan IndexRecall IndexRequest IndexSummary",
    "migrations": "HeadMove Migration MigrationPlan MigrationReport MigrationResult ScoreMap ScoreQuantile "
    "SpaceBridgeCard SpaceBridgeResult SpaceCost",
    "models": "Bundle Fidelity Finetuning ImagePreprocessing ModelCard ModelExport OwnCard OwnImage OwnText Parity "
    "Quantisation QuantisationProof QuantisationStep TextPreprocessing WeightsInfo",
    "publications": "PublishResult Published PublishedState",
    "refresh": "GateItem GateOutcome HeadOutcome JobCheck JobDraft JobProblem JobStanding JobState RefreshPlan "
    "RefreshResult StagedCommit StagedFile",
    "runs": "CommitInfo ExtractResult Manifest OpenRun Reading Reject ShardReceipt SourceRecord StageSeconds",
    "store": "Artefact FORMAT_VERSION Modality Reference SettingValue StoreRecord",
    "tables": "TableSummary TableVersion",
    "tuning": "BenchLine ModelBench TunedChoice Tuning",
    "upkeep": "DropReport PurgeReport PurgeScan PurgedHead PurgedTable",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    # To make a class takes a millisecond, and a command needs few of them.
    if name in _HOME:
        found: object = getattr(importlib.import_module(f"featstore.records.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
