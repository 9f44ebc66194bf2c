"""The paper's form of Im2win taken apart: what each feature is worth, and what is held in memory.

    python benchmarks/conv_ablation.py --output conv_ablation.json --budget 580
    python benchmarks/conv_ablation.py --platform cpu --output conv_ablation_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import conv


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--platform", choices=("auto", "cuda", "cpu"), default="auto", help="JAX backend")
    add("--only", metavar="REGEX", default="", help="the cases whose name it matches")
    add("--output", type=Path, metavar="FILE", help="write JSON there, rewritten after each case")
    add("--resume", type=Path, metavar="FILE", help="go on with that file, skipping its cases")
    add("--budget", type=float, metavar="SECONDS", help="start no case that may end later")
    add("--without", default="", metavar="NAMES", help="contenders to leave out, e.g. base")
    add("--rounds", type=int, metavar="N", help="rounds of each timing; default: 5, CPU 21")
    add("--small", action="store_true", help="tiny sizes; checks the logic, means nothing")
    add("--list", action="store_true", help="print the names of the cases and stop")
    options = parser.parse_args(argv)
    if options.resume and options.output:
        parser.error("give --output or --resume, not both; --resume also writes its file")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    started = time.monotonic()
    options = arguments(argv)
    conv.prepare(options)
    import jax
    from conv_peers import ablation, ours, report
    from conv_peers.run import Context
    from harness import machine
    from harness.results import Results

    on_gpu = jax.default_backend() == "gpu"
    if options.platform == "cuda" and not on_gpu:
        sys.exit(f"conv_ablation: --platform cuda, but JAX's backend is {jax.default_backend()}")
    results = Results(options.resume or options.output, resume=options.resume is not None)
    cases = [c for c in ablation.cases(on_gpu) if re.search(options.only, c.name)]
    if options.list:
        for case in cases:
            print(f"{case.name:<42} {'done' if results.done(case.name) else ''}".rstrip())
        return 0

    todo = [c for c in cases if not results.done(c.name)]
    platform = "cuda" if on_gpu else "cpu"
    run = machine.environment(platform, len(os.sched_getaffinity(0)), report.PACKAGES)
    notes: list[str] = []
    run |= {"xla_flags": os.environ.get("XLA_FLAGS", ""), "notes": notes, "small": options.small}
    results.begin(run | {"cases": [c.name for c in cases]})
    print(f"conv_ablation: {run['device']}, {run['cpu']}, commit {run['commit'][:10]}", flush=True)
    if (why := ours.missing()) is not None:
        conv.note(notes, f"{why}; only XLA is measured")
    ctx = Context(platform, set(filter(None, options.without.split(","))), set(), todo)
    ctx.rounds, ctx.small = options.rounds, options.small
    ctx.contenders, ctx.unchecked = ablation.contenders, (ablation.WINDOWS,)
    failed = conv.run_all(ctx, todo, results, notes, started, options.budget)
    for record in results.data["cases"].values():
        ablation.derive(record, results.data["runs"][record["run"]]["small"])
    lines, results.data["means"] = ablation.tables(results.data["cases"])
    print("", *lines, sep="\n", flush=True)
    if on_gpu:
        results.data["runs"][-1]["gpu_after"] = machine.gpu_state()
    results.data["runs"][-1]["seconds"] = time.monotonic() - started
    results.write()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
