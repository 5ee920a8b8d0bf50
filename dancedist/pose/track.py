"""Select the dancer among all persons: the largest and steadiest track through all segments of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Floats
from dancedist.errors import Notice
from dancedist.pose.people import People

# A track of fewer frames is a false detection, unless the video is shorter.
MIN_FRAMES = 5
# Two tracks are joined if the gap is at most MAX_GAP_FRAMES, the distance at most MAX_GAP_HEIGHTS (in heights of the
# person) and the heights differ at most by the factor MAX_HEIGHT_CHANGE.
MAX_GAP_FRAMES = 30
MAX_GAP_HEIGHTS = 0.5
MAX_HEIGHT_CHANGE = 1.5
# A track can replace the absent dancer only if its height is at least this fraction of the dancer's.
MIN_HEIGHT_RATIO = 0.5
# Fraction of frames without the dancer from which on there is a warning.
ABSENCE_WARNING = 0.05


@dataclass(frozen=True, eq=False)
class _Track:
    """One person in N frames: `frame` int64 (N,), ascending; `box` float32 (N, 4) px; `mean_score` float32 (N,);
    `column` int64 (N,) in People. Holds no keypoints, as a video may be hours long.
    """

    frame: NDArray[np.int64]
    box: Floats
    mean_score: Floats
    column: NDArray[np.int64]

    @property
    def heights(self) -> Floats:
        return self.box[:, 3] - self.box[:, 1]

    @property
    def weight(self) -> float:
        """Sum over the frames of height x mean score: the measure of "largest and steadiest"."""
        return float((self.heights * self.mean_score).sum())


def select_track(people: Sequence[People]) -> tuple[Floats, Floats, tuple[Notice, ...]]:
    """Select the dancer of a video from the people in its consecutive segments; iterates over `people` twice.

    Returns xy float32 (T, K, 2) px and score float32 (T, K) in [0, 1], NaN and 0 where the dancer is absent, and
    notices: `undecodable-frames`, `dancer-switch` (a frame from which on another person may be tracked),
    `several-people`, `dancer-absent`.
    """
    tracks, missing = _tracks(people)
    total = len(missing)
    tracks = [t for t in _join(tracks) if len(t.frame) >= min(MIN_FRAMES, total)]
    chosen = _choose(tracks)
    xy, score = _keypoints(people, chosen, total)
    return xy, score, (*_undecodable(missing), *_switches(chosen), *_crowds(tracks, total), *_absences(score))


def _tracks(people: Sequence[People]) -> tuple[list[_Track], NDArray[np.bool_]]:
    tracks, missing = [], []
    start = 0
    for part in people:
        missing.append(part.missing)
        for number in range(part.track.max(initial=-1) + 1):
            t, p = np.nonzero(part.track == number)
            if len(t):
                tracks.append(_Track(t + start, part.box[t, p], part.score[t, p].mean(axis=1), p))
        start += len(part)
    return tracks, np.concatenate(missing)


def _keypoints(people: Sequence[People], chosen: list[_Track], total: int) -> tuple[Floats, Floats]:
    column = np.full(total, -1, np.int64)
    for track in chosen:
        column[track.frame] = track.column
    xy = np.full((total, people[0].xy.shape[2], 2), np.nan, np.float32)
    score = np.zeros(xy.shape[:2], np.float32)
    start = 0
    for part in people:
        t = np.flatnonzero(column[start : start + len(part)] >= 0)
        p = column[start + t]
        xy[start + t], score[start + t] = part.xy[t, p], part.score[t, p]
        start += len(part)
    return xy, score


def _join(tracks: list[_Track]) -> list[_Track]:
    """Join the tracks of one person: each track is appended to the nearest one that ended shortly before."""
    joined: list[_Track] = []
    for track in sorted(tracks, key=lambda t: (t.frame[0], -t.weight)):
        candidates = [(gap, i) for i, j in enumerate(joined) if (gap := _gap(j, track)) is not None]
        if not candidates:
            joined.append(track)
            continue
        i = min(candidates)[1]
        parts = joined[i], track
        joined[i] = _Track(
            *(np.concatenate([getattr(p, f) for p in parts]) for f in ("frame", "box", "mean_score", "column"))
        )
    return joined


def _gap(a: _Track, b: _Track) -> float | None:
    """Distance from `a`'s end to `b`'s start in heights of the person; None if they cannot be the same person."""
    frames = b.frame[0] - a.frame[-1]
    if not 0 < frames <= MAX_GAP_FRAMES:
        return None
    tall, small = sorted((float(a.heights[-1]), float(b.heights[0])), reverse=True)
    distance = float(np.linalg.norm(_centre(b.box[0]) - _centre(a.box[-1]))) / tall
    return distance if distance <= MAX_GAP_HEIGHTS and tall <= MAX_HEIGHT_CHANGE * small else None


def _centre(box: Floats) -> Floats:
    return np.asarray((box[:2] + box[2:]) / 2, np.float32)


def _choose(tracks: list[_Track]) -> list[_Track]:
    """The track of the largest weight, and others that fill its gaps; never a person who was seen beside the dancer."""
    chosen: list[_Track] = []
    for track in sorted(tracks, key=lambda t: -t.weight):
        tall_enough = not chosen or np.median(track.heights) >= MIN_HEIGHT_RATIO * np.median(chosen[0].heights)
        if tall_enough and not any(np.isin(track.frame, c.frame).any() for c in chosen):
            chosen.append(track)
    return sorted(chosen, key=lambda t: int(t.frame[0]))


def _undecodable(missing: NDArray[np.bool_]) -> list[Notice]:
    if not missing.any():
        return []
    text = f"{missing.sum()} of {len(missing)} frames cannot be decoded; the dancer counts as absent in them"
    return [Notice("undecodable-frames", text, int(np.argmax(missing)))]


def _switches(chosen: list[_Track]) -> list[Notice]:
    text = "from here on, another person may be tracked"
    return [Notice("dancer-switch", text, int(track.frame[0])) for track in chosen[1:]]


def _crowds(tracks: list[_Track], total: int) -> list[Notice]:
    persons = np.zeros(total, np.int64)
    for track in tracks:
        persons[np.unique(track.frame)] += 1
    crowded = np.flatnonzero(persons > 1)
    if not len(crowded):
        return []
    text = f"up to {persons.max()} persons in {len(crowded)} of {total} frames; the largest and steadiest is tracked"
    return [Notice("several-people", text, int(crowded[0]))]


def _absences(score: Floats) -> list[Notice]:
    absent = ~(score > 0).any(axis=1)
    if not len(score) or absent.mean() < ABSENCE_WARNING:
        return []
    text = f"the dancer is absent from {absent.mean():.0%} of the frames"
    return [Notice("dancer-absent", text, int(np.argmax(absent)))]
