"""A training worker: one rank of training.loop, on its node's copy of the target."""

from __future__ import annotations

import logging
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ray
import ray.train
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from cluster.core import logs
from cluster.core.error_records import ErrorRecord, OutOfMemory, Unexpected
from cluster.storage.base import StorageMissing
from cluster.storage.download_cache import cache_folder, fetch_cached, pinned, sweep
from cluster.storage.open import open_storage, split_uri
from cluster.training.placement import ResourceRequest
from cluster.training.reporting import REPORT, RayCheckpoints, Reporter, StepCounter, publish_result, redraw_samples
from cluster.training.target import TargetJob, TrainingFailure
from dancedist.bundle.bundle import Bundle, load_bundle, record_metrics
from dancedist.data.target import Target, background_of, load_target
from dancedist.errors import DancedistError
from dancedist.evaluation.held_out import held_out_report
from dancedist.evaluation.measure import LPIPS_WEIGHTS
from dancedist.evaluation.renditions import DANCER
from dancedist.evaluation.report import means, write_report
from dancedist.evaluation.settling import measure_settling
from dancedist.files import atomic_write, file_lock
from dancedist.pose.sequence import read_poses
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.loop import Trainer
from dancedist.training.target import initial_weights, target_fingerprint, training_fingerprint, write_bundle
from dancedist.weights import ensure

log = logging.getLogger("dancedist")


class RankFailed(Exception):
    """A failure that would repeat on a retry; `failure` describes it."""

    def __init__(self, failure: TrainingFailure) -> None:
        super().__init__(failure)
        self.failure = failure


def train_rank(config: dict[str, Any]) -> None:
    """Train config["job"] as one of its ranks; rank 0 uploads the bundle. Raises RankFailed."""
    job: TargetJob = config["job"]
    logs.configure()
    with logs.bound(**config["ids"], rank=ray.train.get_context().get_world_rank()):
        try:
            _train(job, config["key"], config["progress_queue"])
        except Exception as error:
            failure = _own_failure(error, job)
            if failure is None:
                raise
            raise RankFailed(failure) from error


def _own_failure(error: Exception, job: TargetJob) -> TrainingFailure | None:
    """Failure that would repeat anywhere; None for an error that a lost worker or connection caused in this rank."""
    name, uri = job.name, job.videos[0]
    if isinstance(error, DancedistError):
        return TrainingFailure(ErrorRecord.from_error(error, name, uri), "failed")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error):
        reason = str(error).splitlines()[0] if str(error) else "no memory"
        return TrainingFailure(
            ErrorRecord.from_error(OutOfMemory("training needs more memory", file=uri, got=reason), name, uri),
            "out of memory",
        )
    # Gloo and NCCL raise RuntimeError when a peer is gone.
    if isinstance(error, RuntimeError | OSError | RayError):
        return None
    bug = Unexpected("training failed", file=uri, got=f"{type(error).__name__}: {error}")
    return TrainingFailure(ErrorRecord.from_error(bug, name, uri), "failed")


def _train(job: TargetJob, key: str, progress_queue: ActorHandle | None) -> None:
    _limit_resources(job.resources)
    work = cache_folder("targets") / f"{job.name}-{key}"
    sweep(work.parent)
    with pinned(work):
        _train_in_folder(work, job, key, progress_queue)


def _train_in_folder(work: Path, job: TargetJob, key: str, progress_queue: ActorHandle | None) -> None:
    """Train in a folder of this node that its ranks share."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    target, background, first = _load_target(job, work)
    fingerprint = training_fingerprint(target, job.recipe, first)
    folder = work / f"rank-{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = RayCheckpoints(folder)
    trainer = Trainer(
        target.data,
        job.recipe,
        folder,
        target_fingerprint(target, first),
        background,
        engine=_engine(job, world),
        ranks=Ranks(rank, world, _all_reduce_mean) if world > 1 else Ranks(),
        checkpoints=checkpoints,
        initial=initial_weights(first, job.recipe),
    )
    log.info("%s: rank %d of %d starts at step %d of %d", job.name, rank, world, trainer.step, trainer.steps)
    own_process = (ray.util.get_node_ip_address(), os.getpid())
    reporter = Reporter(
        trainer, job.name, tuple(_all_gather(own_process, world)), progress_queue if rank == 0 else None
    )
    counter = StepCounter(trainer, checkpoints)

    def advance(steps: int) -> None:
        reporter.advance(steps)
        if rank == 0:
            counter.advance(steps)

    try:
        trainer.run(advance)
    finally:
        reporter.report()
    peaks = _all_gather(_peak_memory(), world)
    if rank == 0:
        redraw_samples(trainer)
        bundle = write_bundle(target, trainer, job.name, fingerprint, folder / "dancer")
        measure_settling(folder / "dancer", bundle, target)
        report = held_out_report(bundle, target)
        record_metrics(folder / "dancer", {"held-out block": means(report)})
        write_report(report, folder / REPORT)
        publish_result(job, key, trainer, world, peaks, means(report)[DANCER])
    if world > 1:
        dist.barrier()
    if context.get_local_rank() == 0:
        shutil.rmtree(work, ignore_errors=True)


def _limit_resources(resources: ResourceRequest) -> None:
    """Limit threads and GPU memory of this process to the requested resources."""
    threads = max(1, int(resources.cpus))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if torch.cuda.is_available() and 0 < resources.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(resources.gpus)


def _load_target(job: TargetJob, work: Path) -> tuple[Target, NDArray[np.uint8] | None, Bundle | None]:
    """Load the target, its background (uint8 RGB (H, W, 3)) and the bundle for a warm start.

    The node's first rank prepares them, the others read its files.
    """
    recipe = job.recipe
    # Fail now rather than after the training.
    ensure(LPIPS_WEIGHTS)
    with file_lock(work / ".lock"):
        # Files of different folders may have the same name.
        videos, pose_files = (
            [fetch_named(uri, work / kind / str(i), recipe.extraction.cache_gb) for i, uri in enumerate(uris)]
            for kind, uris in (("videos", job.videos), ("given", job.poses))
        )
        poses = [read_poses(path) for path in pose_files]
        target = load_target(videos, recipe, work, poses_of=poses)
        background_file = work / "stage.npy"
        if not background_file.exists() and (background := background_of(target, recipe)) is not None:
            with atomic_write(background_file) as partial:
                np.save(partial, background)
        first = None if job.first is None else _fetch_bundle(job.first, work / "first")
    return target, np.load(background_file) if recipe.generator.background else None, first


def fetch_named(uri: str, folder: Path, cache_gb: float) -> Path:
    """Return a local file with the content and the name of `uri`; a remote file is linked into `folder`.

    The link keeps the content while the training uses it, even if the download cache evicts the file.
    """
    store, name = split_uri(uri)
    entry = open_storage(store).stat(name)
    if entry is None:
        raise StorageMissing("is not there", file=uri)
    path = fetch_cached(uri, entry.size_bytes, entry.etag, cache_gb)
    if path.name == name:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / name
    if not (own.exists() and own.samefile(path)):
        own.unlink(missing_ok=True)
        own.hardlink_to(path)
    return own


def _fetch_bundle(uri: str, folder: Path) -> Bundle:
    store = open_storage(uri)
    for entry in store.list():
        store.download(entry.name, folder / entry.name)
    return load_bundle(folder)


def _engine(job: TargetJob, world: int) -> MakeEngine:
    if job.single_process:
        return TorchEngine
    # Importing DeepSpeed takes seconds.
    from cluster.training.deepspeed_engine import deepspeed_engine

    return deepspeed_engine(job.recipe.distributed.zero_stage, job.recipe.training.batch_pairs // world)


def _all_reduce_mean(losses: dict[str, float]) -> dict[str, float]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = torch.tensor([*losses.values()], dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(losses, (values / dist.get_world_size()).tolist(), strict=True))


def _all_gather(own: Any, world: int) -> list[Any]:
    """Values of all ranks, in rank order."""
    if world == 1:
        return [own]
    values: list[Any] = [None] * world
    dist.all_gather_object(values, own)
    return values


def _peak_memory() -> tuple[int, int]:
    """Peak memory of this process in bytes: (main memory, GPU memory)."""
    gpu_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, gpu_bytes
