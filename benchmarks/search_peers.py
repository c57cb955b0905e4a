"""One search library, driven by bench_search.py line by line; others than featstore in an environment of their own.

    python search_peers.py NAME VECTORS.npy QUERIES.npy THREADS

Each line on standard input is a call ``{"do": "build" | "tune" | "search", …}``; each line of the answer has
``seconds``. Settings are each library's own defaults or its documentation's; what is tuned is the search alone: for
the others by the driver, which tries what is in ``ladder``, for featstore by its own ``tune``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

K = 10

# How long the list of a graph's walk may be, in about the steps of featstore's own tuning.
LISTS = (10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512)


class Peer(Protocol):
    """A library: builds once, then searches with one setting."""

    ladder: tuple[int, ...]

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds and says what."""

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """The labels (q, K)."""


class HnswLib:
    """M 16 and ef_construction 200, as its README has them."""

    ladder = LISTS

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds."""
        import hnswlib

        self.threads = threads
        self.index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)
        return "HNSW, M 16"

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches with ef."""
        self.index.set_ef(setting)
        return self.index.knn_query(queries, k=K, num_threads=self.threads)[0]


class USearch:
    """Its defaults: connectivity 16, expansion_add 128; float32."""

    ladder = LISTS

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds."""
        from usearch.index import Index

        self.threads = threads
        self.index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
        self.index.add(np.arange(len(vectors), dtype=np.uint64), vectors, threads=threads)
        return "HNSW, connectivity 16"

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches with expansion_search."""
        self.index.expansion_search = setting
        found = self.index.search(queries, K, threads=self.threads)
        return np.asarray(found.keys, np.int64).reshape(len(queries), -1)


class LanceDb:
    """IVF_PQ with its defaults, and candidates re-ranked ten times over, as its guide says."""

    ladder = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 64, 128, 256)

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds; the table is written before the clock starts."""
        import lancedb
        import pyarrow as pa

        self.folder = tempfile.mkdtemp()
        flat = pa.array(vectors.ravel(), pa.float32())
        table = pa.table(
            {"id": np.arange(len(vectors)), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
        )
        self.table = lancedb.connect(self.folder).create_table("t", table)
        return "IVF_PQ, refine 10"

    def finish(self) -> None:
        """Builds the index."""
        from lancedb.index import IvfPq

        self.table.create_index("vector", config=IvfPq(distance_type="cosine"))

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches with nprobes, all queries in one call."""
        asked = list(queries) if len(queries) > 1 else queries[0]
        found = (
            self.table.search(asked, vector_column_name="vector")
            .distance_type("cosine")
            .limit(K)
            .nprobes(setting)
            .refine_factor(10)
            .select(["id", "_distance"])
            .to_arrow()
        )
        ids = found["id"].to_numpy()
        labels = np.full((len(queries), K), -1, np.int64)
        if len(queries) == 1:
            labels[0, : len(ids)] = ids
            return labels
        which = found["query_index"].to_numpy()
        for at in range(len(queries)):
            own = ids[which == at]
            labels[at, : len(own)] = own
        return labels


class Flat:
    """FAISS's exact index as it is installed, which multiplies matrices from 128,000 values of queries on."""

    ladder = (0,)

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Takes the vectors."""
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)
        return "IndexFlatIP"

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches."""
        return self.index.search(queries, K)[1]


class AutoFaiss:
    """The index it chooses, given twice the vectors' memory; its own setting is kept where it is good enough."""

    ladder = (4, 8, *LISTS, 1024, 2048)
    set: int | None = None

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds."""
        import contextlib

        import faiss
        from autofaiss import build_index

        faiss.omp_set_num_threads(threads)
        room = f"{max(1, round(2 * vectors.nbytes / 1e9))}GB"
        with contextlib.redirect_stdout(sys.stderr):
            self.index, about = build_index(
                vectors,
                save_on_disk=False,
                metric_type="ip",
                max_index_memory_usage=room,
                current_memory_available="8GB",
                nb_cores=threads,
                verbose=40,
            )
        faiss.omp_set_num_threads(threads)
        return str((about or {}).get("index_key", type(self.index).__name__))

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches with efSearch or nprobe, which is set where it was another."""
        if setting != self.set:
            import faiss

            knob = "nprobe" if "IVF" in type(self.index).__name__ else "efSearch"
            faiss.ParameterSpace().set_index_parameter(self.index, knob, setting)
            self.set = setting
        return self.index.search(queries, K)[1]


class Featstore:
    """The index that featstore would make first, or the first of a kind; its file, opened as ``search`` opens it."""

    kind: str | None = None
    ladder = (0,)

    def build(self, vectors: np.ndarray, threads: int) -> str:
        """Builds."""
        from featstore.neighbours import VectorIndex, recipes

        self.vectors, self.threads = vectors, threads
        self.recipe = recipes(*vectors.shape, kind=self.kind)[0]
        self.index = VectorIndex.build(vectors, self.recipe)
        return str(self.recipe.factory)

    def tune(self, path: str, queries: np.ndarray, truth: np.ndarray, recall: float) -> dict[str, int]:
        """Writes the file, opens it, and chooses the search settings for a recall."""
        from featstore.neighbours import VectorIndex, tune

        self.index.write(Path(path))
        self.index = VectorIndex.read(Path(path))
        self.chosen, _ = tune(self.index, self.recipe, self.vectors, queries, truth, k=K, recall=recall)
        self.vectors_at = None if self.index.holds_vectors else self.vectors.__getitem__
        return self.chosen

    def search(self, queries: np.ndarray, setting: int) -> np.ndarray:
        """Searches with what was chosen."""
        return self.index.search(queries, K, search=self.chosen, vectors_at=self.vectors_at, threads=self.threads)[0]


class FeatstoreHnsw(Featstore):
    """A graph, however few the vectors."""

    kind = "hnsw"


class FeatstoreIvf(Featstore):
    """Lists of neighbouring vectors."""

    kind = "ivf"


PEERS: dict[str, type[Any]] = {
    "faiss, exact": Flat,
    "hnswlib": HnswLib,
    "usearch": USearch,
    "lancedb": LanceDb,
    "autofaiss": AutoFaiss,
    "featstore": Featstore,
    "featstore, hnsw": FeatstoreHnsw,
    "featstore, ivf": FeatstoreIvf,
}


def main() -> int:
    """Answers until standard input ends."""
    name, vectors_at, queries_at, threads = sys.argv[1:5]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    vectors, queries = np.load(vectors_at), np.load(queries_at)
    peer = PEERS[name]()
    for line in sys.stdin:
        call = json.loads(line)
        answer: dict[str, object] = {"ladder": list(peer.ladder)}
        start = time.perf_counter()
        if call["do"] == "build":
            answer["what"] = peer.build(vectors, int(threads))
            if hasattr(peer, "finish"):
                start = time.perf_counter()
                peer.finish()
        elif call["do"] == "tune":
            truth = np.load(call["truth"])
            answer["chosen"] = peer.tune(call["path"], queries[: len(truth)], truth, call["recall"])
        elif call["one"]:
            for at in range(call["first"], call["last"]):
                peer.search(queries[at : at + 1], call["setting"])
        else:
            labels = peer.search(queries[call["first"] : call["last"]], call["setting"])
        answer["seconds"] = time.perf_counter() - start
        if call.get("out"):
            np.save(call["out"], np.asarray(labels, np.int64))
        print(json.dumps(answer), file=answers, flush=True)
    folder = getattr(peer, "folder", None)
    if folder is not None and Path(folder).is_dir():
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
