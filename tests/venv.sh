#!/usr/bin/env bash
# venv.sh DIR: a virtualenv with tests/requirements.txt; made again when that file changes.
set -euo pipefail
here=$(dirname "$0")
want=$(sha256sum <"$here/requirements.txt")
[ "$(cat "$1/.made-from" 2>/dev/null)" = "$want" ] && exit 0
rm -rf "$1"
/usr/bin/python3 -m venv "$1"
"$1/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
echo "$want" >"$1/.made-from"
