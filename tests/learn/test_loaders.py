"""Batches and their pictures."""
import numpy as np
import torch

from satseg.data.chips import Chips
from satseg.data.synthetic import sample_chips
from satseg.learn.arguments import _presence_counts
from satseg.learn.augment import Augment
from satseg.learn.learner import segmentation_learner
from satseg.learn.loaders import chip_loaders, has_object
from satseg.learn.preparation import measure_chips
from satseg.models.encoders import Classifier
from satseg.models.unet import UNet


def test_half_unknown_chips_without_objects_teach_nothing():
    yb = torch.full((5,5,5), 255)
    yb[1] = 0; yb[2,0,0] = 2; yb[3,:2] = 0; yb[4,:3] = 0
    assert has_object(yb).flatten().tolist() == [255,0,1,255,0]
    chips = Chips([np.ones((5,5,3))]*5, [o.numpy().astype(np.uint8) for o in yb], classes='abc', has_ignore=True)
    assert _presence_counts(measure_chips(chips)).tolist() == [2,1]


def shown(learn):
    "Titles of what show_batch and show_results drew, and the figures' sizes."
    import matplotlib.pyplot as plt
    plt.close('all')
    learn.dls.show_batch(max_n=3, figsize=(6,3))
    with learn.no_bar(): learn.show_results(max_n=2)
    figs = [plt.figure(i) for i in plt.get_fignums()]
    assert len(figs) == 2 and figs[0].get_size_inches().tolist() == [6,3]
    res = [[ax.get_title() for ax in fig.axes if ax.images] for fig in figs]
    plt.close('all')
    return res


def test_batches_and_results_are_drawn_for_every_kind_of_job():
    from satseg.data.samples import sample_clouds, sample_landcover
    for chips,net in ((sample_chips(6, 32, 1), UNet(3, 1, (8,16))), (sample_landcover(6, 32), UNet(3, 6, (8,16))), (sample_clouds(6, 32), UNet(8, 3, (8,16)))):
        learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, device='cpu'), net, loss='bce_dice' if len(chips.classes) == 2 else 'combined')
        batch,results = shown(learn)
        assert len(batch) == 3 and results == ['mask','prediction']*2


def test_a_presence_classifier_answers_in_words_and_weighted_loaders_show_too():
    chips = sample_chips(8, 32, 1)
    learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, weights=np.ones(4), device='cpu'), Classifier(None, 3, 1, (8,16)), loss='bce')
    batch,results = shown(learn)
    assert set(batch) <= {'building','no building'} and results[0] in ('mask: building','mask: no building') and 'building (0.' in results[1]


def test_a_threshold_counts_and_one_chip_is_shown_in_all_its_forms():
    import matplotlib.pyplot as plt
    chips = sample_chips(6, 32, 1)
    learn = segmentation_learner(chip_loaders(chips[:4], chips[4:], 4, device='cpu'), UNet(3, 1, (8,16)))
    plt.close('all')
    with learn.no_bar(): learn.show_results(max_n=1, threshold=0)
    mask,all_of_it = (ax.images[0].get_array() for ax in plt.gcf().axes)
    assert mask.shape == all_of_it.shape == (32,32,3) and (mask != all_of_it).any()
    learn.dls.valid.show_batch(unique=True, max_n=2, augment=Augment(random_scale=None, contrast=0, brightness=0))
    assert len(plt.gcf().axes) == 2
    plt.close('all')
