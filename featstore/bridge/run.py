"""One bridge: pairs, vectors, groups, the map, its figures; kept only where it finds more than chance does."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from featstore import models
from featstore.bridge import held_out, kept, nested, weights
from featstore.bridge.grouping import grouped
from featstore.bridge.maps import Candidate
from featstore.bridge.pairs import Pairs, read
from featstore.errors import GateError, NotFoundError, UsageError
from featstore.extract.progress import Reporter
from featstore.extract.shard import open_encoder
from featstore.layout import Layout
from featstore.models import ModelRequest
from featstore.records import BridgeCard, BridgeResult, ModelCard
from featstore.settings import ExtractSettings, resolve
from featstore.tables import FeatureTable, past

__all__ = ["LEAST_GROUPS", "make"]

LEAST_GROUPS = 50
"""Ten different pairs in each fold: below, recall@10 says nothing."""


def make(
    layout: Layout,
    features: FeatureTable,
    to: str,
    pairs: str | os.PathLike[str],
    *,
    device: str | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> BridgeResult:
    """Learns a linear map from a table's image space into a text space, measures and keeps it.

    The captions are embedded as documents, with the model's prompt for them: the pictures take the place of the
    documents that texts are compared with. Figures from text to image are of captions embedded as queries.

    Args:
        layout: The store.
        features: The table with the pictures.
        to: The text model, by any name that ``extract`` takes.
        pairs: A column of the table with captions, or a CSV file with ``item_id`` and ``caption``.
        device: Where the captions are embedded, as in ``ExtractSettings``.
        dry_run: Learn and measure, but keep nothing; the text model must be in the store.
        reporter: Told of progress.

    Raises:
        UsageError: The models take something else, need no bridge, or there are too few different pairs.
        NotFoundError: There is no such model, column or file.
        GateError: What was learned finds no more than chance would; nothing is kept.
        IntegrityError: A model or a file of the table is damaged.
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    settings, _ = resolve(ExtractSettings, {"source": "", "model": to, "device": device})
    past.check_kept(layout, features)
    image = models.load_card(layout, features.space_id)
    if image.modality != "image":
        raise UsageError(f"{features.name} holds texts ({image.space_id}); a bridge leads from images to texts.")
    found = read(features, pairs)
    if not len(found):
        raise UsageError(
            f"no item of {features.name} has a caption in {pairs}.",
            hint=f"{found.without_item:,} captions are of items that the table does not have."
            if found.without_item
            else None,
        )
    text = _text_model(layout, image, to, dry_run=dry_run, reporter=reporter)
    before = len(found)
    found, documents, queries = _captions(layout, text, found, settings, reporter)
    pictures = features.vectors(found.file, found.at)
    reporter.stage("grouping what is nearly the same")
    groups = grouped(pictures, documents, found.item, found.content, found.wording)
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < LEAST_GROUPS:
        raise UsageError(
            f"{len(found):,} captioned pictures of {features.name} fall into {count:,} groups of different ones; "
            f"at least {LEAST_GROUPS} are needed.",
            hint="Pictures or captions that are nearly the same count as one. A few fixed labels call for a head, "
            "not for a bridge.",
        )
    reporter.stage("fitting", nested.FITS)
    learned = held_out.learn(pictures, documents, queries, groups, reporter.advance)
    content = kept.encode(learned.map)
    assert features.version is not None
    card = BridgeCard(
        image_space=image.space_id,
        image_digest=image.digest,
        image_dim=image.dim,
        text_space=text.space_id,
        text_digest=text.digest,
        text_dim=text.dim,
        table=features.name,
        version=features.version,
        pairs=len(found),
        groups=count,
        method=learned.candidate.method,
        strength=_strength(learned.candidate, image.dim, text.dim),
        queries=learned.queries,
        gallery=learned.gallery,
        text_to_image=learned.text_to_image,
        image_to_text=learned.image_to_text,
        weights=weights.artefact(content, "bridge"),
        featstore=models.versions().get("featstore", "unknown"),
        created_ts=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    _gate(card)
    if not dry_run:
        kept.publish(layout, card, content)
    return BridgeResult(
        card=card,
        kept=not dry_run,
        path=str(layout.storage.local(layout.bridge(image.space_id, text.space_id))),
        without_caption=found.without_caption,
        without_item=found.without_item,
        refused=before - len(found),
        sampled=found.sampled,
        seconds=time.monotonic() - started,
        warnings=_warnings(groups),
    )


def _text_model(layout: Layout, image: ModelCard, to: str, *, dry_run: bool, reporter: Reporter) -> ModelCard:
    request = ModelRequest(model=to)
    if models.modality_of(request, layout) != "text":
        raise UsageError(
            f"--to {to} takes images; a bridge leads from images to texts.", hint="For instance --to minilm"
        )
    text = models.find(layout, request)
    if text is None:
        if dry_run:
            raise NotFoundError(
                f"the store does not hold {to} yet, and a dry run brings nothing into it.",
                hint="Leave out --dry-run, or use the model once: featstore extract TEXTS --model " + to,
            )
        text = models.ensure(layout, request, progress=reporter.message)
    if text.joint_id is not None and text.joint_id == image.joint_id:
        raise UsageError(
            f"{image.space_id} and {text.space_id} are the two towers of one model: their vectors are compared "
            "without a bridge.",
            hint="featstore search NAME --text STRING",
        )
    return text


class _Progress:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nothing is kept of it."""

    def done(self, count: int, rejected: int) -> None:
        self._reporter.advance(count, rejected)


def _captions(
    layout: Layout, card: ModelCard, pairs: Pairs, settings: ExtractSettings, reporter: Reporter
) -> tuple[Pairs, NDArray[np.float32], NDArray[np.float32]]:
    """The pairs whose captions the model takes, those captions as documents and as queries; each distinct one once."""
    assert card.text is not None
    texts = list(dict.fromkeys(pairs.captions))
    place = {text: at for at, text in enumerate(texts)}
    encoder = open_encoder(layout, card, replace(settings, model=card.space_id))
    models.check_canaries(layout, card, encoder.backbone)
    roles = [False] if card.text.prompt_query == card.text.prompt_document else [False, True]
    reporter.stage("embedding captions", len(texts) * len(roles))
    good = np.ones(len(texts), np.bool_)
    vectors = []
    for query in roles:
        encoded = encoder.encode(lambda at: texts[at], len(texts), _Progress(reporter), query=query)
        good[list(encoded.errors)] = False
        vectors.append(encoded.vectors)
    where = np.array([place[caption] for caption in pairs.captions], np.int64)
    kept_pairs = np.flatnonzero(good[where])
    found = [of[where[kept_pairs]] for of in vectors]
    return pairs.of(kept_pairs), found[0], found[-1]


def _strength(candidate: Candidate, image_dim: int, text_dim: int) -> float:
    """A rotation has no more dimensions than either side."""
    return candidate.strength if candidate.method == "ridge" else min(candidate.strength, image_dim, text_dim)


def _gate(card: BridgeCard) -> None:
    """Refuses a map that finds no more pictures than chance would, at 1 and at 10."""
    if all(recall.low <= recall.chance for recall in card.text_to_image):
        figures = ", ".join(
            f"recall@{r.k} {r.value:.3f} [{r.low:.3f}–{r.high:.3f}], chance {r.chance:.3f}" for r in card.text_to_image
        )
        raise GateError(
            f"nothing leads from these pictures to their captions: {figures} on {card.queries:,} held-out pairs.",
            hint="Captions must say what is in the pictures; more of them help. Nothing was kept.",
        )


def _warnings(groups: NDArray[np.int64]) -> tuple[str, ...]:
    largest = int(np.bincount(groups).max())
    if largest <= len(groups) // 10:
        return ()
    return (f"{largest:,} of {len(groups):,} pairs are nearly the same and count as one group",)
