#!/usr/bin/env bash
# run-unit.sh BINARY...: run each cmocka binary, print its failures, close with a total. Exit 1 on any failure or on no test.
set -u
pass=0 fail=0
for t in "$@"; do
    out=$("$t" 2>&1); rc=$?
    p=$(grep -c '^\[ *OK *\]' <<<"$out") f=$(grep -c '^\[ *FAILED *\] [^0-9]' <<<"$out")
    pass=$((pass + p))
    if [ $rc -ne 0 ]; then
        [ "$f" -gt 0 ] || f=1
        fail=$((fail + f))
        printf '%s\n-- %s: exit %d\n' "$out" "$t" "$rc"
    else
        echo "  ok   ${t##*/unit/} ($p)"
        grep -E '^\[ *SKIPPED|SKIP' <<<"$out" || true
    fi
done
echo "unit: $pass passed, $fail failed"
[ $fail -eq 0 ] && [ $pass -gt 0 ]
