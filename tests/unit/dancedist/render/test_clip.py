from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.recipe import Recipe, VideoRecipe
from dancedist.render.chunk import render_chunk
from dancedist.render.clip import FADE_FRAMES, Clip, Wish, read_clip, render_clips, write_clip
from dancedist.render.film import render_frames
from dancedist.render.finish import Finish
from dancedist.render.join import join_chunks
from dancedist.render.plan import Chunk
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe
from tests.unit.conftest import moving_poses
from tests.unit.dancedist.render.echo import echo

FRAMES = 40
CHUNKS = (Chunk(0, 13, tail=1), Chunk(13, 26, 13, 1), Chunk(26, 40, 26))


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Bundle:
    return echo(tmp_path, tiny_recipe, 0.5)


def clips(bundle: Bundle, folder: Path) -> list[Clip]:
    poses = moving_poses(FRAMES)
    return render_clips(bundle, [Wish(poses, chunk, VideoRecipe()) for chunk in CHUNKS], folder)


def test_they_join_to_the_unbroken_film(bundle: Bundle, tmp_path: Path) -> None:
    """Warmed up from the very beginning, every frame is the same but for rounding."""
    poses, made = moving_poses(FRAMES), clips(bundle, tmp_path)
    unbroken = np.stack(list(render_frames(bundle, poses))).astype(int)
    for chunk, clip in zip(CHUNKS, made, strict=True):
        assert clip.frames == chunk.stop - chunk.start
        assert np.abs(clip.first - unbroken[chunk.start]).max() <= 1
        assert np.abs(clip.last - unbroken[chunk.stop - 1]).max() <= 1
        assert (clip.after is None) == (chunk.stop == FRAMES)
        if clip.after is not None:
            assert np.abs(clip.after - unbroken[chunk.stop]).max() <= 1
    parts = []
    for i, clip in enumerate(made):
        (tmp_path / f"part{i}.mp4").write_bytes(clip.film)
        parts.append((tmp_path / f"part{i}.mp4", clip.frames))
    join_chunks(tmp_path / "film.mp4", parts, poses.fps)
    film = probe(tmp_path / "film.mp4", VideoRecipe())
    shown = np.stack([frame for frame in read_frames(film) if frame is not None]).astype(int)
    assert len(shown) == FRAMES
    assert np.abs(shown - unbroken).mean() < 6


def test_a_clip_is_read_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    first, _, last = clips(bundle, tmp_path)
    for clip in (first, last):
        write_clip(clip, tmp_path / "clip.safetensors")
        read = read_clip(tmp_path / "clip.safetensors")
        assert read.film == clip.film and read.frames == clip.frames
        assert np.array_equal(read.first, clip.first) and np.array_equal(read.last, clip.last)
        assert (read.after is None) == (clip.after is None)
        assert np.array_equal(read.state, clip.state)
    whole = (tmp_path / "clip.safetensors").read_bytes()
    for broken in (b"", whole[:100], whole[:-10], b"{}" * 50):
        (tmp_path / "clip.safetensors").write_bytes(broken)
        with pytest.raises(FileInvalid, match="no rendered chunk"):
            read_clip(tmp_path / "clip.safetensors")


def test_a_fade_passes_from_what_was_before_to_its_own(bundle: Bundle, tmp_path: Path) -> None:
    poses = moving_poses(FRAMES)
    before = list(render_chunk(bundle, poses, Chunk(0, FRAMES)))
    own = [Finish(bundle)(p).astype(float) for p in render_chunk(bundle, poses, Chunk(20, FRAMES))]
    gone_on = [Finish(bundle)(p).astype(float) for p in before[20:]]
    assert np.abs(own[0] - gone_on[0]).max() > 8
    wishes = [Wish(poses, Chunk(20, stop), VideoRecipe(), before[19].whole) for stop in (21, FRAMES)]
    short, faded = render_clips(bundle, wishes, tmp_path)
    share = 1 / (FADE_FRAMES + 1)
    assert np.abs(faded.first - (share * own[0] + (1 - share) * gone_on[0])).max() <= 1
    assert np.abs(short.first - faded.first.astype(int)).max() <= 1
    assert np.abs(faded.last - own[-1]).max() <= 1
