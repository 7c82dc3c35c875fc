"Stores that survive anything, and maps that are whole or not there."
import json
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene_samples import limited, one_line, output, python

from satseg.core.errors import BadInput
from satseg.scenes.store import TileStore, pack, _plan_difference, plan_id, unpack

PLAN = {'scene': 'a.tif', 'model': {'sha256': '00ff', 'threshold': .5}, 'nodata': float('nan')}


def test_imports_neither_torch_nor_rasterio():
    code = 'import sys, satseg.scenes.store; print(sorted({"torch", "rasterio", "matplotlib", "PIL", "fastai"} & set(sys.modules)))'
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
    data = filled(tmp_path/'a', 6).read_bytes()
    want, refused, chance = whole(6), 0, random.Random(0)
    cut = [data[:n] for n in sorted({1, 99, 100, 4096, *(chance.randrange(len(data)) for _ in range(8))})]
    used = [i for i in range(len(data)) if data[i:i+8] != bytes(8)]
    places = [*range(0, 100, 5), *chance.sample(used, 50)]
    spoilt = [data[:n] + bytes([data[n] ^ chance.randrange(1, 256)]) + data[n+1:] for n in places]
    zeros = [data[:n] + bytes(512) + data[n+512:] for n in range(0, len(data)-512, 32768)]
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
    assert plan_id(PLAN) == plan_id(dict(reversed(PLAN.items()))) != plan_id({**PLAN, 'nodata': 0}) and _plan_difference(PLAN, dict(PLAN)) == ''


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
from satseg.scenes.store import TileStore
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
    try_it = 'import sys; from satseg.scenes.store import TileStore; TileStore(sys.argv[1], {}, resume=True)'
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
    import satseg.scenes.store as maps
    first, connect = TileStore(tmp_path/'a', PLAN), sqlite3.connect
    def late(*args, **kw):
        db = connect(*args, **kw)
        if Path(tmp_path/'a').exists() and not removed: removed.append(first.remove())
        return db
    removed = []
    monkeypatch.setattr(maps.sqlite3, 'connect', late)
    with TileStore(tmp_path/'a', PLAN, resume=True) as store: store.add(1, {'map': b'one'})
    with TileStore(tmp_path/'a', PLAN, resume=True) as store: assert store.done == {1}


FULL = '''
from satseg.core.errors import BadInput
from satseg.scenes.store import TileStore
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


