from __future__ import annotations

import numpy as np
import pytest
import torch

from dancedist.models.face import (
    add_background_detail,
    build_face_discriminator,
    build_face_generator,
    crop_square,
    paste_square,
)
from dancedist.recipe.schema import FaceRecipe
from dancedist.skeleton import crop as numpy_crop

SMALL = FaceRecipe(pixels=16, filters=4, downsamplings=2, blocks=1, discriminator_filters=4)


def smooth(height: int = 40, width: int = 56) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return torch.stack([torch.sin(x), torch.cos(y), torch.sin(x + y)])[None] * 0.9


@pytest.mark.parametrize("box", [(10.0, 8.0, 26.0, 24.0), (9.3, 7.7, 29.3, 27.7)])
def test_a_pasted_crop_is_at_its_original_position(box: tuple[float, float, float, float]) -> None:
    picture, boxes = smooth(), torch.tensor([box])
    back = paste_square(crop_square(picture, boxes, 32), boxes, (56, 40))
    inside = (..., slice(12, 20), slice(14, 22))
    assert torch.allclose(back[inside], picture[inside], atol=2e-3)
    assert back[..., :5].abs().max() == 0
    # A shift of half a pixel would be detected: the slope is 0.07 per pixel.
    shifted = paste_square(crop_square(picture, boxes, 32), boxes + 0.5, (56, 40))
    assert (shifted[inside] - picture[inside]).abs().max() > 1e-2


def test_it_crops_like_the_numpy_version() -> None:
    picture, box = smooth(), (9.3, 7.7, 29.3, 27.7)
    expected = numpy_crop.crop_box(picture[0].permute(1, 2, 0).contiguous().numpy(), box, 32)
    cropped = crop_square(picture, torch.tensor([box]), 32)[0].permute(1, 2, 0).numpy()
    assert np.abs(cropped - expected).max() < 5e-3


def test_the_residual_fades_out_at_the_edge() -> None:
    torch.manual_seed(0)
    generator = build_face_generator(SMALL)
    figure, face = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    residual = generator(figure, face).abs()
    assert residual.shape == face.shape
    ring = torch.ones(16, 16, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert residual[..., ring].max() <= 0.25
    assert residual[..., 8, 8].max() > 0


@pytest.mark.parametrize(("mask", "visible"), [(30.0, "its own"), (-30.0, "the generator's")])
def test_the_mask_chooses_between_new_and_generated_face(mask: float, visible: str) -> None:
    torch.manual_seed(0)
    generator = build_face_generator(SMALL.model_copy(update={"predicts_mask": True}))
    last = [module for module in generator.net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.5, 0.5, 0.5, mask]))
    face = torch.rand(2, 3, 16, 16)
    refined = face + generator(torch.randn(2, 3, 16, 16), face)
    # Within the fade, which is two pixels wide here.
    inside = (..., slice(2, 14), slice(2, 14))
    expected = torch.tanh(torch.tensor(0.5)).expand_as(face) if visible == "its own" else face
    assert torch.allclose(refined[inside], expected[inside], atol=1e-5)


def test_background_detail_is_added_where_the_background_shows() -> None:
    face, alpha, detail = torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    alpha[..., :2, :] = 0
    visible = add_background_detail(face, alpha, detail)
    assert visible[..., :2, :].unique().tolist() == [0.5]
    assert visible[..., 2:, :].unique().tolist() == [0.0]
    assert add_background_detail(face, alpha, None) is face


def test_the_papers_face_networks() -> None:
    # GlobalGenerator(6, 3, ngf=64, n_downsampling=3, n_blocks=5), one PatchGAN on six channels.
    down = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2 ** (i + 1) for i in range(3))
    up = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2**i for i in range(3))
    stem_and_head = 49 * 6 * 64 + 64 + 49 * 64 * 3 + 3
    generator = build_face_generator(FaceRecipe())
    assert sum(p.numel() for p in generator.parameters()) == down + up + stem_and_head + 10 * (9 * 512**2 + 512)
    features = build_face_discriminator(FaceRecipe())(torch.zeros(1, 6, 128, 128))
    assert len(features) == 1
    assert features[0][-1].shape[1] == 1
