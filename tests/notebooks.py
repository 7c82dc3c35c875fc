"""Keep what is generated from the notebooks true.

    python tests/notebooks.py fill nbs/11_losses.ipynb ...   run notebooks and store their outputs (figures as small JPEGs)
    python tests/notebooks.py readme                         write README.md from nbs/index.ipynb
    python tests/notebooks.py sidebar                        write the parts into nbs/sidebar.yml
    python tests/notebooks.py readme --check                 exit 1 if README.md is not what index.ipynb gives
    python tests/notebooks.py picture                        draw README's picture: a sample scene and what unet_model.pth says
    python tests/notebooks.py page                           photograph the page with the sample on it for README (needs Chromium)
    python tests/notebooks.py alone nbs/11_losses.ipynb ...  run each notebook in an empty folder, as in Colab, where only the notebook is there

`fill` uses sample scenes only (real images must not end up in stored outputs). It leaves out cells flagged `#| eval: false`, `#| slow` and `#| cuda`, as `nbdev_test` does, and keeps their stored outputs.
"""
import os
import re
import sys
from pathlib import Path

from execnb.nbio import read_nb, write_nb

ROOT = Path(__file__).resolve().parent.parent
WIDGET = 'application/vnd.jupyter.widget-view+json' # A stored one says only that its model is gone; what it drew stays
SKIP = re.compile(r'^\s*#\s*\|\s*(eval:\s*false|slow|cuda)\b', re.M)


def fill(path):
    "Run the notebook at `path` in its own folder and save it with fresh outputs."
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb
    path = Path(path).resolve()
    nb = read_nb(path)
    kept = {cell.id: cell.outputs for cell in nb.cells if cell.cell_type == 'code' and SKIP.search(cell.source)}
    os.environ.update(TQDM_DISABLE='1', SATSEG_DATA='absent')
    sys.path.insert(0, str(ROOT))
    os.chdir(path.parent)
    shell = CaptureShell(path=path.parent, mpl_format='jpeg')
    shell.run_cell("import warnings, matplotlib as mpl; warnings.filterwarnings('ignore'); mpl.rcParams['figure.dpi'] = 72")
    shell.run_all(nb, exc_stop=True, preproc=lambda cell: cell.cell_type != 'code' or cell.id in kept)
    if shell.exc: raise SystemExit(f'{path.name}: {type(shell.exc).__name__}: {shell.exc}')
    for cell in nb.cells:
        if cell.cell_type == 'code': cell['outputs'] = kept[cell.id] if cell.id in kept else [o for o in cell.outputs if WIDGET not in o.get('data', {})]
    clean_nb(nb)
    write_nb(nb, path)
    print(f'{path.name}: {path.stat().st_size/1000:.0f} kB')


def text_output(out):
    "A cell's printed or returned text, '' for anything else."
    data = out.get('text') or out.get('data', {}).get('text/plain', '')
    return ''.join(data)


def readme():
    "README.md as one string: prose as it is, code fenced, printed text indented."
    parts = []
    for cell in read_nb(ROOT/'nbs'/'index.ipynb').cells:
        if cell.cell_type == 'markdown': parts.append(re.sub(r'\]\((?!https?:)', '](nbs/', cell.source))
        elif cell.cell_type == 'code':
            lines = [o for o in cell.source.splitlines() if not o.startswith('#|')]
            if '#| hide' in cell.source or not lines: continue
            parts.append('```python\n' + '\n'.join(lines) + '\n```')
            text = ''.join(text_output(o) for o in cell.outputs).rstrip()
            if text: parts.append('\n'.join('    ' + o for o in text.splitlines()))
    return '<!-- written by tests/notebooks.py from nbs/index.ipynb: edit that -->\n\n' + '\n\n'.join(parts).strip() + '\n'


def sidebar():
    "nbs/sidebar.yml with a section for each folder of chapters, between tutorials and benchmarks."
    path = ROOT/'nbs'/'sidebar.yml'
    parts = sorted(o for o in (ROOT/'nbs').iterdir() if re.match(r'\d_', o.name))
    lines = []
    for part in parts:
        lines += [f'      - section: {part.name[2:].capitalize()}', '        contents:']
        lines += [f'          - {o.relative_to(ROOT/"nbs").as_posix()}' for o in sorted(part.glob('*.ipynb'))]
    text = path.read_text(encoding='utf-8')
    head, tail = text.split('      - section: Core\n')[0], text[text.index('      - section: Benchmarks'):]
    path.write_text(head + '\n'.join(lines) + '\n' + tail, encoding='utf-8')


def picture():
    "nbs/images/overview.jpg: image, mask, and the shipped model's hits, misses and false alarms on a fresh sample scene."
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from satseg.core.display import class_colours, overlay
    from satseg.data.bands import true_colour
    from satseg.core.display import ERROR_COLOURS, paint_errors
    from satseg.models.predict import predict_chips
    from satseg.models.model_file import load_model
    from satseg.data.synthetic import sample_chips
    model, info = load_model(ROOT/'unet_model.pth')
    chip, probs = next(predict_chips(model, info, sample_chips(8, seed=2026)[3:4]))
    rgb = true_colour(chip.image, info.bands)
    mask, found = overlay(rgb, chip.mask, class_colours(2)), paint_errors(rgb, probs >= info.threshold, chip.mask)
    fig = Figure(figsize=(9.6, 3.75), layout='constrained')
    for ax, im, title in zip(fig.subplots(1, 3), (rgb, mask, found), ('image: a sample scene', 'mask: houses and roads', 'unet_model.pth')):
        ax.imshow(im); ax.set_axis_off(); ax.set_title(title)
    fig.legend(handles=[Patch(color=[o/255 for o in c], label=k) for k, c in ERROR_COLOURS.items()], loc='outside lower right', ncols=3)
    (ROOT/'nbs'/'images').mkdir(exist_ok=True)
    fig.savefig(ROOT/'nbs'/'images'/'overview.jpg', dpi=100)


def page():
    "nbs/images/page.jpg: the page as it opens, in a real browser."
    from browser import browser_page, serve
    sys.path.append(str(ROOT/'tests'/'page'))
    from test_app import address
    with serve(['python', '-m', 'satseg.app', '--port', '{port}', '--no-browser'], 'http://127.0.0.1:{port}/') as server, \
            browser_page(harmless=['403 .Forbidden']) as sheet:
        sheet.goto(address(server))
        sheet.locator('.satseg-title:visible').first.wait_for()
        sheet.get_by_role('button', name='Stop').first.wait_for(state='hidden')
        sheet.locator('.satseg-app').screenshot(path=ROOT/'nbs'/'images'/'page.jpg', type='jpeg', quality=80)


def alone(path):
    "Run a copy of the notebook at `path` with nothing beside it, in a kernel that finds this satseg. Seconds, or the error's last lines."
    import shutil, subprocess, tempfile, time
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        env = dict(os.environ, PYTHONPATH=str(ROOT), SATSEG_DATA=os.environ.get('SATSEG_DATA', 'absent'), OMP_NUM_THREADS='1')
        cmd = [sys.executable, '-m', 'jupyter', 'nbconvert', '--to', 'notebook', '--execute', '--output', 'done', Path(path).name]
        start = time.monotonic()
        done = subprocess.run(cmd, cwd=folder, env=env, capture_output=True, text=True)
        print(f'{Path(path).name:24} {time.monotonic()-start:4.0f} s', 'ok' if done.returncode == 0 else 'FAILED\n' + done.stderr[-1500:], flush=True)
        return done.returncode


if __name__ == '__main__':
    what, *rest = sys.argv[1:] or ['help']
    if what == 'fill' and rest:
        for p in rest: fill(p)
    elif what == 'readme':
        target = ROOT/'README.md'
        if '--check' not in rest: target.write_text(readme(), encoding='utf-8')
        elif target.read_text(encoding='utf-8') != readme(): raise SystemExit('README.md is stale: python tests/notebooks.py readme')
    elif what == 'sidebar': sidebar()
    elif what == 'picture': picture()
    elif what == 'page': page()
    elif what == 'alone' and rest: sys.exit(any([alone(p) for p in rest]))
    else: raise SystemExit(__doc__)
