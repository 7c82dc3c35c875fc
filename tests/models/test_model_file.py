"""Model files: what is saved can be read; damaged, foreign and hostile ones are refused."""
import functools
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from satseg.core.errors import BadInput
from satseg.data.pickles import load_pickle
from satseg.evaluation.evaluate import evaluate
from satseg.models.unet import UNet
from satseg.models.model_info import ModelInfo
from satseg.models.model_file import ARCHITECTURES, load_model, save_model
from satseg.data.synthetic import sample_chips


ROOT = Path(__file__).resolve().parent.parent.parent
ARGS = dict(n_in=3, n_out=1, widths=[8,16])

@pytest.fixture
def saved(tmp_path):
    "Path of a small model file, and its net."
    torch.manual_seed(0)
    net = UNet(**ARGS).eval()
    save_model(tmp_path/'net.pth', net, ModelInfo(arguments=ARGS, trained_on='nothing'))
    return tmp_path/'net.pth', net


def test_file_gives_back_the_same_net(saved):
    path,net = saved
    again,info = load_model(path)
    x = torch.rand(2,3,20,30)
    with torch.no_grad(): assert torch.equal(again(x), net(x))
    assert not again.training and info.trained_on == 'nothing' and all(p.requires_grad for p in again.parameters())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    path,net = saved
    before = path.read_bytes()
    monkeypatch.setattr(torch, 'save', lambda *a: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError): save_model(path, net, ModelInfo(arguments=ARGS))
    assert path.read_bytes() == before and [o.name for o in path.parent.iterdir()] == ['net.pth']


def test_two_writers_of_one_model_file(saved, monkeypatch):
    "While one is at work another writes the same file: both come to their end, and the file is whole."
    path,net = saved
    write = torch.save
    def slow(d, tmp):
        write(d, tmp)
        monkeypatch.setattr(torch, 'save', write)
        save_model(path, net, ModelInfo(arguments=ARGS, trained_on='the second'))
    monkeypatch.setattr(torch, 'save', slow)
    save_model(path, net, ModelInfo(arguments=ARGS, trained_on='the first'))
    assert load_model(path)[1].trained_on == 'the first' and [o.name for o in path.parent.iterdir()] == ['net.pth']


class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


def changed(path, **kw):
    d = torch.load(path, weights_only=True)
    for k,v in kw.items():
        if v is None: del d[k]
        else: d[k] = v
    torch.save(d, path)


@pytest.mark.parametrize('what, words', [
    ('evil', "runs no code out of files"), ('evil legacy', 'damaged'), ('module', "runs no code out of files"), ('bare', 'bare state dict'), ('list', 'a list of another program'),
    ('empty', 'damaged'), ('text', 'damaged'), ('cut', 'damaged'), ('absent', 'no such model file'), ('folder', 'no such model file'), ('version', 'version 1, got 99'),
    ('lacks', 'lacks bands'), ('architecture', "got 'Net9'"), ('shape', 'do not fit'), ('arguments', 'do not fit'), ('huge', 'do not fit'), ('plain zip', 'damaged')])
def test_files_that_are_no_model(saved, tmp_path, what, words):
    path,net = saved
    spot = tmp_path/'it_ran'
    if what == 'evil': torch.save({'format':'satseg-model', 'x':Evil(spot)}, path)
    elif what == 'evil legacy': path.write_bytes(pickle.dumps(Evil(spot)))
    elif what == 'module': torch.save(net, path)
    elif what == 'bare': torch.save(net.state_dict(), path)
    elif what == 'list': torch.save([1,2], path)
    elif what == 'empty': path.write_bytes(b'')
    elif what == 'text': path.write_text('weights')
    elif what == 'cut': path.write_bytes(path.read_bytes()[:-3000])
    elif what == 'absent': path.unlink()
    elif what == 'folder': path = tmp_path
    elif what == 'version': changed(path, version=99)
    elif what == 'lacks': changed(path, bands=None)
    elif what == 'architecture': changed(path, architecture='Net9')
    elif what == 'shape': changed(path, arguments={**ARGS, 'widths':[8,32]})
    elif what == 'arguments': changed(path, arguments={'colour':'red'})
    elif what == 'huge': changed(path, arguments={**ARGS, 'widths':[8,10**7]})
    elif what == 'plain zip':
        with zipfile.ZipFile(path, 'w') as z: z.writestr('a.txt', 'b')
    with pytest.raises(BadInput, match=words) as e: load_model(path)
    assert '\n' not in str(e.value) and not spot.exists()


def refused(path):
    with pytest.raises(BadInput) as e: load_model(path)
    msg = str(e.value)
    assert msg.startswith(f'{path}: ') and msg.isprintable() and len(msg) < 600 + len(str(path))
    return msg


WEIGHT = 'encoder.blocks.0.0.weight'  # (8,3,3,3)

@pytest.mark.parametrize('make', [
    lambda w: w.to_sparse(), lambda w: w.double(), lambda w: w.half(), lambda w: w.long(), lambda w: w.to(torch.complex64), lambda w: nn.Parameter(w), lambda w: w.tolist(), lambda w: None,
    lambda w: w[:1,:1,:1,:1].expand(8,3,3,3), lambda w: w.transpose(2,3), lambda w: w.to('meta'), lambda w: w*float('nan'), lambda w: w/0, lambda w: w[:4]])
def test_weights_that_are_not_plain_finite_tensors(saved, make):
    path,net = saved
    state = net.state_dict()
    state[WEIGHT] = make(state[WEIGHT])
    changed(path, state_dict=dict(state))
    refused(path)


def test_weights_of_other_layers(saved):
    path,net = saved
    state = net.state_dict()
    for o in ([1], {}, {**state, 'x\x1b[2J':torch.ones(1)}, {k:v for k,v in state.items() if k != WEIGHT}):
        changed(path, state_dict=o)
        assert 'other layers' in refused(path)
    changed(path, state_dict={k: v*float('inf') if k.endswith('running_var') else v for k,v in state.items()})
    assert 'NaN or infinite' in refused(path)


@pytest.mark.parametrize('field, values', dict(
    version=['1', 1., True, torch.ones(2), '\x1b[2J', 'x'*10**5],
    architecture=[7, ['UNet'], '\x1b[2J', 'x'*10**5, torch.ones(2)],
    arguments=[[1], {**ARGS, 'widths':[8]*13}, {**ARGS, 'widths':'ab'}, {**ARGS, 'norm':'bn'}, {**ARGS, 'norm':[1]}, {**ARGS, 'dropout':float('nan')}, {**ARGS, 'x\x1b':1},
               {**ARGS, 'n_in':torch.ones(2)}, {**ARGS, 'n_in':10**30}, {**ARGS, 'n_out':4}, {**ARGS, 'colour':'x'*10**5}, {**ARGS, 'widths':[]}, {}],
    bands=['abc', ['B02','B03'], [], [1,2,3], ['B02','B03','\x1b[31m'], ['B02','B03','a\nb'], ['B02','B03','x'*10**5], {'B02':1}],
    mean=[[0.]*2, 'abc', [0.,0.,float('nan')], [0.,0.,float('inf')], ['0']*3, torch.zeros(3), [10**40]*3, [True]*3],
    std=[[1.]*4, [1.,1.,-1.], [1.,1.,float('inf')], [None]*3, 1.],
    classes=[['background'], ['a','b','c'], 'ab', [0,1], ['a','b\x07'], [['a'],['b']]],
    colours=[[[0,0,0]], [[0,0,0],[0,0,256]], [[0,0,0],[0,0]], 'red', [1,2]],
    threshold=['0.5', 2, -.1, float('nan'), [.5], True, torch.tensor(.5)],
    chip_size=[0, '256', [1], float('inf')],
    trained_on=[7, 'a\nb', '\x1b]0;title\x07'],
    scores=[[1], 'good']).items())
def test_descriptions_that_are_damaged(saved, field, values):
    path,_ = saved
    good = path.read_bytes()
    for o in values:
        path.write_bytes(good)
        changed(path, **{field:o})
        refused(path)


def test_error_text_is_short_however_large_the_arguments(saved):
    path,_ = saved
    nested = [1]
    for _ in range(40): nested = [nested, nested]
    for o in (nested, 'x'*99, list(range(12))):
        changed(path, arguments={**ARGS, **{f'a{i}':o for i in range(20)}})
        refused(path)


def test_a_file_that_unpacks_to_more_than_its_size(saved):
    path,net = saved
    with zipfile.ZipFile(path) as z: parts = {o:z.read(o) for o in z.namelist()}
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, 'w', kind) as z:
            for k,v in parts.items(): z.writestr(k, v)
            if kind: z.writestr('archive/data/99', bytes(10**7))
        if kind: assert 'damaged' in refused(path)
        else: assert torch.equal(load_model(path)[0].head.weight, net.head.weight)


@functools.cache
def shipped():
    "Net and description of unet_model.pth; a repository without it is broken, so nothing is skipped."
    path = ROOT/'unet_model.pth'
    assert path.is_file(), 'unet_model.pth is missing in the root: run the tutorial and copy its model file there'
    return path, *load_model(path)


def test_shipped_weights_keep_within_the_limits():
    path,net,info = shipped()
    assert path.stat().st_size <= 15e6
    assert info.bands == ['B02','B03','B04'] and info.classes == ['background','building'] and 0 < info.threshold < 1 and info.trained_on


def test_shipped_weights_find_the_roofs_of_the_sample():
    _,net,info = shipped()
    assert evaluate(net, info, sample_chips(8, seed=2028), device='cpu').total.at(info.threshold)['iou'] >= .75


def test_shipped_weights_find_the_buildings_of_the_real_data(real_data):
    _,net,info = shipped()
    path = real_data/'s2_builtup'/'dataset.pickle'
    if not path.is_file(): pytest.skip(f'no {path}')
    assert evaluate(net, info, load_pickle(path)['val'], device='cpu').total.at(info.threshold)['iou'] >= .56


def describes(net, **kw):
    "A `ModelInfo` that fits `net`."
    a = net.arguments
    n = a['n_in']
    return ModelInfo(type(net).__name__, a, [f'B{i}' for i in range(n)], [0.]*n, [1.]*n, ['a','b'] if a['n_out'] == 1 else list('abcdef'[:a['n_out']]),
                     threshold=.5 if a['n_out'] == 1 else None, **kw)


def test_a_net_that_computes_some_tensors_itself_is_loaded_whole(tmp_path, monkeypatch):
    class Net(nn.Module):
        def __init__(self, n_in=3, n_out=1):
            super().__init__()
            self.arguments,self.head = dict(n_in=n_in, n_out=n_out),nn.Conv2d(n_in, n_out, 1)
            self.register_buffer('seven', torch.full((1,), 7.), persistent=False)
        def forward(self, x): return self.head(x)*self.seven
    monkeypatch.setitem(ARCHITECTURES, 'Net', Net)
    net,x = Net(),torch.rand(1,3,4,4)
    save_model(tmp_path/'net.pth', net, describes(net))
    with torch.no_grad(): assert torch.equal(load_model(tmp_path/'net.pth')[0](x), net(x))


def test_what_is_saved_can_be_read(tmp_path):
    net,path = UNet(3, 1, (4,)),tmp_path/'net.pth'
    info = ModelInfo(arguments=net.arguments, threshold=np.float64(.4), mean=list(np.ones(3)), colours=[tuple(np.zeros(3, int))]*2,
                     scores={'val': {'iou': np.float32(.5), 'pixels': np.int64(7)}})
    save_model(path, net, info)
    got = load_model(path)[1]
    assert got.threshold == .4 and got.scores == {'val': {'iou': .5, 'pixels': 7}} and got.mean == [1,1,1]
    before = path.read_bytes()
    for change in (dict(threshold='high'), dict(bands=['one'], mean=[0.], std=[1.]), dict(classes=['a','b','c'])):
        with pytest.raises(BadInput): save_model(path, net, ModelInfo(arguments=net.arguments, **change)) # A file that could not be read
    with pytest.raises(BadInput, match='expected a folder'): save_model(tmp_path/'nowhere'/'net.pth', net, info)
    assert path.read_bytes() == before and [o.name for o in tmp_path.iterdir()] == ['net.pth']
