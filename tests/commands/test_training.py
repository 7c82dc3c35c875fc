"""Training from the command line."""
import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from satseg.core.errors import BadInput
from satseg.data.synthetic import write_sample
from satseg.learn.run import run_recipe
from satseg.models.model_file import load_model
from satseg.training import main

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ['size=64', 'epochs=1', 'bs=4', 'precision=full', 'random_scale=null']


def log(path): return list(csv.DictReader(open(path/'log.csv')))


def cli(*args, **kw): return subprocess.run([sys.executable, '-W', 'ignore', '-m', 'satseg.training', *map(str, args)], cwd=ROOT, capture_output=True, text=True, **kw)


@pytest.mark.parametrize('name', ['footprints_geotiff','ships_presence'])
def test_a_recipe_runs_with_no_data(tmp_path, name):
    widths = 'model.arguments.widths=[8,16]'
    done = cli(f'nbs/recipes/{name}.yaml', '--data', 'sample', '--out', tmp_path/'run', '--set', *SMALL, widths)
    assert done.returncode == 0, done.stderr
    assert not done.stderr and 'test chips' in done.stdout and 'all background' in done.stdout and '\r' not in done.stdout
    res = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert res['dataset'].startswith('synthetic') and (tmp_path/'run'/'report').is_dir()
    if name == 'ships_presence': assert load_model(tmp_path/'run'/'model.pth')[1].classes == ['no ship','ship'] and res['unit'] == 'chip' and ' answers, ' in (tmp_path/'run'/'report'/'metrics.md').read_text()
    else: assert set(res['objects']) == {'connected components','instances','all empty'} and 'instances' in done.stdout


def test_slips_are_one_line_and_an_exit_status(tmp_path):
    done = cli('nbs/recipes/ships.yaml', '--data', 'sample', '--out', tmp_path/'x', '--set', 'bs=4', 'epoch=3')
    assert done.returncode == 2 and done.stderr == 'satseg: ships: epoch: unknown key: did you mean epochs?\n' and not done.stdout and not (tmp_path/'x').exists()
    with pytest.raises(BadInput, match='expected --data PATH'): main('nbs/recipes/ships.yaml', out=str(tmp_path/'x'))


def test_ctrl_c_keeps_the_run_and_resume_ends_it_as_if_unbroken(tmp_path):
    data = tmp_path/'dataset.pickle'
    write_sample(data, n_train=8, n_val=2, size=32)
    (tmp_path/'r.yaml').write_text('data: {resolution: 10}\nmodel: {arguments: {widths: [8, 16]}}\nsplit: {valid: 0.3}\ntraining: {lr: 1e-2, bs: 2, epochs: 12}\n')
    args = [tmp_path/'r.yaml', '--data', data, '--out']
    with subprocess.Popen([sys.executable, '-W', 'ignore', '-m', 'satseg.training', *map(str, args), str(tmp_path/'run')], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as p:
        while p.poll() is None and not (tmp_path/'run'/'checkpoint.pth').exists(): time.sleep(.02)
        p.send_signal(signal.SIGINT)
        err = p.communicate()[1]
    assert p.returncode == 130 and 'go on with --resume' in err and len(err.splitlines()) == 2, err
    assert not (tmp_path/'run'/'model.pth').exists()
    with pytest.raises(BadInput, match='holds an unfinished run: go on with --resume'): run_recipe(tmp_path/'r.yaml', data, tmp_path/'run')
    done = cli(*args, tmp_path/'run', '--resume', '--quiet')
    assert done.returncode == 0 and not done.stdout and len(log(tmp_path/'run')) == 12
    whole = run_recipe(tmp_path/'r.yaml', data, tmp_path/'whole', quiet=True)
    assert json.loads((tmp_path/'run'/'metrics.json').read_text())['iou'] == whole['iou']


def test_set_may_stand_several_times():
    from satseg.core.commands import _argument_parser
    args = _argument_parser(main).parse_args(['r.yaml', '--set', 'epochs=1', 'bs=2', '--data', 'd', '--set', 'lr=1e-3'])
    assert args.set == ['epochs=1','bs=2','lr=1e-3'] and _argument_parser(main).parse_args(['r.yaml']).set is None


def test_a_start_is_a_file_or_a_line_that_says_why_not(tmp_path):
    main('buildings', 'sample', str(tmp_path/'first'), ['epochs=1', 'model.arguments.widths=[8,16]'], quiet=True)
    first,small = tmp_path/'first'/'model.pth',['--set', 'epochs=1']
    done = cli('buildings', '--data', 'sample', '--out', tmp_path/'second', '--start', first, *small, 'freeze=1')
    assert done.returncode == 0 and f'started from {first}: 32 of 32 tensors, first layer by band name, last layer kept\n' in done.stdout and not done.stderr, done.stderr
    info = load_model(tmp_path/'second'/'model.pth')[1]
    assert info.mean == load_model(first)[1].mean and 'started from' in info.trained_on and info.arguments['widths'] == [8,16]
    for args,words in ((['--start', tmp_path/'absent.pth', *small], 'absent.pth: no such model file'), (['--start', 'resnet43', *small], 'expected an encoder of timm'),
                       (['--start', first, *small, 'model.architecture=UNet', 'model.arguments.widths=[8,32]'], 'model.pth: expected weights for UNet(widths=[8, 32]')):
        done = cli('buildings', '--data', 'sample', '--out', tmp_path/'third', *args)
        assert done.returncode == 2 and done.stderr.startswith('satseg: start: ') and words in done.stderr and len(done.stderr.splitlines()) == 1 and not (tmp_path/'third').exists(), done.stderr
    done = cli('footprints_geotiff', '--data', 'sample', '--out', tmp_path/'third', '--start', first, '--set', *SMALL)
    assert done.returncode == 2 and '--set model.architecture=null model.arguments={}' in done.stderr
    done = cli('footprints_geotiff', '--data', 'sample', '--out', tmp_path/'third', '--start', first, '--set', *SMALL, 'model.architecture=null', 'model.arguments={}')
    assert done.returncode == 0 and 'last layer new' in done.stdout, done.stderr
