"""How far nets look: never less than what is found, hardly more; which look at the whole picture; that a halo is enough."""
import pytest
import torch
from torch import nn

from satseg.models.unet import UNet, probabilities
from satseg.models.encoders import DeepLabV3
from satseg.models.receptive_field import _TOLERANCE as TOLERANCE, _bytes_per_pixel, _halo, model_geometry, receptive_radius


class Plain(nn.Module):
    "A chain of convolutions, and how far it looks by arithmetic."
    def __init__(self, sizes=(3,), dilation=1, stride=1):
        super().__init__()
        layers = [nn.Conv2d(1, 1, o, padding=o//2*dilation, dilation=dilation, padding_mode='zeros') for o in sizes]
        if stride > 1: layers = [nn.MaxPool2d(stride), *layers, nn.Upsample(scale_factor=stride)]
        self.net,self.arguments,self.multiple = nn.Sequential(*layers),dict(n_in=1, n_out=1),stride
        self.far = sum(o//2 for o in sizes)*dilation*stride

    def forward(self, x): return self.net(x)


@pytest.mark.parametrize('kw', [dict(sizes=(1,)), dict(), dict(sizes=(3, 5, 7)), dict(sizes=(3, 3), dilation=12), dict(sizes=(3, 3), stride=8), dict(sizes=(1,), stride=4)], ids=str)
def test_radius_by_arithmetic(kw):
    net = Plain(**kw).eval()
    assert receptive_radius(net, 256) == net.far


def built(make, seed=1):
    "A net with running means that fit."
    torch.manual_seed(seed)
    net = make().train()
    with torch.no_grad():
        for _ in range(3): net(torch.randn(2, net.arguments['n_in'], 64, 64))
    return net.eval()


NETS = {'unet': lambda: UNet(3, 1, (4, 8, 16)), 'deep': lambda: UNet(2, 3, (4, 4, 4, 8, 8)), 'no norm': lambda: UNet(3, 1, (4, 8), norm='none')}


@pytest.mark.parametrize('name', NETS)
def test_nothing_beyond_the_radius_matters(name):
    net = built(NETS[name])
    about = model_geometry(net)
    far,cell = about['radius'],about['multiple']
    most = -(-far//cell)*cell
    assert 0 < about['halo'] <= most and about['halo'] % cell == 0 == most % cell and about['memory'] > 0
    x = torch.randn(1, net.arguments['n_in'], 2*cell, most+3*cell)
    def answer(x, change):
        x = x.clone()
        x[..., most:] = change
        with torch.no_grad(): return probabilities(net(x))[..., :most-far]
    if most > far: assert torch.equal(answer(x, 0.), answer(x, 1e6))
    with torch.no_grad(): # Margins of `halo` are as good as margins of `radius`, on pictures the measuring never saw
        x = torch.randn(1, net.arguments['n_in'], 2*most+64, 2*most+64, generator=torch.Generator().manual_seed(5))*3
        cut = most-about['halo']
        inner = x[..., cut:x.shape[-1]-cut, cut:x.shape[-1]-cut]
        a,b = probabilities(net(x))[..., most:-most, most:-most],probabilities(net(inner))[..., about['halo']:-about['halo'], about['halo']:-about['halo']]
    assert (a-b).abs().max() <= 10*TOLERANCE


def test_short_reach_is_kept_exact():
    net = built(NETS['unet'])
    far = receptive_radius(net)
    assert far <= 128 and _halo(net, far) == -(-far//4)*4


@pytest.mark.parametrize('far', [200, 420, 500])
def test_a_halo_is_never_taken_for_enough_by_comparing_it_with_itself(far):
    "All that matters lies exactly `far` pixels away: no smaller margin, and none beyond 384 pixels, may pass for enough."
    torch.manual_seed(0)
    net = Plain(sizes=(3,), dilation=far).eval()
    assert receptive_radius(net) == far == _halo(net, far)


def test_a_halo_short_of_the_radius_is_found():
    torch.manual_seed(0)
    net = Plain(sizes=(3,)*9, dilation=16).eval()
    with torch.no_grad():
        for o in net.net: o.weight.mul_(.02); o.weight[0, 0, 1, 1] = 1
    far = receptive_radius(net)
    assert far == 144 and 32 <= _halo(net, far) < far


@pytest.mark.parametrize('make', [lambda: UNet(3, 1, (4, 8), norm='group'), lambda: DeepLabV3('mobilenet_v3_large', 3, 2)], ids=['group norm', 'DeepLab'])
def test_nets_that_look_at_everything(make):
    about = model_geometry(built(make))
    assert about['radius'] is None and about['halo'] is None


def test_pooling_is_found_even_if_nobody_says_so():
    net = built(lambda: UNet(3, 1, (4, 8), norm='group'))
    assert receptive_radius(net) is None


def test_memory_is_that_of_the_widest_moment():
    narrow,wide = (_bytes_per_pixel(UNet(3, 1, (o, 2*o)).eval(), 128) for o in (8, 32))
    assert 2.5 < wide/narrow < 4.5 and narrow >= 8*4*2
    assert _bytes_per_pixel(UNet(3, 1, (8, 16)).eval(), 64) == pytest.approx(_bytes_per_pixel(UNet(3, 1, (8, 16)).eval(), 256), rel=.2)
