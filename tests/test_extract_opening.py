"""The model is opened while its source is read, where the source has visibly changed; where not, not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from own_models import save, text_card, text_model
from stores import damage, write_texts

import featstore
from featstore.encode import opening
from featstore.encode.opening import Opening
from featstore.errors import GateError, IntegrityError
from featstore.settings import ExtractSettings
from featstore.sources.table import TableSource
from featstore.store import Store

ROWS = {f"t{at:02d}": f"text number {at}" for at in range(30)}


@pytest.fixture
def world(tmp_path: Path) -> tuple[Store, Path, Path]:
    """A store with a table of thirty texts, its source and its model."""
    words = save(tmp_path / "words", text_model(), text_card())
    source = write_texts(tmp_path / "texts.jsonl", ROWS)
    store = featstore.open(tmp_path / "store")
    extract(store, source, words)
    return store, source, words


def extract(store: Store, source: Path, words: Path) -> featstore.Table:
    return store.extract(source, model=str(words), text_column="text", id_column="id", name="texts")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who opened a model, and when a scan ended."""
    seen: list[str] = []
    plain, scan = opening.open_encoder, TableSource.scan

    def opened(*args: object, **more: object) -> object:
        seen.append(threading.current_thread().name)
        return plain(*args, **more)  # type: ignore[arg-type]

    def scanned(self: TableSource, **how: object) -> object:
        found = scan(self, **how)  # type: ignore[arg-type]
        for thread in threading.enumerate():
            if thread.name == "featstore-opening":
                thread.join()
        seen.append("scanned")
        return found

    monkeypatch.setattr(opening, "open_encoder", opened)
    monkeypatch.setattr(TableSource, "scan", scanned)
    return seen


def none_left() -> bool:
    return not any(thread.name == "featstore-opening" for thread in threading.enumerate())


def test_a_file_that_changed_has_its_model_opened_beside_the_scan(
    world: tuple[Store, Path, Path], watched: list[str]
) -> None:
    store, source, words = world
    write_texts(source, ROWS | {"t00": "another text"})
    table = extract(store, source, words)
    assert table.last_run is not None
    assert table.last_run.stored == 1
    assert watched == ["featstore-opening", "scanned"]
    assert none_left()


def test_the_first_run_opens_its_model_beside_the_scan(
    world: tuple[Store, Path, Path], watched: list[str], tmp_path: Path
) -> None:
    store, source, words = world
    store.extract(source, model=str(words), text_column="text", id_column="id", name="other")
    assert watched == ["featstore-opening", "scanned"]


def test_where_nothing_is_new_nothing_is_opened(world: tuple[Store, Path, Path], watched: list[str]) -> None:
    store, source, words = world
    table = extract(store, source, words)
    assert table.last_run is not None
    assert table.last_run.stored == 0
    assert watched == ["scanned"]


def test_a_refused_run_leaves_no_thread_behind(world: tuple[Store, Path, Path], watched: list[str]) -> None:
    store, source, words = world
    write_texts(source, {"t00": "text number 0"})
    with pytest.raises(GateError):
        extract(store, source, words)
    assert watched == ["featstore-opening", "scanned"]
    assert none_left()


def test_a_damaged_model_is_told_of_as_without_the_thread(world: tuple[Store, Path, Path]) -> None:
    store, source, words = world
    write_texts(source, ROWS | {"t00": "another text"})
    damage(next(store.path.glob("models/*/model.onnx")), "flip", bit=4000)
    with pytest.raises(IntegrityError, match="is damaged"):
        extract(store, source, words)
    assert none_left()


def test_a_run_with_other_hardware_settings_opens_its_own(world: tuple[Store, Path, Path], watched: list[str]) -> None:
    store, *_ = world
    card = featstore.models.load_card(store.layout, store.table("texts").space_id)
    settings = ExtractSettings(source="", model="", workers=1)
    with Opening(store.layout, card, settings) as model:
        model.begin()
        assert model.take(ExtractSettings(source="", model="", workers=2)).threads == 2
        assert model.take(settings).threads == 1  # what was handed over is not kept
    assert watched == ["featstore-opening", "MainThread", "MainThread"]
