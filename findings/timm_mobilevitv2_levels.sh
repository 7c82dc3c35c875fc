#!/usr/bin/env bash
# timm 1.0.31: `mobilevitv2_050` as encoder (features_only) says that its last level is 1/32 of the image, and gives 8 x 8 for 224,
# 6 x 6 for 160 and 4 x 4 for 96 pixels, where 1/32 is 7, 5 and 3: its attention works by pairs of pixels, and enlarges an odd
# level without shrinking it again. A decoder that doubles level by level, or tiles that must give what the whole gives, go wrong.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
from importlib.metadata import version
import timm, torch

net = timm.create_model('mobilevitv2_050', features_only=True).eval()
promised = net.feature_info.reduction()
print('torch', version('torch'), 'timm', version('timm'), 'promised reductions', promised)
wrong = []
for side in (256,224,192,160,128,96):
    with torch.no_grad(): got = [o.shape[-1] for o in net(torch.rand(1,3,side,side))]
    want = [side//o for o in promised]
    print(f'{side}: promised {want}, got {got}')
    wrong += [side]*(got != want)
raise SystemExit(wrong != [224,160,96])
PY
