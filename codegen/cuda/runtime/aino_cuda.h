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
 * Under nvcc these are CUDA's own.  Elsewhere the blocks of a launch run one after the other, and so do the
 * threads of a block, as coroutines that change at barriers; they share one scratch.  A thread that leaves
 * while others wait at a barrier ends the program with a message: on a device that is undefined.
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

/* Record a failure unless one is recorded already. */
static __device__ void aino_device_fail(int64_t *status, int64_t code, int64_t value)
{
    unsigned long long *word = (unsigned long long *)status;
    if (atomicCAS(&word[0], 0ULL, (unsigned long long)code) == 0ULL)
        status[1] = value;
}
#define aino_fail aino_device_fail

#else

typedef struct {
    unsigned x, y, z;
} aino_dim3;

static _Thread_local aino_dim3 blockIdx, blockDim, threadIdx;

#define AINO_GLOBAL static
#define AINO_DEVICE
#define AINO_HOST
#define AINO_RESTRICT restrict
#define AINO_SCRATCH(bytes) 0
#define AINO_LAUNCH(kernel, count, ...)                                                        \
    do {                                                                                       \
        int64_t aino_count = (count);                                                          \
        int64_t aino_blocks = (aino_count + AINO_BLOCK - 1) / AINO_BLOCK;                      \
        blockDim.x = AINO_BLOCK;                                                               \
        for (int64_t aino_block = 0; aino_block < aino_blocks; ++aino_block)                   \
            for (unsigned aino_thread = 0; aino_thread < AINO_BLOCK; ++aino_thread) {          \
                blockIdx.x = (unsigned)aino_block;                                             \
                threadIdx.x = aino_thread;                                                     \
                kernel(__VA_ARGS__);                                                           \
            }                                                                                  \
    } while (0)

#define AINO_SHARED static _Thread_local
#define AINO_BARRIER() aino_change()
#define AINO_LAUNCH_BLOCKS(name, blocks, threads, ...) \
    aino_emulate(name##_thread, blocks, threads, views, syms, scratch, lo, hi)

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#define AINO_FIBER_BYTES (64 << 10) /* stack of one emulated thread */

typedef void aino_thread(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi);

typedef struct {
    aino_thread *thread;
    void *const *views;
    const int64_t *syms;
    void *scratch;
    int64_t lo, hi;
} aino_call;

static _Thread_local aino_call aino_present;                       /* what the fibers run */
static _Thread_local ucontext_t aino_scheduler, *aino_fibers;
static _Thread_local unsigned aino_waiting;                        /* threads at the present barrier */
static _Thread_local char *aino_ended;

/* Stop here until all other threads of the block have come to a barrier too. */
static inline void aino_change(void)
{
    unsigned number = threadIdx.x;
    ++aino_waiting;
    swapcontext(&aino_fibers[number], &aino_scheduler);
}

static inline void aino_fiber(void)
{
    const aino_call *call = &aino_present;
    unsigned number = threadIdx.x;
    call->thread(call->views, call->syms, call->scratch, call->lo, call->hi);
    aino_ended[number] = 1;
    swapcontext(&aino_fibers[number], &aino_scheduler);
}

/* Run one block: every thread up to its next barrier, again and again till all have ended. */
static inline void aino_emulate_block(unsigned threads, char *stacks)
{
    for (unsigned n = 0; n < threads; ++n) {
        getcontext(&aino_fibers[n]);
        aino_fibers[n].uc_stack.ss_sp = stacks + (size_t)n * AINO_FIBER_BYTES;
        aino_fibers[n].uc_stack.ss_size = AINO_FIBER_BYTES;
        aino_fibers[n].uc_link = NULL;
        makecontext(&aino_fibers[n], aino_fiber, 0);
        aino_ended[n] = 0;
    }
    for (;;) {
        aino_waiting = 0;
        for (unsigned n = 0; n < threads; ++n) {
            threadIdx.x = n;
            if (!aino_ended[n])
                swapcontext(&aino_scheduler, &aino_fibers[n]);
        }
        if (aino_waiting == 0)
            return;
        if (aino_waiting != threads) {
            fprintf(stderr, "aino: %u of %u threads wait at a barrier, the others have left\n", aino_waiting, threads);
            abort();
        }
    }
}

static inline void aino_emulate(aino_thread *thread, int64_t blocks, unsigned threads, void *const *views,
                                const int64_t *syms, void *scratch, int64_t lo, int64_t hi)
{
    char *stacks = malloc((size_t)threads * AINO_FIBER_BYTES);
    aino_fibers = malloc(threads * sizeof *aino_fibers);
    aino_ended = malloc(threads);
    if (!stacks || !aino_fibers || !aino_ended) {
        fprintf(stderr, "aino: no memory to emulate %u threads\n", threads);
        abort();
    }
    aino_present = (aino_call){thread, views, syms, scratch, lo, hi};
    blockDim.x = threads;
    for (int64_t block = 0; block < blocks; ++block) {
        blockIdx.x = (unsigned)block;
        aino_emulate_block(threads, stacks);
    }
    free(stacks);
    free(aino_fibers);
    free(aino_ended);
}

#endif

#define AINO_THREAD ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)

#endif
