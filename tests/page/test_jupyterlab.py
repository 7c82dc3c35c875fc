"""Tutorial 1 as a user runs it: opened in JupyterLab in a browser, Restart Kernel and Run All Cells, a slider moved."""
import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from browser import ROOT, browser_page, missing, needs_browser, serve, shot

ERROR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"], .jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'


def settings(folder, **values):
    "JupyterLab's settings under `folder`, and the environment that names them."
    for plugin,value in values.items():
        path = folder/'@jupyterlab'/f'{plugin.replace("__", "-extension/")}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return dict(JUPYTERLAB_SETTINGS_DIR=str(folder))


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab on a copy of the tutorials, where no real data are; every cell is in the page, also those out of sight."
    why = missing('jupyterlab', 'ipywidgets')
    if why: pytest.skip(why)
    home = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT/'nbs'/'tutorials', home/'nbs'/'tutorials', ignore=shutil.ignore_patterns('runs', '.ipynb_checkpoints'))
    (home/'nbs'/'5_learn').mkdir()
    shutil.copy(ROOT/'nbs'/'5_learn'/'20_augment.ipynb', home/'nbs'/'5_learn') # Tutorial 1 imports it as it stands
    env = settings(home/'settings', notebook__tracker=dict(windowingMode='none'), apputils__notification=dict(fetchNews='false', checkForUpdates=False))
    env |= dict(SATSEG_DATA='absent', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    cmd = ['python', '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', '--ServerApp.port={port}', '--ServerApp.port_retries=0',
           '--IdentityProvider.token=tutorial', f'--ServerApp.root_dir={home/"nbs"}']
    with serve(cmd, 'http://127.0.0.1:{port}/lab?token=tutorial', folder=home, env=env) as server: yield server, home/'nbs'


def run_all(page, server, notebook, patience):
    "Open a notebook, choose Restart Kernel and Run All Cells in the menu, wait until every code cell has its number. Texts of errors."
    page.goto(server.url.replace('/lab?', f'/lab/tree/{notebook}?'))
    page.locator('.jp-Notebook .jp-CodeCell').first.wait_for()
    page.get_by_text('Python 3 (ipykernel) | Idle').wait_for() # Without a kernel the menu asks for one
    page.get_by_role('menuitem', name='Run', exact=True).click()
    page.get_by_text('Restart Kernel and Run All Cells').click()
    page.locator('.jp-Dialog').get_by_role('button', name='Confirm Kernel Restart').click()
    page.wait_for_function('''error => {
        const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(o => o.textContent.trim());
        return document.querySelector(error) || prompts.length && prompts.every(o => /^\\[\\d+\\]:$/.test(o))
    }''', arg=ERROR, timeout=1000*patience)
    return page.locator(ERROR).all_inner_texts()


def picture_of(view):
    "The picture of an image on the page as a data URL, wherever its bytes lie."
    return view.evaluate("""o => {
        const c = document.createElement('canvas'); c.width = o.naturalWidth; c.height = o.naturalHeight
        c.getContext('2d').drawImage(o, 0, 0); return c.toDataURL('image/png')
    }""")


def difference_panel(src):
    "The last of four pictures in a figure, without its title: (H,W,3) uint8."
    rgb = np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(',', 1)[1]))).convert('RGB'))
    h,w,_ = rgb.shape
    return rgb[h//4:-h//5,3*w//4:].astype(int)


@needs_browser('jupyterlab', 'ipywidgets')
def test_tutorial_1_runs_in_jupyterlab_and_its_slider_moves_the_picture(lab, tmp_path):
    server,folder = lab
    with browser_page(tmp_path, harmless=['restore the debugger state']) as page:
        assert run_all(page, server, 'tutorials/01_buildings.ipynb', patience=900) == []
        shot(page, 'jupyterlab_01_ran')

        slider,view = page.locator('.widget-slider .noUi-handle'),page.locator('img.widget-image')
        slider.scroll_into_view_if_needed()
        view.wait_for()
        before,first = view.get_attribute('src'),picture_of(view)
        shot(page, 'jupyterlab_01_slider')
        slider.focus()
        for _ in range(20): page.keyboard.press('ArrowRight')
        page.wait_for_function("before => { const o = document.querySelector('img.widget-image'); return o && o.src != before }", arg=before)
        page.get_by_text('Python 3 (ipykernel) | Idle').wait_for() # The last of twenty pictures
        page.wait_for_timeout(500)
        shot(page, 'jupyterlab_01_slider_moved')
        changed = abs(difference_panel(picture_of(view)) - difference_panel(first)).max(2) > 30
        assert changed.mean() > .02 # Pixels: the mask itself, not only the words above it

        page.keyboard.press('Escape')
        page.keyboard.press('Control+s')
        page.locator('.lm-TabBar-tab.jp-mod-dirty').wait_for(state='detached') # Saved
        cells = [o for o in json.loads((folder/'tutorials'/'01_buildings.ipynb').read_text())['cells'] if o['cell_type'] == 'code']
        assert [o['execution_count'] for o in cells] == list(range(1, len(cells)+1))
        outputs = [o for c in cells for o in c['outputs']]
        assert not [o for o in outputs if o['output_type'] == 'error']
        assert any('application/vnd.jupyter.widget-view+json' in o.get('data', {}) for o in outputs)
        assert sum('image/png' in o.get('data', {}) for o in outputs) >= 2
        assert page.problems == [], server.log()[-3000:]
