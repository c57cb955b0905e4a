"""``--decode fast``: large JPEGs come reduced from their decoder. Another function of the picture, so another space."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from featstore.models.catalog import ModelOptions

if TYPE_CHECKING:
    from featstore.models.original import Original

__all__ = ["chosen", "marked"]


def chosen(original: Original, options: ModelOptions) -> Original:
    """A model with the decoding that was asked for; its graph stays as it is.

    Args:
        original: The loaded model; ``check_options`` has let the options through.
        options: What the user changes of it.
    """
    if options.decode is None or original.image is None:
        return original
    image = replace(original.image, decode=options.decode)
    return replace(original, image=image, slug=marked(original.slug, options))


def marked(slug: str, options: ModelOptions) -> str:
    """What a space is called, with a word for its decoding."""
    return slug if options.decode is None else f"{slug}-{options.decode}"
