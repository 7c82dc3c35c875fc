"""Windows and tiles of any scene: nothing left out, nothing done twice, every tile as far from a cut as its halo; windows blended without seams."""
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satseg.core.errors import BadInput
from satseg.scenes.tiles import Layout, _blend_weights, _overlapping_windows, _reflect_index, _split_axis, _windows_around, _pad_window, predict_tile

whole = st.integers
quick = settings(max_examples=150, deadline=None)


@st.composite
def axes(draw):
    "(n, size, halo, multiple) that can be split."
    multiple = draw(st.sampled_from([1, 2, 4, 7, 16, 32]))
    halo = draw(whole(0, 70))
    return draw(whole(1, 1500)), 2*(-(-halo//multiple)*multiple)+multiple+draw(whole(0, 300)), halo, multiple


@quick
@given(axes())
def test_every_axis_is_split_without_gap_and_with_its_halo(axis):
    n,size,halo,multiple = axis
    blocks = _split_axis(*axis)
    starts,side = _windows_around([*pairwise(blocks)], n, halo, multiple)
    assert blocks[0] == 0 and blocks[-1] == n and len(blocks) == len(starts)+1 and blocks == sorted(set(blocks))
    assert side <= size and side % multiple == 0 and all(o % multiple == 0 for o in starts) and starts[0] == 0
    for start,first,end in zip(starts, blocks, blocks[1:]):
        assert start <= first and end <= start+side and start < n
        assert start == 0 or first-start >= halo
        assert start+side >= n or start+side-end >= halo
    assert starts[-1]+side == -(-n//multiple)*multiple or len(starts) == 1  # No more padding than the net itself does


def smooth(x, r):
    "Mean over (2r+1)^2 pixels, zeros outside: what a net with padding does."
    p = np.pad(x, ((0,0), (r,r), (r,r)))
    return sum(p[:, i:i+x.shape[1], j:j+x.shape[2]] for i in range(2*r+1) for j in range(2*r+1))


@settings(max_examples=60, deadline=None)
@given(whole(1, 90), whole(1, 90), whole(0, 3), st.sampled_from([1, 2, 5]), whole(0, 40), whole(0, 9))
def test_tiles_put_together_are_the_whole(height, width, halo, multiple, more, seed):
    x = np.random.default_rng(seed).random((1, height, width))
    layout = Layout(height, width, 2*(-(-halo//multiple)*multiple)+multiple+more, halo, multiple)
    cells = [-(-o//multiple)*multiple for o in (height, width)]
    want,got = smooth(_pad_window(x, *cells), halo)[0, :height, :width],np.full((height, width), np.nan)
    order = [layout.tile(i)[:2] for i in range(len(layout))]
    assert order == sorted(order)
    for i in range(len(layout)):
        (row,col,h,w),(y,u,m,n) = layout.tile(i),layout.window(i)
        assert 0 <= y <= row and row+h <= y+m <= height and 0 <= u <= col and col+w <= u+n <= width
        assert np.isnan(got[row:row+h, col:col+w]).all()
        part = smooth(_pad_window(x[:, y:y+m, u:u+n], layout.tall, layout.wide), halo)[0]
        got[row:row+h, col:col+w] = part[row-y:row-y+h, col-u:col-u+w]
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert layout.overhead >= 1


@pytest.mark.parametrize('n', [-1, 10**6])
def test_no_such_tile(n):
    with pytest.raises(IndexError): Layout(50, 50, 20).tile(n)


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (-1, 5)])
def test_no_scene_at_all(shape):
    with pytest.raises(BadInput, match='one pixel or more'): Layout(*shape, 20)


def test_too_small_for_the_halo():
    with pytest.raises(BadInput, match='allow more memory'): Layout(500, 500, 99, 48, 4)
    assert len(Layout(500, 500, 100, 48, 4)) > 1
    assert len(Layout(90, 90, 92, 48, 4)) == 1  # All of it in one window needs no halo


@quick
@given(whole(1, 40), whole(0, 120))
def test_padding_is_a_mirror(n, more):
    idx = _reflect_index(n, n+more)
    assert (idx[:n] == np.arange(n)).all() and 0 <= idx.min() and idx.max() < n
    if 0 < more < n: assert (idx[n:] == np.arange(n-2, n-2-more, -1)).all()
    if n == 1: assert not idx.any()


def test_padding_is_that_of_the_nets():
    torch = pytest.importorskip('torch')
    from satseg.models.unet import pad_to_multiple
    for h,w,k in ((1, 1, 16), (1, 33, 16), (30, 5, 32), (64, 32, 32)):
        x = np.random.default_rng(0).random((2, 3, h, w), np.float32)
        want = pad_to_multiple(torch.from_numpy(x), k).numpy()
        assert np.array_equal(_pad_window(x, *want.shape[2:]), want)


# Windows that are blended

@quick
@given(whole(1, 900), whole(1, 200), st.sampled_from([1, 2, 16, 32]))
def test_overlapping_windows_reach_both_ends(n, size, multiple):
    starts,side = _overlapping_windows(n, size, multiple)
    padded = -(-n//multiple)*multiple
    assert starts[0] == 0 and starts[-1]+side == padded and all(o % multiple == 0 for o in starts)
    assert all(0 < b-a <= side for a,b in zip(starts, starts[1:])) and side <= max(-(-size//multiple), 2)*multiple
    assert (_blend_weights(side) > 0).all() and _blend_weights(side).max() <= 1


def centred(x): return x-x.mean((2, 3), keepdims=True) # A net with global pooling: less the mean of its window


@settings(max_examples=40, deadline=None)
@given(whole(1, 70), whole(1, 70), whole(2, 40), st.sampled_from([1, 4]), whole(1, 60), whole(1, 60), whole(0, 9))
def test_blending_knows_no_tiles(height, width, size, multiple, tall, wide, seed):
    x = np.random.default_rng(seed).random((2, height, width)).astype(np.float32)
    def read(o): return x[:, o[0]:o[0]+o[2], o[1]:o[1]+o[3]]
    def part(*tile): return predict_tile(centred, Layout(height, width, 0, None, multiple, size, tile), 0, read, batch=1+seed)
    want = part(0, 0, height, width)
    for row in range(0, height, tall):
        for col in range(0, width, wide):
            h,w = min(tall, height-row),min(wide, width-col)
            np.testing.assert_array_equal(part(row, col, h, w), want[:, row:row+h, col:col+w])


@pytest.mark.parametrize('shape', [(1, 1), (1, 53), (31, 2), (64, 64), (47, 53)])
def test_constant_in_constant_out(shape):
    layout = Layout(*shape, 0, None, 4, 16, (0, 0, *shape))
    got = predict_tile(lambda x: x+.625, layout, 0, lambda o: np.zeros((1, *o[2:]), np.float32))
    np.testing.assert_allclose(got, .625, atol=1e-6)


@quick
@given(whole(1, 90), whole(1, 90), whole(0, 3), st.sampled_from([1, 2, 5]), whole(0, 9))
def test_a_tile_anywhere_is_that_of_the_whole(height, width, halo, multiple, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((1, height, width))
    row,col = int(rng.integers(height)),int(rng.integers(width))
    h,w = int(rng.integers(1, height-row+1)),int(rng.integers(1, width-col+1))
    want = smooth(_pad_window(x, *(-(-o//multiple)*multiple for o in (height, width))), halo)[:, :height, :width]
    layout = Layout(height, width, 0, halo, multiple, tile=(row, col, h, w))
    got = predict_tile(lambda x: smooth(x[0], halo)[None], layout, 0, lambda o: x[:, o[0]:o[0]+o[2], o[1]:o[1]+o[3]])
    np.testing.assert_allclose(got, want[:, row:row+h, col:col+w], atol=1e-12)
