from __future__ import annotations

import math

import pytest

from cluster.evaluation.promotion import judge

CHAMPION = {"body_lpips": 0.0300, "pose_distance_torsos": 0.100, "missed_detections": 2.0, "face_lpips": 0.05}


@pytest.mark.parametrize(
    ("change", "better", "reason"),
    [
        ({"body_lpips": 0.0299}, True, "better by 0.0001"),
        ({"body_lpips": 0.0300}, False, "no better"),
        ({"body_lpips": 0.0310}, False, "worse by 0.0010"),
        ({"body_lpips": 0.0200, "pose_distance_torsos": 0.104, "missed_detections": 2.2}, True, "better by 0.0100"),
        ({"body_lpips": 0.0200, "pose_distance_torsos": 0.106}, False, "6% further off"),
        ({"body_lpips": 0.0200, "missed_detections": 2.3}, False, "0.30 more joints"),
        ({"body_lpips": 0.0310, "pose_distance_torsos": 0.050, "missed_detections": 0.0}, False, "worse"),
        ({"body_lpips": 0.0200, "face_lpips": 0.5}, True, "better"),
        ({"body_lpips": math.nan}, False, "not measured"),
        ({"body_lpips": 0.0200, "pose_distance_torsos": math.nan}, False, "pose dist"),
    ],
)
def test_better_means_a_lower_lpips_with_equally_good_poses(
    change: dict[str, float], better: bool, reason: str
) -> None:
    verdict = judge(CHAMPION | change, CHAMPION)
    assert verdict.better is better
    assert reason in verdict.why


def test_a_champion_with_an_undefined_metric_is_not_beaten() -> None:
    champion = {k: v for k, v in CHAMPION.items() if k != "missed_detections"}
    assert not judge(CHAMPION | {"body_lpips": 0.01}, champion).better


def test_two_versions_are_never_better_than_each_other() -> None:
    other = CHAMPION | {"body_lpips": 0.0299}
    assert not (judge(other, CHAMPION).better and judge(CHAMPION, other).better)
