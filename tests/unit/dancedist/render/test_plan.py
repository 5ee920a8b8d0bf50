from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dancedist.render.plan import CHUNK_FRAMES, GROUP_FRAMES, SPARE_FRAMES, WARM_UP_FRAMES, Chunk, plan


@given(frames=st.integers(1, 20_000), settling=st.none() | st.integers(0, 120))
def test_chunks_cover_every_frame_once_and_each_is_warmed_up(frames: int, settling: int | None) -> None:
    chunks = plan(frames, settling)
    assert [t for c in chunks for t in range(c.start, c.stop)] == list(range(frames))
    if settling is None:
        assert len(chunks) == 1
        return
    warm_up = max(settling + SPARE_FRAMES, WARM_UP_FRAMES) if settling else 0
    assert all(c.warm_up == min(warm_up, c.start) for c in chunks)
    assert all(c.start % GROUP_FRAMES == 0 for c in chunks)
    assert [c.tail for c in chunks] == [1] * (len(chunks) - 1) + [0]
    lengths = [c.stop - c.start for c in chunks]
    assert max(lengths) - min(lengths[:-1] or lengths) <= GROUP_FRAMES
    # Warm-up and tail are rendered and dropped.
    assert sum(len(c.frames) for c in chunks) <= 1.1 * frames


def test_a_minute_is_divided_into_eight_chunks() -> None:
    chunks = plan(1500, 2)
    assert len(chunks) == 8
    assert sum(len(c.frames) for c in chunks) / 1500 < 1.05
    assert {c.warm_up for c in plan(1500, 1)[1:]} == {WARM_UP_FRAMES} and plan(1500, 0)[1].warm_up == 0
    assert plan(CHUNK_FRAMES, 2) == (Chunk(0, CHUNK_FRAMES),)
    assert plan(0, 6) == ()


def test_slower_settling_makes_longer_chunks() -> None:
    assert len(plan(3000, 60)) < len(plan(3000, 6))


def test_a_warmer_chunk_has_twice_the_warm_up() -> None:
    chunk = Chunk(10, 20, warm_up=3, tail=1)
    assert chunk.warmer() == Chunk(10, 20, warm_up=6, tail=1)
    assert chunk.warmer().warmer() == Chunk(10, 20, warm_up=10, tail=1)
    assert Chunk(10, 20).warmer().warm_up == 1
    assert list(chunk.frames) == list(range(7, 21))
    with pytest.raises(AssertionError):
        Chunk(2, 5, warm_up=3)
