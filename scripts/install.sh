#!/usr/bin/env bash
# install.sh PREFIX: installs this bundle. Needs Python >= 3.10 with headers and a
# C++17 compiler; no network, no LLVM. PYTHON and CXX choose others than python3
# and c++. Afterwards PYTHONPATH=PREFIX/python finds flash_attn_mlir.
set -euo pipefail

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
[ $# -eq 1 ] || fail "usage: install.sh PREFIX"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -f "$here/lib/libfa.so" ] || fail "$here holds no bundle (lib/libfa.so is missing)"
mkdir -p "$1"
prefix=$(cd "$1" && pwd)

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
  fail "'$python' is no Python >= 3.10; set PYTHON"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] ||
  fail "no Python.h in $headers; install the headers of '$python' (python3-dev)"
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
compiler=${CXX:-}
for candidate in c++ g++ clang++; do
  [ -n "$compiler" ] || ! command -v "$candidate" >/dev/null || compiler=$candidate
done
[ -n "$compiler" ] || fail "no C++ compiler; install g++ or set CXX"
pybind=$here/third_party
[ -d "$pybind/pybind11" ] ||
  pybind=$("$python" -c 'import pybind11; print(pybind11.get_include())' 2>/dev/null) ||
  fail "no pybind11; install it: $python -m pip install 'pybind11>=3.0'"

mkdir -p "$prefix/lib" "$prefix/python" "$prefix/share/fa"
cp -r "$here/include" "$prefix/"
cp "$here/lib/libfa.so" "$prefix/lib/libfa.so.new"
mv "$prefix/lib/libfa.so.new" "$prefix/lib/libfa.so" # may be in use
cp -r "$here/python/flash_attn_mlir" "$prefix/python/"
package=$prefix/python/flash_attn_mlir
ln -sfn ../../lib/libfa.so "$package/libfa.so"
"$compiler" -std=c++17 -O2 -fPIC -shared -fvisibility=hidden \
  -I"$here/include" -isystem "$pybind" -isystem "$headers" \
  "$here"/python/src/*.cpp -o "$package/_fa$suffix" \
  -L"$prefix/lib" -lfa -Wl,-rpath,'$ORIGIN'
[ ! -d "$here/bin" ] || cp -r "$here/bin" "$prefix/"
for item in test benchmarks examples pyproject.toml LICENSE licenses COMMIT; do
  [ ! -e "$here/$item" ] || cp -r "$here/$item" "$prefix/share/fa/"
done

PYTHONPATH=$prefix/python "$python" -c 'import flash_attn_mlir' ||
  fail "the module was built but does not import"
printf 'installed; use it with: export PYTHONPATH=%s\n' "$prefix/python"
