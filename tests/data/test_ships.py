"""The ship challenge's table and pictures."""
import numpy as np
import pytest
from data_samples import one_line, save, ships

from satseg.data.datasets import load_dataset
from satseg.data.rle import rle_encode
from satseg.data.ships import load_ships
from satseg.data.splits import class_shares


def test_ships(tmp_path):
    m = np.zeros((3,4,3), np.uint8)
    m[0,:2,0] = m[1,3,:] = 1
    rows = [('a.jpg',rle_encode(m[0])), ('b.jpg',''), ('a.jpg',rle_encode(m[1]))]
    chips = load_dataset(ships(tmp_path, rows))['all']
    assert chips.names == ['a.jpg','b.jpg'] and (chips.instances(0) == m[0]+2*m[1]).all() and not chips[1].mask.any()
    assert load_dataset(tmp_path/'train_ship_segmentations_v2.csv')['all'].names == chips.names


def test_ships_without_partners(tmp_path):
    ships(tmp_path, [('a.jpg','1 2'), ('c.jpg','')])
    one_line(lambda: load_ships(tmp_path), 'c.jpg (no picture), b.jpg (no row)', "missing='skip'")
    assert load_ships(tmp_path, missing='skip')['all'].names == ['a.jpg']
    ships(tmp_path, [('z.jpg','1 2')])
    one_line(lambda: load_ships(tmp_path, missing='skip'), 'none of its 1 images')


@pytest.mark.parametrize('text,what', [('1 13', 'row 2'), ('0 1', 'row 2'), ('1', 'odd'), ('x y', 'row 2'), ('5 2 1 2', 'row 2'), ('1 -2', 'row 2')])
def test_bad_ships(tmp_path, text, what):
    chips = load_ships(ships(tmp_path, [('a.jpg',text), ('b.jpg','')]))['all']
    one_line(lambda: chips[0], 'train_ship_segmentations_v2.csv', what)


def test_test_pictures_have_no_masks(tmp_path):
    ships(tmp_path, [('a.jpg',''), ('b.jpg','')])
    save(tmp_path/'test_v2'/'t.jpg', np.zeros((4,3,3)))
    parts = load_ships(tmp_path)
    assert parts['test'].names == ['t.jpg'] and not parts['test'].has_masks


def test_overlapping_ships_do_not_leak(tmp_path):
    rng = np.random.default_rng(1)
    scene = np.kron(rng.integers(60, 120, (60,60,1)), np.ones((8,8,3))).astype(np.uint8)
    names = [f'{i}.jpg' for i in range(4)]
    ships(tmp_path, [(o,'') for o in names], names)
    for i,(y,x) in enumerate(((0,0), (120,40), (0,0), (160,160))): save(tmp_path/'train_v2'/f'{i}.jpg', np.roll(scene, 8*i if i > 1 else 0, 2)[y:y+300,x:x+300])
    save(tmp_path/'train_v2'/'3.jpg', rng.integers(0, 255, (300,300,3)))
    groups = load_ships(tmp_path)['all'].groups
    assert groups[0] == groups[1] and groups[3] == '3.jpg'
    assert load_ships(tmp_path, group=None)['all'].groups == names


def test_many_ships_are_compared_by_landmarks(tmp_path, monkeypatch):
    import satseg.data.ships as module
    seen = []
    monkeypatch.setattr(module, 'find_overlaps', lambda pictures: seen.append(len(pictures)) or [(0,1,0,0)])
    names = [f'{i:05}.jpg' for i in range(3001)]
    save(tmp_path/'train_v2'/names[0], np.zeros((4,3,3)))
    for o in names[1:]: (tmp_path/'train_v2'/o).hardlink_to(tmp_path/'train_v2'/names[0])
    (tmp_path/'train_ship_segmentations_v2.csv').write_text('ImageId,EncodedPixels\n' + ''.join(f'{o},\n' for o in names))
    groups = load_ships(tmp_path)['all'].groups
    assert seen == [3001] and groups[1] == groups[0] != groups[2]


def test_real_ships(real_data):
    chips = load_dataset(real_data/'ships')['all']
    assert len(chips) == 45 and len(set(chips.groups)) == 45 and sum(int(chips.instances(i).max()) for i in range(45)) == 105
    assert abs(class_shares(chips)['ship']-.0083) < .0002


def test_two_tables_ask_for_the_file(tmp_path):
    ships(tmp_path, [('a.jpg','1 2'), ('b.jpg','')])
    (tmp_path/'train_fixed.csv').write_text((tmp_path/'train_ship_segmentations_v2.csv').read_text())
    one_line(lambda: load_dataset(tmp_path), 'expected one CSV of ships, found train_fixed.csv, train_ship_segmentations_v2.csv: give the file')
    assert len(load_dataset(tmp_path/'train_fixed.csv')['all']) == 2
