from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from dancedist.pose.people_tracker import Crowd, Person, distinct, iou, windows_of
from dancedist.recipe import PoseRecipe

EVERY = 10
SIZE = (640, 480)
Box = tuple[float, float, float, float]


@dataclass
class Stage:
    """Stands in for the networks: frame t is filled with t, and who is there at t is known.

    `people` maps a name to {t: box}; the detector sees those of `seen_by_detector`, the pose network everybody.
    """

    people: dict[str, dict[int, Box]]
    hidden: set[str] = field(default_factory=set)
    detections: list[int] = field(default_factory=list)
    ghosts: dict[int, Box] = field(default_factory=dict)

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        t = int(frame[0, 0, 0])
        if frame.shape[:2] != SIZE[::-1]:
            return np.zeros((0, 4), np.float32)
        self.detections.append(t)
        there = [at[t] for name, at in self.people.items() if t in at and name not in self.hidden]
        return np.array([*there, *([self.ghosts[t]] if t in self.ghosts else [])], np.float32).reshape(-1, 4)

    def pose(self, frame: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = int(frame[0, 0, 0])
        near = [at[t] for at in self.people.values() if t in at and iou(box, np.array(at[t])) > 0.2]
        if not near:
            return np.full((26, 2), np.nan, np.float32), np.zeros(26, np.float32)
        x0, y0, x1, y1 = max(near, key=lambda b: iou(box, np.array(b)))
        spread = np.linspace(0, 1, 26)
        xy = np.stack([x0 + (x1 - x0) * (spread * 7 % 1), y0 + (y1 - y0) * spread], axis=-1)
        return xy.astype(np.float32), np.full(26, 0.9, np.float32)

    def crowd(self, **settings: object) -> Crowd:
        recipe = PoseRecipe.model_validate({"detect_every_frames": EVERY, **settings})
        return Crowd(self, self, recipe)  # type: ignore[arg-type]

    def watch(self, frames: int, missing: tuple[int, ...] = (), **settings: object) -> list[list[Person]]:
        crowd = self.crowd(**settings)
        blank = [None if t in missing else np.full((*SIZE[::-1], 3), t, np.uint8) for t in range(frames)]
        return [crowd.look(frame, t) for t, frame in enumerate(blank)]


def walk(x: float, frames: range, speed: float = 2, height: float = 300) -> dict[int, Box]:
    return {t: (x + speed * t, 100, x + speed * t + height / 3, 100 + height) for t in frames}


def tracks(seen: list[list[Person]]) -> list[list[int]]:
    return [[p.track for p in row] for row in seen]


def test_the_detector_runs_now_and_then_and_poses_lead_from_frame_to_frame() -> None:
    stage = Stage({"a": walk(50, range(40), speed=6)})
    seen = stage.watch(40)
    assert tracks(seen) == [[0]] * 40
    assert stage.detections == [0, 10, 20, 30]
    assert abs(seen[39][0].xy[:, 0].min() - 284) < 8


def test_who_walks_in_and_out_is_a_track_of_their_own() -> None:
    stage = Stage({"a": walk(50, range(60)), "b": walk(400, range(23, 41))})
    seen = tracks(stage.watch(60))
    assert seen[29] == [0]
    assert seen[30:41] == [[0, 1]] * 11
    assert seen[41:] == [[0]] * 19
    assert 41 in stage.detections


def test_with_nobody_there_every_frame_is_searched() -> None:
    stage = Stage({"a": walk(50, range(7, 20))})
    seen = tracks(stage.watch(25))
    assert seen == [[]] * 7 + [[0]] * 13 + [[]] * 5
    assert stage.detections == [*range(8), 10, *range(20, 25)]


def test_frames_that_did_not_decode_hold_nobody_and_the_person_is_found_again() -> None:
    stage = Stage({"a": walk(50, range(30), speed=10, height=240)})
    seen = tracks(stage.watch(30, missing=(4, 5, 6, 7)))
    assert seen == [[0]] * 4 + [[]] * 4 + [[0]] * 22
    assert stage.detections == [0, 8, 10, 20]


def test_a_jump_that_the_detector_catches_up_with_keeps_the_track() -> None:
    at = walk(50, range(20), speed=0)
    # Lost for two frames, and back beside the old place.
    there = {t: box for t, box in at.items() if t not in (4, 5)}
    assert tracks(Stage({"a": there}).watch(20)) == [[0]] * 4 + [[]] * 2 + [[0]] * 14


def test_the_largest_people_are_kept_up_to_the_cap() -> None:
    people = {
        name: walk(x, range(5), 0, 120 + 20 * i)
        for i, (name, x) in enumerate(zip("abcd", (0, 150, 300, 450), strict=True))
    }
    stage = Stage(people)
    stage.boxes = lambda frame: np.array(sorted((p[0] for p in people.values()), key=lambda b: b[1] - b[3]), np.float32)  # type: ignore[method-assign]
    seen = stage.watch(5, max_people=2)
    assert [len(row) for row in seen] == [2] * 5
    assert sorted(p.box[0] > 200 for p in seen[0]) == [True, True]
    assert {p.column for p in seen[0]} == {0, 1}


def test_a_bright_spot_that_the_detector_takes_for_a_person_is_dropped() -> None:
    stage = Stage({"a": walk(50, range(20))}, ghosts=dict.fromkeys(range(20), (500, 50, 600, 200)))
    assert tracks(stage.watch(20)) == [[0]] * 20


def test_who_vanishes_behind_another_does_not_stay_as_their_double() -> None:
    stage = Stage({"a": walk(50, range(20), 0), "b": walk(110, range(5), 0)})
    assert tracks(stage.watch(20)) == [[0, 1]] * 5 + [[0]] * 15


def test_two_tracks_that_fall_on_one_person_become_one() -> None:
    at = walk(50, range(3), 0)
    xy, score = Stage({"a": at}).pose(np.zeros((*SIZE[::-1], 3), np.uint8), np.array(at[0]))
    stayed = Person(3, 0, 0, np.array(at[0], np.float32), xy, score, moved=0.1)
    slipped = Person(1, 1, 0, np.array(at[0], np.float32), xy + 2, score, moved=0.6)
    apart = Person(2, 2, 0, np.array(at[0], np.float32), xy + 90, score, moved=0.9)
    assert [p.track for p in distinct([slipped, stayed, apart])] == [2, 3]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (518, 496), (1080, 1920), (1920, 1080)])
def test_windows_cover_the_frame(size: tuple[int, int]) -> None:
    covered = np.zeros(size[::-1], bool)
    for left, top, right, bottom in windows_of(*size):
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        covered[top:bottom, left:right] = True
    assert covered.all()
