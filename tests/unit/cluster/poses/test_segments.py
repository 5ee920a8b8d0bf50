from __future__ import annotations

import dataclasses
import json
import pickle
import weakref
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.error_records import ErrorRecord
from cluster.poses.inputs import ListedVideo, find_videos
from cluster.poses.segments import (
    DetectionResult,
    ExtractionJob,
    JoinResult,
    Segment,
    detect_segment,
    join_segments,
    split_video,
)
from dancedist.pose.detect import InferenceSpec
from dancedist.pose.people import People
from dancedist.pose.sequence import read_poses
from dancedist.recipe.schema import ExtractionRecipe, PoseRecipe, VideoRecipe
from dancedist.video.encode import write_film

FRAMES, GRID = 20, 8
MEANS = InferenceSpec("d" * 64, "m" * 64, "openvino", "cpu", "f32", "imagined")


class FakeDetector:
    """Detects one person in every frame, at the position given by the frame's colour."""

    spec = MEANS

    def segment(self, frames: Iterable[Any]) -> People:
        all_frames = list(frames)
        people = People.empty(len(all_frames), 1, 26)
        for t, frame in enumerate(all_frames):
            people.xy[t], people.score[t], people.track[t] = frame[0, 0, 0], 0.9, 0
            people.box[t] = (0, 0, 20, 50)
        return people


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = (np.full((32, 32, 3), 5 * i, np.uint8) for i in range(FRAMES))
    write_film(tmp_path / "in" / "film.mp4", list(frames), Fraction(25), crf=1, x264_preset="ultrafast")
    return tmp_path / "in" / "film.mp4"


def job(out: Path, **pose: Any) -> ExtractionJob:
    recipe = PoseRecipe.model_validate({"segment_frames": GRID, "smoothing": "none", **pose})
    return ExtractionJob(str(out), VideoRecipe(), recipe, ExtractionRecipe(), MEANS)


def listed(path: Path) -> ListedVideo:
    return find_videos([str(path)])[0][0]


def split(work: ExtractionJob, video: ListedVideo) -> list[Segment]:
    segments = split_video(work, video)
    assert isinstance(segments, list), segments
    return segments


def test_a_video_is_split_detected_and_joined(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = split(work, listed(film))
    assert [(s.start_frame, s.stop_frame) for s in segments] == [(0, 8), (8, 16), (16, 20)]
    assert {(s.frames, s.segments, s.missing) for s in segments} == {(20, 3, 3)}
    for segment in reversed(segments):
        assert isinstance(detect_segment(work, FakeDetector(), segment), DetectionResult)
    joined = join_segments(work, segments[1])
    assert isinstance(joined, JoinResult), joined
    assert (joined.frames, joined.frames_with_dancer) == (FRAMES, FRAMES)
    poses = read_poses(tmp_path / "out/poses/film.parquet")
    np.testing.assert_allclose(poses.xy[:, 3, 0], 5 * np.arange(FRAMES), atol=2)
    record = json.loads((tmp_path / "out" / work.done_name(listed(film))).read_text())
    assert (record["name"], record["frames"], record["poses_key"]) == ("film", FRAMES, poses.fingerprint)


def test_only_missing_segments_are_split_off(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    first, second, third = split(work, listed(film))
    detect_segment(work, FakeDetector(), second)
    assert split(work, listed(film)) == [dataclasses.replace(s, missing=2) for s in (first, third)]
    detect_segment(work, FakeDetector(), first)
    detect_segment(work, FakeDetector(), third)
    (whole,) = split(work, listed(film))
    assert (whole.missing, whole.start_frame, whole.stop_frame) == (0, 0, 0)
    # Smoothing comes after detection: the people stay valid. Another grid or other networks need new detections.
    assert len(split(job(tmp_path / "out", smoothing="median"), listed(film))) == 1
    assert len(split(job(tmp_path / "out", segment_frames=10), listed(film))) == 2
    other = dataclasses.replace(work, spec=dataclasses.replace(MEANS, model_sha256="n" * 64))
    assert len(split(other, listed(film))) == 3


def test_the_same_content_under_another_name_shares_its_segments(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    for segment in split(work, listed(film)):
        detect_segment(work, FakeDetector(), segment)
    copy = film.with_name("copy.mp4")
    copy.write_bytes(film.read_bytes())
    (whole,) = split(work, listed(copy))
    assert whole.missing == 0
    assert work.done_name(listed(copy)) != work.done_name(listed(film))


@pytest.mark.parametrize("change", [{"smoothing": "median"}, {"segment_frames": 9}, {"topology": "coco17"}])
def test_the_record_depends_on_the_settings(film: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    assert job(tmp_path, **change).done_name(listed(film)) != job(tmp_path).done_name(listed(film))


def test_settings_without_influence_do_not_change_the_record(film: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(job(tmp_path), extraction=ExtractionRecipe(workers=7, worker_threads=2))
    assert other.done_name(listed(film)) == job(tmp_path / "elsewhere").done_name(listed(film))


def test_bad_videos_are_error_records_with_the_uri(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    error = split_video(job(tmp_path / "out"), listed(bad))
    assert isinstance(error, ErrorRecord)
    assert (error.name, error.uri, error.slug) == ("bad", str(bad), "video-unreadable")
    assert str(bad) in error.message


def test_a_video_that_changes_during_the_job_is_an_error_record(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = split(work, listed(film))
    film.write_bytes(film.read_bytes() + b"more")
    error = detect_segment(work, FakeDetector(), segments[1])
    assert isinstance(error, ErrorRecord)
    assert (error.slug, error.start_frame, error.stop_frame) == ("video-changed", 8, 16)


def test_an_output_that_cannot_be_written_has_its_own_error(film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = split_video(job(tmp_path / "file"), listed(film))
    assert isinstance(error, ErrorRecord)
    assert error.slug == "output-unavailable"


def test_a_damaged_segment_is_an_error_record_and_computed_again(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = split(work, listed(film))
    for segment in segments:
        detect_segment(work, FakeDetector(), segment)
    broken = tmp_path / "out" / f"work/segments/{segments[0].key}/000000008.safetensors"
    broken.write_bytes(broken.read_bytes()[:50])
    error = join_segments(work, segments[0])
    assert isinstance(error, ErrorRecord)
    assert error.slug == "file-invalid"
    assert not (tmp_path / "out/poses").exists()
    # The next run computes it again.
    assert [(s.start_frame, s.missing) for s in split(work, listed(film))] == [(8, 1)]


def test_a_long_video_is_joined_from_few_segments_at_a_time(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def joined(work: ExtractionJob) -> bytes:
        parts = split(work, listed(film))
        for segment in parts:
            detect_segment(work, FakeDetector(), segment)
        assert isinstance(join_segments(work, parts[0]), JoinResult)
        return (Path(work.output) / f"poses/{parts[0].name}.parquet").read_bytes()

    whole = joined(job(tmp_path / "whole"))
    monkeypatch.setattr("cluster.poses.segments.CACHED_SEGMENTS", 1)
    refs: list[weakref.ref[People]] = []
    read = People.from_bytes
    peak = 0

    def counted(data: bytes, name: str) -> People:
        nonlocal peak
        people = read(data, name)
        refs.append(weakref.ref(people))
        peak = max(peak, sum(ref() is not None for ref in refs))
        return people

    monkeypatch.setattr(People, "from_bytes", counted)
    assert joined(job(tmp_path / "few")) == whole
    # The cached segment, the one being processed, and the one being read.
    assert peak <= 3 < len(refs)


def test_jobs_can_be_pickled(tmp_path: Path) -> None:
    work = job(tmp_path)
    assert pickle.loads(pickle.dumps(work)) == work
    assert hash(work) == hash(job(tmp_path))
