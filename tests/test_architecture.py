"""The walls of the house, read from the imports of every module."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "featstore"

# From the ground up. A room imports from lower floors and from itself; rooms of one floor never from each other.
FLOORS = (
    ("errors", "machine"),
    ("records",),
    ("storage",),
    ("settings", "layout"),
    ("published", "migrations"),
    ("founding", "addresses", "sources", "models", "inputs", "tables", "jobs"),
    ("encode", "neighbours", "drift"),
    ("heads",),
    ("quantise",),
    ("extract",),
    ("labels", "splits", "reports", "export", "features", "diff", "index", "bridge", "dedup"),
    ("compare", "tuning", "upkeep", "search", "training", "predicting"),
    ("evaluate", "refresh"),
    ("migrate",),
    ("finetune",),
    ("table",),
    ("store",),
    ("encoder",),
    ("cli",),
)
# founding names the version that made a store; nothing else may look up to the roof.
UPWARD = {("founding", "__version__")}

# Where each third-party library lives: a room, or a module of one.
HOMES = {
    "PIL": ("inputs.images_decode", "inputs.contact_sheet"),
    "simplejpeg": ("inputs",),
    "cykooz_resizer": ("inputs.images_fit",),
    "zlib_ng": ("tables.vectors",),
    "tokenizers": ("inputs.texts", "models.sound"),
    "deltalake": ("tables",),
    "onnxruntime": ("models.session",),
    "openvino": ("models.openvino_session",),
    "onnx": ("models", "heads.graph"),
    "torch": ("models", "heads.torch_heads", "finetune.network"),
    "torchvision": ("models", "finetune.network"),
    "peft": ("finetune.network.lora",),
    "optuna": ("finetune.searching",),
    "transformers": ("models",),
    "timm": ("models",),
    "safetensors": ("models", "export", "bridge", "heads", "finetune.network"),
    "huggingface_hub": ("models",),
    "sklearn": ("models.samples", "heads", "encoder"),
    "threadpoolctl": ("heads.threads",),
    "faiss": ("neighbours",),
    "mlflow": ("training.tracking",),
    "polars": (
        "tables",
        "extract",
        "export",
        "features",
        "diff",
        "compare",
        "upkeep.purge.ids",  # many words in many bytes at once
        "upkeep.verify",  # two tables are joined, which pyarrow's engine has hung at
        "index",
        "bridge",
        "dedup",
        "search",
        "evaluate",
        "labels",
        "splits",
        "reports",
        "training",
        "predicting",
        "refresh",
        "table",
    ),
    "pydantic": ("storage.documents", "settings", "jobs", "cli"),
    "typer": ("cli",),
    "rich": ("cli",),
    # In memory anywhere above the ground; its Parquet reader and writer only here:
    "pyarrow": (
        "storage.frames",
        "sources",
        "tables",
        "extract",
        "export",
        "features",
        "diff",
        "index",
        "bridge",
        "dedup",
        "compare",
        "upkeep",
        "search",
        "evaluate",
        "labels",
        "splits",
        "reports",
        "training",
        "predicting",
        "refresh",
        "table",
        "encoder",
        "cli.schemas",
    ),
    "pyarrow.parquet": (
        "storage.frames",
        "sources",
        "tables",
        "export",
        "features",
        "search",
        "dedup",
        "labels",
        "predicting",
    ),
    "numpy": tuple(room for floor in FLOORS[2:] for room in floor),
}
# Too heavy to be imported with a module: only inside the functions that need them.
LAZY = {
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "onnxruntime",
    "openvino",
    "onnx",
    "sklearn",
    "PIL",
    "faiss",
    "mlflow",
    "peft",
    "optuna",
}

FORBIDDEN_IMPORTS = {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle", "yaml", "requests"}
FORBIDDEN_CALLS = {"eval", "exec", "extractall", "unsafe_load", "full_load", "os.system", "os.popen"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


@dataclass(frozen=True)
class Module:
    path: Path
    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return self.name or "featstore"


def _modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.append(Module(path, ".".join(parts), ast.parse(path.read_text("utf-8"))))
    return found


MODULES = _modules()


def every_module(check: Callable[[Module], None]) -> Callable[[], None]:
    """One test that holds every module to a rule and names all that break it."""

    def test() -> None:
        broken = []
        for module in MODULES:
            try:
                check(module)
            except AssertionError as error:
                broken.append(str(error).partition("\n")[0] or str(module))
        assert not broken, "\n".join(broken)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


@dataclass(frozen=True)
class Import:
    target: str
    names: tuple[str, ...]
    line: int
    at_top: bool
    for_types: bool


def _imports(module: Module) -> Iterator[Import]:
    """All imports; ``at_top`` are those that run when the module is imported."""

    def visit(node: ast.AST, at_top: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typed = for_types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, (), child.lineno, at_top, for_types)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: line {child.lineno}: write imports in full"
                names = tuple(alias.name for alias in child.names)
                yield Import(child.module or "", names, child.lineno, at_top, for_types)
            yield from visit(child, at_top and not inside, typed)

    yield from visit(module.tree, True, False)


def _own(found: Import) -> Iterator[str]:
    """What of featstore an import brings in, without the leading ``featstore.``."""
    if found.target == "featstore":
        yield from found.names or ("",)
    elif found.target.startswith("featstore."):
        yield found.target.removeprefix("featstore.")


def _floor(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"featstore.{room} is on no floor: add it to FLOORS")


@every_module
def test_no_module_imports_upwards_or_sideways(module):
    if module.name == "":
        return
    for found in _imports(module):
        for target in _own(found):
            room = target.partition(".")[0]
            if room == module.room or (module.room, room) in UPWARD:
                continue
            if module.room == "cli" and room in ("", "__version__"):
                continue  # the command line stands on the public API
            where = f"{module}, line {found.line}: imports featstore.{target}"
            assert room, f"{where}: only the command line imports the package itself"
            # Types cost nothing at run time, but they tie rooms together all the same.
            assert _floor(room) < _floor(module.room), f"{where}, which is not on a lower floor"


@every_module
def test_each_library_has_one_home(module):
    standard = sys.stdlib_module_names
    for found in _imports(module):
        library = found.target.partition(".")[0]
        if (
            library in standard
            or library in ("featstore", "__future__")
            or (library == "_typeshed" and found.for_types)
        ):
            continue
        assert library in HOMES, f"{module}, line {found.line}: {library} has no home; add it to HOMES"
        whole = {found.target, *(f"{found.target}.{name}" for name in found.names)}
        for key in [library, *(key for key in HOMES if "." in key and whole & {key})]:
            if found.for_types and key in ("polars", "pyarrow", "numpy"):
                continue  # a signature may speak of the tables and arrays that are passed through
            at_home = any(module.name == home or module.name.startswith(f"{home}.") for home in HOMES[key])
            assert at_home, f"{module}, line {found.line}: {key} belongs in {', '.join(HOMES[key])}"


@every_module
def test_heavy_libraries_are_imported_inside_functions(module):
    for found in _imports(module):
        library = found.target.partition(".")[0]
        if library in LAZY and not found.for_types:
            if library == "sklearn" and (module.room == "encoder" or module.name == "heads.estimator"):
                continue  # its class stands on scikit-learn's; the package imports the room when it is asked for
            assert not found.at_top, f"{module}, line {found.line}: {library} is imported with the module"


@every_module
def test_nothing_is_loaded_that_could_run_code(module):
    for found in _imports(module):
        assert found.target.partition(".")[0] not in FORBIDDEN_IMPORTS, f"{module}, line {found.line}"
    for call in (node for node in ast.walk(module.tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"{module}, line {call.lineno}: {name}"
        last = name.rpartition(".")[2]
        if isinstance(call.func, ast.Attribute) and last in ("eval", "exec"):
            pass  # a method of that name, such as a network's switch to evaluation mode
        else:
            assert last not in FORBIDDEN_CALLS, where
        assert name not in FORBIDDEN_CALLS, where
        if name in ("torch.load", "torch.hub.load_state_dict_from_url", "load_state_dict_from_url"):
            assert keywords.get("weights_only") == "True", f"{where} without weights_only=True"
        if last in ("run", "Popen", "check_call", "check_output"):
            assert keywords.get("shell", "False") == "False", f"{where} through a shell"
        if "trust_remote_code" in keywords:
            assert keywords["trust_remote_code"] == "False", where
        if last == "from_pretrained" and "Auto" in name:  # without it, some of them ask on stdin and run the answer
            assert keywords.get("trust_remote_code") == "False", f"{where} without trust_remote_code=False"
        if name.endswith(("np.load", "numpy.load")):
            assert keywords.get("allow_pickle", "False") == "False", where


@every_module
def test_names_say_what_a_module_is_about(module):
    assert not VAGUE & set(module.name.split(".")), str(module)


@every_module
def test_all_names_exactly_what_is_public(module):
    """``__all__`` is there, names what exists, and leaves out no function or class of the module's own."""
    if module.path.name == "__main__.py":
        return
    defined = {node.name for node in module.tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    public = {name for name in defined if not name.startswith("_")}
    loaded = importlib.import_module(f"featstore.{module.name}".rstrip("."))
    listed = getattr(loaded, "__all__", None)
    if listed is None:
        assert not public, f"{module} has no __all__"
        return
    missing = [name for name in listed if not hasattr(loaded, name)]
    assert not missing, f"{module}: __all__ names {missing}, which is not there"
    if module.room == "cli" and listed == ["register"]:
        return  # a panel: its functions are commands, known by their names on the command line
    assert public <= set(listed), f"{module}: __all__ lacks {sorted(public - set(listed))}"


@every_module
def test_everything_public_has_a_docstring(module):
    """A method needs none of its own where its whole body is one line, or where its class's protocol has one."""
    assert ast.get_docstring(module.tree), f"{module} has no docstring"
    for node in module.tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node), f"{module}: {node.name} has no docstring"
        for method in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and len(method.body) > 1:
                where = f"{module}: {node.name}.{method.name} has no docstring"
                assert ast.get_docstring(method) or method.name in _described(module.room), where


@functools.cache
def _described(room: str) -> frozenset[str]:
    """Methods that some class of a room, or of the rooms below, describes: protocols and base classes."""
    found = set()
    for module in MODULES:
        if module.name and _floor(module.room) <= _floor(room):
            classes = (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))
            methods = (m for node in classes for m in node.body if isinstance(m, ast.FunctionDef))
            found |= {m.name for m in methods if ast.get_docstring(m)}
    return frozenset(found)


def test_the_public_api_is_what_it_says():
    package = importlib.import_module("featstore")
    for name in package.__all__:
        assert getattr(package, name) is not None
    classes = {"FeatstoreEncoder", "FeatstoreError", "HeadClassifier", "Store", "Table"}
    assert set(package.__all__) == classes | {"__version__", "open"}


def test_importing_featstore_is_light():
    """Nobody pays for what they do not use: no array, table or model library comes with the package."""
    heavy = ["torch", "onnxruntime", "onnx", "transformers", "timm", "polars", "deltalake", "pandas", "PIL", "pyarrow"]
    code = f"import sys, featstore; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_dependency_is_used():
    """What pyproject.toml asks for is imported somewhere, or is needed by what is."""
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    modules = {"pillow": "PIL", "cykooz-resizer": "cykooz_resizer", "scikit-learn": "sklearn"}
    modules |= {"onnxruntime-gpu": "onnxruntime"}
    # torch.onnx exports with onnxscript; the index, which comes next, is faiss.
    needed_by_others = {"onnxscript", "faiss-cpu"}
    imported = {found.target.partition(".")[0] for module in MODULES for found in _imports(module)}
    declared = {Requirement(line).name.replace(".", "-") for line in project["dependencies"]}
    unused = {name for name in declared - needed_by_others if modules.get(name, name.replace("-", "_")) not in imported}
    assert not unused


def test_every_record_is_found_where_it_is_said_to_be() -> None:
    records = importlib.import_module("featstore.records")
    known = {name for names in records._HOMES.values() for name in names.split()}
    assert known == set(records.__all__)
    for name in records.__all__:
        home = importlib.import_module(f"featstore.records.{records._HOME[name]}")
        assert getattr(records, name) is getattr(home, name)
        assert name in home.__all__
    with pytest.raises(AttributeError):
        records.Nothing  # noqa: B018
