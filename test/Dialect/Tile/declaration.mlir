// A declaration has no body, whatever its attributes say.
// RUN: fa-opt %s --pass-pipeline='builtin.module(tile-outline-launches,func.func(tile-orient-for-products,tile-async-copy,tile-stage,tile-roles,tile-pipeline,tile-assign-layouts,tile-plan-resources,tile-orient-for-vectors),convert-tile-to-threads)' | FileCheck %s

// CHECK: func.func private @declared() attributes
func.func private @declared() attributes {tile.plan = #tile.plan<chip = "sm_80", mma = "mma_sync", copy = "cp_async", warps = 4, producers = 0, stages = 1>}
