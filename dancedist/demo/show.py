"""The demo's pictures: source, figure and result as a side-by-side film and as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.bundle.provenance import film_metadata
from dancedist.evaluation.sheet import contact_sheet
from dancedist.files import atomic_write
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe.schema import VideoRecipe
from dancedist.render.chunk import figures
from dancedist.render.film import Film, as_danced_by
from dancedist.render.plan import Chunk
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.encode import write_film
from dancedist.video.montage import side_by_side
from dancedist.video.probe import Video, probe

_SHEET_COLUMNS = 6


def write_side_by_side(
    bundle: Bundle, source: Video, poses: PoseSequence, film: Film, out: Path, encoding: VideoRecipe
) -> Path:
    """Write `side_by_side.mp4`: source, figure and result, frame by frame, with sound."""
    path, result = out / "side_by_side.mp4", probe(film.path, encoding)
    danced = as_danced_by(bundle, poses)

    def montage() -> Iterator[Rgb]:
        drawn = figures(bundle, danced, Chunk(0, len(danced)))
        last = np.zeros((source.height, source.width, 3), np.uint8)
        with progress("side_by_side.mp4", len(danced)) as advance:
            for frame, figure, picture in zip(read_frames(source), drawn, read_frames(result), strict=True):
                last = last if frame is None else frame
                assert picture is not None
                yield side_by_side([last, bundle.letterbox.to_frame(figure), picture])
                advance(1)

    audio = film.path if source.audio_codec else None
    metadata = film_metadata(bundle.dancer)
    write_film(
        path,
        montage(),
        poses.fps,
        crf=encoding.crf,
        x264_preset=encoding.x264_preset,
        audio_from=audio,
        metadata=metadata,
    )
    return path


def write_sheet(
    bundle: Bundle,
    source: Video,
    poses: PoseSequence,
    film: Film,
    truth: Rgb | None,
    out: Path,
    encoding: VideoRecipe,
) -> Path:
    """Write `sheet.png`: rows source, figure and result, and a row of the truth if it is known.

    `truth`: the result's true frames, uint8 RGB (T, H, W, 3).
    """
    danced = as_danced_by(bundle, poses)
    columns = np.linspace(0.05 * len(poses), 0.95 * (len(poses) - 1), _SHEET_COLUMNS).round().astype(int).tolist()
    drawn = [next(figures(bundle, danced, Chunk(t, t + 1))) for t in columns]
    rows: dict[str, list[Rgb | None]] = {
        "source": list(read_frame_at(source, columns)),
        "figure": [bundle.letterbox.to_frame(figure) for figure in drawn],
        "result": list(read_frame_at(probe(film.path, encoding), columns)),
    }
    if truth is not None:
        rows["truth"] = [truth[t] for t in columns]
    sheet = contact_sheet(list(rows.values()), list(rows))
    with atomic_write(out / "sheet.png") as partial:
        cv2.imwrite(str(partial), sheet[..., ::-1])
    return out / "sheet.png"
