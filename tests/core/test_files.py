"Masks, pictures and folders as files."
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from satseg.core.errors import BadInput
from satseg.core.display import class_colours
from satseg.core.files import check_free, file_names, atomic_folder
from satseg.core.display import ERROR_COLOURS, _with_legend, mask_image, outlines, paint, paint_errors, picture, shown_classes

ROOT = Path(__file__).resolve().parent.parent.parent


def files(path): return sorted(o.relative_to(path).as_posix() for o in path.rglob('*'))


def test_imports_neither_matplotlib_nor_torch():
    code = 'import sys, satseg.core.files, satseg.core.display; print(sorted({"matplotlib", "torch", "PIL", "fastai"} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stdout == '[]\n'


def test_mask_files_give_the_ids_back(tmp_path):
    pred = np.random.default_rng(0).integers(0, 6, (9, 7)).astype(np.uint8)
    mask_image(pred, 'abcdef', [(i, 2*i, 3*i) for i in range(6)]).save(tmp_path/'m.png')
    img = Image.open(tmp_path/'m.png')
    assert np.array_equal(np.array(img), pred) and np.array_equal(np.array(img.convert('RGB')), pred[..., None]*[1, 2, 3])
    mask_image(pred % 2, 'ab').save(tmp_path/'two.png')
    assert np.array_equal(np.array(Image.open(tmp_path/'two.png')), pred % 2*255)


def test_errors_of_several_classes():
    pred, targ = np.uint8([[0, 1, 2, 1, 2, 0]]), np.uint8([[0, 1, 1, 0, 255, 2]])
    colours = [(0, 0, 0), *ERROR_COLOURS.values()]  # Nothing, hit, miss, false alarm
    assert paint_errors(np.zeros((1, 6, 3), np.uint8), pred, targ, 1)[0].tolist() == [list(colours[i]) for i in (0, 1, 3, 3, 0, 2)]


def test_paint_errors_leaves_ignored_and_background():
    rgb = np.full((2, 3, 3), 100, np.uint8)
    res = paint_errors(rgb, np.uint8([[1, 1, 0], [0, 1, 0]]), np.uint8([[255, 0, 0], [1, 1, 255]]))
    changed = (res != 100).any(-1)
    assert changed.tolist() == [[False, True, False], [True, True, False]] and len(np.unique(res[changed], axis=0)) == 3


def test_paint_is_a_weighted_mean():
    rgb, ids = np.random.default_rng(1).integers(0, 256, (5, 4, 3)).astype(np.uint8), np.uint8([[0, 1, 2, 255]]*5)
    res = paint(rgb, ids, {1: (10, 20, 30)}, .25)
    assert np.array_equal(res[:, [0, 2, 3]], rgb[:, [0, 2, 3]])
    assert np.array_equal(res[:, 1], np.round(.75*rgb[:, 1].astype(np.float32) + .25*np.float32([10, 20, 30])))


def test_shown_classes():
    assert shown_classes(('clear', 'cloud')) == {1: ('cloud', class_colours(2)[1])}
    assert list(shown_classes(('unlabeled', 'land'), [(155, 155, 155), (1, 2, 3)])) == [0, 1]
    assert list(shown_classes(('background', 'land'), [(155, 155, 155), (1, 2, 3)])) == [1]


def test_outlines_of_touching_objects_and_of_one_pixel():
    assert outlines(np.int32([[1, 2], [0, 0]])).tolist() == [[True, True], [False, False]]
    big = np.ones((5, 5), int)
    assert not outlines(big).any()  # the picture's edge is no border


@pytest.mark.parametrize('shape', [(1, 1), (20, 300), (256, 256)])
@pytest.mark.parametrize('names', [[], ['building'], ['Straße', 'a\nb', 'ships \U0001f6a2', 'x'*200, '建物']])
def test_legend_keeps_the_picture_and_takes_any_name(shape, names):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    img = np.array(_with_legend(rgb, {n: (i, 0, 99) for i, n in enumerate(names)}))
    assert np.array_equal(img[:shape[0], :shape[1]], rgb)
    assert img.shape[1] >= shape[1] and (img.shape[0] > shape[0]) == bool(names)
    for i in range(len(names)): assert (img[shape[0]:] == [i, 0, 99]).all(-1).sum() >= 50  # its square is there


def test_picture_says_what_its_colours_mean():
    rgb, pred, targ = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    pred[:10], targ[5:15] = 1, 1
    img = np.array(picture(rgb, pred, ('background', 'building'), mask=targ))
    assert [tuple(img[r, 0]) for r in (2, 7, 12, 20)] == [tuple(round(.7*v) for v in c) for c in (ERROR_COLOURS['false alarm'], ERROR_COLOURS['hit'],
                                                                                            ERROR_COLOURS['miss'], (0, 0, 0))]
    for c in ERROR_COLOURS.values(): assert (img[30:] == c).all(-1).any()
    both = np.array(picture(rgb, pred*2, ('a', 'b', 'c'), [(9, 9, 9), (0, 90, 0), (0, 0, 90)], mask=targ))
    assert both.shape[1] >= 84 and tuple(both[2, 0]) == (4, 4, 4) and tuple(both[7, 0]) == (0, 45, 0) and tuple(both[2, 44]) == (0, 0, 45)
    lined = np.array(picture(rgb, pred, ('background', 'building'), instances=pred.astype(int)))
    assert tuple(lined[9, 3]) == (255, 255, 255) and tuple(lined[5, 3]) != (255, 255, 255)


def test_a_large_picture_is_made_smaller():
    rgb = np.zeros((2149, 1479, 3), np.uint8)
    img = picture(rgb, rgb[..., 0], ('a', 'b', 'c'), mask=rgb[..., 0])
    assert img.size[0] == 493*2+4 and 717 <= img.size[1] < 800


def test_file_names_differ_and_are_safe():
    names = ['../a', '..\\a', 'a/../b', 'val[3]', 'VAL[3]', '', '...', 'x'*300, 'x'*301, 'nul\0l', 'Zürich']
    got = file_names(names)
    assert len({o.lower() for o in got}) == len(names) and 'Zürich' in got
    assert all(o and not o.startswith('.') and not set('/\\\0[]') & set(o) and len(o) < 80 for o in got)


def test_write_folder_keeps_foreign_things(tmp_path):
    home = tmp_path/'home'
    home.mkdir()
    with atomic_folder(home) as folder: (folder/'a').write_text('1')  # an empty folder may be filled
    (tmp_path/'link').symlink_to(home)
    with atomic_folder(tmp_path/'link', overwrite=True) as folder: (folder/'b').write_text('2')
    assert files(home) == ['.satseg', 'b'] and (tmp_path/'link').is_symlink()
    with pytest.raises(BadInput):  # something appears while we compute
        with atomic_folder(tmp_path/'late') as folder:
            (tmp_path/'late').mkdir()
            (tmp_path/'late'/'c').write_text('3')
    assert files(tmp_path/'late') == ['c']
    with pytest.raises(BadInput):
        with atomic_folder('/', overwrite=True): pass
    assert not [o for o in tmp_path.iterdir() if o.name.startswith('.')]


def test_check_free_destroys_nothing(tmp_path):
    check_free(tmp_path/'new')
    (tmp_path/'file').write_text('')
    with pytest.raises(BadInput, match='this is a file'): check_free(tmp_path/'file', overwrite=True)
    with pytest.raises(BadInput, match='exists already'): check_free(tmp_path)
    with pytest.raises(BadInput, match='did not write it'): check_free(tmp_path, overwrite=True)


def test_nothing_is_renamed_unless_all_is_complete(tmp_path, monkeypatch):
    from satseg.core.files import atomic_files
    (tmp_path/'a').write_text('old')
    def full(f): raise OSError(28, 'No space left on device')
    for spoil in (True, False):
        with pytest.raises(OSError), atomic_files(tmp_path/'a', tmp_path/'b') as tmp:
            for o in 'ab': (tmp/o).write_text('new')
            if spoil: (tmp/'b').unlink()
            else: monkeypatch.setattr(os, 'fsync', full)
        assert (tmp_path/'a').read_text() == 'old' and os.listdir(tmp_path) == ['a']
