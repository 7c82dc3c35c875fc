"""Every format written by hand and read back, every wrong input as one line, and the real folders."""
import io, json, struct, zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from satseg.core.errors import BadInput
from satseg.core.display import IGNORE
from satseg.data.splits import class_shares, split_groups
from satseg.data.folders import load_folders
from satseg.data.geotiffs import load_geotiffs
from satseg.data.coco import load_coco
from satseg.data.ships import load_ships
from satseg.data.clouds import load_clouds, read_split
from satseg.data.band_files import load_bands
from satseg.data.datasets import FORMATS, kind_of, load_dataset
from satseg.data.rle import rle_encode
from satseg.data.pictures import colours_to_ids, read_picture
from satseg.data.splits import name_groups
from satseg.data.overlaps import find_overlaps, overlap_groups

rasterio = pytest.importorskip('rasterio')
geopandas = pytest.importorskip('geopandas')
from rasterio.transform import from_origin
from shapely import MultiPolygon, Point, Polygon, box

TABLE = {'unlabeled': '#9B9B9B', 'building': '#3C1098', 'water': '#E2A929'}
RGB = [(155,155,155), (60,16,152), (226,169,41)]


def save(path, a, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(a, np.uint8)).save(path, **kw)


def save_tif(path, a, x=500000, y=5000000, size=10, crs='EPSG:32633', **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    a = np.atleast_3d(a)
    transform = from_origin(x, y, size, size) if crs else rasterio.Affine.identity()
    with rasterio.open(path, 'w', 'GTiff', a.shape[1], a.shape[0], a.shape[2], crs, transform, a.dtype, **kw) as r: r.write(np.moveaxis(a, -1, 0))


def one_line(function, *contains):
    "The error of `function`: `BadInput`, one line, with all of `contains`."
    with pytest.raises(BadInput) as e: function()
    text = str(e.value)
    assert '\n' not in text and len(text) < 600, text
    for o in contains: assert o in text, text
    return text


def folders(root, masks, images=None, suffix='.png', **kw):
    for i,m in enumerate(masks):
        save(root/'IMAGES'/f'{i}.png', np.full((*np.shape(m)[:2],3), i) if images is None else images[i])
        save(root/'MASKS'/f'{i}{suffix}', m, **kw)
    return root


# Folders

def test_pairs_go_by_name_not_by_order(tmp_path):
    for name,v in (('b',1), ('a',2), ('é',3)): save(tmp_path/'images'/f'{name}.jpg', np.full((4,4,3), v*40))
    for name,v in (('a',0), ('b',1), ('e\u0301',1)): save(tmp_path/'masks'/f'{name}.png', np.full((4,4), v))
    chips = load_dataset(tmp_path)['all']
    assert {o.name: (int(o.image.mean()), int(o.mask.mean())) for o in chips} == {'a': (80,0), 'b': (40,1), 'é': (120,1)}


def test_missing_partners_are_listed(tmp_path):
    folders(tmp_path, [np.eye(3)]*2)
    save(tmp_path/'IMAGES'/'x.png', np.zeros((3,3,3)))
    save(tmp_path/'MASKS'/'y.png', np.zeros((3,3)))
    one_line(lambda: load_folders(tmp_path), '2 without', 'x (no mask)', 'y (no image)')
    save(tmp_path/'IMAGES'/'x.jpg', np.zeros((3,3,3)))
    one_line(lambda: load_folders(tmp_path), 'x.jpg and x.png')


def test_masks_of_0_and_255(tmp_path):
    chips = load_folders(folders(tmp_path, [np.eye(4)*255, np.zeros((4,4))]))['all']
    assert [int(o.mask.sum()) for o in chips] == [4,0]


def test_255_is_unknown_as_soon_as_one_mask_of_the_pile_holds_a_1(tmp_path):
    chips = load_folders(folders(tmp_path, [np.eye(4)*255, np.eye(4)]))['all']
    assert (chips[0].mask[0] == [255,0,0,0]).all() and chips[1].mask.sum() == 4
    assert (load_folders(tmp_path, has_ignore=True)['all'][0].mask.max()) == 255
    assert load_folders(tmp_path, mask_kind='255')['all'][0].mask.max() == 1


def test_lossy_masks_snap_and_grey_ones_are_refused(tmp_path):
    m = np.kron([[0,1],[1,0]], np.ones((16,16)))*255
    chips = load_folders(folders(tmp_path/'a', [m], suffix='.jpg', quality=80))['all']
    assert (chips[0].mask == m/255).all()
    grey = load_folders(folders(tmp_path/'b', [np.full((8,8), 120)], suffix='.jpg'))['all']
    one_line(lambda: grey[0], '64 pixels are neither 0 nor 255', '0.jpg')


def test_rgb_masks_that_are_grey_are_read_as_ids(tmp_path):
    chips = load_folders(folders(tmp_path, [np.eye(4)[...,None]*np.full(3, 255)]))['all']
    assert (chips[0].mask == np.eye(4)).all()


@pytest.mark.parametrize('ids', [[0,1,2], [10,20,300]])
def test_label_mapping_orders_ids(tmp_path, ids):
    folders(tmp_path, [])
    save(tmp_path/'IMAGES'/'a.png', np.zeros((1,3,3)))
    (tmp_path/'MASKS').mkdir()
    Image.fromarray(np.array([ids], np.uint16)).save(tmp_path/'MASKS'/'a.png')
    (tmp_path/'label_mapping.json').write_text(json.dumps({str(i): n for i,n in zip(ids, 'abc')}))
    chips = load_folders(tmp_path)['all']
    assert chips.classes == ('a','b','c') and chips[0].mask.tolist() == [[0,1,2]]
    assert load_folders(tmp_path, ignore=['a'])['all'][0].mask.tolist() == [[255,0,1]]
    assert load_folders(tmp_path, classes=['x','y','z'])['all'].classes == ('x','y','z')
    one_line(lambda: load_folders(tmp_path, classes=['x']), 'expected 3 classes')


def test_ids_without_a_class_are_counted(tmp_path):
    chips = load_folders(folders(tmp_path, [np.eye(4)*3]))['all']
    one_line(lambda: chips[0], '0.png', '4 pixels hold 3', 'background, building')


@pytest.mark.parametrize('text,what', [('[1]', 'expected an object'), ('{"a": "b"}', 'expected {'), ('{"0": 1, "1": "x"}', 'see 0'), ('{', 'line 1'),
                                       ('{"0":"a","1":"a"}', 'name of its own'), ('['*100000, 'nested too deep'), ('\udcff', 'UTF-8')])
def test_bad_label_mapping(tmp_path, text, what):
    (folders(tmp_path, [np.eye(2)])/'label_mapping.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    one_line(lambda: load_folders(tmp_path), 'label_mapping.json', what)


def painted(): return np.array(RGB, np.uint8)[[[0,1],[2,1]]]


@pytest.mark.parametrize('where', ['file','dict','list'])
def test_colour_masks(tmp_path, where):
    folders(tmp_path, [painted()])
    if where == 'file': (tmp_path/'colours.json').write_text(json.dumps(TABLE))
    kw = dict(file={}, dict=dict(colours=TABLE), list=dict(colours=RGB, classes=list(TABLE)))[where]
    chips = load_folders(tmp_path, **kw)['all']
    assert chips.classes == tuple(TABLE) and chips[0].mask.tolist() == [[0,1],[2,1]] and chips.colours == RGB
    chips = load_folders(tmp_path, ignore=['unlabeled'], **kw)['all']
    assert chips[0].mask.tolist() == [[255,0],[1,0]] and chips.colours == RGB[1:]


def test_colours_snap_within_the_tolerance_only(tmp_path):
    bent = painted().astype(int) + [[[3,-3,3],[-20,0,20]],[[0,0,0],[10,10,10]]]
    folders(tmp_path, [bent])
    assert load_folders(tmp_path, colours=TABLE)['all'][0].mask.tolist() == [[0,1],[2,1]]
    one_line(lambda: load_folders(tmp_path, colours=TABLE, tolerance=10)['all'][0], '0.png: 2 pixels', '#2810AC (1 pixels)')
    jpg = np.kron(painted().transpose(2,0,1), np.ones((1,32,32))).transpose(1,2,0).astype(np.uint8)
    buf = io.BytesIO()
    Image.fromarray(jpg).save(buf, 'JPEG', quality=95, subsampling=0)
    ids = colours_to_ids(np.asarray(Image.open(buf)), RGB, tolerance=60)
    assert (ids == np.kron([[0,1],[2,1]], np.ones((32,32)))).mean() > .99


def test_unknown_colours(tmp_path):
    a = painted()
    a[0,0] = 0
    folders(tmp_path, [a])
    one_line(lambda: load_folders(tmp_path, colours=TABLE)['all'][0], '1 pixels', '#000000', 'ignore_colours')
    assert load_folders(tmp_path, colours=TABLE, ignore_colours=['#000000'])['all'][0].mask[0,0] == 255
    one_line(lambda: load_folders(tmp_path)['all'][0], '#3C1098', 'colours.json')
    one_line(lambda: load_folders(tmp_path, colours={'building': 'red'}, classes=['building']), 'expected a colour like')
    one_line(lambda: load_folders(tmp_path, colours=TABLE, classes=['building','moon']), 'every class, found none for moon')


def test_palette_masks(tmp_path):
    folders(tmp_path, [])
    im = Image.new('P', (2,2))
    im.putdata([5,1,2,1])
    palette = np.zeros((256,3), np.uint8)
    palette[[5,1,2]] = RGB
    im.putpalette(palette.ravel().tolist())
    save(tmp_path/'IMAGES'/'a.png', np.zeros((2,2,3)))
    (tmp_path/'MASKS').mkdir()
    im.save(tmp_path/'MASKS'/'a.png')
    assert load_folders(tmp_path, colours=TABLE)['all'][0].mask.tolist() == [[0,1],[2,1]]
    assert load_folders(tmp_path, classes=list('abcdef'))['all'][0].mask.tolist() == [[5,1],[2,1]]
    palette[5] = 1
    im.putpalette(palette.ravel().tolist())
    im.save(tmp_path/'MASKS'/'a.png')
    one_line(lambda: load_folders(tmp_path, colours=TABLE)['all'][0], 'a.png', '#010101 (1 pixels)')
    six = {k: [i*40]*3 for i,k in enumerate('abcdef')}
    assert load_folders(tmp_path, colours=six, mask_kind='ids')['all'][0].mask.tolist() == [[5,1],[2,1]]


def test_the_workshops_folders(tmp_path):
    folders(tmp_path/'TAIN_VAL_SET', [np.eye(3)]*2)
    folders(tmp_path/'TEST_SET', [np.eye(3)])
    assert {k: len(v) for k,v in load_dataset(tmp_path).items()} == {'all': 2, 'test': 1}
    folders(tmp_path/'b'/'train', [np.eye(3)]*2)
    folders(tmp_path/'b'/'val', [np.eye(3)])
    assert {k: len(v) for k,v in load_dataset(tmp_path/'b').items()} == {'train': 2, 'val': 1}


def test_pictures_alone_and_tif_masks(tmp_path):
    save(tmp_path/'a'/'x.jpg', np.zeros((4,4,3)))
    chips = load_dataset(tmp_path/'a')['all']
    assert not chips.has_masks and chips[0].image.shape == (3,4,4)
    save(tmp_path/'b'/'IMAGES'/'x.png', np.zeros((4,4,3)))
    save_tif(tmp_path/'b'/'MASKS'/'x.tif', np.eye(4, dtype=np.uint8), crs=None)
    assert (load_dataset(tmp_path/'b')['all'][0].mask == np.eye(4)).all()
    one_line(lambda: load_folders(tmp_path/'nothing'), 'expected a folder')
    (tmp_path/'c').mkdir()
    one_line(lambda: load_folders(tmp_path/'c'), 'found none')


def test_sizes_and_bands_of_pictures(tmp_path):
    folders(tmp_path, [np.eye(4)]*2)
    save(tmp_path/'IMAGES'/'1.png', np.zeros((5,4,3)))
    one_line(lambda: load_folders(tmp_path)['all'][1], '1: image', 'differ in size')
    save(tmp_path/'IMAGES'/'1.png', np.full((4,4), 7))
    assert (load_folders(tmp_path)['all'][1].image == 7).all() # Grey among colours
    save(tmp_path/'IMAGES'/'1.png', np.zeros((4,4,4)))
    assert load_folders(tmp_path)['all'][1].image.shape == (3,4,4) # Alpha goes
    assert load_folders(tmp_path, bands=('B02',))['all'].bands == ('B02',)
    one_line(lambda: load_folders(tmp_path, bands=('B08',)), 'expected a band B08, found R,G,B')
    assert load_folders(tmp_path, all_bands=('nir','R','G'), bands=('B08',))['all'].bands == ('B08',)


def png_of(width, height):
    "A PNG that claims a size and has next to no data."
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind+data))
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'\0'*100)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('name,data,what', [('a.png', png_of(60000,60000), 'a.png'), ('a.png', png_of(13000,13000), 'damaged'),
    ('a.png', b'', 'something else'), ('a.png', b'GIF89a'+b'\0'*50, 'something else'), ('a.tif', b'<VRTDataset rasterXSize="1">', 'this is a VRT'),
    ('a.tif', b'II*\0'+b'\xff'*20, 'damaged'), ('a.jpg', b'\xff\xd8\xff\xe0'+b'\0'*40, 'a.jpg')])
def test_hostile_pictures(tmp_path, name, data, what):
    (tmp_path/name).write_bytes(data)
    one_line(lambda: read_picture(tmp_path/name), name, what)


def test_a_vrt_cannot_reach_other_files(tmp_path):
    save_tif(tmp_path/'secret.tif', np.ones((2,2), np.uint8))
    (tmp_path/'x').mkdir()
    (tmp_path/'x'/'a.tif').write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename>{tmp_path}/secret.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>')
    for kind in ('folders','geotiffs'): one_line(lambda: load_dataset(tmp_path/'x', kind=kind), 'a.tif', 'this is a VRT')


# COCO

def coco(root, annotations, images=None, part='train', size=(6,8), categories=None):
    h,w = size
    save(root/part/'image'/'a.png', np.zeros((h,w,3)))
    data = dict(images=images or [dict(id=1, file_name='image/a.png', width=w, height=h)], annotations=annotations,
                categories=categories or [dict(id=7, name='house')])
    (root/part/f'{part}.json').write_text(json.dumps(data))
    return root


def encode(mask):
    "COCO's run lengths of a mask."
    res = pytest.importorskip('pycocotools.mask').encode(np.asfortranarray(mask, np.uint8))
    return dict(size=res['size'], counts=res['counts'].decode())


def ann(segmentation, category_id=7, image_id=1, **kw): return dict(image_id=image_id, category_id=category_id, segmentation=segmentation, **kw)
def rect(x, y, w, h): return [x,y, x+w,y, x+w,y+h, x,y+h]


def test_coco_polygons_and_both_run_lengths(tmp_path):
    m = np.zeros((6,8), np.uint8)
    m[1:4,5:8] = 1
    for rle in (encode(m), dict(size=[6,8], counts=[31,3,3,3,3,3,2])):
        chips = load_coco(coco(tmp_path, [ann([rect(0,0,2,2), rect(0,4,1,1)]), ann(rle), ann([rect(7,3,1,3)])]))['train']
        inst = chips.instances(0)
        assert inst.max() == 3 and (inst == 1).sum() == 5 and (inst == 2).sum() == 8 and (inst[3:,7] == 3).all()
        assert (chips[0].mask == (inst > 0)).all() and chips.classes == ('background','house')


def test_coco_agrees_with_pycocotools(tmp_path):
    tools = pytest.importorskip('pycocotools.mask')
    m = np.random.default_rng(0).random((6,8)) < .5
    rle = tools.encode(np.asfortranarray(m.astype(np.uint8)))
    chips = load_coco(coco(tmp_path, [ann(dict(size=[6,8], counts=rle['counts'].decode()))]))['train']
    assert (chips[0].mask == m).all()


def test_coco_crowds(tmp_path):
    coco(tmp_path, [ann([rect(1,1,2,2)]), ann(encode(np.ones((6,8))), iscrowd=1)])
    chips = load_coco(tmp_path)['train']
    assert (chips[0].mask == IGNORE).sum() == 44 and (chips[0].mask == 1).sum() == 4 and chips.instances(0).max() == 1
    chips = load_coco(tmp_path, crowd='object')['train']
    assert (chips[0].mask == 1).all() and chips.instances(0).max() == 2
    one_line(lambda: load_coco(tmp_path, crowd='x'), "'ignore' or 'object'")


def test_coco_categories(tmp_path):
    cats = [dict(id=9, name='road'), dict(id=2, name='house')]
    coco(tmp_path, [ann([rect(0,0,1,1)], 9), ann([rect(2,0,1,1)], 2)], categories=cats)
    assert load_coco(tmp_path)['train'].classes == ('background','house','road')
    assert load_coco(tmp_path)['train'][0].mask[0,:4].tolist() == [2,0,1,0]
    assert load_coco(tmp_path, classes=('ground','road'))['train'][0].mask[0,:4].tolist() == [1,0,0,0]
    one_line(lambda: load_coco(tmp_path, classes=('ground','rode')), 'got rode')


def test_coco_places_of_pictures(tmp_path):
    coco(tmp_path, [ann([rect(0,0,2,2)])], [dict(id=1, file_name='a.png', width=8, height=6)])
    coco(tmp_path, [], part='val')
    assert {k: int(v[0].mask.sum()) for k,v in load_dataset(tmp_path).items()} == {'train': 4, 'val': 0}
    assert list(load_dataset(tmp_path/'train'/'train.json')) == ['train']
    (tmp_path/'train'/'train.json').rename(tmp_path/'train'/'all.json')
    assert list(load_coco(tmp_path/'train'/'all.json')) == ['all']


@pytest.mark.parametrize('change,what', [
    (dict(segmentation=[[1,2,3,4]]), 'annotations[1]: expected polygons'), (dict(segmentation=[[1,2,3,4,5,6,7]]), 'annotations[1]: expected polygons'),
    (dict(segmentation=[]), 'annotations[1]: expected polygons or run lengths'), (dict(segmentation=None), 'annotations[1]'),
    (dict(segmentation=[[1,2,3,4,5,'6']]), 'finite numbers'), (dict(segmentation=[[1,2,3,4,5,float('nan')]]), 'finite numbers'),
    (dict(segmentation=dict(size=[8,6], counts=[48])), 'size [6, 8]'), (dict(image_id=5), 'annotations[1]: expected the image_id'),
    (dict(image_id=[1]), 'image_id'), (dict(category_id=8), 'annotations[1]: expected a known category_id')])
def test_bad_annotations(tmp_path, change, what):
    coco(tmp_path, [ann([rect(0,0,2,2)]), {**ann([rect(0,0,2,2)]), **change}])
    one_line(lambda: load_coco(tmp_path), 'train.json', what)


def test_bad_run_lengths_come_with_file_and_row(tmp_path):
    chips = load_coco(coco(tmp_path, [ann(dict(size=[6,8], counts=[40]))]))['train']
    one_line(lambda: chips[0], 'train.json', 'annotations[0]', '48 pixels')


@pytest.mark.parametrize('image,what', [(dict(file_name='../../a.png'), 'images[0]: refuses'), (dict(file_name='/etc/passwd'), 'refuses'),
    (dict(file_name=r'..\a.png'), 'refuses'), (dict(file_name=None), 'refuses'), (dict(file_name='b.png'), '1 of 1 pictures are missing: b.png'),
    (dict(width=0), 'expected width and height'), (dict(width='8'), 'expected width and height'), (dict(id='1'), 'images[0]: expected an object with an id')])
def test_bad_images(tmp_path, image, what):
    coco(tmp_path, [], [{**dict(id=1, file_name='image/a.png', width=8, height=6), **image}])
    one_line(lambda: load_coco(tmp_path), 'train.json', what)


def test_a_picture_of_another_size_than_promised(tmp_path):
    chips = load_coco(coco(tmp_path, [], [dict(id=1, file_name='image/a.png', width=9, height=6)]))['train']
    one_line(lambda: chips[0], 'differ in size')


@pytest.mark.parametrize('text,what', [('{}', 'no list'), ('[]', 'no list'), ('{"images": [], "categories": [], "annotations": []}', 'at least one image'),
    ('{"images": [1], "categories": [], "annotations": []}', 'images[0]'), ('nonsense', 'no valid JSON'), ('', 'no valid JSON')])
def test_bad_coco_files(tmp_path, text, what):
    (tmp_path/'x.json').write_text(text)
    one_line(lambda: load_dataset(tmp_path/'x.json'), 'x.json', what)


def test_twice_the_same_image_id(tmp_path):
    image = dict(id=1, file_name='image/a.png', width=8, height=6)
    coco(tmp_path, [], [image, image])
    one_line(lambda: load_coco(tmp_path), 'images[1]: the id 1 is there twice')


# Ships

def ships(root, rows, names=('a.jpg','b.jpg'), size=(4,3)):
    for n in names: save(root/'train_v2'/n, np.zeros((*size,3)))
    (root/'train_ship_segmentations_v2.csv').write_text('ImageId,EncodedPixels\n' + ''.join(f'{a},{b}\n' for a,b in rows))
    return root


def test_ships(tmp_path):
    m = np.zeros((3,4,3), np.uint8)
    m[0,:2,0] = m[1,3,:] = 1
    rows = [('a.jpg',rle_encode(m[0])), ('b.jpg',''), ('a.jpg',rle_encode(m[1]))]
    chips = load_dataset(ships(tmp_path, rows))['all']
    assert chips.names == ['a.jpg','b.jpg'] and (chips.instances(0) == m[0]+2*m[1]).all() and not chips[1].mask.any()
    assert load_dataset(tmp_path/'train_ship_segmentations_v2.csv')['all'].names == chips.names


def test_ships_without_partners(tmp_path):
    ships(tmp_path, [('a.jpg','1 2'), ('c.jpg','')])
    one_line(lambda: load_ships(tmp_path), 'c.jpg (no picture), b.jpg (no row)', "missing='skip'")
    assert load_ships(tmp_path, missing='skip')['all'].names == ['a.jpg']
    ships(tmp_path, [('z.jpg','1 2')])
    one_line(lambda: load_ships(tmp_path, missing='skip'), 'none of its 1 images')


@pytest.mark.parametrize('text,what', [('1 13', 'row 2'), ('0 1', 'row 2'), ('1', 'odd'), ('x y', 'row 2'), ('5 2 1 2', 'row 2'), ('1 -2', 'row 2')])
def test_bad_ships(tmp_path, text, what):
    chips = load_ships(ships(tmp_path, [('a.jpg',text), ('b.jpg','')]))['all']
    one_line(lambda: chips[0], 'train_ship_segmentations_v2.csv', what)


def test_test_pictures_have_no_masks(tmp_path):
    ships(tmp_path, [('a.jpg',''), ('b.jpg','')])
    save(tmp_path/'test_v2'/'t.jpg', np.zeros((4,3,3)))
    parts = load_ships(tmp_path)
    assert parts['test'].names == ['t.jpg'] and not parts['test'].has_masks


def jpeg(a, quality):
    buf = io.BytesIO()
    Image.fromarray(a).save(buf, 'JPEG', quality=quality)
    return np.asarray(Image.open(buf))


@pytest.mark.parametrize('shift', [(0,0), (96,0), (3,61), (100,70)])
def test_shifted_crops_are_found(shift):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(60, 90, (90,90,1)), np.ones((4,4,3))) + rng.integers(0, 12, (360,360,3))
    scene[200:215,180:240] = 250 # A ship
    dy,dx = shift
    crops = [jpeg(o.astype(np.uint8), q) for o,q in ((scene[:200,:200], 90), (scene[dy:dy+200,dx:dx+200], 70), (scene[:200,:200][::-1], 90))]
    pairs = find_overlaps(crops, step=4)
    assert [o[:2] for o in pairs] == [(0,1)] and abs(pairs[0][2]+dy) <= 4 and abs(pairs[0][3]+dx) <= 4
    assert overlap_groups(pairs, 'abc') == ['a','a','c']


def test_flat_pictures_do_not_match_by_accident():
    flat = [np.full((64,64,3), v, np.uint8) for v in (0,90,90)]
    assert find_overlaps(flat) == [] and find_overlaps(flat[:1]) == [] and find_overlaps([np.zeros((3,3,3))]*2) == []


def test_overlapping_ships_do_not_leak(tmp_path):
    rng = np.random.default_rng(1)
    scene = np.kron(rng.integers(60, 120, (60,60,1)), np.ones((8,8,3))).astype(np.uint8)
    names = [f'{i}.jpg' for i in range(4)]
    ships(tmp_path, [(o,'') for o in names], names)
    for i,(y,x) in enumerate(((0,0), (120,40), (0,0), (160,160))): save(tmp_path/'train_v2'/f'{i}.jpg', np.roll(scene, 8*i if i > 1 else 0, 2)[y:y+300,x:x+300])
    save(tmp_path/'train_v2'/'3.jpg', rng.integers(0, 255, (300,300,3)))
    groups = load_ships(tmp_path)['all'].groups
    assert groups[0] == groups[1] and groups[3] == '3.jpg'
    assert load_ships(tmp_path, group=None)['all'].groups == names


# Clouds

def clouds(root, masks, bands=13, names=None):
    for d in ('subscenes','masks'): (root/d).mkdir(parents=True, exist_ok=True)
    for i,m in enumerate(masks):
        name = names[i] if names else f's_{i:04}'
        np.save(root/'subscenes'/f'{name}.npy', np.broadcast_to(np.arange(bands, dtype=np.float32), (*m.shape[:2],bands)))
        np.save(root/'masks'/f'{name}.npy', m)
    return root


MARKS = np.array([[[1,0,0],[0,1,0]],[[0,0,1],[0,0,0]]], bool)


@pytest.mark.parametrize('shadow,want,classes', [('background',0,2), ('class',2,3), ('ignore',255,2)])
def test_clouds(tmp_path, shadow, want, classes):
    chips = load_dataset(clouds(tmp_path, [MARKS]), shadow=shadow)['all']
    assert chips[0].mask.tolist() == [[0,1],[want,255]] and len(chips.classes) == classes
    assert chips[0].image[:,0,0].tolist() == [3,2,1,7] and chips.bands == ('B04','B03','B02','B08')


def test_cloud_bands(tmp_path):
    eight = clouds(tmp_path/'8', [MARKS], 8)
    assert load_clouds(eight)['all'][0].image[:,0,0].tolist() == [2,1,0,3] # Blue comes first in the files
    assert load_clouds(eight, bands=('cirrus','thermal'))['all'][0].image[:,0,0].tolist() == [6,7]
    assert load_clouds(eight, all_bands=list('RGB')+['NIR','S1','S2','C','T'])['all'][0].image[:,0,0].tolist() == [0,1,2,3]
    one_line(lambda: load_clouds(clouds(tmp_path/'5', [MARKS], 5)), 's_0000.npy', 'expected a band B04')
    one_line(lambda: load_clouds(eight, all_bands='abc'), 'expected the 3 bands a,b,c, found 8')


def test_cloud_splits_and_groups(tmp_path):
    names = ['S2A_MSIL1C_20180101_N0206_R080_T32TLS_1','S2B_MSIL1C_20180603_N0206_R080_T32TLS_2','Water_02_1010']
    clouds(tmp_path/'d', [MARKS]*3, names=names)
    assert load_clouds(tmp_path/'d')['all'].groups == ['T32TLS','T32TLS','Water_02']
    (tmp_path/'l').mkdir()
    (tmp_path/'l'/'train.txt').write_text(f'{names[0]}.npy\n{names[1]}\n')
    (tmp_path/'l'/'val.txt').write_text(f'{names[2]}\n')
    (tmp_path/'l.csv').write_text('name,split\n' + '\n'.join(f'{n},{p}' for n,p in zip(names, ('train','train','validation'))))
    (tmp_path/'l.json').write_text(json.dumps(dict(train=names[:2], val=names[2:])))
    for o in ('l','l.csv','l.json'):
        parts = load_clouds(tmp_path/'d', split=tmp_path/o)
        assert {k: v.names for k,v in parts.items()} == dict(train=names[:2], val=names[2:]), o
    assert list(load_clouds(tmp_path/'d', split=tmp_path/'l'/'val.txt')) == ['val']


@pytest.mark.parametrize('text,what', [('{"train": ["a"], "val": ["a.npy"]}', 'a is listed twice'), ('{"train": 1}', 'lists of names'), ('{}', 'found none'),
                                       ('{"x": ["a"]}', "'x'"), ('{"train": ["zzz"]}', '1 scenes are not in')])
def test_bad_splits(tmp_path, text, what):
    (tmp_path/'l.json').write_text(text)
    one_line(lambda: load_clouds(clouds(tmp_path/'d', [MARKS]), split=tmp_path/'l.json'), what)
    (tmp_path/'l.csv').write_text('a,train\nb,moon\n')
    one_line(lambda: read_split(tmp_path/'l.csv'), 'row 2', 'moon')


def test_bad_clouds(tmp_path):
    root = clouds(tmp_path, [MARKS, np.ones((2,2,3), bool), np.zeros((2,2,4), bool), MARKS*3])
    chips = load_clouds(root)['all']
    one_line(lambda: chips[1], 's_0001.npy', '4 pixels have more than one class')
    one_line(lambda: chips[2], 's_0002.npy', '(2, 2, 4)')
    one_line(lambda: chips[3], 's_0003.npy', 'of 0 and 1')
    np.save(root/'masks'/'s_0000.npy', np.array([{}]), allow_pickle=True)
    one_line(lambda: chips[0], 's_0000.npy', 'expected a .npy file of numbers')
    (root/'masks'/'s_0000.npy').write_bytes(b'\x93NUMPY\x01\0v\0{')
    one_line(lambda: load_clouds(root)['all'][0], 's_0000.npy')
    (root/'masks'/'s_0000.npy').unlink()
    one_line(lambda: load_clouds(root), 's_0000 (no mask)')


def test_a_large_scene_is_cut_so_that_every_pixel_is_used(tmp_path):
    m = np.zeros((102,102,3), bool)
    m[...,0] = True
    m[-1,-1] = [0,1,0]
    cut = load_clouds(clouds(tmp_path, [m]))['all'].cut(32)
    assert sum(o.mask.sum() for o in cut) == 1 and set(cut.groups) == {'s'} and {o.mask.shape for o in cut} == {(32,32)}


# GeoTIFFs

def geo(root, shapes, crs='EPSG:4326', name='o.geojson', chips=2, **kw):
    for i in range(chips): save_tif(root/'images'/f'c{i}.tif', np.full((4,4,3), i+1, np.uint8), x=500000+40*i, **kw)
    frame = geopandas.GeoDataFrame(dict(kind=[f'k{i%2}' for i in range(len(shapes))]), geometry=shapes, crs='EPSG:32633')
    (frame.to_crs(crs) if crs else frame).to_file(root/name)
    return root


FIELD = box(500020, 4999980, 500070, 5000000)


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
    one_line(lambda: load_geotiffs(tmp_path), '1 chips have no coordinates: a')


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


# Single bands

def test_coarse_bands_and_other_systems_land_in_place(tmp_path):
    yy,xx = np.mgrid[:40,:40]
    save_tif(tmp_path/'s'/'B02.tif', (xx*10).astype(np.uint16))
    save_tif(tmp_path/'s'/'B11.tif', (np.mgrid[:20,:20][1]*20+5).astype(np.uint16), size=20)
    with rasterio.open(tmp_path/'s'/'B02.tif') as r:
        from rasterio.vrt import WarpedVRT
        with WarpedVRT(r, crs='EPSG:3857') as v: a,t = v.read(1),v.transform
    with rasterio.open(tmp_path/'s'/'B08.tif', 'w', 'GTiff', a.shape[1], a.shape[0], 1, 'EPSG:3857', t, a.dtype) as r: r.write(a, 1)
    chips = load_dataset(tmp_path/'s', bands=('B02','B11'))['all']
    assert chips[0].image.shape == (2,40,40) and np.abs(chips[0].image[0]-chips[0].image[1])[:,2:-2].max() <= 1
    chips = load_bands(tmp_path/'s', bands=('B02','B08'))['all']
    image = chips[0].image
    assert image.shape[1:] in ((40,40), a.shape) and np.median(np.abs(image[0]-image[1])[8:-8,8:-8]) <= 10


def test_masks_of_scenes(tmp_path):
    save_tif(tmp_path/'a'/'B02.tif', np.arange(16, dtype=np.uint16).reshape(4,4), nodata=0)
    save(tmp_path/'a'/'mask.png', np.eye(4)*255)
    chips = load_dataset(tmp_path/'a', classes=('sea','ship'))['all']
    want = np.eye(4)
    want[0,0] = 255 # The band has no data there
    assert (chips[0].mask == want).all() and chips.has_masks
    save(tmp_path/'a'/'mask.png', np.eye(3)*255)
    one_line(lambda: load_bands(tmp_path/'a')['all'][0], 'mask.png', '3 x 3 pixels without coordinates')
    save_tif(tmp_path/'a'/'label.tif', np.eye(4, dtype=np.uint8))
    one_line(lambda: load_bands(tmp_path/'a'), 'label.tif and mask.png')


def test_a_mask_is_resized_with_nearest_and_its_nodata_is_unknown(tmp_path):
    save_tif(tmp_path/'B02.tif', np.ones((4,4), np.uint16))
    save_tif(tmp_path/'label.tif', np.array([[0,2],[255,1]], np.uint8), size=20, nodata=255)
    chips = load_bands(tmp_path, classes=('a','b','c'))['all']
    assert (chips[0].mask == np.kron([[0,2],[255,1]], np.ones((2,2)))).all()
    save_tif(tmp_path/'label.tif', np.array([[0,2],[0,1]], np.uint8), size=20, nodata=0) # 0 is a class: the nodata is a slip
    assert (load_bands(tmp_path, classes=('a','b','c'))['all'][0].mask == np.kron([[0,2],[0,1]], np.ones((2,2)))).all()


def test_bad_scenes(tmp_path):
    save_tif(tmp_path/'a'/'B02.tif', np.ones((4,4), np.uint16))
    save_tif(tmp_path/'b'/'B03.tif', np.ones((4,4), np.uint16))
    one_line(lambda: load_dataset(tmp_path), 'no band in common')
    save_tif(tmp_path/'b'/'B02.tif', np.ones((2,2), np.uint16), crs=None)
    assert load_dataset(tmp_path)['all'].bands == ('B02',)
    one_line(lambda: load_bands(tmp_path, bands=('B03',)), 'expected a band B03')
    one_line(lambda: load_bands(tmp_path/'b'), 'some have coordinates and some have none')
    save_tif(tmp_path/'a'/'label.tif', np.ones((4,4), np.uint8))
    one_line(lambda: load_dataset(tmp_path), '1 scenes have no label.tif or mask.png: b')
    one_line(lambda: load_bands(tmp_path/'a'/'x'), 'expected a folder')


# Any dataset

def test_kinds_and_options(tmp_path):
    assert set(FORMATS) == {'pickle','folders','coco','ships','clouds','geotiffs','bands'}
    one_line(lambda: kind_of(tmp_path), 'a folder of another kind')
    one_line(lambda: kind_of(tmp_path/'x'), 'found no such file')
    (tmp_path/'x.txt').write_text('')
    one_line(lambda: load_dataset(tmp_path/'x.txt'), 'a file of another kind')
    folders(tmp_path, [np.eye(4)])
    one_line(lambda: load_dataset(tmp_path, tolerence=1), 'did you mean tolerance?')
    one_line(lambda: load_dataset(tmp_path, kind='folder'), 'did you mean folders?')


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    folders(tmp_path, [np.eye(4)]*3)
    (tmp_path/'IMAGES'/'2.png').write_bytes(b'broken')
    (tmp_path/'MASKS'/'1.png').write_bytes(b'broken')
    chips = load_folders(tmp_path)['all']
    assert chips[0].mask.sum() == 4
    one_line(lambda: chips[1], 'MASKS/1.png')
    one_line(lambda: chips[2], 'IMAGES/2.png')


def test_group_rules():
    assert name_groups(['set1_10_20_10'], group=lambda o: o[:4]) == ['set1']
    assert name_groups(['a','a_1','x_2020_3']) == ['a','a_1','x block 505,0']
    with pytest.raises(BadInput, match='no regular expression'): name_groups(['a'], group='(')


# The real folders: sizes, shares and counts as their README and a look at them say

def test_real_coco(real_data):
    parts = load_dataset(real_data/'footprints_coco')
    assert {k: (len(v), len(set(v.groups)), sum(int(v.instances(i).max()) for i in range(len(v)))) for k,v in parts.items()} == {
        'train': (270,54,811), 'val': (35,7,477)}
    for part,share in (('train',.110), ('val',.292)): assert abs(class_shares(parts[part])['building']-share) < .002
    counts = {g: parts['train'].groups.count(g) for g in parts['train'].groups}
    assert set(counts.values()) == {5} # One tile of zoom 19 and the four of zoom 20 on the same ground


def test_real_coco_by_pycocotools(real_data):
    COCO = pytest.importorskip('pycocotools.coco').COCO
    chips,api = load_coco(real_data/'footprints_coco')['val'],COCO(real_data/'footprints_coco'/'val'/'val.json')
    both = either = 0
    for i,k in enumerate(api.getImgIds()):
        theirs = np.any([api.annToMask(o) for o in api.loadAnns(api.getAnnIds(k))], 0)
        both,either = both+(theirs & (chips[i].mask == 1)).sum(),either+(theirs | (chips[i].mask == 1)).sum()
    assert both/either > .98 # The rule for pixels on an outline differs


def test_real_geotiffs(real_data):
    chips = load_dataset(real_data/'footprints_geotiff')['all']
    assert len(chips) == 40 and len(set(chips.groups)) == 12 and {o.image.shape for o in chips} == {(3,512,512)}
    assert abs(class_shares(chips)['building'] - .454) < .002
    assert sum(int(chips.instances(i).max()) for i in range(40)) == 1523 # Of 1228 polygons, those on an edge count on each chip


def test_real_pairs(real_data):
    chips = load_dataset(real_data/'footprints_pairs')['all']
    assert len(chips) == 94 and len(set(chips.groups)) == 10 and abs(class_shares(chips)['building']-.112) < .002


def test_real_landcover(real_data):
    parts = load_dataset(real_data/'landcover', ignore=('unlabeled',))
    assert {k: (len(v), len(set(v.groups))) for k,v in parts.items()} == {'all': (45,5), 'test': (9,1)}
    assert parts['all'].classes == ('building','land','road','vegetation','water') and parts['all'].colours[1] == (132,41,246)


def test_real_colour_masks_equal_the_ids(real_data):
    root = real_data/'landcover'
    ids = load_folders(root/'TEST_SET')['all']
    one_line(lambda: list(load_folders(root/'TEST_SET', masks=root/'COLOUR_MASKS')['all']), '#000000 (1,147 pixels)')
    painted = load_folders(root/'TEST_SET', masks=root/'COLOUR_MASKS', ignore_colours=['#000000'])['all']
    black = 0
    for a,b in zip(ids, painted):
        unknown = b.mask == IGNORE
        black += unknown.sum()
        assert (a.mask[~unknown] == b.mask[~unknown]).all() and (a.mask[unknown] == 0).all()
    assert black == 1147+2725


def test_real_ships(real_data):
    chips = load_dataset(real_data/'ships')['all']
    assert len(chips) == 45 and len(set(chips.groups)) == 45 and sum(int(chips.instances(i).max()) for i in range(45)) == 105
    assert abs(class_shares(chips)['ship']-.0083) < .0002


def test_real_crops_cut_anew_are_found(real_data):
    chips,crops = load_ships(real_data/'ships', group=None)['all'],[]
    for i in range(0, 24, 2):
        a = chips.images[i]
        crops += [jpeg(np.ascontiguousarray(a[:512,:512]), 85), jpeg(np.ascontiguousarray(a[200:712,101:613]), 75)]
    pairs = find_overlaps(crops)
    assert [o[:2] for o in pairs] == [(2*k,2*k+1) for k in range(12)] and all(abs(dy+200) <= 8 and abs(dx+101) <= 8 for _,_,dy,dx in pairs)


def test_real_clouds(real_data):
    chips = load_dataset(real_data/'clouds_landsat8', shadow='class')['all']
    assert len(chips) == 20 and len(set(chips.groups)) == 20
    shares = class_shares(chips)
    assert abs(shares['cloud']-.4935) < .001 and 0 < shares['shadow'] < .1
    water = chips[chips.names.index('Water_02_1010')].image
    red,green,blue,nir = np.median(water.reshape(4,-1), 1)
    assert blue > green > red > nir # The air scatters blue most: the files begin with blue, whatever their description says


def test_real_scenes(real_data):
    chips = load_dataset(real_data/'clouds_sentinel2', classes=('clear','cloud'))['all']
    assert (len(chips), chips.bands) == (3, ('B02','B03','B04','B08')) and abs(class_shares(chips)['cloud']-.481) < .002
    chips = load_dataset(real_data/'ships_sentinel2', classes=('background','ship'))['all']
    assert chips.names == ['genoa','san_francisco'] and chips.bands == ('B02','B03','B11')
    for i,n in ((0,29), (1,6)):
        assert chips.instances(i).max() == n and ((chips.instances(i) > 0) == (chips[i].mask == 1)).mean() > .999


# What a strict review found

def test_a_geojson_cannot_name_a_command_or_another_file(tmp_path):
    chips = geo(tmp_path/'a', [FIELD])
    secret = geo(tmp_path/'b', [FIELD])/'o.geojson'
    text = json.dumps(dict(type='gdal_streamed_alg', command_line=f'gdal vector pipeline ! read {secret}'))
    for head in ('', '\ufeff', ' \n'):
        (chips/'o.geojson').write_text(head+text, 'utf-8')
        one_line(lambda: load_geotiffs(chips), 'o.geojson')


def test_both_names_of_a_part_are_one_part(tmp_path):
    (tmp_path/'s.csv').write_text('name,part\na,train\nb,Train\nc,val\nd,valid\n')
    assert read_split(tmp_path/'s.csv') == {'train': ['a','b'], 'val': ['c','d']}
    assert read_split({'val': ['a'], 'validation': ['b']}) == {'val': ['a','b']}
    (tmp_path/'s.csv').write_text('a,trian\nb,train\n')
    one_line(lambda: read_split(tmp_path/'s.csv'), 'row 1', 'trian')
    (tmp_path/'s.csv').write_text('a'*200_000+',train\n')
    one_line(lambda: read_split(tmp_path/'s.csv'), 's.csv', 'no CSV')


def test_two_folders_of_one_part_are_not_mixed_up(tmp_path):
    for o in ('train','training'): folders(tmp_path/o, [np.zeros((4,4))])
    one_line(lambda: load_folders(tmp_path), 'train and training')


def test_what_255_means_is_decided_for_all_parts_at_once(tmp_path):
    folders(tmp_path/'TRAIN_VAL_SET', [[[0,1],[1,255]]])
    folders(tmp_path/'TEST_SET', [[[0,0],[0,255]]])
    parts = load_folders(tmp_path)
    assert [np.unique(o[0].mask).tolist() for o in parts.values()] == [[0,1,255], [0,255]]
    assert np.unique(load_folders(tmp_path)['test'][0].mask).tolist() == [0,255] # Whichever is taken first


def test_grid_cells_are_no_bands(tmp_path):
    for o in ('A1','B1','B2'):
        save(tmp_path/'IMAGES'/f'site_{o}.png', np.zeros((4,4,3)))
        save(tmp_path/'MASKS'/f'site_{o}.png', np.zeros((4,4)))
    assert kind_of(tmp_path) == 'folders'
    (tmp_path/'x').mkdir()
    (tmp_path/'x'/'b2.txt').write_text('')
    one_line(lambda: kind_of(tmp_path/'x'), 'expected a dataset')
    one_line(lambda: load_folders(tmp_path, masks='nowhere'), 'nowhere', 'expected a folder')


def test_deep_pictures_keep_all_bits_and_alpha_goes_unless_it_has_a_name(tmp_path):
    a = (np.arange(48).reshape(3,4,4)*1000).astype(np.uint16)
    for o in ('png','tif'):
        path = tmp_path/'deep'/f'{o}.{o}'
        path.parent.mkdir(exist_ok=True)
        with rasterio.open(path, 'w', 'PNG' if o == 'png' else 'GTiff', 4, 4, 3, dtype='uint16') as r: r.write(a)
        got,palette = read_picture(path)
        assert got.dtype == np.uint16 and (got == np.moveaxis(a, 0, -1)).all() and palette is None
    save_tif(tmp_path/'four'/'a.tif', np.arange(64).reshape(4,4,4).astype(np.uint8)) # GDAL calls the fourth of four bytes alpha
    save(tmp_path/'png'/'a.png', np.arange(64).reshape(4,4,4))
    for folder,kind in (('four','folders'), ('four','geotiffs'), ('png','folders')):
        assert load_dataset(tmp_path/folder, kind)['all'].bands == ('R','G','B')
        chips = load_dataset(tmp_path/folder, kind, all_bands=('R','G','B','NIR'), bands=('NIR',))['all']
        assert (chips[0].image[0].ravel() == np.arange(3, 64, 4)).all()


def test_a_named_fourth_band_is_no_mask_of_validity(tmp_path):
    geo(tmp_path, [FIELD])
    a = np.ones((4,4,4), np.uint8)
    a[0,0,3] = 0
    for i in range(2): save_tif(tmp_path/'images'/f'c{i}.tif', a, x=500000+40*i)
    assert (load_geotiffs(tmp_path)['all'][0].mask == IGNORE).sum() == 1
    assert (load_geotiffs(tmp_path, all_bands=('R','G','B','NIR'))['all'][0].mask == IGNORE).sum() == 0


def test_rows_that_mean_one_picture(tmp_path):
    images = [dict(id=i, file_name=f'{o}/a.png', width=8, height=6) for i,o in ((1,'east'), (2,'west'))] # image/a.png would do for both
    one_line(lambda: load_coco(coco(tmp_path, [], images)), 'images[1]', 'images[0]')


def test_a_promised_size_costs_no_memory(tmp_path):
    import tracemalloc
    chips = load_coco(coco(tmp_path, [ann([rect(1,1,4,4)])], [dict(id=1, file_name='image/a.png', width=9000, height=9000)]))['train']
    tracemalloc.start()
    try:
        for take in (lambda: chips[0], lambda: chips.instances(0)): one_line(take, 'train.json', 'differ in size')
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally: tracemalloc.stop()


def test_iscrowd_is_0_or_1(tmp_path):
    one_line(lambda: load_coco(coco(tmp_path, [ann([rect(1,1,4,4)], iscrowd='0')])), 'annotations[0]', 'iscrowd')


def test_outlines_that_hit_nothing_are_told(tmp_path):
    geo(tmp_path, [FIELD, box(500020, 4999970, 500030, 4999980)])
    one_line(lambda: load_geotiffs(tmp_path, column='kind', classes=('background','K0')), 'K0', 'k0, k1')
    one_line(lambda: load_geotiffs(tmp_path, classes=('background','a','b')), 'column=')
    assert class_shares(load_geotiffs(tmp_path, column='kind', classes=('background','k0','later'))['all'])['k0'] > 0 # Some may be absent
    one_line(lambda: load_geotiffs(geo(tmp_path/'far', [box(0, 0, 9, 9)])), 'o.geojson', 'coordinate system')


def test_what_is_kept_cannot_be_changed_from_outside(tmp_path):
    for chips in (load_coco(coco(tmp_path/'a', [ann([rect(1,1,4,4)])]))['train'], load_ships(ships(tmp_path/'b', [('a.jpg','1 3'), ('b.jpg','')]))['all']):
        i = next(i for i in range(len(chips)) if chips.instances(i).any())
        before = chips[i].mask.copy()
        chips.instances(i)[:] = 0
        assert (chips[i].mask == before).all() and before.any()


def test_names_too_long_for_a_path_are_one_line(): one_line(lambda: load_dataset('a'*300), 'cannot be read')


def test_masks_made_of_masks_name_the_chip(tmp_path):
    chips = load_coco(coco(tmp_path, [ann([rect(1,1,4,4)])]))['train']
    from satseg.data.chips import Chips
    bad = Chips([np.zeros((4,4,1))]*2, [np.full((4,4), 7, np.uint8)]*2, bands=('a',), names=['X','Y'], source='pile')
    one_line(lambda: bad[1:].with_masks(lambda m,i: m, ('a','b'))[0], 'pile: Y: mask')
    assert chips.with_masks(lambda m,i: i, ('a','b'))[0].mask.sum() == 16


def test_names_that_count_pixels_make_blocks_too():
    names = [f'a_{y}_{x}' for y in range(0, 2048, 256) for x in range(0, 2048, 256)]
    assert name_groups(names) == name_groups([f'a_{y}_{x}' for y in range(8) for x in range(8)])
    assert len(set(name_groups(names))) == 4 and name_groups(['a_0_0']) == ['a block 0,0']


# One meaning for a whole dataset

@pytest.mark.filterwarnings('ignore')
def test_255_means_one_thing_in_all_masks_of_a_dataset(tmp_path):
    masks = [np.array([[0,255],[255,0]]) for _ in range(250)]
    masks[1] = np.array([[0,255],[255,1]]) # One of them holds a 1: the rest have an unknown rim
    chips = load_folders(folders(tmp_path/'a', masks))['all']
    assert {int(o.mask[0,1]) for o in chips} == {255}
    for i,m in enumerate(([[0,255],[255,0]],[[0,255],[255,1]])):
        save_tif(tmp_path/'b'/f's{i}'/'B02.tif', np.ones((2,2), np.uint16))
        save(tmp_path/'b'/f's{i}'/'mask.png', m)
    assert [o.mask[0].tolist() for o in load_bands(tmp_path/'b')['all']] == [[0,255]]*2


def test_what_255_means_is_said_once(tmp_path):
    folders(tmp_path, [np.eye(2)*255]*3)
    with pytest.warns(UserWarning, match='255 in the masks is building, for no mask holds a 1') as said:
        assert [o.mask.max() for o in load_folders(tmp_path)['all']] == [1]*3
    assert len(said) == 1


def test_ignore_reaches_single_bands(tmp_path):
    from satseg.evaluation.open_dataset import load_parts
    from satseg.models.model_info import ModelInfo
    save_tif(tmp_path/'s'/'B02.tif', np.ones((2,2), np.uint16))
    save(tmp_path/'s'/'mask.png', np.eye(2)*255)
    info = ModelInfo(bands=['B02'], mean=[0.], std=[1.], classes=['background','ship'])
    assert load_parts(tmp_path/'s', 'bands', info, True, {})['all'][0].mask.tolist() == [[255,0],[0,255]]


def test_one_name_in_two_parts_is_no_leak(tmp_path):
    for part in 'train','val': folders(tmp_path/part, [np.eye(4)]*2)
    parts = load_folders(tmp_path)
    assert not set(parts['train'].groups) & set(parts['val'].groups)
    parts = load_folders(tmp_path, group='.')
    assert parts['train'].groups == parts['val'].groups == ['0','1']


# Many pictures

def test_many_ships_are_compared_by_landmarks(tmp_path, monkeypatch):
    import satseg.data.ships as formats
    seen = []
    monkeypatch.setattr(formats, 'find_overlaps', lambda pictures: seen.append(len(pictures)) or [(0,1,0,0)])
    names = [f'{i:05}.jpg' for i in range(3001)]
    groups = formats._ship_groups(names, names, 'overlap')
    assert seen == [3001] and groups[1] == groups[0] != groups[2]


def test_landmarks_find_what_all_pairs_find(real_data):
    chips,crops = load_ships(real_data/'ships', group=None)['all'],[]
    for i in range(0, 24, 2):
        a = chips.images[i]
        crops += [jpeg(np.ascontiguousarray(a[:512,:512]), 85), jpeg(np.ascontiguousarray(a[200:712,101:613]), 75)]
    assert find_overlaps(crops, exact=0) == find_overlaps(crops)
    assert find_overlaps(chips.images, exact=0) == find_overlaps(chips.images) == []
