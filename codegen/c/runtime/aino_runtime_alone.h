/* aino_runtime.h, for systems without threads: the same names, all of a run in the calling thread.
 *
 *   aino_alloc, aino_free     memory aligned to a cache line
 *   aino_share                a kernel's units, all of them
 *   aino_barrier              nobody to wait for
 *   aino_pool                 calls the function
 *   aino_freelist             keeps the sessions that no caller uses just now
 */
#ifndef AINO_RUNTIME_H
#define AINO_RUNTIME_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "aino_status.h"

#define AINO_LINE 64 /* alignment of all memory */
#define AINO_FREELIST_SLOTS 4

/* Return `bytes` bytes aligned to a cache line, or NULL. */
static inline void *aino_alloc(size_t bytes)
{
    void *memory = NULL;
    if (bytes > SIZE_MAX - AINO_LINE)
        return NULL;
    return posix_memalign(&memory, AINO_LINE, bytes ? bytes : 1) ? NULL : memory;
}

static inline void aino_free(void *memory)
{
    free(memory);
}

/* Nanoseconds since some moment. */
static inline int64_t aino_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Set [*lo, *hi) to all `units`. */
static inline void aino_share(int64_t units, int tid, int nthreads, int64_t *lo, int64_t *hi)
{
    (void)tid;
    (void)nthreads;
    *lo = 0;
    *hi = units;
}

typedef struct {
    const int64_t *status;
} aino_barrier;

static inline void aino_barrier_init(aino_barrier *barrier, const int64_t *status)
{
    barrier->status = status;
}

/* Unless it returns AINO_OK the caller must leave. */
static inline int64_t aino_barrier_wait(aino_barrier *barrier, int nthreads)
{
    (void)nthreads;
    return aino_status_code(barrier->status);
}

typedef void (*aino_task)(void *argument, int tid, int nthreads);

typedef struct {
    int limit;
} aino_pool;

static inline aino_pool *aino_pool_create(int nthreads)
{
    aino_pool *pool = aino_alloc(sizeof *pool);
    if (pool)
        pool->limit = nthreads;
    return pool;
}

/* Call task(argument, 0, 1) and return 1. */
static inline int aino_pool_run(aino_pool *pool, int nthreads, aino_task task, void *argument)
{
    (void)pool;
    (void)nthreads;
    task(argument, 0, 1);
    return 1;
}

static inline void aino_pool_destroy(aino_pool *pool)
{
    aino_free(pool);
}

/* Things that can be used by one caller at a time. */
typedef struct {
    void *slots[AINO_FREELIST_SLOTS];
} aino_freelist;

static inline void aino_freelist_init(aino_freelist *list)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++)
        list->slots[i] = NULL;
}

/* Take something out, or return NULL when the list is empty and the caller has to make one. */
static inline void *aino_freelist_take(aino_freelist *list)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++) {
        void *item = list->slots[i];
        list->slots[i] = NULL;
        if (item)
            return item;
    }
    return NULL;
}

/* Put `item` in and return 1, or return 0 when the list is full and the caller has to free it. */
static inline int aino_freelist_put(aino_freelist *list, void *item)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++) {
        if (!list->slots[i]) {
            list->slots[i] = item;
            return 1;
        }
    }
    return 0;
}

#endif
