"""Runs killed at random moments: by kill -9 and continued, with a worker process lost, with a worker of a Dask cluster lost. Are all bytes those of an unbroken run?

    python nbs/benchmarks/kills.py [--trials 30] [--work runs/kills] [--side 700] [--seed 0]

Makes a small net and a scene (class map, probabilities, uncertainty, polygons; about a hundred tiles), maps it once without a break, then
until `--trials` kills have hit: (1) the command is killed by SIGKILL, again and again until it ends by itself, at moments spread evenly over the time
that it takes; with `--resume` in between; (2) `--workers 2`, one worker process killed; (3) a scheduler and two workers on this machine,
one of them killed, replaced for the next trial. Prints a markdown table; exit status 1 if any file differs by a byte or one too many is there.
"""
import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def make(work, side):
    "A net and a scene."
    import rasterio
    import torch
    from satseg.models.engines import load_engine
    from satseg.models.model_info import ModelInfo
    from satseg.models.unet import UNet
    from satseg.models.model_file import save_model
    from satseg.data.synthetic import sample_scene
    torch.manual_seed(0)
    net = UNet(3, 1, (8, 16, 32)).train()
    with torch.no_grad():
        for _ in range(3): net(torch.randn(4, 3, 64, 64))
    info = ModelInfo('UNet', net.arguments, mean=[900., 800, 600], std=[200., 200, 250], chip_size=64)
    a = np.tile(sample_scene(256, seed=1)[0], (side//256+1, side//256+1, 1))[:side, :side]
    with torch.no_grad():
        logits = net.eval()(info.normalise(torch.from_numpy(a[:256, :256].astype(np.float32)).permute(2, 0, 1)[None]))
        info.threshold = round(float(logits.sigmoid().quantile(.7)), 3)
    save_model(work/'net.pth', net, info)
    a[:side//5, side//2:] = 0
    with rasterio.open(work/'scene.tif', 'w', 'GTiff', side, side, 3, 'EPSG:32633', rasterio.Affine(10, 0, 500000, 0, -10, 5200000), 'uint16', 0, tiled=True) as r:
        r.write(np.moveaxis(a, -1, 0))
        r.descriptions = info.bands
    engine = load_engine(work/'net.pth', 'openvino')
    return int(engine.base + 3*os.path.getsize(work/'net.pth') + 128**2*(engine.facts['memory']*engine.overhead+80)) # Windows of about 128 pixels


def command(work, out, memory, *more):
    "Start a run."
    args = [sys.executable, '-m', 'satseg.scene', 'scene.tif', '--model', 'net.pth', '--out', out, '--memory', memory, '--engine', 'openvino',
            '--probabilities', '--uncertainty', 'entropy', *more]
    return subprocess.Popen([*map(str, args)], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(p):
    "Wait for a run; complain if it failed."
    err = p.communicate()[1]
    if p.returncode: raise SystemExit(f'the run failed with status {p.returncode}: {err[-500:]}')


def files(folder): return {str(o.relative_to(folder)): o.read_bytes() for o in sorted(folder.rglob('*')) if o.is_file()}


def children(pid):
    "Worker processes of a run: those that wait for work."
    try: found = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except OSError: return []
    def is_worker(o):
        try: return b'spawn_main' in Path(f'/proc/{o}/cmdline').read_bytes()
        except OSError: return False
    return [int(o) for o in found if is_worker(o)]


def stored(work, out):
    "Bytes of the store: how far a run is."
    try: return (work/out/'scene.partial').stat().st_size
    except OSError: return 0


def at(p, work, size):
    "Wait until the store has so many bytes, or the run is over; True while it runs."
    while p.poll() is None and stored(work, 'o') < size: time.sleep(.005)
    return p.poll() is None


def kill_runs(a, rng, memory, took, size):
    "A run killed until it is through: number of kills."
    n,first = 0,True
    moment = rng.uniform(.02, 1)*took # The first kill, anywhere; then each after a fresh part of the time
    while True:
        p = command(a.work, 'o', memory, *([] if first else ['--resume']))
        try: p.wait(moment)
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            p.communicate()
            n,first,moment = n+1,first and not (a.work/'o').exists(),rng.uniform(.3, 1.2)*took
            continue
        ended(p)
        return n


def kill_worker(a, rng, memory, took, size):
    "A run by two processes, one killed."
    p,n = command(a.work, 'o', memory, '--workers', 2),0
    if at(p, a.work, rng.uniform(0, .8)*size):
        found = children(p.pid)
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)
            n = 1
    ended(p)
    return n


class Cluster:
    "A scheduler and two workers."
    def __init__(self, work):
        self.work,self.workers = work,[]
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.address = f'tcp://127.0.0.1:{s.getsockname()[1]}'
        self.scheduler = self.start('scheduler', '--host', '127.0.0.1', '--port', self.address.rsplit(':')[-1], '--no-dashboard')

    def start(self, kind, *args):
        return subprocess.Popen([sys.executable, '-m', f'distributed.cli.dask_{kind}', *args], cwd=self.work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fill(self):
        "Two workers, whatever became of the last."
        import distributed
        self.workers = [o for o in self.workers if o.poll() is None]
        while len(self.workers) < 2: self.workers.append(self.start('worker', self.address, '--nthreads', '1', '--no-nanny', '--no-dashboard'))
        with distributed.Client(self.address, timeout='60s', set_as_default=False) as c:
            c.wait_for_workers(2, timeout=60)
            while len(c.scheduler_info()['workers']) != 2: time.sleep(.1)

    def trial(self, a, rng, memory, took, size):
        "A run by the cluster, one worker killed."
        self.fill()
        p,n = command(a.work, 'o', memory, '--scheduler', self.address),0
        if at(p, a.work, rng.uniform(0, .8)*size):
            rng.choice(self.workers).kill()
            n = 1
        ended(p)
        return n

    def stop(self):
        for o in [*self.workers, self.scheduler]: o.kill()
        for o in [*self.workers, self.scheduler]: o.wait()


def trials(a, name, kill, rng, memory, took, size, want):
    "Runs until so many kills have hit; a row of the table."
    kills = equal = i = 0
    while kills < a.trials:
        i += 1
        shutil.rmtree(a.work/'o', ignore_errors=True)
        kills += kill(a, rng, memory, took, size)
        same = files(a.work/'o') == want
        equal += same
        if not same: shutil.copytree(a.work/'o', a.work/f'different {name} {i}', dirs_exist_ok=True)
        print(f'{name}: {i} runs, {kills} kills, {equal} equal', file=sys.stderr, flush=True)
    print(f'| {name} | {kills} | {i} | {equal} |', flush=True)
    return equal == i


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=30, help='kills of each kind')
    parser.add_argument('--work', type=Path, default=Path('runs/kills'), help='folder to work in')
    parser.add_argument('--side', type=int, default=700, help='of the scene, pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='*', choices=['runs','workers','cluster'], default=['runs','workers','cluster'])
    a = parser.parse_args()
    a.work = a.work.resolve()
    a.work.mkdir(parents=True, exist_ok=True)
    rng,memory = random.Random(a.seed),make(a.work, a.side)
    p,start,size = command(a.work, 'whole', memory, '--overwrite'),time.monotonic(),0
    while p.poll() is None:
        size = max(size, stored(a.work, 'whole'))
        time.sleep(.01)
    ended(p)
    took,want = time.monotonic()-start,files(a.work/'whole')
    print(f'{a.side} x {a.side} pixels, {len(want)} files, {sum(map(len, want.values())):,} bytes, {took:.1f} s without a break\n')
    print('| | kills | runs completed | of them equal in all bytes |\n|---|---|---|---|', flush=True)
    fine = [trials(a, name, kill, rng, memory, took, size, want) for key,name,kill in
            (('runs','kill -9, then --resume',kill_runs), ('workers','--workers 2, one killed',kill_worker)) if key in a.only]
    if 'cluster' in a.only:
        cluster = Cluster(a.work)
        try: fine.append(trials(a, 'Dask, one of two workers killed', cluster.trial, rng, memory, took, size, want))
        finally: cluster.stop()
    sys.exit(not all(fine))


if __name__ == '__main__': main()
