"""Where everything in a store lies. The only module that knows the names of folders and files."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.storage import Storage, hashing

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The paths of one store, each relative to the root of its ``storage``."""

    storage: Storage

    store: str = "store.json"

    # models
    def model(self, space_id: str, file: str) -> str:
        return f"models/{space_id}/{file}"

    def model_card(self, space_id: str) -> str:
        return self.model(space_id, "card.json")

    def tuning(self, space_id: str) -> str:
        """How a model is run on which kind of machine."""
        return self.model(space_id, "tuning.json")

    def quantisation_proof(self, space_id: str, table: str) -> str:
        """How a quantised model did on the items of a table."""
        return self.model(space_id, f"proofs/{table}.json")

    def reference(self, key: str) -> str:
        return f"models/refs/{key}.json"

    # tables
    def table(self, name: str, space_id: str) -> str:
        return f"features/{name}/{space_id}"

    def run_files(self, name: str, space_id: str, run_id: str) -> str:
        """The folder of a run's data files; Delta readers and vacuum pass over a leading ``_``."""
        return f"{self.table(name, space_id)}/_runs/{run_id}"

    def history(self, name: str, space_id: str) -> str:
        """The rows that have left a table, a Delta table too, where it keeps them."""
        return f"history/{name}/{space_id}"

    def history_record(self, name: str, space_id: str) -> str:
        """Says that a table keeps the rows that leave it, and since when."""
        return f"history/{name}/{space_id}.json"

    def rejects(self, name: str) -> str:
        return f"rejects/{name}"

    def source(self, name: str) -> str:
        return f"sources/{name}.json"

    def scan_cache(self, name: str, source_key: str) -> str:
        """The last scan of one of the table's sources; losing it costs a re-hash, nothing else."""
        return f"cache/{name}/scan-{source_key}.parquet"

    def next_scan_cache(self, name: str, source_key: str) -> str:
        """The scan of a run that goes on; it becomes the last scan when the run ends."""
        return f"cache/{name}/next-{source_key}.parquet"

    def members(self, name: str, space_id: str, uri: str) -> str:
        """Which of a table's items one of its sources has put there."""
        return f"members/{name}/{space_id}/{hashing.of_json(uri)[:12]}.parquet"

    def checked_files(self) -> str:
        """Which data files passed their checksums, by size, mtime and inode."""
        return "cache/checked.json"

    def previews(self, name: str, file: str = "") -> str:
        """Packs of thumbnails or text beginnings, one file a shard, keyed by content hash inside."""
        return f"previews/{name}/{file}" if file else f"previews/{name}"

    def preview_places(self, name: str) -> str:
        """In which pack each preview lies; losing it costs a look through all of them."""
        return f"cache/{name}/previews.places"

    def published(self, name: str) -> str:
        return f"published/{name}.json"

    # moves to another model
    def migration(self, name: str) -> str:
        """How a table's move to another model stands."""
        return f"migrations/{name}.json"

    def migration_report(self, name: str, file: str) -> str:
        """What the last attempt found: ``report.json``, ``report.html``."""
        return f"migrations/{name}/{file}"

    def crossing(self, from_space: str, to_space: str, file: str = "") -> str:
        """A map between two models' spaces: its card, and its weights under a name of their content."""
        folder = f"crossings/{from_space}/{to_space}"
        return f"{folder}/{file}" if file else folder

    # fine-tuned backbones
    def finetunes(self, name: str = "") -> str:
        """The fine-tunings on a table's labels, each in a folder of its key; without a name those of all tables."""
        return f"finetunes/{name}" if name else "finetunes"

    def finetune(self, name: str, key: str, file: str = "") -> str:
        """``state.json``, ``report.json``, ``report.html`` and the checkpoints of one fine-tuning."""
        folder = f"{self.finetunes(name)}/{key}"
        return f"{folder}/{file}" if file else folder

    def finetune_lock(self, name: str) -> str:
        return f"locks/finetunes/{name}.lock"

    # bridges
    def bridge(self, image_space: str, text_space: str, file: str = "") -> str:
        """A map from an image space into a text space: its card, and its weights under a name of their content."""
        folder = f"bridges/{image_space}/{text_space}"
        return f"{folder}/{file}" if file else folder

    # indexes
    def indexes(self, name: str, space_id: str) -> str:
        """The indexes of a table, each in a folder named after the version that it was made from."""
        return f"indexes/{name}/{space_id}"

    def index(self, name: str, space_id: str, version: int, file: str = "") -> str:
        """``index.faiss``, ``ids.parquet`` and ``card.json`` of one index; without the card there is none."""
        folder = f"{self.indexes(name, space_id)}/{version}"
        return f"{folder}/{file}" if file else folder

    def index_lock(self, name: str, space_id: str) -> str:
        """Held while an index is made; an extract into the table may go on meanwhile."""
        return f"locks/indexes/{name}/{space_id}.lock"

    # heads
    def heads(self, name: str = "") -> str:
        """The versions of a head, each in a folder of its number; without a name all heads."""
        return f"heads/{name}" if name else "heads"

    def head(self, name: str, version: int, file: str = "") -> str:
        """Its ``head.safetensors``, ``predictions.parquet`` and ``card.json``; without the card it is not there."""
        folder = f"{self.heads(name)}/{version}"
        return f"{folder}/{file}" if file else folder

    def head_lock(self, name: str) -> str:
        return f"locks/heads/{name}.lock"

    def split(self, name: str, label: str, file: str = "json") -> str:
        """Which side of a split an item is on (``parquet``), and how it came about (``json``).

        A label that is no plain file name has its hash in the name instead of what is not plain.
        """
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in label[:60]).lstrip(".")
        stem = plain if plain == label else f"{plain}-{hashing.of_text(label)[:8]}"
        return f"splits/{name}/{stem}.{file}"

    # runs
    def run(self, run_id: str, file: str) -> str:
        return f"runs/{run_id}/{file}"

    def manifest(self, run_id: str) -> str:
        return self.run(run_id, "manifest.json")

    def plan(self, run_id: str) -> str:
        return self.run(run_id, "plan.parquet")

    def receipt(self, run_id: str, shard: int) -> str:
        return self.run(run_id, f"shards/{shard:05d}.json")

    def commit(self, run_id: str) -> str:
        """What a run that was not published would commit."""
        return self.run(run_id, "commit.json")

    def refresh(self, run_id: str) -> str:
        """How a refresh went."""
        return self.run(run_id, "refresh.json")

    def staged_head(self, run_id: str, head: str) -> str:
        """The folder of a head that is not published yet."""
        return self.run(run_id, f"heads/{head}")

    def open_run(self, name: str, space_id: str) -> str:
        return f"runs/open/{name}/{space_id}.json"

    # jobs
    def job(self, name: str = "") -> str:
        """How a job's last runs went; without a name the folder of all."""
        return f"jobs/{name}.json" if name else "jobs"

    def job_lock(self, name: str) -> str:
        return f"locks/jobs/{name}.lock"

    def migration_lock(self, name: str) -> str:
        return f"locks/migrations/{name}.lock"

    def lock(self, name: str) -> str:
        return f"locks/{name}.lock"
