"""A recipe gets its chips: parts that do not leak, windows, labels, each chip read once."""
from pathlib import Path

import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.learn.preparation import cached, open_dataset, prepare_data, split_chips, training_windows, _undersample
from satseg.learn.recipes import read_recipe, recipe_from
from satseg.learn.schema import Split

RECIPES = sorted((Path(__file__).resolve().parent.parent.parent/'nbs'/'recipes').glob('*.yaml'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda o: o.stem)
def test_every_recipe_finds_chips_in_its_synthetic_sample(path):
    r = read_recipe(path)
    with open_dataset(r, 'sample') as data:
        m = prepare_data(r, data)
        assert m.train[0].mask is not None and len({o.image.shape for o in m.train}) == 1
        for other in (m.valid, m.test):
            if other: assert not set(m.train.groups) & set(other.groups)
        if r.target.kind == 'borders': assert m.train.classes[-1] == 'border' and m.test.classes[-1] != 'border' and m.test.objects is not None


def pile(n, groups, **kw):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, (20,20)).astype(np.uint8) for _ in range(n)]
    return Chips([np.ones((20,20,3))*i for i in range(n)], masks, groups=groups, names=[f'{kw.get("prefix", "c")}{i}' for i in range(n)])


def test_groups_are_never_torn_apart():
    chips = pile(30, [f'g{i%7}' for i in range(30)])
    for seed in range(8):
        a,b,c = (set(o.groups) for o in split_chips(dict(all=chips), Split(share=.3, valid=.2, seed=seed)))
        assert a and b and c and not (a&b or a&c or b&c)
    assert [len(o) for o in split_chips(dict(all=chips), Split(by='chips', share=.1, valid=0)) if o] == [27,3]


def test_parts_that_share_a_group_are_refused():
    train,val = pile(6, list('aabbcc')),pile(2, ['c','d'], prefix='v')
    with pytest.raises(BadInput, match=r'1 groups are in train and in val \(such as c\), which leaks'): split_chips(dict(train=train, val=val), Split())
    a,b,c = split_chips(dict(train=train, val=val), Split(test='train', share=.34, valid=.5))
    assert {len(a), len(b), len(c)} == {2}
    with pytest.raises(BadInput, match='split.test: no vall: did you mean val'): split_chips(dict(train=train, val=val), Split(test='vall'))
    with pytest.raises(BadInput, match='at least 2 groups'): split_chips(dict(all=pile(4, ['a']*4)), Split())
    with pytest.raises(BadInput, match='has none'): split_chips(dict(all=Chips([np.ones((4,4,3))]*2)), Split())


def test_chips_without_named_groups_are_groups_of_their_own_part():
    train,val = (Chips([np.ones((4,4,3))*i for i in range(6)], [np.ones((4,4), np.uint8)]*6) for _ in range(2))
    assert train.names == val.names
    a,b,c = split_chips(dict(train=train, val=val), Split(valid=.5))
    assert [len(o) for o in (a,b,c)] == [3,3,6] and not set(a.groups + b.groups) & set(c.groups)
    with pytest.raises(BadInput, match='which leaks'):
        split_chips({k: pile(4, list('aabb')) for k in ('train','val')}, Split()) # Somebody named these


def test_borders_are_drawn_before_cutting_and_memory_changes_nothing():
    mask = np.zeros((32,32), np.uint8)
    mask[4:28,4:28] = 1
    chips = Chips([np.arange(32*32*3).reshape(32,32,3)], [mask], objects=[mask.astype(int)])
    borders = recipe_from(dict(data=dict(size=16), target=dict(kind='borders', width=2)))
    made = training_windows(chips, borders)
    kept = cached(made, 1e5)
    assert made[0].mask[15,15] == 1 == made[3].mask[0,0] and made[0].mask[4,8] == 2 # The cut is no border
    for i in (0, 3, 1, 0): assert np.array_equal(made[i].mask, kept[i].mask) and np.array_equal(made[i].image, kept[i].image) and made.names[i] == kept.names[i]
    with pytest.raises(BadInput, match='one class of objects'): training_windows(Chips([np.ones((4,4,3))], [np.zeros((4,4))], classes='abc'), borders)


def test_undersampling_keeps_what_has_foreground():
    counts = np.array([[32,32]]*5 + [[64,0]]*15)
    kept = _undersample(counts, keep=.2, seed=1)
    assert len(kept) == 8 and kept[:5] == [0,1,2,3,4]
    assert _undersample(counts, keep=.2, seed=1) == kept


def test_the_advice_for_too_few_groups_helps():
    with pytest.raises(BadInput, match='set split.by=chips$'): split_chips(dict(all=pile(4, ['a']*4)), Split(valid=0))
    assert split_chips(dict(all=pile(4, ['a']*4)), Split(by='chips', valid=0))[2]
    with pytest.raises(BadInput, match='set split.valid=0$'): split_chips(dict(all=pile(2, ['a','b'])), Split(by='chips', share=.5, valid=.2))
    assert len(split_chips(dict(all=pile(2, ['a','b'])), Split(by='chips', share=.5, valid=0))[0]) == 1
    with pytest.raises(BadInput, match='cut the pictures into more files$'): split_chips(dict(all=pile(1, ['a'])), Split(valid=0)) # One cannot be dealt


def test_train_and_valid_share_one_room(monkeypatch):
    "Each had 2 GB of its own, and as much again for whole pictures: 7.9 GB for an orthomosaic."
    import satseg.learn.preparation as it
    rooms,r = [],read_recipe(RECIPES[0])
    monkeypatch.setattr(it, 'cached', lambda chips, room: rooms.append(room) or chips)
    with open_dataset(r, 'sample') as data: prepare_data(r, data)
    assert len(rooms) == 2 and sum(rooms) == pytest.approx(2e9)


def test_a_picture_above_the_room_is_read_once_for_its_windows(monkeypatch):
    from satseg.data.arrays import Cache
    class Small(Cache):
        def __init__(self, function, n, room=0, *a, **kw): super().__init__(function, n, min(room, 10), *a, **kw)
    seen = []
    pictures = Small(lambda i: seen.append(i) or np.zeros((64,64,3), np.float32), 2, 0, lambda i: (64,64))
    monkeypatch.setattr('satseg.data.chips.Cache', Small)
    for o in Chips(pictures, [np.zeros((64,64))]*2).cut(16): pass
    assert seen == [0,1]
