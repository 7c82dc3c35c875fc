"""Scenes with one file per band lie on the finest grid, as a map does."""
import numpy as np
import pytest
from data_samples import one_line, rasterio, save, save_tif

from satseg.core.errors import Hint
from satseg.data.band_files import load_bands
from satseg.data.datasets import kind_of, load_dataset
from satseg.data.splits import class_shares
from satseg.scenes.scene import open_scene


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
    save(tmp_path/'a'/'mask.png', np.ones((3,5)))
    one_line(lambda: load_bands(tmp_path/'a')['all'][0], 'mask.png', '5 x 3 pixels without coordinates')
    save_tif(tmp_path/'a'/'label.tif', np.eye(4, dtype=np.uint8))
    one_line(lambda: load_bands(tmp_path/'a'), 'label.tif and mask.png')


def test_a_mask_is_resized_with_nearest_and_its_nodata_is_unknown(tmp_path):
    save_tif(tmp_path/'B02.tif', np.ones((4,4), np.uint16))
    save_tif(tmp_path/'label.tif', np.array([[0,2],[255,1]], np.uint8), size=20, nodata=255)
    chips = load_bands(tmp_path, classes=('a','b','c'))['all']
    assert (chips[0].mask == np.kron([[0,2],[255,1]], np.ones((2,2)))).all()
    save_tif(tmp_path/'label.tif', np.array([[0,2],[0,1]], np.uint8), size=20, nodata=0) # 0 is a class: the nodata is a slip
    assert (load_bands(tmp_path, classes=('a','b','c'))['all'][0].mask == np.kron([[0,2],[0,1]], np.ones((2,2)))).all()


def test_masks_as_they_are_stored(tmp_path):
    "Without coordinates a mask lies as its bands do, from south to north here; where 0 is white, white is a 1."
    with rasterio.open(tmp_path/'B02.tif', 'w', 'GTiff', 4, 4, 1, 'EPSG:32633', rasterio.Affine(10,0,500000, 0,10,4999960), 'uint16') as r:
        r.write(np.arange(1, 17, dtype=np.uint16).reshape(1,4,4))
    a = np.uint8([[0,1,1,1]]*1+[[0]*4]*3)
    with rasterio.open(tmp_path/'mask.tif', 'w', 'GTiff', 4, 4, 1, dtype='uint8', nbits=1, photometric='MINISWHITE') as r: r.write(1-a, 1)
    chip = load_bands(tmp_path)['all'][0]
    assert chip.image[0,0,0] == 13 and chip.mask.tolist() == a[::-1].tolist()


def test_bad_scenes(tmp_path):
    save_tif(tmp_path/'a'/'B02.tif', np.ones((4,4), np.uint16))
    save_tif(tmp_path/'b'/'B03.tif', np.ones((4,4), np.uint16))
    one_line(lambda: load_dataset(tmp_path, 'bands'), 'no band in common')
    save_tif(tmp_path/'b'/'B02.tif', np.ones((2,2), np.uint16), crs=None)
    assert load_dataset(tmp_path)['all'].bands == ('B02',)
    one_line(lambda: load_bands(tmp_path, bands=('B03',)), 'expected a band B03')
    one_line(lambda: load_bands(tmp_path/'b'), 'some have coordinates and some have none')
    save_tif(tmp_path/'a'/'label.tif', np.ones((4,4), np.uint8))
    one_line(lambda: load_dataset(tmp_path), '1 scenes have no label.tif or mask.png: b')
    one_line(lambda: load_bands(tmp_path/'a'/'x'), 'expected a folder')


def test_real_scenes(real_data):
    chips = load_dataset(real_data/'clouds_sentinel2', classes=('clear','cloud'))['all']
    assert (len(chips), chips.bands) == (3, ('B02','B03','B04','B08')) and abs(class_shares(chips)['cloud']-.481) < .002
    chips = load_dataset(real_data/'ships_sentinel2', classes=('background','ship'))['all']
    assert chips.names == ['genoa','san_francisco'] and chips.bands == ('B02','B03','B11')
    for i,n in ((0,29), (1,6)):
        assert chips.instances(i).max() == n and ((chips.instances(i) > 0) == (chips[i].mask == 1)).mean() > .999


PRODUCT = 'S2A_MSIL2A_20230701T101311_N0509_R022_T32TQM_20230701T150000'


def test_training_and_mapping_see_the_same_sentinel_2_readings(tmp_path):
    "1000 less since baseline 04.00, and 0 is no data: as the name, the metadata or GDAL's tags say; one remark."
    a = np.uint16([[0,900,1000],[1500,3000,65535]])
    for name in ('B04','B08'): save_tif(tmp_path/PRODUCT/f'{name}.tif', a)
    save(tmp_path/PRODUCT/'mask.png', np.ones((2,3)))
    chips = load_bands(tmp_path/PRODUCT)['all']
    with pytest.warns(Hint) as said: chip = chips[0]
    assert len(said) == 1 and 's2 N0509 in the name: 1000 subtracted, cut off at 0' in str(said[0].message)
    x,ok = open_scene(str(tmp_path/PRODUCT), ('B04','B08')).read((0,0,2,3))
    assert chip.valid.tolist() == ok.tolist() == [[False,True,True],[True]*3]
    assert chip.readings().tolist() == x[:,ok].tolist() == [[0,0,500,2000,64535]]*2
    assert chip.mask.tolist() == [[255,1,1],[1,1,1]]


@pytest.mark.parametrize('tags,name,shift', [({}, f'{PRODUCT}_7.tif', 1000), (dict(PROCESSING_BASELINE='05.09'), 'a.tif', 1000), (dict(PROCESSING_BASELINE='02.14'), 'a.tif', 0), ({}, 'a.tif', 0)])
def test_chips_cut_from_sentinel_2_say_it_by_name_or_tags(tmp_path, tags, name, shift):
    a = np.arange(900, 1100, dtype=np.uint16).reshape(10,20)
    save_tif(tmp_path/'images'/name, a)
    with rasterio.open(tmp_path/'images'/name, 'r+') as r: r.update_tags(**tags)
    save(tmp_path/'masks'/f'{name[:-4]}.png', np.zeros((10,20)))
    chips = load_dataset(tmp_path)['all']
    want = np.maximum(a.astype(int)-shift, 0)
    assert chips[0].image[0].tolist() == want.tolist()
    assert open_scene(str(tmp_path/'images'/name)).read((0,0,10,20))[0][0].tolist() == want.tolist()
    if tags and shift: # The way that the remark names
        with pytest.warns(Hint, match='save without these tags'): load_dataset(tmp_path)['all'][0]
        save_tif(tmp_path/'images'/name, a)
        assert load_dataset(tmp_path)['all'][0].image[0].tolist() == a.tolist()


@pytest.mark.parametrize('names', [['car_red.png','car_2.png'], ['red.png','tree.png'], ['a-red.png','b-green.png','c_blue.png'], ['roof_red.png','roof_blue.png','roof_grey.png'],
    ['B1.tif','A1.tif','C1.tif'], ['infrared_1.png','hundred_2.png']])
def test_pictures_that_are_named_after_a_colour_are_no_bands(tmp_path, names):
    for o in names: (save_tif if o.endswith('tif') else save)(tmp_path/'images'/o, np.zeros((4,4,3), np.uint8))
    for root in (tmp_path, tmp_path/'images'): assert kind_of(root) in ('folders','geotiffs') and len(load_dataset(root)['all']) == len(names)
    for o in names: save(tmp_path/'masks'/f'{o[:-4]}.png', np.eye(4))
    assert kind_of(tmp_path) == 'folders' and load_dataset(tmp_path)['all'].has_masks


@pytest.mark.parametrize('names', [['B02.tif','B03.tif'], ['S2_B04_10m.tif','S2_B11_20m.tif'], ['LC09_L2SP_194027_20220101_20220103_02_T1_SR_B4.TIF','LC09_L2SP_194027_20220101_20220103_02_T1_SR_B5.TIF'],
    ['2020-05-01-00_00_2020-05-01-23_59_Sentinel-2_L2A_B04_(Raw).tiff','2020-05-01-00_00_2020-05-01-23_59_Sentinel-2_L2A_B08_(Raw).tiff'], ['red.tif','nir.tif'], ['x_B08.tif','label.tif']])
def test_scenes_as_delivered_are_bands(tmp_path, names):
    for o in names: save_tif(tmp_path/'s'/o, np.zeros((4,4), np.uint8))
    save(tmp_path/'overview_red.png', np.zeros((4,4,3)))
    assert kind_of(tmp_path/'s') == kind_of(tmp_path) == 'bands' and len(load_dataset(tmp_path)['all']) == 1
