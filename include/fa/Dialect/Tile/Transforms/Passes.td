//===- Passes.td - Passes of the tile dialect --------------*- tablegen -*-===//

#ifndef FA_DIALECT_TILE_TRANSFORMS_PASSES
#define FA_DIALECT_TILE_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Every target
//===----------------------------------------------------------------------===//

def TileOutlineLaunches : Pass<"tile-outline-launches", "::mlir::ModuleOp"> {
  let summary = "One function for each of several top-level scf.forall";
  let description = [{
    A program may be a sequence of `scf.forall`, each of which reads from memory
    what earlier ones wrote: every loop becomes a launch of its own. A function
    `@f` with n > 1 of them becomes `@f_0` to `@f_{n-1}` with the arguments of
    `@f`, one loop each and the scalar computation that it uses; `tile.order`
    tells the runtime their order. A loop may carry a `tile.plan` of its own,
    which wins over the function's. A function with one loop stays.

    Refused: a loop inside another operation, a loop with results, and anything
    that is not pure beside the loops.

    Input:
    ```mlir
    func.func @f(%x: memref<?xf32>, %sum: memref<?xf32>) attributes {tile.plan = #a} {
      %n = memref.dim %x, %c0 : memref<?xf32>
      scf.forall (%i) in (%n) { ... }
      scf.forall (%i) in (%n) { ... } {tile.plan = #b}
      return
    }
    ```
    Output:
    ```mlir
    func.func @f_0(%x: memref<?xf32>, %sum: memref<?xf32>)
        attributes {tile.order = 0 : i64, tile.plan = #a} { ... }
    func.func @f_1(%x: memref<?xf32>, %sum: memref<?xf32>)
        attributes {tile.order = 1 : i64, tile.plan = #b} { ... }
    ```
  }];
}

//===----------------------------------------------------------------------===//
// GPU
//===----------------------------------------------------------------------===//

def TileMapGrid : Pass<"tile-map-grid", "::mlir::func::FuncOp"> {
  let summary = "Run one iteration of the outer scf.forall per thread block";
  let description = [{
    Replaces the function's `scf.forall` by its body at the coordinates of the
    thread block, and notes the grid for the launcher in `tile.launch`. Blocks
    start in row-major order with the last dimension running backwards: where
    the work of a tile grows with its index (triangular loops), the longest
    start first and the tail of the launch is short.

    Input:
    ```mlir
    scf.forall (%h, %i) in (%heads, %blocks) { ... }
    ```
    Output:
    ```mlir
    %id = gpu.block_id x
    // %h = id / blocks, %i = blocks - 1 - id mod blocks
    ...
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::gpu::GPUDialect"];
}

def TileOrientForProducts : Pass<"tile-orient-for-products", "::mlir::func::FuncOp"> {
  let summary = "transpose computed tiles so that products can take them";
  let description = [{
    Tensor cores take a factor from registers on the left only, with the reduced
    dimension along its columns; factors in shared memory can be read either way.
    For each class of tiles that elementwise operations and loops tie together,
    the products that take one of them as a factor decide whether the class is
    held transposed; where they are as many on either side, the longer dimension
    becomes the rows. Afterwards every product is written with its accumulator as
    (m, n) and the rows of the left factor as m.

    Input:
    ```mlir
    // %s = a b^T, then c += f(%s)^T d
    %s = tile.contract %a, %b, %zero {maps = [mk, nk, mn]}
        : tensor<32x64xf16>, tensor<16x64xf16>, tensor<32x16xf32>
    %p = arith.truncf %s : tensor<32x16xf32> to tensor<32x16xf16>
    %r = tile.contract %p, %d, %c {maps = [km, kn, mn]}
        : tensor<32x16xf16>, tensor<32x64xf16>, tensor<16x64xf32>
    ```
    Output:
    ```mlir
    %s = tile.contract %b, %a, %zero {maps = [mk, nk, mn]}
        : tensor<16x64xf16>, tensor<32x64xf16>, tensor<16x32xf32>
    %p = arith.truncf %s : tensor<16x32xf32> to tensor<16x32xf16>
    %r = tile.contract %p, %d, %c {maps = [mk, kn, mn]}
        : tensor<16x32xf16>, tensor<32x64xf16>, tensor<16x64xf32>
    ```
  }];
}

def TileAsyncCopy : Pass<"tile-async-copy", "::mlir::func::FuncOp"> {
  let summary = "Turn loads that feed products into copies through pipes";
  let description = [{
    A `tile.load` whose users are all factors of `tile.contract` need not pass
    through registers: it becomes `tile.produce` into a shared-memory pipe and
    `tile.consume` before the first user, `tile.release` after the last. Loads
    in a loop get the plan's number of stages, others one. Loops that continue
    each other (the lower bound of one is the upper bound of the one before)
    share their pipes; the fill number is the trip count since the first. Slots have the
    widest panels that divide a row; for tensor copies, which are slow in narrow ones, they
    have 64 bytes at least where a row has more than 32, and 128 where that takes no more.

    A tensor copy knows the end of a tensor, not that of a view of its first rows. It is
    `open` then, and `tile.consume` clears the `rows` behind that end, unless the loop's
    bounds tell that there are none.

    Input:
    ```mlir
    %k = tile.load %ks[%n0, %c0] : memref<?x64xf16> -> tensor<64x64xf16>
    %s = tile.contract %q, %k, %zero ...
    ```
    Output:
    ```mlir
    tile.produce %pipe[%i], %ks[%n0, %c0] : ...
    %k = tile.consume %pipe[%i] : ...
    %s = tile.contract %q, %k, %zero ...
    tile.release %pipe[%i] : ...
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect"];
}

def TileStage : Pass<"tile-stage", "::mlir::func::FuncOp"> {
  let summary = "put factors that registers cannot hold into shared memory";
  let description = [{
    Products take a factor from registers on the left only, with the reduced
    dimension along its columns. A 16-bit tile in registers (one that is
    computed, or a load that others read, too) that a product needs otherwise,
    or that has too few rows for each warp to hold some of its own, or that is loaded
    from `merged` dimensions (no asynchronous copy does that, and in registers it would
    stay through a whole loop), or any in a `square` plan, goes through
    `tile.stage`; products that can take it from registers still do.
    Runs after `tile-async-copy`, which leaves such tiles.

    Input:
    ```mlir
    %u = tile.contract %p, %b, %x {maps = [mk, kn, mn]} : tensor<...>, !tile.buffer<...>, ...
    %v = tile.contract %p, %c, %y {maps = [km, kn, mn]} : tensor<...>, !tile.buffer<...>, ...
    ```
    Output:
    ```mlir
    %u = tile.contract %p, %b, %x {maps = [mk, kn, mn]} : tensor<...>, !tile.buffer<...>, ...
    %s = tile.stage %p : tensor<...> -> !tile.buffer<...>
    %v = tile.contract %s, %c, %y {maps = [km, kn, mn]} : !tile.buffer<...>, ...
    ```
  }];
}

def TileHoldFactors : Pass<"tile-hold-factors", "::mlir::func::FuncOp"> {
  let summary = "Left factors that a loop does not change stay in registers";
  let description = [{
    With `hold_left` in the plan: a left factor that is copied before a loop and
    multiplied in it is read into registers once (`tile.fetch`), where each team of
    warps has rows of its own. Products then read a third less of shared memory, which
    is time where that is the limit, and power where that is; it takes registers for
    the whole loop. Products in branches that are rarely taken (`each_warp`) go on
    reading shared memory.

    Input:
    ```mlir
    %q = tile.consume %p[%c0] : ...
    scf.for ... {
      %s = tile.contract %q, %k, %zero : ...
    }
    ```
    Output:
    ```mlir
    %q = tile.consume %p[%c0] : ...
    %t = tile.fetch %q : ... -> tensor<128x64xf16>
    scf.for ... {
      %s = tile.contract %t, %k, %zero : ...
    }
    ```
  }];
}

def TileRoles : Pass<"tile-roles", "::mlir::func::FuncOp"> {
  let summary = "Give copies to producer warps";
  let description = [{
    With `producers > 0` in the plan, splits the program into two roles: the
    first keeps the loops and the `tile.produce`s, the second everything else.
    Without producers the pass does nothing.

    Output:
    ```mlir
    tile.roles warps [4, 8] registers [24, 240] {
      scf.for ... { tile.produce ... }
    }, {
      scf.for ... { tile.consume ... tile.contract ... tile.release ... }
    }
    ```
  }];
}

def TileDelayProducts : Pass<"tile-delay-products", "::mlir::func::FuncOp"> {
  let summary = "Run a loop's last product beside its next iteration";
  let description = [{
    With `overlap` in the plan. A loop whose body ends in a product that is added
    to what the loop carries runs that product one iteration later, right after
    the first product of that iteration: the elementwise work in between then has
    two products under way beside it. The left factor is carried, in
    registers; the first iteration without that product stands before the loop, the
    last product behind it, all in a branch that is taken when there is an
    iteration at all.

    Of the pieces of one range of iterations (`fa-split-mask-loops`) only those
    with the fewest operations are changed: they are the ones that run often.

    Input:
    ```mlir
    %r = scf.for %i = %lo to %hi step %c1 iter_args(%acc = %init) {
      %k = tile.consume %pk[%i]
      %s = tile.contract %q, %k, %zero
      tile.release %pk[%i]
      %p = ...
      %scaled = arith.mulf %acc, %factor
      %v = tile.consume %pv[%i]
      %o = tile.contract %p, %v, %scaled
      tile.release %pv[%i]
      scf.yield %o
    }
    ```
    Output (in the branch):
    ```mlir
    // the work of %lo but the last product: %p0, %scaled0
    %c:2 = scf.for %i = %lo + 1 to %hi step %c1
        iter_args(%p1 = %p0, %scaled1 = %scaled0) {
      %k = tile.consume %pk[%i]
      %s = tile.contract %q, %k, %zero
      %v = tile.consume %pv[%i - 1]
      %o = tile.contract %p1, %v, %scaled1
      tile.release %pv[%i - 1]
      tile.release %pk[%i]
      %p = ...
      %scaled = arith.mulf %o, %factor
      scf.yield %p, %scaled
    }
    // the product of %hi - 1
    ```
  }];
}

def TileAsyncProducts : Pass<"tile-async-products", "::mlir::func::FuncOp"> {
  let summary = "Wait for products where their results are needed";
  let description = [{
    With `wgmma`, whose products run beside the threads that start them, and
    `overlap` in the plan. Every `tile.contract` but those `each_warp` becomes
    `async`, and a `tile.await` stands before the first use
    of its result, before the end of its block, and before its factors may be
    written again: a `tile.release` that follows a product moves behind the wait.

    Output:
    ```mlir
    %s0 = tile.contract async %q, %k, %zero
    %v = tile.consume %pv[%j]
    %o0 = tile.contract async %p, %v, %acc
    %s = tile.await %s0 {younger = 1}
    tile.release %pk[%i]
    // work on %s
    %o = tile.await %o0 {younger = 0}
    tile.release %pv[%j]
    ```
  }];
}

def TileTurns : Pass<"tile-turns", "::mlir::func::FuncOp"> {
  let summary = "Teams of warps start their products one after the other";
  let description = [{
    With `turns` in the plan (ping-pong, FlashAttention-3): in a loop with `async`
    products, a team takes its turn before the first one and passes it on behind the
    last that starts before a wait, so that the work of one team on what it waited for
    falls beside products of another.

    Loops that not all warps of the role run equally often are left alone, since a turn
    that nobody passes on is waited for forever: those that depend on `tile.rows_held`,
    `tile.exceeds`, `tile.nonfinite` or on what a loop carries.

    Output:
    ```mlir
    tile.pass_turn first
    scf.for ... {
      tile.take_turn
      %s0 = tile.contract async %q, %k, %zero
      %o0 = tile.contract async %p, %v, %acc
      tile.pass_turn
      %s = tile.await %s0 {younger = 1}
      ...
    ```
  }];
}

def TilePipeline : Pass<"tile-pipeline", "::mlir::func::FuncOp"> {
  let summary = "Start copies ahead of their use in the same threads";
  let description = [{
    For programs without producer warps. A slot that was released may be filled
    again after the next `tile.consume` or `tile.stage`, which are barriers; the pass
    moves each
    `tile.produce` there, as many fills ahead as the pipe has slots free at that
    point, puts the first fills before the loop, and counts for each
    `tile.consume` how many younger fills may be `pending`. A pipe that cannot
    be refilled in time with one slot gets two.

    Output (one slot each for %pk and %pv):
    ```mlir
    tile.produce %pk[%c0], ...
    scf.for %i ... {
      %k = tile.consume %pk[%i] {pending = 0}
      tile.produce %pv[%i], ...
      %s = tile.contract %q, %k, ...
      %v = tile.consume %pv[%i] {pending = 0}
      tile.produce %pk[%i + 1], ... if %more
      %o = tile.contract %p, %v, ...
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def TilePersistent : Pass<"tile-persistent", "::mlir::func::FuncOp"> {
  let summary = "Let a block take one iteration of the grid after another";
  let description = [{
    With `persistent` in the plan. Each role of the program becomes the body of a loop
    over the iterations of the grid that fall to its block; a launch then has as many
    blocks as the device has multiprocessors (`per_multiprocessor` in `tile.launch`).
    The number of fills of each pipe is carried from one iteration to the next, so
    that slots and phases go on: producers fill slots for the next iteration while
    the last one is still computed and stored. The numbers are the trip
    counts of the loops around the copies, which all roles compute. What is
    copied once per iteration gets a second slot where shared memory has room, for
    producers to be ahead.

    The iterations go to blocks in rounds. Where all are of one length, a round has
    those that follow the last one's. Where the block decides how long loops are,
    those of the innermost dimension fall (`tile-map-grid` begins with the longest).
    Then the outer iterations are divided into sections of about two rounds each,
    which take the longest ones of all their outer iterations first and run back and
    forth: a block that has the longest one of a round has the shortest one of the
    next. So blocks have nearly equal sums after each section, and what runs side by
    side reads the same memory. Some blocks have one iteration less than others in a
    section; in the next one, these are the blocks beside them.

    Runs after `tile-roles` and `tile-delay-products`. A function without roles (no
    copies) stays as it is.

    Input:
    ```mlir
    tile.roles warps [4, 8] registers [24, 240] {
      %id = gpu.block_id x
      scf.for %i = %c0 to %n step %c1 {
        tile.produce %pipe[%i], ...
      }
    }, {
      ...
    }
    ```
    Output:
    ```mlir
    tile.roles warps [4, 8] registers [24, 240] {
      %block = gpu.block_id x
      %blocks = gpu.grid_dim x
      scf.for %round = %c0 to %rounds step %c1 iter_args(%fills = %c0) -> (index) {
        // %id = round * blocks + block
        %next = scf.if %exists -> (index) {
          scf.for %i = %c0 to %n step %c1 {
            tile.produce %pipe[%fills + %i], ...
          }
          scf.yield %fills + max(%n, 0)
        } else {
          scf.yield %fills
        }
        scf.yield %next
      }
    }, {
      ...
    }
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
                           "::mlir::arith::ArithDialect",
                           "::mlir::gpu::GPUDialect",
                           "::mlir::memref::MemRefDialect"];
}

def TileInvertDivisors : Pass<"tile-invert-divisors", "::mlir::func::FuncOp"> {
  let summary = "Multiply by reciprocals of what loops don't change";
  let description = [{
    A division of 32-bit numbers without sign is some 20 dependent instructions, and
    several of them, which find out the place of a tile, begin an iteration. Where a loop
    does not change the divisor, the reciprocal is computed before the outermost
    such loop. The quotient that it gives is too small by one at most (for the
    difference is below n / 2^32 + 1), which the remainder tells. So are divisions of
    indices that are 32-bit numbers extended by zeros. Where a loop changes neither
    number, the division itself moves before it.

    Output, of `%q = arith.divui %n, %d : i32` in a loop:
    ```mlir
    %r = arith.divui %c-1, max(%d, 1) : i32
    scf.for ... {
      %low = high half of %n * %r
      %rest = %n - %low * %d
      %exact = arith.cmpi ult, %rest, %d : i32
      %q = arith.select %exact, %low, %low + 1 : i32
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def TileAssignLayouts : Pass<"tile-assign-layouts", "::mlir::func::FuncOp"> {
  let summary = "Decide which thread holds which element of each tile";
  let description = [{
    Accumulators get the accumulator layout of the plan's product instruction
    over its warps, left factors in registers the same (it is the operand
    layout of 16-bit products). Where there are more warps (wgmma: groups of four)
    than blocks of rows, or the plan is `square`, the columns of an accumulator are
    spread, too; factors then come from shared memory. The layouts go on through elementwise
    operations, reductions, broadcasts and loops. Constants, splats and iotas
    are copied per use first.

    A vector along the columns of a matrix would take a register for each of them that a
    thread has: 16 of 64, each in eight lanes. Where it comes from memory or
    coordinates it is spread over the lanes, a 32nd in each, and its broadcast shuffles.

    Output:
    ```mlir
    #acc = #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8, 2:0:16],
                      lane = [4:1:2, 8:0:1], warp = [4:0:32]>
    %s = tile.contract %q, %k, %zero : ..., tensor<128x64xf32, #acc>
    %l = tile.load %lse[%m0] : ...
        -> tensor<64xf32, #tile.frag<reg = [2:0:32], lane = [32:0:1], warp = [4:0:0]>>
    ```
  }];
}

def TilePlanResources : Pass<"tile-plan-resources", "::mlir::func::FuncOp"> {
  let summary = "Place pipes and barriers in shared memory";
  let description = [{
    Gives each `tile.pipe` its offset, and with roles its barriers, gives each
    `tile.stage` its offset and says where it can save a barrier, and notes the
    total as `tile.shared_bytes`. On chips with bulk copies a shuffled `tile.accumulate` of
    whole rows gets an offset in what is left, if it fits: the same for all, as each waits
    for the one before. So do the stores of 16-bit tiles of persistent kernels, where the
    chip stores matrices to shared memory: with `bulk_stores`, and if a panel fits, for
    tensor copies (`bulk`). Refuses a total above the chip's limit and a
    plan for instructions that the chip does not have (`cp_async` and products of
    bf16 on sm_75, for example).
  }];
}

//===----------------------------------------------------------------------===//
// CPU
//===----------------------------------------------------------------------===//

def TileOrientForVectors : Pass<"tile-orient-for-vectors", "func::FuncOp"> {
  let summary = "transpose matrix tiles so that vectors need no horizontal ops";
  let description = [{
    Chooses for each matrix tile of an L1 program whether to keep it or its
    transpose. On the CPU vectors run along the last dimension of a tile, so:

    - tiles that are reduced are turned so that the reduced dimension is the first
      one; the majority decides for all tiles that elementwise operations and loops
      tie together;
    - without reductions, accumulators of a `tile.contract` in a loop are turned so
      that their last dimension is that of the factor from outside of the loop, if
      one is: what must be transposed for that is transposed once;
    - without either, broadcast tiles are turned so that the inserted dimension is
      the first one;
    - the operand of a `tile.contract` that shares the last dimension of the
      accumulator is turned so that this dimension is its last one too; a tile from
      memory that contractions want both ways round is loaded twice;
    - anything else keeps its orientation.

    The choice costs nothing but a permutation in `tile.load` and `tile.store`
    (`order`), in contraction maps and in the `dim` of reductions.

    Input:
    ```mlir
    %s = tile.load %m[%i, %j] : memref<?x?xf32> -> tensor<32x16xf32>
    %r = tile.reduce max %s dim 1 : tensor<32x16xf32> -> tensor<32xf32>
    ```
    Output:
    ```mlir
    %s = tile.load %m[%i, %j] order array<i64: 1, 0> : memref<?x?xf32> -> tensor<16x32xf32>
    %r = tile.reduce max %s dim 0 : tensor<16x32xf32> -> tensor<32xf32>
    ```
  }];
  let dependentDialects = ["::mlir::tl::TileDialect"];
}

#endif // FA_DIALECT_TILE_TRANSFORMS_PASSES
