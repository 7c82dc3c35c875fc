"""One net over one scene by other people's means: what `scenes.py` compares with. One function a peer, each as its documentation has it.

    python nbs/benchmarks/peers.py NAME SCENE --model M --out DIR [--window 512] [--overlap 64] [--batch 1] [--probability]

NAME: plain, torchgeo, geoai, geoai_half, omnicloudmask, rastervision. Writes DIR/classes.tif (raster-vision: DIR/labels.tif), or with
--probability DIR/probability.tif. All take the net of the same model file (`load` below), in float32, with the readings normalised as
the file says; none is changed, but for OmniCloudMask, which would normalise every patch by itself: see there.
"""
import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import nn


class Readings(nn.Module):
    "The net on readings as they are stored (`scale`: times so much), one logit; or two, for programs that take a softmax."
    def __init__(self, net, info, scale=1., two=False):
        super().__init__()
        self.net,self.two = net,two
        mean,std = (torch.tensor(o, dtype=torch.float32)[:,None,None] for o in (info.mean, info.std))
        self.register_buffer('mean', mean/scale)
        self.register_buffer('std', std/scale)

    def forward(self, x):
        out = self.net((x-self.mean)/self.std)
        return torch.cat([torch.zeros_like(out), out], 1) if self.two else out


def load(path):
    "The net of a model file and what the file says: the one place that makes the net, for every peer."
    from satseg.models.model_file import load_model
    net,info = load_model(path)
    return net.eval(), info


def plain(a):
    "The loop that people write: windows side by side, no overlap."
    net = Readings(*load(a.model))
    with rasterio.open(a.scene) as src, rasterio.open(a.file, 'w', **like(src, a)) as dst, torch.inference_mode():
        for row in range(0, src.height, a.window):
            for col in range(0, src.width, a.window):
                window = Window(col, row, min(a.window, src.width-col), min(a.window, src.height-row))
                x = torch.from_numpy(src.read(window=window).astype(np.float32))
                dst.write(answer(net(x[None])[0,0], a).numpy(), 1, window=window)


def torchgeo(a):
    """RasterDataset and GridGeoSampler, the grid overlapping; of each patch the centre is kept, up to the edge where the scene ends.
    https://torchgeo.readthedocs.io/en/stable/api/samplers.html#torchgeo.samplers.GridGeoSampler"""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler
    net = Readings(*load(a.model))
    data = RasterDataset(str(a.scene))
    loader = DataLoader(data, batch_size=a.batch, sampler=GridGeoSampler(data, a.window, a.window-a.overlap), collate_fn=stack_samples)
    crop = a.overlap//2
    with rasterio.open(a.scene) as src, rasterio.open(a.file, 'w', **like(src, a)) as dst, torch.inference_mode():
        for batch in loader:
            for out,(x,y,_) in zip(answer(net(batch['image'])[:,0], a).numpy(), batch['bounds']):
                col,row = (round(o) for o in ~src.transform*(x.start, y.stop))
                top,left = max(row+crop, 0) if row > 0 else 0,max(col+crop, 0) if col > 0 else 0
                bottom = row+a.window-crop if row+a.window < src.height else src.height
                right = col+a.window-crop if col+a.window < src.width else src.width
                dst.write(out[top-row:bottom-row, left-col:right-col], 1, window=Window(left, top, right-left, bottom-top))


def geoai(a):
    "`predict_geotiff` (its tiles and overlap are 256 and 64 unless told), spline weights as it has them, logits blended."
    from geoai.inference import predict_geotiff
    net,info = load(a.model)
    mean,std = (np.array(o, np.float32)[:,None,None] for o in (info.mean, info.std))
    predict_geotiff(net, str(a.scene), str(a.file), tile_size=a.window, overlap=a.overlap, batch_size=a.batch, preprocess_fn=lambda x: (x-mean)/std,
                    postprocess_fn=lambda out: answer(torch.from_numpy(out), a).numpy(), output_dtype=like(None, a)['dtype'], output_nodata=255)


def geoai_half(a):
    "`semantic_inference_on_geotiff` as it comes: windows of 512 that overlap by half, probabilities averaged; it divides by 255."
    from geoai.train import semantic_inference_on_geotiff
    net = Readings(*load(a.model), scale=255, two=True)
    maps = dict(probability_path=str(a.out/'both.tif')) if a.probability else {}
    semantic_inference_on_geotiff(net, str(a.scene), str(a.out/'classes.tif'), batch_size=a.batch, quiet=True, **maps)
    if a.probability: second_band(a.out/'both.tif', a)


def omnicloudmask(a):
    """`predict_from_load_func` with a net of ours, patches of 1,000 that overlap by 300 as it comes, logits averaged.
    It brings each patch to mean 0 and deviation 1 by itself, which its own nets were trained for: here it normalises as the model file says."""
    from omnicloudmask import predict_from_load_func, raster_utils
    net,info = load(a.model)
    mean,std = (np.array(o, np.float32)[:,None,None] for o in (info.mean, info.std))
    raster_utils.channel_norm = lambda patch, nodata: np.where(patch == nodata, np.float32(0), (patch-mean)/std)
    both = nn.Sequential(net, Both()).eval()
    def read(input_path):
        with rasterio.open(input_path) as src: return src.read(), src.profile
    found, = predict_from_load_func([a.scene], read, batch_size=a.batch, custom_models=both, pred_classes=2, output_dir=a.out,
                                    export_confidence=a.probability, softmax_output=False)
    if a.probability: second_band(found, a, logits=True)
    else: found.rename(a.file)


class Both(nn.Module):
    "One logit as two, whose softmax is its sigmoid."
    def forward(self, x): return torch.cat([torch.zeros_like(x), x], 1)


def rastervision(a):
    "`predict_scene_ss` as its pipeline calls it: overlapping chips, edges cropped off (`crop_sz='auto'`). It divides by 65,535, and brings chips to 256 pixels unless told."
    from rastervision.core.data import ClassConfig, RasterioSource, Scene, SemanticSegmentationLabelStore
    from rastervision.core.rv_pipeline import SemanticSegmentationPredictOptions
    from rastervision.pytorch_learner import SemanticSegmentationGeoDataConfig, SemanticSegmentationLearner, SemanticSegmentationLearnerConfig
    from rastervision.pytorch_learner.utils import predict_scene_ss
    net,info = load(a.model)
    classes = ClassConfig(names=list(info.classes), null_class=info.classes[0])
    cfg = SemanticSegmentationLearnerConfig(data=SemanticSegmentationGeoDataConfig(class_config=classes, img_sz=a.window, num_workers=0))
    learner = SemanticSegmentationLearner(cfg, model=Readings(net, info, 65535, two=True), training=False)
    source = RasterioSource(str(a.scene), channel_order=[0,1,2])
    store = SemanticSegmentationLabelStore(str(a.out), source.crs_transformer, classes, discrete_output=not a.probability, smooth_output=a.probability)
    options = SemanticSegmentationPredictOptions(chip_sz=a.window, stride=a.window-a.overlap, crop_sz='auto', batch_sz=a.batch)
    store.save(predict_scene_ss(learner, Scene('scene', source, label_store=store), options))
    if a.probability: second_band(a.out/'scores.tif', a)


def like(src, a):
    "What the output file is: the scene's grid, one band of classes or probabilities."
    grid = dict(driver='GTiff', height=src.height, width=src.width, crs=src.crs, transform=src.transform, tiled=True, compress='lzw') if src else {}
    return dict(grid, count=1, dtype='float32' if a.probability else 'uint8')


def answer(logits, a):
    "Probabilities, or class 1 where they reach a half."
    return torch.sigmoid(logits) if a.probability else (logits >= 0).to(torch.uint8)


def second_band(path, a, logits=False):
    "Keep the probability of class 1 of a file that holds both classes'."
    with rasterio.open(path) as src:
        both = src.read().astype(np.float32)
        profile = like(src, a)
    with rasterio.open(a.file, 'w', **profile) as dst: dst.write(1/(1+np.exp(both[0]-both[1])) if logits else both[1], 1)
    Path(path).unlink()


if __name__ == '__main__':
    peers = {o.__name__: o for o in (plain, torchgeo, geoai, geoai_half, omnicloudmask, rastervision)}
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('peer', choices=peers)
    p.add_argument('scene', type=Path)
    p.add_argument('--model', type=Path, required=True)
    p.add_argument('--out', type=Path, required=True)
    p.add_argument('--window', type=int, default=512)
    p.add_argument('--overlap', type=int, default=64)
    p.add_argument('--batch', type=int, default=1)
    p.add_argument('--probability', action='store_true')
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.file = args.out/('probability.tif' if args.probability else 'classes.tif')
    peers[args.peer](args)
