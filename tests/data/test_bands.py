"Names of bands of every product, order of storage, no data; true colour."
import json
import re
import time

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from satseg.core.errors import BadInput
from satseg.data.bands import true_colour
from satseg.data.chips import Chips
from satseg.data.datasets import load_dataset
from satseg.data.pickles import load_pickle, save_pickle
from satseg.learn.preparation import measure_chips
from satseg.models.statistics import band_stats, normalise
from satseg.scenes.scene import open_scene
from satseg.scenes.sources import find_scenes

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_true_colour_whatever_the_order(order):
    image, bands = CHIPS[0].image, CHIPS.bands
    got = true_colour(image[list(order)], [bands[i] for i in order])
    assert got.dtype == np.uint8 and got.shape == (6, 8, 3) and np.array_equal(got, true_colour(image, bands))


def test_true_colour_puts_red_first():
    image = np.zeros((4, 1, 2), np.float32)
    image[2] = 100  # B04 of four
    assert true_colour(image, ('B02', 'B03', 'B04', 'B08'), 0, 100)[0, 0].tolist() == [255, 0, 0]
    assert true_colour(image, ('Blue', 'green', 'RED', 'nir'), 0, 100)[0, 0].tolist() == [255, 0, 0]


def test_true_colour_stretch():
    image = np.repeat(np.arange(100.).reshape(1, 10, 10), 3, 0)
    got = true_colour(image, ('B02', 'B03', 'B04'))
    assert (got == 0).sum() == 9 and (got == 255).sum() == 9 and 120 < got[5, 0, 0] < 135
    assert np.array_equal(true_colour(image*30, ('B02', 'B03', 'B04')), got)  # no matter what unit
    assert true_colour(image/1e4, ('B02', 'B03', 'B04')).std() > 60  # reflectance


def test_true_colour_of_odd_images():
    grey = true_colour(np.arange(4.).reshape(1, 2, 2), ['B08'], 0, 3)
    assert (grey[..., 0] == grey[..., 2]).all() and grey[1, 1, 0] == 255
    assert true_colour(np.zeros((2, 3, 3)), ['B08', 'B11']).shape == (3, 3, 3)
    assert not true_colour(np.zeros((1, 3, 3)), ['B08']).any()
    holes = np.full((1, 3, 3), np.nan)
    assert not true_colour(holes, ['B08']).any()
    holes[0, 0] = 0, 1, 2
    assert true_colour(holes, ['B08']).max() == 255
    with pytest.raises(BadInput, match=r'expected \(2,H,W\)'): true_colour(np.zeros((3, 2, 2)), ['a', 'b'])


# Products as delivered: file names, order of bands, colours and tags of the maker; one test a row of the table of sensors

def tif(path, a, names=(), colours=None, tags=None, crs='EPSG:32633', transform=None, size=10, **kw):
    "(C,H,W) or (H,W) as a GeoTIFF."
    a = np.asarray(a); a = a.reshape(-1, *a.shape[-2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    t = transform or rasterio.Affine(size, 0, 500000, 0, -size, 5000000)
    with rasterio.open(path, 'w', 'GTiff', a.shape[2], a.shape[1], len(a), crs, t, a.dtype, **kw) as r:
        if colours: r.colorinterp = [ColorInterp[o] for o in colours]
        r.write(a)
        if names: r.descriptions = names
        for i,v in (tags or {}).items(): r.update_tags(i, **v)
    return path


def plain(n, dtype='uint16', size=16): return np.stack([np.full((size,size), 100+k, dtype) for k in range(n)])


def whole(source, bands=None, **kw):
    with open_scene(str(source), bands, **kw) as s: return *s.read((0, 0, s.height, s.width)), s.remarks


PLANET8 = 'coastal_blue','blue','green_i','green','yellow','red','rededge','nir'
FILES = { # Name of the product -> pattern of the names of its files; its bands -> the first value of what is red, green, blue, near infrared
    'S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ.SAFE': ('T53NMJ_20170105T013442_{}', 'B02 B03 B04 B08', 'B04 B03 B02 B08'),
    'S2 in AWS': ('{}', 'B02 B03 B04 B08 B8A', 'B04 B03 B02 B08'),
    'Copernicus Browser': ('2023-06-01-00:00_2023-06-01-23:59_Sentinel-2_L2A_{}_(Raw)', 'B02 B03 B04 B08 B8A', 'B04 B03 B02 B08'),
    'EO Browser': ('2023-06-01-00_00_2023-06-01-23_59_Landsat_8-9_L2_{}_(Raw)', 'B02 B03 B04 B05', 'B04 B03 B02 B05'),
    'EO Browser TM': ('1999-06-01-00_00_1999-06-01-23_59_Landsat_4-5_TM_L2_{}_(Raw)', 'B01 B02 B03 B04', 'B03 B02 B01 B04'),
    'SENTINEL2A_20180104-105905-457_L2A_T31TCJ_D_V1-8': ('SENTINEL2A_20180104-105905-457_L2A_T31TCJ_D_V1-8_FRE_{}', 'B2 B3 B4 B8 B8A', 'B4 B3 B2 B8'),
    'LANDSAT8-OLITIRS-XS_20180314-104524-000_L2A_T31TCJ_C_V1-9': ('LANDSAT8-OLITIRS-XS_20180314-104524-000_L2A_T31TCJ_C_V1-9_FRE_{}', 'B2 B3 B4 B5', 'B4 B3 B2 B5'),
    'VENUS-XS_20180201-105905-000_L2A_X_C_V1-0': ('VENUS-XS_20180201-105905-000_L2A_X_C_V1-0_FRE_{}', 'B3 B4 B7 B11', 'B7 B4 B3 B11'),
    'LC09_L1TP_190028_20220101_20220101_02_T1': ('LC09_L1TP_190028_20220101_20220101_02_T1_{}', 'B2 B3 B4 B5 B10', 'B4 B3 B2 B5'),
    'LC08_L2SP_190028_20200101_20200823_02_T1': ('LC08_L2SP_190028_20200101_20200823_02_T1_SR_{}', 'B2 B3 B4 B5', 'B4 B3 B2 B5'),
    'LE07_L2SP_190028_20000101_20200823_02_T1': ('LE07_L2SP_190028_20000101_20200823_02_T1_SR_{}', 'B1 B2 B3 B4 B7', 'B3 B2 B1 B4'),
    'LT05_L2SP_190028_19900101_20200823_02_T1': ('LT05_L2SP_190028_19900101_20200823_02_T1_SR_{}', 'B1 B2 B3 B4', 'B3 B2 B1 B4'),
    'LT04_L1TP_190028_19900101_20200823_02_T1': ('LT04_L1TP_190028_19900101_20200823_02_T1_{}', 'B1 B2 B3 B4 B6', 'B3 B2 B1 B4'),
    'HLS L30': ('HLS.L30.T18TYN.2020123T155901.v2.0.{}', 'B02 B03 B04 B05', 'B04 B03 B02 B05'),
    'HLS S30': ('HLS.S30.T18TYN.2020123T155901.v2.0.{}', 'B02 B03 B04 B08 B8A', 'B04 B03 B02 B08')}


@pytest.mark.parametrize('product', FILES)
def test_files_of_one_band_as_delivered(tmp_path, product):
    pattern,bands,want = FILES[product]
    for k,b in enumerate(bands.split()): tif(tmp_path/product/f'{pattern.format(b)}.tif', plain(9)[k])
    for side in ('QA_PIXEL','Fmask','SCL_(Raw)','CLM_R1'): tif(tmp_path/product/f'{pattern.format(side)}.tif', plain(1, 'uint8'))
    x,ok,_ = whole(tmp_path/product, ('B04','B03','B02','B08'))
    assert ok.all() and x[:,0,0].tolist() == [100+bands.split().index(o) for o in want.split()]
    tif(tmp_path/product/'label.tif', np.zeros((16,16), np.uint8)) # And as chips
    chips = load_dataset(tmp_path/product, 'bands', bands=('B04','B03','B02','B08'))['all']
    assert (chips[0].image == x).all()


STACKS = { # File -> its bands as they come; names, colours, options
    '20230601_101112_12_2486_3B_AnalyticMS_SR_8b_clip': ('B G R N'.split(), [1,3,5,7], 8, {}),
    '20230601_101112_1003_3B_AnalyticMS': ('B G R N'.split(), [0,1,2,3], 4, {}),
    'ortho_analytic_8b_sr': ('B G R N'.split(), [1,3,5,7], 8, dict(names=PLANET8)),
    '3241621_2017-03-05_RE4_3A_Analytic_SR': ('B G R N'.split(), [0,1,2,4], 5, {}),
    '20190101_120000_ssc1d1_0001_pansharpened': ('B G R N'.split(), [0,1,2,3], 4, {}),
    'planet_tagged': ('B G R N'.split(), [0,1,2,3], 4, dict(colours=('blue','green','red','undefined'))),
    'm_3807719_sw_18_060_20210619': ('R G B N'.split(), [0,1,2,3], 4, dict(colours=('red','green','blue','undefined'), dtype='uint8')),
    'IMG_PHR1A_MS_202006011056_ORT_1': ('R G B N'.split(), [0,1,2,3], 4, {}),
    'IMG_SPOT7_PMS_202006011056_ORT_1': ('R G B N'.split(), [0,1,2,3], 4, {}),
    'geemap': ('B G R N'.split(), [0,1,2,3], 4, dict(names=('B2','B3','B4','B8'))),
    'naip_gee': ('R G B N'.split(), [0,1,2,3], 4, dict(names=('R','G','B','N'))),
    'worldview': ('B G R N'.split(), [1,2,4,6], 8, dict(names=('Coastal','Blue','Green','Yellow','Red','RedEdge','NIR1','NIR2'))),
    'L8_stack': ('B G R N'.split(), [1,2,3,4], 5, dict(names=('SR_B1','SR_B2','SR_B3','SR_B4','SR_B5'), tags={0: dict(SPACECRAFT_ID='LANDSAT_8')}))}


@pytest.mark.parametrize('stack', STACKS)
def test_stacks_as_delivered_are_the_same_bands_for_chips_and_maps(tmp_path, stack):
    order,places,n,kw = STACKS[stack]
    path = tif(tmp_path/'images'/f'{stack}.tif', plain(n, kw.get('dtype', 'uint16')), **{k: v for k,v in kw.items() if k != 'dtype'})
    want = [100+places[order.index(o)] for o in 'RGBN']
    x,ok,_ = whole(path, ('B04','B03','B02','B08'))
    chip = load_dataset(tmp_path, 'folders', bands=('B04','B03','B02','B08'))['all'][0]
    assert ok.all() and x[:,0,0].tolist() == want == chip.image[:,0,0].tolist() and chip.valid is None


def test_pleiades_bands_by_their_metadata(tmp_path):
    path = tif(tmp_path/'IMG_PHR1B_PMS_1.TIF', plain(4))
    index = ''.join(f'<Raster_Index><BAND_ID>{b}</BAND_ID><BAND_INDEX>{i}</BAND_INDEX></Raster_Index>' for i,b in enumerate(('B0','B1','B2','B3'), 1))
    (tmp_path/'DIM_PHR1B_PMS_1.XML').write_text(f'<Dimap_Document><Raster_Index_List>{index}</Raster_Index_List></Dimap_Document>')
    assert whole(path, ('B04','B03','B02','B08'))[0][:,0,0].tolist() == [102,101,100,103]

    about = '<?xml version="1.0" encoding="ISO-8859-1"?><Dimap_Document><PRODUCER>R\xe9union</PRODUCER>'
    (tmp_path/'DIM_PHR1B_PMS_1.XML').write_text(f'{about}{index}</Dimap_Document>', 'latin-1')
    assert whole(path, ('B04','B03','B02','B08'))[0][:,0,0].tolist() == [102,101,100,103]
    for odd in (index.replace('<BAND_INDEX>', '<BAND_INDEX>'+'9'*5000), '\0\xff', ''): # No telling: the sensor's usual order
        (tmp_path/'DIM_PHR1B_PMS_1.XML').write_text(odd, 'latin-1')
        assert whole(path, ('B04','B03','B02','B08'))[0][:,0,0].size == 4


def scene_of_spot(root, mission, bands):
    "SCENE01 as SPOT Image delivers it (DIMAP 1.1): the names tell nothing, METADATA.DIM all."
    path = tif(root/'SCENE01'/'IMAGERY.TIF', plain(len(bands), 'uint8'))
    info = ''.join(f'<Spectral_Band_Info>\n<BAND_INDEX>{i}</BAND_INDEX>\n<BAND_DESCRIPTION>{b}</BAND_DESCRIPTION>\n<GAIN_NUMBER>5</GAIN_NUMBER>\n<PHYSICAL_GAIN>1.2</PHYSICAL_GAIN></Spectral_Band_Info>' for b,i in bands)
    source = f'<Dataset_Sources><Source_Information><Scene_Source><IMAGING_DATE>2008-05-08</IMAGING_DATE><MISSION>SPOT</MISSION>\n<MISSION_INDEX>{mission}</MISSION_INDEX><INSTRUMENT>HRG</INSTRUMENT></Scene_Source></Source_Information></Dataset_Sources>'
    (path.parent/'METADATA.DIM').write_text(f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<Dimap_Document><PRODUCER>R\xe9union</PRODUCER>{source}<Image_Interpretation>{info}</Image_Interpretation></Dimap_Document>', 'latin-1')
    return path


@pytest.mark.parametrize('mission,bands,want', [(5, [('XS3',1), ('XS2',2), ('XS1',3), ('SWIR',4)], [101,102,100,103]), (5, [('XS1',3), ('XS2',2), ('XS3',1), ('SWIR',4)], [101,102,100,103]),
    (4, [('XI1',1), ('XI2',2), ('XI3',3), ('SWIR',4)], [101,100,102,103]), (2, [('XS1',1), ('XS2',2), ('XS3',3)], [101,100,102])])
def test_spot_1_to_5_as_delivered(tmp_path, mission, bands, want):
    "Red, green, near infrared, B11 of Sentinel-2; its third band is no blue, and no B3."
    path,names = scene_of_spot(tmp_path, mission, bands),('B04','B03','B08','B11')[:len(bands)]
    x,ok,_ = whole(path, names)
    assert x[:,0,0].tolist() == want and ok.all()
    with pytest.raises(BadInput, match='expected a band B02'): whole(path, ('B04','B03','B02'))
    images = tmp_path/'chips'/'images'
    images.mkdir(parents=True)
    for o in path.parent.iterdir(): o.rename(images/o.name)
    chips = load_dataset(tmp_path/'chips', 'folders', bands=names)['all']
    assert chips[0].image[:,0,0].tolist() == want


def test_pleiades_neo_in_two_files(tmp_path):
    "Red, green, blue in one; near infrared, red edge, deep blue in the other, which its maker tags as RGB as well."
    rgb,ned = (tif(tmp_path/f'IMG_PNEO3_202208011056_MS-FS_ORT_1_{o}_R1C1.TIF', plain(3)+10*k, photometric='RGB') for k,o in enumerate(('RGB','NED')))
    assert whole(f'{rgb},{ned}', ('B04','B03','B02','B08'))[0][:,0,0].tolist() == [100,101,102,110]
    assert whole(ned, ('NIR','coastal'))[0][:,0,0].tolist() == [110,112]
    tif(tmp_path/'chips'/'images'/ned.name, plain(3), photometric='RGB')
    assert load_dataset(tmp_path/'chips', 'geotiffs')['all'].bands == ('NIR','rededge','coastal')


def test_narrow_bands_by_their_wavelengths(tmp_path):
    nm = np.linspace(400, 2500, 233)
    a = np.stack([np.full((4,4), k, np.uint16) for k in range(233)])
    want = [int(np.abs(nm-o).argmin()) for o in (665,560,490,842)]
    for name,kw in (('described', dict(names=[f'Band {i+1} ({o:.2f} nm)' for i,o in enumerate(nm)])),
                    ('plain', dict(names=[f'{o:.2f}' for o in nm])),
                    ('tagged', dict(tags={i+1: dict(wavelength=f'{o/1000:.4f}', wavelength_units='Micrometers') for i,o in enumerate(nm)}))):
        path = tif(tmp_path/f'{name}.tif', a, **kw)
        assert whole(path, ('B04','B03','B02','B08'), nodata='none')[0][:,0,0].tolist() == want, name


def test_alpha_is_alpha_only_if_it_behaves_so(tmp_path):
    rng,rgb = np.random.default_rng(0),('R','G','B')
    a = rng.integers(1, 255, (4,200,200), dtype=np.uint8)
    infrared = tif(tmp_path/'naip'/'a.tif', a, photometric='RGB', alpha='YES')
    a[3] = 255; a[3,:50] = 0; a[3,50,:90] = 128 # A smooth edge
    alpha = tif(tmp_path/'drone'/'a.tif', a, photometric='RGB', alpha='YES')
    assert whole(infrared, rgb)[1].all() and whole(infrared)[0].shape[0] == 4 and whole(infrared, ('NIR',))[0].std() > 50
    assert (~whole(alpha, rgb)[1]).sum() == 50*200 and whole(alpha)[0].shape[0] == 3
    chips = {k: load_dataset(tmp_path/k, 'folders')['all'] for k in ('naip','drone')}
    assert chips['naip'].bands == (*rgb,'NIR') and chips['naip'][0].valid is None and chips['drone'].bands == rgb
    assert (~chips['drone'][0].valid).sum() == 50*200
    with rasterio.open(tmp_path/'coarse.tif', 'w', 'GTiff', 100, 100, 4, 'EPSG:32633', rasterio.Affine(20, 0, 500000, 0, -20, 5000000), 'uint8', photometric='RGB', alpha='YES') as r:
        r.write(rng.integers(0, 2, (4,100,100), dtype=np.uint8)*200+1) # Warped, an infrared band is no alpha either
    fine = tif(tmp_path/'fine_B11.tif', plain(1)[0].repeat(13, 0)[:200].repeat(13, 1)[:,:200])
    assert whole(f'{fine},{tmp_path}/coarse.tif', ('B11','x'), band_map=dict(x=2))[1].all()


def test_planet_takes_its_mask_of_usable_pixels(tmp_path):
    a,udm = plain(4),np.zeros((8,16,16), np.uint8)
    udm[0] = 1
    udm[0,:2],udm[5,:2],udm[7,:2] = 0,1,2 # Clouds
    udm[0,2:4],udm[3,2:4] = 0,1 # Light haze: there is something to see
    udm[:,4] = 0; udm[7,4] = 1 # Not imaged
    path = tif(tmp_path/'20230601_101112_1003_3B_AnalyticMS_SR_clip.tif', a)
    tif(tmp_path/'20230601_101112_1003_3B_udm2_clip.tif', udm)
    want = np.ones((16,16), bool); want[:2] = want[4] = False
    x,ok,remarks = whole(path, ('B04','B03','B02'))
    assert (ok == want).all() and any('unusable' in o for o in remarks) and whole(path, ('B04',), nodata='none')[1].all()
    assert [str(o) for o in find_scenes(tmp_path)] == [str(path)] # The mask is no scene
    old = np.zeros((16,16), np.uint8); old[3] = 1; old[5] = 4 # Not imaged, and blue is missing
    tif(tmp_path/'20190109_015005_1020_3B_AnalyticMS_DN_udm.tif', old) # Before 2018 there was no udm2
    x,ok,remarks = whole(tif(tmp_path/'20190109_015005_1020_3B_AnalyticMS.tif', a), ('B04','B03','B02'))
    assert (ok == (old == 0)).all() and any('unusable' in o for o in remarks) and len(find_scenes(tmp_path)) == 2


def test_nodata_of_products_that_do_not_tag_it(tmp_path):
    for name,value,dtype in (('LC08_L1TP_190028_20220101_02_T1_B4',0,'uint16'), ('LANDSAT8-OLITIRS-XS_20180314-104524-000_L2A_T31TCJ_C_V1-9_FRE_B4',-10000,'int16'), ('SENTINEL2A_20180104-105905-457_L2A_T31TCJ_D_V1-8_FRE_B4',-10000,'int16'),
                             ('20230601_101112_1003_3B_AnalyticMS',0,'uint16')):
        a = np.full((16,16), 900, dtype); a[:4] = value
        path = tif(tmp_path/f'{name}.tif', a if 'MS' not in name else np.stack([a]*4))
        x,ok,remarks = whole(path, ('B04',))
        assert (~ok).sum() == 64 and any('--nodata none' in o for o in remarks) and whole(path, ('B04',), nodata='none')[1].all()
    drone = np.zeros((3,4,4), np.uint8) # A name of a folder alone makes no value empty
    assert whole(tif(tmp_path/'landsat 8'/'drone.tif', drone, photometric='RGB'), ('R','G','B'))[1].all()


def test_scale_of_a_landsat_stands_in_its_metadata(tmp_path):
    name = 'LC08_L2SP_190028_20200101_20200823_02_T1'
    tif(tmp_path/f'{name}_SR_B4.TIF', plain(1)); tif(tmp_path/f'{name}_ST_B10.TIF', plain(1))
    (tmp_path/f'{name}_MTL.txt').write_text('REFLECTANCE_MULT_BAND_4 = 2.75e-05\n REFLECTANCE_ADD_BAND_4 = -0.2\n'
        ' TEMPERATURE_MULT_BAND_ST_B10 = 0.00341802\n TEMPERATURE_ADD_BAND_ST_B10 = 149.0\n REFLECTANCE_MULT_BAND_4 = 2.0000E-05\n REFLECTANCE_ADD_BAND_4 = -0.100000\n')
    assert any('--scale 2.75e-05 --offset -0.2' in o for o in whole(tmp_path, ('B04',))[2])
    assert any('--scale 0.00341802 --offset 149' in o for o in whole(tmp_path, ('thermal',))[2])
    assert not any('not applied' in o for o in whole(tmp_path, ('B04',), scale=2.75e-5, offset=-.2)[2])
    for odd in ('2.0E-05E', '-', '\xe9'): # Said about the numbers, never a reason to stop
        (tmp_path/f'{name}_MTL.txt').write_text(f'REFLECTANCE_MULT_BAND_4 = {odd}\nREFLECTANCE_ADD_BAND_4 = -0.1\n', 'latin-1')
        assert not any('not applied' in o for o in whole(tmp_path, ('B04',))[2])


def test_long_metadata_take_no_time():
    "Patterns over text of others: twice the text, twice the time."
    from satseg.data.calibration import _written_offset, sentinel2_offset
    start = time.perf_counter()
    assert _written_offset('BOA_ADD_OFFSET '*100_000, 'a') == () and sentinel2_offset([], dict(id='S2A_MSI'*100_000))[0] == 0
    assert time.perf_counter() - start < 5


def test_a_mask_or_a_colour_key_wins_over_a_nodata_value(tmp_path):
    "GDAL 3.10, rasterio 1.4.4: `nodatavals` of a PNG with a key colour are a triple, which counts only where all three match; of a file with a mask they do not count."
    a = np.full((3,6,6), 90, np.uint8); a[:,:2] = 0; a[0,3] = 0
    Image.fromarray(np.moveaxis(a, 0, -1)).save(tmp_path/'key.png', transparency=(0,0,0))
    assert (~whole(tmp_path/'key.png', ('R','G','B'))[1]).sum() == 12
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path/'mask.tif', 'w', 'GTiff', 6, 6, 3, 'EPSG:32633', rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), 'uint8', nodata=0) as r:
        r.write(a); r.write_mask(np.arange(36).reshape(6,6) != 35)
    assert (~whole(tmp_path/'mask.tif', ('R','G','B'))[1]).sum() == 1


def test_the_offset_in_tags_and_items(tmp_path):
    "GDAL's SENTINEL2 driver (rasterio 1.4.4, 1.5.2) leaves BOA_ADD_OFFSET and PROCESSING_BASELINE as tags; Copernicus Data Space writes processing:version (2024)."
    a = np.full((4,4), 1500, np.uint16); a[0] = 0
    path = tif(tmp_path/'a.tif', a, names=('B4, central wavelength 665 nm',), tags={0: dict(PROCESSING_BASELINE='05.09'), 1: dict(BOA_ADD_OFFSET='-1000')})
    x,ok,_ = whole(path, ('B04',))
    assert x.max() == 500 and (~ok).sum() == 4
    path = tif(tmp_path/'old.tif', a, names=('B4',), tags={0: dict(PROCESSING_BASELINE='02.08')})
    assert whole(path, ('B04',))[0].max() == 1500
    tif(tmp_path/'x_B04_10m.tif', a); tif(tmp_path/'x_B04_20m.tif', a[:2,:2]*0+7, size=20)
    def item(name, **props):
        assets = {k: dict(href=f'x_{k}.tif', type='image/tiff') for k in ('B04_20m','B04_10m')}
        (tmp_path/'i.json').write_text(json.dumps(dict(type='Feature', stac_version='1.0.0', id=name, properties=props, assets=assets, geometry=None, links=[])))
        return whole(f'{tmp_path}/i.json#{name}', ('B04',))[0].max()
    assert item('S2A_x', **{'processing:version': '05.12', 'platform': 'sentinel-2a'}) == 500 # The finer one, too
    assert item('S2B_MSIL2A_20230601T101559_N0509_R065_T32TQM_20230601T134459') == 500
    assert item('S2B_MSIL2A_20210601T101559_N0300_R065_T32TQM_20210601T134459') == 1500
    assert item('S2B_MSIL2A_20230601T101559_N0509_R065_T32TQM_20230601T134459', **{'earthsearch:boa_offset_applied': True}) == 1500
    assert item('S3A_x', **{'processing:version': '05.12', 'platform': 'sentinel-3a'}) == 1500


def test_items_of_aws_and_of_the_planetary_computer(tmp_path):
    for k,o in enumerate(('blue','green','red','nir','nir08')): tif(tmp_path/f'{o}.tif', plain(5)[k])
    for k,o in enumerate(('SR_B2','SR_B3','SR_B4','SR_B5')): tif(tmp_path/f'LC08_x_{o}.TIF', plain(5)[k])
    def asset(href, *bands, **kw): return dict(href=href, type='image/tiff; application=geotiff; profile=cloud-optimized', **{'eo:bands': [dict(name=n, common_name=c) for n,c in bands]}, **kw)
    aws = {o: asset(f'{o}.tif', (o,o), **{'raster:bands': [dict(nodata=0, scale=.0001, offset=-.1)]}) for o in ('red','green','blue','nir','nir08')}
    more = {'raster:bands': [dict(nodata=0, scale=2.75e-5, offset=-.2)]}
    pc = {c: asset(f'LC08_x_SR_{b}.TIF', (f'OLI_{b}',c), **more) for b,c in (('B2','blue'),('B3','green'),('B4','red'),('B5','nir08'))}
    items = [dict(type='Feature', id=i, properties=p, assets=a) for i,p,a in (
        ('S2A_32TQM_20210601_0_L2A', {'platform': 'sentinel-2a', 's2:processing_baseline': '03.00'}, aws), ('LC08_L2SP_x', {'platform': 'landsat-8'}, pc))]
    (tmp_path/'i.json').write_text(json.dumps(dict(type='FeatureCollection', features=items)))
    want = ('B04','B03','B02','B08')
    x,_,remarks = whole(f'{tmp_path}/i.json#S2A_32TQM_20210601_0_L2A', want)
    assert x[:,0,0].tolist() == [102,101,100,103] and not any('not applied' in o for o in remarks)
    x,_,remarks = whole(f'{tmp_path}/i.json#LC08_L2SP_x', want)
    assert x[:,0,0].tolist() == [102,101,100,103] and any('--scale 2.75e-05 --offset -0.2' in o for o in remarks)
    tif(tmp_path/'n'/'m_1.tif', plain(4, 'uint8'), photometric='RGB', alpha='YES')
    naip = dict(type='Feature', id='md_m_1', properties={}, assets=dict(image=asset('n/m_1.tif', ('Red','red'), ('Green','green'), ('Blue','blue'), ('NIR','nir'))))
    (tmp_path/'n.json').write_text(json.dumps(naip))
    assert whole(f'{tmp_path}/n.json#md_m_1', want)[0][:,0,0].tolist() == [100,101,102,103]


# Order of storage, no data

@pytest.mark.parametrize('up,left', [(True,False),(False,True),(True,True)])
def test_rasters_stored_backwards_are_read_as_maps_are(tmp_path, up, left):
    a = np.random.default_rng(0).integers(1, 999, (2,6,8)).astype(np.uint16)
    a[0,1,2] = 0
    north = tif(tmp_path/'north.tif', a, nodata=0)
    t = rasterio.Affine(-10 if left else 10, 0, 500080 if left else 500000, 0, 10 if up else -10, 4999940 if up else 5000000)
    turn = np.s_[:, ::-1 if up else 1, ::-1 if left else 1]
    other = tif(tmp_path/'x'/'other.tif', a[turn], transform=t, nodata=0)
    (x,ok,_),(y,fine,_) = whole(north),whole(other)
    assert (x == y).all() and (ok == fine).all() and not ok[1,2]
    with open_scene(str(north)) as p, open_scene(str(other)) as q:
        assert q.transform.almost_equals(p.transform) and (p.read((1,2,3,4))[0] == q.read((1,2,3,4))[0]).all()
    tif(tmp_path/'x_B11.tif', a[0,::2,::2][turn[1:]], transform=t*rasterio.Affine.scale(2), size=20) # Warped
    tif(tmp_path/'y_B11.tif', a[0,::2,::2], size=20)
    pair = [whole(f'{north},{tmp_path}/{o}_B11.tif', ('b','B11'), band_map=dict(b=1), nodata='none')[0] for o in 'xy']
    assert (pair[0] == pair[1]).all()
    for i,o in enumerate((north, other)): # Chips, masks with and without coordinates of their own
        tif(tmp_path/f'f{i}'/'images'/'a.tif', a if i == 0 else a[turn], transform=None if i == 0 else t)
    tif(tmp_path/'f0'/'masks'/'a.tif', (a[0] > 500).astype(np.uint8)); tif(tmp_path/'f1'/'masks'/'a.tif', (a[0] > 500).astype(np.uint8))
    p,q = (load_dataset(tmp_path/o)['all'][0] for o in ('f0','f1'))
    assert (p.image == q.image).all() and (p.mask == q.mask).all()
    (tmp_path/'f1'/'masks'/'a.tif').unlink()
    Image.fromarray((a[0] > 500).astype(np.uint8)[turn[1:]]).save(tmp_path/'f1'/'masks'/'a.png') # Drawn over the numbers as stored
    assert (load_dataset(tmp_path/'f1')['all'][0].mask == p.mask).all()


@pytest.mark.parametrize('value,dtype', [(-9999,'int16'),(0,'uint16'),(float('nan'),'float32'),(-3.4028234663852886e38,'float32')])
def test_no_data_goes_from_the_file_to_label_statistics_and_windows(tmp_path, value, dtype):
    a = np.random.default_rng(0).normal(1000, 50, (3,32,32)).astype(dtype)
    a[:,:,:10] = value
    tif(tmp_path/'images'/'a.tif', a, nodata=value); tif(tmp_path/'masks'/'a.tif', np.ones((32,32), np.uint8))
    chips = load_dataset(tmp_path)['all']
    chip,want = chips[0],np.arange(32) >= 10
    assert np.isfinite(chip.image).all() and (chip.valid == want).all() and (chip.mask == np.where(want, 1, 255)).all()
    stats = band_stats(chips)
    assert np.allclose(stats.mean, a[:,:,10:].astype(float).mean((1,2))) and max(stats.std) < 60
    assert abs(normalise(chip.filled(stats.mean), stats)[:,:,:10]).max() < 1e-5 # Neither dark nor bright to a net
    windows = chips.cut(20)
    assert sum((o.mask == 255).sum() for o in windows) >= 320 and all((o.mask[o.valid] == 1).all() for o in windows if o.valid is not None)
    save_pickle(tmp_path/'a.pickle', {'all': chips})
    assert (load_pickle(tmp_path/'a.pickle')['all'][0].mask == chip.mask).all()
    measured = measure_chips(chips)
    assert measured.pixels[0] == 22*32 and np.allclose(measured.means[0], stats.mean)


@pytest.mark.parametrize('value,dtype', [(0,'uint16'),(-9999,'int16'),(-9999,'float32'),(65535,'uint16'),(255,'uint8'),
                                         (-2**31,'int32'),(-3.4028234663852886e38,'float32')])
def test_an_untagged_fill_is_pointed_out_and_the_advice_works(tmp_path, value, dtype):
    a = np.random.default_rng(0).normal(120, 20, (3,64,64)).astype(dtype)
    fine = tif(tmp_path/'fine.tif', a, names=('B02','B03','B04'))
    with open_scene(str(fine)) as s:
        want = s.statistics()[0]
        assert not any('fills' in o for o in s.remarks)
    a[:,:,:20] = value
    path = tif(tmp_path/'images'/'a.tif', a, names=('B02','B03','B04'))
    with open_scene(str(path)) as s:
        assert np.abs(s.statistics()[0]-want).max() < 2
        remark, = (o for o in s.remarks if 'fills 31%' in o)
    advice = re.search(r'--nodata (\S+)', remark)[1]
    with open_scene(str(path), nodata=advice) as s:
        assert abs(s.statistics()[2]-44/64) < 1e-6 and not any('fills' in o for o in s.remarks)
    tif(tmp_path/'masks'/'a.tif', np.ones((64,64), np.uint8))
    with pytest.warns(UserWarning, match=re.escape(f'{value:.10g}')+' fills 31%.*nodata='+re.escape(f'{value:.10g}')): measure_chips(load_dataset(tmp_path)['all'])
    chips = load_dataset(tmp_path, nodata=str(value))['all']
    assert np.abs(measure_chips(chips).means[0]-want).max() < 2 and (chips[0].mask == 255).sum() == 64*20


def test_grids_in_degrees_that_differ_by_a_hundredth_are_warped(tmp_path):
    a = np.tile(np.arange(200, dtype=np.uint16), (200,1))
    for b,o in (('B02',1e-4),('B03',1.01e-4)): tif(tmp_path/f'{b}.tif', a, crs='EPSG:4326', transform=rasterio.Affine(o, 0, 10, 0, -o, 50))
    x,ok,_ = whole(tmp_path, ('B02','B03'))
    assert abs(float(x[1][ok][-1]-x[0][ok][-1])+2) < 1 # Two pixels at the far edge


def test_zeros_stay_valid_where_something_is_warped(tmp_path):
    "A warped view with nodata=0 loses valid zeros in GDAL 3.10 (rasterio 1.4.4) and makes them 1 in GDAL 3.12 (1.5.2)."
    a = np.zeros((8,8), np.int16); a[:,4:] = 300; a[0] = -9999
    tif(tmp_path/'x_B02.tif', np.full((16,16), 5, np.int16)); tif(tmp_path/'x_B11.tif', a, size=20, nodata=-9999)
    x,ok,_ = whole(tmp_path, ('B02','B11'))
    assert (~ok).sum() == 32 and (x[1][ok] == 0).sum() >= 14*7 and not ((x[1][ok] == 1).any())
    tif(tmp_path/'label.tif', np.zeros((8,8), np.uint8), size=20, nodata=255)
    assert set(np.unique(load_dataset(tmp_path, 'bands', classes=('a','b'))['all'][0].mask)) == {0,255}


def test_a_net_says_nothing_where_nothing_was_seen(tmp_path):
    from satseg.models.model_file import load_model
    from satseg.models.predict import predict_chips
    from satseg.data.synthetic import sample_chips
    a = sample_chips(1, size=64, seed=7)[0].image.astype('int16')
    empty = a.copy(); empty[:,:,:20] = -9999
    for name,image in (('whole',a),('holes',empty)): tif(tmp_path/name/'a.tif', image, names=('B02','B03','B04'), nodata=-9999)
    net,info = load_model('unet_model.pth')
    p,q = (next(iter(predict_chips(net, info, load_dataset(tmp_path/o, 'folders')['all'], device='cpu')))[1] for o in ('whole','holes'))
    assert not q[:,:20].any() and p[:,:20].any() and np.abs(p-q)[:,50:].mean() < .05
    with open_scene(str(tmp_path/'holes'/'a.tif'), info.bands) as s: x,ok = s.read((0,0,64,64), info.mean)
    assert np.allclose(x, load_dataset(tmp_path/'holes', 'folders')['all'][0].filled(info.mean)) # Chips and maps are filled alike


def test_masks_of_products_are_no_chips(tmp_path):
    udm = np.zeros((8,16,16), np.uint8); udm[0,:,4:] = 1
    for i in range(2):
        tif(tmp_path/'images'/f'2023060{i}_101112_12_2486_3B_AnalyticMS_SR_clip.tif', plain(4))
        tif(tmp_path/'images'/f'2023060{i}_101112_12_2486_3B_udm2_clip.tif', udm)
    chips = load_dataset(tmp_path, 'geotiffs')['all']
    assert len(chips) == 2 and (chips[1].valid == (np.arange(16) >= 4)).all() and chips.bands[2] == 'red'


def test_a_folder_of_chips_is_listed_once(tmp_path, monkeypatch):
    "Looking for metadata beside each of 20,000 chips took most of the time."
    from pathlib import Path
    from satseg.data.chip_images import lazy_pictures
    files = [tif(tmp_path/f'{i}.tif', plain(3)) for i in range(9)]
    seen,old = [],Path.iterdir
    monkeypatch.setattr(Path, 'iterdir', lambda o: seen.append(o) or old(o))
    monkeypatch.setattr(Path, 'glob', lambda *a: pytest.fail('glob'))
    pictures,_ = lazy_pictures(files)
    for o in pictures: pass
    assert len(seen) == 1
