"""Install satseg with each Python found here, in an environment of its own, run its main jobs, and print a table.

python tests/interpreters.py [3.12 3.13 ...] [--lowest]   # --lowest: the oldest packages that settings.ini allows (by uv)
Exit status 1 where a job fails. Takes minutes and some GB for each Python; not part of the tests."""
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = 'torch','fastai','fastcore','numpy','pandas','rasterio'
SMALL = 'epochs=1','lr=1e-3','data.size=64','bs=4','model.arguments.widths=[4,8]'
SCENE = '''
import numpy as np, rasterio
from satseg.data.synthetic import sample_scene
a = sample_scene(200, 3)[0].transpose(2, 0, 1)
kw = dict(driver='GTiff', height=200, width=200, count=3, dtype='uint16', crs='EPSG:32633', transform=rasterio.Affine(10,0,500000,0,-10,5100000))
with rasterio.open('scene.tif', 'w', **kw) as f: f.write(a); f.descriptions = ('B02','B03','B04')
'''
JOBS = dict( # Name -> arguments of Python, and what has to be in its output
    predict=(['-m','satseg.inference'], r'\(chosen\) +(0\.85\d)'),
    train=(['-m','satseg.training','buildings','--data','sample','--out','run','--set',*SMALL], r''),
    scene=(['-m','satseg.scene','scene.tif','--out','maps','--polygons','gpkg'], r''),
    page=(['-c','from satseg.app import App; print(type(App()).__name__)'], r'App'))


def find(version):
    "A Python of this version that runs, on the path or of pyenv, or None."
    for o in [f'python{version}', *sorted(Path.home().glob(f'.pyenv/versions/{version}.*/bin/python'))]:
        if shutil.which(o) and not subprocess.run([o, '-c', 'import venv, ensurepip'], capture_output=True).returncode: return str(o)


def run(*cmd, cwd): return subprocess.run([*map(str, cmd)], cwd=cwd, capture_output=True, text=True, timeout=3600)


def try_one(python, lowest, folder):
    "One row of the table: versions, seconds of the installation, what each job gave."
    run(python, '-m', 'venv', folder/'venv', cwd=folder)
    mine = folder/'venv'/('Scripts' if sys.platform == 'win32' else 'bin')/'python'
    start = time.monotonic()
    if lowest: run(mine, '-m', 'pip', 'install', '-q', 'uv', cwd=folder)
    pip = ['-m','uv','pip','install','--resolution','lowest-direct'] if lowest else ['-m','pip','install','-q']
    done = run(mine, *pip, f'{ROOT}[all]', *(['torchvision>=0.21'] if lowest else []), cwd=folder) # The newest would bring a newer torch
    if done.returncode: return [f'not installed: {done.stderr.strip().splitlines()[-1][:200]}'], False
    seconds,here = time.monotonic()-start,folder/'here'
    here.mkdir()
    versions = run(mine, '-c', f'from importlib.metadata import version as v; print(*map(v, {PACKAGES}))', cwd=here).stdout.split()
    made,cells = run(mine, '-c', SCENE, cwd=here),[]
    for cmd,want in JOBS.values():
        done = run(mine, *cmd, cwd=here)
        found = re.search(want, done.stdout+done.stderr)
        ok = done.returncode == 0 and found
        cells.append((found[1] if found.groups() else 'runs') if ok else f'FAILS: {(done.stderr or done.stdout).strip().splitlines()[-1][:120]}')
    return [*versions, f'{seconds:.0f} s', *cells], made.returncode == 0 and not any('FAILS' in o for o in cells)


if __name__ == '__main__':
    lowest,wanted = '--lowest' in sys.argv,[o for o in sys.argv[1:] if not o.startswith('-')] or ['3.11','3.12','3.13','3.14']
    print('', 'Python', *PACKAGES, 'installed in', *JOBS, '', sep=' | ')
    print('|---'*(len(PACKAGES)+len(JOBS)+2) + '|')
    good = True
    for v in wanted:
        if not (python := find(v)):
            print('', v, 'not here', '', sep=' | ')
            continue
        with tempfile.TemporaryDirectory() as tmp: row,ok = try_one(python, lowest, Path(tmp))
        print('', v, *row, '', sep=' | ', flush=True)
        good = good and ok
    sys.exit(not good)
