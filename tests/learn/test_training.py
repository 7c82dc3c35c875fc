"""Training holds its promises: repeatable, resumable, honest about what it keeps."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from satseg.learn.augment import Augment
from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.models.statistics import band_stats
from satseg.evaluation.evaluate import evaluate
from satseg.models.unet import UNet
from satseg.models.encoders import Classifier
from satseg.models.model_file import load_model
from satseg.learn.recipes import read_recipe, recipe_from
from satseg.learn.datasets import class_counts, measure_chips, pick_chips
from satseg.data.synthetic import sample_chips, write_sample
from satseg.learn.datasets import oversampling_weights
from satseg.learn.loaders import chip_loaders, has_object
from satseg.learn.callbacks import Pooled, ProgressCallback
from satseg.learn.fit import segmentation_learner, train
from satseg.learn.run_settings import class_weights, presence_counts
from satseg.learn.run import find_lr, judge_presence, run_recipe
from satseg.training import main
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
    assert evaluate(model, again, CHIPS[6:]).total.at(.5)['iou'] == pytest.approx(best, abs=2e-3)
    hist = evaluate(model, again, CHIPS[6:]).total
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
    kept = pick_chips(class_counts(chips), keep=.2, seed=1)
    assert len(kept) == 8 and kept[:5] == [0,1,2,3,4]
    assert pick_chips(class_counts(chips), keep=.2, seed=1) == kept


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


# Stopped at a wish


@pytest.mark.parametrize('epoch, training, rows', [(0, True, 0), (0, False, 0), (1, True, 1), (2, False, 2)])
@pytest.mark.parametrize('keep_best', [True, False])
def test_stopped_at_a_batch_keeps_whole_epochs_and_resumes(tmp_path, epoch, training, rows, keep_best):
    now,kw = [],{**KW, 'bs':2, 'keep_best':keep_best, 'threshold':None if keep_best else .5}
    def told(event, learn):
        if event == 'batch' and (learn.epoch, learn.training) == (epoch, training): now.append(1)
    learn,info = train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, cbs=[ProgressCallback(told)], stop=lambda: now, **kw)
    assert learn.stopped and len(log(tmp_path/'cut')) == rows and (tmp_path/'cut'/'model.pth').exists() == (rows > 0)
    if rows:
        kept = load_model(tmp_path/'cut'/'model.pth')[0].state_dict()
        now.clear()
        short,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, cbs=[ProgressCallback(lambda *args: None)], stop=lambda: True, resume=True, **kw)
        again = load_model(tmp_path/'cut'/'model.pth')[0].state_dict() # Stopped again at once: nothing is lost
        assert short.stopped and all(torch.equal(v, again[k]) for k,v in kept.items())
    resumed,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, resume=True, **kw)
    whole,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'whole', small, **kw)
    assert not resumed.stopped and torch.equal(weights(whole), weights(resumed)) and len(log(tmp_path/'cut')) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU takes the place of the CPU')
def test_a_stop_leaves_no_mixed_precision_behind(tmp_path):
    calls = iter(range(9))
    train(CHIPS[:6], CHIPS[6:], tmp_path, small, stop=lambda: next(calls) == 2, precision='bf16', **KW)
    assert not torch.is_autocast_enabled('cpu') and (torch.ones(2,2) @ torch.ones(2,2)).dtype == torch.float32


def test_a_stopped_search_for_a_rate_gives_none_and_leaves_nothing(tmp_path, data):
    calls = iter(range(99))
    assert find_lr(recipe_from(TINY), data, stop=lambda: next(calls) > 8) is None
    res = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, lr='find', stop=lambda: (tmp_path/'run').exists())
    assert res['model'] is None and 'nothing to keep' in res['stopped'] and not list((tmp_path/'run').iterdir())


def test_a_stopped_grid_keeps_what_is_there(tmp_path, data):
    ends = []
    res = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, lr_grid=[1e-3,1e-2,1e-1], cbs=[ProgressCallback(lambda event, _: ends.append(1) if event == 'end' else None)],
                     stop=lambda: ends)
    assert res['model'] == 'model.pth' and not (tmp_path/'run'/'grid'/'lr 0.1').exists()
    done = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, lr_grid=[1e-3,1e-2,1e-1], resume=True)
    assert len(done['lr_grid']) == 3


# Pictures for fastai's users


def shown(learn):
    "Titles of what show_batch and show_results drew, and the figures' sizes."
    import matplotlib.pyplot as plt
    plt.close('all')
    learn.dls.show_batch(max_n=3, figsize=(6,3))
    with learn.no_bar(): learn.show_results(max_n=2)
    figs = [plt.figure(i) for i in plt.get_fignums()]
    assert len(figs) == 2 and figs[0].get_size_inches().tolist() == [6,3]
    res = [[ax.get_title() for ax in fig.axes if ax.images] for fig in figs]
    plt.close('all')
    return res


def test_batches_and_results_are_drawn_for_every_kind_of_job():
    from satseg.data.sample_datasets import sample_clouds, sample_landcover
    for chips,net in ((CHIPS, small()), (sample_landcover(6, 64), UNet(3, 6, (8,16))), (sample_clouds(6, 64), UNet(8, 3, (8,16)))):
        learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, device='cpu'), net, loss='bce_dice' if len(chips.classes) == 2 else 'combined')
        batch,results = shown(learn)
        assert len(batch) == 3 and results == ['truth','prediction']*2


def test_a_presence_classifier_answers_in_words_and_weighted_loaders_show_too():
    chips = presence_chips(8)
    learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, weights=np.ones(4), device='cpu'), Classifier(None, 3, 1, (8,16)), loss='bce')
    batch,results = shown(learn)
    assert set(batch) <= {'ship','no ship'} and results[0] in ('truth: ship','truth: no ship') and 'ship (0.' in results[1]


def test_axes_of_ones_own_are_drawn_on_and_a_threshold_counts():
    import matplotlib.pyplot as plt
    learn = segmentation_learner(chip_loaders(CHIPS[:6], CHIPS[6:], 4, device='cpu'), small())
    fig,axs = plt.subplots(1, 2)
    with learn.no_bar(): learn.show_results(max_n=1, ctxs=axs, threshold=0)
    truth,all_of_it = (ax.images[0].get_array() for ax in axs)
    assert plt.get_fignums() == [fig.number] and truth.shape == all_of_it.shape == (32,32,3) and (truth != all_of_it).any()
    learn.dls.valid.show_batch(unique=True, max_n=2, ctxs=axs, augment=Augment(random_scale=None, contrast=0, brightness=0))
    assert len(learn.dls.show_batch(show=False)) == 3
    plt.close('all')


# Schedules


def rates(learn): return [round(o, 12) for o in learn.recorder.lrs]


def test_plateau_divides_the_rate_and_resumes_where_it_was(tmp_path):
    kw = {**KW, 'epochs':8, 'lr':1e-9, 'schedule':'plateau', 'plateau':(1,10)}
    whole,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'whole', small, **kw)
    assert len(rates(whole)) == 8 and rates(whole)[0] > rates(whole)[5] and rates(whole) == sorted(rates(whole), reverse=True)
    with pytest.raises(KeyboardInterrupt): train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, cbs=[Stop(4, KeyboardInterrupt('stop'))], **kw)
    resumed,_ = train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, resume=True, **kw)
    assert torch.equal(weights(whole), weights(resumed)) and rates(resumed) == rates(whole)[-len(rates(resumed)):]
    with pytest.raises(BadInput, match='schedule'): train(CHIPS[:6], CHIPS[6:], tmp_path/'cut', small, resume=True, **{**kw, 'plateau':(2,10)})


def test_flat_is_flat_and_other_words_are_named(tmp_path):
    learn,_ = train(CHIPS[:6], CHIPS[6:], tmp_path, small, schedule='flat', **KW)
    assert set(rates(learn)) == {KW['lr']}
    with pytest.raises(BadInput, match='expected a schedule out of one_cycle, plateau, flat'): train(CHIPS[:6], CHIPS[6:], tmp_path/'x', small, schedule='cosine', **KW)


# Presence classifiers


def test_half_unknown_chips_without_objects_teach_nothing():
    yb = torch.full((5,5,5), 255)
    yb[1] = 0; yb[2,0,0] = 2; yb[3,:2] = 0; yb[4,:3] = 0
    assert has_object(yb).flatten().tolist() == [255,0,1,255,0]
    chips = Chips([np.ones((5,5,3))]*5, [o.numpy().astype(np.uint8) for o in yb], classes='abc', has_ignore=True)
    assert presence_counts(measure_chips(chips)).tolist() == [2,1]


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
    hist = judge_presence(model, info, chips[32:])
    assert hist.n == 8 and hist.at(info.threshold)['accuracy'] == 1


# Recipes


TINY = dict(name='tiny', split=dict(valid=.3), model=dict(arguments=dict(widths=[8,16])), training=dict(lr=1e-2, bs=4, epochs=2))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp('data')/'dataset.pickle'
    write_sample(path, n_train=8, n_val=2, size=32)
    return path


def files(path): return {o.name for o in path.iterdir()}


def test_a_run_leaves_all_there_is_to_know(tmp_path, data):
    res = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True)
    assert files(tmp_path/'run') == {'recipe.yaml','log.csv','curves.png','report','metrics.json','model.pth','checkpoint.pth','models'}
    assert json.loads((tmp_path/'run'/'metrics.json').read_text()) == res and read_recipe(tmp_path/'run'/'recipe.yaml') == recipe_from(TINY)
    assert res['dataset'] == 'dataset.pickle' and set(res['trivial']) == {'all background','all foreground'} and len(log(tmp_path/'run')) == 2
    model,info = load_model(tmp_path/'run'/'model.pth')
    assert list(info.scores.values())[0]['iou'] == res['iou'] and info.threshold == res['threshold'] and 'valid 2 chips' in info.trained_on


def test_a_finished_run_is_replaced_only_on_request_and_not_by_a_slip(tmp_path, data):
    out,r = tmp_path/'run',recipe_from(TINY)
    first = run_recipe(r, data, out, quiet=True)
    with pytest.raises(BadInput, match='holds a finished run'): run_recipe(r, data, out, quiet=True)
    assert run_recipe(r, data, out, resume=True, quiet=True) == first
    with pytest.raises(BadInput, match='another training.bs'): run_recipe(r, data, out, resume=True, bs=2)
    before = {o: (out/o).read_bytes() for o in ('model.pth','metrics.json')}
    for slip,words in ((dict(widths=['a']), 'UNet refuses'), (dict(norm='layer'), 'expected a norm')):
        with pytest.raises(BadInput, match=words): run_recipe(r, data, out, overwrite=True, quiet=True, **{'model.arguments':slip})
    for slip,words in ((dict(precision='half'), "'full' or 'bf16' on a CPU"), (dict(threshold=.1234), 'steps of 0.001')):
        with pytest.raises(BadInput, match=words): run_recipe(r, data, out, overwrite=True, quiet=True, **slip)
    with pytest.raises(BadInput, match='no such file'): run_recipe(r, tmp_path/'nothing', out, overwrite=True, quiet=True)
    assert all((out/k).read_bytes() == v for k,v in before.items())
    (out/'notes.txt').write_text('mine')
    assert run_recipe(r, data, out, overwrite=True, quiet=True, epochs=1)['epochs'] == 1
    assert (out/'notes.txt').exists() and len(log(out)) == 1


def test_a_finished_run_says_so_and_knows_its_data(tmp_path, data, capsys):
    run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True)
    run_recipe(recipe_from(TINY), data, tmp_path/'run', resume=True)
    assert 'finished already' in capsys.readouterr().out
    with pytest.raises(BadInput, match=r'data of the finished run \(dataset.pickle\), got other'): run_recipe(recipe_from(TINY), tmp_path/'other', tmp_path/'run', resume=True)


def test_set_may_stand_several_times():
    from fastcore.script import anno_parser
    args = anno_parser(main).parse_args(['r.yaml', '--set', 'epochs=1', 'bs=2', '--data', 'd', '--set', 'lr=1e-3'])
    assert args.set == ['epochs=1','bs=2','lr=1e-3'] and anno_parser(main).parse_args(['r.yaml']).set is None


def test_a_run_that_never_began_leaves_nothing_to_resume(tmp_path, data):
    with pytest.raises(BadInput, match="'full' or 'bf16' on a CPU"): run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, precision='half')
    assert not (tmp_path/'run').exists()
    run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True)


def test_a_slip_leaves_an_earlier_run_alone_even_without_its_checkpoint(tmp_path, data):
    run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, epochs=1)
    (tmp_path/'run'/'checkpoint.pth').unlink()
    before = files(tmp_path/'run')
    with pytest.raises(BadInput, match="'full' or 'bf16' on a CPU"): run_recipe(recipe_from(TINY), data, tmp_path/'run', overwrite=True, quiet=True, precision='half')
    assert files(tmp_path/'run') == before


def test_nothing_is_chosen_without_valid_chips(tmp_path, data):
    res = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, valid=0)
    assert res['threshold'] == .5 and res['best_epoch'] == 1 and not (tmp_path/'run'/'models').exists()
    assert run_recipe(recipe_from(TINY), data, tmp_path/'other', quiet=True, valid=0, threshold=.3)['threshold'] == .3


def test_a_grid_keeps_the_best_rate(tmp_path, data):
    res = run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, lr_grid=[1e-7,1e-2], epochs=4)
    best,other = res['lr_grid']
    assert {best['lr'], other['lr']} == {1e-2,1e-7} and best['iou'] >= other['iou']
    assert log(tmp_path/'run') == log(tmp_path/'run'/'grid'/f'lr {best["lr"]:g}') != log(tmp_path/'run'/'grid'/f'lr {other["lr"]:g}')
    assert load_model(tmp_path/'run'/'model.pth')[1].threshold == res['threshold']


def test_each_chip_is_read_once_before_the_first_batch_and_one_net_is_built(tmp_path, monkeypatch):
    from satseg import recipes, training
    built,reads,seen = [],[],[]
    def item(i):
        reads.append(i)
        return CHIPS.raw(i)[0]
    chips = CHIPS[:]
    chips.images = recipes.Cache(item, 10, 0)
    splits = recipes.DataSplits(chips[:6], chips[6:8], chips[8:], 'words')
    monkeypatch.setattr(training, 'prepare_data', lambda *args: splits)
    net = training.recipe_model
    monkeypatch.setattr(training, 'recipe_model', lambda *args: built.append(1) or net(*args))
    def told(event, learn):
        if event == 'begin': seen.append((sorted(reads), len(built)))
    r = recipe_from({**TINY, 'loss':dict(name='bce', class_weights='sqrt'), 'sampling':dict(oversample=.5, keep_empty=.9)})
    run_recipe(r, tmp_path, tmp_path/'run', quiet=True, cbs=[ProgressCallback(told)])
    assert seen == [(list(range(8)), 1)] and len(built) == 1


def test_training_leaves_cudnn_as_it_was(tmp_path, data):
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic,cudnn.benchmark
    during = []
    train(CHIPS[:6], CHIPS[6:], tmp_path/'a', small, cbs=[ProgressCallback(lambda *args: during.append(cudnn.deterministic))], **KW)
    assert find_lr(recipe_from(TINY), data)['lr'] > 0
    assert (cudnn.deterministic,cudnn.benchmark) == before == (False,False) and all(during)


def test_the_recipe_says_what_a_model_is_for(tmp_path, data):
    run_recipe(recipe_from({**TINY, 'task':'ships'}), data, tmp_path/'run', quiet=True, epochs=1)
    assert load_model(tmp_path/'run'/'model.pth')[1].task == 'ships'


def test_class_weights():
    assert class_weights([1,2], np.array([5,5])) == [1,2]
    assert class_weights('balanced', np.array([50,50])) == [1,1] and class_weights('balanced', np.array([30,10,0])) == pytest.approx([.5,1.5,0])
    with pytest.raises(BadInput, match='expected 2 numbers'): class_weights([1,2,3], np.array([5,5]))


def test_tensorboard_writes_and_a_missing_package_is_one_line(tmp_path, data, monkeypatch):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, tensorboard=True, epochs=1)
    assert list((tmp_path/'run'/'tensorboard').iterdir())
    for module,package in (('fastai.callback.tensorboard','tensorboard'), ('fastai.callback.wandb','wandb')):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(BadInput, match=f'expected the package {package}, it is not installed: pip install {package}'):
            run_recipe(recipe_from(TINY), data, tmp_path/package, quiet=True, **{package:True})
        assert not (tmp_path/package).exists()


def test_wandb_is_told(tmp_path, data, monkeypatch):
    told,fake = [],types.ModuleType('wandb')
    fake.run = None
    def init(**kw): fake.run = types.SimpleNamespace(step=0, summary={'epoch':0}); told.append(kw)
    fake.init,fake.log,fake.config = init,lambda o, step=None: told.append(o),types.SimpleNamespace(update=lambda *a, **k: None)
    fake.__getattr__ = lambda name: type(name, (), {})
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    monkeypatch.delitem(sys.modules, 'fastai.callback.wandb', raising=False)
    run_recipe(recipe_from(TINY), data, tmp_path/'run', quiet=True, wandb=True, project='p')
    monkeypatch.delitem(sys.modules, 'fastai.callback.wandb', raising=False)
    assert told[0]['project'] == 'p' and told[0]['config']['training']['epochs'] == 2 and any('train_loss' in o for o in told) and any('iou' in o for o in told)


# The command line


ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ['size=64', 'epochs=2', 'bs=4', 'precision=full', 'random_scale=null']


def cli(*args, **kw): return subprocess.run([sys.executable, '-W', 'ignore', '-m', 'satseg.training', *map(str, args)], cwd=ROOT, capture_output=True, text=True, **kw)


@pytest.mark.parametrize('name', ['footprints_geotiff','ships_gate'])
def test_a_recipe_runs_with_no_data(tmp_path, name):
    widths = 'model.arguments.widths=[8,16]'
    done = cli(f'nbs/recipes/{name}.yaml', '--data', 'sample', '--out', tmp_path/'run', '--set', *SMALL, widths)
    assert done.returncode == 0, done.stderr
    assert not done.stderr and 'test chips' in done.stdout and 'all background' in done.stdout and '\r' not in done.stdout
    res = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert res['dataset'].startswith('synthetic') and (tmp_path/'run'/'report').is_dir()
    if name == 'ships_gate': assert load_model(tmp_path/'run'/'model.pth')[1].classes == ['no ship','ship'] and res['unit'] == 'chip'
    else: assert set(res['objects']) == {'connected components','instances','all empty'} and 'instances' in done.stdout


def test_slips_are_one_line_and_an_exit_status(tmp_path):
    done = cli('nbs/recipes/ships.yaml', '--data', 'sample', '--out', tmp_path/'x', '--set', 'bs=4', 'epoch=3')
    assert done.returncode == 2 and done.stderr == 'satseg: epoch: unknown key: did you mean epochs?\n' and not done.stdout and not (tmp_path/'x').exists()
    with pytest.raises(BadInput, match='expected --data PATH'): main('nbs/recipes/ships.yaml', out=str(tmp_path/'x'))
    with pytest.raises(BadInput, match='names no synthetic sample'): run_recipe(recipe_from(TINY), 'sample', tmp_path/'x')


def test_ctrl_c_keeps_the_run_and_resume_ends_it_as_if_unbroken(tmp_path, data):
    (tmp_path/'r.yaml').write_text('model: {arguments: {widths: [8, 16]}}\nsplit: {valid: 0.3}\ntraining: {lr: 1e-2, bs: 2, epochs: 12}\n')
    args = [tmp_path/'r.yaml', '--data', data, '--out']
    with subprocess.Popen([sys.executable, '-W', 'ignore', '-m', 'satseg.training', *map(str, args), str(tmp_path/'run')], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as p:
        while p.poll() is None and not (tmp_path/'run'/'checkpoint.pth').exists(): time.sleep(.02)
        p.send_signal(signal.SIGINT)
        err = p.communicate()[1]
    assert p.returncode == 130 and 'go on with --resume' in err and len(err.splitlines()) == 2, err
    assert not (tmp_path/'run'/'model.pth').exists()
    with pytest.raises(BadInput, match='holds an unfinished run; go on with --resume'): run_recipe(tmp_path/'r.yaml', data, tmp_path/'run')
    done = cli(*args, tmp_path/'run', '--resume', '--quiet')
    assert done.returncode == 0 and not done.stdout and len(log(tmp_path/'run')) == 12
    whole = run_recipe(tmp_path/'r.yaml', data, tmp_path/'whole', quiet=True)
    assert json.loads((tmp_path/'run'/'metrics.json').read_text())['iou'] == whole['iou']


def test_a_net_below_the_trivial_answer_is_called_so():
    from satseg.learn.run import _verdict
    trivial = {'all background': dict(iou=0.), 'all foreground': dict(iou=.2)}
    assert 'careful' in _verdict(dict(iou=.1, trivial=trivial)) and '"all foreground" 0.200' in _verdict(dict(iou=.1, trivial=trivial))
    assert _verdict(dict(iou=.3, trivial=trivial)) == ''
