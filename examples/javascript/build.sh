#!/bin/sh
# Builds javascript.wasm beside this script.
set -eu
cd "$(dirname "$0")"
./install.sh
npm run --silent build
