"""The other runtime for CPUs: the sole home of OpenVINO. It runs what the ONNX file says, in fp32, and writes none."""

from __future__ import annotations

import importlib.util
import io
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import IntegrityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Compute", "compile_graph", "installed", "runtime"]

Compute = Callable[[dict[str, Any]], "NDArray[np.float32]"]
"""Inputs by name to vectors (b, dim); may be called from several threads."""

# Its converter tells its makers of every import; nothing here needs it.
_REPORTING = "openvino.tools.ovc"

_importing = threading.Lock()


def installed() -> bool:
    """Whether the package is there; does not import it."""
    return importlib.util.find_spec("openvino") is not None


def runtime() -> str:
    """Name and version, as the canaries remember it."""
    from importlib.metadata import version

    return f"openvino {version('openvino')}"


def compile_graph(content: bytes, *, name: str, output: str, threads: int, callers: int) -> Compute:
    """Makes a function of an ONNX graph, from the bytes themselves.

    Each caller gets a request of its own, on a stream of its own: as many are made as call at once, and used again.
    Precision is held at fp32: left to itself OpenVINO computes in bfloat16 where the processor can.

    Source: OpenVINO's documentation of the CPU device (streams, ``inference_precision``).

    Args:
        content: The ONNX file.
        name: How to call it in messages.
        output: The output that is asked for.
        threads: CPU threads within one call.
        callers: How many threads will call at once.

    Raises:
        IntegrityError: OpenVINO cannot read or compile it.
    """
    openvino = _openvino()
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": callers,
        "INFERENCE_NUM_THREADS": threads * callers,
        # Another process may have the same cores; the system moves threads, pinned ones wait.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        # By its name: left to guess, the library would also take the bytes for a format of its own, which nobody read.
        reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
        compiled = core.compile_model(reader.convert(reader.load(io.BytesIO(content))), "CPU", options)
        compiled.output(output)
    except Exception as error:  # it raises bare RuntimeErrors
        text = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise IntegrityError(
            f"OpenVINO cannot open {name}: {text}", hint="Run it with the default backend: --backend onnxruntime"
        ) from error
    free: list[Any] = []

    def compute(inputs: dict[str, Any]) -> NDArray[np.float32]:
        try:
            request = free.pop()
        except IndexError:
            request = compiled.create_infer_request()
        request.infer(inputs, share_inputs=True)
        vectors: NDArray[np.float32] = np.array(request.get_tensor(output).data)
        free.append(request)  # one that failed is not used again
        return vectors

    return compute


def _openvino() -> Any:
    with _importing:
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        sys.modules[_REPORTING] = None  # type: ignore[assignment]  # importing it raises ImportError, which is expected
        try:
            import openvino
        finally:
            del sys.modules[_REPORTING]
    return openvino
