"""Ends a case that takes too long, and goes on with the rest.

A compiler can work for minutes on one program, and nothing ends it but the end of its process. So
the benchmark runs in a process that is forked before JAX is imported, and says which case begins.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

# measure(options, begins) -> exit code; it calls begins(name) before a case, begins("") after all.
Measure = Callable[[argparse.Namespace, Callable[[str], object]], int]


def run(module: str, name: str, options: argparse.Namespace) -> int:
    """Runs a `runner.Benchmark`, which is imported where it measures; the process's exit code."""

    def measure(options: argparse.Namespace, begins: Callable[[str], object]) -> int:
        from . import runner

        return runner.run(getattr(importlib.import_module(module), name), options, begins)

    return watched(measure, options)


def watched(measure: Measure, options: argparse.Namespace) -> int:
    """`measure`, anew each time that a case takes more than `options.limit` s, or kills it."""
    if options.limit is None:
        return measure(options, lambda name: None)
    context, failed = multiprocessing.get_context("fork"), 0
    while True:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=lambda to=sender: sys.exit(measure(options, to.send)))
        child.start()
        sender.close()
        begun, late = _follow(receiver, options.limit)
        if late:
            child.kill()
        child.join()
        code, case = child.exitcode or 0, _current(begun)
        if not case or not (late or code < 0):
            return max(failed, abs(code))
        failed, why = 1, f"took more than {options.limit:g} s" if late else "its process died"
        options.lost = {case: why}
        options.finished |= set(begun)
        options.resume, options.output = options.resume or options.output, None


def _follow(receiver: Any, limit_s: float) -> tuple[list[str], bool]:
    """The cases that a process begins, until it ends; and whether the last one takes too long."""
    begun: list[str] = []
    while receiver.poll(limit_s if _current(begun) else None):
        try:
            begun.append(receiver.recv())
        except EOFError:
            return begun, False
    return begun, True


def _current(begun: list[str]) -> str:
    """The case that is being measured, or ""."""
    return begun[-1] if begun else ""
