"""The U-Net at any size, with any norm; padding; probabilities."""
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from satseg.core.errors import BadInput
from satseg.models.unet import UNet, pad_to_multiple, probabilities


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
    assert sum(o.numel() for o in UNet().parameters())*4 <= 15e6


def test_unet_names_its_norms():
    with pytest.raises(BadInput, match="a norm out of batch, group, none, got 'bn'"): UNet(norm='bn')


def test_probabilities_sum_to_one():
    assert torch.allclose(probabilities(torch.randn(2,3,4,4)).sum(1), torch.ones(2,4,4))
    assert probabilities(torch.full((1,1,1,1), 1000.).half()).item() == 1


@pytest.mark.filterwarnings('ignore')
def test_padding_by_recorded_and_by_plain_sizes_is_the_same():
    class Pad(nn.Module):
        def forward(self, x): return pad_to_multiple(x, 8)
    recorded = torch.jit.trace(Pad(), torch.rand(1,2,16,16), check_trace=False)
    for h,w in ((1,1), (2,9), (8,16), (11,5)):
        x = torch.rand(2,2,h,w)
        assert torch.equal(recorded(x), pad_to_multiple(x, 8))
