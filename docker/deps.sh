#!/usr/bin/env bash
# deps.sh build|test: install the Debian packages of packages-<set>.txt that are missing. Quick and silent when nothing is.
set -euo pipefail
cd "$(dirname "$0")"
[ -f "packages-${1:?build or test}.txt" ] || { echo "deps: no such set: $1" >&2; exit 1; }
mapfile -t want < <(grep -v '^#' "packages-$1.txt")
missing=()
for p in "${want[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
# apt waits for its lock: two targets of one parallel make may ask at once.
sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get -o DPkg::Lock::Timeout=600 update -q
"${sudo[@]}" apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "${missing[@]}"
