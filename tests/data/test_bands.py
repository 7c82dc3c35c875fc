"Guards for satseg.data.bands: true colour."
import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.data.bands import true_colour
from satseg.data.chips import Chips

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_true_colour_whatever_the_order(order):
    image, bands = CHIPS[0].image, CHIPS.bands
    got = true_colour(image[list(order)], [bands[i] for i in order])
    assert got.dtype == np.uint8 and got.shape == (6, 8, 3) and np.array_equal(got, true_colour(image, bands))


def test_true_colour_puts_red_first():
    image = np.zeros((4, 1, 2), np.float32)
    image[2] = 100  # B04 of four
    assert true_colour(image, ('B02', 'B03', 'B04', 'B08'), 0, 100)[0, 0].tolist() == [255, 0, 0]
    assert true_colour(image, ('Blue', 'green', 'RED', 'nir'), 0, 100)[0, 0].tolist() == [255, 0, 0]


def test_true_colour_stretch():
    image = np.repeat(np.arange(100.).reshape(1, 10, 10), 3, 0)
    got = true_colour(image, ('B02', 'B03', 'B04'))
    assert (got == 0).sum() == 9 and (got == 255).sum() == 9 and 120 < got[5, 0, 0] < 135
    assert np.array_equal(true_colour(image*30, ('B02', 'B03', 'B04')), got)  # no matter what unit
    assert true_colour(image/1e4, ('B02', 'B03', 'B04')).std() > 60  # reflectance


def test_true_colour_of_odd_images():
    grey = true_colour(np.arange(4.).reshape(1, 2, 2), ['B08'], 0, 3)
    assert (grey[..., 0] == grey[..., 2]).all() and grey[1, 1, 0] == 255
    assert true_colour(np.zeros((2, 3, 3)), ['B08', 'B11']).shape == (3, 3, 3)
    assert not true_colour(np.zeros((1, 3, 3)), ['B08']).any()
    holes = np.full((1, 3, 3), np.nan)
    assert not true_colour(holes, ['B08']).any()
    holes[0, 0] = 0, 1, 2
    assert true_colour(holes, ['B08']).max() == 255
    with pytest.raises(BadInput, match=r'expected \(2,H,W\)'): true_colour(np.zeros((3, 2, 2)), ['a', 'b'])
