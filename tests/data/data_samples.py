"""Random masks and datasets of every format, small and written by hand, for the tests of this folder."""
import numpy as np


def random_mask(seed, most=24):
    "Noise of any density or overlapping boxes: holes, one-pixel lines, corners that touch, empty and full."
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, most, 2)
    if rng.random()<.5: return (rng.random((h, w))<rng.choice([0, .1, .5, .8, 1])).astype(np.uint8)
    mask = np.zeros((h, w), np.uint8)
    for _ in range(rng.integers(1, 9)):
        (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
        mask[r:r+dr, c:c+dc] = rng.integers(0, 2)
    return mask


def random_instances(seed, most=24):
    rng = np.random.default_rng(seed)
    return random_mask(seed, most)*rng.integers(0, 5, 1) if rng.random()<.1 else _boxes(rng, *rng.integers(1, most, 2))


def _boxes(rng, h, w):
    ids = np.zeros((h, w), np.int32)
    for _ in range(rng.integers(0, 12)):
        (r, c), (dr, dc) = rng.integers(0, [h, w]), rng.integers(1, 9, 2)
        ids[r:r+dr, c:c+dc] = rng.integers(0, 300)
    return ids


def same_sets(a, b):
    "Two instance maps differ by their numbers only."
    pairs = set(zip(np.ravel(a).tolist(), np.ravel(b).tolist()))
    return len(pairs)==len({p for p, _ in pairs})==len({q for _, q in pairs})
