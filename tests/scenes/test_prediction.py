"""One picture, however it comes, to the same mask."""
import warnings

import numpy as np
import pytest
from PIL import Image

from satseg import map_scenes, predict, sample_chips, train
from satseg.core.errors import BadInput, Remark
from satseg.core.files import bundled_file
from satseg.models.predict import class_ids, load_net, predict_chips


@pytest.fixture(scope='module')
def chips(): return sample_chips(3, size=96, seed=2026)


@pytest.fixture(scope='module')
def want(chips):
    net,info = load_net(bundled_file('unet_model.pth'), 'cpu')
    return [class_ids(p, info.threshold) for _,p in predict_chips(net, info, chips, device='cpu')]


def test_arrays_chips_lists_and_files_give_one_mask(chips, want, tmp_path):
    rasterio = pytest.importorskip('rasterio')
    a = chips[0].image
    np.save(tmp_path/'a.npy', a)
    with rasterio.open(tmp_path/'a.tif', 'w', driver='GTiff', width=96, height=96, count=3, dtype='float32') as f:
        f.write(a[::-1]); f.descriptions = 'B04','B03','B02'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Remark)
        got = [predict(o, device='cpu') for o in (a, a.transpose(1,2,0), chips[0], str(tmp_path/'a.npy'), tmp_path/'a.tif')]
        got += [predict(a[::-1], bands='3,2,1', device='cpu'), predict(a/1000, scale=1000, device='cpu'), predict(a/1000+[[[1]],[[0]],[[0]]], scale=np.full(3, 1000), offset='-1000,0,0', device='cpu'), predict(np.concatenate([a,a]), bands='4,5,6', device='cpu')]
    for o in got: assert (o.mask == want[0]).all() and o.probabilities.shape == (96,96)
    for many in (chips, list(chips), np.stack([o.image for o in chips])):
        assert all((o.mask == w).all() for o,w in zip(predict(many, device='cpu'), want, strict=True))


def test_an_answer_says_what_it_is_and_shows_itself(chips):
    res = predict(chips[0].image, threshold=.5, device='cpu')
    assert repr(res).startswith('array: 96 x 96 pixels of B02,B03,B04; ') and repr(res).endswith('threshold 0.5 as given')
    assert (res.mask == (res.probabilities >= .5)).all() and list(res.legend) == [1]
    assert res._repr_png_().startswith(b'\x89PNG')
    several = predict(chips, device='cpu')
    assert several._repr_html_().count('<img src="data:image/png;base64,') == 3 and repr(several[2]).startswith('chip[2]: 96 x 96')


def test_a_photograph_is_red_green_blue_and_is_remarked_upon(chips):
    rgb = Image.fromarray(np.uint8(chips[0].image.transpose(1,2,0)[...,::-1]/8))
    with pytest.warns(Remark, match='8-bit picture'): res = predict(rgb, device='cpu')
    assert (res.chips[0].image == np.moveaxis(np.asarray(rgb)[...,::-1], 2, 0)).all()


def test_readings_in_another_unit_or_order_come_with_the_argument_that_mends_them(chips, real_data):
    with pytest.warns(Remark, match="scale='10000'$"): predict(chips[0].image/10000, device='cpu')
    with pytest.warns(Remark, match="try bands='1,2,3'$"): wrong = predict(real_data/'s2_builtup'/'scene.tif')
    with warnings.catch_warnings():
        warnings.simplefilter('error', Remark)
        right = predict(real_data/'s2_builtup'/'scene.tif', bands='1,2,3')
    assert wrong.mask.mean() < .07 < .12 < right.mask.mean()


@pytest.mark.parametrize('x,kw,text', [(np.zeros((8,9,4)), {}, "predict: expected (H,W,3) or (3,H,W) with the bands B02,B03,B04, got float64 (8,9,4): say where they are, such as bands='1,2,3'"),
    (np.zeros((8,9)), {}, 'got float64 (8,9,1)'), (np.zeros((8,9,3)), dict(bands='4,2,1'), 'expected (H,W,3)'), (np.zeros((8,9,3)), dict(bands='R,G,B'), 'expected (H,W,3)'),
    (np.zeros((8,9,3)), dict(scale='x'), 'scale: expected a number or 3, one per band, got x'), (np.zeros((8,9,3)), dict(offset=[1,2]), 'offset: expected a number or 3'),
    ('no.tif', {}, 'found nothing'), (np.zeros((8,9,3)), dict(model='no.pth'), 'no such model file'), (np.zeros((8,9,3)), dict(model=3), 'model: expected a model file')])
def test_what_is_wrong_is_one_line(x, kw, text):
    with pytest.raises(BadInput) as e: predict(x, **kw)
    assert text in str(e.value) and '\n' not in str(e.value)


def test_a_scene_too_large_for_one_pass_is_sent_to_map_scenes(tmp_path):
    pytest.importorskip('rasterio')
    np.save(tmp_path/'a.npy', np.zeros((2100,2000,3), np.uint8))
    with pytest.raises(BadInput, match=r"2,000 x 2,100 pixels are too many for one pass: satseg.map_scenes\("): predict(tmp_path/'a.npy')


def test_a_file_at_another_resolution_is_refused_or_resampled(chips, tmp_path):
    rasterio = pytest.importorskip('rasterio')
    with rasterio.open(tmp_path/'a.tif', 'w', driver='GTiff', width=96, height=96, count=3, dtype='float32', crs='EPSG:32633', transform=rasterio.Affine(5, 0, 5e5, 0, -5, 5e6)) as f:
        f.write(chips[0].image); f.descriptions = 'B02','B03','B04'
    for x in (tmp_path/'a.tif', [tmp_path/'a.tif']):
        with pytest.raises(BadInput, match=r'a\.tif: expected pixels of about 10 m as the model was trained on, got 5 m.*any_resolution=True'): predict(x, device='cpu')
    plain, = predict([tmp_path/'a.tif'], device='cpu', any_resolution=True)
    resampled = predict(tmp_path/'a.tif', device='cpu', resample=True)
    assert (plain.mask == predict(chips[0].image, device='cpu').mask).all() and resampled.mask.shape == (96,96) and (resampled.mask != plain.mask).any()


def test_what_train_gives_is_a_model(chips, tmp_path):
    pair = train(chips[:2], chips[2:], tmp_path/'run', epochs=1, lr=1e-3, quiet=True)
    assert predict(chips[0].image, pair).info is pair[1]


def test_no_data_in_a_file_is_no_class(chips, tmp_path):
    rasterio = pytest.importorskip('rasterio')
    a = chips[0].image.astype('uint16')
    a[:,:20] = 0
    with rasterio.open(tmp_path/'a.tif', 'w', driver='GTiff', width=96, height=96, count=3, dtype='uint16', nodata=0) as f:
        f.write(a); f.descriptions = 'B02','B03','B04'
    for res in (predict(tmp_path/'a.tif', device='cpu'), *predict([tmp_path/'a.tif'], device='cpu')):
        assert (res.mask[:20] == 255).all() and set(np.unique(res.mask[20:])) <= {0,1}
        assert 'from the model file' in repr(res)
        assert f'{(res.mask[20:] == 1).mean():.1%}' in repr(res) # Of what is known


def test_a_misspelt_argument_of_map_scenes_is_one_line(tmp_path):
    with pytest.raises(BadInput, match='map_scenes takes no min_aera: did you mean min_area'): map_scenes('a.tif', out=tmp_path/'maps', min_aera=3)
    assert not (tmp_path/'maps').exists()
