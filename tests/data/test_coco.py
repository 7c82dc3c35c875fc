"""COCO files: written by hand, read back, every mistake in one line."""
import json

import numpy as np
import pytest
from data_samples import ann, coco, encode, one_line, rect

from satseg.core.display import IGNORE
from satseg.core.errors import Remark
from satseg.data.coco import load_coco
from satseg.data.datasets import load_dataset
from satseg.data.splits import class_shares


def test_coco_polygons_and_both_run_lengths(tmp_path):
    m = np.zeros((6,8), np.uint8)
    m[1:4,5:8] = 1
    for rle in (encode(m), dict(size=[6,8], counts=[31,3,3,3,3,3,2])):
        chips = load_coco(coco(tmp_path, [ann([rect(0,0,2,2), rect(0,4,1,1)]), ann(rle), ann([rect(7,3,1,3)])]))['train']
        inst = chips.instances(0)
        assert inst.max() == 3 and (inst == 1).sum() == 5 and (inst == 2).sum() == 8 and (inst[3:,7] == 3).all()
        assert (chips[0].mask == (inst > 0)).all() and chips.classes == ('background','house')


def test_coco_agrees_with_pycocotools(tmp_path):
    tools = pytest.importorskip('pycocotools.mask')
    m = np.random.default_rng(0).random((6,8)) < .5
    rle = tools.encode(np.asfortranarray(m.astype(np.uint8)))
    chips = load_coco(coco(tmp_path, [ann(dict(size=[6,8], counts=rle['counts'].decode()))]))['train']
    assert (chips[0].mask == m).all()


def test_coco_crowds(tmp_path):
    coco(tmp_path, [ann([rect(1,1,2,2)]), ann(encode(np.ones((6,8))), iscrowd=1)])
    chips = load_coco(tmp_path)['train']
    assert (chips[0].mask == IGNORE).sum() == 44 and (chips[0].mask == 1).sum() == 4 and chips.instances(0).max() == 1
    chips = load_coco(tmp_path, crowd='object')['train']
    assert (chips[0].mask == 1).all() and chips.instances(0).max() == 2
    one_line(lambda: load_coco(tmp_path, crowd='x'), "'ignore' or 'object'")


def test_coco_categories(tmp_path):
    cats = [dict(id=9, name='road'), dict(id=2, name='house')]
    coco(tmp_path, [ann([rect(0,0,1,1)], 9), ann([rect(2,0,1,1)], 2)], categories=cats)
    assert load_coco(tmp_path)['train'].classes == ('background','house','road')
    assert load_coco(tmp_path)['train'][0].mask[0,:4].tolist() == [2,0,1,0]
    assert load_coco(tmp_path, classes=('ground','road'))['train'][0].mask[0,:4].tolist() == [1,0,0,0]
    one_line(lambda: load_coco(tmp_path, classes=('ground','rode')), 'got rode')


def test_coco_places_of_pictures(tmp_path):
    coco(tmp_path, [ann([rect(0,0,2,2)])], [dict(id=1, file_name='a.png', width=8, height=6)])
    coco(tmp_path, [], part='val')
    assert {k: int(v[0].mask.sum()) for k,v in load_dataset(tmp_path).items()} == {'train': 4, 'val': 0}
    assert list(load_dataset(tmp_path/'train'/'train.json')) == ['train']
    (tmp_path/'train'/'train.json').rename(tmp_path/'train'/'all.json')
    assert list(load_coco(tmp_path/'train'/'all.json')) == ['all']


@pytest.mark.parametrize('change,what', [
    (dict(segmentation=[[1,2,3,4]]), 'without a part of three points'), (dict(segmentation=[[1,2,3,4,5,6,7]]), 'without a part'),
    (dict(segmentation=[]), 'without a list of numbers'), (dict(segmentation=[rect(10**400,1,2,2)]), 'without a list of numbers'), (dict(segmentation=None, bbox=[1,1]), 'without a list of numbers'),
    (dict(segmentation='abc'), 'without a list of numbers'), (dict(segmentation=[[1,2,3,4,5,'x']]), 'without a list of numbers'),
    (dict(segmentation=[[1,2,3,4,5,float('nan')]]), 'without finite numbers'), (dict(segmentation=dict(size=[8,6], counts=[48])), 'another size'),
    (dict(image_id=5), 'of no picture'), (dict(image_id=[1]), 'of no picture'), (dict(category_id=8), 'of no known category'), (dict(category_id=None), 'category')])
def test_odd_annotations_are_left_out_with_a_remark(tmp_path, change, what):
    coco(tmp_path, [ann([rect(0,0,2,2)]), {**ann([rect(4,0,2,2)]), **change}])
    with pytest.warns(Remark, match=rf'train.json: left out or unknown: 1 annotations .*{what}.* \(1\)$'): chips = load_coco(tmp_path)['train']
    assert chips[0].mask.sum() == 4 and chips.instances(0).max() == 1
    one_line(lambda: load_dataset(tmp_path, strict=True), 'train.json', what, 'strict')
    coco(tmp_path/'b', [{**ann([rect(4,0,2,2)]), **change}])
    with pytest.warns(Remark): one_line(lambda: load_coco(tmp_path/'b'), 'no annotation has an outline')


def test_a_sliver_in_an_object_leaves_the_rest_of_it(tmp_path):
    coco(tmp_path, [ann([rect(0,0,2,2), [3,4,5,6]]), ann([[5,5,5,5,5,5]]), ann(rect(4,0,2,2)), ann([[[0,4],[2,4],[2,6],[0,6]]]), ann([encode(np.ones((6,8)))], category_id=7, iscrowd=1)])
    with pytest.warns(Remark, match='1 annotations with a part of fewer than three points'): chips = load_coco(tmp_path)['train']
    assert [(chips[0].mask == k).sum() for k in (1,255)] == [12,36] and len(np.unique(chips.instances(0))) == 4 # One ring alone; points in pairs; run lengths in a list


def test_boxes_are_unknown_or_objects(tmp_path):
    coco(tmp_path, [ann([], bbox=[0,0,3,2]), ann([rect(2,0,2,2)])])
    with pytest.warns(Remark, match='boxes without an outline'): chips = load_coco(tmp_path)['train']
    assert chips[0].mask[0].tolist() == [255,255,1,1,0,0,0,0] and chips.instances(0).max() == 1
    chips = load_coco(tmp_path, boxes='object')['train']
    assert chips[0].mask[0].tolist() == [1,1,1,1,0,0,0,0] and chips.instances(0)[0].tolist() == [1,1,2,2,0,0,0,0]
    one_line(lambda: load_coco(tmp_path, boxes='x'), "boxes: expected 'ignore' or 'object'")


def test_bad_run_lengths_come_with_file_and_row(tmp_path):
    chips = load_coco(coco(tmp_path, [ann(dict(size=[6,8], counts=[40]))]))['train']
    one_line(lambda: chips[0], 'train.json', 'annotations[0]', '48 pixels')


@pytest.mark.parametrize('image,what', [(dict(file_name=None), 'images[0]: expected an object with an id and a file_name'), (dict(file_name='b.png'), '1 of 1 pictures are missing: b.png'),
    (dict(id=None), 'images[0]: expected an object with an id'), (dict(file_name='..'), 'are missing')])
def test_bad_images(tmp_path, image, what):
    coco(tmp_path, [], [{**dict(id=1, file_name='image/a.png', width=8, height=6), **image}])
    one_line(lambda: load_coco(tmp_path), 'train.json', what)


@pytest.mark.parametrize('image', [dict(width=None, height=None), dict(width=0), dict(width=8.), dict(id='x1'), dict(id=0)])
def test_ids_may_be_text_and_the_picture_knows_its_size(tmp_path, image):
    image = {**dict(id=1, file_name='image/a.png', width=8, height=6), **image}
    chips = load_coco(coco(tmp_path, [ann([rect(0,0,2,2)], image_id=image['id'])], [image]))['train']
    assert chips[0].mask.sum() == 4


def test_a_picture_of_another_size_than_promised(tmp_path):
    chips = load_coco(coco(tmp_path, [], [dict(id=1, file_name='image/a.png', width=9, height=6)]))['train']
    one_line(lambda: chips[0], 'differ in size')


@pytest.mark.parametrize('text,what', [('{}', 'no list'), ('[]', 'no list'), ('{"images": [], "categories": [], "annotations": []}', 'at least one image'),
    ('{"images": [1], "categories": [], "annotations": []}', 'no list images'), ('nonsense', 'no valid JSON'), ('', 'no valid JSON')])
def test_bad_coco_files(tmp_path, text, what):
    (tmp_path/'x.json').write_text(text)
    one_line(lambda: load_dataset(tmp_path/'x.json'), 'x.json', what)


def test_twice_the_same_image_id(tmp_path):
    image = dict(id=1, file_name='image/a.png', width=8, height=6)
    coco(tmp_path, [], [image, image])
    assert len(load_coco(tmp_path)['train']) == 1 # The same row twice
    coco(tmp_path, [], [image, dict(image, file_name='image/b.png')])
    one_line(lambda: load_coco(tmp_path), 'images[1]: the id 1 is there twice')


def test_one_class_wanted_and_one_there_are_the_same(tmp_path):
    chips = load_coco(coco(tmp_path, [ann([rect(0,0,2,2)])]), classes=('ground','building'))['train']
    assert chips.classes == ('ground','house') and chips[0].mask.sum() == 4


def test_a_part_without_pictures_is_left_out(tmp_path):
    coco(tmp_path, [ann([rect(0,0,2,2)])])
    (tmp_path/'valid').mkdir()
    (tmp_path/'valid'/'_annotations.coco.json').write_text('{"images": [], "categories": [], "annotations": []}')
    assert list(load_coco(tmp_path)) == ['train']


def test_two_rows_of_one_picture_are_one_chip(tmp_path):
    image = dict(id=1, file_name='image/a.png', width=8, height=6)
    chips = load_coco(coco(tmp_path, [ann([rect(0,0,2,2)]), ann([rect(4,0,2,2)], image_id=2)], [image, dict(image, id=2)]))['train']
    assert len(chips) == 1 and chips[0].mask.sum() == 8


def test_rows_that_mean_one_picture(tmp_path):
    images = [dict(id=i, file_name=f'{o}/a.png', width=8, height=6) for i,o in ((1,'east'), (2,'west'))] # image/a.png would do for both
    one_line(lambda: load_coco(coco(tmp_path, [], images)), '2 of 2 pictures are missing: east/a.png, west/a.png')


def test_a_promised_size_costs_no_memory(tmp_path):
    import tracemalloc
    chips = load_coco(coco(tmp_path, [ann([rect(1,1,4,4)])], [dict(id=1, file_name='image/a.png', width=9000, height=9000)]))['train']
    tracemalloc.start()
    try:
        for take in (lambda: chips[0], lambda: chips.instances(0)): one_line(take, 'train.json', 'differ in size')
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally: tracemalloc.stop()


def test_a_missing_picture_takes_its_annotations_along(tmp_path):
    images = [dict(id=i, file_name=f'{o}.png', width=8, height=6) for i,o in enumerate('ab')]
    coco(tmp_path, [ann([rect(0,0,2,2)], image_id=i) for i in range(2)], images)
    with pytest.warns(Remark, match=r'left out or unknown: 1 pictures that are missing \(b.png\)$'): assert load_coco(tmp_path)['train'].names == ['a']


def test_parents_and_backgrounds_are_no_classes(tmp_path):
    def names(categories, used=1):
        return load_coco(coco(tmp_path, [ann([rect(0,0,2,2)], used)], categories=categories))['train'].classes[1:]
    assert names([dict(id=0, name='all', supercategory='none'), dict(id=1, name='house', supercategory='all')]) == ('house',)
    assert names([dict(id=0, name='house', supercategory='none'), dict(id=1, name='house', supercategory='house')]) == ('house',)
    assert names([dict(id=0, name='all', supercategory='none'), dict(id=1, name='house', supercategory='all')], 0) == ('all','house') # It is used
    assert names([dict(id=0, name='_background_', supercategory=None), dict(id=1, name=5, supercategory=5)]) == ('5',)
    assert names([dict(id=0, name='road'), dict(id=1, name='house', supercategory='')]) == ('road','house') # Absent, but no parent


def test_real_coco(real_data):
    parts = load_dataset(real_data/'footprints_coco')
    assert {k: (len(v), len(set(v.groups)), sum(int(v.instances(i).max()) for i in range(len(v)))) for k,v in parts.items()} == {
        'train': (270,54,811), 'val': (35,7,477)}
    for part,share in (('train',.110), ('val',.292)): assert abs(class_shares(parts[part])['building']-share) < .002
    counts = {g: parts['train'].groups.count(g) for g in parts['train'].groups}
    assert set(counts.values()) == {5} # One tile of zoom 19 and the four of zoom 20 on the same ground


def test_real_coco_by_pycocotools(real_data):
    COCO = pytest.importorskip('pycocotools.coco').COCO
    chips,api = load_coco(real_data/'footprints_coco')['val'],COCO(real_data/'footprints_coco'/'val'/'val.json')
    both = either = 0
    for i,k in enumerate(api.getImgIds()):
        theirs = np.any([api.annToMask(o) for o in api.loadAnns(api.getAnnIds(k))], 0)
        both,either = both+(theirs & (chips[i].mask == 1)).sum(),either+(theirs | (chips[i].mask == 1)).sum()
    assert both/either > .98 # The rule for pixels on an outline differs


@pytest.mark.parametrize('image_id,category_id', [('1','7'), (1,'7'), ('1',7)])
def test_ids_of_vgg_via_are_text_in_one_place_and_numbers_in_another(tmp_path, image_id, category_id):
    assert load_coco(coco(tmp_path, [ann([rect(1,1,3,3)], category_id, image_id)]))['train'][0].mask.sum() == 9
