"""What a newcomer meets first: names, their help, the story in satseg's docstring."""
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest

import satseg

VERBS = ['evaluate','export_onnx','load_dataset','load_model','map_scenes','predict','report','sample_chips','show_chips','train']


def test_tab_shows_the_verbs_and_importing_costs_nothing():
    assert [o for o in dir(satseg) if o[0] != '_'] == VERBS
    code = 'import sys, time; t = time.perf_counter(); import satseg; dir(satseg); assert time.perf_counter()-t < .1; print([o for o in ("torch","numpy","fastcore") if o in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr
    with pytest.raises(AttributeError, match='it has load_dataset, '): satseg.segment


def test_the_story_runs(tmp_path, monkeypatch):
    rasterio = pytest.importorskip('rasterio')
    monkeypatch.chdir(tmp_path)
    with rasterio.open('scene.tif', 'w', driver='GTiff', width=64, height=64, count=3, dtype='float32') as f:
        f.write(satseg.sample_chips(1, size=64)[0].image); f.descriptions = 'B02','B03','B04'
    lines = re.findall(r'^    (\S.*)', satseg.__doc__, re.M)
    assert len(lines) == 8 and all(len(o) < 110 for o in lines)
    text = '\n'.join(lines)
    for a,b in (('(80, size=128)','(8, size=32)'), ('[:56]','[:5]'), ('56:64','5:7'), ('64:','7:'), ('epochs=12','epochs=1, lr=1e-3')):
        assert a in text
        text = text.replace(a, b)
    exec(text, {})
    for o in ('runs/first/model.pth','runs/first/report/report.html','maps/scene_classes.tif'): assert (tmp_path/o).is_file(), sorted(tmp_path.rglob('*'))


@pytest.mark.parametrize('name', VERBS)
def test_help_explains_every_argument(name):
    function = getattr(satseg, name)
    text = inspect.getdoc(function)
    assert text.count('Arguments:') == 1 and getattr(satseg, name) is function
    for o in inspect.signature(function).parameters: assert re.search(rf'^  {o}(=.*?)?: \S', text, re.M), (name, o)
    assert all(len(o) < 140 for o in text.splitlines())


def test_a_slip_of_the_pen_in_train_is_one_line(tmp_path):
    chips = satseg.sample_chips(3, size=32)
    with pytest.raises(ValueError, match='^train takes no epoch: did you mean epochs\\?$'): satseg.train(chips[:2], chips[2:], tmp_path, epoch=3)


def test_train_says_what_it_wrote_and_the_file_knows_its_score(tmp_path, capsys):
    chips = satseg.sample_chips(4, size=32, seed=1)
    _,info = satseg.train(chips[:2], chips[2:], tmp_path/'run', epochs=1, lr=1e-2)
    last = capsys.readouterr().out.splitlines()[-1]
    score = satseg.load_model(tmp_path/'run'/'model.pth')[1].scores['valid']['iou']
    assert last == f'wrote {tmp_path/"run"/"model.pth"}, threshold {info.threshold:g}: IoU {score:.3f} on valid'
    result = satseg.evaluate(satseg.load_model(tmp_path/'run'/'model.pth')[0], info, chips[2:])
    assert np.isclose(result.metrics()['iou'], score)


def test_what_a_cell_gives_shows_itself(tmp_path):
    chips = satseg.sample_chips(4, size=32, seed=1)
    learn,info = satseg.train(chips[:2], chips[2:], tmp_path/'run', epochs=1, lr=1e-2, quiet=True)
    result = satseg.evaluate(learn.model, info, chips[2:])
    assert chips._repr_png_().startswith(b'\x89PNG') and chips[:0]._repr_png_() is None
    assert repr(chips[0]) == 'Chip(chip[0]: 3 bands, 32 x 32 pixels, a mask)'
    assert repr(learn) == f'SegmentationLearner(UNet in {tmp_path/"run"}, 2 chips to learn from, 2 to choose on)'
    assert repr(result) == f'Evaluation(2 chips, IoU {result.metrics()["iou"]:.4f}, {result.rule})'
    for o in (info, result): assert o._repr_html_().count('<table>') == 1
    bare = satseg.evaluate(learn.model, info, type(chips)([chips.raw(0)[0]]), on_chip=lambda _: None)
    assert 'no masks' in repr(bare) and '<table>' not in bare._repr_html_()


def test_what_fastai_users_try_works_or_says_what_to_use(tmp_path):
    from fastai.interpret import Interpretation
    chips = satseg.sample_chips(4, size=32, seed=1)
    learn,_ = satseg.train(chips[:2], chips[2:], tmp_path/'run', epochs=1, lr=1e-2, quiet=True)
    with learn.no_bar():
        learn.show_results()
        assert len(learn.get_preds()[0]) == 2 and len(learn.validate()) == 3
        for call,words in ((lambda: learn.predict(chips[0].image), 'satseg.predict(x, (learn, info))'), (learn.export, 'model.pth'), (learn.summary, 'learn.model'),
                           (lambda: Interpretation.from_learner(learn), 'satseg.report(satseg.evaluate(')):
            with pytest.raises(ValueError) as e: call()
            assert words in str(e.value) and '\n' not in str(e.value)


def test_bands_as_one_text_are_names(tmp_path):
    from satseg.data.pickles import save_pickle
    chips = satseg.sample_chips(2, size=32)
    save_pickle(tmp_path/'a.pickle', dict(train=chips[:1], val=chips[1:]))
    assert satseg.load_dataset(tmp_path/'a.pickle', bands='B04,B02')['val'].bands == ('B04','B02')



def test_the_tables_of_areas_of_all_scenes_are_one(tmp_path):
    pytest.importorskip('rasterio')
    for name in 'ab': np.save(tmp_path/f'{name}.npy', satseg.sample_chips(1, size=64)[0].image)
    np.save(tmp_path/'c.npy', np.zeros((8,8,5)))
    maps = satseg.map_scenes([tmp_path/f'{o}.npy' for o in 'abc'], out=tmp_path/'maps', quiet=True)
    assert list(maps.areas.scene) == ['a']*4+['b']*4 and maps.areas.columns[:4].tolist() == ['scene','class','pixels','share']
    assert len(maps) == 3 and '<table' in maps._repr_html_()


def test_recipes_are_listed():
    done = subprocess.run([sys.executable, '-m', 'satseg.recipes'], capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r'^folder +Your own folder', done.stdout, re.M), done.stderr
