"""Segment satellite and aerial images: chips and masks in, a map out.

    import satseg
    chips = satseg.sample_chips(80, size=128)        # yours: satseg.load_dataset(path)['train']
    satseg.show_chips(chips)
    learn, info = satseg.train(chips[:56], chips[56:64], 'runs/first', epochs=12)
    result = satseg.evaluate(learn.model, info, chips[64:])
    satseg.report(result, 'runs/first/report')
    satseg.predict('scene.tif', 'runs/first/model.pth')            # a picture: its mask
    satseg.map_scenes('scene.tif', 'runs/first/model.pth', 'maps') # any size: map, polygons, areas

Without a model, `predict` and `map_scenes` take the one that comes along. `help(satseg.train)`, or `satseg.train?`
in Jupyter, says what each argument is. Each name is imported when it is first used.
"""
__version__ = "0.1.0"

_HOMES = dict(load_dataset='data.datasets', sample_chips='data.synthetic', show_chips='data.chips', train='learn.fit',
              evaluate='evaluation.evaluate', report='evaluation.report', load_model='models.model_file',
              predict='scenes.prediction', map_scenes='scenes.run', export_onnx='models.export')
__all__ = list(_HOMES)


def __getattr__(name):
    "The public name `name`, from the chapter that it stands in, its arguments explained in its docstring."
    if name not in _HOMES: raise AttributeError(f'module satseg has no attribute {name!r}; it has {", ".join(_HOMES)}')
    from importlib import import_module
    from satseg.core.commands import document_arguments
    globals()[name] = document_arguments(getattr(import_module(f'satseg.{_HOMES[name]}'), name))
    return globals()[name]


def __dir__(): return ['__doc__', '__file__', '__name__', '__path__', '__version__', *__all__]
