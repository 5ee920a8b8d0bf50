"""Everything that is counted, for Prometheus: `dancedist_PART_WHAT_UNIT`, each named once, here.

Ray's are served by every node, as `ray_` and the name, counters with `_total` after it; they count by process, so sum
them. Labels have few values, named here or slugs of errors; what is one target's or one render's is in logs and MLflow.
"""

from __future__ import annotations

from typing import NamedTuple

from ray.util.metrics import Counter, Gauge, Histogram

POSES_FRAMES = Counter("dancedist_poses_frames", "Frames in which people were looked for")
POSES_SECONDS = Counter(
    "dancedist_poses_seconds", "Spent by workers: decode and detect (at the same time), write, join", ("stage",)
)
POSES_FAULTS = Counter("dancedist_poses_faults", "What went wrong with videos, by slug", ("slug",))

TRAINING_STEPS = Counter("dancedist_training_steps", "Steps of all trainings: global, local, face", ("stage",))
TRAINING_SECONDS = Counter("dancedist_training_seconds", "What these steps took", ("stage",))
TRAINING_CHECKPOINT = Gauge(
    "dancedist_training_checkpoint_timestamp_seconds", "When a training's last checkpoint was kept, since 1970"
)

FLEET_TARGETS = Gauge("dancedist_fleet_targets", "Targets that are waiting, running, done, given up", ("state",))
FLEET_ATTEMPTS = Counter("dancedist_fleet_attempts", "Trainings that were started")
FLEET_FAILURES = Counter(
    "dancedist_fleet_failures", "Trainings that failed: failed, out of memory, node lost", ("cause",)
)

RENDERS_READY = Gauge(
    "dancedist_renders_ready", "1 where records, storage, registry answer a director, 0 where not", ("need",)
)
RENDERS_FRAMES = Counter("dancedist_renders_frames", "Frames rendered, without those of warming up")
RENDERS_STAGE_SECONDS = Counter(
    "dancedist_renders_stage_seconds", "What renders took, by the clock: poses, rendering, joining", ("stage",)
)
RENDERS_CHUNK_SECONDS = Histogram(
    "dancedist_renders_chunk_seconds", "What chunks took to render and store", [1, 3, 10, 30, 100, 300, 1000]
)
RENDERS_SEAM_DB = Histogram(
    "dancedist_renders_seam_db", "Seams as they are in films, PSNR in the dancer's box", [30, 35, 40, 45, 50, 60, 80]
)
RENDERS_SEAMS_WIDENED = Counter(
    "dancedist_renders_seams_widened", "Chunks rendered again for their seam: warmed longer, faded", ("how",)
)
RENDERS_WORKERS_LOST = Counter(
    "dancedist_renders_workers_lost", "Chunks and segments that were lost with a replica which had begun them"
)
RENDERS_TAKEOVERS = Counter("dancedist_renders_takeovers", "Renders taken over from a director that went silent")
RENDERS_FAILURES = Counter("dancedist_renders_failures", "Renders that failed, by slug", ("slug",))


class Recorded(NamedTuple):
    """What the service's own /metrics tells out of its records: the same whichever process is asked."""

    name: str
    description: str
    labels: tuple[str, ...] = ()


RENDERS_RECORDS = Recorded("dancedist_renders_records", "Renders that are recorded, by state", ("state",))
RENDERS_OLDEST_WAITING = Recorded("dancedist_renders_oldest_waiting_seconds", "Since the first in the queue came")
