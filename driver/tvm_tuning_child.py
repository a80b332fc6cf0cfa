"""MetaSchedule on kernels of an emitted file: a program of its own, since what is tried may crash.

``python -m aino_ir.driver.tvm_tuning_child JOB ANSWERS``: the file JOB names the emitted file, kernels,
trials and seconds; after every few trials of a kernel, one JSON line goes to the file ANSWERS: how long
AINO's own schedule and the best trial so far take, how many trials there were, and the best one's trace
as calls of TVM's `Schedule`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from aino_ir.codegen.tvm.build import load_script

TIMEOUT_SECONDS = 30.0
"""How long one trial may run."""

ROUND = 4
"""Trials between two looks at the clock."""


def main(path: str, answers: str) -> int:
    """Tune the kernels of a job, most important first, until its deadline."""
    job = json.loads(Path(path).read_text(encoding="ascii"))
    os.environ["TVM_NUM_THREADS"] = str(job["threads"])
    _without_intrinsics()
    import tvm
    import tvm.ir.utils
    from tvm.s_tir import meta_schedule as ms

    script = load_script(Path(job["script"]))
    target = tvm.target.Target(script.TARGET)
    measure = _Measure(ms, tvm, script, target, Path(path).parent)
    job["deadline"] = time.time() + job["seconds"]
    with open(answers, "w", buffering=1, encoding="ascii") as rows:
        for name in job["kernels"]:
            if time.time() >= job["deadline"]:
                break
            for row in measure.tuned(name, job):
                rows.write(json.dumps({"kernel": name, **row}) + "\n")
    return 0


def _without_intrinsics() -> None:
    """Every search reads all of TVM's tensor intrinsics, for a good part of a minute; `space` uses none."""
    sys.modules["tvm.s_tir.tensor_intrin"] = ModuleType("tensor_intrin")


class _Measure:
    """Builds and times candidates; objects are made in this process, runs have processes of their own."""

    def __init__(self, ms: Any, tvm: Any, script: Any, target: Any, folder: Path) -> None:
        self.ms, self.tvm, self.script, self.target = ms, tvm, script, target
        self.runner = ms.runner.LocalRunner(
            timeout_sec=TIMEOUT_SECONDS,
            evaluator_config=ms.runner.EvaluatorConfig(number=1, repeat=5, min_repeat_ms=10),
        )
        self.builder = _builder(ms, tvm, script.CONFIG, folder)

    def tuned(self, name: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One kernel: what is known after every round of trials."""
        ms = self.ms
        function = self.script.KERNELS[name][0].with_attr("global_symbol", "main")
        function = function.with_attr("estimated_flops", 1)  # its own estimate takes no names
        own = self.seconds(self.script.scheduled(name).with_attr("global_symbol", "main"))
        database = ms.database.MemoryDatabase(module_equality="structural")
        trials = 0
        while trials < job["trials"] and time.time() < job["deadline"]:
            count = min(ROUND, job["trials"] - trials)
            ms.tune_tir(
                function,
                self.target,
                str(Path(job["script"]).parent),
                count,
                space=self.space(),
                num_trials_per_iter=count,
                builder=self.builder,
                runner=self.runner,
                database=database,
                cost_model="random",
                strategy="replay-trace",
                seed=1 + trials,
                num_tuning_cores=1,
            )
            trials += count
            found = [
                (min(map(float, r.run_secs)), r.trace)
                for r in database.get_all_tuning_records()
                if r.run_secs
            ]
            best = min(found, key=lambda pair: pair[0], default=None)
            row = {"own": own, "trials": trials, "best": None, "trace": []}
            if best is not None:
                row |= {"best": best[0], "trace": [str(line) for line in best[1].as_python()]}
            yield row

    def space(self) -> Any:
        """TVM's own rules for processors without tensor intrinsics; what is drawn anew has no mutators."""
        ms = self.ms
        rules, after = ms.schedule_rule.ScheduleRule.create("llvm"), ms.postproc.Postproc.create("llvm")
        return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs=after, mutator_probs={})

    def seconds(self, function: Any) -> float | None:
        """How long a scheduled kernel takes, the least of some runs; None where it fails."""
        ms = self.ms
        module = self.tvm.IRModule({"main": function})
        built = self.builder.build([ms.builder.BuilderInput(module, self.target)])[0]
        if built.error_msg is not None:
            return None
        arguments = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
        given = ms.runner.RunnerInput(built.artifact_path, "cpu", arguments)
        result = self.runner.run([given])[0].result()
        return None if result.error_msg is not None else min(float(s) for s in result.run_secs)


def _builder(ms: Any, tvm: Any, config: dict[str, Any], folder: Path) -> Any:
    """A builder of MetaSchedule's that works in this process; its own starts others, which takes longer."""
    from tvm.support.tar import tar

    @tvm.ir.utils.derived_object
    class Builder(ms.builder.PyBuilder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.made = 0

        def build(self, build_inputs: list[Any]) -> list[Any]:
            return [self.one(i) for i in build_inputs]

        def one(self, given: Any) -> Any:
            self.made += 1
            place = folder / f"trial{self.made}"  # which TVM removes when it has run
            place.mkdir()
            path = str(place / "kernel.tar")
            try:
                with tvm.transform.PassContext(opt_level=3, config=config):
                    made = tvm.compile(given.mod, target=given.target)
                made.export_library(path, fcompile=tar)
            except Exception as problem:  # TVM raises whatever its C++ throws: this trial is none
                return ms.builder.BuilderResult(None, str(problem))
            return ms.builder.BuilderResult(path, None)

    return Builder()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
