"""Metres a pixel: from the chips into the model file, its ONNX, Deepness and card; chips of another size are refused, or resampled."""
import json
import math
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from satseg.core.errors import BadInput, Remark
from satseg.data.datasets import load_dataset
from satseg.core.resolution import chip_resolutions, median_resolution
from satseg.evaluation.evaluate import evaluate
from satseg.evaluation.predict_dataset import predict_dataset
from satseg.data.synthetic import sample_chips
from satseg.learn.fit import train
from satseg.learn.recipes import recipe_from
from satseg.learn.run import run_recipe
from satseg.models.card import model_card
from satseg.models.model_file import load_model, save_model
from satseg.models.model_info import ModelInfo, check_resolution, info_from
from satseg.models.predict import predict_chips
from satseg.models.unet import UNet

rasterio = pytest.importorskip('rasterio')
from rasterio.transform import from_origin


def folder(path, pixels, size=48, **kw):
    "Images and masks as GeoTIFFs, each with pixels of so many metres."
    rng = np.random.default_rng(0)
    for name in ('images','masks'): (path/name).mkdir(parents=True)
    for i,metres in enumerate(pixels):
        mask = np.zeros((size, size), np.uint8)
        mask[10:30, 8+i:28+i] = 1
        image = (rng.integers(0, 60, (3, size, size))+120*mask).astype('uint8')
        for where,a in (('images',image), ('masks',mask[None])):
            with rasterio.open(path/where/f'{i}.tif', 'w', 'GTiff', size, size, len(a), dtype='uint8', crs='EPSG:32633', transform=from_origin(5e5+i*1e4, 5e6, metres, metres)) as r: r.write(a)
    return path


@pytest.fixture
def net():
    torch.manual_seed(0)
    return UNet(3, 1, (4, 8)).eval()


def info_of(net, **kw): return ModelInfo('UNet', net.arguments, ['R','G','B'], [60.]*3, [60.]*3, ['background','building'], **kw)


def test_chips_tell_their_resolution_whatever_is_done_to_them(tmp_path):
    chips = load_dataset(folder(tmp_path/'d', [.5, .5, 2]), 'folders')['all']
    assert np.allclose(chip_resolutions(chips), [.5, .5, 2], rtol=1e-3) and median_resolution(chips) == .5
    assert np.allclose(chip_resolutions(chips[2:].cut(24)), [2]*4, rtol=1e-3) and np.allclose(chip_resolutions(chips[:1]+chips[2:].pick(['R','G','B'])), [.5, 2], rtol=1e-3)


def test_old_model_files_load_and_wrong_resolutions_are_refused(net, tmp_path):
    old = {k: v for k,v in vars(info_of(net)).items() if k != 'resolution'}
    assert info_from(old).resolution is None
    save_model(tmp_path/'m.pth', net, info_of(net, resolution=.3))
    assert load_model(tmp_path/'m.pth')[1].resolution == .3
    assert '**Resolution:** 0.3 m a pixel' in model_card(tmp_path/'m.pth')
    for o in (0, -1, 'ten', math.nan, 1e7):
        with pytest.raises(BadInput, match='resolution'): info_from(dict(old, resolution=o))


def test_onnx_and_deepness_say_it_and_an_option_overrides(net, tmp_path):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from satseg.models.export import export_onnx
    from satseg.models.onnx import read_onnx
    info = info_of(net, resolution=.3)
    export_onnx(net, info, tmp_path/'m.onnx')
    assert read_onnx(tmp_path/'m.onnx').info.resolution == .3
    def told(**kw):
        export_onnx(net, info, tmp_path/'q.onnx', deepness=True, **kw)
        return {o.key: o.value for o in onnx.load(tmp_path/'q.onnx').metadata_props}['resolution']
    assert (json.loads(told()), json.loads(told(resolution=.5))) == (30, 50)


def test_chips_of_another_size_are_refused_or_resampled(net, tmp_path):
    path,model = folder(tmp_path/'d', [.5, .5]),tmp_path/'m.pth'
    save_model(model, net, info_of(net, resolution=1))
    chips = load_dataset(path, 'folders')['all']
    go = partial(predict_dataset, str(model), str(path), quiet=True, device='cpu')
    for call in (go, lambda: predict_chips(net, info_of(net, resolution=1), chips)):
        with pytest.raises(BadInput) as e: call()
        assert 'about 1 m as the model was trained on, got 0.5 m' in str(e.value) and '--any-resolution' in str(e.value) and '\n' not in str(e.value)
    taken,resampled = go(any_resolution=True),go(resample=True, out=str(tmp_path/'out'))
    assert taken['n'] == resampled['n'] == 2 and len(list((tmp_path/'out'/'masks').iterdir())) == 2
    with pytest.raises(BadInput, match='got both'): go(any_resolution=True, resample=True)
    info = info_of(net, resolution=1)
    probs = [p for _,p in predict_chips(net, info, chips, resample=True)]
    plain = [p for _,p in predict_chips(net, info, chips, any_resolution=True)]
    assert all(np.abs(a-b).max() > 1e-3 for a,b in zip(probs, plain)) and [o.shape for o in probs] == [(48,48)]*2 and evaluate(net, info, chips, resample=True).n == 2
    with pytest.raises(BadInput, match='the model file does not say one'): predict_chips(net, info_of(net), chips, resample=True)


@pytest.mark.parametrize('pixels,said,want,remark', [([.5]*8, None, .5, None), ([.5]*8, .6, .6, None), ([.5]*4+[2]*4, None, None, 'pixels of'), ([.5]*8, 3, 3, 'pixels of')])
def test_training_writes_the_resolution_of_its_chips(tmp_path, pixels, said, want, remark):
    folder(tmp_path/'d', pixels)
    recipe = recipe_from(dict(data=dict(kind='folders', resolution=said), split=dict(valid=.3), model=dict(arguments=dict(widths=[4,8])), training=dict(lr=1e-2, bs=2, epochs=1)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        run_recipe(recipe, tmp_path/'d', tmp_path/'run', quiet=True)
    told = [str(o.message) for o in seen if issubclass(o.category, Remark) and 'data.resolution' in str(o.message)]
    assert len(told) == bool(remark) and all(o.startswith(remark) for o in told)
    found = load_model(tmp_path/'run'/'model.pth')[1].resolution
    assert found == want if want else found in (.5, 2)


def test_training_takes_the_resolution_of_its_start_where_chips_tell_none(net, tmp_path):
    save_model(tmp_path/'m.pth', net, info_of(net, resolution=.3))
    bare = sample_chips(4, size=48).pick(['B04','B03','B02'])
    bare.bands = 'R','G','B'
    placed = load_dataset(folder(tmp_path/'d', [.5]*4), 'folders')['all']
    for chips,want in ((bare, .3), (placed, .5)):
        learn,info = train(chips[:2], chips[2:], tmp_path/'run', start=tmp_path/'m.pth', check_only=True, threshold=.5)
        assert info.resolution == want and learn.started.endswith('pixels of 0.3 m as there') == (want == .3)
