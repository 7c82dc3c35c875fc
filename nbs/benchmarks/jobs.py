"""Every job twice, in one run of one length: our recipe, and a plain segmentation_models.pytorch U-Net in a plain PyTorch loop.

    pip install segmentation_models_pytorch
    python nbs/benchmarks/jobs.py --data ../shared/data --out runs/jobs [--jobs ships clouds]

Both learn from the same windows, as many passes over them, and are judged on the same chips, which had no say in training (ours takes
its last weights and 0.5, or chooses both on chips to watch), by the same code, counts pooled over all pixels. The trivial answers stand
beside. The plain net: resnet34, no pretrained weights, Adam 1e-3, flips, batches as ours, bfloat16 where ours has it, threshold 0.5.
Writes OUT/JOB/{ours,plain.pth,plain.json,results.json} and prints markdown tables; what is there already is not trained again.
"""
import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from satseg.core.display import IGNORE
from satseg.data.arrays import Cache
from satseg.data.chips import Chips
from satseg.models.statistics import band_stats, normalise
from satseg.data.datasets import load_dataset
from satseg.evaluation.evaluate import choose_presence_threshold, evaluate, presence_probabilities
from satseg.models.model_info import ModelInfo
from satseg.evaluation.metrics import ProbabilityHistogram, class_table, scores
from satseg.models.unet import pad_to_multiple
from satseg.models.model_file import load_model
from satseg.models.predict import predict_chips
from satseg.learn.recipes import override, read_recipe
from satseg.learn.preparation import prepare_data, split_chips
from satseg.learn.run import run_recipe

RECIPES = Path(__file__).resolve().parent.parent/'recipes'
JOBS = dict( # Job -> recipe, folder of the data, shares of each table
    footprints_coco=('footprints','footprints_coco'), footprints_geotiff=('footprints_geotiff','footprints_geotiff'),
    landcover=('landcover','landcover'), ships=('ships','ships'), clouds=('clouds','clouds_landsat8'))


class Plain(nn.Module):
    "smp's U-Net on pictures of any size."
    def __init__(self, n_in, n_out):
        import segmentation_models_pytorch as smp
        super().__init__()
        self.net = smp.Unet('resnet34', encoder_weights=None, in_channels=n_in, classes=n_out)

    def forward(self, x): return self.net(pad_to_multiple(x, 32))[..., :x.shape[-2], :x.shape[-1]]


def train_plain(train, epochs, bs, seed, bf16):
    "The loop that people write: read, flip, step."
    torch.manual_seed(seed)
    rng,stats = np.random.default_rng(seed),band_stats(train)
    n_out = 1 if len(train.classes) == 2 else len(train.classes)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    net = Plain(len(train.bands), n_out).to(device)
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        net.train()
        order = rng.permutation(len(train))
        for start in range(0, len(order)-bs+1, bs):
            chips = [train[int(i)] for i in order[start:start+bs]]
            x = torch.from_numpy(np.stack([normalise(o.image, stats) for o in chips])).to(device)
            y = torch.from_numpy(np.stack([o.mask for o in chips]).astype(np.int64)).to(device)
            for dim in (-1,-2):
                if rng.random() < .5: x,y = x.flip(dim),y.flip(dim)
            with torch.autocast(device, torch.bfloat16, enabled=bf16): logits = net(x)
            known = y != IGNORE
            if n_out == 1: loss = nn.functional.binary_cross_entropy_with_logits(logits[:,0].float()[known], y[known].float())
            else: loss = nn.functional.cross_entropy(logits.float(), y, ignore_index=IGNORE)
            opt.zero_grad()
            loss.backward()
            opt.step()
    info = ModelInfo('UNet', dict(n_in=len(train.bands), n_out=n_out), list(train.bands), list(stats.mean), list(stats.std), list(train.classes),
                     threshold=.5 if n_out == 1 else None)
    return net.eval(), info


def row(result, info):
    "Scores of one net as plain values."
    total = result.total
    if isinstance(total, ProbabilityHistogram):
        res = dict({k: float(v) for k,v in total.at(info.threshold or .5).items()}, threshold=info.threshold or .5)
        res['trivial'] = {k: {n: float(x) for n,x in v.items()} for k,v in total.trivial().items()}
    else:
        *rows,macro,blind = class_table(total, info.classes)
        res = {f'iou {o["class"]}': float(o['iou']) for o in (*rows, macro)}
        res.update(accuracy=float(np.trace(total)/total.sum()), trivial={blind['class']: {k: float(blind[k]) for k in ('iou','accuracy')}})
    if result.objects is not None: res['objects'] = result.objects.scores()
    return res


def plain(recipe, path, out):
    "The plain net of a job, on the windows and chips of `recipe`; an earlier one in `out` is taken."
    if recipe.target.kind == 'borders':
        recipe = override(recipe, **{'target.kind':'mask', 'loss.name':'auto', 'loss.class_weights':None, 'loss.arguments':{}})
    m,t = prepare_data(recipe, path),recipe.training
    done = json.loads((out/'plain.json').read_text()) if (out/'plain.json').is_file() else {}
    if done and done['epochs'] != t.epochs: raise SystemExit(f'{out}: holds a run of {done["epochs"]} epochs, not {t.epochs}; take another --out')
    epochs,seconds = 0 if done else t.epochs,done.get('seconds')
    start = time.perf_counter()
    net,info = train_plain(m.train, epochs, t.bs, t.seed, t.precision == 'bf16')
    if epochs:
        seconds = round(time.perf_counter()-start)
        torch.save(net.state_dict(), out/'plain.pth')
        (out/'plain.json').write_text(json.dumps(dict(seconds=seconds, epochs=epochs))+'\n')
    net.load_state_dict(torch.load(out/'plain.pth', weights_only=True))
    info.min_area = recipe.target.min_area
    result = evaluate(net, info, m.test, bs=2)
    return net, info, m, dict(row(result, info), seconds=seconds)


def run_job(job, data, out, epochs=None):
    "Both nets of one job; gives what results.json holds."
    name,folder = JOBS[job]
    recipe = read_recipe(RECIPES/f'{name}.yaml')
    if epochs: recipe = override(recipe, epochs=epochs)
    if not (out/'ours'/'metrics.json').is_file(): run_recipe(recipe, data/folder, out/'ours', resume=(out/'ours').exists())
    done = json.loads((out/'ours'/'metrics.json').read_text())
    if done['epochs'] != recipe.training.epochs: raise SystemExit(f'{out}: holds a run of {done["epochs"]} epochs, not {recipe.training.epochs}; take another --out')
    seconds = done['seconds']
    net,info,m,theirs = plain(recipe, data/folder, out)
    ours,our_info = load_model(out/'ours'/'model.pth')
    our_info.min_area = recipe.target.min_area
    result = evaluate(ours, our_info, m.test, bs=2)
    res = dict(job=job, split=m.words, epochs=recipe.training.epochs, windows=len(m.train), seed=recipe.training.seed, machine=machine(),
               ours=dict(row(result, our_info), seconds=round(seconds)), plain=theirs)
    if job == 'ships': res['gate'] = two_steps(recipe, data/folder, out, dict(ours=(ours,our_info), plain=(net,info)), epochs)
    if job == 'clouds': res['sentinel2'] = {k: other_sensor(n, i, data) for k,(n,i) in dict(ours=(ours,our_info), plain=(net,info)).items()}
    (out/'results.json').write_text(json.dumps(res, indent=1)+'\n')
    return res


def two_steps(recipe, path, out, nets, epochs=None):
    "Ship F2 with and without the gate, whose operating point is chosen on the valid scenes."
    gate_recipe = read_recipe(RECIPES/'ships_presence.yaml')
    if epochs: gate_recipe = override(gate_recipe, epochs=epochs)
    if not (out/'gate'/'metrics.json').is_file(): run_recipe(gate_recipe, path, out/'gate', resume=(out/'gate').exists())
    done = json.loads((out/'gate'/'metrics.json').read_text())
    gate,info = load_model(out/'gate'/'model.pth')
    _,valid,test = split_chips(load_dataset(path, recipe.data.kind), recipe.split)
    seen,probs = (presence_probabilities(gate, info, o, bs=2) for o in (valid, test))
    res = dict(seconds=round(done['seconds']), valid=len(valid), test=len(test), gate={k: done[k] for k in ('accuracy','trivial')})
    for name,(net,net_info) in nets.items():
        f2 = [evaluate(net, net_info, o, bs=2).objects.f2 for o in (valid, test)] # As segmented, and of drawing nothing
        threshold = choose_presence_threshold(seen, f2[0]['connected components'], f2[0]['all empty'])
        seg,empty = (np.array(f2[1][k]) for k in ('connected components','all empty'))
        res[name] = dict(gate_threshold=threshold, f2=float(seg.mean()), f2_with_gate=float(np.where(probs >= threshold, seg, empty).mean()), f2_all_empty=float(empty.mean()))
    return res


def other_sensor(net, info, data):
    "The cloud net on Sentinel-2: digital numbers over 10,000 are reflectance, as Landsat's are here."
    raw = load_dataset(data/'clouds_sentinel2', bands=list(info.bands))['all']
    reflectance = Cache(lambda i: raw.raw(i)[0]/np.float32(1e4), len(raw), 0)
    chips = Chips(reflectance, raw.masks, raw.bands, ('clear','cloud'), raw.names, has_ignore=True)
    total = ProbabilityHistogram()
    for chip,probs in predict_chips(net, info, chips, bs=1): total.add((probs.argmax(0) == 1).astype(np.float32), chip.mask)
    return dict({k: float(v) for k,v in total.at(.5).items()}, trivial={k: float(v['iou']) for k,v in total.trivial().items()})


def machine():
    "What computed."
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return gpu or f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads'


def show(res):
    "Results of one job as lines of markdown."
    keys = [k for k in res['ours'] if k not in ('trivial','objects')]
    print(f"\n### {res['job']}: {res['split']}; {res['windows']} windows, {res['epochs']} epochs, seed {res['seed']}, {res['machine']}\n")
    print(f"| net | {' | '.join(keys)} |\n|---|{'--:|'*len(keys)}")
    for name in ('ours','plain'):
        print(f"| {name} | {' | '.join(f'{res[name][k]:.3f}' if k != 'seconds' else str(res[name][k]) for k in keys)} |")
    for name,o in res['ours']['trivial'].items(): print(f"| {name} | {' | '.join(f'{o[k]:.3f}' if k in o else '' for k in keys)} |")
    for name in ('ours','plain'):
        if 'objects' in res[name]: print(f'\nobjects, {name}: {json.dumps(res[name]["objects"])}')
    if 'gate' in res: print(f"\ntwo steps: {json.dumps(res['gate'])}")
    if 'sentinel2' in res: print(f"\nclouds_sentinel2: {json.dumps(res['sentinel2'])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('../shared/data'))
    parser.add_argument('--out', type=Path, default=Path('runs/jobs'))
    parser.add_argument('--jobs', nargs='+', choices=list(JOBS), default=list(JOBS))
    parser.add_argument('--epochs', type=int, help='another length for both, to try things out')
    args = parser.parse_args()
    for job in args.jobs:
        out = args.out/job
        out.mkdir(parents=True, exist_ok=True)
        show(run_job(job, args.data, out, args.epochs))


if __name__ == '__main__': main()
