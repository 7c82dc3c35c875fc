"""Random masks and small datasets of every format, for the tests of this folder."""
import io
import json

import numpy as np
import pytest
from PIL import Image
from shapely import box

from satseg.core.errors import BadInput

rasterio = pytest.importorskip('rasterio')
geopandas = pytest.importorskip('geopandas')
from rasterio.transform import from_origin

TABLE = {'unlabeled': '#9B9B9B', 'building': '#3C1098', 'water': '#E2A929'}
RGB = [(155,155,155), (60,16,152), (226,169,41)]
MARKS = np.array([[[1,0,0],[0,1,0]],[[0,0,1],[0,0,0]]], bool)
FIELD = box(500020, 4999980, 500070, 5000000)


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


def save(path, a, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(a, np.uint8)).save(path, **kw)


def save_tif(path, a, x=500000, y=5000000, size=10, crs='EPSG:32633', **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    a = np.atleast_3d(a)
    transform = from_origin(x, y, size, size) if crs else rasterio.Affine.identity()
    with rasterio.open(path, 'w', 'GTiff', a.shape[1], a.shape[0], a.shape[2], crs, transform, a.dtype, **kw) as r: r.write(np.moveaxis(a, -1, 0))


def one_line(function, *contains):
    "The error of `function`: `BadInput`, one line, with all of `contains`."
    with pytest.raises(BadInput) as e: function()
    text = str(e.value)
    assert '\n' not in text and len(text) < 600, text
    for o in contains: assert o in text, text
    return text


def folders(root, masks, images=None, suffix='.png', **kw):
    for i,m in enumerate(masks):
        save(root/'IMAGES'/f'{i}.png', np.full((*np.shape(m)[:2],3), i) if images is None else images[i])
        save(root/'MASKS'/f'{i}{suffix}', m, **kw)
    return root


def coco(root, annotations, images=None, part='train', size=(6,8), categories=None):
    h,w = size
    save(root/part/'image'/'a.png', np.zeros((h,w,3)))
    data = dict(images=images or [dict(id=1, file_name='image/a.png', width=w, height=h)], annotations=annotations,
                categories=categories or [dict(id=7, name='house')])
    (root/part/f'{part}.json').write_text(json.dumps(data))
    return root


def encode(mask):
    "COCO's run lengths of a mask."
    res = pytest.importorskip('pycocotools.mask').encode(np.asfortranarray(mask, np.uint8))
    return dict(size=res['size'], counts=res['counts'].decode())


def ann(segmentation, category_id=7, image_id=1, **kw): return dict(image_id=image_id, category_id=category_id, segmentation=segmentation, **kw)


def rect(x, y, w, h): return [x,y, x+w,y, x+w,y+h, x,y+h]


def ships(root, rows, names=('a.jpg','b.jpg'), size=(4,3)):
    for n in names: save(root/'train_v2'/n, np.zeros((*size,3)))
    (root/'train_ship_segmentations_v2.csv').write_text('ImageId,EncodedPixels\n' + ''.join(f'{a},{b}\n' for a,b in rows))
    return root


def jpeg(a, quality):
    buf = io.BytesIO()
    Image.fromarray(a).save(buf, 'JPEG', quality=quality)
    return np.asarray(Image.open(buf))


def clouds(root, masks, bands=13, names=None):
    for d in ('subscenes','masks'): (root/d).mkdir(parents=True, exist_ok=True)
    for i,m in enumerate(masks):
        name = names[i] if names else f's_{i:04}'
        np.save(root/'subscenes'/f'{name}.npy', np.broadcast_to(np.arange(bands, dtype=np.float32), (*m.shape[:2],bands)))
        np.save(root/'masks'/f'{name}.npy', m)
    return root


def geo(root, shapes, crs='EPSG:4326', name='o.geojson', chips=2, **kw):
    for i in range(chips): save_tif(root/'images'/f'c{i}.tif', np.full((4,4,3), i+1, np.uint8), x=500000+40*i, **kw)
    frame = geopandas.GeoDataFrame(dict(kind=[f'k{i%2}' for i in range(len(shapes))]), geometry=shapes, crs='EPSG:32633')
    (frame.to_crs(crs) if crs else frame).to_file(root/name)
    return root
