//===- Passes.td - Passes of the attention dialect ---------*- tablegen -*-===//

#ifndef FA_DIALECT_FA_TRANSFORMS_PASSES
#define FA_DIALECT_FA_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

def FASelectSchedule : Pass<"fa-select-schedule", "::mlir::func::FuncOp"> {
  let summary = "choose tiles and instructions of each attention for a chip";
  let description = [{
    Attaches `fa.schedule` to every `fa.attention` (and backward, and
    `fa.combine`) that has none: that of the first row (`#fa.choice`) that serves it,
    of the table in the module's attribute `fa.schedules` if there is one, then of the
    compiler's own table (`lib/Dialect/FA/Transforms/Schedules.mlir`). An `fa.attention`
    with a static number of at most 16 query rows, or with the attribute `fa.few_rows`,
    gets small tiles, one warp each on a GPU; with one query row, or the attribute
    `fa.pack_heads`, they are `packed`, if query heads share key heads, nothing in the
    problem but a score region depends on the head, there are no lengths, and rows and
    heads of q, o and lse are neighbouring dimensions (or there is one row). The attribute
    `fa.short_sequences` admits rows for such. An attribute that is already there wins
    over the tables; `override` wins over all.

    Input:
    ```mlir
    fa.attention ins(%q, %k, %v : ...) ...
    ```
    Output, `chip=sm_80`, head size 64:
    ```mlir
    fa.attention ins(%q, %k, %v : ...) ... {fa.schedule = #fa.schedule<
      tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync",
      copy = "cp_async", warps = 4, producers = 0, stages = 2>>}
    ```
  }];
  let options = [
    Option<"chip", "chip", "std::string", "\"cpu\"",
           "cpu, sm_75, sm_80, sm_86, sm_89 or sm_90a">,
    Option<"overrideSchedule", "override", "std::string", "\"\"",
           "a #fa.schedule<...> used in place of the tables">,
  ];
  let dependentDialects = ["::mlir::fa::FADialect"];
}

def FASimplifyMask : Pass<"fa-simplify-mask", "::mlir::func::FuncOp"> {
  let summary = "drop what a mask says twice";
  let description = [{
    Of attention and its backward. Drops constraints that follow from the others or from what holds of every
    score (`0 <= m < lq`, `0 <= n < lk`, `b, h >= 0`), sets that hold no score
    and sets that lie in another. A set without constraints makes the mask
    absent.

    Input:
    ```mlir
    mask <affine_set<(b, h, m, n)[lq, lk] : (lk - n + 3 >= 0, m + lk - lq - n >= 0)>>
    ```
    Output:
    ```mlir
    mask <affine_set<(b, h, m, n)[lq, lk] : (m + lk - lq - n >= 0)>>
    ```
  }];
}

def FASplitBackward : Pass<"fa-split-backward", "::mlir::func::FuncOp"> {
  let summary = "one operation per loop nest that a backward needs";
  let description = [{
    Splits each `fa.attention_backward` on memrefs: delta, which the others read;
    d_q, accumulated along the keys; d_k and d_v, accumulated along the rows.
    The scores are computed again in each. No sum crosses a grid point, so the
    results do not depend on the order in which they run. With a `d_q_sum`, the
    first operation sets it to 0, the one of d_k (or d_v) adds to it from the same
    scores, and the one of d_q comes last and only reads it: five products in place
    of seven, and d_q depends on the order of additions. The accumulators of d_k
    and d_v share the registers of a thread block: where the head sizes add up
    to more than `max-head-sizes`, they are separate operations too.
    Each gradient of a capture is an operation of its own, whose derivative region
    yields, or adds, that gradient only; those of the others yield none.

    Input:
    ```mlir
    fa.attention_backward ins(%q, %k, %v, %lse, %do : ...) o(%o : ...) ...
      delta(%delta : ...) d_q(%dq : ...) d_k(%dk : ...) d_v(%dv : ...)
    ```
    Output:
    ```mlir
    fa.attention_backward ins(...) o(%o : ...) ... delta(%delta : ...)
    fa.attention_backward ins(...) ... delta(%delta : ...) d_q(%dq : ...) {delta_known}
    fa.attention_backward ins(...) ... delta(%delta : ...) d_k(%dk : ...) d_v(%dv : ...)
      {delta_known}
    ```
  }];
  let options = [
    Option<"maxHeadSizes", "max-head-sizes", "int64_t", "INT64_MAX",
           "largest sum of head sizes whose d_k and d_v are computed together">,
  ];
}

def FASplitKeys : Pass<"fa-split-keys", "::mlir::func::FuncOp"> {
  let summary = "attention over parts of the keys, and fa.combine";
  let description = [{
    Rewrites an `fa.attention` on memrefs that has memory for `partials`: a loop
    over the parts, as many as this memory has, around an `fa.attention` whose mask
    keeps the keys of the part only; then an `fa.combine` of the partial results.
    `fa-tile` makes one grid of the loop and its own. A few query rows with
    many keys then occupy a whole device.

    The keys that some row may keep, as far as the mask says so for all batches and
    heads (otherwise all keys), are dealt out evenly in multiples of `multiple`: if
    tiles divide it, no tile crosses a part. A part without keys is dead.
    init_lse goes to the `fa.combine`. An operation with an init_lse and lengths, or
    whose o and lse differ in their batch or head dimension, stays whole.

    Input:
    ```mlir
    fa.attention ins(%q, %k, %v : ...) scale(%scale : f32)
      outs(%o, %lse : ...) partials(%o_parts, %lse_parts : memref<?x?x?x?x64xf32>, ...)
    ```
    Output:
    ```mlir
    scf.forall (%s) in (%count) {
      %first = arith.muli %s, %size : index
      %end = arith.addi %first, %size : index
      %op = memref.subview %o_parts[%s, 0, 0, 0, 0] ...
      fa.attention ins(%q, %k, %v : ...) scale(%scale : f32)
        mask <affine_set<(b, h, m, n)[lq, lk, f, e] : (n - f >= 0, e - 1 - n >= 0)>>
        symbols(%first, %end) outs(%op, %lp : ...)
    }
    fa.combine ins(%o_parts, %lse_parts : ...) outs(%o, %lse : ...)
    ```
  }];
  let options = [
    Option<"multiple", "multiple", "int64_t", "64",
           "parts begin at multiples of this number of keys">,
  ];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect",
      "::mlir::scf::SCFDialect"];
}

def FALowerCombine : Pass<"fa-lower-combine", "::mlir::func::FuncOp"> {
  let summary = "fa.combine to a tile program";
  let description = [{
    A grid over the rows and over blocks of `tile_n` columns of o; each point walks
    the parts, `tile_m` of them at once in the rows of its tiles. A row of the tiles
    carries the weighted sum of its parts, their largest lse and the sum of their
    weights, as `fa-online-softmax` does for keys; in the end the rows become one.

    Input:
    ```mlir
    fa.combine ins(%o_parts, %lse_parts : ...) outs(%o, %lse : ...)
    ```
    Output:
    ```mlir
    scf.forall (%b, %m, %h, %i) in (...) {
      %r:3 = scf.for %j = %c0 to %blocks step %c1 iter_args(%acc, %max, %sum) {
        %values = tile.load %o_parts_of_row[%s0, %e0] : ... -> tensor<64x32xf32>
        %weights = tile.load %lse_parts_of_row[%s0] : ... -> tensor<64xf32>
        ...
      }
      %out = tile.reduce add %weighted dim 0 : tensor<64x32xf32> -> tensor<32xf32>
      tile.store %out, %o_of_row[%e0] : ...
    }
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
      "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
      "::mlir::tl::TileDialect"];
}

def FATile : Pass<"fa-tile", "::mlir::func::FuncOp"> {
  let summary = "one attention window per batch, head and block of query rows";
  let description = [{
    Rewrites an `fa.attention` on memrefs as an `scf.forall` over (batch, query
    head, block of `tile_m` rows) around an `fa.attention` on two-dimensional
    windows, and moves the schedule's plan to the function as `tile.plan` (to the
    loop, where the function has several). An `fa.attention_backward` of d_k or
    d_v is tiled over (batch, key head, block of `tile_n` keys); its windows hold
    all query heads that read the key head. With a schedule that is `sequential` its
    grid is over (batch, key head), and a loop in it takes the blocks of keys from
    the first to the last. One of a capture's gradient stays as it
    is: its loop is over the capture, and `fa-recompute-softmax` makes it. The
    windows of q, o, lse and init_lse are taken from subviews that hold all rows
    of the batch and head; k and v hold the `lk` keys of the sequence.
    Per-batch lengths are read here and clamped to the extents. A loop around the
    operation (`fa-split-keys`) becomes the outermost dimension of the grid.

    With a schedule that is `packed`, the grid is over (batch, key head, block of
    query positions, block of the query heads that read the key head): `tile_m`
    heads, and as many positions as then fit in `tile_m` rows, at least one. A window
    has both dimensions, and `fa-online-softmax` makes them the rows of a tile. Where
    the problem has one query row, the rows of a window are the heads: a mask that asks
    for the query position gets it as a value, a score region the head from the row.

    Input:
    ```mlir
    fa.attention ins(%q, %k, %v : memref<?x?x?x64xf16, ...>, ...) ...
      {fa.schedule = #fa.schedule<tile_m = 128, ...>}
    ```
    Output:
    ```mlir
    scf.forall (%b, %h, %i) in (%batch, %heads, %blocks) {
      %m0 = affine.apply affine_map<(d0) -> (d0 * 128)>(%i)
      %qs = memref.subview %q[%b, 0, %h, 0] [1, %lq, 1, 64] [1, 1, 1, 1] ...
      %qw = memref.subview %qs[%m0, 0] [%rows, 64] [1, 1] ...
      fa.attention ins(%qw, %ks, %vs : ...) origin(%b, %h, %m0)
        lengths(%lq, %lk : index, index) ...
    }
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect",
      "::mlir::scf::SCFDialect"];
}

def FAOnlineSoftmax : Pass<"fa-online-softmax", "::mlir::func::FuncOp"> {
  let summary = "attention windows to tile programs with a loop over key blocks";
  let description = [{
    Rewrites each `fa.attention` window of `fa-tile` as a loop over blocks of
    `tile_n` keys that carries the unnormalised output, the maximum so far and
    the sum so far. The loop runs over the blocks in which the mask keeps
    something; blocks in which it keeps everything are recognised by a scalar
    comparison that `fa-split-mask-loops` turns into loop bounds.

    A window of positions and heads (`packed` in the schedule) has rows r of a tile at
    position r floordiv heads and head r mod heads: `merged` loads and stores, and mask
    and score region get positions and heads of the rows.

    Where a mask may cut blocks on both sides of the full ones (a window), the
    blocks that it may cut come first and the full ones after them: then
    `fa-split-mask-loops` makes two loops of it, not three.

    With `fixed_reference` in the schedule, a row's exponentials are relative to the
    maximum of its first block, and no other maximum is taken. Where those of a
    later block sum to more than 2^15 (infinity included, and any row that had no
    live key so far), a branch that each warp takes for itself (`tile.exceeds`)
    makes the scores of the block again, takes their maximum and scales what came
    before: exact for every input. Later blocks of these rows take their maximum at
    once, as scores that rise once often do again. Blocks that the mask or the number of keys cuts,
    few as they are, take their maximum at once. Regions with functions (a tanh) or of many
    operations, and operations with `init_lse`, keep the running maximum.

    With `lazy_maximum`, every block's maximum is taken, but the reference changes only
    where it is more than 8 (a factor of 256) ahead, in a branch that each warp takes
    for itself: the sums are rarely scaled (FlashAttention-4 does so). Operations with
    `init_lse` keep the running maximum.

    With `partial_sums`, rows' sums are kept in parts (`tile.partial_sums`), one for each
    lane that shares the row, and added up behind the loop.

    The running maximum is exact. Without a score region and with a scale that
    is known not to be negative (a constant, or a function argument with the
    attribute `fa.nonnegative`), scale and base change cost one multiply-subtract
    per element. Any finite scale is correct.

    What lies under the mask never reaches a row, NaN included. In a block that
    the mask cuts, a dead key has probability 0, but 0 * NaN is NaN. Such a sum
    stays NaN to the end, where each warp asks once (`tile.nonfinite`), about
    rows whose scores are numbers: if it is not finite, its rows are computed
    again, some columns at a time, one key at a time and only for rows that keep
    it. That is slow and exact, and no register is kept for it. Keys beyond the
    lengths are loaded as zeros. A score region can drop keys as well, with a
    score of -inf: programs whose region may (it reads captured tensors, or
    constants of infinity, or functions with poles) ask the same, and a row keeps
    a key whose score is not -inf. A captured number is taken to be finite: a soft
    cap or a product with a position asks nothing. Programs that neither cut
    blocks nor drop keys do not ask.

    Where the plan has producers and tiles have more rows beside those of a team
    of warps than a block has keys, each team skips the blocks that none of its
    rows sees (`tile.rows_held`), those at the end and, where the mask cuts both
    sides, those at the beginning, and only lets go of them (`tile.unused`).

    Input:
    ```mlir
    fa.attention ins(%qw, %ks, %vs : memref<?x64xf16, ...>, ...)
      scale(%scale : f32) origin(%b, %h, %m0) lengths(%lq, %lk : index, index) ...
    ```
    Output:
    ```mlir
    %qt = tile.load %qs[%m0, %c0] : memref<?x64xf16, ...> -> tensor<128x64xf16>
    %r:3 = scf.for %j = %lo to %hi step %c1 iter_args(%acc, %max, %sum) {
      %kt = tile.load %ks[%n0, %c0] : ... -> tensor<64x64xf16>
      %s = tile.contract %qt, %kt, %zero ...
      ...
      %keep = arith.cmpi sle, %columns, %rows : tensor<128x64xi32>
      %masked = arith.select %keep, %s, %ninf : tensor<128x64xi1>, tensor<128x64xf32>
      %full = arith.cmpi slt, %j, %end : index
      %s1 = arith.select %full, %s, %masked : tensor<128x64xf32>
      ...
    }
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
      "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
      "::mlir::tl::TileDialect"];
}

def FARecomputeSoftmax : Pass<"fa-recompute-softmax", "::mlir::func::FuncOp"> {
  let summary = "windows of attention_backward to tile programs";
  let description = [{
    Rewrites each window of an `fa.attention_backward` that `fa-split-backward`
    and `fa-tile` have made as a tile program. Probabilities are computed again
    from the scores and lse: `p = exp2(s * log2(e) - lse * log2(e))`.

    - delta: the row sums of o * d_o, without a loop; d_q_sum is set to 0.
    - d_q: a loop over the blocks of keys that the rows see, as in
      `fa-online-softmax`.
    - d_k and d_v: a loop over the query heads of the group and, for each, the
      blocks of rows that see one of the keys. The products that accumulate them
      take p and the gradient of the scores transposed. With a d_q_sum, what the
      block of keys adds to d_q of the rows goes there by `tile.accumulate`; with a
      `sequential` schedule by a load, the product and a store.
    - d_q from a d_q_sum: scaled, converted, zero in dead rows.

    - the gradient of a capture (which `fa-tile` leaves alone): each of its elements
      is owned by one grid point, which adds what the scores that may read it give,
      in a fixed order. Over rows and keys, it owns a block of both and loops over
      the batches and heads that the map drops; each block of scores is added to
      one accumulator, which is stored once. Where the map drops rows or keys, their
      blocks are walked too, and the accumulator is reduced at the end. The
      gradient's own extents make the grid: elements that no score reads get 0.
    - that of a capture that is gathered from: a grid point owns eight entries of
      the last dimension whose index is not the batch or the head, and adds per row
      what the clamped indices of a block assign to each. Where an index is affine
      in (b, h, m, n) by `arith` addi, subi and muli, only the blocks in which it
      can be one of the eight are walked: `first <= index < end` narrows the mask.
      Any other index (buckets by a logarithm, say) walks all blocks once per eight
      entries; atomic sums would walk them once, but round by their order.

    A row without a live key, and a row from lq on, is given lse = inf, which
    makes its probabilities 0. Gradients of scores that the mask drops are
    selected to 0, and what the derivative gives for a capture is where p is 0. So
    NaN and infinity in rows from lq on, keys from lk on, and in blocks that the
    mask drops as a whole reach nothing; nor do those of v, d_o and captures reach d_q,
    d_k or a capture's gradient through a score that is not kept. One exception: in a block of
    which the mask drops a part, those zeros are factors of products. There a k
    that is not finite spoils d_q of the rows of the block that do not keep its
    key, q that is not finite d_k, and d_o that is not finite d_v of the keys that
    its row does not keep. (The forward computes such rows again;
    here there would be three results to do so for.)

    Input:
    ```mlir
    fa.attention_backward ins(%qw, %ks, %vs, %lsew, %dow : ...)
      scale(%scale : f32) origin(%b, %h, %m0) lengths(%lq, %lk : index, index)
      delta(%deltaw : ...) d_q(%dqw : ...) {delta_known, ...}
    ```
    Output:
    ```mlir
    %r = scf.for %j = %lo to %hi step %c1 iter_args(%acc = %zero) {
      %s = tile.contract %qt, %kt, %none ...
      %p = math.exp2 ...
      %dp = tile.contract %dot, %vt, %none ...
      %ds = arith.mulf %p, ...
      %next = tile.contract %ds16, %kt, %acc ...
      scf.yield %next
    }
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
      "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect",
      "::mlir::tl::TileDialect"];
}

def FASplitMaskLoops : Pass<"fa-split-mask-loops", "::mlir::func::FuncOp"> {
  let summary = "split loops where a comparison of their variable changes";
  let description = [{
    Splits an `scf.for` of step 1 whose body compares the loop variable with
    loop-invariant bounds (`bound <= j`, `j < bound`) into consecutive loops
    in each of which the comparisons are constants, and folds what follows from
    them. A later loop begins at the value at which the earlier one ends. After
    `fa-online-softmax` these are the masked, the unmasked and again the masked
    blocks of keys; the unmasked loop holds no mask comparison.

    Input:
    ```mlir
    %r = scf.for %j = %lo to %hi step %c1 iter_args(%x = %init) {
      %full = arith.cmpi slt, %j, %end : index
      %s1 = arith.select %full, %s, %masked
      ...
    ```
    Output:
    ```mlir
    %mid = affine.max(%lo, affine.min(%end, %hi))
    %r0 = scf.for %j = %lo to %mid step %c1 iter_args(%x = %init)  // uses %s
    %r = scf.for %j = %mid to %hi step %c1 iter_args(%x = %r0)     // %masked
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect"];
}

def FADifferentiate : Pass<"fa-differentiate", "::mlir::func::FuncOp"> {
  let summary = "derivative regions from score regions";
  let description = [{
    Gives each `fa.attention_backward` that has a score region and no derivative
    region the latter, by reverse differentiation: the score once more, then its
    operations from the last to the first, each of which hands the gradient of
    its result on to its operands. A capture that is read by `fa.gather` gets an
    `fa.accumulate` at the same indices.

    Only what lies between the raw score or a capture of `capture_grads` and the
    result is differentiated: `arith` addf, subf, mulf, divf, negf, minimumf,
    maximumf, minnumf, maxnumf, select, extf, truncf; `math` absf, exp, exp2, fma,
    log, log1p, sqrt, rsqrt, tanh, erf, sin, cos, powf; `fa.gather`. Any other
    operation there is refused by name; elsewhere it is a constant, as are
    comparisons, conversions to integers and what is computed from these.
    Gradients are kept in the accumulator type (f64 where the score uses f64).

    Where a function has a kink: the gradient of `abs` at 0 is 0; of equal
    operands of a minimum or maximum each gets half; `select` passes it to the
    chosen operand; the exponent of `powf` gets none where the power is 0, its
    base none where the exponent is 0.

    Input:
    ```mlir
    fa.attention_backward ... captures(%bias : memref<8x512xf32>) ...
      {capture_grads = array<i64: 0>, ...} score {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %x: f32):
      %t = math.tanh %r : f32
      %s = arith.mulf %t, %x : f32
      fa.yield %s : f32
    }
    ```
    Output:
    ```mlir
    fa.attention_backward ... score { ... } derivative {
    ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %x: f32, %ds: f32):
      %t = math.tanh %r : f32
      %dt = arith.mulf %ds, %x : f32
      %dx = arith.mulf %ds, %t : f32
      %square = arith.mulf %t, %t : f32
      %slope = arith.subf %one, %square : f32
      %dr = arith.mulf %dt, %slope : f32
      fa.yield %dr, %dx : f32, f32
    }
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
      "::mlir::math::MathDialect"];
}

def FADecompose : Pass<"fa-decompose", "::mlir::func::FuncOp"> {
  let summary = "the executable meaning of attention, as linalg.generic";
  let description = [{
    Rewrites each `fa.attention`, on tensors or memrefs and windows included, as
    a sequence of `linalg.generic` that follows its documentation step by step.
    Scores are materialised: this is the definition to compare with, not a way
    to run.

    `fa.attention_backward` likewise, after `fa-differentiate` when it has a
    score region; its sums, in which several scores meet in one element (query
    heads of a group, gathered captures), are `scf.for` nests that add to one
    element at a time.

    Input:
    ```mlir
    fa.attention ins(%q, %k, %v : ...) scale(%scale : f32) ... outs(%o, %lse ...)
    ```
    Output:
    ```mlir
    %s = linalg.generic ... // scale, score region, mask; -inf where not kept
    %max = linalg.generic ... arith.maxnumf
    %sum = linalg.generic ... math.exp
    %acc = linalg.generic ... // the sum of p * v
    %o = linalg.generic ... arith.divf
    %lse = linalg.generic ... math.log
    ```

    Input:
    ```mlir
    fa.attention_backward ins(%q, %k, %v, %lse, %d_o : ...) o(%o : ...) ...
    ```
    Output:
    ```mlir
    %delta = linalg.generic ... // the sum of o * d_o, less d_lse
    %s = linalg.generic ... // scores; -inf where not kept
    %p = linalg.generic ... math.exp
    %dp = linalg.generic ... // the sum of d_o * v
    %ds = linalg.generic ...
    %dr = linalg.generic ... // the derivative region
    %sum = scf.for ... // d_k: adds dr * q at the key head of h
    %d_k = linalg.generic ... // times scale, in the type of d_k
    ```
  }];
  let dependentDialects = ["::mlir::affine::AffineDialect",
      "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect",
      "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
      "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect"];
}

#endif // FA_DIALECT_FA_TRANSFORMS_PASSES
