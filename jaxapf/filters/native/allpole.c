/* The all-pole recurrence and its transpose for the CPU, called by XLA through its foreign function interface.
 *
 *     forward    y[t] = x[t] - sum_i a[t, i] y[t - 1 - i],          from rest
 *     transpose  w[t] = g[t] - sum_i a[t + 1 + i, i] w[t + 1 + i],  backwards in time
 *
 * Rows are independent: several are run side by side in one thread, so that one row's arithmetic hides the
 * latency of another's, and groups of rows are spread over XLA's own threads. Plain C and the C interface of
 * XLA, so that a compiler builds it within a second; `jaxapf.filters.native` does so on first use.
 */

#include "pool.h"

#define MAX_ROWS 4
#define MAX_SPECIAL_POLES 4
#define MIN_THREADED_SAMPLES 32768

/* One call: where the rows of every array start, and the strides of `a`. */
typedef struct {
  bool transpose, is_double;
  int64_t n_rows, n_samples, n_poles, a_step; /* a_step: from one sample's coefficients to the next, 0 if constant */
  int64_t n_batch, rows_per_task;
  const int64_t *batch, *a_dims, *x_dims;
  const void *a, *x; /* x and y: the cotangents of y and x in the transpose */
  void *y;
} Call;

/* Up to MAX_ROWS rows, `n` and `rows` known where this is expanded: the past stays in registers. */
#define KERNELS(T)                                                                                                   \
  INLINE void forward_##T(const Call *call, int64_t n, int64_t rows, const T **a, const T **x, T **y) {              \
    T past[MAX_ROWS][MAX_SPECIAL_POLES] = {{0}};                                                                     \
    for (int64_t t = 0; t < call->n_samples; ++t)                                                                    \
      for (int64_t r = 0; r < rows; ++r) {                                                                           \
        const T *c = a[r] + t * call->a_step;                                                                        \
        T sum = x[r][t];                                                                                             \
        /* The newest output last: only this product waits for the sample before. */                                 \
        for (int64_t i = n - 1; i >= 0; --i) sum -= c[i] * past[r][i];                                               \
        for (int64_t i = n - 1; i > 0; --i) past[r][i] = past[r][i - 1];                                             \
        past[r][0] = y[r][t] = sum;                                                                                  \
      }                                                                                                              \
  }                                                                                                                  \
  INLINE void transpose_##T(const Call *call, int64_t n, int64_t rows, const T **a, const T **g, T **w) {            \
    /* ahead[i]: what the samples after t ask of sample t - i. */                                                    \
    T ahead[MAX_ROWS][MAX_SPECIAL_POLES + 1] = {{0}};                                                                \
    for (int64_t t = call->n_samples - 1; t >= 0; --t)                                                               \
      for (int64_t r = 0; r < rows; ++r) {                                                                           \
        const T *c = a[r] + t * call->a_step;                                                                        \
        T sum = g[r][t] + ahead[r][0];                                                                               \
        for (int64_t i = 0; i < n; ++i) ahead[r][i] = ahead[r][i + 1] - c[i] * sum;                                  \
        w[r][t] = sum;                                                                                               \
      }                                                                                                              \
  }                                                                                                                  \
  /* Any number of poles, one row: the past is read back from the output. */                                         \
  static void forward_any_##T(const Call *call, const T *a, const T *x, T *y) {                                      \
    for (int64_t t = 0; t < call->n_samples; ++t) {                                                                  \
      const T *c = a + t * call->a_step;                                                                             \
      const int64_t known = t < call->n_poles ? t : call->n_poles;                                                   \
      T sum = x[t];                                                                                                  \
      for (int64_t i = known - 1; i >= 0; --i) sum -= c[i] * y[t - 1 - i];                                           \
      y[t] = sum;                                                                                                    \
    }                                                                                                                \
  }                                                                                                                  \
  static void transpose_any_##T(const Call *call, const T *a, const T *g, T *w) {                                    \
    for (int64_t t = call->n_samples - 1; t >= 0; --t) {                                                             \
      const int64_t left = call->n_samples - 1 - t;                                                                  \
      const int64_t known = left < call->n_poles ? left : call->n_poles;                                             \
      T sum = g[t];                                                                                                  \
      for (int64_t i = known - 1; i >= 0; --i) sum -= a[(t + 1 + i) * call->a_step + i] * w[t + 1 + i];              \
      w[t] = sum;                                                                                                    \
    }                                                                                                                \
  }                                                                                                                  \
  INLINE void special_##T(const Call *call, int64_t n, int64_t rows, const T **a, const T **x, T **y) {              \
    if (call->transpose)                                                                                             \
      transpose_##T(call, n, rows, a, x, y);                                                                         \
    else                                                                                                             \
      forward_##T(call, n, rows, a, x, y);                                                                           \
  }                                                                                                                  \
  INLINE void side_by_side_##T(const Call *call, int64_t rows, const T **a, const T **x, T **y) {                    \
    switch (call->n_poles) {                                                                                         \
      case 1: special_##T(call, 1, rows, a, x, y); break;                                                            \
      case 2: special_##T(call, 2, rows, a, x, y); break;                                                            \
      case 3: special_##T(call, 3, rows, a, x, y); break;                                                            \
      case 4: special_##T(call, 4, rows, a, x, y); break;                                                            \
    }                                                                                                                \
  }                                                                                                                  \
  static void rows_##T(const Call *call, int64_t first, int64_t rows) {                                              \
    const T *a[MAX_ROWS], *x[MAX_ROWS];                                                                              \
    T *y[MAX_ROWS];                                                                                                  \
    const int64_t a_row = (call->a_step ? call->n_samples : 1) * call->n_poles;                                      \
    const bool special = call->n_poles >= 1 && call->n_poles <= MAX_SPECIAL_POLES;                                   \
    for (int64_t r = 0; r < rows; ++r) {                                                                             \
      const int64_t a_at = operand_row(call->n_batch, call->batch, call->a_dims, first + r);                         \
      const int64_t x_at = operand_row(call->n_batch, call->batch, call->x_dims, first + r);                         \
      a[r] = (const T *)call->a + a_at * a_row;                                                                      \
      x[r] = (const T *)call->x + x_at * call->n_samples;                                                            \
      y[r] = (T *)call->y + (first + r) * call->n_samples;                                                           \
    }                                                                                                                \
    for (int64_t r = 0; r < rows;) {                                                                                 \
      if (special && rows - r >= 4) {                                                                                \
        side_by_side_##T(call, 4, a + r, x + r, y + r);                                                              \
        r += 4;                                                                                                      \
      } else if (special && rows - r >= 2) {                                                                         \
        side_by_side_##T(call, 2, a + r, x + r, y + r);                                                              \
        r += 2;                                                                                                      \
      } else {                                                                                                       \
        if (special)                                                                                                 \
          side_by_side_##T(call, 1, a + r, x + r, y + r);                                                            \
        else if (call->transpose)                                                                                    \
          transpose_any_##T(call, a[r], x[r], y[r]);                                                                 \
        else                                                                                                         \
          forward_any_##T(call, a[r], x[r], y[r]);                                                                   \
        r += 1;                                                                                                      \
      }                                                                                                              \
    }                                                                                                                \
  }

KERNELS(float)
KERNELS(double)

static void rows_task(const void *data, int64_t task) {
  const Call *call = data;
  const int64_t first = task * call->rows_per_task;
  const int64_t left = call->n_rows - first;
  for (int64_t row = 0; row < call->rows_per_task && row < left; row += MAX_ROWS) {
    int64_t rows = call->rows_per_task - row < left - row ? call->rows_per_task - row : left - row;
    if (rows > MAX_ROWS) rows = MAX_ROWS;
    if (call->is_double)
      rows_double(call, first + row, rows);
    else
      rows_float(call, first + row, rows);
  }
}

static void run(XLA_FFI_CallFrame *frame, Call *call) {
  const bool small = call->n_rows * call->n_samples < MIN_THREADED_SAMPLES;
  const int64_t n_threads = small || call->n_rows < 2 ? 1 : pool_threads(frame);
  const int64_t share = (call->n_rows + n_threads - 1) / n_threads;
  call->rows_per_task = n_threads == 1 ? call->n_rows : share < MAX_ROWS ? share : MAX_ROWS;
  run_tasks(frame, n_threads, rows_task, call, (call->n_rows + call->rows_per_task - 1) / call->rows_per_task);
}

static XLA_FFI_Error *handle(XLA_FFI_CallFrame *frame, bool transpose) {
  if (!is_execution(frame)) return NULL;
  if (frame->args.size != 2 || frame->rets.size != 1) return invalid(frame, "allpole takes (a, x)");
  XLA_FFI_Buffer *a = frame->args.args[0], *x = frame->args.args[1], *y = frame->rets.rets[0];
  const int64_t n_batch = y->rank - 1;
  if (a->rank != n_batch + 2 || x->rank != n_batch + 1 || a->dtype != x->dtype || y->dtype != x->dtype ||
      (x->dtype != XLA_FFI_DataType_F32 && x->dtype != XLA_FFI_DataType_F64))
    return invalid(frame, "allpole: ranks or types do not fit");
  Call call = {.transpose = transpose,
               .is_double = x->dtype == XLA_FFI_DataType_F64,
               .n_rows = 1,
               .n_samples = x->dims[n_batch],
               .n_poles = a->dims[n_batch + 1],
               .n_batch = n_batch,
               .batch = y->dims,
               .a_dims = a->dims,
               .x_dims = x->dims,
               .a = a->data,
               .x = x->data,
               .y = y->data};
  for (int64_t axis = 0; axis < n_batch; ++axis) call.n_rows *= y->dims[axis];
  call.a_step = a->dims[n_batch] == 1 ? 0 : call.n_poles;
  if (call.n_rows > 0) run(frame, &call);
  return NULL;
}

XLA_FFI_Error *jaxapf_allpole(XLA_FFI_CallFrame *frame) { return handle(frame, false); }

XLA_FFI_Error *jaxapf_allpole_transpose(XLA_FFI_CallFrame *frame) { return handle(frame, true); }
