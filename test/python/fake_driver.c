/* A CUDA driver of two devices that launches nothing and remembers what it was
 * asked for; compiled by test_fake_cuda.py. */

#include <stdint.h>
#include <string.h>

typedef struct {
  int device; /* of the context that was current */
  unsigned blocks, threads, shared;
  void *stream;
  uint64_t words[64]; /* the first parameters */
} Launch;

Launch launches[64];
int launch_count;
int map_count;     /* tensor maps that were encoded */
int push_count;    /* contexts that were pushed */
int major_of_chip; /* compute capability major_of_chip.0 */

static int contexts[2] = {0, 1}; /* a context is the address of its device */
static __thread int *current;
static __thread int *pushed_over;

int cuInit(unsigned flags) { return 0; }
int cuGetErrorName(int error, const char **name) {
  *name = "FAKE";
  return 0;
}
int cuGetErrorString(int error, const char **text) {
  *text = "of the fake driver";
  return 0;
}
int cuDeviceGetCount(int *count) {
  *count = 2;
  return 0;
}
int cuDeviceGet(int *device, int ordinal) {
  if (ordinal < 0 || ordinal > 1)
    return 101;
  *device = ordinal;
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  /* Multiprocessors; capability; shared memory of a block. */
  *value = attribute == 16   ? 10 + device
           : attribute == 75 ? major_of_chip
           : attribute == 76 ? 0
                             : 232448;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &contexts[device];
  return 0;
}
int cuCtxGetCurrent(void **context) {
  *context = current;
  return 0;
}
int cuCtxGetDevice(int *device) {
  if (!current)
    return 201;
  *device = *current;
  return 0;
}
int cuCtxPushCurrent_v2(void *context) {
  pushed_over = current;
  current = context;
  ++push_count;
  return 0;
}
int cuCtxPopCurrent_v2(void **context) {
  *context = current;
  current = pushed_over;
  return 0;
}
int cuCtxGetId(void *context, unsigned long long *id) {
  *id = *(int *)context;
  return 0;
}
/* The runtime's way to make a context current. */
void set_device(int device) { current = &contexts[device]; }

int cuModuleLoadDataEx(void **module, const void *code, unsigned count,
                       int *options, void **values) {
  *module = &contexts;
  return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = module;
  return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
int cuThreadExchangeStreamCaptureMode(int *mode) { return 0; }
int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address,
                           const uint64_t *sizes, const uint64_t *strides,
                           const uint32_t *box, const uint32_t *steps,
                           int interleave, int swizzle, int promotion,
                           int fill) {
  memset(map, 0, 128);
  memcpy(map, &address, sizeof(address));
  ++map_count;
  return 0;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z,
                   unsigned threads, unsigned ty, unsigned tz, unsigned shared,
                   void *stream, void **parameters, void **extra) {
  if (!current)
    return 201;
  Launch *launch = &launches[launch_count++ % 64];
  launch->device = *current;
  launch->blocks = x;
  launch->threads = threads;
  launch->shared = shared;
  launch->stream = stream;
  for (int i = 0; i < 24; ++i) /* q and k: 11 words each */
    memcpy(&launch->words[i], parameters[i], 8);
  return 0;
}
