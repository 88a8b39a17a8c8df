"""lit configuration: tools of the build and of LLVM by their plain names."""

import os

import lit.formats

config.name = "fa"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test", ".ll"]
config.excludes = ["python", "levels", "programs", "Inputs", "CMakeLists.txt"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = config.fa_build_test_dir

# fa-opt, fa-translate, then FileCheck, not, count, split-file.
config.environment["PATH"] = os.pathsep.join(
    [config.fa_tools_dir, config.llvm_tools_dir, config.environment["PATH"]]
)

# What this machine has, for REQUIRES: lines.
if os.path.exists(os.path.join(config.fa_tools_dir, "fa-translate")):
    config.available_features.add("fa-translate")
if lit.util.which("ptxas", config.environment["PATH"]):
    config.available_features.add("ptxas")

# Files of the build and of the source tree.
config.substitutions += [
    ("%{libfa}", os.path.join(config.fa_library_dir, "libfa.so")),
    ("%{plugin}", os.path.join(config.fa_library_dir, "libFAPlugin.so")),
    ("%{fa.h}", os.path.join(config.fa_source_dir, "include", "fa-c", "fa.h")),
    ("%{reference}", os.path.join(config.fa_source_dir, "docs", "reference")),
    ("%{generated-reference}", os.path.join(config.fa_build_dir, "docs", "reference")),
]

# %chain etc.: the tile programs of test/programs with a plan filled in.
_PLANS = {
    "mma1": '"sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1',
    "mma2": '"sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2',
    "mma8": '"sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 2',
    "square": '"sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, '
    "square = true",
    "hold": '"sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2, '
    "hold_left = true",
    "wgmma-hold": '"sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, '
    "hold_left = true, overlap = true",
    "wgmma": '"sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2',
    "overlap": '"sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, '
    "overlap = true",
    "turns": '"sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, '
    "overlap = true, turns = true",
    "persistent": '"sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, '
    "persistent = true",
}
_PROGRAMS = [
    "both-ways",
    "chain",
    "matmul",
    "narrow-matmul",
    "rectified-matmul",
    "row-normalised",
    "split-matmul",
    "transposed-matmul",
]
for _program in _PROGRAMS:
    for _plan, _text in _PLANS.items():
        _path = os.path.join(config.test_source_root, "programs", _program + ".mlir")
        config.substitutions.append(
            (f"%{{{_program}:{_plan}}}", f"sed 's/@PLAN@/#tile.plan<chip = {_text}>/' {_path}")
        )
