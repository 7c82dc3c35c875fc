"""Class weights go by the pixels of train."""
import numpy as np
import pytest

from satseg.core.errors import BadInput
from satseg.learn.arguments import class_weights


def test_class_weights():
    assert class_weights([1,2], np.array([5,5])) == [1,2]
    assert class_weights('balanced', np.array([50,50])) == [1,1] and class_weights('balanced', np.array([30,10,0])) == pytest.approx([.5,1.5,0])
    with pytest.raises(BadInput, match='expected 2 numbers'): class_weights([1,2,3], np.array([5,5]))
