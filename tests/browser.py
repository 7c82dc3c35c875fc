"""A real browser for tests: Debian's Chromium driven by playwright, and servers that surely end.

    from browser import browser_page, needs_browser, serve, shot

    @needs_browser('voila')                                     # skips, saying why, where something is missing
    def test_page(tmp_path):
        with serve(['python', '-m', 'satseg.app', '--port', '{port}', '--no-browser'], 'http://127.0.0.1:{port}/') as server, \\
                browser_page(tmp_path) as page:
            page.goto(server.url)
            page.get_by_text('...').wait_for()                  # playwright's sync API
            shot(page, 'app_first')                             # a PNG in the folder that SATSEG_SCREENSHOTS names, if it names one
            path = download(page, tmp_path, lambda: page.get_by_text('mask').click())
            assert page.problems == [], server.log()            # errors of scripts, of the console, and calls to the network

A first 'python' in a command is the Python that runs the tests. Nothing but loopback can be reached from the page.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = re.compile(r'^(https?|wss?)://(127\.0\.0\.1|localhost|\[::1\])[:/]')
HARMLESS = (r'favicon\.ico', r'\[Violation\]', r'Lumino|deprecated|DevTools') # Of JupyterLab and voila themselves


def chromium():
    "Path of a Chromium that the system brought, or None."
    return next((o for o in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')) if o), None)


def missing(*packages):
    "Why no browser test can run here, or None."
    lacks = [o for o in ('playwright', *packages) if not find_spec(o)]
    if lacks: return f'pip install {" ".join(lacks)}: not installed here'
    return None if chromium() else 'no Chromium on this machine: apt-get install chromium'


def needs_browser(*packages):
    "A mark: skip, saying why, where Chromium, playwright or one of `packages` is absent."
    why = missing(*packages)
    return pytest.mark.skipif(why is not None, reason=why or '')


@contextmanager
def browser_page(downloads=None, width=1280, height=800, harmless=()):
    "A fresh page in headless Chromium. `page.problems` collects what went wrong in it, but for lines that match `harmless`."
    why = missing()
    if why: pytest.skip(why)
    from playwright.sync_api import sync_playwright
    quiet = re.compile('|'.join((*HARMLESS, *harmless)), re.I)
    problems = []
    def note(kind, text):
        if not quiet.search(text): problems.append(f'{kind}: {text}')
    def refuse(route):
        note('network', route.request.url)
        route.abort()
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
                                    downloads_path=None if downloads is None else str(downloads))
        context = browser.new_context(viewport=dict(width=width, height=height), accept_downloads=True)
        context.route(lambda url: url.startswith(('http:', 'https:')) and not LOOPBACK.match(url), refuse)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.problems = problems
        page.on('pageerror', lambda e: note('script', str(e)))
        page.on('console', lambda m: note('console', f'{m.text} {m.location.get("url", "")}') if m.type == 'error' else None)
        try: yield page
        except BaseException:
            shot(page, 'failed')
            raise
        finally: browser.close()


def shot(page, name, full=False):
    "Save a picture of the page as NAME.png where SATSEG_SCREENSHOTS says; without it, nothing."
    folder = os.environ.get('SATSEG_SCREENSHOTS')
    if not folder: return
    Path(folder).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(Path(folder)/f'{name}.png'), full_page=full)


def download(page, folder, act):
    "What `act()` makes the page download, saved in `folder` under the name that the page gives it."
    with page.expect_download() as d: act()
    path = Path(folder)/d.value.suggested_filename
    d.value.save_as(path)
    return path


def free_port():
    "A port of loopback that nobody listens on."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    "A running server: `url`, `port`, `log()` is what it has printed so far."
    def __init__(self, process, url, port, path): self.process,self.url,self.port,self.path = process,url,port,path
    def log(self): return self.path.read_text(errors='replace')


def predict_batch(url):
    "Whether a server answers at `url`, whatever it says."
    try: urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as e: return e.code < 500
    except OSError: return False
    return True


def _die_with_parent():
    "Linux: end this process if the tests are killed."
    if sys.platform == 'linux':
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def stop(process, patience=10):
    "End `process`, and every process it started (kernels have groups of their own): politely, then surely."
    import psutil
    try: family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess: family = []
    process.terminate()
    psutil.wait_procs(family, timeout=patience)
    for o in family:
        try: o.kill()
        except psutil.NoSuchProcess: pass
    process.wait()


@contextmanager
def serve(cmd, url, folder=None, env=None, patience=120):
    "Start `cmd`, wait until `url` answers, yield a `Server`, end it. '{port}' in both is a free port; `folder` is its current one."
    import tempfile
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        fill = lambda o: str(o).replace('{port}', str(port))
        cmd,url,path = [fill(o) for o in cmd],fill(url),Path(home)/'log.txt'
        if cmd[0] == 'python': cmd[0] = sys.executable
        own = {f'JUPYTER_{o}_DIR': f'{home}/{o}' for o in ('CONFIG', 'DATA', 'RUNTIME')} # Nothing of the user's, and nothing left behind
        paths = os.pathsep.join(o for o in (str(ROOT), os.environ.get('PYTHONPATH')) if o)
        env = {**os.environ, **own, 'IPYTHONDIR': f'{home}/ipython', 'PYTHONPATH': paths, 'PYTHONUNBUFFERED': '1', **(env or {})}
        with open(path, 'wb') as out:
            process = subprocess.Popen(cmd, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent)
        server = Server(process, url, port, path)
        try:
            end = time.monotonic() + patience
            while not predict_batch(url):
                if process.poll() is not None: raise RuntimeError(f'{cmd[0]} ended with {process.returncode} before {url} answered:\n{server.log()}')
                if time.monotonic() > end: raise TimeoutError(f'{url} did not answer within {patience} s:\n{server.log()}')
                time.sleep(.2)
            yield server
        finally: stop(process)
