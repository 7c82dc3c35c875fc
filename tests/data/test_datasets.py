"""Any dataset from its path."""
import numpy as np
import pytest
from data_samples import ann, coco, folders, one_line, rect, save, save_tif, ships

from satseg.core.errors import BadInput, Hint, Remark
from satseg.data.chips import Chips
from satseg.data.coco import load_coco
from satseg.data.datasets import FORMATS, format_options, kind_of, load_dataset
from satseg.data.ships import load_ships
from satseg.data.splits import name_groups


def test_kinds_and_options(tmp_path):
    assert set(FORMATS) == {'pickle','folders','coco','ships','clouds','geotiffs','bands'}
    one_line(lambda: kind_of(tmp_path), 'a folder of another kind')
    one_line(lambda: kind_of(tmp_path/'x'), 'found no such file')
    (tmp_path/'x.txt').write_text('')
    one_line(lambda: load_dataset(tmp_path/'x.txt'), 'a file of another kind')
    folders(tmp_path, [np.eye(4)])
    one_line(lambda: load_dataset(tmp_path, tolerence=1), 'did you mean tolerance?')
    one_line(lambda: load_dataset(tmp_path, kind='folder'), 'did you mean folders?')


def test_ignore_reaches_single_bands(tmp_path):
    from satseg.evaluation.open_dataset import load_parts
    from satseg.models.model_info import ModelInfo
    save_tif(tmp_path/'s'/'B02.tif', np.ones((2,2), np.uint16))
    save(tmp_path/'s'/'mask.png', np.eye(2)*255)
    info = ModelInfo(bands=['B02'], mean=[0.], std=[1.], classes=['background','ship'])
    assert load_parts(tmp_path/'s', 'bands', info, True, {})['all'][0].mask.tolist() == [[255,0],[0,255]]


@pytest.mark.parametrize('kind', FORMATS)
def test_ignore_works_or_is_refused(tmp_path, kind):
    "Masks of three formats may hold 255; the others draw their masks, and know what is unknown."
    if kind in ('pickle','folders','bands'): assert 'has_ignore' in format_options(kind)
    else: one_line(lambda: load_dataset(tmp_path, kind, has_ignore=True), '--ignore', f'{kind} says itself')


def test_group_rules():
    assert name_groups(['set1_10_20_10'], group=lambda o: o[:4]) == ['set1']
    assert name_groups(['a','a_1','x_2020_3']) == ['a','a_1','x block 505,0']
    with pytest.raises(BadInput, match='no regular expression'): name_groups(['a'], group='(')


def test_what_is_kept_cannot_be_changed_from_outside(tmp_path):
    for chips in (load_coco(coco(tmp_path/'a', [ann([rect(1,1,4,4)])]))['train'], load_ships(ships(tmp_path/'b', [('a.jpg','1 3'), ('b.jpg','')]))['all']):
        i = next(i for i in range(len(chips)) if chips.instances(i).any())
        before = chips[i].mask.copy()
        chips.instances(i)[:] = 0
        assert (chips[i].mask == before).all() and before.any()


def test_names_too_long_for_a_path_are_one_line(): one_line(lambda: load_dataset('a'*300), 'cannot be read')


def test_masks_made_of_masks_name_the_chip(tmp_path):
    chips = load_coco(coco(tmp_path, [ann([rect(1,1,4,4)])]))['train']
    bad = Chips([np.zeros((4,4,1))]*2, [np.full((4,4), 7, np.uint8)]*2, bands=('a',), names=['X','Y'], source='pile')
    one_line(lambda: bad[1:].with_masks(lambda m,i: m, ('a','b'))[0], 'pile: Y: mask')
    assert chips.with_masks(lambda m,i: i, ('a','b'))[0].mask.sum() == 16


def test_names_that_count_pixels_make_blocks_too():
    names = [f'a_{y}_{x}' for y in range(0, 2048, 256) for x in range(0, 2048, 256)]
    assert name_groups(names) == name_groups([f'a_{y}_{x}' for y in range(8) for x in range(8)])
    assert len(set(name_groups(names))) == 4 and name_groups(['a_0_0']) == ['a block 0,0']


def test_a_neighbour_folder_is_no_reason_to_refuse(tmp_path):
    for o in ('images','masks'):
        for k in range(2): save(tmp_path/o/f'{k}.png', np.ones((4,4,3)))
    with pytest.warns(Hint, match='beside it'): assert len(load_dataset(tmp_path/'images', strict=True)['all']) == 2


def test_strict_refuses_only_what_is_left_out(tmp_path):
    for k in range(3):
        for o,n in (('images',4), ('masks',1)): save_tif(tmp_path/o/f'{k}.tif', np.ones((4,4,n), np.uint16 if n == 4 else np.uint8))
    with pytest.warns(Hint): assert len(load_dataset(tmp_path, strict=True)['all']) == 3 # Bands without names
    save_tif(tmp_path/'images'/'9.tif', np.ones((4,4,4), np.uint16))
    one_line(lambda: load_dataset(tmp_path, strict=True, missing='skip'), 'without a partner', 'leave out strict')


@pytest.mark.parametrize('suffix,pack', [('.zip','zip'), ('.tar','tar'), ('.tar.gz','gztar')])
def test_archives_are_named_and_following_the_advice_works(tmp_path, suffix, pack):
    import shutil
    folders(tmp_path/'data', [np.eye(4)]*2)
    shutil.make_archive(str(tmp_path/'export'), pack, tmp_path/'data')
    path = tmp_path/f'export{suffix}'
    for kind in (None,'coco','folders'): one_line(lambda: load_dataset(path, kind), 'is an archive: unpack it, and give the folder or file in it')
    (tmp_path/'down').mkdir()
    path.rename(tmp_path/'down'/path.name)
    one_line(lambda: load_dataset(tmp_path/'down'), f'no pictures; unpack {path.name}')
    shutil.unpack_archive(tmp_path/'down'/path.name, tmp_path/'down')
    assert len(load_dataset(tmp_path/'down')['all']) == 2


def test_masks_say_more_than_an_outline_beside_them(tmp_path):
    for i in range(2):
        save_tif(tmp_path/'images'/f'{i}.tif', np.zeros((4,4,3), np.uint8), x=500000+40*i)
        save_tif(tmp_path/'masks'/f'{i}.tif', np.eye(4, dtype=np.uint8)[...,None], x=500000+40*i)
    (tmp_path/'aoi.geojson').write_text('{"type": "FeatureCollection", "features": []}')
    assert kind_of(tmp_path) == 'folders'


def test_masks_beside_a_coco_file_are_named(tmp_path):
    root = folders(tmp_path, [np.eye(8)[:6]])
    import json
    rows = dict(images=[dict(id=1, file_name='0.png', width=8, height=6)], annotations=[ann([rect(1,1,4,4)])], categories=[dict(id=7, name='house')])
    (root/'annotations').mkdir()
    (root/'annotations'/'instances.json').write_text(json.dumps(rows))
    with pytest.warns(UserWarning, match="masks beside the pictures are not read: kind='folders' .--kind folders. reads them"):
        assert load_dataset(root)['all'][0].mask.sum() == 16
    assert load_dataset(root, 'folders')['all'][0].mask.sum() == 6


def test_a_pickle_beside_layout_folders_is_left_out_and_named(tmp_path):
    "Ultralytics, fastai and others keep caches there; following the remark reads it."
    import pickle
    root = folders(tmp_path/'a', [np.eye(4)]*2)
    (root/'cache.pkl').write_bytes(pickle.dumps([dict(image=np.zeros((4,4,3), np.uint8), mask=np.eye(4, dtype=np.uint8))]))
    with pytest.warns(Remark, match='left out: cache.pkl; a pickle is read if its file is given'): assert len(load_dataset(root)['all']) == 2
    assert len(load_dataset(root/'cache.pkl')['all']) == len(load_dataset(root, 'pickle')['all']) == 1
    one_line(lambda: load_dataset(root, strict=True), 'cache.pkl')
    for o in (ships(tmp_path/'b', [('a.jpg','1 3'), ('b.jpg','')]), coco(tmp_path/'c', [ann([rect(1,1,4,4)])])):
        (o/'x.pickle').write_bytes(b'')
        with pytest.warns(Remark, match='left out: x.pickle'): load_dataset(o)
    (tmp_path/'d').mkdir()
    (root/'cache.pkl').rename(tmp_path/'d'/'chips.pkl')
    save(tmp_path/'d'/'preview.png', np.zeros((4,4,3)))
    assert kind_of(tmp_path/'d') == 'pickle'


def test_a_pickle_beside_its_scene_is_the_dataset(tmp_path):
    "A scene and its mask are its source; they are named. More pairs are a dataset, and the pickle is a cache."
    import pickle
    (tmp_path/'dataset.pickle').write_bytes(pickle.dumps(dict(train=[dict(image=np.zeros((4,4,3), np.uint8), mask=np.eye(4, dtype=np.uint8))])))
    for name in ('scene','scene_mask'): save(tmp_path/f'{name}.png', np.zeros((4,4)))
    with pytest.warns(Remark, match='left out: 2 .png in ./'): assert list(load_dataset(tmp_path)) == ['train']
    for name in ('b','b_mask'): save(tmp_path/f'{name}.png', np.zeros((4,4)))
    assert kind_of(tmp_path) == 'folders'
