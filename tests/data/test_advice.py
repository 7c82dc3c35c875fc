"""What messages of the readers say to do is done, and works: a folder that is refused, words of the message, the way out."""
import pickle
import shutil

import numpy as np
import pytest
from data_samples import FIELD, ann, clouds, coco, folders, geo, geopandas, one_line, rect, save, save_tif, ships
from shapely import LineString

from satseg.data.datasets import load_dataset
from satseg.evaluation.open_dataset import reader_options

EYE = np.eye(4, dtype=np.uint8)


def png_masks(root): return folders(root, [EYE, EYE])
def sizes(root): save(png_masks(root)/'MASKS'/'0.png', np.eye(5))
def resize(root): save(root/'MASKS'/'0.png', EYE)
def paint(root, colours=((0,0,0),(250,0,0),(0,0,250))):
    folders(root, [np.uint8(colours)[np.arange(16).reshape(4,4) % len(colours)]]*2)
    (root/'colours.json').write_text('{"background": "#000000", "building": "#FA0000"}')
def add_colour(root): (root/'colours.json').write_text('{"background": "#000000", "building": "#FA0000", "water": "#0000FA"}')
def two_parts(root):
    for o in ('train','training'):
        for k in ('images','masks'): save(root/o/k/f'{o}.png', EYE if k == 'masks' else np.zeros((4,4,3)))
def merge(root):
    for k in ('images','masks'): shutil.move(root/'training'/k/'training.png', root/'train'/k)
    shutil.rmtree(root/'training')
def lossy(root):
    for i in range(2):
        save(root/'images'/f'{i}.png', np.zeros((4,4,3)))
        save(root/'masks'/f'{i}.jpg', EYE*2)
    (root/'label_mapping.json').write_text('{"0": "a", "1": "b", "2": "c"}')
def as_png(root):
    for i in range(2):
        (root/'masks'/f'{i}.jpg').unlink()
        save(root/'masks'/f'{i}.png', EYE*2)
def scene(root, mask=None, size=4, **kw):
    for o in ('B02','B03'): save_tif(root/f'{o}.tif', np.ones((4,4), np.uint16), **kw)
    if mask is not None: save(root/'mask.png', mask)
def placed_mask(root):
    (root/'mask.png').unlink()
    save_tif(root/'label.tif', np.eye(2, dtype=np.uint8), size=20)
def half_placed(root):
    scene(root, EYE)
    save_tif(root/'B03.tif', np.ones((4,4), np.uint16), crs=None)
def place_all(root): save_tif(root/'B03.tif', np.ones((4,4), np.uint16))
def two_sizes(root):
    scene(root, EYE, crs=None)
    save_tif(root/'B03.tif', np.ones((2,2), np.uint16), crs=None)
def place_sizes(root):
    save_tif(root/'B02.tif', np.ones((4,4), np.uint16))
    save_tif(root/'B03.tif', np.ones((2,2), np.uint16), size=20)
def two_scenes(root):
    for o in 'ab': scene(root/o, EYE)
    for o in 'ab':
        for f in (root/o).glob('B*'): f.rename(root/f'{o}_{f.name}')
def a_folder_each(root):
    for f in root.glob('?_B*'): f.rename(root/f.name[0]/f.name)
def other_classes(root): coco(root, [ann([rect(0,0,2,2)], 7), ann([rect(3,3,2,2)], 8)], categories=[dict(id=7, name='house'), dict(id=8, name='road')])
def boxes(root): coco(root, [dict(image_id=1, category_id=7, bbox=[1,1,3,3])])
def two_tables(root):
    ships(root, [('a.jpg','1 3'), ('b.jpg','')])
    for o in ('train_ship_segmentations.csv',): shutil.copy(root/'train_ship_segmentations_v2.csv', root/o)
def no_place(root):
    geo(root, [FIELD])
    for i in range(2): save_tif(root/'images'/f'c{i}.tif', np.ones((4,4,3), np.uint8), crs=None)
def place_chips(root):
    for i in range(2): save_tif(root/'images'/f'c{i}.tif', np.ones((4,4,3), np.uint8), x=500000+40*i)
def lines(root): geo(root, [LineString([(500005,4999990), (500035,4999990)])])
def buffer(root):
    frame = geopandas.read_file(root/'o.geojson').to_crs('EPSG:32633')
    frame.set_geometry(frame.buffer(5, cap_style='flat')).to_file(root/'o.geojson')
def orthophoto(root):
    save_tif(root/'ortho.tif', np.ones((8,8,3), np.uint8))
    save_tif(root/'dsm.tif', np.ones((8,8), np.float32))
    geopandas.GeoDataFrame(geometry=[FIELD], crs='EPSG:32633').to_file(root/'o.gpkg')
def few_bands(root): clouds(root, [np.stack([EYE,1-EYE,0*EYE], -1)], bands=5)
def a_pickle(root, image=None, **kw):
    root.mkdir()
    (root/'x.pkl').write_bytes(pickle.dumps([dict(image=np.zeros((4,4,3), np.uint8) if image is None else image, mask=EYE, **kw)]))
def tensors(root): a_pickle(root, pytest.importorskip('torch').zeros((4,4,3), dtype=pytest.importorskip('torch').uint8))
def zipped(root):
    root.mkdir()
    np.savez(root/'x.npz', a=np.zeros(3))
    (root/'x.npz').rename(root/'x.pkl')
def again(root): shutil.rmtree(root); a_pickle(root)
def white(root): a_pickle(root); (root/'x.pkl').write_bytes(pickle.dumps([dict(image=np.zeros((4,4,3), np.uint8), mask=EYE*255)]))


ADVICE = { # Refused folder; words of the message; what mends it, or options as `--options` takes them
    'sizes': (sizes, 'save both at the same size', resize),
    'colour table': (paint, 'add them to the colour table, or to ignore_colours, or raise tolerance', add_colour),
    'colour unknown': (paint, 'or to ignore_colours', 'ignore_colours=#0000FA'),
    'colour tolerance': (lambda root: paint(root, ((0,0,0),(250,0,0),(50,0,0))), 'or raise tolerance', 'tolerance=60'),
    'two folders of a part': (two_parts, 'one part for train and training: merge or move one', merge),
    'lossy masks': (lossy, 'a lossy mask has two classes at most: use png', as_png),
    'mask of another size': (lambda root: scene(root, np.eye(2)), 'save a GeoTIFF', placed_mask),
    'half of the bands are placed': (half_placed, 'some have coordinates and some have none: save all as GeoTIFF', place_all),
    'bands of two sizes': (two_sizes, 'differ in size and have no coordinates: save GeoTIFFs', place_sizes),
    'two scenes in a folder': (two_scenes, 'one folder per scene', a_folder_each),
    'a band that is not there': (lambda root: clouds(root, [np.stack([EYE,1-EYE,0*EYE], -1)], bands=8), 'choose (bands=) or rename (all_bands=, or --options all_bands=)', 'all_bands=a,b,B04,B03,B02,B08,c,d', dict(bands=('B04','B07'))),
    'bands without names': (few_bands, 'expected a band B04', 'all_bands=B04,B03,B02,B08,x'),
    'coco classes': (other_classes, 'say classes=background,house,road', 'classes=background,house,road', dict(classes=('background','field'))),
    'coco boxes': (boxes, 'boxes=object takes them for outlines', 'boxes=object'),
    'two tables': (two_tables, 'give the file', None),
    'no coordinates': (no_place, 'save GeoTIFFs', place_chips),
    'lines': (lines, 'give lines and points a width (buffer)', buffer),
    'heights': (orthophoto, 'say images=FILE or images=FOLDER', 'images=ortho.tif'),
    'tensors': (tensors, 'save numpy arrays instead: tensor.numpy()', again),
    'npz': (zipped, 'save numpy arrays with pickle.dump', again),
    'white by option': (white, 'or say --ignore (has_ignore=True)', 'has_ignore=true')}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', ADVICE)
def test_following_the_advice_works(tmp_path, name):
    make,words,way,*kw = ADVICE[name]
    root,kw = tmp_path/'data',dict(*kw)
    make(root)
    def read(path=root, **options): return [o.mask for v in load_dataset(path, **options).values() for o in v]
    one_line(lambda: read(**kw), words)
    if name == 'a band that is not there': kw = dict(bands=('B04','B08'))
    elif name == 'coco classes': kw = {}
    options = reader_options(way) if isinstance(way, str) else {}
    if callable(way): way(root)
    path = root/'train_ship_segmentations_v2.csv' if name == 'two tables' else root
    assert len(read(path, **kw, **options)) > 0


@pytest.mark.filterwarnings('ignore')
def test_what_is_left_out_is_read_where_strict_is_left_out(tmp_path):
    folders(tmp_path, [EYE, EYE])
    save(tmp_path/'IMAGES'/'9_mask.png', EYE)
    one_line(lambda: load_dataset(tmp_path, strict=True), 'mend it, or leave out strict')
    assert len(load_dataset(tmp_path)['all']) == 2
    (tmp_path/'IMAGES'/'9_mask.png').unlink()
    assert len(load_dataset(tmp_path, strict=True)['all']) == 2


def rio(*cmd):
    "A command of rasterio, as the message has it."
    import subprocess, sys
    code = 'from rasterio.rio.main import main_group; main_group()'
    subprocess.run([sys.executable, '-c', code, *map(str, cmd)], check=True, capture_output=True)


def test_a_raster_whose_metadata_lead_elsewhere_is_saved_anew(tmp_path):
    rasterio = pytest.importorskip('rasterio')
    from satseg.data.rasters import open_raster
    old,new = tmp_path/'old.tif',tmp_path/'new.tif'
    save_tif(old, np.ones((4,4), np.uint16))
    with rasterio.open(old, 'r+') as r: r.update_tags(ns='OVERVIEWS', OVERVIEW_FILE='elsewhere.tif')
    one_line(lambda: open_raster(old).__enter__(), 'rio convert OLD NEW')
    rio('convert', old, new)
    with open_raster(new) as r: assert (r.read(1) == 1).all()


def test_a_raster_of_huge_pieces_is_written_tiled(tmp_path, monkeypatch):
    from satseg.data import rasters
    old,new = tmp_path/'old.tif',tmp_path/'new.tif'
    save_tif(old, np.ones((2,400_000), np.uint16)) # In rows of 800,000 bytes; a tile has 524,288
    monkeypatch.setattr(rasters, 'MAX_BYTES', 600_000)
    blocks = '--co TILED=YES --co BLOCKXSIZE=512 --co BLOCKYSIZE=512'
    one_line(lambda: rasters.open_raster(old).__enter__(), f'rio convert OLD NEW {blocks}')
    rio('convert', old, new, *blocks.split())
    with rasters.open_raster(new) as r: assert r.block_shapes == [(512,512)]


def test_a_raster_in_a_local_system_is_given_its_own(tmp_path):
    rasterio = pytest.importorskip('rasterio')
    local = 'LOCAL_CS["site",UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    for i in range(2): save_tif(tmp_path/f'{i}.tif', np.ones((4,4,3), np.uint16), crs=rasterio.CRS.from_wkt(local))
    save_tif(tmp_path/'other.tif', np.ones((4,4,3), np.uint16))
    with rasterio.open(tmp_path/'other.tif') as r: crs,place = r.crs,r.transform
    (tmp_path/'other.tif').unlink()
    from shapely import box
    houses = geopandas.GeoDataFrame(geometry=[box(place.c, place.f-2*abs(place.e), place.c+2*place.a, place.f)], crs=crs).to_crs(4326)
    houses.to_file(tmp_path/'houses.geojson', driver='GeoJSON')
    def masks(): return [o.mask for o in load_dataset(tmp_path)['all']]
    one_line(masks, 'rio edit-info --crs EPSG:CODE FILE')
    for i in range(2): rio('edit-info', '--crs', crs.to_string(), tmp_path/f'{i}.tif')
    assert all(o.tolist() == [[1,1,0,0]]*2+[[0]*4]*2 for o in masks())
