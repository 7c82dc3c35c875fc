"""Another resolution: refused in one line, or resampled; then tiles equal one pass too, for any size, in both directions, with holes."""
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.core.files import bundled_file
from satseg.core.resolution import array_reader, resample, resampling_steps
from satseg.data.synthetic import sample_scene
from satseg.models.model_file import load_model, save_model
from satseg.scenes import compute as C, run as S
from satseg.scenes.plan import MapOptions
from scene_samples import one_line
from test_engines import one_pass

rasterio = pytest.importorskip('rasterio')
pytest.importorskip('onnxruntime'); pytest.importorskip('openvino')
from rasterio.transform import Affine
from test_run import BANDS, assembled, engine_of, home, memory_for, stored, tif # noqa: F401 (fixtures)

UTM = partial(Affine, b=0, c=500000, d=0, f=5200000)


def at(path, home, high, wide, pixel, holes=True, seed=0):
    "A scene of `high` x `wide` pixels, which are `pixel` metres (down, right) large; 0 is no data."
    a = np.resize(home.picture, (3, max(high, 151), max(wide, 163)))[:, :high, :wide].copy()
    if holes:
        a[:, np.random.default_rng(seed).random((high, wide)) < .05] = 0
        a[:, high//3:high//2, :wide//2] = 0
    return tif(path, a, nodata=0, transform=UTM(a=pixel[1], e=-pixel[0])), a.astype(np.float32)


def expected(net, info, a, steps):
    "Probabilities (K,H,W) of one pass over the whole scene, there and back."
    shape,valid = a.shape[1:],(a != 0).all(0)
    grid = tuple(math.ceil(n/o) for n,o in zip(shape, steps))
    x,seen = resample(array_reader(a, valid), (0,0,*grid), steps, shape, info.mean)
    return resample(array_reader(one_pass(net, info, x), seen), (0,0,*shape), [1/o for o in steps], grid)[0],valid


def a_run(path, engine, model, size, halo=None):
    run = S.SceneRun(str(path), engine, str(model), MapOptions(memory=2e9, halo=halo, polygons='none', resample=True))
    run.plan['window_from_memory'] = size
    run.layout = C.layout_of(run.plan)
    return run


CASES = [((151,163), (5,5)), ((67,83), (20,20)), ((101,97), (4,15)), ((1,90), (30,3)), ((64,48), (7,7))]

@pytest.mark.parametrize('name,kind,cases', [('one','onnxruntime',CASES), ('three','openvino',CASES[1:3]), ('deep','torch',CASES[::3])])
def test_resampled_tiles_equal_one_pass(home, engine_of, tmp_path, name, kind, cases, monkeypatch):
    path,net,info = home.net(name)
    engine = engine_of(name, kind)
    monkeypatch.setattr(engine.info, 'resolution', 10)
    cell,halo = engine.facts['multiple'],engine.facts['halo']
    for n,(shape,pixel) in enumerate(cases):
        scene,a = at(tmp_path/f'{n}.tif', home, *shape, pixel)
        steps = resampling_steps(pixel, 10)
        want,valid = expected(net, info, a, steps)
        answers = []
        for more in (9, 40, 1000): # Very small tiles, some, one
            run = a_run(scene, engine, path, 2*halo+3*cell+more)
            assert run.layout.steps == steps and any('read at 10 m a pixel' in o for o in run.remarks)
            assert any(o.startswith('careful: read at') for o in run.remarks) == (math.prod(pixel) > 121)
            assert max(run.layout.tall, run.layout.wide) <= run.plan['window_from_memory']
            tiles = [run.layout.tile(i) for i in range(len(run.layout))]
            assert max(max(o[2:]) for o in tiles) <= run.plan['window_from_memory'] and sum(o[2]*o[3] for o in tiles) == math.prod(shape)
            got = assembled(run)
            assert np.abs(got-want)[:, valid].max() <= 1e-4, (shape, pixel, more)
            answers.append((len(tiles), got[:, valid]))
        assert answers[-1][0] == 1 and (answers[0][0] > 1 or shape[0] < 65)
        assert np.abs(answers[0][1]-answers[-1][1]).max() <= 2e-5


def test_readings_of_a_tile_have_the_same_bits_in_any_window(home, engine_of, tmp_path, monkeypatch):
    path,_,info = home.net('one')
    engine = engine_of('one', 'onnxruntime')
    monkeypatch.setattr(engine.info, 'resolution', 10)
    for pixel in ((5,5), (20,20), (3,13)):
        scene,a = at(tmp_path/'a.tif', home, 149, 157, pixel)
        whole = None
        for size in (2000, 150, 110):
            run = a_run(scene, engine, path, size)
            maker = C.TileMaker(run.plan, run.scene, engine)
            for i in range(len(run.layout)):
                r,c,m,n = run.layout.tile(i)
                ok,found = (a != 0).all(0)[r:r+m, c:c+n],maker.read(i)
                assert (found is None) == (not ok.any())
                if found is None: continue
                (row,col,h,w),x,valid,seen = found
                if whole is None: whole = x,seen
                assert np.array_equal(x, whole[0][:, row:row+h, col:col+w]) and np.array_equal(seen, whole[1][row:row+h, col:col+w])
                assert np.array_equal(valid, ok)


def test_nets_that_see_the_whole_picture_are_resampled_too(home, engine_of, tmp_path, monkeypatch):
    path,_,info = home.net('lab')
    engine = engine_of('lab', 'onnxruntime')
    monkeypatch.setattr(engine.info, 'resolution', 10)
    scene,a = at(tmp_path/'a.tif', home, 120, 131, (5,5))
    one,*rest = (assembled(a_run(scene, engine, path, size)) for size in (999, 77, 48))
    valid = (a != 0).all(0)
    for o in rest: assert np.abs(o-one)[:, valid].max() <= 1e-6


@pytest.fixture(scope='session')
def model(home):
    "A model file that says 10 m."
    net,info = home.net('one')[1:]
    save_model(home.path/'ten.pth', net, type(info)(**{**vars(info), 'resolution':10}))
    return home.path/'ten.pth'


def pixels(path):
    with rasterio.open(path) as r: return r.read(),r.transform,r.tags()


def test_maps_are_equal_for_any_memory_processes_and_after_a_stop(home, model, tmp_path, monkeypatch):
    scene,a = at(tmp_path/'a.tif', home, 260, 300, (5,5))
    net = S.load_engine(str(model), 'onnxruntime')
    memory = memory_for(net, 2*net.facts['halo']+8*net.facts['multiple'], model)+50_000_000
    run = partial(S.map_scenes, str(scene), str(model), polygons='geojson', probabilities=True, engine='onnxruntime', resample=True, quiet=True)
    first = run(str(tmp_path/'one'), memory=2e9)[str(scene)]
    second = run(str(tmp_path/'two'), memory=memory)[str(scene)]
    third = run(str(tmp_path/'three'), memory=memory, workers=2)[str(scene)]
    for layer in ('classes','probabilities'):
        want,transform,tags = pixels(first[layer])
        assert transform == rasterio.open(scene).transform and want.shape[1:] == (260,300)
        assert (tags['MODEL_RESOLUTION'],tags['RESAMPLED']) == ('10.0','2 x 2')
        for o in (second,third): assert np.array_equal(pixels(o[layer])[0], want)
        assert ((want[0] == 255) == (a == 0).any(0)).all()
    assert second['classes'].read_bytes() == third['classes'].read_bytes()
    add = S.TileStore.add
    def stop(self, i, record):
        if len(self.done) == 2: raise KeyboardInterrupt
        add(self, i, record)
    monkeypatch.setattr(S.TileStore, 'add', stop)
    with pytest.raises(KeyboardInterrupt): run(str(tmp_path/'four'), memory=memory)
    monkeypatch.undo()
    run(str(tmp_path/'four'), memory=memory, resume=True)
    assert stored(tmp_path/'four') == stored(tmp_path/'two')
    with pytest.raises(BadInput, match='other settings'): S.map_scenes(str(scene), str(model), str(tmp_path/'four'), engine='onnxruntime', any_resolution=True, resume=True, memory=memory, quiet=True)


def test_pixels_of_another_size_are_refused_and_both_ways_out_work(home, model, tmp_path):
    scene,_ = at(tmp_path/'half.tif', home, 60, 60, (.5,.5))
    go = partial(S.map_scenes, str(scene), str(model), polygons='none', quiet=True)
    with pytest.raises(BadInput) as e: go(str(tmp_path/'out'))
    text = one_line(e)
    for o in ('half.tif', 'about 10 m', 'got 0.5 m', '--resample', '--any-resolution', 'resample=True'): assert o in text
    assert not (tmp_path/'out').exists()
    go(str(tmp_path/'a'), resample=True)
    go(str(tmp_path/'b'), any_resolution=True)
    with pytest.raises(BadInput, match='--resample or --any-resolution, got both'): go(str(tmp_path/'c'), resample=True, any_resolution=True)
    for n,pixel in enumerate(((14,14), (7,7), (10,5))): # Up to 1.5 times is near enough
        near,_ = at(tmp_path/f'near{n}.tif', home, 40, 40, pixel)
        S.map_scenes(str(near), str(model), str(tmp_path/f'near{n}'), polygons='none', quiet=True)


def test_unknown_on_either_side_is_no_check_and_cannot_be_resampled(home, model, tmp_path):
    scene,a = at(tmp_path/'half.tif', home, 60, 60, (.5,.5))
    np.save(tmp_path/'a.npy', np.moveaxis(a, 0, -1))
    old = home.net('one')[0]
    for n,(path,net,lack) in enumerate(((scene, old, 'the model file does not'), (tmp_path/'a.npy', model, 'the data do not'))):
        S.map_scenes(str(path), str(net), str(tmp_path/f'{n}'), polygons='none', quiet=True)
        with pytest.raises(BadInput) as e: S.map_scenes(str(path), str(net), str(tmp_path/f'r{n}'), polygons='none', quiet=True, resample=True)
        assert lack in one_line(e) and 'leave it out' in str(e.value)


def test_degrees_are_metres_at_their_place(home, model, tmp_path):
    a = home.picture[:, :40, :40]
    place = partial(Affine, b=0, c=10, d=0, f=60)
    near = tif(tmp_path/'near.tif', a, crs='EPSG:4326', transform=place(a=1.8e-4, e=-9e-5)) # 10 m
    far = tif(tmp_path/'far.tif', a, crs='EPSG:4326', transform=place(a=3.6e-4, e=-1.8e-4))
    S.map_scenes(str(near), str(model), str(tmp_path/'out'), polygons='none', quiet=True)
    with pytest.raises(BadInput, match='got 20.1 m'): S.map_scenes(str(far), str(model), str(tmp_path/'no'), polygons='none', quiet=True)


def test_shipped_net_says_ten_metres_and_finds_the_same_in_finer_pixels(tmp_path, monkeypatch):
    net,info = load_model(bundled_file('unet_model.pth'))
    assert info.resolution == 10
    x = sample_scene(192, seed=7)[0]
    tens = tif(tmp_path/'ten.tif', np.moveaxis(x, -1, 0), transform=UTM(a=10, e=-10))
    fives = tif(tmp_path/'five.tif', np.moveaxis(x.repeat(2, 0).repeat(2, 1), -1, 0), transform=UTM(a=5, e=-5))
    maps = [pixels(S.map_scenes(str(o), None, str(tmp_path/o.stem), polygons='none', resample=True, quiet=True)[str(o)]['classes'])[0][0] for o in (tens, fives)]
    a,b = maps[0].repeat(2, 0).repeat(2, 1) == 1, maps[1] == 1
    assert (a & b).sum()/(a | b).sum() > .9 # Probabilities are interpolated, so edges are finer
