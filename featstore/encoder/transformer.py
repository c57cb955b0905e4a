"""``FeatstoreEncoder``: images or texts in, vectors out, as scikit-learn expects of a transformer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from featstore import founding, models
from featstore.encoder.contents import Contents, gather
from featstore.encoder.supply import supply
from featstore.errors import ItemError, NotFoundError, SettingsError, SpaceMismatchError, UsageError
from featstore.models import ModelRequest
from featstore.records import ModelCard
from featstore.settings import ExtractSettings, resolve
from featstore.store import Store

__all__ = ["FeatstoreEncoder"]


class FeatstoreEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns images or texts into vectors with a frozen backbone.

    A vector that the store has already, of equal content and in the same space, is taken from there; the others are
    computed as ``extract`` computes them and kept in memory, so that the folds of a search do not compute them anew.
    ``fit`` learns nothing: it settles which space the vectors are of, and ``transform`` refuses any other. What is
    pickled are the parameters and that space, never a model.

    For images an item of ``X`` is a path, a file's bytes, or pixels as uint8 (h, w), (h, w, 3) or (h, w, 4); for
    texts a ``str``, UTF-8 bytes, or the ``pathlib.Path`` of a text file. ``X`` is a list or array of them, a Series,
    or a frame of one column.

    Args:
        model: A backbone's name, a model's folder, or the id of a space in the store.
        store: The store's folder; by default the one that ``featstore.open()`` opens.
        weights: Take the model's weights from a ``.safetensors`` or ``.pth`` file.
        pooling: Pool in another way: ``mean``, ``cls``, ``last`` or ``max``.
        layer: Take another layer's output, by its name.
        dim: Keep the first values only, made of length 1 again.
        prompt_document: Put this in front of each text.
        prompt_query: Put this in front of each query.
        decode: ``fast`` lets the decoder reduce large JPEGs; a space of its own.
        query: The texts are queries: use the model's query prompt.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: Threads; by default the usable CPUs.
        errors: ``raise`` refuses an ``X`` with a bad item; ``nan`` gives NaN for it, and a warning.
        memory_mb: Vectors kept in this process for the next call, in megabytes; 0 for none.

    Attributes:
        space_id_: The space of the vectors.
        n_features_out_: Their length.

    Examples:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> make_pipeline(FeatstoreEncoder(model="minilm"), LogisticRegression()).fit(texts, y)    # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        pooling: str | None = None,
        layer: str | None = None,
        dim: int | None = None,
        prompt_document: str | None = None,
        prompt_query: str | None = None,
        decode: str | None = None,
        query: bool = False,
        device: str = "auto",
        workers: int | None = None,
        errors: Literal["raise", "nan"] = "raise",
        memory_mb: int = 256,
    ) -> None:
        self.model = model
        self.store = store
        self.weights = weights
        self.pooling = pooling
        self.layer = layer
        self.dim = dim
        self.prompt_document = prompt_document
        self.prompt_query = prompt_query
        self.decode = decode
        self.query = query
        self.device = device
        self.workers = workers
        self.errors = errors
        self.memory_mb = memory_mb

    def fit(self, X: object, y: object = None) -> FeatstoreEncoder:  # noqa: N803 (scikit-learn's own name)
        """Settles the space; exports the model into the store at its first use. Embeds nothing.

        Raises:
            SettingsError: A parameter is out of range.
            NotFoundError: There is no such model.
            UsageError: No model is named, or it cannot be used as given.
        """
        store = Store(self.store)
        founding.found(store.layout)
        card = models.ensure(store.layout, self._request())
        self.space_id_ = card.space_id
        self.n_features_out_ = card.dim
        return self

    def transform(self, X: object) -> NDArray[np.float32]:  # noqa: N803
        """The vectors.

        Args:
            X: n images or texts.

        Returns:
            (n, n_features_out_) float32, or a frame where ``set_output`` asked for one.

        Raises:
            UsageError: ``X`` holds something else, or with ``errors="raise"`` a bad item.
            SpaceMismatchError: The model's name now leads to another space than at ``fit``.
        """
        check_is_fitted(self)
        settings = self._settings()
        store = Store(self.store)
        card = self._card(store)
        contents = gather(X, card.modality)
        found = supply(
            store.layout, card, contents, settings, query=self.query, memory=max(0, int(self.memory_mb)) << 20
        )
        if found.errors:
            self._tell(found.errors, contents)
        return found.vectors

    @property
    def _n_features_out(self) -> int:
        return int(self.n_features_out_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _card(self, store: Store) -> ModelCard:
        """The card of the fitted space: from the store, or from the model's name where the store is another one."""
        try:
            return models.load_card(store.layout, self.space_id_)
        except NotFoundError:
            founding.found(store.layout)
            card = models.ensure(store.layout, self._request())
        if card.space_id != self.space_id_:
            raise SpaceMismatchError(
                f"the encoder was fitted in the space {self.space_id_}; '{self.model}' now leads to {card.space_id}.",
                hint="Fit it again, with all that was trained on its vectors.",
            )
        return card

    def _request(self) -> ModelRequest:
        return models.requested(self._settings())

    def _settings(self) -> ExtractSettings:
        """The parameters, checked as those of ``extract`` are; the environment has no say here."""
        if self.model is None:
            raise UsageError("no model was named.", hint="FeatstoreEncoder(model=…); see: featstore models list")
        if self.errors not in ("raise", "nan"):
            raise SettingsError(f"errors is {self.errors!r}; it is 'raise' or 'nan'.")
        options = ("pooling", "layer", "dim", "prompt_document", "prompt_query", "decode")
        shared = ("model", "weights", *options, "device", "workers")
        given = {name: getattr(self, name) for name in shared}
        if given["weights"] is not None:
            given["weights"] = os.fspath(given["weights"])
        return resolve(ExtractSettings, {"source": "", **given}, environ={}, origin="argument")[0]

    def _tell(self, errors: Mapping[int, ItemError], contents: Contents) -> None:
        first = "; ".join(f"X[{row}] {contents.names[row]}: {errors[row].message}" for row in sorted(errors)[:3])
        more = "; …" if len(errors) > 3 else ""
        message = f"{len(errors):,} of {len(contents.names):,} items have no vector: {first}{more}"
        if self.errors == "raise":
            raise UsageError(message, hint='With errors="nan" their rows are NaN.', context={"rows": sorted(errors)})
        warnings.warn(message, UserWarning, stacklevel=3)
