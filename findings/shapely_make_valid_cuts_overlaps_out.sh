#!/usr/bin/env bash
# shapely 2.2.0: `make_valid` with its default method takes the overlap of a MultiPolygon's parts away instead of counting it once:
# of two parts that cover 725 square metres together, 650 are left, and the place that both drew becomes a hole in the labels.
# method='structure' gives the union.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 shapely==2.2.0
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import shapely

parts = shapely.box(0, 0, 20, 20),shapely.box(15, 5, 35, 25)
field = shapely.MultiPolygon(parts)
union = shapely.union_all(parts).area
print('shapely', shapely.__version__, 'GEOS', shapely.geos_version_string, shapely.is_valid_reason(field))
area = {m: shapely.make_valid(field, method=m, **kw).area for m,kw in (('linework', {}), ('structure', dict(keep_collapsed=False)))}
inside = shapely.make_valid(field).contains(shapely.Point(17.5, 10))
print(f'union {union:g}; by default {shapely.make_valid(field).area:g}, middle of the overlap inside: {inside}; by structure {area["structure"]:g}')
raise SystemExit(not (shapely.make_valid(field).area == area["linework"] == 650 and not inside and area["structure"] == union == 725))
PY
