/* attention: compiles causal attention for this host through the C interface,
 * runs it and compares with sums in double. */

#include <fa-c/fa.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { S = 50, H = 2, D = 16 };

static void check(int status, char *error) {
  if (status == FA_OK)
    return;
  fprintf(stderr, "error %d: %s\n", status, error ? error : "");
  exit(1);
}

/* An array (1, S, H, last) or, with `last` 0, lse (1, H, S). */
static fa_arg array(float *data, int last) {
  fa_arg arg = {.kind = FA_ARG_MEMREF, .rank = last ? 4 : 3, .data = data};
  const int64_t sizes[2][4] = {{1, H, S, 0}, {1, S, H, last}};
  int64_t stride = 1;
  for (int i = arg.rank - 1; i >= 0; --i) {
    arg.sizes[i] = sizes[last != 0][i];
    arg.strides[i] = stride;
    stride *= arg.sizes[i];
  }
  return arg;
}

int main(void) {
  static float q[S][H][D], k[S][H][D], v[S][H][D], o[S][H][D], lse[H][S];
  for (int i = 0; i < S * H * D; ++i) {
    (&q[0][0][0])[i] = rand() / (float)RAND_MAX - 0.5f;
    (&k[0][0][0])[i] = rand() / (float)RAND_MAX - 0.5f;
    (&v[0][0][0])[i] = rand() / (float)RAND_MAX - 0.5f;
  }

  fa_attention_spec spec = {.dtype = FA_F32,
                            .head_dim_qk = D,
                            .head_dim_v = D,
                            .causal = 1,
                            .dead_lse = -INFINITY,
                            .alignment = 4};
  char *text = NULL, *error = NULL;
  fa_artifact *artifact = NULL;
  check(fa_build_attention(&spec, &text, &error), error);
  check(fa_compile(text, "cpu", NULL, &artifact, &error), error);
  fa_free(text);

  const double scale = 0.25; /* D to the power -1/2 */
  fa_arg args[] = {array(&q[0][0][0], D), array(&k[0][0][0], D),
                   array(&v[0][0][0], D), {.kind = FA_ARG_F32, .real = scale},
                   array(&o[0][0][0], D), array(&lse[0][0], 0)};
  check(fa_launch(artifact, args, 6, 0, NULL, &error), error);
  fa_artifact_destroy(artifact);

  double largest = 0;
  for (int h = 0; h < H; ++h)
    for (int m = 0; m < S; ++m) {
      double p[S], sum = 0;
      for (int n = 0; n <= m; ++n) {
        double s = 0;
        for (int d = 0; d < D; ++d)
          s += (double)q[m][h][d] * k[n][h][d];
        sum += p[n] = exp(scale * s);
      }
      for (int d = 0; d < D; ++d) {
        double expected = 0;
        for (int n = 0; n <= m; ++n)
          expected += p[n] / sum * v[n][h][d];
        largest = fmax(largest, fabs(expected - o[m][h][d]));
      }
      largest = fmax(largest, fabs(log(sum) - lse[h][m]));
    }
  printf("fa %s: largest error %.1e\n", fa_version(), largest);
  return !(largest < 1e-5);
}
