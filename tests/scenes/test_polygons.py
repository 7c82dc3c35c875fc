"""Polygons of blocks against polygons of the whole array; areas against the ellipsoid; files read back by other tools."""
import hashlib
import json
import os
import signal
import sqlite3
import time
import tracemalloc

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from rasterio import features
from rasterio.crs import CRS
from rasterio.transform import Affine

from satseg.core.errors import BadInput
from satseg.data.instances import instances_from_probabilities, label_components
from satseg.data.polygons import mask_to_polygons
from satseg.scenes.tiles import Layout
from satseg.scenes.areas import pixel_areas, pixel_steps
from satseg.scenes.polygons import Shape, merge_polygons, tile_polygons
from satseg.scenes.instances import merge_instances, tile_instances
from satseg.scenes.vector_files import polygon_style, simplify_polygons, write_polygons

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)
UTM = Affine(10, 0, 300000, 0, -10, 6e6), 'EPSG:32633'
NAMES, COLOURS = ['background', 'wood', 'water & ice'], [(0, 0, 0), (230, 159, 0), (86, 180, 233)]


class Grid:
    "A layout with any rows and columns."
    def __init__(self, rows, cols): self.rows, self.cols, self.height, self.width = rows, cols, rows[-1], cols[-1]
    def __len__(self): return (len(self.rows)-1)*(len(self.cols)-1)

    def tile(self, i):
        r, c = divmod(i, len(self.cols)-1)
        return self.rows[r], self.cols[c], self.rows[r+1]-self.rows[r], self.cols[c+1]-self.cols[c]


def grid(rng, h, w):
    return Grid(*([0, *sorted(rng.choice(np.arange(1, n), rng.integers(0, n), replace=False).tolist()), n] for n in (h, w)))


def random_map(rng, most=16):
    h, w = rng.integers(1, most, 2)
    if rng.random()<.5: m = rng.integers(0, rng.integers(2, 4), (h, w))
    else:
        m = np.full((h, w), rng.integers(0, 3))
        for _ in range(rng.integers(1, 9)):
            (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
            m[r:r+dr, c:c+dc] = rng.integers(0, 3)
    m[rng.random((h, w))<rng.choice([0, .1])] = 255
    return m.astype(np.uint8)


def block_pieces(layout, classes, score, areas, wanted=(0, 1, 2)):
    def pieces_of(i):
        r, c, h, w = layout.tile(i)
        at = slice(r, r+h), slice(c, c+w)
        return tile_polygons(classes[at], score[at], areas[at], (r, c, h, w), classes.shape, wanted)
    return pieces_of


def normal(polygon): return shapely.normalize(polygon).wkt # GDAL starts its rings elsewhere


def whole(classes, wanted=(0, 1, 2)):
    "Polygons of the whole array as {outline: class}."
    wide = np.where(np.isin(classes, wanted), classes.astype(np.int32)+1, 0)
    return {normal(o): i-1 for o, i in zip(*mask_to_polygons(wide, ids=True))}


def check(layout, classes, score, areas, wanted=(0, 1, 2)):
    "Count, outline, class, pixels, area and score of every shape against the whole array."
    shapes, truth = list(merge_polygons(block_pieces(layout, classes, score, areas, wanted), layout)), whole(classes, wanted)
    assert len(shapes)==len(truth)
    assert {normal(o.polygon): o.class_id for o in shapes}==truth
    parts = label_components(np.where(np.isin(classes, wanted), classes.astype(np.int32)+1, 0))
    for o in shapes:
        x, y = o.polygon.exterior.coords[0]
        own = parts==parts[int(y), int(x)]
        assert (o.pixels, o.area)==(own.sum(), areas[own].sum())
        assert o.score==pytest.approx(score[own].mean(), abs=1e-6)
        assert o.pixels==o.polygon.area
    return shapes


def random_case(seed, most=16):
    rng = np.random.default_rng(seed)
    m = random_map(rng, most)
    return grid(rng, *m.shape), m, rng.random(m.shape, np.float32), rng.integers(1, 9, m.shape)*.25


# Classes

@quick
@given(seeds)
def test_blocks_give_the_polygons_of_the_whole(seed):
    shapes = check(*random_case(seed))
    assert all(o.polygon.is_valid for o in shapes)


def test_many_small_maps():
    for seed in range(600): check(*random_case(seed, 9))


@quick
@given(seeds, st.sets(st.integers(0, 3)))
def test_only_wanted_classes(seed, wanted):
    layout, m, score, areas = random_case(seed)
    assert {o.class_id for o in check(layout, m, score, areas, list(wanted))} <= wanted


@quick
@given(seeds)
def test_same_as_rasterio(seed):
    layout, m, score, areas = random_case(seed)
    shapes = list(merge_polygons(block_pieces(layout, m, score, areas), layout))
    theirs = [(int(v), shapely.geometry.shape(o)) for o, v in features.shapes(m, mask=m!=255, connectivity=4)]
    assert len(shapes)==len(theirs)
    def norm(pairs): return sorted((i, shapely.normalize(shapely.simplify(o, 0)).area, o.bounds) for i, o in pairs)
    assert norm((o.class_id, o.polygon) for o in shapes)==norm(theirs)
    ours = shapely.STRtree([o.polygon for o in shapes])
    for i, o in theirs: assert any(shapes[j].class_id==i and shapely.equals(shapes[j].polygon, o) for j in ours.query(o))


def spiral(n):
    "One thread that winds to the middle, one pixel wide."
    m = np.zeros((n, n), np.uint8)
    r, c, dr, dc = 0, 0, 0, 1
    m[r, c] = 1
    def free(r, c): return 0 <= r<n and 0 <= c<n and not m[r, c]
    def ok(r, c): return free(r, c) and (not (0 <= r+dr<n and 0 <= c+dc<n) or not m[r+dr, c+dc])
    for _ in range(n*n):
        if not ok(r+dr, c+dc):
            dr, dc = dc, -dr
            if not ok(r+dr, c+dc): break
        r, c = r+dr, c+dc
        m[r, c] = 1
    return m


def rings(n):
    y, x = np.abs(np.mgrid[:n, :n]-n//2)
    return (np.maximum(y, x)%2).astype(np.uint8)


HARD = {'spiral': spiral(21), 'rings': rings(23), 'checkers': (np.indices((12, 13)).sum(0)%2).astype(np.uint8),
        'diagonal': np.eye(15, dtype=np.uint8), 'full': np.ones((9, 14), np.uint8), 'none': np.full((9, 14), 255, np.uint8),
        'row': np.array([[0, 1, 1, 2, 255, 1, 1, 1, 0, 0, 1]], np.uint8), 'column': np.array([[0, 1, 1, 2, 255, 1, 1]], np.uint8).T,
        'pixel': np.ones((1, 1), np.uint8), 'comb': np.array([[1]*17]+[[1, 0]*8+[1]]*6, np.uint8),
        'points': np.kron((np.indices((5, 6)).sum(0)%2), np.ones((3, 2))).astype(np.uint8)}


@pytest.mark.parametrize('size', [1, 2, 3, 7, 100])
@pytest.mark.parametrize('name', HARD)
def test_hard_cases(name, size):
    m = HARD[name]
    check(Layout(*m.shape, size=size), m, np.full(m.shape, .5, np.float32), np.ones(m.shape))


def test_outline_does_not_depend_on_the_blocks():
    rng = np.random.default_rng(1)
    m = (rng.random((40, 50))<.6).astype(np.uint8)
    rest = np.full(m.shape, .3, np.float32), np.full(m.shape, .1)
    one, *others = (sorted((o.class_id, o.polygon.wkb, *o[2:]) for o in merge_polygons(block_pieces(g, m, *rest), g))
                    for g in (Layout(*m.shape, size=50), Layout(*m.shape, size=7), grid(rng, *m.shape)))
    for o in others: assert [p[:3] for p in o]==[p[:3] for p in one] and np.allclose([p[3:] for p in o], [p[3:] for p in one], rtol=1e-12)


def test_order_and_reading():
    "Every block is read once and in order; what is complete comes at once; the order is that of first pixels."
    rng = np.random.default_rng(2)
    m = rng.integers(0, 3, (30, 30)).astype(np.uint8)
    layout, seen = Layout(30, 30, size=10), []
    inner = block_pieces(layout, m, np.ones(m.shape, np.float32), np.ones(m.shape))
    def pieces_of(i):
        seen.append(i)
        return inner(i)
    groups = {}
    for o in merge_polygons(pieces_of, layout): groups.setdefault(len(seen), []).append(o.polygon.exterior.coords[0][::-1])
    assert seen==list(range(9)) and list(groups)==list(range(1, 10))
    for i, o in groups.items():
        block, crossed = [p for p in o if i%3], o
        assert block==sorted(block)
    again = [o.polygon.exterior.coords[0][::-1] for o in merge_polygons(pieces_of, layout)]
    assert again==[p for o in groups.values() for p in o]


def test_pieces_are_plain_numbers(tmp_path):
    layout, m, score, areas = random_case(5)
    block = block_pieces(layout, m, score, areas)
    def there_and_back(i):
        np.savez(tmp_path/'o.npz', **block(i))
        with np.load(tmp_path/'o.npz', allow_pickle=False) as f: return dict(f)
    assert [o[2:] for o in merge_polygons(there_and_back, layout)]==[o[2:] for o in merge_polygons(block, layout)]
    with pytest.raises(BadInput, match='expected uint8'): tile_polygons(m.astype(int), score, areas, (0, 0, *m.shape), m.shape, [1])


def blobs(shape, seed=0):
    from scipy.ndimage import gaussian_filter
    rng = np.random.default_rng(seed)
    x = np.stack([gaussian_filter(rng.normal(size=shape), s, mode='wrap')*s*3 for s in (4, 8, 16)])
    return (x+rng.normal(size=x.shape)*.2).argmax(0).astype(np.uint8)


def test_memory_does_not_grow_with_the_scene():
    tile = blobs((256, 256))
    tile[:, :8] = tile[-8:] = 255 # Nothing crosses the whole scene
    one = np.full((64, 64), .5, np.float32)
    def peak(times):
        layout = Grid(list(range(0, 256*times+1, 64)), list(range(0, 257, 64)))
        def pieces_of(i):
            r, c, h, w = layout.tile(i)
            return tile_polygons(tile[r%256:r%256+h, c:c+w], one, np.ones((1, 1)), (r, c, h, w), (layout.height, layout.width), [0, 1, 2])
        tracemalloc.start()
        n = sum(1 for _ in merge_polygons(pieces_of, layout))
        res = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return n, res
    (n, few), (m, many) = peak(2), peak(12)
    assert m==6*n and many<1.1*few


# Objects

def probabilities(rng, h, w, levels=None):
    "Of background, inside, border; with few levels there are plateaus."
    from scipy.ndimage import gaussian_filter
    x = np.stack([gaussian_filter(rng.normal(size=(h, w)), s)*s*4 for s in (3, 2, 1)])
    x = np.exp(x-x.max(0))
    x = (x/x.sum(0)).astype(np.float32)
    if not levels: return x
    x[1:] = np.floor(x[1:]*levels)/levels
    x[0] = 1-x[1]-x[2]
    return x.clip(0, 1)


def object_pieces(layout, probs, valid, areas, **how):
    def pieces_of(i):
        r, c, h, w = layout.tile(i)
        at = slice(r, r+h), slice(c, c+w)
        return tile_instances(probs[:, *at], valid[at], areas[at], (r, c, h, w), valid.shape, **how)
    return pieces_of


def check_objects(number, levels, **how):
    rng = np.random.default_rng(number)
    h, w = rng.integers(1, 60, 2)
    probs, valid, areas = probabilities(rng, h, w, levels), rng.random((h, w))>rng.choice([0, .02]), rng.integers(1, 9, (h, w))*.25
    layout = grid(rng, h, w) if rng.random()<.5 else Layout(h, w, size=int(rng.integers(5, 40)))
    shapes = list(merge_instances(object_pieces(layout, probs, valid, areas, **how), layout,
                                  lambda o: areas[o[0]:o[0]+o[2], o[1]:o[1]+o[3]], **how))
    ids = instances_from_probabilities(np.where(valid, probs, 0), **how)
    assert sorted(normal(o.polygon) for o in shapes)==sorted(map(normal, mask_to_polygons(ids)))
    score = probs[1]+probs[2]
    for o in shapes:
        x, y = o.polygon.exterior.coords[0]
        own = ids==ids[int(y), int(x)]
        assert (o.class_id, o.pixels, o.area)==(1, own.sum(), areas[own].sum()) and o.score==pytest.approx(score[own].mean(), abs=1e-5)
    return len(shapes)


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([None, 2, 4, 10]))
def test_blocks_give_the_objects_of_the_whole(seed, levels):
    check_objects(seed, levels, min_area=3, min_seed=2)


def test_many_objects():
    assert sum(check_objects(i, (None, 2, 3, 5)[i%4], threshold=.4, seed=.6, min_area=1, min_seed=1) for i in range(40))>400


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([None, 1, 2, 5]))
def test_a_blob_is_cut_as_if_it_were_alone(seed, levels):
    rng = np.random.default_rng(seed)
    probs = probabilities(rng, 40, 40, levels)
    how = dict(min_seed=2, min_area=1)
    ids, blobs = instances_from_probabilities(probs, **how), label_components(probs[1]+probs[2] >= np.float32(.5))
    for i in range(1, blobs.max()+1):
        alone = instances_from_probabilities(np.where(blobs==i, probs, 0), **how)
        pairs = np.unique(np.stack([alone[blobs==i], ids[blobs==i]]), axis=1)
        assert all(len(np.unique(o))==pairs.shape[1] for o in pairs)


def test_blobs_too_large_to_cut():
    rng = np.random.default_rng(3)
    probs = probabilities(rng, 80, 80)
    valid, areas = np.ones((80, 80), bool), np.ones((80, 80))
    layout, counts = Layout(80, 80, size=16), {}
    shapes = list(merge_instances(object_pieces(layout, probs, valid, areas), layout, lambda o: np.ones((1, 1)), max_pixels=400, counts=counts))
    blob = label_components(probs[1]+probs[2] >= np.float32(.5))
    large = [o for o in mask_to_polygons(blob) if np.prod(np.subtract(o.bounds[2:], o.bounds[:2]))>400]
    assert counts['uncut']==len(large)>0
    assert {normal(o) for o in large} <= {normal(o.polygon) for o in shapes}
    assert sum(o.pixels for o in shapes)<=(blob>0).sum()


def test_pixels_kept_of_open_blobs_are_bounded():
    "A blob that winds through the scene beside small ones: it alone stays uncut, and memory does not grow."
    probs = np.zeros((3, 64, 64), np.float32)
    probs[1, :, :30] = probs[1, 3:13, 40:56] = probs[1, 28:36, 40:52] = .9
    one = np.ones((1, 1))
    def run(times, most):
        layout, counts = Grid(list(range(0, 64*times+1, 16)), [0, 20, 45, 64]), {}
        def pieces_of(i):
            r, c, h, w = layout.tile(i)
            return tile_instances(probs[:, r%64:r%64+h, c:c+w], np.ones((h, w), bool), one, (r, c, h, w), (layout.height, layout.width))
        tracemalloc.start()
        shapes = list(merge_instances(pieces_of, layout, lambda o: one, max_open=most, counts=counts))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return sorted((o.pixels, o.polygon.wkt) for o in shapes), counts['uncut'], peak
    shapes, uncut, few = run(6, 1500)
    cut, none, _ = run(6, 10**9)
    assert (uncut, none)==(1, 0) and shapes==cut and [o[0] for o in shapes]==[96]*6+[160]*6+[64*30*6]
    assert run(24, 1500)[2]<1.5*few


def test_no_canvas_is_larger_than_allowed(monkeypatch):
    import satseg.scenes.instances as instances
    box = np.array([[r, c, -r-10, -c-10] for r in range(0, 200, 10) for c in range(0, 200, 10)])
    monkeypatch.setattr(instances, '_CANVAS', 5000)
    some = list(instances._pick_canvases(box))
    assert sorted(np.concatenate(some))==list(range(400)) and max(instances._extent(box[o].min(0)) for o in some)<=5000


# Areas

def at(t, x, y): return t.a*x+t.b*y+t.c, t.d*x+t.e*y+t.f


def true_area(transform, crs, window, n=200):
    to = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    degrees = np.degrees(pyproj.CRS(crs).geodetic_crs.axis_info[0].unit_conversion_factor)
    r, c, h, w = window
    t = np.linspace(0, 1, n)
    x = np.concatenate([c+w*t, 0*t+c+w, c+w-w*t, 0*t+c])
    y = np.concatenate([0*t+r, r+h*t, 0*t+r+h, r+h-h*t])
    return abs(pyproj.CRS(crs).get_geod().polygon_area_perimeter(*(np.multiply(o, degrees) for o in to.transform(*at(transform, x, y))))[0])


GRIDS = {'mercator': (Affine(10, 0, 0, 0, -10, 8399737.9), 'EPSG:3857'), 'coarse mercator': (Affine(1000, 0, 0, 0, -1000, 8e6), 'EPSG:3857'),
         'degrees': (Affine(1e-4, 0, 10, 0, -1e-4, 52), 'EPSG:4326'), 'narrow degrees': (Affine(3e-4, 0, 10, 0, -1e-4, -70), 'EPSG:4326'),
         'utm': UTM, 'oblong': (Affine(10, 0, 300000, 0, -2.5, 6e6), 'EPSG:32633'), 'turned': (Affine(7, 7, 300000, 7, -7, 6e6), 'EPSG:32633'),
         'turned degrees': (Affine(1e-4, 2e-5, 10, 1e-5, -1e-4, 52), 'EPSG:4326'), 'feet': (Affine(30, 0, 2e6, 0, -30, 7e5), 'EPSG:2225'),
         'polar': (Affine(1000, 0, -5e5, 0, -1000, 5e5), 'EPSG:3413'), 'south up': (Affine(10, 0, 300000, 0, 10, 6e6), 'EPSG:32633'),
         'grads': (Affine(1e-4, 0, 2, 0, -1e-4, 52), 'EPSG:4807')}


@pytest.mark.parametrize('name', GRIDS)
def test_areas_on_the_ellipsoid(name):
    for window in ((0, 0, 400, 300), (600, 500, 100, 90)):
        area = np.broadcast_to(pixel_areas(*GRIDS[name], window), window[2:]).sum()
        assert area==pytest.approx(true_area(*GRIDS[name], window), rel=5e-6)


@pytest.mark.parametrize('name', GRIDS)
def test_an_area_does_not_depend_on_the_window(name):
    large = np.broadcast_to(pixel_areas(*GRIDS[name], (0, 0, 700, 800)), (700, 800))
    for window in ((0, 0, 1, 1), (255, 255, 3, 3), (300, 511, 257, 30), (699, 799, 1, 1)):
        r, c, h, w = window
        assert (np.broadcast_to(pixel_areas(*GRIDS[name], window), (h, w))==large[r:r+h, c:c+w]).all()


def test_area_of_nothing_and_of_local_grids():
    assert pixel_areas(Affine.identity(), None, (5, 5, 3, 3))==1
    assert pixel_areas(Affine(2, 0, 0, 0, -2, 0), CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), (0, 0, 9, 9))==4
    assert (pixel_areas(Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326), (0, 0, 180, 360))>0).all()
    with pytest.raises(BadInput, match='pixels of some size'): pixel_areas(Affine(0, 0, 0, 0, 0, 0), 'EPSG:32633', (0, 0, 1, 1))
    with pytest.raises(BadInput, match='coordinate reference system'): pixel_areas(Affine.identity(), 'nowhere', (0, 0, 1, 1))


def test_edge_of_the_projections_world():
    sinusoidal = '+proj=sinu +lon_0=0 +R=6371007.181 +units=m'
    a = pixel_areas(Affine(1000, 0, -20015109, 0, -1000, 10007554), sinusoidal, (0, 0, 50, 50))
    assert np.isfinite(a).all() and (a>0).all()


# Files

def tags_of(path):
    "The tags of a file as other tools read them."
    if path.suffix=='.geojson': return json.loads(path.read_text()).get('tags', {})
    if path.suffix=='.gpkg': return pyogrio.read_info(path, layer=pyogrio.list_layers(path)[0, 0])['layer_metadata'] or {}
    return {k.decode(): o.decode() for k, o in pq.read_metadata(path).metadata.items() if k not in (b'geo', b'ARROW:schema')}


def scene(seed=0, shape=(90, 120)):
    m = blobs(shape, seed)
    m[:5, :7] = 255
    return m


def shapes_of(m, transform, crs, size=32):
    layout = Layout(*m.shape, size=size)
    areas = np.broadcast_to(pixel_areas(transform, crs, (0, 0, *m.shape)), m.shape)
    score = np.random.default_rng(0).random(m.shape, np.float32)
    return merge_polygons(block_pieces(layout, m, score, areas, [1, 2]), layout)


def geo_area(frame):
    "Areas on the ellipsoid, every edge walked in small steps."
    geod, crs = frame.crs.get_geod(), frame.crs.geodetic_crs
    dense = shapely.segmentize(frame.geometry.values, frame.geometry.length.max()/500)
    return np.array([abs(geod.geometry_area_perimeter(o)[0]) for o in geopandas.GeoSeries(dense, crs=frame.crs).to_crs(crs)])


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
@pytest.mark.parametrize('name', ['utm', 'mercator', 'degrees', 'turned', 'south up', 'narrow degrees'])
def test_files_read_back(tmp_path, name, suffix):
    transform, crs = GRIDS[name]
    m = scene()
    report = write_polygons(tmp_path/f'map{suffix}', shapes_of(m, transform, crs), NAMES, COLOURS, transform, crs, tags={'a': 'b', 'c': '"'})
    frame = geopandas.read_parquet(tmp_path/'map.parquet') if suffix=='.parquet' else geopandas.read_file(tmp_path/f'map{suffix}', layer='map')
    truth = whole(m, [1, 2])
    assert len(frame)==report['count']==len(truth) and list(frame['id'])==list(range(1, len(frame)+1))
    assert list(frame.columns)==['id', 'class_id', 'class', 'score', 'area_m2', 'pixels', 'geometry']
    assert frame.geometry.is_valid.all() and (frame.geometry.geom_type=='Polygon').all()
    assert all(o.exterior.is_ccw for o in frame.geometry) and not any(r.is_ccw for o in frame.geometry for r in o.interiors)
    assert frame.crs==pyproj.CRS('EPSG:4326' if suffix=='.geojson' else crs)
    assert list(frame['class'])==[NAMES[i] for i in frame['class_id']]
    assert (frame['score']==frame['score'].round(3)).all() and frame['score'].between(0, 1).all()
    for k, v in report['area'].items(): assert frame.area_m2[frame['class']==k].sum()==pytest.approx(v, abs=.005*len(frame))
    assert np.allclose(geo_area(frame), frame.area_m2, rtol=5e-3 if suffix=='.geojson' else 1e-5, atol=.01)
    if suffix!='.geojson':
        back = shapely.transform(frame.geometry.values, lambda xy: np.round(np.stack(at(~transform, *xy.T), 1), 3)+0.)
        def norm(o): return {shapely.normalize(p).wkt for p in o}
        assert norm(back)==norm(shapely.from_wkt(list(truth)))
    assert tags_of(tmp_path/f'map{suffix}')=={'a': 'b', 'c': '"'}
    assert [o.name for o in tmp_path.iterdir()]==[f'map{suffix}']


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_same_shapes_same_bytes(tmp_path, suffix):
    def digest(name, size):
        (tmp_path/name).mkdir()
        write_polygons(tmp_path/name/f'map{suffix}', shapes_of(scene(), *UTM, size), NAMES, COLOURS, *UTM, tags={'k': 'v'})
        return hashlib.sha256((tmp_path/name/f'map{suffix}').read_bytes()).hexdigest()
    one = digest('one', 32)
    time.sleep(1.1)
    assert digest('two', 32)==one


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_nothing_found_and_no_crs(tmp_path, suffix):
    path = tmp_path/f'map{suffix}'
    def read(): return geopandas.read_parquet(path) if suffix=='.parquet' else geopandas.read_file(path)
    assert write_polygons(path, [], NAMES, COLOURS, *UTM)==dict(count=0, area={}, dropped_small=0, remarks=[])
    assert len(read())==0 and tags_of(path)=={}
    report = write_polygons(path, shapes_of(scene(), Affine.identity(), None), NAMES, COLOURS, Affine.identity(), None, tags={'k': 'v'})
    frame = read()
    assert 'pixels' in report['remarks'][0] and (frame.area_px==frame.pixels).all() and (frame.geometry.area==frame.pixels).all()
    assert tags_of(path)=={'k': 'v'}
    if suffix!='.geojson': assert frame.crs is None # GeoJSON always claims degrees: hence the remark


def test_geopackage_has_index_and_style(tmp_path):
    write_polygons(tmp_path/'map.gpkg', shapes_of(scene(), *UTM), NAMES, COLOURS, *UTM)
    base = sqlite3.connect(tmp_path/'map.gpkg')
    assert base.execute('pragma integrity_check').fetchone()==('ok',)
    (name, column, default, style), = base.execute('select f_table_name, f_geometry_column, useAsDefault, styleQML from layer_styles')
    assert (name, column, default)==('map', 'geom', 1) and base.execute('select data_type from gpkg_contents order by 1').fetchall()==[('attributes',), ('features',)]
    import xml.dom.minidom
    doc = xml.dom.minidom.parseString(style)
    assert [o.getAttribute('label') for o in doc.getElementsByTagName('category')]==NAMES
    assert base.execute('select count(*) from rtree_map_geom').fetchone()==base.execute('select count(*) from map').fetchone()
    assert 'x &lt; y' in polygon_style(['x < y'], [(1, 2, 3)])


def test_geojson_is_as_the_rfc_says(tmp_path):
    m = np.ones((2, 40), np.uint8)
    transform = Affine(1000, 0, 680000, 0, -1000, 0) # Zone 60 ends at 833 km: these pixels reach over the date line
    write_polygons(tmp_path/'a.geojson', shapes_of(np.tile(m, (1, 6)), transform, 'EPSG:32660'), NAMES, COLOURS, transform, 'EPSG:32660')
    data = json.loads((tmp_path/'a.geojson').read_text())
    assert 'crs' not in data and data['features'][0]['geometry']['type']=='MultiPolygon'
    xy = shapely.get_coordinates(shapely.geometry.shape(data['features'][0]['geometry']))
    assert np.abs(xy[:, 0]).max()==180 and (xy==xy.round(7)).all()


def test_geoparquet_metadata(tmp_path):
    write_polygons(tmp_path/'a.parquet', shapes_of(scene(), *UTM), NAMES, COLOURS, *UTM)
    geo = json.loads(pq.read_metadata(tmp_path/'a.parquet').metadata[b'geo'])
    column = geo['columns'][geo['primary_column']]
    assert (geo['version'], column['encoding'], column['geometry_types'])==('1.1.0', 'WKB', ['Polygon']) and column['crs']['id']['code']==32633


def test_small_shapes_are_dropped_and_counted(tmp_path):
    shapes = list(shapes_of(scene(), *UTM))
    report = write_polygons(tmp_path/'a.parquet', shapes, NAMES, COLOURS, *UTM, min_area=1000)
    kept = [o for o in shapes if o.area >= 1000]
    assert (report['count'], report['dropped_small'])==(len(kept), len(shapes)-len(kept)) and report['dropped_small']>0
    assert sum(report['area'].values())==pytest.approx(sum(o.area for o in kept))


@pytest.mark.parametrize('name', ['utm', 'oblong', 'degrees', 'narrow degrees', 'mercator', 'turned', 'feet'])
def test_simplified_in_metres(name):
    transform, crs = GRIDS[name]
    polys = np.array([o.polygon for o in shapes_of(scene(4, (150, 150)), transform, crs)])
    side = pixel_areas(transform, crs, (0, 0, 1, 1)).item()**.5
    res = simplify_polygons(polys, 2*side, transform, crs)
    assert shapely.is_valid(res).all()
    assert shapely.is_valid(shapely.transform(res, lambda xy: np.stack(at(transform, *xy.T), 1))).all()
    assert (shapely.get_num_interior_rings(res)==shapely.get_num_interior_rings(polys)).all()
    n, m = (shapely.get_num_coordinates(o).sum() for o in (polys, res))
    assert m<.6*n
    local = np.array([shapely.transform(o, lambda xy, s=pixel_steps(transform, crs, *np.array(p.centroid.coords).T)[0]: xy@s.T)
                      for o, p in zip((*polys, *res), (*polys, *polys))])
    moved = shapely.distance(shapely.points(shapely.get_coordinates(local[:len(polys)])),
                             local[len(polys):][shapely.get_coordinates(local[:len(polys)], return_index=True)[1]].copy())
    assert moved.max()<2*side*1.5 # GEOS may go a little further at a ring's first corner
    assert (simplify_polygons(polys, 0, transform, crs)==polys).all()


def test_simplified_with_thousands_of_holes():
    from scipy.ndimage import gaussian_filter
    rng = np.random.default_rng(0)
    m = gaussian_filter(rng.normal(size=(400, 400)), 3)*6+rng.normal(size=(400, 400))*.3>-.6
    poly = np.array([max(mask_to_polygons(m), key=lambda o: len(o.interiors))])
    res = simplify_polygons(poly, 15, *UTM)
    assert len(res[0].interiors)==len(poly[0].interiors)>4000 and res[0].is_valid
    assert shapely.get_num_coordinates(res[0])<.7*shapely.get_num_coordinates(poly[0])
    some = shapely.points(rng.permutation(shapely.get_coordinates(poly))[:300])
    assert shapely.distance(some, res[0].boundary).max()<6


@pytest.mark.parametrize('limit', [('_CORNERS', 100), ('_COMPARISONS', 300)])
def test_very_large_polygons_stay_exact_and_are_counted(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(f'satseg.scenes.vector_files.{limit[0]}', limit[1])
    shapes = list(shapes_of(scene(0, (200, 200)), *UTM))
    polys = np.array([o.polygon for o in shapes])
    n, res = shapely.get_num_coordinates(polys), simplify_polygons(polys, 15, *UTM)
    large = n>100 if limit[0]=='_CORNERS' else n*(shapely.get_num_interior_rings(polys)+1)>300
    assert 0<large.sum()<len(polys) and (res[large]==polys[large]).all() and (shapely.get_num_coordinates(res[~large])<n[~large]).any()
    report = write_polygons(tmp_path/'a.parquet', shapes, NAMES, COLOURS, *UTM, simplify=15)
    assert report['remarks']==[f'polygons too large to simplify in good time, left exact: {large.sum():,}']


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(.1, 20))
def test_simplified_stays_valid(seed, tolerance):
    layout, m, score, areas = random_case(seed, 24)
    rng = np.random.default_rng(seed)
    polys = np.array([o.polygon for o in merge_polygons(block_pieces(layout, m, score, areas), layout)])
    if not len(polys): return
    turned = Affine(1.37e-5, 1e-6*rng.random(), 10.1, 1e-6, -1.1e-5, 50.3)
    res = simplify_polygons(polys, tolerance, turned, 'EPSG:4326')
    assert shapely.is_valid(shapely.transform(res, lambda xy: np.stack(at(turned, *xy.T), 1))).all()
    assert shapely.is_valid(res).all() and not shapely.is_empty(res).any()
    assert (shapely.get_num_interior_rings(res)==shapely.get_num_interior_rings(polys)).all()


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_an_error_leaves_nothing(tmp_path, suffix):
    path = tmp_path/f'map{suffix}'
    def broken(error):
        for i, o in enumerate(shapes_of(scene(), *UTM)):
            if i==20: raise error
            yield o
    for error in (BadInput('block 3: damaged'), KeyboardInterrupt()):
        with pytest.raises(type(error)): write_polygons(path, broken(error), NAMES, COLOURS, *UTM)
        assert not list(tmp_path.iterdir())
    path.write_text('old')
    with pytest.raises(BadInput): write_polygons(path, broken(BadInput('x')), NAMES, COLOURS, *UTM)
    assert path.read_text()=='old'


def test_bad_arguments(tmp_path):
    for path, kw, text in ((tmp_path/'a.shp', {}, 'ends in .gpkg'), (tmp_path/'a.gpkg', dict(min_area=-1), 'min_area: expected 0 or more'),
                           (tmp_path/'a.gpkg', dict(simplify=np.nan), 'simplify: expected 0 or more'), (tmp_path/'no'/'a.gpkg', {}, 'make it first')):
        with pytest.raises(BadInput, match=text): write_polygons(path, [], NAMES, COLOURS, *UTM, **kw)


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_full_disk(tmp_path, suffix):
    "A limit on file size acts like a full disk."
    resource = pytest.importorskip('resource')
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    shapes = list(shapes_of(scene(0, (300, 300)), *UTM))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, old[1]))
        with pytest.raises(BadInput, match='is there room on the disk'): write_polygons(tmp_path/f'map{suffix}', shapes, NAMES, COLOURS, *UTM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_batches_of_many(tmp_path):
    box = shapely.box(0, 0, 1, 1)
    report = write_polygons(tmp_path/'a.gpkg', (Shape(1, box, 1, 100., .5) for _ in range(25_000)), NAMES, COLOURS, *UTM)
    assert report['count']==25_000==pyogrio.read_info(tmp_path/'a.gpkg', layer='a')['features']
    assert pyogrio.read_dataframe(tmp_path/'a.gpkg', layer='a')['id'].is_monotonic_increasing


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_what_a_full_disk_loses_without_a_word_is_noticed(tmp_path, suffix, monkeypatch):
    "GDAL may lose the spatial index, or the end of a file, and report success."
    resource = pytest.importorskip('resource')
    monkeypatch.setattr('satseg.scenes.vector_files.settle', lambda path: None)
    shapes, path = list(shapes_of(scene(0, (200, 200)), *UTM)), tmp_path/f'map{suffix}'
    def write(): return write_polygons(path, shapes, NAMES, COLOURS, *UTM)
    count, whole = write()['count'], path.read_bytes()
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for part in (.7, .8, .85, .9, .95, .98, .999):
        path.unlink(missing_ok=True)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(len(whole)*part), old[1]))
            write()
        except BadInput as e: assert 'is there room on the disk' in str(e) and not list(tmp_path.iterdir())
        else:
            assert suffix=='.gpkg' # The last pages may be free ones
            base = sqlite3.connect(path)
            assert base.execute('select count(*) from rtree_map_geom').fetchone()[0]==count and base.execute('pragma integrity_check').fetchone()==('ok',)
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_lost_rows_and_a_lost_index_are_noticed(tmp_path, monkeypatch):
    import satseg.scenes.vector_files as vectors
    shapes = list(shapes_of(scene(), *UTM))
    def broken(path, kind, *args):
        inner(path, kind, *args)
        if kind=='GeoJSON': path.write_bytes(path.read_bytes()[:-40])
        else:
            base = sqlite3.connect(path)
            with base: base.execute('delete from rtree_map_geom_rowid where rowid = 5')
            base.close()
    inner = vectors._write_gdal
    monkeypatch.setattr(vectors, '_write_gdal', broken)
    for suffix in ('.gpkg', '.geojson'):
        with pytest.raises(BadInput, match='could not be written'): write_polygons(tmp_path/f'map{suffix}', shapes, NAMES, COLOURS, *UTM)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('lost', [0, 1])
def test_features_are_counted_whatever_the_layout_of_the_file(tmp_path, monkeypatch, lost):
    "Another version of GDAL may write GeoJSON with other spaces and line ends."
    import satseg.scenes.vector_files as vectors
    def rewritten(path, *args):
        inner(path, *args)
        data = json.loads(path.read_text())
        data['features'] = data['features'][lost:]
        path.write_text(json.dumps(data, separators=(',', ':')))
    inner = vectors._write_gdal
    monkeypatch.setattr(vectors, '_write_gdal', rewritten)
    def write(): return write_polygons(tmp_path/'a.geojson', shapes_of(scene(), *UTM), NAMES, COLOURS, *UTM, tags={'k': 'v'})
    if lost:
        with pytest.raises(BadInput, match='polygons were written'): write()
    else:
        assert not write()['remarks'] and tags_of(tmp_path/'a.geojson')=={'k': 'v'}


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson', '.parquet'])
def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, suffix, monkeypatch):
    seen, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: (seen.append(('sync', os.fstat(f).st_ino)), sync(f)))
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(('name', os.stat(a).st_ino)), replace(a, b)))
    path = tmp_path/f'map{suffix}'
    write_polygons(path, shapes_of(scene(), *UTM), NAMES, COLOURS, *UTM, tags={'a': 'b'})
    assert seen[-3:]==[('sync', path.stat().st_ino), ('name', path.stat().st_ino), ('sync', tmp_path.stat().st_ino)]


@pytest.mark.parametrize('side', [.5, .05, .02, .01, .002])
def test_geojson_of_fine_pixels(tmp_path, side):
    transform = Affine(side, 0, 500000, 0, -side, 5e6)
    report = write_polygons(tmp_path/'a.geojson', shapes_of(scene(), transform, 'EPSG:32633'), NAMES, COLOURS, transform, 'EPSG:32633')
    frame = geopandas.read_file(tmp_path/'a.geojson')
    assert len(frame)==report['count'] and not report['remarks'] and (frame.geom_type=='Polygon').all() and frame.is_valid.all()
    assert np.allclose(frame.to_crs('EPSG:32633').area, frame.pixels*side**2, rtol=.1)
    tiny = Affine(1e-7, 0, 7.1, 0, -1e-7, 50.1234567)
    write_polygons(tmp_path/'b.geojson', shapes_of(scene(), tiny, None), NAMES, COLOURS, tiny, None)
    frame = geopandas.read_file(tmp_path/'b.geojson')
    assert frame.is_valid.all() and np.allclose(frame.area, frame.pixels*1e-14, rtol=.1)


def test_polygons_that_collapse_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr('satseg.scenes.vector_files._decimals', lambda *args: 7)
    side = 1e-4
    transform = Affine(side, 0, 500000, 0, -side, 5e6)
    report = write_polygons(tmp_path/'a.geojson', shapes_of(scene(), transform, 'EPSG:32633'), NAMES, COLOURS, transform, 'EPSG:32633')
    lost = (geopandas.read_file(tmp_path/'a.geojson').geom_type!='Polygon').sum()
    assert report['remarks']==[f'polygons too small for the decimals of GeoJSON, now points or lines: {lost}'] and lost>0


def test_units_without_a_crs(tmp_path):
    def remark(transform): return write_polygons(tmp_path/'a.parquet', shapes_of(scene(), transform, None), NAMES, COLOURS, transform, None)['remarks']
    assert remark(Affine.identity())[0].startswith('no CRS: polygons are in pixels (x, y from the upper left corner); a GIS')
    assert remark(Affine(.5, 0, 4e5, 0, -.5, 5e6))[0].startswith("no CRS: polygons are in the file's own units, areas in pixels; a GIS")


@pytest.mark.parametrize('stem', ['gpkg_north', 'GPKG', 'sqlite_x', 'layer_styles', 'rtree_x', 'ogr_x', "it's \"x\" % ?#", 'Straße.1'])
def test_any_file_name_for_a_geopackage(tmp_path, stem):
    path = tmp_path/f'{stem}.gpkg'
    report = write_polygons(path, shapes_of(scene(), *UTM), NAMES, COLOURS, *UTM, tags={'a': 'b'})
    frame = geopandas.read_file(path, layer=pyogrio.list_layers(path)[0, 0])
    assert len(frame)==report['count']>0 and 'pixels' in frame and tags_of(path)=={'a': 'b'} and [o.name for o in tmp_path.iterdir()]==[path.name]


def test_style_is_xml_whatever_the_names():
    import xml.dom.minidom
    doc = xml.dom.minidom.parseString(polygon_style(['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&'], [(1, 2, 3)]*4))
    assert [o.getAttribute('label') for o in doc.getElementsByTagName('category')]==['a?b', 'c?[31m', 'd?', 'e\n"<&']
