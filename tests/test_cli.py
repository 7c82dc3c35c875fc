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

from satseg.data import BadInput, Chips, band_stats, load_pickle, save_pickle
from satseg.inference import batch_probabilities, class_ids, evaluate, file_names, main, paint_errors, predict, write_folder
from satseg.metrics import confusion, scores
from satseg.models import ModelInfo, UNet, load_model, save_model
from satseg.sample import SCENE_CLASSES, sample_chips

ROOT = Path(__file__).resolve().parent.parent
ENV = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
KEYS = ['split', 'n', 'threshold', 'iou', 'dice', 'precision', 'recall', 'accuracy', 'by_threshold', 'trivial']
HEAVY = ['fastai', 'torchvision', 'matplotlib', 'pandas', 'scipy', 'sklearn', 'IPython']


def small_unet(chips, n_out=1, classes=('background', 'building'), seed=0, **kw):
    "An untrained net whose probabilities lie around its threshold, and its description."
    torch.manual_seed(seed)
    model = UNet(n_in=len(chips.bands), n_out=n_out, widths=(4, 8), **kw).eval()
    stats = band_stats(chips)
    info = ModelInfo('UNet', model.arguments, list(chips.bands), stats.mean, stats.std, list(classes), threshold=.5 if n_out == 1 else None)
    if n_out == 1:
        probs = np.concatenate([p.ravel() for _, p in predict(model, info, chips, device='cpu')])
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
    assert 'torch' in modules and not set(HEAVY) & set(modules)
    names = [f'val_{i}' for i in range(5)]
    assert files(out) == sorted(['.satseg', 'masks', 'metrics.json', 'overlays', *(f'{k}/{o}.png' for k in ('masks', 'overlays') for o in names)])
    assert files(tmp_path) == sorted(['new', 'new/maps', *(f'new/maps/{o}' for o in files(out))])
    metrics = json.loads((out/'metrics.json').read_text())
    assert list(metrics) == KEYS and (metrics['split'], metrics['n']) == ('val', 5)
    assert 'split val: 5 chips' in res.stdout and f"threshold {metrics['threshold']:g} from the model file" in res.stdout
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
        assert np.array(Image.open(out/'overlays'/f'{name}.png')).shape == (*mask.shape, 3)
    assert {k: metrics[k] for k in KEYS[3:8]} == {k: scores(cm)[k] for k in KEYS[3:8]}
    assert 0 < metrics['iou'] < 1 and metrics['by_threshold'][f"{info.threshold:g}"]['iou'] == metrics['iou']
    assert set(metrics['trivial']) == {'all background', 'all foreground'}


def test_process_help_and_slips_need_no_torch(place):
    code = ('import runpy, sys, atexit; atexit.register(lambda: print("torch" in sys.modules)); '
            'runpy.run_module("satseg.inference", run_name="__main__", alter_sys=True)')
    res = spawn(place, '--help', code=code)
    assert res.returncode == 0 and '--threshold' in res.stdout and res.stdout.endswith('False\n')
    for args in (['--model', 'nothing.pth'], ['--model', 'model.pth', '--dataset', 'nothing.pickle']):
        res = spawn(place, *args, code=code)
        assert (res.returncode, res.stdout) == (2, 'False\n') and res.stderr.count('\n') == 1 and 'nothing.p' in res.stderr


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
    (place/'empty.pth').write_bytes(b'')
    chip = dict(image=np.ones((32, 32, 3), np.uint16), mask=np.eye(32, dtype=np.uint8))
    def write(name, o): (place/name).write_bytes(pickle.dumps(o))
    write('hostile.pickle', Opener())
    write('4bands.pickle', [{**chip, 'image': np.ones((32, 32, 4))}])
    write('2bands.pickle', [{**chip, 'image': np.ones((32, 32, 2))}])
    write('grey.pickle', [{**chip, 'image': np.ones((32, 32))}])
    write('nan.pickle', [chip, {**chip, 'image': np.full((32, 32, 3), np.nan)}])
    write('ids.pickle', [{**chip, 'mask': np.full((32, 32), 7, np.uint8)}])
    write('sizes.pickle', [{**chip, 'mask': np.zeros((16, 16), np.uint8)}])
    write('torch.pickle', [dict(image=torch.ones(3, 32, 32))])
    write('nothing.pickle', [])
    (place/'cut.pickle').write_bytes((place/'data.pickle').read_bytes()[:-1000])
    (place/'a file').write_text('')


BAD = {  # option values that replace the good ones -> a part of the line
    'no model': (dict(model='no.pth'), 'no.pth: expected a model file, found no such file'),
    'model is a folder': (dict(model='.'), 'found a folder'),
    'bare state dict': (dict(model='bare.pth'), 'a bare state dict'),
    'pickled module': (dict(model='whole.pth'), "runs nobody's code"),
    'text as model': (dict(model='text.pth'), 'damaged, or another kind of file'),
    'empty model': (dict(model='empty.pth'), 'empty.pth: '),
    'pickle as model': (dict(model='data.pickle'), 'data.pickle: '),
    'other architecture': (dict(model='other.pth'), "'Segmenter'"),
    'other weights': (dict(model='widths.pth'), 'do not fit'),
    'contradiction': (dict(model='contradiction.pth', dataset='2bands.pickle'), 'contradicts itself'),
    'terminal codes': (dict(model='codes.pth'), 'bands: expected printable names'),
    'no dataset': (dict(dataset='no.pickle'), 'no.pickle: expected a pickle'),
    'dataset is a folder': (dict(dataset='.'), 'found a folder'),
    'model as dataset': (dict(dataset='model.pth'), 'model.pth: '),
    'cut dataset': (dict(dataset='cut.pickle'), 'truncated'),
    'hostile dataset': (dict(dataset='hostile.pickle'), 'refuses io.open'),
    'tensors': (dict(dataset='torch.pickle'), 'refuses torch'),
    'empty list': (dict(dataset='nothing.pickle'), 'the list is empty'),
    'four bands': (dict(dataset='4bands.pickle'), 'expected 3 bands (B02,B03,B04) as the model was trained on, got shape (32,32,4): '),
    'no band axis': (dict(dataset='grey.pickle'), 'as the model was trained on, got shape (32,32): '),
    'NaN': (dict(dataset='nan.pickle'), 'all[1]: image: 3,072 of 3,072 values are NaN'),
    'unknown ids': (dict(dataset='ids.pickle'), 'hold 7: expected the ids 0 to 1'),
    'mask of another size': (dict(dataset='sizes.pickle'), 'differ in size'),
    'split': (dict(split='valid'), 'expected a split out of train, val, got valid'),
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
    rc, out, err = cli(*(o for k, v in options.items() for o in ([f'--{k}'] if v is True else [f'--{k}', v])))
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
    assert list(metrics) == ['split', 'n', 'threshold'] and len(files(tmp_path/'maps'/'overlays')) == 2


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
    assert mask.mode == 'P' and np.array_equal(np.array(mask), class_ids(next(predict(model, info, chips, device='cpu'))[1]))
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


# ---- the functions

def test_main_is_a_function(place, capsys):
    res = main(str(place/'model.pth'), str(place/'data.pickle'), device='cpu', quiet=True)
    assert list(res) == KEYS and 'IoU' in capsys.readouterr().out
    with pytest.raises(BadInput): main(str(place/'no.pth'))


def test_predict_order_sizes_and_batches(place):
    model, info = load_model(place/'model.pth')
    chips = load_pickle(place/'data.pickle')['val']
    first = list(predict(model, info, chips, bs=1, device='cpu'))
    for bs in (2, 8):
        for (a, p), (b, q) in zip(first, predict(model, info, chips, bs=bs, device='cpu'), strict=True):
            assert a.name == b.name and p.shape == a.mask.shape and q.dtype == np.float32 and np.allclose(p, q, atol=1e-5)
    a, b = (evaluate(model, info, chips, bs=bs, device='cpu') for bs in (1, 4))
    assert a.n == b.n == sum((o.mask != 255).sum() for o in chips)


def test_predict_is_lazy_and_checks_at_once(place):
    model, info = load_model(place/'model.pth')
    taken = []
    class Images(list):
        def __getitem__(self, i):
            taken.append(i)
            return super().__getitem__(i)
    chips = Chips(Images([np.ones((16, 16, 3), np.uint8)]*9))
    it = predict(model, info, chips, bs=2, device='cpu')
    assert taken == []
    next(it)
    assert len(taken) <= 3
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()  # nothing leaks into the caller between two chips
    with pytest.raises(BadInput): predict(model, info, chips, bs=0)
    with pytest.raises(BadInput): predict(model, info, Chips([np.ones((16, 16, 3))], bands=('B04', 'B03', 'B02')))


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
    slow = [p for _, p in predict(model, info, chips, device='cpu')]
    for p, (_, q) in zip(slow, predict(model, info, chips, device='cuda')): assert np.abs(p - q).max() < .02


def test_file_names_differ_and_are_safe():
    names = ['../a', '..\\a', 'a/../b', 'val[3]', 'VAL[3]', '', '...', 'x'*300, 'x'*301, 'nul\0l', 'Zürich']
    got = file_names(names)
    assert len({o.lower() for o in got}) == len(names) and 'Zürich' in got
    assert all(o and not o.startswith('.') and not set('/\\\0[]') & set(o) and len(o) < 80 for o in got)


def test_paint_errors_leaves_ignored_and_background():
    rgb = np.full((2, 3, 3), 100, np.uint8)
    res = paint_errors(rgb, np.uint8([[1, 1, 0], [0, 1, 0]]), np.uint8([[255, 0, 0], [1, 1, 255]]))
    changed = (res != 100).any(-1)
    assert changed.tolist() == [[False, True, False], [True, True, False]] and len(np.unique(res[changed], axis=0)) == 3


def test_write_folder_keeps_foreign_things(tmp_path):
    home = tmp_path/'home'
    home.mkdir()
    with write_folder(home) as folder: (folder/'a').write_text('1')  # an empty folder may be filled
    (tmp_path/'link').symlink_to(home)
    with write_folder(tmp_path/'link', overwrite=True) as folder: (folder/'b').write_text('2')
    assert files(home) == ['.satseg', 'b'] and (tmp_path/'link').is_symlink()
    with pytest.raises(BadInput):  # something appears while we compute
        with write_folder(tmp_path/'late') as folder:
            (tmp_path/'late').mkdir()
            (tmp_path/'late'/'c').write_text('3')
    assert files(tmp_path/'late') == ['c']
    with pytest.raises(BadInput):
        with write_folder('/', overwrite=True): pass
    assert not [o for o in tmp_path.iterdir() if o.name.startswith('.')]


def test_readings_in_other_units_are_remarked_on(place, tmp_path, capsys):
    chips = sample_chips(2, size=32, seed=5)
    save_pickle(tmp_path/'reflectance.pickle', dict(all=Chips([chips.raw(i)[0]/10000 for i in range(2)], [chips.raw(i)[1] for i in range(2)])))
    save_pickle(tmp_path/'readings.pickle', dict(all=chips))
    main(model=str(ROOT/'unet_model.pth'), dataset=str(tmp_path/'reflectance.pickle'))
    assert 'careful: ' in capsys.readouterr().out
    main(model=str(ROOT/'unet_model.pth'), dataset=str(tmp_path/'readings.pickle'))
    assert 'careful: ' not in capsys.readouterr().out
