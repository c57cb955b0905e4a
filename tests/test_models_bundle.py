"""Bundles: one file carries a whole model to another host, and nothing that it says of itself is believed."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_world import inside, stocked
from cli_world import photos as make_photos
from model_fixtures import layout_at
from own_models import SIDE, image_card, image_model, save, text_card, text_model
from safetensors.numpy import load
from safetensors.numpy import save as save_arrays
from stores import fresh, vectors

import featstore
from featstore.errors import FeatstoreError, IntegrityError, NotFoundError, SettingsError, UsageError
from featstore.models import ModelOptions, ModelRequest, describe, ensure, find, modality_of
from featstore.models import bundle as bundle_module
from featstore.records import Bundle, ModelCard
from featstore.storage import documents, hashing


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelCard]:
    """A bundle of a small text model."""
    folder = tmp_path_factory.mktemp("whole")
    path = save(folder, text_model(), text_card(text={"prompt_document": "passage: "}))
    store = featstore.open(folder / "store")
    store.export_model(str(path), bundle=folder / "net.featstore")
    card = store.model(str(path))
    assert card is not None
    return folder / "net.featstore", card


_WITHOUT_TORCH = """
import sys
from pathlib import Path
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "timm", "torchvision", "huggingface_hub"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import featstore
store = featstore.open("far-away")
for bundle in sys.argv[1:]:
    texts = "minilm" in bundle
    table = store.extract("texts.csv" if texts else "photos", model=bundle, name=Path(bundle).stem,
                          **({"text_column": "text", "id_column": "id"} if texts else {}))
    again = store.extract("texts.csv" if texts else "photos", model=table.space_id, name=Path(bundle).stem)
    assert again.last_run.stored == 0
    print(table.space_id)
"""


@pytest.mark.heavy
def test_the_packaged_models_keep_their_spaces_on_a_host_without_torch(
    model_store: Path, photos: Path, texts_csv: Path, tmp_path: Path
) -> None:
    store = fresh(model_store, tmp_path)
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(texts_csv, tmp_path / "texts.csv")
    here = [
        store.extract(tmp_path / "photos", model="efficientnet_lite0"),
        store.extract(tmp_path / "texts.csv", model="minilm", text_column="text", id_column="id"),
    ]
    for table in here:
        store.export_model(table.space_id, bundle=tmp_path / f"{table.card.model}.featstore")
    names = [str(tmp_path / f"{table.card.model}.featstore") for table in here]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *names], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [table.space_id for table in here]
    far = featstore.open(tmp_path / "far-away")
    for table in here:
        other = far.table(f"{table.card.model}@{table.space_id}")
        assert vectors(other) == vectors(table)
        assert other.card == table.card


def test_the_same_model_gives_the_same_bytes_from_any_store(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    path, card = whole
    store = featstore.open(tmp_path / "other")
    done = store.export_model(str(path), bundle=tmp_path / "again.featstore")
    assert (tmp_path / "again.featstore").read_bytes() == path.read_bytes()
    assert done.bundle is not None
    assert done.bundle.sha256 == hashing.of_file(path)
    assert (done.space_id, done.folder) == (card.space_id, None)
    with zipfile.ZipFile(path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert set(archive.namelist()) == set(done.files) == {
            "bundle.json", "card.json", "model.onnx", "tokenizer.json", "canaries.safetensors", "LICENCE.txt",
        }  # fmt: skip
        assert b"Apache-2.0" in archive.read("LICENCE.txt")
    assert path.parent.as_posix().encode() not in path.read_bytes()


def test_folder_and_bundle_are_written_at_once_and_hold_the_same(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    done = store.export_model(str(whole[0]), tmp_path / "out", bundle=tmp_path / "b.featstore")
    with zipfile.ZipFile(tmp_path / "b.featstore") as archive:
        for name in done.files:
            assert (tmp_path / "out" / name).read_bytes() == archive.read(name)
    assert done.folder == str(tmp_path / "out")


def test_a_bundle_is_known_again_and_shown_before_it_is_kept(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    path, card = whole
    layout, request = layout_at(tmp_path / "store"), ModelRequest(model=str(path))
    assert find(layout, request) is None
    assert modality_of(request) == "text"
    entry = describe(request)
    assert entry is not None
    assert (entry.name, entry.licence, entry.parameters) == (card.model, "Apache-2.0", card.weights.parameters)
    assert ensure(layout, request) == card
    assert find(layout, request) == card
    moved = shutil.copy(path, tmp_path / "renamed.featstore")
    assert find(layout, ModelRequest(model=str(moved))) == card
    kept = layout.storage.local(layout.model(card.space_id, "model.onnx"))
    before = kept.stat().st_mtime_ns
    assert ensure(layout, ModelRequest(model=str(moved))) == card
    assert kept.stat().st_mtime_ns == before


def test_a_function_that_is_there_under_another_name_is_that_one(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "store")
    mine = save(tmp_path, text_model(), text_card(name="mine", text={"prompt_document": "passage: "}))
    first = ensure(layout, ModelRequest(model=str(mine)))
    assert first.space_id.startswith("mine-")
    assert ensure(layout, ModelRequest(model=str(whole[0]))) == first


def test_nothing_changes_a_whole_model(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "store")
    for request in (
        ModelRequest(model=str(whole[0]), weights=whole[0]),
        ModelRequest(model=str(whole[0]), options=ModelOptions(dim=4)),
        ModelRequest(model=str(whole[0]), options=ModelOptions(prompt_document="")),
    ):
        with pytest.raises(UsageError, match="whole model"):
            ensure(layout, request)
    assert not layout.storage.files()


# ── damage and malice ─────────────────────────────────────────────────────────────────────────


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _relisted(members: dict[str, bytes], **card_changes: Any) -> dict[str, bytes]:
    """The members with a card and a list of files that fit them again, as somebody who can count would write."""
    body = json.loads(members["card.json"])
    del body["document_sha256"]
    for part, name in (("onnx", "model.onnx"), ("canaries", "canaries.safetensors"), ("tokenizer", "tokenizer.json")):
        if name not in members:
            continue
        body[part] = {"file": name, "sha256": hashing.of_bytes(members[name]), "bytes": len(members[name])}
    body |= card_changes
    body["document_sha256"] = hashing.of_json(body)
    members = {**members, "card.json": (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()}
    files = [
        {"file": name, "sha256": hashing.of_bytes(content), "bytes": len(content)}
        for name, content in sorted(members.items())
        if name != "bundle.json"
    ]
    listed = {"format_version": 1, "space_id": body["space_id"], "digest": body["digest"], "files": files}
    listed["document_sha256"] = hashing.of_json(listed)
    return {**members, "bundle.json": (json.dumps(listed, indent=2, ensure_ascii=False) + "\n").encode()}


def _extra(name: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: _packed({**members, name: b"x"})


def _duplicate(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO(_packed(members))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("model.onnx", b"another")
    return out.getvalue()


def _link(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO(_packed(members))
    with zipfile.ZipFile(out, "a") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/hostname")
    return out.getvalue()


def _bomb(members: dict[str, bytes]) -> bytes:
    """Two gigabytes of zeros in a few hundred bytes, as far as the headers go."""
    content = bytearray(_packed({**members, "LICENCE.txt": b"0" * 1000}))
    at = content.index(b"PK\x01\x02")
    while content[at + 46 : at + 46 + 11] != b"LICENCE.txt":
        at = content.index(b"PK\x01\x02", at + 4)
    for offset in (20, 24):
        content[at + offset : at + offset + 4] = (2**31 - 1).to_bytes(4, "little")
    return bytes(content)


def _larger(members: dict[str, bytes]) -> bytes:
    """Every size within its limit, all of them together more than the file has: members that overlap."""
    content = bytearray(_packed(members))
    at = content.index(b"PK\x01\x02")
    while content[at + 46 : at + 46 + 10] != b"model.onnx":
        at = content.index(b"PK\x01\x02", at + 4)
    for offset in (20, 24):
        content[at + offset : at + offset + 4] = (2**30).to_bytes(4, "little")
    return bytes(content)


def _without(name: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: _packed({k: v for k, v in members.items() if k != name})


def _with(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: _packed({**members, name: change(members[name])})


def _other_graph(members: dict[str, bytes]) -> bytes:
    """A graph that fits the card but computes something else: the canaries tell."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(members["model.onnx"])
    (table,) = [t for t in model.graph.initializer if t.dims[:] == [64, 12]]
    table.CopyFrom(numpy_helper.from_array(np.random.default_rng(5).normal(size=(64, 12)).astype("f4"), table.name))
    return _packed(_relisted({**members, "model.onnx": model.SerializeToString()}))


def _reaching_graph(members: dict[str, bytes]) -> bytes:
    import onnx

    model = onnx.load_model_from_string(members["model.onnx"])
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    return _packed(_relisted({**members, "model.onnx": model.SerializeToString()}))


def _renamed(space_id: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: _packed(_relisted(members, space_id=space_id))


def _future(members: dict[str, bytes]) -> bytes:
    listed = json.loads(members["bundle.json"]) | {"format_version": 99}
    return _packed({**members, "bundle.json": json.dumps(listed).encode()})


ATTACKS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "path outside": (_extra("../evil.txt"), "what no bundle does"),
    "absolute path": (_extra("/tmp/evil.txt"), "what no bundle does"),
    "folder": (_extra("sub/"), "what no bundle does"),
    "extra file": (_extra("run.py"), "what no bundle does"),
    "link": (_link, "what no bundle does"),
    "twice": (_duplicate, "what no bundle does"),
    "bomb": (lambda m: _packed({**m, "LICENCE.txt": b"0" * 10**8}, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "header bomb": (_bomb, "at most 1,048,576 are read"),
    "overlap": (_larger, "less than what it says"),
    "no card": (_without("card.json"), r"lacks card\.json"),
    "no list": (_without("bundle.json"), r"lacks bundle\.json"),
    "no graph": (_without("model.onnx"), r"lacks model\.onnx"),
    "no licence": (_without("LICENCE.txt"), r"lacks LICENCE\.txt"),
    "other graph": (_with("model.onnx", lambda b: b + b"\0"), "not what was written"),
    "other tokenizer": (_with("tokenizer.json", lambda b: b.replace(b"[UNK]", b"[unk]")), "not what was written"),
    "other licence": (_with("LICENCE.txt", lambda b: b"public domain"), "not what was written"),
    "other card": (_with("card.json", lambda b: b.replace(b"passage: ", b"passage:_")), "not what was written"),
    "other list": (_with("bundle.json", lambda b: b.replace(b'"bytes": ', b'"bytes": 1')), "damaged"),
    "other function": (_other_graph, "gives other vectors"),
    "graph that reaches out": (_reaching_graph, "another file"),
    "space outside": (_renamed("../../x-00000000"), "cannot be kept"),
    "space of another digest": (_renamed("resnet50-00000000"), "cannot be kept"),
    "no pickle either": (lambda _: b"\x80\x04cposix\nsystem\n", "no bundle"),
    "empty": (lambda _: b"", "no bundle"),
    "future": (_future, "Upgrade featstore"),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_a_bundle_that_is_not_as_it_was_written_is_refused(
    attack: str, whole: tuple[Path, ModelCard], tmp_path: Path
) -> None:
    make, message = ATTACKS[attack]
    path = tmp_path / "inner" / "net.featstore"
    path.parent.mkdir()
    path.write_bytes(make(_members(whole[0])))
    layout = layout_at(tmp_path / "store")
    with pytest.raises(IntegrityError) as caught:
        ensure(layout, ModelRequest(model=str(path)))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "net.featstore" in str(caught.value) or attack == "other function"
    assert not layout.storage.files("models")
    assert {p.name for p in tmp_path.rglob("*")} <= {"inner", "net.featstore", "store"}


def test_members_that_are_written_again_with_fitting_hashes_are_a_bundle(
    whole: tuple[Path, ModelCard], tmp_path: Path
) -> None:
    """What the attacks above build upon is sound in itself: it is their change that is refused."""
    path = tmp_path / "net.featstore"
    path.write_bytes(_packed(_relisted(_members(whole[0]))))
    assert ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(path))).space_id == whole[1].space_id


def test_no_flipped_bit_and_no_missing_end_is_overlooked(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    content = whole[0].read_bytes()
    path = tmp_path / "net.featstore"
    random = np.random.default_rng(0)
    places = [*random.integers(0, len(content), 60).tolist(), *random.integers(len(content) - 600, len(content), 60)]
    good = 0
    for at in places:
        flipped = bytearray(content)
        flipped[int(at)] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(flipped)
        try:
            card = ensure(layout_at(tmp_path / f"store{at}"), ModelRequest(model=str(path)))
        except FeatstoreError:
            assert not layout_at(tmp_path / f"store{at}").storage.files("models")
        else:  # a bit that means nothing: a date, an attribute
            assert card == whole[1]
            good += 1
    assert good < len(places) / 3
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(IntegrityError):
            ensure(layout_at(tmp_path / "cut"), ModelRequest(model=str(path)))


def test_a_damaged_model_is_not_exported(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    card = ensure(store.layout, ModelRequest(model=str(whole[0])))
    kept = store.layout.storage.local(store.layout.model(card.space_id, "model.onnx"))
    kept.write_bytes(kept.read_bytes()[:-1])
    old = tmp_path / "old.featstore"
    old.write_bytes(b"the bundle before")
    with pytest.raises(IntegrityError, match=r"model\.onnx is damaged"):
        store.export_model(card.space_id, tmp_path / "out", bundle=old)
    assert old.read_bytes() == b"the bundle before"
    assert not (tmp_path / "out").exists()


# ── the façade and the command line ───────────────────────────────────────────────────────────


def test_what_cannot_be_written_or_asked_for_is_said(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    store = featstore.open(tmp_path / "store")
    with pytest.raises(UsageError, match="where to write"):
        store.export_model(str(whole[0]))
    with pytest.raises(UsageError, match=r"ends in \.featstore"):
        store.export_model(str(whole[0]), bundle=tmp_path / "net.zip")
    with pytest.raises(SettingsError, match="no option 'poling'"):
        store.model(str(whole[0]), poling="mean")
    with pytest.raises(NotFoundError, match="there is no model 'nothing'"):
        store.model("nothing")
    assert store.model(str(whole[0])) is None
    assert not (tmp_path / "store").exists()


def test_the_command_writes_a_bundle_that_the_next_one_takes(tmp_path: Path) -> None:
    where = stocked(tmp_path)
    folder = make_photos(where / "photos", 3)
    done = inside("models", "export", "efficientnet_lite0", "--bundle", "lite0.featstore", cwd=where)
    assert done.code == 0, done.err
    assert "lite0.featstore (" in done.out
    assert "--model lite0.featstore" in done.out
    taken = inside("extract", folder, "--model", "lite0.featstore", "--store", "far", "--json", cwd=where)
    assert taken.code == 0, taken.err
    own = inside("models", "show", "efficientnet_lite0", "--json", cwd=where).json
    assert taken.json["space_id"] == own["card"]["space_id"]
    shown = inside("models", "show", "lite0.featstore", "--store", "farther", cwd=where)
    assert "Apache-2.0" in shown.out
    assert "3,371,008" in shown.out
    for arguments, message in (
        (["models", "export", "efficientnet_lite0"], "where to write"),
        (["models", "export", "efficientnet_lite0", "--bundle", "x.zip"], "ends in .featstore"),
        (["models", "export", "efficientnet_lite0", "-o", "x", "--dim", "0"], "at least one value"),
        (["models", "export", "efficientnet_lite0", "-o", "x", "--pooling", "sum"], "mean, cls, last and max"),
        (["extract", "photos", "--model", "nothing.featstore"], "there is no such file"),
    ):
        failed = inside(*arguments, cwd=where)
        assert (failed.code, message in failed.err) == (2, True), failed.err


def test_models_are_listed_by_any_of_their_words(tmp_path: Path) -> None:
    path = save(tmp_path, image_model(), image_card())
    store = featstore.open(tmp_path / "featstore-data")
    store.export_model(str(path), tmp_path / "out")
    for words, wanted in (
        (["image", "onnx"], {"net.onnx"}),
        (["text", "package"], {"minilm"}),
        (["apache-2.0", "EFFICIENTNET_lite"], {"efficientnet_lite0"}),
        (["resnet50", "wide"], {"wide_resnet50_2"}),
    ):
        done = inside("models", "list", *words, "--json", cwd=tmp_path)
        assert {line["name"] for line in done.json} == wanted, words
    shown = inside("models", "list", "net.onnx", cwd=tmp_path).out.splitlines()
    assert shown[1].split()[:5] == ["net.onnx", "images", "12", str(SIDE), "704"]
    resnet = inside("models", "show", "resnet50", cwd=tmp_path).out
    assert "23,508,032" in resnet
    assert "input 224" in resnet


@pytest.mark.heavy
def test_folders_are_described_before_they_are_in_a_store(tmp_path: Path) -> None:
    from model_fixtures import bert_folder

    folder = bert_folder(tmp_path / "bert")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    entry = describe(ModelRequest(model=str(folder)))
    assert entry is not None
    assert (entry.modality, entry.dim, entry.input_side, entry.licence) == ("text", 32, 64, "apache-2.0")
    card = ensure(layout_at(tmp_path / "store"), ModelRequest(model=str(folder)))
    assert entry.parameters == card.weights.parameters
    assert entry.dim == card.dim
    done = inside("models", "show", str(folder), cwd=tmp_path)
    assert f"{entry.parameters:,}" in done.out


def test_the_record_of_a_bundle_is_its_schema(whole: tuple[Path, ModelCard]) -> None:
    import jsonschema
    from cli_world import schema

    content = _members(whole[0])["bundle.json"]
    jsonschema.Draft202012Validator(schema("documents/bundle.json")).validate(json.loads(content))
    found = documents.parse(content, Bundle, where="bundle.json")
    assert [a.file for a in found.files] == sorted(a.file for a in found.files)
    assert dataclasses.asdict(found)["space_id"] == whole[1].space_id
    assert os.path.basename(whole[0]) not in content.decode()


def test_a_bundle_that_claims_anothers_digest_poisons_no_space(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    """Whichever comes first, the second is not taken for it."""
    real = save(tmp_path / "real", text_model(seed=4), text_card(name="real"))
    genuine = ensure(layout_at(tmp_path / "genuine"), ModelRequest(model=str(real)))
    liar = tmp_path / "liar.featstore"
    claim = {"space_id": genuine.space_id, "digest": genuine.digest}
    liar.write_bytes(_packed(_relisted(_members(whole[0]), **claim)))
    for first, second in ((real, liar), (liar, real)):
        layout = layout_at(tmp_path / f"store-{first.stem}")
        assert ensure(layout, ModelRequest(model=str(first))).digest == genuine.digest
        for _ in range(2):
            with pytest.raises(IntegrityError, match="other vectors"):
                ensure(layout, ModelRequest(model=str(second)))
        assert find(layout, ModelRequest(model=str(second))) is None


def test_a_bundle_of_other_bytes_is_compared_once_and_then_known(
    whole: tuple[Path, ModelCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    members = _members(whole[0])
    model = onnx.load_model_from_string(members["model.onnx"])
    model.producer_version = "another day"  # the same function
    path = tmp_path / "again.featstore"
    path.write_bytes(_packed(_relisted({**members, "model.onnx": model.SerializeToString()})))
    layout = layout_at(tmp_path / "store")
    ensure(layout, ModelRequest(model=str(whole[0])))
    assert find(layout, ModelRequest(model=str(path))) is None
    assert ensure(layout, ModelRequest(model=str(path))) == whole[1]
    monkeypatch.setattr(bundle_module, "keep", lambda *_: pytest.fail("compared again"))
    assert ensure(layout, ModelRequest(model=str(path))) == whole[1]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small image model."""
    folder = tmp_path_factory.mktemp("seen")
    store = featstore.open(folder / "store")
    store.export_model(str(save(folder, image_model(), image_card())), bundle=folder / "net.featstore")
    return folder / "net.featstore"


_Canaries = dict[str, np.ndarray]
CANARIES: dict[str, Callable[[_Canaries], _Canaries]] = {
    "no inputs": lambda c: {"vectors": c["vectors"]},
    "no vectors": lambda c: {k: v for k, v in c.items() if k != "vectors"},
    "none at all": lambda c: {name: array[:0] for name, array in c.items()},
    "without a channel": lambda c: {n: a[..., 0] if n in ("pictures", "ids") else a for n, a in c.items()},
    "fewer inputs": lambda c: {name: array if name == "vectors" else array[:5] for name, array in c.items()},
    "ids out of range": lambda c: {name: a + 10**6 if name == "ids" else a for name, a in c.items()},
    "no tokens": lambda c: {name: a * 0 if name in ("mask", "pictures") else a for name, a in c.items()},
}


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("case", list(CANARIES))
def test_canaries_that_prove_nothing_are_refused(
    case: str, kind: str, whole: tuple[Path, ModelCard], seen: Path, tmp_path: Path
) -> None:
    if (case, kind) == ("ids out of range", "image"):
        return
    members = _members(whole[0] if kind == "text" else seen)
    changed = CANARIES[case](dict(load(members["canaries.safetensors"])))
    members["canaries.safetensors"] = save_arrays({k: np.ascontiguousarray(v) for k, v in changed.items()})
    _refused(_relisted(members), tmp_path)


CARDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "modality": ("text", {"modality": "image"}, "prepares something else"),
    "no text": ("text", {"text": None}, "prepares something else"),
    "no tokenizer": ("text", {"tokenizer": None}, "texts without a tokenizer"),
    "no room": ("text", {"text": {"max_length": 0}}, "texts of 0 tokens"),
    "inputs": ("text", {"text": {"inputs": ["pixels"]}}, "pixels"),
    "no size": ("image", {"image": {"resize": [0, 0]}}, "pictures of 0 x 0"),
    "no crop": ("image", {"image": {"crop": [-1, 32]}}, "cut to -1 x 32"),
    "no spread": ("image", {"image": {"std": [0, 1, 1]}}, "std"),
    "no values": ("image", {"dim": 0}, "0 values"),
}


@pytest.mark.parametrize("case", list(CARDS))
def test_a_card_that_contradicts_itself_is_refused(
    case: str, whole: tuple[Path, ModelCard], seen: Path, tmp_path: Path
) -> None:
    kind, change, message = CARDS[case]
    members = _members(whole[0] if kind == "text" else seen)
    body = json.loads(members["card.json"])
    change = {k: {**body[k], **v} if isinstance(v, dict) else v for k, v in change.items()}
    if "tokenizer" in change:
        members = {name: content for name, content in members.items() if name != "tokenizer.json"}
    assert re.search(message, _refused(_relisted(members, **change), tmp_path))


def test_a_tokenizer_that_is_none_is_refused(whole: tuple[Path, ModelCard], tmp_path: Path) -> None:
    members = {**_members(whole[0]), "tokenizer.json": b"junk"}
    assert "tokenizer that cannot be read" in _refused(_relisted(members), tmp_path)


def _refused(members: dict[str, bytes], folder: Path) -> str:
    path = folder / "net.featstore"
    path.write_bytes(_packed(members))
    layout = layout_at(folder / "store")
    with pytest.raises(IntegrityError) as caught:
        ensure(layout, ModelRequest(model=str(path)))
    assert not layout.storage.files("models")
    return str(caught.value)


def test_options_are_checked_and_shown_before_a_model_is_in_a_store(tmp_path: Path) -> None:
    from model_fixtures import bert_folder

    bert_folder(tmp_path / "bert")
    for options, dim in (
        (["minilm"], 384), (["minilm", "--dim", "64"], 64), (["resnet50", "--dim", "9"], 9),
        (["resnet50", "--layer", "layer3"], 0), (["vgg16", "--pooling", "mean"], 0), (["bert", "--pooling", "max"], 32),
        (["bert", "--layer", "encoder.layer.0"], 0), (["bert", "--layer", "encoder.layer.0", "--dim", "5"], 5),
    ):  # fmt: skip
        shown = inside("models", "show", *options, "--json", cwd=tmp_path)
        assert shown.code == 0, shown.err
        assert (shown.json["card"], shown.json["entry"]["dim"]) == (None, dim), options
    for options, message in (
        (["minilm", "--dim", "500"], "gives 384 values"),
        (["resnet50", "--pooling", "last"], "takes images"),
        (["resnet50", "--prompt-query", "x"], "prompts are for texts"),
        (["bert", "--dim", "33"], "gives 32 values"),
    ):
        failed = inside("models", "show", *options, cwd=tmp_path)
        assert (failed.code, message in failed.err) == (2, True), failed.err


def test_where_no_model_has_the_words_it_is_said_where_others_are(tmp_path: Path) -> None:
    done = inside("models", "list", "zzzz", cwd=tmp_path)
    assert done.code == 0
    assert "featstore models list timm:zzzz" in done.out
    assert "hf:ORG/NAME" in done.out
    assert inside("models", "list", "zzzz", "--json", cwd=tmp_path).json == []
