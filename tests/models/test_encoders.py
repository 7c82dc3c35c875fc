"""Nets on encoders of timm and torchvision."""
import functools

import pytest
import torch

from satseg.core.errors import BadInput
from satseg.models.encoders import Classifier, DeepLabV3, EncoderUNet, encoder_levels
from satseg.models.model_info import ModelInfo
from satseg.models.model_file import ARCHITECTURES, load_model, save_model
from satseg.models.receptive_field import receptive_radius


def changed(path, **kw):
    d = torch.load(path, weights_only=True)
    for k,v in kw.items():
        if v is None: del d[k]
        else: d[k] = v
    torch.save(d, path)


def refused(path):
    with pytest.raises(BadInput) as e: load_model(path)
    msg = str(e.value)
    assert msg.startswith(f'{path}: ') and msg.isprintable() and len(msg) < 600 + len(str(path))
    return msg


def describes(net, **kw):
    "A `ModelInfo` that fits `net`."
    a = net.arguments
    n = a['n_in']
    return ModelInfo(type(net).__name__, a, [f'B{i}' for i in range(n)], [0.]*n, [1.]*n, ['a','b'] if a['n_out'] == 1 else list('abcdef'[:a['n_out']]),
                     threshold=.5 if a['n_out'] == 1 else None, **kw)


NETS = {  # name -> how it is made, .multiple, whether it looks at the whole picture
    'resnet18': (lambda: EncoderUNet('resnet18', 4, 3), 32, False),
    'no detail': (lambda: EncoderUNet('resnet18', 3, 1, widths=(32,16,16,8,8), detail=0), 32, False),
    'group': (lambda: EncoderUNet('resnet18', 3, 1, widths=(32,16,16,8,8), norm='group'), 32, True),
    'convnext': (lambda: EncoderUNet('convnext_atto', 1, 1, widths=(32,16,16,8,8), dropout=.2), 32, False),
    'efficientnet': (lambda: EncoderUNet('efficientnet_b0', 5, 2, widths=(32,16,16,8,8)), 32, True),
    'mobilenet': (lambda: EncoderUNet('mobilenetv3_small_050', 3, 4, widths=(32,16,16,8,8)), 32, True),
    'lite': (lambda: EncoderUNet('tf_efficientnet_lite0', 3, 1, widths=(32,16,16,8,8)), 32, False),
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
    net,multiple = made(name),NETS[name][1]
    n_in,n_out = net.arguments['n_in'],net.arguments['n_out']
    assert net.multiple == multiple
    save_model(tmp_path/'net.pth', net, describes(net))
    again,info = load_model(tmp_path/'net.pth')
    assert info.architecture == type(net).__name__ in ARCHITECTURES and info.arguments == net.arguments == again.arguments
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


@pytest.mark.parametrize('name', ['convnext','lite','repvgg','group','efficientnet','mobilenet','deeplab mobilenet'])
def test_the_receptive_radius_says_whether_a_far_pixel_matters(name):
    "In a net that looks at neighbourhoods only, and not far, the left edge does not know of the right one."
    net,wide = made(name),64*40
    x = torch.randn(1, net.arguments['n_in'], 32, wide)
    z = x.clone(); z[..., -32:] += 5
    with torch.no_grad(): change = (net(x) - net(z))[..., :8].abs().max()
    assert (change > 0) == (receptive_radius(net) is None) == NETS[name][2]


@pytest.mark.parametrize('name, words', [('resnet43','did you mean resnet'), ('hf-hub:timm/resnet18','expected an encoder of timm'), ('local-dir:/tmp','expected an encoder of timm'),
    ('../resnet18','expected an encoder of timm'), (7,'expected an encoder of timm, got 7'), (None,'expected an encoder of timm'), ('x'*10**5,'expected an encoder of timm'),
    ('vit_tiny_patch16_224','pictures of any size'), ('swin_tiny_patch4_window7_224','pictures of any size'), ('inception_v4','whose levels halve exactly')])
def test_encoders_that_are_of_no_use(name, words):
    with pytest.raises(BadInput, match=words) as e: EncoderUNet(name)
    assert '\n' not in str(e.value) and len(str(e.value)) < 400


@pytest.mark.parametrize('name', ['mobilevitv2_050','mobilevitv2_200'])
def test_encoders_that_halve_exactly_only_at_even_sides_are_refused(name):
    "Seen with timm 1.0.31: MobileViT v2 enlarges a level of odd sides by one cell, so that 224 pixels end as 8 cells where 7 would halve exactly. If this fails, timm has mended it."
    with pytest.raises(BadInput, match='whose levels halve exactly') as e: EncoderUNet(name)
    assert '\n' not in str(e.value) and '224 x 160 pixels' in str(e.value) and '8, 6)]' in str(e.value)


def test_encoders_differ_in_where_they_begin():
    assert [encoder_levels(o)[1][0] for o in ('repvgg_a0','convnext_atto','vgg11')] == [2,4,1]
    net = EncoderUNet('vgg11', 3, 1, widths=(8,8,8,8,8))
    assert net.detail is None and len(net.decoder.blocks) == 5
    assert len(EncoderUNet('convnext_atto', widths=(8,8,8,8,8)).detail.blocks) == 2
    with pytest.raises(BadInput, match='expected 5 widths for resnet18, got 4'): EncoderUNet('resnet18', widths=(8,8,8,8))


@pytest.mark.parametrize('arguments', [dict(pretrained=True), dict(fallback=True), dict(pretrained='/etc/passwd'), dict(encoder='hf-hub:timm/resnet18'), dict(encoder='local-dir:/tmp'),
    dict(encoder='vit_tiny_patch16_224'), dict(widths=[10**7]*5), dict(detail=10**9), dict(encoder='resnet50'), dict(n_in=10**9), dict(norm='bn')])
def test_a_model_file_asks_for_no_download_and_no_memory(arguments, tmp_path, monkeypatch):
    calls = []
    for o in ('timm.models._hub.hf_hub_download','urllib.request.urlopen'): monkeypatch.setattr(o, lambda *a, **kw: calls.append(a))
    net = made('no detail')
    save_model(tmp_path/'net.pth', net, describes(net))
    changed(tmp_path/'net.pth', arguments={**net.arguments, **arguments})
    assert 'do not fit' in refused(tmp_path/'net.pth') and not calls


def test_one_spot_decides_wherever_it_is():
    net = Classifier(None, 1, 1, (4,8), norm='none').eval()
    x = torch.zeros(2,1,64,64); x[0,0,10,10] = 3; x[1,0,40,52] = 3
    with torch.no_grad(): a,b = net(x)[:,0]
    assert abs(a - b) < 1e-5
