import numpy as np

from dancedist.video.montage import side_by_side


def test_frames_are_scaled_to_one_height_and_keep_their_aspect():
    tall, wide = np.full((100, 50, 3), 40, np.uint8), np.full((50, 80, 3), 200, np.uint8)
    row = side_by_side([tall, wide], gap_px=4)
    assert row.shape == (100, 50 + 4 + 160, 3)
    assert (row[:, :50] == 40).all()
    assert (row[:, 50:54] == 0).all()
    assert (row[:, 54:] == 200).all()


def test_the_height_can_be_given():
    assert side_by_side([np.zeros((100, 50, 3), np.uint8)] * 3, height_px=40, gap_px=0).shape == (40, 60, 3)
