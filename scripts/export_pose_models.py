"""Make dancedist's embedded person detector and pose network from MediaPipe's, by hand, once in years.

    python -m venv /tmp/export
    /tmp/export/bin/pip install "tensorflow-cpu==2.21.*" "tf2onnx==1.17.*" onnx onnxruntime
    /tmp/export/bin/python scripts/export_pose_models.py dancedist/pose/models

Both networks are Apache-2.0 and come out of one PyPI wheel, whose checksum is pinned. Each is converted with
tf2onnx, wrapped so that rtmlib loads it unchanged (`rtmlib.YOLOX`, `rtmlib.RTMPose`), stored as fp16 (which is
what the originals hold, so nothing is lost) and checked against the TFLite original. The files come out the
same byte for byte in every run: tensors are renamed in the order in which the graph needs them.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper, parser
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

Floats = NDArray[np.float32]

WHEEL = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"  # pragma: allowlist secret
WHEEL_TAGS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:")
DETECTOR_MEMBER = "mediapipe/modules/pose_detection/pose_detection.tflite"
POSE_MEMBER = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
DETECTOR_FILE, POSE_FILE = "person_detector.onnx", "pose_halpe26.onnx"

# 8 is the oldest that carries opset 17, so that old runtimes load the result.
HEADER = '<ir_version: 8, opset_import: ["" : 17]>'

# rtmlib's YOLOX gives BGR in [0, 255]; the network wants RGB in [-1, 1], NHWC.
DETECTOR_HEAD = f"""{HEADER}
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
DETECTOR_TAIL = f"""{HEADER}
tail (float[1, 2254, 12] raw, float[1, 2254, 1] logits) => (float[1, persons, 5] dets)
<int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}, int64[1] i4 = {{4}}, int64[1] i6 = {{6}},
 int64[1] i8 = {{8}}, int64[1] most = {{20}}, int64 class_column = {{2}}, float[1] iou_max = {{0.3}},
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
    chosen = NonMaxSuppression (faces_1A4, score_11A, most, iou_max, score_min)
    best = Gather <axis = 1> (chosen, class_column)

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
    likely = GreaterOrEqual (score_1A, score_min)
    same_person = And (overlapping, likely)
    weight_NA = Where (same_person, score_1A, none)
    weight_sum = ReduceSum <keepdims = 1> (weight_NA, i1)
    weighted = MatMul (weight_NA, rows)
    person_N12 = Div (weighted, weight_sum)

    hip = Slice (person_N12, i4, i6, i1)
    body = Slice (person_N12, i6, i8, i1)
    spine = Sub (body, hip)
    reach = ReduceL2 <axes = [1], keepdims = 1> (spine)
    half_person = Mul (reach, half_box)
    box_tl = Sub (hip, half_person)
    box_br = Add (hip, half_person)
    box = Concat <axis = 1> (box_tl, box_br)
    box_inside = Clip (box, low, side)
    score_A1 = Squeeze (probability, i0)
    best_score = Gather <axis = 0> (score_A1, best)
    stretched = Mul (best_score, range)
    told = Add (stretched, floor)
    dets_N5 = Concat <axis = 1> (box_inside, told)
    dets = Unsqueeze (dets_N5, i0)
}}"""

# rtmlib's RTMPose subtracts ImageNet's RGB mean from the BGR crop and divides by the deviation, without
# swapping: undo exactly that, then swap. The network wants RGB in [0, 1], NHWC.
POSE_HEAD = f"""{HEADER}
head (float[1, 3, 256, 256] input) => (float[1, 256, 256, 3] rgb)
<float[1, 3, 1, 1] std = {{58.395, 57.12, 57.375}}, float[1, 3, 1, 1] mean = {{123.675, 116.28, 103.53}},
 int64[3] bgr = {{2, 1, 0}}, float white = {{255.0}}> {{
    spread = Mul (input, std)
    pixels = Add (spread, mean)
    swapped = Gather <axis = 1> (pixels, bgr)
    scaled = Div (swapped, white)
    rgb = Transpose <perm = [0, 2, 3, 1]> (scaled)
}}"""

# A row of `landmarks` is x, y, z in pixels, then the logits of visibility and presence; `present` is the
# person's own probability. Each coordinate becomes a Gaussian of 4 bins' deviation over 512 half-pixel bins,
# as high as the point's score: what RTMPose's SimCC heads give. Its logarithm is an exact parabola, so a decoder
# that looks at the peak's neighbours too finds the coordinate to a small part of a bin.
POSE_TAIL = f"""{HEADER}
tail (float[1, 195] landmarks, float[1, 1] present) => (float[1, 26, 512] simcc_x, float[1, 26, 512] simcc_y)
<int64[3] table = {{1, 39, 5}}, int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}, int64[1] i3 = {{3}},
 int64[1] i5 = {{5}}, float split = {{2.0}}, float slope = {{-0.03125}}> {{
    rows = Reshape (landmarks, table)
    xy = Slice (rows, i0, i2, i2)
    points = MatMul (mix_xy, xy)
    logits = Slice (rows, i3, i5, i2)
    seen = Sigmoid (logits)
    sure = ReduceMin <axes = [2], keepdims = 1> (seen)
    joint_score = MatMul (mix_score, sure)
    score = Mul (joint_score, present)
    in_bins = Mul (points, split)
    bin_x = Slice (in_bins, i0, i1, i2)
    off_x = Sub (bins, bin_x)
    square_x = Mul (off_x, off_x)
    log_x = Mul (square_x, slope)
    bell_x = Exp (log_x)
    simcc_x = Mul (bell_x, score)
    bin_y = Slice (in_bins, i1, i2, i2)
    off_y = Sub (bins, bin_y)
    square_y = Mul (off_y, off_y)
    log_y = Mul (square_y, slope)
    bell_y = Exp (log_y)
    simcc_y = Mul (bell_y, score)
}}"""

# Halpe-26 from BlazePose's 33 landmarks. BlazePose has one toe a foot: both toes are that point.
COPIED = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
HEAD_TOP = {7: 0.85, 8: 0.85, 11: -0.35, 12: -0.35}  # 0.7 of neck to ears, past the ears
NECK, HIP = {11: 0.5, 12: 0.5}, {23: 0.5, 24: 0.5}
FEET = [31, 32, 31, 32, 29, 30]


def fetch_members(folder: Path) -> tuple[Path, Path]:
    """The detector's and the pose network's TFLite files, out of the pinned wheel."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *WHEEL_TAGS, "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    got = sha256(wheel)
    if got != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name}: expected sha256 {WHEEL_SHA256}, got {got}")
    with zipfile.ZipFile(wheel) as members:
        return Path(members.extract(DETECTOR_MEMBER, folder)), Path(members.extract(POSE_MEMBER, folder))


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def densify(source: Path, target: Path) -> None:
    """Copy a TFLite file with its sparse kernels stored dense, since tf2onnx knows no DENSIFY."""
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
        raise SystemExit(f"{tensor.name}: a sparse layout that this script does not know")
    last = sparsity.dimMetadata[-1]
    row_ends = np.asarray(last.arraySegments.values, np.int64)
    columns = np.asarray(last.arrayIndices.values, np.int64)
    kernel = np.zeros((len(row_ends) - 1, tensor.shape[-1]), np.float16)
    kernel[np.repeat(np.arange(len(row_ends) - 1), np.diff(row_ends)), columns] = values
    return kernel.reshape(tensor.shape)


def convert(source: Path) -> onnx.ModelProto:
    """TFLite to ONNX, opset 17, as tf2onnx does it."""
    model, _ = tf2onnx.convert.from_tflite(str(source), opset=17)
    model.ir_version = 8
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 17))
    return model


def parse(text: str, **constants: Floats) -> onnx.ModelProto:
    """A graph in ONNX's text form, with the constants that are too long to be written there."""
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    return model


def wrap(
    core: onnx.ModelProto, head: onnx.ModelProto, tail: onnx.ModelProto, outputs: dict[str, str]
) -> onnx.ModelProto:
    """head -> core -> tail; `outputs` tells which output of the core is which input of the tail."""
    head, tail = compose.add_prefix(head, "head/"), compose.add_prefix(tail, "tail/")
    joined = compose.merge_models(head, core, [("head/rgb", core.graph.input[0].name)])
    io_map = [(a, f"tail/{b}") for a, b in outputs.items()]
    return compose.merge_models(joined, tail, io_map, outputs=[o.name for o in tail.graph.output])


def detector_anchors() -> Floats:
    """(2254, 12) what to add to the detector's rows, px of 224: two anchors a cell at stride 8 and 16, six at 32."""
    centres = []
    for cells, anchors_per_cell in ((28, 2), (14, 2), (7, 6)):
        axis = (np.arange(cells) + 0.5) / cells * 224
        grid = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1)
        centres.append(np.repeat(grid.reshape(-1, 2), anchors_per_cell, axis=0))
    rows = np.tile(np.concatenate(centres), (1, 6))
    rows[:, 2:4] = 0
    return rows.astype(np.float32)


def halpe26_mix() -> tuple[Floats, Floats]:
    """(1, 26, 39) twice: the weights of landmarks in a keypoint's place, and in its score."""
    places = [{i: 1.0} for i in COPIED] + [HEAD_TOP, NECK, HIP] + [{i: 1.0} for i in FEET]
    scores = [*places[:17], {7: 0.5, 8: 0.5}, *places[18:]]
    mixes = np.zeros((2, 1, 26, 39), np.float32)
    for mix, rows in zip(mixes, (places, scores), strict=True):
        for k, row in enumerate(rows):
            mix[0, k, list(row)] = list(row.values())
    return mixes[0], mixes[1]


def settle(model: onnx.ModelProto, name: str, origin: str) -> onnx.ModelProto:
    """The same network with fp16 storage, canonical names and order, and without what no output needs."""
    graph = model.graph
    producer = {o: node for node in graph.node for o in node.output}
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    kept_names = {v.name: v.name.rpartition("/")[2] for v in [*graph.input, *graph.output]}
    names = {"": ""} | {v.name: kept_names[v.name] for v in graph.input}
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def store(value: NDArray[np.generic]) -> str:
        label = f"w{len(stored)}"
        if value.dtype != np.float32 or value.size < 16:
            stored.append(numpy_helper.from_array(value, label))
            return label
        stored.append(numpy_helper.from_array(value.astype(np.float16), f"{label}h"))
        nodes.append(helper.make_node("Cast", [f"{label}h"], [label], to=onnx.TensorProto.FLOAT))
        return label

    def visit(tensor: str) -> str:
        if tensor in names:
            return names[tensor]
        if tensor in weights:
            names[tensor] = store(weights[tensor])
            return names[tensor]
        node = producer[tensor]
        inputs = [visit(i) for i in node.input]
        names.update((o, kept_names.get(o, f"t{len(names)}_{i}")) for i, o in enumerate(node.output))
        nodes.append(helper.make_node(node.op_type, inputs, [names[o] for o in node.output]))
        nodes[-1].attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        return names[tensor]

    for value in graph.output:
        visit(value.name)
    for value in [*graph.input, *graph.output]:
        value.name = kept_names[value.name]
    settled = helper.make_model(
        helper.make_graph(nodes, name, graph.input, graph.output, stored),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="dancedist",
    )
    helper.set_model_props(settled, {"licence": "Apache-2.0", "origin": f"{WHEEL}, {origin}"})
    onnx.checker.check_model(settled, full_check=True)
    return settled


def export_detector(source: Path, target: Path, scratch: Path) -> None:
    """Write the person detector."""
    dense = scratch / "dense.tflite"
    densify(source, dense)
    core = convert(dense)
    compare("detector, converted", *both_outputs(source, core), tolerance=2e-3)
    tail = parse(DETECTOR_TAIL, anchors=detector_anchors())
    wrapped = wrap(core, parse(DETECTOR_HEAD), tail, {"Identity": "raw", "Identity_1": "logits"})
    publish(settle(wrapped, "person_detector", DETECTOR_MEMBER), target)

    figure = drawn_figure(224)
    raw, logits = run_tflite(source, figure[None] / 127.5 - 1)
    best = int(logits[0, :, 0].argmax())
    row = raw[0, best] + detector_anchors()[best]
    reach = np.hypot(*(row[6:8] - row[4:6]))
    half = reach * np.float32([0.45, 0.97])
    expected = np.clip(np.concatenate([row[4:6] - half, row[4:6] + half]), 0, 224)
    (dets,) = run_onnx(target.read_bytes(), figure[None, ..., ::-1].transpose(0, 3, 1, 2))
    if dets.shape != (1, 1, 5):
        raise SystemExit(f"detector, drawn figure: expected one person, got {dets.shape}")
    # The average over overlapping rows is not the best row: px of 224.
    compare("detector, drawn figure (px)", [dets[0, 0, :4]], [expected], tolerance=6)


def export_pose(source: Path, target: Path) -> None:
    """Write the pose network."""
    core = convert(source)
    compare("pose, converted", *both_outputs(source, core), tolerance=2e-3)
    mix_xy, mix_score = halpe26_mix()
    bins = np.arange(512, dtype=np.float32).reshape(1, 1, 512)
    tail = parse(POSE_TAIL, mix_xy=mix_xy, mix_score=mix_score, bins=bins)
    wrapped = wrap(core, parse(POSE_HEAD), tail, {"Identity": "landmarks", "Identity_1": "present"})
    publish(settle(wrapped, "pose_halpe26", POSE_MEMBER), target)

    figure = drawn_figure(256)
    landmarks = run_tflite(source, figure[None] / 255)[0].reshape(39, 5)
    expected = (mix_xy @ landmarks[:, :2])[0]
    bgr = figure[None, ..., ::-1].transpose(0, 3, 1, 2)
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    simcc = run_onnx(target.read_bytes(), (bgr - mean[None, :, None, None]) / std[None, :, None, None])
    got = np.stack([s[0].argmax(-1) for s in simcc], axis=-1) / 2
    inside = ((expected > 0) & (expected < 255.5)).all(-1)
    # Half of half a pixel is the rounding to bins.
    compare("pose, drawn figure (px)", [got[inside]], [expected[inside]], tolerance=0.27)


def both_outputs(source: Path, core: onnx.ModelProto) -> tuple[list[Floats], list[Floats]]:
    """What the converted network and the original make of the same noise: the two outputs that are used."""
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


def compare(what: str, got: list[Floats], expected: list[Floats], tolerance: float) -> None:
    """Print the largest deviation (in the values' own unit) and stop where it is more than allowed."""
    worst = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    print(f"{what}: largest deviation {worst:.2g}, allowed {tolerance}")
    if not worst <= tolerance:
        raise SystemExit(f"{what}: the converted network does not do what the original does")


def drawn_figure(side_px: int) -> Floats:
    """(side, side, 3) RGB in [0, 255]: a person of shaded capsules, upright, two thirds of the picture high."""
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


def publish(model: onnx.ModelProto, target: Path) -> None:
    """Write a model and print what NOTICE.md and weights.py say about it."""
    target.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{target.name}: {target.stat().st_size} bytes, sha256 {sha256(target)}")


def main() -> None:
    """Fetch, convert, wrap, store, compare."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, help="where the two .onnx files go")
    folder = arguments.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        detector, pose = fetch_members(Path(scratch))
        export_detector(detector, folder / DETECTOR_FILE, Path(scratch))
        export_pose(pose, folder / POSE_FILE)


if __name__ == "__main__":
    main()
