#!/usr/bin/env bash
# compdb.sh CFLAGS CXXFLAGS: compile_commands.json on standard output.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.c' '*.cc' | jq -Rn --arg dir "$PWD" --arg c "$1" --arg cxx "$2" \
    '[inputs | {directory: $dir, file: ., command: (if endswith(".c") then "gcc " + $c else "g++ " + $cxx end + " -c " + .)}]'
