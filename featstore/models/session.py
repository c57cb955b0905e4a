"""Running a backbone: the sole home of ONNX Runtime, and the door to the other runtime.

What runs is the bytes that were hashed: a file is read once, compared with its card, looked through, and the session
is made from that same memory. A search has it mapped instead: there the runtime reads weights that it rearranges, such
as a convolution's, from the file once more while it opens.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import FeatstoreError, IntegrityError, RetryableError, UsageError
from featstore.models import graphs, in_place, openvino_session
from featstore.models.wire import Content
from featstore.records import ModelCard

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featstore.models.openvino_session import Compute

__all__ = [
    "BACKENDS",
    "Backbone",
    "Device",
    "Graph",
    "check_backend",
    "check_device",
    "cuda_works",
    "devices",
    "open_bytes",
    "open_graph",
    "runtime",
]

BACKENDS = ("onnxruntime", "openvino")
"""The runtimes, the default one first."""

_OUTPUT = "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as ``featstore doctor`` lists it; ``problem`` says why it does not work."""

    name: str
    detail: str
    problem: str | None = None


class Backbone:
    """An opened model. Its methods may be called from several threads at once.

    Attributes:
        card: The model's card.
        device: What it really runs on: ``cpu`` or ``cuda:0``.
        runtime: Name and version of what runs it, as the canaries remember it.
    """

    def __init__(self, card: ModelCard, compute: Compute, device: str, runtime: str) -> None:
        self.card = card
        self.device = device
        self.runtime = runtime
        self._compute = compute

    def images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds pictures.

        Args:
            batch: uint8 (b, height, width, 3), RGB, of the card's crop size.

        Returns:
            float32 (b, dim). A row may hold NaN where the network gives it; the caller looks.

        Raises:
            UsageError: The batch has another shape or type.
            RetryableError: Out of memory: a smaller batch may do.
        """
        image = self.card.image
        if image is None:
            raise UsageError(f"{self.card.space_id} takes texts, not images.")
        if batch.ndim != 4 or batch.shape[1:] != (*image.crop, 3) or batch.dtype != np.uint8:
            raise UsageError(
                f"{self.card.space_id} takes uint8 (b, {image.crop[0]}, {image.crop[1]}, 3), "
                f"not {batch.dtype} {tuple(batch.shape)}."
            )
        return self._run({"image": np.ascontiguousarray(batch)}, len(batch))

    def texts(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeds tokenised texts.

        Args:
            ids: int64 (b, t) token ids, padded on the right.
            mask: int64 (b, t), 1 for a token and 0 for padding; every row has at least one token.

        Returns:
            float32 (b, dim). A row may hold NaN where the network gives it; the caller looks.

        Raises:
            UsageError: The arrays have another shape or type, or are longer than the card allows.
            RetryableError: Out of memory: a smaller batch may do.
        """
        text = self.card.text
        if text is None:
            raise UsageError(f"{self.card.space_id} takes images, not texts.")
        if ids.ndim != 2 or ids.shape != mask.shape or ids.dtype != np.int64 or mask.dtype != np.int64:
            raise UsageError(
                f"{self.card.space_id} takes int64 ids and mask of one shape (b, t), "
                f"not {ids.dtype} {tuple(ids.shape)} and {mask.dtype} {tuple(mask.shape)}."
            )
        if ids.shape[1] > text.max_length:
            raise UsageError(f"{self.card.space_id} takes at most {text.max_length} tokens, not {ids.shape[1]}.")
        given = {"input_ids": np.ascontiguousarray(ids), "attention_mask": np.ascontiguousarray(mask)}
        return self._run({name: given[name] for name in text.inputs}, len(ids))

    def _run(self, inputs: dict[str, Any], rows: int) -> NDArray[np.float32]:
        if rows == 0:
            return np.zeros((0, self.card.dim), np.float32)
        try:
            vectors: NDArray[np.float32] = self._compute(inputs)
        except Exception as error:  # the runtime has no base class of its own
            text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if isinstance(error, MemoryError) or any(w in str(error).lower() for w in ("alloc", "out of memory")):
                raise RetryableError(
                    f"out of memory on {self.device} with {rows} items at once: {text}",
                    hint="Use a smaller batch.",
                    context={"out_of_memory": True},
                ) from error
            raise FeatstoreError(f"{self.card.space_id} failed on {self.device}: {text}") from error
        if vectors.shape != (rows, self.card.dim) or vectors.dtype != np.float32:
            raise IntegrityError(
                f"{self.card.space_id} gave {vectors.dtype} {tuple(vectors.shape)}; "
                f"its card says float32 ({rows}, {self.card.dim})."
            )
        return vectors


class Graph:
    """An opened graph of any inputs and outputs, on the CPU: for comparing it with what it was made from."""

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        self._name = name

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All its outputs by name.

        Raises:
            FeatstoreError: The runtime fails on it.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:  # the runtime has no base class of its own
            text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise FeatstoreError(f"{self._name} failed: {text}") from error


def open_graph(content: bytes, *, name: str, threads: int = 1) -> Graph:
    """Makes a session from the bytes of a graph of our own making.

    Args:
        content: The ONNX file.
        name: How to call it in messages.
        threads: CPU threads within one call.

    Raises:
        IntegrityError: The runtime cannot open it.
    """
    return Graph(_session(content, name, threads, None, fixed_shape=False), name)


def open_bytes(
    card: ModelCard,
    content: Content,
    *,
    name: str,
    file: Path | None = None,
    device: str = "auto",
    threads: int = 1,
    optimise: bool = True,
    backend: str | None = None,
    callers: int = 1,
) -> Backbone:
    """Makes a session from a graph's bytes, on the device that was asked for and no other.

    CUDA runs fp32 with TF32 off. That path follows the runtime's documentation and has not been run
    on hardware yet.

    Args:
        card: Describes the graph.
        content: The ONNX file.
        name: How to call it in messages.
        file: Where the content is mapped from, if it is: on the CPU its weights are used where they lie.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto`` (CUDA where it works, else the CPU).
        threads: CPU threads within one call; callers in several threads at once should say 1.
        optimise: Let the runtime rewrite the graph; without, on the CPU, each node runs as it is written.
        backend: ``onnxruntime`` (the default) or ``openvino``, which knows the CPU only.
        callers: How many threads will call at once; ONNX Runtime takes any number, OpenVINO is made for so many.

    Raises:
        UsageError: There is no such device or backend, or it does not work here.
        IntegrityError: The graph is not the one that the card describes.
    """
    inputs = ("image",) if card.text is None else card.text.inputs
    graphs.inspect(content, name=name, inputs=inputs, output=_OUTPUT, dim=card.dim)
    if threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}.")
    wanted, _, number = device.partition(":")
    if wanted not in ("cpu", "cuda", "auto") or (number and (wanted != "cuda" or not number.isdecimal())):
        raise UsageError(f"there is no device '{device}'.", hint="Devices: auto, cpu, cuda, cuda:1")
    check_backend(backend, device)
    if backend == "openvino":
        compute = openvino_session.compile_graph(
            bytes(content), name=name, output=_OUTPUT, threads=threads, callers=callers
        )
        return Backbone(card, compute, "cpu", openvino_session.runtime())
    index = int(number or 0)
    fixed_shape = card.image is not None
    if wanted == "cpu":
        session = _session(content, name, threads, None, fixed_shape=fixed_shape, optimise=optimise, file=file)
        return Backbone(card, _computing(session), "cpu", runtime())
    problem = _cuda_problem(index)
    if problem is None:
        session = _session(content, name, threads, index, fixed_shape=fixed_shape)
        if session.get_providers()[0] == "CUDAExecutionProvider":
            return Backbone(card, _computing(session), f"cuda:{index}", runtime())
        problem = "ONNX Runtime could not load its CUDA provider (CUDA or cuDNN libraries missing or too old)"
        del session
    if wanted == "cuda":
        raise _no_cuda(device, problem)
    session = _session(content, name, threads, None, fixed_shape=fixed_shape, file=file)
    return Backbone(card, _computing(session), "cpu", runtime())


def check_device(device: str) -> None:
    """Refuses a GPU that does not work here, as opening a model on it would; loads nothing.

    Raises:
        UsageError: Saying what is missing.
    """
    wanted, _, number = device.partition(":")
    if wanted == "cuda" and (problem := _cuda_problem(int(number or 0))) is not None:
        raise _no_cuda(device, problem)


def _no_cuda(device: str, problem: str) -> UsageError:
    return UsageError(f"--device {device}: {problem}.", hint="Use --device cpu, or mend CUDA; see: featstore doctor")


def check_backend(backend: str | None, device: str) -> None:
    """Refuses a backend that is not there, or a device that it does not know; loads nothing.

    Raises:
        UsageError: Saying how to get it, or what to leave out.
    """
    if backend is None or backend == "onnxruntime":
        return
    if backend not in BACKENDS:
        raise UsageError(f"there is no backend '{backend}'.", hint=f"Backends: {', '.join(BACKENDS)}")
    if device.startswith("cuda"):
        raise UsageError(
            f"--backend openvino runs on the CPU only, and --device {device} was asked for.",
            hint="Leave one of the two out.",
        )
    if not openvino_session.installed():
        raise UsageError(
            "--backend openvino needs the package openvino, which is not installed.",
            hint="Install it: pip install 'featstore[openvino]'",
        )


def cuda_works() -> bool:
    """Whether ``--device auto`` would try CUDA; loads ONNX Runtime only where there is a GPU."""
    return bool(_cuda_count()) and _cuda_problem(0) is None


def devices() -> list[Device]:
    """The devices that could run a backbone, the CPU first."""
    import platform

    found = [Device(name="cpu", detail=f"{os.cpu_count()} logical cores, {platform.machine()}")]
    count = _cuda_count()
    if count is None or count == 0:
        problem = _cuda_problem(0)
        return [*found, Device(name="cuda", detail="NVIDIA GPU", problem=problem)]
    return found + [Device(name=f"cuda:{i}", detail="NVIDIA GPU", problem=_cuda_problem(i)) for i in range(count)]


def runtime() -> str:
    """Name and version of the default runtime, as the canaries remember it."""
    return f"onnxruntime {_onnxruntime().__version__}"


def _onnxruntime() -> Any:
    """The library, told to stay silent: from 1.29 on its Linux builds report each session to their makers.

    The variable must be there before the import; the function that the library has for it comes too late (1.31).
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def _computing(session: Any) -> Compute:
    def compute(inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = session.run([_OUTPUT], inputs)[0]
        return vectors

    return compute


def _session(
    content: Content,
    name: str,
    threads: int,
    cuda: int | None,
    *,
    fixed_shape: bool,
    optimise: bool = True,
    file: Path | None = None,
) -> Any:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # What was looked through is ONNX; the same bytes must not pass for the library's own format, which nobody read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Idle workers that spin take the cores from the threads that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the largest block of every shape it has met, so with texts of many lengths it only
    # grows; with one fixed shape it is a quarter faster (EfficientNet-lite0) and takes less at its peak.
    options.enable_cpu_mem_arena = fixed_shape
    options.enable_mem_pattern = False
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": cuda, "use_tf32": 0}))
    onnxruntime.set_default_logger_severity(4)
    graph, weights = (content, []) if file is None else _given_weights(content, file, options)
    with contextlib.redirect_stdout(io.StringIO()):
        if cuda is not None and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        try:
            session = onnxruntime.InferenceSession(bytes(graph), options, providers=providers)
        except Exception as error:  # the runtime has no base class of its own
            text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise IntegrityError(f"ONNX Runtime cannot open {name}: {text}") from error
    session.computes_with = weights  # it copies none of them, and does not keep them itself
    return session


def _given_weights(content: Content, file: Path, options: Any) -> tuple[Content, list[Any]]:
    """Hands the large weights over as they lie in the file; returns the graph without them, and the values."""
    parted = in_place.part(content, file.name)
    # What a weight is rearranged into, it reads from the file itself.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.parent))
    values = {name: _onnxruntime().OrtValue.ortvalue_from_numpy(each) for name, each in parted.weights.items()}
    for name, value in values.items():
        options.add_initializer(name, value)
    return parted.graph, list(values.values())


def _cuda_problem(index: int) -> str | None:
    """What is missing for CUDA, cheapest question first, or None."""
    if "CUDAExecutionProvider" not in _onnxruntime().get_available_providers():
        return "this ONNX Runtime is built without CUDA (the package onnxruntime-gpu has it)"
    count = _cuda_count()
    if count is None:
        return "there is no NVIDIA driver on this machine (libcuda was not found)"
    if count == 0:
        return "the NVIDIA driver finds no GPU"
    if index >= count:
        return f"there is no GPU {index}; the driver finds {count}, numbered from 0"
    return None


def _cuda_count() -> int | None:
    """How many GPUs the driver finds; None without a driver. Loads neither torch nor CUDA's runtime."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
