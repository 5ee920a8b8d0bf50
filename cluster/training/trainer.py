"""One target, one training of Ray Train: workers round training.loop, restarted where they or their nodes are lost."""

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
from cluster.core.error_records import Fault, WorkerLost
from cluster.core.settings import Ray
from cluster.storage.arrow import arrow_filesystem
from cluster.storage.base import open_storage
from cluster.storage.download_cache import fetched_now
from cluster.training.target import Failed, TargetJob, Trained, training_key
from cluster.training.worker import RankFailed, train_rank
from dancedist.errors import DancedistError, RecipeInvalid
from dancedist.video.concat import open_footage

# So many lost workers or nodes, Ray Train takes up by itself; and so many times, of a minute each, it waits for room.
MAX_LOSSES, MAX_WAITS = 3, 5
# The ranks of one node may still decode when those of another have done so.
RANKS_WAIT_S = 4 * 3600


class _Stop(UserCallback):  # type: ignore[misc]
    """Ends a training for what would only happen again, and lets Ray Train take up the rest."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Asked of every error, before Ray Train decides; what is raised here it does not try again."""
        for error in worker_exceptions.values():
            if isinstance(error, RankFailed):
                raise error


def fit_target(job: TargetJob, tell: ActorHandle | None = None) -> Trained | Failed:
    """Train a target to its bundle; taken up where it was broken off, found where it is done.

    `tell` is an actor whose `hear` takes News. Call it in a task of no CPUs, on a node that stays.
    """
    try:
        _check(job)
        key = training_key(job)
        place = open_storage(job.place(key))
        if (found := Trained.read(place)) is not None:
            return found
        # Told now, and in our words, where the storage is not to be written to.
        place.write("recipe.json", job.recipe.model_dump_json(indent=2).encode())
        _run(job, key, tell)
        trained = Trained.read(place)
        assert trained is not None, place.uri
        return trained
    except DancedistError as error:
        return Failed(Fault.of(error, job.name, job.videos[0]), "failed")
    except RankFailed as error:
        return error.failed


def _check(job: TargetJob) -> None:
    """Raise RecipeInvalid where the batch cannot be shared out, and what is wrong with films that have no poses yet.

    Their poses could not be found, for they may be no films: Ray Train takes half a minute of a core to begin.
    """
    training, workers = job.recipe.training, job.need.workers
    shares = math.lcm(*range(1, workers + 1)) if job.recipe.distributed.elastic else workers
    if training.batch_pairs % (training.accumulate * shares):
        expected = f"a multiple of accumulate x workers, {training.accumulate} x {shares}"
        raise RecipeInvalid(
            "training.batch_pairs cannot be shared out", file=job.name, expected=expected, got=str(training.batch_pairs)
        )
    if not job.poses:
        open_footage([fetched_now(uri, job.recipe.extraction.cache_gb) for uri in job.videos], job.recipe.video)


def _run(job: TargetJob, key: str, tell: ActorHandle | None) -> None:
    """Have Ray Train train it, to the end. Raises RankFailed."""
    Ray().hand_on("train_health_check_interval_s", "train_enable_preemption_watcher")
    need, before = job.need, _nodes()
    elastic = job.recipe.distributed.elastic and not job.plain
    path, files = arrow_filesystem(job.place(key))
    workers = ScalingConfig(
        num_workers=(1, need.workers) if elastic else need.workers,
        use_gpu=need.gpus > 0,
        label_selector=[{NODE_ID_LABEL_KEY: node} for node in job.nodes] if job.nodes and not elastic else None,
        resources_per_worker={"CPU": need.cpus, **({"GPU": need.gpus} if need.gpus else {})},
    )
    run = RunConfig(
        name=job.checkpoints,
        storage_path=path,
        storage_filesystem=files,
        failure_config=FailureConfig(max_failures=MAX_LOSSES, controller_failure_limit=MAX_WAITS),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
        callbacks=[_Stop()],
        # Ray leaves all of a node's GPUs to who has asked for none.
        worker_runtime_env={} if need.gpus else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}},
        logging_config=LoggingConfig(log_level="WARNING"),
    )
    config = {"job": job, "key": key, "tell": tell, "ids": logs.ids()}
    torch_config = TorchConfig(timeout_s=RANKS_WAIT_S)
    try:
        TorchTrainer(
            train_rank, train_loop_config=config, scaling_config=workers, run_config=run, torch_config=torch_config
        ).fit()
    except (TrainingFailedError, RayError) as error:
        raise RankFailed(_failed(error, job, lost=bool(before - _nodes()))) from error
    files.delete_dir(f"{path}/{job.checkpoints}")


def _failed(error: Exception, job: TargetJob, *, lost: bool) -> Failed:
    """The first real cause of what Ray Train wraps; `lost`: whether a node went meanwhile."""
    inner = getattr(error, "controller_failure", error)
    if isinstance(inner, RankFailed):
        return inner.failed
    told = [*getattr(error, "worker_failures", {}).values()] or [inner]
    got = "; ".join(dict.fromkeys((str(e).strip().splitlines() or [type(e).__name__])[-1] for e in told))
    fault = WorkerLost("training lost its workers", file=job.name, expected=f"{MAX_LOSSES} losses at most", got=got)
    return Failed(Fault.of(fault, job.name, job.videos[0]), "node lost" if lost else "failed")


def _nodes() -> set[str]:
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}
