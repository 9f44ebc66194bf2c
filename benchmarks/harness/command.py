"""The command line that the benchmarks share. No JAX in here: it reads its environment once."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_EVERYWHERE = ("platform", "only", "output", "resume", "budget", "limit", "without", "list")
_OPTIONS: dict[str, dict[str, Any]] = {
    "platform": {"choices": ("auto", "cuda", "cpu"), "default": "auto", "help": "JAX backend"},
    "only": {"metavar": "REGEX", "help": "the cases whose name it matches; default: the core"},
    "output": {"type": Path, "metavar": "FILE", "help": "JSON, rewritten after each case"},
    "resume": {"type": Path, "metavar": "FILE", "help": "go on with it, skipping its cases"},
    "budget": {"type": float, "metavar": "SECONDS", "help": "start no case that may end later"},
    "limit": {"type": float, "metavar": "SECONDS", "help": "give up a case that takes longer"},
    "without": {"default": "", "metavar": "NAMES", "help": "contenders to leave out, e.g. torch"},
    "list": {"action": "store_true", "help": "print the names of the cases and stop"},
    "again": {"default": "", "metavar": "NAMES", "help": "of --resume, measure only these again"},
    "rounds": {"type": int, "metavar": "N", "help": "of each timing; default: 5, CPU 21"},
    "small": {"action": "store_true", "help": "tiny sizes; checks the logic, means nothing"},
    "goals": {"action": "store_true", "help": "only judge the file given by --resume"},
}


def parser(doc: str | None, *also: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have, and some of the others.

    Args:
        doc: of the script; its first line is printed.
        also: names of further options; a script adds its own to what is returned.
    """
    made = argparse.ArgumentParser(description=(doc or "").split("\n", maxsplit=1)[0])
    for name in (*_EVERYWHERE, *also):
        made.add_argument(f"--{name}", **_OPTIONS[name])
    made.set_defaults(**{name: "" if name == "again" else False for name in ("again", "goals")})
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, and what a run keeps beside them.

    Returns:
        With `started` (on the monotonic clock), `finished` (names of cases that earlier processes
        of this run have measured) and `lost` (those that they could not, and why).
    """
    options = made.parse_args(argv)
    if options.resume and options.output:
        made.error("give --output or --resume, not both; --resume also writes its file")
    for flag in ("goals", "again"):
        if getattr(options, flag) and not options.resume:
            made.error(f"--{flag} goes over a file: give it with --resume")
    options.started, options.finished, options.lost = time.monotonic(), set(), {}
    return options


def environment(
    options: argparse.Namespace, memory: str = "0.95", preallocate: str = "false"
) -> None:
    """Sets what JAX reads; before it is imported.

    Args:
        options: of the run.
        memory: most of a GPU's that JAX may take, as a share.
        preallocate: "true" to take it at once; else a peer's process, which comes first, can have
            all of it.
    """
    if options.platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", preallocate)
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", memory)


def names(text: str) -> set[str]:
    """Of a list with commas."""
    return set(filter(None, text.split(",")))


def platform(options: argparse.Namespace, name: str) -> str:
    """ "cuda" or "cpu", by JAX's default backend; ends the process where that is not asked for."""
    import jax

    found = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if options.platform == "cuda" and found != "cuda":
        sys.exit(f"{name}: --platform cuda, but JAX's backend is {jax.default_backend()}")
    return found
