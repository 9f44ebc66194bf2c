"""The host-table benchmark, as the runner takes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from harness.results import judge
from harness.runner import Benchmark, Record

from . import cases, report
from .context import Context, cpu_count


class Hostmem(Benchmark):
    """Gather, sampling and training from host memory."""

    name = "hostmem"
    packages = report.PACKAGES

    def __init__(self, options: argparse.Namespace, platform: str):
        super().__init__(options, platform)
        self.context = Context(platform, options.small, options.threads or min(16, cpu_count()))
        self.context.without |= self.without
        self.notes = self.context.notes

    def cases(self) -> Iterable[cases.Case]:
        found = [*cases.table_cases(), *cases.graph_cases(), *cases.cpu_cases()]
        if self.platform == "cuda":
            return [c for c in found if c.group != "cpu"]
        # The others run on a CPU when they are asked for, to test their logic.
        return [c for c in found if c.group == "cpu" or self.options.only is not None]

    def start(self) -> Record:
        return {
            "threads": self.context.threads,
            "small": self.context.small,
            "link_bytes_per_s": self.context.link,
            "peer_versions": self.context.versions,
        }

    def introduction(self) -> str:
        return f"{self.context.threads} threads; ratios are peer time / our time"

    def measure(self, case: cases.Case) -> Record:
        known = bool(self.context.link)
        self.context.enter(case.group)
        record = case.run(self.context)
        if self.context.link and not known:
            rates = ", ".join(f"{k} {v / 1e9:.2f}" for k, v in self.context.link.items())
            print(f"ceilings in GB/s: {rates}", flush=True)
        record["goals"] = [] if self.context.small else judge(record, case.goals)
        return record

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        return report.line(name, record)
