"""ONNX beside PyTorch: largest difference, file sizes, and the command from start to finish on one chip.

    python nbs/benchmarks/onnx_equal.py [--model unet_model.pth] [--repeats 5]

Differences are over several batch sizes and picture sizes (see `satseg.models.export`) and over the built-in sample chips; times are whole
processes of `python -m satseg.inference` on one 256x256 chip, in turn, medians.
"""
import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from satseg.data.pickles import save_pickle
from satseg.models.export import export_onnx
from satseg.models.predict import load_net, predict_chips
from satseg.data.synthetic import sample_chips


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, default=Path('unet_model.pth'))
    parser.add_argument('--repeats', type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        model,info = load_net(args.model)
        print(f'largest difference of logits over sizes and batches: {export_onnx(model, info, tmp/"m.onnx"):.1e}')
        export_onnx(model, info, tmp/'ids.onnx', class_map=True)
        for o in (args.model, tmp/'m.onnx', tmp/'ids.onnx'): print(f'{o.name}: {o.stat().st_size/1e6:.2f} MB')
        chips,net = sample_chips(16, seed=2026),load_net(tmp/'m.onnx')
        pairs = zip(predict_chips(model, info, chips), predict_chips(*net, chips))
        print(f'largest difference of probabilities, 16 sample chips: {max(np.abs(a-b).max() for (_,a),(_,b) in pairs):.1e}')
        save_pickle(tmp/'one.pickle', {'all': chips[:1]})
        times = {args.model: [], tmp/'m.onnx': []}
        for _ in range(args.repeats):
            for path,seconds in times.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, '-m', 'satseg.inference', '--model', path, '--dataset', tmp/'one.pickle', '--quiet'], check=True, capture_output=True)
                seconds.append(time.perf_counter()-start)
        for path,seconds in times.items(): print(f'one chip with {path.name}: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})')
        code = "import sys, runpy; runpy.run_module('satseg.inference', run_name='__main__'); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, '--model', tmp/'m.onnx', '--dataset', tmp/'one.pickle', '--quiet'], capture_output=True, text=True)
        print(f'torch imported with .onnx: {done.stdout.splitlines()[-1]}')


if __name__ == '__main__': main()
