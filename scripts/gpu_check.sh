#!/usr/bin/env bash
# Everything that only a GPU can show: builds the package in place, runs the CUDA tests, compute-sanitizer on some of them, and the benchmark. Needs no network and no
# GoogleTest: torch with CUDA, nvcc, ninja, pytest and the package's own requirements are there already. Under 8 minutes.
#
#   scripts/gpu_check.sh [--build-only | --run-only] [--json OUT.json] [-- BENCHMARK ARGUMENTS]
#     --build-only  only the build, which needs no GPU; its result can be carried to a machine with the same Python and torch
#     --run-only    without the build
#     --json        where card, driver, clocks, times and GB/s are written (default: build/gpu_check.json)
#
# Environment: PYTHON (default: that of .venv, or python3). Ends with 'N passed, N failed'; exit code 1 if any failed, 77 if there is no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
case $python in */*) PATH=$(cd "$(dirname "$python")" && pwd):$PATH ;; esac # ninja may lie beside it
build=1 run=1 json=build/gpu_check.json
while [ $# -gt 0 ]; do
  case $1 in
    --build-only) run= ;;
    --run-only) build= ;;
    --json) json=$2 && shift ;;
    --) shift && break ;;
    *) die "unknown argument $1; see the first lines of $0" ;;
  esac
  shift
done
mkdir -p build "$(dirname "$json")"
has_gpu() { nvidia-smi -L 2>/dev/null | grep -q GPU || "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }
if [ -n "$run" ] && ! has_gpu; then
  echo "there is no GPU: nothing was checked" >&2
  exit 77
fi
"$python" -c 'import numpy, pytest, safetensors, torch, tqdm, xxhash' || die "$python lacks a package"

if [ -n "$build" ]; then
  begin=$SECONDS
  if ! ANS_CUDA=1 "$python" setup.py -q build_ext --inplace >build/gpu_build.log 2>&1; then
    tail -n 60 build/gpu_build.log
    die "the build failed"
  fi
  # The library of the emulated GPU, so that the same tests run on both.
  if ! ANS_EMULATED_GPU=1 "$python" setup.py -q build_ext --build-lib build/emulated_gpu >>build/gpu_build.log 2>&1; then
    tail -n 60 build/gpu_build.log
    die "the build of the emulated GPU failed"
  fi
  echo "built in $((SECONDS - begin)) s"
fi
[ -n "$run" ] || exit 0

export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
passed=0 failed=0
count() {  # count NAME PASSED FAILED
  printf '%-44s %s passed, %s failed\n' "$1" "$2" "$3"
  passed=$((passed + $2)) failed=$((failed + $3))
}
check() {  # check NAME COMMAND...: one check; what it says goes to a log
  local name=$1 log
  shift
  log=build/gpu_check_${name//[^a-z]/_}.log
  if "$@" >"$log" 2>&1; then count "$name" 1 0; else tail -n 40 "$log" && count "$name" 0 1; fi
}

# ---- tests ----
timeout 120 "$python" -m pytest -q -p no:cacheprovider tests/gpu --junitxml=build/gpu_tests.xml >build/gpu_tests.log 2>&1
tests_rc=$?
[ $tests_rc = 0 ] || tail -n 60 build/gpu_tests.log
read -r good bad < <("$python" - <<'PYTHON'
import xml.etree.ElementTree as tree
try:
    suites = list(tree.parse("build/gpu_tests.xml").getroot().iter("testsuite"))
    total, bad, skipped = (sum(int(s.get(key, 0)) for s in suites) for key in ("tests", "failures", "skipped"))
    bad += sum(int(s.get("errors", 0)) for s in suites)
    print(total - bad - skipped, bad)
except (OSError, tree.ParseError):
    print(0, 1)
PYTHON
)
[ $tests_rc = 0 ] || [ "$bad" != 0 ] || bad=1 # it was cut short
count "tests/gpu" "$good" "$bad"

# ---- compute-sanitizer on a reduced set: encoding, decoding, damage, counting, quantizing ----
sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" 2>/dev/null)
subset="cuda and (test_streams_are or test_streams_that_refer or test_encoding_streams or test_decoding or test_quantizing or test_counting or test_damaged_streams or test_a_plan)"
for tool in memcheck racecheck synccheck; do
  if [ -z "$sanitizer" ]; then
    echo "there is no compute-sanitizer"
    count "compute-sanitizer $tool" 0 1
  else
    # Without torch's caching of memory every tensor has its own bounds. Calls of the runtime that fail are torch's own probing.
    check "compute-sanitizer $tool" timeout 80 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool $tool --error-exitcode 9 \
      $([ $tool != memcheck ] || echo --report-api-errors no) --target-processes application-only "$python" -m pytest -q -x -p no:cacheprovider tests/gpu/test_gpu_operators.py tests/gpu/test_gpu_errors.py tests/gpu/test_gpu_matrices.py -k "$subset"
  fi
done

# ---- benchmark ----
rm -f build/gpu_bench.json
if timeout 150 "$python" scripts/bench_gpu.py --json build/gpu_bench.json "$@"; then count benchmark 1 0; else count benchmark 0 1; fi
"$python" - "$json" $passed $failed <<'PYTHON'
import json, os, sys
bench = json.load(open("build/gpu_bench.json")) if os.path.exists("build/gpu_bench.json") else {}
json.dump({**bench, "checks": {"passed": int(sys.argv[2]), "failed": int(sys.argv[3])}}, open(sys.argv[1], "w"), indent=1)
PYTHON
echo "$passed passed, $failed failed"
[ $failed = 0 ]
