from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.models.build import build_global
from dancedist.models.pix2pixhd import init_weights
from dancedist.recipe.schema import Recipe, RenderRecipe
from dancedist.render import network
from dancedist.render.chunk import ChunkInput, render_batch
from dancedist.render.network import GRAPHS, Bf16Net, prepared
from dancedist.render.plan import Chunk
from tests.unit.conftest import moving_poses, toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

needs_bf16 = pytest.mark.skipif(not network.has_bf16(), reason="this processor has no bf16")


def in_bf16(folder: Path, recipe: Recipe) -> Bundle:
    make_bundle(folder, recipe.model_copy(update={"render": RenderRecipe(precision="bf16")}))
    return load_bundle(folder)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = build_global(6, 3, 8, 2, 2)
    net.apply(init_weights)
    return net.eval().requires_grad_(False)


@needs_bf16
def test_bf16_output_equals_fp32_within_rounding(net: nn.Module) -> None:
    fast, x = Bf16Net(net), torch.rand(2, 6, 32, 48) * 2 - 1
    difference = (fast(x) - net(x)).abs().max()
    # A bf16 number has 8 significant bits: 1/256 of what the last layer sums.
    assert 0 < difference < 0.03 * net(x).abs().max()
    assert torch.equal(fast(x), fast(x))


@needs_bf16
def test_output_does_not_depend_on_the_batch(net: nn.Module) -> None:
    fast, x = Bf16Net(net), torch.rand(3, 6, 32, 48) * 2 - 1
    assert torch.equal(fast(x), torch.cat([fast(one[None]) for one in x]))


@needs_bf16
def test_concurrent_threads_with_different_sizes_get_their_own_output(net: nn.Module) -> None:
    fast = Bf16Net(net)
    inputs = [torch.rand(1, 6, 16 + 8 * i, 16) for i in range(GRAPHS + 1)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(fast, inputs))
    assert len(fast._graphs) == GRAPHS
    assert all(torch.equal(fast(x), output) for x, output in zip(inputs[::-1], outputs[::-1], strict=True))


@needs_bf16
def test_a_batch_renders_each_chunk_as_alone(tmp_path: Path) -> None:
    bundle, poses = in_bf16(tmp_path / "ann", toy_recipe("face")), moving_poses(12)
    chunks = [Chunk(0, 6), Chunk(6, 12, warm_up=2)]
    batched = {(i, t): p.rgb for i, t, p in render_batch(bundle, [ChunkInput(poses, chunk) for chunk in chunks])}
    for i, chunk in enumerate(chunks):
        for _, t, picture in render_batch(bundle, [ChunkInput(poses, chunk)]):
            assert np.array_equal(batched[i, t], picture.rgb)


@needs_bf16
def test_a_bundle_is_prepared_once_and_its_own_networks_stay_unchanged(tmp_path: Path) -> None:
    bundle = in_bf16(tmp_path / "ann", toy_recipe("face"))
    fast = prepared(bundle)
    assert fast is prepared(bundle) is not bundle
    assert isinstance(fast.generator.net, Bf16Net) and fast.face is not None and isinstance(fast.face.net, Bf16Net)
    assert not isinstance(bundle.generator.net, Bf16Net)
    assert fast.device == bundle.device


def test_without_bf16_it_warns_once_and_renders_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = in_bf16(tmp_path / "ann", toy_recipe())
    monkeypatch.setattr(network, "has_bf16", lambda: False)
    network._warn_once.cache_clear()
    assert prepared(bundle) is prepared(bundle) is bundle
    assert [record.message for record in caplog.records if "bf16" in record.message] == [
        "warning: this processor has no bf16: the dancer is rendered in fp32, which is slower"
    ]
    plain = replace(bundle, dancer=bundle.dancer.model_copy(update={"recipe": toy_recipe()}))
    assert prepared(plain) is plain
