#!/usr/bin/env bash
# rio-stac 0.12.0: the footprint that `create_stac_item` gives a raster has its four corners only. Between two corners the border of a
# Sentinel-2 tile (110 km, here at 63 N) is no straight line in longitude and latitude: the footprint lies 465 m beside it, so that a
# search by a point near the upper border misses or finds wrongly. `geom_densify_pts=21` brings it to about 1 m; the default is 0.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 rasterio==1.4.4 rio-stac==0.12.0 pystac==1.15.1 shapely==2.2.0 pyproj==3.7.2
cd "$tmp"
venv/bin/python - <<'PY'
from importlib.metadata import version
import numpy as np, pyproj, rasterio, shapely
from rasterio.transform import from_origin
from rio_stac import create_stac_item
from shapely.geometry import box, shape

left,top,side = 300000,7000020,109800
with rasterio.open('tile.tif', 'w', driver='GTiff', height=1098, width=1098, count=1, dtype='uint8', crs='EPSG:32633', transform=from_origin(left, top, 100, 100)) as f:
    f.write(np.ones((1,1098,1098), np.uint8))
back = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)

def metres_off(**options):
    "The largest distance between the raster's border and its footprint, both on the raster's own grid."
    footprint = shapely.segmentize(shape(create_stac_item('tile.tif', **options).geometry), .001)
    on_grid = shapely.transform(footprint, lambda lon,lat: back.transform(lon, lat), interleaved=False)
    return shapely.hausdorff_distance(on_grid.exterior, box(left, top-side, left+side, top).exterior)

plain,dense = metres_off(),metres_off(geom_densify_pts=21)
print('rio-stac', version('rio-stac'), 'rasterio', rasterio.__version__, f'- footprint off by {plain:.0f} m; with geom_densify_pts=21 by {dense:.1f} m')
raise SystemExit(not (plain > 400 and dense < 2))
PY
