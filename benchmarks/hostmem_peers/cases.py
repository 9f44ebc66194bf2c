"""The list of cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from . import batch_cases, contention_cases, epoch_cases, gather_cases, sampler_cases
from . import cpu_cases as cpu

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        name: path-like; `--only` matches it.
        group: cases of a group share host memory and run one after another.
        run: measures, given the context, and returns the record.
        goals: (dotted path into the record, least value).
        seconds: what it may take with its share of the set-up; `--budget` counts with it.
    """

    name: str
    group: str
    run: Callable[[Any], dict[str, Any]]
    goals: tuple[tuple[str, float], ...] = ()
    seconds: float = 25.0
    kind = "case"
    tier = 0

    def params(self) -> dict[str, Any]:
        """Of a record that has none of its own."""
        return {}


def table_cases() -> list[Case]:
    """Uniform ids: row sizes, table sizes, odd rows, rows off alignment; then the contention."""

    def case(name: str, shape: gather_cases.Shape, goals: list[tuple[str, float]]) -> Case:
        goals = [*goals, ("ratio.torch_serial", 1.8), ("ratio.cpu_best", 1.8)]
        return Case(name, "table", lambda ctx: gather_cases.run(ctx, shape), tuple(goals))

    cases = []
    for gib in (16, 1):
        for row in (4096, 2048, 1024, 512, 256, 128, 64):
            goals = [("ratio.wholegraph", 1.6 if (gib, row) == (16, 1024) else 1.0)]
            if gib == 16:
                goals.append(("share", 0.60 if row == 64 else 0.95))
            shape = gather_cases.Shape(gib * GIB, row)
            cases.append(case(f"uniform/{gib}GiB/{row}", shape, goals))
    for row in (400, 1172, 1372, 2408, 3200):
        goals = [("share", 0.80 if row == 400 else 0.88)]
        cases.append(case(f"odd/{row}", gather_cases.Shape(4 * GIB, row), goals))
    for row in (128, 512):
        shape = gather_cases.Shape(4 * GIB, row, offset=16)
        cases.append(case(f"unaligned/{row}", shape, [("share", 0.75)]))
    for blocks in (None, 8, 16, 32, 66, 132):
        run = lambda ctx, b=blocks: contention_cases.run(ctx, b)  # noqa: E731
        cases.append(Case(f"contention/{blocks or 'default'}", "table", run, seconds=15))
    return cases


def graph_cases() -> list[Case]:
    """Sampled batches, the sampler itself, and the epoch."""
    cases = []
    for graph in ("powerlaw", "wordnet"):
        for row in batch_cases.ROW_BYTES:
            for ids in batch_cases.SEEDS:
                run = lambda ctx, g=graph, i=ids, r=row: batch_cases.run(ctx, g, i, r)  # noqa: E731
                goals = (("ratio.given", 0.97),)
                cases.append(Case(f"batch/{graph}/{row}/{ids}", f"batch {graph}", run, goals))
        if graph == "powerlaw":  # the epoch uses the same graph while it is there
            run = lambda ctx: epoch_cases.run(ctx, batch=1024, steps=200)  # noqa: E731
            goals = (
                ("ratio.cpu", 1.6),
                ("hot_speedup.cpu", 4.0),
                ("hot_speedup.cpu_distinct", 1.6),
            )
            cases.append(Case("epoch/sage", "batch powerlaw", run, goals, seconds=90))
    for batch in (1_000, 10_000):
        run = lambda ctx, b=batch: sampler_cases.run(ctx, b)  # noqa: E731
        goals = (("edges_per_s.jaxdirect", 100e6),)
        cases.append(Case(f"sampler/{batch}", "sampler", run, goals, seconds=50))
    return cases


def cpu_cases() -> list[Case]:
    """The CPU backend against XLA:CPU and NumPy."""
    cases = []
    xla, numpy = ("ratio.xla", 0.97), ("ratio.numpy", 0.97)
    for row in (64, 128, 400, 512, 1024, 4096):
        for ids in (1_000, (32 << 20) // row):
            run = lambda ctx, r=row, i=ids: cpu.gather(ctx, r, i)  # noqa: E731
            # A thousand rows take less time than any jitted call's dispatch: no goal against NumPy.
            goals = (xla,) if ids == 1_000 else (xla, numpy)
            cases.append(Case(f"cpu/gather/{row}/{ids}", "cpu", run, goals))
    for replace in (False, True):
        for batch in (100, 1_000):
            run = lambda ctx, b=batch, r=replace: cpu.sample(ctx, b, r)  # noqa: E731
            kind = "replace" if replace else "distinct"
            cases.append(Case(f"cpu/sample/{kind}/{batch}", "cpu", run, (xla, numpy)))
    return cases
