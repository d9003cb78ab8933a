/* The branching smoother of dynamics processors for the CPU, called by XLA through its foreign function interface.
 *
 *     y[t] = y[t - 1] + b (x[t] - y[t - 1]),   b = rise where x[t] > y[t - 1], else fall
 *
 * Rows are independent: up to MAX_ROWS are run side by side in one thread, so that one row's arithmetic hides the
 * latency of another's, and groups of rows are spread over XLA's own threads.
 */

#include "pool.h"

#define MAX_ROWS 4
#define MIN_THREADED_SAMPLES 32768

enum { X, START, RISE, FALL, N_ARGS };

typedef struct {
  bool is_double;
  int64_t n_rows, n_samples, n_batch, rows_per_task;
  const int64_t *batch;
  const int64_t *dims[N_ARGS];
  const void *data[N_ARGS];
  void *y;
} Call;

/* Not `fall + (rise - fall) * (d > 0)`, and not (1 - b) y + b x: both would round what is small away. */
#define KERNELS(T)                                                                                                   \
  INLINE void smooth_##T(int64_t n_samples, int64_t rows, const T **x, T *y0, const T *rise, const T *fall, T **y) { \
    T last[MAX_ROWS], up[MAX_ROWS], down[MAX_ROWS];                                                                  \
    for (int64_t r = 0; r < rows; ++r) last[r] = y0[r], up[r] = rise[r], down[r] = fall[r];                          \
    for (int64_t t = 0; t < n_samples; ++t)                                                                          \
      for (int64_t r = 0; r < rows; ++r) {                                                                           \
        const T d = x[r][t] - last[r];                                                                               \
        y[r][t] = last[r] += (d > 0 ? up[r] : down[r]) * d;                                                          \
      }                                                                                                              \
  }                                                                                                                  \
  static void rows_##T(const Call *call, int64_t first, int64_t rows) {                                              \
    const T *x[MAX_ROWS];                                                                                            \
    T *y[MAX_ROWS], at[N_ARGS][MAX_ROWS];                                                                            \
    for (int64_t r = 0; r < rows; ++r) {                                                                             \
      for (int arg = START; arg < N_ARGS; ++arg) {                                                                   \
        const T *operand = call->data[arg];                                                                          \
        at[arg][r] = operand[operand_row(call->n_batch, call->batch, call->dims[arg], first + r)];                   \
      }                                                                                                              \
      x[r] = (const T *)call->data[X] +                                                                              \
             operand_row(call->n_batch, call->batch, call->dims[X], first + r) * call->n_samples;                    \
      y[r] = (T *)call->y + (first + r) * call->n_samples;                                                           \
    }                                                                                                                \
    switch (rows) {                                                                                                  \
      case 1: smooth_##T(call->n_samples, 1, x, at[START], at[RISE], at[FALL], y); break;                            \
      case 2: smooth_##T(call->n_samples, 2, x, at[START], at[RISE], at[FALL], y); break;                            \
      case 3: smooth_##T(call->n_samples, 3, x, at[START], at[RISE], at[FALL], y); break;                            \
      case 4: smooth_##T(call->n_samples, 4, x, at[START], at[RISE], at[FALL], y); break;                            \
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

XLA_FFI_Error *jaxapf_ballistics(XLA_FFI_CallFrame *frame) {
  if (!is_execution(frame)) return NULL;
  if (frame->args.size != N_ARGS || frame->rets.size != 1)
    return invalid(frame, "ballistics takes (x, start, rise, fall)");
  XLA_FFI_Buffer *y = frame->rets.rets[0];
  const int64_t n_batch = y->rank - 1;
  Call call = {.is_double = y->dtype == XLA_FFI_DataType_F64,
               .n_rows = 1,
               .n_samples = y->dims[n_batch],
               .n_batch = n_batch,
               .batch = y->dims,
               .y = y->data};
  if (!call.is_double && y->dtype != XLA_FFI_DataType_F32) return invalid(frame, "ballistics: unknown type");
  for (int arg = 0; arg < N_ARGS; ++arg) {
    XLA_FFI_Buffer *operand = frame->args.args[arg];
    if (operand->rank != n_batch + (arg == X) || operand->dtype != y->dtype)
      return invalid(frame, "ballistics: ranks or types do not fit");
    call.dims[arg] = operand->dims;
    call.data[arg] = operand->data;
  }
  for (int64_t axis = 0; axis < n_batch; ++axis) call.n_rows *= y->dims[axis];
  if (call.n_rows == 0 || call.n_samples == 0) return NULL;
  const bool small = call.n_rows * call.n_samples < MIN_THREADED_SAMPLES;
  const int64_t n_threads = small || call.n_rows < 2 ? 1 : pool_threads(frame);
  const int64_t share = (call.n_rows + n_threads - 1) / n_threads;
  call.rows_per_task = n_threads == 1 ? call.n_rows : share < MAX_ROWS ? share : MAX_ROWS;
  run_tasks(frame, n_threads, rows_task, &call, (call.n_rows + call.rows_per_task - 1) / call.rows_per_task);
  return NULL;
}
