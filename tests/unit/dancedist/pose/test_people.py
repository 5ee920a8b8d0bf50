from __future__ import annotations

import numpy as np
import pytest

from dancedist.errors import FileInvalid
from dancedist.pose.people import People


def people_in_two_of_three_frames() -> People:
    people = People.empty(3, 2, 26)
    rng = np.random.default_rng(0)
    people.xy[:2], people.score[:2], people.box[:2] = rng.random((2, 2, 26, 2)), rng.random((2, 2, 26)), 7
    people.track[:2], people.missing[2] = (0, 1), True
    return people


def test_serialisation_is_lossless_and_deterministic() -> None:
    people = people_in_two_of_three_frames()
    data = people.to_bytes()
    again = People.from_bytes(data, "x")
    for name in ("xy", "score", "box", "track", "missing"):
        np.testing.assert_array_equal(getattr(again, name), getattr(people, name))
        assert getattr(again, name).dtype == getattr(people, name).dtype
    assert again.to_bytes() == data


@pytest.mark.parametrize("data", [b"", b"not an archive", people_in_two_of_three_frames().to_bytes()[:-40]])
def test_invalid_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FileInvalid, match="segment-7"):
        People.from_bytes(data, "segment-7")
