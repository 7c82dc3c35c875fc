"""Pictures of one scene are found by their texture."""
import numpy as np
import pytest
from data_samples import jpeg

from satseg.data.splits import find_overlaps, overlap_groups
from satseg.data.ships import load_ships


@pytest.mark.parametrize('shift', [(0,0), (96,0), (3,61), (100,70)])
def test_shifted_crops_are_found(shift):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(60, 90, (90,90,1)), np.ones((4,4,3))) + rng.integers(0, 12, (360,360,3))
    scene[200:215,180:240] = 250 # A ship
    dy,dx = shift
    crops = [jpeg(o.astype(np.uint8), q) for o,q in ((scene[:200,:200], 90), (scene[dy:dy+200,dx:dx+200], 70), (scene[:200,:200][::-1], 90))]
    pairs = find_overlaps(crops, step=4)
    assert [o[:2] for o in pairs] == [(0,1)] and abs(pairs[0][2]+dy) <= 4 and abs(pairs[0][3]+dx) <= 4
    assert overlap_groups(pairs, 'abc') == ['a','a','c']


def test_flat_pictures_do_not_match_by_accident():
    flat = [np.full((64,64,3), v, np.uint8) for v in (0,90,90)]
    assert find_overlaps(flat) == [] and find_overlaps(flat[:1]) == [] and find_overlaps([np.zeros((3,3,3))]*2) == []
    faint = np.zeros((96,96,3), np.uint8)
    faint[::7] = 1 # Some texture, no landmark
    assert isinstance(find_overlaps([faint, faint[::-1]], exact=0), list)


def test_real_crops_cut_anew_are_found(real_data):
    chips,crops = load_ships(real_data/'ships', group=None)['all'],[]
    for i in range(0, 24, 2):
        a = chips.images[i]
        crops += [jpeg(np.ascontiguousarray(a[:512,:512]), 85), jpeg(np.ascontiguousarray(a[200:712,101:613]), 75)]
    pairs = find_overlaps(crops)
    assert [o[:2] for o in pairs] == [(2*k,2*k+1) for k in range(12)] and all(abs(dy+200) <= 8 and abs(dx+101) <= 8 for _,_,dy,dx in pairs)


def test_landmarks_find_what_all_pairs_find(real_data):
    chips,crops = load_ships(real_data/'ships', group=None)['all'],[]
    for i in range(0, 24, 2):
        a = chips.images[i]
        crops += [jpeg(np.ascontiguousarray(a[:512,:512]), 85), jpeg(np.ascontiguousarray(a[200:712,101:613]), 75)]
    assert find_overlaps(crops, exact=0) == find_overlaps(crops)
    assert find_overlaps(chips.images, exact=0) == find_overlaps(chips.images) == []
