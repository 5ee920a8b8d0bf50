"""Claim: a minute rendered in several chunks matches one chunk within 45 dB, at every seam and in the whole film.

    python benchmarks/render_chunks.py [BUNDLE SOURCE NAME]

Measured are every seam, the difference between the two films, and the cost of the warm-up. Without arguments a drawn
dancer is trained for 600 steps first. BUNDLE: a dancer's folder. NAME: of the result file.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.record import record
from dancedist import commands
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.loading import load_recipe
from dancedist.render.chunk import last_present
from dancedist.render.clip import Clip, ClipRequest, render_clips
from dancedist.render.film import as_danced_by
from dancedist.render.join import join_chunks
from dancedist.render.plan import Chunk, plan
from dancedist.render.seam import dancer_box, measure_seam, psnr_in_box
from dancedist.synthetic import TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe

BAR_DB = 45.0


def main(folder: Path, bundle_folder: Path | None, source: Path | None, name: str) -> None:
    if bundle_folder is None or source is None:
        recipe = load_recipe("quick", overrides={"stages": ["global"], "training": {"max_steps": 600}})
        source = folder / "target.mp4"
        write_scene(TARGET_TRAINING, source, recipe.video)
        commands.train(source, folder, "drawn", recipe)
        bundle_folder = folder / "dancer"
    bundle = load_bundle(bundle_folder)
    film = probe(source, bundle.dancer.recipe.video)
    poses = as_danced_by(bundle, extract_with_progress(film, folder / "poses.parquet", bundle.dancer.recipe.pose))
    settling = bundle.dancer.settling_frames
    chunks = plan(len(poses), settling)
    one, _ = render_chunks(bundle, poses, (Chunk(0, len(poses)),), folder, source)
    chunked, clips = render_chunks(bundle, poses, chunks, folder, source)
    seams = [_seam(poses, c, a, b) for c, a, b in zip(chunks[1:], clips, clips[1:], strict=False)]
    between = compare(poses, one, chunked, bundle)
    lowest = min([s["psnr_db"] for s in seams] + [between["lowest_db"]])
    measured = {
        "about": {"source": source.name, "frames": len(poses), "chunks": len(chunks), "settling_frames": settling},
        "warm_up_share": sum(len(c.frames) for c in chunks) / len(poses) - 1,
        "seams": seams,
        "films": between,
    }
    print(measured)
    record(name, lowest / BAR_DB, 1.0, measured, ("torch",))


def render_chunks(
    bundle: Bundle, poses: PoseSequence, chunks: tuple[Chunk, ...], folder: Path, source: Path
) -> tuple[Path, list[Clip]]:
    """Render the chunks one after another, as one replica does; returns the film and the clips."""
    clips, files, encoding = list[Clip](), list[tuple[Path, int]](), bundle.dancer.recipe.video
    for i, chunk in enumerate(chunks):
        clip = render_clips(bundle, [ClipRequest(poses, chunk, encoding)], folder)[0]
        path = folder / f"{len(chunks)}-{i}.mp4"
        path.write_bytes(clip.film)
        clips.append(clip)
        files.append((path, clip.frames))
    out = folder / f"in-{len(chunks)}.mp4"
    join_chunks(out, files, poses.fps, source if probe(source, encoding).audio_codec else None)
    return out, clips


def _seam(poses: PoseSequence, chunk: Chunk, earlier: Clip, later: Clip) -> dict[str, float]:
    assert earlier.after is not None
    return asdict(measure_seam(poses, chunk.start, earlier.last, earlier.after, later.first))


def compare(poses: PoseSequence, one: Path, chunked: Path, bundle: Bundle) -> dict[str, object]:
    """Compare both encoded films frame by frame in the dancer's box, and their sound."""
    limits, pose_of_frame = bundle.dancer.recipe.video, last_present(poses).tolist()
    pairs = zip(pose_of_frame, read_frames(probe(one, limits)), read_frames(probe(chunked, limits)), strict=True)
    values = []
    for i, a, b in pairs:
        assert a is not None and b is not None
        values.append(psnr_in_box(a, b, dancer_box(poses.xy[i], poses.score[i], poses.topology, poses.size)))
    return {
        "lowest_db": min(values),
        "median_db": float(np.median(values)),
        "of_all_frames_db": float(-10 * np.log10(np.mean(10 ** (-np.array(values) / 10)))),
        "frames_equal": int(np.sum(np.array(values) >= 100)),
        "frames_under_bar": int(np.sum(np.array(values) < BAR_DB)),
        "frames": len(values),
        "same_sound": _sound(one) == _sound(chunked),
        "sound_packets": len(_sound(one)),
    }


def _sound(film: Path) -> list[bytes]:
    with av.open(str(film)) as container:
        streams = container.streams.audio
        return [bytes(p) for p in container.demux(streams[0]) if p.size] if streams else []


if __name__ == "__main__":
    paths = [Path(arg) for arg in sys.argv[1:3]] or [None, None]
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        main(Path(scratch), *paths, sys.argv[3] if len(sys.argv) > 3 else "render_chunks_drawn")
