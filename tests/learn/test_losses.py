"""The losses against torch's own functions, in double and half precision, with ignored pixels."""
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from satseg.core.errors import BadInput
from satseg.learn.losses import LOSSES, bce_dice_loss, bce_loss, combined_loss, cross_entropy_loss, dice_loss, focal_loss

SEVERAL = {k: LOSSES[k] for k in ('dice', 'focal', 'combined', 'cross_entropy')}
VARIANTS = {**LOSSES, 'focal .5': partial(focal_loss, gamma=.5, alpha=.25), 'bce weighted': partial(bce_loss, pos_weight=7.)}


def batch(n=1, seed=0, dtype=torch.float32, ignored=.2):
    "Logits (2,n,5,7) and a mask (2,5,7) with some 255."
    g = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, max(n, 2), (2, 5, 7), generator=g)
    mask[torch.rand(mask.shape, generator=g)<ignored] = 255
    return 3*torch.randn(2, n, 5, 7, generator=g, dtype=torch.float64).to(dtype), mask


def grad(loss, logits, mask):
    logits = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(logits, mask), logits)[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(.1, 50))
def test_bce_equals_torch(seed, pos_weight):
    logits, mask = batch(seed=seed)
    keep = mask!=255
    ref = F.binary_cross_entropy_with_logits(logits[:, 0][keep], mask[keep].float(), pos_weight=torch.tensor(pos_weight))
    torch.testing.assert_close(bce_loss(logits, mask, pos_weight=pos_weight), ref)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_cross_entropy_equals_torch(seed, n):
    logits, mask = batch(n, seed)
    weight = torch.rand(n, generator=torch.Generator().manual_seed(seed))+.1
    torch.testing.assert_close(cross_entropy_loss(logits, mask), F.cross_entropy(logits, mask, ignore_index=255))
    torch.testing.assert_close(cross_entropy_loss(logits, mask, weight=weight), F.cross_entropy(logits, mask, weight=weight, ignore_index=255))


@pytest.mark.parametrize('gamma', [0, .5, 1, 2, 5])
def test_focal_equals_its_formula(gamma):
    logits, mask = batch(3, dtype=torch.float64)
    keep = mask!=255
    pt = logits.softmax(1).movedim(1, -1)[keep].gather(1, mask[keep][:, None])[:, 0]
    alpha = torch.tensor([.2, .5, 3.], dtype=torch.float64)
    ref = (-alpha[mask[keep]]*(1-pt)**gamma*pt.log()).mean()
    torch.testing.assert_close(focal_loss(logits, mask, gamma=gamma, alpha=[.2, .5, 3.]), ref)


def test_focal_of_one_logit_uses_alpha_for_the_foreground():
    logits, mask = batch(dtype=torch.float64)
    keep = mask!=255
    p, t = logits[:, 0][keep].sigmoid(), mask[keep]
    ref = torch.where(t==1, -.25*(1-p)**2*p.log(), -.75*p**2*(1-p).log()).mean()
    torch.testing.assert_close(focal_loss(logits, mask, alpha=.25), ref)


def test_dice_equals_its_formula():
    logits, mask = batch(4, dtype=torch.float64)
    keep, p = mask!=255, logits.softmax(1)
    each = []
    for k in (1, 2, 3):
        pk, tk = p[:, k][keep], (mask[keep]==k).double()
        each.append(1-(2*(pk*tk).sum()+1)/(pk.sum()+tk.sum()+1))
    torch.testing.assert_close(dice_loss(logits, mask), sum(each)/3)


def test_sums_are_weighted_sums():
    logits, mask = batch()
    torch.testing.assert_close(combined_loss(logits, mask, dice=4., focal=.5, gamma=3., alpha=.7),
                               4*dice_loss(logits, mask)+.5*focal_loss(logits, mask, gamma=3., alpha=.7))
    torch.testing.assert_close(bce_dice_loss(logits, mask, bce=2., dice=3., pos_weight=4.), 2*bce_loss(logits, mask, 4.)+3*dice_loss(logits, mask))


@pytest.mark.parametrize('name', SEVERAL)
def test_one_logit_is_a_softmax_of_two(name):
    logits, mask = batch()
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(SEVERAL[name](logits, mask), SEVERAL[name](two, mask))


@pytest.mark.parametrize('name,n', [*((k, 1) for k in VARIANTS), *((k, 3) for k in SEVERAL)])
def test_gradients_are_the_derivatives(name, n):
    logits, mask = batch(n, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: VARIANTS[name](x, mask), logits.requires_grad_())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('name,n', [*((k, 1) for k in VARIANTS), *((k, 3) for k in SEVERAL)])
def test_extreme_logits_are_finite(name, n, dtype):
    mask = torch.randint(0, max(n, 2), (2, 5, 7), generator=torch.Generator().manual_seed(1))
    logits = torch.where(batch(n)[0]>0, 6e4, -6e4).to(dtype).requires_grad_()
    loss = VARIANTS[name](logits, mask)
    g, = torch.autograd.grad(loss, logits)
    assert loss.dtype==torch.float32 and loss.isfinite() and loss>0
    assert g.dtype==dtype and g.isfinite().all()


@pytest.mark.parametrize('name', LOSSES)
def test_half_is_as_good_as_float(name):
    logits, mask = batch(dtype=torch.float16)
    assert torch.equal(LOSSES[name](logits, mask), LOSSES[name](logits.float(), mask))
    many = torch.full((4, 1, 300, 300), 2., dtype=torch.float16)  # 360,000 pixels: a sum in half precision overflows
    mask = torch.ones(4, 300, 300, dtype=torch.uint8)
    torch.testing.assert_close(LOSSES[name](many, mask), LOSSES[name](many.double(), mask).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name,n', [*((k, 1) for k in LOSSES), *((k, 3) for k in SEVERAL)])
def test_ignored_pixels_do_nothing(name, n):
    logits, mask = batch(n)
    out = (mask==255)[:, None].expand_as(logits)
    g = grad(LOSSES[name], logits, mask)
    assert out.any() and (g[out]==0).all() and (g[~out]!=0).any()
    for other in (9., torch.inf, torch.nan):
        changed = torch.where(out, torch.tensor(other), logits)
        assert torch.equal(LOSSES[name](changed, mask), LOSSES[name](logits, mask))
        assert torch.equal(grad(LOSSES[name], changed, mask), g)


@pytest.mark.parametrize('name,n', [*((k, 1) for k in LOSSES), *((k, 3) for k in SEVERAL)])
def test_nothing_labelled_is_zero(name, n):
    logits, mask = batch(n, ignored=2)
    assert (mask==255).all() and LOSSES[name](logits, mask)==0
    assert (grad(LOSSES[name], logits, mask)==0).all()


@pytest.mark.parametrize('name', LOSSES)
def test_right_is_near_zero_and_wrong_is_not(name):
    mask = batch(ignored=0)[1]
    right = (mask*40.-20)[:, None]
    assert LOSSES[name](right, mask)<1e-4<.1<LOSSES[name](-right, mask)


@pytest.mark.parametrize('name', LOSSES)
def test_mask_types(name):
    logits, mask = batch()
    ref = LOSSES[name](logits, mask)
    for other in (mask.to(torch.uint8), mask.int(), mask.float(), mask[:, None]):
        assert torch.equal(LOSSES[name](logits, other), ref)


def test_tensor_types_of_fastai_do_not_clash():
    "fastai gives its own tensor types, which refuse to be mixed."
    class Image(torch.Tensor): pass
    class Mask(torch.Tensor): pass
    logits, mask = batch()
    loss = combined_loss(logits.as_subclass(Image), mask.as_subclass(Mask))
    assert type(loss) is torch.Tensor and torch.equal(loss, combined_loss(logits, mask))


@pytest.mark.parametrize('name', LOSSES)
def test_bad_input_is_named(name):
    logits, mask = batch()
    loss = LOSSES[name]
    with pytest.raises(BadInput, match='resize the mask'): loss(logits, mask[:, :3])
    with pytest.raises(BadInput, match='resize the mask'): loss(logits, mask[:1])
    with pytest.raises(BadInput, match='resize the mask'): loss(logits[0], mask)
    with pytest.raises(BadInput, match='class ids from 0 to 1 or 255'): loss(logits, mask.masked_fill(mask==1, 2))
    with pytest.raises(BadInput, match='class ids'): loss(logits, mask.masked_fill(mask==1, -1))
    with pytest.raises(BadInput, match='whole class ids'): loss(logits, mask.float().masked_fill(mask==1, .5))
    with pytest.raises(BadInput, match='whole class ids'): loss(logits, mask.float().masked_fill(mask==1, torch.nan))


def test_bad_settings_are_named():
    logits, mask = batch(3)
    with pytest.raises(BadInput, match='use cross_entropy_loss'): bce_loss(logits, mask)
    with pytest.raises(BadInput, match='3 class weights'): cross_entropy_loss(logits, mask, weight=[1, 2])
    with pytest.raises(BadInput, match='3 class weights'): focal_loss(logits, mask, alpha=.25)
    with pytest.raises(BadInput, match='gamma'): focal_loss(logits, mask, gamma=-1)
    with pytest.raises(BadInput, match='smooth'): dice_loss(logits, mask, smooth=0)
