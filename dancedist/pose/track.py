"""One dancer out of everybody: the largest and steadiest track, through all segments of a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.errors import Notice
from dancedist.pose.people import People
from dancedist.pose.runtime import Floats

# A person seen in fewer frames is a false alarm, unless the film is shorter.
MIN_FRAMES = 5
# A person may be gone so long and still be taken for the same, if they come back near by and as tall.
PATIENCE_FRAMES = 30
NEAR_HEIGHTS = 0.5
SAME_HEIGHT = 1.5
# The dancer's place is taken by nobody much smaller.
MIN_HEIGHT_RATIO = 0.5
# Absence is worth a warning from this part of the frames on.
MANY_ABSENT = 0.05


@dataclass(frozen=True, eq=False)
class _Track:
    """One person without gaps that matter: `frame` (N,) ascending, and in these their box (N, 4), mean score (N,) and
    column (N,) among the people of the frame. Small beside their keypoints, as there may be hours of it."""

    frame: NDArray[np.int64]
    box: Floats
    certainty: Floats
    column: NDArray[np.int64]

    @property
    def heights(self) -> Floats:
        return self.box[:, 3] - self.box[:, 1]

    @property
    def weight(self) -> float:
        """Size and certainty, summed over the frames: what "largest and steadiest" means."""
        return float((self.heights * self.certainty).sum())


def follow(people: Sequence[People]) -> tuple[Floats, Floats, tuple[Notice, ...]]:
    """The dancer of a film, from everybody in its consecutive segments, each of which is looked at twice.

    Returns xy (T, K, 2) px and score (T, K), NaN and 0 where the dancer is absent, and notices:
    `undecodable-frames`, `dancer-switch` (a frame from which on it may be somebody else), `several-people`,
    `dancer-absent`.
    """
    tracks, missing = _tracks(people)
    total = len(missing)
    tracks = [t for t in _joined(tracks) if len(t.frame) >= min(MIN_FRAMES, total)]
    chosen = _chosen(tracks)
    xy, score = _keypoints(people, chosen, total)
    return xy, score, (*_undecodable(missing), *_switches(chosen), *_others(tracks, total), *_absences(score))


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


def _joined(tracks: list[_Track]) -> list[_Track]:
    """Tracks of one person in one: each goes on with the nearest that begins soon after its end."""
    whole: list[_Track] = []
    for track in sorted(tracks, key=lambda t: (t.frame[0], -t.weight)):
        before = [(gap, i) for i, w in enumerate(whole) if (gap := _gap(w, track)) is not None]
        if not before:
            whole.append(track)
            continue
        i = min(before)[1]
        parts = whole[i], track
        whole[i] = _Track(
            *(np.concatenate([getattr(p, f) for p in parts]) for f in ("frame", "box", "certainty", "column"))
        )
    return whole


def _gap(a: _Track, b: _Track) -> float | None:
    """How far `b`'s start is from `a`'s end, in heights; None where they cannot be one person."""
    frames = b.frame[0] - a.frame[-1]
    if not 0 < frames <= PATIENCE_FRAMES:
        return None
    tall, small = sorted((float(a.heights[-1]), float(b.heights[0])), reverse=True)
    apart = float(np.linalg.norm(_middle(b.box[0]) - _middle(a.box[-1]))) / tall
    return apart if apart <= NEAR_HEIGHTS and tall <= SAME_HEIGHT * small else None


def _middle(box: Floats) -> Floats:
    return np.asarray((box[:2] + box[2:]) / 2, np.float32)


def _chosen(tracks: list[_Track]) -> list[_Track]:
    """The track that weighs most, and others where it is absent: never somebody seen beside the dancer."""
    chosen: list[_Track] = []
    for track in sorted(tracks, key=lambda t: -t.weight):
        tall = not chosen or np.median(track.heights) >= MIN_HEIGHT_RATIO * np.median(chosen[0].heights)
        if tall and not any(np.isin(track.frame, c.frame).any() for c in chosen):
            chosen.append(track)
    return sorted(chosen, key=lambda t: int(t.frame[0]))


def _undecodable(missing: NDArray[np.bool_]) -> list[Notice]:
    if not missing.any():
        return []
    text = f"{missing.sum()} of {len(missing)} frames cannot be decoded; nobody is taken to be there"
    return [Notice("undecodable-frames", text, int(np.argmax(missing)))]


def _switches(chosen: list[_Track]) -> list[Notice]:
    text = "another person may be followed from here on"
    return [Notice("dancer-switch", text, int(track.frame[0])) for track in chosen[1:]]


def _others(tracks: list[_Track], total: int) -> list[Notice]:
    there = np.zeros(total, np.int64)
    for track in tracks:
        there[np.unique(track.frame)] += 1
    crowded = np.flatnonzero(there > 1)
    if not len(crowded):
        return []
    text = f"up to {there.max()} persons in {len(crowded)} of {total} frames; the largest and steadiest is followed"
    return [Notice("several-people", text, int(crowded[0]))]


def _absences(score: Floats) -> list[Notice]:
    absent = ~(score > 0).any(axis=1)
    if not len(score) or absent.mean() < MANY_ABSENT:
        return []
    text = f"the dancer is absent from {absent.mean():.0%} of the frames"
    return [Notice("dancer-absent", text, int(np.argmax(absent)))]
