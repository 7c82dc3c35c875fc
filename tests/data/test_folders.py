"""Folders of images and masks: written by hand, read back, every mistake in one line."""
import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image
from data_samples import RGB, TABLE, folders, one_line, rasterio, save, save_tif

from satseg.core.display import IGNORE
from satseg.data.band_files import load_bands
from satseg.data.datasets import kind_of, load_dataset
from satseg.data.folders import load_folders
from satseg.data.pictures import colours_to_ids
from satseg.data.splits import class_shares


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
    one_line(lambda: load_folders(tmp_path), 'one name for IMAGES/x.jpg and IMAGES/x.png')


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
    one_line(lambda: load_folders(tmp_path/'c'), 'got no pictures')


def test_sizes_and_bands_of_pictures(tmp_path):
    folders(tmp_path, [np.eye(4)]*2)
    save(tmp_path/'IMAGES'/'1.png', np.zeros((5,4,3)))
    one_line(lambda: load_folders(tmp_path)['all'][1], '1: image', 'differ in size')
    save(tmp_path/'IMAGES'/'1.png', np.full((4,4), 7))
    assert (load_folders(tmp_path)['all'][1].image == 7).all() # Grey among colours
    save(tmp_path/'IMAGES'/'1.png', np.zeros((4,4,4)))
    assert load_folders(tmp_path)['all'][1].image.shape == (3,4,4) # Alpha goes
    assert load_folders(tmp_path, bands=('B02',))['all'].bands == ('B02',)
    one_line(lambda: load_folders(tmp_path, bands=('B08',)), 'expected a band B08, found R, G, B', 'all_bands=')
    assert load_folders(tmp_path, all_bands=('nir','R','G'), bands=('B08',))['all'].bands == ('B08',)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    folders(tmp_path, [np.eye(4)]*3)
    (tmp_path/'IMAGES'/'2.png').write_bytes(b'broken')
    (tmp_path/'MASKS'/'1.png').write_bytes(b'broken')
    chips = load_folders(tmp_path)['all']
    assert chips[0].mask.sum() == 4
    one_line(lambda: chips[1], 'MASKS/1.png')
    one_line(lambda: chips[2], 'IMAGES/2.png')


def test_two_folders_of_one_part_are_not_mixed_up(tmp_path):
    for o in ('train','training'): folders(tmp_path/o, [np.zeros((4,4))])
    one_line(lambda: load_folders(tmp_path), 'one name for train/IMAGES/0.png and training/IMAGES/0.png')
    (tmp_path/'training'/'IMAGES'/'0.png').rename(tmp_path/'training'/'IMAGES'/'1.png')
    (tmp_path/'training'/'MASKS'/'0.png').rename(tmp_path/'training'/'MASKS'/'1.png')
    one_line(lambda: load_folders(tmp_path), 'one part for train and training: merge or move one')


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


def test_one_name_in_two_parts_is_no_leak(tmp_path):
    for part in 'train','val': folders(tmp_path/part, [np.eye(4)]*2)
    parts = load_folders(tmp_path)
    assert not set(parts['train'].groups) & set(parts['val'].groups)
    parts = load_folders(tmp_path, group='.')
    assert parts['train'].groups == parts['val'].groups == ['0','1']


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


def turned(root, stored, turn, mask):
    "A picture stored turned, as EXIF says, and a mask without EXIF."
    im = Image.fromarray(np.asarray(stored, np.uint8))
    exif = im.getexif()
    exif[274] = turn
    (root/'IMAGES').mkdir(parents=True, exist_ok=True)
    im.save(root/'IMAGES'/'a.png', exif=exif)
    save(root/'MASKS'/'a.png', mask)
    return root


def test_masks_fit_pictures_that_are_stored_turned(tmp_path):
    "Label tools show a photograph upright; scripts that know no EXIF label it as it is stored: 2 x 3 pixels here, 3 x 2 there."
    seen = np.zeros((3,2,3), np.uint8)
    seen[0,1] = 200 # Upright: the top right is bright
    for name,mask in (('upright',seen[...,0] > 0), ('stored',np.rot90(seen[...,0]) > 0)):
        chip = load_folders(turned(tmp_path/name, np.rot90(seen), 6, mask*1))['all'][0]
        assert chip.mask.tolist() == (chip.image[0] > 0).tolist() == [[0,1],[0,0],[0,0]]


@pytest.mark.parametrize('turn,stored', [(3, lambda a: np.rot90(a, 2)), (6, np.rot90)])
def test_a_turn_that_shapes_do_not_tell_is_said(tmp_path, turn, stored):
    seen = np.zeros((2,2,3), np.uint8)
    seen[0,1] = 200
    chips = load_folders(turned(tmp_path, stored(seen), turn, (seen[...,0] > 0)*1))['all']
    with pytest.warns(UserWarning, match='stored turned .EXIF., their masks taken as drawn upright'): chip = chips[0]
    assert chip.mask.tolist() == (chip.image[0] > 0).tolist() == [[0,1],[0,0]]


def smooth(factor, mode='L'):
    "A mask of a square, drawn small and enlarged, as resizing without 'nearest' leaves it; and the sharp one."
    sharp = np.zeros((32,32), np.uint8)
    sharp[8:20,6:26] = 255
    small = Image.fromarray(sharp).resize((32//factor,32//factor), Image.BOX)
    return np.asarray(small.resize((32,32), Image.BILINEAR).convert(mode)), sharp > 127


@pytest.mark.parametrize('mode', ['L','RGB'])
@pytest.mark.parametrize('suffix', ['.png','.tif','.jpg'])
@pytest.mark.parametrize('factor', [2,4])
def test_smooth_edges_are_cut_at_the_half(tmp_path, factor, suffix, mode):
    a,want = smooth(factor, mode)
    root = folders(tmp_path, [a, np.zeros_like(a)], suffix=suffix)
    chips = load_folders(root)['all']
    assert (chips[0].mask == want).mean() > .97 and not chips[1].mask.any()


def test_what_smooth_edges_mean_is_said_with_the_way_out(tmp_path):
    "Following it: mask_kind=ids reads ids and names the greys; they name mask_kind=255, which cuts."
    root = folders(tmp_path, [smooth(2)[0]])
    with pytest.warns(UserWarning, match='255 in the masks is building, greys are edges, cut at half .mask_kind=ids: ids.'): load_folders(root)['all'][0]
    one_line(lambda: load_folders(root, mask_kind='ids')['all'][0], 'smooth edges between 0 and 255 are cut at the half with mask_kind=255')
    assert set(np.unique(load_folders(root, mask_kind='255')['all'][0].mask)) == {0,1}
    grey = folders(tmp_path/'grey', [np.full((8,8), 140)], suffix='.jpg')
    one_line(lambda: load_folders(grey)['all'][0], '64 pixels are neither 0 nor 255', 'cut them at the half with mask_kind=255')
    assert load_folders(grey, mask_kind='255')['all'][0].mask.all()


def test_ids_are_no_smooth_edges(tmp_path):
    for k,ids in enumerate(([0,1,2,5,255], [0,10,40,90,255], [0,2,3,4,4])):
        chips = load_folders(folders(tmp_path/str(k), [np.resize(ids, (10,10))]))['all']
        one_line(lambda: chips[0], 'pixels hold', 'label_mapping.json or classes=')


def test_advice_about_colours_works(tmp_path):
    a = painted().astype(int)
    a[0,1] += 40
    folders(tmp_path, [a])
    one_line(lambda: load_folders(tmp_path, colours=TABLE)['all'][0], '#6438C0 (1 pixels): add them to the colour table, or to ignore_colours, or raise tolerance')
    assert load_folders(tmp_path, colours={**TABLE, 'shed': '#6438C0'})['all'][0].mask[0,1] == 3
    assert load_folders(tmp_path, colours=TABLE, ignore_colours=['#6438C0'])['all'][0].mask[0,1] == 255
    assert load_folders(tmp_path, colours=TABLE, tolerance=120)['all'][0].mask[0,1] == 1
    one_line(lambda: load_folders(tmp_path, mask_kind='ids')['all'][0], 'expected ids, got 3 bands: give colours=')


def test_advice_about_ids_works(tmp_path):
    folders(tmp_path, [np.eye(4)*3])
    assert load_folders(tmp_path, classes=list('abcd'))['all'][0].mask.max() == 3
    (tmp_path/'label_mapping.json').write_text('{"0": "a", "3": "d"}')
    assert load_folders(tmp_path)['all'][0].mask.max() == 1


def test_four_bit_and_palette_masks_mean_ids(tmp_path):
    "What pypng, MATLAB and GDAL write for few classes."
    folders(tmp_path, [np.zeros((2,4))])
    import rasterio
    ids = np.uint8([[0,1,2,3],[3,2,1,0]])
    for nbits in (2,4):
        with rasterio.open(tmp_path/'MASKS'/'0.png', 'w', 'PNG', 4, 2, 1, dtype='uint8', nbits=nbits) as r: r.write(ids[None])
        assert (load_folders(tmp_path, classes=list('abcd'))['all'][0].mask == ids).all()


def test_advice_about_lossy_masks_and_two_folders_of_one_part_works(tmp_path):
    m = np.kron([[0,1],[2,1]], np.ones((16,16)))
    root = folders(tmp_path/'a', [m], suffix='.jpg')
    one_line(lambda: load_folders(root, classes=list('abc'))['all'][0], 'a lossy mask has two classes at most: use png')
    save(root/'MASKS'/'0.png', m)
    (root/'MASKS'/'0.jpg').unlink()
    assert (load_folders(root, classes=list('abc'))['all'][0].mask == m).all()
    for part,i in (('train',0), ('training',1)):
        for o in ('IMAGES','MASKS'): save(tmp_path/'b'/part/o/f'{i}.png', np.zeros((4,4)))
    one_line(lambda: load_folders(tmp_path/'b'), 'one part for train and training: merge or move one')
    for o in ('IMAGES','MASKS'): (tmp_path/'b'/'training'/o/'1.png').rename(tmp_path/'b'/'train'/o/'1.png')
    assert len(load_folders(tmp_path/'b')['train']) == 2


def stored(root, *masks):
    "Pictures, and masks of any type: (array, profile) for a tif, an array for a png."
    for i,m in enumerate(masks):
        save(root/'IMAGES'/f'{i}.png', np.zeros((8,8,3)))
        if isinstance(m, tuple): save_tif(root/'MASKS'/f'{i}.tif', m[0], crs=None, **m[1])
        else:
            (root/'MASKS').mkdir(exist_ok=True)
            Image.fromarray(m).save(root/'MASKS'/f'{i}.png')
    return root


WHITE = np.kron(np.uint8([[0,255],[0,0]]), np.ones((4,4), np.uint8)) # A building of 4 x 4 pixels


@pytest.mark.parametrize('dtype', ['uint16','int16','int32','float32'])
def test_white_is_a_building_in_any_type_of_number(tmp_path, dtype):
    chips = load_folders(stored(tmp_path, (WHITE.astype(dtype),{}), WHITE, WHITE > 0, WHITE.astype(np.uint16)*257))['all']
    with pytest.warns(UserWarning, match='255 in the masks is building'): assert all((o.mask == (WHITE > 0)).all() for o in chips)


@pytest.mark.filterwarnings('ignore')
def test_white_of_any_type_is_unknown_where_a_mask_holds_a_1(tmp_path):
    chips = load_folders(stored(tmp_path, WHITE.astype(np.uint16)*257, WHITE, (WHITE//255).astype(np.uint16), WHITE > 0))['all']
    assert [o.mask.max() for o in chips] == [255,255,1,1]


@pytest.mark.parametrize('tag,dtype', [(-9999,'int16'), (9,'uint8'), (-9999,'float32'), (float('nan'),'float32')])
def test_masks_are_unknown_where_their_tag_says_no_data(tmp_path, tag, dtype):
    m = (WHITE//255).astype(dtype)
    m[6:] = tag
    chips = load_folders(stored(tmp_path, (m,dict(nodata=tag)), (m,dict(nodata=tag))))['all']
    assert (chips[0].mask[6:] == 255).all() and (chips[0].mask[:6] == (WHITE > 0)[:6]).all()
    slip = load_folders(stored(tmp_path/'slip', (WHITE//255,dict(nodata=0))))['all'] # The tag names a class
    assert (slip[0].mask == (WHITE > 0)).all()


def test_an_area_of_grey_is_no_edge(tmp_path):
    a = np.zeros((32,32), np.uint8)
    a[4:12,4:12] = 255
    a[20:26,4:12] = 128
    one_line(lambda: load_folders(folders(tmp_path, [a]*2))['all'][0], '48 pixels hold 128')


def test_unrelated_files_named_like_tables_are_left_out(tmp_path):
    root = folders(tmp_path, [np.eye(4)])
    for name,text in (('meta.json','{"author": "x", "year": 2020}'), ('meta.json','{"year": 2020}'), ('classes.json','{"a": {"b": 1}}'), ('classes.json','{"box": [1,2]}')):
        (root/name).write_text(text)
        with pytest.warns(UserWarning, match=f'{name}: left out, for it is no table of classes'): assert load_folders(root)['all'].classes == ('background','building')
    (root/'labelmap.txt').write_text('background:0,0,0::\nroad:' + '9'*5000 + ',0,0::\n')
    one_line(lambda: load_folders(root), 'labelmap.txt', 'expected lines such as')


def placed(root, x=500000, y=5000000, size=10, shape=(4,4), **kw):
    "Pictures of 4 x 4 pixels of 10 m, and masks that lie where they say; what they hold is their column."
    for i in range(2):
        save_tif(root/'images'/f'{i}.tif', np.full((4,4,3), 9, np.uint8), x=500000+40*i)
        save_tif(root/'masks'/f'{i}.tif', np.broadcast_to(np.arange(shape[1]) % 2, shape).astype(np.uint8), **dict(x=x+40*i, y=y, size=size) | kw)
    return root


@pytest.mark.parametrize('words,kw', [('is shifted by 1.0, 0.0 pixels', dict(x=500010)), ('is shifted by 0.0, 0.6 pixels', dict(y=4999994)), ('has pixels of another size', dict(size=5)),
    ('has pixels of another size', dict(size=5, shape=(8,8))), ('pixels', dict(x=600000)), ('pixels', dict(crs='EPSG:32634')), ('pixels', dict(x=600000, shape=(8,8)))])
def test_masks_that_lie_elsewhere_are_refused_and_following_the_advice_works(tmp_path, words, kw):
    root = placed(tmp_path, **kw)
    one_line(lambda: load_dataset(root), f'{root}/masks/', words, f'against its picture {root}/images/', '--like PICTURE')
    for i in range(2):
        mask,picture = root/'masks'/f'{i}.tif',root/'images'/f'{i}.tif'
        if kw.get('shape'): # Of another shape: by coordinates
            (root/'masks'/f'{i}.tif').rename(root/f'old{i}')
            from click.testing import CliRunner
            from rasterio.rio.main import main_group
            done = CliRunner().invoke(main_group, ['warp', str(root/f'old{i}'), str(mask), '--like', str(picture)])
            assert done.exit_code == 0, done.output
        else:
            with rasterio.open(mask) as r: a = r.read(1)
            save_tif(mask, a, crs=None)
    assert len(load_dataset(root)['all'][1].mask) == 4


@pytest.mark.parametrize('kw,row', [(dict(), [0,1,0,1]), (dict(x=500004.9), [0,1,0,1]), (dict(crs=None), [0,1,0,1]), (dict(x=499990, shape=(6,7)), [1,0,1,0]), (dict(x=500010, y=5000010, shape=(9,2)), [255,0,1,255])])
def test_masks_that_fit_or_cover_more_or_less_are_placed(tmp_path, kw, row):
    root,more = placed(tmp_path, **kw),'shape' in kw
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        chips = load_dataset(root)['all']
        assert [o.mask.tolist() for o in chips] == [[row]*4]*2
    assert any('masks cover more or less ground than pictures' in str(o.message) for o in said) == more
    if more: one_line(lambda: load_dataset(root, strict=True), 'masks cover more or less ground')


def test_one_system_in_other_words_is_the_same(tmp_path):
    "As ArcGIS writes it, and as a datum that is the same to a millimetre."
    esri = rasterio.crs.CRS.from_wkt(rasterio.crs.CRS.from_epsg(32633).to_wkt(version='WKT1_ESRI'))
    for i,crs in enumerate((esri,'EPSG:25833')): assert len(load_dataset(placed(tmp_path/str(i), crs=crs))['all'][1].mask) == 4
