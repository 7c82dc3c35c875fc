"""GeoTIFFs with polygons: every kind of outline lands in place."""
import json

import numpy as np
import pytest
from data_samples import FIELD, geo, geopandas, one_line, rasterio, save, save_tif
from shapely import MultiPolygon, Point, Polygon, box

from satseg.core.display import IGNORE
from satseg.data.datasets import load_dataset
from satseg.data.geotiffs import load_geotiffs
from satseg.data.splits import class_shares, split_groups


@pytest.mark.parametrize('name,crs', [('o.geojson','EPSG:4326'), ('o.gpkg','EPSG:3857'), ('o.shp','EPSG:32634')])
def test_outlines_of_every_kind_land_in_place(tmp_path, name, crs):
    chips = load_dataset(geo(tmp_path, [FIELD], crs, name))['all']
    assert [o.mask.tolist()[0] for o in chips] == [[0,0,1,1],[1,1,1,0]] and not chips[0].mask[2:].any()


def test_holes_pieces_and_crossed_outlines(tmp_path):
    hole = box(500000,4999960,500040,5000000) - box(500010,4999970,500030,4999990)
    chips = load_geotiffs(geo(tmp_path/'a', [hole]))['all']
    assert chips[0].mask.sum() == 12 and chips[0].mask[1,1] == 0
    two = MultiPolygon([box(500000,4999990,500010,5000000), box(500030,4999990,500040,5000000)])
    assert load_geotiffs(geo(tmp_path/'b', [two]))['all'].instances(0)[0].tolist() == [1,0,0,1]
    bow = Polygon([(500000,4999950), (500020,4999990), (500020,4999950), (500000,4999990)])
    assert load_geotiffs(geo(tmp_path/'c', [bow]))['all'][0].mask[2].tolist() == [1,1,0,0]


def test_chips_in_another_system_and_turned(tmp_path):
    geo(tmp_path, [FIELD], chips=1)
    with rasterio.open(tmp_path/'images'/'t.tif', 'w', 'GTiff', 4, 4, 3, 'EPSG:32633', rasterio.Affine(0,10,500000, 10,0,4999960), 'uint8') as r:
        r.write(np.zeros((3,4,4), np.uint8))
    chips = load_geotiffs(tmp_path)['all']
    assert (chips[1].mask == chips[0].mask[::-1].T).all() and chips[1].mask.sum() == 4


def test_classes_of_outlines(tmp_path):
    geo(tmp_path, [FIELD, box(500000,4999960,500010,4999970)])
    chips = load_geotiffs(tmp_path, column='kind')['all']
    assert chips.classes == ('background','k0','k1') and set(np.unique(chips[0].mask)) == {0,1,2}
    chips = load_geotiffs(tmp_path, column='kind', classes=('ground','k1'))['all']
    assert chips[0].mask.sum() == 1 and chips.instances(0).max() == 1
    one_line(lambda: load_geotiffs(tmp_path, column='sort'), 'expected a column sort, found kind')


def test_no_data_is_unknown_but_for_outlines(tmp_path):
    geo(tmp_path, [FIELD], nodata=0)
    save_tif(tmp_path/'images'/'c0.tif', np.zeros((4,4,3), np.uint8), nodata=0)
    chips = load_geotiffs(tmp_path)['all']
    assert chips[0].mask[0].tolist() == [255,255,1,1] and chips[1].mask.max() == 1


def test_map_tiles_know_their_place_by_name(tmp_path):
    x,y,z = 386690,220241,19
    edge = 40075016.685578488/2**z
    left,top = x*edge-20037508.342789244, 20037508.342789244-y*edge
    for i in range(2): save(tmp_path/'images'/f'OAM-{x+i}-{y}-{z}.tif', np.zeros((64,64,3)), format='JPEG')
    roof = box(left+edge/2, top-edge/4, left+1.5*edge, top)
    geopandas.GeoDataFrame(geometry=[roof], crs='EPSG:3857').to_crs('EPSG:4326').to_file(tmp_path/'b.geojson')
    chips = load_dataset(tmp_path)['all']
    want = np.zeros((64,64))
    want[:16,32:] = 1
    assert (chips[0].mask == want).all() and (chips[1].mask == want[:,::-1]).all()
    save(tmp_path/'images'/'a.tif', np.zeros((64,64,3)))
    one_line(lambda: load_geotiffs(tmp_path), '3 chips have no coordinates: OAM-') # Names give a place to all or none


def test_bad_outlines(tmp_path):
    geo(tmp_path, [FIELD])
    one_line(lambda: load_geotiffs(tmp_path, labels='x.geojson'), 'no such file')
    geo(tmp_path, [FIELD, Point(500000,5000000)])
    one_line(lambda: load_geotiffs(tmp_path), 'o.geojson: rows 1 (Point)')
    for text in ('{', 'hello', '<OGRVRTDataSource><OGRVRTLayer name="o"></OGRVRTLayer></OGRVRTDataSource>', '{"type": "FeatureCollection", "features": []}'):
        (tmp_path/'o.geojson').write_text(text)
        one_line(lambda: load_geotiffs(tmp_path), 'o.geojson')
    (tmp_path/'p.geojson').write_text('{}')
    one_line(lambda: load_geotiffs(tmp_path), 'o.geojson, p.geojson', 'labels=')


def test_blocks_do_not_leak(tmp_path):
    for i in range(16): save_tif(tmp_path/f'{i}.tif', np.zeros((4,4,3), np.uint8), x=500000+40*(i%4), y=5000000-40*(i//4))
    chips = load_dataset(tmp_path)['all']
    assert len(set(chips.groups)) == 4 and chips.groups[0] == chips.groups[names_at(chips, '5')] != chips.groups[names_at(chips, '2')]
    train,valid = split_groups(chips.groups, .25)
    assert len(valid) == 4 and not chips.has_masks


def names_at(chips, name): return chips.names.index(name)


def test_a_geojson_cannot_name_a_command_or_another_file(tmp_path):
    chips = geo(tmp_path/'a', [FIELD])
    secret = geo(tmp_path/'b', [FIELD])/'o.geojson'
    text = json.dumps(dict(type='gdal_streamed_alg', command_line=f'gdal vector pipeline ! read {secret}'))
    for head in ('', '\ufeff', ' \n'):
        (chips/'o.geojson').write_text(head+text, 'utf-8')
        one_line(lambda: load_geotiffs(chips), 'o.geojson')


def test_a_named_fourth_band_is_no_mask_of_validity(tmp_path):
    geo(tmp_path, [FIELD])
    a = np.ones((4,4,4), np.uint8)
    a[0,0,3] = 0
    for i in range(2): save_tif(tmp_path/'images'/f'c{i}.tif', a, x=500000+40*i)
    assert (load_geotiffs(tmp_path)['all'][0].mask == IGNORE).sum() == 1
    assert (load_geotiffs(tmp_path, all_bands=('R','G','B','NIR'))['all'][0].mask == IGNORE).sum() == 0


def test_outlines_that_hit_nothing_are_told(tmp_path):
    geo(tmp_path, [FIELD, box(500020, 4999970, 500030, 4999980)])
    one_line(lambda: load_geotiffs(tmp_path, column='kind', classes=('background','K0')), 'K0', 'k0, k1')
    one_line(lambda: load_geotiffs(tmp_path, classes=('background','a','b')), 'column=')
    assert class_shares(load_geotiffs(tmp_path, column='kind', classes=('background','k0','later'))['all'])['k0'] > 0 # Some may be absent
    one_line(lambda: load_geotiffs(geo(tmp_path/'far', [box(0, 0, 9, 9)])), 'o.geojson', 'coordinate system')


def test_real_geotiffs(real_data):
    chips = load_dataset(real_data/'footprints_geotiff')['all']
    assert len(chips) == 40 and len(set(chips.groups)) == 12 and {o.image.shape for o in chips} == {(3,512,512)}
    assert abs(class_shares(chips)['building'] - .454) < .002
    assert sum(int(chips.instances(i).max()) for i in range(40)) == 1523 # Of 1228 polygons, those on an edge count on each chip
