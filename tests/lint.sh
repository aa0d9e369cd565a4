#!/usr/bin/env bash
# lint.sh CFLAGS: cppcheck and clang-tidy over the C sources; any finding fails.
set -uo pipefail
cd "$(dirname "$0")/.."
# lazy/ is made of symbols that only a build knows.
mapfile -t files < <(git ls-files 'core/*.c' 'api/*.c' 'server/*.c' ':!core/tensor/lazy/')
# Left to clang's path-sensitive analyser below, where cppcheck 2.10 mistakes compound literals, X-macros and out-parameters:
quiet=(uninitvar returnDanglingLifetime nullPointer memleak internalAstError)
cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr --suppress=missingIncludeSystem \
    "${quiet[@]/#/--suppress=}" --error-exitcode=1 -I. -j"$(nproc)" "${files[@]}" || exit 1
printf '%s\0' "${files[@]}" | xargs -0 -n4 -P"$(nproc)" sh -c 'clang-tidy-14 --quiet "$@" -- '"$1"' 2>/dev/null' sh | tee /tmp/clang-tidy.$$ | grep -E 'warning:|error:' 
found=$(grep -cE '(warning|error):' /tmp/clang-tidy.$$)
rm -f /tmp/clang-tidy.$$
echo "lint: $found finding(s)"
[ "$found" -eq 0 ]
