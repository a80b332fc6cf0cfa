/* aino_cuda.h: kernels on a device, or emulated by a C compiler.
 *
 *   AINO_GLOBAL, AINO_HOST, AINO_DEVICE   what a function is for
 *   AINO_THREAD                           the number of the thread among all of a launch
 *   AINO_SCRATCH(bytes)                   where the thread's part of the scratch memory starts
 *   AINO_LAUNCH(kernel, count, ...)       run a kernel with at least `count` threads
 *   AINO_LAUNCH_BLOCKS(name, blocks, threads, ...)
 *                                         run name_kernel with so many blocks of so many threads
 *   AINO_SHARED, AINO_BARRIER()           memory of a block; all of its threads wait for all
 *
 *   AINO_READ(n, i), AINO_WRITE(n, i)     element i of the kernel's n-th buffer, watched by the emulation
 *
 * Under nvcc these are CUDA's own.  Elsewhere they are emulated by aino_cuda_emulation.h.
 */
#ifndef AINO_CUDA_H
#define AINO_CUDA_H

#include <stdint.h>

#define AINO_BLOCK 128 /* threads of a block */

#if defined(__CUDACC__)

#define AINO_GLOBAL static __global__
#define AINO_DEVICE __device__
#define AINO_HOST extern "C"
#define AINO_RESTRICT __restrict__
#define AINO_SCRATCH(bytes) (AINO_THREAD * (int64_t)(bytes))
#define AINO_LAUNCH(kernel, count, ...)                                                        \
    do {                                                                                       \
        int64_t aino_count = (count);                                                          \
        if (aino_count > 0)                                                                    \
            kernel<<<(unsigned)((aino_count + AINO_BLOCK - 1) / AINO_BLOCK), AINO_BLOCK>>>(__VA_ARGS__); \
    } while (0)

#define AINO_LAUNCH_BLOCKS(name, blocks, threads, ...)                                         \
    do {                                                                                       \
        int64_t aino_blocks = (blocks);                                                        \
        if (aino_blocks > 0)                                                                   \
            name##_kernel<<<(unsigned)aino_blocks, (threads)>>>(__VA_ARGS__);                  \
    } while (0)
#define AINO_SHARED __shared__
#define AINO_BARRIER() __syncthreads()

#define AINO_READ(number, index) (index)
#define AINO_WRITE(number, index) (index)
#define AINO_WATCH(name, buffers) ((void)0)
#define AINO_WATCH_BUFFER(number, name, size, kind) ((void)0)
#define AINO_UNWATCH(buffers) ((void)0)

/* Record a failure unless one is recorded already. */
static __device__ void aino_device_fail(int64_t *status, int64_t code, int64_t value)
{
    unsigned long long *word = (unsigned long long *)status;
    if (atomicCAS(&word[0], 0ULL, (unsigned long long)code) == 0ULL)
        status[1] = value;
}
#define aino_fail aino_device_fail

#else

#include "aino_cuda_emulation.h"

#endif

#define AINO_THREAD ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)

#endif
