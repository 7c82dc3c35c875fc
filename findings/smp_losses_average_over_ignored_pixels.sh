#!/usr/bin/env bash
# segmentation_models.pytorch 0.5.0: SoftBCEWithLogitsLoss and SoftCrossEntropyLoss set ignored pixels to 0 and then average over
# all pixels, so a chip of which three quarters are "unknown" counts a quarter: partly labelled chips teach less, and the loss falls
# when labels are taken away. Its FocalLoss and DiceLoss, and PyTorch's cross entropy, do not change on the same input.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 segmentation-models-pytorch==0.5.0
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
from importlib.metadata import version
import torch
from segmentation_models_pytorch import losses

print('torch', version('torch'), 'segmentation_models.pytorch', version('segmentation-models-pytorch'))
one,three = torch.full((1,1,8,8), -1.),torch.zeros(1,3,8,8)
three[:,1] = 1
two_classes = dict(SoftBCEWithLogitsLoss=losses.SoftBCEWithLogitsLoss(ignore_index=255), FocalLoss=losses.FocalLoss('binary', ignore_index=255))
several = dict(SoftCrossEntropyLoss=losses.SoftCrossEntropyLoss(ignore_index=255, smooth_factor=0.), DiceLoss=losses.DiceLoss('multiclass', ignore_index=255),
               torch_CrossEntropyLoss=torch.nn.CrossEntropyLoss(ignore_index=255))
found = {}
for name,f in (two_classes|several).items():
    values = []
    for unknown in (0,32,48):
        mask = torch.zeros(64, dtype=torch.long)
        mask[:unknown] = 255
        values.append(float(f(one, mask.reshape(1,1,8,8).float()) if name in two_classes else f(three, mask.reshape(1,8,8))))
    found[name] = values[2]/values[0]
    print(f'{name}: none unknown {values[0]:.4f}, half {values[1]:.4f}, three quarters {values[2]:.4f}')
quarter = {'SoftBCEWithLogitsLoss','SoftCrossEntropyLoss'}
raise SystemExit(any(abs(v-(.25 if k in quarter else 1)) > 1e-3 for k,v in found.items()))
PY
