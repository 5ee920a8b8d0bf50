from __future__ import annotations

import torch

from dancedist.models.discriminator import Discriminator, PatchDiscriminator


def test_three_layers_judge_patches_of_70_px() -> None:
    net = PatchDiscriminator(1, 2, 3)
    # Instance norm looks at the whole picture; the patch is what the convolutions see.
    for stage in net.stages[1:-1]:
        stage[1] = torch.nn.Identity()
    x = torch.zeros(1, 1, 160, 160, requires_grad=True)
    judged = net(x)[-1]
    middle = judged.shape[-1] // 2
    judged[0, 0, middle, middle].backward()
    assert x.grad is not None
    touched = x.grad[0, 0].abs().sum(0).nonzero()
    assert int(touched.max() - touched.min()) + 1 == 70


def test_every_scale_halves_the_picture() -> None:
    judged = Discriminator(12, 4, 3, 2)(torch.randn(2, 12, 64, 96))
    assert [len(features) for features in judged] == [5, 5]
    fine, coarse = judged[0][0], judged[1][0]
    assert fine.shape == (2, 4, 33, 49)
    assert coarse.shape == (2, 4, 17, 25)


def test_channels_stop_growing_at_eight_times() -> None:
    net = PatchDiscriminator(3, 4, 5)
    assert [stage[0].out_channels for stage in net.stages[:-1]] == [4, 8, 16, 32, 32, 32]
