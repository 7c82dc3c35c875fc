"""The repository holds together: notebooks, modules, README, packaging."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
CHAPTERS = [p for p in NOTEBOOKS if re.match(r'\d_', p.parent.name)]
MODULES = sorted(p for p in (ROOT/'satseg').rglob('*.py') if p.name not in ('__init__.py','_modidx.py'))
PARTS = ['core','data','models','evaluation','learn','scenes','page'] # In this order; the commands at the root stand above them


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def code(path): return [''.join(c['source']) for c in cells(path) if c['cell_type'] == 'code']


def name(path):
    "`data.chips` of satseg/data/chips.py."
    return '.'.join(path.relative_to(ROOT/'satseg').with_suffix('').parts)


def imports(path, package=''):
    "(module, name) of everything imported anywhere in a module, inside functions too; `.data.chips` for one of satseg, however it is written."
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): yield from ((re.sub(r'^satseg(?=\.)', '', o.name), '') for o in node.names)
        if not isinstance(node, ast.ImportFrom): continue
        above = package.split('.')[:-node.level] if node.level else []
        module = '.'.join(['', *filter(None, above), *filter(None, [node.module])]) if node.level else re.sub(r'^satseg(?=\.)', '', node.module)
        yield from ((module, o.name) for o in node.names)


def rank(module):
    "Where a module stands: its part, then the number of its chapter."
    part = module.split('.')[0]
    text = (ROOT/'satseg'/f'{module.replace(".", "/")}.py').read_text(encoding='utf-8')
    return PARTS.index(part) if '.' in module else len(PARTS), int(re.search(r'File to edit: .*/(\d+)_', text)[1])


def test_modules_are_what_the_notebooks_export_and_notebooks_are_clean(tmp_path):
    for name in ('settings.ini','nbs','satseg'):
        src = ROOT/name
        if src.is_dir(): shutil.copytree(src, tmp_path/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'runs'))
        else: shutil.copy(src, tmp_path/name)
    bin_ = Path(sys.executable).parent
    for cmd in ('nbdev_clean','nbdev_export'): subprocess.run([bin_/cmd], cwd=tmp_path, check=True, capture_output=True)
    for path in (*NOTEBOOKS, *MODULES, *(ROOT/'satseg').rglob('__init__.py'), ROOT/'satseg'/'_modidx.py'):
        assert path.read_text(encoding='utf-8') == (tmp_path/path.relative_to(ROOT)).read_text(encoding='utf-8'), f'{path.name}: run nbdev_clean and nbdev_export'


def test_readme_is_what_index_gives():
    subprocess.run([sys.executable, ROOT/'tests'/'notebooks.py', 'readme', '--check'], check=True)


def place(path):
    "The module that a chapter says it is exported to."
    return re.match(r'#\| default_exp (\S+)', code(path)[0])[1]


def test_every_chapter_has_its_module_and_every_module_its_chapter():
    assert sorted(map(place, CHAPTERS)) == sorted(map(name, MODULES))
    assert [o[2:] for o in sorted({p.parent.name for p in CHAPTERS})] == [*PARTS, 'commands']
    for path in CHAPTERS:
        part = path.parent.name[2:]
        assert place(path) == ('' if part == 'commands' else f'{part}.') + path.stem[3:], 'the folder is the part, the file is the module'


def test_no_way_of_importing_is_overlooked(tmp_path):
    lines = 'from satseg.a import b','from .c import d','from . import e','from ..f import g','import satseg.h','import numpy.linalg'
    (tmp_path/'x.py').write_text('def f():\n' + ''.join(f'    {o}\n' for o in lines))
    assert list(imports(tmp_path/'x.py', 'part.x')) == [('.a','b'),('.part.c','d'),('.part','e'),('.f','g'),('.h',''),('numpy.linalg','')]
    assert ('.core.errors','BadInput') in imports(ROOT/'satseg'/'data'/'chips.py', 'data.chips')


@pytest.mark.parametrize('path', MODULES, ids=name)
def test_imports_point_to_earlier_parts_and_earlier_files(path):
    for module,what in imports(path, name(path)):
        if module.startswith('.') and (ROOT/'satseg'/f'{module[1:].replace(".", "/")}.py').exists():
            assert rank(module[1:]) < rank(name(path)), f'{name(path)} imports {module}'
            assert not re.match('_[^_]', what), f'{name(path)} imports the private name {module}.{what}'
        assert module.split('.')[0] != 'nbdev', f'{name(path)} imports nbdev, a tool of development only'
        if module.split('.')[0] == 'fastai': assert name(path).startswith('learn.'), f'{name(path)} imports fastai'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_small_and_holds_no_trace_of_one_machine(path):
    assert path.stat().st_size <= 300_000
    text = path.read_text(encoding='utf-8')
    assert not re.search(r'"[^"\n]*(/home/|/root/|/work/|/Users/|/tmp/)', text), 'an absolute path'
    assert 'Traceback (most recent call last)' not in text and 'Warning:' not in text
    assert not re.search(r'^(<<<<<<<|>>>>>>>)', text, re.M)
    for src in code(path): assert len(src.splitlines()) <= 32, src[:80]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_imports_stand_in_cells_of_their_own(path):
    "nbdev_docs runs every cell with an import, and that cell alone: what else stands there fails, and the page is left out."
    for src in code(path):
        if re.search(r'^#\|\s*(export|eval: false)|^\s*%pip', src, re.M): continue
        kinds = {isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(re.sub(r'^[%!].*', '', src, flags=re.M)).body}
        assert len(kinds) < 2, src[:200]


@pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)
def test_chapter_opens_and_ends_as_chapters_do(path):
    first,last = cells(path)[0],cells(path)[-1]
    assert re.match(rf'# {path.stem[3:]}\n\n> .', ''.join(first['source']))
    assert 'Where to go next' in ''.join(last['source'])
    assert not any('import *' in o for o in code(path))


ONLY_UNIX = {'sched_getaffinity','nice','fork','getuid','geteuid','getpgid','killpg','setsid','mkfifo','uname','statvfs','sysconf','O_DIRECTORY','register_at_fork'}

@pytest.mark.parametrize('path', MODULES, ids=name)
def test_calls_that_windows_or_macos_lack_have_a_way_around(path):
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    inside = {o: f for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef,ast.Try)) for o in ast.walk(f)} # The innermost comes last
    def guarded(node, words): return node in inside and words in ast.get_source_segment(text, inside[node])
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'os':
            known = node.attr not in ONLY_UNIX or guarded(node, f"hasattr(os, '{node.attr}')") or guarded(node, "os.name == 'posix'")
            assert known, f'line {node.lineno}: os.{node.attr} is not everywhere'
            assert node.attr != 'rename', f'line {node.lineno}: os.rename fails on Windows where the file exists: os.replace'
        if isinstance(node, (ast.Import,ast.ImportFrom)):
            modules = {(node.module or '') if isinstance(node, ast.ImportFrom) else o.name for o in node.names}
            assert not modules & {'fcntl','resource','pwd','grp','termios','posix'} or isinstance(inside.get(node), ast.Try), f'line {node.lineno}: {modules}'
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith(('/proc/','/dev/','/sys/')) or guarded(node, 'exists'), f'line {node.lineno}: {node.value} is there on Linux only'
            assert node.value != 'fork', f'line {node.lineno}: processes are spawned, which every system can'


def requirement(text):
    "('fastai', {'>=2.8.7', '<2.9'}) of 'fastai>=2.8.7,<2.9'."
    name,ranges = re.fullmatch(r'([A-Za-z0-9_.-]+?)((?:[<>=!~].*)?)', text.strip()).groups()
    return name.lower(), set(filter(None, ranges.split(',')))


def test_environment_yml_gives_what_settings_ini_asks_for():
    cfg = ConfigParser(delimiters=['=']); cfg.read(ROOT/'settings.ini')
    asked = {}
    for o in ' '.join(v for k,v in cfg['DEFAULT'].items() if k.endswith('requirements')).split():
        name,ranges = requirement(o); asked.setdefault(name, set()).update(ranges)
    given = {}
    for o in re.findall(r'^\s+- ([a-z][\w.-]*(?:[<>=].*)?)$', (ROOT/'environment.yml').read_text(), re.M):
        name,ranges = requirement(o); given[{'pytorch':'torch','matplotlib-base':'matplotlib','python-build':'build'}.get(name, name)] = ranges
    given = {k: v for k,v in given.items() if k not in ('python','pip')}
    assert set(given) == set(asked)
    for name,ranges in given.items(): assert ranges <= asked[name] and {o[0] for o in ranges} == {o[0] for o in asked[name]}, name


def pages(contents):
    "Notebooks named in a sidebar, in order."
    for o in contents:
        if isinstance(o, str): yield o
        elif 'section' in o: yield from pages(o['contents'])
        else: yield o['href']


def test_the_site_lists_every_notebook_in_reading_order():
    site = yaml.safe_load((ROOT/'nbs'/'_quarto.yml').read_text())
    assert 'sidebar.yml' in site['metadata-files'] and 'custom_sidebar = True' in (ROOT/'settings.ini').read_text() # Else nbdev_docs writes its own
    got = list(pages(yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text())['website']['sidebar']['contents']))
    here = [p.relative_to(ROOT/'nbs').as_posix() for p in NOTEBOOKS]
    order = lambda o: ['index.ipynb' != o, not o.startswith('tutorials/'), o.startswith('benchmarks/'), o]
    assert got == sorted(here, key=order)


def test_workflows_do_what_ci_run_does():
    jobs = {o: yaml.safe_load((ROOT/'.github'/'workflows'/f'{o}.yml').read_text())['jobs'] for o in ('test','docs')}
    test,elsewhere,docs = jobs['test']['test'],jobs['test']['elsewhere'],jobs['docs']['docs']
    assert test['strategy']['matrix']['python'] == ['3.11','3.12','3.13'] and set(elsewhere['strategy']['matrix']['os']) == {'windows-latest','macos-latest'}
    assert {'python -m satseg.inference','python -m pytest -n 2'} <= {o.get('run') for o in elsewhere['steps']}
    assert [o['run'] for o in test['steps'] if 'run' in o] == ['./.ci/run'] and test['container'] == 'python:${{ matrix.python }}-bookworm' # .ci/run brings Chromium
    assert 'nbdev_docs' in [o.get('run') for o in docs['steps']] and any('quarto' in o.get('uses', '') for o in docs['steps'])
    subprocess.run(['bash', '-n', ROOT/'.ci'/'run'], check=True)
    text = (ROOT/'.ci'/'run').read_text()
    assert 'nbdev_test' in text and 'pytest' in text and 'apt-get' in text and os.access(ROOT/'.ci'/'run', os.X_OK)


def test_citation_is_a_valid_cff_and_agrees_with_settings_ini():
    "Keys and required keys of the Citation File Format 1.2.0, for software by an entity."
    cfg = ConfigParser(delimiters=['='], interpolation=None); cfg.read(ROOT/'settings.ini'); cfg = cfg['DEFAULT']
    cff = yaml.safe_load((ROOT/'CITATION.cff').read_text())
    assert {'cff-version','message','title','authors'} <= set(cff) <= {'abstract','authors','cff-version','commit','contact','date-released','doi','identifiers',
        'keywords','license','license-url','message','preferred-citation','references','repository','repository-artifact','repository-code','title','type','url','version'}
    assert cff['cff-version'] == '1.2.0' and cff['type'] == 'software' and cff['license'] == 'Apache-2.0'
    assert [set(o) - {'name','email','website'} for o in cff['authors']] == [set()]
    assert (cff['version'], cff['authors'][0]['name'], cff['repository-code']) == (cfg['version'], cfg['author'], cfg['git_url'])
    assert cff['keywords'] == cfg['keywords'].split() and f"## {cfg['version']}" in (ROOT/'CHANGELOG.md').read_text()


def test_a_notebook_imported_as_a_module_offers_what_its_module_offers():
    "The first chapter of every part: import-ipynb runs all of it."
    run = '''
import contextlib, importlib, io, json, os, sys
import matplotlib; matplotlib.use('Agg')
os.environ['TQDM_DISABLE'] = '1'
sys.path.insert(0, os.getcwd())
import import_ipynb
out = {}
for part,chapter,module in json.loads(sys.argv[1]):
    os.chdir(part) # Where import-ipynb looks
    with contextlib.redirect_stdout(io.StringIO()): nb = importlib.import_module(chapter)
    out[module] = [o for o in importlib.import_module(f'satseg.{module}').__all__ if not hasattr(nb, o)]
print(json.dumps(out))
'''
    first = {p.parent: p for p in reversed(CHAPTERS) if 'commands' not in p.parent.name}.values() # Those hold shell commands
    todo = [(str(p.parent), p.stem, place(p)) for p in first]
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', run, json.dumps(todo)], cwd=ROOT, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS':'1'})
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {module: [] for *_,module in todo}


def test_the_extra_app_brings_the_kernel_that_the_page_runs_in():
    cfg = ConfigParser(delimiters=['=']); cfg.read(ROOT/'settings.ini')
    started = re.findall(r"'-m', '(\w+)'", (ROOT/'satseg'/'page'/'server.py').read_text(encoding='utf-8'))
    assert started == ['ipykernel_launcher'] # A module of ipykernel, which neither voila nor ipywidgets asks for
    assert {'voila','anywidget','ipykernel'} <= {requirement(o)[0] for o in cfg['DEFAULT']['app_requirements'].split()}


def exported(path):
    "Code cells of a chapter as (is exported and more than imports, source)."
    for src in code(path):
        plain = all(re.match(r'\s*(#|from |import |\)|$)', o) for o in src.splitlines())
        yield bool(re.match(r'#\|\s*export', src)) and not plain, src


def longest_run(path):
    "Exported cells in a row without a visible example between them."
    run = longest = 0
    for is_exported,src in exported(path):
        if is_exported: run += 1
        elif not re.match(r'#\|\s*(hide|export)', src): run = 0
        longest = max(longest, run)
    return longest


def test_no_three_exported_cells_without_an_example():
    assert [place(p) for p in CHAPTERS if longest_run(p) > 2] == []


def test_chapters_and_lines_are_short():
    longest = {place(p): sum(len(src.splitlines()) for src in code(p) if re.match(r'#\|\s*export', src)) for p in CHAPTERS}
    assert {o: n for o,n in longest.items() if n > 250} == {}
    wide = [f'{name(p)}:{i+1}' for p in MODULES for i,line in enumerate(p.read_text(encoding='utf-8').splitlines()) if len(line) > 100]
    assert len(wide) <= 100, wide
