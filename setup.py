"""Package metadata, read from settings.ini so that every name and version range stands in one place."""
import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
home = cfg['git_url']
site = f"{cfg['doc_host']}{cfg['doc_baseurl']}"

# Links of README lead into the repository, from wherever it is shown
readme = re.sub(r'(!?)\[([^\]]*)\]\((?!https?:|#)', lambda m: f"{m[0]}{home}/{'raw' if m[1] else 'blob'}/{cfg['branch']}/",
                (here/'README.md').read_text(encoding='utf-8'))
extras = {name: cfg[f'{name}_requirements'].split() for name in ('geo','onnx','app','scale','pretrained')}
all_extras = [o for needs in extras.values() for o in needs]
scripts = dict(predict='inference', train='training', scene='scene', app='app')


class BuildPy(build_py):
    "Put the model and the recipes into the wheel as `satseg/shipped`; a checkout and an editable install read the originals."
    def run(self):
        if not self.editable_mode: shutil.rmtree(Path(self.build_lib)/'satseg', ignore_errors=True) # Left by an earlier build: modules since removed
        super().run()
        for source,target in self.shipped().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(str(source), target)

    def shipped(self):
        "File -> its copy."
        if self.editable_mode: return {}
        folder = Path(self.build_lib)/'satseg'/'shipped'
        recipes = {o: str(folder/'recipes'/o.name) for o in sorted((here/'nbs'/'recipes').glob('*.yaml'))}
        return {here/'unet_model.pth': str(folder/'unet_model.pth'), **recipes}

    def get_outputs(self, include_bytecode=1): return super().get_outputs(include_bytecode) + list(self.shipped().values())


setup(
    name=cfg['dist_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    long_description=readme, long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], url=home,
    project_urls={'Documentation': site, 'Source': home, 'Issues': f'{home}/issues', 'Changes': f"{home}/blob/{cfg['branch']}/CHANGELOG.md"},
    license_expression='Apache-2.0', license_files=['LICENSE'],
    classifiers=['Development Status :: 3 - Alpha', 'Framework :: Jupyter', 'Intended Audience :: Science/Research', 'Natural Language :: English',
        'Operating System :: OS Independent', 'Programming Language :: Python :: 3', 'Programming Language :: Python :: 3 :: Only', *(f'Programming Language :: Python :: 3.{n}' for n in (11,12,13)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence', 'Topic :: Scientific/Engineering :: GIS',
        'Topic :: Scientific/Engineering :: Image Processing', 'Typing :: Typed'],
    packages=find_packages(include=['satseg','satseg.*']), package_data={'satseg': ['py.typed'], 'satseg.models': ['*.jinja'], 'satseg.evaluation': ['*.jinja'], 'satseg.page': ['*.js','*.css','*.jinja']}, include_package_data=False, zip_safe=False, cmdclass={'build_py': BuildPy},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(), extras_require={**extras, 'all': all_extras, 'dev': cfg['dev_requirements'].split() + all_extras},
    entry_points={'console_scripts': [f'satseg-{name} = satseg.{module}:main' for name,module in scripts.items()]})
