"""The steps of a plan as a function of CUDA C++: launches on a stream, and how a run goes on."""

from __future__ import annotations

from aino_ir.codegen.c.plan_text import PlanText
from aino_ir.codegen.c.steps import STRAIGHT_LINE_STEPS, StepPrinter, origin
from aino_ir.codegen.cstyle.text import wrap
from aino_ir.loops.warp import BLOCK
from aino_ir.plan import BufferKind, Plan, Repeat, Reserve, Run, Step, View, size, walk


class DevicePlanText(PlanText):
    """Names of a plan whose buffers are on a device."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        failing = [
            number
            for number, step in enumerate(walk(plan.steps))
            if isinstance(step, Run) and plan.kernels[step.kernel].function.can_fail
        ]
        self.status_slots = {number: slot for slot, number in enumerate(failing)}

    def view(self, v: View) -> str:
        """The address of a view's first byte; turns are cells on the device."""
        buffer = self.plan.buffers[v.buffer]
        if buffer.kind is BufferKind.TURN:
            return f"CELL({buffer.slot}, {self.dim(v.offset)})"
        return super().view(v)


class DeviceSteps(StepPrinter):
    """Prints the function ``model_steps`` of a plan whose kernels run on a GPU."""

    text: DevicePlanText

    def function(self) -> str:
        """The function that the host runs: straight-line launches, or several parts."""
        steps = self.plan.steps
        if size(steps) <= STRAIGHT_LINE_STEPS:
            made = super().function()
        else:
            self._number, self._parts, self._bound = 0, [], set(self.plan.entry_symbols)
            made = self._in_parts(steps)
        return made.replace("session *s = argument;", "session *s = (session *)argument;")

    def _macros(self, leave: str) -> str:
        return _MACROS.replace("LEAVE", leave)

    def _run(self, number: int, step: Step) -> list[str]:
        assert isinstance(step, Run)
        kernel = self.plan.kernels[step.kernel].function
        together = kernel.threads > 1
        numbers = [
            self.text.dim(kernel.units),
            str(kernel.threads if together else BLOCK),
            str(1 if together else BLOCK),
            self.text.dim(kernel.scratch_bytes),
            str(self.text.status_slots.get(number, -1)),
        ]
        views = "".join(f", {self.text.view(v)}" for v in step.views)
        call = self._with_symbols(kernel, f"LAUNCH({step.kernel}, {', '.join(numbers)}{views});")
        return [*origin(step.nodes), *wrap(f"    {call}")]

    def _element(self, ctype: str, view: View) -> str:
        return f"COUNT({ctype}, {self.text.view(view)})"

    def _reserve(self, number: int, step: Reserve) -> list[str]:
        segment = self.plan.segments[step.segment - 1]
        return [] if segment.per_thread else super()._reserve(number, step)

    def _begin_turn(self, step: Repeat) -> list[str]:
        slot = self.plan.turns.index(step.turn)
        return [f"    STORE(CELL({slot}, 0), {self.text.names[step.turn]});"]

    def _keep_turns(self, view: View, turn: str) -> list[str]:
        return [f"    STORE({self.text.view(view)}, {turn});"]


_MACROS = """\
#define IN(slot, offset) ((char *)s->in[slot] + (offset))
#define OUT(slot, offset) ((char *)s->out[slot] + (offset))
#define STATE(slot, offset) (s->state[slot] + (offset))
#define WEIGHT(offset) (s->weights + (offset))
#define ARENA(offset) (s->arena + (offset))
#define CELL(slot, offset) ((char *)&s->cells[slot] + (offset))
#define SEGMENT(number, offset) (s->segments[number].memory + (offset))
#define FLAG(address) (model_read(s, address, 1) != 0)
#define COUNT(type, address) ((int64_t)(type)model_read(s, address, sizeof(type)))
#define STORE(address, value) model_store(s, address, value)
#define KEEP(number, value) (s->decided[number] = (value))
#define LAUNCH(kernel, units, threads, each, bytes, slot, ...) do { \\
        void *views[] = {__VA_ARGS__, 0}; \\
        if (model_launch(s, kernel, views, (int)(sizeof views / sizeof *views) - 1, syms, \\
                         units, threads, each, bytes, slot)) \\
            LEAVE; \\
    } while (0)
#define DEMAND(condition, code, step) do { \\
        if (s->status[0]) LEAVE; \\
        if (!(condition)) { model_fail(s, code, step); LEAVE; } \\
    } while (0)
#define RESERVE(number, wanted, step) do { \\
        if (model_grow(s, &s->segments[number].memory, &s->segments[number].bytes, \\
                       (size_t)(wanted))) \\
            LEAVE; \\
    } while (0)
#define EXTEND(number, wanted, keep, step) do { \\
        if (model_extend(s, &s->segments[number], (size_t)(wanted), keep)) LEAVE; \\
    } while (0)
#define SYNC() do { if (s->status[0]) LEAVE; } while (0)
"""
