"""Steps that a library does: as launches of a plan, and what runs where the library does not."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Mapping, Sequence

from aino_ir.errors.cuda import LibraryCallFailed, LibraryMissing
from aino_ir.library_calls import ProductCall
from aino_ir.runtime.cuda.cublas import Cublas, Product
from aino_ir.runtime.cuda.device import Device, Work
from aino_ir.runtime.cuda.graph import Captured


class LibraryNotUsed(UserWarning):
    """A kernel runs that was measured to be slower than a library which is missing, or refuses."""


class LibraryLaunch(Work):
    """A call of a library; what `Launch` is for a kernel.

    Args:
        product: what is computed.
        addresses: of the kernel's views.
        workspace: memory that the library may use meanwhile.
        kernel, loc: the kernel that stands beside it, and the node that it is for, for errors.
    """

    def __init__(
        self, product: Product, addresses: Sequence[int], workspace: int, kernel: str, loc: str
    ) -> None:
        self.product = product
        self.addresses = list(addresses)
        self.workspace = workspace
        self.kernel = kernel
        self.loc = loc

    def enqueue(self, device: Device, stream: int) -> None:
        """Put it on a stream.

        Raises:
            LibraryCallFailed: the library refuses it.
        """
        try:
            self.product.enqueue(self.addresses, self.workspace, stream, self.kernel)
        except LibraryCallFailed as failure:
            raise LibraryCallFailed(loc=self.loc or None, **failure.fields) from failure

    def add_to(self, device: Device, graph: int, before: ctypes.Array[ctypes.c_void_p], count: int) -> int:
        """Add what the library puts on a stream to a graph; see `Work`."""
        self.product.warm_up(self.addresses, self.workspace, self.kernel)
        inner = self._captured(device)
        node = ctypes.c_void_p()
        made = ctypes.byref(node)
        device.driver.call("cuGraphAddChildGraphNode", made, graph, before, count, inner.handle)
        return node.value or 0

    def update_in(self, device: Device, executable: int, node: int) -> bool:
        """Exchange the library's nodes for those on other addresses; see `Work`."""
        self.product.warm_up(self.addresses, self.workspace, self.kernel)
        inner = self._captured(device)
        return not device.driver.status("cuGraphExecChildGraphNodeSetParams", executable, node, inner.handle)

    def _captured(self, device: Device) -> Captured:
        return Captured(device, lambda stream: self.enqueue(device, stream))

    def take(self, other: LibraryLaunch) -> bool:
        """Take the product and the addresses of another one; whether any of them is new."""
        mine, others = ((launch.product, launch.addresses, launch.workspace) for launch in (self, other))
        if mine == others:
            return False
        self.product, self.addresses, self.workspace = others
        return True


class Libraries:
    """What libraries do for the kernels of an artifact on one device.

    Args:
        device: where.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._cublas: Cublas | None = None
        self._told: set[str] = set()
        self._missing: LibraryMissing | None = None

    def product(
        self,
        call: ProductCall,
        symbols: Mapping[str, int],
        addresses: Sequence[int],
        kernel: str,
        loc: str,
    ) -> Product | None:
        """The product that stands for a kernel; None: the kernel itself must run, a warning has said why."""
        if min(call.extents(symbols)) < 1:
            return None
        try:
            return self.cublas().product(call, symbols, addresses, kernel)
        except (LibraryMissing, LibraryCallFailed) as problem:
            node = f" ({loc})" if loc else ""
            message = f"{problem.code}: {problem.message}; AINO's own kernel '{kernel}'{node} runs instead"
            if message not in self._told:
                self._told.add(message)
                warnings.warn(message, LibraryNotUsed, stacklevel=2)
            return None

    def cublas(self) -> Cublas:
        """The library, opened once; the device must be current.

        Raises:
            LibraryMissing: it is not there.
        """
        with self._lock:
            if self._missing is not None:
                raise LibraryMissing(**self._missing.fields)
            if self._cublas is None:
                try:
                    self._cublas = Cublas(self.device)
                except LibraryMissing as problem:
                    self._missing = problem.with_traceback(None)
                    raise
            return self._cublas
