#!/bin/sh
# Installs the tools of build.sh into node_modules/. Needs Node.js 20 or later with npm.
set -eu
cd "$(dirname "$0")"
[ -x node_modules/.bin/jco ] || npm install --no-audit --no-fund --no-package-lock
