"""Hostile and damaged pickles: each is refused in one line that names what it met, and none of them does anything.

To add a trick: one line in HOSTILE or DAMAGED (name, bytes, words that the message must have)."""
import functools
import gzip
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from chip_samples import CHIPS, IMAGES, MASKS, Lazy
from satseg.core.errors import BadInput
from satseg.data.bands import true_colour
from satseg.data.chips import Chips, show_chips
from satseg.data.pickles import _OPCODES, load_pickle, safe_unpickle, save_pickle
from satseg.data.splits import class_shares
from satseg.models.statistics import band_stats

SENTINEL = 'the_file_ran'  # made in the working folder if a file's code runs; tests work in tmp_path
TOUCH = f'touch {SENTINEL}'
PYTHON = f'open({SENTINEL!r},"w").close()'


class Call:
    "Pickles as a call of `func(*args)`, perhaps with a state set afterwards."
    def __init__(self, func, *args, state=None): self.parts = (func, args) if state is None else (func, args, state)
    def __reduce__(self): return self.parts


class Plain: pass


def dump(o, protocol=4): return pickle.dumps(o, protocol)
def short(s): return b'\x8c' + bytes([len(s)]) + s.encode()  # SHORT_BINUNICODE
def name4(module, name): return short(module) + short(name) + b'\x93'  # STACK_GLOBAL


def array_pickle(shape=(2, 2), dtype='f8', data=bytes(32), order='<', module='numpy._core.multiarray', kind=b'cnumpy\nndarray\n', state=None):
    "A pickle of one array, written by hand, with whatever promise one likes."
    if state is None:
        dt = b'cnumpy\ndtype\n' + dump_body((dtype, False, True)) + b'R' + dump_body((3, order, None, None, None, -1, -1, 0)) + b'b'
        state = b'(K\x01' + dump_body(shape) + dt + b'\x89' + dump_body(data) + b't'
    return b'\x80\x04' + f'c{module}\n_reconstruct\n'.encode() + b'(' + kind + b'K\x00\x85C\x01btR' + state + b'b.'


def dump_body(o): return pickle.dumps(o, 3)[2:-1]  # without PROTO and STOP


NUMPY5 = b'\x80\x05' + name4('numpy._core.numeric', '_frombuffer')
SYSTEM = name4('os', 'system') + short(TOUCH) + b'\x85R'
LAUGHS = b'\x80\x04' + short('x') + b'q\x00' + b''.join(b'h%ch%c\x86q%c' % (i, i, i+1) for i in range(6))  # 6 nested pairs: 64 leaves

PENDING = b'cnumpy\ndtype\n(' + short('f8') + b'\x89\x88tR'  # a number type before its BUILD

HOSTILE = [
    ('os.system', dump(Call(os.system, TOUCH)), 'refuses posix.system: a data file may hold only numpy arrays'),
    ('os.system, protocol 0', dump(Call(os.system, TOUCH), 0), 'refuses posix.system'),
    ('os.system inside a good layout', dump({'train': [{'image': np.zeros((4, 4, 3)), 'mask': Call(os.system, TOUCH)}], 'val': []}), 'refuses posix.system'),
    ('builtins.eval', dump(Call(eval, PYTHON)), 'refuses builtins.eval'),
    ('builtins.exec, protocol 0', dump(Call(exec, PYTHON), 0), 'refuses __builtin__.exec'),
    ('builtins.getattr', dump(Call(getattr, 'a', 'upper')), 'refuses builtins.getattr'),
    ('functools.partial', dump(functools.partial(os.system, TOUCH)), 'refuses functools.partial'),
    ('subprocess.Popen', dump(Call(subprocess.Popen, TOUCH)), 'refuses subprocess.Popen'),
    ('numpy.load by reduce', dump(Call(np.load, 'evil.npy')), 'refuses numpy.load'),
    ('numpy.frombuffer', dump(Call(np.frombuffer, b'abc')), 'refuses numpy.frombuffer'),
    ('numpy.matrix', array_pickle(kind=b'cnumpy\nmatrix\n'), 'refuses numpy.matrix'),
    ('masked array', dump(np.ma.masked_array([1], [True])), 'refuses numpy.ma.core._mareconstruct'),
    ('array of another class', array_pickle(kind=b'cnumpy\ndtype\n'), 'refuses an array of an unknown class'),
    ('importing a module that is not there', b'\x80\x04' + name4('the_module', 'f') + b'.', 'refuses the_module.f'),
    ('nested global', b'\x80\x04' + name4('numpy', 'ndarray.__class__.__base__') + b'.', 'refuses numpy.ndarray.__class__.__base__'),
    ('nested global to os', b'\x80\x04' + name4('numpy', 'lib.npyio.os.system') + short(TOUCH) + b'\x85R.', 'refuses numpy.lib.npyio.os.system'),
    ('STACK_GLOBAL of names from the memo', b'\x80\x04' + short('os') + b'q\x00' + short('system') + b'q\x01' + b'00h\x00h\x01\x93' + short(TOUCH) + b'\x85R.', 'refuses os.system'),
    ('STACK_GLOBAL of numbers', b'\x80\x04K\x01K\x02\x93.', 'or no pickle (UnpicklingError'),
    ('os.system thrown away', b'\x80\x04' + SYSTEM + b'0].', 'refuses os.system'),
    ('name with newline and terminal codes', b'\x80\x04' + short('o\ns\x1b[31m') + short('sys') + b'\x93.', r'refuses o\ns\x1b[31m.sys'),
    ('a long name', b'\x80\x04X' + struct.pack('<I', 10**4) + b'a'*10**4 + short('b') + b'\x93.', '...: a data file'),
    ('call of a string', b'\x80\x04' + short('os.system') + short(TOUCH) + b'\x85R.', 'or no pickle (TypeError'),
    ('call of numpy.ndarray', dump(Call(np.ndarray, (1000,))), 'refuses a call of numpy.ndarray'),
    ('call with a list', b'\x80\x04' + name4('numpy', 'dtype') + b']R.', 'or no pickle (TypeError'),
    ('bytes(1000)', b'\x80\x04' + name4('builtins', 'bytes') + b'M\xe8\x03\x85R.', 'refuses a call of bytes with 1000'),
    ('another codec', b'\x80\x04' + name4('_codecs', 'encode') + short('a') + short('zip') + b'\x86R.', "refuses the encoding 'zip'"),
    ('an ordinary object', dump(Plain()), 'refuses the instruction NEWOBJ'),
    ('NEWOBJ', b'\x80\x04' + name4('numpy', 'ndarray') + b')\x81.', 'refuses the instruction NEWOBJ'),
    ('an ordinary object, protocol 0', dump(Plain(), 0), 'refuses copy_reg._reconstructor'),
    ('NEWOBJ_EX', b'\x80\x04' + name4('numpy', 'ndarray') + b')}\x92.', 'refuses the instruction NEWOBJ_EX'),
    ('INST', f"(S'{TOUCH}'\nios\nsystem\n.".encode(), 'refuses the instruction INST'),
    ('OBJ', b'(cos\nsystem\n' + f"S'{TOUCH}'\no.".encode(), 'refuses the instruction OBJ'),
    ('OBJ of a known name', b'(cnumpy\nndarray\no.', 'refuses the instruction OBJ'),
    ('PERSID', b'Pos.system\n.', 'refuses the instruction PERSID'),
    ('BINPERSID', short('x') + b'Q.', 'refuses the instruction BINPERSID'),
    ('EXT1', b'\x80\x02\x82\x01.', 'refuses the instruction EXT1'),
    ('set', dump({1, 2}), 'refuses the instruction EMPTY_SET'),
    ('frozenset', dump(frozenset('a')), 'refuses the instruction FROZENSET'),
    ('out-of-band buffer', b'\x80\x05\x97.', 'refuses the instruction NEXT_BUFFER'),
    ('read-only buffer', b'\x80\x05C\x01a\x98.', 'refuses the instruction READONLY_BUFFER'),
    ('BUILD on a dict', b'\x80\x04}}b.', 'or no pickle (AttributeError'),
    ('BUILD on a finished array', array_pickle()[:-1] + dump_body((1, (2,))) + b'b.', 'or no pickle (ValueError'),
    ('setting a pixel of an array', array_pickle()[:-1] + b'K\x00K\x01s.', 'got an array float64 of shape (2,2)'),
    ('appending to bytes', b'\x80\x05\x96' + struct.pack('<Q', 1) + b'aK\x01a.', 'got a bytearray'),
    ('a class as value', dump({'image': np.ndarray}), "a dict with 'train' and 'val', got"),
    ('an array without contents', b'\x80\x04](' + array_pickle(state=b'')[2:-2] + b'e.', "all[0]: expected a dict with 'image' and 'mask', got an array uint8 of shape (0)"),
    ('a class in a tuple', dump((np.ndarray,)), "all[0]: expected a dict with 'image' and 'mask', got "),
    ('a class in a tuple, protocol 0', dump((1, 2, 3, np.ndarray), 0), "all[0]: expected a dict with 'image' and 'mask', got 1"),
    ('a class deep in tuples in a dict', dump({'image': (1, (2, ((np.dtype,), 3)), 4)}), "a dict with 'train' and 'val', got"),
    ('a number type as the whole', dump(np.dtype('f8')), "expected a list, a pair of lists or a dict with 'train' and 'val', got"),
    ('a number type as value', dump({'image': np.dtype('f8')}), "a dict with 'train' and 'val', got"),
    ('a number type in a list in a tuple', dump(([np.dtype('f8')],)), "all[0]: expected a dict with 'image' and 'mask', got a list"),
    ('a number type in a tuple', dump((np.dtype('f8'), 1)), "all[0]: expected a dict with 'image' and 'mask', got "),
    ('an unfinished number type in a tuple', b'\x80\x04' + PENDING + b'\x85.', "all[0]: expected a dict with 'image' and 'mask', got "),
    ('an array finished after its tuple', b'\x80\x04' + PENDING + b'q\x00\x85q\x010h\x00(K\x03' + short('<') + b'tb0h\x01.', "all[0]: expected a dict with 'image' and 'mask', got "),
    ('a tuple of arguments as shape', array_pickle(state=b'(K\x01' + dump_body((np.dtype('f8'),)) + dump_body(np.dtype('f8')) + b'\x89' + dump_body(bytes(32)) + b't'), 'is no shape of an array'),
    ('nested pairs of a class', LAUGHS.replace(short('x'), b'cnumpy\nndarray\n') + b'.', 'train[0]: expected a dict'),
    ('nested tuples of a class', b'\x80\x04cnumpy\nndarray\n' + b'\x85'*100 + b'.', "all[0]: expected a dict with 'image' and 'mask', got a tuple"),
    ('a class as image', dump([{'image': np.ndarray, 'mask': np.zeros((4, 4))}]), 'image: expected (H,W,3)'),
    ('BUILD on a name', b'\x80\x04cnumpy\nndarray\n}b.', 'refuses to set the state of a name'),
    ('BUILD on a name, attributes', b'\x80\x04cnumpy\nndarray\nN}' + short('make') + b'Ns\x86b.', 'refuses to set the state of a name'),
    ('BUILD on a finished array, another state', array_pickle()[:-1] + array_pickle((9, 9))[array_pickle((9, 9)).index(b'(K\x01', 60):], 'needs 648 bytes, 32 are stored'),
    ('records in the state of a number type', array_pickle(state=b'(K\x01' + dump_body((4,)) + b'cnumpy\ndtype\n(' + short('V8') + b'\x89\x88tR'
        + dump_body((3, '|', None, ('a',), {'a': ('O', 0)}, 8, 1, 0)) + b'b\x89' + dump_body(bytes(32)) + b't'), "refuses arrays of type 'V8'"),
    ('fields in the state of a float', array_pickle(state=b'(K\x01' + dump_body((5,)) + b'cnumpy\ndtype\n(' + short('f8') + b'\x89\x88tR'
        + dump_body((3, '<', None, ('a',), {'a': ('O', 0)}, 8, 1, 63)) + b'b\x89' + dump_body(bytes(32)) + b't'), 'needs 40 bytes, 32 are stored'),
    ('a tuple as key, kept by BUILD', b'\x80\x04}' + short('a') + b'\x85NbK\x01s.', 'refuses a tuple as key of a dict'),
    ('a tuple as key, from the memo', b'\x80\x04' + short('a') + b'\x85q\x000}h\x00K\x01s.', 'refuses a tuple as key of a dict'),
    ('a tuple as key, behind a frame that ends early', b'\x80\x04\x95' + struct.pack('<Q', 2) + b']J' + bytes(4) + b'.', 'an instruction beyond its frame'),
    ('a frame in a frame', b'\x80\x04\x95' + struct.pack('<Q', 12) + b'\x95' + struct.pack('<Q', 2) + b']0].', 'an instruction beyond its frame'),
    ('the memo before it is filled', b'\x80\x04h\x07.', 'or no pickle'),
    ('object array', dump(np.array([None, 1])), "refuses arrays of type 'O8'"),
    ('object array with a trick', dump(np.array([Call(os.system, TOUCH)], object)), "refuses"),
    ('object dtype with bytes', array_pickle((4,), 'O8'), "refuses arrays of type 'O8'"),
    ('records', dump(np.zeros(2, [('a', 'f8')])), "refuses arrays of type 'V8'"),
    ('strings', dump(np.array(['a'])), "refuses arrays of type 'U1'"),
    ('dates', dump(np.array(['2020-01-01'], 'M8[D]')), "refuses arrays of type 'M8'"),
    ('complex', dump(np.zeros(2, complex)), "refuses arrays of type 'c16'"),
    ('dtype that is no string', array_pickle(dtype=7), 'refuses arrays of type 7'),
    ('a promise as BYTEARRAY8', b'\x80\x05\x96' + struct.pack('<Q', 1000) + b'a', 'expected 1000 bytes in a bytearray8, but only 1 remain'),
    ('a promise as BINBYTES8', b'\x80\x04\x8e' + struct.pack('<Q', 1000) + b'a', 'expected 1000 bytes in a bytes8'),
    ('a promise as BINUNICODE8', b'\x80\x04\x8d' + struct.pack('<Q', 1000) + b'a', 'expected 1000 bytes in a unicodestring8'),
    ('a promise as BINBYTES', b'\x80\x03B' + struct.pack('<I', 1000) + b'a', 'expected 1000 bytes in a bytes4'),
    ('a promise as LONG4', b'\x80\x02\x8b' + struct.pack('<i', 1000) + b'a', 'not enough data in stream'),
    ('a promise as a frame', b'\x80\x04\x95' + struct.pack('<Q', 1000) + b'].', 'truncated: promises 1,000 more bytes, 2 are left'),
    ('a promise in a frame', b'\x80\x04\x95' + struct.pack('<Q', 11) + b'\x8e' + struct.pack('<Q', 1000) + b'a.', 'expected 1000 bytes in a bytes8'),
    ('a promise as an array', array_pickle((10, 12)), 'needs 960 bytes, 32 are stored'),
    ('a promise as an array, protocol 5', NUMPY5 + b'(' + dump_body(b'') + dump_body(np.dtype('f8')) + dump_body((100,)) + dump_body('C') + b'tR.', 'needs 800 bytes, 0 are stored'),
    ('a promise of the memo', b'\x80\x04]r\x84\x03\0\x000j\x84\x03\0\0K\x01R.', 'entry 900 of the memo after 2 instructions'),
    ('negative shape', array_pickle((-1, 4)), 'damaged: an array float64 of shape'),
    ('shape of huge numbers', array_pickle((2**70, 2)), 'damaged: an array float64 of shape'),
    ('shape with a list', array_pickle([2, 2]), 'is no shape of an array'),
    ('array of too few bytes', array_pickle((2, 2), data=bytes(31)), 'needs 32 bytes, 31 are stored'),
    ('array of a list', array_pickle(data=[1, 2]), 'an array without bytes or type'),
    ('nested pairs as key', LAUGHS + b'}(h\x06K\x01u.', 'refuses a tuple as key of a dict'),
    ('list as key', b'\x80\x04}]K\x01s.', 'or no pickle (TypeError'),
    ('nested pairs as the whole', LAUGHS + b'.', 'train[0]: expected a dict'),
    ('list inside itself', b'\x80\x04]q\x00h\x00a.', 'all[0]: expected a dict'),
    ('dict inside itself', b'\x80\x04}q\x00(' + short('train') + b'h\x00' + short('val') + b'h\x00u.', 'train: expected a list'),
    ('a pair inside itself', b'\x80\x04]q\x00(h\x00h\x00e.', 'train[0]: expected a dict'),
    ('nested lists', b'\x80\x04' + b']'*100 + b'a'*99 + b'.', 'all[0]: expected a dict'),
    ('nested tuples', b'\x80\x04)' + b'\x85'*100 + b'.', 'all[0]: expected a dict'),
    ('marks', b'\x80\x04' + b'('*100 + b'.', 'or no pickle'),
    ('number of 5,000 digits', b'I' + b'9'*5000 + b'\n.', 'or no pickle'),
    ('huge number as the whole', b'\x80\x02\x8b' + struct.pack('<i', 100) + b'\x7f'*100 + b'.', 'got an int'),
    ('torch tensor', b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.', 'save numpy arrays instead: tensor.numpy()'),
]

GOOD = dump({'train': [{'image': np.zeros((4, 4, 3)), 'mask': np.zeros((4, 4), int)}]*2, 'val': [{'image': np.ones((4, 4, 3)), 'mask': np.zeros((4, 4), int)}]})
def layout(**kw): return dump({'train': [dict(image=np.zeros((4, 4, 3)), mask=np.zeros((4, 4), int)) | kw], 'val': [dict(image=np.zeros((4, 4, 3)), mask=np.zeros((4, 4), int))]})


DAMAGED = [
    ('empty', b'', 'the file is empty'),
    ('text', b'hello world, this is no pickle', 'or no pickle'),
    ('CSV', b'image,mask\n1,2\n', 'refuses the instruction INST'),
    ('zeros', bytes(100), 'unknown'),
    ('JPEG', b'\xff\xd8\xff\xe0\0\x10JFIF\0', 'expected a pickle, this is a JPEG'),
    ('PNG', b'\x89PNG\r\n\x1a\n', 'expected a pickle, this is a PNG'),
    ('torch or numpy zip', b'PK\x03\x04' + bytes(30), 'a zip file as torch.save and np.savez write it'),
    ('npy', b'\x93NUMPY\x01\0', 'a .npy file'),
    ('gzip', gzip.compress(GOOD), 'compressed with gzip'),
    ('git-lfs', b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
    ('cut in half', GOOD[:len(GOOD)//2], 'truncated'),
    ('last byte missing', GOOD[:-1], 'truncated'),
    ('cut in a line', b'cnumpy\nndar', 'no newline found'),
    ('protocol 99', b'\x80\x63].', 'or no pickle'),
    ('nothing on the stack', b'\x80\x04.', 'or no pickle'),
    ('frame ends early', b'\x80\x04\x95' + struct.pack('<Q', 4) + b']]J\0' + b'\0\0\0.', 'an instruction beyond its frame'),
    ('one number', dump(7), "expected a list, a pair of lists or a dict with 'train' and 'val', got 7"),
    ('one array', dump(np.zeros((2, 4, 4, 3))), 'got an array float64 of shape (2,4,4,3)'),
    ('None', dump(None), 'got None'),
    ('empty dict', dump({}), "a dict with 'train' and 'val', got none"),
    ('wrong parts', dump({'training': [], 'validation': []}), "got 'training', 'validation'"),
    ('no dict', dump({'train': [1]}), "train[0]: expected a dict with 'image' and 'mask'"),
    ('a long key', dump({'x'*10**4: 1}), "xxx...'"),
    ('keys that are numbers', dump({1: [], 2: []}), 'got 1, 2'),
    ('empty list', dump([]), 'all: expected at least one chip, the list is empty'),
    ('empty parts', dump({'train': [], 'val': []}), 'train: expected at least one chip'),
    ('part is a dict', dump({'train': {'image': []}, 'val': []}), 'train: expected a list of dicts with image and mask, got a dict'),
    ('entry is an array', dump([np.zeros((4, 4, 3))]), "all[0]: expected a dict with 'image' and 'mask', got an array float64 of shape (4,4,3)"),
    ('entry without image', dump([dict(img=1, mask=2)]), "all[0]: expected the keys 'image' and 'mask', got 'img', 'mask'"),
    ('mask under another name', dump([dict(image=np.zeros((4, 4, 3)), label=np.zeros((4, 4)))]), "all[0]: expected the keys 'image' and 'mask', got 'image', 'label'"),
    ('some without mask', dump([dict(image=np.zeros((4, 4, 3)), mask=np.zeros((4, 4))), dict(image=np.zeros((4, 4, 3)))]), 'all[1]: has no mask, unlike the first'),
    ('image is a list', layout(image=[[1, 2, 3]]), 'train[0]: image: expected (H,W,3) for the bands B02,B03,B04, got a list: save numpy arrays'),
    ('image without band axis', layout(image=np.zeros((4, 4))), 'got shape (4,4), which has no band axis: save image[:,:,None]'),
    ('image bands first', layout(image=np.zeros((3, 4, 4))), 'got shape (3,4,4), which has its bands first: save image.transpose(1,2,0)'),
    ('image of 13 bands', layout(image=np.zeros((4, 4, 13))), 'which has 13 bands: name them all with bands='),
    ('image of 4 axes', layout(image=np.zeros((1, 4, 4, 3))), 'train[0]: image: expected (H,W,3)'),
    ('image of no pixels', layout(image=np.zeros((0, 4, 3))), 'which is empty'),
    ('different sizes', layout(image=np.zeros((256, 256, 3)), mask=np.zeros((128, 128), int)), 'train[0]: image (256,256,3) and mask (128,128) differ in size'),
    ('mask with a third axis', layout(mask=np.zeros((4, 4, 1))), 'train[0]: mask: expected (H,W) class ids, got shape (4,4,1)'),
    ('mask is a list', layout(mask=[[0]]), 'train[0]: mask: expected (H,W) class ids, got a list'),
    # found when the chip is taken
    ('NaN', layout(image=np.full((4, 4, 3), np.nan)), 'train[0]: image: 48 of 48 values are NaN or infinite'),
    ('infinite', layout(image=np.full((4, 4, 3), np.inf)), 'train[0]: image: 48 of 48 values are NaN or infinite'),
    ('beyond float32', layout(image=np.full((4, 4, 3), 1e300)), 'values are NaN or infinite'),
    ('mask of a third class', layout(mask=np.full((4, 4), 2)), 'train[0]: mask: 16 pixels hold 2: expected the ids 0 to 1 (background,building) or 255'),
    ('mask below 0', layout(mask=np.full((4, 4), -1)), 'train[0]: mask: 16 pixels hold -1'),
    ('mask of fractions', layout(mask=np.full((4, 4), .5)), 'train[0]: mask: 16 pixels hold 0.5'),
    ('mask of NaN', layout(mask=np.full((4, 4), np.nan)), 'train[0]: mask: 16 pixels hold nan'),
    ('mask 0 and 255', layout(mask=np.eye(4)*255), 'train[0]: mask: holds 255 (ignore) and no 1: write building as 1 (mask//255)'),
]


def refused(path, data):
    "The message for a file of these bytes, read as far as its last chip."
    path.write_bytes(data)
    with pytest.raises(BadInput) as e:
        for chips in load_pickle(path).values(): list(chips)
    return str(e.value)


@pytest.mark.parametrize('name,data,words', HOSTILE+DAMAGED, ids=[o[0] for o in HOSTILE+DAMAGED])
def test_refused_in_one_line(name, data, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    msg = refused(tmp_path/'file.pickle', data)
    assert words in msg
    assert msg.startswith(f'{tmp_path}/file.pickle: ') and '\n' not in msg and '\x1b' not in msg and len(msg) < 400 + len(str(tmp_path))
    assert os.listdir(tmp_path) == ['file.pickle'], 'the file ran something'
    assert not [o for o in set(sys.modules)-before if not o.startswith('encodings.')], 'the file imported something'


def test_the_tricks_are_real(tmp_path, monkeypatch):
    "Python's own reader runs them: the sentinel is a sign that would show."
    monkeypatch.chdir(tmp_path)
    for name in ('os.system', 'builtins.eval', 'INST', 'os.system thrown away'):
        pickle.loads(next(data for o, data, _ in HOSTILE if o == name))
        assert (tmp_path/SENTINEL).exists(), name
        (tmp_path/SENTINEL).unlink()


@pytest.mark.parametrize('name', [o[0] for o in HOSTILE if 'promise' in o[0]])
def test_promises_cost_nothing(name, tmp_path):
    path = tmp_path/'file.pickle'
    path.write_bytes(next(data for o, data, _ in HOSTILE if o == name))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput): safe_unpickle(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally: tracemalloc.stop()


def test_every_cut_and_every_flip_is_one_line(tmp_path):
    "Whatever is done to a good file, the answer is data or `BadInput`."
    path, rng = tmp_path/'file.pickle', np.random.default_rng(0)
    for n in [*range(0, 250), *range(250, len(GOOD), 7)]:
        path.write_bytes(GOOD[:n])
        with pytest.raises(BadInput): load_pickle(path)
    for _ in range(600):
        data = bytearray(GOOD)
        for i in rng.integers(0, 400, rng.integers(1, 4)): data[i] = rng.integers(256)
        path.write_bytes(data)
        try:
            for chips in load_pickle(path).values(): list(chips)
        except BadInput as e: assert '\n' not in str(e)


def same(a, b):
    "Equal in kind and value; pickle.load turns some arrays to the machine's byte order, ours stay as written."
    if isinstance(b, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(b, (list, tuple)): return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, np.ndarray): return a.dtype.newbyteorder('=') == b.dtype.newbyteorder('=') and a.shape == b.shape and np.array_equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('make', [pickle.dumps, pickle._dumps], ids=['C', 'Python'])
def test_equal_to_pickle_load(protocol, make, tmp_path):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 100, (5, 4, 3))
    arrays = [a.astype(order+code) for code in 'b1 u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8'.split() for order in '<>']
    arrays += [np.asfortranarray(a), a.transpose(2, 0, 1), a[::2, ::-1], a[:0], np.array(7.5), np.zeros((256, 256, 3)), np.arange(100000)]
    data = {'arrays': arrays, 'again': [a, a, (a, [a])], 'scalars': [np.float32(1.5), np.int64(-3), np.bool_(True)],
            'plain': [1, -2**70, 2**200, 1.5, True, None, 'é\n"', b'\xff\0', (), (1,), (1, 2, 3, 4), {}, {'k': []}, {1: 2.5, None: 'x', 2**60-1: 1, 1-2**60: 2}, '\ud800']}
    path = tmp_path/'file.pickle'
    path.write_bytes(make(data, protocol))
    got = safe_unpickle(path)
    assert same(got, pickle.loads(path.read_bytes()))
    assert got['again'][0] is got['again'][1] is got['again'][2][1][0]


def test_equal_for_names_of_other_numpys(tmp_path):
    "numpy 1 wrote `numpy.core`, numpy 2 writes `numpy._core`."
    path = tmp_path/'file.pickle'
    for protocol in (0, 2, 3):
        path.write_bytes(pickle.dumps([np.arange(3), np.float64(2)], protocol).replace(b'numpy._core', b'numpy.core'))
        assert same(safe_unpickle(path), [np.arange(3), np.float64(2)])


def test_python_2(tmp_path):
    "Python 2 wrote the bytes of an array as a string."
    values = np.arange(0, 4000, 7, dtype='<f8')
    dtype = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    raw = b'T' + struct.pack('<i', values.nbytes) + values.tobytes()
    path = tmp_path/'file.pickle'
    path.write_bytes(b"(dS'image'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I%d\nt%sI00\n%stbs." % (len(values), dtype, raw))
    assert same(safe_unpickle(path), {'image': values})
    assert same(safe_unpickle(path), pickle.loads(path.read_bytes(), encoding='latin1'))


def test_a_list_inside_itself_is_no_trap(tmp_path):
    o = []
    o.append(o)
    (tmp_path/'file.pickle').write_bytes(pickle.dumps(o))
    got = safe_unpickle(tmp_path/'file.pickle')
    assert got[0] is got


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(BadInput, match='no such file'): safe_unpickle(tmp_path/'absent.pickle')
    with pytest.raises(BadInput, match='a folder'): safe_unpickle(tmp_path)
    with pytest.raises(BadInput, match='cannot be read'): safe_unpickle(tmp_path/('a'*300))


def test_only_known_instructions():
    "A new Python may bring new instructions: they stay refused until someone adds them."
    assert len(_OPCODES) == 53 and _OPCODES <= {op.name for op in pickletools.opcodes}
    assert not {'INST', 'OBJ', 'NEWOBJ', 'PERSID', 'BINPERSID', 'EXT1', 'DUP', 'NEXT_BUFFER'} & _OPCODES


MEMORY = '''
import resource, sys
from satseg.data.pickles import load_pickle
from satseg.models.statistics import band_stats
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024
before = rss()
parts = load_pickle(sys.argv[1])
for chips in parts.values(): band_stats(chips)
print(rss()-before)
'''


@pytest.mark.parametrize('protocol', [4, 5])
def test_memory_is_one_copy(protocol, tmp_path, root):
    "A file is held once, in its own type: the float32 chips come and go."
    chip = dict(image=np.zeros((256, 256, 3)), mask=np.zeros((256, 256), int))
    path, n = tmp_path/'file.pickle', 40
    path.write_bytes(pickle.dumps({'train': [{k: v.copy() for k, v in chip.items()} for _ in range(n)], 'val': [chip]}, protocol))
    used = int(subprocess.run([sys.executable, '-c', MEMORY, str(path)], cwd=root, capture_output=True, text=True, check=True).stdout)
    assert used < 1.3*path.stat().st_size + 30e6


# Chips written and read


def test_save_and_load(tmp_path):
    path = tmp_path/'a.pickle'
    save_pickle(path, {'train': CHIPS[:3], 'val': CHIPS[3:]})
    parts = load_pickle(path)
    for name, chips in (('train', CHIPS[:3]), ('val', CHIPS[3:])):
        assert parts[name].names == [f'{name}[{i}]' for i in range(len(chips))]
        for i in range(len(chips)):
            got, want = parts[name].raw(i), chips.raw(i)
            assert all(np.array_equal(g, w) for g, w in zip(got, want))
    plain = pickle.loads(path.read_bytes())  # anybody can read it
    assert list(plain) == ['train', 'val'] and plain['train'][1]['image'].dtype == np.uint16


def test_names_of_bands_and_classes_come_back(tmp_path):
    path = tmp_path/'a.pickle'
    chips = Chips(IMAGES, MASKS, 'RGB', ('sea', 'ship'), groups=list('aabbc'), colours=[(1, 2, 3), (4, 5, 6)], has_ignore=True)
    save_pickle(path, dict(train=chips, val=chips[:1]))
    for got in load_pickle(path, classes=('background', 'building')).values():
        assert got.bands == ('R', 'G', 'B') and got.classes == ('sea', 'ship') and got.colours == chips.colours and got.has_ignore
        assert got.groups == chips.groups[:len(got)]
        assert np.array_equal(true_colour(got[0].image, got.bands), true_colour(chips[0].image, chips.bands))
    got = load_pickle(path, bands='BR')['train']
    assert got.bands == ('B', 'R') and np.array_equal(got[1].image, chips[1].image[[2, 0]])
    with pytest.raises(BadInput, match='a.pickle: expected bands out of R,G,B, got B02,B03,B04'): load_pickle(path, bands=('B02', 'B03', 'B04'))


@pytest.mark.parametrize('about', [7, [], {'bands': 'RGB'}, dict(bands=['a', 'b', 'c'], classes=['a', 3], colours=[], has_ignore=False),
    dict(bands=['a\n', 'b', 'c'], classes=['a', 'b'], colours=[(0, 0, 0)]*2, has_ignore=False), dict(bands=['a', 'b', 'c'], classes=['a', 'b'], colours=[9], has_ignore=False),
    dict(bands=np.zeros(3), classes=['a', 'b'], colours=[], has_ignore=False)])
def test_a_damaged_about_is_one_line(about, tmp_path):
    path = tmp_path/'a.pickle'
    good = dict(bands=list('abc'), classes=['a', 'b'], colours=[(0, 0, 0)]*2, has_ignore=False)
    path.write_bytes(pickle.dumps([dict(image=IMAGES[0], about=o) for o in (good, about)]))
    with pytest.raises(BadInput, match="a.pickle: .*'about'"): load_pickle(path)


def test_save_lists_and_images_alone(tmp_path):
    path = tmp_path/'a.pickle'
    save_pickle(path, {'all': Chips(Lazy(2))})
    assert [list(o) for o in pickle.loads(path.read_bytes())] == [['image', 'about']]*2
    got = load_pickle(path)['all']
    assert not got.has_masks and got[1].image.max() == 1


def test_holes_come_back(tmp_path):
    "Statistics are those of the data, before and after; a mask without a building is no reason to refuse the file."
    path = tmp_path/'a.pickle'
    image = np.ma.masked_equal(np.array([[[0, 0, 0], [7, 8, 9]]], np.uint8), 0)
    for masks in ([np.zeros((1, 2), np.uint8)]*2, None):
        chips = Chips([image, image.data + 1], masks)
        save_pickle(path, {'all': chips})
        got = load_pickle(path)['all']
        assert got[0].valid.tolist() == [[False, True]] and got[1].valid is None
        assert band_stats(got).mean == band_stats(chips).mean and 'valid' not in pickle.loads(path.read_bytes())[1]
        if masks: assert got[0].mask.tolist() == [[255, 0]]
        assert load_pickle(path, bands=('B02', 'B03', 'B04'))['all'].pick(['B03'])[0].readings().tolist() == [[8]]
    path.write_bytes(pickle.dumps([dict(image=image.data, valid=np.ones((2, 2), bool))]))
    with pytest.raises(BadInput, match=r'all\[0\]: image \(1,2,3\) and valid \(2,2\) differ'): load_pickle(path)


def test_a_broken_save_leaves_the_old_file(tmp_path):
    path = tmp_path/'a.pickle'
    path.write_text('old')
    with pytest.raises(BadInput, match="'train' and 'val'"): save_pickle(path, {'training': CHIPS})
    class Unpicklable(Lazy):
        def __getitem__(self, i): return np.array([lambda: 0])
    with pytest.raises(Exception): save_pickle(path, {'all': Chips(Unpicklable(1))})
    assert [o.name for o in tmp_path.iterdir()] == ['a.pickle'] and path.read_text() == 'old'


def test_bands_and_classes_are_the_callers(tmp_path):
    path = tmp_path/'a.pickle'
    path.write_bytes(pickle.dumps([dict(image=np.zeros((2, 2, 1)), mask=np.full((2, 2), 2))]))
    got = load_pickle(path, bands=['B08'], classes=['ground', 'road', 'water'])['all']
    assert got.bands == ('B08',) and got.classes == ('ground', 'road', 'water') and got[0].mask.max() == 2


def test_real_pickle(real_data):
    path = real_data/'s2_builtup'/'dataset.pickle'
    if not path.is_file(): pytest.skip(f'no {path}')
    parts = load_pickle(path)
    assert {k: len(v) for k, v in parts.items()} == {'train': 15, 'val': 5}
    for chips in parts.values():
        for chip in chips: assert chip.image.shape == (3, 256, 256) and chip.mask.shape == (256, 256) and set(np.unique(chip.mask)) <= {0, 1}
    stats = band_stats(parts['train'])
    assert stats.bands == ['B02', 'B03', 'B04'] and all(500 < m < 1200 for m in stats.mean) and all(100 < s < 400 for s in stats.std)
    assert stats.mean[0] > stats.mean[1] > stats.mean[2]  # haze makes blue the brightest over forest: the order is B, G, R
    assert .05 < class_shares(parts['train'])['building'] < .2
    assert len(show_chips(parts['val'], n=2).axes) == 4
