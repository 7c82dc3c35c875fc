"Guards for satseg.data.chips and arrays."
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from chip_samples import CHIPS, IMAGES, MASKS, Lazy
from satseg.core.errors import BadInput
from satseg.core.display import IGNORE, class_colours, overlay, show_pictures
from satseg.data.bands import true_colour
from satseg.data.arrays import Cache
from satseg.data.chips import Chip, Chips, show_chips

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


# Statistics
# Splits
# Pictures
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


def test_show_chips_refuses_and_leaves_no_figure():
    import matplotlib.pyplot as plt
    for preds, words in (([m*.5 for m in MASKS], 'apply a threshold first'), ([m[1:] for m in MASKS], 'expected class ids')):
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


def test_names_with_dollars_are_no_formulas(tmp_path):
    image = np.full((8, 8, 3), 9., np.float32)
    chips = Chips([image], [np.eye(8, dtype=np.uint8)], classes=['no $\\frac$', 'a$\\x$b'], names=['c$\\frac{$'])
    show_chips(chips).savefig(tmp_path/'chips.png')
    show_pictures({'t$\\x$': image[...,0]}, {'k$\\x$': (1, 2, 3)}).savefig(tmp_path/'pictures.png')


def test_cut_of_pictures_reads_headers_only(tmp_path, monkeypatch):
    from PIL import Image
    from satseg.data import chip_images, pictures
    for i in range(3): Image.fromarray(np.full((8, 12, 3), i, np.uint8)).save(tmp_path/f'{i}.png')
    images, bands = chip_images.lazy_pictures([tmp_path/f'{i}.png' for i in range(3)])
    chips = Chips(images, bands=bands)
    monkeypatch.setattr(chip_images, 'read_image', lambda *a: pytest.fail('decoded'))
    for o in (chips, chips.pick('GR'), chips[1:] + chips[:1]): assert len(o.cut(4)) == 18


def test_jupyter_draws_no_whole_scenes():
    "Four bands of 6000 x 6000 took 25 s and 3 GB."
    large = Chips([np.broadcast_to(np.uint8(0), (3000,3000,3))])
    assert large._repr_png_() is None and CHIPS._repr_png_()[1:4] == b'PNG'
