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
from dancedist.recipe import PoseRecipe
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


def test_drawn_dancers_are_found_within_a_small_part_of_their_torso(
    detector: PeopleDetector, dancer: list[np.ndarray]
) -> None:
    people = detector.segment(dancer)
    truth = TARGET_TEST.poses().slice(0, len(dancer))
    assert people.xy.shape == (len(dancer), 1, 26, 2)
    assert (people.track == 0).all()
    error = np.linalg.norm(people.xy[:, 0] - truth.xy, axis=-1) / torso_px(truth)
    assert error.mean() <= 0.06
    assert people.score.min() >= 0 and people.score.max() <= 1


def test_a_segment_knows_nothing_of_the_one_before_and_threads_change_nothing(
    detector: PeopleDetector, dancer: list[np.ndarray]
) -> None:
    first = detector.segment(dancer[:12])
    detector.segment(dancer[12:])
    assert same(detector.segment(dancer[:12]), first)
    assert same(PeopleDetector(PoseRecipe(threads=1)).segment(dancer[:12]), first)
    assert same(PeopleDetector(PoseRecipe(threads=2), streams=2).segment(dancer[:12]), first)


def test_a_small_person_beside_a_large_one_is_found_too(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    frame = np.full((960, 960, 3), dancer[0][2, 2], np.uint8)
    frame[240 : 240 + 480, :400] = dancer[0]
    frame[300:540, 700:900] = dancer[0][::2, ::2]
    people = detector.segment([frame] * 3)
    assert ((people.track >= 0).sum(axis=1) >= 2).all()
    heights = np.sort(people.box[0, :, 3] - people.box[0, :, 1])
    assert heights[0] < 0.65 * heights[1]


def test_nobody_in_noise_in_a_blank_frame_or_in_none(detector: PeopleDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 90, 3), dtype=np.uint8)
    people = detector.segment([np.zeros((120, 90, 3), np.uint8), None, noise, np.zeros((1, 1, 3), np.uint8)])
    assert (people.track == -1).all()
    assert np.isnan(people.xy).all()
    np.testing.assert_array_equal(people.missing, [False, True, False, False])


def test_no_frames(detector: PeopleDetector) -> None:
    assert detector.segment([]).xy.shape == (0, 1, 26, 2)


def test_rtmlib_itself_gives_the_same(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    frame, bgr = dancer[0], np.ascontiguousarray(dancer[0][..., ::-1])
    finder = YOLOX(str(weights.ensure("person-detector")), model_input_size=detector._finder.model_input_size)
    poser = RTMPose(str(weights.ensure("pose-halpe26")), model_input_size=detector._poser.model_input_size)
    box = finder(bgr)[0]
    np.testing.assert_allclose(detector._finder.boxes(frame)[0], box, atol=0.01)
    blob, center, scale = detector._poser.preprocess(frame, box)
    theirs, their_center, their_scale = poser.preprocess(bgr, box)
    np.testing.assert_array_equal(blob[0], theirs.transpose(2, 0, 1).astype(np.float32))
    np.testing.assert_array_equal([center, scale], [their_center, their_scale])
    xy, score = detector._poser.pose(frame, box)
    their_xy, their_score = poser(bgr, [box])
    np.testing.assert_allclose(xy, their_xy[0], atol=scale.max() / 512 + 1e-3)
    np.testing.assert_allclose(score, their_score[0], atol=1e-3)


def test_coco17_is_the_first_part_of_halpe26(detector: PeopleDetector, dancer: list[np.ndarray]) -> None:
    few = PeopleDetector(PoseRecipe(topology="coco17", threads=2)).segment(dancer[:2])
    np.testing.assert_array_equal(few.xy, detector.segment(dancer[:2]).xy[:, :, :17])


def test_networks_may_be_files_and_the_others_are_refused(tmp_path: Path, dancer: list[np.ndarray]) -> None:
    pose = str(weights.ensure("pose-halpe26"))
    finder = str(weights.ensure("person-detector"))
    by_path = PeopleDetector(PoseRecipe(model=pose, detector=finder, backend="onnxruntime"))
    assert by_path.means.label == f"{Path(pose).stem} (onnxruntime, cpu, f32)"
    assert (by_path.segment(dancer[:2]).track == 0).all()
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    for settings in ({"model": str(text)}, {"detector": str(text)}, {"model": finder}, {"detector": pose}):
        for backend in ("openvino", "onnxruntime"):
            with pytest.raises(FileInvalid):
                PeopleDetector(PoseRecipe.model_validate({**settings, "backend": backend}))
    with pytest.raises(WeightsMissing):
        PeopleDetector(PoseRecipe(model=str(tmp_path / "absent.onnx")))


def test_a_network_with_too_few_keypoints_is_refused_with_what_to_take() -> None:
    with pytest.raises(RecipeInvalid, match="rtmw-l"):
        PeopleDetector(PoseRecipe(topology="wholebody133"))


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32"]

    monkeypatch.setattr("dancedist.pose.runtime.ov.Core", Core)


@pytest.mark.usefixtures("no_bf16")
@pytest.mark.parametrize("backend", ["auto", "openvino", "onnxruntime"])
def test_bf16_is_refused_where_it_would_be_f32_in_silence(backend: str) -> None:
    with pytest.raises(RecipeInvalid, match="bf16"):
        PeopleDetector(PoseRecipe.model_validate({"backend": backend, "precision": "bf16"}))
