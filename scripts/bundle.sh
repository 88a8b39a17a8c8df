#!/usr/bin/env bash
# bundle.sh OUT.tar.gz [BUILD]: packs what was built in BUILD (default: build)
# into one relocatable archive for machines without LLVM and without a network.
# There: tar xf OUT.tar.gz && fa/install.sh PREFIX
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
[ $# -ge 1 ] || fail "usage: scripts/bundle.sh OUT.tar.gz [BUILD]"
out=$1
build=${2:-build}
[ -f "$build/lib/libfa.so" ] ||
  fail "$build/lib/libfa.so is missing; build it: cmake --preset default && cmake --build build"

strip=
for candidate in llvm-strip-22 llvm-strip strip; do
  if command -v "$candidate" >/dev/null; then strip=$candidate; break; fi
done
[ -n "$strip" ] || fail "no strip program in PATH; install binutils or llvm"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/fa
mkdir -p "$root/lib" "$root/bin" "$root/include/fa-c"
"$strip" -o "$root/lib/libfa.so" "$build/lib/libfa.so"
cp include/fa-c/fa.h "$root/include/fa-c/"
[ ! -f "$build/bin/fa-unittests" ] ||
  "$strip" -o "$root/bin/fa-unittests" "$build/bin/fa-unittests"
cp -r LICENSE licenses scripts/install.sh "$root/"
# Sources as git knows them (new files included), without what was built.
for folder in python test benchmarks examples unittests pyproject.toml; do
  if [ -e "$folder" ]; then
    git ls-files --cached --others --exclude-standard "$folder" |
      while IFS= read -r file; do
        [ ! -f "$file" ] || cp --parents "$file" "$root/"
      done
  fi
done
# pybind11's headers, for machines that have none.
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
if pybind=$("$python" -c 'import pybind11; print(pybind11.get_include())' 2>/dev/null); then
  mkdir -p "$root/third_party"
  cp -r "$pybind/pybind11" "$root/third_party/"
fi
git rev-parse HEAD >"$root/COMMIT" 2>/dev/null || true

mkdir -p "$(dirname "$out")"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$stage" -cf - fa |
  gzip -n >"$out"
printf '%s: %d MB\n' "$out" $(($(stat -c %s "$out") >> 20))
