"""Nothing opens a socket unless a hub or a bucket was named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import environment
from own_models import image_card, image_model, save
from stores import copy_models

PROGRAM = Path(__file__).parent / "no_sockets.py"

OFTEN = [
    ["extract", "photos", "--model", "efficientnet_lite0", "--label-from", "folder", "--dry-run"],
    ["extract", "photos", "--model", "efficientnet_lite0", "--label-from", "folder"],
    ["extract", "sentences.csv", "--model", "minilm", "--text-column", "text", "--id-column", "id"],
    ["extract", "photos", "--model", "net.onnx"],
    ["extract", "photos", "--model", "efficientnet_lite0"],
    ["models", "list"],
    ["models", "list", "resnet"],
    ["models", "show", "minilm"],
    ["models", "show", "resnet50"],
    ["models", "show", "net.onnx"],
    ["models", "export", "minilm", "-o", "minilm-files", "--bundle", "minilm.featstore"],
    ["extract", "sentences.csv", "--model", "minilm.featstore", "--text-column", "text", "--id-column", "id",
     "--store", "far"],
    ["verify", "--sample", "2"],
    ["ls"],
    ["ls", "runs"],
    ["show", "photos@efficientnet_lite0"],
    ["show", "photos@efficientnet_lite0", "--history"],
    ["show", "photos@efficientnet_lite0", "--rejects"],
    ["show", "sentences", "--paths"],
    ["gc", "--dry-run"],
    ["doctor"],
]  # fmt: skip


def _world(folder: Path, photos: Path, texts_csv: Path) -> Path:
    shutil.copytree(photos, folder / "photos")
    shutil.copy(texts_csv, folder)
    save(folder, image_model(), image_card())
    return folder


def _shut_off(commands: list[list[str]], cwd: Path) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, str(PROGRAM), json.dumps(commands)]
    # An empty cache, so that nothing found there hides a download.
    own = environment(HF_HOME=str(cwd / "hub"), TORCH_HOME=str(cwd / "torch"), PYTHONPATH=str(PROGRAM.parent))
    return subprocess.run(given, cwd=cwd, env=own, capture_output=True, text=True, timeout=280)


@pytest.mark.heavy
def test_the_commands_open_no_socket(model_store: Path, photos: Path, texts_csv: Path, tmp_path: Path) -> None:
    copy_models(model_store, tmp_path / "featstore-data")
    done = _shut_off(OFTEN, _world(tmp_path, photos, texts_csv))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("$ featstore") == len(OFTEN)


@pytest.mark.heavy
def test_the_first_use_of_a_packaged_model_opens_none_either(photos: Path, texts_csv: Path, tmp_path: Path) -> None:
    """torch, timm and transformers are at work here."""
    commands = [*OFTEN[1:3], ["models", "list", "timm:vit_tiny"], ["models", "show", "timm:vit_tiny_patch16_224"]]
    done = _shut_off(commands, _world(tmp_path, photos, texts_csv))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("$ featstore") == len(commands)


_NATIVE = """
import ctypes, sys
import no_sockets
if not no_sockets.shut():
    sys.exit(77)
ctypes.CDLL(None).socket(2, 1, 0)
"""


@pytest.mark.heavy
def test_the_guard_itself_holds(tmp_path: Path) -> None:
    named = _shut_off([["extract", "photos", "--model", "resnet18"]], _with_a_picture(tmp_path))
    assert named.returncode != 0  # a model to download was named: the attempt is what the guard is for
    own = environment(PYTHONPATH=str(PROGRAM.parent))
    for line in (
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 80)",
        "socket.socket(socket.AF_INET6)",
    ):
        code = f"import no_sockets, socket; no_sockets.shut(); {line}"
        done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=60)
        assert "AssertionError" in done.stderr, line
    done = subprocess.run([sys.executable, "-c", _NATIVE], env=own, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this kernel filters no system calls")
    assert done.returncode == -31  # SIGSYS


def _with_a_picture(folder: Path) -> Path:
    from PIL import Image

    (folder / "photos").mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "photos" / "a.jpg")
    return folder
