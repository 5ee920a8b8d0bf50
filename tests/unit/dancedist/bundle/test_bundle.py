from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dancedist.bundle.bundle import Bundle, load_bundle, record_metrics, save_bundle
from dancedist.bundle.record import Dancer, Provenance
from dancedist.errors import FileInvalid
from dancedist.files import file_sha256
from dancedist.models.build import build_generator
from dancedist.models.face import build_face_generator
from dancedist.recipe.schema import Recipe
from dancedist.retarget.stats import RetargetStats
from tests.unit.conftest import SIZE, moving_poses


def make_bundle(folder: Path, recipe: Recipe, **changes: object) -> Dancer:
    """Save a dancer with random weights."""
    poses = moving_poses()
    provenance = Provenance(
        video="v.mp4", video_sha256="0" * 64, poses_fingerprint="p", training_fingerprint="t", steps=1, train_frames=9,
        seconds=1.0, machine="test", versions={}, finished="2026-01-01",
    )  # fmt: skip
    plain = {
        "name": "ann", "recipe": recipe, "topology": poses.topology.name, "fps": "25", "frame_size": SIZE,
        "picture_pixels": recipe.pixels,
        "stats": RetargetStats.of(poses).to_dict(), "provenance": provenance,
    } | changes  # fmt: skip
    torch.manual_seed(0)
    weights = {"generator": build_generator(recipe).state_dict()}
    if "face" in recipe.stages:
        weights["face"] = build_face_generator(recipe.face).state_dict()
    dancer = Dancer.model_validate(plain)
    width, height = dancer.frame_size
    background = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return save_bundle(folder, dancer, weights, background if recipe.generator.background else None)


@pytest.fixture
def folder(tmp_path: Path, tiny_recipe: Recipe) -> Path:
    make_bundle(tmp_path / "ann", tiny_recipe)
    return tmp_path / "ann"


def test_a_saved_bundle_loads(folder: Path, tiny_recipe: Recipe) -> None:
    bundle = load_bundle(folder)
    assert isinstance(bundle, Bundle)
    assert bundle.dancer.recipe == tiny_recipe
    assert bundle.letterbox.picture_size == SIZE
    assert bundle.stats == RetargetStats.of(moving_poses())
    assert not bundle.generator.training
    assert bundle.background is not None
    assert np.array_equal(bundle.background, np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))
    weights = load_file(folder / "generator.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in bundle.generator.state_dict().items())
    assert "synthetic" in (folder / "README.md").read_text()


def test_recording_metrics_changes_nothing_else(folder: Path) -> None:
    before = load_bundle(folder).dancer
    metrics = {"own": {"dancer": {"body_ssim": 0.5}, "mean frame": {"body_ssim": 0.25}}}
    record_metrics(folder, metrics)
    after = load_bundle(folder).dancer
    assert after == before.model_copy(update={"metrics": metrics})
    assert "| dancer | 0.5 |" in (folder / "README.md").read_text()


def test_a_bundle_contains_no_pickle(folder: Path) -> None:
    assert {p.suffix for p in folder.iterdir()} == {".safetensors", ".json", ".md", ".png"}


def test_altered_weights_are_refused(folder: Path) -> None:
    file = folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(FileInvalid, match="does not match its checksum"):
        load_bundle(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    file, record = folder / "generator.safetensors", folder / "dancer.json"
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file)
    plain = json.loads(record.read_text())
    record.write_text(json.dumps(plain | {"weights_sha256": file_sha256(file)}))
    with pytest.raises(FileInvalid, match="does not match its recipe"):
        load_bundle(folder)


@pytest.mark.parametrize("change", [{"format": 2}, {"frame_size": "wide"}, {"surprise": 1}])
def test_an_invalid_record_is_refused(folder: Path, change: dict[str, object]) -> None:
    record = folder / "dancer.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(FileInvalid):
        load_bundle(folder)


@pytest.mark.parametrize("missing", ["dancer.json", "generator.safetensors", "stage.png"])
def test_an_incomplete_bundle_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(FileInvalid):
        load_bundle(folder)


def test_a_new_bundle_replaces_the_old_one(folder: Path, tiny_recipe: Recipe) -> None:
    make_bundle(folder, tiny_recipe, name="bea")
    assert load_bundle(folder).dancer.name == "bea"
    assert [p.name for p in folder.parent.iterdir()] == ["ann"]
