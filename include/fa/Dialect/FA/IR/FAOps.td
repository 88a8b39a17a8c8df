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
}

def FA_ScheduleAttr : FA_Attr<"Schedule", "schedule"> {
  let summary = "how one attention operation is mapped to a target";
  let description = [{
    A discardable attribute named `fa.schedule`. Deleting it changes speed,
    never results.

    - `tile_m`, `tile_n`: query rows and key columns of a tile.
    - `plan`: what the levels below do with the tiles (`#tile.plan`).

    ```mlir
    #fa.schedule<tile_m = 128, tile_n = 64, plan = #tile.plan<chip = "sm_80",
      mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>
    ```
  }];
  let parameters = (ins "int64_t":$tile_m, "int64_t":$tile_n,
      "::mlir::tl::PlanAttr":$plan);
  let assemblyFormat = "`<` struct(params) `>`";
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
     DeclareOpInterfaceMethods<FA_AttentionOpInterface, ["getShapedOperands"]>,
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
    - `origin`: (b, h, m) or (b, h, m, n) of the first element of the operands in
      the whole problem, when the operation computes a window of it. Score region, mask
      and `lengths` see whole-problem coordinates. Tiling produces it.
    - `captures`: values that the score region reads. One entry of
      `capture_maps` per capture: an affine map from (b, h, m, n) says which
      element becomes the region's argument (a projected permutation; window
      coordinates are not used: captures are addressed by whole-problem
      coordinates); `unit` passes the value itself, a scalar or a shaped value
      to be read by `fa.gather`.
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
    - C14 `origin`: none, three (b, h, m) or four (b, h, m, n) values.
    - C15 `init-lse`: same type as lse.

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
    attr-dict (`score` $score^)? (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The value of lse in a row without a live key (-inf unless stated).
    APFloat getDeadLseValue();
  }];
}

def FA_AttentionBackwardOp : FA_Op<"attention_backward",
    [AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<FA_AttentionOpInterface, ["getShapedOperands"]>,
     DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "gradients of fa.attention";
  let description = [{
    Iteration space, `indexing_maps`, scale, origin, lengths, captures, mask,
    symbols and score region are those of the `fa.attention` whose gradients
    these are. `d_o` (and `o`) follow o's map, `delta` (and `d_lse`) lse's; each
    gradient follows the map of what it is the gradient of. For every (b, h, m)
    and n, in f32 (f64 for f64 inputs):

    1. `raw = scale * sum_d q k`, `s = score(raw, b, h, m, n, captures...)`
    2. `p = exp(s - lse)` where fa.attention keeps n and lse is finite, else 0
    3. `delta = sum_e o d_o - d_lse` (0 in a row whose lse is not finite)
    4. `ds = p * (sum_e d_o v - delta)`, 0 where p is 0
    5. `dr = derivative(raw, b, h, m, n, captures..., ds)`, ds without region
    6. `d_q = scale * sum_n dr k`, `d_k = scale * sum dr q`, `d_v = sum p d_o`,
       the last two over the rows and query heads that read the key.

    Rows from lq on of d_q, and keys from lk on of d_k and d_v, are 0.

    - `lse`, `o`: what fa.attention computed. `init_lse` is part of lse; its
      gradient is `-exp(init_lse - lse) * delta`.
    - `d_lse`: gradient of lse, if it is used.
    - `delta`: written, in lse's type. With `delta_known` it is read instead,
      and o and d_lse are not given.
    - `d_q`, `d_k`, `d_v`: the gradients that are wanted, in any number.
    - `derivative`: from the gradient of a score to that of `raw`.
      `fa-differentiate` makes it from the score region.
    - With tensors, delta (unless known) and the gradients are destinations and
      the results are their new values, in this order.

    Constraints C1 to C15 of fa.attention hold, and:

    - C16 `gradients`: d_o has o's type; a gradient has the shape of what it is
      the gradient of, and its element type or the accumulator type.
    - C17 `delta`: delta and d_lse have lse's shape and element type; o is given
      unless delta is known, and then neither o nor d_lse is.
    - C18 `derivative-region`: arguments of the score region and one acc value,
      yields one acc value, pure; only with a score region.

    Example:

    ```mlir
    fa.attention_backward ins(%q, %k, %v, %lse, %do : memref<...>, ...)
        o(%o : memref<...>) scale(%scale : f32)
        outs(%delta : memref<...>) d_q(%dq : memref<...>)
        d_k(%dk : memref<...>) d_v(%dv : memref<...>)
        {indexing_maps = [...]}
    ```
  }];
  let arguments = (ins
    FA_TensorOrMemRef:$q, FA_TensorOrMemRef:$k, FA_TensorOrMemRef:$v,
    FA_TensorOrMemRef:$lse, FA_TensorOrMemRef:$d_o,
    Optional<FA_TensorOrMemRef>:$o,
    Optional<FA_TensorOrMemRef>:$d_lse,
    AnyFloat:$scale,
    Variadic<Index>:$origin,
    Variadic<AnyType>:$lengths,
    Variadic<AnyType>:$captures,
    Variadic<Index>:$symbols,
    FA_TensorOrMemRef:$delta,
    Optional<FA_TensorOrMemRef>:$d_q,
    Optional<FA_TensorOrMemRef>:$d_k,
    Optional<FA_TensorOrMemRef>:$d_v,
    AffineMapArrayAttr:$indexing_maps,
    OptionalAttr<ArrayAttr>:$capture_maps,
    OptionalAttr<FA_MaskAttr>:$mask,
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
    `outs` `(` $delta `:` type($delta) `)`
    (`d_q` `(` $d_q^ `:` type($d_q) `)`)?
    (`d_k` `(` $d_k^ `:` type($d_k) `)`)?
    (`d_v` `(` $d_v^ `:` type($d_v) `)`)?
    attr-dict (`score` $score^)? (`derivative` $derivative^)?
    (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// delta (unless known), d_q, d_k and d_v, as far as they are given.
    SmallVector<OpOperand *> getDestinations();
  }];
}

def FA_GatherOp : FA_Op<"gather", [Pure]> {
  let summary = "read one element of a captured tensor";
  let description = [{
    Reads `source[indices...]` inside a score region. An index outside the
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
  let summary = "the score of this element";
  let description = [{
    Ends a score region with the transformed score.

    ```mlir
    fa.yield %s : f32
    ```
  }];
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

#endif // FA_DIALECT_FA_IR_FAOPS
