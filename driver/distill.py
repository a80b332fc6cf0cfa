"""`aino.distill`: a student learns from a teacher, in PyTorch, and comes back with its structure intact.

The loss on outputs is that of Hinton et al. (2015): the Kullback-Leibler divergence between both
distributions at a temperature T, times T squared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.driver.api import load
from aino_ir.dtypes import DType
from aino_ir.errors.distill import DistillDataWrong, LossNotFinite, NothingToTrain
from aino_ir.errors.usage import OptionTooSmall, UnknownOption
from aino_ir.graph import Module, State
from aino_ir.ops.core import Constant
from aino_ir.ops.normalize import BatchNorm
from aino_ir.passes.compression.pruning import with_constants
from aino_ir.passes.compression.weights import weights
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.manager import PassManager
from aino_ir.rewriter import Rewriter
from aino_ir.types import TensorType

if TYPE_CHECKING:
    import torch

LOSSES = ("logits", "features", "labels")
"""What may be compared: the first output with the teacher's as distributions, further outputs with the
teacher's by their mean square, the first output with labels by cross-entropy."""

PRUNED_SHARE = 0.5
"""Share of zeros from which integers are those of a pruned weight, whose zeros stay; rounding makes some."""

LEARNING_RATE = 1e-3
"""Of Adam, where no optimizer is given."""

Optimizer = Callable[[list[Any]], Any]
"""Makes a `torch.optim.Optimizer` for parameters."""


def distill(
    student: Any,
    teacher: Any,
    data: Iterable[Any],
    *,
    losses: Mapping[str, float] | None = None,
    temperature: float = 4.0,
    epochs: int = 1,
    optimizer: Optimizer | None = None,
) -> Module:
    """The student after training against the teacher.

    Shapes, zeros of pruned weights, scales and zero points stay as they are; the other float constants are
    trained, and so are the integers of weights that are stored in few bits and of products of bytes, with
    their integer biases: each step sees them on their grid, as they are deployed.  Batch norms with constant
    statistics are in training, as PyTorch has them: they see those of the batch, and the result has the
    running ones (momentum 0.1).  States that steps change (running statistics of a student that was loaded in
    training mode) start in the result where training left them.

    Args:
        student: a Module, or what `load` takes.
        teacher: a Module, or a function of the same tensors (an `nn.Module`), which gives the same outputs.
        data: items that can be walked `epochs` times: the inputs of one step (an array or tensor, a tuple
            of them); with the loss "labels", pairs of inputs and labels (class numbers).
        losses: weight of each loss; {"logits": 1.0} by default.
        temperature: of "logits".
        epochs: how often the data is walked, in its order.
        optimizer: makes an optimizer for a list of parameters; Adam at 1e-3 by default.

    Returns:
        A new module.

    Raises:
        TorchMissing: torch is not installed.
        UnknownOption, OptionTooSmall: the options.
        DistillDataWrong: there is no data, or an item is not what it should be.
        NothingToTrain: the student has no constants that are trained.
        LossNotFinite: training diverged.
    """
    from aino_ir.frontends.torch import require_torch

    require_torch("aino.distill")
    weighed = _checked(dict(losses) if losses is not None else {"logits": 1.0}, temperature, epochs)
    items = _items(data, "labels" in weighed)
    module = load(student)
    trainee = Trainee(module)
    train(trainee, _teacher(teacher), items, weighed, temperature, epochs, optimizer)
    return trainee.result()


class Trainee:
    """A module as a PyTorch module, with what training must leave alone.

    Attributes:
        network: the `torch.fx.GraphModule`.
        handles: path of a tensor -> the constant that it stands for.
        states: paths of the buffers that steps change, in the order of the states.
        written_as: id of a constant -> id of the handle that was written for it and for equal ones.
        integers: path of a module -> its parameter, `weight`, stands behind a constant of integers.
        norms: id of a batch norm -> what holds its statistics.
        masks: path -> which elements of a pruned weight are trained.
    """

    def __init__(self, module: Module) -> None:
        from aino_ir.frontends.torch.export.program import module_with_tensors
        from aino_ir.frontends.torch.fake_quantization import train_integers
        from aino_ir.frontends.torch.trained_norms import train_norms

        self.module = module
        self.network, tensors = module_with_tensors(module, None)
        self.handles, self.states = tensors.handles, tensors.states
        by_identity = {handle.identity: id(handle) for handle in self.handles.values()}
        constants = [op.value for op in module.walk() if isinstance(op, Constant)]
        self.written_as = {id(c): by_identity[c.identity] for c in constants if c.identity in by_identity}
        self.integers = train_integers(self.network, self.handles)
        self.norms = train_norms(self.network)
        pruned = {id(w.handle) for w in weights(module)}
        self.masks: dict[str, torch.Tensor] = {}
        for path, parameter in self.network.named_parameters():
            share = float((parameter == 0).float().mean()) if parameter.numel() else 0.0
            if path in self.handles:
                is_pruned = id(self.handles[path]) in pruned and 0.0 < share < 1.0
            else:
                is_pruned = path.endswith(".weight") and PRUNED_SHARE < share < 1.0
            if is_pruned:
                self.masks[path] = (parameter != 0).to(parameter.dtype)

    def trained(self) -> dict[str, Any]:
        """Parameters that change, by path."""
        return {p: v for p, v in self.network.named_parameters() if v.requires_grad}

    def stay_inside(self) -> None:
        """After a step: put the zeros of pruned weights back, and integers where kernels can use them."""
        import torch

        with torch.no_grad():
            for path, mask in self.masks.items():
                self.network.get_parameter(path).mul_(mask)
        for integers in self.integers.values():
            integers.stay_inside()

    def result(self) -> Module:
        """The module with the trained constants; equal ones that were written as one stay equal."""
        found: list[tuple[Const, Any]] = []
        for path, parameter in self.trained().items():
            handle = self.handles.get(path)
            if handle is not None:
                found.append((handle, _array(parameter, handle.dtype)))
        for integers in self.integers.values():
            found += integers.constants()
        new = {id(h): Const.of(array, h.name) for h, array in found}
        out = with_constants(self.module, {c: new[h] for c, h in self.written_as.items() if h in new})
        self._put_statistics(out)
        return out

    def _put_statistics(self, module: Module) -> None:
        """Give batch norms and states what they had at the end."""
        for function in module.functions.values():
            rewriter = Rewriter(function)
            for op in list(function.walk()):
                if isinstance(op, BatchNorm) and op.id in self.norms:
                    self._put_norm(op, rewriter)
        PassManager((EliminateDeadCode(),)).run(module)
        states = module.main.states
        for number, (state, path) in enumerate(zip(states, self.states, strict=True)):
            tensor = self.network.get_buffer(path)
            assert isinstance(state.type, TensorType)
            states[number] = State(state.name, state.type, Const.of(_array(tensor, state.type.dtype)))

    def _put_norm(self, op: BatchNorm, rewriter: Rewriter) -> None:
        """Give a batch norm the statistics that its stand-in has."""
        norm, b = self.norms[op.id], rewriter.builder(op)
        given = (op.mean, norm.mean), (op.variance, norm.variance)
        new = [b.constant(_array(t, v.dtype), v.op.value.name) for v, t in given]  # type: ignore[union-attr]
        made = b.op(BatchNorm, op.x, op.scale, op.bias, *new, **op.attrs())
        rewriter.replace(op, made.result, "TrainNorm")


def _array(tensor: Any, dtype: DType) -> Any:
    """A tensor as an array of AINO's dtype."""
    if dtype.is_float and dtype.bits < 32:
        tensor = tensor.float()
    return np.array(tensor.detach().cpu().numpy(), dtype.numpy, order="C")


def train(
    trainee: Trainee,
    teacher: Callable[..., Any],
    items: Sequence[Item],
    losses: Mapping[str, float],
    temperature: float,
    epochs: int,
    optimizer: Optimizer | None,
) -> None:
    """Walk the data and step."""
    import torch

    parameters = list(trainee.trained().values())
    if not parameters:
        raise NothingToTrain()
    stepper = torch.optim.Adam(parameters, lr=LEARNING_RATE) if optimizer is None else optimizer(parameters)
    for epoch in range(epochs):
        for number, item in enumerate(items):
            with torch.no_grad():
                wanted = () if set(losses) == {"labels"} else _outputs(teacher(*item.inputs))
            loss = _loss(_outputs(trainee.network(*item.inputs)), wanted, item, number, losses, temperature)
            if not bool(torch.isfinite(loss)):
                raise LossNotFinite(epoch=epoch, number=number, loss=float(loss.detach()))
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            trainee.stay_inside()


def _loss(
    made: tuple[Any, ...],
    wanted: tuple[Any, ...],
    item: Item,
    number: int,
    losses: Mapping[str, float],
    temperature: float,
) -> Any:
    """The weighed sum of the losses of one step."""
    from torch.nn import functional

    total: Any = 0.0
    if "labels" in losses:
        total = total + losses["labels"] * functional.cross_entropy(made[0], item.labels)
    if wanted and [tuple(m.shape) for m in made] != [tuple(w.shape) for w in wanted]:
        shapes = [tuple(m.shape) for m in made], [tuple(w.shape) for w in wanted]
        raise DistillDataWrong(
            number=number, reason=f"student and teacher give shapes {shapes[0]} and {shapes[1]}"
        )
    if "logits" in losses:
        ours = functional.log_softmax(made[0] / temperature, dim=-1)
        theirs = functional.log_softmax(wanted[0] / temperature, dim=-1)
        flat = ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, ours.shape[-1])
        divergence = functional.kl_div(*flat, reduction="batchmean", log_target=True)
        total = total + losses["logits"] * temperature**2 * divergence
    if "features" in losses:
        if len(made) < 2:
            raise DistillDataWrong(
                number=number, reason="'features' compares outputs after the first; there are none"
            )
        parts = [functional.mse_loss(m, w) for m, w in zip(made[1:], wanted[1:], strict=True)]
        total = total + losses["features"] * sum(parts)
    return total


@dataclass(frozen=True)
class Item:
    """One step: tensors that both models get, and labels or None."""

    inputs: tuple[Any, ...]
    labels: Any


def _items(data: Iterable[Any], labelled: bool) -> list[Item]:
    items = [_item(given, n, labelled) for n, given in enumerate(data)]
    if not items:
        raise DistillDataWrong(number=0, reason="there is no data")
    return items


def _item(given: Any, number: int, labelled: bool) -> Item:
    import torch

    labels = None
    if labelled:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise DistillDataWrong(
                number=number, reason="with 'labels' it must be a pair of inputs and labels"
            )
        given, labels = given[0], torch.as_tensor(given[1]).long()
    parts = given if isinstance(given, (tuple, list)) else (given,)
    inputs = tuple(torch.as_tensor(p) for p in parts)
    if any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in inputs):
        raise DistillDataWrong(number=number, reason="it holds NaN or infinity")
    return Item(inputs, labels)


def _teacher(teacher: Any) -> Callable[..., Any]:
    if isinstance(teacher, Module):
        from aino_ir.frontends.torch.export import to_torch

        return to_torch(teacher)
    if callable(teacher):
        return teacher.eval() if hasattr(teacher, "eval") else teacher  # type: ignore[no-any-return]
    return _teacher(load(teacher))


def _outputs(made: Any) -> tuple[Any, ...]:
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)


def _checked(losses: dict[str, float], temperature: float, epochs: int) -> dict[str, float]:
    for name, weight in losses.items():
        if name not in LOSSES:
            raise UnknownOption(option="losses", choices=LOSSES, got=name)
        if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise OptionTooSmall(option=f"losses['{name}']", kind="finite number", least=0, got=weight)
    chosen = {name: float(weight) for name, weight in losses.items() if weight}
    if not chosen:
        raise UnknownOption(option="losses", choices=LOSSES, got="none")
    if not isinstance(temperature, (int, float)) or not 0 < temperature < float("inf"):
        raise OptionTooSmall(option="temperature", kind="finite number", least="more than 0", got=temperature)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise OptionTooSmall(option="epochs", kind="whole number", least=1, got=epochs)
    return chosen
