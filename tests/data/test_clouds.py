"""Cloud masks in arrays, and lists of a published split."""
import json

import numpy as np
import pytest
from data_samples import MARKS, clouds, one_line, save

from satseg.data.clouds import load_clouds
from satseg.data.parts import read_split
from satseg.data.datasets import load_dataset
from satseg.data.splits import class_shares


@pytest.mark.parametrize('shadow,want,classes', [('background',0,2), ('class',2,3), ('ignore',255,2)])
def test_clouds(tmp_path, shadow, want, classes):
    chips = load_dataset(clouds(tmp_path, [MARKS]), shadow=shadow)['all']
    assert chips[0].mask.tolist() == [[0,1],[want,255]] and len(chips.classes) == classes
    assert chips[0].image[:,0,0].tolist() == [3,2,1,7] and chips.bands == ('B04','B03','B02','B08')


def test_cloud_bands(tmp_path):
    eight = clouds(tmp_path/'8', [MARKS], 8)
    assert load_clouds(eight)['all'][0].image[:,0,0].tolist() == [2,1,0,3] # Blue comes first in the files
    assert load_clouds(eight, bands=('cirrus','thermal'))['all'][0].image[:,0,0].tolist() == [6,7]
    assert load_clouds(eight, all_bands=list('RGB')+['NIR','S1','S2','C','T'])['all'][0].image[:,0,0].tolist() == [0,1,2,3]
    one_line(lambda: load_clouds(clouds(tmp_path/'5', [MARKS], 5)), 's_0000.npy', 'expected a band B04')
    one_line(lambda: load_clouds(eight, all_bands='abc'), 'expected the 3 bands a,b,c, found 8')


def test_cloud_splits_and_groups(tmp_path):
    names = ['S2A_MSIL1C_20180101_N0206_R080_T32TLS_1','S2B_MSIL1C_20180603_N0206_R080_T32TLS_2','Water_02_1010']
    clouds(tmp_path/'d', [MARKS]*3, names=names)
    assert load_clouds(tmp_path/'d')['all'].groups == ['T32TLS','T32TLS','Water_02']
    (tmp_path/'l').mkdir()
    (tmp_path/'l'/'train.txt').write_text(f'{names[0]}.npy\n{names[1]}\n')
    (tmp_path/'l'/'val.txt').write_text(f'{names[2]}\n')
    (tmp_path/'l.csv').write_text('name,split\n' + '\n'.join(f'{n},{p}' for n,p in zip(names, ('train','train','validation'))))
    (tmp_path/'l.json').write_text(json.dumps(dict(train=names[:2], val=names[2:])))
    for o in ('l','l.csv','l.json'):
        parts = load_clouds(tmp_path/'d', split=tmp_path/o)
        assert {k: v.names for k,v in parts.items()} == dict(train=names[:2], val=names[2:]), o
    assert list(load_clouds(tmp_path/'d', split=tmp_path/'l'/'val.txt')) == ['val']


@pytest.mark.parametrize('text,what', [('{"train": ["a"], "val": ["a.npy"]}', 'a is listed twice'), ('{"train": 1}', 'lists of names'), ('{}', 'found none'),
                                       ('{"x": ["a"]}', "'x'"), ('{"train": ["zzz"]}', '1 scenes are not in')])
def test_bad_splits(tmp_path, text, what):
    (tmp_path/'l.json').write_text(text)
    one_line(lambda: load_clouds(clouds(tmp_path/'d', [MARKS]), split=tmp_path/'l.json'), what)
    (tmp_path/'l.csv').write_text('a,train\nb,moon\n')
    one_line(lambda: read_split(tmp_path/'l.csv'), 'row 2', 'moon')


def test_bad_clouds(tmp_path):
    root = clouds(tmp_path, [MARKS, np.ones((2,2,3), bool), np.zeros((2,2,4), bool), MARKS*3])
    chips = load_clouds(root)['all']
    one_line(lambda: chips[1], 's_0001.npy', '4 pixels have more than one class')
    one_line(lambda: chips[2], 's_0002.npy', '(2, 2, 4)')
    one_line(lambda: chips[3], 's_0003.npy', 'of 0 and 1')
    np.save(root/'masks'/'s_0000.npy', np.array([{}]), allow_pickle=True)
    one_line(lambda: chips[0], 's_0000.npy', 'expected a .npy file of numbers')
    (root/'masks'/'s_0000.npy').write_bytes(b'\x93NUMPY\x01\0v\0{')
    one_line(lambda: load_clouds(root)['all'][0], 's_0000.npy')
    (root/'masks'/'s_0000.npy').unlink()
    one_line(lambda: load_clouds(root), 's_0000 (no mask)')


def test_a_large_scene_is_cut_so_that_every_pixel_is_used(tmp_path):
    m = np.zeros((102,102,3), bool)
    m[...,0] = True
    m[-1,-1] = [0,1,0]
    cut = load_clouds(clouds(tmp_path, [m]))['all'].cut(32)
    assert sum(o.mask.sum() for o in cut) == 1 and set(cut.groups) == {'s'} and {o.mask.shape for o in cut} == {(32,32)}


def test_both_names_of_a_part_are_one_part(tmp_path):
    (tmp_path/'s.csv').write_text('name,part\na,train\nb,Train\nc,val\nd,valid\n')
    assert read_split(tmp_path/'s.csv') == {'train': ['a','b'], 'val': ['c','d']}
    assert read_split({'val': ['a'], 'validation': ['b']}) == {'val': ['a','b']}
    (tmp_path/'s.csv').write_text('a,trian\nb,train\n')
    one_line(lambda: read_split(tmp_path/'s.csv'), 'row 1', 'trian')


def test_real_clouds(real_data):
    chips = load_dataset(real_data/'clouds_landsat8', shadow='class')['all']
    assert len(chips) == 20 and len(set(chips.groups)) == 20
    shares = class_shares(chips)
    assert abs(shares['cloud']-.4935) < .001 and 0 < shares['shadow'] < .1
    water = chips[chips.names.index('Water_02_1010')].image
    red,green,blue,nir = np.median(water.reshape(4,-1), 1)
    assert blue > green > red > nir # The air scatters blue most: the files begin with blue, whatever their description says


def test_the_catalogue_as_published(tmp_path):
    "Zenodo 4172871: classification_tags.csv says where shadows are marked (424 of 513 scenes), alt_masks/ holds marks of a second person."
    import warnings
    names = [f'S2A_MSIL1C_2018010{i}T100000_N0206_R080_T32TL{c}_20180101T120000' for i,c in enumerate('QRS')]
    root = clouds(tmp_path, [MARKS]*3, names=names)
    (root/'classification_tags.csv').write_text('index,scene,difficulty,shadows_marked,dataset\n' + ''.join(f'{i},{n},2,{int(i != 1)},MAIN\n' for i,n in enumerate(names)))
    (root/'alt_masks').mkdir()
    (root/'README.pdf').write_bytes(b'%PDF')
    (root/'thumbnails').mkdir()
    save(root/'thumbnails'/f'{names[0]}.png', np.zeros((4,4,3)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert load_dataset(root)['all'].names == names # Shadow is clear: nothing is missing
        assert load_dataset(root, shadow='class')['all'].names == [names[0],names[2]]
    assert f'left out: 1 scenes whose shadows are not marked: {names[1]}; alt_masks/' in str(said[-1].message)
    (root/'subscenes').rename(root/'packed') # As some unpack it: subscenes/subscenes
    (root/'subscenes').mkdir()
    (root/'packed').rename(root/'subscenes'/'subscenes')
    assert load_dataset(root)['all'][2].mask.tolist() == [[0,1],[0,255]]
