"""Run an ONNX network on the fastest runtime available: OpenVINO on a CPU, onnxruntime on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import onnxruntime as ort
import openvino as ov

from dancedist.arrays import Floats
from dancedist.errors import FileInvalid, RecipeInvalid
from dancedist.processor import has_bf16

Backend = Literal["openvino", "onnxruntime"]
Precision = Literal["f32", "bf16"]
Device = Literal["cpu", "gpu"]
_Run = Callable[[Floats], list[Floats]]


def on_gpu() -> bool:
    """Whether the installed onnxruntime supports NVIDIA GPUs."""
    return "CUDAExecutionProvider" in ort.get_available_providers()


def choose_backend(requested: Literal["auto", "openvino", "onnxruntime"], precision: Precision) -> Backend:
    """Resolve `auto` for this machine. Raises RecipeInvalid if the backend does not support `precision`.

    On a CPU, OpenVINO runs the pose network 1.3 to 3.4 times as fast as onnxruntime, and gives the same bits for
    any number of threads and streams.
    """
    fastest: Backend = "onnxruntime" if on_gpu() and precision == "f32" else "openvino"
    backend = fastest if requested == "auto" else requested
    if precision == "bf16" and backend == "onnxruntime":
        raise RecipeInvalid("pose.precision is not supported", expected="f32 with onnxruntime", got="bf16")
    if precision == "bf16" and not has_bf16():
        expected = "f32, as this processor has no bf16"
        raise RecipeInvalid("pose.precision is not supported", expected=expected, got="bf16")
    return backend


class Network:
    """A network with one input, float32 (1, 3, H, W); up to `streams` threads may call it at once.

    `input_size` is the graph's (width, height), `device` "cpu" or "gpu". Raises FileInvalid if the file is not such
    a network.
    """

    def __init__(self, path: Path, backend: Backend, precision: Precision, *, streams: int, threads: int) -> None:
        # OpenCV's own threads would compete with the networks for cores.
        cv2.setNumThreads(1)
        loaded = _openvino(path, precision, streams, threads) if backend == "openvino" else _onnxruntime(path, threads)
        self._run, shape, self.device = loaded
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) <= 0:
            raise FileInvalid("is not an image network", file=path, expected="input 1x3xHxW", got=str(shape))
        self.input_size = (shape[3], shape[2])

    def __call__(self, blob: Floats) -> list[Floats]:
        """float32 (1, 3, H, W) -> the outputs, in the graph's order."""
        return self._run(blob)


def _openvino(path: Path, precision: Precision, streams: int, threads: int) -> tuple[_Run, list[int], Device]:
    core = ov.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise _not_a_network(path, error) from error
    shape = [side.get_length() if side.is_static else 0 for side in model.inputs[0].partial_shape]
    if len(shape) == 4 and min(shape[1:]) > 0:
        model.reshape([1, *shape[1:]])
    settings = {
        # On a CPU with AMX the default is bf16, which moves keypoints by 2 px.
        "INFERENCE_PRECISION_HINT": precision,
        # With pinning, the threads of two processes share one core.
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
    # TF32 would round the factors of every product to a mantissa of 10 bits.
    providers: list[Any] = [("CUDAExecutionProvider", {"use_tf32": "0"})] if on_gpu() else []
    try:
        session = ort.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise _not_a_network(path, error) from error
    first = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 0 for side in first.shape]
    device: Device = "gpu" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
    return lambda blob: session.run(None, {first.name: blob}), shape, device


def _not_a_network(path: Path, error: Exception) -> FileInvalid:
    return FileInvalid("is not a network", file=path, expected="ONNX", got=str(error).strip().splitlines()[-1])


# onnxruntime's own exceptions have no common base class except Exception.
_ORT_ERRORS = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
)
