"""Items to vectors: read, decode or tokenise, batch, run the backbone, check. No table in sight."""

from featstore.encode.encoder import Encoded, Encoder, Observer

__all__ = ["Encoded", "Encoder", "Observer"]
