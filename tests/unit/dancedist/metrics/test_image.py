from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dancedist.metrics.crop import crop_slices
from dancedist.metrics.image import PSNR_CAP_DB, psnr, ssim
from dancedist.metrics.lpips import Lpips


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    added = picture + np.random.default_rng(5).normal(0, sigma, picture.shape)
    return np.clip(np.round(added), 0, 255).astype(np.uint8)


edges = st.floats(-50, 150, allow_nan=False)


@given(edges, edges, edges, edges)
def test_a_window_covers_its_box_inside_the_picture(x0: float, y0: float, x1: float, y1: float) -> None:
    crop = crop_slices((x0, y0, x1, y1), height=80, width=100)
    if crop is None:
        assert min(x1, 100) - max(x0, 0) <= 11 or min(y1, 80) - max(y0, 0) <= 11
        return
    rows, columns = crop
    assert rows.start <= max(y0, 0) < rows.start + 1
    assert rows.stop >= min(y1, 80) > rows.stop - 1
    assert columns.start <= max(x0, 0) < columns.start + 1
    assert columns.stop >= min(x1, 100) > columns.stop - 1


def test_no_box_has_no_window() -> None:
    assert crop_slices(None, 80, 100) is None
    assert crop_slices((float("nan"), 0, 50, 50), 80, 100) is None
    assert crop_slices((200, 0, 300, 50), 80, 100) is None


def test_equal_pictures() -> None:
    a = noise((2, 40, 30, 3))
    assert ssim(a, a) == pytest.approx([1, 1], abs=1e-6)
    assert psnr(a, a).tolist() == [PSNR_CAP_DB] * 2


def test_psnr_of_a_known_difference() -> None:
    a = np.full((1, 20, 20, 3), 100, np.uint8)
    assert psnr(a, a + np.uint8(10)) == pytest.approx([20 * np.log10(25.5)])


def test_ssim_and_psnr_equal_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, b = noise((3, 37, 52, 3), 1), noise((3, 37, 52, 3), 2)
    b[1] = noisy(a[1], 20)
    b[2] = cv2.GaussianBlur(a[2], (0, 0), 2)
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2).float() for p in (a, b))
    expected = structural_similarity_index_measure(x, y, data_range=255.0, reduction="none")
    assert ssim(a, b) == pytest.approx(expected.numpy(), abs=1e-5)
    expected = peak_signal_noise_ratio(x, y, data_range=255.0, reduction="none", dim=(1, 2, 3))
    assert psnr(a, b) == pytest.approx(expected.numpy(), abs=1e-4)


def test_more_noise_lowers_similarity(texture: np.ndarray, lpips: Lpips) -> None:
    noisier = np.stack([noisy(texture, sigma) for sigma in (2, 5, 10, 20, 40)])
    same = np.broadcast_to(texture, noisier.shape)
    assert (np.diff(ssim(same, noisier)) < 0).all()
    assert (np.diff(psnr(same, noisier)) < 0).all()
    assert (np.diff(lpips(same, noisier)) > 0).all()


def test_lpips_of_equal_pictures_is_zero(lpips: Lpips) -> None:
    a = noise((2, 70, 90, 3))
    assert lpips(a, a).tolist() == [0, 0]
    assert lpips(a[:0], a[:0]).shape == (0,)


def test_lpips_does_not_depend_on_the_batch(lpips: Lpips) -> None:
    a, b = noise((18, 64, 64, 3), 1), noise((18, 64, 64, 3), 2)
    one_by_one = [float(lpips(a[i : i + 1], b[i : i + 1])[0]) for i in range(18)]
    assert lpips(a, b) == pytest.approx(one_by_one, rel=1e-4)


def test_lpips_of_a_small_crop_equals_that_of_the_enlarged_crop(lpips: Lpips) -> None:
    a, b = noise((1, 32, 40, 3), 1), noise((1, 32, 40, 3), 2)
    enlarged = [cv2.resize(p[0], (80, 64), interpolation=cv2.INTER_LINEAR)[None] for p in (a, b)]
    assert lpips(a, b) == pytest.approx(lpips(*enlarged), rel=0.02)
    assert lpips(a, b)[0] > 0.01


def reference_lpips(backbone: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """torchmetrics' own LPIPS with our backbone in place of torchvision's."""
    from torchmetrics.functional.image import lpips as reference

    pool, convolutions = nn.MaxPool2d(3, 2), [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]
    layers: dict[int, nn.Module] = {i: nn.ReLU() for i in (1, 4, 7, 9, 11)} | {2: pool, 5: pool}
    for i, stride, padding in convolutions:
        weight = backbone[f"features.{i}.weight"].float()
        layers[i] = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
        layers[i].load_state_dict({"weight": weight, "bias": backbone[f"features.{i}.bias"].float()})
    net = nn.Sequential(*(layers[i] for i in range(12)))
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_, **__: net)
    return reference._LPIPS(net="alex")


def assert_equals_torchmetrics(backbone: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = noise((3, 80, 72, 3), 1), noise((3, 80, 72, 3), 2)
    b[1] = noisy(a[1], 20)
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255 for p in (a, b))
    with torch.inference_mode():
        expected = reference_lpips(backbone, monkeypatch)(x, y, normalize=True).flatten().numpy()
    assert Lpips(backbone)(a, b) == pytest.approx(expected, rel=1e-4)
    assert expected[1] < expected[0]


def test_lpips_equals_torchmetrics(backbone: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equals_torchmetrics(backbone, monkeypatch)


@pytest.mark.footage
def test_lpips_equals_torchmetrics_with_real_weights(shared_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equals_torchmetrics(torch.load(shared_weights / "alexnet_features_fp16.pth", weights_only=True), monkeypatch)


def test_a_wrong_backbone_is_refused(backbone: dict[str, torch.Tensor]) -> None:
    with pytest.raises(RuntimeError, match=r"10\.weight"):
        Lpips({k: v for k, v in backbone.items() if "10" not in k})
