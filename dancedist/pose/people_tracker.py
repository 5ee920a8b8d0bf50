"""Track every person through one segment: detect persons, then follow each from pose to pose."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dancedist.arrays import Floats
from dancedist.pose.networks import Frame, PersonDetector, PoseNetwork
from dancedist.pose.topology import COCO17
from dancedist.recipe.schema import PoseRecipe

# Boxes with a higher IoU belong to the same person, also across a short gap.
SAME_PERSON_IOU = 0.3
# Poses are duplicates if their mean keypoint distance is below this fraction of the person's size.
SAME_POSE = 0.1
# Person's box / extent of the keypoints. A compromise: poses of drawn dancers are best at 0.9 to 1.0, a dancer
# filmed from behind has the highest scores at 1.25, and 0.8 loses persons.
BOX_MARGIN = 1.1
# Grey level of the padding in rtmlib.
PADDING_GREY = 114


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one frame.

    `box` float32 (4,) px (left, top, right, bottom), `xy` float32 (K, 2) px, `score` float32 (K,) in [0, 1]; `moved`
    is 1 - IoU with the box that the pose was estimated in.
    """

    track: int
    column: int
    frame: int
    box: Floats
    xy: Floats
    score: Floats
    moved: float


class PeopleTracker:
    """Detect and track every person in one segment; segments are independent of each other.

    Persons are followed from pose to pose. The detector runs every `detect_every_frames`, and also when a person was
    lost, nobody is tracked, or the frame before could not be decoded.
    """

    def __init__(self, person_detector: PersonDetector, pose_network: PoseNetwork, recipe: PoseRecipe) -> None:
        self._person_detector, self._pose_network, self._recipe = person_detector, pose_network, recipe
        self._people: list[Person] = []
        self._lost: list[Person] = []
        self._tracks = self._tile_scans = 0
        self._frame_missing = False

    def update(self, frame: Frame | None, t: int) -> list[Person]:
        """All persons in frame `t`, uint8 RGB (H, W, 3); none where it is None (not decodable)."""
        if frame is None:
            self._frame_missing = True
            return []
        before = self._people
        people = [q for p in before if (q := self._estimate(frame, t, p.box, p.track, p.column))]
        due = t % self._recipe.detect_every_frames == 0
        # Without anybody to follow, there is time to run the detector on every frame.
        if due or self._frame_missing or not people or len(people) < len(before):
            self._lost += [p for p in before if p.track not in {q.track for q in people}]
            people += self._newcomers(frame, t, self._person_detector.boxes(frame), people)
            people += self._newcomers(frame, t, self._small_boxes(frame, people), people)
        self._frame_missing = False
        self._people = without_duplicates(people)
        present = {p.track for p in self._people}
        max_gap = self._recipe.detect_every_frames
        self._lost = [p for p in self._lost if p.track not in present and t - p.frame <= max_gap]
        return self._people

    def _newcomers(self, frame: Frame, t: int, boxes: Iterable[Floats], people: list[Person]) -> list[Person]:
        new: list[Person] = []
        for box in boxes:
            present = [*people, *new]
            if len(present) == self._recipe.max_people:
                break
            if any(iou(box, p.box) > SAME_PERSON_IOU for p in present):
                continue
            column = min(set(range(len(present) + 1)) - {p.column for p in present})
            person = self._estimate(frame, t, box, self._track_of(box, present), column)
            if person is not None:
                self._tracks = max(self._tracks, person.track + 1)
                new.append(person)
        return new

    def _small_boxes(self, frame: Frame, people: list[Person]) -> list[Floats]:
        """Boxes of small persons, detected in tiles of the frame: in all tiles the first time, then in one per call."""
        tiles = detector_tiles(frame.shape[1], frame.shape[0])
        turn = self._tile_scans % len(tiles)
        tiles = tiles[turn : turn + 1] if self._tile_scans else tiles
        self._tile_scans += 1
        # Known persons are masked: a detector may miss others beside a person who fills the tile, or take a part of
        # that person for another one.
        frame = frame.copy()
        for p in people:
            left, top, right, bottom = np.clip(_extent(p.xy), 0, None).astype(int)
            frame[top:bottom, left:right] = PADDING_GREY
        crops = ((np.array([x, y, x, y], np.float32), frame[y:b, x:r]) for x, y, r, b in tiles)
        return [box + corner for corner, crop in crops for box in self._person_detector.boxes(crop)]

    def _track_of(self, box: Floats, present: list[Person]) -> int:
        """Track number of a person who was lost at this place a moment ago, or a new number."""
        taken = {p.track for p in present}
        candidates = [(iou(box, p.box), p.track) for p in self._lost if p.track not in taken]
        overlap, track = max(candidates, default=(0.0, -1))
        return track if overlap > SAME_PERSON_IOU else self._tracks

    def _estimate(self, frame: Frame, t: int, box: Floats, track: int, column: int) -> Person | None:
        xy, score = self._pose_network.pose(frame, box)
        # Every layout begins with the body's 17 points; the many points of hands and faces would outweigh them.
        if score[: len(COCO17)].mean() < self._recipe.min_person_score or not score.any():
            return None
        pose_box = _box_around(xy)
        return Person(track, column, t, pose_box, xy, score, moved=1 - iou(box, pose_box))


def _extent(xy: Floats) -> Floats:
    return np.concatenate([np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)])


def _box_around(xy: Floats) -> Floats:
    low, high = np.split(_extent(xy), 2)
    margin = (high - low) * (BOX_MARGIN - 1) / 2
    return np.concatenate([low - margin, high + margin])


def _area(box: Floats) -> float:
    return max(0.0, float(box[2] - box[0])) * max(0.0, float(box[3] - box[1]))


def _intersection(a: Floats, b: Floats) -> float:
    return _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))


def iou(a: Floats, b: Floats) -> float:
    """Intersection over union, in [0, 1], of two boxes float32 (4,) px (left, top, right, bottom)."""
    intersection = _intersection(a, b)
    return intersection / max(_area(a) + _area(b) - intersection, 1e-6)


def detector_tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Square tiles (left, top, right, bottom), px, that cover the frame.

    A tile's side is a third of the frame's longer side; neighbours overlap by a third to a half. A detector that
    misses persons smaller than a third of its input sees them three times as large in a tile.
    """
    side = max(1, max(width, height) // 3)
    lefts, tops = (
        [round((length - side) * i / max(n - 1, 1)) if length > side else 0 for i in range(n)]
        for length in (width, height)
        for n in [max(1, math.ceil(1.5 * length / side - 0.5))]
    )
    return [(x, y, min(x + side, width), min(y + side, height)) for y in tops for x in lefts]


def without_duplicates(people: list[Person]) -> list[Person]:
    """Remove duplicate persons; the one whose box moved less stays, so that no track jumps to another person."""
    unique: list[Person] = []
    for p in sorted(people, key=lambda p: (p.moved, p.track)):
        size = max(p.box[2] - p.box[0], p.box[3] - p.box[1])
        distances = (np.nanmean(np.linalg.norm(p.xy - q.xy, axis=1)) for q in unique)
        if all(distance > SAME_POSE * size for distance in distances):
            unique.append(p)
    return sorted(unique, key=lambda p: p.track)
