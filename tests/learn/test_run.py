"""A recipe to a trained model and its scores: what a run leaves, keeps and refuses."""
import csv
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from satseg.core.errors import BadInput
from satseg.data.arrays import Cache
from satseg.data.chips import Chips
from satseg.data.synthetic import sample_chips
from satseg.learn import preparation
from satseg.learn import run as run_module
from satseg.learn.learner import EventCallback
from satseg.learn.recipes import override, read_recipe, recipe_from, recipe_text
from satseg.learn.run import _changes, _clear, _warning, check_run, find_lr, run_recipe
from satseg.learn.schema import Recipe
from satseg.models.model_file import load_model


def log(path): return list(csv.DictReader(open(path/'log.csv')))
def files(path): return {o.name for o in path.iterdir()}


@pytest.fixture(scope='module')
def finished(tmp_path_factory, data, tiny):
    "A finished run: its folder and its results."
    out = tmp_path_factory.mktemp('run')/'run'
    return out,run_recipe(tiny, data, out, quiet=True)


@pytest.fixture
def out(finished, tmp_path):
    "A copy of a finished run."
    return shutil.copytree(finished[0], tmp_path/'run')


def test_a_run_leaves_all_there_is_to_know(finished, tiny):
    out,res = finished
    assert files(out) == {'recipe.yaml','log.csv','report','metrics.json','model.pth','checkpoint.pth'}
    assert json.loads((out/'metrics.json').read_text()) == res and read_recipe(out/'recipe.yaml') == tiny
    assert res['dataset'] == 'dataset.pickle' and set(res['trivial']) == {'all background','all foreground'} and len(log(out)) == 2
    model,info = load_model(out/'model.pth')
    assert list(info.scores.values())[0]['iou'] == res['iou'] and info.threshold == res['threshold'] and 'valid 2 chips' in info.trained_on


def test_only_what_a_run_wrote_is_cleared(tmp_path, root, monkeypatch):
    (tmp_path/'mine.txt').write_text('x')
    with pytest.raises(BadInput, match='expected an empty folder'): check_run(Recipe(), tmp_path, False, True)
    for o in ('recipe.yaml','metrics.json'): (tmp_path/o).write_text(recipe_text(Recipe()))
    (tmp_path/'report').mkdir()
    (tmp_path/'grid').symlink_to(root, target_is_directory=True)
    with pytest.raises(BadInput, match='holds a finished run'): check_run(Recipe(), tmp_path, False, False)
    with pytest.raises(BadInput, match='got both'): check_run(Recipe(), tmp_path, True, True)
    check_run(Recipe(), tmp_path, False, True)
    order,unlink = [],Path.unlink
    monkeypatch.setattr(Path, 'unlink', lambda self, **kw: (order.append(self.name), unlink(self, **kw)))
    _clear(tmp_path)
    assert order[0] == 'metrics.json' and order[-1] == 'recipe.yaml' # Cut off in between, it is still the folder of a run
    assert files(tmp_path) == {'mine.txt'} and (root/'nbs').is_dir()


def test_changes_that_change_no_weight_are_none():
    other = override(Recipe(), about='x', tensorboard=True, epochs=3, **{'loss.name':'focal', 'loss.arguments.gamma':1.5})
    assert [*_changes(Recipe(), other)] == ['loss.name','loss.arguments','training.epochs']


def test_a_finished_run_is_replaced_only_on_request_and_not_by_a_slip(out, finished, data, tiny, tmp_path):
    with pytest.raises(BadInput, match='holds a finished run'): run_recipe(tiny, data, out, quiet=True)
    assert run_recipe(tiny, data, out, resume=True, quiet=True) == finished[1]
    with pytest.raises(BadInput, match='another training.bs'): run_recipe(tiny, data, out, resume=True, bs=2)
    (out/'checkpoint.pth').unlink() # Even without it
    before = {o: (out/o).read_bytes() for o in ('model.pth','metrics.json')}
    for slip,words in ((dict(widths=['a']), 'UNet refuses'), (dict(norm='layer'), 'expected a norm')):
        with pytest.raises(BadInput, match=words): run_recipe(tiny, data, out, overwrite=True, quiet=True, **{'model.arguments':slip})
    for slip,words in ((dict(precision='half'), 'a precision out of full, bf16'), (dict(threshold=.1234), 'multiple of 0.001')):
        with pytest.raises(BadInput, match=words): run_recipe(tiny, data, out, overwrite=True, quiet=True, **slip)
    with pytest.raises(BadInput, match='no such file'): run_recipe(tiny, tmp_path/'nothing', out, overwrite=True, quiet=True)
    assert all((out/k).read_bytes() == v for k,v in before.items())
    (out/'notes.txt').write_text('mine')
    assert run_recipe(tiny, data, out, overwrite=True, quiet=True, epochs=1)['epochs'] == 1
    assert (out/'notes.txt').exists() and len(log(out)) == 1


def test_a_finished_run_says_so_and_knows_its_data(out, data, tiny, capsys):
    run_recipe(tiny, data, out, resume=True)
    assert 'finished already' in capsys.readouterr().out
    with pytest.raises(BadInput, match=r'finished with other data \(dataset.pickle\), got other'): run_recipe(tiny, out/'other', out, resume=True)


def test_a_run_that_never_began_leaves_nothing_to_resume(tmp_path, data, tiny):
    with pytest.raises(BadInput, match='a precision out of full, bf16'): run_recipe(tiny, data, tmp_path/'run', quiet=True, precision='half')
    assert not (tmp_path/'run').exists()
    with pytest.raises(BadInput, match='names no synthetic sample'): run_recipe(tiny, 'sample', tmp_path/'run')


def test_nothing_is_chosen_without_valid_chips(tmp_path, data, tiny):
    res = run_recipe(tiny, data, tmp_path/'run', quiet=True, valid=0)
    assert res['threshold'] == .5 and res['best_epoch'] == 1
    assert run_recipe(tiny, data, tmp_path/'other', quiet=True, valid=0, threshold=.3, epochs=1)['threshold'] == .3


def test_a_grid_keeps_the_best_rate(tmp_path, data, tiny):
    res = run_recipe(tiny, data, tmp_path/'run', quiet=True, lr_grid=[1e-7,1e-2], epochs=3)
    best,other = res['lr_grid']
    assert {best['lr'], other['lr']} == {1e-2,1e-7} and best['iou'] >= other['iou']
    assert log(tmp_path/'run') == log(tmp_path/'run'/'grid'/f'lr {best["lr"]:g}') != log(tmp_path/'run'/'grid'/f'lr {other["lr"]:g}')
    assert load_model(tmp_path/'run'/'model.pth')[1].threshold == res['threshold']


def test_a_stopped_search_for_a_rate_gives_none_and_leaves_nothing(tmp_path, data, tiny):
    calls = iter(range(99))
    assert find_lr(tiny, data, stop=lambda: next(calls) > 8) is None
    res = run_recipe(tiny, data, tmp_path/'run', quiet=True, lr='find', stop=lambda: (tmp_path/'run').exists())
    assert res['model'] is None and 'nothing to keep' in res['stopped'] and not files(tmp_path/'run')


def test_a_stopped_grid_keeps_what_is_there(tmp_path, data, tiny):
    ends,kw = [],dict(quiet=True, lr_grid=[1e-3,1e-2,1e-1])
    res = run_recipe(tiny, data, tmp_path/'run', cbs=[EventCallback(lambda event, _: ends.append(1) if event == 'end' else None)], stop=lambda: ends, **kw)
    assert res['model'] == 'model.pth' and not (tmp_path/'run'/'grid'/'lr 0.1').exists()
    assert len(run_recipe(tiny, data, tmp_path/'run', resume=True, **kw)['lr_grid']) == 3


@pytest.mark.parametrize('rates', [None, [1e-2,1e-3]])
def test_each_chip_is_read_once_before_the_first_batch_and_one_net_is_built(tmp_path, tiny, monkeypatch, rates):
    from satseg.learn import arguments
    from satseg.models import predict
    built,reads,seen,ran = [],[],[],[]
    made = sample_chips(10, size=32, seed=11)
    chips = Chips(Cache(lambda i: reads.append(i) or made.raw(i)[0], 10, 0), [made.raw(i)[1] for i in range(10)])
    monkeypatch.setattr(preparation, 'load_dataset', lambda *args: dict(all=chips))
    monkeypatch.setattr(preparation, 'kind_of', lambda path: 'pickle')
    monkeypatch.setattr(preparation, 'split_chips', lambda *args: (chips[:6], chips[6:8], chips[8:]))
    if not rates: monkeypatch.setattr(preparation, 'cached', lambda chips, *args: chips) # As where memory is too small
    net,batch = arguments._recipe_model,predict.predict_batch
    monkeypatch.setattr(arguments, '_recipe_model', lambda *args: built.append(1) or net(*args))
    monkeypatch.setattr(predict, 'predict_batch', lambda model, info, chips, *args: ran.append(len(chips)) or batch(model, info, chips, *args))
    def on_event(event, learn):
        if event == 'begin': seen.append((sorted(reads), len(built)))
    r = override(tiny, lr_grid=rates, epochs=1, oversample=.5, keep_empty=.9, **{'loss.name':'bce', 'loss.class_weights':'sqrt'})
    run_recipe(r, tmp_path, tmp_path/'run', quiet=True, cbs=[EventCallback(on_event)])
    assert [o for o,_ in seen] == [list(range(8))]*len(rates or [1]) # The second rate reads nothing anew
    assert [n for _,n in seen] == [1,2][:len(rates or [1])] and sum(ran) == 2 # And the net runs once over the test chips
    assert sorted(o for o in reads if o > 7) in ([8,9], [8,8,9,9]) # Their sizes, and they themselves


def test_the_recipe_says_what_a_model_is_for(tmp_path, data, tiny):
    run_recipe(override(tiny, task='ships'), data, tmp_path/'run', quiet=True, epochs=1)
    assert load_model(tmp_path/'run'/'model.pth')[1].task == 'ships'


def test_tensorboard_writes_and_a_missing_package_is_one_line(tmp_path, data, tiny, monkeypatch):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    run_recipe(tiny, data, tmp_path/'run', quiet=True, tensorboard=True, epochs=1)
    assert files(tmp_path/'run'/'tensorboard')
    for module,package in (('fastai.callback.tensorboard','tensorboard'), ('fastai.callback.wandb','wandb')):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(BadInput, match=f'logging.{package}: run pip install {package}'):
            run_recipe(tiny, data, tmp_path/package, quiet=True, **{package:True})
        assert not (tmp_path/package).exists()


def test_wandb_is_told(tmp_path, data, tiny, monkeypatch):
    told,fake = [],types.ModuleType('wandb')
    fake.run = None
    def init(**kw): fake.run = types.SimpleNamespace(step=0, summary={'epoch':0}); told.append(kw)
    fake.init,fake.log,fake.config = init,lambda o, step=None: told.append(o),types.SimpleNamespace(update=lambda *a, **k: None)
    fake.__getattr__ = lambda name: type(name, (), {})
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    monkeypatch.delitem(sys.modules, 'fastai.callback.wandb', raising=False)
    run_recipe(tiny, data, tmp_path/'run', quiet=True, wandb=True, project='p')
    monkeypatch.delitem(sys.modules, 'fastai.callback.wandb', raising=False)
    assert told[0]['project'] == 'p' and told[0]['config']['training']['epochs'] == 2 and any('train_loss' in o for o in told) and any('iou' in o for o in told)


def test_a_net_below_the_trivial_answer_is_called_so():
    trivial = {'all background': dict(iou=0.), 'all foreground': dict(iou=.2)}
    assert 'careful' in _warning(dict(iou=.1, trivial=trivial)) and '"all foreground" 0.200' in _warning(dict(iou=.1, trivial=trivial))
    assert _warning(dict(iou=.3, trivial=trivial)) == ''
