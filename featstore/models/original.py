"""A network as its authors made it, ready to be exported: what every loader returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featstore.records import ImagePreprocessing, Modality, TextPreprocessing

if TYPE_CHECKING:
    import torch

__all__ = ["Original"]


@dataclass(frozen=True, kw_only=True)
class Original:
    """A loaded network, wrapped so that its inputs and output are those of the exported graph.

    Attributes:
        graph: uint8 (b, h, w, 3) or int64 ids and mask (b, t) → float32 (b, dim); in evaluation mode.
        state: The tensors that compute the vector, for the space's digest.
        config: What else of the architecture changes the function (empty where its name says all).
        encode: For texts: strings → lists of token ids as the reference tokenizer gives them, truncated.
        tokenizer: For texts: the text of ``tokenizer.json``, without truncation and padding.
        joint_id: Equal for the two towers of one model, whose vectors may be compared.
        slug: What the space is called.
        weights_sha256: Of the file, or of the folder's files.
    """

    graph: torch.nn.Module
    state: dict[str, torch.Tensor]
    model: str
    slug: str
    family: str
    architecture: str
    modality: Modality
    layer: str
    pooling: str
    normalize: bool
    source: str
    weights_sha256: str
    libraries: tuple[str, ...]
    licence: str = "unknown"
    training_data: str = "unknown"
    url: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    image: ImagePreprocessing | None = None
    text: TextPreprocessing | None = None
    tokenizer: str | None = None
    encode: Callable[[Sequence[str]], list[list[int]]] | None = None
    joint_id: str | None = None

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.graph.parameters())
