"""Whether a new version of a dancer takes the champion's place: both are measured on frames that neither has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.evaluation.held_out import compare
from cluster.storage.download_cache import cache_folder, fetched_now
from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.registry import CANDIDATE, CHAMPION, Version, fetch_dancer, find_dancer, model_name, move_champion
from dancedist.bundle.bundle import load_bundle
from dancedist.errors import DancedistError
from dancedist.evaluation.report import METRICS, Report

# What decides, and by how much the others may be worse before they do: noise of the pose network between trainings
# of one recipe stays under it.
DECIDES = "body_lpips"
POSE_DISTANCE_TOLERANCE = 0.05
MISSED_TOLERANCE = 0.25


class ChampionMoved(DancedistError):
    """Aliases that somebody moved while they were compared."""

    slug = "champion-moved"


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is better, and why in one line."""

    better: bool
    why: str


@dataclass(frozen=True)
class Promotion:
    """Both versions, what was measured (None where they are one), and what was decided."""

    candidate: Version
    champion: Version
    report: Report | None
    verdict: Verdict


def promote(dancer: str, target_uri: str, storage_uri: str) -> Promotion:
    """Measure `dancer`'s candidate and champion on `target_uri`'s held-out frames; the better one is champion after it.

    Raises DancerUnknown, RegistryUnavailable, TrackingRefused; FileInvalid where a bundle or the video is not what it
    should be; ChampionMoved.
    """
    registry = tracking_uri(storage_uri)
    uris = {role: f"models:/{model_name(dancer)}@{role}" for role in (CANDIDATE, CHAMPION)}
    candidate, champion = (find_dancer(uri, registry) for uri in uris.values())
    if candidate.number == champion.number:
        return Promotion(candidate, champion, None, Verdict(False, "the candidate is the champion already"))
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        versions = {CANDIDATE: candidate, CHAMPION: champion}
        folders = {role: fetch_dancer(v.uri, Path(scratch) / role, storage_uri) for role, v in versions.items()}
        bundles = {role: load_bundle(folder) for role, folder in folders.items()}
        cache_gb = bundles[CANDIDATE].dancer.recipe.extraction.cache_gb
        report = compare(bundles, fetched_now(target_uri, cache_gb), cache_folder("promotion"))
    verdict = judge(*({k: m.value for k, m in report.methods[role].items()} for role in (CANDIDATE, CHAMPION)))
    if verdict.better:
        if [find_dancer(uri, registry).number for uri in uris.values()] != [candidate.number, champion.number]:
            raise ChampionMoved(
                "was moved while the two were compared", file=uris[CHAMPION], expected="to be run again"
            )
        move_champion(candidate, registry, {"promoted": f"over version {champion.number}: {verdict.why}"})
    return Promotion(candidate, champion, report, verdict)


def judge(candidate: Mapping[str, float], champion: Mapping[str, float]) -> Verdict:
    """Better is: a lower LPIPS of the body, with poses as good.

    The pose distance may grow by 5 %, missed detections by 0.25 per image. What cannot be measured is not better.
    """
    keys = (DECIDES, "pose_distance_torsos", "missed_detections")
    undefined = [
        METRICS[k].name for k in keys if not math.isfinite(candidate.get(k, math.nan) + champion.get(k, math.nan))
    ]
    if undefined:
        return Verdict(False, f"not measured for both: {', '.join(undefined)}")
    gain = champion[DECIDES] - candidate[DECIDES]
    further = candidate[keys[1]] / max(champion[keys[1]], 1e-9) - 1
    missed = candidate[keys[2]] - champion[keys[2]]
    told = f"body LPIPS {candidate[DECIDES]:.4f} against {champion[DECIDES]:.4f}"
    if gain <= 0:
        return Verdict(False, f"{told}: {'no better' if gain == 0 else f'worse by {-gain:.4f}'}")
    told += f": better by {gain:.4f}"
    if further > POSE_DISTANCE_TOLERANCE:
        return Verdict(
            False, f"{told}, but poses are {further:.0%} further off (up to {POSE_DISTANCE_TOLERANCE:.0%} will do)"
        )
    if missed > MISSED_TOLERANCE:
        return Verdict(
            False, f"{told}, but {missed:.2f} more joints are missed per image (up to {MISSED_TOLERANCE} will do)"
        )
    return Verdict(True, told)
