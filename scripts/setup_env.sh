#!/usr/bin/env bash
# Makes a virtual environment with torch and everything that tests and the demo use, and builds the package in it.
# Prints the path of its python; progress goes to stderr. Where nothing changed since the last run, it does nothing.
#
#   scripts/setup_env.sh [--tests]     --tests: what the tests need, too (cmake, GoogleTest, the library of the emulated GPU)
#
# Environment: ANS_VENV (default .venv), ANS_TORCH (torch's version), and setup.py's ANS_CUDA, ANS_GENCODE, ANS_WERROR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

venv=${ANS_VENV:-$PWD/.venv}
python=$venv/bin/python
requirements=("torch==${ANS_TORCH:-2.11.0}" numpy safetensors xxhash tqdm pytest ninja "setuptools>=77" wheel brotli zstandard)
export MAX_JOBS=${MAX_JOBS:-$(nproc)}

# ---- system packages, only where something is missing ----
missing=()
command -v g++ >/dev/null || missing+=(g++)
if [ "${1:-}" = --tests ]; then
  command -v cmake >/dev/null || missing+=(cmake)
  [ -f /usr/include/gtest/gtest.h ] || [ -f /usr/local/include/gtest/gtest.h ] || missing+=(libgtest-dev)
fi
[ -x "$python" ] || find_python "v >= (3, 10)" >/dev/null || missing+=(python3 python3-dev python3-venv)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

# ---- the virtual environment ----
digest() { sha256sum | cut -d' ' -f1; }
up_to_date() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }  # up_to_date STAMP-FILE DIGEST

if ! [ -x "$python" ]; then
  base=$(find_python "v >= (3, 10)") || die "no Python 3.10 or later that can make virtual environments and has its headers"
  "$base" -m venv "$venv"
fi
wanted=$(printf '%s\n' "${requirements[@]}" "$("$python" --version)" | digest)
if ! up_to_date "$venv/.ans-requirements" "$wanted"; then
  printf 'installing %s into %s\n' "${requirements[*]}" "$venv" >&2
  "$python" -m pip install -q --disable-pip-version-check "${requirements[@]}" >&2
  echo "$wanted" >"$venv/.ans-requirements"
fi

# ---- the package, in place: only what changed is compiled ----
nvcc=$(find_nvcc) || nvcc=
build=$({
  find csrc cuda setup.py pyproject.toml torch_ans/_version.py -type f -print0 | sort -z | xargs -0 sha256sum
  echo "$wanted $PWD ${ANS_CUDA:-} ${ANS_GENCODE:-} ${ANS_WERROR:-} ${nvcc:+$("$nvcc" --version)}"
} | digest)
if ! up_to_date "$venv/.ans-build" "$build" || ! [ -f torch_ans/_C.abi3.so ]; then
  echo "building torch_ans" >&2
  rm -f torch_ans/_C*.so  # a library that is no longer built must not stay behind
  PATH=$venv/bin:$PATH "$python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e . >&2
  echo "$build" >"$venv/.ans-build"
fi

# ---- the CUDA operators on the emulated GPU, for the tests ----
if [ "${1:-}" = --tests ]; then
  build=$({
    find csrc cuda tests/emulated_gpu setup.py -type f -print0 | sort -z | xargs -0 sha256sum
    echo "$wanted $PWD ${ANS_WERROR:-}"
  } | digest)
  if ! up_to_date "$venv/.ans-emulated" "$build" || ! [ -d build/emulated_gpu ]; then
    echo "building the emulated GPU" >&2
    mkdir -p build
    if ! ANS_EMULATED_GPU=1 PATH=$venv/bin:$PATH "$python" setup.py -q build_ext --build-lib build/emulated_gpu >build/emulated_gpu.log 2>&1; then
      tail -n 60 build/emulated_gpu.log >&2
      die "the emulated GPU could not be built"
    fi
    echo "$build" >"$venv/.ans-emulated"
  fi
fi
echo "$python"
