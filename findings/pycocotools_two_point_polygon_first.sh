#!/usr/bin/env bash
# pycocotools 2.0.11: whether an annotation can be read hangs on the order of its polygons. One with a sliver of two points (four
# numbers, as drawing tools and simplification leave them) is read if the sliver comes second; if it comes first, the list is taken
# for boxes and refused with a TypeError about an argument 'bb' that nobody passed; as a numpy array it is a box 40 wide.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
from importlib.metadata import version
import numpy as np
from pycocotools import mask

house,sliver = [50,50,60,50,60,60,50,60],[10,10,40,12]
def area(polygons):
    try: return [int(mask.area(o)) for o in mask.frPyObjects(polygons, 100, 100)]
    except TypeError as e: return f'TypeError: {e}'
print('pycocotools', version('pycocotools'))
got = dict(house_first=area([house,sliver]), sliver_first=area([sliver,house]), sliver_in_an_array=area(np.array([sliver], float)))
for k,v in got.items(): print(k.replace('_', ' '), v)
raise SystemExit(not (got['house_first'] == [100,0] and "'bb'" in got['sliver_first'] and got['sliver_in_an_array'] == [480]))
PY
