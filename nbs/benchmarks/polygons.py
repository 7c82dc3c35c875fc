"""Outlines of pixels, simplified and regularised, against the true polygons they were drawn from.

    python nbs/benchmarks/polygons.py BUILDINGS.geojson [--metres 0.132] [--peer PYTHON]

Polygons in longitude and latitude are drawn on a grid of degrees whose pixels are METRES tall and wide, and written as exact outlines, with
`simplify` and with `regularise`; beside them Douglas and Peucker polygon by polygon and buildingregulariser (of the interpreter PEER, which
needs it installed). All is measured in the UTM zone: means over buildings matched one to one with an IoU of 0.5 or more.
"""
import argparse
import subprocess
import tempfile
import time

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio import features

from satseg.data.polygons import mask_to_polygons
from satseg.scenes.polygons import Shape
from satseg.scenes.vector_files import write_polygons

PEER = """import sys, time, geopandas, buildingregulariser
a = geopandas.read_file(sys.argv[1])
start = time.time()
b = buildingregulariser.regularize_geodataframe(a, num_cores=1, **eval(sys.argv[3]))
print(time.time()-start)
b[['geometry']].to_file(sys.argv[2])"""


def match(found, true):
    "Pairs with an IoU of 0.5 or more, and their IoU: above a half there is one partner at most."
    i,j = shapely.STRtree(true).query(found, 'intersects')
    both = shapely.area(shapely.intersection(found[i], true[j]))
    iou = both/(shapely.area(found[i])+shapely.area(true[j])-both)
    some = iou > .5
    return i[some],j[some],iou[some]


def angle_error(polygon):
    "Mean distance of its corners from a right angle, in degrees; turns under 10 degrees are no corners."
    res = []
    for ring in (polygon.exterior,*polygon.interiors):
        xy = shapely.get_coordinates(ring)[:-1]
        a,b = xy-np.roll(xy, 1, 0),np.roll(xy, -1, 0)-xy
        turn = np.degrees(np.abs(np.arctan2(a[:,0]*b[:,1]-a[:,1]*b[:,0], (a*b).sum(1))))
        res += [*np.abs(turn[turn > 10]-90)]
    return np.mean(res) if res else 0


def row(name, found, true, seconds):
    found,union = np.array([o for o in found if not o.is_empty]),shapely.union_all(true)
    i,j,iou = match(found, true)
    covered = shapely.union_all(shapely.make_valid(found))
    area = np.abs(shapely.area(found[i])/shapely.area(true[j])-1)
    print(f'{name:38s} {len(found):6,} {2*len(i)/(len(found)+len(true)):6.3f} {iou.mean():6.4f} {np.mean([angle_error(o) for o in found[i]]):6.2f} '
          f'{area.mean():6.3f} {shapely.area(found).sum()-covered.area:8.1f} {union.difference(covered).area:8.1f} '
          f'{(~shapely.is_valid(found)).sum():4} {shapely.get_num_coordinates(found).sum():9,} {seconds/len(found)*1e4:7.1f}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('buildings')
    parser.add_argument('--metres', type=float, default=.132)
    parser.add_argument('--peer')
    args = parser.parse_args()
    frame = geopandas.read_file(args.buildings).to_crs(4326)
    west,south,east,north = frame.total_bounds
    tall = args.metres/111_320
    wide = tall/np.cos(np.radians(north))
    grid = Affine(wide, 0, west-5*wide, 0, -tall, north+5*tall)
    shape = int((north-south)/tall)+10,int((east-west)/wide)+10
    ids = features.rasterize(((o, i+1) for i,o in enumerate(frame.geometry)), shape, transform=grid, dtype='int32')
    utm,exact = frame.estimate_utm_crs(),mask_to_polygons(ids)
    true = frame.geometry.to_crs(utm).values
    true = np.asarray(true)
    shapes = [Shape(1, o, int(o.area), o.area*args.metres**2, 1.) for o in exact]
    print(f'{len(true):,} buildings, {shape[0]:,} x {shape[1]:,} pixels of {args.metres} m')
    print(f'{"":38s} {"n":>6} {"F1":>6} {"IoU":>6} {"angle":>6} {"area":>6} {"twice m2":>8} {"missed":>8} {"bad":>4} {"corners":>9} {"s/10k":>7}')
    with tempfile.TemporaryDirectory() as tmp:
        def write(**options):
            start = time.time()
            report = write_polygons(f'{tmp}/a.parquet', shapes, ['ground','building'], grid, 'EPSG:4326', **options)
            seconds = time.time()-start
            for o in report['remarks']: print('   ', o)
            return geopandas.read_parquet(f'{tmp}/a.parquet').to_crs(utm),seconds
        pixels,seconds = write()
        row('outlines of pixels', pixels.geometry.values, true, seconds)
        for metres in (args.metres,3*args.metres):
            o,seconds = write(simplify=metres)
            row(f'--simplify {metres:.3g}', o.geometry.values, true, seconds)
            start = time.time()
            o = shapely.simplify(np.asarray(pixels.geometry.values), metres)
            row(f'Douglas-Peucker alone, {metres:.3g}', o, true, time.time()-start)
        for metres in (0,3*args.metres):
            o,seconds = write(regularise=True, simplify=metres)
            row('--regularise'+f' --simplify {metres:.3g}'*(metres > 0), o.geometry.values, true, seconds)
        pixels[['geometry']].to_file(f'{tmp}/pixels.gpkg')
        for options in ({},{'simplify_tolerance':3*args.metres, 'allow_circles':False})*bool(args.peer):
            out = subprocess.run([args.peer,'-c',PEER,f'{tmp}/pixels.gpkg',f'{tmp}/b.gpkg',repr(options)], capture_output=True, text=True, check=True)
            o = geopandas.read_file(f'{tmp}/b.gpkg').explode().geometry.values
            row('buildingregulariser'+', '.join(f' {k[:12]} {v:.3g}' for k,v in options.items()), o, true, float(out.stdout.split()[-1]))


if __name__ == '__main__': main()
