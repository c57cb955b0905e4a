"""Which kinds of index to try for so many vectors of so many values, best first."""

from __future__ import annotations

from dataclasses import dataclass, field

from featstore.errors import UsageError
from featstore.neighbours.knobs import checked_factory

__all__ = ["KINDS", "Recipe", "bytes_per_vector", "recipes"]

KINDS = ("flat", "hnsw", "ivf", "ivf-sq8", "ivf-pq")

# Up to this many values one query takes exact search some milliseconds.
_SMALL = 8_000_000
# A graph has that many links a vector, twice as many at its bottom, and keeps the vectors to 16 bits, since a search
# mostly waits for memory. bench_search.py has it beside graphs of others.
_LINKS = 16
# Centroids need 39 vectors each to be trained well. Source: FAISS, ClusteringParameters.min_points_per_centroid.
_PER_LIST = 39


@dataclass(frozen=True)
class Recipe:
    """How an index is made and where the search for its settings begins.

    ``kind`` is one of ``KINDS`` or ``custom``, ``factory`` FAISS's description of it. ``search`` holds ``efSearch``
    or ``nprobe``, and ``rerank`` where the index holds less than the vectors: candidates for each wanted hit, which
    are compared by the vectors themselves.
    """

    kind: str
    factory: str
    search: dict[str, int] = field(default_factory=dict)


def recipes(
    n: int, d: int, *, kind: str | None = None, factory: str | None = None, memory: int | None = None
) -> list[Recipe]:
    """The kinds of index to try, best first; ``flat``, which is exact, last unless something forbids it.

    Args:
        n: Vectors.
        d: Values of each.
        kind: This kind only.
        factory: This FAISS description only, such as ``IVF4096,PQ64``.
        memory: Bytes that the index may take.

    Raises:
        UsageError: No such kind, a description that FAISS cannot make for such vectors, or nothing that fits.
    """
    if factory is not None:
        if kind not in (None, "custom"):
            raise UsageError(f"both the kind '{kind}' and the factory '{factory}' are given; one of them says it all.")
        return [Recipe("custom", factory, checked_factory(factory, d))]
    if kind is not None and kind not in KINDS:
        raise UsageError(f"there is no kind '{kind}' of index.", hint=f"Kinds: {', '.join(KINDS)}.")
    if kind is not None:
        wanted = [kind]
    elif n * d <= _SMALL:
        wanted = ["flat"]
    else:
        wanted = ["hnsw", "ivf", "ivf-sq8", "ivf-pq", "flat"]
    found = [_recipe(one, n, d) for one in wanted]
    if memory is None:
        return found
    if found == [Recipe("flat", "Flat")] and kind is None:
        found = [_recipe(one, n, d) for one in ("flat", "ivf-sq8", "ivf-pq")]
    fitting = [one for one in found if bytes_per_vector(one, d) * n <= memory]
    if not fitting:
        least = min(found, key=lambda one: bytes_per_vector(one, d))
        raise UsageError(
            f"no index of {n:,} × {d} fits in {memory:,} bytes; the smallest, {least.kind}, "
            f"takes {bytes_per_vector(least, d) * n:,}.",
            hint="Allow more memory.",
        )
    return fitting


def bytes_per_vector(recipe: Recipe, d: int) -> int:
    """About how many bytes a vector takes in an index of one of ``KINDS``; a custom one is known once it is built."""
    match recipe.kind:
        case "hnsw":
            return 2 * d + 2 * _LINKS * 4 + 16
        case "ivf":
            return 4 * d + 8 + 4 * d // _PER_LIST
        case "ivf-sq8":
            return d + 8 + 4 * d // _PER_LIST
        case "ivf-pq":
            return _codes(d) // 2 + 8 + 4 * d // _PER_LIST
    return 4 * d


def _recipe(kind: str, n: int, d: int) -> Recipe:
    lists = max(2, min(int(4 * n**0.5), n // _PER_LIST))
    match kind:
        case "hnsw":
            return Recipe(kind, f"HNSW{_LINKS}_SQfp16", {"efSearch": 64})
        case "ivf":
            return Recipe(kind, f"IVF{lists},Flat", {"nprobe": 16})
        case "ivf-sq8":
            return Recipe(kind, f"IVF{lists},SQ8", {"nprobe": 16, "rerank": 2})
        case "ivf-pq":
            return Recipe(kind, f"IVF{lists},PQ{_codes(d)}x4fs", {"nprobe": 16, "rerank": 8})
    return Recipe("flat", "Flat")


def _codes(d: int) -> int:
    """Parts that a vector is cut into: two values each where that comes out even."""
    return next((d // part for part in (2, 3, 4, 5, 7) if d % part == 0), d)
