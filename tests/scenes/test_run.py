"""Whole scenes: tile by tile equals one pass; every kind of scene from the command line; broken off anywhere and continued to the same bytes; slips."""
import csv, json, multiprocessing, os, re, runpy, shutil, signal, socket, sqlite3, subprocess, sys, time, warnings
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satseg.core.errors import BadInput
from satseg.models.engines import Engine, load_engine, window_size
from satseg.core.files import bundled_file
from satseg.models.model_info import ModelInfo
from satseg.scenes.store import TileStore
from satseg.data.rasters import CACHE
from satseg.models.predict import class_ids, pixel_probabilities
from satseg.data.synthetic import sample_scene
from satseg.scenes import compute as C, executors as X, outputs, plan, run as S
from satseg.scenes.plan import MapOptions
from satseg.scenes.vector_files import FORMATS
from test_engines import one_pass, write_net

rasterio = pytest.importorskip('rasterio')
geopandas = pytest.importorskip('geopandas')
pytest.importorskip('onnxruntime'); pytest.importorskip('openvino')
from rasterio.features import rasterize
from rasterio.transform import from_origin

BANDS = 'B02','B03','B04'
CRS,HERE = 'EPSG:32633',from_origin(500000, 5200000, 10, 10)


def nets_of():
    from satseg.models.unet import UNet
    from satseg.models.encoders import DeepLabV3, EncoderUNet
    return {'one': (lambda: UNet(3, 1, (8, 16, 32)),), 'three': (lambda: UNet(3, 3, (4, 8)), 'abc'), 'deep': (lambda: UNet(3, 2, (4, 4, 8, 8)), 'ab'),
            'encoder': (lambda: EncoderUNet('resnet18', 3, 3, detail=4, widths=(16, 8, 8, 4, 4)), ('ground', 'roof', 'water')),
            'group': (lambda: UNet(3, 1, (8, 16), norm='group'),), 'lab': (lambda: DeepLabV3('mobilenet_v3_large', 3, 2), 'ab')}


class Home:
    "Nets, made when first asked for, and a picture."
    def __init__(self, path):
        self.path,self.made = path,{}
        a = np.concatenate([np.concatenate([sample_scene(96, seed=2*i+j)[0] for j in range(2)], 1) for i in range(2)])
        self.picture = np.ascontiguousarray(np.moveaxis(a, -1, 0)[:, :151, :163])  # (3,151,163) uint16, both sides prime

    def net(self, name):
        "Path of the ONNX file, net, description."
        if name not in self.made:
            path,(make,*classes) = self.path/f'{name}.pth',nets_of()[name]
            net,info = write_net(path, make, *classes)
            if info.threshold is not None: # So that both classes occur
                info.threshold = round(float(np.quantile(one_pass(net, info, self.picture.astype(np.float32)), .7)), 3)
                from satseg.models.export import export_onnx
                from satseg.models.model_file import save_model
                save_model(path, net, info)
                export_onnx(net, info, path.with_suffix('.onnx'))
            self.made[name] = path.with_suffix('.onnx'),net,info
        return self.made[name]


@pytest.fixture(scope='session')
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp('home')
    os.environ['SATSEG_CACHE'] = str(path/'cache')
    return Home(path)


def memory_for(engine, side, path):
    "Bytes that lead to windows of `side` pixels."
    low,high = engine.base,4e9
    while high-low > 1:
        mid = (low+high)/2
        try: low,high = (low,mid) if window_size(engine, mid, os.path.getsize(path)) >= side else (mid,high)
        except BadInput: low = mid
    return int(high)+1


def tif(path, a, names=BANDS, **kw):
    a = np.asarray(a)
    with rasterio.open(path, 'w', 'GTiff', a.shape[2], a.shape[1], len(a), **{**dict(crs=CRS, transform=HERE, dtype=a.dtype), **kw}) as r:
        r.write(a)
        if names: r.descriptions = names
    return path


def classes_of(net, info, x, valid=None):
    "What the class map must be, and where it is certain."
    x = x.astype(np.float32)
    if valid is None: valid = np.ones(x.shape[1:], bool)
    x = np.where(valid, x, np.float32(info.mean)[:,None,None])
    p = one_pass(net, info, x)
    p = pixel_probabilities(p[0] if len(p) == 1 else p, info)
    res = class_ids(p, info.threshold)
    res[~valid] = 255
    if p.ndim == 2: return res,abs(p-info.threshold) > 1e-4
    top = np.sort(p, 0)
    return res,top[-1]-top[-2] > 2e-4


def same_map(got, want):
    classes,sure = want
    assert got.shape == classes.shape and np.array_equal(got[sure], classes[sure]) and sure.mean() > .9


def stored(folder):
    "All files below a folder: name -> bytes."
    return {str(o.relative_to(folder)): o.read_bytes() for o in sorted(Path(folder).rglob('*')) if o.is_file()}


# 1. Exact

@pytest.fixture(scope='session')
def engine_of(home):
    made = {}
    def get(name, kind):
        path = home.net(name)[0]
        if (name,kind) not in made:
            made[name,kind] = load_engine(path.with_suffix('.pth') if kind == 'torch' else path, kind, 'cpu', threads=1)
        return made[name,kind]
    return get


def assembled(run):
    "Probabilities (K,H,W) of a run, block by block; NaN where no block answered."
    maker,res = C.TileMaker(run.plan, run.scene, run.engine),None
    for i in range(len(run.layout)):
        p = maker.predict(i, maker.read(i))
        if p is None: continue
        y,x,h,w = run.layout.tile(i)
        if res is None: res = np.full((len(p), run.scene.height, run.scene.width), np.nan, np.float32)
        assert p.shape == (len(p), h, w)
        res[:, y:y+h, x:x+w] = p
    return res


def a_run(path, engine, model, size=None, halo=None, memory=2e9):
    "A run, its windows at most `size` pixels wide."
    run = S.SceneRun(str(path), engine, str(model), MapOptions(memory=memory, halo=halo, polygons='none'))
    if size: run.plan['window_from_memory'] = size
    run.layout = C.layout_of(run.plan)
    return run


@st.composite
def cases(draw):
    size = draw(st.sampled_from([(1, 157), (151, 1), (2, 3), (97, 101), (151, 163), None]))
    high,wide = size or (draw(st.integers(1, 151)), draw(st.integers(1, 163)))
    return high,wide,draw(st.integers(0, 120)),draw(st.sampled_from([0, 0, 8, 30])),draw(st.booleans()),draw(st.integers(0, 9))


TRY = dict(one=6, three=6, deep=4, encoder=2)


@pytest.mark.parametrize('name,kind', [('one','openvino'), ('one','onnxruntime'), ('one','torch'), ('three','openvino'),
                                       ('three','onnxruntime'), ('deep','openvino'), ('encoder','onnxruntime')])
def test_tiles_equal_one_pass(home, engine_of, tmp_path, name, kind):
    path,net,info = home.net(name)
    engine = engine_of(name, kind)
    @settings(max_examples=TRY[name], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def check(case):
        high,wide,more,extra,holes,seed = case
        picture = home.picture if name != 'encoder' else np.tile(home.picture, (1, 2, 2)) # Its halo is larger than the picture
        if name == 'encoder': high,wide = high+150 if high > 2 else high, wide*2
        x,rng = picture[:, :high, :wide].astype(np.float32),np.random.default_rng(seed)
        if holes:
            x[:, rng.random((high, wide)) < .1] = np.nan
            x[1, :high//2, :wide//3] = np.inf
        np.save(tmp_path/'s.npy', np.moveaxis(x, 0, -1))
        halo = engine.facts['halo']+extra
        halo = -(-halo//engine.facts['multiple'])*engine.facts['multiple']
        run = a_run(tmp_path/'s.npy', engine, path, 2*halo+engine.facts['multiple']+more, halo)
        got,valid = assembled(run),np.isfinite(x).all(0)
        if got is None:
            assert not valid.any()
            return
        want = one_pass(net, info, np.where(valid, x, np.float32(info.mean)[:,None,None]))
        assert np.abs(got-want)[:, valid].max() <= 1e-4
        def ids(p): return class_ids(pixel_probabilities(p[0] if len(p) == 1 else p, info), info.threshold)
        same_map(np.where(valid, ids(got), 255), classes_of(net, info, x, valid))
    check()


@pytest.mark.parametrize('name', ['group', 'lab'])
def test_blended_nets_know_no_tiles(home, engine_of, tmp_path, name):
    path,net,info = home.net(name)
    engine = engine_of(name, 'onnxruntime')
    for shape in ((151, 163), (1, 140), (17, 9)):
        x = home.picture[:, :shape[0], :shape[1]].astype(np.float32)
        x[:, :4, 100:] = np.nan
        np.save(tmp_path/'s.npy', np.moveaxis(x, 0, -1))
        want = assembled(a_run(tmp_path/'s.npy', engine, path))
        for size in (48, 77):
            got = assembled(a_run(tmp_path/'s.npy', engine, path, size))
            both = np.isfinite(got)
            assert both[:, np.isfinite(x).all(0)].all() and np.abs(got-want)[both].max() <= 1e-6
        assert 0 <= np.nanmin(want) and np.nanmax(want) <= 1
        if max(shape) <= 64: np.testing.assert_allclose(want, one_pass(net, info, np.where(np.isfinite(x), x, np.float32(info.mean)[:,None,None])), atol=1e-4)


def test_blended_windows_go_through_the_net_in_batches(home, tmp_path):
    np.save(tmp_path/'s.npy', np.moveaxis(home.picture, 0, -1))
    (tmp_path/'m').write_bytes(b'')
    engine,seen = Stub('pooled'),[]
    run_ = engine.run
    engine.run = lambda x: seen.append(len(x)) or run_(x)
    run = a_run(tmp_path/'s.npy', engine, tmp_path/'m', 77)
    many,n = assembled(run),len(seen)
    assert len(set(seen)) == 1 and 1 < seen[0] <= run.plan['batch'] == 8
    run.plan['batch'] = 1
    np.testing.assert_array_equal(many, assembled(run))
    assert n < len(seen)-n < n*8


class Stub(Engine):
    "A net in one line: pointwise, a mean over 3 x 3 pixels with repeated edges, or less the mean of the window."
    def __init__(self, kind):
        halo = {'point': 0, 'mean': 2, 'pooled': None}[kind]
        info = ModelInfo('UNet', dict(n_in=3, n_out=1), list(BANDS), [900.,800,600], [200.,200,250], chip_size=32)
        super().__init__(None, info, dict(multiple=2, radius=halo, halo=halo, memory=100), kind)
    def run(self, x):
        x = self.info.normalise(x).mean(1, keepdims=True)
        if self.name == 'mean':
            p = np.pad(x, ((0,0), (0,0), (1,1), (1,1)), 'edge')
            x = sum(p[..., i:i+x.shape[2], j:j+x.shape[3]] for i in range(3) for j in range(3))/9
        if self.name == 'pooled': x = x-x.mean((2, 3), keepdims=True)
        return (1/(1+np.exp(-x))).astype(np.float32)


@pytest.mark.parametrize('kind', ['point', 'mean', 'pooled'])
@pytest.mark.parametrize('shape', [(1, 1), (1, 131), (67, 71), (128, 128)])
def test_constant_in_constant_out(tmp_path, kind, shape):
    np.save(tmp_path/'s.npy', np.full((*shape, 3), 1000, np.uint16))
    (tmp_path/'m').write_bytes(b'')
    engine = Stub(kind)
    for size in (26, 40, 4096):
        got = assembled(a_run(tmp_path/'s.npy', engine, tmp_path/'m', size))
        assert np.ptp(got) <= 1e-6 and abs(got.mean()-(.5 if kind == 'pooled' else engine.run(np.full((1, 3, 4, 4), 1000, np.float32)).mean())) < 1e-6


@pytest.mark.parametrize('kind', C.UNCERTAINTY)
def test_uncertainty_goes_from_0_to_1(kind):
    sure,torn = np.eye(3)[:, :, None],np.full((3, 1, 1), 1/3)
    np.testing.assert_allclose(C.uncertainty(sure, kind), 0, atol=1e-9)
    np.testing.assert_allclose(C.uncertainty(torn, kind), 1, atol=1e-9)
    np.testing.assert_allclose(C.uncertainty(np.array([[0, .5, 1]]), kind), [[0, 1, 0]], atol=1e-9)
    assert list(C._quantise(np.array([[0, .5, 1, 2, np.nan]]), np.array([[True]*4+[False]]))[0]) == [0, 125, 250, 250, 255]


# 2. From end to end

def small(home, side=92):
    "Options that make many small blocks of the net `one`."
    path = home.net('one')[0]
    return '--model',path,'--memory',memory_for(load_engine(path, 'openvino'), side, path)


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch, home):
    "Run the command line within this process: exit status, stdout, stderr."
    monkeypatch.chdir(tmp_path)
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['scene', *map(str, args)])
        capsys.readouterr()
        status = 0
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try: runpy.run_module('satseg.scene', run_name='__main__', alter_sys=True)
            except SystemExit as e: status = e.code or 0
        return status,*capsys.readouterr()
    return run


def holes(home):
    "The picture with nodata 0: a corner, and one band of a pixel."
    a = home.picture.copy()
    a[:, :60, 100:] = 0
    a[1, 80, 80] = 0
    return a,(a != 0).all(0)


def stac(folder, a):
    for n,o in zip(BANDS, a): tif(folder/f'x_{n}.tif', o[None], (), nodata=0)
    assets = {n: dict(href=f'./x_{n}.tif', type='image/tiff') for n in BANDS}
    item = dict(type='Feature', stac_version='1.0.0', id='item', geometry=None, properties={}, links=[], assets=assets)
    (folder/'s.json').write_text(json.dumps(dict(type='FeatureCollection', features=[item])))
    return 's.json'


def vrt(folder, a):
    tif(folder/'inner.tif', a, nodata=0)
    bands = ''.join(f'<VRTRasterBand dataType="UInt16" band="{i}"><Description>{n}</Description><NoDataValue>0</NoDataValue><SimpleSource>'
                    f'<SourceFilename relativeToVRT="1">inner.tif</SourceFilename><SourceBand>{i}</SourceBand></SimpleSource></VRTRasterBand>' for i,n in enumerate(BANDS, 1))
    (folder/'s.vrt').write_text(f'<VRTDataset rasterXSize="{a.shape[2]}" rasterYSize="{a.shape[1]}"><SRS>{CRS}</SRS><GeoTransform>500000,10,0,5200000,0,-10</GeoTransform>{bands}</VRTDataset>')
    return 's.vrt'


def jp2(folder, a):
    with rasterio.open(tif(folder/'t.tif', a, nodata=0)) as src:
        with rasterio.open(folder/'s.jp2', 'w', 'JP2OpenJPEG', a.shape[2], a.shape[1], 3, crs=CRS, transform=HERE, dtype='uint16', nodata=0, QUALITY='100', REVERSIBLE='YES', YCBCR420='NO') as r: r.write(src.read())
    (folder/'t.tif').unlink()
    return 's.jp2','--nodata','0','--bands','1,2,3'


def single(folder, a, sub='bands'):
    (folder/sub).mkdir()
    for n,o in zip(BANDS, a): tif(folder/sub/f'T32_{n}.tif', o[None], (), nodata=0)
    return sub


def floats(folder, a):
    a = np.where((a != 0).all(0), a.astype(np.float32)/10000, np.nan)
    tif(folder/'s.tif', a.astype(np.float32), nodata=np.nan)
    return 's.tif','--scale','10000'


def plain(folder, a): tif(folder/'s.tif', a, nodata=0); return 's.tif'
def other_order(folder, a): tif(folder/'s.tif', a[::-1], BANDS[::-1], nodata=0); return 's.tif'
def numbers(folder, a): tif(folder/'s.tif', a[::-1], (), nodata=0); return 's.tif','--bands','3,2,1'
def alpha(folder, a):
    full = np.concatenate([a, 65535*(a != 0).all(0)[None]]).astype(np.uint16)
    with rasterio.open(tif(folder/'s.tif', full, (*BANDS, 'alpha')), 'r+') as r: r.colorinterp = [rasterio.enums.ColorInterp[o] for o in ('gray','undefined','undefined','alpha')]
    return 's.tif'
def comma(folder, a): single(folder, a); return ','.join(f'bands/T32_{n}.tif' for n in BANDS)
def pattern(folder, a): plain(folder, a); return '*.tif'
def listed(folder, a): plain(folder, a); (folder/'l.txt').write_text('# one scene\n\ns.tif\n'); return 'l.txt'
def array(folder, a): np.save(folder/'s.npy', np.moveaxis(np.where((a != 0).all(0), a.astype(np.float32), np.nan), 0, -1)); return 's.npy'
def bands_first(folder, a): np.save(folder/'s.npy', a); return 's.npy','--nodata','0'


KINDS = [plain, floats, other_order, numbers, alpha, vrt, jp2, single, comma, pattern, listed, stac, array, bands_first]


@pytest.mark.parametrize('kind', KINDS, ids=lambda o: o.__name__)
def test_every_kind_of_scene(home, cli, tmp_path, kind):
    if kind is jp2 and 'JP2OpenJPEG' not in rasterio.drivers.raster_driver_extensions().values(): pytest.skip('this GDAL writes no JPEG 2000')
    a,valid = holes(home)
    args = kind(tmp_path, a)
    before = stored(tmp_path)
    status,out,err = cli(*([args] if isinstance(args, str) else args), *small(home), '--out', 'o', '--polygons', 'none')
    assert (status,err) == (0,'')
    _,net,info = home.net('one')
    [path] = (tmp_path/'o').glob('*_classes.tif')
    with rasterio.open(path) as r:
        same_map(r.read(1), classes_of(net, info, a, valid))
        assert (r.crs,r.transform) == ((None,rasterio.Affine.identity()) if kind in (array,bands_first) else (rasterio.CRS.from_string(CRS),HERE)) and r.nodata == 255
    assert {k: v for k,v in stored(tmp_path).items() if not k.startswith('o/')} == before  # Nothing beside the scene


@pytest.fixture
def scene(home, tmp_path):
    a,valid = holes(home)
    return tif(tmp_path/'s.tif', a, nodata=0),a,valid


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('name', ['one', 'three'])
def test_all_outputs_agree(home, cli, scene, tmp_path, suffix, name):
    path,net,info = home.net(name)
    status,out,err = cli(scene[0], *small(home)[2:], '--model', path, '--out', 'o', '--polygons', suffix, '--probabilities', '--uncertainty', 'margin', *(['--polygon_classes','a,b,c'] if name == 'three' else []))
    assert (status,err) == (0,'') and 'wrote' in out
    names = {f's_{o}' for o in ('classes.tif', 'classes.qml', 'areas.csv', 'probabilities.tif', 'uncertainty.tif', f'polygons.{suffix}')}
    assert set(os.listdir(tmp_path/'o')) == names
    _,a,valid = scene
    def read(layer): return rasterio.open(tmp_path/'o'/f's_{layer}.tif')
    with read('classes') as r:
        classes,tags,table = r.read(1),r.tags(),r.colormap(1)
        assert (r.crs,r.transform,r.dtypes,r.nodata) == (rasterio.CRS.from_string(CRS),HERE,('uint8',),255) and r.profile['tiled']
        assert r.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
    same_map(classes, classes_of(net, info, a, valid))
    assert tags['MODEL_SHA256'] and tags['SATSEG_PLAN'] and tags['MODEL_BANDS'] == 'B02,B03,B04' and tags['CLASS_1'] == info.classes[1]
    assert len({table[i] for i in range(len(info.classes))}) == len(info.classes)
    want = one_pass(net, info, np.where(valid, a.astype(np.float32), np.float32(info.mean)[:,None,None]))
    for layer,want in (('probabilities',want), ('uncertainty',C.uncertainty(want[0] if len(want) == 1 else want, 'margin')[None])):
        with read(layer) as r:
            assert (r.crs,r.transform,r.nodata,r.scales[0],r.offsets[0]) == (rasterio.CRS.from_string(CRS),HERE,255,1/250,0) and r.count == len(want)
            got = r.read()
            assert (got[:, ~valid] == 255).all() and np.abs(got*r.scales[0]-want)[:, valid].max() <= .5/250+2e-4
            assert all(r.descriptions)
    with open(tmp_path/'o'/'s_areas.csv') as f: rows = {o['class']: o for o in csv.DictReader(f)}
    for i,o in enumerate(info.classes):
        assert int(rows[o]['pixels']) == (classes == i).sum() and float(rows[o]['area_m2']) == pytest.approx(100*(classes == i).sum(), rel=2e-3)
    assert int(rows['no data']['pixels']) == (~valid).sum() and int(rows['all classes']['pixels']) == valid.sum()
    shapes = geopandas.read_parquet(tmp_path/'o'/f's_polygons.{suffix}') if suffix == 'parquet' else geopandas.read_file(tmp_path/'o'/f's_polygons.{suffix}')
    assert shapes.crs == ('EPSG:4326' if suffix == 'geojson' else CRS) and shapes.is_valid.all()
    picked = [1] if name == 'one' else [0, 1, 2]
    back = rasterize(zip(shapes.to_crs(CRS).geometry, shapes.class_id+1), classes.shape, transform=HERE)
    assert np.array_equal(back, np.where(np.isin(classes, picked), classes+1, 0))
    for i in picked:
        some = shapes[shapes.class_id == i]
        assert some.pixels.sum() == (classes == i).sum() and some.area_m2.sum() == pytest.approx(float(rows[info.classes[i]]['area_m2']), abs=.01*len(some)+.01)
        assert len(some) == sum(1 for _,v in rasterio.features.shapes((classes == i).astype(np.uint8), connectivity=4) if v)
        assert (some['class'] == info.classes[i]).all() and some.score.between(0, 1).all()


class Objects(Stub):
    "Finds objects with a border, pixel by pixel."
    def __init__(self):
        super().__init__('point')
        self.info.arguments,self.info.classes,self.info.threshold,self.info.min_area = dict(n_in=3, n_out=3),['background','roof','border'],None,12
    def run(self, x):
        e = np.exp(2*self.info.normalise(x))
        return (e/e.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize('size', [34, 50, 4096])
def test_objects_are_those_of_one_pass(scene, tmp_path, size):
    from satseg.evaluation.objects import find_objects
    path,a,valid = scene
    (tmp_path/'m').write_bytes(b'')
    engine = Objects()
    run = S.SceneRun(str(path), engine, str(tmp_path/'m'), MapOptions(memory=2e9))
    run.plan['window_from_memory'] = size
    run.layout = C.layout_of(run.plan)
    S.map_scene(run, tmp_path/'o', say=lambda o: None)
    want = find_objects(np.where(valid, engine.run(a[None].astype(np.float32))[0], 0), engine.info)
    shapes = geopandas.read_file(tmp_path/'o'/'s_polygons.gpkg')
    assert len(shapes) == want.max() > 20
    back = rasterize(zip(shapes.geometry, range(1, len(shapes)+1)), want.shape, transform=HERE)
    assert np.array_equal(back > 0, want > 0) and len({*zip(back.ravel(), want.ravel())}) == want.max()+1  # One number for one other
    assert (shapes['class'] == 'roof').all() and sorted(shapes.pixels) == sorted(np.bincount(want.ravel())[1:])


def test_area_of_interest(home, cli, scene, tmp_path):
    import shapely
    area = shapely.Polygon([(500203.1, 5199802.7), (501107.9, 5199607.3), (500601.3, 5198751.9)])
    geopandas.GeoDataFrame(geometry=[area], crs=CRS).to_crs('EPSG:4326').to_file(tmp_path/'aoi.geojson')
    assert cli(scene[0], *small(home), '--out', 'o', '--aoi', 'aoi.geojson')[0] == 0
    inside = rasterize([area], scene[2].shape, transform=HERE) != 0
    with rasterio.open(tmp_path/'o'/'s_classes.tif') as r: got = r.read(1)
    off = (got != 255) != (inside & scene[2])
    assert off.sum() <= 3  # The outline went through degrees
    assert geopandas.read_file(tmp_path/'o'/'s_polygons.gpkg').within(area.buffer(15)).all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 151), (149, 1), (3, 2), (31, 37)])
@pytest.mark.parametrize('empty', [False, True])
def test_odd_shapes_and_scenes_of_nothing(home, cli, tmp_path, shape, empty):
    a = home.picture[:, :shape[0], :shape[1]]*(0 if empty else 1)
    tif(tmp_path/'s.tif', a, nodata=0)
    status,out,err = cli('s.tif', *small(home), '--out', 'o', '--probabilities', '--uncertainty', 'entropy')
    assert (status,err) == (0,'')
    with rasterio.open(tmp_path/'o'/'s_classes.tif') as r: got = r.read(1)
    same_map(got, classes_of(*home.net('one')[1:], a, a.all(0)))
    assert not empty or (got == 255).all() and len(geopandas.read_file(tmp_path/'o'/'s_polygons.gpkg')) == 0


def test_one_bad_scene_among_many(home, cli, scene, tmp_path):
    tif(tmp_path/'t.tif', scene[1], nodata=0)
    tif(tmp_path/'four.tif', np.concatenate([scene[1], scene[1][:1]]), ('B05','B06','B07','B08'))
    (tmp_path/'text.tif').write_text('no raster')
    status,out,err = cli('s.tif', 'four.tif', 'text.tif', 't.tif', *small(home), '--out', 'o', '--polygons', 'none')
    assert status == 2 and '2 of 4 scenes failed' in err and 'four.tif' in err and 'text.tif' in err and 'Traceback' not in err
    assert {o.split('_')[0] for o in os.listdir(tmp_path/'o')} == {'s', 't'}
    assert (tmp_path/'o'/'s_classes.qml').read_bytes() == (tmp_path/'o'/'t_classes.qml').read_bytes()


def test_same_settings_same_bytes_in_a_process_of_its_own(home, cli, scene, tmp_path):
    args = ['s.tif', '--model', home.net('one')[0].with_suffix('.pth'), *small(home)[2:], '--out']
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
    res = subprocess.run([sys.executable, '-m', 'satseg.scene', *map(str, args), 'a'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert (res.returncode,res.stderr) == (0,'') and 'all classes' in res.stdout
    assert cli(*args, 'b')[0] == 0 and stored(tmp_path/'a') == stored(tmp_path/'b')


def test_a_dry_run_writes_nothing(home, cli, scene, tmp_path):
    before = stored(tmp_path)
    for more in ((), ('--out', 'o'), ('--out', 'o', '--workers', '3', '--probabilities')):
        status,out,err = cli('s.tif', *small(home), '--dry_run', *more)
        assert (status,err) == (0,'') and 'tiles' in out and 'GB' in out and 's in all; reading and writing not counted' in out
    assert stored(tmp_path) == before and not (tmp_path/'o').exists()


def test_the_model_that_comes_along(cli, scene):
    status,out,err = cli('s.tif', '--dry-run', '--engine', 'openvino')
    assert (status,err) == (0,'') and out.startswith(f'{bundled_file("unet_model.pth")}: UNet for B02,B03,B04')


def test_options_are_spelt_as_users_type_them(cli, scene):
    assert '--min-area: expected 0 or more, got -1' in cli('s.tif', '--out', 'o', '--min-area', '-1')[2]
    shown = cli('--help')[1]
    assert '--min-area' in shown and not re.search('--[a-z-]*_', shown)


def test_quiet(home, cli, scene):
    assert cli('s.tif', *small(home), '--out', 'o', '--quiet') == (0, '', '')


def test_careful_about_other_readings(home, cli, scene, tmp_path):
    tif(tmp_path/'t.tif', scene[1].astype(np.float32)/10000, nodata=0)
    out = cli('t.tif', *small(home), '--dry_run')[1]
    assert [o for o in out.splitlines() if 'careful' in o and '--scale 10000' in o]

    status,out,err = cli('t.tif', *small(home), '--out', 'o', '--quiet')
    assert (status,out) == (0,'') and err.startswith('t: careful') and '--scale 10000' in err # A nightly log should say so


def test_a_scene_named_twice_is_mapped_once(home, cli, scene, tmp_path):
    (tmp_path/'list.txt').write_text('s.tif\ns.tif\n./s.tif\n')
    status,out,err = cli('list.txt', 's.tif', *small(home), '--out', 'o', '--polygons', 'none')
    assert (status,err,len(list((tmp_path/'o').glob('*_classes.tif')))) == (0,'',1)


def test_a_name_that_begins_with_a_dash(home, cli, scene, tmp_path):
    scene[0].rename(tmp_path/'-s-.tif')
    assert cli('./-s-.tif', *small(home), '--out', 'o')[0] == 0 and (tmp_path/'o'/'s_polygons.gpkg').is_file()


def test_a_missing_package_is_named_before_anything_is_computed(home, cli, scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyogrio', None)
    monkeypatch.setattr(plan, 'find_spec', lambda name: name != 'pyogrio')
    status,out,err = cli('s.tif', *small(home), '--out', 'o')
    assert status == 2 and 'pyogrio' in err and '[geo]' in err and not (tmp_path/'o').exists()


# 3. Broken off and continued

def arguments(home, scene, out, **kw):
    "What `map_scenes` takes."
    return {**dict(scenes=[str(scene)], model=str(home.net('one')[0]), out=str(out), memory=int(small(home)[3]), probabilities=True, uncertainty='entropy', say=print), **kw}


class Die:
    "Lets this process die, as by kill -9, at a certain moment."
    def __init__(self, where, n, mark=''): self.where,self.n,self.mark = where,n,mark
    def patch(self):
        if self.mark: os.environ.update([self.mark.split('=')])
        count = [0]
        def due():
            count[0] += 1
            return count[0] > self.n
        def die(*a, **kw): os.kill(os.getpid(), signal.SIGKILL)
        def before(f): return lambda *a, **kw: die() if due() else f(*a, **kw)
        if self.where == 'record': # In the middle of writing one
            def torn(store, tile, records, add=TileStore.add):
                if due():
                    store.db.execute('PRAGMA cache_size=0') # Pages go to the disk before the end of the transaction
                    store.db.execute('BEGIN')
                    for k in records: store.db.execute('INSERT OR REPLACE INTO tiles VALUES (?,?,?,?,?)', (k, tile, 1, bytes(200_000), 1))
                    die()
                add(store, tile, records)
            TileStore.add = torn
        elif self.where == 'rename': os.replace = before(os.replace)
        elif self.where == 'end': TileStore.remove = die
        else: setattr(outputs, self.where, before(getattr(outputs, self.where)))


def child(kw, die=None):
    sys.stdout = sys.stderr = open(os.devnull, 'w')
    if die: die.patch()
    S.map_scenes(**kw)


@pytest.fixture(scope='session')
def spawn():
    "Start `child` in a clean process."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['satseg.scenes.run', 'openvino', 'rasterio', 'pyogrio', 'shapely', 'hypothesis', 'pytest'])
    def start(kw, die=None):
        kw = {k: v for k,v in kw.items() if k != 'say'}
        p = context.Process(target=child, args=(kw, die))
        p.start()
        return p
    return start


@pytest.fixture(scope='session')
def unbroken(home, tmp_path_factory):
    "A scene, and what an unbroken run gives: name -> bytes; seconds it took."
    folder = tmp_path_factory.mktemp('unbroken')
    a,valid = holes(home)
    path = tif(folder/'s.tif', a, nodata=0)
    S.map_scenes(**arguments(home, path, folder/'o', say=lambda *o: None))
    return path,stored(folder/'o')


def looks_finished(out): return [o for o in os.listdir(out) if not o.endswith(('.partial', '.partial-journal')) and not o.startswith('.')] if out.exists() else []


MOMENTS = [Die('record', 0), Die('record', 1), Die('record', 3), Die('record', 7), Die('write_cog', 0), Die('write_polygons', 0), Die('rename', 0), Die('rename', 6), Die('rename', 9), Die('end', 0)]


@pytest.mark.parametrize('die', MOMENTS, ids=lambda o: f'{o.where} {o.n}')
def test_killed_and_continued(home, unbroken, tmp_path, spawn, die):
    scene,want = unbroken
    kw = arguments(home, scene, tmp_path/'o')
    p = spawn(kw, die)
    p.join(100)
    assert p.exitcode == -signal.SIGKILL
    if die.where not in ('rename','end'): assert looks_finished(tmp_path/'o') == []
    S.map_scenes(**kw, resume=True)
    assert stored(tmp_path/'o') == want and [*(tmp_path/'o').glob('.*')] == []


def test_killed_at_any_time(home, unbroken, tmp_path, spawn):
    scene,want = unbroken
    kw,rng,start = arguments(home, scene, tmp_path/'o', resume=True),np.random.default_rng(),time.monotonic()
    S.map_scenes(**{**kw, 'out': str(tmp_path/'x')})
    took,n = time.monotonic()-start+.5,0
    for _ in range(4): # The same run, killed again and again
        p = spawn(kw)
        p.join(rng.uniform(.1, took))
        n += p.is_alive()
        p.kill()
        p.join()
    S.map_scenes(**kw)
    assert stored(tmp_path/'o') == want and [*(tmp_path/'o').glob('.*')] == []


def half_done(home, scene, out, n=5, **kw):
    "A run that fails after `n` tiles."
    count,add = [0],TileStore.add
    def stop(store, i, records):
        count[0] += 1
        if count[0] > n: raise BadInput('stopped')
        add(store, i, records)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(TileStore, 'add', stop)
        with pytest.raises(BadInput, match='stopped'): S.map_scenes(**arguments(home, scene, out, **kw))
    return out/f'{Path(scene).stem}.partial'


def test_only_what_is_missing(home, unbroken, tmp_path, monkeypatch):
    scene,want = unbroken
    half_done(home, scene, tmp_path/'o', 5)
    read,seen = C.TileMaker.read,[]
    monkeypatch.setattr(C.TileMaker, 'read', lambda self, i: seen.append(i) or read(self, i))
    S.map_scenes(**arguments(home, scene, tmp_path/'o', resume=True))
    assert len(set(seen)) == len(seen) and min(seen) == 5 and stored(tmp_path/'o') == want


def flip(path, of):
    "Change one byte of the arrays of a tile."
    with closing(sqlite3.connect(path)) as db: [arrays] = db.execute('SELECT arrays FROM tiles ORDER BY length(arrays) DESC LIMIT 1').fetchone()
    data = path.read_bytes()
    place = data.index(arrays[50:90])+20
    path.write_bytes(data[:place] + bytes([data[place]^1]) + data[place+1:])


@pytest.mark.parametrize('where', ['arrays', 'head', 'tail', 'nothing', 'text'])
def test_damaged_store(home, unbroken, tmp_path, capsys, where):
    scene,want = unbroken
    path = half_done(home, scene, tmp_path/'o', 7)
    if where == 'arrays': flip(path, where)
    else: path.write_bytes(dict(head=bytes(9)+path.read_bytes()[9:], tail=path.read_bytes()[:-70_000], nothing=b'', text=b'satsegJ1'*99)[where])
    kw = arguments(home, scene, tmp_path/'o', resume=True)
    if where in ('head','tail','text'):
        with pytest.raises(BadInput, match='damaged.*: delete it') as e: S.map_scenes(**kw)
        assert '\n' not in str(e.value)
        path.unlink()
    capsys.readouterr()
    S.map_scenes(**kw)
    assert stored(tmp_path/'o') == want and (where != 'arrays' or '6, 1 were damaged' in capsys.readouterr().out)


OTHERS = [dict(threshold=.111), dict(uncertainty='margin'), dict(probabilities=False), dict(halo=28), dict(polygons='none'), dict(memory=8e8), dict(engine='onnxruntime', memory=4e8),
          dict(nodata='none'), dict(offset=1), dict(polygon_classes=['background'])]


@pytest.mark.parametrize('other', OTHERS, ids=lambda o: next(iter(o)))
def test_other_settings_are_refused(home, unbroken, tmp_path, other):
    scene,_ = unbroken
    path = half_done(home, scene, tmp_path/'o')
    before = path.read_bytes()
    with pytest.raises(BadInput) as e: S.map_scenes(**arguments(home, scene, tmp_path/'o', resume=True, **other))
    assert 'another run' in str(e.value) and '\n' not in str(e.value) and path.read_bytes() == before and looks_finished(tmp_path/'o') == []


def test_another_scene_is_refused(home, unbroken, tmp_path):
    (tmp_path/'s.tif').write_bytes(unbroken[0].read_bytes())
    half_done(home, tmp_path/'s.tif', tmp_path/'o')
    os.utime(tmp_path/'s.tif', (1, 1))
    with pytest.raises(BadInput, match='identity'): S.map_scenes(**arguments(home, tmp_path/'s.tif', tmp_path/'o', resume=True))


def test_finished_scenes_are_left_alone(home, unbroken, tmp_path, capsys):
    scene,want = unbroken
    kw = arguments(home, scene, tmp_path/'o')
    S.map_scenes(**kw)
    stamps = {o: os.stat(tmp_path/'o'/o).st_mtime_ns for o in want}
    S.map_scenes(**kw, resume=True)
    assert 'finished already' in capsys.readouterr().out and stamps == {o: os.stat(tmp_path/'o'/o).st_mtime_ns for o in want}
    with pytest.raises(BadInput, match='exists already.*--overwrite'): S.map_scenes(**kw)
    for other in (dict(threshold=.2), dict(min_area=5000), dict(simplify=9), dict(regularise=True), dict(memory=8e8)):
        with pytest.raises(BadInput, match='other settings'): S.map_scenes(**{**kw, **other}, resume=True)
    assert stored(tmp_path/'o') == want
    S.map_scenes(**{**kw, 'threshold': .2}, overwrite=True)
    assert stored(tmp_path/'o') != want
    S.map_scenes(**kw, overwrite=True)
    assert stored(tmp_path/'o') == want


@pytest.mark.parametrize('gone', ['s_polygons.gpkg', 's_classes.tif', 's_areas.csv'])
def test_a_file_that_is_missing_or_damaged(home, unbroken, tmp_path, gone):
    scene,want = unbroken
    kw = arguments(home, scene, tmp_path/'o')
    S.map_scenes(**kw)
    path = tmp_path/'o'/gone
    for spoil in (path.unlink, lambda: path.write_bytes(want[gone][:len(want[gone])//2]), lambda: path.write_bytes(bytes([want[gone][0]^1])+want[gone][1:])):
        spoil()
        with pytest.raises(BadInput, match='is damaged; replace it with --overwrite'): S.map_scenes(**kw, resume=True)
    S.map_scenes(**kw, overwrite=True)
    assert stored(tmp_path/'o') == want


def limited(kw, size, pipe):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.stdout = sys.stderr = open(os.devnull, 'w')
    try: S.map_scenes(**kw)
    except BaseException as e: pipe.send((type(e).__name__,str(e)))
    else: pipe.send(('','all written'))


@pytest.mark.parametrize('size', [500, 20_000, 60_000, 110_000])
def test_full_disk(home, unbroken, tmp_path, spawn, size):
    scene,want = unbroken
    kw = arguments(home, scene, tmp_path/'o')
    here,there = multiprocessing.Pipe(False)
    p = multiprocessing.get_context('forkserver').Process(target=limited, args=({k: v for k,v in kw.items() if k != 'say'}, size, there))
    p.start()
    kind,text = here.recv()
    p.join()
    assert kind == 'BadInput' and '\n' not in text and ('--resume' in text or 'room on the disk' in text), text
    assert looks_finished(tmp_path/'o') == [] and [o for o in (tmp_path/'o').glob('.*')] == []
    S.map_scenes(**kw, resume=True)
    assert stored(tmp_path/'o') == want


@pytest.mark.parametrize('how', ['cut off', 'damaged'])
def test_unreadable_window(home, cli, tmp_path, how):
    from rasterio.shutil import copy
    copy(tif(tmp_path/'t.tif', home.picture), tmp_path/'s.tif', driver='GTiff', tiled=True, blockxsize=64, blockysize=64, compress='DEFLATE')  # Its directory is in front
    data = bytearray((tmp_path/'s.tif').read_bytes())
    if how == 'cut off': data = data[:len(data)*2//3]
    else: data[len(data)//2:len(data)//2+20000] = bytes(20000)  # Less than a tile or two may go unnoticed: deflate in TIFF is not checked
    (tmp_path/'s.tif').write_bytes(data)
    status,out,err = cli('s.tif', *small(home), '--out', 'o')
    assert status == 2 and err.count('\n') == 1 and 's.tif' in err and ('row' in err or 'window' in err), err
    assert looks_finished(tmp_path/'o') == [] and [*(tmp_path/'o').glob('.*')] == []


def test_nothing_to_go_on_with(home, unbroken, tmp_path):
    assert not half_done(home, unbroken[0], tmp_path/'o', 0).exists()
    S.map_scenes(**arguments(home, unbroken[0], tmp_path/'o'))  # No --resume is asked for


def test_two_runs_at_once(home, unbroken, tmp_path):
    (tmp_path/'o').mkdir()
    with TileStore(tmp_path/'o'/'s.partial', {}):
        for kw in (dict(resume=True), dict(overwrite=True)):
            with pytest.raises(BadInput, match='another run is writing'): S.map_scenes(**arguments(home, unbroken[0], tmp_path/'o', **kw))


# 4. Many

def test_workers_give_the_same_bytes_even_if_one_is_killed(home, unbroken, tmp_path, monkeypatch):
    scene,want = unbroken
    add,killed,n = TileStore.add,[],[0]
    def kill_one(store, i, records):
        n[0] += 1
        if n[0] in (2, 6): # Two in one run
            p = next(o for o in multiprocessing.active_children() if 'Spawn' in type(o).__name__)
            p.kill()
            killed.append(p)
        add(store, i, records)
    S.map_scenes(**arguments(home, scene, tmp_path/'a', workers=2))
    assert stored(tmp_path/'a') == want
    monkeypatch.setattr(TileStore, 'add', kill_one)
    S.map_scenes(**arguments(home, scene, tmp_path/'b', workers=2))
    assert killed and stored(tmp_path/'b') == want


def test_small_scenes_of_one_size_share_the_compiled_net(home, tmp_path, monkeypatch):
    import satseg.models.engines as E
    a,_ = holes(home)
    scenes,freed = [str(tif(tmp_path/f's{i}.tif', a[:, i:64+i, :64], nodata=0)) for i in range(3)],[]
    free = E._OpenVino.free
    monkeypatch.setattr(E._OpenVino, 'free', lambda self: freed.append(1) or free(self))
    S.map_scenes(**arguments(home, None, tmp_path/'o', scenes=scenes, engine='openvino', memory='1GB'))
    assert len(freed) == 1 # Before the first window


@pytest.mark.parametrize('loss', [False, True])
def test_workers_share_a_list_of_scenes(home, unbroken, tmp_path, monkeypatch, loss):
    "One pool for all; small scenes go to a process as a whole; bytes, words and errors are those of one process, even if a process is lost."
    a,_ = holes(home)
    scenes = [tif(tmp_path/f's{i}.tif', np.ascontiguousarray(a[:, :100-i, i:90]), nodata=0) for i in range(4)]
    np.save(tmp_path/'four.npy', np.zeros((50, 50, 4)))
    scenes = [str(o) for o in (scenes[0], unbroken[0], tmp_path/'four.npy', *scenes[1:])]
    pools,said = [],{1: [], 2: []}
    class Pool(X.ProcessPoolExecutor):
        def __init__(self, *args): pools.append(1); super().__init__(*args)
    monkeypatch.setattr(X, 'ProcessPoolExecutor', Pool)
    def say(n, text):
        if n == 2 and loss and len(said[2]) == 1: next(o for o in multiprocessing.active_children() if 'Spawn' in type(o).__name__).kill()
        said[n].append(text)
    res = {n: S.map_scenes(**arguments(home, None, tmp_path/str(n), scenes=scenes, workers=n, say=lambda o, n=n: say(n, o))) for n in (1, 2)}
    assert stored(tmp_path/'1') == stored(tmp_path/'2') and len(pools) == 1+loss
    assert list(res[1]) == list(res[2]) and [type(o) for o in res[1].values()] == [type(o) for o in res[2].values()]
    first = [[o.split(' in ')[0].split('\n')[0].replace(str(tmp_path/str(n)), '') for o in said[n]] for n in (1, 2)]
    assert first[0] == first[1] or loss


@pytest.mark.skipif(not os.path.exists('/proc/self/environ'), reason='needs /proc')
def test_workers_end_with_their_master(home, unbroken, tmp_path, spawn):
    scene,want = unbroken
    kw,mark = arguments(home, scene, tmp_path/'o', workers=2),f'SATSEG_TRIAL={tmp_path}'.encode()
    def alive():
        def has(o):
            try: return mark in (o/'environ').read_bytes()
            except OSError: return False
        return [o.name for o in Path('/proc').glob('[0-9]*') if has(o)]
    p = spawn(kw, Die('record', 3, mark.decode()))
    p.join(100)
    assert p.exitcode == -signal.SIGKILL
    end = time.monotonic()+30
    while alive() and time.monotonic() < end: time.sleep(.1)
    left = alive()
    for o in left: os.kill(int(o), signal.SIGKILL)
    assert not left
    S.map_scenes(**{**kw, 'workers': 1}, resume=True)
    assert stored(tmp_path/'o') == want


def test_workers_that_always_die_or_refuse(monkeypatch):
    import ctypes
    from satseg.core.errors import need
    monkeypatch.setattr(X, '_compute_tile', ctypes.string_at)  # Reads the memory at 1
    with pytest.raises(BadInput, match='3 times worker processes died.*--resume goes on'): [*X.compute_in_processes(1, [1, 2, 3], X.WorkerPool(2))]
    monkeypatch.setattr(X, '_compute_tile', need)
    with pytest.raises(BadInput, match='expected the package no_such_package'): [*X.compute_in_processes('no_such_package', [1, 2], X.WorkerPool(1))]


@pytest.mark.parametrize('limit,opened', [(2e9, 2), (None, 6), (1.5e9, 6)])
def test_a_worker_shared_by_two_runs_keeps_both_open_if_memory_allows(monkeypatch, limit, opened):
    made,closed = [],[]
    class Maker:
        def __init__(self, job): self.scene = self.engine = self; made.append(job['n'])
        def close(self): closed.append(1)
        def free(self): pass
        def read(self, i): return None
        def predict(self, i, read): return None
        def finish(self, i, valid, probs): return i
    monkeypatch.setattr(X, '_open_maker', lambda job, threads: Maker(job))
    monkeypatch.setattr(X, '_dask_worker', lambda: (1, limit))
    for i in range(3):
        for n in (0, 1): assert X._compute_tile(dict(n=n, memory=1e9), i) == i
    assert len(made) == opened and len(made)-len(closed) == len(X._OPEN) == (2 if opened == 2 else 1)
    X._close_makers(dict(n=0, memory=1e9))
    assert [json.loads(o)['n'] for o in X._OPEN] == [1] # The end of one run leaves the other's alone
    X._close_makers()
    assert not X._OPEN and len(made) == len(closed)


def test_a_scheduler_without_workers_says_so(capsys):
    class Nobody:
        def wait_for_workers(self, n, timeout): raise TimeoutError
    with pytest.raises(BadInput, match='no worker came within 60 s: start some with `dask worker tcp://h:1`'):
        X._await_worker(Nobody(), 'tcp://h:1')
    assert 'tcp://h:1 has no workers yet' in capsys.readouterr().err


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    "Address of a scheduler with two workers, and the workers' processes."
    pytest.importorskip('distributed', reason='distributed is not installed')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        address = f'tcp://127.0.0.1:{s.getsockname()[1]}'
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
    def start(*args): return subprocess.Popen([sys.executable, '-m', 'distributed.cli.dask_'+args[0], *args[1:]], cwd=tmp_path_factory.mktemp('dask'), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    procs = [start('scheduler', '--host', '127.0.0.1', '--port', address.rsplit(':')[-1], '--no-dashboard')]
    procs += [start('worker', address, '--nthreads', '1', '--no-nanny', '--no-dashboard') for _ in range(2)]
    yield address,procs[1:]
    for p in procs: p.kill()
    for p in procs: p.wait()


def test_cluster_gives_the_same_bytes_even_if_a_worker_is_lost(home, unbroken, tmp_path, cluster, monkeypatch):
    import distributed
    scene,want = unbroken
    address,workers = cluster
    with distributed.Client(address, timeout='60s', set_as_default=False) as c: c.wait_for_workers(2, timeout=90)
    add,n = TileStore.add,[0]
    def kill_one(store, i, records):
        n[0] += 1
        if n[0] == 3: workers[0].kill()
        add(store, i, records)
    monkeypatch.setattr(TileStore, 'add', kill_one)
    S.map_scenes(**arguments(home, scene, tmp_path/'o', scheduler=address))
    assert workers[0].poll() is not None and workers[1].poll() is None and stored(tmp_path/'o') == want


# 5. Memory

PEAK = '''import sys, re, satseg.data.rasters
if sys.argv[4]: satseg.data.rasters.CACHE = int(sys.argv[4])
from satseg.scenes.run import map_scenes
map_scenes(sys.argv[1], sys.argv[2], 'o', memory=float(sys.argv[3]), engine='openvino', overwrite=True, say=lambda *o: None)
print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])'''


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='needs /proc')
def test_memory_does_not_grow_with_the_scene(home, tmp_path):
    "But for GDAL's cache: 64 MB of it hold all of the small scene. So it is made small for both, then left as it is for the large one."
    from satseg.models.unet import UNet
    write_net(tmp_path/'tiny.pth', lambda: UNet(1, 1, (2, 4)), threshold=.6)
    base = np.tile(home.picture[:1], (1, 27, 25))
    memory = memory_for(load_engine(tmp_path/'tiny.onnx', 'openvino'), 640, tmp_path/'tiny.onnx')
    for side in (1000, 4000): tif(tmp_path/f'{side}.tif', base[:, :side, :side], BANDS[:1], tiled=True)
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'}
    def peak(side, cache):
        command = sys.executable,'-c',PEAK,f'{side}.tif','tiny.onnx',str(memory),cache
        return int(subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout)*1024
    small,large = (peak(side, '8000000') for side in (1000, 4000))
    assert large <= 1.1*small, (small, large)
    assert (usual := peak(4000, '')) <= large+CACHE, (usual, large)


# 7. Slips

def bad_files(home, folder):
    "What slips are made with."
    a = home.picture[:, :40, :50]
    tif(folder/'s.tif', a, nodata=0)
    tif(folder/'four.tif', a[[0, 1, 2, 0]], ('B05','B06','B07','B08'))
    tif(folder/'one.tif', a[:1], ())
    tif(folder/'complex.tif', a.astype(np.complex64))
    tif(folder/'plain.tif', a, crs=None, transform=rasterio.Affine.identity())
    for n in ('text.tif', 'text.npy', 'text.pth', 'text.onnx', 'text.geojson', 'text.json'): (folder/n).write_text('nothing of the kind')
    for n in ('zero.tif', 'zero.pth', 'zero.txt', 'zero.npy'): (folder/n).write_bytes(b'')
    (folder/'head.tif').write_bytes((folder/'s.tif').read_bytes()[:50])
    (folder/'empty').mkdir()
    (folder/'list.txt').write_text('nowhere.tif')
    (folder/'itself.txt').write_text('itself.txt')
    (folder/'binary.txt').write_bytes(bytes(range(256)))
    np.save(folder/'objects.npy', np.array([dict(), None]), allow_pickle=True)
    np.save(folder/'line.npy', np.zeros(9))
    np.save(folder/'five.npy', np.zeros((20, 30, 5), np.uint16))
    np.save(folder/'words.npy', np.full((20, 30, 3), 'a'))
    np.save(folder/'imaginary.npy', np.zeros((20, 30, 3), complex))
    np.save(folder/'whole.npy', np.zeros((20, 30, 3)))
    (folder/'short.npy').write_bytes((folder/'whole.npy').read_bytes()[:900])
    (folder/'lost.vrt').write_text('<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">no.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>')
    (folder/'list.json').write_text('[1, 2]')
    item = dict(type='Feature', id='a', assets=dict(B02=dict(href='no.tif'), B03=dict(href='no.tif'), B04=dict(href='no.tif')))
    (folder/'item.json').write_text(json.dumps(item))
    (folder/'bare.json').write_text(json.dumps(dict(type='FeatureCollection', features=[dict(item, assets={})])))
    import shapely
    frame = partial(geopandas.GeoDataFrame, crs=CRS)
    frame(geometry=[shapely.Point(500100, 5199900)]).to_file(folder/'point.gpkg')
    frame(geometry=[shapely.box(0, 0, 10, 10)]).to_file(folder/'far.gpkg')
    frame(geometry=[]).to_file(folder/'none.gpkg')
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 10, 10)]).to_file(folder/'nowhere.shp')
    (folder/'model.onnx').write_bytes(home.net('one')[0].read_bytes())
    (folder/'three.onnx').write_bytes(home.net('three')[0].read_bytes())
    (folder/'done').mkdir()
    (folder/'done'/'s_classes.tif').write_bytes(b'')


SLIPS = """none.tif
*.jpg
empty
text.tif
zero.tif
head.tif
complex.tif
one.tif
four.tif
text.npy
zero.npy
line.npy
five.npy
words.npy
imaginary.npy
objects.npy
short.npy
lost.vrt
zero.txt
list.txt
itself.txt
binary.txt
text.json
list.json
item.json
bare.json
s.tif,none.tif
s.tif#a
/dev/null
/vsicurl/http://127.0.0.1:9/a.tif
http://127.0.0.1:9/a.tif
s.tif --model none.pth
s.tif --model none.onnx
s.tif --model text.onnx
s.tif --model empty
s.tif --bands 1,2
s.tif --bands 1,2,9
s.tif --bands 0,1,2
s.tif --bands red,green,purple
s.tif --bands B02=1,B03=2,B99=3
s.tif --bands B02=1,B02=2,B04=3
s.tif --bands B02=1,2,3
s.tif --bands ,
s.tif --scale a
s.tif --scale 1,2
s.tif --scale nan
s.tif --scale inf
s.tif --offset a
s.tif --offset 1,2
s.tif --offset nan
s.tif --nodata a
s.tif --nodata 1,2
s.tif --aoi none.gpkg
s.tif --aoi text.geojson
s.tif --aoi s.tif
s.tif --aoi empty
s.tif --aoi point.gpkg
s.tif --aoi far.gpkg
s.tif --aoi none.gpkg
s.tif --aoi nowhere.shp
plain.tif --aoi far.gpkg
s.tif --threshold a
s.tif --threshold 2
s.tif --threshold -1
s.tif --threshold nan
s.tif --threshold .12345
s.tif --model three.onnx --threshold .5
s.tif --polygons shp
s.tif --polygon-classes forest
s.tif --polygon-classes building,
s.tif --min-area a
s.tif --min-area -1
s.tif --min-area nan
s.tif --min-area inf
s.tif --simplify a
s.tif --simplify -1
s.tif --uncertainty variance
s.tif --memory a
s.tif --memory 0
s.tif --memory 1MB
s.tif --memory 1.2.3GB
s.tif --memory 1e999
s.tif --memory nan
s.tif --halo a
s.tif --halo -1
s.tif --halo 1.5
s.tif --halo 3000
s.tif --halo 99999999
s.tif --engine tensorrt
s.tif --engine torch
s.tif --engine onnxruntime --half
s.tif --device tpu
s.tif --device cuda:99
s.tif --device cuda --engine openvino
s.tif --workers 0
s.tif --workers -1
s.tif --workers 1.5
s.tif --workers a
s.tif --workers nan
s.tif --workers inf
s.tif --scheduler tcp://127.0.0.1:1 --workers 2
s.tif --scheduler anything
s.tif --scheduler tcp://
s.tif --scheduler tcp://127.0.0.1
s.tif --scheduler http://127.0.0.1:1
s.tif --resume --overwrite
s.tif --out text.tif
s.tif --out text.tif/o
s.tif --out /proc/o
s.tif --out done
s.tif --out done --resume""".splitlines()
SLOW = """s.tif --model text.pth
s.tif --model zero.pth
s.tif --model s.tif
s.tif --scheduler tcp://127.0.0.1:1""".splitlines()  # Run by hand: torch says what is no model file, and Dask waits for 20 seconds and more


def slip(cli, text):
    "Run one."
    args = text.split()
    if '--model' not in args: args += ['--model','model.onnx']
    if '--out' not in args: args += ['--out','o']
    elif args[-1] == '--out': args = [o for o in args if o != '--out']
    return cli(*args)


@pytest.mark.parametrize('text', SLIPS)
def test_slips(cli, slips_folder, monkeypatch, text):
    folder,before = slips_folder
    monkeypatch.chdir(folder)
    status,out,err = slip(cli, text)
    written = stored(folder)
    shutil.rmtree(folder/'o', ignore_errors=True)
    assert written == before
    lines = 2 if 'nowhere.shp' in text else 1 # That a file without a system is taken as the scene's is said before
    assert status == 2 and err.startswith('satseg: ') and err.count('\n') == lines and len(err) < 600 and 'Traceback' not in err, err


@pytest.mark.parametrize('text', ['', '--out o', 's.tif --out', 's.tif --forest', 's.tif --memory -1GB', 's.tif --dry-run=3'])
def test_no_command_at_all(cli, text):
    status,out,err = cli(*text.split())
    assert status == 2 and 'usage:' in err and err.splitlines()[-1].startswith('python -m satseg.scene: error:')


@pytest.fixture(scope='module')
def slips_folder(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp('slips')
    bad_files(home, folder)
    return folder,stored(folder)
