from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from dancedist.pose.people_tracker import PeopleTracker, Person, detector_tiles, iou, without_duplicates
from dancedist.recipe.schema import PoseRecipe

EVERY = 10
SIZE = (640, 480)
Box = tuple[float, float, float, float]


@dataclass
class FakeNetworks:
    """Replaces both networks: frame t is filled with the value t, and the persons at t are known.

    `people` maps a name to {t: box}. The detector does not detect those in `hidden`; the pose network sees everybody.
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
        visible = [at[t] for name, at in self.people.items() if t in at and name not in self.hidden]
        return np.array([*visible, *([self.ghosts[t]] if t in self.ghosts else [])], np.float32).reshape(-1, 4)

    def pose(self, frame: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = int(frame[0, 0, 0])
        near = [at[t] for at in self.people.values() if t in at and iou(box, np.array(at[t])) > 0.2]
        if not near:
            return np.full((26, 2), np.nan, np.float32), np.zeros(26, np.float32)
        x0, y0, x1, y1 = max(near, key=lambda b: iou(box, np.array(b)))
        spread = np.linspace(0, 1, 26)
        xy = np.stack([x0 + (x1 - x0) * (spread * 7 % 1), y0 + (y1 - y0) * spread], axis=-1)
        return xy.astype(np.float32), np.full(26, 0.9, np.float32)

    def tracker(self, **settings: object) -> PeopleTracker:
        recipe = PoseRecipe.model_validate({"detect_every_frames": EVERY, **settings})
        return PeopleTracker(self, self, recipe)  # type: ignore[arg-type]

    def track(self, frames: int, missing: tuple[int, ...] = (), **settings: object) -> list[list[Person]]:
        tracker = self.tracker(**settings)
        frames_or_none = [None if t in missing else np.full((*SIZE[::-1], 3), t, np.uint8) for t in range(frames)]
        return [tracker.update(frame, t) for t, frame in enumerate(frames_or_none)]


def walk(x: float, frames: range, speed: float = 2, height: float = 300) -> dict[int, Box]:
    return {t: (x + speed * t, 100, x + speed * t + height / 3, 100 + height) for t in frames}


def tracks(seen: list[list[Person]]) -> list[list[int]]:
    return [[p.track for p in row] for row in seen]


def test_the_detector_runs_periodically_and_poses_are_followed_in_between() -> None:
    networks = FakeNetworks({"a": walk(50, range(40), speed=6)})
    seen = networks.track(40)
    assert tracks(seen) == [[0]] * 40
    assert networks.detections == [0, 10, 20, 30]
    assert abs(seen[39][0].xy[:, 0].min() - 284) < 8


def test_a_person_who_enters_and_leaves_gets_a_new_track() -> None:
    networks = FakeNetworks({"a": walk(50, range(60)), "b": walk(400, range(23, 41))})
    seen = tracks(networks.track(60))
    assert seen[29] == [0]
    assert seen[30:41] == [[0, 1]] * 11
    assert seen[41:] == [[0]] * 19
    assert 41 in networks.detections


def test_without_persons_the_detector_runs_on_every_frame() -> None:
    networks = FakeNetworks({"a": walk(50, range(7, 20))})
    seen = tracks(networks.track(25))
    assert seen == [[]] * 7 + [[0]] * 13 + [[]] * 5
    assert networks.detections == [*range(8), 10, *range(20, 25)]


def test_undecodable_frames_are_empty_and_the_person_is_detected_again() -> None:
    networks = FakeNetworks({"a": walk(50, range(30), speed=10, height=240)})
    seen = tracks(networks.track(30, missing=(4, 5, 6, 7)))
    assert seen == [[0]] * 4 + [[]] * 4 + [[0]] * 22
    assert networks.detections == [0, 8, 10, 20]


def test_a_person_lost_briefly_keeps_the_track() -> None:
    boxes = walk(50, range(20), speed=0)
    # Lost for two frames, then back at the same place.
    visible = {t: box for t, box in boxes.items() if t not in (4, 5)}
    assert tracks(FakeNetworks({"a": visible}).track(20)) == [[0]] * 4 + [[]] * 2 + [[0]] * 14


def test_the_largest_persons_are_tracked_up_to_the_limit() -> None:
    people = {
        name: walk(x, range(5), 0, 120 + 20 * i)
        for i, (name, x) in enumerate(zip("abcd", (0, 150, 300, 450), strict=True))
    }
    networks = FakeNetworks(people)
    boxes = sorted((p[0] for p in people.values()), key=lambda b: b[1] - b[3])
    networks.boxes = lambda frame: np.array(boxes, np.float32)  # type: ignore[method-assign]
    seen = networks.track(5, max_people=2)
    assert [len(row) for row in seen] == [2] * 5
    assert sorted(p.box[0] > 200 for p in seen[0]) == [True, True]
    assert {p.column for p in seen[0]} == {0, 1}


def test_a_false_detection_is_dropped() -> None:
    networks = FakeNetworks({"a": walk(50, range(20))}, ghosts=dict.fromkeys(range(20), (500, 50, 600, 200)))
    assert tracks(networks.track(20)) == [[0]] * 20


def test_a_person_who_disappears_behind_another_does_not_leave_a_duplicate() -> None:
    networks = FakeNetworks({"a": walk(50, range(20), 0), "b": walk(110, range(5), 0)})
    assert tracks(networks.track(20)) == [[0, 1]] * 5 + [[0]] * 15


def test_two_tracks_on_one_person_become_one() -> None:
    at = walk(50, range(3), 0)
    xy, score = FakeNetworks({"a": at}).pose(np.zeros((*SIZE[::-1], 3), np.uint8), np.array(at[0]))
    stayed = Person(3, 0, 0, np.array(at[0], np.float32), xy, score, moved=0.1)
    slipped = Person(1, 1, 0, np.array(at[0], np.float32), xy + 2, score, moved=0.6)
    apart = Person(2, 2, 0, np.array(at[0], np.float32), xy + 90, score, moved=0.9)
    assert [p.track for p in without_duplicates([slipped, stayed, apart])] == [2, 3]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (518, 496), (1080, 1920), (1920, 1080)])
def test_tiles_cover_the_frame(size: tuple[int, int]) -> None:
    covered = np.zeros(size[::-1], bool)
    for left, top, right, bottom in detector_tiles(*size):
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        covered[top:bottom, left:right] = True
    assert covered.all()
