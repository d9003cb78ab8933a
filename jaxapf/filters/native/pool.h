/* What the kernels share: broadcast operands, XLA's threads, its errors, and the way it asks for a kernel's version. */

#ifndef JAXAPF_POOL_H
#define JAXAPF_POOL_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "xla/ffi/api/c_api.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Where row `row` of an operand starts, in units of its rows: batch axes of length 1 broadcast. (Unused where a
 * kernel has no batch axes.) */
INLINE int64_t operand_row(int64_t n_batch, const int64_t *batch, const int64_t *dims, int64_t row) {
  int64_t index = 0, stride = 1;
  for (int64_t axis = n_batch - 1; axis >= 0; --axis) {
    int64_t position = row % batch[axis];
    row /= batch[axis];
    if (dims[axis] != 1) index += position * stride;
    stride *= dims[axis];
  }
  return index;
}

typedef void (*Task)(const void *call, int64_t task);

/* Tasks are claimed, by the caller too: it never waits for a task that no thread has begun, so that a busy pool
 * cannot lock up. The job outlives the call where a scheduled thread comes late and finds nothing to do. */
typedef struct {
  atomic_llong next, done;
  atomic_int holders;
  int64_t n_tasks;
  Task task;
  const void *call;
} Job;

static void run_task(Task task, const void *call, int64_t index) {
#if defined(__SSE__)
  /* Decaying tails end in subnormal numbers, which cost a hundred times as much: flush them, as XLA does. */
  const unsigned int control = _mm_getcsr();
  _mm_setcsr(control | 0x8040);
#endif
  task(call, index);
#if defined(__SSE__)
  _mm_setcsr(control);
#endif
}

static void work(Job *job) {
  for (int64_t index; (index = atomic_fetch_add(&job->next, 1)) < job->n_tasks;) {
    run_task(job->task, job->call, index);
    atomic_fetch_add(&job->done, 1);
  }
}

static void release(Job *job) {
  if (atomic_fetch_sub(&job->holders, 1) == 1) free(job);
}

static void pool_task(void *data) {
  work((Job *)data);
  release((Job *)data);
}

static bool failed(XLA_FFI_CallFrame *frame, XLA_FFI_Error *error) {
  if (!error) return false;
  XLA_FFI_Error_Destroy_Args args = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, NULL, error};
  frame->api->XLA_FFI_Error_Destroy(&args);
  return true;
}

static int64_t pool_threads(XLA_FFI_CallFrame *frame) {
  int64_t n_threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args args = {XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, NULL, frame->ctx,
                                             &n_threads};
  if (failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&args)) || n_threads < 1) return 1;
  return n_threads;
}

/* Run tasks 0 to n_tasks - 1 on up to n_threads of XLA's threads, the caller's among them. */
static void run_tasks(XLA_FFI_CallFrame *frame, int64_t n_threads, Task task, const void *call, int64_t n_tasks) {
  Job *job = n_threads > 1 && n_tasks > 1 ? malloc(sizeof(Job)) : NULL;
  if (!job) {
    for (int64_t index = 0; index < n_tasks; ++index) run_task(task, call, index);
    return;
  }
  atomic_init(&job->next, 0);
  atomic_init(&job->done, 0);
  atomic_init(&job->holders, 1);
  job->n_tasks = n_tasks;
  job->task = task;
  job->call = call;
  for (int64_t thread = 1; thread < n_threads && thread < n_tasks; ++thread) {
    atomic_fetch_add(&job->holders, 1);
    XLA_FFI_ThreadPool_Schedule_Args args = {XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, NULL, frame->ctx,
                                             pool_task, job};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&args))) {
      release(job);
      break;
    }
  }
  work(job);
  while (atomic_load(&job->done) < n_tasks) sched_yield();
  release(job);
}

static XLA_FFI_Error *invalid(XLA_FFI_CallFrame *frame, const char *message) {
  XLA_FFI_Error_Create_Args args = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, message,
                                    XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return frame->api->XLA_FFI_Error_Create(&args);
}

/* Whether this call is for work: XLA also asks for the version, and calls at stages that kernels have no use for. */
static bool is_execution(XLA_FFI_CallFrame *frame) {
  /* The type of what is asked has had two names: it is not named here. */
  if (frame->extension_start && frame->extension_start->type == XLA_FFI_Extension_Metadata) {
    XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return false;
  }
  return frame->stage == XLA_FFI_ExecutionStage_EXECUTE;
}

#endif
