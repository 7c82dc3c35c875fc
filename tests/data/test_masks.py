"""Masks, run lengths, polygons and instances: there and back, against other implementations, and strict with files."""
import csv
import subprocess
import sys

import numpy as np
import pytest
import shapely
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.rle import coco_rle_decode, coco_rle_encode, rle_decode, rle_encode
from satseg.data.instances import border_mask, drop_small, instances_from_mask, instances_from_probabilities, label_components
from satseg.data.polygons import coco_polygons, mask_to_polygons, polygons_to_instances, polygons_to_mask
from satseg.data.submissions import BUILDING_COLUMNS, building_problems, instances_to_rle, read_building_csv, read_ship_csv, ship_instances, ship_problems, validate, write_building_csv, write_ship_csv

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)


def random_mask(seed, most=24):
    "Noise of any density or overlapping boxes: holes, one-pixel lines, corners that touch, empty and full."
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, most, 2)
    if rng.random()<.5: return (rng.random((h, w))<rng.choice([0, .1, .5, .8, 1])).astype(np.uint8)
    mask = np.zeros((h, w), np.uint8)
    for _ in range(rng.integers(1, 9)):
        (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
        mask[r:r+dr, c:c+dc] = rng.integers(0, 2)
    return mask


def random_instances(seed, most=24):
    rng = np.random.default_rng(seed)
    return random_mask(seed, most)*rng.integers(0, 5, 1) if rng.random()<.1 else _boxes(rng, *rng.integers(1, most, 2))


def _boxes(rng, h, w):
    ids = np.zeros((h, w), np.int32)
    for _ in range(rng.integers(0, 12)):
        (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
        ids[r:r+dr, c:c+dc] = rng.integers(0, 300)
    return ids


def same_sets(a, b):
    "Two instance maps differ by their numbers only."
    pairs = set(zip(np.ravel(a).tolist(), np.ravel(b).tolist()))
    return len(pairs)==len({p for p, _ in pairs})==len({q for _, q in pairs})


# Run lengths

def slow_rle(mask):
    "Kaggle's run lengths pixel by pixel."
    runs, last = [], 0
    for i, v in enumerate(mask.T.ravel(), 1):
        if v and last: runs[-1] += 1
        elif v: runs += [i, 1]
        last = v
    return ' '.join(map(str, runs))


@quick
@given(seeds)
def test_run_lengths_there_and_back(seed):
    mask = random_mask(seed)
    assert rle_encode(mask)==slow_rle(mask)
    back = rle_decode(rle_encode(mask), mask.shape)
    assert back.dtype==np.uint8 and np.array_equal(back, mask)
    for compressed in (True, False): assert np.array_equal(coco_rle_decode(coco_rle_encode(mask, compressed)), mask)


@quick
@given(seeds)
def test_coco_run_lengths_equal_pycocotools(seed):
    coco = pytest.importorskip('pycocotools.mask')
    mask = random_mask(seed, 300 if seed%5==0 else 24)
    theirs = coco.encode(np.asfortranarray(mask))
    assert coco_rle_encode(mask)==dict(size=theirs['size'], counts=theirs['counts'].decode())
    assert np.array_equal(coco_rle_decode(theirs), mask)
    counts = coco_rle_encode(mask, compressed=False)
    assert np.array_equal(coco.decode(coco.frPyObjects(counts, *mask.shape)), mask)


@quick
@given(seeds)
def test_instances_to_run_lengths_and_back(seed):
    ids = random_instances(seed)
    texts = instances_to_rle(ids)
    assert texts==[rle_encode(ids==i) for i in np.unique(ids[ids>0])]
    assert same_sets(ship_instances([(2, o) for o in texts], ids.shape), ids)


@quick
@given(st.text('0123456789 -a.', max_size=12))
def test_run_lengths_of_any_text_are_a_mask_or_one_line(text):
    try: mask = rle_decode(text, (3, 4))
    except BadInput as e: assert '\n' not in str(e)
    else: assert rle_decode(rle_encode(mask), (3, 4)).tolist()==mask.tolist()


@quick
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=9))
def test_coco_text_of_any_kind_is_a_mask_or_one_line(text):
    try: mask = coco_rle_decode(dict(size=[3, 4], counts=text))
    except BadInput as e: assert '\n' not in str(e)
    else: assert mask.shape==(3, 4) and set(np.unique(mask))<={0, 1}


@pytest.mark.parametrize('rle,problem', [
    (dict(size=[3, 4], counts=[12, -1, 1]), 'whole numbers'), (dict(size=[3, 4], counts=[True]*12), 'whole numbers'), ([1, 2], 'size and counts'),
    (dict(size=[3], counts=[12]), 'the size (H,W)'), (dict(size=[10**9, 10**9], counts=[10**18]), 'the size (H,W)'), (dict(size=[3, 4], counts=[11]), 'add up to the 12 pixels'),
    (dict(size=[3, 4], counts='o'*30), 'cut off'), (dict(size=[3, 4], counts='o'*30+'0'), 'cut off'), (dict(size=[3, 4], counts=''), 'cut off'), (dict(size=[3, 4], counts=[]), 'cut off'),
    (dict(size=[3, 4], counts='0'), 'add up'), (dict(size=[1, 1], counts='0'), 'add up'),
    (dict(size=[3, 4], counts='1\0'), 'cut off'), (dict(size=[3, 4], counts='11J;'), 'add up'), (dict(size=[3, 4], counts='ooooo?1'), 'add up')])
def test_bad_coco_run_lengths(rle, problem):
    with pytest.raises(BadInput) as e: coco_rle_decode(rle)
    assert problem in str(e.value)


# Polygons

def check_polygons(mask):
    polys, ids = mask_to_polygons(mask, ids=True)
    assert all(o.is_valid and o.geom_type=='Polygon' for o in polys)
    assert sum(o.area for o in polys)==(mask>0).sum()
    parts = label_components(mask)
    assert len(polys)==parts.max()
    for o in polys:  # A vertex at every turn and nowhere else, all at pixel corners
        for ring in (o.exterior, *o.interiors):
            step = np.diff(np.array(ring.coords), axis=0)
            assert ((step==0).sum(1)==1).all() and (step==np.round(step)).all() and ((step[1:]==0)!=(step[:-1]==0)).all()
    assert same_sets(polygons_to_instances(polys, mask.shape), parts)
    assert np.array_equal(polygons_to_instances(polys, mask.shape, ids=ids), mask)


@quick
@given(seeds)
def test_exact_polygons_there_and_back(seed): check_polygons(random_mask(seed))


@quick
@given(seeds)
def test_exact_polygons_of_instances_there_and_back(seed): check_polygons(random_instances(seed))


@quick
@given(st.integers(0, 2**16-1))
def test_exact_polygons_of_all_kinds_of_4_by_4(bits): check_polygons(np.array([bits>>i & 1 for i in range(16)], np.uint8).reshape(4, 4))


@quick
@given(seeds, st.sampled_from([.5, 1, 2, 3.5]))
def test_tolerance_is_in_pixels(seed, tolerance):
    mask = random_mask(seed, 40)
    for exact, poly in zip(mask_to_polygons(mask), mask_to_polygons(mask, tolerance)):
        assert poly.is_valid and len(poly.interiors)==len(exact.interiors)
        assert max(shapely.boundary(poly).distance(shapely.Point(p)) for p in shapely.get_coordinates(exact))<=tolerance+1e-9


def slow_raster(polygons, shape):
    "Pixel centres by shapely, nudged a little right and down for those on a line."
    out = np.zeros(shape, int)
    y, x = np.mgrid[:shape[0], :shape[1]]+.5
    for i, o in enumerate(polygons, 1): out[shapely.contains_xy(o, x+1e-7, y+1e-9)] = i
    return out


@settings(max_examples=80, deadline=None)
@given(seeds)
def test_polygons_to_pixels_by_their_centres(seed):
    rng = np.random.default_rng(seed)
    polys = []
    for _ in range(rng.integers(0, 5)):
        angle = np.sort(rng.random(rng.integers(3, 9)))*2*np.pi
        star = (rng.integers(-2, 16, 2)+rng.random(2))+np.stack([np.cos(angle), np.sin(angle)], 1)*rng.uniform(1, 9, (len(angle), 1))
        poly = shapely.Polygon(star)
        if poly.is_valid and rng.random()<.5: poly = poly.difference(shapely.Point(star.mean(0)).buffer(1))
        if poly.is_valid and poly.geom_type in ('Polygon', 'MultiPolygon'): polys.append(poly)
    assert np.array_equal(polygons_to_instances(polys, (12, 14)), slow_raster(polys, (12, 14)))


@quick
@given(seeds)
def test_neighbours_share_every_pixel_out(seed):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.integers(1, 19, (6, 2))/2, [[0, 0], [10, 0], [0, 10], [10, 10]]])
    tiles = list(shapely.delaunay_triangles(shapely.MultiPoint(points)).geoms)
    count = sum(polygons_to_mask([o], (10, 10)).astype(int) for o in tiles)
    assert (count==1).all()


def test_polygons_against_rasterio():
    features = pytest.importorskip('rasterio.features')
    mask = random_mask(1, 60)
    polys = [shapely.geometry.shape(o) for o, v in features.shapes(mask, mask=mask>0, connectivity=4)]
    ours = mask_to_polygons(mask)
    assert len(ours)==len(polys)
    assert np.array_equal(features.rasterize(ours, mask.shape), polygons_to_mask(polys, mask.shape))


def test_coco_segmentations():
    parts = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]]  # Two overlapping parts of one object: both, not their difference
    mask = polygons_to_mask(coco_polygons(parts), (6, 6))
    assert mask.sum()==16+16-4 and mask[3, 3]==1 and len(coco_polygons(parts))==2
    for bad in (None, 'x', [[0, 0, 1]], [[0, 0, 1, 1, 2]], [[0, 0, 1, 1, 2, None]], [[0, 0, 1, 1, 2, float('nan')]], [[[0, 0], [1, 1], [2, 2]]]):
        with pytest.raises(BadInput): coco_polygons(bad)


def test_bad_polygons_and_masks():
    for far in (np.inf, np.nan, 1e300):
        polys = [shapely.box(0, 0, 1, 1), shapely.Polygon([(0, 0), (1, far), (2, 2)])]
        with pytest.raises(BadInput, match='polygon 1: expected coord'): polygons_to_mask(polys, (3, 3))
    with pytest.raises(BadInput, match='polygon 0: expected a shapely'): polygons_to_mask([shapely.Point(1, 1)], (3, 3))
    with pytest.raises(BadInput, match='one id for each of 1'): polygons_to_instances([shapely.box(0, 0, 1, 1)], (3, 3), ids=[1, 2])
    for bad in (np.zeros((2, 3, 3), int), np.zeros((3, 3)), np.full((3, 3), -1)):
        with pytest.raises(BadInput): mask_to_polygons(bad)
    assert mask_to_polygons(np.zeros((3, 3), bool))==[] and polygons_to_mask([], (3, 3)).sum()==0
    assert polygons_to_mask([shapely.Polygon()], (3, 3)).sum()==0
    assert polygons_to_mask([shapely.box(-1e9, -1e9, 1e9, 1e9)], (3, 3)).all()


# Instances

@quick
@given(seeds)
def test_border_classes(seed):
    ids = random_instances(seed)
    mask = (ids>0).astype(np.uint8)
    pad = np.pad(ids, 1, mode='edge')
    deep = (pad[2:, 1:-1]==ids)&(pad[:-2, 1:-1]==ids)&(pad[1:-1, 2:]==ids)&(pad[1:-1, :-2]==ids)
    thin = set(np.unique(ids))-set(np.unique(ids[deep]))  # Objects that are all edge stay inside as a whole
    for width in (1, 2, 3):
        res = border_mask(mask, ids, width=width, contact=0)
        assert np.array_equal(res>0, mask>0)
        assert set(np.unique(ids[res==1]))==set(np.unique(ids[ids>0]))  # Every object keeps an inside
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            touch = (ids[a]!=ids[b])&(res[a]==1)&(res[b]==1)
            assert set(ids[a][touch])|set(ids[b][touch])<=thin


def test_touching_houses_come_back():
    ids = np.zeros((80, 80), np.int32)
    for i in range(9): ids[4+24*(i//3):28+24*(i//3), 4+24*(i%3):28+24*(i%3)] = i+1
    classes = border_mask(ids>0, ids)
    assert label_components(ids>0).max()==1
    probs = np.stack([classes==k for k in range(3)])*.8+.2/3
    assert np.array_equal(instances_from_probabilities(probs), ids)
    noisy = probs.copy()
    noisy[:, 60, 60] = noisy[:, 40, 2] = .1, .8, .1  # A speck outside the border, and one inside
    assert instances_from_probabilities(noisy).max()==9


def test_gaps_between_objects_are_border():
    ids = np.zeros((5, 12), np.int32)
    ids[:, :3], ids[:, 4:7], ids[:, 10:] = 1, 2, 3
    gap = [(border_mask(ids>0, ids, width=1, contact=k)==2)[2, [3, 7, 8, 9]].tolist() for k in range(4)]
    assert gap==[[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]


@quick
@given(seeds)
def test_instances_cover_the_mask(seed):
    mask = random_mask(seed, 40)
    ids = instances_from_mask(mask, min_area=0)
    assert np.array_equal(ids>0, mask>0) and ids.max()>=label_components(mask).max()
    probs = np.random.default_rng(seed).dirichlet([1, 1, 1], mask.shape).transpose(2, 0, 1).astype(np.float32)
    ids = instances_from_probabilities(probs, min_seed=0, min_area=0)
    assert np.array_equal(ids>0, probs[1]+probs[2]>=np.float32(.5))
    assert np.array_equal(label_components(ids)>0, ids>0) and label_components(ids).max()==ids.max()  # Each in one piece
    areas = np.bincount(drop_small(ids, 7).ravel())[1:]
    assert (areas>=7).all() and len(areas)==(np.bincount(ids.ravel())[1:]>=7).sum()


# Files

@settings(max_examples=40, deadline=None)
@given(st.lists(seeds, min_size=1, max_size=4))
def test_ship_files_there_and_back(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp('ships')/'ships.csv'
    images = {f'{i}.jpg': np.pad(o, ((0, 24-o.shape[0]), (0, 24-o.shape[1]))) for i, o in enumerate(map(random_instances, seeds))}
    write_ship_csv(path, images.items())
    assert ship_problems(path, (24, 24), ids=path)==[]
    back = read_ship_csv(path)
    assert list(back)==list(images)
    for name, ids in images.items(): assert same_sets(ship_instances(back[name], (24, 24)), ids)


@settings(max_examples=40, deadline=None)
@given(st.lists(seeds, min_size=1, max_size=4))
def test_building_files_there_and_back(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp('buildings')/'buildings.csv'
    images = {str(i): [shapely.Polygon(p.exterior) for p in mask_to_polygons(random_mask(o))] for i, o in enumerate(seeds)}
    write_building_csv(path, images)
    assert building_problems(path, (24, 24), ids=path)==[]
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


def test_a_short_coco_text_never_shows_memory_that_was_not_written():
    "pycocotools decodes too few counts without a word; what it returns then is whatever lay there."
    for n in range(1, 12):
        text = coco_rle_encode(np.arange(n)[None]%2)['counts']
        for h, w in ((1, n), (n, 1)): assert coco_rle_decode(dict(size=[h, w], counts=text)).ravel().tolist()==[i%2 for i in range(n)]
        for size in ([1, n+1], [2, n], [1, max(n-1, 1)]):
            if size[0]*size[1]!=n:
                with pytest.raises(BadInput, match='add up'): coco_rle_decode(dict(size=size, counts=text))


def test_centres_on_a_line_go_right_and_below():
    "In whichever direction the polygon was drawn."
    for turn in (False, True):
        polys = [shapely.box(.5, .5, 2.5, 2.5, ccw=turn), shapely.box(2.5, .5, 4.5, 2.5, ccw=turn), shapely.box(.5, 2.5, 2.5, 4.5, ccw=turn)]
        assert polygons_to_instances(polys, (5, 5)).tolist()==[[1, 1, 2, 2, 0]]*2+[[3, 3, 0, 0, 0]]*2+[[0]*5]


def rows(path, header, *lines):
    path.write_text('\n'.join([header, *lines])+'\n', encoding='utf-8')
    return path


SHIPS, BUILDINGS = 'ImageId,EncodedPixels', ','.join(BUILDING_COLUMNS)


@pytest.mark.parametrize('lines,problems', [
    (['a,1 2', 'a,3 1', 'b,'], []),
    (['a,1 4', 'a,9 1', 'a,3 2 10 1'], ['row 4: overlaps row 2']),
    (['a,1 9', 'b,', 'a,2 1', 'a,5 1'], ['row 4: overlaps row 2', 'row 5: overlaps row 2']),
    (['a,', 'a,1 1'], ['row 3: image \'a\' has a row already (row 2)']),
    (['a,1 1', 'a,'], ['row 3: image \'a\' has a row already (row 2)']),
    (['a,1', 'b,0 1', 'c,1 0', 'd,16 2', 'e,4 1 2 1', 'f,1 x', 'g,1.0 2', 'h,'+'9'*30+' 1'],
     ['row 2: expected pairs', 'row 3: run 1 (0 1) starts before', 'row 4: run 1 (1 0) is empty', 'row 5: run 1 (16 2) ends outside',
      'row 6: run 2 (2 1) starts before run 1', 'row 7: expected runs', 'row 8: expected runs', 'row 9: expected pixel numbers']),
    (['a,1 1,2'], ['row 2: expected 2 columns, got 3']), (['a'], ['row 2: expected 2 columns, got 1']), ([',1 1'], ['row 2: has no ImageId']),
    (['a,"1 1'], ['row 2: no CSV'])])
def test_ship_problems(tmp_path, lines, problems):
    found = ship_problems(rows(tmp_path/'s.csv', SHIPS, *lines), (4, 4))
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
    found = building_problems(rows(tmp_path/'b.csv', BUILDINGS, *lines), (4, 4))
    assert len(found)==len(problems) and all(a.startswith(b) and '\n' not in a for a, b in zip(found, problems)), found
    if problems:
        with pytest.raises(BadInput, match=r'b\.csv: row \d'): read_building_csv(tmp_path/'b.csv')


def test_files_that_are_something_else(tmp_path):
    path = tmp_path/'x.csv'
    for data in (b'', b'\x89PNG\r\n\x1a\n\0\0', b'ImageId;EncodedPixels\n', b'imageid,encodedpixels\na,\n', b'ImageId,EncodedPixels,x\n', b'\xff\xfe\0'):
        path.write_bytes(data)
        for kind in (None, 'ships', 'buildings'):
            assert len(validate(path, kind))==1
        with pytest.raises(BadInput, match=r'x\.csv: '): read_ship_csv(path)
    path.write_bytes(('\ufeff'+SHIPS+'\r\na.jpg,1 1\r\n').encode())  # A spreadsheet's byte order mark and line ends
    assert validate(path)==[] and len(read_ship_csv(path)['a.jpg'])==1
    with pytest.raises(BadInput, match='a folder'): validate(tmp_path)


def test_asked_for_images(tmp_path):
    sample = rows(tmp_path/'sample.csv', SHIPS, 'a,', 'b,', 'c,')
    found = ship_problems(rows(tmp_path/'s.csv', SHIPS, 'a,1 1', 'd,'), ids=sample)
    assert [o[:26] for o in found]==["row 3: image 'd' was not a", "image 'b' is missing: an i", "image 'c' is missing: an i"]


def test_long_rows_and_field_limit(tmp_path):
    polys = [shapely.box(i%1000, i//1000, i%1000+1, i//1000+1) for i in range(20_000)]
    write_building_csv(tmp_path/'b.csv', {'0': polys})
    limit = csv.field_size_limit()
    assert len(read_building_csv(tmp_path/'b.csv')['0'])==20_000 and csv.field_size_limit()==limit


def cli(*args): return subprocess.run([sys.executable, '-W', 'error', '-m', 'satseg.masks', *map(str, args)], capture_output=True, text=True)


def test_command_line(tmp_path):
    good = rows(tmp_path/'good.csv', SHIPS, 'a.jpg,1 3', 'b.jpg,')
    res = cli(good)
    assert (res.returncode, res.stderr, res.stdout)==(0, '', f'ok: {good}\n')
    bad = rows(tmp_path/'bad.csv', SHIPS, 'a.jpg,1 3', 'a.jpg,3 1', 'b.jpg,7')
    res = cli(bad, '--kind', 'ships')
    assert res.returncode==2 and [o.split(': ')[1] for o in res.stdout.splitlines()]==['row 3', 'row 4']
    assert res.stderr==f'satseg: {bad}: expected a file that can be submitted, got 2 mistakes, listed above\n'
    assert cli(good, '--size', '2x1').returncode==2
    for args in ((tmp_path/'none.csv',), (tmp_path,), (good, '--kind', 'boats'), (good, '--size', '7x'), (good, '--ids', 'none')):
        res = cli(*args)
        assert res.returncode==2 and len(res.stderr.splitlines())==1 and 'Traceback' not in res.stderr, res.stderr


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
        assert ids.max()==len(ships) and instances_to_rle(ids)==[o.runs for o in ships]
        polys, numbers = mask_to_polygons(ids, ids=True)
        assert np.array_equal(polygons_to_instances(polys, ids.shape, numbers), ids)


def test_lists_of_images_in_any_state_are_one_line(tmp_path):
    (tmp_path/'s.csv').write_text('ImageID,Coordinates\na,[]\n')
    (tmp_path/'ids.csv').write_bytes('id\nm\xfc\n'.encode('latin1'))
    with pytest.raises(BadInput, match='ids.csv: expected a CSV file in UTF-8'): validate(tmp_path/'s.csv', ids=tmp_path/'ids.csv')
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
