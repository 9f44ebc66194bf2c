"""The benchmark of compiled layers, as the runner takes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from harness.results import Results
from harness.runner import Benchmark, Record
from relational_peers import ours
from relational_peers.report import PACKAGES, derive
from relational_peers.run import Context

from . import cases, goals, report, run
from .contenders import COMPILED, FORMS


class Compile(Benchmark):
    """Compiled layers against those by hand, their own passes, and plain JAX; first calls."""

    name = "compile"
    packages = PACKAGES
    context: Context

    def cases(self) -> Iterable[cases.Case]:
        graphs = self.options.graphs
        return cases.every(tuple(graphs.split(",")) if graphs else None, self.platform)

    def start(self) -> Record:
        if (why := missing()) is not None:
            sys.exit(f"{self.name}: {why}")
        self.context = Context(self.platform, True, self.without, self.again, self.options.rounds)
        return {"xla_flags": os.environ.get("XLA_FLAGS", "")}

    def introduction(self) -> str:
        return "ms forward / step; ratios are their time / compiled, in ablations none / theirs"

    def measure(self, case: cases.Case) -> Record:
        measure = run.first_case if case.kind == "first" else run.layer_case
        return measure(self.context, case)

    def derive(self, record: Record) -> None:
        derive(record)

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return report.line(name, record)

    def failed(self, record: Record) -> bool:
        found = record.get("contenders", {})
        own = [found.get(name, {}) for name in (COMPILED, *FORMS)]
        return "error" in record or any("error" in e for passes in own for e in passes.values())

    def judge(self, results: Results) -> None:
        found = results.data["cases"]
        judged = goals.evaluate(found)
        print("\ngoals (float32, d = 64, default precision):")
        print(*(goal.line() for goal in judged), sep="\n")
        runs = goals.coverage(found)
        counts = ", ".join(f"{k} {n} of {m}" for k, (n, m) in runs.items())
        print("training steps of the new models that ran:", counts or "none")
        results.data["coverage"] = runs
        results.data["goals"] = [goal.record() for goal in judged]


def missing() -> str | None:
    """Why compiled layers cannot be measured, or None."""
    if (why := ours.missing()) is not None:
        return why
    from jaxdirect import relational

    return None if hasattr(relational, "compile") else "jaxdirect.relational has no compile"
