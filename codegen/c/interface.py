"""The public face of a compiled model: its header, and the functions behind it."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.c.limits import limit_checks
from aino_ir.codegen.c.plan_text import PlanText, filled
from aino_ir.codegen.cstyle.names import comment, string_lines
from aino_ir.dims import Dim, DimLike, dmax, free_symbols, is_static
from aino_ir.plan import Bind, BufferKind, Extend, Plan, Repeat, Run, Step, Sync, View, blocks_of, runs, walk

ABI_VERSION = 2

BYTE_WORK = 4
"""Operations that take as long as moving one byte to or from memory, roughly."""

SYNC_WORK = 40_000
"""Operations that take as long as threads need to wait for all, roughly: 1 us."""


ANY_THREADS = " * One context may be used by any number of threads at a time.\n"


def header_text(plan: Plan, alignment: int = 64, remarks: str = ANY_THREADS) -> str:
    """The public header of a plan.

    Args:
        plan: the plan.
        alignment: bytes to which the weights must be aligned.
        remarks: lines of the comment that say who may use a context.
    """
    name, guard = plan.name, f"{plan.name.upper()}_H"
    given_text = _GIVEN if given_outputs(plan) else ""
    interface = "\n".join(f" *   {place:8} {comment(what)}" for place, what in _values(plan))
    return f"""/* {name}: a model compiled by AINO.
 *
{interface}
 *
 * All pointers must be valid for the whole tensors above; inputs and outputs must not overlap.
{given_text}{remarks} */
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

typedef struct {name}_context {name}_context;

/* Version of this interface ({ABI_VERSION}). */
int {name}_abi(void);

/* Make a context.  `weights` ({alignment}-byte aligned, {name}.weights) must outlive it; runs use up to
 * `nthreads` threads.  Returns 0, or a code of aino_status.h. */
int {name}_create(const void *weights, int nthreads, {name}_context **context);

/* Run the model.  Returns 0, or code + 256 * step of the first failure. */
int {name}_run({name}_context *context, const void *const *in, void *const *out);

/* Inputs, outputs and symbols as JSON. */
const char *{name}_describe(void);

/* Free a context; no run may be under way. */
void {name}_destroy({name}_context *context);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""


def _values(plan: Plan) -> list[tuple[str, str]]:
    """(place, what) of everything that a run is given and gives."""
    values = [(f"in[{i}]", f"{n}: {t}") for i, (n, t) in enumerate(plan.inputs)]
    if plan.entry_symbols:
        symbols = f"int64_t[{len(plan.entry_symbols)}]: {', '.join(plan.entry_symbols)}"
        values.append((f"in[{len(plan.inputs)}]", symbols))
    given = given_outputs(plan)
    for i, (n, t) in enumerate(plan.outputs):
        values.append((f"out[{i}]", f"{'void *[1], to ' if i in given else ''}{n}: {t}"))
    if plan.decided:
        symbols = f"int64_t[{len(plan.decided)}]: {', '.join(plan.decided)}"
        values.append((f"out[{len(plan.outputs)}]", symbols))
    return values


_GIVEN = """\
 * A "void *[1]" gets the address of a tensor whose extents the run decides; it is the caller's, who frees
 * it with free() (on Windows with _aligned_free()).  When a run fails, none is given.
"""


def given_outputs(plan: Plan) -> dict[int, int]:
    """The segment of each output whose memory the model allocates, since only the run decides its size."""
    return {s.output: number for number, s in enumerate(plan.segments) if s.output >= 0}


class InterfacePrinter:
    """Prints the session of a run and the functions of the interface.

    Args:
        text: the plan's names.
        alone_below, profile: as for `print_program`.

    Attributes:
        includes: lines that include what the functions need beside the runtime.
        profiles: whether it can measure steps.
        runner: the function that runs the steps; this one on all threads alike.
    """

    includes: tuple[str, ...] = ("#include <string.h>",)
    profiles = True
    runner = "aino_pool_run"

    def __init__(self, text: PlanText, alone_below: int = 0, profile: bool = False) -> None:
        self.text = text
        self.plan = text.plan
        self.alone_below = alone_below
        self.profile = profile
        self.total = work_of(self.plan)

    def header(self) -> str:
        """The public header."""
        return header_text(self.plan)

    def functions(self, description: str) -> str:
        """The functions that the header declares, and what they need."""
        name = self.plan.name
        return filled(
            _API,
            NAME=name,
            ABI_VERSION=str(ABI_VERSION),
            DESCRIPTION="\n    ".join(string_lines(description)),
            RUN_SETUP=self._setup(),
            SYMBOL_INPUT=str(len(self.plan.inputs)),
            STATE_SETUP=self._state_setup(),
            HAS_SYMBOLS="1" if self.plan.entry_symbols else "0",
            GIVE=self._give(),
            FREE_SEGMENTS=self._release(),
            RUN_SIGNATURE=self._run_signature(),
            SET_TIMES="\n    s->times = times;" if self.profile else "",
            NOTE_START="\n        s->noted = times ? aino_now() : 0;" if self.profile else "",
            RUN_THREADS=self._threads(),
            RUNNER=self.runner,
            PROFILE_ENTRY=filled(_PROFILE_ENTRY, NAME=name) if self.profile else "",
        )

    def session(self) -> str:
        """The struct that a run keeps for itself."""
        symbols = max(1, len(self.plan.entry_symbols))
        extends = any(isinstance(s, Extend) for s in walk(self.plan.steps))
        helpers = (_RESERVE if self.plan.decided else "") + (_EXTEND if extends else "")
        return f"""{helpers}/* What one run needs for itself. */
typedef struct {{
    const void *const *in;
    void *const *out;
    const char *weights;
    char *const *state;
    char *arena;
    size_t arena_bytes;
    char *scratch;
    size_t scratch_bytes; /* of one thread */
    int nthreads;
    int64_t symbols[{symbols}];{self._decided()}
    int64_t status[2]; /* code, step */{self._times()}
    aino_barrier barrier;
}} session;

#define MODEL_STATES {max(1, len(self.plan.states))}"""

    def _decided(self) -> str:
        """The session's members for symbols that steps bind, and the memory whose size depends on them."""
        if not self.plan.decided:
            return ""
        count = max(1, len(self.plan.segments))
        return f"\n    int64_t decided[{len(self.plan.decided)}];\n    model_segment segments[{count}];"

    def _give(self) -> str:
        """Statements that hand over what the run has decided, and the outputs that it has allocated."""
        if not self.plan.decided:
            return ""
        lines = [f"        memcpy(out[{len(self.plan.outputs)}], s->decided, sizeof s->decided);"]
        lines += [
            f"        *(void **)out[{slot}] = model_take(&s->segments[{number}]);"
            for slot, number in sorted(given_outputs(self.plan).items())
        ]
        return "\n".join(["", "    if (!status) {", *lines, "    }"])

    def _release(self) -> str:
        """Statements that free the segments of a session."""
        frees = [f"    aino_free(s->segments[{n}].memory);" for n in range(len(self.plan.segments))]
        return "".join(f"\n{line}" for line in frees)

    def _times(self) -> str:
        """The session's member for the times of a profile."""
        return (
            "\n    int64_t *times; /* of each step: ns in it, times that it was reached; or NULL */"
            "\n    int64_t noted;  /* when the last step ended */"
            if self.profile
            else ""
        )

    def _run_signature(self) -> str:
        parameters = f"{self.plan.name}_context *context, const void *const *in, void *const *out"
        if self.profile:
            return f"static int model_run({parameters}, int64_t *times)"
        return f"int {self.plan.name}_run({parameters})"

    def _threads(self) -> str:
        """How many threads a run uses: all, or one when there is too little to share."""
        if not self.alone_below or not any(runs(self.plan)):
            return "context->nthreads"
        work = self.total
        if self.plan.is_decided(work):
            return "context->nthreads"
        if is_static(work):
            return "1" if int(work) < self.alone_below else "context->nthreads"  # type: ignore[arg-type]
        return f"model_work(s) < {self.alone_below} ? 1 : context->nthreads"

    def work(self) -> str:
        """The function that says how much work a run with these symbols is."""
        if "model_work" not in self._threads():
            return ""
        return filled(_WORK, SYMBOLS="\n".join(self.text.symbols()), VALUE=self.text.dim(self.total))

    def _setup(self) -> str:
        """Statements that refuse impossible extents and size the arena for this run's symbols."""
        lines = [
            *self.text.symbols(),
            *limit_checks(self.plan, lambda symbol: self.text.names[symbol], self.text.largest_bytes),
        ]
        lines.append(f"    size_t arena = (size_t)({self.text.dim(self.plan.arena_bytes)}) + AINO_LINE;")
        lines.append(f"    size_t scratch = (size_t)({self.text.dim(self.plan.scratch_bytes)}) + AINO_LINE;")
        return "\n".join(lines)

    def _state_setup(self) -> str:
        lines = []
        for b in self.plan.buffers:
            if b.kind is BufferKind.STATE:
                lines.append(f"    context->state[{b.slot}] = aino_alloc({self.text.dim(b.bytes)});")
                lines.append(f"    if (!context->state[{b.slot}]) {{ failed = 1; }}")
                first = f"memset(context->state[{b.slot}], 0, {self.text.dim(b.bytes)});"
                if b.const is not None and b.offset is not None:
                    source = f"(const char *)weights + {self.text.dim(b.offset)}"
                    first = f"memcpy(context->state[{b.slot}], {source}, {self.text.dim(b.bytes)});"
                lines.append(f"    else {first}")
        return "\n".join(lines)


def work_of(plan: Plan) -> DimLike:
    """Operations of a run, and bytes times BYTE_WORK, less what it costs that threads wait for each other.

    Loops count as often as is known then, or once; what the run decides counts with its upper bound, where
    there is one.
    """

    def total(steps: Sequence[Step]) -> DimLike:
        work: DimLike = 0
        for step in steps:
            if isinstance(step, Run):
                work = work + step.flops + BYTE_WORK * step.moved_bytes
            if isinstance(step, Sync):
                work = work - SYNC_WORK
            inner: DimLike = sum((total(block) for block in blocks_of(step)), start=0)
            if isinstance(step, Repeat) and not isinstance(step.count, View | None):
                if free_symbols(step.count) <= set(plan.symbols):
                    inner = inner * dmax(step.count, 0)
            work = work + inner
        return work

    work = total(plan.steps)
    highest = {s.symbol: s.hi for s in walk(plan.steps) if isinstance(s, Bind) and s.hi is not None}
    for name in reversed(plan.decided):
        if isinstance(work, Dim) and name in highest:
            work = work.substitute({name: highest[name]})
    return work


_RESERVE = """\
/* Memory that grows when a run needs more. */
typedef struct { char *memory; size_t bytes; } model_segment;

/* Make room for `bytes`; what was there is lost.  Returns 0 when there is no memory. */
static int model_reserve(model_segment *segment, size_t bytes)
{
    if (segment->memory && bytes <= segment->bytes)
        return 1;
    aino_free(segment->memory);
    segment->memory = aino_alloc(bytes);
    segment->bytes = segment->memory ? bytes : 0;
    return segment->memory != 0;
}

/* Take the memory out, for good. */
static inline char *model_take(model_segment *segment)
{
    char *memory = segment->memory;
    segment->memory = 0;
    segment->bytes = 0;
    return memory;
}

"""

_EXTEND = """\
/* Make room for `bytes`, and for half as much again as there was; what was there stays if `keep`. */
static int model_extend(model_segment *segment, size_t bytes, int keep)
{
    model_segment wider = {0, 0};
    if (bytes < segment->bytes + segment->bytes / 2)
        bytes = segment->bytes + segment->bytes / 2;
    if (!model_reserve(&wider, bytes))
        return 0;
    if (keep && segment->memory)
        memcpy(wider.memory, segment->memory, segment->bytes);
    aino_free(segment->memory);
    *segment = wider;
    return 1;
}

"""

_WORK = """\
/* Operations of a run, and what moving its bytes is worth in operations. */
static int64_t model_work(const session *s)
{
SYMBOLS
    return VALUE;
}"""

_PROFILE_ENTRY = """

int NAME_run(NAME_context *context, const void *const *in, void *const *out)
{
    return model_run(context, in, out, 0);
}

__attribute__((visibility("default")))
int NAME_profile(NAME_context *context, const void *const *in, void *const *out, int64_t *times);

/* A run that adds to times[2 * i] the ns in step i, and to times[2 * i + 1] how often it is reached. */
int NAME_profile(NAME_context *context, const void *const *in, void *const *out, int64_t *times)
{
    return model_run(context, in, out, times);
}"""

_API = """\
struct NAME_context {
    const char *weights;
    int nthreads;
    aino_pool *pool;
    aino_freelist sessions;
    char *state[MODEL_STATES];
};

/* Make the session's memory large enough for this run. */
static int session_prepare(session *s, int nthreads)
{
RUN_SETUP
    if (arena > s->arena_bytes) {
        aino_free(s->arena);
        s->arena = aino_alloc(arena);
        s->arena_bytes = s->arena ? arena : 0;
    }
    if (scratch > s->scratch_bytes || nthreads > s->nthreads) {
        scratch = (scratch + 4095) / 4096 * 4096;
        aino_free(s->scratch);
        s->scratch = aino_alloc(scratch * (size_t)nthreads);
        s->scratch_bytes = s->scratch ? scratch : 0;
        s->nthreads = nthreads;
    }
    return s->arena && s->scratch ? AINO_OK : AINO_OUT_OF_MEMORY;
}

static void session_destroy(session *s)
{
    aino_free(s->arena);
    aino_free(s->scratch);FREE_SEGMENTS
    aino_free(s);
}

int NAME_abi(void)
{
    return ABI_VERSION;
}

const char *NAME_describe(void)
{
    return DESCRIPTION;
}

int NAME_create(const void *weights, int nthreads, NAME_context **result)
{
    int failed = 0;
    NAME_context *context = aino_alloc(sizeof *context);
    if (!context)
        return AINO_OUT_OF_MEMORY;
    context->weights = weights;
    context->nthreads = nthreads < 1 ? 1 : nthreads;
    aino_freelist_init(&context->sessions);
    for (int i = 0; i < MODEL_STATES; ++i)
        context->state[i] = 0;
    context->pool = aino_pool_create(context->nthreads);
    if (!context->pool)
        failed = 1;
STATE_SETUP
    if (failed) {
        NAME_destroy(context);
        return AINO_OUT_OF_MEMORY;
    }
    *result = context;
    return AINO_OK;
}

RUN_SIGNATURE
{
    session *s = aino_freelist_take(&context->sessions);
    int status, nthreads;
    if (!s) {
        s = aino_alloc(sizeof *s);
        if (!s)
            return AINO_OUT_OF_MEMORY;
        memset(s, 0, sizeof *s);
    }
    s->in = in;
    s->out = out;
    s->weights = context->weights;
    s->state = context->state;SET_TIMES
    if (HAS_SYMBOLS)
        memcpy(s->symbols, in[SYMBOL_INPUT], sizeof s->symbols);
    s->status[0] = s->status[1] = 0;
    nthreads = RUN_THREADS;
    status = session_prepare(s, nthreads);
    if (!status) {
        aino_barrier_init(&s->barrier, s->status);NOTE_START
        RUNNER(context->pool, nthreads, model_steps, s);
        status = (int)(s->status[0] + 256 * s->status[1]);
    }GIVE
    if (!aino_freelist_put(&context->sessions, s))
        session_destroy(s);
    return status;
}PROFILE_ENTRY

void NAME_destroy(NAME_context *context)
{
    session *s;
    if (!context)
        return;
    while ((s = aino_freelist_take(&context->sessions)))
        session_destroy(s);
    for (int i = 0; i < MODEL_STATES; ++i)
        aino_free(context->state[i]);
    if (context->pool)
        aino_pool_destroy(context->pool);
    aino_free(context);
}"""
