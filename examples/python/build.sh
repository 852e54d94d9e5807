#!/bin/sh
# Builds python.wasm beside this script. Needs Python 3.10 or later with venv; pip brings the rest.
set -eu
cd "$(dirname "$0")"
[ -d .venv ] || { python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt; }
# --stub-wasi: Python's runtime would import files and sockets, which the host refuses; an adapter needs none.
.venv/bin/componentize-py -q -d ../../wit/0.1.0 -w marketplace-adapter componentize --stub-wasi adapter -o python.wasm
