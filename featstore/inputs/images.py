"""Pictures: bytes to RGB pixels, pixels to the network's input size, and small previews.

Pixels are arrays of shape (height, width, 3), uint8, RGB, throughout.
"""

from featstore.inputs.images_decode import FORMATS, PIXEL_LIMIT, decode
from featstore.inputs.images_fit import THUMBNAIL, fit, thumbnail

__all__ = ["FORMATS", "PIXEL_LIMIT", "THUMBNAIL", "decode", "fit", "thumbnail"]
