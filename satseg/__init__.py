"""Segment satellite and aerial images: chips and masks in, a map out. The names to start with, each imported when it is first used."""
__version__ = "0.1.0"

_HOMES = dict(load_dataset='data.datasets', sample_chips='data.synthetic', show_chips='data.chips', train='learn.fit',
              evaluate='evaluation.evaluate', report='evaluation.report', load_model='models.model_file',
              map_scenes='scenes.run', export_onnx='models.export')
__all__ = list(_HOMES)


def __getattr__(name):
    "The public name `name`, from the chapter that it stands in."
    if name not in _HOMES: raise AttributeError(f'module satseg has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'satseg.{_HOMES[name]}'), name)


def __dir__(): return sorted([*globals(), *__all__])
