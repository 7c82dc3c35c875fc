#!/usr/bin/env bash
# ukis-csmask 1.0.0 (clouds and shadows): `nodata_value` works only if it is 0. With -9999, a corner without data is called clear
# ground and valid; with 1, all but that corner is invalid: the value is compared with a mask of zeros and ones, not with the image.
# And `invalid_buffer=0`, no buffer, makes the whole image invalid as soon as one pixel is: scipy's dilation takes 0 for "until
# nothing changes".
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 onnxruntime==1.32.0 ukis-csmask==1.0.0
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
from importlib.metadata import version
import numpy as np
from ukis_csmask.mask import CSmask

rng = np.random.default_rng(0)
ground = np.float32([.05,.08,.06,.35])+rng.normal(0, .005, (256,256,4)).astype(np.float32) # Meadow, reflectance

def valid(nodata, buffer):
    "Valid pixels inside a corner without data and outside, shares."
    image = ground.copy()
    image[:64,:64] = nodata
    mask = CSmask(image, ['blue','green','red','nir'], 'l2a', nodata_value=nodata, invalid_buffer=buffer).valid
    return float(mask[:56,:56].mean()),float(mask[80:,80:].mean())

print('ukis-csmask', version('ukis-csmask'), 'onnxruntime', version('onnxruntime'), 'scipy', version('scipy'))
got = {(n,b): valid(n, b) for n,b in ((0,4),(-9999,4),(1,4),(0,0))}
for (n,b),(inside,outside) in got.items():
    print(f'nodata_value={n}, invalid_buffer={b}: {inside:.0%} of the corner without data valid, {outside:.0%} of the meadow')
raise SystemExit(got != {(0,4): (0,1), (-9999,4): (1,1), (1,4): (1,0), (0,0): (0,0)})
PY
