"""Train one target with Ray Train: workers run training.loop and are restarted if they or their nodes are lost."""

from __future__ import annotations

import math
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import LoggingConfig
from ray.util.placement_group import NODE_ID_LABEL_KEY

from cluster.core import logs
from cluster.core.error_records import ErrorRecord, WorkerLost
from cluster.core.settings import RaySettings
from cluster.storage.arrow import arrow_filesystem
from cluster.storage.download_cache import fetch_current
from cluster.storage.open import open_storage
from cluster.training.target import TargetJob, TrainingFailure, TrainingResult, training_key
from cluster.training.worker import RankFailed, train_rank
from dancedist.errors import DancedistError, RecipeInvalid
from dancedist.video.concat import open_videos

# Ray Train restarts after this many lost workers or nodes, and waits this many times, a minute each, for resources.
MAX_WORKER_LOSSES, MAX_PLACEMENT_WAITS = 3, 5
# One node may still be decoding videos when the ranks of another wait at the first collective.
COLLECTIVE_TIMEOUT_S = 4 * 3600


class _StopOnRankFailure(UserCallback):  # type: ignore[misc]
    """Ends a training whose failure would repeat; Ray Train restarts it after any other failure."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called for every error before Ray Train decides; it does not retry what is raised here."""
        for error in worker_exceptions.values():
            if isinstance(error, RankFailed):
                raise error


def fit_target(job: TargetJob, progress_queue: ActorHandle | None = None) -> TrainingResult | TrainingFailure:
    """Train a target to its bundle; resume an interrupted training, return the result of a finished one.

    `progress_queue` is an actor that receives ProgressEvents. Call it in a task with 0 CPUs on a node that stays.
    """
    try:
        _check(job)
        key = training_key(job)
        store = open_storage(job.training_uri(key))
        if (finished := TrainingResult.read(store)) is not None:
            return finished
        # Also fails early, with our own error, if the storage is not writable.
        store.write("recipe.json", job.recipe.model_dump_json(indent=2).encode())
        _run(job, key, progress_queue)
        result = TrainingResult.read(store)
        assert result is not None, store.uri
        return result
    except DancedistError as error:
        return TrainingFailure(ErrorRecord.from_error(error, job.name, job.videos[0]), "failed")
    except RankFailed as error:
        return error.failure


def _check(job: TargetJob) -> None:
    """Raise RecipeInvalid if the batch cannot be split over the workers, or an error of videos that have no poses.

    Pose extraction failed for these, perhaps because they are not videos; Ray Train would take 30 s of a core to start.
    """
    training, workers = job.recipe.training, job.resources.workers
    shares = math.lcm(*range(1, workers + 1)) if job.recipe.distributed.elastic else workers
    if training.batch_pairs % (training.accumulate * shares):
        expected = f"a multiple of accumulate x workers, {training.accumulate} x {shares}"
        raise RecipeInvalid(
            "training.batch_pairs cannot be split over the workers",
            file=job.name,
            expected=expected,
            got=str(training.batch_pairs),
        )
    if not job.poses:
        open_videos([fetch_current(uri, job.recipe.extraction.cache_gb) for uri in job.videos], job.recipe.video)


def _run(job: TargetJob, key: str, progress_queue: ActorHandle | None) -> None:
    """Run Ray Train to the end and remove its checkpoints. Raises RankFailed."""
    RaySettings().export_defaults("train_health_check_interval_s", "train_enable_preemption_watcher")
    resources, nodes_before = job.resources, _nodes()
    elastic = job.recipe.distributed.elastic and not job.single_process
    path, files = arrow_filesystem(job.training_uri(key))
    workers = ScalingConfig(
        num_workers=(1, resources.workers) if elastic else resources.workers,
        use_gpu=resources.gpus > 0,
        label_selector=[{NODE_ID_LABEL_KEY: node} for node in job.nodes] if job.nodes and not elastic else None,
        resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
    )
    run = RunConfig(
        name=job.checkpoints,
        storage_path=path,
        storage_filesystem=files,
        failure_config=FailureConfig(max_failures=MAX_WORKER_LOSSES, controller_failure_limit=MAX_PLACEMENT_WAITS),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
        callbacks=[_StopOnRankFailure()],
        # Ray lets a worker that asked for no GPU see all GPUs of its node.
        worker_runtime_env={} if resources.gpus else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}},
        logging_config=LoggingConfig(log_level="WARNING"),
    )
    config = {"job": job, "key": key, "progress_queue": progress_queue, "ids": logs.ids()}
    torch_config = TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S)
    try:
        TorchTrainer(
            train_rank, train_loop_config=config, scaling_config=workers, run_config=run, torch_config=torch_config
        ).fit()
    except (TrainingFailedError, RayError) as error:
        raise RankFailed(_failed(error, job, lost=bool(nodes_before - _nodes()))) from error
    files.delete_dir(f"{path}/{job.checkpoints}")


def _failed(error: Exception, job: TargetJob, *, lost: bool) -> TrainingFailure:
    """Failure that Ray Train's exception wraps; `lost`: whether a node was lost meanwhile."""
    inner = getattr(error, "controller_failure", error)
    if isinstance(inner, RankFailed):
        return inner.failure
    causes = [*getattr(error, "worker_failures", {}).values()] or [inner]
    got = "; ".join(dict.fromkeys((str(e).strip().splitlines() or [type(e).__name__])[-1] for e in causes))
    failure = WorkerLost(
        "training lost its workers", file=job.name, expected=f"{MAX_WORKER_LOSSES} losses at most", got=got
    )
    return TrainingFailure(ErrorRecord.from_error(failure, job.name, job.videos[0]), "node lost" if lost else "failed")


def _nodes() -> set[str]:
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}
