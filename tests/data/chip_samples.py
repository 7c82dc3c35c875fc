"""Chips of every size and type, for the tests of chips and pickles."""
import numpy as np

from satseg.data.chips import Chips

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 3000, (h, 8, 3)).astype(t) for h, t in zip((6, 7, 8, 9, 10), ('f8', 'u2', 'i4', '>f4', 'i8'))]
MASKS = [RNG.integers(0, 2, i.shape[:2]).astype(t) for i, t in zip(IMAGES, ('i8', 'u1', 'b1', 'f4', '>i2'))]
CHIPS = Chips(IMAGES, MASKS)


class Lazy:
    "A reader that makes its arrays when asked, and counts."
    def __init__(self, n): self.n, self.asked = n, []
    def __len__(self): return self.n

    def __getitem__(self, i):
        self.asked.append(i)
        return np.full((4, 4, 3), i)
