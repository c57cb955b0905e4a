"""Files of heads: what is written comes back, what was changed does not, and looking after them."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import head_world
import numpy as np
import pytest
import safetensors.numpy
import tables_kit
from cli_world import inside
from stores import damage

import featstore
from featstore import founding
from featstore.errors import IntegrityError, NotFoundError, SpaceMismatchError, UsageError
from featstore.heads import keeping, opening
from featstore.heads.head import Head
from featstore.layout import Layout
from featstore.records import Artefact, HeadCard
from featstore.storage import documents, hashing
from featstore.tables import FeatureTable

HEADS = {
    "linear": head_world.linear("classification", ("a", "b", "c"), 16),
    "binary": head_world.linear("classification", ("a", "b"), 16, input="raw"),
    "multilabel": head_world.linear("multilabel", ("a", "b", "c"), 16),
    "regression": head_world.linear("regression", (), 16),
    "mlp": head_world.mlp("classification", ("a", "b", "c"), 16),
    "knn": Head(
        "classification", "knn", ("a", "b"), 16, "unit",
        {"known": tables_kit.vectors(30), "known_target": np.eye(2, dtype=np.float32)[np.arange(30) % 2]},
        {"k": 10.0, "tau": 0.07, "temperature": 1.1},
    ),
}  # fmt: skip


def store_with(folder: Path, head: Head = HEADS["linear"]) -> tuple[Layout, HeadCard]:
    layout, features, _ = tables_kit.filled(folder, rows=60)
    founding.found(layout)
    return layout, head_world.keep(layout, head, space_id=features.space_id)


def put(layout: Layout, card: HeadCard, content: bytes) -> HeadCard:
    """Puts other bytes in a head's place, with a card that vouches for them."""
    layout.storage.write(layout.head(card.head, card.version, card.head_file.file), content)
    artefact = Artefact(file=card.head_file.file, sha256=hashing.of_bytes(content), bytes=len(content))
    return dataclasses.replace(card, head_file=artefact)


def reopened(layout: Layout, card: HeadCard) -> Head:
    return keeping.read(layout.storage, layout.head(card.head, card.version, card.head_file.file), card.head_file, card)


# ── one file ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", HEADS)
def test_a_head_comes_back_as_it_was_written_and_equal_heads_are_equal_files(tmp_path: Path, name: str) -> None:
    head = HEADS[name]
    layout, card = store_with(tmp_path, head)
    found_card, found = opening.open_head(layout, "kinds")
    assert found_card == card
    for field in ("task", "kind", "classes", "dim", "input", "settings"):
        assert getattr(found, field) == getattr(head, field)
    assert set(found.arrays) == set(head.arrays)
    for key, array in head.arrays.items():
        assert found.arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[key], array)
    vectors = tables_kit.vectors(20)
    np.testing.assert_array_equal(found.logits(vectors), head.logits(vectors))
    shuffled = dataclasses.replace(head, arrays=dict(reversed(head.arrays.items())))
    assert keeping.encode(shuffled) == keeping.encode(head) == keeping.encode(found)


@pytest.mark.parametrize("file", ["head.safetensors", "card.json"])
@pytest.mark.parametrize("change", ["flip", "short", "half", "empty"])
def test_a_changed_file_is_an_error_that_names_it(tmp_path: Path, file: str, change: str) -> None:
    layout, _ = store_with(tmp_path)
    path = layout.storage.local(layout.head("kinds", 1, file))
    for bit in (3, 500, 8 * path.stat().st_size - 9) if change == "flip" else (0,):
        content = path.read_bytes()
        damage(path, change, bit=bit)
        with pytest.raises(IntegrityError, match=file):
            opening.open_head(layout, "kinds")
        path.write_bytes(content)
    opening.open_head(layout, "kinds")


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    layout, _ = store_with(tmp_path)
    layout.storage.delete(layout.head("kinds", 1, "head.safetensors"))
    with pytest.raises(IntegrityError, match=r"head\.safetensors is missing"):
        opening.open_head(layout, "kinds")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("/tmp/featstore-was-here",))


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b"\0" * 30_000_000)
    return packed.getvalue()


FOREIGN = {
    "pickle": pickle.dumps(_Bomb()),
    "zip bomb": _zip(),
    "a header larger than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "a tensor larger than the file": (lambda h: struct.pack("<Q", len(h)) + h)(
        json.dumps({"weights": {"dtype": "F32", "shape": [1 << 30, 1 << 10], "data_offsets": [0, 1 << 42]}}).encode()
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_safetensors_file_is_refused_even_if_a_card_vouches_for_it(tmp_path: Path, what: str) -> None:
    layout, card = store_with(tmp_path)
    card = put(layout, card, FOREIGN[what])
    with pytest.raises(IntegrityError, match="does not hold a head"):
        reopened(layout, card)
    assert not Path("/tmp/featstore-was-here").exists()


def _changed(head: Head, **arrays: object) -> bytes:
    merged = {**head.arrays, **arrays}
    return keeping.encode(dataclasses.replace(head, arrays={k: v for k, v in merged.items() if v is not None}))


LINEAR, MLP, KNN = HEADS["linear"], HEADS["mlp"], HEADS["knn"]
WRONG = {
    "lacks 'bias'": (LINEAR, _changed(LINEAR, bias=None)),
    "has 'extra'": (LINEAR, _changed(LINEAR, extra=np.zeros(3))),
    "'weights' has the shape (3, 15), not (3, 16)": (LINEAR, _changed(LINEAR, weights=np.zeros((3, 15)))),
    "'weights' has the shape (48,), not (3, 16)": (LINEAR, _changed(LINEAR, weights=np.zeros(48))),
    "'bias' has the shape (4,), not (3,)": (LINEAR, _changed(LINEAR, bias=np.zeros(4))),
    "'weights' holds NaN": (LINEAR, _changed(LINEAR, weights=np.full((3, 16), np.nan))),
    "'weights' is float16": (LINEAR, _changed(LINEAR, weights=np.zeros((3, 16), np.float16))),
    "'mean' and 'factor' belong together": (LINEAR, _changed(LINEAR, factor=None)),
    "'weights' has the shape (3, 24), not (3, 7)": (
        MLP,
        _changed(MLP, hidden_weights=np.zeros((7, 16)), hidden_bias=np.zeros(7)),
    ),
    "'known_target' has the shape (29, 2), not (30, 2)": (
        KNN,
        _changed(KNN, known_target=np.zeros((29, 2), np.float32)),
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_arrays_that_are_not_the_cards_are_refused(tmp_path: Path, message: str) -> None:
    head, content = WRONG[message]
    layout, card = store_with(tmp_path, head)
    with pytest.raises(IntegrityError) as caught:
        reopened(layout, put(layout, card, content))
    assert message in caught.value.message


def test_a_knn_head_knows_no_more_items_than_it_was_trained_on(tmp_path: Path) -> None:
    layout, card = store_with(tmp_path, KNN)
    with pytest.raises(IntegrityError, match="knows 30 items; 29 were trained on"):
        reopened(layout, dataclasses.replace(card, n_train=29))


def test_the_file_holds_tensors_that_others_can_read(tmp_path: Path) -> None:
    layout, card = store_with(tmp_path)
    content = layout.storage.read(layout.head("kinds", 1, card.head_file.file))
    assert set(safetensors.numpy.load(content)) == {"weights", "bias", "mean", "factor"}


# ── finding a head ────────────────────────────────────────────────────────────────────────────


def test_heads_are_found_by_name_and_version_and_only_whole_ones(tmp_path: Path) -> None:
    layout, _ = store_with(tmp_path)
    head_world.keep(layout, HEADS["binary"], version=3, space_id=tables_kit.SPACE)
    head_world.keep(layout, HEADS["knn"], head="other", version=12, space_id=tables_kit.SPACE)
    layout.storage.write(layout.head("kinds", 4, "head.safetensors"), b"killed before its card was written")
    assert opening.versions(layout, "kinds") == [3, 1]
    assert opening.open_head(layout, "kinds")[0].version == 3
    assert opening.open_head(layout, "kinds:1")[1].classes == ("a", "b", "c")
    assert [(c.head, c.version) for c in opening.cards(layout)] == [("kinds", 3), ("other", 12)]
    assert [c.version for c in opening.cards(layout, all_versions=True)] == [3, 1, 12]
    newest = opening.newest_card(layout, "kinds")
    assert newest is not None
    assert newest.version == 3
    assert opening.newest_card(layout, "none") is None
    assert opening.has_head(layout, "kinds:9")
    assert not opening.has_head(layout, "photos@tiny")
    with pytest.raises(NotFoundError, match="no version 4; it has 1, 3"):
        opening.open_head(layout, "kinds:4")
    with pytest.raises(NotFoundError, match=r"no head 'kind' .*\(heads: kinds, other\)"):
        opening.open_head(layout, "kind")
    for address in ("../heads/kinds", "kinds:", "kinds:-1", "a@b", "", "kinds/1"):
        with pytest.raises(UsageError, match="not a head's address"):
            opening.open_head(layout, address)


def test_a_card_in_another_folder_or_naming_another_file_is_refused(tmp_path: Path) -> None:
    layout, card = store_with(tmp_path)
    documents.write(layout.storage, layout.head("kinds", 2, "card.json"), card)
    with pytest.raises(IntegrityError, match="is the card of kinds:1, not of kinds:2"):
        opening.open_head(layout, "kinds:2")
    outside = dataclasses.replace(card.head_file, file="../../../store.json")
    documents.write(layout.storage, layout.head("kinds", 1, "card.json"), dataclasses.replace(card, head_file=outside))
    with pytest.raises(IntegrityError, match="outside its folder"):
        opening.open_head(layout, "kinds:1")


def test_a_head_of_another_model_under_the_same_id_is_refused(model_store: Path, tmp_path: Path) -> None:
    from stores import fresh

    store = fresh(model_store, tmp_path)
    model = store.models()[0]
    head = head_world.linear("classification", ("a", "b"), model.dim)
    head_world.keep(store.layout, head, space_id=model.space_id, space_digest="f" * 64)
    with pytest.raises(SpaceMismatchError) as caught:
        opening.open_head(store.layout, "kinds")
    assert "ffffffff" in caught.value.message
    assert model.digest[:16] in caught.value.message


# ── looking after ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["head.safetensors", "predictions.parquet", "card.json"])
def test_verify_names_a_damaged_head(tmp_path: Path, file: str) -> None:
    layout, _ = store_with(tmp_path)
    store = featstore.open(tmp_path / "store")
    assert not [f for f in store.verify(sample=0).findings if "head" in f.code]
    damage(layout.storage.local(layout.head("kinds", 1, file)), "flip", bit=777)
    found = [f for f in store.verify(sample=0).findings if "head" in f.code]
    assert [(f.code, f.severity, f.path) for f in found] == [("damaged_head", "error", "heads/kinds/1")]
    assert file in found[0].message
    assert inside("verify", "--sample", "0", "--store", str(store.path), cwd=tmp_path).code == 4


def test_verify_reads_splits_and_tells_of_unfinished_heads(tmp_path: Path) -> None:
    layout, _ = store_with(tmp_path)
    layout.storage.write(layout.head("kinds", 2, "head.safetensors"), b"half")
    layout.storage.write(layout.split("photos", "label"), b"{}")
    layout.storage.write(layout.split("photos", "label", "parquet"), b"PAR1")
    report = featstore.open(tmp_path / "store").verify(sample=0)
    found = {(f.code, f.severity, f.path) for f in report.findings}
    assert ("unfinished_head", "warning", "heads/kinds/2") in found
    assert ("damaged_split", "error", "splits/photos/label.json") in found
    assert ("damaged_split", "error", "splits/photos/label.parquet") in found


def test_gc_keeps_the_newest_versions_and_the_tables_they_were_trained_on(tmp_path: Path) -> None:
    layout, features, _ = tables_kit.filled(tmp_path, rows=60)
    founding.found(layout)
    for version in range(1, 5):
        head_world.keep(layout, HEADS["linear"], version=version, space_id=features.space_id, table_version=version - 1)
        tables_kit.add_run(layout, f"more{version}", 10, start=1000 * version)
    layout.storage.write(layout.head("kinds", 5, "head.safetensors"), b"killed")
    store = featstore.open(tmp_path / "store")
    old = store.gc(dry_run=True, keep_versions=1)
    assert old.kept_heads == {"kinds": [1, 2, 3, 4]}  # the others are too young to go
    planned = store.gc(dry_run=True, keep_versions=2, grace_hours=0)
    assert planned.kept_heads == {"kinds": [3, 4]}
    assert opening.versions(layout, "kinds") == [4, 3, 2, 1]
    done = store.gc(keep_versions=2, grace_hours=0)
    assert done.kept_heads == {"kinds": [3, 4]}
    assert opening.versions(layout, "kinds") == [4, 3]
    assert layout.storage.folders("heads/kinds") == ["3", "4"]
    (versions,) = done.kept_versions.values()
    assert {2, 3} <= set(versions)
    for version in (2, 3):  # a head's own version can still be read in full
        table = FeatureTable.open(layout, "photos", features.space_id, version)
        ids, _ = table.matrix()
        assert len(ids) == 60 + 10 * version
        assert store.predict(f"kinds:{version + 1}", table=f"photos:{version}").summary.items == len(ids)


def test_gc_does_not_miss_versions_of_a_table_that_was_made_anew(tmp_path: Path) -> None:
    layout, features, _ = tables_kit.filled(tmp_path, rows=60)
    founding.found(layout)
    head_world.keep(layout, HEADS["linear"], space_id=features.space_id, table_version=7)
    (versions,) = featstore.open(tmp_path / "store").gc(grace_hours=0).kept_versions.values()
    assert 7 not in versions


def test_gc_stops_where_it_cannot_tell_what_a_head_needs(tmp_path: Path) -> None:
    layout, _ = store_with(tmp_path)
    damage(layout.storage.local(layout.head("kinds", 1, "card.json")), "flip", bit=777)
    before = layout.storage.files("features")
    with pytest.raises(IntegrityError, match="cannot be told"):
        featstore.open(tmp_path / "store").gc(keep_versions=1, grace_hours=0)
    assert layout.storage.files("features") == before


def test_gc_keeps_an_old_version_where_the_newest_is_damaged(tmp_path: Path) -> None:
    layout, features, _ = tables_kit.filled(tmp_path, rows=60)
    founding.found(layout)
    for version in (1, 2):
        head_world.keep(layout, HEADS["linear"], version=version, space_id=features.space_id)
    damage(layout.storage.local(layout.head("kinds", 2, "card.json")), "flip", bit=777)
    with pytest.raises(IntegrityError, match="cannot be told"):
        featstore.open(tmp_path / "store").gc(keep_versions=1, grace_hours=0)
    assert layout.storage.folders("heads/kinds") == ["1", "2"]


def test_one_broken_head_hides_no_other(tmp_path: Path) -> None:
    layout, features, _ = tables_kit.filled(tmp_path, rows=60)
    founding.found(layout)
    for name in ("kinds", "others"):
        head_world.keep(layout, HEADS["linear"], head=name, space_id=features.space_id)
    damage(layout.storage.local(layout.head("kinds", 1, "card.json")), "flip", bit=777)
    at = ("--store", str(tmp_path / "store"))
    done = inside("ls", "heads", *at, cwd=tmp_path)
    assert done.code == 4
    assert "others:1" in done.out
    assert "heads/kinds/1/card.json is damaged" in done.err
    assert [card["head"] for card in inside("ls", "heads", "--json", *at, cwd=tmp_path).json] == ["others"]
    with pytest.raises(IntegrityError):
        featstore.open(tmp_path / "store").heads()


def test_gc_leaves_a_head_alone_that_is_being_trained(tmp_path: Path) -> None:
    from featstore.storage import locks

    layout, _ = store_with(tmp_path)
    layout.storage.write(layout.head("kinds", 2, "head.safetensors"), b"being written")
    store = featstore.open(tmp_path / "store")
    with locks.hold(layout.storage, layout.head_lock("kinds"), purpose="training"):
        assert store.gc(grace_hours=0).kept_heads == {"kinds": [1]}
        assert layout.storage.exists(layout.head("kinds", 2))
    store.gc(grace_hours=0)
    assert not layout.storage.exists(layout.head("kinds", 2))
    done = inside("gc", "--store", str(store.path), cwd=tmp_path)
    assert "head kinds: versions 1 stay" in done.out
