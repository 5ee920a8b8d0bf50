"""rtmlib's person detector and pose network on our own runtime, for RGB frames.

rtmlib runs OpenVINO in bf16 on some processors and normalises crops in float64 (1.3 to 2 ms per frame). Only these
two steps differ; all other steps give the same bits as rtmlib's.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rtmlib import YOLOX, RTMPose
from rtmlib.tools.pose_estimation.pre_processings import bbox_xyxy2cs, top_down_affine

from dancedist.arrays import Floats
from dancedist.errors import FileInvalid
from dancedist.pose.runtime import Network

Frame = NDArray[np.uint8]

# Minimum score of a box for a YOLOX graph without built-in non-maximum suppression.
DETECTOR_SCORE = 0.45
# ImageNet's mean and standard deviation per channel, as in rtmlib.
_MEAN = np.array((123.675, 116.28, 103.53))
_STD = np.array((58.395, 57.12, 57.375))


class PersonDetector(YOLOX):  # type: ignore[misc]  # rtmlib has no types
    """Detect the boxes of persons in a frame."""

    def __init__(self, network: Network, path: Path) -> None:
        # super().__init__() is skipped: it would load the file into a runtime chosen by rtmlib.
        width, height = network.input_size
        self.model_input_size = (height, width)
        self.nms_thr, self.score_thr = 0.45, DETECTOR_SCORE
        self._network = network
        shape = network(np.zeros((1, 3, height, width), np.float32))[0].shape
        cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
        if len(shape) != 3 or shape[-1] < 5 or (shape[-1] > 5 and shape[1] != cells):
            raise FileInvalid("is not a person detector", file=path, expected="1xNx5 or YOLOX", got=f"{shape}")
        # Class 0 is "person" in a network with several classes.
        self.det_mode = "multiclass" if shape[-1] > 6 else "human"

    def inference(self, img: Frame) -> list[Floats]:
        """uint8 RGB (H, W, 3) at the network's input size -> the network's outputs."""
        blob = np.ascontiguousarray(img[..., ::-1].transpose(2, 0, 1), np.float32)[None]
        return self._network(blob)

    def boxes(self, frame: Frame) -> Floats:
        """uint8 RGB (H, W, 3) -> float32 (N, 4) px: left, top, right, bottom, sorted by area, largest first."""
        detections = self(frame)
        if self.det_mode == "multiclass":
            detections = detections[0][detections[1] == 0]
        boxes = np.asarray(detections, np.float32).reshape(-1, 4)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        order = np.argsort(-area, kind="stable")
        return np.asarray(boxes[order[area[order] > 0]])


class PoseNetwork(RTMPose):  # type: ignore[misc]  # rtmlib has no types
    """Estimate the keypoints of the person in a box; `keypoints` is their number."""

    def __init__(self, network: Network, path: Path) -> None:
        self.model_input_size = network.input_size
        self.to_openpose = False
        self._network = network
        width, height = network.input_size
        outputs = network(np.zeros((1, 3, height, width), np.float32))
        shapes = [out.shape[-1] for out in outputs]
        if shapes != [2 * width, 2 * height]:
            raise FileInvalid("is not a pose network", file=path, expected="SimCC outputs x, y", got=str(shapes))
        self.keypoints = outputs[0].shape[1]
        levels = (np.arange(256)[:, None] - _MEAN) / _STD
        # rtmlib expects BGR; this table is indexed by the channels of an RGB crop.
        self._levels = levels[None, :, ::-1].astype(np.float32)

    def preprocess(self, img: Frame, bbox: Floats) -> tuple[Floats, Floats, Floats]:
        """Crop and normalise a box: uint8 RGB (H, W, 3) and box float32 (4,) px -> float32 BGR (1, 3, h, w).

        Also returns the crop's centre and size, (2,) px.
        """
        center, scale = bbox_xyxy2cs(bbox, padding=1.25)
        crop, scale = top_down_affine(self.model_input_size, scale, center, img)
        width, height = self.model_input_size
        blob = np.empty((1, 3, height, width), np.float32)
        cv2.split(cv2.LUT(crop, self._levels), [blob[0, 2], blob[0, 1], blob[0, 0]])
        return blob, center, scale

    def inference(self, img: Floats) -> list[Floats]:
        """float32 BGR (1, 3, h, w), normalised -> SimCC scores over x and over y: float32 (1, K, 2 w), (1, K, 2 h)."""
        return self._network(img)

    def pose(self, frame: Frame, box: Floats) -> tuple[Floats, Floats]:
        """uint8 RGB (H, W, 3), box float32 (4,) px -> float32 xy (K, 2) px and score (K,) in [0, 1].

        xy is NaN where score is 0.
        """
        xy, score = self(frame, box[None])
        score = np.clip(score[0], 0, 1).astype(np.float32)
        return np.where(score[:, None] > 0, xy[0], np.nan).astype(np.float32), score
