//===- TileOps.td - The tile dialect -----------------------*- tablegen -*-===//
//
// L1: target-neutral programs over static tiles (ranked tensors) of memory.
// L2: the same programs with layouts, shared buffers, pipes and roles.
// Nothing here knows attention.
//
//===----------------------------------------------------------------------===//

#ifndef FA_DIALECT_TILE_IR_TILEOPS
#define FA_DIALECT_TILE_IR_TILEOPS

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

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::mlir::tl";
  let summary = "Programs over tiles of memory";
  let description = [{
    A tile is a value of ranked tensor type with a static shape. `tile.load` and
    `tile.store` move tiles from and to memrefs with bounds checks
    (`tile.accumulate` adds), `arith` and
    `math` compute on them elementwise, `tile.contract`, `tile.reduce`,
    `tile.broadcast` and `tile.iota` do the rest; `scf` carries them around
    loops. This is the target-neutral level.

    On a GPU, passes then refine the same program: the tensor types get a
    fragment layout as their encoding, loads become asynchronous copies into
    shared-memory pipes, loops are split into roles. Every decision stays
    visible until the program is distributed to threads.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
  let hasConstantMaterializer = 1;
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

//===----------------------------------------------------------------------===//
// Attributes and types
//===----------------------------------------------------------------------===//

class Tile_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Tile_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Tile_PlanAttr : Tile_Attr<"Plan", "plan"> {
  let summary = "what to do with a tile program on a target";
  let description = [{
    The attribute `tile.plan` of a function that holds a tile program.

    - `chip`: `cpu`, or a name in the table of `lib/Target/Chip.cpp`: `sm_80`, …
    - `mma`: `vector`, `mma_sync` or `wgmma`.
    - `copy`: `direct` (through registers), `cp_async` or `tma`.
    - `warps`: warps that compute.
    - `producers`: warps that only copy; 0 lets all warps copy.
    - `stages`: slots of a pipe that is filled in a loop.
    - `square`: warps split both dimensions of accumulators, so that each needs
      less of the factors; factors that are computed go through shared memory.
      Otherwise warps split the rows, and such factors stay in registers.
    - `hold_left`: left factors that do not change in a loop are read into registers
      before it (`tile-hold-factors`); otherwise products read them from shared memory
      in every iteration.
    - `overlap`: a product whose sum is carried by a loop runs beside the work of
      the next iteration (`tile-delay-products`).
    - `turns`: teams of warps start the products of an iteration one after the other
      (`tile-turns`). Needs wgmma, producers and at least two teams.
    - `persistent`: a launch has as many blocks as the device has multiprocessors;
      each takes one iteration of the grid after another (`tile-persistent`). Needs
      producers.
    - `bulk_stores`: of a persistent launch by tensor maps: 16-bit tiles leave by tensor
      copies (`bulk` of `tile.store`), as far as shared memory reaches.

    ```mlir
    #tile.plan<chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8,
               producers = 4, stages = 2>
    ```
  }];
  let parameters = (ins "::mlir::StringAttr":$chip, "::mlir::StringAttr":$mma,
      "::mlir::StringAttr":$copy, "int64_t":$warps, "int64_t":$producers,
      "int64_t":$stages, DefaultValuedParameter<"bool", "false">:$square,
      DefaultValuedParameter<"bool", "false">:$hold_left,
      DefaultValuedParameter<"bool", "false">:$overlap,
      DefaultValuedParameter<"bool", "false">:$turns,
      DefaultValuedParameter<"bool", "false">:$persistent,
      DefaultValuedParameter<"bool", "false">:$bulk_stores);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Warps that share an instruction of products.
    int64_t getTeamSize() const;
    /// The most teams that can have rows of their own in a product of `rows`.
    int64_t getTeamsAlong(int64_t rows) const;
    /// How many teams split the rows of an accumulator; as many as there are for
    /// each of these share its columns.
    int64_t getTeamsAlong(int64_t rows, int64_t columns) const;
    int64_t getTeams() const { return getWarps() / getTeamSize(); }
  }];
}

def Tile_FragmentAttr : Tile_Attr<"Fragment", "frag"> {
  let summary = "which thread holds which element of a tile";
  let description = [{
    The encoding of a tile that lives in registers. A thread's register index,
    its lane and its warp are each written in mixed radix: a list of modes
    `extent:dim:stride`, the fastest first. The element that (register, lane,
    warp) holds has the coordinate `sum(digit * stride)` over the modes of that
    dimension. A mode of stride 0 replicates.

    The accumulators of `mma.m16n8k16`, of `mma.m16n8k8` and of `wgmma` (64 rows per four warps)
    are the same layout, and the accumulator layout is the A operand layout of
    16-bit products:

    ```mlir
    // 128x64 accumulator over 4 warps, 32 rows each
    #tile.frag<reg = [2:1:1, 2:0:8, 8:1:8, 2:0:16],
               lane = [4:1:2, 8:0:1], warp = [4:0:32]>
    ```
  }];
  // Flattened (extent, dim, stride) triples.
  let parameters = (ins ArrayRefParameter<"int64_t">:$reg,
      ArrayRefParameter<"int64_t">:$lane, ArrayRefParameter<"int64_t">:$warp);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    struct Mode { int64_t extent, dim, stride; };
    static SmallVector<Mode> modes(ArrayRef<int64_t> flat);
    SmallVector<Mode> regModes() const { return modes(getReg()); }
    SmallVector<Mode> laneModes() const { return modes(getLane()); }
    SmallVector<Mode> warpModes() const { return modes(getWarp()); }
    static FragmentAttr get(MLIRContext *context, ArrayRef<Mode> reg,
                            ArrayRef<Mode> lane, ArrayRef<Mode> warp);
    /// Elements per thread.
    int64_t numRegisters() const;
    /// Coordinate along `dim` that register `index` adds to the thread's own.
    int64_t registerOffset(int64_t index, int64_t dim) const;
    /// The register whose offsets are `offsets` (one per dim); -1 if none.
    int64_t findRegister(ArrayRef<int64_t> offsets) const;
    /// The layout of this tile with dimension `dim` removed (a row statistic of
    /// a matrix tile): the same threads, duplicates along `dim` dropped from
    /// registers and replicated over lanes and warps.
    FragmentAttr dropDim(int64_t dim) const;
    /// The layout of the partial sums of an accumulator's rows, one per lane that
    /// holds columns of the row. Null where warps share rows.
    FragmentAttr sumColumns() const;
    /// Another layout of a vector along the columns of an accumulator: each lane
    /// of a warp holds other elements, where the slice (`dropDim(0)`) has them
    /// in eight lanes. Null where a warp has no multiple of 32 columns.
    FragmentAttr spreadColumns() const;
  }];
}

class Tile_Type<string name, string typeMnemonic>
    : TypeDef<Tile_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def Tile_BufferType : Tile_Type<"Buffer", "buffer"> {
  let summary = "a matrix in shared memory";
  let description = [{
    `rows x cols` elements stored as panels of `swizzle` bytes per row; the
    16-byte chunks of a panel are permuted by the row as the TMA and wgmma
    hardware do: bits 4.. of the byte offset are xor-ed with bits 7.. . Every
    panel takes the whole width, though the last may be used in part.

    ```mlir
    !tile.buffer<64x128xf16, swizzle = 128>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape,
      "::mlir::Type":$elementType, "int64_t":$swizzle);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Columns that the panels have: as many as a row, or more.
    int64_t getStoredCols() const;
    int64_t getNumPanels() const;
    int64_t getSizeInBytes() const;
    /// The buffer that holds `tile`; null after an error where there is none.
    /// Its panels are the widest that take no more than a row or, `padded`,
    /// no more than panels of 64 bytes take, if a row is wider than 32.
    static BufferType getForTile(
        ::llvm::function_ref<::mlir::InFlightDiagnostic()> emitError,
        ::mlir::RankedTensorType tile, bool padded = false);
  }];
}

def Tile_PipeType : Tile_Type<"Pipe", "pipe"> {
  let summary = "a ring of shared-memory slots";
  let description = [{
    `stages` buffers, filled in order by `tile.produce`, waited for by
    `tile.consume`, given back by `tile.release`. Fill number `i` uses slot
    `i mod stages`.

    ```mlir
    !tile.pipe<2, !tile.buffer<64x128xf16, swizzle = 128>>
    ```
  }];
  let parameters = (ins "int64_t":$stages, "::mlir::tl::BufferType":$slot);
  let assemblyFormat = "`<` $stages `,` $slot `>`";
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// L1
//===----------------------------------------------------------------------===//

class Tile_Op<string mnemonic, list<Trait> traits = []>
    : Op<Tile_Dialect, mnemonic, traits>;

def Tile_Tile : StaticShapeTensorOf<[AnyFloat, AnySignlessInteger]>;
def Tile_TileOrBuffer : AnyTypeOf<[Tile_Tile, Tile_BufferType]>;

def Tile_LoadOp : Tile_Op<"load", [MemoryEffects<[MemRead]>]> {
  let summary = "read a tile; zero outside the memref";
  let description = [{
    Element `x` of the result is `source[offsets + x]`, or zero where that is
    outside the source. The rank of source, offsets and result is the same.
    `order` permutes: result dimension `i` runs along source dimension
    `order[i]` (identity when absent). `shuffled`: of memory that
    `tile.accumulate` with this attribute has written.

    With `merged` the source has one dimension more: its dimensions `merged[0]`
    and `merged[1]`, which are neighbours, count as one (in the place of the
    first of the two), in which the index of `merged[1]` is the faster one. Such
    rows need not be equally far apart. Its offset is not negative.

    ```mlir
    %t = tile.load %k[%n0, %c0] : memref<?x64xf16, strided<[?, 1], offset: ?>>
        -> tensor<64x64xf16>
    // Row r is %q[r / heads, r mod heads, ...] of (position, head, ...).
    %r = tile.load %q[%r0, %c0] merged [0, 1]
        : memref<?x?x64xf16, strided<[?, ?, 1], offset: ?>> -> tensor<16x64xf16>
    ```
  }];
  let arguments = (ins AnyStridedMemRef:$source, Variadic<Index>:$offsets,
                       OptionalAttr<DenseI64ArrayAttr>:$order,
                       UnitAttr:$shuffled,
                       OptionalAttr<DenseI64ArrayAttr>:$merged);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = [{
    $source `[` $offsets `]` (`order` $order^)? (`shuffled` $shuffled^)?
    (`merged` $merged^)? attr-dict
    `:` type($source) `->` type($result)
  }];
  let builders = [OpBuilder<(ins "::mlir::Type":$result, "::mlir::Value":$source,
      "::mlir::ValueRange":$offsets, "::mlir::DenseI64ArrayAttr":$order), [{
    build($_builder, $_state, result, source, offsets, order,
          /*shuffled=*/::mlir::UnitAttr(), /*merged=*/{});
  }]>];
  let hasVerifier = 1;
}

def Tile_StoreOp : Tile_Op<"store", [MemoryEffects<[MemWrite]>]> {
  let summary = "write a tile; nothing outside the memref";
  let description = [{
    `dest[offsets + x] = value[x]` for every element inside the destination.
    `order` as in `tile.load`: tile dimension `i` runs along memref dimension
    `order[i]`. `merged` as there, too.

    With an `offset` (`tile-plan-resources`) the lanes of a warp exchange columns at that
    place of shared memory, so that each stores 16 bytes at a time; without, by shuffles.
    With `bulk`, too, each warp writes its rows to that many bytes at that place, in
    swizzled panels of up to 64 columns, and one thread copies those by a tensor map,
    asynchronously: the warp goes on, and waits before it writes there again. Memory has
    whole dimensions of a function argument whose `tile.align` is a multiple of 16.

    ```mlir
    tile.store %t, %o[%m0, %c0] : tensor<64x64xf16>,
        memref<?x64xf16, strided<[?, 1], offset: ?>>
    tile.store %t, %o[%m0, %c0] bulk 2048 {offset = 65536} : tensor<64x64xf16, #accumulator>,
        memref<?x64xf16, strided<[?, 1], offset: ?>>
    ```
  }];
  let arguments = (ins Tile_Tile:$value, AnyStridedMemRef:$dest,
                       Variadic<Index>:$offsets,
                       OptionalAttr<DenseI64ArrayAttr>:$order,
                       OptionalAttr<DenseI64ArrayAttr>:$merged,
                       OptionalAttr<I64Attr>:$offset,
                       OptionalAttr<I64Attr>:$bulk);
  let assemblyFormat = [{
    $value `,` $dest `[` $offsets `]` (`order` $order^)? (`merged` $merged^)?
    (`bulk` $bulk^)? attr-dict
    `:` type($value) `,` type($dest)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$value, "::mlir::Value":$dest,
      "::mlir::ValueRange":$offsets, "::mlir::DenseI64ArrayAttr":$order), [{
    build($_builder, $_state, value, dest, offsets, order, /*merged=*/{},
          /*offset=*/{}, /*bulk=*/{});
  }]>, OpBuilder<(ins "::mlir::Value":$value, "::mlir::Value":$dest,
      "::mlir::ValueRange":$offsets, "::mlir::DenseI64ArrayAttr":$order,
      "::mlir::DenseI64ArrayAttr":$merged), [{
    build($_builder, $_state, value, dest, offsets, order, merged,
          /*offset=*/{}, /*bulk=*/{});
  }]>];
  let extraClassDeclaration = [{
    /// Of shared memory, which each warp exchanges columns in.
    static constexpr int64_t kExchangeBytes = 2048;
    /// What tensor copies store of a warp's part of the tile.
    struct Panels {
      static constexpr int64_t kRows = 16;
      int64_t count, columns;
      int64_t getSwizzle() const { return 2 * columns; }
      int64_t getPanelBytes() const { return kRows * getSwizzle(); }
      int64_t getBytes() const { return count * getPanelBytes(); }
      /// Bytes after which the swizzle repeats.
      int64_t getAlignment() const { return 8 * getSwizzle(); }
    };
    /// None where tensor copies can't store this tile to this memory.
    std::optional<Panels> getPanels();
  }];
  let hasVerifier = 1;
}

def Tile_AccumulateOp : Tile_Op<"accumulate",
    [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "add a tile to memory";
  let description = [{
    `dest[offsets + x] += value[x]` for every element inside the destination.
    Adds of different grid points to one element are all there in the end; their
    order, and so the rounding of the sum, is not specified. Nothing in the same
    grid may read what it accumulates. `order` as in `tile.store`.

    With `shuffled`, the target chooses where in its block of 8 rows and 16 or 32
    columns an element lies, so that threads that add at the same time add to
    neighbours. Only a `tile.load` with `shuffled` finds it again. The extents of
    the memory are multiples of 8 and 16, the offsets of 8 and 32; there is no
    `order`.

    With an `offset` (`tile-plan-resources`) the tile is written to that place of shared
    memory first, and one bulk copy adds all of it, asynchronously. It is shuffled, and as
    wide as the memory, whose rows are neighbours. `free` says that a `tile.stage` before
    it, whose barrier all threads pass, has waited until the copy before is done with that
    place.

    ```mlir
    tile.accumulate %t, %sum[%m0, %c0] : tensor<64x64xf32>,
        memref<?x64xf32, strided<[?, 1], offset: ?>>
    tile.accumulate %t, %sum[%m0, %c0] shuffled {offset = 65536} : tensor<64x64xf32>,
        memref<?x64xf32, strided<[64, 1], offset: ?>>
    ```
  }];
  let arguments = (ins StaticShapeTensorOf<[F32, F64]>:$value,
                       AnyStridedMemRef:$dest, Variadic<Index>:$offsets,
                       OptionalAttr<DenseI64ArrayAttr>:$order,
                       UnitAttr:$shuffled, OptionalAttr<I64Attr>:$offset,
                       UnitAttr:$free);
  let assemblyFormat = [{
    $value `,` $dest `[` $offsets `]` (`order` $order^)?
    (`shuffled` $shuffled^)? attr-dict `:` type($value) `,` type($dest)
  }];
  let extraClassDeclaration = [{
    /// Whether the tile's rows in memory are one run of bytes.
    bool isContiguous();
  }];
  let hasVerifier = 1;
}

def Tile_GatherOp : Tile_Op<"gather", [MemoryEffects<[MemRead]>]> {
  let summary = "read elements at computed places";
  let description = [{
    `result[x] = source[indices[0][x], indices[1][x], ...]`; an index outside
    the source is clamped into it.

    ```mlir
    %t = tile.gather %table[%i] : memref<255xf32>, tensor<64x64xi32>
        -> tensor<64x64xf32>
    ```
  }];
  let arguments = (ins AnyStridedMemRef:$source, Variadic<Tile_Tile>:$indices);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = [{
    $source `[` $indices `]` attr-dict
    `:` type($source) `,` type($indices) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_ContractOp : Tile_Op<"contract", [Pure,
    AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc + sum of products";
  let description = [{
    A matrix product over a three-dimensional iteration space (m, n, k), where
    k is the reduced dimension: `result = acc + sum_k lhs * rhs`. `maps` gives
    the operand maps of lhs, rhs and acc; each is a projected permutation to
    two dimensions, lhs over {m, k}, rhs over {n, k}, acc over {m, n}. Products
    and sums are in the type of the accumulator. An operand may be a tile or,
    at L2, a shared buffer.

    With `each_warp` every warp makes its rows by itself, also where others do not
    come along (a branch on `tile.exceeds`). With `async` (L2,
    `tile-async-products`) the product is only started: `tile.await` gives its
    result, and nothing else may use it before.

    ```mlir
    #qk = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,
           affine_map<(m, n, k) -> (m, n)>]
    %s = tile.contract %q, %k, %zero {maps = #qk}
        : tensor<128x64xf16>, tensor<64x64xf16>, tensor<128x64xf32>
    ```
  }];
  let arguments = (ins Tile_TileOrBuffer:$lhs, Tile_TileOrBuffer:$rhs,
                       Tile_Tile:$acc, AffineMapArrayAttr:$maps,
                       UnitAttr:$async, UnitAttr:$each_warp);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = [{
    (`async` $async^)? (`each_warp` $each_warp^)? $lhs `,` $rhs `,` $acc attr-dict
    `:` type($lhs) `,` type($rhs) `,` type($acc)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    AffineMap getMap(unsigned operand) {
      return cast<AffineMapAttr>(getMaps()[operand]).getValue();
    }
    /// True when `operand`'s last dimension is the reduced one.
    bool isReductionMinor(unsigned operand) {
      return getMap(operand).getDimPosition(1) == 2;
    }
    /// Static extents of (m, n, k).
    SmallVector<int64_t, 3> getExtents();
  }];
}

def Tile_AwaitOp : Tile_Op<"await", [
    RangedTypesMatchWith<"a product's type is kept", "products", "results",
                         "llvm::iterator_range($_self)">]> {
  let summary = "wait for products under way";
  let description = [{
    Waits until at most the `younger` products that were started last are under
    way, and gives the results of `products`, which are `async` and among those
    that are done.

    ```mlir
    %s0 = tile.contract async %q, %k, %zero {maps = #qk} : ...
    %o0 = tile.contract async %p, %v, %o {maps = #pv} : ...
    %s = tile.await %s0 {younger = 1} : tensor<128x64xf32, #acc>
    ```
  }];
  let arguments = (ins Variadic<Tile_Tile>:$products, I64Attr:$younger);
  let results = (outs Variadic<Tile_Tile>:$results);
  let assemblyFormat = "$products attr-dict `:` type($products)";
  let hasVerifier = 1;
}

def Tile_ReduceAdd : I32EnumAttrCase<"add", 0>;
def Tile_ReduceMax : I32EnumAttrCase<"max", 1>;
def Tile_ReduceKind : I32EnumAttr<"ReduceKind", "how a reduction combines",
    [Tile_ReduceAdd, Tile_ReduceMax]> {
  let cppNamespace = "::mlir::tl";
}

def Tile_ReduceOp : Tile_Op<"reduce", [Pure]> {
  let summary = "combine the elements along one dimension";
  let description = [{
    `max` ignores NaN (IEEE maxNum); its neutral element is -inf.

    ```mlir
    %m = tile.reduce max %s dim 1 : tensor<128x64xf32> -> tensor<128xf32>
    ```
  }];
  let arguments = (ins Tile_ReduceKind:$kind, Tile_Tile:$source, I64Attr:$dim);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = [{
    $kind $source `dim` $dim attr-dict `:` type($source) `->` type($result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Tile_PartialSumsOp : Tile_Op<"partial_sums", [Pure]> {
  let summary = "add columns up, to few";
  let description = [{
    Each column of the source is added to one of the result's four; the target chooses to
    which. So only a `tile.reduce add` of the result is specified: it is that of the
    source. On a GPU the lanes that share a row add what they hold and exchange nothing,
    which one reduction behind a loop makes up for.

    ```mlir
    %s = tile.partial_sums %p : tensor<128x64xf32> -> tensor<128x4xf32>
    ```
  }];
  let arguments = (ins Tile_Tile:$source);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = "$source attr-dict `:` type($source) `->` type($result)";
  let extraClassDeclaration = [{
    /// Columns of the result.
    static constexpr int64_t kParts = 4;
  }];
  let hasVerifier = 1;
}

def Tile_BroadcastOp : Tile_Op<"broadcast", [Pure]> {
  let summary = "repeat a tile along a new dimension";
  let description = [{
    The inverse of `tile.reduce`'s shape: inserts dimension `dim`.

    ```mlir
    %b = tile.broadcast %m dim 1 : tensor<128xf32> -> tensor<128x64xf32>
    ```
  }];
  let arguments = (ins Tile_Tile:$source, I64Attr:$dim);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat =
      "$source `dim` $dim attr-dict `:` type($source) `->` type($result)";
  let hasVerifier = 1;
}

def Tile_SplatOp : Tile_Op<"splat", [Pure]> {
  let summary = "a tile with one value everywhere";
  let description = [{
    ```mlir
    %t = tile.splat %scale : f32 -> tensor<128x64xf32>
    ```
  }];
  let arguments = (ins AnyType:$value);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = "$value attr-dict `:` type($value) `->` type($result)";
  let hasVerifier = 1;
}

def Tile_IotaOp : Tile_Op<"iota", [Pure]> {
  let summary = "each element's coordinate along one dimension";
  let description = [{
    `result[x] = x[dim]`, an integer tile.

    ```mlir
    %i = tile.iota dim 1 : tensor<128x64xi32>
    ```
  }];
  let arguments = (ins I64Attr:$dim);
  let results = (outs Tile_Tile:$result);
  let assemblyFormat = "`dim` $dim attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Tile_NonfiniteOp : Tile_Op<"nonfinite", [Pure]> {
  let summary = "whether any element is NaN or infinite";
  let description = [{
    True when the tile holds a NaN or an infinity. Programs ask it to choose a
    slower exact path for data that a product with zero has spoilt. Like that of
    `tile.exceeds`, each warp's answer may be about its own elements.

    ```mlir
    %any = tile.nonfinite %acc : tensor<128x64xf32>
    ```
  }];
  let arguments = (ins Tile_Tile:$source);
  let results = (outs I1:$any);
  let assemblyFormat = "$source attr-dict `:` type($source)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Tile_ExceedsOp : Tile_Op<"exceeds", [Pure,
    TypesMatchWith<"the limit is of the element type", "tile", "limit",
                   "getElementTypeOrSelf($_self)">]> {
  let summary = "whether any element is greater than a limit";
  let description = [{
    True when the tile holds an element greater than `limit`; NaN is not. Programs
    ask it to choose a slower exact path for rare data.

    Each warp may get its own answer, about the elements that it holds. So a branch
    on it must be right for warps whose elements do not exceed the limit whichever
    way it goes, and products in it are `each_warp`.

    ```mlir
    %over = tile.exceeds %sum, %limit : tensor<128xf32>
    ```
  }];
  let arguments = (ins Tile_Tile:$tile, AnyFloat:$limit);
  let results = (outs I1:$any);
  let assemblyFormat = "$tile `,` $limit attr-dict `:` type($tile)";
}

def Tile_RowsHeldOp : Tile_Op<"rows_held", [Pure]> {
  let summary = "which rows of a tile the threads of a team hold";
  let description = [{
    Of tiles of `rows` rows, the team of warps that makes products together holds
    `count` neighbouring ones from `first` on. A target without teams holds all,
    and so it may be said of any team. A team may skip what its rows do not need;
    others do not see that it does.

    ```mlir
    %first, %count = tile.rows_held 192
    ```
  }];
  let arguments = (ins I64Attr:$rows);
  let results = (outs Index:$first, Index:$count);
  let assemblyFormat = "$rows attr-dict";
  let hasVerifier = 1;
}

def Tile_UnusedOp : Tile_Op<"unused", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "tiles that are loaded for others";
  let description = [{
    Says that a load stays although its tile is not read here: loops that
    continue each other load the same tiles in each iteration.

    ```mlir
    tile.unused %k, %v : tensor<128x64xf16>, tensor<128x64xf16>
    ```
  }];
  let arguments = (ins Variadic<Tile_TileOrBuffer>:$tiles);
  let assemblyFormat = "$tiles attr-dict `:` type($tiles)";
}

//===----------------------------------------------------------------------===//
// L2
//===----------------------------------------------------------------------===//

def Tile_PipeOp : Tile_Op<"pipe", [MemoryEffects<[MemAlloc]>]> {
  let summary = "make a pipe";
  let description = [{
    A ring of buffers in shared memory, empty at first. `tile-plan-resources`
    gives it its place: `offset` of slot 0 and `barriers` of its full and empty
    barriers (roles only), in bytes from the start of shared memory.

    ```mlir
    %p = tile.pipe : !tile.pipe<2, !tile.buffer<64x128xf16, swizzle = 128>>
    ```
  }];
  let arguments = (ins OptionalAttr<I64Attr>:$offset,
                       OptionalAttr<I64Attr>:$barriers);
  let results = (outs Tile_PipeType:$pipe);
  let assemblyFormat = "attr-dict `:` type($pipe)";
}

def Tile_ProduceOp : Tile_Op<"produce",
    [AttrSizedOperandSegments, MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "start the copy of a tile into a pipe";
  let description = [{
    Fill number `ordinal` of the pipe: waits until its slot was released, then
    starts an asynchronous copy of the slot's shape from `source[offsets]`, zero
    outside the source. With `if`, a false condition copies nothing but still
    counts as a fill. With `open`, rows behind the source's last one may hold anything:
    `tile.consume` clears them.

    ```mlir
    tile.produce %p[%i], %k[%n0, %c0] : !tile.pipe<2, !tile.buffer<64x128xf16, swizzle = 128>>,
        memref<?x128xf16, strided<[?, 1], offset: ?>>
    ```
  }];
  let arguments = (ins Tile_PipeType:$pipe, Index:$ordinal,
      AnyStridedMemRef:$source, Variadic<Index>:$offsets,
      Optional<I1>:$condition, UnitAttr:$open);
  let assemblyFormat = [{
    $pipe `[` $ordinal `]` `,` $source `[` $offsets `]` (`if` $condition^)?
    (`open` $open^)? attr-dict `:` type($pipe) `,` type($source)
  }];
  let hasVerifier = 1;
}

def Tile_ConsumeOp : Tile_Op<"consume",
    [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "wait for a fill of a pipe";
  let description = [{
    Waits until fill `ordinal` has arrived and gives its buffer, readable until
    `tile.release` of the same ordinal. Without roles, `pending` is the number
    of younger fills that may still be under way, over all pipes. With `rows`, those
    from that number on are cleared first (none if it is the slot's or more).

    ```mlir
    %b = tile.consume %p[%i] : !tile.pipe<2, !tile.buffer<64x128xf16, swizzle = 128>>
        -> !tile.buffer<64x128xf16, swizzle = 128>
    ```
  }];
  let arguments = (ins Tile_PipeType:$pipe, Index:$ordinal,
                       Optional<Index>:$rows, OptionalAttr<I64Attr>:$pending);
  let results = (outs Tile_BufferType:$buffer);
  let assemblyFormat = [{
    $pipe `[` $ordinal `]` (`rows` $rows^)? attr-dict `:` type($pipe) `->`
    type($buffer)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$pipe,
                                 "::mlir::Value":$ordinal,
                                 CArg<"::mlir::Value", "{}">:$rows)>];
  let hasVerifier = 1;
}

def Tile_ReleaseOp : Tile_Op<"release",
    [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "give a slot of a pipe back";
  let description = [{
    The calling warps no longer read fill `ordinal`.

    ```mlir
    tile.release %p[%i] : !tile.pipe<2, !tile.buffer<64x128xf16, swizzle = 128>>
    ```
  }];
  let arguments = (ins Tile_PipeType:$pipe, Index:$ordinal);
  let assemblyFormat = "$pipe `[` $ordinal `]` attr-dict `:` type($pipe)";
}

def Tile_StageOp : Tile_Op<"stage", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "write a tile from registers to shared memory";
  let description = [{
    The operation has a buffer of its own; it is readable until the operation is
    run again. All warps that hold a part of the tile wait for each other, before
    the buffer is written (the products that read it last are done) and after;
    not before, if they have waited already since they read it (`unread`).
    `tile-plan-resources` says so, and gives it its place: `offset`, in bytes from
    the start of shared memory.

    ```mlir
    %b = tile.stage %t : tensor<64x128xf16, #acc>
        -> !tile.buffer<64x128xf16, swizzle = 128>
    ```
  }];
  let arguments = (ins StaticShapeTensorOf<[F16, BF16]>:$source,
                       OptionalAttr<I64Attr>:$offset, UnitAttr:$unread);
  let results = (outs Tile_BufferType:$buffer);
  let assemblyFormat =
      "$source attr-dict `:` type($source) `->` type($buffer)";
  let hasVerifier = 1;
}

def Tile_FetchOp : Tile_Op<"fetch", [MemoryEffects<[MemRead]>]> {
  let summary = "read a left factor from shared memory into registers";
  let description = [{
    Each warp reads the rows that its products multiply, and holds them from then on.
    The slot stays in use until `tile.release`: other products may read it.

    ```mlir
    %t = tile.fetch %b : !tile.buffer<128x64xf16, swizzle = 128> -> tensor<128x64xf16>
    ```
  }];
  let arguments = (ins Tile_BufferType:$buffer);
  let results = (outs StaticShapeTensorOf<[F16, BF16]>:$result);
  let assemblyFormat =
      "$buffer attr-dict `:` type($buffer) `->` type($result)";
  let hasVerifier = 1;
}

def Tile_TakeTurnOp : Tile_Op<"take_turn", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "wait until the team of warps before has passed its turn";
  let description = [{
    Teams of a role are in a ring. A turn orders when products start, and no memory.

    ```mlir
    tile.take_turn
    ```
  }];
  let assemblyFormat = "attr-dict";
}

def Tile_PassTurnOp : Tile_Op<"pass_turn", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "let the next team of warps take its turn";
  let description = [{
    With `first`, at the beginning of a role, only the last team does so: the first one
    takes the first turn.

    ```mlir
    tile.pass_turn
    ```
  }];
  let arguments = (ins UnitAttr:$first);
  let assemblyFormat = "(`first` $first^)? attr-dict";
}

def Tile_RolesOp : Tile_Op<"roles", [NoTerminator, RecursiveMemoryEffects]> {
  let summary = "different work for different warps";
  let description = [{
    Region `i` is run by the next `warps[i]` warps of the block, with
    `registers[i]` registers per thread (0 leaves the count as it is). Regions
    capture only memrefs, pipes, scalars and constants, and yield nothing.

    ```mlir
    tile.roles warps [4, 8] registers [24, 240] {
      // copies
    }, {
      // products
    }
    ```
  }];
  let arguments = (ins DenseI64ArrayAttr:$warps, DenseI64ArrayAttr:$registers);
  let regions = (region VariadicRegion<SizedRegion<1>>:$bodies);
  let assemblyFormat =
      "`warps` $warps `registers` $registers attr-dict-with-keyword $bodies";
  let hasVerifier = 1;
}

#endif // FA_DIALECT_TILE_IR_TILEOPS
