"""What an index is tuned on where its own items will not be what is asked: texts through the way that search takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featstore.errors import HubError, NotFoundError, UsageError
from featstore.models import load_card
from featstore.search import files, vector_files
from featstore.search.queries import Query, of_vectors
from featstore.search.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from featstore.layout import Layout
    from featstore.tables import FeatureTable

__all__ = ["captions", "likely_queries"]

_COLUMNS = ("caption", "captions", "text")
# As many as an index is asked, for tuning and for its figures.
_MOST = 2000


def likely_queries(
    layout: Layout,
    features: FeatureTable,
    given: str | os.PathLike[str] | NDArray[np.float32],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float32]:
    """The vectors of queries that an index is to be tuned on.

    Args:
        layout: The store.
        features: The table.
        given: Vectors (q, dim), a ``.npy`` or Parquet file of them, or queries as ``search`` takes them: a text a
            line, JSON lines with ``_id`` and ``text``, a folder.
        progress: Told where a model has to be brought into the store.

    Returns:
        (q, dim) float32.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It holds no queries, or nothing leads from them to the table's vectors without a bridge.
        SpaceMismatchError: The vectors are of another space.
    """
    if isinstance(given, np.ndarray):
        return _through(layout, features, of_vectors(given), progress)
    path = Path(given)
    if path.suffix in (".npy", ".parquet"):
        found, origin = vector_files.read(path)
        Routes(layout, features, None, progress).check_origin(origin, path)
        return _through(layout, features, found, progress)
    modality = load_card(layout, features.space_id).modality
    return _through(layout, features, files.read(given, modality), progress)


def captions(
    layout: Layout, features: FeatureTable, *, progress: Callable[[str], None] = lambda _: None
) -> NDArray[np.float32] | None:
    """The vectors of some captions of a table of images that a two-tower model has embedded.

    Returns:
        (q, dim) float32; None where the model has no text tower, the table no column ``caption``, ``captions`` or
        ``text``, or the text tower is out of reach.
    """
    try:
        card = load_card(layout, features.space_id)
    except NotFoundError:
        return None
    column = next((name for name in _COLUMNS if name in features.column_names), None)
    if card.modality != "image" or card.joint_id is None or column is None:
        return None
    values = dict.fromkeys(v for v in features.rows([column])[column].to_pylist() if isinstance(v, str) and v.strip())
    picked = np.random.default_rng(0).permutation(np.array(list(values), object))[:_MOST]
    if not len(picked):
        return None
    progress(f"tuning on {len(picked):,} captions of the column '{column}'")
    try:
        return _through(layout, features, [Query(text, "text", text) for text in picked.tolist()], progress)
    except (UsageError, HubError) as error:
        progress(f"no captions are asked: {error.message}")
        return None


def _through(
    layout: Layout, features: FeatureTable, asked: list[Query], progress: Callable[[str], None]
) -> NDArray[np.float32]:
    routes = Routes(layout, features, None, progress)
    parts = routes.parts(asked, np.full(len(asked), -1, np.int64))
    if any(part.space is not routes.vectors for part in parts):
        raise UsageError(
            f"texts reach '{features.name}' through a bridge, and an index does not serve there.",
            hint="Leave --queries out: the index serves pictures, ids and vectors.",
        )
    return np.concatenate([np.zeros((0, features.dim), np.float32), *(part.vectors for part in parts)])
