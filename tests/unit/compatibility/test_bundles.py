"""Dancers of the first release load, and render the same frames as then."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.processor import has_bf16
from dancedist.render.film import as_danced_by, render_frames
from tests.unit.conftest import FIXTURES

BUNDLES = FIXTURES / "bundles"
NAMES = ("quick", "fast", "paper", "frame_by_frame")


@pytest.fixture(scope="module")
def source() -> PoseSequence:
    return read_poses(BUNDLES / "poses.parquet")


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    recipe = bundle.dancer.recipe
    render = recipe.render.model_copy(update={"precision": precision})
    recipe = recipe.model_copy(update={"render": render})
    return replace(bundle, dancer=bundle.dancer.model_copy(update={"recipe": recipe}))


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_renders_the_same_frames(name: str, source: PoseSequence) -> None:
    bundle = with_precision(load_bundle(BUNDLES / name), "fp32")
    expected = np.cumsum(np.load(BUNDLES / f"{name}.frames.npz")["frames"], axis=0, dtype=np.uint8)
    frames = np.stack([*islice(render_frames(bundle, as_danced_by(bundle, source)), len(expected))])
    # Rounding differs between CPUs, by one level in some pixels.
    difference = np.abs(frames.astype(int) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.05


@pytest.mark.skipif(not has_bf16(), reason="the processor has no bf16")
def test_a_bundle_renders_the_same_frames_in_bf16(source: PoseSequence) -> None:
    bundle = load_bundle(BUNDLES / "fast")
    assert bundle.dancer.recipe.render.precision == "bf16"
    expected = np.cumsum(np.load(BUNDLES / "fast.frames.npz")["frames_bf16"], axis=0, dtype=np.uint8)
    frames = np.stack([*islice(render_frames(bundle, as_danced_by(bundle, source)), len(expected))])
    assert np.abs(frames.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_written_unchanged(name: str) -> None:
    text = (BUNDLES / name / "dancer.json").read_text()
    assert load_bundle(BUNDLES / name).dancer.model_dump_json(indent=2) + "\n" == text


def test_poses_are_retargeted_as_before(source: PoseSequence) -> None:
    danced, expected = as_danced_by(load_bundle(BUNDLES / "quick"), source), read_poses(BUNDLES / "danced.parquet")
    assert danced.fingerprint == expected.fingerprint
    assert np.allclose(danced.xy, expected.xy, atol=1e-3, equal_nan=True)


def test_stored_poses_are_read() -> None:
    poses, arrays = read_poses(FIXTURES / "poses" / "poses.parquet"), np.load(FIXTURES / "poses" / "poses.npz")
    assert np.array_equal(poses.xy, arrays["xy"], equal_nan=True) and np.array_equal(poses.score, arrays["score"])
