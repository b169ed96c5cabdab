#!/usr/bin/env bash
# One wheel for every torch: builds it once, installs it beside torch 2.10, 2.11 and the newest release, on Python 3.10, the
# default Python and 3.13 where these exist, and runs a round trip each. Downloads several gigabytes of torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

python=$(scripts/setup_env.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf build/lib.* build/bdist.*  # setuptools packs whatever earlier builds left there
PATH="$(dirname "$python"):$PATH" "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$work" .
wheel=$(echo "$work"/*.whl)
case $(basename "$wheel") in
  torch_ans_weights-*-cp310-abi3-*.whl) echo "built $(basename "$wheel"), $(stat -c %s "$wheel") bytes" ;;
  *) die "unexpected wheel name $(basename "$wheel")" ;;
esac

cat >"$work/smoke.py" <<'PYTHON'
import platform

import torch

import torch_ans
from torch_ans.streams import decode_stream, encode_stream

assert "site-packages" in torch_ans.__file__, torch_ans.__file__
generator = torch.Generator().manual_seed(0)
weight = torch.randn(300, 384, generator=generator)
symbols, scale, exponent = torch.ops.ans.quantize(weight, 6, 4.5)
stream = encode_stream(symbols, 65536)
assert torch.equal(decode_stream(stream, symbols.numel(), symbols.dtype).view_as(symbols), symbols)
restored = torch.ops.ans.dequantize(symbols, scale, exponent, torch.float32)
assert (restored - weight).abs().max() < 0.2, "a step is about 0.15 standard deviations"
state = {"weight": weight, "bias": weight[0].to(torch.bfloat16)}
loaded = torch_ans.loads(torch_ans.dumps(state))
assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
cuda = "with" if torch._C._dispatch_has_kernel_for_dispatch_key("ans::histogram", "CUDA") else "without"
print(f"ok: Python {platform.python_version()}, torch {torch.__version__}, {cuda} CUDA kernels, {stream.numel()} bytes")
PYTHON

# check PYTHON-TEST TORCH-REQUIREMENT
check() {
  local base
  base=$(find_python "$1") || { echo "no Python with $1; using the default one" && base=$(find_python "v >= (3, 10)"); }
  rm -rf "$work/venv"
  "$base" -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install -q --disable-pip-version-check "$2" "$wheel"
  (cd "$work" && venv/bin/python smoke.py && venv/bin/torch-ans --help >/dev/null)
}

check "v == (3, 10)" "torch==2.10.*"
check "v >= (3, 10)" "torch==2.11.0"
check "v == (3, 13)" "torch"
