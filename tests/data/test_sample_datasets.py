"""Painted samples of the four other jobs: deterministic, exact, with the traps in them, and the same after a round trip through files."""
import json
import pickle

import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.data.splits import split_groups
from satseg.data.datasets import kind_of, load_dataset
from satseg.data.sample_datasets import SAMPLES, write_sample_dataset
from satseg.data.samples import CLOUD_BANDS, LANDCOVER, sample_clouds, sample_footprints, sample_landcover, sample_ships
from satseg.data.instances import label_components

PAINTED = dict(footprints=sample_footprints, landcover=sample_landcover, ships=sample_ships, clouds=sample_clouds)


def same(a, b): return a.name == b.name and np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize('job', PAINTED)
def test_a_chip_depends_on_seed_and_number_only(job):
    few, many, other = PAINTED[job](5, 96, 3), PAINTED[job](60, 96, 3), PAINTED[job](5, 96, 4)
    assert all(same(few[i], many[i]) for i in (4, 0, 2))
    assert few.groups == many.groups[:5]
    assert all((few[i].image != other[i].image).any() for i in range(5))
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    PAINTED[job](1, 96, 9)[0]
    assert (np.random.get_state()[1] == before).all(), 'drew from the global generator'


@pytest.mark.parametrize('job', PAINTED)
def test_lazy_and_fit_for_worker_processes(job):
    chips = PAINTED[job](10**5, 64)
    assert len(chips) == 10**5 and same(chips[99_999], pickle.loads(pickle.dumps(chips[99_998:]))[1])
    first = chips[0]
    first.image[:] = 0
    assert chips[0].image.any(), 'writing into a chip changed the next'


@pytest.mark.parametrize('job', PAINTED)
@pytest.mark.parametrize('size', [32, 65, (64, 200), (131, 70)])
def test_any_size(job, size):
    chips = PAINTED[job](6, size, 1)
    hw = (size, size) if isinstance(size, int) else size
    assert all(o.image.shape == (len(chips.bands), *hw) and o.mask.shape == hw for o in chips)


@pytest.mark.parametrize('job', PAINTED)
def test_bad_arguments_are_named(job):
    with pytest.raises(BadInput, match='at least 32'): PAINTED[job](1, 31)
    with pytest.raises(BadInput, match='-2'): PAINTED[job](1, 64, -2)
    with pytest.raises(IndexError): PAINTED[job](2, 64)[2]


@pytest.mark.parametrize('job', ['footprints', 'ships'])
def test_objects_are_the_mask_numbered(job):
    chips = PAINTED[job](12, 128, 2)
    for i, o in enumerate(chips):
        ids = chips.instances(i)
        assert ((ids > 0) == (o.mask == 1)).all()
        assert (np.unique(np.append(ids, 0)) == np.arange(ids.max()+1)).all()


def test_rows_of_houses_melt_into_one_component():
    "Houses touch: most places lose more than half of their houses when touching pixels are one object."
    chips = sample_footprints(24, 128, 3)
    true = [chips.instances(i).max() for i in range(24)]
    melted = [label_components(o.mask).max() for o in chips]
    assert min(true) >= 3 and sum(melted) < .6*sum(true), (melted, true)
    assert sum(m < .5*n for m, n in zip(melted, true)) > 10 and all(.1 < o.mask.mean() < .8 for o in chips)


def test_an_enlarged_quarter_shows_its_parent():
    chips = sample_footprints(8, 128, 6)
    for i in (3, 7):
        parent, quarter = chips.raw(i-1), chips.raw(i)
        assert (quarter[0][::2, ::2] == parent[0][:64, 64:]).all()
        assert (quarter[1][::2, ::2] != parent[1][:64, 64:]).mean() < .1
        assert chips.groups[i] == chips.groups[i-1] != chips.groups[i-2]


# Land cover

def test_landcover_holds_every_class_and_rare_ones():
    counts = sum(np.bincount(o.mask.ravel(), minlength=6) for o in sample_landcover(18))
    share = dict(zip(LANDCOVER, counts/counts.sum()))
    assert min(share.values()) > .001 and share['unlabeled'] < .05 and .2 < share['land'] < .7, share


def test_parts_of_a_tile_stay_together():
    chips = sample_landcover(9)
    assert chips.groups == [f'tile{k}' for k in (1, 1, 1, 2, 2, 2, 3, 3, 3)] and chips.names[4] == 'tile2_image_part_002'
    assert np.abs(chips[0].image[:, :, -1]-chips[1].image[:, :, 0]).mean() < 20, 'side by side in one scene'
    train, valid = split_groups(chips.groups, .4)
    assert not {chips.groups[i] for i in train} & {chips.groups[i] for i in valid}


def test_some_pictures_are_empty_some_hold_several():
    for seed in range(4):
        chips = sample_ships(24, 128, seed)
        n = np.array([chips.instances(i).max() for i in range(24)])
        assert .25 < (n == 0).mean() < .75 and (n > 1).sum() > 3, n


def test_ships_alongside_touch():
    "Ships in pairs: two objects, one component."
    chips = sample_ships(30, 192, 2)
    ids = [chips.instances(i) for i in range(30)]
    assert sum(label_components(o > 0).max() < o.max() for o in ids) >= 3


def test_crops_of_one_scene_overlap():
    chips = sample_ships(9, 192, 3)
    for i in (1, 4, 7):
        a, b = chips.raw(i), chips.raw(i+1)
        assert chips.groups[i] == chips.groups[i+1] != chips.groups[i-1]
        assert (a[0][:, 64:] == b[0][:, :-64]).all() and (a[1][:, 64:] == b[1][:, :-64]).all()


def test_brightness_alone_finds_no_ships():
    chips = sample_ships(30, 128, 5)
    img, mask = np.stack([o.image.mean(0) for o in chips]), np.stack([o.mask for o in chips])
    best = max((mask[img > t].sum()*2/(mask.sum()+(img > t).sum())) for t in range(60, 240, 10))
    assert best < .5, best


# Clouds

def test_clear_and_full_scenes_in_every_eight():
    for seed in range(3):
        for start in (0, 8):
            chips = sample_clouds(start+8, 96, seed)
            cloud = [(chips[i].mask == 1).mean() for i in range(start, start+8)]
            clear = [(chips[i].mask == 0).all() for i in range(start, start+8)]
            assert sum(clear) == 2 and sum(o > .9 for o in cloud) >= 2, (cloud, clear)


def test_bands_by_name_of_either_sensor():
    full, four = sample_clouds(4, 96, 2), sample_clouds(4, 96, 2, bands=('B04', 'B03', 'B02', 'B08'))
    assert full.bands == CLOUD_BANDS and four.bands == ('B04', 'B03', 'B02', 'B08')
    for a, b in zip(full, four): assert (a.image[:4] == b.image).all() and (a.mask == b.mask).all()
    swir = sample_clouds(1, 96, 2, bands=('thermal', 'B11'))[0].image
    assert (swir[0] == full[0].image[7]).all() and (swir[1] == full[0].image[4]).all()


def test_readings_make_sense():
    chips, n = sample_clouds(24, 96, 3), {}
    kinds = [o.split('_')[0] for o in chips.names]
    assert len(set(kinds)) == 4
    for kind, o in zip(kinds, chips):
        assert o.image.dtype == np.float32 and np.isfinite(o.image).all()
        assert 0 < o.image[:7].min() and o.image[:6].max() < 1.8 and 200 < o.image[7].min() < o.image[7].max() < 335
        assert set(np.unique(o.mask)) <= {0, 1, 2, 255} and (o.mask == 255).mean() < .15
        for k in range(3): n.setdefault((kind != 'snow', k), []).append(o.image[:, o.mask == k])
    clear, cloud, shadow = (np.concatenate(n[True, k], 1).mean(1) for k in range(3))
    assert (cloud[:4] > clear[:4]).all() and (shadow[:6] < clear[:6]).all() and cloud[7] < clear[7]-8


def test_shadows_lie_on_one_side_of_their_clouds():
    "The cloud mask moved along some direction covers most of the shadow; moved the other way it does not."
    mask = sample_clouds(5, 256, 0)[4].mask # A cover of 0.12
    cloud, shadow = mask == 1, mask == 2
    def hit(dy, dx): return (np.roll(cloud, (dy, dx), (0, 1)) & shadow).sum()/shadow.sum()
    best = max(((hit(dy, dx), dy, dx) for dy in range(-32, 33, 2) for dx in range(-32, 33, 2)))
    assert shadow.any() and best[0] > .7 and hit(-best[1], -best[2]) < .5*best[0], best


def test_snow_without_a_cloud_is_as_bright_as_cloud():
    chips = sample_clouds(24, 96, 0)
    bare = np.concatenate([o.image[:, o.mask == 0] for o in chips if o.name.startswith('snow') and not (o.mask == 1).any()], 1)
    cloud = np.concatenate([o.image[:, o.mask == 1] for o in chips], 1)
    assert bare[0].mean() > .6*cloud[0].mean() and bare[4].mean() < .5*cloud[4].mean()


# Files

KINDS = dict(footprints_coco='coco', footprints_geotiff='geotiffs', footprints_pairs='folders', landcover='folders', ships='ships', clouds='clouds')


@pytest.mark.parametrize('size', [96, (96, 130)])
@pytest.mark.parametrize('job', SAMPLES)
def test_what_is_written_is_read(tmp_path, job, size):
    if job == 'footprints_geotiff': pytest.importorskip('rasterio')
    folder = tmp_path/'data'
    wrote = write_sample_dataset(folder, job, 7, 4, size, 2)
    assert kind_of(folder) == KINDS[job]
    options = dict(shadow='class', bands=CLOUD_BANDS) if job == 'clouds' else {}
    read = load_dataset(folder, **options)
    assert set(read) == set(wrote)
    for part, chips in read.items():
        order = [wrote[part].names.index(o) for o in chips.names]
        assert sorted(order) == list(range(len(chips))) and chips.classes == wrote[part].classes
        for i, k in enumerate(order):
            a, b = chips[i], wrote[part][k]
            assert (a.mask == b.mask).all(), (part, a.name)
            if job in ('clouds', 'footprints_geotiff'): assert (a.image == b.image).all()
            else: assert np.abs(a.image-b.image).mean() < 8, 'JPEG at quality 95'
            if wrote[part].objects is not None and job != 'footprints_pairs':
                assert_same_objects(chips.instances(i), wrote[part].instances(k))


def assert_same_objects(a, b):
    "The same parts, whatever their numbers."
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_groups_of_files_do_not_leak(tmp_path):
    wrote = write_sample_dataset(tmp_path/'s', 'ships', 9, 3, 192, 1)['all']
    read = load_dataset(tmp_path/'s')['all']
    label = dict(zip(wrote.names, wrote.groups))
    textured = [n for i, n in enumerate(wrote.names) if wrote.groups.count(label[n]) == 2]
    found = dict(zip(read.names, read.groups))
    together = sum(found[a] == found[b] for a in textured for b in textured if a < b and label[a] == label[b])
    assert together >= len(textured)//2-1, 'overlapping crops are found, calm open sea aside'
    wrote = write_sample_dataset(tmp_path/'c', 'footprints_coco', 8, 1, 96)['train']
    read = load_dataset(tmp_path/'c')['train']
    assert [read.groups.index(o) for o in read.groups] == [wrote.groups.index(o) for o in wrote.groups]


def test_split_lists_of_clouds(tmp_path):
    write_sample_dataset(tmp_path/'c', 'clouds', 5, 3, 64)
    parts = load_dataset(tmp_path/'c', split=tmp_path/'c'/'split')
    assert {k: len(v) for k, v in parts.items()} == dict(train=5, val=3)


def test_ship_table_has_a_blank_for_the_sea(tmp_path):
    chips = write_sample_dataset(tmp_path, 'ships', 8, 4, 96)['all']
    rows = [o.split(',') for o in (tmp_path/'train_ship_segmentations_v2.csv').read_text().splitlines()]
    assert rows[0] == ['ImageId', 'EncodedPixels']
    assert {o[0] for o in rows[1:]} == set(chips.names)
    assert any(o[-1] == '' for o in rows[1:])


def test_coco_polygons_end_at_the_edge(tmp_path):
    write_sample_dataset(tmp_path, 'footprints_coco', 3, 1, 96)
    data = json.loads((tmp_path/'train'/'train.json').read_text())
    pts = np.concatenate([o['segmentation'][0] for o in data['annotations']])
    assert 0 <= pts.min() and pts.max() <= 96 and all(o['area'] > 0 for o in data['annotations'])


@pytest.mark.parametrize('kw,word', [(dict(name='boats'), 'boats'), (dict(name='ships', n_train=0), '0 and 4'), (dict(name='clouds', size=20), '20')])
def test_bad_jobs_are_named(tmp_path, kw, word):
    with pytest.raises(BadInput, match=word): write_sample_dataset(tmp_path/'new', **kw)
    assert not (tmp_path/'new').exists(), 'nothing is left behind'


def test_files_of_others_stay(tmp_path):
    (tmp_path/'thesis.txt').write_text('do not touch')
    with pytest.raises(BadInput, match='empty folder'): write_sample_dataset(tmp_path, 'ships')
    assert [o.name for o in tmp_path.iterdir()] == ['thesis.txt']
