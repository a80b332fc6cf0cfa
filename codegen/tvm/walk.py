"""The steps of a plan in an emitted file, so that it runs on its own: where they are kernels in a row."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.tvm.kernel import PrintedKernel, memory_dtype
from aino_ir.codegen.tvm.text import comment, type_name
from aino_ir.dims import is_static
from aino_ir.loops.stmt import Access
from aino_ir.plan import BufferKind, Plan, Run, Sync, View
from aino_ir.types import TensorType

_SPACES = {BufferKind.INPUT: "inputs", BufferKind.OUTPUT: "outputs"}

_RUN = '''\
def size_of(shape, dtype):
    """Bytes of a tensor."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def run(library, weights, *inputs):
    """The outputs of the model.

    Args:
        library: what `build` gives.
        weights: the bytes of the file of weights, as an array of uint8.
        inputs: numpy arrays in the order of INPUTS.
    """
    taken = [argument for arguments in ARGUMENTS.values() for argument in arguments]
    extra = max([size_of(*argument[1:]) for argument in taken], default=0)
    nothing = np.zeros(0, np.uint8)

    def space(content, size=0):
        memory = np.zeros(max(size, len(content)) + extra, np.uint8)
        memory[: len(content)] = content
        return tvm.runtime.tensor(memory)

    spaces = {
        "inputs": [space(np.ascontiguousarray(x).reshape(-1).view(np.uint8)) for x in inputs],
        "outputs": [space(nothing, size_of(*port[1:])) for port in OUTPUTS],
        "weights": [space(weights)],
        "arena": [space(nothing, ARENA_BYTES)],
    }
    status = tvm.runtime.tensor(np.zeros(2, np.int64))
    for kernel, places in STEPS:
        arguments = []
        for view, shape, dtype in ARGUMENTS[kernel]:
            kind, slot, offset = places[view]
            arguments.append(spaces[kind][slot]._create_view(shape, dtype, relative_byte_offset=offset))
        library[kernel](*arguments, *([status] if kernel in CHECKED else []))
        if status.numpy()[0]:
            raise ValueError(f"{kernel} fails with status {status.numpy()[0]}")
    made = [tensor.numpy() for tensor in spaces["outputs"]]
    return [
        memory[: size_of(shape, dtype)].view(dtype).reshape(shape)
        for memory, (_, shape, dtype) in zip(made, OUTPUTS)
    ]


def relax_module(weights):
    """The model as an IRModule of TVM's: the kernels, and a Relax function `main` that calls them in order.

    Memory is laid out already: `main` takes the inputs and makes an arena, of which the kernels get views.
    Its results are the outputs, and behind them the status words if kernels report errors (zeros: fine).
    Elements of a type that TVM lacks are taken and given as the integers that hold their bits.
    """
    builder = relax.BlockBuilder()
    kernels = {name: builder.add_func(scheduled(name), name) for name in KERNELS}
    inputs = [relax.Var(f"input{n}", relax.TensorType(port[1], port[2])) for n, port in enumerate(INPUTS)]
    views = [argument for arguments in ARGUMENTS.values() for argument in arguments]
    extra = max([size_of(*argument[1:]) for argument in views], default=0)  # a view may reach past the end

    def memory(size, name):
        shape = relax.ShapeExpr((size + extra,))
        return builder.emit(relax.op.builtin.alloc_tensor(shape, "uint8", 0), name)

    def viewed(base, shape, dtype, offset=0):
        return builder.emit(relax.op.memory.view(base, shape, dtype, offset))

    with builder.function("main", inputs):
        spaces = {
            "inputs": inputs,
            "outputs": [memory(size_of(*port[1:]), f"output{n}") for n, port in enumerate(OUTPUTS)],
            "arena": [memory(ARENA_BYTES, "arena")],
        }
        longer = {}

        def argument(space, slot, offset, shape, dtype):
            size = size_of(shape, dtype)
            if space == "weights":
                content = np.zeros(size, np.uint8)
                found = weights[offset : offset + size]
                content[: len(found)] = found
                return relax.const(content.view(dtype).reshape(shape))
            base = spaces[space][slot]
            if space == "inputs" and offset + size > size_of(*INPUTS[slot][1:]):
                if slot not in longer:
                    flat = viewed(base, (size_of(*INPUTS[slot][1:]),), "uint8")
                    end = builder.emit(relax.op.zeros((extra,), "uint8"))
                    longer[slot] = builder.emit(relax.op.concat([flat, end]))
                base = longer[slot]
            return viewed(base, shape, dtype, offset)

        status = builder.emit(relax.op.zeros((2,), "int64"), "status") if CHECKED else None
        for kernel, places in STEPS:
            taken = [argument(*places[view], shape, dtype) for view, shape, dtype in ARGUMENTS[kernel]]
            written = list(WRITTEN[kernel])
            if kernel in CHECKED:
                written.append(len(taken))
                taken.append(status)
            types = [taken[n].ty for n in written]
            types = types if len(types) > 1 else types[0]
            builder.emit(relax.call_tir_inplace(kernels[kernel], taken, written, types))
        results = [viewed(x, *port[1:]) for x, port in zip(spaces["outputs"], OUTPUTS)]
        builder.emit_func_output(relax.Tuple([*results, *([status] if CHECKED else [])]))
    return builder.finalize()


def build_model(weights, target=None):
    """The model, compiled: for ``tvm.relax.VirtualMachine``, or for ``export_library``."""
    with tvm.transform.PassContext(opt_level=3, config=CONFIG):
        return tvm.compile(relax_module(weights), tvm.target.Target(TARGET if target is None else target))


def main():
    """Build everything, run the model on random inputs, and say how long a run takes."""
    library = build()
    path = pathlib.Path(__file__).with_suffix(".weights")
    weights = np.fromfile(path, np.uint8) if path.exists() else np.zeros(0, np.uint8)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=shape).astype(dtype) for _, shape, dtype in INPUTS]
    times = []
    for _ in range(10):
        start = time.perf_counter()
        outputs = run(library, weights, *inputs)
        times.append(time.perf_counter() - start)
    for (name, shape, dtype), output in zip(OUTPUTS, outputs):
        print(f"{name}: {dtype}{list(shape)}, sum {output.astype('float64').sum():.6g}")
    print(f"{1e3 * min(times):.3f} ms a run, memory and Python included")


if __name__ == "__main__":
    main()
'''

IMPORTS = "import pathlib\nimport time\n\nimport numpy as np\n"
RELAX = "from tvm import relax, tirx\n"
"""What the text of `walk_text` needs, and what it imports from TVM."""


def walk_text(plan: Plan, kernels: Sequence[PrintedKernel]) -> str:
    """Tables of a plan's interface and steps, and the functions that run it; empty where it is not so simple.

    Simple are kernels in a row on memory whose places are numbers.
    """
    if obstacle(plan):
        return ""
    steps = []
    for step in plan.steps:
        if isinstance(step, Run):
            places = ", ".join(_place(plan, v) for v in step.views)
            steps.append(f'    ("{step.kernel}", [{places}]),')
    arguments = [f'    "{k.name}": [{", ".join(_arguments(k))}],' for k in kernels]
    checked = [k.name for k in kernels if k.can_fail]
    return "\n".join(
        [
            *_ports("INPUTS", plan.inputs),
            *_ports("OUTPUTS", plan.outputs),
            f"ARENA_BYTES = {plan.arena_bytes}",
            "ARGUMENTS = {  # of each kernel: the number of a view, and what it is taken for",
            *arguments,
            "}",
            "WRITTEN = {  # of each kernel: the numbers of the arguments that it writes",
            *(f'    "{k.name}": {_written(plan, k)},' for k in kernels),
            "}",
            f"CHECKED = {checked!r}  # kernels that report errors",
            "STEPS = [  # kernels in order: the kind, number and byte offset of each view's memory",
            *steps,
            "]",
            "",
            "",
            _RUN,
        ]
    )


def obstacle(plan: Plan) -> str:
    """Why a plan is not kernels in a row on memory whose places are numbers; empty where it is."""
    types = [t for _, t in (*plan.inputs, *plan.outputs)]
    static = all(isinstance(t, TensorType) and all(map(is_static, t.shape)) for t in types)
    if plan.symbols or not static:
        return "extents that a run decides"
    kinds = {plan.buffers[v.buffer].kind for s in plan.steps if isinstance(s, Run) for v in s.views}
    other = kinds - {BufferKind.INPUT, BufferKind.OUTPUT, BufferKind.ARENA, BufferKind.CONST}
    if other:
        return f"memory of the kind {sorted(kind.value for kind in other)[0]}"
    steps = {type(s).__name__.lower() for s in plan.steps if not isinstance(s, (Run, Sync))}
    return f"control flow ({', '.join(sorted(steps))})" if steps else ""


def _place(plan: Plan, view: View) -> str:
    buffer = plan.buffers[view.buffer]
    if buffer.kind in _SPACES:
        return f'("{_SPACES[buffer.kind]}", {buffer.slot}, {view.offset})'
    assert buffer.offset is not None
    kind = "arena" if buffer.kind is BufferKind.ARENA else "weights"
    return f'("{kind}", 0, {buffer.offset + view.offset})'


def _written(plan: Plan, kernel: PrintedKernel) -> tuple[int, ...]:
    parameters = plan.kernels[kernel.name].function.params
    return tuple(
        number
        for number, argument in enumerate(kernel.arguments)
        if parameters[argument.view].access is not Access.READ
    )


def _arguments(kernel: PrintedKernel) -> list[str]:
    return [f'({a.view}, {tuple(a.shape)}, "{a.type}")' for a in kernel.arguments]


def _ports(title: str, ports: Sequence[tuple[str, object]]) -> list[str]:
    """A table of inputs or outputs."""
    lines = [f"{title} = ["]
    for name, type_ in ports:
        assert isinstance(type_, TensorType)
        shown = comment(name).replace("\\", "/").replace('"', "'")
        lines.append(f'    ("{shown}", {tuple(type_.shape)}, "{type_name(memory_dtype(type_.dtype))}"),')
    return [*lines, "]"]
