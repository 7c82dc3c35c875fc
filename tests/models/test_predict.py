"""Flips and turns."""
import torch
from hypothesis import given, strategies as st

from satseg.models.predict import _undo_dihedral, batch_probabilities, dihedral
from satseg.models.unet import UNet


@given(k=st.integers(0, 7), h=st.integers(1, 6), w=st.integers(1, 6))
def test_every_turn_can_be_undone(k, h, w):
    x = torch.arange(2*h*w).reshape(2,h,w)
    assert torch.equal(_undo_dihedral(dihedral(x, k), k), x)


def test_half_precision_can_be_declined_and_asked_for():
    "On a CPU bfloat16 stands for the GPU's float16: close to float32, and not the same."
    torch.manual_seed(0)
    net = UNet(3, 1, (8,16)).eval()
    x = torch.randn(2,3,32,32)
    full,half = (batch_probabilities(net, x, half=o) for o in (False,True))
    assert torch.equal(batch_probabilities(net, x), full) and full.dtype == half.dtype == torch.float32
    assert 0 < (full-half).abs().max() < .05
