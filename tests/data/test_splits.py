"Guards for satseg.data.splits: groups stay together, parts come near their share."
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from satseg.core.display import IGNORE
from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.data.splits import class_shares, split_groups

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


def test_class_shares():
    shares = class_shares(CHIPS)
    assert list(shares) == ['background', 'building'] and shares['building'] == pytest.approx(np.concatenate([m.ravel() for m in MASKS]).mean())
    with pytest.raises(BadInput, match='masks'): class_shares(Chips(IMAGES))
    with pytest.raises(BadInput, match='labelled pixels'): class_shares(Chips([np.zeros((1, 1, 3))], [np.array([[IGNORE]])], has_ignore=True))


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
