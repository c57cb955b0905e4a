"""The JSON Schema of a job's file, made from the settings that its keys set."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from featstore.jobs.sections import SECTIONS, Key, Section

__all__ = ["schema"]


def schema() -> dict[str, Any]:
    """Draft 2020-12; what several keys mean together is checked by ``load`` alone."""
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        needed = section.required if section.unless is None else ()
        keys: dict[str, Any] = {key: _typed(meant, key in needed) for key, meant in section.keys.items()}
        made = create_model(name.capitalize(), __config__=ConfigDict(extra="forbid"), **keys)
        sections[name] = (made, ...) if name == "job" else (list[made] if section.several else made, None)  # type: ignore[valid-type]
    whole: type[BaseModel] = create_model("Job file", __config__=ConfigDict(extra="forbid"), **sections)
    found: dict[str, Any] = _without_null(whole.model_json_schema())
    found["description"] = "A job: what a scheduled refresh is told, a TOML file."
    found["allOf"] = [_unless(name, section) for name, section in SECTIONS.items() if section.unless is not None]
    return found


def _unless(name: str, section: Section) -> dict[str, Any]:
    """Keys that must be there, or must not where another section is."""
    never: dict[str, Any] = dict.fromkeys(section.required, False)
    return {
        "if": {"required": [section.unless]},
        "then": {"properties": {name: {"properties": never}}},
        "else": {"properties": {name: {"required": list(section.required)}}},
    }


def _typed(key: Key, required: bool) -> tuple[Any, Any]:
    hint = get_type_hints(key.kind, include_extras=True)[key.field]
    return hint, ... if required else _default(next(item for item in fields(key.kind) if item.name == key.field))


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return None if item.default_factory is MISSING else item.default_factory()


def _without_null(node: Any) -> Any:
    """TOML has no null: what may be left out is left out."""
    if isinstance(node, list):
        return [_without_null(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _without_null(value) for key, value in node.items() if not (key == "default" and value is None)}
    made.pop("ge", None)  # a bound that JSON Schema cannot state, since the value may also be a text
    choices = made.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        left = [one for one in choices if one != {"type": "null"}]
        made = {**{key: value for key, value in made.items() if key != "anyOf"}, **(left[0] if len(left) == 1 else {})}
        if len(left) > 1:
            made["anyOf"] = left
    return made
