"""Distance of our keypoints from those of per-frame detection, split by cause.

Compared are raw keypoints (not smoothed, no other score threshold) with scores above 0.3 on both sides, of one person
per frame: on the other side the person nearest to ours. Distances are in torso lengths (median of neck to hip).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from rtmlib import YOLOX, RTMPose

from dancedist import weights
from dancedist.arrays import Floats
from dancedist.pose.detect import PeopleDetector
from dancedist.pose.networks import PersonDetector, PoseNetwork
from dancedist.pose.runtime import Network
from dancedist.pose.topology import HALPE26
from dancedist.recipe.schema import PoseRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video

NECK, HIP = HALPE26.index["neck"], HALPE26.index["hip"]
MIN_SCORE = 0.3
Poses = tuple[Floats, Floats]


def deviations(film: Video, segment: int, frames: int) -> dict[str, dict[str, float]]:
    """Mean and 99th percentile of the distance in torso lengths, by what differs between the two sides."""
    paths = [weights.ensure(name) for name in ("person-detector", "pose-halpe26")]
    networks = [Network(path, "openvino", "f32", streams=1, threads=2) for path in paths]
    detector_network, pose_network = PersonDetector(networks[0], paths[0]), PoseNetwork(networks[1], paths[1])
    rtm_detector, rtm_pose = YOLOX(str(paths[0]), (224, 224)), RTMPose(str(paths[1]), (256, 256))
    detector, cv2_film = PeopleDetector(PoseRecipe(threads=2)), cv2.VideoCapture(str(film.path))
    distances_by_cause: dict[str, list[NDArray[np.float64]]] = {}
    torsos, bins = [], []

    def compare(cause: str, a: Poses, b: Poses) -> None:
        both = (a[1] > MIN_SCORE) & (b[1] > MIN_SCORE)
        distances_by_cause.setdefault(cause, []).append(np.linalg.norm(a[0] - b[0], axis=-1)[both])

    def by_detection(frame: NDArray[np.uint8], near: Floats) -> Poses:
        return nearest(*rtm_pose(frame, rtm_detector(frame)), near)

    for start in range(0, frames, segment):
        pictures = list(read_frames(film, start, min(start + segment, frames)))
        people = detector.segment(pictures)
        for t, rgb in enumerate(pictures):
            cv2_bgr = cv2_film.read()[1]
            if rgb is None or t == 0 or (people.track[t - 1 : t + 1, 0] != people.track[0, 0]).any():
                continue
            bgr, ours = np.ascontiguousarray(rgb[..., ::-1]), (people.xy[t, 0], people.score[t, 0])
            # A tracked person is searched in the box around the pose before.
            box = people.box[t - 1, 0]
            torsos.append(np.linalg.norm(ours[0][NECK] - ours[0][HIP]))
            bins.append(1.25 * np.ptp(box.reshape(2, 2), axis=0).max() / (2 * pose_network.model_input_size[0]))
            theirs = by_detection(cv2_bgr, ours[0])
            compare("per-frame detection by rtmlib", ours, theirs)
            compare("numbers only: rtmlib's RTMPose in our box", ours, nearest(*rtm_pose(bgr, [box]), ours[0]))
            compare("colours only: rtmlib on our frames and on OpenCV's", theirs, by_detection(bgr, ours[0]))
            detected = min(detector_network.boxes(rgb), key=lambda b: np.abs(b - box).sum())
            in_detected = pose_network.pose(rgb, detected)
            compare("boxes only: our networks in detected boxes", ours, in_detected)
            compare(
                "a detected box against itself, 1 px aside",
                in_detected,
                pose_network.pose(rgb, detected + np.float32(1)),
            )
    rows = {cause: distances(np.concatenate(d) / np.median(torsos)) for cause, d in distances_by_cause.items()}
    return rows | {"a bin of the pose network": {"mean": round(float(np.median(bins) / np.median(torsos)), 5)}}


def nearest(xy: Floats, score: Floats, near: Floats) -> Poses:
    """The person whose keypoints are nearest: xy float32 (N, K, 2) px, score (N, K), `near` (K, 2) px."""
    best = int(np.argmin([np.linalg.norm(p - near, axis=-1).mean() for p in xy]))
    return xy[best], score[best]


def distances(torsos: NDArray[np.float64]) -> dict[str, float]:
    """Statistics of distances, float64 (N,) torso lengths."""
    return {
        "mean": round(float(torsos.mean()), 5),
        "p99": round(float(np.quantile(torsos, 0.99)), 5),
        "same": round(float((torsos < 1e-5).mean()), 4),
    }


def report(rows: dict[str, dict[str, float]]) -> None:
    """Print one line per row."""
    for cause, row in rows.items():
        print(f"{cause:52s}" + "".join(f"{name} {value:<9}" for name, value in row.items()))
