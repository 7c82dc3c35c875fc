"""Pictures keep their numbers, and hostile ones end in one line."""
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from data_samples import one_line, rasterio, save, save_tif

from satseg.data.datasets import load_dataset
import satseg.data.pictures as pictures
from satseg.core.errors import MissingPackage, need
from satseg.data.pictures import picture_size, read_picture


def png_of(width, height):
    "A PNG that claims a size and has next to no data."
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind+data))
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'\0'*100)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('name,data,what', [('a.png', png_of(60000,60000), 'a.png'), ('a.png', png_of(13000,13000), 'damaged'),
    ('a.png', b'', 'another file'), ('a.png', b'GIF89a'+b'\0'*50, 'another file'), ('a.tif', b'<VRTDataset rasterXSize="1">', 'this is a VRT'),
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


def test_deep_pictures_keep_all_bits_and_alpha_goes_if_it_is_one(tmp_path):
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
        assert load_dataset(tmp_path/folder, kind)['all'].bands == ('R','G','B','NIR')[:3 if folder == 'png' else 4] # But it does not look like one
        chips = load_dataset(tmp_path/folder, kind, all_bands=('R','G','B','NIR'), bands=('NIR',))['all']
        assert (chips[0].image[0].ravel() == np.arange(3, 64, 4)).all()


@pytest.fixture(params=['rasterio','pillow'])
def reader(request, monkeypatch):
    "With rasterio, and without it."
    def need(module, extra): raise MissingPackage('expected the package rasterio, it is not installed')
    if request.param == 'pillow': monkeypatch.setattr(pictures, 'need', need)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg','.png','.tif'])
def test_photographs_are_read_upright(tmp_path, reader, suffix, turn):
    "EXIF 2.3, tag 274, as Pillow's exif_transpose undoes it; GDAL 3.10 leaves all of them as stored."
    im = Image.fromarray(np.kron(np.arange(6).reshape(2,3)*40, np.ones((16,16))).astype(np.uint8))
    exif = im.getexif()
    exif[274] = turn
    path = tmp_path/f'a{suffix}'
    im.save(path, exif=exif, **(dict(quality=95) if suffix == '.jpg' else {}))
    want = np.asarray(ImageOps.exif_transpose(im))
    if pictures.need is not need and suffix == '.tif' and turn >= 5: # Pillow 13.0 takes the rows apart in the wrong places
        one_line(lambda: read_picture(path), 'expected the package rasterio')
        return
    assert np.abs(read_picture(path)[0].astype(int) - want).max() < 8 and picture_size(path) == want.shape == ((32,48) if turn < 5 else (48,32))


def test_a_tag_of_a_placed_raster_turns_nothing(tmp_path):
    a = np.arange(12, dtype=np.uint8).reshape(3,4)
    save_tif(tmp_path/'a.tif', a[...,None])
    with Image.open(tmp_path/'a.tif') as im: tags = {k: v for k,v in im.tag_v2.items() if k > 30000}
    Image.fromarray(a).save(tmp_path/'b.tif', tiffinfo={**tags, 274: 6})
    assert (read_picture(tmp_path/'b.tif')[0] == a).all() and picture_size(tmp_path/'b.tif') == (3,4)


@pytest.mark.parametrize('bits,most', [(1,1), (4,15), (8,255)])
def test_zero_is_white_in_some_tiffs(tmp_path, reader, bits, most):
    "rasterio 1.4.4 gives the numbers as stored, Pillow 13 what is to be seen: a mask came out inverted."
    with rasterio.open(tmp_path/'a.tif', 'w', 'GTiff', 2, 1, 1, dtype='uint8', photometric='MINISWHITE', nbits=bits) as r: r.write(np.uint8([[[0,most]]]))
    a,palette = read_picture(tmp_path/'a.tif')
    assert a.astype(int).tolist() == [[most,0]] and palette is None


@pytest.mark.parametrize('bits', [1,2,4])
@pytest.mark.parametrize('driver', ['PNG','GTiff'])
def test_greys_of_few_bits_are_as_stored(tmp_path, reader, driver, bits):
    "Pillow 13 spreads 2 and 4 bits over 0 to 255, rasterio 1.4.4 does not."
    ids,path = np.arange(2**bits, dtype=np.uint8), tmp_path/f'a.{driver[-3:].lower().replace("iff", "tif")}'
    with rasterio.open(path, 'w', driver, len(ids), 1, 1, dtype='uint8', nbits=bits) as r: r.write(ids[None,None])
    assert read_picture(path)[0].astype(int).tolist() == [ids.tolist()]


def grey_png(path, a, bits, palette=None):
    "A grey PNG of 1, 2 or 4 bits, or one of a palette, as optipng and ImageMagick leave them."
    rows = b''.join(b'\0'+np.packbits(np.unpackbits(row[:,None], axis=1)[:,8-bits:].ravel()).tobytes() for row in a)
    def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    head = struct.pack('>IIBBBBB', a.shape[1], a.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n'+chunk(b'IHDR', head)+(chunk(b'PLTE', bytes(palette)) if palette else b'')+chunk(b'IDAT', zlib.compress(rows))+chunk(b'IEND', b''))


def gdal_file(path, a, bits, photometric=None, crs=None):
    driver,kw = ('PNG',{}) if path.suffix == '.png' else ('GTiff',dict(photometric=photometric))
    white = 2**bits-1 if photometric == 'MINISWHITE' else 0
    with rasterio.open(path, 'w', driver, 4, 4, 1, crs, rasterio.Affine(10, 0, 0, 0, -10, 0) if crs else rasterio.Affine.identity(), 'uint8', NBITS=bits, **kw) as r: r.write(white-a if white else a, 1)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('bits', [1,2,4])
def test_ids_of_masks_are_the_same_wherever_they_are_read(tmp_path, bits):
    "Pillow 12 spreads greys of few bits and turns white as zero; GDAL 3.10 does neither: ids are as seen, in folders, scenes and without rasterio."
    ids = (np.arange(16).reshape(4,4) % 2**bits).astype(np.uint8)
    names = [f'c{i}' for i in range(2**bits)]
    def pillow(**kw): return lambda path: Image.fromarray(ids > 0).save(path, **kw)
    ways = {'a.png': lambda o: grey_png(o, ids, bits), 'b.png': lambda o: grey_png(o, ids, bits, [9]*3*2**bits), 'c.png': lambda o: gdal_file(o, ids, bits)}
    for i,photometric in enumerate(('MINISBLACK','MINISWHITE')):
        for crs in (None,'EPSG:32633'): ways[f'd{i}{crs and 1}.tif'] = lambda o,p=photometric,c=crs: gdal_file(o, ids, bits, p, c)
    if bits == 1: ways |= {'e.tif': pillow(), 'f.tif': pillow(compression='group4'), 'g.png': pillow(), 'h.bmp': pillow()}
    for name,way in ways.items():
        folder,scene = tmp_path/name/'folder',tmp_path/name/'scene'
        for o in (folder/'images', folder/'masks', scene): o.mkdir(parents=True)
        Image.fromarray(np.zeros((4,4,3), np.uint8)).save(folder/'images'/'0.png')
        way(folder/'masks'/f'0{name[-4:]}')
        for b in ('B02','B03'): gdal_file(scene/f'{b}.tif', ids, 8, crs='EPSG:32633' if name.endswith('1.tif') else None)
        way(scene/f'mask{name[-4:]}')
        for o in (folder,scene): assert (load_dataset(o, classes=names)['all'][0].mask == ids).all(), name


@pytest.mark.parametrize('suffix', ['png','tif'])
@pytest.mark.parametrize('values,want', [((0,255), 1), ((0,1,255), 255)])
def test_white_means_one_thing_beside_masks_of_one_bit(tmp_path, suffix, values, want):
    "A mask of one bit says nothing about 255: compressors make one of any mask of two values."
    for o in ('images','masks'): (tmp_path/o).mkdir()
    for i in range(3): Image.fromarray(np.zeros((4,4,3), np.uint8)).save(tmp_path/'images'/f'{i}.png')
    for i in range(2): Image.fromarray(np.resize(np.uint8(values), (4,4))).save(tmp_path/'masks'/f'{i}.png')
    Image.fromarray(np.eye(4) > 0).save(tmp_path/'masks'/f'2.{suffix}')
    with pytest.warns(UserWarning, match='255 in the masks is '): masks = [o.mask for o in load_dataset(tmp_path)['all']]
    assert masks[0].max() == want and (masks[2] == np.eye(4)).all()
