"""Keys of finished work equal those of the first release, so that finished work is not silently repeated.

If a version (TRAINING_VERSION and the like) is raised on purpose, its keys change: update
tests/fixtures/fingerprints.json in the same commit, and mention it in the changelog.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.poses.inputs import ListedVideo
from cluster.poses.names import poses_name, segments_mark
from cluster.poses.segments import ExtractionJob, segment_name
from cluster.storage.base import Entry
from cluster.storage.local import LocalStorage
from cluster.tracking.registry import DancerVersion
from cluster.tracking.runs import flatten, run_key
from cluster.tracking.tracker import outbox_folder
from cluster.training import fleet
from cluster.training.placement import ResourceRequest
from cluster.training.target import TargetJob, training_key
from dancedist import __version__
from dancedist.data.frame_cache import CACHE_VERSION
from dancedist.demo.run import DEMO_VERSION
from dancedist.errors import Notice
from dancedist.models.build import build_generator
from dancedist.models.face import build_face_discriminator, build_face_generator
from dancedist.models.pix2pixhd import Discriminator
from dancedist.pose.detect import InferenceSpec
from dancedist.pose.segments import people_key, poses_key
from dancedist.pose.sequence import concat_poses, read_poses
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.loading import PRESETS, load_recipe, parse_recipe
from dancedist.recipe.schema import Recipe, RetargetRecipe
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget
from dancedist.synthetic import films, scenes
from dancedist.training.loop import TRAINING_VERSION, trained_parts
from dancedist.training.target import target_fingerprint, training_fingerprint
from dancedist.video.letterbox import letterbox
from serving.api.keys import Caller
from serving.api.schemas import RenderRequest
from serving.api.service import Service
from tests.unit.conftest import FIXTURES

EXPECTED: dict[str, Any] = json.loads((FIXTURES / "fingerprints.json").read_text())
SHA256, POSES_KEY = "a" * 64, "b" * 16
SPEC = InferenceSpec("d" * 64, "e" * 64, "openvino", "cpu", "f32", "pose-halpe26")
LISTED = ListedVideo("film", "/films/film.mp4", 1234, "18f-2a-4d2")
RECIPES = {name: load_recipe(name) for name in PRESETS}
RECIPES["fixture"] = load_recipe("paper", FIXTURES / "checkpoint" / "recipe.toml")


def job(recipe: Recipe, workers: int = 1, **changes: Any) -> TargetJob:
    return TargetJob("rosa", (), recipe, ResourceRequest(workers), "/runs", **changes)


@pytest.mark.parametrize("name", RECIPES)
def test_keys_of_a_recipe_and_its_sections(name: str) -> None:
    recipe = RECIPES[name]
    assert fingerprint(recipe) == EXPECTED[f"recipe/{name}"]
    for section in set(Recipe.model_fields) - {"stages"}:
        assert fingerprint(getattr(recipe, section)) == EXPECTED[f"recipe/{name}/{section}"], section
    for stage in recipe.stages:
        assert fingerprint(recipe.at_stage(stage)) == EXPECTED[f"at_stage/{name}/{stage}"]
        key = fingerprint("key", *trained_parts(recipe.at_stage(stage)), TRAINING_VERSION)
        assert key == EXPECTED[f"stage_key/{name}/{stage}"]


@pytest.mark.parametrize("name", RECIPES)
def test_keys_of_poses(name: str) -> None:
    recipe = RECIPES[name]
    assert people_key(SHA256, recipe.pose, SPEC) == EXPECTED[f"people_key/{name}"]
    assert poses_key(SHA256, recipe.pose, SPEC) == EXPECTED[f"poses_key/{name}"]
    extraction = ExtractionJob("/out", recipe.video, recipe.pose, recipe.extraction, SPEC)
    assert extraction.done_name(LISTED) == EXPECTED[f"done_name/{name}"]


def test_names_of_pose_files() -> None:
    assert segment_name("0" * 16, 256) == EXPECTED["segment_name"]
    assert segments_mark("s3://b/x/film.mp4") == EXPECTED["segments_mark"]
    assert poses_name("s3://b/x/film.mp4") == EXPECTED["poses_name"]


@pytest.mark.parametrize("name", RECIPES)
def test_keys_of_trainings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[name]
    poses, data = SimpleNamespace(fingerprint=POSES_KEY), SimpleNamespace(notices=(), key="")
    target: Any = SimpleNamespace(sha256=SHA256, poses=poses, data=data)
    assert target_fingerprint(target) == EXPECTED["target_fingerprint/plain"]
    assert training_fingerprint(target, recipe) == EXPECTED[f"training_fingerprint/{name}"]
    assert training_key(job(recipe)) == EXPECTED[f"training_key/{name}"]
    assert fleet._poses_folder(job(recipe)) == EXPECTED[f"poses_folder/{name}"]
    assert fingerprint(recipe.video.crf, recipe.video.x264_preset) == EXPECTED[f"comparison_films/{name}"]
    assert fingerprint(SHA256, recipe.video, recipe.pose) == EXPECTED[f"left_out_poses/{name}"]
    key = fingerprint("c" * 64, POSES_KEY, recipe, True, DEMO_VERSION, __version__)
    assert key == EXPECTED[f"demo/{name}"]


def test_keys_of_trainings_with_files(monkeypatch: pytest.MonkeyPatch) -> None:
    data: Any = SimpleNamespace(notices=(Notice("cache-short", "x"),), key="f" * 16)
    target: Any = SimpleNamespace(sha256=SHA256, poses=SimpleNamespace(fingerprint=POSES_KEY), data=data)
    assert target_fingerprint(target) == EXPECTED["target_fingerprint/short_cache"]
    first = str(FIXTURES / "bundles" / "quick")
    assert training_key(job(RECIPES["quick"], first=first)) == EXPECTED["training_key/quick/begun_with_fixture_bundle"]
    monkeypatch.setattr(LocalStorage, "stat", lambda _, name: Entry(name, 1234, "18f-2a-4d2"))
    poses = ("/runs/poses/x/poses/film.parquet",)
    with_files = TargetJob("rosa", ("/films/film.mp4",), RECIPES["quick"], ResourceRequest(), "/runs", poses)
    assert training_key(with_files) == EXPECTED["training_key/quick/files"]


@pytest.mark.parametrize(("workers", "zero_stage"), [(1, 1), (2, 0), (2, 1)])
def test_names_of_checkpoints(workers: int, zero_stage: int) -> None:
    distributed = RECIPES["quick"].distributed.model_copy(update={"zero_stage": zero_stage})
    training = job(RECIPES["quick"].model_copy(update={"distributed": distributed}), workers)
    expected = EXPECTED[f"checkpoints/{workers}-workers-zero-{zero_stage}"]
    assert [training.checkpoints, training.training_uri("0" * 16)] == expected


def test_keys_of_synthetic_videos() -> None:
    all_scenes = {name: scene for name, scene in vars(scenes).items() if isinstance(scene, scenes.Scene)}
    assert all_scenes
    for name, scene in all_scenes.items():
        for encoding in ("quick", "paper"):
            key = fingerprint(repr(scene), RECIPES[encoding].video, films.DRAWING_VERSION)
            assert key == EXPECTED[f"scene_mark/{name}/{encoding}"]


def test_keys_of_frame_caches() -> None:
    placed = letterbox((160, 128), 14400, 16)
    assert placed.key == EXPECTED["str/Fit"]
    pixels = RECIPES["quick"].video.max_frame_pixels
    assert fingerprint(SHA256, pixels, placed.key, CACHE_VERSION) == EXPECTED["pictures/quick"]


def test_keys_of_joined_and_retargeted_poses() -> None:
    poses = read_poses(FIXTURES / "poses" / "poses.parquet")
    assert concat_poses([poses, poses], ["a", "b"]).fingerprint == EXPECTED["joined"]
    stats = RetargetStats.of(poses)
    assert retarget(poses, stats, stats, RetargetRecipe(), poses.size).fingerprint == EXPECTED["retargeted"]


@pytest.mark.parametrize(
    ("name", "label", "certificates"),
    [("plain", False, None), ("label", True, None), ("signed", False, Path("/keys/chain.pem"))],
)
def test_keys_of_renders(name: str, label: bool, certificates: Path | None) -> None:
    service: Any = SimpleNamespace(settings=SimpleNamespace(label=False, c2pa_certificates=certificates))
    version = DancerVersion("dancer-ann", 3, "run", "path", {"fingerprint": POSES_KEY})
    source = ListedVideo("source", "/runs/renders/sources/x.mp4", 1234, "18f-2a-4d2")
    caller, request = Caller("ann", frozenset({"render"})), RenderRequest(dancer="ann", label=label)
    assert asdict(Service._new_render(service, caller, request, version, source, "k")) == EXPECTED[f"render/{name}"]


def test_keys_and_params_of_mlflow_runs() -> None:
    assert run_key("/runs/fleet") == EXPECTED["run_key"]
    assert run_key(run_key("/runs/fleet"), "/runs/rosa/0123456789abcdef") == EXPECTED["run_key/target"]
    assert outbox_folder("s3://bucket/runs").name == EXPECTED["spool_of_bucket"]
    assert flatten(RECIPES["quick"].model_dump(mode="json")) == EXPECTED["mlflow_params/quick"]


def test_names_of_tensors() -> None:
    recipe, shapes = RECIPES["fixture"], EXPECTED["state_dict"]
    local = parse_recipe({"generator": {"filters": 4, "downsamplings": 2, "blocks": 1}, "local": {"blocks": 1}})
    networks = {
        "generator/fixture": build_generator(recipe),
        "generator/local": build_generator(local),
        "face/fixture": build_face_generator(recipe.face),
        "face_discriminator/fixture": build_face_discriminator(recipe.face),
        "discriminator/fixture": Discriminator(12, 4, 1, 1),
    }
    for name, network in networks.items():
        assert {key: [*tensor.shape] for key, tensor in network.state_dict().items()} == shapes[name], name
