"""Guards for satseg.data: chips, statistics, splits, pictures. Reading hostile pickles has its own file, test_pickle.py."""
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput, preview
from satseg.core.display import IGNORE, class_colours, overlay, show_pictures
from satseg.data.bands import true_colour
from satseg.data.arrays import Cache
from satseg.data.chips import Chip, Chips, show_chips
from satseg.data.pickles import load_pickle, save_pickle
from satseg.data.splits import class_shares, split_groups
from satseg.models.statistics import BandStats, band_stats, normalise

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


class Lazy:
    "A reader that makes its arrays when asked, and counts."
    def __init__(self, n): self.n, self.asked = n, []
    def __len__(self): return self.n

    def __getitem__(self, i):
        self.asked.append(i)
        return np.full((4, 4, 3), i)


# Chips
def test_any_number_type_comes_out_as_float32():
    for i, chip in enumerate(CHIPS):
        assert isinstance(chip, Chip) and chip.name == f'chip[{i}]'
        assert chip.image.dtype == np.float32 and chip.mask.dtype == np.uint8 and chip.image.flags.c_contiguous
        assert np.array_equal(chip.image, IMAGES[i].transpose(2, 0, 1)) and np.array_equal(chip.mask, MASKS[i])


def test_a_chip_is_its_own_copy():
    images = [np.zeros((2, 2, 3), np.float32)]
    chips = Chips(images, [np.zeros((2, 2), np.uint8)])
    chips[0].image[:], chips[0].mask[:] = 9, 9
    assert images[0].sum() == 0 and chips[0].mask.sum() == 0
    torch.from_numpy(chips[0].image)  # writable: no warning


def test_nothing_is_read_before_it_is_taken():
    lazy = Lazy(100)
    chips = Chips(lazy)[10:50][::2][[3, 0]]
    assert lazy.asked == [] and len(chips) == 2
    assert chips[0].image[0, 0, 0] == 16 and lazy.asked == [16]
    assert chips.names == ['chip[16]', 'chip[10]'] and [o.name for o in chips] == chips.names


def test_picking():
    flags = np.array([True, False, False, True, True])
    for got, want in [(CHIPS[1:3], [1, 2]), (CHIPS[[4, 0]], [4, 0]), (CHIPS[(2, 2)], [2, 2]), (CHIPS[flags], [0, 3, 4]), (CHIPS[::-1], [4, 3, 2, 1, 0]),
                      (CHIPS[[]], []), (CHIPS[np.array([1])], [1]), (CHIPS[[-1]], [4]), (CHIPS[1:][1:][[0]], [2])]:
        assert isinstance(got, Chips) and got.names == [f'chip[{i}]' for i in want]
        assert all(np.array_equal(o.image, CHIPS[i].image) for o, i in zip(got, want))
    assert CHIPS[-1].name == 'chip[4]' == CHIPS[np.int64(4)].name
    with pytest.raises(IndexError): CHIPS[5]
    with pytest.raises(IndexError): CHIPS[[5]]


def test_one_stacked_array_will_do():
    assert np.array_equal(Chips(np.arange(24).reshape(2, 2, 2, 3))[1].image[0], [[12, 15], [18, 21]])


def test_a_reader_that_breaks_does_not_end_the_loop_silently():
    class Broken(Lazy):
        def __getitem__(self, i): raise IndexError('reader broke')
    with pytest.raises(IndexError, match='reader broke'): list(Chips(Broken(3)))


def test_without_masks():
    chips = Chips(IMAGES)
    assert not chips.has_masks and chips[0].mask is None and not chips[1:].has_masks and 'no masks' in repr(chips)


def test_chips_travel_to_worker_processes():
    got = pickle.loads(pickle.dumps(CHIPS[1:]))
    assert np.array_equal(got[0].image, CHIPS[1].image) and got.names == CHIPS[1:].names


@pytest.mark.parametrize('kw,words', [
    (dict(masks=MASKS[:2]), '5 images and 2 masks'),
    (dict(names=['a']), '5 images and 1 names'),
    (dict(classes=()), 'expected 1 to 255 classes, got 0'),
    (dict(classes=range(256)), 'expected 1 to 255 classes, got 256')])
def test_chips_that_do_not_fit(kw, words):
    with pytest.raises(BadInput, match=words): Chips(IMAGES, **kw)


def test_a_bad_value_names_the_entry():
    images = [np.ones((4, 4, 3)) for _ in range(3)]
    images[2][1, 1, 1] = np.nan
    with pytest.raises(BadInput, match=r'^a.pickle: train\[2\]: image: 1 of 48 values are NaN or infinite \(first in band B03\)'):
        list(Chips(images, names=[f'train[{i}]' for i in range(3)], source='a.pickle'))
    assert len(list(Chips(images)[:2])) == 2


def test_255_in_a_two_class_mask():
    image = [np.zeros((1, 3, 3))]
    assert Chips(image, [np.array([[0, 1, 255]])])[0].mask.tolist() == [[0, 1, 255]]
    for vals in ([0, 255, 255], [255]*3):
        with pytest.raises(BadInput, match='mask//255'): Chips(image, [np.array([vals])])[0]
        assert Chips(image, [np.array([vals])], has_ignore=True)[0].mask.tolist() == [vals]
        assert Chips(image, [np.array([vals])], classes='abc')[0].mask.tolist() == [vals]


def test_shown_is_short():
    nested = []
    for _ in range(100): nested = [nested, nested]
    for o in (nested, 'x'*10**6, 10**9999, b'x'*10**6, np.zeros(10**6), {1: nested}, '\n'*99): assert len(preview(o)) < 130 and '\n' not in preview(o)


def test_joined_piles_must_agree():
    assert len(CHIPS + CHIPS[:2]) == 7 and (CHIPS + CHIPS).has_ignore is False
    for kw in (dict(bands=('B04', 'B03', 'B02')), dict(classes=('land', 'ship')), dict(has_ignore=True), dict(masks=None)):
        with pytest.raises(BadInput, match=f'same {next(iter(kw)).replace("masks", "has_masks")}'): CHIPS + Chips(IMAGES, **{'masks': MASKS, **kw})
    white = [np.where(m > 0, 255, 0) for m in MASKS]  # refused alone, so refused beside a pile in which 255 means unknown
    with pytest.raises(BadInput, match='same has_ignore'): Chips(IMAGES, MASKS, has_ignore=True) + Chips(IMAGES, white)


def test_cut_decodes_nothing_that_a_header_tells():
    made = []
    images = Cache(lambda i: made.append(i) or np.full((8, 8, 3), i), 50, 0, size=lambda i: (8, 8))
    windows = Chips(images).cut(4)
    assert len(windows) == 200 and made == []
    assert windows.images[7].max() == 1 and made == [1]


def test_cut_reads_no_mask_before_its_window():
    masks = Lazy(3)
    windows = Chips([np.zeros((4, 4, 3))]*3, masks).cut(2)
    assert len(windows) == 12 and masks.asked == []


def test_cache_counts_right_from_many_threads():
    def make(i):
        time.sleep(1e-4)
        return np.zeros(1000, np.uint8)
    cache = Cache(make, 30, 20000)
    def work(seed):
        for i in np.random.default_rng(seed % 2).integers(0, 30, 150): cache[i]
    with ThreadPoolExecutor(8) as pool: list(pool.map(work, range(8)))
    assert cache.bytes == sum(o.nbytes for o in cache.kept.values()) == 20000


# Files
def test_save_and_load(tmp_path):
    path = tmp_path/'a.pickle'
    save_pickle(path, {'train': CHIPS[:3], 'val': CHIPS[3:]})
    parts = load_pickle(path)
    for name, chips in (('train', CHIPS[:3]), ('val', CHIPS[3:])):
        assert parts[name].names == [f'{name}[{i}]' for i in range(len(chips))]
        for i in range(len(chips)):
            got, want = parts[name].raw(i), chips.raw(i)
            assert all(np.array_equal(g, w) for g, w in zip(got, want))
    plain = pickle.loads(path.read_bytes())  # anybody can read it
    assert list(plain) == ['train', 'val'] and plain['train'][1]['image'].dtype == np.uint16


def test_names_of_bands_and_classes_come_back(tmp_path):
    path = tmp_path/'a.pickle'
    chips = Chips(IMAGES, MASKS, 'RGB', ('sea', 'ship'), groups=list('aabbc'), colours=[(1, 2, 3), (4, 5, 6)], has_ignore=True)
    save_pickle(path, dict(train=chips, val=chips[:1]))
    for got in load_pickle(path, classes=('background', 'building')).values():
        assert got.bands == ('R', 'G', 'B') and got.classes == ('sea', 'ship') and got.colours == chips.colours and got.has_ignore
        assert got.groups == chips.groups[:len(got)]
        assert np.array_equal(true_colour(got[0].image, got.bands), true_colour(chips[0].image, chips.bands))
    got = load_pickle(path, bands='BR')['train']
    assert got.bands == ('B', 'R') and np.array_equal(got[1].image, chips[1].image[[2, 0]])
    with pytest.raises(BadInput, match='a.pickle: expected bands out of R,G,B, got B02,B03,B04'): load_pickle(path, bands=('B02', 'B03', 'B04'))


@pytest.mark.parametrize('about', [7, [], {'bands': 'RGB'}, dict(bands=['a', 'b', 'c'], classes=['a', 3], colours=[], has_ignore=False),
    dict(bands=['a\n', 'b', 'c'], classes=['a', 'b'], colours=[(0, 0, 0)]*2, has_ignore=False), dict(bands=['a', 'b', 'c'], classes=['a', 'b'], colours=[9], has_ignore=False),
    dict(bands=np.zeros(3), classes=['a', 'b'], colours=[], has_ignore=False)])
def test_a_damaged_about_is_one_line(about, tmp_path):
    path = tmp_path/'a.pickle'
    good = dict(bands=list('abc'), classes=['a', 'b'], colours=[(0, 0, 0)]*2, has_ignore=False)
    path.write_bytes(pickle.dumps([dict(image=IMAGES[0], about=o) for o in (good, about)]))
    with pytest.raises(BadInput, match="a.pickle: .*'about'"): load_pickle(path)


def test_save_lists_and_images_alone(tmp_path):
    path = tmp_path/'a.pickle'
    save_pickle(path, {'all': Chips(Lazy(2))})
    assert [list(o) for o in pickle.loads(path.read_bytes())] == [['image', 'about']]*2
    got = load_pickle(path)['all']
    assert not got.has_masks and got[1].image.max() == 1


def test_a_broken_save_leaves_the_old_file(tmp_path):
    path = tmp_path/'a.pickle'
    path.write_text('old')
    with pytest.raises(BadInput, match="'train' and 'val'"): save_pickle(path, {'train': CHIPS})
    class Unpicklable(Lazy):
        def __getitem__(self, i): return np.array([lambda: 0])
    with pytest.raises(Exception): save_pickle(path, {'all': Chips(Unpicklable(1))})
    assert [o.name for o in tmp_path.iterdir()] == ['a.pickle'] and path.read_text() == 'old'


def test_bands_and_classes_are_the_callers(tmp_path):
    path = tmp_path/'a.pickle'
    path.write_bytes(pickle.dumps([dict(image=np.zeros((2, 2, 1)), mask=np.full((2, 2), 2))]))
    got = load_pickle(path, bands=['B08'], classes=['ground', 'road', 'water'])['all']
    assert got.bands == ('B08',) and got.classes == ('ground', 'road', 'water') and got[0].mask.max() == 2


# Statistics
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


def test_class_shares():
    shares = class_shares(CHIPS)
    assert list(shares) == ['background', 'building'] and shares['building'] == pytest.approx(np.concatenate([m.ravel() for m in MASKS]).mean())
    with pytest.raises(BadInput, match='masks'): class_shares(Chips(IMAGES))
    with pytest.raises(BadInput, match='labelled pixels'): class_shares(Chips([np.zeros((1, 1, 3))], [np.array([[IGNORE]])], has_ignore=True))


# Splits
@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from('abcdefgh'), max_size=40), st.floats(.01, .99), st.integers(0, 5))
def test_no_group_on_both_sides(groups, share, seed):
    if len(set(groups)) < 2:
        with pytest.raises(BadInput, match='at least 2 groups'): split_groups(groups, share, seed)
        return
    train, valid = split_groups(groups, share, seed)
    assert sorted(train+valid) == list(range(len(groups))) and train and valid
    assert not {groups[i] for i in train} & {groups[i] for i in valid}
    sizes, sums = [groups.count(g) for g in set(groups)], {0}
    for o in sizes: sums |= {s+o for s in sums}
    assert abs(len(valid)-share*len(groups)) == pytest.approx(min(abs(s-share*len(groups)) for s in sums-{0, len(groups)}))
    assert split_groups(groups, share, seed) == (train, valid)


def test_splits_shares_and_seeds():
    groups = [i//2 for i in range(100)]
    assert len(split_groups(groups, .2)[1]) == 20 and len(split_groups(groups, .3)[1]) == 30
    assert split_groups(groups, seed=0) != split_groups(groups, seed=1)
    assert split_groups(np.array(groups)) == split_groups(groups)
    for share in (0, 1, -1, np.nan):
        with pytest.raises(BadInput, match='share between 0 and 1'): split_groups(groups, share)


@pytest.mark.filterwarnings('error')
def test_split_takes_the_nearest_groups():
    groups = ['a']*10 + ['b']*80 + ['c']*10
    for seed in range(9): assert len(split_groups(groups, .85, seed)[1]) in (80, 90)
    assert len(split_groups(range(100000), .2)[1]) == 20000


def test_split_says_when_groups_allow_no_such_share():
    with pytest.warns(UserWarning, match=r'^a share of 20% was asked for, whole groups give 50% \(50 of 100 chips in 2 groups\)$'):
        split_groups([0]*50 + [1]*50, .2)


# Pictures
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


def test_overlay():
    rgb = RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    mask = np.array([[0, 1, 2, 255, 9]]*4)
    got = overlay(rgb, mask, class_colours(3))
    assert got.dtype == np.uint8 and np.array_equal(got[:, [0, 3, 4]], rgb[:, [0, 3, 4]])
    assert np.abs(got[:, 1] - (rgb[:, 1]/2 + np.array(class_colours(3)[1])/2)).max() <= .5
    assert np.array_equal(overlay(rgb, mask, class_colours(3), alpha=1)[0, 2], class_colours(3)[2])
    assert np.array_equal(overlay(rgb, mask, class_colours(3), alpha=0), rgb)
    with pytest.raises(BadInput, match='differ in size'): overlay(rgb, mask[:2], class_colours(3))


def test_class_colours_differ():
    for n in (1, 2, 8, 22): assert len(class_colours(n)) == n == len(set(class_colours(n)))
    assert all(0 <= v <= 255 and type(v) is int for c in class_colours(30) for v in c)


def test_show_chips():
    chips = Chips(IMAGES, MASKS, classes=('background', 'road', 'house'), names=list('vwxyz'))
    fig = show_chips(chips, preds=[m.astype(int) for m in MASKS], n=3)
    assert [ax.get_title() for ax in fig.axes] == ['image', 'mask', 'prediction'] + ['']*6 # Once, above all rows
    assert [ax.get_ylabel() for ax in fig.axes[::3]] == list('vwx')
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ['road', 'house']
    assert [np.round(np.array(p.get_facecolor()[:3])*255).astype(int).tolist() for p in fig.legends[0].get_patches()] == [list(c) for c in class_colours(3)[1:]]
    shown = fig.axes[1].images[0].get_array()
    assert np.array_equal(shown, overlay(true_colour(chips[0].image, chips.bands), chips[0].mask, class_colours(3)))


def test_show_chips_without_masks_has_no_legend():
    fig = show_chips(Chips(IMAGES), n=2)
    assert len(fig.axes) == 2 and not fig.legends
    assert [ax.get_title() for ax in show_chips(Chips(IMAGES), [m > 0 for m in MASKS], n=1).axes] == ['image', 'prediction']


def test_show_pictures():
    import matplotlib.pyplot as plt
    fig = show_pictures({k: np.zeros((8, 16, 3), np.uint8) for k in 'abc'}, dict(road=(255, 0, 0)), cols=2)
    assert [ax.get_title() for ax in fig.axes] == ['a', 'b', 'c', ''] and not fig.axes[3].axison
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ['road'] and not plt.get_fignums()
    with pytest.raises(BadInput, match='at least one picture'): show_pictures({})


def test_show_chips_refuses_and_leaves_no_figure():
    import matplotlib.pyplot as plt
    for preds, words in (([m*.5 for m in MASKS], 'apply a threshold first'), ([m[1:] for m in MASKS], 'expected a prediction')):
        with pytest.raises(BadInput, match=words): show_chips(CHIPS, preds)
    with pytest.raises(BadInput, match='at least one chip'): show_chips(CHIPS[[]])
    show_chips(CHIPS)
    assert not plt.get_fignums()


# The package and the real file
def test_import_is_light(root):
    "The CLI starts fast: data needs numpy and no more."
    heavy = 'torch fastai matplotlib pandas sklearn nbdev rasterio'.split()
    code = f'import sys, satseg.data.chips; print([o for o in {heavy} if o in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_real_pickle(real_data):
    path = real_data/'s2_builtup'/'dataset.pickle'
    if not path.is_file(): pytest.skip(f'no {path}')
    parts = load_pickle(path)
    assert {k: len(v) for k, v in parts.items()} == {'train': 15, 'val': 5}
    for chips in parts.values():
        for chip in chips: assert chip.image.shape == (3, 256, 256) and chip.mask.shape == (256, 256) and set(np.unique(chip.mask)) <= {0, 1}
    stats = band_stats(parts['train'])
    assert stats.bands == ['B02', 'B03', 'B04'] and all(500 < m < 1200 for m in stats.mean) and all(100 < s < 400 for s in stats.std)
    assert stats.mean[0] > stats.mean[1] > stats.mean[2]  # haze makes blue the brightest over forest: the order is B, G, R
    assert .05 < class_shares(parts['train'])['building'] < .2
    assert len(show_chips(parts['val'], n=2).axes) == 4


def test_names_with_dollars_are_no_formulas(tmp_path):
    image = np.full((8, 8, 3), 9., np.float32)
    chips = Chips([image], [np.eye(8, dtype=np.uint8)], classes=['no $\\frac$', 'a$\\x$b'], names=['c$\\frac{$'])
    show_chips(chips).savefig(tmp_path/'chips.png')
    show_pictures({'t$\\x$': image[...,0]}, {'k$\\x$': (1, 2, 3)}).savefig(tmp_path/'pictures.png')


def test_cut_of_pictures_reads_headers_only(tmp_path, monkeypatch):
    from PIL import Image
    from satseg.data import pictures
    for i in range(3): Image.fromarray(np.full((8, 12, 3), i, np.uint8)).save(tmp_path/f'{i}.png')
    images, bands = pictures.lazy_pictures([tmp_path/f'{i}.png' for i in range(3)])
    chips = Chips(images, bands=bands)
    monkeypatch.setattr(pictures, 'read_picture', lambda *a: pytest.fail('decoded'))
    for o in (chips, chips.pick('GR'), chips[1:] + chips[:1]): assert len(o.cut(4)) == 18
