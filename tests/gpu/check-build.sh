#!/usr/bin/env bash
# check-build.sh OBJECTS: the CUDA kernels compile, every __global__ function has code for every architecture, and PTX is there for later
# ones. Needs nvcc and cuobjdump, no GPU and no CUDA libtorch. Without nvcc it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v "$NVCC" >/dev/null; then
    echo "check-cuda: SKIPPED: no nvcc here; the CUDA kernels are NOT compiled" >&2
    exit 0
fi
read -r -a objects <<<"$1"
make --no-print-directory WERROR=1 "${objects[@]}"
# cuobjdump: named, of the toolkit, or from PyPI into the build folder.
dump=${CUOBJDUMP:-$(command -v "$(dirname "$(command -v "$NVCC")")/cuobjdump" cuobjdump | head -1 || true)}
tools=${objects[0]%%/cuda/*}/cuda/tools
if [ -z "$dump" ]; then
    [ -d "$tools" ] || "${PIP:-pip3}" install -q --disable-pip-version-check --target "$tools" nvidia-cuda-cuobjdump==13.4.92 >&2 || rm -rf "$tools"
    dump=$(find "$tools" -name cuobjdump -type f 2>/dev/null | head -1)
fi
if [ -z "$dump" ]; then
    echo "check-cuda: SKIPPED: the kernels compiled, but there is no cuobjdump to look for them per architecture" >&2
    exit 0
fi
chmod +x "$dump"
bad=0
for o in "${objects[@]}"; do
    source=${o#*/cuda/}
    source=${source%.o}
    mapfile -t kernels < <(sed -nE 's/^__global__ void ([a-z_0-9]+)\(.*/\1/p' "$source")
    [ ${#kernels[@]} -gt 0 ] || { echo "check-cuda: no kernel in $source" >&2; bad=1; }
    symbols=$("$dump" --dump-elf-symbols "$o" 2>/dev/null)
    ptx=$("$dump" --dump-ptx "$o" 2>/dev/null)
    for k in "${kernels[@]}"; do
        for arch in $GPU_ARCHS; do
            # the listing of one architecture's code, from its headline to the next
            awk -v want="arch = sm_$arch" '/^arch = /{on = ($0 == want)} on' <<<"$symbols" | grep -qE "STT_FUNC.*Z[0-9]+${k}[0-9A-Z]" ||
                { echo "check-cuda: $k has no code for sm_$arch in $o" >&2; bad=1; }
        done
        grep -qE "\.entry _Z[0-9]+${k}[0-9A-Z]" <<<"$ptx" || { echo "check-cuda: $k has no PTX in $o" >&2; bad=1; }
    done
    grep -qE "\.target sm_$GPU_PTX" <<<"$ptx" || { echo "check-cuda: no PTX for compute_$GPU_PTX in $o" >&2; bad=1; }
    echo "check-cuda: $source: ${kernels[*]}"
done
[ $bad -eq 0 ] && echo "check-cuda: ok: sm_{${GPU_ARCHS// /,}} and PTX $GPU_PTX"
exit $bad
