/* aino_runtime.h for devices without an operating system: C99, one thread, no memory but static one. */
#ifndef AINO_RUNTIME_H
#define AINO_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "aino_status.h"

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

/* There is nobody to wait for.  Unless it returns AINO_OK the caller must leave. */
static inline int64_t aino_barrier_wait(aino_barrier *barrier, int nthreads)
{
    (void)nthreads;
    return aino_status_code(barrier->status);
}

static inline void aino_copy(char *to, const char *from, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes; ++i)
        to[i] = from ? from[i] : 0;
}

#endif
