"""Flips and turns."""
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from satseg.core.errors import BadInput
from satseg.core.files import bundled_file
from satseg.data.arrays import Chip
from satseg.models.onnx import as_onnx
from satseg.models.predict import _undo_dihedral, batch_probabilities, dihedral, load_net, predict_batch
from satseg.models.unet import UNet


@given(k=st.integers(0, 7), h=st.integers(1, 6), w=st.integers(1, 6))
def test_every_turn_can_be_undone(k, h, w):
    x = torch.arange(2*h*w).reshape(2,h,w)
    assert torch.equal(_undo_dihedral(dihedral(x, k), k), x)


def test_onnxruntime_out_of_memory_is_one_line(tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    net,info = load_net(as_onnx(bundled_file('unet_model.pth'))[0])
    class Full:
        def run(self, *args): raise net_error
    net_error = Exception('[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Concat node. bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 402653184')
    net.session = Full()
    chip = Chip(np.zeros((3,32,48), np.float32), None, '')
    with pytest.raises(BadInput, match=r'not enough memory on cpu for 2 chips of 48 x 32 pixels: use fewer \(bs\), or cut them$'): predict_batch(net, info, [chip]*2, None)
    net_error = Exception('another')
    with pytest.raises(Exception, match='^another$'): predict_batch(net, info, [chip], None)


def test_half_precision_can_be_declined_and_asked_for():
    "On a CPU bfloat16 stands for the GPU's float16: close to float32, and not the same."
    torch.manual_seed(0)
    net = UNet(3, 1, (8,16)).eval()
    x = torch.randn(2,3,32,32)
    full,half = (batch_probabilities(net, x, half=o) for o in (False,True))
    assert torch.equal(batch_probabilities(net, x), full) and full.dtype == half.dtype == torch.float32
    assert 0 < (full-half).abs().max() < .05
