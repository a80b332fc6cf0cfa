"""The steps of a plan in an emitted file, so that it runs on its own: where they are kernels in a row."""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.tvm.kernel import PrintedKernel, memory_dtype
from aino_ir.codegen.tvm.text import comment, type_name
from aino_ir.dims import is_static
from aino_ir.plan import BufferKind, Plan, Run, Sync, View
from aino_ir.types import TensorType

_SPACES = {BufferKind.INPUT: "inputs", BufferKind.OUTPUT: "outputs"}

_RUN = '''\
def run(library, weights, *inputs):
    """The outputs of the model.

    Args:
        library: what `build` gives.
        weights: the bytes of the file of weights, as an array of uint8.
        inputs: numpy arrays in the order of INPUTS.
    """
    taken = [argument for arguments in ARGUMENTS.values() for argument in arguments]
    extra = max(int(np.prod(shape)) * np.dtype(dtype).itemsize for _, shape, dtype in taken)

    nothing = np.zeros(0, np.uint8)

    def space(content, size=0):
        memory = np.zeros(max(size, len(content)) + extra, np.uint8)
        memory[: len(content)] = content
        return tvm.runtime.tensor(memory)

    def sizes(ports):
        return [int(np.prod(shape)) * np.dtype(dtype).itemsize for _, shape, dtype in ports]

    spaces = {
        "inputs": [space(np.ascontiguousarray(x).reshape(-1).view(np.uint8)) for x in inputs],
        "outputs": [space(nothing, size) for size in sizes(OUTPUTS)],
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
        memory[:size].view(dtype).reshape(shape)
        for memory, size, (_, shape, dtype) in zip(made, sizes(OUTPUTS), OUTPUTS)
    ]


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
"""What the text of `walk_text` needs."""


def walk_text(plan: Plan, kernels: Sequence[PrintedKernel]) -> str:
    """Tables of a plan's interface and steps, and the functions that run it; empty where it is not so simple.

    Simple are kernels in a row on memory whose places are numbers.
    """
    if not _is_simple(plan):
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
            f"CHECKED = {checked!r}  # kernels that report errors",
            "STEPS = [  # kernels in order: the kind, number and byte offset of each view's memory",
            *steps,
            "]",
            "",
            "",
            _RUN,
        ]
    )


def _is_simple(plan: Plan) -> bool:
    types = [t for _, t in (*plan.inputs, *plan.outputs)]
    static = all(isinstance(t, TensorType) and all(map(is_static, t.shape)) for t in types)
    kinds = {plan.buffers[v.buffer].kind for s in plan.steps if isinstance(s, Run) for v in s.views}
    plain = kinds <= {BufferKind.INPUT, BufferKind.OUTPUT, BufferKind.ARENA, BufferKind.CONST}
    return static and plain and not plan.symbols and all(isinstance(s, (Run, Sync)) for s in plan.steps)


def _place(plan: Plan, view: View) -> str:
    buffer = plan.buffers[view.buffer]
    if buffer.kind in _SPACES:
        return f'("{_SPACES[buffer.kind]}", {buffer.slot}, {view.offset})'
    assert buffer.offset is not None
    kind = "arena" if buffer.kind is BufferKind.ARENA else "weights"
    return f'("{kind}", 0, {buffer.offset + view.offset})'


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
