# Functions that the scripts share; sourced, not run.
# shellcheck shell=bash

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# usable_python COMMAND TEST: whether COMMAND runs, satisfies TEST (a Python condition on `v`, its version), can make virtual
# environments and has the headers that extensions need. A name on PATH proves nothing: pyenv has shims for what is not there.
usable_python() {
  "$1" - "$2" >/dev/null 2>&1 <<'PYTHON'
import ensurepip, os, sys, sysconfig, venv
v = sys.version_info[:2]
sys.exit(not (eval(sys.argv[1]) and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))))
PYTHON
}

# find_python TEST: prints the path of a Python whose version satisfies TEST; fails if there is none.
find_python() {
  local candidate
  for candidate in python3 python3.12 python3.11 python3.13 python3.10 python3.14 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
    if usable_python "$candidate" "$1"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

find_nvcc() {
  command -v nvcc || { [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] && echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"; }
}

# install_packages PACKAGE...: with apt-get, which needs root.
install_packages() {
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then die "please install: $*"; fi
  printf 'installing %s\n' "$*" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >&2
}
