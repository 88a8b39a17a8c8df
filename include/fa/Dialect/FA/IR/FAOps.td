//===- FAOps.td - The attention dialect --------------------*- tablegen -*-===//
//
// L0 of the compiler: what is computed, never how.
//
//===----------------------------------------------------------------------===//

#ifndef FA_DIALECT_FA_IR_FAOPS
#define FA_DIALECT_FA_IR_FAOPS

include "fa/Dialect/FA/IR/FAInterfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/EnumAttr.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

//===----------------------------------------------------------------------===//
// Dialect
//===----------------------------------------------------------------------===//

def FA_Dialect : Dialect {
  let name = "fa";
  let cppNamespace = "::mlir::fa";
  let summary = "Attention as one operation with a queryable mask";
  let description = [{
    The `fa` dialect states attention as a program: tensors with indexing maps,
    a score region, a mask that is a union of integer sets, captures. It says
    nothing about tiles, threads or instructions; a schedule is a discardable
    attribute (`fa.schedule`) whose removal never changes a result.
  }];
  let useDefaultAttributePrinterParser = 1;
  // The schedule attribute holds a #tile.plan.
  let dependentDialects = ["::mlir::tl::TileDialect"];
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

class FA_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<FA_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def FA_MaskAttr : FA_Attr<"Mask", "mask"> {
  let summary = "union of integer sets over (b, h, m, n)[lq, lk, symbols...]";
  let description = [{
    A score (b, h, m, n) is kept when at least one of the sets holds it. The
    dimensions are the batch, the query head, the query row and the key column,
    all counted from the sequence's own start. The first two symbols are the
    sequence lengths of queries and keys; the rest are bound to the operation's
    `symbols` operands in order. An absent mask keeps everything; a mask with no
    set keeps nothing.

    ```mlir
    // causal, aligned to the bottom right corner
    #causal = affine_set<(b, h, m, n)[lq, lk] : (m + lk - lq - n >= 0)>
    // sliding window of w keys to the left, causal
    #window = affine_set<(b, h, m, n)[lq, lk, w] :
        (m + lk - lq - n >= 0, n + w - m - lk + lq >= 0)>
    #fa.mask<#causal>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::IntegerSet", "sets">:$sets);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The sets alone: "(d0, d1, d2, d3)[s0, s1] : (d2 + s1 - s0 - d3 >= 0)".
    std::string getText() const;
  }];
}

def FA_ScheduleAttr : FA_Attr<"Schedule", "schedule"> {
  let summary = "how one attention operation is mapped to a target";
  let description = [{
    A discardable attribute named `fa.schedule`. Deleting it changes speed,
    never results.

    - `tile_m`, `tile_n`: query rows and key columns of a tile; of `fa.combine`,
      parts that are added at once and columns of o.
    - `plan`: what the levels below do with the tiles (`#tile.plan`).
    - `packed`: the rows of a tile are the query heads that read one head of k
      and v, at as many query positions as fit beside them (at least one), so
      that keys are read once for all of them.
    - `fixed_reference`, `lazy_maximum`: what a row's exponentials are relative to.
      Otherwise its maximum so far; with the first one the maximum of its first
      block, replaced where it turns out to be too small; with the second one a
      maximum that is replaced where later ones are far ahead (`fa-online-softmax`).
    - `partial_sums`: the lanes that share a row each add up what they hold of its
      exponentials and exchange their sums once, behind the loop over keys. On a
      CPU, where no row is shared, it says nothing.
    - `sequential`: of gradients of keys, the blocks of keys of one batch and key
      head come one after the other at one grid point. Nothing else adds to the
      `d_q_sum` of the query heads that read it then, so its sums have an order.

    ```mlir
    #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_80",
      mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>
    ```
  }];
  let parameters = (ins "int64_t":$tile_m, "int64_t":$tile_n,
      "::mlir::tl::PlanAttr":$plan,
      DefaultValuedParameter<"bool", "false">:$packed,
      DefaultValuedParameter<"bool", "false">:$fixed_reference,
      DefaultValuedParameter<"bool", "false">:$lazy_maximum,
      DefaultValuedParameter<"bool", "false">:$partial_sums,
      DefaultValuedParameter<"bool", "false">:$sequential);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The same but for these.
    ScheduleAttr with(::mlir::tl::PlanAttr plan, bool packed) const {
      return get(getContext(), getTileM(), getTileN(), plan, packed,
                 getFixedReference(), getLazyMaximum(), getPartialSums(),
                 getSequential());
    }
  }];
}

def FA_Work : I32Enum<"Work", "what one loop nest computes", [
    // fa.attention; the same for few query rows, or packed
    I32EnumCase<"Output", 0, "output">, I32EnumCase<"Few", 1, "few">,
    // fa.combine; delta, and a sum of d_q set or converted: no products
    I32EnumCase<"Parts", 2, "parts">, I32EnumCase<"Copies", 3, "copies">,
    // gradients: of query rows; of keys; of keys, and d_q added to memory
    I32EnumCase<"Rows", 4, "rows">, I32EnumCase<"Keys", 5, "keys">,
    I32EnumCase<"All", 6, "all">,
    // gradients of a capture: by row and key; summed over rows or keys
    I32EnumCase<"Blocks", 7, "blocks">, I32EnumCase<"Sums", 8, "sums">]> {
  let cppNamespace = "::mlir::fa";
}

def FA_ChoiceAttr : FA_Attr<"Choice", "choice"> {
  let summary = "a schedule, and the loop nests that it is for";
  let description = [{
    A row of a table of schedules. It serves a loop nest if all of this holds:

    - `work` is what the loop nest computes: `output` (`fa.attention`), `few` (the
      same of at most 16 query rows), `parts` (`fa.combine`), `copies` (delta; a sum
      of d_q set or converted), `rows` (gradients of query rows), `keys` (gradients
      of keys), `all` (gradients of keys, and d_q added to memory), `blocks` and
      `sums` (a capture's gradient by row and key; summed over one of them).
    - `min_head_size`, `max_head_size`: bounds of the larger of d and e.
    - `shared_kib`: shared memory that a thread block of the chip may use at least.
    - `element`, if given: the element type of q.
    - `mask`, if given: the mask after `fa-simplify-mask`, as sets print (in a string,
      as `>=` ends the text of an attribute); "none": it has none.
    - `scored`, if given: whether there is a score region.
    - `lengths`, if given: whether sequences have lengths of their own.
    - `plain`, if given: whether a tile takes few registers beside scores and output:
      there are no lengths, the score region captures no tensor, and the mask leaves
      no keys out at the beginning of a row.
    - `short_sequences`, if given: whether the operation has the attribute
      `fa.short_sequences`.
    - The chip is that of `plan`, or a newer one if `mma` is not `wgmma`; the
      schedule that is chosen has the name of the chip that it is chosen for, and is
      `packed` where the problem allows it.

    ```mlir
    #fa.choice<work = output, max_head_size = 128, schedule = <tile_m = 128,
      tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async",
      warps = 4, producers = 0, stages = 1>>>
    ```
  }];
  let parameters = (ins EnumParameter<FA_Work>:$work,
      DefaultValuedParameter<"int64_t", "0">:$min_head_size,
      DefaultValuedParameter<"int64_t", "INT64_MAX">:$max_head_size,
      DefaultValuedParameter<"int64_t", "0">:$shared_kib,
      OptionalParameter<"::mlir::Type">:$element,
      OptionalParameter<"::mlir::StringAttr">:$mask,
      OptionalParameter<"::mlir::BoolAttr">:$scored,
      OptionalParameter<"::mlir::BoolAttr">:$lengths,
      OptionalParameter<"::mlir::BoolAttr">:$plain,
      OptionalParameter<"::mlir::BoolAttr">:$short_sequences,
      "::mlir::fa::ScheduleAttr":$schedule);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def FA_SchedulesAttr : FA_Attr<"Schedules", "schedules"> {
  let summary = "a table of schedules: the first row that serves is chosen";
  let description = [{
    A table for `fa-select-schedule`, for one version of this project. As the
    attribute `fa.schedules` of a module, its rows come before those that the
    compiler has (`lib/Dialect/FA/Transforms/Schedules.mlir`, which is such a table,
    too). Files of it are what `python3 -m flash_attn_mlir tune` writes.

    ```mlir
    module attributes {fa.schedules = #fa.schedules<"0.1.0", [
      <work = few, schedule = <tile_m = 16, tile_n = 32, plan = <chip = "cpu",
       mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>
    ]>} { ... }
    ```
  }];
  let parameters = (ins StringRefParameter<"version of the project">:$version,
      OptionalArrayRefParameter<"::mlir::fa::ChoiceAttr">:$choices);
  let assemblyFormat =
      "`<` $version `,` `[` (`]`) : ($choices^ `]`)? `>`";
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

class FA_Op<string mnemonic, list<Trait> traits = []>
    : Op<FA_Dialect, mnemonic, traits>;

def FA_TensorOrMemRef : AnyTypeOf<[AnyRankedTensor, AnyStridedMemRef]>;

def FA_AttentionOp : FA_Op<"attention",
    [AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<FA_AttentionOpInterface,
                               ["getOutputLike", "getShapedOperands", "getDestinations"]>,
     DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "softmax(mask(score(scale * q k^T))) v";
  let description = [{
    Iteration space (b, h, m, n, d, e): batch, query head, query row, key
    column, head size of q and k, head size of v. `indexing_maps` has one map
    for q, k, v, o, lse, in that order, from these dimensions to the operand's;
    each is a projected permutation, except that the head of k and v may be
    `h floordiv g` with `g` a constant or the symbol `s0`, whose value is the
    number of query heads over the number of key heads (GQA, MQA). A dimension
    in no map has extent 1.

    For every (b, h, m), in f32 (f64 for f64 inputs):

    1. `s(n) = scale * sum_d q(b,h,m,d) * k(b,h,n,d)`
    2. `s(n) = score(s(n), b, h, m, n, captures...)`, identity without region
    3. n is kept when `n < lk`, the mask holds (b,h,m,n) and `s(n) != -inf`
    4. `lse = log(sum_kept exp(s(n)))`, with `exp(init_lse)` added if given
    5. `o(e) = sum_kept exp(s(n) - lse) * v(b,h,n,e)`

    A row without a kept key (and `init_lse` absent or -inf), and a row
    `m >= lq`, gives `o = 0` and `lse = dead_lse`. `lse` is a natural
    logarithm. Rows beyond `lq` and keys beyond `lk` are never read into a
    result, NaN included.

    - `lengths`: `lq`, `lk` per batch (two 1-D i32 operands indexed by b) or
      two `index` values; absent, they are the extents of q and k.
    - `origin`: (b, h, m) of the first element of the operands in the whole
      problem, when the operation computes a window of it. Score region, mask
      and `lengths` see whole-problem coordinates. Tiling produces it.
    - `captures`: values that the score region reads. One entry of
      `capture_maps` per capture: an affine map from (b, h, m, n) says which
      element becomes the region's argument (a projected permutation; window
      coordinates are not used: captures are addressed by whole-problem
      coordinates); `unit` passes the value itself, a scalar or a shaped value
      to be read by `fa.gather`.
    - `partials`: memory for o and lse of parts of the keys, with one more
      dimension, of the parts, in front. An operation with it may use it to
      compute parts at the same time (`fa-split-keys`); what it holds afterwards
      is not specified.
    - With tensors, `o` and `lse` are destinations and the results are the new
      values; with memrefs there are no results.

    Constraints, each with a label that the verifier's message carries:

    - C1 `maps`: five maps over six dimensions, at most one symbol.
    - C2 `map-form`: projected permutations (or `h floordiv g`).
    - C3 `map-rank`: a map has as many results as its operand has dimensions.
    - C4 `roles`: q is over (b,h,m,d), k (b,h,n,d), v (b,h,n,e), o (b,h,m,e),
      lse (b,h,m); q has m and d, k n and d, v n and e, o m and e, lse m.
    - C5 `extents`: static extents of a dimension agree in all operands.
    - C6 `heads`: query heads are a multiple of key heads.
    - C7 `dtypes`: q, k, v have one float type (f16, bf16, f32, f64); o too or
      the accumulator type; lse, scale and init_lse have the accumulator type.
    - C8 `storage`: all shaped operands are tensors, or all are memrefs.
    - C9 `lengths`: none or two, both 1-D i32 or both index.
    - C10 `mask-symbols`: each set has four dimensions and 2 + |symbols| symbols.
    - C11 `score-region`: arguments (acc, index × 4, captures...), yields one acc
      value, pure operations only.
    - C12 `captures`: as many capture maps as captures, of the form above.
    - C13 `results`: results are the types of the destinations with tensors,
      none with memrefs.
    - C14 `origin`: none or three values.
    - C15 `init-lse`: same type as lse.
    - C23 `partials`: none, or memrefs of the accumulator type with the extents of
      o and of lse behind one dimension more, the same in both.

    Example:

    ```mlir
    %r:2 = fa.attention ins(%q, %k, %v : tensor<2x512x8x64xf16>, tensor<2x512x2x64xf16>, tensor<2x512x2x64xf16>)
        scale(%scale : f32)
        mask #fa.mask<affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
        outs(%o, %lse : tensor<2x512x8x64xf16>, tensor<2x8x512xf32>)
        {indexing_maps = [
          affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>]}
        score {
        ^bb0(%s: f32, %b: index, %h: index, %m: index, %n: index):
          %t = math.tanh %s : f32
          fa.yield %t : f32
        } -> tensor<2x512x8x64xf16>, tensor<2x8x512xf32>
    ```
  }];
  let arguments = (ins
    FA_TensorOrMemRef:$q, FA_TensorOrMemRef:$k, FA_TensorOrMemRef:$v,
    AnyFloat:$scale,
    Variadic<Index>:$origin,
    Variadic<AnyType>:$lengths,
    Optional<FA_TensorOrMemRef>:$init_lse,
    Variadic<AnyType>:$captures,
    Variadic<Index>:$symbols,
    FA_TensorOrMemRef:$o, FA_TensorOrMemRef:$lse,
    Optional<AnyMemRef>:$o_parts, Optional<AnyMemRef>:$lse_parts,
    AffineMapArrayAttr:$indexing_maps,
    OptionalAttr<ArrayAttr>:$capture_maps,
    OptionalAttr<FA_MaskAttr>:$mask,
    OptionalAttr<F64Attr>:$dead_lse);
  let regions = (region AnyRegion:$score);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `ins` `(` $q `,` $k `,` $v `:` type($q) `,` type($k) `,` type($v) `)`
    `scale` `(` $scale `:` type($scale) `)`
    (`origin` `(` $origin^ `)`)?
    (`lengths` `(` $lengths^ `:` type($lengths) `)`)?
    (`init_lse` `(` $init_lse^ `:` type($init_lse) `)`)?
    (`captures` `(` $captures^ `:` type($captures) `)`)?
    (`mask` $mask^)? (`symbols` `(` $symbols^ `)`)?
    `outs` `(` $o `,` $lse `:` type($o) `,` type($lse) `)`
    (`partials` `(` $o_parts^ `,` $lse_parts `:` type($o_parts) `,`
    type($lse_parts) `)`)?
    attr-dict (`score` $score^)? (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The value of lse in a row without a live key (-inf unless stated).
    APFloat getDeadLseValue();
    /// Whether the query heads that share a key head can be the rows of a tile:
    /// nothing but the score region depends on the head, and all rows of the
    /// problem exist.
    bool canPackHeads();
  }];
}

def FA_CombineOp : FA_Op<"combine",
    [DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "attention over all keys from attention over parts of them";
  let description = [{
    Merges what `fa.attention` gave for disjoint sets of keys. Iteration space
    (s, rows..., e): the parts, one or more dimensions of rows (batch, head,
    query row, in any order), the head size of v. `indexing_maps` has one
    map for o_parts, lse_parts, o, lse, in that order, from this space to the
    operand's dimensions, each a projected permutation.

    For every row, in the type of the partial results:

    1. A part is live when `lse_parts(s,row) != -inf`.
    2. `lse(row) = log(sum_live exp(lse_parts(s,row)))`, with `exp(init_lse)`
       added if given
    3. `o(row,e) = sum_live exp(lse_parts(s,row) - lse(row)) * o_parts(s,row,e)`

    What a part that is not live holds never reaches o, NaN included. A row
    without a live part (and init_lse absent or -inf) is dead as in
    `fa.attention`: `o = 0` and `lse = dead_lse`, -inf unless stated.

    With tensors, `o` and `lse` are destinations and the results are the new
    values; with memrefs there are no results.

    Constraints, each with a label that the verifier's message carries:

    - C1 `maps`: four maps over the same three or more dimensions, no symbols.
    - C2 `map-form`: projected permutations.
    - C3 `map-rank`: a map has as many results as its operand has dimensions.
    - C4 `roles`: o_parts runs along all dimensions, lse_parts along all but the
      last, o along all but the first, lse along all but the first and the last.
    - C5 `extents`: static extents of a dimension agree in all operands.
    - C6 `dtypes`: o_parts, lse_parts and lse hold f32 or all f64; o holds
      that or f16 or bf16.
    - C7 `storage`: all operands are tensors, or all are memrefs.
    - C8 `results`: results are the types of o and lse with tensors, none with
      memrefs.
    - C9 `init-lse`: same shape and element type as lse.

    Example:

    ```mlir
    fa.combine ins(%o_parts, %lse_parts : memref<?x2x512x8x64xf32>, memref<?x2x8x512xf32>)
        outs(%o, %lse : memref<2x512x8x64xf16>, memref<2x8x512xf32>)
        {indexing_maps = [
          affine_map<(s,b,h,m,e) -> (s, b, m, h, e)>,
          affine_map<(s,b,h,m,e) -> (s, b, h, m)>,
          affine_map<(s,b,h,m,e) -> (b, m, h, e)>,
          affine_map<(s,b,h,m,e) -> (b, h, m)>]}
    ```
  }];
  let arguments = (ins
    FA_TensorOrMemRef:$o_parts, FA_TensorOrMemRef:$lse_parts,
    Optional<FA_TensorOrMemRef>:$init_lse,
    FA_TensorOrMemRef:$o, FA_TensorOrMemRef:$lse,
    AffineMapArrayAttr:$indexing_maps,
    OptionalAttr<F64Attr>:$dead_lse);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `ins` `(` $o_parts `,` $lse_parts `:` type($o_parts) `,` type($lse_parts) `)`
    (`init_lse` `(` $init_lse^ `:` type($init_lse) `)`)?
    `outs` `(` $o `,` $lse `:` type($o) `,` type($lse) `)`
    attr-dict (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    enum Operand : unsigned { OParts = 0, LseParts = 1, O = 2, LSE = 3 };
    AffineMap getMap(Operand operand) {
      return cast<AffineMapAttr>(getIndexingMaps()[operand]).getValue();
    }
    bool hasTensorSemantics() {
      return isa<RankedTensorType>(getO().getType());
    }
    /// The type in which parts are merged.
    FloatType getAccType() {
      return cast<FloatType>(getElementTypeOrSelf(getLse().getType()));
    }
    /// The value of lse in a row without a live part (-inf unless stated).
    APFloat getDeadLseValue();
    /// o and lse, in the order of the results that tensors have for them.
    SmallVector<OpOperand *> getDestinations();
  }];
}

def FA_AttentionBackwardOp : FA_Op<"attention_backward",
    [AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<FA_AttentionOpInterface,
                               ["getOutputLike", "getShapedOperands", "getDestinations"]>,
     DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "gradients of fa.attention";
  let description = [{
    The problem (iteration space, the five indexing maps, scale, lengths,
    origin, captures, mask, score region) is that of the `fa.attention` which
    gave `o` and `lse`, and is stated in the same way. `d_o` uses the map of o;
    `delta` and `d_lse` that of lse; `d_q` and `d_q_sum`, `d_k`, `d_v` those of q,
    k, v.

    n is kept in row (b, h, m) as in `fa.attention`, and moreover `m < lq` and
    lse is neither -inf nor +inf. For every (b, h, m) and kept n, in f32 (f64 for
    f64 inputs):

    1. `raw = scale * sum_d q(b,h,m,d) * k(b,h,n,d)`,
       `s = score(raw, b, h, m, n, captures...)`, `p = exp(s - lse)`
    2. `delta = sum_e o(b,h,m,e) * d_o(b,h,m,e) - d_lse`, per row; 0 in rows with
       `m >= lq` or an infinite lse
    3. `dp = sum_e d_o(b,h,m,e) * v(b,h,n,e)`, `ds = p * (dp - delta)`
    4. `dr, g... = derivative(raw, b, h, m, n, captures..., ds)`; `dr = ds`
       without score region
    5. `d_q(b,h,m,d) = scale * sum dr * k(b,h,n,d)`,
       `d_k(b,h,n,d) = scale * sum dr * q(b,h,m,d)`,
       `d_v(b,h,n,e) = sum p * d_o(b,h,m,e)`,
       `d_capture = sum g`

    Each sum is over all kept (b, h, m, n) that read the element in
    `fa.attention`: an element of d_k or d_v sums over the query heads of its
    group, and a capture over the dimensions that its map drops. What is not
    kept adds nothing, whatever its values, NaN included; rows of d_q from lq
    on, keys of d_k and d_v from lk on and rows without a live key get zeros.
    (Tile programs keep this with one exception, for k, q and d_o that are not
    finite in a block that the mask cuts: see `fa-recompute-softmax`.)

    - `d_lse`: the gradient with respect to lse, zero when absent.
    - `delta`: an output; `delta_known` makes it an input that is read in place
      of step 2, and o and d_lse are absent then.
    - `d_q`, `d_k`, `d_v`, `d_captures`: each is optional.
    - `d_q_sum`: memory in which d_q is summed, in an order that is not fixed
      (unless the schedule is `sequential`): the scores of a block of keys then
      serve all three gradients. With it an
      operation sets it to 0, unless delta_known; adds `sum dr * k` to it, if it
      computes d_k or d_v; and if it computes d_q, that is `scale * d_q_sum`.
      Where in this memory an element lies is up to the target.
    - `capture_grads`: the positions of the captures that have gradients, in
      increasing order, one for each of `d_captures`. A gradient has the shape of
      its capture (rank 0 for a scalar) and the accumulator type.
    - `derivative`: takes the arguments of the score region and `ds`; yields `dr`,
      then one accumulator value for each entry of `capture_grads` whose capture
      is passed by element or is a scalar. Captures that the region gathers from
      get theirs by `fa.accumulate`. `fa-differentiate` makes this region from
      the score region.
    - `origin`: as in `fa.attention`, or (b, h, m, n) when the operands hold a
      window of the keys, too. In a window, sums are over the window.
    - The gradient of `init_lse` follows from the results:
      `d_init_lse = -exp(init_lse - lse) * delta`, and 0 where init_lse is -inf.

    With tensors, the results are the new values of delta (unless known), d_q,
    d_k, d_v and d_captures, those that are present, in that order.

    Constraints: C1 to C14 of `fa.attention`, and

    - C16 `gradients`: d_o has the shape of o and its element type or the
      accumulator type, d_q, d_k, d_v likewise of q, k, v.
    - C17 `rows`: delta and d_lse have shape and element type of lse.
    - C18 `delta-known`: o is present, unless delta_known; then o and d_lse are
      absent.
    - C19 `outputs`: with delta_known, at least one gradient is computed.
    - C20 `capture-gradients`: capture_grads holds increasing positions of
      captures of float type; d_captures has one entry for each, of the
      capture's shape and the accumulator type.
    - C21 `derivative-region`: arguments (acc, index × 4, captures..., acc);
      yields dr and the gradients described above; pure operations and
      `fa.accumulate` only; none without a score region.
    - C22 `d-q-sum`: d_q_sum is a memref of the accumulator type that has q's
      extents, filled up to a multiple of 8 in m and of 16 in d.

    Example, with a learnable bias:

    ```mlir
    fa.attention_backward ins(%q, %k, %v, %lse, %d_o : memref<2x512x8x64xf16>, memref<2x512x2x64xf16>, memref<2x512x2x64xf16>, memref<2x8x512xf32>, memref<2x512x8x64xf16>)
        o(%o : memref<2x512x8x64xf16>) scale(%scale : f32)
        captures(%bias : memref<8x512xf32>)
        mask #fa.mask<affine_set<(b,h,m,n)[lq,lk] : (m + lk - lq - n >= 0)>>
        delta(%delta : memref<2x8x512xf32>) d_q(%d_q : memref<2x512x8x64xf16>)
        d_k(%d_k : memref<2x512x2x64xf16>) d_v(%d_v : memref<2x512x2x64xf16>)
        d_captures(%d_bias : memref<8x512xf32>)
        {indexing_maps = [
          affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, d)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, d)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, n, h floordiv g, e)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, m, h, e)>,
          affine_map<(b,h,m,n,d,e)[g] -> (b, h, m)>],
         capture_maps = [affine_map<(b,h,m,n) -> (h, n)>],
         capture_grads = array<i64: 0>}
        score {
        ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %x: f32):
          %s = arith.addf %r, %x : f32
          fa.yield %s : f32
        } derivative {
        ^bb0(%r: f32, %b: index, %h: index, %m: index, %n: index, %x: f32, %ds: f32):
          fa.yield %ds, %ds : f32, f32
        }
    ```
  }];
  let arguments = (ins
    FA_TensorOrMemRef:$q, FA_TensorOrMemRef:$k, FA_TensorOrMemRef:$v,
    FA_TensorOrMemRef:$lse, FA_TensorOrMemRef:$d_o,
    Optional<FA_TensorOrMemRef>:$o, Optional<FA_TensorOrMemRef>:$d_lse,
    AnyFloat:$scale,
    Variadic<Index>:$origin,
    Variadic<AnyType>:$lengths,
    Variadic<AnyType>:$captures,
    Variadic<Index>:$symbols,
    FA_TensorOrMemRef:$delta, Optional<AnyMemRef>:$d_q_sum,
    Optional<FA_TensorOrMemRef>:$d_q, Optional<FA_TensorOrMemRef>:$d_k,
    Optional<FA_TensorOrMemRef>:$d_v,
    Variadic<FA_TensorOrMemRef>:$d_captures,
    AffineMapArrayAttr:$indexing_maps,
    OptionalAttr<ArrayAttr>:$capture_maps,
    OptionalAttr<FA_MaskAttr>:$mask,
    OptionalAttr<DenseI64ArrayAttr>:$capture_grads,
    UnitAttr:$delta_known);
  let regions = (region AnyRegion:$score, AnyRegion:$derivative);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    `ins` `(` $q `,` $k `,` $v `,` $lse `,` $d_o `:` type($q) `,` type($k) `,`
    type($v) `,` type($lse) `,` type($d_o) `)`
    (`o` `(` $o^ `:` type($o) `)`)?
    (`d_lse` `(` $d_lse^ `:` type($d_lse) `)`)?
    `scale` `(` $scale `:` type($scale) `)`
    (`origin` `(` $origin^ `)`)?
    (`lengths` `(` $lengths^ `:` type($lengths) `)`)?
    (`captures` `(` $captures^ `:` type($captures) `)`)?
    (`mask` $mask^)? (`symbols` `(` $symbols^ `)`)?
    `delta` `(` $delta `:` type($delta) `)`
    (`d_q_sum` `(` $d_q_sum^ `:` type($d_q_sum) `)`)?
    (`d_q` `(` $d_q^ `:` type($d_q) `)`)?
    (`d_k` `(` $d_k^ `:` type($d_k) `)`)?
    (`d_v` `(` $d_v^ `:` type($d_v) `)`)?
    (`d_captures` `(` $d_captures^ `:` type($d_captures) `)`)?
    attr-dict (`score` $score^)? (`derivative` $derivative^)?
    (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The positions of the captures that have gradients.
    ArrayRef<int64_t> getDifferentiatedCaptures() {
      return getCaptureGrads().value_or(ArrayRef<int64_t>());
    }
    /// Whether the regions gather from this capture; its gradient then comes
    /// from fa.accumulate, not from the yield.
    bool isGathered(unsigned capture);
  }];
}

def FA_AccumulateOp : FA_Op<"accumulate",
    [HasParent<"AttentionBackwardOp">, MemoryEffects<[MemWrite]>]> {
  let summary = "add to one element of a capture's gradient";
  let description = [{
    In a derivative region: adds `value` to the element at `indices` of the
    gradient of the capture at position `capture`. This is the derivative of
    `fa.gather` from that capture, and indices are clamped in the same way. What
    is not kept adds nothing.

    ```mlir
    fa.accumulate %g into 0[%i] : f32
    ```
  }];
  let arguments = (ins AnyFloat:$value, I64Attr:$capture,
      Variadic<Index>:$indices);
  let assemblyFormat =
      "$value `into` $capture `[` $indices `]` attr-dict `:` type($value)";
  let hasVerifier = 1;
}

def FA_GatherOp : FA_Op<"gather", [Pure]> {
  let summary = "read one element of a captured tensor";
  let description = [{
    Reads `source[indices...]` inside a score or derivative region. An index outside the
    source is clamped into it: a masked score may compute any index.

    ```mlir
    %x = fa.gather %table[%i] : tensor<255xf32> -> f32
    ```
  }];
  let arguments = (ins FA_TensorOrMemRef:$source, Variadic<Index>:$indices);
  let results = (outs AnyType:$result);
  let assemblyFormat =
      "$source `[` $indices `]` attr-dict `:` type($source) `->` type($result)";
  let hasVerifier = 1;
}

def FA_YieldOp : FA_Op<"yield", [Pure, ReturnLike, Terminator,
                                 ParentOneOf<["AttentionOp",
                                              "AttentionBackwardOp"]>]> {
  let summary = "the results of a score or derivative region";
  let description = [{
    Ends a score region with the transformed score, and a derivative region with
    the gradient of the raw score and those of captures.

    ```mlir
    fa.yield %s : f32
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

#endif // FA_DIALECT_FA_IR_FAOPS
