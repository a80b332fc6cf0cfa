"""The steps of a very long plan as data, and the function that walks through them (static shapes only)."""

from __future__ import annotations

from aino_ir.codegen.c.plan_text import filled
from aino_ir.dims import DimLike, is_static
from aino_ir.plan import BufferKind, Plan, Run, Sync, View


def step_table(plan: Plan, note: str = "") -> str:
    """The table of a plan's steps and the function ``model_steps``.

    Args:
        plan: a plan without symbols.
        note: the definition of the macro NOTE, which is then used after each step; empty for none.
    """
    views: list[str] = []
    rows = []
    runs = [s for s in plan.steps if isinstance(s, Run)]
    for step in plan.steps:
        if isinstance(step, Sync):
            rows.append("    {0, 0, 0, -1, 0},")
            continue
        assert isinstance(step, Run)
        kernel = plan.kernels[step.kernel].function
        flags = (1 if kernel.can_fail else 0) | (2 if step.partition == "one" else 0)
        units = _number(kernel.units)
        rows.append(f"    {{{step.kernel}, {len(views)}, {len(step.views)}, {units}, {flags}}},")
        views += [_table_view(plan, v) for v in step.views]
    return filled(
        _TABLE,
        VIEWS="\n".join(f"    {v}," for v in views) or "    {0, 0, 0},",
        ROWS="\n".join(rows),
        MOST_VIEWS=str(max((len(r.views) for r in runs), default=0) + 1),
        MACROS=note,
        NOTED="\n        NOTE((int64_t)step);" if note else "",
    )


def _table_view(plan: Plan, v: View) -> str:
    buffer = plan.buffers[v.buffer]
    space = list(BufferKind).index(buffer.kind)
    base = buffer.offset if buffer.kind in (BufferKind.ARENA, BufferKind.CONST) else 0
    assert base is not None
    return f"{{{space}, {max(buffer.slot, 0)}, {_number(base + v.offset)}}}"


def _number(d: DimLike) -> int:
    return int(d) if is_static(d) else 0  # type: ignore[arg-type]


_TABLE = """\
static const struct { int space; int slot; int64_t offset; } model_views[] = {
VIEWS
};
/* kernel (0: all threads wait), first view, views, units, flags (1: can fail, 2: one thread) */
static const struct { model_kernel *kernel; int first, count; int64_t units; int flags; } model_table[] = {
ROWS
};

static char *model_view(const session *s, int index)
{
    int slot = model_views[index].slot;
    char *bases[] = {0, 0, s->arena, (char *)s->weights, 0};
    char *base = bases[model_views[index].space];
    if (model_views[index].space == 0) base = (char *)s->in[slot];
    if (model_views[index].space == 1) base = (char *)s->out[slot];
    if (model_views[index].space == 4) base = s->state[slot];
    return base + model_views[index].offset;
}

MACROS/* The model, as every thread walks through it. */
static void model_steps(void *argument, int tid, int nthreads)
{
    session *s = argument;
    char *scratch = s->scratch + (size_t)tid * s->scratch_bytes;
    for (size_t step = 0; step < sizeof model_table / sizeof *model_table; ++step) {
        void *views[MOST_VIEWS];
        int64_t status[2] = {0, 0}, first = 0, last = model_table[step].units;
        if (!model_table[step].kernel) {
            if (aino_barrier_wait(&s->barrier, nthreads)) return;NOTED
            continue;
        }
        for (int i = 0; i < model_table[step].count; ++i)
            views[i] = model_view(s, model_table[step].first + i);
        views[model_table[step].count] = status;
        if (model_table[step].flags & 2)
            last = tid == 0 ? last : 0;
        else
            aino_share(model_table[step].units, tid, nthreads, &first, &last);
        if (first < last)
            model_table[step].kernel(views, s->symbols, scratch, first, last);
        if (status[0]) {
            aino_fail(s->status, status[0], (int64_t)step);
            return;
        }NOTED
    }
}"""
