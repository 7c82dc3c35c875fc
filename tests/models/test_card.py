"""The card of a model."""
import subprocess
import sys
from pathlib import Path

import pytest

from satseg.core.errors import BadInput
from satseg.models.export import export_onnx
from satseg.models.card import ModelCard, model_card
from satseg.core.files import bundled_file
from satseg.models.model_info import ModelInfo


ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = '<script>alert(1)</script> [x](javascript:alert(1)) ![y](http://a.b/c.png) | `z` $t$ \\(t\\) # www.evil.example @me'

def saved(tmp_path, **kw):
    from satseg.models.unet import UNet
    from satseg.models.model_file import save_model
    net = UNet(2, 1, (4,8)).eval()
    info = ModelInfo('UNet', net.arguments, **{**dict(bands=['B04','B08'], mean=[1.,2.], std=[3.,4.]), **kw})
    save_model(tmp_path/'net.pth', net, info)
    return net,info,tmp_path/'net.pth'


def test_card_of_the_shipped_model():
    import hashlib
    card = model_card(bundled_file('unet_model.pth'))
    assert isinstance(card, ModelCard) and card.startswith('---\nlibrary_name: satseg\npipeline_tag: image-segmentation')
    for o in ('# Model Card for unet_model.pth', '## Model Details', '## Uses', '## Bias, Risks, and Limitations', '## How to Get Started with the Model', '## Training Details', '## Evaluation',
              'B02, B03, B04', '0.34', '1,964,097 parameters', hashlib.sha256((ROOT/'unet_model.pth').read_bytes()).hexdigest(), '240 sample scenes', '| 0.577 |', 'all background'): assert o in card
    assert card._repr_markdown_().startswith('# Model Card') and '{' not in card


def test_card_says_the_same_of_onnx_without_torch(tmp_path):
    pytest.importorskip('onnxruntime')
    net,info,path = saved(tmp_path, scores={'val': {'iou': .5, 'trivial': {'all background': {'iou': 0., 'accuracy': .9}}}}, trained_on='chips of Vienna')
    export_onnx(net, info, tmp_path/'net.onnx')
    export_onnx(net, info, tmp_path/'qgis.onnx', deepness=True)
    code = "import sys; sys.modules['torch'] = None; from satseg.models.card import model_card; print(model_card(sys.argv[1]))"
    done = {o: subprocess.run([sys.executable, '-c', code, tmp_path/o], capture_output=True, text=True, cwd=ROOT) for o in ('net.onnx','qgis.onnx')}
    assert all(o.returncode == 0 for o in done.values()), done
    cards = [done['net.onnx'].stdout, done['qgis.onnx'].stdout, model_card(path)]
    for card in cards:
        for o in ('| B08 | 2 | 4 |', 'chips of Vienna', '"all background", without looking | 0.000 |', '| 0.900 |', 'building where its probability reaches 0.5'): assert o in card
        assert 'does not say what' not in card
    radius = [next(o for o in c.splitlines() if 'Field of view' in o) for c in cards]
    assert radius[0] == radius[1] == radius[2] and "Deepness" in cards[1]


def test_card_disarms_what_strangers_write(tmp_path):
    mistune = pytest.importorskip('mistune')
    *_,path = saved(tmp_path, bands=['B04', HOSTILE[:90]], classes=['background', HOSTILE[:90]], trained_on=HOSTILE, scores={HOSTILE: {'iou': .5, 'trivial': {HOSTILE: {'iou': 10**400}}}, 'b': 7, 'c': {'iou': 'x|y'}})
    for name in ('a`b](x).pth', 'a.pth<img src=x onerror=alert(2)>'):  # A file's name comes from strangers too, its suffix included
        path = path.rename(tmp_path/name)
        html = mistune.create_markdown(plugins=['table','url'], escape=False)(model_card(path)._repr_markdown_())
        for bad in ('<script', '<img', '<a ', 'href', '$', '\\', '@', 'onerror', 'a`b'): assert bad not in html
        assert html.count('alert(1)') >= 4 and 'evil' in html  # Shown, as text


def test_a_tensor_of_a_million_sides_is_refused_at_once(tmp_path):
    onnx = pytest.importorskip('onnx')
    export_onnx(*saved(tmp_path)[:2], tmp_path/'net.onnx')
    model = onnx.load(tmp_path/'net.onnx')
    model.graph.initializer.append(onnx.TensorProto(name='x', dims=[2**62]*200_000))  # As whole numbers their product takes 95 s
    (tmp_path/'net.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match='more numbers than it has bytes'): model_card(tmp_path/'net.onnx')


@pytest.mark.parametrize('content, words', [(None, 'no such model file'), (b'', 'holds no net'), (b'GIF89a', 'damaged')])
def test_card_of_no_model_is_one_line(content, words, tmp_path):
    if content is not None: (tmp_path/'a.onnx').write_bytes(content)
    with pytest.raises(BadInput, match=words) as e: model_card(tmp_path/'a.onnx')
    assert '\n' not in str(e.value)
