"""The part of a transformers configuration that changes what a network computes."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["function_config"]

_NO_FUNCTION = frozenset(
    (
        *("_name_or_path", "architectures", "dtype", "finetuning_task", "gradient_checkpointing", "id2label"),
        *("label2id", "output_attentions", "output_hidden_states", "problem_type", "return_dict"),
        *("task_specific_params", "torch_dtype", "transformers_version", "use_cache"),
        # how training begins, what only a head or the making of text looks at
        *("bos_token_id", "decoder_start_token_id", "eos_token_id", "initializer_factor", "initializer_range"),
        *("logit_scale_init_value", "sep_token_id", "tie_word_embeddings"),
    )
)
_EXCEPT = {"clip_text_model": "eos_token_id"}
"""Source: transformers' CLIPTextTransformer: the vector is that of the first token with this id."""

_DROPPING = re.compile(r"(^|_)(p?drop|dropout|layerdrop|drop_path)(_prob|_rate|$)|pdrop$")


def function_config(config: Any) -> dict[str, Any]:
    """What of a configuration defines the function, equal however often and by whichever release it was saved.

    Left out is what the configuration's class says by itself, which one release writes down and another does not;
    what acts in training only, such as dropouts; and what only describes.

    Args:
        config: A ``PretrainedConfig``; those within it are treated alike.
    """
    try:
        usual = _values(type(config)())
    except (TypeError, ValueError, AttributeError):  # some cannot be made from nothing
        usual = {}
    kind = str(getattr(config, "model_type", ""))
    found: dict[str, Any] = {"model_type": kind}
    for key, value in sorted(_values(config).items()):
        inner = getattr(config, key, None)
        if hasattr(inner, "to_json_string"):
            found[key] = function_config(inner)
        elif key in _NO_FUNCTION and _EXCEPT.get(kind) != key:
            continue
        elif (key not in usual or value != usual[key]) and not _drops(key, value):
            found[key] = value
    return found


def _drops(key: str, value: object) -> bool:
    # ESM's ``token_dropout`` is a switch that acts on every text.
    return _DROPPING.search(key) is not None and not isinstance(value, bool)


def _values(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return found
