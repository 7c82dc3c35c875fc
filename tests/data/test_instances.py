"""Instances from masks and probabilities: borders, watershed, small objects."""
import numpy as np
from data_samples import random_instances, random_mask
from hypothesis import given, settings, strategies as st

from satseg.data.instances import border_mask, drop_small, instances_from_mask, instances_from_probabilities, label_components

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)


@quick
@given(seeds)
def test_border_classes(seed):
    ids = random_instances(seed)
    mask = (ids>0).astype(np.uint8)
    pad = np.pad(ids, 1, mode='edge')
    deep = (pad[2:, 1:-1]==ids)&(pad[:-2, 1:-1]==ids)&(pad[1:-1, 2:]==ids)&(pad[1:-1, :-2]==ids)
    thin = set(np.unique(ids))-set(np.unique(ids[deep]))  # Objects that are all edge stay inside as a whole
    for width in (1, 2, 3):
        res = border_mask(mask, ids, width=width, contact=0)
        assert np.array_equal(res>0, mask>0)
        assert set(np.unique(ids[res==1]))==set(np.unique(ids[ids>0]))  # Every object keeps an inside
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            touch = (ids[a]!=ids[b])&(res[a]==1)&(res[b]==1)
            assert set(ids[a][touch])|set(ids[b][touch])<=thin


def test_touching_houses_come_back():
    ids = np.zeros((80, 80), np.int32)
    for i in range(9): ids[4+24*(i//3):28+24*(i//3), 4+24*(i%3):28+24*(i%3)] = i+1
    classes = border_mask(ids>0, ids)
    assert label_components(ids>0).max()==1
    probs = np.stack([classes==k for k in range(3)])*.8+.2/3
    assert np.array_equal(instances_from_probabilities(probs), ids)
    noisy = probs.copy()
    noisy[:, 60, 60] = noisy[:, 40, 2] = .1, .8, .1  # A speck outside the border, and one inside
    assert instances_from_probabilities(noisy).max()==9


def test_gaps_between_objects_are_border():
    ids = np.zeros((5, 12), np.int32)
    ids[:, :3], ids[:, 4:7], ids[:, 10:] = 1, 2, 3
    gap = [(border_mask(ids>0, ids, width=1, contact=k)==2)[2, [3, 7, 8, 9]].tolist() for k in range(4)]
    assert gap==[[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]


@quick
@given(seeds)
def test_instances_cover_the_mask(seed):
    mask = random_mask(seed, 40)
    ids = instances_from_mask(mask, min_area=0)
    assert np.array_equal(ids>0, mask>0) and ids.max()>=label_components(mask).max()
    probs = np.random.default_rng(seed).dirichlet([1, 1, 1], mask.shape).transpose(2, 0, 1).astype(np.float32)
    ids = instances_from_probabilities(probs, min_seed=0, min_area=0)
    assert np.array_equal(ids>0, probs[1]+probs[2]>=np.float32(.5))
    assert np.array_equal(label_components(ids)>0, ids>0) and label_components(ids).max()==ids.max()  # Each in one piece
    areas = np.bincount(drop_small(ids, 7).ravel())[1:]
    assert (areas>=7).all() and len(areas)==(np.bincount(ids.ravel())[1:]>=7).sum()
