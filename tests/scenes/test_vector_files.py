"Files of polygons, read back by other tools."
import hashlib
import json
import os
import signal
import sqlite3
import tempfile
import time

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from rasterio.transform import Affine
from scene_samples import GRIDS, NAMES, UTM, Grid, at, blobs, normal, random_case, random_map, scene, shapes_of, tiles_of, whole

import satseg.data.borders as borders
import satseg.scenes.vector_files as vector_files
from satseg.core.errors import BadInput
from satseg.data.polygons import mask_to_polygons
from satseg.scenes.ground import pixel_areas, pixel_steps
from satseg.scenes.polygons import Shape, merge_polygons
from satseg.scenes.vector_files import FORMATS, write_polygons

seeds = st.integers(0, 2**32)
SUFFIXES = [f'.{o}' for o in FORMATS]


def tags_of(path):
    "The tags of a file as other tools read them."
    if path.suffix=='.geojson': return json.loads(path.read_text()).get('tags', {})
    if path.suffix=='.gpkg': return pyogrio.read_info(path, layer=pyogrio.list_layers(path)[0, 0])['layer_metadata'] or {}
    return {k.decode(): o.decode() for k, o in pq.read_metadata(path).metadata.items() if k not in (b'geo', b'ARROW:schema')}


def geo_area(frame):
    "Areas on the ellipsoid, every edge walked in small steps."
    geod, crs = frame.crs.get_geod(), frame.crs.geodetic_crs
    dense = shapely.segmentize(frame.geometry.values, frame.geometry.length.max()/500)
    return np.array([abs(geod.geometry_area_perimeter(o)[0]) for o in geopandas.GeoSeries(dense, crs=frame.crs).to_crs(crs)])


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('name', ['utm', 'mercator', 'degrees', 'turned', 'south up', 'narrow degrees'])
def test_files_read_back(tmp_path, name, suffix):
    transform, crs = GRIDS[name]
    m = scene()
    report = write_polygons(tmp_path/f'map{suffix}', shapes_of(m, transform, crs), NAMES, transform, crs, tags={'a': 'b', 'c': '"'})
    frame = geopandas.read_parquet(tmp_path/'map.parquet') if suffix=='.parquet' else geopandas.read_file(tmp_path/f'map{suffix}', layer='map')
    truth = whole(m, [1, 2])
    assert len(frame)==report['count']==len(truth) and list(frame['id'])==list(range(1, len(frame)+1))
    assert list(frame.columns)==['id', 'class_id', 'class', 'score', 'area_m2', 'pixels', 'geometry']
    assert frame.geometry.is_valid.all() and (frame.geometry.geom_type=='Polygon').all()
    assert all(o.exterior.is_ccw for o in frame.geometry) and not any(r.is_ccw for o in frame.geometry for r in o.interiors)
    assert frame.crs==pyproj.CRS('EPSG:4326' if suffix=='.geojson' else crs)
    assert list(frame['class'])==[NAMES[i] for i in frame['class_id']]
    assert (frame['score']==frame['score'].round(3)).all() and frame['score'].between(0, 1).all()
    assert np.allclose(geo_area(frame), frame.area_m2, rtol=5e-3 if suffix=='.geojson' else 1e-5, atol=.01)
    if suffix!='.geojson':
        back = shapely.transform(frame.geometry.values, lambda xy: np.round(np.stack(at(~transform, *xy.T), 1), 3)+0.)
        def norm(o): return {shapely.normalize(p).wkt for p in o}
        assert norm(back)==norm(shapely.from_wkt(list(truth)))
    assert tags_of(tmp_path/f'map{suffix}')=={'a': 'b', 'c': '"'}
    assert [o.name for o in tmp_path.iterdir()]==[f'map{suffix}']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_same_shapes_same_bytes(tmp_path, suffix):
    def digest(name, size):
        (tmp_path/name).mkdir()
        write_polygons(tmp_path/name/f'map{suffix}', shapes_of(scene(), *UTM, size), NAMES, *UTM, tags={'k': 'v'})
        return hashlib.sha256((tmp_path/name/f'map{suffix}').read_bytes()).hexdigest()
    one = digest('one', 32)
    time.sleep(1.1)
    assert digest('two', 32)==one


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_nothing_found_and_no_crs(tmp_path, suffix):
    path = tmp_path/f'map{suffix}'
    def read(): return geopandas.read_parquet(path) if suffix=='.parquet' else geopandas.read_file(path)
    assert write_polygons(path, [], NAMES, *UTM)==dict(count=0, dropped_small=0, remarks=[])
    assert len(read())==0 and tags_of(path)=={}
    report = write_polygons(path, shapes_of(scene(), Affine.identity(), None), NAMES, Affine.identity(), None, tags={'k': 'v'})
    frame = read()
    assert 'pixels' in report['remarks'][0] and (frame.area_px==frame.pixels).all() and (frame.geometry.area==frame.pixels).all()
    assert tags_of(path)=={'k': 'v'}
    if suffix!='.geojson': assert frame.crs is None # GeoJSON always claims degrees: hence the remark


def test_geopackage_has_index_and_style(tmp_path):
    write_polygons(tmp_path/'map.gpkg', shapes_of(scene(), *UTM), NAMES, *UTM, style='<qgis>ü & "</qgis>')
    base = sqlite3.connect(tmp_path/'map.gpkg')
    assert base.execute('pragma integrity_check').fetchone()==('ok',)
    (name, column, default, style), = base.execute('select f_table_name, f_geometry_column, useAsDefault, styleQML from layer_styles')
    assert (name, column, default)==('map', 'geom', 1) and base.execute('select data_type from gpkg_contents order by 1').fetchall()==[('attributes',), ('features',)]
    assert style=='<qgis>ü & "</qgis>'
    assert base.execute('select count(*) from rtree_map_geom').fetchone()==base.execute('select count(*) from map').fetchone()


def test_geojson_is_as_the_rfc_says(tmp_path):
    m = np.ones((2, 40), np.uint8)
    transform = Affine(1000, 0, 680000, 0, -1000, 0) # Zone 60 ends at 833 km: these pixels reach over the date line
    write_polygons(tmp_path/'a.geojson', shapes_of(np.tile(m, (1, 6)), transform, 'EPSG:32660'), NAMES, transform, 'EPSG:32660')
    data = json.loads((tmp_path/'a.geojson').read_text())
    assert 'crs' not in data and data['features'][0]['geometry']['type']=='MultiPolygon'
    xy = shapely.get_coordinates(shapely.geometry.shape(data['features'][0]['geometry']))
    assert np.abs(xy[:, 0]).max()==180 and (xy==xy.round(7)).all()


def test_geoparquet_metadata(tmp_path):
    write_polygons(tmp_path/'a.parquet', shapes_of(scene(), *UTM), NAMES, *UTM)
    geo = json.loads(pq.read_metadata(tmp_path/'a.parquet').metadata[b'geo'])
    column = geo['columns'][geo['primary_column']]
    assert (geo['version'], column['encoding'], column['geometry_types'])==('1.1.0', 'WKB', ['Polygon']) and column['crs']['id']['code']==32633


def test_small_shapes_are_dropped_and_counted(tmp_path):
    shapes = list(shapes_of(scene(), *UTM))
    report = write_polygons(tmp_path/'a.parquet', shapes, NAMES, *UTM, min_area=1000)
    kept = [o for o in shapes if o.area >= 1000]
    assert (report['count'], report['dropped_small'])==(len(kept), len(shapes)-len(kept)) and report['dropped_small']>0
    assert pq.read_table(tmp_path/'a.parquet')['area_m2'].to_numpy().sum()==pytest.approx(sum(o.area for o in kept))


def simplified(shapes, tolerance, transform=UTM[0], crs=UTM[1], **kw):
    "Polygons in pixels, as a file has them."
    with tempfile.TemporaryDirectory() as tmp:
        write_polygons(f'{tmp}/a.parquet', shapes, NAMES, transform, crs, simplify=tolerance, **kw)
        polys = shapely.from_wkb(pq.read_table(f'{tmp}/a.parquet')['geometry'].to_numpy())
    assert shapely.is_valid(polys).all()
    return shapely.transform(polys, lambda xy: np.round(np.stack(at(~transform, *xy.T), 1), 3)+0.)


def twice_and_missing(polys, shape):
    "Pixels that are covered twice, and by nobody."
    union = shapely.union_all(polys).area
    return shapely.area(polys).sum()-union, shape[0]*shape[1]-union


@pytest.mark.parametrize('name', ['utm', 'oblong', 'degrees', 'narrow degrees', 'mercator', 'turned', 'feet'])
def test_simplified_in_metres_and_no_gaps(name):
    transform, crs = GRIDS[name]
    m = blobs((150, 150), 4)
    m = np.where(m==0, 1, m)
    shapes = [*shapes_of(m, transform, crs, wanted=[0, 1, 2])]
    polys = np.array([o.polygon for o in shapes])
    side = pixel_areas(transform, crs, (0, 0, 1, 1)).item()**.5
    res = simplified(shapes, 2*side, transform, crs)
    assert (shapely.get_num_interior_rings(res)==shapely.get_num_interior_rings(polys)).all()
    n, k = (shapely.get_num_coordinates(o).sum() for o in (polys, res))
    assert k<.7*n and twice_and_missing(res, m.shape)==pytest.approx((0, 0), abs=.01)
    step = pixel_steps(transform, crs, *np.array([[75.], [75.]]))[0]
    local = [shapely.transform(o, lambda xy: xy*np.hypot(*step)) for o in (polys, res)]
    xy, of = shapely.get_coordinates(local[0], return_index=True)
    assert shapely.distance(shapely.points(xy), shapely.boundary(local[1])[of]).max()<2*side*1.01


def test_simplified_the_same_whatever_the_tiles():
    for seed in range(20):
        layout, m, score, areas = random_case(seed, 40)
        one = Grid([0, m.shape[0]], [0, m.shape[1]])
        def polygons(layout): return sorted(map(normal, simplified(merge_polygons(tiles_of(layout, m, score, areas), layout), 15, *UTM)))
        assert polygons(layout)==polygons(one)


def test_simplified_land_cover_is_a_cover(real_data):
    from PIL import Image
    path = sorted((real_data/'landcover'/'TRAIN_VAL_SET'/'MASKS').glob('*.png'))[0]
    m = np.array(Image.open(path))
    shapes = [Shape(1, o, 1, o.area*100, 1) for o in mask_to_polygons(m.astype(np.int32)+1)]
    alone = shapely.simplify(np.array([o.polygon for o in shapes]), 3)
    assert max(twice_and_missing(alone, m.shape))>100
    assert twice_and_missing(simplified(shapes, 30), m.shape)==pytest.approx((0, 0), abs=1)


def test_small_areas_are_left_out_before_others_are_simplified():
    m = np.ones((40, 40), np.uint8)
    m[20, 20] = 2
    shapes = [*shapes_of(m, *UTM)]
    res, = simplified(shapes, 30, min_area=150)
    assert len(shapes)==2 and len(res.interiors)==1 and shapely.Polygon(res.exterior).area==1600


def test_simplified_with_thousands_of_holes():
    from scipy.ndimage import gaussian_filter
    rng = np.random.default_rng(0)
    m = gaussian_filter(rng.normal(size=(400, 400)), 3)*6+rng.normal(size=(400, 400))*.3>-.6
    poly = max(mask_to_polygons(m), key=lambda o: len(o.interiors))
    res, = simplified([Shape(1, poly, 1, 1, 1)], 15)
    assert len(res.interiors)==len(poly.interiors)>4000 and res.is_valid
    assert shapely.get_num_coordinates(res)<.7*shapely.get_num_coordinates(poly)
    some = shapely.points(rng.permutation(shapely.get_coordinates(poly))[:300])
    assert shapely.distance(some, res.boundary).max()<=1.5


def test_polygons_that_would_be_invalid_stay_exact_and_are_counted(tmp_path, monkeypatch):
    shapes = [*shapes_of(scene(0, (60, 60)), *UTM)]
    monkeypatch.setattr(borders, '_kept_corners', lambda right, *_: np.random.default_rng(0).random(right.shape)<.5)
    report = write_polygons(tmp_path/'a.parquet', shapes, NAMES, *UTM, simplify=15)
    note, n = report['remarks'][0].split(': ')
    assert note=='polygons that are not simple when simplified, left exact' and 0<int(n)<=len(shapes)
    assert shapely.is_valid(shapely.from_wkb(pq.read_table(tmp_path/'a.parquet')['geometry'].to_numpy())).all()


def test_simplified_stays_a_cover_in_small_blocks(monkeypatch):
    monkeypatch.setattr(borders, '_SIDE', 16)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        m = random_map(rng, 60)
        m[m==255] = 0
        shapes = [Shape(1, o, 1, o.area*100, 1) for o in mask_to_polygons(m.astype(np.int32)+1)]
        assert twice_and_missing(simplified(shapes, rng.uniform(3, 40)), m.shape)==pytest.approx((0, 0), abs=.5)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_an_error_leaves_nothing(tmp_path, suffix):
    path = tmp_path/f'map{suffix}'
    def broken(error):
        for i, o in enumerate(shapes_of(scene(), *UTM)):
            if i==20: raise error
            yield o
    for error, simplify in ((BadInput('block 3: damaged'), 0), (KeyboardInterrupt(), 0), (BadInput('block 3: damaged'), 15), (KeyboardInterrupt(), 15)):
        with pytest.raises(type(error)): write_polygons(path, broken(error), NAMES, *UTM, simplify=simplify)
        assert not list(tmp_path.iterdir())
    path.write_text('old')
    with pytest.raises(BadInput): write_polygons(path, broken(BadInput('x')), NAMES, *UTM)
    assert path.read_text()=='old'


def test_bad_arguments(tmp_path):
    for path, kw, text in ((tmp_path/'a.shp', {}, 'ends in .gpkg'), (tmp_path/'no'/'a.gpkg', {}, 'make it first')):
        with pytest.raises(BadInput, match=text): write_polygons(path, [], NAMES, *UTM, **kw)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_full_disk(tmp_path, suffix):
    "A limit on file size acts like a full disk."
    resource = pytest.importorskip('resource')
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    shapes = list(shapes_of(scene(0, (300, 300)), *UTM))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, old[1]))
        for simplify in (0, 15):
            with pytest.raises(BadInput, match='is there room on the disk'): write_polygons(tmp_path/f'map{suffix}', shapes, NAMES, *UTM, simplify=simplify)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_batches_of_many(tmp_path):
    box = shapely.box(0, 0, 1, 1)
    report = write_polygons(tmp_path/'a.gpkg', (Shape(1, box, 1, 100., .5) for _ in range(25_000)), NAMES, *UTM)
    assert report['count']==25_000==pyogrio.read_info(tmp_path/'a.gpkg', layer='a')['features']
    assert pyogrio.read_dataframe(tmp_path/'a.gpkg', layer='a')['id'].is_monotonic_increasing


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_what_a_full_disk_loses_without_a_word_is_noticed(tmp_path, suffix):
    "GDAL may lose the spatial index, or the end of a file, and report success."
    resource = pytest.importorskip('resource')
    shapes, path = list(shapes_of(scene(0, (200, 200)), *UTM)), tmp_path/f'map{suffix}'
    def write(): return write_polygons(path, shapes, NAMES, *UTM)
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
    shapes = list(shapes_of(scene(), *UTM))
    def broken(path, batches, layer, driver, **kw):
        inner(path, batches, layer, driver, **kw)
        if driver=='GeoJSON': path.write_bytes(path.read_bytes()[:-40])
        else:
            base = sqlite3.connect(path)
            with base: base.execute('delete from rtree_map_geom_rowid where rowid = 5')
            base.close()
    inner = vector_files._write_gdal
    monkeypatch.setattr(vector_files, '_write_gdal', broken)
    for suffix in ('.gpkg', '.geojson'):
        with pytest.raises(BadInput, match='could not be written'): write_polygons(tmp_path/f'map{suffix}', shapes, NAMES, *UTM)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('lost', [0, 1])
def test_features_are_counted_whatever_the_layout_of_the_file(tmp_path, monkeypatch, lost):
    "Another version of GDAL may write GeoJSON with other spaces and line ends."
    def rewritten(path, *args, **kw):
        inner(path, *args, **kw)
        data = json.loads(path.read_text())
        data['features'] = data['features'][lost:]
        path.write_text(json.dumps(data, separators=(',', ':')))
    inner = vector_files._write_gdal
    monkeypatch.setattr(vector_files, '_write_gdal', rewritten)
    def write(): return write_polygons(tmp_path/'a.geojson', shapes_of(scene(), *UTM), NAMES, *UTM, tags={'k': 'v'})
    if lost:
        with pytest.raises(BadInput, match='polygons were written'): write()
    else:
        assert not write()['remarks'] and tags_of(tmp_path/'a.geojson')=={'k': 'v'}


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_bytes_are_on_the_disk_before_the_name_is(tmp_path, suffix, monkeypatch):
    seen, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: (seen.append(('sync', os.fstat(f).st_ino)), sync(f)))
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(('name', os.stat(a).st_ino)), replace(a, b)))
    path = tmp_path/f'map{suffix}'
    write_polygons(path, shapes_of(scene(), *UTM), NAMES, *UTM, tags={'a': 'b'})
    assert seen[-3:]==[('sync', path.stat().st_ino), ('name', path.stat().st_ino), ('sync', tmp_path.stat().st_ino)]


@pytest.mark.parametrize('side', [.5, .05, .02, .01, .002])
def test_geojson_of_fine_pixels(tmp_path, side):
    transform = Affine(side, 0, 500000, 0, -side, 5e6)
    report = write_polygons(tmp_path/'a.geojson', shapes_of(scene(), transform, 'EPSG:32633'), NAMES, transform, 'EPSG:32633')
    frame = geopandas.read_file(tmp_path/'a.geojson')
    assert len(frame)==report['count'] and not report['remarks'] and (frame.geom_type=='Polygon').all() and frame.is_valid.all()
    assert np.allclose(frame.to_crs('EPSG:32633').area, frame.pixels*side**2, rtol=.1)
    tiny = Affine(1e-7, 0, 7.1, 0, -1e-7, 50.1234567)
    write_polygons(tmp_path/'b.geojson', shapes_of(scene(), tiny, None), NAMES, tiny, None)
    frame = geopandas.read_file(tmp_path/'b.geojson')
    assert frame.is_valid.all() and np.allclose(frame.area, frame.pixels*1e-14, rtol=.1)


def test_polygons_that_collapse_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, '_decimals', lambda *args: 7)
    side = 1e-4
    transform = Affine(side, 0, 500000, 0, -side, 5e6)
    report = write_polygons(tmp_path/'a.geojson', shapes_of(scene(), transform, 'EPSG:32633'), NAMES, transform, 'EPSG:32633')
    lost = (geopandas.read_file(tmp_path/'a.geojson').geom_type!='Polygon').sum()
    assert report['remarks']==[f'polygons too small for the decimals of GeoJSON, now points or lines: {lost}'] and lost>0


def test_units_without_a_crs(tmp_path):
    def remark(transform): return write_polygons(tmp_path/'a.parquet', shapes_of(scene(), transform, None), NAMES, transform, None)['remarks']
    assert remark(Affine.identity())[0].startswith('no CRS: polygons are in pixels (x, y from the upper left corner); a GIS')
    assert remark(Affine(.5, 0, 4e5, 0, -.5, 5e6))[0].startswith("no CRS: polygons are in the file's own units, areas in pixels; a GIS")


@pytest.mark.parametrize('stem', ['gpkg_north', 'GPKG', 'sqlite_x', 'layer_styles', 'rtree_x', 'ogr_x', "it's \"x\" % ?#", 'Straße.1'])
def test_any_file_name_for_a_geopackage(tmp_path, stem):
    path = tmp_path/f'{stem}.gpkg'
    report = write_polygons(path, shapes_of(scene(), *UTM), NAMES, *UTM, tags={'a': 'b'})
    frame = geopandas.read_file(path, layer=pyogrio.list_layers(path)[0, 0])
    assert len(frame)==report['count']>0 and 'pixels' in frame and tags_of(path)=={'a': 'b'} and [o.name for o in tmp_path.iterdir()]==[path.name]


def test_geojson_has_no_place_for_a_local_system(tmp_path):
    local = 'LOCAL_CS["{}",UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    transform, m = Affine(10, 0, 500000, 0, -10, 5000000), scene()
    def write(name, suffix): return write_polygons(tmp_path/f'map{suffix}', shapes_of(m, transform, local.format(name)), NAMES, transform, local.format(name))
    with pytest.raises(BadInput, match='map.geojson: expected a coordinate system on Earth.*got the local system mine: write gpkg'): write('mine', '.geojson')
    assert not [*tmp_path.iterdir()] and write('mine', '.gpkg')['count'] == write('WGS 84 / UTM zone 33N', '.geojson')['count'] > 0
    assert geopandas.read_file(tmp_path/'map.geojson').to_crs(32633).total_bounds[0] >= 499999
