from __future__ import annotations

import torch

from dancedist.models.pix2pixhd import Discriminator, PatchDiscriminator


def test_with_three_layers_a_logit_depends_on_70_px() -> None:
    net = PatchDiscriminator(1, 2, 3)
    # Without instance norm, which depends on the whole picture, only the convolutions' receptive field counts.
    for stage in net.stages[1:-1]:
        stage[1] = torch.nn.Identity()
    x = torch.zeros(1, 1, 160, 160, requires_grad=True)
    output = net(x)[-1]
    middle = output.shape[-1] // 2
    output[0, 0, middle, middle].backward()
    assert x.grad is not None
    columns = x.grad[0, 0].abs().sum(0).nonzero()
    assert int(columns.max() - columns.min()) + 1 == 70


def test_every_scale_halves_the_picture() -> None:
    output = Discriminator(12, 4, 3, 2)(torch.randn(2, 12, 64, 96))
    assert [len(features) for features in output] == [5, 5]
    fine, coarse = output[0][0], output[1][0]
    assert fine.shape == (2, 4, 33, 49)
    assert coarse.shape == (2, 4, 17, 25)


def test_channels_stop_growing_at_eight_times() -> None:
    net = PatchDiscriminator(3, 4, 5)
    assert [stage[0].out_channels for stage in net.stages[:-1]] == [4, 8, 16, 32, 32, 32]
