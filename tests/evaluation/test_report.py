"The report folder: complete, self-contained, with the right numbers, and it leaks nothing."
import csv
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from satseg.core.errors import BadInput
from satseg.data.chips import Chips
from satseg.models.statistics import band_stats
from satseg.data.instances import border_mask
from satseg.evaluation.metrics import ProbabilityHistogram, confusion, scores
from satseg.models.unet import UNet
from satseg.models.model_info import ModelInfo
from satseg.models.predict import class_ids, predict_chips
from satseg.evaluation.evaluate import Evaluation, evaluate
from satseg.evaluation.plots import _average_precision, plot_chips, plot_log
from satseg.evaluation.report import Report, report
from satseg.data.landscape import SCENE_CLASSES
from satseg.data.synthetic import sample_chips

LOG = 'epoch,train_loss,valid_loss,iou,dice,time\n0,1.5,1.25,0.1,0.2,00:01\n1,0.5,,nan,0.4,00:01\n'
FIGURES = {'threshold.png', 'precision_recall.png', 'reliability.png', 'losses.png', 'worst.png', 'best.png'}
FILES = {'report.html', 'metrics.csv', 'metrics.md', 'per_chip.csv'}


def untrained(chips, n_out=1):
    torch.manual_seed(1)
    model = UNet(n_out=n_out, widths=(4, 8)).eval()
    stats = band_stats(chips)
    info = ModelInfo('UNet', model.arguments, list(chips.bands), stats.mean, stats.std, list(chips.classes), threshold=None if n_out > 1 else .5)
    if n_out == 1:
        probs = np.concatenate([p.ravel() for _, p in predict_chips(model, info, chips, device='cpu')])
        info.threshold = round(float(np.quantile(probs, .8)), 3)
    return model, info


class Page(HTMLParser):
    "Checks that tags close, and gathers what a page loads and says."
    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], ''
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ('meta', 'img', 'br'): self.open.append(tag)
        assert tag not in ('script', 'link', 'iframe')
        self.sources += [v for k, v in attrs if k in ('src', 'href')]

    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text += data


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    "A written report: its object, and what it was made of."
    path = tmp_path_factory.mktemp('report')
    (path/'log.csv').write_text(LOG)
    sizes = [sample_chips(3, size, seed=6).raw(i) for size, n in ((48, 3), ((40, 56), 2)) for i in range(n)]
    chips = Chips(*zip(*sizes), names=['plain', '<b>&"', 'c', 'd', 'e'])
    model, info = untrained(chips)
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    res = report(evaluate(model, info, chips, keep=2, device='cpu'), path/'out', log=path/'log.csv', data='test set, split <val>')
    assert plt.get_fignums() == before
    return res, model, info, chips


def test_folder_is_complete(done):
    res, *_ = done
    assert {o.name for o in res.path.iterdir()} == FIGURES | FILES | {'.satseg'}
    assert [o.name for o in res.path.parent.iterdir() if o.name.startswith('.')] == []
    for name in FIGURES:
        img = Image.open(res.path/name)
        img.load()
        assert img.format == 'PNG' and min(img.size) > 200


def test_page_is_self_contained_and_escaped(done):
    res, *_ = done
    text = (res.path/'report.html').read_text(encoding='utf-8')
    page = Page(text)
    assert len(page.sources) == len(FIGURES) and all(o.startswith('data:image/') for o in page.sources)
    assert 'url(' not in text and '@import' not in text and '<b>' not in text and 'split <val>' in page.text
    assert Page(res._repr_html_()).text.strip() in page.text
    for word in ('counted together', 'from the model file', 'all background', 'Worst chips', 'Reliability'): assert word in page.text


def test_numbers_are_those_of_the_metrics(done):
    res, model, info, chips = done
    hist = evaluate(model, info, chips, device='cpu').total
    assert res.metrics['iou'] == hist.at(info.threshold)['iou'] and f'{res.metrics["iou"]:.4f}' in repr(res)
    rows = list(csv.DictReader((res.path/'metrics.csv').open()))
    chosen, = [o for o in rows if 'chosen' in o['threshold']]
    assert {k: float(chosen[k]) for k in ('iou', 'recall', 'accuracy')} == {k: hist.at(info.threshold)[k] for k in ('iou', 'recall', 'accuracy')}
    assert [o['threshold'] for o in rows[-2:]] == ['all background', 'all foreground']
    assert f'{res.metrics["dice"]:.4f}' in (res.path/'metrics.md').read_text()


def test_chips_worst_first(done):
    res, model, info, chips = done
    rows = list(csv.DictReader((res.path/'per_chip.csv').open()))
    want = {o.name: scores(confusion(class_ids(p, info.threshold), o.mask))['iou'] for o, p in predict_chips(model, info, chips, device='cpu')}
    assert {o['name']: float(o['iou']) for o in rows} == want
    assert [float(o['iou']) for o in rows] == sorted(want.values())
    assert sum(int(o['labelled']) for o in rows) == 3*48*48 + 2*40*56


def test_threshold_is_named_and_out_protected(done, tmp_path):
    _, model, info, chips = done
    res = report(evaluate(model, info, chips[:2], threshold=.25, keep=0, device='cpu', tta=True), tmp_path/'r')
    text = (res.path/'metrics.md').read_text()
    assert 'reaches the threshold 0.25 as given' in text and '0.25 (chosen' in text and 'eight' in text
    assert not {'worst.png', 'best.png', 'losses.png'} & {o.name for o in res.path.iterdir()}
    with pytest.raises(BadInput, match='exists already'): report(evaluate(model, info, chips, device='cpu'), tmp_path/'r')
    assert isinstance(report(evaluate(model, info, chips[:1], device='cpu'), tmp_path/'r', overwrite=True), Report)
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'metrics.json').write_text('{}')
    with pytest.raises(BadInput, match='did not write'): report(evaluate(model, info, chips, device='cpu'), tmp_path/'mine', overwrite=True)


def test_bad_input_writes_nothing(done, tmp_path):
    _, model, info, chips = done
    (tmp_path/'log.csv').write_text('a,b\n1,2\n')
    unknown = Chips([np.ones((32, 32, 3))], [np.full((32, 32), 255, np.uint8)], has_ignore=True)
    for kw in (dict(chips=Chips([np.ones((32, 32, 3))])), dict(chips=unknown), dict(log=tmp_path/'no.csv'), dict(log=tmp_path/'log.csv'),
               dict(threshold=2.), dict(threshold=.12345), dict(chips=chips[:0]), dict(bs=0)):
        log = kw.pop('log', None)
        with pytest.raises(BadInput): report(evaluate(model, info, kw.pop('chips', chips), device='cpu', **kw), tmp_path/'r', log=log)
    assert [o.name for o in tmp_path.iterdir()] == ['log.csv']


def test_several_classes(tmp_path):
    chips = sample_chips(3, 40, seed=2, target=None)
    model, info = untrained(chips, len(SCENE_CLASSES))
    res = report(evaluate(model, info, chips, keep=1, device='cpu'), tmp_path/'r')
    assert {'confusion.png', 'worst.png'} <= {o.name for o in res.path.iterdir()} and 'threshold.png' not in {o.name for o in res.path.iterdir()}
    assert 'macro mean' in (res.path/'metrics.md').read_text() and set(res.metrics['by_class']) == set(SCENE_CLASSES)
    with pytest.raises(BadInput, match='threshold'): report(evaluate(model, info, chips, threshold=.5, device='cpu'), tmp_path/'s')


def test_average_precision_against_scikit_learn():
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(0)
    probs = (rng.integers(0, 1001, 5000)/1000).astype(np.float32)
    targ = (rng.random(5000) < probs**2).astype(np.uint8)
    assert _average_precision(ProbabilityHistogram().add(probs, targ)) == pytest.approx(metrics.average_precision_score(targ, probs), abs=1e-9)


def test_picked_chips_show_none_twice_and_no_empty_best():
    rows = [dict(place=i, name=str(i), iou=iou, wrong=0, mask=n) for i, (iou, n) in enumerate([(0., 5), (.2, 9), (.4, 7), (1., 0), (None, 0)])]
    def picked(rows, keep=4): return Evaluation(ModelInfo(), .5, '', keep=keep, rows=rows, kept=dict(enumerate(rows))).picked()
    assert {k: [o['place'] for o in v] for k, v in picked(rows).items()} == dict(worst=[0, 1], best=[2])
    assert [o['place'] for o in picked(rows, 1)['best']] == [2]
    assert picked(rows[:1]) == dict(worst=rows[:1], best=[])


def test_unlabelled_chip_comes_last():
    chips = Chips([np.ones((32, 32, 3))]*2, [np.full((32, 32), 255, np.uint8), np.eye(32, dtype=np.uint8)], has_ignore=True)
    model, info = untrained(chips)
    res = evaluate(model, info, chips, .5, device='cpu')
    assert [o['place'] for o in res.chips] == [1, 0] and res.chips[1]['iou'] is None and res.n_pixels == 32*32


@pytest.mark.parametrize('tail', [b'   \n', b'2,x,1,1,1,1\n', b'\xff\xfe\x00\n', b'2,"open', b'2,1,1,0.1,0x1,1\n'])
def test_damaged_log_is_one_line(tmp_path, tail):
    (tmp_path/'log.csv').write_bytes(LOG.encode() + tail)
    with pytest.raises(BadInput, match='damaged') as e: plot_log(tmp_path/'log.csv')
    assert '\n' not in str(e.value)


def test_log_of_absurd_size_is_not_read(tmp_path):
    with open(tmp_path/'log.csv', 'wb') as f: f.truncate(20_000_000)
    with pytest.raises(BadInput, match='expected the log.csv'): plot_log(tmp_path/'log.csv')


def test_log_may_be_short_of_cells(tmp_path):
    from matplotlib.figure import Figure
    (tmp_path/'log.csv').write_text(LOG + '\n2,0.4\n')
    assert len(plot_log(tmp_path/'log.csv', Figure().subplots(1, 2))[0].lines[0].get_xdata()) == 3


def test_plot_log_reads_gaps(tmp_path):
    (tmp_path/'log.csv').write_text(LOG)
    from matplotlib.figure import Figure
    axs = plot_log(tmp_path/'log.csv', Figure().subplots(1, 2))
    valid = axs[0].lines[1].get_ydata()
    assert valid[0] == 1.25 and np.isnan(valid[1]) and 'pandas' not in re.findall(r'import (\w+)', open(sys.modules['satseg.evaluation.plots'].__file__).read())


def squares(n=3, touching=True):
    "Chips of two houses that touch or do not, drawn bright, with their objects; and an image of their three classes in the bands."
    images, masks, objects = [], [], []
    for i in range(n):
        inst = np.zeros((32, 40), int)
        inst[4+i:14+i, 4:14], inst[4+i:14+i, 14:24] = 1, 2
        if not touching: inst[:, 14:17] = 0
        three = border_mask(inst > 0, inst)
        images.append(np.stack([three == k for k in range(3)], -1)*1000)
        masks.append((inst > 0).astype(np.uint8))
        objects.append(inst)
    return Chips(images, masks, objects=objects)


class Bands(torch.nn.Module):
    "Each class has a band of its own."
    def __init__(self, n_out):
        super().__init__()
        self.arguments, self.n_out = dict(n_in=3, n_out=n_out), n_out
    def forward(self, x): return 9*x if self.n_out == 3 else -9*x[:, :1]


def test_instances_are_counted_both_ways(tmp_path):
    "Touching houses: perfect pixels, no object by connected components, all of them by instances."
    pytest.importorskip('skimage')
    info = ModelInfo('Bands', dict(n_in=3, n_out=3), mean=[500.]*3, std=[500.]*3, classes=['background', 'building', 'border'], threshold=None)
    res = report(evaluate(Bands(3), info, squares(), keep=1, device='cpu'), tmp_path/'r')
    assert res.metrics['iou'] == 1 and [o['iou'] for o in res.chips] == [1, 1, 1]
    got = res.metrics['objects']
    assert (got['connected components']['found'], got['instances']['found'], got['instances']['true']) == (3, 6, 6)
    assert got['instances']['f1'] == 1 and got['connected components']['f1'] < 1 and got['all empty']['f1'] == 0
    rows = list(csv.DictReader((res.path/'objects.csv').open()))
    assert [o['objects'] for o in rows] == list(got) and float(rows[1]['f1']) == 1
    text = (res.path/'metrics.md').read_text()
    assert '## Objects' in text and 'inside and border together' in text and 'building' in text
    page = Page((res.path/'report.html').read_text())
    assert 'connected components' in page.text and 'matched one to one' in page.text
    assert {'threshold.png', 'worst.png', 'objects.csv'} <= {o.name for o in res.path.iterdir()}


def test_objects_of_a_plain_mask_and_ships_f2(tmp_path):
    pytest.importorskip('skimage')
    info = ModelInfo('Bands', dict(n_in=3, n_out=1), mean=[500.]*3, std=[500.]*3, classes=['background', 'ship'])
    chips = squares(2, touching=False) + Chips([np.full((32, 40, 3), [1000, 0, 0])], [np.zeros((32, 40), np.uint8)], objects=[np.zeros((32, 40), int)])
    res = report(evaluate(Bands(1), info, chips, keep=1, device='cpu'), tmp_path/'r')
    assert res.metrics['objects']['connected components'] == dict(f2=1., precision=1., recall=1., f1=1., found=4, true=4)
    assert res.metrics['objects']['all empty']['f2'] == pytest.approx(1/3)
    assert 'ship challenge' in (res.path/'metrics.md').read_text()


def test_chips_that_know_no_objects_have_no_such_section(done):
    res, *_ = done
    assert 'objects' not in res.metrics and not (res.path/'objects.csv').exists() and 'Objects' not in (res.path/'metrics.md').read_text()


def test_classes_are_matched_by_name(tmp_path):
    "Chips whose ids are in another order give the same report."
    chips = sample_chips(3, 40, seed=2, target=None)
    model, info = untrained(chips, len(SCENE_CLASSES))
    turned = chips.with_masks(lambda m, _: np.where(m == 255, 255, len(SCENE_CLASSES)-1-m), SCENE_CLASSES[::-1])
    a, b = (report(evaluate(model, info, o, device='cpu'), tmp_path/str(i)) for i, o in enumerate((chips, turned)))
    assert a.metrics == b.metrics
    with pytest.raises(BadInput, match='rename'): evaluate(model, info, Chips([np.ones((8, 8, 3))], [np.eye(8)]), device='cpu')


def test_figures_of_several_classes_show_what_is_wrong():
    from satseg.data.chips import Chip
    targ = np.uint8([[0, 1, 2, 255]]*4)
    fig = plot_chips([(Chip(np.ones((3, 4, 4), np.float32), targ, 'x'), np.uint8([[0, 2, 2, 1]]*4))], ('R', 'G', 'B'), ('a', 'b', 'c'))
    wrong = fig.axes[3].images[0].get_array()
    assert (wrong[:, 1] != wrong[:, 0]).any() and (wrong[:, 2] == wrong[:, 0]).all() and (wrong[:, 3] == wrong[:, 0]).all()
    assert 'difference: wrong class' in [o.get_text() for o in fig.legends[0].get_texts()]


def test_names_with_dollars_are_no_formulas():
    from io import BytesIO
    from satseg.data.chips import Chip
    from satseg.evaluation.report import _figures
    mask = np.eye(8, dtype=np.uint8)
    bad = r'a$\frac$b'
    fig = plot_chips([(Chip(np.ones((3, 8, 8), np.float32), mask, bad), mask)], ('B02','B03','B04'), ['background', bad])
    fig.savefig(BytesIO(), format='png')  # Raised ValueError: no such formula
    assert fig.axes[0].get_ylabel() == bad.replace('$', r'\$')
    res = Evaluation(ModelInfo(classes=['background', bad, 'c']), None, 'most probable class', total=np.eye(3))
    for fig in _figures(res, None).values(): fig.savefig(BytesIO(), format='png')
