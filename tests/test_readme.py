"""README's Python does what it says, on smaller chips and for one epoch."""
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python_cells():
    "Code of README, as a reader would copy it."
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    return [''.join(c['source']) for c in cells if c['cell_type'] == 'code']


def test_readme_trains_and_reports(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib').use('Agg')
    from satseg.models.predict import load_net
    from satseg.data.synthetic import write_sample
    monkeypatch.chdir(tmp_path)
    write_sample('dataset.pickle', n_train=8, n_val=2, size=32)
    names = {}
    assert len(re.findall(r'epochs=\d+', '\n'.join(python_cells()))) == 2
    for text in python_cells():
        exec(re.sub(r'epochs=\d+', 'epochs=1', text).replace('size=128', 'size=32'), names)
    for run in ('first', 'mine'):
        assert (tmp_path/'runs'/run/'report'/'metrics.md').is_file()
        assert load_net(tmp_path/'runs'/run/'model.pth')[1].bands == ['B02', 'B03', 'B04']
