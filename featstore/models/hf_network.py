"""A transformers network from a local folder, through the library's own loader, never with code of the folder's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.errors import UsageError
from featstore.models import quiet, weights

if TYPE_CHECKING:
    import torch

__all__ = ["network_of"]

_SHOWN = 5


def network_of(place: Path, file: Path | None, *, text: bool = False) -> torch.nn.Module:
    """The network of a folder in float32 and evaluation mode, its weights from there or from a file.

    The tanh pooler of BERT and ViT is taken off, and of a text network any other.

    Raises:
        UsageError: transformers does not know it, or the weights do not fit.
        IntegrityError: The weights are damaged or hold NaN.
    """
    import torch

    state = None if file is None else weights.read(file)
    importlib.import_module("transformers.utils.logging")  # so that ``quiet`` can switch off its progress bars
    with quiet.libraries():
        from transformers import AutoConfig, AutoModel

        wanted: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32, "output_loading_info": True}
        try:
            config = AutoConfig.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
            if getattr(config, "is_encoder_decoder", False):
                raise UsageError(
                    f"{place}: encoder-decoder models ({config.model_type}) are not supported.",
                    hint="Use an encoder, a decoder, or a sentence-transformers folder of one.",
                )
            if state is None:
                network, found = AutoModel.from_pretrained(
                    str(place), config=config, local_files_only=True, trust_remote_code=False, **wanted
                )
            else:
                with torch.device("meta"):
                    kind: Any = type(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
                # Through the library's own loader, which knows the names of older files.
                network, found = kind.from_pretrained(None, config=config, state_dict=state, **wanted)
        except UsageError:
            raise
        except Exception as error:  # transformers raises whatever its parsers meet
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"transformers cannot load {place if file is None else file}: {first[:300]}",
                hint="The folder must hold config.json and model.safetensors of a known architecture.",
            ) from error
    source = place.name if file is None else file.name
    if getattr(network, "pooler", None) is not None and (text or hasattr(network.pooler, "dense")):
        network.pooler = None  # not in the vector's way, and often absent from the file
    missing = [f"missing {name}" for name in found["missing_keys"] if not name.startswith("pooler.")]
    wrong = [*missing, *(str(name) for name in found["mismatched_keys"])]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UsageError(
            f"the weights from {source} do not fit the model: {'; '.join(wrong[:_SHOWN])}{more}.",
            hint="Give the --model whose architecture these weights were trained for.",
        )
    weights.check_finite(network.state_dict(), source)
    return network.eval()  # type: ignore[no-any-return]
