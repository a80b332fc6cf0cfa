"""The interface of an emitted host program: its header for C and C++, and the functions that it declares."""

from __future__ import annotations

from aino_ir.codegen.c.interface import InterfacePrinter, given_outputs
from aino_ir.codegen.c.plan_text import filled
from aino_ir.codegen.cstyle.names import comment, string_lines
from aino_ir.codegen.cuda.host_steps import DevicePlanText
from aino_ir.plan import BufferKind

HOST_ABI = 1
"""Version of this interface."""


class HostInterface(InterfacePrinter):
    """Prints the public header and the functions of the interface."""

    profiles = False

    def __init__(self, text: DevicePlanText) -> None:
        super().__init__(text)
        self.failing = len(text.status_slots)

    def header(self) -> str:
        """The public header: functions for C and C++, and a class around them."""
        plan, given = self.plan, given_outputs(self.plan)
        values = [(f"in[{i}]", f"{n}: {t}") for i, (n, t) in enumerate(plan.inputs)]
        if plan.entry_symbols:
            names = f"int64_t[{len(plan.entry_symbols)}] of the host: {', '.join(plan.entry_symbols)}"
            values.append((f"in[{len(plan.inputs)}]", names))
        for i, (n, t) in enumerate(plan.outputs):
            values.append((f"out[{i}]", f"{'void *[1] of the host, to ' if i in given else ''}{n}: {t}"))
        if plan.decided:
            names = f"int64_t[{len(plan.decided)}] of the host: {', '.join(plan.decided)}"
            values.append((f"out[{len(plan.outputs)}]", names))
        table = "\n".join(f" *   {place:8} {comment(what)}" for place, what in values)
        remark = _GIVEN if given else ""
        return filled(
            _HEADER,
            NAME=plan.name,
            GUARD=f"{plan.name.upper()}_H",
            TABLE=table,
            REMARK=remark,
            ABI=str(HOST_ABI),
        )

    def functions(self, description: str) -> str:
        """The functions that the header declares."""
        plan = self.plan
        ends = [
            int(b.offset) + int(b.bytes)  # type: ignore[arg-type]
            for b in plan.buffers
            if b.kind in (BufferKind.CONST, BufferKind.STATE) and b.offset is not None
        ]
        give = self._give()
        return filled(
            _FUNCTIONS,
            NAME=plan.name,
            ABI=str(HOST_ABI),
            DESCRIPTION="\n    ".join(string_lines(description)),
            WEIGHT_BYTES=str(max(ends, default=0)),
            TURNS=str(max(1, len(plan.turns))),
            STATUS_COUNT=str(max(1, self.failing)),
            MAKE_STATES=self._state_setup(),
            CHECKS=self._setup(),
            TAKE_SYMBOLS=self._symbols(),
            GIVE=f"{give}\n    " if give else "",
            FREE_SEGMENTS="".join(
                f"\n    cudaFree(s->segments[{n}].memory);"
                for n in range(len(plan.segments) if plan.decided else 0)
            ),
        )

    def _symbols(self) -> str:
        count = len(self.plan.entry_symbols)
        if not count:
            return ""
        return f"\n    memcpy(s->symbols, in[{len(self.plan.inputs)}], {count} * sizeof *s->symbols);"

    def _give(self) -> str:
        if not self.plan.decided:
            return ""
        lines = [f"        memcpy(out[{len(self.plan.outputs)}], s->decided, sizeof s->decided);"]
        for slot, number in sorted(given_outputs(self.plan).items()):
            lines += [
                f"        *(void **)out[{slot}] = s->segments[{number}].memory;",
                f"        s->segments[{number}].memory = 0;",
                f"        s->segments[{number}].bytes = 0;",
            ]
        return "\n".join(["", "    if (!s->status[0]) {", *lines, "    }"])

    def _setup(self) -> str:
        lines = super()._setup().splitlines()
        return "\n".join(lines[:-1]).replace("AINO_LINE", "64")  # scratch is sized where a kernel is launched

    def _state_setup(self) -> str:
        lines = []
        for b in self.plan.buffers:
            if b.kind is BufferKind.STATE:
                first = f"s->weights + {self.text.dim(b.offset)}" if b.offset is not None and b.const else "0"
                lines.append(f"\n    failed |= model_state(s, {b.slot}, {self.text.dim(b.bytes)}, {first});")
        return "".join(lines)


_HEADER = """\
/* NAME: a model compiled by AINO, for NVIDIA GPUs.
 *
TABLE
 *
 * Addresses are of the device, row-major and dense, unless it says otherwise; inputs and outputs must not
 * overlap.  A context is for one thread at a time and for the device that was current when it was made.
REMARK */
#ifndef GUARD
#define GUARD

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct NAME_context NAME_context;

/* Version of this interface (ABI). */
int NAME_abi(void);

/* Make a context on the current device; `weights` (NAME.weights, of the host) is copied there.
 * Returns 0, or a code of aino_status.h. */
int NAME_create(const void *weights, NAME_context **context);

/* Put a run on a stream (a cudaStream_t).  Returns 0, or code + 256 * step of the first failure.  Models that
 * can fail at run time, or that decide while they run how to go on, make the caller wait for the stream. */
int NAME_run(NAME_context *context, const void *const *in, void *const *out, void *stream);

/* CUDA's word for the last failure of a context with code AINO_DEVICE_FAILED. */
const char *NAME_error(const NAME_context *context);

/* Inputs, outputs and symbols as JSON. */
const char *NAME_describe(void);

/* Free a context; its runs must be over. */
void NAME_destroy(NAME_context *context);

#ifdef __cplusplus
}

/* A context that is destroyed with its object. */
class NAME_model {
public:
    explicit NAME_model(const void *weights) { status_ = NAME_create(weights, &context_); }
    ~NAME_model() { NAME_destroy(context_); }
    NAME_model(const NAME_model &) = delete;
    NAME_model &operator=(const NAME_model &) = delete;

    /* 0, or why there is no context. */
    int status() const { return status_; }
    int run(const void *const *in, void *const *out, void *stream = nullptr)
    {
        return context_ ? NAME_run(context_, in, out, stream) : status_;
    }
    const char *error() const { return context_ ? NAME_error(context_) : ""; }

private:
    NAME_context *context_ = nullptr;
    int status_ = 0;
};
#endif

#endif
"""

_GIVEN = """\
 * A "void *[1]" gets the address of a tensor whose extents the run decides; it is the caller's, who frees
 * it with cudaFree().  When a run fails, none is given.
"""

_FUNCTIONS = """\
int NAME_abi(void)
{
    return ABI;
}

const char *NAME_describe(void)
{
    return DESCRIPTION;
}

const char *NAME_error(const NAME_context *context)
{
    return cudaGetErrorString(context->error);
}

/* Memory of a state, with its first value, or zeros. */
static inline int model_state(session *s, int number, size_t bytes, const char *first)
{
    size_t held = 0;
    if (model_grow(s, &s->state[number], &held, bytes))
        return 1;
    if (first)
        return model_refused(s, cudaMemcpyAsync(s->state[number], first, bytes, cudaMemcpyDeviceToDevice, 0));
    return model_refused(s, cudaMemsetAsync(s->state[number], 0, bytes, 0));
}

int NAME_create(const void *weights, NAME_context **result)
{
    const size_t bytes = WEIGHT_BYTES, status_bytes = 2 * STATUS_COUNT * sizeof(int64_t);
    size_t held = 0, cells = 0, statuses = 0;
    int failed = 0;
    session *s = (session *)calloc(1, sizeof *s);
    if (!s)
        return AINO_OUT_OF_MEMORY;
    (void)model_state;
    failed = model_grow(s, &s->weights, &held, bytes)
             || model_grow(s, (char **)&s->cells, &cells, TURNS * sizeof *s->cells)
             || model_grow(s, (char **)&s->statuses, &statuses, status_bytes)
             || model_refused(s, cudaMemcpyAsync(s->weights, weights, bytes, cudaMemcpyHostToDevice, 0))
             || model_refused(s, cudaMemsetAsync(s->statuses, 0, status_bytes, 0));MAKE_STATES
    if (failed || model_refused(s, cudaStreamSynchronize(0))) {
        int status = (int)s->status[0];
        NAME_destroy(s);
        return status;
    }
    *result = s;
    return AINO_OK;
}

/* Refuse impossible extents, and make the arena large enough for this run. */
static int model_prepare(session *s)
{
CHECKS
    return model_grow(s, &s->arena, &s->arena_bytes, arena);
}

int NAME_run(NAME_context *context, const void *const *in, void *const *out, void *stream)
{
    session *s = context;
    int status;
    s->in = in;
    s->out = out;
    s->stream = (cudaStream_t)stream;
    s->status[0] = s->status[1] = 0;TAKE_SYMBOLS
    status = model_prepare(s);
    if (status && !s->status[0])
        return status;
    if (!s->status[0])
        model_steps(s, 0, 1);
    if (MODEL_FAILING && !s->status[0])
        model_wait(s);GIVE
    return (int)(s->status[0] + 256 * s->status[1]);
}

void NAME_destroy(NAME_context *context)
{
    session *s = context;
    if (!s)
        return;
    cudaFree(s->weights);
    cudaFree(s->arena);
    cudaFree(s->scratch);
    cudaFree(s->cells);
    cudaFree(s->statuses);
    for (size_t i = 0; i < sizeof s->state / sizeof *s->state; ++i)
        cudaFree(s->state[i]);FREE_SEGMENTS
    free(s);
}"""
