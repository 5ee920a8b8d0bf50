from __future__ import annotations

import numpy as np
import pytest

from dancedist.pose.people import People
from dancedist.pose.track import MAX_GAP_FRAMES, select_track

K = 26


def person(people: People, track: int, frames: range, x: float, height: float, score: float = 0.9) -> None:
    """Add a person to a segment: feet at y = 480, all keypoints at (x, height)."""
    for t in frames:
        column = int(np.argmax(people.track[t] < 0))
        assert people.track[t, column] < 0
        people.track[t, column] = track
        people.box[t, column] = (x - height / 5, 480 - height, x + height / 5, 480)
        people.xy[t, column] = (x, height)
        people.score[t, column] = score


def segment(frames: int = 100) -> People:
    return People.empty(frames, 4, K)


def slugs(notices: tuple) -> list[tuple[str, int | None]]:
    return [(n.slug, n.frame) for n in notices]


def test_one_dancer_is_tracked_across_segments() -> None:
    first, second = segment(), segment(60)
    person(first, 0, range(100), x=200, height=300)
    person(second, 0, range(60), x=210, height=310)
    xy, score, notices = select_track([first, second])
    assert xy.shape == (160, K, 2)
    assert (score > 0).all()
    np.testing.assert_array_equal(xy[[0, 99, 100, 159], 0, 0], [200, 200, 210, 210])
    assert notices == ()


def test_the_largest_person_is_selected_regardless_of_column_and_number() -> None:
    first, second = segment(), segment()
    person(first, 0, range(100), x=500, height=200)
    person(first, 1, range(100), x=200, height=300)
    person(second, 0, range(100), x=200, height=300)
    person(second, 1, range(100), x=500, height=200)
    xy, _, notices = select_track([first, second])
    assert (xy[:, 0, 0] == 200).all()
    assert slugs(notices) == [("several-people", 0)]
    assert "up to 2 persons in 200 of 200 frames" in str(notices[0])


def test_a_steady_person_wins_over_a_larger_one_who_passes_by() -> None:
    people = segment()
    person(people, 0, range(100), x=200, height=250)
    person(people, 1, range(40, 55), x=500, height=450)
    xy, _, notices = select_track([people])
    assert (xy[:, 0, 0] == 200).all()
    assert slugs(notices) == [("several-people", 40)]


@pytest.mark.parametrize("frames", [range(1), range(30, 34)])
def test_a_short_track_is_ignored(frames: range) -> None:
    people = segment()
    person(people, 0, frames, x=200, height=400)
    xy, score, notices = select_track([people])
    assert np.isnan(xy).all()
    assert (score == 0).all()
    assert slugs(notices) == [("dancer-absent", 0)]


def test_a_small_track_does_not_replace_the_absent_dancer() -> None:
    people = segment()
    person(people, 0, range(60), x=200, height=300)
    person(people, 1, range(62, 100), x=500, height=60)
    xy, _, notices = select_track([people])
    assert np.isnan(xy[60:]).all()
    assert slugs(notices) == [("dancer-absent", 60)]
    assert "40%" in str(notices[0])


def test_the_dancer_of_a_video_of_one_frame_is_selected() -> None:
    people = segment(1)
    person(people, 0, range(1), x=200, height=300)
    xy, _, notices = select_track([people])
    assert xy[0, 0, 0] == 200
    assert notices == ()


def test_a_gap_is_bridged_but_not_filled() -> None:
    people = segment()
    person(people, 0, range(50), x=200, height=300)
    person(people, 1, range(53, 100), x=230, height=290)
    xy, _, notices = select_track([people])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(xy[:, 0, 0])), [50, 51, 52])
    assert notices == ()


@pytest.mark.parametrize(("gap", "x", "height"), [(MAX_GAP_FRAMES + 5, 200, 280), (3, 600, 280), (3, 200, 180)])
def test_a_late_distant_or_smaller_return_gives_a_switch_notice(gap: int, x: float, height: float) -> None:
    people = segment()
    person(people, 0, range(50), x=200, height=300)
    person(people, 1, range(50 + gap, 100), x=x, height=height)
    xy, _, notices = select_track([people])
    assert xy[-1, 0, 0] == x
    assert ("dancer-switch", 50 + gap) in slugs(notices)


def test_a_person_seen_beside_the_dancer_never_replaces_them() -> None:
    people = segment()
    person(people, 0, range(60), x=200, height=300)
    person(people, 1, range(50, 100), x=600, height=280)
    xy, _, notices = select_track([people])
    assert np.isnan(xy[60:]).all()
    assert slugs(notices) == [("several-people", 50), ("dancer-absent", 60)]


def test_segments_without_persons_give_no_dancer() -> None:
    xy, score, notices = select_track([segment(20), segment(5)])
    assert xy.shape == (25, K, 2)
    assert (score == 0).all()
    assert slugs(notices) == [("dancer-absent", 0)]


def test_segments_may_have_different_numbers_of_columns() -> None:
    first, second = People.empty(10, 1, K), People.empty(10, 3, K)
    person(first, 0, range(10), x=100, height=200)
    person(second, 0, range(10), x=100, height=200)
    assert np.isfinite(select_track([first, second])[0]).all()
