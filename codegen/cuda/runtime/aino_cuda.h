/* aino_cuda.h: kernels on a device, or emulated by a C compiler.
 *
 *   AINO_GLOBAL(threads)                  a function that launches start, with so many threads a block at most
 *   AINO_GLOBAL_BOUNDED(threads)          the same, and the compiler must leave registers for so many
 *   AINO_HOST, AINO_DEVICE                what other functions are for
 *   AINO_THREAD                           the number of the thread among all of a launch
 *   AINO_SCRATCH(bytes)                   where the thread's part of the scratch memory starts
 *   AINO_LAUNCH(kernel, count, ...)       run a kernel with at least `count` threads
 *   AINO_LAUNCH_BLOCKS(name, blocks, threads, ...)
 *                                         run name_kernel with so many blocks of so many threads
 *   AINO_LAUNCH_ASKING(name, blocks, threads, bytes, ...)
 *                                         the same, with so much shared memory for each block at aino_asked,
 *                                         which AINO_ASKED(bytes) declares
 *   AINO_STREAM                           the parameter of a launching function that says where it launches
 *   AINO_SHARED, AINO_BARRIER()           memory of a block; all of its threads wait for all
 *
 *   AINO_READ(n, i), AINO_WRITE(n, i)     element i of the kernel's n-th buffer, watched by the emulation
 *   AINO_WIDE(name, type, count)          a vector of so many lanes, with name_load and name_store
 *   AINO_CLOSE_COPIES(), AINO_AWAIT_COPIES(n)
 *                                         copies begun since the last time are a group; wait till at most n
 *                                         groups have not arrived
 *
 *   AINO_WGMMA(kind, columns, lines, totals, x, x_step, x_turned, w, w_step, w_turned)
 *                                         totals += what aino_ir/loops/groups.py says of the factors x and w
 *   AINO_HELD_WGMMA(kind, columns, lines, totals, held, w, w_step, w_turned)
 *                                         the same, where the threads hold fragments of x
 *   AINO_PUBLISH()                        what this thread wrote to shared memory may be such a factor, from
 *                                         the next barrier on
 *
 *   AINO_SIGNALS(name, count), aino_start_signals, aino_arrive, aino_await_signal
 *                                         what threads wait for (aino_ir/loops/signals.py)
 *   AINO_MAP_PARAMETER, aino_make_map, AINO_SHIFT
 *                                         where tiles lie: a kernel's parameter, and how a launch makes it
 *   AINO_COPY_TILE(rank, target, n, offset, map, signal, ...)
 *                                         copy the tile at these coordinates
 *   AINO_MORE_REGISTERS(n), AINO_FEWER_REGISTERS(n)
 *                                         of the threads of a group
 *
 * and the operations of warps, aino_exchange_*, aino_mma_*, aino_load_matrix_*, aino_pack_* and so on, with
 * the meaning that aino_ir/loops/warp.py gives them.
 *
 * Under nvcc these are CUDA's own.  Elsewhere they are emulated by aino_cuda_emulation.h.
 */
#ifndef AINO_CUDA_H
#define AINO_CUDA_H

#include <stdint.h>

#define AINO_BLOCK 128 /* threads of a block */

#if defined(__CUDACC__)

#define AINO_GLOBAL(threads) extern "C" __global__
#define AINO_GLOBAL_BOUNDED(threads) AINO_GLOBAL(threads) __launch_bounds__(threads)
#define AINO_DEVICE __device__
#define AINO_HOST extern "C"
#define AINO_STREAM , cudaStream_t stream
#define AINO_RESTRICT __restrict__
#define AINO_SCRATCH(bytes) (AINO_THREAD * (int64_t)(bytes))
#define AINO_LAUNCH(kernel, count, ...)                                                        \
    do {                                                                                       \
        int64_t aino_count = (count);                                                          \
        if (aino_count > 0)                                                                    \
            kernel<<<(unsigned)((aino_count + AINO_BLOCK - 1) / AINO_BLOCK), AINO_BLOCK, 0, stream>>>( \
                __VA_ARGS__); \
    } while (0)

#define AINO_LAUNCH_BLOCKS(name, blocks, threads, ...)                                         \
    do {                                                                                       \
        int64_t aino_blocks = (blocks);                                                        \
        if (aino_blocks > 0)                                                                   \
            name##_kernel<<<(unsigned)aino_blocks, (threads), 0, stream>>>(__VA_ARGS__);       \
    } while (0)
#define AINO_LAUNCH_ASKING(name, blocks, threads, bytes, ...)                                  \
    do {                                                                                       \
        int64_t aino_blocks = (blocks);                                                        \
        if (aino_blocks > 0) {                                                                 \
            cudaFuncSetAttribute(name##_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (bytes)); \
            name##_kernel<<<(unsigned)aino_blocks, (threads), (bytes), stream>>>(__VA_ARGS__); \
        }                                                                                      \
    } while (0)
#define AINO_ASKED(bytes) extern __shared__ __align__(1024) char aino_asked[]
#define AINO_SHARED __shared__ __align__(16)
#define AINO_BARRIER() __syncthreads()

#define AINO_READ(number, index) (index)
#define AINO_WRITE(number, index) (index)
#define AINO_WATCH(name, buffers) ((void)0)
#define AINO_WATCH_BUFFER(number, name, size, kind) ((void)0)
#define AINO_READS(number, index, count) (index)
#define AINO_WRITES(number, index, count) (index)
#define AINO_COPY(target, n, offset, source, m, from, count, bytes, present) \
    aino_copy((target) + (offset), (source) + (from), bytes, present)
#define AINO_UNWATCH(buffers) ((void)0)
#define AINO_IS_ALIGNED(type, place) (((uintptr_t)(place) & (__alignof__(type) - 1)) == 0)
#define AINO_MOVE(type, to, from) aino_move<(sizeof(type) < 16 ? sizeof(type) : 16), sizeof(type)>(to, from)
#define AINO_SINGLY volatile /* or compilers merge both ways to move a vector into the one by single elements */

/* Bytes as words of so many: a struct of small elements is not always moved as the words that it consists of. */
template <int bytes> struct aino_word { typedef uint4 type; };
template <> struct aino_word<8> { typedef uint2 type; };
template <> struct aino_word<4> { typedef unsigned type; };
template <> struct aino_word<2> { typedef unsigned short type; };
template <int step, int bytes> static __device__ inline void aino_move(void *to, const void *from)
{
    typedef typename aino_word<step>::type word;
#pragma unroll
    for (int i = 0; i < bytes / step; ++i)
        ((word *)to)[i] = ((const word *)from)[i];
}

#include "aino_cuda_warp.h"
#include "aino_cuda_group.h"
#include "aino_cuda_tile.h"

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

/* A vector: as much of it as 16 bytes hold is moved at a time, where its address allows that. */
#define AINO_WIDE(name, type, count)                                                           \
    typedef struct {                                                                           \
        type lane[count];                                                                      \
    } __attribute__((aligned(sizeof(type) * (count) < 16 ? sizeof(type) * (count) : 16))) name; \
    static inline AINO_DEVICE __attribute__((unused)) name name##_load(const type *place)      \
    {                                                                                          \
        name x;                                                                                \
        if (AINO_IS_ALIGNED(name, place)) {                                                    \
            AINO_MOVE(name, &x, place);                                                        \
            return x;                                                                          \
        }                                                                                      \
        for (int i = 0; i < (count); ++i)                                                      \
            x.lane[i] = ((const AINO_SINGLY type *)place)[i];                                  \
        return x;                                                                              \
    }                                                                                          \
    static inline AINO_DEVICE __attribute__((unused)) void name##_store(type *place, name x)   \
    {                                                                                          \
        if (AINO_IS_ALIGNED(name, place)) {                                                    \
            AINO_MOVE(name, place, &x);                                                        \
            return;                                                                            \
        }                                                                                      \
        for (int i = 0; i < (count); ++i)                                                      \
            ((AINO_SINGLY type *)place)[i] = x.lane[i];                                        \
    }

/* How many elements the base of a map lies before the parameter's first one. */
#define AINO_SHIFT(base, bytes) ((int64_t)(((uintptr_t)(base) & 15) / (bytes)))

#define AINO_THREAD ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)

#endif
