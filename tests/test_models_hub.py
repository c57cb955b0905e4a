"""Models from the hub: a small hub of our own on this machine, asked through the real client."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from model_fixtures import bert_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(http.server.ThreadingHTTPServer):
    """Serves one repository as the hub does; ``asked`` are the paths in order."""

    files: dict[str, bytes]
    asked: list[str]


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send(body=False)

    def do_GET(self) -> None:
        self._send(body=True)

    def _send(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        files = self.server.files
        if path in ("/api/models/org/tiny", "/api/models/org/tiny/revision/main"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            content = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
            self._reply(200, content, {"Content-Type": "application/json"}, body)
        elif (
            name := path.removeprefix(f"/org/tiny/resolve/{COMMIT}/").removeprefix("/org/tiny/resolve/main/")
        ) in files:
            etag = hashlib.sha256(files[name]).hexdigest()
            self._reply(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)
        else:
            self._reply(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def _reply(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[_Hub]:
    server = _Hub(("127.0.0.1", 0), _Answer)
    folder = bert_folder(tmp_path / "made")
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.files |= {
        "README.md": b"---\nlicense: mit\n---\n",
        "pytorch_model.bin": b"never fetched",
        "modeling_own.py": b"raise SystemExit",
        "model.fp16.safetensors": b"never fetched",
        "onnx/model.onnx": b"never fetched",
    }
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _run(script: str, home: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its settings when it is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    kept |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **environment}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=kept, check=False)


_SNAPSHOT = """
from featstore.models import hf_hub
told = []
found = hf_hub.snapshot("org/tiny", None, progress=told.append)
print(found.commit, *sorted(p.name for p in found.folder.iterdir()), sep="\\n")
print("told:", *told)
"""

_ASK = """
from featstore.errors import FeatstoreError
from featstore.models import hf_hub
try:
    hf_hub.snapshot("org/{name}", None)
except FeatstoreError as error:
    print(type(error).__name__, error.exit_code, error)
"""


def test_a_snapshot_holds_weights_and_words_and_nothing_that_runs(hub: _Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    done = _run(_SNAPSHOT, tmp_path / "home", endpoint)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar of the client's
    lines = done.stdout.splitlines()
    assert lines[0] == COMMIT
    expected = {"README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    assert set(lines[1:-1]) == expected
    assert "downloading hf:org/tiny (0 MB) to" in lines[-1]
    assert not [path for path in hub.asked if path.endswith((".bin", ".py", ".onnx"))]
    # a second time nothing is asked for but the list of files and where the branch stands
    first = next(name for name in hub.files if name in expected)
    hub.asked.clear()
    assert _run(_SNAPSHOT, tmp_path / "home", endpoint).returncode == 0
    assert not [path for path in hub.asked if "/resolve/" in path and not path.endswith(f"/main/{first}")]


@pytest.mark.heavy
def test_a_model_of_the_hub_is_used_through_the_store_once_it_is_there(hub: _Hub, tmp_path: Path) -> None:
    endpoint, home = f"http://127.0.0.1:{hub.server_port}", tmp_path / "home"
    script = f"""
from pathlib import Path
from model_fixtures import layout_at
from featstore.models import ModelRequest, ensure, modality_of
layout, request = layout_at(Path({str(tmp_path / "store")!r})), ModelRequest(model="hf:org/tiny")
assert modality_of(request, layout) == "text"
card = ensure(layout, request)
print(card.space_id, card.model, card.weights.licence, card.weights.url, card.weights.source, sep="|")
"""
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    done = _run(script, home, endpoint, **path)
    assert done.returncode == 0, done.stderr
    space_id, model, licence, url, source = done.stdout.strip().split("|")
    assert (model, licence, url) == ("hf:org/tiny", "mit", "https://huggingface.co/org/tiny")
    assert space_id.startswith("tiny-")
    assert source == f"hub org/tiny at {COMMIT[:12]}"
    # A re-run needs neither the hub nor its cache.
    hub.asked.clear()
    again = _run(script, tmp_path / "elsewhere", "http://127.0.0.1:9", HF_HUB_OFFLINE="1", **path)
    assert again.stdout == done.stdout, again.stderr
    assert hub.asked == []


def test_without_a_network_the_cache_serves_and_else_an_error_comes_within_seconds(hub: _Hub, tmp_path: Path) -> None:
    endpoint, home = f"http://127.0.0.1:{hub.server_port}", tmp_path / "home"
    assert _run(_SNAPSHOT, home, endpoint).returncode == 0
    for environment in ({"HF_HUB_OFFLINE": "1"}, {}):
        nowhere = "http://127.0.0.1:9"
        served = _run(_SNAPSHOT, home, nowhere, **environment)
        assert served.stdout.startswith(COMMIT), served.stderr
        assert "cannot be asked" in served.stdout
        started = time.monotonic()
        refused = _run(_ASK.format(name="tiny"), tmp_path / "empty", nowhere, **environment)
        assert time.monotonic() - started < 25
        assert refused.stdout.startswith("HubError 7 cannot fetch hf:org/tiny from the hub"), refused.stderr
        assert "hf download org/tiny --local-dir" in refused.stdout


def test_unknown_models_and_pickled_weights_are_refused(hub: _Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    unknown = _run(_ASK.format(name="nobody"), tmp_path / "home", endpoint)
    assert unknown.stdout.startswith("HubError 7 the hub knows no model 'org/nobody'"), unknown.stdout + unknown.stderr
    del hub.files["model.safetensors"]
    pickled = _run(_ASK.format(name="tiny"), tmp_path / "home", endpoint)
    assert pickled.stdout.startswith("UsageError 2 hf:org/tiny has no safetensors weights"), pickled.stderr
    assert not [path for path in hub.asked if path.endswith(".bin")]
