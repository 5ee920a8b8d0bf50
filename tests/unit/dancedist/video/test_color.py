from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from dancedist.recipe.schema import VideoRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe

MATRICES = {Colorspace.ITU601: (0.299, 0.114), Colorspace.ITU709: (0.2126, 0.0722)}
H264_TAGS = {Colorspace.ITU601: 6, Colorspace.ITU709: 1}
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [230, 190, 170], [20, 30, 60]])


def first(path):
    (frame,) = read_frames(probe(path, VideoRecipe()), 0, 1)
    assert frame is not None
    return frame


def as_yuv(rgb, matrix, full):
    """uint8 (H, W, 3) -> planar (3, H, W), by the definition (ITU-R BT.601, BT.709)."""
    kr, kb = MATRICES[matrix]
    r, g, b = (rgb[..., i] / 255 for i in range(3))
    y = kr * r + (1 - kr - kb) * g + kb * b
    pb, pr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    scale = (255, 255, 0) if full else (219, 224, 16)
    return np.rint([scale[2] + scale[0] * y, 128 + scale[1] * pb, 128 + scale[1] * pr]).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("tagged", "size"), [(True, (128, 96)), (False, (128, 96)), (False, (1280, 720))])
def test_colours_use_the_right_matrix_and_range(clip, matrix, full, tagged, size):
    standard = Colorspace.ITU601 if size[1] <= 576 else Colorspace.ITU709
    if not tagged and matrix != standard:
        pytest.skip("untagged SD is BT.601, untagged HD is BT.709")
    columns = np.arange(size[0]) * len(COLOURS) // size[0]
    picture = np.broadcast_to(COLOURS[columns], (size[1], size[0], 3)).astype(np.uint8)
    yuv = as_yuv(picture, matrix, full)

    def tags(stream):
        stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        if tagged:
            stream.codec_context.colorspace = H264_TAGS[matrix]

    def paint(_):
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv444p")
        frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        frame.colorspace = H264_TAGS[matrix] if tagged else 2
        return frame

    path = clip("a.mp4", [picture], pix_fmt="yuv444p", options={"crf": "1"}, setup=tags, paint=paint)
    got = first(path)
    for i, colour in enumerate(COLOURS):
        inside = got[10:-10, np.flatnonzero(columns == i)[3:-3]].astype(float)
        assert np.abs(inside.mean((0, 1)) - colour).max() < 2.5, (i, inside.mean((0, 1)), colour)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("libx264", "yuv422p", "a.mp4"),
        ("libx264", "yuv444p", "a.mkv"),
        ("libx264", "yuvj420p", "a.mp4"),
        ("libx265", "yuv420p10le", "a.mp4"),
        ("libx264rgb", "rgb24", "a.mkv"),
        ("ffv1", "yuv420p16le", "a.mkv"),
        ("utvideo", "gbrp", "a.avi"),
        ("ffv1", "bgra", "a.mkv"),
        ("mjpeg", "yuvj420p", "a.avi"),
        ("png", "rgb48be", "a.mov"),
    ],
)
def test_any_pixel_format_is_converted_to_rgb(clip, number, codec, pix_fmt, name):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    grey = [np.full((96, 128, 3), 90 + i, np.uint8) for i in range(3)]
    frame = first(clip(name, grey, codec=codec, pix_fmt=pix_fmt, options=options))
    assert frame.shape == (96, 128, 3)
    assert np.abs(frame.astype(float) - 90).mean() < 3


def test_decoded_colours_are_not_biased(clip):
    rng = np.random.default_rng(5)
    small = rng.integers(30, 220, (12, 16, 3)).astype(np.uint8)
    picture = cv2.resize(small, (256, 192), interpolation=cv2.INTER_CUBIC)
    path = clip("a.mp4", [picture], options={"crf": "1"})
    assert np.abs((first(path).astype(float) - picture).mean((0, 1))).max() < 0.7


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_display_matrix_is_applied_once(clip, degrees, mirrored):
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:48, :64], picture[:48, 64:], picture[48:, :64] = (220, 30, 30), (30, 220, 30), (30, 30, 220)

    def rotate(stream):
        stream.set_display_rotation(degrees, hflip=mirrored)

    path = clip("a.mp4", [picture] * 3, setup=rotate)
    # FFmpeg rotates counterclockwise, then mirrors (av_display_matrix_flip).
    rotated = np.rot90(picture, degrees // 90)
    expected = rotated[:, ::-1] if mirrored else rotated
    video = probe(path, VideoRecipe())
    assert (video.height, video.width) == expected.shape[:2]
    assert np.abs(first(path).astype(float) - expected).mean() < 6


def test_sample_aspect_stretches_the_width(clip, numbered_frame):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = clip("a.mp4", 3, setup=wide)
    expected = cv2.resize(numbered_frame(0), (171, 96), interpolation=cv2.INTER_CUBIC)
    assert first(path).shape == (96, 171, 3)
    assert np.abs(first(path).astype(float) - expected).mean() < 6
