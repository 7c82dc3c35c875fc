"""One window by every engine, each in a process of its own: speed, memory, and how far its probabilities are from torch in float32.

    python nbs/benchmarks/engines.py [--side 1120] [--runs 5]

Two nets: unet_model.pth of this repository, and a U-Net on ResNet-34 with random weights (seed 0). The window is a painted scene. All cores
are used. Prints a markdown table: medians over turns (every engine once, then every engine again), so that a busy spell hits all of them. A
speed is the better of two calls, after a first one that compiles. Memory is the peak of the whole process, and beside it what `window_size`
reserves for such a window. How much half precision gains on the same engine goes to stderr.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {'torch': ('torch', ''), 'torch, half': ('torch', 'half'), 'onnxruntime': ('onnxruntime', ''),
           'OpenVINO': ('openvino', ''), 'OpenVINO, half': ('openvino', 'half')}


def peak():
    "Peak memory of this process in MB; Linux (what `getrusage` tells begins with the parent's)."
    return int(next(o for o in Path('/proc/self/status').read_text().splitlines() if o.startswith('VmHWM')).split()[1])*1024/1e6


def one(model, engine, half, side, out):
    "Load, compute three times, save the last answer; print seconds, peak memory, and what `window_size` reserves for it, in MB."
    import time
    from satseg.models.engines import load_engine, window_size
    from satseg.data.synthetic import sample_scene
    net = load_engine(model, engine, 'cpu', half=bool(half))
    n = -(-side//512)
    x = np.moveaxis(np.tile(sample_scene(512, seed=3)[0], (n, n, 1))[:side, :side], -1, 0)[None].astype(np.float32)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        y = net(x)
        seconds.append(time.perf_counter()-start)
    np.save(out, y)
    low,high = net.base,1e11
    while high-low > 1e5: # The least memory that allows windows of this size
        try: fits = window_size(net, (low+high)/2, os.path.getsize(model), most=side) >= side
        except ValueError: fits = False
        low,high = (low,(low+high)/2) if fits else ((low+high)/2,high)
    print(json.dumps([min(seconds[1:]), peak(), high/1e6]))


def resnet(path):
    "A U-Net on ResNet-34, batch statistics settled on noise."
    import torch
    from satseg.models.model_info import ModelInfo
    from satseg.models.encoders import EncoderUNet
    from satseg.models.model_file import save_model
    torch.manual_seed(0)
    net = EncoderUNet('resnet34', 3, 1, detail=0).train()
    with torch.no_grad():
        for _ in range(4): net(torch.randn(4, 3, 256, 256))
    save_model(path, net.eval(), ModelInfo('EncoderUNet', net.arguments, mean=[970., 860., 600.], std=[165., 200., 260.]))


def machine():
    "Cores, and what the processor calls itself and can do, where Linux tells."
    try: text = Path('/proc/cpuinfo').read_text()
    except OSError: text = ''
    found = dict(o.split(':', 1) for o in text.split('\n\n')[0].replace('\t', '').splitlines() if ':' in o)
    able = [o for o in ('avx2', 'avx512f', 'amx_bf16') if o in found.get('flags', '').split()]
    return ', '.join([f'{os.cpu_count()} cores', found.get('model name', 'unknown').strip(), *able])


def compare(name, model, side, runs, tmp):
    "Rows of one net."
    res = {k: [] for k in ENGINES}
    for _ in range(runs):
        for k,(engine,half) in ENGINES.items():
            cmd = [sys.executable, '-W', 'ignore', __file__, '--side', str(side), '--one', str(model), engine, half, f'{tmp}/{k}.npy']
            run = subprocess.run(cmd, capture_output=True, text=True)
            if run.returncode: print(f'{k}: left out, {run.stderr.strip().splitlines()[-1]}', file=sys.stderr)
            else: res[k].append(json.loads(run.stdout))
    speed = {k: side**2/1e6/statistics.median(o[0] for o in v) for k,v in res.items() if v}
    want = np.load(f'{tmp}/torch.npy')
    for k in speed:
        off = np.abs(np.load(f'{tmp}/{k}.npy')-want)
        print(f'| {name} | {k} | {speed[k]:.2f} | {speed[k]/speed["torch"]:.1f} | {statistics.median(o[1] for o in res[k]):,.0f} | '
              f'{res[k][0][2]:,.0f} | {off.max():.1e} | {(off > .01).mean():.2%} |', flush=True)
    for k in speed:
        plain = k.removesuffix(', half')
        if plain != k: print(f'{name}: {k} is {speed[k]/speed[plain]:.1f} times as fast as {plain}', file=sys.stderr)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--side', type=int, default=1120, help='pixels of the window, a multiple of 32')
    p.add_argument('--runs', type=int, default=5)
    p.add_argument('--one', nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    sys.path.insert(0, str(ROOT))
    if a.one: return one(*a.one[:3], a.side, a.one[3])
    with tempfile.TemporaryDirectory() as tmp:
        os.environ.update(SATSEG_CACHE=tmp, PYTHONPATH=str(ROOT))
        resnet(f'{tmp}/resnet34.pth')
        print(f'{machine()}; window of {a.side} x {a.side} pixels; medians of {a.runs} turns; load {os.getloadavg()[0]:.1f} at the start\n')
        print('| net | engine | megapixels/s | torch = 1 | peak memory, MB | reserved, MB | largest difference | more than 0.01 off |\n'
              '|---|---|--:|--:|--:|--:|--:|--:|')
        for name,model in (('unet_model.pth', ROOT/'unet_model.pth'), ('U-Net on ResNet-34', f'{tmp}/resnet34.pth')):
            compare(name, model, a.side, a.runs, tmp)


if __name__ == '__main__': main()
