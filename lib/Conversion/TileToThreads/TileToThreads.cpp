//===- TileToThreads.cpp - Tile programs become thread programs -----------===//

#include "Patterns.h"
#include "fa/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Patterns.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::tl;

namespace mlir::fa {
#define GEN_PASS_DEF_CONVERTTILETOTHREADS
#include "fa/Conversion/Passes.h.inc"
} // namespace mlir::fa

/// Name of the symbol that stands for dynamic shared memory.
static constexpr StringLiteral kSharedMemory = "fa_shared";

const Team &KernelContext::teamOf(Operation *op) const {
  for (Region *region = op->getParentRegion(); region;
       region = region->getParentRegion())
    if (auto it = roles.find(region); it != roles.end())
      return it->second;
  return block;
}

FragmentAttr tl::layoutOf(Type type) {
  return cast<FragmentAttr>(cast<RankedTensorType>(type).getEncoding());
}

Value tl::constantI32(OpBuilder &builder, Location loc, int64_t value) {
  return arith::ConstantIntOp::create(builder, loc, value, 32);
}

Value tl::toI32(OpBuilder &builder, Location loc, Value index) {
  return arith::IndexCastOp::create(builder, loc, builder.getI32Type(), index);
}

Value tl::packPair(OpBuilder &builder, Location loc, Value low, Value high) {
  auto type = VectorType::get(2, low.getType());
  Value pair =
      vector::FromElementsOp::create(builder, loc, type, ValueRange{low, high});
  return LLVM::BitcastOp::create(builder, loc, builder.getI32Type(), pair);
}

/// `offset` plus what the digits of `index` add along `dim`.
static Value addDigits(OpBuilder &builder, Location loc, Value offset,
                       Value index, ArrayRef<FragmentAttr::Mode> modes,
                       int64_t dim) {
  int64_t below = 1;
  for (const FragmentAttr::Mode &mode : modes) {
    if (mode.dim == dim && mode.stride != 0 && mode.extent > 1) {
      Value digit = arith::DivUIOp::create(builder, loc, index,
                                           constantI32(builder, loc, below));
      digit = arith::RemUIOp::create(builder, loc, digit,
                                     constantI32(builder, loc, mode.extent));
      digit = arith::MulIOp::create(builder, loc, digit,
                                    constantI32(builder, loc, mode.stride));
      offset = arith::AddIOp::create(builder, loc, offset, digit);
    }
    below *= mode.extent;
  }
  return offset;
}

Value tl::threadOffset(OpBuilder &builder, Location loc, KernelContext &kernel,
                       const Team &team, FragmentAttr layout, int64_t dim) {
  Value offset = addDigits(builder, loc, constantI32(builder, loc, 0),
                           kernel.lane, layout.laneModes(), dim);
  return addDigits(builder, loc, offset, team.warp, layout.warpModes(), dim);
}

Value tl::warpOffset(OpBuilder &builder, Location loc, const Team &team,
                     FragmentAttr layout, int64_t dim) {
  return addDigits(builder, loc, constantI32(builder, loc, 0), team.warp,
                   layout.warpModes(), dim);
}

Value tl::sharedPointer(OpBuilder &builder, Location loc, Value base,
                        Value bytes) {
  return LLVM::GEPOp::create(builder, loc, base.getType(), builder.getI8Type(),
                             base, ArrayRef<LLVM::GEPArg>{bytes});
}

namespace {
struct ConvertTileToThreads
    : fa::impl::ConvertTileToThreadsBase<ConvertTileToThreads> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto functions = llvm::to_vector(llvm::make_filter_range(
        module.getOps<func::FuncOp>(),
        [](func::FuncOp f) { return !f.isDeclaration(); }));
    if (functions.empty())
      return;
    // All kernels of a module share the symbol.
    OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
    LLVM::GlobalOp::create(builder, module.getLoc(),
                           LLVM::LLVMArrayType::get(builder.getI8Type(), 0),
                           /*isConstant=*/false, LLVM::Linkage::External,
                           kSharedMemory, Attribute(), /*alignment=*/1024,
                           /*addrSpace=*/3);
    for (func::FuncOp func : functions)
      if (failed(distribute(func)))
        return signalPassFailure();
  }

  /// Every tile must be in registers that its layout names.
  static LogicalResult checkLayouts(func::FuncOp func) {
    auto hasNone = [](Type type) {
      auto tile = dyn_cast<RankedTensorType>(type);
      return tile && !isa_and_nonnull<FragmentAttr>(tile.getEncoding());
    };
    WalkResult result = func.walk([&](Operation *op) {
      bool found = llvm::any_of(op->getResultTypes(), hasNone);
      for (Region &region : op->getRegions())
        for (Block &block : region)
          found |= llvm::any_of(block.getArgumentTypes(), hasNone);
      if (!found)
        return WalkResult::advance();
      op->emitOpError("has a tile without a layout: run tile-assign-layouts "
                      "first");
      return WalkResult::interrupt();
    });
    return failure(result.wasInterrupted());
  }

  /// One lane releases a slot for its warp: the others must have seen by then
  /// that it was full, or they wait for a barrier that has gone on. Products of
  /// what is in it, which a warp begins together, tell; without one before the
  /// release, lanes wait for each other. Slots that are filled once do not go
  /// on.
  static void orderReleases(func::FuncOp func) {
    func.walk([](ReleaseOp release) {
      auto isOfPipe = [&](Operation *op) {
        auto consume = dyn_cast_or_null<ConsumeOp>(op);
        return consume && consume.getPipe() == release.getPipe();
      };
      if (!release->getParentOfType<scf::ForOp>())
        return;
      for (Operation *before = release->getPrevNode();
           before && !isOfPipe(before); before = before->getPrevNode()) {
        auto readsIt = [&](Value operand) {
          return isOfPipe(operand.getDefiningOp());
        };
        if (isa<NVVM::SyncWarpOp>(before) ||
            (isa<ContractOp>(before) &&
             llvm::any_of(before->getOperands(), readsIt)))
          return;
      }
      OpBuilder builder(release);
      NVVM::SyncWarpOp::create(builder, release.getLoc(),
                               constantI32(builder, release.getLoc(), -1));
    });
  }

  LogicalResult distribute(func::FuncOp func) {
    KernelContext kernel;
    kernel.plan = func->getAttrOfType<PlanAttr>(kPlanAttrName);
    if (!kernel.plan || !func->hasAttr("tile.shared_bytes"))
      return func.emitError(
          "is not ready to be distributed: run tile-map-grid, "
          "tile-assign-layouts and tile-plan-resources first");
    if (failed(checkLayouts(func)))
      return failure();
    prepare(func, kernel);
    if (kernel.hasRoles())
      orderReleases(func);

    TypeConverter converter;
    converter.addConversion([](Type type) { return type; });
    converter.addConversion(
        [](RankedTensorType type,
           SmallVectorImpl<Type> &types) -> std::optional<LogicalResult> {
          auto layout = dyn_cast_or_null<FragmentAttr>(type.getEncoding());
          if (!layout)
            return failure();
          types.append(layout.numRegisters(), type.getElementType());
          return success();
        });
    // A buffer or pipe is its byte offset in shared memory.
    converter.addConversion([](BufferType type) -> Type {
      return IntegerType::get(type.getContext(), 32);
    });
    converter.addConversion([](PipeType type) -> Type {
      return IntegerType::get(type.getContext(), 32);
    });

    RewritePatternSet patterns(&getContext());
    ConversionTarget target(getContext());
    scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns,
                                                         target);
    populateElementwisePatterns(converter, patterns, kernel);
    populateMemoryPatterns(converter, patterns, kernel);
    populateBulkStorePatterns(converter, patterns, kernel);
    populateContractPatterns(converter, patterns, kernel);
    populatePipePatterns(converter, patterns, kernel);
    target.markUnknownOpDynamicallyLegal([&](Operation *op) {
      if (isa<RolesOp>(op))
        return true;
      return !isa<TileDialect>(op->getDialect()) && converter.isLegal(op);
    });
    if (failed(applyPartialConversion(func, target, std::move(patterns))))
      return failure();
    SmallVector<scf::ForOp> loops;
    func.walk([&](scf::ForOp loop) { loops.push_back(loop); });
    for (scf::ForOp loop : loops) {
      convergeLanes(loop);
      carryInPairs(loop);
    }
    keepInvariantsInColdLoops(func);
    lowerRoles(func, kernel);
    finish(func, kernel);
    return success();
  }

  /// `number` of lane 0: tells ptxas that it is uniform in a warp.
  static NVVM::ShflOp broadcast(OpBuilder &builder, Location loc,
                                Value number) {
    return NVVM::ShflOp::create(
        builder, loc, number.getType(), constantI32(builder, loc, -1), number,
        constantI32(builder, loc, 0), constantI32(builder, loc, 31),
        NVVM::ShflKind::idx, UnitAttr());
  }

  /// Thread and warp numbers, shared memory, the teams of the roles, and the
  /// barriers of the pipes.
  void prepare(func::FuncOp func, KernelContext &kernel) {
    OpBuilder builder = OpBuilder::atBlockBegin(&func.getBody().front());
    Location loc = func.getLoc();
    Type i32 = builder.getI32Type();
    auto sharedType = LLVM::LLVMPointerType::get(&getContext(), 3);
    kernel.shared =
        LLVM::AddressOfOp::create(builder, loc, sharedType, kSharedMemory);
    Value thread = NVVM::ThreadIdXOp::create(builder, loc, i32);
    kernel.lane = arith::AndIOp::create(builder, loc, thread,
                                        constantI32(builder, loc, 31));
    Value warp = arith::ShRUIOp::create(builder, loc, thread,
                                        constantI32(builder, loc, 5));
    warp = broadcast(builder, loc, warp);
    // Without copies there are no roles, and no warps for them.
    int64_t warps = kernel.plan.getWarps();
    if (!func.getOps<RolesOp>().empty())
      warps += kernel.plan.getProducers();
    kernel.block = {warp, thread, warps};
    for (RolesOp roles : func.getOps<RolesOp>()) {
      int64_t first = 0;
      for (auto [body, count] :
           llvm::zip(roles.getBodies(), roles.getWarps())) {
        OpBuilder inner = OpBuilder::atBlockBegin(&body.front());
        Team team;
        team.warps = count;
        team.warp = arith::SubIOp::create(inner, loc, warp,
                                          constantI32(inner, loc, first));
        team.thread = arith::SubIOp::create(
            inner, loc, thread, constantI32(inner, loc, 32 * first));
        kernel.roles[&body] = team;
        first += count;
      }
      initBarriers(func, kernel, builder);
    }
  }

  /// With roles, thread 0 makes the barriers of every pipe: a full barrier
  /// completes by one arrival and its bytes, an empty one when every consumer
  /// warp has arrived.
  void initBarriers(func::FuncOp func, KernelContext &kernel,
                    OpBuilder &builder) {
    Location loc = func.getLoc();
    Value first = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq,
                                        kernel.block.thread,
                                        constantI32(builder, loc, 0));
    auto branch = scf::IfOp::create(builder, loc, first, false);
    OpBuilder inner = branch.getThenBodyBuilder();
    const int64_t arrivalsOf[] = {1, kernel.plan.getWarps()}; // full, empty
    for (PipeOp pipe : func.getOps<PipeOp>())
      for (int64_t slot = 0; slot < pipe.getPipe().getType().getStages();
           ++slot)
        for (auto [which, arrivals] : llvm::enumerate(arrivalsOf)) {
          Value pointer = sharedPointer(
              inner, loc, kernel.shared,
              constantI32(inner, loc,
                          *pipe.getBarriers() + 16 * slot + 8 * which));
          NVVM::MBarrierInitOp::create(
              inner, loc, pointer, constantI32(inner, loc, arrivals), Value());
        }
    NVVM::FenceMbarrierInitOp::create(inner, loc);
    NVVM::Barrier0Op::create(builder, loc);
  }

  /// Roles become nested branches on the warp number, each with its share of
  /// the register file.
  void lowerRoles(func::FuncOp func, KernelContext &kernel) {
    for (RolesOp roles : llvm::make_early_inc_range(func.getOps<RolesOp>())) {
      OpBuilder builder(roles);
      Location loc = roles.getLoc();
      int64_t first = 0;
      size_t count = roles.getBodies().size();
      for (size_t i = 0; i < count; ++i) {
        Region &body = roles.getBodies()[i];
        first += roles.getWarps()[i];
        Block *place;
        if (i + 1 < count) {
          Value mine = arith::CmpIOp::create(
              builder, loc, arith::CmpIPredicate::slt, kernel.block.warp,
              constantI32(builder, loc, first));
          auto branch = scf::IfOp::create(builder, loc, mine, true);
          place = branch.thenBlock();
          builder.setInsertionPoint(branch.elseBlock()->getTerminator());
        } else {
          place = builder.getInsertionBlock();
        }
        Operation *before = place == builder.getInsertionBlock()
                                ? &*builder.getInsertionPoint()
                                : place->getTerminator();
        if (int64_t registers = roles.getRegisters()[i]) {
          OpBuilder inner(before);
          // Roles whose share is below an even split give registers back.
          int64_t total = 0;
          for (int64_t warps : roles.getWarps())
            total += warps;
          bool increase = registers > 65536 / (total * 32) / 8 * 8;
          NVVM::SetMaxRegisterOp::create(
              inner, loc, registers,
              increase ? NVVM::SetMaxRegisterAction::increase
                       : NVVM::SetMaxRegisterAction::decrease);
        }
        before->getBlock()->getOperations().splice(
            Block::iterator(before), body.front().getOperations());
      }
      roles.erase();
    }
  }

  /// 16-bit registers cross iterations as the 32-bit words that products take;
  /// one by one they would be taken apart and put together in each.
  static void carryInPairs(scf::ForOp loop) {
    auto isHalf = [](Type type) { return type.isF16() || type.isBF16(); };
    SmallVector<Type> types(loop.getResultTypes());
    SmallVector<bool> isPair; // by number of what the new loop carries
    for (size_t i = 0; i < types.size(); ++i) {
      bool pair =
          isHalf(types[i]) && i + 1 < types.size() && types[i] == types[i + 1];
      isPair.push_back(pair);
      i += pair;
    }
    if (!llvm::is_contained(isPair, true))
      return;
    Location loc = loop.getLoc();
    auto pack = [&](OpBuilder &builder, ValueRange values) {
      SmallVector<Value> packed;
      for (bool pair : isPair) {
        packed.push_back(pair ? packPair(builder, loc, values[0], values[1])
                              : values[0]);
        values = values.drop_front(pair ? 2 : 1);
      }
      return packed;
    };
    auto unpack = [&](OpBuilder &builder, ValueRange packed) {
      SmallVector<Value> values;
      for (auto [pair, value] : llvm::zip(isPair, packed)) {
        if (!pair) {
          values.push_back(value);
          continue;
        }
        auto type = VectorType::get(2, types[values.size()]);
        Value both = LLVM::BitcastOp::create(builder, loc, type, value);
        for (int64_t i : {0, 1})
          values.push_back(vector::ExtractOp::create(builder, loc, both, i));
      }
      return values;
    };

    OpBuilder builder(loop);
    auto carrier = scf::ForOp::create(builder, loc, loop.getLowerBound(),
                                      loop.getUpperBound(), loop.getStep(),
                                      pack(builder, loop.getInitArgs()));
    carrier->setDiscardableAttrs(loop->getDiscardableAttrDictionary());
    Block *body = carrier.getBody();
    builder.setInsertionPointToStart(body);
    SmallVector<Value> arguments = {carrier.getInductionVar()};
    arguments.append(unpack(builder, carrier.getRegionIterArgs()));
    for (auto [argument, value] :
         llvm::zip(loop.getBody()->getArguments(), arguments))
      argument.replaceAllUsesWith(value);
    if (!body->empty() && body->back().hasTrait<OpTrait::IsTerminator>())
      body->back().erase();
    body->getOperations().splice(body->end(), loop.getBody()->getOperations());
    Operation *yield = body->getTerminator();
    builder.setInsertionPoint(yield);
    yield->setOperands(pack(builder, yield->getOperands()));
    builder.setInsertionPointAfter(carrier);
    loop.replaceAllUsesWith(unpack(builder, carrier.getResults()));
    loop.erase();
  }

  /// Whether `loop` carries nothing but numbers: it goes round others, as those
  /// of tile-persistent do.
  static bool onlyCounts(scf::ForOp loop) {
    return loop.getNumResults() != 0 &&
           llvm::all_of(loop.getResultTypes(),
                        [](Type type) { return type.isIntOrIndex(); });
  }

  /// What a loop that only counts carries is the same in all lanes, and ptxas
  /// must know it, to keep in uniform registers what depends on it. So lanes
  /// end an iteration together (where only some of them store last, LLVM would
  /// make the branch around the store the branch back), and begin it with a
  /// broadcast.
  static void convergeLanes(scf::ForOp loop) {
    if (!onlyCounts(loop))
      return;
    Location loc = loop.getLoc();
    OpBuilder builder(loop.getBody()->getTerminator());
    NVVM::SyncWarpOp::create(builder, loc, constantI32(builder, loc, -1));
    builder.setInsertionPointToStart(loop.getBody());
    for (BlockArgument number : loop.getBody()->getArguments()) {
      if (!number.getType().isInteger(32))
        continue;
      auto same = broadcast(builder, loc, number);
      number.replaceAllUsesExcept(same, same);
    }
  }

  /// A loop in a branch of another loop runs rarely, and so does one that only
  /// counts around others (tile-persistent). What they compute anew in each
  /// iteration would, hoisted, take registers from the loop that runs often.
  void keepInvariantsInColdLoops(func::FuncOp func) {
    auto never = LLVM::LoopLICMAttr::get(
        &getContext(), /*disable=*/BoolAttr::get(&getContext(), true),
        /*versioningDisable=*/BoolAttr());
    auto annotation =
        LLVM::LoopAnnotationAttr::get(&getContext(), {}, {}, {}, {}, {}, never,
                                      {}, {}, {}, {}, {}, {}, {}, {}, {});
    func.walk([&](scf::ForOp loop) {
      auto branch = loop->getParentOfType<scf::IfOp>();
      auto around = branch ? branch->getParentOfType<scf::ForOp>() : nullptr;
      if (onlyCounts(loop) || (around && !onlyCounts(around)))
        loop->setAttr("llvm.loop_annotation", annotation);
    });
  }

  /// Kernel attributes that the launcher and ptxas need.
  void finish(func::FuncOp func, KernelContext &kernel) {
    Builder builder(&getContext());
    auto launch = func->getAttrOfType<DictionaryAttr>("tile.launch");
    NamedAttrList entries(launch);
    entries.set("threads", builder.getI64IntegerAttr(32 * kernel.block.warps));
    entries.set("shared_bytes", func->getAttr("tile.shared_bytes"));
    func->removeAttr("tile.shared_bytes");
    if (Attribute maps = func->getAttr("tile.tensor_maps")) {
      entries.set("tensor_maps", maps);
      func->removeAttr("tile.tensor_maps");
    }
    func->setAttr("tile.launch", entries.getDictionary(&getContext()));
  }
};
} // namespace
