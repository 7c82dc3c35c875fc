"""A recipe says all, is checked in every word, and gives parts that do not leak."""
import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings as hypothesis_settings, strategies as st

from satseg.core.errors import BadInput
from satseg.learn.recipes import _RENAMED, _find_recipe, override, parse_overrides, read_recipe, _read_yaml, recipe_from, recipe_text
from satseg.learn import schema
from satseg.learn.schema import Recipe, WEIGHT_ARGUMENTS

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT/'nbs'/'recipes').glob('*.yaml'))


def test_the_tables_are_those_of_losses_models_and_training():
    from satseg.learn.fit import _SCHEDULES
    from satseg.learn.learner import _OPTIMISERS
    from satseg.learn.losses import LOSSES
    from satseg.models.model_file import ARCHITECTURES
    skip = 'self','logits','targ','mask','n_in','n_out'
    def own(f): return tuple(o for o in inspect.signature(f).parameters if o not in skip)
    assert {k: own(v) for k,v in LOSSES.items()} == {k: v for k,v in schema._LOSS_ARGUMENTS.items() if k != 'auto'}
    assert {k: own(v.__init__) for k,v in ARCHITECTURES.items()} == schema._MODEL_ARGUMENTS
    assert all(v in own(LOSSES[k]) for k,v in WEIGHT_ARGUMENTS.items())
    fields = schema.Training.model_fields
    assert tuple(_OPTIMISERS) == get_args(fields['optimiser'].annotation) and _SCHEDULES == get_args(fields['schedule'].annotation)


@pytest.mark.parametrize('path', RECIPES, ids=lambda o: o.stem)
def test_every_recipe_is_right_and_survives_being_written(path, tmp_path):
    r = read_recipe(path)
    assert r.about and r.data.kind and r.data.sample
    (tmp_path/'copy.yaml').write_text(recipe_text(r))
    assert read_recipe(tmp_path/'copy.yaml') == r


def test_there_is_a_recipe_for_every_job():
    assert {'buildings','footprints','footprints_geotiff','landcover','landcover_deeplab','ships','ships_presence','clouds'} <= {o.stem for o in RECIPES}


@pytest.mark.parametrize('text, words', [
    ('epochs: 3', 'line 1: epochs: unknown key: write training.epochs'),
    ('training:\n  epoch: 3', 'line 2: training.epoch: unknown key: did you mean epochs?'),
    ('trainig:\n  epochs: 3', 'line 1: trainig: unknown key: did you mean training?'),
    ('training:\n  epochs: three', "line 2: training.epochs: expected a valid integer, got 'three'"),
    ('training:\n  epochs: 2.5', 'training.epochs: expected a valid integer, got 2.5'),
    ('training:\n  lr: -1', "training.lr: expected 'find' or a number greater than 0, got -1"),
    ('training:\n  lr: .inf', "training.lr: expected 'find' or a finite number"),
    ('training:\n  lr: fnd', "training.lr: expected 'find' or a valid number, got 'fnd': did you mean find?"),
    ('training:\n  lr_grid: 1e-3', 'training.lr_grid: expected a valid list, got 0.001'),
    ('training:\n  optimiser: adma', 'did you mean adam'),
    ('training:\n  schedule: cosine', "expected 'one_cycle', 'plateau' or 'flat', got 'cosine'"),
    ('training: 3', 'line 1: training: expected a valid dictionary, got 3'),
    ('- training', 'expected sections such as training:, got a list'),
    ('data:\n  kind: coko', 'did you mean coco?'),
    ('data:\n  bands: B02', "data.bands: expected a valid list, got 'B02'"),
    ('data:\n  kind: clouds\n  options: {shadows: class}', 'line 3: data.options.shadows: unknown argument: did you mean shadow?'),
    ('training:\n  threshold: 0.1234', 'line 2: training.threshold: expected a multiple of 0.001, got 0.1234'),
    ('data:\n  overlap: 8', 'line 2: data.overlap: expected less than data.size'),
    ('loss:\n  name: dice\n  class_weights: balanced', 'the loss dice takes none'),
    ('loss:\n  name: focal\n  arguments: {alpha: 0.5}\n  class_weights: sqrt', 'is given as loss.arguments.alpha as well'),
    ('loss:\n  name: bce\ntarget:\n  kind: borders', 'line 2: loss.name: is for two classes'),
    ('model:\n  arguments: {width: [8, 16]}', 'unknown argument: did you mean widths?'),
    ('model:\n  pretrained: yes', 'line 2: model.pretrained: is called start now'),
    ('training:\n  freeze: 3', 'line 2: training.freeze: needs weights to keep: give start'),
    ('start: 3', 'line 1: start: expected a valid string, got 3'),
    ('model:\n  architecture: Classifier', 'target.kind: presence goes with the architecture Classifier'),
    ('augmentation:\n  dihedral: al', 'did you mean all?'),
    ('augmentation:\n  random_scale: [2, 1]', 'the smaller number first'),
    ('split:\n  valid: 0\ntraining:\n  lr_grid: [1, 2]', 'training.lr_grid: needs valid chips'),
    ('split:\n  valid: 0\ntraining:\n  schedule: plateau', 'line 4: training.schedule: needs valid chips'),
    ('logging:\n  tensorboard: maybe', 'expected a valid boolean'),
    ('name: ""', 'expected at least 1 character'),
    ('name: a\nname: b', 'line 2: name stands here for the second time'),
    ('training: &x {lr: *x}', 'no valid YAML'),
    ('training: !!python/object/apply:os.system ["x"]', 'line 1: could not determine'),
    ('training: {lr: 1', 'line 1: expected'),
    ('a:\n\t- b', 'line 2:'),
    ('? [a, b]\n: 3', 'line 1: found unhashable key'),
    ('a: 1\n---\nb: 2', 'line 2:'),
    ('[' * 3000, 'no valid YAML'),
    ('', 'expected sections'),
    ('split:\n  watch: 0.2', 'line 2: split.watch: is called split.valid now'),
    ('split:\n  part: all\n  valid: test', "line 3: split.valid: expected a valid number, got 'test': the part that scores are taken on is split.test"),
    ('augmentation:\n  turns: upright', 'line 2: augmentation.turns: is called augmentation.dihedral now'),
    ('target:\n  kind: present', 'did you mean presence?'),
    ('task: shipping', "expected null, 'binary', 'multiclass'"),
    ('task: presence', 'line 1: task: is not that of target.kind'),
], ids=lambda o: o[:24].replace('\n', ' ') if isinstance(o, str) else None)
def test_slips_are_named_with_their_place(tmp_path, text, words):
    (tmp_path/'r.yaml').write_text(text)
    with pytest.raises(BadInput) as e: read_recipe(tmp_path/'r.yaml')
    assert words in str(e.value) and str(e.value).startswith(str(tmp_path/'r.yaml')) and '\n' not in str(e.value)


def test_the_words_of_yaml_mean_what_people_mean():
    r = recipe_from(_read_yaml('name: no\nlogging: {tensorboard: on, wandb: off}\ntraining: {lr: 1e-3, wd: 1.0e-2, epochs: 010, patience: ~}\nstart: resnet18')[0])
    assert (r.name, r.logging.tensorboard, r.logging.wandb, r.start) == ('no', True, False, 'resnet18')
    assert (r.training.lr, r.training.wd, r.training.epochs, r.training.patience) == (1e-3, 1e-2, 10, None)
    assert _read_yaml('a: 2024-01-01\nb: 1:30\nc: 1_000\nd: 0x10')[0] == dict(a='2024-01-01', b='1:30', c='1_000', d='0x10')


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('ab:-[]{}&*!|>#\'"\n ?,%@`~0.e1\t\x00é'), max_size=60))
def test_any_text_is_values_or_one_line(text):
    try: values,lines = _read_yaml(text)
    except BadInput as e: assert '\n' not in str(e)
    else: assert values is None or isinstance(values, (str,int,float,bool,list,dict))


TEXT = st.text(max_size=20).filter(str.isprintable) # PyYAML itself loses \x85

@hypothesis_settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-10**9, 10**9) | st.floats(allow_nan=False) | TEXT,
                    lambda o: st.lists(o, max_size=3) | st.dictionaries(TEXT, o, max_size=3), max_leaves=12))
def test_what_is_written_is_read_back_by_us_and_by_others(values):
    text = recipe_text(Recipe(data=dict(options=dict(o=values))))
    assert _read_yaml(text)[0]['data']['options']['o'] == values == yaml.safe_load(text)['data']['options']['o']


def test_a_written_recipe_is_plain_yaml():
    r = recipe_from(dict(name='on', about='a: b # c', training=dict(lr=1e-5, lr_grid=[1e-3, .01]), data=dict(bands=['no','B02'])))
    assert yaml.safe_load(recipe_text(r)) == r.model_dump() and recipe_from(_read_yaml(recipe_text(r))[0]) == r


def test_changes_are_checked_and_leave_the_original_alone():
    r = Recipe()
    s = override(r, **parse_overrides(['epochs=3', 'loss.name=focal', 'loss.arguments.gamma=1.5', 'data.bands=[R,G,B]', 'lr=1e-3', 'about=a = b']))
    assert (s.training.epochs, s.loss.arguments, s.data.bands, s.training.lr, s.about) == (3, dict(gamma=1.5), ['R','G','B'], 1e-3, 'a = b')
    assert r == Recipe()
    for text,words in (('epochs', 'expected key=value'), ('epoch=3', 'did you mean epochs'), ('seed=3', 'split.seed or training.seed'), ('bs=[', '--set bs'), ('watch=0', 'watch: is called split.valid now'),
                       ('training.bs.x=3', 'bs has no parts'), ('training.epoch=3', 'training.epoch: unknown key')):
        with pytest.raises(BadInput) as e: override(r, **parse_overrides([text]))
        assert words in str(e.value)


def test_old_keys_name_the_new_ones():
    for old,new in _RENAMED.items():
        section = new.split('.')[0] if '.' in new else 'model'
        with pytest.raises(BadInput, match=f'{section}.{old}: is called {new} now'): recipe_from({section: {old: .2}})


def run(*args): return subprocess.run([sys.executable, '-W', 'ignore', '-m', 'satseg.recipes', *map(str, args)], cwd=ROOT, capture_output=True, text=True)


def test_the_command_line_prints_a_whole_recipe_or_one_line(tmp_path):
    done = run(RECIPES[0])
    assert done.returncode == 0 and recipe_from(yaml.safe_load(done.stdout)) == read_recipe(RECIPES[0])
    done = run('nbs/recipes/ship.yaml')
    assert done.returncode == 2 and not done.stdout and done.stderr == 'satseg: nbs/recipes/ship.yaml: expected a recipe, found no such file: did you mean ships?\n'
    done = run('trees')
    assert done.returncode == 2 and f'known are {", ".join(o.stem for o in RECIPES)}' in done.stderr and done.stderr.count('\n') == 1
    (tmp_path/'b.yaml').write_bytes(b'\xff\xfe\x00')
    assert run(tmp_path/'b.yaml').stderr.count('\n') == 1


def test_a_recipe_is_checked_without_torch():
    code = f'import sys; from satseg.learn.recipes import read_recipe; read_recipe({str(RECIPES[0])!r}); sys.exit("torch" in sys.modules or "fastai" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_a_bare_name_is_a_file_here_or_a_recipe_that_comes_with_satseg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'ships').mkdir() # Data of that name are no recipe
    for o in ('ships','ships.yaml'): assert read_recipe(o) == read_recipe(ROOT/'nbs'/'recipes'/'ships.yaml')
    for o in ('./nbs/ships.yaml','recipes/ships','ships.csv'):
        with pytest.raises(BadInput, match='found no such file'): _find_recipe(o)
    (tmp_path/'ships.yaml').write_text('name: mine')
    for o in ('ships','ships.yaml'): assert _find_recipe(o) == Path('ships.yaml') and read_recipe(o).name == 'mine'
