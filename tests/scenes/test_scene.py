"""Scenes of every kind opened and read; strangers' files that lead elsewhere, promise too much or are damaged; areas, offsets, statistics."""
import http.server, json, os, re, shutil, sqlite3, struct, threading
from pathlib import Path

import numpy as np
import pytest

from scene_samples import at

from satseg.core.errors import BadInput
from satseg.data.bands import aliases, find_sensor
from satseg.data.calibration import sentinel2_offset
from satseg.data.products import Band, pick_bands
from satseg.data.rasters import open_raster
from satseg.models.statistics import compare_statistics
from satseg.scenes.sources import find_scenes
from satseg.scenes.scene import open_scene

rasterio = pytest.importorskip('rasterio')
geopandas = pytest.importorskip('geopandas')
import shapely
from rasterio.transform import from_origin

BGR = 'B02','B03','B04'
NAMES = 'blue','green','red'


def save(path, a, names=(), size=10, crs='EPSG:32633', x=500000, y=5000000, transform=None, **kw):
    a = np.asarray(a)
    a = a.reshape(-1, *a.shape[-2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = transform or (from_origin(x, y, size, size) if crs else rasterio.Affine.identity())
    with rasterio.open(path, 'w', 'GTiff', a.shape[2], a.shape[1], len(a), crs, transform, a.dtype, **kw) as r:
        r.write(a)
        if names: r.descriptions = names
    return path


def one_line(function, *contains):
    "The error of `function`: `BadInput`, one line, with all of `contains`."
    with pytest.raises(BadInput) as e: function()
    text = str(e.value)
    assert '\n' not in text and len(text) < 700, text
    for o in contains: assert o in text, text
    return text


def found(sources): return [str(o) for o in find_scenes(sources)]


def names_of(sources): return [o.name for o in find_scenes(sources)]


def whole(scene, **kw): return scene.read((0, 0, scene.height, scene.width), **kw)


def numbers(*shape, dtype='uint16', top=3000, seed=0): return np.random.default_rng(seed).integers(1, top, shape).astype(dtype)


def vrt(*bands, tag='SimpleSource', size=4):
    inner = ''.join(f'<VRTRasterBand dataType="UInt16" band="{i}"><{tag}>{o}</{tag}></VRTRasterBand>' for i,o in enumerate(bands, 1))
    return f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{inner}</VRTDataset>'


def source(name): return f'<SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand>'


# Files that lead elsewhere

PYTHON = '''<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">
<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[
def f(in_ar, out_ar, *args, **kw):
    open({!r}, 'w').write('executed')
    out_ar[:] = 1
]]></PixelFunctionCode></VRTRasterBand></VRTDataset>'''


def test_code_in_a_vrt_never_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('GDAL_VRT_ENABLE_PYTHON', 'YES')
    (tmp_path/'a.vrt').write_text(PYTHON.format(str(tmp_path/'mark')))
    one_line(lambda: open_raster(tmp_path/'a.vrt', vrt=True), 'refuses a VRT')
    (tmp_path/'b.vrt').write_text(vrt(source('a.vrt')))
    one_line(lambda: open_scene(str(tmp_path/'b.vrt')), 'a.vrt: refuses a VRT')
    (tmp_path/'c.vrt').write_text(re.sub(r'<!.*\]>', '', PYTHON, flags=re.S))
    one_line(lambda: open_raster(tmp_path/'c.vrt', vrt=True), "refuses a VRT with 'PixelFunctionLanguage'")
    with rasterio.open(tmp_path/'a.vrt') as r: # Our settings hold even where such a file is opened after all
        from satseg.data.rasters import gdal_settings
        with gdal_settings(), pytest.raises(Exception): r.read(1)
    assert not (tmp_path/'mark').exists()


MRF = '<MRF_META><CachedSource><Source>{}</Source></CachedSource><Raster><Size x="8" y="8" c="1"/><PageSize x="8" y="8" c="1"/></Raster></MRF_META>'
AWAY = {'wms.tif': '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>', 'wms.jp2': '\ufeff \n<WMS_Capabilities/>',
        'stacta.tif': '{"type": "Feature", "stac_version": "1.0.0"}', 'gti.vrt': '<GDALTileIndexDataset><IndexDataset>x.gpkg</IndexDataset></GDALTileIndexDataset>'}


@pytest.mark.parametrize('name', AWAY)
def test_texts_that_lead_elsewhere_are_refused_alone_and_in_a_vrt(tmp_path, name):
    (tmp_path/name).write_text(AWAY[name])
    one_line(lambda: open_raster(tmp_path/name, vrt=True), 'lead elsewhere')
    (tmp_path/'out.vrt').write_text(vrt(source(name)))
    one_line(lambda: open_raster(tmp_path/'out.vrt', vrt=True), 'lead elsewhere')


def test_a_cached_source_writes_no_cache(tmp_path):
    save(tmp_path/'a.tif', numbers(8, 8))
    (tmp_path/'b.mrf').write_text(MRF.format(tmp_path/'a.tif'))
    one_line(lambda: open_raster(tmp_path/'b.mrf', vrt=True), 'lead elsewhere')
    assert sorted(o.name for o in tmp_path.iterdir()) == ['a.tif','b.mrf']


STRANGE = {'net': source('/vsicurl/http://127.0.0.1:9/a.tif'), 'missing': source('none.tif'), 'command': source('NETCDF:a.nc:x'), 'inline': source('&lt;VRTDataset/&gt;'),
    'self': source('x.vrt'), 'folder': source('.'), 'empty': source(''), 'nul': source('a.tif\0b')}


@pytest.mark.parametrize('kind', STRANGE)
def test_a_vrt_names_plain_files_or_is_refused(tmp_path, kind):
    save(tmp_path/'a.tif', numbers(4, 4))
    (tmp_path/'x.vrt').write_text(vrt(STRANGE[kind]))
    one_line(lambda: open_raster(tmp_path/'x.vrt', vrt=True), 'x.vrt: ')


def test_a_vrt_of_a_vrt_is_fine(tmp_path):
    a = numbers(4, 4)
    save(tmp_path/'in'/'a.tif', a)
    (tmp_path/'in'/'b.vrt').write_text(vrt(source('a.tif')))
    (tmp_path/'c.vrt').write_text(vrt(source('in/b.vrt')))
    assert (whole(open_scene(str(tmp_path/'c.vrt')))[0] == a).all()
    assert [Path(o[0]).name for o in open_scene(str(tmp_path/'in'/'b.vrt')).identity] == ['a.tif','b.vrt']


def test_bands_of_a_vrt_are_named_by_their_files(tmp_path):
    for i,b in enumerate(BGR): save(tmp_path/f'S2_{b}_10m.tif', np.full((4,4), i, np.uint16))
    (tmp_path/'stack.vrt').write_text(vrt(*(source(f'S2_{b}_10m.tif') for b in BGR)))
    assert whole(open_scene(str(tmp_path/'stack.vrt'), ('B04','B02')))[0][:,0,0].tolist() == [2,0]


@pytest.mark.parametrize('name', ['/vsizip/a.zip/b.tif','/vsicurl/http://a.b/c.tif','https://a.b/c.tif','s3://a/b.tif','NETCDF:"a.nc":x','GTIFF_DIR:1:a.tif',
                                  '<VRTDataset/>','MEM:::DATAPOINTER=0,PIXELS=9,LINES=9','a\0b','x'*5000,'','/dev/zero','a.tif,b.tif','a.json#x','**'])
def test_strange_sources(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    one_line(lambda: open_scene(name))
    (tmp_path/'list.txt').write_text(f'# comment\n\n{name or "#"}\n')
    one_line(lambda: find_scenes(['list.txt']) and open_scene(find_scenes(['list.txt'])[0]))


def test_a_file_named_like_a_command_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path('MEM:a'), numbers(3, 3))
    assert open_scene('MEM:a').height == 3
    os.mkfifo('pipe.tif')
    one_line(lambda: open_scene('pipe.tif'), 'no such file')


# Files that promise too much, or are damaged

def tiff(width, height, tile):
    "A TIFF of one tile of 4 bytes, whatever it promises."
    tags = [(256,4,width),(257,4,height),(258,3,8),(259,3,8),(262,3,1),(277,3,1),(322,4,tile),(323,4,tile),(324,4,8),(325,4,4)]
    return b'II*\0' + struct.pack('<I', 12) + b'abcd' + struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', t, k, 1, v) for t,k,v in tags) + bytes(4)


def test_huge_promises(tmp_path):
    (tmp_path/'tile.tif').write_bytes(tiff(60000, 60000, 46080))
    one_line(lambda: open_scene(str(tmp_path/'tile.tif')), 'pieces of 2,123,366,400 bytes: write it tiled')
    (tmp_path/'big.vrt').write_text(vrt(source('a.tif'), size=2**31-1))
    save(tmp_path/'a.tif', numbers(4, 4))
    one_line(lambda: open_scene(str(tmp_path/'big.vrt')), 'more than a scene may have')
    (tmp_path/'lie.tif').write_bytes(tiff(1000, 1000, 1024))
    one_line(lambda: whole(open_scene(str(tmp_path/'lie.tif'))))


def npy(head): return b'\x93NUMPY\x01\0' + struct.pack('<H', len(head)+1) + head.encode() + b'\n' + bytes(64)


@pytest.mark.parametrize('data', [npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,3)}"), npy("{'descr': '<u2', 'fortran_order': False, 'shape': (10**9,10**9)}"),
    npy("{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,3)}"), npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1000000,1000000,3)}"),
    npy("{'descr': '<c8', 'fortran_order': False, 'shape': (2,2)}"), npy("{'descr': [('a','<u2')], 'fortran_order': False, 'shape': (2,2)}"),
    npy("{'descr': '<u2', 'fortran_order': False, 'shape': (4,)}"), npy("{'descr': '<u2', 'fortran_order': False, 'shape': (0,4)}"), npy("{'descr': '<M8[s]', "
    "'fortran_order': False, 'shape': (2,2)}"), npy('__import__("os").system("true")'), b'\x93NUMPY', b'', b'\x80\x04N.', b'PK\x03\x04'+bytes(40)])
def test_arrays_that_are_none(tmp_path, data):
    (tmp_path/'a.npy').write_bytes(data)
    one_line(lambda: open_scene(str(tmp_path/'a.npy')), 'a.npy: ')


def test_pickles_in_arrays_are_not_opened(tmp_path):
    class Evil:
        def __reduce__(self): return open, (str(tmp_path/'mark'), 'w')
    np.save(tmp_path/'a.npy', np.array([[Evil()]], object), allow_pickle=True)
    one_line(lambda: open_scene(str(tmp_path/'a.npy')), 'this is damaged or none')
    np.savez(tmp_path/'b.npz', a=np.zeros(3))
    (tmp_path/'b.npz').rename(tmp_path/'b.npy')
    one_line(lambda: open_scene(str(tmp_path/'b.npy')), 'archive')
    assert not (tmp_path/'mark').exists()


@pytest.mark.parametrize('kw', [dict(tiled=True, blockxsize=64, blockysize=64, compress='deflate'), dict(compress='lzw')])
def test_a_damaged_window_is_named_and_others_still_read(tmp_path, kw):
    path = save(tmp_path/'a.tif', numbers(256, 256), **kw)
    data = bytearray(path.read_bytes())
    data[-3000:] = b'\xff'*3000
    path.write_bytes(data)
    with open_scene(str(path)) as scene:
        assert scene.read((0,0,64,64))[1].all()
        one_line(lambda: scene.read((192,192,64,64)), 'a.tif: rows 192 to 255, columns 192 to 255 cannot be read')
    path.write_bytes(data[:5000])
    one_line(lambda: whole(open_scene(str(path))), 'a.tif')


def test_random_damage_is_one_line_or_a_picture(tmp_path):
    path,rng = save(tmp_path/'a.tif', numbers(3, 64, 64), names=NAMES, tiled=True, blockxsize=32, blockysize=32, compress='deflate', nodata=0),np.random.default_rng(1)
    good = path.read_bytes()
    for _ in range(150):
        data = bytearray(good)
        for i in rng.integers(0, min(len(data), 2000), 6): data[i] = rng.integers(256)
        (tmp_path/'b.tif').write_bytes(data)
        try:
            scene = open_scene(str(tmp_path/'b.tif'))
            x,ok = scene.read((0,0,min(scene.height, 64),min(scene.width, 64)))
            assert np.isfinite(x).all() and x.dtype == np.float32
        except BadInput as e: assert '\n' not in str(e)


# Metadata and neighbours that lead elsewhere

@pytest.fixture
def web():
    "Addresses that were asked for on a server of this machine."
    asked = []
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)
        do_HEAD = do_GET
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, args=(.01,), daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()


def overviews(value): return f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{value}</MDI></Metadata>'


@pytest.mark.parametrize('start', ['/vsicurl/','/&#118;sicurl/',''])
@pytest.mark.parametrize('kind', ['tag','aux','vrt','inner','ovr','msk'])
def test_overviews_elsewhere_are_refused_before_anybody_is_asked(tmp_path, web, start, kind):
    address = f'{start}{web[0]}/a_none'
    path = save(tmp_path/'x_B11.tif', numbers(4, 4), size=20)
    save(tmp_path/'x_B04.tif', numbers(8, 8))
    if kind in ('tag','inner'):
        with rasterio.open(path, 'r+') as r: r.update_tags(ns='OVERVIEWS', OVERVIEW_FILE=address)
    if kind == 'aux': (tmp_path/'x_B11.tif.aux.xml').write_text(f'<PAMDataset>{overviews(address)}</PAMDataset>')
    if kind in ('ovr','msk'): (tmp_path/f'x_B11.tif.{kind}').write_text(AWAY['wms.tif'].replace('http://127.0.0.1:9', web[0]))
    if kind in ('vrt','inner'):
        path = path.rename(tmp_path/'p.tif').with_name('x_B11.vrt')
        path.write_text(vrt(source('p.tif')).replace('><VRTR', f'>{overviews(address) if kind == "vrt" else ""}<VRTR', 1))
    one_line(lambda: whole(open_scene(str(path))))
    one_line(lambda: whole(open_scene(str(tmp_path), ('B04','B11'))))
    assert not web[1]


def test_slips_in_a_vrt_are_named(tmp_path):
    save(tmp_path/'a.tif', numbers(4, 4))
    def check(text, *contains):
        (tmp_path/'x.vrt').write_text(text)
        one_line(lambda: open_raster(tmp_path/'x.vrt', vrt=True), 'x.vrt: refuses a VRT', *contains)
    good = vrt(source('a.tif'))
    check(good.replace('<VRTR', '<SRS>http://127.0.0.1:9/a</SRS><VRTR', 1), 'http')
    check(good.replace('<VRTR', '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">b.tif</MDI></Metadata><VRTR', 1), 'X_DATASET')
    (tmp_path/'x.vrt').write_text('<?xml version="1.0"?>\n' + good.replace('<VRTR', '<Metadata><MDI key="see">https://a.b &amp; c</MDI></Metadata><VRTR', 1))
    assert whole(open_scene(str(tmp_path/'x.vrt')))[1].all()


def test_vrts_of_the_usual_tools_open(tmp_path):
    a = numbers(16, 16)
    path = save(tmp_path/'a.tif', a, nodata=0)
    import rasterio.shutil
    rasterio.shutil.copy(path, tmp_path/'b.vrt', driver='VRT')
    assert (whole(open_scene(str(tmp_path/'b.vrt')))[0] == a).all()
    from rasterio.vrt import WarpedVRT
    with rasterio.open(path) as r, WarpedVRT(r, crs='EPSG:32634') as w: rasterio.shutil.copy(w, tmp_path/'c.vrt', driver='VRT')
    assert whole(open_scene(str(tmp_path/'c.vrt')))[1].any()


ISIS = """Object = IsisCube
  Object = Core
    StartByte = 1
    ^Core = {}
    Format = BandSequential
    Group = Dimensions
      Samples = 4
      Lines = 4
      Bands = 1
    End_Group
    Group = Pixels
      Type = UnsignedByte
      ByteOrder = Lsb
      Base = 0.0
      Multiplier = 1.0
    End_Group
  End_Object
End_Object
End
"""


@pytest.mark.parametrize('name', ['a.cub','a.tif'])
def test_formats_that_name_other_files_are_refused(tmp_path, name):
    (tmp_path/'secret.txt').write_text('A'*400)
    (tmp_path/'d').mkdir()
    (tmp_path/'d'/name).write_text(ISIS.format('../secret.txt'))
    one_line(lambda: open_raster(tmp_path/'d'/name, vrt=True), 'GTiff')
    (tmp_path/'b.vrt').write_text(vrt(source(f'd/{name}')))
    one_line(lambda: open_raster(tmp_path/'b.vrt', vrt=True), 'lead elsewhere')


def test_every_file_of_a_scene_is_in_its_identity(tmp_path):
    save(tmp_path/'a.tif', numbers(4, 4))
    (tmp_path/'b.vrt').write_text(vrt(source('a.tif')))
    (tmp_path/'c.vrt').write_text(vrt(source('b.vrt')))
    shape = area(tmp_path/'s.shp', shapely.box(14, 44, 16, 46))
    (tmp_path/'d.vrt').write_text(vrt(source('c.vrt')).replace('<VRTR', '<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform><VRTR', 1))
    names = {Path(o[0]).name for o in open_scene(str(tmp_path/'d.vrt'), aoi=shape).identity}
    assert {'a.tif','b.vrt','c.vrt','d.vrt','s.shp','s.shx','s.dbf','s.prj'} <= names


# Finding scenes

def test_find_scenes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for b in BGR: save(Path('one')/f'{b}.tif', numbers(4, 4))
    for i in '12': save(Path('many')/f'tile_B{i}.tif', numbers(3, 4, 4)) # No bands: cells of a grid
    Path('many/notes.doc').write_text('x')
    assert found('one') == ['one'] and found(['one/B02.tif']) == ['one/B02.tif']
    assert found(['many']) == found('many/*') == ['many/tile_B1.tif','many/tile_B2.tif']
    assert found(['one/B04.tif,one/B02.tif']) == ['one/B04.tif,one/B02.tif']
    Path('sub').mkdir()
    Path('sub/list.txt').write_text('../one\n\n# no\n../many/tile_*.tif\n')
    assert len(found('sub/list.txt')) == 3
    assert found(['one','one','sub/list.txt']) == ['one', *found('sub/list.txt')[1:]] # However it is named
    one_line(lambda: found([]), 'got none')
    one_line(lambda: found('none*.tif'), 'found nothing')
    Path('loop.txt').write_text('loop.txt\n')
    one_line(lambda: found('loop.txt'), 'loop.txt: line 1: ', 'a list in a list')
    Path('bad.txt').write_text('one\nnowhere.tif\n')
    assert found('bad.txt') == ['one','nowhere.tif'] # Its own turn says that it is missing; the others are mapped
    one_line(lambda: open_scene('nowhere.tif'), 'nowhere.tif: ')
    Path('empty').mkdir()
    one_line(lambda: found('empty'), 'found none')
    one_line(lambda: open_scene('many'), 'expected one scene, found 2')


def test_names_are_safe_and_different(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for o in 'a','b': save(Path(o)/'scene.tif', numbers(4, 4))
    for b in BGR: save(Path('T32 ö')/f'{b}.tif', numbers(4, 4))
    assert names_of(['a/scene.tif','b/scene.tif']) == ['scene','scene-2']
    assert names_of(['T32 ö/B02.tif,T32 ö/B03.tif','T32 ö']) == ['T32_ö','T32_ö-2']
    Path('i.json').write_text(json.dumps(dict(type='Feature', id='../../etc/x', assets=dict(a=dict(href='a/scene.tif')))))
    (one,) = find_scenes('i.json')
    assert one.name == 'etc_x' and open_scene(one).spec['source'].endswith('i.json#../../etc/x')
    assert open_scene(**open_scene(one, name='mine').spec).name == 'mine'


def test_files_with_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for o in 'a,b.tif','a#b.tif','a[1].tif','ä b.tif': assert open_scene(str(save(Path(o), numbers(3, 3)))).height == 3
    assert len(find_scenes('a*.tif')) == 3


# STAC

def item(id='s', props={}, **assets): return dict(type='Feature', id=id, properties=props, assets=assets)
def asset(href, **kw): return dict(href=href, type='image/tiff', **kw)


def test_stac_items(tmp_path):
    for i,b in enumerate(('red','green','nir')): save(tmp_path/'data'/f'{b}.tif', np.full((4,4), 2000+i, np.uint16))
    save(tmp_path/'data'/'tci x.tif', numbers(3, 4, 4, dtype='uint8', top=255))
    new = {'s2:processing_baseline': '04.00'}
    assets = dict(B04=asset('data/red.tif', **{'eo:bands': [dict(name='B04', common_name='red')]}), green=asset('./data/green.tif'), nir=asset('data/nir.tif'),
        tci=asset('data/tci%20x.tif', **{'eo:bands': [dict(name='B04'), dict(name='B03'), dict(name='B02')]}), look=asset('http://a.b/c.png', roles=['thumbnail']),
        far=asset('https://a.b/B11.tif', bands=[dict(name='B11')]), meta=dict(href='x.xml', type='application/xml'))
    path = tmp_path/'items.json'
    path.write_text(json.dumps(dict(type='FeatureCollection', features=[item('new', new, **assets), item('done', {**new, 'earthsearch:boa_offset_applied': True}, **assets)])))
    a,b = find_scenes(path)
    assert whole(open_scene(a, ('B08','red','B03')))[0][:,0,0].tolist() == [1002,1000,1001]
    assert open_scene(b, ('red',)).read((0,0,1,1))[0] == 2000
    assert whole(open_scene(a, ('B02',)))[0].max() < 255 # Only the picture has blue
    one_line(lambda: open_scene(a, ('B11',)), 'https://a.b/B11.tif: expected a local file: download it first')
    one_line(lambda: open_scene(a, ('B12',)), 'expected a band B12')
    one_line(lambda: open_scene(f'{path}#none'), "expected an item 'none', found new, done")
    assert str(path) in [o[0] for o in open_scene(a, ('B04',)).identity]


def test_stac_lone_asset_names_its_bands_itself(tmp_path):
    save(tmp_path/'a.tif', numbers(3, 4, 4), names=NAMES)
    (tmp_path/'i.json').write_text(json.dumps(item(data=asset('a.tif'))))
    assert open_scene(find_scenes(tmp_path/'i.json')[0], ('B04',)).bands == ('B04',)


@pytest.mark.parametrize('data', [[], {}, dict(type='Catalog', links=[]), dict(type='FeatureCollection', features=[1]), dict(type='FeatureCollection', features={}),
    item(''), item('a\nb', x=asset('a.tif')), item(7), dict(item(), assets=[1]), item(), item(a=7), item(a=dict(href=7)), item(a=dict(href='a.xml')), item(a=asset('\0')),
    item(a=asset('a.tif', nodata=10**400)), item(a=asset('a.tif', **{'raster:bands': [dict(nodata=10**400, scale='1e999')]})),
    item(a=asset('file:///etc/passwd')), item(a=asset('/vsicurl/http://a.b')), item(a=asset('a.tif', roles=7, bands=7)), item(a=asset('a.tif', bands=[7,{'name': 7}])),
    dict(type='FeatureCollection', features=[item(a=asset('a.tif'))]*2), dict(item(a=asset('a.tif')), properties=[1])])
def test_stac_slips_are_one_line(tmp_path, data):
    (tmp_path/'i.json').write_text(json.dumps(data))
    one_line(lambda: [whole(open_scene(o, ('B04',))) for o in find_scenes(tmp_path/'i.json')])


# Bands

def test_bands_by_name_in_any_order(tmp_path):
    a = numbers(3, 5, 7)
    path = str(save(tmp_path/'a.tif', a, names=('B4, central wavelength 665 nm','Green (B3)','B02')))
    assert (whole(open_scene(path, BGR))[0] == a[[2,1,0]]).all()
    assert (whole(open_scene(path, ('B02','B04')))[0] == a[[2,0]]).all()
    assert (whole(open_scene(path, ('B08','B02'), dict(B08=2)))[0] == a[[1,2]]).all()
    assert (whole(open_scene(path, ('B08','B02'), dict(B08='green')))[0] == a[[1,2]]).all()
    assert open_scene(path).bands == ('B4','Green','B02')
    one_line(lambda: open_scene(path, ('B02','B08')), 'expected a band B08, found B4, Green, B02', '--bands B08=NUMBER')
    one_line(lambda: open_scene(path, ('B02',), dict(B02=4)), 'from 1 to 3')
    one_line(lambda: open_scene(path, ('B02',), dict(B02=0)), 'from 1 to 3')
    one_line(lambda: open_scene(path, ('B02','B08'), dict(B08='nir')), 'expected a band nir, found B4', '--bands B08=NUMBER (from 1) or B08=NAME')
    one_line(lambda: open_scene(path, ('B02',), dict(B03=1)), '--bands: expected some of B02, got B03')
    one_line(lambda: open_scene(path, ('B02','B02')), 'every name once')
    save(tmp_path/'b.tif', a, names=('red','red','green'))
    one_line(lambda: open_scene(str(tmp_path/'b.tif'), ('B04',)), '2 bands go by it')


def test_bands_without_names(tmp_path):
    a = numbers(3, 5, 7)
    path = str(save(tmp_path/'a.tif', a))
    scene = open_scene(path, BGR)
    assert (whole(scene)[0] == a).all() and 'taken as B02,B03,B04' in scene.remarks[0]
    one_line(lambda: open_scene(path, ('B04',)), 'expected a band B04, found band1, band2, band3')
    assert open_scene(path).bands == ('band1','band2','band3')
    save(tmp_path/'b.tif', a.astype('uint8'), photometric='rgb')
    assert (whole(open_scene(str(tmp_path/'b.tif'), BGR))[0] == a[::-1].astype('uint8')).all()
    assert (whole(open_scene(str(tmp_path/'b.tif'), ('NIR','R','G')))[0] == a.astype('uint8')).all() # False colours: no R,G,B
    save(tmp_path/'c.tif', numbers(13, 4, 4))
    assert (whole(open_scene(str(tmp_path/'c.tif'), ('B12','B8A')))[0] == numbers(13, 4, 4)[[12,8]]).all()
    save(tmp_path/'d.tif', numbers(4, 4, 4))
    one_line(lambda: open_scene(str(tmp_path/'d.tif'), BGR), 'expected a band B02, found band1')
    save(tmp_path/'e.tif', numbers(3, 4, 4), names=('Band 1','Band 2','Band 3'))
    assert open_scene(str(tmp_path/'e.tif'), BGR).remarks


def test_half_an_order_is_none(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(3, 4, 4)))
    one_line(lambda: open_scene(path, BGR, dict(B02=3)), 'expected a band B03, found band1')
    assert (whole(open_scene(path, BGR, dict(B02=3, B03=2, B04=1)))[0] == numbers(3, 4, 4)[::-1]).all()


def test_words_that_only_begin_like_a_colour():
    for o in 'Red Edge','Red edge 1','Near infrared','infra-red','Band 5 - red': assert not {'RED','R'} & {n.upper() for n in aliases(o)}, o
    for o in 'Red','red (665 nm)','B4 red','B04 - whatever','B04_10m': assert {'RED','B4','B04'} & {n.upper() for n in aliases(o)}, o
    for o in 'mosaic_red','x-B04_10m': assert {'RED','B04'} & {n.upper() for n in aliases(o, stem=True)}, o
    for o in 'std_red','QA_red','cloud_B02','delta_B04': assert aliases(o) == (o,) # Of red or blue, but not it
    one_line(lambda: pick_bands([Band('a', 1, aliases('Red Edge'))], ('B04',)), 'found Red Edge')


def test_a_pile_of_vrts_is_no_bomb(tmp_path):
    save(tmp_path/'0.vrt', numbers(4, 4))
    for i in range(1, 60): (tmp_path/f'{i}.vrt').write_text(vrt(source(f'{i-1}.vrt'), source(f'./{i-1}.vrt'), source(f'.//{i-1}.vrt')))
    from satseg.data.rasters import check_pointer
    check_pointer(tmp_path/'59.vrt')


def test_one_band_of_several_files_gives_a_hint(tmp_path):
    for b in BGR: save(tmp_path/f'{b}.tif', numbers(4, 4))
    one_line(lambda: open_scene(str(tmp_path/'B02.tif'), BGR), 'expected a band B03, found B02', 'give the folder')
    joined = ','.join(str(tmp_path/f'{b}.tif') for b in BGR)
    assert open_scene(joined, ('B04',)).bands == ('B04',) and open_scene(joined).bands == BGR
    save(tmp_path/'x'/'one.tif', numbers(4, 4)); save(tmp_path/'x'/'two.tif', numbers(4, 4, seed=1))
    scene = open_scene(f'{tmp_path}/x/one.tif,{tmp_path}/x/two.tif', ('B04','B08'), dict(B04='two', B08=1))
    assert (whole(scene)[0] == np.stack([numbers(4, 4, seed=1), numbers(4, 4)])).all()


def test_landsat_numbers_mean_what_the_satellite_says(tmp_path):
    for sat,red in (('LC08',4),('LE07',3)):
        for i in (2,3,4,5): save(tmp_path/sat/f'{sat}_L2SP_190028_20200101_02_T1_SR_B{i}.TIF', np.full((4,4), i, np.uint16))
        assert whole(open_scene(str(tmp_path/sat), ('B04',)))[0].max() == red
    assert whole(open_scene(str(tmp_path/'LC08'), ('B5',)))[0].max() == 5 # The number that only Landsat has still counts
    one_line(lambda: open_scene(str(tmp_path/'LE07'), ('B02','B8A')), 'expected a band B02')
    stack = str(save(tmp_path/'stack.tif', numbers(2, 4, 4), names=('SR_B3','SR_B4')))
    one_line(lambda: open_scene(stack, ('B04',)), 'found SR_B3, SR_B4')
    with rasterio.open(stack, 'r+') as r: r.update_tags(SPACECRAFT_ID='LANDSAT_5')
    assert (whole(open_scene(stack, ('B04','B08')))[0] == numbers(2, 4, 4)).all()
    assert find_sensor('LM05_x').numbers is None and aliases('B5', find_sensor('HLS.L30.T18TYN'))[0] == 'NIR' and not find_sensor('HLS.S30.T18TYN').numbers
    assert find_sensor('wall_c8_B4').name == '' and aliases('B4', find_sensor('LM05_x')) == ('Other B4',)


def test_palettes_and_complex_numbers_are_refused_by_name(tmp_path):
    path = save(tmp_path/'a.tif', numbers(4, 4, dtype='uint8', top=2), photometric='palette')
    with rasterio.open(path, 'r+') as r: r.write_colormap(1, {0: (0,0,0,255), 1: (255,0,0,255)})
    one_line(lambda: open_scene(str(path)), 'palette')
    save(tmp_path/'b.tif', np.ones((4,4), np.complex64))
    one_line(lambda: open_scene(str(tmp_path/'b.tif')), 'complex')


# Valid pixels

@pytest.mark.parametrize('dtype,nodata', [('uint8',0),('uint8',-9999),('uint16',65535),('int16',-32768),('int32',-2**31),('float32',-9999),('float32',float('nan')),
                                          ('float32',-3.4028234663852886e38),('float64',-1.7976931348623157e308),('float32',.1)])
def test_nodata_of_every_type(tmp_path, dtype, nodata):
    a = numbers(2, 6, 5, top=200).astype(dtype)
    possible = np.dtype(dtype).kind == 'f' or np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max
    if possible: a[0,2,3] = nodata
    kw = dict(nodata=nodata) if possible else {}
    x,ok = whole(open_scene(str(save(tmp_path/'a.tif', a, **kw)), nodata=None if possible else nodata), fill=[-1,-2])
    assert (~ok).sum() == possible and np.isfinite(x).all()
    if possible: assert not ok[2,3] and x[:,2,3].tolist() == [-1,-2]


def test_nodata_by_hand(tmp_path):
    a = np.arange(12, dtype=np.uint16).reshape(3,4)
    path = str(save(tmp_path/'a.tif', a, nodata=5))
    assert whole(open_scene(path, nodata='none'))[1].all()
    assert (whole(open_scene(path, nodata=7))[1] == (a != 7)).all() and (whole(open_scene(path, nodata='7'))[1] == (a != 7)).all()
    assert 'cannot occur in uint16' in open_scene(path, nodata=-1).remarks[-1] and 'nodata' in one_line(lambda: open_scene(path, nodata='x'))
    assert whole(open_scene(path, nodata='nan'))[1].all() and open_scene(**json.loads(json.dumps(open_scene(path, nodata=float('nan')).spec)))
    np.save(tmp_path/'a.npy', a)
    assert (whole(open_scene(str(tmp_path/'a.npy'), nodata=7))[1] == (a != 7)).all()


def test_nan_and_infinite_readings(tmp_path):
    a = np.ones((2,4,4), np.float32)
    a[0,0,0],a[1,1,1],a[1,2,2] = np.nan,np.inf,-np.inf
    save(tmp_path/'a.tif', a)
    np.save(tmp_path/'a.npy', a)
    for o in 'a.tif','a.npy':
        x,ok = whole(open_scene(str(tmp_path/o), ('a','b')))
        assert (~ok).sum() == 3 and np.isfinite(x).all()
    big = np.full((2,2), 1e300)
    assert not whole(open_scene(str(save(tmp_path/'b.tif', big))))[1].any()
    assert not whole(open_scene(str(save(tmp_path/'c.tif', np.ones((2,2), np.uint16))), scale=3e38, offset=3e38))[1].any()


def test_alpha_and_masks(tmp_path):
    a = numbers(4, 6, 5, dtype='uint8', top=255)
    a[3] = 255
    a[3,2,3],a[3,0,0] = 0,1
    path = str(save(tmp_path/'a.tif', a, photometric='rgb', alpha='yes'))
    x,ok = whole(open_scene(path, BGR))
    assert (~ok).sum() == 1 and not ok[2,3] and (x[:,0,0] == a[2::-1,0,0]).all()
    assert whole(open_scene(path, ('R','G','B','NIR'), dict(R=1, G=2, B=3, NIR=4)))[1].all() # The user says that it is a band
    one_line(lambda: open_scene(path, ('R','NIR')), 'expected a band NIR')
    infra = open_scene(path, ('B02','B03','B04','B08')) # All four are wanted: as for chips, the fourth is no alpha
    assert whole(infra)[1].all() and (whole(infra)[0] == a[[2,1,0,3]]).all() and 'calls the last one alpha' in infra.remarks[0]
    named = str(save(tmp_path/'b.tif', a, names=('red','green','blue','nir'), photometric='rgb', alpha='yes'))
    assert whole(open_scene(named, ('B08','B04')))[1].all()
    for name,inside in (('c.tif',False),('d.tif',True)):
        path = save(tmp_path/name, numbers(6, 5))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, 'r+') as r: r.write_mask(np.arange(30).reshape(6,5) > 3)
        assert (~whole(open_scene(str(path)))[1]).sum() == 4
    path = tmp_path/'c.tif'
    assert str(tmp_path/'c.tif.msk') in [o[0] for o in open_scene(str(path)).identity]


def test_a_band_that_is_not_used_does_not_count(tmp_path):
    a = numbers(3, 4, 4)
    a[0,1,1] = 0
    path = str(save(tmp_path/'a.tif', a, names=NAMES, nodata=0))
    assert whole(open_scene(path, ('B03','B04')))[1].all() and (~whole(open_scene(path, ('B03','B02')))[1]).sum() == 1


def fine_and_coarse(tmp_path, *bands, nodata, size=8, **kw):
    "A scene of B04 (10 m) and coarse bands of one file; `nodata` of each."
    save(tmp_path/'x_B04.tif', np.full((2*size,2*size), 500, bands[0].dtype))
    save(tmp_path/'two.tif', np.stack(bands), size=20)
    inner = ''.join(f'<VRTRasterBand dataType="{dict(uint16="UInt16", int16="Int16")[str(b.dtype)]}" band="{i}"><Description>{n}</Description><NoDataValue>{v}'
                    f'</NoDataValue><SimpleSource>{source("two.tif").replace("<SourceBand>1", f"<SourceBand>{i}")}</SimpleSource></VRTRasterBand>'
                    for i,(n,v,b) in enumerate(zip(('B11','B12'), nodata, bands), 1))
    place = '<SRS>EPSG:32633</SRS><GeoTransform>500000,20,0,5000000,0,-20</GeoTransform>'
    (tmp_path/'two.vrt').write_text(f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{place}{inner}</VRTDataset>')
    return open_scene(f'{tmp_path}/x_B04.tif,{tmp_path}/two.vrt', ('B04','B11','B12')[:1+len(bands)], **kw)


@pytest.mark.parametrize('nodata', [(0,65535),(0,0)])
def test_coarse_bands_keep_each_its_own_nodata(tmp_path, nodata):
    a = np.full((2,8,8), 2000, np.uint16)
    a[0,:,:2],a[1,:,5:6] = nodata
    x,ok = whole(fine_and_coarse(tmp_path, *a, nodata=nodata))
    want = np.ones((16,16), bool)
    want[:,:4] = want[:,10:12] = False
    assert (ok == want).all() and (x[1:][:,ok] == 2000).all()


def test_what_the_warper_made_is_not_nodata(tmp_path):
    a = np.full((8,8), 100, np.int16)
    a[:,::2] = -300 # Between them bilinear gives 0
    assert whole(fine_and_coarse(tmp_path, a, nodata=[0]))[1].all()


def test_nodata_values_of_all_bands_together(tmp_path):
    a = np.full((3,6,6), 90, np.uint8)
    a[:,:2],a[0,3] = 0,0
    path = save(tmp_path/'a.tif', a, photometric='rgb')
    with rasterio.open(path, 'r+') as r: r.update_tags(NODATA_VALUES='0 0 0')
    assert (~whole(open_scene(str(path), ('R','G','B')))[1]).sum() == 12 # Only where all three are 0
    assert whole(open_scene(str(path), ('R','G','B'), nodata='none'))[1].all()


def test_zero_is_nodata_of_sentinel_2_however_it_is_known(tmp_path):
    a = np.full((4,4), 1500, np.uint16)
    a[0] = 0
    path = save(tmp_path/'S2A_MSIL2A_20220125T101311_N0400_R022_T32TQM_B04.tif', a)
    assert (~whole(open_scene(str(path)))[1]).sum() == 4 and 's2: 0 is nodata' in open_scene(str(path)).remarks
    assert whole(open_scene(str(path), nodata='none'))[1].all()
    save(tmp_path/'b.tif', a)
    for props in {'s2:processing_baseline': '02.00'},{'platform': 'sentinel-2a'}:
        (tmp_path/'i.json').write_text(json.dumps(item('s', props, B04=asset('b.tif'))))
        assert (~whole(open_scene(f'{tmp_path}/i.json#s', ('B04',)))[1]).sum() == 4
    for more in {'raster:bands': [dict(nodata=1500)]},{'bands': [dict(name='B04', nodata=1500)]},{'nodata': 1500}:
        (tmp_path/'i.json').write_text(json.dumps(item('s', {}, B04=asset('b.tif', **more))))
        assert (~whole(open_scene(f'{tmp_path}/i.json#s', ('B04',)))[1]).sum() == 12
    assert whole(open_scene(str(tmp_path/'b.tif')))[1].all() # Nobody knows


def test_colours_that_the_file_names_count_for_every_type(tmp_path):
    a = numbers(3, 4, 4)
    path = str(save(tmp_path/'a.tif', a, photometric='rgb'))
    scene = open_scene(path, BGR)
    assert (whole(scene)[0] == a[::-1]).all() and scene.remarks[0].startswith('a.tif: its bands')
    with rasterio.open(path, 'r+') as r: r.colorinterp = [rasterio.enums.ColorInterp[o] for o in ('blue','green','red')]
    assert (whole(open_scene(path, BGR))[0] == a).all()
    assert open_scene(str(save(tmp_path/'b.tif', a)), BGR).remarks[0].startswith('careful: b.tif: ')


def test_numbers_of_bands_with_or_without_0(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(4, 4, 4), names=('B1','B5','B09','B8A')))
    assert (whole(open_scene(path, ('B05','B01','B9')))[0] == numbers(4, 4, 4)[[1,0,2]]).all()


def test_hls_numbers_are_not_those_of_sentinel_2(tmp_path):
    for i,b in enumerate(('B04','B05','B06','B09')): save(tmp_path/f'HLS.L30.T18TYN.2020.{b}.tif', np.full((4,4), i, np.uint16))
    files = ','.join(map(str, sorted(tmp_path.glob('*.tif'))))
    for b in 'B05','B06','B09': one_line(lambda: open_scene(files, (b,)), f'expected a band {b}')
    assert whole(open_scene(files, ('B08','B11','B04')))[0][:,0,0].tolist() == [1,2,0]


def test_files_that_call_their_band_band_1(tmp_path):
    for i,b in enumerate(('x_B02','y_red')): save(tmp_path/f'{b}.tif', np.full((4,4), i, np.uint16), names=('Band 1',))
    assert whole(open_scene(f'{tmp_path}/x_B02.tif,{tmp_path}/y_red.tif', ('B04','B02')))[0][:,0,0].tolist() == [1,0]


def test_slips_that_were_tracebacks(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(4, 4)))
    ring = '[[15,45],[15.1,45],[15.1,NaN],[15,45]]'
    (tmp_path/'nan.geojson').write_text(f'{{"type":"Feature","properties":{{}},"geometry":{{"type":"Polygon","coordinates":[{ring}]}}}}')
    one_line(lambda: open_scene(path, aoi=str(tmp_path/'nan.geojson')), 'nan.geojson')
    area(tmp_path/'nan.gpkg', shapely.Polygon([(15,45),(16,45),(16,np.nan),(15,45)]))
    one_line(lambda: open_scene(path, aoi=str(tmp_path/'nan.gpkg')), 'numbers as coordinates')
    (tmp_path/'i.json').write_text(json.dumps(item('s', {}, B04=asset('file://[x'))))
    one_line(lambda: open_scene(f'{tmp_path}/i.json#s', ('B04',)))
    np.save(tmp_path/'a.npy', np.eye(3, dtype=bool))
    assert (whole(open_scene(str(tmp_path/'a.npy'), nodata=0))[1] == np.eye(3, dtype=bool)).all()


def test_remarks_name_the_file_alone(tmp_path):
    path = save(tmp_path/'a.tif', numbers(3, 4, 4))
    with rasterio.open(path, 'r+') as r: r.scales = [.5]*3
    remarks = open_scene(str(path), BGR, nodata=None).remarks + open_scene(str(path), nodata=-1).remarks
    assert len(remarks) >= 3 and not any(str(tmp_path) in o for o in remarks)


def test_an_offset_of_the_user_is_not_left_as_it_is(tmp_path):
    path = str(save(tmp_path/'S2A_MSIL2A_20220125T101311_N0400_R022_T32TQM_B04.tif', np.full((2,2), 1500, np.uint16)))
    scene = open_scene(path, offset=-1000)
    assert whole(scene)[0].max() == 500 and 'left as they are' not in ' '.join(scene.remarks)
    assert 'left as they are' in ' '.join(open_scene(path, offset=0).remarks)


@pytest.mark.parametrize('h,w', [(1,1),(1,97),(97,1),(13,101)])
def test_small_and_prime_scenes(tmp_path, h, w):
    a = numbers(3, h, w)
    scene = open_scene(str(save(tmp_path/'a.tif', a, crs=None)), BGR)
    assert (whole(scene)[0] == a).all() and scene.crs is None and scene.transform.is_identity
    assert np.allclose(scene.statistics()[0], a.mean((1,2))) and scene.cache_for(64) > 0
    np.save(tmp_path/'a.npy', a)
    assert (whole(open_scene(str(tmp_path/'a.npy'), BGR))[0] == a).all()


def test_nothing_valid(tmp_path):
    scene = open_scene(str(save(tmp_path/'a.tif', np.zeros((2,9,9), np.uint8), nodata=0)), ('a','b'))
    x,ok = whole(scene)
    mean,std,share = scene.statistics()
    assert not ok.any() and not x.any() and np.isnan(mean).all() and np.isnan(std).all() and share == 0
    assert compare_statistics(scene.bands, mean, std, [1,1], [1,1]) == ''


def test_windows_equal_the_array(tmp_path):
    a,rng = numbers(3, 211, 157),np.random.default_rng(2)
    scenes = [open_scene(str(save(tmp_path/f'{i}.tif', a, names=NAMES, **kw)), ('B04','B02')) for i,kw in enumerate((dict(compress='deflate'),
              dict(tiled=True, blockxsize=64, blockysize=32, interleave='band'), dict(tiled=True, blockxsize=16, blockysize=16, interleave='pixel', compress='lzw')))]
    for name,o in (('first',a),('last',np.moveaxis(a, 0, -1)),('fortran',np.asfortranarray(a)),('big',a.astype('>i4'))):
        np.save(tmp_path/f'{name}.npy', o)
        scenes.append(open_scene(str(tmp_path/f'{name}.npy'), ('B04','B02','B03'), dict(B04=3, B02=1, B03=2)))
    for _ in range(40):
        h,w = (int(rng.integers(1, n+1)) for n in (211,157))
        r,c = int(rng.integers(0, 212-h)),int(rng.integers(0, 158-w))
        for s in scenes: assert (s.read((r,c,h,w))[0][:2] == a[[2,0],r:r+h,c:c+w]).all()
    for bad in ((-1,0,4,4),(0,0,0,4),(0,0,212,4),(0,150,4,8)): one_line(lambda: scenes[0].read(bad), 'inside 157 x 211 pixels')


def test_reading_writes_nothing_and_works_in_a_thread(tmp_path):
    save(tmp_path/'a'/'B02.tif', numbers(64, 64)); save(tmp_path/'a'/'B11.tif', numbers(32, 32), size=20)
    before,res = sorted(o.name for o in tmp_path.rglob('*')),[]
    scene = open_scene(str(tmp_path/'a'), ('B02','B11'))
    t = threading.Thread(target=lambda: res.append(whole(scene)))
    t.start(); t.join()
    scene.statistics()
    assert (res[0][0] == whole(scene)[0]).all() and before == sorted(o.name for o in tmp_path.rglob('*'))


def test_arrays_do_not_pile_up_in_memory(tmp_path):
    if not Path('/proc/self/statm').exists(): pytest.skip('no /proc here')
    def resident(): return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')
    np.lib.format.open_memmap(tmp_path/'a.npy', 'w+', np.uint16, (4000,8000,3))[:] = 7
    scene = open_scene(str(tmp_path/'a.npy'), BGR)
    scene.read((0,0,500,500))
    before = resident()
    for i in range(8): scene.read((i*500,0,500,8000))
    assert resident()-before < 100e6 # The file has 192 MB


# Several grids

@pytest.mark.parametrize('nodata', [None,0])
def test_coarse_bands_do_not_depend_on_the_window(tmp_path, nodata):
    kw = {} if nodata is None else dict(nodata=nodata)
    fine,coarse = numbers(600, 500),numbers(300, 250, top=20)-1
    save(tmp_path/'B02.tif', fine, **kw); save(tmp_path/'B11.tif', coarse, size=20, **kw)
    save(tmp_path/'B12.tif', numbers(400, 400, top=20), size=20, x=34000, y=5020000, crs='EPSG:32634', **kw) # Another zone, and not all of the ground
    scene,rng = open_scene(str(tmp_path), ('B11','B02','B12')),np.random.default_rng(3)
    x,ok = whole(scene)
    assert (scene.height,scene.width) == (600,500) and (x[1][ok] == fine[ok]).all()
    for _ in range(25):
        h,w = (int(rng.integers(1, n+1)) for n in (600,500))
        r,c = int(rng.integers(0, 601-h)),int(rng.integers(0, 501-w))
        y,good = open_scene(**scene.spec).read((r,c,h,w))
        assert (y == x[:,r:r+h,c:c+w]).all() and (good == ok[r:r+h,c:c+w]).all()


def test_coarse_bands_are_bilinear_and_keep_their_holes(tmp_path):
    ramp = np.add.outer(np.arange(8)*100, np.arange(8)*10).astype(np.uint16)+10
    hole = ramp.copy(); hole[4,4] = 0
    save(tmp_path/'B02.tif', np.ones((16,16), np.uint16)); save(tmp_path/'B11.tif', hole, size=20, nodata=0)
    x,ok = whole(open_scene(str(tmp_path), ('B02','B11')))
    centre = (np.arange(16)+.5)/2-.5
    assert not ok[8:10,8:10].any() and (~ok).sum() == 4
    want = np.add.outer(centre*100, centre*10)+10
    inside = np.zeros((16,16), bool); inside[1:-1,1:-1] = True; inside[6:12,6:12] = False
    assert np.abs(x[1]-want)[inside].max() <= .5 # Rounded, as the file stores whole numbers
    assert whole(open_scene(str(tmp_path), ('B02','B11'), nodata='none'))[1].all()


def test_grids_that_cannot_meet(tmp_path):
    save(tmp_path/'a'/'B02.tif', numbers(4, 4)); save(tmp_path/'a'/'B03.tif', numbers(4, 4), crs=None)
    one_line(lambda: open_scene(str(tmp_path/'a'), BGR[:2]), 'some have coordinates and some have none')
    save(tmp_path/'b'/'B02.tif', numbers(4, 4), crs=None); save(tmp_path/'b'/'B03.tif', numbers(4, 5), crs=None)
    one_line(lambda: open_scene(str(tmp_path/'b'), BGR[:2]), 'differ in size')
    assert open_scene(str(tmp_path/'b'), ('B02',)).width == 4 # Only the bands used count
    save(tmp_path/'c'/'B02.tif', numbers(4, 4)); save(tmp_path/'c'/'B03.tif', numbers(4, 4), x=900000)
    assert not whole(open_scene(str(tmp_path/'c'), BGR[:2]))[1].any() # They show other ground
    for o in 'LC08_B4.TIF','B2.tif': save(tmp_path/'d'/o, numbers(4, 4))
    save(tmp_path/'e'/'x_B02.tif', numbers(4, 4)); save(tmp_path/'e'/'y_B02.tif', numbers(4, 4))
    one_line(lambda: open_scene(str(tmp_path/'e'), ('B02',)), 'expected one file for B02')


def test_pixels_one_per_cent_larger_are_another_grid(tmp_path):
    "In degrees the two transforms differ by a millionth."
    a = numbers(100, 100)
    save(tmp_path/'s'/'B02.tif', a, crs='EPSG:4326', transform=from_origin(10, 50, 1e-4, 1e-4))
    save(tmp_path/'s'/'B03.tif', a, crs='EPSG:4326', transform=from_origin(10, 50, 1.01e-4, 1.01e-4))
    x,ok = whole(open_scene(str(tmp_path/'s'), BGR[:2]))
    assert (x[0] == a).all() and ok.all() and not (x[1] == a).all() # Warped
    save(tmp_path/'t'/'B02.tif', a, crs='EPSG:4326', transform=from_origin(10, 50, 1e-4, 1e-4))
    save(tmp_path/'t'/'B03.tif', a, crs='EPSG:4326', transform=from_origin(10, 50, 1.00001e-4, 1e-4))
    assert (whole(open_scene(str(tmp_path/'t'), BGR[:2]))[0] == a).all() # A thousandth of a pixel in all


# Sentinel-2

MTD = '<n1:x><PRODUCT_INFO><PROCESSING_BASELINE>{}</PROCESSING_BASELINE>{}</PRODUCT_INFO></n1:x>'


def safe(root, offsets='', baseline='04.00', tile='L2A_T32TQM', first=1500):
    inner = root/'GRANULE'/tile/'IMG_DATA'
    a = np.full((8,8), first, np.uint16); a[0,0] = 0; a[0,1] = 400
    save(inner/'R10m'/'T32_B02_10m.tif', a); save(inner/'R20m'/'T32_B02_20m.tif', a[:4,:4], size=20); save(inner/'R20m'/'T32_B11_20m.tif', a[4:,4:], size=20)
    (root/'MTD_MSIL2A.xml').write_text(MTD.format(baseline, offsets))
    return root


def test_a_product_of_sentinel_2(tmp_path):
    offsets = ''.join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13))
    root = safe(tmp_path/'S2A_X.SAFE', offsets)
    (source,) = find_scenes(root)
    scene = open_scene(source, ('B02','B11'))
    x,ok = whole(scene)
    assert (scene.height, scene.name) == (8,'S2A_X') and x[:,0,0].tolist() == [0,0] and not ok[0,0] and ok.sum() == 63
    assert x[:,0,1].tolist() == [0,500] and x[:,5,5].tolist() == [500,500] # 400 is cut off at 0, and valid
    assert ' '.join(scene.remarks).count('1000 subtracted') == 1 and any('MTD_MSIL2A.xml' in o[0] for o in scene.identity)
    assert whole(open_scene(source, ('B02',), offset=0))[0][0,5,5] == 1500 and 'left as they are' in open_scene(source, offset=0).remarks[0]
    assert found([root/'MTD_MSIL2A.xml']) == [str(root)]
    assert whole(open_scene(source, ('B02',), scale=.0001))[0][0,5,5] == pytest.approx(.05)


def test_baselines_and_offsets(tmp_path):
    def first(root, **kw): return whole(open_scene(str(root), ('B02',), **kw))[0][0,5,5]
    assert first(safe(tmp_path/'a.SAFE', '', '04.00')) == 500 and first(safe(tmp_path/'b.SAFE', '', '03.01')) == 1500
    assert first(tmp_path/'b.SAFE', offset=-1000) == 500
    assert first(safe(tmp_path/'c.SAFE', '<RADIO_ADD_OFFSET band_id="1">-1000</RADIO_ADD_OFFSET>', '05.10')) == 500
    mixed = safe(tmp_path/'d.SAFE', '<BOA_ADD_OFFSET>-1000</BOA_ADD_OFFSET><BOA_ADD_OFFSET>-900</BOA_ADD_OFFSET>')
    one_line(lambda: first(mixed), 'expected one offset')
    (tmp_path/'e.SAFE').mkdir()
    for t in 'AB': safe(tmp_path/'e.SAFE', '', '02.00', f'L1C_{t}')
    assert names_of(tmp_path/'e.SAFE') == ['L1C_A','L1C_B']
    stack = save(tmp_path/'S2B_MSIL2A_20230101T101311_N0509_R022_T32TQM.tif', np.full((2,2), 1500, np.uint16), names=('B02',))
    assert whole(open_scene(str(stack)))[0].max() == 500
    flat = save(tmp_path/'S2B_MSIL2A_20230101T101311_N0509_R022.tif', np.full((2,2), .2, np.float32), names=('B02',))
    assert whole(open_scene(str(flat)))[0].max() == np.float32(.2) and 'nothing subtracted' in open_scene(str(flat)).remarks[0]
    assert sentinel2_offset([tmp_path/'N0400'/'a.tif'])[0] == 0


def test_scale_and_offset(tmp_path):
    a = numbers(2, 4, 4)
    path = save(tmp_path/'a.tif', a, names=('red','nir'))
    with rasterio.open(path, 'r+') as r: r.scales,r.offsets = (.0001,.0001),(-.1,-.1)
    plain = open_scene(str(path))
    assert (whole(plain)[0] == a).all() and '--scale 0.0001 --offset -0.1' in plain.remarks[0]
    scene = open_scene(str(path), ('B08','B04'), scale=[2,.5], offset=1)
    assert (whole(scene)[0] == a[::-1]*np.float32([[[2]],[[.5]]])+1).all() and not scene.remarks
    assert scene.spec['scale'] == [2,.5] and open_scene(**json.loads(json.dumps(scene.spec))).spec == scene.spec
    for bad in ([1,2,3],'x',float('nan'),[],[[1,2]]): one_line(lambda: open_scene(str(path), scale=bad), 'scale: expected a number or 2')


# Area of interest

def area(path, *geoms, crs='EPSG:4326', to=None):
    frame = geopandas.GeoDataFrame(geometry=list(geoms), crs=crs)
    (frame if to is None else frame.to_crs(to)).to_file(path)
    return str(path)


def test_area_in_another_system(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(100, 80)))
    ring = shapely.box(500100, 4999300, 500600, 4999900) - shapely.box(500300, 4999500, 500400, 4999600)
    want = np.zeros((100,80), bool); want[10:70,10:60] = True; want[40:50,30:40] = False
    for name,to in (('a.gpkg','EPSG:3857'),('b.geojson','EPSG:4326'),('c.shp','EPSG:32634'),('d.gpkg',None)):
        scene = open_scene(path, aoi=area(tmp_path/name, ring, crs='EPSG:32633', to=to))
        assert (whole(scene)[1] == want).all(), name
        assert not whole(scene)[0][0][~want].any()
        for r in range(0, 100, 9):
            for c in range(0, 80, 7):
                window = (r,c,min(9,100-r),min(7,80-c))
                mask = want[r:r+9,c:c+7]
                assert (scene.read(window)[1] == mask).all() and scene.wanted(window) >= mask.any()
        assert not scene.wanted((42,32,5,5)) and not scene.wanted((80,0,9,9))
    mean,_,share = scene.statistics()
    assert np.isclose(mean[0], numbers(100, 80)[want].mean()) and np.isclose(share, want[10:70,10:60].mean())
    assert [o for o in scene.identity if o[0].endswith('d.gpkg')]


def test_area_on_a_turned_scene_and_a_large_one(tmp_path):
    turned = rasterio.Affine(8.660254, 5, 500000, 5, -8.660254, 5000000)
    path = str(save(tmp_path/'a.tif', numbers(50, 50), transform=turned))
    square = shapely.Polygon([at(turned, *o) for o in ((10,5),(30,5),(30,25),(10,25))])
    ok = whole(open_scene(path, aoi=area(tmp_path/'a.gpkg', square, crs='EPSG:32633', to='EPSG:4326')))[1]
    assert ok.sum() == 400 and ok[5:25,10:30].all()
    wide = str(save(tmp_path/'b.tif', numbers(100, 100), size=2000, x=300000, y=6000000)) # 200 km: a parallel is an arc, 500 m high
    ok = whole(open_scene(wide, aoi=area(tmp_path/'b.geojson', shapely.box(-170, -80, 170, 53))))[1]
    from pyproj import Transformer
    rows,cols = np.mgrid[:100,:100]
    _,lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(300000+2000*(cols+.5), 6000000-2000*(rows+.5))
    assert (ok == (lat < 53)).mean() > .9999 and 0 < ok.mean() < 1


def test_areas_that_are_none(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(10, 10)))
    one_line(lambda: open_scene(path, aoi=area(tmp_path/'far.gpkg', shapely.box(10, 10, 11, 11))), 'far.gpkg: expected an area on the scene, it lies elsewhere')
    one_line(lambda: open_scene(path, aoi=str(tmp_path/'none.gpkg')), 'none.gpkg')
    (tmp_path/'x.geojson').write_text('{"type": "nothing"}')
    one_line(lambda: open_scene(path, aoi=str(tmp_path/'x.geojson')), 'x.geojson')
    one_line(lambda: open_scene(path, aoi=area(tmp_path/'p.geojson', shapely.Point(15, 45))), 'expected polygons')
    bare = str(save(tmp_path/'b.tif', numbers(10, 10), crs=None))
    one_line(lambda: open_scene(bare, aoi=area(tmp_path/'q.geojson', shapely.box(10, 10, 11, 11))), 'without coordinates')
    line = area(tmp_path/'touch.gpkg', shapely.box(499900, 4999900, 500000, 5000000), crs='EPSG:32633') # Only the edge touches
    one_line(lambda: open_scene(path, aoi=line), 'lies elsewhere')


def test_an_area_of_several_parts_is_all_of_them(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(10, 10)))
    x,y = 500000,5000000
    overlap = shapely.MultiPolygon([shapely.box(x, y-60, x+60, y), shapely.box(x+30, y-90, x+90, y-30)])
    bow = shapely.Polygon([(x, y-100), (x+100, y), (x+100, y-100), (x, y)]) # Crosses itself in the middle
    for name,geom in dict(overlap=overlap, bow=bow).items():
        want = shapely.union_all(shapely.make_valid(shapely.get_parts(geom)))
        ok = whole(open_scene(path, aoi=area(tmp_path/f'{name}.gpkg', geom, crs='EPSG:32633')))[1]
        centres = shapely.points(x+5+10*np.arange(10)[None], y-5-10*np.arange(10)[:,None])
        assert (ok == shapely.covers(want, centres))[~shapely.touches(centres, want)].all(), name
    ok = whole(open_scene(path, aoi=str(tmp_path/'overlap.gpkg')))[1]
    assert ok[:6,:6].all() and ok[3:9,3:9].all() and ok.sum() == 36+36-9


def test_area_across_the_date_line(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(20, 20), crs='EPSG:32601', x=290000, y=6000000, size=2000))
    ok = whole(open_scene(path, aoi=area(tmp_path/'a.geojson', shapely.box(-180, -80, -177, 80))))[1]
    assert ok.any() and open_scene(path, aoi=area(tmp_path/'b.geojson', shapely.box(-180, -80, 180, 80))).wanted((0,0,20,20))


def test_area_across_the_date_line_in_degrees(tmp_path):
    path = str(save(tmp_path/'a.tif', numbers(20, 40), crs='EPSG:4326', x=170, y=10, size=.5)) # To 190 degrees
    ok = whole(open_scene(path, aoi=area(tmp_path/'a.geojson', shapely.box(-178, -80, -175, 80))))[1]
    assert ok[:,24:30].all() and ok.sum() == 20*6
    west = str(save(tmp_path/'b.tif', numbers(20, 40), crs='EPSG:4326', x=-190, y=10, size=.5))
    assert whole(open_scene(west, aoi=area(tmp_path/'b.geojson', shapely.box(175, -80, 178, 80))))[1][:,10:16].all()


def test_packages_of_several_layers_or_computed_ones(tmp_path):
    path,square = str(save(tmp_path/'a.tif', numbers(10, 10))),shapely.box(14, 44, 16, 46)
    for o in 'one','two': geopandas.GeoDataFrame(geometry=[square], crs=4326).to_file(tmp_path/'two.gpkg', layer=o)
    one_line(lambda: open_scene(path, aoi=str(tmp_path/'two.gpkg')), 'expected one layer of polygons, found one, two')
    styled = area(tmp_path/'styled.gpkg', square)
    with sqlite3.connect(styled) as db:
        db.execute('CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)')
        db.execute("INSERT INTO gpkg_contents(table_name, data_type, identifier) VALUES ('layer_styles', 'attributes', 'layer_styles')")
    assert whole(open_scene(path, aoi=styled))[1].all()
    evil = shutil.copy(styled, tmp_path/'evil.gpkg')
    with sqlite3.connect(evil) as db:
        db.execute('CREATE VIEW v AS WITH RECURSIVE n(fid) AS (SELECT 1 UNION ALL SELECT fid+1 FROM n) SELECT fid, (SELECT geom FROM styled) AS geom FROM n')
        for o in 'contents','geometry_columns': db.execute(f"UPDATE gpkg_{o} SET table_name = 'v' WHERE table_name = 'styled'")
    one_line(lambda: open_scene(path, aoi=str(evil)), "expected plain tables, 'v' is computed")


# The same scene elsewhere

def test_identity_tells_whether_a_file_has_changed(tmp_path):
    path = save(tmp_path/'a.tif', numbers(8, 8))
    scene = open_scene(str(path))
    first = scene.identity
    assert first == json.loads(json.dumps(first)) == open_scene(**scene.spec).identity
    os.utime(path, ns=(1,1))
    assert scene.identity != first


def test_spec_opens_the_scene_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for b in BGR: save(Path('a')/f'{b}.tif', numbers(4, 4))
    Path('i.json').write_text(json.dumps(item('x', B02=asset('a/B02.tif'))))
    area(Path('a.geojson'), shapely.box(14, 44, 16, 46))
    specs = [open_scene(o, ('B02',), aoi='a.geojson').spec for o in ('a','a/B02.tif,a/B03.tif','i.json#x','a/B02.tif')]
    monkeypatch.chdir('/')
    for o in specs: assert (whole(open_scene(**json.loads(json.dumps(o))))[0] == numbers(4, 4)).all()


def test_map_tiles_are_placed_by_their_names(tmp_path):
    scene = open_scene(str(save(tmp_path/'OAM-386690-220241-19.tif', numbers(3, 4, 4, dtype='uint8', top=250), crs=None, photometric='rgb')), ('R','G','B'))
    assert scene.crs.to_epsg() == 3857 and abs(scene.transform.a*4 - 40075016.68/2**19) < 1e-3
    assert any('as a map tile: if it is none, rename it' in o for o in scene.remarks)
    scene = open_scene(str((tmp_path/'OAM-386690-220241-19.tif').rename(tmp_path/'OAM.tif')), ('R','G','B'))
    assert scene.crs is None and not any('map tile' in o for o in scene.remarks)


@pytest.mark.parametrize('names', [['field_2021_06_15'], ['ndvi_2020-02-12'], ['area_1024_2048_12'], ['img_3000_1500_12'], ['a_731_1210_12'], ['x_12_06_2021'],
    ['t_0_256_12','t_1024_512_12'], ['p_731_1210_12','p_731_1211_12','overview'], ['p_731_1210_12','p_731_1211_13'], ['20230814_101530_17']])
def test_dates_and_sizes_in_names_give_no_place(tmp_path, names):
    for o in names: save(tmp_path/f'{o}.tif', numbers(3, 4, 4, dtype='uint8', top=250), crs=None, photometric='rgb')
    assert open_scene(str(tmp_path/f'{names[0]}.tif'), ('R','G','B')).crs is None


def test_cache_for_strips_holds_a_row_of_blocks(tmp_path):
    strips = open_scene(str(save(tmp_path/'a.tif', numbers(3, 600, 2000), names=NAMES, compress='deflate')), ('B04',))
    tiles = open_scene(str(save(tmp_path/'b.tif', numbers(3, 600, 2000), names=NAMES, tiled=True, blockxsize=64, blockysize=64)), ('B04',))
    assert strips.cache_for(300) - strips.cache_for(100) >= 150*2000*2 and tiles.cache_for(300) < strips.cache_for(300)
    strips.cache_bytes = strips.cache_for(300)
    assert (strips.read((0,0,300,100))[0] == numbers(3, 600, 2000)[2,:300,:100]).all()


# Statistics

def test_statistics_of_a_large_scene_read_little(tmp_path):
    a = np.full((3000,2000), 100, np.uint8)
    a[:1500] = 200
    scene = open_scene(str(save(tmp_path/'a.tif', a, tiled=True, compress='deflate')))
    seen,read = [],type(scene).read
    class Spy(type(scene)):
        def read(self, window, fill=None):
            seen.append(window)
            return read(self, window, fill)
    scene.__class__ = Spy
    mean,std,share = scene.statistics(n=16, size=64)
    assert 12 <= len(seen) <= 20 and sum(h*w for *_,h,w in seen) <= 20*64*64 and abs(mean[0]-150) < 15 and share == 1


STATS = ('B02','B03','B04','B08'), np.array([650,880,970,2600]), np.array([190,220,300,600])


@pytest.mark.parametrize('change,text', [(lambda m: m+2400, 'or another order of bands?'), (lambda m: m*1e-4, '--scale 10000'), (lambda m: m*255, '--scale 0.00392157'),
    (lambda m: m/255, '--scale 255'), (lambda m: m*100, '--scale 0.01'), (lambda m: (m+2000)/.275, '--scale 0.275 --offset -2000'), (lambda m: m[[3,1,2,0]], 'B08,B03,B04,B02')])
def test_likely_causes(change, text):
    bands,mean,std = STATS
    rng = np.random.default_rng(0)
    x = change(rng.normal(mean[:,None], std[:,None], (4,4000)))
    line = compare_statistics(bands, x.mean(1), x.std(1), mean, std)
    assert text in line and 'deviations off' in line and '\n' not in line


def test_the_offset_of_sentinel_2_is_told_both_ways():
    bands,mean,std = STATS[0][:3],STATS[1][:3],STATS[2][:3]
    assert '--offset -1000' in compare_statistics(bands, mean+1000, std, mean, std)
    assert '--offset 0 keeps it' in compare_statistics(bands, mean, std, mean+1000, std)


def test_another_order_is_said_though_no_band_is_far_off():
    bands,mean,std = STATS[0][:3],STATS[1][:3],STATS[2][:3]
    assert 'these look like B04,B03,B02' in compare_statistics(bands, mean[::-1], std[::-1], mean, std)
    assert compare_statistics(bands, mean+std, std, mean, std) == ''


def test_usual_scenes_pass_in_silence():
    bands,mean,std = STATS
    for m,s in ((mean,std),(mean+2*std,std*2),(mean/3,std/10),(mean+3*std,std/2)): assert compare_statistics(bands, m, s, mean, std) == ''
    assert '8-bit' in compare_statistics(bands, np.array([90,95,100,120]), np.full(4, 50.), mean, std, dtype='uint8')
    assert compare_statistics(('grey',), [5], [0], [5], [1]) == '' # A scene of one value is nothing to shout about
    assert compare_statistics(('grey',), [500], [0], [5], [1])


# Real scenes

def test_real_scenes(real_data):
    scene = open_scene(str(real_data/'s2_builtup'/'scene.tif'), BGR)
    assert (scene.height, scene.width, scene.crs, scene.dtype) == (1500,1024,None,'uint16')
    assert compare_statistics(BGR, *scene.statistics()[:2], [649,881,971], [186,219,297]) == ''
    (port,) = find_scenes(real_data/'ships_sentinel2'/'genoa')
    with open_scene(port, ('B02','B11')) as s: assert s.read((100,100,200,300))[1].all() and s.crs.to_epsg() == 3857
    assert len(find_scenes(real_data/'ships_sentinel2')) == 2 and len(find_scenes(real_data/'footprints_geotiff'/'images')) == 40
    chip = open_scene(find_scenes(str(real_data/'footprints_geotiff'/'images'/'*.tif'))[0], BGR)
    assert chip.crs.to_epsg() == 3857 and chip.bands == BGR and 'R,G,B' in chip.remarks[0]
    cloud = open_scene(find_scenes(real_data/'clouds_landsat8'/'subscenes')[0], ('B04','B08'))
    assert cloud.height == 256 and 0 < cloud.statistics()[0].min() < 2


def test_a_list_of_one_scene_that_is_not_there(tmp_path):
    (tmp_path/'notes.txt').write_text('hello')
    one_line(lambda: open_scene(str(tmp_path/'notes.txt')), 'no such file')


# What belongs to the product, and what to the user

def test_the_offset_of_the_user_replaces_that_of_the_product(tmp_path):
    path = save(tmp_path/'S2A_MSIL2A_20220125T101311_N0400_R022_T32TQM_B04.tif', np.full((2,2), 2500, np.uint16))
    assert whole(open_scene(path))[0].max() == 1500
    scene = open_scene(path, offset=-1000)
    assert whole(scene)[0].max() == 1500 and whole(open_scene(**scene.spec))[0].max() == 1500
    assert whole(open_scene(path, offset=0))[0].max() == 2500


def test_the_name_of_a_folder_makes_no_nodata(tmp_path):
    a = np.array([[0,5],[6,7]], np.uint16)
    path = save(tmp_path/'sentinel-2_project'/'drone.tif', a)
    assert whole(open_scene(path))[1].all()


@pytest.mark.parametrize('satellite', ['LT05','LE07','LC08'])
def test_chips_and_maps_take_the_same_band_of_a_landsat(tmp_path, satellite):
    from satseg.data.band_files import load_bands
    for i in range(1, 6): save(tmp_path/f'{satellite}_L2SP'/f'B{i}.tif', np.full((2,2), i*1000, np.uint16))
    for b in 'B04','B08','red','B02': # Red, near infrared, blue
        chip = load_bands(tmp_path/f'{satellite}_L2SP', bands=(b,))['all'][0].image
        assert (chip == whole(open_scene(str(tmp_path/f'{satellite}_L2SP'), (b,)))[0]).all(), b
    want = 3000 if satellite != 'LC08' else 4000
    chips = load_bands(tmp_path/f'{satellite}_L2SP')['all']
    assert chips[0].image[chips.bands.index('red')].max() == want and 'B4' not in chips.bands


def test_chips_and_maps_lie_on_the_finest_grid(tmp_path):
    from satseg.data.band_files import load_bands
    folder = tmp_path/'s'
    save(folder/'B02_10m.tif', numbers(4, 4)); save(folder/'B02_20m.tif', numbers(20, 20), size=20); save(folder/'B11_20m.tif', numbers(20, 20), size=20)
    for bands in ('B02',),('B02','B11'):
        chip,scene = load_bands(folder, bands=bands)['all'][0],open_scene(str(folder), bands)
        assert chip.image.shape[1:] == (scene.height,scene.width) == (4,4)
        assert (chip.image[0] == numbers(4, 4)).all()


def descriptors(folder): return sorted(os.path.basename(p) for o in os.listdir('/proc/self/fd') if (p := os.path.realpath(f'/proc/self/fd/{o}')).startswith(str(folder)))


@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='counts open files as Linux lists them')
def test_files_are_opened_once_and_closed(tmp_path, monkeypatch):
    import satseg.data.grids as grids
    opened = []
    real = grids.open_raster
    def watched(path, vrt):
        opened.append(real(path, vrt))
        return opened[-1]
    monkeypatch.setattr(grids, 'open_raster', watched)
    folder = tmp_path/'S2A_MSIL2A_20220125T101311_N0400_R022'
    save(folder/'B04.tif', numbers(8, 8)); save(folder/'B11.tif', numbers(4, 4), size=20)
    scene = open_scene(str(folder), ('B04','B11'))
    assert 's2: 0 is nodata' in scene.remarks and sum(not o.closed for o in opened) == 2 and len(descriptors(folder)) == 2
    scene.close()
    assert all(o.closed for o in opened) and not descriptors(folder)
    (folder/'B12.tif').write_bytes((folder/'B11.tif').read_bytes()[:200])
    one_line(lambda: open_scene(str(folder), ('B04','B11','B12')))
    far = tmp_path/'far.geojson'
    area(far, shapely.box(100, 10, 101, 11))
    one_line(lambda: open_scene(str(folder), ('B04',), aoi=str(far)), 'lies elsewhere')
    assert all(o.closed for o in opened) and not descriptors(folder)
    save(tmp_path/'s'/'B02.tif', numbers(4, 4)); save(tmp_path/'s'/'B03.tif', numbers(4, 4), crs=None)
    one_line(lambda: open_scene(str(tmp_path/'s'), ('B02','B03')), 'some have none')
    assert all(o.closed for o in opened)


@pytest.mark.parametrize('suffix,pack', [('zip','zip'), ('tar','tar'), ('tar.gz','gztar')])
def test_archived_scenes_are_named_and_following_the_advice_works(tmp_path, suffix, pack):
    "A zipped .SAFE of the Copernicus Browser, a .tar of EarthExplorer: alone, and in a folder of downloads."
    product = 'S2A_MSIL2A_20230701T101311_N0509_R022_T32TQM_20230701T150000'
    for b in BGR: save(tmp_path/'in'/f'{product}.SAFE'/'GRANULE'/'L2A_T32TQM'/'IMG_DATA'/'R10m'/f'T32TQM_20230701T101311_{b}_10m.tif', np.full((4,4), 1500, np.uint16))
    (tmp_path/'all').mkdir()
    shutil.make_archive(str(tmp_path/'all'/product), pack, tmp_path/'in')
    for o in (tmp_path/'all', tmp_path/'all'/f'{product}.{suffix}'):
        one_line(lambda: open_scene(str(o)), f'{product}.{suffix}: is an archive: unpack it, and give the folder or file in it')
    shutil.unpack_archive(tmp_path/'all'/f'{product}.{suffix}', tmp_path/'out')
    for o in (tmp_path/'out', tmp_path/'out'/f'{product}.SAFE'):
        assert (open_scene(str(o), BGR).read((0,0,4,4))[0] == 500).all()
