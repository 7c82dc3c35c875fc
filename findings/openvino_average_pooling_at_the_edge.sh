#!/usr/bin/env bash
# OpenVINO 2026.4.1 (CPU): AveragePool with ceil_mode=1 and count_include_pad=1 divides by the whole kernel where it reaches past the
# padding; torch 2.14.1 and onnxruntime 1.32.0 divide by what lies inside picture and padding. A net with such a pool (torch's
# `AvgPool2d(3, 2, 1, ceil_mode=True)`, since count_include_pad is torch's default) gives other values along its right and lower edge.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 torch==2.14.1
cd "$tmp"
venv/bin/python - <<'PY'
from importlib.metadata import version
import numpy as np, onnx, onnxruntime, openvino, torch
from onnx import TensorProto, helper

options = dict(kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1, count_include_pad=1)
def floats(name, side): return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1,1,side,side])
graph = helper.make_graph([helper.make_node('AveragePool', ['x'], ['y'], **options)], 'pool', [floats('x', 6)], [floats('y', 4)])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, 'pool.onnx')
x = np.ones((1,1,6,6), np.float32)
found = dict(torch=torch.nn.AvgPool2d(3, 2, 1, ceil_mode=True)(torch.tensor(x)).numpy(),
             onnxruntime=onnxruntime.InferenceSession('pool.onnx', providers=['CPUExecutionProvider']).run(None, {'x': x})[0],
             openvino=openvino.Core().compile_model('pool.onnx', 'CPU')(x)[0])
for name,y in found.items(): print(name, version(name), 'lowest row', [round(float(o), 3) for o in y[0,0,-1]])
rest = [np.array_equal(y[...,:-1,:-1], found['torch'][...,:-1,:-1]) for y in found.values()]
corners = [round(float(y[0,0,-1,-1]), 3) for y in found.values()]
raise SystemExit(not (all(rest) and corners == [.25, .25, .111]))
PY
