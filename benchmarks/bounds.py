"""What bare decoding and inference cost: the bound that a whole run is compared with.

One thread does nothing but the work: pictures from memory through decoding and resizing, then batches through the
session; nothing is listed, hashed, previewed or written. Its CPU seconds over the number of cores are the least that a
run with the same decoder and runtime can take.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import featstore
from featstore import models
from featstore.inputs import images, texts
from featstore.machine import available_cpus

__all__ = ["image_bound", "text_bound"]


def image_bound(store: featstore.Store, space_id: str, files: Sequence[Path], batch: int = 8) -> float:
    """Seconds that decoding and inference of some pictures take at least, on all cores."""
    card = models.load_card(store.layout, space_id)
    how = card.image
    assert how is not None
    backbone = models.open_backbone(store.layout, card, device="cpu", threads=1)
    contents = [file.read_bytes() for file in files]
    pixels = np.zeros((batch, *how.crop, 3), np.uint8)
    backbone.images(pixels)
    start = time.process_time()
    for first in range(0, len(contents), batch):
        for at, content in enumerate(contents[first : first + batch]):
            pixels[at] = images.fit(images.decode(content, how), how)
        backbone.images(pixels[: len(contents) - first])
    return (time.process_time() - start) / available_cpus()


def text_bound(store: featstore.Store, space_id: str, contents: Sequence[str], budget: int = 256) -> float:
    """Seconds that tokenising and inference of some texts take at least, on all cores."""
    card = models.load_card(store.layout, space_id)
    assert card.text is not None
    backbone = models.open_backbone(store.layout, card, device="cpu", threads=1)
    tokenizer = texts.Tokenizer(store.layout.storage.local(store.layout.model(space_id, "tokenizer.json")), card.text)
    backbone.texts(*texts.pad([tokenizer.encode(["warm"])[0][0]], card.text))
    start = time.process_time()
    ids, _ = tokenizer.encode(list(contents))
    for rows in texts.batches(np.array([len(one) for one in ids], np.int64), budget):
        backbone.texts(*texts.pad([ids[row] for row in rows.tolist()], card.text))
    return (time.process_time() - start) / available_cpus()
