from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.recipe.schema import Recipe, VideoRecipe
from dancedist.render.chunk import render_chunk
from dancedist.render.clip import FADE_FRAMES, Clip, ClipRequest, read_clip, render_clips, write_clip
from dancedist.render.compose import FrameComposer
from dancedist.render.film import render_frames
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
    return render_clips(bundle, [ClipRequest(poses, chunk, VideoRecipe()) for chunk in CHUNKS], folder)


def test_clips_join_to_the_continuous_film(bundle: Bundle, tmp_path: Path) -> None:
    """Warmed up from the first frame, every frame equals the continuous rendering but for rounding."""
    poses, rendered = moving_poses(FRAMES), clips(bundle, tmp_path)
    continuous = np.stack(list(render_frames(bundle, poses))).astype(int)
    for chunk, clip in zip(CHUNKS, rendered, strict=True):
        assert clip.frames == chunk.stop - chunk.start
        assert np.abs(clip.first - continuous[chunk.start]).max() <= 1
        assert np.abs(clip.last - continuous[chunk.stop - 1]).max() <= 1
        assert (clip.after is None) == (chunk.stop == FRAMES)
        if clip.after is not None:
            assert np.abs(clip.after - continuous[chunk.stop]).max() <= 1
    files = []
    for i, clip in enumerate(rendered):
        (tmp_path / f"part{i}.mp4").write_bytes(clip.film)
        files.append((tmp_path / f"part{i}.mp4", clip.frames))
    join_chunks(tmp_path / "film.mp4", files, poses.fps)
    film = probe(tmp_path / "film.mp4", VideoRecipe())
    decoded = np.stack([frame for frame in read_frames(film) if frame is not None]).astype(int)
    assert len(decoded) == FRAMES
    assert np.abs(decoded - continuous).mean() < 6


def test_a_clip_is_read_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    first, _, last = clips(bundle, tmp_path)
    for clip in (first, last):
        write_clip(clip, tmp_path / "clip.safetensors")
        read = read_clip(tmp_path / "clip.safetensors")
        assert read.film == clip.film and read.frames == clip.frames
        assert np.array_equal(read.first, clip.first) and np.array_equal(read.last, clip.last)
        assert (read.after is None) == (clip.after is None)
        assert np.array_equal(read.state, clip.state)
    content = (tmp_path / "clip.safetensors").read_bytes()
    for damaged in (b"", content[:100], content[:-10], b"{}" * 50):
        (tmp_path / "clip.safetensors").write_bytes(damaged)
        with pytest.raises(FileInvalid, match="is not a rendered chunk"):
            read_clip(tmp_path / "clip.safetensors")


def test_a_fade_starts_from_the_continuation_of_the_chunk_before(bundle: Bundle, tmp_path: Path) -> None:
    poses = moving_poses(FRAMES)
    before = list(render_chunk(bundle, poses, Chunk(0, FRAMES)))
    own = [FrameComposer(bundle)(p).astype(float) for p in render_chunk(bundle, poses, Chunk(20, FRAMES))]
    continued = [FrameComposer(bundle)(p).astype(float) for p in before[20:]]
    assert np.abs(own[0] - continued[0]).max() > 8
    requests = [ClipRequest(poses, Chunk(20, stop), VideoRecipe(), before[19].state) for stop in (21, FRAMES)]
    short, faded = render_clips(bundle, requests, tmp_path)
    share = 1 / (FADE_FRAMES + 1)
    assert np.abs(faded.first - (share * own[0] + (1 - share) * continued[0])).max() <= 1
    assert np.abs(short.first - faded.first.astype(int)).max() <= 1
    assert np.abs(faded.last - own[-1]).max() <= 1
