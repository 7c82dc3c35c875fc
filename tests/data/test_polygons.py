"""Masks to polygons and back, against shapely and rasterio."""
import numpy as np
import pytest
import shapely
from data_samples import random_instances, random_mask, same_sets
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.data.instances import label_components
from satseg.data.polygons import mask_to_polygons, polygons_to_instances, polygons_to_mask

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)


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


def test_centres_on_a_line_go_right_and_below():
    "In whichever direction the polygon was drawn."
    for turn in (False, True):
        polys = [shapely.box(.5, .5, 2.5, 2.5, ccw=turn), shapely.box(2.5, .5, 4.5, 2.5, ccw=turn), shapely.box(.5, 2.5, 2.5, 4.5, ccw=turn)]
        assert polygons_to_instances(polys, (5, 5)).tolist()==[[1, 1, 2, 2, 0]]*2+[[3, 3, 0, 0, 0]]*2+[[0]*5]
