#!/bin/sh
# Builds javascript.wasm beside this script. Needs Node.js 20 or later; npm brings the rest.
set -eu
cd "$(dirname "$0")"
[ -d node_modules ] || npm install --no-audit --no-fund --no-package-lock
npm run --silent build
