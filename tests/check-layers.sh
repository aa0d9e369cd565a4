#!/usr/bin/env bash
# check-layers.sh: dependencies point down only (server -> api -> core; inside core by the table below), and each third-party
# header has one owner. Prints every offending include; exit 1 when there is one.
set -u
cd "$(dirname "$0")/.."
bad=0
complain() { echo "layers: $1" >&2; bad=1; }

# What a core module may include, besides itself.
declare -A may=(
    [base]=""
    [kernel]="base"
    [tensor]="base kernel"
    [media]="base kernel"
    [metric]="base kernel"
    [flow]="base kernel media"
    [store]="base"
    [net]="base kernel tensor media"
    [train]="base kernel tensor media metric net flow"
    [task]="base kernel tensor media metric net flow store train"
)
while IFS=: read -r file _ inc; do
    inc=$(sed -E 's/.*"([^"]+)".*/\1/' <<<"$inc")
    case "$file" in
    core/*)
        own=$(cut -d/ -f2 <<<"$file")
        case "$inc" in
        server/* | api/* | web/*) complain "$file includes $inc (points up)" ;;
        core/*)
            to=$(cut -d/ -f2 <<<"$inc")
            [ -n "${may[$own]+x}" ] || complain "$file: core/$own is not in the table of tests/check-layers.sh"
            [[ "$to" == "$own" || " ${may[$own]-} " == *" $to "* ]] || complain "$file includes $inc (core/$own may use: ${may[$own]-})"
            ;;
        esac
        ;;
    api/*) [[ "$inc" != server/* ]] || complain "$file includes $inc (points up)" ;;
    esac
done < <(grep -nHE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' -r core api server --include='*.[ch]' --include='*.cc' --include='*.cu' --include='*.cuh' 2>/dev/null)

# owner PATTERN FILES-REGEX: only files matching the regex may include <PATTERN...>.
owner() {
    while IFS=: read -r file _ inc; do
        [[ "$file" =~ $2 ]] || complain "$file includes ${inc#*include } (owned by $2)"
    done < <(grep -nHE "^[[:space:]]*#[[:space:]]*include[[:space:]]+<($1)" -r core api server --include='*.[ch]' --include='*.cc' --include='*.cu' 2>/dev/null)
}
owner 'microhttpd' '^server/'
owner 'sqlite3\.h|libpq' '^core/store/'
owner 'libav|libsw' '^core/media/'
owner 'archive\.h|archive_entry|png\.h|jpeglib|turbojpeg|libdeflate\.h' '^core/media/'
owner 'seccomp\.h' '^core/media/'
owner 'torch/|ATen/|c10/' '^core/tensor/[a-z_]*torch[a-z_]*\.(cc|h)$'
owner 'opencv' '^core/flow/'
owner 'openssl/' '^core/(base|store)/'
owner 'cuda' '^core/(kernel|tensor)/'
[ $bad -eq 0 ] && echo "layers: ok"
exit $bad
