"""What a Hugging Face or sentence-transformers folder says about itself; read without either library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.errors import IntegrityError, NotFoundError, UsageError
from featstore.storage import hashing

__all__ = ["Dense", "FolderSpec", "digest", "licence", "read"]

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SUPPORTED = ("cls", "max", "mean", "lasttoken")
_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid"}
_DECODERS = frozenset(
    (
        *("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "llama", "mistral", "mixtral", "qwen2", "qwen3"),
        *("gemma", "gemma2", "gemma3_text", "phi", "phi3", "falcon", "stablelm", "olmo", "olmo2", "starcoder2"),
        *("biogpt", "codegen", "xglm"),
    )
)
_LONGEST = 1024
_CONTENT = (".json", ".txt", ".model", ".safetensors", ".bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer after the pooling."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSpec:
    """How a folder's network turns tokens into a vector.

    ``transformer`` is the folder with ``config.json`` and the weights. ``max_length`` is None when only
    the tokenizer knows. ``tail`` are the steps after the pooling: dense layers and ``"normalize"``.
    ``include_prompt`` is whether the prompt's tokens are pooled too. ``layer`` is the submodule whose output is
    pooled; None is the last hidden state.
    """

    folder: Path
    transformer: Path
    config: dict[str, Any]
    pooling: tuple[str, ...]
    tail: tuple[Dense | str, ...]
    max_length: int | None
    lower_case: bool
    prompt_document: str
    prompt_query: str
    licence: str
    decoder: bool
    include_prompt: bool = True
    layer: str | None = None

    @property
    def longest(self) -> int:
        """The most tokens that the network has positions for, at most 1,024 unless its folder says more."""
        positions, wanted = self._positions, self.max_length or _LONGEST
        return wanted if positions is None else min(wanted, positions)

    @property
    def _positions(self) -> int | None:
        """None where the configuration does not say, as in networks that can go on for ever.

        RoBERTa and its kin count positions from the padding id on, so two of theirs are never used.
        """
        found = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        if found is None or int(found) < 1:
            return None
        kin = any(kind in str(self.config.get("model_type")) for kind in ("roberta", "camembert", "mpnet", "xlm-r"))
        return int(found) - 2 * kin


def read(folder: Path) -> FolderSpec:
    """Reads the description of a model folder.

    Raises:
        NotFoundError: A file that it names is missing.
        UsageError: It has a part that featstore does not support.
        IntegrityError: A file is not JSON, or holds something else than its kind does.
    """
    try:
        return _read(folder)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise IntegrityError(f"{folder}: its configuration is damaged: {what}.") from error


def _read(folder: Path) -> FolderSpec:
    transformer, include_prompt = folder, True
    pooling: tuple[str, ...] | None = None
    tail: list[Dense | str] = []
    limits: dict[str, Any] = {}
    if (folder / "modules.json").is_file():
        transformer, pooling, tail, include_prompt = _modules(folder)
        limits = _json(transformer / "sentence_bert_config.json", {})
    config = _json(transformer / "config.json")
    decoder = _is_decoder(config)
    declared = limits.get("max_seq_length")
    if declared is not None and not (type(declared) is int and declared > 0):
        raise ValueError(f"max_seq_length is {declared!r}")
    document, query = _prompts(_json(folder / "config_sentence_transformers.json", {}))
    spec = FolderSpec(
        folder=folder,
        transformer=transformer,
        config=config,
        pooling=pooling or (("lasttoken",) if decoder else ("mean",)),
        tail=tuple(tail),
        max_length=declared,
        lower_case=bool(limits.get("do_lower_case")),
        prompt_document=document,
        prompt_query=query,
        licence=licence(folder),
        decoder=decoder,
        include_prompt=include_prompt,
    )
    if spec.longest < 1:
        raise ValueError(f"there are positions for {spec.longest} tokens")
    return spec


def digest(folder: Path) -> str:
    """SHA-256 over the files that can change the function: configurations, weights, vocabularies.

    Raises:
        StorageError: A file cannot be read.
        IntegrityError: The list of modules is damaged.
    """
    inner = [folder / m.get("path", "") for m in _module_list(folder)] if (folder / "modules.json").is_file() else []
    files = set()
    for place in {folder, *inner}:
        found = [p for p in place.glob("*") if p.suffix in _CONTENT and p.is_file()]
        if any(p.suffix == ".safetensors" for p in found):
            found = [p for p in found if p.suffix != ".bin"]
        files.update(found)
    return hashing.of_json([[p.relative_to(folder).as_posix(), hashing.of_given(p)] for p in sorted(files)])


def _modules(folder: Path) -> tuple[Path, tuple[str, ...] | None, list[Dense | str], bool]:
    transformer, pooling, include_prompt = folder, None, True
    tail: list[Dense | str] = []
    for module in _module_list(folder):
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], folder / str(module.get("path", ""))
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            pooling, include_prompt = _pooling(path / "config.json")
        elif kind == "Normalize":
            tail.append("normalize")
        elif kind == "Dense":
            tail.append(_dense(path))
        elif kind != "Dropout":
            raise UsageError(
                f"{folder / 'modules.json'} has a module of type {kind}, which featstore does not support.",
                hint="Supported: Transformer, Pooling, Dense, Normalize.",
            )
    if pooling is None:
        raise UsageError(f"{folder / 'modules.json'} has no Pooling module: it gives no single vector.")
    return transformer, pooling, tail, include_prompt


def _module_list(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    found = _parsed(path)
    if not isinstance(found, list) or not all(isinstance(m, dict) for m in found):
        raise IntegrityError(f"{path} is damaged: a list of modules was expected.")
    for module in found:
        if not isinstance(module.get("path", ""), str) or type(module.get("idx", 0)) is not int:
            raise IntegrityError(
                f"{path} is damaged: a module has the path {module.get('path')!r} and the number {module.get('idx')!r}."
            )
        if Path(str(module.get("path", ""))).is_absolute() or ".." in Path(str(module.get("path", ""))).parts:
            raise UsageError(f"{folder / 'modules.json'} points out of its folder: {module.get('path')}.")
    return sorted(found, key=lambda m: int(m.get("idx", 0)))


def _pooling(path: Path) -> tuple[tuple[str, ...], bool]:
    config = _json(path)
    named = config.get("pooling_mode")
    if named:
        modes = [named] if isinstance(named, str) else list(named)  # a list where several are joined
    else:
        modes = [mode for key, mode in _MODES.items() if config.get(key)] or ["mean"]
    unknown = [str(mode) for mode in modes if mode not in _SUPPORTED]
    if unknown:
        raise UsageError(
            f"{path}: the pooling {', '.join(unknown)} is not supported.", hint=f"Supported: {', '.join(_SUPPORTED)}."
        )
    return tuple(modes), bool(config.get("include_prompt", True))


def _dense(path: Path) -> Dense:
    config = _json(path / "config.json")
    name = str(config.get("activation_function") or "Identity").rsplit(".", 1)[-1].split("(")[0]
    plain = {config.get("module_input_name", "sentence_embedding"), config.get("module_output_name")} <= {
        "sentence_embedding",
        None,
    }
    if name not in _ACTIVATIONS or config.get("use_residual") or not plain:
        raise UsageError(
            f"{path / 'config.json'}: this dense layer (activation {name}) is not supported.",
            hint=f"Supported activations: {', '.join(_ACTIVATIONS)}; no residual, from vector to vector.",
        )
    return Dense(
        folder=path,
        inputs=int(config["in_features"]),
        outputs=int(config["out_features"]),
        bias=bool(config.get("bias", True)),
        activation=_ACTIVATIONS[name],
    )


def _prompts(config: dict[str, Any]) -> tuple[str, str]:
    """The prompts for stored texts and for queries, by the names that sentence-transformers looks for."""
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ValueError(f"prompts are {prompts!r}")
    default = prompts.get(config.get("default_prompt_name")) or ""
    document = next((prompts[n] for n in ("document", "passage", "corpus") if prompts.get(n)), default)
    return str(document), str(prompts.get("query") or default)


def _is_decoder(config: dict[str, Any]) -> bool:
    named = " ".join(config.get("architectures") or [])
    return config.get("model_type") in _DECODERS or (
        ("ForCausalLM" in named or "LMHeadModel" in named) and config.get("is_decoder", True)
    )


def licence(folder: Path) -> str:
    """The ``license:`` line at the head of a folder's ``README.md``, else ``unknown``."""
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text("utf-8", "replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip().strip("'\"") or "unknown"
    return "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"the model folder is incomplete: {path} is missing.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}.") from error


def _json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if default is not None and not path.is_file():
        return default
    found = _parsed(path)
    if not isinstance(found, dict):
        raise IntegrityError(f"{path} is damaged: a JSON object was expected.")
    return found


def _parsed(path: Path) -> object:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: it is not JSON ({error}).") from error
