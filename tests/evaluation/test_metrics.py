"""The metrics against scikit-learn and against the direct computation, in any batches."""
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from satseg.core.errors import BadInput
from satseg.core.tables import format_table, markdown_table
from satseg.evaluation.metrics import ProbabilityHistogram, class_table, confusion, metrics_table, scores
from satseg.evaluation.plots import plot_reliability, plot_threshold_curve

matplotlib.use('Agg')
seeds = st.integers(0, 10**6)
EDGES = (np.arange(1001)/1000).astype(np.float32)


def pixels(seed, n=None, ignored=.1):
    "Random probabilities, many of them on, just below or just above a threshold, and masks with some 255."
    rng = np.random.default_rng(seed)
    n = n or rng.integers(1, 400)
    probs = rng.random(n).astype(np.float32)**rng.integers(1, 4)
    edge = rng.choice(EDGES, n)
    edge = np.where(rng.random(n)<.3, np.nextafter(edge, np.float32(rng.integers(0, 2))), edge)
    probs = np.where(rng.random(n)<.5, edge, probs)
    targ = (rng.random(n)<rng.choice([0, .02, .3, 1])).astype(np.uint8)
    return probs, np.where(rng.random(n)<ignored, 255, targ).astype(np.uint8)


def same(a, b): return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ('positives', 'negatives', 'sums'))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_scores_equal_sklearn(seed):
    rng = np.random.default_rng(seed)
    n, rate = rng.integers(1, 60), rng.choice([0, .1, .5, 1])
    targ, pred = (rng.random(n)<rate).astype(int), (rng.random(n)<rng.choice([0, .1, .5, 1])).astype(int)
    cm = confusion(pred, targ)
    assert np.array_equal(cm, sk.confusion_matrix(targ, pred, labels=[0, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # scikit-learn warns of classes that are absent
        jaccard = sk.jaccard_score(targ, pred, zero_division=1)
    empty = int(not targ.any() and not pred.any())  # all scores of nothing to nothing are 1, other 0/0 are 0
    f1 = sk.f1_score(targ, pred, zero_division=1)
    expected = dict(iou=jaccard, dice=f1, precision=sk.precision_score(targ, pred, zero_division=empty),
                    recall=sk.recall_score(targ, pred, zero_division=empty), f1=f1,
                    accuracy=sk.accuracy_score(targ, pred))
    assert scores(cm)==pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 6))
def test_class_table_equals_sklearn(seed, n_classes):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 80)
    targ, pred = rng.integers(0, n_classes, n), rng.integers(0, n_classes, n)
    cm = confusion(pred, targ, n_classes)
    assert np.array_equal(cm, sk.confusion_matrix(targ, pred, labels=range(n_classes)))
    rows = class_table(cm, [f'c{i}' for i in range(n_classes)])
    assert [row['class'] for row in rows[:-1]]==[*(f'c{i}' for i in range(n_classes)), 'macro mean']
    there = np.union1d(targ, pred)
    funcs = dict(iou=sk.jaccard_score, dice=sk.f1_score, precision=sk.precision_score, recall=sk.recall_score)
    for key, func in funcs.items():
        each = func(targ, pred, labels=there, average=None, zero_division=0)
        assert [rows[i][key] for i in there]==pytest.approx(list(each))
        assert all(rows[i][key] is None for i in range(n_classes) if i not in there)
        assert rows[-2][key]==pytest.approx(func(targ, pred, average='macro', zero_division=0))
    assert rows[-2]['accuracy']==pytest.approx(sk.accuracy_score(targ, pred))
    assert rows[-1]['accuracy']==pytest.approx(np.bincount(targ).max()/n)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_every_threshold_equals_the_direct_computation(seed):
    probs, targ = pixels(seed)
    hist = ProbabilityHistogram().add(probs, targ)
    sweep = hist.sweep()
    assert hist.n==(targ!=255).sum() and sweep['threshold'].tolist()==[k/1000 for k in range(1001)]
    for k in range(0, 1001, 1):
        direct = confusion(probs.astype(np.float32)>=np.float32(k/1000), targ)
        assert np.array_equal(hist.counts(k/1000), direct)
        assert {m: sweep[m][k] for m in list(sweep)[1:]}==scores(direct)


def test_the_rule_is_that_of_torch_and_numpy():
    "`probs >= 0.3` written by a user means the same, on both sides of every edge."
    probs = np.concatenate([EDGES, np.nextafter(EDGES[1:], np.float32(0)), np.nextafter(EDGES[:-1], np.float32(1))])
    targ = np.arange(len(probs))%2
    hist = ProbabilityHistogram().add(probs, targ)
    for thr in sorted({.1, .3, .5, .6, .7, *(k/1000 for k in range(0, 1001, 7))}):
        assert np.array_equal(hist.counts(thr), confusion(torch.tensor(probs)>=thr, targ))
        assert np.array_equal(hist.counts(thr), confusion(probs>=thr, targ))


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.integers(0, 400), max_size=6))
def test_batches_do_not_matter(seed, cuts):
    probs, targ = pixels(seed)
    whole = ProbabilityHistogram().add(probs, targ)
    order = np.random.default_rng(seed).permutation(len(probs))
    parts = np.split(order, sorted(cuts))
    one, many = ProbabilityHistogram(), []
    for part in parts:
        one.add(probs[part], targ[part])
        many.append(ProbabilityHistogram().add(probs[part], targ[part]))
    assert same(whole, one) and same(whole, sum(many, ProbabilityHistogram()))
    assert whole.ece()==one.ece() and whole.best()==one.best()
    assert np.array_equal(sum(confusion(probs[o]>=.5, targ[o]) for o in parts), whole.counts(.5))


def test_adding_makes_a_new_histogram():
    a, b = (ProbabilityHistogram().add(*pixels(s)) for s in (1, 2))
    n = a.n
    assert (a+b).n==a.n+b.n and a.n==n


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_best_is_the_maximum(seed):
    hist = ProbabilityHistogram().add(*pixels(seed))
    thr, top = hist.best(), hist.sweep()['iou'].max()
    assert hist.at(thr)['iou']==top
    assert all(hist.at(k/1000)['iou']<top for k in range(1001) if abs(k/1000-.5)<abs(thr-.5)-1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_calibration_equals_sklearn(seed):
    n_bins = 10
    rng = np.random.default_rng(seed)
    probs = rng.random(rng.integers(50, 500)).astype(np.float32)  # off the edges, which scikit-learn counts to the bin below
    probs = np.where(np.abs(probs*n_bins-np.round(probs*n_bins))<1e-4, np.float32(.512), probs)
    targ = (rng.random(len(probs))<probs).astype(int)
    hist = ProbabilityHistogram().add(probs, targ)
    res = hist.reliability()
    frequency, confidence = calibration_curve(targ, probs, n_bins=n_bins)
    assert res['frequency']==pytest.approx(frequency) and res['confidence']==pytest.approx(confidence, abs=1e-6)
    assert res['count'].sum()==hist.n
    direct = sum(abs(targ[b].mean()-probs[b].mean())*b.mean() for i in range(n_bins) if (b := (probs*n_bins).astype(int)==i).any())
    assert hist.ece()==pytest.approx(direct, abs=1e-6)


def test_ignored_pixels_do_nothing():
    probs, targ = pixels(3, n=300)
    out = targ==255
    ref = ProbabilityHistogram().add(probs, targ)
    assert out.any() and ref.n==(~out).sum()
    for value in (0., 1., np.nan, -5.): assert same(ref, ProbabilityHistogram().add(np.where(out, value, probs), targ))
    assert np.array_equal(confusion(np.where(out, 77, targ), targ), np.diag(np.bincount(targ[~out], minlength=2)))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_type(dtype):
    probs, targ = pixels(4, n=240)
    probs = torch.tensor(probs).to(dtype)
    ref = ProbabilityHistogram().add(probs.float().numpy(), targ)
    assert same(ref, ProbabilityHistogram().add(probs.view(2, 1, 10, 12).requires_grad_(), torch.tensor(targ).long().view(2, 10, 12)))


def test_trivial_answers():
    hist = ProbabilityHistogram().add(*pixels(5, n=500))
    probs, targ = pixels(5, n=500)
    assert hist.trivial()=={'all background': scores(confusion(np.zeros_like(targ), targ)), 'all foreground': scores(confusion(np.ones_like(targ), targ))}
    assert hist.at(0)==hist.trivial()['all foreground']


def test_nothing_there():
    assert scores([[9, 0], [0, 0]])==dict(iou=1, dice=1, precision=1, recall=1, f1=1, accuracy=1)
    assert scores([[9, 0], [2, 0]])==dict(iou=0, dice=0, precision=0, recall=0, f1=0, accuracy=9/11)
    assert scores([[8, 1], [0, 0]])['iou']==scores([[8, 0], [1, 0]])['iou']==0
    assert ProbabilityHistogram().n==0 and ProbabilityHistogram().ece()==0
    with pytest.raises(BadInput, match='got none'): metrics_table(ProbabilityHistogram().add([.5], [255]))
    with pytest.raises(BadInput, match='got none'): class_table(np.zeros((2, 2), int), 'ab')


def test_rows_and_tables():
    hist = ProbabilityHistogram().add(*pixels(6, n=900))
    rows = metrics_table(hist, .437)
    names = [row['threshold'] for row in rows]
    assert all(list(row)==['threshold', 'iou', 'dice', 'precision', 'recall', 'accuracy'] for row in rows)
    assert any(n.startswith('0.437 (chosen') for n in names) and names[-2:]==['all background', 'all foreground']
    assert sum('best IoU' in n for n in names)==1
    for thr in (.1, .3, .5, .6, .7):
        row = next(o for o in rows if o['threshold'].split()[0]==f'{thr:g}')
        assert {k: row[k] for k in list(row)[1:]}.items()<=hist.at(thr).items()
    lines = format_table(rows).split('\n')
    assert len(lines)==len(rows)+1 and len(set(map(len, lines)))==1
    lines = markdown_table(rows).split('\n')
    assert len(lines)==len(rows)+2 and len({o.count('|') for o in lines})==1
    assert format_table([])==markdown_table([])==''


def test_plots_draw_on_given_axes():
    import matplotlib.pyplot as plt
    hist = ProbabilityHistogram().add(*pixels(7, n=900))
    fig, axs = plt.subplots(1, 2)
    assert plot_threshold_curve(hist, axs[0], chosen=.5) is axs[0] and plot_reliability(hist, axs[1]) is axs[1]
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in axs)
    assert plot_threshold_curve(hist) is not axs[0] and plot_reliability(hist) is not axs[1]
    plt.close('all')


@pytest.mark.parametrize('bad', [np.nan, np.inf, -.001, 1.001])
def test_bad_probabilities_are_named(bad):
    hist = ProbabilityHistogram()
    with pytest.raises(BadInput, match='expected probabilities from 0 to 1'): hist.add([.5, bad], [0, 1])
    assert hist.n==0


def test_bad_input_is_named():
    hist = ProbabilityHistogram().add([.5, .2], [0, 1])
    with pytest.raises(BadInput, match='crop or resize'): hist.add(np.zeros((3, 4)), np.zeros((4, 3)))
    with pytest.raises(BadInput, match='pick one class'): hist.add([.5, .2], [0, 2])
    for thr in (.1234, -.001, 1.001, np.nan):
        with pytest.raises(BadInput, match='steps of 0.001'): hist.at(thr)
        with pytest.raises(BadInput, match='steps of 0.001'): metrics_table(hist, thr)
    with pytest.raises(BadInput, match='whole numbers'): confusion([.1, .9], [0, 1])
    with pytest.raises(BadInput, match='predicted class ids from 0 to 1'): confusion([0, 2], [0, 1])
    with pytest.raises(BadInput, match='true class ids from 0 to 2'): confusion([0, 1], [0, -1], n_classes=3)
    with pytest.raises(BadInput, match='use class_table'): scores(np.eye(3))
    with pytest.raises(BadInput, match='one name per class'): class_table(np.eye(3), ['a', 'b'])
