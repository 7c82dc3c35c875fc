"""Batches and their pictures."""
import numpy as np
import pytest
import torch

from satseg.data.chips import Chips
from satseg.data.synthetic import sample_chips
from satseg.learn import loaders
from satseg.learn.augment import Augment
from satseg.learn.learner import segmentation_learner
from satseg.learn.loaders import chip_loaders, has_object
from satseg.learn.preparation import measure_chips, presence_labels
from satseg.models.encoders import Classifier
from satseg.models.unet import UNet


def test_half_unknown_chips_without_objects_teach_nothing():
    yb = torch.full((5,5,5), 255)
    yb[1] = 0; yb[2,0,0] = 2; yb[3,:2] = 0; yb[4,:3] = 0
    assert has_object(yb).flatten().tolist() == [255,0,1,255,0]
    chips = Chips([np.ones((5,5,3))]*5, [o.numpy().astype(np.uint8) for o in yb], classes='abc', has_ignore=True)
    assert presence_labels(measure_chips(chips)).tolist() == [255,0,1,255,0]


@pytest.fixture
def figures(monkeypatch):
    "What is displayed."
    res = []
    monkeypatch.setattr(loaders, 'display', res.append)
    return res


def shown(learn, figures):
    "Titles of the columns that show_batch and show_results draw; the names beside the rows."
    learn.dls.show_batch(max_n=3)
    with learn.no_bar(): learn.show_results(max_n=2)
    return [[o.get_title() for o in fig.axes if o.get_title()] for fig in figures], [[o.get_ylabel() for o in fig.axes if o.get_ylabel()] for fig in figures]


def test_batches_and_results_are_drawn_for_every_kind_of_job(figures):
    from satseg.data.samples import sample_clouds, sample_landcover
    for chips,net in ((sample_chips(6, 32, 1), UNet(3, 1, (8,16))), (sample_landcover(6, 32), UNet(3, 6, (8,16))), (sample_clouds(6, 32), UNet(8, 3, (8,16)))):
        figures.clear()
        titles,names = shown(segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, device='cpu'), net), figures)
        assert titles == [['image','mask'], ['image','mask','prediction']] and [len(o) for o in names] == [3,2]


def test_a_presence_classifier_answers_in_words_and_weighted_loaders_show_too(figures):
    chips = sample_chips(8, 32, 1)
    learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, weights=np.ones(4), device='cpu'), Classifier(None, 3, 1, (8,16)))
    titles,(_,answers) = shown(learn, figures)
    assert titles[1] == ['image','mask'] and all(o.startswith('building: 0.') for o in answers)


def test_a_threshold_counts_and_one_chip_is_shown_in_all_its_forms(figures):
    chips = sample_chips(6, 32, 1)
    learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, device='cpu'), UNet(3, 1, (8,16)))
    with learn.no_bar(): learn.show_results(max_n=1, threshold=0)
    _,mask,all_of_it = (o.images[0].get_array() for o in figures[0].axes)
    assert mask.shape == all_of_it.shape == (32,32,3) and (mask != all_of_it).any()
    x,y = learn.dls.valid.one_batch()
    learn.dls.valid.show_batch((x[:1].repeat(9,1,1,1), y[:1].repeat(9,1,1)), augment=Augment(random_scale=None, contrast=0, brightness=0))
    forms = [o.images[0].get_array() for o in figures[1].axes[::2]]
    assert len(forms) == 9 and any((o != forms[0]).any() for o in forms)
