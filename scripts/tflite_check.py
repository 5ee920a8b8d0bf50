"""Compare a converted network with its TFLite original, on noise and on a drawn person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def both_outputs(source: Path, core: onnx.ModelProto) -> tuple[list[Floats], list[Floats]]:
    """First two outputs (the used ones) of the converted network and of the original, on the same noise."""
    shape = [d.dim_value for d in core.graph.input[0].type.tensor_type.shape.dim]
    noise = np.random.default_rng(0).random(shape, np.float32)
    return run_onnx(core.SerializeToString(), noise)[:2], run_tflite(source, noise)[:2]


def run_tflite(source: Path, image: Floats) -> list[Floats]:
    """Outputs of the TFLite network, in its own order."""
    interpreter = tf.lite.Interpreter(str(source), num_threads=2)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]


def run_onnx(model: bytes, image: Floats) -> list[Floats]:
    """Outputs of an ONNX network with one input."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, {session.get_inputs()[0].name: image.astype(np.float32)})]


def require_equal(what: str, got: list[Floats], expected: list[Floats], tolerance: float) -> None:
    """Print the largest deviation, in the values' own unit, and exit if it exceeds the tolerance."""
    largest = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    print(f"{what}: largest deviation {largest:.2g}, allowed {tolerance}")
    if not largest <= tolerance:
        raise SystemExit(f"{what}: the converted network differs from the original")


def drawn_figure(side_px: int) -> Floats:
    """Draw an upright person of shaded capsules, two thirds of the picture high: float32 RGB (S, S, 3) in [0, 255]."""
    y, x = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / side_px
    picture = np.full((side_px, side_px, 3), 190, np.float32)
    skin, shirt, trousers, hair = (224, 172, 140), (40, 70, 150), (50, 50, 55), (50, 30, 20)
    limbs = [
        (0.46, 0.52, 0.44, 0.68, 0.030, trousers), (0.44, 0.68, 0.44, 0.82, 0.024, trousers),
        (0.54, 0.52, 0.56, 0.68, 0.030, trousers), (0.56, 0.68, 0.56, 0.82, 0.024, trousers),
        (0.44, 0.83, 0.42, 0.84, 0.018, hair), (0.56, 0.83, 0.58, 0.84, 0.018, hair),
        (0.42, 0.33, 0.36, 0.43, 0.020, shirt), (0.36, 0.43, 0.33, 0.53, 0.017, skin),
        (0.58, 0.33, 0.64, 0.43, 0.020, shirt), (0.64, 0.43, 0.67, 0.53, 0.017, skin),
        (0.47, 0.34, 0.48, 0.50, 0.055, shirt), (0.53, 0.34, 0.52, 0.50, 0.055, shirt),
        (0.50, 0.30, 0.50, 0.26, 0.020, skin), (0.50, 0.20, 0.50, 0.19, 0.050, hair),
        (0.50, 0.23, 0.50, 0.21, 0.042, skin), (0.485, 0.213, 0.485, 0.213, 0.006, hair),
        (0.515, 0.213, 0.515, 0.213, 0.006, hair), (0.49, 0.242, 0.51, 0.242, 0.004, (170, 60, 60)),
    ]  # fmt: skip
    for ax, ay, bx, by, radius, colour in limbs:
        length_sq = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-9)
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length_sq, 0, 1)
        distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)) / radius
        inside = distance < 1
        shade = 1 - 0.35 * distance[inside, None] ** 2
        picture[inside] = np.float32(colour) * shade
    return picture
