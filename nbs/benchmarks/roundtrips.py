"""Masks to text and outlines and back: how many, and how many come back different.

    python nbs/benchmarks/roundtrips.py [--n 10000]

All 65,536 masks of 4x4 pixels, then N random masks and N random maps of touching objects of up to 63x63 pixels; each through the ship file's
RLE, COCO's RLE as pycocotools writes it, and exact outlines (tolerance 0).
"""
import argparse

import numpy as np

from pycocotools.mask import encode

from satseg.data.rle import coco_rle_decode, rle_decode, rle_encode
from satseg.data.polygons import mask_to_polygons, polygons_to_instances


def random_map(rng):
    "Rectangles and noise of several objects, with holes, diagonal touches and empty maps among them."
    h,w = rng.integers(1, 64, 2)
    ids = np.zeros((h,w), np.int32)
    for k in range(rng.integers(0, 12)):
        y,x = rng.integers(0, h),rng.integers(0, w)
        ids[y:y+rng.integers(1, 20), x:x+rng.integers(1, 20)] = k+1
    if rng.random() < .5: ids[rng.random((h,w)) < rng.random()] = 0
    return ids


def differences(mask, ids=None):
    "1 if any way there and back changes `mask` or, as objects, `ids`."
    same = np.array_equal(rle_decode(rle_encode(mask), mask.shape), mask)
    same &= np.array_equal(coco_rle_decode(encode(np.asfortranarray(mask))), mask)
    for o in (mask,) if ids is None else (mask,ids):
        polygons,values = mask_to_polygons(o, ids=True)
        same &= all(p.is_valid for p in polygons) and np.array_equal(polygons_to_instances(polygons, o.shape, values), o)
    return int(not same)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--n', type=int, default=10_000)
    n = parser.parse_args().n
    bits = (np.arange(2**16)[:,None] >> np.arange(16) & 1).astype(np.uint8)
    print(f'all masks of 4x4 pixels: 65536, {sum(differences(o.reshape(4, 4)) for o in bits)} different')
    rng = np.random.default_rng(0)
    maps = (random_map(rng) for _ in range(n))
    print(f'random masks and maps of objects: {n} each, {sum(differences((o > 0).astype(np.uint8), o) for o in maps)} different')


if __name__ == '__main__': main()
