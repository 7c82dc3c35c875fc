"The page in a real browser: looked at, moved, fed with good, bad and hostile files, everything downloaded; and what its server gives away."
import csv
import io
import json
import pickle
import re
import time
import urllib.error
import urllib.request
import zipfile
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from browser import browser_page, download, needs_browser, serve, shot
from PIL import Image

from satseg.data.bands import true_colour
from satseg.data.chips import Chips
from satseg.data.pickles import save_pickle
from satseg.models.unet import UNet
from satseg.models.model_info import ModelInfo
from satseg.models.model_file import save_model
from satseg.data.landscape import SCENE_CLASSES
from satseg.data.synthetic import sample_chips, write_sample

LIMIT = 4_000_000 # Bytes of an upload on this server


class Evil:
    "A pickle that leaves a sign where it is executed."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return Path.touch, (Path(self.path),)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A folder with files of every kind that the page takes, and of some that it must not."
    place = tmp_path_factory.mktemp('files')
    write_sample(place/'dataset.pickle', 1, 3, 96)
    image = sample_chips(1, (120, 200), seed=4)[0].image
    Image.fromarray(true_colour(image, ['B02', 'B03', 'B04'])).save(place/'a picture.png')
    (place/'evil.pickle').write_bytes(pickle.dumps(dict(train=[], val=[Evil(place/'executed')])))
    (place/'evil.pth').write_bytes(pickle.dumps(Evil(place/'executed')))
    (place/'torn.png').write_bytes((place/'a picture.png').read_bytes()[:2000])
    (place/'notes.exe').write_bytes(b'MZ')
    (place/'notes.txt').write_text('hello\n')
    (place/'names others.tif').write_text('<VRTDataset rasterXSize="9" rasterYSize="9"/>')
    (place/'names others.vrt').write_text('<VRTDataset/>')
    (place/'large.npy').write_bytes(bytes(LIMIT+1))
    net = UNet(n_in=3, n_out=3, widths=(4, 8))
    info = ModelInfo('UNet', net.arguments, ['B02', 'B03', 'B04'], [900.]*3, [300.]*3, ['field', 'forest', 'water'], threshold=None)
    save_model(place/'three.pth', net, info)
    save_pickle(place/'three.pickle', dict(train=_three(1, 8), val=_three(2, 9)))
    (place/'run').mkdir()
    rows = ['epoch,train_loss,valid_loss,iou,dice', '0,0.9,0.8,0.3,0.4', '1,0.5,0.45,0.55,0.7']
    (place/'run'/'log.csv').write_text('\n'.join(rows))
    return place


def _three(n, seed):
    "Chips of the classes field, forest and water."
    chips = sample_chips(n, 96, seed=seed, target=None)
    ids = np.array([{'forest': 1, 'water': 2}.get(o, 0) for o in SCENE_CLASSES])
    return Chips([chips.raw(i)[0] for i in range(n)], [ids[chips.raw(i)[1]] for i in range(n)], classes=['field', 'forest', 'water'])


@pytest.fixture(scope='module')
def geotiff(files):
    "A GeoTIFF in a projected system, 10 m pixels."
    rasterio = pytest.importorskip('rasterio')
    from rasterio.transform import from_origin
    image = sample_chips(1, (130, 180), seed=5)[0].image.astype('uint16')
    kw = dict(driver='GTiff', count=3, height=130, width=180, dtype='uint16', crs='EPSG:32633', transform=from_origin(500000, 5400000, 10, 10))
    with rasterio.open(files/'scene.tif', 'w', **kw) as f:
        f.write(image)
        f.descriptions = 'B02', 'B03', 'B04'
    return files/'scene.tif'


def address(server, patience=60):
    "The address with the key in it, as the server prints it."
    end = time.monotonic()+patience
    while time.monotonic() < end:
        found = re.search(r'satseg: (http://\S+)', server.log())
        if found: return found[1]
        time.sleep(.1)
    raise TimeoutError(server.log())


@pytest.fixture(scope='module')
def server(files):
    "The page's server, as the command starts it."
    cmd = ['python', '-m', 'satseg.app', '--port', '{port}', '--no-browser', '--max-upload', str(LIMIT)]
    with serve(cmd, 'http://127.0.0.1:{port}/', folder=files, env=dict(OMP_NUM_THREADS='1')) as res: yield res


@pytest.fixture(scope='module')
def open_page(server, tmp_path_factory):
    "The page with the sample on it; one for all tests of this file, in the order in which they stand."
    with browser_page(tmp_path_factory.mktemp('downloads'), harmless=['403 .Forbidden']) as page:
        page.goto(address(server))
        page.locator('.satseg-app').wait_for()
        shot(page, 'app_opening')
        page.locator('.satseg-title:visible').first.wait_for()
        yield page


@pytest.fixture
def page(open_page, server):
    "The same, whatever is going on on it over; no script may fail in a test."
    idle(open_page)
    yield open_page
    assert open_page.problems == [], server.log()


def idle(page):
    "Wait until nothing is going on."
    page.locator('.satseg-panels').wait_for(state='attached')
    page.get_by_role('button', name='Stop').first.wait_for(state='hidden')


def said(page, kind='note'):
    "What the line of the first tab says."
    return page.locator(f'.satseg-{kind}:visible').first.inner_text()


def picture(page, name):
    "(H,W,3) of the picture with this title."
    panel = page.locator('.satseg-panel:visible', has=page.get_by_text(name, exact=True))
    url = panel.locator('canvas').evaluate('o => o.toDataURL()')
    return np.asarray(Image.open(io.BytesIO(b64decode(url.split(',')[1]))).convert('RGB'))


def becomes(get, before, patience=20):
    "What `get` gives once it differs from `before`."
    end = time.monotonic()+patience
    while time.monotonic() < end:
        now = get()
        if not np.array_equal(now, before): return now
        time.sleep(.05)
    raise AssertionError('nothing changed')


def upload(page, path, which=0):
    "Upload a file with the first (data) or second (model) button, and wait until the page has dealt with it."
    page.locator('.satseg-file').nth(which).set_input_files(path)
    page.wait_for_timeout(300)
    idle(page)


def choose(page, title, words):
    "Choose from the list of Data or Model."
    page.locator('.satseg-chooser', has=page.get_by_text(title, exact=True)).locator('select').select_option(label=words)
    page.wait_for_timeout(300)
    idle(page)


@needs_browser('voila', 'anywidget')
def test_opens_with_the_sample(page):
    assert said(page).startswith('16 chips of 256 x 256')
    assert page.locator('.satseg-title:visible').all_inner_texts() == ['image', 'mask', 'prediction', 'difference']
    text = page.locator('.satseg-scores').first.inner_text()
    assert '(chosen)' in text and 'all background' in text
    box = page.locator('.satseg-facts').bounding_box()
    assert box['y']+box['height'] < 800 and box['x']+box['width'] < 1280 # All without scrolling
    clipped = page.evaluate("[...document.querySelectorAll('.widget-label, .satseg-button, .jupyter-button')]"
                            ".filter(o => o.offsetParent && o.scrollWidth > o.clientWidth+1).map(o => o.textContent)")
    assert clipped == []
    shot(page, 'app_sample')


@needs_browser('voila', 'anywidget')
def test_slider_changes_picture_counts_and_scores_at_once(page):
    get = lambda: picture(page, 'prediction')
    before,words,scores = get(),page.locator('.satseg-words').inner_text(),page.locator('.satseg-scores').first.inner_text()
    handle = page.locator('.noUi-handle').first
    handle.focus()
    start = time.monotonic()
    page.keyboard.press('PageUp') # Ten steps
    after = becomes(get, before)
    assert time.monotonic()-start < 3
    becomes(lambda: page.locator('.satseg-words').inner_text(), words)
    becomes(lambda: page.locator('.satseg-scores').first.inner_text(), scores)
    assert after.shape == before.shape == (256, 256, 3)
    box = handle.bounding_box()
    page.mouse.move(box['x']+5, box['y']+5)
    page.mouse.down()
    page.mouse.move(box['x']+60, box['y']+5, steps=15)
    page.mouse.up()
    becomes(get, after)
    shot(page, 'app_threshold')


@needs_browser('voila', 'anywidget')
def test_chips_one_by_one_worst_first(page):
    choice = page.locator('.satseg-chips select')
    texts = lambda: [o.replace('\xa0', ' ') for o in choice.first.locator('option').all_inner_texts()]
    names = texts()
    assert len(names) == 16 and names[0].startswith('1. ')
    get = lambda: picture(page, 'image')
    before = get()
    page.get_by_role('button', name='▶').click()
    becomes(get, before)
    assert choice.first.evaluate('o => o.selectedIndex') == 1
    choice.nth(1).select_option(label='as given')
    now = becomes(texts, names)
    assert now[:2] == ['1. chip[0]', '2. chip[1]']
    choice.nth(1).select_option(label='worst first')


@needs_browser('voila', 'anywidget')
def test_zoom_is_one_for_all_pictures(page):
    frame = page.locator('.satseg-frame').first
    frame.hover(position=dict(x=30, y=30))
    page.mouse.wheel(0, -300)
    styles = page.locator('.satseg-canvas').evaluate_all('all => all.map(o => o.style.transform)')
    assert len(set(styles)) == 1 and 'scale(1)' not in styles[0]
    shot(page, 'app_zoom')
    frame.dblclick()
    assert 'scale(1)' in page.locator('.satseg-canvas').last.evaluate('o => o.style.transform')


@needs_browser('voila', 'anywidget')
def test_class_off_and_smallest_object(page):
    get = lambda: picture(page, 'prediction')
    before,image = get(),picture(page, 'image')
    page.get_by_label('building').uncheck()
    assert (becomes(get, before) == image).all()
    page.get_by_label('building').check()
    becomes(get, image)
    words = page.locator('.satseg-words').inner_text()
    page.locator('.satseg-pairs input[type=number]').fill('400')
    page.keyboard.press('Tab')
    assert 'objects, polygons' in page.get_by_text('Smallest object, pixels').get_attribute('title')
    assert '400 pixels or more' in becomes(lambda: page.locator('.satseg-words').inner_text(), words)


@needs_browser('voila', 'anywidget')
def test_every_download(page, tmp_path):
    pytest.importorskip('shapely')
    def get(words): return download(page, tmp_path, lambda: page.get_by_role('button', name=words).click())
    mask = np.asarray(Image.open(get('Mask (PNG)')))
    assert mask.shape == (256, 256) and set(np.unique(mask)) <= {0, 255}
    assert Image.open(get('Overlay (PNG)')).size[0] >= 256
    shapes = json.loads(get('Polygons (GeoJSON)').read_text())
    assert shapes['type'] == 'FeatureCollection' and all(o['geometry']['type'] in ('Polygon', 'MultiPolygon') for o in shapes['features'])
    idle(page)
    with zipfile.ZipFile(get('Report (ZIP)')) as z:
        assert {'report/report.html', 'report/metrics.csv'} <= set(z.namelist()) and z.testzip() is None
    assert page.get_by_role('button', name='Submission').is_disabled() # The sample is no challenge's


@needs_browser('voila', 'anywidget')
def test_uploads_a_pickle_a_picture_and_a_geotiff(page, files, geotiff, tmp_path):
    upload(page, files/'dataset.pickle')
    assert said(page).startswith('3 chips of 96 x 96')
    assert 'val[' in page.locator('.satseg-chips option').first.inner_text()
    page.locator('.satseg-pairs select').select_option(label='train')
    page.wait_for_timeout(300)
    idle(page)
    assert said(page).startswith('1 chip of 96 x 96')
    upload(page, files/'a picture.png')
    assert page.locator('.satseg-title:visible').all_inner_texts() == ['image', 'prediction']
    assert picture(page, 'image').shape == (120, 200, 3)
    shot(page, 'app_picture')
    upload(page, geotiff)
    assert picture(page, 'prediction').shape == (130, 180, 3)
    words = page.locator('.satseg-words').inner_text()
    assert ' m2' in words or ' km2' in words
    shapes = download(page, tmp_path, lambda: page.get_by_role('button', name='Polygons').click())
    assert 'EPSG::32633' in shapes.read_text() or '"features"' in shapes.read_text()
    assert not page.get_by_role('button', name='Submission').is_disabled()
    rows = list(csv.reader(download(page, tmp_path, lambda: page.get_by_role('button', name='Submission').click()).open()))
    assert rows[0][0] == 'ImageID' and all(o[0] == 'scene' for o in rows[1:])


@needs_browser('voila', 'anywidget')
def test_bad_and_hostile_files_are_refused_and_never_run(page, files):
    before = picture(page, 'image')
    for name,which,want in (('evil.pickle', 0, 'a data file may hold only'), ('torn.png', 0, 'torn'), ('large.npy', 0, 'at most 4.0 MB'),
                            ('notes.exe', 0, 'got .exe'),
                            ('names others.tif', 0, 'got a VRT'), ('names others.vrt', 0, 'got .vrt'), ('evil.pth', 1, 'evil.pth')):
        upload(page, files/name, which)
        assert want in said(page, 'problem'), name
        assert 'did not foresee' not in said(page, 'problem') and '/tmp' not in said(page, 'problem')
        if name == 'evil.pickle': shot(page, 'app_refused')
        assert (picture(page, 'image') == before).all()
    assert not (files/'executed').exists()
    field = page.get_by_placeholder('path of a file or folder')
    field.fill('/nowhere/<img src=x onerror=alert(1)>.tif')
    field.press('Enter')
    page.get_by_text('/nowhere/<img').wait_for()
    field.fill('notes.txt')
    field.press('Enter')
    page.locator('.satseg-problem:visible', has_text='notes.txt').first.wait_for()
    field.fill('')
    page.get_by_role('button', name='Open').first.click()
    page.get_by_text('type the path of a file or folder').wait_for()
    choose(page, 'Data', 'built-in sample')


@needs_browser('voila', 'anywidget')
def test_several_classes(page, files):
    page.get_by_placeholder('path of a model file').fill('three.pth')
    page.keyboard.press('Enter')
    page.get_by_text('choose data that it can read').wait_for() # The sample has masks of other classes
    field = page.get_by_placeholder('path of a file or folder')
    field.fill('three.pickle')
    field.press('Enter')
    page.get_by_text('2 chips of 96 x 96').wait_for()
    assert page.locator('.satseg-panels .satseg-tick').count() == 2 and not page.locator('.noUi-handle').is_visible()
    shot(page, 'app_classes')
    mask = picture(page, 'mask')
    for o in ('forest', 'water'): page.get_by_label(o).uncheck()
    assert (becomes(lambda: picture(page, 'mask'), mask) != mask).any()
    page.wait_for_timeout(500)
    assert (picture(page, 'mask') == picture(page, 'image')).all()
    assert 'forest' in page.locator('.satseg-scores').first.inner_text()
    choose(page, 'Model', 'shipped model') # Does not fit these data
    page.get_by_text('choose data that it can read').wait_for()
    choose(page, 'Data', 'built-in sample')
    assert said(page).startswith('16 chips')


@needs_browser('voila', 'anywidget')
def test_curves_of_a_run(page):
    page.get_by_text('Curves of a run').click()
    field = page.get_by_placeholder('path of a run folder')
    field.fill('nothing')
    field.press('Enter')
    page.get_by_text('expected the log.csv of a training run').wait_for()
    field.fill('run')
    field.press('Enter')
    page.get_by_text('2 epochs').wait_for()
    page.wait_for_function("[...document.images].some(o => o.naturalWidth > 400)")
    shot(page, 'app_curves')
    page.get_by_text('Look', exact=True).click()


@needs_browser('voila', 'anywidget')
def test_trains_stops_and_uses_the_model(page, files):
    from satseg.learn.recipes import recipe_from, recipe_text
    tiny = dict(name='tiny', split=dict(valid=.35), model=dict(arguments=dict(widths=[8, 16])), training=dict(lr=1e-2, bs=2, epochs=500))
    (files/'tiny.yaml').write_text(recipe_text(recipe_from(tiny)))
    write_sample(files/'small.pickle', 6, 2, 32)
    page.get_by_text('Train', exact=True).first.click()
    for place,path in (('path of a .yaml file', 'tiny.yaml'), ('path of a dataset', 'small.pickle')):
        page.locator('select:visible').nth(int(place.endswith('dataset'))).select_option(label='a file of my own')
        page.get_by_placeholder(place).fill(path)
        page.keyboard.press('Tab')
    page.wait_for_function("[...document.querySelectorAll('input')].some(o => o.value.endsWith('runs/tiny'))")
    page.get_by_role('button', name='Train', exact=True).click()
    page.get_by_text(re.compile('^[2-9] of 500 epochs done')).wait_for()
    shot(page, 'app_training')
    page.get_by_role('button', name='Stop').and_(page.locator(':visible')).click()
    page.get_by_text('in the list of the tab Look').wait_for()
    assert 'stopped after' in page.get_by_text('in the list of the tab Look').inner_text()
    assert page.get_by_role('button', name='Go on').is_enabled() and (files/'runs'/'tiny'/'model.pth').is_file()
    page.get_by_text('Look', exact=True).click()
    choose(page, 'Model', 'trained: tiny')
    assert said(page).startswith('16 chips')
    choose(page, 'Model', 'shipped model')


def status(url, headers={}):
    "What a plain request gets."
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args): return None
    try: return urllib.request.build_opener(Stay).open(urllib.request.Request(url, headers=headers), timeout=20).status
    except urllib.error.HTTPError as e: return e.code


@needs_browser('voila', 'anywidget')
def test_server_gives_nothing_away(page, server, files):
    key = address(server).split('token=')[1]
    assert status(server.url) in (302, 403) # Not without the key
    for path in ('voila/files/satseg.ipynb', 'voila/files/.', 'voila/tree', 'api/contents', 'api/kernels', 'api/terminals', 'voila/files/../../etc/passwd'):
        assert status(f'{server.url}{path}?token={key}') in (302, 403, 404, 405), path
        assert status(f'{server.url}{path}') in (302, 403, 404, 405), path
    kernel = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    shout = f'http://127.0.0.1:{server.port}/api/kernels/{kernel}/channels'
    socket = {'Connection': 'Upgrade', 'Upgrade': 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'x'*22+'==', 'Origin': 'http://evil.example'}
    assert status(f'{shout}?token={key}', socket) in (400, 403) and status(shout, {**socket, 'Origin': server.url.rstrip('/')}) in (400, 403)
    page.evaluate("""async ([kernel, path]) => {
        const s = new WebSocket(`ws://${location.host}/api/kernels/${kernel}/channels`)
        await new Promise(done => { s.onopen = done })
        const header = {msg_id: 'x1', username: 'x', session: 'x', msg_type: 'execute_request', version: '5.3', date: new Date().toISOString()}
        s.send(JSON.stringify({header, parent_header: {}, metadata: {}, channel: 'shell', buffers: [],
            content: {code: `open(${JSON.stringify(path)}, 'w')`, silent: false, store_history: false, user_expressions: {}, allow_stdin: false}}))
        await new Promise(done => setTimeout(done, 1500))
        s.close()
    }""", [kernel, str(files/'executed')])
    assert not (files/'executed').exists() # No code from the browser, even with the key


@needs_browser('voila', 'anywidget')
def test_python_and_uploads_end_with_the_page(page, server):
    import psutil
    def mine():
        "Pythons of pages."
        res = []
        for o in psutil.Process(server.process.pid).children(recursive=True):
            try: res += [o]*('ipykernel_launcher' in ' '.join(o.cmdline()))
            except psutil.Error: pass # It has just ended
        return res
    temporary = Path(mine()[0].environ()['TMPDIR'])
    assert len(mine()) == 1 and list(temporary.glob('satseg-upload-*'))
    page.goto('about:blank') # As somebody who goes elsewhere: closing the tab may cut the last words of a busy browser
    page.close()
    end = time.monotonic()+120
    while mine() and time.monotonic() < end: time.sleep(.2)
    assert mine() == [] and not list(temporary.glob('satseg-upload-*'))


def test_stop_ends_work_and_newer_work_replaces_older():
    pytest.importorskip('anywidget')
    from satseg.page.status import Status
    status,done,steps = Status(),[],[]
    def slow(progress):
        for i in range(1000):
            steps.append(i)
            progress(i, 1000)
            time.sleep(.01)
        return 'old'
    status.run('Slow', slow, done.append)
    while not steps: time.sleep(.01)
    status.stop()
    status.wait()
    assert 'Stopped' in status.line.value and len(steps) < 900 and done == []
    status.run('Slow', slow, done.append, lambda: done.append('given up'))
    status.run('Quick', lambda progress: 'new', done.append)
    status.wait()
    assert done == ['given up', 'new'] and status.button.layout.display == 'none'


def test_training_offers_its_model_and_bad_data_leave_the_page():
    pytest.importorskip('anywidget')
    from satseg.page.server import App
    app = App(data='nothing.tif')
    app.predict.status.wait()
    assert 'found nothing there' in app.predict.status.line.value and app.predict.viewer is None
    app.offer('runs/buildings/model.pth')
    assert ('trained: buildings', 'runs/buildings/model.pth') in app.predict.model.list.options and app.predict.model.list.value == ''
    app.open_training()
    assert app.tabs.children[1] is app.train.box


def test_a_model_trained_anew_replaces_the_one_that_is_open(tmp_path, files):
    pytest.importorskip('anywidget')
    import shutil
    from satseg.page.server import App
    run = tmp_path/'run'
    run.mkdir()
    shutil.copy(files/'three.pth', run/'model.pth')
    tab = (app := App(data=files/'three.pickle', model=run/'model.pth')).predict
    tab.status.wait()
    old = tab.net[1][1].mean
    net = UNet(n_in=3, n_out=3, widths=(4, 8))
    save_model(run/'model.pth', net, ModelInfo('UNet', net.arguments, ['B02', 'B03', 'B04'], [800.]*3, [300.]*3, ['field', 'forest', 'water'], threshold=None))
    app.offer(run/'model.pth')
    tab.status.wait()
    assert list(old) == [900.]*3 and list(tab.viewer.info.mean) == [800.]*3


def test_threshold_of_the_model_is_shown_and_used_as_it_is(files):
    pytest.importorskip('anywidget')
    from satseg.page.predict_tab import PredictTab
    from satseg.page.sources import open_model, open_source
    from satseg.page.viewer import Viewer
    tab = PredictTab(data='nothing.tif')
    tab.status.wait()
    assert 'model is open' not in tab.status.line.value # Nobody chose one
    net,info = open_model()
    info.threshold = .501
    tab.show(Viewer(net, info, open_source(files/'dataset.pickle', info)).compute())
    assert tab.threshold.step == .001 and tab.threshold.value == tab.viewer.threshold == .501


def test_what_is_of_a_piece_says_so(files, monkeypatch):
    pytest.importorskip('anywidget')
    monkeypatch.setattr('satseg.page.sources._MAX_SIDE', 128)
    from satseg.page.predict_tab import PredictTab
    tab = PredictTab(data=str(files/'a picture.png'))
    tab.status.wait()
    tips = {k: tip for k,_,tip,_ in tab.files.kinds}
    assert 'in 2 pieces' in tab.status.line.value and 'a piece' in tab.words.value and 'satseg-scene' in tab.words.value
    assert all('only the piece shown' in tips[k] and 'satseg-scene' in tips[k] for k in ('mask', 'overlay'))
    tab.load(data=str(files/'dataset.pickle'))
    tab.status.wait()
    assert 'piece' not in tab.status.line.value+tab.words.value and all('piece' not in o[2] for o in tab.files.kinds)
    tab.load(data='sample', model=str(files/'three.pth')) # Of other classes
    tab.status.wait()
    assert '. The model is open: choose data that it can read' in tab.status.line.value


def test_two_choices_in_a_row_both_count(files):
    pytest.importorskip('anywidget')
    from satseg.page.predict_tab import PredictTab
    tab = PredictTab(data='nothing.tif')
    tab.status.wait()
    tab.load(model=str(files/'three.pth'))
    tab.load(data=str(files/'three.pickle')) # Before the model is there
    tab.status.wait()
    assert tab.viewer and len(tab.viewer.classes) == 3 and tab.model.value == str(files/'three.pth') and tab.asked is None


def test_uploads_that_cannot_be_opened_go(files):
    pytest.importorskip('anywidget')
    from satseg.page.predict_tab import PredictTab
    tab = PredictTab(data='nothing.tif')
    for _ in range(2):
        tab.data.upload.hear(dict(kind='start', name='torn.png', size=4))
        tab.data.upload.hear(dict(kind='piece'), [b'torn'])
        tab.status.wait()
    assert 'torn.png' in tab.status.line.value and not list(Path(tab.data.upload.folder.name).iterdir())


def test_curves_of_a_file_of_any_name(tmp_path):
    pytest.importorskip('anywidget')
    from satseg.page.server import _CurvesTab
    head,row = 'epoch,train_loss,valid_loss,iou,dice\n','0,1,1,.1,.2\n'
    (tmp_path/'log.csv').write_text(head+row)
    (tmp_path/'other.csv').write_text(head+row+row.replace('0', '1', 1))
    curves = _CurvesTab()
    for path,want in ((tmp_path, '1 epoch'), (tmp_path/'other.csv', '2 epochs')):
        curves.load(str(path))
        curves.status.wait()
        assert want in curves.status.line.value


@pytest.mark.parametrize('options,want', ((['--port', '0'], 'expected 1 to 65535'), (['--max-upload', 'much'], 'much'), (['--ip', '203.0.113.7'], 'cannot listen on 203.0.113.7')))
def test_bad_options_are_one_line(options, want):
    import subprocess
    import sys
    pytest.importorskip('voila')
    res = subprocess.run([sys.executable, '-m', 'satseg.app', '--no-browser', *options], capture_output=True, text=True, timeout=120)
    assert res.returncode == 2 and want in res.stderr and res.stderr.startswith('satseg: ') and len(res.stderr.splitlines()) == 1
