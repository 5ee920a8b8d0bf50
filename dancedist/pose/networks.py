"""rtmlib's person detector and pose network over our own runtime, for RGB frames.

rtmlib leaves OpenVINO at bf16 on some processors and normalises crops in float64 (1.3 to 2 ms a frame); its own
steps are kept, to the bit, but for these.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rtmlib import YOLOX, RTMPose
from rtmlib.tools.pose_estimation.pre_processings import bbox_xyxy2cs, top_down_affine

from dancedist.errors import FileInvalid
from dancedist.pose.runtime import Floats, Network

Frame = NDArray[np.uint8]

# What a YOLOX without its own suppression of double boxes must be sure of.
DETECTOR_SCORE = 0.45
# The means and deviations that rtmlib takes from ImageNet.
_MEAN = np.array((123.675, 116.28, 103.53))
_STD = np.array((58.395, 57.12, 57.375))


class PersonFinder(YOLOX):  # type: ignore[misc]  # rtmlib has no types
    """Boxes of the persons in a frame."""

    def __init__(self, network: Network, path: Path) -> None:
        # Not super().__init__(), which would load the file into a runtime of rtmlib's choice.
        width, height = network.input_size
        self.model_input_size = (height, width)
        self.nms_thr, self.score_thr = 0.45, DETECTOR_SCORE
        self._network = network
        shape = network(np.zeros((1, 3, height, width), np.float32))[0].shape
        cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
        if len(shape) != 3 or shape[-1] < 5 or (shape[-1] > 5 and shape[1] != cells):
            raise FileInvalid("is not a person detector", file=path, expected="1xNx5 or YOLOX", got=f"{shape}")
        # With more than one class, person is the first.
        self.det_mode = "multiclass" if shape[-1] > 6 else "human"

    def inference(self, img: Frame) -> list[Floats]:
        """uint8 RGB (H, W, 3) of the network's size -> its outputs."""
        blob = np.ascontiguousarray(img[..., ::-1].transpose(2, 0, 1), np.float32)[None]
        return self._network(blob)

    def boxes(self, frame: Frame) -> Floats:
        """uint8 RGB (H, W, 3) -> float32 (N, 4) px: left, top, right, bottom; the largest first."""
        found = self(frame)
        if self.det_mode == "multiclass":
            found = found[0][found[1] == 0]
        boxes = np.asarray(found, np.float32).reshape(-1, 4)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        order = np.argsort(-area, kind="stable")
        return np.asarray(boxes[order[area[order] > 0]])


class PoseNetwork(RTMPose):  # type: ignore[misc]  # rtmlib has no types
    """Keypoints of the person in a box. `keypoints` is how many there are."""

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
        # rtmlib wants BGR: here the lookup is by the channels of RGB.
        self._levels = levels[None, :, ::-1].astype(np.float32)

    def preprocess(self, img: Frame, bbox: Floats) -> tuple[Floats, Floats, Floats]:
        """uint8 RGB (H, W, 3), box px -> float32 BGR (1, 3, h, w), centre and size of the crop, px."""
        center, scale = bbox_xyxy2cs(bbox, padding=1.25)
        crop, scale = top_down_affine(self.model_input_size, scale, center, img)
        width, height = self.model_input_size
        blob = np.empty((1, 3, height, width), np.float32)
        cv2.split(cv2.LUT(crop, self._levels), [blob[0, 2], blob[0, 1], blob[0, 0]])
        return blob, center, scale

    def inference(self, img: Floats) -> list[Floats]:
        """float32 (1, 3, h, w) -> SimCC x and y."""
        return self._network(img)

    def pose(self, frame: Frame, box: Floats) -> tuple[Floats, Floats]:
        """uint8 RGB (H, W, 3), box px -> (K, 2) px, (K,) score in [0, 1]; what has none is NaN."""
        xy, score = self(frame, box[None])
        score = np.clip(score[0], 0, 1).astype(np.float32)
        return np.where(score[:, None] > 0, xy[0], np.nan).astype(np.float32), score
