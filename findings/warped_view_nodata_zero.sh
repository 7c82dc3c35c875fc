#!/usr/bin/env bash
# A warped view of rasterio asked for `nodata=0`, over a file that declares no nodata value and holds real zeros: with rasterio 1.4.4
# (GDAL 3.10.3) the real zeros count as missing; with rasterio 1.5.2 (GDAL 3.12.2) they count, and come back as 1. Neither gives the
# readings of the file. With `add_alpha=True` both versions give 0 as 0 and the gaps by the mask.
# Exit status 0 while it is so, 1 where it has changed. Installs into temporary folders; needs pip and Python 3.11 or newer; rasterio
# 1.5 wants Python 3.12 and is tried only where `python3` (or $PYTHON) is that.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python="${PYTHON:-python3}"
cat >"$tmp/look.py" <<'PY'
import sys
import numpy as np, rasterio
from rasterio.vrt import WarpedVRT

image = np.zeros((40,40), np.uint8)
image[:,20:] = 100 # Left half: real zeros
place = rasterio.Affine(10, 0, 500000, 0, -10, 5100000)
with rasterio.open('zeros.tif', 'w', driver='GTiff', height=40, width=40, count=1, dtype='uint8', crs='EPSG:32633', transform=place) as f:
    f.write(image, 1)
print('rasterio', rasterio.__version__, 'GDAL', rasterio.__gdal_version__)

def look(**options):
    "How many pixels of the neighbouring zone's grid hold a value and count as readings, by value."
    with rasterio.open('zeros.tif') as f, WarpedVRT(f, crs='EPSG:32634', **options) as view:
        values,counts = np.unique(view.read(1)[view.dataset_mask() > 0], return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist()))
    print(f'  {options}: {found}')
    return found

by_alpha,by_value = look(add_alpha=True),look(nodata=0)
zeros,rest = by_alpha[0],by_alpha[100] # 802 and 799
expected = {'3.10': {100: rest}, '3.12': {1: zeros, 100: rest}}['.'.join(rasterio.__gdal_version__.split('.')[:2])]
sys.exit(by_value != expected)
PY
cd "$tmp"
newer=$("$python" -c 'import sys; print(int(sys.version_info >= (3,12)))')
for version in 1.4.4 $([ "$newer" = 0 ] || echo 1.5.2); do
  "$python" -m venv "venv-$version"
  "venv-$version/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 rasterio==$version
  "venv-$version/bin/python" look.py
done
