#!/usr/bin/env bash
# demo.sh: starts the service on a free port with a data directory of its own, POSTs a clip as a client would, waits for the job and
# saves its maps and overlay video. `make demo` runs it with the bundled clip; CLIP=FILE takes another.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
clip=${CLIP:-tests/data/demo.mp4}
out=${OUT:-$build/demo}
work=$(mktemp -d)
server=

finish() {
    local rc=$?
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -TERM "$server"
        wait "$server" || true
    fi
    [ $rc -eq 0 ] || { echo "demo: failed; the service's last lines:" >&2; tail -n 20 "$work/log" >&2 || true; }
    rm -rf "$work"
    exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

field() { # NAME: a string or number of the JSON object on standard input, outermost first occurrence
    grep -oE "\"$1\": *(\"[^\"]*\"|[0-9.]+)" | head -n 1 | sed -E 's/^"[^"]*": *//; s/"//g'
}

docker/deps.sh demo
mkdir -p "$out"
"$build/salient" serve --listen 127.0.0.1:0 --data "$work/data" --workers 1 2>"$work/log" &
server=$!

url=
for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || exit 1
    url=$(sed -nE 's/.*msg=listening.* url=([^ ]+).*/\1/p' "$work/log" | head -n 1)
    [ -n "$url" ] && curl -fs -o /dev/null "$url/readyz" && break
    sleep 0.2
done
curl -fsS -o /dev/null "$url/readyz"
echo "demo: the service is ready at $url"

job=$(curl -fsS -X POST -H 'Content-Type: video/mp4' --data-binary "@$clip" "$url/v1/saliency?overlay=true")
id=$(field id <<<"$job")
echo "demo: posted $clip as job $id"

shown=
for _ in $(seq 7200); do
    job=$(curl -fsS "$url/v1/jobs/$id")
    state=$(field state <<<"$job")
    done=$(field done <<<"$job")
    step="$state $((${done:-0} / 10))"
    [ "$step" = "$shown" ] || echo "demo: $state, ${done:-0} of $(field total <<<"$job") frames"
    shown=$step
    case "$state" in
    succeeded) break ;;
    failed | canceled) echo "$job" >&2; exit 1 ;;
    esac
    sleep 0.5
done
[ "$state" = succeeded ]

curl -fsS -o "$out/maps.zip" "$url/v1/jobs/$id/maps.zip"
curl -fsS -o "$out/overlay.mp4" "$url/v1/jobs/$id/overlay.mp4"
curl -fsS -o "$out/map-00000.png" "$url/v1/jobs/$id/maps/0.png"
echo "demo: maps in $out/maps.zip, the clip with the maps over it in $out/overlay.mp4"
