# shellcheck shell=bash
# The start of each script of findings: a temporary folder, which is the working directory and is removed at the end, and in it
# a Python environment with the packages of the arguments. Background jobs are ended too.
set -euo pipefail
folder="$(mktemp -d)"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "$@"
