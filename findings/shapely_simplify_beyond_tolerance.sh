#!/usr/bin/env bash
# shapely 2.2.0: `simplify(tolerance)`, whose documentation calls the tolerance the largest displacement allowed, moves an outline
# by 1.8 tolerances if the ring begins at one of its ten vertices, and by less than one tolerance if it begins at any other: how
# far a house is moved hangs on where its outline happens to start.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 shapely==2.2.0
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import numpy as np, shapely

ring = [[9.88,1.33],[10.6,1.74],[4.61,6.44],[1.09,8.87],[.82,10.13],[-10.21,1.87],[-5.09,-13.6],[-.48,-12.08],[2.69,-10.11],[10.59,-.99]]
print('shapely', shapely.__version__, 'GEOS', shapely.geos_version_string)
moved = []
for first in range(len(ring)):
    outline = shapely.Polygon(np.roll(ring, -first, 0))
    simple = outline.simplify(1)
    assert outline.is_valid and simple.is_valid
    moved.append(max(shapely.distance(shapely.points(ring), simple.exterior)))
    print(f'ring begun at vertex {first}: {len(simple.exterior.coords)-1} vertices left, moved by {moved[-1]:.2f} at a tolerance of 1')
raise SystemExit(not (moved[0] > 1.5 and sum(o <= 1 for o in moved) > 2))
PY
