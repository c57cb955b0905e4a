"""Real inputs that are on every machine: what the parity gate and the canaries are computed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TEXTS", "canary_texts", "digits", "enlarge", "photographs", "pictures"]

_PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""Source: scikit-learn's sample images, 427 by 640 pixels, CC BY 2.0."""


def pictures(number: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Cuts pictures out of two photographs: places, sizes and mirroring drawn from a seed.

    Returns:
        uint8 (number, height, width, 3).
    """
    from sklearn.datasets import load_sample_image

    photographs = [np.asarray(load_sample_image(name)) for name in _PHOTOGRAPHS]
    generator = np.random.Generator(np.random.PCG64(seed))
    found = np.empty((number, height, width, 3), np.uint8)
    for i in range(number):
        photograph = photographs[i % len(photographs)]
        rows, columns = photograph.shape[:2]
        side = int(generator.integers(min(96, rows), rows + 1))
        top, left = int(generator.integers(0, rows - side + 1)), int(generator.integers(0, columns - side + 1))
        crop = photograph[top : top + side, left : left + side]
        if generator.integers(0, 2):
            crop = crop[:, ::-1]
        found[i] = enlarge(crop, height, width)
    return found


def photographs() -> list[bytes]:
    """The photographs themselves, as JPEG files."""
    from importlib.resources import files

    return [(files("sklearn.datasets.images") / name).read_bytes() for name in _PHOTOGRAPHS]


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Handwritten digits: (1797, 8, 8, 3) grey pictures, and which digit each is.

    Source: the test set of Optical Recognition of Handwritten Digits (UCI), as scikit-learn ships it.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = (found.images * 255 / 16).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3), found.target.astype(np.int64)


def enlarge(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resizes (h, w, 3) bilinearly in whole numbers, so that every machine gets the same bytes."""

    def weights(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        places = (np.arange(new, dtype=np.int64) * 2 + 1) * old * 128 // new - 128
        places = np.clip(places, 0, (old - 1) * 256)
        low = places // 256
        return low, np.minimum(low + 1, old - 1), places % 256

    pixels = picture.astype(np.int64)
    low, high, share = weights(pixels.shape[0], height)
    pixels = pixels[low] * (256 - share)[:, None, None] + pixels[high] * share[:, None, None]
    low, high, share = weights(picture.shape[1], width)
    pixels = pixels[:, low] * (256 - share)[None, :, None] + pixels[:, high] * share[None, :, None]
    return ((pixels + (1 << 15)) >> 16).astype(np.uint8)


TEXTS: tuple[str, ...] = (
    "A man is playing a guitar on the street.",
    "Der Zug nach München fährt heute zwanzig Minuten später ab.",
    "ok",
    "The quarterly report shows that revenue grew by 4.2% while operating costs stayed flat, which the board "
    "attributes to lower energy prices, two renegotiated supply contracts and a hiring freeze in the first half.",
    "东京是日本的首都，也是世界上人口最多的城市之一。",
    "Le chat dort sur le canapé pendant que la pluie tombe.",
    "def quicksort(xs): return xs if len(xs) < 2 else quicksort([x for x in xs[1:] if x < xs[0]])",
    "Мы вернулись домой поздно вечером, когда уже стемнело.",
    "ERROR 2024-03-01T12:00:00Z worker-7: connection reset by peer (errno 104), retrying in 30 s",
    "¿Dónde está la biblioteca más cercana?",
    ".",
    "भारत में बहुत सी भाषाएँ बोली जाती हैं।",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen; it takes place in the chloroplasts "
    "of plants and algae, in two stages: the reactions that need light, and the Calvin cycle, which does not.",
    "Great phone, terrible battery 😡 — returned it after 3 days!!!",
    "هذا كتاب قديم عن تاريخ البحر المتوسط.",
    "To whom it may concern: the parcel with tracking number 1Z999AA10123456784 was delivered on Monday.",
)
"""Sixteen texts: nine languages, code, a log line, and lengths from one token to some fifty."""


def canary_texts(number: int = 64) -> list[str]:
    """Texts of lengths from one token to more than most models take, made of ``TEXTS``."""
    count = len(TEXTS)
    found = list(TEXTS[:number])
    for i in range(number - len(found)):
        pieces = [TEXTS[(i * 7 + j * 5) % count] for j in range(1 + i % 4 + (12 if i % 16 == 0 else 0))]
        found.append(" ".join(pieces))
    return found
