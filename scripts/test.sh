#!/usr/bin/env bash
# All tests, from a fresh checkout: sets up, then GoogleTest, then pytest. Stops at the first of the two that fails.
#
#   scripts/test.sh [--slow] [--sanitize] [-- PYTEST ARGUMENTS]
#     --slow      runs the tests marked slow, too
#     --sanitize  runs the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer, too
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

pytest_arguments=(-q)
sanitize=
while [ $# -gt 0 ]; do
  case $1 in
    --slow) pytest_arguments+=(-m "slow or not slow") ;;
    --sanitize) sanitize=address,undefined ;;
    --) shift && pytest_arguments+=("$@") && break ;;
    *) die "unknown argument $1; see the first lines of $0" ;;
  esac
  shift
done

python=$(scripts/setup_env.sh --tests)
PATH=$(dirname "$python"):$PATH

# cpp_tests FOLDER CMAKE-OPTION...: builds the C++ tests there and runs them; what the tools say goes to FOLDER.log.
cpp_tests() {
  local folder=$1
  shift
  if ! {
    cmake -S . -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$(command -v ninja)" "$@" &&
      cmake --build "$folder" -j "$(nproc)" &&
      ctest --test-dir "$folder" --output-on-failure -j "$(nproc)"
  } >"$folder.log" 2>&1; then
    tail -n 100 "$folder.log"
    die "the C++ tests failed ($folder)"
  fi
  grep "tests passed" "$folder.log" || echo "no C++ tests"
}

mkdir -p build
cuda=(-DANS_CUDA=OFF)
if nvcc=$(find_nvcc); then
  cuda=(-DANS_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc")  # compiled and linked for sm_90, with or without a GPU
fi
cpp_tests build/cmake "${cuda[@]}"
[ -z "$sanitize" ] || cpp_tests build/cmake-sanitize -DANS_SANITIZE="$sanitize"

"$python" -m pytest "${pytest_arguments[@]}"
