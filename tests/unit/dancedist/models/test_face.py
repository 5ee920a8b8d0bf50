from __future__ import annotations

import numpy as np
import pytest
import torch

from dancedist.models.face import build_face_discriminator, build_face_generator, cut, finished, paste
from dancedist.recipe import FaceRecipe
from dancedist.skeleton import crop as numpy_crop

SMALL = FaceRecipe(pixels=16, filters=4, downsamplings=2, blocks=1, discriminator_filters=4)


def smooth(height: int = 40, width: int = 56) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return torch.stack([torch.sin(x), torch.cos(y), torch.sin(x + y)])[None] * 0.9


@pytest.mark.parametrize("box", [(10.0, 8.0, 26.0, 24.0), (9.3, 7.7, 29.3, 27.7)])
def test_cut_and_pasted_it_lies_where_it_lay(box: tuple[float, float, float, float]) -> None:
    picture, boxes = smooth(), torch.tensor([box])
    back = paste(cut(picture, boxes, 32), boxes, (56, 40))
    inside = (..., slice(12, 20), slice(14, 22))
    assert torch.allclose(back[inside], picture[inside], atol=2e-3)
    assert back[..., :5].abs().max() == 0
    # Half a pixel would show: the slope is 0.07 a pixel.
    moved = paste(cut(picture, boxes, 32), boxes + 0.5, (56, 40))
    assert (moved[inside] - picture[inside]).abs().max() > 1e-2


def test_it_cuts_as_the_film_is_cut() -> None:
    picture, box = smooth(), (9.3, 7.7, 29.3, 27.7)
    theirs = numpy_crop.cut(picture[0].permute(1, 2, 0).contiguous().numpy(), box, 32)
    ours = cut(picture, torch.tensor([box]), 32)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() < 5e-3


def test_the_residual_ends_before_the_edge() -> None:
    torch.manual_seed(0)
    generator = build_face_generator(SMALL)
    figure, face = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    full = generator(figure, face).abs()
    assert full.shape == face.shape
    ring = torch.ones(16, 16, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert full[..., ring].max() <= 0.25
    assert full[..., 8, 8].max() > 0


@pytest.mark.parametrize(("mask", "shown"), [(30.0, "its own"), (-30.0, "the generator's")])
def test_painted_over_it_is_what_the_mask_has_it(mask: float, shown: str) -> None:
    torch.manual_seed(0)
    generator = build_face_generator(SMALL.model_copy(update={"paints_over": True}))
    last = [module for module in generator.net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.5, 0.5, 0.5, mask]))
    face = torch.rand(2, 3, 16, 16)
    better = face + generator(torch.randn(2, 3, 16, 16), face)
    # Within the fade, which is two pixels wide here.
    inside = (..., slice(2, 14), slice(2, 14))
    expected = torch.tanh(torch.tensor(0.5)).expand_as(face) if shown == "its own" else face
    assert torch.allclose(better[inside], expected[inside], atol=1e-5)


def test_a_crop_is_finished_as_the_film_is() -> None:
    face, painted, detail = torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    painted[..., :2, :] = 0
    shown = finished(face, painted, detail)
    assert shown[..., :2, :].unique().tolist() == [0.5]
    assert shown[..., 2:, :].unique().tolist() == [0.0]
    assert finished(face, painted, None) is face


def test_the_papers_face_networks() -> None:
    # GlobalGenerator(6, 3, ngf=64, n_downsampling=3, n_blocks=5), one PatchGAN on six channels.
    down = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2 ** (i + 1) for i in range(3))
    up = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2**i for i in range(3))
    ends = 49 * 6 * 64 + 64 + 49 * 64 * 3 + 3
    generator = build_face_generator(FaceRecipe())
    assert sum(p.numel() for p in generator.parameters()) == down + up + ends + 10 * (9 * 512**2 + 512)
    judged = build_face_discriminator(FaceRecipe())(torch.zeros(1, 6, 128, 128))
    assert len(judged) == 1
    assert judged[0][-1].shape[1] == 1
