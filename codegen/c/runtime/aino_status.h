/* aino_status.h: how a kernel says that something went wrong.
 *
 * A status is two words: a code (AINO_OK while all is well) and a value for the message, such as the
 * index that was out of range.  The first failure wins, whichever thread it comes from; the other
 * threads see it at their next barrier and leave.
 */
#ifndef AINO_STATUS_H
#define AINO_STATUS_H

#include <stdint.h>

enum {
    AINO_OK = 0,
    AINO_INDEX_OUT_OF_RANGE = 1,
    AINO_DIVISION_BY_ZERO = 2,
    AINO_LIMIT_EXCEEDED = 3,
    AINO_BAD_SHAPE = 4,
    AINO_OUT_OF_MEMORY = 16,
    AINO_BAD_ARGUMENT = 17,
    AINO_CANCELLED = 18,
    AINO_DEVICE_FAILED = 19 /* on a GPU; see NAME_error() */
};

#if !defined(__CUDACC__) /* on a device see aino_cuda.h */

/* Record a failure unless one is recorded already. */
static inline void aino_fail(int64_t *status, int64_t code, int64_t value)
{
    int64_t none = AINO_OK;
    if (__atomic_compare_exchange_n(&status[0], &none, code, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        __atomic_store_n(&status[1], value, __ATOMIC_RELEASE);
}

/* Return the recorded code; AINO_OK when there is none. */
static inline int64_t aino_status_code(const int64_t *status)
{
    return __atomic_load_n(&status[0], __ATOMIC_ACQUIRE);
}

#endif

#endif
