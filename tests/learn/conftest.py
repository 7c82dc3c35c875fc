"""A small dataset, and a recipe that is trained on it in a second."""
import pytest

from satseg.data.synthetic import write_sample
from satseg.learn.recipes import recipe_from


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp('data')/'dataset.pickle'
    write_sample(path, n_train=8, n_val=2, size=32)
    return path


@pytest.fixture(scope='session')
def tiny():
    return recipe_from(dict(name='tiny', split=dict(valid=.3), model=dict(arguments=dict(widths=[8,16])), training=dict(lr=1e-2, bs=4, epochs=2)))
