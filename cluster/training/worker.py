"""What each worker of a training does: one rank of training.loop, with what its node holds of the target."""

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
from cluster.core.error_records import Fault, OutOfMemory, Unexpected
from cluster.storage.base import StorageMissing, open_storage, split_uri
from cluster.storage.download_cache import cache_folder, fetched, held, sweep
from cluster.training.placement import Need
from cluster.training.reporting import REPORT, ReportedCheckpoints, Reporter, StepCounter, publish, redraw
from cluster.training.target import Failed, TargetJob
from dancedist.bundle.bundle import Bundle, load_bundle, record_metrics
from dancedist.errors import DancedistError
from dancedist.evaluation.evaluation import DANCER, LPIPS_WEIGHTS, held_out_report, look_over
from dancedist.evaluation.report import means, write_report
from dancedist.files import only_one, published
from dancedist.pose.sequence import read_poses
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.loop import Trainer
from dancedist.training.target import (
    Target,
    empty_stage,
    first_weights,
    leave_bundle,
    load_target,
    target_fingerprint,
    training_fingerprint,
)
from dancedist.weights import ensure

log = logging.getLogger("dancedist")


class RankFailed(Exception):
    """Raised for what would only happen again: `failed` says what it was."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed)
        self.failed = failed


def train_rank(config: dict[str, Any]) -> None:
    """Train `job` as one of its ranks; rank 0 leaves the bundle in its place. Raises RankFailed."""
    job: TargetJob = config["job"]
    logs.begin()
    with logs.bound(**config["ids"], rank=ray.train.get_context().get_world_rank()):
        try:
            _train(job, config["key"], config["tell"])
        except Exception as error:
            failed = _own_failure(error, job)
            if failed is None:
                raise
            raise RankFailed(failed) from error


def _own_failure(error: Exception, job: TargetJob) -> Failed | None:
    """What it is that happens again wherever it is tried; None for what a lost worker or a lost line does to others."""
    name, uri = job.name, job.videos[0]
    if isinstance(error, DancedistError):
        return Failed(Fault.of(error, name, uri), "failed")
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error):
        told = str(error).splitlines()[0] if str(error) else "no memory"
        return Failed(
            Fault.of(OutOfMemory("training needs more memory", file=uri, got=told), name, uri), "out of memory"
        )
    # Gloo and NCCL say RuntimeError of a peer that is gone.
    if isinstance(error, RuntimeError | OSError | RayError):
        return None
    bug = Unexpected("training failed", file=uri, got=f"{type(error).__name__}: {error}")
    return Failed(Fault.of(bug, name, uri), "failed")


def _train(job: TargetJob, key: str, tell: ActorHandle | None) -> None:
    _keep_to(job.need)
    work = cache_folder("targets") / f"{job.name}-{key}"
    sweep(work.parent)
    with held(work):
        _train_in(work, job, key, tell)


def _train_in(work: Path, job: TargetJob, key: str, tell: ActorHandle | None) -> None:
    """The same, in a folder of this node that its ranks share."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    target, backdrop, first = _load(job, work)
    fingerprint = training_fingerprint(target, job.recipe, first)
    folder = work / f"rank-{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = ReportedCheckpoints(folder)
    trainer = Trainer(
        target.data,
        job.recipe,
        folder,
        target_fingerprint(target, first),
        backdrop,
        engine=_engine(job, world),
        ranks=Ranks(rank, world, _mean) if world > 1 else Ranks(),
        checkpoints=checkpoints,
        first=first_weights(first, job.recipe),
    )
    log.info("%s: rank %d of %d begins at step %d of %d", job.name, rank, world, trainer.step, trainer.steps)
    here = (ray.util.get_node_ip_address(), os.getpid())
    reporter = Reporter(trainer, job.name, tuple(_of_all(here, world)), tell if rank == 0 else None)
    counter = StepCounter(trainer, checkpoints)

    def advance(steps: int) -> None:
        reporter.advance(steps)
        if rank == 0:
            counter.advance(steps)

    try:
        trainer.run(advance)
    finally:
        reporter.tell()
    peaks = _of_all(_peaks(), world)
    if rank == 0:
        redraw(trainer)
        bundle = leave_bundle(target, trainer, job.name, fingerprint, folder / "dancer")
        look_over(folder / "dancer", bundle, target)
        report = held_out_report(bundle, target)
        record_metrics(folder / "dancer", {"held-out block": means(report)})
        write_report(report, folder / REPORT)
        publish(job, key, trainer, world, peaks, means(report)[DANCER])
    if world > 1:
        dist.barrier()
    if context.get_local_rank() == 0:
        shutil.rmtree(work, ignore_errors=True)


def _keep_to(need: Need) -> None:
    """Use no more than was asked for."""
    threads = max(1, int(need.cpus))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if torch.cuda.is_available() and 0 < need.gpus < 1:
        torch.cuda.set_per_process_memory_fraction(need.gpus)


def _load(job: TargetJob, work: Path) -> tuple[Target, NDArray[np.uint8] | None, Bundle | None]:
    """The target as this node holds it, its empty stage, the bundle to begin with: the first rank here makes them."""
    recipe = job.recipe
    # Told now, not when all is trained.
    ensure(LPIPS_WEIGHTS)
    with only_one(work / ".lock"):
        # Several may have one name.
        videos, given = (
            [local(uri, work / kind / str(i), recipe.extraction.cache_gb) for i, uri in enumerate(uris)]
            for kind, uris in (("videos", job.videos), ("given", job.poses))
        )
        found = [read_poses(path) for path in given]
        target = load_target(videos, recipe, work, poses_of=found)
        kept = work / "stage.npy"
        if not kept.exists() and (stage := empty_stage(target, recipe)) is not None:
            with published(kept) as partial:
                np.save(partial, stage)
        first = None if job.first is None else _bundle(job.first, work / "first")
    return target, np.load(kept) if recipe.generator.backdrop else None, first


def local(uri: str, folder: Path, cache_gb: float) -> Path:
    """A file of this node with the content of `uri`, and its name: in `folder` where it has to be fetched.

    There it stays while it is trained on, whatever is fetched for others.
    """
    store, name = split_uri(uri)
    entry = open_storage(store).stat(name)
    if entry is None:
        raise StorageMissing("is not there", file=uri)
    path = fetched(uri, entry.size_bytes, entry.etag, cache_gb)
    if path.name == name:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / name
    if not (own.exists() and own.samefile(path)):
        own.unlink(missing_ok=True)
        own.hardlink_to(path)
    return own


def _bundle(uri: str, folder: Path) -> Bundle:
    store = open_storage(uri)
    for entry in store.list():
        store.download(entry.name, folder / entry.name)
    return load_bundle(folder)


def _engine(job: TargetJob, world: int) -> MakeEngine:
    if job.plain:
        return TorchEngine
    # Seconds of imports.
    from cluster.training.deepspeed_engine import deepspeed_engine

    return deepspeed_engine(job.recipe.distributed.zero_stage, job.recipe.training.batch_pairs // world)


def _mean(losses: dict[str, float]) -> dict[str, float]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    values = torch.tensor([*losses.values()], dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(losses, (values / dist.get_world_size()).tolist(), strict=True))


def _of_all(mine: Any, world: int) -> list[Any]:
    """What each rank has, in their order."""
    if world == 1:
        return [mine]
    every: list[Any] = [None] * world
    dist.all_gather_object(every, mine)
    return every


def _peaks() -> tuple[int, int]:
    """Bytes that this process held at most, of the machine's memory and of its GPU's."""
    gpu_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, gpu_bytes
