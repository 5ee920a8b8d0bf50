"""Export the pose network from MediaPipe, by hand, once in years.

    python -m venv /tmp/export
    /tmp/export/bin/pip install "tensorflow-cpu==2.21.*" "tf2onnx==1.17.*" onnx onnxruntime
    /tmp/export/bin/python scripts/export_pose_network.py dancedist/pose/models

The network is Apache-2.0 and comes from a PyPI wheel with a pinned checksum. It is converted with tf2onnx, wrapped so
that rtmlib loads it unchanged (`rtmlib.RTMPose`), stored as fp16 and compared with the TFLite original. The
file is the same byte for byte in every run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from mediapipe_wheel import fetch_member
from onnx_graph import HEADER, canonicalise, convert, parse, wrap, write
from tflite_check import Floats, both_outputs, drawn_figure, require_equal, run_onnx, run_tflite

MEMBER = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
FILE = "pose_halpe26.onnx"

# rtmlib's RTMPose subtracts ImageNet's RGB mean from the BGR crop and divides by the deviation, without
# swapping: undo that, then swap. The network takes RGB in [0, 1], NHWC.
HEAD = f"""{HEADER}
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
# that also uses the peak's neighbours gets the coordinate to a small part of a bin.
TAIL = f"""{HEADER}
tail (float[1, 195] landmarks, float[1, 1] present) => (float[1, 26, 512] simcc_x, float[1, 26, 512] simcc_y)
<int64[3] table = {{1, 39, 5}}, int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}, int64[1] i3 = {{3}},
 int64[1] i5 = {{5}}, float split = {{2.0}}, float slope = {{-0.03125}}> {{
    rows = Reshape (landmarks, table)
    xy = Slice (rows, i0, i2, i2)
    points = MatMul (mix_xy, xy)
    logits = Slice (rows, i3, i5, i2)
    probabilities = Sigmoid (logits)
    landmark_score = ReduceMin <axes = [2], keepdims = 1> (probabilities)
    joint_score = MatMul (mix_score, landmark_score)
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

# Halpe-26 from BlazePose's 33 landmarks. BlazePose has one toe per foot: big and small toe are both that point.
COPIED = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
HEAD_TOP = {7: 0.85, 8: 0.85, 11: -0.35, 12: -0.35}  # 0.7 of neck to ears, past the ears
NECK, HIP = {11: 0.5, 12: 0.5}, {23: 0.5, 24: 0.5}
FEET = [31, 32, 31, 32, 29, 30]


def halpe26_mix() -> tuple[Floats, Floats]:
    """Weights of the landmarks in each keypoint's position and in its score, float32 (1, 26, 39) each."""
    positions = [{i: 1.0} for i in COPIED] + [HEAD_TOP, NECK, HIP] + [{i: 1.0} for i in FEET]
    scores = [*positions[:17], {7: 0.5, 8: 0.5}, *positions[18:]]
    mixes = np.zeros((2, 1, 26, 39), np.float32)
    for mix, rows in zip(mixes, (positions, scores), strict=True):
        for k, row in enumerate(rows):
            mix[0, k, list(row)] = list(row.values())
    return mixes[0], mixes[1]


def export(source: Path, target: Path) -> None:
    """Convert the pose network, write it, and compare it with the original."""
    core = convert(source)
    require_equal("pose, converted", *both_outputs(source, core), tolerance=2e-3)
    mix_xy, mix_score = halpe26_mix()
    bins = np.arange(512, dtype=np.float32).reshape(1, 1, 512)
    tail = parse(TAIL, mix_xy=mix_xy, mix_score=mix_score, bins=bins)
    wrapped = wrap(core, parse(HEAD), tail, {"Identity": "landmarks", "Identity_1": "present"})
    write(canonicalise(wrapped, "pose_halpe26", MEMBER), target)

    figure = drawn_figure(256)
    landmarks = run_tflite(source, figure[None] / 255)[0].reshape(39, 5)
    expected = (mix_xy @ landmarks[:, :2])[0]
    bgr = figure[None, ..., ::-1].transpose(0, 3, 1, 2)
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    simcc = run_onnx(target.read_bytes(), (bgr - mean[None, :, None, None]) / std[None, :, None, None])
    got = np.stack([s[0].argmax(-1) for s in simcc], axis=-1) / 2
    inside = ((expected > 0) & (expected < 255.5)).all(-1)
    # Rounding to half-pixel bins is at most a quarter of a pixel.
    require_equal("pose, drawn figure (px)", [got[inside]], [expected[inside]], tolerance=0.27)


def main() -> None:
    """Fetch, convert, wrap, write and compare."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, help="folder to write pose_halpe26.onnx to")
    folder = arguments.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch_member(MEMBER, Path(scratch))
        export(source, folder / FILE)


if __name__ == "__main__":
    main()
