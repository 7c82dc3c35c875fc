"""Layouts of tools and published datasets: small trees as they are written, read in pairs, with their classes and parts."""
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image
from data_samples import one_line, save, save_tif

from satseg.core.errors import Remark
from satseg.data.datasets import kind_of, load_dataset
from satseg.data.layout_table import LAYOUTS
from satseg.data.layouts import find_pairs

M = np.eye(4, dtype=np.uint8) # What every mask shows


def picture(i): return np.full((4,4,3), 10*i)


def write(path, a):
    if path.suffix in ('.tif','.tiff','.TIF'): save_tif(path, np.asarray(a), crs=None)
    else: save(path, a, **(dict(quality=95) if path.suffix == '.jpg' else {}))


def tree(root, **parts):
    "Pictures and masks by patterns with {i}: part -> picture, mask (None: none), numbers; mask values."
    for image,mask,numbers,values in parts.values():
        for i in numbers:
            write(root/image.format(i=i), picture(i).astype(np.uint8))
            if mask: write(root/mask.format(i=i), np.asarray(values, np.uint8)[M])
    return root


WHITE,ONE = (0,255),(0,1)
TREES = { # As written: name, parts, classes, and which ids of the classes 0 and 1 of `M` become
    'deepglobe road': (dict(train=('train/{i}_sat.jpg','train/{i}_mask.png',range(1,4),[[0]*3,[255]*3]), val=('valid/{i}_sat.jpg',None,range(4,6),0)), None, (0,1)),
    'massachusetts': (dict(train=('tiff/train/{i}.tiff','tiff/train_labels/{i}.tif',range(1,4),[[0]*3,[255]*3]), test=('tiff/test/{i}.tiff','tiff/test_labels/{i}.tif',range(4,6),[[0]*3,[255]*3])), None, (0,1)),
    'massachusetts site': (dict(train=('train/sat/{i}.tiff','train/map/{i}.tif',range(1,4),[[0]*3,[255]*3])), None, (0,1)),
    'labels beside images': (dict(all=('images/{i}.png','labels/{i}.png',range(1,4),WHITE)), None, (0,1)),
    'voc': (dict(all=('JPEGImages/{i}.jpg','SegmentationClass/{i}.png',range(1,4),ONE)), None, (0,1)),
    'labelme': (dict(all=('JPEGImages/{i}.jpg','SegmentationClassPNG/{i}.png',range(1,4),ONE)), None, (0,1)),
    'mmseg': (dict(train=('img_dir/train/{i}.png','ann_dir/train/{i}.png',range(1,4),ONE), val=('img_dir/val/{i}.png','ann_dir/val/{i}.png',range(4,6),ONE)), None, (0,1)),
    'parts inside': (dict(train=('images/train/{i}.png','masks/train/{i}.png',range(1,4),ONE), val=('images/val/{i}.png','masks/val/{i}.png',range(4,6),ONE)), None, (0,1)),
    'loveda': (dict(train=('Train/Urban/images_png/{i}.png','Train/Urban/masks_png/{i}.png',range(1,4),(0,2)), val=('Val/Rural/images_png/{i}.png','Val/Rural/masks_png/{i}.png',range(4,6),(0,2)),
               test=('Test/Urban/images_png/{i}.png',None,range(6,8),0)), ('background','building','road','water','barren','forest','agriculture'), (255,1)),
    'NAME_mask': (dict(train=('train/{i}.jpg','train/{i}_mask.png',range(1,4),ONE)), None, (0,1)),
    'NAME_mask in folders': (dict(all=('images/{i}.png','masks/{i}_mask.png',range(1,4),WHITE)), None, (0,1)),
    'openearthmap': (dict(all=('aachen/images/aachen_{i}.tif','aachen/labels/aachen_{i}.tif',range(1,4),(0,8)), b=('kyoto/images/kyoto_{i}.tif','kyoto/labels/kyoto_{i}.tif',range(1,3),(0,8))),
                     ('bareland','rangeland','developed','road','tree','water','agriculture','building'), (255,7)),
    'inria': (dict(train=('train/images/austin{i}.tif','train/gt/austin{i}.tif',range(1,4),WHITE), test=('test/images/tyrol{i}.tif',None,range(4,6),0)), None, (0,1)),
    'whu': (dict(train=('train/Image/{i}.tif','train/Label/{i}.tif',range(1,4),WHITE), val=('val/Image/{i}.tif','val/Label/{i}.tif',range(4,6),WHITE)), None, (0,1)),
    'landcover.ai': (dict(all=('images/M-33-20-D-c-4-{i}.tif','masks/M-33-20-D-c-4-{i}.tif',range(1,4),(0,3))), ('background','building','woodland','water','road'), (0,3)),
    'landcover.ai cut': (dict(all=('output/M-33-20-D-c-4-2_{i}.jpg','output/M-33-20-D-c-4-2_{i}_m.png',range(1,4),(0,3))), ('background','building','woodland','water','road'), (0,3)),
    'potsdam': (dict(all=('2_Ortho_RGB/top_potsdam_2_{i}_RGB.tif','5_Labels_all/top_potsdam_2_{i}_label.tif',range(1,4),[(255,255,255),(255,255,0)])),
                ('impervious','building','low vegetation','tree','car','clutter'), (0,4)),
    'kaggle': (dict(train=('train_images/{i}.png','train_masks/{i}.png',range(1,4),ONE), val=('val_images/{i}.png','val_masks/{i}.png',range(4,6),ONE)), None, (0,1)),
    'xbd': (dict(train=('train/images/guatemala_{i}_pre_disaster.png','train/targets/guatemala_{i}_pre_disaster_target.png',range(1,4),ONE)), None, (0,1)),
    'floodnet': (dict(train=('train/train-org-img/{i}.jpg','train/train-label-img/{i}_lab.png',range(1,4),(0,5)), val=('val/val-org-img/{i}.jpg','val/val-label-img/{i}_lab.png',range(4,6),(0,5))),
                 ('background','building flooded','building','road flooded','road','water','tree','vehicle','pool','grass'), (0,5)),
    'ftw': (dict(all=('s2_images/window_a/g{i}.tif','label_masks/semantic_2class/g{i}.tif',range(1,4),(3,1))), ('background','field'), (255,1)),
    'biome': (dict(all=('forest/LC8{i}/LC8{i}.TIF','forest/LC8{i}/LC8{i}_fixedmask.TIF',range(1,4),(128,255))), ('clear','cloud','thin cloud','cloud shadow'), (0,1)),
    'qgis deepness': (dict(all=('tile_img_0_{i}.png','tile_mask_0_{i}.png',range(1,4),WHITE)), None, (0,1)),
    'qgis deepness in folders': (dict(all=('images/tile_img_0_{i}.png','masks/tile_mask_0_{i}.png',range(1,4),WHITE)), None, (0,1)),
    'fiftyone': (dict(all=('data/{i}.jpg','labels/{i}.png',range(1,4),ONE)), None, (0,1)),
    'isaid in mmseg': (dict(train=('img_dir/train/P0002_{i}_896.png','ann_dir/train/P0002_{i}_896_instance_color_RGB.png',range(1,4),ONE)), None, (0,1)),
    'img and lbl': (dict(all=('images/img_00{i}.tif','labels/lbl_00{i}.tif',range(1,4),ONE)), None, (0,1)),
    'NAME_image and NAME_segmentation': (dict(all=('{i}_image.png','{i}_segmentation.png',range(1,4),ONE)), None, (0,1)),
    'arcgis pro': (dict(all=('images/00000000{i}.tif','labels/00000000{i}.tif',range(1,4),ONE)), None, (0,1)),
    'raster-vision': (dict(train=('train/img/s-{i}.png','train/labels/s-{i}.png',range(1,4),ONE), val=('valid/img/s-{i}.png','valid/labels/s-{i}.png',range(4,6),ONE)), None, (0,1)),
    'flair': (dict(all=('D004_2021/Z1_NN/img/IMG_{i}.png','D004_2021/Z1_NN/msk/MSK_{i}.png',range(1,4),ONE)), None, (0,1)),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', TREES)
def test_trees_as_tools_write_them(tmp_path, name):
    parts,classes,ids = TREES[name]
    root = tree(tmp_path/'data', **parts)
    (root/'readme.txt').write_text('Terms of use\n')
    assert kind_of(root) == 'folders'
    chips = load_dataset(root)
    want = {}
    for k,(_,mask,numbers,_) in parts.items(): want.setdefault('all' if k == 'b' else k, []).extend((10*i, mask is not None) for i in numbers)
    assert {k: [(round(float(o.image.mean())), o.mask is not None) for o in v] for k,v in chips.items()} == want
    first = next(iter(chips.values()))
    assert first.classes == (classes or ('background','building')) and len(set(first.names)) == len(first)
    assert (first[0].mask == np.array(ids)[M]).all()


def test_every_row_of_the_table_has_a_tree(tmp_path):
    names = set()
    for k,(parts,*_) in TREES.items(): names.add(find_pairs(tree(tmp_path/k.replace('/', ' '), **parts))[0].name)
    assert {o.name for o in LAYOUTS} - names <= {'CloudSEN12','38-Cloud','ISPRS Vaihingen','Sen1Floods11','On Cloud N'} # These have tests of their own


def warned(function):
    "What `function` gives, and what it warns of."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        return function(), [str(o.message) for o in said]


def test_38_cloud_has_a_folder_for_each_band(tmp_path):
    for part,folder,end in (('train','38-Cloud_training',''), ('train','95-Cloud_training_only_additional_to38-cloud','_additional_to38cloud'), ('test','38-Cloud_test','')):
        name = f'patch_{len(end)}_1_by_1_LC08_L1TP_002053_20160520_20170324_01_T1.TIF'
        for k,band in enumerate(('red','green','blue','nir')):
            save_tif(tmp_path/folder/f'{part}_{band}{end}'/f'{band}_{name}', np.full((4,4,1), 1000+k, np.uint16), crs=None)
        if part == 'train': save_tif(tmp_path/folder/f'train_gt{end}'/f'gt_{name}', M[...,None]*255, crs=None)
        save(tmp_path/folder/'Natural_False_Color'/f'nfc_{name[:-4]}.png', np.zeros((4,4,3)))
    parts,said = warned(lambda: load_dataset(tmp_path, bands=('B02','B08')))
    assert [parts['train'][i].image[:,0,0].tolist() for i in range(2)] == [[1002,1003]]*2 and not parts['test'].has_masks
    assert (parts['train'][0].mask == M).all() and parts['train'].classes == ('clear','cloud')
    assert any('left out: 1 .png in 38-Cloud_test/Natural_False_Color/' in o for o in said)
    (tmp_path/'38-Cloud_test/test_nir'/('nir_'+'patch_0_1_by_1_LC08_L1TP_002053_20160520_20170324_01_T1.TIF')).unlink()
    one_line(lambda: load_dataset(tmp_path)['test'][0], 'nir_patch', 'no such file')


@pytest.mark.filterwarnings('ignore')
def test_cloudsen12_has_a_folder_for_each_chip(tmp_path):
    for i in range(2):
        scene = tmp_path/'high'/f'ROI_000{i}'/'20190101T100000_20190101T100500_T30UYV'
        save_tif(scene/'S2L1C.tif', np.full((4,4,13), i, np.uint16), crs=None)
        save_tif(scene/'S2L2A.tif', np.full((4,4,17), i, np.uint16), crs=None)
        save_tif(scene/'labels/manual_hq.tif', M[...,None]*3, crs=None)
        save_tif(scene/'labels/fmask.tif', M[...,None]*4, crs=None)
    chips = load_dataset(tmp_path, bands=('B04',))['all']
    assert chips.names[0] == 'high/ROI_0000/20190101T100000_20190101T100500_T30UYV' and chips.classes[3] == 'cloud shadow'
    assert (chips[1].mask == M*3).all() and chips[1].image.max() == 1 and len(set(chips.groups)) == 2


def test_pascal_voc_takes_its_lists_and_counts_the_rest(tmp_path):
    tree(tmp_path, all=('JPEGImages/{i}.jpg','SegmentationClass/{i}.png',range(4),ONE), more=('JPEGImages/{i}.jpg',None,range(4,7),0))
    write(tmp_path/'SegmentationObject/1.png', M)
    (tmp_path/'Annotations').mkdir()
    for i in range(7): (tmp_path/f'Annotations/{i}.xml').write_text('<annotation/>')
    (tmp_path/'ImageSets/Segmentation').mkdir(parents=True)
    for part,names in (('train','012'), ('val','3'), ('trainval','0123')): (tmp_path/f'ImageSets/Segmentation/{part}.txt').write_text('\n'.join(names)+'\n')
    parts,said = warned(lambda: load_dataset(tmp_path))
    assert {k: v.names for k,v in parts.items()} == {'train': ['0','1','2'], 'val': ['3']}
    assert any('3 in no list, left out: 4, 5, 6' in o for o in said) and any('7 .xml in Annotations/, 3 .jpg in JPEGImages/, 1 .png in SegmentationObject/' in o for o in said)
    one_line(lambda: load_dataset(tmp_path, strict=True), 'in no list, left out')
    (tmp_path/'ImageSets/Segmentation/val.txt').write_text('3\n0\n')
    one_line(lambda: load_dataset(tmp_path), 'ImageSets/Segmentation: 0 is listed twice, in train and val')
    shutil.rmtree(tmp_path/'ImageSets')
    one_line(lambda: load_dataset(tmp_path), '3 without a partner: 4 (no mask)', "missing='skip'")
    assert warned(lambda: load_dataset(tmp_path, missing='skip'))[0]['all'].names == ['0','1','2','3']


@pytest.mark.filterwarnings('ignore')
def test_lists_of_openearthmap(tmp_path):
    tree(tmp_path, a=('aachen/images/aachen_{i}.tif','aachen/labels/aachen_{i}.tif',range(1,4),(0,8)), b=('aachen/images/aachen_{i}.tif',None,[9],0))
    for part,names in (('train','aachen_1.tif\naachen_2.tif\nmidwest-flooding_3.tif\n'), ('val','aachen_3.tif\n'), ('test','aachen_9.tif\n')): (tmp_path/f'{part}.txt').write_text(names)
    parts = load_dataset(tmp_path)
    assert {k: (v.names, v.has_masks) for k,v in parts.items()} == {'train': (['aachen_1','aachen_2'],True), 'val': (['aachen_3'],True), 'test': (['aachen_9'],False)}


TABLES = {'labelmap.txt': '# label:color_rgb:parts:actions\nbuilding:250,50,83::\nbackground:0,0,0::\n', 'class_dict.csv': 'name,r,g,b\nbuilding,250,50,83\nbackground,0,0,0\n',
          'classes.json': '{"classes": [{"title": "background", "shape": "polygon", "color": "#000000"}, {"title": "building", "color": "#FA3253"}], "tags": []}'}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', TABLES)
def test_colours_come_with_tables_of_tools(tmp_path, name):
    tree(tmp_path, all=('JPEGImages/{i}.jpg','SegmentationClass/{i}.png',range(2),[(0,0,0),(250,50,83)]))
    one_line(lambda: load_dataset(tmp_path)['all'][0], '#000000, #FA3253: give their classes in colours.json or colours=')
    (tmp_path/name).write_text(TABLES[name])
    chips = load_dataset(tmp_path)['all']
    assert chips.classes == ('background','building') and (chips[0].mask == M).all() and chips.colours[1] == (250,50,83)


@pytest.mark.parametrize('name,text,classes,value', [('_classes.csv', 'Pixel Value, Class\n0, background\n3, road\n', ('background','road'), 3),
    ('class_names.txt', '_background_\nroad\nwater\n', ('_background_','road','water'), 2)])
def test_ids_come_with_tables_of_tools(tmp_path, name, text, classes, value):
    tree(tmp_path, train=('train/{i}.jpg','train/{i}_mask.png',range(2),(0,value)))
    (tmp_path/'train'/name).write_text(text)
    chips = load_dataset(tmp_path)['train']
    assert chips.classes == classes and (chips[0].mask == M*(len(classes)-1)).all()
    (tmp_path/'train'/name).write_text('0, background\n1\n')
    one_line(lambda: load_dataset(tmp_path), name, 'expected lines such as building,128,0,0 or 1,building')


def test_masks_are_never_pictures(tmp_path):
    tree(tmp_path/'a', all=('{i}_mask.png',None,range(3),0))
    one_line(lambda: load_dataset(tmp_path/'a'), '3 are named like masks (0_mask, ', 'IMAGES/ and MASKS/')
    tree(tmp_path/'b', all=('images/{i}.png','masks/{i}.png',range(2),ONE), more=('images/{i}_label.png',None,range(2),0))
    parts,said = warned(lambda: load_dataset(tmp_path/'b'))
    assert parts['all'].names == ['0','1'] and any('left out: 2 .png in images/' in o for o in said)


def test_labels_beside_what_is_read_are_named(tmp_path):
    "Following the advice gives the masks."
    tree(tmp_path/'mine', all=('images/{i}.png','drawn/{i}.png',range(2),ONE))
    parts,said = warned(lambda: load_dataset(tmp_path/'mine'))
    assert not parts['all'].has_masks and any('masks in drawn/? say kind=\'folders\', masks=\'drawn\' (--kind folders --options masks=drawn)' in o for o in said)
    assert (load_dataset(tmp_path/'mine', kind='folders', masks='drawn')['all'][0].mask == M).all()
    tree(tmp_path/'sat', train=('train/{i}.tif','train_labels/{i}.tif',range(2),ONE))
    parts,said = warned(lambda: load_dataset(tmp_path/'sat/train'))
    assert not parts['all'].has_masks and any(f'masks in train_labels/ beside it? give {tmp_path}/sat' in o for o in said)
    assert (load_dataset(tmp_path/'sat')['train'][1].mask == M).all()
    (tmp_path/'yolo/labels').mkdir(parents=True)
    tree(tmp_path/'yolo', all=('images/{i}.png',None,range(2),0))
    (tmp_path/'yolo/labels/0.txt').write_text('0 .5 .5 .1 .1\n')
    assert any('left out: 1 .txt in labels/' in o for o in warned(lambda: load_dataset(tmp_path/'yolo'))[1])


def test_an_unknown_layout_names_what_is_wanted_and_what_is_there(tmp_path):
    tree(tmp_path, all=('photos/{i}.png','drawn/{i}.png',range(2),ONE))
    for kind in (None,'folders'): one_line(lambda: load_dataset(tmp_path, kind), 'IMAGES/ and MASKS/ with pairs of the same name', '2 .png in drawn/, 2 .png in photos/')
    (tmp_path/'photos').rename(tmp_path/'IMAGES')
    (tmp_path/'drawn').rename(tmp_path/'MASKS')
    assert load_dataset(tmp_path)['all'].has_masks


def test_two_copies_of_one_picture_are_refused(tmp_path):
    tree(tmp_path, a=('tiff/train/{i}.tiff','tiff/train_labels/{i}.tif',range(2),ONE), b=('png/train/{i}.png','png/train_labels/{i}.png',range(2),ONE))
    one_line(lambda: load_dataset(tmp_path), 'one name for png/train/0.png and tiff/train/0.tiff', 'give the folder of one of them')
    assert len(load_dataset(tmp_path/'tiff')['train']) == 2


def test_hidden_files_and_outputs_are_no_pictures(tmp_path):
    tree(tmp_path, all=('images/{i}.png','masks/{i}.png',range(2),ONE), mac=('__MACOSX/images/._{i}.png',None,range(2),0), b=('images/.ipynb_checkpoints/{i}-checkpoint.png',None,range(2),0))
    parts,said = warned(lambda: load_dataset(tmp_path))
    assert parts['all'].names == ['0','1'] and not said


def test_advice_about_options_works_on_the_command_line(tmp_path):
    from satseg.evaluation.open_dataset import reader_options
    root = tree(tmp_path/'a', all=('images/{i}.png','masks/{i}.png',range(3),[(0,0,0),(250,0,0)]), more=('images/{i}.png',None,[7],0))
    (root/'colours.json').write_text('{"background": "#000000", "building": "#FA0000", "water": "#0000FA"}')
    one_line(lambda: load_dataset(root), "missing='skip' (--options missing=skip)")
    chips = load_dataset(root, **reader_options('missing=skip ignore=water ignore_colours=#FA0000'))['all']
    assert chips.classes == ('background','building') and len(chips) == 3
    root = tree(tmp_path/'b', all=('images/{i}.png','masks/{i}.png',range(2),(0,200)))
    one_line(lambda: load_dataset(root)['all'][0], 'mask_kind=255')
    assert (load_dataset(root, **reader_options('mask_kind=255'))['all'][0].mask == M).all()


def test_white_of_16_bits_is_white(tmp_path):
    tree(tmp_path, all=('images/{i}.png',None,range(2),0))
    (tmp_path/'masks').mkdir()
    for i in range(2): Image.fromarray(M.astype(np.uint16)*65535).save(tmp_path/f'masks/{i}.png')
    assert (load_dataset(tmp_path)['all'][1].mask == M).all()


def test_masks_named_seg(tmp_path):
    tree(tmp_path, all=('images/{i}.png','seg/{i}_seg.png',range(2),ONE))
    assert load_dataset(tmp_path)['all'].has_masks


def test_masks_in_deeper_folders_than_their_pictures(tmp_path):
    "FLAIR as published: pictures and masks under two tops; Oxford pets: masks a folder deeper."
    tree(tmp_path/'flair', all=('flair_aerial_train/D004/Z1/img/IMG_{i}.tif','flair_labels_train/D004/Z1/msk/MSK_{i}.tif',range(3),ONE))
    tree(tmp_path/'pets', all=('images/{i}.jpg','annotations/trimaps/{i}.png',range(3),ONE))
    for o in ('flair','pets'):
        chips = load_dataset(tmp_path/o)['all']
        assert len(chips) == 3 and all((o.mask == M).all() for o in chips)


def test_a_large_tree_is_looked_through_in_seconds(tmp_path):
    import time
    for part in ('images','masks'):
        for k in range(10):
            (tmp_path/part/str(k)).mkdir(parents=True)
            for i in range(500): (tmp_path/part/str(k)/f'{k}_{i}.png').touch()
    start = time.time()
    assert len(find_pairs(tmp_path)[1]['all']) == 5_000 and time.time()-start < 10


@pytest.mark.filterwarnings('ignore')
def test_camvid_and_voc_as_cvat_exports_them(tmp_path):
    "One subset, called default; masks are painted, the colours are in a list."
    painted = [(0,0,0),(250,50,83)]
    tree(tmp_path/'camvid', all=('default/{i}.png','defaultannot/{i}.png',range(3),painted))
    (tmp_path/'camvid/label_colors.txt').write_text('0 0 0 background\n250 50 83 large building\n')
    (tmp_path/'camvid/default.txt').write_text(''.join(f'/default/{i}.png /defaultannot/{i}.png\n' for i in range(3)))
    tree(tmp_path/'voc', all=('JPEGImages/{i}.png','SegmentationClass/{i}.png',range(3),painted), more=('JPEGImages/{i}.png',None,range(3,5),0))
    (tmp_path/'voc/labelmap.txt').write_text('# label:color_rgb:parts:actions\nbackground:0,0,0::\nlarge building:250,50,83::\n')
    (tmp_path/'voc/ImageSets/Segmentation').mkdir(parents=True)
    (tmp_path/'voc/ImageSets/Segmentation/default.txt').write_text('0\n1\n2\n')
    for o in ('camvid','voc'):
        chips = load_dataset(tmp_path/o)['all']
        assert chips.names == ['0','1','2'] and chips.classes == ('background','large building') and (chips[2].mask == M).all()


PLAIN = dict(all=('images/{i}.png','masks/{i}.png',range(4),ONE))


@pytest.mark.parametrize('link,to', [('latest','v1'), ('v2','v1'), ('again','.'), ('v1/up','..')])
def test_links_show_no_chip_twice(tmp_path, link, to):
    tree(tmp_path/'ds/v1', **PLAIN)
    (tmp_path/'ds'/link).symlink_to(to)
    chips,said = warned(lambda: load_dataset(tmp_path/'ds'))
    assert len(chips['all']) == 4 and sorted(o.split('/')[-1] for o in chips['all'].names) == list('0123') and not said
    (tmp_path/'other').mkdir() # Folders elsewhere are read through links
    for o in ('images','masks'): (tmp_path/'other'/o).symlink_to(tmp_path/'ds/v1'/o)
    assert len(load_dataset(tmp_path/'other')['all']) == 4


def test_many_links_to_the_folder_itself_take_no_time(tmp_path):
    import time
    tree(tmp_path, **PLAIN)
    for i in range(8): (tmp_path/f'l{i}').symlink_to(tmp_path)
    start = time.time()
    assert len(load_dataset(tmp_path)['all']) == 4 and time.time()-start < 3


def test_names_in_swapped_folders_are_no_pairs(tmp_path):
    for folder,i in (('a',1), ('b',2)):
        write(tmp_path/f'images/{folder}/{i}.png', picture(i).astype(np.uint8))
        write(tmp_path/f'masks/{folder}/{3-i}.png', M)
    one_line(lambda: load_dataset(tmp_path, 'folders'), 'a/1 (no mask)', 'a/2 (no image)')


@pytest.mark.filterwarnings('ignore')
def test_lists_with_spaces_numbers_and_folders(tmp_path):
    def parts(root, **lists):
        for k,v in lists.items(): (root/f'{k}.txt').write_text('\n'.join(v)+'\n')
        return {k: v.names for k,v in load_dataset(root).items()}
    root = tree(tmp_path/'spaces', all=('images/tile {i}.png','masks/tile {i}.png',range(3),ONE))
    assert parts(root, train=['tile 0.png','tile 1.png'], val=['tile 2.png']) == parts(root, train=['tile 0','tile 1'], val=['tile 2']) == {'train': ['tile 0','tile 1'], 'val': ['tile 2']}
    root = tree(tmp_path/'numbers', **PLAIN)
    assert parts(root, train=['0 1','1 -1','2 1'], val=['3 -1']) == {'train': ['0','1','2'], 'val': ['3']}
    root = tree(tmp_path/'nested', a=('images/A/{i}.png','masks/A/{i}.png',range(2),ONE), b=('images/B/{i}.png','masks/B/{i}.png',range(2),ONE))
    assert parts(root, train=['A/0.png','images/A/1.png','B/0.png'], val=['B/1.png']) == {'train': ['A/0','1','B/0'], 'val': ['1']}
    root = tree(tmp_path/'log', **PLAIN)
    assert parts(root, train=['epoch 1','epoch 1','epoch 2']) == {'all': list('0123')}


def test_only_folders_that_belong_together_are_said_to_hold_the_masks(tmp_path, monkeypatch):
    from pathlib import Path
    tree(tmp_path, a=('roads/{i}.png',None,range(2),0), b=('houses_labels/{i}.png',None,range(2),0), c=('roads_labels/{i}.png',None,range(2),0))
    assert [o.split('; ')[1] for o in warned(lambda: load_dataset(tmp_path/'roads'))[1]] == [f'masks in roads_labels/ beside it? give {tmp_path}']
    def refuse(): raise PermissionError(13, 'Permission denied')
    inside = Path.iterdir
    monkeypatch.setattr(Path, 'iterdir', lambda o: refuse() if o == tmp_path else inside(o))
    assert len(load_dataset(tmp_path/'roads')['all']) == 2


@pytest.mark.parametrize('mask', ['masks/{i}.webp','{i}_mask.gif'])
def test_masks_that_cannot_be_read_are_named(tmp_path, mask):
    for i in range(2):
        write(tmp_path/('images' if '/' in mask else '.')/f'{i}.png', picture(i).astype(np.uint8))
        (tmp_path/mask.format(i=i)).parent.mkdir(exist_ok=True)
        Image.fromarray(M*255).save(tmp_path/mask.format(i=i))
    parts,said = warned(lambda: load_dataset(tmp_path))
    assert not parts['all'].has_masks and any(f'left out: 2 {mask[-5:].strip("k")} in ' in o for o in said)


@pytest.mark.filterwarnings('ignore')
def test_bands_in_files_of_a_folder_for_each_chip(tmp_path):
    "On Cloud N as published, L8 Biome with a file for each band: bands by their names, Landsat's own numbers."
    for k,name in enumerate(('adwp','adwu')):
        for b in range(4): save_tif(tmp_path/'cloudn/train_features'/name/f"B0{(2,3,4,8)[b]}.tif", np.full((4,4), 10*k+b, np.uint16))
        save_tif(tmp_path/'cloudn/train_labels'/f'{name}.tif', M)
    chips = load_dataset(tmp_path/'cloudn', bands=('NIR','B02'))['train']
    assert chips.names == ['adwp','adwu'] and chips[1].image[:,0,0].tolist() == [13,10] and (chips[1].mask == M).all() and chips.classes == ('clear','cloud')
    for name in ('LC80010112014080LGN00','LC80010732013109LGN00'):
        for b in range(1, 12): save_tif(tmp_path/'biome/forest'/name/f'{name}_B{b}.TIF', np.full((8,8) if b == 8 else (4,4), 100+b, np.uint16), size=5 if b == 8 else 10)
        save_tif(tmp_path/'biome/forest'/name/f'{name}_fixedmask.TIF', np.uint8([128,192])[M])
        save_tif(tmp_path/'biome/forest'/name/f'{name}_BQA.TIF', M)
    chips = load_dataset(tmp_path/'biome', bands=('B04','B08','B11'))['all'] # Of Sentinel-2: red, near infrared, SWIR1
    assert chips[1].image[:,0,0].tolist() == [104,105,106] and (chips[0].mask == M*2).all()


@pytest.mark.filterwarnings('ignore')
def test_sen1floods11_knows_its_missing_pixels(tmp_path, capfd):
    for i in range(2):
        save_tif(tmp_path/f'S2Hand/Ghana_{i}_S2Hand.tif', np.full((4,4,13), i, np.int16), crs=None)
        save_tif(tmp_path/f'S1Hand/Ghana_{i}_S1Hand.tif', np.full((4,4,2), i, np.float32))
        save_tif(tmp_path/f'LabelHand/Ghana_{i}_LabelHand.tif', np.int16([-1,1])[M])
    parts,said = warned(lambda: load_dataset(tmp_path))
    assert parts['all'].classes == ('dry','water') and (parts['all'][0].mask == np.array([255,1])[M]).all() and any('left out: 2 .tif in S1Hand/' in o for o in said)
    assert not capfd.readouterr().err # Pillow 12 prints a line for every TIFF of many bands


def test_isaid_is_read_by_its_outlines_and_its_masks_are_no_pictures(tmp_path):
    import json
    paint = [(0,0,0),(0,0,63)]
    tree(tmp_path, train=('train/images/P{i}.png','train/Semantic_masks/images/P{i}_instance_color_RGB.png',range(3),paint), more=('train/images/P{i}.png','train/Instance_masks/images/P{i}_instance_id_RGB.png',range(3),paint))
    parts,said = warned(lambda: load_dataset(tmp_path))
    assert parts['train'].names == ['P0','P1','P2'] and any('left out: 3 .png in train/Instance_masks/images/, 3 .png in train/Semantic_masks/images/' in o for o in said)
    rows = dict(images=[dict(id=i, file_name=f'P{i}.png', width=4, height=4) for i in range(3)], annotations=[dict(id=i, image_id=i, category_id=1, segmentation=[[0,0,2,0,2,2,0,2]]) for i in range(3)], categories=[dict(id=1, name='ship')])
    (tmp_path/'train/Annotations').mkdir()
    (tmp_path/'train/Annotations/iSAID_train.json').write_text(json.dumps(rows))
    chips = load_dataset(tmp_path)['train']
    assert kind_of(tmp_path) == 'coco' and len(chips) == 3 and chips[2].mask.sum() == 4


@pytest.mark.parametrize('names', [['via_region_data.json'], ['0.json','1.json'], ['0.xml','1.xml'], ['0.txt'], ['outlines.geojson'], ['project.json','classes.json']])
def test_labels_of_other_tools_beside_pictures_are_named(tmp_path, names):
    "VGG VIA, labelme, LabelImg, YOLO; a class table and terms of use are no labels."
    tree(tmp_path, all=('{i}.jpg',None,range(2),0))
    (tmp_path/'readme.txt').write_text('Terms of use')
    for o in names: (tmp_path/o).write_text('{"a": "b", "0": "c"}')
    parts,said = warned(lambda: load_dataset(tmp_path, 'folders'))
    left = [o for o in names if o != 'classes.json']
    assert any(f'left out: {len(left)} {left[0][left[0].index("."):]} in ./' in o for o in said) and not parts['all'].has_masks


@pytest.mark.filterwarnings('ignore')
def test_masks_that_supervisely_exports(tmp_path):
    "meta.json knows no background; masks for machines hold ids in three equal bands."
    tree(tmp_path, all=('ds0/img/{i}.jpg','ds0/masks_machine/{i}.png',range(3),[[0]*3,[2]*3]), more=('ds0/img/{i}.jpg','ds0/masks_human/{i}.png',range(3),[(0,0,0),(0,0,255)]))
    (tmp_path/'meta.json').write_text('{"classes": [{"title": "building", "color": "#FF0000"}, {"title": "water", "color": "#0000FF"}], "tags": []}')
    chips = load_dataset(tmp_path)['all']
    assert chips.classes == ('background','building','water') and (chips[0].mask == M*2).all()
    assert (load_dataset(tmp_path, masks='ds0/masks_human')['all'][0].mask == M*2).all()


def test_masks_that_pair_with_no_picture_are_an_error(tmp_path):
    "Not GeoTIFFs without masks."
    tree(tmp_path, all=('images/a{i}.tif',None,range(2),0), more=('labels/b{i}.tif',None,range(2),0))
    one_line(lambda: load_dataset(tmp_path), 'a0 (no mask)', 'b1 (no image)')


@pytest.mark.parametrize('images,drawn', [('images/{i}.png','drawn/{i}.png'), ('ds0/img/{i}.png','ds0/drawn/{i}.png'), ('a/images/{i}.png','drawn/x/{i}.png'), ('train/{i}.png','drawn/{i}.png')])
def test_the_folder_of_masks_that_a_remark_names_is_the_right_one(tmp_path, images, drawn):
    "What it says is done as it says it."
    import re
    from satseg.evaluation.open_dataset import reader_options
    tree(tmp_path, all=(images,drawn,range(3),ONE))
    parts,said = warned(lambda: load_dataset(tmp_path, 'folders'))
    assert not any(o.has_masks for o in parts.values())
    options = next(re.search(r'--options (\S+)\)', o)[1] for o in said if '--options' in o)
    chips = load_dataset(tmp_path, 'folders', **reader_options(options))
    assert all((o.mask == M).all() for v in chips.values() for o in v)
