"""A recipe says all, is checked in every word, and gives parts that do not leak."""
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings as hypothesis_settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.learn.recipes import Data, LOSS_ARGUMENTS, MODEL_ARGUMENTS, OPTIMISERS, RENAMED, Recipe, SCHEDULES, Split, Target, WEIGHT_ARGUMENTS, find_recipe, override, parse_overrides, read_recipe, read_yaml, recipe_from, recipe_text, write_yaml
from satseg.learn.datasets import cached, cut_windows, encode_labels, open_dataset, pick_chips, prepare_data, split_chips
from satseg.learn.run_settings import check_run, clear_run, differences

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT/'nbs'/'recipes').glob('*.yaml'))


def test_the_tables_are_those_of_losses_models_and_training():
    from satseg import losses, models, training
    own = lambda f, *skip: [o for o in inspect.signature(f).parameters if o not in ('self','logits','targ','n_in','n_out','pretrained','fallback', *skip)]
    assert {k: own(v) for k,v in losses.LOSSES.items()} == {k: v for k,v in LOSS_ARGUMENTS.items() if k != 'auto'}
    assert {k: own(v.__init__) for k,v in models.ARCHITECTURES.items()} == MODEL_ARGUMENTS
    assert list(training.OPTIMISERS) == OPTIMISERS
    assert all(v in own(losses.LOSSES[k]) for k,v in WEIGHT_ARGUMENTS.items()) and set(SCHEDULES) == {'one_cycle','plateau','flat'}


@pytest.mark.parametrize('path', RECIPES, ids=lambda o: o.stem)
def test_every_recipe_is_right_and_survives_being_written(path, tmp_path):
    r = read_recipe(path)
    assert r.about and r.data.kind and r.data.sample
    (tmp_path/'copy.yaml').write_text(recipe_text(r))
    assert read_recipe(tmp_path/'copy.yaml') == r


def test_there_is_a_recipe_for_every_job():
    assert {'buildings','footprints','footprints_geotiff','landcover','landcover_deeplab','ships','ships_gate','clouds'} <= {o.stem for o in RECIPES}


@pytest.mark.parametrize('path', RECIPES, ids=lambda o: o.stem)
def test_every_recipe_finds_chips_in_its_synthetic_sample(path):
    r = read_recipe(path)
    with open_dataset(r, 'sample') as data:
        m = prepare_data(r, data)
        assert m.train[0].mask is not None and len({o.image.shape for o in m.train}) == 1
        for other in (m.valid, m.test):
            if other: assert not set(m.train.groups) & set(other.groups)
        if r.target.kind == 'borders': assert m.train.classes[-1] == 'border' and m.test.classes[-1] != 'border' and m.test.objects is not None


@pytest.mark.parametrize('text, words', [
    ('epochs: 3', 'line 1: epochs: unknown key: it belongs into the section training (training.epochs)'),
    ('training:\n  epoch: 3', 'line 2: training.epoch: unknown key: did you mean epochs?'),
    ('trainig:\n  epochs: 3', 'line 1: trainig: unknown key: did you mean training?'),
    ('training:\n  epochs: three', "line 2: training.epochs: expected a whole number, got 'three'"),
    ('training:\n  epochs: 2.5', 'training.epochs: expected a whole number'),
    ('training:\n  epochs: true', 'training.epochs: expected a whole number'),
    ('training:\n  lr: -1', 'training.lr: expected find or a number above 0, got -1'),
    ('training:\n  lr: .inf', 'training.lr: expected find or a finite number'),
    ('training:\n  lr: fnd', "training.lr: expected find or a number, got 'fnd': did you mean find?"),
    ('training:\n  lr_grid: 1e-3', 'training.lr_grid: expected a list such as [a, b], got 0.001'),
    ('training:\n  optimiser: adma', 'did you mean adam'),
    ('training:\n  schedule: cosine', "expected one_cycle, plateau or flat, got 'cosine'"),
    ('training: 3', 'line 1: training: expected a section with keys and values, got 3'),
    ('- training', 'expected sections such as data: and training:, got a list'),
    ('data:\n  kind: coko', 'did you mean coco?'),
    ('data:\n  bands: B02', "data.bands: expected a list such as [a, b], got 'B02'"),
    ('data:\n  kind: clouds\n  options: {shadows: class}', 'line 3: data.options.shadows: unknown argument of the reader clouds: did you mean shadow?'),
    ('data:\n  kind: clouds\n  options: {all_bands: B02}', "line 3: data.options.all_bands: expected a list such as [B02, B03, B04], got 'B02'"),
    ('training:\n  threshold: 0.1234', 'line 2: training.threshold: expected a number from 0 to 1 in steps of 0.001'),
    ('data:\n  overlap: 8', 'line 2: data.overlap: expected an overlap below data.size'),
    ('loss:\n  name: dice\n  class_weights: balanced', 'the loss dice takes none'),
    ('loss:\n  name: focal\n  arguments: {alpha: 0.5}\n  class_weights: sqrt', 'is given as loss.arguments.alpha as well'),
    ('loss:\n  name: bce\ntarget:\n  kind: borders', 'line 2: loss.name: bce is for two classes'),
    ('model:\n  arguments: {width: [8, 16]}', 'unknown argument of the UNet: did you mean widths?'),
    ('model:\n  pretrained: yes', 'UNet has none'),
    ('model:\n  architecture: Classifier', 'target.kind: presence goes with the architecture Classifier'),
    ('augmentation:\n  dihedral: al', 'did you mean all?'),
    ('augmentation:\n  random_scale: [2, 1]', 'the smaller first'),
    ('split:\n  valid: 0\ntraining:\n  lr_grid: [1, 2]', 'training.lr_grid: needs valid chips'),
    ('split:\n  valid: 0\ntraining:\n  schedule: plateau', 'line 4: training.schedule: needs valid chips'),
    ('logging:\n  tensorboard: maybe', 'expected true or false'),
    ('name: ""', 'expected a line of text'),
    ('name: a\nname: b', 'line 2: name stands here for the second time'),
    ('a: &x 1\nb: *x', 'line 1: anchors and aliases'),
    ('training: !!python/object/apply:os.system ["x"]', 'line 1: tags such as'),
    ('training: {lr: 1', 'line 1: expected'),
    ('a:\n\t- b', 'line 2:'),
    ('? [a, b]\n: 3', 'line 1: expected a word as a key'),
    ('a: 1\n---\nb: 2', 'line 2:'),
    ('[' * 3000, 'nested too deep'),
    ('', 'expected sections'),
    ('split:\n  watch: 0.2', 'line 2: split.watch: is called split.valid now'),
    ('split:\n  part: all\n  valid: test', 'line 3: split.valid: is a share of the training part now'),
    ('augmentation:\n  turns: upright', 'line 2: augmentation.turns: is called augmentation.dihedral now'),
    ('target:\n  kind: present', 'line 2: target.kind: present is called presence now'),
    ('task: shipping', "expected null, binary, multiclass"),
    ('task: presence', 'line 1: task: presence does not go with target.kind mask'),
], ids=lambda o: o[:24].replace('\n', ' ') if isinstance(o, str) else None)
def test_slips_are_named_with_their_place(tmp_path, text, words):
    (tmp_path/'r.yaml').write_text(text)
    with pytest.raises(BadInput) as e: read_recipe(tmp_path/'r.yaml')
    assert words in str(e.value) and str(e.value).startswith(str(tmp_path/'r.yaml')) and '\n' not in str(e.value)


def test_the_words_of_yaml_mean_what_people_mean():
    r = recipe_from(read_yaml('name: no\nlogging: {tensorboard: on, wandb: off}\ntraining: {lr: 1e-3, wd: 1.0e-2, epochs: 010, patience: ~}\nmodel: {pretrained: no}')[0])
    assert (r.name, r.logging.tensorboard, r.logging.wandb, r.model.pretrained) == ('no', True, False, False)
    assert (r.training.lr, r.training.wd, r.training.epochs, r.training.patience) == (1e-3, 1e-2, 10, None)
    assert read_yaml('a: 2024-01-01\nb: 1:30\nc: 1_000\nd: 0x10')[0] == dict(a='2024-01-01', b='1:30', c='1_000', d='0x10')


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('ab:-[]{}&*!|>#\'"\n ?,%@`~0.e1\t\x00é'), max_size=60))
def test_any_text_is_values_or_one_line(text):
    try: values,lines = read_yaml(text)
    except BadInput as e: assert '\n' not in str(e)
    else: assert values is None or isinstance(values, (str,int,float,bool,list,dict))


TEXT = st.text(max_size=20).filter(str.isprintable) # As `_text` asks for; PyYAML itself loses \x85

@hypothesis_settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-10**9, 10**9) | st.floats(allow_nan=False) | TEXT,
                    lambda o: st.lists(o, max_size=3) | st.dictionaries(TEXT, o, max_size=3), max_leaves=12))
def test_what_is_written_is_read_back_by_us_and_by_others(values):
    text = write_yaml(values)
    assert read_yaml(text)[0] == values == yaml.safe_load(text)


def test_a_written_recipe_is_plain_yaml():
    r = recipe_from(dict(name='on', about='a: b # c', training=dict(lr=1e-5, lr_grid=[1e-3, .01]), data=dict(bands=['no','B02'])))
    assert yaml.safe_load(recipe_text(r)) == r.model_dump() and recipe_from(read_yaml(recipe_text(r))[0]) == r


def test_changes_are_checked_and_leave_the_original_alone():
    r = Recipe()
    s = override(r, **parse_overrides(['epochs=3', 'loss.name=focal', 'loss.arguments.gamma=1.5', 'data.bands=[R,G,B]', 'lr=1e-3', 'about=a = b']))
    assert (s.training.epochs, s.loss.arguments, s.data.bands, s.training.lr, s.about) == (3, dict(gamma=1.5), ['R','G','B'], 1e-3, 'a = b')
    assert r == Recipe() and set(differences(r, s)) >= {'training.epochs','loss.name','data.bands','training.lr'} and 'about' not in differences(r, s)
    for text,words in (('epochs', 'expected key=value'), ('epoch=3', 'did you mean epochs'), ('seed=3', 'split.seed and training.seed'), ('bs=[', '--set bs'), ('watch=0', 'watch: is called split.valid now'),
                       ('training.bs.x=3', 'expected a path'), ('training.epoch=3', 'training.epoch: unknown key')):
        with pytest.raises(BadInput) as e: override(r, **parse_overrides([text]))
        assert words in str(e.value)


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
    with pytest.raises(BadInput, match='expected a part out of train, val, got vall: did you mean val'): split_chips(dict(train=train, val=val), Split(test='vall'))
    with pytest.raises(BadInput, match='at least 2 groups'): split_chips(dict(all=pile(4, ['a']*4)), Split())
    with pytest.raises(BadInput, match='has none'): split_chips(dict(all=Chips([np.ones((4,4,3))]*2)), Split())


def test_chips_without_named_groups_are_groups_of_their_own_part():
    train,val = (Chips([np.ones((4,4,3))*i for i in range(6)], [np.ones((4,4), np.uint8)]*6) for _ in range(2))
    assert train.names == val.names
    a,b,c = split_chips(dict(train=train, val=val), Split(valid=.5))
    assert [len(o) for o in (a,b,c)] == [3,3,6] and not set(a.groups + b.groups) & set(c.groups)
    with pytest.raises(BadInput, match='which leaks'):
        split_chips({k: pile(4, list('aabb')) for k in ('train','val')}, Split()) # Somebody named these


def test_old_keys_name_the_new_ones():
    for old,new in RENAMED.items():
        section,key = old.split('.')
        with pytest.raises(BadInput, match=f'{old}: is called {new} now'): recipe_from({section: {key: .2}})


def test_borders_are_drawn_before_cutting_and_memory_changes_nothing():
    mask = np.zeros((32,32), np.uint8)
    mask[4:28,4:28] = 1
    chips = Chips([np.arange(32*32*3).reshape(32,32,3)], [mask], objects=[mask.astype(int)])
    made = cut_windows(encode_labels(chips, Target(kind='borders', width=2)), Data(size=16))
    kept = cached(made, 1e5)
    assert made[0].mask[15,15] == 1 == made[3].mask[0,0] and made[0].mask[4,8] == 2 # The cut is no border
    for i in (0, 3, 1, 0): assert np.array_equal(made[i].mask, kept[i].mask) and np.array_equal(made[i].image, kept[i].image) and made.names[i] == kept.names[i]
    with pytest.raises(BadInput, match='one class of objects'): encode_labels(Chips([np.ones((4,4,3))], [np.zeros((4,4))], classes='abc'), Target(kind='borders'))


def test_only_what_a_run_wrote_is_cleared(tmp_path, monkeypatch):
    (tmp_path/'mine.txt').write_text('x')
    with pytest.raises(BadInput, match='expected an empty folder'): check_run(Recipe(), tmp_path, False, True)
    for o in ('recipe.yaml','metrics.json'): (tmp_path/o).write_text(recipe_text(Recipe()))
    (tmp_path/'report').mkdir()
    (tmp_path/'grid').symlink_to(ROOT, target_is_directory=True)
    with pytest.raises(BadInput, match='holds a finished run'): check_run(Recipe(), tmp_path, False, False)
    with pytest.raises(BadInput, match='got both'): check_run(Recipe(), tmp_path, True, True)
    check_run(Recipe(), tmp_path, False, True)
    order,unlink = [],Path.unlink
    monkeypatch.setattr(Path, 'unlink', lambda self, **kw: (order.append(self.name), unlink(self, **kw)))
    clear_run(tmp_path)
    assert order[0] == 'metrics.json' and order[-1] == 'recipe.yaml' # Cut off in between, it is still the folder of a run
    assert [o.name for o in tmp_path.iterdir()] == ['mine.txt'] and (ROOT/'nbs').is_dir()


def run(*args): return subprocess.run([sys.executable, '-W', 'ignore', '-m', 'satseg.recipes', *map(str, args)], cwd=ROOT, capture_output=True, text=True)


def test_the_command_line_prints_a_whole_recipe_or_one_line(tmp_path):
    done = run(RECIPES[0])
    assert done.returncode == 0 and recipe_from(yaml.safe_load(done.stdout)) == read_recipe(RECIPES[0])
    done = run('nbs/recipes/ship.yaml')
    assert done.returncode == 2 and not done.stdout and done.stderr == 'satseg: nbs/recipes/ship.yaml: expected a recipe, found no such file: did you mean ships?\n'
    done = run('trees')
    assert done.returncode == 2 and f'or one that comes with satseg: {", ".join(o.stem for o in RECIPES)}' in done.stderr and done.stderr.count('\n') == 1
    (tmp_path/'b.yaml').write_bytes(b'\xff\xfe\x00')
    assert run(tmp_path/'b.yaml').stderr.count('\n') == 1


def test_a_recipe_is_checked_without_torch():
    code = f'import sys; from satseg.recipes import read_recipe; read_recipe({str(RECIPES[0])!r}); sys.exit("torch" in sys.modules or "fastai" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_a_bare_name_is_a_file_here_or_a_recipe_that_comes_with_satseg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'ships').mkdir() # Data of that name are no recipe
    for o in ('ships','ships.yaml'): assert read_recipe(o) == read_recipe(ROOT/'nbs'/'recipes'/'ships.yaml')
    for o in ('./nbs/ships.yaml','recipes/ships','ships.csv'):
        with pytest.raises(BadInput, match='found no such file'): find_recipe(o)
    (tmp_path/'ships.yaml').write_text('name: mine')
    for o in ('ships','ships.yaml'): assert find_recipe(o) == Path('ships.yaml') and read_recipe(o).name == 'mine'
