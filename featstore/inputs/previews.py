"""What is kept of an item so that a person can look at it later without its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featstore.inputs import images

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TEXT_BEGINNING", "of_image", "of_text"]

TEXT_BEGINNING = 500
"""Characters kept of a text."""


def of_image(rgb: NDArray[np.uint8]) -> bytes:
    """A JPEG thumbnail of decoded pixels (height, width, 3); it carries no EXIF, so no place and no camera."""
    return images.thumbnail(rgb)


def of_text(text: str) -> str:
    """The beginning of a text, its length in characters at most ``TEXT_BEGINNING``."""
    return text[:TEXT_BEGINNING]
