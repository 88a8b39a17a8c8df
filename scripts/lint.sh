#!/usr/bin/env bash
# Style of all sources: clang-format, ruff and clang-tidy. clang-tidy reads the C++
# files that changed since BASE (default: the upstream branch, else the last commit)
# and are compiled, or with --all every one (a quarter of an hour on two cores).
#
#   scripts/lint.sh [--all | BASE]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

APT_PACKAGES+=(clang-tidy-22)
setup
have_format_tools || fail "no ruff or clang-format 22 from pip; see build/logs/format-tools.log"
failed=()
step "clang-format and ruff"
check_format || failed+=("clang-format or ruff")
step "clang-tidy"
if [ "${1:-}" = --all ]; then
  files=$(git ls-files 'lib/*.cpp' 'tools/*.cpp' 'python/src/*.cpp' 'unittests/*.cpp')
else
  base=${1:-$(git rev-parse --verify --quiet '@{upstream}' || echo HEAD~1)}
  files=$(git diff --name-only --diff-filter=d "$base" -- '*.cpp')
fi
# A header is read with what includes it: --all sees them all.
for file in $files; do
  grep -q "\"file\": \"$ROOT/$file\"" build/compile_commands.json || continue
  clang-tidy-22 --quiet --warnings-as-errors='*' -p build "$file" 2>/dev/null ||
    failed+=("clang-tidy on $file")
done
[ ${#failed[@]} -eq 0 ] || fail "$(printf '%s; ' "${failed[@]}")see above"
