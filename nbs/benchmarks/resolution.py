"""The same scene at 5, 10 and 20 m: what the shipped net says through --resample and without, against what it says at 10 m.

    SATSEG_DATA=../shared/data python nbs/benchmarks/resolution.py [--scene scene.tif] [--mask scene_mask.tif]

The scene (bands B02,B03,B04 at 10 m) is brought to 5 m between pixel centres (bilinear), shifted so that four pixels average the one that they come from, and to 20 m as the mean
of four. Maps are compared at 10 m: four pixels of 5 m are
built-up where two or more are, a pixel of 20 m counts four times. IoU of the built-up class.
"""
import argparse
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from satseg.core.resolution import array_reader, resample
from satseg.scenes.run import map_scenes


def iou(a, b): return (a & b).sum()/(a | b).sum()


def main():
    here = Path(os.environ.get('SATSEG_DATA', '../shared/data'))/'s2_builtup'
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scene', type=Path, default=here/'scene.tif')
    parser.add_argument('--mask', type=Path, default=here/'scene_mask.tif')
    args = parser.parse_args()
    with rasterio.open(args.scene) as r: tens = r.read()[:, :r.height//2*2, :r.width//2*2].astype(np.float32)
    with rasterio.open(args.mask) as r: mask = r.read(1)[:tens.shape[1], :tens.shape[2]] == 1
    shape,maps = tens.shape[1:],{}
    with tempfile.TemporaryDirectory() as tmp:
        for pixel in (10, 5, 20):
            step = Fraction(pixel, 10)
            size = tuple(int(n/step) for n in shape)
            x,_ = resample(array_reader(tens), (0,0,*size), (step,step), shape)
            if pixel == 5: # As a sensor would see it, of which 10 m are the mean
                x += (tens-x.reshape(3, shape[0], 2, shape[1], 2).mean((2, 4))).repeat(2, 1).repeat(2, 2)
            path = Path(tmp)/f'{pixel}m.tif'
            with rasterio.open(path, 'w', 'GTiff', size[1], size[0], 3, crs='EPSG:32633', transform=from_origin(5e5, 5.1e6, pixel, pixel), dtype='uint16') as r:
                r.write(np.rint(x.clip(0)).astype('uint16'))
                r.descriptions = 'B02','B03','B04'
            for way in ('resample','any_resolution')[:1 if pixel == 10 else 2]:
                start = time.perf_counter()
                files = map_scenes(str(path), out=f'{tmp}/{way}', polygons='none', quiet=True, overwrite=True, **{way: True})[str(path)]
                seconds = time.perf_counter()-start
                with rasterio.open(files['classes']) as r: found = r.read(1) == 1
                if pixel == 5: found = found.reshape(shape[0], 2, shape[1], 2).mean((1, 3)) >= .5
                if pixel == 20: found = found.repeat(2, 0).repeat(2, 1)
                maps[pixel,way] = found
                print(f'{pixel:2} m --{way.replace("_", "-"):14}: IoU {iou(found, maps[10,"resample"]):.3f} against the answer at 10 m, {iou(found, mask):.3f} against the mask; '
                      f'{found.mean():.1%} built-up (mask {mask.mean():.1%}); {seconds:.1f} s')


if __name__ == '__main__': main()
