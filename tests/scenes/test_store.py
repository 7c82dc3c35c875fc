"Stores that survive anything, and maps that are whole or not there."
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satseg.core.errors import BadInput
from satseg.core.display import class_colours
from satseg.scenes.areas import area_table, class_qml, write_summary
from satseg.scenes.store import TileStore, pack, plan_difference, plan_id, unpack
from satseg.scenes.cog import verify_finished, write_cog

ROOT = Path(__file__).resolve().parent.parent.parent
PLAN = {'scene': 'a.tif', 'model': {'sha256': '00ff', 'threshold': .5}, 'nodata': float('nan')}


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


def test_imports_neither_torch_nor_rasterio():
    code = 'import sys, satseg.maps; print(sorted({"torch", "rasterio", "matplotlib", "PIL", "fastai"} & set(sys.modules)))'
    assert output(code) == '[]\n'


# Arrays as bytes

DTYPES = ['b1', 'u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8', 'f2', 'f4', 'f8', '>u2', '>f4']


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text('abcdefgh_0', min_size=1, max_size=8), st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4), st.integers(0, 99)), max_size=4))
def test_packed_arrays_come_back(kinds):
    arrays = {k: (np.random.default_rng(seed).random(shape)*200).astype(code) for k, (code, shape, seed) in kinds.items()}
    back = unpack(pack(arrays))
    assert list(back) == list(arrays)
    for k, a in arrays.items():
        assert back[k].dtype == a.dtype and back[k].shape == a.shape and np.array_equal(back[k], a) and back[k].flags.writeable


def test_pack_takes_views_and_fortran_order():
    a = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    back = unpack(pack({'t': a.T, 's': a[:, ::2], 'n': a[0, 0, 0]}))
    assert np.array_equal(back['t'], a.T) and np.array_equal(back['s'], a[:, ::2]) and back['n'].shape == ()


def test_packs_of_the_same_arrays_are_the_same(monkeypatch):
    first = pack({'a': np.arange(50)})
    monkeypatch.setattr(time, 'time', lambda: 2e9)
    assert pack({'a': np.arange(50)}) == first


def test_damaged_packs_are_refused():
    data = pack({'a': np.arange(50, dtype=np.uint16), 'b': np.zeros((3, 0))})
    for n in range(len(data)):
        with pytest.raises(BadInput): unpack(data[:n])
    for i in range(len(data)):
        for bit in range(8):
            try: back = unpack(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i+1:])
            except BadInput as e: assert len(str(e)) < 300
            else: assert sum(o.nbytes for o in back.values()) <= 100
    with pytest.raises(ValueError, match='Object arrays'): pack({'a': np.array([{}])})


# The store

def payload(i, seed=0): return random.Random(i*1000+seed).randbytes(3+17*i)


def filled(path, n=5, plan=PLAN):
    "A store with tiles 0 to n-1 in another order."
    with TileStore(path, plan) as store:
        for i in range(n)[::-1]: store.add(i, {'map': payload(i), 'pieces': payload(i, 1)})
    return path


def contents(store): return {i: (store.read(i, 'map'), store.read(i, 'pieces')) for i in store.done}


def whole(n): return {i: (payload(i), payload(i, 1)) for i in range(n)}


def test_a_store_gives_back_what_it_took(tmp_path):
    path = filled(tmp_path/'a')
    with TileStore(path, PLAN, resume=True) as store:
        assert contents(store) == whole(5) and store.damaged == 0
        store.add(9, {'map': b'', 'pieces': b''})
        store.add(2, {'map': b'anew', 'pieces': b''})
    want = {**whole(5), 9: (b'', b''), 2: (b'anew', b'')}
    with TileStore(path, PLAN, resume=True) as store: assert contents(store) == want
    with TileStore(path, PLAN) as store: assert store.done == set() # Thrown away
    store = TileStore(path, PLAN, resume=True)
    assert not store.done
    store.remove()
    assert not os.listdir(tmp_path)


def test_a_torn_or_spoilt_file_gives_right_tiles_or_is_refused_in_one_line(tmp_path):
    data = filled(tmp_path/'a', 12).read_bytes()
    want, refused, chance = whole(12), 0, random.Random(0)
    cut = [data[:n] for n in sorted({1, 99, 100, 4096, *(chance.randrange(len(data)) for _ in range(15))})]
    used = [i for i in range(len(data)) if data[i:i+8] != bytes(8)]
    places = [*range(0, 100, 3), *chance.sample(used, 150)]
    spoilt = [data[:n] + bytes([data[n] ^ chance.randrange(1, 256)]) + data[n+1:] for n in places]
    zeros = [data[:n] + bytes(512) + data[n+512:] for n in range(0, len(data)-512, 8192)]
    for o in [*cut, *spoilt, *zeros]:
        (tmp_path/'a').write_bytes(o)
        try:
            with TileStore(tmp_path/'a', PLAN, resume=True) as store:
                got = contents(store)
                for i in want: store.add(i, {'map': want[i][0], 'pieces': want[i][1]})
                assert contents(store) == want
        except BadInput as e:
            refused += 1
            assert '\n' not in str(e) and ('delete it' in str(e) or 'cannot be written' in str(e)), str(e)
        else: assert all(got[i] == want[i] for i in got)
    assert len(cut) < refused < len(cut)+len(spoilt)


def test_arrays_damaged_on_the_disk_cost_their_tile(tmp_path):
    path = filled(tmp_path/'a')
    data = path.read_bytes()
    path.write_bytes(data.replace(payload(3), payload(3, 7)))
    with TileStore(path, PLAN, resume=True) as store:
        assert store.done == {0, 1, 2, 4} and store.damaged == 1
    path.write_bytes(data)
    with TileStore(path, PLAN, resume=True) as store:
        store.db.execute("UPDATE tiles SET tile=7 WHERE tile=3 AND layer='map'")
        store.db.execute("UPDATE tiles SET arrays=x'00' WHERE tile=1")
        for i in (1, 3, 7):
            with pytest.raises(BadInput, match=f'tile {i} is damaged') as e: store.read(i, 'map')
        one_line(e)
    with TileStore(path, PLAN, resume=True) as store: assert store.done == {0, 2, 4} and store.damaged == 3


def test_another_plan_is_refused_by_name(tmp_path):
    path = filled(tmp_path/'a')
    for other, name in [({**PLAN, 'scene': 'b.tif'}, 'now scene "b.tif" instead of "a.tif"'),
                        ({**PLAN, 'model': {'sha256': '00ff', 'threshold': .4}}, r'model\.threshold 0\.4 instead of 0\.5'),
                        ({**PLAN, 'tta': True}, 'tta true instead of none'), ({'scene': 'a.tif'}, 'model none instead of {'),
                        ({**PLAN, 'model': 'x'*9999}, 'model "xx')]:
        with pytest.raises(BadInput, match=name) as e: TileStore(path, other, resume=True)
        assert 'without --resume' in one_line(e)
    with TileStore(path, json.loads(json.dumps(PLAN)), resume=True) as store: assert len(store.done) == 5
    assert plan_id(PLAN) == plan_id(dict(reversed(PLAN.items()))) != plan_id({**PLAN, 'nodata': 0}) and plan_difference(PLAN, dict(PLAN)) == ''


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path/'thesis').write_text('all my work')
    with closing(sqlite3.connect(tmp_path/'mail')) as db: db.execute('CREATE TABLE plan (a)')
    mail = (tmp_path/'mail').read_bytes()
    for resume in (False, True):
        for name in ('thesis', 'mail'):
            with pytest.raises(BadInput, match='no tiles of satseg') as e: TileStore(tmp_path/name, PLAN, resume)
            one_line(e)
        for path in (tmp_path, tmp_path/'nowhere'/'a'):
            with pytest.raises(BadInput, match='cannot be written') as e: TileStore(path, PLAN, resume)
            one_line(e)
    assert (tmp_path/'thesis').read_text() == 'all my work' and (tmp_path/'mail').read_bytes() == mail


def test_network_disks_get_no_write_ahead_log_and_power_cuts_no_chance(tmp_path):
    with TileStore(tmp_path/'a', PLAN) as store:
        asked = {o: store.db.execute(f'PRAGMA {o}').fetchone()[0] for o in ('journal_mode', 'synchronous', 'locking_mode')}
    assert asked == dict(journal_mode='truncate', synchronous=2, locking_mode='exclusive')


WRITER = '''
import random, sys, time
from satseg.maps import TileStore
path, n, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with TileStore(path, {'n': n}, resume=True) as store:
    print('ready', store.damaged, len(store.done), flush=True)
    for i in range(n):
        if i not in store.done: store.add(i, dict(map=random.Random(i).randbytes(size+i), pieces=b'x'))
print('complete', flush=True)
'''


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no kill -9 here')
def test_kill_9_at_random_moments(tmp_path):
    n, size, chance, killed, before = 400, 400_000, random.Random(0), 0, -1
    for _ in range(40):
        process = python(WRITER, tmp_path/'a', n, size)
        ready, damaged, there = process.stdout.readline().split() or pytest.fail(process.stderr.read())
        assert damaged == '0' and int(there) >= before
        before = int(there)
        time.sleep(chance.random()*.1)
        process.kill()
        process.wait()
        done = 'complete' in process.stdout.read()
        killed += not done
        if done or killed == 8: break
    assert killed > 1 and before > 0
    assert 'complete' in output(WRITER, tmp_path/'a', n, size)
    with TileStore(tmp_path/'a', {'n': n}, resume=True) as store:
        assert all(store.read(i, 'map') == random.Random(i).randbytes(size+i) for i in range(n))


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no kill -9 here')
def test_two_writers(tmp_path):
    code = WRITER + 'k = TileStore(path+"2", {}, resume=True); print("holds", flush=True); time.sleep(100)'
    process = python(code, tmp_path/'a', 3, 10)
    while process.stdout.readline() != 'holds\n': assert process.poll() is None, process.stderr.read()
    for resume in (False, True):
        with pytest.raises(BadInput, match='another run is writing it') as e: TileStore(tmp_path/'a2', {}, resume)
        one_line(e)
    process.kill()
    process.wait()
    try_it = 'import sys; from satseg.maps import TileStore; TileStore(sys.argv[1], {}, resume=True)'
    with TileStore(tmp_path/'a2', {}, resume=True) as store: # The lock went with the process
        with pytest.raises(BadInput, match='another run'): TileStore(tmp_path/'a2', {})
        store.add(1, {'map': b'one'})
        other = python(try_it, tmp_path/'a2') # Our second try has not taken our lock away, as closing a file would
        assert 'another run' in other.communicate()[1] and other.returncode
    with TileStore(tmp_path/'a2', {}, resume=True) as store: assert store.read(1, 'map') == b'one'


def test_a_store_goes_where_open_files_cannot_be_deleted(tmp_path, monkeypatch):
    "As on Windows."
    store = TileStore(tmp_path/'a', PLAN)
    store.add(1, {'map': b'one'})
    unlink, closed = Path.unlink, []
    class Connection:
        def __init__(self, db): self.db = db
        def close(self): closed.append(self.db.close())
    def windows(self, **kw):
        if not closed: raise PermissionError(13, 'The process cannot access the file because it is being used by another process')
        unlink(self, **kw)
    store.db = Connection(store.db)
    monkeypatch.setattr(Path, 'unlink', windows)
    store.remove()
    assert closed and not os.listdir(tmp_path)


def test_a_store_removed_while_another_waits_for_its_lock(tmp_path, monkeypatch):
    import satseg.maps as maps
    first, connect = TileStore(tmp_path/'a', PLAN), sqlite3.connect
    def late(*args, **kw):
        db = connect(*args, **kw)
        if Path(tmp_path/'a').exists() and not removed: removed.append(first.remove())
        return db
    removed = []
    monkeypatch.setattr(maps.sqlite3, 'connect', late)
    with TileStore(tmp_path/'a', PLAN, resume=True) as store: store.add(1, {'map': b'one'})
    with TileStore(tmp_path/'a', PLAN, resume=True) as store: assert store.done == {1}


def limited(code, *args, limit):
    "Run `code` where no file may grow beyond `limit` bytes: a full disk, as a program sees it."
    return output(f'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n' + code, *args)


FULL = '''
from satseg.data import BadInput
from satseg.maps import TileStore
import random, sys
try:
    with TileStore(sys.argv[1], {}, resume=True) as store:
        for i in range(10):
            if i not in store.done: store.add(i, dict(map=random.Random(i).randbytes(100_000*i)))
except BadInput as e: print(e)
'''


def test_a_full_disk_keeps_the_whole_tiles(tmp_path):
    pytest.importorskip('resource')
    for limit in (5, 100, 70_000, 300_000, 1_000_000, 2_500_000):
        [line] = limited(FULL, tmp_path/'a', limit=limit).splitlines()
        assert 'no room for' in line and 'go on with --resume' in line and str(tmp_path/'a') in line, line
        assert (tmp_path/'a').stat().st_size <= limit
    assert 'tile 7, 700,000 bytes' in line, line
    with TileStore(tmp_path/'a', {}, resume=True) as store: assert store.done == set(range(7)) and not store.damaged
    assert output(FULL, tmp_path/'a') == ''
    with TileStore(tmp_path/'a', {}, resume=True) as store: assert store.done == set(range(10))


# The map

rasterio = pytest.importorskip('rasterio')
from affine import Affine # noqa: E402

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
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_bands_are_bands_and_no_colours(tmp_path, count, dtype):
    a = (np.random.default_rng(count).random((count, 600, 530))*250).astype(dtype)
    names = [f'class {i}' for i in range(count)]
    write_cog(tmp_path/'m.tif', parts(a), 600, 530, count, dtype, nodata=None if count == 3 else 255, descriptions=names, resampling='average', scale=1/250)
    valid(tmp_path/'m.tif')
    with rasterio.open(tmp_path/'m.tif') as d:
        assert np.array_equal(d.read(), a) and d.dtypes == (dtype,)*count and d.descriptions == tuple(names) and d.scales == (1/250,)*count
        assert d.nodata == (None if count == 3 else 255) and d.crs is None and d.transform == Affine.identity()
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
from satseg.data import BadInput
from satseg.maps import write_cog
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
    a, tags = ids(1100, 600), {'SATSEG_PLAN': plan_id(PLAN), 'SATSEG_MODEL': 'unet'}
    path = tmp_path/'m.tif'
    write_cog(path, parts(a), 1100, 600, tags=tags, **UTM)
    data = path.read_bytes()
    assert verify_finished(path, tags) and verify_finished(path, {'SATSEG_PLAN': plan_id(PLAN)})
    assert not verify_finished(path, {'SATSEG_PLAN': plan_id({})}) and not verify_finished(path, {'OTHER': 1})
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


def recorded(monkeypatch):
    "Which files are brought to the disk, and given their names, in order."
    seen, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: (seen.append(('sync', os.fstat(f).st_ino)), sync(f)))
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(('name', os.stat(a).st_ino)), replace(a, b)))
    return seen


def test_bytes_are_on_the_disk_before_a_name_is(tmp_path, monkeypatch):
    a, seen = ids(300, 300), recorded(monkeypatch)
    write_cog(tmp_path/'m.tif', parts(a), 300, 300)
    write_summary(tmp_path/'s.csv', area_table(['a'], [1]))
    folder = tmp_path.stat().st_ino
    for name in ('m.tif', 's.csv'):
        i = seen.index(('name', (tmp_path/name).stat().st_ino))
        assert ('sync', seen[i][1]) in seen[:i] and seen[i+1] == ('sync', folder)


def test_all_files_of_a_scene_are_on_the_disk_before_its_store_may_go(tmp_path, monkeypatch):
    from types import SimpleNamespace

    import satseg.scene as S
    names = dict(polygons='a.gpkg', areas='a.csv', style='a.qml', classes='a.tif')
    def write(path, *args, **kw): path.write_text(path.name)
    for o in ('write_cog', 'write_summary'): monkeypatch.setattr(S, o, write)
    monkeypatch.setattr(S, '_write_shapes', write)
    monkeypatch.setattr(S, '_file_names', lambda *args: names)
    monkeypatch.setattr(S, '_areas', lambda *args: [])
    info = SimpleNamespace(classes=['background', 'building'], colours=(), arguments={}, head='')
    monkeypatch.setattr(S, 'output_classes', lambda info: info.classes)
    place = SimpleNamespace(name='a', height=2, width=1, crs=None, transform=None)
    plan = dict(polygons=[1], probabilities=False, uncertainty=None)
    seen = recorded(monkeypatch)
    S.write_outputs(tmp_path, None, plan, place, info, {})
    files = [(tmp_path/o).stat().st_ino for o in names.values()]
    first = seen.index(('name', files[0]))
    assert {('sync', o) for o in files} <= set(seen[:first])
    assert seen[first:] == [*(('name', o) for o in files), ('sync', tmp_path.stat().st_ino)] and sorted(os.listdir(tmp_path)) == sorted(names.values())


def test_nothing_is_renamed_unless_all_is_complete(tmp_path, monkeypatch):
    from satseg.core.files import hidden_folder, publish
    (tmp_path/'a').write_text('old')
    def full(f): raise OSError(28, 'No space left on device')
    for spoil in (True, False):
        with pytest.raises(OSError), hidden_folder(tmp_path/'x') as tmp:
            for o in 'ab': (tmp/o).write_text('new')
            if spoil: (tmp/'b').unlink()
            else: monkeypatch.setattr(os, 'fsync', full)
            publish((tmp/o, tmp_path/o) for o in 'ab')
        assert (tmp_path/'a').read_text() == 'old' and os.listdir(tmp_path) == ['a']


# Style and summary

def test_styles_are_xml_whatever_the_names():
    root = ElementTree.fromstring(class_qml(['a\x00b', 'c\x1b[31m', 'd\ufffe', 'e\n"<&']).split('\n', 1)[1])
    assert [o.get('label') for o in root.findall('.//colorPalette/paletteEntry')] == ['a?b', 'c?[31m', 'd?', 'e\n"<&']


def test_styles_are_xml_and_hold_every_class():
    names = ['background', 'a & b', '<i>"x"</i>', "it's", 'Straße']
    root = ElementTree.fromstring(class_qml(names).split('\n', 1)[1])
    entries = root.findall('.//colorPalette/paletteEntry')
    assert [o.get('label') for o in entries] == names and [o.get('value') for o in entries] == list('01234')
    assert [o.get('color') for o in entries] == ['#%02x%02x%02x' % c for c in class_colours(5)]
    assert [o.get('alpha') for o in entries] == ['0', '255', '255', '255', '255']
    assert root.find('.//rasterrenderer').get('type') == 'paletted' and root.find('.//pixelListEntry').get('min') == '255'
    field = ElementTree.fromstring(class_qml(['field', 'road'], [(1, 2, 3), (4, 5, 6)]).split('\n', 1)[1]).findall('.//paletteEntry')
    assert [o.get('alpha') for o in field] == ['255', '255']


def test_areas_add_up(tmp_path):
    rows = area_table(['a', 'b, "c"', 'd'], np.array([1, 2, 5]), np.array([100.5, 2e6, 0]), 12)
    assert [o['pixels'] for o in rows] == [1, 2, 5, 8, 12] and sum(o['share'] for o in rows[:3]) == 1 and rows[3]['area_m2'] == 2000100.5
    text = write_summary(tmp_path/'s.csv', rows)
    lines = text.splitlines()
    assert len(lines) == 6 and lines[2].split()[-4:] == ['0.2500', '2000000', '200.0000', '2.0000'] and lines[5].split()[-4:] == ['-']*4
    import csv
    with open(tmp_path/'s.csv', newline='') as f: back = list(csv.DictReader(f))
    assert [o['class'] for o in back] == ['a', 'b, "c"', 'd', 'all classes', 'no data'] and float(back[1]['km2']) == 2 and back[4]['area_m2'] == ''
    assert b'\r' not in (tmp_path/'s.csv').read_bytes() and os.listdir(tmp_path) == ['s.csv']
    assert list(area_table(['a'], [0])[0]) == ['class', 'pixels', 'share'] and area_table(['a'], [0])[1]['share'] == 0
    with pytest.raises(BadInput, match='cannot be written') as e: write_summary(tmp_path/'no'/'s.csv', rows)
    one_line(e)
