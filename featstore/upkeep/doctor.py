"""Is this machine fit for the work? Versions, devices, threads, caches, hub, and one real run each."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featstore import models
from featstore.errors import FeatstoreError
from featstore.machine import available_cpus
from featstore.models import hub
from featstore.records import Check, DoctorReport, ModelCard

if TYPE_CHECKING:
    from featstore.layout import Layout

__all__ = ["doctor"]

# Below this a first extract of a usual model may not fit beside its files.
_LITTLE_DISK = 2 * 1024**3


def doctor(layout: Layout, *, network: bool = False) -> DoctorReport:
    """Looks at everything an extract depends on; changes nothing.

    Args:
        layout: The store; it need not exist yet.
        network: Also try to reach the model hub, for three seconds at most. Without, no socket is opened.

    Returns:
        One check a line; ``ok`` is whether none is an error.
    """
    checks = [
        Check(
            name="python", status="ok", value=f"{platform.python_version()} on {platform.system()} {platform.machine()}"
        ),
        *(
            Check(name=name, status="ok", value=version)
            for name, version in models.versions().items()
            if name != "python"
        ),
        _cpus(),
        _store(layout),
        _disk(layout),
        *_caches(),
    ]
    if network:
        checks.append(_hub())
    checks += _devices(layout)
    return DoctorReport(ok=not any(check.status == "error" for check in checks), checks=tuple(checks))


def _cpus() -> Check:
    usable, present = available_cpus(), os.cpu_count() or 1
    limited = f" of {present} (limited by affinity or container)" if usable < present else ""
    return Check(name="cpus", status="ok", value=f"{usable}{limited}; an extract uses {usable} threads")


def _store(layout: Layout) -> Check:
    root = layout.storage.root
    if not layout.storage.exists(layout.store):
        return Check(name="store", status="ok", value=f"{root} (not made yet)")
    tables = len(layout.storage.folders("features"))
    return Check(name="store", status="ok", value=f"{root} ({tables} {'table' if tables == 1 else 'tables'})")


def _disk(layout: Layout) -> Check:
    free = layout.storage.free_bytes()
    value = f"{free / 1024**3:.1f} GiB free"
    if free < _LITTLE_DISK:
        return Check(name="disk", status="warning", value=value, hint="Free some space, or name another --store.")
    return Check(name="disk", status="ok", value=value)


def _caches() -> list[Check]:
    folders = {"torch cache": hub.cache_folder(), "hugging face cache": _hugging_face_cache()}
    return [
        Check(name=name, status="ok", value=f"{folder} ({'present' if folder.is_dir() else 'none yet'})")
        for name, folder in folders.items()
    ]


def _hugging_face_cache() -> Path:
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def _hub() -> Check:
    if hub.reachable():
        return Check(name="hub", status="ok", value="reachable")
    return Check(
        name="hub",
        status="warning",
        value="not reachable",
        hint="Exported, packaged and --weights models work without it; see featstore models list.",
    )


def _devices(layout: Layout) -> list[Check]:
    """Each device, with the time one item takes on it, by the first model of the store."""
    card = _some_model(layout)
    checks = []
    for device in models.devices():
        name = f"device {device.name}"
        if device.problem is not None:
            checks.append(Check(name=name, status="warning", value=f"not usable: {device.problem}"))
        elif card is None:
            checks.append(Check(name=name, status="ok", value=f"{device.detail}; no model in the store to run yet"))
        else:
            checks.append(_one_item(layout, card, name, device.name))
    if "openvino" in models.versions():
        name = "backend openvino"
        if card is None:
            checks.append(Check(name=name, status="ok", value="cpu; no model in the store to run yet"))
        else:
            checks.append(_one_item(layout, card, name, "cpu", "openvino"))
    return checks


def _some_model(layout: Layout) -> ModelCard | None:
    for space_id in layout.storage.folders("models"):
        if space_id != "refs" and layout.storage.exists(layout.model_card(space_id)):
            try:
                return models.load_card(layout, space_id)
            except FeatstoreError:
                continue
    return None


def _one_item(layout: Layout, card: ModelCard, name: str, device: str, backend: str | None = None) -> Check:
    try:
        backbone = models.open_backbone(layout, card, device=device, threads=1, backend=backend)
        models.check_canaries(layout, card, backbone)
        started = time.perf_counter()
        if card.image is not None:
            vector = backbone.images(np.full((1, *card.image.crop, 3), 127, np.uint8))
        else:
            vector = backbone.texts(np.full((1, 8), 1, np.int64), np.ones((1, 8), np.int64))
        took = time.perf_counter() - started
    except FeatstoreError as error:
        return Check(name=name, status="error", value=error.message, hint=error.hint)
    if not np.isfinite(vector).all():
        return Check(name=name, status="error", value=f"{card.space_id} gave NaN or infinity")
    return Check(name=name, status="ok", value=f"ran {card.space_id}: one item in {took * 1000:.1f} ms")
