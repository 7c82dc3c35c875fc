#!/usr/bin/env bash
# pystac-client 0.9.1: the retries of `StacApiIO(max_retries=5)`, which is also the default, never help a search, which is a POST unless
# told otherwise: one dropped connection, or one 503, ends it with an APIError. As GET the search survives the dropped connection, but
# not the 503. An own `Retry(allowed_methods=None, status_forcelist=[503])` survives both, either way.
# Exit status 0 while it is so, 1 where it has changed. Installs into a temporary folder; needs Python 3.11 or newer and pip. The server
# is this script's own, on 127.0.0.1.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"${PYTHON:-python3}" -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check pystac-client==0.9.1 pystac==1.15.1
cd "$tmp"
venv/bin/python - <<'PY'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

seen = []

class Catalogue(BaseHTTPRequestHandler):
    "A STAC API of one page; the first search is answered by 503, or not at all."
    fault = None
    def log_message(self, *args): pass

    def answer(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        searched = self.path.startswith('/search')
        if searched: seen.append(self.command)
        first = searched and len(seen) == 1
        if first and self.fault == 'dropped':
            self.close_connection = True
            return self.connection.close()
        status = 503 if first else 200
        here = f'http://{self.headers["Host"]}'
        links = [dict(rel='self', href=here), dict(rel='root', href=here),
                 *(dict(rel='search', href=f'{here}/search', type='application/geo+json', method=o) for o in ('GET','POST'))]
        root = dict(type='Catalog', stac_version='1.0.0', id='loopback', description='one page', links=links,
                    conformsTo=['https://api.stacspec.org/v1.0.0/core', 'https://api.stacspec.org/v1.0.0/item-search'])
        body = json.dumps(dict(type='FeatureCollection', features=[], links=[]) if searched else root).encode()
        self.send_response(status)
        for name,value in (('Content-Type', 'application/json'), ('Content-Length', str(len(body)))): self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

server = ThreadingHTTPServer(('127.0.0.1', 0), Catalogue)
threading.Thread(target=server.serve_forever, daemon=True).start()
print('pystac-client', version('pystac-client'))

def search(fault, method, retries):
    "Whether a search gets through, and which requests the server saw."
    seen.clear()
    Catalogue.fault = fault
    client = Client.open(f'http://127.0.0.1:{server.server_port}', stac_io=StacApiIO(max_retries=retries))
    options = {} if method is None else dict(method=method)
    try: result = f'{len(list(client.search(collections=["any"], **options).items()))} items'
    except APIError: result = 'APIError'
    print(f'  {fault}, {method or "default"}, {"own Retry" if isinstance(retries, Retry) else retries}: {result}; the server saw {seen}')
    return result == '0 items'

own = Retry(5, backoff_factor=.1, allowed_methods=None, status_forcelist=[503])
found = [search(*o) for o in (('dropped', None, 5), ('503', None, 5), ('dropped', 'GET', 5), ('503', 'GET', 5), ('dropped', None, own), ('503', None, own))]
raise SystemExit(found != [False, False, True, False, True, True])
PY
