"""Files of the ship and building challenges: there and back, and every mistake in one line."""
import csv
import subprocess
import sys

import numpy as np
import pytest
import shapely
from data_samples import random_instances, random_mask, same_sets
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.polygons import mask_to_polygons, polygons_to_instances
from satseg.data.rle import rle_encode
from satseg.data.submissions import instances_to_rle, read_building_csv, read_ship_csv, ship_instances, validate, write_building_csv, write_ship_csv

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)
SHIPS, BUILDINGS = 'ImageId,EncodedPixels', 'ImageID,Coordinates'


@quick
@given(seeds)
def test_instances_to_run_lengths_and_back(seed):
    ids = random_instances(seed)
    texts = instances_to_rle(ids)
    assert texts==[rle_encode(ids==i) for i in np.unique(ids[ids>0])]
    assert same_sets(ship_instances([(2, o) for o in texts], ids.shape), ids)


@settings(max_examples=40, deadline=None)
@given(st.lists(seeds, min_size=1, max_size=4))
def test_ship_files_there_and_back(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp('ships')/'ships.csv'
    images = {f'{i}.jpg': np.pad(o, ((0, 24-o.shape[0]), (0, 24-o.shape[1]))) for i, o in enumerate(map(random_instances, seeds))}
    write_ship_csv(path, images.items())
    assert validate(path, 'ships', (24, 24), path)==[]
    back = read_ship_csv(path)
    assert list(back)==list(images)
    for name, ids in images.items(): assert same_sets(ship_instances(back[name], (24, 24)), ids)


@settings(max_examples=40, deadline=None)
@given(st.lists(seeds, min_size=1, max_size=4))
def test_building_files_there_and_back(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp('buildings')/'buildings.csv'
    images = {str(i): [shapely.Polygon(p.exterior) for p in mask_to_polygons(random_mask(o))] for i, o in enumerate(seeds)}
    write_building_csv(path, images)
    assert validate(path, 'buildings', (24, 24), path)==[]
    back = read_building_csv(path)
    assert list(back)==list(images)
    for name, polys in images.items(): assert [o.wkt for o in back[name]]==[o.wkt for o in polys]


def test_coordinates_that_are_not_whole_keep_a_hundredth(tmp_path):
    write_building_csv(tmp_path/'b.csv', [(7, [shapely.MultiPolygon([shapely.box(.5, 1, 3.123456, 4), shapely.box(5, 5, 6, 6)])])])
    a, b = read_building_csv(tmp_path/'b.csv')['7']
    assert a.bounds==(.5, 1, 3.12, 4) and b.bounds==(5, 5, 6, 6)


def test_filled_courtyards_are_counted(tmp_path):
    "The file has no holes: the writer says how many it filled."
    yard = shapely.box(0, 0, 9, 9)-shapely.box(1, 1, 3, 3)-shapely.box(5, 5, 8, 8)
    images = [('a', [yard, shapely.box(20, 0, 30, 9)]), ('b', [shapely.MultiPolygon([yard, shapely.box(20, 0, 30, 9)])])]
    assert write_building_csv(tmp_path/'b.csv', images)=='courtyards filled in b.csv, which has no place for them: 4'
    assert write_building_csv(tmp_path/'b.csv', {'a': [shapely.box(0, 0, 1, 1)]})==''


def rows(path, header, *lines):
    path.write_text('\n'.join([header, *lines])+'\n', encoding='utf-8')
    return path


@pytest.mark.parametrize('lines,problems', [
    (['a,1 2', 'a,3 1', 'b,'], []),
    (['a,1 4', 'a,9 1', 'a,3 2 10 1'], ['row 4: overlaps row 2']),
    (['a,1 9', 'b,', 'a,2 1', 'a,5 1'], ['row 4: overlaps row 2', 'row 5: overlaps row 2']),
    (['a,', 'a,1 1'], ['row 3: image \'a\' has a row already (row 2)']),
    (['a,1 1', 'a,'], ['row 3: image \'a\' has a row already (row 2)']),
    (['a,1', 'b,0 1', 'c,1 0', 'd,16 2', 'e,4 1 2 1', 'f,1 x', 'g,1.0 2', 'h,'+'9'*30+' 1'],
     ['row 2: expected pairs', 'row 3: run 1 (0 1) starts before', 'row 4: run 1 (1 0) is empty', 'row 5: run 1 (16 2) ends outside',
      'row 6: run 2 (2 1) starts before the run', 'row 7: expected runs', 'row 8: expected runs', 'row 9: expected pixel numbers']),
    (['a,1 1,2'], ['row 2: expected 2 columns, got 3']), (['a'], ['row 2: expected 2 columns, got 1']), ([',1 1'], ['row 2: has no ImageId']),
    (['a,"1 1'], ['row 2: no CSV'])])
def test_ship_problems(tmp_path, lines, problems):
    found = validate(rows(tmp_path/'s.csv', SHIPS, *lines), 'ships', (4, 4))
    assert len(found)==len(problems) and all(a.startswith(b) and '\n' not in a for a, b in zip(found, problems)), found


@pytest.mark.parametrize('lines,problems', [
    (['0,[]', '1,"[[(0, 0), (4, 0), (4, 4)], [(1.5, 0), (2, 0), (2, 1)]]"'], []),
    (['0,[]', '0,[]'], ['row 3: image \'0\' has a row already (row 2)']),
    (['0,', '1,None', '2,"[[(0,0),(1,0),(1,1)]"', '3,'+'['*100_000], ['row 2: expected a list of polygons']+[f'row {i}: expected a list' for i in (3, 4, 5)]),
    (['0,"[[(0,0),(1,0),(1,NaN)]]"', '1,"[[(0,0),(1,0),(1,1e999)]]"', '2,"{}"'], ['row 2: expected a list', 'row 3: polygon 1: expected points', 'row 4: expected a list']),
    (['0,"[[(0,0),(5,0),(1,1)], [(0,0),(1,0),(-1,1)], [(0,0),(1,0)], [(0,0),(1,0),(0,0)], [(0,0),(1,1),(2,2)], [(0,0),(1,0,1),(0,0)], [[]], 3]"'],
     ['row 2: polygon 1: expected coordinates of 0 to 4', 'row 2: polygon 2: expected coord', 'row 2: polygon 3: expected three', 'row 2: polygon 4: expected three',
      'row 2: polygon 5: ', 'row 2: polygon 6: expected points', 'row 2: polygon 7: expected points', 'row 2: polygon 8: expected points']),
    (['0,"[[(0,0),(4,4),(4,0),(0,4)]]"'], ['row 2: polygon 1: Self-intersection']), (['0,"[""a\\nb""]"'], ['row 2: polygon 1: expected points'])])
def test_building_problems(tmp_path, lines, problems):
    found = validate(rows(tmp_path/'b.csv', BUILDINGS, *lines), 'buildings', (4, 4))
    assert len(found)==len(problems) and all(a.startswith(b) and '\n' not in a for a, b in zip(found, problems)), found
    if problems:
        with pytest.raises(BadInput, match=r'b\.csv: row \d'): read_building_csv(tmp_path/'b.csv')


def test_files_that_are_something_else(tmp_path):
    path = tmp_path/'x.csv'
    for data in (b'', b'\x89PNG\r\n\x1a\n\0\0', b'ImageId;EncodedPixels\n', b'imageid,encodedpixels\na,\n', b'ImageId,EncodedPixels,x\n', b'\xff\xfe\0'):
        path.write_bytes(data)
        for kind in (None, 'ships', 'buildings'):
            try: assert len(validate(path, kind))==1
            except BadInput as e: assert max(data)>127 and 'expected text in UTF-8' in str(e)
        with pytest.raises(BadInput, match=r'x\.csv: '): read_ship_csv(path)
    path.write_bytes(('\ufeff'+SHIPS+'\r\na.jpg,1 1\r\n').encode())  # A spreadsheet's byte order mark and line ends
    assert validate(path)==[] and len(read_ship_csv(path)['a.jpg'])==1
    with pytest.raises(BadInput, match='a folder'): validate(tmp_path)


def test_asked_for_images(tmp_path):
    sample = rows(tmp_path/'sample.csv', SHIPS, 'a,', 'b,', 'c,')
    found = validate(rows(tmp_path/'s.csv', SHIPS, 'a,1 1', 'd,'), ids=sample)
    assert [o[:26] for o in found]==["row 3: image 'd' was not a", "image 'b' is missing: with", "image 'c' is missing: with"]


def test_long_rows_and_field_limit(tmp_path):
    polys = [shapely.box(i%1000, i//1000, i%1000+1, i//1000+1) for i in range(20_000)]
    write_building_csv(tmp_path/'b.csv', {'0': polys})
    limit = csv.field_size_limit()
    assert len(read_building_csv(tmp_path/'b.csv')['0'])==20_000 and csv.field_size_limit()==limit


def test_checking_a_file_needs_no_torch(tmp_path):
    path = rows(tmp_path/'b.csv', BUILDINGS, '0,[]')
    run = f"import sys\nfrom satseg.masks import validate\nassert validate({str(path)!r})==[]\nassert not {{'torch','fastai','matplotlib','pandas'}}&set(sys.modules)"
    subprocess.run([sys.executable, '-c', run], check=True)


def test_real_ships_there_and_back(real_data):
    path = real_data/'ships'/'train_ship_segmentations_v2.csv'
    if not path.is_file(): pytest.skip('no ships')
    assert validate(path)==[]
    for name, ships in read_ship_csv(path).items():
        ids = ship_instances(ships, source=path.name)
        assert ids.max()==len(ships) and instances_to_rle(ids)==[runs for _, runs in ships]
        polys, numbers = mask_to_polygons(ids, ids=True)
        assert np.array_equal(polygons_to_instances(polys, ids.shape, numbers), ids)


def test_lists_of_images_in_any_state_are_one_line(tmp_path):
    (tmp_path/'s.csv').write_text('ImageID,Coordinates\na,[]\n')
    (tmp_path/'ids.csv').write_bytes('id\nm\xfc\n'.encode('latin1'))
    with pytest.raises(BadInput, match='ids.csv: expected text in UTF-8'): validate(tmp_path/'s.csv', ids=tmp_path/'ids.csv')
    (tmp_path/'ids.csv').write_text('id,text\na,'+'1'*200_000+'\n')
    assert validate(tmp_path/'s.csv', ids=tmp_path/'ids.csv') == []


def test_a_header_in_quotes_is_a_header(tmp_path):
    (tmp_path/'s.csv').write_text('"ImageID","Coordinates"\n"a","[]"\n')
    assert validate(tmp_path/'s.csv') == []


@pytest.mark.parametrize('point', ['""1""', 'true', 'null', '[1]'])
def test_coordinates_are_numbers(tmp_path, point):
    (tmp_path/'s.csv').write_text(f'ImageID,Coordinates\na,"[[[{point},2],[9,4],[5,9]]]"\n')
    problems = validate(tmp_path/'s.csv')
    assert len(problems) == 1 and 'row 2: polygon 1: expected points' in problems[0]


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(BadInput, match='nowhere: expected a folder'): write_ship_csv(tmp_path/'nowhere'/'s.csv', {'a': np.zeros((2,2), int)})
