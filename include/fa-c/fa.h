/*===- fa.h - C interface of the attention compiler ------------*- C
-*-=======*\
|*                                                                            *|
|* MLIR text or an attention specification -> compiled artifact -> launch.    *|
|*                                                                            *|
|* Every function that can fail returns 0 on success and a code of            *|
|* fa_status otherwise; *error then holds a message that names the argument,  *|
|* what it was and what is allowed (release it with fa_free). No function *|
|* keeps global mutable state besides the process-wide worker threads.        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef FA_C_FA_H
#define FA_C_FA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FA_API __attribute__((visibility("default")))

#define FA_VERSION "0.1.0"

typedef enum fa_status {
  FA_OK = 0,
  FA_INVALID_ARGUMENT = 1, /* the caller's input is wrong */
  FA_UNSUPPORTED = 2,      /* valid, but not supported on this target */
  FA_COMPILE_ERROR = 3,    /* a pass, LLVM or ptxas failed; reproducer named */
  FA_DRIVER_ERROR = 4,     /* no driver, no device, or a driver call failed */
  FA_IO_ERROR = 5          /* a file could not be read or written */
} fa_status;

/* Version of the library, "0.1.0", and of the LLVM inside, "22.1.8". */
FA_API const char *fa_version(void);
FA_API const char *fa_llvm_version(void);
FA_API void fa_free(void *pointer);

/*===-- Building a program
 * --------------------------------------------------===*/

typedef enum fa_dtype {
  FA_F16 = 0,
  FA_BF16 = 1,
  FA_F32 = 2,
  FA_F64 = 3
} fa_dtype;

/* One attention program. Sequence lengths, batch, heads and strides are not
 * part of it: they are dynamic, but for query_rows. */
typedef struct fa_attention_spec {
  fa_dtype dtype;
  int32_t head_dim_qk, head_dim_v; /* 1 to 256 */
  int32_t causal;                  /* bottom-right aligned */
  int32_t has_window_left;         /* window sizes are run-time values */
  int32_t has_window_right;
  int32_t has_softcap; /* s = cap * tanh(s / cap), cap at run time */
  int32_t has_lengths; /* per-batch int32 lengths of q and k */
  int32_t has_init_lse;
  double dead_lse;        /* lse of a row without a live key */
  int32_t alignment;      /* bytes that divide the pointers and the
                             strides of q, k, v, o: 16, 4 or, when
                             nothing is promised, 1 */
  int32_t negative_scale; /* the scale may be negative: 1; otherwise a
                             launch refuses a negative one, and the
                             kernel saves a multiplication per score */
  int32_t query_rows;     /* 0: any number; 1: q, o and lse have one row
                             per sequence (decoding); 16 and 4096: any
                             number, but fast for at most 16, or for short
                             sequences: at most 4096 queries and keys, 1024
                             at head sizes above 64 */
  int32_t has_partials;   /* workspaces in which parts of the keys are
                             computed at the same time: forward only */
  int32_t pack_heads;     /* with query_rows 16: a block has all query heads
                             that read a key head, at as many queries as 16
                             rows hold (at least one); worth it where that
                             takes fewer than one block per query head. With
                             lengths it changes nothing */
} fa_attention_spec;

/* The MLIR text of a specification: one function `@attention` whose arguments
 * are, in this order, each only where the specification has it:
 *   q, k, v (B, S, H, D), scale f32 (f64 for f64), q_lengths, k_lengths (B),
 *   init_lse (B, H, Sq), softcap f32, window_left index, window_right index,
 *   o (B, Sq, H, Dv), lse (B, H, Sq) f32 (f64 for f64),
 *   o_parts (P, B, Sq, H, Dv), lse_parts (P, B, H, Sq) like lse: workspaces for
 *   any number P > 0 of parts of the keys, of which each block of the launch
 *   computes one; worth it where the heads alone leave a device idle.
 * Where lse is not wanted it may have no rows, (B, H, 0), unless query_rows is
 * 1, there are parts or heads are packed. The last dimension of q, k, v, o,
 * lse, init_lse and of the lengths (i32) has stride 1, all other strides are
 * dynamic. */
FA_API int fa_build_attention(const fa_attention_spec *spec, char **mlir,
                              char **error);

typedef enum fa_gradient {
  FA_GRADIENT_Q = 1,
  FA_GRADIENT_K = 2,
  FA_GRADIENT_V = 4
} fa_gradient;

/* The MLIR text of the gradients of a specification's program: one function
 * `@attention_backward` whose arguments are, in this order, each only where the
 * specification has it, `has_d_lse` or `has_d_q_sum` is not 0 or `gradients`, a
 * combination of fa_gradient, has it:
 *   q, k, v, o, lse as for fa_build_attention, d_o like o, d_lse like lse (the
 *   gradient of lse), scale, q_lengths, k_lengths, softcap, window_left,
 *   window_right, delta like lse (a workspace), d_q_sum (a workspace in the
 *   type of lse and the shape of q, rounded up to multiples of 8 rows and of 16
 *   for the head size, with the rows of a head one after the other), d_q, d_k,
 * d_v like q, k, v. With d_q_sum, which FA_GRADIENT_Q and one of the others
 * must accompany, the scores are computed once for all gradients on a GPU, and
 * d_q depends in its last bits on the order of additions: faster, but not
 * deterministic. An init_lse is part of lse and no argument here; dead_lse has
 * no meaning: rows whose lse is not finite have no gradient. */
FA_API int fa_build_attention_backward(const fa_attention_spec *spec,
                                       int32_t gradients, int32_t has_d_lse,
                                       int32_t has_d_q_sum, char **mlir,
                                       char **error);

/*===-- Compiling
 * -----------------------------------------------------------===*/

typedef struct fa_artifact fa_artifact;

/* Compiles the one public function of `mlir` that holds an `fa.attention` or
 * `fa.attention_backward` (or a tile program) for `chip`: "cpu" (this host),
 * "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a" (fa_chip). `options` is a JSON
 * object or NULL: {"schedule":
 * "#fa.schedule<...>", "cpu": "x86-64-v3" (chip cpu: the processor, as LLVM
 * names it, in place of this host's), "dump": "folder", "ptxas": "path" |
 * false, "site_packages": ["folder", ...] (Python folders to search for a ptxas
 * wheel), "cache": "folder" | false, "schedules": "file" | false,
 * "stop_after": "llvm"|"ptx"}.
 *
 * "schedule" is for all loop nests; it may be a table of schedules, too,
 * "#fa.schedules<...>", of which those are chosen that serve. Without it,
 * "schedules" names a file with such a table; by default it is
 * schedules-<chip>.mlir in the folder of the cache, which `python3 -m
 * flash_attn_mlir tune` writes, and false leaves it out. A table that is
 * broken, or of another version, is ignored; the report has a remark then.
 *
 * "dump" writes what each step makes into that folder: passes/NN-flag.mlir (the
 * module after each pass), program.mlir, .ll, .ptx, .cubin, .sass (with
 * nvdisasm or cuobjdump beside ptxas or in PATH) or .o, optimized.ll,
 * ptxas.log, metadata.json, report.json and report.txt. Without it, FA_DUMP
 * names a folder in which every program that is compiled gets a folder of its
 * own. What is dumped is compiled, not taken from the cache.
 *
 * Artifacts are kept on disk and found again by program, chip, options, table
 * of schedules, host processor and build of this library: in the folder of the
 * option, else FA_CACHE_DIR, else XDG_CACHE_HOME/fa, else ~/.cache/fa, at most
 * FA_CACHE_SIZE_MB (512) megabytes. ptxas is the option's, else FA_PTXAS's,
 * else the one of CUDA_HOME, CUDA_PATH, PATH or a wheel; without one, or with
 * one too old for the chip, the artifact has no cubin and the driver compiles
 * its PTX. */
FA_API int fa_compile(const char *mlir, const char *chip, const char *options,
                      fa_artifact **artifact, char **error);
FA_API void fa_artifact_destroy(fa_artifact *artifact);

/* Part of an artifact: "mlir" (the input), "llvm_ir", "ptx", "cubin", "object",
 * "host" (the processor of the object), "metadata" (JSON), "ptxas_log",
 * "report" (JSON: the plan of each launch, what it uses of the chip, remarks of
 * the passes) and "explanation" (the same for reading). NULL when the artifact
 * does not have it. Valid as long as the artifact. */
FA_API const void *fa_artifact_get(const fa_artifact *artifact,
                                   const char *part, size_t *size);

/* A self-contained, versioned and checksummed file. */
FA_API int fa_artifact_save(const fa_artifact *artifact, const char *path,
                            char **error);
FA_API int fa_artifact_load(const char *path, fa_artifact **artifact,
                            char **error);

/*===-- Running
 * -------------------------------------------------------------===*/

#define FA_MAX_RANK 8

typedef enum fa_arg_kind {
  FA_ARG_MEMREF = 0,
  FA_ARG_F32 = 1,
  FA_ARG_F64 = 2,
  FA_ARG_INDEX = 3,
  FA_ARG_I32 = 4
} fa_arg_kind;

typedef struct fa_arg {
  fa_arg_kind kind;
  int32_t rank;                 /* memref */
  void *data;                   /* memref: address of element 0 */
  int64_t sizes[FA_MAX_RANK];   /* memref, in elements */
  int64_t strides[FA_MAX_RANK]; /* memref, in elements */
  double real;                  /* f32, f64 */
  int64_t integer;              /* index, i32 */
} fa_arg;

/* Runs an artifact on `count` arguments, which must match its function's.
 * CPU: on the library's worker threads, returns when done; `stream` ignored.
 * GPU: enqueues on `stream`, a CUstream of the context that is current in the
 * calling thread when that is a context of `device`, else of the primary
 * context of `device`; -1 takes the current context's device. Never
 * synchronises. */
FA_API int fa_launch(fa_artifact *artifact, const fa_arg *args, int32_t count,
                     int32_t device, void *stream, char **error);

/* Number of CUDA devices (0 without a driver) and compute capability. */
FA_API int fa_device_count(void);
FA_API int fa_device_capability(int32_t device, int32_t *major, int32_t *minor,
                                char **error);
/* Streaming multiprocessors of a device. */
FA_API int fa_device_multiprocessors(int32_t device, int32_t *count,
                                     char **error);

/* Names of the chips that programs are compiled for, "cpu" first; NULL from the
 * last on. */
FA_API const char *fa_chip(int32_t index);
/* The chip whose code a device of compute capability `major`.`minor` runs
 * (docs/targets.md); NULL when it is older than all. */
FA_API const char *fa_chip_of_capability(int32_t major, int32_t minor);

/* Worker threads of the CPU target; 0 restores the default: as many as the
 * OpenMP runtime of the process would use (PyTorch brings one), else
 * OMP_NUM_THREADS, and at most the cores that the process may use. */
FA_API void fa_set_num_threads(int32_t count);
FA_API int32_t fa_get_num_threads(void);

#ifdef __cplusplus
}
#endif

#endif /* FA_C_FA_H */
