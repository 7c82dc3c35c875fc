"""Keep what is generated from the notebooks true.

    python tests/notebooks.py fill nbs/11_losses.ipynb ...   run notebooks and store their outputs (figures as small JPEGs)
    python tests/notebooks.py readme                         write README.md from nbs/index.ipynb
    python tests/notebooks.py readme --check                 exit 1 if README.md is not what index.ipynb gives
    python tests/notebooks.py picture                        draw README's picture: a sample scene and what unet_model.pth says

`fill` uses sample scenes only (real images must not end up in stored outputs). It leaves out cells flagged `#| eval: false`, `#| slow` and `#| cuda`, as `nbdev_test` does, and keeps their stored outputs.
"""
import os
import re
import sys
from pathlib import Path

from execnb.nbio import read_nb, write_nb

ROOT = Path(__file__).resolve().parent.parent
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
        if cell.cell_type == 'code' and cell.id in kept: cell['outputs'] = kept[cell.id]
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


def picture():
    "nbs/images/overview.jpg: image, truth, and the shipped model's hits, misses and false alarms on a fresh sample scene."
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from satseg.data import class_colours, overlay, true_colour
    from satseg.inference import ERROR_COLOURS, paint_errors, predict
    from satseg.models import load_model
    from satseg.sample import sample_chips
    model, info = load_model(ROOT/'unet_model.pth')
    chip, probs = next(predict(model, info, sample_chips(8, seed=2026)[3:4]))
    rgb = true_colour(chip.image, info.bands)
    truth, found = overlay(rgb, chip.mask, class_colours(2)), paint_errors(rgb, probs >= info.threshold, chip.mask)
    fig = Figure(figsize=(9.6, 3.75), layout='constrained')
    for ax, im, title in zip(fig.subplots(1, 3), (rgb, truth, found), ('image: a sample scene', 'truth: houses and roads', 'unet_model.pth')):
        ax.imshow(im); ax.set_axis_off(); ax.set_title(title)
    fig.legend(handles=[Patch(color=[o/255 for o in c], label=k) for k, c in ERROR_COLOURS.items()], loc='outside lower right', ncols=3)
    (ROOT/'nbs'/'images').mkdir(exist_ok=True)
    fig.savefig(ROOT/'nbs'/'images'/'overview.jpg', dpi=100)


if __name__ == '__main__':
    what, *rest = sys.argv[1:] or ['help']
    if what == 'fill' and rest:
        for p in rest: fill(p)
    elif what == 'readme':
        target = ROOT/'README.md'
        if '--check' not in rest: target.write_text(readme(), encoding='utf-8')
        elif target.read_text(encoding='utf-8') != readme(): raise SystemExit('README.md is stale: python tests/notebooks.py readme')
    elif what == 'picture': picture()
    else: raise SystemExit(__doc__)
