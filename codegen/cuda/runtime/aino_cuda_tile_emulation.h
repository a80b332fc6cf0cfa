/* aino_cuda_tile_emulation.h: signals and copies of tiles where there is no device.
 *
 * A tile comes as late as may be: when a thread waits for its signal.  These end the program:
 *
 *   bytes        more come than were announced (of fewer, the threads wait for ever)
 *   early reads  of a tile by a thread that has not waited for its signal
 *   overwriting  a tile is copied to where another one has not come, or where one lies that a warp has read
 *                which has not arrived since at a signal that the copying thread has waited for
 *   arrivals     of more threads than a phase has; at signals that were not started
 *   ends         of a block while tiles are on their way
 */
#ifndef AINO_CUDA_TILE_EMULATION_H
#define AINO_CUDA_TILE_EMULATION_H

#define AINO_MOST_TILES 64 /* places of a block that tiles are copied to */

typedef struct {
    const char *name;
    unsigned arrivals, left;
    uint32_t past;                      /* phases that are over */
    uint32_t started;                   /* when: barriers passed until then */
    int64_t bytes;                      /* announced that have not come */
    aino_clock gathered, released;      /* what those did before who have arrived, now and in phases before */
    uint32_t awaited[AINO_MOST_THREADS]; /* phases that were over when each thread waited last */
} aino_signal;

typedef struct {
    const char *base; /* of the parameter, and further until it is aligned */
    int64_t extents[5], strides[4];
    int bytes, lines, rank, rounded; /* to tf32 */
} __attribute__((aligned(64))) aino_map;

_Static_assert(sizeof(aino_map) == 128, "as large as the driver's");

typedef struct {
    int number; /* of the buffer that is watched; below 0: none */
    int64_t offset, count;
    char *target;
    aino_map map;
    int64_t at[5];
    aino_signal *signal;
    uint32_t phase;
    int here;           /* whether it has come */
    aino_clock readers; /* when each warp has read it last */
} aino_tile;

static _Thread_local aino_tile aino_tiles[AINO_MOST_TILES];
static _Thread_local unsigned aino_tile_count;

#define AINO_MAP_PARAMETER const aino_map
#define AINO_SIGNALS(name, count) static _Thread_local aino_signal name[count]
#define AINO_MORE_REGISTERS(count) ((void)0)
#define AINO_FEWER_REGISTERS(count) ((void)0)

static inline __attribute__((unused)) void aino_start_signals(aino_signal *signals, int count, int arrivals)
{
    if (threadIdx.x != 0)
        return;
    for (int i = 0; i < count; ++i) {
        memset(&signals[i], 0, sizeof signals[i]);
        signals[i].arrivals = signals[i].left = (unsigned)arrivals;
        signals[i].started = aino_now;
    }
}

static inline void aino_expect_started(const aino_signal *signal)
{
    if (signal->started < aino_began || signal->started == aino_now)
        aino_stop("uses a signal that was not started, with a barrier between");
}

static inline void aino_end_phase(aino_signal *signal)
{
    if (signal->left)
        return;
    if (signal->bytes < 0)
        aino_stop("is told of %lld bytes more than were announced", -(long long)signal->bytes);
    if (signal->bytes)
        return;
    ++signal->past;
    ++aino_progress;
    signal->left = signal->arrivals;
    signal->released = signal->gathered;
}

static inline __attribute__((unused)) void aino_arrive(aino_signal *signal, int bytes)
{
    unsigned warp = threadIdx.x / AINO_WARP;
    aino_expect_started(signal);
    if (signal->left == 0)
        aino_stop("arrives at a signal where all %u have arrived", signal->arrivals);
    aino_join(&signal->gathered, &aino_seen[threadIdx.x]);
    if (signal->gathered.of[warp] < aino_clocks.of[warp])
        signal->gathered.of[warp] = aino_clocks.of[warp];
    ++aino_clocks.of[warp];
    signal->bytes += bytes;
    --signal->left;
    aino_end_phase(signal);
}

static inline void aino_land(aino_tile *tile)
{
    const aino_map *map = &tile->map;
    int64_t terms = 128 / map->bytes;
    for (int line = 0; line < map->lines; ++line)
        for (int64_t term = 0; term < terms; ++term) {
            int64_t place = 0;
            int inside = 1;
            for (int axis = 0; axis < map->rank; ++axis) {
                int64_t c = tile->at[axis] + (axis == 0 ? term : axis == 1 ? line : 0);
                inside = inside && c >= 0 && c < map->extents[axis];
                place += c * (axis ? map->strides[axis - 1] : 1);
            }
            int64_t byte = term * map->bytes;
            char *to = tile->target + 128 * line + (byte / 16 ^ line % 8) * 16 + byte % 16;
            if (inside)
                memcpy(to, map->base + place * map->bytes, (size_t)map->bytes);
            else
                memset(to, 0, (size_t)map->bytes);
            if (map->rounded)
                aino_round_tf32((uint32_t *)to, *(uint32_t *)to);
        }
    tile->here = 1;
    tile->signal->bytes -= 128 * (int64_t)map->lines;
    aino_end_phase(tile->signal);
}

static inline __attribute__((unused)) void aino_await_signal(aino_signal *signal, int parity)
{
    aino_expect_started(signal);
    for (;;) {
        for (unsigned n = 0; n < aino_tile_count; ++n)
            if (aino_tiles[n].signal == signal && !aino_tiles[n].here)
                aino_land(&aino_tiles[n]);
        if ((int)(signal->past & 1) != parity)
            break;
        swapcontext(&aino_fibers[threadIdx.x], &aino_scheduler);
    }
    signal->awaited[threadIdx.x] = signal->past;
    aino_join(&aino_seen[threadIdx.x], &signal->released);
}

/* The record of a place that tiles are copied to. */
static inline aino_tile *aino_tile_at(char *target, int number, int64_t offset, int64_t count)
{
    for (unsigned n = 0; n < aino_tile_count; ++n) {
        aino_tile *tile = &aino_tiles[n];
        if (tile->target == target)
            return tile;
        if (target < tile->target + 128 * tile->map.lines && tile->target < target + count)
            aino_stop("copies a tile to where a part of another one lies");
    }
    if (aino_tile_count == AINO_MOST_TILES)
        aino_stop("copies tiles to more than %d places", AINO_MOST_TILES);
    aino_tiles[aino_tile_count] = (aino_tile){.target = target, .number = number, .offset = offset, .here = 1};
    return &aino_tiles[aino_tile_count++];
}

static inline __attribute__((unused)) void aino_copy_tile(char *target, int number, int64_t offset,
                                                           const aino_map *map, aino_signal *signal,
                                                           const int64_t *at)
{
    int64_t bytes = 128 * (int64_t)map->lines;
    const char *name = number < 0 ? "shared memory" : aino_watched[number].name;
    aino_expect_started(signal);
    if (number >= 0 && (offset < 0 || offset + bytes / map->bytes > aino_watched[number].size))
        aino_stop("copies a tile to %s[%lld], which has %lld elements", name, (long long)offset,
                  (long long)aino_watched[number].size);
    if ((uintptr_t)target % 1024)
        aino_stop("copies a tile to %s[%lld], which does not start at a multiple of 1024 bytes", name,
                  (long long)offset);
    aino_tile *tile = aino_tile_at(target, number, offset, bytes);
    if (!tile->here)
        aino_stop("copies a tile to %s[%lld], where another one has not come", name, (long long)offset);
    for (unsigned warp = 0; warp < AINO_MOST_WARPS; ++warp)
        if (tile->readers.of[warp] > aino_seen[threadIdx.x].of[warp] && warp != threadIdx.x / AINO_WARP)
            aino_stop("copies a tile to %s[%lld], which warp %u may still read", name, (long long)offset, warp);
    tile->count = bytes / map->bytes;
    tile->map = *map;
    tile->signal = signal;
    tile->phase = signal->past;
    tile->here = 0;
    memset(&tile->readers, 0, sizeof tile->readers);
    memcpy(tile->at, at, sizeof tile->at);
}

#define AINO_COPY_TILE(rank, target, number, offset, map, signal, ...)                          \
    aino_copy_tile((char *)((target) + (offset)), number, offset, &(map), signal,               \
                   (const int64_t[5]){__VA_ARGS__})

/* Whether tiles were copied to these elements, which this thread's group reads now. */
static inline int aino_reads_tiles(int number, int64_t offset, int64_t count)
{
    int64_t covered = 0;
    unsigned warp = threadIdx.x / AINO_WARP;
    for (unsigned n = 0; n < aino_tile_count; ++n) {
        aino_tile *tile = &aino_tiles[n];
        int64_t first = tile->offset > offset ? tile->offset : offset;
        int64_t end = tile->offset + tile->count, wanted = offset + count;
        if (tile->number != number || first >= (end < wanted ? end : wanted))
            continue;
        if (!tile->here || tile->signal->awaited[threadIdx.x] <= tile->phase)
            aino_stop("reads %s[%lld], a tile that it has not waited for", aino_watched[number].name,
                      (long long)first);
        tile->readers.of[warp] = aino_clocks.of[warp];
        covered += (end < wanted ? end : wanted) - first;
    }
    if (covered && covered < count)
        aino_stop("reads %s[%lld], of which only %lld elements are tiles", aino_watched[number].name,
                  (long long)offset, (long long)covered);
    return covered != 0;
}

/* A block begins, or ends. */
static inline void aino_forget_tiles(void)
{
    for (unsigned n = 0; n < aino_tile_count; ++n)
        if (!aino_tiles[n].here)
            aino_stop("ends while a tile is on its way");
    aino_tile_count = 0;
}

static inline __attribute__((unused)) aino_map aino_make_map(void *base, int bytes, int lines, int rounded,
                                                              int rank, const int64_t *extents, const int64_t *strides)
{
    uintptr_t shift = (uintptr_t)base & 15;
    aino_map map = {.base = (const char *)base - shift, .bytes = bytes, .lines = lines, .rank = rank,
                    .rounded = rounded};
    for (int i = 0; i < rank; ++i)
        map.extents[i] = extents[i] + (i ? 0 : (int64_t)shift / bytes);
    for (int i = 0; i + 1 < rank; ++i)
        map.strides[i] = strides[i];
    return map;
}

#endif
