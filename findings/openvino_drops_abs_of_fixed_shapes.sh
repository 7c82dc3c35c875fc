#!/usr/bin/env bash
# OpenVINO 2026.4.1 (CPU) computes |i - last| without the absolute value, once the input's shape is fixed with `reshape`: mirrored
# padding written as index arithmetic (as torch exports it for pictures whose sides are no multiple of a U-Net's steps) then repeats one
# row instead of mirroring, without a word. With the shape left open the same file is right, as it is in onnxruntime.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
cd "$tmp"
venv/bin/python - <<'PY'
from importlib.metadata import version
import numpy as np, onnx, onnxruntime, openvino
from onnx import TensorProto, helper, numpy_helper

def node(op, given, result, **kw): return helper.make_node(op, given.split(), [result], **kw)
def number(name, value): return numpy_helper.from_array(np.array(value, np.int64), name)
def floats(name, shape): return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

# Four more rows below, mirrored: row i shows row last - |i - last|
nodes = [node('Shape', 'x', 'shape'), node('Gather', 'shape two', 'height', axis=0), node('Sub', 'height one', 'last'), node('Add', 'height four', 'rows'),
         node('Range', 'zero rows one', 'i'), node('Sub', 'i last', 'beyond'), node('Abs', 'beyond', 'distance'), node('Sub', 'last distance', 'source'),
         node('Gather', 'x source', 'y', axis=2)]
constants = [number(*o) for o in (('zero', 0), ('one', 1), ('two', 2), ('four', 4))]
graph = helper.make_graph(nodes, 'mirrored rows', [floats('x', [1,1,'H','W'])], [floats('y', [1,1,'rows','W'])], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, 'mirror.onnx')
x = np.arange(10, dtype=np.float32).reshape(1,1,10,1)

def by_openvino(shape):
    core = openvino.Core()
    net = core.read_model('mirror.onnx')
    if shape: net.reshape(shape)
    return core.compile_model(net, 'CPU')(x)[0].ravel().astype(int).tolist()

print(*(f'{o} {version(o)}' for o in ('onnx','onnxruntime','openvino')))
right = onnxruntime.InferenceSession('mirror.onnx', providers=['CPUExecutionProvider']).run(None, {'x': x})[0].ravel().astype(int).tolist()
free,fixed = by_openvino(None),by_openvino(list(x.shape))
for name,rows in (('onnxruntime', right), ('openvino, any shape', free), ('openvino, fixed shape', fixed)): print(f'{name}: rows {rows}')
raise SystemExit(not (right == free == [*range(10), 8, 7, 6, 5] and fixed == [0]*9 + [9, 8, 7, 6, 5]))
PY
