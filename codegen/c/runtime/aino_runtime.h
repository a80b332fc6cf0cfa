/* aino_runtime.h: all that a compiled model needs beside libc.  C11 and POSIX threads, no globals;
 * aino_windows.h stands in for them where they are not.
 *
 *   aino_alloc, aino_free     memory aligned to a cache line
 *   aino_now                  time
 *   aino_share                one thread's part of a kernel's units
 *   aino_barrier              all threads of a run wait for all, or leave when one has failed
 *   aino_pool                 persistent threads that run one function together
 *   aino_freelist             keeps the sessions that no caller uses just now
 *
 * Everything is static: each model carries its own copy, so that any number of models can live in one
 * program.  Include it before any other header.
 */
#ifndef AINO_RUNTIME_H
#define AINO_RUNTIME_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#include "aino_windows.h"
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif

#include "aino_status.h"

#define AINO_LINE 64             /* bytes of a cache line, and the alignment of all memory */
#define AINO_SPINS 2000          /* looks at a flag before giving the processor away: 20 to 100 us */
#define AINO_YIELDS 100          /* times the processor is given away before sleeping */
#define AINO_SLEEP_NS 50000      /* how long a sleep between two looks lasts */
#define AINO_MAX_THREADS 1024
#define AINO_STACK_BYTES (4u << 20)
#define AINO_FREELIST_SLOTS 64

/* ---- memory ------------------------------------------------------------------------------------ */

/* Return `bytes` bytes aligned to a cache line, or NULL. */
static inline void *aino_alloc(size_t bytes)
{
    void *memory = NULL;
    if (bytes > SIZE_MAX - AINO_LINE)
        return NULL;
#if defined(_WIN32)
    memory = _aligned_malloc(bytes ? bytes : 1, AINO_LINE);
    return memory;
#else
    return posix_memalign(&memory, AINO_LINE, bytes ? bytes : 1) ? NULL : memory;
#endif
}

static inline void aino_free(void *memory)
{
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

/* ---- time -------------------------------------------------------------------------------------- */

/* Nanoseconds since some moment. */
static inline int64_t aino_now(void)
{
#if defined(_WIN32)
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (int64_t)((double)count.QuadPart * (1e9 / (double)frequency.QuadPart));
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

/* Sleep for AINO_SLEEP_NS, or as little as the system knows. */
static inline void aino_sleep(void)
{
#if defined(_WIN32)
    Sleep(1);
#else
    struct timespec pause = {0, AINO_SLEEP_NS};
    nanosleep(&pause, NULL);
#endif
}

/* ---- sharing work ------------------------------------------------------------------------------ */

/* Set [*lo, *hi) to the part of `units` that thread `tid` of `nthreads` does; parts differ by at most one. */
static inline void aino_share(int64_t units, int tid, int nthreads, int64_t *lo, int64_t *hi)
{
    int64_t base = units / nthreads, rest = units % nthreads;
    *lo = base * tid + (tid < rest ? tid : rest);
    *hi = *lo + base + (tid < rest ? 1 : 0);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static inline void aino_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Pass a little time between two looks at a flag; `round` counts the looks and starts at 0. */
static inline void aino_backoff(unsigned *round)
{
    if (*round < AINO_SPINS) {
        aino_relax();
    } else if (*round < AINO_SPINS + AINO_YIELDS) {
        sched_yield();
    } else {
        aino_sleep();
        return;
    }
    ++*round;
}

/* ---- barrier ----------------------------------------------------------------------------------- */

/* One per run, set up before it.  A thread that fails calls aino_fail and leaves without coming to the
 * barrier; as the others may then have left at different barriers, a new run sets it up anew. */
typedef struct {
    _Alignas(AINO_LINE) atomic_uint arrived;
    _Alignas(AINO_LINE) atomic_uint phase;
    const int64_t *status;
} aino_barrier;

static inline void aino_barrier_init(aino_barrier *barrier, const int64_t *status)
{
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->phase, 0);
    barrier->status = status;
}

/* Wait for all `nthreads` threads of the run.  Unless it returns AINO_OK the caller must leave. */
static inline int64_t aino_barrier_wait(aino_barrier *barrier, int nthreads)
{
    unsigned phase = atomic_load_explicit(&barrier->phase, memory_order_relaxed), round = 0;
    if (nthreads == 1)
        return aino_status_code(barrier->status);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)nthreads) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->phase, phase + 1, memory_order_release);
        return aino_status_code(barrier->status);
    }
    while (atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase) {
        if (aino_status_code(barrier->status) != AINO_OK)
            break;
        aino_backoff(&round);
    }
    return aino_status_code(barrier->status);
}

/* ---- floating-point mode ----------------------------------------------------------------------- */

/* Set the default mode (round to nearest, denormals kept) and return the one before. */
static inline uint64_t aino_fp_enter(void)
{
    uint64_t before = 0;
#if defined(__x86_64__)
    before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80);
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
#endif
    return before;
}

static inline void aino_fp_leave(uint64_t before)
{
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

/* ---- thread pool ------------------------------------------------------------------------------- */

/* What the pool runs, on every thread of a team: tid counts from 0 (the caller) to nthreads - 1. */
typedef void (*aino_task)(void *argument, int tid, int nthreads);

typedef struct aino_pool aino_pool;

typedef struct {
    aino_pool *pool;
    pthread_t thread;
    int tid;
    uint64_t seen; /* the last ticket that this thread has looked at */
} aino_worker;

/* A ticket is a job's number times 2^16 plus the size of its team: a worker learns from it alone
 * whether it takes part, and only then reads task and argument, which stay as they are until the
 * last of the team has finished. */
struct aino_pool {
    _Alignas(AINO_LINE) atomic_uint_fast64_t ticket;
    _Alignas(AINO_LINE) atomic_int unfinished; /* workers of the team still at it */
    _Alignas(AINO_LINE) atomic_int busy;       /* 1 while a caller owns the pool */
    atomic_int owner;                          /* the process that the workers live in */
    atomic_int sleepers;
    atomic_int stop;
    pthread_mutex_t mutex; /* guards only going to sleep and waking */
    pthread_cond_t wake;
    aino_task task;
    void *argument;
    int limit;   /* threads at most, the caller among them */
    int started; /* workers that exist */
    aino_worker workers[];
};

/* Return a pool of up to `nthreads` threads, the caller of aino_pool_run among them, or NULL when
 * memory is short.  Threads are started when first needed. */
static inline aino_pool *aino_pool_create(int nthreads)
{
    int limit = nthreads < 1 ? 1 : nthreads > AINO_MAX_THREADS ? AINO_MAX_THREADS : nthreads;
    aino_pool *pool = aino_alloc(sizeof(aino_pool) + (size_t)limit * sizeof(aino_worker));
    if (!pool)
        return NULL;
    atomic_init(&pool->ticket, 0);
    atomic_init(&pool->unfinished, 0);
    atomic_init(&pool->busy, 0);
    atomic_init(&pool->owner, (int)getpid());
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stop, 0);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->task = NULL;
    pool->argument = NULL;
    pool->limit = limit;
    pool->started = 0;
    return pool;
}

/* Wait until the ticket is another than `seen` and return it. */
static inline uint64_t aino_next_ticket(aino_pool *pool, uint64_t seen)
{
    uint64_t ticket = seen;
    for (int i = 0; i < AINO_SPINS && ticket == seen; i++) {
        aino_relax();
        ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    }
    if (ticket != seen)
        return ticket;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before the look at the ticket: see aino_publish */
    while ((ticket = atomic_load(&pool->ticket)) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    return ticket;
}

/* Make a new ticket known to spinning and to sleeping workers.  Either the worker sees the new ticket
 * before it sleeps, or this sees the worker among the sleepers. */
static inline void aino_publish(aino_pool *pool, int team)
{
    uint64_t number = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 16) + 1;
    atomic_store(&pool->ticket, number << 16 | (uint64_t)team);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static inline void *aino_worker_main(void *argument)
{
    aino_worker *self = argument;
    aino_pool *pool = self->pool;
    aino_fp_enter();
    for (;;) {
        self->seen = aino_next_ticket(pool, self->seen);
        if (atomic_load_explicit(&pool->stop, memory_order_acquire))
            return NULL;
        int team = (int)(self->seen & 0xffff);
        if (self->tid < team) {
            pool->task(pool->argument, self->tid, team);
            atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_release);
        }
    }
}

/* Start workers until there are `wanted`, or the system refuses one more.  They leave all signals to
 * the program's own threads. */
static inline void aino_start_workers(aino_pool *pool, int wanted)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    if (pool->started >= wanted || pthread_attr_init(&attributes))
        return;
    pthread_attr_setstacksize(&attributes, AINO_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->started < wanted) {
        aino_worker *worker = &pool->workers[pool->started];
        worker->pool = pool;
        worker->tid = pool->started + 1;
        worker->seen = atomic_load(&pool->ticket);
        if (pthread_create(&worker->thread, &attributes, aino_worker_main, worker))
            break;
        pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* After fork() the child has the pool but not its threads: make it as new.  Returns 0 while another
 * thread of this process is doing just that. */
static inline int aino_pool_adopt(aino_pool *pool)
{
    int me = (int)getpid(), owner = atomic_load(&pool->owner);
    if (owner == me)
        return 1;
    if (owner == -me || !atomic_compare_exchange_strong(&pool->owner, &owner, -me))
        return 0;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->unfinished, 0);
    pool->started = 0;
    atomic_store(&pool->busy, 0);
    atomic_store(&pool->owner, me);
    return 1;
}

/* Run task(argument, tid, n) once on each of n threads at the same time and return n.
 *
 * n is `nthreads`, or less when the pool is smaller, when the system refuses threads, and 1 when
 * another caller has the pool: nobody waits for anybody. */
static inline int aino_pool_run(aino_pool *pool, int nthreads, aino_task task, void *argument)
{
    int team = 1, idle = 0;
    uint64_t mode = aino_fp_enter();
    int mine = nthreads > 1 && pool->limit > 1 && aino_pool_adopt(pool)
               && atomic_compare_exchange_strong(&pool->busy, &idle, 1);
    if (mine) {
        team = nthreads < pool->limit ? nthreads : pool->limit;
        aino_start_workers(pool, team - 1);
        team = team - 1 < pool->started ? team : pool->started + 1;
    }
    if (team > 1) {
        pool->task = task;
        pool->argument = argument;
        atomic_store_explicit(&pool->unfinished, team - 1, memory_order_relaxed);
        aino_publish(pool, team);
    }
    task(argument, 0, team);
    if (team > 1) {
        unsigned round = 0;
        while (atomic_load_explicit(&pool->unfinished, memory_order_acquire) > 0)
            aino_backoff(&round);
    }
    if (mine)
        atomic_store(&pool->busy, 0);
    aino_fp_leave(mode);
    return team;
}

/* End the threads and free the pool; no run may be under way. */
static inline void aino_pool_destroy(aino_pool *pool)
{
    if (!pool)
        return;
    if (atomic_load(&pool->owner) == (int)getpid()) {
        atomic_store(&pool->stop, 1);
        aino_publish(pool, 1);
        for (int i = 0; i < pool->started; i++)
            pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->mutex);
    }
    aino_free(pool);
}

/* ---- free list --------------------------------------------------------------------------------- */

/* Things that can be used by one caller at a time.  No locks, so a fork at any moment is harmless. */
typedef struct {
    _Atomic(void *) slots[AINO_FREELIST_SLOTS];
} aino_freelist;

static inline void aino_freelist_init(aino_freelist *list)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++)
        atomic_init(&list->slots[i], NULL);
}

/* Take something out, or return NULL when the list is empty and the caller has to make one. */
static inline void *aino_freelist_take(aino_freelist *list)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++) {
        void *item = atomic_load_explicit(&list->slots[i], memory_order_relaxed);
        if (item && (item = atomic_exchange(&list->slots[i], NULL)))
            return item;
    }
    return NULL;
}

/* Put `item` in and return 1, or return 0 when the list is full and the caller has to free it. */
static inline int aino_freelist_put(aino_freelist *list, void *item)
{
    for (int i = 0; i < AINO_FREELIST_SLOTS; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&list->slots[i], &none, item))
            return 1;
    }
    return 0;
}

#endif
