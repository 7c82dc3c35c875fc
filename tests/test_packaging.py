"""What `pip install` brings: built from a copy of the sources, installed beside nothing of the checkout, used from another folder."""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path

import pytest


COMMANDS = 'satseg-predict','satseg-train','satseg-scene','satseg-app'
ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(o.relative_to(ROOT/'satseg').as_posix() for o in (ROOT/'satseg').rglob('*') if o.suffix in ('.py','.js','.css','.jinja'))
RECIPES = sorted(o.name for o in (ROOT/'nbs'/'recipes').glob('*.yaml'))
SETTINGS = ConfigParser(delimiters=['='], interpolation=None)
SETTINGS.read(ROOT/'settings.ini')
SETTINGS = SETTINGS['DEFAULT']
SOURCES = ('LICENSE','README.md','CHANGELOG.md','MANIFEST.in','setup.py','pyproject.toml','settings.ini','unet_model.pth','nbs/recipes','satseg','tests/conftest.py',
           'nbs/index.ipynb','.github')
SMALL = 'epochs=1','lr=1e-3','data.size=64','bs=4','precision=full','augmentation.random_scale=null','model.arguments.widths=[4,8]'


def run(*cmd, cwd, **kw):
    done = subprocess.run([*map(str, cmd)], cwd=cwd, capture_output=True, text=True, timeout=300, **kw)
    assert done.returncode == 0, (done.stdout+done.stderr)[-3000:]
    return done.stdout


def names(wheel): return sorted(o.filename for o in zipfile.ZipFile(wheel).infolist() if not o.is_dir())


def listing(folder): return sorted(str(o.relative_to(folder)) for o in folder.rglob('*'))


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "Folder with a copy of the sources as `src`, and what each way of building makes of it: `archive`, `pip`, `editable`."
    tmp = tmp_path_factory.mktemp('built')
    src = tmp/'src'
    for o in SOURCES:
        (src/o).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT/o).is_dir(): shutil.copytree(ROOT/o, src/o, ignore=shutil.ignore_patterns('__pycache__'))
        else: shutil.copy(ROOT/o, src/o)
    old = src/'build'/'lib'/'satseg'/'removed_long_ago.py'
    old.parent.mkdir(parents=True)
    old.write_text('')
    before = listing(src/'satseg')
    run(sys.executable, '-m', 'build', '--no-isolation', '-o', tmp/'archive', src, cwd=tmp)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index', '-w', tmp/'pip', src, cwd=tmp)
    run(sys.executable, '-c', f'from setuptools import build_meta as b; b.build_editable({str(tmp/"editable")!r})', cwd=src)
    assert listing(src/'satseg') == before, 'building wrote into the sources'
    return tmp


@pytest.fixture(scope='module')
def wheel(built): return next((built/'pip').glob('*.whl'))


@pytest.fixture(scope='module')
def place(wheel, tmp_path_factory):
    "The wheel installed into a folder `site`, an empty folder `here`, and a function that runs one of its programs there."
    tmp = tmp_path_factory.mktemp('installed')
    site,here = tmp/'site',tmp/'here'
    here.mkdir()
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', site, wheel, cwd=here)
    env = {**{k: v for k,v in os.environ.items() if k not in ('SATSEG_DATA','PYTHONSAFEPATH','PYTHONWARNINGS')}, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1', 'COLUMNS': '120'}

    def start(program, *args):
        cmd = [shutil.which(program, path=site/'bin')] if program in COMMANDS else [sys.executable, *program.split()]
        return subprocess.run([*cmd, *map(str, args)], cwd=here, env=env, capture_output=True, text=True, timeout=300)
    return site,here,start


def test_the_wheel_holds_modules_model_recipes_and_nothing_else(wheel):
    info = f"satseg_unet-{SETTINGS['version']}.dist-info"
    want = [*(f'satseg/{o}' for o in (*MODULES, 'py.typed','shipped/unet_model.pth')), *(f'satseg/shipped/recipes/{o}' for o in RECIPES),
            *(f'{info}/{o}' for o in ('METADATA','RECORD','WHEEL','entry_points.txt','top_level.txt','licenses/LICENSE'))]
    assert names(wheel) == sorted(want)
    assert not [o for o in want if re.search(r'ipynb|\.pickle|tests?/|\.jpg', o)] and len(RECIPES) >= 8
    assert wheel.stat().st_size < 9_000_000
    z = zipfile.ZipFile(wheel)
    assert z.read('satseg/shipped/unet_model.pth') == (ROOT/'unet_model.pth').read_bytes()
    assert z.read(f'{info}/licenses/LICENSE') == (ROOT/'LICENSE').read_bytes()


def test_every_way_of_building_gives_the_same(built, wheel):
    "Also through the source archive, which therefore lacks nothing; an editable install copies nothing."
    other = next((built/'archive').glob('*.whl'))
    a,b = zipfile.ZipFile(wheel),zipfile.ZipFile(other)
    assert names(wheel) == names(other) and all(a.read(o) == b.read(o) for o in names(wheel) if not o.endswith('RECORD'))
    inside = tarfile.open(next((built/'archive').glob('*.tar.gz'))).getnames()
    for o in ('setup.py','settings.ini','unet_model.pth','nbs/recipes/ships.yaml','nbs/index.ipynb','tests/conftest.py','CHANGELOG.md','.github/workflows/test.yml'):
        assert any(p.endswith(f'/{o}') for p in inside), o
    assert not [o for o in names(next((built/'editable').glob('*.whl'))) if 'shipped' in o]


def test_metadata(wheel):
    z = zipfile.ZipFile(wheel)
    m = message_from_string(z.read(f"satseg_unet-{SETTINGS['version']}.dist-info/METADATA").decode())
    assert (m['Name'], m['Version'], m['License-Expression'], m['License-File'], m['Requires-Python']) == ('satseg-unet', SETTINGS['version'], 'Apache-2.0', 'LICENSE', '>=3.11')
    assert set(m.get_all('Provides-Extra')) == {'geo','onnx','app','scale','pretrained','dev','all'}
    needs = m.get_all('Requires-Dist')
    plain = [o for o in needs if 'extra ==' not in o]
    assert len(plain) == len(SETTINGS['requirements'].split()) and not [o for o in plain if re.match('nbdev|voila|rasterio|dask|onnx', o)]
    def of(extra): return {o.split(';')[0].strip() for o in needs if o.endswith(f'extra == "{extra}"')}
    assert of('all') == of('geo') | of('onnx') | of('app') | of('scale') | of('pretrained') and of('all') < of('dev') and {'voila>=0.5.8','anywidget>=0.9'} <= of('app')
    assert m['Summary'] == SETTINGS['description'] and m['Keywords'] and m['Author-email'] and m['Home-page'] == SETTINGS['git_url']
    assert {o.split(',')[0] for o in m.get_all('Project-URL')} == {'Documentation','Source','Issues','Changes'}
    assert 'Typing :: Typed' in m.get_all('Classifier') and not [o for o in m.get_all('Classifier') if o.startswith('License')] # The expression says it
    assert [o[-4:] for o in m.get_all('Classifier') if ':: 3.' in o] == ['3.11','3.12','3.13'] # Tried by tests/interpreters.py
    text = m.get_payload()
    assert m['Description-Content-Type'] == 'text/markdown' and '# satseg' in text
    assert re.findall(r'\]\((?!https?:|#)', text) == [], 'a relative link leads nowhere on a package index'


def test_programs(wheel):
    text = zipfile.ZipFile(wheel).read(f"satseg_unet-{SETTINGS['version']}.dist-info/entry_points.txt").decode()
    got = dict(re.findall(r'^(\S+) = (\S+)$', text, re.M))
    assert got == {'satseg-predict':'satseg.inference:main', 'satseg-train':'satseg.training:main', 'satseg-scene':'satseg.scene:main', 'satseg-app':'satseg.app:main'}


def test_importing_satseg_is_cheap_and_comes_from_the_wheel(place):
    site,_,start = place
    done = start('-c', 'import sys; old = set(sys.modules); import satseg; print(satseg.__file__, *set(sys.modules)-old)')
    assert done.stdout.split() == [str(site/'satseg'/'__init__.py'), 'satseg'], done.stderr
    done = start('-c', 'import satseg; print([callable(getattr(satseg, o)) for o in satseg.__all__])')
    assert done.stdout.split() == str([True]*10).split(), done.stderr
    done = start('-c', 'from satseg.core.files import bundled_file; print(bundled_file("unet_model.pth"), bundled_file("recipes/ships.yaml"))')
    assert done.stdout.split() == [str(site/'satseg'/'shipped'/o) for o in ('unet_model.pth','recipes/ships.yaml')], done.stderr


def test_predicting_the_sample_with_the_shipped_model(place):
    _,here,start = place
    done = start('satseg-predict', '--out', 'predicted')
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert re.search(r'^\S+ \(chosen\) +0\.8[45]', done.stdout, re.M), done.stdout
    assert done.stdout.startswith('unet_model.pth: UNet for B02,B03,B04') and len(list((here/'predicted'/'masks').iterdir())) == 16
    assert '"model": "unet_model.pth"' in (here/'predicted'/'metrics.json').read_text()


def test_training_a_shipped_recipe(place):
    _,here,start = place
    done = start('satseg-train', 'buildings', '--data', 'sample', '--out', 'run', '--set', *SMALL)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert (here/'run'/'model.pth').is_file() and 'name: buildings' in (here/'run'/'recipe.yaml').read_text()
    done = start('satseg-train', 'shisp', '--data', 'sample', '--out', 'other')
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'did you mean ships?' in done.stderr
    done = start('satseg-train', 'xyz', '--data', 'sample', '--out', 'other')
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'footprints_geotiff' in done.stderr


@pytest.mark.parametrize('program', COMMANDS)
def test_a_program_is_its_module(place, program):
    "`--help` with its own name; a slip in a flag, either spelling of one, a bad value: the status and the words of `python -m`."
    site,_,start = place
    module = dict(zip(COMMANDS, ('inference','training','scene','app')))[program]
    if not (site/'satseg'/f'{module}.py').exists(): pytest.skip(f'no satseg/{module}.py yet')
    done = start(program, '--help')
    assert done.returncode == 0 and done.stderr == '' and done.stdout.startswith(f'usage: {program} [-h]')
    if program == 'satseg-train': return # Every start imports fastai; its slips are above
    other = start(f'-m satseg.{module}', '--help')
    def body(text): return text.split('\n\n', 1)[1]
    assert body(done.stdout) == body(other.stdout)
    done = start(program, '--nothing-of-the-kind')
    assert done.returncode == 2 and done.stderr.startswith(f'usage: {program}') and f'{program}: error:' in done.stderr
    bad = {'satseg-predict':'--model=no.pth --min{}area=3', 'satseg-scene':'no.tif --out=x --min{}area=3', 'satseg-app':'--max{}upload=heaps'}[program]
    for o in '-_':
        a,b = start(program, *bad.format(o).split()),start(f'-m satseg.{module}', *bad.format(o).split())
        assert (a.returncode, a.stdout, a.stderr) == (b.returncode, b.stdout, b.stderr)
        assert a.returncode == 2 and a.stderr.startswith('satseg: ') and a.stderr.count('\n') == 1, a.stderr
