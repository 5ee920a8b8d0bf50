from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.base import StorageMissing, open_storage
from cluster.training.placement import Need
from cluster.training.target import MARKER, TargetJob, Trained, done, training_key
from dancedist.errors import RecipeInvalid
from dancedist.recipe import parse_recipe
from tests.unit.cluster.training.fits import job, small


@pytest.fixture
def asked(tmp_path: Path) -> TargetJob:
    for name in ("film.mp4", "film.parquet"):
        (tmp_path / name).write_text(name)
    return job(tmp_path / "film.mp4", tmp_path / "fleet", small())


def test_the_key_is_of_what_decides_the_weights(asked: TargetJob, tmp_path: Path) -> None:
    key = training_key(asked)
    same = (
        replace(asked, name="milo"),
        replace(asked, need=Need(2, 3.0)),
        replace(asked, recipe=small(zero_stage=3)),
        pickle.loads(pickle.dumps(asked)),
    )
    assert {training_key(other) for other in same} == {key}
    other = [
        replace(asked, recipe=small("face")),
        replace(asked, recipe=small(batch_pairs=2)),
        replace(asked, poses=()),
    ]
    assert len({key, *map(training_key, other)}) == 4
    (tmp_path / "film.mp4").write_text("another film")
    assert training_key(asked) != key
    (tmp_path / "film.mp4").unlink()
    with pytest.raises(StorageMissing, match=r"film\.mp4"):
        training_key(asked)


def test_a_first_dancer_is_known_by_its_weights(asked: TargetJob, tmp_path: Path) -> None:
    def begun(folder: str, **record: object) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "dancer.json").write_text(json.dumps(record))
        return training_key(replace(asked, first=str(tmp_path / folder)))

    keys = [
        begun("a", weights_sha256="1"),
        begun("b", weights_sha256="1", metrics={"ssim": 0.9}),
        begun("a", weights_sha256="2"),
        begun("a", weights_sha256="1", face_sha256="3"),
    ]
    assert keys[0] == keys[1]
    assert len({training_key(asked), *keys}) == 4


def test_the_marker_says_what_is_trained(asked: TargetJob) -> None:
    assert done(asked) is None
    key = training_key(asked)
    place = open_storage(asked.place(key))
    # Weights that are there without it do not count.
    place.write("dancer/generator.safetensors", b"half of it")
    assert done(asked) is None
    trained = Trained("rosa", key, f"{place.uri}/dancer", 20, 3.5, 2, 10**9, 0, {"g_l1": 1.0}, {"body_lpips": 0.1})
    trained.write(place)
    assert done(asked) == trained
    assert done(replace(asked, recipe=small(max_steps=21))) is None
    assert [e.name for e in place.list()] == ["dancer/generator.safetensors", MARKER]


def test_checkpoints_of_another_kind_lie_elsewhere(asked: TargetJob) -> None:
    two, three = Need(2), Need(3)
    kinds = [
        asked,
        replace(asked, need=two),
        replace(asked, need=three),
        replace(asked, need=two, recipe=small(zero_stage=2)),
    ]
    assert len({kind.checkpoints for kind in kinds}) == 4
    # Without ZeRO any number takes up what another has left.
    free = [replace(asked, need=need, recipe=small(zero_stage=0)).checkpoints for need in (two, three)]
    assert len({*free}) == 1


def test_elastic_is_for_what_is_not_shared_out() -> None:
    assert parse_recipe({"distributed": {"zero_stage": 0, "elastic": True}}).distributed.elastic
    with pytest.raises(RecipeInvalid, match="elastic needs zero_stage 0"):
        parse_recipe({"distributed": {"elastic": True}})
