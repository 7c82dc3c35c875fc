"""Every engine gives the probabilities of the net; memory that runs out; files that are no nets; the cache."""
import os

import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.core.files import bundled_file
from satseg.models.engines import ENGINES, load_engine, window_size
from satseg.models.model_info import ModelInfo
from satseg.models.onnx import as_onnx, file_hash
from satseg.models.predict import batch_probabilities

pytest.importorskip('onnxruntime'); pytest.importorskip('openvino')


def write_net(path, make, classes=('background', 'building'), chip=64, seed=1, onnx=True, threshold=None, **kw):
    "A net of `satseg.models` whose running means fit, as a model file and as ONNX beside it; returns it with its description."
    import torch
    from satseg.models.export import export_onnx
    from satseg.models.model_file import save_model
    torch.manual_seed(seed)
    net = make().train()
    with torch.no_grad():
        for _ in range(3): net(torch.randn(4, net.arguments['n_in'], 64, 64))
        net.eval()
        for m in net.modules():
            last = isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1,1) and m.out_channels == net.arguments['n_out']
            if last: m.weight *= 4  # Not all near one half
    one = net.arguments['n_out'] == 1
    names = [['B02'], ['B02','B03','B04']][net.arguments['n_in'] == 3]
    info = ModelInfo(type(net).__name__, net.arguments, names, [900.,800,600][:len(names)], [200.,200,250][:len(names)], list(classes),
                     threshold=(threshold or .5) if one else None, chip_size=chip, **kw)
    save_model(path, net, info)
    if onnx: export_onnx(net, info, path.with_suffix('.onnx'))
    return net,info


def one_pass(net, info, x):
    "Probabilities (K,H,W) of readings (C,H,W) in one pass."
    import torch
    with torch.no_grad(): return batch_probabilities(net, info.normalise(torch.from_numpy(x)[None]))[0].numpy()


@pytest.fixture(scope='session')
def nets(tmp_path_factory):
    from satseg.models.unet import UNet
    folder = tmp_path_factory.mktemp('nets')
    os.environ['SATSEG_CACHE'] = str(folder/'cache')
    one,three = write_net(folder/'one.pth', lambda: UNet(3, 1, (4, 8, 16))),write_net(folder/'three.pth', lambda: UNet(3, 3, (4, 8)), 'abc')
    return folder,dict(one=one, three=three)


@pytest.mark.parametrize('name', ['one', 'three'])
@pytest.mark.parametrize('engine', ENGINES)
def test_probabilities_are_those_of_the_net(nets, name, engine):
    folder,(net,info) = nets[0],nets[1][name]
    e = load_engine(folder/f'{name}.{"pth" if engine == "torch" else "onnx"}', engine, threads=1)
    assert e.info == info and e.facts['multiple'] == net.multiple
    rng = np.random.default_rng(0)
    for b,h,w in ((1, 64, 64), (3, 32, 96), (1, 64, 64), (2, 8, 8)):
        x = rng.normal(900, 400, (b, 3, h, w)).astype(np.float32)
        got = e(x)
        assert got.dtype == np.float32 and got.shape == (b, net.arguments['n_out'], h, w)
        np.testing.assert_allclose(got, np.stack([one_pass(net, info, o) for o in x]), atol=1e-5)
        for part in (x[:, :, ::1], np.asfortranarray(x), x[:, :, ::-1][:, :, ::-1]): np.testing.assert_allclose(e(part), got, atol=1e-6)
        alone = np.concatenate([e(o[None]) for o in x])  # A run may go on with other batches
        np.testing.assert_allclose(alone, got, rtol=0, atol=1e-6 if engine == 'torch' else 0)


@pytest.mark.parametrize('engine', ENGINES[:2])
def test_sides_that_are_no_multiples(nets, engine):
    "OpenVINO dropped the mirror of the padding: 250 x 250 was off by 1."
    path = bundled_file('unet_model.pth')
    e,torch = load_engine(path, engine, threads=1),load_engine(path, 'torch', 'cpu', threads=1)
    for h,w in ((250, 250), (97, 101), (1, 1)):
        x = np.random.default_rng(0).normal(900, 400, (1, 3, h, w)).astype(np.float32)
        np.testing.assert_allclose(e(x), torch(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', ['average', 'mirror'])
def test_a_net_that_openvino_computes_otherwise(nets, name, tmp_path, monkeypatch):
    "The proof of the export keeps OpenVINO from it; onnxruntime runs it, and the name says why."
    import torch
    from satseg.models import unet
    class Averages(unet.UNet):
        def forward(self, x):
            (h,w),f = x.shape[-2:],torch.nn.functional
            return super().forward(f.interpolate(f.avg_pool2d(x, 3, 2, 1, True, True), scale_factor=2)[..., -h:, -w:])
    def mirror(n, multiple, device):
        places = torch.arange((n-1+multiple)//multiple*multiple, device=device)
        return (n-1-(n-1-places).abs()).clamp(min=0)
    make = Averages if name == 'average' else unet.UNet
    if name == 'mirror': monkeypatch.setattr(unet, '_mirrored', mirror)
    net,info = write_net(tmp_path/'net.pth', lambda: make(3, 1, (4, 8)), onnx=False)
    from satseg.models.export import export_onnx
    info.architecture = 'UNet'
    assert export_onnx(net, info, tmp_path/'net.onnx') <= 1e-4
    e = load_engine(tmp_path/'net.onnx', threads=1)
    assert (e.kind, e.name) == ('onnxruntime', 'onnxruntime, as OpenVINO computes this net otherwise')
    x = np.random.default_rng(0).normal(900, 400, (1, 3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(e(x)[0], one_pass(net, info, x[0]), atol=1e-5)
    with pytest.raises(BadInput, match='otherwise than torch.*leave --engine out'): load_engine(tmp_path/'net.onnx', 'openvino')


@pytest.mark.parametrize('error,words', [(MemoryError(), r'not enough memory for 2 window\(s\) of 48 x 32 pixels: give a smaller --memory'),
    (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), 'smaller --memory'),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 'smaller --memory'),
    (RuntimeError('expected scalar type'), r'torch on cpu failed \(expected scalar type\)')], ids=str)
def test_out_of_memory_is_one_line(nets, error, words):
    import torch
    class Full(torch.nn.Module):
        def forward(self, x): raise error
    e = load_engine(nets[0]/'one.pth', 'torch', 'cpu')
    e.net = Full(), *e.net[1:]
    with pytest.raises(BadInput, match=words) as seen: e(np.zeros((2, 3, 32, 48), np.float32))
    assert seen.value.__context__ is None # No traceback of the engine's own


def test_window_size(nets):
    e = load_engine(nets[0]/'one.onnx', 'onnxruntime')
    cell,least = e.facts['multiple'],2*e.facts['halo']+8*e.facts['multiple']
    sizes = [window_size(e, o) for o in (5e8, 7e8, 1e9, 2e9)]
    assert sizes == sorted(sizes) and all(o % cell == 0 and least <= o <= 2048 for o in sizes) and window_size(e, 1e13) == 2048
    assert window_size(e, 5e8) > window_size(e, 5e8, weights=30_000_000)
    for memory in (0, -1, 1e6, e.base):
        with pytest.raises(BadInput, match=f'MB or more .*{least} pixels'): window_size(e, memory)


def test_the_cache(nets, tmp_path, monkeypatch):
    monkeypatch.setenv('SATSEG_CACHE', str(tmp_path/'c'))
    path = nets[0]/'three.pth'
    first,digest = as_onnx(path)
    assert first.parent == tmp_path/'c' and oct(first.parent.stat().st_mode)[-3:] == '700'
    assert digest == file_hash(path) and digest in first.name
    stamp = first.stat().st_mtime_ns
    (tmp_path/'other.pth').write_bytes(path.read_bytes())
    assert as_onnx(tmp_path/'other.pth') == (first, digest) and first.stat().st_mtime_ns == stamp and [*first.parent.iterdir()] == [first]
    assert as_onnx(nets[0]/'one.onnx') == (nets[0]/'one.onnx', file_hash(nets[0]/'one.onnx'))


@pytest.mark.parametrize('engine', ENGINES)
def test_a_model_file_is_hashed_once(nets, engine, monkeypatch):
    path,seen = nets[0]/'one.pth',[]
    def count(o):
        seen.append(o)
        return file_hash(o)
    for module in ('engines', 'onnx'): monkeypatch.setattr(f'satseg.models.{module}.file_hash', count)
    assert load_engine(path, engine, threads=1).hash == file_hash(path) and seen == [path]


def test_a_model_file_that_changes_while_it_is_exported_is_not_kept(nets, tmp_path, monkeypatch):
    import satseg.models.onnx as O
    monkeypatch.setenv('SATSEG_CACHE', str(tmp_path/'c'))
    path,run = tmp_path/'net.pth',O.subprocess.run
    path.write_bytes((nets[0]/'three.pth').read_bytes())
    def change(*args, **kw):
        res = run(*args, **kw)
        path.write_bytes((nets[0]/'one.pth').read_bytes())
        return res
    monkeypatch.setattr(O.subprocess, 'run', change)
    with pytest.raises(BadInput, match='changed while read'): as_onnx(path)
    assert not [*(tmp_path/'c').iterdir()]


BAD = {'no file': ('none.pth', {}, 'no such model file'), 'no such onnx': ('none.onnx', {}, 'none.onnx'),
       'engine': ('one.onnx', dict(engine='tensorrt'), 'openvino, onnxruntime, torch'),
       'text': ('text.pth', {}, 'text.pth'), 'text onnx': ('text.onnx', {}, 'text.onnx'),
       'folder': ('folder.pth', {}, 'folder.pth'), 'folder onnx': ('folder.onnx', {}, 'folder.onnx'),
       'torch onnx': ('one.onnx', dict(engine='torch'), '.pth'), 'odd device': ('one.pth', dict(device='tpu'), 'cpu, cuda'),
       'device': ('one.onnx', dict(engine='openvino', device='cuda'), 'leave one out'),
       'no gpu': ('one.pth', dict(device='cuda:77'), 'no such GPU'),
       'half': ('one.onnx', dict(engine='onnxruntime', half=True), 'half'), 'presence': ('presence.pth', dict(engine='torch'), 'presence classifier')}


@pytest.mark.parametrize('case', BAD)
def test_no_engine(nets, tmp_path, monkeypatch, case):
    folder = nets[0]
    for o in ('text.pth', 'text.onnx'): (folder/o).write_text('no net')
    for o in ('folder.pth', 'folder.onnx'): (folder/o).mkdir(exist_ok=True)
    if case == 'presence':
        from satseg.models.encoders import Classifier
        from satseg.models.model_file import save_model
        net = Classifier(n_in=3, widths=(4,8))
        save_model(folder/'presence.pth', net, ModelInfo('Classifier', net.arguments, ['B02','B03','B04']))
    name,kw,words = BAD[case]
    with pytest.raises(BadInput) as e: load_engine(folder/name, **{**dict(threads=1), **kw})
    assert words in str(e.value) and '\n' not in str(e.value)


def test_class_maps_are_no_probabilities(nets):
    from satseg.models.export import export_onnx
    export_onnx(*nets[1]['one'], nets[0]/'ids.onnx', class_map=True)
    for engine in ('openvino', 'onnxruntime'):
        with pytest.raises(BadInput, match='leave --class-map out'): load_engine(nets[0]/'ids.onnx', engine)
