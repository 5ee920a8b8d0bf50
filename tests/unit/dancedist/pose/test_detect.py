from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtmlib import YOLOX, RTMPose

from dancedist import weights
from dancedist.errors import FileInvalid, RecipeInvalid, WeightsMissing
from dancedist.pose.detect import PeopleDetector
from dancedist.pose.people import People
from dancedist.pose.sequence import torso_px
from dancedist.recipe.schema import PoseRecipe
from dancedist.synthetic import TARGET_TEST


@pytest.fixture(scope="module")
def dancer() -> list[np.ndarray]:
    frames = TARGET_TEST.frames()
    return [next(frames) for _ in range(24)]


@pytest.fixture(scope="module")
def detector() -> PeopleDetector:
    return PeopleDetector(PoseRecipe(threads=2))


def same(a: People, b: People) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=n in ("xy", "box")) for n in vars(a))


def test_keypoints_of_a_drawn_dancer_are_accurate(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    people = detector.segment(dancer)
    truth = TARGET_TEST.poses().slice(0, len(dancer))
    assert people.xy.shape == (len(dancer), 1, 26, 2)
    assert (people.track == 0).all()
    error = np.linalg.norm(people.xy[:, 0] - truth.xy, axis=-1) / torso_px(truth)
    assert error.mean() <= 0.06
    assert people.score.min() >= 0 and people.score.max() <= 1


def test_segments_are_independent_and_threads_do_not_change_the_result(
    detector: PeopleDetector, dancer: list[np.ndarray]
) -> None:
    first = detector.segment(dancer[:12])
    detector.segment(dancer[12:])
    assert same(detector.segment(dancer[:12]), first)
    assert same(PeopleDetector(PoseRecipe(threads=1)).segment(dancer[:12]), first)
    assert same(PeopleDetector(PoseRecipe(threads=2), streams=2).segment(dancer[:12]), first)


def test_a_small_person_beside_a_large_one_is_detected(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    frame = np.full((960, 960, 3), dancer[0][2, 2], np.uint8)
    frame[240 : 240 + 480, :400] = dancer[0]
    frame[300:540, 700:900] = dancer[0][::2, ::2]
    people = detector.segment([frame] * 3)
    assert ((people.track >= 0).sum(axis=1) >= 2).all()
    heights = np.sort(people.box[0, :, 3] - people.box[0, :, 1])
    assert heights[0] < 0.65 * heights[1]


def test_noise_blank_and_missing_frames_have_no_persons(detector: PeopleDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)
    people = detector.segment([np.zeros((120, 90, 3), np.uint8), None, noise, np.zeros((1, 1, 3), np.uint8)])
    assert (people.track == -1).all()
    assert np.isnan(people.xy).all()
    np.testing.assert_array_equal(people.missing, [False, True, False, False])


def test_a_segment_without_frames_is_empty(detector: PeopleDetector) -> None:
    assert detector.segment([]).xy.shape == (0, 1, 26, 2)


def test_the_networks_agree_with_rtmlib(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    frame, bgr = dancer[0], np.ascontiguousarray(dancer[0][..., ::-1])
    yolox = YOLOX(str(weights.ensure("person-detector")), model_input_size=detector._person_detector.model_input_size)
    rtmpose = RTMPose(str(weights.ensure("pose-halpe26")), model_input_size=detector._pose_network.model_input_size)
    box = yolox(bgr)[0]
    np.testing.assert_allclose(detector._person_detector.boxes(frame)[0], box, atol=0.01)
    blob, center, scale = detector._pose_network.preprocess(frame, box)
    theirs, their_center, their_scale = rtmpose.preprocess(bgr, box)
    np.testing.assert_array_equal(blob[0], theirs.transpose(2, 0, 1).astype(np.float32))
    np.testing.assert_array_equal([center, scale], [their_center, their_scale])
    xy, score = detector._pose_network.pose(frame, box)
    their_xy, their_score = rtmpose(bgr, [box])
    np.testing.assert_allclose(xy, their_xy[0], atol=scale.max() / 512 + 1e-3)
    np.testing.assert_allclose(score, their_score[0], atol=1e-3)


def test_coco17_results_are_the_first_17_keypoints_of_halpe26(
    detector: PeopleDetector, dancer: list[np.ndarray]
) -> None:
    coco = PeopleDetector(PoseRecipe(topology="coco17", threads=2)).segment(dancer[:2])
    np.testing.assert_array_equal(coco.xy, detector.segment(dancer[:2]).xy[:, :, :17])


def test_networks_can_be_given_as_files_and_unusable_files_are_refused(
    tmp_path: Path, dancer: list[np.ndarray]
) -> None:
    pose = str(weights.ensure("pose-halpe26"))
    person_detector = str(weights.ensure("person-detector"))
    by_path = PeopleDetector(PoseRecipe(model=pose, detector=person_detector, backend="onnxruntime"))
    assert by_path.spec.label == f"{Path(pose).stem} (onnxruntime, cpu, f32)"
    assert (by_path.segment(dancer[:2]).track == 0).all()
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    for settings in ({"model": str(text)}, {"detector": str(text)}, {"model": person_detector}, {"detector": pose}):
        for backend in ("openvino", "onnxruntime"):
            with pytest.raises(FileInvalid):
                PeopleDetector(PoseRecipe.model_validate({**settings, "backend": backend}))
    with pytest.raises(WeightsMissing):
        PeopleDetector(PoseRecipe(model=str(tmp_path / "absent.onnx")))


def test_a_network_with_too_few_keypoints_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RecipeInvalid, match="rtmw-l"):
        PeopleDetector(PoseRecipe(topology="wholebody133"))


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dancedist.pose.runtime.has_bf16", lambda: False)


@pytest.mark.usefixtures("no_bf16")
@pytest.mark.parametrize("backend", ["auto", "openvino", "onnxruntime"])
def test_bf16_is_refused_if_it_is_not_supported(backend: str) -> None:
    with pytest.raises(RecipeInvalid, match="bf16"):
        PeopleDetector(PoseRecipe.model_validate({"backend": backend, "precision": "bf16"}))
