"Straight walls, read back from files."
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from rasterio import features
from rasterio.transform import Affine
from scene_samples import GRIDS, Grid, at, normal, random_map, tiles_of

import satseg.scenes.regularise as regularise
from satseg.data.polygons import mask_to_polygons
from satseg.scenes.ground import pixel_steps
from satseg.scenes.polygons import Shape, merge_polygons
from satseg.scenes.vector_files import write_polygons

FINE = Affine(.5, 0, 300000, 0, -.5, 6e6), 'EPSG:32633'


def terraces(angle, rows=4, per=12, court=False, seed=0):
    "Houses in rows, in pixels of half a metre: party walls, set-backs, L-shapes, courtyards."
    rng, res = np.random.default_rng(seed), []
    for r in range(rows):
        x = 0
        for k in range(per):
            wide, deep, off = rng.uniform(10, 16), rng.choice([30, 34]), rng.choice([0, 0, 3])
            o = shapely.box(x, r*64+off, x+wide, r*64+off+deep)
            if k%3==0: o -= shapely.box(x+wide/2, r*64+off+deep-10, x+wide, r*64+off+deep+2)
            if court and k%4==1: o -= shapely.box(x+3, r*64+off+8, x+wide-3, r*64+off+20)
            res.append(o)
            x += wide+12*(k%6==5)
    turn = Affine.rotation(angle)
    res = shapely.transform(np.array(res), lambda xy: np.stack(at(turn, *xy.T), 1))
    return shapely.transform(res, lambda xy, first=shapely.total_bounds(res)[:2]: xy-first+5)


def pixels(true):
    shape = np.ceil(shapely.total_bounds(true)[[3, 2]]).astype(int)+10
    return features.rasterize(((o, i+1) for i, o in enumerate(true)), shape, dtype='int32')


def shapes_of(ids):
    polys, numbers = mask_to_polygons(ids, ids=True)
    return [Shape(1, o, int(o.area), o.area, 1) for o in polys], np.array(polys), numbers


def straightened(tmp_path, shapes, transform=FINE[0], crs=FINE[1], **options):
    "Polygons in pixels, and the remarks."
    report = write_polygons(tmp_path/'a.parquet', shapes, ['ground', 'house'], transform, crs, regularise=True, **options)
    polys = shapely.from_wkb(pq.read_table(tmp_path/'a.parquet')['geometry'].to_numpy())
    assert shapely.is_valid(polys).all() and [o.name for o in tmp_path.iterdir()]==['a.parquet']
    return shapely.transform(polys, lambda xy: np.round(np.stack(at(~transform, *xy.T), 1), 3)+0.), report['remarks']


def angles(polygon):
    "Of all corners, in degrees."
    for ring in (polygon.exterior, *polygon.interiors):
        xy = shapely.get_coordinates(ring)[:-1]
        a, b = xy-np.roll(xy, 1, 0), np.roll(xy, -1, 0)-xy
        turn = np.degrees(np.abs(np.arctan2(a[:, 0]*b[:, 1]-a[:, 1]*b[:, 0], (a*b).sum(1))))
        yield from turn[turn>5] # A third wall ends in a straight one


def iou(a, b):
    both = shapely.area(shapely.intersection(a, b))
    return both/(shapely.area(a)+shapely.area(b)-both)


def twice(polys): return shapely.area(polys).sum()-shapely.union_all(polys).area


@pytest.mark.parametrize('court', [False, True])
@pytest.mark.parametrize('angle', [0, 12.3, 30.49, 48, 81.7])
def test_terraces_at_any_angle(tmp_path, angle, court):
    true = terraces(angle, court=court)
    shapes, exact, ids = shapes_of(pixels(true))
    res, remarks = straightened(tmp_path, shapes)
    left = sum(int(o.split()[-1]) for o in remarks)
    assert len(res)==len(true)==48 and left<=5 and twice(res)<1
    assert (shapely.get_num_interior_rings(res)==shapely.get_num_interior_rings(exact)).all()
    assert iou(res, exact).min()>.85 and np.abs(shapely.area(res)/shapely.area(exact)-1).max()<.051
    if angle: assert iou(res, true[ids-1]).mean()>.975>.955>iou(exact, true[ids-1]).mean()
    off = np.abs(np.concatenate([list(angles(o)) for o, e in zip(res, exact) if not o.equals(e)])-90)
    assert np.median(off)<.1 and np.mean(off<1)>.9


@pytest.mark.parametrize('name', ['narrow degrees', 'oblong', 'mercator', 'turned'])
def test_right_angles_are_those_on_the_ground(tmp_path, name):
    transform, crs = GRIDS[name]
    steps = pixel_steps(transform, crs, np.array([50.]), np.array([50.]))[0]
    side = np.hypot(*steps)
    true = shapely.transform(shapely.box(-300*side.max()/10, -150*side.max()/10, 300*side.max()/10, 150*side.max()/10), lambda xy: np.stack(at(Affine.rotation(25), *xy.T), 1))
    true = shapely.transform(true, lambda xy: xy/side+[250, 250])
    ids = features.rasterize([true], (500, 500), dtype='int32')
    (res,), remarks = straightened(tmp_path, shapes_of(ids)[0], transform, crs)
    assert not remarks and iou(res, true)>.98
    assert np.abs(np.array([*angles(shapely.transform(res, lambda xy: xy*side))])-90).max()<.2


def test_what_cannot_be_straight_is_left_exact_and_counted(tmp_path):
    rng = np.random.default_rng(3)
    left = 0
    for seed in range(12):
        m = random_map(rng, 40).astype(int)
        m[m==255] = 0
        shapes, exact, _ = shapes_of(m)
        if not len(exact): continue
        res, remarks = straightened(tmp_path, shapes)
        same = sum(a.normalize().equals(b.normalize()) for a, b in zip(res, exact))
        counted = sum(int(o.split()[-1]) for o in remarks)
        assert same>=counted and iou(res, exact).min()>=.849 and twice(res)<.02
        left += counted
    assert left>10


def test_groups_too_large_are_left_exact_and_counted(tmp_path, monkeypatch):
    shapes, exact, _ = shapes_of(pixels(terraces(30, per=9)))
    monkeypatch.setattr(regularise, '_EDGES', 450)
    res, remarks = straightened(tmp_path, shapes)
    n = int([o for o in remarks if 'too large' in o][0].split()[-1])
    assert 0<n<len(res) and sum(a.normalize().equals(b.normalize()) for a, b in zip(res, exact))>=n


def test_straight_whatever_the_tiles(tmp_path):
    m = (pixels(terraces(20))>0).astype(np.uint8)
    score, areas = np.ones(m.shape, np.float32), np.ones(m.shape)
    def polygons(rows, cols):
        layout = Grid([0, *rows, m.shape[0]], [0, *cols, m.shape[1]])
        return sorted(map(normal, straightened(tmp_path, merge_polygons(tiles_of(layout, m, score, areas, [1]), layout))[0]))
    assert polygons([40, 100], [30, 77, 150])==polygons([], [])


def test_nothing_lies_over_a_neighbour_one_pixel_away(tmp_path):
    true = terraces(30, rows=1)
    for gap in (1, 2):
        ids = pixels(np.concatenate([true, shapely.transform(true, lambda xy: xy+[-19.3-gap, 33.5+gap])]))
        shapes, exact, _ = shapes_of(ids)
        res, _ = straightened(tmp_path, shapes)
        assert twice(res)<.05


def test_a_cut_corner_does_not_grow_over_a_house_several_pixels_away(tmp_path):
    turn = Affine.translation(120, 60)*Affine.rotation(40)
    house = shapely.transform(shapely.Polygon([(0, 0), (60, 0), (60, 46), (46, 60), (0, 60)]), lambda xy: np.stack(at(turn, *xy.T), 1))
    below = house.bounds[3]+4.5
    shapes, exact, _ = shapes_of(features.rasterize([(house, 1), (shapely.box(114, below, 126, below+14), 2)], (260, 260), dtype='int32'))
    res, _ = straightened(tmp_path, shapes, simplify=1.5) # Three pixels
    assert len(res)==2 and twice(res)<.01


def test_no_spike_is_left():
    ring, polys = np.zeros(6, int), np.array([0, 1])
    res, = regularise._build(ring, np.array([[0, 0], [4, 0], [4, 4.1], [4, 4], [0, 4], [0, 0]]), polys)
    assert res.is_valid and res.area==16


def test_many_batches_and_small_areas(tmp_path, monkeypatch):
    true = terraces(30)
    shapes, exact, _ = shapes_of(pixels(true))
    small = Shape(1, shapely.box(0, 0, 1, 1), 1, 1., 1)
    res, _ = straightened(tmp_path, [*shapes, *[small]*10_100], min_area=2)
    assert len(res)==len(shapes)


def test_no_houses(tmp_path):
    assert len(straightened(tmp_path, [])[0])==0
