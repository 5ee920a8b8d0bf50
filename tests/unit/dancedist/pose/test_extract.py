from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dancedist import weights
from dancedist.errors import DancedistError, NoDancer
from dancedist.files import file_sha256
from dancedist.pose.detect import PeopleDetector, inference_spec
from dancedist.pose.extract import extract, extract_to
from dancedist.pose.segments import one_dancer, people_key, poses_key, segment_grid
from dancedist.pose.sequence import PoseSequence, read_poses, torso_px
from dancedist.recipe.schema import PoseRecipe, VideoRecipe
from dancedist.synthetic import TARGET_TEST
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

LIMITS = VideoRecipe()
FRAMES = 20
SHORT = {"segment_frames": 8, "detect_every_frames": 4}


def recipe(**settings: Any) -> PoseRecipe:
    return PoseRecipe.model_validate({**SHORT, **settings})


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dance of 20 frames, one frame of it, and a backdrop without a dancer."""
    folder = tmp_path_factory.mktemp("films")
    drawn = TARGET_TEST.frames()
    dance = [next(drawn) for _ in range(FRAMES)]
    wall = np.broadcast_to(dance[0][:, :1], dance[0].shape).copy()
    for name, frames in (("dance", dance), ("one", dance[:1]), ("nobody", [wall] * 9)):
        write_film(folder / f"{name}.mp4", frames, Fraction(25), crf=12, x264_preset="ultrafast")
    return folder


@pytest.fixture(scope="module")
def poses(films: Path) -> PoseSequence:
    return extract(probe(films / "dance.mp4", LIMITS), recipe())


def test_extracted_poses_match_the_true_joints(poses: PoseSequence) -> None:
    truth = TARGET_TEST.poses().slice(0, FRAMES)
    assert (len(poses), poses.size, poses.fps) == (FRAMES, TARGET_TEST.size, 25)
    assert poses.present.all()
    assert poses.notices == ()
    assert np.nanmean(np.linalg.norm(poses.xy - truth.xy, axis=-1)) / torso_px(truth) <= 0.06
    assert "f32" in poses.model


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_poses_or_fingerprint(films: Path, poses: PoseSequence, threads: int) -> None:
    again = extract(probe(films / "dance.mp4", LIMITS), recipe(threads=threads))
    np.testing.assert_array_equal(again.xy, poses.xy)
    np.testing.assert_array_equal(again.score, poses.score)
    assert again.fingerprint == poses.fingerprint


def test_segments_in_any_order_give_the_same_poses(films: Path, poses: PoseSequence) -> None:
    video = probe(films / "dance.mp4", LIMITS)
    detector = PeopleDetector(recipe(threads=1))
    people = [detector.segment(read_frames(video, *part)) for part in reversed(segment_grid(FRAMES, 8))][::-1]
    key = poses_key(file_sha256(video.path), recipe(), detector.spec)
    assembled = one_dancer(video.info, recipe(), people, detector.spec, key)
    np.testing.assert_array_equal(assembled.xy, poses.xy)
    assert assembled.fingerprint == poses.fingerprint


def test_the_segment_grid_covers_every_frame_once() -> None:
    assert segment_grid(20, 8) == [(0, 8), (8, 16), (16, 20)]
    assert segment_grid(8, 8) == [(0, 8)]
    assert segment_grid(1, 256) == [(0, 1)]


def test_progress_counts_every_frame(films: Path) -> None:
    counts: list[int] = []
    extract(probe(films / "dance.mp4", LIMITS), recipe(threads=2), counts.append)
    assert sum(counts) == FRAMES


def test_the_fingerprint_changes_with_everything_that_poses_depend_on(films: Path) -> None:
    def key(of: Callable[..., str], video: str = "dance", **settings: Any) -> str:
        pose = recipe(**settings)
        return of(file_sha256(films / f"{video}.mp4"), pose, PeopleDetector(pose).spec)

    copy = str(detector_copy(films))
    others: list[dict[str, Any]] = [
        {}, {"video": "one"}, {"segment_frames": 9}, {"backend": "onnxruntime"}, {"model": copy}, {"max_people": 1},
    ]  # fmt: skip
    for of in (people_key, poses_key):
        assert len({key(of, **other) for other in others}) == len(others)
        assert key(of, threads=1) == key(of)
    assert key(poses_key, smoothing="none") != key(poses_key)
    assert key(people_key, smoothing="none") == key(people_key)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_inference_spec_is_known_before_the_networks_are_loaded(backend: str) -> None:
    assert inference_spec(recipe(backend=backend), "cpu") == PeopleDetector(recipe(backend=backend)).spec


def detector_copy(folder: Path) -> Path:
    """A copy of the pose network with an extra field: another file with the same results."""
    copy = folder / "copy.onnx"
    # An unknown protobuf field, number 1000 of type varint, which readers ignore.
    copy.write_bytes(weights.ensure("pose-halpe26").read_bytes() + bytes([0xC0, 0x3E, 1]))
    return copy


def test_existing_poses_are_reused_only_if_the_fingerprint_matches(
    films: Path, tmp_path: Path, poses: PoseSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "poses.parquet"
    extract_to(probe(films / "dance.mp4", LIMITS), out, recipe())
    np.testing.assert_array_equal(read_poses(out).xy, poses.xy)
    before = out.stat().st_mtime_ns
    segments: list[int] = []
    segment = PeopleDetector.segment

    def counted(self: PeopleDetector, *rest: Any) -> Any:
        segments.append(1)
        return segment(self, *rest)

    monkeypatch.setattr(PeopleDetector, "segment", counted)
    counts: list[int] = []
    again = extract_to(probe(films / "dance.mp4", LIMITS), out, recipe(), counts.append)
    assert (segments, sum(counts), out.stat().st_mtime_ns) == ([], FRAMES, before)
    assert again.fingerprint == poses.fingerprint
    extract_to(probe(films / "dance.mp4", LIMITS), out, recipe(smoothing="none"))
    assert len(segments) == 3
    out.write_bytes(b"half a file")
    assert len(extract_to(probe(films / "dance.mp4", LIMITS), out, recipe())) == FRAMES
    assert [p.name for p in out.parent.iterdir()] == ["poses.parquet"]


def test_a_video_of_one_frame_gives_one_pose(films: Path) -> None:
    poses = extract(probe(films / "one.mp4", LIMITS), recipe())
    assert len(poses) == 1
    assert poses.present.all()


def test_a_video_without_a_dancer_is_refused_and_leaves_no_file(films: Path, tmp_path: Path) -> None:
    with pytest.raises(NoDancer, match="9 frames without one") as caught:
        extract_to(probe(films / "nobody.mp4", LIMITS), tmp_path / "p.parquet", recipe())
    assert caught.value.file == str(films / "nobody.mp4")
    assert list(tmp_path.iterdir()) == []


def test_undecodable_frames_are_absent_with_a_notice(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(video: Any, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray | None]:
        for i, frame in enumerate(read_frames(video, start, stop), start):
            yield None if i in (3, 9, 10) else frame

    monkeypatch.setattr("dancedist.pose.extract.read_frames", damaged)
    poses = extract(probe(films / "dance.mp4", LIMITS), recipe())
    np.testing.assert_array_equal(np.flatnonzero(~poses.present), [3, 9, 10])
    assert np.isnan(poses.xy[3]).all()
    notices = {n.slug: n for n in poses.notices}
    assert notices["undecodable-frames"].frame == 3
    assert "3 of 20 frames" in notices["undecodable-frames"].message
    assert "dancer-absent" in notices


def test_keypoints_below_the_minimum_score_are_absent(films: Path) -> None:
    poses = extract(probe(films / "one.mp4", LIMITS), recipe(min_keypoint_score=0.99))
    assert 0 < (poses.score == 0).sum() < poses.score.size
    np.testing.assert_array_equal(np.isnan(poses.xy[..., 0]), poses.score == 0)
    assert poses.score[poses.score > 0].min() >= np.float32(0.99)


# The others go through the command line, in tests/system/test_nasty.py.
EXPECTED: dict[str, tuple[str, ...]] = {
    "hevc_10bit_no_audio_3s": (),
    "bitflips": ("undecodable-frames", "dancer-absent"),
    "one_frame": (),
}
REFUSED = {
    "audio_only": "video-unreadable",
    "empty": "video-unreadable",
    "not_a_video": "video-unreadable",
    "bomb_16000x8000": "video-too-large",
}


@pytest.mark.footage
@pytest.mark.parametrize("name", EXPECTED)
def test_nasty_videos_give_poses_with_notices(footage: Path, name: str) -> None:
    poses = extract(probe(footage / "nasty" / f"{name}.mp4", LIMITS), PoseRecipe())
    assert set(EXPECTED[name]) <= {n.slug for n in poses.notices}
    if not EXPECTED[name]:
        assert poses.present.all()


@pytest.mark.footage
@pytest.mark.parametrize("name", REFUSED)
def test_nasty_files_are_refused(footage: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DancedistError) as caught:
        extract_to(probe(footage / "nasty" / f"{name}.mp4", LIMITS), tmp_path / "p.parquet", PoseRecipe())
    assert caught.value.slug == REFUSED[name]
    assert list(tmp_path.iterdir()) == []
