"""What pyproject.toml asks for: the right runtime on every platform, and one set of versions for all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

PLATFORMS = {
    "Linux x86-64": ("linux", "x86_64", "Linux", "onnxruntime-gpu"),
    "Windows": ("win32", "AMD64", "Windows", "onnxruntime-gpu"),
    "Linux aarch64": ("linux", "aarch64", "Linux", "onnxruntime"),
    "macOS arm64": ("darwin", "arm64", "Darwin", "onnxruntime"),
    "macOS x86-64": ("darwin", "x86_64", "Darwin", "onnxruntime"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_gets_exactly_one_onnx_runtime(platform):
    sys_platform, machine, system, expected = PLATFORMS[platform]
    environment = {"sys_platform": sys_platform, "platform_machine": machine, "platform_system": system, "extra": ""}
    asked = [Requirement(line) for line in PROJECT["dependencies"]]
    found = [
        r.name for r in asked if r.name.startswith("onnxruntime") and (not r.marker or r.marker.evaluate(environment))
    ]
    assert found == [expected]


def test_every_extra_names_only_packages_and_extras_that_exist():
    own = set(PROJECT["optional-dependencies"])
    for lines in PROJECT["optional-dependencies"].values():
        for requirement in map(Requirement, lines):
            if requirement.name == PROJECT["name"]:
                assert requirement.extras <= own


def _constraints() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line) for line in lines if line]
    assert all(pairs), "constraints.txt holds exact versions and nothing else"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


def test_every_dependency_is_constrained_to_a_version_that_it_allows():
    constraints = _constraints()
    everything = [*PROJECT["dependencies"], *(r for lines in PROJECT["optional-dependencies"].values() for r in lines)]
    for requirement in map(Requirement, everything):
        if requirement.name == PROJECT["name"]:
            continue
        version = constraints.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_what_is_installed_is_what_the_constraints_say():
    """These tests speak for the versions in constraints.txt and no others."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)
    constraints = _constraints()
    other = {
        name: (version, constraints[canonicalize_name(name)])
        for name, version in installed.items()
        if canonicalize_name(name) in constraints and version != constraints[canonicalize_name(name)]
    }
    assert not other


@pytest.mark.heavy
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "macos"])
def test_the_constraints_can_be_installed(platform, python, tmp_path):
    """Resolves all of it for a platform, from wheels alone. Needs a package index, as the installation does."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:"]
    command += ["--extra", "dev", "--constraint", "constraints.txt", "pyproject.toml", *_index()]
    # uv takes macOS for version 13; faiss and torch are built for 14.
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    resolved = {canonicalize_name(r.name): r for r in map(Requirement, done.stdout.split("\n")[:-1])}
    assert ("onnxruntime-gpu" in resolved) == platform.startswith("x86_64")
    assert ("onnxruntime" in resolved) == (platform == "macos")
    lacking = set(resolved) - set(_constraints())
    assert not lacking, "constraints.txt lacks some of what would be installed"


def _index() -> list[str]:
    """The package index that pip is set up for, which uv does not ask pip about."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.search(r"^(?:global|install|:env:)\.index-url='([^']+)'", done.stdout, re.MULTILINE)
    return ["--default-index", found[1]] if found else []
