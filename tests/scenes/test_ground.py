"Areas against the ellipsoid."
import numpy as np
import pyproj
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from scene_samples import GRIDS, at

from satseg.core.errors import BadInput
from satseg.scenes.ground import pixel_areas


def true_area(transform, crs, window, n=200):
    to = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    degrees = np.degrees(pyproj.CRS(crs).geodetic_crs.axis_info[0].unit_conversion_factor)
    r, c, h, w = window
    t = np.linspace(0, 1, n)
    x = np.concatenate([c+w*t, 0*t+c+w, c+w-w*t, 0*t+c])
    y = np.concatenate([0*t+r, r+h*t, 0*t+r+h, r+h-h*t])
    return abs(pyproj.CRS(crs).get_geod().polygon_area_perimeter(*(np.multiply(o, degrees) for o in to.transform(*at(transform, x, y))))[0])


@pytest.mark.parametrize('name', GRIDS)
def test_areas_on_the_ellipsoid(name):
    for window in ((0, 0, 400, 300), (600, 500, 100, 90)):
        area = np.broadcast_to(pixel_areas(*GRIDS[name], window), window[2:]).sum()
        assert area==pytest.approx(true_area(*GRIDS[name], window), rel=5e-6)


@pytest.mark.parametrize('name', GRIDS)
def test_an_area_does_not_depend_on_the_window(name):
    large = np.broadcast_to(pixel_areas(*GRIDS[name], (0, 0, 700, 800)), (700, 800))
    for window in ((0, 0, 1, 1), (255, 255, 3, 3), (300, 511, 257, 30), (699, 799, 1, 1)):
        r, c, h, w = window
        assert (np.broadcast_to(pixel_areas(*GRIDS[name], window), (h, w))==large[r:r+h, c:c+w]).all()


def test_area_of_nothing_and_of_local_grids():
    assert pixel_areas(Affine.identity(), None, (5, 5, 3, 3))==1
    assert pixel_areas(Affine(2, 0, 0, 0, -2, 0), CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), (0, 0, 9, 9))==4
    assert (pixel_areas(Affine(1, 0, -180, 0, -1, 90), CRS.from_epsg(4326), (0, 0, 180, 360))>0).all()
    with pytest.raises(BadInput, match='pixels of some size'): pixel_areas(Affine(0, 0, 0, 0, 0, 0), 'EPSG:32633', (0, 0, 1, 1))
    with pytest.raises(BadInput, match='coordinate reference system'): pixel_areas(Affine.identity(), 'nowhere', (0, 0, 1, 1))


def test_edge_of_the_projections_world():
    sinusoidal = '+proj=sinu +lon_0=0 +R=6371007.181 +units=m'
    a = pixel_areas(Affine(1000, 0, -20015109, 0, -1000, 10007554), sinusoidal, (0, 0, 50, 50))
    assert np.isfinite(a).all() and (a>0).all()


