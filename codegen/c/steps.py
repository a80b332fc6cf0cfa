"""The steps of a plan as C: what every thread of a run walks through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.c.limits import as_double, check_condition, late_checks
from aino_ir.codegen.c.plan_text import PlanText, filled
from aino_ir.codegen.c.step_table import step_table
from aino_ir.codegen.cstyle.names import comment
from aino_ir.codegen.cstyle.text import wrap
from aino_ir.loops.stmt import LoopFn
from aino_ir.plan import (
    Bind,
    Branch,
    Extend,
    Repeat,
    Require,
    Reserve,
    Run,
    Step,
    Sync,
    View,
    blocks_of,
    size,
    walk,
)

STRAIGHT_LINE_STEPS = 2000
"""Longer plans become a table, or parts: tens of thousands of calls in one function choke C compilers."""

BlockLines = Callable[[Sequence[Step], "tuple[str, ...]"], "list[str]"]
"""Prints a block inside loops that count with the given symbols."""


C_TYPES = {
    f"{sign}{bits}": f"{'u' if sign == 'u' else ''}int{bits}_t" for sign in "iu" for bits in (8, 16, 32, 64)
}
"""C's name of the dtypes that a symbol's value may be stored in."""


class StepPrinter:
    """Prints the function ``model_steps`` of one plan.

    Args:
        text: the plan's names.
        profile: whether thread 0 notes how long each step takes.
    """

    def __init__(self, text: PlanText, profile: bool = False) -> None:
        self.text = text
        self.plan = text.plan
        self.profile = profile
        self._number = 0
        self._parts: list[str] = []
        self._bound: set[str] = set()

    def function(self) -> str:
        """The function that every thread runs: straight-line calls, a table, or several parts."""
        steps = self.plan.steps
        self._number, self._parts = 0, []
        self._bound = set(self.plan.entry_symbols)
        if size(steps) <= STRAIGHT_LINE_STEPS:
            body = "\n".join(self._block(steps, ()))
            symbols = self._values() + self._symbols()
            return filled(_STRAIGHT_LINE, MACROS=self._macros("return"), SYMBOLS=symbols, BODY=body)
        if self.plan.symbols or any(blocks_of(s) for s in steps):
            return self._in_parts(steps)
        return step_table(self.plan, _NOTE if self.profile else "")

    def _symbols(self) -> str:
        return "\n".join(["", *self.text.thread_symbols()])

    def _values(self) -> str:
        """The thread's own values of the symbols: a copy where steps bind some."""
        if not self.plan.decided:
            return "    const int64_t *syms = s->symbols;"
        copied = len(self.plan.entry_symbols)
        lines = [f"    int64_t syms[{len(self.plan.symbols)}] = {{0}};"]
        if copied:
            lines.append(f"    memcpy(syms, s->symbols, {copied} * sizeof *syms);")
        return "\n".join(lines)

    def _macros(self, leave: str) -> str:
        macros = _MACROS + (_DECIDED_MACROS if self.plan.decided else "")
        return macros.replace("LEAVE", leave) + (_NOTE if self.profile else "")

    # -- parts --------------------------------------------------------------------------------------

    def _in_parts(self, steps: Sequence[Step]) -> str:
        """Long plans that no table can say: functions of a bounded length that call each other."""
        whole = self._part(self._cut(steps, ()), ())
        main = filled(_STRAIGHT_LINE, MACROS="", SYMBOLS=self._values(), BODY=f"    {whole};").lstrip()
        return "\n\n".join([self._macros("return 1"), *self._parts, main])

    def _part(self, body: Sequence[str], turns: tuple[str, ...]) -> str:
        """A new function with this body; what calls it."""
        name = f"model_part_{len(self._parts)}"
        names = [self.text.names[t] for t in turns]
        own = bool(self.plan.decided)  # then the values of symbols are the thread's, and parts set some
        parameters = "".join(f", int64_t {n}" for n in (["*syms"] if own else []) + names)
        symbols = self._symbols().lstrip("\n") if own else self._values() + self._symbols()
        lines = [*(f"    (void){n};" for n in names), *body]
        self._parts.append(filled(_PART, PART=name, TURNS=parameters, SYMBOLS=symbols, BODY="\n".join(lines)))
        arguments = "".join(f", {n}" for n in (["syms"] if own else []) + names)
        return f"{name}(s, scratch, tid, nthreads{arguments})"

    def _cut(self, steps: Sequence[Step], turns: tuple[str, ...]) -> list[str]:
        """The lines of a block; where it is long, calls of parts."""
        if size(steps) <= STRAIGHT_LINE_STEPS:
            return self._block(steps, turns)
        lines: list[str] = []
        waiting: list[Step] = []

        def flush() -> None:
            if waiting:
                call = self._part(self._block(waiting, turns), turns)
                lines.extend([f"    if ({call})", "        return 1;"])
                bound = [s.symbol for s in walk(waiting) if isinstance(s, Bind)]
                lines.extend(f"    {self._name(n)} = syms[{self.plan.symbols.index(n)}];" for n in bound)
                waiting.clear()

        room = STRAIGHT_LINE_STEPS
        for step in steps:
            here = size([step])
            if here > room:
                flush()
                room = STRAIGHT_LINE_STEPS
            if here > room:
                lines += self._step(step, turns, self._cut)
                continue
            waiting.append(step)
            room -= here
        flush()
        return lines

    # -- steps --------------------------------------------------------------------------------------

    def _block(self, steps: Sequence[Step], turns: tuple[str, ...]) -> list[str]:
        """The lines of a block of steps, inside loops that count with `turns`."""
        return [line for step in steps for line in self._step(step, turns, self._block)]

    def _step(self, step: Step, turns: tuple[str, ...], inner: BlockLines) -> list[str]:
        number = self._number
        self._number += 1
        if isinstance(step, Branch):
            return self._branch(number, step, turns, inner)
        if isinstance(step, Repeat):
            return self._repeat(number, step, turns, inner)
        return [*self._action(number, step), *self._note(number)]

    def _action(self, number: int, step: Step) -> list[str]:
        if isinstance(step, Sync):
            return ["    SYNC();"]
        if isinstance(step, Bind):
            return self._bind(number, step)
        if isinstance(step, Require):
            condition = check_condition(step.check, self._name)
            return [f"    /* {comment(step.check.what)} */", self._demand(condition, "BAD_SHAPE", number)]
        if isinstance(step, Reserve):
            return self._reserve(number, step)
        if isinstance(step, Extend):
            return self._extend(number, step)
        return self._run(number, step)

    def _note(self, number: int) -> list[str]:
        return [f"    NOTE({number});"] if self.profile else []

    def _run(self, number: int, step: Step) -> list[str]:
        assert isinstance(step, Run)
        kernel = self.plan.kernels[step.kernel].function
        views = ", ".join(self.text.view(v) for v in step.views)
        macro = "RUN_CHECKED" if kernel.can_fail else "RUN"
        tail = f", {number}" if kernel.can_fail else ""
        units = self.text.dim(kernel.units) if step.partition == "static" else "-1"
        if units == "-1":
            units, macro = self.text.dim(kernel.units), macro + "_ONE"
        call = self._with_symbols(kernel, f"{macro}({step.kernel}, {units}{tail}, {views});")
        if step.kernel in self.plan.scratch_segments:
            segment = self.plan.scratch_segments[step.kernel] - 1
            own = self.text.dim(self.plan.segments[segment].bytes)
            call = f"{{ char *scratch = SEGMENT({segment}, tid * ({own})); {call} }}"
        return [*origin(step.nodes), *wrap(f"    {call}")]

    def _bind(self, number: int, step: Bind) -> list[str]:
        """Every thread reads the value, after the barrier behind the kernel that wrote it."""
        plan, name = self.plan, self._name(step.symbol)
        ctype = C_TYPES[step.source.dtype.name]
        conditions = [
            f"{name} {relation} {self.text.dim(bound)}"
            for relation, bound in ((">=", step.lo), ("<=", step.hi))
            if bound is not None
        ]
        conditions += [f"{name} % {step.step} == 0"] if step.step > 1 else []
        position = plan.symbols.index(step.symbol)
        lines = [
            f"    {name} = syms[{position}] = {self._element(ctype, step.source)};",
            f"    KEEP({position - len(plan.entry_symbols)}, {name});",
        ]
        self._bound.add(step.symbol)
        conditions += late_checks(plan, step.symbol, self._bound, self._name)
        return [*lines, *(self._demand(c, "BAD_SHAPE", number) for c in conditions)]

    def _reserve(self, number: int, step: Reserve) -> list[str]:
        """Thread 0 makes the segment large enough; a barrier stands before its first use."""
        segment = self.plan.segments[step.segment - 1]
        bytes_, times = self.text.dim(segment.bytes), " * nthreads" if segment.per_thread else ""
        limit = f"{as_double(segment.bytes, self._name)} <= {float(self.text.largest_bytes)!r}"
        reserve = f"    RESERVE({step.segment - 1}, ({bytes_}){times}, {number});"
        return [self._demand(limit, "LIMIT_EXCEEDED", number), reserve]

    def _extend(self, number: int, step: Extend) -> list[str]:
        """The segment grows by half at least, so that growing turn by turn costs little."""
        segment = self.plan.buffers[step.buffer].segment - 1
        limit = f"{as_double(step.bytes, self._name)} <= {float(self.text.largest_bytes)!r}"
        extend = f"    EXTEND({segment}, {self.text.dim(step.bytes)}, {int(step.keep)}, {number});"
        return [self._demand(limit, "LIMIT_EXCEEDED", number), extend]

    @staticmethod
    def _demand(condition: str, status: str, number: int) -> str:
        return f"    DEMAND({condition}, AINO_{status}, {number});"

    def _name(self, symbol: str) -> str:
        return self.text.names[symbol]

    def _with_symbols(self, kernel: LoopFn, call: str) -> str:
        """A call in a block with the kernel's own symbols, unless the plan's begin with the same."""
        if tuple(self.plan.symbols[: len(kernel.symbols)]) == kernel.symbols:
            return call
        values = ", ".join(self.text.names[s] for s in kernel.symbols)
        return f"{{ const int64_t syms[] = {{{values}}}; {call} }}"

    # -- control flow -------------------------------------------------------------------------------

    def _branch(self, number: int, step: Branch, turns: tuple[str, ...], inner: BlockLines) -> list[str]:
        lines = [*origin(step.nodes), *self._note(number)]
        lines += [f"    if (FLAG({self.text.view(step.condition)})) {{", *_indented(inner(step.then, turns))]
        otherwise = inner(step.otherwise, turns)
        if otherwise:
            lines += ["    } else {", *_indented(otherwise)]
        return [*lines, "    }"]

    def _repeat(self, number: int, step: Repeat, turns: tuple[str, ...], inner: BlockLines) -> list[str]:
        """A loop; its variable counts finished turns and is what views inside are offset by."""
        turn, limit = self.text.names[step.turn], self.text.names[f"{step.turn}limit"]
        lines = [*origin(step.nodes), *self._note(number)]
        most = self._limit(step)
        lines += [
            f"    int64_t {turn} = 0;",
            f"    const int64_t {limit} = {most};",
            f"    while ({turn} < {limit}) {{",
        ]
        body = [*self._begin_turn(step), *inner(step.body, (*turns, step.turn))]
        if step.again is None:
            body += [f"    ++{turn};", *self._note(number)]
        else:
            again = self.text.names[f"{step.turn}again"]
            body += [
                f"    const int {again} = FLAG({self.text.view(step.again)});",
                f"    ++{turn};",
                *self._note(number),
                f"    if (!{again})",
                "        break;",
            ]
        lines += [*_indented(body), "    }"]
        if step.turns is not None:
            lines += self._keep_turns(step.turns, turn)
        return ["    {", *_indented(lines), "    }"]

    def _element(self, ctype: str, view: View) -> str:
        """An element that a kernel has written."""
        return f"*(const {ctype} *){self.text.view(view)}"

    def _begin_turn(self, step: Repeat) -> list[str]:
        """What else is done when a turn begins."""
        return []

    def _keep_turns(self, view: View, turn: str) -> list[str]:
        """Keep how many turns there were."""
        return [f"    if (tid == 0) *(int64_t *){self.text.view(view)} = {turn};"]

    def _limit(self, step: Repeat) -> str:
        """Turns at most."""
        if step.count is None:
            most = "INT64_MAX"
        elif isinstance(step.count, View):
            most = f"COUNT({C_TYPES[step.count.dtype.name]}, {self.text.view(step.count)})"
        else:
            most = self.text.dim(step.count)
        return most if step.start is None else f"FLAG({self.text.view(step.start)}) ? {most} : 0"


def origin(nodes: Sequence[str]) -> list[str]:
    """A comment that says which nodes of the model a step is."""
    return [f"    /* {comment(', '.join(nodes[:4]))} */"] if nodes else []


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


_MACROS = """\
#define IN(slot, offset) ((char *)s->in[slot] + (offset))
#define OUT(slot, offset) ((char *)s->out[slot] + (offset))
#define STATE(slot, offset) (s->state[slot] + (offset))
#define WEIGHT(offset) ((char *)s->weights + (offset))
#define ARENA(offset) (s->arena + (offset))
#define TURN(variable, offset) ((char *)&(variable) + (offset))
#define FLAG(address) (*(const unsigned char *)(address) != 0)
#define COUNT(type, address) ((int64_t)*(const type *)(address))
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

_DECIDED_MACROS = """\
#define SEGMENT(number, offset) (s->segments[number].memory + (offset))
#define KEEP(number, value) do { if (tid == 0) s->decided[number] = (value); } while (0)
#define DEMAND(condition, code, step) do { \\
        if (!(condition)) { aino_fail(s->status, code, step); LEAVE; } \\
    } while (0)
#define RESERVE(number, bytes, step) do { \\
        if (tid == 0 && !model_reserve(&s->segments[number], (size_t)(bytes))) { \\
            aino_fail(s->status, AINO_OUT_OF_MEMORY, step); \\
            LEAVE; \\
        } \\
    } while (0)
#define EXTEND(number, wanted, keep, step) do { \\
        if (!s->segments[number].memory || (size_t)(wanted) > s->segments[number].bytes) { \\
            SYNC(); \\
            if (tid == 0 && !model_extend(&s->segments[number], (size_t)(wanted), keep)) { \\
                aino_fail(s->status, AINO_OUT_OF_MEMORY, step); \\
                LEAVE; \\
            } \\
            SYNC(); \\
        } \\
    } while (0)
"""

_STRAIGHT_LINE = """\
MACROS
/* The model, as every thread walks through it. */
static void model_steps(void *argument, int tid, int nthreads)
{
    session *s = argument;
SYMBOLS
    char *scratch = s->scratch + (size_t)tid * s->scratch_bytes;
    (void)syms;
    (void)scratch;
    (void)nthreads;
BODY
}"""

_PART = """\
/* Steps of the model; returns 1 when all threads leave. */
static int PART(session *s, char *scratch, int tid, int nthreadsTURNS)
{
SYMBOLS
    (void)syms;
    (void)scratch;
    (void)nthreads;
BODY
    return 0;
}"""

_NOTE = """\
#define NOTE(step) do { if (s->times && tid == 0) model_note(s, step); } while (0)

/* The time since the last note was spent on this step. */
static void model_note(session *s, int64_t step)
{
    int64_t now = aino_now();
    s->times[2 * step] += now - s->noted;
    s->times[2 * step + 1] += 1;
    s->noted = now;
}

"""
