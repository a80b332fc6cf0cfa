/* aino_tvm.c: what TVM's object code asks of TVM's runtime, on AINO's threads and memory. */
#include "aino_tvm.h"

#include <stdio.h>

static _Thread_local aino_pool *present_pool; /* of the run that this thread is in */
static _Thread_local int present_threads;

int aino_tvm_run(aino_pool *pool, int nthreads, aino_task task, void *argument)
{
    aino_pool *outer_pool = present_pool;
    int outer_threads = present_threads;
    present_pool = pool;
    present_threads = nthreads;
    aino_pool_run(pool, 1, task, argument);
    present_pool = outer_pool;
    present_threads = outer_threads;
    return 1;
}

void aino_tvm_call(aino_tvm_kernel *kernel, const aino_tvm_any *arguments, int32_t count)
{
    aino_tvm_any result = {0, 0, {0}};
    if (kernel(NULL, arguments, count, &result)) {
        fprintf(stderr, "aino: a kernel built by TVM refuses its arguments\n");
        abort();
    }
}

/* ---- TVM's runtime ------------------------------------------------------------------------------ */

typedef struct {
    void *sync_handle;
    int32_t num_task;
} parallel_environment;

typedef int parallel_body(int task, parallel_environment *environment, void *data);

typedef struct {
    parallel_body *body;
    void *data;
    int tasks;
    atomic_int next;
    atomic_int failed;
} parallel_job;

/* A thread that is held up leaves its share to the others: there are more shares than threads. */
enum { SHARES_OF_A_THREAD = 8 };

static void parallel_share(void *argument, int tid, int nthreads)
{
    (void)tid;
    parallel_job *job = argument;
    int shares = nthreads > 1 ? SHARES_OF_A_THREAD * nthreads : 1;
    parallel_environment environment = {NULL, job->tasks ? job->tasks : shares};
    int task;
    while ((task = atomic_fetch_add(&job->next, 1)) < environment.num_task)
        if (job->body(task, &environment, job->data))
            atomic_store(&job->failed, 1);
}

static int parallel_launch(parallel_body *body, void *data, int tasks)
{
    parallel_job job = {body, data, tasks, 0, 0};
    if (present_pool && present_threads > 1)
        aino_pool_run(present_pool, present_threads, parallel_share, &job);
    else
        parallel_share(&job, 0, 1);
    return atomic_load(&job.failed) ? -1 : 0;
}

static void *workspace_take(int device_type, int device_id, uint64_t bytes, int code, int bits)
{
    (void)device_type, (void)device_id, (void)code, (void)bits;
    return aino_alloc((size_t)bytes);
}

static int workspace_free(int device_type, int device_id, void *memory)
{
    (void)device_type, (void)device_id;
    aino_free(memory);
    return 0;
}

#pragma GCC visibility push(hidden)

/* Weak in TVM's object code, which calls through them. */
int (*__TVMBackendParallelLaunch)(parallel_body *, void *, int) = parallel_launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace_take;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = workspace_free;

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count)
{
    fprintf(stderr, "aino: %s: ", kind);
    for (int32_t i = 0; i < count; ++i)
        fputs(parts[i], stderr);
    fputc('\n', stderr);
}

#pragma GCC visibility pop
