"""Host-table benchmark: gather, sampling and training from host memory, against real peers.

    python benchmarks/hostmem.py --output hostmem.json --budget 540
    python benchmarks/hostmem.py --resume hostmem.json --only '^(sampler|epoch)/'
    python benchmarks/hostmem.py --platform cpu --output hostmem_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def table_cases() -> list[Case]:
    """Uniform ids: row sizes, table sizes, odd rows, rows off alignment; then the contention."""
    from hostmem_peers import contention_cases, gather_cases

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
    from hostmem_peers import batch_cases, epoch_cases, sampler_cases

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
    from hostmem_peers import cpu_cases as cpu

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


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--platform", choices=("auto", "cuda", "cpu"), default="auto", help="JAX backend")
    add("--only", default="", metavar="REGEX", help="run the cases whose name it matches")
    add("--output", type=Path, metavar="FILE", help="write JSON there, rewritten after each case")
    add("--resume", type=Path, metavar="FILE", help="go on with that file, skipping its cases")
    add("--budget", type=float, metavar="SECONDS", help="start no case that may end later")
    add("--threads", type=int, help="threads of the CPU peers (default: all cores, at most 16)")
    add("--without", default="", metavar="NAMES", help="peers to leave out, e.g. wholegraph,numpy")
    add("--small", action="store_true", help="tiny sizes: tests the logic, figures mean nothing")
    add("--list", action="store_true", help="print the names of the cases and stop")
    options = parser.parse_args(argv)
    if options.resume and options.output:
        parser.error("give --output or --resume, not both; --resume also writes its file")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    started = time.monotonic()
    options = arguments(argv)
    if options.platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # PyTorch, CuPy and WholeGraph allocate on the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    import jax
    from harness import machine
    from harness.results import Results
    from hostmem_peers import report
    from hostmem_peers.context import Context, cpu_count

    on_gpu = jax.default_backend() == "gpu"
    if options.platform == "cuda" and not on_gpu:
        sys.exit(f"hostmem: --platform cuda, but JAX's backend is {jax.default_backend()}")
    cases = [*table_cases(), *graph_cases(), *cpu_cases()]
    if on_gpu:
        cases = [c for c in cases if c.group != "cpu"]
    elif not options.only:  # the others run on the CPU when asked for, to test their logic
        cases = [c for c in cases if c.group == "cpu"]
    cases = [c for c in cases if re.search(options.only, c.name)]
    results = Results(options.resume or options.output, resume=options.resume is not None)
    if options.list:
        for case in cases:
            print(f"{case.name:<30} {'done' if results.done(case.name) else ''}".rstrip())
        return 0

    threads = options.threads or min(16, cpu_count())
    ctx = Context("cuda" if on_gpu else "cpu", options.small, threads)
    ctx.without |= set(filter(None, options.without.split(",")))
    run = machine.environment(ctx.platform, threads, report.PACKAGES) | {"small": options.small}
    run |= {
        "link_bytes_per_s": ctx.link,
        "notes": ctx.notes,
        "peer_versions": ctx.versions,
        "cases": [c.name for c in cases],
    }
    results.begin(run)
    driver = f" (driver {run['gpu'].get('driver_version')})" if run["gpu"] else ""
    where = f"{run['device']}{driver}, {run['cpu']}, {threads} threads, commit {run['commit'][:10]}"
    print(f"hostmem: {where}; ratios are peer time / our time", flush=True)
    failed = 0
    for case in cases:
        if results.done(case.name):
            continue
        elapsed = time.monotonic() - started
        if options.budget is not None and elapsed + case.seconds > options.budget:
            print(f"hostmem: budget of {options.budget:.0f} s spent; go on with --resume")
            break
        failed += not measure(case, ctx, results)
    if on_gpu:
        run["gpu_after"] = machine.gpu_state()
    run["seconds"] = time.monotonic() - started
    results.write()
    return int(failed > 0)


def measure(case: Case, ctx: Any, results: Any) -> bool:
    """Runs one case, prints its row and keeps its record; False if it raised."""
    from harness.results import judge
    from hostmem_peers import report

    before = bool(ctx.link)
    ctx.enter(case.group)
    begin = time.monotonic()
    try:
        record = case.run(ctx)
    except Exception as error:  # one case's failure must not lose the others
        record = {"error": f"{type(error).__name__}: {error}"}
        results.add(case.name, record)
        traceback.print_exc()
        print(f"{case.name:<30} FAILED {record['error']}", flush=True)
        return False
    if ctx.link and not before:
        rates = ", ".join(f"{k} {v / 1e9:.2f}" for k, v in ctx.link.items())
        print(f"ceilings in GB/s: {rates}", flush=True)
    record["goals"] = [] if ctx.small else judge(record, case.goals)
    record["wall_s"] = time.monotonic() - begin
    results.add(case.name, record)
    print(report.line(case.name, record), flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
