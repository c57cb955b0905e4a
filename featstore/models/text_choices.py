"""What the user changes of a text model, fitted to what its folder says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from featstore.errors import UsageError
from featstore.models.catalog import ModelOptions
from featstore.models.folder import Dense, FolderSpec
from featstore.records import TextPreprocessing

__all__ = ["changed", "check_prompts", "check_widths"]


def changed(spec: FolderSpec, options: ModelOptions) -> FolderSpec:
    """The folder's description with pooling, layer and prompts as the user wants them.

    A named layer replaces the last hidden state. Dense layers of the folder, which were trained on that,
    are left out then; a normalisation stays.

    Raises:
        UsageError: An option does not fit the model, or the model a prompt.
    """
    if options.pooling is not None:
        if options.pooling == "cls" and spec.decoder:
            raise UsageError(
                f"--pooling cls does not fit {spec.folder.name}: the first token of a decoder has seen no other.",
                hint="Use --pooling last, mean or max.",
            )
        spec = replace(spec, pooling=("lasttoken" if options.pooling == "last" else options.pooling,))
    if options.layer is not None:
        spec = replace(spec, layer=options.layer, tail=tuple(step for step in spec.tail if step == "normalize"))
    for flag, prompt in (("--prompt-document", options.prompt_document), ("--prompt-query", options.prompt_query)):
        if prompt is not None and not _sound(prompt):
            raise UsageError(f"{flag} holds half of a surrogate pair, which is no character.")
    document, query = options.prompt_document, options.prompt_query
    spec = replace(
        spec,
        prompt_document=spec.prompt_document if document is None else document,
        prompt_query=spec.prompt_query if query is None else query,
    )
    if not spec.include_prompt and (spec.prompt_document or spec.prompt_query):
        raise UsageError(
            f"{spec.folder}: this model pools without the prompt's tokens (include_prompt false), which featstore "
            "does not support.",
            hint="Leave its prompts out: --prompt-document '' --prompt-query '' (other vectors than its authors').",
        )
    return spec


def check_widths(spec: FolderSpec, width: int) -> None:
    """Refuses a pooling whose vector the folder's first dense layer does not take.

    Args:
        spec: The description, changed.
        width: The length of one token's vector.

    Raises:
        UsageError: It does not fit.
    """
    first = next((step for step in spec.tail if isinstance(step, Dense)), None)
    given = width * len(spec.pooling)
    if first is not None and first.inputs != given:
        raise UsageError(
            f"{spec.folder}: pooling {'+'.join(spec.pooling)} gives {given} values, and its dense layer takes "
            f"{first.inputs}.",
            hint="Leave --pooling out.",
        )


def check_prompts(name: str, how: TextPreprocessing, length: Callable[[str], int]) -> None:
    """Refuses prompts that leave no room for a text.

    Args:
        name: The model, for the message.
        how: Prompts and maximum length.
        length: Gives the tokens of a text, special ones included, nothing cut.

    Raises:
        UsageError: A prompt has as many tokens as the model takes.
    """
    for flag, prompt in (("--prompt-document", how.prompt_document), ("--prompt-query", how.prompt_query)):
        if prompt and (tokens := length(prompt)) >= how.max_length:
            raise UsageError(
                f"the prompt of {flag} has {tokens} tokens with the special ones, and {name} takes {how.max_length}: "
                "nothing of a text would be left.",
                hint="Use a shorter prompt.",
            )


def _sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
