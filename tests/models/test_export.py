"""ONNX files: equal to torch at any size, all of the description inside, read without torch, and hostile ones refused."""
import json
import os
import random
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from satseg.core.errors import BadInput
from satseg.models.model_info import ModelInfo
from satseg.models.onnx import load_onnx, read_onnx
from satseg.models.unet import UNet
from satseg.models.encoders import Classifier, DeepLabV3, EncoderUNet
from satseg.models.model_file import save_model

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import satseg.models.export as exporting  # noqa: E402
from satseg.models.export import TOLERANCE, _deepness_tiles, _difference, export_onnx  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = dict(widths=(32,16,16,8,8))


def describes(net, **kw):
    "A `ModelInfo` that fits `net`."
    a = net.arguments
    n,k = a['n_in'],a['n_out']
    given = dict(bands=[f'B{i}' for i in range(n)], mean=[.1*i for i in range(n)], std=[1+i/3 for i in range(n)], classes=['a','b'] if k == 1 else list('abcdef'[:k]),
                 threshold=.5 if k == 1 else None, trained_on='nothing, ünïcode', scores={'val': {'iou': 1/3}})
    return ModelInfo(type(net).__name__, a, **{**given, **kw})


def alive(make):
    "A net with random weights whose answers vary: its running statistics fit, and each logit lies around 0."
    torch.manual_seed(0)
    net = make()
    x,head = torch.randn(4, net.arguments['n_in'], 64, 64),net.head[-1] if type(net) is DeepLabV3 else net.head
    with torch.no_grad():
        for _ in range(3): net.train()(x)
        head.bias -= net.eval()(x).flatten(2).mean((0,2)) if type(net) is not Classifier else net.eval()(x).mean(0)
    return net.eval()


NETS = {
    'unet': lambda: UNet(3, 1, (8,16,32)), 'group': lambda: UNet(5, 3, (8,16), norm='group'), 'one level': lambda: UNet(1, 2, (8,)),
    'resnet18': lambda: EncoderUNet('resnet18', 4, 3, **SMALL), 'no detail': lambda: EncoderUNet('repvgg_a0', 3, 1, detail=0, **SMALL), 'convnext': lambda: EncoderUNet('convnext_atto', 3, 1, **SMALL),
    'efficientnet': lambda: EncoderUNet('efficientnet_b0', 3, 1, **SMALL), 'mobilenet': lambda: EncoderUNet('mobilenetv3_small_050', 2, 4, **SMALL),
    'deeplab': lambda: DeepLabV3('mobilenet_v3_large', 4, 3), 'classifier': lambda: Classifier(None, 3, 1, (8,16,32)), 'classifier timm': lambda: Classifier('mobilenetv3_small_050', 3, 2)}


@pytest.fixture
def exporter(monkeypatch):
    "Lets torch's new exporter do the work, or the old one: fails if the one not asked for is tried."
    record = exporting._record
    def only(wanted):
        def one(net, x, new):
            if not wanted: assert not new
            return record(net, x, wanted)
        monkeypatch.setattr(exporting, '_record', one)
    return only


def same(net, path):
    "Compare at sizes that `export` did not try."
    run,_ = load_onnx(path)
    for b,h,w in ((1,32,32), (3,5,97), (1,95,64), (2,2,3)):
        x = torch.randn(b, net.arguments['n_in'], h, w)
        with torch.no_grad(): y = net(x).numpy()
        got = run(x.numpy())
        assert got.shape == y.shape and got.dtype == np.float32
        assert np.abs(got - y).max() <= TOLERANCE*np.abs(y).max()
        if h > 5 and y.ndim == 4: assert y.std() > 1e-4  # a constant would agree with anything


@pytest.mark.parametrize('new, name', [(False, o) for o in NETS] + [(True, o) for o in ('unet','classifier')])
def test_onnxruntime_and_torch_agree(name, new, tmp_path, exporter):
    net = alive(NETS[name])
    exporter(new)
    info,path = describes(net),tmp_path/'net.onnx'
    assert 0 <= export_onnx(net, info, path) <= TOLERANCE
    assert os.listdir(tmp_path) == ['net.onnx'] and load_onnx(path)[1] == info
    same(net, path)
    proto = onnx.load(path)
    assert [(o.domain, o.version) for o in proto.opset_import] == [('', 18)] and proto.ir_version == 8
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == ['batch', net.arguments['n_in'], 'height', 'width']
    for word in (b'/root/', b'/home/', b'site-packages', b'stack_trace', b'satseg/models'): assert word not in path.read_bytes(), 'the file tells of the machine it was written on'


@pytest.mark.parametrize('name, new', [('unet',False), ('unet',True), ('resnet18',False), ('classifier',False)])
def test_class_map_inside_the_graph(name, new, tmp_path, exporter):
    exporter(new)
    net = alive(NETS[name])
    x = torch.randn(2, net.arguments['n_in'], 45, 70)
    with torch.no_grad(): logits = net(x)
    info = describes(net)
    if net.arguments['n_out'] == 1: info.threshold = round(float(logits.sigmoid().median()), 3)
    want = (logits[:,0].sigmoid() >= info.threshold if info.threshold is not None else logits.argmax(1)).numpy()
    export_onnx(net, info, tmp_path/'net.onnx', class_map=True)
    run,_ = load_onnx(tmp_path/'net.onnx')
    got = run(x.numpy())
    assert (got.shape, got.dtype, run.output) == (want.shape, np.uint8, 'classes')
    assert (got != want).mean() < 1e-3 and (name == 'classifier' or len(np.unique(got)) > 1)


def test_the_old_exporter_fails_and_the_new_one_helps(tmp_path, monkeypatch):
    net,record,asked = alive(NETS['unet']),exporting._record,[]
    def fails(model, x, new):
        asked.append(new)
        if not new: raise RuntimeError('no\nsuch operation')
        return record(model, x, new)
    monkeypatch.setattr(exporting, '_record', fails)
    export_onnx(net, describes(net), tmp_path/'net.onnx')
    assert asked == [False,True]
    def neither(model, x, new): raise RuntimeError('no\nsuch operation')
    monkeypatch.setattr(exporting, '_record', neither)
    with pytest.raises(BadInput, match='cannot be exported .old exporter: no such operation; new exporter: no such') as e: export_onnx(net, describes(net), tmp_path/'b.onnx')
    assert '\n' not in str(e.value) and os.listdir(tmp_path) == ['net.onnx']


@pytest.mark.parametrize('class_map', [False,True])
def test_a_wrong_export_gets_no_name(class_map, tmp_path, monkeypatch):
    net = alive(NETS['resnet18'])
    path = tmp_path/'net.onnx'
    path.write_bytes(b'old')
    record = exporting._record
    def wrong(model, x, new):
        proto = record(model, x, False)
        for o in proto.graph.initializer:
            if o.dims and len(o.dims) == 4 and o.dims[0] == 3: o.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(o) + .001*np.arange(3, dtype=np.float32)[:,None,None,None], o.name))
        return proto
    monkeypatch.setattr(exporting, '_record', wrong)
    with pytest.raises(BadInput, match='the export is wrong'): export_onnx(net, describes(net), path, class_map=class_map)
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['net.onnx']


def test_an_export_that_answers_with_nan_is_wrong(tmp_path, monkeypatch):
    "A largest difference that is no number must not pass for a small one."
    record = exporting._record
    def wrong(model, x, new):
        proto = record(model, x, False)
        for o in proto.graph.initializer:
            if len(o.dims) == 4: o.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(o)*np.float32('nan'), o.name))
        return proto
    monkeypatch.setattr(exporting, '_record', wrong)
    net = alive(NETS['unet'])
    with pytest.raises(BadInput, match='the export is wrong.*got nan off'): export_onnx(net, describes(net), tmp_path/'net.onnx')
    assert not os.listdir(tmp_path)


def test_an_export_that_is_right_at_one_size_only(tmp_path, monkeypatch):
    net = alive(NETS['unet'])
    def fixed(model, x, new):
        import io
        f = io.BytesIO()
        with warnings.catch_warnings(action='ignore'): torch.onnx.export(model, (x,), f, dynamo=False, opset_version=18, input_names=['image'], output_names=['logits'])
        return onnx.load_from_string(f.getvalue())
    monkeypatch.setattr(exporting, '_record', fixed)
    with pytest.raises(BadInput, match='cannot be exported'): export_onnx(net, describes(net), tmp_path/'net.onnx')
    assert not os.listdir(tmp_path)


def test_scores_that_are_not_known(tmp_path):
    net = UNet(3, 1, (4,))
    export_onnx(net, describes(net, scores={'val': {'iou': float('nan'), 'dice': .5}}), tmp_path/'net.onnx')
    assert load_onnx(tmp_path/'net.onnx')[1].scores == {'val': {'iou': None, 'dice': .5}}


def test_export_leaves_the_net_as_it_was(tmp_path):
    net = alive(NETS['unet']).train()
    before = {k: v.clone() for k,v in net.state_dict().items()}
    export_onnx(net, describes(net), tmp_path/'net.onnx')
    assert net.training and all(torch.equal(v, before[k]) for k,v in net.state_dict().items())


def test_what_export_refuses(tmp_path):
    net = UNet(3, 1, (8,))
    many = UNet(3, 2, (8,))
    for model,info,path,kw,words in [
            (net, describes(net), tmp_path/'net.pth', {}, 'ends in .onnx'), (net, describes(net), tmp_path/'no'/'net.onnx', {}, 'a folder that exists'),
            (net, describes(net, mean=[1.]), tmp_path/'net.onnx', {}, 'agreement with itself'), (net, describes(net, std=[-1.]*3), tmp_path/'net.onnx', {}, 'std: expected'),
            (net, describes(net, threshold=None), tmp_path/'net.onnx', dict(class_map=True), 'expected a threshold for one logit'),
            (many, describes(many, threshold=.5), tmp_path/'net.onnx', dict(class_map=True), 'else none')]:
        with pytest.raises(BadInput, match=words): export_onnx(model, info, path, **kw)
    assert not os.listdir(tmp_path)


# ---- reading

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "An ONNX file of ours."
    net = alive(lambda: UNet(3, 1, (4,8)))
    path = tmp_path_factory.mktemp('onnx')/'net.onnx'
    export_onnx(net, describes(net), path)
    return path


def refused(path):
    with pytest.raises(BadInput) as e: load_onnx(path)
    msg = str(e.value)
    assert msg.startswith(f'{path}: ') and msg.isprintable() and len(msg) < 600 + len(str(path))
    return msg


@pytest.fixture
def edited(whole, tmp_path):
    "A function that changes the file by a function and gives its path."
    def edit(change):
        proto = onnx.load(whole)
        change(proto)
        (tmp_path/'net.onnx').write_bytes(proto.SerializeToString())
        return tmp_path/'net.onnx'
    return edit


def add_attribute(proto, **kw): proto.graph.node[0].attribute.append(helper.make_attribute(*next(iter(kw.items()))))
def external(tensor): onnx.external_data_helper.set_external_data(tensor, '../../../etc/passwd')
def constant(proto):
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), 'x')
    external(tensor)
    proto.graph.node.append(helper.make_node('Constant', [], ['x'], value=tensor))
def branch(proto):
    graph = helper.make_graph([helper.make_node('Identity', ['image'], ['y'])], 'g', [], [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)])
    proto.graph.node.append(helper.make_node('If', ['c'], ['z'], then_branch=graph, else_branch=graph))
def function(proto): proto.functions.append(helper.make_function('my', 'F', ['a'], ['b'], [helper.make_node('Identity', ['a'], ['b'])], [helper.make_opsetid('', 18)]))
def sparse(proto):
    values,ids = numpy_helper.from_array(np.ones(1, np.float32), 's'),numpy_helper.from_array(np.zeros(1, np.int64), 'i')
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, ids, [4]))
def second_input(proto): proto.graph.input.append(helper.make_tensor_value_info('more', TensorProto.FLOAT, [1]))
def second_output(proto): proto.graph.output.append(proto.graph.input[0])
def strange_side(proto): proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = 'c\x1b[2J'
def other_type(proto): proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
def no_such(proto): proto.graph.node[-1].op_type = 'Nonsense\x1b[2J'
def says(key, value):
    def change(proto):
        for o in list(proto.metadata_props):
            if o.key == key:
                if value is None: proto.metadata_props.remove(o)
                else: o.value = value
    return change


@pytest.mark.parametrize('change, words', [
    (lambda p: setattr(p.graph.node[0], 'domain', 'com.microsoft'), "uses the operation 'com.microsoft"), (lambda p: setattr(p.graph.node[0], 'domain', 'evil\x1b[2J'), 'no part of ONNX'),
    (lambda p: external(p.graph.initializer[0]), 'weights in another file'), (constant, 'weights in another file'), (branch, 'a loop or a branch'), (function, 'functions'),
    (sparse, 'sparse'), (second_input, 'one input'), (second_output, 'one output'), (strange_side, 'one input'), (other_type, 'cannot run it|float32'), (no_such, 'cannot run it'), (lambda p: p.ClearField('graph'), 'holds no net'),
    (says('format', 'x'), 'says nothing of bands'), (says('format', None), 'says nothing of bands'), (says('version', '2'), "version 1, got '2'"), (says('output', 'x'), 'logits or classes'),
    (says('output', 'classes'), 'one output, classes'), (says('info', '{'), 'no JSON'), (says('info', None), 'no JSON'), (says('info', '[1]'), 'a dict as info, got a list'), (says('info', '{}'), 'lacks architecture'),
    (says('info', '['*10**5), 'no JSON'), (says('info', '{"a":NaN}'), 'lacks architecture'), (says('info', '1'*10**5), 'no JSON'), (says('info', ' '*2*10**6), 'too much of itself')])
def test_files_that_are_refused(change, words, edited):
    import re
    assert re.search(words, refused(edited(change)))


@pytest.mark.parametrize('field, values', dict(
    architecture=[7, ['UNet'], '\x1b[2J'], arguments=[[1], {'widths':[[8]]}, {'a':{}}], bands=['abc', ['a','b'], [], [1,2,3], ['a','b','\x1b[31m'], None], mean=[[0.]*2, 'abc', ['0']*3, [1e40]*3, [True]*3],
    std=[[1.]*4, [1.,1.,-1.], [None]*3], classes=[['a'], ['a','b','c'], 'ab', [0,1]], colours=[[[0,0,0]], [[0,0,0],[0,0,256]], 'red'], threshold=['0.5', 2, [.5], True],
    chip_size=[0, '256'], trained_on=[7, 'a\nb'], scores=[[1]]).items())
def test_descriptions_that_are_damaged(field, values, edited, whole):
    good = asdict(load_onnx(whole)[1])
    for o in values: refused(edited(says('info', json.dumps({**good, field:o}))))
    without = dict(good); del without[field]
    assert f'lacks {field}' in refused(edited(says('info', json.dumps(without))))


def test_files_that_are_no_onnx(tmp_path, whole):
    path = tmp_path/'net.onnx'
    assert 'no such model file' in refused(path)
    assert 'no such model file' in refused(tmp_path)
    save_model(tmp_path/'net.pth', UNet(3, 1, (4,)), ModelInfo(arguments=UNet(3, 1, (4,)).arguments))
    for data in (b'', b'weights', b'GIF89a', (tmp_path/'net.pth').read_bytes(), whole.read_bytes()[:-50], whole.read_bytes()[50:], b'\x72' + b'\xff'*20, b'\x72\x04\x08\x01\x10\x01',
                 b'\x72\x08\x0a\x01a\x10' + b'\xff'*4 + b'\x0f'):
        path.write_bytes(data)
        refused(path)


def test_changed_bytes_give_a_net_or_one_line(whole, tmp_path):
    data,rng,path = whole.read_bytes(),random.Random(0),tmp_path/'net.onnx'
    for _ in range(150):
        d = bytearray(data)
        for _ in range(rng.randint(1, 3)): d[rng.randrange(len(d))] = rng.randrange(256)
        path.write_bytes(bytes(d))
        try: read_onnx(path)
        except BadInput as e: assert '\n' not in str(e)
    for cut in range(0, len(data), max(1, len(data)//40)):
        path.write_bytes(data[:cut])
        refused(path)


def test_calls_are_checked(whole):
    net,_ = load_onnx(whole)
    for shape in ((1,4,8,8), (3,8,8)):
        with pytest.raises(BadInput, match='expected 3 bands'): net(np.zeros(shape, np.float32))
    assert net(np.zeros((1,8,8,3)).transpose(0,3,1,2)).shape == (1,1,8,8)  # another number type, another order in memory


def test_threads_follow_the_environment(whole, monkeypatch):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    for value,want in (('1', 1), ('', cores), ('0', cores), ('many', cores), ('100000', cores)):
        monkeypatch.setenv('OMP_NUM_THREADS', value)
        assert load_onnx(whole)[0].session.get_session_options().intra_op_num_threads == want


def test_predicting_does_not_import_torch(whole):
    run = f'''
import sys, numpy as np
from satseg.models.onnx import load_onnx
net,info = load_onnx({str(whole)!r})
assert net(info.normalise(np.ones((2,3,33,20), np.float32))).shape == (2,1,33,20)
print([o for o in ('torch','onnxscript','timm','torchvision','matplotlib','pandas') if o in sys.modules])
'''
    done = subprocess.run([sys.executable, '-c', run], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, '[]', '')


@pytest.mark.parametrize('package', ['onnx','onnxruntime'])
def test_a_missing_package_is_one_line(package, whole, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=r'pip install .*\[onnx\]'): load_onnx(whole)


# ---- the command line

def cli(*args): return subprocess.run([sys.executable, '-m', 'satseg.export', *map(str, args)], cwd=ROOT, capture_output=True, text=True)


def test_command_line(tmp_path):
    net = alive(lambda: UNet(3, 1, (4,8)))
    save_model(tmp_path/'net.pth', net, describes(net))
    done = cli(tmp_path/'net.pth', tmp_path/'net.onnx')
    assert done.returncode == 0 and done.stderr == '' and len(done.stdout.splitlines()) == 1 and 'answers with logits; onnxruntime and torch agree within' in done.stdout
    same(net, tmp_path/'net.onnx')
    done = cli(tmp_path/'net.pth', tmp_path/'q.onnx', '--deepness', '--resolution', '0.3')
    assert done.returncode == 0 and done.stderr == '' and len(done.stdout.splitlines()) == 1 and "answers with probabilities, for QGIS's Deepness" in done.stdout
    assert json.loads(Deepness(tmp_path/'q.onnx').said['resolution']) == 30
    (tmp_path/'q.onnx').unlink()
    before = (tmp_path/'net.pth').read_bytes()
    for args,words in (((tmp_path/'net.pth', tmp_path/'b.onnx', '--resolution', '3'), 'for Deepness only'), ((tmp_path/'net.pth', tmp_path/'net.pth'), 'ends in .onnx'), ((tmp_path/'no.pth', tmp_path/'b.onnx'), 'no such model file')):
        done = cli(*args)
        assert done.returncode == 2 and done.stdout == '' and done.stderr.startswith('satseg: ') and len(done.stderr.splitlines()) == 1 and words in done.stderr
    assert (tmp_path/'net.pth').read_bytes() == before and sorted(os.listdir(tmp_path)) == ['net.onnx','net.pth']


def test_shipped_weights_as_onnx(tmp_path):
    from satseg.models.model_file import load_model
    net,info = load_model(ROOT/'unet_model.pth')
    assert export_onnx(net, info, tmp_path/'net.onnx') <= 1e-5
    run,again = load_onnx(tmp_path/'net.onnx')
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad(): y = net(x).numpy()
    assert np.abs(run(x.numpy()) - y).max() <= 1e-5*np.abs(y).max() and again == info


# ---- QGIS's Deepness: what it does to a layer, after src/deepness/processing of PUTvision/qgis-plugin-deepness

class Deepness:
    "A file as Deepness uses it: settings from the metadata, readings in, class ids out."
    def __init__(self, path):
        import onnxruntime
        self.session = onnxruntime.InferenceSession(path)
        (ins,),(outs,),said = self.session.get_inputs(),self.session.get_outputs(),self.session.get_modelmeta().custom_metadata_map
        self.name,self.bands,self.side = ins.name,ins.shape[1],ins.shape[3]
        assert type(self.side) is int and ins.shape[2] == self.side == json.loads(said['tile_size']) == json.loads(said['tiles_size'])  # It puts the side into a box of numbers
        assert type(ins.shape[0]) is str and outs.shape[2:] == ins.shape[2:] and len(outs.shape) == 4
        assert json.loads(said['model_type']) == 'Segmentor'
        names = sorted(json.loads(said['class_names']).items(), key=lambda o: int(o[0]))
        assert [int(k) for k,_ in names] == list(range(outs.shape[1]))
        self.classes,self.said = [v for _,v in names],said
        overlap = int(self.side*json.loads(said['tiles_overlap'])/100*2)//2
        self.stride,self.margin = self.side-overlap,overlap//2

    def tile(self, layer, threshold=None, standardise=True):
        "(H,W,C) readings of one tile -> (H,W) ids."
        x = np.float32(layer[None,:,:,:self.bands]*1./255.)
        if standardise: x = (x - np.float32(json.loads(self.said['standardization_mean'])))/np.float32(json.loads(self.said['standardization_std']))
        res = self.session.run(None, {self.name: np.transpose(x, (0,3,1,2))})[0]
        res[res < (json.loads(self.said['seg_thresh']) if threshold is None else threshold)] = 0.
        return res.argmax(1)[0]

    def layer(self, layer):
        "A layer of any size, tile by tile; beyond its right and lower edge there are zeros."
        (h,w),s = layer.shape[:2],self.side
        rows,cols = (1+max(0, -(-(n-s)//self.stride)) for n in (h, w))
        full = np.pad(layer, ((0, (rows-1)*self.stride+s-h), (0, (cols-1)*self.stride+s-w), (0,0)))
        out = np.full(full.shape[:2], 99)
        for i in range(rows):
            for j in range(cols):
                y,x = i*self.stride,j*self.stride
                got = self.tile(full[y:y+s, x:x+s])
                a,b,c,d = (m if inner else 0 for m,inner in ((self.margin, i > 0), (self.margin, i < rows-1), (self.margin, j > 0), (self.margin, j < cols-1)))
                out[y+a:y+s-b, x+c:x+s-d] = got[a:s-b, c:s-d]
        return out[:h,:w]


def ours(net, info, layer):
    "Our own class ids of a layer (H,W,C) in one pass."
    from satseg.models.predict import batch_probabilities, class_ids
    probs = batch_probabilities(net, torch.from_numpy(info.normalise(layer.transpose(2,0,1)[None])))[0].numpy()
    return class_ids(probs[0] if len(probs) == 1 else probs, info.threshold)


@pytest.mark.parametrize('kind', ['uint8','uint16'])
def test_deepness_gives_our_class_map(kind, tmp_path, monkeypatch):
    "The shipped net on sample chips: no pixel differs, with and without the standardization step, whatever threshold up to 0.5 is set in Deepness."
    from satseg.models.model_file import load_model
    from satseg.data.synthetic import sample_chips
    monkeypatch.setattr(exporting, '_deepness_tiles', lambda *_: (256,20))
    net,info = load_model(ROOT/'unet_model.pth')
    scale = 16 if kind == 'uint8' else 1
    info.mean,info.std = [o/scale for o in info.mean],[o/scale for o in info.std]  # As if trained on a layer of bytes
    export_onnx(net, info, tmp_path/'q.onnx', deepness=True, resolution=10)
    plugin = Deepness(tmp_path/'q.onnx')
    assert plugin.classes == info.classes and json.loads(plugin.said['resolution']) == 1000
    for chip in sample_chips(2, 256, seed=5):
        layer = np.clip(np.round(chip.image/scale), 0, np.iinfo(kind).max).astype(kind).transpose(1,2,0)
        want = ours(net, info, layer)
        assert .01 < want.mean() < .9
        for kw in ({}, dict(standardise=False), dict(threshold=.5), dict(threshold=.2)): assert (plugin.tile(layer, **kw) != want).sum() == 0


@pytest.mark.parametrize('n_out', [1,3])
def test_deepness_leaves_no_seams(n_out, tmp_path):
    "Tiles fit together: a layer that they cover without rest is as in one pass; else only what sees the zeros beyond the edge may differ."
    net = alive(lambda: UNet(4, n_out, (4,8,8)))
    info = describes(net, mean=[100.,90.,80.,120.], std=[40.,30.,50.,0.], threshold=.37 if n_out == 1 else None)
    export_onnx(net, info, tmp_path/'q.onnx', deepness=True)
    plugin,rng = Deepness(tmp_path/'q.onnx'),np.random.default_rng(0)
    halo = plugin.margin
    full = plugin.side+plugin.stride
    layer = rng.integers(0, 256, (full,full,4), np.uint8)
    assert plugin.stride < plugin.side and (plugin.layer(layer) != ours(net, info, layer)).sum() <= 2  # Random nets have pixels on the very border
    small = layer[:full-31,:full-77]
    off = plugin.layer(small) != ours(net, info, small)
    assert off[:-halo,:-halo].sum() <= 2 and off.mean() < .2 and 'resolution' not in plugin.said


def test_deepness_tiles():
    for cell,halo in ((2,6),(16,96),(32,160),(8,40)):
        side,percent = _deepness_tiles(dict(multiple=cell, halo=halo))
        overlap = int(side*percent/100*2)//2
        assert overlap//2 >= halo and (side-overlap)%cell == 0 and side%cell == 0 and side <= 1024
    assert _deepness_tiles(dict(multiple=8, halo=None), 300) == (304,25) and _deepness_tiles(dict(multiple=32, halo=600)) == (1024,50)


def test_deepness_refusals(tmp_path):
    net = alive(lambda: UNet(3, 1, (4,8)))
    out = tmp_path/'q.onnx'
    for kw,words in ((dict(class_map=True), 'got both'), (dict(resolution=0), 'metres per pixel'), (dict(deepness=False, resolution=10), 'for Deepness only')):
        with pytest.raises(BadInput, match=words): export_onnx(net, describes(net), out, **{'deepness': True, **kw})
    presence = alive(NETS['classifier'])
    with pytest.raises(BadInput, match='gives a mask'): export_onnx(presence, describes(presence), out, deepness=True)
    assert list(tmp_path.iterdir()) == []
    export_onnx(net, describes(net), out, deepness=True)
    with pytest.raises(BadInput, match="made for QGIS's Deepness"): load_onnx(out)
    other = alive(lambda: UNet(3, 1, (4,4)))
    with pytest.raises(BadInput, match='the export is wrong'): _difference(other, out)
