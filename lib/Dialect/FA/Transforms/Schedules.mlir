// The schedules that fa-select-schedule chooses from: the first row that serves a
// loop nest. docs/reference/fa-dialect.md (`#fa.choice`) says when a row does,
// docs/tuning.md how rows are found. Rows of a newer chip stand before those of
// older ones, which serve it, too.
module attributes {fa.schedules = #fa.schedules<"0.1.0", [
  <work = output, max_head_size = 64, lengths = true, schedule = <tile_m = 256, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, overlap = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 112, lengths = true, schedule = <tile_m = 192, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 3, overlap = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 128, mask = "none", lengths = true, schedule = <tile_m = 128, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 16, plain = true, schedule = <tile_m = 256, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 48, plain = true, schedule = <tile_m = 256, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 64, plain = true, short_sequences = true, schedule = <tile_m = 256, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 64, plain = true, schedule = <tile_m = 256, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, persistent = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 64, schedule = <tile_m = 256, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 16, producers = 4, stages = 4, persistent = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 80, plain = true, schedule = <tile_m = 192, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 3, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 96, plain = true, short_sequences = false, schedule = <tile_m = 192, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 3, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 112, plain = true, short_sequences = false, schedule = <tile_m = 192, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 12, producers = 4, stages = 3, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 128, schedule = <tile_m = 128, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 192, lengths = true, schedule = <tile_m = 128, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 256, lengths = true, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 192, schedule = <tile_m = 128, tile_n = 96, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 256, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true, persistent = true, bulk_stores = true>, fixed_reference = true, partial_sums = true>>,
  <work = output, max_head_size = 64, scored = false, schedule = <tile_m = 128, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>>,
  <work = output, max_head_size = 64, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 2>>>,
  <work = output, max_head_size = 128, shared_kib = 128, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 128, schedule = <tile_m = 128, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 256, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>, partial_sums = true>>,
  <work = output, max_head_size = 64, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 128, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 256, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 128, element = bf16, schedule = <tile_m = 128, tile_n = 128, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 64, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = output, max_head_size = 128, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = output, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  // As many blocks as fit share an SM: a warp each, whose copies overlap the
  // products of others.
  <work = few, max_head_size = 128, schedule = <tile_m = 16, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>>>,
  <work = few, max_head_size = 256, schedule = <tile_m = 16, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 1, producers = 0, stages = 1>>>,
  <work = few, max_head_size = 128, schedule = <tile_m = 16, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = few, max_head_size = 256, schedule = <tile_m = 16, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = few, schedule = <tile_m = 16, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  <work = parts, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = parts, schedule = <tile_m = 16, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  <work = copies, max_head_size = 256, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = copies, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  <work = rows, max_head_size = 128, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>>,
  <work = rows, max_head_size = 256, schedule = <tile_m = 128, tile_n = 32, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>>>,
  <work = rows, max_head_size = 64, schedule = <tile_m = 128, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = rows, max_head_size = 128, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = rows, max_head_size = 256, shared_kib = 100, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = rows, max_head_size = 256, schedule = <tile_m = 64, tile_n = 16, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = rows, max_head_size = 128, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = rows, max_head_size = 256, schedule = <tile_m = 32, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 2, producers = 0, stages = 1>>>,
  <work = rows, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  <work = keys, max_head_size = 128, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>>,
  <work = keys, max_head_size = 256, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1>>>,
  <work = keys, max_head_size = 64, schedule = <tile_m = 32, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = keys, max_head_size = 128, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1, square = true>>>,
  <work = keys, max_head_size = 256, shared_kib = 160, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, square = true>>>,
  <work = keys, max_head_size = 256, schedule = <tile_m = 32, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = keys, max_head_size = 64, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = keys, max_head_size = 128, schedule = <tile_m = 32, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = keys, max_head_size = 224, schedule = <tile_m = 32, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = keys, max_head_size = 256, schedule = <tile_m = 32, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 2, producers = 0, stages = 1>>>,
  <work = keys, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  <work = all, max_head_size = 64, schedule = <tile_m = 128, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2>>>,
  <work = all, max_head_size = 128, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 2, overlap = true>>>,
  <work = all, max_head_size = 256, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "sm_90a", mma = "wgmma", copy = "tma", warps = 8, producers = 4, stages = 1>>>,
  <work = all, max_head_size = 64, schedule = <tile_m = 32, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 128, shared_kib = 160, schedule = <tile_m = 64, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, square = true>>>,
  <work = all, max_head_size = 128, schedule = <tile_m = 32, tile_n = 128, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 256, shared_kib = 160, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 8, producers = 0, stages = 1, square = true>>>,
  <work = all, max_head_size = 256, schedule = <tile_m = 32, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 64, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 128, schedule = <tile_m = 32, tile_n = 64, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 224, schedule = <tile_m = 32, tile_n = 32, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 4, producers = 0, stages = 1>>>,
  <work = all, max_head_size = 256, schedule = <tile_m = 32, tile_n = 16, plan = <chip = "sm_75", mma = "mma_sync", copy = "direct", warps = 2, producers = 0, stages = 1>>>,
  <work = all, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, sequential = true>>,

  <work = blocks, max_head_size = 128, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = blocks, max_head_size = 256, schedule = <tile_m = 64, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>>>,
  <work = blocks, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>,

  // One warp, as rows and columns are reduced; keys pass through its
  // registers.
  <work = sums, max_head_size = 64, schedule = <tile_m = 16, tile_n = 32, plan = <chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = sums, max_head_size = 256, schedule = <tile_m = 16, tile_n = 16, plan = <chip = "sm_80", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>>,
  <work = sums, schedule = <tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>>
]>} {}
