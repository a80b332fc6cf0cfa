/* Exercises aino_runtime.h alone; prints one line per check and exits 0 when all hold.
 * Run as: pool_check THREADS ROUNDS [fork] */
#include "aino_runtime.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define MAX_TEAM 16

typedef struct {
    aino_barrier barrier;
    int64_t status[2];
    int64_t cells[MAX_TEAM][8];
    int64_t sums[MAX_TEAM];
    int rounds;
    int failing; /* the thread that fails in the middle, or -1 */
    int team;
} session;

static int failures = 0;

static void check(int holds, const char *what)
{
    printf("%s: %s\n", holds ? "ok" : "FAILED", what);
    failures += !holds;
}

/* Each round every thread writes its cell, all meet, every thread reads all cells, all meet. */
static void rounds(void *argument, int tid, int nthreads)
{
    session *s = argument;
    if (tid == 0)
        s->team = nthreads;
    for (int r = 0; r < s->rounds; r++) {
        s->cells[tid][0] = (int64_t)r * (tid + 1);
        if (tid == s->failing && r == s->rounds / 2) {
            aino_fail(s->status, AINO_INDEX_OUT_OF_RANGE, 1000 + tid);
            return;
        }
        if (aino_barrier_wait(&s->barrier, nthreads) != AINO_OK)
            return;
        for (int t = 0; t < nthreads; t++)
            s->sums[tid] += s->cells[t][0];
        if (aino_barrier_wait(&s->barrier, nthreads) != AINO_OK)
            return;
    }
}

static session *new_session(int count, int failing)
{
    session *s = aino_alloc(sizeof *s);
    memset(s, 0, sizeof *s);
    s->rounds = count;
    s->failing = failing;
    aino_barrier_init(&s->barrier, s->status);
    return s;
}

static void tick(void *argument, int tid, int nthreads)
{
    int64_t *cells = argument;
    cells[8 * tid] += nthreads;
}

static int sums_hold(const session *s, int nthreads, int count)
{
    int64_t expected = (int64_t)count * (count - 1) / 2 * nthreads * (nthreads + 1) / 2;
    for (int t = 0; t < nthreads; t++)
        if (s->sums[t] != expected)
            return 0;
    return 1;
}

static void check_rounds(aino_pool *pool, int nthreads, int count, const char *what)
{
    session *s = new_session(count, -1);
    int team = aino_pool_run(pool, nthreads, rounds, s);
    check(team == nthreads && s->team == nthreads && sums_hold(s, nthreads, count), what);
    aino_free(s);
}

typedef struct {
    aino_pool *pool;
    int64_t alone, together;
    int count;
} caller;

static void *call_often(void *argument)
{
    caller *c = argument;
    for (int i = 0; i < c->count; i++) {
        int64_t cells[8 * MAX_TEAM] = {0};
        int team = aino_pool_run(c->pool, MAX_TEAM, tick, cells);
        for (int t = 0; t < MAX_TEAM; t++)
            if (cells[8 * t] != (t < team ? team : 0))
                return argument;
        *(team == 1 ? &c->alone : &c->together) += 1;
    }
    return NULL;
}

static void check_callers(int nthreads, int count)
{
    aino_pool *pool = aino_pool_create(nthreads);
    caller callers[4];
    pthread_t threads[4];
    int wrong = 0;
    for (int i = 0; i < 4; i++) {
        callers[i] = (caller){pool, 0, 0, count};
        pthread_create(&threads[i], NULL, call_often, &callers[i]);
    }
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        wrong += bad != NULL || callers[i].alone + callers[i].together != count;
    }
    check(!wrong, "four callers at once, each served whole");
    aino_pool_destroy(pool);
}

static void check_fork(aino_pool *pool, int nthreads)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        session *s = new_session(50, -1);
        int team = aino_pool_run(pool, nthreads, rounds, s);
        int fine = team == nthreads && sums_hold(s, nthreads, 50);
        aino_free(s);
        aino_pool_destroy(pool);
        _exit(fine ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child runs with threads of its own");
    check_rounds(pool, nthreads, 50, "the parent goes on after the fork");
}

static void check_shares(void)
{
    int fine = 1;
    for (int64_t units = 0; units < 40; units++)
        for (int n = 1; n <= MAX_TEAM; n++) {
            int64_t next = 0;
            for (int t = 0; t < n; t++) {
                int64_t lo, hi;
                aino_share(units, t, n, &lo, &hi);
                fine = fine && lo == next && hi >= lo && hi - lo <= units / n + 1;
                next = hi;
            }
            fine = fine && next == units;
        }
    int64_t lo, hi;
    aino_share(INT64_MAX, 2, 3, &lo, &hi);
    check(fine && hi == INT64_MAX, "shares cover all units once, without overflow");
}

static void check_freelist(void)
{
    aino_freelist list;
    int items[AINO_FREELIST_SLOTS + 1], kept = 0, taken = 0;
    aino_freelist_init(&list);
    int empty = aino_freelist_take(&list) == NULL;
    for (int i = 0; i <= AINO_FREELIST_SLOTS; i++)
        kept += aino_freelist_put(&list, &items[i]);
    while (aino_freelist_take(&list))
        taken++;
    check(empty && kept == AINO_FREELIST_SLOTS && taken == kept, "free list keeps what fits and gives it back");
}

#if defined(__x86_64__)
static void read_mode(void *argument, int tid, int nthreads)
{
    (void)nthreads;
    ((unsigned *)argument)[16 * tid] = __builtin_ia32_stmxcsr() & ~0x3fu;
}

static void check_mode(aino_pool *pool, int nthreads)
{
    unsigned modes[16 * MAX_TEAM] = {0}, before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040); /* as code built with -ffast-math leaves it */
    int team = aino_pool_run(pool, nthreads, read_mode, modes), fine = team == nthreads;
    fine = fine && (__builtin_ia32_stmxcsr() & 0x8040) == 0x8040;
    __builtin_ia32_ldmxcsr(before);
    for (int t = 0; t < team; t++)
        fine = fine && modes[16 * t] == 0x1f80;
    check(fine, "denormals are kept inside a run, and the caller's mode comes back");
}
#endif

int main(int argc, char **argv)
{
    int nthreads = argc > 1 ? atoi(argv[1]) : 2, count = argc > 2 ? atoi(argv[2]) : 100;
    aino_pool *pool = aino_pool_create(nthreads);
    check_shares();
    check_freelist();
    check_rounds(pool, nthreads, count, "barriers order writes before reads");
    check_rounds(pool, 1, count, "one thread");
    for (int t = 0; t < nthreads; t++) {
        session *s = new_session(count, t);
        aino_pool_run(pool, nthreads, rounds, s);
        check(s->status[0] == AINO_INDEX_OUT_OF_RANGE && s->status[1] == 1000 + t, "a failure makes all leave");
        aino_free(s);
    }
    struct timespec nap = {0, 20000000};
    nanosleep(&nap, NULL);
    check_rounds(pool, nthreads, count, "workers wake from sleep");
#if defined(__x86_64__)
    check_mode(pool, nthreads);
#endif
    if (argc > 3 && !strcmp(argv[3], "fork"))
        check_fork(pool, nthreads);
    aino_pool_destroy(pool);
    check_callers(nthreads, count);
    aino_pool_destroy(aino_pool_create(nthreads)); /* never used: no threads to end */
    check(aino_alloc(SIZE_MAX - 8) == NULL, "an absurd allocation fails");
    return failures != 0;
}
