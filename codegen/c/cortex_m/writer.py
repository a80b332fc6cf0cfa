"""C99 instead of C11 with extensions: plain pointers, static memory, constants as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aino_ir.codegen.c.interface import ABI_VERSION, InterfacePrinter, header_text
from aino_ir.codegen.c.plan_text import PlanText, filled
from aino_ir.codegen.c.types import element_dtype, scalar_name
from aino_ir.codegen.c.writer import CWriter
from aino_ir.codegen.cstyle.names import comment, string_lines
from aino_ir.dims import DimLike
from aino_ir.errors.codegen import StaticShapesWanted
from aino_ir.loops.stmt import Alloc, Prefetch
from aino_ir.plan import BufferKind, Plan
from aino_ir.target import Target

WORDS_A_LINE = 4


class DeviceWriter(CWriter):
    """Writes one kernel as a C99 function."""

    def alloc(self, s: Alloc) -> None:
        """A pointer into the scratch."""
        self.printer.buffers[s.name] = s.dtype
        if not self.usage.is_read(s.name):
            return
        type_ = scalar_name(element_dtype(s.dtype))
        start = "scratch" if s.offset == 0 else f"(char *)scratch + {self.printer.index(s.offset).at(13)}"
        self.line(f"{type_} *restrict {self.printer.names[s.name]} = (void *)({start});")

    def prefetch(self, s: Prefetch) -> None:
        """Nothing: there are no caches to fill."""


class StaticInterface(InterfacePrinter):
    """The functions behind the header, over memory that is reserved when the firmware is linked."""

    includes = ()
    profiles = False

    def __init__(self, text: PlanText, alone_below: int = 0, profile: bool = False) -> None:
        """Take a plan.

        Raises:
            StaticShapesWanted: its extents are not all numbers.
        """
        super().__init__(text, 0, False)
        symbols = [*self.plan.symbols, *self.plan.decided]
        if symbols:
            raise StaticShapesWanted(symbols=", ".join(dict.fromkeys(symbols)))

    def header(self) -> str:
        """The public header."""
        return header_text(
            self.plan,
            alignment=8,
            remarks=" * There is one context, and one run at a time; all memory is static.\n",
        )

    def session(self) -> str:
        """The struct of the one run, and all memory."""
        return f"""/* What the run knows. */
typedef struct {{
    const void *const *in;
    void *const *out;
    const char *weights;
    char *const *state;
    char *arena;
    char *scratch;
    size_t scratch_bytes;
    int64_t symbols[1];
    int64_t status[2]; /* code, step */
    aino_barrier barrier;
}} session;

#define MODEL_STATES {max(1, len(self.plan.states))}"""

    def functions(self, description: str) -> str:
        """The functions that the header declares."""
        plan = self.plan
        states = [b for b in plan.buffers if b.kind is BufferKind.STATE]
        memory = [_memory("model_arena", plan.arena_bytes), _memory("model_scratch", plan.scratch_bytes)]
        memory += [_memory(f"model_state_{b.slot}", b.bytes) for b in states]
        places = ", ".join(f"model_state_{b.slot}.bytes" for b in sorted(states, key=lambda b: b.slot)) or "0"
        setup = []
        for b in states:
            first = "0"
            if b.const is not None and b.offset is not None:
                first = f"(const char *)weights + {self.text.dim(b.offset)}"
            setup.append(f"    aino_copy(model_state_{b.slot}.bytes, {first}, {self.text.dim(b.bytes)});")
        return filled(
            _FUNCTIONS,
            NAME=plan.name,
            MEMORY="\n".join(memory),
            PLACES=places,
            STATE_SETUP="".join(f"\n{line}" for line in setup),
            ABI_VERSION=str(ABI_VERSION),
            DESCRIPTION="\n    ".join(string_lines(description)),
        )


def _memory(name: str, size: DimLike) -> str:
    """A static array of so many bytes, aligned for every type."""
    return f"static union {{ int64_t whole; double real; char bytes[{max(1, int(size))}]; }} {name};"  # type: ignore[arg-type]


_FUNCTIONS = """\
MEMORY

struct NAME_context {
    int made;
};

static struct NAME_context model_context;
static session model_session;
static char *const model_states[MODEL_STATES] = {PLACES};

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
    (void)nthreads;
    if (model_context.made)
        return AINO_BAD_ARGUMENT;
    model_context.made = 1;
    model_session.weights = weights;
    model_session.state = model_states;
    model_session.arena = model_arena.bytes;
    model_session.scratch = model_scratch.bytes;
    model_session.barrier.status = model_session.status;STATE_SETUP
    *result = &model_context;
    return AINO_OK;
}

int NAME_run(NAME_context *context, const void *const *in, void *const *out)
{
    session *s = &model_session;
    if (!context || !context->made)
        return AINO_BAD_ARGUMENT;
    s->in = in;
    s->out = out;
    s->status[0] = s->status[1] = 0;
    model_steps(s, 0, 1);
    return (int)(s->status[0] + 256 * s->status[1]);
}

void NAME_destroy(NAME_context *context)
{
    if (context)
        context->made = 0;
}"""


# -- the folder that --emit c writes --------------------------------------------------------------------


def firmware_texts(
    plan: Plan, target: Target, sources: Sequence[str], weights: Iterable[tuple[int, bytes]]
) -> dict[str, str]:
    """Constants as a C array, and an example of how the model is called."""
    data = bytearray()
    for offset, piece in weights:
        data += b"\0" * (offset - len(data)) + piece
    data += b"\0" * (-len(data) % 8)
    words = [f"UINT64_C(0x{int.from_bytes(data[i : i + 8], 'little'):016x})," for i in range(0, len(data), 8)]
    rows = [" ".join(words[i : i + WORDS_A_LINE]) for i in range(0, len(words), WORDS_A_LINE)]
    name = plan.name
    array = filled(_WEIGHTS, NAME=name, COUNT=str(max(1, len(words))), ROWS="\n    ".join(rows or ["0"]))
    example = filled(
        _EXAMPLE,
        NAME=name,
        COMMAND=" ".join([*sources, f"{name}_weights.c"]),
        INPUTS="\n".join(f"    in{i}, /* {comment(f'{n}: {t}')} */" for i, (n, t) in enumerate(plan.inputs)),
        OUTPUTS="\n".join(
            f"    out{i}, /* {comment(f'{n}: {t}')} */" for i, (n, t) in enumerate(plan.outputs)
        ),
        ARRAYS="\n".join(_arrays(plan)),
    )
    return {f"{name}_weights.c": array, f"{name}_example.c": example}


def _arrays(plan: Plan) -> list[str]:
    """Static arrays for inputs and outputs."""
    kinds = ((BufferKind.INPUT, "in"), (BufferKind.OUTPUT, "out"))
    return [
        f"static int64_t {label}{b.slot}[{max(1, -(-int(b.bytes) // 8))}];"  # type: ignore[arg-type]
        for kind, label in kinds
        for b in sorted((b for b in plan.buffers if b.kind is kind), key=lambda b: b.slot)
    ]


_WEIGHTS = """\
/* NAME_weights.c: the constants of NAME, for flash. */
#include <stdint.h>

extern const uint64_t NAME_weights[COUNT];

const uint64_t NAME_weights[COUNT] = {
    ROWS
};
"""

_EXAMPLE = """\
/* NAME_example.c: how the model is called.  Compile with your firmware, as C99:
 *     COMMAND
 */
#include <stdint.h>

#include "NAME.h"

extern const uint64_t NAME_weights[];
int NAME_example(void);

ARRAYS

static const void *const inputs[] = {
INPUTS
    0
};
static void *const outputs[] = {
OUTPUTS
    0
};

/* Fill the inputs, run, read the outputs.  Returns 0, or code + 256 * step of the first failure. */
int NAME_example(void)
{
    static NAME_context *context;
    int status = context ? 0 : NAME_create(NAME_weights, 1, &context);
    return status ? status : NAME_run(context, inputs, outputs);
}
"""
