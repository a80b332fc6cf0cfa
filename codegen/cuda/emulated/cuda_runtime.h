/* cuda_runtime.h for a machine without CUDA: as much of the runtime API as emitted host programs use.
 *
 * Compile with -DAINO_EMULATED_RUNTIME.  Memory of the device is memory of the host, filled with 0xff at
 * first, so that what nobody has written is NaN; streams do everything at once.  The variable
 * AINO_EMULATED_BYTES of the environment says how much memory there is.
 */
#ifndef AINO_EMULATED_CUDA_RUNTIME_H
#define AINO_EMULATED_CUDA_RUNTIME_H

#include <stdlib.h>
#include <string.h>

typedef enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 } cudaError_t;
typedef void *cudaStream_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

static size_t aino_emulated_bytes; /* in use, by this unit */

static inline cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    const char *room = getenv("AINO_EMULATED_BYTES");
    if (room && aino_emulated_bytes + bytes > (size_t)atoll(room))
        return cudaErrorMemoryAllocation;
    *memory = malloc(bytes);
    if (!*memory)
        return cudaErrorMemoryAllocation;
    memset(*memory, 0xff, bytes);
    aino_emulated_bytes += bytes;
    return cudaSuccess;
}

static inline cudaError_t cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                                          cudaStream_t stream)
{
    (void)kind;
    (void)stream;
    if (bytes && (!to || !from))
        return cudaErrorInvalidValue;
    if (bytes)
        memmove(to, from, bytes);
    return cudaSuccess;
}

static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, bytes, kind, 0);
}

static inline cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(memory, value, bytes);
    return cudaSuccess;
}

static inline cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

static inline cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

static inline const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : error == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

#endif
