"""How rasters are stored: turned, mirrored, with 0 as white, in few bits: one answer for chips, masks and scenes."""
import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from satseg.data.chip_images import lazy_pictures
from satseg.data.pictures import read_image, read_mask
from satseg.data.rasters import stored_window, upright
from satseg.scenes.scene import open_scene

rasterio = pytest.importorskip('rasterio')
from rasterio.transform import Affine


def whole(scene): return scene.read((0, 0, scene.height, scene.width))[0]


def read_by_windows(scene, size=7):
    x = np.zeros((len(scene.bands),scene.height,scene.width))
    for row in range(0, scene.height, size):
        for col in range(0, scene.width, size):
            h,w = min(size, scene.height-row),min(size, scene.width-col)
            x[:, row:row+h, col:col+w] = scene.read((row,col,h,w))[0]
    return x


@pytest.mark.parametrize('suffix', ['jpg','png','tif'])
@pytest.mark.parametrize('turn', range(1, 9))
def test_photographs_are_read_as_a_viewer_shows_them(tmp_path, turn, suffix):
    y,x = np.mgrid[:20,:30]
    path,im = tmp_path/f'a.{suffix}',Image.fromarray(np.stack([8*x, 12*y, 5*(x+y)], 2).astype(np.uint8))
    exif = im.getexif()
    exif[274] = turn
    im.save(path, exif=exif, **dict(quality=95, subsampling=0) if suffix == 'jpg' else {})
    with Image.open(path) as stored: seen = np.asarray(stored if suffix == 'tif' else ImageOps.exif_transpose(stored)) # Pillow turns TIFFs
    scene = open_scene(str(path), ('R','G','B'))
    for a in (np.moveaxis(read_by_windows(scene), 0, -1), lazy_pictures([path])[0][0], read_image(path)):
        assert a.shape == seen.shape and np.abs(a-seen.astype(float)).max() <= 4*(suffix == 'jpg') # Decoders differ a little
    assert any('stored turned (EXIF), and mapped upright' in o for o in scene.remarks) == (turn > 1)
    assert scene.cache_for(16) < 64e6


def test_windows_of_all_turns():
    a = np.arange(12).reshape(3,4)
    for turn in range(1, 9):
        row,col,h,w = stored_window((1,0,2,3), a.shape, turn)
        assert np.array_equal(upright(a[row:row+h, col:col+w], turn), upright(a, turn)[1:3,0:3]), turn


@pytest.mark.parametrize('t', [Affine(10,0,500000, 0,-10,5000000), Affine(10,0,500000, 0,10,5000000), Affine(-10,0,500000, 0,-10,5000000),
                               Affine(-10,0,500000, 0,10,5000000), Affine(8,6,500000, 6,-8,5000000), Affine(0,10,500000, 10,0,5000000)])
def test_pixels_of_a_scene_lie_where_its_file_says(tmp_path, t):
    "Each reading is made of its own place on the ground."
    x,y = np.meshgrid(np.arange(12)+.5, np.arange(9)+.5)
    ground = np.float32([t.a*x+t.b*y, t.d*x+t.e*y])
    with rasterio.open(tmp_path/'a.tif', 'w', 'GTiff', 12, 9, 2, 'EPSG:32633', t, np.float32) as r: r.write(ground)
    scene = open_scene(str(tmp_path/'a.tif'))
    a,s = read_by_windows(scene),scene.transform
    x,y = np.meshgrid(np.arange(scene.width)+.5, np.arange(scene.height)+.5)
    assert np.allclose(a, [s.a*x+s.b*y+s.c-500000, s.d*x+s.e*y+s.f-5000000], atol=.01)
    assert np.array_equal(np.moveaxis(lazy_pictures([tmp_path/'a.tif'])[0][0], -1, 0), a)


@pytest.mark.parametrize('bits', [1,2,4,8,16])
@pytest.mark.parametrize('name', ['black.tif','white.tif','grey.png'])
def test_greys_of_few_bits_are_the_same_everywhere(tmp_path, bits, name):
    a = (np.arange(600).reshape(20,30) % 2**bits).astype('uint16' if bits == 16 else 'uint8')
    kw = dict(photometric='MINISWHITE') if name == 'white.tif' else {}
    with rasterio.open(tmp_path/name, 'w', 'PNG' if name.endswith('png') else 'GTiff', 30, 20, 1, dtype=a.dtype, nbits=bits, **kw) as r: r.write(a, 1)
    want = 2**bits-1-a if name == 'white.tif' and bits < 16 else a # As numbers of 16 bits are readings
    assert np.array_equal(read_mask(tmp_path/name, range(2**bits))[0], want)
    assert np.array_equal(lazy_pictures([tmp_path/name])[0][0][...,0], want)
    assert np.array_equal(whole(open_scene(str(tmp_path/name)))[0], want)


def test_coordinates_win_against_a_tag_orientation(tmp_path):
    "GDAL and QGIS ignore the tag; Pillow turns pixels by it, and leaves the coordinates."
    a = np.arange(108, dtype=np.uint8).reshape(9,12)
    with rasterio.open(tmp_path/'a.tif', 'w', 'GTiff', 12, 9, 1, 'EPSG:32633', Affine(10,0,500000, 0,-10,5000000), 'uint8') as r: r.write(a, 1)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    with Image.open(tmp_path/'a.tif') as im:
        for k in (33550,33922,34735,34737): info[k],info.tagtype[k] = im.tag_v2[k],im.tag_v2.tagtype[k]
    info[274] = 6
    Image.fromarray(a).save(tmp_path/'b.tif', tiffinfo=info)
    scene = open_scene(str(tmp_path/'b.tif'))
    assert np.array_equal(whole(scene)[0], a) and scene.transform.a == 10 and not any('EXIF' in o for o in scene.remarks)
    assert np.array_equal(lazy_pictures([tmp_path/'b.tif'])[0][0][...,0], a) and np.array_equal(read_mask(tmp_path/'b.tif', range(256))[0], a)
