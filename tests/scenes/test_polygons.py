"Polygons and objects of tiles against those of the whole array."
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import given, settings, strategies as st
from rasterio import features
from scene_samples import Grid, blobs, grid, normal, random_case, tiles_of, whole

import satseg.scenes.polygons as polygons
from satseg.core.errors import BadInput
from satseg.data.instances import instances_from_probabilities, label_components
from satseg.data.polygons import mask_to_polygons
from satseg.scenes.polygons import merge_instances, merge_polygons, tile_instances, tile_polygons
from satseg.scenes.tiles import Layout

quick = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**32)


def check(layout, classes, score, areas, wanted=(0, 1, 2)):
    "Count, outline, class, pixels, area and score of every shape against the whole array."
    shapes, truth = list(merge_polygons(tiles_of(layout, classes, score, areas, wanted), layout)), whole(classes, wanted)
    assert len(shapes)==len(truth)
    assert {normal(o.polygon): o.class_id for o in shapes}==truth
    parts = label_components(np.where(np.isin(classes, wanted), classes.astype(np.int32)+1, 0))
    for o in shapes:
        x, y = o.polygon.exterior.coords[0]
        own = parts==parts[int(y), int(x)]
        assert (o.pixels, o.area)==(own.sum(), areas[own].sum())
        assert o.score==pytest.approx(score[own].mean(), abs=1e-6)
        assert o.pixels==o.polygon.area
    return shapes


# Classes

@quick
@given(seeds)
def test_blocks_give_the_polygons_of_the_whole(seed):
    shapes = check(*random_case(seed))
    assert all(o.polygon.is_valid for o in shapes)


def test_many_small_maps():
    for seed in range(600): check(*random_case(seed, 9))


@quick
@given(seeds, st.sets(st.integers(0, 3)))
def test_only_wanted_classes(seed, wanted):
    layout, m, score, areas = random_case(seed)
    assert {o.class_id for o in check(layout, m, score, areas, list(wanted))} <= wanted


@quick
@given(seeds)
def test_same_as_rasterio(seed):
    layout, m, score, areas = random_case(seed)
    shapes = list(merge_polygons(tiles_of(layout, m, score, areas), layout))
    theirs = [(int(v), shapely.geometry.shape(o)) for o, v in features.shapes(m, mask=m!=255, connectivity=4)]
    assert len(shapes)==len(theirs)
    def norm(pairs): return sorted((i, shapely.normalize(shapely.simplify(o, 0)).area, o.bounds) for i, o in pairs)
    assert norm((o.class_id, o.polygon) for o in shapes)==norm(theirs)
    ours = shapely.STRtree([o.polygon for o in shapes])
    for i, o in theirs: assert any(shapes[j].class_id==i and shapely.equals(shapes[j].polygon, o) for j in ours.query(o))


def spiral(n):
    "One thread that winds to the middle, one pixel wide."
    m = np.zeros((n, n), np.uint8)
    r, c, dr, dc = 0, 0, 0, 1
    m[r, c] = 1
    def free(r, c): return 0 <= r<n and 0 <= c<n and not m[r, c]
    def ok(r, c): return free(r, c) and (not (0 <= r+dr<n and 0 <= c+dc<n) or not m[r+dr, c+dc])
    for _ in range(n*n):
        if not ok(r+dr, c+dc):
            dr, dc = dc, -dr
            if not ok(r+dr, c+dc): break
        r, c = r+dr, c+dc
        m[r, c] = 1
    return m


def rings(n):
    y, x = np.abs(np.mgrid[:n, :n]-n//2)
    return (np.maximum(y, x)%2).astype(np.uint8)


HARD = {'spiral': spiral(21), 'rings': rings(23), 'checkers': (np.indices((12, 13)).sum(0)%2).astype(np.uint8),
        'diagonal': np.eye(15, dtype=np.uint8), 'full': np.ones((9, 14), np.uint8), 'none': np.full((9, 14), 255, np.uint8),
        'row': np.array([[0, 1, 1, 2, 255, 1, 1, 1, 0, 0, 1]], np.uint8), 'column': np.array([[0, 1, 1, 2, 255, 1, 1]], np.uint8).T,
        'pixel': np.ones((1, 1), np.uint8), 'comb': np.array([[1]*17]+[[1, 0]*8+[1]]*6, np.uint8),
        'points': np.kron((np.indices((5, 6)).sum(0)%2), np.ones((3, 2))).astype(np.uint8)}


@pytest.mark.parametrize('size', [1, 2, 3, 7, 100])
@pytest.mark.parametrize('name', HARD)
def test_hard_cases(name, size):
    m = HARD[name]
    check(Layout(*m.shape, size=size), m, np.full(m.shape, .5, np.float32), np.ones(m.shape))


def test_outline_does_not_depend_on_the_blocks():
    rng = np.random.default_rng(1)
    m = (rng.random((40, 50))<.6).astype(np.uint8)
    rest = np.full(m.shape, .3, np.float32), np.full(m.shape, .1)
    one, *others = (sorted((o.class_id, o.polygon.wkb, *o[2:]) for o in merge_polygons(tiles_of(g, m, *rest), g))
                    for g in (Layout(*m.shape, size=50), Layout(*m.shape, size=7), grid(rng, *m.shape)))
    for o in others: assert [p[:3] for p in o]==[p[:3] for p in one] and np.allclose([p[3:] for p in o], [p[3:] for p in one], rtol=1e-12)


def test_order_and_reading():
    "Every block is read once and in order; what is complete comes at once; the order is that of first pixels."
    rng = np.random.default_rng(2)
    m = rng.integers(0, 3, (30, 30)).astype(np.uint8)
    layout, seen = Layout(30, 30, size=10), []
    inner = tiles_of(layout, m, np.ones(m.shape, np.float32), np.ones(m.shape))
    def tile_of(i):
        seen.append(i)
        return inner(i)
    groups = {}
    for o in merge_polygons(tile_of, layout): groups.setdefault(len(seen), []).append(o.polygon.exterior.coords[0][::-1])
    assert seen==list(range(9)) and list(groups)==list(range(1, 10))
    for i, o in groups.items():
        block, crossed = [p for p in o if i%3], o
        assert block==sorted(block)
    again = [o.polygon.exterior.coords[0][::-1] for o in merge_polygons(tile_of, layout)]
    assert again==[p for o in groups.values() for p in o]


def test_pieces_are_plain_numbers(tmp_path):
    layout, m, score, areas = random_case(5)
    block = tiles_of(layout, m, score, areas)
    def there_and_back(i):
        np.savez(tmp_path/'o.npz', **block(i))
        with np.load(tmp_path/'o.npz', allow_pickle=False) as f: return dict(f)
    assert [o[2:] for o in merge_polygons(there_and_back, layout)]==[o[2:] for o in merge_polygons(block, layout)]
    with pytest.raises(BadInput, match='expected uint8'): tile_polygons(m.astype(int), score, areas, (0, 0, *m.shape), m.shape, [1])


def test_memory_does_not_grow_with_the_scene():
    tile = blobs((256, 256))
    tile[:, :8] = tile[-8:] = 255 # Nothing crosses the whole scene
    one = np.full((64, 64), .5, np.float32)
    def peak(times):
        layout = Grid(list(range(0, 256*times+1, 64)), list(range(0, 257, 64)))
        def tile_of(i):
            r, c, h, w = layout.tile(i)
            return tile_polygons(tile[r%256:r%256+h, c:c+w], one, np.ones((1, 1)), (r, c, h, w), (layout.height, layout.width), [0, 1, 2])
        tracemalloc.start()
        n = sum(1 for _ in merge_polygons(tile_of, layout))
        res = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return n, res
    (n, few), (m, many) = peak(2), peak(12)
    assert m==6*n and many<1.1*few


# Objects

def probabilities(rng, h, w, levels=None):
    "Of background, inside, border; with few levels there are plateaus."
    from scipy.ndimage import gaussian_filter
    x = np.stack([gaussian_filter(rng.normal(size=(h, w)), s)*s*4 for s in (3, 2, 1)])
    x = np.exp(x-x.max(0))
    x = (x/x.sum(0)).astype(np.float32)
    if not levels: return x
    x[1:] = np.floor(x[1:]*levels)/levels
    x[0] = 1-x[1]-x[2]
    return x.clip(0, 1)


def object_pieces(layout, probs, valid, areas, **how):
    def tile_of(i):
        r, c, h, w = layout.tile(i)
        at = slice(r, r+h), slice(c, c+w)
        return tile_instances(probs[:, *at], valid[at], areas[at], (r, c, h, w), valid.shape, **how)
    return tile_of


def check_objects(number, levels, **how):
    rng = np.random.default_rng(number)
    h, w = rng.integers(1, 60, 2)
    probs, valid, areas = probabilities(rng, h, w, levels), rng.random((h, w))>rng.choice([0, .02]), rng.integers(1, 9, (h, w))*.25
    layout = grid(rng, h, w) if rng.random()<.5 else Layout(h, w, size=int(rng.integers(5, 40)))
    shapes = list(merge_instances(object_pieces(layout, probs, valid, areas, **how), layout,
                                  lambda o: areas[o[0]:o[0]+o[2], o[1]:o[1]+o[3]], **how))
    ids = instances_from_probabilities(np.where(valid, probs, 0), **how)
    assert sorted(normal(o.polygon) for o in shapes)==sorted(map(normal, mask_to_polygons(ids)))
    score = probs[1]+probs[2]
    for o in shapes:
        x, y = o.polygon.exterior.coords[0]
        own = ids==ids[int(y), int(x)]
        assert (o.class_id, o.pixels, o.area)==(1, own.sum(), areas[own].sum()) and o.score==pytest.approx(score[own].mean(), abs=1e-5)
    return len(shapes)


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([None, 2, 4, 10]))
def test_blocks_give_the_objects_of_the_whole(seed, levels):
    check_objects(seed, levels, min_area=3, min_seed=2)


def test_many_objects():
    assert sum(check_objects(i, (None, 2, 3, 5)[i%4], threshold=.4, seed=.6, min_area=1, min_seed=1) for i in range(40))>400


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([None, 1, 2, 5]))
def test_a_blob_is_cut_as_if_it_were_alone(seed, levels):
    rng = np.random.default_rng(seed)
    probs = probabilities(rng, 40, 40, levels)
    how = dict(min_seed=2, min_area=1)
    ids, blobs = instances_from_probabilities(probs, **how), label_components(probs[1]+probs[2] >= np.float32(.5))
    for i in range(1, blobs.max()+1):
        alone = instances_from_probabilities(np.where(blobs==i, probs, 0), **how)
        pairs = np.unique(np.stack([alone[blobs==i], ids[blobs==i]]), axis=1)
        assert all(len(np.unique(o))==pairs.shape[1] for o in pairs)


def test_blobs_too_large_to_cut():
    rng = np.random.default_rng(3)
    probs = probabilities(rng, 80, 80)
    valid, areas = np.ones((80, 80), bool), np.ones((80, 80))
    layout, counts = Layout(80, 80, size=16), {}
    shapes = list(merge_instances(object_pieces(layout, probs, valid, areas), layout, lambda o: np.ones((1, 1)), max_pixels=400, counts=counts))
    blob = label_components(probs[1]+probs[2] >= np.float32(.5))
    large = [o for o in mask_to_polygons(blob) if np.prod(np.subtract(o.bounds[2:], o.bounds[:2]))>400]
    assert counts['uncut']==len(large)>0
    assert {normal(o) for o in large} <= {normal(o.polygon) for o in shapes}
    assert sum(o.pixels for o in shapes)<=(blob>0).sum()


def test_pixels_kept_of_open_blobs_are_bounded():
    "A blob that winds through the scene beside small ones: it alone stays uncut, and memory does not grow."
    probs = np.zeros((3, 64, 64), np.float32)
    probs[1, :, :30] = probs[1, 3:13, 40:56] = probs[1, 28:36, 40:52] = .9
    one = np.ones((1, 1))
    def run(times, most):
        layout, counts = Grid(list(range(0, 64*times+1, 16)), [0, 20, 45, 64]), {}
        def tile_of(i):
            r, c, h, w = layout.tile(i)
            return tile_instances(probs[:, r%64:r%64+h, c:c+w], np.ones((h, w), bool), one, (r, c, h, w), (layout.height, layout.width))
        tracemalloc.start()
        shapes = list(merge_instances(tile_of, layout, lambda o: one, max_open=most, counts=counts))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return sorted((o.pixels, o.polygon.wkt) for o in shapes), counts['uncut'], peak
    shapes, uncut, few = run(12, 1500)
    cut, none, _ = run(12, 10**9)
    assert (uncut, none)==(1, 0) and shapes==cut and [o[0] for o in shapes]==[96]*12+[160]*12+[64*30*12]
    assert run(24, 1500)[2]<1.5*few


def test_canvases_are_small_and_hold_each_blob_once():
    corner = np.random.default_rng(0).integers(0, 5000, (2000, 2))
    box = np.concatenate([corner, corner+np.random.default_rng(1).integers(1, 400, (2000, 2))], 1)
    some = polygons._pick_canvases(box)
    assert sorted(np.concatenate(some)) == list(range(2000)) and len(some) < 1500
    for o in some: assert len(o) == 1 or (box[o, 2:].max(0)-box[o, :2].min(0)).max() <= 1024
