"""What a run of an emitted host program needs for itself: memory on the device, waiting, launching."""

from __future__ import annotations

from aino_ir.codegen.c.plan_text import filled
from aino_ir.codegen.cuda.host_steps import DevicePlanText
from aino_ir.plan import Extend, walk


def print_context(text: DevicePlanText) -> str:
    """The struct of a context, and functions for its memory."""
    plan = text.plan
    extends = any(isinstance(s, Extend) for s in walk(plan.steps))
    decided = ""
    if plan.decided:
        count = max(1, len(plan.segments))
        decided = f"\n    int64_t decided[{len(plan.decided)}];\n    model_segment segments[{count}];"
    return filled(
        _SESSION,
        NAME=plan.name,
        SYMBOLS=str(max(1, len(plan.entry_symbols))),
        DECIDED=decided,
        STATES=str(max(1, len(plan.states))),
        EXTEND=_EXTEND if extends else "",
        SEGMENTS=_SEGMENTS if plan.decided else "",
    )


def print_device(text: DevicePlanText) -> str:
    """Functions that wait for kernels, read what they wrote, and launch them."""
    slots = ", ".join(map(str, text.status_slots)) or "0"
    return filled(_DEVICE, STATUS_COUNT=str(len(text.status_slots)), STATUS_STEPS=f"{{{slots}}}")


_SESSION = """\
SEGMENTSstruct NAME_context {
    const void *const *in;
    void *const *out;
    char *weights;
    char *arena;
    size_t arena_bytes;
    char *scratch;
    size_t scratch_bytes;
    int64_t *cells;    /* of loops: the number of the present turn */
    int64_t *statuses; /* code and value of each step that may fail */
    char *state[STATES];
    int64_t symbols[SYMBOLS];DECIDED
    int64_t status[2]; /* code, step */
    cudaError_t error;
    cudaStream_t stream;
};

typedef struct NAME_context session;

static inline int model_fail(session *s, int64_t code, int64_t step)
{
    if (!s->status[0]) {
        s->status[0] = code;
        s->status[1] = step;
    }
    return 1;
}

/* Whether CUDA refuses something; the first such error stays. */
static inline int model_refused(session *s, cudaError_t error)
{
    if (error == cudaSuccess)
        return 0;
    if (!s->status[0])
        s->error = error;
    return model_fail(s, error == cudaErrorMemoryAllocation ? AINO_OUT_OF_MEMORY : AINO_DEVICE_FAILED, 0);
}

/* Make `memory` hold `bytes`; what was there is lost.  Waits for the stream when it has to grow. */
static inline int model_grow(session *s, char **memory, size_t *held, size_t bytes)
{
    void *made = 0;
    if (*memory && bytes <= *held)
        return 0;
    if (*memory && model_refused(s, cudaStreamSynchronize(s->stream)))
        return 1;
    cudaFree(*memory);
    *memory = 0;
    *held = 0;
    if (model_refused(s, cudaMalloc(&made, bytes ? bytes : 1)))
        return 1;
    *memory = (char *)made;
    *held = bytes;
    return 0;
}
EXTEND"""

_SEGMENTS = """\
/* Memory that grows when a run needs more. */
typedef struct { char *memory; size_t bytes; } model_segment;

"""

_EXTEND = """
static inline int model_extend(session *s, model_segment *segment, size_t bytes, int keep)
{
    model_segment wider = {0, 0};
    if (segment->memory && bytes <= segment->bytes)
        return 0;
    if (bytes < segment->bytes + segment->bytes / 2)
        bytes = segment->bytes + segment->bytes / 2;
    if (model_grow(s, &wider.memory, &wider.bytes, bytes))
        return 1;
    if (keep && segment->memory
        && model_refused(s, cudaMemcpyAsync(wider.memory, segment->memory, segment->bytes,
                                            cudaMemcpyDeviceToDevice, s->stream)))
        return 1;
    if (segment->memory && model_refused(s, cudaStreamSynchronize(s->stream)))
        return 1;
    cudaFree(segment->memory);
    *segment = wider;
    return 0;
}
"""

_DEVICE = """\
#define MODEL_FAILING STATUS_COUNT
#define MODEL_SCRATCH ((int64_t)256 << 20) /* of one launch at most */
#define MODEL_BLOCKS 2147483647

/* Wait for the stream, and note what the first kernel that failed has met. */
static inline int model_wait(session *s)
{
#if MODEL_FAILING
    static const int64_t steps[MODEL_FAILING] = STATUS_STEPS;
    int64_t statuses[2 * MODEL_FAILING];
    if (model_refused(s, cudaMemcpyAsync(statuses, s->statuses, sizeof statuses, cudaMemcpyDeviceToHost,
                                         s->stream)))
        return 1;
    if (model_refused(s, cudaStreamSynchronize(s->stream)))
        return 1;
    for (int i = 0; i < MODEL_FAILING; ++i)
        if (statuses[2 * i]) {
            cudaMemsetAsync(s->statuses, 0, sizeof statuses, s->stream);
            return model_fail(s, statuses[2 * i], steps[i]);
        }
    return 0;
#else
    return model_refused(s, cudaStreamSynchronize(s->stream));
#endif
}

/* An element that kernels have written; 0 when the run has failed. */
static inline __attribute__((unused)) int64_t model_read(session *s, const void *address, size_t bytes)
{
    int64_t value = 0;
    if (s->status[0]
        || model_refused(s, cudaMemcpyAsync(&value, address, bytes, cudaMemcpyDeviceToHost, s->stream))
        || model_wait(s))
        return 0;
    return value;
}

/* Write one i64. */
static inline __attribute__((unused)) void model_store(session *s, void *address, int64_t value)
{
    model_refused(s, cudaMemcpyAsync(address, &value, sizeof value, cudaMemcpyHostToDevice, s->stream));
}

/* Launch a kernel, in several parts where its scratch would be too much. */
static inline int model_launch(session *s, model_kernel *kernel, void **views, int count, const int64_t *syms,
                               int64_t units, int64_t threads, int64_t each, int64_t bytes, int slot)
{
    int64_t blocks = (units + each - 1) / each, most = MODEL_BLOCKS;
    if (s->status[0])
        return 1;
    if (units <= 0)
        return 0;
    if (bytes > 0) {
        most = MODEL_SCRATCH / (threads * bytes);
        most = most < 1 ? 1 : most > MODEL_BLOCKS ? MODEL_BLOCKS : most;
        blocks = blocks < most ? blocks : most;
        if (model_grow(s, &s->scratch, &s->scratch_bytes, (size_t)(blocks * threads * bytes)))
            return 1;
    }
    views[count] = slot < 0 ? 0 : (void *)(s->statuses + 2 * slot);
    for (int64_t lo = 0; lo < units; lo += most * each) {
        int64_t hi = units - lo < most * each ? units : lo + most * each;
        kernel(views, syms, s->scratch, lo, hi, s->stream);
        if (model_refused(s, cudaGetLastError()))
            return 1;
    }
    return 0;
}"""
