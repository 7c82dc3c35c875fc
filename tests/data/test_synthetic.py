"""Synthetic scenes: the same seed gives the same scene, the mask is exact, the values look like readings."""
import hashlib
import pickle

import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.data.pickles import load_pickle
from satseg.data.landscape import BUILDING, CLOUD, FIELD, ROAD, SATURATED, SCENE_CLASSES, SHADOW, SHIP, WATER, noise
from satseg.data.settlements import rectangle_pixels
from satseg.data.synthetic import cloud_opacity, sample_chips, sample_scene, write_sample


@pytest.fixture(scope='module')
def scenes():
    "64 scenes, made once for this file."
    return [sample_scene(256, np.random.SeedSequence((7, i))) for i in range(64)]


@pytest.mark.parametrize('seed', [0, 5, 12345, 2**63])
def test_same_seed_same_scene(seed):
    (a, ca), (b, cb) = sample_scene(96, seed), sample_scene(96, seed)
    assert (a == b).all() and (ca == cb).all()


def test_scenes_are_the_same_bit_for_bit():
    "The shipped weights and the figures of README were made from these very pixels: they may not change."
    res = hashlib.sha256()
    for seed in (0, 1, 2, 3, 4, 5, np.random.SeedSequence((7, 3)), 2**63):
        for size in (96, (64, 200), 256):
            for o in sample_scene(size, seed): res.update(o.tobytes())
    for target in (('building', 'road'), None, ('ship',)):
        for o in sample_chips(4, 128, 5, target): res.update(o.image.tobytes()+o.mask.tobytes())
    assert res.hexdigest() == '9362577d48d5474fd4d9e18040c7f3a86deefb6af76de6fabb9af6ad0b193179'


def test_other_seed_other_scene():
    imgs = [sample_scene(96, s)[0] for s in range(6)]
    for i, a in enumerate(imgs):
        for b in imgs[:i]: assert (a != b).mean() > .9


def test_global_random_state_plays_no_part():
    np.random.seed(1)
    a = sample_scene(64, 3)[0]
    before = np.random.get_state()[1].copy()
    np.random.seed(2)
    assert (sample_scene(64, 3)[0] == a).all()
    np.random.seed(1)
    assert (np.random.get_state()[1] == before).all(), 'sample_scene drew from the global generator'


@pytest.mark.parametrize('size', [32, 33, 47, 101, (32, 200), (257, 40), np.int64(64), [50, 60]])
def test_any_size(size):
    hw = tuple(size) if np.ndim(size) else (size, size)
    for seed in range(8):
        img, cls = sample_scene(size, seed)
        assert img.shape == (*hw, 3) and img.dtype == np.uint16 and img.max() <= SATURATED
        assert cls.shape == hw and cls.dtype == np.uint8 and cls.max() < len(SCENE_CLASSES)


def test_large_scene():
    img, cls = sample_scene((1100, 900), 1)
    assert img.shape == (1100, 900, 3)
    assert .01 < np.isin(cls, (ROAD, BUILDING)).mean() < .5


@pytest.mark.parametrize('size', [8, 31, 0, -5, 64.5, (64,), (64, 64, 3), (64, 8), 'big', None])
def test_bad_size_is_named(size):
    with pytest.raises(BadInput, match='at least 32'): sample_scene(size)


def test_readings_are_like_sentinel_2(scenes):
    clear = [img for img, cls in scenes if not (cls == CLOUD).any()]
    assert 32 < len(clear) < 60, 'about two thirds of the scenes are clear'
    mean = np.mean([o.mean((0, 1)) for o in clear], 0)
    assert np.allclose(mean, (960, 870, 620), rtol=.1), mean
    spread = [o.std((0, 1)).mean() for o in clear]
    assert 60 < min(spread) and max(spread) < 450 and 100 < np.median(spread) < 300
    bright = [o.mean() for o in clear]
    assert max(bright)/min(bright) > 1.15, 'haze and gain differ from scene to scene'
    assert max(o.max() for o in clear) == SATURATED, 'some roofs saturate'


def test_share_of_built_up_ground(scenes):
    share = np.array([np.isin(cls, (ROAD, BUILDING)).mean() for _, cls in scenes])
    assert .09 < share.mean() < .14, share.mean()
    assert share.min() < .05 and share.max() > .2 and share.max() < .4
    assert (share > .01).mean() > .95


def test_every_class_turns_up(scenes):
    found = {int(k) for _, cls in scenes for k in np.unique(cls)}
    assert found == set(range(len(SCENE_CLASSES)))
    counts = {name: sum((cls == k).any() for _, cls in scenes) for k, name in enumerate(SCENE_CLASSES)}
    assert counts['field'] == counts['road'] == 64 and counts['building'] > 60 and counts['forest'] > 60
    assert counts['water'] > 20 and counts['ship'] > 5 and counts['shadow'] >= 8


def test_brightness_alone_does_not_find_buildings(scenes):
    "Bright soil, sand and clouds are there on purpose: the best single threshold must stay a poor answer."
    img, cls = np.stack([o[0] for o in scenes]).mean(-1), np.stack([o[1] for o in scenes])
    fg = np.isin(cls, (ROAD, BUILDING))
    best = max((fg & (img > t)).sum()/(fg | (img > t)).sum() for t in range(700, 2000, 50))
    assert .2 < best < .7, best


def test_classes_look_like_themselves(scenes):
    "Mean red reading per class, over all scenes: clouds brightest, then ships, buildings, roads, fields; water and forest dark."
    def red(k): return np.mean(np.concatenate([img[..., 2][cls == k] for img, cls in scenes]))
    cloud, ship, building, road, field, forest, water, shadow = (red(SCENE_CLASSES.index(k)) for k in
        ('cloud', 'ship', 'building', 'road', 'field', 'forest', 'water', 'shadow'))
    assert cloud > ship > building > field > forest and road > field > water and shadow < field


def test_ships_swim(scenes):
    "A ship touches water, another ship, or what hides water: a cloud, a shadow."
    n = dry = 0
    for _, cls in scenes:
        y, x = np.nonzero(cls == SHIP)
        p = np.pad(cls, 1, mode='edge')
        around = np.stack([p[y+dy, x+dx] for dy in range(3) for dx in range(3)])
        n += around.size
        dry += (~np.isin(around, (SHIP, WATER, CLOUD, SHADOW, ROAD))).sum()
    assert n and dry/n < .01


@pytest.mark.parametrize('move', [(-7, 3), (5, 5), (0, -9), (0, 0)])
def test_shadow_is_the_cloud_moved(move):
    dy, dx = move
    cloud, shadow = cloud_opacity(np.random.default_rng(0), (80, 90), move, .3)
    y, x = np.mgrid[:80, :90]
    ok = (y+dy >= 0) & (y+dy < 80) & (x+dx >= 0) & (x+dx < 90)
    assert (shadow[(y+dy)[ok], (x+dx)[ok]] == cloud[ok]).all() and cloud.max() > 0


def test_noise_is_centred_and_keeps_its_spread():
    for size in (3, 20, 60):
        n = np.stack([noise(np.random.default_rng(i), (128, 128), size, 4) for i in range(24)])
        assert abs(n.mean()) < .1 and .25 < n.std() < .6, (size, n.mean(), n.std())


def test_stamp_stays_inside_and_covers_its_area():
    rng = np.random.default_rng(0)
    pts = np.c_[rng.uniform(-5, 45, (200, 2)), rng.uniform(0, 6.3, 200)]
    at, i = rectangle_pixels(pts, 6, 3, (40, 40))
    assert at.min() >= 0 and at.max() < 1600 and i.max() < 200
    mid = np.array([[20, 20, a] for a in np.linspace(0, 3, 12)])
    at, i = rectangle_pixels(mid, 9, 4, (40, 40))
    sizes = [len(np.unique(at[i == k])) for k in range(12)]
    assert all(30 <= o <= 48 for o in sizes), sizes


def test_chip_does_not_depend_on_how_many():
    few, many = sample_chips(3, 64, seed=5), sample_chips(50, 64, seed=5)
    for i in (0, 2):
        assert (few[i].image == many[i].image).all() and (few[i].mask == many[i].mask).all()
    assert (few[0].image != few[1].image).any() and (sample_chips(1, 64, seed=6)[0].image != few[0].image).any()


def test_chips_are_lazy_and_keep_their_masks_in_step():
    chips = sample_chips(10**6, 64)
    assert len(chips) == 10**6
    a = chips[999_999]
    for i in range(12): chips[i] # more than the cache holds
    b = chips[999_999]
    assert (a.image == b.image).all() and (a.mask == b.mask).all()
    img, cls = sample_scene(64, np.random.SeedSequence((0, 999_999)))
    assert (a.image == img.transpose(2, 0, 1)).all()
    assert (a.mask == np.isin(cls, (ROAD, BUILDING))).all()


def test_writing_into_a_chip_does_not_change_the_next():
    chips = sample_chips(1, 64)
    first = chips[0]
    first.image[:] = 0
    first.mask[:] = 1
    assert chips[0].image.any() and not chips[0].mask.all()


def test_targets():
    every, ships, built = (sample_chips(4, 128, 3, target=o) for o in (None, ('ship',), ('building', 'road')))
    assert every.classes == SCENE_CLASSES and ships.classes == ('background', 'ship') and built.classes == ('background', 'building')
    for i in range(4):
        assert (ships[i].mask == (every[i].mask == SHIP)).all()
        assert (built[i].mask == np.isin(every[i].mask, (BUILDING, ROAD))).all()
    assert (every[0].mask == FIELD).any()


@pytest.mark.parametrize('target', [('castle',), ('building', 'castle'), 'castle'])
def test_unknown_target_is_named(target):
    with pytest.raises(BadInput, match='castle'): sample_chips(target=target)


def test_negative_seed_is_named():
    with pytest.raises(BadInput, match='-1'): sample_chips(seed=-1)


def test_chips_travel_to_worker_processes():
    chips = sample_chips(3, 64, 2)
    assert (pickle.loads(pickle.dumps(chips))[1].image == chips[1].image).all()


def test_write_sample_round_trip(tmp_path):
    path = tmp_path/'sample.pickle'
    write_sample(path, n_train=3, n_val=2, size=64, seed=4)
    parts = load_pickle(path)
    assert {k: len(v) for k, v in parts.items()} == dict(train=3, val=2)
    for name, seed in (('train', 8), ('val', 9)):
        for a, b in zip(parts[name], sample_chips(len(parts[name]), 64, seed)):
            assert (a.image == b.image).all() and (a.mask == b.mask).all()
    assert (parts['train'][0].image != parts['val'][0].image).any()
    raw = pickle.loads(path.read_bytes())
    assert raw['train'][0]['image'].shape == (64, 64, 3) and raw['train'][0]['mask'].shape == (64, 64)
