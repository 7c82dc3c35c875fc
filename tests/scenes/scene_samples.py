"Maps, layouts and processes for the tests of scenes."
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import shapely
from rasterio.transform import Affine

from satseg.data.polygons import mask_to_polygons
from satseg.scenes.ground import pixel_areas
from satseg.scenes.polygons import merge_polygons, tile_polygons
from satseg.scenes.tiles import Layout

ROOT = Path(__file__).resolve().parent.parent.parent
UTM = Affine(10, 0, 300000, 0, -10, 6e6), 'EPSG:32633'
NAMES = ['background', 'wood', 'water & ice']
GRIDS = {'mercator': (Affine(10, 0, 0, 0, -10, 8399737.9), 'EPSG:3857'), 'coarse mercator': (Affine(1000, 0, 0, 0, -1000, 8e6), 'EPSG:3857'),
         'degrees': (Affine(1e-4, 0, 10, 0, -1e-4, 52), 'EPSG:4326'), 'narrow degrees': (Affine(3e-4, 0, 10, 0, -1e-4, -70), 'EPSG:4326'),
         'utm': UTM, 'oblong': (Affine(10, 0, 300000, 0, -2.5, 6e6), 'EPSG:32633'), 'turned': (Affine(7, 7, 300000, 7, -7, 6e6), 'EPSG:32633'),
         'turned degrees': (Affine(1e-4, 2e-5, 10, 1e-5, -1e-4, 52), 'EPSG:4326'), 'feet': (Affine(30, 0, 2e6, 0, -30, 7e5), 'EPSG:2225'),
         'polar': (Affine(1000, 0, -5e5, 0, -1000, 5e5), 'EPSG:3413'), 'south up': (Affine(10, 0, 300000, 0, 10, 6e6), 'EPSG:32633'),
         'grads': (Affine(1e-4, 0, 2, 0, -1e-4, 52), 'EPSG:4807')}


class Grid:
    "A layout with any rows and columns."
    def __init__(self, rows, cols): self.rows, self.cols, self.height, self.width = rows, cols, rows[-1], cols[-1]
    def __len__(self): return (len(self.rows)-1)*(len(self.cols)-1)

    def tile(self, i):
        r, c = divmod(i, len(self.cols)-1)
        return self.rows[r], self.cols[c], self.rows[r+1]-self.rows[r], self.cols[c+1]-self.cols[c]


def grid(rng, h, w):
    return Grid(*([0, *sorted(rng.choice(np.arange(1, n), rng.integers(0, n), replace=False).tolist()), n] for n in (h, w)))


def random_map(rng, most=16):
    h, w = rng.integers(1, most, 2)
    if rng.random()<.5: m = rng.integers(0, rng.integers(2, 4), (h, w))
    else:
        m = np.full((h, w), rng.integers(0, 3))
        for _ in range(rng.integers(1, 9)):
            (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
            m[r:r+dr, c:c+dc] = rng.integers(0, 3)
    m[rng.random((h, w))<rng.choice([0, .1])] = 255
    return m.astype(np.uint8)


def tiles_of(layout, classes, score, areas, wanted=(0, 1, 2)):
    def tile_of(i):
        r, c, h, w = layout.tile(i)
        at = slice(r, r+h), slice(c, c+w)
        return tile_polygons(classes[at], score[at], areas[at], (r, c, h, w), classes.shape, wanted)
    return tile_of


def normal(polygon): return shapely.normalize(polygon).wkt # GDAL starts its rings elsewhere


def whole(classes, wanted=(0, 1, 2)):
    "Polygons of the whole array as {outline: class}."
    wide = np.where(np.isin(classes, wanted), classes.astype(np.int32)+1, 0)
    return {normal(o): i-1 for o, i in zip(*mask_to_polygons(wide, ids=True))}


def random_case(seed, most=16):
    rng = np.random.default_rng(seed)
    m = random_map(rng, most)
    return grid(rng, *m.shape), m, rng.random(m.shape, np.float32), rng.integers(1, 9, m.shape)*.25


def blobs(shape, seed=0):
    from scipy.ndimage import gaussian_filter
    rng = np.random.default_rng(seed)
    x = np.stack([gaussian_filter(rng.normal(size=shape), s, mode='wrap')*s*3 for s in (4, 8, 16)])
    return (x+rng.normal(size=x.shape)*.2).argmax(0).astype(np.uint8)


def at(t, x, y): return t.a*x+t.b*y+t.c, t.d*x+t.e*y+t.f


def scene(seed=0, shape=(90, 120)):
    m = blobs(shape, seed)
    m[:5, :7] = 255
    return m


def shapes_of(m, transform, crs, size=32, wanted=(1, 2)):
    layout = Layout(*m.shape, size=size)
    areas = np.broadcast_to(pixel_areas(transform, crs, (0, 0, *m.shape)), m.shape)
    score = np.random.default_rng(0).random(m.shape, np.float32)
    return merge_polygons(tiles_of(layout, m, score, areas, wanted), layout)


def python(code, *args, **options):
    "A Python process that runs `code`."
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def output(code, *args):
    "What it printed; it must end well."
    process = python(code, *args)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    return out


def one_line(error):
    "The error's text, which must be fit for a terminal."
    text = str(error.value)
    assert '\n' not in text and len(text) < 600
    return text


def limited(code, *args, limit):
    "Run `code` where no file may grow beyond `limit` bytes: a full disk, as a program sees it."
    return output(f'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n' + code, *args)


def recorded(monkeypatch):
    "Which files are brought to the disk, and given their names, in order."
    seen, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: (seen.append(('sync', os.fstat(f).st_ino)), sync(f)))
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(('name', os.stat(a).st_ino)), replace(a, b)))
    return seen
