"""Promotion of a new version of a dancer: it is compared with the champion on frames that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.evaluation.held_out import compare
from cluster.storage.download_cache import cache_folder, fetch_current
from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.registry import (
    CANDIDATE,
    CHAMPION,
    DancerVersion,
    fetch_dancer,
    find_dancer,
    model_name,
    move_champion,
)
from dancedist.bundle.bundle import load_bundle
from dancedist.errors import DancedistError
from dancedist.evaluation.report import METRICS, Report

# The deciding metric, and by how much the others may be worse. The tolerances exceed the noise of the pose network
# between two trainings with one recipe.
DECIDING_METRIC = "body_lpips"
POSE_DISTANCE_TOLERANCE = 0.05
MISSED_TOLERANCE = 0.25


class ChampionMoved(DancedistError):
    """Somebody moved an alias during the comparison."""

    slug = "champion-moved"


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is better, and the reason in one line."""

    better: bool
    why: str


@dataclass(frozen=True)
class Promotion:
    """Both versions, the report (None if they are the same version) and the verdict."""

    candidate: DancerVersion
    champion: DancerVersion
    report: Report | None
    verdict: Verdict


def promote(dancer: str, target_uri: str, storage_uri: str) -> Promotion:
    """Compare `dancer`'s candidate and champion on `target_uri`'s held-out frames; a better candidate becomes champion.

    Raises DancerUnknown, RegistryUnavailable, TrackingRefused; FileInvalid for a wrong bundle or video; ChampionMoved.
    """
    registry = tracking_uri(storage_uri)
    uris = {role: f"models:/{model_name(dancer)}@{role}" for role in (CANDIDATE, CHAMPION)}
    candidate, champion = (find_dancer(uri, registry) for uri in uris.values())
    if candidate.number == champion.number:
        return Promotion(candidate, champion, None, Verdict(False, "the candidate is already the champion"))
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        versions = {CANDIDATE: candidate, CHAMPION: champion}
        folders = {role: fetch_dancer(v.uri, Path(scratch) / role, storage_uri) for role, v in versions.items()}
        bundles = {role: load_bundle(folder) for role, folder in folders.items()}
        cache_gb = bundles[CANDIDATE].dancer.recipe.extraction.cache_gb
        report = compare(bundles, fetch_current(target_uri, cache_gb), cache_folder("promotion"))
    verdict = judge(*({k: m.value for k, m in report.methods[role].items()} for role in (CANDIDATE, CHAMPION)))
    if verdict.better:
        if [find_dancer(uri, registry).number for uri in uris.values()] != [candidate.number, champion.number]:
            raise ChampionMoved("was moved during the comparison", file=uris[CHAMPION], expected="run it again")
        move_champion(candidate, registry, {"promoted": f"over version {champion.number}: {verdict.why}"})
    return Promotion(candidate, champion, report, verdict)


def judge(candidate: Mapping[str, float], champion: Mapping[str, float]) -> Verdict:
    """Compare two versions by their metrics: better means a lower body LPIPS with equally good poses.

    The pose distance may grow by 5 %, missed detections by 0.25 per image. A candidate whose metrics are undefined is
    not better.
    """
    keys = (DECIDING_METRIC, "pose_distance_torsos", "missed_detections")
    undefined = [
        METRICS[k].name for k in keys if not math.isfinite(candidate.get(k, math.nan) + champion.get(k, math.nan))
    ]
    if undefined:
        return Verdict(False, f"not measured for both: {', '.join(undefined)}")
    gain = champion[DECIDING_METRIC] - candidate[DECIDING_METRIC]
    distance_growth = candidate[keys[1]] / max(champion[keys[1]], 1e-9) - 1
    missed_growth = candidate[keys[2]] - champion[keys[2]]
    reason = f"body LPIPS {candidate[DECIDING_METRIC]:.4f} against {champion[DECIDING_METRIC]:.4f}"
    if gain <= 0:
        return Verdict(False, f"{reason}: {'no better' if gain == 0 else f'worse by {-gain:.4f}'}")
    reason += f": better by {gain:.4f}"
    if distance_growth > POSE_DISTANCE_TOLERANCE:
        return Verdict(
            False,
            f"{reason}, but poses are {distance_growth:.0%} further off (up to {POSE_DISTANCE_TOLERANCE:.0%} allowed)",
        )
    if missed_growth > MISSED_TOLERANCE:
        return Verdict(
            False,
            f"{reason}, but {missed_growth:.2f} more joints are missed per image (up to {MISSED_TOLERANCE} allowed)",
        )
    return Verdict(True, reason)
