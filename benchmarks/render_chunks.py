"""A minute of source in one chunk and in several: every seam, how far both films differ, and what warming up costs.

    python benchmarks/render_chunks.py [BUNDLE SOURCE NAME]

Without arguments a drawn dancer is trained for 600 steps first. BUNDLE: a dancer's folder; NAME: of the results' file.
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
from dancedist.recipe import load_recipe
from dancedist.render.chunk import last_present
from dancedist.render.clip import Clip, Wish, render_clips
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
    one, _ = rendered(bundle, poses, (Chunk(0, len(poses)),), folder, source)
    several, clips = rendered(bundle, poses, chunks, folder, source)
    seams = [_seam(poses, c, a, b) for c, a, b in zip(chunks[1:], clips, clips[1:], strict=False)]
    between = compare(poses, one, several, bundle)
    lowest = min([s["psnr_db"] for s in seams] + [between["lowest_db"]])
    told = {
        "about": {"source": source.name, "frames": len(poses), "chunks": len(chunks), "settling_frames": settling},
        "warm_up_share": sum(len(c.frames) for c in chunks) / len(poses) - 1,
        "seams": seams,
        "films": between,
    }
    print(told)
    record(name, lowest / BAR_DB, 1.0, told, ("torch",))


def rendered(
    bundle: Bundle, poses: PoseSequence, chunks: tuple[Chunk, ...], folder: Path, source: Path
) -> tuple[Path, list[Clip]]:
    """The film, and its clips; one after another, as one replica makes them."""
    clips, parts, encoding = list[Clip](), list[tuple[Path, int]](), bundle.dancer.recipe.video
    for i, chunk in enumerate(chunks):
        clip = render_clips(bundle, [Wish(poses, chunk, encoding)], folder)[0]
        path = folder / f"{len(chunks)}-{i}.mp4"
        path.write_bytes(clip.film)
        clips.append(clip)
        parts.append((path, clip.frames))
    out = folder / f"in-{len(chunks)}.mp4"
    join_chunks(out, parts, poses.fps, source if probe(source, encoding).audio_codec else None)
    return out, clips


def _seam(poses: PoseSequence, chunk: Chunk, before: Clip, now: Clip) -> dict[str, float]:
    assert before.after is not None
    return asdict(measure_seam(poses, chunk.start, before.last, before.after, now.first))


def compare(poses: PoseSequence, one: Path, several: Path, bundle: Bundle) -> dict[str, object]:
    """Both films as they are encoded, frame by frame in the dancer's box; and their sound."""
    limits, shown = bundle.dancer.recipe.video, last_present(poses).tolist()
    pairs = zip(shown, read_frames(probe(one, limits)), read_frames(probe(several, limits)), strict=True)
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
        "same_sound": _sound(one) == _sound(several),
        "sound_packets": len(_sound(one)),
    }


def _sound(film: Path) -> list[bytes]:
    with av.open(str(film)) as container:
        streams = container.streams.audio
        return [bytes(p) for p in container.demux(streams[0]) if p.size] if streams else []


if __name__ == "__main__":
    given = [Path(arg) for arg in sys.argv[1:3]] or [None, None]
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        main(Path(scratch), *given, sys.argv[3] if len(sys.argv) > 3 else "render_chunks_drawn")
