"""The nets at any size, and model files that are damaged, foreign or hostile."""
import functools
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from satseg.models.predict import dihedral, undo_dihedral
from satseg.learn.augment import Augment, rescale
from satseg.core.errors import BadInput
from satseg.core.display import IGNORE
from satseg.data.pickles import load_pickle
from satseg.evaluation.evaluate import evaluate
from satseg.models.unet import UNet, n_parameters, pad_to_multiple, probabilities
from satseg.models.encoders import Classifier, DeepLabV3, EncoderUNet, adapt_bands, encoder_levels
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


@settings(max_examples=30, deadline=None)
@given(h=st.integers(1, 50), w=st.integers(1, 50), n_in=st.integers(1, 5), n_out=st.integers(1, 4), levels=st.integers(1, 4))
def test_any_size_bands_and_classes(h, w, n_in, n_out, levels):
    net = UNet(n_in, n_out, (8,8,16,16)[:levels]).eval()
    with torch.no_grad(): assert net(torch.rand(1, n_in, h, w)).shape == (1, n_out, h, w)


@settings(max_examples=50, deadline=None)
@given(h=st.integers(1, 40), w=st.integers(1, 40), m=st.sampled_from([1,2,4,8,16,32]))
def test_padding_keeps_the_image_and_divides(h, w, m):
    x = torch.rand(1,2,h,w)
    y = pad_to_multiple(x, m)
    assert torch.equal(y[..., :h, :w], x)
    assert y.shape[-2] % m == y.shape[-1] % m == 0 and y.shape[-2] - h < m and y.shape[-1] - w < m


@pytest.mark.parametrize('norm', ['batch','group','none'])
def test_every_norm_learns(norm):
    torch.manual_seed(0)
    net,x = UNet(1, 1, (8,16), norm=norm),torch.rand(4,1,16,16)
    y = (x > .5).float()
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
        opt.zero_grad(); loss.backward(); opt.step(); losses.append(loss.item())
    assert losses[-1] < .6*losses[0]


def test_default_net_keeps_within_the_limits_of_the_shipped_weights():
    assert n_parameters(UNet())*4 <= 15e6


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
    ('evil', "runs nobody's code"), ('evil legacy', 'damaged'), ('module', "runs nobody's code"), ('bare', 'bare state dict'), ('list', 'a list of another program'),
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


def test_unet_names_its_norms():
    with pytest.raises(BadInput, match="a norm out of batch, group, none, got 'bn'"): UNet(norm='bn')


# ---- the weights that come with the repository

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


def test_probabilities_sum_to_one():
    assert torch.allclose(probabilities(torch.randn(2,3,4,4)).sum(1), torch.ones(2,4,4))
    assert probabilities(torch.full((1,1,1,1), 1000.).half()).item() == 1


@given(k=st.integers(0, 7), h=st.integers(1, 6), w=st.integers(1, 6))
def test_every_turn_can_be_undone(k, h, w):
    x = torch.arange(2*h*w).reshape(2,h,w)
    assert torch.equal(undo_dihedral(dihedral(x, k), k), x)


def test_image_and_mask_are_always_changed_alike():
    torch.manual_seed(0)
    y = (torch.rand(16,4,4) > .5).long().repeat_interleave(8, 1).repeat_interleave(8, 2)
    for aug in (Augment(random_scale=None, contrast=0, brightness=0), Augment(random_scale=(.7,1.4), contrast=0, brightness=0)):
        x1,y1 = aug(y[:,None].float(), y)
        known = y1 != IGNORE
        assert ((x1[:,0] >= .5) == (y1 == 1))[known].float().mean() > (.999 if aug.random_scale is None else .95)


def test_zoom_invents_no_class():
    y = torch.randint(0, 2, (4,16,16))*7
    _,y1 = rescale(torch.rand(4,3,16,16), y, torch.tensor([.6,.9,1.3,2.]), torch.zeros(4,2))
    assert set(y1.unique().tolist()) <= {0,7,IGNORE}


# ---- encoders of timm, DeepLab, the classifier

def describes(net, **kw):
    "A `ModelInfo` that fits `net`."
    a = net.arguments
    n = a['n_in']
    return ModelInfo(type(net).__name__, a, [f'B{i}' for i in range(n)], [0.]*n, [1.]*n, ['a','b'] if a['n_out'] == 1 else list('abcdef'[:a['n_out']]),
                     threshold=.5 if a['n_out'] == 1 else None, **kw)


NETS = {  # name -> how it is made, .multiple, .pools_globally
    'resnet18': (lambda: EncoderUNet('resnet18', 4, 3), 32, False),
    'no detail': (lambda: EncoderUNet('resnet18', 3, 1, widths=(32,16,16,8,8), detail=0), 32, False),
    'group': (lambda: EncoderUNet('resnet18', 3, 1, widths=(32,16,16,8,8), norm='group'), 32, True),
    'convnext': (lambda: EncoderUNet('convnext_atto', 1, 1, widths=(32,16,16,8,8), dropout=.2), 32, False),
    'efficientnet': (lambda: EncoderUNet('efficientnet_b0', 5, 2, widths=(32,16,16,8,8)), 32, True),
    'mobilenet': (lambda: EncoderUNet('mobilenetv3_small_050', 3, 4, widths=(32,16,16,8,8)), 32, True),
    'repvgg': (lambda: EncoderUNet('repvgg_a0', 3, 1, widths=(32,16,16,8,8)), 32, False),
    'deeplab mobilenet': (lambda: DeepLabV3('mobilenet_v3_large', 4, 3), 16, True),
    'deeplab resnet': (lambda: DeepLabV3('resnet50', 2, 1), 8, True),
    'classifier': (lambda: Classifier(None, 4, 1, (8,16), norm='group'), 2, True),
    'classifier timm': (lambda: Classifier('mobilenetv3_small_050', 2, 3, dropout=.1), 32, True)}


@functools.cache
def made(name):
    torch.manual_seed(0)
    net = NETS[name][0]()
    with torch.no_grad(): net.train()(torch.randn(4, net.arguments['n_in'], 64, 64))  # so that its running statistics are alive
    return net.eval()


@pytest.mark.parametrize('name', NETS)
def test_every_net_takes_any_size_and_its_file_gives_it_back(name, tmp_path):
    net,(_,multiple,pools) = made(name),NETS[name]
    n_in,n_out = net.arguments['n_in'],net.arguments['n_out']
    assert (net.multiple, net.pools_globally, net.started_from) == (multiple, pools, 'random weights')
    save_model(tmp_path/'net.pth', net, describes(net))
    again,info = load_model(tmp_path/'net.pth')
    assert info.architecture == type(net).__name__ in ARCHITECTURES and info.arguments == net.arguments == again.arguments and again.pools_globally == pools
    assert not {'pretrained','fallback'} & set(net.arguments) and again.started_from == 'a model file'
    for h,w in ((64,64), (33,70), (1,1)):
        x = torch.randn(2, n_in, h, w)
        with torch.no_grad(): y = net(x); assert torch.equal(again(x), y)
        assert y.shape == ((2, n_out) if type(net) is Classifier else (2, n_out, h, w)) and y.isfinite().all()


@pytest.mark.parametrize('name', [o for o in NETS if 'resnet18' not in o])
def test_every_weight_of_every_net_is_trained(name):
    net = NETS[name][0]()
    x = torch.randn(2, net.arguments['n_in'], 64, 64)
    net.train()(x).square().mean().backward()
    assert [k for k,p in net.named_parameters() if p.grad is None] == []


def test_deeplab_learns_from_a_batch_of_one_chip():
    net = DeepLabV3('mobilenet_v3_large', 3, 1).train()
    net(torch.randn(1,3,64,64)).mean().backward()
    assert not net.head[0].convs[-1][2].training
    net(torch.randn(2,3,64,64))
    assert net.head[0].convs[-1][2].training


@pytest.mark.parametrize('name', ['convnext','repvgg','group','efficientnet','mobilenet','deeplab mobilenet'])
def test_pools_globally_says_whether_a_far_pixel_matters(name):
    "In a net that looks at neighbourhoods only, and not far, the left edge does not know of the right one."
    net,wide = made(name),64*40
    x = torch.randn(1, net.arguments['n_in'], 32, wide)
    z = x.clone(); z[..., -32:] += 5
    with torch.no_grad(): change = (net(x) - net(z))[..., :8].abs().max()
    assert (change > 0) == net.pools_globally


@pytest.mark.filterwarnings('ignore')
def test_padding_by_recorded_and_by_plain_sizes_is_the_same():
    class Pad(nn.Module):
        def forward(self, x): return pad_to_multiple(x, 8)
    recorded = torch.jit.trace(Pad(), torch.rand(1,2,16,16), check_trace=False)
    for h,w in ((1,1), (2,9), (8,16), (11,5)):
        x = torch.rand(2,2,h,w)
        assert torch.equal(recorded(x), pad_to_multiple(x, 8))


@pytest.mark.parametrize('name, words', [('resnet43','did you mean resnet'), ('hf-hub:timm/resnet18','expected an encoder of timm'), ('local-dir:/tmp','expected an encoder of timm'),
    ('../resnet18','expected an encoder of timm'), (7,'expected an encoder of timm, got 7'), (None,'expected an encoder of timm'), ('x'*10**5,'expected an encoder of timm'),
    ('vit_tiny_patch16_224','pictures of any size'), ('swin_tiny_patch4_window7_224','pictures of any size'), ('inception_v4','whose levels halve exactly')])
def test_encoders_that_are_of_no_use(name, words):
    with pytest.raises(BadInput, match=words) as e: EncoderUNet(name)
    assert '\n' not in str(e.value) and len(str(e.value)) < 400


def test_encoders_differ_in_where_they_begin():
    assert [encoder_levels(o)[1][0] for o in ('repvgg_a0','convnext_atto','vgg11')] == [2,4,1]
    net = EncoderUNet('vgg11', 3, 1, widths=(8,8,8,8,8))
    assert net.detail is None and len(net.decoder.blocks) == 5
    assert len(EncoderUNet('convnext_atto', widths=(8,8,8,8,8)).detail.blocks) == 2
    with pytest.raises(BadInput, match='expected 5 widths for resnet18, got 4'): EncoderUNet('resnet18', widths=(8,8,8,8))


# ---- pretrained weights, without a network

@pytest.fixture
def offline(monkeypatch):
    "Every download fails, and is counted."
    import huggingface_hub, urllib.request
    calls = []
    def no(*a, **kw): calls.append(a or kw); raise OSError('no\nnetwork')
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *a: None)
    monkeypatch.setattr('timm.models._hub.hf_hub_download', no)
    monkeypatch.setattr(urllib.request, 'urlopen', no)
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', no)
    import torchvision.models._api as api
    monkeypatch.setattr(api, 'load_state_dict_from_url', no)
    return calls


@pytest.mark.parametrize('make', [lambda **kw: EncoderUNet('resnet18', 4, 1, **kw), lambda **kw: DeepLabV3('mobilenet_v3_large', 4, 1, **kw), lambda **kw: Classifier('resnet18', 4, **kw)])
def test_no_network_is_one_line_and_random_weights_only_if_asked_for(make, offline, tmp_path):
    with pytest.raises(BadInput, match='cannot be had .*no network.*go online once.*fallback=True') as e: make(pretrained=True)
    assert '\n' not in str(e.value) and offline
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        net = make(pretrained=True, fallback=True)
    assert [str(o.message) for o in said if 'begins with random weights' in str(o.message)] and net.started_from == 'random weights'
    n = len(offline)
    save_model(tmp_path/'net.pth', net, describes(net))
    load_model(tmp_path/'net.pth')
    assert len(offline) == n


@pytest.mark.parametrize('arguments', [dict(pretrained=True), dict(fallback=True), dict(pretrained='/etc/passwd'), dict(encoder='hf-hub:timm/resnet18'), dict(encoder='local-dir:/tmp'),
    dict(encoder='vit_tiny_patch16_224'), dict(widths=[10**7]*5), dict(detail=10**9), dict(encoder='resnet50'), dict(n_in=10**9), dict(norm='bn')])
def test_a_model_file_asks_for_no_download_and_no_memory(arguments, offline, tmp_path):
    net = made('no detail')
    save_model(tmp_path/'net.pth', net, describes(net))
    changed(tmp_path/'net.pth', arguments={**net.arguments, **arguments})
    assert 'do not fit' in refused(tmp_path/'net.pth') and not offline


def test_pretrained_weights_are_loaded_and_adapted(tmp_path, monkeypatch):
    import timm, urllib.request
    from safetensors.torch import save_file
    torch.manual_seed(1)
    photo = timm.create_model('resnet18')
    save_file(photo.state_dict(), tmp_path/'model.safetensors')
    asked = []
    monkeypatch.setattr(urllib.request, 'urlopen', lambda *a, **kw: io.BytesIO())
    monkeypatch.setattr('timm.models._hub.hf_hub_download', lambda **kw: asked.append(kw) or str(tmp_path/'model.safetensors'))
    net = EncoderUNet('resnet18', 5, 2, pretrained=True)
    assert [(o['repo_id'], o['filename']) for o in asked] == [('timm/resnet18.a1_in1k', 'model.safetensors')] and net.started_from == 'pretrained timm/resnet18.a1_in1k'
    assert torch.allclose(net.encoder.conv1.weight, adapt_bands(photo.conv1.weight, 5)) and torch.equal(net.encoder.layer4[1].conv2.weight, photo.layer4[1].conv2.weight)
    gate = Classifier('resnet18', 1, pretrained=str(tmp_path/'model.safetensors'))
    assert torch.allclose(gate.encoder.conv1.weight, photo.conv1.weight.sum(1, keepdim=True)) and gate.started_from == 'pretrained model.safetensors'


def test_pretrained_weights_of_deeplab(tmp_path):
    import torchvision
    photo = torchvision.models.mobilenet_v3_large()
    torch.save(photo.state_dict(), tmp_path/'photo.pth')
    net = DeepLabV3('mobilenet_v3_large', 4, 1, pretrained=str(tmp_path/'photo.pth'))
    assert net.started_from == 'pretrained photo.pth'
    own = net.backbone.state_dict()
    assert torch.equal(own['0.0.weight'], adapt_bands(photo.features[0][0].weight, 4)) and torch.equal(own['16.0.weight'], photo.features[16][0].weight)


def test_a_file_of_pretrained_weights_runs_no_code(tmp_path):
    for make in (lambda p: Classifier('resnet18', 3, pretrained=p), lambda p: DeepLabV3('mobilenet_v3_large', pretrained=p)):
        torch.save({'conv1.weight': Evil(tmp_path/'it_ran')}, tmp_path/'evil.pth')
        (tmp_path/'text.safetensors').write_text('weights')
        for name in ('evil.pth','text.safetensors','absent.pth','evil.bin'):
            with pytest.raises(BadInput, match='cannot be had') as e: make(str(tmp_path/name))
            assert '\n' not in str(e.value)
    assert not (tmp_path/'it_ran').exists()


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


# ---- the classifier

def test_one_spot_decides_wherever_it_is():
    net = Classifier(None, 1, 1, (4,8), norm='none').eval()
    x = torch.zeros(2,1,64,64); x[0,0,10,10] = 3; x[1,0,40,52] = 3
    with torch.no_grad(): a,b = net(x)[:,0]
    assert abs(a - b) < 1e-5


def test_what_is_saved_can_be_read(tmp_path):
    net,path = UNet(3, 1, (4,)),tmp_path/'net.pth'
    info = ModelInfo(arguments=net.arguments, threshold=np.float64(.4), mean=list(np.ones(3)), colours=[tuple(np.zeros(3, int))]*2,
                     scores={'val': {'iou': np.float32(.5), 'pixels': np.int64(7)}})
    save_model(path, net, info)
    got = load_model(path)[1]
    assert got.threshold == .4 and got.scores == {'val': {'iou': .5, 'pixels': 7}} and got.mean == [1,1,1]
    before = path.read_bytes()
    for change in (dict(threshold='high'), dict(bands=['one'], mean=[0.], std=[1.]), dict(classes=['a','b','c'])):
        with pytest.raises(BadInput): save_model(path, net, ModelInfo(arguments=net.arguments, **change)) # A file that nobody could read
    with pytest.raises(BadInput, match='expected a folder'): save_model(tmp_path/'nowhere'/'net.pth', net, info)
    assert path.read_bytes() == before and [o.name for o in tmp_path.iterdir()] == ['net.pth']
