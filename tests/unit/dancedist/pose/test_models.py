from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from rtmlib import YOLOX, RTMPose

from dancedist import weights
from dancedist.pose.topology import HALPE26

EMBEDDED = [entry for entry in weights.entries() if entry.source is None]
SKIN, SHIRT, TROUSERS, HAIR = (140, 172, 224), (150, 70, 40), (55, 50, 50), (20, 30, 50)
JOINTS = {
    "left_shoulder": (290, 185), "right_shoulder": (222, 185), "left_elbow": (330, 240), "right_elbow": (182, 240),
    "left_wrist": (345, 300), "right_wrist": (167, 300), "left_hip": (276, 300), "right_hip": (236, 300),
    "left_knee": (284, 375), "right_knee": (228, 375), "left_ankle": (286, 445), "right_ankle": (226, 445),
}  # fmt: skip
TORSO_PX = 115


def drawn_person() -> NDArray[np.uint8]:
    """(512, 512, 3) BGR: a standing person whose joints are JOINTS."""
    picture = np.full((512, 512, 3), 190, np.uint8)
    trunk = [JOINTS[j] for j in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
    cv2.fillConvexPoly(picture, np.array(trunk, np.int32), SHIRT, cv2.LINE_AA)

    def limb(a: str, b: str, width_px: int, colour: tuple[int, int, int]) -> None:
        cv2.line(picture, JOINTS[a], JOINTS[b], colour, width_px, cv2.LINE_AA)

    limb("left_shoulder", "right_shoulder", 34, SHIRT)
    limb("left_hip", "right_hip", 38, TROUSERS)
    for side, outward in (("left", 8), ("right", -8)):
        limb(f"{side}_hip", f"{side}_knee", 32, TROUSERS)
        limb(f"{side}_knee", f"{side}_ankle", 24, TROUSERS)
        limb(f"{side}_shoulder", f"{side}_hip", 26, SHIRT)
        limb(f"{side}_shoulder", f"{side}_elbow", 22, SHIRT)
        limb(f"{side}_elbow", f"{side}_wrist", 16, SKIN)
        cv2.circle(picture, JOINTS[f"{side}_wrist"], 11, SKIN, -1, cv2.LINE_AA)
        x, y = JOINTS[f"{side}_ankle"]
        cv2.ellipse(picture, (x + outward, y + 12), (18, 8), 0, 0, 360, HAIR, -1, cv2.LINE_AA)
    cv2.line(picture, (256, 175), (256, 140), SKIN, 24, cv2.LINE_AA)
    cv2.ellipse(picture, (256, 112), (32, 40), 0, 0, 360, HAIR, -1, cv2.LINE_AA)
    cv2.ellipse(picture, (256, 120), (25, 32), 0, 0, 360, SKIN, -1, cv2.LINE_AA)
    for x in (246, 266):
        cv2.circle(picture, (x, 115), 3, HAIR, -1, cv2.LINE_AA)
    cv2.line(picture, (248, 137), (264, 137), (60, 60, 170), 3, cv2.LINE_AA)
    return picture


@cache
def detector() -> YOLOX:
    return YOLOX(str(weights.ensure("person-detector")), model_input_size=(224, 224))


@cache
def pose_network() -> RTMPose:
    return RTMPose(str(weights.ensure("pose-halpe26")), model_input_size=(256, 256))


def frames(video: Path) -> list[NDArray[np.uint8]]:
    """Six BGR frames of the first 120."""
    with av.open(str(video)) as container:
        return [f.to_ndarray(format="bgr24") for f in islice(container.decode(video=0), 0, 120, 20)]


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry.name)
def test_an_embedded_model_matches_its_catalogue_entry_and_notice(entry: weights.Weights) -> None:
    path = weights.find(entry.name)
    assert path is not None
    assert path.stat().st_size == entry.size_bytes
    assert weights.digest(path) == entry.sha256
    assert f"{entry.filename} | {entry.size_bytes:,} | {entry.sha256}" in (path.parent / "NOTICE.md").read_text()


def test_the_embedded_models_are_small() -> None:
    assert len(EMBEDDED) == 2
    assert sum(entry.size_bytes for entry in EMBEDDED) < 16e6


def test_a_drawn_person_is_detected_with_accurate_joints() -> None:
    picture = drawn_person()
    boxes = detector()(picture)
    assert boxes.shape == (1, 4)
    xy, score = pose_network()(picture, boxes)
    assert xy.shape == (1, len(HALPE26), 2)
    for name, expected in JOINTS.items():
        assert np.hypot(*(xy[0, HALPE26.index[name]] - expected)) < 0.2 * TORSO_PX, name
    assert score.min() > 0.5
    assert score.max() <= 1


def test_derived_keypoints_are_consistent_with_their_sources() -> None:
    xy, _ = pose_network()(drawn_person(), [[160, 60, 350, 480]])
    at = {name: xy[0, row] for name, row in HALPE26.index.items()}
    bin_px = 1.25 * 420 / 512
    assert np.abs(at["neck"] - (at["left_shoulder"] + at["right_shoulder"]) / 2).max() <= bin_px
    assert np.abs(at["hip"] - (at["left_hip"] + at["right_hip"]) / 2).max() <= bin_px
    assert at["head_top"][1] < at["nose"][1] - 20
    for side in ("left", "right"):
        np.testing.assert_array_equal(at[f"{side}_big_toe"], at[f"{side}_small_toe"])


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_nobody_is_detected_in_grey_or_noise(seed: int | None) -> None:
    grey = np.full((300, 400, 3), 127, np.uint8)
    noise = np.random.default_rng(seed).integers(0, 256, grey.shape, np.uint8)
    assert len(detector()(grey if seed is None else noise)) == 0


def test_two_persons_are_detected() -> None:
    pair = np.concatenate([drawn_person()[:, 100:412]] * 2, axis=1)
    boxes = detector()(pair)
    assert len(boxes) == 2
    centres = np.sort((boxes[:, 0] + boxes[:, 2]) / 2)
    np.testing.assert_allclose(centres, [156, 468], atol=15)


@pytest.mark.parametrize(("name", "side_px"), [("person-detector", 224), ("pose-halpe26", 256)])
def test_openvino_in_float32_agrees_with_onnxruntime(name: str, side_px: int) -> None:
    network = detector() if side_px == 224 else pose_network()
    crop = cv2.resize(drawn_person(), (side_px, side_px)).astype(np.float32)
    if side_px == 256:
        crop = (crop - pose_network().mean) / pose_network().std
    blob = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32)
    model = openvino.Core().compile_model(str(weights.ensure(name)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    theirs = model(blob)
    ours = network.inference(crop)
    for output, expected in zip(model.outputs, ours, strict=True):
        np.testing.assert_allclose(theirs[output], expected, atol=2e-3)
        np.testing.assert_array_equal(np.argmax(theirs[output], -1), np.argmax(expected, -1))


@pytest.mark.footage
@pytest.mark.parametrize("clip", ["target_a_dancer_62s", "source_b_rooftop_8s", "source_f_akun_7s"])
def test_real_dancers_are_detected_and_posed_as_by_the_reference(
    clip: str, footage: Path, shared_weights: Path
) -> None:
    nano = str(shared_weights / "yolox_nano_person.onnx")
    yolox = YOLOX(nano, model_input_size=(416, 416), score_thr=0.45)
    reference = RTMPose(str(shared_weights / "mp_pose_full_simcc_26.onnx"), model_input_size=(256, 256))
    for picture in frames(footage / f"{clip}.mp4"):
        boxes = detector()(picture)
        assert len(boxes) >= len(yolox(picture))
        xy, score = pose_network()(picture, boxes[:1])
        expected_xy, expected_score = reference(picture, boxes[:1])
        # Tolerance of one bin: a point midway between two bins may be rounded either way.
        bin_px = 1.25 * np.ptp(boxes[0].reshape(2, 2), axis=0).max() / 512
        assert np.abs(xy - expected_xy).max() <= 1.01 * bin_px
        np.testing.assert_allclose(score, expected_score, atol=1e-3)
