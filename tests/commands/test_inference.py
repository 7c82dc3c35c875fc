"The command line from end to end, and the functions behind it."
import json
import os
import pickle
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from satseg.core.errors import BadInput, install_command
from satseg.data.chips import Chips
from satseg.data.pickles import load_pickle, save_pickle
from satseg.models.statistics import band_stats
from satseg.data.datasets import load_dataset
from satseg.core.files import atomic_folder
from satseg.evaluation.open_dataset import match_classes, submission_kind
from satseg.inference import main
from satseg.data.sample_datasets import write_sample_dataset
from satseg.data.polygons import polygons_to_instances
from satseg.data.submissions import read_building_csv, read_ship_csv, ship_instances, validate
from satseg.evaluation.metrics import confusion, scores
from satseg.models.unet import UNet
from satseg.models.encoders import Classifier
from satseg.models.model_info import ModelInfo
from satseg.models.model_file import load_model, save_model
from satseg.evaluation.objects import image_f2, match_objects, object_scores
from satseg.models.predict import batch_probabilities, class_ids, pixel_probabilities, predict_chips
from satseg.evaluation.objects import find_objects
from satseg.evaluation.evaluate import choose_presence_threshold, evaluate, presence_probabilities
from satseg.data.landscape import SCENE_CLASSES
from satseg.data.synthetic import sample_chips

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
ABOUT = ['model', 'dataset', 'kind', 'split', 'n', 'tta', 'presence']
SCORES = ['iou', 'dice', 'precision', 'recall', 'accuracy']
KEYS = [*ABOUT, 'threshold', *SCORES, 'by_threshold', 'trivial']
HEAVY = ['fastai', 'torchvision', 'matplotlib', 'pandas', 'scipy', 'sklearn', 'skimage', 'shapely', 'rasterio', 'geopandas', 'onnx', 'IPython']


def small_unet(chips, n_out=1, classes=('background', 'building'), seed=0, **kw):
    "An untrained net whose probabilities lie around its threshold, and its description."
    torch.manual_seed(seed)
    model = UNet(n_in=len(chips.bands), n_out=n_out, widths=(4, 8), **kw).eval()
    stats = band_stats(chips)
    info = ModelInfo('UNet', model.arguments, list(chips.bands), stats.mean, stats.std, list(classes), threshold=.5 if n_out == 1 else None)
    if n_out == 1:
        probs = np.concatenate([p.ravel() for _, p in predict_chips(model, info, chips, device='cpu')])
        info.threshold = round(float(np.quantile(probs, .8)), 3)
    return model, info


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with a model file and a pickle: chips whose sizes differ and are not divisible by 16."
    path = tmp_path_factory.mktemp('cli')
    val = [sample_chips(n, size, seed=3).raw(i) for n, size in ((3, (50, 70)), (2, (64, 48))) for i in range(n)]
    val = Chips(*zip(*val))
    masks = [m.copy() for m in val.masks]
    masks[0][:5] = 255
    masks[0][6, :3] = 1
    val = Chips(val.images, masks, names=[f'val[{i}]' for i in range(5)])
    save_pickle(path/'data.pickle', dict(train=sample_chips(2, 64, seed=2), val=val))
    save_model(path/'model.pth', *small_unet(val))
    return path


def spawn(cwd, *args, code=None):
    "Run the command line as a process of its own."
    start = ['-c', code] if code else ['-m', 'satseg.inference']
    return subprocess.run([sys.executable, *start, *map(str, args)], cwd=cwd, env=ENV, capture_output=True, text=True, timeout=120)


@pytest.fixture
def cli(place, capsys, monkeypatch):
    "Run the command line within this process; gives exit status, stdout, stderr."
    def _run(*args):
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, 'argv', ['inference', *map(str, args)])
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # runpy: the module is already imported
            try: runpy.run_module('satseg.inference', run_name='__main__', alter_sys=True)
            except SystemExit as e: return e.code or 0, *capsys.readouterr()
        return 0, *capsys.readouterr()
    return _run


def files(path): return sorted(o.relative_to(path).as_posix() for o in path.rglob('*'))


# ---- processes of their own

def test_process_end_to_end(place, tmp_path):
    "Status, output, files, and what was imported."
    code = ('import runpy, sys; runpy.run_module("satseg.inference", run_name="__main__", alter_sys=True); '
            'print(sorted({o.split(".")[0] for o in sys.modules}), file=sys.stderr)')
    out = tmp_path/'new'/'maps'
    res = spawn(place, '--model', 'model.pth', '--dataset', 'data.pickle', '--out', out, '--device', 'cpu', code=code)
    assert res.returncode == 0, res.stderr
    modules = eval(res.stderr)  # one line: no progress bar, no warning
    assert "torch" in modules and not set(HEAVY) & set(modules), set(HEAVY) & set(modules)
    names = [f'val_{i}' for i in range(5)]
    assert files(out) == sorted(['.satseg', 'masks', 'metrics.json', 'overlays', *(f'{k}/{o}.png' for k in ('masks', 'overlays') for o in names)])
    assert files(tmp_path) == sorted(['new', 'new/maps', *(f'new/maps/{o}' for o in files(out))])
    metrics = json.loads((out/'metrics.json').read_text())
    assert list(metrics) == KEYS
    assert [metrics[k] for k in ABOUT] == ['model.pth', 'data.pickle', 'pickle', 'val', 5, False, None]
    assert 'data.pickle (pickle), split val: 5 chips' in res.stdout and f"threshold {metrics['threshold']:g} from the model file" in res.stdout
    assert 'all background' in res.stdout and 'chosen' in res.stdout and str(out) in res.stdout

    model, info = load_model(place/'model.pth')  # the same numbers by a shorter way, chip by chip
    chips, cm = load_pickle(place/'data.pickle')['val'], 0
    for name, chip in zip(names, chips):
        with torch.no_grad(): probs = model(info.normalise(torch.tensor(chip.image)[None]))[0, 0].sigmoid().numpy()
        mask = np.array(Image.open(out/'masks'/f'{name}.png'))
        assert mask.shape == chip.mask.shape and set(np.unique(mask)) == {0, 255}
        sure = np.abs(probs - info.threshold) > 1e-5
        assert ((mask == 255) == (probs >= np.float32(info.threshold)))[sure].all()
        cm = cm + confusion(mask//255, chip.mask)
        shown = np.array(Image.open(out/'overlays'/f'{name}.png'))  # with a legend, so higher, and wide enough for its words
        assert shown.ndim == 3 and shown.shape[0] > mask.shape[0] and shown.shape[1] >= mask.shape[1]
    assert {k: metrics[k] for k in SCORES} == {k: scores(cm)[k] for k in SCORES}
    assert 0 < metrics['iou'] < 1 and metrics['by_threshold'][f"{info.threshold:g}"]['iou'] == metrics['iou']
    assert set(metrics['trivial']) == {'all background', 'all foreground'}


def test_process_the_model_that_comes_along_needs_no_torch(place, tmp_path, monkeypatch):
    "It is turned into ONNX once, which gives the same table; where that is impossible torch does it."
    pytest.importorskip('onnxruntime'), pytest.importorskip('onnx')
    code = ('import runpy, sys; runpy.run_module("satseg.inference", run_name="__main__", alter_sys=True); '
            'print("torch" in sys.modules, file=sys.stderr)')
    monkeypatch.setitem(ENV, 'SATSEG_CACHE', str(tmp_path))
    first,again = (spawn(place, code=code) for _ in range(2))
    (tmp_path/'file').touch()
    monkeypatch.setitem(ENV, 'SATSEG_CACHE', str(tmp_path/'file'))
    without = spawn(place, code=code)
    assert [o.stderr for o in (first, again, without)] == ['False\n', 'False\n', 'True\n'] and len([*tmp_path.glob('*.onnx')]) == 1
    assert first.stdout == again.stdout == without.stdout and '(chosen)     0.8544' in first.stdout


def test_process_help_and_slips_need_no_torch(place):
    code = ('import runpy, sys, atexit; atexit.register(lambda: print("torch" in sys.modules)); '
            'runpy.run_module("satseg.inference", run_name="__main__", alter_sys=True)')
    res = spawn(place, '--help', code=code)
    assert res.returncode == 0 and '--threshold' in res.stdout and res.stdout.endswith('False\n')
    for args in (['--model', 'nothing.pth'], ['--model', 'model.pth', '--dataset', 'nothing.p'], ['--model', 'model.pth', '--presence', 'nothing.pth'],
                 ['--model', 'model.pth', '--dataset', 'data.pickle', '--kind', 'nothing.p'], ['--model', 'model.pth', '--dataset', 'model.pth', '--out', 'nothing.p']):
        res = spawn(place, *args, code=code)
        assert (res.returncode, res.stdout) == (2, 'False\n') and res.stderr.count('\n') == 1 and ('nothing.p' in res.stderr or 'model.pth: expected a dataset' in res.stderr)


def test_process_bad_model(place):
    (place/'cut.pth').write_bytes((place/'model.pth').read_bytes()[:-3000])
    res = spawn(place, '--model', 'cut.pth', '--dataset', 'data.pickle')
    assert res.returncode == 2 and res.stdout == '' and res.stderr.startswith('satseg: cut.pth: ') and res.stderr.count('\n') == 1


def test_process_interrupted(place, tmp_path):
    "Ctrl-C in the middle: status 130 and nothing half-written."
    big = Chips([np.ones((1500, 1500, 3), np.uint8)]*4)
    save_pickle(place/'big.pickle', dict(all=big))
    args = [sys.executable, '-m', 'satseg.inference', '--model', 'model.pth', '--dataset', 'big.pickle', '--out', str(tmp_path/'maps'), '--bs', '1', '--tta']
    p = subprocess.Popen(args, cwd=place, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a test run in the background ignores Ctrl-C, and its children with it
    for _ in range(600):
        if files(tmp_path): break
        time.sleep(.05)
    assert files(tmp_path), 'the temporary folder never came'
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and err == 'satseg: interrupted\n' and files(tmp_path) == []


# ---- every bad input: status 2, one line, nothing written

class Opener:
    def __reduce__(self): return open, ('opened.txt', 'w')


def write_bad_files(place):
    model, info = load_model(place/'model.pth')
    d = torch.load(place/'model.pth', weights_only=True)
    torch.save(model.state_dict(), place/'bare.pth')
    torch.save(model, place/'whole.pth')
    torch.save({**d, 'architecture': 'Segmenter'}, place/'other.pth')
    torch.save({**d, 'arguments': {**d['arguments'], 'widths': [4, 16]}}, place/'widths.pth')
    torch.save({**d, 'bands': ['B02', 'B03']}, place/'contradiction.pth')
    torch.save({**d, 'bands': ['B02\x1b[2J', 'B03', 'B04']}, place/'codes.pth')
    (place/'text.pth').write_text('hello')
    (place/'text.onnx').write_text('hello')
    gate = Classifier(widths=(4, 8))
    save_model(place/'gate.pth', gate, ModelInfo('Classifier', gate.arguments))
    (place/'empty.pth').write_bytes(b'')
    chip = dict(image=np.ones((32, 32, 3), np.uint16), mask=np.eye(32, dtype=np.uint8))
    def write(name, o): (place/name).write_bytes(pickle.dumps(o))
    write('hostile.pickle', Opener())
    write('4bands.pickle', [{**chip, 'image': np.ones((32, 32, 4))}])
    write('2bands.pickle', [{**chip, 'image': np.ones((32, 32, 2))}])
    write('chw.pickle', [{**chip, 'image': np.ones((3, 32, 32))}])
    write('grey.pickle', [{**chip, 'image': np.ones((32, 32))}])
    write('nan.pickle', [chip, {**chip, 'image': np.full((32, 32, 3), np.nan)}])
    write('ids.pickle', [{**chip, 'mask': np.full((32, 32), 7, np.uint8)}])
    write('sizes.pickle', [{**chip, 'mask': np.zeros((16, 16), np.uint8)}])
    write('torch.pickle', [dict(image=torch.ones(3, 32, 32))])
    write('nothing.pickle', [])
    (place/'cut.pickle').write_bytes((place/'data.pickle').read_bytes()[:-1000])
    (place/'a file').write_text('')


BAD = {  # option values that replace the good ones -> a part of the line
    'no model': (dict(model='no.pth'), 'no.pth: expected a model file, got no such file: give --model'),
    'model is a folder': (dict(model='.'), 'got a folder'),
    'bare state dict': (dict(model='bare.pth'), 'a bare state dict'),
    'pickled module': (dict(model='whole.pth'), "runs no code out of files"),
    'text as model': (dict(model='text.pth'), 'got a damaged one, or another kind of file'),
    'empty model': (dict(model='empty.pth'), 'empty.pth: '),
    'pickle as model': (dict(model='data.pickle'), 'data.pickle: '),
    'other architecture': (dict(model='other.pth'), "'Segmenter'"),
    'other weights': (dict(model='widths.pth'), 'do not fit'),
    'contradiction': (dict(model='contradiction.pth', dataset='2bands.pickle'), 'in agreement with itself'),
    'terminal codes': (dict(model='codes.pth'), 'bands: expected printable text'),
    'no dataset': (dict(dataset='no.pickle'), 'no.pickle: expected a dataset'),
    'dataset is a folder of many': (dict(dataset='.'), 'expected one pickle, found'),
    'model as dataset': (dict(dataset='model.pth'), 'model.pth: expected a dataset (clouds, ships, '),
    'model as pickle': (dict(dataset='model.pth', kind='pickle'), 'model.pth: expected a pickle, this is a zip file'),
    'unknown kind': (dict(kind='cocoa'), 'expected a kind out of clouds, ships, '),
    'kind without a dataset': (dict(kind='coco', dataset=None), 'got no --dataset'),
    'another kind': (dict(kind='coco'), 'data.pickle: '),
    'options that are none': (dict(options='shadow'), 'name=value'),
    'options of a pickle': (dict(options='shadow=ignore'), "option of pickle: expected one of has_ignore, got 'shadow'"),
    'no presence classifier': (dict(presence='no.pth'), 'no.pth: expected a model file, got no such file: give --presence'),
    'segmenter as presence classifier': (dict(presence='model.pth'), 'model.pth: expected a presence classifier, got UNet: give it as --model'),
    'presence classifier as model': (dict(model='gate.pth'), 'gate.pth: expected a net that gives a mask, got a presence classifier'),
    'text as onnx': (dict(model='text.onnx'), 'text.onnx: expected an ONNX file of satseg'),
    'onnx on a GPU': (dict(model='text.onnx', device='cuda'), 'computed on the cpu'),
    'area below 0': (dict(min_area='-1'), 'expected a number of 0 or more after --min-area'),
    'area in words': (dict(min_area='big'), "got 'big'"),
    'bands first': (dict(dataset='chw.pickle'), 'got shape (3,32,32), which has its bands first: save image.transpose(1,2,0)'),
    'cut dataset': (dict(dataset='cut.pickle'), 'truncated'),
    'hostile dataset': (dict(dataset='hostile.pickle'), 'refuses io.open'),
    'tensors': (dict(dataset='torch.pickle'), 'refuses torch'),
    'empty list': (dict(dataset='nothing.pickle'), 'the list is empty'),
    'four bands': (dict(dataset='4bands.pickle'), 'image: expected (H,W,3) for the bands B02,B03,B04, got shape (32,32,4), which has 4 bands'),
    'no band axis': (dict(dataset='grey.pickle'), 'for the bands B02,B03,B04, got shape (32,32), which has no band axis'),
    'NaN': (dict(dataset='nan.pickle'), 'all[1]: image: 3,072 of 3,072 values are NaN'),
    'unknown ids': (dict(dataset='ids.pickle'), 'hold 7: expected the ids 0 to 1'),
    'mask of another size': (dict(dataset='sizes.pickle'), 'differ in size'),
    'split': (dict(split='valid'), 'expected a split out of train, val, all, got valid'),
    'threshold too fine': (dict(threshold='0.12345'), 'in steps of 0.001'),
    'threshold above 1': (dict(threshold='1.5'), 'from 0 to 1'),
    'threshold nan': (dict(threshold='nan'), 'from 0 to 1'),
    'threshold in words': (dict(threshold='half'), "got 'half'"),
    'device': (dict(device='gpu'), 'expected a device'),
    'no such GPU': (dict(device='cuda:77'), 'no such GPU'),
    'batch size 0': (dict(bs='0'), 'batch size of 1 or more'),
    'batch size 1.5': (dict(bs='1.5'), 'batch size of 1 or more'),
    'batch size inf': (dict(bs='inf'), 'batch size of 1 or more, got inf'),
    'batch size nan': (dict(bs='nan'), 'batch size of 1 or more, got nan'),
    'batch size 1e400': (dict(bs='1e400'), 'batch size of 1 or more, got inf'),
    'batch size in words': (dict(bs='all'), "got 'all'"),
    'out is a file': (dict(out='a file'), 'this is a file'),
    'out below a file': (dict(out='a file/maps'), 'cannot be written (Not a directory)'),
    'out is a foreign folder': (dict(out='.', overwrite=True), 'satseg did not write it'),
    'out not writable': (dict(out='/proc/maps'), '/proc/maps: cannot be written'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(cli, place, name):
    if not (place/'bare.pth').exists(): write_bad_files(place)
    change, part = BAD[name]
    if name == 'out not writable' and not Path('/proc').is_dir(): pytest.skip('no /proc here')
    options = {**dict(model='model.pth', dataset='data.pickle', out='maps', device='cpu'), **change}
    before = files(place)
    if options['model'].endswith('.onnx'): pytest.importorskip('onnxruntime')
    rc, out, err = cli(*(o for k, v in options.items() if v is not None for o in ([f'--{k}'] if v is True else [f'--{k}', v])))
    assert rc == 2 and err.startswith('satseg: ') and err.count('\n') == 1 and err.endswith('\n'), err
    assert '\x1b' not in out + err and part in err and 'Traceback' not in out + err and len(err) < 500
    assert 'iou' not in out and files(place) == before


def test_unknown_option(cli):
    rc, out, err = cli('--modle', 'model.pth')
    assert rc == 2 and 'unrecognized arguments: --modle' in err


# ---- what else the command line does

def test_no_overwriting(cli, place, tmp_path):
    args = '--model', 'model.pth', '--dataset', 'data.pickle', '--device', 'cpu', '--out', tmp_path/'maps'
    assert cli(*args, '--split', 'train')[0] == 0
    first = (tmp_path/'maps'/'metrics.json').read_bytes()
    rc, out, err = cli(*args)
    assert rc == 2 and 'exists already' in err and (tmp_path/'maps'/'metrics.json').read_bytes() == first
    assert cli(*args, '--overwrite')[0] == 0
    assert len(files(tmp_path/'maps'/'masks')) == 5 and files(tmp_path)[0] == 'maps'
    (tmp_path/'maps'/'masks'/'mine.txt').write_text('kept')
    rc, out, err = cli(*args, '--overwrite')
    assert rc == 2 and 'satseg did not write masks/mine.txt' in err and (tmp_path/'maps'/'masks'/'mine.txt').exists()


def test_without_masks_and_bare_list(cli, place, tmp_path):
    images = [o.image.transpose(1, 2, 0) for o in sample_chips(2, 40, seed=8)]
    save_pickle(place/'images.pickle', dict(all=Chips(images)))
    rc, out, err = cli('--model', 'model.pth', '--dataset', 'images.pickle', '--device', 'cpu', '--out', tmp_path/'maps')
    assert rc == 0 and err == '' and 'split all: 2 chips' in out and 'no masks' in out
    metrics = json.loads((tmp_path/'maps'/'metrics.json').read_text())
    assert list(metrics) == [*ABOUT, 'threshold'] and len(files(tmp_path/'maps'/'overlays')) == 2


def test_masks_without_a_label(cli, place):
    chip = dict(image=np.ones((32, 32, 3), np.uint16), mask=np.full((32, 32), 255, np.uint8))
    (place/'unknown.pickle').write_bytes(pickle.dumps([chip]))
    args = '--model', 'model.pth', '--dataset', 'unknown.pickle', '--device', 'cpu'
    assert cli(*args)[0] == 2  # a mask of 255 alone may be a mask of 0 and 255
    rc, out, err = cli(*args, '--ignore')
    assert rc == 0 and 'no masks' in out


def test_builtin_sample_threshold_tta_quiet(cli):
    rc, out, err = cli('--model', 'model.pth', '--device', 'cpu', '--threshold', '0.25', '--tta')
    assert rc == 0 and 'no --dataset: 16 chips of the built-in sample' in out and 'threshold 0.25 as given' in out and '0.25 (chosen' in out
    rc, quiet, err = cli('--model', 'model.pth', '--device', 'cpu', '--threshold', '0.25', '--tta', '--quiet')
    assert rc == 0 and err == '' and quiet == '\n'.join(out.splitlines()[2:-1]) + '\n'


def test_several_classes(cli, place, tmp_path):
    chips = sample_chips(2, 40, seed=4, target=None)
    save_pickle(place/'many.pickle', dict(all=chips))
    save_model(place/'many.pth', *small_unet(chips, len(SCENE_CLASSES), SCENE_CLASSES))
    args = '--model', 'many.pth', '--device', 'cpu'
    rc, out, err = cli(*args, '--dataset', 'many.pickle', '--out', tmp_path/'maps')
    assert rc == 0 and 'by class' in out and 'macro mean' in out and 'forest' in out
    metrics = json.loads((tmp_path/'maps'/'metrics.json').read_text())
    assert set(KEYS) <= set(metrics) and metrics['by_threshold'] == {}
    assert metrics['threshold'] is None and list(metrics['by_class']) == list(SCENE_CLASSES)
    mask = Image.open(tmp_path/'maps'/'masks'/'all_0.png')
    model, info = load_model(place/'many.pth')
    assert mask.mode == 'P' and np.array_equal(np.array(mask), class_ids(next(predict_chips(model, info, chips, device='cpu'))[1]))
    rc, out, err = cli(*args, '--dataset', 'many.pickle', '--threshold', '0.5')
    assert rc == 2 and 'expected no threshold' in err
    assert cli(*args)[0] == 0  # the sample knows these classes
    info.classes = [f'c{i}' for i in range(8)]
    save_model(place/'foreign.pth', model, info)
    rc, out, err = cli('--model', 'foreign.pth')
    assert rc == 2 and 'give --dataset' in err


def test_model_file_of_the_repository(cli):
    path = ROOT/'unet_model.pth'
    if not path.exists(): pytest.skip('no unet_model.pth in the root')
    res = main(str(path), device='cpu')
    assert res['iou'] > res['trivial']['all foreground']['iou']


def test_the_shipped_model_is_the_default(cli, place, tmp_path):
    "Whatever lies in the current folder under its name."
    (place/'unet_model.pth').write_bytes(b'not this one')
    try: rc, out, err = cli('--device', 'cpu', '--out', tmp_path/'maps')
    finally: (place/'unet_model.pth').unlink()
    assert rc == 0 and err == '' and out.startswith('unet_model.pth: UNet for B02,B03,B04, threshold 0.34')
    assert json.loads((tmp_path/'maps'/'metrics.json').read_text())['model'] == 'unet_model.pth'
    rc, out, err = cli('--model', 'unet_model.pth')
    assert rc == 2 and 'leave it out for the model that comes with satseg' in err and err.count('\n') == 1


# ---- the functions

def test_main_is_a_function(place, capsys):
    res = main(str(place/'model.pth'), str(place/'data.pickle'), device='cpu', quiet=True)
    assert list(res) == KEYS and 'IoU' in capsys.readouterr().out
    with pytest.raises(BadInput): main(str(place/'no.pth'))


def test_predict_order_sizes_and_batches(place):
    model, info = load_model(place/'model.pth')
    chips = load_pickle(place/'data.pickle')['val']
    first = list(predict_chips(model, info, chips, bs=1, device='cpu'))
    for bs in (2, 8):
        for (a, p), (b, q) in zip(first, predict_chips(model, info, chips, bs=bs, device='cpu'), strict=True):
            assert a.name == b.name and p.shape == a.mask.shape and q.dtype == np.float32 and np.allclose(p, q, atol=1e-5)
    a, b = (evaluate(model, info, chips, bs=bs, device='cpu').total for bs in (1, 4))
    assert a.n == b.n == sum((o.mask != 255).sum() for o in chips)


def test_predict_is_lazy_and_checks_at_once(place):
    model, info = load_model(place/'model.pth')
    taken = []
    class Images(list):
        def __getitem__(self, i):
            taken.append(i)
            return super().__getitem__(i)
    chips = Chips(Images([np.ones((16, 16, 3), np.uint8)]*9))
    it = predict_chips(model, info, chips, bs=2, device='cpu')
    assert taken == []
    next(it)
    assert len(taken) <= 3
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()  # nothing leaks into the caller between two chips
    with pytest.raises(BadInput): predict_chips(model, info, chips, bs=0)
    with pytest.raises(BadInput): predict_chips(model, info, Chips([np.ones((16, 16, 3))], bands=('B04', 'B03', 'B02')))


def test_tta_turns_with_the_image(place):
    model, info = load_model(place/'model.pth')
    xb = torch.randn(2, 3, 32, 48)
    probs = batch_probabilities(model, xb, tta=True)
    assert probs.shape == (2, 1, 32, 48) and not torch.allclose(probs, batch_probabilities(model, xb), atol=1e-4)
    for change in (lambda o: o.flip(-1), lambda o: o.rot90(1, (-2, -1)), lambda o: o.flip(-2).rot90(1, (-2, -1))):
        assert torch.allclose(change(probs), batch_probabilities(model, change(xb), tta=True), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_gpu_agrees(place):
    model, info = load_model(place/'model.pth')
    chips = load_pickle(place/'data.pickle')['val']
    slow = [p for _, p in predict_chips(model, info, chips, device='cpu')]
    for p, (_, q) in zip(slow, predict_chips(model, info, chips, device='cuda')): assert np.abs(p - q).max() < .02


def test_readings_in_other_units_are_remarked_on(place, tmp_path, capsys):
    chips = sample_chips(2, size=32, seed=5)
    save_pickle(tmp_path/'reflectance.pickle', dict(all=Chips([chips.raw(i)[0]/10000 for i in range(2)], [chips.raw(i)[1] for i in range(2)])))
    save_pickle(tmp_path/'readings.pickle', dict(all=chips))
    main(model=str(ROOT/'unet_model.pth'), dataset=str(tmp_path/'reflectance.pickle'))
    assert 'reflectance where the model knows readings' in capsys.readouterr().out
    main(model=str(ROOT/'unet_model.pth'), dataset=str(tmp_path/'readings.pickle'))
    assert 'deviations off' not in capsys.readouterr().out


# ---- every format

BUILDING, BORDER, SHIP = ['background', 'building'], ['background', 'building', 'border'], ['background', 'ship']
LAND = ['unlabeled', 'building', 'land', 'road', 'vegetation', 'water']
RGB, CLOUD = ['R', 'G', 'B'], ['B04', 'B03', 'B02', 'B08']
FORMATS = {  # sample dataset -> kind, split, classes of the model, bands, chips, submission
    'footprints_coco': ('coco', 'val', BORDER, RGB, 2, 'buildings'),
    'footprints_geotiff': ('geotiffs', 'all', BUILDING, RGB, 4, 'buildings'),
    'footprints_pairs': ('folders', 'all', BUILDING, RGB, 4, 'buildings'),
    'landcover': ('folders', 'test', LAND, RGB, 2, None),
    'ships': ('ships', 'all', SHIP, RGB, 4, 'ships'),
    'clouds': ('clouds', 'all', ['clear', 'cloud', 'shadow'], CLOUD, 4, None),
    'bands': ('bands', 'all', ['clear', 'cloud'], CLOUD, 2, None)}


def write_bands(folder):
    "Two scenes of unequal size with a file per band, in the layout of the Sentinel-2 cloud chips."
    rasterio = pytest.importorskip('rasterio')
    rng = np.random.default_rng(0)
    for i, (h, w) in enumerate([(40, 50), (64, 48)]):
        (folder/f'chip_{i}').mkdir(parents=True)
        kw = dict(driver='GTiff', height=h, width=w, count=1, crs='EPSG:32633', transform=rasterio.transform.from_origin(500000, 5e6, 10, 10))
        for name in [*CLOUD, 'label']:
            a = rng.integers(0, 4000, (h, w)).astype('uint16') if name != 'label' else (rng.random((h, w)) < .4).astype('uint16')
            with rasterio.open(folder/f'chip_{i}'/f'{name}.tif', 'w', dtype='uint16', **kw) as f: f.write(a, 1)


def net_for(path, chips, classes, bands, arch=UNet, seed=1, logits=None):
    "A file of an untrained net whose answers are mixed."
    torch.manual_seed(seed)
    n_out = 1 if len(classes) == 2 else len(classes)
    model = arch(n_in=len(bands), n_out=n_out, widths=(4, 8)).eval()
    stats = band_stats(chips)
    info = ModelInfo(arch.__name__, model.arguments, list(bands), stats.mean, stats.std, list(classes), threshold=.5 if n_out == 1 else None)
    if arch is UNet:  # every class is somewhere the highest
        with torch.no_grad():
            out = torch.cat([model(info.normalise(torch.tensor(o.image)[None]))[0].flatten(1) for o in chips], 1)
            if n_out == 1: model.head.bias -= out.quantile(.7)
            else: model.head.bias -= out.mean(1)
    else:
        probs = presence_probabilities(model, info, chips, device='cpu')
        info.threshold = round(float(np.sort(probs)[len(probs)//2]), 3)
    save_model(path, model, info)
    return model, info


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    "Job -> its folder, with a net beside it; made once."
    pytest.importorskip('shapely'), pytest.importorskip('skimage')
    made = {}
    def _job(name):
        if name not in made:
            path = tmp_path_factory.mktemp(name)
            kind, split, classes, bands, *_ = FORMATS[name]
            if name == 'bands': write_bands(path/'data')
            elif name == 'landcover': write_sample_dataset(path/'data', name, n_train=2, n_val=2, size=(72, 90), seed=3)
            else: write_sample_dataset(path/'data', name, n_train=2, n_val=2, size=96, seed=3)
            chips = load_dataset(path/'data', bands=bands, **(dict(shadow='class') if kind == 'clouds' else {}))[split]
            made[name] = path, chips, *net_for(path/'net.pth', chips, classes, bands)
        return made[name]
    return _job


@pytest.mark.parametrize('name', FORMATS)
def test_every_format_by_subprocess_without_torch(job, name, tmp_path):
    "Kind, split, files, numbers, submission; with an .onnx file torch stays out."
    pytest.importorskip('onnxruntime'), pytest.importorskip('onnx')
    from satseg.models.export import export_onnx
    kind, split, classes, bands, n, submission = FORMATS[name]
    path, chips, model, info = job(name)
    if not (path/'net.onnx').exists(): export_onnx(model, info, path/'net.onnx')
    code = ('import runpy, sys; runpy.run_module("satseg.inference", run_name="__main__", alter_sys=True); '
            'print("torch" in sys.modules, "matplotlib" in sys.modules, file=sys.stderr)')
    res = spawn(path, '--model', 'net.onnx', '--dataset', 'data', '--out', tmp_path/'out', '--min_area', 6, code=code)
    remarks = [o for o in res.stderr.splitlines() if '255 in the masks is' in o]
    assert res.returncode == 0 and res.stderr.splitlines() == [*remarks, 'False False'] and len(remarks) < 2, res.stderr
    metrics, names = json.loads((tmp_path/'out'/'metrics.json').read_text()), [o.split('.')[0] for o in chips.names]
    assert [metrics[k] for k in ABOUT] == ['net.onnx', 'data', kind, split, n, False, None]
    assert {o.stem for o in (tmp_path/'out'/'masks').iterdir()} == {o.stem for o in (tmp_path/'out'/'overlays').iterdir()} == set(names)
    cm, objects = 0, {}
    for i, (chip, probs) in enumerate(predict_chips(model, info, chips, device='cpu')):
        pred = class_ids(pixel_probabilities(probs, info), .5)
        stored = np.array(Image.open(tmp_path/'out'/'masks'/f'{names[i]}.png'))
        stored = stored if len(classes) > 3 or name == 'clouds' else stored//255
        assert stored.shape == chip.image.shape[1:] and (stored != pred).mean() < .01
        cm = cm + confusion(stored, chip.mask, len(chips.classes))
        objects[chip.name] = find_objects(probs, info, .5, min_area=6)
    if len(classes) == 2 or classes[-1] == 'border': assert {k: metrics[k] for k in SCORES} == {k: scores(cm)[k] for k in SCORES}
    else: assert metrics['accuracy'] == np.trace(cm)/cm.sum() and list(metrics['by_class']) == classes and 'macro mean' in res.stdout
    assert 0 < metrics['accuracy'] < 1 and metrics['trivial']
    table = tmp_path/'out'/'submission.csv'
    assert table.exists() == bool(submission) and ('submission.csv' in res.stdout) == bool(submission)
    if submission == 'buildings':
        assert validate(table, 'buildings') == []
        assert set(read_building_csv(table)) == set(chips.names)
    if submission == 'ships':
        assert validate(table, 'ships', (96, 96)) == []
        for key, rows in read_ship_csv(table).items():
            assert ((ship_instances(rows, (96, 96)) > 0) != (objects[key] > 0)).mean() < .01
    assert ('objects' in metrics) == (chips.objects is not None and submission is not None)


def test_objects_are_counted_over_the_set(job, cli, tmp_path):
    "An instance model: both ways of finding objects, the same numbers by hand, and the polygons of its own way."
    path, chips, model, info = job('footprints_coco')
    rc, out, err = cli('--model', path/'net.pth', '--dataset', path/'data', '--device', 'cpu', '--min_area', 0, '--out', tmp_path/'out')
    assert rc == 0 and err == '' and 'all empty' in out and 'for inside and border together' in out
    got = json.loads((tmp_path/'out'/'metrics.json').read_text())['objects']
    assert list(got) == ['connected components', 'instances', 'all empty']
    tables = read_building_csv(tmp_path/'out'/'submission.csv')
    for way, watershed in (('connected components', False), ('instances', None)):
        total = 0
        for i, (chip, probs) in enumerate(predict_chips(model, info, chips, device='cpu')):
            found = find_objects(probs, info, .5, watershed, 0)
            n = match_objects(np.where(chip.mask == 255, 0, found), np.where(chip.mask == 255, 0, chips.instances(i)))
            total = n if i == 0 else total + n
            drawn = polygons_to_instances(tables[chip.name], found.shape) > 0  # outlines moved by a pixel at most, holes filled
            if watershed is None: assert (drawn != (found > 0)).mean() < .25 and drawn.any() == found.any()
        assert {k: got[way][k] for k in ('precision', 'recall', 'f1')} == object_scores(total)
        assert got[way]['true'] == total.tp + total.fn > 0
    assert got['all empty']['f1'] == 0


def test_ships_in_two_steps(job, cli, tmp_path):
    "With the gate and without, and drawing nothing, each as counted by hand."
    path, chips, model, info = job('ships')
    gate, about = net_for(path/'gate.pth', chips, SHIP, RGB, Classifier, seed=4)
    args = '--model', path/'net.pth', '--dataset', path/'data', '--device', 'cpu', '--min_area', 3
    rc, out, err = cli(*args, '--presence', path/'gate.pth', '--out', tmp_path/'out')
    assert rc == 0 and err == '' and 'it is right about' in out and 'all empty' in out
    passed = presence_probabilities(gate, about, chips, device='cpu') >= np.float32(about.threshold)
    assert 0 < passed.sum() < len(passed)
    metrics = json.loads((tmp_path/'out'/'metrics.json').read_text())
    true = [chips.instances(i) for i in range(len(chips))]
    found = [find_objects(p, info, info.threshold, min_area=3) for _, p in predict_chips(model, info, chips, device='cpu')]
    gated = [o*bool(p) for o, p in zip(found, passed)]
    for way, preds in {'connected components': found, 'presence, then connected components': gated, 'all empty': [0*o for o in found]}.items():
        assert metrics['objects'][way]['f2'] == pytest.approx(np.mean([image_f2(p, t) for p, t in zip(preds, true)]), abs=1e-12)
    assert metrics['presence']['passed'] == passed.sum() and metrics['presence']['model'] == str(path/'gate.pth')
    assert metrics['presence']['accuracy'] == np.mean([bool(t.any()) == p for t, p in zip(true, passed)])
    cm = sum(confusion(class_ids(p, info.threshold)*np.uint8(k), o.mask) for (o, p), k in zip(predict_chips(model, info, chips, device='cpu'), passed))
    assert metrics['presence']['pixels'] == {k: scores(cm)[k] for k in SCORES}
    for i, name in enumerate(chips.names):
        assert np.array(Image.open(tmp_path/'out'/'masks'/f'{name.split(".")[0]}.png')).any() <= passed[i]
        assert bool(read_ship_csv(tmp_path/'out'/'submission.csv')[name]) == gated[i].any()
    f2 = evaluate(model, info, chips, min_area=3, device='cpu').objects.f2
    assert f2['connected components'] == [image_f2(p, t) for p, t in zip(found, true)] and f2['all empty'] == [float(not t.any()) for t in true]


def test_chips_of_equal_names_are_all_submitted(cli, tmp_path):
    pytest.importorskip('shapely'), pytest.importorskip('skimage')
    for part in ('train', 'val'):
        for folder, value in (('images', 99), ('masks', 0)):
            (tmp_path/'data'/part/folder).mkdir(parents=True)
            for k in range(2): Image.fromarray(np.full((32, 32, 3)[:2+(value > 0)], value+k*(value > 0), np.uint8)).save(tmp_path/'data'/part/folder/f'{k}.png')
    rc, out, err = cli('--dataset', tmp_path/'data', '--split', 'all', '--options', 'all_bands=B04,B03,B02', '--out', tmp_path/'out')
    names = {o.stem for o in (tmp_path/'out'/'masks').iterdir()}
    assert rc == 0 and 'chips of equal names go by' in out and len(names) == 4 and set(read_building_csv(tmp_path/'out'/'submission.csv')) == names


def test_choose_presence_threshold_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        probs, seg, empty = rng.random(n).astype(np.float32), rng.random(n), rng.integers(0, 2, n)
        def mean(t): return np.where(probs >= np.float32(t), seg, empty).mean()
        assert mean(choose_presence_threshold(probs, seg, empty)) == pytest.approx(max(mean(t/1000) for t in range(1001)), abs=1e-6)
    assert choose_presence_threshold([.2, .8], [1, 1], [0, 0]) < .2 and choose_presence_threshold([.2, .8], [0, 0], [1, 1]) > .8


def test_class_map_onnx_gives_the_same_masks(job, cli, tmp_path):
    pytest.importorskip('onnxruntime'), pytest.importorskip('onnx')
    from satseg.models.export import export_onnx
    for name in ('landcover', 'ships'):
        path, chips, model, info = job(name)
        export_onnx(model, info, path/'map.onnx', class_map=True)
        for net in ('net.pth', 'map.onnx'):
            rc, out, err = cli('--model', path/net, '--dataset', path/'data', '--out', tmp_path/f'{name}_{net}')
            assert rc == 0, err
        for o in (tmp_path/f'{name}_net.pth'/'masks').iterdir():
            assert (np.array(Image.open(o)) != np.array(Image.open(tmp_path/f'{name}_map.onnx'/'masks'/o.name))).mean() < .001
        rc, out, err = cli('--model', path/'map.onnx', '--dataset', path/'data', '--threshold', '0.4')
        assert rc == 2 and 'its threshold is inside' in err


def test_help_has_hyphens():
    assert '--min-area' in spawn('.', '--help').stdout  # Fault 18


def test_options_reach_the_reader(job, cli):
    path, chips, model, info = job('clouds')
    args = '--model', path/'net.pth', '--dataset', path/'data', '--device', 'cpu'
    assert cli(*args)[0] == 0
    rc, out, err = cli(*args, '--options', 'shadwo=class')
    assert rc == 2 and 'did you mean shadow?' in err
    rc, out, err = cli(*args, '--options', 'shadow=background')
    assert rc == 0 and 'classes matched by name' in out and 'shadow=' not in out
    for option,words in (('bands=B02', 'the model names the bands'), ('path=x', 'give --dataset'), ('kind=coco', 'give --kind'), ('all_bands=B02', '1 bands B02'), ('all_bands=B02', '--options all_bands=')):
        rc, out, err = cli(*args, '--options', option)
        assert rc == 2 and words in err and err.count('\n') == 1


def test_metrics_name_options_and_guess_at_nothing(job, cli, tmp_path):
    path, chips, model, info = job('clouds')
    rc, out, err = cli('--model', path/'net.pth', '--dataset', path/'data', '--device', 'cpu', '--options', 'shadow=ignore', '--out', tmp_path/'o')
    metrics = json.loads((tmp_path/'o'/'metrics.json').read_text())
    assert rc == 0 and metrics['options'] == dict(shadow='ignore')
    assert 'learned from' not in out + json.dumps(metrics)  # A model file holds no hashes of its chips, so nobody knows


def test_without_the_geo_extra_pixels_are_still_scored(job, cli, monkeypatch, tmp_path):
    import importlib.util
    real = importlib.util.find_spec
    path, *_ = job('footprints_pairs')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *args: None if name in ('skimage', 'shapely') else real(name, *args))
    rc, out, err = cli('--model', path/'net.pth', '--dataset', path/'data', '--device', 'cpu', '--out', tmp_path/'out')
    assert rc == 0 and install_command('geo') in out and not (tmp_path/'out'/'submission.csv').exists()


def test_class_names_in_the_other_order_are_matched_by_name():
    "A perfect net scored IoU 0: two classes were matched by their place (fault 1)."
    mask = np.eye(8, dtype=np.uint8)
    chips = Chips([mask[..., None]*1000.], [1-mask], bands=['R'], classes=('building', 'background'))
    class Perfect(torch.nn.Module):
        def forward(self, x): return 9*x
    info = ModelInfo('Perfect', dict(n_in=1, n_out=1), bands=['R'], mean=[500.], std=[500.])
    res = evaluate(Perfect(), info, chips, device='cpu')
    assert res.metrics()['iou'] == 1 and res.remark == 'classes matched by name'
    other = Chips([mask[..., None]*1000.], [mask], bands=['R'], classes=('land', 'house'))
    res = evaluate(Perfect(), info, other, device='cpu')
    assert res.metrics()['iou'] == 1 and 'house of the masks is compared with building' in res.remark


def test_the_net_runs_once_over_each_chip(place):
    "Objects, report and rows all come from one forward pass per chip (fault 11)."
    calls = []
    class Counted(torch.nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x[:, :1]
    chips = sample_chips(5, 32, seed=1)
    info = ModelInfo('Counted', dict(n_in=3, n_out=1), mean=[900.]*3, std=[250.]*3)
    from satseg.evaluation.report import report
    report(evaluate(Counted(), info, chips, device='cpu', bs=2), place/'once', overwrite=True)
    assert sum(calls) == 5


def test_a_remark_on_readings_takes_little_memory():
    "Eight chips of 2,000 pixels took 768 MB (fault 14)."
    import tracemalloc
    from satseg.data.chips import Cache
    from satseg.evaluation.open_dataset import check_distribution_shift
    images = Cache(lambda i: np.full((1500, 1500, 3), 900, np.uint16), 8, 0)
    tracemalloc.start()
    check_distribution_shift(ModelInfo(mean=[900.]*3, std=[250.]*3), Chips(images))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # One chip as float32 is 27 MB; all eight twice were 432 MB


def test_parts_that_nobody_asked_for_may_be_empty(place, cli):
    "A pickle whose train is empty, or missing, was refused (fault 16)."
    chip = dict(image=np.ones((32, 32, 3), np.uint16), mask=np.eye(32, dtype=np.uint8))
    for name, parts in (('empty', dict(train=[], val=[chip])), ('missing', dict(val=[chip]))):
        (place/f'{name}.pickle').write_bytes(pickle.dumps(parts))
        rc, out, err = cli('--model', 'model.pth', '--dataset', f'{name}.pickle', '--device', 'cpu')
        assert rc == 0 and 'split val: 1 chips' in out, err


def test_all_is_always_a_split():
    "--split all was refused where the only part is called test (fault 17)."
    from satseg.evaluation.open_dataset import pick_split
    chips = sample_chips(3, 32, seed=1)
    assert len(pick_split(dict(test=chips), 'all', 'x')[1]) == 3
    assert pick_split(dict(train=chips, val=chips), 'all', 'x')[1].names == chips.names*2
    assert pick_split(dict(train=chips, val=chips), None, 'x')[0] == 'val'


def test_match_classes_by_name_and_by_place():
    chips = Chips([np.ones((1, 4, 3))], [np.uint8([[0, 1, 2, 255]])], classes=('water', 'road', 'snow'), has_ignore=True)
    res, remark = match_classes(chips, ModelInfo(classes=['road', 'forest', 'water']))
    assert res[0].mask.tolist() == [[2, 0, 255, 255]] and 'snow' in remark
    with pytest.raises(BadInput, match='rename'): match_classes(chips, ModelInfo(classes=['background', 'snow']))
    two = Chips([np.ones((1, 2, 3))], [np.uint8([[0, 1]])], classes=('land', 'boat'))
    res, remark = match_classes(two, ModelInfo(classes=['background', 'ship']))
    assert res.classes == ('background', 'ship') and two.classes == ('land', 'boat') and 'boat' in remark
    border = Chips([np.ones((1, 3, 3))], [np.uint8([[0, 1, 2]])], classes=tuple(BORDER))
    assert match_classes(border, ModelInfo(classes=BORDER)) == (border, '')


def test_which_submission():
    township = ['background', 'township']  # Was scored as ships (fault 8)
    for classes, kind, want in ((township, 'folders', None), (BUILDING, 'folders', 'buildings'), (BORDER, 'coco', 'buildings'), (BUILDING, 'pickle', None), (SHIP, 'bands', 'ships'),
                                (LAND, 'folders', None), (['clear', 'cloud'], 'bands', None), (['a', 'b'], 'ships', 'ships')):
        assert submission_kind(ModelInfo(classes=classes), kind) == want


def test_strict_refuses_what_is_left_out_otherwise(tmp_path):
    path = write_sample_dataset(tmp_path/'d', 'footprints_coco', 2, 1, 64) and tmp_path/'d'/'val'/'val.json'
    data = json.loads(path.read_text())
    data['annotations'][0]['segmentation'] = [[1, 2, 3, 4]]
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match='1 annotations without a part of three points'): main(None, str(tmp_path/'d'), options='all_bands=B04,B03,B02', any_resolution=True, quiet=True)
    with pytest.raises(BadInput, match='strict'): main(None, str(tmp_path/'d'), options='all_bands=B04,B03,B02', any_resolution=True, strict=True, quiet=True)
