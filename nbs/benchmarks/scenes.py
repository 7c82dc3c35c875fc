"""Whole scenes: our command line and other people's means, same weights, same scene, same machine, each as a whole process, in turn.

    python nbs/benchmarks/scenes.py run --peers runs/peers/bin/python --work runs/scenes [--sizes 2048 8192] [--runs 3]
    python nbs/benchmarks/scenes.py run --work runs/scenes --sizes 20000 --runs 1 --only satseg

`run` makes what is missing (a small net, the scenes, the answers of one pass), times every contestant `--runs` times in the order A B C
A B C, then lets those that can write their probabilities, and holds the results against the net's answer on the whole array. It prints a
markdown table a size and writes WORK/results.json. `--contestant NAME='COMMAND'` adds or replaces one, `--probability NAME='COMMAND'` how
it writes probabilities; {python} {peers} {here} {scene} {model} {out} are filled in. The one-band uint8 GeoTIFF in {out} is its class map.
"""
import argparse
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MEAN,STD = (970.,860.,600.),(165.,200.,260.) # Of sample scenes, roughly
WARM = 512 # Pixels of the scene of the first run, which is not counted: caches fill, and ours converts the net, once for ever
READ = 640 # Pixels around a checked window that are read: more than a U-Net of resnet34 can see (527), a multiple of its stride
OURS = dict( # As the others, a class map and no more; and with polygons, as it comes
    satseg='{python} -m satseg.scene {scene} --model {model} --out {out} --memory 1GB --polygons none',
    satseg_polygons='{python} -m satseg.scene {scene} --model {model} --out {out} --memory 1GB')
PEERS = ('plain','torchgeo','geoai','geoai_half','omnicloudmask','rastervision')
LIBRARIES = ('torch','numpy','rasterio','timm','segmentation_models_pytorch','torchgeo','geoai-py','omnicloudmask','rastervision_core','onnxruntime','openvino')


def make_net(path, steps=80, seed=0):
    "Train a U-Net on resnet34 a little on sample scenes: nothing to be proud of, but it answers as trained nets do."
    import torch
    from satseg.models.model_info import ModelInfo
    from satseg.models.encoders import EncoderUNet
    from satseg.models.model_file import save_model
    from satseg.data.synthetic import sample_chips
    arguments = dict(encoder='resnet34', n_in=3, n_out=1, detail=0)
    torch.manual_seed(seed)
    net,chips,rng = EncoderUNet(**arguments).train(),sample_chips(24, 384, seed, target=('water','forest')),np.random.default_rng(seed)
    info = ModelInfo('EncoderUNet', dict(net.arguments), list(chips.bands), list(MEAN), list(STD), list(chips.classes), trained_on='sample scenes, for benchmarks')
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(steps):
        batch = []
        for i in rng.integers(len(chips), size=8):
            row,col = rng.integers(384-128, size=2)
            batch.append((chips[int(i)].image[:,row:row+128,col:col+128].astype(np.float32), chips[int(i)].mask[row:row+128,col:col+128]))
        x,y = (torch.from_numpy(np.stack(o)) for o in zip(*batch))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(info.normalise(x))[:,0], y.float())
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f'{path}: last loss {loss:.3f}')
    save_model(path, net.eval(), info)


def corner(size):
    "Legs of the triangle without data in the upper right corner, pixels."
    return size//16


def no_data(rows, cols, size, reach=0):
    "Whether pixels lie in the triangle, or within `reach` of it."
    return np.maximum(rows-reach, 0)[:,None]+np.maximum(size-1-cols-reach, 0) < corner(size)


def make_scene(path, size, seed=0):
    "A uint16 GeoTIFF of three bands, in tiles of 512, not compressed: one sample scene of 2,048 again and again, rolled and flipped."
    import rasterio
    from rasterio.windows import Window
    from satseg.data.synthetic import sample_scene
    whole = min(size, 2048)
    img = np.maximum(sample_scene(whole, seed)[0].transpose(2, 0, 1), 1)
    profile = dict(driver='GTiff', height=size, width=size, count=3, dtype='uint16', nodata=0, crs='EPSG:32632',
                   transform=rasterio.Affine(10, 0, 500000, 0, -10, 5400000), tiled=True, blockxsize=512, blockysize=512, BIGTIFF='IF_SAFER')
    tmp = Path(f'{path}.tmp')
    with rasterio.open(tmp, 'w', **profile) as dst:
        for n,name in enumerate(('B02','B03','B04')): dst.set_band_description(n+1, name)
        for i,row in enumerate(range(0, size, whole)):
            for j,col in enumerate(range(0, size, whole)):
                part = np.roll(img, (i*613, j*997), (1,2))[:, ::-1 if i % 2 else 1, ::-1 if j % 2 else 1]
                part = part[:, :min(whole, size-row), :min(whole, size-col)].copy()
                h,w = part.shape[1:]
                part[:, no_data(row+np.arange(h), col+np.arange(w), size)] = 0
                dst.write(part, window=Window(col, row, w, h))
    os.replace(tmp, path)


def checked_windows(size, whole):
    "(row, col, height, width) of what is held against the answer: everything; of larger scenes corners, edges, the middle and three more."
    if size <= whole: return [(0, 0, size, size)]
    side,last,mid = 512,size-512,(size-512)//2
    more = np.random.default_rng(0).integers(0, last, (3,2)).tolist()
    return [(r, c, side, side) for r,c in [*((r, c) for r in (0, mid, last) for c in (0, mid, last)), *more]]


def make_reference(path, scene, model, size, whole):
    "The net's probabilities on the checked windows: of the whole array in one pass, or read with `READ` pixels around and cut in step with its stride."
    import rasterio
    import torch
    from rasterio.windows import Window
    from satseg.models.model_file import load_model
    net,info = load_model(model)
    found = {}
    with rasterio.open(scene) as src, torch.inference_mode():
        for n,(row,col,h,w) in enumerate(checked_windows(size, whole)):
            top,left = (max(o-READ, 0)//32*32 for o in (row, col))
            bottom,right = (min(-(-(o+READ)//32)*32, size) for o in (row+h, col+w))
            x = src.read(window=Window(left, top, right-left, bottom-top))
            x = np.where((x == 0).any(0), np.float32(0), info.normalise(x))
            out = torch.sigmoid(net(torch.from_numpy(x)[None]))[0,0].numpy()
            found[f'p{n}'] = out[row-top:row-top+h, col-left:col-left+w]
    np.savez(f'{path}.tmp.npz', **found)
    os.replace(f'{path}.tmp.npz', path)


def our_probabilities(scene, model, out, memory=1e9):
    "The tiles that the command line computes, with their probabilities as float32."
    import rasterio
    from rasterio.windows import Window
    from satseg.models.engines import load_engine
    from satseg.scenes.compute import TileMaker
    from satseg.scenes.plan import MapOptions
    from satseg.scenes.plan import SceneRun
    one = SceneRun(str(scene), load_engine(str(model)), str(model), MapOptions(memory=memory, polygons='none'))
    maker = TileMaker(one.plan, one.scene, one.engine)
    profile = dict(driver='GTiff', height=one.scene.height, width=one.scene.width, count=1, dtype='float32', tiled=True, compress='lzw', nodata=np.nan,
                   crs=one.scene.crs, transform=one.scene.transform)
    with rasterio.open(out/'probability.tif', 'w', **profile) as dst:
        for i in range(len(one.layout)):
            row,col,h,w = one.layout.tile(i)
            probs = maker.predict(i, maker.read(i))
            dst.write(np.full((h,w), np.nan, np.float32) if probs is None else probs[-1], 1, window=Window(col, row, w, h))


def compare(out, reference, size, whole, probability=None):
    """A class map (and probabilities) against the answer: shares and largest differences, everywhere and on the outermost ring; away from
    missing data, as every program fills it differently; and whether just the missing pixels are marked as missing."""
    import rasterio
    from rasterio.windows import Window
    res = dict(pixels=0, differ=0, clear=0, largest=0., ring_pixels=0, ring_differ=0, ring_largest=0.)
    ref,lost,marked,wrong = np.load(reference),0,0,0
    with rasterio.open(out) as src:
        if (src.height,src.width) != (size,size): return dict(error=f'the class map is {src.height} x {src.width}')
        for n,(row,col,h,w) in enumerate(checked_windows(size, whole)):
            rows,cols,window = row+np.arange(h),col+np.arange(w),Window(col, row, w, h)
            p,got,masked = ref[f'p{n}'],src.read(1, window=window),src.read_masks(1, window=window) == 0
            missing = no_data(rows, cols, size)
            lost,marked,wrong = lost+missing.sum(),marked+(masked & missing).sum(),wrong+(masked & ~missing).sum()
            judged = ~no_data(rows, cols, size, READ)
            ring = judged & (np.isin(rows, (0, size-1))[:,None] | np.isin(cols, (0, size-1)))
            differ = (got != (p >= .5)) & judged
            res['pixels'] += judged.sum(); res['differ'] += differ.sum(); res['clear'] += (differ & (abs(p-.5) > 1e-4)).sum()
            res['ring_pixels'] += ring.sum(); res['ring_differ'] += (differ & ring).sum()
            if not probability: continue
            with rasterio.open(probability) as prob:
                far = abs(prob.read(1, window=window).astype(np.float32)/(254 if prob.dtypes[0] == 'uint8' else 1) - p)
            far = np.nan_to_num(far, nan=1)
            res['largest'],res['ring_largest'] = max(res['largest'], far[judged].max(initial=0)),max(res['ring_largest'], far[ring].max(initial=0))
    if not res['pixels']: return dict(error='no pixel lies far enough from missing data to be judged: take a larger scene')
    if not probability: res['largest'] = res['ring_largest'] = None
    res = {k: v if v is None else float(v) if 'largest' in k else int(v) for k,v in res.items()}
    return dict(res, missing=int(lost), marked=int(marked), marked_wrongly=int(wrong))


def family(pid):
    "A process and all that came from it."
    parent = {}
    for o in os.listdir('/proc'):
        if o.isdigit():
            try: parent[int(o)] = int(Path(f'/proc/{o}/stat').read_text().rpartition(')')[2].split()[1])
            except OSError: pass
    found = [pid]
    for o in found: found += [k for k,v in parent.items() if v == o]
    return found


def memory(pid):
    "Resident bytes of a process, now and at its peak."
    try: lines = dict(o.split(':', 1) for o in Path(f'/proc/{pid}/status').read_text().splitlines())
    except OSError: return 0,0
    return tuple(int(lines[o].split()[0])*1024 if o in lines else 0 for o in ('VmRSS','VmHWM'))


def disk(*folders):
    "Bytes of all files below."
    total = 0
    for folder in folders:
        for root,_,names in os.walk(folder):
            for name in names:
                try: total += os.lstat(Path(root)/name).st_blocks*512
                except OSError: pass
    return total


def whole_process(command, out, tmp, log):
    "Run a command and watch it ten times a second (its children and its files twice): seconds, peak memory of all its processes, temporary disk."
    for o in (out, tmp): shutil.rmtree(o, ignore_errors=True); o.mkdir(parents=True)
    env = {**os.environ, 'PYTHONPATH':str(HERE.parent.parent), 'TMPDIR':str(tmp)}
    start = time.perf_counter()
    with open(log, 'w') as f: run = subprocess.Popen(shlex.split(command), stdout=f, stderr=subprocess.STDOUT, env=env)
    peak = used = count = 0
    pids = [run.pid]
    while True:
        if count % 5 == 0: pids,used = family(run.pid),max(used, disk(out, tmp))
        now = [memory(o) for o in pids]
        peak,count = max(peak, sum(o[0] for o in now), *(o[1] for o in now)),count+1
        try: run.wait(.1)
        except subprocess.TimeoutExpired: continue
        break
    seconds = time.perf_counter()-start
    left = disk(out)
    res = dict(seconds=seconds, memory=peak, temporary=max(used-left, 0), output=left)
    inside = re.search(r'(\d+)% of it inside the net', Path(log).read_text(errors='replace'))
    if inside: res['inside'] = int(inside[1])
    if run.returncode: res['error'] = ([o for o in Path(log).read_text(errors='replace').splitlines() if o.strip()] or ['no word'])[-1][:200]
    return res


def class_map(out):
    "The one-band uint8 GeoTIFF in a folder."
    import rasterio
    found = []
    for o in sorted(out.rglob('*.tif*')):
        with rasterio.open(o) as src:
            if (src.count,src.dtypes[0]) == (1,'uint8'): found.append(o)
    if len(found) != 1: raise SystemExit(f'{out}: expected one class map, got {", ".join(o.name for o in found) or "none"}')
    return found[0]


def probability_map(out):
    "The largest other GeoTIFF of one band: float32 from 0 to 1, or uint8 from 0 to 254."
    import rasterio
    for o in sorted(out.rglob('*.tif*'), key=lambda o: -o.stat().st_size):
        with rasterio.open(o) as src:
            if src.count == 1 and ('prob' in o.stem or src.dtypes[0] == 'float32'): return o
    raise SystemExit(f'{out}: expected a map of probabilities, there is none')


def versions(python):
    "Of the libraries that an interpreter has."
    code = f'import importlib.metadata as m, json\nd = {{}}\nfor o in {LIBRARIES!r}:\n try: d[o] = m.version(o)\n except m.PackageNotFoundError: pass\nprint(json.dumps(d))'
    return json.loads(subprocess.run([*shlex.split(python), '-c', code], capture_output=True, text=True, check=True).stdout)


def machine():
    "What the times were taken on."
    name = next((o.split(':')[1].strip() for o in Path('/proc/cpuinfo').read_text().splitlines() if o.startswith('model name')), platform.machine())
    return dict(cpu=name, cores=len(os.sched_getaffinity(0)), python=platform.python_version(), load=round(os.getloadavg()[0], 1))


def table(size, results):
    "Markdown: one line a contestant, medians."
    lines = [f'Scene of {size:,} x {size:,} pixels, 3 bands, uint16. Medians (slowest run in brackets).', '',
             '| | seconds | Mpixel/s | peak memory, MB | temporary disk, MB | largest difference | pixels of another class | outer ring | nodata kept |',
             '|---|--:|--:|--:|--:|--:|--:|---|---|']
    for name,o in results.items():
        good,c = [r for r in o['runs'] if 'error' not in r],o.get('compare', {})
        if not good: lines.append(f'| {name} | failed: {o["runs"][-1]["error"] if o["runs"] else ""} | | | | | | | |'); continue
        s,m,t = (statistics.median(r[k] for r in good) for k in ('seconds','memory','temporary'))
        cell = [f'{s:.1f} ({max(r["seconds"] for r in good):.1f})', f'{size*size/1e6/s:.3f}', f'{m/1e6:,.0f}', f'{t/1e6:,.0f}', *4*['']]
        if 'pixels' in c:
            far,ring = c['largest'],c['ring_largest']
            cell[4] = '–' if far is None else f'{far:.1e}'
            cell[5] = f'{c["differ"]/c["pixels"]:.1e}' if c['differ'] else '0'
            right = c['ring_differ'] == 0 if ring is None else ring <= 1e-3
            cell[6] = 'yes' if right else f'no ({c["ring_differ"]/max(c["ring_pixels"], 1):.1%} of classes'+('' if ring is None else f', {ring:.2f}')+')'
            cell[7] = 'yes' if c['marked'] == c['missing'] and not c['marked_wrongly'] else 'no'+(', and others marked' if c['marked_wrongly'] else '')
        elif 'error' in c: cell[4] = c['error']
        lines.append(f'| {name} | {" | ".join(cell)} |')
    inside = [f'{k} {statistics.median(r["inside"] for r in o["runs"])}' for k,o in results.items() if o['runs'] and all('inside' in r for r in o['runs'])]
    return '\n'.join(lines) + ('\n\nPercent of the time inside the net, as the program says: '+', '.join(inside)+'.' if inside else '')


def this(*args):
    "Run a part of this file as a process of its own, so that the one that measures stays small."
    env = {**os.environ, 'PYTHONPATH':str(HERE.parent.parent)}
    subprocess.run([sys.executable, __file__, *map(str, args)], check=True, env=env)


def run(a):
    "Everything."
    work = a.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model = (a.model or work/'model.pth').resolve()
    if not model.exists(): this('net', '--out', model)
    commands = dict(OURS, **{o: '{peers} {here}/peers.py '+o+' {scene} --model {model} --out {out}' for o in PEERS if a.peers})
    probs = dict({o: commands[o]+' --probability' for o in PEERS if o in commands}, satseg='{python} {here}/scenes.py ours --scene {scene} --model {model} --out {out}')
    commands.update(o.split('=', 1) for o in a.contestant)
    probs.update(o.split('=', 1) for o in a.probability)
    names = a.only or list(commands)
    info = dict(machine=machine(), here=versions(sys.executable), peers=versions(a.peers) if a.peers else {}, model=model.name)
    results,weights,first = {},zlib.crc32(model.read_bytes()),{}
    for size in (WARM, *a.sizes):
        scene,ref = work/f'scene_{size}.tif',work/f'answer_{size}_{weights:08x}_{a.whole}.npz'
        if not scene.exists(): this('scene', '--size', size, '--out', scene)
        if size != WARM and not ref.exists(): this('answer', '--size', size, '--scene', scene, '--model', model, '--whole', a.whole, '--out', ref)
        fill = lambda text, out: text.format(python=sys.executable, peers=a.peers, here=HERE, scene=scene, model=model, out=out)
        if size == WARM:
            for name in names:
                first[name] = whole_process(fill(commands[name], work/'out'/name), work/'out'/name, work/'tmp', work/f'{name}.log')
                print(f'first run, {size} pixels: {name}: {first[name]["seconds"]:.1f} s {first[name].get("error","")}', flush=True)
            continue
        results[size] = {o: dict(command=commands[o], runs=[]) for o in names}
        for turn in range(a.runs):
            for name in names:
                out = work/'out'/name
                res = whole_process(fill(commands[name], out), out, work/'tmp', work/f'{name}.log')
                results[size][name]['runs'].append(res)
                print(f'{size} {name} {turn+1}/{a.runs}: {res["seconds"]:.1f} s, {res["memory"]/1e6:,.0f} MB {res.get("error","")}', flush=True)
                if 'error' in res or turn < a.runs-1: continue
                found,prob = shutil.copy(class_map(out), work/'classes.tif'),None
                if name in probs and not a.classes_only:
                    again = whole_process(fill(probs[name], out), out, work/'tmp', work/f'{name}.log')
                    if 'error' in again: print(f'{size} {name}, probabilities: {again["error"]}', flush=True)
                    else: prob = probability_map(out)
                results[size][name]['compare'] = compare(found, ref, size, a.whole, prob)
                shutil.rmtree(out)
        print('\n'+table(size, results[size])+'\n', flush=True)
        (work/'results.json').write_text(json.dumps(dict(info, first=first, sizes=results), indent=1)+'\n')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    sub = p.add_subparsers(dest='what', required=True)
    q = sub.add_parser('run')
    q.add_argument('--work', type=Path, default=Path('runs/scenes'))
    q.add_argument('--sizes', type=int, nargs='+', default=[2048])
    q.add_argument('--runs', type=int, default=3)
    q.add_argument('--peers', help='the interpreter that has the other libraries')
    q.add_argument('--model', type=Path, help='a satseg model file with one logit; else a small one is made')
    q.add_argument('--only', nargs='+', help='names of contestants')
    q.add_argument('--contestant', action='append', default=[], metavar='NAME=COMMAND')
    q.add_argument('--probability', action='append', default=[], metavar='NAME=COMMAND')
    q.add_argument('--classes-only', action='store_true', help='leave out the runs that write probabilities')
    q.add_argument('--whole', type=int, default=2048, help='up to this size the answer is one pass over the whole array')
    for name in ('net','scene','answer','ours'):
        q = sub.add_parser(name)
        q.add_argument('--out', type=Path, required=True)
        if name in ('scene','answer'): q.add_argument('--size', type=int, required=True)
        if name in ('answer','ours'):
            for o in ('--scene','--model'): q.add_argument(o, type=Path, required=True)
        if name == 'answer': q.add_argument('--whole', type=int, default=2048)
    a = p.parse_args()
    if a.what == 'run': run(a)
    elif a.what == 'net': make_net(a.out)
    elif a.what == 'scene': make_scene(a.out, a.size)
    elif a.what == 'ours': our_probabilities(a.scene, a.model, a.out)
    else: make_reference(a.out, a.scene, a.model, a.size, a.whole)
