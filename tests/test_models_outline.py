"""A graph is looked through by its bytes: what the library would find is found, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from featstore.errors import IntegrityError
from featstore.models import graphs, session
from featstore.models.outline import DOMAINS, Outline, outline

Operator = tuple[str, str, str]


def _external(name: str) -> TensorProto:
    tensor = onnx.numpy_helper.from_array(np.ones(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    return tensor


def _model(*nodes: onnx.NodeProto, initializer: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 4])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["b", 4])
    graph = helper.make_graph(list(nodes), "g", [image], [vector], list(initializer))
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def _everything() -> onnx.ModelProto:
    """A model with a tensor, all of them in other files, in every place where the format has one."""
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=_external("in a branch"))], "i", [], [])
    sparse = onnx.SparseTensorProto(values=_external("values"), indices=_external("indices"))
    several = helper.make_node("Own", ["image"], ["x"], domain="own", tensors=[_external("one of several")])
    several.attribute.append(helper.make_attribute("sparse", sparse))
    several.attribute.append(onnx.AttributeProto(name="sparse2", type=12, sparse_tensors=[sparse]))
    several.attribute.append(onnx.AttributeProto(name="graphs", type=10, graphs=[inner]))
    branch = helper.make_node("If", ["image"], ["vector"], then_branch=inner, else_branch=inner)
    model = _model(several, branch, initializer=(_external("weight"),))
    model.graph.sparse_initializer.append(sparse)
    body = helper.make_node("Constant", [], ["y"], value=_external("in a function"))
    function = helper.make_function("own", "f", [], ["y"], [body], [helper.make_opsetid("", 20)])
    function.attribute_proto.append(helper.make_attribute("default", _external("a default")))
    model.functions.append(function)
    step = helper.make_graph(
        [helper.make_node("Step", [], [], domain="own")], "s", [], [], [_external("while training")]
    )
    model.training_info.append(onnx.TrainingInfoProto(initialization=step, algorithm=step))
    return model


def _messages(message: Any) -> Iterator[Any]:
    """A message and all within it, as the library knows them."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _messages(part)


def _by_library(model: onnx.ModelProto) -> Outline:
    found = Outline(
        inputs=[value.name for value in model.graph.input],
        outputs=[
            (
                value.name,
                [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim],
            )
            for value in model.graph.output
        ],
        nodes=len(model.graph.node),
        functions={(f.domain, f.name, f.overload) for f in model.functions},
    )
    for message in _messages(model):
        if isinstance(message, onnx.NodeProto):
            found.operators.add((message.domain, message.op_type, message.overload))
        if isinstance(message, TensorProto) and (message.data_location or message.external_data):
            found.elsewhere.append(message.name)
    return found


def test_everything_is_found_wherever_it_is() -> None:
    model = _everything()
    found, expected = outline(model.SerializeToString(), name="m"), _by_library(model)
    assert len(set(expected.elsewhere)) == 8, "each place counts"
    found.elsewhere.sort()
    expected.elsewhere.sort()
    assert found == expected


def test_models_of_ours_are_read_as_the_library_reads_them(model_store: Path) -> None:
    files = sorted(model_store.glob("models/*/model.onnx"))
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        found = outline(content, name=file.name)
        assert found == _by_library(onnx.load_model_from_string(content))
        assert found.nodes > 100
        assert found.outputs[0][0] == "vector"


def _bad(found: Outline) -> bool:
    calls = {operator for operator in found.operators - found.functions if operator[0] not in DOMAINS}
    return bool(found.elsewhere or calls or any(domain in DOMAINS for domain, *_ in found.functions))


@pytest.mark.parametrize("seed", range(4))
def test_bytes_that_changed_hide_nothing_that_the_library_sees(seed: int) -> None:
    whole = _everything().SerializeToString()
    random = np.random.default_rng(seed)
    read = hidden = refused = 0
    for _ in range(1500):
        content = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(len(content)))
            match int(random.integers(3)):
                case 0:
                    content[at] = int(random.integers(256))
                case 1:
                    del content[at : at + int(random.integers(1, 8))]
                case _:
                    other = int(random.integers(len(content)))
                    content[at:at] = content[other : other + int(random.integers(1, 40))]
        try:
            model = onnx.load_model_from_string(bytes(content))
        except Exception:  # whatever the library raises
            model = None
        try:
            found = outline(bytes(content), name="m")
        except IntegrityError:
            refused += 1
            continue
        if model is not None:
            read += 1
            hidden += _bad(_by_library(model)) and not _bad(found)
    assert hidden == 0
    assert read > 100, "many of them must still be messages"
    assert refused > 100


def _field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (_field(8, b"w") + b"\x70\x01" + b"\x70\x00", ["w"]),  # in another file, and then not
        (_field(8, b"w") + b"\x70\x81\x80\x80\x80\x10", ["w"]),  # 2^32 + 1, of which 32 bits count
        (_field(8, b"w") + b"\x70\x00", []),
        (_field(13, b"") + _field(8, b"w"), ["w"]),
    ],
)
def test_a_tensor_that_says_it_twice_or_oddly(tensor: bytes, found: list[str]) -> None:
    assert outline(_field(7, _field(5, tensor)), name="m").elsewhere == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x3a\x05\x0a", "beyond its message"),
        (b"\x3a", "ends within a field"),
        (b"\x3b\x08\x01\x3c", "unknown kind 3"),
        (b"\x08" + b"\xff" * 11, "too many bytes"),
        (b"\x02\x00", "without a number"),
        (b"", "no graph"),
    ],
)
def test_what_is_no_message_is_said(content: bytes, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        graphs.parse(content, name="model.onnx")
    with pytest.raises(IntegrityError, match=words):
        graphs.inspect(content, name="model.onnx", inputs=("image",), output="vector", dim=4)


@pytest.mark.parametrize("second", [_field(7, b""), b"\x38\x00", b"\x39ai.onnx\x00"])
def test_an_operator_that_is_named_twice_is_refused(second: bytes) -> None:
    """The library goes by the one, another reader by the other."""
    node = _field(4, b"Gelu") + _field(7, b"com.microsoft") + second
    with pytest.raises(IntegrityError, match="named ambiguously"):
        outline(_field(7, _field(1, node)), name="m")


def test_the_runtimes_own_format_is_not_opened() -> None:
    # Its mark lies at the fifth byte: before it a field that ONNX's readers step over.
    hidden = b"\x12\x06\x00\x00ORTM" + _model(helper.make_node("Identity", ["image"], ["vector"])).SerializeToString()
    assert outline(hidden, name="m").nodes == 1
    given = {"image": np.ones((1, 4), np.float32)}
    assert session.open_graph(hidden, name="m").run(given)["vector"].tolist() == [[1.0] * 4]
