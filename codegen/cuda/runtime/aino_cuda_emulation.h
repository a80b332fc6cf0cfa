/* aino_cuda_emulation.h: what aino_cuda.h means where there is no device.
 *
 * The blocks of a launch run one after the other, and so do the threads of a block, as coroutines that
 * change where they wait for each other.  Every access of memory is watched:
 *
 *   bounds       an element outside of its buffer
 *   races        two threads touch one element, one of them writing, and no barrier stands between; threads
 *                of different blocks must not do so at all
 *   first reads  an element of a block's own memory that none of its threads has written
 *   meetings     a thread leaves while others wait for it; threads that wait together wait in different
 *                places, or those of a warp do different things together
 *   copies       an element to which a copy is on its way is touched
 *
 * and of signals and tiles what aino_cuda_tile_emulation.h says.  Whatever is found ends the program with a
 * message that names kernel, buffer and threads.
 */
#ifndef AINO_CUDA_EMULATION_H
#define AINO_CUDA_EMULATION_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define AINO_WARP 32               /* threads that run in step */
#define AINO_GROUP_THREADS 128     /* threads that multiply together */
#define AINO_MOST_THREADS 1024     /* of a block */
#define AINO_FIBER_BYTES (64 << 10) /* stack of one emulated thread */

typedef struct {
    unsigned x, y, z;
} aino_dim3;

static _Thread_local aino_dim3 blockIdx, blockDim, threadIdx;

#define AINO_GLOBAL(threads) static
#define AINO_GLOBAL_BOUNDED(threads) static
#define AINO_DEVICE
#define AINO_HOST
#if defined(AINO_EMULATED_RUNTIME) /* with a host program that has streams */
#define AINO_STREAM , void *stream
#else
#define AINO_STREAM
#endif
#define AINO_RESTRICT restrict
#define AINO_SCRATCH(bytes) 0
#define AINO_SINGLY
#define AINO_MOVE(type, to, from) memcpy(to, from, sizeof(type))
#define AINO_IS_ALIGNED(type, place) 0 /* GCC may merge both ways to move a vector into the aligned one */
#define AINO_ASKED(bytes) static _Thread_local __attribute__((aligned(1024))) char aino_asked[bytes]
#define AINO_SHARED static _Thread_local __attribute__((aligned(16)))

/* -- what is watched ------------------------------------------------------------------------------- */

enum { AINO_ONLY_READ, AINO_GLOBAL_MEMORY, AINO_BLOCK_MEMORY, AINO_THREAD_MEMORY };

typedef struct {
    int64_t writer, reader;            /* 1 + number of the thread that did so last, 0: none */
    uint32_t written, read;            /* when: barriers passed until then */
    uint32_t warp_written, warp_read;  /* when: barriers of the warp passed until then */
    uint8_t threads, warps, blocks;    /* whether several have read since: threads of a warp, warps, blocks */
    uint8_t awaited;                   /* whether a copy to it is on its way */
} aino_cell;

typedef struct {
    const char *name;
    int64_t size;
    int kind;
    aino_cell *cells;
} aino_buffer;

static _Thread_local aino_buffer *aino_watched;
static _Thread_local const char *aino_kernel = "(unnamed)"; /* until somebody watches */
static _Thread_local uint32_t aino_now, aino_began; /* barriers passed; until the block began */
static _Thread_local uint32_t aino_warp_now[AINO_MOST_THREADS / AINO_WARP]; /* barriers of warps passed */

static inline void aino_stop(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fprintf(stderr, "aino: kernel %s: thread %u of block %u ", aino_kernel, threadIdx.x, blockIdx.x);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static inline void aino_watch(const char *kernel, int buffers)
{
    aino_kernel = kernel;
    aino_watched = calloc(buffers > 0 ? (size_t)buffers : 1, sizeof *aino_watched);
    if (!aino_watched)
        aino_stop("cannot be watched: no memory for %d buffers", buffers);
}

static inline void aino_watch_buffer(int number, const char *name, int64_t size, int kind)
{
    aino_cell *cells = NULL;
    if (kind == AINO_GLOBAL_MEMORY || kind == AINO_BLOCK_MEMORY) {
        cells = calloc(size > 0 ? (size_t)size : 1, sizeof *cells);
        if (!cells)
            aino_stop("cannot be watched: no memory for %lld elements of %s", (long long)size, name);
    }
    aino_watched[number] = (aino_buffer){name, size, kind, cells};
}

static inline void aino_unwatch(int buffers)
{
    for (int n = 0; n < buffers; ++n)
        free(aino_watched[n].cells);
    free(aino_watched);
}

static inline int64_t aino_me(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x + 1;
}

static inline int aino_in_my_block(int64_t thread)
{
    return (thread - 1) / blockDim.x == blockIdx.x;
}

static inline void aino_race(const aino_buffer *buffer, int64_t index, const char *does, int64_t thread, const char *did)
{
    aino_stop("%s %s[%lld], which thread %lld of block %lld %s with no barrier between", does, buffer->name,
              (long long)index, (long long)((thread - 1) % blockDim.x), (long long)((thread - 1) / blockDim.x), did);
}

static inline int aino_in_my_warp(int64_t thread)
{
    return (thread - 1) / AINO_WARP == (aino_me() - 1) / AINO_WARP && aino_in_my_block(thread);
}

/* Whether what another thread did, at a time, is not ordered before what this one does now. */
static inline int aino_at_once(const aino_buffer *buffer, int64_t thread, uint32_t time, uint32_t warp_time)
{
    if (thread == 0 || thread == aino_me())
        return 0;
    if (!aino_in_my_block(thread))
        return buffer->kind == AINO_GLOBAL_MEMORY;
    return time == aino_now && !(aino_in_my_warp(thread) && warp_time < aino_warp_now[threadIdx.x / AINO_WARP]);
}

static inline void aino_read_cell(const aino_buffer *buffer, int64_t index)
{
    aino_cell *cell = &buffer->cells[index];
    uint32_t warp_now = aino_warp_now[threadIdx.x / AINO_WARP];
    if (cell->awaited)
        aino_stop("reads %s[%lld], to which a copy is on its way", buffer->name, (long long)index);
    if (aino_at_once(buffer, cell->writer, cell->written, cell->warp_written))
        aino_race(buffer, index, "reads", cell->writer, "writes");
    if (buffer->kind == AINO_BLOCK_MEMORY && (cell->writer == 0 || !aino_in_my_block(cell->writer)))
        aino_stop("reads %s[%lld], which no thread of the block has written", buffer->name, (long long)index);
    if (cell->read != aino_now)
        cell->threads = cell->warps = 0;
    if (cell->reader && cell->reader != aino_me()) {
        if (!aino_in_my_block(cell->reader))
            cell->blocks = 1;
        else if (cell->read == aino_now && !aino_in_my_warp(cell->reader))
            cell->warps = 1;
        else if (cell->read == aino_now)
            cell->threads = cell->warp_read == warp_now;
    }
    cell->reader = aino_me();
    cell->read = aino_now;
    cell->warp_read = warp_now;
}

static inline void aino_write_cell(const aino_buffer *buffer, int64_t index)
{
    aino_cell *cell = &buffer->cells[index];
    uint32_t warp_now = aino_warp_now[threadIdx.x / AINO_WARP];
    if (cell->awaited)
        aino_stop("writes %s[%lld], to which a copy is on its way", buffer->name, (long long)index);
    if (aino_at_once(buffer, cell->writer, cell->written, cell->warp_written))
        aino_race(buffer, index, "writes", cell->writer, "writes too");
    if (aino_at_once(buffer, cell->reader, cell->read, cell->warp_read) || (cell->warps && cell->read == aino_now) ||
        (cell->threads && cell->read == aino_now && cell->warp_read == warp_now) || (cell->blocks && buffer->kind == AINO_GLOBAL_MEMORY))
        aino_race(buffer, index, "writes", cell->reader, "(or another) reads");
    cell->writer = aino_me();
    cell->written = aino_now;
    cell->warp_written = warp_now;
}

/* The index of the first of `count` elements that are read. */
static inline int64_t aino_reads(int number, int64_t index, int64_t count)
{
    const aino_buffer *buffer = &aino_watched[number];
    if (index < 0 || index + count > buffer->size)
        aino_stop("reads %s[%lld], which has %lld elements", buffer->name,
                  (long long)(index < 0 ? index : index + count - 1), (long long)buffer->size);
    if (buffer->cells)
        for (int64_t n = 0; n < count; ++n)
            aino_read_cell(buffer, index + n);
    return index;
}

/* The index of the first of `count` elements that are written. */
static inline int64_t aino_writes(int number, int64_t index, int64_t count)
{
    const aino_buffer *buffer = &aino_watched[number];
    if (index < 0 || index + count > buffer->size)
        aino_stop("writes %s[%lld], which has %lld elements", buffer->name,
                  (long long)(index < 0 ? index : index + count - 1), (long long)buffer->size);
    if (buffer->cells)
        for (int64_t n = 0; n < count; ++n)
            aino_write_cell(buffer, index + n);
    return index;
}

#define AINO_READ(number, index) aino_reads(number, index, 1)
#define AINO_WRITE(number, index) aino_writes(number, index, 1)
#define AINO_READS(number, index, count) aino_reads(number, index, count)
#define AINO_WRITES(number, index, count) aino_writes(number, index, count)
#define AINO_WATCH(name, buffers) aino_watch(name, buffers)
#define AINO_WATCH_BUFFER(number, name, size, kind) aino_watch_buffer(number, name, size, kind)
#define AINO_UNWATCH(buffers) aino_unwatch(buffers)

/* -- threads that have nothing in common ------------------------------------------------------------ */

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

/* -- threads that wait for each other --------------------------------------------------------------- */

typedef void aino_thread(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi);

typedef struct {
    aino_thread *thread;
    void *const *views;
    const int64_t *syms;
    void *scratch;
    int64_t lo, hi;
} aino_call;

typedef struct {
    unsigned members, here; /* threads that meet; those that have come */
    unsigned past;          /* meetings that are over */
    int place;              /* where those who are here wait: a line of the kernel's text */
    const char *what;       /* or what they do together */
} aino_meeting;

static _Thread_local aino_call aino_present; /* what the fibers run */
static _Thread_local ucontext_t aino_scheduler, *aino_fibers;
static _Thread_local char *aino_ended;
static _Thread_local unsigned aino_progress; /* meetings that are over and threads that have ended */
static _Thread_local aino_meeting aino_block_meeting, aino_warp_meetings[AINO_MOST_THREADS / AINO_WARP],
    aino_group_meetings[AINO_MOST_THREADS / AINO_GROUP_THREADS];
static _Thread_local uint32_t aino_published[AINO_MOST_THREADS]; /* when each thread did so last */

/* What warps know of each other, where signals order them: how often each has arrived at one. */
#define AINO_MOST_WARPS (AINO_MOST_THREADS / AINO_WARP)

typedef struct {
    uint32_t of[AINO_MOST_WARPS];
} aino_clock;

static _Thread_local aino_clock aino_clocks, *aino_seen; /* of the warps now; what each thread knows of them */

static inline void aino_join(aino_clock *mine, const aino_clock *other)
{
    for (unsigned warp = 0; warp < AINO_MOST_WARPS; ++warp)
        if (mine->of[warp] < other->of[warp])
            mine->of[warp] = other->of[warp];
}

/* A barrier: all threads know all that was done. */
static inline void aino_join_all(void)
{
    for (unsigned thread = 0; thread < blockDim.x; ++thread)
        aino_seen[thread] = aino_clocks;
    for (unsigned warp = 0; warp < AINO_MOST_WARPS; ++warp)
        ++aino_clocks.of[warp];
}

/* Stop here until all members have come. */
static inline void aino_meet(aino_meeting *meeting, int place, const char *what)
{
    unsigned number = threadIdx.x, past = meeting->past;
    if (meeting->here == 0) {
        meeting->place = place;
        meeting->what = what;
    } else if (meeting->place != place) {
        aino_stop("waits in line %d, where others wait in line %d", place, meeting->place);
    } else if (meeting->what && what && strcmp(meeting->what, what)) {
        aino_stop("does %s with its warp, of which others do %s", what, meeting->what);
    }
    if (++meeting->here == meeting->members) {
        meeting->here = 0;
        ++meeting->past;
        ++aino_progress;
        if (meeting == &aino_block_meeting) {
            ++aino_now;
            aino_join_all();
        }
        return;
    }
    while (meeting->past == past)
        swapcontext(&aino_fibers[number], &aino_scheduler);
}

#define AINO_BARRIER() aino_meet(&aino_block_meeting, __LINE__, NULL)

static inline __attribute__((unused)) void aino_warp_barrier(int place)
{
    unsigned warp = threadIdx.x / AINO_WARP;
    uint32_t now = aino_warp_now[warp];
    aino_meet(&aino_warp_meetings[warp], place, "a barrier");
    aino_warp_now[warp] = now + 1; /* as whoever comes first from here says */
}
#define AINO_WARP_BARRIER() aino_warp_barrier(__LINE__)

/* -- what warps do together ------------------------------------------------------------------------- */

#define AINO_MOST_GIVEN 16 /* 32-bit words that a thread gives to an operation */

static _Thread_local uint32_t aino_given[2][AINO_MOST_THREADS][AINO_MOST_GIVEN]; /* by turns */

/* Where this thread's operands go; `aino_together` then waits and says where those of the warp are, all of
 * which do the same thing. */
static inline uint32_t *aino_operands(void)
{
    return aino_given[aino_warp_meetings[threadIdx.x / AINO_WARP].past & 1][threadIdx.x];
}

static inline uint32_t (*aino_together(const char *what))[AINO_MOST_GIVEN]
{
    aino_meeting *warp = &aino_warp_meetings[threadIdx.x / AINO_WARP];
    unsigned turn = warp->past & 1;
    aino_meet(warp, 0, what);
    return &aino_given[turn][threadIdx.x / AINO_WARP * AINO_WARP];
}

#define AINO_EXCHANGE(name, type)                                                              \
    static inline void aino_exchange_##name(type *result, type x, int distance)                \
    {                                                                                          \
        memcpy(aino_operands(), &x, sizeof x);                                                 \
        memcpy(result, aino_together("an exchange of " #name)[threadIdx.x % AINO_WARP ^ (unsigned)distance], \
               sizeof x);                                                                      \
    }
AINO_EXCHANGE(f32, float)
AINO_EXCHANGE(f64, double)
AINO_EXCHANGE(i32, int32_t)
AINO_EXCHANGE(u32, uint32_t)
AINO_EXCHANGE(i64, int64_t)
AINO_EXCHANGE(u64, uint64_t)

static inline double aino_part_bf16(uint32_t word, int part)
{
    uint32_t bits = (word >> 16 * part) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double aino_part_f16(uint32_t word, int part)
{
    uint32_t h = word >> 16 * part & 0xffff, exponent = h >> 10 & 31, fraction = h & 1023;
    double sign = h & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24));
}

static inline double aino_part_tf32(uint32_t word, int part)
{
    float x;
    (void)part;
    word &= 0xffffe000u;
    memcpy(&x, &word, sizeof x);
    return x;
}

static inline int64_t aino_part_s8(uint32_t word, int part)
{
    return (int8_t)(word >> 8 * part);
}

static inline int64_t aino_part_u8(uint32_t word, int part)
{
    return (uint8_t)(word >> 8 * part);
}

/* Fragments hold `width` neighbouring terms each: a0 and a2 of row g, a1 and a3 of row g + 8 lie in the
 * threads 4 g to 4 g + 3, as do b0 and b1 of column g. */
#define AINO_MMA(name, part_a, part_b, width, type, exact)                                     \
    static inline void aino_mma_##name(                                                        \
        type *d0, type *d1, type *d2, type *d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, \
        uint32_t b0, uint32_t b1, type c0, type c1, type c2, type c3)                          \
    {                                                                                          \
        const uint32_t given[6] = {a0, a1, a2, a3, b0, b1};                                    \
        const type totals[4] = {c0, c1, c2, c3};                                               \
        type *const results[4] = {d0, d1, d2, d3};                                             \
        memcpy(aino_operands(), given, sizeof given);                                          \
        uint32_t(*all)[AINO_MOST_GIVEN] = aino_together("mma of " #name);                      \
        for (int i = 0; i < 4; ++i) {                                                          \
            unsigned row = threadIdx.x % AINO_WARP / 4, column = 2 * (threadIdx.x % 4) + i % 2; \
            exact sum = 0;                                                                     \
            for (int half = 0; half < 2; ++half)                                               \
                for (int quad = 0; quad < 4; ++quad)                                           \
                    for (int w = 0; w < (width); ++w)                                          \
                        sum += part_a(all[4 * row + quad][2 * half + i / 2], w) *              \
                               part_b(all[4 * column + quad][4 + half], w);                    \
            *results[i] = (type)(totals[i] + sum);                                             \
        }                                                                                      \
    }
AINO_MMA(bf16, aino_part_bf16, aino_part_bf16, 2, float, double)
AINO_MMA(f16, aino_part_f16, aino_part_f16, 2, float, double)
AINO_MMA(tf32, aino_part_tf32, aino_part_tf32, 1, float, double)
AINO_MMA(s8_s8, aino_part_s8, aino_part_s8, 4, int32_t, int64_t)
AINO_MMA(s8_u8, aino_part_s8, aino_part_u8, 4, int32_t, int64_t)
AINO_MMA(u8_s8, aino_part_u8, aino_part_s8, 4, int32_t, int64_t)
AINO_MMA(u8_u8, aino_part_u8, aino_part_u8, 4, int32_t, int64_t)

static inline void aino_round_tf32(uint32_t *result, uint32_t bits)
{
    *result = (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}

#include "aino_cuda_tile_emulation.h"

#define AINO_PUBLISH() (aino_published[threadIdx.x] = aino_now)

/* All threads of a group read these elements of a shared buffer, each notes a share. */
static inline void aino_group_reads(int number, int64_t offset, int64_t count)
{
    const aino_buffer *buffer = &aino_watched[number];
    int64_t share = count / AINO_GROUP_THREADS, first = offset + (threadIdx.x + 37) % AINO_GROUP_THREADS * share;
    if (offset < 0 || offset + count > buffer->size)
        aino_stop("multiplies %s[%lld], which has %lld elements", buffer->name, (long long)(offset + count - 1),
                  (long long)buffer->size);
    if (aino_reads_tiles(number, offset, count))
        return;
    for (int64_t n = first; n < first + share; ++n) {
        aino_read_cell(buffer, n);
        int64_t writer = (buffer->cells[n].writer - 1) % blockDim.x;
        if (aino_published[writer] < buffer->cells[n].written)
            aino_stop("multiplies %s[%lld], which thread %lld has not published", buffer->name, (long long)n,
                      (long long)writer);
    }
}

#define AINO_GROUP_READS(number, offset, count) aino_group_reads(number, offset, count)

/* 32 bits of the terms of a row or column of a factor: those of a first one that the threads hold lie in their
 * fragments; others in lines of 128 bytes, whose chunks of 16 are swapped, `step` bytes from one to the next. */
typedef struct {
    const char *place; /* none: in fragments */
    int64_t step;
    int turned;
} aino_factor;

static _Thread_local const uint32_t *aino_held[AINO_MOST_THREADS]; /* fragments of each thread */

static inline uint32_t aino_word_of(const aino_factor *factor, unsigned line, unsigned word)
{
    uint32_t x;
    if (!factor->place) {
        unsigned first = threadIdx.x / AINO_GROUP_THREADS * AINO_GROUP_THREADS;
        const uint32_t *held = aino_held[first + line / 16 * AINO_WARP + line % 8 * 4 + word % 4];
        return held[word / 8 * 4 + word % 8 / 4 * 2 + line % 16 / 8];
    }
    if (!factor->turned) {
        const char *start = factor->place + word / 32 * factor->step + 128 * line;
        memcpy(&x, start + 16 * (word % 32 / 4 ^ line % 8) + 4 * (word % 4), sizeof x);
        return x;
    }
    for (unsigned part = 0; part < 2; ++part) {
        unsigned term = 2 * word + part;
        const char *start = factor->place + line / 64 * factor->step + 128 * term;
        memcpy((char *)&x + 2 * part, start + 16 * (line % 64 / 8 ^ term % 8) + 2 * (line % 8), 2);
    }
    return x;
}

#define AINO_DEFINE_WGMMA(name, part_a, part_b, width, type, exact)                            \
    static inline void aino_wgmma_##name(type *d, int totals, int lines, aino_factor x, aino_factor w) \
    {                                                                                          \
        unsigned lane = threadIdx.x % AINO_WARP;                                               \
        unsigned row = threadIdx.x % AINO_GROUP_THREADS / AINO_WARP * 16 + lane / 4;           \
        if ((uintptr_t)x.place % 1024 || (uintptr_t)w.place % 1024 || x.step % 1024 || w.step % 1024) \
            aino_stop("multiplies a factor that does not start at a multiple of 1024 bytes");  \
        aino_meet(&aino_group_meetings[threadIdx.x / AINO_GROUP_THREADS], 0, "wgmma of " #name); \
        for (int n = 0; n < totals; ++n) {                                                     \
            unsigned down = row + (unsigned)n % 4 / 2 * 8, across = (unsigned)n / 4 * 8 + lane % 4 * 2 + (unsigned)n % 2; \
            exact sum = 0;                                                                     \
            for (unsigned word = 0; word < 32 * (unsigned)lines; ++word) {                     \
                uint32_t a = aino_word_of(&x, down, word), b = aino_word_of(&w, across, word); \
                for (int part = 0; part < (width); ++part)                                     \
                    sum += part_a(a, part) * part_b(b, part);                                  \
            }                                                                                  \
            d[n] = (type)(d[n] + sum);                                                         \
        }                                                                                      \
        aino_meet(&aino_group_meetings[threadIdx.x / AINO_GROUP_THREADS], 0, "wgmma of " #name); \
    }
AINO_DEFINE_WGMMA(bf16, aino_part_bf16, aino_part_bf16, 2, float, double)
AINO_DEFINE_WGMMA(f16, aino_part_f16, aino_part_f16, 2, float, double)
AINO_DEFINE_WGMMA(tf32, aino_part_tf32, aino_part_tf32, 1, float, double)
AINO_DEFINE_WGMMA(s8_s8, aino_part_s8, aino_part_s8, 4, int32_t, int64_t)
AINO_DEFINE_WGMMA(s8_u8, aino_part_s8, aino_part_u8, 4, int32_t, int64_t)
AINO_DEFINE_WGMMA(u8_s8, aino_part_u8, aino_part_s8, 4, int32_t, int64_t)
AINO_DEFINE_WGMMA(u8_u8, aino_part_u8, aino_part_u8, 4, int32_t, int64_t)

#define AINO_FACTOR(place, step, turned) ((aino_factor){(const char *)(place), step, turned})
#define AINO_WGMMA(kind, columns, lines, totals, x, x_step, x_turned, w, w_step, w_turned)     \
    aino_wgmma_##kind(totals, (columns) / 2, lines, AINO_FACTOR(x, x_step, x_turned),          \
                      AINO_FACTOR(w, w_step, w_turned))
#define AINO_HELD_WGMMA(kind, columns, lines, totals, held, w, w_step, w_turned)               \
    (aino_held[threadIdx.x] = (held),                                                          \
     aino_wgmma_##kind(totals, (columns) / 2, lines, AINO_FACTOR(0, 0, 0), AINO_FACTOR(w, w_step, w_turned)))

static inline void aino_load_matrix(
    uint32_t *r0, uint32_t *r1, uint32_t *r2, uint32_t *r3, const void *row, int turned)
{
    uint32_t *const results[4] = {r0, r1, r2, r3};
    unsigned lane = threadIdx.x % AINO_WARP;
    if ((uintptr_t)row % 16)
        aino_stop("loads a row of a matrix that is not aligned to 16 bytes");
    memcpy(aino_operands(), row, 16);
    uint32_t(*all)[AINO_MOST_GIVEN] = aino_together("a load of matrices");
    for (int block = 0; block < 4; ++block) {
        uint16_t pair[2];
        for (unsigned n = 0; n < 2; ++n) {
            unsigned down = lane / 4, across = 2 * (lane % 4) + n;
            const uint32_t *given = all[8 * block + (turned ? across : down)];
            memcpy(&pair[n], (const char *)given + 2 * (turned ? down : across), 2);
        }
        memcpy(results[block], pair, 4);
    }
}
#define aino_load_matrix_bf16 aino_load_matrix
#define aino_load_matrix_f16 aino_load_matrix
#define aino_load_matrix_i8 aino_load_matrix
#define aino_load_matrix_u8 aino_load_matrix
#define aino_load_matrix_f32 aino_load_matrix

static inline uint32_t aino_bits_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return (bits >> 16) | 64;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline uint32_t aino_bits_f16(float x)
{
    uint32_t sign = signbit(x) ? 0x8000 : 0;
    int exponent;
    double y = fabs((double)x);
    if (x != x)
        return sign | 0x7e00;
    if (y >= 65520.0)
        return sign | 0x7c00;
    if (y < ldexp(1.0, -14))
        return sign | (uint32_t)nearbyint(ldexp(y, 24));
    frexp(y, &exponent);
    return sign | (uint32_t)(((exponent + 14) << 10) + (int)nearbyint(ldexp(y, 11 - exponent)) - 1024);
}

static inline void aino_pack_bf16(uint32_t *result, float x, float y)
{
    *result = aino_bits_bf16(x) | aino_bits_bf16(y) << 16;
}

static inline void aino_pack_f16(uint32_t *result, float x, float y)
{
    *result = aino_bits_f16(x) | aino_bits_f16(y) << 16;
}

static inline void aino_unpack_bf16(float *x, float *y, uint32_t pair)
{
    *x = (float)aino_part_bf16(pair, 0);
    *y = (float)aino_part_bf16(pair, 1);
}

static inline void aino_unpack_f16(float *x, float *y, uint32_t pair)
{
    *x = (float)aino_part_f16(pair, 0);
    *y = (float)aino_part_f16(pair, 1);
}

static inline void aino_exp2_f32(float *result, float x)
{
    float y = (float)exp2((double)x);
    *result = y < ldexpf(1.0f, -126) ? 0.0f : y;
}

static inline void aino_larger_f32(float *result, float x, float y)
{
    *result = fmaxf(x, y);
}

/* -- copies that arrive later ----------------------------------------------------------------------- */

#define AINO_MOST_COPIES 256 /* of a thread that have not arrived */

typedef struct {
    char bytes[16], *target;
    int size, number, count;
    int64_t offset;
    unsigned group;
} aino_pending;

typedef struct {
    aino_pending copies[AINO_MOST_COPIES];
    unsigned first, last; /* copies that have arrived, and that were begun */
    unsigned groups;      /* closed */
} aino_queue;

static _Thread_local aino_queue *aino_queues;

/* Whether the elements that a copy goes to wait for it. */
static inline void aino_await(const aino_pending *copy, uint8_t whether)
{
    aino_cell *cells = copy->number < 0 ? NULL : aino_watched[copy->number].cells;
    for (int n = 0; cells && n < copy->count; ++n)
        cells[copy->offset + n].awaited = whether;
}

/* A copy that begins now: its place in the queue. */
static inline aino_pending *aino_begin_copy(void)
{
    aino_queue *queue = &aino_queues[threadIdx.x];
    if (queue->last - queue->first == AINO_MOST_COPIES)
        aino_stop("has %d copies that have not arrived", AINO_MOST_COPIES);
    return &queue->copies[queue->last++ % AINO_MOST_COPIES];
}

/* As the text for devices copies: nobody watches. */
static inline void aino_copy(void *target, const void *source, int size, bool present)
{
    aino_pending *copy = aino_begin_copy();
    *copy = (aino_pending){{0}, (char *)target, size, -1, 0, 0, aino_queues[threadIdx.x].groups};
    if (present)
        memcpy(copy->bytes, source, (size_t)size);
}

static inline void aino_watched_copy(char *target, int number, int64_t offset, const char *source,
                                     int source_number, int64_t from, int count, int size, bool present)
{
    const aino_buffer *buffer = &aino_watched[number];
    aino_pending *copy = aino_begin_copy();
    if (offset < 0 || offset + count > buffer->size)
        aino_stop("copies to %s[%lld], which has %lld elements", buffer->name, (long long)offset,
                  (long long)buffer->size);
    if ((uintptr_t)target % (unsigned)size)
        aino_stop("copies to %s[%lld], which is not aligned to %d bytes", buffer->name, (long long)offset, size);
    *copy = (aino_pending){{0}, target, size, number, count, offset, aino_queues[threadIdx.x].groups};
    aino_writes(number, offset, count); /* at any time from now on */
    aino_await(copy, 1);
    memset(target, 0xff, (size_t)size);
    if (present) {
        aino_reads(source_number, from, count);
        memcpy(copy->bytes, source, (size_t)size);
    }
}

#define AINO_COPY(target, number, offset, source, source_number, from, count, bytes, present) \
    aino_watched_copy((char *)((target) + (offset)), number, offset, (const char *)((source) + (from)), \
                      source_number, from, count, bytes, present)
#define AINO_CLOSE_COPIES() (++aino_queues[threadIdx.x].groups)

static inline void aino_await_copies(unsigned open)
{
    aino_queue *queue = &aino_queues[threadIdx.x];
    while (queue->first != queue->last) {
        aino_pending *copy = &queue->copies[queue->first % AINO_MOST_COPIES];
        if (copy->group + open >= queue->groups)
            return;
        aino_await(copy, 0);
        if (copy->number >= 0)
            aino_writes(copy->number, copy->offset, copy->count);
        memcpy(copy->target, copy->bytes, (size_t)copy->size);
        ++queue->first;
    }
}
#define AINO_AWAIT_COPIES(open) aino_await_copies(open)

/* The thread ends: nobody waits for its copies any more. */
static inline void aino_forget_copies(void)
{
    aino_queue *queue = &aino_queues[threadIdx.x];
    for (; queue->first != queue->last; ++queue->first)
        aino_await(&queue->copies[queue->first % AINO_MOST_COPIES], 0);
}

/* -- launches ---------------------------------------------------------------------------------------- */

#define AINO_LAUNCH_BLOCKS(name, blocks, threads, ...) \
    aino_emulate(name##_thread, blocks, threads, views, syms, scratch, lo, hi)

#define AINO_LAUNCH_ASKING(name, blocks, threads, bytes, ...) AINO_LAUNCH_BLOCKS(name, blocks, threads, 0)

static inline void aino_fiber(void)
{
    const aino_call *call = &aino_present;
    unsigned number = threadIdx.x;
    call->thread(call->views, call->syms, call->scratch, call->lo, call->hi);
    aino_forget_copies();
    aino_ended[number] = 1;
    ++aino_progress;
    swapcontext(&aino_fibers[number], &aino_scheduler);
}

/* Run one block: every thread up to where it waits, again and again till all have ended. */
static inline void aino_emulate_block(unsigned threads, char *stacks)
{
    aino_block_meeting = (aino_meeting){threads, 0, 0, 0, NULL};
    for (unsigned w = 0; w * AINO_WARP < threads; ++w) {
        unsigned rest = threads - w * AINO_WARP;
        aino_warp_meetings[w] = (aino_meeting){rest < AINO_WARP ? rest : AINO_WARP, 0, 0, 0, NULL};
    }
    for (unsigned g = 0; g * AINO_GROUP_THREADS < threads; ++g)
        aino_group_meetings[g] = (aino_meeting){AINO_GROUP_THREADS, 0, 0, 0, NULL};
    aino_began = ++aino_now;
    aino_join_all();
    for (unsigned n = 0; n < threads; ++n) {
        getcontext(&aino_fibers[n]);
        aino_fibers[n].uc_stack.ss_sp = stacks + (size_t)n * AINO_FIBER_BYTES;
        aino_fibers[n].uc_stack.ss_size = AINO_FIBER_BYTES;
        aino_fibers[n].uc_link = NULL;
        makecontext(&aino_fibers[n], aino_fiber, 0);
        aino_ended[n] = 0;
    }
    for (;;) {
        unsigned before = aino_progress, left = 0;
        for (unsigned n = 0; n < threads; ++n) {
            threadIdx.x = n;
            if (!aino_ended[n])
                swapcontext(&aino_scheduler, &aino_fibers[n]);
            left += !aino_ended[n];
        }
        if (left == 0) {
            aino_forget_tiles();
            return;
        }
        if (aino_progress == before) {
            fprintf(stderr, "aino: %u of %u threads wait at a barrier or for a signal, the others have left or wait elsewhere\n", left,
                    threads);
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
    aino_queues = calloc(threads, sizeof *aino_queues);
    aino_seen = calloc(threads, sizeof *aino_seen);
    if (!stacks || !aino_fibers || !aino_ended || !aino_queues || !aino_seen || threads > AINO_MOST_THREADS) {
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
    free(aino_queues);
    free(aino_seen);
}

#endif
