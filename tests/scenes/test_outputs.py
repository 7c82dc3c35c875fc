"The files of a map: all or none, areas, names."
import csv
import os
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
from scene_samples import recorded

import satseg.scenes.outputs as outputs
from satseg.core.display import class_colours
from satseg.core.tables import write_csv
from satseg.models.model_info import ModelInfo
from satseg.scenes.outputs import _area_table
from satseg.scenes.plan import MapOptions


def test_all_files_of_a_scene_are_on_the_disk_before_its_store_may_go(tmp_path, monkeypatch):
    names = dict(polygons='a.gpkg', areas='a.csv', style='a.qml', classes='a.tif')
    def write(path, *args, **kw): path.write_text(path.name)
    for o in ('write_cog', 'write_csv', 'write_polygons'): monkeypatch.setattr(outputs, o, write)
    monkeypatch.setattr(outputs, '_merge_shapes', lambda *args: [])
    monkeypatch.setattr(outputs, 'map_files', lambda *args: names)
    monkeypatch.setattr(outputs, '_sum_areas', lambda *args: [])
    place = SimpleNamespace(name='a', height=2, width=1, crs=None, transform=None)
    plan = dict(polygons=[1], probabilities=False, uncertainty=None, threshold=.5, model='00ff')
    run = SimpleNamespace(scene=place, plan=plan, layout=SimpleNamespace(steps=None), options=MapOptions(), model='m.pth', engine=SimpleNamespace(info=ModelInfo(classes=['background', 'building'])))
    seen = recorded(monkeypatch)
    outputs.write_outputs(tmp_path, None, run)
    files = [(tmp_path/o).stat().st_ino for o in names.values()]
    first = seen.index(('name', files[0]))
    assert {('sync', o) for o in files} <= set(seen[:first])
    assert seen[first:] == [*(('name', o) for o in files), ('sync', tmp_path.stat().st_ino)] and sorted(os.listdir(tmp_path)) == sorted(names.values())


def test_areas_add_up(tmp_path):
    rows = _area_table(['a', 'b, "c"', 'd'], np.array([1, 2, 5]), np.array([100.5, 2e6, 0]), 12)
    assert [o['pixels'] for o in rows] == [1, 2, 5, 8, 12] and sum(o['share'] for o in rows[:3]) == 1 and rows[3]['area_m2'] == 2000100.5
    write_csv(tmp_path/'s.csv', rows)
    with open(tmp_path/'s.csv', newline='') as f: back = list(csv.DictReader(f))
    assert [o['class'] for o in back] == ['a', 'b, "c"', 'd', 'all classes', 'no data'] and float(back[1]['area_m2']) == 2e6 and back[4]['area_m2'] == ''
    assert list(_area_table(['a'], [0])[0]) == ['class', 'pixels', 'share'] and _area_table(['a'], [0])[1]['share'] == 0


def test_styles_are_xml_whatever_the_names():
    root = ElementTree.fromstring(outputs._qgis_style(['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&'], class_colours(4)).split('\n', 1)[1])
    assert [o.get('label') for o in root.findall('.//colorPalette/paletteEntry')] == ['a?b', 'c?[31m', 'd?', 'e\n"<&']


def test_styles_are_xml_and_hold_every_class():
    names = ['background', 'a & b', '<i>"x"</i>', "it's", 'Straße']
    root = ElementTree.fromstring(outputs._qgis_style(names, class_colours(5)).split('\n', 1)[1])
    entries = root.findall('.//colorPalette/paletteEntry')
    assert [o.get('label') for o in entries] == names and [o.get('value') for o in entries] == list('01234')
    assert [o.get('color') for o in entries] == ['#%02x%02x%02x' % c for c in class_colours(5)]
    assert [o.get('alpha') for o in entries] == ['0', '255', '255', '255', '255']
    assert root.find('.//rasterrenderer').get('type') == 'paletted' and root.find('.//pixelListEntry').get('min') == '255'
    field = ElementTree.fromstring(outputs._qgis_style(['field', 'road'], [(1, 2, 3), (4, 5, 6)]).split('\n', 1)[1]).findall('.//paletteEntry')
    assert [o.get('alpha') for o in field] == ['255', '255']


def test_styles_of_polygons_are_xml_whatever_the_names():
    names = ['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&']
    root = ElementTree.fromstring(outputs._qgis_style(names, [(1, 2, 3)]*4, polygons=True).split('\n', 1)[1])
    assert [o.get('label') for o in root.iter('category')] == ['a?b', 'c?[31m', 'd?', 'e\n"<&']
    assert [o.get('name') for o in root.iter('symbol')] == list('0123')
