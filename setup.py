"""Package metadata, read from settings.ini so that every name and version range stands in one place."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

extras = {name: cfg[f'{name}_requirements'].split() for name in ('geo','onnx','scale')}
all_extras = [o for needs in extras.values() for o in needs]

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0',
    packages=['satseg'], python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(), extras_require={**extras, 'all': all_extras, 'dev': cfg['dev_requirements'].split() + all_extras})
