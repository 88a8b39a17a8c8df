# Shared by demo.sh, test.sh and lint.sh: sourced, not run. Brings a machine (Debian 12 or
# another system with LLVM/MLIR 22.1) to the point where the project is built and
# .venv/bin/python imports flash_attn_mlir. Every step is skipped when done.
#
# No machine path or registry is named here: apt and pip are used as configured.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
STAMPS=$VENV/.stamps
START=$SECONDS

step() { printf '==> [%4ds] %s\n' $((SECONDS - START)) "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
trap 'status=$?; [ $status -eq 0 ] || printf "error: %s stopped (exit %d) after %d s\n" "$0" $status $((SECONDS - START)) >&2' EXIT

# quiet LOG COMMAND...: the command's output goes to a log that is shown on failure.
quiet() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "'$*' failed; the whole log is $log"; }
}

APT_PACKAGES=(libmlir-22-dev llvm-22-dev mlir-22-tools clang-22 lld-22 cmake
  ninja-build ccache zlib1g-dev libzstd-dev libstdc++-12-dev python3 python3-dev
  python3-venv ca-certificates)
# ml_dtypes: bfloat16 in NumPy.
PYTHON_PACKAGES=('numpy>=1.26' ml_dtypes 'pybind11>=3.0')

install_packages() {
  command -v dpkg-query >/dev/null || {
    step "No dpkg here: LLVM/MLIR 22.1, clang 22, lld 22, CMake and Ninja are taken as they are"
    return 0
  }
  local package missing=()
  for package in "${APT_PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || fail "missing packages; run: sudo apt-get install ${missing[*]}"
  step "Installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  quiet "$ROOT/build/logs/apt.log" apt-get update
  quiet "$ROOT/build/logs/apt.log" apt-get install -y --no-install-recommends "${missing[@]}"
}

make_venv() {
  if ! "$VENV/bin/python" -c 'import sys' 2>/dev/null; then
    step "Creating .venv"
    local python version_check='import sys, sysconfig, os
sys.exit(not ((3, 10) <= sys.version_info < (3, 15)
    and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))))'
    for python in python3 /usr/bin/python3 ""; do
      [ -n "$python" ] || fail "no Python >= 3.10 with headers (python3-dev) was found"
      "$python" -c "$version_check" 2>/dev/null && break
    done
    rm -rf "$VENV"
    quiet "$ROOT/build/logs/venv.log" "$python" -m venv "$VENV"
  fi
  mkdir -p "$STAMPS"
  pip_install base "${PYTHON_PACKAGES[@]}"
}

# pip_install NAME ARGUMENT...: once per list of arguments.
pip_install() {
  local stamp=$STAMPS/$1
  shift
  [ "$(cat "$stamp" 2>/dev/null)" = "$*" ] && return 0
  step "pip install $*"
  quiet "$ROOT/build/logs/pip.log" "$VENV/bin/python" -m pip install --disable-pip-version-check "$@"
  echo "$*" >"$stamp"
}

build_project() {
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
  if [ ! -f build/build.ninja ] ||
    ! grep -q "^Python_EXECUTABLE:[A-Z]*=$VENV/bin/python$" build/CMakeCache.txt; then
    step "Configuring (CMake preset 'default')"
    quiet "$ROOT/build/logs/configure.log" \
      cmake --preset default -DPython_EXECUTABLE="$VENV/bin/python"
  fi
  step "Building (first time: minutes; logs in build/logs)"
  # Progress as it goes; the last line of ninja says how far it is.
  cmake --build --preset default
}

# .venv imports the package from the source tree, where the build puts the module:
# what is built is what runs, without an install step. (pip install . makes a copy.)
install_package() {
  local packages
  packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$ROOT/python" >"$packages/flash_attn_mlir_source.pth"
  "$VENV/bin/python" -c 'import flash_attn_mlir' ||
    fail "the package was built but .venv/bin/python can't import it"
}

# Whether ruff and clang-format are there, from pip where they are missing.
have_format_tools() {
  [ -x "$VENV/bin/ruff" ] && [ -x "$VENV/bin/clang-format" ] ||
    "$VENV/bin/python" -m pip install --disable-pip-version-check --quiet \
      'ruff==0.17.*' 'clang-format==22.*' >"$ROOT/build/logs/format-tools.log" 2>&1
}

# The format of C++ and Python, and ruff's checks; fails after all of them have run.
check_format() {
  local folders=(python test benchmarks examples) status=0
  git ls-files '*.cpp' '*.h' | xargs "$VENV/bin/clang-format" --dry-run --Werror || status=1
  "$VENV/bin/ruff" check "${folders[@]}" || status=1
  "$VENV/bin/ruff" format --check "${folders[@]}" || status=1
  return $status
}

setup() {
  install_packages
  make_venv
  build_project
  install_package
}
