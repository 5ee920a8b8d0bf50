"""An ONNX network on the runtime that is fastest here: OpenVINO on a processor, onnxruntime on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnxruntime as ort
import openvino as ov
from numpy.typing import NDArray

from dancedist.errors import FileInvalid, RecipeInvalid

Backend = Literal["openvino", "onnxruntime"]
Precision = Literal["f32", "bf16"]
Device = Literal["cpu", "gpu"]
Floats = NDArray[np.float32]
_Run = Callable[[Floats], list[Floats]]


def on_gpu() -> bool:
    """Whether onnxruntime is the build that computes on NVIDIA GPUs."""
    return "CUDAExecutionProvider" in ort.get_available_providers()


def choose_backend(wanted: Literal["auto", "openvino", "onnxruntime"], precision: Precision) -> Backend:
    """The backend that `auto` means here. Raises RecipeInvalid for a precision that it cannot give.

    On a processor OpenVINO runs the pose network 1.3 to 3.4 times as fast as onnxruntime, and gives the same
    bits for any number of threads and streams.
    """
    backend: Backend = wanted if wanted != "auto" else "onnxruntime" if on_gpu() and precision == "f32" else "openvino"
    if precision == "bf16" and backend == "onnxruntime":
        raise RecipeInvalid("pose.precision does not fit", expected="f32 with onnxruntime", got="bf16")
    if precision == "bf16" and "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RecipeInvalid("pose.precision does not fit", expected="f32, as this processor has no bf16", got="bf16")
    return backend


class Network:
    """A network with one input, float32 (1, 3, H, W). As many threads as `streams` may call it at once.

    `input_size` is (width, height) as the graph has it, `device` "cpu" or "gpu". Raises FileInvalid for a file
    that holds no such network.
    """

    def __init__(self, path: Path, backend: Backend, precision: Precision, *, streams: int, threads: int) -> None:
        # OpenCV would cut crops for its own threads, which take the cores from the networks.
        cv2.setNumThreads(1)
        load = _openvino(path, precision, streams, threads) if backend == "openvino" else _onnxruntime(path, threads)
        self._run, shape, self.device = load
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) <= 0:
            raise FileInvalid("is not a network for pictures", file=path, expected="input 1x3xHxW", got=str(shape))
        self.input_size = (shape[3], shape[2])

    def __call__(self, blob: Floats) -> list[Floats]:
        """float32 (1, 3, H, W) -> the outputs in the graph's order."""
        return self._run(blob)


def _openvino(path: Path, precision: Precision, streams: int, threads: int) -> tuple[_Run, list[int], Device]:
    core = ov.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise _no_network(path, error) from error
    shape = [side.get_length() if side.is_static else 0 for side in model.inputs[0].partial_shape]
    if len(shape) == 4 and min(shape[1:]) > 0:
        model.reshape([1, *shape[1:]])
    settings = {
        # On a processor with AMX the default would be bf16, which moves keypoints by 2 px.
        "INFERENCE_PRECISION_HINT": precision,
        # Two processes that pin their threads land on one core.
        "ENABLE_CPU_PINNING": False,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * threads,
    }
    compiled = core.compile_model(model, "CPU", settings)
    local = threading.local()

    def run(blob: Floats) -> list[Floats]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        results = local.request.infer([blob], share_inputs=True)
        return [results[output] for output in compiled.outputs]

    return run, shape, "cpu"


def _onnxruntime(path: Path, threads: int) -> tuple[_Run, list[int], Device]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # TF32 would round what goes into every product to 10 bits.
    providers: list[Any] = [("CUDAExecutionProvider", {"use_tf32": "0"})] if on_gpu() else []
    try:
        session = ort.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise _no_network(path, error) from error
    first = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 0 for side in first.shape]
    device: Device = "gpu" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    return lambda blob: session.run(None, {first.name: blob}), shape, device


def _no_network(path: Path, error: Exception) -> FileInvalid:
    return FileInvalid("is not a network", file=path, expected="ONNX", got=str(error).strip().splitlines()[-1])


# onnxruntime's own exceptions share no base but Exception.
_ORT_ERRORS = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
)
