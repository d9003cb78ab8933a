/* A cascade of time-varying first-order all-passes in a feedback loop, and its transpose, for the CPU.
 *
 *     forward    y_0[t] = r_0[t] + g_0 y_K[t] + g_1 y_K[t - 1]
 *                y_k[t] = r_k[t] + p[t] (y_{k-1}[t] + y_k[t - 1]) - y_{k-1}[t - 1],   k = 1 ... K, from rest
 *
 *     transpose  w_0[t] = s_0[t] + p[t] w_1[t] - w_1[t + 1]
 *                w_k[t] = s_k[t] + p[t + 1] w_k[t + 1] + p[t] w_{k+1}[t] - w_{k+1}[t + 1]
 *                w_K[t] = s_K[t] + p[t + 1] w_K[t + 1] + g_0 w_0[t] + g_1 w_0[t + 1],  backwards in time
 *
 * With g_0 the loop has no delay: y_0[t] waits for y_K[t], which waits for y_0[t]. Both are linear, so the chain is
 * run as if g_0 were zero, the loop closed by a division, and what it adds is added to all stages.
 */

#include "pool.h"

#define MAX_STAGES 32
#define MIN_THREADED_SAMPLES 16384

/* One call: `r` is the right-hand side (r or s), `y` the solution, both (rows, n_stages + 1, n_samples). */
typedef struct {
  bool transpose, is_double;
  int64_t n_rows, n_samples, n_stages, n_batch, p_step; /* p_step: 0 where p is constant */
  const int64_t *batch, *p_dims, *g_dims, *r_dims;
  const void *p, *g, *r;
  void *y;
} Call;

/* `n`, the number of stages, and `closed`, whether the loop is without delay, are known where this is expanded. */
#define KERNELS(T)                                                                                                   \
  INLINE void forward_##T(const Call *call, int64_t n, bool closed, const T *p, const T *g, const T *r, T *y) {      \
    const int64_t length = call->n_samples;                                                                          \
    T past[MAX_STAGES + 1] = {0}, now[MAX_STAGES + 1], power[MAX_STAGES + 1];                                        \
    power[0] = 1;                                                                                                    \
    for (int64_t t = 0; t < length; ++t) {                                                                           \
      const T a = p[t * call->p_step];                                                                               \
      now[0] = r[t] + g[1] * past[n];                                                                                \
      for (int64_t k = 1; k <= n; ++k)                                                                               \
        now[k] = a * now[k - 1] + (r[k * length + t] + (a * past[k] - past[k - 1]));                                 \
      if (closed) {                                                                                                  \
        for (int64_t k = 1; k <= n; ++k) power[k] = power[k - 1] * a;                                                \
        const T added = g[0] / (1 - g[0] * power[n]) * now[n];                                                       \
        for (int64_t k = 0; k <= n; ++k) now[k] += power[k] * added;                                                 \
      }                                                                                                              \
      for (int64_t k = 0; k <= n; ++k) y[k * length + t] = past[k] = now[k];                                         \
    }                                                                                                                \
  }                                                                                                                  \
  INLINE void transpose_##T(const Call *call, int64_t n, bool closed, const T *p, const T *g, const T *s, T *w) {    \
    const int64_t length = call->n_samples;                                                                          \
    T ahead[MAX_STAGES + 1] = {0}, now[MAX_STAGES + 1], power[MAX_STAGES + 1], later = 0;                            \
    power[n] = 1;                                                                                                    \
    for (int64_t t = length - 1; t >= 0; --t) {                                                                      \
      const T a = p[t * call->p_step];                                                                               \
      now[n] = s[n * length + t] + later * ahead[n] + g[1] * ahead[0];                                               \
      for (int64_t k = n - 1; k >= 1; --k)                                                                           \
        now[k] = a * now[k + 1] + (s[k * length + t] + (later * ahead[k] - ahead[k + 1]));                           \
      now[0] = a * now[1] + (s[t] - ahead[1]);                                                                       \
      if (closed) {                                                                                                  \
        for (int64_t k = n - 1; k >= 0; --k) power[k] = power[k + 1] * a;                                            \
        const T added = g[0] / (1 - g[0] * power[0]) * now[0];                                                       \
        for (int64_t k = 0; k <= n; ++k) now[k] += power[k] * added;                                                 \
      }                                                                                                              \
      for (int64_t k = 0; k <= n; ++k) w[k * length + t] = ahead[k] = now[k];                                        \
      later = a;                                                                                                     \
    }                                                                                                                \
  }                                                                                                                  \
  INLINE void special_##T(const Call *call, int64_t n, const T *p, const T *g, const T *r, T *y) {                   \
    const bool closed = g[0] != 0;                                                                                   \
    if (call->transpose && closed)                                                                                   \
      transpose_##T(call, n, true, p, g, r, y);                                                                      \
    else if (call->transpose)                                                                                        \
      transpose_##T(call, n, false, p, g, r, y);                                                                     \
    else if (closed)                                                                                                 \
      forward_##T(call, n, true, p, g, r, y);                                                                        \
    else                                                                                                             \
      forward_##T(call, n, false, p, g, r, y);                                                                       \
  }                                                                                                                  \
  static void row_##T(const Call *call, int64_t row) {                                                               \
    const T *p = (const T *)call->p + operand_row(call->n_batch, call->batch, call->p_dims, row) *                   \
                                          (call->p_step ? call->n_samples : 1);                                      \
    const T *g = (const T *)call->g + operand_row(call->n_batch, call->batch, call->g_dims, row) * 2;                \
    const int64_t size = (call->n_stages + 1) * call->n_samples;                                                     \
    const T *r = (const T *)call->r + operand_row(call->n_batch, call->batch, call->r_dims, row) * size;             \
    T *y = (T *)call->y + row * size;                                                                                \
    switch (call->n_stages) {                                                                                        \
      case 4: special_##T(call, 4, p, g, r, y); break;                                                               \
      case 6: special_##T(call, 6, p, g, r, y); break;                                                               \
      case 8: special_##T(call, 8, p, g, r, y); break;                                                               \
      default: special_##T(call, call->n_stages, p, g, r, y);                                                        \
    }                                                                                                                \
  }

KERNELS(float)
KERNELS(double)

static void row_task(const void *data, int64_t row) {
  const Call *call = data;
  if (call->is_double)
    row_double(call, row);
  else
    row_float(call, row);
}

static XLA_FFI_Error *handle(XLA_FFI_CallFrame *frame, bool transpose) {
  if (!is_execution(frame)) return NULL;
  if (frame->args.size != 3 || frame->rets.size != 1) return invalid(frame, "ring takes (p, g, r)");
  XLA_FFI_Buffer *p = frame->args.args[0], *g = frame->args.args[1], *r = frame->args.args[2];
  XLA_FFI_Buffer *y = frame->rets.rets[0];
  const int64_t n_batch = y->rank - 2;
  if (n_batch < 0 || p->rank != n_batch + 1 || g->rank != n_batch + 1 || r->rank != y->rank ||
      p->dtype != r->dtype || g->dtype != r->dtype || y->dtype != r->dtype ||
      (r->dtype != XLA_FFI_DataType_F32 && r->dtype != XLA_FFI_DataType_F64))
    return invalid(frame, "ring: ranks or types do not fit");
  Call call = {.transpose = transpose,
               .is_double = r->dtype == XLA_FFI_DataType_F64,
               .n_rows = 1,
               .n_samples = y->dims[n_batch + 1],
               .n_stages = y->dims[n_batch] - 1,
               .n_batch = n_batch,
               .p_step = p->dims[n_batch] != 1,
               .batch = y->dims,
               .p_dims = p->dims,
               .g_dims = g->dims,
               .r_dims = r->dims,
               .p = p->data,
               .g = g->data,
               .r = r->data,
               .y = y->data};
  for (int64_t axis = 0; axis < n_batch; ++axis) call.n_rows *= y->dims[axis];
  if (call.n_stages < 1 || call.n_stages > MAX_STAGES) return invalid(frame, "ring: too many stages, or none");
  const bool small = call.n_rows * call.n_samples < MIN_THREADED_SAMPLES;
  run_tasks(frame, small ? 1 : pool_threads(frame), row_task, &call, call.n_rows);
  return NULL;
}

XLA_FFI_Error *jaxapf_ring(XLA_FFI_CallFrame *frame) { return handle(frame, false); }

XLA_FFI_Error *jaxapf_ring_transpose(XLA_FFI_CallFrame *frame) { return handle(frame, true); }
