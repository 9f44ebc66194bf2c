"""Convolution benchmark: forward, dgrad and wgrad against their floors, cuDNN and PyTorch.

    python benchmarks/conv.py --output conv.json --budget 580
    python benchmarks/conv.py --resume conv.json --only '^(depthwise|causal|resnet)' --budget 580
    python benchmarks/conv.py --platform cpu --output conv_cpu.json

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

TORCH_SHARE = 0.25  # of the budget


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--platform", choices=("auto", "cuda", "cpu"), default="auto", help="JAX backend")
    add("--only", metavar="REGEX", help="the cases whose name it matches; default: the core table")
    add("--output", type=Path, metavar="FILE", help="write JSON there, rewritten after each case")
    add("--resume", type=Path, metavar="FILE", help="go on with that file, skipping its cases")
    add("--budget", type=float, metavar="SECONDS", help="start no case that may end later")
    add("--without", default="", metavar="NAMES", help="contenders to leave out, e.g. torch,auto")
    add("--again", default="", metavar="NAMES", help="of --resume, measure only these again")
    add("--rounds", type=int, metavar="N", help="rounds of each timing; default: 5, CPU 21")
    add("--torch-python", default=sys.executable, metavar="FILE", help="a Python with PyTorch")
    add("--small", action="store_true", help="tiny sizes; checks the logic, means nothing")
    add("--list", action="store_true", help="print the names of the cases and stop")
    add("--goals", action="store_true", help="only judge the file given by --resume")
    options = parser.parse_args(argv)
    if options.resume and options.output:
        parser.error("give --output or --resume, not both; --resume also writes its file")
    for flag in ("goals", "again"):
        if getattr(options, flag) and not options.resume:
            parser.error(f"--{flag} goes over a file: give it with --resume")
    return options


def prepare(options: argparse.Namespace) -> None:
    """Sets what JAX reads from the environment; before JAX is imported."""
    if options.platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # PyTorch's process comes first and needs the card's memory; later JAX may take all of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")


def select(options: argparse.Namespace, on_gpu: bool) -> list[Any]:
    """The cases that the options ask for, in the order in which they run."""
    from conv_peers import cases

    lists = [cases.gpu_cases()] if on_gpu else [cases.cpu_cases()]
    if not on_gpu and options.only is not None:  # to test the logic of the others
        lists.append(cases.gpu_cases())
    named = {case.name: case for part in lists for case in part}
    found = cases.ordered(list(named.values()))
    if options.only is None:
        found = [c for c in found if c.tier < 2]
    else:
        found = [c for c in found if re.search(options.only, c.name)]
    if "torch" in options.without.split(","):
        found = [c for c in found if c.kind != "torch"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    started = time.monotonic()
    options = arguments(argv)
    prepare(options)
    import jax
    from conv_peers import ours, problem, report
    from conv_peers.run import Context
    from harness import machine
    from harness.results import Results

    on_gpu = jax.default_backend() == "gpu"
    if options.platform == "cuda" and not on_gpu:
        sys.exit(f"conv: --platform cuda, but JAX's backend is {jax.default_backend()}")
    results = Results(options.resume or options.output, resume=options.resume is not None)
    if options.goals:
        judge(results)
        return 0
    cases = select(options, on_gpu)
    if options.list:
        for case in cases:
            print(f"{case.name:<42} {'done' if results.done(case.name) else ''}".rstrip())
        return 0

    without, again = (set(filter(None, o.split(","))) for o in (options.without, options.again))
    if again:  # those that can be: PyTorch has a process of its own
        todo = [c for c in cases if c.kind != "torch" and results.done(c.name)]
    else:
        todo = [c for c in cases if not results.done(c.name)]
    platform = "cuda" if on_gpu else "cpu"
    run = machine.environment(platform, len(os.sched_getaffinity(0)), report.PACKAGES)
    notes: list[str] = []
    run |= {"xla_flags": os.environ.get("XLA_FLAGS", ""), "notes": notes, "small": options.small}
    run |= {"peak_flops": problem.PEAK, "hbm_bytes_per_s": problem.HBM_BYTES_PER_S}
    results.begin(run | {"cases": [c.name for c in cases]})
    driver = f" (driver {run['gpu'].get('driver_version')})" if run["gpu"] else ""
    print(f"conv: {run['device']}{driver}, {run['cpu']}, commit {run['commit'][:10]}")
    peaks = ", ".join(f"{k} {v / 1e12:.0f}" for k, v in problem.PEAK.items())
    rate = problem.HBM_BYTES_PER_S / 1e12
    print(f"floors: the larger of operations over {peaks} TFLOPS and bytes over {rate} TB/s")
    print("ratios are their time / ours; err is relative L2 / componentwise", flush=True)
    if (why := ours.missing()) is not None:
        note(notes, f"{why}; only its rivals are measured")
    ctx = Context(platform, without, again, todo, options.torch_python, options.rounds)
    ctx.small = options.small
    failed = run_all(ctx, todo, results, notes, started, options.budget)
    if on_gpu:
        results.data["runs"][-1]["gpu_after"] = machine.gpu_state()
    results.data["runs"][-1]["seconds"] = time.monotonic() - started
    judge(results)
    results.write()
    return int(failed > 0)


def note(notes: list[str], text: str) -> None:
    """Prints a line that also goes into the file."""
    notes.append(text)
    print(f"note: {text}", flush=True)


def run_all(
    ctx: Any, todo: list[Any], results: Any, notes: list[str], started: float, budget: float | None
) -> int:
    """Runs the cases that fit the budget; returns how many failed."""
    from conv_peers import report, run
    from harness.budget import fits

    left = lambda: float("inf") if budget is None else budget - time.monotonic() + started  # noqa: E731
    torch = [c for c in todo if c.kind == "torch"]
    if torch:
        for name, record in run.torch_cases(ctx, torch, min(left() * TORCH_SHARE, 1e9)):
            if isinstance(record, str):
                note(notes, record)
                continue
            results.add(name, record)
            print(report.line(name, record), flush=True)
    failed = 0
    todo = [c for c in todo if c.kind != "torch"]
    skipped = []
    for index, case in enumerate(todo):
        if fits(case, todo[index + 1 :], left()):
            failed += not measure(case, ctx, results)
        else:
            skipped.append(case.name)
    if skipped:
        print(f"conv: budget of {budget:.0f} s spent; {len(skipped)} cases left to --resume")
    return failed


def measure(case: Any, ctx: Any, results: Any) -> bool:
    """Runs one case, prints its row and keeps its record; False if it failed."""
    from conv_peers import report, run
    from harness.results import keep_others

    begin = time.monotonic()
    try:
        one = run.resnet_case if case.kind == "resnet50" else run.layer_case
        record = one(ctx, case)
        if ctx.again:
            keep_others(record, results.data["cases"][case.name])
        report.derive(record)
    except Exception as error:  # one case's failure must not lose the others
        record = {"error": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
    gc.collect()
    record |= {
        "params": case.params() | {"platform": ctx.platform},
        "wall_s": time.monotonic() - begin,
    }
    results.add(case.name, record)
    torch = results.data["cases"].get(f"torch/{case.name}")
    print(report.line(case.name, record, torch), flush=True)
    return "error" not in record


def judge(results: Any) -> None:
    """Prints the goals, losses included, and keeps them in the file."""
    from conv_peers import goals

    cases = results.data["cases"]
    on_gpu = any(run["platform"] == "cuda" for run in results.data["runs"])
    found = goals.evaluate(cases) if on_gpu else goals.evaluate_cpu(cases)
    print("\ngoals:")
    for goal in found:
        print(goal.line())
    results.data["goals"] = [goal.record() for goal in found]


if __name__ == "__main__":
    sys.exit(main())
