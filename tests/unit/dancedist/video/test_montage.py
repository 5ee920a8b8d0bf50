import numpy as np

from dancedist.video.montage import beside


def test_pictures_come_to_one_height_and_keep_their_aspect():
    tall, wide = np.full((100, 50, 3), 40, np.uint8), np.full((50, 80, 3), 200, np.uint8)
    row = beside([tall, wide], gap_px=4)
    assert row.shape == (100, 50 + 4 + 160, 3)
    assert (row[:, :50] == 40).all()
    assert (row[:, 50:54] == 0).all()
    assert (row[:, 54:] == 200).all()


def test_a_height_may_be_given():
    assert beside([np.zeros((100, 50, 3), np.uint8)] * 3, height_px=40, gap_px=0).shape == (40, 60, 3)
