"""What ``torch.compile(model, backend="aino", options={...})`` may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from aino_ir.driver.dynamo.places import AUTO, target_for
from aino_ir.errors.torch import UnknownDynamoOption, WrongDynamoOption


@dataclass(frozen=True)
class DynamoOptions:
    """Options of the backend, as `aino.compile` has them.

    Attributes:
        target: ``auto`` (``cuda`` for tensors on a GPU, else ``c``), ``c:avx2`` and so on, or ``reference``.
        threads: threads of a run; None = the CPUs that this process may use.
        level: 0 lowers only, 1 folds, 2 runs every pass, 3 measures too.
        numerics: strict, default or fast.
        verify: "auto" validates every rewrite, "off" does not.
        cache: whether compiled graphs are kept for other processes.
        strict: an operator that would stay with torch is an error; random numbers may be torch's.
        pack_parameters: whether graphs for inference hold parameters as packed constants.  Changes in
            place and exchanged tensors are seen, but not what is written through ``parameter.data`` or
            from outside of torch: with False parameters are inputs, and every change is seen.
    """

    target: str = AUTO
    threads: int | None = None
    level: int = 2
    numerics: str = "default"
    verify: str = "auto"
    cache: bool = True
    strict: bool = False
    pack_parameters: bool = True

    @staticmethod
    def of(given: Mapping[str, Any] | None) -> DynamoOptions:
        """Checked options.

        Raises:
            UnknownDynamoOption, WrongDynamoOption: a key or the type of its value is none of ours.
        """
        known = {f.name: _TYPES[f.name] for f in fields(DynamoOptions)}
        for key, value in (given or {}).items():
            if key not in known:
                raise UnknownDynamoOption(option=key, known=", ".join(sorted(known)))
            if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
                expected = " or ".join(t.__name__ for t in known[key])
                raise WrongDynamoOption(option=key, expected=expected, got=repr(value))
        return DynamoOptions(**(given or {}))

    def compile_arguments(self, device: torch.device) -> dict[str, Any]:
        """The same for `aino.compile`, of a graph whose tensors lie on a device."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in OWN}
        return {**chosen, "target": target_for(self.target, device)}


OWN = ("strict", "pack_parameters")
"""Options that `aino.compile` knows nothing of."""

_TYPES: dict[str, tuple[type, ...]] = {
    "target": (str,),
    "threads": (int, type(None)),
    "level": (int,),
    "numerics": (str,),
    "verify": (str,),
    "cache": (bool,),
    "strict": (bool,),
    "pack_parameters": (bool,),
}
