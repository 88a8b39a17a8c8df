"""What single instructions do, against the layouts of the PTX ISA, and what is an error.

Kernels here are LLVM IR written by hand: argument words in, argument words out.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulate import EmulationError, Emulator

LDMATRIX = "{ i32, i32, i32, i32 } @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4{0}.b16.p3"
MMA = "{ float, float, float, float } @llvm.nvvm.mma.m16n8k16.row.col.f32.f32"
MMA8 = "{ float, float, float, float } @llvm.nvvm.mma.m16n8k8.row.col.f32.f32"

MATRIX = {"dtype": "f16", "sizes": [None, None], "strides": [None, 1], "align": 2}


def kernel(body, shared=8192, threads=32, maps=()):
    """An emulator and a launch of a kernel (in: words, out: words) with `body`.

    %in, %out: the arrays; %t: the thread; %s: shared memory; %sa: its address.
    """
    # Tensor maps are of a third argument, a matrix of 16-bit elements.
    matrix = (
        ", ptr %src.0, ptr %src, i64 %.o2, i64 %.n2, i64 %.m2, i64 %.s2, i64 %.u2" if maps else ""
    )
    matrix += "".join(f", ptr byval([128 x i8]) align 64 %map{i}" for i in range(len(maps)))
    text = f"""
target triple = "nvptx64-nvidia-cuda"
@fa_shared = external addrspace(3) global [0 x i8], align 1024
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)
declare void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3), ptr addrspace(1))
declare void @llvm.nvvm.cp.async.commit.group()
declare void @llvm.nvvm.cp.async.wait.group(i32)
declare void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3), i32)
declare void @llvm.nvvm.fence.mbarrier_init.release.cluster()
declare void @llvm.nvvm.bar.warp.sync(i32)
declare void @llvm.nvvm.fence.proxy.async.shared_cta()
declare void @llvm.nvvm.cp.async.bulk.commit.group()
declare void @llvm.nvvm.cp.async.bulk.wait.group.read(i32)
declare float @llvm.nvvm.shfl.sync.bfly.f32(i32, float, i32, i32)
declare i32 @llvm.nvvm.shfl.sync.idx.i32(i32, i32, i32, i32)
declare float @llvm.nvvm.sin.approx.ftz.f(float)
declare {LDMATRIX.replace("{0}", "")}(ptr addrspace(3))
declare {LDMATRIX.replace("{0}", ".trans")}(ptr addrspace(3))
declare {MMA}(<2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>, \
float, float, float, float)
declare {MMA8}(<2 x half>, <2 x half>, <2 x half>, float, float, float, float)
define ptx_kernel void @k(ptr %in.0, ptr %in, i64 %.o0, i64 %.n0, i64 %.s0, ptr %out.0, ptr %out, \
i64 %.o1, i64 %.n1, i64 %.s1{matrix}) {{
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %s = getelementptr i8, ptr addrspace(3) @fa_shared, i32 0
  %sa = ptrtoint ptr addrspace(3) @fa_shared to i32
  %first = icmp eq i32 %t, 0
{body}
  ret void
}}
"""
    argument = {"dtype": "i32", "sizes": [None], "strides": [1], "align": 16}
    launch = {
        "entry": "k",
        "args": [argument, argument, *([MATRIX] if maps else [])],
        "grid": ["1"],
        "grid_symbols": [],
        "threads": threads,
        "shared_bytes": shared,
        "tensor_maps": list(maps),
    }
    return Emulator(text), launch


def words(array):
    """The bytes of an array as a 16-byte aligned array of int32."""
    data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.int32)
    big = np.zeros(data.size + 4, np.int32)
    first = (-big.ctypes.data % 16) // 4
    big[first : first + data.size] = data
    return big[first : first + data.size]


def run(body, inputs, size, seeds=4, **options):
    """The output words; the same for several seeds."""
    emulator, launch = kernel(body, **options)
    first = None
    for seed in range(seeds):
        out = words(np.full(size, -1, np.int32))
        emulator.run(launch, (words(inputs), out), seed=seed)
        first = out if first is None else first
        # Which NaN a register of a product in flight holds depends on the order.
        nan = 0x7FC00000
        assert (
            np.where(out & nan == nan, nan, out) == np.where(first & nan == nan, nan, first)
        ).all()
    return first


BARRIER = "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"


def store(value, index, kind="i32"):
    return f"""
  %at.{index} = add i32 %base, {index}
  %to.{index} = getelementptr {kind}, ptr %out, i32 %at.{index}
  store {kind} {value}, ptr %to.{index}"""


def copy_to_shared(chunks, threads):
    """Every thread copies chunks of 16 bytes from %in to shared memory."""
    lines = []
    for i in range(0, chunks, threads):
        lines.append(f"""
  %c{i} = add i32 %t, {i}
  %w{i} = shl i32 %c{i}, 4
  %g{i} = getelementptr i8, ptr %in, i32 %w{i}
  %d{i} = getelementptr i8, ptr addrspace(3) %s, i32 %w{i}
  %v{i} = load <4 x i32>, ptr %g{i}, align 16
  store <4 x i32> %v{i}, ptr addrspace(3) %d{i}, align 16""")
    return "".join(lines) + "\n"


# ===-----------------------------------------------------------------------=== #
# Fragments
# ===-----------------------------------------------------------------------=== #


@pytest.mark.parametrize("transpose", [False, True])
def test_ldmatrix(transpose, rng):
    name = LDMATRIX.replace("{0}", ".trans" if transpose else "")
    body = f"""{copy_to_shared(32, 32)}{BARRIER}
  %row = shl i32 %t, 4
  %p = getelementptr i8, ptr addrspace(3) %s, i32 %row
  %r = call {name}(ptr addrspace(3) %p)
  %base = shl i32 %t, 2
"""
    for i in range(4):
        body += f"  %r{i} = extractvalue {{ i32, i32, i32, i32 }} %r, {i}" + store(f"%r{i}", i)
        body += "\n"
    matrices = rng.integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    got = run(body, matrices, 128).view(np.uint16).reshape(32, 4, 2)
    for t in range(32):
        for j in range(4):
            for half in range(2):
                row, col = t // 4, 2 * (t % 4) + half
                want = matrices[j, col, row] if transpose else matrices[j, row, col]
                assert got[t, j, half] == want


def pack_a(a):
    """The four registers per lane of a 16 x 16 left factor (PTX ISA, mma.m16n8k16)."""
    fragments = np.zeros((32, 4, 2), a.dtype)
    for t in range(32):
        for i in range(8):
            row = t // 4 + (8 if i in (2, 3, 6, 7) else 0)
            col = 2 * (t % 4) + (i & 1) + (8 if i >= 4 else 0)
            fragments[t, i // 2, i % 2] = a[row, col]
    return fragments


@pytest.mark.parametrize("depth", [8, 16])
def test_mma(depth, rng):
    """A product eight deep has the first half of the registers of one sixteen deep."""
    a, b = rng.standard_normal((16, 16)), rng.standard_normal((16, 8))
    a, b = a.astype(np.float16), b.astype(np.float16)
    c = rng.standard_normal((16, 8)).astype(np.float32)
    fragment_b = np.zeros((32, 2, 2), np.float16)
    fragment_c = np.zeros((32, 4), np.float32)
    for t in range(32):
        for i in range(4):
            fragment_b[t, i // 2, i % 2] = b[2 * (t % 4) + (i & 1) + 8 * (i // 2), t // 4]
            fragment_c[t, i] = c[t // 4 + 8 * (i // 2), 2 * (t % 4) + (i & 1)]
    fragments = (pack_a(a)[:, : depth // 4], fragment_b[:, : depth // 8], fragment_c)
    data = np.concatenate(
        [np.ascontiguousarray(x).reshape(32, -1).view(np.int32) for x in fragments], axis=1
    )
    body, types = "", ["<2 x half>"] * (3 * depth // 8) + ["float"] * 4
    for i, kind in enumerate(types):
        body += f"""
  %i{i}.t = mul i32 %t, {len(types)}
  %i{i} = add i32 %i{i}.t, {i}
  %p{i} = getelementptr i32, ptr %in, i32 %i{i}
  %x{i} = load {kind}, ptr %p{i}"""
    arguments = ", ".join(f"{kind} %x{i}" for i, kind in enumerate(types))
    body += f"\n  %r = call {MMA if depth == 16 else MMA8}({arguments})\n  %base = shl i32 %t, 2\n"
    for i in range(4):
        body += f"  %r{i} = extractvalue {{ float, float, float, float }} %r, {i}"
        body += store(f"%r{i}", i, "float") + "\n"
    got = run(body, data, 128).view(np.float32).reshape(32, 4)
    want = a[:, :depth].astype(np.float64) @ b[:depth] + c
    for t in range(32):
        for i in range(4):
            value = want[t // 4 + 8 * (i // 2), 2 * (t % 4) + (i & 1)]
            assert abs(got[t, i] - value) < 1e-4


def test_shuffles():
    body = f"""
  %base = shl i32 %t, 1
  %f = uitofp i32 %t to float
  %b = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %f, i32 5, i32 31)
  %i = call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 -1, i32 %t, i32 3, i32 31)
  %bi = fptoui float %b to i32{store("%bi", 0)}{store("%i", 1)}"""
    got = run(body, np.zeros(4, np.int32), 64).reshape(32, 2)
    assert (got[:, 0] == np.arange(32) ^ 5).all()
    assert (got[:, 1] == 3).all()


# ===-----------------------------------------------------------------------=== #
# wgmma and bulk copies
# ===-----------------------------------------------------------------------=== #


def place(data, offset, value, row, width):
    """Stores a 16-bit value of row `row` (of `width` bytes); chunks of 16 bytes are permuted
    by the number of their 128-byte line, as many as a row has."""
    if width > 16:
        line = row // (128 // width) if width < 128 else row
        chunk = offset // 16 % (width // 16)
        offset += 16 * ((chunk ^ line % (width // 16)) - chunk)
    data[offset // 2] = value


def wgmma_layout(matrix, transposed, swizzle):
    """A matrix (index, k) in shared memory, with its leading and stride byte offsets."""
    count = matrix.shape[0]
    data = np.zeros(max(1024, matrix.size * 4), matrix.dtype)
    width = swizzle or 16  # bytes of a row
    if not transposed:  # rows along m or n, k next to each other
        leading, stride = (128 * (-(-count // 8)), 128) if not swizzle else (16, 8 * width)
        for index in range(count):
            for k in range(16):
                offset = index // 8 * stride + index % 8 * width
                offset += k * 2 if swizzle else k // 8 * leading + k % 8 * 2
                place(data, offset, matrix[index, k], index, width)
        return data, leading, stride
    panel = width // 2
    stride = 8 * width  # of eight rows along k
    leading = 16 * width  # of panels along m or n
    for index in range(count):
        for k in range(16):
            offset = index // panel * leading + k // 8 * stride + k % 8 * width
            offset += index % panel * 2
            place(data, offset, matrix[index, k], k, width)
    # Without a swizzle the two offsets change places.
    return data, *((leading, stride) if swizzle else (stride, leading))


def descriptor(offset, leading, stride, swizzle):
    mode = {0: 0, 128: 1, 64: 2, 32: 3}[swizzle]
    return offset // 16 | leading // 16 << 16 | stride // 16 << 32 | mode << 62


def wgmma_body(
    n,
    descriptors,
    transpose_b,
    transpose_a=False,
    fence="fence.proxy.async;",
    wait=True,
    order=True,
):
    count = n // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    desc_a, desc_b = count, count + 1
    struct = "{ " + ", ".join(["float"] * count) + " }"
    text = (
        "{\\0A.reg .pred p;\\0Asetp.ne.b32 p, 0, 0;\\0A"
        f"wgmma.mma_async.sync.aligned.m64n{n}k16.f32.f16.f16 {{{outputs}}}, ${desc_a}, "
        f"${desc_b}, p, 1, 1, {int(transpose_a)}, {int(transpose_b)};\\0A"
        "wgmma.commit_group.sync.aligned;\\0A}"
    )
    results = "=f," * count
    tied = ",".join(str(i) for i in range(count))
    values = ", ".join(f"float %a{i}" for i in range(count))
    body = f"""
  call void asm sideeffect "{fence}", "~{{memory}}"()
{BARRIER}
  call void asm sideeffect "{"wgmma.fence.sync.aligned;" if order else ""}", "~{{memory}}"()
  %low = and i32 %sa, 262143
  %start32 = lshr i32 %low, 4
  %start = zext i32 %start32 to i64
  %da = add i64 %start, {descriptors[0]}
  %db = add i64 %start, {descriptors[1]}
  %acc = call {struct} asm sideeffect "{text}", "{results}l,l,~{{memory}}"(i64 %da, i64 %db)
  %base = mul i32 %t, {count}
"""
    for i in range(count):
        body += f"  %a{i} = extractvalue {struct} %acc, {i}\n"
    if wait:
        body += f"""  %done = call {struct} asm sideeffect "wgmma.wait_group.sync.aligned 0;",\
 "{results}{tied},~{{memory}}"({values})\n"""
    for i in range(count):
        body += f"  %r{i} = extractvalue {struct} {'%done' if wait else '%acc'}, {i}"
        body += store(f"%r{i}", i, "float") + "\n"
    return body


def wgmma_problem(rng, n, transpose_b, swizzle, transpose_a=False):
    a = rng.standard_normal((64, 16)).astype(np.float16)
    b = rng.standard_normal((n, 16)).astype(np.float16)
    data_a, *strides_a = wgmma_layout(a, transpose_a, swizzle)
    data_b, *strides_b = wgmma_layout(b, transpose_b, swizzle)
    at_b = -(-data_a.nbytes // 1024) * 1024
    size = at_b + -(-data_b.nbytes // 2048) * 2048
    data = np.zeros(size // 2, np.float16)
    data[: data_a.size] = data_a
    data[at_b // 2 : at_b // 2 + data_b.size] = data_b
    descriptors = (
        descriptor(0, *strides_a, swizzle),
        descriptor(at_b, *strides_b, swizzle),
    )
    return a, b, data, descriptors


# Transposed, a matrix is made of whole panels of as many columns as a row has.
WGMMAS = [
    (n, transpose_b, swizzle)
    for n in (16, 64, 192, 200)
    for transpose_b in (False, True)
    for swizzle in (0, 32, 64, 128)
    if not transpose_b or n % max(8, swizzle // 2) == 0
]


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize(("n", "transpose_b", "swizzle"), WGMMAS)
def test_wgmma(n, transpose_b, swizzle, transpose_a, rng):
    a, b, data, descriptors = wgmma_problem(rng, n, transpose_b, swizzle, transpose_a)
    body = copy_to_shared(data.nbytes // 16, 128)
    body += wgmma_body(n, descriptors, transpose_b, transpose_a)
    got = run(body, data, 64 * n, shared=data.nbytes, threads=128, seeds=3)
    got = got.view(np.float32).reshape(128, n // 2)
    want = a.astype(np.float64) @ b.astype(np.float64).T
    thread, reg = np.meshgrid(np.arange(128), np.arange(n // 2), indexing="ij")
    row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (reg // 2 % 2)
    col = reg // 4 * 8 + 2 * (thread % 4) + reg % 2
    np.testing.assert_allclose(got, want[row, col], atol=1e-4)


def test_wgmma_needs_a_wait(rng):
    """Accumulators of a product in flight are NaN."""
    *_, data, descriptors = wgmma_problem(rng, 16, False, 32)
    body = copy_to_shared(data.nbytes // 16, 128)
    body += wgmma_body(16, descriptors, False, wait=False)
    got = run(body, data, 64 * 16, seeds=1, shared=data.nbytes, threads=128)
    assert np.isnan(got.view(np.float32)).all()


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("chained", [False, True])
def test_wgmma_groups(chained, early, rng):
    """wait_group 1 completes the first of two groups; the second one may go on from its
    registers. `early` looks at the second one's before wait_group 0."""
    a, b, data, descriptors = wgmma_problem(rng, 16, False, 32)
    first, _, second = wgmma_body(16, descriptors, False).partition("  %acc = ")
    call = "  %acc = " + second.partition("\n")[0] + "\n"
    struct = "{ " + ", ".join(["float"] * 8) + " }"
    tied = "=f," * 8 + ",".join(map(str, range(8)))

    def unpack(name, to):
        return "".join(f"  %{to}{i} = extractvalue {struct} %{name}, {i}\n" for i in range(8))

    def values(name):
        return ", ".join(f"float %{name}{i}" for i in range(8))

    def wait(pending, name, result):
        return (
            f'  %{result} = call {struct} asm sideeffect "wgmma.wait_group.sync.aligned {pending};"'
            f', "{tied},~{{memory}}"({values(name)})\n'
        )

    other = call.replace("%acc", "%other")
    if chained:
        # The same registers, and scale-d is 1.
        other = other.replace("setp.ne.b32 p, 0, 0", "setp.ne.b32 p, 1, 0")
        other = other.replace(", $8, $9, p", ", $16, $17, p")
        other = other.replace("=f,l,l,", "=f," + ",".join(map(str, range(8))) + ",l,l,")
        other = other.replace("(i64 %da", f"({values('x')}, i64 %da")
    body = copy_to_shared(data.nbytes // 16, 128) + first + call + unpack("acc", "x") + other
    body += unpack("other", "y")
    body += wait(1, "x", "one") + unpack("one", "u") + wait(0, "y", "two") + unpack("two", "f")
    body += "  %base = mul i32 %t, 16\n"
    for i in range(8):
        body += store(f"%u{i}", i, "float") + store(f"%{'y' if early else 'f'}{i}", 8 + i, "float")
    got = run(body, data, 2048, seeds=1 if early else 6, shared=data.nbytes, threads=128)
    got = got.view(np.float32).reshape(128, 2, 8)
    want = a.astype(np.float64) @ b.astype(np.float64).T
    thread, reg = np.meshgrid(np.arange(128), np.arange(8), indexing="ij")
    row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (reg // 2 % 2)
    want = want[row, reg // 4 * 8 + 2 * (thread % 4) + reg % 2]
    # Chained, the first wait ends no product that writes the registers last.
    assert np.isnan(got[:, 0]).all() if chained else np.allclose(got[:, 0], want, atol=1e-4)
    if early:
        assert np.isnan(got[:, 1]).all()
    else:
        np.testing.assert_allclose(got[:, 1], want * (2 if chained else 1), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fence": ""}, "no proxy fence"), ({"order": False}, "no wgmma.fence")],
)
def test_wgmma_needs_fences(options, message, rng):
    *_, data, descriptors = wgmma_problem(rng, 16, False, 32)
    body = copy_to_shared(data.nbytes // 16, 128) + wgmma_body(16, descriptors, False, **options)
    emulator, launch = kernel(body, shared=data.nbytes, threads=128)
    with pytest.raises(EmulationError, match=message):
        emulator.run(launch, (words(data), words(np.zeros(1024, np.int32))))


TENSOR_LOAD = """
  br i1 %first, label %make, label %made
make:
  %mb = getelementptr i8, ptr addrspace(3) %s, i32 6144
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) %mb, i32 1)
  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()
  br label %made
made:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %mba = add i32 %sa, 6144
  br i1 %first, label %load, label %loaded
load:
  call void asm sideeffect "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], BYTES;",
    "r,~{memory}"(i32 %mba)
  call void asm sideeffect "cp.async.bulk.tensor.2d.shared::cluster.global.tile\
.mbarrier::complete_tx::bytes [$0], [$1, {$3, $4}], [$2];", "r,l,r,r,r,~{memory}"\
(i32 %sa, ptr %map0, i32 %mba, i32 COL, i32 ROW)
  br label %loaded
loaded:
"""
WAIT = """  call void asm sideeffect "{\\0A.reg .pred p;\\0AWAIT:\\0A\
mbarrier.try_wait.parity.shared::cta.b64 p, [$0], $1;\\0A@p bra.uni DONE;\\0Abra.uni WAIT;\\0A\
DONE:\\0A}", "r,r,~{memory}"(i32 %mba, i32 0)
"""


@pytest.mark.parametrize(("row", "col"), [(0, 0), (9, 75), (-3, -8)])
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_tensor_load(swizzle, row, col, rng):
    """A box of 16 rows of a 20 x 100 matrix, partly outside: zeros there."""
    width = swizzle or 128
    cols = width // 2
    body = TENSOR_LOAD.replace("BYTES", str(16 * width)) + WAIT
    body = body.replace("COL", str(col)).replace("ROW", str(row)) + "  %base = mul i32 %t, 4\n"
    for i in range(0, 16 * width // 16, 32):
        body += f"""
  %l{i} = add i32 %t, {i}
  %o{i} = shl i32 %l{i}, 4
  %f{i} = getelementptr i8, ptr addrspace(3) %s, i32 %o{i}
  %x{i} = load <4 x i32>, ptr addrspace(3) %f{i}, align 16
  %y{i} = getelementptr i8, ptr %out, i32 %o{i}
  store <4 x i32> %x{i}, ptr %y{i}, align 16"""
    # The map sees an array of words as 16-bit elements: 20 x 104, of which 100 count.
    matrix = rng.integers(1, 1 << 16, (20, 100)).astype(np.uint16)
    padded = np.zeros((20, 104), np.uint16)
    padded[:, :100] = matrix
    box = {"arg": 2, "dims": [1, 0], "box": [cols, 16], "swizzle": swizzle}
    emulator, launch = kernel(body, maps=[box])
    source = words(padded).view(np.uint16).reshape(20, 104)[:, :100]
    tile = np.zeros((16, cols), np.uint16)
    for i in range(16):
        for j in range(cols):
            if 0 <= row + i < 20 and 0 <= col + j < 100:
                tile[i, j] = matrix[row + i, col + j]
    want = np.zeros(16 * cols, np.uint16)
    for i in range(16):
        for j in range(cols):
            place(want, i * width + 2 * j, tile[i, j], i, width if swizzle else 0)
    for seed in range(6):
        out = words(np.zeros(4 * width, np.int32))
        emulator.run(launch, (words(np.zeros(4, np.int32)), out, source), seed=seed)
        assert (out.view(np.uint16) == want).all()


FENCE = "  call void @llvm.nvvm.fence.proxy.async.shared_cta()\n"
WARP = "  call void @llvm.nvvm.bar.warp.sync(i32 -1)\n"
TENSOR_STORE = """
  br i1 %first, label %store, label %stored
store:
  call void asm sideeffect "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group\
 [$0, {$2, $3}], [$1];", "l,r,r,r,~{memory}"(ptr %map0, i32 %sa, i32 COL, i32 ROW)
COMMIT  br label %stored
stored:
"""
COMMIT = "  call void @llvm.nvvm.cp.async.bulk.commit.group()\n"
BULK_WAIT = "  call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 0)\n"


def tensor_store(swizzle, row, col, fence=FENCE, sync=WARP, commit=COMMIT, wait=BULK_WAIT):
    """A kernel that stores a box of 16 rows from shared memory."""
    width = swizzle or 128
    body = copy_to_shared(16 * width // 16, 32) + fence + sync + TENSOR_STORE + wait
    body = body.replace("COMMIT", commit).replace("COL", str(col)).replace("ROW", str(row))
    box = {"arg": 2, "dims": [1, 0], "box": [width // 2, 16], "swizzle": swizzle}
    return kernel(body, maps=[box])


@pytest.mark.parametrize(("row", "col"), [(0, 0), (9, 75), (-3, -8)])
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_tensor_store(swizzle, row, col, rng):
    """A box of 16 rows to a 20 x 100 matrix: what lies outside is not written."""
    width = swizzle or 128
    cols = width // 2
    emulator, launch = tensor_store(swizzle, row, col)
    tile = rng.integers(1, 1 << 16, (16, cols)).astype(np.uint16)
    data = np.zeros(16 * cols, np.uint16)
    for i in range(16):
        for j in range(cols):
            place(data, i * width + 2 * j, tile[i, j], i, width if swizzle else 0)
    before = rng.integers(1, 1 << 16, (20, 104)).astype(np.uint16)
    want = before.copy()
    for i in range(16):
        for j in range(cols):
            if 0 <= row + i < 20 and 0 <= col + j < 100:
                want[row + i, col + j] = tile[i, j]
    for seed in range(6):
        dest = words(before).view(np.uint16).reshape(20, 104)
        nothing = words(np.zeros(4, np.int32))
        emulator.run(launch, (words(data), nothing, dest[:, :100]), seed=seed)
        assert (dest == want).all()


# ===-----------------------------------------------------------------------=== #
# Errors
# ===-----------------------------------------------------------------------=== #


def fails(body, message, seeds=1, size=64, **options):
    emulator, launch = kernel(body, **options)
    for seed in range(seeds):
        out = words(np.zeros(size, np.int32))
        with pytest.raises(EmulationError, match=message):
            emulator.run(launch, (words(np.arange(1024, dtype=np.int32)), out), seed=seed)


OTHER = """
  %mirror = sub i32 THREADS, %t
  %oo = shl i32 %mirror, 4
  %op = getelementptr i8, ptr addrspace(3) %s, i32 %oo
"""


def test_read_of_nothing():
    fails("  %x = load i32, ptr addrspace(3) %s", "nothing has written")


def test_missing_barrier():
    """In every interleaving: clocks see it, not luck."""
    write, read = copy_to_shared(64, 64), OTHER.replace("THREADS", "63")
    read += "  %x = load i32, ptr addrspace(3) %op\n"
    fails(write + read, "no barrier orders that after the write|nothing has written", 5, threads=64)
    overwrite = "  store i32 0, ptr addrspace(3) %d0"
    fails(
        write + BARRIER + "\n" + read + overwrite,
        "no barrier orders that after the (read|write)",
        5,
        threads=64,
    )


CP_ASYNC = """
  %o = shl i32 %t, 4
  %g = getelementptr i8, ptr %in, i32 %o
  %g1 = addrspacecast ptr %g to ptr addrspace(1)
  %d = getelementptr i8, ptr addrspace(3) %s, i32 %o
  call void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3) %d, ptr addrspace(1) %g1)
  call void @llvm.nvvm.cp.async.commit.group()
"""
CP_WAIT = "  call void @llvm.nvvm.cp.async.wait.group(i32 0)\n"


def test_cp_async():
    read = f"  %x = load i32, ptr addrspace(3) %op\n  %base = shl i32 %t, 0{store('%x', 0)}"
    read = OTHER.replace("THREADS", "63") + read
    body = CP_ASYNC + CP_WAIT + BARRIER + "\n" + read
    got = run(body, np.arange(1024, dtype=np.int32), 64, threads=64)
    assert (got == 4 * (63 - np.arange(64))).all()
    fails(CP_ASYNC + BARRIER + "\n" + read, "before a copy to them was waited for", 3, threads=64)
    # The wait of each thread covers its own copies only: the barrier comes after.
    fails(
        CP_ASYNC + BARRIER + "\n" + CP_WAIT + read,
        "before a copy|no barrier orders",
        3,
        threads=64,
    )


def test_bulk_copy_needs_a_wait():
    body = TENSOR_LOAD.replace("BYTES", "1024").replace("COL", "0").replace("ROW", "0")
    read = """
  %o = shl i32 %t, 5
  %p = getelementptr i8, ptr addrspace(3) %s, i32 %o
  %x = load i32, ptr addrspace(3) %p"""
    box = {"arg": 2, "dims": [1, 0], "box": [32, 16], "swizzle": 0}
    emulator, launch = kernel(body + read, maps=[box])
    source = words(np.zeros((32, 32), np.uint16)).view(np.uint16).reshape(32, 32)
    for seed in range(4):
        with pytest.raises(EmulationError, match="before a copy|no barrier orders|nothing has"):
            arrays = (words(np.zeros(4, np.int32)), words(np.zeros(4, np.int32)), source)
            emulator.run(launch, arrays, seed=seed)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"fence": ""}, "proxy"),
        ({"sync": ""}, "no barrier orders|nothing has written"),
        ({"commit": ""}, "ends before its bulk copies"),
        ({"wait": ""}, "ends before its bulk copies"),
    ],
)
def test_tensor_store_needs_order(missing, message):
    emulator, launch = tensor_store(128, 0, 0, **missing)
    dest = words(np.zeros((32, 64), np.uint16)).view(np.uint16).reshape(32, 64)
    arrays = (words(np.zeros(512, np.int32)), words(np.zeros(4, np.int32)), dest)
    with pytest.raises(EmulationError, match=message):
        for seed in range(4):
            emulator.run(launch, arrays, seed=seed)


RELEASE = """
  br i1 %first, label %make, label %made
make:
  %mb = getelementptr i8, ptr addrspace(3) %s, i32 6144
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) %mb, i32 1)
  br label %made
made:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %mba = add i32 %sa, 6144
  %low = icmp ult i32 %t, 32
  br i1 %low, label %read, label %wait
read:
  %x = load i32, ptr addrspace(3) %d0
SYNC
  br i1 %first, label %arrive, label %end
arrive:
  call void asm sideeffect "mbarrier.arrive.shared::cta.b64 _, [$0];", "r,~{memory}"(i32 %mba)
  br label %end
wait:
  WAIT
  %back = getelementptr i8, ptr addrspace(3) %d0, i32 -512
  store i32 0, ptr addrspace(3) %back
  br label %end
end:
"""


def test_one_lane_arrives_for_all():
    """Only after a barrier of the warp: the others may not have read yet."""
    sync = "  call void @llvm.nvvm.bar.warp.sync(i32 -1)"
    body = copy_to_shared(64, 64) + RELEASE.replace("  WAIT\n", WAIT)
    run(body.replace("SYNC", sync), np.zeros(256, np.int32), 4, threads=64)
    fails(body.replace("SYNC", ""), "no barrier orders that after the read", 4, threads=64)


def test_reduction():
    body = """
  %p = getelementptr float, ptr %out, i32 1
  call void asm sideeffect "red.global.add.f32 [$0], $1;", "l,f,~{memory}"(ptr %p, float 2.0)
  %q = addrspacecast ptr %p to ptr addrspace(1)
  %old = atomicrmw fadd ptr addrspace(1) %q, float 1.0 monotonic"""
    emulator, launch = kernel(body)
    out = words(np.zeros(4, np.float32))
    emulator.run(launch, (words(np.zeros(4, np.int32)), out))
    assert list(out.view(np.float32)) == [0, 96, 0, 0]


def test_deadlock():
    body = TENSOR_LOAD.replace("BYTES", "4096").replace("COL", "0").replace("ROW", "0") + WAIT
    box = {"arg": 2, "dims": [1, 0], "box": [32, 16], "swizzle": 0}
    emulator, launch = kernel(body, maps=[box])
    source = words(np.zeros((32, 32), np.uint16)).view(np.uint16).reshape(32, 32)
    arrays = (words(np.zeros(4, np.int32)), words(np.zeros(4, np.int32)), source)
    with pytest.raises(EmulationError, match=r"deadlock:\n.*parity 0 .* 0 arrivals and 3072 bytes"):
        emulator.run(launch, arrays)


def test_divergence():
    fails(
        f"""
  br i1 %first, label %a, label %b
a:
{BARRIER}
  br label %b
b:
  %i = call i32 @llvm.nvvm.shfl.sync.idx.i32(i32 -1, i32 %t, i32 3, i32 31)""",
        "diverged",
    )


@pytest.mark.parametrize("index", [-1, 64])
def test_global_memory_outside(index):
    body = f"""
  %p = getelementptr i32, ptr %out, i32 {index}
  store i32 0, ptr %p"""
    fails(body, r"outside all arguments; array 1 has 256 bytes")


def test_shared_memory_outside():
    body = "  %p = getelementptr i8, ptr addrspace(3) %s, i32 8192\n"
    fails(body + "  store i32 0, ptr addrspace(3) %p", "not in the kernel's shared memory")


def test_misaligned():
    body = "  %p = getelementptr i8, ptr %out, i32 2\n  store i32 0, ptr %p, align 2"
    fails(body, "not a multiple of 4")


def test_unknown_instructions_are_named():
    with pytest.raises(RuntimeError, match="intrinsic `llvm.nvvm.sin.approx.ftz.f`"):
        kernel("  %x = call float @llvm.nvvm.sin.approx.ftz.f(float 1.0)")
    with pytest.raises(RuntimeError, match="instruction `nanosleep.u32`"):
        kernel('  call void asm sideeffect "nanosleep.u32 20;", ""()')
