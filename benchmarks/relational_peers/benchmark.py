"""The relational benchmark, as the runner takes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from harness import worker
from harness.results import Results
from harness.runner import Benchmark, Record

from . import cases, goals, ours, report, run


class Relational(Benchmark):
    """Plans, layers with their rivals, and PyG."""

    name = "relational"
    packages = report.PACKAGES
    peer = "pyg"
    share = 0.35
    context: run.Context

    @property
    def rivals(self) -> bool:
        """Whether others than jaxdirect and its reference take part."""
        asked = self.options.rivals
        return asked == "all" or (asked == "auto" and self.platform == "cuda")

    def cases(self) -> Iterable[cases.Case]:
        lists = [cases.gpu_cases() if self.platform == "cuda" else cases.cpu_cases()]
        if self.platform == "cpu" and self.options.only is not None:  # to test their logic
            lists.append(cases.gpu_cases())
        if self.options.graphs:
            graphs = tuple(self.options.graphs.split(","))
            lists = [cases.for_graphs(part, graphs) for part in lists]
        found = cases.ordered([c for part in lists for c in part])
        return found if self.rivals else [c for c in found if c.kind != self.peer]

    def start(self) -> Record:
        if (why := ours.missing()) is not None:
            sys.exit(f"{self.name}: {why}")
        self.context = run.Context(
            self.platform, self.rivals, self.without, self.again, self.options.rounds
        )
        return {"xla_flags": os.environ.get("XLA_FLAGS", "")}

    def introduction(self) -> str:
        return "ratios are their time / ours, forward / training; floors are at 4.8 TB/s"

    def measure(self, case: cases.Case) -> Record:
        measure = run.plan_case if case.kind == "plan" else run.layer_case
        return measure(self.context, case)

    def measure_peer(self, found: list[Any], limit_s: float) -> Iterator[tuple[str, Record | str]]:
        wanted = [c.params() | {"name": c.name} for c in found]
        job = {"device": self.platform, "deadline_s": limit_s, "cases": wanted}
        return worker.records(self.options.pyg_python, "relational_peers.pyg_worker", job, "PyG")

    def derive(self, record: Record) -> None:
        if "contenders" in record:
            report.derive(record)

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return report.line(name, record, peer)

    def failed(self, record: Record) -> bool:
        passes = record.get("contenders", {}).get(report.OURS, {}).values()
        return "error" in record or any("error" in entry for entry in passes)

    def judge(self, results: Results) -> None:
        found = results.data["cases"]
        on_gpu = any(run["platform"] == "cuda" for run in results.data["runs"])
        judged = goals.evaluate(found) if on_gpu else goals.evaluate_cpu(found)
        print("\ngoals (float32, d = 64, default precision):")
        print(*(goal.line() for goal in judged), sep="\n")
        runs = goals.coverage(found)
        counts = ", ".join(f"{k} {n} of {m}" for k, (n, m) in runs.items())
        print("training steps that ran:", counts)
        results.data["coverage"] = runs
        results.data["goals"] = [goal.record() for goal in judged]
