"""The offload benchmark, as the runner takes it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

from harness import worker
from harness.results import Results
from harness.runner import Benchmark, Record

from . import batch, budgets, cases, goals, peers_torch, policies, rate, report, run, table

MEASURES = {
    "policies": policies.measure,
    "budgets": budgets.measure,
    "batch": batch.measure,
    "rate": rate.measure,
}


class Offload(Benchmark):
    """A training step by where its named activations wait."""

    name = "offload"
    packages = report.PACKAGES
    peer = "torch"
    share = 0.25
    context: run.Context

    def cases(self) -> Iterable[cases.Case]:
        return cases.all_cases()

    def start(self) -> Record:
        options = self.options
        self.context = run.Context(self.platform, self.without, self.again, options)
        return {"xla_flags": os.environ.get("XLA_FLAGS", ""), "small": options.small}

    def introduction(self) -> str:
        return (
            "steps: median, over keep's (quartiles); activation memory: over recompute's, of keep's"
        )

    def measure(self, case: cases.Case) -> Record:
        return MEASURES[case.kind](self.context, case)

    def measure_peer(self, found: list[Any], limit_s: float) -> Iterator[tuple[str, Record | str]]:
        sizes = {c.model: dataclasses.asdict(self.context.config(c.model)) for c in found}
        job = {
            "device": self.platform,
            "deadline_s": limit_s,
            "rounds": self.options.rounds or peers_torch.ROUNDS,
            "sizes": sizes,
            "cases": [c.params() | {"name": c.name} for c in found],
        }
        python = self.options.torch_python
        return worker.records(python, "offload_peers.torch_worker", job, "PyTorch")

    def derive(self, record: Record) -> None:
        report.derive(record)

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return table.line(name, record)

    def judge(self, results: Results) -> None:
        judged = goals.evaluate(results.data["cases"])
        print("\ngoals:", *(goal.line() for goal in judged), sep="\n")
        results.data["goals"] = [goal.record() for goal in judged]
