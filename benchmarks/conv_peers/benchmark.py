"""The convolution benchmark, as the runner takes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness import worker
from harness.results import Results
from harness.runner import Benchmark, Record

from . import cases, goals, ours, problem, report, run


class Conv(Benchmark):
    """Forward, dgrad and wgrad of layers, and a network's step."""

    name = "conv"
    packages = report.PACKAGES
    peer = "torch"
    share = 0.25
    context: run.Context

    def cases(self) -> Iterable[cases.Case]:
        if self.platform == "cuda":
            return cases.gpu_cases()
        found = cases.cpu_cases()
        # Those of a GPU only to test their logic.
        return found if self.options.only is None else [*found, *cases.gpu_cases()]

    def contenders(self) -> tuple[Callable[..., Iterator[run.Contender]], tuple[str, ...]]:
        """What gives those of a layer, and the names of those that have no result."""
        return run.usual, ()

    def start(self) -> Record:
        if (why := ours.missing()) is not None:
            self.note(f"{why}; only its rivals are measured")
        contenders, unchecked = self.contenders()
        self.context = run.Context(
            self.platform,
            self.without,
            self.again,
            rounds=self.options.rounds,
            small=self.options.small,
            contenders=contenders,
            unchecked=unchecked,
        )
        return {
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "small": self.options.small,
            "peak_flops": problem.PEAK,
            "hbm_bytes_per_s": problem.HBM_BYTES_PER_S,
        }

    def introduction(self) -> str:
        peaks = ", ".join(f"{k} {v / 1e12:.0f}" for k, v in problem.PEAK.items())
        rate = problem.HBM_BYTES_PER_S / 1e12
        return (
            f"floors: the larger of operations over {peaks} TFLOPS and bytes over {rate} TB/s\n"
            "ratios are their time / ours; err is relative L2 / componentwise"
        )

    def measure(self, case: cases.Case) -> Record:
        measure = run.resnet_case if case.kind == "resnet50" else run.layer_case
        return measure(self.context, case)

    def measure_peer(self, found: list[Any], limit_s: float) -> Iterator[tuple[str, Record | str]]:
        job = {
            "device": self.platform,
            "deadline_s": limit_s,
            "rounds": self.context.count,
            "small": self.options.small,
            "cases": [c.params() | {"name": c.name} for c in found],
        }
        python = self.options.torch_python
        return worker.records(python, "conv_peers.torch_worker", job, "PyTorch")

    def derive(self, record: Record) -> None:
        report.derive(record)

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return report.line(name, record, peer)

    def judge(self, results: Results) -> None:
        found = results.data["cases"]
        on_gpu = any(run["platform"] == "cuda" for run in results.data["runs"])
        judged = goals.evaluate(found) if on_gpu else goals.evaluate_cpu(found)
        print("\ngoals:", *(goal.line() for goal in judged), sep="\n")
        results.data["goals"] = [goal.record() for goal in judged]
