"""Where tools lay COCO files and pictures."""
import json
import os

import numpy as np
import pytest
from data_samples import ann, one_line, rect, save

from satseg.core.errors import Hint, Remark
from satseg.data.coco import load_coco
from satseg.data.coco_files import find_coco, find_pictures, recognise_coco
from satseg.data.datasets import kind_of, load_dataset


def dataset(root, pictures, files):
    "Pictures of a grey of their own by path; file -> names in it; every picture has one house, as wide as its number in the file."
    for k,o in enumerate(pictures): save(root/o, np.full((6,8,3), 10*k), **(dict(quality=95) if o.lower().endswith('g') and not o.endswith('png') else {}))
    for file,names in files.items():
        (root/file).parent.mkdir(parents=True, exist_ok=True)
        images = [dict(id=i, file_name=o, width=8, height=6) for i,o in enumerate(names)]
        (root/file).write_text(json.dumps(dict(info={}, images=images, annotations=[ann([rect(0,0,i+1,1)], 0, i) for i in range(len(names))], categories=[dict(id=0, name='house')])))
    return root


def greys(root): return {k: [int(o.image.mean().round()/10+.5) for o in v] for k,v in load_dataset(root).items()}


LAYOUTS = dict(
    cvat=(['images/Train/0.png','images/Val/0.png'], {'annotations/instances_Train.json': ['0.png'], 'annotations/instances_Val.json': ['0.png']}, dict(train=[0], val=[1])),
    cvat_default=(['images/job1/f.png','images/job2/f.png'], {'annotations/instances_default.json': ['job1/f.png','job2/f.png']}, dict(all=[0,1])),
    two_subsets=(['images/a.png','images/b.png'], {'annotations/instances_town.json': ['a.png'], 'annotations/instances_lake.json': ['b.png']}, dict(all=[1,0])),
    datumaro=(['images/train/a.png','images/val/b.png'], {'annotations/instances_train.json': ['a.png'], 'annotations/instances_val.json': ['b.png'],
              'annotations/captions_train.json': ['a.png']}, dict(train=[0], val=[1])),
    coco2017=(['train2017/1.png','val2017/1.png'], {'annotations/instances_train2017.json': ['1.png'], 'annotations/instances_val2017.json': ['1.png']}, dict(train=[0], val=[1])),
    roboflow=(['train/a.png','valid/a.png','test/a.png'], {f'{o}/_annotations.coco.json': ['a.png'] for o in ('train','valid','test')}, dict(test=[2], train=[0], val=[1])),
    label_studio=(['images/c-1.png','images/c-2.png'], {'result.json': ['..\\..\\media\\upload\\4\\c-1.png', '/data/upload/4/c-2.png']}, dict(all=[0,1])),
    label_studio_local=(['images/c 1.png','images/C-2.PNG'], {'result.json': ['/data/local-files/?d=c%201.png', 'C:\\me\\c-2.png']}, dict(all=[0,1])),
    label_studio_new=(['images/1/c.png','images/2/c.png'], {'result_coco.json': ['images/../upload/1/c.png', 'upload\\2\\c.png']}, dict(all=[0,1])),
    fiftyone=(['data/a.png'], {'labels.json': ['a.png']}, dict(all=[0])),
    beside=(['a.png','old/a.png','masks/a.png'], {'x.json': ['a.png']}, dict(all=[0])),
    address=(['pics/a.png'], {'x.json': ['https://tool.org/bucket/a.png']}, dict(all=[0])),
    accents=(['images/e\u0301.png'], {'x.json': ['\u00e9.png']}, dict(all=[0])))


@pytest.mark.parametrize('name', LAYOUTS)
def test_layouts_of_tools(tmp_path, name):
    pictures,files,want = LAYOUTS[name]
    root = dataset(tmp_path, pictures, files)
    assert kind_of(root) == 'coco' and greys(root) == want
    for chips in load_coco(root).values(): assert all(o.mask.sum() > 0 for o in chips)
    if name == 'cvat_default': assert len(set(load_coco(root)['all'].groups)) == 2


def test_what_is_not_surely_the_picture_is_missing(tmp_path):
    root = dataset(tmp_path, ['images/job2/f.png','a/x.png','b/x.png','images/val/v.png'], {'annotations/instances_train.json': ['job1/f.png','job2/f.png','x.png','v.png']})
    names = ['job1/f.png','job2/f.png','x.png','v.png','../../../etc/passwd','']
    found,_ = find_pictures(root/'annotations'/'instances_train.json', 'train', names)
    assert [o for o in found if found[o]] == ['job2/f.png'] # Another job's, one of two, one of val


def test_a_picture_of_another_site_is_missing(tmp_path):
    root = dataset(tmp_path, ['siteB/0.png','siteB/1.png'], {'siteA.json': ['siteA/0.png','siteA/1.png']})
    one_line(lambda: load_dataset(root), '2 of 2 pictures are missing: siteA/0.png')
    (root/'siteB').rename(root/'photos') # No site, so it may be the one that is meant
    assert greys(root) == dict(all=[0,1])


@pytest.mark.parametrize('a,b', [('annotations/train.json','annotations/train_v2.json'), ('labels.json','labels_backup.json')])
def test_two_files_about_the_same_pictures_are_not_added_up(tmp_path, a, b):
    root = dataset(tmp_path, ['images/0.png','images/1.png'], {a: ['0.png','1.png'], b: ['1.png']})
    one_line(lambda: load_dataset(root), f'1 of 1 pictures of {b.split("/")[-1]} are in {a.split("/")[-1]} too: 1.png: give one of the files, merge them, or take')
    assert sum(map(len, load_dataset(root/a).values())) == 2 # The advice helps


def test_parts_share_no_picture(tmp_path):
    "What is learned from is not judged on; the file of all pictures that the parts were made from is left out."
    root = dataset(tmp_path, [f'images/{i}.png' for i in range(5)], {'annotations/instances_train.json': ['0.png','1.png','2.png'], 'annotations/instances_val.json': ['2.png','3.png']})
    one_line(lambda: load_dataset(root), '1 of 2 pictures of instances_val.json are in instances_train.json too: 2.png', 'take the pictures out of one')
    data = json.loads((root/'annotations/instances_val.json').read_text())
    data['images'] = data['images'][1:] # As the message says
    (root/'annotations/instances_val.json').write_text(json.dumps(data))
    assert greys(root) == dict(train=[0,1,2], val=[3])
    dataset(tmp_path, [], {'annotations/instances_all.json': [f'{i}.png' for i in range(5)]})
    with pytest.warns(Remark, match='left out: all of instances_all.json, for 4 of 5 pictures of instances_all.json are in instances_train.json too'): assert greys(root) == dict(train=[0,1,2], val=[3])


def test_never_outside_and_linked_folders_are_read(tmp_path):
    save(tmp_path/'outside'/'a.png', np.zeros((6,8,3)))
    root = dataset(tmp_path/'d', ['images/b.png'], {'result.json': ['../outside/a.png', str(tmp_path/'outside'/'a.png')]})
    assert not any(find_pictures(root/'result.json', 'all', ['../outside/a.png', str(tmp_path/'outside'/'a.png')])[0].values())
    os.symlink(tmp_path/'outside', root/'linked')
    assert find_pictures(root/'result.json', 'all', ['a.png'])[0] == {'a.png': root/'linked'/'a.png'}


def test_other_json_is_not_taken_for_coco(tmp_path):
    lists = '"images": [], "annotations": [], "categories": []'
    for text in ('{"0": "road"}', f'[{{{lists}}}]', '{"type": "FeatureCollection", "features": []}', '', 'x', '{"categories": [{"id": 0}]}', '{"images": ["a"], "annotations": [], "categories": []}'):
        (tmp_path/'a.json').write_text(text)
        assert not recognise_coco(tmp_path)
        one_line(lambda: find_coco(tmp_path), 'annotations/instances_train.json')
    (tmp_path/'a.json').write_text(f'\ufeff {{"licenses": [], {lists}}}', 'utf-8')
    assert recognise_coco(tmp_path)


def test_masks_win_over_a_coco_file_about_few_pictures(tmp_path):
    root = dataset(tmp_path, [f'{o}/{i}.png' for o in ('images','masks') for i in range(4)], {'trees.json': ['0.png']})
    with pytest.warns(Hint, match='about few of the pictures is not read'): assert len(load_dataset(root, mask_kind='255')['all']) == 4
    assert kind_of(root) == 'folders' and kind_of(dataset(root, [], {'trees.json': ['0.png','1.png']})) == 'coco'
    for o in (root/'masks').iterdir(): o.unlink()
    assert kind_of(dataset(root, [f'images/{i}.png' for i in range(9)], {'trees.json': ['0.png']})) == 'coco' # Nothing else says more
