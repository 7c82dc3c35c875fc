"""The training tab without a browser: its buttons, its stops, its errors."""
import csv
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('ipywidgets')
from satseg.evaluation.evaluate import evaluate
from satseg.models.predict import load_net
from satseg.learn.recipes import override, read_recipe, recipe_from, recipe_text, shipped_recipes
from satseg.evaluation.report import report
from satseg.data.synthetic import sample_chips, write_sample
from satseg.page.status import complaint
from satseg.page.preview import Preview, _diverse_chips
from satseg.page.train_tab import TrainTab

TINY = recipe_from(dict(name='tiny', about='A tiny net.', split=dict(valid=.35), model=dict(arguments=dict(widths=[8,16])),
                        training=dict(lr=1e-2, bs=2, epochs=2)))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp('data')/'dataset.pickle'
    write_sample(path, n_train=9, n_val=2, size=32)
    return path


@pytest.fixture
def tab(tmp_path, data):
    (tmp_path/'tiny.yaml').write_text(recipe_text(TINY))
    res = TrainTab(on_model=lambda path: res.models.append(path), folder=tmp_path/'runs')
    res.models = []
    res.recipe.value,res.recipe_path.value = 'a file of my own',str(tmp_path/'tiny.yaml')
    res.data.value,res.data_path.value = 'a file of my own',str(data)
    return res


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    "Its pictures take most of the time of such small runs, and other tests look at them."
    if 'importing' in request.node.name: return
    import satseg.learn.run
    monkeypatch.setattr(satseg.learn.run, 'report', lambda evaluation, folder, *args, **kw: Path(folder).mkdir(exist_ok=True))


def press(tab, button='train_button'):
    getattr(tab, button).click()
    tab.status.wait()
    assert not tab.running
    return tab.status.line.value


def log(path): return list(csv.DictReader(open(path/'log.csv')))
def controls(tab): return tab.controls


def stop_when(tab, event, after=0):
    "Press Stop when `event` has come so often; 'start': before anything."
    seen,hear,train = [],tab._hear,tab._train
    def heard(o, learn=None):
        if learn: hear(o, learn)
        seen.append(o)
        if o == event and seen.count(o) == after+1: tab.status.button.click()
    def started(*args):
        heard('start')
        return train(*args)
    tab._hear,tab._train = heard,started


def let_be(tab):
    "Nobody presses Stop any more."
    del tab._hear,tab._train


def test_importing_needs_no_fastai_and_no_torch():
    done = subprocess.run([sys.executable, '-c', 'import sys, satseg.page.train_tab as t; t.TrainTab(); print({"fastai","torch"} & set(sys.modules))'],
                          capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == 'set()', done.stderr


def test_a_training_from_press_to_model(tab, tmp_path):
    out = Path(tab.out.value)
    tab.train_button.click()
    assert all(o.disabled for o in controls(tab)) and tab.status.button.layout.display is None
    tab.train_button.click() # Nothing starts twice
    assert tab.running and 'running already' in tab.status.line.value or 'epochs done' in tab.status.line.value
    tab.status.wait()
    assert 'done: IoU' in tab.status.line.value and not any(o.disabled for o in controls(tab)) and tab.status.button.layout.display == 'none'
    assert tab.models == [out/'model.pth'] and len(log(out)) == 2 and tab.status.bar.value == 1
    assert (out/'metrics.json').exists() and (out/'report').is_dir()
    assert sorted(tab.chips.pictures) == [0,1,2] and tab.chips.after.max == tab.chips.after.value == 2
    for box in (tab.losses, tab.chips.box): assert bytes(box.image.value).startswith(b'\x89PNG') and box.children == (box.image,)
    assert bytes(tab.chips.box.image.value) == tab.chips.pictures[2]
    tab.chips.after.value = 0
    assert bytes(tab.chips.box.image.value) == tab.chips.pictures[0] != tab.chips.pictures[2]
    assert Path(tab.out.value) == out.with_name('tiny-2')


def test_looking_on_changes_no_weight(tab, data, tmp_path):
    from satseg.learn.run import run_recipe
    press(tab)
    res = run_recipe(TINY, data, tmp_path/'plain', quiet=True)
    assert {**res, 'seconds':0} == {**tab.result, 'seconds':0}


def test_the_same_three_chips_each_epoch(tab):
    seen = []
    def heard(event, learn, inner=tab._hear):
        inner(event, learn)
        if event in ('begin','epoch'): seen.append([o.name for o in tab.preview.chips])
    tab._hear = heard
    press(tab)
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2] and len(set(seen[0])) == 3


def test_the_suggested_rate_is_shown_and_taken_and_can_be_changed(tab):
    assert 'lr_find suggests' in press(tab, 'find_button') and not Path(tab.out.value).exists()
    shown = float(tab.lr.value)
    assert shown == float(f'{tab.curve["lr"]:.2g}') and bytes(tab.rate.image.value).startswith(b'\x89PNG')
    before,out = bytes(tab.rate.image.value),Path(tab.out.value)
    press(tab)
    assert read_recipe(out/'recipe.yaml').training.lr == shown
    tab.lr.value,out = '1e-3',Path(tab.out.value)
    assert bytes(tab.rate.image.value) != before # The other rate is marked
    press(tab)
    assert read_recipe(out/'recipe.yaml').training.lr == 1e-3


def test_the_rate_find_is_the_one_that_a_recipe_finds(tab, data, tmp_path):
    import torch
    from satseg.learn.run import run_recipe
    tab.lr.value,out = 'find',Path(tab.out.value)
    press(tab)
    run_recipe(override(TINY, lr='find'), data, tmp_path/'plain', quiet=True)
    found = torch.load(tmp_path/'plain'/'checkpoint.pth', weights_only=True)['settings']['lr']
    assert tab.curve['lr'] == found and read_recipe(out/'recipe.yaml').training.lr == float(f'{found:.2g}')


@pytest.mark.parametrize('event, after, rate', [('start', 0, '1e-2'), ('lr_find', 0, 'find'), ('begin', 0, '1e-2'), ('batch', 0, '1e-2')])
def test_stopped_before_there_is_anything_to_keep(tab, event, after, rate):
    tab.lr.value,out = rate,Path(tab.out.value)
    stop_when(tab, event, after)
    words = press(tab)
    assert 'nothing' in words and not tab.models and tab.existing.value == 'leave it alone' and tab.status.bar.value < .5
    assert not out.exists()
    let_be(tab)
    if event == 'batch': assert 'done: IoU' in press(tab) # The folder is free


def test_a_run_shows_nothing_of_the_run_before(tab):
    press(tab)
    assert tab.losses.children == (tab.losses.image,) and tab.status.bar.value == 1
    stop_when(tab, 'batch')
    press(tab)
    assert tab.losses.children == (tab.losses.words,) and tab.status.bar.value == tab.chips.after.value == 0 and tab.chips.after.layout.display == 'none'


def test_train_pressed_at_once_again_loses_no_model(tab, tmp_path):
    "The button is free only when the model of the run before has been told of."
    free = []
    inner = tab._draw_losses
    tab._draw_losses = lambda: (free.append(not tab.train_button.disabled), inner())
    press(tab)
    assert free and not any(free) and len(tab.models) == 1 and not tab.train_button.disabled


def test_stopped_in_an_epoch_keeps_the_best_and_goes_on_to_the_same_end(tab, data, tmp_path):
    from satseg.learn.run import run_recipe
    tab.epochs.value,out = 4,Path(tab.out.value)
    stop_when(tab, 'epoch', 1)
    assert 'stopped after 2 epochs' in press(tab) and tab.models == [out/'model.pth']
    assert len(log(out)) == 2 and not (out/'metrics.json').exists()
    model,info = load_net(out/'model.pth')
    chips = sample_chips(6, size=32, seed=5)
    assert 0 < info.threshold < 1 and 'iou' in report(evaluate(model, info, chips), tmp_path/'report', log=out/'log.csv').metrics
    best = max(range(2), key=lambda i: float(log(out)[i]['iou']))
    assert tab.result['best_epoch'] == best and info.threshold == tab_threshold(out, tab)
    assert tab.train_button.description == 'Go on' and tab.epochs.disabled and tab.recipe.disabled and not tab.out.disabled
    let_be(tab)
    tab.epochs.value = 99 # A run goes on as it began
    assert 'done: IoU' in press(tab) and len(log(out)) == 4
    whole = run_recipe(override(TINY, epochs=4), data, tmp_path/'whole', quiet=True)
    assert tab.result['iou'] == whole['iou'] and tab.result['threshold'] == whole['threshold']


def tab_threshold(out, tab):
    "The best threshold of the saved net on the watched chips, computed anew."
    model,info = load_net(out/'model.pth')
    return evaluate(model, info, tab.preview.valid.chips).total.best()


def test_stopped_while_being_judged_and_judged_later(tab):
    out = Path(tab.out.value)
    stop_when(tab, 'end')
    words = press(tab)
    assert 'stopped after 2 epochs' in words and (out/'model.pth').exists() and not (out/'metrics.json').exists()
    let_be(tab)
    assert 'done: IoU' in press(tab) and (out/'metrics.json').exists()


def test_the_last_weights_stay_where_nothing_is_chosen(data, tmp_path):
    import torch
    from satseg.learn.learner import EventCallback
    from satseg.learn.run import run_recipe
    stop = []
    def told(event, learn):
        if event == 'batch' and learn.epoch == 1: stop.append(1)
    res = run_recipe(TINY, data, tmp_path/'run', quiet=True, valid=0, epochs=3, cbs=[EventCallback(told)], stop=lambda: stop)
    assert res['epochs'] == 1 and res['model'] == 'model.pth'
    kept,last = (torch.load(tmp_path/'run'/o, weights_only=True) for o in ('model.pth','checkpoint.pth'))
    assert all(torch.equal(v, last['model'][k]) for k,v in kept['state_dict'].items())


def test_a_stop_before_it_began_leaves_a_finished_run_alone(tab):
    press(tab)
    out = Path(tab.models[0]).parent
    before = (out/'metrics.json').read_bytes()
    tab.out.value,tab.existing.value = str(out),'replace it'
    stop_when(tab, 'start')
    assert 'nothing' in press(tab) and (out/'metrics.json').read_bytes() == before and (out/'model.pth').exists()


@pytest.mark.parametrize('field, value, words', [('data_path', '/nothing/here', 'expected a dataset, found no such file'), ('data_path', '', 'expected the path of a file or folder'),
    ('recipe_path', '/nothing.yaml', 'expected a recipe, found no such file'), ('lr', 'fast', 'expected a number such as 2e-3'), ('lr', '-1', 'training.lr'),
    ('out', '', 'expected the path of a folder'), ('out', '/proc/nowhere/x', '')])
def test_errors_are_lines(tab, field, value, words):
    getattr(tab, field).value = value
    got = press(tab)
    assert 'role="alert"' in got and words in got and 'Traceback' not in got and '\n' not in got and not tab.models
    assert not tab.train_button.disabled and tab.status.button.layout.display == 'none'


def test_a_folder_in_use_is_named_in_the_words_of_the_page(tab):
    out = tab.out.value
    press(tab)
    tab.out.value = out
    assert 'holds a finished run' in (got := press(tab)) and '--overwrite' not in got
    tab.existing.value = 'replace it'
    assert 'done: IoU' in press(tab)


def test_a_bad_recipe_and_a_hostile_name_are_only_text(tab, tmp_path):
    (tmp_path/'bad.yaml').write_text('training: {epoch: 3}')
    tab.recipe_path.value = str(tmp_path/'bad.yaml')
    assert 'unknown key: did you mean epochs?' in tab.status.line.value
    (tmp_path/'evil.yaml').write_text('about: "<script>alert(1)</script>"')
    tab.recipe_path.value = str(tmp_path/'evil.yaml')
    assert '<script' not in tab.about.value and 'alert(1)' in tab.about.value


def test_an_error_in_the_middle_ends_in_a_line(tab, monkeypatch):
    import satseg.learn.run
    def broken(*args, **kw): raise RuntimeError('a\nstrange thing')
    monkeypatch.setattr(satseg.learn.run, 'run_recipe', broken)
    assert 'RuntimeError: a strange thing' in press(tab) and not tab.train_button.disabled
    assert complaint(PermissionError(13, 'Permission denied', '/x')).startswith('/x: Permission denied')


def test_what_somebody_does_with_a_model_cannot_hurt(tab):
    def broken(path): raise ValueError('no room')
    tab.on_model = broken
    assert 'no room' in press(tab) and not tab.train_button.disabled and Path(tab.run/'metrics.json').exists()


def test_two_tabs_do_not_train_at_once(tab):
    other = TrainTab()
    tab.train_button.click()
    with pytest.raises(ValueError, match='running already'): other.start(True)
    other.train_button.click()
    assert 'running already' in other.status.line.value
    tab.status.wait()
    assert 'done' in tab.status.line.value and not other.train_button.disabled


def test_every_shipped_recipe_can_be_chosen():
    tab = TrainTab()
    for name in shipped_recipes():
        tab.recipe.value = name
        assert tab.about.value and 'alert' not in tab.status.line.value and tab.epochs.value > 0


@pytest.mark.parametrize('name', ['ships_presence','landcover'])
def test_gates_and_several_classes_are_drawn(tmp_path, name):
    tab = TrainTab(folder=tmp_path/'runs')
    r = override(read_recipe(shipped_recipes()[name]), epochs=1, size=32 if name == 'landcover' else 256, bs=4, precision='full', lr=1e-3, **({} if name == 'landcover' else {'model.arguments.widths': [8,16], 'split.valid': .1}))
    if name == 'landcover': r = override(r, **{'model.architecture': 'UNet', 'model.arguments': {'widths': [8,16]}})
    (tmp_path/'own.yaml').write_text(recipe_text(r))
    tab.recipe.value,tab.recipe_path.value = 'a file of my own',str(tmp_path/'own.yaml')
    words = press(tab)
    assert any('learnt from' in o for o in tab.preview.notes) == (name == 'ships_presence') # Too few are watched there
    assert 'done: IoU' in words and len(tab.preview.chips) == 3 and all(o.startswith(b'\x89PNG') for o in tab.chips.pictures.values())


def test_a_class_of_any_name_is_drawn(data):
    from types import SimpleNamespace as NS
    import numpy as np
    from satseg.models.statistics import band_stats
    from satseg.core.display import figure_png
    chips = sample_chips(4, size=32, seed=5)
    chips.classes = ['background', r'$\frac$']
    ds = NS(chips=chips, stats=band_stats(chips))
    watched = Preview(NS(dls=NS(valid_ds=ds, train_ds=ds)))
    for shape in ((3,1,32,32), (3,1)): assert figure_png(watched.figure(np.zeros(shape, np.float32)))


def test_diverse_chips_come_from_different_groups():
    chips = sample_chips(6, size=32, seed=3)
    chips.groups = ['a','a','a','a','b','c']
    assert {chips.groups[i] for i in _diverse_chips(chips)} == {'a','b','c'} and len(_diverse_chips(chips, 9)) == 6


def test_prints_of_others_are_heard_while_a_thread_trains(tab, capsys):
    def heard(event, learn, inner=tab._hear):
        inner(event, learn)
        if event == 'batch':
            import threading
            t = threading.Thread(target=print, args=('heard',)); t.start(); t.join()
    tab._hear = heard
    press(tab)
    assert 'heard' in capsys.readouterr().out
