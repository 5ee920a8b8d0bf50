from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.base import StorageMissing
from cluster.storage.open import open_storage
from cluster.training.placement import ResourceRequest
from cluster.training.target import MARKER, TargetJob, TrainingResult, find_result, training_key
from dancedist.errors import RecipeInvalid
from dancedist.recipe.loading import parse_recipe
from tests.unit.cluster.training.fits import job, small


@pytest.fixture
def target_job(tmp_path: Path) -> TargetJob:
    for name in ("film.mp4", "film.parquet"):
        (tmp_path / name).write_text(name)
    return job(tmp_path / "film.mp4", tmp_path / "fleet", small())


def test_the_key_depends_on_what_determines_the_weights(target_job: TargetJob, tmp_path: Path) -> None:
    key = training_key(target_job)
    same = (
        replace(target_job, name="milo"),
        replace(target_job, resources=ResourceRequest(2, 3.0)),
        replace(target_job, recipe=small(zero_stage=3)),
        pickle.loads(pickle.dumps(target_job)),
    )
    assert {training_key(other) for other in same} == {key}
    other = [
        replace(target_job, recipe=small("face")),
        replace(target_job, recipe=small(batch_pairs=2)),
        replace(target_job, poses=()),
    ]
    assert len({key, *map(training_key, other)}) == 4
    (tmp_path / "film.mp4").write_text("another film")
    assert training_key(target_job) != key
    (tmp_path / "film.mp4").unlink()
    with pytest.raises(StorageMissing, match=r"film\.mp4"):
        training_key(target_job)


def test_a_warm_start_is_identified_by_its_weights(target_job: TargetJob, tmp_path: Path) -> None:
    def key_of(folder: str, **record: object) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "dancer.json").write_text(json.dumps(record))
        return training_key(replace(target_job, first=str(tmp_path / folder)))

    keys = [
        key_of("a", weights_sha256="1"),
        key_of("b", weights_sha256="1", metrics={"ssim": 0.9}),
        key_of("a", weights_sha256="2"),
        key_of("a", weights_sha256="1", face_sha256="3"),
    ]
    assert keys[0] == keys[1]
    assert len({training_key(target_job), *keys}) == 4


def test_a_training_is_finished_only_with_its_marker(target_job: TargetJob) -> None:
    assert find_result(target_job) is None
    key = training_key(target_job)
    store = open_storage(target_job.training_uri(key))
    # Weights without the marker do not count.
    store.write("dancer/generator.safetensors", b"incomplete")
    assert find_result(target_job) is None
    trained = TrainingResult(
        "rosa", key, f"{store.uri}/dancer", 20, 3.5, 2, 10**9, 0, {"g_l1": 1.0}, {"body_lpips": 0.1}
    )
    trained.write(store)
    assert find_result(target_job) == trained
    assert find_result(replace(target_job, recipe=small(max_steps=21))) is None
    assert [e.name for e in store.list()] == ["dancer/generator.safetensors", MARKER]


def test_checkpoints_of_another_kind_have_another_folder(target_job: TargetJob) -> None:
    two, three = ResourceRequest(2), ResourceRequest(3)
    kinds = [
        target_job,
        replace(target_job, resources=two),
        replace(target_job, resources=three),
        replace(target_job, resources=two, recipe=small(zero_stage=2)),
    ]
    assert len({kind.checkpoints for kind in kinds}) == 4
    # Without ZeRO any world size can resume the checkpoints of another.
    folders = [replace(target_job, resources=size, recipe=small(zero_stage=0)).checkpoints for size in (two, three)]
    assert len({*folders}) == 1


def test_elastic_needs_zero_stage_0() -> None:
    assert parse_recipe({"distributed": {"zero_stage": 0, "elastic": True}}).distributed.elastic
    with pytest.raises(RecipeInvalid, match="elastic needs zero_stage 0"):
        parse_recipe({"distributed": {"elastic": True}})
