"""Fixtures shared by the guard tests."""
import os
from pathlib import Path

import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1') # Two workers on two cores: threads would wait for each other

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root():
    "The repository's root folder."
    return ROOT


@pytest.fixture
def real_data():
    "Folder of real images and masks (`SATSEG_DATA`, else ../shared/data); the test is skipped where there is none."
    path = Path(os.environ.get('SATSEG_DATA') or ROOT.parent/'shared'/'data')
    if not path.is_dir(): pytest.skip(f'no real data: SATSEG_DATA unset and {path} absent')
    return path
