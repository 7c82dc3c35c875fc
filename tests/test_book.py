"""The notebooks are a book: each opens with what it is for, ends with where to go next, installs what it needs, and its links and figures hold."""
import base64
import io
import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
CHAPTERS = sorted(NBS.glob('[0-9]_*/[0-9][0-9]_*.ipynb'))
TUTORIALS = sorted((NBS/'tutorials').glob('[0-9][0-9]_*.ipynb'))
BOOK = [NBS/'index.ipynb', *CHAPTERS, *TUTORIALS]
INSTALL = '''#| hide
from importlib.util import find_spec
if not find_spec('satseg'): # Colab, or any other fresh machine
    %pip install -q "satseg-unet[all] @ git+{}"'''


def cells(path, kind=None):
    "Cells of a notebook as (kind, source)."
    for o in json.loads(path.read_text(encoding='utf-8'))['cells']:
        if kind in (None, o['cell_type']): yield o['cell_type'], ''.join(o['source'])


def prose(path): return '\n\n'.join(o for _, o in cells(path, 'markdown'))
def anchors(path): return {re.sub(r'\s+', '-', o.strip()) for o in re.findall(r'^#+ (.+)$', prose(path), re.M)}
def links(text): return [o for o in re.findall(r'\]\(([^)\s]+)\)', re.sub(r'`[^`\n]*`', '', text)) if not re.match(r'[a-z]+:', o)]


def broken(path):
    "Relative links of a notebook that lead nowhere."
    for o in links(prose(path)):
        name, _, anchor = o.partition('#')
        target = (path.parent/name).resolve() if name else path
        if not target.exists() or anchor and target.suffix == '.ipynb' and anchor not in anchors(target): yield o


def test_a_broken_link_is_found(tmp_path):
    words = '# Here\\n\\n[a](b.ipynb) [c](https://example.org) `[d](e)` [f](#Here) [g](#There)'
    (tmp_path/'a.ipynb').write_text('{"cells": [{"cell_type": "markdown", "source": ["%s"]}]}' % words)
    assert list(broken(tmp_path/'a.ipynb')) == ['b.ipynb', '#There']


@pytest.mark.parametrize('path', BOOK, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    assert not list(broken(path))
    known = {*(p.stem for p in (*CHAPTERS, *TUTORIALS)), '03_segmentation'} # The last: a folder of the workshop of tutorial 3
    assert {o for _, text in cells(path) for o in re.findall(r'(?<![\w/])\d\d_[a-z]{3,}(?!\w)', text)} <= known, 'a chapter that is not there'


@pytest.mark.parametrize('path', [*CHAPTERS, *TUTORIALS], ids=lambda p: p.stem)
def test_opens_with_what_it_is_for(path):
    head = '\n\n'.join(o for kind, o in list(cells(path))[:4] if kind == 'markdown')
    title = path.stem[3:] if path in CHAPTERS else f'Tutorial {int(path.stem[:2])}: .+'
    assert re.match(rf'# {title}\n\n> \S.+(\n\n|$)', head), 'title, blank line, > one line'
    assert 40 <= len(head.split()) <= 450


@pytest.mark.parametrize('path', [*CHAPTERS, *TUTORIALS], ids=lambda p: p.stem)
def test_ends_with_where_to_go_next(path):
    kind, last = list(cells(path))[-1]
    assert kind == 'markdown'
    assert [o for o in links(last.partition('## Where to go next\n')[2]) if '.ipynb' in o], 'a link to the next notebook'


@pytest.mark.parametrize('path', [*CHAPTERS, *TUTORIALS], ids=lambda p: p.stem)
def test_installs_itself_where_needed(path):
    cfg = ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini')
    first = [o for _, o in cells(path, 'code')][path in CHAPTERS] # After `#| default_exp`, which stays first
    assert first == INSTALL.format(cfg['DEFAULT']['git_url'])
    assert not any('%pip' in p.read_text(encoding='utf-8') for p in (ROOT/'satseg').glob('*.py'))


@pytest.mark.parametrize('path', [*CHAPTERS, *TUTORIALS], ids=lambda p: p.stem)
def test_needs_nothing_beside_it(path):
    for _, text in cells(path, 'code'):
        asked = '.exists()' in text # Then the cell knows what to do without it
        assert asked or not re.search(r'\.\./(unet_model|recipes|images|\w+\.ipynb)', text), 'a file of the repository: use satseg.core.files.bundled_file'
        found = re.findall(r'^\s*(?:from|import) (\w+)', text, re.M)
        assert not {'nbdev', 'execnb', 'sklearn', 'hypothesis', 'pytest', 'rio_cogeo', 'playwright'} & set(found), 'not part of satseg[all]'


@pytest.mark.parametrize('path', BOOK, ids=lambda p: p.stem)
def test_tables_end_before_the_text(path):
    assert not re.search(r'^\|.*\|\n(?!\||\n|$)', prose(path), re.M), 'a blank line after a table, or the text becomes a row'


@pytest.mark.parametrize('path', [*CHAPTERS, *TUTORIALS], ids=lambda p: p.stem)
def test_figures_are_small_and_say_what_they_show(path):
    from PIL import Image
    for o in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text, outputs = ''.join(o['source']), o.get('outputs', [])
        pictures = [v for out in outputs for k, v in out.get('data', {}).items() if k in ('image/png', 'image/jpeg')]
        for v in pictures:
            wide, high = Image.open(io.BytesIO(base64.b64decode(''.join(v)))).size
            assert wide <= 900 and high <= 700, f'{wide} x {high} pixels'
        if pictures and 'subplots(' in text and 'def ' not in text: assert 'title' in text
        if pictures and re.search(r'\.(plot|hist|bar|scatter|semilogx|loglog)\(', text) and 'def ' not in text: assert 'label' in text, 'axes without names'
