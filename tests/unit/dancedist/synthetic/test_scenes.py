from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dancedist.pose.sequence import torso_px
from dancedist.pose.topology import HALPE26
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING, Scene, film, soundtrack
from dancedist.synthetic.scenes import BPM

SCENES = {"training": TARGET_TRAINING, "test": TARGET_TEST, "source": SOURCE}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_the_whole_body_is_visible_and_large_enough_in_every_frame(scene: Scene) -> None:
    poses = scene.poses()
    assert len(poses) == round(scene.duration_s * scene.fps)
    assert (poses.score == 1).all()
    margin = 0.09 * torso_px(poses)
    assert (poses.xy > margin).all()
    hands = 0.4 * torso_px(poses)  # fingers reach beyond the wrist
    wrists = poses.points("left_wrist", "right_wrist")
    assert (wrists > hands).all() and (wrists < np.array(scene.size) - hands).all()
    assert (poses.xy < np.array(scene.size) - 2).all()
    tall = np.median(np.ptp(poses.xy[..., 1], axis=1)) / scene.size[1]
    assert 0.6 < tall < 0.8


def test_test_dances_do_not_occur_in_training() -> None:
    assert TARGET_TRAINING.duration_s >= 58
    assert all(8 <= s.duration_s <= 10 for s in (TARGET_TEST, SOURCE))
    for scene in (TARGET_TEST, SOURCE):
        for name in ("arms", "legs"):
            trained = {getattr(d, name) for d in TARGET_TRAINING.dances}
            assert not trained & {getattr(d, name) for d in scene.dances}
    assert not {d.arms for d in SOURCE.dances} & {d.arms for d in TARGET_TEST.dances}


def test_held_out_poses_are_near_the_training_poses_but_not_among_them() -> None:
    def normalised(scene: Scene) -> np.ndarray:
        poses = scene.poses()
        return (poses.xy - poses.points("hip")) / torso_px(poses)

    train, test = normalised(TARGET_TRAINING), normalised(TARGET_TEST)
    nearest = np.array([np.linalg.norm(train - pose, axis=2).mean(axis=1).min() for pose in test])
    assert nearest.min() > 0.03 and np.median(nearest) < 0.5
    for k in range(len(HALPE26)):
        low, high = train[:, k].min(axis=0) - 0.35, train[:, k].max(axis=0) + 0.35
        assert ((test[:, k] > low) & (test[:, k] < high)).mean() > 0.97


def test_film_draws_every_pose() -> None:
    frames = list(film(TARGET_TEST.performer, TARGET_TEST.backdrop, TARGET_TEST.poses().slice(0, 3)))
    assert len(frames) == 3 and frames[0].tobytes() != frames[2].tobytes()
    assert next(TARGET_TEST.frames()).tobytes() == frames[0].tobytes()


def test_the_drum_is_on_the_beat() -> None:
    rate = 8000
    sound = soundtrack(6.0, BPM, rate)
    assert sound.dtype == np.float32 and sound.shape == (6 * rate,) and 0.5 < np.abs(sound).max() <= 1
    loud = np.array(
        [np.square(sound[s : s + rate // 20]).mean() for s in range(0, len(sound) - rate // 2, rate // 100)]
    )
    beat = 60 / BPM * 100
    on, off = (loud[np.round(np.arange(8) * beat + shift).astype(int)].mean() for shift in (0, beat / 4))
    assert on > 2 * off
    assert soundtrack(6.0, BPM, rate).tobytes() == sound.tobytes()


@pytest.mark.footage
def test_the_pose_network_detects_the_true_joints(shared_weights: Path) -> None:
    from rtmlib import RTMPose

    network = RTMPose(str(shared_weights / "mp_pose_full_simcc_26.onnx"), model_input_size=(256, 256))
    for scene in (TARGET_TEST, SOURCE):
        poses = scene.poses()
        errors = []
        for frame in range(0, len(poses), 31):
            xy = poses.xy[frame]
            picture = next(film(scene.performer, scene.backdrop, poses.slice(frame, frame + 1)))
            low, high = xy.min(axis=0) - 10, xy.max(axis=0) + 10
            found, score = network(picture[:, :, ::-1], [[*low, *high]])
            assert score.mean() > 0.9
            errors.append(np.linalg.norm(found[0] - xy, axis=1).mean() / torso_px(poses))
        assert np.mean(errors) < 0.06
