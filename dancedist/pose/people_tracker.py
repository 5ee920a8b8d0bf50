"""Who is there, from frame to frame of one segment: found by the detector, followed from pose to pose."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dancedist.pose.networks import Frame, PersonFinder, PoseNetwork
from dancedist.pose.runtime import Floats
from dancedist.pose.topology import COCO17
from dancedist.recipe import PoseRecipe

# A box that overlaps a person's, now or a moment ago, is that person's.
SAME_PERSON_IOU = 0.3
# Two poses closer than this part of their size, on average over the keypoints, are one person seen twice.
SAME_POSE = 0.1
# From the extent of the keypoints to the person's box. A compromise: drawn dancers are told best at 0.9 to 1.0, the
# woman seen from behind is surest at 1.25, and 0.8 loses people.
BOX_MARGIN = 1.1
# The grey that rtmlib pads pictures with.
BLANK = 114


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one frame: `box` (4,) px, `xy` (K, 2) px, `score` (K,); `moved` is 1 - IoU with the box before."""

    track: int
    column: int
    frame: int
    box: Floats
    xy: Floats
    score: Floats
    moved: float


class Crowd:
    """Everybody in one segment; knows nothing of what came before it."""

    def __init__(self, finder: PersonFinder, poser: PoseNetwork, recipe: PoseRecipe) -> None:
        self._finder, self._poser, self._recipe = finder, poser, recipe
        self._people: list[Person] = []
        self._gone: list[Person] = []
        self._tracks = self._looks = 0
        self._blind = False

    def look(self, frame: Frame | None, t: int) -> list[Person]:
        """Everybody in frame `t`."""
        if frame is None:
            self._blind = True
            return []
        before = self._people
        found = [q for p in before if (q := self._seen(frame, t, p.box, p.track, p.column))]
        due = t % self._recipe.detect_every_frames == 0
        # With nobody to follow there is time to look for somebody in every frame.
        if due or self._blind or not found or len(found) < len(before):
            self._gone += [p for p in before if p.track not in {q.track for q in found}]
            found += self._newcomers(frame, t, self._finder.boxes(frame), found)
            found += self._newcomers(frame, t, self._small_boxes(frame, found), found)
        self._blind = False
        self._people = distinct(found)
        there = {p.track for p in self._people}
        patience = self._recipe.detect_every_frames
        self._gone = [p for p in self._gone if p.track not in there and t - p.frame <= patience]
        return self._people

    def _newcomers(self, frame: Frame, t: int, boxes: Iterable[Floats], found: list[Person]) -> list[Person]:
        new: list[Person] = []
        for box in boxes:
            there = [*found, *new]
            if len(there) == self._recipe.max_people:
                break
            if any(iou(box, p.box) > SAME_PERSON_IOU for p in there):
                continue
            column = min(set(range(len(there) + 1)) - {p.column for p in there})
            person = self._seen(frame, t, box, self._track_of(box, there), column)
            if person is not None:
                self._tracks = max(self._tracks, person.track + 1)
                new.append(person)
        return new

    def _small_boxes(self, frame: Frame, found: list[Person]) -> list[Floats]:
        """Where small persons may be: looks into windows of the frame, at first all of them, then one at a time."""
        windows = windows_of(frame.shape[1], frame.shape[0])
        turn = self._looks % len(windows)
        windows = windows[turn : turn + 1] if self._looks else windows
        self._looks += 1
        # A detector may see nobody beside a person who fills the window, or take a part for a person.
        frame = frame.copy()
        for p in found:
            left, top, right, bottom = np.clip(_extent(p.xy), 0, None).astype(int)
            frame[top:bottom, left:right] = BLANK
        corners = ((np.array([x, y, x, y], np.float32), frame[y:b, x:r]) for x, y, r, b in windows)
        return [box + corner for corner, window in corners for box in self._finder.boxes(window)]

    def _track_of(self, box: Floats, there: list[Person]) -> int:
        """Number of the person who was lost there a moment ago, or a new one."""
        taken = {p.track for p in there}
        back = [(iou(box, p.box), p.track) for p in self._gone if p.track not in taken]
        overlap, track = max(back, default=(0.0, -1))
        return track if overlap > SAME_PERSON_IOU else self._tracks

    def _seen(self, frame: Frame, t: int, box: Floats, track: int, column: int) -> Person | None:
        xy, score = self._poser.pose(frame, box)
        # Every layout begins with the body's 17 points; hands and faces would drown them.
        if score[: len(COCO17)].mean() < self._recipe.min_person_score or not score.any():
            return None
        around = _box_around(xy)
        return Person(track, column, t, around, xy, score, moved=1 - iou(box, around))


def _extent(xy: Floats) -> Floats:
    return np.concatenate([np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)])


def _box_around(xy: Floats) -> Floats:
    low, high = np.split(_extent(xy), 2)
    grow = (high - low) * (BOX_MARGIN - 1) / 2
    return np.concatenate([low - grow, high + grow])


def _area(box: Floats) -> float:
    return max(0.0, float(box[2] - box[0])) * max(0.0, float(box[3] - box[1]))


def _common(a: Floats, b: Floats) -> float:
    return _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))


def iou(a: Floats, b: Floats) -> float:
    """Common part of two boxes (left, top, right, bottom), over all that they cover."""
    common = _common(a, b)
    return common / max(_area(a) + _area(b) - common, 1e-6)


def windows_of(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Squares of a third of the frame's longer side that cover it, a third to a half over one another.

    A detector that misses persons under a third of its picture sees them there at three times the size.
    """
    side = max(1, max(width, height) // 3)
    lefts, tops = (
        [round((length - side) * i / max(n - 1, 1)) if length > side else 0 for i in range(n)]
        for length in (width, height)
        for n in [max(1, math.ceil(1.5 * length / side - 0.5))]
    )
    return [(x, y, min(x + side, width), min(y + side, height)) for y in tops for x in lefts]


def distinct(people: list[Person]) -> list[Person]:
    """Without persons who are seen twice: whose box moved less stays, so that nobody slips into another."""
    kept: list[Person] = []
    for p in sorted(people, key=lambda p: (p.moved, p.track)):
        size = max(p.box[2] - p.box[0], p.box[3] - p.box[1])
        apart = (np.nanmean(np.linalg.norm(p.xy - q.xy, axis=1)) for q in kept)
        if all(distance > SAME_POSE * size for distance in apart):
            kept.append(p)
    return sorted(kept, key=lambda p: p.track)
