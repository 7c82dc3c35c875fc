"Maps that are whole or not there."
import os
import signal
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from scene_samples import limited, one_line, output, python, recorded

from satseg.core.display import class_colours
from satseg.core.errors import BadInput
from satseg.scenes.cog import verify_finished, write_cog

UTM = dict(crs='EPSG:32633', transform=Affine(10, 0, 5e5, 0, -10, 5e6))


def ids(height, width, n=5, seed=0):
    "Class ids in patches of 8 pixels, with some of 255."
    a = np.random.default_rng(seed).integers(0, n, (-(-height//8), -(-width//8))).astype(np.uint8)
    a = np.repeat(np.repeat(a, 8, 0), 8, 1)[:height, :width].copy()
    a[np.random.default_rng(seed+1).random(a.shape) < .1] = 255
    return a


def parts(a, size=300, offset=0):
    "Blocks of `a`; the first row and column of blocks may have another size."
    h, w = a.shape[-2:]
    ys, xs = (sorted({0, *range(offset or size, n, size), n}) for n in (h, w))
    for y, y2 in zip(ys, ys[1:]):
        for x, x2 in zip(xs, xs[1:]): yield (y, x, y2-y, x2-x), a[..., y:y2, x:x2]


def valid(path, warnings=0):
    "What `rio cogeo validate --strict` says."
    cog_validate = pytest.importorskip('rio_cogeo.cogeo').cog_validate
    ok, wrong, warned = cog_validate(path, strict=not warnings, quiet=True)
    assert ok and not wrong and len(warned) == warnings, (wrong, warned)


@pytest.mark.parametrize('shape', [(1, 1), (1, 700), (1300, 1), (2, 5000), (511, 512), (512, 513), (513, 512), (1031, 2053), (1024, 1024), (2500, 1024), (1100, 767)])
def test_class_maps_of_all_shapes(tmp_path, shape):
    a = ids(*shape)
    write_cog(tmp_path/'m.tif', parts(a), *shape, colours=class_colours(5), tags={'SATSEG_CLASSES': 'a, b'}, **UTM)
    valid(tmp_path/'m.tif', warnings=shape == (1300, 1)) # Overviews could not be narrower than one pixel
    with rasterio.open(tmp_path/'m.tif') as d:
        assert np.array_equal(d.read(1), a) and d.transform == UTM['transform'] and d.crs.to_epsg() == 32633 and d.nodata == 255 and d.count == 1
        assert [d.colormap(1)[i] for i in range(5)] == [(*c, 255) for c in class_colours(5)] and d.tags()['SATSEG_CLASSES'] == 'a, b'
        assert d.profile['compress'] == 'deflate' and d.block_shapes == [(384, 384) if shape in ((513, 512), (2500, 1024)) else (512, 512)]
        assert d.overviews(1) == [2**i for i in range(1, 9) if max(shape) > 512*2**(i-1) and shape[1] > 1]
    assert os.listdir(tmp_path) == ['m.tif'] and verify_finished(tmp_path/'m.tif', {'SATSEG_CLASSES': 'a, b'})


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
def test_bands_are_bands_and_no_colours(tmp_path, count):
    a = (np.random.default_rng(count).random((count, 600, 530))*250).astype(np.uint8)
    names = [f'class {i}' for i in range(count)]
    write_cog(tmp_path/'m.tif', parts(a), 600, 530, count, descriptions=names, resampling='average', scale=1/250)
    valid(tmp_path/'m.tif')
    with rasterio.open(tmp_path/'m.tif') as d:
        assert np.array_equal(d.read(), a) and d.dtypes == ('uint8',)*count and d.descriptions == tuple(names) and d.scales == (1/250,)*count
        assert d.nodata == 255 and d.crs is None and d.transform == Affine.identity()
        assert not {'alpha', 'red', 'green', 'blue'} & {o.name for o in d.colorinterp} and (d.read_masks()[:, a[0] != 255] == 255).all()


@pytest.mark.parametrize('place', [dict(crs='EPSG:4326', transform=Affine(1e-4, 0, 12.5, 0, -1e-4, 48.1)), dict(crs=None, transform=Affine(.5, 0, 7, 0, -.5, 9)),
                                   dict(crs='EPSG:3857', transform=Affine(8.66, 5, 1e6, 5, -8.66, 6e6)),
                                   dict(crs='+proj=laea +lat_0=10 +lon_0=20 +ellps=bessel +units=m +no_defs', transform=Affine(30, 0, 1, 0, 30, 2)), dict(crs='EPSG:3031')])
def test_places_on_earth_come_back(tmp_path, place):
    a = ids(530, 40)
    write_cog(tmp_path/'m.tif', parts(a), 530, 40, **place)
    valid(tmp_path/'m.tif')
    with rasterio.open(tmp_path/'m.tif') as d:
        assert d.transform.almost_equals(place.get('transform', Affine.identity()), 1e-9) and np.array_equal(d.read(1), a)
        assert d.crs == (rasterio.crs.CRS.from_user_input(place['crs']) if place['crs'] else None)
    assert os.listdir(tmp_path) == ['m.tif']


def test_same_bytes_whatever_the_blocks(tmp_path):
    a = ids(1500, 1100)
    for name, size, offset in (('a', 300, 0), ('b', 300, 0), ('c', 512, 77), ('d', 2000, 0), ('e', 97, 5)):
        write_cog(tmp_path/name, parts(a, size, offset), 1500, 1100, colours=class_colours(5), tags={'x': 'ü & <y>'}, **UTM)
    write_cog(tmp_path/'f', reversed(list(parts(a))), 1500, 1100, colours=class_colours(5), tags={'x': 'ü & <y>'}, **UTM)
    assert len({(tmp_path/o).read_bytes() for o in 'abcdef'}) == 1


def test_overviews_vote_and_nodata_does_not(tmp_path):
    a = ids(1200, 1024, seed=3)
    a[:64, :64] = 255
    write_cog(tmp_path/'m.tif', parts(a), 1200, 1024)
    with rasterio.open(tmp_path/'m.tif', overview_level=0) as d: small = d.read(1)
    squares = a.reshape(600, 2, 512, 2).transpose(0, 2, 1, 3).reshape(600, 512, 4)
    votes = (squares[..., None] == np.arange(5)).sum(2)
    best = np.take_along_axis(votes, np.minimum(small, 4)[..., None].astype(int), 2)[..., 0]
    empty = votes.sum(2) == 0
    assert (small[empty] == 255).all() and (small[~empty] < 5).all() and (best == votes.max(2))[~empty].all()
    p = np.random.default_rng(0).integers(0, 251, (1, 1200, 1024)).astype(np.uint8)
    p[:, :64, :64] = 255
    write_cog(tmp_path/'p.tif', parts(p), 1200, 1024, resampling='average')
    with rasterio.open(tmp_path/'p.tif', overview_level=0) as d: small = d.read(1)
    assert (small[:32, :32] == 255).all() and np.abs(small[32:] - p[0, 64:].reshape(568, 2, 512, 2).mean((1, 3))).max() <= .5


def test_a_run_that_fails_leaves_what_was_there(tmp_path):
    a = ids(700, 700)
    write_cog(tmp_path/'m.tif', parts(a), 700, 700)
    old = (tmp_path/'m.tif').read_bytes()
    def broken(error):
        yield from list(parts(a))[:4]
        raise error
    for error in (BadInput('block 4 is damaged'), ZeroDivisionError(), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)): write_cog(tmp_path/'m.tif', broken(error), 700, 700)
    for bad, what in [(list(parts(a))[:-1], 'pixels are missing'), (parts(a.astype(np.int64)), 'expected 1 band.s. of uint8, got int64'),
                      (parts(np.stack([a, a])), 'expected 1 band.s. of uint8, got uint8 of shape'), ([((0, 0, 700, 700), a[1:])], 'window .0, 0, 700, 700.: expected')]:
        with pytest.raises(BadInput, match=what) as e: write_cog(tmp_path/'m.tif', bad, 700, 700)
        one_line(e)
    with pytest.raises(BadInput, match='cannot be written .No such file') as e: write_cog(tmp_path/'no'/'m.tif', parts(a), 700, 700)
    one_line(e)
    assert (tmp_path/'m.tif').read_bytes() == old and os.listdir(tmp_path) == ['m.tif']


MAP = '''
import sys
import numpy as np
from pathlib import Path
from satseg.core.errors import BadInput
from satseg.scenes.cog import write_cog
a = np.random.default_rng(0).integers(0, 255, (1100, 1100)).astype(np.uint8)
def parts():
    for y in range(0, 1100, 100):
        print('row', flush=True)
        yield (y, 0, 100, 1100), a[y:y+100]
try: write_cog(sys.argv[1], parts(), 1100, 1100)
except BadInput as e: print('no:', e)
else: print('written')
'''


def test_a_full_disk_leaves_nothing_that_looks_finished(tmp_path):
    pytest.importorskip('resource')
    path = tmp_path/'m.tif'
    assert output(MAP, path).endswith('written\n') and verify_finished(path, {})
    size = path.stat().st_size
    path.unlink()
    for limit in (0, 10, 1000, size//3, size*2//3, size*3//4, size-1000, size-1):
        last = limited(MAP, path, limit=limit).splitlines()[-1]
        assert last.startswith(f'no: {path}: cannot be written (') and 'make room' in last and not os.listdir(tmp_path)


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no kill -9 here')
def test_kill_9_while_the_map_is_written(tmp_path):
    output(MAP, tmp_path/'whole.tif')
    whole = (tmp_path/'whole.tif').read_bytes()
    for wait in (0, .05, .1):
        process = python(MAP, tmp_path/'m.tif')
        for _ in range(4 if wait == 0 else 11): process.stdout.readline()
        time.sleep(wait)
        process.kill()
        process.wait()
        if (tmp_path/'m.tif').exists(): # It was quicker: then it is whole
            assert (tmp_path/'m.tif').read_bytes() == whole
            (tmp_path/'m.tif').unlink()
        else: assert set(os.listdir(tmp_path)) <= {'whole.tif', '.m.tif.part'}
    output(MAP, tmp_path/'m.tif')
    assert (tmp_path/'m.tif').read_bytes() == whole and sorted(os.listdir(tmp_path)) == ['m.tif', 'whole.tif']


def test_finished_maps_are_known_and_damaged_ones_found(tmp_path):
    a, tags = ids(1100, 600), {'SATSEG_PLAN': '0a1b', 'SATSEG_MODEL': 'unet'}
    path = tmp_path/'m.tif'
    write_cog(path, parts(a), 1100, 600, tags=tags, **UTM)
    data = path.read_bytes()
    assert verify_finished(path, tags) and verify_finished(path, {'SATSEG_PLAN': '0a1b'})
    assert not verify_finished(path, {'SATSEG_PLAN': 'other'}) and not verify_finished(path, {'OTHER': 1})
    assert not verify_finished(tmp_path, tags) and not verify_finished(tmp_path/'none.tif', tags)
    for n in [0, 1, 7, 100, 1000, *range(2000, len(data), 2003), len(data)-1, len(data)-5]:
        path.write_bytes(data[:n])
        assert not verify_finished(path, tags) or n >= len(data)-5 # GDAL repeats the last four bytes of a tile after it: these may go
    start = len(data)//2
    for n in range(start, len(data)-100, 997): # Tiles of the map and nothing else
        path.write_bytes(data[:n] + bytes(b ^ 255 for b in data[n:n+16]) + data[n+16:])
        assert not verify_finished(path, tags)
    (tmp_path/'text.tif').write_text('<VRTDataset/>')
    assert not verify_finished(tmp_path/'text.tif', {})


def test_bytes_are_on_the_disk_before_a_name_is(tmp_path, monkeypatch):
    a, seen = ids(300, 300), recorded(monkeypatch)
    write_cog(tmp_path/'m.tif', parts(a), 300, 300)
    i = seen.index(('name', (tmp_path/'m.tif').stat().st_ino))
    assert ('sync', seen[i][1]) in seen[:i] and seen[i+1] == ('sync', tmp_path.stat().st_ino)


