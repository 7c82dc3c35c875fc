"""Outlines of vector files on the pixels of rasters, anywhere on Earth."""
import json

import numpy as np
import pytest
import pyproj
import shapely
from data_samples import geopandas, one_line, rasterio
from rasterio.transform import from_origin
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from satseg.core.errors import Remark
from satseg.data.outlines import Outlines, _mend_polygons, read_outlines

UTM = 'EPSG:32633'
HOUSES = [box(500000+20*i, 4999980, 500010+20*i, 5000000) for i in range(3)]


def frame(geoms=HOUSES, crs=UTM, **columns): return geopandas.GeoDataFrame(columns, geometry=geoms, crs=crs)
def wkt(epsg): return rasterio.CRS.from_epsg(epsg)
def outlines(geoms, epsg): return Outlines(np.array([*geoms, None], object)[:-1], pyproj.CRS(epsg), 'o.geojson')


@pytest.mark.parametrize('name', ['o.geojson','o.gpkg','o.shp','o.fgb','o.parquet','O.GPKG'])
def test_formats(tmp_path, name):
    data = frame(k=['a','b','c'])
    if name.endswith('parquet'): data.to_parquet(tmp_path/name)
    else: data.to_file(tmp_path/name, driver=dict(gpkg='GPKG', shp='ESRI Shapefile', fgb='FlatGeobuf', geojson='GeoJSON')[name.lower()[2:]])
    geoms,classes,crs = read_outlines(tmp_path/name, 'k')
    assert sorted(classes) == ['a','b','c'] and crs.to_epsg() == 32633 and sum(o.area for o in geoms) == pytest.approx(600)


def test_a_small_file_of_millions_of_rows_is_refused_at_once(tmp_path):
    frame([HOUSES[0], *[None]*300_000]).to_parquet(tmp_path/'o.parquet')
    one_line(lambda: read_outlines(tmp_path/'o.parquet'), '300,001 rows', 'cannot be outlines')


def test_json_fg_has_a_place_of_its_own(tmp_path):
    feature = dict(type='Feature', properties={}, geometry=None, place=dict(type='Polygon', coordinates=[[*map(list, HOUSES[0].exterior.coords)]]), time=None)
    head = dict(type='FeatureCollection', conformsTo=['http://www.opengis.net/spec/json-fg-1/0.2/conf/core'], coordRefSys='http://www.opengis.net/def/crs/EPSG/0/32633')
    (tmp_path/'o.geojson').write_text(json.dumps(dict(head, features=[feature])))
    geoms,_,crs = read_outlines(tmp_path/'o.geojson')
    assert crs.to_epsg() == 32633 and geoms[0].equals(HOUSES[0])


def test_layers(tmp_path):
    frame().to_file(tmp_path/'o.gpkg', layer='houses')
    frame([Point(1,1)]).to_file(tmp_path/'o.gpkg', layer='trees')
    assert len(read_outlines(tmp_path/'o.gpkg')[0]) == 3 # The one of polygons
    frame(HOUSES[:1]).to_file(tmp_path/'o.gpkg', layer='fields')
    one_line(lambda: read_outlines(tmp_path/'o.gpkg'), 'houses', 'fields', 'layer=')
    assert len(read_outlines(tmp_path/'o.gpkg', layer='fields')[0]) == 1 # The advice helps
    one_line(lambda: read_outlines(tmp_path/'o.gpkg', layer='roads'), 'layer=')


def test_rows_that_are_no_polygons_are_left_out(tmp_path):
    odd = [None, Point(500000,5000000), LineString([(0,0),(1,1)]), Polygon(), GeometryCollection([HOUSES[1], Point(0,0)])]
    frame([HOUSES[0], *odd]).to_file(tmp_path/'o.gpkg')
    with pytest.warns(Remark, match=r'o.gpkg: 4 rows that are no polygon \(.*Point.*\): 1, 2, 3, 4$'): geoms,_,_ = read_outlines(tmp_path/'o.gpkg')
    assert [o.area for o in geoms] == [200,200]
    frame(odd[1:3]).to_file(tmp_path/'p.gpkg')
    one_line(lambda: read_outlines(tmp_path/'p.gpkg'), 'expected polygons, found Point, LineString', 'buffer')


def test_parts_that_overlap_are_their_union():
    two = MultiPolygon([box(0,0,20,20), box(10,-5,35,15)])
    assert _mend_polygons([two])[0].area == shapely.union_all([*two.geoms]).area == 400+500-150
    assert _mend_polygons([Polygon([(0,0),(2,2),(2,0),(0,2)])])[0].area == 2 # A crossed one
    ring = MultiPolygon([box(0,0,9,9)-box(1,1,8,8), box(2,2,3,3)])
    assert _mend_polygons([ring])[0] is ring


def test_without_a_coordinate_system_that_of_the_pixels_is_taken(tmp_path):
    frame(crs=None).to_file(tmp_path/'o.shp')
    (tmp_path/'o.geojson').write_text(json.dumps(dict(type='FeatureCollection', features=json.loads(frame().to_json())['features']))) # Metres, and no word about them
    for name in ('o.shp','o.geojson'):
        with pytest.warns(Remark, match='no coordinate system'): geoms,_,crs = read_outlines(tmp_path/name)
        assert crs is None and Outlines(geoms, crs).draw((2,6), from_origin(500000, 5000000, 10, 10), wkt(32633))[0].tolist() == [1,0,2,0,3,0]


@pytest.mark.parametrize('epsg,x,y,size', [(32633,500000,5000000,10), (32601,300000,5000000,10), (32660,690000,7000000,10), (3413,-2560,2560,10), (3031,-5e5,5e5,2000), (32661,1990000,2010000,40),
    (3857,-2e7,2e7,80000), (4326,-180,90,.5), (4326,179.5,60,.01), (4326,-180,80,.05), (5041,1990000,2010000,40), (2154,700000,6600000,10), (6931,-9e6,9e6,36000)])
@pytest.mark.parametrize('kind', ['world','many','cap'])
def test_land_and_oceans_around_rasters_anywhere(epsg, x, y, size, kind):
    "All of the world, in few corners or many, is everywhere; the northern half is where latitudes say so."
    ring = [(o,-90) for o in range(-180,181)]+[(o,90) for o in range(180,-181,-1)]
    shape = dict(world=box(-180,-90,180,90), many=Polygon(ring), cap=box(-180,0,180,90))[kind]
    grid = (500,500), from_origin(x, y, size, size), wkt(epsg)
    mask = outlines([shape], 4326).draw(*grid) > 0
    xs,ys = np.meshgrid(x+size*(np.arange(500)+.5), y-size*(np.arange(500)+.5))
    lat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform(xs, ys)[1]
    on_earth = np.isfinite(lat) & ((epsg != 4326) | (np.abs(ys) <= 90) & (np.abs(xs) <= 180))
    near = np.abs(lat) < 2.5*size/(1 if epsg == 4326 else 111000) # Pixels on the equator may fall to either side
    want = (lat > 0) | (kind != 'cap')
    assert (mask == want)[on_earth & ~near].all(), ((mask != want)&on_earth&~near).sum()


def apart(a, b):
    "Largest distance of the outlines of two polygons."
    points = [shapely.points(shapely.get_coordinates(shapely.segmentize(o, 10))) for o in (a,b)]
    return max(shapely.distance(points[0], b.exterior).max(), shapely.distance(points[1], a.exterior).max())


@pytest.mark.parametrize('epsg,x,y,n,size', [(32633,399960,6700020,10980,10), (3413,-2e6,-1e6,5000,100), (3035,4e6,3e6,2000,500)])
def test_straight_edges_in_degrees_bend_as_they_should(epsg, x, y, n, size):
    "Within a tenth of a pixel of the same edges with very many points."
    way = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    corners = np.array([(.2,.1),(.9,.2),(.8,.9),(.1,.7)])*n*size*[1,-1]+[x,y]
    shape = Polygon(np.stack(way.transform(*corners.T), 1))
    grid = (n,n), from_origin(x, y, size, size), wkt(epsg)
    (_,(ours,)),(_,(true,)) = (outlines([o], 4326).find(*grid) for o in (shape, shapely.segmentize(shape, .001)))
    assert apart(ours, true) < .1
    corners_only = shapely.transform(shape, lambda xy: (np.stack(way.transform(*xy.T, direction='INVERSE'), 1)-[x,y])/[size,-size])
    assert apart(corners_only, true) > 5 # What is told apart
    assert len(ours.exterior.coords) < 5000


def test_the_date_line():
    grid = (10,100), from_origin(178, -17, .04, .04), wkt(4326) # 178 to 182
    for parts in ([box(179,-18,180,-16), box(-180,-18,-179,-16)], [box(179,-18,181,-16)], [box(-181,-18,-179,-16)]):
        ids = outlines([MultiPolygon(parts)], 4326).draw(*grid)
        assert ids[0].tolist() == [0]*25+[1]*50+[0]*25
    near = outlines([box(179,-18,180,-16), box(-180,-18,-179,-16)], 4326).draw((400,4000), from_origin(66000, 8160000, 100, 100), wkt(32701))
    assert set(np.unique(near)) == {0,1,2} and not (np.diff(near[200].nonzero()[0]) > 1).any() # No gap at 180


def test_local_systems():
    local = 'LOCAL_CS["{}",UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    named,site = (rasterio.CRS.from_wkt(local.format(o)) for o in ('RGF93 v1 / Lambert-93','mine'))
    houses = frame([box(700000,6599980,700020,6600000)], 2154).to_crs(4326).geometry
    grid = (4,4), from_origin(700000, 6600000, 10, 10)
    assert outlines(houses, 4326).draw(*grid, named).tolist() == [[1,1,0,0]]*2+[[0]*4]*2 # By its name
    one_line(lambda: outlines(houses, 4326).draw(*grid, site), 'o.geojson', 'WGS 84 into mine', 'coordinate system')
    assert Outlines(np.array([box(700000,6599980,700020,6600000)]), pyproj.CRS(site.to_wkt())).draw(*grid, site).sum() == 4


def test_a_huge_file_costs_each_chip_little():
    "Ten thousand houses, and one outline of a continent with many points."
    import time
    rng = np.random.default_rng(0)
    xy = rng.uniform((10,40), (20,50), (10_000,2))
    t = np.linspace(0, 2*np.pi, 200_000)
    land = Polygon(np.stack([15+30*np.cos(t), 45+20*np.sin(t)], 1))
    many = outlines([land, *shapely.box(*xy.T, *(xy+1e-4).T)], 4326)
    start = time.perf_counter()
    for i in range(20): assert (many.draw((64,64), from_origin(400000+1e4*i, 5100000, 10, 10), wkt(32633)) > 0).all()
    assert time.perf_counter()-start < 20
