"""Files that come with satseg."""
import subprocess
import sys
from pathlib import Path

import pytest

from satseg.core.errors import BadInput
from satseg.core.files import bundled_file


ROOT = Path(__file__).resolve().parent.parent.parent

def test_shipped_files_of_a_checkout():
    assert bundled_file('unet_model.pth') == ROOT/'unet_model.pth'
    for o in (ROOT/'nbs/recipes').iterdir(): assert bundled_file(f'recipes/{o.name}').samefile(o)


def test_shipped_files_of_an_installed_package(tmp_path):
    "As in a wheel: the package and its `shipped` folder, nothing beside it."
    import shutil
    shutil.copytree(ROOT/'satseg', tmp_path/'site'/'satseg')
    for name in ('unet_model.pth','recipes/ships.yaml'):
        (tmp_path/'site/satseg/shipped'/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'site/satseg/shipped'/name).write_bytes(b'')
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from satseg.core.files import bundled_file; assert 'torch' not in sys.modules\n"
            "for o in ('unet_model.pth','recipes/ships.yaml'): print(bundled_file(o))")
    done = subprocess.run([sys.executable, '-c', code, tmp_path/'site'], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path/'site/satseg/shipped'/o) for o in ('unet_model.pth','recipes/ships.yaml')], done.stderr


@pytest.mark.parametrize('name', ['nothing.pth', '', 'recipes', '../unet_model.pth', 'recipes/../../settings.ini', '/etc/passwd', 'setup.cfg'])
def test_shipped_gives_no_other_file(name):
    with pytest.raises(BadInput, match='comes with satseg'): bundled_file(name)
