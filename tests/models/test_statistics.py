"Guards for satseg.models.statistics."
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.models.statistics import BandStats, band_stats, normalise

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_band_stats_equal_numpy(sizes, shift, seed):
    rng = np.random.default_rng(seed)
    images = [rng.normal(shift, 10, (h, w, 2)).astype(np.float32) for h, w in sizes]
    got, every = band_stats(Chips(images, bands='ab')), np.concatenate([i.reshape(-1, 2) for i in images]).astype(float)
    assert got.bands == ['a', 'b'] and all(type(o) is float for o in got.mean+got.std)
    assert np.allclose(got.mean, every.mean(0), rtol=1e-9, atol=1e-9) and np.allclose(got.std, every.std(0), rtol=1e-6, atol=1e-6)


def test_band_stats_look_at_the_training_part_only():
    assert band_stats(CHIPS[:2]) == band_stats(Chips(IMAGES[:2])) != band_stats(CHIPS)
    with pytest.raises(BadInput, match='at least one chip'): band_stats(CHIPS[[]])


def test_normalise_there_and_back():
    stats = BandStats(['a', 'b'], [100., 2000.], [10., 500.])
    x = RNG.uniform(0, 3000, (4, 2, 5, 6)).astype(np.float32)
    z = normalise(x, stats)
    mean, std = (np.array(o)[:, None, None] for o in (stats.mean, stats.std))
    assert z.dtype == np.float32 and np.allclose(z*std+mean, x, atol=1e-2)
    assert np.array_equal(normalise(x[0], stats), z[0])
    t = normalise(torch.from_numpy(x), stats)
    assert t.dtype == torch.float32 and torch.allclose(t, torch.from_numpy(z), atol=1e-5)
    for o in (torch.uint8, torch.int16, torch.float64): assert normalise(torch.ones(2, 3, 3, dtype=o), stats).dtype == torch.float32
    assert np.array_equal(normalise(x.astype('>f8'), stats), z)


def test_a_constant_band_is_zero_not_nan():
    stats = band_stats(Chips([np.full((2, 2, 1), 7)], bands='a'))
    assert stats.std == [0.] and not normalise(np.full((1, 2, 2), 7.), stats).any()


@pytest.mark.parametrize('shape', [(3, 4, 4), (2, 2), (1, 1, 2, 4, 4), (4, 4, 2)])
def test_normalise_refuses_other_shapes(shape):
    with pytest.raises(BadInput, match='with 2 bands'): normalise(np.zeros(shape), BandStats(['a', 'b'], [0., 0.], [1., 1.]))
