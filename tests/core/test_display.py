"""Colours that colour-blind people can tell apart: as they see them after Machado, Oliveira and Fernandes, "A physiologically-based model for simulation
of color vision deficiency" (IEEE TVCG 2009), at full severity, compared by the distance in CIELAB. Colours 2.3 apart can just be told apart side by side."""
import numpy as np
import pytest

from satseg.core.display import ERROR_COLOURS, class_colours, overlay, show_pictures
from satseg.core.errors import BadInput

RNG = np.random.default_rng(0)

SEEN = dict(  # Of linear red, green and blue; the paper's Table 1, severity 1.0
    everybody=np.eye(3),
    protanopia=[[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
    deuteranopia=[[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
    tritanopia=[[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]])


def distances(colours, kind):
    "(n,n) distances in CIELAB (D65) of (r,g,b) 0-255, as people of a `kind` see them."
    c = np.asarray(colours)/255
    linear = np.where(c <= .04045, c/12.92, ((c+.055)/1.055)**2.4)@np.array(SEEN[kind]).T
    xyz = linear.clip(0, 1)@np.array([[.4124564,.3575761,.1804375], [.2126729,.7151522,.0721750], [.0193339,.1191920,.9503041]]).T/[.95047,1,1.08883]
    f = np.where(xyz > 216/24389, np.cbrt(xyz), (24389/27*xyz+16)/116)
    lab = np.stack([116*f[:,1]-16, 500*(f[:,0]-f[:,1]), 200*(f[:,1]-f[:,2])], -1)
    return np.linalg.norm(lab[:,None]-lab[None], axis=-1)


def closest(colours, kind): return distances(colours, kind)[np.triu_indices(len(colours), 1)].min()


def test_the_distance_is_right():
    assert distances([(0,0,0), (255,255,255)], 'everybody')[0,1] == pytest.approx(100, abs=.01)
    red,green = (200,60,40),(90,120,40)  # The classic pair: far apart, but not for those without red or green cones
    assert closest([red,green], 'everybody') > 60 and closest([red,green], 'deuteranopia') < 25


@pytest.mark.parametrize('kind', SEEN)
def test_hits_misses_and_false_alarms(kind):
    assert closest(list(ERROR_COLOURS.values()), kind) > 30  # 34 at least: miss and false alarm without green cones


@pytest.mark.parametrize('kind', SEEN)
def test_class_colours(kind):
    assert closest(class_colours(8), kind) > 15  # Background and seven classes: 16 at least
    assert closest(class_colours(15), kind) > 6  # Those that repeat darker are close for some: name them in a legend
    d = distances(class_colours(15), kind)
    assert min(d[i,i+1] for i in range(14)) > 10


def test_overlay():
    rgb = RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    mask = np.array([[0, 1, 2, 255, 9]]*4)
    got = overlay(rgb, mask, class_colours(3))
    assert got.dtype == np.uint8 and np.array_equal(got[:, [0, 3, 4]], rgb[:, [0, 3, 4]])
    assert np.abs(got[:, 1] - (rgb[:, 1]/2 + np.array(class_colours(3)[1])/2)).max() <= .5
    assert np.array_equal(overlay(rgb, mask, class_colours(3), alpha=1)[0, 2], class_colours(3)[2])
    assert np.array_equal(overlay(rgb, mask, class_colours(3), alpha=0), rgb)
    with pytest.raises(BadInput, match='differ in size'): overlay(rgb, mask[:2], class_colours(3))


def test_class_colours_differ():
    for n in (1, 2, 8, 22): assert len(class_colours(n)) == n == len(set(class_colours(n)))
    assert all(0 <= v <= 255 and type(v) is int for c in class_colours(30) for v in c)


def test_show_pictures():
    import matplotlib.pyplot as plt
    fig = show_pictures({k: np.zeros((8, 16, 3), np.uint8) for k in 'abc'}, dict(road=(255, 0, 0)), cols=2)
    assert [ax.get_title() for ax in fig.axes] == ['a', 'b', 'c', ''] and not fig.axes[3].axison
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ['road'] and not plt.get_fignums()
    with pytest.raises(BadInput, match='at least one picture'): show_pictures({})
