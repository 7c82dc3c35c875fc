"""GeoTIFFs with polygons: every kind of outline lands in place."""
import json

import numpy as np
import pytest
from data_samples import FIELD, geo, geopandas, one_line, rasterio, save, save_tif
from shapely import MultiPolygon, Polygon, box

from satseg.core.display import IGNORE
from satseg.core.errors import Remark
from satseg.data.datasets import load_dataset
from satseg.data.geotiffs import geotiff_grids, load_geotiffs, recognise_geotiffs
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


def test_no_data_is_unknown_even_below_outlines(tmp_path):
    geo(tmp_path, [FIELD], nodata=0)
    save_tif(tmp_path/'images'/'c0.tif', np.zeros((4,4,3), np.uint8), nodata=0)
    chips = load_geotiffs(tmp_path)['all']
    assert (chips[0].mask == IGNORE).all() and not chips[0].valid.any() and chips[1].mask.max() == 1


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


def spread(root, pictures, outlines, chips=4):
    "Chips in a row and a field on the left half of each, as files whose names `{}` tells apart."
    for i in range(chips):
        save_tif(root/pictures.format(i), np.full((4,4,3), i+1, np.uint8), x=500000+40*i)
        (root/outlines.format(i)).parent.mkdir(parents=True, exist_ok=True)
    fields = geopandas.GeoDataFrame(dict(k=range(chips)), geometry=[box(500000+40*i, 4999900, 500020+40*i, 5000000) for i in range(chips)], crs='EPSG:32633')
    if '{}' not in outlines: fields.to_file(root/outlines)
    else:
        for i in range(chips): fields[i:i+1].to_file(root/outlines.format(i))
    return root


@pytest.mark.parametrize('pictures,outlines', [
    ('PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img{}.tif', 'geojson_buildings/SN2_buildings_train_AOI_2_Vegas_geojson_buildings_img{}.geojson'),
    ('RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img1{}.tif', 'geojson/buildings/buildings_AOI_2_Vegas_img1{}.geojson'),
    ('3band/3band_AOI_1_RIO_img1{}.tif', 'geojson/Geo_AOI_1_RIO_img1{}.geojson'), ('images/global_2018_01_mosaic_L15-0331E_{}.tif', 'labels/global_2018_01_mosaic_L15-0331E_{}_Buildings.geojson'),
    ('ramp_source/ramp_source_{}/source.tif', 'ramp_labels/ramp_labels_{}/labels.geojson'), ('images/a{}.tif', 'labels/houses.geojson'),
    ('images/a{}.tif', 'buildings.gpkg'), ('a{}.tif', 'shapes/buildings.shp'), ('a{}.tif', 'A.GeoJSON'), ('a{}.tif', 'a{}.geojson')])
def test_layouts_of_outlines(tmp_path, pictures, outlines):
    chips = load_dataset(spread(tmp_path, pictures, outlines))['all']
    assert len(chips) == 4 and all((o.mask == [1,1,0,0]).all() and o.image[0,0,0]-1 == int(str(o.name)[-1] if str(o.name)[-1].isdigit() else o.name.split('/')[0][-1]) for o in chips)
    assert len(geotiff_grids(tmp_path)) == 4


def test_a_chip_or_an_outline_without_partner_is_left_out(tmp_path):
    spread(tmp_path, 'rgb/a_{}.tif', 'geojson/a_{}.geojson')
    (tmp_path/'geojson'/'a_2.geojson').rename(tmp_path/'geojson'/'a_9.geojson')
    with pytest.warns(Remark, match=r'2 files without a partner are left out: a_2.tif, a_9.geojson$'): chips = load_dataset(tmp_path)['all']
    assert chips.names == ['a_0','a_1','a_3']
    one_line(lambda: load_dataset(tmp_path, strict=True), 'without a partner', 'strict')
    (tmp_path/'geojson'/'a_0.geojson').write_text('{"type": "FeatureCollection", "features": []}') # No house there
    assert not load_geotiffs(tmp_path)['all'][0].mask.any()


def grid(root, outlines, chips=((1,1),(1,2),(2,1),(2,2))):
    for r,c in chips: save_tif(root/'images'/f'tile_{r}_{c}.tif', np.ones((4,4,3), np.uint8), x=500000+40*c, y=5000000-40*r)
    (root/'labels').mkdir()
    for r,c in outlines: geopandas.GeoDataFrame(geometry=[box(500000, 4999000, 501000, 5000000)], crs='EPSG:32633').to_file(root/'labels'/f'tile_{r}_{c}.geojson')
    return root


@pytest.mark.parametrize('outlines', [[(1,2),(2,2)], [(1,1),(1,2),(2,1)], [(1,2)]])
def test_outlines_for_some_tiles_of_a_grid(tmp_path, outlines):
    with pytest.warns(Remark, match=f'{4-len(outlines)} files without a partner'): chips = load_dataset(grid(tmp_path, outlines))['all']
    assert chips.names == [f'tile_{r}_{c}' for r,c in outlines]


def test_other_numbers_are_other_ground(tmp_path):
    one_line(lambda: load_dataset(grid(tmp_path, [(2,5),(3,5)], [(2,1),(3,1)])), 'with the name of each chip')


@pytest.mark.parametrize('name,shape', [('aoi.geojson',FIELD), ('index.geojson',FIELD), ('footprint.geojson',FIELD), ('o.geojson',box(499000,4999000,501000,5001000))])
def test_extents_are_named(tmp_path, name, shape):
    geo(tmp_path, [shape], name=name)
    with pytest.warns(Remark, match=f'{name}: is it the extent of the pictures'): load_dataset(tmp_path, strict=True)


def test_classes_of_many_digits_are_sorted_as_numbers(tmp_path):
    geo(tmp_path, [FIELD])
    frame = geopandas.GeoDataFrame(dict(k=['9'*5000,'10','9']), geometry=[box(500000+10*i, 4999960, 500010+10*i, 5000000) for i in range(3)], crs='EPSG:32633')
    frame.to_file(tmp_path/'o.geojson')
    assert load_dataset(tmp_path, column='k')['all'].classes[1:] == ('9','10','9'*5000)


def test_of_several_the_user_says_which(tmp_path):
    spread(spread(tmp_path, 'rgb/x_rgb_{}.tif', 'houses/x_houses_{}.geojson'), 'pan/x_pan_{}.tif', 'roads/x_roads_{}.geojson')
    assert recognise_geotiffs(tmp_path) == 2
    text = one_line(lambda: load_dataset(tmp_path), 'labels=', 'images=')
    chips = load_dataset(tmp_path, images='rgb', labels='houses')['all'] # The advice helps
    assert chips.names == [f'x_rgb_{i}' for i in range(4)] and chips[0].mask.sum() == 8
    assert load_dataset(tmp_path, images='pan', labels='roads/x_roads_1.geojson')['all'][1].mask.sum() == 8


def test_outlines_far_from_the_chips_make_no_dataset_of_masks_another(tmp_path):
    spread(tmp_path, 'images/a{}.tif', 'meta/area.geojson')
    assert recognise_geotiffs(tmp_path) == 1


def test_one_orthomosaic_is_cut_into_blocks(tmp_path):
    a = np.random.default_rng(0).integers(1, 255, (300,520,3), np.uint8)
    save_tif(tmp_path/'ortho.tif', a, size=1)
    geopandas.GeoDataFrame(geometry=[box(500100, 4999800, 500300, 4999950)], crs='EPSG:32633').to_file(tmp_path/'b.gpkg')
    chips = load_dataset(tmp_path, cut=True)['all'] # As training reads it
    assert len(chips) == 28 and len(set(chips.groups)) == 8 and {chips.size(i) for i in range(28)} == {(75,74),(75,75)}
    assert len(load_dataset(tmp_path)['all']) == 1 # Judged, no object is in pieces
    whole = load_dataset(tmp_path, tile=0)['all'][0]
    assert whole.mask.sum() == 200*150 and sum(o.mask.sum() for o in chips) == 200*150
    for o in chips:
        y,x = (int(v) for v in o.name.split('@')[1].split(','))
        h,w = o.mask.shape
        assert (o.mask == whole.mask[y:y+h,x:x+w]).all() and (o.image == whole.image[:,y:y+h,x:x+w]).all()
    assert len(geotiff_grids(tmp_path, column=None, cut=True)) == 28
    for part in split_groups(chips.groups, .25): assert part
    assert len(load_dataset(tmp_path, tile=150)['all']) == 6


def test_an_orthomosaic_beside_its_heights(tmp_path):
    save_tif(tmp_path/'ortho.tif', np.full((200,200,3), 9, np.uint8))
    save_tif(tmp_path/'dsm.tif', np.ones((200,200), np.float32))
    geopandas.GeoDataFrame(geometry=[box(500000, 4999000, 500100, 5000000)], crs='EPSG:32633').to_file(tmp_path/'b.shp')
    one_line(lambda: load_dataset(tmp_path), "{'dsm.tif': 1, 'ortho.tif': 3}", 'images=FILE')
    assert len(load_dataset(tmp_path, images='ortho.tif', cut=True)['all']) == 16 # The advice helps


def test_empty_cells_are_unknown_and_whole_numbers_stay_whole(tmp_path):
    geo(tmp_path, [FIELD])
    frame = geopandas.GeoDataFrame(dict(k=[10,None,2]), geometry=[box(500000+10*i, 4999960, 500010+10*i, 5000000) for i in range(3)], crs='EPSG:32633')
    for name in ('o.gpkg','o.shp','o.geojson'):
        for o in tmp_path.glob('o.*'): o.unlink()
        frame.to_crs('EPSG:4326').to_file(tmp_path/name)
        with pytest.warns(Remark, match='1 rows with an empty cell in k, of unknown class: 1$'): chips = load_dataset(tmp_path, column='k')['all']
        assert chips.classes == ('background','2','10') and chips[0].mask[0].tolist() == [2,255,1,0] and chips.instances(0)[0].tolist() == [1,0,2,0]
    one_line(lambda: load_dataset(tmp_path, column='k', strict=True), 'empty cell', 'strict')


def test_real_geotiffs(real_data):
    chips = load_dataset(real_data/'footprints_geotiff')['all']
    assert len(chips) == 40 and len(set(chips.groups)) == 12 and {o.image.shape for o in chips} == {(3,512,512)}
    assert abs(class_shares(chips)['building'] - .454) < .002
    assert sum(int(chips.instances(i).max()) for i in range(40)) == 1523 # Of 1228 polygons, those on an edge count on each chip


def test_an_orthomosaic_that_no_memory_holds_is_read_by_tiles(tmp_path):
    "30,000 x 30,000 pixels of 3 bands are 2.7 GB; nearly all of it is nodata, and takes no room on the disk."
    t = rasterio.transform.from_origin(500000, 5000000, .1, .1)
    with rasterio.open(tmp_path/'ortho.tif', 'w', 'GTiff', 30000, 30000, 3, 'EPSG:32633', t, 'uint8', nodata=0, sparse_ok=True, tiled=True, blockxsize=512, blockysize=512) as r:
        r.write(np.full((3,1024,1024), 90, np.uint8), window=((20480,21504),(10240,11264)))
    geopandas.GeoDataFrame(geometry=[box(501030,4997940,501040,4997950)], crs='EPSG:32633').to_file(tmp_path/'houses.geojson')
    chips = load_dataset(tmp_path)['all']
    assert len(chips) == 59**2 and len(set(chips.groups)) == 30**2 and chips.size(0) == (508,508)
    chip,empty = chips[40*59+20],chips[0] # Rows from 20339, columns from 10169
    assert chip.name == 'ortho@20339,10169' and (chip.mask == 1).sum() == 100*100 and (chip.readings() == 90).all()
    assert chip.mask[20500-20339,10300-10169] == 1 and chip.mask[20499-20339,10300-10169] == 0
    assert not empty.valid.any() and (empty.mask == IGNORE).all()


@pytest.mark.parametrize('name,driver', [('o.kml','KML'), ('o.gml','GML'), ('o.json','GeoJSON'), ('o.geojsonl','GeoJSONSeq')])
def test_outlines_that_are_not_read_are_named_and_the_way_out_works(tmp_path, name, driver):
    geo(tmp_path, [FIELD])
    frame = geopandas.read_file(next(o for o in tmp_path.iterdir() if o.is_file()))
    for o in tmp_path.iterdir():
        if o.is_file(): o.unlink()
    frame.to_crs('EPSG:4326')[['geometry']].to_file(tmp_path/name, driver=driver)
    with pytest.warns(Remark, match=f'{name}: save them as .gpkg'): assert not load_dataset(tmp_path)['all'].has_masks
    frame.to_file(tmp_path/'o.gpkg')
    assert load_dataset(tmp_path)['all'].has_masks


def test_lines_and_points_are_told_from_polygons(tmp_path):
    geo(tmp_path, [FIELD], name='o.gpkg')
    geopandas.GeoDataFrame(geometry=[FIELD.boundary], crs='EPSG:32633').to_file(tmp_path/'o.gpkg', layer='o', mode='w')
    one_line(lambda: load_dataset(tmp_path), 'expected polygons, found LineString', 'give lines and points a width')
    geopandas.GeoDataFrame(geometry=[FIELD.boundary.buffer(15)], crs='EPSG:32633').to_file(tmp_path/'o.gpkg', layer='o', mode='w')
    assert load_dataset(tmp_path)['all'][0].mask.any()
    one_line(lambda: load_dataset(tmp_path, layer='roads'), 'expected one layer of polygons, found o')
