/* aino_status.h: how a kernel says that something went wrong.  C99, one thread.
 *
 * A status is two words: a code (AINO_OK while all is well) and a value for the message.  The first
 * failure wins.
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
    AINO_CANCELLED = 18
};

/* Record a failure unless one is recorded already. */
static inline void aino_fail(int64_t *status, int64_t code, int64_t value)
{
    if (status[0] == AINO_OK) {
        status[0] = code;
        status[1] = value;
    }
}

/* Return the recorded code; AINO_OK when there is none. */
static inline int64_t aino_status_code(const int64_t *status)
{
    return status[0];
}

#endif
