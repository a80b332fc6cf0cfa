"""Storage of values that live on: what a loop carries from turn to turn, what states keep from run to run.

Each has one place.  The new value is made right there, over the old one, where nothing reads that any
more once the new one is being written; else it is made elsewhere and copied in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aino_ir.graph import Value, comes_before
from aino_ir.op import Op
from aino_ir.plan import View
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.codegen.lower.storage import StorageAssignment

MayOverwrite = Callable[[Op, Value], bool]
"""Whether an op's kernel may write its result over an operand."""

Copies = list[tuple["Value | View", View]]
"""(from, to) pairs."""


class CarriedStorage:
    """Decides which new values are made over the old ones, and how the others get to their places.

    Args:
        storage: of the function.
        may_overwrite: whether an op's kernel reads of an operand only what it writes at the same time.
    """

    def __init__(self, storage: StorageAssignment, may_overwrite: MayOverwrite) -> None:
        self.storage = storage
        self.may_overwrite = may_overwrite

    def make_in_place(
        self,
        old: Sequence[Value],
        new: Sequence[Value],
        places: Sequence[View],
        others: Collection[int] = (),
    ) -> set[int]:
        """Give new values the places of the old ones where they may have them; returns their numbers.

        Args:
            old: arguments of a block, which lie in `places`.
            new: values of the block that follow on them.
            places: where both belong.
            others: numbers of those that are placed by other rules.
        """
        made: set[int] = set()
        for number, (argument, value) in enumerate(zip(old, new, strict=True)):
            if number in others:
                continue
            place = replace(places[number], shape=value.shape)
            if self.storage.can_be_made_in(value, place) and self._outlived(argument, value, place):
                self.storage.views[value] = place
                made.add(number)
        return made

    def carry(self, new: Sequence[Value], places: Sequence[View], made: set[int]) -> tuple[Copies, Copies]:
        """Copies at the block's end; what lies in places about to be overwritten goes by way of others.

        All values have their views.

        Returns:
            What is copied aside, and then what is copied to the places.
        """
        targets = {n: replace(p, shape=v.shape) for n, (p, v) in enumerate(zip(places, new, strict=True))}
        left = [n for n in targets if n not in made and not same_place(self._view(new[n]), targets[n])]
        overwritten = {places[n].buffer for n in left}
        aside: Copies = []
        final: Copies = []
        for number in left:
            value = new[number]
            source: Value | View = value
            if self._view(value).buffer in overwritten:
                assert isinstance(value.type, TensorType)
                source = self.storage.new_arena(value.type.logical(), value.name)
                aside.append((value, source))
            final.append((source, targets[number]))
        return aside, final

    def _view(self, value: Value) -> View:
        return self.storage.views[value]

    def _outlived(self, argument: Value, value: Value, place: View) -> bool:
        """Whether nothing reads an argument's old contents once the new ones are being written."""
        writer = self._first_writer(value)
        if writer is None:
            return False
        readers = (r for r in self._readers(argument) if r is not writer)
        if not all(comes_before(reader, writer) for reader in readers):
            return False
        touched = [v for v in writer.present_operands() if self._root(v) is argument]
        if not touched:
            return True
        if len(touched) > 1 or writer is not self._source(value).op:
            return False
        seen = self._seen_from(argument, touched[0], place)
        made = self._made_at(value, place)
        alike = seen is not None and made is not None and same_place(seen, made)
        return alike and self.may_overwrite(writer, touched[0])

    def _first_writer(self, value: Value) -> Op | None:
        """The op whose kernel writes a value's memory; None for what is written piece by piece."""
        op = self._source(value).op
        return None if op is None or op.name == "tensor.concat" else op

    def _source(self, value: Value) -> Value:
        """The value that a chain of view ops shows."""
        while value.op is not None and self.storage.is_view(value.op):
            value = next(iter(value.op.present_operands()))
        return value

    def _root(self, value: Value) -> Value:
        """The value in whose memory another lies, as a view or a window of it."""
        while value.op is not None and (self.storage.is_view(value.op) or self.storage.is_window(value.op)):
            value = next(iter(value.op.present_operands()))
        return value

    def _readers(self, value: Value) -> list[Op]:
        """Ops that read a value's memory, by whatever view."""
        found: list[Op] = []
        for user in value.users:
            found.append(user)
            if self.storage.is_view(user) or self.storage.is_window(user):
                found += self._readers(user.results[0])
        return found

    def _seen_from(self, argument: Value, value: Value, place: View) -> View | None:
        """Where a value lies that view ops make of an argument; None where it is only a part of it."""
        if value is argument:
            return replace(place, shape=value.shape)
        op = value.op
        assert op is not None
        if not self.storage.is_view(op):
            return None
        inner = self._seen_from(argument, next(iter(op.present_operands())), place)
        return None if inner is None else self.storage.seen(op, inner)

    def _made_at(self, value: Value, place: View) -> View | None:
        """Where the kernel behind a chain of view ops must write for the chain's end to lie in a place."""
        view: View | None = place
        while view is not None and value.op is not None and self.storage.is_view(value.op):
            source = next(iter(value.op.present_operands()))
            view = self.storage.seen_back(value.op, view, source)
            value = source
        return view


def same_place(a: View, b: View) -> bool:
    """Whether two views are the same bytes in the same order."""
    return replace(a, shape=b.shape) == b
