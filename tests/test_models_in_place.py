"""Weights stay where they lie in the file: the same vectors, from a fraction of the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import featstore
from featstore.encode.opening import open_encoder
from featstore.errors import IntegrityError
from featstore.layout import Layout
from featstore.models import graphs, kept, load_card, session, verified
from featstore.models.in_place import ALIGNMENT, aligned, part
from featstore.models.wire import MalformedError, fields
from featstore.records import ModelCard
from featstore.settings import ExtractSettings

LARGE = 1 << 16


def tensors(*sizes: int, dtype: type = np.float32) -> list[TensorProto]:
    generator = np.random.default_rng(len(sizes))
    return [
        numpy_helper.from_array(generator.integers(0, 100, (size // 4, 4)).astype(dtype), f"weight{at}")
        for at, size in enumerate(sizes)
    ]


def model(*initializers: TensorProto) -> onnx.ModelProto:
    """A graph that adds up the columns' sums of its weights."""
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 4])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4])
    nodes, last = [], "image"
    for at, tensor in enumerate(initializers):
        nodes.append(helper.make_node("Cast", [tensor.name], [f"cast{at}"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [f"cast{at}", "axes"], [f"sum{at}"], keepdims=1))
        nodes.append(helper.make_node("Add", [last, f"sum{at}"], [last := f"upto{at}"]))
    nodes[-1].output[0] = "vector"
    axes = numpy_helper.from_array(np.array([0]), "axes")
    graph = helper.make_graph(nodes, "g", [image], [vector], [*initializers, axes])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def places(content: bytes) -> dict[str, int]:
    """Where the values of each large weight begin."""
    (graph,) = [(begin, stop) for number, _, begin, stop in fields(content, 0, len(content)) if number == 7]
    found = {}
    for number, _, begin, stop in fields(content, *graph):
        if number == 5:
            inside = {field: (start, end) for field, _, start, end in fields(content, begin, stop)}
            if 9 in inside and stop - begin >= LARGE:
                found[content[slice(*inside[8])].decode()] = inside[9][0]
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_large_weights_begin_at_whole_cache_lines_and_nothing_else_changes(dtype: type, count: int) -> None:
    generator = np.random.default_rng(count)
    made = model(*tensors(*(LARGE + 4 * int(more) for more in generator.integers(0, 99, count)), 40, dtype=dtype))
    content = made.SerializeToString(deterministic=True)
    moved = aligned(content)
    assert len(places(moved)) == count
    assert all(at % ALIGNMENT == 0 for at in places(moved).values())
    assert len(moved) - len(content) < 2 * ALIGNMENT * (count + 1)
    assert aligned(moved) == moved
    read = onnx.load_model_from_string(moved)
    for tensor in read.graph.initializer:
        assert not tensor.doc_string.strip()
        tensor.ClearField("doc_string")
    assert read == made


@pytest.mark.parametrize("bytes_", range((1 << 21) - 70, (1 << 21) + 10, 4))
def test_where_a_length_grows_by_a_byte(bytes_: int) -> None:
    """Blanks may make a tensor or the graph so long that its length takes a byte more, which moves all behind it."""
    moved = aligned(model(*tensors(bytes_ // 4, LARGE)).SerializeToString())
    assert all(at % ALIGNMENT == 0 for at in places(moved).values())
    onnx.checker.check_model(onnx.load_model_from_string(moved))


def test_a_graph_and_its_weights_are_parted() -> None:
    made = model(*tensors(LARGE, 2 * LARGE, 40))
    content = graphs.clean(made)
    parted = part(content, "model.onnx")
    assert sorted(parted.weights) == ["weight0", "weight1"]
    for name, found in parted.weights.items():
        (tensor,) = [each for each in made.graph.initializer if each.name == name]
        np.testing.assert_array_equal(found, numpy_helper.to_array(tensor))
        assert not found.flags.writeable
    left = onnx.load_model_from_string(parted.graph)
    assert len(parted.graph) < 2000
    assert [tensor.name for tensor in left.graph.initializer] == ["weight0", "weight1", "weight2", "axes"]
    stub = {entry.key: entry.value for entry in left.graph.initializer[0].external_data}
    begin, length = int(stub["offset"]), int(stub["length"])
    assert stub["location"] == "model.onnx"
    assert content[begin : begin + length] == made.graph.initializer[0].raw_data


def test_what_is_not_aligned_to_its_own_size_is_copied() -> None:
    whole = model(*tensors(LARGE, LARGE)).SerializeToString()
    for shift in range(4):
        given = bytes(shift) + whole
        content = memoryview(given)[shift:].tobytes()
        for name, found in part(content, "f").weights.items():
            assert found.flags.aligned
            np.testing.assert_array_equal(found, part(whole, "f").weights[name])


def test_what_readers_might_read_otherwise_is_left_to_them() -> None:
    plain = tensors(LARGE)[0]
    typed = helper.make_tensor("weight0", TensorProto.FLOAT, [LARGE // 4], np.ones(LARGE // 4, np.float32))
    short = TensorProto()
    short.CopyFrom(plain)
    short.dims[0] += 1
    strange = TensorProto()
    strange.CopyFrom(plain)
    strange.data_type = TensorProto.BFLOAT16
    for one in (typed, short, strange):
        content = model(one).SerializeToString()
        assert part(content, "f").graph == content
        assert aligned(content) == content
    content = model(plain).SerializeToString()
    doubled = content + content  # readers merge the two graphs
    assert part(doubled, "f").weights == {}
    assert aligned(doubled) == doubled
    with pytest.raises(MalformedError):
        part(content[:-5], "f")


@pytest.mark.parametrize("name", ["minilm", "efficientnet_lite0"])
def test_the_vectors_are_the_same_to_the_bit(model_store: Path, name: str) -> None:
    layout = featstore.open(model_store).layout
    (space_id,) = [each for each in layout.storage.folders("models") if each.startswith(name)]
    card = load_card(layout, space_id)
    content = verified.read(layout.storage, layout.model(space_id, "model.onnx"), card.onnx)
    assert all(at % ALIGNMENT == 0 for at in places(content).values())
    from_file = kept.open_backbone(layout, card, device="cpu", mapped=True)
    from_bytes = session.open_bytes(card, content, name="bytes", device="cpu")
    generator = np.random.default_rng(0)
    if card.image is not None:
        pictures = generator.integers(0, 256, (3, *card.image.crop, 3)).astype(np.uint8)
        np.testing.assert_array_equal(from_file.images(pictures), from_bytes.images(pictures))
    else:
        ids, mask = generator.integers(1000, 2000, (4, 17)), np.ones((4, 17), np.int64)
        np.testing.assert_array_equal(from_file.texts(ids, mask), from_bytes.texts(ids, mask))


_OPEN = """
import sys
import numpy as np
import featstore
from featstore.models import kept, load_card, session, verified

def own():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) * 1024

layout = featstore.open(sys.argv[1]).layout
(space_id,) = [each for each in layout.storage.folders("models") if each.startswith("minilm")]
card = load_card(layout, space_id)
session.runtime()
before = own()
if sys.argv[2] == "file":
    backbone = kept.open_backbone(layout, card, device="cpu", mapped=True)
else:
    content = verified.read(layout.storage, layout.model(space_id, "model.onnx"), card.onnx)
    backbone = session.open_bytes(card, content, name="bytes", device="cpu")
backbone.texts(np.array([[101, 2000, 102]]), np.ones((1, 3), np.int64))
print((own() - before) / card.onnx.bytes)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is told in /proc, on Linux")
def test_only_what_is_rearranged_is_copied(model_store: Path) -> None:
    """Half of MiniLM are its words, of which a text uses a few; the other half are matrices, packed for products."""
    found = {
        way: float(subprocess.check_output([sys.executable, "-c", _OPEN, str(model_store), way], text=True))
        for way in ("file", "bytes")
    }
    assert found["file"] < 0.75
    assert found["bytes"] > 1.4


@pytest.fixture
def own(model_store: Path, tmp_path: Path) -> tuple[Layout, ModelCard]:
    """A copy of MiniLM that may be written to, and its card."""
    source, layout = featstore.open(model_store).layout, featstore.open(tmp_path).layout
    (space_id,) = [each for each in source.storage.folders("models") if each.startswith("minilm")]
    for file in ("model.onnx", "tokenizer.json"):
        layout.storage.write(layout.model(space_id, file), source.storage.read(source.model(space_id, file)))
    return layout, load_card(source, space_id)


# The second has words that no one has looked at before.
WORDS = np.array([[101, 2000, 102]]), np.array([[101, 29000, 15000, 102]])


def test_a_file_that_is_replaced_is_still_the_one_that_was_verified(own: tuple[Layout, ModelCard]) -> None:
    layout, card = own
    path = layout.model(card.space_id, "model.onnx")
    whole = layout.storage.read(path)
    backbone = kept.open_backbone(layout, card, device="cpu", mapped=True)
    before = backbone.texts(WORDS[0], np.ones_like(WORDS[0]))
    layout.storage.write(path, bytes(card.onnx.bytes))
    after = backbone.texts(WORDS[1], np.ones_like(WORDS[1]))
    np.testing.assert_array_equal(backbone.texts(WORDS[0], np.ones_like(WORDS[0])), before)
    for mapped in (True, False):
        with pytest.raises(IntegrityError, match="damaged"):
            kept.open_backbone(layout, card, device="cpu", mapped=mapped)
    layout.storage.write(path, b"")
    with pytest.raises(IntegrityError, match="0 bytes"):
        kept.open_backbone(layout, card, device="cpu", mapped=True)
    layout.storage.write(path, whole)
    again = kept.open_backbone(layout, card, device="cpu", mapped=True)
    np.testing.assert_array_equal(again.texts(WORDS[1], np.ones_like(WORDS[1])), after)


def test_what_is_stored_does_not_come_from_a_file_that_others_write_over(own: tuple[Layout, ModelCard]) -> None:
    layout, card = own
    expected = kept.open_backbone(layout, card, device="cpu").texts(WORDS[1], np.ones_like(WORDS[1]))
    encoder = open_encoder(layout, card, ExtractSettings(source=".", model="minilm", workers=1))
    with layout.storage.local(layout.model(card.space_id, "model.onnx")).open("r+b") as file:
        file.write(bytes(card.onnx.bytes))
        file.truncate(1000)
    found = encoder.backbone.texts(WORDS[1], np.ones_like(WORDS[1]))
    np.testing.assert_array_equal(found, expected)
