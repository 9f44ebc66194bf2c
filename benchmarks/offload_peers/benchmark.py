"""The offload benchmark, as the runner takes it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from harness.results import Results
from harness.runner import Benchmark, Record

from . import cases, goals, report, run


class Offload(Benchmark):
    """A training step by where its named activations wait."""

    name = "offload"
    packages = report.PACKAGES
    context: run.Context

    def cases(self) -> Iterable[cases.Case]:
        return cases.all_cases()

    def start(self) -> Record:
        options = self.options
        self.context = run.Context(
            self.platform, self.without, self.again, rounds=options.rounds, small=options.small
        )
        return {"xla_flags": os.environ.get("XLA_FLAGS", ""), "small": options.small}

    def introduction(self) -> str:
        return (
            "steps: median, over keep's (quartiles); activation memory: over recompute's, of keep's"
        )

    def measure(self, case: cases.Case) -> Record:
        return run.measure(self.context, case)

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return report.line(name, record)

    def judge(self, results: Results) -> None:
        judged = goals.evaluate(results.data["cases"])
        print("\ngoals:", *(goal.line() for goal in judged), sep="\n")
        results.data["goals"] = [goal.record() for goal in judged]
