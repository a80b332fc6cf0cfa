"""The steps of a plan as C: what every thread of a run walks through."""

from __future__ import annotations

from aino_ir.codegen.c.plan_text import PlanText, filled
from aino_ir.codegen.c.step_table import step_table
from aino_ir.codegen.cstyle.names import comment
from aino_ir.codegen.cstyle.text import wrap
from aino_ir.loops.stmt import LoopFn
from aino_ir.plan import Run, Step, Sync

STRAIGHT_LINE_STEPS = 2000
"""Longer plans become a table, or parts: tens of thousands of calls in one function choke C compilers."""


class StepPrinter:
    """Prints the function ``model_steps`` of one plan.

    Args:
        text: the plan's names.
        profile: whether thread 0 notes the time after each step.
    """

    def __init__(self, text: PlanText, profile: bool = False) -> None:
        self.text = text
        self.plan = text.plan
        self.profile = profile

    def function(self) -> str:
        """The function that every thread runs: straight-line calls, a table, or several parts."""
        steps = self.plan.steps
        if len(steps) <= STRAIGHT_LINE_STEPS:
            return self._straight_line(steps)
        if self.plan.symbols:
            return self._parts(steps)
        return step_table(self.plan, _NOTE if self.profile else "")

    def _straight_line(self, steps: list[Step]) -> str:
        return filled(
            _STRAIGHT_LINE,
            MACROS=self._macros("return"),
            SYMBOLS="\n".join(["", *self.text.symbols()]),
            BODY="\n".join(self._step(number, step) for number, step in enumerate(steps)),
        )

    def _parts(self, steps: list[Step]) -> str:
        """Long plans with symbols: functions of a bounded length, called in turn."""
        parts = [self._macros("return 1")]
        calls: list[str] = []
        for start in range(0, len(steps), STRAIGHT_LINE_STEPS):
            lines = [
                self._step(start + i, s) for i, s in enumerate(steps[start : start + STRAIGHT_LINE_STEPS])
            ]
            name = f"model_part_{len(calls)}"
            symbols = "\n".join(["", *self.text.symbols()])
            parts.append(filled(_PART, PART=name, SYMBOLS=symbols, BODY="\n".join(lines)))
            calls.append(f"    if ({name}(s, scratch, tid, nthreads))\n        return;")
        parts.append(filled(_STRAIGHT_LINE, MACROS="", SYMBOLS="", BODY="\n".join(calls)).lstrip())
        return "\n\n".join(parts)

    def _macros(self, leave: str) -> str:
        return _MACROS.replace("LEAVE", leave) + (_NOTE if self.profile else "")

    def _step(self, number: int, step: Step) -> str:
        return self._action(number, step) + (f"\n    NOTE({number});" if self.profile else "")

    def _action(self, number: int, step: Step) -> str:
        if isinstance(step, Sync):
            return "    SYNC();"
        assert isinstance(step, Run)
        kernel = self.plan.kernels[step.kernel].function
        views = ", ".join(self.text.view(v) for v in step.views)
        macro = "RUN_CHECKED" if kernel.can_fail else "RUN"
        tail = f", {number}" if kernel.can_fail else ""
        units = self.text.dim(kernel.units) if step.partition == "static" else "-1"
        if units == "-1":
            units, macro = self.text.dim(kernel.units), macro + "_ONE"
        where = f"    /* {comment(', '.join(step.nodes[:4]))} */\n" if step.nodes else ""
        call = self._with_symbols(kernel, f"{macro}({step.kernel}, {units}{tail}, {views});")
        return where + "\n".join(wrap(f"    {call}"))

    def _with_symbols(self, kernel: LoopFn, call: str) -> str:
        """A call in a block with the kernel's own symbols, unless the plan's begin with the same."""
        if tuple(self.plan.symbols[: len(kernel.symbols)]) == kernel.symbols:
            return call
        values = ", ".join(self.text.names[s] for s in kernel.symbols)
        return f"{{ const int64_t syms[] = {{{values}}}; {call} }}"


_MACROS = """\
#define IN(slot, offset) ((char *)s->in[slot] + (offset))
#define OUT(slot, offset) ((char *)s->out[slot] + (offset))
#define STATE(slot, offset) (s->state[slot] + (offset))
#define WEIGHT(offset) ((char *)s->weights + (offset))
#define ARENA(offset) (s->arena + (offset))
#define CALL(kernel, views, first, last) \\
    if ((first) < (last)) kernel(views, syms, scratch, first, last)
#define RUN(kernel, units, ...) do { \\
        void *const views[] = {__VA_ARGS__}; \\
        int64_t first, last; \\
        aino_share(units, tid, nthreads, &first, &last); \\
        CALL(kernel, views, first, last); \\
    } while (0)
#define RUN_ONE(kernel, units, ...) do { \\
        void *const views[] = {__VA_ARGS__}; \\
        if (tid == 0) CALL(kernel, views, (int64_t)0, (int64_t)(units)); \\
    } while (0)
#define RUN_CHECKED(kernel, units, step, ...) do { \\
        int64_t status[2] = {0, 0}, first, last; \\
        void *const views[] = {__VA_ARGS__, status}; \\
        aino_share(units, tid, nthreads, &first, &last); \\
        CALL(kernel, views, first, last); \\
        if (status[0]) { aino_fail(s->status, status[0], step); LEAVE; } \\
    } while (0)
#define RUN_CHECKED_ONE(kernel, units, step, ...) do { \\
        int64_t status[2] = {0, 0}; \\
        void *const views[] = {__VA_ARGS__, status}; \\
        if (tid == 0) CALL(kernel, views, (int64_t)0, (int64_t)(units)); \\
        if (status[0]) { aino_fail(s->status, status[0], step); LEAVE; } \\
    } while (0)
#define SYNC() do { if (aino_barrier_wait(&s->barrier, nthreads)) LEAVE; } while (0)
"""

_STRAIGHT_LINE = """\
MACROS
/* The model, as every thread walks through it. */
static void model_steps(void *argument, int tid, int nthreads)
{
    session *s = argument;
    const int64_t *syms = s->symbols;SYMBOLS
    char *scratch = s->scratch + (size_t)tid * s->scratch_bytes;
    (void)syms;
    (void)scratch;
    (void)nthreads;
BODY
}"""

_PART = """\
/* Steps of the model; returns 1 when all threads leave. */
static int PART(session *s, char *scratch, int tid, int nthreads)
{
    const int64_t *syms = s->symbols;SYMBOLS
    (void)syms;
    (void)scratch;
    (void)nthreads;
BODY
    return 0;
}"""

_NOTE = """\
#define NOTE(step) do { if (s->times && tid == 0) s->times[(step) + 1] = model_now(); } while (0)

static int64_t model_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

"""
