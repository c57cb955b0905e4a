"""The two towers of one model: texts find pictures, pictures texts, and an index is tuned on what will be asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from bridge_world import add_table
from cli_world import photos as pictures
from vision_folders import clip_folder

import featstore
from featstore import founding
from featstore.models import ModelRequest, ensure
from featstore.store import Store

WORDS = {f"t{i}": f"a picture of number {i}" for i in range(6)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny CLIP and a store that holds both of its towers."""
    world = tmp_path_factory.mktemp("towers")
    clip_folder(world / "clip")
    store = featstore.open(world / "store")
    founding.found(store.layout)
    for tower in ("image", "text"):
        ensure(store.layout, ModelRequest(model=f"hf:{world / 'clip'}:{tower}"))
    return world


@pytest.fixture
def store(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return featstore.open(tmp_path / "store")


def test_texts_find_pictures_and_pictures_find_texts(store: Store, tmp_path: Path) -> None:
    source = pictures(tmp_path / "pics", 6)
    (tmp_path / "words").mkdir()
    for name, text in WORDS.items():
        (tmp_path / "words" / f"{name}.txt").write_text(text)
    seen = store.extract(source, model="hf:clip:image", name="pics")
    read = store.extract(tmp_path / "words", model="hf:clip:text", name="words")
    images, texts = dict(zip(*seen.matrix(), strict=True)), dict(zip(*read.matrix(), strict=True))

    found = seen.search(text=WORDS["t3"], k=6)
    cosines = {item: float(vector @ texts["t3.txt"]) for item, vector in images.items()}
    assert dict(found.select("item_id", "score").iter_rows()) == pytest.approx(cosines, abs=1e-5)
    assert found["item_id"].to_list() == sorted(cosines, key=lambda item: -cosines[item])

    found = read.search(image=source / "0002.jpg", k=6)
    cosines = {item: float(vector @ images["0002.jpg"]) for item, vector in texts.items()}
    assert dict(found.select("item_id", "score").iter_rows()) == pytest.approx(cosines, abs=1e-5)


def test_an_index_of_pictures_is_tuned_on_captions_or_says_that_it_is_not(store: Store, tmp_path: Path) -> None:
    card = ensure(store.layout, ModelRequest(model="hf:clip:image"))
    ensure(store.layout, ModelRequest(model="hf:clip:text"))
    x = np.random.default_rng(0).standard_normal((600, card.dim)).astype(np.float32)
    names = [f"number {i} of many pictures" for i in range(600)]
    add_table(store, "captioned", x, model=card.space_id, caption=names)
    add_table(store, "plain", x, model=card.space_id)
    tuned = store.index("captioned", kind="hnsw", recall=0.5)
    assert tuned.measured is not None
    assert (tuned.measured.source, tuned.note) == ("given", None)
    untuned = store.index("plain", kind="hnsw", recall=0.5)
    assert untuned.measured is not None
    assert untuned.measured.source == "items"
    assert untuned.note is not None
    assert "tune on texts with --queries FILE" in untuned.note
    asked = tmp_path / "asked.txt"
    asked.write_text("\n".join(names[:200]))
    retuned = store.index("plain", queries=asked, kind="hnsw", recall=0.5, rebuild=True)
    assert retuned.measured is not None
    assert retuned.measured.source == "given"
