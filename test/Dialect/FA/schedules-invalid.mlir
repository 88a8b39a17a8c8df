// RUN: fa-opt %s -split-input-file -verify-diagnostics

// Of another version of the project.
// expected-error @+1 {{the table is of version 0.0.1, this is 0.1.0; schedules are tuned for one version, tune again}}
module attributes {fa.schedules = #fa.schedules<"0.0.1", []>} {}

// -----

// An empty table is one.
module attributes {fa.schedules = #fa.schedules<"0.1.0", []>} {}

// -----

// expected-error @+1 {{has fixed_reference and lazy_maximum; use one}}
func.func private @both() attributes {fa.schedule = #fa.schedule<tile_m = 64, tile_n = 64, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, fixed_reference = true, lazy_maximum = true>}

// -----

// expected-error @+1 {{tile_m is 9223372036854775807 and tile_n 0; both must be 1 to 65536}}
module attributes {a = #fa.schedule<tile_m = 9223372036854775807, tile_n = 0, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>} {}

// -----

#schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "sm_81", mma = "mma_sync", copy = "direct", warps = 1, producers = 0, stages = 1>>
// expected-error @+1 {{chip is 'sm_81', which has no code of its own: its devices run what is compiled for sm_80; allowed are cpu, sm_75}}
module attributes {a = #fa.choice<work = few, schedule = #schedule>} {}

// -----

#schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
// expected-error @+1 {{min_head_size is 128, max_head_size 64 and shared_kib 0; use 0 or more, and min_head_size <= max_head_size}}
module attributes {a = #fa.choice<work = few, min_head_size = 128, max_head_size = 64, schedule = #schedule>} {}

// -----

#schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
// expected-error @+1 {{element is 'i32'; use f16, bf16, f32 or f64}}
module attributes {a = #fa.choice<work = few, element = i32, schedule = #schedule>} {}

// -----

#schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>, packed = true>
// expected-error @+1 {{the schedule is packed; leave it out: that depends on the problem}}
module attributes {a = #fa.choice<work = few, schedule = #schedule>} {}

// -----

#schedule = #fa.schedule<tile_m = 16, tile_n = 8, plan = <chip = "cpu", mma = "vector", copy = "direct", warps = 1, producers = 0, stages = 1>>
// expected-error @+2 {{expected one of [output, few, parts, copies, rows, keys, all, blocks, sums] for what one loop nest computes, got: some}}
// expected-error @+1 {{failed to parse FA_ChoiceAttr parameter 'work'}}
module attributes {a = #fa.choice<work = some, schedule = #schedule>} {}
