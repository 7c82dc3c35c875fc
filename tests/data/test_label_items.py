"""STAC label items: pictures and outlines by links, on catalogues as PySTAC, Radiant MLHub and Raster Foundry write them."""
import json
import shutil
import warnings

import numpy as np
import pytest
from data_samples import geopandas, one_line, save, save_tif
from shapely import box

from satseg.core.errors import Remark
from satseg.data.datasets import kind_of, load_dataset
from satseg.data.geotiffs import geotiff_grids


def item(path, assets, links=(), **properties):
    "An item as PySTAC 1.15 writes it into a catalogue that holds itself."
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = [dict(rel='root', href='../../catalog.json', type='application/json'), dict(rel='parent', href='../collection.json', type='application/json')]
    path.write_text(json.dumps(dict(type='Feature', stac_version='1.0.0', id=path.stem, properties=dict(datetime='2020-01-01T00:00:00Z', **properties), geometry=None,
        links=[*ends, *links], assets={k: o if isinstance(o, dict) else dict(href=o, type='application/geo+json' if 'json' in o else 'image/tiff; application=geotiff') for k,o in assets.items()},
        stac_extensions=['https://stac-extensions.github.io/label/v1.0.1/schema.json'] if properties else []), indent=2))


def labels(**kw): return {'label:description': 'drawn', 'label:type': 'vector', 'label:properties': list(kw), 'label:tasks': ['segmentation'], 'label:methods': ['manual'],
                          'label:classes': [dict(name=k, classes=v) for k,v in kw.items()]}


def fields(path, i, **columns):
    "Half of each chip, in two pieces."
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = [box(500000+40*i+10*k, 4999900, 500010+40*i+10*k, 5000000) for k in range(2)]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs='EPSG:32633').to_crs('EPSG:4326').to_file(path, driver='GeoJSON')


def catalogue(root, pictures=dict(image='image.tif'), source='../../images/p{i}/p{i}.json', chips=3, classes=dict(kind=['barn','hut']), extra=None):
    for i in range(chips):
        for o in pictures.values():
            if str(o).endswith('.tif'): save_tif(root/f'images/p{i}'/o, np.full((4,4,3), i+1, np.uint8), x=500000+40*i)
        item(root/f'images/p{i}/p{i}.json', pictures)
        fields(root/f'labels/q{9-i}/o.geojson', i, kind=['hut','barn'], code=[1,2])
        item(root/f'labels/q{9-i}/q{9-i}.json', dict(labels='./o.geojson'), [dict(rel='source', href=source.format(i=i), type='application/json', **(extra or {}))], **labels(**classes))
    for o in ('catalog','images/collection','labels/collection'):
        (root/f'{o}.json').write_text(json.dumps(dict(type='Catalog' if o == 'catalog' else 'Collection', id=o, stac_version='1.0.0', description='', links=[],
                                                      assets={}, summaries={'label:type': ['vector']})))
    return root


@pytest.mark.parametrize('path', ['.','catalog.json','labels/collection.json'])
def test_label_items_are_read_by_their_links(tmp_path, path):
    "Names would pair q9 with nothing; classes come in the order of the items."
    root = catalogue(tmp_path)
    if path.startswith('labels'):
        one_line(lambda: load_dataset(root/path), '3 label items whose links lead out of the folder: give one that holds all (q7/q7.json')
        return
    assert kind_of(root/path) == 'geotiffs'
    chips = load_dataset(root/path)['all']
    assert chips.classes == ('background','barn','hut') and len(chips) == len(geotiff_grids(root)) == 3
    assert {(int(o.image[0,0,0]), *o.mask[0].tolist()) for o in chips} == {(i,2,1,0,0) for i in (1,2,3)}
    assert len(load_dataset(root, classes=('ground','field'))['all'].classes) == 2 and load_dataset(root, classes=('background','hut'))['all'][0].mask.sum() == 4
    assert load_dataset(root, column='code')['all'].classes == ('background','1','2')


def test_one_item_alone_and_several_sources(tmp_path):
    root = catalogue(tmp_path)
    item(root/'one.json', dict(labels='labels/q9/o.geojson'), [dict(rel='source', href=f'images/p{i}/image.tif') for i in range(2)], **labels(kind=['barn','hut']))
    chips = load_dataset(root/'one.json')['all']
    assert [o.image.max() for o in chips] == [1,2] and [o.mask.max() for o in chips] == [2,0]
    fields(root/'mine.geojson', 0)
    assert load_dataset(root/'mine.geojson', images='images')['all'].classes == ('background','building') # A file of outlines means itself


def test_bands_in_files_of_their_own(tmp_path):
    "As in Radiant MLHub: one asset for each band of Sentinel-2."
    root = catalogue(tmp_path, dict(B11='B11.tif', B02='B02.tif', scl='SCL.tif', look='look.jpg'))
    for i in range(3):
        save_tif(root/f'images/p{i}/B02.tif', np.full((4,4), 10+i, np.uint16), x=500000+40*i)
        save_tif(root/f'images/p{i}/B11.tif', np.full((2,2), 20+i, np.uint16), x=500000+40*i, size=20)
    chips = load_dataset(root)['all']
    assert chips.bands == ('B02','B11') and sorted(o.image[:,0,0].tolist() for o in chips) == [[10,20],[11,21],[12,22]] and chips[0].mask.shape == (4,4)


@pytest.mark.filterwarnings('ignore')
def test_of_several_rasters_one_is_meant(tmp_path):
    "As SpaceNet: colours, eight bands and panchromatic."
    several = dict(rgb='rgb.tif', multi='multi.tif', pan='pan.tif')
    text = one_line(lambda: load_dataset(catalogue(tmp_path/'a', several)), '3 label items with several rasters: say images= with one of rgb, multi, pan')
    assert 'images=' in text and load_dataset(tmp_path/'a', images='multi')['all'].has_masks # The advice helps
    assert load_dataset(catalogue(tmp_path/'b', several, extra={'label:assets': ['rgb']}))['all'].has_masks
    assert load_dataset(catalogue(tmp_path/'c', dict(image='image.tif', visual=dict(href='TCI.tif', roles=['visual']), thumb='a.png')))['all'].has_masks


@pytest.mark.parametrize('source,words', [('https://a.org/p{i}.json','whose files lie on the web: download them'), ('../../../p{i}.json','whose links lead out of the folder: give one that holds all'),
    ('/vsicurl/https://a.org/{i}.tif','lead out'), ('s3://a/{i}.tif','on the web'), ('../p{i}.json','whose files are missing'), ('o.geojson','damaged')])
def test_links_lead_to_files_of_the_folder_only(tmp_path, source, words):
    for i in range(3): save(tmp_path/f'p{i}.json', np.zeros((4,4,3)), format='PNG')
    root = catalogue(tmp_path/'data', source=source)
    one_line(lambda: load_dataset(root), '3 label items', words)
    item(root/'labels/q0.json', dict(labels='q9/o.geojson'), [dict(rel='source', href='../images/p0/p0.json')], **labels(kind=['barn','hut']))
    with pytest.warns(Remark, match='left out: 3 label items'): assert len(load_dataset(root)['all']) == 1
    one_line(lambda: load_dataset(root, strict=True), 'left out: 3 label items')


def test_masks_are_named_with_what_to_do(tmp_path):
    "Following the advice gives them."
    root = catalogue(tmp_path/'a', classes=dict(kind=['barn','hut']))
    for o in root.glob('labels/*/q*.json'):
        data = json.loads(o.read_text())
        data['properties'] |= {'label:type': 'raster', 'label:properties': None}
        data['assets'] |= dict(mask=dict(href='m.tif', type='image/tiff'))
        o.write_text(json.dumps(data))
    one_line(lambda: load_dataset(root), '3 label items whose labels are masks: copy them to masks/NAME.tif and the pictures to images/NAME.tif')
    for i in range(3):
        save_tif(tmp_path/f'b/masks/{i}.tif', np.eye(4, dtype=np.uint8), x=500000+40*i)
        (tmp_path/'b/images').mkdir(exist_ok=True)
        shutil.copy(root/f'images/p{i}/image.tif', tmp_path/f'b/images/{i}.tif')
    assert load_dataset(tmp_path/'b')['all'][0].mask.sum() == 4


def test_several_properties_and_one_class(tmp_path):
    root = catalogue(tmp_path/'a', classes=dict(kind=['barn','hut'], code=['1','2']))
    with pytest.warns(Remark, match='taken for one class; column= tells them apart by kind, code'): chips = load_dataset(root)['all']
    assert chips.classes == ('background','building') and load_dataset(root, column='code')['all'].classes[1:] == ('1','2')
    assert load_dataset(catalogue(tmp_path/'b', classes=dict(kind=['hut'])))['all'].classes == ('background','building')


def test_items_of_pictures_alone_are_no_labels(tmp_path):
    root = catalogue(tmp_path)
    shutil.rmtree(root/'labels')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert not load_dataset(root/'images', 'geotiffs')['all'].has_masks


def test_where_links_lead_nowhere_names_may_do(tmp_path):
    "As downloaded from Radiant MLHub: files beside the items, whose addresses are those of the web."
    for i in range(3):
        save_tif(tmp_path/f'ramp_source_{i}/source.tif', np.full((4,4,3), i+1, np.uint8), x=500000+40*i)
        fields(tmp_path/f'ramp_labels_{i}/labels.geojson', i, kind=['hut','barn'])
        item(tmp_path/f'ramp_labels_{i}/stac.json', dict(labels=f'https://api.radiant.earth/{i}.geojson'), [dict(rel='source', href=f'https://api.radiant.earth/{i}')], **labels(kind=['barn','hut']))
    with pytest.warns(Remark, match='3 label items whose files lie on the web: download them .*: paired by names'): chips = load_dataset(tmp_path)['all']
    assert chips.classes == ('background','barn','hut') and [o.mask[0].tolist() for o in chips] == [[2,1,0,0]]*3


def test_a_file_given_is_no_reason_to_look_around(tmp_path, monkeypatch):
    "A COCO file may lie in a home folder."
    import satseg.data.label_items as it
    (tmp_path/'coco.json').write_text('{"images": [{"id": 1}], "annotations": [{"id": 1}], "categories": [{"id": 1}]}')
    def walk(*a): raise AssertionError('walks')
    monkeypatch.setattr(it, 'walk_files', walk)
    assert it.find_label_items(tmp_path/'coco.json') == {}


@pytest.mark.parametrize('damage', ['cut','long'])
def test_one_damaged_item_is_left_out(tmp_path, damage):
    root = tmp_path/'c'
    catalogue(root)
    file = root/'labels/q8/q8.json'
    if damage == 'cut': file.write_text(file.read_text()[:-10])
    else:
        row = json.loads(file.read_text())
        for o in row['assets'].values(): o['href'] = 'x'*5000+'.geojson'
        file.write_text(json.dumps(row))
    with pytest.warns(Remark, match='1 label items that are damaged'): assert len(load_dataset(root)['all']) == 2
