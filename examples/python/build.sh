#!/bin/sh
# Builds python.wasm beside this script.
set -eu
cd "$(dirname "$0")"
./install.sh
# --stub-wasi: Python's runtime would import files and sockets, which the host refuses; an adapter needs none.
.venv/bin/componentize-py -q -d ../../wit/0.1.0 -w marketplace-adapter componentize --stub-wasi adapter -o python.wasm
