"""The encoder: contents of one shard in, one vector or one reason for each of them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from featstore.encode import workers
from featstore.encode.workers import Clock
from featstore.errors import IntegrityError, ItemError
from featstore.inputs import images, texts
from featstore.models import Backbone
from featstore.records import ImagePreprocessing, StageSeconds

__all__ = ["Encoded", "Encoder", "Observer", "Read"]

Read = Callable[[int], bytes | str]

# Texts are tokenised in pieces of this many: large enough for the tokeniser's own batching, small
# enough that two threads share a shard evenly.
_TEXTS_PER_PIECE = 256

# Images per inference call. Vectors do not depend on it (the batch is padded to this size and the
# kernels work row by row) and throughput hardly does on a CPU; memory and the delay of an interrupt do.
_IMAGES_PER_BATCH = {"cpu": 8, "cuda": 64}

# Padded tokens per inference call. On a CPU so few tokens' activations nearly stay in the core's own cache: for MiniLM,
# with texts short and long, twice as many were slower. A GPU wants it large.
_TOKENS_PER_BATCH = {"cpu": 256, "cuda": 16_384}


class Observer(Protocol):
    """Told about each item as it goes by; called from several threads."""

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """An item was decoded: RGB pixels (h, w, 3) as uint8, or its text."""

    def done(self, count: int, rejected: int) -> None:
        """That many items more are finished, so many of them rejected."""


@dataclass(frozen=True)
class Encoded:
    """The outcome for n items.

    ``vectors`` is (n, dim) float32; rows of rejected items are zero and named in ``errors``.
    """

    vectors: NDArray[np.float32]
    errors: dict[int, ItemError]
    seconds: StageSeconds
    truncated: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Encoder:
    """One backbone with what it needs to take raw contents.

    Args:
        backbone: The opened model.
        tokenizer: For texts: its tokeniser.
        threads: How many threads decode and call the backbone.
        batch_size: Images per call; a default for the device when None.
        token_budget: Padded tokens per call, for texts; a default for the device when None.
    """

    backbone: Backbone
    tokenizer: texts.Tokenizer | None = None
    threads: int = 1
    batch_size: int | None = None
    token_budget: int | None = None

    def encode(self, read: Read, count: int, observer: Observer, *, query: bool = False) -> Encoded:
        """Encodes items 0 … count-1.

        Args:
            read: Gives an item's content; called once each, from several threads.
            count: The number of items.
            observer: Told of each item.
            query: Texts are queries: use the model's query prompt.

        Raises:
            IntegrityError: The backbone gave another shape than its card says.
        """
        if self.backbone.card.modality == "image":
            return self._images(read, count, observer)
        return self._texts(read, count, observer, query)

    @property
    def batch(self) -> int:
        """Images per call, for texts padded tokens."""
        if self.backbone.card.modality == "image":
            return self.batch_size or _IMAGES_PER_BATCH[self._kind]
        return self.token_budget or _TOKENS_PER_BATCH[self._kind]

    @property
    def _kind(self) -> str:
        return self.backbone.device.partition(":")[0]

    def _images(self, read: Read, count: int, observer: Observer) -> Encoded:
        card = self.backbone.card
        assert card.image is not None
        how = card.image
        size = self.batch
        vectors = np.zeros((count, card.dim), np.float32)
        errors: dict[int, ItemError] = {}

        def batch(number: int, clock: Clock) -> None:
            rows = range(number * size, min(count, (number + 1) * size))
            pixels = np.zeros((size, *how.crop, 3), np.uint8)
            good: list[int] = []
            for row in rows:
                try:
                    with clock.stage("read"):
                        content = read(row)
                    with clock.stage("decode"):
                        rgb = _decode_image(content, how)
                        pixels[len(good)] = images.fit(rgb, how)
                        observer.decoded(row, rgb)
                except ItemError as error:
                    errors[row] = error
                else:
                    good.append(row)
            if good:
                with clock.stage("infer"):
                    output = self.backbone.images(pixels)
                self._keep(output, good, vectors, errors)
            observer.done(len(rows), sum(row in errors for row in rows))

        clocks = workers.run(-(-count // size), batch, threads=self.threads)
        return Encoded(vectors, errors, Clock.total(clocks))

    def _texts(self, read: Read, count: int, observer: Observer, query: bool) -> Encoded:
        card, tokenizer = self.backbone.card, self.tokenizer
        assert card.text is not None
        assert tokenizer is not None
        how = card.text
        vectors = np.zeros((count, card.dim), np.float32)
        errors: dict[int, ItemError] = {}
        ids: dict[int, NDArray[np.int32]] = {}
        cut: list[int] = []

        def tokenise(number: int, clock: Clock) -> None:
            rows = range(number * _TEXTS_PER_PIECE, min(count, (number + 1) * _TEXTS_PER_PIECE))
            good: list[int] = []
            found: list[str] = []
            for row in rows:
                try:
                    with clock.stage("read"):
                        content = read(row)
                    with clock.stage("decode"):
                        found.append(texts.decode(content))
                        observer.decoded(row, found[-1])
                except ItemError as error:
                    errors[row] = error
                else:
                    good.append(row)
            if good:
                with clock.stage("decode"):
                    encoded, truncated = tokenizer.encode(found, query=query)
                ids.update(zip(good, encoded, strict=True))
                cut.append(truncated)
            if len(good) < len(rows):
                observer.done(len(rows) - len(good), len(rows) - len(good))

        clocks = workers.run(-(-count // _TEXTS_PER_PIECE), tokenise, threads=self.threads)
        rows = np.array(sorted(ids), np.int64)
        lengths = np.array([len(ids[row]) for row in rows.tolist()], np.int64)
        groups = texts.batches(lengths, self.batch)
        # Longest first: the short ones at the end let the threads finish together.
        groups = groups[::-1]

        def batch(number: int, clock: Clock) -> None:
            good = rows[groups[number]].tolist()
            with clock.stage("infer"):
                output = self.backbone.texts(*texts.pad([ids[row] for row in good], how))
            self._keep(output, good, vectors, errors)
            observer.done(len(good), sum(row in errors for row in good))

        clocks += workers.run(len(groups), batch, threads=self.threads)
        return Encoded(vectors, errors, Clock.total(clocks), sum(cut), int(lengths.sum()))

    def _keep(
        self, output: NDArray[np.float32], rows: list[int], vectors: NDArray[np.float32], errors: dict[int, ItemError]
    ) -> None:
        """Stores the sound vectors of a batch; runtimes pass NaN on without a word."""
        dim = self.backbone.card.dim
        if output.ndim != 2 or output.shape[0] < len(rows) or output.shape[1] != dim:
            raise IntegrityError(
                f"{self.backbone.card.space_id}: the model gave an output of shape {output.shape}; "
                f"its card says ({len(rows)}, {dim})."
            )
        output = output[: len(rows)]
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(output).all(axis=1))
        zero: NDArray[np.bool_] = np.asarray(~output.any(axis=1))
        for at, row in enumerate(rows):
            if not finite[at]:
                errors[row] = ItemError("infer", "not_finite", "the model gave NaN or infinity for this item")
            elif zero[at]:
                errors[row] = ItemError("infer", "zero_vector", "the model gave a vector of zeros for this item")
            else:
                vectors[row] = output[at]


def _decode_image(content: bytes | str, how: ImagePreprocessing) -> NDArray[np.uint8]:
    try:
        return images.decode(content if isinstance(content, bytes) else content.encode(), how)
    except MemoryError as error:
        raise ItemError("decode", "out_of_memory", "decoding this image needs more memory than there is") from error
