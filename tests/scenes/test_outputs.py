"The files of a map: all or none, areas, names."
import csv
import os
from types import SimpleNamespace

import numpy as np
from scene_samples import recorded

import satseg.scenes.outputs as outputs
from satseg.core.tables import write_csv
from satseg.scenes.outputs import area_table


def test_all_files_of_a_scene_are_on_the_disk_before_its_store_may_go(tmp_path, monkeypatch):
    names = dict(polygons='a.gpkg', areas='a.csv', style='a.qml', classes='a.tif')
    def write(path, *args, **kw): path.write_text(path.name)
    for o in ('write_cog', 'write_csv', 'write_polygons'): monkeypatch.setattr(outputs, o, write)
    monkeypatch.setattr(outputs, '_merge_shapes', lambda *args: [])
    monkeypatch.setattr(outputs, 'map_files', lambda *args: names)
    monkeypatch.setattr(outputs, '_sum_areas', lambda *args: [])
    info = SimpleNamespace(classes=['background', 'building'], colours=(), arguments={}, head='')
    monkeypatch.setattr(outputs, 'output_classes', lambda info: info.classes)
    place = SimpleNamespace(name='a', height=2, width=1, crs=None, transform=None)
    plan = dict(polygons=[1], probabilities=False, uncertainty=None)
    seen = recorded(monkeypatch)
    outputs.write_outputs(tmp_path, None, plan, place, info, {})
    files = [(tmp_path/o).stat().st_ino for o in names.values()]
    first = seen.index(('name', files[0]))
    assert {('sync', o) for o in files} <= set(seen[:first])
    assert seen[first:] == [*(('name', o) for o in files), ('sync', tmp_path.stat().st_ino)] and sorted(os.listdir(tmp_path)) == sorted(names.values())


def test_areas_add_up(tmp_path):
    rows = area_table(['a', 'b, "c"', 'd'], np.array([1, 2, 5]), np.array([100.5, 2e6, 0]), 12)
    assert [o['pixels'] for o in rows] == [1, 2, 5, 8, 12] and sum(o['share'] for o in rows[:3]) == 1 and rows[3]['area_m2'] == 2000100.5
    write_csv(tmp_path/'s.csv', rows)
    with open(tmp_path/'s.csv', newline='') as f: back = list(csv.DictReader(f))
    assert [o['class'] for o in back] == ['a', 'b, "c"', 'd', 'all classes', 'no data'] and float(back[1]['km2']) == 2 and back[4]['area_m2'] == ''
    assert list(area_table(['a'], [0])[0]) == ['class', 'pixels', 'share'] and area_table(['a'], [0])[1]['share'] == 0
