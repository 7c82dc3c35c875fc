"""Image and mask are changed alike."""
import torch

from satseg.learn.augment import Augment, _rescale
from satseg.core.display import IGNORE


def test_image_and_mask_are_always_changed_alike():
    torch.manual_seed(0)
    y = (torch.rand(16,4,4) > .5).long().repeat_interleave(8, 1).repeat_interleave(8, 2)
    for aug in (Augment(random_scale=None, contrast=0, brightness=0), Augment(random_scale=(.7,1.4), contrast=0, brightness=0)):
        x1,y1 = aug(y[:,None].float(), y)
        known = y1 != IGNORE
        assert ((x1[:,0] >= .5) == (y1 == 1))[known].float().mean() > (.999 if aug.random_scale is None else .95)


def test_zoom_invents_no_class():
    y = torch.randint(0, 2, (4,16,16))*7
    _,y1 = _rescale(torch.rand(4,3,16,16), y, torch.tensor([.6,.9,1.3,2.]), torch.zeros(4,2))
    assert set(y1.unique().tolist()) <= {0,7,IGNORE}
