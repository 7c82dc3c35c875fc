#!/usr/bin/env bash
# buildingregulariser 0.2.5: terraced houses that share their walls come out overlapping. Ten houses of a row, polygons of 0.5 m
# pixels that cover nothing twice, are straightened one by one; 21 of 654 square metres are then covered by two of them, with
# `neighbor_alignment=True` as well, so sums of areas, and rasters made of the result, are wrong.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 shapely==2.2.0 geopandas==1.2.0 rasterio==1.4.4 buildingregulariser==0.2.5
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import itertools
from importlib.metadata import version
import geopandas, rasterio, rasterio.features, shapely
from buildingregulariser import regularize_geodataframe
from shapely import affinity

houses = [affinity.rotate(shapely.box(6*i, 0, 6*i+6, 10+i%3), 25, origin=(0,0)) for i in range(10)]
pixels = rasterio.Affine(.5, 0, -10, 0, -.5, 60)
ids = rasterio.features.rasterize([(o, i+1) for i,o in enumerate(houses)], out_shape=(140,180), transform=pixels, dtype='int32')
outlines = [shapely.geometry.shape(o) for o,_ in rasterio.features.shapes(ids, ids > 0, transform=pixels)]
frame = geopandas.GeoDataFrame(geometry=outlines, crs='EPSG:32633')

def twice(polygons): return sum(shapely.intersection(a, b).area for a,b in itertools.combinations(polygons, 2))
print('buildingregulariser', version('buildingregulariser'), 'shapely', shapely.__version__, 'geopandas', geopandas.__version__)
print(f'outlines of pixels: {frame.area.sum():.1f} m2, covered twice {twice(frame.geometry):.2f} m2')
found = []
for aligned in (False,True):
    done = regularize_geodataframe(frame.copy(), num_cores=1, neighbor_alignment=aligned)
    found.append(twice(done.geometry))
    print(f'neighbor_alignment={aligned}: {done.area.sum():.1f} m2, covered twice {found[-1]:.2f} m2')
raise SystemExit(not (len(outlines) == 10 and twice(frame.geometry) == 0 and min(found) > 10))
PY
