"""What a comparison is asked for, checked before anything is downloaded or embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from featstore import models
from featstore.errors import SettingsError, UsageError
from featstore.extract import opening
from featstore.extract.shard import source_options
from featstore.layout import Layout
from featstore.models import ModelRequest
from featstore.records import SettingValue, SourceRecord
from featstore.settings import MODEL_OPTIONS, ExtractSettings, resolve
from featstore.sources import Source, open_source

__all__ = ["Request", "check"]

_SAMPLE = 2_000

# Settings that would make the models' items or tables differ, with what to do instead.
_OF_ONE_MODEL = ("weights", *MODEL_OPTIONS)
_OF_ONE_RUN = ("limit", "add", "allow_removals", "retype")
_OF_TOKENIZERS = ("chunk_tokens", "chunk_overlap")


@dataclass(frozen=True)
class Request:
    """A comparison that can be done.

    Attributes:
        settings: Of ``extract``, for the first model, with what is remembered of the table.
        origins: Where each came from.
        requests: The models.
        name: The table's name.
        source: The opened source.
        record: The table's source record as it will be.
    """

    settings: ExtractSettings
    origins: dict[str, SettingValue]
    requests: tuple[ModelRequest, ...]
    name: str
    source: Source
    record: SourceRecord

    def origins_of(self, model: str) -> dict[str, SettingValue]:
        """The origins for the run of one model."""
        return {**self.origins, "model": SettingValue(value=model, origin="flag")}


def check(layout: Layout, source: str, names: Sequence[str], given: Mapping[str, object]) -> Request:
    """Resolves the settings, finds the models and opens the source.

    Raises:
        SettingsError: A setting is unknown, out of range, or has no place in a comparison.
        NotFoundError: There is no such model or source.
        UsageError: The models do not take the same kind of items, or the source cannot be compared on.
    """
    names = [name.strip() for name in names]
    if not names or not all(names):
        raise SettingsError("no models were named.", hint="Name them with commas: --models efficientnet_lite0,resnet50")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"named twice: {', '.join(twice)}.")
    if source == "-":
        raise UsageError(
            "a list on stdin can be read only once, and a comparison reads its source for each model.",
            hint="Compare on the folder or table itself.",
        )
    settings, resolved = resolve(ExtractSettings, {"source": source, "model": names[0], **given})
    settings, origins = _sampled(settings, dict(resolved.origins))
    _refuse(settings, (*_OF_ONE_MODEL, *_OF_ONE_RUN))
    requests = tuple(ModelRequest(model=name) for name in names)
    modality = {request.model: models.modality_of(request, layout) for request in requests}
    if len(set(modality.values())) > 1:
        pictures, words = (", ".join(n for n, of in modality.items() if of == kind) for kind in ("image", "text"))
        raise UsageError(
            f"models of images and of texts cannot be compared: {pictures} for images, {words} for texts.",
            hint="Name models of one kind: featstore models list",
        )
    name = opening.table_name(settings)
    settings, origins = opening.remembered(layout, name, settings, origins)
    _refuse(settings, _OF_TOKENIZERS)
    opened = open_source(settings.source, modality=modality[names[0]], options=source_options(settings))
    record = opening.check_source(layout, name, opened, modality[names[0]], settings)
    return Request(settings, origins, requests, name, opened, record)


def _sampled(
    settings: ExtractSettings, origins: dict[str, SettingValue]
) -> tuple[ExtractSettings, dict[str, SettingValue]]:
    if settings.sample is not None:
        return settings, origins
    origins["sample"] = SettingValue(value=_SAMPLE, origin="default")
    return replace(settings, sample=_SAMPLE), origins


def _refuse(settings: ExtractSettings, names: Sequence[str]) -> None:
    default = {field.name: field.default for field in fields(ExtractSettings)}
    found = [name for name in names if getattr(settings, name) != default[name]]
    if not found:
        return
    name = found[0]
    flag = f"--{name.replace('_', '-')}"
    if name in _OF_ONE_MODEL:
        raise SettingsError(
            f"{flag} belongs to one model and cannot be given for several.",
            hint=f"Extract once with {flag} (and --sample), then name the space it made: featstore models list",
        )
    if name in _OF_TOKENIZERS:
        raise SettingsError(
            f"{flag} cuts texts by each model's own tokens, so that no two models would see the same items.",
            hint=f"Compare on whole texts, in a table of another name: --name {opening.table_name(settings)}-compared",
        )
    raise SettingsError(f"{flag} has no place in a comparison: every model embeds the same sample.")
