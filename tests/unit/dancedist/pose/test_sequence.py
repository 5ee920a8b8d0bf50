from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dancedist.errors import FileInvalid, Notice
from dancedist.pose.sequence import PoseSequence, concat_poses, read_poses, torso_lengths, torso_px, write_poses
from dancedist.pose.topology import COCO17, HALPE26, TOPOLOGIES, Topology


def poses(frames: int = 7, topology: Topology = HALPE26) -> PoseSequence:
    rng = np.random.default_rng(frames)
    xy = rng.uniform(0, 500, (frames, len(topology), 2)).astype(np.float32)
    score = rng.uniform(0.1, 1, xy.shape[:2]).astype(np.float32)
    xy[2:4], score[2:4] = np.nan, 0
    notices = (Notice("cut-off", "ends early", 5), Notice("variable-rate", "resampled"))
    return PoseSequence(xy, score, topology, Fraction(30000, 1001), (640, 360), notices, "f" * 16, "a network")


@pytest.mark.parametrize("frames", [0, 1, 7])
@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=lambda t: t.name)
def test_reading_returns_what_was_written(tmp_path: Path, frames: int, topology: Topology) -> None:
    written = poses(frames, topology)
    write_poses(written, tmp_path / "deep" / "p.parquet")
    read = read_poses(tmp_path / "deep" / "p.parquet")
    np.testing.assert_array_equal(read.xy, written.xy)
    np.testing.assert_array_equal(read.score, written.score)
    assert read.xy.dtype == read.score.dtype == np.float32
    for name in ("topology", "fps", "size", "notices", "fingerprint", "model"):
        assert getattr(read, name) == getattr(written, name)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["p.parquet"]


def test_the_file_has_one_row_per_frame(tmp_path: Path) -> None:
    write_poses(poses(), tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["frame"].to_pylist() == list(range(7))
    assert table["present"].to_pylist() == [True, True, False, False, True, True, True]


def test_the_same_poses_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_poses(poses(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.parquet"
    write_poses(poses(), path)

    def full_disk(table: pa.Table, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_poses(replace(poses(), fingerprint="other"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]
    assert read_poses(path).fingerprint == "f" * 16


def test_files_without_poses_are_refused(tmp_path: Path) -> None:
    text, other, old, short = (tmp_path / name for name in ("text", "other", "old", "short"))
    text.write_text("not Parquet")
    pq.write_table(pa.table({"a": [1]}), other)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"dancedist": '{"version": 0}'}), old)
    write_poses(poses(), short)
    pq.write_table(pq.read_table(short).drop_columns(["score"]), short)
    for path in (text, other, old, short, tmp_path / "missing", tmp_path):
        with pytest.raises(FileInvalid, match="is not a poses file") as caught:
            read_poses(path)
        assert caught.value.file == str(path)


def test_present_slice_and_points() -> None:
    p = poses()
    np.testing.assert_array_equal(p.present, [1, 1, 0, 0, 1, 1, 1])
    assert len(p.slice(1, 4)) == 3
    np.testing.assert_array_equal(p.slice(1, 4).present, [1, 0, 0])
    np.testing.assert_array_equal(p.points("hip", "nose"), p.xy[:, [19, 0]])


def test_torso_length_is_from_shoulders_to_hips() -> None:
    p = poses(5, COCO17)
    at = COCO17.index
    for t, length in enumerate((30, 40, 50, 60, 80)):
        p.xy[t, [at["left_shoulder"], at["right_shoulder"]]] = [[10, 0], [50, 0]]
        p.xy[t, [at["left_hip"], at["right_hip"]]] = [[20, length], [40, length]]
    p.xy[4] = np.nan
    np.testing.assert_allclose(torso_lengths(p), [30, 40, 50, 60, np.nan])
    assert torso_px(p) == 45


def test_arrays_of_another_layout_fail_an_assertion() -> None:
    with pytest.raises(AssertionError):
        PoseSequence(np.zeros((3, 17, 2), np.float32), np.zeros((3, 17), np.float32), HALPE26, Fraction(25), (4, 4))


def test_sequences_are_concatenated_with_their_notices() -> None:
    parts = [poses(7), replace(poses(5), fingerprint="e" * 16)]
    combined = concat_poses(parts, ["a.mp4", "b.mp4"])
    np.testing.assert_array_equal(combined.xy, np.concatenate([p.xy for p in parts]))
    np.testing.assert_array_equal(combined.score[7:], parts[1].score)
    assert combined.notices[2] == Notice("cut-off", "b.mp4: ends early", 12)
    assert combined.notices[1] == Notice("variable-rate", "a.mp4: resampled")
    assert combined.fingerprint not in {p.fingerprint for p in parts}
    assert combined.fingerprint != concat_poses(parts[::-1], ["b.mp4", "a.mp4"]).fingerprint
    assert concat_poses(parts[:1], ["a.mp4"]) is parts[0]
