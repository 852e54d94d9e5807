#!/bin/sh
# Installs the tools of build.sh into node_modules/. Needs Node.js 20 or later with npm.
set -eu
cd "$(dirname "$0")"
# An older one installs without a word and fails at the build: npm leaves out the native parts that do not fit it.
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || {
    echo "Node.js 20 or later is needed, this is $(node --version)" >&2
    exit 1
}
[ -x node_modules/.bin/jco ] || npm install --no-audit --no-fund --no-package-lock
