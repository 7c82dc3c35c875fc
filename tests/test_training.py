"""Training holds its promises: repeatable, resumable, honest about what it keeps."""
import csv
import os

import numpy as np
import pytest
import torch

from satseg.augment import Augment
from satseg.data import BadInput, Chips, band_stats
from satseg.inference import evaluate
from satseg.models import UNet, load_model
from satseg.sample import sample_chips
from satseg.training import Pooled, chip_loaders, oversampling_weights, segmentation_learner, train, undersample
from fastai.callback.core import Callback

CHIPS = sample_chips(10, size=32, seed=11)
CHIPS = Chips([CHIPS.raw(i)[0] for i in range(10)], [CHIPS.raw(i)[1] for i in range(10)])
KW = dict(epochs=4, lr=1e-2, bs=4, quiet=True)


def small(): return UNet(3, 1, (8,16))
def weights(learn): return torch.cat([p.flatten() for p in learn.model.state_dict().values()])
def log(path): return list(csv.DictReader(open(path/'log.csv')))


class Stop(Callback):
    order = 99
    def __init__(self, epoch, how): self.stop,self.how = epoch,how
    def after_epoch(self):
        if self.epoch == self.stop: raise self.how


def test_same_seed_same_weights_other_seed_others(tmp_path):
    a,b,c = (train(CHIPS[:6], CHIPS[6:], tmp_path/n, small, seed=s, **KW)[0] for n,s in (('a',3),('b',3),('c',4)))
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


@pytest.mark.parametrize('epoch', [0, 2])
@pytest.mark.parametrize('how', [KeyboardInterrupt('stop'), RuntimeError('stop')])
def test_stopped_and_resumed_equals_unbroken(tmp_path, epoch, how):
    kw = {**KW, 'weights':oversampling_weights(CHIPS[:6]), 'patience':50}
    whole,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'whole', small, **kw)
    with pytest.raises(type(how)): train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, cbs=[Stop(epoch, how)], **kw)
    assert len(log(tmp_path/'cut')) == epoch + 1
    resumed,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, resume=True, **kw)
    assert torch.equal(weights(whole), weights(resumed))
    strip = lambda rows: [{k: v for k,v in o.items() if k != 'time'} for o in rows]
    assert [o['iou'] for o in strip(log(tmp_path/'whole'))] == [o['iou'] for o in strip(log(tmp_path/'cut'))]


def test_resume_refuses_other_settings_and_foreign_checkpoints(tmp_path):
    with pytest.raises(KeyboardInterrupt): train(CHIPS[:6], CHIPS[6:], tmp_path, small, cbs=[Stop(0, KeyboardInterrupt)], **KW)
    with pytest.raises(BadInput, match='epochs'): train(CHIPS[:6], CHIPS[6:], tmp_path, small, resume=True, **{**KW, 'epochs':9})
    torch.save(small(), tmp_path/'checkpoint.pth')
    with pytest.raises(BadInput, match='checkpoint'): train(CHIPS[:6], CHIPS[6:], tmp_path, small, resume=True, **KW)


class Evil:
    def __init__(self, spot): self.spot = spot
    def __reduce__(self): return os.mkdir, (str(self.spot),)


@pytest.mark.parametrize('which', ['checkpoint.pth','models/best.pth'])
def test_files_of_a_run_run_no_code(tmp_path, which):
    run,spot = tmp_path/'run',tmp_path/'it_ran'
    train(CHIPS[:6], CHIPS[6:], run, small, **KW)
    torch.save({'model':Evil(spot)}, run/which)
    with pytest.raises(BadInput, match='expected'): train(CHIPS[:6], CHIPS[6:], run, small, resume=True, **KW)
    assert not spot.exists()


def test_a_checkpoint_cannot_point_to_other_files(tmp_path):
    train(CHIPS[:6], CHIPS[6:], tmp_path, small, **KW)
    state = torch.load(tmp_path/'checkpoint.pth', weights_only=True)
    for kept in state['trackers'].values(): kept.update(fname='/elsewhere/evil', with_opt=True)
    torch.save(state, tmp_path/'checkpoint.pth')
    learn,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, resume=True, **KW)
    assert len(log(tmp_path)) == KW['epochs']


def test_a_new_run_forgets_the_old_one_in_its_folder(tmp_path):
    train(CHIPS[:6], CHIPS[6:], tmp_path, small, **KW)
    with pytest.raises(KeyboardInterrupt): train(CHIPS[:6], CHIPS[6:], tmp_path, small, loss='dice', cbs=[Stop(0, KeyboardInterrupt('stop'))], **KW)
    fresh,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'fresh', small, loss='dice', **KW)
    resumed,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, loss='dice', resume=True, **{**KW, 'cbs':[Stop(99, None)]})
    assert torch.equal(weights(fresh), weights(resumed))


@pytest.mark.parametrize('kw, word', [(dict(loss='dice'), 'loss'), (dict(opt='sgd'), 'opt'), (dict(lr=2e-2), 'lr'), (dict(seed=5), 'seed'), (dict(augment=None), 'callbacks'),
                                      (dict(keep_best=False), 'keep_best'), (dict(weights=np.arange(1., 7)), 'weights')])
def test_resume_names_what_differs(tmp_path, kw, word):
    with pytest.raises(KeyboardInterrupt): train(CHIPS[:6], CHIPS[6:], tmp_path, small, cbs=[Stop(0, KeyboardInterrupt('stop'))], **KW)
    with pytest.raises(BadInput, match=word): train(CHIPS[:6], CHIPS[6:], tmp_path, small, resume=True, **{**KW, 'cbs':[Stop(99, None)], **kw})


def test_parts_must_speak_of_the_same_things(tmp_path):
    other = Chips([CHIPS.raw(0)[0]], [CHIPS.raw(0)[1]], bands=('B04','B03','B02'))
    with pytest.raises(BadInput, match='same bands'): train(CHIPS[:6], other, tmp_path, small, **KW)
    with pytest.raises(BadInput, match='statistics of the bands'): train(CHIPS[:6], CHIPS[6:], tmp_path, small, stats=band_stats(other), **KW)
    nothing = Chips([CHIPS.raw(0)[0]], [CHIPS.raw(0)[1]*0])
    with pytest.raises(BadInput, match='choose a threshold'): train(CHIPS[:6], nothing, tmp_path, small, **KW)
    for kw,word in ((dict(epochs=0), 'epoch'), (dict(bs=0), 'batch size'), (dict(weights=np.ones(3)), '6 weights')):
        with pytest.raises(BadInput, match=word): train(CHIPS[:6], CHIPS[6:], tmp_path, small, **{**KW, **kw})


def test_words_that_no_model_file_may_hold_are_refused_before_training(tmp_path):
    with pytest.raises(BadInput, match='trained_on'): train(CHIPS[:6], CHIPS[6:], tmp_path, small, trained_on='two\nlines', **KW)
    assert not (tmp_path/'log.csv').exists()


def test_after_a_resumed_run_the_learner_trains_on(tmp_path):
    with pytest.raises(KeyboardInterrupt): train(CHIPS[:6], CHIPS[6:], tmp_path, small, cbs=[Stop(1, KeyboardInterrupt('stop'))], **KW)
    learn,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, resume=True, **{**KW, 'cbs':[Stop(99, None)]})
    before = weights(learn)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert not torch.equal(before, weights(learn))


def test_best_weights_are_those_in_the_file(tmp_path):
    learn,info = train(CHIPS[:6], CHIPS[6:], tmp_path, small, **KW)
    model,again = load_model(tmp_path/'model.pth')
    best = max(float(o['iou']) for o in log(tmp_path))
    assert evaluate(model, again, CHIPS[6:]).at(.5)['iou'] == pytest.approx(best, abs=2e-3)
    hist = evaluate(model, again, CHIPS[6:])
    assert again.threshold == hist.best('iou') == info.threshold


def test_early_stopping_stops(tmp_path):
    train(CHIPS[:6], CHIPS[6:], tmp_path, small, **{**KW, 'epochs':30, 'lr':1e-9, 'patience':2})
    assert len(log(tmp_path)) < 30


def test_several_classes_and_bands(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, (4,4)).repeat(8, 0).repeat(8, 1).astype(np.uint8) for _ in range(8)]
    images = [np.stack([m*100, 200-m*50, m*0+7, m**2*30, m*10], -1) + rng.normal(0, 5, (32,32,5)) for m in masks]
    chips = Chips(images, masks, bands=('B02','B03','B04','B08','B11'), classes=('a','b','c'))
    learn,info = train(chips[:6], chips[6:], tmp_path, lambda: UNet(5, 3, (8,16)), **{**KW, 'epochs':8}, loss='cross_entropy')
    assert info.threshold is None and info.bands == ['B02','B03','B04','B08','B11']
    assert max(float(o['iou']) for o in log(tmp_path)) > .45  # one class for all: 0.11 to 0.17


def test_pooled_metric_does_not_depend_on_the_batch_size():
    torch.manual_seed(0)
    net,values = small(),[]
    for bs in (1, 3, 4):
        learn = segmentation_learner(chip_loaders(CHIPS[:6], CHIPS[6:], bs, device='cpu'), net)
        with learn.no_bar(): values.append(learn.validate()[1])
    assert values[0] == pytest.approx(values[1], abs=1e-6) == values[2]


def test_undersampling_keeps_what_has_foreground():
    masks = [np.zeros((8,8), np.uint8) for _ in range(20)]
    for m in masks[:5]: m[:4] = 1
    chips = Chips([np.ones((8,8,3))]*20, masks)
    kept = undersample(chips, keep=.2, seed=1)
    assert len(kept) == 8 and sum(kept[i].mask.any() for i in range(8)) == 5
    assert undersample(chips, keep=.2, seed=1).names == kept.names


@pytest.mark.parametrize('kw, words', [(dict(loss='iou'), 'expected a loss'), (dict(opt='lion'), 'expected an optimiser'), (dict(precision='quarter'), 'expected precision')])
def test_wrong_words_are_named(tmp_path, kw, words):
    with pytest.raises(BadInput, match=words): train(CHIPS[:6], CHIPS[6:], tmp_path, small, **KW, **kw)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs an NVIDIA GPU')
def test_half_precision_on_a_gpu(tmp_path):
    learn,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, precision='half', **KW)
    assert torch.isfinite(weights(learn).float()).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU takes the place of the CPU')
def test_bfloat16_on_a_cpu(tmp_path):
    learn,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, precision='bf16', **KW)
    assert torch.isfinite(weights(learn).float()).all()
