"""What can be set when a FAISS index is searched, whatever it is wrapped in."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from featstore.errors import UsageError
from featstore.neighbours.library import FAISS_ERRORS, library

__all__ = [
    "bitmap",
    "checked_factory",
    "defaults",
    "holds_vectors",
    "inner",
    "lists",
    "made",
    "parameters",
    "prepare",
    "reason",
    "settable",
    "takes_filter",
]

# At the same recall a search compares fewer vectors than with FAISS's 40, and no fewer with hnswlib's 200, which takes
# longer to build.
_CONSTRUCTION = 100


def made(factory: str, dim: int) -> Any:
    """An empty index as FAISS's description says, for cosine.

    Raises:
        UsageError: FAISS cannot make it for such vectors.
    """
    faiss = library()
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except FAISS_ERRORS as error:
        raise UsageError(
            f"FAISS cannot make an index '{factory}' for vectors of {dim} values: {reason(error)}.",
            hint="See the FAISS wiki on the index factory; examples: HNSW32 · IVF1024,Flat · IVF1024,SQ8.",
        ) from error
    numbers = [int(number) for number in re.findall(r"(?:IVF|HNSW)(\d+)", factory)]
    if numbers and min(numbers) < 2:  # FAISS makes it, and ends the process when it is filled
        raise UsageError(f"'{factory}' is no index: IVF needs at least 2 lists and HNSW at least 2 links.")
    if isinstance(index, faiss.IndexIDMap):
        raise UsageError(f"'{factory}' keeps ids of its own.", hint="Leave IDMap out: ids are kept beside the index.")
    return index


def prepare(index: Any) -> None:
    """What FAISS's description cannot say: how carefully a graph is made, and not to print about few vectors.

    Whether lists and codes learnt from few vectors are good enough is measured.

    Codes of 8 bits are not renumbered so that alike ones differ in few bits: it takes three seconds for each part of a
    vector, changes no distance, and serves a way to search that nothing here uses.

    Source: FAISS, ``IndexPQ::do_polysemous_training``.
    """
    core = inner(index)
    if isinstance(core, library().IndexHNSW):
        core.hnsw.efConstruction = _CONSTRUCTION
    if hasattr(core, "do_polysemous_training"):
        core.do_polysemous_training = False
    learners: list[Any] = [core, getattr(core, "pq", None)]
    for learner in learners:
        if hasattr(learner, "cp"):
            learner.cp.min_points_per_centroid = 1


def checked_factory(factory: str, dim: int) -> dict[str, int]:
    """The settings to begin with for a FAISS description.

    Raises:
        UsageError: FAISS cannot make it for such vectors.
    """
    index = made(factory, dim)
    settings = dict.fromkeys(settable(index), 16)
    return settings if holds_vectors(index) else {**settings, "rerank": 4}


def inner(index: Any) -> Any:
    """The index inside what transforms or refines."""
    faiss = library()
    while True:
        if isinstance(index, faiss.IndexPreTransform):
            index = faiss.downcast_index(index.index)
        elif isinstance(index, faiss.IndexRefine):
            index = faiss.downcast_index(index.base_index)
        else:
            return index


def settable(index: Any) -> tuple[str, ...]:
    """``efSearch``, ``nprobe`` or nothing."""
    faiss = library()
    core = inner(index)
    if isinstance(core, faiss.IndexIVF):
        return ("nprobe",)
    return ("efSearch",) if isinstance(core, faiss.IndexHNSW) else ()


def defaults(index: Any) -> dict[str, int]:
    """The settings that FAISS searches with where none are given."""
    core = inner(index)
    now = {"nprobe": lambda: core.nprobe, "efSearch": lambda: core.hnsw.efSearch}
    return {name: int(now[name]()) for name in settable(index)}


def holds_vectors(index: Any) -> bool:
    """Whether the index compares by the vectors themselves, to 16 bits at least, so that its scores are cosines."""
    faiss = library()
    if isinstance(index, faiss.IndexHNSWSQ):
        return bool(faiss.downcast_index(index.storage).sq.qtype == faiss.ScalarQuantizer.QT_fp16)
    return isinstance(index, faiss.IndexFlat | faiss.IndexIVFFlat | faiss.IndexHNSWFlat | faiss.IndexNSGFlat)


def takes_filter(index: Any) -> bool:
    """Whether FAISS can leave vectors out while it searches."""
    faiss = library()
    core = inner(index)
    return isinstance(core, faiss.IndexFlat | faiss.IndexIVF | faiss.IndexHNSW | faiss.IndexScalarQuantizer)


def parameters(index: Any, search: dict[str, int], selector: Any | None) -> Any | None:
    """FAISS's search parameters for an index; None where it takes none."""
    faiss = library()
    if isinstance(index, faiss.IndexPreTransform):
        within = parameters(faiss.downcast_index(index.index), search, selector)
        return None if within is None else faiss.SearchParametersPreTransform(index_params=within)
    if isinstance(index, faiss.IndexRefine):
        within = parameters(faiss.downcast_index(index.base_index), search, selector)
        return faiss.IndexRefineSearchParameters(k_factor=float(max(4.0, index.k_factor)), base_index_params=within)
    chosen = {} if selector is None else {"sel": selector}
    if isinstance(index, faiss.IndexIVF):
        probes = min(search["nprobe"], index.nlist)
        quantizer = faiss.downcast_index(index.quantizer)
        if isinstance(quantizer, faiss.IndexHNSW):
            chosen["quantizer_params"] = faiss.SearchParametersHNSW(efSearch=max(64, 2 * probes))
        # Index types have parameter types of their own where they have more to set.
        own = faiss.IVFPQSearchParameters if isinstance(index, faiss.IndexIVFPQ) else faiss.SearchParametersIVF
        return own(nprobe=probes, **chosen)
    if isinstance(index, faiss.IndexHNSW):
        walk = search["efSearch"]
        return faiss.SearchParametersHNSW(efSearch=walk, **chosen) if chosen else _walk(walk)
    return faiss.SearchParameters(**chosen) if selector is not None else None


@functools.lru_cache(64)
def _walk(entries: int) -> Any:
    """Kept, since making them takes a tenth of a short search."""
    return library().SearchParametersHNSW(efSearch=entries)


def bitmap(allowed: np.ndarray[Any, Any]) -> Any:
    """FAISS's filter for a mask over the labels."""
    return library().IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def lists(index: Any) -> int:
    """The lists of an inverted file; 1 of another kind."""
    faiss = library()
    core = inner(index)
    return int(core.nlist) if isinstance(core, faiss.IndexIVF) else 1


def reason(error: Exception) -> str:
    """What FAISS says, without where in its source it says so."""
    text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return re.sub(r"^Error in .* at \S+:\d+: (Error: )?", "", text).rstrip(". ")
