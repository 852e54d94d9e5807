#!/bin/sh
# Installs the tools of build.sh into .venv/. Needs Python 3.10 or later with venv and pip.
set -eu
cd "$(dirname "$0")"
[ -x .venv/bin/componentize-py ] || { python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt; }
