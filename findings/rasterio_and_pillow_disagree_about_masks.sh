#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3) and Pillow 13.0.0 read other class ids out of the same mask: a grey PNG of 2 bits holds 0,1,2,3, and
# comes as 0,85,170,255 from Pillow, a 4-bit one as multiples of 17; a TIFF whose 0 is white comes as stored from rasterio and as
# 255 minus that from Pillow. A tool that takes the one library for chips and the other for scenes has two meanings of one file.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 rasterio==1.4.4
cd "$tmp"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import struct, warnings, zlib
import numpy as np, PIL, rasterio
from PIL import Image

warnings.simplefilter('ignore') # A mask needs no place on the ground
ids = np.uint8([[0,1,2,3]])

def grey_png(bits):
    "A grey PNG as the standard has it (11.2.1): `bits` for each sample."
    row = int(''.join(f'{o:0{bits}b}' for o in ids[0]), 2).to_bytes(bits*4//8, 'big')
    def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', 4, 1, bits, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n'+head+chunk(b'IDAT', zlib.compress(b'\0'+row))+chunk(b'IEND', b'')

for bits in (2,4): open(f'{bits} bits.png', 'wb').write(grey_png(bits))
with rasterio.open('white is 0.tif', 'w', driver='GTiff', height=1, width=4, count=1, dtype='uint8', photometric='MINISWHITE') as f: f.write(ids, 1)
print('rasterio', rasterio.__version__, 'GDAL', rasterio.__gdal_version__, 'Pillow', PIL.__version__)
got = {}
for name in ('2 bits.png','4 bits.png','white is 0.tif'):
    with rasterio.open(name) as f: a = f.read(1).tolist()[0]
    got[name] = a,np.array(Image.open(name)).tolist()[0]
    print(f'{name}: rasterio {got[name][0]}, Pillow {got[name][1]}')
same = [0,1,2,3]
raise SystemExit(got != {'2 bits.png': (same, [0,85,170,255]), '4 bits.png': (same, [0,17,34,51]), 'white is 0.tif': (same, [255,254,253,252])})
PY
