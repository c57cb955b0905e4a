"""Heads on vectors that are too many for memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_world import add_table, blobs, store_at

from featstore.errors import UsageError
from featstore.training.beyond import NOTE

FLAGS = {"kind": "torch-linear", "seeds": 1, "epochs": 20, "device": "cpu"}


def test_vectors_stay_on_disk_and_the_head_is_as_good(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    x, y = blobs(900, classes=3)
    add_table(store, x, label=y)
    before = {path.name for path in store.path.iterdir()}
    near = store.train_head("photos", **FLAGS, curve=False, baselines=False).card
    far = store.train_head("photos", **FLAGS, memory="10KB", shots=(1, 4)).card
    assert (far.split_id, far.n_train, far.n_test) == (near.split_id, near.n_train, near.n_test)
    assert NOTE in far.warnings
    assert NOTE not in near.warnings
    assert (far.baselines, far.learning_curve, far.shots) == ({}, (), ())
    assert abs(far.metrics["accuracy"].value - near.metrics["accuracy"].value) < 0.02
    assert far.metrics["accuracy"].value > 0.9
    assert {path.name for path in store.path.iterdir()} - before <= {"cache", "heads", "splits", "locks"}
    first, again = (store.train_head("photos", **FLAGS, memory="10KB").card for _ in range(2))
    assert first.head_file.sha256 == again.head_file.sha256


@pytest.mark.parametrize(("tables", "kind"), [(("photos",), "auto"), (("photos", "paintings"), "torch-linear")])
def test_what_needs_them_in_memory_says_so(tmp_path: Path, tables: tuple[str, ...], kind: str) -> None:
    store = store_at(tmp_path)
    x, y = blobs(120)
    add_table(store, x, label=y)
    add_table(store, x[:, ::-1], label=y, name="paintings", space="other-1b2c3d4e")
    train = store.train_head if len(tables) == 1 else lambda *names, **flags: store.compare_heads(names, **flags)
    with pytest.raises(UsageError, match=r"120 vectors take 0\.0 GB, and 0\.0 GB of memory may be used") as caught:
        train(*tables, kind=kind, memory="1KB")
    assert "--memory" in str(caught.value.hint)
    assert not store.heads()


_LIMITED = """
import resource, sys
import numpy as np
import featstore
store = featstore.open(sys.argv[1])
flags = {"kind": "torch-linear", "epochs": 1, "seeds": 1, "batch": 512, "device": "cpu", "memory": "50MB"}
store.train_head("small", curve=False, baselines=False, **flags)  # what the libraries take for themselves
used = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData")][0]
limit = used + 600_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    store.table("large").matrix()
    sys.exit("the limit does not hold")
except MemoryError:
    pass
print(store.train_head("large", **flags).card.metrics["accuracy"].value)
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_table_larger_than_memory_is_learned_from(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    generator, n = np.random.default_rng(0), 200_000
    x = generator.normal(size=(n, 1024)).astype(np.float32)
    x[:, 0] += 3 * (np.arange(n) % 3)
    label = [f"class{at % 3}" for at in range(n)]
    add_table(store, x, name="large", label=label)
    add_table(store, x[:3000], name="small", label=label[:3000])
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(store.path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.6  # a third by chance; one epoch learns that much
