"""Relational layers benchmark: RGCN, RGAT and HGT against their byte floors and real peers.

    python benchmarks/relational.py --output relational.json --budget 580
    python benchmarks/relational.py --resume relational.json --only '/bf16/|/d128/' --budget 580
    python benchmarks/relational.py --platform cpu --output relational_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What the JAX rivals need to be at their best: scatters with the hardware's atomics (jaxlib 0.10.2
# to 0.11.0 would retry by compare-and-swap), and cuDNN's ragged products.
BEST_FLAGS = (
    "--xla_backend_extra_options=-nvptx-allow-ftz-atomics",
    "--xla_gpu_experimental_use_ragged_dot_fusion=true",
)
PYG_SHARE = 0.35  # of the budget


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--platform", choices=("auto", "cuda", "cpu"), default="auto", help="JAX backend")
    add("--only", metavar="REGEX", help="the cases whose name it matches; default: the core table")
    add("--graphs", metavar="NAMES", help="run on these graphs, e.g. tiny or aifb,wordnet")
    add("--output", type=Path, metavar="FILE", help="write JSON there, rewritten after each case")
    add("--resume", type=Path, metavar="FILE", help="go on with that file, skipping its cases")
    add("--budget", type=float, metavar="SECONDS", help="start no case that may end later")
    add("--rivals", choices=("auto", "all", "none"), default="auto", help="auto: all on a GPU")
    add("--without", default="", metavar="NAMES", help="contenders to leave out, e.g. pyg,einsum")
    add("--again", default="", metavar="NAMES", help="of --resume, measure only these again")
    add("--rounds", type=int, metavar="N", help="rounds of each timing; default: 5, CPU 21")
    add("--flags", choices=("best", "plain"), default="best", help="XLA flags of the JAX rivals")
    add("--pyg-python", default=sys.executable, metavar="FILE", help="a Python that has PyG")
    add("--list", action="store_true", help="print the names of the cases and stop")
    add("--goals", action="store_true", help="only judge the file given by --resume")
    options = parser.parse_args(argv)
    if options.resume and options.output:
        parser.error("give --output or --resume, not both; --resume also writes its file")
    if options.goals and not options.resume:
        parser.error("--goals judges a file: give it with --resume")
    if options.again and not options.resume:
        parser.error("--again goes over a file: give it with --resume")
    return options


def prepare(options: argparse.Namespace) -> None:
    """Sets what JAX reads from the environment; before JAX is imported."""
    if options.platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # PyG's process comes first and needs the card's memory; later JAX may take all of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    if options.flags == "best" and options.platform != "cpu":
        os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *BEST_FLAGS)).strip()


def select(options: argparse.Namespace, on_gpu: bool, with_rivals: bool) -> list[Any]:
    """The cases that the options ask for, in the order in which they run."""
    from relational_peers import cases

    lists = [cases.gpu_cases()] if on_gpu else [cases.cpu_cases()]
    if not on_gpu and options.only is not None:  # to test the logic of the others
        lists.append(cases.gpu_cases())
    if options.graphs:
        lists = [cases.for_graphs(part, tuple(options.graphs.split(","))) for part in lists]
    named: dict[str, Any] = {}
    for case in (c for part in lists for c in part):
        named.setdefault(case.name, case)
    found = cases.ordered(list(named.values()))
    if options.only is None:
        found = [c for c in found if c.tier < 2]
    else:
        found = [c for c in found if re.search(options.only, c.name)]
    without = set(filter(None, options.without.split(",")))
    if "pyg" in without or not with_rivals:
        found = [c for c in found if c.kind != "pyg"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    started = time.monotonic()
    options = arguments(argv)
    prepare(options)
    import jax
    from harness import machine
    from harness.results import Results
    from relational_peers import ours, report
    from relational_peers.run import Context

    on_gpu = jax.default_backend() == "gpu"
    if options.platform == "cuda" and not on_gpu:
        sys.exit(f"relational: --platform cuda, but JAX's backend is {jax.default_backend()}")
    results = Results(options.resume or options.output, resume=options.resume is not None)
    if options.goals:
        judge(results)
        return 0
    with_rivals = options.rivals == "all" or (options.rivals == "auto" and on_gpu)
    cases = select(options, on_gpu, with_rivals)
    if options.list:
        for case in cases:
            print(f"{case.name:<42} {'done' if results.done(case.name) else ''}".rstrip())
        return 0
    if (why := ours.missing()) is not None:
        sys.exit(f"relational: {why}")

    platform = "cuda" if on_gpu else "cpu"
    run = machine.environment(platform, len(os.sched_getaffinity(0)), report.PACKAGES)
    notes: list[str] = []
    flags = {"xla_flags": os.environ.get("XLA_FLAGS", ""), "notes": notes}
    run |= flags | {"cases": [c.name for c in cases]}
    results.begin(run)
    driver = f" (driver {run['gpu'].get('driver_version')})" if run["gpu"] else ""
    print(f"relational: {run['device']}{driver}, {run['cpu']}, commit {run['commit'][:10]}")
    print("ratios are their time / ours, forward / training; floors are at 4.8 TB/s", flush=True)
    without, again = (set(filter(None, o.split(","))) for o in (options.without, options.again))
    ctx = Context(platform, with_rivals, without, again, options.pyg_python, options.rounds)
    if again:  # those that can be: plans are no layers, and PyG has a process of its own
        todo = [c for c in cases if c.kind == "layer" and results.done(c.name)]
    else:
        todo = [c for c in cases if not results.done(c.name)]
    failed = run_all(ctx, todo, results, notes, started, options.budget)
    if on_gpu:
        run["gpu_after"] = machine.gpu_state()
    run["seconds"] = time.monotonic() - started
    judge(results)
    results.write()
    return int(failed > 0)


def run_all(
    ctx: Any, todo: list[Any], results: Any, notes: list[str], started: float, budget: float | None
) -> int:
    """Runs the cases that fit the budget; returns how many failed."""
    from harness.budget import fits

    left = lambda: float("inf") if budget is None else budget - time.monotonic() + started  # noqa: E731
    pyg = [c for c in todo if c.kind == "pyg"]
    failed = 0
    if pyg:
        run_pyg(ctx, pyg, results, notes, left() * PYG_SHARE)
    todo = [c for c in todo if c.kind != "pyg"]
    skipped = []
    for index, case in enumerate(todo):
        if fits(case, todo[index + 1 :], left()):
            failed += not measure(case, ctx, results)
        else:
            skipped.append(case.name)
    if skipped:
        print(f"relational: budget of {budget:.0f} s spent; {len(skipped)} cases left to --resume")
    return failed


def run_pyg(ctx: Any, cases: list[Any], results: Any, notes: list[str], limit_s: float) -> None:
    """PyG's cases in their own process."""
    from relational_peers import report, run

    for name, record in run.pyg_cases(ctx, cases, min(limit_s, 1e9)):
        if isinstance(record, str):
            notes.append(record)
            print(f"note: {record}", flush=True)
            continue
        report.derive(record)
        results.add(name, record)
        print(report.line(name, record), flush=True)


def measure(case: Any, ctx: Any, results: Any) -> bool:
    """Runs one case, prints its row and keeps its record; False if ours failed."""
    from harness.results import keep_others
    from relational_peers import report, run

    begin = time.monotonic()
    try:
        if case.kind == "plan":
            record = run.plan_case(ctx, case)
        else:
            record = run.layer_case(ctx, case)
            if ctx.again:
                keep_others(record, results.data["cases"][case.name])
            report.derive(record)
    except Exception as error:  # one case's failure must not lose the others
        record = {"error": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
        print(f"{case.name:<34} FAILED {record['error'][:300]}", flush=True)
    gc.collect()
    record |= {
        "params": case.params() | {"platform": ctx.platform},
        "wall_s": time.monotonic() - begin,
    }
    results.add(case.name, record)
    if "error" in record:
        return False
    pyg = results.data["cases"].get(f"pyg/{case.name}")
    print(report.line(case.name, record, pyg), flush=True)
    passes = record.get("contenders", {}).get(report.OURS, {}).values()
    return not any("error" in entry for entry in passes)


def judge(results: Any) -> None:
    """Prints the goals, losses included, and keeps them in the file."""
    from relational_peers import goals

    cases = results.data["cases"]
    on_gpu = any(run["platform"] == "cuda" for run in results.data["runs"])
    found = goals.evaluate(cases) if on_gpu else goals.evaluate_cpu(cases)
    print("\ngoals (float32, d = 64, default precision):")
    for goal in found:
        print(goal.line())
    runs = goals.coverage(cases)
    print("training steps that ran:", ", ".join(f"{k} {n} of {m}" for k, (n, m) in runs.items()))
    results.data["coverage"] = runs
    results.data["goals"] = [goal.record() for goal in found]


if __name__ == "__main__":
    sys.exit(main())
