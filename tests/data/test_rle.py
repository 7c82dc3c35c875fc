"""Run lengths there and back, against a loop and pycocotools, and strict with damaged text."""
import numpy as np
import pytest
from data_samples import random_mask
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.rle import coco_rle_decode, rle_decode, rle_encode

coco = pytest.importorskip('pycocotools.mask')
quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)


def slow_rle(mask):
    "Kaggle's run lengths pixel by pixel."
    runs, last = [], 0
    for i, v in enumerate(mask.T.ravel(), 1):
        if v and last: runs[-1] += 1
        elif v: runs += [i, 1]
        last = v
    return ' '.join(map(str, runs))


@quick
@given(seeds)
def test_run_lengths_there_and_back(seed):
    mask = random_mask(seed)
    assert rle_encode(mask)==slow_rle(mask)
    back = rle_decode(rle_encode(mask), mask.shape)
    assert back.dtype==np.uint8 and np.array_equal(back, mask)


@quick
@given(seeds)
def test_coco_run_lengths_equal_pycocotools(seed):
    mask = random_mask(seed, 300 if seed%5==0 else 24)
    theirs = coco.encode(np.asfortranarray(mask))
    assert np.array_equal(coco_rle_decode(theirs), mask)
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0))
    counts = np.diff(edges, prepend=0, append=mask.size).tolist()
    assert np.array_equal(coco_rle_decode(dict(size=list(mask.shape), counts=counts)), mask)


@quick
@given(st.text('0123456789 -a.', max_size=12))
def test_run_lengths_of_any_text_are_a_mask_or_one_line(text):
    try: mask = rle_decode(text, (3, 4))
    except BadInput as e: assert '\n' not in str(e)
    else: assert rle_decode(rle_encode(mask), (3, 4)).tolist()==mask.tolist()


@quick
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=9))
def test_coco_text_of_any_kind_is_a_mask_or_one_line(text):
    try: mask = coco_rle_decode(dict(size=[3, 4], counts=text))
    except BadInput as e: assert '\n' not in str(e)
    else: assert mask.shape==(3, 4) and set(np.unique(mask))<={0, 1}


@pytest.mark.parametrize('rle,problem', [
    (dict(size=[3, 4], counts=[12, -1, 1]), 'whole numbers'), (dict(size=[3, 4], counts=[True]*12), 'whole numbers'), ([1, 2], 'size and counts'),
    (dict(size=[3], counts=[12]), 'the size (H,W)'), (dict(size=[10**9, 10**9], counts=[10**18]), 'the size (H,W)'), (dict(size=[3, 4], counts=[11]), 'add up to the 12 pixels'),
    (dict(size=[3, 4], counts='o'*30), 'cut off'), (dict(size=[3, 4], counts='o'*30+'0'), 'cut off'), (dict(size=[3, 4], counts=''), 'cut off'), (dict(size=[3, 4], counts=[]), 'cut off'),
    (dict(size=[3, 4], counts='0'), 'add up'), (dict(size=[1, 1], counts='0'), 'add up'),
    (dict(size=[3, 4], counts='1\0'), 'cut off'), (dict(size=[3, 4], counts='11J;'), 'add up'), (dict(size=[3, 4], counts='ooooo?1'), 'add up')])
def test_bad_coco_run_lengths(rle, problem):
    with pytest.raises(BadInput) as e: coco_rle_decode(rle)
    assert problem in str(e.value)


def test_a_short_coco_text_never_shows_memory_that_was_not_written():
    "pycocotools decodes too few counts without a word; what it returns then is whatever lay there."
    for n in range(1, 12):
        text = coco.encode(np.asfortranarray(np.arange(n, dtype=np.uint8)[None]%2))['counts'].decode()
        for h, w in ((1, n), (n, 1)): assert coco_rle_decode(dict(size=[h, w], counts=text)).ravel().tolist()==[i%2 for i in range(n)]
        for size in ([1, n+1], [2, n], [1, max(n-1, 1)]):
            if size[0]*size[1]!=n:
                with pytest.raises(BadInput, match='add up'): coco_rle_decode(dict(size=size, counts=text))
