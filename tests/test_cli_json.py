"""Every ``--json`` and every document keeps to its schema, and the schemas keep to the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from bridge_world import captioned
from cli_world import MODEL, SCHEMAS, copied, inside, schema, world
from head_world import headed
from job_world import refreshed, scheduled
from spaces import embedded, letters, table_of
from train_world import labelled

from featstore.cli.schemas import DOCUMENTS, OUTPUTS, generate
from featstore.cli.schemas import main as write_schemas

CHECK = jsonschema.Draft202012Validator

COMMANDS = {
    "extract": ["extract", "photos", "--model", MODEL, "--dry-run"],
    "ls": ["ls"],
    "ls-runs": ["ls", "runs"],
    "show": ["show", "photos"],
    "show-run": ["show", "RUN"],
    "show-history": ["show", "photos", "--history"],
    "show-rejects": ["show", "photos", "--rejects"],
    "show-paths": ["show", "photos", "--paths"],
    "ls-jobs": ["ls", "jobs", "."],
    "jobs-new": ["jobs", "new", "photos"],
    "refresh": ["refresh", "photos.toml"],
    "refresh-plan": ["refresh", "photos.toml", "--dry-run"],
    "publish": ["publish", "photos:0"],
    "rollback": ["rollback", "photos"],
    "jobs-check": ["jobs", "check", "photos.toml"],
    "verify": ["verify", "--sample", "2"],
    "gc": ["gc", "--dry-run"],
    "gc-purge": ["gc", "--purge-ids", "gone.txt"],
    "gc-drop-space": ["gc", "--drop-space", "sayings@new"],
    "finetune": ["finetune", "photos", "FLAGS"],
    "finetune-plan": ["finetune", "photos", "FLAGS", "--dry-run"],
    "migrate": ["migrate", "sayings", "--to", "models/next.onnx"],
    "migrate-plan": ["migrate", "sayings", "--to", "models/next.onnx", "--dry-run"],
    "doctor": ["doctor"],
    "index": ["index", "photos"],
    "index-plan": ["index", "photos", "--dry-run"],
    "predict": ["predict", "kinds", "photos"],
    "export-head": ["export", "kinds", "-o", "out.onnx"],
    "train-head": ["train-head", "photos", "--kind", "ridge", "--no-curve"],
    "train-head-compare": ["train-head", "photos", "paintings", "--kind", "ridge", "--no-curve"],
    "train-head-plan": ["train-head", "photos", "--dry-run"],
    "ls-heads": ["ls", "heads"],
    "show-head": ["show", "photos-label:1"],
    "diff-heads": ["diff", "photos-label:1", "photos-label:2"],
    "export": ["export", "photos", "-o", "out.npz"],
    "export-features": ["export", "photos", f"photos@{MODEL}", "-o", "out.npz"],
    "bridge": ["bridge", "stamps", "--to", "minilm", "--pairs", "caption"],
    "bridge-onto": ["bridge", "sayings@new", "--onto", "sayings@old"],
    "diff": ["diff", "photos:0", "photos"],
    "dedup": ["dedup", "photos"],
    "eval": ["eval", "photos", "--queries", "queries.jsonl", "--qrels", "qrels.tsv"],
    "search": ["search", "photos", "--id", "0003.jpg"],
    "models-list": ["models", "list"],
    "models-show": ["models", "show", MODEL],
    "models-export": ["models", "export", MODEL, "-o", "out"],
    "models-compare": ["models", "compare", "photos", "--models", MODEL],
    "models-bench": ["models", "bench", MODEL, "--threads", "1", "--batch", "4", "--seconds", "0.2"],
}


def test_the_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    kept = {path.relative_to(SCHEMAS).as_posix(): path.read_text("utf-8") for path in SCHEMAS.rglob("*.json")}
    assert kept == generate(), "run: python -m featstore.cli.schemas schemas/"
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "old.json").write_text("{}")
    write_schemas(tmp_path)
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json")} == set(kept)


@pytest.mark.parametrize("name", [*(f"documents/{n}" for n in DOCUMENTS), *(f"outputs/{n}" for n in OUTPUTS)])
def test_each_schema_is_a_valid_one(name: str) -> None:
    CHECK.check_schema(schema(f"{name}.json"))


# They train, or load a network to time it.
_HEAVY = ("bridge", "finetune", "finetune-plan")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.heavy) if name in _HEAVY else name for name in sorted(OUTPUTS)]
)
def test_each_output_keeps_to_its_schema(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first = json.loads((world() / "first.json").read_text())
    arguments = [
        {
            "RUN": first["run_id"],
            "out": str(tmp_path),
            "out.npz": str(tmp_path / "out.npz"),
            "out.onnx": str(tmp_path / "out.onnx"),
        }.get(word, word)
        for word in COMMANDS[name]
    ]
    where = captioned(request.getfixturevalue("model_store"), tmp_path) if name == "bridge" else world()
    where = embedded(request.getfixturevalue("model_store"), tmp_path) if name == "bridge-onto" else where
    if "FLAGS" in arguments:
        from finetune_cli_world import ANY, SMALL, tunable  # which imports torch

        where = tunable(tmp_path)
        at = arguments.index("FLAGS")
        arguments[at : at + 1] = [*SMALL, *ANY]
    if name.startswith("migrate"):
        where = embedded(request.getfixturevalue("model_store"), tmp_path, 60, old=table_of())
        letters(where / "models", "next", table_of(seed=1))
    where = embedded(request.getfixturevalue("model_store"), tmp_path, 60) if name == "gc-drop-space" else where
    where = copied(tmp_path) if name in ("index", "gc-purge") else where
    if name == "gc-purge":
        (where / "gone.txt").write_text("0003.jpg\n", "utf-8")
    where = headed(copied(tmp_path)) if name in ("predict", "export-head") else where
    if "jobs" in name:
        where = copied(tmp_path)
        where = where if name == "jobs-new" else scheduled(where)
    if name in ("refresh", "refresh-plan", "publish", "rollback"):
        where = refreshed(tmp_path, {"publish": 1, "rollback": 2}.get(name, 0))
    where = labelled(tmp_path, heads=2) if "head" in name and name != "export-head" else where
    done = inside(*arguments, "--json", cwd=where)
    assert done.code == 0, done.err
    CHECK(schema(f"outputs/{name}.json")).validate(done.json)
    if isinstance(done.json, list):
        assert done.json


def test_a_schema_refuses_an_output_that_lacks_a_field() -> None:
    first = json.loads((world() / "first.json").read_text())
    checker = CHECK(schema("outputs/extract.json"))
    assert checker.is_valid(first)
    for field in first:
        assert not checker.is_valid({key: value for key, value in first.items() if key != field}), field


def test_extract_says_what_it_must() -> None:
    first = json.loads((world() / "first.json").read_text())
    assert {
        "run_id", "table", "space_id", "version", "dim", "seen", "stored", "reused", "rejected", "removed", "ignored",
        "seconds", "items_per_s", "bottleneck",
    } <= set(first)  # fmt: skip
    assert first["seen"] == first["stored"] + first["reused"] + first["rejected"] == 13
    assert (first["ignored"], first["rejected"], first["dim"], first["version"]) == (1, 1, 1280, 0)
    assert first["bottleneck"] in ("read", "decode", "infer", "write")


def test_each_document_of_a_store_keeps_to_its_schema() -> None:
    kinds = {
        r"store\.json": "store",
        r"models/refs/[^/]+\.json": "reference",
        r"models/[^/]+/card\.json": "card",
        r"sources/[^/]+\.json": "source",
        r"runs/[^/]+/manifest\.json": "manifest",
        r"runs/[^/]+/shards/\d+\.json": "receipt",
        r"runs/open/[^/]+/[^/]+\.json": "open-run",
    }
    store = world() / "featstore-data"
    met = set()
    for path in store.rglob("*.json"):
        name = path.relative_to(store).as_posix()
        for pattern, kind in kinds.items():
            if re.fullmatch(pattern, name) and not ("/refs/" in name and kind == "card"):
                CHECK(schema(f"documents/{kind}.json")).validate(json.loads(path.read_text("utf-8")))
                met.add(kind)
    assert {"store", "reference", "card", "source", "manifest", "receipt"} <= met


def test_the_arrow_schemas_are_those_of_the_tables() -> None:
    import pyarrow.parquet as pq

    (file,) = (world() / "featstore-data" / "features").rglob("*.parquet")
    found = {field.name: str(field.type) for field in pq.read_schema(file)}
    assert found == {c["name"]: c["type"] for c in schema("arrow/features.json")["columns"]}
    files = list((world() / "featstore-data" / "rejects").rglob("*.parquet"))
    found = {field.name: str(field.type) for field in pq.read_schema(files[0])}
    assert found == {c["name"]: c["type"] for c in schema("arrow/rejects.json")["columns"]}
