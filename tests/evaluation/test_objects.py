"""Object scores against the slow and obvious way of counting."""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.evaluation.metrics import ratios
from satseg.evaluation.objects import ObjectCounts, image_f2, match_objects, object_scores, overlaps

quick = settings(max_examples=120, deadline=None)
seeds = st.integers(0, 2**32)


def random_pair(seed, most=5):
    "Truth of a few boxes with odd ids, and a prediction that moved, merged, split, lost or invented some."
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, 14, 2)
    true = np.zeros((h, w), np.int32)
    ids = rng.choice(10_000, most, replace=False)+1
    for i in ids[:rng.integers(0, most+1)]:
        (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 7, 2)
        true[r:r+dr, c:c+dc] = i
    if rng.random()<.2: return rng.integers(0, 3, (h, w)), true
    pred = np.roll(true, rng.integers(-1, 2, 2), (0, 1))
    for i in ids:
        if rng.random()<.3: pred[pred==i] = rng.choice(ids)*(rng.random()<.6)
        elif rng.random()<.2: pred[:, w//2:][pred[:, w//2:]==i] = 20_000+i
    return pred, true


def slow_pairs(pred, true):
    "IoU of every predicted object (row) with every true one."
    ps, ts = ([ids==i for i in np.unique(ids[ids>0])] for ids in (pred, true))
    return np.array([[(p & t).sum()/(p | t).sum() for t in ts] for p in ps]).reshape(len(ps), len(ts))


def most_matches(ok):
    "Most one-to-one pairs, by trying all."
    if ok.shape[0]>ok.shape[1]: ok = ok.T
    return max((sum(ok[i, j] for i, j in enumerate(o)) for o in itertools.permutations(range(ok.shape[1]), ok.shape[0])), default=0)


@quick
@given(seeds, st.sampled_from([.1, .25, 1/3, .5, .55, .75, 1]))
def test_matches_are_the_most_there_are(seed, iou):
    pred, true = random_pair(seed)
    pairs = slow_pairs(pred, true)
    tp = most_matches(pairs>=iou)
    assert match_objects(pred, true, iou)==ObjectCounts(tp, pairs.shape[0]-tp, pairs.shape[1]-tp)


@quick
@given(seeds)
def test_overlaps_are_all_pairs_that_touch(seed):
    pred, true = random_pair(seed)
    p, t, inter, union, *n = overlaps(pred, true)
    full = np.zeros(n)
    full[p-1, t-1] = inter/union
    assert np.array_equal(full, slow_pairs(pred, true))


def slow_f2(pred, true):
    "The challenge's page, read aloud."
    pairs, total = slow_pairs(pred, true), 0
    n_pred, n_true = pairs.shape
    if n_true==0: return 1 if n_pred==0 else 0
    for t in (.5, .55, .6, .65, .7, .75, .8, .85, .9, .95):
        tp = sum(any(pairs[i, j]>t for i in range(n_pred)) for j in range(n_true))
        fp = sum(not any(pairs[i, j]>t for j in range(n_true)) for i in range(n_pred))
        total += 5*tp/(5*tp+4*(n_true-tp)+fp)
    return total/10


@quick
@given(seeds)
def test_ship_f2_is_what_the_page_says(seed):
    pred, true = random_pair(seed)
    assert image_f2(pred, true)==pytest.approx(slow_f2(pred, true), abs=1e-12)


@pytest.mark.parametrize('k', range(10, 20))
def test_an_iou_of_exactly_the_threshold_is_no_ship_hit_but_an_object_match(k):
    true, pred = np.ones((1, 20), int), np.ones((1, 20), int)
    pred[0, k:] = 0  # IoU k/20
    assert image_f2(pred, true)==pytest.approx((k-10)/10)
    assert match_objects(pred, true, k/20).tp==1 and match_objects(pred, true, k/20+.001).tp==0


@quick
@given(st.lists(seeds, min_size=1, max_size=6))
def test_sums_over_images(seeds):
    pairs = [random_pair(o) for o in seeds]
    counts = sum((match_objects(*o) for o in pairs), ObjectCounts())
    tall = [np.concatenate([np.where(o>0, o+i*100_000, 0).ravel() for i, o in enumerate(side)])[None] for side in zip(*pairs)]
    assert counts==match_objects(*tall)  # One image that holds them all
    res = object_scores(counts)
    if counts.tp: assert 1/res['f1']==pytest.approx((1/res['precision']+1/res['recall'])/2)


@quick
@given(seeds)
def test_numbers_of_objects_do_not_matter(seed):
    pred, true = random_pair(seed)
    far = np.where(pred>0, 2**40-pred.astype(np.int64), 0)
    assert match_objects(far, true)==match_objects(pred, true) and image_f2(far, true)==image_f2(pred, true)
    assert match_objects(true, true)==ObjectCounts(len(np.unique(true[true>0]))) and image_f2(true, true)==1


def test_pixels_that_count_for_nobody():
    pred, true = np.array([[1, 1, 0, 2, 2, 2]]), np.array([[1, 1, 0, 0, 0, 5]])
    ignore = np.array([[0, 0, 0, 1, 1, 0]], bool)
    assert match_objects(pred, true)==ObjectCounts(1, 1, 1) and match_objects(pred, true, ignore=ignore)==ObjectCounts(2, 0, 0)


def test_empty_images_and_bad_input():
    none = np.zeros((4, 4), int)
    assert match_objects(none, none)==ObjectCounts() and object_scores(ObjectCounts(0, 1, 1))['f1']==0
    assert match_objects(none, none+1)==ObjectCounts(0, 0, 1)
    for bad in (none[:3], none.astype(float), none-1, none[None]):
        with pytest.raises(BadInput): match_objects(bad, none)
        with pytest.raises(BadInput): image_f2(bad, none)
    for iou in (0, -1, 1.1, float('nan')):
        with pytest.raises(BadInput): match_objects(none, none, iou)


def test_scores_of_empty_sets_are_one_rule():
    "Nothing there and nothing found: all scores are 1; else 0/0 is 0, as in scikit-learn with 0. Pixels likewise."
    metrics = pytest.importorskip('sklearn.metrics')
    for tp, fp, fn in itertools.product((0, 2), repeat=3):
        true, pred = [1]*tp+[0]*fp+[1]*fn+[0], [1]*tp+[1]*fp+[0]*fn+[0]
        rule = int(tp+fp+fn == 0)
        theirs = metrics.precision_recall_fscore_support(true, pred, average='binary', zero_division=rule)[:3]
        assert list(object_scores(ObjectCounts(tp, fp, fn)).values())==pytest.approx(theirs)
        pixels = ratios(tp, fp, fn, 1)
        assert [pixels[k] for k in ('precision', 'recall', 'f1')]==pytest.approx(theirs) and pixels['dice']==pixels['f1']
