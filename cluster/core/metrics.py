"""All Prometheus metrics, named `dancedist_PART_WHAT_UNIT`. Each is declared once, here.

Every Ray node serves its metrics with the prefix `ray_`, counters with the suffix `_total`. They are kept per process:
sum them. Labels have few values: those listed here, or error slugs. Values of one target or render are in the logs and
in MLflow.
"""

from __future__ import annotations

from typing import NamedTuple

from ray.util.metrics import Counter, Gauge, Histogram

POSES_FRAMES = Counter("dancedist_poses_frames", "Frames that were searched for people")
POSES_SECONDS = Counter(
    "dancedist_poses_seconds", "Seconds of the workers: decode and detect (at the same time), write, join", ("stage",)
)
POSES_FAULTS = Counter("dancedist_poses_faults", "Errors of videos, by error code", ("slug",))

TRAINING_STEPS = Counter("dancedist_training_steps", "Steps of all trainings: global, local, face", ("stage",))
TRAINING_SECONDS = Counter("dancedist_training_seconds", "Seconds that these steps took", ("stage",))
TRAINING_CHECKPOINT = Gauge(
    "dancedist_training_checkpoint_timestamp_seconds", "When a training's last checkpoint was stored, since 1970"
)

FLEET_TARGETS = Gauge("dancedist_fleet_targets", "Targets by state: waiting, running, done, given up", ("state",))
FLEET_ATTEMPTS = Counter("dancedist_fleet_attempts", "Trainings started")
FLEET_FAILURES = Counter(
    "dancedist_fleet_failures", "Trainings that failed: failed, out of memory, node lost", ("cause",)
)

RENDERS_READY = Gauge(
    "dancedist_renders_ready", "1 if records, storage, registry answer the dispatcher, else 0", ("need",)
)
RENDERS_FRAMES = Counter("dancedist_renders_frames", "Frames rendered, without the warm-up")
RENDERS_STAGE_SECONDS = Counter(
    "dancedist_renders_stage_seconds", "Wall time of renders: poses, rendering, joining", ("stage",)
)
RENDERS_CHUNK_SECONDS = Histogram(
    "dancedist_renders_chunk_seconds", "Seconds to render and store a chunk", [1, 3, 10, 30, 100, 300, 1000]
)
RENDERS_SEAM_DB = Histogram(
    "dancedist_renders_seam_db",
    "Seams as they are in the films, PSNR in the dancer's box",
    [30, 35, 40, 45, 50, 60, 80],
)
RENDERS_SEAMS_WIDENED = Counter(
    "dancedist_renders_seams_widened", "Chunks rendered again because of a seam: warmed longer, faded", ("how",)
)
RENDERS_WORKERS_LOST = Counter(
    "dancedist_renders_workers_lost", "Chunks and segments lost with the replica that worked on them"
)
RENDERS_TAKEOVERS = Counter(
    "dancedist_renders_takeovers", "Renders taken over from a dispatcher that stopped responding"
)
RENDERS_FAILURES = Counter("dancedist_renders_failures", "Renders that failed, by error code", ("slug",))


class RecordsMetric(NamedTuple):
    """Metric that the service's `/metrics` computes from the database: every process reports the same value."""

    name: str
    description: str
    labels: tuple[str, ...] = ()


RENDERS_RECORDS = RecordsMetric("dancedist_renders_records", "Renders in the database, by state", ("state",))
RENDERS_OLDEST_WAITING = RecordsMetric(
    "dancedist_renders_oldest_waiting_seconds", "Age of the oldest render in the queue"
)
