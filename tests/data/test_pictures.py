"""Pictures keep their numbers, and hostile ones end in one line."""
import struct
import zlib

import numpy as np
import pytest
from data_samples import one_line, rasterio, save, save_tif

from satseg.data.datasets import load_dataset
from satseg.data.pictures import read_picture


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
