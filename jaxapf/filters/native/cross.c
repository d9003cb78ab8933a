/* Sums of outer products, c = sum_k a[k]^T b[k], for the CPU: the derivative of a matrix that is applied to rows.
 *
 * XLA's own product for this shape, tall operands and a small result, transposes an operand first and uses one
 * thread. Here the rows are divided among threads, and a tile of the result stays in registers while they pass.
 */

#include <string.h>

#include "pool.h"

#define CHUNK 256 /* rows summed before they are added to the result: they stay in the first cache, and round less */
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define VECTOR_BYTES 64
#define MIN_THREADED_ROWS 2048

typedef struct {
  bool is_double;
  int64_t n_batch, n_rows, m, n, n_parts; /* every product of the batch is made in n_parts parts of the rows */
  const void *a, *b;
  void *parts; /* (n_batch, n_parts, m, n) */
} Call;

#define KERNELS(T)                                                                                                   \
  typedef T Vector_##T __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T))));                               \
  /* c += a^T b for rows a[k * a_step : + rows] and b[k * b_step : + vectors]. */                                    \
  INLINE void tile_##T(int rows, int vectors, int64_t n_rows, const T *a, int64_t a_step, const T *b,                \
                       int64_t b_step, T *c, int64_t c_row, int64_t c_column, int64_t columns) {                     \
    enum { LANES = VECTOR_BYTES / sizeof(T) };                                                                       \
    Vector_##T sum[TILE_ROWS][TILE_VECTORS];                                                                         \
    for (int r = 0; r < rows; ++r)                                                                                   \
      for (int v = 0; v < vectors; ++v) sum[r][v] = (Vector_##T){0};                                                 \
    for (int64_t k = 0; k < n_rows; ++k)                                                                             \
      for (int r = 0; r < rows; ++r)                                                                                 \
        for (int v = 0; v < vectors; ++v)                                                                            \
          sum[r][v] += a[k * a_step + r] * *(const Vector_##T *)(b + k * b_step + v * LANES);                        \
    for (int r = 0; r < rows; ++r)                                                                                   \
      for (int v = 0; v < vectors; ++v)                                                                              \
        for (int64_t lane = 0; lane < LANES && v * LANES + lane < columns; ++lane)                                   \
          c[r * c_row + (v * LANES + lane) * c_column] += sum[r][v][lane];                                           \
  }                                                                                                                  \
  INLINE void tile_rows_##T(int vectors, int64_t n_rows, const T *a, int64_t m, const T *b, int64_t b_step, T *c,    \
                            int64_t c_row, int64_t c_column, int64_t columns) {                                      \
    int64_t r = 0;                                                                                                   \
    for (; r + TILE_ROWS <= m; r += TILE_ROWS)                                                                       \
      tile_##T(TILE_ROWS, vectors, n_rows, a + r, m, b, b_step, c + r * c_row, c_row, c_column, columns);            \
    for (; r < m; ++r) tile_##T(1, vectors, n_rows, a + r, m, b, b_step, c + r * c_row, c_row, c_column, columns);   \
  }                                                                                                                  \
  static void cross_##T(int64_t n_rows, int64_t m, int64_t n, const T *a, const T *b, T *c) {                        \
    enum { LANES = VECTOR_BYTES / sizeof(T), WIDE = TILE_VECTORS * LANES };                                          \
    T packed[CHUNK * LANES];                                                                                         \
    int64_t c_row = n, c_column = 1;                                                                                 \
    memset(c, 0, m * n * sizeof(T));                                                                                 \
    if (n % LANES && m % LANES == 0) { /* whole vectors lie along the other side: make the transpose */              \
      const T *other = a;                                                                                            \
      const int64_t size = m;                                                                                        \
      a = b, b = other, m = n, n = size, c_row = 1, c_column = m;                                                    \
    }                                                                                                                \
    const int64_t whole = n / LANES * LANES, left = n - whole;                                                       \
    for (int64_t k = 0; k < n_rows; k += CHUNK, a += CHUNK * m, b += CHUNK * n) {                                    \
      const int64_t rows = n_rows - k < CHUNK ? n_rows - k : CHUNK;                                                  \
      int64_t j = 0;                                                                                                 \
      for (; j + WIDE <= whole; j += WIDE)                                                                           \
        tile_rows_##T(TILE_VECTORS, rows, a, m, b + j, n, c + j * c_column, c_row, c_column, WIDE);                  \
      for (; j < whole; j += LANES)                                                                                  \
        tile_rows_##T(1, rows, a, m, b + j, n, c + j * c_column, c_row, c_column, LANES);                            \
      if (!left) continue;                                                                                           \
      for (int64_t row = 0; row < rows; ++row)                                                                       \
        for (int64_t lane = 0; lane < LANES; ++lane)                                                                 \
          packed[row * LANES + lane] = lane < left ? b[row * n + whole + lane] : 0;                                  \
      tile_rows_##T(1, rows, a, m, packed, LANES, c + whole * c_column, c_row, c_column, left);                      \
    }                                                                                                                \
  }

KERNELS(float)
KERNELS(double)

static void part_task(const void *data, int64_t task) {
  const Call *call = data;
  const int64_t product = task / call->n_parts, part = task % call->n_parts;
  const int64_t first = call->n_rows * part / call->n_parts;
  const int64_t rows = call->n_rows * (part + 1) / call->n_parts - first;
  const int64_t row = product * call->n_rows + first;
  if (call->is_double)
    cross_double(rows, call->m, call->n, (const double *)call->a + row * call->m,
                 (const double *)call->b + row * call->n, (double *)call->parts + task * call->m * call->n);
  else
    cross_float(rows, call->m, call->n, (const float *)call->a + row * call->m,
                (const float *)call->b + row * call->n, (float *)call->parts + task * call->m * call->n);
}

static void add_parts(const Call *call, void *result) {
  const int64_t size = call->m * call->n;
  for (int64_t product = 0; product < call->n_batch; ++product)
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int64_t part = 0; part < call->n_parts; ++part) {
        const int64_t from = (product * call->n_parts + part) * size + i;
        sum += call->is_double ? ((double *)call->parts)[from] : ((float *)call->parts)[from];
      }
      if (call->is_double)
        ((double *)result)[product * size + i] = sum;
      else
        ((float *)result)[product * size + i] = (float)sum;
    }
}

XLA_FFI_Error *jaxapf_cross(XLA_FFI_CallFrame *frame) {
  if (!is_execution(frame)) return NULL;
  if (frame->args.size != 2 || frame->rets.size != 1) return invalid(frame, "cross takes (a, b)");
  XLA_FFI_Buffer *a = frame->args.args[0], *b = frame->args.args[1], *c = frame->rets.rets[0];
  if (a->rank < 2 || a->rank != b->rank || a->rank != c->rank || a->dtype != b->dtype || a->dtype != c->dtype ||
      (a->dtype != XLA_FFI_DataType_F32 && a->dtype != XLA_FFI_DataType_F64))
    return invalid(frame, "cross: ranks or types do not fit");
  Call call = {.is_double = a->dtype == XLA_FFI_DataType_F64,
               .n_batch = 1,
               .n_rows = a->dims[a->rank - 2],
               .m = a->dims[a->rank - 1],
               .n = b->dims[b->rank - 1],
               .n_parts = 1,
               .a = a->data,
               .b = b->data,
               .parts = c->data};
  for (int64_t axis = 0; axis < a->rank - 2; ++axis) call.n_batch *= a->dims[axis];
  const int64_t n_threads = call.n_batch * call.n_rows < MIN_THREADED_ROWS ? 1 : pool_threads(frame);
  void *scratch = NULL;
  if (call.n_batch < n_threads) {
    const int64_t bytes = call.m * call.n * (call.is_double ? sizeof(double) : sizeof(float));
    scratch = malloc(call.n_batch * n_threads * bytes);
    if (scratch) {
      call.n_parts = n_threads;
      call.parts = scratch;
    }
  }
  run_tasks(frame, n_threads, part_task, &call, call.n_batch * call.n_parts);
  if (scratch) {
    add_parts(&call, c->data);
    free(scratch);
  }
  return NULL;
}
