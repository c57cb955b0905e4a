"""Captioned pictures for the tests of bridges: captions, their real vectors, and pictures' vectors made from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stores import copy_models
from tables_kit import raw_rows

import featstore
from featstore.extract.shard import open_encoder
from featstore.models import ModelRequest, find
from featstore.records import ModelCard
from featstore.settings import ExtractSettings
from featstore.store import Store
from featstore.tables import FeatureTable

__all__ = ["CAPTIONS", "add_table", "caption_vectors", "captioned", "card_of", "pictured"]

_THINGS = """
heron owl walrus tractor violin lighthouse pineapple cactus snowman bicycle volcano umbrella teapot dolphin pumpkin
castle hammer butterfly sailboat trumpet mushroom penguin ladder telescope strawberry glacier camel rocket piano
sunflower anchor waterfall scorpion helicopter cheese mailbox compass giraffe candle drum bridge shark tulip kettle
windmill zebra guitar lobster envelope skyscraper carrot moon turtle scissors ambulance banana kite desert microscope
rooster fountain ski helmet peacock saxophone avocado submarine glove eagle railway onion crown spider elephant lamp
bread tornado flute squirrel battleship orchid chair rabbit newspaper canoe garlic parachute hedgehog clock igloo
watermelon truck frog trophy cathedral lemon whale keyboard acorn tent beetle bus necklace tiger raincloud doorknob
pizza seahorse chimney wheelbarrow jellyfish suitcase corn flamingo stapler moose bathtub dice raspberry satellite
"""
CAPTIONS = tuple(f"{'An' if word[0] in 'aeiou' else 'A'} {word}." for word in _THINGS.split())


def captioned(model_store: Path, folder: Path) -> Path:
    """A folder with a store that holds the models and the table ``stamps`` with the column ``caption``."""
    store = featstore.open(copy_models(model_store, folder / "featstore-data"))
    vectors = pictured(caption_vectors(store, CAPTIONS))
    add_table(store, "stamps", vectors, caption=list(CAPTIONS))
    return folder


def card_of(store: Store, model: str) -> ModelCard:
    card = find(store.layout, ModelRequest(model=model))
    assert card is not None
    return card


def caption_vectors(store: Store, captions: Sequence[str]) -> NDArray[np.float32]:
    encoder = open_encoder(
        store.layout, card_of(store, "minilm"), ExtractSettings(source="", model="minilm", device="cpu")
    )
    return encoder.encode(lambda row: captions[row], len(captions), _Silent()).vectors


def pictured(texts: NDArray[np.float32], *, noise: float = 0.02, seed: int = 0) -> NDArray[np.float32]:
    """Vectors as long as an image model's: the texts', turned, shifted and with noise on them."""
    generator = np.random.default_rng(seed)
    turn = generator.standard_normal((texts.shape[1], 1280), np.float32) / np.sqrt(texts.shape[1])
    spread = noise * generator.standard_normal((len(texts), 1280), np.float32)
    return np.asarray(texts @ turn + spread + 0.05, np.float32)


def add_table(
    store: Store, name: str, vectors: NDArray[np.float32], *, model: str = "efficientnet_lite0", **columns: object
) -> None:
    """A table of given vectors in a model's space."""
    card = card_of(store, model)
    table = FeatureTable.staging(store.layout, name, card.space_id, card.dim)
    rows = table.align(raw_rows(len(vectors), **columns))
    table.commit(run_id="run1", add=[table.write_part("run1", 0, rows, vectors)], remove=[], details={})


class _Silent:
    def decoded(self, row: int, content: NDArray[np.uint8] | str) -> None:
        """Nobody watches."""

    def done(self, count: int, rejected: int) -> None:
        """Nobody watches."""
