#!/usr/bin/env bash
# fuzz.sh [COUNT [SEED]]: feeds COUNT (default: 100000) odd programs to the compiler, built
# with AddressSanitizer and UndefinedBehaviorSanitizer in build-asan. What fails is kept
# in build-asan/fuzz, with the command that repeats it in its first line.
# Needs what scripts/setup.sh installs and clang's sanitizer runtime (libclang-rt-22-dev).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=${1:-100000} seed=${2:-$RANDOM}

export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
[ -f build-asan/build.ninja ] ||
  cmake --preset default -B build-asan -DFA_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1
cmake --build build-asan --target fa-fuzz
# LLVM's shared libraries are not instrumented: containers and memory that they share with
# this code are annotated on one side only.
export ASAN_OPTIONS=detect_container_overflow=0:allow_user_poisoning=0:detect_odr_violation=0:detect_leaks=0:new_delete_type_mismatch=0:alloc_dealloc_mismatch=0:detect_stack_use_after_return=0:handle_abort=0:max_allocation_size_mb=4096:hard_rss_limit_mb=6144
export UBSAN_OPTIONS=print_stacktrace=1
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-/usr/lib/llvm-22/bin/llvm-symbolizer}
build-asan/bin/fa-fuzz test --count="$count" --seed="$seed" --seconds=60 --keep=build-asan/fuzz
